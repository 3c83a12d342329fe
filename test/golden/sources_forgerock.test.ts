import { describe, expect, it } from 'vitest';
import forgerock from '../../collector/sources/forgerock.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const time = '2026-01-01T00:00:00.123Z';
const at = 1_767_225_600_123_000_000n;
const read = (value: unknown) => {
  const events = eventsOf(forgerock, json(value));
  expect(events.length).toBe(1);
  return events[0]!;
};

const access = (outcome: boolean, path: string, more: object = {}, http: object = {}) => ({
  ...{ _id: 'a1-1', timestamp: time, eventName: `AM-ACCESS-${outcome ? 'OUTCOME' : 'ATTEMPT'}` },
  ...{ transactionId: 'tx-1', realm: '/shop', component: 'OAuth', topic: 'access' },
  client: { ip: '203.0.113.9' },
  http: {
    request: {
      ...{ method: 'POST', path: `https://am.example.com/am/oauth2/${path}` },
      headers: { 'user-agent': ['curl/8.5.0'], 'x-forwarded-for': ['198.51.100.7, 10.0.0.1'] },
      ...http,
    },
  },
  ...more,
});
const answered = (status: 'SUCCESSFUL' | 'FAILED', statusCode: string, detail: object = {}) => ({
  response: { status, statusCode, detail, elapsedTime: 22, elapsedTimeUnits: 'MILLISECONDS' },
});
const agent = { userId: 'id=shop,ou=agent,ou=am-config' };
const person = { userId: 'id=ada,ou=user,dc=openam,dc=example,dc=com' };
const net = {
  ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', user_agent: 'curl/8.5.0' },
  ua_family: 'curl',
};
const source = { tenant: '/shop', raw_type: 'AM-ACCESS-OUTCOME' };

describe('a token request', () => {
  it('is an attempt that knows what was asked', () => {
    const detail = { grant_type: 'client_credentials', scope: 'orders:read' };
    expect(withoutId(read(access(false, 'access_token', { request: { detail } })))).toEqual(
      expected(forgerock, {
        ...{ time: at, kind: 'token_issued', phase: 'attempt', outcome: 'pending' },
        ...{ source: { ...source, raw_type: 'AM-ACCESS-ATTEMPT' }, endpoint: 'token' },
        ...{ grant_type: 'client_credentials', scopes_requested: ['orders:read'] },
        net: { ...net, ip_role: 'client_backend' },
        http: { method: 'POST', route: '/am/oauth2/access_token' },
        corr: { transaction_id: 'tx-1' },
      }),
    );
  });

  it('and an outcome that knows what was given', () => {
    const ok = answered('SUCCESSFUL', '200', { scope: 'orders:read', token_type: 'Bearer' });
    expect(withoutId(read(access(true, 'access_token', { ...agent, ...ok })))).toEqual(
      expected(forgerock, {
        ...{ time: at, kind: 'token_issued', phase: 'outcome', outcome: 'success', source },
        ...{ endpoint: 'token', client: { id: 'shop' }, scopes_granted: ['orders:read'], net },
        http: { method: 'POST', route: '/am/oauth2/access_token', status: 200, duration_ms: 22 },
        corr: { transaction_id: 'tx-1' },
      }),
    );
  });

  it.each([
    ['refresh_token', 'token_refreshed'],
    ['urn:ietf:params:oauth:grant-type:token-exchange', 'token_exchanged'],
    ['authorization_code', 'token_issued'],
  ])('%s', (grant_type, kind) => {
    const detail = { grant_type, client_id: 'shop' };
    expect(read(access(false, 'access_token', { request: { detail } })).kind).toBe(kind);
    const more = { request: { detail }, ...answered('SUCCESSFUL', '200') };
    expect(read(access(true, 'access_token', more))).toMatchObject({
      ...{ kind, grant_type, client: { id: 'shop' } },
    });
  });

  it.each([
    ['invalid_client', 'failure'],
    ['access_denied', 'denied'],
    ['authorization_pending', 'pending'],
    ['slow_down', 'pending'],
  ])('refused with %s', (error, outcome) => {
    const more = answered('FAILED', '401', { error, error_description: 'No.' });
    expect(read(access(true, 'access_token', more))).toMatchObject({
      ...{ kind: 'token_request_failed', outcome, http: { status: 401 } },
      error: { oauth_error: error, detail: 'No.' },
    });
  });

  it('a client that names itself differently than it proved is seen', () => {
    const detail = { grant_type: 'client_credentials', client_id: 'other' };
    const event = read(access(true, 'access_token', { ...agent, request: { detail } }));
    expect([event.client.id, event.requested_client_id]).toEqual(['shop', 'other']);
    expect(event.subject).toEqual({ ref: ring.ref('subject', 'shop'), type: 'client' });
    expect(event.outcome).toBe('unknown');
  });
});

describe('other endpoints', () => {
  it('an authorization request names what was asked for, and no state', () => {
    const queryParameters = {
      ...{ client_id: ['shop'], redirect_uri: ['https://shop.example.com/cb'], state: ['s3cr3t'] },
      ...{ response_type: ['code'], scope: ['openid'], code_challenge_method: ['S256'] },
    };
    const more = { ...person, ...answered('SUCCESSFUL', '302') };
    const event = read(
      access(true, 'realms/root/realms/shop/authorize', more, { method: 'GET', queryParameters }),
    );
    expect(event).toMatchObject({
      ...{ kind: 'authorization_requested', outcome: 'success', endpoint: 'authorization' },
      ...{ response_type: 'code', scopes_requested: ['openid'], pkce: 'S256' },
      ...{ redirect_uri: 'https://shop.example.com/cb', client: { id: 'shop' } },
      subject: { ref: ring.ref('subject', 'ada'), type: 'user' },
      net: { ip_role: 'end_user' },
      http: { route: '/am/oauth2/realms/root/realms/shop/authorize' },
    });
    expect(
      JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? '' : v)),
    ).not.toContain('s3cr3t');
    const failed = { ...person, ...answered('FAILED', '400', { reason: 'Bad redirect.' }) };
    expect(read(access(true, 'authorize', failed, { queryParameters }))).toMatchObject({
      ...{ kind: 'authorization_failed', outcome: 'failure', error: { detail: 'Bad redirect.' } },
    });
  });

  it('introspection: the caller is the client, the token its subject', () => {
    const detail = { active: true, client_id: 'web', scope: 'a b', username: 'ada' };
    const event = read(
      access(true, 'introspect', { ...agent, ...answered('SUCCESSFUL', '200', detail) }),
    );
    expect(event).toMatchObject({
      ...{ kind: 'token_introspected', client: { id: 'shop' }, scopes_granted: ['a', 'b'] },
      subject: { ref: ring.ref('subject', 'ada'), type: 'user' },
      net: { ip_role: 'client_backend' },
      ext: { active: 'true', token_client_id: 'web' },
    });
    const own = { ...detail, username: 'web' };
    const machine = read(
      access(true, 'introspect', { ...agent, ...answered('SUCCESSFUL', '200', own) }),
    );
    expect(machine.subject).toEqual({ ref: ring.ref('subject', 'web'), type: 'client' });
  });

  it.each([
    ['userinfo', 'POST', 'userinfo_accessed', 'userinfo'],
    ['token/revoke', 'POST', 'token_revoked', 'revocation'],
    ['tokeninfo', 'GET', 'token_introspected', 'introspection'],
    ['par', 'POST', 'par_pushed', 'pushed_authorization_request'],
    ['device/code', 'POST', 'device_authorization_requested', 'device_authorization'],
    ['device/user', 'POST', 'device_authorized', 'device'],
    ['bc-authorize', 'POST', 'backchannel_auth_requested', 'backchannel_authentication'],
    ['register', 'POST', 'client_registered', 'registration'],
    ['realms/root/register', 'PUT', 'client_updated', 'registration'],
    ['register', 'DELETE', 'client_deleted', 'registration'],
    ['connect/endSession', 'GET', 'session_ended', 'end_session'],
    ['connect/jwk_uri', 'GET', 'jwks_fetched', 'jwks'],
    ['something/new', 'GET', 'unclassified', ''],
    ['constructor', 'GET', 'unclassified', ''],
  ])('%s %s: %s', (path, method, kind, endpoint) => {
    const event = read(access(true, path, answered('SUCCESSFUL', '200'), { method }));
    expect([event.kind, event.endpoint, event.outcome]).toEqual([kind, endpoint, 'success']);
  });

  it('requests of other components are no OAuth', () => {
    const more = { component: 'Authentication', ...answered('SUCCESSFUL', '') };
    const event = read(access(true, 'access_token', more));
    expect([event.kind, event.endpoint, event.ext]).toEqual([
      'unclassified',
      '',
      { component: 'Authentication' },
    ]);
    expect(event.http.status).toBe(null);
  });
});

describe('addresses and units', () => {
  const from = (ip: unknown, more: object = {}) =>
    read(access(true, 'userinfo', { client: { ip } }, more)).net.client_ip;

  it('takes the forwarded address only where the direct one is inside', () => {
    expect([from('203.0.113.9'), from('10.0.0.1'), from(undefined)]).toEqual([
      ...['203.0.113.9', '198.51.100.7', '198.51.100.7'],
    ]);
    expect(from('10.0.0.1', { headers: {} })).toBe('10.0.0.1');
  });

  it.each([
    [22, 'MILLISECONDS', 22],
    [2, 'SECONDS', 2_000],
    [5_000_000, 'NANOSECONDS', 5],
    [5, 'FORTNIGHTS', null],
    ['7', undefined, 7],
  ])('%s %s', (elapsedTime, elapsedTimeUnits, ms) => {
    const more = { response: { status: 'SUCCESSFUL', elapsedTime, elapsedTimeUnits } };
    expect(read(access(true, 'userinfo', more)).http.duration_ms).toBe(ms);
  });
});

describe('activity, authentication, configuration', () => {
  const event = (eventName: string, more: object = {}) => ({
    ...{ _id: 'b1', timestamp: time, eventName, transactionId: 'tx-2', realm: '/' },
    ...{ trackingIds: ['track-1', 'track-2'], ...person, ...more },
  });

  it.each([
    ['AM-SESSION-CREATED', 'session_started', 'success'],
    ['AM-SESSION-LOGGED_OUT', 'session_ended', 'success'],
    ['AM-SESSION-IDLE_TIMED_OUT', 'session_ended', 'success'],
    ['AM-SESSION-MAX_TIMED_OUT', 'session_ended', 'success'],
    ['AM-SESSION-DESTROYED', 'session_revoked', 'success'],
    ['AM-LOGOUT', 'session_ended', 'success'],
    ['AM-SESSION-PROPERTY_CHANGED', 'unclassified', 'unknown'],
    ['AM-IDENTITY-CHANGE', 'unclassified', 'unknown'],
    ['__proto__', 'unclassified', 'unknown'],
  ])('%s: %s', (name, kind, outcome) => {
    expect(withoutId(read(event(name)))).toEqual(
      expected(forgerock, {
        ...({ time: at, kind, outcome } as {
          time: bigint;
          kind: 'session_ended';
          outcome: 'success';
        }),
        source: { tenant: '/', raw_type: name },
        subject: { ref: ring.ref('subject', 'ada'), type: 'user' },
        session_ref: ring.ref('session', 'track-1'),
        corr: { transaction_id: 'tx-2' },
        redaction: { fields: ['session_ref', 'subject.ref'] },
      }),
    );
  });

  it('a login and a failed one; a step of it is neither', () => {
    const entries = [
      { moduleId: 'Tree', info: { authLevel: '5', treeName: 'Login', ipAddress: '203.0.113.9' } },
    ];
    const done = event('AM-TREE-LOGIN-COMPLETED', {
      result: 'SUCCESSFUL',
      entries,
      principal: ['ada'],
    });
    expect(read(done)).toMatchObject({
      ...{ kind: 'login', outcome: 'success', acr: '5', ext: { tree: 'Login', module: 'Tree' } },
      net: { client_ip: '203.0.113.9', ip_role: 'end_user' },
    });
    const info = { failureReason: 'LOGIN_FAILED' };
    const failed = event('AM-LOGIN-COMPLETED', {
      ...{ result: 'FAILED', entries: [{ info }], principal: ['ada'], userId: undefined },
    });
    expect(read(failed)).toMatchObject({
      ...{ kind: 'login_failed', outcome: 'failure', error: { code: 'LOGIN_FAILED' } },
      subject: { ref: ring.ref('subject', 'ada'), type: 'user' },
    });
    expect(read(event('AM-NODE-LOGIN-COMPLETED', { result: 'FAILED' })).kind).toBe('unclassified');
  });

  it('OAuth clients are agents; all else is policy', () => {
    const change = (objectId: string, operation: string) =>
      read(
        event('AM-CONFIG-CHANGE', {
          objectId,
          operation,
          runAs: 'id=amadmin,ou=user,ou=am-config',
        }),
      );
    const client = 'ou=web,ou=default,ou=OrganizationConfig,ou=1.0,ou=AgentService,ou=services';
    expect(change(client, 'CREATE')).toMatchObject({
      ...{ kind: 'client_registered', client: { id: 'web' }, subject: { ref: '' } },
      actor: { ref: ring.ref('subject', 'amadmin'), type: 'user' },
    });
    expect([change(client, 'UPDATE').kind, change(client, 'DELETE').kind]).toEqual([
      ...['client_updated', 'client_deleted'],
    ]);
    expect(change('ou=OAuth2Provider,ou=services', 'UPDATE')).toMatchObject({
      ...{ kind: 'policy_changed', client: { id: '' } },
      ext: { operation: 'UPDATE', object: 'ou=OAuth2Provider,ou=services' },
    });
  });
});

describe('forms and refusals', () => {
  it('the log API of the cloud', () => {
    const payload = access(true, 'userinfo', answered('SUCCESSFUL', '200'));
    const wrapped = { payload, timestamp: '2026-01-01T00:00:00.249782137Z', source: 'am-access' };
    expect(forgerock.unwrap!({ result: [wrapped], pagedResultsCookie: 'x' })).toEqual([wrapped]);
    expect(forgerock.unwrap!(wrapped)).toBeUndefined();
    expect(read(wrapped)).toEqual({ ...read(payload), observed_time: 1_767_225_600_249_782_137n });
  });

  it.each([
    [
      { payload: 'a line of text' },
      'unrecognised_record',
      'record: no audit event of AM; eventName is needed',
    ],
    [{ eventName: 'AM-LOGOUT' }, 'missing_field', 'timestamp: is required'],
    [
      { eventName: 'AM-LOGOUT', timestamp: 'x' },
      'invalid_time',
      'timestamp: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [7, 'not_an_object', 'record: must be a JSON object'],
  ])('refuses %j', (value, code, message) => {
    expect(forgerock.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('refuses text', () => {
    expect(forgerock.parse(line('x'), { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code: 'unsupported_form', message: 'text: allowed is the JSON audit log' },
    });
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      `{"eventName":"AM-ACCESS-OUTCOME","timestamp":"${time}","component":"OAuth","userId":{},` +
        '"client":[],"http":{"request":{"path":7,"headers":"x","queryParameters":[1]}},' +
        '"request":{"detail":"x"},"response":{"status":[],"detail":{"scope":{}}},"__proto__":{"realm":"x"}}',
    ) as unknown;
    expect(read(hostile)).toMatchObject({
      kind: 'unclassified',
      outcome: 'unknown',
      source: { tenant: '' },
    });
  });
});

it('provides what it says', () => {
  const query = {
    redirect_uri: ['https://a.example.com/'],
    code_challenge_method: ['S256'],
    response_type: ['code'],
  };
  const detail = { grant_type: 'refresh_token', client_id: 'web', scope: 'a' };
  const told = { scope: 'a', token_type: 'DPoP', error: 'x', reason: 'y' };
  const failed = {
    eventName: 'AM-LOGIN-COMPLETED',
    timestamp: time,
    result: 'FAILED',
    trackingIds: ['t'],
  };
  const events = [
    {
      payload: access(
        true,
        'access_token',
        { ...agent, request: { detail }, ...answered('FAILED', '400', told) },
        { queryParameters: query },
      ),
      timestamp: time,
    },
    {
      ...failed,
      entries: [{ info: { failureReason: 'X', authLevel: '1', ipAddress: '203.0.113.9' } }],
    },
    { eventName: 'AM-SESSION-CREATED', timestamp: time, ...person, trackingIds: ['t'] },
    {
      eventName: 'AM-CONFIG-CHANGE',
      timestamp: time,
      ...person,
      operation: 'UPDATE',
      objectId: 'x',
    },
  ].map(read);
  expect(filledFields(events)).toEqual([...forgerock.provides].sort());
});

describe.skipIf(!hasSamples)('real records', () => {
  it('are read', () => {
    const records = sampleRows('forgerock_am_access.ndjson').flatMap((row) =>
      recordsOf(forgerock, row),
    );
    const events = records.flatMap((record) => eventsOf(forgerock, record));
    for (const event of events) AuthEvent.parse(event);
    process.stdout.write(`samples forgerock: ${records.length} records, ${events.length} events\n`);
    expect(events.map((e) => [e.kind, e.phase, e.outcome])).toEqual([
      ['token_issued', 'attempt', 'pending'],
      ['token_issued', 'outcome', 'success'],
      ['token_introspected', 'outcome', 'success'],
    ]);
  });
});
