import { describe, expect, it } from 'vitest';
import envoy from '../../collector/sources/envoy.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const base = {
  start_time: '2026-01-01T00:00:00.000Z',
  method: 'GET',
  path: '/orders?access_token=abcdef',
  authority: 'shop.example.com',
  response_code: '200',
  response_code_details: 'via_upstream',
  response_flags: '-',
  duration: '12',
  'user-agent': 'okhttp/4.12.0',
  'x-forwarded-for': '203.0.113.9, 10.0.0.2',
  'x-request-id': 'req-1',
};
const access = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c003';

const start = '[2026-01-01T00:00:00.000Z] "GET /orders?access_token=abcdef HTTP/1.1"';
const istio = `${start} 403 UAEX ext_authz_denied - "-" 0 17 12 - "203.0.113.9" "okhttp/4.12.0" "req-1" "shop.example.com" "-" outbound|80||orders 10.0.0.8:80 10.0.0.8:8080 10.0.0.7:4711 - default`;
const plain = `${start} 200 - 0 17 12 11 "-" "okhttp/4.12.0" "req-1" "shop.example.com" "10.0.0.9:80"`;

describe('default lines', () => {
  const one = (text: string): AuthEvent => eventsOf(envoy, line(text))[0]!;
  it('of Istio tell as much as JSON without claims', () => {
    expect(withoutId(one(istio))).toEqual(
      expected(envoy, {
        ...{ time: 1_767_225_600_000_000_000n, kind: 'api_accessed', outcome: 'denied' },
        ...{ source: { raw_type: 'ext_authz_denied' }, error: { code: 'ext_authz_denied' } },
        ...{ resource: ['shop.example.com'], policy: { decision: 'deny' } },
        tokens: [{ role: 'presented', type: 'access', ref: ring.ref('token', 'abcdef') }],
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
          ...{ user_agent: 'okhttp/4.12.0', ua_family: 'okhttp' },
        },
        http: { method: 'GET', route: '/orders', status: 403, duration_ms: 12 },
        corr: { request_id: 'req-1' },
        ext: {
          ...{ token_in_url: 'true', response_flags: 'UAEX', route_name: 'default' },
          upstream_cluster: 'outbound|80||orders',
        },
        redaction: { fields: ['tokens.ref'] },
      }),
    );
  });

  it('of Envoy have no details and no peer', () => {
    expect(one(plain)).toMatchObject({
      ...{ kind: 'api_accessed', outcome: 'success', source: { raw_type: '' } },
      ...{ net: { client_ip: '' }, http: { status: 200, duration_ms: 12 } },
      ext: { token_in_url: 'true' },
    });
  });

  it('are not led astray by an agent with quotes', () => {
    const event = one(istio.replace('okhttp/4.12.0', 'a" "b" "other.example.com'));
    expect([event.resource, event.corr.request_id]).toEqual([['shop.example.com'], 'req-1']);
  });
});

describe('envoy', () => {
  it('reads a call with the claims of its JWT', () => {
    const [event] = eventsOf(
      envoy,
      json({
        ...base,
        dynamic_metadata: {
          'envoy.filters.http.jwt_authn': {
            payload: {
              ...{
                iss: 'https://as.example.com',
                sub: 'alice',
                aud: 'shop',
                azp: 'web',
                jti: access,
              },
              ...{ scope: 'orders:read openid', iat: 1_767_225_000, exp: 1_767_225_900 },
              cnf: { jkt: '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I' },
            },
          },
        },
      }),
    );
    expect(withoutId(event!)).toEqual(
      expected(envoy, {
        time: 1_767_225_600_000_000_000n,
        kind: 'api_accessed',
        outcome: 'success',
        source: { raw_type: 'via_upstream' },
        client: { id: 'web' },
        subject: { ref: ring.ref('subject', 'alice') },
        issuer: 'https://as.example.com',
        audience: ['shop'],
        resource: ['shop.example.com'],
        scopes_granted: ['openid', 'orders:read'],
        binding: 'dpop',
        binding_thumbprint: '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I',
        tokens: [
          {
            ...{
              role: 'presented' as const,
              type: 'access' as const,
              ref: access,
              ref_kind: 'jti' as const,
            },
            ...{ issued_at: 1_767_225_000_000_000_000n, expires_at: 1_767_225_900_000_000_000n },
          },
        ],
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
          ...{ user_agent: 'okhttp/4.12.0', ua_family: 'okhttp' },
        },
        http: { method: 'GET', route: '/orders', status: 200, duration_ms: 12 },
        corr: { request_id: 'req-1' },
        ext: { token_in_url: 'true' },
        redaction: { fields: ['subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it.each([
    [
      401,
      'jwt_authn_access_denied{Jwt_is_expired}',
      '-',
      'token_rejected',
      'failure',
      'expired',
      '',
    ],
    [
      401,
      'jwt_authn_access_denied{Jwt_verification_fails}',
      '-',
      'token_rejected',
      'failure',
      'invalid_signature',
      '',
    ],
    [
      401,
      'jwt_authn_access_denied{Jwt_is_missing}',
      '-',
      'api_accessed',
      'denied',
      'missing_token',
      '',
    ],
    [
      403,
      'jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}',
      '-',
      'token_rejected',
      'failure',
      'invalid_audience',
      '',
    ],
    [403, 'ext_authz_denied', 'UAEX', 'api_accessed', 'denied', 'ext_authz_denied', 'deny'],
    [
      403,
      'rbac_access_denied_matched_policy[none]',
      '-',
      'api_accessed',
      'denied',
      'rbac_access_denied',
      'deny',
    ],
    [429, 'request_rate_limited', 'RL', 'rate_limited', 'denied', 'rate_limited', ''],
    [429, 'via_upstream', '-', 'rate_limited', 'denied', '', ''],
    [403, 'via_upstream', '-', 'api_accessed', 'denied', '', ''],
    [302, 'via_upstream', '-', 'api_accessed', 'success', '', ''],
    [500, 'via_upstream', '-', 'api_accessed', 'failure', '', ''],
    [503, 'upstream_reset', 'UF', 'api_accessed', 'failure', 'UF', ''],
    [0, 'downstream_remote_disconnect', 'DC', 'api_accessed', 'failure', 'DC', ''],
  ])('%i %s %s', (code, details, flags, kind, outcome, error, decision) => {
    const record = {
      ...base,
      response_code: code,
      response_code_details: details,
      response_flags: flags,
    };
    const [event] = eventsOf(envoy, json(record));
    expect([event!.kind, event!.outcome, event!.error.code, event!.policy.decision]).toEqual([
      ...[kind, outcome, error, decision],
    ]);
  });

  it('takes a private or absent forwarded address for nobody in particular', () => {
    const role = (more: object) => eventsOf(envoy, json({ ...base, ...more }))[0]!.net;
    expect(role({ 'x-forwarded-for': '10.1.2.3' })).toMatchObject({
      client_ip: '10.1.2.3',
      ip_role: 'unknown',
    });
    expect(
      role({ 'x-forwarded-for': '-', downstream_remote_address: '198.51.100.4:4711' }),
    ).toMatchObject({ client_ip: '198.51.100.4', ip_role: 'unknown' });
  });

  it('notes no token in a URL without one', () => {
    expect(eventsOf(envoy, json({ ...base, path: '/a?token_hint=x' }))[0]!.ext).toEqual({});
  });

  it('makes a reference of the token in a URL where no claims name it', () => {
    expect(eventsOf(envoy, json(base))[0]!.tokens).toMatchObject([
      { role: 'presented', type: 'access', ref: ring.ref('token', 'abcdef'), ref_kind: 'hmac' },
    ]);
    const path = '/orders?access_token=****';
    expect(eventsOf(envoy, json({ ...base, path }))[0]).toMatchObject({
      tokens: [{ ref: '' }],
      redaction: { upstream: true },
    });
  });

  it.each([
    ['the metadata as text', { jwt_payload: '{"iss":"https://as.example.com","sub":"alice"}' }],
    ['the payload itself', { claims: { iss: 'https://as.example.com', sub: 'alice' } }],
    [
      'text that is no JSON',
      { jwt_payload: '{"iss":', metadata: { a: { iss: 'https://as.example.com', sub: 'alice' } } },
    ],
  ])('finds claims in %s', (_, more) => {
    const event = eventsOf(envoy, json({ ...base, ...more }))[0]!;
    expect([event.issuer, event.subject.ref]).toEqual([
      ...['https://as.example.com', ring.ref('subject', 'alice')],
    ]);
  });

  it.each([
    [401, 'via_upstream', 'Bearer error="invalid_token"', 'token_rejected', 'invalid_token'],
    [
      ...([
        401,
        'via_upstream',
        'Bearer error="invalid_token", error_description="expired"',
      ] as const),
      ...(['token_rejected', 'expired'] as const),
    ],
    [
      403,
      'via_upstream',
      'Bearer error="insufficient_scope"',
      'api_accessed',
      'insufficient_scope',
    ],
    [401, 'via_upstream', 'Bearer realm="shop"', 'api_accessed', ''],
    [403, 'ext_authz_denied', 'Bearer error="invalid_token"', 'api_accessed', 'ext_authz_denied'],
  ])('%i %s with %s is %s, %s', (code, details, challenge, kind, error) => {
    const record = { ...base, response_code: code, response_code_details: details };
    const event = eventsOf(envoy, json({ ...record, www_authenticate: challenge }))[0]!;
    expect([event.kind, event.error.code]).toEqual([kind, error]);
  });

  it.each([
    ['Jwt_not_yet_valid', 'not_yet_valid'],
    ['Jwt_issuer_is_not_configured', 'unknown_issuer'],
    ["Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt", 'unknown_key'],
    ['Jwt_header_is_an_invalid_JSON', 'malformed'],
    ['Jwt_payload_[exp]_field_is_not_an_integer', 'malformed'],
    ['Jwt_header_[alg]_is_not_supported', 'algorithm_not_allowed'],
    ['Jwks_remote_fetch_is_failed', 'jwks_remote_fetch_is_failed'],
  ])('%s is %s', (reason, code) => {
    const record = { ...base, response_code_details: `jwt_authn_access_denied{${reason}}` };
    const event = eventsOf(envoy, json({ ...record, response_code: 401 }))[0]!;
    expect([event.kind, event.error.code]).toEqual(['token_rejected', code]);
  });

  it('says which proxy and which trace', () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const event = eventsOf(envoy, json({ ...base, hostname: 'edge-1', traceparent }))[0]!;
    expect([event.source.instance, event.corr]).toMatchObject([
      'edge-1',
      { trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' },
    ]);
  });

  it('fills what it says it provides, and nothing else', () => {
    const claims = {
      ...{ iss: 'https://as.example.com', sub: 'alice', aud: 'shop', client_id: 'web', scope: 'a' },
      ...{ jti: access, sid: 's1', acr: 'gold', amr: ['otp'], exp: 1_767_226_500 },
      ...{ iat: 1_767_225_000, cnf: { 'x5t#S256': 'thumb-1' } },
    };
    const challenge = 'Bearer error="invalid_token", error_description="expired"';
    const refused = { response_code: 401, www_authenticate: challenge };
    const trace = { trace_id: 'a'.repeat(32), span_id: 'b'.repeat(16), hostname: 'edge-1' };
    const rbac = { response_code_details: 'rbac_access_denied_matched_policy[p1]' };
    const events = [
      ...eventsOf(envoy, json({ ...base, ...refused, ...trace, claims })),
      ...eventsOf(envoy, json({ ...base, ...rbac, response_code: 403 })),
    ];
    expect(filledFields(events)).toEqual([...envoy.provides].sort());
  });

  const needed = 'record: not an access log entry; response_code and path are needed';
  it.each([
    [json({ hello: 'world' }), 'unrecognised_record', needed],
    [json({ response_code: 200 }), 'unrecognised_record', needed],
    [json({ ...base, start_time: undefined }), 'missing_field', 'start_time: is required'],
    [
      json({ ...base, start_time: 'x' }),
      'invalid_time',
      'start_time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [
      line('x'),
      'unrecognised_record',
      'line: no access log entry; the default format of Envoy or Istio, or JSON is needed',
    ],
    [line('x'.repeat(65_537)), 'too_large', 'line: longer than 65536 characters'],
    [
      line(istio.replace('2026-01-01', '2026-13-01')),
      'invalid_time',
      'start_time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [
      json(JSON.parse('{"__proto__":{"response_code":200,"path":"/"}}')),
      'unrecognised_record',
      needed,
    ],
  ])('refuses %j', (record, code, message) => {
    expect(envoy.parse(record, { received_at: RECEIVED_AT })).toEqual({ ok: false, code, message });
  });

  it('takes members of foreign types for nothing', () => {
    const odd = {
      authority: {},
      'x-forwarded-for': 7,
      dynamic_metadata: [1],
      duration: [],
      path: {},
    };
    const event = eventsOf(envoy, json({ ...base, ...odd }))[0]!;
    expect(event).toMatchObject({ resource: [], http: { route: '', duration_ms: null }, ext: {} });
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('are calls', () => {
    const records = sampleRows('envoy_istio.ndjson').flatMap((row) => recordsOf(envoy, row));
    const events = records.flatMap((record) => eventsOf(envoy, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => [e.kind, e.outcome, e.http.status, e.http.duration_ms])).toEqual([
      ['api_accessed', 'success', 200, 420],
      ['api_accessed', 'failure', 418, 3],
    ]);
    process.stdout.write(`samples envoy: ${records.length} records, ${events.length} events\n`);
  });
});
