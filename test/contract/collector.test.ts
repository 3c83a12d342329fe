import { request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import { trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCollector, type Collector } from '../../collector/main.ts';
import { param, sql } from '../../model/sql.ts';
import type { Runtime } from '../../runtime/context.ts';
import { openTestStore, testRuntime } from '../harness.ts';

// The collector as its clients see it: real server, real spool, real engine.

let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let collector: Collector;
beforeAll(async () => {
  opened = await openTestStore();
  runtime = testRuntime(opened.dataDir, { config: { segmentAgeMsMax: 20, bodyBytesMax: 100_000 } });
  collector = await startCollector(runtime, opened.store);
});
afterAll(async () => {
  await collector.stop();
  await opened.close();
});

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: {
    accepted?: number;
    rejected?: number;
    errors?: unknown[];
    code?: string;
    message?: string;
  };
}

/** A plain client: fetch would set headers of its own. */
function send(
  path: string,
  body: string | Buffer,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      `${collector.url}${path}`,
      {
        method: options.method ?? 'POST',
        headers: { 'content-type': 'application/json', ...options.headers },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (c: Buffer) => chunks.push(c));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: JSON.parse(Buffer.concat(chunks).toString('utf8')) as Answer['body'],
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

const event = (client: string, extra: object = {}): object => ({
  time: '2026-01-02T03:04:05.678Z',
  kind: 'token_issued',
  outcome: 'success',
  client: { id: client },
  ...extra,
});

async function storedClients(prefix: string): Promise<string[]> {
  const rows = await opened.store.query<{ client_id: string }>(
    sql`SELECT client_id FROM grantscope.auth_events WHERE startsWith(client_id, ${param.string(prefix)}) ORDER BY client_id`,
  );
  return rows.map((r) => r.client_id);
}

/** Waits until a query gives what is expected, and returns what it gave last. */
async function eventually<T>(read: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> {
  await collector.flush();
  const deadline = Date.now() + 10_000;
  for (;;) {
    const value = await read();
    if (isDone(value) || Date.now() > deadline) return value;
    await new Promise((r) => setTimeout(r, 10));
  }
}

describe('POST /v1/events/{source}', () => {
  it('stores what it accepted and says which record it refused and why', async () => {
    const body = [
      JSON.stringify(event('mixed-1')),
      '{"kind":"token_issued"',
      JSON.stringify(event('mixed-2', { kind: 'no_such_kind' })),
      JSON.stringify(event('mixed-3')),
    ].join('\n');
    const answer = await send('/v1/events/grantscope', body);
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      accepted: 2,
      rejected: 2,
      errors: [
        { index: 1, code: 'not_json' },
        { index: 2, code: 'invalid_field' },
      ],
    });
    expect((answer.body.errors?.[1] as { message: string }).message).toContain('kind');
    expect(
      await eventually(
        () => storedClients('mixed-'),
        (c) => c.length === 2,
      ),
    ).toEqual(['mixed-1', 'mixed-3']);
  });

  it('takes gzip, arrays and single objects', async () => {
    expect(
      (
        await send(
          '/v1/events/grantscope',
          gzipSync(JSON.stringify([event('form-1'), event('form-2')])),
          { headers: { 'content-encoding': 'gzip' } },
        )
      ).body,
    ).toEqual({ accepted: 2, rejected: 0, errors: [] });
    expect(
      (await send('/v1/events/grantscope', JSON.stringify(event('form-3'), null, 2))).body,
    ).toEqual({ accepted: 1, rejected: 0, errors: [] });
    expect(
      await eventually(
        () => storedClients('form-'),
        (c) => c.length === 3,
      ),
    ).toEqual(['form-1', 'form-2', 'form-3']);
  });

  it('stores a request that is sent again once, at once, in parallel and later', async () => {
    const body = JSON.stringify([event('again-1'), event('again-2')]);
    const answers = await Promise.all([
      send('/v1/events/grantscope', body),
      send('/v1/events/grantscope', body),
    ]);
    await eventually(
      () => storedClients('again-'),
      (c) => c.length >= 2,
    );
    answers.push(await send('/v1/events/grantscope', body));
    expect(answers.map((a) => a.body)).toEqual(
      Array(3).fill({ accepted: 2, rejected: 0, errors: [] }),
    );
    await send('/v1/events/grantscope', JSON.stringify(event('again-3')));
    expect(
      await eventually(
        () => storedClients('again-'),
        (c) => c.length >= 3,
      ),
    ).toEqual(['again-1', 'again-2', 'again-3']);
  });

  it('answers a repeated request as it answered the first, refused records included', async () => {
    const body = [JSON.stringify(event('partly-1')), '{}', JSON.stringify(event('partly-2'))].join(
      '\n',
    );
    const first = await send('/v1/events/grantscope', body);
    const second = await send('/v1/events/grantscope', body);
    expect(first.body).toMatchObject({ accepted: 2, rejected: 1, errors: [{ index: 1 }] });
    expect(second.body).toEqual(first.body);
    await send('/v1/events/grantscope', JSON.stringify(event('partly-3')));
    expect(
      await eventually(
        () => storedClients('partly-'),
        (c) => c.length >= 3,
      ),
    ).toEqual(['partly-1', 'partly-2', 'partly-3']);
  });

  it('takes an empty body for nothing', async () => {
    expect((await send('/v1/events/grantscope', '')).body).toEqual({
      accepted: 0,
      rejected: 0,
      errors: [],
    });
  });
});

describe('bad input', () => {
  const good = JSON.stringify(event('bad'));
  it.each<[string, string, string | Buffer, object, number, RegExp]>([
    ['an unknown source', '/v1/events/nosuch', good, {}, 404, /known: .*grantscope.*keycloak/],
    ['another method', '/v1/events/grantscope', '', { method: 'GET' }, 405, /allowed: POST/],
    [
      'an unknown media type',
      '/v1/events/grantscope',
      good,
      { headers: { 'content-type': 'image/png' } },
      415,
      /allowed: application\/json/,
    ],
    [
      'an unknown coding',
      '/v1/events/grantscope',
      good,
      { headers: { 'content-encoding': 'br' } },
      415,
      /allowed: identity, gzip/,
    ],
    [
      'broken gzip',
      '/v1/events/grantscope',
      good,
      { headers: { 'content-encoding': 'gzip' } },
      400,
      /gzip/,
    ],
    [
      'a body that is too large',
      '/v1/events/grantscope',
      `"${'x'.repeat(100_001)}"`,
      {},
      413,
      /at most 100000 bytes/,
    ],
    [
      'a gzip bomb',
      '/v1/events/grantscope',
      gzipSync(Buffer.alloc(50_000_000)),
      { headers: { 'content-encoding': 'gzip' } },
      413,
      /at most 100000 bytes/,
    ],
    [
      'invalid UTF-8',
      '/v1/events/grantscope',
      Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22]),
      {},
      400,
      /UTF-8/,
    ],
    [
      'no JSON at all',
      '/v1/events/grantscope',
      '<events/>',
      {},
      400,
      /no record could be read; allowed: NDJSON/,
    ],
    ['a broken array', '/v1/events/grantscope', `[${good}`, {}, 400, /not valid JSON/],
    ['an unknown path', '/v2/events', good, {}, 404, /known: POST \/v1\/traces/],
  ])('%s gets a 4xx with a reason', async (_name, path, body, options, status, message) => {
    const answer = await send(path, body, options);
    expect({ status: answer.status, message: answer.body.message }).toEqual({
      status,
      message: expect.stringMatching(message) as string,
    });
  });

  it.each<[string, object, string, RegExp]>([
    ['a missing time', { kind: 'login' }, 'missing_field', /time/],
    [
      'a time of the year 9999',
      event('wild', { time: '9999-12-31T23:59:59Z' }),
      'invalid_time',
      /2000 to 2100/,
    ],
    ['an unknown kind', event('wild', { kind: 'hack' }), 'invalid_field', /kind/],
  ])('%s rejects the record', async (_name, record, code, message) => {
    const answer = await send('/v1/events/grantscope', JSON.stringify(record));
    expect(answer.body).toMatchObject({
      accepted: 0,
      rejected: 1,
      errors: [{ index: 0, code, message: expect.stringMatching(message) as string }],
    });
  });

  it('never repeats the payload in an answer', async () => {
    const secret = ['eyJhbGciOiJub25lIn0', 'eyJzdWIiOiJ4In0', 'c2lnbmF0dXJlLXZhbHVl'].join('.');
    const answers = await Promise.all(
      ['/v1/events/grantscope', '/v1/events/keycloak', '/v1/events/envoy', '/v1/traces'].map(
        (path) =>
          send(
            path,
            JSON.stringify({ time: secret, kind: secret, type: secret, [secret]: secret }),
          ),
      ),
    );
    expect(JSON.stringify(answers)).not.toContain(secret);
  });
});

describe('OTLP through the whole pipeline', () => {
  it('turns a span of the official exporter into an auth event and a trace row', async () => {
    const exporter = new OTLPTraceExporter({ url: `${collector.url}/v1/traces` });
    const provider = new BasicTracerProvider({
      resource: resourceFromAttributes({ 'service.name': 'as-1' }),
      spanProcessors: [new SimpleSpanProcessor(exporter)],
    });
    const span = provider.getTracer('t').startSpan('POST /token', {
      attributes: {
        'oauth.event.kind': 'token_issued',
        'oauth.event.outcome': 'success',
        'oauth.client_id': 'otlp-1',
        'oauth.scopes_granted': ['openid', 'orders:read'],
        'oauth.token.issued.access.ref': '9f86d081-884c-7d65-9a2f-eaa0c55ad015',
        'url.full': 'https://as.example/token?code=SplxlOBeZQQYbYS6WxSbIA',
        'client.address': '203.0.113.7',
      },
    });
    span.end();
    await provider.shutdown();
    expect(trace.getActiveSpan()).toBeUndefined();
    expect(
      await eventually(
        () => storedClients('otlp-'),
        (c) => c.length === 1,
      ),
    ).toEqual(['otlp-1']);
    expect(
      await opened.store.query(
        sql`SELECT kind, outcome, scopes_granted, \`tokens.ref\` AS refs, net_network, source_instance, corr_span_id != '' AS spanned FROM grantscope.auth_events WHERE client_id = 'otlp-1'`,
      ),
    ).toEqual([
      {
        kind: 'token_issued',
        outcome: 'success',
        scopes_granted: ['openid', 'orders:read'],
        refs: ['9f86d081-884c-7d65-9a2f-eaa0c55ad015'],
        net_network: '203.0.113.0/24',
        source_instance: 'as-1',
        spanned: 1,
      },
    ]);
    const read = () =>
      opened.store.query<{ SpanName: string; url: string }>(
        sql`SELECT SpanName, SpanAttributes['url.full'] AS url FROM grantscope.otel_traces WHERE ServiceName = 'as-1'`,
      );
    expect(await eventually(read, (r) => r.length === 1)).toEqual([
      { SpanName: 'POST /token', url: 'https://as.example/token' },
    ]);
  });
});

describe('the ledger', () => {
  it('balances: received = stored + rejected, by counters and by rows', async () => {
    const before = await counters();
    await send(
      '/v1/events/grantscope',
      [event('ledger-1'), {}, event('ledger-2'), { kind: 1 }, event('ledger-3')]
        .map((e) => JSON.stringify(e))
        .join('\n'),
    );
    await eventually(
      () => storedClients('ledger-'),
      (c) => c.length === 3,
    );
    const after = await eventually(counters, (c) => c.stored - before.stored === 3);
    expect({
      received: after.received - before.received,
      durable: after.durable - before.durable,
      rejected: after.rejected - before.rejected,
      stored: after.stored - before.stored,
    }).toEqual({ received: 5, durable: 3, rejected: 2, stored: 3 });
  });
});

async function counters(): Promise<{
  received: number;
  durable: number;
  rejected: number;
  stored: number;
}> {
  const sum = async (name: string, labels: Record<string, string>): Promise<number> => {
    const metric = await runtime.metrics.registry.getSingleMetric(name)?.get();
    const values =
      metric?.values.filter((v) =>
        Object.entries(labels).every(([k, l]) => (v.labels as Record<string, unknown>)[k] === l),
      ) ?? [];
    return values.reduce((total, v) => total + v.value, 0);
  };
  return {
    received: await sum('grantscope_records_received_total', { source: 'grantscope' }),
    durable: await sum('grantscope_events_durable_total', { receiver: 'grantscope' }),
    rejected: await sum('grantscope_records_rejected_total', { source: 'grantscope' }),
    stored: await sum('grantscope_writer_rows_stored_total', { table: 'grantscope.auth_events' }),
  };
}

describe('health', () => {
  it('answers healthz, readyz and metrics', async () => {
    expect((await send('/healthz', '', { method: 'GET' })).body).toEqual({ status: 'ok' });
    expect((await send('/readyz', '', { method: 'GET' })).status).toBe(200);
    const metrics = await fetch(`${collector.url}/metrics`);
    expect(await metrics.text()).toContain('grantscope_spool_bytes ');
  });
});
