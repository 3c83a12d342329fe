import { writeClientList } from '../../model/client_metadata.ts';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import { PKCE_METHODS, type EventKind, type IpRole, type Outcome } from '../../model/kinds.ts';
import {
  isAwsMask,
  readCloudTrail,
  unwrapCloudTrail,
  type CloudTrailRecord,
} from './_cloudtrail_record.ts';
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
} from './_reading.ts';

/** Form fields of one request that are looked at. */
const PARAMETERS_MAX = 100;

const SERVICES = new Set(['cognito-idp', 'cognito-identity', 'cognito-sync']);

interface Mapping {
  readonly kind: EventKind;
  readonly failed?: EventKind;
  readonly endpoint?: string;
  readonly ip_role?: IpRole;
  /** A redirect follows success and failure alike: then an answer without an error says nothing. */
  readonly isSilent?: boolean;
}

const page = (kind: EventKind, endpoint: string, failed: EventKind = kind): Mapping => ({
  kind,
  failed,
  endpoint,
  ip_role: 'end_user',
});
const authorization = page('authorization_requested', 'authorization', 'authorization_failed');
const token = (kind: EventKind): Mapping => ({
  kind,
  failed: 'token_request_failed',
  endpoint: 'token',
});
const policy: Mapping = { kind: 'policy_changed' };

/** Endpoints of the user pool's domain, by name in lower case, without underscores and method. */
const PAGES: Readonly<Record<string, Mapping>> = {
  token: token('token_issued'),
  oauth2token: token('token_issued'),
  'login/get': authorization,
  'login/post': { ...page('login', 'login', 'login_failed'), isSilent: true },
  authorize: authorization,
  oauth2authorize: authorization,
  saml2response: page('federation_handshake', 'federation'),
  oauth2response: page('federation_handshake', 'federation'),
  oauth2idpresponse: page('federation_handshake', 'federation'),
  logout: page('session_ended', 'end_session'),
  userinfo: { kind: 'userinfo_accessed', endpoint: 'userinfo' },
  oauth2userinfo: { kind: 'userinfo_accessed', endpoint: 'userinfo' },
  revoke: { kind: 'token_revoked', endpoint: 'revocation' },
  oauth2revoke: { kind: 'token_revoked', endpoint: 'revocation' },
};

/** Operations of the API. Sign-ins are told apart by flow and challenge: see `signIn`. */
const OPERATIONS: Readonly<Record<string, Mapping>> = {
  GetTokensFromRefreshToken: token('token_refreshed'),
  RevokeToken: { kind: 'token_revoked', endpoint: 'revocation' },
  GlobalSignOut: { kind: 'session_revoked' },
  AdminUserGlobalSignOut: { kind: 'session_revoked' },
  CreateUserPoolClient: { kind: 'client_registered' },
  UpdateUserPoolClient: { kind: 'client_updated' },
  DeleteUserPoolClient: { kind: 'client_deleted' },
  AddUserPoolClientSecret: { kind: 'client_credential_changed' },
  DeleteUserPoolClientSecret: { kind: 'client_credential_changed' },
  GetCredentialsForIdentity: token('token_exchanged'),
  GetOpenIdToken: token('token_exchanged'),
  GetOpenIdTokenForDeveloperIdentity: token('token_exchanged'),
  UpdateUserPool: policy,
  SetRiskConfiguration: policy,
  SetUserPoolMfaConfig: policy,
  CreateResourceServer: policy,
  UpdateResourceServer: policy,
  DeleteResourceServer: policy,
  CreateIdentityProvider: policy,
  UpdateIdentityProvider: policy,
  DeleteIdentityProvider: policy,
  UpdateIdentityPool: policy,
  SetIdentityPoolRoles: policy,
};
const SIGN_INS = new Set([
  'InitiateAuth',
  'AdminInitiateAuth',
  'RespondToAuthChallenge',
  'AdminRespondToAuthChallenge',
]);
const MFA_CHALLENGE = /(?:_MFA|_OTP)$/;

interface Reading {
  readonly record: CloudTrailRecord;
  readonly mapping: Mapping;
  /** The first value of a form field; undefined where it is masked. */
  readonly parameter: (name: string) => string | undefined;
  readonly isMasked: boolean;
  readonly status: number | undefined;
}

/** Form fields are lists of one. */
function readParameters(additional: Json): Pick<Reading, 'parameter' | 'isMasked'> {
  const fields = objectIn(additional, 'requestParameters');
  const first = (name: string): string | undefined => textList(own(fields, name))?.[0];
  const names = Object.keys(fields).slice(0, PARAMETERS_MAX);
  return {
    parameter: (name) => {
      const text = first(name);
      return text === undefined || isAwsMask(text) ? undefined : text;
    },
    isMasked: names.some((name) => isAwsMask(first(name) ?? '')),
  };
}

function signIn(record: CloudTrailRecord): Mapping {
  const isAdmin = record.name.startsWith('Admin');
  const ip_role: IpRole = isAdmin ? 'client_backend' : 'unknown';
  if ((textIn(record.request, 'authFlow') ?? '').startsWith('REFRESH_TOKEN')) {
    return { ...token('token_refreshed'), ip_role };
  }
  if (textIn(record.response, 'challengeName') !== undefined) {
    return { kind: 'mfa_challenged', endpoint: 'login', ip_role };
  }
  const answered = textIn(record.request, 'challengeName') ?? '';
  if (MFA_CHALLENGE.test(answered)) return { kind: 'mfa_result', endpoint: 'login', ip_role };
  return { kind: 'login', failed: 'login_failed', endpoint: 'login', ip_role };
}

function mappingOf(record: CloudTrailRecord): Mapping {
  if (SIGN_INS.has(record.name)) return signIn(record);
  const operation = lookUp(OPERATIONS, record.name);
  if (operation !== undefined) return operation;
  const parts = /^([A-Za-z0-9_]{1,60})_(GET|POST)$/.exec(record.name);
  if (parts === null) return { kind: 'unclassified' };
  const name = (parts[1] ?? '').replaceAll('_', '').toLowerCase();
  const method = (parts[2] ?? '').toLowerCase();
  return lookUp(PAGES, `${name}/${method}`) ?? lookUp(PAGES, name) ?? { kind: 'unclassified' };
}

function hasFailed(r: Reading): boolean {
  return r.record.common.error !== undefined || (r.status !== undefined && r.status >= 400);
}

function outcomeOf(r: Reading): Outcome {
  if (hasFailed(r)) {
    // A wrong password is a `NotAuthorizedException` like any other.
    const isSignIn = r.mapping.failed !== undefined;
    return !isSignIn && r.record.common.outcome === 'denied' ? 'denied' : 'failure';
  }
  if (r.mapping.kind === 'mfa_challenged') return 'challenge';
  if (r.mapping.isSilent === true) return 'unknown';
  return 'success';
}

function grantTypeOf(r: Reading): string | undefined {
  const told = r.parameter('grant_type');
  if (told !== undefined || r.mapping.endpoint !== 'token') return told;
  return r.mapping.kind === 'token_refreshed' ? 'refresh_token' : undefined;
}

function kindOf(r: Reading): EventKind {
  if (hasFailed(r)) return r.mapping.failed ?? r.mapping.kind;
  return r.mapping.kind === 'token_issued' && grantTypeOf(r) === 'refresh_token'
    ? 'token_refreshed'
    : r.mapping.kind;
}

/** Exceptions of the API in the words that other servers use for the same. */
const CODES: Readonly<Record<string, string>> = {
  UserNotFoundException: 'user_not_found',
  NotAuthorizedException: 'invalid_user_credentials',
  InvalidPasswordException: 'invalid_user_credentials',
};
const OAUTH_ERROR =
  /^(?:invalid_[a-z_]{1,40}|unauthorized_client|unsupported_[a-z_]{1,40}|access_denied|server_error)$/;

function errorOf(r: Reading, kind: EventKind): AuthEventDraft['error'] {
  if (!hasFailed(r)) return undefined;
  const told = r.record.common.error ?? {};
  const code = kind === 'login_failed' ? lookUp(CODES, told.code ?? '') : undefined;
  return given({
    code: code ?? told.code,
    oauth_error: OAUTH_ERROR.test(told.code ?? '') ? told.code : undefined,
    detail: told.detail,
  });
}

function poolOf({ record }: Reading): string | undefined {
  return textIn(record.additional, 'userPoolId') ?? textIn(record.request, 'userPoolId');
}

function clientOf(r: Reading): AuthEventDraft['client'] {
  const { request, response } = r.record;
  const described = objectIn(response, 'userPoolClient');
  const id =
    r.parameter('client_id') ?? textIn(request, 'clientId') ?? textIn(described, 'clientId');
  return given({
    id: id === undefined || isAwsMask(id) ? undefined : id,
    name: textIn(described, 'clientName') ?? textIn(request, 'clientName'),
  });
}

function subjectOf(r: Reading, grant: string | undefined): AuthEventDraft['subject'] {
  const client = clientOf(r)?.id;
  if (grant === 'client_credentials') {
    return client === undefined ? undefined : { id: client, type: 'client' };
  }
  const identity = textIn(r.record.request, 'identityId');
  const sub = textIn(r.record.additional, 'sub') ?? r.parameter('sub') ?? identity;
  return sub === undefined || isAwsMask(sub) ? undefined : { id: sub, type: 'user' };
}

/** Nobody in particular calls what needs no credentials. */
function actorOf({ record }: Reading): AuthEventDraft['actor'] {
  const { actor } = record.common;
  return actor?.id === 'Anonymous' ? undefined : actor;
}

function netOf(r: Reading, grant: string | undefined): AuthEventDraft['net'] {
  const isMachine = grant === 'client_credentials';
  return {
    ...r.record.common.net,
    ip_role: isMachine ? 'client_backend' : (r.mapping.ip_role ?? 'unknown'),
  };
}

/** Cognito's names of flows, and the grants that they allow (RFC 7591 section 2). */
const GRANT_OF_FLOW: Readonly<Record<string, string>> = {
  code: 'authorization_code',
  implicit: 'implicit',
  client_credentials: 'client_credentials',
};

/** The answer to a change describes the whole client; a secret in it is masked, but there. */
function clientMetadata(r: Reading): Record<string, string> {
  const client = objectIn(r.record.response, 'userPoolClient');
  if (Object.keys(client).length === 0) return {};
  const list = (name: string): string[] => textList(own(client, name)) ?? [];
  const hasSecret = own(client, 'clientSecret') !== undefined;
  const grants = list('allowedOAuthFlows').map((flow) => lookUp(GRANT_OF_FLOW, flow) ?? flow);
  const hasPassword = list('explicitAuthFlows').some((f) => /USER_PASSWORD_AUTH$/.test(f));
  return {
    ...writeClientList('redirect_uris', list('callbackURLs')),
    ...writeClientList('scope', list('allowedOAuthScopes')),
    ...writeClientList('grant_types', hasPassword ? [...grants, 'password'] : grants),
    client_type: hasSecret ? 'confidential' : 'public',
    secret_held: String(hasSecret),
  };
}

function extOf(r: Reading, kind: EventKind): Record<string, string> {
  const isRegistration = kind === 'client_registered' || kind === 'client_updated';
  return given({
    user_pool_domain: textIn(r.record.additional, 'userPoolDomain'),
    auth_flow: textIn(r.record.request, 'authFlow'),
    challenge:
      textIn(r.record.response, 'challengeName') ?? textIn(r.record.request, 'challengeName'),
    ...(isRegistration && !hasFailed(r) ? clientMetadata(r) : {}),
  });
}

function draftOf(r: Reading): AuthEventDraft {
  const { common } = r.record;
  const kind = kindOf(r);
  const grant = grantTypeOf(r);
  const pool = poolOf(r);
  const scope = r.parameter('scope');
  const client = clientOf(r);
  return given({
    kind,
    time: common.time,
    vendor_event_id: common.vendor_event_id,
    raw_type: common.raw_type,
    instance: common.instance,
    source_tenant: pool ?? common.source_tenant,
    outcome: outcomeOf(r),
    error: errorOf(r, kind),
    grant_type: grant,
    response_type: r.parameter('response_type'),
    endpoint: r.mapping.endpoint,
    client,
    requested_client_id: kind === 'authorization_failed' ? client?.id : undefined,
    subject: subjectOf(r, grant),
    actor: actorOf(r),
    scopes_requested: scope === undefined ? undefined : [scope],
    redirect_uri: r.parameter('redirect_uri'),
    pkce: oneOf(PKCE_METHODS, r.parameter('code_challenge_method')),
    net: netOf(r, grant),
    http: given({ status: r.status }),
    key:
      kind === 'client_credential_changed'
        ? given({ kid: client?.id, operation: r.record.name, store: 'cognito' })
        : undefined,
    corr: common.corr,
    upstream_redaction: r.isMasked ? true : undefined,
    ext: extOf(r, kind),
  });
}

/** A code that was exchanged was redeemed; Cognito masks it. */
function companions(event: AuthEventDraft): AuthEventDraft[] {
  const isRedeemed =
    event.grant_type === 'authorization_code' &&
    (event.outcome === 'success' || event.error?.oauth_error === 'invalid_grant');
  return isRedeemed ? [{ ...event, kind: 'code_redeemed', sub_id: 'code_redeemed' }] : [];
}

function parse(record: SourceRecord): ParseResult {
  const read = readCloudTrail(record);
  if (!read.ok) return read;
  if (!SERVICES.has(read.record.service)) {
    return refuse('unrecognised_record', 'eventSource: no service of Amazon Cognito');
  }
  const { additional } = read.record;
  const answer = own(additional, 'responseParameters');
  const draft = draftOf({
    record: read.record,
    mapping: mappingOf(read.record),
    ...readParameters(additional),
    status: isJson(answer) ? numberOf(own(answer, 'status')) : undefined,
  });
  return { ok: true, events: [draft, ...companions(draft)] };
}

/**
 * Amazon Cognito as AWS CloudTrail tells it: requests to the endpoints of a user pool's domain (`Token_POST`), sign-ins
 * and administration through the API. Names of people, codes, tokens and states are masked by AWS.
 *
 * `Login_POST` is answered by a redirect whether the password was right or not, so its outcome is unknown unless an
 * error is told.
 */
export default defineSource({
  id: 'cognito',
  title: 'Amazon Cognito',
  vendor: 'aws',
  product: 'cognito',
  description: 'Records of Amazon Cognito in AWS CloudTrail: OAuth endpoints, sign-ins, changes.',
  forms: ['json'],
  unwrap: unwrapCloudTrail,
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'code_redeemed',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'userinfo_accessed',
    'token_revoked',
    'login',
    'login_failed',
    'mfa_challenged',
    'mfa_result',
    'session_ended',
    'session_revoked',
    'client_registered',
    'client_updated',
    'client_deleted',
    'client_credential_changed',
    'policy_changed',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome'],
    ...['source.instance', 'source.tenant', 'source.raw_type'],
    ...REQUEST_FIELDS,
    ...['client.id', 'client.name', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type'],
    ...['scopes_requested', 'redirect_uri', 'pkce'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.status', 'key.kid', 'key.operation', 'key.store', 'corr.request_id', 'ext'],
  ],
  confirmed_by: 'real_samples',
  references: [
    'Amazon Cognito Developer Guide: logging with AWS CloudTrail, example events',
    'AWS CloudTrail User Guide: record contents',
    'RFC 6749, RFC 7009, RFC 7591',
  ],
  parse,
});
