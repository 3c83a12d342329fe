import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft, TokenIdentity } from '../../model/draft.ts';
import {
  IP_ROLES,
  PKCE_METHODS,
  TOKEN_ROLES,
  type EventKind,
  type Outcome,
  type TokenRole,
  type TokenType,
} from '../../model/kinds.ts';
import { Secret } from '../../model/secret.ts';
import { REQUEST_FIELDS, GRANT_FIELDS, TOKEN_FIELDS } from './_field_groups.ts';
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

/** Models named in one record. */
const MODELS_MAX = 20;

interface Mapping {
  readonly kind: EventKind;
  readonly endpoint?: string;
  readonly outcome?: Outcome;
  /** `attempt` marks the model's own event beside the `grant.success` that counts. */
  readonly phase?: 'attempt';
  /** What happens to the record's `model`. */
  readonly role?: TokenRole;
  readonly grant_type?: string;
}

const at = (endpoint: string, kind: EventKind, outcome: Outcome = 'success'): Mapping => ({
  kind,
  endpoint,
  outcome,
});
const model = (kind: EventKind, role: TokenRole, phase?: 'attempt'): Mapping => ({
  kind,
  role,
  outcome: 'success',
  ...(phase === undefined ? {} : { phase }),
});

const MAPPINGS: Readonly<Record<string, Mapping>> = {
  'authorization.accepted': {
    kind: 'authorization_requested',
    endpoint: 'authorization',
    phase: 'attempt',
    outcome: 'pending',
  },
  'authorization.success': at('authorization', 'authorization_requested'),
  'authorization.error': at('authorization', 'authorization_failed', 'failure'),
  'pushed_authorization_request.success': at('pushed_authorization_request', 'par_pushed'),
  'pushed_authorization_request.error': at('pushed_authorization_request', 'par_pushed', 'failure'),
  'device_authorization.success': at('device_authorization', 'device_authorization_requested'),
  'device_authorization.error': at(
    'device_authorization',
    'device_authorization_requested',
    'failure',
  ),
  'backchannel_authentication.success': at(
    'backchannel_authentication',
    'backchannel_auth_requested',
  ),
  'backchannel_authentication.error': at(
    'backchannel_authentication',
    'backchannel_auth_requested',
    'failure',
  ),
  'userinfo.success': at('userinfo', 'userinfo_accessed'),
  'userinfo.error': at('userinfo', 'userinfo_accessed', 'failure'),
  'introspection.success': at('introspection', 'token_introspected'),
  'introspection.error': at('introspection', 'token_introspected', 'failure'),
  'revocation.success': at('revocation', 'token_revoked'),
  'revocation.error': at('revocation', 'token_revoked', 'failure'),
  'end_session.success': at('end_session', 'session_ended'),
  'end_session.error': at('end_session', 'session_ended', 'failure'),
  'backchannel.success': { kind: 'session_ended', outcome: 'success', phase: 'attempt' },
  'backchannel.error': { kind: 'session_ended', outcome: 'failure', phase: 'attempt' },
  'registration_create.success': at('registration', 'client_registered'),
  'registration_create.error': at('registration', 'client_registered', 'failure'),
  'registration_update.success': at('registration', 'client_updated'),
  'registration_update.error': at('registration', 'client_updated', 'failure'),
  'registration_delete.success': at('registration', 'client_deleted'),
  'registration_delete.error': at('registration', 'client_deleted', 'failure'),
  'grant.saved': { kind: 'consent_granted', outcome: 'success' },
  'grant.destroyed': { kind: 'consent_revoked', outcome: 'success' },
  'grant.revoked': { kind: 'grant_revoked', outcome: 'success' },
  'session.destroyed': { kind: 'session_ended', outcome: 'success', phase: 'attempt' },
  'authorization_code.saved': model('code_issued', 'issued'),
  'authorization_code.consumed': model('code_redeemed', 'consumed'),
  'access_token.saved': model('token_issued', 'issued', 'attempt'),
  'access_token.issued': model('token_issued', 'issued', 'attempt'),
  'access_token.destroyed': model('token_revoked', 'revoked', 'attempt'),
  'refresh_token.saved': model('token_issued', 'issued', 'attempt'),
  'refresh_token.consumed': model('token_refreshed', 'consumed', 'attempt'),
  'refresh_token.destroyed': model('token_revoked', 'revoked', 'attempt'),
  'client_credentials.saved': model('token_issued', 'issued', 'attempt'),
  'client_credentials.issued': model('token_issued', 'issued', 'attempt'),
  'client_credentials.destroyed': model('token_revoked', 'revoked', 'attempt'),
  'device_code.saved': model('device_authorization_requested', 'issued', 'attempt'),
  'device_code.consumed': model('code_redeemed', 'consumed'),
  'pushed_authorization_request.saved': model('par_pushed', 'issued', 'attempt'),
};

/** Upkeep of the provider's own storage; says nothing about what a client or a person did. */
const NOISE = new Set([
  'session.saved',
  'interaction.saved',
  'interaction.started',
  'interaction.ended',
  'interaction.destroyed',
  'replay_detection.saved',
  'replay_detection.destroyed',
  'authorization_code.destroyed',
  'device_code.destroyed',
  'pushed_authorization_request.consumed',
  'pushed_authorization_request.destroyed',
  'backchannel_authentication_request.saved',
  'backchannel_authentication_request.consumed',
  'backchannel_authentication_request.destroyed',
]);

const TOKEN_TYPE_OF_MODEL: Readonly<Record<string, TokenType>> = {
  AccessToken: 'access',
  ClientCredentials: 'access',
  RefreshToken: 'refresh',
  AuthorizationCode: 'code',
  DeviceCode: 'device_code',
  PushedAuthorizationRequest: 'par',
  IdToken: 'id',
};
const TOKEN_TYPE_OF_EVENT: Readonly<Record<string, TokenType>> = {
  access_token: 'access',
  client_credentials: 'access',
  refresh_token: 'refresh',
  authorization_code: 'code',
  device_code: 'device_code',
  pushed_authorization_request: 'par',
};

/** The `jti` of an opaque token IS the token; only a JWT's is a name. */
function identityOf(m: Json): TokenIdentity {
  const value = textIn(m, 'value');
  if (value !== undefined) return { secret: new Secret(value) };
  const jti = textIn(m, 'jti');
  if (jti === undefined) return {};
  return textIn(m, 'format') === 'jwt' ? { jti } : { secret: new Secret(jti) };
}

/**
 * The rotation family of a refresh token. The provider names none, and one grant may have several chains; the
 * time of the first token (`iiat`) and the nonce are carried along by every rotation and tell them apart.
 */
function familyOf(refresh: Json | undefined): string | undefined {
  if (refresh === undefined) return undefined;
  const grant = textIn(refresh, 'grantId');
  const first = numberOf(own(refresh, 'iiat'));
  if (grant === undefined || first === undefined) return grant;
  return [grant, first, textIn(refresh, 'nonce') ?? ''].join(' ');
}

function tokenOf(
  m: Json,
  role: TokenRole,
  type: TokenType,
  family: string | undefined,
): TokenDraft {
  const parent = objectIn(m, 'parent');
  const { secret, jti } = identityOf(m);
  return given({
    role,
    type,
    secret,
    jti,
    family: family === undefined ? undefined : { vendor_id: family },
    parent: Object.keys(parent).length === 0 ? undefined : identityOf(parent),
    counter: type === 'refresh' ? numberOf(own(m, 'rotations')) : undefined,
    issued_at: timeNs(own(m, 'iat')),
    expires_at: timeNs(own(m, 'exp')),
  });
}

/** `tokens`: [{role, kind: 'AccessToken' ..., jti, format, grantId, rotations, iat, exp, parent}]. */
function listedTokens(value: Json): TokenDraft[] {
  const list = own(value, 'tokens');
  const models = Array.isArray(list)
    ? (list as readonly unknown[]).slice(0, MODELS_MAX).filter(isJson)
    : [];
  const refresh = models.find((m) => textIn(m, 'kind') === 'RefreshToken');
  return models.map((m) => {
    const type = lookUp(TOKEN_TYPE_OF_MODEL, textIn(m, 'kind') ?? '') ?? 'unknown';
    // An access token that came with a refresh token ends with its family.
    const chain = type === 'refresh' ? m : type === 'access' ? refresh : undefined;
    return tokenOf(m, oneOf(TOKEN_ROLES, own(m, 'role')) ?? 'issued', type, familyOf(chain));
  });
}

function tokensOf(r: Reading, mapping: Mapping): TokenDraft[] {
  const listed = listedTokens(r.value);
  if (mapping.role === undefined || Object.keys(r.model).length === 0) return listed;
  const name = r.event.slice(0, r.event.indexOf('.'));
  const type =
    lookUp(TOKEN_TYPE_OF_MODEL, textIn(r.model, 'kind') ?? '') ??
    lookUp(TOKEN_TYPE_OF_EVENT, name) ??
    'unknown';
  const family = type === 'refresh' ? familyOf(r.model) : undefined;
  return [tokenOf(r.model, mapping.role, type, family), ...listed];
}

interface Reading {
  readonly value: Json;
  readonly event: string;
  readonly time: bigint;
  readonly model: Json;
  readonly params: Json;
  readonly request: Json;
  readonly error: Json;
}

/** grant.success and grant.error are mapped by the grant type. */
function mappingOf(r: Reading): Mapping {
  const known = lookUp(MAPPINGS, r.event);
  if (known !== undefined) return known;
  if (r.event === 'grant.error') return at('token', 'token_request_failed', 'failure');
  if (r.event !== 'grant.success') {
    return { kind: 'unclassified', outcome: r.event.endsWith('error') ? 'failure' : 'unknown' };
  }
  switch (grantTypeOf(r)) {
    case 'refresh_token':
      return at('token', 'token_refreshed');
    case 'urn:ietf:params:oauth:grant-type:token-exchange':
      return at('token', 'token_exchanged');
    default:
      return at('token', 'token_issued');
  }
}

function grantTypeOf(r: Reading): string | undefined {
  return textIn(r.params, 'grant_type') ?? textIn(r.value, 'grant_type');
}

function outcomeOf(r: Reading, mapping: Mapping): Outcome {
  switch (textIn(r.error, 'error')) {
    case 'access_denied':
      return 'denied';
    case 'authorization_pending':
    case 'slow_down':
      return 'pending';
    default:
      return mapping.outcome ?? 'unknown';
  }
}

/** The provider's words for a failed proof of RFC 7636 section 4.6. */
const VERIFIER =
  /^code_verifier (?:must be provided|does not match code_challenge)$|^PKCE verification failed$/;

function errorCodeOf(r: Reading, description = '', detail = ''): string | undefined {
  if (description.includes('redirect_uri')) return 'invalid_redirect_uri';
  if (VERIFIER.test(detail)) return 'pkce_verification_failed';
  return textIn(r.error, 'code', 'name');
}

function errorOf(r: Reading): AuthEventDraft['error'] {
  const description = textIn(r.error, 'error_description');
  const detail = textIn(r.error, 'error_detail', 'detail');
  const both = [description, detail].filter((t) => t !== undefined).join(': ');
  const code = textIn(r.error, 'error');
  return given({
    oauth_error: code,
    code: errorCodeOf(r, description, detail),
    detail: both === '' ? undefined : both,
  });
}

function bindingOf(m: Json): Partial<AuthEventDraft> {
  const jkt = textIn(m, 'jkt');
  if (jkt !== undefined) return { binding: 'dpop', binding_thumbprint: jkt };
  const x5t = textIn(m, 'x5t#S256');
  return x5t === undefined ? {} : { binding: 'mtls', binding_thumbprint: x5t };
}

function subjectOf(r: Reading): AuthEventDraft['subject'] {
  const account = textIn(r.model, 'accountId') ?? textIn(r.value, 'account_id');
  if (account !== undefined) return { id: account, type: 'user' };
  return grantTypeOf(r) === 'client_credentials'
    ? given({ id: clientOf(r), type: 'client' as const })
    : undefined;
}

function clientOf(r: Reading): string | undefined {
  return (
    textIn(r.value, 'client_id') ??
    textIn(r.model, 'clientId') ??
    textIn(objectIn(r.value, 'client'), 'client_id')
  );
}

/** Registered metadata (RFC 7591 section 2), as far as detectors need it. */
function extOf(r: Reading): Record<string, string> {
  const client = objectIn(r.value, 'client');
  const joined = (name: string): string | undefined => textList(own(client, name))?.join(' ');
  const active = own(r.value, 'active');
  return given({
    redirect_uris: joined('redirect_uris'),
    scope: joined('scope'),
    grant_types: joined('grant_types'),
    response_types: joined('response_types'),
    token_endpoint_auth_method: joined('token_endpoint_auth_method'),
    active: typeof active === 'boolean' ? String(active) : undefined,
    reason: textIn(r.value, 'reason'),
  });
}

function netOf(r: Reading): AuthEventDraft['net'] {
  return given({
    client_ip: textIn(r.request, 'ip'),
    ip_role: oneOf(IP_ROLES, own(r.request, 'ip_role')),
    user_agent: textIn(r.request, 'user_agent'),
  });
}

/** PKCE method of the code (RFC 7636); a code without a challenge was asked for without PKCE. */
function pkceOf(r: Reading): AuthEventDraft['pkce'] {
  const method =
    textIn(r.model, 'codeChallengeMethod') ?? textIn(r.params, 'code_challenge_method');
  if (method !== undefined) return oneOf(PKCE_METHODS, method);
  const code = r.event.startsWith('authorization_code.');
  return code && Object.keys(r.model).length > 0 && own(r.model, 'codeChallenge') === undefined
    ? 'none'
    : undefined;
}

function draftOf(r: Reading): AuthEventDraft {
  const mapping = mappingOf(r);
  const session = textIn(r.model, 'sessionUid') ?? textIn(r.value, 'session_uid');
  const grant = textIn(r.model, 'grantId') ?? textIn(r.value, 'grant_id');
  const scope = textList(own(r.model, 'scope') ?? own(r.value, 'scope'));
  return given({
    kind: mapping.kind,
    time: r.time,
    vendor_event_id: textIn(r.value, 'id'),
    raw_type: r.event,
    instance: textIn(r.value, 'instance'),
    phase: mapping.phase ?? 'single',
    outcome: outcomeOf(r, mapping),
    error: errorOf(r),
    grant_type: grantTypeOf(r),
    response_type: textIn(r.params, 'response_type'),
    endpoint: mapping.endpoint,
    client: given({
      id: clientOf(r),
      name: textIn(objectIn(r.value, 'client'), 'client_name'),
      auth_method: textIn(r.value, 'client_auth_method'),
    }),
    requested_client_id: textIn(r.params, 'client_id'),
    subject: subjectOf(r),
    issuer: textIn(r.value, 'issuer'),
    audience: textList(own(r.model, 'aud')),
    resource: textList(own(r.params, 'resource')),
    scopes_requested: textList(own(r.params, 'scope')),
    scopes_granted: scope,
    redirect_uri: textIn(r.model, 'redirectUri') ?? textIn(r.params, 'redirect_uri'),
    pkce: pkceOf(r),
    ...bindingOf(r.model),
    tokens: tokensOf(r, mapping),
    session: session === undefined ? undefined : { id: session },
    grant: grant === undefined ? undefined : { id: grant },
    net: netOf(r),
    http: given({
      method: textIn(r.request, 'method'),
      route: textIn(r.request, 'path'),
      status: numberOf(own(r.request, 'status')),
      duration_ms: numberOf(own(r.request, 'duration_ms')),
    }),
    acr: textIn(r.model, 'acr'),
    amr: textList(own(r.model, 'amr')),
    corr: given({
      trace_id: textIn(r.request, 'trace_id'),
      span_id: textIn(r.request, 'span_id'),
      request_id: textIn(r.request, 'request_id'),
    }),
    ext: extOf(r),
  });
}

/** What the provider says when a code or a refresh token comes a second time. */
const REUSE = /already (?:used|consumed)/i;

/** A refused code is a failed redemption as well; a token that comes again was reused. */
function companions(r: Reading, event: AuthEventDraft): AuthEventDraft[] {
  if (r.event !== 'grant.error' || event.error?.oauth_error !== 'invalid_grant') return [];
  const more: AuthEventDraft[] = [];
  if (event.grant_type === 'authorization_code') {
    const tokens = event.tokens?.map((t): TokenDraft => ({ ...t, role: 'consumed' })) ?? [];
    more.push({ ...event, kind: 'code_redeemed', tokens, sub_id: 'code_redeemed' });
  }
  if (REUSE.test(event.error.detail ?? '')) {
    more.push({ ...event, kind: 'token_reuse_detected', sub_id: 'token_reuse_detected' });
  }
  return more;
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const event = textIn(value, 'event');
  if (event === undefined)
    return refuse('missing_field', 'event: is required (name of the emitted event)');
  if (event.length > 100) return refuse('invalid_field', 'event: longer than 100 characters');
  const rawTime = own(value, 'time');
  if (rawTime === undefined) return refuse('missing_field', 'time: is required');
  const time = timeNs(rawTime);
  if (time === undefined) return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}`);
  if (NOISE.has(event)) return { ok: true, events: [] };
  const reading: Reading = {
    value,
    event,
    time,
    model: objectIn(value, 'model'),
    params: objectIn(value, 'params'),
    request: objectIn(value, 'request'),
    error: objectIn(value, 'error'),
  };
  const draft = draftOf(reading);
  return { ok: true, events: [draft, ...companions(reading, draft)] };
}

/**
 * Events of node oidc-provider, as a listener posts them:
 *
 *     { event, time, id?, issuer?, instance?, client_id?, client_auth_method?, account_id?, session_uid?,
 *       grant_id?, scope?, active?,
 *       params?: { client_id, grant_type, scope, redirect_uri, response_type, code_challenge_method, resource },
 *       request?: { ip, ip_role, user_agent, method, path, status, duration_ms, request_id, trace_id, span_id },
 *       error?: { error, error_description, error_detail },
 *       model?: { kind, jti, format, grantId, sessionUid, clientId, accountId, scope, exp, iat, iiat, nonce, rotations, aud,
 *                 redirectUri, codeChallenge, codeChallengeMethod, jkt, 'x5t#S256', acr, amr },
 *       tokens?: [{ role, kind, jti | value, format, grantId, iiat, nonce, rotations, iat, exp,
 *                   parent: { jti | value } }],
 *       client?: { client_id, client_name, redirect_uris, scope, grant_types, token_endpoint_auth_method } }
 *
 * `event` is the emitter's name, plus `introspection.success`, `revocation.success` and `userinfo.success`,
 * for which the provider emits nothing (a middleware posts them). `grant.success` carries the tokens of the
 * response in `tokens` and is the one event that counts; the events of the models beside it have phase
 * `attempt`. A `jti` is taken as the bearer secret unless `format` is `jwt`.
 */
export default defineSource({
  id: 'oidc_provider',
  title: 'node oidc-provider',
  vendor: 'panva',
  product: 'oidc-provider',
  description: 'Events of node oidc-provider, posted by a listener on its event emitter.',
  forms: ['json'],
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'par_pushed',
    'consent_granted',
    'consent_revoked',
    'code_issued',
    'code_redeemed',
    'device_authorization_requested',
    'backchannel_auth_requested',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'token_introspected',
    'userinfo_accessed',
    'token_revoked',
    'grant_revoked',
    'token_reuse_detected',
    'session_ended',
    'client_registered',
    'client_updated',
    'client_deleted',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.instance', 'source.raw_type'],
    ...REQUEST_FIELDS,
    ...['client.id', 'client.name', 'client.auth_method', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'issuer', 'audience', 'resource'],
    ...GRANT_FIELDS,
    ...TOKEN_FIELDS,
    ...['tokens.parent_ref', 'tokens.counter', 'tokens.issued_at', 'tokens.expires_at'],
    ...['session_ref', 'grant_ref', 'net.client_ip', 'net.ip_role', 'net.network'],
    ...['net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms', 'acr', 'amr'],
    ...['corr.trace_id', 'corr.span_id', 'corr.request_id', 'ext'],
  ],
  confirmed_by: 'real_server',
  references: [
    'oidc-provider 9: docs/events.md',
    'RFC 6749, RFC 7009, RFC 7591, RFC 7662, RFC 8628, RFC 9126, RFC 9449',
  ],
  parse,
});
