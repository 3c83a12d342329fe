import { describe, expect, it } from 'vitest';
import oauth2Proxy from '../../collector/sources/oauth2_proxy.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_000_000_000n;
const requestId = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c001';
const head = `203.0.113.9 - ${requestId} - bob@example.com [2026/01/01 00:00:00]`;
const bob = { ref: ring.ref('subject', 'bob@example.com'), type: 'user' as const };
const address = {
  ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
};
const session =
  'Session{email:bob@example.com user:u-1 PreferredUsername:bob token:true id_token:true created:2026-01-01 00:00:00 +0000 UTC expires:2026-01-01 00:05:00 +0000 UTC refresh_token:true groups:[staff]}';
const request = (uri: string, status = 200) =>
  `${head} app.example.com GET - "${uri}" HTTP/1.1 "curl/8.5.0" ${status} 341 0.057`;
const one = (text: string): AuthEvent => eventsOf(oauth2Proxy, line(text))[0]!;
const signedIn = {
  ...{ time: at, kind: 'login' as const, outcome: 'success' as const, subject: bob },
  ...{ source: { raw_type: 'AuthSuccess' }, net: address, corr: { request_id: requestId } },
  ...{ ext: { login_method: 'oauth2' }, redaction: { fields: ['subject.ref'] } },
};
const called = {
  ...{ time: at, kind: 'api_accessed' as const, outcome: 'success' as const, subject: bob },
  ...{ source: { raw_type: 'request' }, resource: ['app.example.com'] },
  net: { ...address, user_agent: 'curl/8.5.0', ua_family: 'curl' },
  http: { method: 'GET', route: '/orders', status: 200, duration_ms: 57 },
  ...{ corr: { request_id: requestId }, redaction: { fields: ['subject.ref'] } },
};

describe('sign-ins', () => {
  it('succeed, without what the session holds', () => {
    const event = one(`${head} [AuthSuccess] Authenticated via OAuth2: ${session}`);
    expect(withoutId(event)).toEqual(expected(oauth2Proxy, signedIn));
    expect(JSON.stringify(event, (_, v: unknown) => String(v))).not.toContain('bob');
  });

  it.each([
    [
      ...(['AuthFailure', 'Invalid authentication via OAuth2: unauthorized'] as const),
      ...(['login_failed', 'denied', 'unauthorized', 'oauth2'] as const),
    ],
    [
      ...([
        'AuthFailure',
        'Invalid authentication via OAuth2: unable to obtain CSRF cookie',
      ] as const),
      ...(['login_failed', 'failure', 'cookie_not_found', 'oauth2'] as const),
    ],
    [
      'AuthFailure',
      'Invalid authentication via OAuth2: CSRF token mismatch, potential attack',
      ...(['login_failed', 'failure', 'csrf_mismatch', 'oauth2'] as const),
    ],
    [
      ...(['AuthFailure', 'Invalid authentication via HtpasswdFile'] as const),
      ...(['login_failed', 'failure', 'invalid_user_credentials', 'htpasswd'] as const),
    ],
    [
      ...(['AuthFailure', 'Invalid authentication via basic auth: not in Htpasswd File'] as const),
      ...(['login_failed', 'failure', 'invalid_user_credentials', 'htpasswd'] as const),
    ],
    [
      ...([
        'AuthFailure',
        `Invalid authorization via session: removing session ${session}`,
      ] as const),
      ...(['session_revoked', 'success', '', ''] as const),
    ],
    ['AuthFailure', 'something new', 'login_failed', 'failure', 'auth_failure', ''],
    ['AuthError', 'error saving session: x', 'login_failed', 'failure', 'auth_error', ''],
    ['AuthSuccess', 'Authenticated via HtpasswdFile', 'login', 'success', '', 'htpasswd'],
    ['AuthOther', 'x', 'unclassified', 'unknown', '', ''],
  ])('%s %s is %s, %s, %s', (status, message, kind, outcome, code, method) => {
    const event = one(`${head} [${status}] ${message}`);
    expect([event.kind, event.outcome, event.error.code, event.ext['login_method'] ?? '']).toEqual([
      ...[kind, outcome, code, method],
    ]);
    expect([event.subject, event.source.raw_type]).toEqual([bob, status]);
    expect(JSON.stringify(event, (_, v: unknown) => String(v))).not.toContain('bob');
  });

  it('of older versions have no id, and addresses with ports', () => {
    const text = `10.0.0.7:4711 - -                 [2026/01/01 00:00:00] [AuthSuccess] Authenticated via OAuth2: x`;
    expect(withoutId(one(text))).toEqual(
      expected(oauth2Proxy, {
        ...{ time: at, kind: 'login', outcome: 'success', ext: { login_method: 'oauth2' } },
        source: { raw_type: 'AuthSuccess' },
        net: { client_ip: '10.0.0.7', network: '10.0.0.0/24' },
      }),
    );
    expect(one(text.replace('2026/01/01 00:00:00', '01/Jan/2026:01:00:00 +0100')).time).toBe(at);
  });
});

describe('requests', () => {
  it('are calls', () => {
    expect(withoutId(one(request('/orders?page=2')))).toEqual(expected(oauth2Proxy, called));
    const passed = one(request('/orders').replace('GET - ', 'GET app:8080 '));
    expect(passed.ext).toEqual({ upstream: 'app:8080' });
  });

  it.each([
    ['/oauth2/start?rd=%2F', 302, 'api_accessed', 'success', 'sign_in'],
    ['/oauth2/sign_in', 200, 'api_accessed', 'success', 'sign_in'],
    ['/oauth2/auth', 202, 'api_accessed', 'success', 'auth'],
    ['/oauth2/auth?allowed_groups=a', 401, 'api_accessed', 'denied', 'auth'],
    ['/oauth2/callback?error=x', 403, 'api_accessed', 'denied', 'callback'],
    ['/oauth2/userinfo', 200, 'api_accessed', 'success', 'session'],
    ['/oauth2/sign_out', 302, 'session_ended', 'success', 'end_session'],
    ['/oauth2/sign_out', 500, 'api_accessed', 'failure', 'end_session'],
    ['/oauth2/toString', 404, 'api_accessed', 'failure', ''],
    ['/oauth2/startled', 200, 'api_accessed', 'success', ''],
    ['/a', 429, 'rate_limited', 'denied', ''],
  ])('%s %i is %s, %s at %s', (uri, status, kind, outcome, endpoint) => {
    const event = one(request(uri, status));
    expect([event.kind, event.outcome, event.endpoint, event.tokens]).toEqual([
      ...[kind, outcome, endpoint, []],
    ]);
  });

  it('name the code that comes back by its reference, at the callback alone', () => {
    const event = one(request('/oauth2/callback?state=s3cret&code=c-1', 302));
    expect(event).toMatchObject({
      tokens: [{ role: 'presented', type: 'code', ref: ring.ref('token', 'c-1') }],
      http: { route: '/oauth2/callback' },
      ext: {},
    });
    expect(JSON.stringify(event, (_, v: unknown) => String(v))).not.toContain('s3cret');
    expect(one(request('/orders?code=c-1')).tokens).toEqual([]);
  });

  it('name a token in the URL', () => {
    expect(one(request('/orders?access_token=t-1'))).toMatchObject({
      tokens: [{ role: 'presented', type: 'access', ref: ring.ref('token', 't-1') }],
      ext: { token_in_url: 'true' },
    });
  });

  it('may be cut behind the agent', () => {
    const event = one(`${head} app.example.com GET - "/oauth2/start"   HTTP/1.1 "a \\"b\\""`);
    expect(event).toMatchObject({ outcome: 'unknown', http: { status: null, duration_ms: null } });
  });
});

describe('what it says for itself', () => {
  it.each([
    [
      'Error while parsing OAuth2 callback: access_denied',
      'login_failed',
      'denied',
      'access_denied',
    ],
    [
      'Error while parsing OAuth2 callback: server_error',
      'login_failed',
      'failure',
      'server_error',
    ],
    [
      'Error redeeming code during OAuth2 callback: code=s3cret',
      ...['login_failed', 'failure', 'code_redemption_failed'],
    ],
    ['Cookie settings: name:_oauth2_proxy', 'unclassified', 'unknown', ''],
  ])('%s is %s, %s', (message, kind, outcome, code) => {
    const event = one(`[2026/01/01 00:00:00] [oauthproxy.go:830] ${message}`);
    expect([event.kind, event.outcome, event.error.code, event.error.detail]).toEqual([
      ...[kind, outcome, code, ''],
    ]);
    expect(event.source.raw_type).toBe('standard');
  });
});

describe('JSON', () => {
  const who = {
    ...{ timestamp: '2026/01/01 00:00:00', client: '203.0.113.9', request_id: requestId },
    username: 'bob@example.com',
  };
  const asked = {
    ...{
      host: 'app.example.com',
      request_method: 'GET',
      upstream: '-',
      request_uri: '/orders?a=b',
    },
    ...{ user_agent: 'curl/8.5.0', status_code: 200, request_duration: 0.057 },
  };

  it('of templates is the same', () => {
    const message = `Authenticated via OAuth2: ${session}`;
    const names = { Timestamp: who.timestamp, Client: who.client, RequestID: requestId };
    const signIn = { ...names, Username: who.username, Status: 'AuthSuccess', Message: message };
    expect(
      eventsOf(oauth2Proxy, json({ ...who, status: 'AuthSuccess', message })).map(withoutId),
    ).toEqual([expected(oauth2Proxy, signedIn)]);
    expect(eventsOf(oauth2Proxy, json(signIn)).map(withoutId)).toEqual([
      expected(oauth2Proxy, signedIn),
    ]);
    expect(eventsOf(oauth2Proxy, json({ ...who, ...asked })).map(withoutId)).toEqual([
      expected(oauth2Proxy, called),
    ]);
  });

  it('of a shipper holds the line', () => {
    const wrapped = json({ '@timestamp': 'x', message: request('/orders?page=2') });
    expect(eventsOf(oauth2Proxy, wrapped).map(withoutId)).toEqual([expected(oauth2Proxy, called)]);
  });

  it('takes members of foreign types for nothing', () => {
    const event = eventsOf(
      oauth2Proxy,
      json({ ...who, ...asked, client: {}, username: ['x'], host: null, request_duration: 'x' }),
    )[0]!;
    expect(event).toMatchObject({
      ...{ net: { client_ip: '' }, subject: { ref: '' }, resource: [] },
      http: { duration_ms: null },
    });
  });
});

describe('refused', () => {
  const needed =
    'record: no line of oauth2-proxy; the default formats or their names in JSON are needed';
  const timeAllowed =
    'Timestamp: not a time; allowed: ISO 8601, 05/Jan/2026:12:00:00 +0000, or epoch seconds, ms, µs or ns';
  it.each([
    [line('hello'), 'unrecognised_record', needed],
    [line(`${head} hello`), 'unrecognised_record', needed],
    [json({ hello: 'world' }), 'unrecognised_record', needed],
    [json({ status: 'AuthSuccess', message: 'x' }), 'missing_field', 'Timestamp: is required'],
    [json({ status: 'AuthSuccess', timestamp: 'x' }), 'invalid_time', timeAllowed],
    [line(request('/a').replace('2026/01/01', '2026/13/01')), 'invalid_time', timeAllowed],
    [line('x'.repeat(65_537)), 'too_large', 'line: longer than 65536 characters'],
    [json(JSON.parse('{"__proto__":{"status":"AuthSuccess"}}')), 'unrecognised_record', needed],
  ])('%j', (record, code, message) => {
    expect(oauth2Proxy.parse(record, { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code, message },
    });
  });
});

it('fills what it says it provides, and nothing else', () => {
  const events = [
    one(request('/oauth2/callback?code=c-1', 302)),
    one(request('/orders?access_token=t-1')),
    one(
      '[2026/01/01 00:00:00] [oauthproxy.go:830] Error while parsing OAuth2 callback: access_denied',
    ),
  ];
  expect(filledFields(events)).toEqual([...oauth2Proxy.provides].sort());
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('are requests and sign-ins', () => {
    const records = sampleRows('lines/oauth2_proxy.log').flatMap((r) => recordsOf(oauth2Proxy, r));
    const events = records.flatMap((record) => eventsOf(oauth2Proxy, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => [e.kind, e.outcome, e.endpoint, e.http.status])).toEqual([
      ['api_accessed', 'success', 'sign_in', 302],
      ['login', 'success', '', null],
      ['login', 'success', '', null],
      ['api_accessed', 'unknown', 'callback', null],
    ]);
    expect(events.map((e) => e.subject.ref !== '')).toEqual([false, true, true, false]);
    process.stdout.write(
      `samples oauth2_proxy: ${records.length} records, ${events.length} events\n`,
    );
  });
});
