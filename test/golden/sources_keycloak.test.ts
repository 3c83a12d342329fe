import { describe, expect, it } from 'vitest';
import keycloak from '../../collector/sources/keycloak.ts';
import type { PartialEvent } from '../../model/complete_event.ts';
import { eventsOf, expected, json, line, ring, withoutId } from './run_source.ts';

/** One event in each of the four forms, then every type: kind, outcome and what it says. */
const at = 1_767_225_600_123_000_000n;
const old = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c001';
const fresh = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c002';
const access = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c003';
const session = 'sess-1';
const family = ring.refOfJti('sess-1/web');

const refresh: Omit<PartialEvent, 'event_id'> = {
  time: at,
  kind: 'token_refreshed',
  outcome: 'success',
  source: { tenant: 'shop', raw_type: 'REFRESH_TOKEN' },
  grant_type: 'refresh_token',
  endpoint: 'token',
  client: { id: 'web', auth_method: 'client-secret' },
  subject: { ref: ring.ref('subject', 'u1'), type: 'user' },
  scopes_granted: ['openid', 'profile'],
  session_ref: ring.ref('session', session),
  grant_ref: ring.ref('grant', 'sess-1/web'),
  net: { client_ip: '203.0.113.9', network: '203.0.113.0/24' },
  tokens: [
    { role: 'consumed', type: 'refresh', ref: old, ref_kind: 'jti', family_ref: family },
    {
      role: 'issued',
      type: 'refresh',
      ref: fresh,
      ref_kind: 'jti',
      family_ref: family,
      parent_ref: old,
    },
    {
      ...{
        role: 'issued' as const,
        type: 'access' as const,
        ref: access,
        ref_kind: 'jti' as const,
      },
      ...{ family_ref: family, parent_ref: old, expires_at: at + 300_000_000_000n },
    },
  ],
  ext: { refresh_token_type: 'Refresh' },
  redaction: {
    fields: [
      'grant_ref',
      'session_ref',
      'subject.ref',
      'tokens.family_ref',
      'tokens.parent_ref',
      'tokens.ref',
    ],
  },
};
const details = {
  ...{ token_id: `onrtac:${access}`, grant_type: 'refresh_token', refresh_token_type: 'Refresh' },
  ...{
    access_token_expiration_time: '300',
    updated_refresh_token_id: fresh,
    scope: 'profile openid',
  },
  ...{ refresh_token_id: old, code_id: session, client_auth_method: 'client-secret' },
};
const pairs = {
  ...{
    type: 'REFRESH_TOKEN',
    realmId: 'shop',
    clientId: 'web',
    userId: 'u1',
    ipAddress: '203.0.113.9',
  },
  ...details,
};
const text = (quote: string): string =>
  Object.entries(pairs)
    .map(([k, v]) => `${k}=${quote}${v}${quote}`)
    .join(', ');
const stamp = '2026-01-01 00:00:00,123 DEBUG [org.keycloak.events] (executor-thread-1)';

describe('a refresh in every form is the same event', () => {
  it.each([
    ['a line of the old form', line(`${stamp} ${text('')}`)],
    ['a quoted line', line(`${stamp} ${text('"')}`)],
    ['a quoted line whose quotes a shipper escaped', line(`${stamp} ${text('\\"')}`)],
    ['a JSON console line', json({ '@timestamp': '2026-01-01T00:00:00.123Z', message: text('"') })],
    [
      'a webhook',
      json({
        ...{
          type: 'REFRESH_TOKEN',
          time: 1_767_225_600_123,
          realmId: 'shop',
          clientId: 'web',
          userId: 'u1',
        },
        ...{ sessionId: session, ipAddress: '203.0.113.9', details },
      }),
    ],
  ])('%s', (_, record) => {
    const events = eventsOf(keycloak, record);
    expect(events.map(withoutId)).toEqual([expected(keycloak, refresh)]);
  });
});

function user(type: string, more: Record<string, string> = {}, error?: string) {
  return eventsOf(
    keycloak,
    json({
      ...{
        id: 'e1',
        type,
        time: 1_767_225_600_123,
        realmName: 'shop',
        clientId: 'web',
        userId: 'u1',
      },
      ...{ ipAddress: '203.0.113.9', ...(error === undefined ? {} : { error }), details: more },
    }),
  ).map((e) => [e.kind, e.outcome, e.error.code, e.error.oauth_error, e.grant_type]);
}

describe('every type', () => {
  const device = 'urn:ietf:params:oauth:grant-type:device_code';
  const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange';
  it.each([
    ['LOGIN', {}, [['login', 'success', '', '', '']]],
    ['LOGIN', { grant_type: 'password' }, [['token_issued', 'success', '', '', 'password']]],
    ['LOGOUT', {}, [['session_ended', 'success', '', '', '']]],
    [
      'CODE_TO_TOKEN',
      {},
      [
        ['token_issued', 'success', '', '', 'authorization_code'],
        ['code_redeemed', 'success', '', '', 'authorization_code'],
      ],
    ],
    ['CLIENT_LOGIN', {}, [['token_issued', 'success', '', '', 'client_credentials']]],
    ['TOKEN_EXCHANGE', {}, [['token_exchanged', 'success', '', '', exchange]]],
    ['OAUTH2_DEVICE_AUTH', {}, [['device_authorization_requested', 'success', '', '', '']]],
    ['OAUTH2_DEVICE_VERIFY_USER_CODE', {}, [['device_authorized', 'success', '', '', '']]],
    ['OAUTH2_DEVICE_CODE_TO_TOKEN', {}, [['token_issued', 'success', '', '', device]]],
    [
      'AUTHREQID_TO_TOKEN',
      {},
      [['token_issued', 'success', '', '', 'urn:openid:params:grant-type:ciba']],
    ],
    ['PUSHED_AUTHORIZATION_REQUEST', {}, [['par_pushed', 'success', '', '', '']]],
    [
      'JWT_BEARER',
      {},
      [['token_issued', 'success', '', '', 'urn:ietf:params:oauth:grant-type:jwt-bearer']],
    ],
    ['INTROSPECT_TOKEN', {}, [['token_introspected', 'success', '', '', '']]],
    ['USER_INFO_REQUEST', {}, [['userinfo_accessed', 'success', '', '', '']]],
    ['GRANT_CONSENT', {}, [['consent_granted', 'success', '', '', '']]],
    ['REVOKE_GRANT', {}, [['token_revoked', 'success', '', '', '']]],
    ['REVOKE_GRANT', { revoked_client: 'app' }, [['consent_revoked', 'success', '', '', '']]],
    ['CLIENT_REGISTER', {}, [['client_registered', 'success', '', '', '']]],
    ['CLIENT_UPDATE', {}, [['client_updated', 'success', '', '', '']]],
    ['CLIENT_DELETE', {}, [['client_deleted', 'success', '', '', '']]],
    ['IMPERSONATE', {}, [['impersonation', 'success', '', '', '']]],
    ['USER_DISABLED_BY_TEMPORARY_LOCKOUT', {}, [['account_locked', 'success', '', '', '']]],
    ['SOMETHING_NEW', {}, [['unclassified', 'success', '', '', '']]],
    ['toString', {}, [['unclassified', 'success', '', '', '']]],
  ])('%s %j', (type, more, events) => {
    expect(user(type, more)).toEqual(events);
  });

  it.each([
    [
      'LOGIN_ERROR',
      'invalid_redirect_uri',
      {},
      [['authorization_failed', 'failure', 'invalid_redirect_uri', '', '']],
    ],
    [
      'LOGIN_ERROR',
      'invalid_user_credentials',
      {},
      [['login_failed', 'failure', 'invalid_user_credentials', '', '']],
    ],
    [
      'LOGIN_ERROR',
      'rejected_by_user',
      {},
      [['consent_denied', 'denied', 'rejected_by_user', 'access_denied', '']],
    ],
    [
      'CODE_TO_TOKEN_ERROR',
      'invalid_code',
      {},
      [
        ['token_request_failed', 'failure', 'invalid_code', 'invalid_grant', 'authorization_code'],
        ['code_redeemed', 'failure', 'invalid_code', 'invalid_grant', 'authorization_code'],
      ],
    ],
    [
      'CODE_TO_TOKEN_ERROR',
      'pkce_verification_failed',
      {},
      [
        [
          'token_request_failed',
          'failure',
          'pkce_verification_failed',
          'invalid_grant',
          'authorization_code',
        ],
        [
          'code_redeemed',
          'failure',
          'pkce_verification_failed',
          'invalid_grant',
          'authorization_code',
        ],
      ],
    ],
    [
      'CODE_TO_TOKEN_ERROR',
      'invalid_client_credentials',
      {},
      [
        [
          'token_request_failed',
          'failure',
          'invalid_client_credentials',
          'invalid_client',
          'authorization_code',
        ],
      ],
    ],
    [
      'REFRESH_TOKEN_ERROR',
      'invalid_token',
      { reason: 'Token is not active' },
      [['token_request_failed', 'failure', 'invalid_token', 'invalid_grant', 'refresh_token']],
    ],
    [
      'REFRESH_TOKEN_ERROR',
      'invalid_token',
      { reason: 'Maximum allowed refresh token reuse exceeded' },
      [
        ['token_request_failed', 'failure', 'invalid_token', 'invalid_grant', 'refresh_token'],
        ['token_reuse_detected', 'failure', 'invalid_token', 'invalid_grant', 'refresh_token'],
      ],
    ],
    [
      'OAUTH2_DEVICE_CODE_TO_TOKEN_ERROR',
      'authorization_pending',
      {},
      [
        [
          ...['token_request_failed', 'pending', 'authorization_pending', 'authorization_pending'],
          'urn:ietf:params:oauth:grant-type:device_code',
        ],
      ],
    ],
    [
      'INTROSPECT_TOKEN_ERROR',
      'invalid_request',
      {},
      [['token_introspected', 'failure', 'invalid_request', 'invalid_request', '']],
    ],
    ['UPDATE_PASSWORD_ERROR', 'invalid_x', {}, [['unclassified', 'failure', 'invalid_x', '', '']]],
  ])('%s %s %j', (type, error, more, events) => {
    expect(user(type, more, error)).toEqual(events);
  });
});

describe('admin events', () => {
  const admin = (
    operationType: string,
    resourceType: string,
    resourcePath: string,
    representation?: string,
  ) => {
    const [event] = eventsOf(
      keycloak,
      json({
        ...{ operationType, resourceType, resourcePath, representation, time: 1_767_225_600_123 },
        authDetails: {
          realmId: 'master',
          clientId: 'console',
          userId: 'admin',
          ipAddress: '203.0.113.9',
        },
      }),
    );
    return event!;
  };

  it('a registered client carries its redirect URIs', () => {
    const event = admin(
      'CREATE',
      'CLIENT',
      'clients/42',
      JSON.stringify({
        clientId: 'web',
        rootUrl: 'https://c/',
        redirectUris: ['https://a/cb', 'https://b/*', '/cb'],
        secret: 'hush-hush-1',
        publicClient: false,
        clientAuthenticatorType: 'client-secret',
        standardFlowEnabled: true,
        implicitFlowEnabled: false,
        directAccessGrantsEnabled: true,
        serviceAccountsEnabled: false,
        attributes: { 'oauth2.device.authorization.grant.enabled': 'true' },
        defaultClientScopes: ['profile', 'email'],
        optionalClientScopes: ['offline_access'],
      }),
    );
    expect(withoutId(event)).toEqual(
      expected(keycloak, {
        time: at,
        kind: 'client_registered',
        outcome: 'success',
        source: { tenant: 'master', raw_type: 'CREATE CLIENT' },
        client: { id: 'web' },
        actor: { ref: ring.ref('subject', 'admin'), type: 'user' },
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' },
        ext: {
          resource_path: 'clients/42',
          redirect_uris: 'https://a/cb https://b/* https://c/cb',
          scope: 'profile email offline_access',
          grant_types: 'authorization_code password urn:ietf:params:oauth:grant-type:device_code',
          client_type: 'confidential',
          secret_held: 'true',
        },
        redaction: { fields: ['actor.ref'] },
      }),
    );
  });

  it('a registered client is public, or has a key, as its representation says, and unknown where it does not', () => {
    const ext = (client: object): unknown => {
      const { resource_path, ...rest } = admin(
        'UPDATE',
        'CLIENT',
        'clients/42',
        JSON.stringify(client),
      ).ext;
      expect(resource_path).toBe('clients/42');
      return rest;
    };
    expect(ext({ publicClient: true, clientAuthenticatorType: 'client-secret' })).toEqual({
      client_type: 'public',
      token_endpoint_auth_method: 'none',
    });
    expect(ext({ publicClient: false, clientAuthenticatorType: 'client-jwt' })).toEqual({
      client_type: 'confidential',
      token_endpoint_auth_method: 'private_key_jwt',
    });
    expect(ext({ clientAuthenticatorType: 'client-x509', standardFlowEnabled: true })).toEqual({});
  });

  it.each([
    ['UPDATE', 'CLIENT', 'clients/42', 'client_updated'],
    ['DELETE', 'CLIENT', 'clients/42', 'client_deleted'],
    ['ACTION', 'CLIENT', 'clients/42/client-secret', 'client_credential_changed'],
    ['UPDATE', 'REALM', '', 'policy_changed'],
    ['ACTION', 'USER', 'users/7/logout', 'session_revoked'],
    ['ACTION', 'USER', 'users/7/impersonation', 'impersonation'],
    ['DELETE', 'USER', 'users/7/consents/web', 'consent_revoked'],
    ['CREATE', 'USER', 'users/7', 'unclassified'],
  ])('%s %s %s is %s', (operation, resource, path, kind) => {
    expect(admin(operation, resource, path).kind).toBe(kind);
  });
});

describe('traps', () => {
  it('a user name that imitates fields changes nothing', () => {
    const [event] = eventsOf(
      keycloak,
      line(
        `${stamp} type=LOGIN_ERROR, realmId=shop, clientId=web, userId=null, ipAddress=203.0.113.9, error=user_not_found, username=x, type=LOGIN, clientId=evil, error=none`,
      ),
    );
    expect([event!.kind, event!.client.id, event!.error.code]).toEqual([
      'login_failed',
      'web',
      'user_not_found',
    ]);
  });

  it('the URL and the cookies of a TRACE line are not read', () => {
    const [event] = eventsOf(
      keycloak,
      line(
        `${stamp} type=LOGIN, realmId=shop, clientId=web, userId=u1, ipAddress=203.0.113.9, requestUri=https://as/?state=abc, cookies=[KC=abc]`,
      ),
    );
    expect(event!.ext).toEqual({});
  });

  it.each([
    [line('no event here'), 'unrecognised_record'],
    [line('type=LOGIN, realmId=x'), 'missing_field'],
    [line(`2026-13-01 00:00:00 type=LOGIN, realmId=x`), 'invalid_time'],
    [line(`type=${'x'.repeat(70_000)}`), 'too_large'],
    [json({ type: 'LOGIN' }), 'missing_field'],
    [json({ type: 'LOGIN', time: 'soon' }), 'invalid_time'],
    [json({ time: 1 }), 'unrecognised_record'],
  ])('%j is refused', (record, code) => {
    expect(keycloak.parse(record, { received_at: at })).toMatchObject({ ok: false, code });
  });
});
