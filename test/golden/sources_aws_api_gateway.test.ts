import { describe, expect, it } from 'vitest';
import apiGateway from '../../collector/sources/aws_api_gateway.ts';
import { cutRecords } from '../../collector/receivers/cut_records.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const jti = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c003';
const full = {
  ...{ requestId: 'req-1', extendedRequestId: 'ext-1=', accountId: '111122223333' },
  ...{ apiId: 'abc123', stage: 'prod', domainName: 'shop.example.com', httpMethod: 'GET' },
  ...{ resourcePath: '/orders/{id}', path: '/prod/orders/7', protocol: 'HTTP/1.1' },
  ...{ requestTimeEpoch: '1767225600123', status: '200', responseLatency: '57' },
  ...{ 'identity.sourceIp': '203.0.113.9', 'identity.userAgent': 'okhttp/4.12.0' },
  ...{ xrayTraceId: '1-5f84c7a1-0123456789abcdef01234567', 'error.responseType': '-' },
  ...{ 'authorizer.error': '-', 'authorizer.principalId': '-' },
};
const claims = {
  ...{ 'authorizer.claims.iss': 'https://as.example.com', 'authorizer.claims.sub': 'alice' },
  ...{ 'authorizer.claims.client_id': 'web', 'authorizer.claims.jti': jti },
  ...{ 'authorizer.claims.scope': 'orders:read openid', 'authorizer.claims.aud': 'shop' },
  ...{ 'authorizer.claims.exp': '1767226500', 'authorizer.claims.iat': '1767225000' },
};
const call = {
  ...{ time: 1_767_225_600_123_000_000n, kind: 'api_accessed' as const },
  outcome: 'success' as const,
  source: { raw_type: 'request', instance: 'abc123/prod', tenant: '111122223333' },
  resource: ['shop.example.com'],
  net: {
    ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
    ...{ user_agent: 'okhttp/4.12.0', ua_family: 'okhttp' },
  },
  http: { method: 'GET', route: '/orders/{id}', status: 200, duration_ms: 57 },
  corr: { request_id: 'req-1', trace_id: '5f84c7a10123456789abcdef01234567' },
};
const one = (value: object): AuthEvent => eventsOf(apiGateway, json({ ...full, ...value }))[0]!;

describe('aws_api_gateway', () => {
  it('reads a call', () => {
    expect(withoutId(one({}))).toEqual(expected(apiGateway, call));
  });

  it('is named by the id that a caller cannot choose', () => {
    expect(one({ requestId: 'req-2' }).event_id).toBe(one({}).event_id);
    expect(one({ extendedRequestId: 'ext-2=' }).event_id).not.toBe(one({}).event_id);
  });

  it('reads claims, however they are named', () => {
    const nested = {
      authorizer: {
        claims: {
          ...{ iss: 'https://as.example.com', sub: 'alice', client_id: 'web', jti, aud: 'shop' },
          ...{ scope: 'orders:read openid', exp: '1767226500', iat: '1767225000' },
        },
      },
    };
    const camel = Object.fromEntries(
      Object.entries(claims).map(([k, v]) => [
        k.replace(/[._](\w)/g, (_, letter: string) => letter.toUpperCase()),
        v,
      ]),
    );
    const plain = {
      authorizer: {
        sub: 'alice',
        iss: 'https://as.example.com',
        clientId: 'web',
        jti,
        aud: 'shop',
      },
      'authorizer.scope': 'orders:read openid',
      ...{ 'authorizer.exp': 1_767_226_500, 'authorizer.iat': 1_767_225_000 },
    };
    const wanted = expected(apiGateway, {
      ...call,
      ...{ issuer: 'https://as.example.com', audience: ['shop'], client: { id: 'web' } },
      ...{ subject: { ref: ring.ref('subject', 'alice') } },
      scopes_granted: ['openid', 'orders:read'],
      tokens: [
        {
          ...{ role: 'presented', type: 'access', ref: jti, ref_kind: 'jti' },
          ...{ issued_at: 1_767_225_000_000_000_000n, expires_at: 1_767_226_500_000_000_000n },
        },
      ],
      redaction: { fields: ['subject.ref', 'tokens.ref'] },
    });
    for (const named of [claims, nested, camel, plain]) {
      expect(withoutId(one(named))).toEqual(wanted);
    }
  });

  it.each([
    [200, {}, 'api_accessed', 'success', '', ''],
    [401, {}, 'api_accessed', 'denied', '', ''],
    [403, {}, 'api_accessed', 'denied', '', ''],
    [404, {}, 'api_accessed', 'failure', '', ''],
    [429, {}, 'rate_limited', 'denied', '', ''],
    [429, { type: 'THROTTLED' }, 'rate_limited', 'denied', 'THROTTLED', ''],
    [429, { type: 'QUOTA_EXCEEDED' }, 'rate_limited', 'denied', 'QUOTA_EXCEEDED', ''],
    [403, { type: 'ACCESS_DENIED' }, 'api_accessed', 'denied', 'ACCESS_DENIED', 'deny'],
    [401, { type: 'UNAUTHORIZED' }, 'api_accessed', 'denied', 'UNAUTHORIZED', 'deny'],
    [403, { type: 'EXPIRED_TOKEN' }, 'api_accessed', 'denied', 'EXPIRED_TOKEN', 'deny'],
    [403, { type: 'INVALID_SIGNATURE' }, 'api_accessed', 'denied', 'INVALID_SIGNATURE', 'deny'],
    [403, { type: 'WAF_FILTERED' }, 'api_accessed', 'denied', 'WAF_FILTERED', 'deny'],
    [504, { type: 'INTEGRATION_TIMEOUT' }, 'api_accessed', 'failure', 'INTEGRATION_TIMEOUT', ''],
    [
      ...([500, { type: 'AUTHORIZER_FAILURE', error: 'timed out' }] as const),
      ...(['token_rejected', 'failure', 'validation_unavailable', ''] as const),
    ],
    [
      ...([500, { type: 'AUTHORIZER_CONFIGURATION_ERROR' }] as const),
      ...(['token_rejected', 'failure', 'validation_unavailable', ''] as const),
    ],
    [
      ...([401, { type: 'UNAUTHORIZED', error: 'the token has expired' }] as const),
      ...(['token_rejected', 'failure', 'expired', 'deny'] as const),
    ],
    [
      ...([401, { error: 'the token does not have a valid audience' }] as const),
      ...(['token_rejected', 'failure', 'invalid_audience', 'deny'] as const),
    ],
    [
      ...([401, { type: 'UNAUTHORIZED', error: 'no' }] as const),
      ...(['api_accessed', 'denied', 'UNAUTHORIZED', 'deny'] as const),
    ],
    [200, { error: 'the token has expired' }, 'api_accessed', 'success', '', ''],
    [500, { type: 'toString' }, 'api_accessed', 'failure', 'toString', ''],
  ])(
    '%i %j is %s, %s, %s',
    (status, { type, error }: { type?: string; error?: string }, ...rest) => {
      const event = one({
        status,
        'error.responseType': type ?? '-',
        'authorizer.error': error ?? '-',
      });
      expect([event.kind, event.outcome, event.error.code, event.policy.decision]).toEqual(rest);
      expect(event.source.raw_type).toBe(type ?? 'request');
    },
  );

  it('reads the format that the console proposes', () => {
    const event = eventsOf(
      apiGateway,
      json({
        ...{ requestId: 'req-1', ip: '203.0.113.9', caller: '-', user: 'AIDAEXAMPLE' },
        ...{ requestTime: '01/Jan/2026:00:00:00 +0000', httpMethod: 'GET' },
        ...{ resourcePath: '/orders', status: '200', protocol: 'HTTP/1.1', responseLength: '434' },
      }),
    )[0]!;
    expect(withoutId(event)).toEqual(
      expected(apiGateway, {
        ...{ time: 1_767_225_600_000_000_000n, kind: 'api_accessed', outcome: 'success' },
        source: { raw_type: 'request' },
        subject: { ref: ring.ref('subject', 'AIDAEXAMPLE') },
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24' },
        http: { method: 'GET', route: '/orders', status: 200 },
        corr: { request_id: 'req-1' },
        redaction: { fields: ['subject.ref'] },
      }),
    );
  });

  it.each([
    [{ routeKey: 'POST /orders/{id}' }, 'POST', '/orders/{id}'],
    [{ routeKey: '$default', path: '/a?x=1' }, '', '/a'],
  ])('reads the route of an HTTP API: %j', (value, method, route) => {
    const none = { httpMethod: undefined, resourcePath: undefined, path: undefined };
    const event = one({ ...none, ...value });
    expect([event.http.method, event.http.route]).toEqual([method, route]);
  });

  it('opens subscriptions and answers of CloudWatch Logs', () => {
    const cut = (value: unknown) => [...cutRecords(Buffer.from(JSON.stringify(value)), apiGateway)];
    const anonymous = { ...full, extendedRequestId: undefined, requestTimeEpoch: undefined };
    const message = JSON.stringify(anonymous);
    const logEvents = ['a', 'b'].map((id) => ({ id, timestamp: 1_767_225_600_123, message }));
    const subscription = { messageType: 'DATA_MESSAGE', owner: '111122223333', logEvents };
    const answer = { events: logEvents.map(({ id, ...rest }) => ({ eventId: id, ...rest })) };
    const ids = [subscription, answer].map((container) =>
      cut(container).flatMap((record) => {
        if (!record.ok) throw new Error(record.message);
        const events = eventsOf(apiGateway, record.record);
        expect(events.map(withoutId)).toEqual([expected(apiGateway, call)]);
        return events.map((e) => e.event_id);
      }),
    );
    expect(ids[0]).toEqual(ids[1]);
    expect(new Set(ids[0]).size).toBe(2);
    expect(cut({ messageType: 'CONTROL_MESSAGE', logEvents })).toEqual([]);
  });

  const needed = 'record: not an access log entry; status and httpMethod (or routeKey) are needed';
  it.each([
    [json({ hello: 'world' }), 'unrecognised_record', needed],
    [json({ ...full, status: '-' }), 'unrecognised_record', needed],
    [json({ message: 'plain' }), 'unrecognised_record', 'message: must hold a JSON object'],
    [json({ message: '{"a":' }), 'unrecognised_record', 'message: must hold a JSON object'],
    [json({ message: '{"a":1}' }), 'unrecognised_record', needed],
    [json({ ...full, requestTimeEpoch: '-' }), 'missing_field', 'requestTimeEpoch: is required'],
    [
      json({ ...full, requestTimeEpoch: 'x' }),
      'invalid_time',
      'requestTimeEpoch: not a time; allowed: ISO 8601, 05/Jan/2026:12:00:00 +0000, or epoch seconds, ms, µs or ns',
    ],
    [line('x'), 'unsupported_form', 'text: allowed is a JSON log format'],
    [
      json(JSON.parse('{"__proto__":{"a":1},"constructor":{"b":2}}')),
      'unrecognised_record',
      needed,
    ],
  ])('refuses %j', (record, code, message) => {
    expect(apiGateway.parse(record, { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code, message },
    });
  });

  it('takes members of foreign types for nothing', () => {
    const event = one({
      apiId: ['x'],
      stage: null,
      responseLatency: 'x',
      xrayTraceId: 7,
      'identity.sourceIp': [],
    });
    expect(event).toMatchObject({
      ...{ source: { instance: '' }, corr: { trace_id: '' }, net: { client_ip: '' } },
      http: { duration_ms: null },
    });
  });

  it('fills what it says it provides, and nothing else', () => {
    const more = { 'authorizer.claims.sid': 's1', 'claims.acr': 'gold', 'claims.amr': 'otp' };
    const refused = { status: 401, 'authorizer.error': 'the token has expired' };
    expect(filledFields([one({ ...claims, ...more, ...refused })])).toEqual(
      [...apiGateway.provides].sort(),
    );
  });
});
