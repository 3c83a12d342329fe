import { setOwn } from '../../set_own.ts';
import { isUtf8 } from 'node:buffer';
import { nestingOf } from '../cut_records.ts';
import {
  boundedText,
  DecodeBudget,
  JSON_DEPTH_MAX,
  undecodable,
  VALUE_DEPTH_MAX,
  VALUE_LENGTH_MAX,
} from './limits.ts';
import { exactInteger } from './proto_reader.ts';
import {
  emptyLogRecord,
  emptyScope,
  emptySpan,
  type Attributes,
  type AttributeValue,
  type LogsRequest,
  type OtlpLogRecord,
  type OtlpResourceGroup,
  type OtlpScope,
  type OtlpScopeGroup,
  type OtlpSpan,
  type OtlpSpanEvent,
  type OtlpSpanLink,
  type TraceRequest,
} from './types.ts';

/**
 * Decodes an ExportTraceServiceRequest in the OTLP/JSON encoding: the proto3 JSON mapping, but ids are hex (any
 * case) and enums integers. Unknown fields are ignored; null and absent are the default. 64-bit integers may be
 * text or numbers; numbers are read exactly as well (see `quoteLongIntegers`).
 * Throws `body_unreadable` (400) and `body_too_large` (413) like the protobuf decoder.
 */
export function decodeTraceRequestJson(body: Buffer): TraceRequest {
  return decodeRequest(body, TRACES);
}

/** As `decodeTraceRequestJson`, for an ExportLogsServiceRequest. */
export function decodeLogsRequestJson(body: Buffer): LogsRequest {
  return decodeRequest(body, LOGS);
}

type Json = Readonly<Record<string, unknown>>;

/** Where the two requests differ: names on the way to a record, and the record. */
interface Outline<R> {
  readonly groups: string;
  readonly scopes: string;
  readonly records: string;
  readonly readRecord: (json: Json, budget: DecodeBudget) => R;
}

const TRACES: Outline<OtlpSpan> = {
  groups: 'resourceSpans',
  scopes: 'scopeSpans',
  records: 'spans',
  readRecord: readSpan,
};
const LOGS: Outline<OtlpLogRecord> = {
  groups: 'resourceLogs',
  scopes: 'scopeLogs',
  records: 'logRecords',
  readRecord: readLogRecord,
};

/** Top-level names that show another signal, or the wrong case; ignoring them would lose data in silence. */
const OTHER_SIGNALS = [
  'resourceSpans',
  'resourceLogs',
  'resourceMetrics',
  'resourceProfiles',
  'resource_spans',
  'resource_logs',
  'resource_metrics',
];

function decodeRequest<R>(body: Buffer, outline: Outline<R>): OtlpResourceGroup<R>[] {
  if (body.length === 0) return [];
  const root = object(parse(body), 'request');
  if (root[outline.groups] === undefined && OTHER_SIGNALS.some((name) => name in root))
    throw undecodable(
      `JSON: this is not a request with ${outline.groups}; is it for another path?`,
    );
  const budget = new DecodeBudget();
  return list(root[outline.groups], outline.groups).map((group) =>
    readResourceGroup(object(group, outline.groups), outline, budget),
  );
}

function parse(body: Buffer): unknown {
  if (!isUtf8(body)) throw undecodable('JSON: not valid UTF-8');
  const text = body.toString('utf8');
  // A million brackets take the parser, and then the garbage collector, most of a second.
  if (text.length > JSON_DEPTH_MAX && nestingOf(text) > JSON_DEPTH_MAX)
    throw undecodable(
      `JSON: nested too deep; at most ${JSON_DEPTH_MAX} brackets within one another`,
    );
  try {
    return JSON.parse(quoteLongIntegers(text));
  } catch {
    // The parser's message quotes the body, so it is not passed on.
    throw undecodable('JSON: not well-formed');
  }
}

const LONG_INTEGER =
  /("(?:timeUnixNano|startTimeUnixNano|endTimeUnixNano|observedTimeUnixNano|intValue)"\s{0,64}:\s{0,64})(-?\d{16,20})(?=[\s,}\]])/g;

/**
 * JSON.parse reads numbers as doubles, so `"timeUnixNano":1700000000123456789` would lose its last digits. Long
 * integers of 64-bit fields are put in quotes first. A quote inside a JSON string is always escaped, so the
 * pattern cannot match within one.
 */
function quoteLongIntegers(text: string): string {
  return text.replace(LONG_INTEGER, '$1"$2"');
}

function readResourceGroup<R>(
  json: Json,
  outline: Outline<R>,
  budget: DecodeBudget,
): OtlpResourceGroup<R> {
  budget.takeMessage();
  const resource = optionalObject(json['resource'], 'resource');
  return {
    resource: { attributes: readAttributes(resource['attributes'], budget, 'resource.attributes') },
    schemaUrl: text(json['schemaUrl'], 'schemaUrl'),
    scopes: list(json[outline.scopes], outline.scopes).map((scope) =>
      readScopeGroup(object(scope, outline.scopes), outline, budget),
    ),
  };
}

function readScopeGroup<R>(
  json: Json,
  outline: Outline<R>,
  budget: DecodeBudget,
): OtlpScopeGroup<R> {
  budget.takeMessage();
  return {
    scope: readScope(optionalObject(json['scope'], 'scope'), budget),
    schemaUrl: text(json['schemaUrl'], 'schemaUrl'),
    records: list(json[outline.records], outline.records).map((record) => {
      budget.takeRecord();
      return outline.readRecord(object(record, outline.records), budget);
    }),
  };
}

function readScope(json: Json, budget: DecodeBudget): OtlpScope {
  const scope = emptyScope();
  scope.name = text(json['name'], 'scope.name');
  scope.version = text(json['version'], 'scope.version');
  scope.attributes = readAttributes(json['attributes'], budget, 'scope.attributes');
  return scope;
}

function readSpan(json: Json, budget: DecodeBudget): OtlpSpan {
  const span = emptySpan();
  span.traceId = id(json['traceId'], 16, 'span.traceId');
  span.spanId = id(json['spanId'], 8, 'span.spanId');
  span.parentSpanId = id(json['parentSpanId'], 8, 'span.parentSpanId');
  span.traceState = text(json['traceState'], 'span.traceState');
  span.name = text(json['name'], 'span.name');
  span.kind = int32(json['kind'], 'span.kind');
  span.startTimeUnixNano = time(json['startTimeUnixNano'], 'span.startTimeUnixNano');
  span.endTimeUnixNano = time(json['endTimeUnixNano'], 'span.endTimeUnixNano');
  span.attributes = readAttributes(json['attributes'], budget, 'span.attributes');
  span.events = list(json['events'], 'span.events').map((event) =>
    readSpanEvent(object(event, 'span.events'), budget),
  );
  span.links = list(json['links'], 'span.links').map((link) =>
    readSpanLink(object(link, 'span.links'), budget),
  );
  const status = optionalObject(json['status'], 'span.status');
  span.status = {
    code: int32(status['code'], 'span.status.code'),
    message: text(status['message'], 'span.status.message'),
  };
  return span;
}

function readSpanEvent(json: Json, budget: DecodeBudget): OtlpSpanEvent {
  budget.takeMessage();
  return {
    timeUnixNano: time(json['timeUnixNano'], 'span.events.timeUnixNano'),
    name: text(json['name'], 'span.events.name'),
    attributes: readAttributes(json['attributes'], budget, 'span.events.attributes'),
  };
}

function readSpanLink(json: Json, budget: DecodeBudget): OtlpSpanLink {
  budget.takeMessage();
  return {
    traceId: id(json['traceId'], 16, 'span.links.traceId'),
    spanId: id(json['spanId'], 8, 'span.links.spanId'),
    traceState: text(json['traceState'], 'span.links.traceState'),
    attributes: readAttributes(json['attributes'], budget, 'span.links.attributes'),
  };
}

function readLogRecord(json: Json, budget: DecodeBudget): OtlpLogRecord {
  const record = emptyLogRecord();
  record.timeUnixNano = time(json['timeUnixNano'], 'logRecord.timeUnixNano');
  record.observedTimeUnixNano = time(
    json['observedTimeUnixNano'],
    'logRecord.observedTimeUnixNano',
  );
  record.severityNumber = int32(json['severityNumber'], 'logRecord.severityNumber');
  record.severityText = text(json['severityText'], 'logRecord.severityText');
  record.body = readAnyValue(json['body'], budget, 0, 'logRecord.body');
  record.attributes = readAttributes(json['attributes'], budget, 'logRecord.attributes');
  record.flags = uint32(json['flags'], 'logRecord.flags');
  record.traceId = id(json['traceId'], 16, 'logRecord.traceId');
  record.spanId = id(json['spanId'], 8, 'logRecord.spanId');
  record.eventName = text(json['eventName'], 'logRecord.eventName');
  return record;
}

function readAttributes(
  value: unknown,
  budget: DecodeBudget,
  field: string,
  depth = 0,
): Attributes {
  const attributes: Attributes = {};
  for (const item of list(value, field)) {
    const json = object(item, field);
    budget.takeAttribute();
    setOwn(
      attributes,
      text(json['key'], `${field}.key`),
      readAnyValue(json['value'], budget, depth, field),
    );
  }
  return attributes;
}

/** The fields of AnyValue's oneof, in the order of the proto file. */
const ANY_VALUE: Readonly<
  Record<
    string,
    (value: unknown, budget: DecodeBudget, depth: number, field: string) => AttributeValue
  >
> = {
  stringValue: (value, _budget, _depth, field) => text(value, field),
  boolValue: (value, _budget, _depth, field) => {
    if (typeof value !== 'boolean') throw wrongType(field, 'true or false');
    return value;
  },
  intValue: (value, _budget, _depth, field) => exactInteger(int64(value, field)),
  doubleValue: (value, _budget, _depth, field) => double(value, field),
  arrayValue: (value, budget, depth, field) => {
    budget.takeMessage();
    return list(object(value, field)['values'], field).map((v) =>
      readAnyValue(v, budget, depth + 1, field),
    );
  },
  kvlistValue: (value, budget, depth, field) => {
    budget.takeMessage();
    return readAttributes(object(value, field)['values'], budget, field, depth + 1);
  },
  bytesValue: (value, _budget, _depth, field) => base64(value, field),
};

function readAnyValue(
  value: unknown,
  budget: DecodeBudget,
  depth: number,
  field: string,
): AttributeValue {
  if (depth > VALUE_DEPTH_MAX)
    throw undecodable(`${field}: nested too deep; at most ${VALUE_DEPTH_MAX} levels`);
  const json = optionalObject(value, field);
  for (const name in json) {
    const read = Object.hasOwn(ANY_VALUE, name) ? ANY_VALUE[name] : undefined;
    const inner = json[name];
    if (read !== undefined && inner !== null && inner !== undefined)
      return read(inner, budget, depth, field);
  }
  return null;
}

function wrongType(field: string, expected: string): Error {
  return undecodable(`JSON: ${field} must be ${expected}`);
}

function isAbsent(value: unknown): value is null | undefined {
  return value === undefined || value === null;
}

function object(value: unknown, field: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrongType(field, 'an object');
  return value as Json;
}

const EMPTY: Json = {};

function optionalObject(value: unknown, field: string): Json {
  return isAbsent(value) ? EMPTY : object(value, field);
}

function list(value: unknown, field: string): readonly unknown[] {
  if (isAbsent(value)) return [];
  if (!Array.isArray(value)) throw wrongType(field, 'an array');
  return value;
}

function text(value: unknown, field: string): string {
  if (isAbsent(value)) return '';
  if (typeof value !== 'string') throw wrongType(field, 'text');
  return boundedText(value);
}

const HEX_ID: Readonly<Record<number, RegExp>> = {
  16: /^[0-9a-fA-F]{32}$/,
  8: /^[0-9a-fA-F]{16}$/,
};
const ZERO_ID = /^0+$/;

/** Lower-case hex, '' where empty or all zero. */
function id(value: unknown, bytes: 8 | 16, field: string): string {
  const hex = text(value, field);
  if (hex === '') return '';
  if (HEX_ID[bytes]?.test(hex) !== true)
    throw wrongType(field, `${bytes * 2} hex digits, or empty`);
  return ZERO_ID.test(hex) ? '' : hex.toLowerCase();
}

const DECIMAL_INTEGER = /^-?\d{1,20}$/;

/** A 64-bit integer from text or a number; see `quoteLongIntegers` for long numbers. */
function integer(value: unknown, field: string): bigint {
  if (typeof value === 'number' && Number.isInteger(value)) return BigInt(value);
  if (typeof value === 'string' && DECIMAL_INTEGER.test(value)) return BigInt(value);
  throw wrongType(field, 'an integer, as text or as a number');
}

function int64(value: unknown, field: string): bigint {
  const number = integer(value, field);
  if (BigInt.asIntN(64, number) !== number) throw wrongType(field, 'within 64 bits');
  return number;
}

/** A fixed64 time in ns; absent is 0. */
function time(value: unknown, field: string): bigint {
  if (isAbsent(value)) return 0n;
  const number = integer(value, field);
  if (BigInt.asUintN(64, number) !== number) throw wrongType(field, 'within 64 bits, unsigned');
  return number;
}

function int32(value: unknown, field: string): number {
  if (isAbsent(value)) return 0;
  // OTLP/JSON: enums are integers, never names.
  if (typeof value !== 'number' || (value | 0) !== value)
    throw wrongType(field, 'an integer of 32 bits');
  return value | 0;
}

function uint32(value: unknown, field: string): number {
  if (isAbsent(value)) return 0;
  if (typeof value !== 'number' || value >>> 0 !== value)
    throw wrongType(field, 'an unsigned integer of 32 bits');
  return value;
}

const DOUBLE_NAMES: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
};
const DECIMAL = /^-?\d{1,400}(?:\.\d{1,400})?(?:[eE][+-]?\d{1,4})?$/;

function double(value: unknown, field: string): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'string') {
    if (Object.hasOwn(DOUBLE_NAMES, value)) return DOUBLE_NAMES[value] ?? Number.NaN;
    if (DECIMAL.test(value)) return Number(value);
  }
  throw wrongType(field, 'a number, NaN, Infinity or -Infinity');
}

const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;

function base64(value: unknown, field: string): Buffer {
  if (typeof value !== 'string' || !BASE64.test(value)) throw wrongType(field, 'base64 text');
  return Buffer.from(value, 'base64').subarray(0, VALUE_LENGTH_MAX);
}
