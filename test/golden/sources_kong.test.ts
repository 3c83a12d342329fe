import { describe, expect, it } from 'vitest';
import kong from '../../collector/sources/kong.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const requestId = '0af7651916cd43dd8448eb211c80319c';
const headers = {
  ...{ host: 'shop.example.com', 'user-agent': 'okhttp/4.12.0', authorization: 'REDACTED' },
  ...{ 'x-forwarded-for': '203.0.113.9', cookie: 'session=s3cret', apikey: 's3cret' },
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
};
const request = {
  ...{ id: requestId, method: 'GET', uri: '/orders/7?page=2', querystring: { page: '2' } },
  ...{ url: 'https://shop.example.com:8443/orders/7?page=2', size: 75, headers },
};
const full = {
  request,
  ...{ response: { status: 200, size: 434, headers: { server: 'x' } }, client_ip: '10.0.0.7' },
  ...{ started_at: 1_767_225_600_123, latencies: { request: 57, kong: 1, proxy: 50 } },
  ...{ service: { name: 'orders', host: 'orders.internal' }, route: { name: 'orders-v1' } },
  ...{ consumer: { id: 'c0', username: 'shop-app', custom_id: 'web' }, source: 'upstream' },
  ...{ workspace: 'w-1', workspace_name: 'shop', upstream_status: '200' },
};
const call = {
  time: 1_767_225_600_123_000_000n,
  kind: 'api_accessed' as const,
  outcome: 'success' as const,
  source: { raw_type: 'request', tenant: 'shop' },
  client: { id: 'web', name: 'shop-app' },
  resource: ['shop.example.com'],
  net: {
    ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
    ...{ user_agent: 'okhttp/4.12.0', ua_family: 'okhttp' },
  },
  http: { method: 'GET', route: '/orders/7', status: 200, duration_ms: 57 },
  corr: { request_id: requestId, trace_id: requestId, span_id: 'b7ad6b7169203331' },
  ext: { service: 'orders', route_name: 'orders-v1', response_source: 'upstream' },
  redaction: { upstream: true },
};
const one = (value: object): AuthEvent => eventsOf(kong, json({ ...full, ...value }))[0]!;
const asked = (more: object, header: object = {}) =>
  one({ request: { ...request, ...more, headers: { ...headers, ...header } } });
const answered = (status: number, challenge: string | readonly string[], source = 'exit') =>
  one({ source, response: { status, headers: { 'WWW-Authenticate': challenge } } });

describe('kong', () => {
  it('reads a call', () => {
    expect(withoutId(one({}))).toEqual(expected(kong, call));
    expect(JSON.stringify(one({}), (_, v: unknown) => String(v))).not.toContain('s3cret');
  });

  it('is the same event when it is sent again, and another one of another request', () => {
    const again = one({ latencies: { request: 58 } }).event_id;
    expect(again).toBe(one({}).event_id);
    expect(asked({ id: 'other' }).event_id).not.toBe(again);
  });

  it.each([
    [{ custom_id: 'web', username: 'web' }, { id: 'web', name: '' }, ''],
    [{ username: 'shop-app' }, { id: 'shop-app', name: '' }, ''],
    [{ id: 'c0' }, { id: 'c0', name: '' }, ''],
    [{ username: 'bob@example.com' }, { id: '', name: '' }, 'bob@example.com'],
    [{ custom_id: 'web', username: 'bob@example.com' }, { id: 'web', name: '' }, ''],
  ])('consumer %j', (consumer, client, person) => {
    const event = one({ consumer });
    expect(event.client).toMatchObject(client);
    expect(event.subject.ref).toBe(person === '' ? '' : ring.ref('subject', person));
  });

  it('takes what a plugin knows for the person where there is no consumer', () => {
    const event = one({ consumer: undefined, authenticated_entity: { id: 'alice' } });
    expect([event.client.id, event.subject.ref]).toEqual(['', ring.ref('subject', 'alice')]);
  });

  it('makes references of tokens, and none of a masked one', () => {
    const of = (value: string) => [
      { role: 'presented', type: 'access', ref: ring.ref('token', value), ref_kind: 'hmac' },
    ];
    expect(one({}).tokens).toEqual([]);
    expect(asked({ uri: '/a?access_token=t-1' })).toMatchObject({
      tokens: of('t-1'),
      ext: { token_in_url: 'true' },
      http: { route: '/a' },
    });
    expect(asked({}, { authorization: 'Bearer t-2' })).toMatchObject({
      tokens: of('t-2'),
      redaction: { upstream: false },
    });
    expect(asked({}, { authorization: ['DPoP t-3', 'x'] })).toMatchObject({
      tokens: of('t-3'),
      binding: 'dpop',
    });
  });

  it.each([
    [401, '', 'exit', 'api_accessed', 'denied', '', 'deny'],
    [403, '', 'exit', 'api_accessed', 'denied', '', 'deny'],
    [401, '', 'upstream', 'api_accessed', 'denied', '', ''],
    [429, '', 'exit', 'rate_limited', 'denied', '', ''],
    [404, '', 'exit', 'api_accessed', 'failure', '', ''],
    [503, '', 'error', 'api_accessed', 'failure', '', ''],
    [
      ...[401, 'Bearer error="invalid_token", error_description="token expired"', 'exit'],
      ...['token_rejected', 'failure', 'expired', 'deny'],
    ],
    [
      ...[401, 'Bearer error="invalid_token"', 'upstream'],
      ...['token_rejected', 'failure', 'invalid_token', ''],
    ],
    [
      ...[403, 'Bearer error="insufficient_scope"', 'exit'],
      ...['api_accessed', 'denied', 'insufficient_scope', 'deny'],
    ],
  ] as [number, string, string, string, string, string, string][])(
    '%i %s of %s is %s, %s',
    (status, challenge, source, kind, outcome, code, decision) => {
      const event = answered(status, challenge, source);
      expect([event.kind, event.outcome, event.error.code, event.policy.decision]).toEqual([
        ...[kind, outcome, code, decision],
      ]);
    },
  );

  it('reads the first of repeated headers', () => {
    expect(answered(401, ['Bearer error="invalid_token"', 'Basic']).kind).toBe('token_rejected');
  });

  it.each([
    [{ latencies: { request: -1 } }, null],
    [{ latencies: { request: 57.000_000_000_1 } }, 57],
    [{ latencies: undefined }, null],
  ])('duration of %j is %s ms', (value, ms) => {
    expect(one(value).http.duration_ms).toBe(ms);
  });

  it('reads what older versions write', () => {
    const event = one({
      request: { method: 'GET', uri: '/a', url: 'http://shop.example.com:8000/a', headers: {} },
      ...{ client_ip: '203.0.113.20', consumer: undefined, source: undefined },
      ...{ workspace_name: undefined, workspace: undefined, service: { id: 's1' }, route: {} },
    });
    expect(event).toMatchObject({
      resource: ['shop.example.com:8000'],
      net: { client_ip: '203.0.113.20', ip_role: 'unknown' },
      source: { tenant: '' },
      corr: { request_id: '', trace_id: '' },
      redaction: { upstream: false },
    });
    expect(event.ext).toEqual({ service: 's1' });
  });

  it('takes the trace of the tracing plugin', () => {
    const event = one({ trace_id: { w3c: 'b'.repeat(32) } });
    expect(event.corr.trace_id).toBe('b'.repeat(32));
  });

  it('knows connections from calls', () => {
    const stream = { session: { received: 1 }, started_at: 1_767_225_600_123 };
    const [event] = eventsOf(kong, json({ ...stream, client_ip: '203.0.113.9' }));
    expect(withoutId(event!)).toEqual(
      expected(kong, {
        ...{ time: call.time, kind: 'unclassified', outcome: 'unknown' },
        source: { raw_type: 'stream' },
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24' },
      }),
    );
  });

  const needed =
    'record: not an entry of a logging plugin; request.uri and response.status are needed';
  it.each([
    [json({ hello: 'world' }), 'unrecognised_record', needed],
    [json({ ...full, request: 'GET /' }), 'unrecognised_record', needed],
    [json({ ...full, response: {} }), 'unrecognised_record', needed],
    [json({ ...full, started_at: undefined }), 'missing_field', 'started_at: is required'],
    [
      json({ ...full, started_at: 'x' }),
      'invalid_time',
      'started_at: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [line('x'), 'unsupported_form', 'text: allowed is the JSON of a logging plugin'],
    [json(JSON.parse('{"__proto__":{"request":{"uri":"/"}}}')), 'unrecognised_record', needed],
  ])('refuses %j', (record, code, message) => {
    expect(kong.parse(record, { received_at: RECEIVED_AT })).toEqual({ ok: false, code, message });
  });

  it('takes members of foreign types for nothing', () => {
    const event = one({
      ...{ client_ip: {}, latencies: [], service: 'x', route: 7, consumer: 'c', trace_id: 'x' },
      request: { method: [], uri: '/a', headers: [['host', 'x']] },
    });
    expect(event).toMatchObject({ http: { method: '', route: '/a' }, client: { id: '' }, ext: {} });
  });

  it('fills what it says it provides, and nothing else', () => {
    const events = [
      one({}),
      answered(401, 'Bearer error="invalid_token", error_description="token expired"'),
      asked({ uri: '/a?access_token=t-1' }, { authorization: 'DPoP t-3' }),
      one({ consumer: { username: 'bob@example.com' } }),
    ];
    expect(filledFields(events)).toEqual([...kong.provides].sort());
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('are calls', () => {
    const records = sampleRows('kong.ndjson').flatMap((row) => recordsOf(kong, row));
    const events = records.flatMap((record) => eventsOf(kong, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => [e.kind, e.outcome, e.http.status, e.http.duration_ms])).toEqual([
      ['api_accessed', 'success', 200, 1921],
    ]);
    process.stdout.write(`samples kong: ${records.length} records, ${events.length} events\n`);
  });
});
