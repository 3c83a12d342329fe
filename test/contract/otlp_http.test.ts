/**
 * The OTLP/HTTP checklist against a listening server, line by line, and what the receiver hands to the pipeline.
 * The pipeline itself is replaced by one that records (test/otlp_server.ts).
 */
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { IngestBatch } from '../../collector/ingest.ts';
import { VENDOR_BODY } from '../../collector/receivers/otlp/map_logs.ts';
import type { OtelLogRow, OtelSpanRow } from '../../collector/receivers/otlp/rows.ts';
import {
  emptyLogRecord,
  emptySpan,
  type Attributes,
  type OtlpLogRecord,
  type OtlpSpan,
} from '../../collector/receivers/otlp/types.ts';
import type { SourceRecord } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import {
  group,
  logsToJson,
  logsToProtobuf,
  tracesToJson,
  tracesToProtobuf,
} from '../otlp_encoders.ts';
import { NOW_NS, startOtlpServer, type Answer, type OtlpServer } from '../otlp_server.ts';

const PROTOBUF = { 'Content-Type': 'application/x-protobuf' };
const JSON_TYPE = { 'Content-Type': 'application/json' };

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const SPAN_ID = 'b7ad6b7169203331';

function span(fields: Partial<OtlpSpan> = {}): OtlpSpan {
  return {
    ...emptySpan(),
    traceId: TRACE_ID,
    spanId: SPAN_ID,
    name: 'POST /token',
    kind: 2,
    startTimeUnixNano: NOW_NS - 50_000_000n,
    endTimeUnixNano: NOW_NS - 7_500_000n,
    ...fields,
  };
}

function log(fields: Partial<OtlpLogRecord> = {}): OtlpLogRecord {
  return { ...emptyLogRecord(), timeUnixNano: NOW_NS - 1n, body: 'hello', ...fields };
}

let server: OtlpServer;
beforeEach(async () => {
  server = await startOtlpServer();
});
afterEach(() => server.close());

/** google.rpc.Status from protobuf: code in field 1, message in field 2 (shorter than 16 KiB). */
function statusOf(answer: Answer): { code: number; message: string } {
  if (answer.headers['content-type']?.startsWith('application/json') === true)
    return JSON.parse(answer.body.toString()) as { code: number; message: string };
  const [codeTag, code, messageTag, low, high] = answer.body;
  expect([codeTag, messageTag]).toEqual([0x08, 0x12]);
  const isLong = (low ?? 0) >= 0x80;
  const length = isLong ? ((low ?? 0) & 0x7f) | ((high ?? 0) << 7) : (low ?? 0);
  const start = isLong ? 5 : 4;
  expect(answer.body.length).toBe(start + length);
  return { code: code ?? 0, message: answer.body.toString('utf8', start) };
}

function spanRows(batch: IngestBatch | undefined): readonly OtelSpanRow[] {
  expect(batch?.tables.map((t) => t.spec.table)).toEqual(['grantscope.otel_traces']);
  return (batch?.tables[0]?.rows ?? []) as readonly OtelSpanRow[];
}

function logRows(batch: IngestBatch | undefined): readonly OtelLogRow[] {
  expect(batch?.tables.map((t) => t.spec.table)).toEqual(['grantscope.otel_logs']);
  return (batch?.tables[0]?.rows ?? []) as readonly OtelLogRow[];
}

async function counterValues(name: string): Promise<Record<string, number>> {
  const { values } = (await server.metrics.registry.getSingleMetric(name)?.get()) ?? { values: [] };
  return Object.fromEntries(
    values.map((v) => [Object.values(v.labels as Record<string, string>).join(','), v.value]),
  );
}

const requests = {
  'traces, protobuf': ['/v1/traces', PROTOBUF, tracesToProtobuf(group([span()]))],
  'traces, JSON': ['/v1/traces', JSON_TYPE, tracesToJson(group([span()]))],
  'logs, protobuf': ['/v1/logs', PROTOBUF, logsToProtobuf(group([log()]))],
  'logs, JSON': ['/v1/logs', JSON_TYPE, logsToJson(group([log()]))],
} as const;
const cases = Object.entries(requests).map(([name, [path, headers, body]]) => ({
  name,
  path,
  headers,
  body,
}));

describe('full success', () => {
  test.each(cases)(
    'otlp 6: $name: 200, the request’s Content-Type, no partial_success',
    async (c) => {
      const answer = await server.send(c.path, c.body, c.headers);
      expect(answer.status).toBe(200);
      expect(answer.headers['content-type']).toBe(c.headers['Content-Type']);
      expect(answer.headers['content-length']).toBe(String(answer.body.length));
      expect(answer.body.toString()).toBe(c.headers === JSON_TYPE ? '{}' : '');
      expect(server.ingest.batches).toHaveLength(1);
      expect(server.ingest.batches[0]?.tables[0]?.rows).toHaveLength(1);
    },
  );

  test.each(cases)('otlp 3: $name: gzip is read', async (c) => {
    const gzip = { ...c.headers, 'Content-Encoding': 'gzip' };
    expect((await server.send(c.path, gzipSync(c.body), gzip)).status).toBe(200);
    expect(server.ingest.batches[0]?.tables[0]?.rows).toHaveLength(1);
  });

  test.each([
    ['protobuf', PROTOBUF, '', ''],
    ['JSON, an empty object', JSON_TYPE, '{}', '{}'],
    ['JSON, no body', JSON_TYPE, '', '{}'],
    ['JSON, empty lists', JSON_TYPE, '{"resourceSpans":[],"resourceLogs":[]}', '{}'],
  ])(
    'otlp 5: an empty request is 200 and stores nothing: %s',
    async (_name, headers, body, expected) => {
      for (const path of ['/v1/traces', '/v1/logs']) {
        const answer = await server.send(path, body, headers);
        expect([answer.status, answer.body.toString()]).toEqual([200, expected]);
      }
      expect(server.ingest.batches).toEqual([]);
    },
  );

  test.each([
    ['application/json; charset=utf-8', 'application/json; charset=utf-8'],
    ['application/json;charset="UTF-8"', 'application/json; charset=utf-8'],
    ['Application/JSON', 'application/json'],
    ['application/json; profile=x', 'application/json'],
  ])('otlp 1: Content-Type %s is read, and answered with %s', async (sent, answered) => {
    const answer = await server.send('/v1/traces', '{}', { 'Content-Type': sent });
    expect([answer.status, answer.headers['content-type']]).toEqual([200, answered]);
  });

  test('a query string on the path is no other path', async () => {
    expect((await server.send('/v1/logs?x=1', '', PROTOBUF)).status).toBe(200);
  });

  test('a repeated request carries the same content hash, another signal or body another', async () => {
    const { path, body } = cases[0]!;
    const gzip = { ...PROTOBUF, 'Content-Encoding': 'gzip' };
    await server.send(path, body, PROTOBUF);
    await server.send(path, gzipSync(body), gzip);
    await server.send(path, tracesToProtobuf(group([span({ name: 'other' })])), PROTOBUF);
    const hashes = server.ingest.batches.map((b) => b.contentHash);
    expect(hashes[0]).toMatch(/^[0-9a-f]{64}$/);
    expect(hashes[1]).toBe(hashes[0]);
    expect(hashes[2]).not.toBe(hashes[0]);
  });

  test('the same bytes as the other signal are another request', async () => {
    const oneEmptyRecord = Buffer.from('0a0412021200', 'hex');
    await server.send('/v1/traces', oneEmptyRecord, PROTOBUF);
    await server.send('/v1/logs', oneEmptyRecord, PROTOBUF);
    expect(new Set(server.ingest.batches.map((b) => b.contentHash)).size).toBe(2);
  });
});

describe('refusals: a Status in the request’s encoding', () => {
  test.each(['GET', 'PUT', 'DELETE', 'OPTIONS'])('otlp 1: %s is 405 with Allow', async (method) => {
    for (const headers of [PROTOBUF, JSON_TYPE]) {
      const answer = await server.send('/v1/traces', '', headers, method);
      expect([answer.status, answer.headers.allow]).toEqual([405, 'POST']);
      expect(answer.headers['content-type']).toBe(headers['Content-Type']);
      expect(statusOf(answer)).toEqual({ code: 12, message: 'method: allowed: POST' });
    }
  });

  test.each([
    ['text/plain'],
    ['application/x-ndjson'],
    ['application/protobuf'],
    ['application/json; charset=latin1'],
    [''],
  ])('otlp 1: Content-Type %j is 415', async (type) => {
    const answer = await server.send('/v1/logs', 'x', type === '' ? {} : { 'Content-Type': type });
    expect([answer.status, answer.headers['content-type']]).toEqual([415, 'application/json']);
    expect(statusOf(answer)).toEqual({
      code: 3,
      message: 'Content-Type: allowed: application/x-protobuf, application/json (UTF-8)',
    });
  });

  test.each([
    ['otlp 3: another coding', 415, 'br', 'x', 3, 'Content-Encoding'],
    ['otlp 3: bad gzip', 400, 'gzip', 'x', 3, 'not valid gzip'],
    ['otlp 3: truncated gzip', 400, 'gzip', gzipSync('{}').subarray(0, -4), 3, 'not valid gzip'],
    ['otlp 4: too large', 413, 'identity', ' '.repeat(1024 * 1024 + 1), 8, 'at most 1048576 bytes'],
    ['otlp 4: a bomb', 413, 'gzip', gzipSync(' '.repeat(9_000_000)), 8, 'at most 1048576 bytes'],
    ['otlp 9: undecodable', 400, 'identity', '{"resourceSpans":7}', 3, 'OTLP'],
  ])('%s is %i', async (_name, status, coding, body, code, message) => {
    for (const headers of [PROTOBUF, JSON_TYPE]) {
      const sent = { ...headers, 'Content-Encoding': coding };
      const answer = await server.send('/v1/traces', body, sent);
      expect([answer.status, answer.headers['content-type']]).toEqual([
        status,
        headers['Content-Type'],
      ]);
      expect(statusOf(answer).code).toBe(code);
      expect(statusOf(answer).message).toContain(message);
      expect(answer.headers['retry-after']).toBeUndefined();
    }
    expect(server.ingest.batches).toEqual([]);
  });

  test('otlp 11: the wrong signal is 400, in both encodings', async () => {
    const [traces, , logs, logsJson] = cases;
    const recognised = [
      await server.send('/v1/traces', logs!.body, PROTOBUF),
      await server.send('/v1/logs', traces!.body, PROTOBUF),
      await server.send('/v1/traces', logsJson!.body, JSON_TYPE),
    ];
    expect(recognised.map((a) => a.status)).toEqual([400, 400, 400]);
  });

  test('another path is not the receiver’s', async () => {
    const answer = await server.send('/v1/metrics', '', PROTOBUF);
    expect([answer.status, answer.body.toString()]).toEqual([404, 'not mine']);
  });

  test('a client that goes on sending what was refused is cut off', async () => {
    const socket = connect(server.port, '127.0.0.1');
    const answered = new Promise<string>((resolve) => {
      socket.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    });
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.on('error', () => undefined);
    socket.write(
      'POST /v1/logs HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    const chunk = `100000\r\n${'x'.repeat(0x100000)}\r\n`;
    const pump = (): void => {
      while (socket.writable && socket.write(chunk));
    };
    socket.on('drain', pump);
    pump();
    expect(await answered).toContain('HTTP/1.1 415');
    await closed;
  });

  test('a body that does not arrive in time is 408, and the connection is closed', async () => {
    await server.close();
    server = await startOtlpServer({ bodyDeadlineMs: 100 });
    const text = await new Promise<string>((resolve) => {
      let received = '';
      const socket = connect(server.port, '127.0.0.1', () => {
        socket.write(
          'POST /v1/logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
        );
      });
      socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
      socket.on('close', () => resolve(received));
    });
    expect(text).toContain('HTTP/1.1 408');
    expect(text.toLowerCase()).toContain('connection: close');
    expect(text).toContain('{"code":4,"message":"body: not complete after 100 ms"}');
  });
});

describe('passing states', () => {
  const passing: [string, GrantscopeError, number, number][] = [
    ['the spool is full', new GrantscopeError('spool_full', 'full', { retriable: true }), 503, 14],
    ['shutting down', new GrantscopeError('shutting_down', 'stopping'), 503, 14],
    ['rate limited', new GrantscopeError('rate_limited', 'slow down'), 429, 8],
    [
      'any error that says it may pass',
      new GrantscopeError('spool_write_failed', 'disk', { retriable: true }),
      503,
      14,
    ],
  ];
  test.each(passing)(
    'otlp 9: %s: retryable, with Retry-After',
    async (_name, error, status, code) => {
      for (const c of cases) {
        server.ingest.outcomes.push(error);
        const answer = await server.send(c.path, c.body, c.headers);
        expect([answer.status, answer.headers['retry-after']]).toEqual([status, '2']);
        expect(statusOf(answer)).toEqual({ code, message: error.message });
      }
    },
  );

  test('otlp 9: a defect is 500, says nothing about its inside, and is told for the log', async () => {
    const defect = new Error('secret detail');
    server.ingest.outcomes.push(defect);
    const answer = await server.send('/v1/logs', cases[3]!.body, JSON_TYPE);
    expect(answer.status).toBe(500);
    expect(statusOf(answer)).toEqual({ code: 13, message: 'internal error' });
    expect(server.failures).toEqual([defect]);
  });

  test('otlp 9: one request more than may be worked on at a time is 503; then there is room again', async () => {
    await server.close();
    server = await startOtlpServer({ intakeLimits: { requestsMax: 1 } });
    const { path, body } = cases[0]!;
    let release = (): void => undefined;
    let entered = (): void => undefined;
    const isIn = new Promise<void>((resolve) => (entered = resolve));
    server.ingest.outcomes.push(async () => {
      entered();
      await new Promise<void>((resolve) => (release = resolve));
      return { accepted: 0, rejected: 0, errors: [], repeated: false };
    });
    const first = server.send(path, body, PROTOBUF);
    await isIn;
    const second = await server.send(path, body, PROTOBUF);
    expect([second.status, second.headers['retry-after']]).toEqual([503, '2']);
    release();
    expect((await first).status).toBe(200);
    expect((await server.send(path, body, PROTOBUF)).status).toBe(200);
  });
});

describe('partial success', () => {
  const unknown = (): OtlpLogRecord => log({ attributes: { 'grantscope.source': 'nosuch' } });
  const reason =
    'no auth event was made of 1 of 2 log records: log record 1: unknown_source: grantscope.source: no such source; known: both, jsonly, lines, otlp';

  test('otlp 7: JSON: the count is text, the message English', async () => {
    const answer = await server.send('/v1/logs', logsToJson(group([log(), unknown()])), JSON_TYPE);
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body.toString())).toEqual({
      partialSuccess: { rejectedLogRecords: '1', errorMessage: reason },
    });
    expect(logRows(server.ingest.batches[0])).toHaveLength(2);
    expect(await counterValues('grantscope_otlp_records_total')).toEqual({
      'logs,accepted': 1,
      'logs,rejected': 1,
    });
  });

  test('otlp 7: protobuf: field 1 holds the count and the message', async () => {
    const body = logsToProtobuf(group([log(), unknown()]));
    const answer = await server.send('/v1/logs', body, PROTOBUF);
    const message = Buffer.from(reason);
    const inner = Buffer.concat([
      Buffer.from([0x08, 1, 0x12, (message.length & 0x7f) | 0x80, message.length >> 7]),
      message,
    ]);
    expect(answer.body).toEqual(
      Buffer.concat([Buffer.from([0x0a, (inner.length & 0x7f) | 0x80, inner.length >> 7]), inner]),
    );
  });

  test('otlp 7: refusals of the pipeline name the span; one span counts once', async () => {
    const event = { timeUnixNano: NOW_NS, name: 'oauth.auth_event', attributes: {} };
    const bad = span({ attributes: { 'oauth.event.kind': 'nonsense' }, events: [event] });
    server.ingest.outcomes.push((batch) => ({
      accepted: 0,
      rejected: [...batch.records].length,
      errors: [...batch.records].map((_r, index) => ({
        index,
        code: 'invalid_field' as const,
        message: 'oauth.event.kind: unknown',
      })),
      repeated: false,
    }));
    const answer = await server.send('/v1/traces', tracesToJson(group([span(), bad])), JSON_TYPE);
    expect(JSON.parse(answer.body.toString())).toEqual({
      partialSuccess: {
        rejectedSpans: '1',
        errorMessage:
          'no auth event was made of 1 of 2 spans: span 1: invalid_field: oauth.event.kind: unknown; span 1: invalid_field: oauth.event.kind: unknown',
      },
    });
  });

  test('otlp 7: many refusals: all are counted, the first are told', async () => {
    const records = Array.from({ length: 300 }, () =>
      log({ attributes: { 'oauth.event.kind': 'login' } }),
    );
    server.ingest.outcomes.push(() => ({
      accepted: 0,
      rejected: 300,
      errors: Array.from({ length: 100 }, (_x, index) => ({
        index,
        code: 'invalid_field' as const,
        message: 'm',
      })),
      repeated: false,
    }));
    const answer = await server.send('/v1/logs', logsToJson(group(records)), JSON_TYPE);
    expect(JSON.parse(answer.body.toString())).toEqual({
      partialSuccess: {
        rejectedLogRecords: '300',
        errorMessage:
          'no auth event was made of 300 of 300 log records: log record 0: invalid_field: m; log record 1: invalid_field: m; log record 2: invalid_field: m; log record 3: invalid_field: m; log record 4: invalid_field: m; and 295 more',
      },
    });
  });
});

describe('rows', () => {
  test('a span becomes a row in the exporter’s words', async () => {
    const request = group(
      [
        span({
          parentSpanId: '00f067aa0ba902b7',
          traceState: 'vendor=1',
          attributes: { 'http.response.status_code': 200, 'oauth.scopes_granted': ['a', 'b'] },
          events: [{ timeUnixNano: NOW_NS - 9n, name: 'done', attributes: { ok: true } }],
          links: [
            { traceId: 'f'.repeat(32), spanId: 'e'.repeat(16), traceState: '', attributes: {} },
          ],
          status: { code: 2, message: 'refused' },
        }),
      ],
      { 'service.name': 'auth', 'service.instance.id': 'as-1' },
    );
    await server.send('/v1/traces', tracesToProtobuf(request), PROTOBUF);
    expect(spanRows(server.ingest.batches[0])).toEqual([
      {
        timestamp: NOW_NS - 50_000_000n,
        traceId: TRACE_ID,
        spanId: SPAN_ID,
        parentSpanId: '00f067aa0ba902b7',
        traceState: 'vendor=1',
        spanName: 'POST /token',
        spanKind: 'Server',
        serviceName: 'auth',
        resourceAttributes: { 'service.name': 'auth', 'service.instance.id': 'as-1' },
        scopeName: 'test',
        scopeVersion: '1',
        spanAttributes: { 'http.response.status_code': '200', 'oauth.scopes_granted': '["a","b"]' },
        duration: 42_500_000n,
        statusCode: 'Error',
        statusMessage: 'refused',
        events: [{ timestamp: NOW_NS - 9n, name: 'done', attributes: { ok: 'true' } }],
        links: [
          { traceId: 'f'.repeat(32), spanId: 'e'.repeat(16), traceState: '', attributes: {} },
        ],
      },
    ]);
    expect(server.ingest.batches[0]?.records).toEqual([]);
    expect(server.ingest.batches[0]?.receiver).toBe('otlp');
  });

  test('a log record becomes a row; a body that is no text becomes JSON', async () => {
    const record = log({
      observedTimeUnixNano: NOW_NS,
      severityNumber: 13,
      severityText: 'WARN',
      body: { user_agent: 'curl', n: [1, 2] },
      attributes: { 'http.route': '/token' },
      flags: 257,
      traceId: TRACE_ID,
      spanId: SPAN_ID,
      eventName: 'app.event',
    });
    await server.send('/v1/logs', logsToJson(group([record], { 'service.name': 'rs' })), JSON_TYPE);
    expect(logRows(server.ingest.batches[0])).toEqual([
      {
        timestamp: NOW_NS - 1n,
        traceId: TRACE_ID,
        spanId: SPAN_ID,
        traceFlags: 1,
        severityText: 'WARN',
        severityNumber: 13,
        serviceName: 'rs',
        body: '{"user_agent":"curl","n":[1,2]}',
        resourceSchemaUrl: '',
        resourceAttributes: { 'service.name': 'rs' },
        scopeSchemaUrl: '',
        scopeName: 'test',
        scopeVersion: '1',
        scopeAttributes: {},
        logAttributes: { 'http.route': '/token' },
        eventName: 'app.event',
      },
    ]);
  });

  test('times: observed for absent, receipt for absent or out of range, counted', async () => {
    const day = 86_400_000_000_000n;
    const times = [
      log({ timeUnixNano: 0n, observedTimeUnixNano: NOW_NS - 5n }),
      log({ timeUnixNano: 0n }),
      log({ timeUnixNano: NOW_NS - 400n * day }),
      log({ timeUnixNano: NOW_NS - 401n * day }),
      log({ timeUnixNano: NOW_NS + day }),
      log({ timeUnixNano: NOW_NS + 2n * day }),
      log({ timeUnixNano: 2n ** 64n - 1n }),
    ];
    await server.send('/v1/logs', logsToProtobuf(group(times)), PROTOBUF);
    expect(logRows(server.ingest.batches[0]).map((r) => r.timestamp)).toEqual([
      NOW_NS - 5n,
      NOW_NS,
      NOW_NS - 400n * day,
      NOW_NS,
      NOW_NS + day,
      NOW_NS,
      NOW_NS,
    ]);
    expect(await counterValues('grantscope_otlp_times_replaced_total')).toEqual({ logs: 4 });
  });

  test('a span that ends before it starts has no duration; unknown enums are unset', async () => {
    const odd = span({ endTimeUnixNano: 5n, kind: 99, status: { code: -1, message: '' } });
    await server.send('/v1/traces', tracesToProtobuf(group([odd])), PROTOBUF);
    expect(spanRows(server.ingest.batches[0])[0]).toMatchObject({
      duration: 0n,
      spanKind: 'Unspecified',
      statusCode: 'Unset',
    });
  });

  test('a long body is cut, and counted', async () => {
    const body = 'word '.repeat(20_000);
    await server.send('/v1/logs', logsToProtobuf(group([log({ body })])), PROTOBUF);
    expect(logRows(server.ingest.batches[0])[0]?.body).toBe(body.slice(0, 65_536));
    expect(await counterValues('grantscope_otlp_texts_cut_total')).toEqual({ logs: 1 });
  });

  test('what redaction changed is counted: texts and attributes, and nothing of a clean record', async () => {
    await server.send('/v1/logs', logsToProtobuf(group([log({ body: 'hello' })])), PROTOBUF);
    expect(await counterValues('grantscope_otlp_values_redacted_total')).toEqual({ logs: 0 });
    const secret = `Bearer ${'a1B2'.repeat(10)}`;
    const attributes = { authorization: secret, password: 'hunter2', 'http.route': '/token' };
    const body = `sent ${secret}`;
    await server.send('/v1/logs', logsToProtobuf(group([log({ body, attributes })])), PROTOBUF);
    expect(await counterValues('grantscope_otlp_values_redacted_total')).toEqual({ logs: 3 });
  });

  test.each(['protobuf', 'JSON'])(
    'values of 10 MB cost nobody the batch (%s)',
    async (encoding) => {
      await server.close();
      server = await startOtlpServer({ bodyBytesMax: 64 * 1024 * 1024 });
      const long = 'a'.repeat(10_000_000);
      const attributes = { long, nested: [long], bytes: Buffer.from(long), short: 'kept' };
      const request = group([log({ body: long, attributes }), log()]);
      const answer =
        encoding === 'JSON'
          ? await server.send('/v1/logs', logsToJson(request), JSON_TYPE)
          : await server.send('/v1/logs', logsToProtobuf(request), PROTOBUF);
      expect(answer.status).toBe(200);
      const [first, second] = logRows(server.ingest.batches[0]);
      expect(first?.body.length).toBeLessThanOrEqual(65_536);
      for (const key of ['long', 'nested', 'bytes'])
        expect(first?.logAttributes[key]?.length).toBeLessThanOrEqual(32_768);
      expect(first?.logAttributes['short']).toBe('kept');
      expect(second?.body).toBe('hello');
      expect(await counterValues('grantscope_otlp_texts_cut_total')).toEqual({ logs: 4 });
    },
  );

  test('a large resource with many records is too large, before it is written out', async () => {
    const resource = { filler: 'word '.repeat(6_000) };
    const records = Array.from({ length: 10_000 }, () => emptyLogRecord());
    const body = logsToProtobuf(group(records, resource));
    expect(body.length).toBeLessThan(1024 * 1024);
    const answer = await server.send('/v1/logs', body, PROTOBUF);
    expect(answer.status).toBe(413);
    expect(statusOf(answer).message).toContain('counted once a record');
  });
});

/** Put together at run time, so that no scanner takes this file for a leak. */
const SECRETS = {
  jwt: ['eyJhbGciOiJIUzI1NiJ9', 'eyJzdWIiOiJhbGljZSJ9', 'c2lnbmF0dXJlLWJ5dGVz'].join('.'),
  bearer: ['tGzv3JOkF0', 'XG5Qx2TlKWIA'].join(''),
  code: ['SplxlOBeZQ', 'QYbYS6WxSbIA'].join(''),
};

describe('redaction: nothing of a secret is in what leaves the receiver', () => {
  const { jwt, bearer, code } = SECRETS;
  const everywhere: Attributes = {
    authorization: `Bearer ${bearer}`,
    'url.full': `https://user:${bearer}@as.example/cb?code=${code}#access_token=${jwt}`,
    [`key ${jwt}`]: 'x',
    note: `token=${bearer}&x=1`,
    nested: { inner: [{ client_secret: bearer }, `Authorization: Bearer ${bearer}`] },
    list: [jwt, `code=${code}`],
    bytes: Buffer.from(`{"refresh_token":"${bearer}"}`),
    json: JSON.stringify({ body: JSON.stringify({ code_verifier: code }) }),
  };
  const text = `GET /cb?code=${code} failed with Bearer ${bearer} and ${jwt}`;

  test.each(['protobuf', 'JSON'])('spans (%s)', async (encoding) => {
    const request = group(
      [
        span({
          name: text,
          traceState: `vendor=${jwt}`,
          attributes: everywhere,
          events: [{ timeUnixNano: NOW_NS, name: text, attributes: everywhere }],
          links: [{ traceId: TRACE_ID, spanId: SPAN_ID, traceState: jwt, attributes: everywhere }],
          status: { code: 2, message: text },
        }),
      ],
      everywhere,
    );
    request[0]!.schemaUrl = `https://as.example/?access_token=${bearer}`;
    request[0]!.scopes[0]!.schemaUrl = jwt;
    request[0]!.scopes[0]!.scope = { name: text, version: jwt, attributes: everywhere };
    if (encoding === 'JSON') await server.send('/v1/traces', tracesToJson(request), JSON_TYPE);
    else await server.send('/v1/traces', tracesToProtobuf(request), PROTOBUF);
    expectClean(spanRows(server.ingest.batches[0]));
  });

  test.each(['protobuf', 'JSON'])('log records (%s)', async (encoding) => {
    const records = [text, everywhere, [text], Buffer.from(text), { text }].map((body) =>
      log({ body, severityText: text, eventName: text, attributes: everywhere }),
    );
    const request = group(records, everywhere);
    request[0]!.schemaUrl = `https://as.example/?access_token=${bearer}`;
    request[0]!.scopes[0]!.schemaUrl = jwt;
    request[0]!.scopes[0]!.scope = { name: text, version: jwt, attributes: everywhere };
    if (encoding === 'JSON') await server.send('/v1/logs', logsToJson(request), JSON_TYPE);
    else await server.send('/v1/logs', logsToProtobuf(request), PROTOBUF);
    expect(logRows(server.ingest.batches[0])).toHaveLength(5);
    expectClean(logRows(server.ingest.batches[0]));
  });

  test('references and OAuth facts stay readable', async () => {
    const kept: Attributes = {
      'oauth.token.issued.access.ref': '7b2c1d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d',
      'oauth.client_id': 'web-app',
      'oauth.error': 'invalid_grant',
      'oauth.grant_type': 'authorization_code',
      'oauth.redaction.key_id': 'k1',
      'http.route': '/oauth/token',
    };
    await server.send(
      '/v1/traces',
      tracesToProtobuf(group([span({ attributes: kept })])),
      PROTOBUF,
    );
    expect(spanRows(server.ingest.batches[0])[0]?.spanAttributes).toEqual(kept);
  });

  function expectClean(rows: readonly unknown[]): void {
    const written = JSON.stringify(rows, (_key, value: unknown) =>
      typeof value === 'bigint' ? value.toString() : value,
    );
    for (const secret of [bearer, code, ...jwt.split('.')]) expect(written).not.toContain(secret);
    expect(written).toContain('[redacted]');
  }
});

describe('auth events', () => {
  const attributes: Attributes = {
    'oauth.event.kind': 'token_issued',
    'oauth.event.id': 'e-1',
    'oauth.client_id': 'web',
    'oauth.error': 'none',
    'oauth.token.issued.access.ref': '7b2c1d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d',
    big: 2n ** 60n,
  };
  const plain = { ...attributes, big: '1152921504606846976' };

  function recordsOf(index = 0): { source: string; record: SourceRecord }[] {
    return (server.ingest.batches[index]?.records ?? []).map(({ source, record }) => ({
      source: source.id,
      record,
    }));
  }

  test('a span is one at its end, its length the duration', async () => {
    const request = group([span(), span({ attributes })], { 'service.name': 'auth' });
    await server.send('/v1/traces', tracesToProtobuf(request), PROTOBUF);
    expect(recordsOf()).toEqual([
      {
        source: 'otlp',
        record: {
          form: 'json',
          value: {
            attributes: { ...plain, 'oauth.duration_ms': 42.5 },
            time_unix_nano: (NOW_NS - 7_500_000n).toString(),
            name: 'POST /token',
            trace_id: TRACE_ID,
            span_id: SPAN_ID,
            resource: { 'service.name': 'auth' },
          },
        },
      },
    ]);
    expect(spanRows(server.ingest.batches[0])).toHaveLength(2);
  });

  test('without an id of its own the span’s ids name it; without those nothing does', async () => {
    const kind = { 'oauth.event.kind': 'login' };
    const spans = [span({ attributes: kind }), span({ attributes: kind, traceId: '' })];
    await server.send('/v1/traces', tracesToProtobuf(group(spans)), PROTOBUF);
    const [named, nameless] = recordsOf().map((r) => r.record);
    expect(named).toMatchObject({
      value: { attributes: { 'oauth.event.id': `${TRACE_ID}:${SPAN_ID}` } },
    });
    expect(nameless).toMatchObject({
      value: { attributes: { 'oauth.event.kind': 'login', 'oauth.duration_ms': 42.5 } },
    });
    expect(JSON.stringify(nameless)).not.toContain('oauth.event.id');
  });

  test('a duration that the instrumentation gave is kept', async () => {
    const measured = span({ attributes: { ...attributes, 'oauth.duration_ms': 3 } });
    await server.send('/v1/traces', tracesToProtobuf(group([measured])), PROTOBUF);
    expect(recordsOf()[0]?.record).toMatchObject({
      value: { attributes: { 'oauth.duration_ms': 3 } },
    });
  });

  test('a span event is one more, with what the span says as defaults but for its own event', async () => {
    const event = {
      timeUnixNano: NOW_NS - 9n,
      name: 'oauth.auth_event',
      attributes: { 'oauth.event.kind': 'code_redeemed', 'oauth.client_id': 'other' },
    };
    const other = { timeUnixNano: NOW_NS, name: 'exception', attributes };
    const parent = span({
      attributes: { ...attributes, 'oauth.issuer': 'https://as.example' },
      events: [event, other],
    });
    await server.send('/v1/traces', tracesToProtobuf(group([parent])), PROTOBUF);
    const records = recordsOf();
    expect(records).toHaveLength(2);
    expect(records[1]?.record).toEqual({
      form: 'json',
      value: {
        attributes: {
          'oauth.event.kind': 'code_redeemed',
          'oauth.event.id': `${TRACE_ID}:${SPAN_ID}:0`,
          'oauth.client_id': 'other',
          'oauth.issuer': 'https://as.example',
          big: plain.big,
        },
        time_unix_nano: (NOW_NS - 9n).toString(),
        name: 'oauth.auth_event',
        trace_id: TRACE_ID,
        span_id: SPAN_ID,
        resource: {},
      },
    });
  });

  test.each([
    ['the field', { eventName: 'oauth.auth_event' }, {}],
    ['the attribute', {}, { 'event.name': 'oauth.auth_event' }],
  ])('a log record is one; its name comes from %s', async (_name, fields, more) => {
    const record = log({
      ...fields,
      observedTimeUnixNano: NOW_NS,
      attributes: { ...attributes, ...more },
      traceId: TRACE_ID,
      spanId: SPAN_ID,
    });
    await server.send('/v1/logs', logsToJson(group([log(), record])), JSON_TYPE);
    expect(recordsOf()).toEqual([
      {
        source: 'otlp',
        record: {
          form: 'json',
          value: {
            attributes: { ...plain, ...more },
            time_unix_nano: (NOW_NS - 1n).toString(),
            observed_time: NOW_NS.toString(),
            name: 'oauth.auth_event',
            trace_id: TRACE_ID,
            span_id: SPAN_ID,
            resource: {},
          },
        },
      },
    ]);
  });

  test('a vendor’s record in a log body goes to its source, and is not stored beside it', async () => {
    const body = '{"type":"LOGIN","token":"raw"}';
    const send = (source: string, b: OtlpLogRecord['body']): OtlpLogRecord =>
      log({ body: b, attributes: { 'grantscope.source': source } });
    const records = [
      send('jsonly', body),
      send('jsonly', { type: 'LOGIN', n: 2n ** 60n }),
      send('both', body),
      send('both', 'type=LOGIN'),
      send('both', '{type=LOGIN'),
      send('lines', body),
    ];
    await server.send('/v1/logs', logsToProtobuf(group(records)), PROTOBUF);
    const json = { type: 'LOGIN', token: 'raw' };
    expect(recordsOf()).toEqual([
      { source: 'jsonly', record: { form: 'json', value: json } },
      {
        source: 'jsonly',
        record: { form: 'json', value: { type: 'LOGIN', n: '1152921504606846976' } },
      },
      { source: 'both', record: { form: 'json', value: json } },
      { source: 'both', record: { form: 'text', line: 'type=LOGIN' } },
      { source: 'both', record: { form: 'text', line: '{type=LOGIN' } },
      { source: 'lines', record: { form: 'text', line: body } },
    ]);
    expect(logRows(server.ingest.batches[0]).map((r) => r.body)).toEqual(
      records.map(() => VENDOR_BODY),
    );
  });

  test('what a source cannot read is refused with the reason', async () => {
    const send = (source: string, body: OtlpLogRecord['body']): OtlpLogRecord =>
      log({ body, attributes: { 'grantscope.source': source } });
    const records = [send('jsonly', 'type=LOGIN'), send('lines', { a: 1 }), send('both', null)];
    const answer = await server.send('/v1/logs', logsToJson(group(records)), JSON_TYPE);
    expect(JSON.parse(answer.body.toString())).toEqual({
      partialSuccess: {
        rejectedLogRecords: '3',
        errorMessage:
          'no auth event was made of 3 of 3 log records: log record 0: not_json: body: the source jsonly reads JSON objects; log record 1: unsupported_form: body: the source lines reads lines of text; log record 2: missing_field: body: empty; expected a record of the source',
      },
    });
    expect(recordsOf()).toEqual([]);
  });
});

test('requests are counted by signal, encoding and answer', async () => {
  await server.send('/v1/traces', '{}', JSON_TYPE);
  await server.send('/v1/logs', 'x', PROTOBUF);
  await server.send('/v1/logs', 'x', { 'Content-Type': 'text/plain' });
  expect(await counterValues('grantscope_otlp_requests_total')).toEqual({
    'traces,json,200': 1,
    'logs,protobuf,400': 1,
    'logs,other,415': 1,
  });
});
