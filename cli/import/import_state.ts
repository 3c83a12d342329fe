import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Position } from '../analyze/read_pieces.ts';

/** Bytes (unpacked) at the begin of a file that tell it from others with its inode, and from what it was. */
export const FINGERPRINT_BYTES = 1_024;
/** States of files that nobody has read for so long are removed. */
const FORGET_AFTER_MS = 90 * 86_400_000;

/** What a file begins with: the hash of its first `length` bytes, which stay as they are while it grows. */
export interface Fingerprint {
  readonly length: number;
  readonly sha256: string;
}

/** A file as it was found: where it lies, what it is. */
export interface FileIdentity {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
  /** Its first bytes, unpacked: at most `FINGERPRINT_BYTES`. */
  readonly begin: Buffer;
}

const StoredState = z.object({
  path: z.string(),
  dev: z.number(),
  ino: z.number(),
  fingerprint: z.object({ length: z.number().int().min(0), sha256: z.string() }),
  unit: z.enum(['bytes', 'members']),
  /** What lies before it is done with. */
  offset: z.number().int().min(0),
  number: z.number().int().min(0),
  /** A batch that was sent, and perhaps not answered, ended here: it is sent again exactly so. */
  pending_end: z.number().int().optional(),
  /** Length of the last line, where no line feed ended it and it was sent: it begins at `offset`. */
  open_length: z.number().int().min(0),
});
type StoredState = z.infer<typeof StoredState>;

/** How far one file has been read. Every change is on disk before the call returns. */
export class FileState {
  readonly #file: string;
  #state: StoredState;

  constructor(file: string, state: StoredState) {
    this.#file = file;
    this.#state = state;
  }

  get position(): Position {
    const { unit, offset, number } = this.#state;
    return { unit, offset, number };
  }

  get pendingEnd(): number | undefined {
    return this.#state.pending_end;
  }

  get openLength(): number {
    return this.#state.open_length;
  }

  /** Names what the file holds from `offset` on, whatever the file is called. */
  keyAt(offset: number): string {
    return `${this.#state.fingerprint.sha256.slice(0, 32)}:${offset}`;
  }

  /** A batch up to `end` is about to be sent. */
  intend(end: number): void {
    this.#save({ ...this.#state, pending_end: end });
  }

  /** Everything up to `position` is durable at the collector. */
  reached(position: Position, openLength: number): void {
    const { path, dev, ino, fingerprint } = this.#state;
    this.#save({ path, dev, ino, fingerprint, ...position, open_length: openLength });
  }

  #save(state: StoredState): void {
    this.#state = state;
    const fresh = `${this.#file}.new`;
    const handle = openSync(fresh, 'w', 0o600);
    writeSync(handle, JSON.stringify(state));
    fdatasyncSync(handle);
    closeSync(handle);
    renameSync(fresh, this.#file);
  }
}

/**
 * How far files have been read, for one source and one collector: one small file each in the data directory. It holds names,
 * numbers and hashes of the files, nothing of what stands in them.
 */
export class ImportState {
  readonly #folder: string;

  constructor(dataDir: string, source: string, target: string) {
    const name = createHash('sha256').update(target).digest('hex').slice(0, 12);
    this.#folder = join(dataDir, 'imports', `${source}-${name}`);
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    for (const file of readdirSync(this.#folder)) {
      const path = join(this.#folder, file);
      const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > FORGET_AFTER_MS) rmSync(path, { force: true });
    }
  }

  /**
   * The state of a file: its own; or that of a file with the same begin that is not there any more, as when a rotated file
   * was copied or packed; else a new one. A file that has shrunk, or begins otherwise, is a new one.
   */
  of(identity: FileIdentity, size: number | undefined): FileState {
    const { path, dev, ino } = identity;
    const own = join(this.#folder, `${dev}-${ino}.json`);
    const stored = readState(own);
    if (stored !== undefined && isSame(stored, identity, size))
      return new FileState(own, { ...stored, path });
    for (const state of this.#gone()) {
      if (!isSame(state, identity, size) || state.fingerprint.length < FINGERPRINT_BYTES) continue;
      return new FileState(own, { ...state, path, dev, ino });
    }
    const begin = identity.begin.subarray(0, FINGERPRINT_BYTES);
    const fingerprint = { length: begin.length, sha256: sha256(begin) };
    const fresh = { unit: 'bytes', offset: 0, number: 0, open_length: 0 } as const;
    return new FileState(own, { path, dev, ino, fingerprint, ...fresh });
  }

  /**
   * Where the file now lies that was read under `path` when it had another inode: beside it, after a rotation while
   * nobody read. Undefined where it still has that inode, or nothing was left of it.
   */
  rotatedAway(path: string): string | undefined {
    const now = statSync(path, { throwIfNoEntry: false });
    const before = this.#all().filter((s) => s.path === path && s.ino !== now?.ino);
    for (const state of before) {
      const found = siblingWith(path, state);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #all(): StoredState[] {
    return readdirSync(this.#folder)
      .filter((f) => f.endsWith('.json'))
      .flatMap((f) => readState(join(this.#folder, f)) ?? []);
  }

  #gone(): StoredState[] {
    return this.#all().filter((s) => siblingWith(s.path, s) === undefined);
  }
}

/** The file in the folder of `path` that has the device and inode of `state`. */
function siblingWith(path: string, state: StoredState): string | undefined {
  const folder = dirname(path);
  if (!existsSync(folder)) return undefined;
  return readdirSync(folder)
    .map((name) => join(folder, name))
    .find((file) => {
      const stat = statSync(file, { throwIfNoEntry: false });
      return stat?.ino === state.ino && stat.dev === state.dev;
    });
}

function isSame(state: StoredState, { begin }: FileIdentity, size: number | undefined): boolean {
  const { length, sha256: expected } = state.fingerprint;
  if (begin.length < length || sha256(begin.subarray(0, length)) !== expected) return false;
  // Of a packed file, the size says nothing about how far it goes.
  return size === undefined || state.unit === 'members' || size >= state.offset;
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function readState(file: string): StoredState | undefined {
  try {
    return StoredState.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return undefined;
  }
}
