import {
  ATTR,
  CLIENT_METADATA_PREFIX,
  EXT_ATTRIBUTE_PREFIX,
  TOKEN_ATTRIBUTE_PREFIX,
} from '../../model/attributes.ts';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft, TokenIdentity } from '../../model/draft.ts';
import {
  BINDINGS,
  EVENT_KINDS,
  IP_ROLES,
  OUTCOMES,
  PHASES,
  PKCE_METHODS,
  SUBJECT_TYPES,
  TOKEN_ROLES,
  TOKEN_TYPES,
} from '../../model/kinds.ts';
import { REQUEST_FIELDS, GRANT_FIELDS, TOKEN_FIELDS } from './_field_groups.ts';
import {
  given,
  isJson,
  type Json,
  numberOf,
  objectIn,
  oneOf,
  own,
  refuse,
  textIn,
  textList,
  timeNs,
} from './_reading.ts';

/** Token mentions read from one record. */
const TOKENS_MAX = 64;

/** Keys of token attributes that were taken apart; a full memory is emptied. */
const KEYS_REMEMBERED_MAX = 1_024;
const tokenKeys = new Map<string, { readonly name: string; readonly field: string }>();

/** `oauth.token.issued.access.ref` as the token's name `issued.access` and the field `ref`. */
function tokenKey(key: string): { readonly name: string; readonly field: string } {
  let parts = tokenKeys.get(key);
  if (parts === undefined) {
    const [role = '', type = '', field = ''] = key.slice(TOKEN_ATTRIBUTE_PREFIX.length).split('.');
    parts = { name: `${role}.${type}`, field };
    if (tokenKeys.size >= KEYS_REMEMBERED_MAX) tokenKeys.clear();
    tokenKeys.set(key, parts);
  }
  return parts;
}

/** Fields of the mentioned tokens, gathered from `oauth.token.<role>.<type>.<field>`. */
function tokensOf(attributes: Json): TokenDraft[] {
  const gathered = new Map<string, Record<string, unknown>>();
  for (const key of Object.keys(attributes)) {
    if (!key.startsWith(TOKEN_ATTRIBUTE_PREFIX)) continue;
    const { name, field } = tokenKey(key);
    let fields = gathered.get(name);
    if (fields === undefined) {
      if (gathered.size >= TOKENS_MAX) continue;
      // Without a prototype, so that any name is a member like any other.
      fields = Object.create(null) as Record<string, unknown>;
      gathered.set(name, fields);
    }
    fields[field] = attributes[key];
  }
  const tokens: TokenDraft[] = [];
  for (const [name, fields] of gathered) {
    const token = tokenOf(name, fields);
    if (token !== undefined) tokens.push(token);
  }
  return tokens;
}

function tokenOf(name: string, fields: Json): TokenDraft | undefined {
  const [roleText, typeText] = name.split('.');
  const role = oneOf(TOKEN_ROLES, roleText);
  const type = oneOf(TOKEN_TYPES, typeText);
  if (role === undefined || type === undefined) return undefined;
  const ref = textIn(fields, 'ref');
  // A UUID jti is its own reference, so its kind need not be lost.
  const identity: TokenIdentity =
    ref === undefined ? {} : textIn(fields, 'ref_kind') === 'jti' ? { jti: ref } : { ref };
  const related = (field: string): TokenIdentity | undefined => {
    const text = textIn(fields, field);
    return text === undefined
      ? undefined
      : given({ ref: text, next_ref: textIn(fields, `next_${field}`) });
  };
  return given({
    role,
    type,
    ...identity,
    next_ref: textIn(fields, 'next_ref'),
    family: related('family_ref'),
    parent: related('parent_ref'),
    counter: numberOf(own(fields, 'counter')),
    issued_at: timeNs(own(fields, 'issued_at')),
    expires_at: timeNs(own(fields, 'expires_at')),
    kid: textIn(fields, 'kid'),
    alg: textIn(fields, 'alg'),
  });
}

const EXT_PREFIXES = [EXT_ATTRIBUTE_PREFIX, CLIENT_METADATA_PREFIX];

/** `oauth.ext.<name>` and the registered metadata of clients. Lists are joined by a space. */
function extOf(attributes: Json): Record<string, string> {
  const entries: [string, string][] = [];
  for (const key of Object.keys(attributes)) {
    const prefix = EXT_PREFIXES.find((p) => key.startsWith(p));
    if (prefix === undefined) continue;
    const text = textList(attributes[key])?.join(' ');
    if (text !== undefined) entries.push([key.slice(prefix.length), text]);
  }
  return Object.fromEntries(entries);
}

function instanceOf(resource: Json): string | undefined {
  const service = textIn(resource, 'service.name');
  const instance = textIn(resource, 'service.instance.id');
  return service !== undefined && instance !== undefined
    ? `${service}/${instance}`
    : (service ?? instance ?? textIn(resource, 'host.name'));
}

function refOf(a: Json, name: string, nextName: string): AuthEventDraft['grant'] {
  const ref = textIn(a, name);
  return ref === undefined ? undefined : given({ ref, next_ref: textIn(a, nextName) });
}

function principalOf(a: Json, of: 'subject' | 'actor'): AuthEventDraft['subject'] {
  return given({
    ref: textIn(a, ATTR[`${of}Ref`]),
    next_ref: textIn(a, ATTR[`${of}NextRef`]),
    type: oneOf(SUBJECT_TYPES, own(a, ATTR[`${of}Type`])),
  });
}

function netOf(a: Json): AuthEventDraft['net'] {
  return given({
    client_ip: textIn(a, ATTR.clientAddress),
    ip_role: oneOf(IP_ROLES, own(a, ATTR.ipRole)),
    user_agent: textIn(a, ATTR.userAgent),
  });
}

function httpOf(a: Json): AuthEventDraft['http'] {
  return given({
    method: textIn(a, ATTR.httpMethod),
    route: textIn(a, ATTR.httpRoute),
    status: numberOf(own(a, ATTR.httpStatus)),
    duration_ms: numberOf(own(a, ATTR.durationMs)),
  });
}

function draftOf(value: Json, kindText: string, time: bigint): AuthEventDraft {
  const a = objectIn(value, 'attributes');
  const kind = oneOf(EVENT_KINDS, kindText);
  return given({
    kind: kind ?? 'unclassified',
    time,
    observed_time: timeNs(own(value, 'observed_time')),
    vendor_event_id: textIn(a, ATTR.eventId),
    raw_type: textIn(a, ATTR.rawType) ?? (kind === undefined ? kindText : textIn(value, 'name')),
    instance: instanceOf(objectIn(value, 'resource')),
    phase: oneOf(PHASES, own(a, ATTR.phase)),
    outcome: oneOf(OUTCOMES, own(a, ATTR.outcome)),
    error: given({
      code: textIn(a, ATTR.errorCode),
      oauth_error: textIn(a, ATTR.oauthError),
      detail: textIn(a, ATTR.errorDetail),
    }),
    grant_type: textIn(a, ATTR.grantType),
    response_type: textIn(a, ATTR.responseType),
    endpoint: textIn(a, ATTR.endpoint),
    client: given({
      id: textIn(a, ATTR.clientId),
      name: textIn(a, ATTR.clientName),
      auth_method: textIn(a, ATTR.clientAuthMethod),
    }),
    requested_client_id: textIn(a, ATTR.requestedClientId),
    subject: principalOf(a, 'subject'),
    actor: principalOf(a, 'actor'),
    issuer: textIn(a, ATTR.issuer),
    audience: textList(own(a, ATTR.audience)),
    resource: textList(own(a, ATTR.resource)),
    scopes_requested: textList(own(a, ATTR.scopesRequested)),
    scopes_granted: textList(own(a, ATTR.scopesGranted)),
    redirect_uri: textIn(a, ATTR.redirectUri),
    pkce: oneOf(PKCE_METHODS, own(a, ATTR.pkce)),
    binding: oneOf(BINDINGS, own(a, ATTR.binding)),
    binding_thumbprint: textIn(a, ATTR.bindingThumbprint),
    tokens: tokensOf(a),
    session: refOf(a, ATTR.sessionRef, ATTR.sessionNextRef),
    grant: refOf(a, ATTR.grantRef, ATTR.grantNextRef),
    net: netOf(a),
    http: httpOf(a),
    policy: given({ decision: textIn(a, ATTR.policyDecision) }),
    acr: textIn(a, ATTR.acr),
    amr: textList(own(a, ATTR.amr)),
    corr: given({
      trace_id: textIn(value, 'trace_id'),
      span_id: textIn(value, 'span_id'),
      request_id: textIn(a, ATTR.requestId),
    }),
    reference_key_id: textIn(a, ATTR.keyId),
    next_reference_key_id: textIn(a, ATTR.nextKeyId),
    ext: extOf(a),
  });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is a span or log record in JSON');
  }
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be an object');
  const kind = textIn(objectIn(value, 'attributes'), ATTR.kind);
  if (kind === undefined) return refuse('missing_field', `attributes.${ATTR.kind}: is required`);
  const rawTime = own(value, 'time_unix_nano') ?? own(value, 'observed_time');
  if (rawTime === undefined) return refuse('missing_field', 'time_unix_nano: is required');
  const time = timeNs(rawTime);
  if (time === undefined) {
    return refuse('invalid_time', 'time_unix_nano: must be nanoseconds since the epoch');
  }
  return { ok: true, events: [draftOf(value, kind, time)] };
}

/**
 * Spans, span events and log records that carry the attributes of `model/attributes.ts`, as the OTLP receiver
 * hands them on. Tokens, people, sessions and grants come as references; a value that is no reference is not
 * stored at all.
 */
export default defineSource({
  id: 'otlp',
  title: 'OpenTelemetry',
  vendor: 'opentelemetry',
  product: 'otlp',
  description: 'Spans and log records with the oauth.* attributes that the instrumentation writes.',
  forms: ['json'],
  provides: [
    ...['event_id', 'time', 'observed_time', 'kind', 'phase', 'outcome'],
    ...['source.instance', 'source.raw_type'],
    ...REQUEST_FIELDS,
    ...['client.id', 'client.name', 'client.auth_method', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type', 'issuer', 'audience', 'resource'],
    ...GRANT_FIELDS,
    ...TOKEN_FIELDS,
    ...['tokens.parent_ref', 'tokens.counter', 'tokens.issued_at', 'tokens.expires_at'],
    ...['tokens.kid', 'tokens.alg', 'session_ref', 'grant_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms', 'policy.decision'],
    ...['acr', 'amr', 'corr.trace_id', 'corr.span_id', 'corr.request_id', 'ext'],
  ],
  confirmed_by: 'documents',
  references: [
    'model/attributes.ts',
    'OpenTelemetry semantic conventions 1.45 (client, http, user_agent)',
  ],
  parse,
});
