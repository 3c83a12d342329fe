import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { completeEvent } from '../../model/complete_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { param, sql } from '../../model/sql.ts';
import { openStore } from '../../store/client.ts';
import { holderOf } from '../../store/data_dir_lock.ts';
import { defaultEngineMemory } from '../../store/embedded_engine.ts';
import { insertEvents } from '../../store/insert.ts';
import { migrate, splitStatements } from '../../store/migrate.ts';
import { applyRetention } from '../../store/retention.ts';
import { openTestStore, temporaryFolder } from '../harness.ts';

let opened: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  opened = await openTestStore();
});
afterAll(async () => opened.close());

describe('schema', () => {
  it('has the columns and types that the segments are written with', async () => {
    const rows = await opened.store.query<{ name: string; type: string }>(
      sql`SELECT name, type FROM system.columns WHERE database = 'grantscope' AND table = 'auth_events' AND name != 'inserted_at' ORDER BY position`,
    );
    expect(rows).toEqual(authEventsTable.columns.map((c) => ({ name: c.name, type: c.type })));
  });

  it('is on the disk before a segment of the durable buffer is forgotten', async () => {
    const rows = await opened.store.query<{ name: string; isDurable: number }>(
      sql`SELECT name, create_table_query LIKE '%fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 60%' AS isDurable FROM system.tables WHERE database = 'grantscope' AND engine LIKE '%MergeTree' ORDER BY name`,
    );
    expect(rows.length).toBeGreaterThan(20);
    expect(rows.filter((r) => r.isDurable === 0).map((r) => r.name)).toEqual([]);
  });

  it('is held by an engine whose memory is bounded', async () => {
    const rows = await opened.store.query<{ name: string; value: string }>(
      sql`SELECT name, value FROM system.server_settings WHERE name IN ('mark_cache_size', 'index_mark_cache_size', 'primary_index_cache_size', 'query_condition_cache_size', 'compiled_expression_cache_size', 'max_server_memory_usage') ORDER BY name`,
    );
    expect(rows).toEqual([
      { name: 'compiled_expression_cache_size', value: '33554432' },
      { name: 'index_mark_cache_size', value: '67108864' },
      { name: 'mark_cache_size', value: '268435456' },
      { name: 'max_server_memory_usage', value: String(defaultEngineMemory()) },
      { name: 'primary_index_cache_size', value: '67108864' },
      { name: 'query_condition_cache_size', value: '33554432' },
    ]);
  });

  it('is migrated once', async () => {
    expect(await migrate(opened.store)).toEqual([]);
  });

  it('lists each mentioned token in the ledger', async () => {
    const ref = '9f86d081-884c-7d65-9a2f-eaa0c55ad015';
    const event = completeEvent({
      event_id: '00000000-0000-4000-8000-000000000001',
      tenant: 'ledger',
      time: 1_700_000_000_123_456_789n,
      kind: 'token_issued',
      tokens: [
        { role: 'issued', type: 'access', ref, expires_at: 1_700_000_300_000_000_000n },
        { role: 'consumed', type: 'code', ref: '' },
      ],
    });
    await insertEvents(opened.store, [event]);
    expect(
      await opened.store.query(
        sql`SELECT token_role, token_ref, toString(time) AS time, toUnixTimestamp(expires_at) AS expires, counter FROM grantscope.token_events WHERE tenant = ${param.string('ledger')} ORDER BY token_role`,
      ),
    ).toEqual([
      {
        token_role: 'consumed',
        token_ref: '00000000-0000-0000-0000-000000000000',
        time: '2023-11-14 22:13:20.123456789',
        expires: 0,
        counter: -1,
      },
      {
        token_role: 'issued',
        token_ref: ref,
        time: '2023-11-14 22:13:20.123456789',
        expires: 1_700_000_300,
        counter: -1,
      },
    ]);
  });

  it('keeps hostile text as it is', async () => {
    const hostile = `'); DROP TABLE grantscope.auth_events; -- \\ {p0:String} \n\t\u0000 <script> ${'"'.repeat(3)}`;
    await insertEvents(opened.store, [
      completeEvent({
        event_id: '00000000-0000-4000-8000-000000000002',
        tenant: 'hostile',
        time: 1n,
        kind: 'login',
        client: { id: hostile },
      }),
    ]);
    expect(
      await opened.store.query(
        sql`SELECT client_id FROM grantscope.auth_events WHERE client_id = ${param.string(hostile)}`,
      ),
    ).toEqual([{ client_id: hostile }]);
  });

  it('sets the retention once and changes it when told', async () => {
    const ttlOf = async (): Promise<string> => {
      const [row] = await opened.store.query<{ q: string }>(
        sql`SELECT create_table_query AS q FROM system.tables WHERE database = 'grantscope' AND name = 'auth_events'`,
      );
      return /TTL .*?toIntervalDay\((\d+)\)/.exec(row?.q ?? '')?.[1] ?? 'none';
    };
    await applyRetention(opened.store, {
      events_days: 90,
      traces_days: 14,
      findings_days: 730,
      dead_letters_days: 30,
    });
    expect(await ttlOf()).toBe('90');
    await applyRetention(opened.store, {
      events_days: 30,
      traces_days: 14,
      findings_days: 730,
      dead_letters_days: 30,
    });
    expect(await ttlOf()).toBe('30');
  });
});

describe('openStore', () => {
  it('refuses a data directory that a living process holds, and takes over from a dead one', async () => {
    const folder = temporaryFolder();
    // A store in another process: the engine allows one data directory per process.
    const script = `import { openStore } from ${JSON.stringify(new URL('../../store/client.ts', import.meta.url).href)};
      openStore({ dataDir: ${JSON.stringify(folder.path)} }); process.stdout.write('open'); setInterval(() => {}, 1000);`;
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', script],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(child.stdout, 'data');
    expect(holderOf(folder.path)).toBe(child.pid);
    expect(() => openStore({ dataDir: folder.path })).toThrow(
      `${folder.path} is in use by the Grantscope process ${child.pid}`,
    );
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(holderOf(folder.path)).toBeUndefined();
    folder.remove();
  });
});

describe('splitStatements', () => {
  it('cuts at semicolons that end a line and drops comment lines', () => {
    expect(splitStatements("-- a; comment\nCREATE x;\n\nSELECT ';' AS y\nFROM z;\n")).toEqual([
      'CREATE x',
      "SELECT ';' AS y\nFROM z",
    ]);
  });
});
