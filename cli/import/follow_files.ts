import { open, type FileHandle } from 'node:fs/promises';
import { statSync, type Stats } from 'node:fs';
import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { pause, systemTimers } from '../../runtime/timers.ts';
import { LineCutter } from '../analyze/read_pieces.ts';
import { findFiles } from './find_files.ts';
import type { ImportState } from './import_state.ts';
import { identifyOpen, isDocument } from './open_file.ts';
import { withoutSent, type ImportRun } from './run_import.ts';
import type { LineSender } from './send_lines.ts';

/** Pause between two looks at the files, ms. */
const LOOK_INTERVAL_MS = 250;
/** A file that was renamed is read for so long: who writes it may take a while to open the new one, ms. */
export const ROTATED_GRACE_MS = 5_000;
const CHUNK_BYTES = 256 * 1024;

interface FollowDeps {
  readonly run: ImportRun;
  readonly state: ImportState;
  readonly source: SourceDefinition;
  readonly signal: AbortSignal;
  readonly onBytes: (count: number) => void;
}

/**
 * Reads files as they grow, like `tail -F`: files that appear, that are renamed (by inode, so a rotated file that still
 * matches is not read twice), that are truncated, and that are gone for a while. A line is sent once it is whole. Resolves
 * when `signal` aborts, behind the request that is under way.
 */
export async function followFiles(args: readonly string[], deps: FollowDeps): Promise<void> {
  const followed = new Map<string, FollowedFile>();
  try {
    while (!deps.signal.aborted) {
      const present = await look(args, followed, deps);
      for (const [key, file] of followed) {
        await file.readOn(present.has(key));
        if (file.isDone) {
          await file.close();
          followed.delete(key);
        }
      }
      await pause(systemTimers, LOOK_INTERVAL_MS, deps.signal);
    }
  } finally {
    for (const file of followed.values()) await file.close();
  }
}

/** Opens what is new; gives the identities of all that is there. */
async function look(
  args: readonly string[],
  followed: Map<string, FollowedFile>,
  deps: FollowDeps,
): Promise<ReadonlySet<string>> {
  const files = findFiles(args);
  const present = new Set<string>();
  for (const path of files) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    const key = keyOf(stat);
    present.add(key);
    if (followed.has(key)) continue;
    const isReplaced = [...followed.values()].some((f) => f.path === path);
    if (!isReplaced) await deps.run.readRotated(path, files);
    const file = await FollowedFile.open(path, deps);
    if (file !== undefined) followed.set(file.key, file);
  }
  return present;
}

function keyOf({ dev, ino }: Pick<Stats, 'dev' | 'ino'>): string {
  return `${dev}:${ino}`;
}

class FollowedFile {
  readonly path: string;
  readonly key: string;
  readonly #handle: FileHandle;
  readonly #deps: FollowDeps;
  #cutter: LineCutter;
  #sender: LineSender;
  #position = 0;
  /** Length of the last line, where it was sent before it was whole. */
  #sentOpen = 0;
  #goneSinceMs: number | undefined;
  #isDone = false;
  /** Read to its end already, and not growing: packed files, documents. */
  #isWhole = false;

  private constructor(path: string, key: string, handle: FileHandle, deps: FollowDeps) {
    this.path = path;
    this.key = key;
    this.#handle = handle;
    this.#deps = deps;
    this.#cutter = new LineCutter(path, { offset: 0, number: 0 });
    this.#sender = this.#newSender(undefined);
  }

  /** Undefined where the file is gone by now. */
  static async open(path: string, deps: FollowDeps): Promise<FollowedFile | undefined> {
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return undefined;
      throw new GrantscopeError('invalid_argument', `${path}: cannot be read (${code ?? ''})`);
    }
    const found = await identifyOpen(path, handle);
    const file = new FollowedFile(path, keyOf(found), handle, deps);
    file.#isWhole = found.isGzip || (await isDocument(handle, deps.source));
    if (file.#isWhole) await deps.run.readFile(path);
    else {
      deps.run.files.push(path);
      await file.#begin();
    }
    return file;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** Reads what has come since; `isPresent` says whether the file still has a name that is followed. */
  async readOn(isPresent: boolean): Promise<void> {
    if (isPresent) this.#goneSinceMs = undefined;
    else this.#goneSinceMs ??= performance.now();
    const isOver =
      this.#goneSinceMs !== undefined && performance.now() - this.#goneSinceMs > ROTATED_GRACE_MS;
    if (!this.#isWhole) {
      await this.#readToEnd();
      // Nobody will end its last line any more.
      if (isOver) await this.#sender.add(this.#cutter.end());
      await this.#sender.flush();
    }
    this.#isDone = isOver;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #readToEnd(): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size < this.#position) await this.#begin();
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    while (!this.#deps.signal.aborted) {
      const { bytesRead } = await this.#handle.read(buffer, 0, CHUNK_BYTES, this.#position);
      if (bytesRead === 0) return;
      this.#position += bytesRead;
      this.#deps.onBytes(bytesRead);
      // The lines keep their bytes until they are sent.
      const lines = this.#cutter.push(Buffer.from(buffer.subarray(0, bytesRead)));
      if (lines.length === 0) continue;
      await this.#sender.add(this.#sentOpen > 0 ? withoutSent(lines, this.#sentOpen) : lines);
      this.#sentOpen = 0;
    }
  }

  /** From where it was left; from its begin where it is new, or was truncated. */
  async #begin(): Promise<void> {
    const found = await identifyOpen(this.path, this.#handle);
    const track = this.#deps.state.of(found, found.size);
    this.#position = track.position.offset;
    this.#sentOpen = track.openLength;
    this.#cutter = new LineCutter(this.path, track.position);
    this.#sender = this.#newSender(track);
  }

  #newSender(track: ReturnType<ImportState['of']> | undefined): LineSender {
    const nowhere = { keyAt: String, intend: () => undefined, reached: () => undefined };
    const from = track?.position ?? { unit: 'bytes', offset: 0, number: 0 };
    return this.#deps.run.sender(this.path, track ?? nowhere, from, track?.pendingEnd);
  }
}
