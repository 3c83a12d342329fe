import { ATTR } from '../../model/attributes.ts';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import { PKCE_METHODS, type EventKind, type Outcome } from '../../model/kinds.ts';
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
  scalarText,
  textIn,
  textList,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** Spans opened in one export, attributes read of one span. */
const SPANS_MAX = 100_000;
const ATTRIBUTES_MAX = 200;

interface Mapping {
  readonly kind: EventKind;
  readonly failed?: EventKind;
  readonly endpoint?: string;
  readonly grant_type?: string;
}

const token = (kind: EventKind, grant_type: string): Mapping => ({
  ...{ kind, failed: 'token_request_failed', endpoint: 'token', grant_type },
});
const LOGIN: Mapping = { kind: 'login', failed: 'login_failed', endpoint: 'authorization' };
const CONSENT: Mapping = {
  kind: 'consent_granted',
  failed: 'consent_denied',
  endpoint: 'authorization',
};

/** By the class of the authentication that was asked for, without `AuthenticationToken`. */
const AUTHENTICATIONS: Readonly<Record<string, Mapping>> = {
  OAuth2AuthorizationCodeRequest: {
    ...{ kind: 'authorization_requested', failed: 'authorization_failed' },
    endpoint: 'authorization',
  },
  OAuth2AuthorizationConsent: CONSENT,
  OAuth2DeviceAuthorizationConsent: CONSENT,
  OAuth2AuthorizationCode: token('token_issued', 'authorization_code'),
  OAuth2RefreshToken: token('token_refreshed', 'refresh_token'),
  OAuth2ClientCredentials: token('token_issued', 'client_credentials'),
  OAuth2DeviceCode: token('token_issued', 'urn:ietf:params:oauth:grant-type:device_code'),
  OAuth2TokenExchange: token('token_exchanged', 'urn:ietf:params:oauth:grant-type:token-exchange'),
  OAuth2TokenIntrospection: { kind: 'token_introspected', endpoint: 'introspection' },
  OAuth2TokenRevocation: { kind: 'token_revoked', endpoint: 'revocation' },
  OAuth2PushedAuthorizationRequest: {
    kind: 'par_pushed',
    endpoint: 'pushed_authorization_request',
  },
  OAuth2DeviceAuthorizationRequest: {
    ...{ kind: 'device_authorization_requested', endpoint: 'device_authorization' },
  },
  OAuth2DeviceVerification: { kind: 'device_authorized', endpoint: 'device' },
  OidcUserInfo: { kind: 'userinfo_accessed', endpoint: 'userinfo' },
  OidcClientRegistration: { kind: 'client_registered', endpoint: 'registration' },
  OAuth2ClientRegistration: { kind: 'client_registered', endpoint: 'registration' },
  OidcLogout: { kind: 'session_ended', endpoint: 'end_session' },
  UsernamePassword: LOGIN,
  OneTimeToken: LOGIN,
  WebAuthnAuthenticationRequest: LOGIN,
  OAuth2Login: { kind: 'federation_handshake' },
  BearerToken: { kind: 'token_validated', failed: 'token_rejected' },
};

/** By the path of a request; the filters that answer them have no route of their own. */
const PATHS: Readonly<Record<string, Mapping>> = {
  '/oauth2/authorize': {
    ...{ kind: 'authorization_requested', failed: 'authorization_failed' },
    endpoint: 'authorization',
  },
  '/oauth2/token': { kind: 'token_issued', failed: 'token_request_failed', endpoint: 'token' },
  '/oauth2/introspect': { kind: 'token_introspected', endpoint: 'introspection' },
  '/oauth2/revoke': { kind: 'token_revoked', endpoint: 'revocation' },
  '/oauth2/par': { kind: 'par_pushed', endpoint: 'pushed_authorization_request' },
  '/oauth2/jwks': { kind: 'jwks_fetched', endpoint: 'jwks' },
  '/oauth2/device_authorization': {
    ...{ kind: 'device_authorization_requested', endpoint: 'device_authorization' },
  },
  '/oauth2/device_verification': { kind: 'device_authorized', endpoint: 'device' },
  '/oauth2/register': { kind: 'client_registered', endpoint: 'registration' },
  '/connect/register': { kind: 'client_registered', endpoint: 'registration' },
  '/connect/logout': { kind: 'session_ended', endpoint: 'end_session' },
  '/userinfo': { kind: 'userinfo_accessed', endpoint: 'userinfo' },
};

/** Spans of an OTLP export, each with its resource; undefined for anything else. */
function unwrap(value: unknown): readonly unknown[] | undefined {
  const list = isJson(value) ? own(value, 'resourceSpans') : undefined;
  if (!Array.isArray(list)) return undefined;
  const found: unknown[] = [];
  for (const resourceSpans of jsonsOf(list)) {
    const resource = attributesOf(own(objectIn(resourceSpans, 'resource'), 'attributes'));
    for (const scope of jsonsOf(own(resourceSpans, 'scopeSpans'))) {
      for (const span of jsonsOf(own(scope, 'spans'))) {
        if (found.length < SPANS_MAX) found.push({ ...span, resource });
      }
    }
  }
  return found;
}

function jsonsOf(list: unknown): readonly Json[] {
  return Array.isArray(list) ? (list as readonly unknown[]).filter(isJson) : [];
}

/** Key values as an object, as a list of `{key, value}`, or as OTLP writes them. */
function attributesOf(...groups: readonly unknown[]): Json {
  const entries = groups.flatMap((group): [string, unknown][] => {
    if (isJson(group)) return Object.entries(group).slice(0, ATTRIBUTES_MAX);
    return jsonsOf(group)
      .slice(0, ATTRIBUTES_MAX)
      .map((entry) => [textIn(entry, 'key') ?? '', plain(own(entry, 'value'))]);
  });
  return Object.fromEntries(entries);
}

function plain(value: unknown): unknown {
  if (!isJson(value)) return value;
  const list = own(objectIn(value, 'arrayValue'), 'values');
  if (Array.isArray(list)) return jsonsOf(list).map(plain);
  return textIn(value, 'stringValue', 'intValue', 'doubleValue', 'boolValue');
}

/** Values that mean "none" in Spring's observations. */
const ABSENT = new Set(['', 'n/a', 'none', 'None', 'unknown', 'UNKNOWN', 'null', 'Optional']);

interface Reading {
  readonly value: Json;
  readonly a: Json;
  /** An attribute's text; undefined for the literals that mean "none". */
  readonly field: (name: string) => string | undefined;
  readonly time: bigint;
}

function readingOf(value: Json, a: Json, time: bigint): Reading {
  const field = (name: string): string | undefined => {
    const text = scalarText(own(a, name))?.trim();
    return text === undefined || ABSENT.has(text) ? undefined : text;
  };
  return { value, a, field, time };
}

/** What any span says, and what an ObservationFilter of the operator may add in the words of our attributes. */
function common(r: Reading): Omit<AuthEventDraft, 'kind'> {
  const { value, field } = r;
  const resource = attributesOf(own(value, 'resource'));
  const trace = textIn(value, 'traceId', 'trace_id');
  const span = textIn(value, 'spanId', 'span_id');
  return given({
    time: r.time,
    vendor_event_id: trace === undefined || span === undefined ? undefined : `${trace}:${span}`,
    instance: textIn(resource, 'service.instance.id', 'service.name') ?? textIn(value, 'service'),
    client: given({ id: field(ATTR.clientId), auth_method: field(ATTR.clientAuthMethod) }),
    scopes_requested: textList(own(r.a, ATTR.scopesRequested)),
    scopes_granted: textList(own(r.a, ATTR.scopesGranted)),
    redirect_uri: field(ATTR.redirectUri),
    pkce: oneOf(PKCE_METHODS, field(ATTR.pkce)),
    net: given({ client_ip: field(ATTR.clientAddress), user_agent: field(ATTR.userAgent) }),
    corr: given({ trace_id: trace, span_id: span }),
  });
}

/** `authenticate oauth2authorizationcode`: the observation's contextual name, which redaction lets pass. */
const rawTypeOf = (type: string): string =>
  `authenticate ${type
    .replace(/Token$/, '')
    .replace(/Authentication$/, '')
    .toLowerCase()}`;

/**
 * What the AuthenticationManager decided. The request that it belongs to is counted by its own span. Its facts are
 * added to fresh ones: spreading objects of many shapes takes more time than all the rest.
 */
function authenticationEvent(r: Reading, type: string): AuthEventDraft {
  const name = type.replace(/Token$/, '').replace(/Authentication$/, '');
  const mapping = lookUp(AUTHENTICATIONS, name) ?? { kind: 'unclassified' };
  const failure = r.field('authentication.failure.type');
  const done = r.field('authentication.result.type') !== undefined;
  const outcome: Outcome = failure !== undefined ? 'failure' : done ? 'success' : 'unknown';
  const isLogin = mapping === LOGIN || mapping.kind === 'token_validated';
  const facts = given({
    kind: failure === undefined ? mapping.kind : (mapping.failed ?? mapping.kind),
    raw_type: rawTypeOf(type),
    // Logins and bearer tokens have no endpoint whose requests are counted.
    phase: isLogin || mapping.kind === 'unclassified' ? undefined : ('attempt' as const),
    outcome,
    error: failure === undefined ? undefined : errorOf(r, failure),
    endpoint: mapping.endpoint,
    grant_type: mapping.grant_type ?? r.field(ATTR.grantType),
    http: given({ duration_ms: durationOf(r.value) }),
  });
  return Object.assign(common(r), facts);
}

/** The class of the exception in words, and the OAuth error that begins its message: `[invalid_grant] ...`. */
function errorOf(r: Reading, failure: string): AuthEventDraft['error'] {
  const message =
    r.field('error') ??
    r.field('exception.message') ??
    textIn(objectIn(r.value, 'status'), 'message');
  const said = /^\[([a-z][a-z_]{2,40})\]/.exec(message ?? '')?.[1];
  return given({
    code: wordsOf(failure),
    oauth_error: r.field(ATTR.oauthError) ?? said,
    detail: message,
  });
}

const wordsOf = (name: string): string =>
  name
    .slice(0, 120)
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase();

const DECISIONS: Readonly<Record<string, Outcome>> = { true: 'success', false: 'denied' };

function authorizationEvent(r: Reading, decision: string): AuthEventDraft {
  const outcome = lookUp(DECISIONS, decision) ?? 'unknown';
  const facts = given({
    kind: 'policy_decided' as const,
    raw_type: 'spring.security.authorizations',
    outcome,
    policy: given({
      decision: outcome === 'success' ? 'allow' : outcome === 'denied' ? 'deny' : undefined,
      path: r.field('object.type'),
    }),
    http: given({ duration_ms: durationOf(r.value) }),
  });
  return Object.assign(common(r), facts);
}

/** A request to the server: the outcome that counts. Its grant type is known to the authentication alone. */
function requestEvent(r: Reading, path: string): AuthEventDraft {
  const route = path.replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0] ?? '';
  const status = numberOf(r.field(ATTR.httpStatus) ?? r.field('status'));
  const mapping = lookUp(PATHS, route) ?? lookUp(PATHS, tailOf(route.replace(/\/$/, '')));
  const outcome: Outcome = status === undefined ? 'unknown' : status < 400 ? 'success' : 'failure';
  const exception = r.field('exception') ?? r.field('error.type');
  const facts = given({
    kind:
      outcome === 'failure'
        ? (mapping?.failed ?? mapping?.kind ?? ('unclassified' as const))
        : (mapping?.kind ?? ('unclassified' as const)),
    raw_type: 'http.server.requests',
    phase: mapping === undefined ? undefined : ('outcome' as const),
    outcome,
    error: exception === undefined ? undefined : given({ code: wordsOf(exception) }),
    endpoint: mapping?.endpoint,
    grant_type: r.field(ATTR.grantType),
    http: given({
      method: r.field(ATTR.httpMethod) ?? r.field('method'),
      route,
      status,
      duration_ms: durationOf(r.value),
    }),
  });
  return Object.assign(common(r), facts);
}

/** With an issuer per tenant the endpoints stand below its path: `/tenant/oauth2/token`. */
const tailOf = (route: string): string =>
  /\/(?:oauth2|connect)\/\w+$|\/userinfo$/.exec(route)?.[0] ?? '';

const START = ['startTimeUnixNano', 'start_time_unix_nano', 'start'] as const;
const END = [
  'endTimeUnixNano',
  'end_time_unix_nano',
  'end',
  'timestamp',
  '@timestamp',
  'time',
] as const;

function firstOf(value: Json, names: readonly string[]): unknown {
  return names.map((name) => own(value, name)).find((v) => v !== undefined && v !== null);
}

function durationOf(value: Json): number | undefined {
  const told = numberOf(own(value, 'duration_ms'));
  if (told !== undefined) return told;
  const start = timeNs(firstOf(value, START));
  const end = timeNs(firstOf(value, END));
  return start === undefined || end === undefined || end < start
    ? undefined
    : Number(end - start) / 1e6;
}

function eventsOf(r: Reading): AuthEventDraft[] {
  const type = r.field('authentication.request.type');
  if (type !== undefined) return [authenticationEvent(r, type)];
  const decision = scalarText(own(r.a, 'authorization.decision'));
  if (decision !== undefined) return [authorizationEvent(r, decision)];
  const isServer = r.field('method') !== undefined || r.field(ATTR.httpMethod) !== undefined;
  // What a server calls itself is no request to it.
  const isCall = r.field('client.name') !== undefined || CALLS.has(own(r.value, 'kind'));
  const path = isCall ? undefined : pathOf(r);
  return isServer && path !== undefined ? [requestEvent(r, path)] : [];
}

/** A client span, in the spellings of OTLP and of exporters. */
const CALLS: ReadonlySet<unknown> = new Set([3, 'SPAN_KIND_CLIENT', 'CLIENT']);

const pathOf = ({ field }: Reading): string | undefined =>
  field('http.url') ?? field('url.path') ?? field('uri') ?? field(ATTR.httpRoute);

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is a span or an observation in JSON');
  }
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const groups = ['attributes', 'tags', 'lowCardinalityKeyValues', 'highCardinalityKeyValues'];
  const keyValues = groups.map((name) => own(value, name)).filter((g) => g !== undefined);
  if (textIn(value, 'name') === undefined || keyValues.length === 0) {
    return refuse(
      'unrecognised_record',
      'record: no span or observation; name, and attributes or lowCardinalityKeyValues, are needed',
    );
  }
  const stamp = firstOf(value, END) ?? firstOf(value, START);
  if (stamp === undefined) return refuse('missing_field', 'endTimeUnixNano: is required');
  const time = timeNs(stamp);
  if (time === undefined) {
    return refuse('invalid_time', `endTimeUnixNano: not a time; ${TIME_ALLOWED}`);
  }
  return { ok: true, events: eventsOf(readingOf(value, attributesOf(...keyValues), time)) };
}

/**
 * Spring Authorization Server by its Micrometer observations: the spans of requests and of the AuthenticationManager, as
 * an OTLP exporter writes them in JSON, or the observations as a handler of one's own writes them. The two join by the
 * trace: the request counts (`outcome`), the authentication tells the grant type and the exception (`attempt`). Neither
 * names client, person or token; an ObservationFilter may add them in the words of model/attributes.ts.
 */
export default defineSource({
  id: 'spring_authorization_server',
  title: 'Spring Authorization Server',
  vendor: 'spring',
  product: 'spring_authorization_server',
  description: 'Spans and observations of Spring Security and Spring Authorization Server in JSON.',
  forms: ['json'],
  kinds: [
    'authorization_requested',
    'authorization_failed',
    'par_pushed',
    'consent_granted',
    'consent_denied',
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
    'login',
    'login_failed',
    'session_ended',
    'client_registered',
    'jwks_fetched',
    'policy_decided',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.instance', 'source.raw_type'],
    ...REQUEST_FIELDS.filter((f) => f !== 'response_type'),
    ...['client.id', 'client.auth_method', 'scopes_requested', 'scopes_granted'],
    ...['redirect_uri', 'pkce', 'net.client_ip', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms'],
    ...['policy.decision', 'policy.path', 'corr.trace_id', 'corr.span_id'],
  ],
  confirmed_by: 'documents',
  references: [
    'Spring Security Reference: Observability; AuthenticationObservationConvention',
    'Spring Framework Reference: Observability support, HTTP server',
    'Spring Authorization Server Reference: Protocol endpoints, configuration model',
  ],
  unwrap,
  parse,
});
