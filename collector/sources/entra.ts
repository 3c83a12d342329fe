import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import { auditEvent, unifiedActor } from './_entra_audit.ts';
import { entraError } from './_entra_errors.ts';
import { detailOf, type EntraRecord, openEntra, operationOf } from './_entra_form.ts';
import { signInEvents } from './_entra_sign_in.ts';
import { REQUEST_FIELDS, TOKEN_FIELDS } from './_field_groups.ts';
import { idIn, microsoftTime, objectOrText, tokenGuid } from './_microsoft_values.ts';
import {
  given,
  isJson,
  lookUp,
  numberOf,
  own,
  refuse,
  textIn,
  textList,
  TIME_ALLOWED,
} from './_reading.ts';

/** Longest part of a URI that is read, characters. */
const URI_LENGTH_MAX = 4_096;

/** `{records: [..]}` of an Event Hub or a storage account, `{value: [..]}` of Microsoft Graph. */
function unwrap(value: unknown): readonly unknown[] | undefined {
  if (!isJson(value)) return undefined;
  for (const name of ['records', 'value']) {
    const list = own(value, name);
    if (Array.isArray(list)) return list as readonly unknown[];
  }
  return undefined;
}

/** How the client of a Graph call proved itself (`clientAuthMethod`). */
const GRAPH_AUTH_METHODS: Readonly<Record<string, string>> = {
  '0': 'none',
  '1': 'client_secret',
  '2': 'private_key_jwt',
};

/** A call that Microsoft Graph answered: the resource server's side of a token. */
function graphEvent(record: EntraRecord): AuthEventDraft {
  const { e, p } = record;
  const uri = (textIn(p, 'requestUri') ?? '').slice(0, URI_LENGTH_MAX);
  const status = numberOf(own(p, 'responseStatusCode') ?? own(p, 'httpStatusCode'));
  const user = idIn(p, 'userId');
  const service = idIn(p, 'servicePrincipalId');
  const session = idIn(p, 'sessionId', 'SessionId');
  const host = /^https?:\/\/([^/?#@]{1,255})/i.exec(uri)?.[1];
  const isApp = textIn(p, 'C_Idtyp', 'actorType')?.toLowerCase().startsWith('app') === true;
  const { kind, outcome } = verdictOf(status);
  return given({
    kind,
    outcome,
    time: record.time ?? 0n,
    observed_time: record.written,
    vendor_event_id: textIn(p, 'requestId', 'id'),
    raw_type: record.category,
    source_tenant: idIn(e, 'tenantId') ?? idIn(p, 'tenantId'),
    client: given({
      id: idIn(p, 'appId'),
      auth_method: lookUp(GRAPH_AUTH_METHODS, textIn(p, 'clientAuthMethod') ?? ''),
    }),
    subject:
      user !== undefined
        ? { id: user, type: 'user' as const }
        : service === undefined
          ? undefined
          : { id: service, type: 'service' as const },
    resource: host === undefined ? undefined : [host],
    scopes_granted: textList([textIn(p, 'scopes'), textIn(p, 'roles')]),
    tokens: presented(tokenGuid(textIn(p, 'signInActivityId')), own(p, 'tokenIssuedAt')),
    session: session === undefined ? undefined : { id: session },
    net: given({
      client_ip: textIn(p, 'ipAddress', 'callerIpAddress') ?? textIn(e, 'callerIpAddress'),
      ip_role: isApp ? ('client_backend' as const) : undefined,
      user_agent: textIn(p, 'userAgent'),
    }),
    http: given({
      method: textIn(p, 'requestMethod', 'httpMethod'),
      route: routeOf(uri),
      status,
    }),
    corr: given({
      request_id: idIn(p, 'requestId'),
      transaction_id: idIn(p, 'clientRequestId') ?? idIn(e, 'correlationId'),
    }),
  });
}

function verdictOf(status: number | undefined): { kind: EventKind; outcome: Outcome } {
  if (status === 429) return { kind: 'rate_limited', outcome: 'denied' };
  if (status === 401 || status === 403) return { kind: 'api_accessed', outcome: 'denied' };
  if (status === undefined) return { kind: 'api_accessed', outcome: 'unknown' };
  return { kind: 'api_accessed', outcome: status < 400 ? 'success' : 'failure' };
}

function presented(id: string | undefined, issued: unknown): TokenDraft[] | undefined {
  if (id === undefined) return undefined;
  const issued_at = microsoftTime(issued);
  return [given({ role: 'presented' as const, type: 'access' as const, vendor_id: id, issued_at })];
}

/** Names of people and things in a path (addresses, GUIDs, long ids, `('key')`) become `*`: routes are few, and nobody's. */
function routeOf(uri: string): string | undefined {
  const path = uri.replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0] ?? '';
  if (path === '') return undefined;
  const name = (segment: string): string => {
    const open = segment.indexOf('(');
    if (open >= 0) return `${segment.slice(0, open)}(*)`;
    const isId = /@|%40/i.test(segment) || (/\d/.test(segment) && segment.length > 8);
    return isId || segment.length > 64 ? '*' : segment;
  };
  return path.split('/').map(name).join('/');
}

/** A detection of Identity Protection. Its state changes later: every state is an event of its own. */
function riskEvent(record: EntraRecord): AuthEventDraft {
  const { e, p } = record;
  const id = textIn(p, 'id');
  const state = textIn(p, 'riskState');
  const user = idIn(p, 'userId', 'userPrincipalName');
  const service = idIn(p, 'servicePrincipalId');
  const level = textIn(p, 'riskLevel');
  const isUser = user !== undefined;
  return given({
    kind: 'risk_signal' as const,
    time: record.time ?? 0n,
    observed_time: record.written,
    vendor_event_id: id === undefined ? undefined : `${id}:${state ?? ''}`,
    raw_type: textIn(p, 'riskEventType', 'riskType') ?? record.category,
    source_tenant: idIn(e, 'tenantId') ?? idIn(p, 'homeTenantId', 'tenantId'),
    client: given({ id: idIn(p, 'appId') }),
    subject: isUser
      ? { id: user, type: 'user' as const }
      : service === undefined
        ? undefined
        : { id: service, type: 'service' as const },
    net: given({
      client_ip: textIn(p, 'ipAddress') ?? textIn(e, 'callerIpAddress'),
      ip_role: isUser ? ('end_user' as const) : undefined,
      country: textIn(objectOrText(p, 'location'), 'countryOrRegion'),
    }),
    risk: level === 'none' || level === 'hidden' ? undefined : level,
    corr: given({
      request_id: idIn(p, 'requestId'),
      transaction_id: idIn(p, 'correlationId'),
    }),
    ext: given({
      risk_state: state,
      risk_detail: textIn(p, 'riskDetail'),
      detection_timing: textIn(p, 'detectionTimingType'),
    }),
  });
}

const SIGN_INS: Readonly<Record<string, EventKind>> = {
  UserLoggedIn: 'login',
  UserLoginFailed: 'login_failed',
};

/** The unified audit log of Microsoft 365: sign-ins and directory changes of Entra, calls with Entra's tokens. */
function unifiedEvent(record: EntraRecord): AuthEventDraft {
  const operation = operationOf(record);
  const signIn = lookUp(SIGN_INS, operation);
  if (signIn !== undefined) return unifiedSignIn(record, signIn);
  if (record.category === 'AzureActiveDirectory') return auditEvent(record);
  return unifiedCall(record);
}

function unifiedBase(record: EntraRecord): Omit<AuthEventDraft, 'kind'> {
  const { p } = record;
  const user = unifiedActor(p);
  return given({
    time: record.time ?? 0n,
    vendor_event_id: textIn(p, 'Id'),
    raw_type: operationOf(record),
    source_tenant: idIn(p, 'OrganizationId'),
    subject: user === undefined ? undefined : { id: user, type: 'user' as const },
    net: given({
      client_ip: idIn(p, 'ActorIpAddress', 'ClientIP', 'ClientIPAddress'),
      user_agent: detailOf(record, 'UserAgent') ?? idIn(p, 'UserAgent'),
    }),
  });
}

function unifiedSignIn(record: EntraRecord, as: EventKind): AuthEventDraft {
  const { p } = record;
  const base = unifiedBase(record);
  const code = textIn(p, 'ErrorNumber') ?? '';
  const failed = as === 'login_failed';
  const error = failed ? entraError(code) : {};
  const asked = detailOf(record, 'RequestType');
  const resource = idIn(p, 'ObjectId');
  return given({
    ...base,
    kind: failed ? (error.kind ?? as) : as,
    outcome: failed ? (error.outcome ?? ('failure' as const)) : ('success' as const),
    error: failed
      ? given({
          code: code === '' || code === '0' ? undefined : `AADSTS${code}`,
          oauth_error: error.oauth === 'invalid_grant' ? undefined : error.oauth,
          detail: textIn(p, 'LogonError'),
        })
      : undefined,
    endpoint: asked === 'OAuth2:Token' ? 'token' : 'authorization',
    client: given({ id: idIn(p, 'ApplicationId') }),
    audience: resource === undefined ? undefined : [resource],
    net: { ...base.net, ip_role: 'end_user' as const },
    corr: given({
      request_id: idIn(p, 'IntraSystemId'),
      transaction_id: idIn(p, 'InterSystemsId'),
    }),
    ext: given({ request_type: asked }),
  });
}

/** Other services name the token that the call came with; a record without one is no call that can be judged. */
function unifiedCall(record: EntraRecord): AuthEventDraft {
  const { p } = record;
  const base = unifiedBase(record);
  const access = objectOrText(p, 'AppAccessContext');
  const session = idIn(access, 'AADSessionId');
  const tokens = presented(tokenGuid(idIn(access, 'UniqueTokenId')), own(access, 'IssuedAtTime'));
  const isCall = tokens !== undefined || session !== undefined;
  const result = textIn(p, 'ResultStatus')?.toLowerCase() ?? '';
  return given({
    ...base,
    kind: isCall ? ('api_accessed' as const) : ('unclassified' as const),
    outcome:
      /^(?:succe|true|partially)/.test(result) || (isCall && result === '') ? 'success' : 'unknown',
    client: given({ id: idIn(access, 'ClientAppId'), name: textIn(access, 'ClientAppName') }),
    resource: record.category === '' ? undefined : [record.category],
    tokens,
    session: session === undefined ? undefined : { id: session },
    corr: given({ transaction_id: idIn(access, 'CorrelationId') }),
  });
}

/** Other logs of Azure and Defender come over the same pipes. They stay, under their own name. */
function otherEvent(record: EntraRecord): AuthEventDraft {
  const { e, p } = record;
  return given({
    kind: 'unclassified' as const,
    time: record.time ?? 0n,
    vendor_event_id: record.category === 'alert' ? textIn(p, 'id') : undefined,
    raw_type: operationOf(record) === '' ? textIn(p, 'title') : operationOf(record),
    source_tenant: idIn(e, 'tenantId') ?? idIn(p, 'tenantId'),
    net: given({ client_ip: idIn(e, 'callerIpAddress') }),
    corr: given({ transaction_id: idIn(e, 'correlationId') }),
  });
}

function eventsOf(record: EntraRecord): AuthEventDraft[] {
  switch (record.topic) {
    case 'sign_in':
      return signInEvents(record);
    case 'audit':
      return [auditEvent(record)];
    case 'risk':
      return [riskEvent(record)];
    case 'graph':
      return [graphEvent(record)];
    case 'unified':
      return [unifiedEvent(record)];
    case 'other':
      return [otherEvent(record)];
  }
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse(
      'unsupported_form',
      'text: allowed is JSON, as diagnostic settings and Graph write it',
    );
  }
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const read = openEntra(value);
  if (read === undefined) {
    return refuse(
      'unrecognised_record',
      'record: no Entra log; category and operationName, a Graph signIn, directoryAudit or riskDetection, or Operation and CreationTime are needed',
    );
  }
  if (read.rawTime === undefined || read.rawTime === null) {
    return refuse('missing_field', 'time: is required');
  }
  if (read.time === undefined) {
    return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}, M/D/YYYY h:mm:ss PM`);
  }
  return { ok: true, events: eventsOf(read) };
}

/**
 * Microsoft Entra ID: sign-ins, directory audit, risk detections and the Graph activity logs, as diagnostic
 * settings send them, as Microsoft Graph lists them, and as the unified audit log of Microsoft 365 repeats them.
 *
 * A sign-in's unique token identifier and that of the Graph logs become one GUID, so that an issued token joins
 * with its calls. `Update StsRefreshTokenValidFrom Timestamp` ends all of a person's refresh tokens; access tokens
 * stay valid until they expire, and no id says which they are. No refresh token, redirect URI or PKCE is logged.
 */
export default defineSource({
  id: 'entra',
  title: 'Microsoft Entra ID',
  vendor: 'microsoft',
  product: 'entra_id',
  description:
    'Sign-ins, directory audit, risk detections and Graph activity of Entra ID: Event Hub, Graph, unified audit log.',
  forms: ['json'],
  kinds: [
    'authorization_failed',
    'consent_granted',
    'consent_denied',
    'consent_revoked',
    'token_issued',
    'token_refreshed',
    'token_request_failed',
    'grant_revoked',
    'login',
    'login_failed',
    'mfa_challenged',
    'mfa_result',
    'session_revoked',
    'client_registered',
    'client_updated',
    'client_deleted',
    'client_credential_changed',
    'policy_changed',
    'api_accessed',
    'rate_limited',
    'risk_signal',
    'elevation_granted',
    'elevation_ended',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'observed_time', 'kind', 'phase', 'outcome'],
    ...['source.tenant', 'source.raw_type'],
    ...REQUEST_FIELDS.filter((f) => f !== 'response_type'),
    ...['client.id', 'client.name', 'client.auth_method', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type', 'audience', 'resource'],
    ...['scopes_requested', 'scopes_granted', 'binding'],
    ...TOKEN_FIELDS.filter((f) => f !== 'tokens.family_ref'),
    ...['tokens.issued_at', 'session_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.country'],
    ...['net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms'],
    ...['policy.decision', 'policy.path', 'key.kid', 'key.operation', 'risk', 'acr', 'amr'],
    ...['corr.request_id', 'corr.transaction_id', 'ext'],
  ],
  blind_for: {
    code_redeemed_twice: 'codes have no id',
    refresh_family_fork: 'refresh tokens have no id',
    refresh_token_reuse: 'refresh tokens have no id',
  },
  confirmed_by: 'real_samples',
  references: [
    'Microsoft Graph REST API: signIn, directoryAudit, riskDetection',
    'Azure Monitor tables: SigninLogs, AuditLogs, MicrosoftGraphActivityLogs',
    'Microsoft Entra authentication and authorization error codes (AADSTS)',
    'Office 365 Management Activity API schema',
  ],
  unwrap,
  parse,
});
