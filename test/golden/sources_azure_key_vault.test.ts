import { describe, expect, it } from 'vitest';
import { TIME_ALLOWED } from '../../collector/sources/_reading.ts';
import keyVault from '../../collector/sources/azure_key_vault.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_123_456_700n;
const oid = '3b6f1c9e-52d7-4f0a-9a6b-8c1d2e3f0001';
const appid = '3b6f1c9e-52d7-4f0a-9a6b-8c1d2e3f0002';
const correlationId = '3b6f1c9e-52d7-4f0a-9a6b-8c1d2e3f0003';
const person = { oid, appid, upn: 'ada@example.com', scp: 'user_impersonation', amr: 'pwd mfa' };
const robot = { oid, appid, appidacr: '2' };
const host = 'shop.vault.azure.net';

interface More {
  readonly operation?: string;
  readonly id?: string | undefined;
  readonly status?: number;
  readonly signature?: string | undefined;
  readonly claim?: object | undefined;
  readonly properties?: object;
  readonly record?: object;
}
const recordOf = (more: More) => ({
  time: '2026-01-01T00:00:00.1234567Z',
  category: 'AuditEvent',
  operationName: more.operation ?? 'KeySign',
  operationVersion: '7.4',
  resultType: 'Success',
  resultSignature: 'signature' in more ? more.signature : 'OK',
  durationMs: '46',
  correlationId,
  callerIpAddress: '203.0.113.9',
  resourceId: '/SUBSCRIPTIONS/0000/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/SHOP',
  ...('claim' in more && more.claim === undefined
    ? {}
    : { identity: { claim: more.claim ?? robot } }),
  properties: {
    id: 'id' in more ? more.id : `https://${host}/keys/sig-1/0123456789abcdef`,
    clientInfo: 'azsdk-net-Security.KeyVault.Keys/4.6.0',
    httpStatusCode: more.status ?? 200,
    requestUri: `https://${host}/keys/sig-1/0123456789abcdef/sign?api-version=7.4`,
    ...more.properties,
  },
  ...more.record,
});
const one = (more: More): AuthEvent => {
  const events = eventsOf(keyVault, json(recordOf(more)));
  expect(events).toHaveLength(1);
  return events[0]!;
};

it('the use of a key, exactly', () => {
  expect(withoutId(one({}))).toEqual(
    expected(keyVault, {
      time: at,
      kind: 'key_used',
      outcome: 'success',
      source: { instance: 'shop', raw_type: 'KeySign' },
      client: { id: appid },
      actor: { ref: ring.ref('subject', oid), type: 'service' },
      net: {
        ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
        ...{
          user_agent: 'azsdk-net-Security.KeyVault.Keys/4.6.0',
          ua_family: 'azsdk-net-Security.KeyVault.Keys',
        },
      },
      http: {
        route: `https://${host}/keys/sig-1/0123456789abcdef/sign`,
        status: 200,
        duration_ms: 46,
      },
      key: { kid: `${host}/keys/sig-1`, operation: 'KeySign', store: host },
      corr: { transaction_id: correlationId },
      ext: { object_version: '0123456789abcdef' },
      redaction: { fields: ['actor.ref'] },
    }),
  );
});

describe('every operation', () => {
  it.each([
    ...[
      'KeyCreate',
      'KeyImport',
      'KeyRestore',
      'CertificateCreate',
      'CertificateImport',
      'CertificateRestore',
    ].map((o) => [o, 'key_created']),
    ['KeyRotate', 'key_rotated'],
    ...['KeyDelete', 'KeyPurge', 'CertificateDelete', 'CertificatePurge'].map((o) => [
      o,
      'key_deleted',
    ]),
    ...['KeySign', 'KeyVerify', 'KeyEncrypt', 'KeyDecrypt', 'KeyWrap', 'KeyUnwrap'].map((o) => [
      o,
      'key_used',
    ]),
    ...['KeyBackup', 'KeyRelease', 'CertificateBackup'].map((o) => [o, 'key_used']),
    ...['SecretGet', 'SecretBackup'].map((o) => [o, 'secret_read']),
    ...[
      'SecretSet',
      'SecretUpdate',
      'SecretDelete',
      'SecretPurge',
      'SecretRestore',
      'SecretRecover',
    ].map((o) => [o, 'secret_changed']),
    ...['KeyGet', 'KeyList', 'KeyListVersions', 'SecretList', 'VaultGet', 'Authentication'].map(
      (o) => [o, 'api_accessed'],
    ),
    ...['VaultPut', 'VaultPatch', 'VaultDelete', 'KeyUpdate', 'KeyUpdateRotationPolicy'].map(
      (o) => [o, 'policy_changed'],
    ),
    ['VaultAccessPolicyChangedEventGridNotification', 'policy_changed'],
    ...['KeyRecover', 'SomethingNew', 'toString', '__proto__'].map((o) => [o, 'unclassified']),
  ])('%s is %s', (operation, kind) => {
    const event = one({ operation: operation });
    expect([event.kind, event.source.raw_type, event.key.operation]).toEqual([
      kind,
      operation,
      operation,
    ]);
  });

  it.each([
    ['KeyUpdate', { keyProperties: { attributes: { enabled: false } } }, 'key_disabled'],
    ['KeyUpdate', { keyProperties: { attributes: { enabled: true } } }, 'policy_changed'],
    [
      'CertificateUpdate',
      { certificateProperties: { attributes: { enabled: false } } },
      'key_disabled',
    ],
    ['KeySign', { keyProperties: { attributes: { enabled: false } } }, 'key_used'],
  ])('%s with %j is %s', (operation, properties, kind) => {
    expect(one({ operation, properties }).kind).toBe(kind);
  });
});

describe('the outcome is what the signature says', () => {
  it.each([
    ['OK', 200, 'success', ''],
    ['Accepted', 202, 'success', ''],
    ['Forbidden', 403, 'denied', 'Forbidden'],
    ['Forbidden', 200, 'denied', 'Forbidden'],
    ['Unauthorized', 401, 'denied', 'Unauthorized'],
    ['Not Found', 404, 'failure', 'Not Found'],
    ['Conflict', 409, 'failure', 'Conflict'],
    ['toString', 500, 'failure', 'toString'],
    [undefined, 403, 'denied', '403'],
    [undefined, 204, 'success', ''],
  ])('%s, %i: %s', (signature, status, outcome, code) => {
    const event = one({
      signature,
      status,
      record: { resultDescription: 'Caller is not authorized' },
    });
    expect([event.outcome, event.error.code]).toEqual([outcome, code]);
    expect(event.error.detail).toBe(code === '' ? '' : 'Caller is not authorized');
  });

  it('a call without a token is asked for one', () => {
    expect(one({ signature: 'Unauthorized', status: 401, claim: undefined })).toMatchObject({
      outcome: 'challenge',
      actor: { ref: '' },
    });
  });

  it('is not known where nothing is said', () => {
    expect(one({ signature: undefined, properties: { httpStatusCode: null } }).outcome).toBe(
      'unknown',
    );
  });
});

describe('who called', () => {
  const long = {
    'http://schemas.microsoft.com/identity/claims/objectidentifier': oid,
    'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn': 'ada@example.com',
    appid,
  };
  it.each([
    ['a person', person, oid, 'user'],
    ['a person, by the long names of claims', long, oid, 'user'],
    ['a service', robot, oid, 'service'],
    ['an application', { appid }, appid, 'service'],
  ])('%s', (_, claim, id, type) => {
    expect(one({ claim }).actor).toEqual({ ref: ring.ref('subject', id), type });
  });

  it('how a person had logged in', () => {
    expect(one({ claim: { ...person, amr: ['pwd', 'mfa'] } }).amr).toEqual(['mfa', 'pwd']);
  });
});

describe('what it is about', () => {
  it.each([
    [`https://${host}/secrets/db`, `${host}/secrets/db`],
    [`https://${host}/secrets/db/0f0f`, `${host}/secrets/db`],
    [`https://SHOP.vault.azure.net/keys/k?x=1`, `${host}/keys/k`],
    [`https://${host}/deletedkeys/k`, `${host}/keys/k`],
    [`https://${host}/`, ''],
    ['not a url', ''],
    [undefined, ''],
  ])('%s', (id, kid) => {
    const event = one({ id });
    expect(event.key.kid).toBe(kid);
    expect(event.source.instance).toBe('shop');
  });
});

it('records of one call have ids of their own, and keep them when they come again', () => {
  const ids = [{}, {}, { operation: 'KeyGet' }, { id: `https://${host}/keys/other` }].map(
    (m) => one(m).event_id,
  );
  expect(new Set(ids).size).toBe(3);
  expect(ids[0]).toBe(ids[1]);
});

describe('containers and what is no record', () => {
  it('an Event Hub message is opened', () => {
    const record = recordOf({});
    expect(keyVault.unwrap?.({ records: [record, 7] })).toEqual([record, 7]);
    expect(keyVault.unwrap?.(record)).toBeUndefined();
    expect(keyVault.unwrap?.([])).toBeUndefined();
  });

  const unrecognised =
    'record: no audit record of Key Vault; operationName and the category AuditEvent are needed';
  it.each([
    [
      'another category',
      { operationName: 'Sign-in activity', category: 'SignInLogs' },
      'unrecognised_record',
      unrecognised,
    ],
    ['no operation', { category: 'AuditEvent', time: 1 }, 'unrecognised_record', unrecognised],
    ['no time', { operationName: 'KeySign' }, 'missing_field', 'time: is required'],
    [
      'a bad time',
      { operationName: 'KeySign', time: 'x' },
      'invalid_time',
      `time: not a time; ${TIME_ALLOWED}`,
    ],
    ['a list', [], 'not_an_object', 'record: must be a JSON object'],
  ])('%s', (_, value, code, message) => {
    expect(keyVault.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
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
    expect(keyVault.parse(line('x'), { received_at: RECEIVED_AT })).toEqual(refused);
  });

  it('foreign names and types do no harm', () => {
    const record = JSON.parse(
      '{"identity":{"claim":[]},"properties":{"id":{},"httpStatusCode":{},"requestUri":7,"__proto__":{"id":"x"}},"resultSignature":{},"resourceId":[]}',
    ) as object;
    expect(one({ operation: 'constructor', record })).toMatchObject({
      ...{ kind: 'unclassified', outcome: 'unknown', key: { kid: '' } },
    });
  });
});

it('provides what it says', () => {
  const events = [
    one({
      operation: 'KeyGet',
      claim: person,
      signature: 'Forbidden',
      status: 403,
      record: { resultDescription: 'x' },
    }),
    one({ operation: 'VaultPatch' }),
  ];
  expect(filledFields(events)).toEqual([...keyVault.provides].sort());
});

describe.skipIf(!hasSamples)('real records', () => {
  it('are read', () => {
    const records = sampleRows('azure-key-vault.ndjson').flatMap((row) => recordsOf(keyVault, row));
    const events = records.flatMap((record) => eventsOf(keyVault, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => [e.source.raw_type, e.kind, e.outcome, e.actor.type])).toEqual([
      ['CertificateCreate', 'key_created', 'success', 'user'],
      ['CertificateImport', 'key_created', 'success', 'user'],
      ['KeyBackup', 'key_used', 'success', 'user'],
      ['KeyDelete', 'key_deleted', 'success', 'user'],
      ['KeyGet', 'api_accessed', 'success', 'user'],
      ['KeyList', 'api_accessed', 'denied', 'user'],
      ['KeyListVersions', 'api_accessed', 'success', 'user'],
      ['KeyPurge', 'key_deleted', 'denied', 'user'],
      ['SecretBackup', 'secret_read', 'success', 'user'],
      ['SecretGet', 'secret_read', 'failure', 'user'],
      ['SecretList', 'api_accessed', 'success', 'user'],
      ['SecretPurge', 'secret_changed', 'denied', 'user'],
      ['SecretRestore', 'secret_changed', 'failure', 'user'],
      ['VaultGet', 'api_accessed', 'success', 'user'],
      ['VaultGet', 'api_accessed', 'success', 'user'],
      ['VaultGet', 'api_accessed', 'success', 'user'],
    ]);
    process.stdout.write(
      `samples azure_key_vault: ${records.length} records, ${events.length} events\n`,
    );
  });
});
