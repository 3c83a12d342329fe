// How: records as the vendors write them go through the adapter, redaction and normalisation into the real embedded
// engine, each case under a tenant of its own; the rule then finds what it should in them, or nothing.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import auth0 from '../../collector/sources/auth0.ts';
import cloudtrail from '../../collector/sources/aws_cloudtrail.ts';
import keyVault from '../../collector/sources/azure_key_vault.ts';
import kubernetes from '../../collector/sources/kubernetes_audit.ts';
import okta from '../../collector/sources/okta.ts';
import ssf from '../../collector/sources/ssf.ts';
import vault from '../../collector/sources/vault.ts';
import { backtest } from '../../detectors/backtest.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventsOf, json, ring } from '../golden/run_source.ts';
import { openTestStore } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const START_MS = Date.UTC(2026, 0, 5, 12);
const DAY_S = 86_400;
const iso = (t: number): string => new Date(START_MS + t * 1_000).toISOString();
const rules = await loadDetectors();

interface SourceRecords {
  readonly source: SourceDefinition;
  readonly records: readonly object[];
}

/** What one rule finds: entity, verdict and operations or other evidence that is asked for. */
async function findingsOf(
  ruleId: string,
  tenant: string,
  ...inputs: readonly SourceRecords[]
): Promise<readonly (readonly unknown[])[]> {
  const events = inputs.flatMap(({ source, records }) =>
    records.flatMap((record): AuthEvent[] =>
      eventsOf(source, json(record)).map((e) => ({ ...e, tenant })),
    ),
  );
  await insertEvents(engine.store, events);
  const { findings } = await backtest({
    store: engine.store,
    tenant,
    detectors: bindDetectors(
      rules.filter((r) => r.id === ruleId),
      {},
    ),
    clients: [],
    range: { from: 0n, to: 4_102_444_800_000_000_000n },
  });
  return findings.map((f) => [f.entity_ref, f.episode, f.verdict, f.evidence['operations']]);
}

let serial = 0;
/** A vendor's id of a record, the next one. */
function nextId(): string {
  serial += 1;
  return `9a8b7c6d-0000-4000-8000-${String(serial).padStart(12, '0')}`;
}

const RULE = 'secret_or_key_exposed';

const vaultEntry = (
  t: number,
  path: string,
  operation: string,
  mount: string,
  who = 'userpass-ada',
) => {
  const entry = {
    time: iso(t),
    auth: {
      display_name: who,
      entity_id: `entity-${who}`,
      client_token: `hmac-sha256:${'ab'.repeat(32)}`,
    },
    request: {
      id: nextId(),
      operation,
      path,
      mount_type: mount,
      mount_point: `${path.split('/')[0] ?? ''}/`,
      remote_address: '203.0.113.9',
    },
  };
  return [
    { ...entry, type: 'request' },
    { ...entry, type: 'response' },
  ];
};

describe('secret_or_key_exposed on entries of Vault', () => {
  it('fires: a key is exported, another disabled for good', async () => {
    const records = [
      ...vaultEntry(0, 'transit/export/signing-key/orders/1', 'read', 'transit'),
      ...vaultEntry(60, 'transit/keys/payments', 'delete', 'transit'),
    ];
    expect(await findingsOf(RULE, 'vault-fires', { source: vault, records })).toEqual([
      ['transit/orders', iso(0), 'exported', ['export']],
      ['transit/payments', iso(60), 'deletion', ['delete']],
    ]);
  });

  it('fires: a person reads a secret of the key-value store', async () => {
    const records = [
      ...vaultEntry(-60, 'secret/data/shop/oauth', 'read', 'kv', 'approle'),
      ...vaultEntry(0, 'secret/data/shop/oauth', 'read', 'kv'),
    ];
    expect(await findingsOf(RULE, 'vault-reads', { source: vault, records })).toEqual([
      ['secret/shop/oauth', iso(0), 'secret_read', ['read']],
    ]);
  });

  it('silent: signing, a rotation around the export, a successor made before, a known reader, a refusal', async () => {
    const refused = vaultEntry(5, 'transit/keys/reports', 'delete', 'transit').map((e) => ({
      ...e,
      error: 'permission denied',
    }));
    const records = [
      ...vaultEntry(0, 'transit/sign/orders', 'update', 'transit'),
      ...vaultEntry(0, 'transit/export/signing-key/orders/1', 'read', 'transit'),
      ...vaultEntry(600, 'transit/keys/orders/rotate', 'update', 'transit'),
      ...vaultEntry(-DAY_S, 'transit/keys/payments-2', 'update', 'transit'),
      ...vaultEntry(0, 'transit/keys/payments', 'delete', 'transit'),
      ...vaultEntry(-2 * DAY_S, 'secret/data/shop/oauth', 'update', 'kv'),
      ...vaultEntry(-2 * DAY_S + 1, 'secret/data/shop/oauth', 'read', 'kv'),
      ...vaultEntry(0, 'secret/data/shop/oauth', 'read', 'kv'),
      ...refused,
    ];
    expect(await findingsOf(RULE, 'vault-silent', { source: vault, records })).toEqual([]);
  });
});

const azure = (t: number, operationName: string, object: string, more: object = {}) => ({
  ...{
    time: iso(t),
    category: 'AuditEvent',
    operationName,
    resultType: 'Success',
    resultSignature: 'OK',
  },
  ...{ correlationId: nextId(), callerIpAddress: '203.0.113.9' },
  identity: { claim: { oid: 'oid-ada', appid: 'app', upn: 'ada@example.com' } },
  properties: { id: `https://shop.vault.azure.net/${object}`, httpStatusCode: 200 },
  ...more,
});

describe('secret_or_key_exposed on records of Key Vault', () => {
  it('fires: a key is backed up, then purged; a secret read by a person', async () => {
    const records = [
      azure(0, 'KeyBackup', 'keys/sig'),
      azure(60, 'KeyDelete', 'keys/sig'),
      azure(90, 'SecretGet', 'secrets/oauth/0a1b'),
    ];
    expect(await findingsOf(RULE, 'azure-fires', { source: keyVault, records })).toEqual([
      ['shop.vault.azure.net/keys/sig', iso(0), 'exported', ['KeyBackup', 'KeyDelete']],
      ['shop.vault.azure.net/secrets/oauth', iso(90), 'secret_read', ['SecretGet']],
    ]);
  });

  it('silent: what the signature says was refused, a rotation, the public half', async () => {
    const refused = { resultSignature: 'Forbidden' };
    const records = [
      azure(0, 'KeyBackup', 'keys/sig', refused),
      azure(0, 'SecretGet', 'secrets/oauth', { resultSignature: 'Not Found' }),
      azure(0, 'KeyBackup', 'keys/other'),
      azure(1_800, 'KeyRotate', 'keys/other/0a1b'),
      azure(0, 'KeyGet', 'keys/sig'),
      azure(0, 'SecretGet', 'secrets/db'),
      azure(60, 'SecretSet', 'secrets/db'),
    ];
    expect(await findingsOf(RULE, 'azure-silent', { source: keyVault, records })).toEqual([]);
  });
});

const account = '111122223333';
const aws = (t: number, service: string, eventName: string, more: object = {}) => ({
  ...{ eventID: nextId(), eventTime: iso(t), eventName, eventSource: `${service}.amazonaws.com` },
  ...{ eventType: 'AwsApiCall', awsRegion: 'eu-west-1', recipientAccountId: account },
  ...{
    sourceIPAddress: '203.0.113.9',
    userIdentity: { type: 'IAMUser', arn: `arn:aws:iam::${account}:user/ada` },
  },
  ...more,
});
const keyId = (id: string) => ({ requestParameters: { keyId: id } });
const keyArn = (id: string) => `arn:aws:kms:eu-west-1:${account}:key/${id}`;
const secretId = (id: string) => ({ requestParameters: { secretId: id } });

describe('secret_or_key_exposed on records of CloudTrail', () => {
  it('fires: disabled by its id, deletion scheduled by its ARN; a secret read by a person', async () => {
    const records = [
      aws(0, 'kms', 'DisableKey', keyId('k-1')),
      aws(60, 'kms', 'ScheduleKeyDeletion', keyId(keyArn('k-1'))),
      aws(90, 'secretsmanager', 'GetSecretValue', secretId('shop/oauth')),
    ];
    expect(await findingsOf(RULE, 'aws-fires', { source: cloudtrail, records })).toEqual([
      [keyArn('k-1'), iso(0), 'deletion', ['DisableKey', 'ScheduleKeyDeletion']],
      [
        `secretsmanager/${account}/eu-west-1/shop/oauth`,
        iso(90),
        'secret_read',
        ['GetSecretValue'],
      ],
    ]);
  });

  it('silent: the alias pointed elsewhere before, a rotation of the secret under its ARN, signing, an error', async () => {
    const arn = `arn:aws:secretsmanager:eu-west-1:${account}:secret:shop/oauth-a1B2c3`;
    const records = [
      aws(-60, 'kms', 'UpdateAlias', {
        requestParameters: { aliasName: 'alias/sig', targetKeyId: 'k-2' },
      }),
      aws(0, 'kms', 'DisableKey', keyId('k-1')),
      aws(0, 'secretsmanager', 'GetSecretValue', secretId('shop/oauth')),
      aws(60, 'secretsmanager', 'PutSecretValue', secretId(arn)),
      aws(0, 'kms', 'Sign', keyId('k-3')),
      {
        ...aws(0, 'kms', 'ScheduleKeyDeletion', keyId('k-4')),
        errorCode: 'AccessDenied',
        recipientAccountId: '444455556666',
      },
    ];
    expect(await findingsOf(RULE, 'aws-silent', { source: cloudtrail, records })).toEqual([]);
  });
});

const k8s = (t: number, verb: string, objectRef: object, username: string, more: object = {}) => ({
  ...{
    kind: 'Event',
    apiVersion: 'audit.k8s.io/v1',
    auditID: nextId(),
    stage: 'ResponseComplete',
    verb,
    objectRef,
  },
  ...{ user: { username }, sourceIPs: ['203.0.113.9'], responseStatus: { code: 200 } },
  ...{ requestURI: '/api', requestReceivedTimestamp: iso(t) },
  ...more,
});
const secret = { resource: 'secrets', namespace: 'shop', name: 'oauth' };
const controller = 'system:serviceaccount:shop:operator';

describe('secret_or_key_exposed on audit events of Kubernetes', () => {
  it('fires: a person reads a secret, and a workload that is new after ten days', async () => {
    const records = [
      k8s(-11 * DAY_S, 'get', secret, controller),
      k8s(0, 'get', secret, 'ada@example.com'),
      k8s(60, 'get', secret, 'system:serviceaccount:other:job'),
    ];
    expect(await findingsOf(RULE, 'k8s-fires', { source: kubernetes, records })).toEqual([
      ['shop/secrets/oauth', iso(0), 'secret_read', ['get']],
    ]);
  });

  it('silent: the workload that always reads it, a refusal, a request that has only begun', async () => {
    const records = [
      k8s(-11 * DAY_S, 'get', secret, controller),
      k8s(0, 'get', secret, controller),
      k8s(0, 'get', secret, 'ada@example.com', { responseStatus: { code: 403 } }),
      k8s(0, 'get', secret, 'ada@example.com', { stage: 'RequestReceived' }),
    ];
    expect(await findingsOf(RULE, 'k8s-silent', { source: kubernetes, records })).toEqual([]);
  });
});

describe('key_or_alg_forgery on token reviews of Kubernetes', () => {
  const review = (t: number, error: string) =>
    k8s(t, 'create', { resource: 'tokenreviews' }, controller, {
      responseObject: { status: { authenticated: false, error } },
    });
  const reviews = (n: number, error: string) =>
    Array.from({ length: n }, (_, i) => review(30 + i, error));
  const forged = 'error in cryptographic primitive';

  it('fires on the tenth token whose signature is wrong', async () => {
    const found = await findingsOf('key_or_alg_forgery', 'forged', {
      source: kubernetes,
      records: reviews(10, forged),
    });
    expect(found.map(([entity, , verdict]) => [entity, verdict])).toEqual([
      ['kubernetes_audit', 'refused_burst'],
    ]);
  });

  it('silent: nine of them, and any number of expired ones', async () => {
    const records = [...reviews(9, forged), ...reviews(30, 'service account token has expired')];
    expect(
      await findingsOf('key_or_alg_forgery', 'expired', { source: kubernetes, records }),
    ).toEqual([]);
  });
});

describe('token_used_after_revocation on a security event and audit events', () => {
  const jti = '9a8b7c6d-1111-4000-8000-000000000001';
  const revoked = {
    ...{ iss: 'https://login.example.com', jti: nextId(), iat: START_MS / 1_000 },
    sub_id: { format: 'jwt_id', iss: 'https://login.example.com', jti },
    events: { 'https://schemas.openid.net/secevent/caep/event-type/session-revoked': {} },
  };
  const use = (t: number, code = 200) =>
    k8s(t, 'get', { resource: 'pods' }, controller, {
      user: {
        username: controller,
        extra: { 'authentication.kubernetes.io/credential-id': [`JTI=${jti}`] },
      },
      responseStatus: { code },
    });

  it('fires where the token is accepted beyond caches', async () => {
    const inputs = [
      { source: ssf, records: [revoked] },
      { source: kubernetes, records: [use(-60), use(300)] },
    ];
    const found = await findingsOf('token_used_after_revocation', 'revoked-used', ...inputs);
    expect(found.map(([entity, , verdict]) => [entity, verdict])).toEqual([
      [jti, 'accepted_after_revocation'],
    ]);
  });

  it('silent: used before, within the cache, or refused', async () => {
    const inputs = [
      { source: ssf, records: [revoked] },
      { source: kubernetes, records: [use(-60), use(30), use(300, 401)] },
    ];
    expect(await findingsOf('token_used_after_revocation', 'revoked-refused', ...inputs)).toEqual(
      [],
    );
  });
});

const REUSE = 'refresh_token_reuse';
const verdicts = (found: readonly (readonly unknown[])[]) =>
  found.map(([entity, , verdict]) => [entity, verdict]);
const PHONE = { ip: '203.0.113.9', agent: 'ShopApp/3.1 (Android 15)' };
const STRANGER = { ip: '198.51.100.7', agent: 'python-requests/2.32.3' };

const auth0Log = (
  t: number,
  type: string,
  where: typeof PHONE,
  details: object,
  description = '',
) => ({
  log_id: nextId(),
  data: {
    ...{ type, date: iso(t), client_id: 'shop-app', user_id: 'auth0|u-ada', description },
    ...{ ip: where.ip, user_agent: where.agent, hostname: 'login.example.com', details },
  },
});
/** The counter is that of the token that was presented. */
const exchanged = (t: number, where: typeof PHONE, tokenCounter: number) =>
  auth0Log(t, 'sertft', where, { familyId: 'fam-shop-1', tokenCounter });
const refusedAgain = (t: number, where: typeof PHONE, tokenCounter: number) =>
  auth0Log(t, 'ferrt', where, { familyId: 'fam-shop-1', tokenCounter, latestCounter: 3 });
const ofFamily = (counter: number) => ring.refOfJti(`fam-shop-1/${counter}`);

describe('refresh_token_reuse on logs of Auth0', () => {
  it('fires: a stranger presents a number that was exchanged long before', async () => {
    const records = [
      ...[exchanged(0, PHONE, 1), exchanged(3_600, PHONE, 2)],
      refusedAgain(5_000, STRANGER, 1),
    ];
    expect(verdicts(await findingsOf(REUSE, 'auth0-theft', { source: auth0, records }))).toEqual([
      [ofFamily(1), 'theft'],
    ]);
  });

  it('fires otherwise: the device itself comes back with an old one', async () => {
    const records = [
      ...[exchanged(0, PHONE, 1), exchanged(3_600, PHONE, 2)],
      refusedAgain(5_000, PHONE, 1),
    ];
    expect(verdicts(await findingsOf(REUSE, 'auth0-stale', { source: auth0, records }))).toEqual([
      [ofFamily(1), 'stale_client'],
    ]);
  });

  it('silent: number after number, from network to network; the newest refused for another reason', async () => {
    const records = [
      ...[exchanged(0, PHONE, 1), exchanged(3_600, { ...PHONE, ip: STRANGER.ip }, 2)],
      refusedAgain(7_200, PHONE, 3),
    ];
    expect(await findingsOf(REUSE, 'auth0-honest', { source: auth0, records })).toEqual([]);
  });

  it('silent: the same numbers in another family', async () => {
    const other = (t: number, where: typeof PHONE) =>
      auth0Log(t, 'sertft', where, { familyId: 'fam-shop-2', tokenCounter: 1 });
    const records = [exchanged(0, PHONE, 1), other(60, STRANGER)];
    expect(await findingsOf(REUSE, 'auth0-families', { source: auth0, records })).toEqual([]);
  });
});

const oktaEvent = (
  t: number,
  type: string,
  where: typeof PHONE,
  target: readonly object[],
  result = 'SUCCESS',
) => ({
  ...{ uuid: nextId(), published: iso(t), eventType: `app.oauth2.as.token.${type}` },
  actor: { id: '0oashop', type: 'PublicClientApp', displayName: 'Shop' },
  client: { ipAddress: where.ip, userAgent: { rawUserAgent: where.agent } },
  outcome: { result, reason: null },
  debugContext: { debugData: { grantType: 'refresh_token', clientAuthType: 'none' } },
  target: [{ id: '00uada', type: 'User' }, ...target],
});
const oktaToken = (type: string, hash: string) => ({ id: hash, type, detailEntry: { hash } });
const [OLD, NEW] = ['r2Qm8XvT5kLw0aZn', 'c9Yb4HsD7fJp1gEu'];

describe('refresh_token_reuse on events of Okta', () => {
  it('fires: Okta names the token that came again', async () => {
    const records = [
      oktaEvent(0, 'grant.refresh_token', PHONE, [oktaToken('refresh_token', OLD)]),
      oktaEvent(3_600, 'grant.access_token', PHONE, [oktaToken('access_token', NEW)]),
      oktaEvent(5_000, 'detect_reuse', STRANGER, [oktaToken('refresh_token', OLD)], 'FAILURE'),
    ];
    // Okta does not say which token a refresh consumed, so the rotation itself is not seen.
    expect(verdicts(await findingsOf(REUSE, 'okta-reuse', { source: okta, records }))).toEqual([
      [ring.ref('token', OLD), 'undetermined'],
    ]);
  });

  it('silent: rotation as it should be, from two networks', async () => {
    const records = [
      oktaEvent(0, 'grant.refresh_token', PHONE, [oktaToken('refresh_token', OLD)]),
      oktaEvent(1, 'grant.access_token', PHONE, [oktaToken('access_token', NEW)]),
      oktaEvent(3_600, 'grant.refresh_token', STRANGER, [oktaToken('refresh_token', NEW)]),
      oktaEvent(7_200, 'revoke', PHONE, [oktaToken('refresh_token', NEW)]),
    ];
    expect(await findingsOf(REUSE, 'okta-honest', { source: okta, records })).toEqual([]);
  });
});
