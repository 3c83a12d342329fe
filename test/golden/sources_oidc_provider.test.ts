import { describe, expect, it } from 'vitest';
import oidcProvider from '../../collector/sources/oidc_provider.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const at = 1_767_225_600_000_000_000n;
const time = '2026-01-01T00:00:00Z';
const jwtId = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c003';
const run = (value: Record<string, unknown>) => eventsOf(oidcProvider, json({ time, ...value }));
const short = (value: Record<string, unknown>) =>
  run(value).map((e) => [
    e.kind,
    e.phase,
    e.outcome,
    ...e.tokens.map((t) => `${t.role} ${t.type}`),
  ]);

describe('oidc_provider', () => {
  it('a refresh is one event with the tokens of the response', () => {
    const [event] = run({
      event: 'grant.success',
      issuer: 'https://as.example.com',
      client_id: 'web',
      account_id: 'alice',
      grant_id: 'g1',
      params: { grant_type: 'refresh_token', scope: 'openid' },
      scope: 'openid offline_access',
      request: {
        ip: '203.0.113.9',
        ip_role: 'client_backend',
        user_agent: 'node',
        status: 200,
        duration_ms: 9,
      },
      tokens: [
        { role: 'consumed', kind: 'RefreshToken', jti: 'old-refresh', grantId: 'g1', rotations: 0 },
        {
          ...{
            role: 'issued',
            kind: 'RefreshToken',
            jti: 'new-refresh',
            grantId: 'g1',
            rotations: 1,
          },
          ...{ exp: 1_767_226_000, parent: { jti: 'old-refresh' } },
        },
        {
          kind: 'AccessToken',
          jti: jwtId,
          format: 'jwt',
          grantId: 'g1',
          parent: { jti: 'old-refresh' },
        },
      ],
    });
    const family = ring.ref('token', 'g1');
    const old = ring.ref('token', 'old-refresh');
    expect(withoutId(event!)).toEqual(
      expected(oidcProvider, {
        time: at,
        kind: 'token_refreshed',
        outcome: 'success',
        source: { raw_type: 'grant.success' },
        grant_type: 'refresh_token',
        endpoint: 'token',
        client: { id: 'web' },
        subject: { ref: ring.ref('subject', 'alice'), type: 'user' },
        issuer: 'https://as.example.com',
        scopes_requested: ['openid'],
        scopes_granted: ['offline_access', 'openid'],
        tokens: [
          { role: 'consumed', type: 'refresh', ref: old, family_ref: family, counter: 0 },
          {
            ...{
              role: 'issued' as const,
              type: 'refresh' as const,
              ref: ring.ref('token', 'new-refresh'),
            },
            ...{
              family_ref: family,
              parent_ref: old,
              counter: 1,
              expires_at: 1_767_226_000_000_000_000n,
            },
          },
          {
            ...{
              role: 'issued' as const,
              type: 'access' as const,
              ref: jwtId,
              ref_kind: 'jti' as const,
            },
            ...{ family_ref: family, parent_ref: old },
          },
        ],
        grant_ref: ring.ref('grant', 'g1'),
        net: {
          ...{
            client_ip: '203.0.113.9',
            network: '203.0.113.0/24',
            ip_role: 'client_backend' as const,
          },
          ...{ user_agent: 'node', ua_family: 'node' },
        },
        http: { status: 200, duration_ms: 9 },
        redaction: {
          fields: [
            'grant_ref',
            'subject.ref',
            'tokens.family_ref',
            'tokens.parent_ref',
            'tokens.ref',
          ],
        },
      }),
    );
  });

  it('an opaque jti is a secret: keyed, even where it is a UUID', () => {
    const of = (model: object) => run({ event: 'access_token.saved', model })[0]!.tokens[0]!;
    expect(of({ kind: 'AccessToken', jti: jwtId })).toMatchObject({
      ref: ring.ref('token', jwtId),
      ref_kind: 'hmac',
    });
    expect(of({ kind: 'AccessToken', jti: jwtId, format: 'jwt' })).toMatchObject({
      ref: jwtId,
      ref_kind: 'jti',
    });
  });

  it.each([
    [{ event: 'authorization.success' }, [['authorization_requested', 'single', 'success']]],
    [{ event: 'authorization.accepted' }, [['authorization_requested', 'attempt', 'pending']]],
    [
      { event: 'authorization.error', error: { error: 'access_denied' } },
      [['authorization_failed', 'single', 'denied']],
    ],
    [
      { event: 'authorization_code.saved', model: { jti: 'c1' } },
      [['code_issued', 'single', 'success', 'issued code']],
    ],
    [
      { event: 'authorization_code.consumed', model: { jti: 'c1' } },
      [['code_redeemed', 'single', 'success', 'consumed code']],
    ],
    [
      { event: 'refresh_token.saved', model: { jti: 'r1' } },
      [['token_issued', 'attempt', 'success', 'issued refresh']],
    ],
    [
      { event: 'refresh_token.consumed', model: { jti: 'r1' } },
      [['token_refreshed', 'attempt', 'success', 'consumed refresh']],
    ],
    [
      {
        event: 'grant.error',
        params: { grant_type: 'refresh_token' },
        error: { error: 'invalid_grant', error_detail: 'refresh token already used' },
        tokens: [{ role: 'presented', kind: 'RefreshToken', jti: 'r1' }],
      },
      [
        ['token_request_failed', 'single', 'failure', 'presented refresh'],
        ['token_reuse_detected', 'single', 'failure', 'presented refresh'],
      ],
    ],
    [
      {
        event: 'grant.error',
        params: { grant_type: 'authorization_code' },
        error: { error: 'invalid_grant', error_detail: 'PKCE verification failed' },
        tokens: [{ role: 'presented', kind: 'AuthorizationCode', jti: 'c1' }],
      },
      [
        ['token_request_failed', 'single', 'failure', 'presented code'],
        ['code_redeemed', 'single', 'failure', 'consumed code'],
      ],
    ],
    [
      {
        event: 'grant.error',
        params: { grant_type: 'x' },
        error: { error: 'authorization_pending' },
      },
      [['token_request_failed', 'single', 'pending']],
    ],
    [
      { event: 'grant.success', params: { grant_type: 'client_credentials' } },
      [['token_issued', 'single', 'success']],
    ],
    [{ event: 'grant.revoked', grant_id: 'g1' }, [['grant_revoked', 'single', 'success']]],
    [
      { event: 'introspection.success', active: true },
      [['token_introspected', 'single', 'success']],
    ],
    [{ event: 'revocation.success' }, [['token_revoked', 'single', 'success']]],
    [{ event: 'userinfo.error' }, [['userinfo_accessed', 'single', 'failure']]],
    [{ event: 'pushed_authorization_request.success' }, [['par_pushed', 'single', 'success']]],
    [
      { event: 'device_authorization.success' },
      [['device_authorization_requested', 'single', 'success']],
    ],
    [{ event: 'end_session.success' }, [['session_ended', 'single', 'success']]],
    [{ event: 'registration_delete.success' }, [['client_deleted', 'single', 'success']]],
    [{ event: 'session.saved' }, []],
    [{ event: 'constructor' }, [['unclassified', 'single', 'unknown']]],
    [
      { event: 'server_error', error: { error: 'server_error' } },
      [['unclassified', 'single', 'failure']],
    ],
  ])('%j', (value, events) => {
    expect(short(value)).toEqual(events);
  });

  it('tells two chains of one grant apart by their first token', () => {
    const family = (more: object) =>
      run({
        event: 'grant.success',
        tokens: [
          { role: 'issued', kind: 'AccessToken', jti: 'a1', grantId: 'g1' },
          { role: 'issued', kind: 'RefreshToken', jti: 'r1', grantId: 'g1', ...more },
        ],
      })[0]!.tokens.map((t) => t.family_ref);
    const both = (id: string) => [ring.ref('token', id), ring.ref('token', id)];
    expect(family({ iiat: 1_767_225_600 })).toEqual(both('g1 1767225600'));
    expect(family({ iiat: 1_767_225_600, nonce: 'n1' })).toEqual(both('g1 1767225600 n1'));
    expect(family({})).toEqual(both('g1'));
  });

  it('calls a failed proof of the code by its name, and nothing else', () => {
    const code = (error_detail: string) =>
      run({ event: 'grant.error', error: { error: 'invalid_grant', error_detail } })[0]!.error.code;
    expect(code('code_verifier does not match code_challenge')).toBe('pkce_verification_failed');
    expect(code('code_verifier must be provided')).toBe('pkce_verification_failed');
    expect(code('authorization code is expired')).toBe('');
  });

  it('a registered client carries the metadata that detectors need, and PKCE is told from the code', () => {
    const [registered] = run({
      event: 'registration_create.success',
      client: {
        client_id: 'app',
        redirect_uris: ['https://a/cb'],
        scope: 'openid',
        client_secret: 'hush-1',
      },
    });
    expect([registered!.client.id, registered!.ext]).toEqual([
      'app',
      { redirect_uris: 'https://a/cb', scope: 'openid' },
    ]);
    const pkce = (model: object) => run({ event: 'authorization_code.saved', model })[0]!.pkce;
    expect(pkce({ jti: 'c', codeChallenge: 'x', codeChallengeMethod: 'S256' })).toBe('S256');
    expect(pkce({ jti: 'c' })).toBe('none');
    expect(run({ event: 'grant.success' })[0]!.pkce).toBe('unknown');
  });

  it.each([
    [{ time }, 'missing_field'],
    [{ event: 'grant.success' }, 'missing_field'],
    [{ event: 'grant.success', time: 'x' }, 'invalid_time'],
    [{ event: 'x'.repeat(200), time }, 'invalid_field'],
  ])('refuses %j', (value, code) => {
    expect(oidcProvider.parse(json(value), { received_at: RECEIVED_AT })).toMatchObject({
      ok: false,
      code,
    });
  });
});
