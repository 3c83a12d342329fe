import { setOwn } from '../../set_own.ts';
import { DecodeBudget, undecodable, VALUE_DEPTH_MAX, VALUE_LENGTH_MAX } from './limits.ts';
import { ProtoReader } from './proto_reader.ts';
import {
  emptyLogRecord,
  emptyScope,
  emptySpan,
  type Attributes,
  type AttributeValue,
  type LogsRequest,
  type OtlpLogRecord,
  type OtlpResource,
  type OtlpResourceGroup,
  type OtlpScope,
  type OtlpScopeGroup,
  type OtlpSpan,
  type OtlpSpanEvent,
  type OtlpSpanLink,
  type TraceRequest,
} from './types.ts';

/**
 * Decodes an ExportTraceServiceRequest (opentelemetry-proto, `trace_service.proto`). Unknown fields are skipped.
 * Throws `body_unreadable` (400) on anything that is not one, `body_too_large` (413) beyond the limits.
 */
export function decodeTraceRequest(body: Buffer): TraceRequest {
  return decodeRequest(body, readSpan);
}

/** As `decodeTraceRequest`, for an ExportLogsServiceRequest. */
export function decodeLogsRequest(body: Buffer): LogsRequest {
  return decodeRequest(body, readLogRecord);
}

interface Input {
  readonly reader: ProtoReader;
  readonly budget: DecodeBudget;
}
type ReadRecord<R> = (input: Input) => R;

/** The two requests have one outline: groups by resource, in them groups by scope, in them records. */
function decodeRequest<R>(body: Buffer, readRecord: ReadRecord<R>): OtlpResourceGroup<R>[] {
  const input: Input = { reader: new ProtoReader(body), budget: new DecodeBudget() };
  const { reader } = input;
  const groups: OtlpResourceGroup<R>[] = [];
  while (reader.hasMore) {
    const tag = reader.tag();
    if (tag >>> 3 !== 1) {
      reader.skip(tag & 7);
      continue;
    }
    const outer = reader.open(tag & 7, 'resource group');
    groups.push(readResourceGroup(input, readRecord));
    reader.close(outer);
  }
  return groups;
}

function readResourceGroup<R>(input: Input, readRecord: ReadRecord<R>): OtlpResourceGroup<R> {
  const { reader, budget } = input;
  budget.takeMessage();
  const group: OtlpResourceGroup<R> = { resource: { attributes: {} }, schemaUrl: '', scopes: [] };
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    switch (tag >>> 3) {
      case 1: {
        const outer = reader.open(wire, 'resource');
        readResource(input, group.resource);
        reader.close(outer);
        break;
      }
      case 2: {
        const outer = reader.open(wire, 'scope group');
        group.scopes.push(readScopeGroup(input, readRecord));
        reader.close(outer);
        break;
      }
      case 3:
        group.schemaUrl = reader.text(wire, 'schema_url');
        break;
      default:
        reader.skip(wire);
    }
  }
  return group;
}

function readResource(input: Input, resource: OtlpResource): void {
  const { reader } = input;
  while (reader.hasMore) {
    const tag = reader.tag();
    if (tag >>> 3 === 1) readAttribute(input, tag & 7, resource.attributes, 'resource.attributes');
    else reader.skip(tag & 7);
  }
}

function readScopeGroup<R>(input: Input, readRecord: ReadRecord<R>): OtlpScopeGroup<R> {
  const { reader, budget } = input;
  budget.takeMessage();
  const group: OtlpScopeGroup<R> = { scope: emptyScope(), schemaUrl: '', records: [] };
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    switch (tag >>> 3) {
      case 1: {
        const outer = reader.open(wire, 'scope');
        readScope(input, group.scope);
        reader.close(outer);
        break;
      }
      case 2: {
        const outer = reader.open(wire, 'record');
        budget.takeRecord();
        group.records.push(readRecord(input));
        reader.close(outer);
        break;
      }
      case 3:
        group.schemaUrl = reader.text(wire, 'schema_url');
        break;
      default:
        reader.skip(wire);
    }
  }
  return group;
}

function readScope(input: Input, scope: OtlpScope): void {
  const { reader } = input;
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    switch (tag >>> 3) {
      case 1:
        scope.name = reader.text(wire, 'scope.name');
        break;
      case 2:
        scope.version = reader.text(wire, 'scope.version');
        break;
      case 3:
        readAttribute(input, wire, scope.attributes, 'scope.attributes');
        break;
      default:
        reader.skip(wire);
    }
  }
}

function readSpan(input: Input): OtlpSpan {
  const { reader } = input;
  const span = emptySpan();
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    switch (tag >>> 3) {
      case 1:
        span.traceId = reader.id(wire, 16, 'span.trace_id');
        break;
      case 2:
        span.spanId = reader.id(wire, 8, 'span.span_id');
        break;
      case 3:
        span.traceState = reader.text(wire, 'span.trace_state');
        break;
      case 4:
        span.parentSpanId = reader.id(wire, 8, 'span.parent_span_id');
        break;
      case 5:
        span.name = reader.text(wire, 'span.name');
        break;
      case 6:
        span.kind = reader.int32(wire, 'span.kind');
        break;
      case 7:
        span.startTimeUnixNano = reader.fixed64(wire, 'span.start_time_unix_nano');
        break;
      case 8:
        span.endTimeUnixNano = reader.fixed64(wire, 'span.end_time_unix_nano');
        break;
      case 9:
        readAttribute(input, wire, span.attributes, 'span.attributes');
        break;
      default:
        readSpanParts(input, tag, span);
    }
  }
  return span;
}

/** The embedded messages of a span. */
function readSpanParts(input: Input, tag: number, span: OtlpSpan): void {
  const { reader } = input;
  const wire = tag & 7;
  switch (tag >>> 3) {
    case 11: {
      const outer = reader.open(wire, 'span.events');
      span.events.push(readSpanEvent(input));
      reader.close(outer);
      break;
    }
    case 13: {
      const outer = reader.open(wire, 'span.links');
      span.links.push(readSpanLink(input));
      reader.close(outer);
      break;
    }
    case 15: {
      const outer = reader.open(wire, 'span.status');
      readStatus(input, span.status);
      reader.close(outer);
      break;
    }
    default:
      reader.skip(wire);
  }
}

function readSpanEvent(input: Input): OtlpSpanEvent {
  const { reader, budget } = input;
  budget.takeMessage();
  const event: OtlpSpanEvent = { timeUnixNano: 0n, name: '', attributes: {} };
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    switch (tag >>> 3) {
      case 1:
        event.timeUnixNano = reader.fixed64(wire, 'span.events.time_unix_nano');
        break;
      case 2:
        event.name = reader.text(wire, 'span.events.name');
        break;
      case 3:
        readAttribute(input, wire, event.attributes, 'span.events.attributes');
        break;
      default:
        reader.skip(wire);
    }
  }
  return event;
}

function readSpanLink(input: Input): OtlpSpanLink {
  const { reader, budget } = input;
  budget.takeMessage();
  const link: OtlpSpanLink = { traceId: '', spanId: '', traceState: '', attributes: {} };
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    switch (tag >>> 3) {
      case 1:
        link.traceId = reader.id(wire, 16, 'span.links.trace_id');
        break;
      case 2:
        link.spanId = reader.id(wire, 8, 'span.links.span_id');
        break;
      case 3:
        link.traceState = reader.text(wire, 'span.links.trace_state');
        break;
      case 4:
        readAttribute(input, wire, link.attributes, 'span.links.attributes');
        break;
      default:
        reader.skip(wire);
    }
  }
  return link;
}

function readStatus(input: Input, status: OtlpSpan['status']): void {
  const { reader } = input;
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    const field = tag >>> 3;
    if (field === 2) status.message = reader.text(wire, 'span.status.message');
    else if (field === 3) status.code = reader.int32(wire, 'span.status.code');
    else reader.skip(wire);
  }
}

function readLogRecord(input: Input): OtlpLogRecord {
  const { reader } = input;
  const record = emptyLogRecord();
  while (reader.hasMore) {
    const tag = reader.tag();
    const wire = tag & 7;
    switch (tag >>> 3) {
      case 1:
        record.timeUnixNano = reader.fixed64(wire, 'log_record.time_unix_nano');
        break;
      case 2:
        record.severityNumber = reader.int32(wire, 'log_record.severity_number');
        break;
      case 3:
        record.severityText = reader.text(wire, 'log_record.severity_text');
        break;
      case 5:
        record.body = readAnyValue(input, wire, 0, 'log_record.body');
        break;
      case 6:
        readAttribute(input, wire, record.attributes, 'log_record.attributes');
        break;
      case 8:
        record.flags = reader.fixed32(wire, 'log_record.flags');
        break;
      case 9:
        record.traceId = reader.id(wire, 16, 'log_record.trace_id');
        break;
      case 10:
        record.spanId = reader.id(wire, 8, 'log_record.span_id');
        break;
      case 11:
        record.observedTimeUnixNano = reader.fixed64(wire, 'log_record.observed_time_unix_nano');
        break;
      case 12:
        record.eventName = reader.text(wire, 'log_record.event_name');
        break;
      default:
        reader.skip(wire);
    }
  }
  return record;
}

/** One KeyValue, set on `target`. */
function readAttribute(
  input: Input,
  wire: number,
  target: Attributes,
  field: string,
  depth = 0,
): void {
  const { reader, budget } = input;
  budget.takeAttribute();
  const outer = reader.open(wire, field);
  let key = '';
  let value: AttributeValue = null;
  while (reader.hasMore) {
    const tag = reader.tag();
    if (tag >>> 3 === 1) key = reader.name(tag & 7, field);
    else if (tag >>> 3 === 2) value = readAnyValue(input, tag & 7, depth, field);
    else reader.skip(tag & 7);
  }
  reader.close(outer);
  setOwn(target, key, value);
}

function readAnyValue(input: Input, wire: number, depth: number, field: string): AttributeValue {
  if (depth > VALUE_DEPTH_MAX)
    throw undecodable(`${field}: nested too deep; at most ${VALUE_DEPTH_MAX} levels`);
  const { reader } = input;
  const outer = reader.open(wire, field);
  let value: AttributeValue = null;
  while (reader.hasMore) {
    const tag = reader.tag();
    const inner = tag & 7;
    switch (tag >>> 3) {
      case 1:
        value = reader.text(inner, field);
        break;
      case 2:
        value = reader.bool(inner, field);
        break;
      case 3:
        value = reader.int64(inner, field);
        break;
      case 4:
        value = reader.double(inner, field);
        break;
      case 5:
        value = readArray(input, inner, depth, field);
        break;
      case 6:
        value = readKeyValueList(input, inner, depth, field);
        break;
      case 7:
        value = reader.bytes(inner, field).subarray(0, VALUE_LENGTH_MAX);
        break;
      default:
        reader.skip(inner);
    }
  }
  reader.close(outer);
  return value;
}

function readArray(input: Input, wire: number, depth: number, field: string): AttributeValue[] {
  const { reader, budget } = input;
  budget.takeMessage();
  const outer = reader.open(wire, field);
  const values: AttributeValue[] = [];
  while (reader.hasMore) {
    const tag = reader.tag();
    if (tag >>> 3 === 1) values.push(readAnyValue(input, tag & 7, depth + 1, field));
    else reader.skip(tag & 7);
  }
  reader.close(outer);
  return values;
}

function readKeyValueList(input: Input, wire: number, depth: number, field: string): Attributes {
  const { reader, budget } = input;
  budget.takeMessage();
  const outer = reader.open(wire, field);
  const values: Attributes = {};
  while (reader.hasMore) {
    const tag = reader.tag();
    if (tag >>> 3 === 1) readAttribute(input, tag & 7, values, field, depth + 1);
    else reader.skip(tag & 7);
  }
  reader.close(outer);
  return values;
}
