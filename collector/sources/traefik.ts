import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import {
  CALL_FIELDS,
  CHALLENGE_FIELDS,
  draftOfCall,
  firstForwarded,
  type GatewayCall,
  isPrivateAddress,
  LOG_TIME_ALLOWED,
  logTimeNs,
  msOf,
  normalisedNames,
  PRESENTED_TOKEN_FIELDS,
  saidIn,
  traceOf,
  NO_REFRESH_TOKENS,
} from './_gateway.ts';
import { given, isJson, type Json, numberOf, own, refuse } from './_reading.ts';

/** Longest line that is taken apart, characters. */
const LINE_LENGTH_MAX = 65_536;
const NS_PER_MS = 1e6;

/**
 * The common format of Traefik: sender, user, time, request line, status, bytes, referrer, agent, count, router,
 * service, ms. Agents are not escaped, so what follows them is looked for from the end of the line.
 */
const COMMON =
  /^(.{1,200}?) - (\S{1,256}) \[([^\]]{20,32})\] "(\S+) (\S+) [^"]*" (\d{3}|-) (?:\d+|-) "[^"]*" "(.*)" (?:\d+|-) "([^"]*)" "([^"]*)" (\d+)ms$/;

/**
 * Traefik overwrites the sender with X-Forwarded-For, of which it keeps only what trusted proxies sent: where it
 * differs from the peer it is whose request it was.
 */
function netOf(
  sender: string | undefined,
  peer: string | undefined,
  agent: string | undefined,
): AuthEventDraft['net'] {
  const first = firstForwarded(sender);
  const host = peer?.replace(/:\d{1,5}$/, '').replace(/^\[(.*)\]$/, '$1');
  const isForwarded = first !== undefined && host !== undefined && first !== host;
  const outside = isForwarded && !isPrivateAddress(first);
  return given({
    client_ip: first ?? host,
    ip_role: outside ? ('end_user' as const) : ('unknown' as const),
    user_agent: agent,
  });
}

function callOf(record: Json, time: bigint): GatewayCall {
  const duration = numberOf(own(record, 'duration'));
  const trace = traceOf(saidIn(record, 'request_traceparent'));
  return {
    time,
    rawType: 'access',
    method: saidIn(record, 'requestmethod'),
    url: saidIn(record, 'requestpath'),
    host: saidIn(record, 'requesthost', 'requestaddr'),
    status: numberOf(own(record, 'downstreamstatus')) ?? numberOf(own(record, 'originstatus')),
    durationMs: msOf(duration === undefined ? undefined : duration / NS_PER_MS),
    net: netOf(
      saidIn(record, 'clienthost'),
      saidIn(record, 'clientaddr'),
      saidIn(record, 'request_user_agent'),
    ),
    authorization: saidIn(record, 'request_authorization'),
    dpop: saidIn(record, 'request_dpop'),
    challenge: saidIn(record, 'downstream_www_authenticate', 'origin_www_authenticate'),
    person: saidIn(record, 'clientusername'),
    corr: given({
      request_id: saidIn(record, 'request_x_request_id'),
      trace_id: saidIn(record, 'trace_id', 'traceid') ?? trace.trace_id,
      span_id: saidIn(record, 'span_id', 'spanid') ?? trace.span_id,
    }),
    ext: { route_name: saidIn(record, 'routername'), service: saidIn(record, 'servicename') },
  };
}

const said = (text: string | undefined): string | undefined =>
  text === '-' || text === '' ? undefined : text;

function parseLine(line: string): ParseResult {
  if (line.length > LINE_LENGTH_MAX) {
    return refuse('too_large', `line: longer than ${LINE_LENGTH_MAX} characters`);
  }
  const match = COMMON.exec(line);
  if (match === null) {
    return refuse(
      'unrecognised_record',
      'line: no access log entry; the common format or JSON is needed',
    );
  }
  const [, sender, user, stamp, method, url, status, agent, router, , ms] = match;
  const time = logTimeNs(stamp);
  if (time === undefined)
    return refuse('invalid_time', `StartUTC: not a time; ${LOG_TIME_ALLOWED}`);
  const event = draftOfCall({
    time,
    rawType: 'access',
    method: said(method),
    url: said(url),
    status: numberOf(status),
    durationMs: numberOf(ms),
    net: netOf(said(sender), undefined, said(agent)),
    person: said(user),
    ext: { route_name: said(router) },
  });
  return { ok: true, events: [event] };
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return parseLine(record.line);
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const value = normalisedNames(record.value);
  const isCall = ['requestmethod', 'requestpath', 'routername'].some(
    (m) => own(value, m) !== undefined,
  );
  if (!isCall || (own(value, 'downstreamstatus') ?? own(value, 'originstatus')) === undefined) {
    return refuse(
      'unrecognised_record',
      'record: not an access log entry; RequestPath and DownstreamStatus are needed',
    );
  }
  const stamp = saidIn(value, 'startutc', 'startlocal', 'time');
  if (stamp === undefined) return refuse('missing_field', 'StartUTC: is required');
  const time = logTimeNs(stamp);
  if (time === undefined)
    return refuse('invalid_time', `StartUTC: not a time; ${LOG_TIME_ALLOWED}`);
  return { ok: true, events: [draftOfCall(callOf(value, time))] };
}

/** Access logs of Traefik in JSON, and lines of its common format. The time is when the request began. */
export default defineSource({
  id: 'traefik',
  title: 'Traefik access log',
  vendor: 'traefik',
  product: 'traefik',
  description: 'Access logs of Traefik Proxy: JSON, or lines of its common format.',
  forms: ['json', 'text'],
  kinds: ['token_rejected', 'api_accessed', 'rate_limited'],
  provides: [
    ...CALL_FIELDS,
    ...CHALLENGE_FIELDS,
    ...PRESENTED_TOKEN_FIELDS,
    ...['subject.ref', 'binding', 'corr.request_id', 'corr.trace_id', 'corr.span_id'],
  ],
  blind_for: NO_REFRESH_TOKENS,
  confirmed_by: 'documents',
  references: [
    'Traefik Proxy: Access logs, formats and fields',
    'Traefik Proxy: pkg/middlewares/accesslog (logdata.go, logger.go, logger_formatters.go)',
    'RFC 6750 sections 2.3 and 3',
  ],
  parse,
});
