import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import { PKCE_METHODS, type EventKind, type IpRole, type Outcome } from '../../model/kinds.ts';
import { REQUEST_FIELDS } from './_field_groups.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  numberOf,
  objectIn,
  oneOf,
  own,
  refuse,
  textIn,
  textList,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** Longest path or header that is read, characters. */
const TEXT_LENGTH_MAX = 4_096;
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

/** An OAuth endpoint of AM: what its success and its failure are. */
interface Endpoint {
  readonly name: string;
  readonly kind: EventKind;
  readonly failed?: EventKind;
  /** Whose address the request comes from; left out where it may be anybody's. */
  readonly role?: IpRole;
}

/** By the path below `/oauth2` and the realms. */
const ENDPOINTS: Readonly<Record<string, Endpoint>> = {
  authorize: {
    ...{ name: 'authorization', kind: 'authorization_requested', failed: 'authorization_failed' },
    role: 'end_user',
  },
  access_token: { name: 'token', kind: 'token_issued', failed: 'token_request_failed' },
  introspect: { name: 'introspection', kind: 'token_introspected', role: 'client_backend' },
  tokeninfo: { name: 'introspection', kind: 'token_introspected', role: 'client_backend' },
  userinfo: { name: 'userinfo', kind: 'userinfo_accessed' },
  'token/revoke': { name: 'revocation', kind: 'token_revoked' },
  par: { name: 'pushed_authorization_request', kind: 'par_pushed', role: 'client_backend' },
  'device/code': { name: 'device_authorization', kind: 'device_authorization_requested' },
  'device/user': { name: 'device', kind: 'device_authorized', role: 'end_user' },
  'bc-authorize': {
    ...{ name: 'backchannel_authentication', kind: 'backchannel_auth_requested' },
    role: 'client_backend',
  },
  register: { name: 'registration', kind: 'client_registered' },
  'connect/register': { name: 'registration', kind: 'client_registered' },
  'connect/endSession': { name: 'end_session', kind: 'session_ended', role: 'end_user' },
  'connect/jwk_uri': { name: 'jwks', kind: 'jwks_fetched' },
};

/** Registration is one path with several methods (RFC 7592). */
const REGISTRATION: Readonly<Record<string, EventKind>> = {
  PUT: 'client_updated',
  DELETE: 'client_deleted',
};

const SESSION_EVENTS: Readonly<Record<string, EventKind>> = {
  'AM-SESSION-CREATED': 'session_started',
  'AM-SESSION-LOGGED_OUT': 'session_ended',
  'AM-SESSION-IDLE_TIMED_OUT': 'session_ended',
  'AM-SESSION-MAX_TIMED_OUT': 'session_ended',
  'AM-SESSION-DESTROYED': 'session_revoked',
};

/** The end of a whole login; those of its modules and nodes are steps. */
const LOGINS = new Set([
  'AM-LOGIN-COMPLETED',
  'AM-LOGIN-CHAIN-COMPLETED',
  'AM-TREE-LOGIN-COMPLETED',
]);

const CLIENT_CHANGES: Readonly<Record<string, EventKind>> = {
  CREATE: 'client_registered',
  UPDATE: 'client_updated',
  DELETE: 'client_deleted',
};

interface Reading {
  readonly p: Json;
  readonly name: string;
  readonly time: bigint;
  readonly written?: bigint | undefined;
  readonly request: Json;
  readonly response: Json;
  /** The request's HTTP part. */
  readonly http: Json;
}

/** `{payload, timestamp, source}` of the cloud's log API, or the audit record itself. */
function payloadOf(value: Json): Json {
  const payload = own(value, 'payload');
  return isJson(payload) ? payload : value;
}

/** `{result: [...]}` as the cloud's log API answers. */
function unwrap(value: unknown): readonly unknown[] | undefined {
  const list = isJson(value) ? own(value, 'result') : undefined;
  return Array.isArray(list) ? (list as readonly unknown[]) : undefined;
}

/** The first text of a header or query parameter, which are lists. */
function first(value: Json, name: string): string | undefined {
  return textList(own(value, name))?.[0]?.slice(0, TEXT_LENGTH_MAX);
}

/** `id=shop,ou=agent,ou=am-config`, `id=ada,ou=user,dc=..`: who, and of what type. */
function principalOf(dn: string | undefined): { id: string; type: 'user' | 'client' } | undefined {
  if (dn === undefined) return undefined;
  const [, id] = /^(?:id|uid|ou|cn)=([^,]{1,256})/i.exec(dn) ?? [];
  return { id: id ?? dn, type: /,ou=agent(?:,|$)/i.test(dn) ? 'client' : 'user' };
}

function common(r: Reading): Omit<AuthEventDraft, 'kind'> {
  const { p } = r;
  return given({
    time: r.time,
    observed_time: r.written,
    vendor_event_id: textIn(p, '_id'),
    raw_type: r.name,
    source_tenant: textIn(p, 'realm'),
    corr: given({ transaction_id: textIn(p, 'transactionId') }),
  });
}

function endpointOf(r: Reading): { readonly at?: Endpoint; readonly route?: string } {
  const path = (textIn(r.http, 'path') ?? '').slice(0, TEXT_LENGTH_MAX);
  const route = path.replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0] ?? '';
  const [, below = ''] = /\/oauth2\/(.*)$/.exec(route) ?? [];
  const bare = below.replace(/^(?:realms\/[^/]+\/)+/, '').replace(/\/$/, '');
  const last = bare.split('/').slice(-1).join('');
  const at = lookUp(ENDPOINTS, bare) ?? lookUp(ENDPOINTS, bare.split('/').slice(-2).join('/'));
  return given({ at: at ?? lookUp(ENDPOINTS, last), route: route === '' ? undefined : route });
}

function outcomeOf(r: Reading): Outcome {
  if (r.name === 'AM-ACCESS-ATTEMPT') return 'pending';
  const status = textIn(r.response, 'status') ?? textIn(r.p, 'result');
  if (status === 'SUCCESSFUL' || status === 'SUCCESS') return 'success';
  if (status !== 'FAILED' && status !== 'FAILURE') return 'unknown';
  const detail = objectIn(r.response, 'detail');
  const error = textIn(detail, 'error');
  if (error === 'authorization_pending' || error === 'slow_down') return 'pending';
  return error === 'access_denied' ? 'denied' : 'failure';
}

function kindOf(r: Reading, at: Endpoint | undefined, outcome: Outcome): EventKind {
  if (at === undefined) return 'unclassified';
  if (at.name === 'registration') {
    return lookUp(REGISTRATION, textIn(r.http, 'method') ?? '') ?? at.kind;
  }
  const isRefused = outcome === 'failure' || outcome === 'denied';
  if (r.name !== 'AM-ACCESS-ATTEMPT' && (isRefused || outcome === 'pending')) {
    return at.failed ?? at.kind;
  }
  if (at.name !== 'token') return at.kind;
  const grant = textIn(objectIn(r.request, 'detail'), 'grant_type');
  if (grant === 'refresh_token') return 'token_refreshed';
  return grant === TOKEN_EXCHANGE ? 'token_exchanged' : at.kind;
}

/** A request to AM: an attempt and an outcome, joined by the transaction. */
function accessEvent(r: Reading): AuthEventDraft {
  const isOauth = textIn(r.p, 'component') === 'OAuth';
  const { at, route } = endpointOf(r);
  const endpoint = isOauth ? at : undefined;
  const outcome = outcomeOf(r);
  const kind = kindOf(r, endpoint, outcome);
  const asked = objectIn(r.request, 'detail');
  const told = objectIn(r.response, 'detail');
  const query = objectIn(r.http, 'queryParameters');
  const isIntrospection = kind === 'token_introspected';
  const redirect = textIn(asked, 'redirect_uri') ?? first(query, 'redirect_uri');
  // Member by member, as everywhere that is asked for each record: a spread costs more than all the rest.
  const c = common(r);
  const who = parties(r, asked, query);
  return given({
    time: c.time,
    observed_time: c.observed_time,
    vendor_event_id: c.vendor_event_id,
    raw_type: c.raw_type,
    source_tenant: c.source_tenant,
    corr: c.corr,
    client: who.client,
    requested_client_id: who.requested_client_id,
    subject: who.subject,
    kind,
    phase: r.name === 'AM-ACCESS-ATTEMPT' ? ('attempt' as const) : ('outcome' as const),
    outcome,
    error: errorOf(r, outcome),
    endpoint: endpoint?.name,
    grant_type: textIn(asked, 'grant_type'),
    response_type: first(query, 'response_type'),
    scopes_requested: textList(textIn(asked, 'scope') ?? first(query, 'scope')),
    scopes_granted: textList(textIn(told, 'scope')),
    redirect_uri: redirect,
    pkce: oneOf(PKCE_METHODS, first(query, 'code_challenge_method')),
    binding: textIn(told, 'token_type') === 'DPoP' ? ('dpop' as const) : undefined,
    net: netOf(r, endpoint, textIn(asked, 'grant_type')),
    http: given({
      method: textIn(r.http, 'method'),
      route,
      status: numberOf(own(r.response, 'statusCode')),
      duration_ms: durationOf(r.response),
    }),
    ext: given({
      component: isOauth ? undefined : textIn(r.p, 'component'),
      active: isIntrospection ? textIn(told, 'active') : undefined,
      token_client_id: isIntrospection ? textIn(told, 'client_id') : undefined,
    }),
  });
}

function errorOf(r: Reading, outcome: Outcome): AuthEventDraft['error'] {
  if (outcome === 'success' || r.name === 'AM-ACCESS-ATTEMPT') return undefined;
  const detail = objectIn(r.response, 'detail');
  return given({
    oauth_error: textIn(detail, 'error'),
    detail: textIn(detail, 'error_description', 'reason', 'message'),
  });
}

/** Who asked (`userId`): at the token and introspection endpoints that is the client. */
function parties(r: Reading, asked: Json, query: Json): Partial<AuthEventDraft> {
  const who = principalOf(textIn(r.p, 'userId'));
  const told = objectIn(r.response, 'detail');
  const named = textIn(asked, 'client_id') ?? first(query, 'client_id');
  const client = who?.type === 'client' ? who.id : named;
  const holder = textIn(told, 'username');
  const subject: AuthEventDraft['subject'] =
    who?.type === 'user'
      ? { id: who.id, type: 'user' }
      : holder === undefined
        ? undefined
        : { id: holder, type: holder === textIn(told, 'client_id') ? 'client' : 'user' };
  const isMachine = textIn(asked, 'grant_type') === 'client_credentials';
  return given({
    client: given({ id: client }),
    requested_client_id: client === named ? undefined : named,
    subject:
      subject ?? (isMachine && client !== undefined ? { id: client, type: 'client' } : undefined),
  });
}

const PRIVATE_ADDRESS = /^(?:10\.|127\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|::1$|f[cd])/i;

function netOf(r: Reading, at: Endpoint | undefined, grant?: string): AuthEventDraft['net'] {
  const headers = objectIn(r.http, 'headers');
  const forwarded = first(headers, 'x-forwarded-for')?.split(',')[0]?.trim();
  const direct = textIn(objectIn(r.p, 'client'), 'ip');
  const isInside = direct === undefined || PRIVATE_ADDRESS.test(direct);
  return given({
    client_ip: isInside && forwarded !== undefined ? forwarded : direct,
    ip_role: grant === 'client_credentials' ? ('client_backend' as const) : at?.role,
    user_agent: first(headers, 'user-agent'),
  });
}

/** Units as the record names them, in ms. */
function durationOf(response: Json): number | undefined {
  const elapsed = numberOf(own(response, 'elapsedTime'));
  const unit = textIn(response, 'elapsedTimeUnits') ?? 'MILLISECONDS';
  if (elapsed === undefined) return undefined;
  if (unit === 'MILLISECONDS') return elapsed;
  return unit === 'SECONDS' ? elapsed * 1_000 : unit === 'NANOSECONDS' ? elapsed / 1e6 : undefined;
}

function firstTracking(p: Json): string | undefined {
  return textList(own(p, 'trackingIds'))?.[0];
}

/** Sessions. The first tracking id is the session's: it is no secret, unlike the session token. */
function activityEvent(r: Reading, kind: EventKind): AuthEventDraft {
  const who = principalOf(textIn(r.p, 'userId'));
  const session = firstTracking(r.p);
  return given({
    ...common(r),
    kind,
    outcome: kind === 'unclassified' ? ('unknown' as const) : ('success' as const),
    subject: who,
    session: session === undefined ? undefined : { id: session },
  });
}

function loginEvent(r: Reading): AuthEventDraft {
  const outcome = outcomeOf(r);
  const entry = listIn(r.p, 'entries').at(-1) ?? {};
  const info = objectIn(entry, 'info');
  const principal = textList(own(r.p, 'principal'))?.[0];
  const subject =
    principalOf(textIn(r.p, 'userId')) ??
    (principal === undefined ? undefined : { id: principal, type: 'user' as const });
  return given({
    ...common(r),
    kind:
      outcome === 'failure' || outcome === 'denied'
        ? ('login_failed' as const)
        : ('login' as const),
    outcome,
    error:
      outcome === 'success' ? undefined : given({ code: textIn(info, 'failureReason', 'reason') }),
    endpoint: 'authorization',
    subject,
    net: given({
      client_ip: textIn(info, 'ipAddress') ?? textIn(objectIn(r.p, 'client'), 'ip'),
      ip_role: 'end_user' as const,
    }),
    acr: textIn(info, 'authLevel'),
    ext: given({ tree: textIn(info, 'treeName'), module: textIn(entry, 'moduleId') }),
  });
}

function listIn(value: Json, name: string): readonly Json[] {
  const list = own(value, name);
  return Array.isArray(list) ? (list as readonly unknown[]).slice(0, 200).filter(isJson) : [];
}

/** Changes of AM's configuration. OAuth clients are agents there. */
function configEvent(r: Reading): AuthEventDraft {
  const object = (textIn(r.p, 'objectId') ?? '').slice(0, TEXT_LENGTH_MAX);
  const actor = principalOf(textIn(r.p, 'runAs') ?? textIn(r.p, 'userId'));
  const isClient = /,ou=AgentService(?:,|$)/i.test(object);
  const changed = lookUp(CLIENT_CHANGES, textIn(r.p, 'operation') ?? '');
  return given({
    ...common(r),
    kind: isClient ? (changed ?? ('unclassified' as const)) : ('policy_changed' as const),
    outcome: 'success' as const,
    actor,
    client: isClient ? given({ id: principalOf(object)?.id }) : undefined,
    ext: given({ operation: textIn(r.p, 'operation'), object: isClient ? undefined : object }),
  });
}

function eventOf(r: Reading): AuthEventDraft {
  if (r.name === 'AM-ACCESS-ATTEMPT' || r.name === 'AM-ACCESS-OUTCOME') return accessEvent(r);
  if (LOGINS.has(r.name)) return loginEvent(r);
  if (r.name === 'AM-LOGOUT') return activityEvent(r, 'session_ended');
  if (r.name === 'AM-CONFIG-CHANGE') return configEvent(r);
  return activityEvent(r, lookUp(SESSION_EVENTS, r.name) ?? 'unclassified');
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is the JSON audit log');
  }
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const p = payloadOf(record.value);
  const name = textIn(p, 'eventName');
  if (name === undefined) {
    return refuse('unrecognised_record', 'record: no audit event of AM; eventName is needed');
  }
  const stamp = own(p, 'timestamp');
  if (stamp === undefined) return refuse('missing_field', 'timestamp: is required');
  const time = timeNs(stamp);
  if (time === undefined) return refuse('invalid_time', `timestamp: not a time; ${TIME_ALLOWED}`);
  const reading: Reading = {
    p,
    name,
    time,
    request: objectIn(p, 'request'),
    response: objectIn(p, 'response'),
    http: objectIn(objectIn(p, 'http'), 'request'),
    written: p === record.value ? undefined : timeNs(own(record.value, 'timestamp')),
  };
  return { ok: true, events: [eventOf(reading)] };
}

/**
 * Audit records of ForgeRock AM (PingAM), from its JSON handlers or the log API of the cloud. A request gives an
 * attempt and an outcome with one transaction id; the outcome often repeats nothing of what was asked, so the grant
 * type of a refused or answered token request may stand in the attempt alone.
 */
export default defineSource({
  id: 'forgerock',
  title: 'ForgeRock AM, PingAM',
  vendor: 'forgerock',
  product: 'access_management',
  description:
    'Access, authentication, activity and config audit of ForgeRock AM and PingOne Advanced Identity Cloud.',
  forms: ['json'],
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'par_pushed',
    'device_authorization_requested',
    'device_authorized',
    'backchannel_auth_requested',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'token_introspected',
    'userinfo_accessed',
    'token_revoked',
    'login',
    'login_failed',
    'session_started',
    'session_ended',
    'session_revoked',
    'client_registered',
    'client_updated',
    'client_deleted',
    'policy_changed',
    'jwks_fetched',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'observed_time', 'kind', 'phase', 'outcome'],
    ...['source.tenant', 'source.raw_type'],
    ...REQUEST_FIELDS,
    ...[
      'client.id',
      'requested_client_id',
      'subject.ref',
      'subject.type',
      'actor.ref',
      'actor.type',
    ],
    ...['scopes_requested', 'scopes_granted', 'redirect_uri', 'pkce', 'binding', 'session_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms', 'acr'],
    ...['corr.transaction_id', 'ext'],
  ],
  confirmed_by: 'real_samples',
  references: [
    'PingAM: Audit logging reference',
    'PingOne Advanced Identity Cloud: Get audit and debug logs',
    'RFC 6749, RFC 7009, RFC 7591, RFC 7592, RFC 7662, RFC 8628, RFC 9126',
  ],
  unwrap,
  parse,
});
