import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../../runtime/clock.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { addNextKey, openKeyRing, readKeyFile, removeKey } from '../../runtime/keyring_file.ts';
import { followKeys, KEY_POLL_MS, watchKeys } from '../../runtime/keyring_watch.ts';
import { keyIdOf, KeyRing } from '../../runtime/keyring.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { TEST_KEY, temporaryFolder } from '../harness.ts';

const folders: { remove: () => void }[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) folder.remove();
});

const NOW = Date.UTC(2026, 0, 5, 12);
const HOUR = 3_600_000;

/** A folder with a key file as the first version of Grantscope wrote it: one key, no `active_from`. */
function oldKeyFile(): { folder: string; keyFile: string } {
  const folder = temporaryFolder();
  folders.push(folder);
  const keyFile = join(folder.path, 'keys.json');
  writeFileSync(
    keyFile,
    JSON.stringify({
      keys: [{ id: 'first', key: TEST_KEY, created_at: '2026-01-01T00:00:00.000Z' }],
    }),
    { mode: 0o600 },
  );
  return { folder: folder.path, keyFile };
}

function codeOf(action: () => void): string {
  try {
    action();
  } catch (error) {
    return error instanceof GrantscopeError ? `${error.code}: ${error.message}` : 'another error';
  }
  return 'no error';
}

describe('openKeyRing', () => {
  it('makes a key once, for its owner alone, and finds it again', () => {
    const { folder } = oldKeyFile();
    const keyFile = join(folder, 'new', 'keys.json');
    const first = openKeyRing({ hashKey: undefined, keyFile });
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    const again = openKeyRing({ hashKey: undefined, keyFile });
    expect(again.ref('token', 'abc')).toBe(first.ref('token', 'abc'));
    expect(readdirSync(join(folder, 'new'))).toEqual(['keys.json']);
  });

  it('prefers the configured key and writes no file', () => {
    const { folder } = oldKeyFile();
    const keyFile = join(folder, 'none.json');
    expect(openKeyRing({ hashKey: TEST_KEY, keyFile }).ref('token', 'a')).toBe(
      KeyRing.fromKey(TEST_KEY).ref('token', 'a'),
    );
    expect(existsSync(keyFile)).toBe(false);
  });

  it('refuses to make a new key where data waits for the old one', () => {
    const { folder } = oldKeyFile();
    mkdirSync(join(folder, 'data', 'clickhouse'), { recursive: true });
    const keyFile = join(folder, 'data', 'keys.json');
    expect(() => openKeyRing({ hashKey: undefined, keyFile })).toThrow(
      /keys\.json is missing, but there is data .* restore the file/,
    );
  });

  it('refuses a file that is none, without printing it', () => {
    const { keyFile } = oldKeyFile();
    writeFileSync(keyFile, '{"keys":[{"id":"x","key":"hush-hush"}]}');
    expect(() => openKeyRing({ hashKey: undefined, keyFile })).toThrow(/not a key file/);
    expect(() => openKeyRing({ hashKey: undefined, keyFile })).not.toThrow(/hush/);
  });

  it('takes next and previous keys of the environment, and refuses one that is given twice', () => {
    const [previous, next] = ['p'.repeat(32), 'n'.repeat(32)];
    const origin = {
      hashKey: TEST_KEY,
      nextHashKey: { key: next, activeFromMs: NOW },
      previousHashKeys: [previous],
      keyFile: '/nowhere/keys.json',
    };
    const before = openKeyRing(origin, NOW - 1);
    expect(before.currentId).toBe(keyIdOf(TEST_KEY));
    expect(before.next?.currentId).toBe(keyIdOf(next));
    const after = openKeyRing(origin, NOW);
    expect(after.keys.map((k) => [k.id, k.state])).toEqual([
      [keyIdOf(next), 'current'],
      [keyIdOf(TEST_KEY), 'resolving'],
      [keyIdOf(previous), 'resolving'],
    ]);
    expect(() => openKeyRing({ ...origin, previousHashKeys: [next] }, NOW)).toThrow(
      'must all differ',
    );
  });
});

describe('addNextKey', () => {
  it('reads a file of the first version, and keeps its key the current one until the time has come', () => {
    const { folder, keyFile } = oldKeyFile();
    const { id } = addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    expect(readdirSync(folder)).toEqual(['keys.json']);
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    const ring = new KeyRing(readKeyFile(keyFile), NOW);
    expect(ring.ref('token', 'abc')).toBe(KeyRing.fromKey(TEST_KEY).ref('token', 'abc'));
    expect(ring.keys).toEqual([
      { id, state: 'next', createdAtMs: NOW, activeFromMs: NOW + HOUR, activeUntilMs: undefined },
      {
        id: 'first',
        state: 'current',
        createdAtMs: Date.UTC(2026, 0, 1),
        activeFromMs: undefined,
        activeUntilMs: NOW + HOUR,
      },
    ]);
    const next = ring.next?.ref('token', 'abc') ?? '';
    expect(ring.advance(NOW + HOUR - 1)).toBe(false);
    expect(ring.advance(NOW + HOUR)).toBe(true);
    expect(ring.currentId).toBe(id);
    expect(ring.ref('token', 'abc')).toBe(next);
    expect(ring.next).toBeUndefined();
  });

  it('refuses a second rotation while one is in progress, and takes it after', () => {
    const { keyFile } = oldKeyFile();
    const { id } = addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    const again = (nowMs: number) => () =>
      addNextKey(keyFile, { nowMs, activeFromMs: nowMs + HOUR });
    expect(codeOf(again(NOW + HOUR - 1))).toBe(
      `invalid_argument: a rotation is in progress: key ${id} takes over at 2026-01-05T13:00:00.000Z; wait until then, or cancel it by keys retire ${id}`,
    );
    expect(codeOf(again(NOW + HOUR))).toBe('no error');
    expect(new KeyRing(readKeyFile(keyFile), NOW + HOUR).keys.map((k) => k.state)).toEqual([
      'next',
      'current',
      'resolving',
    ]);
  });

  it('goes past the lock and the unfinished version that a killed process left, and deletes them', () => {
    const { folder, keyFile } = oldKeyFile();
    const DEAD_PID = 4_194_304 + 7;
    writeFileSync(`${keyFile}.lock`, `${DEAD_PID} 00`);
    writeFileSync(`${keyFile}.${DEAD_PID}.0011aabb.tmp`, 'half a ke');
    addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    expect(readdirSync(folder)).toEqual(['keys.json']);
    expect(readKeyFile(keyFile)).toHaveLength(2);
  });

  it('leaves the file alone while a living process changes it, unless its lock is a minute old', () => {
    const { folder, keyFile } = oldKeyFile();
    const lock = `${keyFile}.lock`;
    writeFileSync(lock, `${process.pid} 00`);
    const rotate = () => addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    expect(codeOf(rotate)).toMatch(/^invalid_argument: the key file is being changed/);
    expect(readKeyFile(keyFile)).toHaveLength(1);
    const aMinuteAgo = Date.now() / 1_000 - 61;
    utimesSync(lock, aMinuteAgo, aMinuteAgo);
    expect(codeOf(rotate)).toBe('no error');
    expect(readdirSync(folder)).toEqual(['keys.json']);
  });
});

describe('removeKey', () => {
  it('takes out one key and no other, asks first, and names what it knows', () => {
    const { keyFile } = oldKeyFile();
    const { id } = addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    const refuse = () => {
      throw new GrantscopeError('invalid_argument', 'needed');
    };
    expect(codeOf(() => removeKey(keyFile, id, NOW, refuse))).toBe('invalid_argument: needed');
    expect(codeOf(() => removeKey(keyFile, 'nope', NOW, refuse))).toBe(
      `not_found: no key nope in ${keyFile}; known: ${id}, first`,
    );
    expect(readKeyFile(keyFile)).toHaveLength(2);
    const asked: unknown[] = [];
    removeKey(keyFile, id, NOW, (key) => asked.push(key.state));
    expect(asked).toEqual(['next']);
    expect(readKeyFile(keyFile).map((k) => k.id)).toEqual(['first']);
  });
});

describe('followKeys', () => {
  it('takes a changed file, lets the next key take over in time, and tells each once', () => {
    const { keyFile } = oldKeyFile();
    const clock = new ManualClock(NOW);
    const keyRing = openKeyRing({ hashKey: undefined, keyFile }, NOW);
    let changes = 0;
    const follower = followKeys({ keyRing, keyFile, clock, onChange: () => (changes += 1) });
    follower.look();
    expect(changes).toBe(0);
    const { id } = addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    follower.look();
    follower.look();
    expect([changes, keyRing.currentId, keyRing.next?.currentId]).toEqual([1, 'first', id]);
    clock.advance(HOUR);
    follower.look();
    follower.look();
    expect([changes, keyRing.currentId, keyRing.next]).toEqual([2, id, undefined]);
  });

  it('keeps its keys when the file is broken, gone or lacks the current one, and recovers', () => {
    const { keyFile } = oldKeyFile();
    const clock = new ManualClock(NOW);
    const keyRing = openKeyRing({ hashKey: undefined, keyFile }, NOW);
    const good = readFileSync(keyFile);
    const failures: string[] = [];
    const follower = followKeys({
      keyRing,
      keyFile,
      clock,
      onFailure: (error) => failures.push(error instanceof Error ? error.message : ''),
    });
    follower.look();
    writeFileSync(keyFile, '{"keys":');
    follower.look();
    follower.look();
    expect(failures).toHaveLength(1);
    const other = { id: 'other', key: 'o'.repeat(32), created_at: '2026-01-01T00:00:00.000Z' };
    writeFileSync(keyFile, JSON.stringify({ keys: [other] }));
    follower.look();
    expect(failures.at(-1)).toContain('key first, which makes the references now, is not among');
    expect(failures.join()).not.toContain('ooo');
    expect(keyRing.currentId).toBe('first');
    writeFileSync(keyFile, good);
    addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    follower.look();
    expect(keyRing.keys.map((k) => k.state)).toEqual(['next', 'current']);
    expect(failures).toHaveLength(2);
  });
});

describe('watchKeys', () => {
  it('measures the age of the current key and the time until the next takes over', async () => {
    const { keyFile } = oldKeyFile();
    addNextKey(keyFile, { nowMs: NOW, activeFromMs: NOW + HOUR });
    const clock = new ManualClock(NOW);
    const metrics = new Metrics({ processMetrics: false });
    const keyRing = openKeyRing({ hashKey: undefined, keyFile }, NOW);
    const log = createLog({ level: 'silent' });
    const watch = watchKeys({ keyRing, keyFile, clock, log, metrics });
    const lines = async () =>
      (await metrics.registry.metrics())
        .split('\n')
        .filter((l) => l.startsWith('grantscope_hash_key'));
    const nextId = keyRing.next?.currentId ?? '';
    expect(await lines()).toEqual([
      `grantscope_hash_key_age_seconds{key_id="first"} ${4.5 * 86_400}`,
      `grantscope_hash_key_takeover_seconds{key_id="${nextId}"} 3600`,
      'grantscope_hash_key_next_missing_total 0',
      'grantscope_hash_key_file_failures_total 0',
    ]);
    keyRing.countIncomplete();
    keyRing.countIncomplete();
    clock.advance(HOUR + 5_000);
    await expect.poll(() => keyRing.currentId, { timeout: 5 * KEY_POLL_MS }).toBe(nextId);
    expect(await lines()).toEqual([
      `grantscope_hash_key_age_seconds{key_id="${nextId}"} 5`,
      'grantscope_hash_key_next_missing_total 2',
      'grantscope_hash_key_file_failures_total 0',
    ]);
    await watch.stop();
    await watch.stop();
  });
});
