import { SOURCE_ATTRIBUTE } from '../../../model/attributes.ts';
import { authRecordsOfLog, eventNameOf } from './auth_records.ts';
import {
  BODY_LENGTH_MAX,
  mapRequest,
  type MapContext,
  type MappedRequest,
  type RecordWork,
  type SharedColumns,
} from './map_request.ts';
import type { OtelLogRow } from './rows.ts';
import type { AttributeValue, LogsRequest, OtlpLogRecord } from './types.ts';

/** The highest SeverityNumber (FATAL4). */
const SEVERITY_NUMBER_MAX = 24;

/** W3C trace flags are the low 8 bits. */
const TRACE_FLAGS_MASK = 0xff;

/**
 * Stored in place of a vendor's record. Vendors hide secrets where only the source's adapter knows (an opaque
 * token's `jti`, for one), so the body is not kept beside the auth event that was made of it.
 */
export const VENDOR_BODY = '[vendor record: see auth_events]';

/** Every log record as a row, and the auth events among them. */
export function mapLogs(request: LogsRequest, context: MapContext): MappedRequest<OtelLogRow> {
  return mapRequest(request, context, (log, shared, work) => ({
    row: logRow(log, shared, work),
    authRecords: authRecordsOfLog(log, work.auth),
  }));
}

function logRow(log: OtlpLogRecord, shared: SharedColumns, work: RecordWork): OtelLogRow {
  const isVendorRecord = log.attributes[SOURCE_ATTRIBUTE] !== undefined;
  const { severityNumber } = log;
  return {
    timestamp: work.time(log.timeUnixNano === 0n ? log.observedTimeUnixNano : log.timeUnixNano),
    traceId: log.traceId,
    spanId: log.spanId,
    traceFlags: log.flags & TRACE_FLAGS_MASK,
    severityText: work.text(log.severityText),
    severityNumber:
      severityNumber >= 0 && severityNumber <= SEVERITY_NUMBER_MAX ? severityNumber : 0,
    ...shared,
    body: isVendorRecord ? VENDOR_BODY : bodyText(log.body, work),
    logAttributes: work.attributes(log.attributes),
    eventName: work.text(eventNameOf(log)),
  };
}

/** A log body as redacted text: a text as it is, anything else as JSON whose keys count for redaction. */
function bodyText(body: AttributeValue, work: RecordWork): string {
  if (body === null) return '';
  if (typeof body === 'string') return work.text(body, BODY_LENGTH_MAX);
  return work.attributes({ body })['body'] ?? '';
}
