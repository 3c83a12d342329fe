import { describe, expect, it } from 'vitest';
import { TIME_ALLOWED } from '../../collector/sources/_reading.ts';
import cloudtrail from '../../collector/sources/aws_cloudtrail.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_000_000_000n;
const eventID = '4d2b8a1c-6e3f-4b5a-9c7d-0e1f2a3b0001';
const account = '111122223333';
const temporary = 'ASIAEXAMPLECALLER000';
const issued = 'ASIAEXAMPLEISSUED000';
const role = `arn:aws:iam::${account}:role/deploy`;
const session = `arn:aws:sts::${account}:assumed-role/deploy/run-7`;
const refOf = (key: string): string => ring.refOfJti(key);
const robot = {
  ...{ type: 'AssumedRole', principalId: 'AROAEXAMPLE:run-7', arn: session, accountId: account },
  accessKeyId: temporary,
  sessionContext: { sessionIssuer: { type: 'Role', arn: role } },
};
const ada = {
  type: 'IAMUser',
  arn: `arn:aws:iam::${account}:user/ada`,
  accountId: account,
  accessKeyId: 'AKIAEXAMPLELONGLIVED',
};

const recordOf = (operation: string, more: object = {}) => {
  const [service = '', eventName = ''] = operation.split(':');
  return {
    ...{ eventVersion: '1.11', eventID, eventTime: '2026-01-01T00:00:00Z', eventName },
    ...{ eventSource: `${service}.amazonaws.com`, eventType: 'AwsApiCall', awsRegion: 'eu-west-1' },
    ...{ sourceIPAddress: '203.0.113.9', userAgent: 'aws-cli/2.15.0', requestID: 'req-1' },
    ...{ recipientAccountId: account, userIdentity: robot },
    ...more,
  };
};
const all = (operation: string, more: object = {}): AuthEvent[] =>
  eventsOf(cloudtrail, json(recordOf(operation, more)));
const one = (operation: string, more: object = {}): AuthEvent => {
  const events = all(operation, more);
  expect(events).toHaveLength(1);
  return events[0]!;
};
const shown = (event: AuthEvent): string =>
  JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? '' : v));

describe('temporary credentials', () => {
  const credentials = {
    accessKeyId: issued,
    sessionToken: 'session-token-of-a-test-that-must-never-pass-0123456789',
    expiration: 'Jan 1, 2026, 1:00:00 AM',
  };

  it('are issued to a pipeline for its own token', () => {
    const event = one('sts:AssumeRoleWithWebIdentity', {
      userIdentity: {
        type: 'WebIdentityUser',
        identityProvider: 'tokens.example.com',
        userName: 'repo:shop/web:ref:refs/heads/main',
      },
      requestParameters: { roleArn: role, roleSessionName: 'run-7' },
      responseElements: {
        credentials,
        ...{
          subjectFromWebIdentityToken: 'repo:shop/web:ref:refs/heads/main',
          audience: 'sts.amazonaws.com',
        },
        provider: `arn:aws:iam::${account}:oidc-provider/tokens.example.com`,
      },
    });
    expect(event.event_id).toBe(eventID);
    expect(withoutId(event)).toEqual(
      expected(cloudtrail, {
        time: at,
        kind: 'token_exchanged',
        outcome: 'success',
        source: {
          instance: 'eu-west-1',
          tenant: account,
          raw_type: 'sts:AssumeRoleWithWebIdentity',
        },
        endpoint: 'token',
        subject: { ref: ring.ref('subject', 'repo:shop/web:ref:refs/heads/main') },
        issuer: 'https://tokens.example.com',
        audience: ['sts.amazonaws.com'],
        tokens: [
          {
            ...{ role: 'issued', type: 'access', ref: refOf(issued), ref_kind: 'vendor_id' },
            ...{ issued_at: at, expires_at: at + 3_600_000_000_000n },
          },
        ],
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
          ...{ user_agent: 'aws-cli/2.15.0', ua_family: 'aws-cli' },
        },
        corr: { request_id: 'req-1' },
        ext: { aws_service: 'sts', role_arn: role, event_type: 'AwsApiCall' },
        redaction: { fields: ['subject.ref', 'tokens.ref'] },
      }),
    );
    expect(shown(event)).not.toContain('session-token');
  });

  it('come from other temporary credentials', () => {
    const event = one('sts:AssumeRole', {
      requestParameters: { roleArn: role },
      responseElements: {
        credentials: { ...credentials, expiration: 'Jan 1, 2026 12:30:05\u202fPM' },
      },
    });
    expect(event).toMatchObject({
      ...{ kind: 'token_exchanged', client: { id: role } },
      subject: { ref: ring.ref('subject', session), type: 'unknown' },
      tokens: [
        { role: 'subject', ref: refOf(temporary) },
        {
          role: 'issued',
          ref: refOf(issued),
          parent_ref: refOf(temporary),
          expires_at: at + 45_005_000_000_000n,
        },
      ],
    });
  });

  it('stand in every call that they make; long-lived keys are no tokens', () => {
    expect(one('s3:GetObject')).toMatchObject({
      ...{ kind: 'api_accessed', outcome: 'success', client: { id: role } },
      tokens: [{ role: 'presented', type: 'access', ref: refOf(temporary), ref_kind: 'vendor_id' }],
    });
    const byAda = one('s3:GetObject', { userIdentity: ada });
    expect(byAda).toMatchObject({ tokens: [], client: { id: '' }, subject: { type: 'user' } });
    expect(shown(byAda)).not.toContain('AKIA');
  });

  it('were refused', () => {
    const refused = {
      errorCode: 'AccessDenied',
      errorMessage: 'Not authorized',
      responseElements: null,
    };
    expect(one('sts:AssumeRole', refused)).toMatchObject({
      ...{ kind: 'token_request_failed', outcome: 'denied' },
      error: { code: 'AccessDenied', detail: 'Not authorized' },
    });
  });
});

describe('every operation that has a kind', () => {
  it.each([
    ['sts:AssumeRoleWithSAML', 'token_exchanged'],
    ['sts:GetSessionToken', 'token_issued'],
    ['sts:GetCallerIdentity', 'api_accessed'],
    ...['CreateKey', 'ReplicateKey', 'ImportKeyMaterial'].map((n) => [`kms:${n}`, 'key_created']),
    ...['RotateKeyOnDemand', 'RotateKey', 'UpdateAlias'].map((n) => [`kms:${n}`, 'key_rotated']),
    ['kms:DisableKey', 'key_disabled'],
    ...['ScheduleKeyDeletion', 'DeleteKey', 'DeleteImportedKeyMaterial'].map((n) => [
      `kms:${n}`,
      'key_deleted',
    ]),
    ...['Sign', 'Verify', 'Decrypt', 'GenerateDataKey', 'GenerateMac'].map((n) => [
      `kms:${n}`,
      'key_used',
    ]),
    ...['PutKeyPolicy', 'CreateGrant', 'RetireGrant', 'RevokeGrant', 'DisableKeyRotation'].map(
      (n) => [`kms:${n}`, 'policy_changed'],
    ),
    ...['EnableKey', 'CancelKeyDeletion', 'GetPublicKey', 'ListKeys'].map((n) => [
      `kms:${n}`,
      'api_accessed',
    ]),
    ['secretsmanager:GetSecretValue', 'secret_read'],
    ...['PutSecretValue', 'RotateSecret', 'DeleteSecret'].map((n) => [
      `secretsmanager:${n}`,
      'secret_changed',
    ]),
    ['secretsmanager:PutResourcePolicy', 'policy_changed'],
    ['ssm:GetParameter', 'api_accessed'],
    ['ssm:PutParameter', 'secret_changed'],
    ...['AttachRolePolicy', 'UpdateAssumeRolePolicy', 'CreateOpenIDConnectProvider'].map((n) => [
      `iam:${n}`,
      'policy_changed',
    ]),
    ['iam:CreateAccessKey', 'client_credential_changed'],
    ['signin:ConsoleLogin', 'login'],
    ['signin:CheckMfa', 'mfa_result'],
    ['signin:ExternalIdPDirectoryLogin', 'federation_handshake'],
    ['signin:SwitchRole', 'token_exchanged'],
    ['sso:Authenticate', 'login'],
    ['sso:Federate', 'federation_handshake'],
    ['sso:Logout', 'session_ended'],
    ['sso:CreateToken', 'token_issued'],
    ['sso-oauth:CreateTokenWithIAM', 'token_exchanged'],
    ['sso:RegisterClient', 'client_registered'],
    ['sso:StartDeviceAuthorization', 'device_authorization_requested'],
    ['ec2:RunInstances', 'api_accessed'],
    ['toString:constructor', 'api_accessed'],
  ])('%s is %s', (operation, kind) => {
    expect(all(operation).map((e) => [e.kind, e.source.raw_type])).toEqual([[kind, operation]]);
  });

  it('what is no API call stays unclassified', () => {
    expect(one('ec2:SpotInterruption', { eventType: 'AwsServiceEvent' }).kind).toBe('unclassified');
    expect(one('kms:RotateKey', { eventType: 'AwsServiceEvent' }).kind).toBe('key_rotated');
  });
});

describe('keys and secrets by one name', () => {
  const keyArn = `arn:aws:kms:eu-west-1:${account}:key/0f1e2d3c`;
  const secretArn = `arn:aws:secretsmanager:eu-west-1:${account}:secret:shop/db`;
  const secretKid = `secretsmanager/${account}/eu-west-1/shop/db`;
  const kms = `kms/${account}/eu-west-1`;
  it.each([
    [
      'kms:Sign',
      { requestParameters: { keyId: 'alias/tokens' }, resources: [{ ARN: keyArn }] },
      keyArn,
    ],
    ['kms:DisableKey', { requestParameters: { keyId: '0f1e2d3c' } }, keyArn],
    ['kms:CreateKey', { responseElements: { keyMetadata: { arn: keyArn } } }, keyArn],
    [
      'kms:UpdateAlias',
      { requestParameters: { aliasName: 'alias/tokens', targetKeyId: '0f1e2d3c' } },
      keyArn,
    ],
    [
      'kms:Sign',
      { requestParameters: { keyId: 'alias/tokens' } },
      `arn:aws:kms:eu-west-1:${account}:alias/tokens`,
    ],
    ['kms:RotateKey', { serviceEventDetails: { keyId: keyArn } }, keyArn],
    ['secretsmanager:GetSecretValue', { requestParameters: { secretId: 'shop/db' } }, secretKid],
    [
      'secretsmanager:GetSecretValue',
      { requestParameters: { secretId: `${secretArn}-a1B2c3` } },
      secretKid,
    ],
    [
      'secretsmanager:CreateSecret',
      { requestParameters: { name: 'shop/db' }, responseElements: { arn: `${secretArn}-a1B2c3` } },
      secretKid,
    ],
    [
      'secretsmanager:RotationSucceeded',
      { additionalEventData: { SecretId: `${secretArn}-a1B2c3` } },
      secretKid,
    ],
    [
      'ssm:GetParameter',
      { requestParameters: { name: '/shop/db', withDecryption: true } },
      `arn:aws:ssm:eu-west-1:${account}:parameter/shop/db`,
    ],
  ])('%s %j', (operation, more, kid) => {
    expect(one(operation, more).key.kid).toBe(kid);
  });

  it('store and operation', () => {
    expect(one('kms:Sign', { resources: [{ ARN: keyArn }] }).key).toEqual({
      kid: keyArn,
      operation: 'Sign',
      store: kms,
    });
  });

  it('several at once are an event each', () => {
    const batch = all('secretsmanager:BatchGetSecretValue', {
      requestParameters: { secretIdList: ['shop/db', `${secretArn}-a1B2c3`, 'other'] },
    });
    expect(batch.map((e) => [e.kind, e.key.kid])).toEqual([
      ['secret_read', secretKid],
      ['secret_read', secretKid.replace('shop/db', 'other')],
    ]);
    expect(new Set(batch.map((e) => e.event_id)).size).toBe(2);
    const parameters = all('ssm:GetParameters', {
      requestParameters: { names: ['/a', '/b'], withDecryption: true },
    });
    expect(parameters.map((e) => e.key.kid.split('/').at(-1))).toEqual(['a', 'b']);
    expect(parameters.map((e) => e.kind)).toEqual(['secret_read', 'secret_read']);
  });

  it('a value that AWS removed is noted and never taken', () => {
    const event = one('secretsmanager:PutSecretValue', {
      requestParameters: { secretId: 'shop/db', secretString: 'HIDDEN_DUE_TO_SECURITY_REASONS' },
    });
    expect(event.redaction.upstream).toBe(true);
    expect(
      one('secretsmanager:PutSecretValue', { requestParameters: { secretId: 'x' } }).redaction
        .upstream,
    ).toBe(false);
  });
});

describe('people', () => {
  it('sign in at the console', () => {
    const login = (answer: string, mfa: string) =>
      one('signin:ConsoleLogin', {
        ...{
          eventType: 'AwsConsoleSignIn',
          userIdentity: ada,
          errorMessage: answer === 'Failure' ? 'Failed authentication' : undefined,
        },
        responseElements: { ConsoleLogin: answer },
        additionalEventData: {
          MFAUsed: mfa,
          LoginTo: 'https://console.example.com/?state=hidden-state',
        },
      });
    const good = login('Success', 'Yes');
    expect(good).toMatchObject({
      ...{ kind: 'login', outcome: 'success', amr: ['mfa'], net: { ip_role: 'end_user' } },
      subject: { ref: ring.ref('subject', ada.arn), type: 'user' },
    });
    expect(shown(good)).not.toContain('hidden-state');
    expect(login('Failure', 'No')).toMatchObject({
      ...{ kind: 'login_failed', outcome: 'failure', amr: [] },
      error: { code: 'Failure', detail: 'Failed authentication' },
    });
  });

  it('take the roles of Identity Center', () => {
    const arn = `arn:aws:sts::${account}:assumed-role/AWSReservedSSO_Admin_0a1b/ada`;
    const event = one('secretsmanager:GetSecretValue', {
      userIdentity: { ...robot, arn },
      requestParameters: { secretId: 'x' },
    });
    expect(event.actor).toEqual({ ref: ring.ref('subject', arn), type: 'user' });
    expect(
      one('secretsmanager:GetSecretValue', { requestParameters: { secretId: 'x' } }).actor.type,
    ).toBe('unknown');
  });

  it('get tokens of Identity Center for a client', () => {
    const create = (grantType: string) =>
      one('sso:CreateToken', {
        requestParameters: {
          clientId: 'client-7',
          clientSecret: 'HIDDEN_DUE_TO_SECURITY_REASONS',
          deviceCode: 'device-code-0123456789',
          grantType,
        },
        responseElements: { accessToken: 'HIDDEN_DUE_TO_SECURITY_REASONS', expiresIn: 28_800 },
      });
    const device = 'urn:ietf:params:oauth:grant-type:device_code';
    expect(create(device)).toMatchObject({
      ...{
        kind: 'token_issued',
        grant_type: device,
        client: { id: 'client-7' },
        endpoint: 'token',
      },
      redaction: { upstream: true },
    });
    expect(shown(create(device))).not.toContain('device-code-0');
    expect(create('refresh_token').kind).toBe('token_refreshed');
    expect(
      one('sso:RegisterClient', { requestParameters: { clientName: 'cli' } }).client.name,
    ).toBe('cli');
  });

  it('change policies', () => {
    const requestParameters = {
      roleName: 'deploy',
      policyArn: 'arn:aws:iam::aws:policy/AdministratorAccess',
    };
    expect(one('iam:AttachRolePolicy', { userIdentity: ada, requestParameters })).toMatchObject({
      ...{
        kind: 'policy_changed',
        policy: { path: 'deploy arn:aws:iam::aws:policy/AdministratorAccess' },
      },
      actor: { ref: ring.ref('subject', ada.arn), type: 'user' },
    });
  });
});

describe('containers and what is no record', () => {
  it('files, log subscriptions and EventBridge are opened', () => {
    const record = recordOf('kms:Sign');
    expect(cloudtrail.unwrap?.({ Records: [record, 1] })).toEqual([record, 1]);
    expect(
      cloudtrail.unwrap?.({ 'detail-type': 'AWS API Call via CloudTrail', detail: record }),
    ).toEqual([record]);
    expect(cloudtrail.unwrap?.({ logEvents: [{ message: JSON.stringify(record) }] })).toEqual([
      record,
    ]);
    expect(cloudtrail.unwrap?.(record)).toBeUndefined();
  });

  const unrecognised = 'record: no CloudTrail record; eventSource and eventName are needed';
  it.each([
    ['another object', { eventName: 'x' }, 'unrecognised_record', unrecognised],
    ['no time', { eventSource: 'a', eventName: 'b' }, 'missing_field', 'eventTime: is required'],
    [
      'a bad time',
      { eventSource: 'a', eventName: 'b', eventTime: [] },
      'invalid_time',
      `eventTime: not a time; ${TIME_ALLOWED}`,
    ],
    ['a list', [], 'not_an_object', 'record: must be a JSON object'],
  ])('%s', (_, value, code, message) => {
    expect(cloudtrail.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('text', () => {
    const refused = {
      ok: false,
      code: 'unsupported_form',
      message: 'text: allowed is a JSON object',
    };
    expect(cloudtrail.parse(line('x'), { received_at: RECEIVED_AT })).toEqual(refused);
  });

  it('foreign names and types do no harm', () => {
    const more = JSON.parse(
      '{"userIdentity":[],"requestParameters":{"keyId":{},"__proto__":{"keyId":"x"},"grantType":"__proto__"},"responseElements":"x","resources":[null,7,{"ARN":[]}],"additionalEventData":1,"errorCode":[]}',
    ) as object;
    expect(one('kms:Sign', more)).toMatchObject({ kind: 'key_used', key: { kid: '' }, tokens: [] });
    expect(one('__proto__:__proto__', more).kind).toBe('api_accessed');
  });
});

it('provides what it says', () => {
  const events = [
    one('sts:AssumeRole', {
      responseElements: {
        credentials: { accessKeyId: issued, expiration: 'Jan 1, 2026, 1:00:00 AM' },
        audience: 'x',
        provider: 'tokens.example.com',
      },
    }),
    one('sso:CreateToken', {
      requestParameters: { clientId: 'c', clientName: 'n', grantType: 'refresh_token' },
      errorCode: 'InvalidGrant',
      errorMessage: 'x',
    }),
    one('signin:ConsoleLogin', { userIdentity: ada, additionalEventData: { MFAUsed: 'Yes' } }),
    one('kms:DisableKey', { requestParameters: { keyId: 'k' }, userIdentity: ada }),
    one('iam:AttachRolePolicy', { requestParameters: { roleName: 'r' } }),
  ];
  expect(filledFields(events)).toEqual([...cloudtrail.provides].sort());
});

describe.skipIf(!hasSamples)('real records', () => {
  it('are read; those whose editing left them no source or time are refused for that', () => {
    const records = sampleRows('cloudtrail.ndjson').flatMap((row) => recordsOf(cloudtrail, row));
    const counts = new Map<string, number>();
    let events = 0;
    for (const record of records) {
      const result = cloudtrail.parse(record, { received_at: RECEIVED_AT });
      const made = result.ok ? eventsOf(cloudtrail, record) : [];
      events += made.length;
      for (const event of made) AuthEvent.parse(event);
      const names = result.ok
        ? made.map((e) =>
            e.kind === 'api_accessed' ? e.kind : `${e.kind}: ${e.source.raw_type} ${e.outcome}`,
          )
        : [`${result.code}: ${result.message}`];
      for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    expect(Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))).toEqual({
      api_accessed: 177,
      'invalid_time: eventTime: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns': 1,
      'key_deleted: kms:ScheduleKeyDeletion success': 2,
      'key_disabled: kms:DisableKey failure': 1,
      'key_disabled: kms:DisableKey success': 1,
      'key_used: kms:Decrypt success': 2,
      'login: signin:ConsoleLogin success': 13,
      'login: sso:Authenticate success': 1,
      'login_failed: signin:ConsoleLogin failure': 2,
      'missing_field: eventTime: is required': 4,
      'not_an_object: record: must be a JSON object': 3,
      'policy_changed: iam:AttachRolePolicy failure': 1,
      'policy_changed: iam:AttachRolePolicy success': 3,
      'policy_changed: iam:AttachUserPolicy success': 1,
      'policy_changed: iam:CreateRole success': 1,
      'policy_changed: iam:DeleteGroupPolicy failure': 1,
      'policy_changed: iam:DeleteGroupPolicy success': 1,
      'policy_changed: iam:UpdateAssumeRolePolicy success': 3,
      'policy_changed: kms:PutKeyPolicy success': 2,
      'policy_changed: secretsmanager:PutResourcePolicy success': 2,
      'secret_read: secretsmanager:GetSecretValue denied': 1,
      'secret_read: ssm:GetParameter success': 1,
      'secret_read: ssm:GetParameters success': 16,
      'token_exchanged: sts:AssumeRole success': 4,
      'unclassified: cloudtrail:UpdateTrail success': 1,
      'unclassified: s3:GetObject success': 3,
      'unrecognised_record: record: no CloudTrail record; eventSource and eventName are needed': 9,
    });
    process.stdout.write(`samples aws_cloudtrail: ${records.length} records, ${events} events\n`);
  });
});
