import { writeClientList } from '../../model/client_metadata.ts';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome, TokenRole, TokenType } from '../../model/kinds.ts';
import { countryCode } from './_country_codes.ts';
import { REQUEST_FIELDS } from './_field_groups.ts';
import { mappingOfType, type Mapping } from './_okta_types.ts';
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

/** Targets of one event that are looked at. */
const TARGETS_MAX = 50;

interface Reading {
  readonly value: Json;
  readonly type: string;
  readonly time: bigint;
  readonly mapping: Mapping;
  readonly outcome: Outcome;
  readonly reason: string;
  /** `debugContext.debugData`. */
  readonly debug: Json;
  readonly actor: Json;
  readonly client: Json;
  readonly targets: readonly Json[];
}

/** Stores that fold the case of columns turn `debugContext` into `debugcontext`. */
function member(value: Json, name: string): Json {
  const found = own(value, name) ?? own(value, name.toLowerCase());
  return isJson(found) ? found : {};
}

const OUTCOMES: Readonly<Record<string, Outcome>> = {
  SUCCESS: 'success',
  ALLOW: 'success',
  FAILURE: 'failure',
  DENY: 'denied',
  CHALLENGE: 'challenge',
  RATE_LIMIT: 'denied',
  DEFERRED: 'pending',
  SCHEDULED: 'pending',
  ABANDONED: 'failure',
};

function readingOf(value: Json, type: string, time: bigint): Reading {
  const targets = own(value, 'target');
  const outcome = objectIn(value, 'outcome');
  const mapping = mappingOfType(type);
  const told = lookUp(OUTCOMES, textIn(outcome, 'result') ?? '');
  return {
    value,
    type,
    time,
    mapping,
    outcome: outcomeOf(mapping, told),
    reason: textIn(outcome, 'reason') ?? '',
    debug: objectIn(member(value, 'debugContext'), 'debugData'),
    actor: objectIn(value, 'actor'),
    client: objectIn(value, 'client'),
    targets: Array.isArray(targets)
      ? (targets as readonly unknown[]).slice(0, TARGETS_MAX).filter(isJson)
      : [],
  };
}

/** Kinds of which every event is one that failed, whatever its result says. */
const ALWAYS_FAILED: ReadonlySet<EventKind> = new Set([
  'token_reuse_detected',
  'authorization_failed',
  'token_request_failed',
]);
const HAS_FAILED: ReadonlySet<Outcome> = new Set(['failure', 'denied']);

function outcomeOf(mapping: Mapping, told: Outcome | undefined): Outcome {
  if (mapping.kind === 'rate_limited') return 'denied';
  if (mapping.code === 'scope_denied') return 'denied';
  if (ALWAYS_FAILED.has(mapping.kind)) return told === 'denied' ? 'denied' : 'failure';
  return told ?? 'unknown';
}

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
/** Reasons of a single sign-on that failed because the person could not prove who they are. */
const CREDENTIAL_REASONS = new Set(['INVALID_CREDENTIALS', 'LOCKED_OUT', 'VERIFICATION_ERROR']);

function kindOf(r: Reading): EventKind {
  const { mapping } = r;
  if (HAS_FAILED.has(r.outcome)) {
    if (r.type === 'user.authentication.sso' && CREDENTIAL_REASONS.has(r.reason)) {
      return 'login_failed';
    }
    return mapping.failed ?? mapping.kind;
  }
  if (mapping.kind !== 'token_issued' || mapping.endpoint !== 'token') return mapping.kind;
  const grant = grantTypeOf(r);
  if (grant === 'refresh_token') return 'token_refreshed';
  return grant === TOKEN_EXCHANGE || r.type.endsWith('.id_jag')
    ? 'token_exchanged'
    : 'token_issued';
}

function grantTypeOf(r: Reading): string | undefined {
  if (r.type.includes('.authorize.implicit')) return 'implicit';
  return textIn(r.debug, 'grantType');
}

/** Codes of RFC 6749 section 5.2 and its kin, which Okta gives as reasons. */
const OAUTH_ERRORS = new Set([
  'access_denied',
  'invalid_client',
  'invalid_dpop_proof',
  'invalid_grant',
  'invalid_request',
  'invalid_scope',
  'invalid_target',
  'login_required',
  'consent_required',
  'interaction_required',
  'server_error',
  'slow_down',
  'authorization_pending',
  'expired_token',
  'temporarily_unavailable',
  'unauthorized_client',
  'unsupported_grant_type',
  'unsupported_response_type',
]);
const OAUTH_ERROR_OF_CODE: Readonly<Record<string, string>> = {
  invalid_client_credentials: 'invalid_client',
  client_not_found: 'invalid_client',
  invalid_client_id: 'invalid_client',
  scope_denied: 'invalid_scope',
  no_matching_scope: 'invalid_scope',
  no_matching_policy: 'access_denied',
  pkce_verification_failed: 'invalid_grant',
};
const CREDENTIAL_CODES: Readonly<Record<string, string>> = {
  INVALID_CREDENTIALS: 'invalid_user_credentials',
  LOCKED_OUT: 'user_locked_out',
};

/** Okta's reason as a code: its own where it is one, a common one where a sentence says it. */
function codeOf({ mapping, reason }: Reading): string | undefined {
  if (/redirect.?uri/i.test(reason)) return 'invalid_redirect_uri';
  if (/pkce|code.?verifier|code.?challenge/i.test(reason)) return 'pkce_verification_failed';
  if (mapping.code !== undefined) return mapping.code;
  return (
    lookUp(CREDENTIAL_CODES, reason) ??
    (/^[A-Za-z][A-Za-z0-9_.-]{0,79}$/.test(reason) ? reason : undefined)
  );
}

function errorOf(r: Reading): AuthEventDraft['error'] {
  if (!HAS_FAILED.has(r.outcome)) return undefined;
  const code = codeOf(r);
  const isOAuth = r.mapping.endpoint !== undefined;
  return given({
    code,
    oauth_error:
      !isOAuth || code === undefined
        ? undefined
        : OAUTH_ERRORS.has(code)
          ? code
          : lookUp(OAUTH_ERROR_OF_CODE, code),
    detail: r.reason === '' ? undefined : r.reason.slice(0, 1_024),
  });
}

const isClient = (entity: Json): boolean =>
  /^(?:(?:Public|Confidential)?Client(?:App)?|AppInstance)$/.test(textIn(entity, 'type') ?? '');
const isUser = (entity: Json): boolean => textIn(entity, 'type') === 'User';

/** At the token endpoint the client is the actor, elsewhere the target. */
function clientOf(r: Reading): AuthEventDraft['client'] {
  const target = r.targets.find(isClient);
  const named = isClient(r.actor) ? r.actor : target;
  // `client.id` is the client that called, also where an administrator's console changes another one.
  const isChange = r.type.includes('client.lifecycle') || r.type.includes('credentials.lifecycle');
  const caller = isChange ? undefined : textIn(r.client, 'id');
  return given({
    id: caller ?? (named === undefined ? undefined : textIn(named, 'id')),
    name: named === undefined ? undefined : textIn(named, 'displayName', 'alternateId'),
    auth_method: textIn(r.debug, 'clientAuthType'),
  });
}

function subjectOf(r: Reading): PrincipalDraft | undefined {
  const target = r.targets.find(isUser);
  const told = target ?? (isUser(r.actor) ? r.actor : undefined);
  const id = told === undefined ? undefined : textIn(told, 'id', 'alternateId');
  if (id !== undefined) return { id, type: 'user' };
  const sub = r.targets.map((t) => textIn(objectIn(t, 'detailEntry'), 'subject')).find(Boolean);
  const client = clientOf(r)?.id;
  if (grantTypeOf(r) === 'client_credentials') {
    const ofClient = client ?? sub;
    return ofClient === undefined ? undefined : { id: ofClient, type: 'client' };
  }
  return sub === undefined ? undefined : { id: sub, type: 'unknown' };
}

/** Who did it to somebody or something else: an administrator, a program, Okta itself. */
function actorOf(r: Reading, subject: PrincipalDraft | undefined): PrincipalDraft | undefined {
  const id = textIn(r.actor, 'id');
  if (id === undefined || isClient(r.actor)) return undefined;
  if (!isUser(r.actor)) return { id, type: 'service' };
  const hasOther = subject !== undefined && subject.id !== id;
  return hasOther ? { id, type: 'user' } : undefined;
}

const TOKEN_TYPES: Readonly<Record<string, TokenType>> = {
  access_token: 'access',
  refresh_token: 'refresh',
  id_token: 'id',
  code: 'code',
  id_jag: 'assertion',
};
const ROLE_OF_KIND: Readonly<Partial<Record<EventKind, TokenRole>>> = {
  code_issued: 'issued',
  token_issued: 'issued',
  token_refreshed: 'issued',
  token_exchanged: 'issued',
  token_revoked: 'revoked',
  token_reuse_detected: 'presented',
  token_introspected: 'presented',
  token_request_failed: 'presented',
};

/** Okta names a token by a hash of it. The assertion that a grant was made from is not what it issued. */
function tokensOf(r: Reading, kind: EventKind): TokenDraft[] {
  const role = ROLE_OF_KIND[kind];
  if (role === undefined) return [];
  return r.targets.flatMap((target): TokenDraft[] => {
    const type = lookUp(TOKEN_TYPES, textIn(target, 'type') ?? '');
    const detail = objectIn(target, 'detailEntry');
    const vendor_hash = textIn(detail, 'hash');
    if (type === undefined || vendor_hash === undefined) return [];
    const isUsed = type === 'assertion' && !r.type.endsWith('.id_jag');
    return [
      given({
        role: isUsed ? ('subject' as const) : role,
        type,
        vendor_hash,
        expires_at: timeNs(own(detail, 'expires')),
      }),
    ];
  });
}

/** `{reasons=Anomalous Location, level=HIGH}`. */
function riskOf(r: Reading): string | undefined {
  const told = textIn(r.debug, 'risk') ?? '';
  return /\blevel=([A-Z]{1,20})\b/.exec(told.slice(0, 1_024))?.[1]?.toLowerCase();
}

/** A list that may be one text: `[a, b]`, `a, b`, `a b`. */
function listIn(value: unknown): string[] | undefined {
  const parts = textList(value)?.flatMap((t) => t.replace(/^\[|\]$/g, '').split(/[\s,]+/));
  const kept = parts?.filter((t) => t !== '');
  return kept === undefined || kept.length === 0 ? undefined : kept;
}

/** Metadata of a client that was registered or changed; Okta writes the names without their capitals. */
function clientMetadata(r: Reading): Record<string, string> {
  const detail = objectIn(r.targets.find(isClient), 'detailEntry');
  const entry = (name: string): unknown => own(detail, name) ?? own(detail, name.toLowerCase());
  const uris = listIn(entry('redirectUris'));
  const grants = listIn(entry('grantTypes'));
  const responses = listIn(entry('responseTypes'));
  const [method] = listIn(entry('tokenEndpointAuthMethod')) ?? [];
  return given({
    ...(uris === undefined ? {} : writeClientList('redirect_uris', uris)),
    ...(grants === undefined ? {} : writeClientList('grant_types', grants)),
    ...(responses === undefined ? {} : writeClientList('response_types', responses)),
    token_endpoint_auth_method: method,
    client_type: method === undefined ? undefined : method === 'none' ? 'public' : 'confidential',
    application_type: listIn(entry('applicationType'))?.[0],
  });
}

function extOf(r: Reading, kind: EventKind): Record<string, string> {
  const isRegistration = kind === 'client_registered' || kind === 'client_updated';
  return given({
    authorization_server: textIn(r.debug, 'authorizationServer', 'authorizationServerId'),
    authorization_server_name: textIn(r.debug, 'authorizationServerName'),
    behaviors: textIn(r.debug, 'behaviors'),
    threat_suspected: textIn(r.debug, 'threatSuspected')?.toLowerCase(),
    sign_on_mode: textIn(r.debug, 'signOnMode'),
    factor: textIn(r.debug, 'factor'),
    ...(isRegistration && r.outcome === 'success' ? clientMetadata(r) : {}),
  });
}

function netOf(r: Reading): AuthEventDraft['net'] {
  const isMachine = grantTypeOf(r) === 'client_credentials';
  const place = objectIn(r.client, 'geographicalContext');
  return given({
    client_ip: textIn(r.client, 'ipAddress'),
    ip_role: isMachine ? ('client_backend' as const) : (r.mapping.ip_role ?? ('unknown' as const)),
    country: countryCode(textIn(place, 'country')),
    user_agent: textIn(objectIn(r.client, 'userAgent'), 'rawUserAgent'),
  });
}

/** `debugData.url` is the path with its query, in which tokens travel: `requestUri` is the path alone. */
function httpOf(r: Reading): AuthEventDraft['http'] {
  return given({
    route: textIn(r.debug, 'requestUri'),
    status: r.mapping.kind === 'rate_limited' ? 429 : undefined,
    duration_ms: numberOf(own(r.debug, 'responseTime')),
  });
}

function keyOf(r: Reading, kind: EventKind, clientId: string | undefined): AuthEventDraft['key'] {
  const isClientSecret = kind === 'secret_read' || kind === 'client_credential_changed';
  if (!isClientSecret && kind !== 'key_rotated' && kind !== 'secret_changed') return undefined;
  const [target] = r.targets;
  return given({
    kid: isClientSecret ? clientId : target === undefined ? undefined : textIn(target, 'id'),
    operation: r.type,
    store: 'okta',
  });
}

function policyOf(r: Reading): AuthEventDraft['policy'] {
  if (r.mapping.kind !== 'policy_decided') return undefined;
  const policy = r.targets.find((t) => textIn(t, 'type') === 'PolicyEntity') ?? {};
  return given({
    path: textIn(policy, 'displayName', 'id'),
    decision: textIn(objectIn(r.value, 'outcome'), 'result')?.toLowerCase(),
  });
}

function draftOf(r: Reading): AuthEventDraft {
  const kind = kindOf(r);
  const client = clientOf(r);
  const subject = subjectOf(r);
  const context = member(r.value, 'authenticationContext');
  const session = textIn(context, 'externalSessionId');
  const scopes = scopesOf(r, kind);
  return given({
    kind,
    time: r.time,
    vendor_event_id: textIn(r.value, 'uuid'),
    raw_type: r.type,
    phase: r.mapping.phase,
    outcome: r.outcome,
    error: errorOf(r),
    grant_type: grantTypeOf(r),
    response_type: r.mapping.response_type ?? textIn(r.debug, 'responseType'),
    endpoint: r.mapping.endpoint,
    client,
    requested_client_id: kind === 'authorization_failed' ? client?.id : undefined,
    subject,
    actor: actorOf(r, subject),
    scopes_requested: scopes.requested,
    scopes_granted: scopes.granted,
    redirect_uri: textIn(r.debug, 'redirectUri'),
    tokens: tokensOf(r, kind),
    session: session === undefined ? undefined : { id: session },
    net: netOf(r),
    http: httpOf(r),
    policy: policyOf(r),
    key: keyOf(r, kind, client?.id),
    risk: riskOf(r),
    corr: given({
      request_id: textIn(r.debug, 'requestId'),
      transaction_id: textIn(objectIn(r.value, 'transaction'), 'id'),
    }),
    ext: extOf(r, kind),
  });
}

/** Consented scopes are targets: `{type: 'scope', displayName: 'read'}`. */
function scopesOf(
  r: Reading,
  kind: EventKind,
): { requested: string[] | undefined; granted: string[] | undefined } {
  const requested = textList(own(r.debug, 'requestedScopes')) ?? textList(own(r.debug, 'scopes'));
  const granted = textList(own(r.debug, 'grantedScopes'));
  if (!kind.startsWith('consent_')) return { requested, granted };
  const targets = r.targets.filter((t) => /^(?:oauth2)?scope$/i.test(textIn(t, 'type') ?? ''));
  const names = targets.map((t) => textIn(t, 'displayName', 'alternateId', 'id'));
  const told = names.filter((n) => n !== undefined);
  return { requested, granted: granted ?? (told.length === 0 ? undefined : told) };
}

/** An event hook (`data.events`), what an event bus (`detail`) or an HTTP event collector (`event`) wraps around one. */
function unwrap(value: unknown): readonly unknown[] | undefined {
  if (!isJson(value)) return undefined;
  const events = own(objectIn(value, 'data'), 'events');
  if (Array.isArray(events)) return events as readonly unknown[];
  for (const name of ['detail', 'event']) {
    const inner = own(value, name);
    if (isJson(inner) && textIn(inner, 'eventType') !== undefined) return [inner];
  }
  return undefined;
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const type = textIn(value, 'eventType', 'eventtype');
  if (type === undefined) {
    return refuse('unrecognised_record', 'record: no System Log event; eventType is needed');
  }
  if (type.length > 200) return refuse('invalid_field', 'eventType: longer than 200 characters');
  const published = own(value, 'published');
  if (published === undefined) return refuse('missing_field', 'published: is required');
  const time = timeNs(published);
  if (time === undefined) return refuse('invalid_time', `published: not a time; ${TIME_ALLOWED}`);
  return { ok: true, events: [draftOf(readingOf(value, type, time))] };
}

/**
 * Okta's System Log, as its API and its log streams give it, and as an event hook posts it. Events of the org's own
 * authorization server (`app.oauth2.*`) and of custom ones (`app.oauth2.as.*`) are read alike.
 *
 * One token request is told by one event for each token that it made; that of the access token counts, the others are
 * attempts. Tokens are named by Okta's hash of them. `debugData` holds the client's `state`, a hash of its secret and the
 * URL with its query: of these nothing is taken.
 */
export default defineSource({
  id: 'okta',
  title: 'Okta',
  vendor: 'okta',
  product: 'okta',
  description: 'System Log of Okta: API, log streams, event hooks.',
  forms: ['json'],
  unwrap,
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'consent_granted',
    'consent_denied',
    'consent_revoked',
    'code_issued',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'token_introspected',
    'token_revoked',
    'token_reuse_detected',
    'login',
    'login_failed',
    'mfa_challenged',
    'mfa_result',
    'session_ended',
    'session_revoked',
    'account_locked',
    'impersonation',
    'client_registered',
    'client_updated',
    'client_deleted',
    'client_credential_changed',
    'policy_changed',
    'key_rotated',
    'secret_read',
    'secret_changed',
    'policy_decided',
    'rate_limited',
    'risk_signal',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.raw_type'],
    ...REQUEST_FIELDS,
    ...['client.id', 'client.name', 'client.auth_method', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type'],
    ...['scopes_requested', 'scopes_granted', 'redirect_uri'],
    ...['tokens', 'tokens.role', 'tokens.type', 'tokens.ref', 'tokens.ref_kind'],
    ...['tokens.expires_at', 'session_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.country'],
    ...['net.user_agent', 'net.ua_family'],
    ...['http.route', 'http.status', 'http.duration_ms', 'policy.path', 'policy.decision'],
    ...['key.kid', 'key.operation', 'key.store', 'risk'],
    ...['corr.request_id', 'corr.transaction_id', 'ext'],
  ],
  blind_for: {
    refresh_family_fork: 'the token that a refresh was made from is not told',
  },
  confirmed_by: 'real_samples',
  references: [
    'Okta: System Log API; Event Types catalog; Event Hooks; Log Streaming',
    'Okta: Refresh access tokens and rotate refresh tokens',
    'RFC 6749, RFC 7009, RFC 7591, RFC 7662, RFC 8693',
  ],
  parse,
});
