import type { ColumnSpec, TableSpec } from '../../../model/table_spec.ts';

/** Redacted attributes: every value as text. */
export type TextAttributes = Readonly<Record<string, string>>;

/** A redacted span as `grantscope.otel_traces` holds it (store/migrations/0004). Times and durations in ns. */
export interface OtelSpanRow {
  readonly timestamp: bigint;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly spanName: string;
  /** Unspecified, Internal, Server, Client, Producer, Consumer: the exporter's words. */
  readonly spanKind: string;
  readonly serviceName: string;
  readonly resourceAttributes: TextAttributes;
  readonly scopeName: string;
  readonly scopeVersion: string;
  readonly spanAttributes: TextAttributes;
  readonly duration: bigint;
  /** Unset, Ok, Error. */
  readonly statusCode: string;
  readonly statusMessage: string;
  readonly events: readonly {
    readonly timestamp: bigint;
    readonly name: string;
    readonly attributes: TextAttributes;
  }[];
  readonly links: readonly {
    readonly traceId: string;
    readonly spanId: string;
    readonly traceState: string;
    readonly attributes: TextAttributes;
  }[];
}

/** A redacted log record as `grantscope.otel_logs` holds it. */
export interface OtelLogRow {
  readonly timestamp: bigint;
  readonly traceId: string;
  readonly spanId: string;
  readonly traceFlags: number;
  readonly severityText: string;
  readonly severityNumber: number;
  readonly serviceName: string;
  readonly body: string;
  readonly resourceSchemaUrl: string;
  readonly resourceAttributes: TextAttributes;
  readonly scopeSchemaUrl: string;
  readonly scopeName: string;
  readonly scopeVersion: string;
  readonly scopeAttributes: TextAttributes;
  readonly logAttributes: TextAttributes;
  readonly eventName: string;
}

const TIME = "DateTime64(9, 'UTC')";
const LOW = 'LowCardinality(String)';
const MAP = 'Map(LowCardinality(String), String)';

type SpanColumn = ColumnSpec<OtelSpanRow>;
const span = (
  name: string,
  type: SpanColumn['type'],
  get: (row: OtelSpanRow) => unknown,
): SpanColumn => ({ name, type, get });

export const otelTracesTable: TableSpec<OtelSpanRow> = {
  table: 'grantscope.otel_traces',
  columns: [
    span('Timestamp', TIME, (r) => r.timestamp),
    span('TraceId', 'String', (r) => r.traceId),
    span('SpanId', 'String', (r) => r.spanId),
    span('ParentSpanId', 'String', (r) => r.parentSpanId),
    span('TraceState', 'String', (r) => r.traceState),
    span('SpanName', LOW, (r) => r.spanName),
    span('SpanKind', LOW, (r) => r.spanKind),
    span('ServiceName', LOW, (r) => r.serviceName),
    span('ResourceAttributes', MAP, (r) => r.resourceAttributes),
    span('ScopeName', 'String', (r) => r.scopeName),
    span('ScopeVersion', 'String', (r) => r.scopeVersion),
    span('SpanAttributes', MAP, (r) => r.spanAttributes),
    span('Duration', 'UInt64', (r) => r.duration),
    span('StatusCode', LOW, (r) => r.statusCode),
    span('StatusMessage', 'String', (r) => r.statusMessage),
    span('Events.Timestamp', `Array(${TIME})`, (r) => r.events.map((e) => e.timestamp)),
    span('Events.Name', `Array(${LOW})`, (r) => r.events.map((e) => e.name)),
    span('Events.Attributes', `Array(${MAP})`, (r) => r.events.map((e) => e.attributes)),
    span('Links.TraceId', 'Array(String)', (r) => r.links.map((l) => l.traceId)),
    span('Links.SpanId', 'Array(String)', (r) => r.links.map((l) => l.spanId)),
    span('Links.TraceState', 'Array(String)', (r) => r.links.map((l) => l.traceState)),
    span('Links.Attributes', `Array(${MAP})`, (r) => r.links.map((l) => l.attributes)),
  ],
};

type LogColumn = ColumnSpec<OtelLogRow>;
const log = (
  name: string,
  type: LogColumn['type'],
  get: (row: OtelLogRow) => unknown,
): LogColumn => ({ name, type, get });

/** `TimestampTime` is left to its default, toDateTime(Timestamp). */
export const otelLogsTable: TableSpec<OtelLogRow> = {
  table: 'grantscope.otel_logs',
  columns: [
    log('Timestamp', TIME, (r) => r.timestamp),
    log('TraceId', 'String', (r) => r.traceId),
    log('SpanId', 'String', (r) => r.spanId),
    log('TraceFlags', 'UInt8', (r) => r.traceFlags),
    log('SeverityText', LOW, (r) => r.severityText),
    log('SeverityNumber', 'UInt8', (r) => r.severityNumber),
    log('ServiceName', LOW, (r) => r.serviceName),
    log('Body', 'String', (r) => r.body),
    log('ResourceSchemaUrl', LOW, (r) => r.resourceSchemaUrl),
    log('ResourceAttributes', MAP, (r) => r.resourceAttributes),
    log('ScopeSchemaUrl', LOW, (r) => r.scopeSchemaUrl),
    log('ScopeName', 'String', (r) => r.scopeName),
    log('ScopeVersion', LOW, (r) => r.scopeVersion),
    log('ScopeAttributes', MAP, (r) => r.scopeAttributes),
    log('LogAttributes', MAP, (r) => r.logAttributes),
    log('EventName', 'String', (r) => r.eventName),
  ],
};
