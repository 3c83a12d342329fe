import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import { Secret } from '../../model/secret.ts';
import { PKCE_METHODS } from '../../model/kinds.ts';
import { ENDPOINT_OF_PATH, KIND_OF_KEY_STATE, MAPPINGS, type Mapping } from './_auth0_codes.ts';
import { managementDraft } from './_auth0_management.ts';
import { REQUEST_FIELDS, TOKEN_FIELDS } from './_field_groups.ts';
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

/** Steps of a sign-in that are looked at. */
const PROMPTS_MAX = 20;
/** Free text that is read, characters. */
const TEXT_LENGTH_MAX = 1_024;

interface Reading {
  readonly log: Json;
  /** In a stream it stands beside the log. */
  readonly id: string | undefined;
  readonly details: Json;
  readonly type: string;
  readonly time: bigint;
  readonly description: string;
  /** `details.error`. */
  readonly error: Json;
  /** What the client sent, where the log tells it: the query of an authorization request, or a form. */
  readonly asked: Json;
}

function readingOf(log: Json, id: string | undefined, type: string, time: bigint): Reading {
  const details = objectIn(log, 'details');
  const asked = objectIn(details, 'qs');
  return {
    log,
    id,
    details,
    type,
    time,
    description: (textIn(log, 'description') ?? '').slice(0, TEXT_LENGTH_MAX),
    error: objectIn(details, 'error'),
    asked: Object.keys(asked).length > 0 ? asked : objectIn(details, 'body'),
  };
}

/** Error codes of RFC 6749 section 4.1.2.1 that blame the request: nobody got to sign in. */
const REQUEST_ERRORS = new Set([
  'invalid_request',
  'unauthorized_client',
  'unsupported_response_type',
  'unsupported_response_mode',
  'invalid_scope',
  'invalid_request_object',
  'invalid_request_uri',
]);
const CALLBACK_MISMATCH = /callback.?url.?mismatch|CallbackMismatch/i;
const CONSENT_REFUSED = /did not authorize/i;
const VERIFIER_REFUSED = /code.?verifier|code.?challenge/i;
const REUSED = /re-?us(?:e|ed|ing)\b/i;

/** Failed sign-ins by what failed: the request, the consent, or the sign-in itself. */
function mappingOf(r: Reading): Mapping {
  const mapping = lookUp(MAPPINGS, r.type) ?? { kind: 'unclassified', outcome: 'unknown' };
  if (r.type.startsWith('kms_key_')) return keyMapping(r);
  if (mapping.kind !== 'login_failed') return mapping;
  if (isCallbackMismatch(r)) return { ...mapping, kind: 'authorization_failed' };
  const told = oauthErrorOf(r);
  if (CONSENT_REFUSED.test(r.description)) {
    return { ...mapping, kind: 'consent_denied', outcome: 'denied' };
  }
  if (told === 'access_denied') return { ...mapping, outcome: 'denied' };
  return told !== undefined && REQUEST_ERRORS.has(told)
    ? { ...mapping, kind: 'authorization_failed' }
    : mapping;
}

function keyMapping(r: Reading): Mapping {
  return {
    kind: lookUp(KIND_OF_KEY_STATE, textIn(r.details, 'state') ?? '') ?? 'unclassified',
    outcome: r.type === 'kms_key_management_failure' ? 'failure' : 'success',
  };
}

function isCallbackMismatch({ error, description }: Reading): boolean {
  const payload = objectIn(error, 'payload');
  const words = [textIn(error, 'type'), textIn(payload, 'name'), description];
  return words.some((w) => w !== undefined && CALLBACK_MISMATCH.test(w.slice(0, TEXT_LENGTH_MAX)));
}

/** `oauthError` is a code at times and a sentence at others. */
function oauthErrorOf({ error }: Reading): string | undefined {
  const told = [textIn(error, 'oauthError'), textIn(objectIn(error, 'payload'), 'code')];
  return told.find((t) => t !== undefined && /^[a-z_]{1,60}$/.test(t));
}

/** Descriptions name people by their addresses. */
function withoutPeople(text: string): string | undefined {
  const plain = text.replace(/[^\s()<>"',;]{1,64}@[^\s()<>"',;]{1,255}/g, '[user]');
  return plain === '' ? undefined : plain;
}

/** What a failed request of the token endpoint was answered, where Auth0's sentence says it clearly. */
function tokenError(r: Reading): { code?: string; oauth_error?: string } {
  if (textIn(r.details, 'client_authentoication_error', 'client_authentication_error')) {
    return { code: 'invalid_client', oauth_error: 'invalid_client' };
  }
  // A wrong client secret; Auth0 answers `access_denied` to it (401).
  if (/^unauthorized$/i.test(r.description.trim())) return { code: 'invalid_client' };
  if (VERIFIER_REFUSED.test(r.description)) {
    return { code: 'invalid_code_verifier', oauth_error: 'invalid_grant' };
  }
  if (r.type === 'ferrt') return { code: 'refresh_token_reused', oauth_error: 'invalid_grant' };
  if (r.type === 'feacft' && /invalid authorization code/i.test(r.description)) {
    return { oauth_error: 'invalid_grant' };
  }
  if (r.type === 'fertft') return { oauth_error: 'invalid_grant' };
  if (
    r.type === 'fepft' &&
    /wrong email|wrong .*password|invalid .*password/i.test(r.description)
  ) {
    return { oauth_error: 'invalid_grant' };
  }
  return {};
}

function errorOf(r: Reading, mapping: Mapping): AuthEventDraft['error'] {
  if (mapping.outcome !== 'failure' && mapping.outcome !== 'denied') return undefined;
  const told = oauthErrorOf(r);
  const guessed = mapping.kind === 'token_request_failed' ? tokenError(r) : {};
  const code = isCallbackMismatch(r)
    ? 'invalid_redirect_uri'
    : (guessed.code ?? textIn(r.details, 'failure_reason') ?? lookUp(CODE_OF_TYPE, r.type));
  // A bad redirect URI is told to nobody (RFC 6749 section 4.1.2.1).
  const isTold = mapping.kind !== 'authorization_failed' || code !== 'invalid_redirect_uri';
  return given({
    code: code ?? textIn(r.error, 'type'),
    oauth_error: isTold ? (told ?? guessed.oauth_error) : undefined,
    detail: withoutPeople(r.description),
  });
}

/** What a type says of a failure by itself. */
const CODE_OF_TYPE: Readonly<Record<string, string>> = {
  fp: 'invalid_user_credentials',
  fu: 'user_not_found',
};

/** A log of a person names them; of a client alone it names nobody. */
function subjectOf(r: Reading, mapping: Mapping): AuthEventDraft['subject'] {
  if (mapping.grant_type === 'client_credentials') {
    const client = textIn(r.log, 'client_id');
    return client === undefined ? undefined : { id: client, type: 'client' };
  }
  const id = textIn(r.log, 'user_id', 'user_name');
  return id === undefined ? undefined : { id, type: 'user' };
}

/** Who acts for the subject (RFC 8693 section 4.1), or which agent does. */
function actorOf({ details, log }: Reading): AuthEventDraft['actor'] {
  const sub = textIn(objectIn(details, 'actor'), 'sub');
  if (sub !== undefined) return { id: sub, type: 'unknown' };
  const agent = textIn(log, 'agent_id');
  return agent === undefined ? undefined : { id: agent, type: 'service' };
}

function sessionOf({ details }: Reading): string | undefined {
  return textIn(details, 'session_id') ?? textIn(objectIn(details, 'refresh_token'), 'session_id');
}

const GRANTING = new Set(['token_issued', 'token_refreshed', 'token_exchanged']);

/** `scope` of a log is what the token got; of a request what was asked for. */
function scopesOf(r: Reading, mapping: Mapping): Partial<AuthEventDraft> {
  const told = textList(own(r.log, 'scope'));
  const wanted = textList(own(r.details, 'requested_scope')) ?? textList(own(r.asked, 'scope'));
  if (!GRANTING.has(mapping.kind)) return given({ scopes_requested: wanted ?? told });
  return given({
    scopes_requested: wanted,
    scopes_granted: textList(own(r.details, 'scope')) ?? told,
  });
}

/** What stands in the authorization request itself. Its `state`, `nonce` and code challenge are left where they are. */
function askedOf(r: Reading, mapping: Mapping): Partial<AuthEventDraft> {
  const response_type = textList(own(r.asked, 'response_type'))?.join(' ');
  const method = textIn(r.asked, 'code_challenge_method');
  const hasChallenge = textIn(r.asked, 'code_challenge') !== undefined;
  const asksForCode = response_type?.split(' ').includes('code') === true;
  return given({
    response_type,
    redirect_uri:
      textIn(objectIn(r.error, 'payload'), 'attempt')?.includes('://') === true
        ? textIn(objectIn(r.error, 'payload'), 'attempt')
        : textIn(r.asked, 'redirect_uri'),
    pkce:
      mapping.endpoint !== 'authorization' || !asksForCode
        ? undefined
        : hasChallenge
          ? oneOf(PKCE_METHODS, method ?? 'plain')
          : ('none' as const),
  });
}

/** Rotating refresh tokens are named by their family and their number in it. */
function familyOf(details: Json): { id: string; counter: number } | undefined {
  const id = textIn(details, 'familyId');
  const counter = numberOf(own(details, 'tokenCounter'));
  return id === undefined || counter === undefined ? undefined : { id, counter };
}

function refreshToken(
  role: TokenDraft['role'],
  family: { id: string; counter: number },
  counter: number,
): TokenDraft {
  return {
    role,
    type: 'refresh',
    vendor_id: `${family.id}/${counter}`,
    family: { vendor_id: family.id },
    counter,
  };
}

/** A masked code names nothing: its last letters are those of many. */
function isMasked(text: string): boolean {
  return text.includes('***');
}

function tokensOf(r: Reading, mapping: Mapping): TokenDraft[] {
  const { details } = r;
  const tokens: TokenDraft[] = [];
  const family = familyOf(details);
  const isRefresh = mapping.grant_type === 'refresh_token';
  const succeeded = mapping.outcome === 'success';
  if (isRefresh && family !== undefined) {
    tokens.push(refreshToken(succeeded ? 'consumed' : 'presented', family, family.counter));
    if (succeeded) {
      const parent = { vendor_id: `${family.id}/${family.counter}` };
      tokens.push({ ...refreshToken('issued', family, family.counter + 1), parent });
    }
  }
  const code = textIn(details, 'code');
  if (mapping.grant_type === 'authorization_code' && code !== undefined && !isMasked(code)) {
    tokens.push({ role: 'consumed', type: 'code', secret: new Secret(code) });
  }
  const jti = textIn(details, 'access_token_jti');
  if (jti !== undefined && !isMasked(jti)) {
    tokens.push(
      given({
        role: 'issued' as const,
        type: 'access' as const,
        jti,
        family: isRefresh && family !== undefined ? { vendor_id: family.id } : undefined,
        parent:
          isRefresh && family !== undefined
            ? { vendor_id: `${family.id}/${family.counter}` }
            : undefined,
      }),
    );
  }
  const credential = textIn(details, 'credential_id');
  if (mapping.kind === 'token_revoked' && credential !== undefined) {
    tokens.push({ role: 'revoked', type: 'refresh', vendor_id: credential });
  }
  return tokens;
}

/** Members of `details` that say something of their own. */
const EXT_FIELDS = [
  'subject_token_type',
  'issued_token_type',
  'policy_used',
  'channel',
  'latestCounter',
  'initiated_by',
] as const;

/** The same of the log itself. */
const EXT_FIELDS_OF_LOG = [
  'connection',
  'strategy',
  'organization_id',
  'mtls_thumbprint_sha256',
] as const;

function extOf(r: Reading): Record<string, string> {
  const ext: Record<string, string> = {};
  const keep = (name: string, text: string | undefined): void => {
    if (text !== undefined) ext[name] = text;
  };
  for (const name of EXT_FIELDS) keep(name, textIn(r.details, name));
  for (const name of EXT_FIELDS_OF_LOG) keep(name, textIn(r.log, name));
  keep('limit_bucket', textIn(objectIn(r.details, 'limit'), 'bucket'));
  return ext;
}

/** Steps of a sign-in. */
function promptsOf({ details }: Reading): readonly Json[] {
  const prompts = own(details, 'prompts');
  return Array.isArray(prompts)
    ? (prompts as readonly unknown[]).slice(0, PROMPTS_MAX).filter(isJson)
    : [];
}

function amrOf(r: Reading): string[] | undefined {
  const methods = promptsOf(r).flatMap((p) => textList(own(p, 'performed_amr')) ?? []);
  return methods.length === 0 ? undefined : methods;
}

/** What all logs say, whatever their type. */
function common(r: Reading): Omit<AuthEventDraft, 'kind'> {
  const { log, details } = r;
  const references = objectIn(log, 'references');
  return given({
    time: r.time,
    vendor_event_id: r.id,
    raw_type: r.type,
    instance: textIn(log, 'hostname'),
    source_tenant: textIn(log, 'tenant_name'),
    corr: given({
      trace_id: textIn(references, 'trace_id'),
      request_id: textIn(references, 'correlation_id'),
      transaction_id: textIn(details, 'transaction_id') ?? textIn(log, 'transaction_linking_id'),
    }),
  });
}

function netOf(r: Reading, mapping: Mapping): AuthEventDraft['net'] {
  return given({
    client_ip: textIn(r.log, 'ip', 'client_ip'),
    ip_role: mapping.ip_role ?? ('unknown' as const),
    country: textIn(objectIn(r.log, 'location_info'), 'country_code'),
    user_agent: textIn(r.log, 'user_agent'),
    ja4: textIn(objectIn(r.log, 'security_context'), 'ja4'),
  });
}

function httpOf(r: Reading, mapping: Mapping): AuthEventDraft['http'] {
  const request = objectIn(r.details, 'request');
  return given({
    method: textIn(request, 'method'),
    route: textIn(request, 'path'),
    status: mapping.status,
  });
}

function endpointOf(r: Reading, mapping: Mapping): string | undefined {
  if (r.type !== 'api_limit') return mapping.endpoint;
  return lookUp(ENDPOINT_OF_PATH, textIn(objectIn(r.details, 'request'), 'path') ?? '') ?? 'api';
}

function draftOf(r: Reading): AuthEventDraft {
  const mapping = mappingOf(r);
  const session = sessionOf(r);
  const grant = textIn(r.details, 'grant_id');
  const isKey = mapping.kind.startsWith('key_');
  const code = textIn(r.details, 'code');
  // Member by member: spreading objects of many shapes took more time than all the rest.
  const c = common(r);
  const scopes = scopesOf(r, mapping);
  const asked = askedOf(r, mapping);
  return given({
    time: c.time,
    vendor_event_id: c.vendor_event_id,
    raw_type: c.raw_type,
    instance: c.instance,
    source_tenant: c.source_tenant,
    corr: c.corr,
    kind: mapping.kind,
    phase: mapping.phase,
    outcome: mapping.outcome,
    error: errorOf(r, mapping),
    grant_type: mapping.grant_type,
    endpoint: endpointOf(r, mapping),
    client: given({
      id: textIn(r.log, 'client_id'),
      name: textIn(r.log, 'client_name'),
      auth_method:
        textIn(r.log, 'mtls_thumbprint_sha256') === undefined ? undefined : 'tls_client_auth',
    }),
    requested_client_id: textIn(r.details, 'requested_client_id') ?? textIn(r.asked, 'client_id'),
    subject: subjectOf(r, mapping),
    actor: actorOf(r),
    audience: textList(own(r.log, 'audience')) ?? textList(own(r.asked, 'audience')),
    scopes_requested: scopes.scopes_requested,
    scopes_granted: scopes.scopes_granted,
    response_type: asked.response_type,
    redirect_uri: asked.redirect_uri,
    pkce: asked.pkce,
    tokens: tokensOf(r, mapping),
    session: session === undefined ? undefined : { id: session },
    grant: grant === undefined ? undefined : { id: grant },
    net: netOf(r, mapping),
    http: httpOf(r, mapping),
    key: isKey
      ? given({
          kid: textIn(r.details, 'id'),
          operation: textIn(r.details, 'state'),
          store: 'auth0_kms',
        })
      : undefined,
    risk: mapping.risk ?? textIn(objectIn(r.details, 'riskAssessment'), 'confidence'),
    amr: amrOf(r),
    upstream_redaction: code !== undefined && isMasked(code) ? true : undefined,
    ext: extOf(r),
  });
}

/** More that one log tells: the code that was redeemed, the reuse that was noticed, the consent that was given. */
function companions(r: Reading, event: AuthEventDraft): AuthEventDraft[] {
  if (event.grant_type === 'authorization_code') {
    if (event.outcome !== 'success' && event.error?.oauth_error !== 'invalid_grant') return [];
    const tokens = event.tokens?.filter((t) => t.type === 'code') ?? [];
    return [{ ...event, kind: 'code_redeemed', tokens, sub_id: 'code_redeemed' }];
  }
  if (r.type === 'ferrt' && isReuse(r)) {
    return [{ ...event, kind: 'token_reuse_detected', sub_id: 'token_reuse_detected' }];
  }
  return event.kind === 'login' && event.phase !== 'attempt' ? consents(r, event) : [];
}

/** An older number than the newest; without numbers the sentence decides. */
function isReuse(r: Reading): boolean {
  const presented = numberOf(own(r.details, 'tokenCounter'));
  const latest = numberOf(own(r.details, 'latestCounter'));
  if (presented !== undefined && latest !== undefined) return presented < latest;
  return REUSED.test(r.description);
}

/** A sign-in in which a person consented tells the grant that came of it. */
function consents(r: Reading, event: AuthEventDraft): AuthEventDraft[] {
  return promptsOf(r).flatMap((prompt, index) => {
    const grant = objectIn(prompt, 'grantInfo');
    const id = textIn(grant, 'id');
    if (id === undefined) return [];
    const { scopes_requested, scopes_granted, audience, ...rest } = event;
    return [
      {
        ...rest,
        kind: 'consent_granted' as const,
        grant: { id },
        ...given({
          scopes_granted: textList(own(grant, 'scope')) ?? scopes_granted,
          scopes_requested,
          audience: textList(own(grant, 'audience')) ?? audience,
        }),
        sub_id: `consent_granted/${index}`,
      },
    ];
  });
}

const MANAGEMENT = new Set(['sapi', 'fapi', 'mgmt_api_read']);

function managementEvent(r: Reading): AuthEventDraft {
  const { ext, ...told } = managementDraft(r.log, r.details, r.type === 'fapi');
  const isFailed = told.outcome !== 'success';
  const detail = isFailed ? withoutPeople(r.description) : undefined;
  return {
    ...common(r),
    ...told,
    ...given({ error: detail === undefined ? undefined : { detail } }),
    ext: { ...ext },
  };
}

/** The log in a record of a stream (`{log_id, data}`), or the record of the Management API itself. */
function logOf(value: Json): Json | undefined {
  const data = own(value, 'data');
  if (isJson(data) && textIn(data, 'type') !== undefined) return data;
  const isLog = textIn(value, 'type') !== undefined && textIn(value, 'log_id', '_id') !== undefined;
  return isLog ? value : undefined;
}

/** A batch (`logs`), or what an event bus wraps around a record (`detail`). */
function unwrap(value: unknown): readonly unknown[] | undefined {
  if (!isJson(value)) return undefined;
  const logs = own(value, 'logs');
  if (Array.isArray(logs)) return logs as readonly unknown[];
  const detail = own(value, 'detail');
  return isJson(detail) && textIn(detail, 'log_id') !== undefined ? [detail] : undefined;
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const log = logOf(value);
  const type = log === undefined ? undefined : textIn(log, 'type');
  if (log === undefined || type === undefined) {
    return refuse('unrecognised_record', 'record: no Auth0 log; type and log_id are needed');
  }
  if (type.length > 100) return refuse('invalid_field', 'type: longer than 100 characters');
  const date = own(log, 'date');
  if (date === undefined) return refuse('missing_field', 'date: is required');
  const time = timeNs(date);
  if (time === undefined) return refuse('invalid_time', `date: not a time; ${TIME_ALLOWED}`);
  const id = textIn(log, 'log_id', '_id') ?? textIn(value, 'log_id');
  const r = readingOf(log, id, type, time);
  if (MANAGEMENT.has(type)) return { ok: true, events: [managementEvent(r)] };
  const draft = draftOf(r);
  return { ok: true, events: [draft, ...companions(r, draft)] };
}

/**
 * Tenant logs of Auth0, as a log stream posts them (`{log_id, data}`, one, several or `{logs: [...]}`), as an event
 * bus carries them, or as `GET /api/v2/logs` gives them.
 *
 * A rotating refresh token is named by its family and its number there (`familyId`, `tokenCounter`): an exchange
 * consumes that number and issues the next. Codes are masked, so they have no reference. What was changed through the
 * Management API is told by the path of the call.
 */
export default defineSource({
  id: 'auth0',
  title: 'Auth0',
  vendor: 'okta',
  product: 'auth0',
  description: 'Tenant logs of Auth0: log streams, event buses, exports of the Management API.',
  forms: ['json'],
  unwrap,
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'par_pushed',
    'consent_granted',
    'consent_denied',
    'consent_revoked',
    'code_redeemed',
    'device_authorization_requested',
    'device_authorized',
    'backchannel_auth_requested',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'token_revoked',
    'token_reuse_detected',
    'login',
    'login_failed',
    'mfa_challenged',
    'mfa_result',
    'session_ended',
    'session_revoked',
    'account_locked',
    'client_registered',
    'client_updated',
    'client_deleted',
    'client_credential_changed',
    'policy_changed',
    'key_created',
    'key_rotated',
    'key_disabled',
    'key_deleted',
    'secret_read',
    'api_accessed',
    'rate_limited',
    'risk_signal',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome'],
    ...['source.instance', 'source.tenant', 'source.raw_type'],
    ...REQUEST_FIELDS,
    ...['client.id', 'client.name', 'client.auth_method', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type', 'audience'],
    ...['scopes_requested', 'scopes_granted', 'redirect_uri', 'pkce'],
    ...TOKEN_FIELDS,
    ...['tokens.parent_ref', 'tokens.counter', 'session_ref', 'grant_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.country'],
    ...['net.user_agent', 'net.ua_family', 'net.ja4'],
    ...['http.method', 'http.route', 'http.status'],
    ...['key.kid', 'key.operation', 'key.store', 'risk', 'amr'],
    ...['corr.trace_id', 'corr.request_id', 'corr.transaction_id', 'ext'],
  ],
  blind_for: {
    code_redeemed_twice: 'codes are masked but for the last letters',
  },
  confirmed_by: 'real_samples',
  references: [
    'Auth0: Log Event Type Codes; JSON Schemas of the log types (auth0-log-schemas)',
    'Auth0: Log Streams; Refresh Token Rotation; Management API v2',
    'RFC 6749, RFC 7009, RFC 7591, RFC 8628, RFC 8693, RFC 9126, RFC 9700 section 4.14',
  ],
  parse,
});
