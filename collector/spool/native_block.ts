import type { ColumnType, ScalarType, TableSpec } from '../../model/table_spec.ts';
import { ByteBuffer } from './byte_buffer.ts';

/**
 * Writes rows as a block of ClickHouse's Native format (revision 0, as in files): number of columns, number
 * of rows, then per column its name, its type and its values together. A segment is a run of such blocks,
 * which the embedded engine reads as a file and a server takes as a request body.
 */
interface ColumnEncoder {
  append(value: unknown): void;
  /** What a type writes once before all values of the block (LowCardinality: its version). */
  writePrefix(out: ByteBuffer): void;
  writeValues(out: ByteBuffer): void;
  reset(): void;
}

/** Types whose values stand side by side without state. */
abstract class PlainEncoder implements ColumnEncoder {
  protected readonly data = new ByteBuffer();

  abstract append(value: unknown): void;

  writePrefix(): void {
    // Plain types have none.
  }

  writeValues(out: ByteBuffer): void {
    out.bytes(this.data.view());
  }

  reset(): void {
    this.data.reset();
  }
}

class StringEncoder extends PlainEncoder {
  append(value: unknown): void {
    this.data.text(asText(value));
  }
}

/** Integers beyond the type's range are clamped to it: one wild number must not fail a batch. */
class IntegerEncoder extends PlainEncoder {
  readonly #min: number;
  readonly #max: number;
  readonly #write: (out: ByteBuffer, value: number) => void;

  constructor(min: number, max: number, write: (out: ByteBuffer, value: number) => void) {
    super();
    this.#min = min;
    this.#max = max;
    this.#write = write;
  }

  append(value: unknown): void {
    const number = Math.trunc(Number(value));
    const known = Number.isNaN(number) ? 0 : number;
    this.#write(this.data, Math.min(this.#max, Math.max(this.#min, known)));
  }
}

/** 64-bit integers, given as bigint or as a number without a fraction. */
class Integer64Encoder extends PlainEncoder {
  append(value: unknown): void {
    if (typeof value === 'bigint') this.data.bigU64(value);
    else this.data.bigU64(Number.isFinite(value) ? BigInt(Math.trunc(Number(value))) : 0n);
  }
}

class Float64Encoder extends PlainEncoder {
  append(value: unknown): void {
    this.data.f64(Number(value));
  }
}

class NullableFloat32Encoder extends PlainEncoder {
  readonly #nulls = new ByteBuffer();

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
}

/** A UUID is two 64-bit halves, each little-endian: bytes 7..0, then 15..8 of the text. */
class UuidEncoder extends PlainEncoder {
  append(value: unknown): void {
    const uuid = asText(value);
    if (uuid.length !== 36) {
      this.data.u64(0);
      this.data.u64(0);
      return;
    }
    for (const at of UUID_TEXT_POSITIONS) {
      this.data.u8(
        (HEX_VALUE[uuid.charCodeAt(at)] ?? 0) * 16 + (HEX_VALUE[uuid.charCodeAt(at + 1)] ?? 0),
      );
    }
  }
}

/** Where in the text each stored byte's two digits begin. */
const UUID_TEXT_POSITIONS = [16, 14, 11, 9, 6, 4, 2, 0, 34, 32, 30, 28, 26, 24, 21, 19] as const;
const HEX_VALUE = new Uint8Array(128);
for (let digit = 0; digit < 16; digit += 1) {
  HEX_VALUE[digit.toString(16).charCodeAt(0)] = digit;
  HEX_VALUE[digit.toString(16).toUpperCase().charCodeAt(0)] = digit;
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

  constructor() {
    this.reset();
  }

  append(value: unknown): void {
    const key = asText(value);
    let position = this.#positions.get(key);
    if (position === undefined) {
      position = this.#positions.size;
      this.#positions.set(key, position);
      this.#keys.text(key);
    }
    if (this.#count === this.#indexes.length) {
      const grown = new Uint32Array(this.#count * 2);
      grown.set(this.#indexes);
      this.#indexes = grown;
    }
    this.#indexes[this.#count++] = position;
  }

  writePrefix(out: ByteBuffer): void {
    out.u64(LOW_CARDINALITY_VERSION);
  }

  writeValues(out: ByteBuffer): void {
    // Without values (a column of empty arrays) the engine writes and reads nothing.
    if (this.#count === 0) return;
    const size = this.#positions.size;
    const width = size <= 0x100 ? 0 : size <= 0x1_0000 ? 1 : 2;
    out.u64(LOW_CARDINALITY_FLAGS | width);
    out.u64(size);
    out.bytes(this.#keys.view());
    out.u64(this.#count);
    for (let i = 0; i < this.#count; i += 1) {
      const index = this.#indexes[i] ?? 0;
      if (width === 0) out.u8(index);
      else if (width === 1) out.u16(index);
      else out.u32(index);
    }
  }

  reset(): void {
    this.#keys.reset();
    this.#positions.clear();
    this.#count = 0;
    // The default value comes first, as the engine itself writes it.
    this.#positions.set('', 0);
    this.#keys.text('');
  }
}

class ArrayEncoder implements ColumnEncoder {
  readonly #inner: ColumnEncoder;
  readonly #offsets = new ByteBuffer();
  #end = 0;

  constructor(inner: ColumnEncoder) {
    this.#inner = inner;
  }

  append(value: unknown): void {
    const items: readonly unknown[] = Array.isArray(value) ? value : [];
    for (const item of items) this.#inner.append(item);
    this.#end += items.length;
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
}

/** A map is an array of (key, value) pairs, keys and values apart. */
class MapEncoder implements ColumnEncoder {
  readonly #keys = new LowCardinalityEncoder();
  readonly #values = new StringEncoder();
  readonly #offsets = new ByteBuffer();
  #end = 0;

  append(value: unknown): void {
    const entries = typeof value === 'object' && value !== null ? Object.entries(value) : [];
    for (const [key, text] of entries) {
      this.#keys.append(key);
      this.#values.append(text);
    }
    this.#end += entries.length;
    this.#offsets.u64(this.#end);
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
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

const SCALAR_ENCODERS: Readonly<Record<ScalarType, () => ColumnEncoder>> = {
  String: () => new StringEncoder(),
  'LowCardinality(String)': () => new LowCardinalityEncoder(),
  UUID: () => new UuidEncoder(),
  "DateTime64(9, 'UTC')": () => new Integer64Encoder(),
  "DateTime('UTC')": () => new IntegerEncoder(0, 0xffff_ffff, (out, v) => out.u32(v)),
  Bool: () => new BooleanEncoder(),
  UInt8: () => new IntegerEncoder(0, 0xff, (out, v) => out.u8(v)),
  UInt16: () => new IntegerEncoder(0, 0xffff, (out, v) => out.u16(v)),
  UInt32: () => new IntegerEncoder(0, 0xffff_ffff, (out, v) => out.u32(v)),
  UInt64: () => new Integer64Encoder(),
  Int32: () => new IntegerEncoder(-0x8000_0000, 0x7fff_ffff, (out, v) => out.i32(v)),
  Int64: () => new Integer64Encoder(),
  Float64: () => new Float64Encoder(),
  'Nullable(Float32)': () => new NullableFloat32Encoder(),
};

class BooleanEncoder extends PlainEncoder {
  append(value: unknown): void {
    this.data.u8(value === true ? 1 : 0);
  }
}

function encoderOf(type: ColumnType): ColumnEncoder {
  if (type.startsWith('Array('))
    return new ArrayEncoder(encoderOf(type.slice('Array('.length, -1) as ColumnType));
  if (type === 'Map(LowCardinality(String), String)') return new MapEncoder();
  return SCALAR_ENCODERS[type as ScalarType]();
}

/** Collects rows of one table and writes them as one block. */
export class BlockBuilder<Row> {
  readonly #spec: TableSpec<Row>;
  readonly #encoders: readonly ColumnEncoder[];
  readonly #out = new ByteBuffer(64 * 1_024);
  #rows = 0;

  constructor(spec: TableSpec<Row>) {
    this.#spec = spec;
    this.#encoders = spec.columns.map((c) => encoderOf(c.type));
  }

  get rows(): number {
    return this.#rows;
  }

  append(row: Row): void {
    // All values first: a getter that throws must not leave columns of different lengths.
    const values = this.#spec.columns.map((c) => c.get(row));
    this.#encoders.forEach((encoder, i) => encoder.append(values[i]));
    this.#rows += 1;
  }

  /** The block's bytes, valid until the next call; empties the builder. */
  take(): Buffer {
    const out = this.#out;
    out.reset();
    out.varUint(this.#spec.columns.length);
    out.varUint(this.#rows);
    this.#spec.columns.forEach((column, i) => {
      out.text(column.name);
      out.text(column.type);
      const encoder = this.#encoders[i];
      encoder?.writePrefix(out);
      encoder?.writeValues(out);
      encoder?.reset();
    });
    this.#rows = 0;
    return out.view();
  }
}
