import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import { PKCE_METHODS, type EventKind, type IpRole, type Outcome } from '../../model/kinds.ts';
import { REQUEST_FIELDS } from './_field_groups.ts';
import { type HydraRecord, LINE_LENGTH_MAX, readLine, readObject } from './_hydra_record.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  oneOf,
  refuse,
  textIn,
  TIME_ALLOWED,
} from './_reading.ts';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

interface Endpoint {
  readonly name: string;
  readonly kind: EventKind;
  readonly failed?: EventKind;
  readonly role?: IpRole;
}

/** Endpoints of the public and the admin API: method (`*`: any) and path without `/admin`; `:id` is one segment. */
const ENDPOINTS: readonly (readonly [method: string, path: RegExp, endpoint: Endpoint])[] = [
  [
    '*',
    /^\/oauth2\/token$/,
    { name: 'token', kind: 'token_issued', failed: 'token_request_failed' },
  ],
  [
    '*',
    /^\/oauth2\/auth$/,
    {
      ...{ name: 'authorization', kind: 'authorization_requested', failed: 'authorization_failed' },
      role: 'end_user',
    },
  ],
  [
    'POST',
    /^\/oauth2\/introspect$/,
    { name: 'introspection', kind: 'token_introspected', role: 'client_backend' },
  ],
  ['POST', /^\/oauth2\/revoke$/, { name: 'revocation', kind: 'token_revoked' }],
  ['*', /^\/userinfo$/, { name: 'userinfo', kind: 'userinfo_accessed' }],
  [
    'POST',
    /^\/oauth2\/device\/auth$/,
    { name: 'device_authorization', kind: 'device_authorization_requested' },
  ],
  [
    '*',
    /^\/oauth2\/sessions\/logout$/,
    { name: 'end_session', kind: 'session_ended', role: 'end_user' },
  ],
  ['GET', /^\/\.well-known\/jwks\.json$/, { name: 'jwks', kind: 'jwks_fetched' }],
  ['POST', /^\/(?:clients|oauth2\/register)$/, { name: 'registration', kind: 'client_registered' }],
  [
    'PUT',
    /^\/(?:clients|oauth2\/register)\/[^/]+$/,
    { name: 'registration', kind: 'client_updated' },
  ],
  ['PATCH', /^\/clients\/[^/]+$/, { name: 'registration', kind: 'client_updated' }],
  [
    'DELETE',
    /^\/(?:clients|oauth2\/register)\/[^/]+$/,
    { name: 'registration', kind: 'client_deleted' },
  ],
  [
    'PUT',
    /^\/oauth2\/auth\/requests\/login\/accept$/,
    { name: 'login', kind: 'login', role: 'client_backend' },
  ],
  [
    'PUT',
    /^\/oauth2\/auth\/requests\/login\/reject$/,
    { name: 'login', kind: 'login_failed', role: 'client_backend' },
  ],
  [
    'PUT',
    /^\/oauth2\/auth\/requests\/consent\/accept$/,
    { name: 'consent', kind: 'consent_granted', role: 'client_backend' },
  ],
  [
    'PUT',
    /^\/oauth2\/auth\/requests\/consent\/reject$/,
    { name: 'consent', kind: 'consent_denied', role: 'client_backend' },
  ],
  [
    'DELETE',
    /^\/oauth2\/auth\/sessions\/consent$/,
    { name: 'consent', kind: 'consent_revoked', role: 'client_backend' },
  ],
  [
    'DELETE',
    /^\/oauth2\/auth\/sessions\/login$/,
    { name: 'login', kind: 'session_revoked', role: 'client_backend' },
  ],
  ['POST', /^\/keys\/[^/]+$/, { name: 'keys', kind: 'key_created', role: 'client_backend' }],
  [
    'PUT',
    /^\/keys\/[^/]+(?:\/[^/]+)?$/,
    { name: 'keys', kind: 'key_rotated', role: 'client_backend' },
  ],
  [
    'DELETE',
    /^\/keys\/[^/]+(?:\/[^/]+)?$/,
    { name: 'keys', kind: 'key_deleted', role: 'client_backend' },
  ],
];

/** Events of the traces: what each says, and whether it only goes with another. */
const EVENTS: Readonly<Record<string, { kind: EventKind; outcome?: Outcome; companion?: true }>> = {
  OAuth2LoginAccepted: { kind: 'login' },
  OAuth2LoginRejected: { kind: 'login_failed', outcome: 'denied' },
  OAuth2ConsentAccepted: { kind: 'consent_granted' },
  OAuth2ConsentRejected: { kind: 'consent_denied', outcome: 'denied' },
  OAuth2ConsentRevoked: { kind: 'consent_revoked' },
  OAuth2ClientCreated: { kind: 'client_registered' },
  OAuth2ClientUpdated: { kind: 'client_updated' },
  OAuth2ClientDeleted: { kind: 'client_deleted' },
  OAuth2AccessTokenIssued: { kind: 'token_issued' },
  OAuth2TokenExchangeError: { kind: 'token_request_failed', outcome: 'failure' },
  OAuth2AccessTokenInspected: { kind: 'token_introspected' },
  OAuth2AccessTokenRevoked: { kind: 'token_revoked' },
  OAuth2RefreshTokenIssued: { kind: 'token_issued', companion: true },
  OIDCIdentityTokenIssued: { kind: 'token_issued', companion: true },
};

/** Messages about a request. Only the last one counts it; the others tell what went wrong, or that it began. */
const COMPLETED = 'completed handling request';
const STARTED = 'started handling request';

function endpointOf(method: string, route: string): Endpoint | undefined {
  const path = route.replace(/^\/admin(?=\/)/, '');
  return ENDPOINTS.find(([m, shape]) => (m === '*' || m === method) && shape.test(path))?.[2];
}

/** The path without what names a client or a key in it. */
function routeOf(path: string): string {
  return path.replace(/\/(clients|keys|register)\/[^/]+/, '/$1/*').slice(0, 2_048);
}

function requestEvent(r: HydraRecord, isCompleted: boolean): AuthEventDraft {
  const path = (r.path ?? '').slice(0, 2_048);
  const at = endpointOf(r.method ?? '', path);
  const outcome = outcomeOf(r, isCompleted);
  const isRefused = outcome === 'failure' || outcome === 'denied';
  const kind = (isRefused ? at?.failed : undefined) ?? at?.kind ?? 'unclassified';
  const asked = queryOf(r.query);
  const isRequest = at?.name === 'authorization';
  const clientInPath = /\/(?:clients|register)\/([^/]{1,256})$/.exec(path)?.[1];
  // Member by member, as everywhere that is asked for each record: a spread costs more than all the rest.
  const c = common(r);
  return given({
    kind,
    time: c.time,
    raw_type: c.raw_type,
    instance: c.instance,
    upstream_redaction: c.upstream_redaction,
    corr: c.corr,
    phase: isCompleted ? undefined : ('attempt' as const),
    outcome,
    error: errorOf(r),
    endpoint: at?.name,
    client: given({ id: clientInPath ?? (isRequest ? asked.get('client_id') : undefined) }),
    response_type: isRequest ? asked.get('response_type') : undefined,
    redirect_uri: isRequest ? asked.get('redirect_uri') : undefined,
    scopes_requested: isRequest ? listOf(asked.get('scope')) : undefined,
    pkce: isRequest ? oneOf(PKCE_METHODS, asked.get('code_challenge_method')) : undefined,
    key: given({ kid: /\/keys\/[^/]+\/([^/]{1,256})$/.exec(path)?.[1], store: keySet(path) }),
    net: given({
      client_ip: r.forwarded?.split(',', 1)[0]?.trim() ?? r.remote,
      ip_role: at?.role,
      user_agent: r.userAgent,
    }),
    http: given({
      method: r.method,
      route: path === '' ? undefined : routeOf(path),
      status: r.status,
      duration_ms: r.tookMs,
    }),
  });
}

const keySet = (path: string): string | undefined => /\/keys\/([^/]{1,256})/.exec(path)?.[1];

const listOf = (text: string | undefined): string[] | undefined =>
  text === undefined ? undefined : [text];

/** What a log that leaks queries says of the request; `state` and its like are never read. */
const QUERY_NAMES = [
  'client_id',
  'response_type',
  'redirect_uri',
  'scope',
  'code_challenge_method',
];

function queryOf(query: string | undefined): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  if (query === undefined) return found;
  const all = new URLSearchParams(query.slice(0, 8_192));
  for (const name of QUERY_NAMES) {
    const value = all.get(name);
    if (value !== null && value !== '') found.set(name, value);
  }
  return found;
}

function common(r: HydraRecord): Omit<AuthEventDraft, 'kind'> {
  return given({
    time: r.time ?? 0n,
    raw_type: r.message,
    instance: r.host,
    upstream_redaction: r.masked ? true : undefined,
    corr: given({ trace_id: r.traceId, span_id: r.spanId, request_id: r.requestId }),
  });
}

function outcomeOf(r: HydraRecord, isCompleted: boolean): Outcome {
  if (r.error?.name === 'access_denied') return 'denied';
  if (r.error !== undefined || r.message === 'access denied') return 'failure';
  if (!isCompleted) return 'pending';
  if (r.status === undefined) return 'unknown';
  return r.status < 400 ? 'success' : 'failure';
}

/** The name of an RFC error; other messages are free text. */
function errorOf(r: HydraRecord): AuthEventDraft['error'] {
  const name = r.error?.name;
  if (name === undefined) return undefined;
  const isOauth = /^[a-z]+(?:_[a-z]+){1,4}$/.test(name);
  return given({
    oauth_error: isOauth ? name : undefined,
    detail: r.error?.reason ?? (isOauth ? undefined : name),
  });
}

function traceEvent(r: HydraRecord, a: Json): AuthEventDraft {
  const mapping = lookUp(EVENTS, r.message);
  const grant = textIn(a, 'OAuth2GrantType');
  const client = textIn(a, 'OAuth2ClientID');
  const isIssue = mapping?.kind === 'token_issued' && mapping.companion === undefined;
  const kind =
    isIssue && grant === 'refresh_token'
      ? 'token_refreshed'
      : isIssue && grant === TOKEN_EXCHANGE
        ? 'token_exchanged'
        : (mapping?.kind ?? 'unclassified');
  const person = textIn(a, 'OAuth2Subject') ?? textIn(a, 'IdentityID');
  const isMachine = grant === 'client_credentials';
  const subject = person ?? (isMachine ? client : undefined);
  const atToken = mapping?.kind === 'token_issued' || mapping?.kind === 'token_request_failed';
  return given({
    ...common(r),
    kind,
    phase: mapping?.companion === true ? ('attempt' as const) : undefined,
    outcome:
      mapping === undefined ? ('unknown' as const) : (mapping.outcome ?? ('success' as const)),
    grant_type: grant,
    endpoint: atToken ? 'token' : undefined,
    source_tenant: textIn(a, 'ProjectID'),
    client: given({ id: client, name: textIn(a, 'OAuth2ClientName') }),
    subject:
      subject === undefined
        ? undefined
        : { id: subject, type: isMachine ? ('client' as const) : ('user' as const) },
    net: given({ client_ip: textIn(a, 'ClientIP'), country: textIn(a, 'GeoLocationCountry') }),
    ext: given({ token_format: textIn(a, 'OAuth2TokenFormat') }),
  });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text' && record.line.length > LINE_LENGTH_MAX) {
    return refuse('too_large', `line: longer than ${LINE_LENGTH_MAX} characters`);
  }
  if (record.form === 'json' && !isJson(record.value)) {
    return refuse('not_an_object', 'record: must be a JSON object');
  }
  const r = record.form === 'text' ? readLine(record.line) : readObject(record.value as Json);
  if (r === undefined) {
    return refuse(
      'unrecognised_record',
      'record: no log of Hydra; msg, or name and attributes, are needed',
    );
  }
  if (r.stamp === undefined) return refuse('missing_field', 'time: is required');
  if (r.time === undefined) return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}`);
  if (r.event !== undefined) return { ok: true, events: [traceEvent(r, r.event)] };
  // Upkeep of the server itself, and the beginning of what ends in a record of its own.
  if (r.path === undefined || r.message === STARTED) return { ok: true, events: [] };
  return { ok: true, events: [requestEvent(r, r.message === COMPLETED)] };
}

/**
 * Ory Hydra's log, text or JSON, and the events of its traces as JSON. Of a request only `completed handling request`
 * counts; `access denied` and `An error occurred` before it name the error and are attempts. The log names neither
 * client nor grant type of a token request; the events do.
 */
export default defineSource({
  id: 'hydra',
  title: 'Ory Hydra',
  vendor: 'ory',
  product: 'hydra',
  description: 'Request and error logs of Ory Hydra, text or JSON, and the events of its traces.',
  forms: ['json', 'text'],
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'consent_granted',
    'consent_denied',
    'consent_revoked',
    'device_authorization_requested',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'token_introspected',
    'userinfo_accessed',
    'token_revoked',
    'login',
    'login_failed',
    'session_ended',
    'session_revoked',
    'client_registered',
    'client_updated',
    'client_deleted',
    'key_created',
    'key_rotated',
    'key_deleted',
    'jwks_fetched',
    'unclassified',
  ],
  provides: [
    ...['time', 'kind', 'phase', 'outcome', 'source.instance', 'source.tenant', 'source.raw_type'],
    ...REQUEST_FIELDS.filter((f) => f !== 'error.code'),
    ...['client.id', 'client.name', 'subject.ref', 'subject.type'],
    ...['scopes_requested', 'redirect_uri', 'pkce', 'key.kid', 'key.store'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.country'],
    ...['net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms'],
    ...['corr.trace_id', 'corr.span_id', 'corr.request_id', 'ext'],
  ],
  confirmed_by: 'documents',
  references: [
    'ory/hydra: x/events, oauth2/handler.go; ory/x: logrusx, reqlog',
    'Ory Hydra HTTP API',
    'RFC 6749, RFC 7009, RFC 7591, RFC 7592, RFC 7662, RFC 8628',
  ],
  parse,
});
