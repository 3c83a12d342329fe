import { describe, expect, it } from 'vitest';
import cognito from '../../collector/sources/cognito.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import type { PartialEvent } from '../../model/complete_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

/** The endpoints of a pool's domain, sign-ins by the API, and administration. */
const at = 1_767_225_600_000_000_000n;
const MASK = 'HIDDEN_DUE_TO_SECURITY_REASONS';
const POOL = 'eu-central-1_Ab3xYz9Q7';
const seen: AuthEvent[] = [];

function record(eventName: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    ...{ eventVersion: '1.08', eventTime: '2026-01-01T00:00:00Z', eventName },
    ...{ eventSource: 'cognito-idp.amazonaws.com', awsRegion: 'eu-central-1' },
    ...{ userIdentity: { accountId: '111122223333' }, recipientAccountId: '111122223333' },
    ...{ sourceIPAddress: '203.0.113.9', userAgent: 'curl/8.5.0', requestID: 'req-1' },
    ...{ eventID: '0f4a2f7e-8a43-4d0f-9a5e-3c7d2b1e6f10', eventType: 'AwsServiceEvent' },
    ...more,
  };
}
/** A request to an endpoint of the pool's domain. */
function hosted(
  eventName: string,
  fields: Record<string, string>,
  status: unknown = 200,
  more: Record<string, unknown> = {},
): AuthEvent[] {
  const requestParameters = Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, [v]]));
  const additionalEventData = {
    ...{ responseParameters: { status }, requestParameters, userPoolId: POOL },
    userPoolDomain: 'login.example.com',
  };
  return keep(record(eventName, { additionalEventData, ...more }));
}
/** A call of the API. */
function call(eventName: string, requestParameters: unknown, more: Record<string, unknown> = {}) {
  const first = keep(record(eventName, { eventType: 'AwsApiCall', requestParameters, ...more }))[0];
  if (first === undefined) throw new Error('no event');
  return first;
}
function keep(value: unknown): AuthEvent[] {
  const events = eventsOf(cognito, json(value));
  seen.push(...events);
  return events;
}
const brief = (e: AuthEvent | undefined): string =>
  e === undefined ? '' : [e.kind, e.outcome, e.endpoint || '-', e.net.ip_role].join(' ');

/** What every request of `hosted` says. */
function event(raw_type: string, more: Omit<PartialEvent, 'event_id' | 'time'>): unknown {
  const { net, http, ...rest } = more;
  return expected(cognito, {
    time: at,
    source: { instance: 'eu-central-1', tenant: POOL, raw_type },
    client: { id: 'web' },
    net: {
      ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
      ...{ user_agent: 'curl/8.5.0', ua_family: 'curl', ...net },
    },
    http: { status: 200, ...http },
    corr: { request_id: 'req-1' },
    ext: { user_pool_domain: 'login.example.com' },
    ...rest,
  });
}

describe('the token endpoint', () => {
  it('tells a code exchange and the redemption of the code that AWS masked', () => {
    const fields = {
      ...{ grant_type: 'authorization_code', client_id: 'web', code: MASK, code_verifier: MASK },
      redirect_uri: 'https://app.example.com/cb',
    };
    const shared = {
      ...{ outcome: 'success' as const, endpoint: 'token', grant_type: 'authorization_code' },
      redirect_uri: 'https://app.example.com/cb',
      redaction: { upstream: true },
    };
    for (const status of [200, 200.0, '200.0']) {
      expect(hosted('Token_POST', fields, status).map(withoutId)).toEqual([
        event('Token_POST', { ...shared, kind: 'token_issued' }),
        event('Token_POST', { ...shared, kind: 'code_redeemed' }),
      ]);
    }
  });

  it('tells the other grants', () => {
    const machine = hosted('Token_POST', {
      ...{ grant_type: 'client_credentials', client_id: 'bot', scope: 'orders/read orders/write' },
    });
    expect(machine).toHaveLength(1);
    expect(machine[0]).toMatchObject({
      ...{ kind: 'token_issued', scopes_requested: ['orders/read', 'orders/write'] },
      subject: { ref: ring.ref('subject', 'bot'), type: 'client' },
      net: { ip_role: 'client_backend' },
      redaction: { upstream: false },
    });
    const refresh = { grant_type: 'refresh_token', client_id: 'web', refresh_token: MASK };
    expect(hosted('Token_POST', refresh)[0]).toMatchObject({
      ...{ kind: 'token_refreshed', outcome: 'success', tokens: [], redaction: { upstream: true } },
    });
  });

  it.each([
    ['invalid_grant', 400, 'invalid_grant', 'token_request_failed code_redeemed'],
    ['invalid_client', 400, 'invalid_client', 'token_request_failed'],
    ['', 429, '', 'token_request_failed'],
    ['TooManyRequestsException', 429, '', 'token_request_failed'],
  ])('tells a refusal: %s, %i', (errorCode, status, oauth, kinds) => {
    const fields = { grant_type: 'authorization_code', client_id: 'web', code: MASK };
    const events = hosted('Token_POST', fields, status, { errorCode });
    expect(events.map((e) => e.kind).join(' ')).toBe(kinds);
    for (const e of events) {
      expect([e.outcome, e.error.code, e.error.oauth_error]).toEqual(['failure', errorCode, oauth]);
      expect(e.http.status).toBe(status);
    }
  });
});

describe('the pages of a pool', () => {
  const asked = {
    ...{ client_id: 'web', response_type: 'code', scope: 'openid', state: MASK },
    ...{ redirect_uri: 'https://app.example.com/cb', code_challenge_method: 'S256' },
  };

  it.each([
    ['Login_GET', 200, 'authorization_requested success authorization end_user'],
    ['Login_GET', 400, 'authorization_failed failure authorization end_user'],
    ['OAuth2_Authorize_GET', 302, 'authorization_requested success authorization end_user'],
    ['Login_POST', 302, 'login unknown login end_user'],
    ['Login_POST', 400, 'login_failed failure login end_user'],
    ['SAML2Response_POST', 302, 'federation_handshake success federation end_user'],
    ['OAuth2Response_GET', 400, 'federation_handshake failure federation end_user'],
    ['Logout_GET', 302, 'session_ended success end_session end_user'],
    ['UserInfo_GET', 200, 'userinfo_accessed success userinfo unknown'],
    ['Revoke_POST', 200, 'token_revoked success revocation unknown'],
    ['Signup_POST', 302, 'unclassified success - unknown'],
    ['Confirm_POST', 302, 'unclassified success - unknown'],
    ['Error_GET', 400, 'unclassified failure - unknown'],
    ['constructor_GET', 200, 'unclassified success - unknown'],
  ])('%s with %i: %s', (name, status, what) => {
    const [first] = hosted(name, asked, status);
    expect(brief(first)).toBe(what);
  });

  it('tell what was asked for', () => {
    expect(hosted('Login_GET', asked)[0]).toMatchObject({
      ...{ response_type: 'code', redirect_uri: 'https://app.example.com/cb', pkce: 'S256' },
      ...{ scopes_requested: ['openid'], requested_client_id: '' },
    });
    const { code_challenge_method: method, ...plain } = asked;
    expect(method).toBe('S256');
    expect(hosted('Login_GET', plain)[0]?.pkce).toBe('unknown');
    expect(hosted('Login_GET', asked, 400)[0]?.requested_client_id).toBe('web');
  });

  it('name a person only where the id is not masked', () => {
    const sub = 'c2a5b4f4-90f1-70d8-0000-2f5a0d3c1e11';
    expect(hosted('Confirm_POST', { sub, username: MASK })[0]?.subject).toEqual({
      ...{ ref: ring.ref('subject', sub), type: 'user' },
    });
    const masked = hosted('Login_POST', { sub: MASK, client_id: MASK }, 302)[0];
    expect(masked?.subject).toEqual({ ref: '', type: 'unknown' });
    expect(masked?.client.id).toBe('');
  });
});

describe('the API', () => {
  const anonymous = { userIdentity: { type: 'Unknown', principalId: 'Anonymous' } };
  const sub = { additionalEventData: { sub: 'sub-1' } };
  const user = { ref: ring.ref('subject', 'sub-1'), type: 'user' };

  it('tells a sign-in and a wrong password', () => {
    const request = { clientId: 'web', authFlow: 'USER_SRP_AUTH', authParameters: MASK };
    expect(call('InitiateAuth', request, { ...anonymous, ...sub })).toMatchObject({
      ...{ kind: 'login', outcome: 'success', client: { id: 'web' }, subject: user },
      ...{ actor: { ref: '' }, ext: { auth_flow: 'USER_SRP_AUTH' } },
    });
    const wrong = {
      errorCode: 'NotAuthorizedException',
      errorMessage: 'Incorrect username or password.',
    };
    expect(call('InitiateAuth', request, { ...anonymous, ...wrong })).toMatchObject({
      ...{ kind: 'login_failed', outcome: 'failure' },
      error: { code: 'invalid_user_credentials', oauth_error: '', detail: wrong.errorMessage },
    });
  });

  it('tells a challenge and its answer', () => {
    const request = { clientId: 'web', authFlow: 'USER_PASSWORD_AUTH' };
    const responseElements = { challengeName: 'SOFTWARE_TOKEN_MFA', session: MASK };
    const challenged = call('InitiateAuth', request, { ...sub, responseElements });
    expect(brief(challenged)).toBe('mfa_challenged challenge login unknown');
    const answer = { clientId: 'web', challengeName: 'SOFTWARE_TOKEN_MFA' };
    expect(brief(call('RespondToAuthChallenge', answer, sub))).toBe(
      'mfa_result success login unknown',
    );
    const refused = { ...sub, errorCode: 'CodeMismatchException' };
    expect(brief(call('RespondToAuthChallenge', answer, refused))).toBe(
      'mfa_result failure login unknown',
    );
    const password = { clientId: 'web', challengeName: 'PASSWORD_VERIFIER' };
    expect(brief(call('AdminRespondToAuthChallenge', password))).toBe(
      'login success login client_backend',
    );
  });

  it.each([
    ['InitiateAuth', { authFlow: 'REFRESH_TOKEN_AUTH' }, 'token_refreshed success token unknown'],
    ['GetTokensFromRefreshToken', {}, 'token_refreshed success token unknown'],
    ['RevokeToken', {}, 'token_revoked success revocation unknown'],
    ['AdminUserGlobalSignOut', {}, 'session_revoked success - unknown'],
    ['DeleteUserPoolClient', { clientId: 'web' }, 'client_deleted success - unknown'],
    ['SetRiskConfiguration', {}, 'policy_changed success - unknown'],
    ['GetCredentialsForIdentity', { identityId: 'id-1' }, 'token_exchanged success token unknown'],
    ['AdminCreateUser', {}, 'unclassified success - unknown'],
    ['toString', {}, 'unclassified success - unknown'],
  ])('%s %j: %s', (name, request, what) => {
    expect(brief(call(name, request))).toBe(what);
  });

  it('names the grant of a refresh, and its failure', () => {
    expect(call('GetTokensFromRefreshToken', {}).grant_type).toBe('refresh_token');
    const failed = call('GetTokensFromRefreshToken', {}, { errorCode: 'NotAuthorizedException' });
    expect(brief(failed)).toBe('token_request_failed failure token unknown');
  });

  it('tells denials of administration as such, and who tried', () => {
    const arn = 'arn:aws:iam::111122223333:user/ops';
    const userIdentity = { type: 'IAMUser', arn, accountId: '111122223333' };
    const denied = { userIdentity, errorCode: 'AccessDeniedException' };
    expect(call('UpdateUserPool', { userPoolId: POOL }, denied)).toMatchObject({
      ...{ kind: 'policy_changed', outcome: 'denied', source: { tenant: POOL } },
      actor: { ref: ring.ref('subject', arn), type: 'user' },
    });
  });

  it('tells what a client was registered with', () => {
    const userPoolClient = {
      ...{ clientId: 'web', clientName: 'Web', clientSecret: MASK, userPoolId: POOL },
      ...{ callbackURLs: ['https://app.example.com/cb'], allowedOAuthScopes: ['openid', 'email'] },
      ...{
        allowedOAuthFlows: ['code', 'implicit'],
        explicitAuthFlows: ['ALLOW_USER_PASSWORD_AUTH'],
      },
    };
    const created = call(
      'CreateUserPoolClient',
      { clientName: 'Web' },
      {
        responseElements: { userPoolClient },
      },
    );
    expect(created.client).toMatchObject({ id: 'web', name: 'Web' });
    expect(created.ext).toEqual({
      redirect_uris: 'https://app.example.com/cb',
      ...{ scope: 'openid email', grant_types: 'authorization_code implicit password' },
      ...{ client_type: 'confidential', secret_held: 'true' },
    });
    const { clientSecret, ...open } = userPoolClient;
    expect(clientSecret).toBe(MASK);
    const spa = call('UpdateUserPoolClient', {}, { responseElements: { userPoolClient: open } });
    expect(spa.ext).toMatchObject({ client_type: 'public', secret_held: 'false' });
    expect(call('UpdateUserPoolClient', { clientId: 'web' }).ext).toEqual({});
    expect(call('AddUserPoolClientSecret', { clientId: 'web' }).key).toEqual({
      ...{ kid: 'web', operation: 'AddUserPoolClientSecret', store: 'cognito' },
    });
  });
});

describe('what carries records', () => {
  const one = record('Login_GET');
  const text = JSON.stringify(one);
  it.each([
    ['a log file', { Records: [one, one] }, [one, one]],
    [
      'a subscription',
      { logEvents: [{ id: '1', message: text }, { message: 'no JSON' }] },
      [one, { message: 'no JSON' }],
    ],
    ['an event bus', { 'detail-type': 'AWS Service Event', detail: one }, [one]],
    ['nothing', one, [one]],
    ['another detail', { detail: { a: 1 } }, [{ detail: { a: 1 } }]],
  ])('%s', (_, value, records) => {
    expect(recordsOf(cognito, { raw: value, row: {} })).toEqual(records.map(json));
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
    ['a list', json([]), 'not_an_object', 'record: must be a JSON object'],
    [
      'no record',
      json({ eventName: 'Token_POST' }),
      'unrecognised_record',
      'record: no CloudTrail record; eventSource and eventName are needed',
    ],
    [
      'another service',
      json(record('Sign', { eventSource: 'kms.amazonaws.com' })),
      'unrecognised_record',
      'eventSource: no service of Amazon Cognito',
    ],
    [
      'no time',
      json(record('Token_POST', { eventTime: undefined })),
      'missing_field',
      'eventTime: is required',
    ],
    [
      'a wrong time',
      json(record('Token_POST', { eventTime: 'soon' })),
      'invalid_time',
      'eventTime: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
  ])('%s', (_, value, code, message) => {
    expect(cognito.parse(value, { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code, message },
    });
  });

  it('takes wrong types for absent values', () => {
    const wrong = { additionalEventData: { requestParameters: 7, responseParameters: [] } };
    const [first] = keep(record('Token_POST', { ...wrong, userIdentity: 'x', userAgent: {} }));
    expect(first).toMatchObject({ kind: 'token_issued', outcome: 'success', client: { id: '' } });
  });
});

describe('provides', () => {
  it('is what the events of this file fill, no more and no less', () => {
    expect(filledFields(seen)).toEqual([...cognito.provides].sort());
  });
});

describe.skipIf(!hasSamples)('real samples', () => {
  it('come out as what they are', () => {
    const rows = sampleRows('cognito_cloudtrail.ndjson');
    const records = rows.flatMap((row) => recordsOf(cognito, row));
    const events = records.flatMap((r) => eventsOf(cognito, r));
    for (const e of events) AuthEvent.parse(e);
    process.stdout.write(`samples cognito: ${records.length} records, ${events.length} events\n`);
    expect(events.map((e) => [e.kind, e.grant_type, e.http.status])).toEqual([
      ['token_issued', 'authorization_code', 200],
      ['code_redeemed', 'authorization_code', 200],
      ['token_issued', 'client_credentials', 200],
    ]);
  });
});
