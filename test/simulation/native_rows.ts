import type { ColumnType } from '../../model/table_spec.ts';

/** Reads blocks of ClickHouse's Native format into rows: a reader of its own, so that it can judge the writer. */
export function readRows(bytes: Buffer): Record<string, unknown>[] {
  const rows: Record<string, unknown>[] = [];
  const reader = new Reader(bytes);
  while (!reader.isAtEnd) {
    const columns = reader.varUint();
    const count = reader.varUint();
    const block: Record<string, unknown>[] = Array.from({ length: count }, () => ({}));
    for (let c = 0; c < columns; c += 1) {
      const name = reader.text();
      const type = reader.text() as ColumnType;
      if (type.includes('LowCardinality')) reader.u64();
      reader.values(type, count).forEach((value, i) => (block[i]![name] = value));
    }
    rows.push(...block);
  }
  return rows;
}

/** What the engine takes for columns that a block lacks, by name. */
export function emptyRow(
  columns: readonly string[],
  types: readonly string[],
): Readonly<Record<string, unknown>> {
  return Object.fromEntries(columns.map((name, i) => [name, emptyValue(types[i] ?? '')]));
}

function emptyValue(type: string): unknown {
  if (type.startsWith('Array(')) return [];
  if (type.startsWith('Map(')) return {};
  if (type.startsWith('Nullable(')) return null;
  if (type === 'UUID') return '00000000-0000-0000-0000-000000000000';
  if (type.endsWith('String)') || type === 'String') return '';
  if (type.startsWith('DateTime64') || type.endsWith('Int64')) return 0n;
  // As this reader reads it, Bool is a byte.
  return 0;
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  varUint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes.readUInt8(this.#at++);
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  }

  u64(): bigint {
    return this.#take(8).readBigUInt64LE();
  }

  text(): string {
    return this.#take(this.varUint()).toString('utf8');
  }

  values(type: ColumnType, count: number): unknown[] {
    if (type.startsWith('Array(')) {
      const inner = type.slice(6, -1) as ColumnType;
      return this.#lists(count, (n) => this.values(inner, n));
    }
    if (type.startsWith('Map(')) {
      return this.#lists(count, (n) => {
        const keys = this.values('LowCardinality(String)', n);
        const values = this.values('String', n);
        return keys.map((key, i) => [key, values[i]]);
      }).map((pairs) => Object.fromEntries(pairs as [string, unknown][]));
    }
    if (type === 'LowCardinality(String)') return this.#lowCardinality(count);
    if (type === 'Nullable(Float32)') {
      const nulls = this.#many(count, () => this.#take(1)[0] === 1);
      const values = this.#many(count, () => this.#take(4).readFloatLE());
      return values.map((v, i) => (nulls[i] === true ? null : v));
    }
    return this.#many(count, () => this.#scalar(type));
  }

  #scalar(type: ColumnType): unknown {
    switch (type) {
      case 'String':
        return this.text();
      case 'UUID': {
        const hex = [this.#take(8), this.#take(8)]
          .map((half) => Buffer.from(half).reverse().toString('hex'))
          .join('');
        return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
      }
      case "DateTime64(9, 'UTC')":
      case 'Int64':
        return this.#take(8).readBigInt64LE();
      case 'UInt64':
        return this.u64();
      case "DateTime('UTC')":
      case 'UInt32':
        return this.#take(4).readUInt32LE();
      case 'Int32':
        return this.#take(4).readInt32LE();
      case 'Float64':
        return this.#take(8).readDoubleLE();
      case 'UInt16':
        return this.#take(2).readUInt16LE();
      case 'UInt8':
      case 'Bool':
        return this.#take(1)[0];
      default:
        throw new TypeError(`a block has a column of type ${type}`);
    }
  }

  #lowCardinality(count: number): unknown[] {
    if (count === 0) return [];
    const width = [1, 2, 4][Number(this.u64() & 0xffn)]!;
    const keys = this.#many(Number(this.u64()), () => this.text());
    if (Number(this.u64()) !== count) throw new RangeError('a dictionary of another length');
    return this.#many(count, () => {
      const index = this.#take(width).readUIntLE(0, width);
      if (index >= keys.length) throw new RangeError('an index beyond the dictionary');
      return keys[index];
    });
  }

  #lists(count: number, items: (n: number) => unknown[]): unknown[][] {
    const ends = this.#many(count, () => Number(this.u64()));
    const all = items(ends.at(-1) ?? 0);
    return ends.map((end, i) => all.slice(i === 0 ? 0 : ends[i - 1], end));
  }

  #many<T>(count: number, one: () => T): T[] {
    if (count > this.#bytes.length * 8) throw new RangeError('more values than bytes');
    return Array.from({ length: count }, one);
  }

  #take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new RangeError('the block ends too soon');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}
