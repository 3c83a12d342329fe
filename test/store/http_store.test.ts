import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BlockBuilder } from '../../collector/spool/native_block.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { param, sql } from '../../model/sql.ts';
import { openStore, type Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { migrate } from '../../store/migrate.ts';
import { applyRetention } from '../../store/retention.ts';
import { findStoredEvents } from '../../store/stored_events.ts';
import { FAULTS } from '../clickhouse_stand_in/faults.ts';
import { StandIn } from '../clickhouse_stand_in/stand_in.ts';
import { temporaryFolder } from '../harness.ts';

// The server way of the store, over HTTP, against a stand-in whose rows are real and whose faults are chosen.

const folder = temporaryFolder();
const ANSWER_MS_MAX = 4_000;
let standIn: StandIn;
let store: Store;

beforeAll(async () => {
  standIn = await StandIn.start(join(folder.path, 'clickhouse'));
  store = openAt(ANSWER_MS_MAX);
});
afterEach(() => standIn.heal());
afterAll(async () => {
  await store.close();
  await standIn.kill();
  folder.remove();
});

function openAt(timeoutMs: number): Store {
  const server = { url: standIn.url, username: undefined, password: undefined, timeoutMs };
  return openStore({ dataDir: folder.path, server });
}

let numbers = 0;
function events(count: number): AuthEvent[] {
  return Array.from({ length: count }, () => {
    numbers += 1;
    return completeEvent({
      event_id: `00000000-0000-4000-8000-${numbers.toString(16).padStart(12, '0')}`,
      time: 1_772_323_200_000_000_000n + BigInt(numbers),
      kind: 'token_issued',
      outcome: 'success',
      grant_type: 'client_credentials',
      client: { id: "it's a\ttab \\ and ünïcode" },
      scopes_granted: ['openid', 'a b'],
      ext: { key: 'value' },
      tokens: [{ role: 'issued', type: 'access', ref: '3f2504e0-4f89-41d3-9a0c-0305e82c3301' }],
    });
  });
}

function segmentOf(rows: readonly AuthEvent[]): string {
  const builder = new BlockBuilder(authEventsTable);
  builder.append(rows);
  const file = join(folder.path, `segment-${numbers}.native`);
  writeFileSync(file, builder.take());
  return file;
}

function insertOf(rows: readonly AuthEvent[], into = store): () => Promise<void> {
  const file = segmentOf(rows);
  const columns = authEventsTable.columns.map((c) => c.name);
  const deduplicationToken = `segment-${numbers}`;
  const table = authEventsTable.table;
  return () => into.insertNative({ table, columns, file, deduplicationToken });
}

/** Rows of these events in the table and its views. */
async function countsOf(rows: readonly AuthEvent[]): Promise<unknown> {
  const ids = param.uuids(rows.map((e) => e.event_id));
  const [counts] = await store.query(
    sql`SELECT (SELECT toUInt32(count()) FROM grantscope.auth_events WHERE event_id IN ${ids}) AS base,
               (SELECT toUInt32(count()) FROM grantscope.token_events WHERE event_id IN ${ids}) AS tokens`,
  );
  return counts;
}

describe('a store on a ClickHouse server', () => {
  it('migrates, once', async () => {
    expect(await store.ping()).toBe(true);
    expect((await migrate(store)).length).toBeGreaterThan(5);
    expect(await migrate(store)).toEqual([]);
    const retention = { events_days: 3_000, traces_days: 14, findings_days: 730 };
    await applyRetention(store, { ...retention, dead_letters_days: 30 });
  });

  it('takes a segment as a request body, once for a token, also in the views', async () => {
    const rows = events(300);
    const insert = insertOf(rows);
    await insert();
    await insert();
    expect(await countsOf(rows)).toEqual({ base: 300, tokens: 300 });
  });

  it('brings every text back as it was, through parameters too', async () => {
    const [row] = events(1);
    await insertEvents(store, [row!], 'one');
    await insertEvents(store, [row!], 'one');
    const found = await store.query(
      sql`SELECT event_id, client_id, scopes_granted, ext FROM grantscope.auth_events
          WHERE client_id = ${param.string(row!.client.id)} AND event_id IN ${param.uuids([row!.event_id])}
            AND has(scopes_granted, ${param.strings(row!.scopes_granted)}[2])`,
    );
    expect(found).toEqual([
      {
        event_id: row!.event_id,
        client_id: row!.client.id,
        scopes_granted: ['openid', 'a b'],
        ext: { key: 'value' },
      },
    ]);
  });

  it('looks thousands of ids up', async () => {
    const rows = events(3_000);
    await insertOf(rows)();
    const [first] = rows;
    const last = rows.at(-1)!;
    const ids = [...rows.map((e) => e.event_id), '00000000-0000-4000-8000-ffffffffffff'];
    const found = await findStoredEvents(store, 'default', ids, first!.time, last.time);
    expect(new Set(found.map((e) => e.event_id)).size).toBe(3_000);
    expect(found.find((e) => e.event_id === last.event_id)).toEqual({
      event_id: last.event_id,
      time: last.time.toString(),
      kind: 'token_issued',
      phase: 'single',
      outcome: 'success',
      source_instance: '',
    });
    expect(await findStoredEvents(store, 'other', ids, first!.time, last.time)).toEqual([]);
    expect(await findStoredEvents(store, 'default', ids, last.time, last.time)).toHaveLength(1);
  });

  it('takes one insert over more days than a server allows by itself', async () => {
    const day = 86_400_000_000_000n;
    const rows = events(120).map((e, i) => ({ ...e, time: e.time - BigInt(i) * day }));
    const patient = openAt(60_000);
    const insert = insertOf(rows, patient);
    await insert();
    await insert();
    await patient.close();
    expect(await countsOf(rows)).toEqual({ base: 120, tokens: 120 });
  });

  const PASSING = FAULTS.filter((fault) => fault !== 'slow');
  it.each(PASSING)(
    'reports an insert as failed for now when it meets %s, and counts it once',
    async (fault) => {
      const rows = events(50);
      const insert = insertOf(rows);
      await standIn.fail([fault], 1);
      await expect(insert()).rejects.toMatchObject({ retriable: true });
      await standIn.heal();
      expect(standIn.met).toHaveProperty([fault]);
      await insert();
      expect(await countsOf(rows)).toEqual({ base: 50, tokens: 50 });
    },
  );

  it('waits for a slow answer', async () => {
    const rows = events(5);
    await standIn.fail(['slow'], 1);
    await insertOf(rows)();
    expect(await countsOf(rows)).toEqual({ base: 5, tokens: 5 });
  });

  it('fails for now while nothing listens, and goes on when it is back, also after a kill', async () => {
    const rows = events(5);
    const insert = insertOf(rows);
    await standIn.away();
    await expect(insert()).rejects.toMatchObject({ code: 'store_unavailable', retriable: true });
    expect(await store.ping()).toBe(false);
    await standIn.back();
    await insert();
    await standIn.kill();
    await expect(insert()).rejects.toMatchObject({ code: 'store_unavailable', retriable: true });
    await standIn.start();
    await insert();
    expect(await countsOf(rows)).toEqual({ base: 5, tokens: 5 });
  });

  it('refuses for good what is no block, and waits where a person must help', async () => {
    const file = join(folder.path, 'broken.native');
    writeFileSync(file, Buffer.from('this is no block of rows'));
    const columns = authEventsTable.columns.map((c) => c.name);
    const insert = { table: authEventsTable.table, columns, file, deduplicationToken: 'broken' };
    await expect(store.insertNative(insert)).rejects.toMatchObject({
      code: 'store_rejected',
      retriable: false,
    });
    await expect(
      store.insertNative({ ...insert, file: join(folder.path, 'gone.native') }),
    ).rejects.toMatchObject({ code: 'spool_corrupt', retriable: false });
    await expect(
      store.insertNative({ ...insert, table: 'grantscope.no_such_table' }),
    ).rejects.toMatchObject({ code: 'store_rejected', retriable: true });
  });
});
