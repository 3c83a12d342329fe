import {
  open,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
  type FileHandle,
} from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { decodeFrames, encodeFrame, type JournalFrame, type TableExtent } from './journal.ts';

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

/** A segment that takes no more rows and waits for the store. */
export interface SealedSegment {
  readonly id: string;
  readonly folder: string;
  readonly tables: readonly {
    readonly table: SegmentTable;
    readonly file: string;
    readonly rows: number;
  }[];
  readonly bytes: number;
  readonly requests: readonly string[];
}

/** One table's part of a group commit. */
export interface CommitPart {
  readonly table: SegmentTable;
  readonly rows: number;
  readonly bytes: Buffer;
}

export function journalFile(folder: string, id: string): string {
  return join(folder, `${id}.journal`);
}

export function dataFile(folder: string, id: string, table: SegmentTable): string {
  return join(folder, `${id}.${table.slice('grantscope.'.length)}.native`);
}

/** Makes the creation, renaming or removal of files in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

interface OpenFile {
  readonly handle: FileHandle;
  length: number;
  rows: number;
}

/**
 * The segment that is being written: one file of Native blocks a table, and the journal. `commit` resolves
 * when its rows are durable; when it throws nothing of that commit counts and the segment must be sealed.
 */
export class OpenSegment {
  readonly id: string;
  readonly #folder: string;
  readonly #journal: OpenFile;
  readonly #files = new Map<SegmentTable, OpenFile>();
  readonly #requests: string[] = [];
  #rows = 0;
  #bytes = 0;

  private constructor(id: string, folder: string, journal: FileHandle) {
    this.id = id;
    this.#folder = folder;
    this.#journal = { handle: journal, length: 0, rows: 0 };
  }

  static async create(folder: string, id: string): Promise<OpenSegment> {
    const journal = await open(journalFile(folder, id), 'wx', 0o600);
    await syncFolder(folder);
    return new OpenSegment(id, folder, journal);
  }

  get rows(): number {
    return this.#rows;
  }

  get bytes(): number {
    return this.#bytes;
  }

  async commit(parts: readonly CommitPart[], requests: readonly string[]): Promise<void> {
    const extents: TableExtent[] = [];
    const touched: OpenFile[] = [];
    for (const part of parts) {
      const file = await this.#file(part.table);
      await file.handle.write(part.bytes, 0, part.bytes.length, file.length);
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
    await this.#journal.handle.write(frame, 0, frame.length, this.#journal.length);
    await Promise.all([this.#journal, ...touched].map((f) => f.handle.datasync()));
    // Only now does the commit count.
    this.#journal.length += frame.length;
    parts.forEach((part, i) => {
      const file = touched[i];
      if (file === undefined) return;
      file.length += part.bytes.length;
      file.rows += part.rows;
      this.#rows += part.rows;
      this.#bytes += part.bytes.length;
    });
    this.#bytes += frame.length;
    for (const hash of requests) this.#requests.push(hash);
  }

  /** Closes the files, cut to what was committed. */
  async seal(): Promise<SealedSegment> {
    for (const file of [this.#journal, ...this.#files.values()]) {
      await file.handle.truncate(file.length);
      await file.handle.close();
    }
    return {
      id: this.id,
      folder: this.#folder,
      tables: [...this.#files].map(([table, file]) => ({
        table,
        file: dataFile(this.#folder, this.id, table),
        rows: file.rows,
      })),
      bytes: this.#bytes,
      requests: this.#requests,
    };
  }

  async #file(table: SegmentTable): Promise<OpenFile> {
    let file = this.#files.get(table);
    if (file === undefined) {
      const handle = await open(dataFile(this.#folder, this.id, table), 'wx', 0o600);
      await syncFolder(this.#folder);
      file = { handle, length: 0, rows: 0 };
      this.#files.set(table, file);
    }
    return file;
  }
}

/** What a start found wrong in a segment that an earlier process left. */
export interface Damage {
  readonly table: SegmentTable;
  readonly bytes: number;
  readonly rows: number;
}

/**
 * Reads a segment that an earlier process left. Bytes after the last committed frame were never
 * acknowledged and are cut off; a committed block whose checksum is wrong goes to `quarantineFolder`, and the
 * rest of the file goes on.
 */
export async function recoverSegment(
  folder: string,
  id: string,
  quarantineFolder: string,
): Promise<{ segment: SealedSegment; damage: readonly Damage[] }> {
  const journal = await readFile(journalFile(folder, id));
  const { frames } = decodeFrames(journal);
  const damage: Damage[] = [];
  const tables: SealedSegment['tables'][number][] = [];
  let bytes = journal.length;
  for (const [index, table] of SEGMENT_TABLES.entries()) {
    const extents = frames.flatMap((f) => f.extents.filter((e) => e.table === index));
    if (extents.length === 0) continue;
    const file = dataFile(folder, id, table);
    const found = await recoverTable(file, extents, quarantineFolder);
    if (found.damagedBytes > 0)
      damage.push({ table, bytes: found.damagedBytes, rows: found.damagedRows });
    bytes += found.bytes;
    if (found.rows > 0) tables.push({ table, file, rows: found.rows });
  }
  return { segment: { id, folder, tables, bytes, requests: requestsOf(frames) }, damage };
}

function requestsOf(frames: readonly JournalFrame[]): readonly string[] {
  return frames.flatMap((f) => f.requests);
}

/** The content hashes in a journal, whether its data is still there or not. */
export async function readRequests(file: string): Promise<readonly string[]> {
  return requestsOf(decodeFrames(await readFile(file)).frames);
}

interface RecoveredTable {
  readonly rows: number;
  readonly bytes: number;
  readonly damagedRows: number;
  readonly damagedBytes: number;
}

async function recoverTable(
  file: string,
  extents: readonly TableExtent[],
  quarantineFolder: string,
): Promise<RecoveredTable> {
  const content = await readFile(file).catch(() => Buffer.alloc(0));
  const isGood = (e: TableExtent): boolean =>
    e.offset + e.length <= content.length &&
    crc32(content.subarray(e.offset, e.offset + e.length)) === e.crc;
  const good = extents.filter(isGood);
  const bad = extents.filter((e) => !good.includes(e));
  const bytes = good.reduce((sum, e) => sum + e.length, 0);
  if (bad.length === 0) {
    if ((await stat(file)).size > bytes) await truncate(file, bytes);
  } else {
    const damaged = Buffer.concat(bad.map((e) => content.subarray(e.offset, e.offset + e.length)));
    await writeFile(
      join(quarantineFolder, `${file.split('/').at(-1) ?? 'segment'}.damaged`),
      damaged,
      { mode: 0o600 },
    );
    const kept = Buffer.concat(good.map((e) => content.subarray(e.offset, e.offset + e.length)));
    await writeFile(`${file}.kept`, kept, { mode: 0o600, flush: true });
    await rename(`${file}.kept`, file);
  }
  return {
    rows: good.reduce((sum, e) => sum + e.rows, 0),
    bytes,
    damagedRows: bad.reduce((sum, e) => sum + e.rows, 0),
    damagedBytes: bad.reduce((sum, e) => sum + e.length, 0),
  };
}

/**
 * Forgets a stored segment. The journal is renamed to `.done` first (it recognises repeated requests, and
 * tells a start that the data was stored), then the data goes.
 */
export async function retireSegment(segment: SealedSegment): Promise<void> {
  await rename(journalFile(segment.folder, segment.id), doneFile(segment.folder, segment.id));
  await syncFolder(segment.folder);
  for (const { file } of segment.tables) await rm(file, { force: true });
}

export function doneFile(folder: string, id: string): string {
  return join(folder, `${id}.done`);
}
