import { readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { param, sql } from '../../model/sql.ts';
import { openStore, type Store } from '../../store/client.ts';
import { forgetUnfinishedInserts } from '../../store/deduplication_logs.ts';
import { temporaryFolder } from '../harness.ts';

/**
 * A killed process may leave the note of an insert without its rows: the engine writes the note first. Here the real
 * engine makes both, and what the kill would have kept from happening is undone on the disk.
 */
const folder = temporaryFolder();
const engine = join(folder.path, 'clickhouse');
let store: Store | undefined;

async function withStore<T>(work: (opened: Store) => Promise<T>): Promise<T> {
  store = openStore({ dataDir: folder.path });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}
afterAll(() => folder.remove());

/** Where a table's parts lie. */
async function folderOf(opened: Store, table: string): Promise<string> {
  const [row] = await opened.query<{ path: string }>(
    sql`SELECT data_paths[1] AS path FROM system.tables WHERE concat(database, '.', name) = ${param.string(table)}`,
  );
  return row?.path ?? '';
}

function partsOf(path: string): string[] {
  return readdirSync(path).filter((name) => /^all_\d+_\d+_\d+$/.test(name));
}

async function counts(opened: Store): Promise<{ base: number; view: number }> {
  const [row] = await opened.query<{ base: number; view: number }>(
    sql`SELECT (SELECT toUInt32(count()) FROM probe.base) AS base, (SELECT toUInt32(sum(n)) FROM probe.view) AS view`,
  );
  return row ?? { base: -1, view: -1 };
}

const insert = (opened: Store, token: string, rows: number): Promise<void> =>
  opened.insertRows(
    'probe.base',
    Array.from({ length: rows }, (_, a) => ({ a })),
    token,
  );

describe('the engine’s memory of inserts', () => {
  let base = '';
  let view = '';

  it('is whole after a stop: repeats count once, also of parts that were merged away', async () => {
    await withStore(async (opened) => {
      await opened.command(sql`CREATE DATABASE probe`);
      for (const statement of [
        sql`CREATE TABLE probe.base (a UInt32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100, old_parts_lifetime = 1`,
        sql`CREATE TABLE probe.view (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 100, max_bytes_to_merge_at_max_space_in_pool = 1`,
        sql`CREATE MATERIALIZED VIEW probe.counting TO probe.view AS SELECT count() AS n FROM probe.base`,
      ])
        await opened.command(statement);
      base = await folderOf(opened, 'probe.base');
      view = await folderOf(opened, 'probe.view');
      for (const token of ['one', 'two', 'three']) await insert(opened, token, 10);
      await opened.command(sql`OPTIMIZE TABLE probe.base FINAL`);
      // From here on no part is merged, so that what an insert made can be told.
      await opened.command(
        sql`ALTER TABLE probe.base MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1`,
      );
    });
    for (const name of ['all_1_1_0', 'all_2_2_0', 'all_3_3_0'])
      rmSync(join(base, name), { recursive: true, force: true });
    expect(forgetUnfinishedInserts(engine)).toBe(0);
    await withStore(async (opened) => {
      for (const token of ['one', 'two', 'three']) await insert(opened, token, 10);
      expect(await counts(opened)).toEqual({ base: 30, view: 30 });
    });
  });

  it('forgets an insert whose part did not come to be, in a table and in a view apart', async () => {
    await withStore((opened) => insert(opened, 'four', 5));
    const made = partsOf(base).find((name) => !name.startsWith('all_1_'));
    expect(made).toMatch(/^all_\d+_\d+_0$/);
    renameSync(join(base, made ?? ''), join(base, `tmp_insert_${made}`));
    await withStore(async (opened) => {
      expect(await counts(opened)).toEqual({ base: 30, view: 35 });
      await insert(opened, 'four', 5);
      expect(await counts(opened)).toEqual({ base: 35, view: 35 });
    });

    const before = partsOf(view);
    await withStore((opened) => insert(opened, 'five', 7));
    const added = partsOf(view).filter((name) => !before.includes(name));
    expect(added).toHaveLength(1);
    renameSync(join(view, added[0] ?? ''), join(view, `tmp_insert_${added[0]}`));
    await withStore(async (opened) => {
      expect(await counts(opened)).toEqual({ base: 42, view: 35 });
      await insert(opened, 'five', 7);
      expect(await counts(opened)).toEqual({ base: 42, view: 42 });
      await insert(opened, 'five', 7);
      expect(await counts(opened)).toEqual({ base: 42, view: 42 });
    });
    expect(forgetUnfinishedInserts(engine)).toBe(0);
  });

  it('says nothing of a folder that is not there', () => {
    expect(forgetUnfinishedInserts(join(folder.path, 'nothing'))).toBe(0);
  });
});
