import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome, TokenRole } from '../../model/kinds.ts';
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

interface Mapping {
  readonly kind: EventKind;
  readonly outcome?: Outcome;
  readonly endpoint?: string;
}

const registered: Mapping = { kind: 'client_registered' };
const updated: Mapping = { kind: 'client_updated' };
const deleted: Mapping = { kind: 'client_deleted' };
const credential: Mapping = { kind: 'client_credential_changed' };
const revoked: Mapping = { kind: 'token_revoked' };
const consented: Mapping = { kind: 'consent_granted' };
const withdrawn: Mapping = { kind: 'consent_revoked' };
const denied: Mapping = { kind: 'consent_denied', outcome: 'denied' };
const policy: Mapping = { kind: 'policy_changed' };
const git: Mapping = { kind: 'api_accessed', endpoint: 'git' };

/** Operations that OAuth apps (`oauth_application`) and GitHub Apps (`integration`) have in common. */
const APP_OPERATIONS: Readonly<Record<string, Mapping>> = {
  create: registered,
  update: updated,
  transfer: updated,
  destroy: deleted,
  generate_client_secret: credential,
  remove_client_secret: credential,
  reset_secret: credential,
  revoke_tokens: revoked,
  revoke_all_tokens: revoked,
};

/** Actions of the audit log and the security log. What is not listed is `unclassified`. */
const MAPPINGS: Readonly<Record<string, Mapping>> = {
  'oauth_access.create': { kind: 'token_issued' },
  'oauth_access.regenerate': { kind: 'token_issued' },
  'oauth_access.destroy': revoked,
  'oauth_access.revoke': revoked,
  'oauth_authorization.create': consented,
  'oauth_authorization.update': consented,
  'oauth_authorization.destroy': withdrawn,
  'integration_installation.create': consented,
  'integration_installation.version_updated': consented,
  'integration_installation.destroy': withdrawn,
  'personal_access_token.create': { kind: 'token_issued' },
  'personal_access_token.destroy': revoked,
  'personal_access_token.access_granted': consented,
  'personal_access_token.access_revoked': withdrawn,
  'personal_access_token.request_denied': denied,
  'org_credential_authorization.grant': consented,
  'org_credential_authorization.revoke': withdrawn,
  'org_credential_authorization.deauthorize': withdrawn,
  'org.oauth_app_access_approved': consented,
  'org.oauth_app_access_denied': denied,
  'org.oauth_app_access_blocked': denied,
  'org.enable_oauth_app_restrictions': policy,
  'org.disable_oauth_app_restrictions': policy,
  'org.enable_two_factor_requirement': policy,
  'org.disable_two_factor_requirement': policy,
  'org.set_default_workflow_permissions': policy,
  'org.enable_saml': policy,
  'org.disable_saml': policy,
  'api.request': { kind: 'api_accessed', endpoint: 'api' },
  'git.clone': git,
  'git.fetch': git,
  'git.push': git,
  'user.login': { kind: 'login' },
  'user.failed_login': { kind: 'login_failed', outcome: 'failure' },
  'user.logout': { kind: 'session_ended' },
  'org.sso_response': { kind: 'federation_handshake' },
  'business.sso_response': { kind: 'federation_handshake' },
};
const APP_ACTION = /^(?:oauth_application|integration)\.([a-z_]{1,60})$/;
const POLICY_ACTION = /^ip_allow_list(?:_entry)?\./;
const SECRET_ACTION =
  /^(?:org|repo|environment|business)\.(?:create|update|remove)_(?:actions|codespaces|dependabot|integration)_secret$/;

function mappingOf(action: string): Mapping {
  const known = lookUp(MAPPINGS, action);
  if (known !== undefined) return known;
  const operation = APP_ACTION.exec(action)?.[1];
  const ofApp = operation === undefined ? undefined : lookUp(APP_OPERATIONS, operation);
  if (ofApp !== undefined) return ofApp;
  if (POLICY_ACTION.test(action)) return policy;
  return SECRET_ACTION.test(action) ? { kind: 'secret_changed' } : { kind: 'unclassified' };
}

/** Kinds that tell what somebody did with an own token or account, or allowed an application. */
const OWN_DOING: ReadonlySet<EventKind> = new Set([
  'api_accessed',
  'token_issued',
  'login',
  'login_failed',
  'session_ended',
  'federation_handshake',
  'consent_granted',
  'consent_revoked',
]);
const TOKEN_ROLES: Readonly<Partial<Record<EventKind, TokenRole>>> = {
  token_issued: 'issued',
  token_revoked: 'revoked',
};

/** Names of accounts compare without case; programs wear `[bot]`. */
function accountOf(name: string | undefined): PrincipalDraft | undefined {
  if (name === undefined) return undefined;
  return { id: name.toLowerCase(), type: name.endsWith('[bot]') ? 'service' : 'user' };
}

function principals(value: Json, kind: EventKind): Pick<AuthEventDraft, 'subject' | 'actor'> {
  const caller = accountOf(textIn(value, 'actor'));
  const meant = accountOf(textIn(value, 'user'));
  if (OWN_DOING.has(kind) && meant === undefined) return given({ subject: caller });
  const isSame = caller !== undefined && caller.id === meant?.id;
  return given({
    subject: meant,
    actor: isSame && OWN_DOING.has(kind) ? undefined : caller,
  });
}

/**
 * `hashed_token` is the SHA-256 of the token in base64; `token_id` names it where that is left out. An SSH or deploy
 * key stands there too, and is no token.
 */
function tokensOf(value: Json, kind: EventKind): TokenDraft[] {
  if (/\bkey\b/i.test(textIn(value, 'programmatic_access_type') ?? '')) return [];
  const hash = textIn(value, 'hashed_token');
  const id = textIn(value, 'token_id');
  if (hash === undefined && id === undefined) return [];
  return [
    given({
      role: TOKEN_ROLES[kind] ?? ('presented' as const),
      type: 'access' as const,
      vendor_hash: hash,
      vendor_id: hash === undefined ? id : undefined,
      expires_at: timeNs(own(value, 'expires_at')),
    }),
  ];
}

function clientOf(value: Json): AuthEventDraft['client'] {
  return given({
    id: textIn(value, 'application_client_id', 'oauth_application_id', 'integration_id', 'app_id'),
    name: textIn(value, 'oauth_application_name', 'oauth_application', 'integration', 'name'),
  });
}

/** An action that concerns no application has no client, whatever its `name` is. */
function hasClient(action: string, value: Json): boolean {
  return (
    /^(?:oauth_|integration|org\.oauth_app)/.test(action) ||
    textIn(value, 'application_client_id', 'oauth_application_id', 'integration') !== undefined
  );
}

function outcomeOf(mapping: Mapping, status: number | undefined): Outcome {
  if (mapping.outcome !== undefined) return mapping.outcome;
  if (status === 401 || status === 403) return 'denied';
  return status !== undefined && status >= 400 ? 'failure' : 'success';
}

/** What says how the caller was authenticated, and what was touched. */
const EXT_FIELDS = [
  'programmatic_access_type',
  'operation_type',
  'repo',
  'transport_protocol_name',
  'repository_selection',
  'application_name',
] as const;

function extOf(value: Json): Record<string, string> {
  return given(Object.fromEntries(EXT_FIELDS.map((name) => [name, textIn(value, name)]))) as Record<
    string,
    string
  >;
}

function keyOf(value: Json, kind: EventKind, action: string): AuthEventDraft['key'] {
  const isClient = kind === 'client_credential_changed';
  if (!isClient && kind !== 'secret_changed') return undefined;
  return given({
    kid: isClient ? clientOf(value)?.id : textIn(value, 'key', 'secret_name', 'name'),
    operation: action,
    store: 'github',
  });
}

function draftOf(value: Json, action: string, time: bigint): AuthEventDraft {
  const mapping = mappingOf(action);
  const { kind } = mapping;
  const status = numberOf(own(value, 'status_code'));
  const scopes = textIn(value, 'token_scopes', 'scopes');
  const { subject, actor } = principals(value, kind);
  const isUse = kind === 'api_accessed';
  return given({
    kind,
    time,
    vendor_event_id: textIn(value, '_document_id'),
    raw_type: action,
    source_tenant: textIn(value, 'business', 'org'),
    outcome: outcomeOf(mapping, status),
    endpoint: mapping.endpoint,
    client: hasClient(action, value) ? clientOf(value) : undefined,
    subject,
    actor,
    resource: isUse ? textList(own(value, 'repo')) : undefined,
    scopes_granted: scopes === undefined ? undefined : [scopes],
    tokens: tokensOf(value, kind),
    net: given({
      client_ip: textIn(value, 'actor_ip'),
      // A token is used from wherever its program runs.
      ip_role: kind === 'login' || kind === 'login_failed' ? ('end_user' as const) : undefined,
      country: textIn(objectIn(value, 'actor_location'), 'country_code'),
      user_agent: textIn(value, 'user_agent'),
    }),
    http: given({
      method: textIn(value, 'request_method'),
      route: textIn(value, 'url_path', 'route'),
      status,
    }),
    key: keyOf(value, kind, action),
    corr: given({ request_id: textIn(value, 'request_id') }),
    ext: extOf(value),
  });
}

/** What an HTTP event collector wraps around an event. */
function unwrap(value: unknown): readonly unknown[] | undefined {
  const event = isJson(value) ? own(value, 'event') : undefined;
  return isJson(event) && textIn(event, 'action') !== undefined ? [event] : undefined;
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const action = textIn(value, 'action');
  // Webhooks have an action too (`opened`), but no category before it.
  if (action === undefined || !/^[a-z0-9_]{1,80}\.[a-z0-9_.]{1,120}$/.test(action)) {
    return refuse(
      'unrecognised_record',
      'record: no event of the audit log; action must be category.operation',
    );
  }
  const stamp = own(value, '@timestamp') ?? own(value, 'created_at');
  if (stamp === undefined) return refuse('missing_field', '@timestamp: is required');
  const time = timeNs(stamp);
  if (time === undefined) return refuse('invalid_time', `@timestamp: not a time; ${TIME_ALLOWED}`);
  return { ok: true, events: [draftOf(value, action, time)] };
}

/**
 * GitHub's audit log of an enterprise or organization, and the security log of an account: exports, the REST API and
 * streams. OAuth apps and GitHub Apps are clients, what they are let do is consent, and whoever comes with a token
 * presents it: GitHub names it by its SHA-256.
 */
export default defineSource({
  id: 'github',
  title: 'GitHub',
  vendor: 'github',
  product: 'github',
  description: 'Audit log of GitHub: OAuth apps, GitHub Apps, tokens and their use.',
  forms: ['json'],
  unwrap,
  kinds: [
    'consent_granted',
    'consent_denied',
    'consent_revoked',
    'token_issued',
    'token_revoked',
    'login',
    'login_failed',
    'session_ended',
    'client_registered',
    'client_updated',
    'client_deleted',
    'client_credential_changed',
    'policy_changed',
    'secret_changed',
    'api_accessed',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.tenant', 'source.raw_type'],
    ...['endpoint', 'client.id', 'client.name'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type', 'resource', 'scopes_granted'],
    ...['tokens', 'tokens.role', 'tokens.type', 'tokens.ref', 'tokens.ref_kind'],
    'tokens.expires_at',
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.country'],
    ...['net.user_agent', 'net.ua_family', 'http.method', 'http.route', 'http.status'],
    ...['key.kid', 'key.operation', 'key.store', 'corr.request_id', 'ext'],
  ],
  blind_for: {
    code_redeemed_twice: 'only access tokens have a name',
    refresh_family_fork: 'only access tokens have a name',
    refresh_token_reuse: 'only access tokens have a name',
  },
  confirmed_by: 'real_samples',
  references: [
    'GitHub: audit log events for organizations and enterprises; security log events',
    'GitHub: identifying audit log events performed by an access token',
    'RFC 6749, RFC 6750',
  ],
  parse,
});
