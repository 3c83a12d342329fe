import {
  callerOf,
  type GatewayCall,
  logTimeNs,
  msOfSeconds,
  saidIn,
  traceOf,
  type Verdict,
} from './_gateway.ts';
import { findClaims } from './_jwt_claims.ts';
import { given, type Json, numberOf, own } from './_reading.ts';

/** Requests whose log format names nginx's variables: nginx itself, and gateways that are built on it. */

/** Names that a record may give its time by; `msec` is the most exact. */
const TIME_MEMBERS = [
  ...['msec', 'time', 'time_iso8601', 'timestamp', '@timestamp', 'time_local'],
] as const;

/** A record's time, ns: undefined where none is given, null where it cannot be read. */
export function timeOfVariables(record: Json): bigint | null | undefined {
  for (const member of TIME_MEMBERS) {
    const value = own(record, member);
    if (value === undefined || value === null || value === '' || value === '-') continue;
    return logTimeNs(value) ?? null;
  }
  return undefined;
}

/** The request line, `GET /orders HTTP/1.1`; {} for what is none, such as a TLS handshake on a plain port. */
export function requestLine(line: string | undefined): { method?: string; url?: string } {
  const match = /^([A-Z][A-Z-]{0,19}) (\S+)(?: HTTP\/[\d.]+)?$/.exec(line ?? '');
  return match === null ? {} : given({ method: match[1], url: match[2] });
}

export function statusOfVariables(record: Json): number | undefined {
  return numberOf(own(record, 'status') ?? own(record, 'response_status'));
}

/**
 * limit_req and limit_conn answer with 503 unless they are told to use 429: what they decided is in variables of
 * their own.
 */
function limitVerdict(record: Json): Verdict | undefined {
  const limited = ['limit_req_status', 'limit_conn_status'].some(
    (member) => own(record, member) === 'REJECTED',
  );
  return limited ? { kind: 'rate_limited', outcome: 'denied', error: 'rate_limited' } : undefined;
}

/** A record of nginx's variables by their names without `$`, in lower case. */
export function callOfVariables(record: Json, time: bigint): Omit<GatewayCall, 'rawType'> {
  const line = requestLine(saidIn(record, 'request'));
  const path = saidIn(record, 'request_uri', 'uri', 'path');
  const query = saidIn(record, 'args', 'query_string');
  const url =
    path === undefined || query === undefined || path.includes('?') ? path : `${path}?${query}`;
  return {
    time,
    instance: saidIn(record, 'hostname', 'instance'),
    method: saidIn(record, 'request_method', 'method') ?? line.method,
    url: url ?? line.url,
    host: saidIn(record, 'host', 'http_host', 'server_name'),
    status: statusOfVariables(record),
    durationMs: msOfSeconds(numberOf(own(record, 'request_time'))),
    net: callerOf(
      saidIn(record, 'remote_addr', 'client_ip'),
      saidIn(record, 'http_x_forwarded_for', 'x_forwarded_for', 'proxy_add_x_forwarded_for'),
      saidIn(record, 'http_user_agent', 'user_agent'),
    ),
    authorization: saidIn(record, 'http_authorization'),
    dpop: saidIn(record, 'http_dpop'),
    challenge: saidIn(record, 'sent_http_www_authenticate', 'www_authenticate'),
    claims: findClaims(own(record, 'claims')),
    person: saidIn(record, 'remote_user'),
    corr: given({
      request_id: saidIn(record, 'request_id', 'http_x_request_id', 'req_id'),
      ...traceOf(saidIn(record, 'http_traceparent', 'traceparent')),
    }),
    verdict: limitVerdict(record),
    isTokenInUrl: own(record, 'token_in_url') === 'true',
  };
}
