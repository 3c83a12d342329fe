/**
 * The whole way of OTLP: a request over HTTP, through the real receiver, source, redaction, spool and writer, into
 * the real engine. A request that is sent again, as after a lost answer, changes nothing.
 */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startCollector, type Collector } from '../../collector/main.ts';
import { VENDOR_BODY } from '../../collector/receivers/otlp/map_logs.ts';
import { emptyLogRecord, emptySpan } from '../../collector/receivers/otlp/types.ts';
import { sql } from '../../model/sql.ts';
import type { Store } from '../../store/client.ts';
import { openTestStore, testRuntime } from '../harness.ts';
import { group, logsToJson, tracesToProtobuf } from '../otlp_encoders.ts';

let store: Store;
let close: () => Promise<void>;
let collector: Collector;

beforeAll(async () => {
  const opened = await openTestStore();
  ({ store, close } = opened);
  collector = await startCollector(testRuntime(opened.dataDir), store);
});
afterAll(async () => {
  await collector.stop();
  await close();
});

const NOW_NS = BigInt(Date.now()) * 1_000_000n;
const ISO = new Date(Number(NOW_NS / 1_000_000n)).toISOString();
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const ACCESS = '7b2c1d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d';
const REFRESH = '11111111-2222-4333-8444-555555555555';
/** Put together at run time, so that no scanner takes this file for a leak. */
const SECRET = ['tGzv3JOkF0', 'XG5Qx2TlKWIA'].join('');

async function post(path: string, body: Buffer, headers: Record<string, string>): Promise<string> {
  const response = await fetch(`${collector.url}${path}`, { method: 'POST', body, headers });
  expect(response.status).toBe(200);
  return response.text();
}

async function count(table: ReturnType<typeof sql>): Promise<number> {
  const rows = await store.query<{ n: number | string }>(sql`SELECT count() AS n FROM ${table}`);
  return Number(rows[0]?.n);
}

test('spans and the auth events in them are stored once, however often they are sent', async () => {
  const span = {
    ...emptySpan(),
    traceId: TRACE_ID,
    spanId: 'b7ad6b7169203331',
    name: `POST /token?code=${SECRET}`,
    kind: 2,
    startTimeUnixNano: NOW_NS - 42_500_000n,
    endTimeUnixNano: NOW_NS,
    attributes: {
      'oauth.event.kind': 'token_issued',
      'oauth.event.outcome': 'success',
      'oauth.client_id': 'web',
      'oauth.grant_type': 'authorization_code',
      'oauth.scopes_granted': ['profile', 'openid'],
      'oauth.token.issued.access.ref': ACCESS,
      'oauth.token.issued.refresh.ref': REFRESH,
      'client.address': '203.0.113.9',
      'http.response.status_code': 200,
      'http.request.header.authorization': `Bearer ${SECRET}`,
    },
    events: [
      {
        timeUnixNano: NOW_NS - 1_000n,
        name: 'oauth.auth_event',
        attributes: { 'oauth.event.kind': 'code_redeemed', 'oauth.event.outcome': 'success' },
      },
    ],
  };
  const body = tracesToProtobuf(group([span], { 'service.name': 'auth' }));
  const headers = { 'Content-Type': 'application/x-protobuf' };
  expect(await post('/v1/traces', body, headers)).toBe('');
  expect(await post('/v1/traces', gzipSync(body), { ...headers, 'Content-Encoding': 'gzip' })).toBe(
    '',
  );
  await collector.flush();
  await expect.poll(() => count(sql`grantscope.auth_events`), { timeout: 10_000 }).toBe(2);
  await expect.poll(() => count(sql`grantscope.otel_traces`), { timeout: 10_000 }).toBe(1);

  const events = await store.query(
    sql`SELECT kind, outcome, client_id, scopes_granted, \`tokens.ref\` AS refs, net_network, http_status, http_duration_ms, corr_trace_id, source_id, toString(toUnixTimestamp64Nano(time)) AS ns FROM grantscope.auth_events ORDER BY kind`,
  );
  const common = {
    client_id: 'web',
    outcome: 'success',
    scopes_granted: ['openid', 'profile'],
    net_network: '203.0.113.0/24',
    http_status: 200,
    corr_trace_id: TRACE_ID,
    source_id: 'otlp',
  };
  const [redeemed, issued] = events;
  expect(redeemed).toEqual({
    ...common,
    kind: 'code_redeemed',
    refs: [],
    http_duration_ms: null,
    ns: (NOW_NS - 1_000n).toString(),
  });
  expect(issued).toEqual({
    ...common,
    kind: 'token_issued',
    refs: [ACCESS, REFRESH],
    http_duration_ms: 42.5,
    ns: NOW_NS.toString(),
  });
  const spans = await store.query(
    sql`SELECT SpanName, SpanAttributes['http.request.header.authorization'] AS authorization, SpanAttributes['oauth.token.issued.access.ref'] AS access, ServiceName FROM grantscope.otel_traces`,
  );
  expect(spans).toEqual([
    {
      SpanName: 'POST /token?code=[redacted]',
      authorization: '[redacted]',
      access: ACCESS,
      ServiceName: 'auth',
    },
  ]);
});

test('a vendor’s record in a log body goes through its source; a bad one is told to the sender', async () => {
  const record = JSON.stringify({ kind: 'login', time: ISO, client: { id: 'portal' } });
  const log = (body: string, source: string) => ({
    ...emptyLogRecord(),
    timeUnixNano: NOW_NS,
    body,
    attributes: { 'grantscope.source': source },
  });
  const records = [
    log(record, 'grantscope'),
    log(`{"kind":"${SECRET}"}`, 'grantscope'),
    log(record, 'nosuch'),
  ];
  const headers = { 'Content-Type': 'application/json' };
  const answer = JSON.parse(await post('/v1/logs', logsToJson(group(records)), headers)) as {
    partialSuccess: { rejectedLogRecords: string; errorMessage: string };
  };
  expect(answer.partialSuccess.rejectedLogRecords).toBe('2');
  expect(answer.partialSuccess.errorMessage).toContain('log record 1: ');
  expect(answer.partialSuccess.errorMessage).toContain('log record 2: unknown_source: ');
  expect(answer.partialSuccess.errorMessage).not.toContain(SECRET);
  await collector.flush();
  await expect.poll(() => count(sql`grantscope.otel_logs`), { timeout: 10_000 }).toBe(3);
  const logins = sql`(SELECT * FROM grantscope.auth_events WHERE kind = 'login' AND client_id = 'portal' AND source_id = 'grantscope')`;
  await expect.poll(() => count(logins), { timeout: 10_000 }).toBe(1);
  expect(await store.query(sql`SELECT DISTINCT Body FROM grantscope.otel_logs`)).toEqual([
    { Body: VENDOR_BODY },
  ]);
  // Nothing of the repeated request above came late.
  expect(await count(sql`grantscope.auth_events`)).toBe(3);
  expect(await count(sql`grantscope.otel_traces`)).toBe(1);
});
