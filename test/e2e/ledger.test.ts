/**
 * The ledger, over the real process: a mix of everything that can happen to a request and a record, and then every
 * edge balances exactly, by the counters on /metrics, by the answers, and by the rows in the store.
 */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emptyLogRecord, emptySpan } from '../../collector/receivers/otlp/types.ts';
import { openStore } from '../../store/client.ts';
import { sql } from '../../model/sql.ts';
import { temporaryFolder } from '../harness.ts';
import { group, logsToJson, tracesToProtobuf } from '../otlp_encoders.ts';
import { runGrantscope, startServer, type ServerProcess } from '../server_process.ts';

const folder = temporaryFolder();
let server: ServerProcess;
const env = {
  GRANTSCOPE_SEGMENT_AGE_MS_MAX: '100',
  GRANTSCOPE_DEAD_LETTERS_PER_MINUTE_MAX: '8',
  GRANTSCOPE_BODY_BYTES_MAX: '100000',
};
beforeAll(async () => {
  server = await startServer(folder.path, env);
}, 120_000);
afterAll(async () => {
  await server.stop();
  folder.remove();
});

/** Sum of the samples of a metric whose labels hold all of `labels`. */
class Samples {
  readonly #lines: readonly string[];

  constructor(text: string) {
    this.#lines = text.split('\n').filter((line) => !line.startsWith('#'));
  }

  sum(name: string, labels: Record<string, string> = {}): number {
    const wanted = Object.entries(labels).map(([k, v]) => `${k}="${v}"`);
    return this.#lines
      .filter((l) => l.startsWith(`${name}{`) || l.startsWith(`${name} `))
      .filter((l) => wanted.every((w) => l.includes(w)))
      .reduce((total, l) => total + Number(l.slice(l.lastIndexOf(' ') + 1)), 0);
  }
}

const scrape = async (): Promise<Samples> =>
  new Samples(await (await fetch(`${server.collectorUrl}/metrics`)).text());

/** Waits until nothing waits for the store any more. */
async function settled(): Promise<Samples> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const samples = await scrape();
    const isIdle =
      samples.sum('grantscope_spool_bytes') === 0 &&
      samples.sum('grantscope_ingest_lag_seconds') === 0;
    if (isIdle) return samples;
    if (Date.now() > deadline) throw new Error('the store did not take everything within 30 s');
    await new Promise((r) => setTimeout(r, 20));
  }
}

/** Dead letters kept: at least eight, more where the machine is so slow that the minute goes on meanwhile. */
let kept = 0;
const totals = { requests: 0, sentBytes: 0, accepted: 0, rejected: 0 };

async function post(
  path: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<{ status: number; json: Record<string, unknown> }> {
  totals.requests += 1;
  const response = await fetch(`${server.collectorUrl}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : new Uint8Array(body),
    headers: { 'content-type': 'application/json', ...headers },
  });
  const text = await response.text();
  const json = text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {};
  if (response.status === 200 && path.startsWith('/v1/events/')) {
    totals.accepted += Number(json['accepted']);
    totals.rejected += Number(json['rejected']);
  }
  if (response.status === 200) totals.sentBytes += Buffer.byteLength(body);
  return { status: response.status, json };
}

const now = new Date().toISOString();
const record = (client: string, extra: object = {}): string =>
  JSON.stringify({ time: now, kind: 'login', client: { id: client }, ...extra });
const lines = (count: number, make: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => make(i)).join('\n');

describe('a mix of everything', () => {
  it('is answered as it should be', async () => {
    const good = lines(50, (i) => record('good', { event_id: `good-${i}` }));
    expect((await post('/v1/events/grantscope', good)).json).toMatchObject({
      accepted: 50,
      rejected: 0,
    });
    // The same request again, and the same events in another one.
    expect((await post('/v1/events/grantscope', good)).json).toMatchObject({
      accepted: 50,
      rejected: 0,
    });
    expect((await post('/v1/events/grantscope', `${good}\n${record('more')}`)).json).toMatchObject({
      accepted: 51,
    });
    const mixed = [
      record('mixed'),
      '{"kind":',
      '[]',
      record('mixed', { kind: 'hack' }),
      '{}',
      `{"time":"${now}"`,
      record('mixed', { time: '9999-01-01T00:00:00Z' }),
    ];
    expect((await post('/v1/events/grantscope', mixed.join('\n'))).json).toMatchObject({
      accepted: 1,
      rejected: 6,
    });
    // Three kept above; five more may be kept in this minute, and one is too large.
    const refused = lines(9, (i) => record('refused', { kind: `hack-${i}` }));
    expect(
      (
        await post(
          '/v1/events/grantscope',
          `${refused}\n${record('large', { kind: 'hack', note: 'x'.repeat(20_000) })}`,
        )
      ).json,
    ).toMatchObject({ accepted: 0, rejected: 10 });
    // A vendor's noise: accepted, and no event in it.
    const noise = JSON.stringify({ event: 'session.saved', time: now });
    expect((await post('/v1/events/oidc_provider', noise)).json).toMatchObject({
      accepted: 1,
      rejected: 0,
    });
    expect(
      (
        await post('/v1/events/grantscope', gzipSync(record('gzip')), {
          'content-encoding': 'gzip',
        })
      ).json,
    ).toMatchObject({ accepted: 1 });

    expect((await post('/v1/events/grantscope', '<xml/>')).status).toBe(400);
    expect((await post('/v1/events/grantscope', 'x'.repeat(100_001))).status).toBe(413);
    expect((await post('/v1/events/nosuch', good)).status).toBe(404);
    expect(
      (await post('/v1/events/grantscope', good, { 'content-type': 'image/png' })).status,
    ).toBe(415);

    const startTimeUnixNano = BigInt(Date.parse(now)) * 1_000_000n;
    const span = {
      ...emptySpan(),
      traceId: 'a'.repeat(32),
      spanId: 'b'.repeat(16),
      name: 'token',
      startTimeUnixNano,
      endTimeUnixNano: startTimeUnixNano,
    };
    const attributes = { 'oauth.event.kind': 'token_issued', 'oauth.client_id': 'span' };
    const traces = tracesToProtobuf(group([span, { ...span, spanId: 'c'.repeat(16), attributes }]));
    const protobuf = { 'content-type': 'application/x-protobuf' };
    expect((await post('/v1/traces', traces, protobuf)).status).toBe(200);
    expect((await post('/v1/traces', traces, protobuf)).status).toBe(200);
    const vendor = {
      ...emptyLogRecord(),
      timeUnixNano: startTimeUnixNano,
      attributes: { 'grantscope.source': 'grantscope' },
    };
    const logs = logsToJson(
      group([
        { ...vendor, body: record('in-log') },
        { ...vendor, body: '{"kind":"login"}' },
        { ...emptyLogRecord(), body: 'plain' },
      ]),
    );
    expect((await post('/v1/logs', logs)).json).toMatchObject({
      partialSuccess: { rejectedLogRecords: '1' },
    });
    expect((await post('/v1/logs', '{"resourceSpans":[]}')).status).toBe(400);
  });

  it('balances at every edge', async () => {
    const samples = await settled();
    const of = (name: string, labels: Record<string, string> = {}) =>
      samples.sum(`grantscope_${name}`, labels);

    // Edge 1: requests = answers.
    expect(of('requests_total')).toBe(totals.requests);
    expect(of('request_seconds_count')).toBe(totals.requests);
    const status = (s: string) => of('requests_total', { status: s });
    expect([status('200'), status('400'), status('404'), status('413'), status('415')]).toEqual([
      10, 2, 1, 1, 1,
    ]);
    expect(of('requests_in_flight')).toBe(0);
    expect(of('body_bytes_in_flight')).toBe(0);
    expect(of('request_body_bytes_total', { form: 'sent' })).toBe(
      totals.sentBytes + '<xml/>'.length + '{"resourceSpans":[]}'.length,
    );

    kept = of('dead_letters_total');
    expect(kept).toBeGreaterThanOrEqual(8);
    // Edge 2: records received = what was told to the senders = what became of them.
    const fates = (source: string): Record<string, number> =>
      Object.fromEntries(
        ['stored', 'repeated', 'no_event', 'dead_lettered', 'rejected'].map((fate) => [
          fate,
          of('records_settled_total', { source, fate }),
        ]),
      );
    expect(fates('grantscope')).toEqual({
      stored: 50 + 51 + 1 + 1 + 1,
      repeated: 50,
      no_event: 0,
      dead_lettered: kept,
      rejected: 17 - kept,
    });
    expect(fates('oidc_provider')).toEqual({
      stored: 0,
      repeated: 0,
      no_event: 1,
      dead_lettered: 0,
      rejected: 0,
    });
    expect(fates('otlp')).toEqual({
      stored: 1,
      repeated: 1,
      no_event: 0,
      dead_lettered: 0,
      rejected: 0,
    });
    for (const source of ['grantscope', 'oidc_provider', 'otlp'])
      expect(of('records_settled_total', { source })).toBe(
        of('records_received_total', { source }),
      );
    // By HTTP: all of them; two of the records came in OTLP logs.
    expect(
      of('records_received_total', { source: 'grantscope' }) -
        2 +
        of('records_received_total', { source: 'oidc_provider' }),
    ).toBe(totals.accepted + totals.rejected);
    expect(of('records_rejected_total', { source: 'grantscope' }) - 1).toBe(totals.rejected);
    const readable = kept + of('dead_letters_not_kept_total');
    expect(of('records_rejected_total') - readable).toBe(
      of('records_rejected_total', { code: 'not_json' }) +
        of('records_rejected_total', { code: 'not_an_object' }),
    );
    expect(of('otlp_records_total', { signal: 'traces' })).toBe(4);
    expect(of('otlp_records_total', { signal: 'traces', result: 'repeated' })).toBe(2);
    expect(of('otlp_records_total', { signal: 'logs', result: 'rejected' })).toBe(1);

    // Edge 3: rows durable = rows that left the buffer, table by table.
    const left = (table: string): number =>
      of('writer_rows_stored_total', { table }) +
      of('writer_rows_repeated_total', { table }) +
      of('writer_rows_quarantined_total', { table });
    for (const table of ['auth_events', 'otel_traces', 'otel_logs', 'dead_letters'].map(
      (t) => `grantscope.${t}`,
    ))
      expect([table, of('spool_rows_durable_total', { table })]).toEqual([table, left(table)]);
    expect(of('spool_rows_durable_total', { table: 'grantscope.auth_events' })).toBe(
      of('events_durable_total'),
    );
    expect(of('events_durable_total')).toBe(50 + 51 + 1 + 1 + 1 + 1);
    // The same events in another request were recognised by their ids.
    expect(of('writer_rows_repeated_total', { table: 'grantscope.auth_events' })).toBe(50);
    expect(of('spool_rows_durable_total', { table: 'grantscope.otel_traces' })).toBe(2);
    expect(of('spool_rows_durable_total', { table: 'grantscope.otel_logs' })).toBe(3);
    expect(of('spool_rows_durable_total', { table: 'grantscope.dead_letters' })).toBe(kept);
    expect(of('spool_commit_seconds_count')).toBeGreaterThan(0);
    expect(of('writer_insert_seconds_count')).toBeGreaterThan(0);
  });

  it('commands replay through the running server, and say what they did', async () => {
    const args = ['replay-dead-letters', '--source', 'grantscope', '--json'];
    const run = await runGrantscope([...args, '--dry-run'], { GRANTSCOPE_DATA_DIR: folder.path });
    expect([run.code, run.stderr]).toEqual([0, '']);
    expect(JSON.parse(run.stdout)).toMatchObject({
      dry_run: true,
      examined: kept,
      replayed: 0,
      still_refused: kept,
      events: 0,
    });
    const wrong = await runGrantscope(['replay-dead-letters', '--since', 'yesterday'], {
      GRANTSCOPE_DATA_DIR: folder.path,
    });
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain('--since');
  });
});

it('after a stop the rows are those that were counted, and the command works without a server', async () => {
  expect(await server.stop()).toBe(0);
  const run = await runGrantscope(['replay-dead-letters'], { GRANTSCOPE_DATA_DIR: folder.path });
  expect([run.code, run.stdout]).toEqual([
    0,
    expect.stringContaining(`${kept} dead letter(s): 0 replayed, ${kept} still refused`),
  ]);
  const store = openStore({ dataDir: folder.path });
  try {
    const [rows] = await store.query(
      sql`SELECT
            toUInt32((SELECT count() FROM grantscope.auth_events)) AS events,
            toUInt32((SELECT count() FROM grantscope.otel_traces)) AS spans,
            toUInt32((SELECT count() FROM grantscope.otel_logs)) AS logs,
            toUInt32((SELECT count() FROM grantscope.dead_letters)) AS letters`,
    );
    expect(rows).toEqual({ events: 55, spans: 2, logs: 3, letters: kept });
  } finally {
    await store.close();
  }
});
