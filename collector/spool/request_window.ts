import { join } from 'node:path';
import type { Clock } from '../../runtime/clock.ts';
import { writeAll, type Disk, type DiskFile } from './disk.ts';
import { IdSet } from './id_set.ts';

/**
 * Recognises a request that was sent again because its answer got lost. Two honest requests have equal content
 * only if every event in them is equal to the nanosecond, so the window can be generous. A request is known
 *
 *   - while it is on its way to the disk (`begin` ... `commit` or `fail`),
 *   - while its segment waits for the store: never forgotten, because a start compares segments by it,
 *   - for `windowMs` after its segment was stored, in a log of 16 bytes a request, over restarts.
 *
 * The log is cut into slices; the oldest goes when a new one begins. A slice ends with its share of the
 * window or of `REQUESTS_MAX`, whichever is first. Only time that passes ends slices, so that a clock which
 * jumps ahead costs one slice and not the window.
 */
export class RequestWindow {
  readonly #options: RequestWindowOptions;
  readonly #pending = new Map<string, Promise<void>>();
  readonly #waiting = new Set<string>();
  readonly #slices: Slice[] = [];
  /** Stored, and not yet in the log's file. */
  #unwritten: string[] = [];
  #file: DiskFile | undefined;
  readonly #key = new Uint32Array(4);

  constructor(options: RequestWindowOptions) {
    this.#options = options;
  }

  /** Reads the log. Throws where the disk cannot be read. */
  async load(): Promise<void> {
    const { disk, folder } = this.#options;
    await disk.makeFolder(folder);
    await disk.syncFolder(folder);
    for (const name of (await disk.list(folder)).filter((f) => f.endsWith('.requests'))) {
      const bytes = await disk.read(join(folder, name));
      const slice = newSlice(name, this.#options.clock.nowMs());
      if (bytes.length >= HEAD_BYTES && bytes.readUInt32LE(0) === MAGIC) {
        slice.startMs = Number(bytes.readBigUInt64LE(8));
        for (let at = HEAD_BYTES; at + HASH_BYTES <= bytes.length; at += HASH_BYTES)
          slice.hashes.add(wordsOf(bytes.toString('hex', at, at + HASH_BYTES), this.#key));
        slice.bytes = bytes.length - ((bytes.length - HEAD_BYTES) % HASH_BYTES);
      }
      this.#slices.push(slice);
    }
  }

  /** The fate of an equal request: settles as that one settles. Undefined where none is known. */
  find(hash: string): Promise<void> | undefined {
    const pending = this.#pending.get(hash);
    if (pending !== undefined) return pending;
    return this.#waiting.has(hash) || this.isStored(hash) ? DURABLE : undefined;
  }

  /** True for a request of a segment that was stored. */
  isStored(hash: string): boolean {
    const words = wordsOf(hash, this.#key);
    return this.#slices.some((s) => s.hashes.has(words));
  }

  begin(hash: string, durable: Promise<void>): void {
    this.#pending.set(hash, durable);
    // Whoever waits for it handles the failure.
    durable.catch(() => undefined);
  }

  /** It is durable, and its segment waits for the store. */
  commit(hash: string): void {
    this.#pending.delete(hash);
    this.#waiting.add(hash);
  }

  fail(hash: string): void {
    this.#pending.delete(hash);
  }

  /** The segment of these requests is stored. Resolves to true once the log has them; false where the disk refused for now. */
  async stored(hashes: readonly string[]): Promise<boolean> {
    this.#unwritten.push(...hashes);
    const slice = this.#currentSlice();
    for (const hash of hashes) {
      this.#waiting.delete(hash);
      slice.hashes.add(wordsOf(hash, this.#key));
    }
    try {
      await this.#write(slice);
      return true;
    } catch (error) {
      await this.#closeFile();
      this.#options.onWriteFailure(error);
      return false;
    }
  }

  async close(): Promise<void> {
    await this.#closeFile();
  }

  async #write(slice: Slice): Promise<void> {
    const { disk, folder } = this.#options;
    const path = join(folder, slice.name);
    const written = this.#unwritten.length;
    if (this.#file === undefined) {
      const isNew = (await disk.size(path)) === undefined;
      this.#file = await disk.open(path, isNew ? 'create' : 'edit');
    }
    if (!slice.isNamed) {
      await disk.syncFolder(folder);
      slice.isNamed = true;
    }
    const head = slice.bytes === 0 ? encodeHead(slice.startMs) : Buffer.alloc(0);
    const bytes = Buffer.concat([head, Buffer.from(this.#unwritten.join(''), 'hex')]);
    await writeAll(this.#file, bytes, slice.bytes);
    await this.#file.datasync();
    slice.bytes += bytes.length;
    this.#unwritten = this.#unwritten.slice(written);
    await this.#forgetOldest();
  }

  /** The slice that takes new hashes; begins a new one where the last has had its share. */
  #currentSlice(): Slice {
    const { clock, windowMs, requestsMax } = this.#options;
    const now = clock.nowMs();
    const last = this.#slices.at(-1);
    const isOver =
      last === undefined ||
      last.hashes.size >= requestsMax / SLICES ||
      now - last.startMs >= windowMs / SLICES;
    if (!isOver) {
      // A clock that was set back must not stretch a slice.
      if (now < last.startMs) last.startMs = now;
      return last;
    }
    const number = last === undefined ? 1 : Number.parseInt(last.name, 10) + 1;
    const slice = newSlice(`${String(number).padStart(10, '0')}.requests`, now);
    this.#slices.push(slice);
    const previous = this.#file;
    this.#file = undefined;
    void previous?.close().catch(() => undefined);
    return slice;
  }

  /** One more than the share, so that the window is whole although the newest slice has only begun. */
  async #forgetOldest(): Promise<void> {
    while (this.#slices.length > SLICES + 1) {
      const oldest = this.#slices[0];
      if (oldest === undefined) return;
      const ageMs = this.#options.clock.nowMs() - oldest.startMs;
      if (ageMs < this.#options.windowMs) this.#options.onForgottenEarly(oldest.hashes.size);
      this.#slices.shift();
      await this.#options.disk.remove(join(this.#options.folder, oldest.name));
    }
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => undefined);
  }
}

export interface RequestWindowOptions {
  readonly disk: Disk;
  readonly folder: string;
  readonly clock: Clock;
  /** How long a stored request is recognised. */
  readonly windowMs: number;
  /** At most this many are remembered; about 24 bytes of memory each. */
  readonly requestsMax: number;
  readonly onWriteFailure: (error: unknown) => void;
  /** The number of requests was reached before the window was over. */
  readonly onForgottenEarly: (requests: number) => void;
}

interface Slice {
  readonly name: string;
  readonly hashes: IdSet;
  startMs: number;
  /** Length of its file. */
  bytes: number;
  /** The file's name is durable. */
  isNamed: boolean;
}

const SLICES = 8;
const MAGIC = 0x52_53_47_31; // '1GSR'
const HEAD_BYTES = 16;
const HASH_BYTES = 16;
const DURABLE = Promise.resolve();

function newSlice(name: string, startMs: number): Slice {
  return { name, hashes: new IdSet(), startMs, bytes: 0, isNamed: false };
}

function encodeHead(startMs: number): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(MAGIC, 0);
  head.writeUInt32LE(1, 4);
  head.writeBigUInt64LE(BigInt(Math.max(0, Math.trunc(startMs))), 8);
  return head;
}

/** The four words of 32 hex digits, in `into`. */
function wordsOf(hash: string, into: Uint32Array): Uint32Array {
  for (let i = 0; i < 4; i += 1) into[i] = Number.parseInt(hash.slice(i * 8, i * 8 + 8), 16);
  return into;
}
