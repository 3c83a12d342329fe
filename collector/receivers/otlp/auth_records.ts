import {
  ATTR,
  AUTH_EVENT_NAME,
  SOURCE_ATTRIBUTE,
  TOKEN_ATTRIBUTE_PREFIX,
} from '../../../model/attributes.ts';
import type { SourceDefinition, SourceRecord } from '../../../model/define_source.ts';
import { withoutSyslogHeader } from '../syslog_header.ts';
import { plainAttributes, plainValue, type PlainValue } from './plain_value.ts';
import type { Attributes, OtlpLogRecord, OtlpSpan } from './types.ts';

/** Id of the source that reads our own attributes (collector/sources/otlp.ts). */
export const OTLP_SOURCE_ID = 'otlp';

/** Sources listed in the answer to a record of an unknown one. */
const SOURCES_LISTED_MAX = 50;

/** A record for a source, or the reason why there is none. */
export type AuthRecord =
  | { readonly ok: true; readonly source: SourceDefinition; readonly record: SourceRecord }
  | { readonly ok: false; readonly code: string; readonly message: string };

export interface AuthRecordContext {
  readonly sources: ReadonlyMap<string, SourceDefinition>;
  /** Attributes of the resource, as they came. */
  readonly resource: Readonly<Record<string, PlainValue>>;
  /** Time of records that have none, ns. */
  readonly receivedAt: bigint;
}

/** The auth events of a span: the span itself where it says so, and each of its events that does. */
export function authRecordsOfSpan(span: OtlpSpan, context: AuthRecordContext): AuthRecord[] {
  const records: AuthRecord[] = [];
  const end = span.endTimeUnixNano === 0n ? span.startTimeUnixNano : span.endTimeUnixNano;
  if (isAuthEvent(span.name, span.attributes)) {
    const attributes = withDuration(withId(plainAttributes(span.attributes), span, ''), span);
    records.push(ownRecord({ attributes, time: end, name: span.name, ids: span }, context));
  }
  for (const [index, event] of span.events.entries()) {
    if (event.name !== AUTH_EVENT_NAME) continue;
    const merged = plainAttributes({ ...inherited(span.attributes), ...event.attributes });
    const attributes = withId(merged, span, `:${index}`);
    const time = event.timeUnixNano === 0n ? end : event.timeUnixNano;
    records.push(ownRecord({ attributes, time, name: event.name, ids: span }, context));
  }
  return records;
}

/**
 * The auth events of a log record: the vendor's record in its body where `grantscope.source` names the source (those in
 * a container, where the vendor packs several; behind a syslog header, where it has one), else our own attributes; none
 * for any other log record.
 */
export function authRecordsOfLog(log: OtlpLogRecord, context: AuthRecordContext): AuthRecord[] {
  const sourceId = log.attributes[SOURCE_ATTRIBUTE];
  if (sourceId !== undefined) return vendorRecords(log, sourceId, context);
  const name = eventNameOf(log);
  if (!isAuthEvent(name, log.attributes)) return [];
  const time = log.timeUnixNano === 0n ? log.observedTimeUnixNano : log.timeUnixNano;
  const attributes = plainAttributes(log.attributes);
  const observed = log.observedTimeUnixNano;
  return [ownRecord({ attributes, time, name, observed, ids: log }, context)];
}

/** The event's name: the field, or the attribute that stood for it before opentelemetry-proto 1.5. */
export function eventNameOf(log: OtlpLogRecord): string {
  if (log.eventName !== '') return log.eventName;
  const name = log.attributes['event.name'];
  return typeof name === 'string' ? name : '';
}

/**
 * What is named like an auth event but lacks the kind is one as well: its source refuses it, which the sender
 * then sees, in place of an event that silently is none.
 */
function isAuthEvent(name: string, attributes: Readonly<Attributes>): boolean {
  return attributes[ATTR.kind] !== undefined || name === AUTH_EVENT_NAME;
}

/**
 * The ids of a span name its auth event, where the instrumentation gives no id: a span that is sent again in
 * another batch is then recognised.
 */
function withId(
  attributes: Record<string, PlainValue>,
  { traceId, spanId }: OtlpSpan,
  suffix: string,
): Record<string, PlainValue> {
  if (attributes[ATTR.eventId] === undefined && traceId !== '' && spanId !== '')
    attributes[ATTR.eventId] = `${traceId}:${spanId}${suffix}`;
  return attributes;
}

/** The time a span took stands for the time of the request, where the instrumentation gives none. */
function withDuration(
  attributes: Record<string, PlainValue>,
  { startTimeUnixNano: start, endTimeUnixNano: end }: OtlpSpan,
): Record<string, PlainValue> {
  if (attributes[ATTR.durationMs] === undefined && start !== 0n && end >= start)
    attributes[ATTR.durationMs] = Number(end - start) / 1e6;
  return attributes;
}

/** Prefixes of what belongs to one auth event alone: a span's own event must not colour the events within it. */
const OWN_TO_AN_EVENT = ['oauth.event.', 'oauth.error', TOKEN_ATTRIBUTE_PREFIX, ATTR.durationMs];

/** What a span event takes over from its span: client, issuer, address and so on. */
function inherited(attributes: Readonly<Attributes>): Attributes {
  return Object.fromEntries(
    Object.entries(attributes).filter(([key]) => !OWN_TO_AN_EVENT.some((p) => key.startsWith(p))),
  );
}

interface OwnRecord {
  readonly attributes: Readonly<Record<string, PlainValue>>;
  readonly time: bigint;
  readonly observed?: bigint;
  readonly name: string;
  readonly ids: { readonly traceId: string; readonly spanId: string };
}

function ownRecord(own: OwnRecord, context: AuthRecordContext): AuthRecord {
  const source = context.sources.get(OTLP_SOURCE_ID);
  if (source === undefined) return unknownSource(context);
  const { attributes, time, observed = 0n, name, ids } = own;
  const value = {
    attributes,
    time_unix_nano: (time === 0n ? context.receivedAt : time).toString(),
    ...(observed === 0n ? {} : { observed_time: observed.toString() }),
    name,
    trace_id: ids.traceId,
    span_id: ids.spanId,
    resource: context.resource,
  };
  return { ok: true, source, record: { form: 'json', value } };
}

function vendorRecords(
  log: OtlpLogRecord,
  sourceId: unknown,
  context: AuthRecordContext,
): AuthRecord[] {
  const source = typeof sourceId === 'string' ? context.sources.get(sourceId) : undefined;
  if (source === undefined) return [unknownSource(context)];
  const { body } = log;
  if (body === null)
    return [refused('missing_field', 'body: empty; expected a record of the source')];
  if (typeof body !== 'string') {
    if (source.forms.includes('json')) return jsonRecords(plainValue(body), source);
    return [refused('unsupported_form', `body: the source ${source.id} reads lines of text`)];
  }
  const line = withoutSyslogHeader(body);
  if (source.forms.includes('json')) {
    const value = parseObject(line);
    if (value !== undefined) return jsonRecords(value, source);
  }
  if (source.forms.includes('text')) return [{ ok: true, source, record: { form: 'text', line } }];
  return [refused('not_json', `body: the source ${source.id} reads JSON objects`)];
}

function jsonRecords(value: unknown, source: SourceDefinition): AuthRecord[] {
  const values = source.unwrap?.(value) ?? [value];
  return values.map((inner) => ({ ok: true, source, record: { form: 'json', value: inner } }));
}

/** A JSON object's text as the object; undefined for other text. */
function parseObject(text: string): unknown {
  if (!/^\s{0,64}\{/.test(text)) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function refused(code: string, message: string): AuthRecord {
  return { ok: false, code, message };
}

function unknownSource(context: AuthRecordContext): AuthRecord {
  const known = [...context.sources.keys()].sort().slice(0, SOURCES_LISTED_MAX).join(', ');
  return refused('unknown_source', `${SOURCE_ATTRIBUTE}: no such source; known: ${known}`);
}
