import { describe, expect, it } from 'vitest';
import google from '../../collector/sources/google_workspace.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

/** Consent and its withdrawal, and what the neighbouring logs say of sign-ins. */
const at = 1_767_225_600_123_000_000n;
const person = { ref: ring.ref('subject', 'jo@example.com'), type: 'user' as const };
const seen: AuthEvent[] = [];

interface Given {
  readonly events?: unknown;
  readonly [name: string]: unknown;
}
function run(app: string, more: Given): AuthEvent[] {
  const activity = {
    kind: 'admin#reports#activity',
    id: {
      ...{ time: '2026-01-01T00:00:00.123Z', uniqueQualifier: '-42', customerId: 'C1' },
      applicationName: app,
    },
    actor: { callerType: 'USER', email: 'Jo@Example.com', profileId: '1001' },
    ipAddress: '203.0.113.9',
    ...more,
  };
  const events = eventsOf(google, json(activity));
  seen.push(...events);
  return events;
}
const named = (name: string, parameters: unknown = [], type = ''): Given => ({
  events: [{ type, name, parameters }],
});
const one = (app: string, given: Given): AuthEvent => run(app, given)[0]!;
const brief = (e: AuthEvent): string =>
  [e.kind, e.outcome, e.endpoint || '-', e.net.ip_role].join(' ');

describe('a consent in every form is the same event', () => {
  const scopes = [
    'https://www.googleapis.com/auth/drive',
    'https://www.googleapis.com/auth/calendar',
  ];
  const parameters = [
    { name: 'client_id', value: '77.apps.example.com' },
    { name: 'app_name', value: 'Notes' },
    { name: 'client_type', value: 'WEB' },
    { name: 'num_response_bytes', intValue: '0' },
    {
      name: 'scope_data',
      multiMessageValue: [{ parameter: [{ name: 'scope_name', value: 'x' }] }],
    },
    { name: 'scope', multiValue: scopes },
    { name: 'scope', multiValue: ['a second time'] },
    'no parameter',
    { value: 'no name' },
  ];
  const turned = {
    ...{ client_id: '77.apps.example.com', app_name: 'Notes', client_type: 'WEB' },
    scope: scopes,
  };
  const wanted = expected(google, {
    ...{ time: at, kind: 'consent_granted', outcome: 'success', endpoint: 'authorization' },
    source: { tenant: 'C1', raw_type: 'token.authorize' },
    client: { id: '77.apps.example.com', name: 'Notes' },
    subject: person,
    scopes_granted: [...scopes].sort(),
    net: {
      ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' },
      country: 'FR',
    },
    ext: { client_type: 'WEB' },
    redaction: { fields: ['subject.ref'] },
  });
  const networkInfo = { ipAsn: [64_500], regionCode: 'FR' };

  it.each<[string, Given]>([
    ['a list of events', { events: [{ type: 'auth', name: 'authorize', parameters }] }],
    ['one event', { events: { name: 'authorize', parameters } }],
    ['an event whose parameters are a map', { events: { name: 'authorize', parameters: turned } }],
    ['an activity that is its event', { type: 'auth', name: 'authorize', parameters: turned }],
  ])('%s', (_, given) => {
    expect(run('token', { ...given, networkInfo }).map(withoutId)).toEqual([wanted]);
  });

  it('and a page of activities', () => {
    const page = {
      kind: 'admin#reports#activities',
      items: [{ id: { applicationName: 'token' } }, 'no activity'],
    };
    expect(recordsOf(google, { raw: page, row: {} })).toEqual(page.items.map(json));
  });
});

describe('types', () => {
  it.each([
    ['token', 'revoke', 'consent_revoked success - end_user'],
    ['token', 'activity', 'api_accessed success api unknown'],
    ['token', 'request', 'unclassified unknown - unknown'],
    ['login', 'login_success', 'login success - end_user'],
    ['login', 'login_failure', 'login_failed failure - end_user'],
    ['login', 'login_challenge', 'mfa_challenged challenge - end_user'],
    ['login', 'login_verification', 'mfa_result unknown - end_user'],
    ['login', 'logout', 'session_ended success - end_user'],
    ['login', 'suspicious_login', 'risk_signal unknown - end_user'],
    ['login', 'gov_attack_warning', 'risk_signal unknown - end_user'],
    ['login', 'risky_sensitive_action_blocked', 'risk_signal denied - end_user'],
    ['login', 'account_disabled_hijacked', 'account_locked success - unknown'],
    ['saml', 'login_success', 'federation_handshake success - end_user'],
    ['saml', 'login_failure', 'federation_handshake failure - end_user'],
    ['admin', 'AUTHORIZE_API_CLIENT_ACCESS', 'consent_granted success - end_user'],
    ['admin', 'REMOVE_API_CLIENT_ACCESS', 'consent_revoked success - end_user'],
    ['admin', 'REVOKE_3LO_TOKEN', 'consent_revoked success - end_user'],
    ['admin', 'REVOKE_3LO_DEVICE_TOKENS', 'token_revoked success - end_user'],
    ['admin', 'RESET_SIGNIN_COOKIES', 'session_revoked success - end_user'],
    ['admin', 'ADD_TO_TRUSTED_OAUTH2_APPS', 'policy_changed success - end_user'],
    ['admin', 'SUSPEND_USER', 'unclassified unknown - unknown'],
    ['context_aware_access', 'ACCESS_DENY_EVENT', 'policy_decided denied - end_user'],
    ['context_aware_access', 'MONITOR_MODE_ACCESS_DENY_EVENT', 'policy_decided success - end_user'],
    ['user_accounts', '2sv_disable', 'unclassified unknown - unknown'],
    ['drive', 'login_success', 'unclassified unknown - unknown'],
    ['constructor', 'toString', 'unclassified unknown - unknown'],
  ])('%s %s: %s', (app, name, what) => {
    const event = one(app, named(name));
    expect(brief(event)).toBe(what);
    expect(event.source.raw_type).toBe(`${app}.${name}`);
  });

  it('takes a setting of security for a change of policy, in the admin log alone', () => {
    const settings = named('CHANGE_SETTING', [], 'SECURITY_SETTINGS');
    expect(one('admin', settings).kind).toBe('policy_changed');
    expect(one('drive', settings).kind).toBe('unclassified');
  });
});

describe('what they say', () => {
  it('tells which API a client called for somebody', () => {
    const parameters = [
      { name: 'client_id', value: '77.apps.example.com' },
      { name: 'api_name', value: 'drive' },
      { name: 'method_name', value: 'drive.files.list' },
      { name: 'product_bucket', value: 'DRIVE' },
    ];
    expect(one('token', named('activity', parameters))).toMatchObject({
      ...{ kind: 'api_accessed', resource: ['drive'], client: { id: '77.apps.example.com' } },
      ...{ subject: person, scopes_granted: [], net: { ip_role: 'unknown' } },
      ext: { api_name: 'drive', method_name: 'drive.files.list', product_bucket: 'DRIVE' },
    });
  });

  it('tells access for a whole domain: who gave it, to whom, for what', () => {
    const parameters = [
      { name: 'API_CLIENT_NAME', value: '1088' },
      { name: 'API_SCOPES', multiValue: ['https://mail.google.com/'] },
    ];
    expect(one('admin', named('AUTHORIZE_API_CLIENT_ACCESS', parameters))).toMatchObject({
      ...{ kind: 'consent_granted', client: { id: '1088' }, actor: person },
      ...{ subject: { ref: '', type: 'unknown' }, scopes_granted: ['https://mail.google.com/'] },
    });
  });

  it('tells whom an administrator signed out', () => {
    const parameters = [{ name: 'USER_EMAIL', value: 'Al@Example.com' }];
    const event = one('admin', named('RESET_SIGNIN_COOKIES', parameters));
    expect(event.subject.ref).toBe(ring.ref('subject', 'al@example.com'));
    expect(event.actor).toEqual(person);
  });

  it.each([
    ['Challenge Passed.', 'mfa_result success'],
    ['Challenge Failed.', 'mfa_result failure'],
    ['Challenge Sent', 'mfa_challenged challenge'],
  ])('tells how a challenge ended: %s', (value, what) => {
    const event = one(
      'login',
      named('login_challenge', [{ name: 'login_challenge_status', value }]),
    );
    expect(`${event.kind} ${event.outcome}`).toBe(what);
    expect(event.ext).toEqual({ login_challenge_status: value });
  });

  it('tells why a login failed, and that Google doubts one', () => {
    const failure = [{ name: 'login_failure_type', value: 'login_failure_invalid_password' }];
    const failed = one('login', named('login_failure', failure));
    expect(failed.error).toEqual({
      ...{ code: 'login_failure_invalid_password', oauth_error: '', detail: '' },
    });
    const doubted = [
      { name: 'is_suspicious', boolValue: true },
      { name: 'login_type', value: 'google_password' },
    ];
    expect(one('login', named('login_success', doubted))).toMatchObject({
      ...{ kind: 'login', risk: 'suspicious', ext: { login_type: 'google_password' } },
    });
    const calm = [{ name: 'is_suspicious', boolValue: false }];
    expect(one('login', named('login_success', calm)).risk).toBe('');
  });

  it('tells what a policy decided, and what it would have', () => {
    const decisions = ['ACCESS_DENY_EVENT', 'MONITOR_MODE_ACCESS_DENY_EVENT'].map(
      (name) => one('context_aware_access', named(name)).policy.decision,
    );
    expect(decisions).toEqual(['deny', 'monitor_deny']);
  });

  it('names a person by the profile, and a program by its key, where there is no address', () => {
    const subjects = [{ profileId: '1001' }, { callerType: 'KEY', key: 'SYSTEM' }, {}].map(
      (actor) => one('token', { ...named('revoke'), actor }).subject,
    );
    expect(subjects).toEqual([
      { ref: ring.ref('subject', '1001'), type: 'user' },
      { ref: ring.ref('subject', 'SYSTEM'), type: 'service' },
      { ref: '', type: 'unknown' },
    ]);
  });

  it('gives each event of an activity its own id, and the same one again', () => {
    const events = [{ name: 'authorize' }, { name: 'revoke' }];
    const first = run('token', { events });
    const again = run('token', { events });
    expect(first.map((e) => e.kind)).toEqual(['consent_granted', 'consent_revoked']);
    expect(new Set(first.map((e) => e.event_id)).size).toBe(2);
    expect(again.map((e) => e.event_id)).toEqual(first.map((e) => e.event_id));
  });
});

describe('what is refused', () => {
  const id = { applicationName: 'token', time: '2026-01-01T00:00:00Z' };
  const needed =
    'record: no activity of Google Workspace; id.applicationName and events are needed';
  it.each([
    [
      'text',
      { form: 'text' as const, line: 'x' },
      'unsupported_form',
      'text: allowed is a JSON object',
    ],
    ['a list', json([]), 'not_an_object', 'record: must be a JSON object'],
    ['no application', json({ id: {}, events: [] }), 'unrecognised_record', needed],
    ['no events', json({ id }), 'unrecognised_record', needed],
    [
      'no time',
      json({ id: { applicationName: 'token' }, events: [] }),
      'missing_field',
      'id.time: is required',
    ],
    [
      'a wrong time',
      json({ id: { applicationName: 'token', time: {} }, events: [] }),
      'invalid_time',
      'id.time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
  ])('%s', (_, record, code, message) => {
    expect(google.parse(record, { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code, message },
    });
  });

  it('takes wrong types for absent values', () => {
    const events = [{ name: 'authorize', parameters: 7, type: [] }, 'no event', null];
    const given = { events, actor: 'x', ipAddress: {}, networkInfo: [] };
    expect(run('token', given).map(withoutId)).toEqual([
      expected(google, {
        ...{ time: at, kind: 'consent_granted', outcome: 'success', endpoint: 'authorization' },
        source: { tenant: 'C1', raw_type: 'token.authorize' },
        net: { ip_role: 'end_user' },
      }),
    ]);
    expect(run('token', { events: [] })).toEqual([]);
  });
});

describe('provides', () => {
  it('is what the events of this file fill, no more and no less', () => {
    expect(filledFields(seen)).toEqual([...google.provides].sort());
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('come out as what they are', () => {
    const rows = ['google_workspace.ndjson', 'google_workspace_token.json'].flatMap(sampleRows);
    const records = rows.flatMap((row) => recordsOf(google, row));
    const counts: Record<string, number> = {};
    const count = (name: string): void => {
      counts[name] = (counts[name] ?? 0) + 1;
    };
    let events = 0;
    for (const record of records) {
      const parsed = google.parse(record, { received_at: RECEIVED_AT });
      if (!parsed.ok) {
        count(parsed.message);
        continue;
      }
      for (const event of eventsOf(google, record)) {
        AuthEvent.parse(event);
        events += 1;
        const isOther = event.kind === 'unclassified';
        count(isOther ? 'unclassified' : `${event.source.raw_type} ${event.kind} ${event.outcome}`);
      }
    }
    process.stdout.write(`samples google_workspace: ${records.length} records, ${events} events\n`);
    // Refused are rows that were cut: without their time, or without an event.
    expect(counts).toEqual({
      'id.time: is required': 28,
      'record: no activity of Google Workspace; id.applicationName and events are needed': 5,
      'admin.CHANGE_APPLICATION_SETTING policy_changed success': 2,
      'admin.CREATE_APPLICATION_SETTING policy_changed success': 1,
      'context_aware_access.MONITOR_MODE_ACCESS_DENY_EVENT policy_decided success': 1,
      'saml.login_success federation_handshake success': 1,
      'token.authorize consent_granted success': 5,
      unclassified: 68,
    });
  });
});
