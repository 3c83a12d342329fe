import { crc32 } from 'node:zlib';

/**
 * The journal of a segment: what was committed, so that a start after a crash knows which bytes of the data
 * files count. It begins with a head (since format 2), then one frame a group commit, then notes:
 *
 *   head:   u32 magic 'GSJH' | u32 format
 *   frame:  u32 magic 'GSJ1' | u32 length of the body | body | u32 crc32 of the body
 *     body: u16 number of tables, then per table { u16 table index, u64 offset, u32 length, u32 crc32, u32 rows };
 *           u32 number of requests, then 16 bytes of content hash each
 *   note:   u32 magic 'GSJN' | u32 length of the body | body | u32 crc32 of the body
 *     body: u16 kind | u16 table index | u32 number of rows, then { u64 offset of the block, u32 row in it } each
 *
 * Data and journal are fsynced side by side, which is why a frame carries the checksum of its data. A note is
 * a decision about the sealed segment that must not be taken twice (see `NoteKind`). Format 1 had neither head
 * nor notes and is read as well.
 */
export interface TableExtent {
  readonly table: number;
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
  readonly rows: number;
}

export interface JournalFrame {
  readonly extents: readonly TableExtent[];
  /** 32 hex digits each. */
  readonly requests: readonly string[];
}

/** One row of a segment: the block that it stands in, and where. */
export interface RowPlace {
  readonly offset: number;
  readonly row: number;
}

/**
 * `screened`: the rows named are repeats of stored events and are left out; written before the first insert,
 * because afterwards every row of the segment would look like a repeat of itself. `quarantined`: the store
 * refused the table's rows for good, and they lie in quarantine.
 */
export type NoteKind = 'screened' | 'quarantined';

export interface JournalNote {
  readonly kind: NoteKind;
  readonly table: number;
  readonly rows: readonly RowPlace[];
}

export interface JournalContent {
  readonly frames: readonly JournalFrame[];
  readonly notes: readonly JournalNote[];
  /** Where each frame ends. */
  readonly frameEnds: readonly number[];
  /** Where the last good frame or note ends. */
  readonly end: number;
  /** Bytes before `end` that belong to no good frame: a flipped byte, not a torn write. */
  readonly damagedBytes: number;
}

/** The format written by this version. */
export const JOURNAL_FORMAT = 2;

const HEAD_MAGIC = 0x48_4a_53_47; // 'GSJH'
const FRAME_MAGIC = 0x31_4a_53_47; // 'GSJ1'
const NOTE_MAGIC = 0x4e_4a_53_47; // 'GSJN'
const JOURNAL_HEAD_BYTES = 8;
const HEAD_BYTES = 8;
const EXTENT_BYTES = 22;
const HASH_BYTES = 16;
const PLACE_BYTES = 12;
const NOTE_KINDS: readonly NoteKind[] = ['screened', 'quarantined'];

export function encodeHead(): Buffer {
  const bytes = Buffer.alloc(JOURNAL_HEAD_BYTES);
  bytes.writeUInt32LE(HEAD_MAGIC, 0);
  bytes.writeUInt32LE(JOURNAL_FORMAT, 4);
  return bytes;
}

/** The format that a journal was written in. */
export function formatOf(bytes: Buffer): number {
  const hasHead = bytes.length >= JOURNAL_HEAD_BYTES && bytes.readUInt32LE(0) === HEAD_MAGIC;
  return hasHead ? bytes.readUInt32LE(4) : 1;
}

export function encodeFrame(frame: JournalFrame): Buffer {
  const length = 2 + frame.extents.length * EXTENT_BYTES + 4 + frame.requests.length * HASH_BYTES;
  return enclose(FRAME_MAGIC, length, (bytes, start) => {
    let at = bytes.writeUInt16LE(frame.extents.length, start);
    for (const extent of frame.extents) {
      at = bytes.writeUInt16LE(extent.table, at);
      at = bytes.writeBigUInt64LE(BigInt(extent.offset), at);
      at = bytes.writeUInt32LE(extent.length, at);
      at = bytes.writeUInt32LE(extent.crc, at);
      at = bytes.writeUInt32LE(extent.rows, at);
    }
    at = bytes.writeUInt32LE(frame.requests.length, at);
    for (const hash of frame.requests) at += bytes.write(hash, at, HASH_BYTES, 'hex');
  });
}

export function encodeNote(note: JournalNote): Buffer {
  return enclose(NOTE_MAGIC, 8 + note.rows.length * PLACE_BYTES, (bytes, start) => {
    let at = bytes.writeUInt16LE(NOTE_KINDS.indexOf(note.kind), start);
    at = bytes.writeUInt16LE(note.table, at);
    at = bytes.writeUInt32LE(note.rows.length, at);
    for (const { offset, row } of note.rows) {
      at = bytes.writeBigUInt64LE(BigInt(offset), at);
      at = bytes.writeUInt32LE(row, at);
    }
  });
}

function enclose(
  magic: number,
  length: number,
  write: (bytes: Buffer, at: number) => void,
): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES + length + 4);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt32LE(length, 4);
  write(bytes, HEAD_BYTES);
  bytes.writeUInt32LE(crc32(bytes.subarray(HEAD_BYTES, HEAD_BYTES + length)), HEAD_BYTES + length);
  return bytes;
}

/**
 * All that is good in a journal. What follows the last good frame was torn by a crash and never acknowledged;
 * a bad stretch with good frames behind it is damage, and those frames still count. Never throws.
 */
export function decodeJournal(bytes: Buffer): JournalContent {
  const frames: JournalFrame[] = [];
  const notes: JournalNote[] = [];
  const frameEnds: number[] = [];
  const start = formatOf(bytes) > 1 ? JOURNAL_HEAD_BYTES : 0;
  let end = start;
  let damagedBytes = 0;
  for (let at = start; at < bytes.length;) {
    const body = bodyAt(bytes, at);
    if (body === undefined) {
      at = nextMagic(bytes, at + 1);
      continue;
    }
    damagedBytes += at - end;
    end = at + HEAD_BYTES + body.length + 4;
    if (bytes.readUInt32LE(at) === FRAME_MAGIC) {
      frames.push(decodeFrame(body));
      frameEnds.push(end);
    } else notes.push(decodeNote(body));
    at = end;
  }
  return { frames, notes, frameEnds, end, damagedBytes };
}

/** The body of the frame or note that begins at `at`, or undefined when it is torn or damaged. */
function bodyAt(bytes: Buffer, at: number): Buffer | undefined {
  if (at + HEAD_BYTES + 4 > bytes.length) return undefined;
  const magic = bytes.readUInt32LE(at);
  if (magic !== FRAME_MAGIC && magic !== NOTE_MAGIC) return undefined;
  const end = at + HEAD_BYTES + bytes.readUInt32LE(at + 4);
  if (end + 4 > bytes.length) return undefined;
  const body = bytes.subarray(at + HEAD_BYTES, end);
  return crc32(body) === bytes.readUInt32LE(end) ? body : undefined;
}

function nextMagic(bytes: Buffer, from: number): number {
  for (let at = bytes.indexOf('GSJ', from); at !== -1; at = bytes.indexOf('GSJ', at + 1))
    if (bodyAt(bytes, at) !== undefined) return at;
  return bytes.length;
}

function decodeFrame(body: Buffer): JournalFrame {
  const extents: TableExtent[] = [];
  const tables = body.readUInt16LE(0);
  let at = 2;
  for (let i = 0; i < tables; i += 1) {
    extents.push({
      table: body.readUInt16LE(at),
      offset: Number(body.readBigUInt64LE(at + 2)),
      length: body.readUInt32LE(at + 10),
      crc: body.readUInt32LE(at + 14),
      rows: body.readUInt32LE(at + 18),
    });
    at += EXTENT_BYTES;
  }
  const requests: string[] = [];
  const count = body.readUInt32LE(at);
  at += 4;
  for (let i = 0; i < count; i += 1, at += HASH_BYTES)
    requests.push(body.toString('hex', at, at + HASH_BYTES));
  return { extents, requests };
}

function decodeNote(body: Buffer): JournalNote {
  const count = body.readUInt32LE(4);
  const rows = Array.from({ length: count }, (_, i) => ({
    offset: Number(body.readBigUInt64LE(8 + i * PLACE_BYTES)),
    row: body.readUInt32LE(16 + i * PLACE_BYTES),
  }));
  return {
    kind: NOTE_KINDS[body.readUInt16LE(0)] ?? 'screened',
    table: body.readUInt16LE(2),
    rows,
  };
}
