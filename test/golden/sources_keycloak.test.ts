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
    ['REVOKE_GRANT', { revoked_client: 'web' }, [['token_revoked', 'success', '', '', '']]],
    [
      'LOGIN',
      { consent: 'consent_granted', redirect_uri: 'https://web.example.com/cb' },
      [
        ['login', 'success', '', '', ''],
        ['consent_granted', 'success', '', '', ''],
      ],
    ],
    ['LOGIN', { consent: 'persistent_consent' }, [['login', 'success', '', '', '']]],
    [
      'LOGIN',
      { auth_method: 'openid-connect', response_type: 'code' },
      [
        ['login', 'success', '', '', ''],
        ['device_authorized', 'success', '', '', ''],
      ],
    ],
    ['LOGIN', { auth_method: 'saml' }, [['login', 'success', '', '', '']]],
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
    [
      'LOGIN_ERROR',
      'rejected_by_user',
      { auth_method: 'openid-connect', response_type: 'code' },
      [
        ['consent_denied', 'denied', 'rejected_by_user', 'access_denied', ''],
        ['device_authorized', 'denied', 'rejected_by_user', 'access_denied', ''],
      ],
    ],
    [
      'LOGIN_ERROR',
      'invalid_request',
      { reason: 'Invalid scopes: openid all-of-it' },
      [['authorization_failed', 'failure', 'invalid_request', 'invalid_scope', '']],
    ],
    [
      'LOGIN_ERROR',
      'invalid_request',
      { reason: 'Missing parameter: code_challenge_method' },
      [['authorization_failed', 'failure', 'invalid_request', 'invalid_request', '']],
    ],
    [
      'CLIENT_LOGIN_ERROR',
      'invalid_request',
      { reason: 'Invalid scopes: all-of-it' },
      [
        [
          ...['token_request_failed', 'failure', 'invalid_request', 'invalid_scope'],
          'client_credentials',
        ],
      ],
    ],
    [
      'TOKEN_EXCHANGE_ERROR',
      'not_allowed',
      { reason: 'client is not within the token audience' },
      [
        [
          ...['token_request_failed', 'failure', 'not_allowed', 'access_denied'],
          'urn:ietf:params:oauth:grant-type:token-exchange',
        ],
      ],
    ],
    [
      'INTROSPECT_TOKEN_ERROR',
      'invalid_token',
      { reason: 'Access token JWT check failed' },
      [['token_introspected', 'failure', 'invalid_token', '', '']],
    ],
    [
      'INTROSPECT_TOKEN_ERROR',
      'invalid_client_credentials',
      {},
      [['token_introspected', 'failure', 'invalid_client_credentials', 'invalid_client', '']],
    ],
    [
      'REVOKE_GRANT_ERROR',
      'invalid_token',
      {},
      [['token_revoked', 'failure', 'invalid_token', '', '']],
    ],
    [
      'USER_INFO_REQUEST_ERROR',
      'invalid_token',
      {},
      [['userinfo_accessed', 'failure', 'invalid_token', 'invalid_token', '']],
    ],
    // The echo of a refused caller, in the words of 26.4 and of 26.7.
    ['INTROSPECT_TOKEN_ERROR', 'invalid_request', { detail: 'Authentication failed.' }, []],
    ['INTROSPECT_TOKEN_ERROR', 'invalid_client', { detail: 'Client authentication failed.' }, []],
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
    ['ACTION', 'USER', 'users/7/consents/web', 'consent_revoked'],
    ['CREATE', 'USER', 'users/7/consents/web', 'unclassified'],
    ['ACTION', 'REALM', 'logout-all', 'session_revoked'],
    ['CREATE', 'PROTOCOL_MAPPER', 'clients/42/protocol-mappers/models/9', 'policy_changed'],
    ['CREATE', 'USER', 'users/7', 'unclassified'],
  ])('%s %s %s is %s', (operation, resource, path, kind) => {
    expect(admin(operation, resource, path).kind).toBe(kind);
  });
});

/** A line as Keycloak 26 prints it. */
const printed = (fields: Record<string, string>): string =>
  `${stamp} ${Object.entries(fields)
    .map(([name, value]) => `${name}="${value.replaceAll('"', '\\"')}"`)
    .join(', ')}`;

describe('as a real server prints it', () => {
  const one = (fields: Record<string, string>) => eventsOf(keycloak, line(printed(fields)))[0]!;
  const at26 = {
    ...{ realmId: '0c8f', realmName: 'shop', clientId: 'orders-api', userId: 'u1' },
    ...{ sessionId: session, ipAddress: '203.0.113.9' },
  };

  it('an introspected token belongs to the client that it was issued for', () => {
    const fields = { ...at26, token_issued_for: 'web', token_id: `onrtrt:${access}` };
    const event = one({ type: 'INTROSPECT_TOKEN', ...fields, token_type: 'Bearer' });
    expect([event.client.id, event.grant_ref]).toEqual([
      'orders-api',
      ring.ref('grant', 'sess-1/web'),
    ]);
    expect(event.tokens.map((t) => [t.role, t.type, t.ref, t.family_ref])).toEqual([
      ['presented', 'access', access, ''],
    ]);
    expect(event.ext).toEqual({ token_issued_for: 'web' });
    const refreshToken = { ...fields, token_id: old, token_type: 'Refresh' };
    expect(one({ type: 'INTROSPECT_TOKEN', ...refreshToken }).tokens).toMatchObject([
      { role: 'presented', type: 'refresh', ref: old, family_ref: family },
    ]);
  });

  it('a client that revokes its own refresh token ends the token; a person at the account console ends a consent', () => {
    const own = { ...at26, clientId: 'web', revoked_client: 'web', refresh_token_id: old };
    const revoked = one({ type: 'REVOKE_GRANT', ...own });
    expect([revoked.kind, revoked.client.id]).toEqual(['token_revoked', 'web']);
    expect(revoked.tokens).toMatchObject([
      { role: 'revoked', type: 'refresh', ref: old, family_ref: family },
    ]);
    const person = { ...at26, clientId: 'account-console', revoked_client: 'web' };
    const withdrawn = one({ type: 'REVOKE_GRANT', ...person });
    expect([withdrawn.kind, withdrawn.client.id, withdrawn.tokens]).toEqual([
      'consent_revoked',
      'web',
      [],
    ]);
  });

  it('a machine has no session, though its request is given one; a refused refresh names the subject of its token', () => {
    const machine = { ...at26, sessionId: 'null', clientId: 'job', token_id: `trrtcc:${access}` };
    const login = one({ type: 'CLIENT_LOGIN', ...machine, authSessionParentId: 'made-up' });
    expect([login.session_ref, login.grant_ref, login.tokens[0]?.ref]).toEqual(['', '', access]);
    const refresh = { ...at26, clientId: 'web', userId: 'null', error: 'invalid_token' };
    const refused = one({ type: 'REFRESH_TOKEN_ERROR', ...refresh, refresh_token_sub: 'u1' });
    expect(refused.subject.ref).toBe(ring.ref('subject', 'u1'));
  });

  it('a user code that was typed is an attempt; the login that follows approves', () => {
    const tv = { ...at26, clientId: 'tv' };
    const typed = one({ type: 'OAUTH2_DEVICE_VERIFY_USER_CODE', ...tv, scope: 'openid' });
    expect([typed.kind, typed.phase, typed.scopes_requested, typed.scopes_granted]).toEqual([
      ...['device_authorized', 'attempt'],
      ['openid'],
      [],
    ]);
    const approved = { type: 'LOGIN', ...tv, auth_method: 'openid-connect', response_type: 'code' };
    const events = eventsOf(keycloak, line(printed({ ...approved, consent: 'consent_granted' })));
    expect(events.map((e) => [e.kind, e.phase, e.endpoint, e.subject.ref])).toEqual([
      ['login', 'single', 'authorization', ring.ref('subject', 'u1')],
      ['consent_granted', 'single', 'authorization', ring.ref('subject', 'u1')],
      ['device_authorized', 'single', 'device', ring.ref('subject', 'u1')],
    ]);
    expect(new Set(events.map((e) => e.event_id)).size).toBe(3);
  });

  const change = {
    ...{ operationType: 'UPDATE', realmId: 'm1', realmName: 'master', clientId: 'cli' },
    ...{ userId: 'admin', ipAddress: '203.0.113.9', resourceType: 'CLIENT' },
    resourcePath: 'clients/42',
    representation: JSON.stringify({
      clientId: 'web',
      name: 'a "quoted" \\ name, with type="LOGIN"',
      redirectUris: ['https://web.example.com/cb'],
      publicClient: true,
    }),
  };

  it.each([
    ['a line', line(printed(change))],
    ['JSON', json({ '@timestamp': '2026-01-01T00:00:00.123Z', message: printed(change) })],
    [
      'a line that a shipper escaped',
      line(`${stamp} ${JSON.stringify(printed(change).slice(stamp.length + 1)).slice(1, -1)}`),
    ],
  ])('a representation is read to its end: %s', (_, record) => {
    const [event] = eventsOf(keycloak, record);
    expect([event!.kind, event!.client]).toEqual([
      'client_updated',
      { id: 'web', name: 'a "quoted" \\ name, with type="LOGIN"', auth_method: '' },
    ]);
    expect(event!.ext).toEqual({
      resource_path: 'clients/42',
      redirect_uris: 'https://web.example.com/cb',
      client_type: 'public',
      token_endpoint_auth_method: 'none',
    });
  });

  it('what lies below a client does not name it; a withdrawn consent names its client', () => {
    const below = { ...change, resourceType: 'PROTOCOL_MAPPER', resourcePath: 'clients/42/x/9' };
    const mapper = one({ ...below, representation: '{"name":"audience"}' });
    expect(mapper.client).toEqual({ id: '42', name: '', auth_method: '' });
    const path = { resourceType: 'USER', resourcePath: 'users/7/consents/spa' };
    const consent = one({ ...change, operationType: 'ACTION', ...path, representation: 'null' });
    expect([consent.client.id, consent.subject.ref]).toEqual(['spa', ring.ref('subject', '7')]);
  });

  it.each([
    ['quotes', 'x", type="LOGIN", userId="u2', 'x", type="LOGIN", userId="u2'],
    ['a backslash at its end', 'tail\\', 'tail\\'],
    ['both', 'x\\", code_id="y\\', 'x\\", code_id="y\\'],
  ])('a user name with %s stays in its place', (_, username, subject) => {
    const unknown = { ...at26, userId: 'null', sessionId: 'null', error: 'user_not_found' };
    const fields = { type: 'LOGIN_ERROR', ...unknown, username };
    const event = one({ ...fields, authSessionTabId: 't1' });
    expect([event.kind, event.subject.ref, event.session_ref]).toEqual([
      'login_failed',
      ring.ref('subject', subject),
      '',
    ]);
    expect(one(fields).subject.ref).toBe(ring.ref('subject', subject));
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
