import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCollector, type Collector } from '../../collector/main.ts';
import { param, sql } from '../../model/sql.ts';
import type { Runtime } from '../../runtime/context.ts';
import { openStore, type Store } from '../../store/client.ts';
import { migrate } from '../../store/migrate.ts';
import { StandIn } from '../clickhouse_stand_in/stand_in.ts';
import { temporaryFolder, testRuntime } from '../harness.ts';

// A collector whose ClickHouse server goes away and comes back, and senders that send events again.

const folder = temporaryFolder();
const serverFolder = temporaryFolder();
const SPOOL_BYTES_MAX = 150_000;
let standIn: StandIn;
let store: Store;
let runtime: Runtime;
let collector: Collector;

beforeAll(async () => {
  standIn = await StandIn.start(serverFolder.path);
  store = openStore({
    dataDir: folder.path,
    server: { url: standIn.url, username: undefined, password: undefined },
  });
  await migrate(store);
  await start();
});
afterAll(async () => {
  await collector.stop();
  await store.close();
  await standIn.kill();
  folder.remove();
  serverFolder.remove();
});

async function start(): Promise<void> {
  runtime = testRuntime(folder.path, {
    config: { spoolBytesMax: SPOOL_BYTES_MAX, segmentAgeMsMax: 20 },
  });
  collector = await startCollector(runtime, store);
}

interface Sent {
  readonly event_id: string;
  readonly time: string;
}

function newEvents(count: number, time = new Date()): Sent[] {
  return Array.from({ length: count }, () => ({
    event_id: randomUUID(),
    time: time.toISOString(),
    kind: 'token_issued',
    outcome: 'success',
    issuer: 'https://as.example',
    tokens: [{ role: 'issued', type: 'access', jti: randomUUID() }],
  }));
}

function post(events: readonly Sent[]): Promise<Response> {
  return fetch(`${collector.url}/v1/events/grantscope`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-ndjson' },
    body: events.map((e) => JSON.stringify(e)).join('\n'),
  });
}

async function expectAccepted(events: readonly Sent[]): Promise<void> {
  const response = await post(events);
  expect([response.status, await response.json()]).toEqual([
    200,
    { accepted: events.length, rejected: 0, errors: [] },
  ]);
}

/** How often these events are in the table, in the token ledger, and how many of them there are. */
async function countsOf(events: readonly Sent[]): Promise<{ base: number; tokens: number }> {
  const ids = param.uuids(events.map((e) => e.event_id));
  const [counts] = await store.query<{ base: number; tokens: number }>(
    sql`SELECT (SELECT toUInt32(count()) FROM grantscope.auth_events WHERE event_id IN ${ids}) AS base,
               (SELECT toUInt32(count()) FROM grantscope.token_events WHERE event_id IN ${ids}) AS tokens`,
  );
  return counts!;
}

/** Waits until the buffer is empty. */
async function caughtUp(): Promise<void> {
  await collector.flush();
  while ((await metric('grantscope_spool_bytes')) > 0) await sleep(20);
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${collector.url}/metrics`)).text();
  const values = [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'gm'))];
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}

describe('a store that is away', () => {
  it('fills the buffer to its limit, then 503 with Retry-After, and catches up by itself', async () => {
    await standIn.away();
    const accepted: Sent[] = [];
    let refused: { events: Sent[]; response: Response } | undefined;
    while (refused === undefined) {
      const events = newEvents(20);
      const response = await post(events);
      if (response.status === 200) accepted.push(...events);
      else refused = { events, response };
    }
    expect(refused.response.status).toBe(503);
    expect(Number(refused.response.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused.response.json()).toMatchObject({ code: 'spool_full', accepted: 0 });
    expect(accepted.length).toBeGreaterThan(100);
    expect(await metric('grantscope_spool_bytes')).toBeGreaterThanOrEqual(SPOOL_BYTES_MAX);
    expect(await metric('grantscope_spool_full_total')).toBe(1);
    expect(await metric('grantscope_ingest_lag_seconds')).toBeGreaterThan(0);
    expect((await fetch(`${collector.url}/readyz`)).status).toBe(503);
    expect((await fetch(`${collector.url}/healthz`)).status).toBe(200);
    await standIn.back();
    // A sender that heeds the 503 comes again.
    let status = 503;
    while (status === 503) {
      await sleep(50);
      status = (await post(refused.events)).status;
    }
    expect(status).toBe(200);
    await caughtUp();
    const all = [...accepted, ...refused.events];
    expect(await countsOf(all)).toEqual({ base: all.length, tokens: all.length });
    expect((await fetch(`${collector.url}/readyz`)).status).toBe(200);
    expect(await metric('grantscope_ingest_lag_seconds')).toBe(0);
  });
});

describe('events that are sent again in other requests', () => {
  it('are stored once: at once, in the same segment, and among others', async () => {
    const events = newEvents(30);
    await Promise.all([expectAccepted(events), expectAccepted(events.slice(0, 10))]);
    await caughtUp();
    const more = newEvents(5);
    await expectAccepted([...more, ...events.slice(10)]);
    await caughtUp();
    expect(await countsOf([...events, ...more])).toEqual({ base: 35, tokens: 35 });
    expect(await metric('grantscope_writer_rows_repeated_total')).toBe(30);
  });

  it('are stored once after a restart, and when they are older than what is remembered', async () => {
    const old = newEvents(12, new Date(Date.now() - 40 * 86_400_000));
    const recent = newEvents(8);
    await expectAccepted([...old, ...recent]);
    await caughtUp();
    await collector.stop();
    await start();
    await expectAccepted([...recent, ...newEvents(1), ...old]);
    await caughtUp();
    expect(await countsOf([...old, ...recent])).toEqual({ base: 20, tokens: 20 });
    expect(await metric('grantscope_writer_rows_repeated_total')).toBe(20);
  });

  it('are different events where only the id is the same', async () => {
    const [event] = newEvents(1);
    const later = { ...event!, time: new Date(Date.now() + 1_000).toISOString() };
    const failed = { ...event!, outcome: 'failure' };
    await expectAccepted([event!]);
    await expectAccepted([later, failed]);
    await caughtUp();
    expect(await countsOf([event!])).toEqual({ base: 3, tokens: 3 });
  });
});
