import type { ColumnSpec, ColumnType, ScalarType, TableSpec } from '../../model/table_spec.ts';
import { ByteBuffer } from './byte_buffer.ts';

/**
 * Writes rows as a block of ClickHouse's Native format (revision 0, as in files): number of columns, number
 * of rows, then per column its name, its type and its values together. A segment is a run of such blocks,
 * which the embedded engine reads as a file and a server takes as a request body.
 */
interface ColumnEncoder {
  append(value: unknown): void;
  /** Appends `get` of each item. A loop of each type's own lets the runtime compile it for that type. */
  appendEach<T>(items: readonly T[], get: (item: T) => unknown): void;
  /** What a type writes once before all values of the block (LowCardinality: its version). */
  writePrefix(out: ByteBuffer): void;
  writeValues(out: ByteBuffer): void;
  reset(): void;
  /** Remembers where the column stands; `rollback` returns there. */
  mark(): void;
  rollback(): void;
}

/** Types whose values stand side by side without state. */
abstract class PlainEncoder implements ColumnEncoder {
  protected readonly data = new ByteBuffer();
  #marked = 0;

  abstract append(value: unknown): void;

  appendEach<T>(items: readonly T[], get: (item: T) => unknown): void {
    for (const item of items) this.append(get(item));
  }

  writePrefix(): void {
    // Plain types have none.
  }

  writeValues(out: ByteBuffer): void {
    out.bytes(this.data.view());
  }

  reset(): void {
    this.data.reset();
  }

  mark(): void {
    this.#marked = this.data.length;
  }

  rollback(): void {
    this.data.truncate(this.#marked);
  }
}

class StringEncoder extends PlainEncoder {
  append(value: unknown): void {
    if (typeof value !== 'string' || value === '') this.data.u8(0);
    else this.data.text(value);
  }

  override appendEach<T>(items: readonly T[], get: (item: T) => unknown): void {
    for (const item of items) this.append(get(item));
  }
}

/** Integers beyond the type's range are clamped to it: one wild number must not fail a batch. */
class IntegerEncoder extends PlainEncoder {
  readonly #min: number;
  readonly #max: number;
  readonly #bytes: 1 | 2 | 4;

  constructor(bytes: 1 | 2 | 4, min: number, max: number) {
    super();
    this.#bytes = bytes;
    this.#min = min;
    this.#max = max;
  }

  append(value: unknown): void {
    const number = Math.trunc(Number(value));
    const known = Number.isNaN(number) ? 0 : Math.min(this.#max, Math.max(this.#min, number));
    if (this.#bytes === 1) this.data.u8(known);
    else if (this.#bytes === 2) this.data.u16(known);
    else this.data.u32(known);
  }
}

/** 64-bit integers, given as bigint or as a number without a fraction. */
class Integer64Encoder extends PlainEncoder {
  append(value: unknown): void {
    if (typeof value === 'bigint') this.data.bigU64(value);
    else if (typeof value === 'number' && value >= 0 && Number.isSafeInteger(value))
      this.data.u64(value);
    else this.data.bigU64(Number.isFinite(value) ? BigInt(Math.trunc(Number(value))) : 0n);
  }
}

class Float64Encoder extends PlainEncoder {
  append(value: unknown): void {
    this.data.f64(Number(value));
  }
}

class BooleanEncoder extends PlainEncoder {
  append(value: unknown): void {
    this.data.u8(value === true ? 1 : 0);
  }
}

class NullableFloat32Encoder extends PlainEncoder {
  readonly #nulls = new ByteBuffer();
  #markedNulls = 0;

  append(value: unknown): void {
    const known = typeof value === 'number' && Number.isFinite(value);
    this.#nulls.u8(known ? 0 : 1);
    this.data.f32(known ? value : 0);
  }

  override writeValues(out: ByteBuffer): void {
    out.bytes(this.#nulls.view());
    super.writeValues(out);
  }

  override reset(): void {
    super.reset();
    this.#nulls.reset();
  }

  override mark(): void {
    super.mark();
    this.#markedNulls = this.#nulls.length;
  }

  override rollback(): void {
    super.rollback();
    this.#nulls.truncate(this.#markedNulls);
  }
}

const UUID_BYTES = 16;
const UUID_TEXT_LENGTH = 36;

class UuidEncoder extends PlainEncoder {
  append(value: unknown): void {
    if (typeof value === 'string' && value.length === UUID_TEXT_LENGTH) this.data.uuid(value);
    else this.data.zeros(UUID_BYTES);
  }

  override appendEach<T>(items: readonly T[], get: (item: T) => unknown): void {
    for (const item of items) this.append(get(item));
  }
}

/** SharedDictionariesWithAdditionalKeys, the only version there is. */
const LOW_CARDINALITY_VERSION = 1;
/** HasAdditionalKeys | NeedUpdateDictionary; the low byte is the width of an index. */
const LOW_CARDINALITY_FLAGS = 0x600;

class LowCardinalityEncoder implements ColumnEncoder {
  readonly #keys = new ByteBuffer();
  readonly #positions = new Map<string, number>();
  #indexes = new Uint32Array(64);
  #count = 0;
  #marked = 0;
  /** Neighbours are often alike. */
  #last = '';
  #lastPosition = 0;

  constructor() {
    this.reset();
  }

  append(value: unknown): void {
    this.#reserve(1);
    this.#indexes[this.#count++] = this.#positionOf(value);
  }

  appendEach<T>(items: readonly T[], get: (item: T) => unknown): void {
    this.#reserve(items.length);
    for (const item of items) this.#indexes[this.#count++] = this.#positionOf(get(item));
  }

  #reserve(extra: number): void {
    const needed = this.#count + extra;
    if (needed <= this.#indexes.length) return;
    const grown = new Uint32Array(Math.max(needed, this.#indexes.length * 2));
    grown.set(this.#indexes);
    this.#indexes = grown;
  }

  #positionOf(value: unknown): number {
    if (typeof value !== 'string' || value === '') return 0;
    if (value === this.#last) return this.#lastPosition;
    let position = this.#positions.get(value);
    if (position === undefined) {
      // The default value comes first, as the engine itself writes it.
      position = this.#positions.size + 1;
      this.#positions.set(value, position);
      this.#keys.text(value);
    }
    this.#last = value;
    this.#lastPosition = position;
    return position;
  }

  writePrefix(out: ByteBuffer): void {
    out.u64(LOW_CARDINALITY_VERSION);
  }

  writeValues(out: ByteBuffer): void {
    // Without values (a column of empty arrays) the engine writes and reads nothing.
    if (this.#count === 0) return;
    const size = this.#positions.size + 1;
    const width = size <= 0x100 ? 0 : size <= 0x1_0000 ? 1 : 2;
    out.u64(LOW_CARDINALITY_FLAGS | width);
    out.u64(size);
    out.bytes(this.#keys.view());
    out.u64(this.#count);
    const indexes = this.#indexes.subarray(0, this.#count);
    if (width === 0) out.bytes(Uint8Array.from(indexes));
    else if (width === 1) for (const index of indexes) out.u16(index);
    else for (const index of indexes) out.u32(index);
  }

  reset(): void {
    this.#keys.reset();
    this.#positions.clear();
    this.#count = 0;
    this.#last = '';
    this.#lastPosition = 0;
    this.#keys.text('');
  }

  mark(): void {
    this.#marked = this.#count;
  }

  /** Keys stay in the dictionary: unused ones do no harm. */
  rollback(): void {
    this.#count = this.#marked;
  }
}

const itself = (item: unknown): unknown => item;

class ArrayEncoder implements ColumnEncoder {
  readonly #inner: ColumnEncoder;
  readonly #offsets = new ByteBuffer();
  #end = 0;
  #markedEnd = 0;
  #markedOffsets = 0;

  constructor(inner: ColumnEncoder) {
    this.#inner = inner;
  }

  append(value: unknown): void {
    this.appendItems(value, itself);
  }

  appendEach<T>(items: readonly T[], get: (item: T) => unknown): void {
    for (const item of items) this.appendItems(get(item), itself);
  }

  /** Appends an array of `each` of a value's items. */
  appendItems(value: unknown, each: (item: unknown) => unknown): void {
    if (Array.isArray(value) && value.length > 0) {
      this.#inner.appendEach(value as readonly unknown[], each);
      this.#end += value.length;
    }
    this.#offsets.u64(this.#end);
  }

  writePrefix(out: ByteBuffer): void {
    this.#inner.writePrefix(out);
  }

  writeValues(out: ByteBuffer): void {
    out.bytes(this.#offsets.view());
    this.#inner.writeValues(out);
  }

  reset(): void {
    this.#inner.reset();
    this.#offsets.reset();
    this.#end = 0;
  }

  mark(): void {
    this.#inner.mark();
    this.#markedEnd = this.#end;
    this.#markedOffsets = this.#offsets.length;
  }

  rollback(): void {
    this.#inner.rollback();
    this.#end = this.#markedEnd;
    this.#offsets.truncate(this.#markedOffsets);
  }
}

/** A map is an array of (key, value) pairs, keys and values apart. */
class MapEncoder implements ColumnEncoder {
  readonly #keys = new LowCardinalityEncoder();
  readonly #values = new StringEncoder();
  readonly #offsets = new ByteBuffer();
  #end = 0;
  #markedEnd = 0;
  #markedOffsets = 0;

  append(value: unknown): void {
    if (typeof value === 'object' && value !== null) {
      for (const key of Object.keys(value)) {
        this.#keys.append(key);
        this.#values.append((value as Readonly<Record<string, unknown>>)[key]);
        this.#end += 1;
      }
    }
    this.#offsets.u64(this.#end);
  }

  appendEach<T>(items: readonly T[], get: (item: T) => unknown): void {
    for (const item of items) this.append(get(item));
  }

  writePrefix(out: ByteBuffer): void {
    this.#keys.writePrefix(out);
  }

  writeValues(out: ByteBuffer): void {
    out.bytes(this.#offsets.view());
    this.#keys.writeValues(out);
    this.#values.writeValues(out);
  }

  reset(): void {
    this.#keys.reset();
    this.#values.reset();
    this.#offsets.reset();
    this.#end = 0;
  }

  mark(): void {
    this.#keys.mark();
    this.#values.mark();
    this.#markedEnd = this.#end;
    this.#markedOffsets = this.#offsets.length;
  }

  rollback(): void {
    this.#keys.rollback();
    this.#values.rollback();
    this.#end = this.#markedEnd;
    this.#offsets.truncate(this.#markedOffsets);
  }
}

const SCALAR_ENCODERS: Readonly<Record<ScalarType, () => ColumnEncoder>> = {
  String: () => new StringEncoder(),
  'LowCardinality(String)': () => new LowCardinalityEncoder(),
  UUID: () => new UuidEncoder(),
  "DateTime64(9, 'UTC')": () => new Integer64Encoder(),
  "DateTime('UTC')": () => new IntegerEncoder(4, 0, 0xffff_ffff),
  Bool: () => new BooleanEncoder(),
  UInt8: () => new IntegerEncoder(1, 0, 0xff),
  UInt16: () => new IntegerEncoder(2, 0, 0xffff),
  UInt32: () => new IntegerEncoder(4, 0, 0xffff_ffff),
  UInt64: () => new Integer64Encoder(),
  Int32: () => new IntegerEncoder(4, -0x8000_0000, 0x7fff_ffff),
  Int64: () => new Integer64Encoder(),
  Float64: () => new Float64Encoder(),
  'Nullable(Float32)': () => new NullableFloat32Encoder(),
};

function encoderOf(type: ColumnType): ColumnEncoder {
  if (type.startsWith('Array('))
    return new ArrayEncoder(encoderOf(type.slice('Array('.length, -1) as ColumnType));
  if (type === 'Map(LowCardinality(String), String)') return new MapEncoder();
  return SCALAR_ENCODERS[type as ScalarType]();
}

/**
 * Rows are written column by column, so that each loop runs over values of one type, and this many at once: then they
 * are garbage before the collector has to copy them.
 */
const ROWS_AT_ONCE = 64;

/** Values that the engine takes for a column that a block lacks. */
function isDefault(type: ColumnType): ((value: unknown) => boolean) | undefined {
  if (type.startsWith('Array(')) return (v) => !Array.isArray(v) || v.length === 0;
  if (type.startsWith('Map(')) return hasNoKeys;
  switch (type) {
    case 'String':
    case 'LowCardinality(String)':
    case 'UUID':
      return (v) => v === '';
    case 'Bool':
      return (v) => v !== true;
    case 'Nullable(Float32)':
      return (v) => v === null;
    case 'UInt8':
    case 'UInt16':
    case 'UInt32':
    case 'Int32':
      return (v) => v === 0;
    default:
      // Times and 64-bit numbers are always written: readers of segments count on an event's id and time.
      return undefined;
  }
}

function hasNoKeys(value: unknown): boolean {
  for (const _key in value as object) return false;
  return true;
}

/**
 * A column that is written only once a row has something in it. Most events leave half of the columns empty, and a block
 * without those is a third smaller and quicker to make and to read; the engine fills them in.
 */
class Column<Row> {
  readonly spec: ColumnSpec<Row>;
  readonly #encoder: ColumnEncoder;
  readonly #isDefault: ((value: unknown) => boolean) | undefined;
  /** Rows before the first that has something; undefined once the column is written. */
  #empty: number | undefined;
  #markedEmpty: number | undefined;

  /** `isAlways`: also where no row has anything. */
  constructor(spec: ColumnSpec<Row>, isAlways: boolean) {
    this.spec = spec;
    this.#encoder = encoderOf(spec.type);
    this.#isDefault = isAlways ? undefined : isDefault(spec.type);
    this.#empty = this.#isDefault === undefined ? undefined : 0;
  }

  append(rows: readonly Row[]): void {
    if (this.#empty !== undefined) {
      if (!this.#hasValue(rows)) {
        this.#empty += rows.length;
        return;
      }
      for (let i = 0; i < this.#empty; i += 1) this.#encoder.append(undefined);
      this.#empty = undefined;
    }
    const { get, each } = this.spec;
    if (each !== undefined && this.#encoder instanceof ArrayEncoder) {
      for (const row of rows) this.#encoder.appendItems(get(row), each);
    } else this.#encoder.appendEach(rows, get);
  }

  #hasValue(rows: readonly Row[]): boolean {
    const { get } = this.spec;
    const isEmpty = this.#isDefault;
    if (isEmpty === undefined) return true;
    for (const row of rows) if (!isEmpty(get(row))) return true;
    return false;
  }

  get isWritten(): boolean {
    return this.#empty === undefined;
  }

  write(out: ByteBuffer): void {
    out.text(this.spec.name);
    out.text(this.spec.type);
    this.#encoder.writePrefix(out);
    this.#encoder.writeValues(out);
  }

  reset(): void {
    this.#encoder.reset();
    this.#empty = this.#isDefault === undefined ? undefined : 0;
  }

  mark(): void {
    this.#encoder.mark();
    this.#markedEmpty = this.#empty;
  }

  rollback(): void {
    this.#encoder.rollback();
    this.#empty = this.#markedEmpty;
  }
}

/** Collects rows of one table and writes them as one block. */
export class BlockBuilder<Row> {
  readonly #columns: readonly Column<Row>[];
  readonly #out = new ByteBuffer(64 * 1_024);
  #rows = 0;

  constructor(spec: TableSpec<Row>) {
    // A block needs a column to have rows.
    this.#columns = spec.columns.map((c, i) => new Column(c, i === 0));
  }

  get rows(): number {
    return this.#rows;
  }

  /**
   * Adds rows, all or none: one that cannot be made or read leaves the block as it was. Returns their number.
   * Rows are taken from the iterable a few at a time, so that a request's events need not all be in memory.
   */
  append(rows: Iterable<Row>): number {
    for (const column of this.#columns) column.mark();
    let added = 0;
    try {
      const some: Row[] = [];
      for (const row of rows) {
        if (some.push(row) < ROWS_AT_ONCE) continue;
        added += this.#appendSome(some);
        some.length = 0;
      }
      added += this.#appendSome(some);
    } catch (error) {
      for (const column of this.#columns) column.rollback();
      throw error;
    }
    this.#rows += added;
    return added;
  }

  #appendSome(rows: readonly Row[]): number {
    for (const column of this.#columns) column.append(rows);
    return rows.length;
  }

  /** The block's bytes, valid until the next call; empties the builder. */
  take(): Buffer {
    const out = this.#out;
    out.reset();
    const written = this.#columns.filter((c) => c.isWritten);
    out.varUint(written.length);
    out.varUint(this.#rows);
    for (const column of written) column.write(out);
    for (const column of this.#columns) column.reset();
    this.#rows = 0;
    return out.view();
  }
}
