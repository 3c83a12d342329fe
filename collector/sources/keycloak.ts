import { writeClientList } from '../../model/client_metadata.ts';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome, Phase } from '../../model/kinds.ts';
import { PKCE_METHODS } from '../../model/kinds.ts';
import { REQUEST_FIELDS, TOKEN_FIELDS } from './_field_groups.ts';
import {
  given,
  isJson,
  lookUp,
  numberOf,
  objectIn,
  oneOf,
  own,
  refuse,
  textIn,
  textList,
  TIME_ALLOWED,
  type Json,
} from './_reading.ts';
import { oauthErrorOf, REQUEST_ERRORS } from './_keycloak_errors.ts';
import { LINE_LENGTH_MAX, readJson, readLine, type KeycloakRecord } from './_keycloak_record.ts';

/** How a type without `_ERROR` is read. */
interface Mapping {
  readonly kind: EventKind;
  /** Kind where the type ends in `_ERROR`. */
  readonly failed?: EventKind;
  readonly phase?: Phase;
  readonly endpoint?: string;
  readonly grant_type?: string;
}

const token = (kind: EventKind, grant_type?: string): Mapping => ({
  kind,
  failed: 'token_request_failed',
  endpoint: 'token',
  ...(grant_type === undefined ? {} : { grant_type }),
});

const MAPPINGS: Readonly<Record<string, Mapping>> = {
  LOGIN: { kind: 'login', failed: 'login_failed', endpoint: 'authorization' },
  IDENTITY_PROVIDER_LOGIN: { kind: 'federation_handshake' },
  IDENTITY_PROVIDER_FIRST_LOGIN: { kind: 'federation_handshake' },
  IDENTITY_PROVIDER_POST_LOGIN: { kind: 'federation_handshake' },
  IDENTITY_PROVIDER_RESPONSE: { kind: 'federation_handshake' },
  LOGOUT: { kind: 'session_ended', endpoint: 'end_session' },
  CODE_TO_TOKEN: token('token_issued', 'authorization_code'),
  REFRESH_TOKEN: token('token_refreshed', 'refresh_token'),
  CLIENT_LOGIN: token('token_issued', 'client_credentials'),
  TOKEN_EXCHANGE: token('token_exchanged', 'urn:ietf:params:oauth:grant-type:token-exchange'),
  OAUTH2_DEVICE_CODE_TO_TOKEN: token(
    'token_issued',
    'urn:ietf:params:oauth:grant-type:device_code',
  ),
  AUTHREQID_TO_TOKEN: token('token_issued', 'urn:openid:params:grant-type:ciba'),
  JWT_BEARER: token('token_issued', 'urn:ietf:params:oauth:grant-type:jwt-bearer'),
  PERMISSION_TOKEN: token('token_issued', 'urn:ietf:params:oauth:grant-type:uma-ticket'),
  OAUTH2_EXTENSION_GRANT: token('token_issued'),
  OAUTH2_DEVICE_AUTH: { kind: 'device_authorization_requested', endpoint: 'device_authorization' },
  // The code was typed; who approves the device, and whether, is said by the LOGIN that follows.
  OAUTH2_DEVICE_VERIFY_USER_CODE: {
    kind: 'device_authorized',
    phase: 'attempt',
    endpoint: 'device',
  },
  PUSHED_AUTHORIZATION_REQUEST: { kind: 'par_pushed', endpoint: 'pushed_authorization_request' },
  INTROSPECT_TOKEN: { kind: 'token_introspected', endpoint: 'introspection' },
  VALIDATE_ACCESS_TOKEN: { kind: 'token_validated', failed: 'token_rejected' },
  USER_INFO_REQUEST: { kind: 'userinfo_accessed', endpoint: 'userinfo' },
  REVOKE_GRANT: { kind: 'token_revoked', endpoint: 'revocation' },
  GRANT_CONSENT: { kind: 'consent_granted', failed: 'consent_denied' },
  UPDATE_CONSENT: { kind: 'consent_granted', failed: 'consent_denied' },
  CLIENT_REGISTER: { kind: 'client_registered', endpoint: 'registration' },
  CLIENT_UPDATE: { kind: 'client_updated', endpoint: 'registration' },
  CLIENT_DELETE: { kind: 'client_deleted', endpoint: 'registration' },
  IMPERSONATE: { kind: 'impersonation' },
  INVALID_SIGNATURE: { kind: 'token_rejected', failed: 'token_rejected' },
  USER_DISABLED_BY_PERMANENT_LOCKOUT: { kind: 'account_locked' },
  USER_DISABLED_BY_TEMPORARY_LOCKOUT: { kind: 'account_locked' },
};

const REUSE_TEXT = 'Maximum allowed refresh token reuse exceeded';

interface Reading {
  readonly record: KeycloakRecord;
  readonly field: (name: string) => string | undefined;
  /** The type without `_ERROR`. */
  readonly base: string;
  readonly failed: boolean;
  readonly error: string;
  readonly time: bigint;
}

const ABSENT = new Set(['', 'null']);

function reading(record: KeycloakRecord, time: bigint): Reading {
  const field = (name: string): string | undefined => {
    const value = record.fields.get(name);
    return value === undefined || ABSENT.has(value) ? undefined : value;
  };
  const failedType = record.type.endsWith('_ERROR');
  return {
    record,
    field,
    base: failedType ? record.type.slice(0, -'_ERROR'.length) : record.type,
    failed: failedType || field('error') !== undefined,
    error: field('error') ?? '',
    time,
  };
}

/** What every event says, whatever its type. */
function common(r: Reading): Omit<AuthEventDraft, 'kind'> {
  const { field, record } = r;
  const session = sessionOf(r);
  const client = field('clientId');
  const grant = grantOf(r);
  return given({
    time: r.time,
    vendor_event_id: record.id,
    raw_type:
      record.type === '' ? `${record.operation} ${field('resourceType') ?? ''}` : record.type,
    instance: record.instance,
    source_tenant: field('realmName') ?? field('realmId'),
    client: given({ id: client, auth_method: field('client_auth_method') }),
    session: session === undefined ? undefined : { id: session },
    grant: grant === undefined ? undefined : { id: grant },
    corr: given({ trace_id: record.traceId, span_id: record.spanId }),
  });
}

/**
 * `code_id` is not a code: it is the id of the user session. `authSessionParentId` is the same for a person, but made up
 * for each request of a machine, which has no session.
 */
function sessionOf({ field }: Reading): string | undefined {
  return field('sessionId') ?? field('code_id');
}

/**
 * Within a session a client has one grant, which its refresh tokens share. An introspected token belongs to the client
 * that it was issued for, not to the one that asks.
 */
function grantOf(r: Reading): string | undefined {
  const session = sessionOf(r);
  const client = r.field('token_issued_for') ?? r.field('clientId');
  return session === undefined || client === undefined ? undefined : `${session}/${client}`;
}

function outcomeOf(r: Reading): Outcome {
  if (!r.failed) return 'success';
  if (r.error === 'authorization_pending' || r.error === 'slow_down') return 'pending';
  return r.error === 'rejected_by_user' || r.error === 'access_denied' ? 'denied' : 'failure';
}

function mappingOf(r: Reading): Mapping {
  const mapping = lookUp(MAPPINGS, r.base) ?? { kind: 'unclassified' };
  if (r.base === 'LOGIN' && isTokenRequest(r)) return token('token_issued', r.field('grant_type'));
  if (r.base === 'REVOKE_GRANT' && isConsentRevoked(r)) return { kind: 'consent_revoked' };
  if (r.base === 'LOGIN' && r.failed && REQUEST_ERRORS.has(r.error)) {
    return { ...mapping, failed: 'authorization_failed' };
  }
  if (r.base === 'LOGIN' && r.error === 'rejected_by_user') {
    return { ...mapping, failed: 'consent_denied' };
  }
  return mapping;
}

/** A person withdraws it from a client in the account console; a client that revokes its own refresh token is another thing. */
function isConsentRevoked({ field }: Reading): boolean {
  const revoked = field('revoked_client');
  return revoked !== undefined && revoked !== field('clientId');
}

/**
 * The introspection endpoint logs a caller that it does not know twice: why, and then that. The second record has no
 * reason, but a detail with the words of the answer.
 */
function isEcho(r: Reading): boolean {
  if (r.base !== 'INTROSPECT_TOKEN' || !r.failed) return false;
  return /^(?:Client a|A)uthentication failed\.$/.test(r.field('detail') ?? '');
}

/** A resource owner password grant is logged as LOGIN too, but with a grant type or a token. */
function isTokenRequest({ field }: Reading): boolean {
  return field('grant_type') === 'password' || field('token_id') !== undefined;
}

function userEvents(r: Reading): AuthEventDraft[] {
  const { field } = r;
  const mapping = mappingOf(r);
  const kind = r.failed ? (mapping.failed ?? mapping.kind) : mapping.kind;
  // Member by member: spreading objects of many shapes took more time than all the rest.
  const c = common(r);
  const { subject, actor } = principals(r);
  const { scopes_requested, scopes_granted } = scopes(r, kind);
  const event: AuthEventDraft = given({
    time: c.time,
    vendor_event_id: c.vendor_event_id,
    raw_type: c.raw_type,
    instance: c.instance,
    source_tenant: c.source_tenant,
    client: c.client,
    session: c.session,
    grant: c.grant,
    corr: c.corr,
    subject,
    actor,
    scopes_requested,
    scopes_granted,
    kind,
    phase: mapping.phase,
    outcome: outcomeOf(r),
    error: errorOf(r, kind),
    grant_type:
      mapping.endpoint === 'token' ? (field('grant_type') ?? mapping.grant_type) : undefined,
    response_type: field('response_type'),
    endpoint: mapping.endpoint,
    audience: textList(field('audience')),
    redirect_uri: field('redirect_uri'),
    pkce: oneOf(PKCE_METHODS, field('code_challenge_method')),
    binding: field('token_type') === 'DPoP' ? 'dpop' : undefined,
    net: netOf(r, mapping),
    tokens: tokensOf(r, kind),
    ext: extOf(r),
  });
  const requested = kind === 'authorization_failed' || r.error === 'client_not_found';
  const named = requested
    ? { ...event, ...given({ requested_client_id: field('clientId') }) }
    : event;
  const revoked = field('revoked_client');
  const first = revoked === undefined ? named : { ...named, client: { id: revoked } };
  return [first, ...companions(r, first)];
}

function errorOf(r: Reading, kind: EventKind): AuthEventDraft['error'] {
  if (!r.failed) return undefined;
  const reason = r.field('reason');
  const oauth = oauthErrorOf({ base: r.base, error: r.error, reason, kind });
  return given({ code: r.error, oauth_error: oauth, detail: reason });
}

function principals(r: Reading): Pick<AuthEventDraft, 'subject' | 'actor'> {
  const { field } = r;
  // A refused refresh names no user, but the subject of its token.
  const user = field('userId') ?? field('refresh_token_sub') ?? field('username');
  const impersonator = field('impersonator');
  return given({
    subject:
      user === undefined
        ? undefined
        : { id: user, type: r.base === 'CLIENT_LOGIN' ? ('service' as const) : ('user' as const) },
    actor: impersonator === undefined ? undefined : { id: impersonator, type: 'user' as const },
  });
}

/** Nothing is granted in these yet. */
const ASKING_KINDS: ReadonlySet<EventKind> = new Set([
  'login',
  'par_pushed',
  'device_authorization_requested',
  'device_authorized',
]);

/** Keycloak writes one `scope`: what was granted where it succeeded, what was asked for where it failed. */
function scopes(r: Reading, kind: EventKind): Partial<AuthEventDraft> {
  const list = textList(r.field('scope'));
  if (list === undefined) return {};
  return r.failed || ASKING_KINDS.has(kind) ? { scopes_requested: list } : { scopes_granted: list };
}

const BROWSER_ENDPOINTS = ['authorization', 'end_session', 'device'];

function netOf(r: Reading, mapping: Mapping): AuthEventDraft['net'] {
  const browser = BROWSER_ENDPOINTS.some((e) => e === mapping.endpoint);
  const machine = r.base === 'CLIENT_LOGIN' || r.base === 'INTROSPECT_TOKEN';
  return given({
    client_ip: r.field('ipAddress'),
    ip_role: browser ? 'end_user' : machine ? 'client_backend' : 'unknown',
  });
}

/** A token that a field names; undefined where the event does not have the field. */
function named(
  r: Reading,
  role: TokenDraft['role'],
  type: TokenDraft['type'],
  name: string,
  more: Pick<TokenDraft, 'parent' | 'expires_at'> & { isOfGrant?: boolean } = {},
): TokenDraft[] {
  const jti = r.field(name);
  if (jti === undefined) return [];
  const grant = type === 'refresh' || more.isOfGrant === true ? grantOf(r) : undefined;
  const family = grant === undefined ? undefined : { vendor_id: grant };
  return [given({ role, type, jti, family, parent: more.parent, expires_at: more.expires_at })];
}

function refreshedTokens(r: Reading): TokenDraft[] {
  const old = r.field('refresh_token_id');
  const parent = old === undefined ? undefined : { jti: old };
  const isRotated = r.field('updated_refresh_token_id') !== undefined;
  const ofParent = given({ parent });
  const access = given({ parent, expires_at: expiryOf(r), isOfGrant: true });
  return [
    ...named(r, isRotated ? 'consumed' : 'presented', 'refresh', 'refresh_token_id'),
    ...named(r, 'issued', 'refresh', 'updated_refresh_token_id', ofParent),
    ...named(r, 'issued', 'access', 'token_id', access),
  ];
}

function tokensOf(r: Reading, kind: EventKind): TokenDraft[] {
  switch (kind) {
    case 'token_refreshed':
      return refreshedTokens(r);
    case 'token_issued':
    case 'token_exchanged':
      return [
        ...named(r, 'issued', 'access', 'token_id', given({ expires_at: expiryOf(r) })),
        ...named(r, 'issued', 'refresh', 'refresh_token_id'),
      ];
    case 'token_request_failed':
      return r.base === 'REFRESH_TOKEN' ? named(r, 'presented', 'refresh', 'refresh_token_id') : [];
    case 'token_revoked':
      return [
        ...named(r, 'revoked', 'access', 'token_id'),
        ...named(r, 'revoked', 'refresh', 'refresh_token_id'),
      ];
    case 'token_introspected':
      return named(r, 'presented', introspectedType(r), 'token_id');
    case 'token_validated':
    case 'token_rejected':
    case 'userinfo_accessed':
      return named(r, 'presented', 'access', 'token_id');
    default:
      return [];
  }
}

/** `token_type` is the `typ` claim of the introspected token. */
function introspectedType({ field }: Reading): TokenDraft['type'] {
  return REFRESH_TYPES.has(field('token_type') ?? '') ? 'refresh' : 'access';
}
const REFRESH_TYPES = new Set(['Refresh', 'Offline']);

/** `access_token_expiration_time` is a lifetime in seconds. */
function expiryOf(r: Reading): bigint | undefined {
  const seconds = numberOf(r.field('access_token_expiration_time'));
  if (seconds === undefined || seconds <= 0 || seconds > 1e9) return undefined;
  return r.time + BigInt(Math.trunc(seconds)) * 1_000_000_000n;
}

/** Details that say something of their own. */
const EXT_FIELDS = [
  'auth_method',
  'auth_type',
  'consent',
  'identity_provider',
  'refresh_token_type',
  'response_mode',
  'requested_token_type',
  'subject_issuer',
  'subject_token_client_id',
  'token_issued_for',
];

function extOf(r: Reading): Record<string, string> {
  const ext: Record<string, string> = {};
  for (const name of EXT_FIELDS) {
    const text = r.field(name);
    if (text !== undefined) ext[name] = text;
  }
  return ext;
}

/** More events that the one record tells of: the code that was redeemed, the reuse that was noticed, what was consented to. */
function companions(r: Reading, event: AuthEventDraft): AuthEventDraft[] {
  if (r.base === 'LOGIN') return [...approvalsOf(r, event)];
  if (r.base === 'CODE_TO_TOKEN') {
    const refusedCode = event.error?.oauth_error === 'invalid_grant';
    if (r.failed && !refusedCode) return [];
    return [{ ...event, kind: 'code_redeemed', tokens: [], sub_id: 'code_redeemed' }];
  }
  if (r.base === 'REFRESH_TOKEN' && r.failed && isReuse(r)) {
    return [
      {
        ...event,
        kind: 'token_reuse_detected',
        outcome: 'failure',
        sub_id: 'token_reuse_detected',
      },
    ];
  }
  return [];
}

/**
 * What a person approved on the pages of a login, for which Keycloak writes no event of its own: the consent, where the
 * page asked for it this time, and the device. Only the login that approves a device goes to no redirect URI.
 */
function approvalsOf(r: Reading, event: AuthEventDraft): AuthEventDraft[] {
  if (event.kind !== 'login' && event.kind !== 'consent_denied') return [];
  const as = (kind: EventKind): AuthEventDraft => ({ ...event, kind, sub_id: kind });
  const isDevice =
    r.field('redirect_uri') === undefined &&
    r.field('response_type') === 'code' &&
    r.field('auth_method') === 'openid-connect';
  return [
    ...(r.field('consent') === 'consent_granted' ? [as('consent_granted')] : []),
    ...(isDevice ? [{ ...as('device_authorized'), endpoint: 'device' }] : []),
  ];
}

function isReuse({ field }: Reading): boolean {
  return [field('reason'), field('error')].some((t) => t?.includes(REUSE_TEXT) === true);
}

const POLICY_RESOURCES = new Set([
  'REALM',
  'AUTH_FLOW',
  'AUTH_EXECUTION',
  'AUTH_EXECUTION_FLOW',
  'AUTHENTICATOR_CONFIG',
  'REQUIRED_ACTION',
  'CLIENT_SCOPE',
  'CLIENT_SCOPE_MAPPING',
  'CLIENT_SCOPE_CLIENT_MAPPING',
  'REALM_SCOPE_MAPPING',
  'PROTOCOL_MAPPER',
  'COMPONENT',
  'IDENTITY_PROVIDER',
  'AUTHORIZATION_POLICY',
  'AUTHORIZATION_RESOURCE',
  'AUTHORIZATION_RESOURCE_SERVER',
  'AUTHORIZATION_SCOPE',
]);

const CLIENT_OPERATIONS: Readonly<Record<string, EventKind>> = {
  CREATE: 'client_registered',
  UPDATE: 'client_updated',
  DELETE: 'client_deleted',
};

/** Keycloak logs the removal of a consent as an ACTION. */
const REVOKED_CONSENT = /^users\/[^/]+\/consents\/([^/]{1,256})$/;

function adminKind(operation: string, resource: string, path: string): EventKind {
  if (/\/(?:client-secret|certificates)(?:\/|$)/.test(path)) return 'client_credential_changed';
  if (/\/impersonation$/.test(path)) return 'impersonation';
  if (/(?:^|\/)logout(?:-all)?$/.test(path) || resource === 'USER_SESSION')
    return 'session_revoked';
  if (REVOKED_CONSENT.test(path) && operation !== 'CREATE') return 'consent_revoked';
  if (resource === 'CLIENT') return lookUp(CLIENT_OPERATIONS, operation) ?? 'unclassified';
  return POLICY_RESOURCES.has(resource) ? 'policy_changed' : 'unclassified';
}

/** Keycloak's names of a client's flows, and the grants that they allow (RFC 7591 section 2). */
const GRANT_OF_FLOW: readonly (readonly [flow: string, grant: string])[] = [
  ['standardFlowEnabled', 'authorization_code'],
  ['implicitFlowEnabled', 'implicit'],
  ['directAccessGrantsEnabled', 'password'],
  ['serviceAccountsEnabled', 'client_credentials'],
];
const DEVICE_FLOW = 'oauth2.device.authorization.grant.enabled';
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';

/** How a client of one kind of authenticator authenticates; `client-secret` may use the header or the body. */
const METHOD_OF_AUTHENTICATOR: Readonly<Record<string, string>> = {
  'client-jwt': 'private_key_jwt',
  'client-secret-jwt': 'client_secret_jwt',
  'client-x509': 'tls_client_auth',
};

/**
 * A client's representation in the words of model/client_metadata.ts. What it leaves out is not stated: an update may
 * carry a part of it. Optional scopes count as registered, since the client gets them by asking.
 */
function clientMetadata(client: Json): Record<string, string> {
  const flag = (name: string): boolean | undefined => {
    const value = own(client, name);
    return typeof value === 'boolean' ? value : undefined;
  };
  const isPublic = flag('publicClient');
  const authenticator = textIn(client, 'clientAuthenticatorType') ?? '';
  const method = lookUp(METHOD_OF_AUTHENTICATOR, authenticator);
  const root = textIn(client, 'rootUrl') ?? '';
  const uris = textList(own(client, 'redirectUris'))?.map((uri) =>
    uri.startsWith('/') ? `${root.replace(/\/$/, '')}${uri}` : uri,
  );
  const scopes = textList(own(client, 'defaultClientScopes'));
  const optional = textList(own(client, 'optionalClientScopes')) ?? [];
  return given({
    ...(uris === undefined ? {} : writeClientList('redirect_uris', uris)),
    ...(scopes === undefined ? {} : writeClientList('scope', [...scopes, ...optional])),
    ...grantTypesOf(client, flag),
    client_type: isPublic === undefined ? undefined : isPublic ? 'public' : 'confidential',
    token_endpoint_auth_method:
      isPublic === true ? 'none' : isPublic === false ? method : undefined,
    secret_held: isPublic === false && authenticator === 'client-secret' ? 'true' : undefined,
  });
}

/** All flows or none: a representation without them says nothing about grants. */
function grantTypesOf(
  client: Json,
  flag: (name: string) => boolean | undefined,
): Readonly<Record<string, string>> {
  if (GRANT_OF_FLOW.some(([flow]) => flag(flow) === undefined)) return {};
  const grants = GRANT_OF_FLOW.filter(([flow]) => flag(flow) === true).map(([, grant]) => grant);
  const isDevice = textIn(objectIn(client, 'attributes'), DEVICE_FLOW) === 'true';
  return writeClientList('grant_types', isDevice ? [...grants, DEVICE_GRANT] : grants);
}

/** Admin events: who changed which resource of the realm. `userId` is the administrator. */
function adminEvent(r: Reading): AuthEventDraft {
  const { field, record } = r;
  const path = field('resourcePath') ?? '';
  const admin = field('userId');
  const target = /^users\/([^/]{1,128})/.exec(path)?.[1];
  const resource = field('resourceType') ?? '';
  const kind = adminKind(record.operation, resource, path);
  const clientTarget = /^clients\/([^/]{1,128})/.exec(path)?.[1];
  const consentTo = REVOKED_CONSENT.exec(path)?.[1];
  const changed = record.representation ?? {};
  return given({
    ...common(r),
    kind,
    outcome: outcomeOf(r),
    error: errorOf(r, kind),
    client: given({
      id:
        clientTarget === undefined
          ? (consentTo ?? field('clientId'))
          : (textIn(changed, 'clientId') ?? clientTarget),
      // What lies below a client, such as a mapper, has a name of its own.
      name: resource === 'CLIENT' ? textIn(changed, 'name') : undefined,
    }),
    subject: target === undefined ? undefined : { id: target, type: 'user' as const },
    actor: admin === undefined ? undefined : { id: admin, type: 'user' as const },
    net: given({ client_ip: field('ipAddress'), ip_role: 'end_user' as const }),
    ext: given({
      // The ids of users in a path are pseudonymised as the subject.
      resource_path: path.replace(/^users\/[^/]+/, 'users/*'),
      ...(clientTarget === undefined ? {} : clientMetadata(changed)),
    }),
  });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text' && record.line.length > LINE_LENGTH_MAX) {
    return refuse('too_large', `line: longer than ${LINE_LENGTH_MAX} characters`);
  }
  if (record.form === 'json' && !isJson(record.value)) {
    return refuse('not_an_object', 'record: must be a JSON object');
  }
  const read =
    record.form === 'text'
      ? readLine(record.line)
      : readJson(record.value as Record<string, unknown>);
  if (read === undefined) {
    return refuse(
      'unrecognised_record',
      'record: no Keycloak event; type or operationType is needed',
    );
  }
  if (!read.timeGiven) return refuse('missing_field', 'time: is required');
  if (read.time === undefined) return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}`);
  const r = reading(read, read.time);
  if (isEcho(r)) return { ok: true, events: [] };
  return { ok: true, events: read.type === '' ? [adminEvent(r)] : userEvents(r) };
}

/**
 * Keycloak's user and admin events, as the jboss-logging listener prints them (unquoted, or quoted since
 * 26), as the JSON console writes them, or as an event listener posts them. Times without a zone are taken
 * as UTC. Admin events need `include-representation` to say what was changed.
 *
 * The refresh family is the client's part of the user session, for Keycloak names none. An old refresh token
 * counts as consumed when Keycloak made a new one; where the realm does not revoke refresh tokens it stays
 * valid, and its second use is then no sign of theft.
 *
 * What Keycloak does not log (seen in 26.4 and 26.7): the code or device code, the token that is exchanged or
 * used at userinfo, the PKCE method, device authorization and pushed authorization requests that succeed, polls
 * that have to wait. A public client is logged with the authenticator that it would have, so `client-secret`
 * does not prove that one was used. In log lines the realm of an admin event is the administrator's.
 */
export default defineSource({
  id: 'keycloak',
  title: 'Keycloak',
  vendor: 'keycloak',
  product: 'keycloak',
  description: 'User and admin events of Keycloak: log lines, JSON console, webhook listeners.',
  forms: ['json', 'text'],
  kinds: [
    'authorization_failed',
    'par_pushed',
    'consent_granted',
    'consent_denied',
    'consent_revoked',
    'code_redeemed',
    'device_authorization_requested',
    'device_authorized',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'token_validated',
    'token_rejected',
    'token_introspected',
    'userinfo_accessed',
    'token_revoked',
    'token_reuse_detected',
    'login',
    'login_failed',
    'session_ended',
    'session_revoked',
    'account_locked',
    'impersonation',
    'client_registered',
    'client_updated',
    'client_deleted',
    'client_credential_changed',
    'policy_changed',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...[
      'event_id',
      'time',
      'kind',
      'outcome',
      'source.instance',
      'source.tenant',
      'source.raw_type',
    ],
    ...REQUEST_FIELDS,
    ...['client.id', 'client.auth_method', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type', 'audience'],
    ...['scopes_requested', 'scopes_granted', 'redirect_uri'],
    ...TOKEN_FIELDS,
    ...['tokens.parent_ref', 'tokens.expires_at', 'session_ref', 'grant_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'ext'],
  ],
  confirmed_by: 'real_server',
  references: [
    'Keycloak Server Administration Guide: Configuring auditing to track events',
    'RFC 6749, RFC 7009, RFC 7662, RFC 8628, RFC 8693, RFC 9126',
  ],
  parse,
});
