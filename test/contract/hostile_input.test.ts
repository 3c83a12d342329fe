/**
 * What hostile, broken and unlucky clients send, to both receivers of a real collector: each gets a clear answer or a
 * counted cut, memory stays bounded, and the collector goes on. The names say which bullet a test is for.
 */
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startCollector, type Collector } from '../../collector/main.ts';
import { emptyLogRecord, emptySpan } from '../../collector/receivers/otlp/types.ts';
import { param, sql } from '../../model/sql.ts';
import { ManualClock } from '../../runtime/clock.ts';
import type { Runtime } from '../../runtime/context.ts';
import { openTestStore, testRuntime } from '../harness.ts';
import {
  group,
  lengthDelimited,
  logsToProtobuf,
  tracesToJson,
  tracesToProtobuf,
} from '../otlp_encoders.ts';

const BODY_BYTES_MAX = 4 * 1024 * 1024;
const NOW_MS = Date.UTC(2026, 5, 1);

/** A clock that stands, but for what a test adds: rates and years are then exact. */
const clock = new ManualClock(NOW_MS);
let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let collector: Collector;
beforeAll(async () => {
  opened = await openTestStore();
  runtime = testRuntime(opened.dataDir, {
    clock,
    config: {
      segmentAgeMsMax: 20,
      bodyBytesMax: BODY_BYTES_MAX,
      bodyBytesInFlightMax: 2 * BODY_BYTES_MAX,
      bodyDeadlineMs: 1_500,
      connectionsMax: 60,
      sources: {
        envoy: { records_per_second: 10, burst_seconds: 1 },
        keycloak: { bytes_per_second: 1_000, burst_seconds: 1 },
        otlp: { records_per_second: 1_000_000, burst_seconds: 1 },
      },
    },
  });
  collector = await startCollector(runtime, opened.store);
});
afterAll(async () => {
  await collector.stop();
  await opened.close();
});

/** Whatever a test did: nothing is held any more, and a good record still gets through. */
afterEach(async () => {
  await until(async () => (await value('grantscope_requests_in_flight')) === 0);
  expect(await value('grantscope_body_bytes_in_flight')).toBe(0);
  const answer = await send('/v1/events/grantscope', JSON.stringify(event('alive')));
  expect([answer.status, answer.json]).toEqual([200, { accepted: 1, rejected: 0, errors: [] }]);
  clock.advance(1_000);
});

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly type: string | undefined;
  readonly body: Buffer;
  readonly json: Record<string, unknown>;
}

const JSON_TYPE = { 'content-type': 'application/json' };
const PROTOBUF = { 'content-type': 'application/x-protobuf' };
const GZIP = { 'content-encoding': 'gzip' };

function send(
  path: string,
  body: string | Buffer,
  headers: Record<string, string> = JSON_TYPE,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', headers, agent: false };
    const request = httpRequest(`${collector.url}${path}`, options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (c: Buffer) => chunks.push(c));
      response.on('end', () => {
        const bytes = Buffer.concat(chunks);
        const type = response.headers['content-type'];
        resolve({
          status: response.statusCode ?? 0,
          retryAfter: response.headers['retry-after'],
          type,
          body: bytes,
          json:
            type?.startsWith('application/json') === true
              ? (JSON.parse(bytes.toString('utf8')) as Record<string, unknown>)
              : {},
        });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

const event = (client: string, extra: object = {}): object => ({
  time: '2026-05-31T03:04:05.678Z',
  kind: 'login',
  client: { id: client },
  ...extra,
});

async function until(isDone: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await isDone())) {
    if (Date.now() > deadline) throw new Error('the condition did not come true within 10 s');
    await new Promise((r) => setTimeout(r, 5));
  }
}

async function value(name: string, labels: Record<string, string> = {}): Promise<number> {
  const metric = await runtime.metrics.registry.getSingleMetric(name)?.get();
  const matching = (metric?.values ?? []).filter((v) =>
    Object.entries(labels).every(([k, l]) => (v.labels as Record<string, unknown>)[k] === l),
  );
  return matching.reduce((total, v) => total + v.value, 0);
}

/** What a counter moves by while something happens. */
async function counted(
  name: string,
  labels: Record<string, string>,
  work: () => Promise<unknown>,
): Promise<number> {
  const before = await value(name, labels);
  await work();
  return (await value(name, labels)) - before;
}

async function stored<Row>(client: string, count: number): Promise<Row[]> {
  const read = () =>
    opened.store.query<Row>(
      sql`SELECT * EXCEPT (inserted_at) FROM grantscope.auth_events WHERE client_id = ${param.string(client)}`,
    );
  await collector.flush();
  await until(async () => (await read()).length >= count);
  return read();
}

async function socketTo(): Promise<Socket> {
  const socket = connect(Number(new URL(collector.url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

function textOf(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  return once(socket, 'close').then(() => text);
}

const head = (path: string, length: number, type = 'application/json'): string =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`;

/** 1 GB in a megabyte: eight members, which decompress one after the other. */
const member = gzipSync(Buffer.alloc(128 * 1024 * 1024, 0x20));
const bomb = Buffer.concat(Array.from({ length: 8 }, () => member));
const PATHS = ['/v1/events/grantscope', '/v1/traces', '/v1/logs'];

describe.each(PATHS)('clients of %s that', (path) => {
  it('slow bodies: send half and wait get 408 after the deadline, and the connection is closed', async () => {
    const socket = await socketTo();
    const text = textOf(socket);
    socket.write(`${head(path, 100)}{"half":`);
    expect(await text).toMatch(/^HTTP\/1\.1 408 [^]*not complete after 1500 ms/);
  });

  it('half-open bodies: go away in the middle leave nothing behind', async () => {
    const read = await counted('grantscope_requests_total', { status: '400' }, async () => {
      for (const leave of ['destroy', 'end'] as const) {
        const socket = await socketTo();
        socket.write(`${head(path, 100_000)}{"half":${'1'.repeat(50_000)}`);
        await until(async () => (await value('grantscope_body_bytes_in_flight')) > 0);
        socket[leave]();
        await until(async () => (await value('grantscope_requests_in_flight')) === 0);
      }
    });
    expect(read).toBe(2);
  });

  it('gzip bombs: send little that becomes much get 413', async () => {
    expect(bomb.length).toBeLessThan(BODY_BYTES_MAX);
    const before = process.memoryUsage().rss;
    const answer = await send(path, bomb, { ...JSON_TYPE, ...GZIP });
    expect(answer.status).toBe(413);
    expect(answer.body.toString()).toContain(`at most ${BODY_BYTES_MAX} bytes`);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
  });

  it('gzip bombs: send broken gzip get 400', async () => {
    const whole = gzipSync('{}');
    for (const body of [whole.subarray(0, -6), Buffer.from('{}')]) {
      expect((await send(path, body, { ...JSON_TYPE, ...GZIP })).status).toBe(400);
    }
  });

  it('invalid UTF-8: is 400', async () => {
    const answer = await send(path, Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]));
    expect([answer.status, answer.body.toString()]).toEqual([
      400,
      expect.stringContaining('UTF-8'),
    ]);
  });

  it('NaN: is no JSON, so 400', async () => {
    for (const body of ['{"time":NaN}', '{"resourceSpans":[NaN]}', '{"a":Infinity}', 'NaN'])
      expect((await send(path, body)).status).toBe(400);
  });

  it('deep nesting: a million brackets get a 4xx or a refused record', async () => {
    for (const body of [
      '['.repeat(1_000_000),
      `{"a":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`,
    ]) {
      const answer = await send(path, body);
      const isRefused = answer.status === 400 || answer.json['rejected'] === 1 || path !== PATHS[0];
      expect([answer.status < 500, isRefused]).toEqual([true, true]);
    }
  });
});

describe('records that', () => {
  it('deep nesting: 65 levels are refused, 64 are not', async () => {
    const nested = (levels: number) =>
      JSON.stringify(
        event('deep', { extra: JSON.parse('['.repeat(levels) + ']'.repeat(levels)) as unknown }),
      );
    const answer = await send('/v1/events/grantscope', `${nested(63)}\n${nested(64)}`);
    expect(answer.json).toEqual({
      accepted: 1,
      rejected: 1,
      errors: [{ index: 1, code: 'too_deep', message: 'nested deeper than 64 levels' }],
    });
  });

  it('deep nesting: an OTLP value of 33 levels is 400 in both encodings', async () => {
    const value = (levels: number): unknown =>
      levels === 0 ? { intValue: 1 } : { arrayValue: { values: [value(levels - 1)] } };
    const body = { resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: value(40) }] }] }] };
    const json = await send('/v1/logs', JSON.stringify(body));
    expect([json.status, json.json['code']]).toEqual([400, 3]);
    let any: Buffer = Buffer.from([0x18, 0x01]);
    for (let i = 0; i < 40; i += 1) any = lengthDelimited(5, lengthDelimited(1, any));
    const record = lengthDelimited(5, any);
    const request = lengthDelimited(1, lengthDelimited(2, lengthDelimited(2, record)));
    expect((await send('/v1/logs', request, PROTOBUF)).status).toBe(400);
  });

  it('100,000 keys: unknown ones are dropped, those of ext are cut and counted', async () => {
    const keys = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, i]));
    const cut = await counted(
      'grantscope_fields_cut_total',
      { source: 'grantscope', field: 'ext' },
      async () => {
        const answer = await send(
          '/v1/events/grantscope',
          JSON.stringify([event('keys', keys), event('keys', { ext: keys })]),
        );
        expect(answer.json).toEqual({ accepted: 2, rejected: 0, errors: [] });
      },
    );
    expect(cut).toBe(1);
    const rows = await stored<{ ext: Record<string, string> }>('keys', 2);
    expect(rows.map((r) => Object.keys(r.ext).length).sort((a, b) => a - b)).toEqual([0, 50]);
  });

  it('100,000 keys: of OTLP attributes the first 1,024 are stored, the rest is counted', async () => {
    const attributes = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, i]));
    const request = group([{ ...emptyLogRecord(), body: 'keys-1', attributes }]);
    const cut = await counted(
      'grantscope_otlp_attributes_cut_total',
      { signal: 'logs' },
      async () => {
        const answer = await send('/v1/logs', logsToProtobuf(request), PROTOBUF);
        expect([answer.status, answer.body.length]).toEqual([200, 0]);
      },
    );
    expect(cut).toBe(100_000 - 1_024);
    await collector.flush();
    const read = () =>
      opened.store.query<{ keys: number }>(
        sql`SELECT toUInt32(length(LogAttributes)) AS keys FROM grantscope.otel_logs WHERE Body = 'keys-1'`,
      );
    await until(async () => (await read()).length > 0);
    expect(await read()).toEqual([{ keys: 1_024 }]);
  });

  it('100,000 keys: 500,001 OTLP attributes in one request are 413', async () => {
    const attributes = Object.fromEntries(
      Array.from({ length: 1_000 }, (_, i) => [i.toString(36), null]),
    );
    const records = (count: number) =>
      Array.from({ length: count }, () => ({ ...emptyLogRecord(), attributes }));
    const answer = await send('/v1/logs', logsToProtobuf(group(records(501))), PROTOBUF);
    expect(answer.status).toBe(413);
  });

  it('__proto__: is a key like any other, and changes no object', async () => {
    const body =
      '{"time":"2026-05-31T03:04:05Z","kind":"login","client":{"id":"proto"},"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"ext":{"__proto__":"x","toString":"y"}}';
    expect((await send('/v1/events/grantscope', body)).json).toMatchObject({ accepted: 1 });
    const attributes = [
      {
        key: '__proto__',
        value: { kvlistValue: { values: [{ key: 'polluted', value: { intValue: 1 } }] } },
      },
    ];
    const logs = {
      resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: { stringValue: 'b' }, attributes }] }] }],
    };
    expect((await send('/v1/logs', JSON.stringify(logs))).status).toBe(200);
    const [row] = await stored<{ ext: Record<string, string> }>('proto', 1);
    expect(Object.entries(row?.ext ?? {}).sort()).toEqual([
      ['__proto__', 'x'],
      ['toString', 'y'],
    ]);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('64-bit numbers: a time in ns is exact as text, and within a microsecond as a number', async () => {
    const exact = '1780196645123456789';
    const body = [
      `{"time":"${exact}","kind":"login","client":{"id":"long-text"}}`,
      `{"time":${exact},"kind":"login","client":{"id":"long-number"}}`,
    ];
    expect((await send('/v1/events/grantscope', body.join('\n'))).json).toMatchObject({
      accepted: 2,
    });
    const [asText] = await stored<{ time: string }>('long-text', 1);
    const [asNumber] = await stored<{ time: string }>('long-number', 1);
    expect(asText?.time).toBe('2026-05-31 03:04:05.123456789');
    expect(asNumber?.time.slice(0, 26)).toBe('2026-05-31 03:04:05.123456');
  });

  it('64-bit numbers: numbers out of range are refused or stored as unknown, never wrapped', async () => {
    const records = [
      event('range', { http: { status: 1e300, duration_ms: -1 } }),
      event('range', {
        tokens: [{ role: 'issued', type: 'access', jti: 'a', counter: Number('9007199254740993') }],
      }),
    ];
    expect((await send('/v1/events/grantscope', JSON.stringify(records))).json).toMatchObject({
      accepted: 2,
    });
    const rows = await stored<{
      http_status: number;
      http_duration_ms: number | null;
      'tokens.counter': string[];
    }>('range', 2);
    for (const row of rows) {
      expect([row.http_status, row.http_duration_ms]).toEqual([0, null]);
      expect(row['tokens.counter'].map(Number).every((n) => n === -1)).toBe(true);
    }
  });

  it('huge fields: are cut and counted', async () => {
    const cut = await counted('grantscope_fields_cut_total', { source: 'grantscope' }, () =>
      send(
        '/v1/events/grantscope',
        JSON.stringify(
          event('huge', {
            error: { detail: 'word '.repeat(400_000) },
            net: { user_agent: 'agent '.repeat(1_000) },
          }),
        ),
      ),
    );
    expect(cut).toBe(2);
    const [row] = await stored<{ error_detail: string; net_user_agent: string }>('huge', 1);
    expect([row?.error_detail.length, row?.net_user_agent.length]).toEqual([1_024, 512]);
    const texts = await counted('grantscope_otlp_texts_cut_total', { signal: 'traces' }, () =>
      send(
        '/v1/traces',
        tracesToProtobuf(group([{ ...emptySpan(), name: 'name '.repeat(100_000) }])),
        PROTOBUF,
      ),
    );
    expect(texts).toBe(1);
  });

  it('huge fields: a body of one byte too many is 413', async () => {
    for (const path of PATHS) {
      const answer = await send(path, Buffer.alloc(BODY_BYTES_MAX + 1, 0x20));
      expect(answer.status).toBe(413);
    }
  });

  it('years 1 and 9999: an event of such a time is refused, and kept as a dead letter', async () => {
    const times = [
      '0001-01-01T00:00:00Z',
      '9999-12-31T23:59:59Z',
      '1999-12-31T23:59:59Z',
      '2026-06-02T00:01:00Z',
    ];
    const kept = await counted(
      'grantscope_dead_letters_total',
      { source: 'grantscope', code: 'invalid_time' },
      async () => {
        const answer = await send(
          '/v1/events/grantscope',
          JSON.stringify(times.map((time) => event('wild', { time }))),
        );
        expect([answer.json['accepted'], answer.json['rejected']]).toEqual([0, 4]);
        const errors = answer.json['errors'] as { code: string; message: string }[];
        expect(errors.map((e) => e.code)).toEqual(Array(4).fill('invalid_time'));
        expect(errors[3]?.message).toContain('more than a day ahead');
      },
    );
    expect(kept).toBe(4);
    expect(
      (
        await send(
          '/v1/events/grantscope',
          JSON.stringify(event('near', { time: '2026-06-01T23:59:00Z' })),
        )
      ).json,
    ).toMatchObject({ accepted: 1 });
  });

  it('years 1 and 9999: an event older than the retention is accepted, and counted', async () => {
    const past = await counted(
      'grantscope_events_past_retention_total',
      { source: 'grantscope' },
      () =>
        send(
          '/v1/events/grantscope',
          JSON.stringify(
            ['2001-01-01T00:00:00Z', '2026-03-02T00:00:00Z', '2026-03-04T00:00:00Z'].map((time) =>
              event('old', { time }),
            ),
          ),
        ),
    );
    expect(past).toBe(2);
  });

  it('a refused record of a repeated request is told again, and not kept again', async () => {
    const body = JSON.stringify([event('repeat'), event('repeat', { kind: 'hack' })]);
    const first = await send('/v1/events/grantscope', body);
    const kept = await counted(
      'grantscope_spool_rows_durable_total',
      { table: 'grantscope.dead_letters' },
      async () => {
        expect((await send('/v1/events/grantscope', body)).json).toEqual(first.json);
      },
    );
    expect([first.json['rejected'], kept]).toEqual([1, 0]);
  });

  it('years 1 and 9999: spans and logs of such a time get the time of receipt, and are counted', async () => {
    const year9999 = 18_000_000_000_000_000_000n;
    const year1971 = 31_536_000_000_000_000n;
    const spans = await counted('grantscope_otlp_times_replaced_total', { signal: 'traces' }, () =>
      send(
        '/v1/traces',
        tracesToJson(
          group(
            [1n, year1971, year9999].map((startTimeUnixNano) => ({
              ...emptySpan(),
              name: 'wild-span',
              startTimeUnixNano,
              endTimeUnixNano: startTimeUnixNano,
            })),
          ),
        ),
        JSON_TYPE,
      ),
    );
    expect(spans).toBe(3);
    const logs = await counted('grantscope_otlp_times_replaced_total', { signal: 'logs' }, () =>
      send(
        '/v1/logs',
        logsToProtobuf(group([{ ...emptyLogRecord(), body: 'wild-log', timeUnixNano: year9999 }])),
        PROTOBUF,
      ),
    );
    expect(logs).toBe(1);
    await collector.flush();
    const read = () =>
      opened.store.query<{ day: string }>(
        sql`SELECT toString(toDate(Timestamp)) AS day FROM grantscope.otel_traces WHERE SpanName = 'wild-span' UNION ALL SELECT toString(toDate(Timestamp)) FROM grantscope.otel_logs WHERE Body = 'wild-log'`,
      );
    await until(async () => (await read()).length === 4);
    expect(await read()).toEqual(Array(4).fill({ day: '2026-06-01' }));
  });
});

describe('limits in flight', () => {
  it('bytes in flight: beyond the limit the next gets 503 with Retry-After, then there is room again', async () => {
    const size = BODY_BYTES_MAX - 1_000;
    const slow: Socket[] = [];
    for (let i = 0; i < 2; i += 1) {
      const socket = await socketTo();
      socket.write(head('/v1/events/grantscope', size));
      socket.write(Buffer.alloc(size - 10, 0x20));
      slow.push(socket);
    }
    await until(async () => (await value('grantscope_body_bytes_in_flight')) >= 2 * size - 20);
    const refused = await counted(
      'grantscope_requests_limited_total',
      { limit: 'body_bytes_in_flight' },
      async () => {
        const json = await send('/v1/events/grantscope', Buffer.alloc(10_000, 0x20));
        expect([json.status, json.retryAfter, json.json['code']]).toEqual([503, '2', 'overloaded']);
        const otlp = await send('/v1/logs', Buffer.alloc(10_000, 0x20));
        expect([otlp.status, otlp.retryAfter, otlp.json['code']]).toEqual([503, '2', 14]);
      },
    );
    expect(refused).toBe(2);
    for (const socket of slow) socket.destroy();
  });

  it('connections: one more than allowed is closed at once, and counted', async () => {
    const before = await value('grantscope_connections_dropped_total');
    const { port } = new URL(collector.url);
    const sockets = Array.from({ length: 70 }, () => {
      const socket = connect(Number(port), '127.0.0.1');
      return socket.on('error', () => undefined);
    });
    await until(async () => (await value('grantscope_connections_dropped_total')) > before);
    for (const socket of sockets) socket.destroy();
    await until(
      () =>
        new Promise<boolean>((resolve) => {
          const options = { agent: false, timeout: 500 };
          const request = httpRequest(`${collector.url}/healthz`, options, (response) => {
            response.resume();
            resolve(response.statusCode === 200);
          });
          request.on('timeout', () => request.destroy());
          request.on('error', () => resolve(false));
          request.end();
        }),
    );
  });

  it('no HTTP: gets 400, headers too large 431, both counted', async () => {
    for (const [bytes, status] of [
      ['\u0016\u0003\u0001\u0002 no http\r\n\r\n', '400'],
      [`GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`, '431'],
    ] as const) {
      const broken = await counted('grantscope_requests_broken_total', { status }, async () => {
        const socket = await socketTo();
        const text = textOf(socket);
        socket.write(bytes);
        expect((await text).slice(0, 12)).toBe(`HTTP/1.1 ${status}`);
      });
      expect(broken).toBe(1);
    }
  });
});

describe('rates of a source', () => {
  const line = (n: number): string =>
    JSON.stringify({
      start_time: '2026-05-31T03:04:05.678Z',
      method: 'GET',
      path: '/orders',
      response_code: 200,
      authority: 'api',
      n,
    });

  it('records a second: 429 with Retry-After once used up, and each source by itself', async () => {
    const lines = (count: number, from: number) =>
      Array.from({ length: count }, (_, i) => line(from + i)).join('\n');
    const first = await send('/v1/events/envoy', lines(30, 0));
    expect([first.status, first.json['accepted']]).toEqual([200, 30]);
    const limited = await counted(
      'grantscope_requests_limited_total',
      { receiver: 'envoy', limit: 'records_per_second' },
      async () => {
        const second = await send('/v1/events/envoy', lines(1, 100));
        expect([second.status, second.retryAfter, second.json['code']]).toEqual([
          429,
          '3',
          'rate_limited',
        ]);
      },
    );
    expect(limited).toBe(1);
    clock.advance(2_100);
    expect((await send('/v1/events/envoy', lines(1, 100))).status).toBe(200);
  });

  it('bytes a second: counted after decompression', async () => {
    const body = gzipSync(' '.repeat(3_000));
    expect((await send('/v1/events/keycloak', body, { ...JSON_TYPE, ...GZIP })).status).toBe(200);
    const answer = await send('/v1/events/keycloak', '[]');
    expect([answer.status, answer.retryAfter]).toEqual([429, '3']);
  });

  it('a vendor’s records in OTLP logs count against their source, and the answer is a Status', async () => {
    clock.advance(60_000);
    const logs = (count: number, from: number) =>
      logsToProtobuf(
        group(
          Array.from({ length: count }, (_, i) => ({
            ...emptyLogRecord(),
            body: line(1_000 + from + i),
            attributes: { 'grantscope.source': 'envoy' },
          })),
        ),
      );
    expect((await send('/v1/logs', logs(25, 0), PROTOBUF)).status).toBe(200);
    const answer = await send('/v1/logs', logs(1, 100), PROTOBUF);
    expect([answer.status, answer.retryAfter, answer.type, answer.body[1]]).toEqual([
      429,
      '2',
      'application/x-protobuf',
      8,
    ]);
    expect((await send('/v1/events/envoy', line(1_500))).status).toBe(429);
    expect(
      (await send('/v1/logs', logsToProtobuf(group([emptyLogRecord()])), PROTOBUF)).status,
    ).toBe(200);
  });
});

it('a rate for a source that there is not stops the start', async () => {
  const wrong = testRuntime(opened.dataDir, {
    config: { sources: { nosuch: { records_per_second: 1, burst_seconds: 2 } } },
  });
  const folder = `${opened.dataDir}/elsewhere`;
  const config = { ...wrong.config, dataDir: folder };
  await expect(startCollector({ ...wrong, config }, opened.store)).rejects.toThrow(
    /no source nosuch; allowed: apisix, auth0, /,
  );
});
