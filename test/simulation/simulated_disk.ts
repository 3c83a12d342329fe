import { dirname, basename, join } from 'node:path';
import type { Disk, DiskFile } from '../../collector/spool/disk.ts';
import type { Random } from './random.ts';
import type { SimulatedTime } from './simulated_time.ts';

// A disk with a page cache. What is written is seen at once and safe after an fsync; a loss of power keeps,
// loses, tears or zeroes each unsynced write by itself, and cuts the unsynced changes of a folder anywhere.
// After a failed fsync its writes are neither safe nor written again by the next one, as on Linux.

type Change =
  | { readonly kind: 'write'; readonly position: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly length: number };

interface Recorded {
  readonly change: Change;
  /** `orphan`: an fsync of it failed; no later one makes it safe. */
  state: 'pending' | 'durable' | 'orphan';
}

class Inode {
  content: Buffer = Buffer.alloc(0);
  #history: Recorded[] = [];
  #base: Buffer = Buffer.alloc(0);

  change(change: Change): void {
    this.content = applied(this.content, change);
    this.#history.push({ change, state: 'pending' });
  }

  synced(): void {
    for (const r of this.#history) if (r.state === 'pending') r.state = 'durable';
    while (this.#history[0]?.state === 'durable')
      this.#base = applied(this.#base, this.#history.shift()!.change);
  }

  syncFailed(): void {
    for (const r of this.#history) if (r.state === 'pending') r.state = 'orphan';
  }

  powerLost(random: Random): void {
    let content = this.#base;
    for (const { change, state } of this.#history) {
      if (state === 'durable') content = applied(content, change);
      else content = maybeApplied(content, change, random);
    }
    this.#base = content;
    this.content = content;
    this.#history = [];
  }

  /** A bit that the medium got wrong. */
  flip(position: number, bit: number): void {
    for (const bytes of [this.content, this.#base]) {
      if (position < bytes.length) bytes[position] = bytes[position]! ^ (1 << bit);
    }
  }
}

function applied(content: Buffer, change: Change): Buffer {
  if (change.kind === 'truncate') {
    const cut = Buffer.alloc(change.length);
    content.copy(cut, 0, 0, Math.min(content.length, change.length));
    return cut;
  }
  const end = change.position + change.bytes.length;
  const grown = Buffer.alloc(Math.max(content.length, end));
  content.copy(grown);
  change.bytes.copy(grown, change.position);
  return grown;
}

function maybeApplied(content: Buffer, change: Change, random: Random): Buffer {
  const fate = random.pick(['kept', 'lost', 'torn', 'zeroed'] as const);
  if (fate === 'lost') return content;
  if (fate === 'kept' || change.kind === 'truncate') return applied(content, change);
  const length = random.int(0, change.bytes.length);
  const bytes =
    fate === 'torn' ? change.bytes.subarray(0, length) : Buffer.alloc(change.bytes.length);
  return applied(content, { ...change, bytes: Buffer.from(bytes) });
}

type Entries = Map<string, Inode>;

class Folder {
  entries: Entries = new Map();
  #durable: Entries = new Map();
  #changes: ((entries: Entries) => void)[] = [];

  change(change: (entries: Entries) => void): void {
    change(this.entries);
    this.#changes.push(change);
  }

  synced(): void {
    for (const change of this.#changes) change(this.#durable);
    this.#changes = [];
  }

  powerLost(random: Random): void {
    const kept = random.int(0, this.#changes.length);
    for (const change of this.#changes.slice(0, kept)) change(this.#durable);
    this.#changes = [];
    this.entries = new Map(this.#durable);
  }
}

export interface DiskFaults {
  /** No room: writes end short and fail, new files mostly fail. */
  full: boolean;
  /** Probability that an fsync or a write fails with EIO. */
  eio: number;
}

/** Ways in which a disk or its user is wrong, to see that the oracle notices. */
export interface DiskBugs {
  readonly fsyncLies?: boolean;
  readonly folderSyncLies?: boolean;
  readonly fsyncFailureHidden?: boolean;
  readonly shortWriteHidden?: boolean;
  readonly truncateIgnored?: boolean;
  readonly startMissesJournals?: boolean;
}

interface Flight {
  readonly land: () => void;
}

export class SimulatedDisk {
  readonly faults: DiskFaults = { full: false, eio: 0 };
  readonly #time: SimulatedTime;
  readonly #random: Random;
  readonly #bugs: DiskBugs;
  readonly #folders = new Map<string, Folder>();
  readonly #flights = new Map<object, Set<Flight>>();

  constructor(time: SimulatedTime, random: Random, bugs: DiskBugs) {
    this.#time = time;
    this.#random = random;
    this.#bugs = bugs;
  }

  /** The content that processes see, also the store's. Undefined where there is no such file. */
  contentOf(path: string): Buffer | undefined {
    return this.#folder(dirname(path)).entries.get(basename(path))?.content;
  }

  names(folder: string): readonly string[] {
    return [...this.#folder(folder).entries.keys()].sort();
  }

  /** A process ends: each call that it waits for has happened or has not. */
  killed(process: object): void {
    for (const flight of this.#flights.get(process) ?? [])
      if (this.#random.chance(0.5)) flight.land();
    this.#flights.delete(process);
  }

  powerLost(): void {
    for (const folder of this.#folders.values()) {
      const inodes = new Set(folder.entries.values());
      folder.powerLost(this.#random);
      for (const inode of folder.entries.values()) inodes.add(inode);
      for (const inode of inodes) inode.powerLost(this.#random);
    }
  }

  /** Flips a bit of some acknowledged byte; false where there is none. */
  flipSomeBit(folder: string): boolean {
    const candidates = this.names(folder).filter((name) => {
      const content = this.contentOf(join(folder, name))!;
      if (content.length === 0) return false;
      return name.endsWith('.native') || (name.endsWith('.journal') && !content.includes('GSJN'));
    });
    if (candidates.length === 0) return false;
    const inode = this.#folder(folder).entries.get(this.#random.pick(candidates))!;
    inode.flip(this.#random.int(0, inode.content.length - 1), this.#random.int(0, 7));
    return true;
  }

  /** The disk as one process uses it. Its calls never settle once it is dead. */
  of(process: { readonly isAlive: boolean }): Disk {
    const call = <T>(work: () => T): Promise<T> => this.#call(process, work);
    return {
      open: (path, how) => call(() => this.#open(process, path, how)),
      read: (path) => call(() => Buffer.from(this.#inode(path).content)),
      list: (folder) =>
        call(() =>
          this.names(folder).filter(
            (n) => !(this.#bugs.startMissesJournals === true && n.endsWith('.journal')),
          ),
        ),
      size: (path) => call(() => this.contentOf(path)?.length),
      rename: (from, to) =>
        call(() => {
          if (this.faults.full && this.#random.chance(0.1)) throw failure('ENOSPC');
          const inode = this.#inode(from);
          if (dirname(from) === dirname(to)) {
            this.#folder(dirname(from)).change((entries) => {
              entries.delete(basename(from));
              entries.set(basename(to), inode);
            });
            return;
          }
          this.#folder(dirname(to)).change((entries) => entries.set(basename(to), inode));
          this.#folder(dirname(from)).change((entries) => entries.delete(basename(from)));
        }),
      remove: (path) =>
        call(() => this.#folder(dirname(path)).change((entries) => entries.delete(basename(path)))),
      makeFolder: (path) => call(() => void this.#folder(path)),
      syncFolder: (path) =>
        call(() => {
          if (this.#random.chance(this.faults.eio)) throw failure('EIO');
          if (this.#bugs.folderSyncLies !== true) this.#folder(path).synced();
        }),
    };
  }

  #call<T>(process: { readonly isAlive: boolean }, work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const flights = this.#flights.get(process) ?? new Set();
      this.#flights.set(process, flights);
      const flight: Flight = {
        land: () => {
          try {
            const value = work();
            if (process.isAlive) resolve(value);
          } catch (error) {
            if (process.isAlive) reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      };
      flights.add(flight);
      this.#time.after(this.#random.next() * 3, () => {
        if (!flights.delete(flight) || !process.isAlive) return;
        flight.land();
      });
    });
  }

  #open(process: { readonly isAlive: boolean }, path: string, how: string): DiskFile {
    const folder = this.#folder(dirname(path));
    const name = basename(path);
    const existing = folder.entries.get(name);
    if (how === 'create' && existing !== undefined) throw failure('EEXIST');
    if (how === 'edit' && existing === undefined) throw failure('ENOENT');
    if (existing === undefined && this.faults.full && this.#random.chance(0.4))
      throw failure('ENOSPC');
    let inode = existing;
    if (inode === undefined) {
      const made = new Inode();
      folder.change((entries) => entries.set(name, made));
      inode = made;
    } else if (how === 'replace') inode.change({ kind: 'truncate', length: 0 });
    return this.#fileOf(process, inode);
  }

  #fileOf(process: { readonly isAlive: boolean }, inode: Inode): DiskFile {
    const call = <T>(work: () => T): Promise<T> => this.#call(process, work);
    return {
      write: (given, position) => {
        // The caller may use its buffer again while a dead process's write is still on its way.
        const bytes = Buffer.from(given);
        return call(() => {
          if (this.#random.chance(this.faults.eio)) throw failure('EIO');
          let length = bytes.length;
          if (this.faults.full) {
            if (this.#random.chance(0.3)) throw failure('ENOSPC');
            length = this.#random.int(1, bytes.length);
          }
          inode.change({ kind: 'write', position, bytes: bytes.subarray(0, length) });
          return this.#bugs.shortWriteHidden === true ? bytes.length : length;
        });
      },
      datasync: () =>
        call(() => {
          if (this.#bugs.fsyncLies === true) return;
          const code = this.faults.full && this.#random.chance(0.15) ? 'ENOSPC' : 'EIO';
          if (code === 'ENOSPC' || this.#random.chance(this.faults.eio)) {
            inode.syncFailed();
            if (this.#bugs.fsyncFailureHidden !== true) throw failure(code);
            return;
          }
          inode.synced();
        }),
      truncate: (length) =>
        call(() => {
          if (this.#random.chance(this.faults.eio)) throw failure('EIO');
          if (this.#bugs.truncateIgnored !== true) inode.change({ kind: 'truncate', length });
        }),
      close: () => call(() => undefined),
    };
  }

  #inode(path: string): Inode {
    const inode = this.#folder(dirname(path)).entries.get(basename(path));
    if (inode === undefined) throw failure('ENOENT');
    return inode;
  }

  #folder(path: string): Folder {
    let folder = this.#folders.get(path);
    if (folder === undefined) {
      folder = new Folder();
      this.#folders.set(path, folder);
    }
    return folder;
  }
}

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: simulated`), { code });
}
