/**
 * What an OTLP request says, whichever encoding it came in (opentelemetry-proto 1.x). Field names are those of
 * OTLP/JSON; fields that Grantscope has no use for (dropped counts, flags of spans) are left out. Missing
 * fields have the defaults of proto3: '' , 0, empty.
 */

/**
 * An AnyValue as a plain value: text, boolean, number, array and record as such; 64-bit integers are a number
 * where that is exact, else a bigint; bytes are a Buffer; an empty AnyValue is null.
 */
export type AttributeValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | Buffer
  | readonly AttributeValue[]
  | { readonly [key: string]: AttributeValue };

/** Of two attributes with one key the last one counts. */
export type Attributes = Record<string, AttributeValue>;

export interface OtlpResource {
  attributes: Attributes;
}

export interface OtlpScope {
  name: string;
  version: string;
  attributes: Attributes;
}

export interface OtlpSpanEvent {
  timeUnixNano: bigint;
  name: string;
  attributes: Attributes;
}

export interface OtlpSpanLink {
  traceId: string;
  spanId: string;
  traceState: string;
  attributes: Attributes;
}

/** Ids are lower-case hex, '' where absent or all zero (which means absent). Times are ns, 0 = unknown. */
export interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  traceState: string;
  name: string;
  kind: number;
  startTimeUnixNano: bigint;
  endTimeUnixNano: bigint;
  attributes: Attributes;
  events: OtlpSpanEvent[];
  links: OtlpSpanLink[];
  status: { code: number; message: string };
}

export interface OtlpLogRecord {
  timeUnixNano: bigint;
  observedTimeUnixNano: bigint;
  severityNumber: number;
  severityText: string;
  /** See `Attributes`; null where there is none. */
  body: AttributeValue;
  attributes: Attributes;
  flags: number;
  traceId: string;
  spanId: string;
  eventName: string;
}

/** Records of one scope of one resource; `records` are spans or log records. */
export interface OtlpScopeGroup<R> {
  scope: OtlpScope;
  schemaUrl: string;
  records: R[];
}

export interface OtlpResourceGroup<R> {
  resource: OtlpResource;
  schemaUrl: string;
  scopes: OtlpScopeGroup<R>[];
}

export type TraceRequest = readonly OtlpResourceGroup<OtlpSpan>[];
export type LogsRequest = readonly OtlpResourceGroup<OtlpLogRecord>[];

/** Which of the two requests a body is read as. */
export type Signal = 'traces' | 'logs';

export function emptySpan(): OtlpSpan {
  return {
    traceId: '',
    spanId: '',
    parentSpanId: '',
    traceState: '',
    name: '',
    kind: 0,
    startTimeUnixNano: 0n,
    endTimeUnixNano: 0n,
    attributes: {},
    events: [],
    links: [],
    status: { code: 0, message: '' },
  };
}

export function emptyLogRecord(): OtlpLogRecord {
  return {
    timeUnixNano: 0n,
    observedTimeUnixNano: 0n,
    severityNumber: 0,
    severityText: '',
    body: null,
    attributes: {},
    flags: 0,
    traceId: '',
    spanId: '',
    eventName: '',
  };
}

export function emptyScope(): OtlpScope {
  return { name: '', version: '', attributes: {} };
}
