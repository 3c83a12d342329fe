import { describe, expect, it } from 'vitest';
import entra from '../../collector/sources/entra.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const time = '2026-01-01T00:00:00.1234567Z';
const at = 1_767_225_600_123_456_700n;
const tenant = '0f0e0d0c-0b0a-4908-8706-050403020100';
const app = '11111111-2222-4333-8444-555555555555';
const user = '21111111-2222-4333-8444-555555555555';
const service = '31111111-2222-4333-8444-555555555555';
const api = '41111111-2222-4333-8444-555555555555';
const session = '51111111-2222-4333-8444-555555555555';
const signInId = '61111111-2222-4333-8444-555555555555';
const corr = '71111111-2222-4333-8444-555555555555';
/** One token, as each log writes it. */
const token = '33221100-5544-7766-8899-aabbccddeeff';
const tokenBytes = Buffer.from('00112233445566778899aabbccddeeff', 'hex').toString('base64url');
const tokenText = Buffer.from(token).toString('base64');
const AGENT = 'Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0.0.0 Safari/537.36';
const AGENT_FAMILY = 'Chrome';

const person = {
  ...{ id: signInId, createdDateTime: '2026-01-01T00:00:00.1234567+00:00', userId: user },
  ...{ userPrincipalName: 'ada@example.com', appId: app, appDisplayName: 'Shop' },
  ...{ ipAddress: '203.0.113.9', status: { errorCode: 0 }, userAgent: AGENT },
  ...{ clientAppUsed: 'Browser', resourceId: api, resourceDisplayName: 'Orders' },
  location: { city: 'Lyon', countryOrRegion: 'FR' },
  ...{ correlationId: corr, conditionalAccessStatus: 'success', isInteractive: true },
  ...{ riskLevelDuringSignIn: 'low', authenticationRequirement: 'multiFactorAuthentication' },
  authenticationDetails: [
    { authenticationMethod: 'Password', succeeded: true },
    { authenticationMethod: 'Previously satisfied', succeeded: true },
    { authenticationMethod: 'Text message', succeeded: false },
  ],
  authenticationProcessingDetails: [
    { key: 'Login Hint Present', value: 'True' },
    { key: 'Oauth Scope Info', value: '["User.Read","openid"]' },
  ],
  ...{ processingTimeInMilliseconds: 91, uniqueTokenIdentifier: tokenBytes, sessionId: session },
  ...{ incomingTokenType: 'none', authenticationProtocol: 'none' },
  signInTokenProtectionStatus: 'bound',
};
const envelope = {
  ...{ time: '2026-01-01T00:01:00Z', operationName: 'Sign-in activity', category: 'SignInLogs' },
  ...{ tenantId: tenant, resultType: '0', callerIpAddress: '203.0.113.1', location: 'FR' },
};
const signIn = (more: object = {}, category = 'SignInLogs', outer: object = {}) => ({
  ...{ ...envelope, category, ...outer },
  properties: { ...person, ...more },
});
const shared = {
  time: at,
  observed_time: 1_767_225_660_000_000_000n,
  client: { id: app, name: 'Shop' },
  subject: { ref: ring.ref('subject', user), type: 'user' as const },
  audience: [api],
  binding: 'device' as const,
  session_ref: ring.ref('session', session),
  net: {
    ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' as const },
    ...{ country: 'FR', user_agent: AGENT, ua_family: AGENT_FAMILY },
  },
  http: { duration_ms: 91 },
  policy: { decision: 'allow' },
  risk: 'low',
  acr: 'multiFactorAuthentication',
  amr: ['Password'],
  corr: { request_id: signInId, transaction_id: corr },
  ext: { client_app: 'Browser', resource_name: 'Orders' },
};
const issued = [
  {
    ...{ role: 'issued' as const, type: 'access' as const, ref: token },
    ...{ ref_kind: 'vendor_id' as const, issued_at: at },
  },
];
const read = (value: unknown) => eventsOf(entra, json(value));
const one = (value: unknown) => {
  const events = read(value);
  expect(events.length).toBe(1);
  return events[0]!;
};
const refusal = (value: unknown) => entra.parse(json(value), { received_at: RECEIVED_AT });

describe('sign-ins', () => {
  it('an interactive one with a token is a login and an issue', () => {
    const [login, issue, ...rest] = read(signIn());
    expect(rest).toEqual([]);
    expect(login!.event_id).toBe(signInId);
    expect(issue!.event_id).not.toBe(signInId);
    const source = { tenant, raw_type: 'signIn interactiveUser' };
    expect(withoutId(login!)).toEqual(
      expected(entra, {
        ...{ ...shared, source, kind: 'login', outcome: 'success', endpoint: 'authorization' },
        redaction: { fields: ['session_ref', 'subject.ref'] },
      }),
    );
    expect(withoutId(issue!)).toEqual(
      expected(entra, {
        ...{ ...shared, source, kind: 'token_issued', outcome: 'success', endpoint: 'token' },
        ...{ tokens: issued, scopes_granted: ['User.Read', 'openid'] },
        redaction: { fields: ['session_ref', 'subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it('the flat form of Graph says the same', () => {
    const flat = { ...person, signInEventTypes: ['interactiveUser'], resourceTenantId: tenant };
    const events = read(flat).map((e) => ({ ...e, observed_time: 0n }));
    expect(events).toEqual(read(signIn()).map((e) => ({ ...e, observed_time: 0n })));
  });

  it('names one token however the log writes its identifier', () => {
    const refOf = (id: unknown) => read(signIn({ uniqueTokenIdentifier: id }))[1]?.tokens[0]?.ref;
    const graph = { category: 'MicrosoftGraphActivityLogs', operationName: 'x', time };
    const used = (id: string) =>
      one({ ...graph, properties: { signInActivityId: id } }).tokens[0]?.ref;
    expect(
      [token, token.toUpperCase(), tokenBytes, `${tokenBytes}==`, tokenText].map(refOf),
    ).toEqual(Array<string>(5).fill(token));
    expect([tokenBytes, tokenText, token].map(used)).toEqual(Array<string>(3).fill(token));
    expect(refOf('another one')).toBe(ring.refOfJti('another one'));
    for (const none of [
      '',
      'AAAAAAAAAAAAAAAAAAAAAA',
      '00000000-0000-0000-0000-000000000000',
      7,
      {},
    ]) {
      expect(refOf(none), JSON.stringify(none)).toBe(none === 7 ? ring.refOfJti('7') : undefined);
    }
  });

  it.each([
    ['NonInteractiveUserSignInLogs', 'refreshToken', 'token_refreshed', 'refresh_token'],
    ['NonInteractiveUserSignInLogs', 'primaryRefreshToken', 'token_issued', ''],
    ['noninteractiveusersigninlogs', 'none', 'token_issued', ''],
  ])('%s with %s: %s', (category, incomingTokenType, kind, grant) => {
    const event = one(signIn({ incomingTokenType, isInteractive: false }, category));
    expect([event.kind, event.grant_type, event.outcome, event.net.ip_role]).toEqual([
      ...[kind, grant, 'success', 'unknown'],
    ]);
    expect(event.source.raw_type).toBe('signIn nonInteractiveUser');
    expect(event.tokens).toMatchObject(issued);
  });

  it.each([
    ['ServicePrincipalSignInLogs', 'clientSecret', 'client_secret', 'signIn servicePrincipal'],
    ['ServicePrincipalSignInLogs', 'clientAssertion', 'private_key_jwt', 'signIn servicePrincipal'],
    ['ServicePrincipalSignInLogs', 'none', '', 'signIn servicePrincipal'],
    ['ManagedIdentitySignInLogs', 'managedIdentity', 'managed_identity', 'signIn managedIdentity'],
  ])('%s by %s', (category, clientCredentialType, method, rawType) => {
    const event = one(
      signIn(
        {
          ...{ userId: null, userPrincipalName: '', servicePrincipalId: service },
          ...{ servicePrincipalCredentialKeyId: corr, clientCredentialType, isInteractive: false },
        },
        category,
      ),
    );
    expect(event).toMatchObject({
      ...{ kind: 'token_issued', grant_type: 'client_credentials', key: { kid: corr } },
      client: { id: app, auth_method: method },
      subject: { ref: ring.ref('subject', service), type: 'service' },
      net: { ip_role: 'client_backend' },
      source: { raw_type: rawType },
    });
  });

  it('a password grant and a device code are told by the protocol', () => {
    const grantOf = (more: object) => read(signIn(more)).map((e) => [e.kind, e.grant_type]);
    const device = 'urn:ietf:params:oauth:grant-type:device_code';
    expect(grantOf({ authenticationProtocol: 'ropc' })).toEqual([['token_issued', 'password']]);
    expect(grantOf({ authenticationProtocol: 'deviceCode' })).toEqual([
      ['login', ''],
      ['token_issued', device],
    ]);
    expect(grantOf({ originalTransferMethod: 'deviceCodeFlow' })).toEqual([
      ['login', ''],
      ['token_issued', device],
    ]);
    expect(grantOf({ authenticationProtocol: 'saml20' })).toEqual([['login', '']]);
    expect(grantOf({ uniqueTokenIdentifier: '' })).toEqual([['login', '']]);
  });

  it.each([
    [50126, 'login_failed', 'failure', ''],
    [50053, 'login_failed', 'denied', ''],
    [50034, 'login_failed', 'failure', ''],
    [50074, 'mfa_challenged', 'challenge', 'interaction_required'],
    [50076, 'mfa_challenged', 'challenge', 'interaction_required'],
    [500121, 'mfa_result', 'failure', ''],
    [50140, 'login', 'pending', 'interaction_required'],
    [50058, 'login', 'pending', 'login_required'],
    [53003, 'login_failed', 'denied', 'access_denied'],
    [50105, 'authorization_failed', 'denied', 'access_denied'],
    [50011, 'authorization_failed', 'failure', 'invalid_request'],
    [700016, 'authorization_failed', 'failure', 'unauthorized_client'],
    [65001, 'authorization_failed', 'pending', 'consent_required'],
    [65004, 'consent_denied', 'denied', 'access_denied'],
    [70011, 'authorization_failed', 'failure', 'invalid_scope'],
    [999999, 'login_failed', 'failure', ''],
  ])('AADSTS%i of a person', (errorCode, kind, outcome, oauth) => {
    const event = one(signIn({ status: { errorCode, failureReason: 'It failed.' } }));
    expect([event.kind, event.outcome]).toEqual([kind, outcome]);
    expect(event.error).toEqual({
      ...{ code: `AADSTS${errorCode}`, oauth_error: oauth, detail: 'It failed.' },
    });
    expect(event.requested_client_id).toBe(kind === 'authorization_failed' ? app : '');
    expect([event.tokens, event.scopes_granted, event.scopes_requested]).toEqual([
      ...[[], [], ['User.Read', 'openid']],
    ]);
  });

  it.each([
    ['ServicePrincipalSignInLogs', 7000215, 'failure', 'invalid_client', 'client_credentials'],
    ['ServicePrincipalSignInLogs', 7000222, 'failure', 'invalid_client', 'client_credentials'],
    ['ServicePrincipalSignInLogs', 700016, 'failure', 'unauthorized_client', 'client_credentials'],
    ['NonInteractiveUserSignInLogs', 70008, 'failure', 'invalid_grant', 'refresh_token'],
    ['NonInteractiveUserSignInLogs', 54005, 'failure', 'invalid_grant', 'refresh_token'],
    ['NonInteractiveUserSignInLogs', 90033, 'failure', 'temporarily_unavailable', 'refresh_token'],
    ['NonInteractiveUserSignInLogs', 50076, 'challenge', 'interaction_required', 'refresh_token'],
    ['NonInteractiveUserSignInLogs', 123, 'failure', '', 'refresh_token'],
  ])('%s AADSTS%i is a refused token request', (category, errorCode, outcome, oauth, grant) => {
    const event = one(
      signIn({ status: { errorCode }, incomingTokenType: 'refreshToken' }, category),
    );
    expect([event.kind, event.outcome, event.error.oauth_error, event.grant_type]).toEqual([
      ...['token_request_failed', outcome, oauth, grant],
    ]);
  });

  it('a refused password grant is a refused token request', () => {
    const more = { authenticationProtocol: 'ropc', status: { errorCode: 50126 } };
    expect(one(signIn(more))).toMatchObject({
      ...{ kind: 'token_request_failed', grant_type: 'password', endpoint: 'token' },
      error: { code: 'AADSTS50126', oauth_error: 'invalid_grant' },
    });
  });

  it('reads the result of the envelope where the record has no status', () => {
    const of = (resultType: unknown) =>
      read(signIn({ status: null }, 'SignInLogs', { resultType }))[0]!;
    expect([of('50126').kind, of('50126').error.code]).toEqual(['login_failed', 'AADSTS50126']);
    expect([of('Failure').kind, of('Failure').error.code]).toEqual(['login_failed', '']);
    expect([of('0').kind, of('Success').kind, of(undefined).kind]).toEqual(
      Array<string>(3).fill('login'),
    );
  });

  it('reads lists and objects that are written as text', () => {
    const [login] = read(
      signIn({
        status: '{"errorCode":0}',
        location: '{"countryOrRegion":"DE"}',
        authenticationDetails: '[{"authenticationMethod":"FIDO2","succeeded":true}]',
      }),
    );
    expect([login!.net.country, login!.amr]).toEqual(['DE', ['FIDO2']]);
  });

  it('the GUID of zeros is nobody; a hidden name is no reference', () => {
    const zero = '00000000-0000-0000-0000-000000000000';
    const [byName] = read(signIn({ userId: zero, sessionId: zero, appId: zero }));
    expect(byName!.subject.ref).toBe(ring.ref('subject', 'ada@example.com'));
    expect([byName!.session_ref, byName!.client.id]).toEqual(['', '']);
    const [hidden] = read(signIn({ userId: '***', userPrincipalName: '***' }));
    expect([hidden!.subject.ref, hidden!.redaction.upstream]).toEqual(['', true]);
  });

  it('names the conditional access policies that failed', () => {
    const event = one(
      signIn({
        status: { errorCode: 53003 },
        conditionalAccessStatus: 'failure',
        appliedConditionalAccessPolicies: [
          { displayName: 'Block elsewhere', result: 'failure' },
          { displayName: 'Ask for more', result: 'notApplied' },
        ],
      }),
    );
    expect(event.policy).toMatchObject({ decision: 'deny', path: 'Block elsewhere' });
  });
});

const audit = (activityDisplayName: string, more: object = {}) => ({
  ...{ time: '2026-01-01T00:01:00Z', operationName: activityDisplayName, category: 'AuditLogs' },
  ...{ tenantId: tenant, correlationId: corr, callerIpAddress: '203.0.113.1' },
  properties: {
    ...{ id: 'Directory_1', activityDateTime: time, activityDisplayName, result: 'success' },
    ...{ category: 'ApplicationManagement', loggedByService: 'Core Directory' },
    initiatedBy: {
      user: { id: user, userPrincipalName: 'ada@example.com', ipAddress: '203.0.113.9' },
    },
    ...more,
  },
});
const changed = (displayName: string, newValue: string | null, oldValue: string | null = null) => ({
  ...{ displayName, newValue, oldValue },
});
const target = (type: string, modifiedProperties: object[] = [], more: object = {}) => ({
  ...{ id: service, displayName: 'Shop', type, modifiedProperties, ...more },
});
const actor = { ref: ring.ref('subject', user), type: 'user' as const };

describe('directory audit', () => {
  const permissions =
    '"[] => [[Id: a1, ClientId: b2, PrincipalId: c3, ResourceId: d4, ConsentType: Principal, Scope:  User.Read Mail.ReadWrite, CreatedDateTime: , LastModifiedDateTime ]]; "';
  const consent = (changes: object[]) =>
    audit('Consent to application', { targetResources: [target('ServicePrincipal', changes)] });

  it('consent of a person', () => {
    const event = one(
      consent([
        changed('ConsentContext.IsAdminConsent', '"False"'),
        changed('ConsentAction.Permissions', permissions),
        changed('TargetId.ServicePrincipalNames', `"${app}"`),
      ]),
    );
    expect(withoutId(event)).toEqual(
      expected(entra, {
        time: at,
        observed_time: 1_767_225_660_000_000_000n,
        source: { tenant, raw_type: 'Consent to application' },
        kind: 'consent_granted',
        outcome: 'success',
        client: { id: service, name: 'Shop' },
        subject: actor,
        actor,
        scopes_granted: ['Mail.ReadWrite', 'User.Read'],
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' },
        corr: { transaction_id: corr },
        ext: { consent_type: 'Principal', admin_consent: 'false' },
        redaction: { fields: ['actor.ref', 'subject.ref'] },
      }),
    );
  });

  it('consent for everybody names no subject', () => {
    const all = permissions.replace('Principal,', 'AllPrincipals,');
    const event = one(consent([changed('ConsentAction.Permissions', all)]));
    expect([event.subject.ref, event.ext['consent_type']]).toEqual(['', 'AllPrincipals']);
    expect(event.scopes_granted).toEqual(['Mail.ReadWrite', 'User.Read']);
    const flagged = one(consent([changed('ConsentContext.OnBehalfOfAll', '"True"')]));
    expect([flagged.subject.ref, flagged.scopes_granted]).toEqual(['', []]);
  });

  it('delegated permission and app role', () => {
    const delegated = one(
      audit('Add delegated permission grant', {
        targetResources: [
          target('ServicePrincipal', [
            changed('DelegatedPermissionGrant.Scope', '" openid profile"'),
            changed('DelegatedPermissionGrant.ConsentType', '"AllPrincipals"'),
            changed('ServicePrincipal.ObjectID', `"${api}"`),
          ]),
        ],
      }),
    );
    expect(delegated).toMatchObject({
      ...{ kind: 'consent_granted', scopes_granted: ['openid', 'profile'] },
      client: { id: api },
      subject: { ref: '' },
    });
    const role = one(
      audit('Add app role assignment to service principal', {
        targetResources: [
          target('ServicePrincipal', [
            changed('AppRole.Value', '"Directory.ReadWrite.All"'),
            changed('ServicePrincipal.DisplayName', '"Robot"'),
            changed('ServicePrincipal.AppId', `"${app}"`),
          ]),
        ],
      }),
    );
    expect(role).toMatchObject({
      ...{ kind: 'consent_granted', scopes_granted: ['Directory.ReadWrite.All'] },
      client: { id: app, name: 'Robot' },
      subject: { ref: '' },
      ext: { consent_type: 'Application' },
    });
  });

  it('credentials: which key came or went', () => {
    const key = (id: string) =>
      `[KeyIdentifier=${id},KeyType=Password,KeyUsage=Verify,DisplayName=ci]`;
    const credential = (newValue: string, oldValue: string) =>
      one(
        audit('Update application – Certificates and secrets management ', {
          targetResources: [
            target('Application', [
              changed('KeyDescription', JSON.stringify([newValue]), JSON.stringify([oldValue])),
            ]),
          ],
        }),
      );
    const operation = 'Update application – Certificates and secrets management';
    const added = credential(`${key(api)},${key(corr)}`, key(api));
    expect(added).toMatchObject({
      ...{ kind: 'client_credential_changed', client: { id: service }, actor },
      ...{ key: { kid: corr, operation, store: '' }, ext: { key_type: 'Password' } },
    });
    expect(credential(key(api), `${key(api)},${key(corr)}`).key.kid).toBe(corr);
  });

  it('a change of redirect URIs states them all', () => {
    const event = one(
      audit('Update application', {
        targetResources: [
          target('Application', [
            changed(
              'AppAddress',
              '[{"AddressType":0,"Address":"https://shop.example.com/cb"},{"Address":"https://b.example.com/cb"}]',
              '[]',
            ),
            changed('AppId', `["${app}"]`),
          ]),
        ],
      }),
    );
    expect(event).toMatchObject({ kind: 'client_updated', client: { id: app } });
    expect(event.ext['redirect_uris']).toBe('https://shop.example.com/cb https://b.example.com/cb');
  });

  it.each([
    ['Update StsRefreshTokenValidFrom Timestamp', 'grant_revoked', 'success'],
    ['Revoke user sign-in sessions', 'session_revoked', 'success'],
    ['Add member to role', 'elevation_granted', 'success'],
    ['Add member to role completed (PIM activation)', 'elevation_granted', 'success'],
    ['Add member to role in PIM requested (permanent)', 'elevation_granted', 'pending'],
    ['Add member to role requested (PIM activation)', 'elevation_granted', 'pending'],
    ['Remove member from role (PIM activation expired)', 'elevation_ended', 'success'],
  ])('%s is about a person', (operation, kind, outcome) => {
    const other = '81111111-2222-4333-8444-555555555555';
    const event = one(
      audit(operation, {
        targetResources: [
          target('User', [changed('Role.DisplayName', '"Reader"')], { id: other }),
          target('Role', [], { displayName: 'Reader' }),
        ],
      }),
    );
    expect([event.kind, event.outcome]).toEqual([kind, outcome]);
    expect(event.phase).toBe(outcome === 'pending' ? 'attempt' : 'single');
    expect([event.subject.ref, event.actor.ref]).toEqual([ring.ref('subject', other), actor.ref]);
    expect(event.ext).toEqual({ role: 'Reader' });
  });

  it.each([
    ['Add application', 'client_registered'],
    ['Add service principal', 'client_registered'],
    ['Update service principal', 'client_updated'],
    ['Delete application', 'client_deleted'],
    ['Hard Delete application', 'client_deleted'],
    ['Remove service principal', 'client_deleted'],
    ['Add service principal credentials', 'client_credential_changed'],
    ['Remove service principal credentials', 'client_credential_changed'],
    ['Remove delegated permission grant', 'consent_revoked'],
    ['Set domain authentication', 'policy_changed'],
    ['Update conditional access policy', 'policy_changed'],
    ['Add user', 'unclassified'],
    ['constructor', 'unclassified'],
  ])('%s: %s', (operation, kind) => {
    const event = one(audit(operation, { targetResources: [target('ServicePrincipal')] }));
    expect([event.kind, event.source.raw_type]).toEqual([kind, operation]);
  });

  it('a policy by its category; a failure with its reason; an application that acts', () => {
    const more = { category: 'Policy', targetResources: [target('Policy')] };
    expect(one(audit('Some new policy thing', more))).toMatchObject({
      ...{ kind: 'policy_changed', policy: { path: 'Shop' } },
    });
    const failed = one(
      audit('Consent to application', {
        ...{ result: 'failure', resultReason: 'Not allowed.' },
        initiatedBy: { user: null, app: { servicePrincipalId: service, displayName: 'Robot' } },
      }),
    );
    expect(failed).toMatchObject({
      ...{ outcome: 'failure', error: { detail: 'Not allowed.' } },
      actor: { ref: ring.ref('subject', service), type: 'service' },
      net: { client_ip: '203.0.113.1', ip_role: 'unknown' },
    });
  });

  it('the flat form of Graph, without an envelope', () => {
    const { properties } = audit('Update StsRefreshTokenValidFrom Timestamp', {
      targetResources: [{ id: user, Type: 'User', userPrincipalName: 'ada@example.com' }],
    });
    expect(one(properties)).toMatchObject({
      ...{ kind: 'grant_revoked', time: at, subject: actor, corr: { transaction_id: '' } },
    });
  });
});

describe('Graph activity', () => {
  const call = (more: object = {}) => ({
    ...{ time, category: 'MicrosoftGraphActivityLogs', operationName: 'Microsoft Graph Activity' },
    ...{ tenantId: tenant, callerIpAddress: '203.0.113.1', durationMs: '497815' },
    properties: {
      ...{ timeGenerated: time, requestId: signInId, clientRequestId: corr, requestMethod: 'GET' },
      ...{ responseStatusCode: 200, durationMs: 497_815, signInActivityId: tokenBytes, roles: '' },
      ...{ appId: app, scopes: 'openid User.Read', clientAuthMethod: '2', C_Idtyp: 'user' },
      ...{ ipAddress: '203.0.113.9', userAgent: 'curl/8.5.0', userId: user, sessionId: session },
      requestUri: `https://graph.microsoft.com/v1.0/users/ada@example.com/messages/${api}?$top=5`,
      tokenIssuedAt: '2025-12-31T23:50:00.0000000Z',
      ...more,
    },
  });

  it('a call with the token of a sign-in', () => {
    const event = one(call());
    expect(event.event_id).toBe(signInId);
    expect(withoutId(event)).toEqual(
      expected(entra, {
        ...{ time: at, observed_time: at, kind: 'api_accessed', outcome: 'success' },
        source: { tenant, raw_type: 'MicrosoftGraphActivityLogs' },
        client: { id: app, auth_method: 'private_key_jwt' },
        subject: actor,
        resource: ['graph.microsoft.com'],
        scopes_granted: ['User.Read', 'openid'],
        session_ref: ring.ref('session', session),
        tokens: [
          {
            ...{ role: 'presented', type: 'access', ref: token, ref_kind: 'vendor_id' },
            issued_at: 1_767_225_000_000_000_000n,
          },
        ],
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
          ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
        },
        http: { method: 'GET', route: '/v1.0/users/*/messages/*', status: 200 },
        corr: { request_id: signInId, transaction_id: corr },
        redaction: { fields: ['session_ref', 'subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it.each([
    [403, 'api_accessed', 'denied'],
    [401, 'api_accessed', 'denied'],
    [404, 'api_accessed', 'failure'],
    [500, 'api_accessed', 'failure'],
    [429, 'rate_limited', 'denied'],
    [null, 'api_accessed', 'unknown'],
  ])('status %s', (responseStatusCode, kind, outcome) => {
    const event = one(call({ responseStatusCode }));
    expect([event.kind, event.outcome]).toEqual([kind, outcome]);
  });

  it('a service calls from a back end; keys in a path are nobody else to know', () => {
    const event = one(
      call({
        ...{ userId: '', servicePrincipalId: service, C_Idtyp: 'app', clientAuthMethod: '0' },
        ...{ scopes: '', roles: 'Device.Read.All User.Read.All' },
        requestUri: "https://graph.microsoft.com/beta/users('ada')/drive",
      }),
    );
    expect(event).toMatchObject({
      subject: { ref: ring.ref('subject', service), type: 'service' },
      scopes_granted: ['Device.Read.All', 'User.Read.All'],
      client: { auth_method: 'none' },
      net: { ip_role: 'client_backend' },
      http: { route: '/beta/users(*)/drive' },
    });
  });
});

describe('risk detections', () => {
  const risk = {
    ...{ id: 'r1', requestId: signInId, correlationId: corr, riskEventType: 'unfamiliarFeatures' },
    ...{
      riskState: 'atRisk',
      riskLevel: 'high',
      riskDetail: 'none',
      detectionTimingType: 'realtime',
    },
    ...{ ipAddress: '203.0.113.9', location: { countryOrRegion: 'FR' }, userId: user },
    detectedDateTime: '2026-01-01T14:00:00Z',
  };

  it('one event per state, at the time of the state', () => {
    const event = one({ ...risk, lastUpdatedDateTime: time });
    expect(withoutId(event)).toEqual(
      expected(entra, {
        ...{ time: at, kind: 'risk_signal', source: { raw_type: 'unfamiliarFeatures' } },
        ...{ subject: actor, risk: 'high', corr: { request_id: signInId, transaction_id: corr } },
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' },
          country: 'FR',
        },
        ext: { risk_state: 'atRisk', risk_detail: '', detection_timing: 'realtime' },
        redaction: { fields: ['subject.ref'] },
      }),
    );
    expect(one({ ...risk, riskState: 'dismissed' }).event_id).not.toBe(event.event_id);
    expect(one({ ...risk, riskState: 'atRisk' }).event_id).toBe(event.event_id);
  });

  it.each([
    ['3/24/2026 2:42:35 PM', '2026-03-24T14:42:35.000Z'],
    ['12/31/2026 12:00:00 AM', '2026-12-31T00:00:00.000Z'],
    ['1/5/2026 12:30:00 PM', '2026-01-05T12:30:00.000Z'],
  ])('%s', (written, iso) => {
    const properties = { ...risk, detectedDateTime: undefined };
    const event = one({
      time: written,
      category: 'UserRiskEvents',
      operationName: 'x',
      properties,
    });
    expect(event.time).toBe(BigInt(Date.parse(iso)) * 1_000_000n);
  });

  it('of a service, and without a level', () => {
    const rest = { ...risk, userId: null };
    const event = one({ ...rest, servicePrincipalId: service, riskLevel: 'hidden', appId: app });
    expect(event).toMatchObject({
      ...{
        subject: { type: 'service' },
        risk: '',
        client: { id: app },
        net: { ip_role: 'unknown' },
      },
    });
  });
});

describe('the unified audit log', () => {
  const unified = {
    ...{ CreationTime: '2026-01-01T00:00:00', Id: signInId, OrganizationId: tenant },
    ...{ Workload: 'AzureActiveDirectory', UserId: 'ada@example.com', ResultStatus: 'Success' },
    Actor: [
      { ID: 'ada@example.com', Type: 5 },
      { ID: user, Type: 0 },
    ],
    ...{
      ActorIpAddress: '203.0.113.9',
      ClientIP: '<null>',
      IntraSystemId: api,
      InterSystemsId: corr,
    },
    ...{ ApplicationId: app, ObjectId: service },
    ExtendedProperties: [
      { Name: 'UserAgent', Value: AGENT },
      { Name: 'RequestType', Value: 'OAuth2:Authorize' },
    ],
  };
  const whole = 1_767_225_600_000_000_000n;

  it('a sign-in', () => {
    const event = one({ ...unified, Operation: 'UserLoggedIn', ErrorNumber: '0' });
    expect(event.event_id).toBe(signInId);
    expect(withoutId(event)).toEqual(
      expected(entra, {
        ...{ time: whole, kind: 'login', outcome: 'success', endpoint: 'authorization' },
        source: { tenant, raw_type: 'UserLoggedIn' },
        ...{ client: { id: app }, subject: actor, audience: [service] },
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' },
          ...{ user_agent: AGENT, ua_family: AGENT_FAMILY },
        },
        corr: { request_id: api, transaction_id: corr },
        ext: { request_type: 'OAuth2:Authorize' },
        redaction: { fields: ['subject.ref'] },
      }),
    );
  });

  it('a failed one, although its result status says Success', () => {
    const failed = { ...unified, Operation: 'UserLoginFailed', LogonError: 'InvalidPassword' };
    expect(one({ ...failed, ErrorNumber: '50126' })).toMatchObject({
      ...{ kind: 'login_failed', outcome: 'failure' },
      error: { code: 'AADSTS50126', oauth_error: '', detail: 'InvalidPassword' },
    });
    expect(one({ ...failed, ErrorNumber: '500121' }).kind).toBe('mfa_result');
    expect(one(failed)).toMatchObject({ kind: 'login_failed', error: { code: '' } });
  });

  it('a directory change, with the same names as in the audit log', () => {
    const event = one({
      ...{ ...unified, Operation: 'Remove member from role.', Target: [{ ID: service, Type: 2 }] },
      ModifiedProperties: [{ Name: 'Role.DisplayName', NewValue: '', OldValue: 'Global Reader' }],
    });
    expect(event).toMatchObject({
      ...{ kind: 'elevation_ended', outcome: 'success', actor, ext: { role: 'Global Reader' } },
      subject: { ref: ring.ref('subject', service) },
      source: { raw_type: 'Remove member from role' },
    });
  });

  it('a call of another service with a token', () => {
    const file = {
      ...{
        ...unified,
        Operation: 'FileDownloaded',
        Workload: 'SharePoint',
        ResultStatus: undefined,
      },
      AppAccessContext: {
        ...{ AADSessionId: session, UniqueTokenId: tokenBytes, ClientAppId: app },
        ...{ ClientAppName: 'Shop', CorrelationId: corr, IssuedAtTime: '2025-12-31T23:50:00' },
      },
    };
    expect(one(file)).toMatchObject({
      ...{
        kind: 'api_accessed',
        outcome: 'success',
        resource: ['SharePoint'],
        client: { id: app },
      },
      session_ref: ring.ref('session', session),
      tokens: [{ role: 'presented', ref: token, issued_at: 1_767_225_000_000_000_000n }],
    });
    const nil = { UniqueTokenId: 'AAAAAAAAAAAAAAAAAAAAAA' };
    expect(one({ ...file, AppAccessContext: nil })).toMatchObject({
      kind: 'unclassified',
      tokens: [],
    });
  });
});

describe('containers and refusals', () => {
  it('opens what an Event Hub and Graph send', () => {
    expect(entra.unwrap!({ records: [1, 2] })).toEqual([1, 2]);
    expect(entra.unwrap!({ '@odata.context': 'x', value: [3] })).toEqual([3]);
    for (const value of [{ records: 'x' }, signIn(), [], null, 'x', 7]) {
      expect(entra.unwrap!(value)).toBeUndefined();
    }
  });

  it.each([
    [
      { hello: 'world' },
      'unrecognised_record',
      'record: no Entra log; category and operationName, a Graph signIn, directoryAudit or riskDetection, or Operation and CreationTime are needed',
    ],
    [{ operationName: 'x', category: 'AuditLogs' }, 'missing_field', 'time: is required'],
    [
      { operationName: 'x', category: 'AuditLogs', time: '13/24/2026 2:42:35 PM' },
      'invalid_time',
      'time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns, M/D/YYYY h:mm:ss PM',
    ],
    [
      { operationName: 'x', category: 'UserRiskEvents', time: '1/2/2026 13:42:35 PM' },
      'invalid_time',
      'time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns, M/D/YYYY h:mm:ss PM',
    ],
    [[], 'not_an_object', 'record: must be a JSON object'],
  ])('refuses %j', (value, code, message) => {
    expect(refusal(value)).toEqual({ ok: false, code, message });
  });

  it('refuses text', () => {
    expect(entra.parse(line('x'), { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code: 'unsupported_form' },
      message: 'text: allowed is JSON, as diagnostic settings and Graph write it',
    });
  });

  it('keeps other logs of Azure under their own name', () => {
    const activity = {
      ...{ time, category: 'Administrative', tenantId: tenant, callerIpAddress: '203.0.113.9' },
      operationName: { value: 'Microsoft.Authorization/locks/delete', localizedValue: 'Delete' },
    };
    expect(one(activity)).toMatchObject({
      ...{ kind: 'unclassified', net: { client_ip: '203.0.113.9' } },
      source: { raw_type: 'Microsoft.Authorization/locks/delete', tenant },
    });
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      `{"time":"${time}","category":"SignInLogs","operationName":"x","resultType":{},"properties":` +
        '{"status":[],"location":"[","clientCredentialType":"__proto__","authenticationDetails":{},' +
        '"authenticationProtocol":"constructor","appliedConditionalAccessPolicies":[1,null],' +
        '"userId":{"a":1},"uniqueTokenIdentifier":[],"__proto__":{"appId":"x"}}}',
    ) as unknown;
    expect(one(hostile)).toMatchObject({
      ...{ kind: 'login', outcome: 'success', client: { id: '', auth_method: '' }, tokens: [] },
      subject: { ref: '' },
    });
  });
});

it('provides what it says', () => {
  const key = '"[\\"[KeyIdentifier=a,KeyType=Password]\\"]"';
  const events = [
    ...[signIn({ clientCredentialType: 'clientSecret' }), signIn({ status: { errorCode: 50011 } })],
    signIn({ appliedConditionalAccessPolicies: [{ displayName: 'P', result: 'failure' }] }),
    signIn(
      { incomingTokenType: 'refreshToken', servicePrincipalCredentialKeyId: corr },
      'NonInteractiveUserSignInLogs',
    ),
    signIn({ status: { errorCode: 70011, failureReason: 'No.' } }, 'NonInteractiveUserSignInLogs'),
    audit('Add service principal credentials', {
      targetResources: [target('ServicePrincipal', [changed('KeyDescription', key)])],
    }),
    {
      ...{ time, category: 'MicrosoftGraphActivityLogs', operationName: 'x' },
      properties: {
        requestUri: 'https://graph.microsoft.com/v1.0/me',
        ...{ requestMethod: 'GET', responseStatusCode: 200, scopes: 'User.Read' },
      },
    },
  ].flatMap(read);
  expect(filledFields(events)).toEqual([...new Set([...entra.provides, 'phase'])].sort());
});

describe.skipIf(!hasSamples)('real records', () => {
  const all = (file: string) => {
    const records = sampleRows(file).flatMap((row) => recordsOf(entra, row));
    const events = records.flatMap((record) => eventsOf(entra, record));
    for (const event of events) AuthEvent.parse(event);
    process.stdout.write(`samples entra: ${records.length} records, ${events.length} events\n`);
    const kinds: Record<string, number> = {};
    for (const { kind, outcome } of events) {
      kinds[`${kind} ${outcome}`] = (kinds[`${kind} ${outcome}`] ?? 0) + 1;
    }
    return { records: records.length, kinds };
  };

  it('of diagnostic settings', () => {
    expect(all('entra.ndjson')).toEqual({
      records: 149,
      kinds: {
        ...{ 'api_accessed denied': 2, 'client_credential_changed success': 1 },
        ...{ 'client_registered success': 1, 'elevation_granted pending': 1 },
        ...{ 'elevation_granted success': 2, 'login success': 5, 'login_failed denied': 2 },
        ...{
          'login_failed failure': 2,
          'mfa_challenged challenge': 1,
          'policy_changed success': 10,
        },
        ...{ 'risk_signal unknown': 2, 'token_issued success': 4, 'unclassified failure': 1 },
        ...{ 'unclassified success': 10, 'unclassified unknown': 107 },
      },
    });
  });

  it('of Graph', () => {
    expect(all('entra-graphapi.ndjson')).toEqual({
      ...{ records: 40, kinds: { 'login success': 1, 'unclassified success': 39 } },
    });
  });

  it('of the unified audit log', () => {
    expect(all('o365.ndjson')).toEqual({
      records: 36,
      kinds: {
        ...{ 'api_accessed success': 7, 'elevation_ended success': 1, 'login success': 3 },
        ...{ 'mfa_result failure': 1, 'unclassified success': 13, 'unclassified unknown': 11 },
      },
    });
  });
});
