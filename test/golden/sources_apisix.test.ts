import { describe, expect, it } from 'vitest';
import apisix from '../../collector/sources/apisix.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const headers = {
  ...{ host: 'shop.example.com', 'user-agent': 'okhttp/4.12.0', authorization: 'Bearer t-1' },
  ...{ 'x-forwarded-for': '203.0.113.9', cookie: 'session=s3cret', 'x-request-id': 'r1' },
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
};
const request = {
  ...{ method: 'GET', uri: '/orders/7?page=2', querystring: { page: '2' }, size: 83, headers },
  ...{ url: 'http://shop.example.com:9080/orders/7?page=2', body: 'password=s3cret' },
};
const full = {
  request,
  ...{ response: { status: 200, headers: {}, size: 475, body: '{"a":"s3cret"}' } },
  ...{ client_ip: '10.0.0.7', start_time: 1_767_225_600_123, latency: 57.000_013_351_44 },
  ...{ upstream_latency: 50, apisix_latency: 7, route_id: 'orders-v1', service_id: 'orders' },
  ...{ server: { hostname: 'edge-1', version: '3.8.0' }, consumer: { username: 'web' } },
};
const access = (value: string) => ({
  ...{ role: 'presented' as const, type: 'access' as const, ref: ring.ref('token', value) },
});
const call = {
  time: 1_767_225_600_123_000_000n,
  kind: 'api_accessed' as const,
  outcome: 'success' as const,
  source: { raw_type: 'request', instance: 'edge-1' },
  client: { id: 'web' },
  resource: ['shop.example.com'],
  tokens: [access('t-1')],
  net: {
    ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
    ...{ user_agent: 'okhttp/4.12.0', ua_family: 'okhttp' },
  },
  http: { method: 'GET', route: '/orders/7', status: 200, duration_ms: 57 },
  corr: {
    ...{ request_id: 'r1', trace_id: '0af7651916cd43dd8448eb211c80319c' },
    span_id: 'b7ad6b7169203331',
  },
  ext: { route_name: 'orders-v1', service: 'orders' },
  redaction: { fields: ['tokens.ref'] },
};
const one = (value: object): AuthEvent => eventsOf(apisix, json({ ...full, ...value }))[0]!;
const asked = (header: object, more: object = {}) =>
  one({ request: { ...request, ...more, headers: { ...headers, ...header } } });
const custom = {
  ...{ '@timestamp': '2026-01-01T00:00:00+00:00', host: 'shop.example.com', hostname: 'edge-1' },
  ...{ client_ip: '203.0.113.9', request_method: 'GET', request_uri: '/a?access_token=t-1' },
  ...{ status: '401', request_time: '0.057', route_id: 'r', consumer_name: 'web' },
  www_authenticate: 'Bearer error="invalid_token", error_description="token expired"',
};

describe('apisix', () => {
  it('reads a call, without bodies and cookies', () => {
    expect(withoutId(one({}))).toEqual(expected(apisix, call));
    expect(JSON.stringify(one({}), (_, v: unknown) => String(v))).not.toContain('s3cret');
  });

  it('makes references of tokens and proofs', () => {
    const proof = { role: 'presented', type: 'dpop_proof', ref: ring.ref('token', 'p-1') };
    expect(asked({ authorization: 'DPoP t-2', dpop: 'p-1' })).toMatchObject({
      tokens: [access('t-2'), proof],
      binding: 'dpop',
      ext: { route_name: 'orders-v1' },
    });
    const inUrl = asked({ authorization: undefined }, { uri: '/a?access_token=t-3' });
    expect(inUrl).toMatchObject({ tokens: [access('t-3')], ext: { token_in_url: 'true' } });
    expect(asked({ authorization: 'Basic d2ViOnB3' }).tokens).toEqual([]);
    expect(asked({ authorization: '***' })).toMatchObject({
      tokens: [],
      redaction: { upstream: true },
    });
  });

  it.each([
    [401, undefined, 'api_accessed', 'denied', ''],
    [429, undefined, 'rate_limited', 'denied', ''],
    [503, undefined, 'api_accessed', 'failure', ''],
    [401, 'Bearer error="invalid_token"', 'token_rejected', 'failure', 'invalid_token'],
    [
      ...([401, 'Bearer error="invalid_token", error_description="wrong audience"'] as const),
      ...(['token_rejected', 'failure', 'invalid_audience'] as const),
    ],
  ])('%i with %s is %s, %s', (status, challenge, kind, outcome, code) => {
    const event = one({ response: { status, headers: { 'WWW-Authenticate': challenge } } });
    expect([event.kind, event.outcome, event.error.code]).toEqual([kind, outcome, code]);
  });

  it.each([
    ['bob@example.com', '', ring.ref('subject', 'bob@example.com')],
    ['web', 'web', ''],
  ])('consumer %s', (username, client, subject) => {
    const event = one({ consumer: { username } });
    expect([event.client.id, event.subject.ref]).toEqual([client, subject]);
  });

  it('reads a log_format of variables', () => {
    const [event] = eventsOf(apisix, json(custom));
    expect(withoutId(event!)).toEqual(
      expected(apisix, {
        time: 1_767_225_600_000_000_000n,
        kind: 'token_rejected',
        outcome: 'failure',
        error: { code: 'expired', oauth_error: 'invalid_token', detail: 'token expired' },
        source: { raw_type: 'request', instance: 'edge-1' },
        client: { id: 'web' },
        resource: ['shop.example.com'],
        tokens: [access('t-1')],
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24' },
        http: { method: 'GET', route: '/a', status: 401, duration_ms: 57 },
        ext: { token_in_url: 'true', route_name: 'r' },
        redaction: { fields: ['tokens.ref'] },
      }),
    );
  });

  it('keeps what a log_format does not name unknown', () => {
    const event = eventsOf(
      apisix,
      json({ msec: '1767225600.5', status: 200, remote_user: 'bob' }),
    )[0]!;
    expect(event).toMatchObject({
      time: 1_767_225_600_500_000_000n,
      subject: { ref: ring.ref('subject', 'bob') },
      http: { method: '', route: '', duration_ms: null },
      ext: {},
    });
  });

  const needed =
    'record: not an entry of a logger plugin; request.uri and response.status are needed (or status)';
  const timeAllowed =
    'start_time: not a time; allowed: ISO 8601, 05/Jan/2026:12:00:00 +0000, or epoch seconds, ms, µs or ns';
  it.each([
    [json({ hello: 'world' }), 'unrecognised_record', needed],
    [json({ host: 'a', client_ip: '203.0.113.9' }), 'unrecognised_record', needed],
    [json({ ...full, start_time: undefined }), 'missing_field', 'start_time: is required'],
    [json({ ...full, start_time: 'x' }), 'invalid_time', timeAllowed],
    [json({ status: 200 }), 'missing_field', 'start_time: is required'],
    [json({ status: 200, '@timestamp': 'x' }), 'invalid_time', timeAllowed],
    [line('x'), 'unsupported_form', 'text: allowed is the JSON of a logger plugin'],
    [json(JSON.parse('{"__proto__":{"status":200}}')), 'unrecognised_record', needed],
  ])('refuses %j', (record, code, message) => {
    expect(apisix.parse(record, { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code, message },
    });
  });

  it('takes members of foreign types for nothing', () => {
    const event = one({ server: 'x', consumer: [], latency: 'x', client_ip: 7, service_id: '' });
    expect(event).toMatchObject({ source: { instance: '' }, http: { duration_ms: null } });
    expect(event.ext).toEqual({ route_name: 'orders-v1' });
  });

  it('fills what it says it provides, and nothing else', () => {
    const claims = {
      ...{ iss: 'https://as.example.com', sub: 'alice', aud: 'shop', client_id: 'web' },
      ...{ jti: '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c003', sid: 's1', acr: 'gold', amr: 'otp' },
      ...{ scope: 'a', exp: 1_767_226_500, iat: 1_767_225_000, cnf: { jkt: 'thumb-1' } },
    };
    const events = [one({}), ...eventsOf(apisix, json({ ...custom, claims }))];
    expect(filledFields(events)).toEqual([...apisix.provides].sort());
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('are calls', () => {
    const records = sampleRows('apisix.ndjson').flatMap((row) => recordsOf(apisix, row));
    const events = records.flatMap((record) => eventsOf(apisix, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => [e.kind, e.outcome, e.http.status, e.http.duration_ms])).toEqual([
      ['api_accessed', 'success', 200, 411],
    ]);
    process.stdout.write(`samples apisix: ${records.length} records, ${events.length} events\n`);
  });
});
