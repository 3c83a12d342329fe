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
  const known = lookUp(JWT_ERRORS, word);
  const error = known ?? (word.startsWith('jwks_doesn') ? 'unknown_key' : word);
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

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is the JSON access log format');
  }
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const value = normalisedNames(record.value);
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
 * Envoy and Istio access logs in JSON. Every request is an API call; what the jwt_authn, ext_authz, RBAC and
 * rate limit filters decided is read from `response_code_details` and `response_flags`. The query is dropped;
 * that it held a token is kept as `ext.token_in_url`. Tokens are known only where the log format writes the
 * claims (DYNAMIC_METADATA).
 */
export default defineSource({
  id: 'envoy',
  title: 'Envoy and Istio access log',
  vendor: 'envoy',
  product: 'envoy',
  description: 'JSON access logs of Envoy, Istio gateways and sidecars.',
  forms: ['json'],
  provides: [
    ...CALL_FIELDS,
    ...CHALLENGE_FIELDS,
    ...CLAIM_FIELDS,
    ...PRESENTED_TOKEN_FIELDS,
    ...['source.instance', 'policy.decision', 'policy.path'],
    ...['corr.request_id', 'corr.trace_id', 'corr.span_id'],
  ],
  confirmed_by: 'real_samples',
  references: [
    'Envoy: Access logging, command operators and default format',
    'Envoy: Response code details',
    'RFC 6750 section 2.3 (tokens in the URI), RFC 7800 (cnf)',
  ],
  parse,
});
