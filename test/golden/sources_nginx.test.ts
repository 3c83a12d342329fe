import { describe, expect, it } from 'vitest';
import nginx from '../../collector/sources/nginx.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_250_000_000n;
const jti = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c003';
const full = {
  ...{ msec: '1767225600.250', hostname: 'edge-1', host: 'shop.example.com' },
  ...{ remote_addr: '10.0.0.7', http_x_forwarded_for: '203.0.113.9, 10.0.0.2' },
  ...{ request_method: 'GET', request_uri: '/orders/7?page=2', status: '200' },
  ...{ request_time: '0.057', http_user_agent: 'okhttp/4.12.0', request_id: 'a1b2' },
  ...{ limit_req_status: 'PASSED', www_authenticate: '', token_in_url: '' },
  http_traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
};
const net = {
  ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
  ...{ user_agent: 'okhttp/4.12.0', ua_family: 'okhttp' },
};
const call = {
  time: at,
  kind: 'api_accessed' as const,
  outcome: 'success' as const,
  source: { raw_type: 'access', instance: 'edge-1' },
  resource: ['shop.example.com'],
  net,
  http: { method: 'GET', route: '/orders/7', status: 200, duration_ms: 57 },
  corr: {
    ...{ request_id: 'a1b2', trace_id: '0af7651916cd43dd8448eb211c80319c' },
    span_id: 'b7ad6b7169203331',
  },
};
const one = (value: object): AuthEvent => eventsOf(nginx, json({ ...full, ...value }))[0]!;
const ofLine = (text: string): AuthEvent => eventsOf(nginx, line(text))[0]!;
const refusal = (record: Parameters<typeof nginx.parse>[0]) =>
  nginx.parse(record, { received_at: RECEIVED_AT });

describe('the documented JSON', () => {
  it('is a call', () => {
    expect(withoutId(one({}))).toEqual(expected(nginx, call));
  });

  it('names the token by the claims that a module has verified', () => {
    const claims = {
      ...{ iss: 'https://as.example.com', sub: 'alice', aud: 'shop', client_id: 'web', jti },
      ...{ scope: 'orders:read openid', exp: '1767226500', iat: '1767225000', sid: 's1' },
      ...{ acr: 'gold', amr: ['otp', 'pwd'], cnf: { jkt: 'thumb-1' } },
    };
    const event = one({ claims, request_uri: '/orders/7?access_token=abcdef' });
    expect(withoutId(event)).toEqual(
      expected(nginx, {
        ...call,
        ...{ issuer: 'https://as.example.com', audience: ['shop'], client: { id: 'web' } },
        ...{ subject: { ref: ring.ref('subject', 'alice') }, acr: 'gold', amr: ['otp', 'pwd'] },
        ...{ scopes_granted: ['openid', 'orders:read'], session_ref: ring.ref('session', 's1') },
        ...{ binding: 'dpop', binding_thumbprint: 'thumb-1' },
        tokens: [
          {
            ...{ role: 'presented', type: 'access', ref: jti, ref_kind: 'jti' },
            ...{ issued_at: 1_767_225_000_000_000_000n, expires_at: 1_767_226_500_000_000_000n },
          },
        ],
        ext: { token_in_url: 'true' },
        redaction: { fields: ['session_ref', 'subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it('takes claims that are not there for nothing', () => {
    const claims = { iss: '', sub: '-', client_id: '', jti: '-', aud: '', scope: '-' };
    expect(withoutId(one({ claims }))).toEqual(expected(nginx, call));
  });

  it('makes references of the tokens in the URL and in the headers', () => {
    const access = (value: string) => ({
      ...{ role: 'presented', type: 'access', ref: ring.ref('token', value), ref_kind: 'hmac' },
    });
    expect(one({ request_uri: '/a?access_token=t%2D1&b=c' })).toMatchObject({
      tokens: [access('t-1')],
      ext: { token_in_url: 'true' },
      http: { route: '/a' },
    });
    expect(one({ http_authorization: 'Bearer t-1' })).toMatchObject({
      tokens: [access('t-1')],
      binding: 'unknown',
      ext: {},
    });
    const proof = { type: 'dpop_proof', ref: ring.ref('token', 'p-1') };
    expect(one({ http_authorization: 'DPoP t-1', http_dpop: 'p-1' })).toMatchObject({
      tokens: [access('t-1'), proof],
      binding: 'dpop',
    });
  });

  it.each(['Basic d2ViOnB3', 'Bearer', 'Bearer a b', 'Negotiate x', '-', ''])(
    'reads no token from Authorization: %s',
    (header) => {
      expect(one({ http_authorization: header }).tokens).toEqual([]);
    },
  );

  it.each([
    ['/a?token_hint=x', {}],
    ['/a?refresh_token=x', { token_in_url: 'true' }],
    ['/token', {}],
    ['/a?x=1&id_token=x', { token_in_url: 'true' }],
  ])('%s leaves the marks %j', (request_uri, ext) => {
    const event = one({ request_uri });
    expect([event.ext, event.tokens]).toEqual([ext, []]);
  });

  it('believes the mark that nginx sets itself', () => {
    expect(one({ request_uri: undefined, uri: '/a', token_in_url: 'true' })).toMatchObject({
      http: { route: '/a' },
      ext: { token_in_url: 'true' },
    });
  });

  it.each([
    ['200', {}, 'api_accessed', 'success', '', ''],
    ['302', {}, 'api_accessed', 'success', '', ''],
    ['401', {}, 'api_accessed', 'denied', '', ''],
    ['403', {}, 'api_accessed', 'denied', '', ''],
    ['404', {}, 'api_accessed', 'failure', '', ''],
    ['429', {}, 'rate_limited', 'denied', '', ''],
    ['499', {}, 'api_accessed', 'failure', '', ''],
    ['502', {}, 'api_accessed', 'failure', '', ''],
    ['000', {}, 'api_accessed', 'unknown', '', ''],
    ['503', { limit_req_status: 'REJECTED' }, 'rate_limited', 'denied', 'rate_limited', ''],
    ['503', { limit_conn_status: 'REJECTED' }, 'rate_limited', 'denied', 'rate_limited', ''],
    ['200', { limit_req_status: 'REJECTED_DRY_RUN' }, 'api_accessed', 'success', '', ''],
    ['200', { limit_req_status: 'DELAYED' }, 'api_accessed', 'success', '', ''],
  ])('status %s %j is %s, %s', (status, more, kind, outcome, code, oauth) => {
    const event = one({ status, ...more });
    expect([event.kind, event.outcome, event.error.code, event.error.oauth_error]).toEqual([
      ...[kind, outcome, code, oauth],
    ]);
    expect(event.http.status).toBe(status === '000' ? null : Number(status));
  });

  it.each([
    ['expired', 'The access token expired'],
    ['expired', 'Signature has expired'],
    ['not_yet_valid', 'token used before nbf'],
    ['revoked', 'the token was revoked'],
    ['inactive', 'token is not active'],
    ['invalid_signature', 'signature verification failed'],
    ['unknown_key', 'unable to find a signing key for it'],
    ['algorithm_not_allowed', 'alg none is refused'],
    ['invalid_audience', 'no valid audience'],
    ['invalid_issuer', 'wrong issuer'],
    ['malformed', 'could not decode it'],
    ['invalid_token', 'something is wrong with it'],
  ])('a challenge that says why is token_rejected: %s', (code, words) => {
    const event = one({
      status: '401',
      www_authenticate: `Bearer realm="shop", error="invalid_token", error_description="${words}"`,
    });
    expect([event.kind, event.outcome]).toEqual(['token_rejected', 'failure']);
    expect(event.error).toEqual({ code, oauth_error: 'invalid_token', detail: words });
  });

  it.each([
    ['401', 'Bearer realm="shop"', 'api_accessed', 'denied', ''],
    ['401', 'Basic realm="x", error="invalid_token"', 'api_accessed', 'denied', ''],
    ['403', 'Bearer error="insufficient_scope"', 'api_accessed', 'denied', 'insufficient_scope'],
    ['401', 'DPoP error="use_dpop_nonce"', 'api_accessed', 'challenge', 'use_dpop_nonce'],
    ['401', 'DPoP error="invalid_dpop_proof"', 'token_rejected', 'failure', 'invalid_binding'],
    ['400', 'Bearer error=invalid_request', 'api_accessed', 'denied', 'invalid_request'],
    ['200', 'Bearer error="invalid_token"', 'api_accessed', 'success', ''],
    ['500', 'Bearer error="invalid_token"', 'api_accessed', 'failure', ''],
  ])('%s with %s is %s, %s', (status, www_authenticate, kind, outcome, code) => {
    const event = one({ status, www_authenticate });
    expect([event.kind, event.outcome, event.error.code]).toEqual([kind, outcome, code]);
  });

  it.each([
    ['203.0.113.20', '198.51.100.1', '203.0.113.20', 'unknown'],
    ['10.0.0.7', '198.51.100.1, 10.0.0.2', '198.51.100.1', 'end_user'],
    ['10.0.0.7', '10.9.9.9', '10.9.9.9', 'unknown'],
    ['10.0.0.7', '-', '10.0.0.7', 'unknown'],
    ['unix:', '198.51.100.1', '198.51.100.1', 'end_user'],
    ['::ffff:10.0.0.7', '198.51.100.1', '198.51.100.1', 'end_user'],
    ['fd00::7', '2001:db8:1::5', '2001:db8:1::5', 'end_user'],
    ['2001:db8:2::5', '2001:db8:1::5', '2001:db8:2::5', 'unknown'],
  ])('a request of %s that says it is for %s is of %s', (remote_addr, forwarded, ip, role) => {
    const event = one({ remote_addr, http_x_forwarded_for: forwarded });
    expect([event.net.client_ip, event.net.ip_role]).toEqual([ip, role]);
  });

  it('reads other names for the same, and the request line', () => {
    const event = eventsOf(
      nginx,
      json({
        ...{
          '@timestamp': '2026-01-01T01:00:00+01:00',
          response_status: 204,
          'X-Forwarded-For': '-',
        },
        ...{ request: 'DELETE /orders/7?x=1 HTTP/2.0', http_host: 'shop.example.com:8443' },
        ...{ remote_addr: '203.0.113.9', remote_user: 'bob', user_agent: 'curl/8.5.0' },
        ...{ request_time: 1.5, args: 'x=1', http_x_request_id: 'r9' },
      }),
    )[0]!;
    expect(withoutId(event)).toEqual(
      expected(nginx, {
        time: 1_767_225_600_000_000_000n,
        kind: 'api_accessed',
        outcome: 'success',
        source: { raw_type: 'access' },
        subject: { ref: ring.ref('subject', 'bob') },
        resource: ['shop.example.com:8443'],
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
          ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
        },
        http: { method: 'DELETE', route: '/orders/7', status: 204, duration_ms: 1500 },
        corr: { request_id: 'r9' },
        redaction: { fields: ['subject.ref'] },
      }),
    );
  });

  it('joins path and query where they are logged apart', () => {
    const event = one({ request_uri: undefined, uri: '/a', args: 'access_token=t-1' });
    expect(event).toMatchObject({ http: { route: '/a' }, ext: { token_in_url: 'true' } });
  });

  it('opens the line that a shipper wrapped', () => {
    const wrapped = { '@timestamp': '2030-01-01T00:00:00Z', message: JSON.stringify(full) };
    expect(eventsOf(nginx, json(wrapped)).map(withoutId)).toEqual([expected(nginx, call)]);
  });
});

const combined =
  '203.0.113.9 - - [01/Jan/2026:01:00:00 +0100] "GET /orders?access_token=t-1 HTTP/1.1" 200 512 "-" "curl/8.5.0"';
const combinedCall = {
  ...{ time: 1_767_225_600_000_000_000n, kind: 'api_accessed' as const },
  outcome: 'success' as const,
  source: { raw_type: 'access' },
  tokens: [{ role: 'presented' as const, type: 'access' as const, ref: ring.ref('token', 't-1') }],
  net: {
    ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
    ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
  },
  http: { method: 'GET', route: '/orders', status: 200 },
  ext: { token_in_url: 'true' },
  redaction: { fields: ['tokens.ref'] },
};

describe('lines', () => {
  it('of the combined format', () => {
    expect(withoutId(ofLine(combined))).toEqual(expected(nginx, combinedCall));
    const wrapped = eventsOf(nginx, json({ message: combined, log: { offset: 1 } }));
    expect(wrapped.map(withoutId)).toEqual([expected(nginx, combinedCall)]);
  });

  it('of the common format and with a virtual host before', () => {
    const common = combined.slice(0, combined.indexOf(' "-"'));
    expect(ofLine(common)).toMatchObject({ http: { status: 200 }, net: { user_agent: '' } });
    expect(ofLine(`shop.example.com ${combined}`)).toMatchObject({
      resource: ['shop.example.com'],
      net: { client_ip: '203.0.113.9' },
    });
  });

  it('with the forwarded addresses after, from a proxy alone', () => {
    const inside = combined.replace('203.0.113.9', '10.0.0.7');
    expect(ofLine(`${inside} "198.51.100.1, 10.0.0.2"`).net).toMatchObject({
      client_ip: '198.51.100.1',
      ip_role: 'end_user',
    });
    expect(ofLine(`${combined} "198.51.100.1"`).net.client_ip).toBe('203.0.113.9');
  });

  it('of the ingress controller', () => {
    const id = '0af7651916cd43dd8448eb211c80319c';
    const event = ofLine(`${combined} 234 0.057 [shop-80] [] 10.0.0.8:80 512 0.056 200 ${id}`);
    expect([event.http.duration_ms, event.corr.request_id]).toEqual([57, id]);
  });

  it('with a user name, escaped bytes and no request', () => {
    const event = ofLine(
      '10.0.0.7 - bob [01/Jan/2026:00:00:00 +0000] "\\x16\\x03\\x01" 400 0 "-" "a\\x22b"',
    );
    expect(event).toMatchObject({
      subject: { ref: ring.ref('subject', 'bob') },
      outcome: 'failure',
      http: { method: '', route: '', status: 400 },
      net: { user_agent: 'a"b' },
    });
  });

  it('takes a whole URL in the request line apart', () => {
    const event = ofLine(combined.replace('/orders?', 'http://shop.example.com?'));
    expect([event.http.route, event.ext]).toEqual(['/', { token_in_url: 'true' }]);
  });

  it('of the error log are no calls', () => {
    const text =
      '2026/01/01 00:00:00 [error] 17#17: *4 limiting requests, excess: 0.9 by zone "one", client: 203.0.113.9, server: _, request: "GET /?access_token=t-1 HTTP/1.1"';
    expect(withoutId(ofLine(text))).toEqual(
      expected(nginx, {
        ...{ time: 1_767_225_600_000_000_000n, kind: 'unclassified', outcome: 'unknown' },
        source: { raw_type: 'error.error' },
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24' },
      }),
    );
    expect(ofLine('2026/01/01 00:00:00 [warn] 17#17: no resolver').net.client_ip).toBe('');
  });
});

describe('refused', () => {
  const record = 'record: not an access log entry; status and request_uri (or request) are needed';
  const text = 'line: no access log entry; combined format or JSON is needed';
  const timeAllowed =
    'not a time; allowed: ISO 8601, 05/Jan/2026:12:00:00 +0000, or epoch seconds, ms, µs or ns';
  it.each([
    [json({ hello: 'world' }), 'unrecognised_record', record],
    [json({ ...full, status: undefined }), 'unrecognised_record', record],
    [json({ msec: 1_767_225_600, status: 200 }), 'unrecognised_record', record],
    [json({ ...full, msec: '-' }), 'missing_field', 'msec: is required (or time_iso8601)'],
    [json({ ...full, msec: 'x' }), 'invalid_time', `msec: ${timeAllowed}`],
    [line('hello'), 'unrecognised_record', text],
    [json({ message: '{"a":' }), 'unrecognised_record', text],
    [line(combined.replace('Jan', 'Jux')), 'invalid_time', `time: ${timeAllowed}`],
    [line(combined.replace('01/Jan', '41/Jan')), 'invalid_time', `time: ${timeAllowed}`],
    [line('x'.repeat(65_537)), 'too_large', 'line: longer than 65536 characters'],
    [json(JSON.parse('{"__proto__":{"status":200,"host":"a"}}')), 'unrecognised_record', record],
    [json({ constructor: 1, toString: 2 }), 'unrecognised_record', record],
  ])('%j', (value, code, message) => {
    expect(refusal(value)).toEqual({ ok: false, code, message });
  });

  it('not what has members of foreign types', () => {
    const event = one({
      ...{ host: ['a'], request_uri: { a: 1 }, http_user_agent: 7, request_time: 'x' },
      ...{ claims: [1], limit_req_status: {}, hostname: null, remote_addr: false },
    });
    expect(event).toMatchObject({
      kind: 'api_accessed',
      resource: [],
      http: { duration_ms: null },
    });
  });
});

it('fills what it says it provides, and nothing else', () => {
  const claims = {
    ...{ iss: 'https://as.example.com', sub: 'alice', aud: 'shop', client_id: 'web', jti },
    ...{ scope: 'a', exp: 1_767_226_500, iat: 1_767_225_000, sid: 's1', acr: 'gold', amr: 'otp' },
    cnf: { jkt: 'thumb-1' },
  };
  const refused = {
    ...{ claims, status: 401, token_in_url: 'true' },
    www_authenticate: 'Bearer error="invalid_token", error_description="The token expired"',
  };
  const events = [one(refused), one({}), ofLine(combined)];
  expect(filledFields(events)).toEqual([...nginx.provides].sort());
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('are access log entries, but for one line of the error log', () => {
    const records = sampleRows('nginx.ndjson').flatMap((row) => recordsOf(nginx, row));
    const events = records.flatMap((record) => eventsOf(nginx, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => [e.kind, e.outcome, e.source.raw_type, e.http.status])).toEqual([
      ['api_accessed', 'success', 'access', 200],
      ['api_accessed', 'success', 'access', 200],
      ['api_accessed', 'success', 'access', 200],
      ['unclassified', 'unknown', 'error.warn', null],
      ['api_accessed', 'success', 'access', 204],
      ['api_accessed', 'failure', 'access', 404],
      ['api_accessed', 'denied', 'access', 403],
    ]);
    expect(events.filter((e) => e.kind === 'api_accessed' && e.net.client_ip === '')).toEqual([]);
    process.stdout.write(`samples nginx: ${records.length} records, ${events.length} events\n`);
  });
});
