import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { Binding, EventKind, Outcome } from '../../model/kinds.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  numberOf,
  objectIn,
  own,
  refuse,
  textIn,
  textList,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** Members of one access log record; Envoy's JSON format has a few dozen. */
const MEMBERS_MAX = 500;
/** How deep the claims of a JWT may lie in dynamic metadata (filter name, then the configured key). */
const CLAIMS_DEPTH_MAX = 4;
const CLAIMS_TEXT_LENGTH_MAX = 16_384;

/** Absent values of Envoy's formatter. */
const isAbsent = (text: string | undefined): boolean => text === undefined || text === '-';

/** Member names are configured freely; the common spellings differ in case and in `-` against `_`. */
function normalised(record: Json): Json {
  return Object.fromEntries(
    Object.entries(record)
      .slice(0, MEMBERS_MAX)
      .map(([k, v]) => [k.slice(0, 128).toLowerCase().replaceAll('-', '_'), v]),
  );
}

function text(record: Json, ...names: readonly string[]): string | undefined {
  const found = textIn(record, ...names);
  return isAbsent(found) ? undefined : found;
}

/** What the jwt_authn filter says in `response_code_details`, in our words. */
const JWT_ERRORS: Readonly<Record<string, string>> = {
  jwt_is_expired: 'expired',
  jwt_not_yet_valid: 'not_yet_valid',
  jwt_verification_fails: 'invalid_signature',
  jwt_issuer_is_not_configured: 'unknown_issuer',
  audiences_in_jwt_are_not_allowed: 'invalid_audience',
};

interface Verdict {
  readonly kind: EventKind;
  readonly outcome: Outcome;
  readonly error?: string | undefined;
  readonly decision?: 'allow' | 'deny';
  readonly policy?: string | undefined;
}

/** `jwt_authn_access_denied{Jwt_is_expired}` -> `jwt_is_expired`. */
function insideBraces(details: string): string {
  const open = details.search(/[{[]/);
  return open < 0 ? '' : details.slice(open + 1).replace(/[}\]]+$/, '');
}

function verdictOf(status: number, details: string, flags: string): Verdict {
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
  return statusVerdict(status, details, flags);
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

function statusVerdict(status: number, details: string, flags: string): Verdict {
  if (status === 401 || status === 403) return { kind: 'api_accessed', outcome: 'denied' };
  if (status === 429) return { kind: 'rate_limited', outcome: 'denied' };
  if (status >= 100 && status < 400) return { kind: 'api_accessed', outcome: 'success' };
  // 0: the client went away, or nothing came back; the flags say which.
  const error = flags === '' ? (details === 'via_upstream' ? '' : details) : flags;
  return { kind: 'api_accessed', outcome: 'failure', ...(error === '' ? {} : { error }) };
}

const TOKEN_PARAMETER = /[?&#](?:access_token|refresh_token|id_token|token|bearer_token)=/i;

/** The claims of a verified JWT, where the log format writes the jwt_authn filter's metadata. */
function claimsOf(record: Json): Json | undefined {
  const names = ['jwt_payload', 'jwt_claims', 'claims', 'jwt', 'dynamic_metadata', 'metadata'];
  for (const name of names) {
    const claims = findClaims(own(record, name), 0);
    if (claims !== undefined) return claims;
  }
  return undefined;
}

function findClaims(value: unknown, depth: number): Json | undefined {
  if (typeof value === 'string') return findClaims(parsedObject(value), depth);
  if (!isJson(value) || depth > CLAIMS_DEPTH_MAX) return undefined;
  if (['iss', 'sub', 'jti'].some((c) => typeof own(value, c) === 'string')) return value;
  for (const member of Object.values(value).slice(0, MEMBERS_MAX)) {
    const claims = isJson(member) ? findClaims(member, depth + 1) : undefined;
    if (claims !== undefined) return claims;
  }
  return undefined;
}

function parsedObject(json: string): unknown {
  if (!json.startsWith('{') || json.length > CLAIMS_TEXT_LENGTH_MAX) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}

/** RFC 7800 confirmation: which proof the token is bound to. */
function bindingOf(claims: Json): { binding?: Binding; binding_thumbprint?: string } {
  const cnf = objectIn(claims, 'cnf');
  const jkt = textIn(cnf, 'jkt');
  if (jkt !== undefined) return { binding: 'dpop', binding_thumbprint: jkt };
  const x5t = textIn(cnf, 'x5t#S256');
  return x5t === undefined ? {} : { binding: 'mtls', binding_thumbprint: x5t };
}

function fromClaims(claims: Json | undefined): Partial<AuthEventDraft> {
  if (claims === undefined) return {};
  const sub = textIn(claims, 'sub');
  const sid = textIn(claims, 'sid');
  const token: TokenDraft = given({
    role: 'presented',
    type: 'access',
    jti: textIn(claims, 'jti'),
    issued_at: timeNs(own(claims, 'iat')),
    expires_at: timeNs(own(claims, 'exp')),
  });
  return given({
    issuer: textIn(claims, 'iss'),
    audience: textList(own(claims, 'aud')),
    subject: sub === undefined ? undefined : { id: sub },
    client: given({ id: textIn(claims, 'client_id', 'azp') }),
    scopes_granted: textList(own(claims, 'scope') ?? own(claims, 'scp')),
    session: sid === undefined ? undefined : { id: sid },
    acr: textIn(claims, 'acr'),
    amr: textList(own(claims, 'amr')),
    tokens: token.jti === undefined ? undefined : [token],
    ...bindingOf(claims),
  });
}

const PRIVATE_ADDRESS =
  /^(?:10\.|127\.|169\.254\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|::1$|f[cd])/i;

/**
 * The first address of X-Forwarded-For where there is one. It is the sender's word unless the edge overwrites
 * the header; a private one says nothing about whose it is, nor does the peer of a mesh proxy.
 */
function netOf(record: Json): AuthEventDraft['net'] {
  const forwarded = text(record, 'x_forwarded_for')?.slice(0, 200).split(',')[0]?.trim();
  const ip =
    forwarded ?? text(record, 'downstream_remote_address', 'downstream_direct_remote_address');
  const outside = forwarded !== undefined && !PRIVATE_ADDRESS.test(forwarded);
  return given({
    client_ip: ip,
    ip_role: outside ? 'end_user' : 'unknown',
    user_agent: text(record, 'user_agent'),
  });
}

function corrOf(record: Json): AuthEventDraft['corr'] {
  const [, trace, span] = text(record, 'traceparent')?.slice(0, 64).split('-') ?? [];
  return given({
    request_id: text(record, 'request_id', 'x_request_id'),
    trace_id: text(record, 'trace_id', 'x_b3_traceid') ?? trace,
    span_id: text(record, 'span_id', 'x_b3_spanid') ?? span,
  });
}

function extOf(record: Json, path: string): Record<string, string> {
  const flags = text(record, 'response_flags');
  const route = text(record, 'route_name');
  const cluster = text(record, 'upstream_cluster');
  return given({
    token_in_url: TOKEN_PARAMETER.test(path) ? 'true' : undefined,
    response_flags: flags,
    route_name: route,
    upstream_cluster: cluster,
  });
}

function draftOf(record: Json, time: bigint): AuthEventDraft {
  const status = numberOf(own(record, 'response_code') ?? own(record, 'status')) ?? 0;
  const details = text(record, 'response_code_details') ?? '';
  const verdict = verdictOf(status, details, text(record, 'response_flags') ?? '');
  const path = text(record, 'path', 'x_envoy_original_path') ?? '';
  const authority = text(record, 'authority', 'host');
  return given({
    ...fromClaims(claimsOf(record)),
    kind: verdict.kind,
    time,
    raw_type: details,
    outcome: verdict.outcome,
    error: given({ code: verdict.error }),
    resource: authority === undefined ? undefined : [authority],
    policy: given({ decision: verdict.decision, path: verdict.policy }),
    net: netOf(record),
    http: given({
      method: text(record, 'method'),
      route: path === '' ? undefined : path.split(/[?#]/, 1)[0],
      status: status === 0 ? undefined : status,
      duration_ms: numberOf(own(record, 'duration')),
    }),
    corr: corrOf(record),
    ext: extOf(record, path),
  });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is the JSON access log format');
  }
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const value = normalised(record.value);
  const known = ['response_code', 'status', 'response_code_details'].some(
    (k) => own(value, k) !== undefined,
  );
  if (!known || text(value, 'path', 'authority', 'host', 'method') === undefined) {
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
    ...['time', 'kind', 'outcome', 'source.raw_type', 'error.code', 'resource'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms'],
    ...[
      'policy.decision',
      'policy.path',
      'corr.request_id',
      'corr.trace_id',
      'corr.span_id',
      'ext',
    ],
  ],
  confirmed_by: 'real_samples',
  references: [
    'Envoy: Access logging, command operators and default format',
    'Envoy: Response code details',
    'RFC 6750 section 2.3 (tokens in the URI), RFC 7800 (cnf)',
  ],
  parse,
});
