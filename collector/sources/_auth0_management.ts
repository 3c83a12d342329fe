import { writeClientList } from '../../model/client_metadata.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import type { EventKind } from '../../model/kinds.ts';
import { given, type Json, numberOf, objectIn, own, textIn, textList } from './_reading.ts';

/** One call of the Management API, as the logs `sapi`, `fapi` and `mgmt_api_read` tell it. */
interface Call {
  readonly method: string;
  /** Below `/api/v2`, without a slash at the end. */
  readonly path: string;
  readonly request: Json;
  readonly response: Json;
  readonly accessedSecrets: readonly string[];
}

interface Rule {
  readonly method: RegExp;
  readonly path: RegExp;
  readonly kind: EventKind;
}

const rule = (method: string, path: string, kind: EventKind): Rule => ({
  method: new RegExp(`^(?:${method})$`),
  path: new RegExp(`^(?:${path})$`),
  kind,
});
const ID = '/[^/]{1,256}';
const ANY = '(?:/.*)?';
const WRITE = 'POST|PUT|PATCH|DELETE';

/** Open registration (RFC 7591), where a tenant allows it. */
const REGISTRATION = '/oidc/register';

/** The first that fits counts. */
const RULES: readonly Rule[] = [
  rule('POST', `/clients|${REGISTRATION}`, 'client_registered'),
  rule('POST', `/clients${ID}/rotate-secret`, 'client_credential_changed'),
  rule(WRITE, `/clients${ID}/credentials${ANY}`, 'client_credential_changed'),
  rule('PATCH|PUT', `/clients${ID}`, 'client_updated'),
  rule('DELETE', `/clients${ID}`, 'client_deleted'),
  rule('DELETE', `/grants(?:${ID})?`, 'consent_revoked'),
  rule('DELETE', `/(?:refresh-tokens|device-credentials)${ID}`, 'token_revoked'),
  rule('DELETE', `/users${ID}/refresh-tokens`, 'token_revoked'),
  rule('DELETE', `/sessions${ID}|/users${ID}/sessions`, 'session_revoked'),
  rule('POST', `/sessions${ID}/revoke|/users${ID}/revoke-access`, 'session_revoked'),
  rule('POST', '/keys/signing/rotate|/keys/encryption/rekey', 'key_rotated'),
  rule('POST', '/keys/encryption', 'key_created'),
  rule('PUT', `/keys/signing${ID}/revoke`, 'key_disabled'),
  rule('DELETE', `/keys/encryption${ID}`, 'key_deleted'),
  rule(
    WRITE,
    `/(?:attack-protection|anomaly|guardian|risk-assessment|client-grants|resource-servers|connections|rules|rules-configs|hooks|actions|roles|network-acls|tenants/settings|token-exchange-profiles)${ANY}`,
    'policy_changed',
  ),
];

/** How an API names what it changed. */
const CLIENT_PATH = /^\/clients\/([^/]{1,256})/;
const USER_PATH = /^\/users\/([^/]{1,256})/;
const SESSION_PATH = /^\/sessions\/([^/]{1,256})/;
const GRANT_PATH = /^\/grants\/([^/]{1,256})/;
const REFRESH_PATH = /^\/refresh-tokens\/([^/]{1,256})/;
const KEY_PATH = /^\/keys\/(?:signing|encryption)\/([^/]{1,256})/;

function callOf(details: Json): Call {
  const request = objectIn(details, 'request');
  const path = (textIn(request, 'path') ?? '').slice(0, 1_024);
  return {
    method: (textIn(request, 'method') ?? '').toUpperCase(),
    path: path.replace(/^\/(?:api\/)?v2(?=\/)/, '').replace(/\/$/, ''),
    request,
    response: objectIn(details, 'response'),
    accessedSecrets: textList(own(details, 'accessedSecrets')) ?? [],
  };
}

function kindOf(call: Call): EventKind {
  const found = RULES.find((r) => r.method.test(call.method) && r.path.test(call.path))?.kind;
  if (found !== undefined) return found;
  if (call.accessedSecrets.length > 0) return 'secret_read';
  return call.method === 'GET' ? 'api_accessed' : 'unclassified';
}

/** How clients of an application type authenticate where nothing else is said is up to the tenant: not stated. */
function clientMetadata(client: Json): Record<string, string> {
  const list = (name: string): readonly string[] | undefined => {
    const value = own(client, name);
    return Array.isArray(value) ? (textList(value) ?? []) : undefined;
  };
  const callbacks = list('callbacks');
  const grants = list('grant_types');
  const method = textIn(client, 'token_endpoint_auth_method');
  return given({
    ...(callbacks === undefined ? {} : writeClientList('redirect_uris', callbacks)),
    ...(grants === undefined ? {} : writeClientList('grant_types', grants)),
    token_endpoint_auth_method: method,
    client_type: method === undefined ? undefined : method === 'none' ? 'public' : 'confidential',
    app_type: textIn(client, 'app_type'),
  });
}

const TELLS_METADATA: ReadonlySet<EventKind> = new Set(['client_registered', 'client_updated']);

function clientOf(call: Call, body: Json): AuthEventDraft['client'] {
  const id = CLIENT_PATH.exec(call.path)?.[1] ?? textIn(body, 'client_id');
  return id === undefined
    ? undefined
    : given({ id, name: call.path.startsWith('/clients') ? textIn(body, 'name') : undefined });
}

/** A key of the tenant, or the credential of a client: then its client's id stands for it. */
function keyOf(call: Call, kind: EventKind, client: string | undefined): AuthEventDraft['key'] {
  const isKey = kind.startsWith('key_');
  if (!isKey && kind !== 'secret_read' && kind !== 'client_credential_changed') return undefined;
  const kid = KEY_PATH.exec(call.path)?.[1] ?? textIn(objectIn(call.response, 'body'), 'kid');
  return given({
    kid: isKey ? kid : client,
    operation:
      call.accessedSecrets.length > 0
        ? `read ${call.accessedSecrets.join(' ')}`
        : `${call.method} ${routeOf(call.path)}`,
    store: 'auth0',
  });
}

/** Ids of people become `*`: they are told as references. */
function routeOf(path: string): string {
  return path.replace(/^\/users\/[^/]+/, '/users/*').replace(/\?.*$/, '');
}

/**
 * Who called is in `details.request.auth`; the log's own `client_id` is the program that was called with and says
 * nothing about the client that was changed.
 */
function actorOf(log: Json, call: Call): AuthEventDraft['actor'] {
  const auth = objectIn(call.request, 'auth');
  const id =
    textIn(objectIn(auth, 'user'), 'user_id') ?? textIn(log, 'user_id') ?? textIn(auth, 'subject');
  if (id !== undefined) return { id, type: id.endsWith('@clients') ? 'client' : 'user' };
  const client = textIn(log, 'client_id');
  return client === undefined ? undefined : { id: client, type: 'client' };
}

/** What a call of the Management API says beside the facts that all logs share. */
export function managementDraft(
  log: Json,
  details: Json,
  isFailure: boolean,
): Omit<AuthEventDraft, 'time'> {
  const call = callOf(details);
  const status = numberOf(own(call.response, 'statusCode'));
  const kind = kindOf(call);
  const answer = objectIn(call.response, 'body');
  // The answer holds the whole client; the request of an update a part of it.
  const body = own(answer, 'client_id') === undefined ? objectIn(call.request, 'body') : answer;
  const client = clientOf(call, body);
  const user = USER_PATH.exec(call.path)?.[1];
  const session = SESSION_PATH.exec(call.path)?.[1];
  const grant = GRANT_PATH.exec(call.path)?.[1];
  const token = REFRESH_PATH.exec(call.path)?.[1];
  const actor = actorOf(log, call);
  const hasFailed = isFailure || (status !== undefined && status >= 400);
  return given({
    kind,
    outcome: !hasFailed ? 'success' : status === 401 || status === 403 ? 'denied' : 'failure',
    endpoint: call.path === REGISTRATION ? 'registration' : 'management',
    client,
    subject: user === undefined ? undefined : { id: decoded(user), type: 'user' as const },
    actor,
    session: session === undefined ? undefined : { id: session },
    grant: grant === undefined ? undefined : { id: grant },
    tokens:
      token === undefined || call.method !== 'DELETE'
        ? undefined
        : [{ role: 'revoked' as const, type: 'refresh' as const, vendor_id: token }],
    key: keyOf(call, kind, client?.id),
    net: given({
      client_ip: textIn(log, 'ip') ?? textIn(call.request, 'ip'),
      ip_role: actor?.type === 'client' ? ('client_backend' as const) : ('end_user' as const),
      user_agent: textIn(call.request, 'userAgent') ?? textIn(log, 'user_agent'),
    }),
    http: given({
      method: call.method || undefined,
      route: routeOf(call.path) || undefined,
      status,
    }),
    ext: TELLS_METADATA.has(kind) && !hasFailed ? clientMetadata(body) : {},
  });
}

/** Ids of users hold `|`, which a path may carry as an escape. */
function decoded(text: string): string {
  return text.replace(/%7c/gi, '|');
}
