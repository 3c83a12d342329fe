import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import { Secret } from '../../model/secret.ts';
import { fromClaims } from './_jwt_claims.ts';
import { given, isJson, type Json, own, scalarText, timeNs } from './_reading.ts';

/** What access logs of gateways and proxies have in common: an answered HTTP request becomes an event. */

/** Members of one record that are looked at. */
const MEMBERS_MAX = 500;
const MEMBER_NAME_LENGTH_MAX = 128;
/** Characters of a forwarding header that are read. */
const FORWARDED_LENGTH_MAX = 200;
/** Characters of an answer's challenge that are read. */
const CHALLENGE_LENGTH_MAX = 1_000;
/** A longer token is not one that a server would take in a header or a URL, characters. */
const TOKEN_LENGTH_MAX = 16_384;

/** What the gateway decided about a request. */
export interface Verdict {
  readonly kind: EventKind;
  readonly outcome: Outcome;
  readonly error?: string | undefined;
  readonly oauthError?: string | undefined;
  readonly detail?: string | undefined;
  readonly decision?: 'allow' | 'deny' | undefined;
  readonly policy?: string | undefined;
}

/** One request as an access log tells it; absent is undefined, durations are ms. */
export interface GatewayCall {
  readonly time: bigint;
  readonly rawType: string;
  readonly vendorEventId?: string | undefined;
  readonly instance?: string | undefined;
  readonly tenant?: string | undefined;
  readonly method?: string | undefined;
  /** Path with query, or a whole URL. */
  readonly url?: string | undefined;
  /** Whom the request was for: the Host header. */
  readonly host?: string | undefined;
  readonly status?: number | undefined;
  readonly durationMs?: number | undefined;
  readonly net?: AuthEventDraft['net'];
  /** Request headers, where they are logged. */
  readonly authorization?: string | undefined;
  readonly dpop?: string | undefined;
  /** WWW-Authenticate of the answer. */
  readonly challenge?: string | undefined;
  /** Claims of the token, verified by the gateway. */
  readonly claims?: Json | undefined;
  readonly client?: { id?: string; name?: string } | undefined;
  /** Raw name of the person. */
  readonly person?: string | undefined;
  readonly corr?: AuthEventDraft['corr'];
  /** Where the gateway says more than a status. */
  readonly verdict?: Verdict | undefined;
  readonly isTokenInUrl?: boolean | undefined;
  readonly ext?: Readonly<Record<string, string | undefined>> | undefined;
}

/** The event of a request. The query is cut off; a token in it becomes a reference and leaves `ext.token_in_url`. */
export function draftOfCall(call: GatewayCall): AuthEventDraft {
  const url = call.url ?? '';
  const claims = fromClaims(call.claims);
  const verdict = call.verdict ?? verdictOf(call.status ?? 0, call.challenge);
  const tokens = presentedTokens(call, url, claims.tokens);
  const subject = claims.subject ?? (call.person === undefined ? undefined : { id: call.person });
  // Named one by one: a spread before further members costs the engine six times the rest of this.
  return given({
    issuer: claims.issuer,
    audience: claims.audience,
    scopes_granted: claims.scopes_granted,
    session: claims.session,
    acr: claims.acr,
    amr: claims.amr,
    binding_thumbprint: claims.binding_thumbprint,
    kind: verdict.kind,
    time: call.time,
    vendor_event_id: call.vendorEventId,
    raw_type: call.rawType,
    instance: call.instance,
    source_tenant: call.tenant,
    outcome: verdict.outcome,
    error: given({ code: verdict.error, oauth_error: verdict.oauthError, detail: verdict.detail }),
    client: claims.client?.id === undefined ? call.client : claims.client,
    subject,
    binding: claims.binding ?? (isDpop(call.authorization) ? ('dpop' as const) : undefined),
    resource: call.host === undefined ? undefined : [call.host],
    tokens: tokens.length === 0 ? undefined : tokens,
    upstream_redaction: isMaskedHeader(call.authorization) ? true : undefined,
    policy: given({ decision: verdict.decision, path: verdict.policy }),
    net: call.net,
    http: given({
      method: call.method,
      route: routeOf(url),
      status: call.status === 0 ? undefined : call.status,
      duration_ms: call.durationMs,
    }),
    corr: call.corr,
    ext: given({
      token_in_url: call.isTokenInUrl === true || hasTokenInUrl(url) ? 'true' : undefined,
      ...call.ext,
    }),
  });
}

/** The path of a request target without query; undefined where there is none. */
function routeOf(url: string): string | undefined {
  if (url === '') return undefined;
  const path = url.replace(/^[a-z][a-z0-9+.-]{0,20}:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0] ?? '';
  return path === '' ? '/' : path;
}

const TOKEN_PARAMETER = /[?&#](?:access_token|refresh_token|id_token|token|bearer_token)=/i;
/** RFC 6750 section 2.3. */
const ACCESS_TOKEN_PARAMETER = /[?&]access_token=([^&#\s]+)/i;

/** True where the query of a request holds a token (RFC 9700 section 4.3.2). */
function hasTokenInUrl(url: string): boolean {
  return TOKEN_PARAMETER.test(url);
}

/** The access token in a query (RFC 6750 section 2.3), to become a reference. */
function tokenOfUrl(url: string): TokenDraft | undefined {
  return url.includes('=') ? presented('access', ACCESS_TOKEN_PARAMETER.exec(url)?.[1]) : undefined;
}

const isDpop = (authorization: string | undefined): boolean =>
  authorization !== undefined && /^DPoP\s/i.test(authorization);

function presentedTokens(
  call: GatewayCall,
  url: string,
  ofClaims: AuthEventDraft['tokens'],
): readonly TokenDraft[] {
  // The claims name the token already; only another way of naming it would follow.
  const access =
    ofClaims ??
    [tokenOfHeader(call.authorization) ?? tokenOfUrl(url)].filter((t) => t !== undefined);
  const proof = presented('dpop_proof', call.dpop);
  return proof === undefined ? access : [...access, proof];
}

/**
 * The access token in an Authorization header (RFC 6750 section 2.1, RFC 9449 section 7.1), to become a reference;
 * other schemes carry passwords and give nothing.
 */
function tokenOfHeader(authorization: string | undefined): TokenDraft | undefined {
  if (authorization === undefined) return undefined;
  return presented('access', /^(?:Bearer|DPoP)\s+(\S+)\s*$/i.exec(authorization)?.[1]);
}

function presented(
  type: 'access' | 'dpop_proof',
  value: string | undefined,
): TokenDraft | undefined {
  if (value === undefined || value === '' || value.length > TOKEN_LENGTH_MAX) return undefined;
  return { role: 'presented', type, secret: new Secret(value) };
}

/** True where the gateway put a word in the place of a header's value. */
function isMaskedHeader(value: string | undefined): boolean {
  return value !== undefined && /^(?:\[?redacted\]?|\*{3,})$/i.test(value);
}

/** What the status and the challenge of an answer say. 0: nothing was answered. */
export function verdictOf(status: number, challenge?: string): Verdict {
  const told = challenge === undefined ? undefined : challengeVerdict(status, challenge);
  if (told !== undefined) return told;
  if (status === 401 || status === 403) return { kind: 'api_accessed', outcome: 'denied' };
  if (status === 429) return { kind: 'rate_limited', outcome: 'denied' };
  if (status >= 100 && status < 400) return { kind: 'api_accessed', outcome: 'success' };
  return { kind: 'api_accessed', outcome: status === 0 ? 'unknown' : 'failure' };
}

/** RFC 6750 section 3: why a resource server refused; undefined where the challenge does not say. */
function challengeVerdict(status: number, challenge: string): Verdict | undefined {
  if (status < 400 || status > 403) return undefined;
  const text = challenge.slice(0, CHALLENGE_LENGTH_MAX);
  if (!/\b(?:Bearer|DPoP)\b/i.test(text)) return undefined;
  const oauthError = /\berror="?([a-z_]{1,40})\b/i.exec(text)?.[1]?.toLowerCase();
  const detail = /\berror_description="([^"]*)"/i.exec(text)?.[1];
  if (oauthError === 'use_dpop_nonce') {
    return { kind: 'api_accessed', outcome: 'challenge', error: oauthError, oauthError };
  }
  if (oauthError === 'invalid_token') {
    const error = rejectionOf(detail ?? '') ?? 'invalid_token';
    return { kind: 'token_rejected', outcome: 'failure', error, oauthError, detail };
  }
  if (oauthError === 'invalid_dpop_proof') {
    return {
      kind: 'token_rejected',
      outcome: 'failure',
      error: 'invalid_binding',
      oauthError,
      detail,
    };
  }
  if (oauthError === undefined) return undefined;
  return { kind: 'api_accessed', outcome: 'denied', error: oauthError, oauthError, detail };
}

/** Words by which validators say what was wrong with a token, in our words; the first that fits counts. */
const REJECTIONS: readonly (readonly [words: RegExp, code: string])[] = [
  [/\bexpired?\b|\bexp claim\b|'exp'|"exp"/i, 'expired'],
  [/not (?:yet|before)|\bnbf\b|in the future/i, 'not_yet_valid'],
  [/\brevoked\b/i, 'revoked'],
  [/not active|\binactive\b/i, 'inactive'],
  [/signing method|\balg(?:orithm)?\b/i, 'algorithm_not_allowed'],
  [/\bkid\b|(?:find|matching|unknown|no)\b.{0,20}\bkeys?\b|\bjwks?\b/i, 'unknown_key'],
  [/\bsignature\b|verification fail/i, 'invalid_signature'],
  [/\baud(?:ience)?\b/i, 'invalid_audience'],
  [/\biss(?:uer)?\b/i, 'invalid_issuer'],
  [/malformed|\bdecode|\bparse|bad (?:token|format)|invalid format/i, 'malformed'],
];

/** Why a token was refused, from a validator's free text; undefined where it does not say. */
export function rejectionOf(text: string): string | undefined {
  const short = text.slice(0, CHALLENGE_LENGTH_MAX);
  return REJECTIONS.find(([words]) => words.test(short))?.[1];
}

const PRIVATE_ADDRESS =
  /^\[?(?:::ffff:)?(?:10\.|127\.|169\.254\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|::1(?:$|\])|f[cd][0-9a-f]{2}:|fe80:|unix:)/i;

/** True for addresses that are nobody's in particular: private, loopback, link-local. */
export function isPrivateAddress(address: string): boolean {
  return PRIVATE_ADDRESS.test(address);
}

/** The address that X-Forwarded-For begins with. */
export function firstForwarded(header: string | undefined): string | undefined {
  const first = header?.slice(0, FORWARDED_LENGTH_MAX).split(',')[0]?.trim();
  return first === '' ? undefined : first;
}

/**
 * Whose request it was. A peer from outside is the sender: what it says it forwards is its own word and does not
 * count. A private peer is a proxy of the operator's, whose X-Forwarded-For names the sender.
 */
export function callerOf(
  peer: string | undefined,
  forwarded: string | undefined,
  userAgent: string | undefined,
): AuthEventDraft['net'] {
  const first = firstForwarded(forwarded);
  const isOwnWord = first === undefined || (peer !== undefined && !isPrivateAddress(peer));
  const client_ip = isOwnWord ? peer : first;
  const outside = !isOwnWord && !isPrivateAddress(first);
  return given({
    client_ip,
    ip_role: outside ? ('end_user' as const) : ('unknown' as const),
    user_agent: userAgent,
  });
}

/** W3C Trace Context: `00-<trace id>-<span id>-<flags>`. */
export function traceOf(traceparent: string | undefined): { trace_id?: string; span_id?: string } {
  const [, trace_id, span_id] = traceparent?.slice(0, 64).split('-') ?? [];
  return given({ trace_id, span_id });
}

/** Member names are configured freely; the common spellings differ in case and in `-` against `_`. */
export function normalisedNames(record: Json): Json {
  const normalised: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  let members = 0;
  for (const name of Object.keys(record)) {
    members += 1;
    if (members > MEMBERS_MAX) break;
    normalised[normalName(name)] = record[name];
  }
  return normalised;
}

/** Names recur in every record. A full memory is emptied. */
const names = new Map<string, string>();
const NAMES_REMEMBERED_MAX = 1_000;

function normalName(name: string): string {
  let normal = names.get(name);
  if (normal === undefined) {
    normal = name.slice(0, MEMBER_NAME_LENGTH_MAX).toLowerCase().replaceAll('-', '_');
    if (name.length > MEMBER_NAME_LENGTH_MAX) return normal;
    if (names.size >= NAMES_REMEMBERED_MAX) names.clear();
    names.set(name, normal);
  }
  return normal;
}

/** The first of several members that says something; access logs write `-` for nothing. */
export function saidIn(record: Json, ...members: readonly string[]): string | undefined {
  for (const member of members) {
    const text = scalarText(own(record, member));
    if (text !== undefined && text !== '-') return text;
  }
  return undefined;
}

/** A header of a logged set of headers, whose names are in lower case; the first where it was repeated. */
export function headerIn(headers: Json, name: string): string | undefined {
  const value = own(headers, name);
  const first: unknown = Array.isArray(value) ? (value as readonly unknown[])[0] : value;
  return typeof first === 'string' && first !== '' ? first : undefined;
}

/** Headers by lower-case names; {} where there are none. */
export function headersOf(value: unknown): Json {
  if (!isJson(value)) return {};
  const keys = Object.keys(value);
  if (keys.length <= MEMBERS_MAX && keys.every((k) => k === k.toLowerCase())) return value;
  return Object.fromEntries(keys.slice(0, MEMBERS_MAX).map((k) => [k.toLowerCase(), value[k]]));
}

/** Seconds with a fraction as ms; undefined for what is negative or no number. */
export function msOfSeconds(seconds: number | undefined): number | undefined {
  return seconds === undefined || seconds < 0 ? undefined : Math.round(seconds * 1e6) / 1e3;
}

/** Rounded to a microsecond; undefined below 0, which stands for "not measured". */
export function msOf(ms: number | undefined): number | undefined {
  return ms === undefined || ms < 0 ? undefined : Math.round(ms * 1e3) / 1e3;
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const COMMON_TIME = /^(\d{2})\/([A-Z][a-z]{2})\/(\d{4}):(\d{2}:\d{2}:\d{2}) ([+-]\d{4})$/;
const SLASHED_TIME = /^(\d{4})\/(\d{2})\/(\d{2}) (\d{2}:\d{2}:\d{2})$/;

/**
 * Times of access logs, ns: `05/Jan/2026:12:00:00 +0100`, `2026/01/05 12:00:00` (taken as UTC), and all that
 * `timeNs` reads.
 */
export function logTimeNs(value: unknown): bigint | undefined {
  if (typeof value !== 'string' || value.length > 40) return timeNs(value);
  const common = COMMON_TIME.exec(value);
  if (common !== null) {
    const month = MONTHS.indexOf(common[2] ?? '') + 1;
    const day = `${common[3] ?? ''}-${String(month).padStart(2, '0')}-${common[1] ?? ''}`;
    return timeNs(`${day}T${common[4] ?? ''}${common[5] ?? ''}`);
  }
  const slashed = SLASHED_TIME.exec(value);
  if (slashed === null) return timeNs(value);
  return timeNs(`${slashed.slice(1, 4).join('-')}T${slashed[4] ?? ''}Z`);
}

/** What `logTimeNs` reads, in the words of a rejection. */
export const LOG_TIME_ALLOWED =
  'allowed: ISO 8601, 05/Jan/2026:12:00:00 +0000, or epoch seconds, ms, µs or ns';

/** Fields of a request, for `provides` lists. */
export const CALL_FIELDS = [
  ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.raw_type', 'resource'],
  ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
  ...['http.method', 'http.route', 'http.status', 'http.duration_ms', 'ext'],
] as const;

/** A token that was presented raw, or named by its claims. */
export const PRESENTED_TOKEN_FIELDS = [
  'tokens',
  'tokens.role',
  'tokens.type',
  'tokens.ref',
  'tokens.ref_kind',
] as const;

/** Rules about tokens that nobody presents at an API. */
export const NO_REFRESH_TOKENS = {
  refresh_family_fork: 'no refresh token comes to an API',
  refresh_token_reuse: 'no refresh token comes to an API',
} as const;

/** The same where the log has no DPoP header. */
export const NO_REFRESH_TOKENS_OR_PROOFS = {
  ...NO_REFRESH_TOKENS,
  dpop_proof_replay: 'the DPoP header is not logged',
} as const;

/** What a challenge tells (RFC 6750 section 3). */
export const CHALLENGE_FIELDS = ['error.code', 'error.oauth_error', 'error.detail'] as const;
