import {
  defineSource,
  type ParseResult,
  type SourceContext,
  type SourceRecord,
} from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import { EVENT_KINDS } from '../../model/kinds.ts';
import {
  given,
  isJson,
  type Json,
  objectIn,
  oneOf,
  own,
  refuse,
  textIn,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';
import grantscope from './grantscope.ts';

/** Longest data that an envelope carries as text or base64, characters. */
const DATA_TEXT_LENGTH_MAX = 1_048_576;

function parsedObject(text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    return isJson(value) ? value : {};
  } catch {
    return {};
  }
}

/** The data as an object: a member, JSON as text, or JSON in base64. {} where it is anything else. */
function dataOf(envelope: Json): Json {
  const data = own(envelope, 'data');
  if (isJson(data)) return data;
  if (typeof data === 'string' && data.length <= DATA_TEXT_LENGTH_MAX) return parsedObject(data);
  const binary = own(envelope, 'data_base64');
  if (typeof binary !== 'string' || binary.length > DATA_TEXT_LENGTH_MAX) return {};
  return parsedObject(Buffer.from(binary, 'base64').toString('utf8'));
}

/** W3C trace context, as the distributed tracing extension carries it. */
function corrOf(envelope: Json): NonNullable<AuthEventDraft['corr']> {
  const m = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-/.exec(
    textIn(envelope, 'traceparent') ?? '',
  );
  return given({ trace_id: m?.[1], span_id: m?.[2] });
}

/** Source and id together name an event (CloudEvents 1.0.2, id). */
function idOf(envelope: Json): string {
  return [textIn(envelope, 'source'), textIn(envelope, 'id')].filter(Boolean).join(' ');
}

/** What the data leaves out is as the envelope says. */
function withEnvelope(event: AuthEventDraft, envelope: Json): AuthEventDraft {
  const corr = corrOf(envelope);
  return given({
    ...event,
    vendor_event_id: event.vendor_event_id ?? idOf(envelope),
    raw_type: event.raw_type ?? textIn(envelope, 'type'),
    instance: event.instance ?? textIn(envelope, 'source'),
    corr: event.corr?.trace_id === undefined ? given({ ...event.corr, ...corr }) : event.corr,
  });
}

/** An AuthEvent in the data, with the envelope's time where it has none. */
function parseAuthEvent(data: Json, envelope: Json, context: SourceContext): ParseResult {
  const time = own(data, 'time') ?? own(envelope, 'time') ?? context.received_at;
  const result = grantscope.parse({ form: 'json', value: { ...data, time } }, context);
  if (!result.ok) return refuse(result.code, `data.${result.message}`);
  return { ok: true, events: result.events.map((event) => withEnvelope(event, envelope)) };
}

function parse(record: SourceRecord, context: SourceContext): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const version = textIn(value, 'specversion');
  if (version === undefined || !version.startsWith('1.')) {
    return refuse('unrecognised_record', 'record: no CloudEvent; specversion 1.x is needed');
  }
  for (const name of ['id', 'source', 'type']) {
    if (textIn(value, name) === undefined) return refuse('missing_field', `${name}: is required`);
  }
  const rawTime = own(value, 'time');
  const time = rawTime === undefined ? context.received_at : timeNs(rawTime);
  if (time === undefined) return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}`);
  const data = dataOf(value);
  if (oneOf(EVENT_KINDS, own(data, 'kind')) !== undefined) {
    return parseAuthEvent(data, value, context);
  }
  const kind = textIn(data, 'kind') ?? textIn(objectIn(data, 'event'), 'kind');
  const event = given({ kind: 'unclassified' as const, time, ext: given({ data_kind: kind }) });
  return { ok: true, events: [withEnvelope(event, value)] };
}

/**
 * CloudEvents in structured JSON, one or a batch. Data that is an AuthEvent is read as one; anything else is kept as
 * unclassified under its type. Vendors' records in envelopes go to the vendor's own source.
 */
export default defineSource({
  id: 'cloudevents',
  title: 'CloudEvents',
  vendor: 'cncf',
  product: 'cloudevents',
  description:
    'CloudEvents in structured JSON whose data is an AuthEvent; others stay unclassified.',
  forms: ['json'],
  provides: [...grantscope.provides],
  confirmed_by: 'documents',
  references: ['CloudEvents 1.0.2: core, JSON event format, distributed tracing extension'],
  parse,
});
