import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPlausibleTime } from '../../collector/processors/normalise.ts';
import apisix from '../../collector/sources/apisix.ts';
import apiGateway from '../../collector/sources/aws_api_gateway.ts';
import envoy from '../../collector/sources/envoy.ts';
import kong from '../../collector/sources/kong.ts';
import nginx from '../../collector/sources/nginx.ts';
import oauth2Proxy from '../../collector/sources/oauth2_proxy.ts';
import traefik from '../../collector/sources/traefik.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { REJECT_CODES, type SourceDefinition } from '../../model/define_source.ts';
import { eventsOf, json, line, RECEIVED_AT } from '../golden/run_source.ts';

/**
 * A valid record with anything in the place of some of its members: arbitrary objects would not come beyond the first
 * check of an adapter.
 */
const headers = {
  ...{ host: 'shop.example.com', 'user-agent': 'okhttp/4.12.0', authorization: 'Bearer t-1' },
  ...{ 'x-forwarded-for': '203.0.113.9', traceparent: '00-a-b-01', dpop: 'p-1' },
};
const request = { method: 'GET', uri: '/a?access_token=t-1', url: 'http://h/a', id: 'r', headers };
const called = {
  ...{ request, response: { status: 401, headers: { 'www-authenticate': 'Bearer error="x"' } } },
  ...{ client_ip: '10.0.0.7', consumer: { username: 'web' }, service: {}, route: {} },
};
const claims = { iss: 'i', sub: 's', jti: 'j', aud: ['a'], exp: 1, cnf: { jkt: 't' }, amr: ['x'] };
const records: readonly (readonly [SourceDefinition, Record<string, unknown>])[] = [
  [kong, { ...called, started_at: 1_767_225_600_123, latencies: { request: 1 }, source: 'exit' }],
  [apisix, { ...called, start_time: 1_767_225_600_123, latency: 1, server: { hostname: 'a' } }],
  [apisix, { status: 200, '@timestamp': '2026-01-01T00:00:00Z', claims, consumer_name: 'web' }],
  [
    nginx,
    {
      ...{ msec: '1767225600.1', status: '200', request_uri: '/a', request: 'GET / HTTP/1.1' },
      ...{ remote_addr: '10.0.0.7', http_x_forwarded_for: '203.0.113.9', request_time: '0.1' },
      ...{ claims, http_authorization: 'Bearer t', limit_req_status: 'REJECTED', args: 'a=b' },
    },
  ],
  [nginx, { message: '{"msec":"1767225600.1","status":"200","uri":"/"}' }],
  [
    traefik,
    {
      ...{ StartUTC: '2026-01-01T00:00:00Z', DownstreamStatus: 200, RequestPath: '/a' },
      ...{ ClientHost: '203.0.113.9', ClientAddr: '10.0.0.7:1', Duration: 1, RouterName: 'r' },
    },
  ],
  [
    apiGateway,
    {
      ...{ requestTimeEpoch: '1767225600123', status: '401', httpMethod: 'GET', apiId: 'a' },
      ...{ authorizer: { error: 'expired', claims }, xrayTraceId: '1-a-b', routeKey: 'GET /' },
    },
  ],
  [
    oauth2Proxy,
    {
      ...{ timestamp: '2026/01/01 00:00:00', client: '203.0.113.9', username: 'bob', host: 'a' },
      ...{ request_method: 'GET', request_uri: '/oauth2/callback?code=c', status_code: 302 },
    },
  ],
  [oauth2Proxy, { timestamp: '2026/01/01 00:00:00', status: 'AuthFailure', message: 'x' }],
  [
    envoy,
    {
      ...{ start_time: '2026-01-01T00:00:00Z', response_code: 401, path: '/a', authority: 'h' },
      ...{ response_code_details: 'jwt_authn_access_denied{x}', dynamic_metadata: { j: claims } },
    },
  ],
];
const lines = [
  '10.0.0.7 - bob [01/Jan/2026:00:00:00 +0000] "GET /a?access_token=t HTTP/1.1" 200 1 "-" "curl/8" "203.0.113.9"',
  '203.0.113.9 - bob [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 401 17 "-" "a" 42 "r" "http://s" 57ms',
  '203.0.113.9 - r1 - bob [2026/01/01 00:00:00] app GET - "/oauth2/start" HTTP/1.1 "a" 302 1 0.1',
  '203.0.113.9 - r1 - bob [2026/01/01 00:00:00] [AuthFailure] Invalid: unauthorized',
  '[2026/01/01 00:00:00] [oauthproxy.go:1] Error while parsing OAuth2 callback: access_denied',
  '[2026-01-01T00:00:00Z] "GET /a HTTP/1.1" 403 UAEX ext_authz_denied - "-" 0 1 1 - "-" "a" "r" "h" "-" c - - 10.0.0.7:1 - d',
  '2026/01/01 00:00:00 [error] 1#1: *1 limiting requests, client: 203.0.113.9, server: _',
];

const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(undefined, null, '', '-', 'null', [], {}, 0, -1, 1e300, '9'.repeat(30)),
  fc.constantFrom('\u0000', '%', '%E0%A4%A', '__proto__', 'a'.repeat(3_000), '(((', '1-2-3'),
  fc.constant(JSON.parse('{"__proto__":{"status":200},"constructor":1}') as unknown),
);

/** Puts `value` at one of the members of a record, also of those within. */
function replaced(
  record: Record<string, unknown>,
  at: number,
  value: unknown,
): Record<string, unknown> {
  const names = Object.keys(record);
  const name = names[at % names.length] ?? '';
  const member = record[name];
  const within = typeof member === 'object' && member !== null && !Array.isArray(member);
  const deeper = Math.trunc(at / names.length);
  const goesOn = within && deeper % 3 !== 0 && Object.keys(member).length > 0;
  const next = goesOn ? replaced(member as Record<string, unknown>, deeper, value) : value;
  return { ...record, [name]: next };
}

function isHandled(source: SourceDefinition, record: ReturnType<typeof json>): void {
  const parsed = source.parse(record, { received_at: RECEIVED_AT });
  if (!parsed.ok) {
    expect(REJECT_CODES).toContain(parsed.code);
    return;
  }
  // A time out of range is refused behind the adapter.
  if (!parsed.events.every((draft) => isPlausibleTime(draft.time))) return;
  for (const event of eventsOf(source, record)) AuthEvent.parse(event);
}

describe.each(
  records.map(([source, record], i) => ({ source, record, name: `${i} of ${source.id}` })),
)('$name', ({ source, record }) => {
  it('is accepted as it is', () => {
    expect(source.parse(json(record), { received_at: RECEIVED_AT }).ok).toBe(true);
  });

  it('gives valid events or a typed rejection, whatever stands in the place of its members', () => {
    const changes = fc.array(fc.tuple(fc.nat(10_000), odd), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(changes, (list) => {
        const changed = list.reduce((r, [at, value]) => replaced(r, at, value), record);
        isHandled(source, json(changed));
      }),
      { numRuns: 300 },
    );
  });
});

describe.each([nginx, traefik, oauth2Proxy, envoy])('lines of $id', (source) => {
  it('give valid events or a typed rejection, whatever is cut, doubled or put in', () => {
    const piece = fc.oneof(
      fc.string({ maxLength: 20, unit: 'binary' }),
      fc.constantFrom('"', ' ', '[', ']', '\\', '\\x22', ' - ', '" 1 "', '-', '57ms', 'HTTP/1.1'),
    );
    const change = fc.tuple(fc.constantFrom(...lines), fc.nat(150), fc.nat(20), piece);
    fc.assert(
      fc.property(change, ([text, at, length, put]) => {
        isHandled(source, line(text.slice(0, at) + put + text.slice(at + length)));
      }),
      { numRuns: 800 },
    );
  });

  it.each([
    ['spaces', ' '.repeat(65_000)],
    ['quotes', '"'.repeat(65_000)],
    ['fields', '" 1 "'.repeat(13_000)],
    ['escapes', '\\'.repeat(65_000)],
    ['dashes', ' - '.repeat(21_000)],
    ['brackets', '['.repeat(65_000)],
    ['digits', '1'.repeat(65_000)],
  ])('are read in no time, be they full of %s', (_, filler) => {
    const began = performance.now();
    for (const text of lines) {
      for (const at of [0, 14, 25, 60, text.length - 3, text.length]) {
        const full = text.slice(0, at) + filler + text.slice(at);
        source.parse(line(full.slice(0, 65_536)), { received_at: RECEIVED_AT });
      }
    }
    // 42 lines at the limit of length: quadratic work would take minutes.
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
