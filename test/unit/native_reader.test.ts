import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockBuilder } from '../../collector/spool/native_block.ts';
import {
  filterBlock,
  lowCardinalityOf,
  readBlock,
  uuidAt,
} from '../../collector/spool/native_reader.ts';
import type { ColumnType, TableSpec } from '../../model/table_spec.ts';
import { emptyRow, readRows } from '../simulation/native_rows.ts';

// Leaving rows out of a block gives what writing the others alone gives, for every type a segment can hold.

type Row = Readonly<Record<string, unknown>>;
const TYPES: Readonly<Record<string, ColumnType>> = {
  u: 'UUID',
  lc: 'LowCardinality(String)',
  s: 'String',
  t: "DateTime64(9, 'UTC')",
  dt: "DateTime('UTC')",
  b: 'Bool',
  u8: 'UInt8',
  u16: 'UInt16',
  u32: 'UInt32',
  u64: 'UInt64',
  i32: 'Int32',
  i64: 'Int64',
  f64: 'Float64',
  nf: 'Nullable(Float32)',
  m: 'Map(LowCardinality(String), String)',
  as: 'Array(String)',
  alc: 'Array(LowCardinality(String))',
  au: 'Array(UUID)',
  at: "Array(DateTime64(9, 'UTC'))",
  am: 'Array(Map(LowCardinality(String), String))',
};
const spec: TableSpec<Row> = {
  table: 'grantscope.native_test',
  columns: Object.entries(TYPES).map(([name, type]) => ({ name, type, get: (row) => row[name] })),
};

const text = fc.string({ unit: 'binary', maxLength: 200 }).filter((s) => s.isWellFormed());
const few = fc.oneof(fc.constantFrom('', 'a', 'b'), text);
const ns = fc.bigInt(0n, 4_000_000_000_000_000_000n);
const map = fc.dictionary(
  few.filter((k) => k !== '__proto__'),
  text,
  { maxKeys: 3 },
);
const row = fc.record({
  u: fc.uuid(),
  lc: few,
  s: text,
  t: ns,
  dt: fc.nat(),
  b: fc.boolean(),
  u8: fc.nat(255),
  u16: fc.nat(65_535),
  u32: fc.nat(),
  u64: ns,
  i32: fc.integer(),
  i64: fc.integer(),
  f64: fc.double({ noNaN: true }),
  nf: fc.option(fc.float({ noNaN: true })),
  m: map,
  as: fc.array(text, { maxLength: 3 }),
  alc: fc.array(few, { maxLength: 3 }),
  au: fc.array(fc.uuid(), { maxLength: 3 }),
  at: fc.array(ns, { maxLength: 3 }),
  am: fc.array(map, { maxLength: 2 }),
});

const EMPTY = emptyRow(Object.keys(TYPES), Object.values(TYPES));
/** Columns that are in every block. */
const ALWAYS = ['u', 't', 'dt', 'u64', 'i64', 'f64'];

function hasNothing(value: unknown, empty: unknown): boolean {
  if (typeof value !== 'object' || value === null) return (value === false ? 0 : value) === empty;
  return Object.keys(value).length === 0;
}
const whole = (rows: readonly object[]): object[] => rows.map((r) => ({ ...EMPTY, ...r }));

function blockOf(rows: readonly Row[]): Buffer {
  const builder = new BlockBuilder(spec);
  builder.append(rows);
  return Buffer.from(builder.take());
}

describe('a block without some of its rows', () => {
  it('holds the others, as if they had been written alone', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(row, fc.boolean()), { minLength: 1, maxLength: 12 }),
        (rows) => {
          const isKept = Uint8Array.from(rows, ([, kept]) => (kept ? 1 : 0));
          fc.pre(isKept.includes(1));
          const bytes = blockOf(rows.map(([r]) => r));
          const alone = blockOf(rows.filter(([, kept]) => kept).map(([r]) => r));
          expect(whole(readRows(filterBlock(bytes, isKept)))).toEqual(whole(readRows(alone)));
        },
      ),
    );
  });

  it('is the block itself when all are kept', () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 5 }), (rows) => {
        const bytes = blockOf(rows);
        expect(filterBlock(bytes, new Uint8Array(rows.length).fill(1)).equals(bytes)).toBe(true);
      }),
    );
  });

  it('works with dictionaries of more than 256 and of more than 65,536 texts', () => {
    for (const count of [300, 70_000]) {
      const narrow: TableSpec<Row> = {
        table: 'grantscope.native_test',
        columns: spec.columns.filter((c) => c.name === 'lc' || c.name === 'u8'),
      };
      const builder = new BlockBuilder(narrow);
      builder.append(Array.from({ length: count }, (_, i) => ({ lc: `text-${i}`, u8: i % 256 })));
      const isKept = Uint8Array.from({ length: count }, (_, i) => (i % 7 === 3 ? 1 : 0));
      const kept = readRows(filterBlock(Buffer.from(builder.take()), isKept));
      expect(kept).toHaveLength(Math.ceil((count - 3) / 7));
      expect(kept.at(-1)).toEqual({
        lc: `text-${(kept.length - 1) * 7 + 3}`,
        u8: ((kept.length - 1) * 7 + 3) % 256,
      });
    }
  });
});

describe('reading a block', () => {
  it('finds columns, ids and dictionary texts, and stops where it is told', () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 5 }), (rows) => {
        const bytes = blockOf(rows);
        const isEmpty = (name: string): boolean =>
          !ALWAYS.includes(name) && rows.every((r) => hasNothing((r as Row)[name], EMPTY[name]));
        const written = Object.keys(TYPES).filter((name) => !isEmpty(name));
        expect(readBlock(bytes).columns.map((c) => c.name)).toEqual(written);
        expect(readBlock(bytes).columns.at(-1)?.end).toBe(bytes.length);
        const block = readBlock(bytes, 'lc');
        expect(block.columns.map((c) => c.name)).toEqual(
          written.includes('lc') ? ['u', 'lc'] : written,
        );
        const textOf = lowCardinalityOf(bytes, block, 'lc');
        rows.forEach((r, i) => {
          expect(textOf(i)).toBe(r.lc);
          expect(uuidAt(bytes, block.columns[0]!.start + i * 16)).toBe(r.u);
        });
      }),
    );
  });

  it('throws on a block that is cut off, wherever', () => {
    const bytes = blockOf([{ u: '3f2504e0-4f89-41d3-9a0c-0305e82c3301', s: 'abc', as: ['x'] }]);
    for (let cut = 0; cut < bytes.length; cut += 1)
      expect(() => readBlock(bytes.subarray(0, cut))).toThrow();
  });
});
