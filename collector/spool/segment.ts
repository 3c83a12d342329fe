import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { writeAll, type Disk, type DiskFile } from './disk.ts';
import { encodeFrame, encodeHead, encodeNote, type RowPlace, type TableExtent } from './journal.ts';
import { filterBlock } from './native_reader.ts';

/**
 * The tables that a segment may hold, by their index in the journal. Append only: an index is part of the
 * format on disk.
 */
export const SEGMENT_TABLES = [
  'grantscope.auth_events',
  'grantscope.otel_traces',
  'grantscope.otel_logs',
  'grantscope.dead_letters',
] as const;
export type SegmentTable = (typeof SEGMENT_TABLES)[number];

/** One table's part of a group commit. */
export interface CommitPart {
  readonly table: SegmentTable;
  readonly rows: number;
  readonly bytes: Buffer;
}

export function journalFile(folder: string, id: string): string {
  return join(folder, `${id}.journal`);
}

/** A journal whose data is stored: it still recognises repeated requests. */
export function doneFile(folder: string, id: string): string {
  return join(folder, `${id}.done`);
}

export function dataFile(folder: string, id: string, table: SegmentTable): string {
  return join(folder, `${id}.${shortName(table)}.native`);
}

/** The data without what must not be stored: made of data and journal, again after a restart. */
export function keptFile(folder: string, id: string, table: SegmentTable): string {
  return join(folder, `${id}.${shortName(table)}.kept.native`);
}

/** When a segment was opened, ms since the epoch: its id begins with it. */
export function openedAtMs(id: string): number {
  return Number.parseInt(id, 10);
}

export function shortName(table: SegmentTable): string {
  return table.slice('grantscope.'.length);
}

interface OpenFile {
  readonly handle: DiskFile;
  readonly extents: TableExtent[];
  length: number;
}

/**
 * The segment that is being written: one file of Native blocks a table, and the journal. `commit` resolves
 * when its rows are durable; when it throws nothing of that commit counts, and the segment takes no more:
 * after a failed fsync nobody knows what the disk holds, so nothing may be written behind it.
 */
export class OpenSegment {
  readonly id: string;
  readonly #folder: string;
  readonly #disk: Disk;
  readonly #journal: OpenFile;
  readonly #files = new Map<SegmentTable, OpenFile>();
  readonly #requests: string[] = [];
  #rows = 0;
  #bytes = 0;
  #failed = false;

  private constructor(id: string, folder: string, disk: Disk, journal: DiskFile) {
    this.id = id;
    this.#folder = folder;
    this.#disk = disk;
    this.#journal = { handle: journal, extents: [], length: 0 };
  }

  static async create(folder: string, id: string, disk: Disk): Promise<OpenSegment> {
    const path = journalFile(folder, id);
    return new OpenSegment(id, folder, disk, await createDurably(disk, folder, path));
  }

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#bytes;
  }

  async commit(parts: readonly CommitPart[], requests: readonly string[]): Promise<void> {
    try {
      await this.#commit(parts, requests);
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }

  async #commit(parts: readonly CommitPart[], requests: readonly string[]): Promise<void> {
    const extents: TableExtent[] = [];
    const touched: OpenFile[] = [];
    for (const part of parts) {
      const file = await this.#file(part.table);
      await writeAll(file.handle, part.bytes, file.length);
      extents.push({
        table: SEGMENT_TABLES.indexOf(part.table),
        offset: file.length,
        length: part.bytes.length,
        crc: crc32(part.bytes),
        rows: part.rows,
      });
      touched.push(file);
    }
    const frame = encodeFrame({ extents, requests });
    const record = this.#journal.length === 0 ? Buffer.concat([encodeHead(), frame]) : frame;
    await writeAll(this.#journal.handle, record, this.#journal.length);
    await syncAll([this.#journal, ...touched]);
    // Only now does the commit count.
    this.#journal.length += record.length;
    extents.forEach((extent, i) => {
      const file = touched[i];
      if (file === undefined) return;
      file.length += extent.length;
      file.extents.push(extent);
      this.#rows += extent.rows;
      this.#bytes += extent.length;
    });
    this.#bytes += record.length;
    for (const hash of requests) this.#requests.push(hash);
  }

  /**
   * Closes the files. After a failed commit they are first cut, durably, to what was committed: its requests
   * were refused, and the store must not see them. Can be called again when it throws.
   */
  async seal(): Promise<SealedSegment> {
    const files = [this.#journal, ...this.#files.values()];
    if (this.#failed) {
      for (const file of files) await file.handle.truncate(file.length);
      await syncAll(files);
    }
    // What counts is durable: a file that does not close does no harm.
    for (const file of files) await file.handle.close().catch(() => undefined);
    return new SealedSegment({
      id: this.id,
      folder: this.#folder,
      disk: this.#disk,
      journalBytes: this.#journal.length,
      requests: this.#requests,
      isScreened: false,
      tables: [...this.#files].map(([table, file]) => ({
        table,
        extents: file.extents,
        skipped: [],
        isWhole: true,
      })),
    });
  }

  async #file(table: SegmentTable): Promise<OpenFile> {
    let file = this.#files.get(table);
    if (file === undefined) {
      const path = dataFile(this.#folder, this.id, table);
      const handle = await createDurably(this.#disk, this.#folder, path);
      file = { handle, extents: [], length: 0 };
      this.#files.set(table, file);
    }
    return file;
  }
}

/** All of them end before this does: a file must not be cut while another fsync of it is under way. */
async function syncAll(files: readonly OpenFile[]): Promise<void> {
  const results = await Promise.allSettled(files.map((f) => f.handle.datasync()));
  const failed = results.find((r) => r.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

async function createDurably(disk: Disk, folder: string, path: string): Promise<DiskFile> {
  const handle = await disk.open(path, 'create');
  try {
    await disk.syncFolder(folder);
    return handle;
  } catch (error) {
    await handle.close().catch(() => undefined);
    await disk.remove(path).catch(() => undefined);
    throw error;
  }
}

/** A table of a sealed segment: which of its blocks and rows the store is to have. */
export interface SealedTable {
  readonly table: SegmentTable;
  readonly extents: readonly TableExtent[];
  readonly skipped: readonly RowPlace[];
  /** True while the data file holds exactly these extents, so that it can be inserted as it is. */
  readonly isWhole: boolean;
}

/** What the writer inserts: a file of blocks. */
export interface SegmentPart {
  readonly table: SegmentTable;
  readonly file: string;
  readonly rows: number;
}

export interface SegmentBlock {
  readonly extent: TableExtent;
  readonly bytes: Buffer;
}

/** A block whose bytes are not what was acknowledged. */
export interface Damage {
  readonly table: SegmentTable;
  /** Where it begins in the data file. */
  readonly offset: number;
  readonly rows: number;
  readonly bytes: Buffer;
}

interface SealedState {
  readonly id: string;
  readonly folder: string;
  readonly disk: Disk;
  readonly journalBytes: number;
  readonly requests: readonly string[];
  readonly isScreened: boolean;
  readonly tables: readonly SealedTable[];
}

/** A segment that takes no more rows and waits for the store. */
export class SealedSegment {
  readonly id: string;
  readonly folder: string;
  readonly requests: readonly string[];
  /** What it counts for in the spool's limit. */
  readonly bytes: number;
  readonly #disk: Disk;
  #tables: readonly SealedTable[];
  #journalBytes: number;
  #screened: boolean;
  /** The rows that a note on the disk says to leave out. */
  #decided: readonly RowPlace[] | undefined;

  constructor(state: SealedState) {
    this.id = state.id;
    this.folder = state.folder;
    this.requests = state.requests;
    this.#disk = state.disk;
    this.#tables = state.tables;
    this.#journalBytes = state.journalBytes;
    this.#screened = state.isScreened;
    this.bytes = state.tables
      .flatMap((t) => t.extents)
      .reduce((sum, e) => sum + e.length, state.journalBytes);
  }

  /** True once it is decided, for good, which of its rows are repeats. */
  get isScreened(): boolean {
    return this.#screened;
  }

  /** What is to be inserted; tables of which nothing is left are not in it. */
  get tables(): readonly SegmentPart[] {
    return this.#tables
      .map((t) => ({ table: t.table, file: this.#fileOf(t), rows: rowsOf(t) }))
      .filter((part) => part.rows > 0);
  }

  /** The blocks of a table as they lie on the disk, with their checksums not yet looked at. */
  async blocks(table: SegmentTable): Promise<readonly SegmentBlock[]> {
    const sealed = this.#tables.find((t) => t.table === table);
    return sealed === undefined ? [] : this.#blocksOf(sealed);
  }

  async #blocksOf({ table, extents }: SealedTable): Promise<readonly SegmentBlock[]> {
    const content = await readOrEmpty(this.#disk, dataFile(this.folder, this.id, table));
    return extents.map((extent) => ({
      extent,
      bytes: content.subarray(extent.offset, extent.offset + extent.length),
    }));
  }

  /** Compares every block with its checksum and leaves the damaged ones out from now on; returns them. */
  async leaveOutDamaged(): Promise<readonly Damage[]> {
    const damage: Damage[] = [];
    let tables = this.#tables;
    for (const { table } of this.#tables) {
      const bad = (await this.blocks(table)).filter((b) => !isGood(b));
      for (const { extent, bytes } of bad)
        damage.push({ table, offset: extent.offset, rows: extent.rows, bytes });
      if (bad.length === 0) continue;
      const badExtents = new Set(bad.map((b) => b.extent));
      tables = tables.map((t) =>
        t.table === table
          ? { ...t, extents: t.extents.filter((e) => !badExtents.has(e)), isWhole: false }
          : t,
      );
    }
    await this.#writeKept(tables);
    this.#tables = tables;
    return damage;
  }

  /**
   * Leaves out the rows of a table that `find` gives, and remembers them durably before anything of the segment
   * may be inserted. Can be called again when it throws: what was decided is not decided anew.
   */
  async screen(
    table: SegmentTable,
    find: (segment: SealedSegment) => Promise<readonly RowPlace[]>,
  ): Promise<number> {
    if (this.#decided === undefined) {
      const rows = await find(this);
      await this.#note('screened', table, rows);
      this.#decided = rows;
    }
    const skipped = this.#decided;
    const tables = this.#tables.map((t) =>
      t.table === table && skipped.length > 0 ? { ...t, skipped, isWhole: false } : t,
    );
    await this.#writeKept(tables);
    this.#tables = tables;
    this.#screened = true;
    return skipped.length;
  }

  /** Remembers durably that the table's rows go to quarantine, and moves them there. */
  async quarantine(table: SegmentTable, target: string): Promise<void> {
    const part = this.tables.find((t) => t.table === table);
    if (part === undefined) return;
    await this.#note('quarantined', table, []);
    await this.#disk.rename(part.file, target);
    this.#tables = this.#tables.filter((t) => t.table !== table);
  }

  /** Writes the files of tables whose data file holds more than is to be inserted. */
  async #writeKept(tables: readonly SealedTable[]): Promise<void> {
    for (const t of tables) {
      if (t.isWhole || rowsOf(t) === 0) continue;
      const handle = await this.#disk.open(keptFile(this.folder, this.id, t.table), 'replace');
      try {
        let position = 0;
        for (const { extent, bytes } of await this.#blocksOf(t)) {
          const kept = withoutRows(bytes, extent, t.skipped);
          await writeAll(handle, kept, position);
          position += kept.length;
        }
        await handle.datasync();
      } finally {
        await handle.close();
      }
    }
  }

  /**
   * Forgets a stored segment. The journal is renamed to `.done` first (it recognises repeated requests, and
   * tells a start that the data was stored), then the data goes. Can be called again when it throws.
   */
  async retire(): Promise<void> {
    const journal = journalFile(this.folder, this.id);
    if ((await this.#disk.size(journal)) !== undefined)
      await this.#disk.rename(journal, doneFile(this.folder, this.id));
    await this.#disk.syncFolder(this.folder);
    await removeData(this.#disk, this.folder, this.id);
  }

  /** Removes a segment that holds nothing. */
  async discard(): Promise<void> {
    await this.#disk.remove(journalFile(this.folder, this.id));
    await this.#disk.syncFolder(this.folder);
    await removeData(this.#disk, this.folder, this.id);
  }

  #fileOf({ table, isWhole }: SealedTable): string {
    return (isWhole ? dataFile : keptFile)(this.folder, this.id, table);
  }

  async #note(
    kind: 'screened' | 'quarantined',
    table: SegmentTable,
    rows: readonly RowPlace[],
  ): Promise<void> {
    const note = encodeNote({ kind, table: SEGMENT_TABLES.indexOf(table), rows });
    const file = await this.#disk.open(journalFile(this.folder, this.id), 'edit');
    try {
      await writeAll(file, note, this.#journalBytes);
      await file.datasync();
    } finally {
      await file.close();
    }
    this.#journalBytes += note.length;
  }
}

export async function removeData(disk: Disk, folder: string, id: string): Promise<void> {
  for (const table of SEGMENT_TABLES) {
    await disk.remove(dataFile(folder, id, table));
    await disk.remove(keptFile(folder, id, table));
  }
}

export async function readOrEmpty(disk: Disk, path: string): Promise<Buffer> {
  return (await disk.size(path)) === undefined ? Buffer.alloc(0) : disk.read(path);
}

/** True where a block is what was acknowledged. */
export function isGood({ extent, bytes }: SegmentBlock): boolean {
  return bytes.length === extent.length && crc32(bytes) === extent.crc;
}

function rowsOf(t: SealedTable): number {
  const rows = t.extents.reduce((sum, e) => sum + e.rows, 0);
  if (t.skipped.length === 0) return rows;
  const offsets = new Set(t.extents.map((e) => e.offset));
  return rows - t.skipped.filter((s) => offsets.has(s.offset)).length;
}

function withoutRows(bytes: Buffer, extent: TableExtent, skipped: readonly RowPlace[]): Buffer {
  const here = skipped.filter((s) => s.offset === extent.offset);
  if (here.length === 0) return bytes;
  if (here.length === extent.rows) return Buffer.alloc(0);
  const isKept = new Uint8Array(extent.rows).fill(1);
  for (const { row } of here) isKept[row] = 0;
  return filterBlock(bytes, isKept);
}
