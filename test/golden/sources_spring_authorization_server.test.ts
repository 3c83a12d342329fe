import { describe, expect, it } from 'vitest';
import spring from '../../collector/sources/spring_authorization_server.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, withoutId } from './run_source.ts';

const at = 1_767_225_600_012_000_000n;
const trace = '0af7651916cd43dd8448eb211c80319c';
const span = 'b7ad6b7169203331';
const times = { startTimeUnixNano: '1767225600000000000', endTimeUnixNano: '1767225600012000000' };
const spanOf = (name: string, attributes: object, more: object = {}) => ({
  ...{ name, traceId: trace, spanId: span, ...times, attributes, ...more },
});
const authentication = (type: string, failure = 'n/a', more: object = {}) =>
  spanOf('authenticate x', {
    'authentication.request.type': type,
    'authentication.method': 'ProviderManager',
    'authentication.result.type':
      failure === 'n/a' ? 'OAuth2AccessTokenAuthenticationToken' : 'n/a',
    'authentication.failure.type': failure,
    ...more,
  });
const request = (url: string, status: string, more: object = {}) =>
  spanOf('http post', {
    ...{ method: 'POST', 'http.url': url, uri: 'UNKNOWN', status, outcome: 'X', exception: 'none' },
    ...more,
  });
const read = (value: unknown) => eventsOf(spring, json(value));
const one = (value: unknown) => {
  const events = read(value);
  expect(events.length).toBe(1);
  return events[0]!;
};

describe('one token request', () => {
  it('is the span of the request, which counts', () => {
    expect(withoutId(one(request('/oauth2/token', '200')))).toEqual(
      expected(spring, {
        ...{ time: at, kind: 'token_issued', phase: 'outcome', outcome: 'success' },
        ...{ endpoint: 'token', source: { raw_type: 'http.server.requests' } },
        http: { method: 'POST', route: '/oauth2/token', status: 200, duration_ms: 12 },
        corr: { trace_id: trace, span_id: span },
      }),
    );
  });

  it('and the span of the authentication, which knows the grant type', () => {
    expect(withoutId(one(authentication('OAuth2RefreshTokenAuthenticationToken')))).toEqual(
      expected(spring, {
        ...{ time: at, kind: 'token_refreshed', phase: 'attempt', outcome: 'success' },
        ...{ endpoint: 'token', grant_type: 'refresh_token', http: { duration_ms: 12 } },
        source: { raw_type: 'authenticate oauth2refreshtoken' },
        corr: { trace_id: trace, span_id: span },
      }),
    );
  });

  it('refused, with the error that begins the message', () => {
    const error = '[invalid_grant] The code has been used.';
    const event = one(
      authentication(
        'OAuth2AuthorizationCodeAuthenticationToken',
        'OAuth2AuthenticationException',
        { error },
      ),
    );
    expect(event).toMatchObject({
      ...{ kind: 'token_request_failed', phase: 'attempt', outcome: 'failure' },
      grant_type: 'authorization_code',
      error: {
        code: 'oauth2_authentication_exception',
        oauth_error: 'invalid_grant',
        detail: error,
      },
    });
    const status = { status: { code: 2, message: '[invalid_scope] No.' } };
    const { attributes } = authentication('OAuth2ClientCredentialsAuthenticationToken', 'X');
    expect(one(spanOf('a', attributes, status)).error).toMatchObject({
      oauth_error: 'invalid_scope',
    });
  });
});

it.each([
  [
    'OAuth2AuthorizationCodeRequestAuthenticationToken',
    'authorization_requested',
    'authorization_failed',
    'attempt',
  ],
  ['OAuth2AuthorizationConsentAuthenticationToken', 'consent_granted', 'consent_denied', 'attempt'],
  [
    'OAuth2DeviceAuthorizationConsentAuthenticationToken',
    'consent_granted',
    'consent_denied',
    'attempt',
  ],
  ['OAuth2AuthorizationCodeAuthenticationToken', 'token_issued', 'token_request_failed', 'attempt'],
  ['OAuth2ClientCredentialsAuthenticationToken', 'token_issued', 'token_request_failed', 'attempt'],
  ['OAuth2DeviceCodeAuthenticationToken', 'token_issued', 'token_request_failed', 'attempt'],
  ['OAuth2TokenExchangeAuthenticationToken', 'token_exchanged', 'token_request_failed', 'attempt'],
  [
    'OAuth2TokenIntrospectionAuthenticationToken',
    'token_introspected',
    'token_introspected',
    'attempt',
  ],
  ['OAuth2TokenRevocationAuthenticationToken', 'token_revoked', 'token_revoked', 'attempt'],
  ['OAuth2PushedAuthorizationRequestAuthenticationToken', 'par_pushed', 'par_pushed', 'attempt'],
  [
    'OAuth2DeviceAuthorizationRequestAuthenticationToken',
    'device_authorization_requested',
    'device_authorization_requested',
    'attempt',
  ],
  [
    'OAuth2DeviceVerificationAuthenticationToken',
    'device_authorized',
    'device_authorized',
    'attempt',
  ],
  ['OidcUserInfoAuthenticationToken', 'userinfo_accessed', 'userinfo_accessed', 'attempt'],
  [
    'OidcClientRegistrationAuthenticationToken',
    'client_registered',
    'client_registered',
    'attempt',
  ],
  [
    'OAuth2ClientRegistrationAuthenticationToken',
    'client_registered',
    'client_registered',
    'attempt',
  ],
  ['OidcLogoutAuthenticationToken', 'session_ended', 'session_ended', 'attempt'],
  ['OAuth2LoginAuthenticationToken', 'federation_handshake', 'federation_handshake', 'attempt'],
  ['UsernamePasswordAuthenticationToken', 'login', 'login_failed', 'single'],
  ['OneTimeTokenAuthenticationToken', 'login', 'login_failed', 'single'],
  ['WebAuthnAuthenticationRequestToken', 'login', 'login_failed', 'single'],
  ['BearerTokenAuthenticationToken', 'token_validated', 'token_rejected', 'single'],
  ['OAuth2ClientAuthenticationToken', 'unclassified', 'unclassified', 'single'],
  ['SomethingNewAuthenticationToken', 'unclassified', 'unclassified', 'single'],
  ['constructor', 'unclassified', 'unclassified', 'single'],
])('%s', (type, kind, failed, phase) => {
  const done = one(authentication(type));
  expect([done.kind, done.outcome, done.phase]).toEqual([kind, 'success', phase]);
  const broken = one(authentication(type, 'BadCredentialsException'));
  expect([broken.kind, broken.outcome, broken.error.code]).toEqual([
    ...[failed, 'failure', 'bad_credentials_exception'],
  ]);
  expect(done.source.raw_type).not.toContain('[redacted]');
  // Neither done nor failed, as older versions print it.
  const open = { 'authentication.result.type': 'n/a' };
  expect(one(authentication(type, 'Optional', open)).outcome).toBe('unknown');
});

it.each([
  ['/oauth2/token', '401', 'token_request_failed', 'failure', 'token'],
  ['/oauth2/authorize?state=x', '302', 'authorization_requested', 'success', 'authorization'],
  ['/oauth2/authorize', '400', 'authorization_failed', 'failure', 'authorization'],
  ['/oauth2/introspect', '200', 'token_introspected', 'success', 'introspection'],
  ['/oauth2/revoke', '500', 'token_revoked', 'failure', 'revocation'],
  ['/oauth2/par', '201', 'par_pushed', 'success', 'pushed_authorization_request'],
  ['/oauth2/jwks', '200', 'jwks_fetched', 'success', 'jwks'],
  [
    '/oauth2/device_authorization',
    '200',
    'device_authorization_requested',
    'success',
    'device_authorization',
  ],
  ['/connect/register', '201', 'client_registered', 'success', 'registration'],
  ['/connect/logout', '302', 'session_ended', 'success', 'end_session'],
  ['/userinfo', '200', 'userinfo_accessed', 'success', 'userinfo'],
  ['https://auth.example.com/tenant-1/oauth2/token/', '200', 'token_issued', 'success', 'token'],
  ['/login', '200', 'unclassified', 'success', ''],
  ['/oauth2/token', 'UNKNOWN', 'token_issued', 'unknown', 'token'],
])('%s %s', (url, status, kind, outcome, endpoint) => {
  const event = one(request(url, status));
  expect([event.kind, event.outcome, event.endpoint]).toEqual([kind, outcome, endpoint]);
  expect(event.phase).toBe(endpoint === '' ? 'single' : 'outcome');
  expect(event.http.route).not.toContain('state');
});

it('an authorization is a policy decision', () => {
  const decide = (decision: string) =>
    one(
      spanOf('authorize request', {
        ...{ 'authorization.decision': decision, 'object.type': 'request' },
        'authentication.type': 'JwtAuthenticationToken',
      }),
    );
  expect(decide('true')).toMatchObject({
    ...{ kind: 'policy_decided', outcome: 'success' },
    policy: { decision: 'allow', path: 'request' },
  });
  expect([decide('false').outcome, decide('false').policy.decision]).toEqual(['denied', 'deny']);
  expect([decide('unknown').outcome, decide('unknown').policy.decision]).toEqual(['unknown', '']);
});

it('spans of other things, and calls that the server makes, are nothing', () => {
  const noise = [
    spanOf('security filterchain before', { 'chain.position': '0', 'filter.section': 'before' }),
    spanOf('query', { 'jdbc.query[0]': 'select 1' }),
    spanOf('http get', { method: 'GET', 'http.url': '/oauth2/token', 'client.name': 'idp' }),
    spanOf('http get', { method: 'GET', 'http.url': '/oauth2/token' }, { kind: 3 }),
  ];
  expect(noise.flatMap(read)).toEqual([]);
});

it('reads what an ObservationFilter adds', () => {
  const more = {
    ...{ 'oauth.client_id': 'shop', 'oauth.client_auth_method': 'client_secret_basic' },
    ...{ 'oauth.scopes_requested': 'a b', 'oauth.scopes_granted': ['a'], 'oauth.pkce': 'S256' },
    ...{ 'oauth.redirect_uri': 'https://shop.example.com/cb', 'client.address': '203.0.113.9' },
    ...{ 'user_agent.original': 'curl/8.5.0', 'oauth.grant_type': 'authorization_code' },
  };
  expect(one(request('/oauth2/token', '200', more))).toMatchObject({
    client: { id: 'shop', auth_method: 'client_secret_basic' },
    ...{ scopes_requested: ['a', 'b'], scopes_granted: ['a'], pkce: 'S256' },
    ...{ redirect_uri: 'https://shop.example.com/cb', grant_type: 'authorization_code' },
    net: { client_ip: '203.0.113.9', user_agent: 'curl/8.5.0' },
  });
});

describe('forms', () => {
  const attributes = [
    { key: 'method', value: { stringValue: 'POST' } },
    { key: 'http.url', value: { stringValue: '/oauth2/token' } },
    { key: 'status', value: { intValue: '200' } },
    { key: 'oauth.scopes_granted', value: { arrayValue: { values: [{ stringValue: 'a' }] } } },
  ];

  it('an OTLP export', () => {
    const exported = {
      resourceSpans: [
        {
          resource: { attributes: [{ key: 'service.name', value: { stringValue: 'auth' } }] },
          scopeSpans: [{ spans: [{ ...spanOf('http post', {}), attributes }, 7] }, null],
        },
      ],
    };
    const records = spring.unwrap!(exported)!;
    expect(records.length).toBe(1);
    expect(one(records[0])).toMatchObject({
      ...{ kind: 'token_issued', source: { instance: 'auth' }, http: { status: 200 } },
      scopes_granted: ['a'],
    });
    for (const value of [{}, { resourceSpans: 'x' }, [], null, 'x']) {
      expect(spring.unwrap!(value)).toBeUndefined();
    }
  });

  it('an observation with its key values', () => {
    const observed = {
      ...{ name: 'http.server.requests', timestamp: '2026-01-01T00:00:00.012Z', duration_ms: 12 },
      lowCardinalityKeyValues: { method: 'POST', status: '200', uri: 'UNKNOWN' },
      highCardinalityKeyValues: [{ key: 'http.url', value: '/oauth2/token' }],
    };
    expect(one(observed)).toMatchObject({
      ...{ kind: 'token_issued', time: at, http: { route: '/oauth2/token', duration_ms: 12 } },
    });
  });

  it('a repeated span is the same event', () => {
    const value = request('/oauth2/token', '200');
    expect(one(value).event_id).toBe(one({ ...value, extra: 1 }).event_id);
    expect(one({ ...value, spanId: 'b7ad6b7169203332' }).event_id).not.toBe(one(value).event_id);
  });
});

describe('refusals', () => {
  const needed =
    'record: no span or observation; name, and attributes or lowCardinalityKeyValues, are needed';
  it.each([
    [{ hello: 'world' }, 'unrecognised_record', needed],
    [{ name: 'x' }, 'unrecognised_record', needed],
    [{ name: 'x', attributes: {} }, 'missing_field', 'endTimeUnixNano: is required'],
    [
      { name: 'x', attributes: {}, time: 'x' },
      'invalid_time',
      'endTimeUnixNano: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [null, 'not_an_object', 'record: must be a JSON object'],
  ])('%j', (value, code, message) => {
    expect(spring.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('text', () => {
    expect(spring.parse(line('x'), { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code: 'unsupported_form' },
      message: 'text: allowed is a span or an observation in JSON',
    });
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      '{"name":"x","time":"2026-01-01T00:00:00Z","resource":[1],"status":7,"attributes":' +
        '{"__proto__":{"method":"GET"},"authentication.request.type":"__proto__","authentication.failure.type":{}}}',
    ) as unknown;
    expect(one(hostile)).toMatchObject({ kind: 'unclassified', outcome: 'unknown' });
  });
});

it('provides what it says', () => {
  const more = {
    ...{ 'oauth.client_id': 'a', 'oauth.client_auth_method': 'b', 'oauth.scopes_requested': 'c' },
    ...{ 'oauth.scopes_granted': 'c', 'oauth.redirect_uri': 'https://a.example.com/' },
    ...{ 'oauth.pkce': 'S256', 'client.address': '203.0.113.9', 'user_agent.original': 'curl/8' },
  };
  const resource = { 'service.name': 'auth' };
  const events = [
    one({ ...request('/oauth2/token', '200', more), resource }),
    one(
      authentication('OAuth2RefreshTokenAuthenticationToken', 'X', {
        error: '[invalid_grant] No.',
      }),
    ),
    one(spanOf('a', { 'authorization.decision': 'true', 'object.type': 'request' })),
  ];
  expect(filledFields(events)).toEqual([...spring.provides].sort());
});
