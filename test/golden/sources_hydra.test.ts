import { describe, expect, it } from 'vitest';
import hydra from '../../collector/sources/hydra.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const time = '2026-01-01T00:00:00Z';
const at = 1_767_225_600_000_000_000n;
const MASK =
  'Value is sensitive and has been redacted. To see the value set config key "log.leak_sensitive_values = true" or environment variable "LOG_LEAK_SENSITIVE_VALUES=true".';
const trace = '0af7651916cd43dd8448eb211c80319c';
const span = 'b7ad6b7169203331';

const request = (path: string, method = 'POST', more: object = {}) => ({
  ...{ time, level: 'info', msg: 'completed handling request', service_name: 'Ory Hydra' },
  http_request: {
    ...{
      host: 'auth.example.com',
      method,
      path,
      query: null,
      remote: '10.0.0.1:4711',
      scheme: 'https',
    },
    headers: { 'user-agent': 'curl/8.5.0', 'x-forwarded-for': '203.0.113.9, 10.0.0.2' },
  },
  http_response: { status: 200, size: 900, text_status: 'OK', took: 12_500_000, headers: {} },
  otel: { trace_id: trace, span_id: span },
  ...more,
});
const status = (code: number) => ({ http_response: { status: code, took: 1_000_000 } });
const read = (value: unknown) => eventsOf(hydra, json(value));
const one = (value: unknown) => {
  const events = read(value);
  expect(events.length).toBe(1);
  return events[0]!;
};
const net = {
  ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
  ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
};

describe('JSON requests', () => {
  it('a token request', () => {
    expect(withoutId(one(request('/oauth2/token')))).toEqual(
      expected(hydra, {
        ...{ time: at, kind: 'token_issued', outcome: 'success', endpoint: 'token', net },
        source: { instance: 'auth.example.com', raw_type: 'completed handling request' },
        http: { method: 'POST', route: '/oauth2/token', status: 200, duration_ms: 12.5 },
        corr: { trace_id: trace, span_id: span },
      }),
    );
  });

  it.each([
    ['POST', '/oauth2/token', 401, 'token_request_failed', 'failure', 'token'],
    ['POST', '/oauth2/token', 500, 'token_request_failed', 'failure', 'token'],
    ['GET', '/oauth2/auth', 302, 'authorization_requested', 'success', 'authorization'],
    ['GET', '/oauth2/auth', 400, 'authorization_failed', 'failure', 'authorization'],
    ['POST', '/admin/oauth2/introspect', 200, 'token_introspected', 'success', 'introspection'],
    ['POST', '/oauth2/introspect', 401, 'token_introspected', 'failure', 'introspection'],
    ['POST', '/oauth2/revoke', 200, 'token_revoked', 'success', 'revocation'],
    ['GET', '/userinfo', 401, 'userinfo_accessed', 'failure', 'userinfo'],
    [
      'POST',
      '/oauth2/device/auth',
      200,
      'device_authorization_requested',
      'success',
      'device_authorization',
    ],
    ['GET', '/oauth2/sessions/logout', 302, 'session_ended', 'success', 'end_session'],
    ['GET', '/.well-known/jwks.json', 200, 'jwks_fetched', 'success', 'jwks'],
    ['POST', '/admin/clients', 201, 'client_registered', 'success', 'registration'],
    ['POST', '/oauth2/register', 201, 'client_registered', 'success', 'registration'],
    ['PATCH', '/admin/clients/shop', 200, 'client_updated', 'success', 'registration'],
    ['DELETE', '/admin/clients/shop', 204, 'client_deleted', 'success', 'registration'],
    ['PUT', '/admin/oauth2/auth/requests/login/accept', 200, 'login', 'success', 'login'],
    ['PUT', '/admin/oauth2/auth/requests/login/reject', 200, 'login_failed', 'success', 'login'],
    [
      'PUT',
      '/admin/oauth2/auth/requests/consent/accept',
      200,
      'consent_granted',
      'success',
      'consent',
    ],
    [
      'PUT',
      '/admin/oauth2/auth/requests/consent/reject',
      200,
      'consent_denied',
      'success',
      'consent',
    ],
    ['DELETE', '/admin/oauth2/auth/sessions/consent', 204, 'consent_revoked', 'success', 'consent'],
    ['DELETE', '/admin/oauth2/auth/sessions/login', 204, 'session_revoked', 'success', 'login'],
    ['POST', '/admin/keys/hydra.openid.id-token', 201, 'key_created', 'success', 'keys'],
    ['PUT', '/admin/keys/hydra.openid.id-token/k1', 200, 'key_rotated', 'success', 'keys'],
    ['DELETE', '/admin/keys/hydra.openid.id-token/k1', 204, 'key_deleted', 'success', 'keys'],
    ['GET', '/admin/clients/shop', 200, 'unclassified', 'success', ''],
    ['GET', '/health/ready', 200, 'unclassified', 'success', ''],
  ])('%s %s %i: %s', (method, path, code, kind, outcome, endpoint) => {
    const event = one(request(path, method, status(code)));
    expect([event.kind, event.outcome, event.endpoint]).toEqual([kind, outcome, endpoint]);
    expect(event.phase).toBe('single');
  });

  it('clients and keys in a path are named, and the route is without them', () => {
    const client = one(request('/admin/clients/shop', 'PUT'));
    expect([client.client.id, client.http.route]).toEqual(['shop', '/admin/clients/*']);
    const key = one(request('/admin/keys/set-1/k1', 'DELETE'));
    expect([key.key, key.http.route]).toEqual([
      { kid: 'k1', store: 'set-1', operation: '' },
      '/admin/keys/*/k1',
    ]);
  });

  it('an error before the end is an attempt that names the error', () => {
    const error = {
      message: 'invalid_grant',
      reason: 'The code was used.',
      status_code: 400,
      debug: 'x',
    };
    const event = one(
      request('/oauth2/token', 'POST', {
        msg: 'An error occurred',
        error,
        http_response: undefined,
      }),
    );
    expect(event).toMatchObject({
      ...{ kind: 'token_request_failed', phase: 'attempt', outcome: 'failure' },
      error: { code: '', oauth_error: 'invalid_grant', detail: 'The code was used.' },
    });
    const free = { message: 'Token is expired' };
    expect(
      one(request('/oauth2/token', 'POST', { msg: 'An error occurred', error: free })).error,
    ).toEqual({ code: '', oauth_error: '', detail: 'Token is expired' });
    const denied = { msg: 'access denied', error: { message: 'access_denied' } };
    expect(one(request('/oauth2/auth', 'GET', denied))).toMatchObject({
      ...{ kind: 'authorization_failed', outcome: 'denied', phase: 'attempt' },
    });
    expect(one(request('/oauth2/auth', 'GET', { msg: 'access allowed' }))).toMatchObject({
      ...{ kind: 'authorization_requested', outcome: 'pending', phase: 'attempt' },
    });
  });

  it('the beginning of a request, and what is none, is nothing', () => {
    expect(read(request('/oauth2/token', 'POST', { msg: 'started handling request' }))).toEqual([]);
    expect(read({ time, level: 'info', msg: 'Setting up http server on :4444' })).toEqual([]);
  });

  it('a query that is leaked gives the request, without its state; a masked one is noted', () => {
    const query =
      'client_id=shop&response_type=code&redirect_uri=https%3A%2F%2Fshop.example.com%2Fcb%3Fa%3Db&scope=openid+a&code_challenge_method=S256&state=s3cr3t';
    const { http_request } = request('/oauth2/auth', 'GET');
    const event = one(request('/oauth2/auth', 'GET', { http_request: { ...http_request, query } }));
    expect(event).toMatchObject({
      ...{ client: { id: 'shop' }, response_type: 'code', pkce: 'S256' },
      ...{ redirect_uri: 'https://shop.example.com/cb', scopes_requested: ['a', 'openid'] },
      net: { ip_role: 'end_user' },
    });
    expect(
      JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? '' : v)),
    ).not.toContain('s3cr3t');
    const masked = one(
      request('/oauth2/auth', 'GET', { http_request: { ...http_request, query: MASK } }),
    );
    expect([masked.redaction.upstream, masked.client.id]).toEqual([true, '']);
    expect(event.redaction.upstream).toBe(false);
  });
});

describe('text', () => {
  const maps = (agent: string, rest: string, before = '') =>
    `time=${time} level=info msg=completed handling request ${before}http_request=map[headers:map[accept:*/* user-agent:${agent} x-forwarded-for:203.0.113.9] host:auth.example.com method:POST path:/oauth2/token query:${rest} remote:10.0.0.1:4711 scheme:http]`;
  const answer =
    ' http_response=map[headers:map[x:y] size:900 status:200 text_status:OK took:12.5ms]';

  it('maps as Go prints them', () => {
    const [event] = eventsOf(hydra, line(`${maps('curl/8.5.0', '<nil>')}${answer}`));
    expect({ ...event!, event_id: '' }).toEqual({
      ...one(request('/oauth2/token', 'POST', { otel: undefined })),
      event_id: '',
    });
    const [masked] = eventsOf(
      hydra,
      line(`${maps('curl/8.5.0', MASK)}${answer} service_name=Ory Hydra service_version=v2`),
    );
    expect([masked!.kind, masked!.redaction.upstream]).toEqual(['token_issued', true]);
  });

  it('an error, with service names behind', () => {
    const error =
      'audience=application error=map[debug:a b message:invalid_client reason:Bad secret. status:Unauthorized status_code:401] ';
    const text = maps('curl/8.5.0', '<nil>', error).replace(
      'completed handling request',
      'An error occurred',
    );
    const [event] = eventsOf(hydra, line(`${text} service_name=Ory Hydra service_version=v2.2.0`));
    expect(event).toMatchObject({
      ...{ kind: 'token_request_failed', phase: 'attempt', outcome: 'failure', endpoint: 'token' },
      error: { oauth_error: 'invalid_client', detail: 'Bad secret.' },
      source: { raw_type: 'An error occurred' },
    });
  });

  it('a header cannot forge what follows it', () => {
    const agent =
      'x] host:evil method:GET path:/userinfo query:<nil> remote:198.51.100.1:1 scheme:http] error=map[message:access_denied] http_response=map[headers:map[] size:1 status:500 text_status:OK took:1s]';
    const [event] = eventsOf(hydra, line(`${maps(agent, '<nil>')}${answer}`));
    expect(event).toMatchObject({
      ...{ kind: 'token_issued', outcome: 'success', error: { oauth_error: '' } },
      http: { method: 'POST', route: '/oauth2/token', status: 200, duration_ms: 12.5 },
    });
  });

  it('quoted values, as before version 1.5', () => {
    const text = `time="${time}" level=info msg="completed handling request" measure#hydra/public.latency=10224713 method=DELETE remote="203.0.113.9:55216" request="/oauth2/auth/sessions/consent?subject=ada" request_id=rq-1 status=204 text_status="No Content" took=10.224713ms`;
    expect(withoutId(eventsOf(hydra, line(text))[0]!)).toEqual(
      expected(hydra, {
        ...{ time: at, kind: 'consent_revoked', outcome: 'success', endpoint: 'consent' },
        source: { raw_type: 'completed handling request' },
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'client_backend' },
        http: {
          ...{ method: 'DELETE', route: '/oauth2/auth/sessions/consent', status: 204 },
          duration_ms: 10.224713,
        },
        corr: { request_id: 'rq-1' },
      }),
    );
  });

  it.each([
    ['250µs', 0.25],
    ['900ns', 0.0009],
    ['2s', 2_000],
    ['1m2s', null],
    ['x', null],
  ])('took %s', (took, ms) => {
    const text = `time="${time}" msg="completed handling request" method=GET request="/userinfo" status=200 took=${took}`;
    expect(eventsOf(hydra, line(text))[0]!.http.duration_ms).toBe(ms);
  });
});

describe('events of the traces', () => {
  const event = (name: string, attributes: object = {}) => ({
    ...{ name, timestamp: time, trace_id: trace, span_id: span },
    attributes: {
      ...{
        OAuth2ClientID: 'shop',
        OAuth2Subject: 'ada',
        OAuth2ClientName: 'Shop',
        ProjectID: 'p1',
      },
      ...{ ClientIP: '203.0.113.9', GeoLocationCountry: 'DE', ...attributes },
    },
  });
  const subject = { ref: ring.ref('subject', 'ada'), type: 'user' as const };

  it('an issued token', () => {
    const more = { OAuth2GrantType: 'authorization_code', OAuth2TokenFormat: 'jwt' };
    expect(withoutId(one(event('OAuth2AccessTokenIssued', more)))).toEqual(
      expected(hydra, {
        ...{ time: at, kind: 'token_issued', outcome: 'success', endpoint: 'token', subject },
        source: { tenant: 'p1', raw_type: 'OAuth2AccessTokenIssued' },
        ...{ grant_type: 'authorization_code', client: { id: 'shop', name: 'Shop' } },
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24', country: 'DE' },
        corr: { trace_id: trace, span_id: span },
        ext: { token_format: 'jwt' },
        redaction: { fields: ['subject.ref'] },
      }),
    );
  });

  it.each([
    ['OAuth2AccessTokenIssued', 'refresh_token', 'token_refreshed', 'success', 'single'],
    [
      'OAuth2AccessTokenIssued',
      'urn:ietf:params:oauth:grant-type:token-exchange',
      'token_exchanged',
      'success',
      'single',
    ],
    ['OAuth2AccessTokenIssued', 'client_credentials', 'token_issued', 'success', 'single'],
    ['OAuth2RefreshTokenIssued', 'refresh_token', 'token_issued', 'success', 'attempt'],
    ['OIDCIdentityTokenIssued', '', 'token_issued', 'success', 'attempt'],
    ['OAuth2TokenExchangeError', 'refresh_token', 'token_request_failed', 'failure', 'single'],
    ['OAuth2AccessTokenInspected', '', 'token_introspected', 'success', 'single'],
    ['OAuth2AccessTokenRevoked', '', 'token_revoked', 'success', 'single'],
    ['OAuth2LoginAccepted', '', 'login', 'success', 'single'],
    ['OAuth2LoginRejected', '', 'login_failed', 'denied', 'single'],
    ['OAuth2ConsentAccepted', '', 'consent_granted', 'success', 'single'],
    ['OAuth2ConsentRejected', '', 'consent_denied', 'denied', 'single'],
    ['OAuth2ConsentRevoked', '', 'consent_revoked', 'success', 'single'],
    ['OAuth2ClientCreated', '', 'client_registered', 'success', 'single'],
    ['OAuth2ClientUpdated', '', 'client_updated', 'success', 'single'],
    ['OAuth2ClientDeleted', '', 'client_deleted', 'success', 'single'],
    ['SomethingNew', '', 'unclassified', 'unknown', 'single'],
    ['toString', '', 'unclassified', 'unknown', 'single'],
  ])('%s %s: %s', (name, grant, kind, outcome, phase) => {
    const read = one(event(name, grant === '' ? {} : { OAuth2GrantType: grant }));
    expect([read.kind, read.outcome, read.phase]).toEqual([kind, outcome, phase]);
  });

  it('a service is its own subject', () => {
    const more = { OAuth2GrantType: 'client_credentials', OAuth2Subject: '' };
    expect(one(event('OAuth2AccessTokenIssued', more)).subject).toEqual({
      ...{ ref: ring.ref('subject', 'shop'), type: 'client' },
    });
  });
});

describe('refusals', () => {
  const needed = 'record: no log of Hydra; msg, or name and attributes, are needed';
  it.each([
    [{ hello: 'world' }, 'unrecognised_record', needed],
    [{ name: 'x', attributes: [] }, 'unrecognised_record', needed],
    [{ msg: 'x' }, 'missing_field', 'time: is required'],
    [
      { msg: 'x', time: 'x' },
      'invalid_time',
      'time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [[], 'not_an_object', 'record: must be a JSON object'],
  ])('%j', (value, code, message) => {
    expect(hydra.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it.each([
    ['no log of this kind', 'unrecognised_record'],
    ['msg="x" level=info', 'missing_field'],
    ['time="2026-13-01T00:00:00Z" msg="x"', 'invalid_time'],
    ['x'.repeat(70_000), 'too_large'],
  ])('%.40s', (text, code) => {
    expect(hydra.parse(line(text), { received_at: RECEIVED_AT })).toMatchObject({
      ok: false,
      code,
    });
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      `{"time":"${time}","msg":"completed handling request","error":7,"otel":[],` +
        '"http_request":{"path":"/constructor","method":{},"headers":[1],"query":{}},"http_response":"x"}',
    ) as unknown;
    expect(one(hostile)).toMatchObject({ kind: 'unclassified', outcome: 'unknown' });
  });
});

it('provides what it says', () => {
  const query =
    'client_id=a&response_type=code&redirect_uri=https://a.example.com/&scope=b&code_challenge_method=S256';
  const leaked = { ...request('/oauth2/auth').http_request, query };
  const old = `time="${time}" msg="completed handling request" method=GET request="/userinfo" request_id=r1 status=200`;
  const issued = {
    OAuth2ClientID: 'a',
    OAuth2ClientName: 'A',
    OAuth2GrantType: 'client_credentials',
    ProjectID: 'p',
  };
  const events = [
    one(request('/oauth2/auth', 'GET', { http_request: leaked })),
    one(
      request('/oauth2/auth', 'GET', {
        msg: 'x',
        error: { message: 'invalid_scope', reason: 'No.' },
      }),
    ),
    one(request('/admin/keys/a/b', 'DELETE')),
    one({
      name: 'OAuth2AccessTokenIssued',
      time,
      attributes: { ...issued, OAuth2TokenFormat: 'jwt', GeoLocationCountry: 'DE' },
    }),
    ...eventsOf(hydra, line(old)),
  ];
  expect(filledFields(events)).toEqual([...hydra.provides, 'event_id'].sort());
});
