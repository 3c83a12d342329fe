import { describe, expect, it } from 'vitest';
import github from '../../collector/sources/github.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

/** Applications, consent and the use of tokens, as the audit log tells them. */
const at = 1_767_225_600_123_000_000n;
const HASH = 'Zk9wQ2xvbmdTYW1wbGVIYXNoVmFsdWVGb3JUZXN0cz0=';
const jo = { ref: ring.ref('subject', 'jo-doe'), type: 'user' as const };
const seen: AuthEvent[] = [];

function run(action: string, more: Record<string, unknown> = {}): AuthEvent {
  const base = {
    ...{ action, '@timestamp': 1_767_225_600_123, _document_id: 'doc-1', org: 'example-org' },
    ...{ actor: 'Jo-Doe', actor_id: 7, actor_ip: '203.0.113.9', operation_type: 'create' },
  };
  const [event] = eventsOf(github, json({ ...base, ...more }));
  if (event === undefined) throw new Error('no event');
  seen.push(event);
  return event;
}

describe('the use of a token in every form is the same event', () => {
  const record = {
    ...{ action: 'api.request', '@timestamp': 1_767_225_600_123, _document_id: 'doc-1' },
    ...{ actor: 'Jo-Doe', actor_ip: '203.0.113.9', actor_location: { country_code: 'FR' } },
    ...{ business: 'example', org: 'example-org', repo: 'example-org/shop', request_id: 'req-1' },
    ...{ hashed_token: HASH, token_id: 4711, token_scopes: 'repo,read:org' },
    ...{ programmatic_access_type: 'OAuth access token', oauth_application_id: 99 },
    ...{ oauth_application_name: 'Deployer', user_agent: 'curl/8.5.0' },
    ...{ request_method: 'GET', url_path: '/repos/example-org/shop', status_code: 200 },
    query_string: 'access_token=q8Zr4TnX2mVb',
  };
  const wanted = expected(github, {
    ...{ time: at, kind: 'api_accessed', outcome: 'success', endpoint: 'api' },
    source: { tenant: 'example', raw_type: 'api.request' },
    client: { id: '99', name: 'Deployer' },
    subject: jo,
    resource: ['example-org/shop'],
    scopes_granted: ['read:org', 'repo'],
    tokens: [
      {
        ...{ role: 'presented', type: 'access' },
        ...{ ref: ring.ref('token', HASH), ref_kind: 'vendor_hash' },
      },
    ],
    net: {
      ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', country: 'FR' },
      ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
    },
    http: { method: 'GET', route: '/repos/example-org/shop', status: 200 },
    corr: { request_id: 'req-1' },
    ext: { programmatic_access_type: 'OAuth access token', repo: 'example-org/shop' },
    redaction: { fields: ['subject.ref', 'tokens.ref'] },
  });
  const { '@timestamp': stamp, ...untimed } = record;

  it.each([
    ['the log', record],
    ['an HTTP event collector', { time: 1, event: record }],
    ['an export with created_at', { ...untimed, created_at: stamp }],
    ['a time as text', { ...untimed, created_at: '2026-01-01 00:00:00.123' }],
  ])('%s', (_, value) => {
    const events = recordsOf(github, { raw: value, row: {} }).flatMap((r) => eventsOf(github, r));
    expect(events.map(withoutId)).toEqual([wanted]);
    seen.push(...events);
  });
});

describe('types', () => {
  it.each([
    ['oauth_access.create', 'token_issued success'],
    ['oauth_access.destroy', 'token_revoked success'],
    ['oauth_authorization.create', 'consent_granted success'],
    ['oauth_authorization.destroy', 'consent_revoked success'],
    ['oauth_application.create', 'client_registered success'],
    ['oauth_application.transfer', 'client_updated success'],
    ['oauth_application.destroy', 'client_deleted success'],
    ['oauth_application.reset_secret', 'client_credential_changed success'],
    ['oauth_application.revoke_all_tokens', 'token_revoked success'],
    ['oauth_application.of_tomorrow', 'unclassified success'],
    ['oauth_application.constructor', 'unclassified success'],
    ['integration.create', 'client_registered success'],
    ['integration.generate_client_secret', 'client_credential_changed success'],
    ['integration_installation.create', 'consent_granted success'],
    ['integration_installation.destroy', 'consent_revoked success'],
    ['personal_access_token.access_granted', 'consent_granted success'],
    ['personal_access_token.access_revoked', 'consent_revoked success'],
    ['personal_access_token.request_denied', 'consent_denied denied'],
    ['org_credential_authorization.grant', 'consent_granted success'],
    ['org.oauth_app_access_approved', 'consent_granted success'],
    ['org.oauth_app_access_denied', 'consent_denied denied'],
    ['org.disable_oauth_app_restrictions', 'policy_changed success'],
    ['ip_allow_list.disable', 'policy_changed success'],
    ['ip_allow_list_entry.create', 'policy_changed success'],
    ['org.update_actions_secret', 'secret_changed success'],
    ['git.clone', 'api_accessed success'],
    ['user.login', 'login success'],
    ['user.failed_login', 'login_failed failure'],
    ['org.sso_response', 'federation_handshake success'],
    ['repo.create', 'unclassified success'],
    ['public_key.create', 'unclassified success'],
  ])('%s: %s', (action, what) => {
    const event = run(action);
    expect(`${event.kind} ${event.outcome}`).toBe(what);
    expect(event.source).toMatchObject({ raw_type: action, tenant: 'example-org' });
  });

  it.each([
    [200, 'success'],
    [304, 'success'],
    [401, 'denied'],
    [403, 'denied'],
    [404, 'failure'],
    ['500', 'failure'],
  ])('api.request answered %s: %s', (status_code, outcome) => {
    expect(run('api.request', { status_code }).outcome).toBe(outcome);
  });
});

describe('what they say', () => {
  it('tells a token that was made, one that was taken away, and one that came', () => {
    const token = { token_id: 4711, hashed_token: HASH, expires_at: '2026-02-01T00:00:00Z' };
    const ref = ring.ref('token', HASH);
    const roles = ['oauth_access.create', 'oauth_access.destroy', 'repo.create'].map(
      (action) => run(action, token).tokens[0],
    );
    expect(roles).toMatchObject([
      { role: 'issued', ref, expires_at: 1_769_904_000_000_000_000n },
      { role: 'revoked', ref },
      { role: 'presented', ref },
    ]);
    const [named] = run('oauth_access.create', { token_id: 4711 }).tokens;
    expect(named).toMatchObject({ ref: ring.refOfJti('4711'), ref_kind: 'vendor_id' });
    expect(run('oauth_access.create').tokens).toEqual([]);
    const key = { hashed_token: HASH, programmatic_access_type: 'Deploy key' };
    expect(run('git.clone', key).tokens).toEqual([]);
  });

  it('tells who consented, who did it for somebody, and who administers', () => {
    expect(run('oauth_authorization.create')).toMatchObject({ subject: jo, actor: { ref: '' } });
    const own = run('oauth_authorization.create', { user: 'jo-doe' });
    expect(own).toMatchObject({ subject: jo, actor: { ref: '' } });
    const other = run('org_credential_authorization.revoke', { user: 'al' });
    expect(other.subject.ref).toBe(ring.ref('subject', 'al'));
    expect(other.actor).toEqual(jo);
    expect(run('oauth_application.create')).toMatchObject({ subject: { ref: '' }, actor: jo });
    const bot = run('git.push', { actor: 'dependabot[bot]' });
    expect(bot.subject).toEqual({ ref: ring.ref('subject', 'dependabot[bot]'), type: 'service' });
  });

  it('names the application, and takes no other name for one', () => {
    const app = run('integration_installation.create', { integration: 'Ci', name: 'x' });
    expect(app.client).toMatchObject({ id: '', name: 'Ci' });
    expect(run('repo.create', { name: 'shop' }).client).toMatchObject({ id: '', name: '' });
    const reset = { oauth_application_id: 99, oauth_application_name: 'Deployer' };
    expect(run('oauth_application.reset_secret', reset).key).toEqual({
      ...{ kid: '99', operation: 'oauth_application.reset_secret', store: 'github' },
    });
    expect(run('org.create_actions_secret', { key: 'DEPLOY' }).key).toEqual({
      ...{ kid: 'DEPLOY', operation: 'org.create_actions_secret', store: 'github' },
    });
  });

  it('takes the address of a sign-in for the person’s, of a token for nobody’s', () => {
    expect(run('user.login').net.ip_role).toBe('end_user');
    expect(run('git.clone').net.ip_role).toBe('unknown');
  });
});

describe('what is refused', () => {
  const needed = 'record: no event of the audit log; action must be category.operation';
  it.each([
    [
      'text',
      { form: 'text' as const, line: 'x' },
      'unsupported_form',
      'text: allowed is a JSON object',
    ],
    ['a list', json([]), 'not_an_object', 'record: must be a JSON object'],
    ['no action', json({ actor: 'jo' }), 'unrecognised_record', needed],
    ['a webhook', json({ action: 'opened', sender: {} }), 'unrecognised_record', needed],
    ['no time', json({ action: 'repo.create' }), 'missing_field', '@timestamp: is required'],
    [
      'a wrong time',
      json({ action: 'repo.create', created_at: 'soon' }),
      'invalid_time',
      '@timestamp: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
  ])('%s', (_, record, code, message) => {
    expect(github.parse(record, { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code, message },
    });
  });

  it('takes wrong types for absent values', () => {
    const event = run('git.clone', {
      ...{ actor: [], actor_ip: 7, actor_location: 'FR', hashed_token: {}, token_scopes: null },
      ...{ repo: null, org: '', status_code: 'x', operation_type: {} },
    });
    expect(withoutId(event)).toEqual(
      expected(github, {
        ...{ time: at, kind: 'api_accessed', outcome: 'success', endpoint: 'git' },
        source: { raw_type: 'git.clone' },
      }),
    );
  });
});

describe('provides', () => {
  it('is what the events of this file fill, no more and no less', () => {
    expect(filledFields(seen)).toEqual([...github.provides].sort());
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('come out as what they are', () => {
    const records = sampleRows('github.ndjson').flatMap((row) => recordsOf(github, row));
    const counts: Record<string, number> = {};
    const count = (name: string): void => {
      counts[name] = (counts[name] ?? 0) + 1;
    };
    let events = 0;
    for (const record of records) {
      const parsed = github.parse(record, { received_at: RECEIVED_AT });
      if (!parsed.ok) {
        count(parsed.message);
        continue;
      }
      for (const event of eventsOf(github, record)) {
        AuthEvent.parse(event);
        events += 1;
        const isOther = event.kind === 'unclassified';
        count(isOther ? 'unclassified' : `${event.source.raw_type} ${event.kind} ${event.outcome}`);
      }
    }
    process.stdout.write(`samples github: ${records.length} records, ${events} events\n`);
    // Refused are webhooks, and rows that were cut: without their time.
    expect(counts).toEqual({
      'record: no event of the audit log; action must be category.operation': 33,
      '@timestamp: is required': 21,
      'git.push api_accessed success': 5,
      'ip_allow_list.disable policy_changed success': 1,
      'ip_allow_list_entry.create policy_changed success': 1,
      'org.set_default_workflow_permissions policy_changed success': 2,
      unclassified: 25,
    });
  });
});
