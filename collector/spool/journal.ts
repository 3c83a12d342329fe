import { crc32 } from 'node:zlib';

/**
 * The journal of a segment: what was committed, so that a start after a crash knows which bytes of the data
 * files count. One frame a group commit:
 *
 *   u32 magic | u32 length of the body | body | u32 crc32 of the body
 *   body: u16 number of tables, then per table { u16 table index, u64 offset, u32 length, u32 crc32, u32 rows };
 *         u32 number of requests, then 16 bytes of content hash each
 *
 * Data and journal are fsynced side by side, which is why a frame carries the checksum of its data.
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

const MAGIC = 0x31_4a_53_47; // 'GSJ1'
const HEAD_BYTES = 8;
const EXTENT_BYTES = 22;
const HASH_BYTES = 16;

export function encodeFrame(frame: JournalFrame): Buffer {
  const length = 2 + frame.extents.length * EXTENT_BYTES + 4 + frame.requests.length * HASH_BYTES;
  const bytes = Buffer.alloc(HEAD_BYTES + length + 4);
  let at = bytes.writeUInt32LE(MAGIC, 0);
  at = bytes.writeUInt32LE(length, at);
  at = bytes.writeUInt16LE(frame.extents.length, at);
  for (const extent of frame.extents) {
    at = bytes.writeUInt16LE(extent.table, at);
    at = bytes.writeBigUInt64LE(BigInt(extent.offset), at);
    at = bytes.writeUInt32LE(extent.length, at);
    at = bytes.writeUInt32LE(extent.crc, at);
    at = bytes.writeUInt32LE(extent.rows, at);
  }
  at = bytes.writeUInt32LE(frame.requests.length, at);
  for (const hash of frame.requests) at += bytes.write(hash, at, HASH_BYTES, 'hex');
  bytes.writeUInt32LE(crc32(bytes.subarray(HEAD_BYTES, at)), at);
  return bytes;
}

/** The frames up to the first that is torn or damaged; `complete` is false when bytes remain after them. */
export function decodeFrames(bytes: Buffer): {
  frames: readonly JournalFrame[];
  complete: boolean;
} {
  const frames: JournalFrame[] = [];
  let at = 0;
  while (at + HEAD_BYTES + 4 <= bytes.length) {
    const length = bytes.readUInt32LE(at + 4);
    const bodyEnd = at + HEAD_BYTES + length;
    if (bytes.readUInt32LE(at) !== MAGIC || bodyEnd + 4 > bytes.length) break;
    const body = bytes.subarray(at + HEAD_BYTES, bodyEnd);
    if (crc32(body) !== bytes.readUInt32LE(bodyEnd)) break;
    frames.push(decodeBody(body));
    at = bodyEnd + 4;
  }
  return { frames, complete: at === bytes.length };
}

function decodeBody(body: Buffer): JournalFrame {
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
