import { authRecordsOfSpan } from './auth_records.ts';
import {
  mapRequest,
  type MapContext,
  type MappedRequest,
  type RecordWork,
  type SharedColumns,
} from './map_request.ts';
import type { OtelSpanRow } from './rows.ts';
import type { OtlpSpan, TraceRequest } from './types.ts';

/** The exporter's words for opentelemetry-proto's SpanKind and StatusCode, by number. */
const SPAN_KINDS = ['Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer'];
const STATUS_CODES = ['Unset', 'Ok', 'Error'];

/** Every span as a row, and the auth events among spans and span events. */
export function mapTraces(request: TraceRequest, context: MapContext): MappedRequest<OtelSpanRow> {
  return mapRequest(request, context, (span, shared, work) => ({
    row: spanRow(span, shared, work),
    authRecords: authRecordsOfSpan(span, work.auth),
  }));
}

function spanRow(span: OtlpSpan, shared: SharedColumns, work: RecordWork): OtelSpanRow {
  const { attributes, text } = work;
  const { startTimeUnixNano: start, endTimeUnixNano: end } = span;
  const timestamp = work.time(start === 0n ? end : start);
  return {
    timestamp,
    traceId: span.traceId,
    spanId: span.spanId,
    parentSpanId: span.parentSpanId,
    traceState: text(span.traceState),
    spanName: text(span.name),
    spanKind: SPAN_KINDS[span.kind] ?? 'Unspecified',
    serviceName: shared.serviceName,
    resourceAttributes: shared.resourceAttributes,
    scopeName: shared.scopeName,
    scopeVersion: shared.scopeVersion,
    spanAttributes: attributes(span.attributes),
    duration: start !== 0n && end > start ? end - start : 0n,
    statusCode: STATUS_CODES[span.status.code] ?? 'Unset',
    statusMessage: text(span.status.message),
    events: span.events.map((event) => ({
      timestamp: event.timeUnixNano === 0n ? timestamp : work.time(event.timeUnixNano),
      name: text(event.name),
      attributes: attributes(event.attributes),
    })),
    links: span.links.map((link) => ({
      traceId: link.traceId,
      spanId: link.spanId,
      traceState: text(link.traceState),
      attributes: attributes(link.attributes),
    })),
  };
}
