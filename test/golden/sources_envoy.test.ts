import { describe, expect, it } from 'vitest';
import envoy from '../../collector/sources/envoy.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';

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

  it.each([
    [{ hello: 'world' }, 'unrecognised_record'],
    [{ ...base, start_time: undefined }, 'missing_field'],
    [{ ...base, start_time: 'x' }, 'invalid_time'],
  ])('refuses %j', (value, code) => {
    expect(envoy.parse(json(value), { received_at: RECEIVED_AT })).toMatchObject({
      ok: false,
      code,
    });
  });
});
