import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { GrantscopeError } from './errors.ts';
import { HASH_KEY_LENGTH_MIN, keyIdOf, KeyRing, type HashKey, type KeyFacts } from './keyring.ts';

/**
 * The key file: `{"keys": [{id, key, created_at, active_from?}]}`, mode 0600. `active_from` came with key
 * rotation; a file without it is read as before, the first key being the current one.
 */
const KeyFile = z.strictObject({
  keys: z
    .array(
      z.strictObject({
        id: z.string().regex(/^[a-z0-9]{1,16}$/),
        key: z.string().min(HASH_KEY_LENGTH_MIN),
        created_at: z.string(),
        active_from: z.iso.datetime().optional(),
      }),
    )
    .min(1)
    .refine((keys) => new Set(keys.map((k) => k.id)).size === keys.length, 'ids must differ'),
});
type KeyFile = z.infer<typeof KeyFile>;

/** Bytes of a new key, from the operating system's random source. */
const KEY_BYTES = 32;

/**
 * The keys of a key file, in its order. Throws `config_invalid`, without a word of the content, for a file
 * that cannot be read or is none.
 */
export function readKeyFile(file: string): readonly HashKey[] {
  return parse(file).keys.map((k) => {
    const createdAtMs = Date.parse(k.created_at);
    return {
      id: k.id,
      key: k.key,
      createdAtMs: Number.isNaN(createdAtMs) ? undefined : createdAtMs,
      activeFromMs: k.active_from === undefined ? undefined : Date.parse(k.active_from),
    };
  });
}

function parse(file: string): KeyFile {
  const parsed = KeyFile.safeParse(readJson(file));
  if (parsed.success) return parsed.data;
  throw new GrantscopeError(
    'config_invalid',
    `${file}: not a key file of Grantscope; restore it from a backup, since a new key would not join with stored references`,
  );
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Where keys come from: variables of the environment, or else the key file. */
export interface KeyOrigin {
  readonly hashKey: string | undefined;
  /** Takes over from `hashKey` at its time. */
  readonly nextHashKey?: { readonly key: string; readonly activeFromMs: number } | undefined;
  /** Keys from before `hashKey`, latest first: they only resolve. */
  readonly previousHashKeys?: readonly string[] | undefined;
  readonly keyFile: string;
}

/**
 * The ring of this installation: from `GRANTSCOPE_HASH_KEY` and its kin, else from a key file made on first
 * start (mode 0600). Throws `config_invalid` when the file cannot be read, or is missing beside data.
 */
export function openKeyRing(origin: KeyOrigin, nowMs = Date.now()): KeyRing {
  if (origin.hashKey !== undefined) return new KeyRing(keysOfEnvironment(origin), nowMs);
  const { keyFile } = origin;
  if (!existsSync(keyFile)) {
    refuseWhereDataIs(keyFile);
    makeKeyFile(keyFile, nowMs);
  }
  return new KeyRing(readKeyFile(keyFile), nowMs);
}

/** The keys of the environment's variables. Throws `config_invalid` where one is given twice. */
export function keysOfEnvironment(origin: Omit<KeyOrigin, 'keyFile'>): readonly HashKey[] {
  const { nextHashKey: next, hashKey, previousHashKeys = [] } = origin;
  const keys: HashKey[] = [
    ...(next === undefined ? [] : [{ ...next, id: keyIdOf(next.key) }]),
    ...[...(hashKey === undefined ? [] : [hashKey]), ...previousHashKeys].map((key) => ({
      id: keyIdOf(key),
      key,
    })),
  ];
  if (new Set(keys.map((k) => k.key)).size === keys.length) return keys;
  throw new GrantscopeError(
    'config_invalid',
    'environment: GRANTSCOPE_HASH_KEY, GRANTSCOPE_HASH_KEY_NEXT and GRANTSCOPE_HASH_KEY_PREVIOUS must all differ',
    { stage: 'starting' },
  );
}

/** A new key beside old data would go unnoticed, and no replay of an old token would be found any more. */
function refuseWhereDataIs(keyFile: string): void {
  if (!existsSync(join(dirname(keyFile), 'clickhouse'))) return;
  throw new GrantscopeError(
    'config_invalid',
    `${keyFile} is missing, but there is data whose references were made with its key: restore the file from a backup, set GRANTSCOPE_HASH_KEY to the key that was used, or start with an empty GRANTSCOPE_DATA_DIR`,
  );
}

function newKey(nowMs: number): KeyFile['keys'][number] {
  const key = randomBytes(KEY_BYTES).toString('hex');
  return { id: keyIdOf(key), key, created_at: new Date(nowMs).toISOString() };
}

/** The first key. Of processes that start at once, one makes the file and the others take it. */
function makeKeyFile(file: string, nowMs: number): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const written = writeBeside(file, { keys: [newKey(nowMs)] });
  try {
    linkSync(written, file);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  } finally {
    rmSync(written, { force: true });
  }
  syncFolder(file);
}

/** Writes a whole new version under a name of its own, for this user alone, and makes it durable. */
function writeBeside(file: string, content: KeyFile): string {
  const path = `${file}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
  const handle = openSync(path, 'wx', 0o600);
  try {
    writeSync(handle, `${JSON.stringify(content, null, 2)}\n`);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  chmodSync(path, 0o600);
  return path;
}

/** A rename is durable when its folder is. */
function syncFolder(file: string): void {
  const folder = openSync(dirname(file), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/**
 * Adds a key that takes over at `activeFromMs`. Throws `invalid_argument` while an earlier one still waits,
 * and where another process changes the file at this moment.
 */
export function addNextKey(
  file: string,
  times: { readonly nowMs: number; readonly activeFromMs: number },
): { readonly id: string } {
  const key = newKey(times.nowMs);
  changeKeyFile(file, (before) => {
    const waiting = before.keys.find((k) => startOf(k) > times.nowMs);
    if (waiting !== undefined) {
      throw new GrantscopeError(
        'invalid_argument',
        `a rotation is in progress: key ${waiting.id} takes over at ${waiting.active_from ?? ''}; wait until then, or cancel it by keys retire ${waiting.id}`,
      );
    }
    const active_from = new Date(times.activeFromMs).toISOString();
    return { keys: [{ ...key, active_from }, ...before.keys] };
  });
  return { id: key.id };
}

/**
 * Takes a key out of the file, for ever. The current key stays, and so does one that data may still be named
 * by: `mayGo` throws where it must not go. Throws `not_found` for an unknown id.
 */
export function removeKey(
  file: string,
  id: string,
  nowMs: number,
  mayGo: (key: KeyFacts) => void,
): void {
  changeKeyFile(file, (before) => {
    const facts = new KeyRing(readKeyFile(file), nowMs).keys;
    const key = facts.find((k) => k.id === id);
    if (key === undefined) {
      throw new GrantscopeError(
        'not_found',
        `no key ${id} in ${file}; known: ${facts.map((k) => k.id).join(', ')}`,
      );
    }
    mayGo(key);
    return { keys: before.keys.filter((k) => k.id !== id) };
  });
}

function startOf(key: KeyFile['keys'][number]): number {
  return key.active_from === undefined ? Number.NEGATIVE_INFINITY : Date.parse(key.active_from);
}

/**
 * Replaces the file as a whole: a new version beside it, made durable, then renamed over it, so that a
 * reader and a crash see the old version or the new one. A lock file keeps a second writer out.
 */
function changeKeyFile(file: string, change: (before: KeyFile) => KeyFile): void {
  if (!existsSync(file)) {
    throw new GrantscopeError(
      'not_found',
      `no key file at ${file}: start the server once, which makes it, or set GRANTSCOPE_DATA_DIR`,
    );
  }
  const lock = takeLock(`${file}.lock`);
  try {
    removeLeftovers(file);
    const written = writeBeside(file, KeyFile.parse(change(parse(file))));
    try {
      lock.check();
      renameSync(written, file);
    } finally {
      rmSync(written, { force: true });
    }
    syncFolder(file);
  } finally {
    lock.release();
  }
}

/** Versions that a process which was killed left unfinished: they hold keys. */
function removeLeftovers(file: string): void {
  const prefix = `${basename(file)}.`;
  for (const name of readdirSync(dirname(file))) {
    const isLeftover =
      name.startsWith(prefix) && /^\d+\.[0-9a-f]{8}\.tmp$/.test(name.slice(prefix.length));
    if (isLeftover) rmSync(join(dirname(file), name), { force: true });
  }
}

interface Lock {
  /** Throws where another process has taken the lock for abandoned. */
  check(): void;
  release(): void;
}

function takeLock(path: string): Lock {
  const own = `${process.pid} ${randomBytes(8).toString('hex')}`;
  const busy = (): GrantscopeError =>
    new GrantscopeError(
      'invalid_argument',
      `the key file is being changed by another process (${path}); try again in a moment`,
      { retriable: true },
    );
  if (isHeld(path)) throw busy();
  rmSync(path, { force: true });
  // A link appears with its content: nobody reads a lock without an owner.
  const written = `${path}.${own.replace(' ', '.')}`;
  writeFileSync(written, own, { flag: 'wx', mode: 0o600 });
  try {
    linkSync(written, path);
  } catch (error) {
    if (hasCode(error, 'EEXIST')) throw busy();
    throw error;
  } finally {
    rmSync(written, { force: true });
  }
  return {
    check: () => {
      if (readLock(path) !== own) throw busy();
    },
    release: () => {
      if (readLock(path) === own) rmSync(path, { force: true });
    },
  };
}

/** A change takes milliseconds: a lock that is older than this was left by a process that was killed, ms. */
const LOCK_AGE_MS_MAX = 60_000;

function isHeld(path: string): boolean {
  const holder = readLock(path);
  if (holder === undefined || !isAlive(Number.parseInt(holder, 10))) return false;
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && Date.now() - stat.mtimeMs < LOCK_AGE_MS_MAX;
}

function readLock(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
