import type { ColumnType } from '../../model/table_spec.ts';
import { ByteBuffer } from './byte_buffer.ts';

/**
 * Reads blocks that `BlockBuilder` wrote, as far as the spool needs: where each column lies, the values that
 * make an event the same event, and the block without some of its rows.
 */
export interface BlockColumn {
  readonly name: string;
  readonly type: ColumnType;
  /** Where its values begin and end, with what the type writes before them. */
  readonly start: number;
  readonly end: number;
}

export interface Block {
  readonly rows: number;
  readonly columns: readonly BlockColumn[];
}

const FIXED_BYTES: Readonly<Partial<Record<ColumnType, number>>> = {
  UUID: 16,
  "DateTime64(9, 'UTC')": 8,
  "DateTime('UTC')": 4,
  Bool: 1,
  UInt8: 1,
  UInt16: 2,
  UInt32: 4,
  UInt64: 8,
  Int32: 4,
  Int64: 8,
  Float64: 8,
};
const LOW_CARDINALITY = 'LowCardinality(String)';
const MAP = 'Map(LowCardinality(String), String)';

/** Reads little-endian values one after the other; throws RangeError beyond the end. */
class Cursor {
  readonly bytes: Buffer;
  at: number;

  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  varUint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.bytes.readUInt8(this.at);
      this.at += 1;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }

  u64(): number {
    this.at += 8;
    return Number(this.bytes.readBigUInt64LE(this.at - 8));
  }

  skip(length: number): void {
    if (this.at + length > this.bytes.length) throw new RangeError('the block ends too soon');
    this.at += length;
  }

  text(): string {
    const length = this.varUint();
    this.skip(length);
    return this.bytes.toString('utf8', this.at - length, this.at);
  }
}

/**
 * Where the columns of a block lie, up to the one named `last`. Throws RangeError or TypeError on bytes that
 * are no such block.
 */
export function readBlock(bytes: Buffer, last?: string): Block {
  const cursor = new Cursor(bytes, 0);
  const count = cursor.varUint();
  const rows = cursor.varUint();
  const columns: BlockColumn[] = [];
  for (let i = 0; i < count; i += 1) {
    const name = cursor.text();
    const type = cursor.text() as ColumnType;
    const start = cursor.at;
    copyPrefix(type, cursor, undefined);
    copyValues(type, rows, cursor, undefined, undefined);
    columns.push({ name, type, start, end: cursor.at });
    if (name === last) break;
  }
  return { rows, columns };
}

/** The block without the rows for which `isKept` is 0. At least one must be kept. */
export function filterBlock(bytes: Buffer, isKept: Uint8Array): Buffer {
  const cursor = new Cursor(bytes, 0);
  const out = new ByteBuffer(bytes.length);
  const count = cursor.varUint();
  const rows = cursor.varUint();
  if (rows !== isKept.length) throw new RangeError('one mark a row is needed');
  out.varUint(count);
  out.varUint(isKept.reduce((sum, kept) => sum + kept, 0));
  for (let i = 0; i < count; i += 1) {
    out.text(cursor.text());
    const type = cursor.text() as ColumnType;
    out.text(type);
    copyPrefix(type, cursor, out);
    copyValues(type, rows, cursor, out, isKept);
  }
  return out.view();
}

/** What a type writes once before its values: LowCardinality its version. */
function copyPrefix(type: ColumnType, cursor: Cursor, out: ByteBuffer | undefined): void {
  if (!type.includes('LowCardinality')) return;
  copyBytes(cursor, 8, out);
}

function copyBytes(cursor: Cursor, length: number, out: ByteBuffer | undefined): void {
  cursor.skip(length);
  out?.bytes(cursor.bytes.subarray(cursor.at - length, cursor.at));
}

/** Passes over `rows` values, and writes those kept to `out` where there is one. */
function copyValues(
  type: ColumnType,
  rows: number,
  cursor: Cursor,
  out: ByteBuffer | undefined,
  isKept: Uint8Array | undefined,
): void {
  const fixed = FIXED_BYTES[type];
  if (fixed !== undefined) copyFixed(fixed, rows, cursor, out, isKept);
  else if (type === 'String') {
    for (let i = 0; i < rows; i += 1) {
      const start = cursor.at;
      cursor.skip(cursor.varUint());
      if (isKept?.[i] === 1) out?.bytes(cursor.bytes.subarray(start, cursor.at));
    }
  } else if (type === LOW_CARDINALITY) copyLowCardinality(rows, cursor, out, isKept);
  else if (type === 'Nullable(Float32)') {
    copyFixed(1, rows, cursor, out, isKept);
    copyFixed(4, rows, cursor, out, isKept);
  } else if (type === MAP) {
    const items = copyOffsets(rows, cursor, out, isKept);
    copyValues(LOW_CARDINALITY, items.count, cursor, out, items.isKept);
    copyValues('String', items.count, cursor, out, items.isKept);
  } else if (type.startsWith('Array(')) {
    const items = copyOffsets(rows, cursor, out, isKept);
    const inner = type.slice('Array('.length, -1) as ColumnType;
    copyValues(inner, items.count, cursor, out, items.isKept);
  } else throw new TypeError('the block has a column of an unknown type');
}

function copyFixed(
  width: number,
  rows: number,
  cursor: Cursor,
  out: ByteBuffer | undefined,
  isKept: Uint8Array | undefined,
): void {
  const start = cursor.at;
  cursor.skip(rows * width);
  if (out === undefined || isKept === undefined) return;
  for (let i = 0; i < rows; i += 1) {
    if (isKept[i] === 1)
      out.bytes(cursor.bytes.subarray(start + i * width, start + (i + 1) * width));
  }
}

/** The end of each list; returns how many items follow, and which of them are kept. */
function copyOffsets(
  rows: number,
  cursor: Cursor,
  out: ByteBuffer | undefined,
  isKept: Uint8Array | undefined,
): { count: number; isKept: Uint8Array | undefined } {
  const ends: number[] = [];
  for (let i = 0; i < rows; i += 1) ends.push(cursor.u64());
  const count = ends.at(-1) ?? 0;
  if (out === undefined || isKept === undefined) return { count, isKept: undefined };
  const items = new Uint8Array(count);
  let begin = 0;
  let written = 0;
  ends.forEach((end, i) => {
    if (isKept[i] === 1) {
      items.fill(1, begin, end);
      written += end - begin;
      out.u64(written);
    }
    begin = end;
  });
  return { count, isKept: items };
}

/** The dictionary stays as it is: keys that no row uses do no harm. Without values nothing is written. */
function copyLowCardinality(
  rows: number,
  cursor: Cursor,
  out: ByteBuffer | undefined,
  isKept: Uint8Array | undefined,
): void {
  if (rows === 0) return;
  const start = cursor.at;
  const { width } = readDictionary(cursor, undefined);
  const dictionaryEnd = cursor.at;
  cursor.skip(8);
  const indexes = cursor.at;
  cursor.skip(rows * width);
  if (out === undefined || isKept === undefined) return;
  const kept = isKept.reduce((sum, k) => sum + k, 0);
  if (kept === 0) return;
  out.bytes(cursor.bytes.subarray(start, dictionaryEnd));
  out.u64(kept);
  copyFixed(width, rows, new Cursor(cursor.bytes, indexes), out, isKept);
}

/** Passes over flags and keys; `keys` takes the keys where there is one. */
function readDictionary(cursor: Cursor, keys: string[] | undefined): { width: 1 | 2 | 4 } {
  const flags = cursor.u64() & 0xff;
  const size = cursor.u64();
  for (let i = 0; i < size; i += 1) {
    if (keys === undefined) cursor.skip(cursor.varUint());
    else keys.push(cursor.text());
  }
  return { width: flags === 0 ? 1 : flags === 1 ? 2 : 4 };
}

/** The texts of a LowCardinality(String) column: a function from row to text. */
export function lowCardinalityOf(
  bytes: Buffer,
  block: Block,
  name: string,
): (row: number) => string {
  // A block lacks a column in which no row has anything.
  if (block.rows === 0 || !block.columns.some((c) => c.name === name)) return () => '';
  const column = columnOf(block, name, LOW_CARDINALITY);
  const cursor = new Cursor(bytes, column.start + 8);
  const keys: string[] = [];
  const { width } = readDictionary(cursor, keys);
  const indexes = cursor.at + 8;
  return (row) => keys[bytes.readUIntLE(indexes + row * width, width)] ?? '';
}

/** A column by name. Throws TypeError where the block has none of that type. */
export function columnOf(block: Block, name: string, type: ColumnType): BlockColumn {
  const column = block.columns.find((c) => c.name === name);
  if (column?.type !== type) throw new TypeError(`the block has no ${name} of type ${type}`);
  return column;
}

/** UUID text of the 16 bytes at `at`. */
export function uuidAt(bytes: Buffer, at: number): string {
  const hex =
    Buffer.from(bytes.subarray(at, at + 8))
      .reverse()
      .toString('hex') +
    Buffer.from(bytes.subarray(at + 8, at + 16))
      .reverse()
      .toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
