/**
 * The lines of the OTLP/HTTP checklist that test/contract/otlp_http.test.ts does not hold, against a listening server.
 * Every test of either file, and of test/e2e/otlp_exporters.test.ts, that is for a line begins with its number:
 *
 *   1  POST only; both encodings by Content-Type, with parameters; 405 and 415     2  the answer's Content-Type
 *   3  identity and gzip                            4  size limits                 5  an empty request
 *   6  success is exactly 200                       7  per-record rejection        8  every error is a Status
 *   9  what is retryable                           10  the JSON encoding          11  ids, nesting, wrong signal, names
 *  12  the official exporters
 */
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { httpAnswerOf } from '../../collector/receivers/http_status.ts';
import type { OtelLogRow, OtelSpanRow } from '../../collector/receivers/otlp/rows.ts';
import { emptyLogRecord, emptySpan } from '../../collector/receivers/otlp/types.ts';
import { loadConfig } from '../../runtime/config.ts';
import { ERROR_CODES, GrantscopeError } from '../../runtime/errors.ts';
import { group, lengthDelimited, logsToProtobuf, tracesToProtobuf } from '../otlp_encoders.ts';
import { NOW_NS, startOtlpServer, type Answer, type OtlpServer } from '../otlp_server.ts';

const PROTOBUF = { 'Content-Type': 'application/x-protobuf' };
const JSON_TYPE = { 'Content-Type': 'application/json' };

let server: OtlpServer;
beforeEach(async () => {
  server = await startOtlpServer();
});
afterEach(() => server.close());

const sendJson = (path: string, body: unknown): Promise<Answer> =>
  server.send(path, JSON.stringify(body), JSON_TYPE);

/** A request of one span in JSON, with some fields replaced. */
const spanJson = (fields: object): object => ({
  resourceSpans: [{ scopeSpans: [{ spans: [fields] }] }],
});
const logJson = (fields: object): object => ({
  resourceLogs: [{ scopeLogs: [{ logRecords: [fields] }] }],
});

const lastSpan = (): OtelSpanRow | undefined => rowsOf().at(-1) as OtelSpanRow | undefined;
const lastLog = (): OtelLogRow | undefined => rowsOf().at(-1) as OtelLogRow | undefined;
const rowsOf = (): unknown[] =>
  server.ingest.batches.flatMap((b) => b.tables.flatMap((t) => [...t.rows]));

const NOW = NOW_NS.toString();

describe('what every answer has', () => {
  /** Requests that end in each of the answers there are, by status. */
  const requests: [number, (path: string, headers: Record<string, string>) => Promise<Answer>][] = [
    [200, (path, headers) => server.send(path, '', headers)],
    [400, (path, headers) => server.send(path, '{', headers)],
    [405, (path, headers) => server.send(path, '', headers, 'PUT')],
    [413, (path, headers) => server.send(path, ' '.repeat(1024 * 1024 + 1), headers)],
    [415, (path, headers) => server.send(path, 'x', { ...headers, 'Content-Encoding': 'br' })],
    [429, (path, headers) => failing(path, headers, new GrantscopeError('rate_limited', 'slow'))],
    [500, (path, headers) => failing(path, headers, new Error('defect'))],
    [503, (path, headers) => failing(path, headers, new GrantscopeError('spool_full', 'full'))],
  ];

  function failing(path: string, headers: Record<string, string>, error: Error): Promise<Answer> {
    server.ingest.outcomes.push(error);
    const request =
      path === '/v1/traces'
        ? [spanJson({}), tracesToProtobuf(group([emptySpan()]))]
        : [logJson({}), logsToProtobuf(group([emptyLogRecord()]))];
    const [json, protobuf] = request as [object, Buffer];
    return server.send(path, headers === JSON_TYPE ? JSON.stringify(json) : protobuf, headers);
  }

  test.each(requests)(
    'otlp 2: the answer’s Content-Type is the request’s, where it is %i',
    async (status, ask) => {
      for (const path of ['/v1/traces', '/v1/logs'])
        for (const headers of [PROTOBUF, JSON_TYPE]) {
          const answer = await ask(path, headers);
          expect([answer.status, answer.headers['content-type']]).toEqual([
            status,
            headers['Content-Type'],
          ]);
        }
    },
  );

  test.each(requests.slice(1))(
    'otlp 8: a %i has a Status as its body, in the request’s encoding',
    async (status, ask) => {
      for (const path of ['/v1/traces', '/v1/logs']) {
        const json = JSON.parse((await ask(path, JSON_TYPE)).body.toString()) as Record<
          string,
          unknown
        >;
        expect(Object.keys(json)).toEqual(['code', 'message']);
        expect(json['code']).toBeGreaterThan(0);
        expect(json['message']).not.toBe('');
        const { body } = await ask(path, PROTOBUF);
        // Field 1, a varint: the same code; field 2, text: the message. Nothing else.
        expect([body[0], body[1], body[2]]).toEqual([0x08, json['code'], 0x12]);
        const length =
          (body[3] ?? 0) >= 0x80 ? ((body[3] ?? 0) & 0x7f) | ((body[4] ?? 0) << 7) : (body[3] ?? 0);
        expect(body.length).toBe(((body[3] ?? 0) >= 0x80 ? 5 : 4) + length);
        expect(status).toBeGreaterThanOrEqual(400);
      }
    },
  );

  test.each(requests)(
    'otlp 9: Retry-After stands on what can be repeated, and on nothing else (%i)',
    async (status, ask) => {
      const answer = await ask('/v1/logs', PROTOBUF);
      expect(answer.headers['retry-after']).toBe(
        status === 429 || status === 503 ? '2' : undefined,
      );
    },
  );

  test('otlp 9: no state that passes is answered with 500, whatever its code', () => {
    for (const code of ERROR_CODES) {
      const { status, retryAfterSeconds } = httpAnswerOf(
        new GrantscopeError(code, 'x', { retriable: true }),
      );
      // What has a status of its own is the client's to change.
      expect(status).not.toBe(500);
      if (status === 429 || status === 503) expect(retryAfterSeconds).toBeGreaterThan(0);
      else expect([status, retryAfterSeconds]).toEqual([expect.any(Number), undefined]);
      expect(status < 500 || status === 503).toBe(true);
    }
  });

  test('otlp 9: Retry-After says how long, where that is known', () => {
    const error = new GrantscopeError('rate_limited', 'x', {
      retriable: true,
      retryAfterSeconds: 17,
    });
    expect(httpAnswerOf(error)).toMatchObject({ status: 429, retryAfterSeconds: 17 });
  });
});

describe('sizes', () => {
  test('otlp 4: the default is 20 MiB, and the environment changes it', () => {
    expect(loadConfig({}).bodyBytesMax).toBe(20 * 1024 * 1024);
    expect(loadConfig({ GRANTSCOPE_BODY_BYTES_MAX: '2048' }).bodyBytesMax).toBe(2_048);
  });

  test('otlp 4: exactly the limit is read, before and after decompression', async () => {
    const body = '{}'.padEnd(1024 * 1024);
    const gzip = { ...JSON_TYPE, 'Content-Encoding': 'gzip' };
    expect((await server.send('/v1/logs', body, JSON_TYPE)).status).toBe(200);
    expect((await server.send('/v1/logs', gzipSync(body), gzip)).status).toBe(200);
    expect((await server.send('/v1/logs', gzipSync(`${body} `), gzip)).status).toBe(413);
  });
});

describe('the JSON encoding', () => {
  test('otlp 10: ids are hex in any case, stored in lower case', async () => {
    const traceId = '0AF7651916CD43DD8448EB211C80319C';
    expect(
      (
        await sendJson(
          '/v1/traces',
          spanJson({ traceId, spanId: 'B7ad6B7169203331', parentSpanId: '' }),
        )
      ).status,
    ).toBe(200);
    expect(lastSpan()).toMatchObject({
      traceId: traceId.toLowerCase(),
      spanId: 'b7ad6b7169203331',
      parentSpanId: '',
    });
  });

  test('otlp 10: enums are integers; their names are refused', async () => {
    expect((await sendJson('/v1/traces', spanJson({ kind: 3, status: { code: 2 } }))).status).toBe(
      200,
    );
    expect(lastSpan()).toMatchObject({ spanKind: 'Client', statusCode: 'Error' });
    expect((await sendJson('/v1/traces', spanJson({ kind: 'SPAN_KIND_CLIENT' }))).status).toBe(400);
    expect(
      (await sendJson('/v1/logs', logJson({ severityNumber: 'SEVERITY_NUMBER_WARN' }))).status,
    ).toBe(400);
  });

  test('otlp 10: names are lowerCamelCase; unknown ones are ignored, on every level', async () => {
    const request = {
      future: { resourceSpans: 1 },
      resourceSpans: [
        {
          future: [],
          resource: { future: 1 },
          scopeSpans: [
            {
              future: {},
              scope: { future: 'x' },
              spans: [
                {
                  name: 'known',
                  future: [1],
                  start_time_unix_nano: '1',
                  events: [{ name: 'e', future: 1 }],
                },
              ],
            },
          ],
        },
      ],
    };
    expect((await sendJson('/v1/traces', request)).status).toBe(200);
    expect(lastSpan()).toMatchObject({
      spanName: 'known',
      timestamp: NOW_NS,
      events: [{ name: 'e' }],
    });
    // At the top the wrong case would lose everything in silence.
    expect((await sendJson('/v1/traces', { resource_spans: [] })).status).toBe(400);
  });

  test.each([
    ['as text', `"${NOW_NS + 123n}"`],
    ['as a number, all of whose digits are kept', `${NOW_NS + 123n}`],
  ])('otlp 10: 64-bit integers %s', async (_name, written) => {
    const body = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":${written},"attributes":[{"key":"n","value":{"intValue":${written}}}]}]}]}]}`;
    expect((await server.send('/v1/logs', body, JSON_TYPE)).status).toBe(200);
    expect(lastLog()).toMatchObject({
      timestamp: NOW_NS + 123n,
      logAttributes: { n: (NOW_NS + 123n).toString() },
    });
  });

  test('otlp 10: integers beyond 64 bits, fractions and other text are refused', async () => {
    for (const timeUnixNano of ['18446744073709551616', '-1', '1.5', '1e3', 'soon', 1.5, true])
      expect((await sendJson('/v1/logs', logJson({ timeUnixNano }))).status).toBe(400);
    const value = (intValue: string) =>
      logJson({ attributes: [{ key: 'n', value: { intValue } }] });
    expect((await sendJson('/v1/logs', value('9223372036854775807'))).status).toBe(200);
    expect((await sendJson('/v1/logs', value('9223372036854775808'))).status).toBe(400);
  });

  test('otlp 10: missing and null fields take the proto defaults', async () => {
    expect((await sendJson('/v1/traces', spanJson({}))).status).toBe(200);
    const absent = lastSpan();
    const fields = {
      traceId: null,
      name: null,
      kind: null,
      startTimeUnixNano: null,
      attributes: null,
      events: null,
      status: null,
    };
    expect((await sendJson('/v1/traces', spanJson(fields))).status).toBe(200);
    expect(lastSpan()).toEqual(absent);
    expect(absent).toMatchObject({
      traceId: '',
      spanId: '',
      spanName: '',
      spanKind: 'Unspecified',
      statusCode: 'Unset',
      events: [],
      links: [],
      spanAttributes: {},
    });
  });

  test('otlp 10: doubles may be numbers or the names of what JSON lacks', async () => {
    const attributes = ['NaN', 'Infinity', '-Infinity', 0.5, '2.5'].map((doubleValue, i) => ({
      key: `d${i}`,
      value: { doubleValue },
    }));
    expect((await sendJson('/v1/logs', logJson({ attributes }))).status).toBe(200);
    expect(lastLog()?.logAttributes).toEqual({
      d0: 'NaN',
      d1: 'Infinity',
      d2: '-Infinity',
      d3: '0.5',
      d4: '2.5',
    });
  });
});

describe('ids, nesting, names', () => {
  test('otlp 11: ids of another length are 400 in both encodings; all zeros are none', async () => {
    for (const traceId of ['ab', 'a'.repeat(31), 'a'.repeat(33), 'g'.repeat(32)])
      expect((await sendJson('/v1/traces', spanJson({ traceId }))).status).toBe(400);
    expect((await sendJson('/v1/traces', spanJson({ spanId: 'a'.repeat(32) }))).status).toBe(400);
    const withTraceId = (bytes: number, byte: number): Buffer =>
      lengthDelimited(
        1,
        lengthDelimited(2, lengthDelimited(2, lengthDelimited(1, Buffer.alloc(bytes, byte)))),
      );
    expect((await server.send('/v1/traces', withTraceId(15, 1), PROTOBUF)).status).toBe(400);
    expect((await server.send('/v1/traces', withTraceId(17, 1), PROTOBUF)).status).toBe(400);
    expect((await server.send('/v1/traces', withTraceId(16, 1), PROTOBUF)).status).toBe(200);
    expect(lastSpan()?.traceId).toBe('01'.repeat(16));
    expect((await server.send('/v1/traces', withTraceId(16, 0), PROTOBUF)).status).toBe(200);
    expect(lastSpan()?.traceId).toBe('');
  });

  test('otlp 11: values nest 32 levels, not 33', async () => {
    const nested = (levels: number): object =>
      levels === 0 ? { stringValue: 'x' } : { arrayValue: { values: [nested(levels - 1)] } };
    expect((await sendJson('/v1/logs', logJson({ body: nested(32) }))).status).toBe(200);
    expect((await sendJson('/v1/logs', logJson({ body: nested(33) }))).status).toBe(400);
  });

  test('otlp 11: a request of another signal is recognised in both encodings', async () => {
    const log = { ...emptyLogRecord(), timeUnixNano: NOW_NS, severityText: 'INFO', body: 'b' };
    expect((await server.send('/v1/traces', logsToProtobuf(group([log])), PROTOBUF)).status).toBe(
      400,
    );
    expect((await sendJson('/v1/traces', logJson({}))).status).toBe(400);
    expect((await sendJson('/v1/logs', { resourceMetrics: [] })).status).toBe(400);
  });

  test.each([
    ['eventName', { eventName: 'oauth.auth_event' }],
    [
      'the attribute event.name',
      { attributes: [{ key: 'event.name', value: { stringValue: 'oauth.auth_event' } }] },
    ],
  ])('otlp 11: a log record is an auth event by %s', async (_name, fields) => {
    const own: { key: string; value: object }[] = [
      { key: 'oauth.event.kind', value: { stringValue: 'login' } },
    ];
    const attributes = [...('attributes' in fields ? fields.attributes : []), ...own];
    expect(
      (await sendJson('/v1/logs', logJson({ timeUnixNano: NOW, ...fields, attributes }))).status,
    ).toBe(200);
    expect(server.ingest.batches[0]?.records).toHaveLength(1);
    expect(server.ingest.batches[0]?.records[0]?.source.id).toBe('otlp');
    expect(lastLog()?.eventName).toBe('oauth.auth_event');
  });
});
