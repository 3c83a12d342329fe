import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { telemetryScrubber, type TelemetryScrubber } from '../processors/telemetry_scrubber.ts';
import { decodeLogsRequestJson, decodeTraceRequestJson } from '../receivers/otlp/decode_json.ts';
import { mapLogs } from '../receivers/otlp/map_logs.ts';
import { mapTraces } from '../receivers/otlp/map_traces.ts';
import {
  explainRecord,
  rulesIn,
  type ExplainedField,
  type ExplainedRecord,
  type Explainer,
} from './explain_record.ts';
import { shapeOf, shownName } from './shape.ts';

export interface ExplainedTelemetry {
  /** `otel_traces` or `otel_logs`: where the rows go. */
  readonly table: string;
  readonly rows: number;
  /** Attributes and texts of the rows, in the order in which they are redacted. */
  readonly fields: readonly ExplainedField[];
  /** The auth events among them. */
  readonly records: readonly ExplainedRecord[];
  readonly refused: readonly {
    readonly owner: number;
    readonly code: string;
    readonly message: string;
  }[];
}

/** True where the text is an OTLP request in JSON. */
export function isOtlpJson(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    ('resourceSpans' in value || 'resourceLogs' in value)
  );
}

/** What becomes of the spans or log records of an OTLP request in JSON. Throws `body_unreadable` as the receiver does. */
export function explainTelemetry(
  body: Buffer,
  sources: ReadonlyMap<string, SourceDefinition>,
  explainer: Explainer,
): ExplainedTelemetry {
  const fields: ExplainedField[] = [];
  const scrubber = telemetryScrubber(explainer.scrubber, explainer.keyRing, explainer.clientIp);
  const context = {
    sources,
    receivedAt: explainer.receivedAt,
    scrubber: noting(scrubber, explainer, (field) => fields.push(field)),
  };
  const isTraces = /"resourceSpans"/.test(body.toString('utf8'));
  const mapped = isTraces
    ? mapTraces(decodeTraceRequestJson(body), context)
    : mapLogs(decodeLogsRequestJson(body), context);
  const records = mapped.records.map((r, i) => {
    if (!('record' in r))
      throw new GrantscopeError('internal', 'an auth record of telemetry without its content');
    return explainRecord(r.source, r.record, mapped.owners[i] ?? i, explainer);
  });
  return {
    table: isTraces ? 'otel_traces' : 'otel_logs',
    rows: mapped.rows.length,
    fields,
    records,
    refused: mapped.refusals,
  };
}

/** The same scrubber, which notes what it did to each text and attribute. */
function noting(
  scrubber: TelemetryScrubber,
  explainer: Explainer,
  note: (field: ExplainedField) => void,
): TelemetryScrubber {
  return {
    scrubText: (text, maxLength) => {
      const result = scrubber.scrubText(text, maxLength);
      note(fieldOfText('(name, message or body)', text, result.text, explainer));
      return result;
    },
    scrubAttributes: (attributes) => {
      const result = scrubber.scrubAttributes(attributes);
      // The result has the attributes in their order, one for one.
      const stored = Object.values(result.attributes);
      Object.entries(attributes).forEach(([key, value], i) => {
        note(fieldOfAttribute(key, value, stored[i] ?? '', explainer));
      });
      return result;
    },
  };
}

function fieldOfText(
  field: string,
  before: string,
  after: string,
  explainer: Explainer,
): ExplainedField {
  const shape = shapeOf(before);
  const to: string[] = [];
  if (after === before)
    return { field, fate: 'kept', shape, to, stored: after, why: 'nothing secret in it' };
  const rules = rulesIn(explainer, before);
  const why = rules === '' ? 'an address, or cut at its length' : `found by: ${rules}`;
  return { field, fate: 'scrubbed', shape, to, stored: after, why };
}

const HEADER = /\.(?:header|metadata)\./i;
const UUID_TEXT = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

function fieldOfAttribute(
  key: string,
  value: unknown,
  after: string,
  explainer: Explainer,
): ExplainedField {
  const field = shownName([key]);
  const before =
    typeof value === 'object' && value !== null ? JSON.stringify(value, jsonText) : String(value);
  const isNamed = explainer.scrubber.isSecretKey(key) || HEADER.test(key);
  if (after === '[redacted]' && (isNamed || rulesIn(explainer, before) === '')) {
    const why = whyDropped(key, explainer);
    return { field, fate: 'dropped', shape: shapeOf(value), to: [], why };
  }
  if (after !== before && UUID_TEXT.test(after)) {
    const why = 'names a person, a session or an address; becomes a reference by the hash key';
    return { field, fate: 'hashed', shape: shapeOf(value), to: [], why };
  }
  if (after !== before && after === '')
    return { field, fate: 'dropped', shape: shapeOf(value), to: [], why: 'says "no value"' };
  return { ...fieldOfText(field, before, after, explainer), shape: shapeOf(value) };
}

function jsonText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

function whyDropped(key: string, { scrubber }: Explainer): string {
  if (/\.(?:header|metadata)\./.test(key))
    return 'a header that is not on the list of harmless ones';
  return scrubber.isSecretKey(key)
    ? 'its name is that of a secret'
    : 'holds parameters or a person and nothing else';
}
