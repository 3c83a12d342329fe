import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type {
  AuthEventDraft,
  PrincipalDraft,
  TokenDraft,
  TokenIdentity,
} from '../../model/draft.ts';
import type { EventKind, SubjectType } from '../../model/kinds.ts';
import { Secret } from '../../model/secret.ts';
import {
  given,
  isJson,
  type Json,
  numberOf,
  objectIn,
  own,
  refuse,
  textIn,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';
import { routeOf, type VaultRoute } from './_vault_paths.ts';

/** What Vault writes instead of a secret: an HMAC under the salt of one audit device. */
const HMAC = 'hmac-sha256:';
const NS_PER_S = 1_000_000_000n;
const TTL_S_MAX = 1e9;

interface Reading {
  readonly value: Json;
  readonly isAttempt: boolean;
  readonly time: bigint;
  readonly request: Json;
  readonly data: Json;
  readonly response: Json;
  /** Who asks, as far as a token says it. */
  readonly auth: Json;
  /** What the response gave: the new token of a login or of `auth/token/create`. */
  readonly newAuth: Json;
  readonly route: VaultRoute;
  readonly error: string | undefined;
}

const isMasked = (text: string | undefined): boolean => text?.startsWith(HMAC) === true;

/** Text that Vault did not mask. */
function clearText(value: Json, name: string): string | undefined {
  const text = textIn(value, name);
  return isMasked(text) ? undefined : text;
}

/**
 * A token by Vault's own HMAC, which is the same wherever one audit device writes it; or the token itself, where
 * the device is set to `log_raw`.
 */
function identityOf(token: string | undefined): TokenIdentity | undefined {
  if (token === undefined) return undefined;
  return isMasked(token)
    ? { vendor_hash: token.slice(HMAC.length) }
    : { secret: new Secret(token) };
}

/** Errors in words of our own; Vault has none for programs. */
const ERRORS: readonly (readonly [pattern: RegExp, code: string])[] = [
  [/permission denied/i, 'permission_denied'],
  [/bad token|invalid token|missing client token|token not found/i, 'invalid_token'],
  [
    /invalid (?:credentials|username|password|user|role|secret)|login failed/i,
    'invalid_credentials',
  ],
  [/internal (?:server )?error/i, 'server_error'],
];

function errorOf(r: Reading): AuthEventDraft['error'] {
  if (r.error === undefined) return undefined;
  const detail = r.error.slice(0, 2_000);
  const code = ERRORS.find(([pattern]) => pattern.test(detail))?.[1] ?? 'error';
  return isMasked(detail) ? { code } : { code, detail };
}

function kindOf(r: Reading): EventKind {
  const { kind, failed } = r.route;
  return r.error !== undefined && !r.isAttempt ? (failed ?? kind) : kind;
}

/** How somebody logged in tells whether a person did. */
const PEOPLE = /^(?:userpass|ldap|oidc|okta|github|radius|saml|kerberos)(?:-|$)/;
const MACHINES = /^(?:approle|kubernetes|jwt|aws|gcp|azure|cert|alicloud|cf|oci|spiffe)(?:-|$)/;

function subjectTypeOf(auth: Json, mountType: string): SubjectType {
  const name = textIn(auth, 'display_name') ?? mountType;
  if (PEOPLE.test(name)) return 'user';
  return MACHINES.test(name) ? 'service' : 'unknown';
}

/** The entity, which stays the same over logins, else the name that the login gave. */
function principalOf(r: Reading, auth: Json): PrincipalDraft | undefined {
  const id = clearText(auth, 'entity_id') ?? clearText(auth, 'display_name');
  return id === undefined ? undefined : { id, type: subjectTypeOf(auth, r.route.mountType) };
}

const LOGIN_KINDS: readonly EventKind[] = ['login', 'login_failed', 'token_issued'];

function principalsOf(r: Reading): Pick<AuthEventDraft, 'subject' | 'actor'> {
  const own_ = principalOf(r, r.auth);
  if (!LOGIN_KINDS.includes(r.route.kind)) return given({ actor: own_ });
  const subject = principalOf(r, r.newAuth) ?? (r.route.isLogin ? (own_ ?? named(r)) : undefined);
  return given({ subject, actor: r.route.isLogin ? undefined : own_ });
}

/** A login that failed has no entity, but its path may name the user. */
function named(r: Reading): PrincipalDraft | undefined {
  const { name, mountType } = r.route;
  if (name === '') return undefined;
  return { id: name, type: PEOPLE.test(mountType) ? 'user' : 'unknown' };
}

/** When a token was made and how long it lives, s. */
function lifetimeOf(auth: Json): Pick<TokenDraft, 'issued_at' | 'expires_at'> {
  const issued = timeNs(own(auth, 'token_issue_time'));
  const ttl = numberOf(own(auth, 'token_ttl')) ?? 0;
  const ends = issued !== undefined && ttl > 0 && ttl <= TTL_S_MAX;
  return given({
    issued_at: issued,
    expires_at: ends ? issued + BigInt(Math.trunc(ttl)) * NS_PER_S : undefined,
  });
}

function tokensOf(r: Reading): TokenDraft[] {
  const caller = textIn(r.auth, 'client_token') ?? textIn(r.request, 'client_token');
  const mention = (role: TokenDraft['role'], token: string | undefined, auth: Json) => {
    const identity = identityOf(token);
    return identity === undefined
      ? []
      : [{ role, type: 'access' as const, ...identity, ...lifetimeOf(auth) }];
  };
  const meant = r.route.isSelf ? caller : textIn(r.data, 'token');
  const meantAuth = r.route.isSelf ? r.auth : {};
  switch (r.route.kind) {
    case 'login':
    case 'token_issued': {
      const made = textIn(r.newAuth, 'client_token');
      const parent = r.route.isLogin ? undefined : identityOf(caller);
      return mention('issued', made, r.newAuth).map((t) => given({ ...t, parent }));
    }
    case 'token_refreshed': {
      const renewed = textIn(r.newAuth, 'client_token') ?? meant;
      return mention('presented', renewed, r.newAuth);
    }
    case 'token_revoked':
      return mention('revoked', meant, meantAuth);
    case 'token_introspected':
      return mention('presented', meant, meantAuth);
    default:
      return mention('presented', caller, r.auth);
  }
}

/** The first value of a request header that the audit device is told to write. */
function headerOf(request: Json, name: string): string | undefined {
  const values = own(objectIn(request, 'headers'), name);
  const first: unknown = Array.isArray(values) ? values[0] : undefined;
  return typeof first === 'string' && !isMasked(first) ? first : undefined;
}

function hasMask(r: Reading): boolean {
  const { auth, newAuth, request, data } = r;
  const values = [auth, newAuth, request].map((o) => textIn(o, 'client_token'));
  return [...values, ...Object.values(data)].some((v) => typeof v === 'string' && isMasked(v));
}

function keyOf(r: Reading): AuthEventDraft['key'] {
  const { route } = r;
  if (route.key === '') return undefined;
  return given({ kid: route.key, operation: route.operation, store: route.store });
}

function clientOf(r: Reading): AuthEventDraft['client'] {
  const metadata = objectIn(
    textIn(r.newAuth, 'client_token') === undefined ? r.auth : r.newAuth,
    'metadata',
  );
  const id = r.route.client !== '' ? r.route.client : textIn(metadata, 'role_name', 'role');
  return id === undefined ? undefined : { id };
}

function outcomeOf(r: Reading): NonNullable<AuthEventDraft['outcome']> {
  if (r.error === undefined) return r.isAttempt ? 'pending' : 'success';
  return errorOf(r)?.code === 'permission_denied' ? 'denied' : 'failure';
}

/** `auth/userpass/login/ada`: who somebody is goes into a reference, and so stands nowhere else. */
const PATH_OF_A_PERSON = /^(auth\/(?:[^/]+\/){1,8}(?:login|users)\/)[^/]+/;

function pathOf(request: Json): string | undefined {
  return textIn(request, 'path')?.replace(PATH_OF_A_PERSON, '$1*');
}

function draftOf(r: Reading): AuthEventDraft {
  const { value, request, route } = r;
  const namespace = textIn(objectIn(request, 'namespace'), 'path')?.replace(/\/$/, '');
  return given({
    kind: kindOf(r),
    time: r.time,
    vendor_event_id: textIn(request, 'id'),
    sub_id: r.isAttempt ? 'attempt' : '',
    raw_type: route.rawType,
    source_tenant: namespace,
    instance: textIn(value, 'forwarded_from'),
    phase: r.isAttempt ? ('attempt' as const) : ('outcome' as const),
    outcome: outcomeOf(r),
    error: errorOf(r),
    endpoint: route.endpoint,
    client: clientOf(r),
    ...principalsOf(r),
    tokens: tokensOf(r),
    net: given({
      client_ip: textIn(request, 'remote_address'),
      user_agent: headerOf(request, 'user-agent'),
    }),
    key: keyOf(r),
    policy: given({ path: route.policy === '' ? undefined : route.policy }),
    corr: given({ request_id: textIn(request, 'id') }),
    upstream_redaction: hasMask(r) ? true : undefined,
    ext: given({ vault_path: pathOf(request), mount_type: textIn(request, 'mount_type') }),
  });
}

function errorTextOf(value: Json, response: Json): string | undefined {
  // A refusal that a secrets engine words itself lies in the data, where it is masked like all data.
  return textIn(value, 'error') ?? textIn(objectIn(response, 'data'), 'error');
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const type = textIn(value, 'type');
  const request = objectIn(value, 'request');
  const path = textIn(request, 'path');
  if ((type !== 'request' && type !== 'response') || path === undefined) {
    return refuse(
      'unrecognised_record',
      'record: no Vault audit entry; type (request, response) and request.path are needed',
    );
  }
  const rawTime = own(value, 'time');
  if (rawTime === undefined) return refuse('missing_field', 'time: is required');
  const time = timeNs(rawTime);
  if (time === undefined) return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}`);
  const response = objectIn(value, 'response');
  const reading: Reading = {
    value,
    isAttempt: type === 'request',
    time,
    request,
    data: objectIn(request, 'data'),
    response,
    auth: objectIn(value, 'auth'),
    newAuth: objectIn(response, 'auth'),
    route: routeOf({
      path,
      operation: textIn(request, 'operation') ?? '',
      mountType: textIn(request, 'mount_type') ?? '',
      mountPoint: textIn(request, 'mount_point'),
    }),
    error: errorTextOf(value, response),
  };
  return { ok: true, events: [draftOf(reading)] };
}

/**
 * Entries of Vault's audit devices (and OpenBao's), one JSON object per line. A request and its response are two
 * entries of one action: the request is the attempt, the response counts. What Vault masks (`hmac-sha256:`) is
 * never taken for the value itself; its HMAC of a token joins what one audit device wrote, and nothing else.
 */
export default defineSource({
  id: 'vault',
  title: 'HashiCorp Vault audit log',
  vendor: 'hashicorp',
  product: 'vault',
  description: 'Entries of the audit devices of HashiCorp Vault and OpenBao.',
  forms: ['json'],
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'token_issued',
    'token_refreshed',
    'token_request_failed',
    'token_introspected',
    'userinfo_accessed',
    'token_revoked',
    'login',
    'login_failed',
    'client_registered',
    'client_updated',
    'client_deleted',
    'client_credential_changed',
    'policy_changed',
    'key_created',
    'key_rotated',
    'key_deleted',
    'key_used',
    'jwks_fetched',
    'secret_read',
    'secret_changed',
    'api_accessed',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.instance', 'source.tenant'],
    ...['source.raw_type', 'error.code', 'error.detail', 'endpoint', 'client.id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type'],
    ...['tokens', 'tokens.role', 'tokens.type', 'tokens.ref', 'tokens.ref_kind'],
    ...['tokens.parent_ref', 'tokens.issued_at', 'tokens.expires_at'],
    ...['net.client_ip', 'net.network', 'net.user_agent', 'net.ua_family', 'policy.path'],
    ...['key.kid', 'key.operation', 'key.store', 'corr.request_id', 'ext'],
  ],
  blind_for: {
    code_redeemed_twice: 'Vault masks codes',
    refresh_token_reuse: 'tokens of Vault are renewed, not rotated',
  },
  confirmed_by: 'real_samples',
  references: [
    'HashiCorp Vault: Audit log entry schema',
    'HashiCorp Vault API: transit, kv, identity/oidc, auth/token, sys/policies',
  ],
  parse,
});
