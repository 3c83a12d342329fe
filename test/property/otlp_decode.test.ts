/**
 * The two decoders against each other, over generated requests that an independent encoder wrote both ways; and
 * both against bytes that are no request: only the typed error may come out, and soon.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeLogsRequestJson,
  decodeTraceRequestJson,
} from '../../collector/receivers/otlp/decode_json.ts';
import {
  decodeLogsRequest,
  decodeTraceRequest,
} from '../../collector/receivers/otlp/decode_protobuf.ts';
import {
  MESSAGES_PER_REQUEST_MAX,
  RECORDS_PER_REQUEST_MAX,
  VALUE_DEPTH_MAX,
} from '../../collector/receivers/otlp/limits.ts';
import {
  emptyLogRecord,
  emptySpan,
  type Attributes,
  type AttributeValue,
  type OtlpLogRecord,
  type OtlpResourceGroup,
  type OtlpSpan,
} from '../../collector/receivers/otlp/types.ts';
import { setOwn } from '../../collector/set_own.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import {
  group,
  lengthDelimited,
  logsToJson,
  logsToProtobuf,
  tracesToJson,
  tracesToProtobuf,
  varint,
} from '../otlp_encoders.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const key = fc.oneof(text, fc.constantFrom('__proto__', 'constructor', 'toString', ''));
const int64 = fc
  .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
  .map((n) => (BigInt(Number(n)) === n && Number.isSafeInteger(Number(n)) ? Number(n) : n));
const hex = (bytes: number): fc.Arbitrary<string> =>
  fc.oneof(
    fc.constant(''),
    fc
      .uint8Array({ minLength: bytes, maxLength: bytes })
      .filter((b) => b.some((x) => x !== 0))
      .map((b) => Buffer.from(b).toString('hex')),
  );

const { value } = fc.letrec<{ value: AttributeValue; attributes: Attributes }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    text,
    fc.boolean(),
    int64,
    fc.double(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 6 }).map((b) => Buffer.from(b)),
    fc.array(tie('value'), { maxLength: 3 }),
    tie('attributes'),
  ),
  attributes: fc.array(fc.tuple(key, tie('value')), { maxLength: 3 }).map(fromEntries),
}));
const attributes = fc.array(fc.tuple(key, value), { maxLength: 4 }).map(fromEntries);

function fromEntries(entries: readonly (readonly [string, AttributeValue])[]): Attributes {
  const result: Attributes = {};
  for (const [k, v] of entries) setOwn(result, k, v);
  return result;
}

const time = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });

const span: fc.Arbitrary<OtlpSpan> = fc.record({
  traceId: hex(16),
  spanId: hex(8),
  parentSpanId: hex(8),
  traceState: text,
  name: text,
  kind: int32,
  startTimeUnixNano: time,
  endTimeUnixNano: time,
  attributes,
  events: fc.array(fc.record({ timeUnixNano: time, name: text, attributes }), { maxLength: 2 }),
  links: fc.array(fc.record({ traceId: hex(16), spanId: hex(8), traceState: text, attributes }), {
    maxLength: 2,
  }),
  status: fc.record({ code: int32, message: text }),
});

const log: fc.Arbitrary<OtlpLogRecord> = fc.record({
  timeUnixNano: time,
  observedTimeUnixNano: time,
  severityNumber: int32,
  severityText: text,
  body: value,
  attributes,
  flags: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  traceId: hex(16),
  spanId: hex(8),
  eventName: text,
});

function requestOf<R>(record: fc.Arbitrary<R>): fc.Arbitrary<OtlpResourceGroup<R>[]> {
  const scope = fc.record({ name: text, version: text, attributes });
  const scopes = fc.array(
    fc.record({ scope, schemaUrl: text, records: fc.array(record, { maxLength: 3 }) }),
    { maxLength: 2 },
  );
  return fc.array(fc.record({ resource: fc.record({ attributes }), schemaUrl: text, scopes }), {
    maxLength: 2,
  });
}

describe('both encodings say the same', () => {
  test('traces', () => {
    fc.assert(
      fc.property(requestOf(span), (request) => {
        expect(decodeTraceRequest(tracesToProtobuf(request))).toEqual(request);
        expect(decodeTraceRequestJson(tracesToJson(request))).toEqual(request);
      }),
      { numRuns: 300 },
    );
  });

  test('logs', () => {
    fc.assert(
      fc.property(requestOf(log), (request) => {
        expect(decodeLogsRequest(logsToProtobuf(request))).toEqual(request);
        expect(decodeLogsRequestJson(logsToJson(request))).toEqual(request);
      }),
      { numRuns: 300 },
    );
  });

  test('more attribute keys than are remembered, of one length, twice', () => {
    const keys = Array.from({ length: 5_000 }, (_x, i) => `key-${String(i).padStart(5, '0')}`);
    const log = { ...emptyLogRecord(), attributes: fromEntries(keys.map((k, i) => [k, i])) };
    const request = group([log, log]);
    expect(decodeLogsRequest(logsToProtobuf(request))).toEqual(request);
  });

  test('a 64-bit number in JSON keeps its last digits, also when it is no text', () => {
    const json = Buffer.from(
      `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"say \\"intValue\\": 1234567890123456789","startTimeUnixNano": 1700000000123456789 ,"attributes":[{"key":"n","value":{"intValue":-9223372036854775808}}]}]}]}]}`,
    );
    const decoded = decodeTraceRequestJson(json)[0]?.scopes[0]?.records[0];
    expect(decoded?.startTimeUnixNano).toBe(1_700_000_000_123_456_789n);
    expect(decoded?.attributes).toEqual({ n: -(2n ** 63n) });
    expect(decoded?.name).toBe('say "intValue": 1234567890123456789');
  });
});

const decoders = [
  ['protobuf traces', decodeTraceRequest],
  ['protobuf logs', decodeLogsRequest],
  ['JSON traces', decodeTraceRequestJson],
  ['JSON logs', decodeLogsRequestJson],
] as const;

/** The error of a decoder, or undefined where it took the bytes; anything but the typed error fails the test. */
function refusal(decode: (body: Buffer) => unknown, body: Buffer): GrantscopeError | undefined {
  try {
    decode(body);
    return undefined;
  } catch (error) {
    if (!(error instanceof GrantscopeError)) throw error;
    expect(['body_unreadable', 'body_too_large']).toContain(error.code);
    return error;
  }
}

describe('what is no request', () => {
  test.each(decoders)('%s: arbitrary bytes give a value or the typed error', (_name, decode) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        refusal(decode, Buffer.from(bytes));
      }),
      { numRuns: 2_000 },
    );
  });

  test('arbitrary JSON gives a value or the typed error', () => {
    const names = fc.constantFrom(
      'resourceSpans',
      'scopeSpans',
      'spans',
      'attributes',
      'key',
      'value',
      'arrayValue',
      'kvlistValue',
      'values',
      'intValue',
      'doubleValue',
      'bytesValue',
      'traceId',
      'kind',
      'events',
      'status',
    );
    const json = fc.letrec<{ any: unknown }>((tie) => ({
      any: fc.oneof(
        { depthSize: 'medium', withCrossShrink: true },
        fc.jsonValue({ maxDepth: 1 }),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(names, tie('any'), { maxKeys: 4 }),
      ),
    })).any;
    fc.assert(
      fc.property(json, (body) => {
        refusal(decodeTraceRequestJson, Buffer.from(JSON.stringify(body)));
        refusal(decodeTraceRequestJson, Buffer.from(JSON.stringify({ resourceSpans: [body] })));
      }),
      { numRuns: 1_000 },
    );
  });

  test('a request that was cut or has one byte changed gives a value or the typed error', () => {
    fc.assert(
      fc.property(requestOf(span), fc.nat(), fc.nat(255), (request, position, byte) => {
        for (const [encode, decode] of [
          [tracesToProtobuf, decodeTraceRequest],
          [tracesToJson, decodeTraceRequestJson],
        ] as const) {
          const whole = encode(request);
          refusal(decode, whole.subarray(0, position % (whole.length + 1)));
          if (whole.length === 0) continue;
          const changed = Buffer.from(whole);
          changed[position % whole.length] = byte;
          refusal(decode, changed);
        }
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ['field number 0', Buffer.from([0x00, 0x00]), 'field number 0'],
    ['a length beyond the end', Buffer.from([0x0a, 0x7f]), 'cut off'],
    ['an endless varint', Buffer.alloc(11, 0xff), 'varint of more than 10 bytes'],
    ['wire type 6', Buffer.from([0x1e, 0x00]), 'wire type 6 does not exist'],
    ['a group that never ends', Buffer.from([0x1b]), 'cut off'],
    ['a group end without a start', Buffer.from([0x1c]), 'groups that do not match'],
    ['groups within groups', Buffer.alloc(100, 0x1b), 'more than 32 deep'],
    ['a child longer than its parent', Buffer.from('0a020a7f', 'hex'), 'cut off'],
    [
      'text that is no UTF-8',
      spanWith(5, Buffer.from([0xc3, 0x28])),
      'span.name is not valid UTF-8',
    ],
    ['a trace id of 15 bytes', spanWith(1, Buffer.alloc(15, 1)), 'span.trace_id has 15 bytes'],
  ])('protobuf: %s is refused and named', (_name, bytes, message) => {
    expect(refusal(decodeTraceRequest, bytes)?.message).toContain(message);
  });

  test('an honest U+FFFD is text like any other', () => {
    const request = group([{ ...emptySpan(), name: 'a\uFFFDb' }]);
    expect(decodeTraceRequest(tracesToProtobuf(request))).toEqual(request);
  });

  test.each([
    ['not JSON', '{', 'not well-formed'],
    ['an array', '[]', 'request must be an object'],
    ['enum by name', spanJson({ kind: 'SPAN_KIND_SERVER' }), 'span.kind must be an integer'],
    ['a number as name', spanJson({ name: 7 }), 'span.name must be text'],
    ['an id in base64', spanJson({ traceId: 'EjRWeJCrze8SNFZ4kKvN7w==' }), '32 hex digits'],
    ['a short id', spanJson({ spanId: 'abcd' }), '16 hex digits'],
    ['a negative time', spanJson({ startTimeUnixNano: '-1' }), 'unsigned'],
    ['a time beyond 64 bits', spanJson({ endTimeUnixNano: '18446744073709551616' }), '64 bits'],
    [
      'spans that are no list',
      '{"resourceSpans":[{"scopeSpans":{}}]}',
      'scopeSpans must be an array',
    ],
    ['another signal', '{"resourceLogs":[]}', 'is it for another path'],
    ['snake case', '{"resource_spans":[]}', 'is it for another path'],
  ])('JSON: %s is refused and named', (_name, json, message) => {
    const error = refusal(decodeTraceRequestJson, Buffer.from(json));
    expect(error?.code).toBe('body_unreadable');
    expect(error?.message).toContain(message);
  });

  test('a message never repeats the body', () => {
    const canary = ['canary', 'value'].join('-');
    const bodies = [
      `{"resourceSpans": ${canary}`,
      spanJson({ kind: canary }),
      spanJson({ traceId: canary }),
    ];
    for (const body of bodies)
      expect(refusal(decodeTraceRequestJson, Buffer.from(body))?.message).not.toContain(canary);
  });

  test('logs sent to traces, and the other way round, are recognised', () => {
    const logs = logsToProtobuf(group([{ ...emptyLogRecord(), timeUnixNano: 5n }]));
    const traces = tracesToProtobuf(group([{ ...emptySpan(), traceId: 'ab'.repeat(16) }]));
    expect(refusal(decodeTraceRequest, logs)?.message).toContain('another signal');
    expect(refusal(decodeLogsRequest, traces)?.message).toContain('another signal');
  });
});

describe('limits', () => {
  const nested = (levels: number): AttributeValue => {
    let result: AttributeValue = 'bottom';
    for (let i = 0; i < levels; i++) result = i % 2 === 0 ? [result] : { k: result };
    return result;
  };

  test('nesting is read to the limit and refused beyond it', () => {
    const request = (levels: number): OtlpResourceGroup<OtlpLogRecord>[] =>
      group([{ ...emptyLogRecord(), body: nested(levels) }]);
    for (const [encode, decode] of [
      [logsToProtobuf, decodeLogsRequest],
      [logsToJson, decodeLogsRequestJson],
    ] as const) {
      const deepest = request(VALUE_DEPTH_MAX);
      expect(decode(encode(deepest))).toEqual(deepest);
      const error = refusal(decode, encode(request(VALUE_DEPTH_MAX + 1)));
      expect(error?.message).toBe(
        `OTLP: ${decode === decodeLogsRequest ? 'log_record.body' : 'logRecord.body'}: nested too deep; at most ${VALUE_DEPTH_MAX} levels`,
      );
    }
  });

  test('nesting of a hundred thousand levels is refused, not overflowed', () => {
    const depth = 100_000;
    const json = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":${'{"arrayValue":{"values":['.repeat(depth)}${']}}'.repeat(depth)}}]}]}]}`;
    expect(refusal(decodeLogsRequestJson, Buffer.from(json))?.message).toContain('too deep');
  });

  test('two-byte records: as many as allowed are read, one more is too large', () => {
    const request = (count: number): Buffer =>
      lengthDelimited(1, lengthDelimited(2, Buffer.from('1200'.repeat(count), 'hex')));
    expect(decodeLogsRequest(request(RECORDS_PER_REQUEST_MAX))[0]?.scopes[0]?.records).toHaveLength(
      RECORDS_PER_REQUEST_MAX,
    );
    expect(refusal(decodeLogsRequest, request(RECORDS_PER_REQUEST_MAX + 1))?.code).toBe(
      'body_too_large',
    );
  });

  test('two-byte resource groups are bounded as well', () => {
    const request = Buffer.from('0a00'.repeat(MESSAGES_PER_REQUEST_MAX + 1), 'hex');
    expect(refusal(decodeTraceRequest, request)?.code).toBe('body_too_large');
  });
});

/** A trace request of one span with one length-delimited field. */
function spanWith(field: number, bytes: Buffer): Buffer {
  const inner = Buffer.concat([
    varint(BigInt((field << 3) | 2)),
    varint(BigInt(bytes.length)),
    bytes,
  ]);
  return lengthDelimited(1, lengthDelimited(2, lengthDelimited(2, inner)));
}

function spanJson(fields: Record<string, unknown>): string {
  return JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [fields] }] }] });
}
