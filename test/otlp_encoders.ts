/**
 * Encodes OTLP requests both ways, for tests: an independent second opinion on what the decoders read. Written
 * from the proto files alone; shares nothing with the decoders but the types.
 */
import type {
  Attributes,
  AttributeValue,
  LogsRequest,
  OtlpLogRecord,
  OtlpResourceGroup,
  OtlpSpan,
  TraceRequest,
} from '../collector/receivers/otlp/types.ts';

export function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

const tag = (field: number, wire: number): Buffer => varint(BigInt((field << 3) | wire));

export function lengthDelimited(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([tag(field, 2), varint(BigInt(bytes.length)), bytes]);
}

const textField = (field: number, text: string): Buffer =>
  text === '' ? Buffer.alloc(0) : lengthDelimited(field, Buffer.from(text, 'utf8'));
const hexField = (field: number, hex: string): Buffer =>
  hex === '' ? Buffer.alloc(0) : lengthDelimited(field, Buffer.from(hex, 'hex'));
const intField = (field: number, value: number): Buffer =>
  value === 0 ? Buffer.alloc(0) : Buffer.concat([tag(field, 0), varint(BigInt(value))]);

function fixed64Field(field: number, value: bigint): Buffer {
  if (value === 0n) return Buffer.alloc(0);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return Buffer.concat([tag(field, 1), bytes]);
}

function fixed32Field(field: number, value: number): Buffer {
  if (value === 0) return Buffer.alloc(0);
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return Buffer.concat([tag(field, 5), bytes]);
}

function anyValue(value: AttributeValue): Buffer {
  if (value === null) return Buffer.alloc(0);
  // A member of a oneof is written even when it is the default.
  if (typeof value === 'string') return lengthDelimited(1, Buffer.from(value, 'utf8'));
  if (typeof value === 'boolean') return Buffer.concat([tag(2, 0), varint(value ? 1n : 0n)]);
  if (typeof value === 'bigint') return Buffer.concat([tag(3, 0), varint(value)]);
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value) && !Object.is(value, -0))
      return Buffer.concat([tag(3, 0), varint(BigInt(value))]);
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(value);
    return Buffer.concat([tag(4, 1), bytes]);
  }
  if (Buffer.isBuffer(value)) return lengthDelimited(7, value);
  if (Array.isArray(value)) {
    const values = (value as readonly AttributeValue[]).map((v) => lengthDelimited(1, anyValue(v)));
    return lengthDelimited(5, Buffer.concat(values));
  }
  return lengthDelimited(6, keyValues(1, value as Attributes));
}

export function keyValues(field: number, attributes: Attributes): Buffer {
  return Buffer.concat(
    Object.entries(attributes).map(([key, value]) =>
      lengthDelimited(
        field,
        Buffer.concat([textField(1, key), lengthDelimited(2, anyValue(value))]),
      ),
    ),
  );
}

export function spanToProtobuf(span: OtlpSpan): Buffer {
  return Buffer.concat([
    hexField(1, span.traceId),
    hexField(2, span.spanId),
    textField(3, span.traceState),
    hexField(4, span.parentSpanId),
    textField(5, span.name),
    intField(6, span.kind),
    fixed64Field(7, span.startTimeUnixNano),
    fixed64Field(8, span.endTimeUnixNano),
    keyValues(9, span.attributes),
    intField(10, 3), // dropped_attributes_count: known to the format, of no use here
    ...span.events.map((e) =>
      lengthDelimited(
        11,
        Buffer.concat([
          fixed64Field(1, e.timeUnixNano),
          textField(2, e.name),
          keyValues(3, e.attributes),
        ]),
      ),
    ),
    ...span.links.map((l) =>
      lengthDelimited(
        13,
        Buffer.concat([
          hexField(1, l.traceId),
          hexField(2, l.spanId),
          textField(3, l.traceState),
          keyValues(4, l.attributes),
        ]),
      ),
    ),
    lengthDelimited(
      15,
      Buffer.concat([textField(2, span.status.message), intField(3, span.status.code)]),
    ),
    fixed32Field(16, 257), // flags
  ]);
}

export function logToProtobuf(log: OtlpLogRecord): Buffer {
  return Buffer.concat([
    fixed64Field(1, log.timeUnixNano),
    intField(2, log.severityNumber),
    textField(3, log.severityText),
    log.body === null ? Buffer.alloc(0) : lengthDelimited(5, anyValue(log.body)),
    keyValues(6, log.attributes),
    fixed32Field(8, log.flags),
    hexField(9, log.traceId),
    hexField(10, log.spanId),
    fixed64Field(11, log.observedTimeUnixNano),
    textField(12, log.eventName),
  ]);
}

function groupsToProtobuf<R>(
  groups: readonly OtlpResourceGroup<R>[],
  record: (r: R) => Buffer,
): Buffer {
  return Buffer.concat(
    groups.map((group) =>
      lengthDelimited(
        1,
        Buffer.concat([
          lengthDelimited(1, keyValues(1, group.resource.attributes)),
          ...group.scopes.map((s) =>
            lengthDelimited(
              2,
              Buffer.concat([
                lengthDelimited(
                  1,
                  Buffer.concat([
                    textField(1, s.scope.name),
                    textField(2, s.scope.version),
                    keyValues(3, s.scope.attributes),
                  ]),
                ),
                ...s.records.map((r) => lengthDelimited(2, record(r))),
                textField(3, s.schemaUrl),
              ]),
            ),
          ),
          textField(3, group.schemaUrl),
        ]),
      ),
    ),
  );
}

export const tracesToProtobuf = (request: TraceRequest): Buffer =>
  groupsToProtobuf(request, spanToProtobuf);
export const logsToProtobuf = (request: LogsRequest): Buffer =>
  groupsToProtobuf(request, logToProtobuf);

function anyValueToJson(value: AttributeValue): unknown {
  if (value === null) return {};
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'bigint') return { intValue: value.toString() };
  if (typeof value === 'number') {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) return { intValue: String(value) };
    if (Object.is(value, -0)) return { doubleValue: '-0' };
    return { doubleValue: Number.isFinite(value) ? value : String(value) };
  }
  if (Buffer.isBuffer(value)) return { bytesValue: value.toString('base64') };
  if (Array.isArray(value))
    return { arrayValue: { values: (value as readonly AttributeValue[]).map(anyValueToJson) } };
  return { kvlistValue: { values: attributesToJson(value as Attributes) } };
}

export function attributesToJson(attributes: Attributes): unknown[] {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: anyValueToJson(value) }));
}

export function spanToJson(span: OtlpSpan): Record<string, unknown> {
  return {
    traceId: span.traceId.toUpperCase(),
    spanId: span.spanId,
    parentSpanId: span.parentSpanId,
    traceState: span.traceState,
    name: span.name,
    kind: span.kind,
    startTimeUnixNano: span.startTimeUnixNano.toString(),
    endTimeUnixNano: span.endTimeUnixNano.toString(),
    attributes: attributesToJson(span.attributes),
    droppedAttributesCount: 3,
    events: span.events.map((e) => ({
      timeUnixNano: e.timeUnixNano.toString(),
      name: e.name,
      attributes: attributesToJson(e.attributes),
    })),
    links: span.links.map((l) => ({ ...l, attributes: attributesToJson(l.attributes) })),
    status: span.status,
    flags: 257,
    aFieldOfTheFuture: { any: ['thing'] },
  };
}

export function logToJson(log: OtlpLogRecord): Record<string, unknown> {
  return {
    ...log,
    timeUnixNano: log.timeUnixNano.toString(),
    observedTimeUnixNano: log.observedTimeUnixNano.toString(),
    body: log.body === null ? undefined : anyValueToJson(log.body),
    attributes: attributesToJson(log.attributes),
  };
}

function groupsToJson<R>(
  groups: readonly OtlpResourceGroup<R>[],
  names: { groups: string; scopes: string; records: string },
  record: (r: R) => unknown,
): Buffer {
  const json = {
    [names.groups]: groups.map((group) => ({
      resource: { attributes: attributesToJson(group.resource.attributes) },
      schemaUrl: group.schemaUrl,
      [names.scopes]: group.scopes.map((s) => ({
        scope: { ...s.scope, attributes: attributesToJson(s.scope.attributes) },
        schemaUrl: s.schemaUrl,
        [names.records]: s.records.map(record),
      })),
    })),
  };
  return Buffer.from(JSON.stringify(json));
}

export const tracesToJson = (request: TraceRequest): Buffer =>
  groupsToJson(
    request,
    { groups: 'resourceSpans', scopes: 'scopeSpans', records: 'spans' },
    spanToJson,
  );
export const logsToJson = (request: LogsRequest): Buffer =>
  groupsToJson(
    request,
    { groups: 'resourceLogs', scopes: 'scopeLogs', records: 'logRecords' },
    logToJson,
  );

/** One resource with one scope. */
export function group<R>(records: R[], resource: Attributes = {}): OtlpResourceGroup<R>[] {
  return [
    {
      resource: { attributes: resource },
      schemaUrl: '',
      scopes: [{ scope: { name: 'test', version: '1', attributes: {} }, schemaUrl: '', records }],
    },
  ];
}
