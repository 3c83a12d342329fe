import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import {
  CALL_FIELDS,
  CHALLENGE_FIELDS,
  draftOfCall,
  firstForwarded,
  isPrivateAddress,
  normalisedNames,
  PRESENTED_TOKEN_FIELDS,
  saidIn,
  traceOf,
  type Verdict,
  verdictOf,
  NO_REFRESH_TOKENS_OR_PROOFS,
} from './_gateway.ts';
import { CLAIM_FIELDS, findClaims } from './_jwt_claims.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  numberOf,
  own,
  refuse,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** What the jwt_authn filter says in `response_code_details`, in our words. */
const JWT_ERRORS: Readonly<Record<string, string>> = {
  jwt_is_expired: 'expired',
  jwt_not_yet_valid: 'not_yet_valid',
  jwt_verification_fails: 'invalid_signature',
  jwt_issuer_is_not_configured: 'unknown_issuer',
  audiences_in_jwt_are_not_allowed: 'invalid_audience',
};

/** Sentences of the filter that name a part of the token, by how they begin or end. */
const JWT_WORDS: readonly (readonly [words: RegExp, code: string])[] = [
  [/^jwks_doesn/, 'unknown_key'],
  [/^jwt_header_alg_is_not_supported/, 'algorithm_not_allowed'],
  [/^jwt_is_not_in_the_form|^jwt_.*(?:_is_an_invalid_|_field_is_)/, 'malformed'],
];

/** `jwt_authn_access_denied{Jwt_is_expired}` -> `jwt_is_expired`. */
function insideBraces(details: string): string {
  const open = details.search(/[{[]/);
  return open < 0 ? '' : details.slice(open + 1).replace(/[}\]]+$/, '');
}

function verdictOfCall(
  status: number,
  details: string,
  flags: string,
  challenge: string | undefined,
): Verdict {
  if (details.startsWith('jwt_authn_access_denied')) return jwtVerdict(insideBraces(details));
  if (details.startsWith('ext_authz_denied') || /\bUAEX\b/.test(flags)) {
    return { kind: 'api_accessed', outcome: 'denied', error: 'ext_authz_denied', decision: 'deny' };
  }
  if (details.startsWith('rbac_access_denied')) {
    return {
      kind: 'api_accessed',
      outcome: 'denied',
      error: 'rbac_access_denied',
      decision: 'deny',
      policy: insideBraces(details),
    };
  }
  if (/rate_limited/.test(details) || /\bRL\b/.test(flags)) {
    return { kind: 'rate_limited', outcome: 'denied', error: 'rate_limited' };
  }
  const verdict = verdictOf(status, challenge);
  if (status !== 0 && verdict.outcome !== 'failure') return verdict;
  // 0: the client went away, or nothing came back; the flags say which.
  const error = flags === '' ? (details === 'via_upstream' ? '' : details) : flags;
  return { ...given({ error: error === '' ? undefined : error }), ...verdict, outcome: 'failure' };
}

function jwtVerdict(reason: string): Verdict {
  const word = reason
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .slice(0, 100);
  // No token was presented, so none was rejected.
  if (word === 'jwt_is_missing') {
    return { kind: 'api_accessed', outcome: 'denied', error: 'missing_token' };
  }
  const error = lookUp(JWT_ERRORS, word) ?? JWT_WORDS.find(([w]) => w.test(word))?.[1] ?? word;
  return { kind: 'token_rejected', outcome: 'failure', error };
}

/** The claims of a verified JWT, where the log format writes the jwt_authn filter's metadata. */
function claimsOf(record: Json): Json | undefined {
  const names = ['jwt_payload', 'jwt_claims', 'claims', 'jwt', 'dynamic_metadata', 'metadata'];
  for (const name of names) {
    const claims = findClaims(own(record, name));
    if (claims !== undefined) return claims;
  }
  return undefined;
}

/**
 * The first address of X-Forwarded-For where there is one: Envoy removes the header of untrusted senders or adds
 * their address, as it is set up to. A private one says nothing about whose it is, nor does the peer of a mesh proxy.
 */
function netOf(record: Json): AuthEventDraft['net'] {
  const forwarded = firstForwarded(saidIn(record, 'x_forwarded_for'));
  const peer = saidIn(record, 'downstream_remote_address', 'downstream_direct_remote_address');
  const outside = forwarded !== undefined && !isPrivateAddress(forwarded);
  return given({
    client_ip: forwarded ?? peer,
    ip_role: outside ? 'end_user' : 'unknown',
    user_agent: saidIn(record, 'user_agent'),
  });
}

function corrOf(record: Json): AuthEventDraft['corr'] {
  const trace = traceOf(saidIn(record, 'traceparent'));
  return given({
    request_id: saidIn(record, 'request_id', 'x_request_id'),
    trace_id: saidIn(record, 'trace_id', 'x_b3_traceid') ?? trace.trace_id,
    span_id: saidIn(record, 'span_id', 'x_b3_spanid') ?? trace.span_id,
  });
}

function draftOf(record: Json, time: bigint): AuthEventDraft {
  const status = numberOf(own(record, 'response_code') ?? own(record, 'status')) ?? 0;
  const details = saidIn(record, 'response_code_details') ?? '';
  const flags = saidIn(record, 'response_flags');
  const challenge = saidIn(record, 'www_authenticate', 'resp_www_authenticate');
  return draftOfCall({
    time,
    rawType: details,
    instance: saidIn(record, 'hostname', 'pod_name', 'pod', 'node_id'),
    method: saidIn(record, 'method'),
    url: saidIn(record, 'path', 'x_envoy_original_path'),
    host: saidIn(record, 'authority', 'host'),
    status,
    durationMs: numberOf(own(record, 'duration')),
    net: netOf(record),
    claims: claimsOf(record),
    corr: corrOf(record),
    verdict: verdictOfCall(status, details, flags ?? '', challenge),
    ext: {
      response_flags: flags,
      route_name: saidIn(record, 'route_name'),
      upstream_cluster: saidIn(record, 'upstream_cluster'),
    },
  });
}

/** Longest line that is taken apart, characters. */
const LINE_LENGTH_MAX = 65_536;

/**
 * The default text formats of Envoy and, with details behind the flags and names behind the upstream, of Istio. Agents
 * are not escaped, so what follows them is looked for from the end of the line.
 */
const DEFAULT_LINE =
  /^\[([^\]]{16,40})\] "(\S+) (\S+) [^"]*" (\d{1,3}) (\S+)(?: (\S+) \S+ "[^"]*")? \d+ \d+ (\d+) \S+ "([^"]*)" "(.*)" "([^"]*)" "([^"]*)" "[^"]*"(?: (\S+) \S+ \S+ (\S+) \S+ (\S+))?$/;

/** The members of the JSON format, of a line; undefined for another format. */
function membersOfLine(line: string): Json | undefined {
  const match = DEFAULT_LINE.exec(line);
  if (match === null) return undefined;
  return {
    start_time: match[1],
    method: match[2],
    path: match[3],
    response_code: match[4],
    response_flags: match[5],
    response_code_details: match[6],
    duration: match[7],
    x_forwarded_for: match[8],
    user_agent: match[9],
    request_id: match[10],
    authority: match[11],
    upstream_cluster: match[12],
    downstream_remote_address: match[13],
    route_name: match[14],
  };
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'json') {
    if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
    return parseMembers(normalisedNames(record.value));
  }
  if (record.line.length > LINE_LENGTH_MAX) {
    return refuse('too_large', `line: longer than ${LINE_LENGTH_MAX} characters`);
  }
  const members = membersOfLine(record.line);
  if (members !== undefined) return parseMembers(members);
  return refuse(
    'unrecognised_record',
    'line: no access log entry; the default format of Envoy or Istio, or JSON is needed',
  );
}

function parseMembers(value: Json): ParseResult {
  const known = ['response_code', 'status', 'response_code_details'].some(
    (k) => own(value, k) !== undefined,
  );
  if (!known || saidIn(value, 'path', 'authority', 'host', 'method') === undefined) {
    return refuse(
      'unrecognised_record',
      'record: not an access log entry; response_code and path are needed',
    );
  }
  const rawTime = own(value, 'start_time') ?? own(value, 'time') ?? own(value, '@timestamp');
  if (rawTime === undefined) return refuse('missing_field', 'start_time: is required');
  const time = timeNs(rawTime);
  if (time === undefined) return refuse('invalid_time', `start_time: not a time; ${TIME_ALLOWED}`);
  return { ok: true, events: [draftOf(value, time)] };
}

/**
 * Envoy and Istio access logs, in JSON or in their default text formats. Every request is an API call; what the jwt_authn, ext_authz, RBAC and
 * rate limit filters decided is read from `response_code_details` and `response_flags`. The query is dropped;
 * that it held a token is kept as `ext.token_in_url`. Tokens are known only where the log format writes the
 * claims (DYNAMIC_METADATA).
 */
export default defineSource({
  id: 'envoy',
  title: 'Envoy and Istio access log',
  vendor: 'envoy',
  product: 'envoy',
  description:
    'Access logs of Envoy, Istio gateways and sidecars: JSON, or lines of the default formats.',
  forms: ['json', 'text'],
  kinds: ['token_rejected', 'api_accessed', 'rate_limited'],
  provides: [
    ...CALL_FIELDS,
    ...CHALLENGE_FIELDS,
    ...CLAIM_FIELDS,
    ...PRESENTED_TOKEN_FIELDS,
    ...['source.instance', 'policy.decision', 'policy.path'],
    ...['corr.request_id', 'corr.trace_id', 'corr.span_id'],
  ],
  blind_for: NO_REFRESH_TOKENS_OR_PROOFS,
  confirmed_by: 'real_server',
  references: [
    'Envoy: Access logging, command operators and default format',
    'Envoy: Response code details',
    'RFC 6750 section 2.3 (tokens in the URI), RFC 7800 (cnf)',
  ],
  parse,
});
