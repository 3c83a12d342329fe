import { describe, expect, it } from 'vitest';
import okta from '../../collector/sources/okta.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

/** Every type of event that concerns OAuth, and its neighbours: kind, outcome and what they say. */
const at = 1_767_225_600_123_000_000n;
const HASH = 'q7Wm2ZkR9vTn4Lx8';
const person = { ref: ring.ref('subject', '00u1'), type: 'user' as const };
const seen: AuthEvent[] = [];

const base = {
  ...{ uuid: '7b1f6d1a-5c3e-11f0-9a53-5f2f6f0e1a01', published: '2026-01-01T00:00:00.123Z' },
  ...{ version: '0', severity: 'INFO', displayMessage: 'x', legacyEventType: 'x' },
  client: {
    ...{ id: '0oaweb', ipAddress: '203.0.113.9', zone: 'null', device: 'Computer' },
    userAgent: {
      rawUserAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    },
    geographicalContext: {
      city: 'Berlin',
      country: 'Germany',
      geolocation: { lat: 52.5, lon: 13.4 },
    },
  },
  actor: { id: '00u1', type: 'User', alternateId: 'jo@example.com', displayName: 'Jo' },
  authenticationContext: { externalSessionId: 'sess-1', authenticationStep: 0 },
  transaction: { type: 'WEB', id: 'tx-1', detail: {} },
  outcome: { result: 'SUCCESS', reason: null },
};

function run(eventType: string, more: Record<string, unknown> = {}): AuthEvent {
  const [event] = eventsOf(okta, json({ ...base, eventType, ...more }));
  if (event === undefined) throw new Error('no event');
  seen.push(event);
  return event;
}
const failed = (reason: string | null, result = 'FAILURE') => ({ outcome: { result, reason } });
const debug = (debugData: unknown) => ({ debugContext: { debugData } });
const brief = (e: AuthEvent): string =>
  [e.kind, e.outcome, e.phase, e.endpoint || '-', e.net.ip_role].join(' ');

describe('a token grant in every form is the same event', () => {
  const grant = {
    ...base,
    eventType: 'app.oauth2.as.token.grant.access_token',
    actor: { id: '0oaweb', type: 'PublicClientApp', displayName: 'Web' },
    ...debug({
      ...{ clientAuthType: 'client_secret_basic', grantType: 'refresh_token', responseTime: '559' },
      ...{ requestedScopes: 'read, offline_access', grantedScopes: 'read, offline_access' },
      ...{ requestId: 'req-1', requestUri: '/oauth2/aus1/v1/token', url: '/oauth2/aus1/v1/token?' },
      ...{
        clientSecret: 'hW5rT8bN1xQ4vK7m',
        state: 'k3Vt9LqX2wZ8',
        dtHash: 'x',
        threatSuspected: 'False',
      },
      ...{ authorizationServer: 'aus1', risk: '{reasons=New Geo-Location, level=MEDIUM}' },
    }),
    target: [
      { id: '00u1', type: 'User', alternateId: 'jo@example.com' },
      {
        ...{ id: 'AT.x', type: 'access_token', displayName: 'Access Token' },
        detailEntry: { expires: '2026-01-01T01:00:00.000Z', subject: '00u1', hash: HASH },
      },
    ],
  };
  const wanted = expected(okta, {
    time: at,
    kind: 'token_refreshed',
    outcome: 'success',
    source: { raw_type: 'app.oauth2.as.token.grant.access_token' },
    grant_type: 'refresh_token',
    endpoint: 'token',
    client: { id: '0oaweb', name: 'Web', auth_method: 'client_secret_basic' },
    subject: person,
    scopes_requested: ['offline_access', 'read'],
    scopes_granted: ['offline_access', 'read'],
    session_ref: ring.ref('session', 'sess-1'),
    tokens: [
      {
        ...{
          role: 'issued',
          type: 'access',
          ref: ring.ref('token', HASH),
          ref_kind: 'vendor_hash',
        },
        expires_at: 1_767_229_200_000_000_000n,
      },
    ],
    net: {
      ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', country: 'DE' },
      ...{ user_agent: base.client.userAgent.rawUserAgent, ua_family: 'Firefox' },
    },
    http: { route: '/oauth2/aus1/v1/token', duration_ms: 559 },
    risk: 'medium',
    corr: { request_id: 'req-1', transaction_id: 'tx-1' },
    ext: { authorization_server: 'aus1', threat_suspected: 'false' },
    redaction: { fields: ['session_ref', 'subject.ref', 'tokens.ref'] },
  });
  const { debugContext, authenticationContext, eventType, ...rest } = grant;
  const folded = {
    ...rest,
    ...{ debugcontext: debugContext, authenticationcontext: authenticationContext },
    eventtype: eventType,
  };

  it.each([
    ['the System Log', grant],
    ['an event hook', { eventType: 'com.okta.event_hook', data: { events: [grant] } }],
    ['an event bus', { 'detail-type': 'SystemLog', source: 'x', detail: grant }],
    ['an HTTP event collector', { time: '1', event: grant }],
    ['a store that folds the case of columns', folded],
  ])('%s', (_, value) => {
    const records = recordsOf(okta, { raw: value, row: {} });
    const events = records.flatMap((r) => eventsOf(okta, r));
    expect(events.map(withoutId)).toEqual([wanted]);
    expect(events[0]?.event_id).toBe(base.uuid);
    seen.push(...events);
    const text = JSON.stringify(events, (_k, v: unknown) => (typeof v === 'bigint' ? `${v}` : v));
    for (const secret of ['hW5rT8bN1xQ4vK7m', 'k3Vt9LqX2wZ8', 'jo@example.com', HASH]) {
      expect(text).not.toContain(secret);
    }
  });
});

describe('types', () => {
  it.each([
    ['authorize', 'authorization_requested success single authorization end_user'],
    ['authorize.code', 'code_issued success single authorization end_user'],
    ['authorize.implicit', 'token_issued success single authorization end_user'],
    ['authorize.implicit.access_token', 'token_issued success single authorization end_user'],
    ['authorize.implicit.id_token', 'token_issued success single authorization end_user'],
    ['authorize.scope_denied', 'authorization_failed denied single authorization end_user'],
    ['authorize.user_not_assigned', 'authorization_failed failure single authorization end_user'],
    ['token.grant', 'token_request_failed failure single token unknown', 'FAILURE'],
    ['token.grant.access_token', 'token_issued success single token unknown'],
    ['token.grant.id_token', 'token_issued success attempt token unknown'],
    ['token.grant.refresh_token', 'token_issued success attempt token unknown'],
    ['token.grant.id_jag', 'token_exchanged success single token unknown'],
    ['token.grant.access_token', 'token_request_failed failure single token unknown', 'FAILURE'],
    ['token.revoke', 'token_revoked success single revocation unknown'],
    ['token.revoke.implicit.user', 'token_revoked success single revocation unknown'],
    ['token.detect_reuse', 'token_reuse_detected failure single token unknown'],
    ['introspect', 'token_introspected success single introspection unknown'],
    ['invalid_client_credentials', 'token_request_failed failure single token unknown', 'FAILURE'],
    ['invalid_client_ids', 'token_request_failed failure single token unknown'],
    ['consent.grant', 'consent_granted success single - end_user'],
    ['consent.grant', 'consent_denied failure single - end_user', 'FAILURE'],
    ['consent.grant', 'consent_denied denied single - end_user', 'DENY'],
    ['consent.revoke', 'consent_revoked success single - end_user'],
    ['consent.revoke.implicit.user', 'consent_revoked success single - end_user'],
    ['admin.consent.grant', 'consent_granted success single - end_user'],
    ['key.rollover', 'key_rotated success single - unknown'],
    ['client.lifecycle.create', 'client_registered success single - end_user'],
    ['client.lifecycle.update', 'client_updated success single - end_user'],
    ['client.lifecycle.deactivate', 'client_updated success single - end_user'],
    ['client.lifecycle.delete', 'client_deleted success single - end_user'],
    ['client.privilege.grant', 'policy_changed success single - end_user'],
    ['client.read_client_secret', 'secret_read success single - end_user'],
    ['credentials.lifecycle.create', 'client_credential_changed success single - end_user'],
    ['trusted_server.add', 'policy_changed success single - end_user'],
    ['evaluate.claim', 'unclassified success single - unknown'],
    ['of.tomorrow', 'unclassified success single - unknown'],
    ['constructor', 'unclassified success single - unknown'],
  ])('app.oauth2[.as].%s: %s', (type, what, result = 'SUCCESS') => {
    const outcome = { result, reason: null };
    for (const server of ['app.oauth2.', 'app.oauth2.as.']) {
      const event = run(`${server}${type}`, { outcome });
      expect(brief(event)).toBe(what);
      expect(event.source.raw_type).toBe(`${server}${type}`);
    }
  });

  it.each([
    ['user.session.start', 'SUCCESS', 'login success single - end_user'],
    ['user.session.start', 'FAILURE', 'login_failed failure single - end_user'],
    ['user.authentication.auth_via_AD_agent', 'SUCCESS', 'login success attempt - end_user'],
    ['user.authentication.auth_via_mfa', 'FAILURE', 'mfa_result failure single - end_user'],
    ['user.mfa.okta_verify.deny_push', 'FAILURE', 'mfa_result failure single - end_user'],
    ['system.push.send_factor_verify_push', 'SUCCESS', 'mfa_challenged success single - end_user'],
    ['user.authentication.sso', 'SUCCESS', 'federation_handshake success single - end_user'],
    [
      'user.authentication.auth_via_IDP',
      'FAILURE',
      'federation_handshake failure single - end_user',
    ],
    ['user.session.end', 'SUCCESS', 'session_ended success single - end_user'],
    ['user.session.clear', 'SUCCESS', 'session_revoked success single - end_user'],
    ['user.session.impersonation.initiate', 'SUCCESS', 'impersonation success single - end_user'],
    ['user.account.lock', 'FAILURE', 'account_locked failure single - end_user'],
    ['policy.lifecycle.update', 'SUCCESS', 'policy_changed success single - end_user'],
    ['policy.rule.add', 'SUCCESS', 'policy_changed success single - end_user'],
    ['policy.evaluate_sign_on', 'CHALLENGE', 'policy_decided challenge single - end_user'],
    ['policy.evaluate_sign_on', 'DENY', 'policy_decided denied single - end_user'],
    ['policy.evaluate_sign_on', 'ALLOW', 'policy_decided success single - end_user'],
    ['system.api_token.create', 'SUCCESS', 'secret_changed success single - end_user'],
    ['system.org.rate_limit.violation', 'DENY', 'rate_limited denied single - unknown'],
    ['system.org.rate_limit.warning', 'SUCCESS', 'unclassified success single - unknown'],
    ['security.threat.detected', 'DENY', 'risk_signal denied single - unknown'],
    ['application.lifecycle.update', 'SUCCESS', 'unclassified success single - unknown'],
    ['user.account.privilege.grant', 'SUCCESS', 'unclassified success single - unknown'],
    ['policy.mystery', 'SKIPPED', 'unclassified unknown single - unknown'],
    ['__proto__', 'constructor', 'unclassified unknown single - unknown'],
  ])('%s %s: %s', (type, result, what) => {
    expect(brief(run(type, { outcome: { result, reason: null } }))).toBe(what);
  });

  it('takes a single sign-on for a failed login where the credentials were wrong', () => {
    const event = run('user.authentication.sso', failed('INVALID_CREDENTIALS'));
    expect(event).toMatchObject({
      kind: 'login_failed',
      error: { code: 'invalid_user_credentials', oauth_error: '', detail: 'INVALID_CREDENTIALS' },
    });
    expect(run('user.authentication.sso', failed('USER_NOT_ASSIGNED')).kind).toBe(
      'federation_handshake',
    );
  });
});

describe('the authorization endpoint', () => {
  it('tells a code, where it was sent and what was asked for', () => {
    const event = run('app.oauth2.authorize.code', {
      ...debug({
        ...{ redirectUri: 'https://app.example.com/cb', requestedScopes: 'openid, profile' },
        ...{
          responseType: 'code',
          state: 'm4Tz7VbK1qLx',
          url: '/oauth2/v1/authorize?stateToken=x',
        },
      }),
      target: [
        { id: '0oaweb', type: 'AppInstance', displayName: 'Web' },
        { id: 'c', type: 'code', detailEntry: { hash: HASH, expires: 'never' } },
      ],
    });
    expect(event).toMatchObject({
      ...{ kind: 'code_issued', redirect_uri: 'https://app.example.com/cb', response_type: 'code' },
      ...{ scopes_requested: ['openid', 'profile'], scopes_granted: [], subject: person },
      client: { id: '0oaweb', name: 'Web' },
      tokens: [{ role: 'issued', type: 'code', ref: ring.ref('token', HASH), expires_at: null }],
      http: { route: '' },
    });
  });

  it.each([
    ['The redirect_uri must be in the list', 'invalid_redirect_uri', ''],
    ['PKCE code verifier is wrong', 'pkce_verification_failed', 'invalid_grant'],
    ['no_matching_policy', 'no_matching_policy', 'access_denied'],
    ['invalid_scope', 'invalid_scope', 'invalid_scope'],
    ['Something happened', '', ''],
  ])('%s: %s, told as %s', (reason, code, oauth) => {
    const event = run('app.oauth2.as.authorize', failed(reason));
    expect(event.error).toEqual({ code, oauth_error: oauth, detail: reason });
    expect(event.requested_client_id).toBe('0oaweb');
  });

  it('names the implicit grant', () => {
    const access = run('app.oauth2.authorize.implicit.access_token');
    expect([access.grant_type, access.response_type]).toEqual(['implicit', 'token']);
    const id = run('app.oauth2.authorize.implicit.id_token');
    expect([id.grant_type, id.response_type]).toEqual(['implicit', 'id_token']);
  });
});

describe('the token endpoint', () => {
  it('tells wrong client secrets', () => {
    const event = run('app.oauth2.invalid_client_credentials', failed(null));
    expect(event.error).toEqual({
      ...{ code: 'invalid_client_credentials', oauth_error: 'invalid_client', detail: '' },
    });
    const unknown = run('app.oauth2.invalid_client_ids', failed(null));
    expect(unknown.error).toMatchObject({
      code: 'client_not_found',
      oauth_error: 'invalid_client',
    });
  });

  it('tells reuse with the token that came again', () => {
    const target = [
      { id: '00u1', type: 'User' },
      { id: 'RT', type: 'refresh_token', detailEntry: { hash: HASH } },
    ];
    expect(run('app.oauth2.as.token.detect_reuse', { ...failed(null), target })).toMatchObject({
      ...{ kind: 'token_reuse_detected', outcome: 'failure' },
      tokens: [{ role: 'presented', type: 'refresh', ref: ring.ref('token', HASH) }],
    });
  });

  it('tells the issued token as revoked, and as looked at', () => {
    const target = [{ id: 'AT', type: 'access_token', detailEntry: { hash: HASH } }];
    const roles = ['token.revoke', 'introspect', 'key.rollover'].map((type) =>
      run(`app.oauth2.${type}`, { target }).tokens.map((t) => t.role),
    );
    expect(roles).toEqual([['revoked'], ['presented'], []]);
  });

  it('tells a program that acts by itself, and one that acts for somebody', () => {
    const actor = { id: '0oabot', type: 'PublicClientApp', displayName: 'Bot' };
    const client = { ipAddress: '203.0.113.9' };
    const own = run('app.oauth2.token.grant.access_token', {
      ...{ actor, client, ...debug({ grantType: 'client_credentials' }) },
    });
    expect(own).toMatchObject({
      client: { id: '0oabot', name: 'Bot' },
      subject: { ref: ring.ref('subject', '0oabot'), type: 'client' },
      actor: { ref: '', type: 'unknown' },
      net: { ip_role: 'client_backend' },
    });
    const grantType = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
    const target = [
      { type: 'id_jag', detailEntry: { subject: '00u1', scope: 'read', hash: 'j4Kx7QmT2wVn' } },
      { type: 'access_token', detailEntry: { hash: HASH } },
    ];
    const delegated = run('app.oauth2.as.token.grant.access_token', {
      ...{ actor, client, target, ...debug({ grantType }) },
    });
    expect(delegated).toMatchObject({
      ...{ kind: 'token_issued', subject: { ref: person.ref, type: 'unknown' } },
      tokens: [
        { role: 'subject', type: 'assertion' },
        { role: 'issued', type: 'access' },
      ],
    });
    const exchange = debug({ grantType: 'urn:ietf:params:oauth:grant-type:token-exchange' });
    expect(run('app.oauth2.token.grant.access_token', exchange).kind).toBe('token_exchanged');
  });
});

describe('consent and administration', () => {
  it('tells the scopes that were consented to', () => {
    const event = run('app.oauth2.as.consent.grant', {
      target: [
        { id: '0oaweb', type: 'PublicClientApp', displayName: 'Web' },
        { id: 'scp1', type: 'scope', displayName: 'read' },
        { id: 'scp2', type: 'scope', displayName: 'write' },
        { id: '00u1', type: 'User' },
      ],
    });
    expect(event).toMatchObject({
      ...{ kind: 'consent_granted', scopes_granted: ['read', 'write'], subject: person },
      ...{ client: { id: '0oaweb' }, actor: { ref: '' } },
    });
  });

  it('tells who consented for somebody else', () => {
    const target = [{ id: '00u2', type: 'User' }];
    const event = run('app.oauth2.admin.consent.grant', { target });
    expect(event.actor).toEqual(person);
    expect(event.subject.ref).toBe(ring.ref('subject', '00u2'));
    const system = run('user.session.clear', {
      actor: { id: 'sys', type: 'SystemPrincipal' },
      target,
    });
    expect(system.actor).toEqual({ ref: ring.ref('subject', 'sys'), type: 'service' });
  });

  it('tells what a client was registered with, and none of its secrets', () => {
    const secret = 'vR2nX8tLq5Wm9ZbK3cYd7Hf1';
    const event = run('app.oauth2.client.lifecycle.create', {
      client: { id: 'okta.console', ipAddress: '203.0.113.9' },
      target: [
        {
          ...{ id: '0oanew', type: 'PublicClientApp', displayName: 'New' },
          detailEntry: {
            ...{ redirecturis: '[https://new.example/cb, https://new.example/cb2]' },
            ...{ granttypes: ['authorization_code', 'refresh_token'], responsetypes: 'code' },
            ...{ tokenendpointauthmethod: 'none', applicationtype: 'browser' },
            ...{ clientsecret: secret, client_secret: secret },
          },
        },
      ],
    });
    expect(event.client).toEqual({ id: '0oanew', name: 'New', auth_method: '' });
    expect(event.ext).toEqual({
      redirect_uris: 'https://new.example/cb https://new.example/cb2',
      ...{ grant_types: 'authorization_code refresh_token', response_types: 'code' },
      ...{ token_endpoint_auth_method: 'none', client_type: 'public', application_type: 'browser' },
    });
    const text = JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? `${v}` : v));
    expect(text).not.toContain(secret);
  });

  it('tells which secret or key was meant', () => {
    const target = [{ id: '0oaweb', type: 'AppInstance' }];
    const keys = ['client.read_client_secret', 'credentials.lifecycle.create', 'key.rollover'].map(
      (type) => run(`app.oauth2.${type}`, { target, client: {} }).key,
    );
    expect(keys).toEqual([
      { kid: '0oaweb', operation: 'app.oauth2.client.read_client_secret', store: 'okta' },
      { kid: '0oaweb', operation: 'app.oauth2.credentials.lifecycle.create', store: 'okta' },
      { kid: '0oaweb', operation: 'app.oauth2.key.rollover', store: 'okta' },
    ]);
    expect(run('app.oauth2.key.rollover').key.kid).toBe('');
  });

  it('tells what a policy decided', () => {
    const target = [{ id: 'pol1', type: 'PolicyEntity', displayName: 'Default' }];
    const outcome = { result: 'DENY', reason: 'Sign-on policy evaluation resulted in DENY' };
    expect(run('policy.evaluate_sign_on', { target, outcome })).toMatchObject({
      policy: { path: 'Default', decision: 'deny' },
      error: { code: '', detail: outcome.reason },
    });
  });
});

describe('what is refused', () => {
  it.each([
    [
      'text',
      { form: 'text' as const, line: 'x' },
      'unsupported_form',
      'text: allowed is a JSON object',
    ],
    ['a list', json([base]), 'not_an_object', 'record: must be a JSON object'],
    [
      'no type',
      json(base),
      'unrecognised_record',
      'record: no System Log event; eventType is needed',
    ],
    ['no time', json({ eventType: 'x' }), 'missing_field', 'published: is required'],
    [
      'a wrong time',
      json({ eventType: 'x', published: 'soon' }),
      'invalid_time',
      'published: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [
      'a long type',
      json({ eventType: 'x'.repeat(201), published: 1 }),
      'invalid_field',
      'eventType: longer than 200 characters',
    ],
  ])('%s', (_, record, code, message) => {
    expect(okta.parse(record, { received_at: RECEIVED_AT })).toEqual({ ok: false, code, message });
  });

  it('takes wrong types and words for nothing as absent', () => {
    const event = run('user.session.start', {
      ...{ uuid: null, actor: 'x', client: [], target: 'x', transaction: 7, outcome: [] },
      ...{
        authenticationContext: { externalSessionId: 'unknown' },
        debugContext: { debugData: 1 },
      },
    });
    expect(withoutId(event)).toEqual(
      expected(okta, {
        ...{ time: at, kind: 'login', outcome: 'unknown' },
        ...{ source: { raw_type: 'user.session.start' }, net: { ip_role: 'end_user' } },
      }),
    );
  });
});

describe('countries', () => {
  it.each([
    ['United States', 'US'],
    ['france', 'FR'],
    ['Germany', 'DE'],
    ['Atlantis', ''],
    ['constructor', ''],
    ['x'.repeat(100), ''],
  ])('%s: %s', (country, code) => {
    const client = { ...base.client, geographicalContext: { country } };
    expect(run('user.session.start', { client }).net.country).toBe(code);
  });
});

describe('provides', () => {
  it('is what the events of this file fill, no more and no less', () => {
    expect(filledFields(seen)).toEqual([...okta.provides].sort());
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('come out as what they are', () => {
    const rows = [...sampleRows('okta.ndjson'), ...sampleRows('okta_token_grant.json')];
    const records = rows.flatMap((row) => recordsOf(okta, row));
    const counts: Record<string, number> = {};
    let events = 0;
    for (const record of records) {
      const parsed = okta.parse(record, { received_at: RECEIVED_AT });
      if (!parsed.ok) {
        counts[parsed.message] = (counts[parsed.message] ?? 0) + 1;
        continue;
      }
      for (const event of eventsOf(okta, record)) {
        AuthEvent.parse(event);
        events += 1;
        const name = `${event.source.raw_type} ${event.kind} ${event.outcome}`;
        counts[name] = (counts[name] ?? 0) + 1;
      }
    }
    process.stdout.write(`samples okta: ${records.length} records, ${events} events\n`);
    // Refused are rows that are no events of Okta: findings of other tools, events without their time or with a mask there.
    expect(counts).toEqual({
      'record: no System Log event; eventType is needed': 12,
      'published: is required': 10,
      'published: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns': 4,
      'app.oauth2.token.grant.access_token token_refreshed success': 1,
      'app.token.reuse unclassified failure': 1,
      'application.integration.rate_limit_exceeded rate_limited denied': 1,
      'application.lifecycle.create unclassified challenge': 1,
      'application.lifecycle.update unclassified challenge': 1,
      'application.lifecycle.update unclassified success': 1,
      'group.privilege.grant unclassified failure': 2,
      'policy.evaluate_sign_on policy_decided challenge': 1,
      'system.api_token.create secret_changed success': 1,
      'system.org.rate_limit.warning unclassified success': 2,
      'user.account.lock account_locked failure': 2,
      'user.account.privilege.grant unclassified success': 2,
      'user.account.report_suspicious_activity_by_enduser risk_signal success': 1,
      'user.account.reset_password unclassified success': 1,
      'user.authentication.auth_via_IDP federation_handshake success': 1,
      'user.authentication.auth_via_mfa mfa_result failure': 1,
      'user.authentication.auth_via_mfa mfa_result success': 2,
      'user.authentication.sso federation_handshake success': 1,
      'user.authentication.sso login_failed failure': 1,
      'user.mfa.factor.reset_all unclassified success': 1,
      'user.session.impersonation.grant impersonation unknown': 1,
      'user.session.start login success': 1,
      'user.session.start login unknown': 1,
    });
  });
});
