import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import auth0 from '../../collector/sources/auth0.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import type { PartialEvent } from '../../model/complete_event.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

/** Every type of log that means something: kind, outcome and what it says. */
const at = 1_767_225_600_123_000_000n;
const user = { ref: ring.ref('subject', 'auth0|u1'), type: 'user' as const };
const seen: AuthEvent[] = [];

function run(type: string, details: unknown = {}, more: Record<string, unknown> = {}): AuthEvent[] {
  const events = eventsOf(
    auth0,
    json({
      log_id: 'log-1',
      data: {
        ...{ log_id: 'log-1', type, date: '2026-01-01T00:00:00.123Z', tenant_name: 'shop' },
        ...{ client_id: 'web', client_name: 'Web', user_id: 'auth0|u1', ip: '203.0.113.9' },
        details,
        ...more,
      },
    }),
  );
  seen.push(...events);
  return events;
}

/** What every log of `run` says. */
function event(raw_type: string, more: Omit<PartialEvent, 'event_id' | 'time'>): unknown {
  const { net, redaction, source, ...rest } = more;
  return expected(auth0, {
    time: at,
    source: { tenant: 'shop', raw_type, ...source },
    client: { id: 'web', name: 'Web' },
    subject: user,
    net: { client_ip: '203.0.113.9', network: '203.0.113.0/24', ...net },
    redaction: { fields: ['subject.ref'], ...redaction },
    ...rest,
  });
}
const brief = (e: AuthEvent) => [e.kind, e.outcome, e.endpoint, e.net.ip_role].join(' ');

describe('a refresh in every form is the same event', () => {
  const data = {
    ...{ log_id: 'log-7', type: 'sertft', date: '2026-01-01T00:00:00.123Z', tenant_name: 'shop' },
    ...{ client_id: 'web', client_name: 'Web', user_id: 'auth0|u1', ip: '203.0.113.9' },
    ...{ hostname: 'login.example.com', audience: 'https://api.example.com', scope: 'read write' },
    user_agent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    details: {
      ...{ familyId: 'fam-1', tokenCounter: 3, access_token_jti: 'jti-4', requested_scope: 'read' },
      ...{ requested_client_id: 'web', refresh_token: { access: 'offline', session_id: 'sess-1' } },
    },
    ...{ location_info: { country_code: 'DE' }, security_context: { ja3: 'x', ja4: 't13d1516h2' } },
  };
  const family_ref = ring.refOfJti('fam-1');
  const parent_ref = ring.refOfJti('fam-1/3');
  const refreshed = expected(auth0, {
    time: at,
    kind: 'token_refreshed',
    outcome: 'success',
    source: { instance: 'login.example.com', tenant: 'shop', raw_type: 'sertft' },
    grant_type: 'refresh_token',
    endpoint: 'token',
    client: { id: 'web', name: 'Web' },
    requested_client_id: 'web',
    subject: user,
    audience: ['https://api.example.com'],
    scopes_requested: ['read'],
    scopes_granted: ['read', 'write'],
    session_ref: ring.ref('session', 'sess-1'),
    net: {
      ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', country: 'DE', ja4: 't13d1516h2' },
      user_agent: data.user_agent,
      ua_family: 'Firefox',
    },
    tokens: [
      ...[{ role: 'consumed' as const, type: 'refresh' as const, ref: parent_ref }].map((t) => ({
        ...{ ...t, ref_kind: 'vendor_id' as const, family_ref, counter: 3 },
      })),
      {
        ...{ role: 'issued', type: 'refresh', ref: ring.refOfJti('fam-1/4') },
        ...{ ref_kind: 'vendor_id', family_ref, parent_ref, counter: 4 },
      },
      {
        ...{ role: 'issued', type: 'access', ref: ring.refOfJti('jti-4'), ref_kind: 'jti' },
        ...{ family_ref, parent_ref },
      },
    ],
    redaction: {
      fields: [
        ...['session_ref', 'subject.ref'],
        ...['tokens.family_ref', 'tokens.parent_ref', 'tokens.ref'],
      ],
    },
  });

  it.each([
    ['a stream: an id and the log', { log_id: 'log-7', data }],
    ['a batch', { logs: [{ log_id: 'log-7', data }] }],
    ['an event bus', { source: 'aws.partner/auth0.com', detail: { log_id: 'log-7', data } }],
    ['the Management API', { ...data, _id: 'log-7' }],
    ['an event bus that carries no id of its own', { data, eventType: 'x' }],
  ])('%s', (_, value) => {
    const records = recordsOf(auth0, { raw: value, row: {} });
    const events = records.flatMap((r) => eventsOf(auth0, r));
    expect(events.map(withoutId)).toEqual([refreshed]);
    seen.push(...events);
    const again = eventsOf(auth0, json({ log_id: 'log-7', data }));
    expect(events[0]?.event_id).toBe(again[0]?.event_id);
  });
});

describe('the token endpoint', () => {
  it('tells a code exchange and the redemption; the masked code gets no reference', () => {
    const code = '**************************************Xy1';
    const events = run('seacft', { code, access_token_jti: 'jti-1' }, { scope: ['openid'] });
    const shared = {
      ...({ outcome: 'success', grant_type: 'authorization_code', endpoint: 'token' } as const),
      scopes_granted: ['openid'],
    };
    expect(events.map(withoutId)).toEqual([
      event('seacft', {
        ...{ ...shared, kind: 'token_issued' },
        tokens: [{ role: 'issued', type: 'access', ref: ring.refOfJti('jti-1'), ref_kind: 'jti' }],
        redaction: { fields: ['subject.ref', 'tokens.ref'], upstream: true },
      }),
      event('seacft', { ...shared, kind: 'code_redeemed', redaction: { upstream: true } }),
    ]);
  });

  it('makes a reference of a code that is not masked', () => {
    const code = 'Zk3mQ8vT1xYw5LrC7bNp';
    const [first, redeemed] = run('seacft', { code });
    const ref = ring.ref('token', code);
    expect(first?.tokens).toMatchObject([
      { role: 'consumed', type: 'code', ref, ref_kind: 'hmac' },
    ]);
    expect(redeemed?.tokens).toEqual(first?.tokens);
    expect(first?.redaction.upstream).toBe(false);
  });

  it.each<[string, string, object, string, string, string]>([
    [
      'feacft',
      'Invalid authorization code',
      {},
      '',
      'invalid_grant',
      'token_request_failed code_redeemed',
    ],
    [
      'feacft',
      'Failed to verify code verifier',
      {},
      'invalid_code_verifier',
      'invalid_grant',
      'token_request_failed code_redeemed',
    ],
    ['feacft', 'Unauthorized', {}, 'invalid_client', '', 'token_request_failed'],
    [
      'feccft',
      'Client failed',
      { client_authentoication_error: 'wrong' },
      'invalid_client',
      'invalid_client',
      'token_request_failed',
    ],
    ['feccft', 'Service not enabled within domain', {}, '', '', 'token_request_failed'],
    [
      'fertft',
      'Unknown or invalid refresh token.',
      { failure_reason: 'grant_revoked' },
      'grant_revoked',
      'invalid_grant',
      'token_request_failed',
    ],
    ['fepft', 'Wrong email or password.', {}, '', 'invalid_grant', 'token_request_failed'],
    ['fede', 'Something else', {}, '', '', 'token_request_failed'],
  ])('%s "%s" says what the client was told', (type, description, details, code, oauth, kinds) => {
    const events = run(type, details, { description });
    expect(events.map((e) => e.kind).join(' ')).toBe(kinds);
    for (const e of events) {
      expect(e.outcome).toBe('failure');
      expect(e.error).toEqual({ code, oauth_error: oauth, detail: description });
    }
  });

  it('tells a reuse: the refused request and the alarm, for the same token', () => {
    const details = { familyId: 'fam-1', tokenCounter: 2, latestCounter: 4 };
    const events = run('ferrt', details, { description: 'Reused rotating refresh token detected' });
    const told = {
      outcome: 'failure' as const,
      grant_type: 'refresh_token',
      endpoint: 'token',
      error: {
        ...{ code: 'refresh_token_reused', oauth_error: 'invalid_grant' },
        detail: 'Reused rotating refresh token detected',
      },
      tokens: [
        {
          ...{
            role: 'presented' as const,
            type: 'refresh' as const,
            ref: ring.refOfJti('fam-1/2'),
          },
          ...{ ref_kind: 'vendor_id' as const, family_ref: ring.refOfJti('fam-1'), counter: 2 },
        },
      ],
      ext: { latestCounter: '4' },
      redaction: { fields: ['subject.ref', 'tokens.family_ref', 'tokens.ref'] },
    };
    expect(events.map(withoutId)).toEqual([
      event('ferrt', { ...told, kind: 'token_request_failed' }),
      event('ferrt', { ...told, kind: 'token_reuse_detected' }),
    ]);
    expect(events[0]?.event_id).not.toBe(events[1]?.event_id);
  });

  it('takes the newest token that failed for no reuse', () => {
    const details = { familyId: 'fam-1', tokenCounter: 4, latestCounter: 4 };
    expect(run('ferrt', details).map((e) => e.kind)).toEqual(['token_request_failed']);
    expect(run('ferrt', {}).map((e) => e.kind)).toEqual(['token_request_failed']);
    const description = 'Unsuccessful Refresh Token exchange, reused refresh token detected';
    expect(run('ferrt', {}, { description })).toHaveLength(2);
  });

  it('names the client as the subject of its own token', () => {
    const [first] = run(
      'seccft',
      { access_token_jti: 'jti-9', actions: { executions: [] } },
      { user_id: '', mtls_thumbprint_sha256: 'bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2' },
    );
    expect(first).toMatchObject({
      ...{ kind: 'token_issued', grant_type: 'client_credentials' },
      subject: { ref: ring.ref('subject', 'web'), type: 'client' },
      client: { id: 'web', auth_method: 'tls_client_auth' },
      net: { ip_role: 'client_backend' },
    });
  });

  it('tells who acts for whom in an exchange', () => {
    const details = {
      subject_token_type: 'urn:example:legacy',
      actor: { sub: 'agent-1', act: { sub: 'agent-2' } },
    };
    const [first] = run('secte', details);
    expect(first?.kind).toBe('token_exchanged');
    expect(first?.actor).toEqual({ ref: ring.ref('subject', 'agent-1'), type: 'unknown' });
    expect(first?.ext).toEqual({ subject_token_type: 'urn:example:legacy' });
    const vault = { scope: ['calendar.read'], issued_token_type: 'x', subject_token_type: 'y' };
    const [seta] = run('seta', vault, { agent_id: 'agt_1' });
    expect(seta).toMatchObject({ kind: 'token_exchanged', scopes_granted: ['calendar.read'] });
    expect(seta?.actor).toEqual({ ref: ring.ref('subject', 'agt_1'), type: 'service' });
  });
});

const qs = {
  ...{ client_id: 'web', response_type: 'code', scope: 'openid profile', state: 'Wq8mK2' },
  ...{ redirect_uri: 'https://app.example.com/cb', audience: 'https://api.example.com' },
  ...{ nonce: 'n0nce', code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw', _csrf: 'x' },
  code_challenge_method: 'S256',
};

describe('the authorization endpoint', () => {
  it('tells an unregistered redirect URI by the one that was asked for', () => {
    const description =
      'Callback URL mismatch. https://evil.example/cb is not in the list of allowed callback URLs';
    const error = {
      ...{ message: description, oauthError: `${description}. See the settings.` },
      ...{ type: 'callback-url-mismatch', uri: 'x' },
      payload: {
        ...{ attempt: 'https://evil.example/cb', authorized: ['https://app.example.com/cb'] },
        ...{ code: 'unauthorized_client', name: 'CallbackMismatchError', status: 403 },
      },
    };
    const events = run('f', { error, qs }, { user_id: '', description });
    expect(events.map(withoutId)).toEqual([
      event('f', {
        ...{ kind: 'authorization_failed', outcome: 'failure', endpoint: 'authorization' },
        subject: {},
        error: { code: 'invalid_redirect_uri', detail: description },
        requested_client_id: 'web',
        response_type: 'code',
        redirect_uri: 'https://evil.example/cb',
        scopes_requested: ['openid', 'profile'],
        audience: ['https://api.example.com'],
        pkce: 'S256',
        net: { ip_role: 'end_user' },
        redaction: { fields: [] },
      }),
    ]);
  });

  it.each([
    ['f', { oauthError: 'invalid_request' }, '', 'authorization_failed failure'],
    ['f', { oauthError: 'access_denied' }, 'Blocked by an action', 'login_failed denied'],
    [
      'f',
      { oauthError: 'access_denied' },
      'User did not authorize the request',
      'consent_denied denied',
    ],
    ['f', { message: 'x', oauthError: 'server_error' }, '', 'login_failed failure'],
    ['f', {}, 'Connection is disabled', 'login_failed failure'],
    ['fcoa', { oauthError: 'server_error' }, '', 'login_failed failure'],
  ])('%s %j %s: %s', (type, error, description, what) => {
    const [first] = run(type, { error }, { description });
    expect(`${first?.kind} ${first?.outcome}`).toBe(what);
  });

  it('says what failed at a sign-in without the names of people', () => {
    const description = 'User (jo.doe@example.com) attempted 10 consecutive logins';
    const [locked] = run('limit_wc', {}, { description, user_id: '', user_name: 'jo@example.com' });
    expect(locked).toMatchObject({ kind: 'account_locked', outcome: 'success' });
    expect(locked?.subject.ref).toBe(ring.ref('subject', 'jo@example.com'));
    const [wrong] = run(
      'fp',
      { error: { message: 'x' } },
      { description: `Wrong: ${description}` },
    );
    expect(wrong?.error).toEqual({
      code: 'invalid_user_credentials',
      oauth_error: '',
      detail: 'Wrong: User ([user]) attempted 10 consecutive logins',
    });
    expect(run('fu')[0]?.error.code).toBe('user_not_found');
  });

  it('knows that PKCE was left out, and when it cannot know', () => {
    const isChallenge = (name: string): boolean => name.startsWith('code_challenge');
    const bare = Object.fromEntries(Object.entries(qs).filter(([name]) => !isChallenge(name)));
    expect(run('f', { qs: bare })[0]?.pkce).toBe('none');
    expect(run('f', { qs: { ...bare, code_challenge: 'x' } })[0]?.pkce).toBe('plain');
    expect(run('f', { qs: { ...bare, response_type: 'token' } })[0]?.pkce).toBe('unknown');
    expect(run('f', { qs: { state: 'x' } })[0]?.pkce).toBe('unknown');
    expect(run('s', {})[0]?.pkce).toBe('unknown');
  });

  it('tells a sign-in, its session, and the consent that was given in it', () => {
    const details = {
      ...{ session_id: 'sess-1', transaction_id: 'tx-1', initiatedAt: 1, elapsedTime: 5 },
      riskAssessment: { confidence: 'low', version: '1', assessments: {} },
      prompts: [
        { name: 'login', performed_amr: ['pwd', 'otp'], performed_acr: null },
        {
          ...{ name: 'consent', flow: 'consent' },
          grantInfo: {
            ...{ id: 'grant-1', audience: 'https://api.example.com', scope: 'read:mail openid' },
          },
        },
        'no prompt',
      ],
    };
    const shared = {
      ...{ outcome: 'success' as const, endpoint: 'authorization', risk: 'low' },
      ...{ session_ref: ring.ref('session', 'sess-1'), amr: ['otp', 'pwd'] },
      ...{ net: { ip_role: 'end_user' as const } },
      corr: {
        transaction_id: 'tx-1',
        request_id: 'c-1',
        trace_id: '0af7651916cd43dd8448eb211c80319c',
      },
    };
    const references = { correlation_id: 'c-1', trace_id: '0af7651916cd43dd8448eb211c80319c' };
    expect(run('s', details, { references }).map(withoutId)).toEqual([
      event('s', {
        ...{ ...shared, kind: 'login' },
        redaction: { fields: ['session_ref', 'subject.ref'] },
      }),
      event('s', {
        ...{ ...shared, kind: 'consent_granted', scopes_granted: ['openid', 'read:mail'] },
        ...{ audience: ['https://api.example.com'], grant_ref: ring.ref('grant', 'grant-1') },
        redaction: { fields: ['grant_ref', 'session_ref', 'subject.ref'] },
      }),
    ]);
  });
});

describe('types', () => {
  it.each([
    ['ssa', 'authorization_requested success authorization end_user'],
    ['fsa', 'authorization_failed failure authorization end_user'],
    ['scoa', 'login success authorization end_user'],
    ['slo', 'session_ended success end_session end_user'],
    ['flo', 'session_ended failure end_session end_user'],
    ['sede', 'token_issued success token unknown'],
    ['sepft', 'token_issued success token unknown'],
    ['seoobft', 'token_issued success token unknown'],
    ['sercft', 'token_issued success token unknown'],
    ['feotpft', 'token_request_failed failure token unknown'],
    ['fecte', 'token_request_failed failure token unknown'],
    ['feta', 'token_request_failed failure token unknown'],
    ['sens', 'token_exchanged success token unknown'],
    ['fdeaz', 'device_authorization_requested failure device_authorization unknown'],
    ['fdeac', 'device_authorized failure device end_user'],
    ['fdecc', 'device_authorized denied device end_user'],
    ['fpar', 'par_pushed failure pushed_authorization_request unknown'],
    [
      'ciba_start_succeeded',
      'backchannel_auth_requested success backchannel_authentication unknown',
    ],
    ['ciba_exchange_failed', 'token_request_failed failure token unknown'],
    ['gd_start_auth', 'mfa_challenged challenge  end_user'],
    ['gd_send_pn', 'mfa_challenged challenge  end_user'],
    ['gd_auth_succeed', 'mfa_result success  end_user'],
    ['gd_auth_failed', 'mfa_result failure  end_user'],
    ['gd_auth_rejected', 'mfa_result denied  end_user'],
    ['gd_otp_rate_limit_exceed', 'rate_limited denied mfa end_user'],
    ['gd_tenant_update', 'policy_changed success  unknown'],
    ['gd_enrollment_complete', 'unclassified success  unknown'],
    ['limit_mu', 'rate_limited denied login end_user'],
    ['limit_sul', 'account_locked success  end_user'],
    ['pwd_leak', 'risk_signal unknown  end_user'],
    ['signup_pwd_leak', 'risk_signal unknown  end_user'],
    ['universal_logout_succeeded', 'session_revoked success  unknown'],
    ['ss', 'unclassified success  unknown'],
    ['fs', 'unclassified failure  unknown'],
    ['a_type_of_tomorrow', 'unclassified unknown  unknown'],
    ['constructor', 'unclassified unknown  unknown'],
    ['__proto__', 'unclassified unknown  unknown'],
  ])('%s: %s', (type, what) => {
    const [first] = run(type);
    expect(first === undefined ? '' : brief(first)).toBe(what);
    expect(first?.source.raw_type).toBe(type);
  });

  it('counts a challenge once, however often it is sent', () => {
    const phases = ['mfar', 'gd_start_auth', 'gd_send_sms', 'gd_send_pn_failure', 'scoa'].map(
      (type) => run(type)[0]?.phase,
    );
    expect(phases).toEqual(['attempt', 'single', 'attempt', 'attempt', 'attempt']);
  });

  it('tells a revoked refresh token by its id', () => {
    const details = { credential_id: 'cred_1', grant_id: 'grant-1', session_id: 'sess-1' };
    const [first] = run('srrt', details);
    expect(first).toMatchObject({
      ...{ kind: 'token_revoked', outcome: 'success', endpoint: 'revocation' },
      ...{ grant_ref: ring.ref('grant', 'grant-1'), session_ref: ring.ref('session', 'sess-1') },
      tokens: [{ role: 'revoked', type: 'refresh', ref: ring.refOfJti('cred_1') }],
    });
  });

  it('names the endpoint whose limit was reached', () => {
    const limit = { bucket: 'oauth/token', global: false, size: 20 };
    const token = run('api_limit', { limit, request: { method: 'POST', path: '/oauth/token' } });
    expect(token[0]).toMatchObject({
      ...{ kind: 'rate_limited', outcome: 'denied', endpoint: 'token' },
      http: { method: 'POST', route: '/oauth/token', status: 429 },
      ext: { limit_bucket: 'oauth/token' },
    });
    const api = run('api_limit', { limit, request: { method: 'GET', path: '/api/v2/users' } });
    expect(api[0]?.endpoint).toBe('api');
  });

  it.each([
    ['kms_key_state_changed', 'pre-activation', 'key_created success'],
    ['kms_key_state_changed', 'active', 'key_rotated success'],
    ['kms_key_management_success', 'deactivated', 'key_disabled success'],
    ['kms_key_management_failure', 'destroyed', 'key_deleted failure'],
    ['kms_key_management_success', 'toString', 'unclassified success'],
  ])('%s to %s: %s', (type, state, what) => {
    const [first] = run(type, { id: 'key-1', state, type: 'customer-provided-root-key' });
    expect(`${first?.kind} ${first?.outcome}`).toBe(what);
    const isKey = first?.kind !== 'unclassified';
    const key = { kid: 'key-1', operation: state, store: 'auth0_kms' };
    expect(first?.key).toEqual(isKey ? key : { kid: '', operation: '', store: '' });
  });

  it('takes scopes as a list or as text', () => {
    expect(run('seacft', {}, { scope: ['b', 'a'] })[0]?.scopes_granted).toEqual(['a', 'b']);
    expect(run('seacft', {}, { scope: 'b a' })[0]?.scopes_granted).toEqual(['a', 'b']);
    expect(run('feacft', {}, { scope: 'b a' })[0]?.scopes_requested).toEqual(['a', 'b']);
  });
});

describe('the Management API', () => {
  const auth = { user: { user_id: 'auth0|admin', email: 'a@example.com' }, strategy: 'jwt' };
  const call = (
    method: string,
    path: string,
    more: {
      body?: unknown;
      answer?: unknown;
      status?: number;
      secrets?: string[];
      type?: string;
    } = {},
  ): AuthEvent => {
    const { body = {}, answer = {}, status = 200, type = 'sapi' } = more;
    const details = {
      request: { method, path, body, auth, ip: '203.0.113.9', userAgent: 'curl/8.5.0' },
      response: { statusCode: status, body: answer },
      ...(more.secrets === undefined ? {} : { accessedSecrets: more.secrets }),
    };
    return run(type, details, { client_id: 'dashboard', client_name: '' })[0]!;
  };

  it.each([
    ['post', '/api/v2/clients', 'client_registered'],
    ['patch', '/api/v2/clients/web', 'client_updated'],
    ['delete', '/api/v2/clients/web', 'client_deleted'],
    ['post', '/api/v2/clients/web/rotate-secret', 'client_credential_changed'],
    ['delete', '/api/v2/clients/web/credentials/cred_1', 'client_credential_changed'],
    ['delete', '/api/v2/grants/grant-1', 'consent_revoked'],
    ['delete', '/api/v2/refresh-tokens/rt-1', 'token_revoked'],
    ['delete', '/api/v2/device-credentials/dcr_1', 'token_revoked'],
    ['delete', '/api/v2/sessions/sess-1', 'session_revoked'],
    ['delete', '/api/v2/users/auth0%7Cu2/sessions', 'session_revoked'],
    ['post', '/api/v2/keys/signing/rotate', 'key_rotated'],
    ['put', '/api/v2/keys/signing/k1/revoke', 'key_disabled'],
    ['delete', '/api/v2/keys/encryption/k1', 'key_deleted'],
    ['post', '/v2/attack-protection/brute-force-protection', 'policy_changed'],
    ['patch', '/api/v2/risk-assessment/config', 'policy_changed'],
    ['put', '/api/v2/guardian/policies', 'policy_changed'],
    ['post', '/api/v2/client-grants', 'policy_changed'],
    ['post', '/api/v2/integrations/installed', 'unclassified'],
    ['post', '/api/v2/tenants/invitations', 'unclassified'],
    ['get', '/api/v2/users', 'api_accessed'],
    ['get', '', 'api_accessed'],
  ])('%s %s: %s', (method, path, kind) => {
    const e = call(method, path);
    expect(e.kind).toBe(kind);
    expect(e.outcome).toBe('success');
    expect(e.actor).toEqual({ ref: ring.ref('subject', 'auth0|admin'), type: 'user' });
    expect(e.endpoint).toBe('management');
    expect(e.net).toMatchObject({ ip_role: 'end_user', ua_family: 'curl' });
    expect(e.client.id).toBe(path.includes('/clients/') ? 'web' : '');
  });

  it('tells what a client was registered with, and none of its secrets', () => {
    const secret = 'aTm4wR8LqX2vK9pZ7sYc1dHf';
    const client = {
      ...{ client_id: 'spa-2', name: 'Shop', app_type: 'spa', client_secret: secret },
      ...{ callbacks: ['https://shop.example/cb', 'https://shop.example/cb2'] },
      ...{ grant_types: ['authorization_code', 'refresh_token'], signing_keys: [{ cert: secret }] },
      token_endpoint_auth_method: 'none',
    };
    const e = call('post', '/api/v2/clients', { answer: client, status: 201 });
    expect(e.client).toEqual({ id: 'spa-2', name: 'Shop', auth_method: '' });
    expect(e.http).toMatchObject({ method: 'POST', route: '/clients', status: 201 });
    expect(e.ext).toEqual({
      redirect_uris: 'https://shop.example/cb https://shop.example/cb2',
      grant_types: 'authorization_code refresh_token',
      ...{ token_endpoint_auth_method: 'none', client_type: 'public', app_type: 'spa' },
    });
    const seenText = JSON.stringify(e, (_, v: unknown) => (typeof v === 'bigint' ? `${v}` : v));
    expect(seenText).not.toContain(secret);
    // An update tells what it changed, and no more.
    const update = call('patch', '/api/v2/clients/web', { body: { callbacks: [] } });
    expect(update.ext).toEqual({ redirect_uris: '' });
    const refused = call('patch', '/api/v2/clients/web', { body: client, status: 400 });
    expect([refused.outcome, refused.ext]).toEqual(['failure', {}]);
  });

  it('takes open registration for what it is', () => {
    const answer = { client_id: 'tpc_1', client_name: 'x' };
    const e = call('post', '/oidc/register', { answer, status: 201 });
    expect([e.kind, e.endpoint, e.client.id]).toEqual([
      'client_registered',
      'registration',
      'tpc_1',
    ]);
  });

  it('tells which secret was read, and of whom', () => {
    const more = { secrets: ['client_secret'], type: 'mgmt_api_read' };
    expect(call('get', '/api/v2/clients/web', more)).toMatchObject({
      ...{ kind: 'secret_read', outcome: 'success', client: { id: 'web' } },
      key: { kid: 'web', operation: 'read client_secret', store: 'auth0' },
    });
  });

  it('tells failures, denials and calls of programs', () => {
    expect(call('patch', '/api/v2/clients/web', { status: 403, type: 'fapi' }).outcome).toBe(
      'denied',
    );
    expect(call('patch', '/api/v2/clients/web', { type: 'fapi' }).outcome).toBe('failure');
    const details = { request: { method: 'patch', path: '/api/v2/tenants/settings', auth: {} } };
    const [machine] = run('sapi', details, { user_id: 'abc@clients' });
    expect(machine).toMatchObject({
      ...{ kind: 'policy_changed', subject: { ref: '' }, net: { ip_role: 'client_backend' } },
      actor: { ref: ring.ref('subject', 'abc@clients'), type: 'client' },
    });
    const [client] = run('sapi', details, { user_id: '' });
    expect(client?.actor).toEqual({ ref: ring.ref('subject', 'web'), type: 'client' });
  });

  it('names the person, the session, the grant and the token that were meant', () => {
    expect(call('patch', '/api/v2/users/auth0%7Cu1').subject).toEqual(user);
    expect(call('delete', '/api/v2/users/auth0|u1/sessions')).toMatchObject({
      subject: user,
      http: { route: '/users/*/sessions' },
    });
    expect(call('delete', '/api/v2/sessions/s1').session_ref).toBe(ring.ref('session', 's1'));
    expect(call('delete', '/api/v2/grants/g1').grant_ref).toBe(ring.ref('grant', 'g1'));
    expect(call('delete', '/api/v2/refresh-tokens/rt1').tokens).toMatchObject([
      { role: 'revoked', type: 'refresh', ref: ring.refOfJti('rt1') },
    ]);
  });
});

describe('what is refused', () => {
  const good = { log_id: 'l', data: { type: 's', date: '2026-01-01T00:00:00Z' } };
  it.each([
    [
      'text',
      { form: 'text' as const, line: 's' },
      'unsupported_form',
      'text: allowed is a JSON object',
    ],
    ['a list', json([good]), 'not_an_object', 'record: must be a JSON object'],
    [
      ...['no type', json({ log_id: 'l', data: { date: '2026-01-01' } }), 'unrecognised_record'],
      'record: no Auth0 log; type and log_id are needed',
    ],
    [
      ...['a bare record without an id', json({ type: 's', date: 1 }), 'unrecognised_record'],
      'record: no Auth0 log; type and log_id are needed',
    ],
    ['no date', json({ log_id: 'l', data: { type: 's' } }), 'missing_field', 'date: is required'],
    [
      ...['no time', json({ log_id: 'l', data: { type: 's', date: 'soon' } }), 'invalid_time'],
      'date: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [
      ...['a long type', json({ log_id: 'l', data: { type: 's'.repeat(101), date: 1 } })],
      ...['invalid_field', 'type: longer than 100 characters'],
    ],
  ])('%s', (_, record, code, message) => {
    const parsed = auth0.parse(record as never, { received_at: RECEIVED_AT });
    expect(parsed).toEqual({ ok: false, code, message });
  });

  it('takes wrong types for absent values', () => {
    const events = run('s', 'no object', {
      ...{ client_id: null, user_id: { a: 1 }, ip: [], scope: {}, audience: null },
      ...{ references: 'x', location_info: 7, security_context: [], hostname: '' },
    });
    expect(events.map(withoutId)).toEqual([
      expected(auth0, {
        ...{ time: at, kind: 'login', outcome: 'success', endpoint: 'authorization' },
        source: { tenant: 'shop', raw_type: 's' },
        client: { name: 'Web' },
        net: { ip_role: 'end_user' },
      }),
    ]);
  });
});

describe('provides', () => {
  it('is what the events of this file fill, no more and no less', () => {
    const [requested] = run('fdeaz', { body: { client_id: 'tv', scope: 'openid' } });
    expect(requested).toMatchObject({ requested_client_id: 'tv', scopes_requested: ['openid'] });
    expect(filledFields(seen)).toEqual([...auth0.provides].sort());
  });
});

interface Schema {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly format?: string;
  readonly pattern?: string;
  readonly minItems?: number;
}

const TEXTS: Readonly<Record<string, fc.Arbitrary<string>>> = {
  ipv4: fc.constant('203.0.113.7'),
  ipv6: fc.constant('2001:db8::7'),
};

/** Values that a schema allows. */
function valuesOf(schema: Schema, name = ''): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map((s) => valuesOf(s, name)));
  const [only] = schema.allOf ?? [];
  if (only !== undefined) return valuesOf(only, name);
  if (typeof schema.type === 'object') {
    return fc.oneof(...schema.type.map((type) => valuesOf({ ...schema, type }, name)));
  }
  if (name === 'date') return fc.constant('2026-01-01T00:00:00.123Z');
  switch (schema.type) {
    case 'string':
      if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern));
      return TEXTS[schema.format ?? ''] ?? fc.string({ maxLength: 20 });
    case 'number':
      return fc.integer({ min: 0, max: 9 });
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array':
      return fc.array(valuesOf(schema.items ?? {}), {
        minLength: schema.minItems ?? 0,
        maxLength: 3,
      });
    case undefined:
      return fc.constantFrom(null, 1, 'x', {}, []);
    default: {
      const members = Object.entries(schema.properties ?? {}).map(([key, member]) => [
        key,
        valuesOf(member, key),
      ]);
      return fc.record(Object.fromEntries(members) as Record<string, fc.Arbitrary<unknown>>, {
        requiredKeys: [...(schema.required ?? [])],
      });
    }
  }
}

const schemas = join(packageRoot, '..', 'shared', 'samples', 'auth0_schemas');
const KIND_OF_SCHEMA: Readonly<Record<string, readonly string[]>> = {
  api_limit: ['rate_limited'],
  f: ['login_failed', 'authorization_failed', 'consent_denied'],
  fdeac: ['device_authorized'],
  fdeaz: ['device_authorization_requested'],
  fdecc: ['device_authorized'],
  feacft: ['token_request_failed', 'code_redeemed'],
  feccft: ['token_request_failed'],
  fecte: ['token_request_failed'],
  fede: ['token_request_failed'],
  ferrt: ['token_request_failed', 'token_reuse_detected'],
  fertft: ['token_request_failed'],
  flo: ['session_ended'],
  fp: ['login_failed', 'authorization_failed', 'consent_denied'],
  fpar: ['par_pushed'],
  fsa: ['authorization_failed'],
  gd_auth_failed: ['mfa_result'],
  kms_key_state_changed: ['unclassified', 'key_created', 'key_disabled', 'key_deleted'],
  limit_mu: ['rate_limited'],
  limit_wc: ['account_locked'],
  pwd_leak: ['risk_signal'],
  s: ['login', 'consent_granted'],
  seacft: ['token_issued', 'code_redeemed'],
  seccft: ['token_issued'],
  secte: ['token_exchanged'],
  sede: ['token_issued'],
  sertft: ['token_refreshed'],
  slo: ['session_ended'],
  srrt: ['token_revoked'],
  ssa: ['authorization_requested'],
};

describe.skipIf(!existsSync(schemas))('logs made from the published schemas', () => {
  const ajv = addFormats.default(new Ajv({ strict: false }));
  const names = existsSync(schemas) ? readdirSync(schemas).map((f) => f.split('.')[0] ?? '') : [];

  it('are of every type that a schema was published for', () => {
    expect([...names].sort()).toEqual(Object.keys(KIND_OF_SCHEMA).sort());
  });

  it.each(names)('%s', (name) => {
    const text = readFileSync(join(schemas, `${name}.schema.json`), 'utf8');
    const schema = JSON.parse(text) as Schema;
    const isValid = ajv.compile(schema);
    const kinds = new Set<string>();
    fc.assert(
      fc.property(valuesOf(schema), (log) => {
        expect(isValid(log), JSON.stringify(isValid.errors)).toBe(true);
        const dated = { date: '2026-01-01T00:00:00Z', ...(log as object) };
        const events = eventsOf(auth0, json({ log_id: 'l', data: dated }));
        for (const e of events) kinds.add(AuthEvent.parse(e).kind);
      }),
      { numRuns: 100, seed: 1 },
    );
    const allowed = KIND_OF_SCHEMA[name] ?? [];
    expect([...kinds].filter((k) => !allowed.includes(k))).toEqual([]);
    expect(kinds.has(allowed[0] ?? '')).toBe(true);
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('come out as what they are', () => {
    const records = sampleRows('auth0.ndjson').flatMap((row) => recordsOf(auth0, row));
    const events = records.flatMap((record) => eventsOf(auth0, record));
    for (const e of events) AuthEvent.parse(e);
    process.stdout.write(`samples auth0: ${records.length} records, ${events.length} events\n`);
    const counts: Record<string, number> = {};
    for (const e of events) {
      const name = `${e.source.raw_type} ${e.kind} ${e.outcome}`;
      counts[name] = (counts[name] ?? 0) + 1;
    }
    expect(records).toHaveLength(30);
    expect(counts).toEqual({
      'fcoa login_failed failure': 1,
      'gd_enrollment_complete unclassified success': 3,
      'gd_send_pn mfa_challenged challenge': 1,
      'limit_wc account_locked success': 1,
      'sapi policy_changed failure': 4,
      'sapi policy_changed success': 10,
      'sapi unclassified success': 6,
      'signup_pwd_leak risk_signal unknown': 4,
    });
  });
});
