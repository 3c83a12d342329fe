import { describe, expect, it } from 'vitest';
import traefik from '../../collector/sources/traefik.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const full = {
  ...{ ClientAddr: '10.0.0.7:52044', ClientHost: '203.0.113.9', ClientPort: '52044' },
  ...{ ClientUsername: '-', DownstreamStatus: 200, OriginStatus: 200, Duration: 57_123_456 },
  ...{ OriginDuration: 50_000_000, RequestMethod: 'GET', RequestPath: '/orders/7?page=2' },
  ...{ RequestHost: 'shop.example.com', RequestAddr: 'shop.example.com:8443' },
  ...{ RouterName: 'orders@docker', ServiceName: 'orders@docker', RequestProtocol: 'HTTP/2.0' },
  ...{ StartUTC: '2026-01-01T00:00:00.123456789Z', time: '2026-01-01T00:00:01Z', level: 'info' },
  ...{ 'request_User-Agent': 'okhttp/4.12.0', 'request_X-Request-Id': 'r1', msg: '' },
  ...{ request_Authorization: 'REDACTED', request_Cookie: 'session=s3cret', trace_id: traceId },
  span_id: 'b7ad6b7169203331',
};
const net = {
  ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
  ...{ user_agent: 'okhttp/4.12.0', ua_family: 'okhttp' },
};
const call = {
  ...{ time: 1_767_225_600_123_456_789n, kind: 'api_accessed' as const },
  outcome: 'success' as const,
  source: { raw_type: 'access' },
  resource: ['shop.example.com'],
  net,
  http: { method: 'GET', route: '/orders/7', status: 200, duration_ms: 57.123 },
  corr: { request_id: 'r1', trace_id: traceId, span_id: 'b7ad6b7169203331' },
  ext: { route_name: 'orders@docker', service: 'orders@docker' },
  redaction: { upstream: true },
};
const access = (value: string) => ({
  ...{ role: 'presented' as const, type: 'access' as const, ref: ring.ref('token', value) },
});
const one = (value: object): AuthEvent => eventsOf(traefik, json({ ...full, ...value }))[0]!;
const ofLine = (text: string): AuthEvent => eventsOf(traefik, line(text))[0]!;
const common =
  '203.0.113.9 - bob [01/Jan/2026:01:00:00 +0100] "GET /orders?access_token=t-1 HTTP/1.1" 401 17 "-" "curl/8.5.0" 42 "orders@docker" "http://10.0.0.8:80" 57ms';

describe('JSON', () => {
  it('is a call; durations are ns there', () => {
    expect(withoutId(one({}))).toEqual(expected(traefik, call));
    expect(JSON.stringify(one({}), (_, v: unknown) => String(v))).not.toContain('s3cret');
  });

  it.each([
    [200, {}, 'api_accessed', 'success', ''],
    [401, {}, 'api_accessed', 'denied', ''],
    [403, {}, 'api_accessed', 'denied', ''],
    [429, {}, 'rate_limited', 'denied', ''],
    [499, {}, 'api_accessed', 'failure', ''],
    [502, {}, 'api_accessed', 'failure', ''],
    [0, {}, 'api_accessed', 'unknown', ''],
    [
      ...([401, { 'downstream_Www-Authenticate': 'Bearer error="invalid_token"' }] as const),
      ...(['token_rejected', 'failure', 'invalid_token'] as const),
    ],
    [
      ...([401, { 'origin_Www-Authenticate': 'Bearer error="invalid_token"' }] as const),
      ...(['token_rejected', 'failure', 'invalid_token'] as const),
    ],
  ])('%i %j is %s, %s', (status, more, kind, outcome, code) => {
    const event = one({ DownstreamStatus: status, ...more });
    expect([event.kind, event.outcome, event.error.code]).toEqual([kind, outcome, code]);
  });

  it('takes the status of the service where Traefik logs no other', () => {
    const event = one({ DownstreamStatus: undefined, OriginStatus: 429 });
    expect([event.kind, event.http.status]).toEqual(['rate_limited', 429]);
  });

  it.each([
    ['203.0.113.20', '203.0.113.20:4711', '203.0.113.20', 'unknown'],
    ['2001:db8:1::5', '[2001:db8:1::5]:4711', '2001:db8:1::5', 'unknown'],
    ['198.51.100.1, 10.0.0.2', '10.0.0.7:4711', '198.51.100.1', 'end_user'],
    ['10.9.9.9', '10.0.0.7:4711', '10.9.9.9', 'unknown'],
    ['203.0.113.20', '-', '203.0.113.20', 'unknown'],
    ['-', '203.0.113.20:4711', '203.0.113.20', 'unknown'],
  ])('a request of %s by %s is of %s, %s', (ClientHost, ClientAddr, ip, role) => {
    const event = one({ ClientHost, ClientAddr });
    expect([event.net.client_ip, event.net.ip_role]).toEqual([ip, role]);
  });

  it('makes references of people and tokens', () => {
    expect(one({ ClientUsername: 'bob' }).subject.ref).toBe(ring.ref('subject', 'bob'));
    expect(one({ RequestPath: '/a?access_token=t-1' })).toMatchObject({
      tokens: [access('t-1')],
      ext: { token_in_url: 'true' },
    });
    expect(one({ request_Authorization: 'DPoP t-2', request_Dpop: 'p-1' })).toMatchObject({
      tokens: [access('t-2'), { type: 'dpop_proof', ref: ring.ref('token', 'p-1') }],
      binding: 'dpop',
      redaction: { upstream: false },
    });
  });

  it('reads the trace of older versions and of the header', () => {
    const none = { trace_id: undefined, span_id: undefined };
    expect(one({ ...none, TraceId: traceId, SpanId: 'b7ad6b7169203331' }).corr).toEqual(
      one({}).corr,
    );
    const request_Traceparent = `00-${traceId}-b7ad6b7169203331-01`;
    expect(one({ ...none, request_Traceparent }).corr).toEqual(one({}).corr);
  });

  it('takes the time of the line where no other is kept', () => {
    expect(one({ StartUTC: undefined }).time).toBe(1_767_225_601_000_000_000n);
    expect(one({ StartUTC: undefined, StartLocal: '2026-01-01T01:00:02+01:00' }).time).toBe(
      1_767_225_602_000_000_000n,
    );
  });
});

describe('the common format', () => {
  it('is a call; durations are ms there', () => {
    expect(withoutId(ofLine(common))).toEqual(
      expected(traefik, {
        ...{ time: 1_767_225_600_000_000_000n, kind: 'api_accessed', outcome: 'denied' },
        source: { raw_type: 'access' },
        subject: { ref: ring.ref('subject', 'bob') },
        tokens: [access('t-1')],
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
          ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
        },
        http: { method: 'GET', route: '/orders', status: 401, duration_ms: 57 },
        ext: { token_in_url: 'true', route_name: 'orders@docker' },
        redaction: { fields: ['subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it('is not led astray by an agent with quotes', () => {
    const agent = 'x" 1 "other@docker" "http://a" 1ms "y';
    const event = ofLine(common.replace('curl/8.5.0', agent));
    expect([event.http.duration_ms, event.ext['route_name']]).toEqual([57, 'orders@docker']);
  });

  it('may say nothing of service, user and status', () => {
    const event = ofLine(
      '198.51.100.1, 10.0.0.2 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" - - "-" "-" 7 "-" "-" 0ms',
    );
    expect(event).toMatchObject({
      ...{ kind: 'api_accessed', outcome: 'unknown', subject: { ref: '' }, ext: {} },
      net: { client_ip: '198.51.100.1', user_agent: '' },
      http: { status: null, duration_ms: 0 },
    });
  });
});

describe('refused', () => {
  const record = 'record: not an access log entry; RequestPath and DownstreamStatus are needed';
  const text = 'line: no access log entry; the common format or JSON is needed';
  const timeAllowed =
    'StartUTC: not a time; allowed: ISO 8601, 05/Jan/2026:12:00:00 +0000, or epoch seconds, ms, µs or ns';
  it.each([
    [json({ hello: 'world' }), 'unrecognised_record', record],
    [
      json({ level: 'info', msg: 'started', time: '2026-01-01T00:00:00Z' }),
      'unrecognised_record',
      record,
    ],
    [json({ RequestPath: '/', StartUTC: full.StartUTC }), 'unrecognised_record', record],
    [json({ RequestPath: '/', DownstreamStatus: 200 }), 'missing_field', 'StartUTC: is required'],
    [json({ ...full, StartUTC: 'x' }), 'invalid_time', timeAllowed],
    [line(common.replace('57ms', '57')), 'unrecognised_record', text],
    [line(common.replace('Jan', 'Jux')), 'invalid_time', timeAllowed],
    [line('x'.repeat(65_537)), 'too_large', 'line: longer than 65536 characters'],
    [json(JSON.parse('{"__proto__":{"RequestPath":"/"}}')), 'unrecognised_record', record],
  ])('%j', (value, code, message) => {
    expect(traefik.parse(value, { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('not what has members of foreign types', () => {
    const event = one({
      ClientHost: {},
      ClientAddr: 7,
      Duration: 'x',
      RouterName: [],
      RequestPath: 1,
    });
    expect(event).toMatchObject({ http: { duration_ms: null, route: '1' }, kind: 'api_accessed' });
  });
});

it('fills what it says it provides, and nothing else', () => {
  const challenge = 'Bearer error="invalid_token", error_description="token expired"';
  const events = [
    one({ DownstreamStatus: 401, 'downstream_Www-Authenticate': challenge }),
    one({ request_Authorization: 'DPoP t-2' }),
    ofLine(common),
  ];
  expect(filledFields(events)).toEqual([...traefik.provides].sort());
});
