import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import {
  CALL_FIELDS,
  CHALLENGE_FIELDS,
  draftOfCall,
  type GatewayCall,
  LOG_TIME_ALLOWED,
  logTimeNs,
  msOf,
  normalisedNames,
  PRESENTED_TOKEN_FIELDS,
  NO_REFRESH_TOKENS,
} from './_gateway.ts';
import { callOfHttpLog, consumerOf, isHttpLog } from './_http_log.ts';
import { CLAIM_FIELDS } from './_jwt_claims.ts';
import { callOfVariables, statusOfVariables, timeOfVariables } from './_nginx_variables.ts';
import { isJson, type Json, numberOf, objectIn, own, refuse, textIn } from './_reading.ts';

/** The gateway's own names of what answered. */
const extOf = (record: Json): GatewayCall['ext'] => ({
  route_name: textIn(record, 'route_name', 'route_id'),
  service: textIn(record, 'service_name', 'service_id'),
});

function callOfDefault(record: Json, time: bigint): GatewayCall {
  const { client, person } = consumerOf(textIn(objectIn(record, 'consumer'), 'username'));
  // The spread stands last: before further members it costs the engine ten times as much.
  return {
    client,
    person,
    instance: textIn(objectIn(record, 'server'), 'hostname'),
    durationMs: msOf(numberOf(own(record, 'latency'))),
    ext: extOf(record),
    ...callOfHttpLog(record, time),
  };
}

/** A log_format of the operator's, whose values are variables of nginx and APISIX. */
function callOfCustom(record: Json, time: bigint): GatewayCall {
  return {
    ...callOfVariables(record, time),
    ...consumerOf(textIn(record, 'consumer_name')),
    rawType: 'request',
    ext: extOf(record),
  };
}

function accepted(
  time: bigint | null | undefined,
  call: (time: bigint) => GatewayCall,
): ParseResult {
  if (time === undefined) return refuse('missing_field', 'start_time: is required');
  if (time === null) return refuse('invalid_time', `start_time: not a time; ${LOG_TIME_ALLOWED}`);
  return { ok: true, events: [draftOfCall(call(time))] };
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is the JSON of a logger plugin');
  }
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const { value } = record;
  if (isHttpLog(value)) {
    const stamp = own(value, 'start_time');
    const time = stamp === undefined ? undefined : (logTimeNs(stamp) ?? null);
    return accepted(time, (at) => callOfDefault(value, at));
  }
  const flat = normalisedNames(value);
  if (statusOfVariables(flat) === undefined) {
    return refuse(
      'unrecognised_record',
      'record: not an entry of a logger plugin; request.uri and response.status are needed (or status)',
    );
  }
  return accepted(timeOfVariables(flat), (at) => callOfCustom(flat, at));
}

/**
 * What the logger plugins of Apache APISIX write (http-logger, file-logger, kafka-logger, ...), in their default form
 * or by a log_format. Unlike Kong, APISIX does not mask Authorization: the token in it becomes a reference.
 */
export default defineSource({
  id: 'apisix',
  title: 'Apache APISIX',
  vendor: 'apache',
  product: 'apisix',
  description:
    'Requests as the logger plugins of Apache APISIX write them (http-logger, file-logger).',
  forms: ['json'],
  kinds: ['token_rejected', 'api_accessed', 'rate_limited'],
  provides: [
    ...CALL_FIELDS,
    ...CHALLENGE_FIELDS,
    ...CLAIM_FIELDS,
    ...PRESENTED_TOKEN_FIELDS,
    ...['source.instance', 'corr.request_id', 'corr.trace_id', 'corr.span_id'],
  ],
  blind_for: NO_REFRESH_TOKENS,
  confirmed_by: 'real_samples',
  references: [
    'Apache APISIX: http-logger plugin, log format',
    'Apache APISIX: apisix/utils/log-util.lua',
    'RFC 6750 sections 2.3 and 3, RFC 9449 section 7.1',
  ],
  parse,
});
