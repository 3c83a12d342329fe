import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import {
  CALL_FIELDS,
  CHALLENGE_FIELDS,
  draftOfCall,
  type GatewayCall,
  msOf,
  PRESENTED_TOKEN_FIELDS,
  type Verdict,
  verdictOf,
  NO_REFRESH_TOKENS,
} from './_gateway.ts';
import { callOfHttpLog, consumerOf, isHttpLog } from './_http_log.ts';
import {
  given,
  isJson,
  type Json,
  numberOf,
  objectIn,
  own,
  refuse,
  textIn,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** Who is known to Kong: the consumer, or what a plugin took from the token (its `sub`). */
function principalOf(record: Json): Pick<GatewayCall, 'client' | 'person'> {
  const consumer = objectIn(record, 'consumer');
  const username = textIn(consumer, 'username');
  const id = textIn(consumer, 'custom_id') ?? username ?? textIn(consumer, 'id');
  if (id !== undefined) return consumerOf(id, username);
  const person = textIn(objectIn(record, 'authenticated_entity'), 'id');
  return person === undefined ? {} : { person };
}

/** `source`, which newer versions write: `exit` is an answer that Kong or a plugin gave itself. */
function verdictOfKong(call: Pick<GatewayCall, 'status' | 'challenge'>, source: string): Verdict {
  const verdict = verdictOf(call.status ?? 0, call.challenge);
  const isDenied = call.status === 401 || call.status === 403;
  return source === 'exit' && isDenied ? { ...verdict, decision: 'deny' } : verdict;
}

function draftOf(record: Json, time: bigint): AuthEventDraft {
  const call = callOfHttpLog(record, time);
  const request = objectIn(record, 'request');
  const source = textIn(record, 'source');
  const traceId = textIn(objectIn(record, 'trace_id'), 'w3c');
  const { client, person } = principalOf(record);
  return draftOfCall({
    time: call.time,
    rawType: call.rawType,
    method: call.method,
    url: call.url,
    host: call.host,
    status: call.status,
    net: call.net,
    authorization: call.authorization,
    dpop: call.dpop,
    challenge: call.challenge,
    client,
    person,
    vendorEventId: textIn(request, 'id'),
    tenant: textIn(record, 'workspace_name', 'workspace'),
    durationMs: msOf(numberOf(own(objectIn(record, 'latencies'), 'request'))),
    corr: given({
      request_id: textIn(request, 'id') ?? call.corr?.request_id,
      trace_id: traceId ?? call.corr?.trace_id,
      span_id: call.corr?.span_id,
    }),
    verdict: verdictOfKong(call, source ?? ''),
    ext: {
      service: textIn(objectIn(record, 'service'), 'name', 'id'),
      route_name: textIn(objectIn(record, 'route'), 'name', 'id'),
      response_source: source,
    },
  });
}

/** Kong logs streams of bytes (TCP, TLS, UDP) with the same plugins: connections, not calls. */
function streamOf(record: Json, time: bigint): AuthEventDraft {
  return {
    kind: 'unclassified',
    time,
    raw_type: 'stream',
    outcome: 'unknown',
    net: given({ client_ip: textIn(record, 'client_ip'), ip_role: 'unknown' as const }),
  };
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is the JSON of a logging plugin');
  }
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const { value } = record;
  const isCall = isHttpLog(value);
  if (!isCall && !isJson(own(value, 'session'))) {
    return refuse(
      'unrecognised_record',
      'record: not an entry of a logging plugin; request.uri and response.status are needed',
    );
  }
  const stamp = own(value, 'started_at');
  if (stamp === undefined) return refuse('missing_field', 'started_at: is required');
  const time = timeNs(stamp);
  if (time === undefined) return refuse('invalid_time', `started_at: not a time; ${TIME_ALLOWED}`);
  return { ok: true, events: [isCall ? draftOf(value, time) : streamOf(value, time)] };
}

/**
 * What Kong's logging plugins write (http-log, file-log, tcp-log, ...). Kong masks Authorization; other headers and
 * cookies are not looked at. The time is when the request began.
 */
export default defineSource({
  id: 'kong',
  title: 'Kong Gateway',
  vendor: 'kong',
  product: 'kong',
  description: 'Requests as the logging plugins of Kong Gateway write them (http-log, file-log).',
  forms: ['json'],
  kinds: ['token_rejected', 'api_accessed', 'rate_limited', 'unclassified'],
  provides: [
    ...CALL_FIELDS,
    ...CHALLENGE_FIELDS,
    ...PRESENTED_TOKEN_FIELDS,
    ...['source.tenant', 'client.id', 'client.name', 'subject.ref', 'binding', 'policy.decision'],
    ...['corr.request_id', 'corr.trace_id', 'corr.span_id'],
  ],
  blind_for: NO_REFRESH_TOKENS,
  confirmed_by: 'real_samples',
  references: [
    'Kong Gateway: HTTP Log plugin, log format',
    'Kong Gateway: kong.log.serialize of the plugin development kit',
    'RFC 6750 sections 2.3 and 3',
  ],
  parse,
});
