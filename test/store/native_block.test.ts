import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BlockBuilder } from '../../collector/spool/native_block.ts';
import type { ColumnType, TableSpec } from '../../model/table_spec.ts';
import { identifier, param, sql, Sql } from '../../model/sql.ts';
import { openTestStore } from '../harness.ts';

// Blocks written by us are read back by the real engine: every type, random values, many blocks a file.

let opened: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  opened = await openTestStore();
});
afterAll(async () => opened.close());

type Row = Readonly<Record<string, unknown>>;
const TYPES: Readonly<Record<string, ColumnType>> = {
  s: 'String',
  lc: 'LowCardinality(String)',
  u: 'UUID',
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
  columns: Object.entries(TYPES).map(([name, type]) => ({
    name,
    type,
    get: (row: Row) => row[name],
  })),
};

const text = fc.string({ unit: 'binary', maxLength: 60 }).filter((s) => s.isWellFormed());
const uuid = fc.uuid();
const ns = fc.bigInt(0n, 4_000_000_000_000_000_000n);
const map = fc.dictionary(
  text.filter((k) => k !== '__proto__'),
  text,
  { maxKeys: 4 },
);
const row = fc.record({
  s: text,
  lc: fc.oneof(fc.constantFrom('', 'token_issued', 'kc'), text),
  u: uuid,
  t: ns,
  dt: fc.nat(0xffff_ffff),
  b: fc.boolean(),
  u8: fc.nat(0xff),
  u16: fc.nat(0xffff),
  u32: fc.nat(0xffff_ffff),
  u64: fc.bigInt(0n, 2n ** 64n - 1n),
  i32: fc.integer(),
  i64: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  f64: fc.double({ noNaN: true, noDefaultInfinity: true }),
  nf: fc.oneof(fc.constant(null), fc.float({ noNaN: true, noDefaultInfinity: true })),
  m: map,
  as: fc.array(text, { maxLength: 3 }),
  alc: fc.array(text, { maxLength: 3 }),
  au: fc.array(uuid, { maxLength: 3 }),
  at: fc.array(ns, { maxLength: 3 }),
  am: fc.array(map, { maxLength: 3 }),
});

/** What the engine prints for a row, so that both sides compare as text. */
function printed(r: Row): unknown {
  const nsText = (v: bigint): string => v.toString();
  return {
    ...r,
    t: nsText(r['t'] as bigint),
    u64: String(r['u64']),
    i64: String(r['i64']),
    f64: (r['f64'] as number) + 0,
    nf: r['nf'] === null ? null : float32Bits(r['nf'] as number),
    at: (r['at'] as bigint[]).map(nsText),
    m: sortedPairs(Object.entries(r['m'] as object)),
    am: (r['am'] as object[]).map((m) => sortedPairs(Object.entries(m))),
  };
}

async function readBack(file: string): Promise<unknown[]> {
  const structure = Object.entries(TYPES)
    .map(([n, t]) => `${n} ${t}`)
    .join(', ');
  const rows = await opened.store.query<Record<string, unknown>>(
    sql`SELECT * REPLACE (
      toString(toUnixTimestamp64Nano(t)) AS t, toUnixTimestamp(dt) AS dt, toString(u64) AS u64, toString(i64) AS i64, reinterpretAsUInt32(nf) AS nf,
      arrayMap(x -> toString(toUnixTimestamp64Nano(x)), at) AS at,
      arrayZip(mapKeys(m), mapValues(m)) AS m,
      arrayMap(x -> arrayZip(mapKeys(x), mapValues(x)), am) AS am
    ) FROM file(${param.string(file)}, Native, ${param.string(structure)})`,
  );
  return rows.map((r) => ({
    ...r,
    m: sortedPairs(r['m'] as [string, string][]),
    am: (r['am'] as [string, string][][]).map(sortedPairs),
  }));
}

/** Compared by its bits: the engine prints the shortest text of a 32-bit float, JavaScript that of a 64-bit one. */
function float32Bits(value: number): number {
  return new Uint32Array(new Float32Array([value]).buffer)[0]!;
}

function sortedPairs<T>(pairs: readonly [string, T][]): [string, T][] {
  return [...pairs].sort(([a], [b]) => (a < b ? -1 : 1));
}

describe('BlockBuilder', () => {
  it('is read by the engine exactly as written, over any values and any cut into blocks', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(row, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 4 }),
        async (blocks) => {
          const file = join(opened.dataDir, `property-${(run += 1)}.native`);
          const builder = new BlockBuilder(spec);
          writeFileSync(file, '');
          for (const rows of blocks) {
            builder.append(rows);
            appendFileSync(file, builder.take());
          }
          const expected = blocks
            .flat()
            .map((r) => JSON.stringify(sorted(printed(r))))
            .sort();
          const found = (await readBack(file)).map((r) => JSON.stringify(sorted(r))).sort();
          expect(found).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('writes dictionaries wider than 256 and 65,536 keys', async () => {
    const wide: TableSpec<string> = {
      table: 'grantscope.wide',
      columns: [{ name: 'lc', type: 'LowCardinality(String)', get: (v) => v }],
    };
    for (const count of [300, 70_000]) {
      const builder = new BlockBuilder(wide);
      for (let i = 0; i < count; i += 1) builder.append([`value-${i}`]);
      const file = join(opened.dataDir, `wide-${count}.native`);
      writeFileSync(file, builder.take());
      const [found] = await opened.store.query<{ n: number; last: string }>(
        sql`SELECT toUInt32(uniqExact(lc)) AS n, maxIf(lc, lc LIKE 'value-99%') AS last FROM file(${param.string(file)}, Native)`,
      );
      expect(found).toEqual({ n: count, last: count === 300 ? 'value-99' : 'value-9999' });
    }
  });

  it('clamps numbers beyond their type and reads wrong kinds as the default, so that no row fails a batch', async () => {
    const builder = new BlockBuilder(spec);
    builder.append([
      {
        u8: 300,
        u16: -5,
        u32: 2 ** 40,
        i32: -(2 ** 40),
        u64: Number.NaN,
        f64: 1.5,
        nf: Number.NaN,
        u: 'x',
        s: 7,
        as: 'no array',
        m: null,
        t: 0n,
        dt: 1e18,
      },
    ]);
    const file = join(opened.dataDir, 'clamped.native');
    // A block lacks columns in which no row has anything; the types say what they are.
    const structure = spec.columns.map((c) => `\`${c.name}\` ${c.type}`).join(', ');
    writeFileSync(file, builder.take());
    const [found] = await opened.store.query<Record<string, unknown>>(
      sql`SELECT u8, u16, u32, i32, toString(u64) AS u64, nf, toString(u) AS u, s, as, toUnixTimestamp(dt) AS dt FROM file(${param.string(file)}, Native, ${param.string(structure)})`,
    );
    expect(found).toEqual({
      u8: 255,
      u16: 0,
      u32: 4_294_967_295,
      i32: -2_147_483_648,
      u64: '0',
      nf: null,
      u: '00000000-0000-0000-0000-000000000000',
      s: '',
      as: [],
      dt: 4_294_967_295,
    });
  });

  it('leaves the builder as it was when a value cannot be read', async () => {
    const throwing: TableSpec<{ ok: boolean }> = {
      table: 'grantscope.throwing',
      columns: [
        { name: 'a', type: 'UInt8', get: () => 1 },
        {
          name: 'b',
          type: 'UInt8',
          get: (r) => {
            if (!r.ok) throw new Error('unreadable');
            return 2;
          },
        },
      ],
    };
    const builder = new BlockBuilder(throwing);
    builder.append([{ ok: true }]);
    expect(() => builder.append([{ ok: true }, { ok: false }])).toThrow('unreadable');
    const file = join(opened.dataDir, 'throwing.native');
    writeFileSync(file, builder.take());
    expect(
      await opened.store.query(sql`SELECT a, b FROM file(${param.string(file)}, Native)`),
    ).toEqual([{ a: 1, b: 2 }]);
  });
});

describe('insertNative', () => {
  it('counts a repeated segment of many blocks once, in the table and in a view, and a next one anew', async () => {
    const table: TableSpec<{ id: bigint; day: bigint }> = {
      table: 'grantscope.dedup_base',
      columns: [
        { name: 'id', type: 'UInt64', get: (r) => r.id },
        { name: 't', type: "DateTime64(9, 'UTC')", get: (r) => r.day * 86_400_000_000_000n },
      ],
    };
    for (const statement of [
      "CREATE TABLE grantscope.dedup_base (id UInt64, t DateTime64(9, 'UTC')) ENGINE = MergeTree PARTITION BY toDate(t) ORDER BY id SETTINGS non_replicated_deduplication_window = 1000",
      'CREATE TABLE grantscope.dedup_roll (k UInt8, c SimpleAggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = 1000',
      'CREATE MATERIALIZED VIEW grantscope.dedup_mv TO grantscope.dedup_roll AS SELECT 1 AS k, toUInt64(count()) AS c FROM grantscope.dedup_base GROUP BY k',
    ]) {
      await opened.store.command(new Sql([statement], []));
    }
    const counts = async (): Promise<unknown> =>
      (
        await opened.store.query(
          sql`SELECT (SELECT toUInt32(count()) FROM ${identifier('grantscope.dedup_base')}) AS base, (SELECT toUInt32(sum(c)) FROM grantscope.dedup_roll) AS rolled`,
        )
      )[0];
    const builder = new BlockBuilder(table);
    for (const segment of ['a', 'b']) {
      const file = join(opened.dataDir, `dedup-${segment}.native`);
      writeFileSync(file, '');
      for (let block = 0; block < 40; block += 1) {
        // 150 days: more partitions than one insert may touch by default.
        for (let i = 0; i < 50; i += 1)
          builder.append([
            {
              id: BigInt(block * 50 + i),
              day: BigInt(20_000 + ((block * 50 + i) % 150)),
            },
          ]);
        appendFileSync(file, builder.take());
      }
      const insert = {
        table: 'grantscope.dedup_base',
        columns: ['id', 't'],
        file,
        deduplicationToken: `segment-${segment}`,
      };
      await opened.store.insertNative(insert);
      await opened.store.insertNative(insert);
      await opened.store.insertRows(
        'grantscope.dedup_base',
        [{ id: '1', t: '2026-01-01 00:00:00' }],
        `row-${segment}`,
      );
      expect(await counts()).toEqual(
        segment === 'a' ? { base: 2_001, rolled: 2_001 } : { base: 4_002, rolled: 4_002 },
      );
    }
  });
});

function sorted(value: unknown): unknown {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
}
