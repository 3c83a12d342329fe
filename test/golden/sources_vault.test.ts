import { describe, expect, it } from 'vitest';
import { TIME_ALLOWED } from '../../collector/sources/_reading.ts';
import vault from '../../collector/sources/vault.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_123_456_789n;
const time = '2026-01-01T00:00:00.123456789Z';
const requestId = '7d5a3f86-1f2e-4c53-9a0e-0f4a5a1d0001';
const callerHmac = 'a1'.repeat(32);
const newHmac = 'b2'.repeat(32);
const masked = (hex: string): string => `hmac-sha256:${hex}`;
const tokenOf = (hex: string): string => ring.ref('token', hex);

const auth = {
  client_token: masked(callerHmac),
  accessor: masked('c3'.repeat(32)),
  display_name: 'userpass-ada',
  entity_id: 'entity-ada',
  policies: ['default', 'keys'],
  token_issue_time: '2025-12-31T23:00:00Z',
  token_ttl: 7_200,
};

interface Entry {
  readonly type?: string;
  readonly auth?: object;
  readonly error?: string;
  readonly request?: object;
  readonly response?: object;
}
const entry = (path: string, operation: string, mount: string, more: Entry = {}) => ({
  time,
  type: more.type ?? 'response',
  auth: more.auth ?? auth,
  ...(more.error === undefined ? {} : { error: more.error }),
  request: {
    ...{ id: requestId, operation, path, mount_type: mount, remote_address: '203.0.113.9' },
    ...more.request,
  },
  ...(more.response === undefined ? {} : { response: more.response }),
});
const one = (value: object): AuthEvent => {
  const events = eventsOf(vault, json(value));
  expect(events).toHaveLength(1);
  return events[0]!;
};

describe('an action is two entries, of which the response counts', () => {
  const sign = (type: string) =>
    entry('transit/sign/orders/sha2-256', 'update', 'transit', {
      type,
      request: {
        mount_point: 'transit/',
        namespace: { id: 'x1', path: 'team-a/' },
        headers: { 'user-agent': ['Go-http-client/1.1'] },
      },
    });
  const shared = {
    time: at,
    kind: 'key_used' as const,
    source: { tenant: 'team-a', raw_type: 'update transit/sign' },
    actor: { ref: ring.ref('subject', 'entity-ada'), type: 'user' as const },
    tokens: [
      {
        ...{ role: 'presented' as const, type: 'access' as const, ref: tokenOf(callerHmac) },
        ref_kind: 'vendor_hash' as const,
        issued_at: 1_767_222_000_000_000_000n,
        expires_at: 1_767_229_200_000_000_000n,
      },
    ],
    net: {
      ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
      ...{ user_agent: 'Go-http-client/1.1', ua_family: 'Go-http-client' },
    },
    key: { kid: 'transit/orders', operation: 'sign', store: 'transit' },
    corr: { request_id: requestId },
    ext: { vault_path: 'transit/sign/orders/sha2-256', mount_type: 'transit' },
    redaction: { fields: ['actor.ref', 'tokens.ref'], upstream: true },
  };

  it('the response is the outcome, under the id of the request', () => {
    const event = one(sign('response'));
    expect(event.event_id).toBe(requestId);
    expect(withoutId(event)).toEqual(
      expected(vault, { ...shared, phase: 'outcome', outcome: 'success' }),
    );
  });

  it('the request is the attempt, under an id of its own', () => {
    const event = one(sign('request'));
    expect(event.event_id).not.toBe(requestId);
    expect(withoutId(event)).toEqual(
      expected(vault, { ...shared, phase: 'attempt', outcome: 'pending' }),
    );
  });
});

describe('every path that has a kind', () => {
  const point = (mount_point: string): Entry => ({ request: { mount_point } });
  it.each([
    // path, operation, mount type, mount point, kind, raw type, kid, operation of the key, endpoint
    [
      'transit/export/signing-key/s1/1',
      'read',
      'transit',
      'transit/',
      'key_used',
      'read transit/export',
      'transit/s1',
      'export',
      '',
    ],
    [
      'transit/backup/s1',
      'read',
      'transit',
      'transit/',
      'key_used',
      'read transit/backup',
      'transit/s1',
      'backup',
      '',
    ],
    [
      'eu/transit/keys/s1',
      'update',
      'transit',
      'eu/transit/',
      'key_created',
      'update transit/keys',
      'eu/transit/s1',
      'update',
      '',
    ],
    [
      'transit/keys/s1',
      'delete',
      'transit',
      'transit/',
      'key_deleted',
      'delete transit/keys',
      'transit/s1',
      'delete',
      '',
    ],
    [
      'transit/keys/s1',
      'read',
      'transit',
      'transit/',
      'api_accessed',
      'read transit/keys',
      'transit/s1',
      'read',
      '',
    ],
    [
      'transit/keys/s1/rotate',
      'update',
      'transit',
      'transit/',
      'key_rotated',
      'update transit/keys',
      'transit/s1',
      'update',
      '',
    ],
    [
      'transit/keys/s1/import',
      'update',
      'transit',
      'transit/',
      'key_created',
      'update transit/keys',
      'transit/s1',
      'update',
      '',
    ],
    [
      'transit/keys/s1/config',
      'update',
      'transit',
      'transit/',
      'policy_changed',
      'update transit/keys',
      'transit/s1',
      'update',
      '',
    ],
    [
      'transit/restore/s1',
      'update',
      'transit',
      'transit/',
      'key_created',
      'update transit/restore',
      'transit/s1',
      'update',
      '',
    ],
    [
      'secret/data/apps/web',
      'read',
      'kv',
      'secret/',
      'secret_read',
      'read kv/data',
      'secret/apps/web',
      'read',
      '',
    ],
    [
      'secret/data/apps/web',
      'update',
      'kv',
      'secret/',
      'secret_changed',
      'update kv/data',
      'secret/apps/web',
      'update',
      '',
    ],
    [
      'secret/destroy/apps/web',
      'update',
      'kv',
      'secret/',
      'secret_changed',
      'update kv/destroy',
      'secret/apps/web',
      'update',
      '',
    ],
    [
      'secret/metadata/apps/web',
      'read',
      'kv',
      'secret/',
      'api_accessed',
      'read kv/metadata',
      'secret/apps/web',
      'read',
      '',
    ],
    [
      'secret/metadata/apps',
      'list',
      'kv',
      'secret/',
      'api_accessed',
      'list kv/metadata',
      'secret/apps',
      'list',
      '',
    ],
    ['old/apps/web', 'read', 'kv', 'old/', 'secret_read', 'read kv', 'old/apps/web', 'read', ''],
    [
      'old/apps/web',
      'create',
      'generic',
      'old/',
      'secret_changed',
      'create generic',
      'old/apps/web',
      'create',
      '',
    ],
    [
      'database/creds/reader',
      'read',
      'database',
      'database/',
      'secret_read',
      'read database/creds',
      'database/creds/reader',
      'read',
      '',
    ],
    [
      'database/rotate-role/reader',
      'update',
      'database',
      'database/',
      'secret_changed',
      'update database/rotate-role',
      'database/creds/reader',
      'update',
      '',
    ],
    [
      'aws/sts/deploy',
      'read',
      'aws',
      'aws/',
      'secret_read',
      'read aws/sts',
      'aws/creds/deploy',
      'read',
      '',
    ],
    [
      'pki/root/generate/internal',
      'update',
      'pki',
      'pki/',
      'key_created',
      'update pki/root',
      'pki/root/generate/internal',
      'update',
      '',
    ],
    ['pki/issue/web', 'update', 'pki', 'pki/', 'unclassified', 'update pki', '', '', ''],
    [
      'identity/oidc/key/k1/rotate',
      'update',
      'identity',
      'identity/',
      'key_rotated',
      'update identity/oidc',
      'identity/oidc/key/k1',
      'update',
      '',
    ],
    [
      'identity/oidc/key/k1',
      'delete',
      'identity',
      'identity/',
      'key_deleted',
      'delete identity/oidc',
      'identity/oidc/key/k1',
      'delete',
      '',
    ],
    [
      'identity/oidc/token/web',
      'read',
      'identity',
      'identity/',
      'token_issued',
      'read identity/oidc',
      '',
      '',
      'token',
    ],
    [
      'identity/oidc/introspect',
      'update',
      'identity',
      'identity/',
      'token_introspected',
      'update identity/oidc',
      '',
      '',
      'introspection',
    ],
    [
      'identity/oidc/provider/main/authorize',
      'read',
      'identity',
      'identity/',
      'authorization_requested',
      'read identity/oidc',
      '',
      '',
      'authorization',
    ],
    [
      'identity/oidc/provider/main/token',
      'update',
      'identity',
      'identity/',
      'token_issued',
      'update identity/oidc',
      '',
      '',
      'token',
    ],
    [
      'identity/oidc/provider/main/userinfo',
      'read',
      'identity',
      'identity/',
      'userinfo_accessed',
      'read identity/oidc',
      '',
      '',
      'userinfo',
    ],
    [
      'identity/oidc/.well-known/keys',
      'read',
      'identity',
      'identity/',
      'jwks_fetched',
      'read identity/oidc',
      '',
      '',
      'jwks',
    ],
    [
      'identity/oidc/client/web',
      'read',
      'identity',
      'identity/',
      'secret_read',
      'read identity/oidc',
      'identity/oidc/client/web',
      'read',
      '',
    ],
    [
      'identity/oidc/client/web',
      'create',
      'identity',
      'identity/',
      'client_registered',
      'create identity/oidc',
      '',
      '',
      '',
    ],
    [
      'identity/oidc/client/web',
      'update',
      'identity',
      'identity/',
      'client_updated',
      'update identity/oidc',
      '',
      '',
      '',
    ],
    [
      'identity/oidc/client/web',
      'delete',
      'identity',
      'identity/',
      'client_deleted',
      'delete identity/oidc',
      '',
      '',
      '',
    ],
    [
      'auth/token/create',
      'update',
      'token',
      'auth/token/',
      'token_issued',
      'update token/create',
      '',
      '',
      'token',
    ],
    [
      'auth/token/renew-self',
      'update',
      'ns_token',
      'auth/token/',
      'token_refreshed',
      'update token/renew-self',
      '',
      '',
      'token',
    ],
    [
      'auth/token/revoke',
      'update',
      'token',
      'auth/token/',
      'token_revoked',
      'update token/revoke',
      '',
      '',
      'revocation',
    ],
    [
      'auth/token/lookup-self',
      'read',
      'token',
      'auth/token/',
      'token_introspected',
      'read token/lookup-self',
      '',
      '',
      'introspection',
    ],
    [
      'auth/userpass/login/ada',
      'update',
      'userpass',
      'auth/userpass/',
      'login',
      'update userpass/login',
      '',
      '',
      '',
    ],
    ['auth/sso/oidc/callback', 'read', 'oidc', 'auth/sso/', 'login', 'read oidc/oidc', '', '', ''],
    ['auth/sso/oidc/callback', 'read', 'jwt', 'auth/sso/', 'login', 'read jwt/oidc', '', '', ''],
    [
      'auth/sso/oidc/auth_url',
      'update',
      'oidc',
      'auth/sso/',
      'federation_handshake',
      'update oidc/oidc',
      '',
      '',
      '',
    ],
    [
      'auth/approle/login',
      'update',
      'approle',
      'auth/approle/',
      'token_issued',
      'update approle/login',
      '',
      '',
      'token',
    ],
    [
      'auth/aws/login',
      'update',
      'aws',
      'auth/aws/',
      'token_issued',
      'update aws/login',
      '',
      '',
      'token',
    ],
    [
      'auth/approle/role/deploy/secret-id',
      'update',
      'approle',
      'auth/approle/',
      'client_credential_changed',
      'update approle/role',
      '',
      '',
      '',
    ],
    [
      'auth/approle/role/deploy',
      'update',
      'approle',
      'auth/approle/',
      'policy_changed',
      'update approle/role',
      '',
      '',
      '',
    ],
    [
      'auth/userpass/users/ada/password',
      'update',
      'userpass',
      'auth/userpass/',
      'policy_changed',
      'update userpass/users',
      '',
      '',
      '',
    ],
    [
      'sys/policies/acl/admin',
      'update',
      'system',
      'sys/',
      'policy_changed',
      'update system/policies',
      '',
      '',
      '',
    ],
    [
      'sys/audit/file',
      'delete',
      'ns_system',
      'sys/',
      'policy_changed',
      'delete system/audit',
      '',
      '',
      '',
    ],
    [
      'sys/rotate',
      'update',
      'system',
      'sys/',
      'key_rotated',
      'update system/rotate',
      'sys/rotate',
      'update',
      '',
    ],
    ['sys/health', 'read', 'system', 'sys/', 'unclassified', 'read system', '', '', ''],
    ['toString/x', 'read', 'toString', 'toString/', 'unclassified', 'read toString', '', '', ''],
  ])(
    '%s (%s)',
    (path, operation, mount, mountPoint, kind, rawType, kid, keyOperation, endpoint) => {
      const e = one(entry(path, operation, mount, point(mountPoint)));
      expect([e.kind, e.source.raw_type, e.key.kid, e.key.operation, e.endpoint]).toEqual([
        ...[kind, rawType, kid, keyOperation, endpoint],
      ]);
      expect(e.outcome).toBe('success');
    },
  );

  it('reads the mount from the path where the entry does not name it', () => {
    expect(one(entry('secret/data/apps/web', 'read', 'kv')).key).toEqual({
      kid: 'secret/apps/web',
      operation: 'read',
      store: 'secret',
    });
    expect(one(entry('auth/userpass/login/ada', 'update', 'userpass')).kind).toBe('login');
  });

  it('names the client or the policy that a path is about', () => {
    const client = (path: string, mount: string) => one(entry(path, 'update', mount)).client.id;
    expect(client('auth/approle/role/deploy/secret-id', 'approle')).toBe('deploy');
    expect(client('identity/oidc/client/web', 'identity')).toBe('web');
    expect(one(entry('sys/policies/acl/admin', 'update', 'system')).policy.path).toBe('admin');
  });
});

describe('tokens by their HMAC', () => {
  const newAuth = {
    client_token: masked(newHmac),
    display_name: 'approle',
    entity_id: 'entity-deploy',
    metadata: { role_name: 'deploy' },
    token_issue_time: '2026-01-01T00:00:00Z',
    token_ttl: 600,
  };
  const made = {
    ...{ role: 'issued', type: 'access', ref: tokenOf(newHmac), ref_kind: 'vendor_hash' },
    ...{ issued_at: 1_767_225_600_000_000_000n, expires_at: 1_767_226_200_000_000_000n },
  };

  it('a login gives a token to a service, which has a role', () => {
    const login = one(
      entry('auth/approle/login', 'update', 'approle', {
        auth: newAuth,
        response: { auth: newAuth },
      }),
    );
    expect(login.tokens).toMatchObject([{ ...made, parent_ref: '' }]);
    expect(login.client.id).toBe('deploy');
    expect(login.subject).toEqual({ ref: ring.ref('subject', 'entity-deploy'), type: 'service' });
    expect(login.actor.ref).toBe('');
  });

  it('a token that is made by another names it as its parent', () => {
    const create = one(
      entry('auth/token/create', 'update', 'token', { response: { auth: newAuth } }),
    );
    expect(create.tokens).toMatchObject([{ ...made, parent_ref: tokenOf(callerHmac) }]);
    expect(create.actor.ref).toBe(ring.ref('subject', 'entity-ada'));
    expect(create.subject.ref).toBe(ring.ref('subject', 'entity-deploy'));
  });

  it('renewal, revocation and look-up mention the token that they are about', () => {
    const about = (path: string, data: object, response = {}) =>
      one(entry(path, 'update', 'token', { request: { data }, response })).tokens.map((t) => [
        t.role,
        t.ref,
      ]);
    const token = masked(newHmac);
    expect(about('auth/token/renew', { token }, { auth: newAuth })).toEqual([
      ['presented', tokenOf(newHmac)],
    ]);
    expect(about('auth/token/renew-self', {})).toEqual([['presented', tokenOf(callerHmac)]]);
    expect(about('auth/token/revoke', { token })).toEqual([['revoked', tokenOf(newHmac)]]);
    expect(about('auth/token/revoke-self', {})).toEqual([['revoked', tokenOf(callerHmac)]]);
    expect(about('auth/token/revoke-accessor', { accessor: token })).toEqual([]);
    expect(about('auth/token/lookup', { token })).toEqual([['presented', tokenOf(newHmac)]]);
  });

  it('a token in clear (log_raw) becomes our own reference', () => {
    const raw = 'hvs.CAESIExampleTokenOfATest0123456789';
    const event = one(
      entry('secret/data/x', 'read', 'kv', { auth: { ...auth, client_token: raw } }),
    );
    expect(event.tokens).toMatchObject([{ ref: tokenOf(raw), ref_kind: 'hmac' }]);
    expect(
      JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? '' : v)),
    ).not.toContain(raw);
    expect(event.redaction.upstream).toBe(false);
  });
});

describe('failures', () => {
  it.each([
    ['1 error occurred:\n\t* permission denied\n\n', 'denied', 'permission_denied'],
    ['bad token', 'failure', 'invalid_token'],
    ['invalid username or password', 'failure', 'invalid_credentials'],
    ['internal error', 'failure', 'server_error'],
    ['unsupported path', 'failure', 'error'],
  ])('%j', (error, outcome, code) => {
    const event = one(entry('secret/data/x', 'read', 'kv', { error }));
    expect([event.kind, event.outcome, event.error.code]).toEqual(['secret_read', outcome, code]);
    expect(event.error.detail).not.toBe('');
  });

  it('a refusal in the masked data of the response is one too', () => {
    const event = one(
      entry('auth/userpass/login/ada', 'update', 'userpass', {
        auth: {},
        response: { data: { error: masked('d4'.repeat(32)) } },
      }),
    );
    expect([event.kind, event.outcome, event.error.code, event.error.detail]).toEqual([
      ...['login_failed', 'failure', 'error', ''],
    ]);
    expect(event.subject).toEqual({ ref: ring.ref('subject', 'ada'), type: 'user' });
  });

  it.each([
    ['auth/userpass/login/ada', 'auth/userpass/login/*'],
    ['auth/team/okta/login/ada', 'auth/team/okta/login/*'],
    ['auth/userpass/users/ada/password', 'auth/userpass/users/*/password'],
    ['auth/approle/login', 'auth/approle/login'],
    ['secret/data/users/ada', 'secret/data/users/ada'],
  ])('%s names nobody in clear: %s', (path, kept) => {
    expect(one(entry(path, 'update', 'userpass')).ext['vault_path']).toBe(kept);
  });

  it.each([
    ['auth/approle/login', 'approle', 'token_request_failed'],
    ['auth/token/renew-self', 'token', 'token_request_failed'],
    ['auth/token/revoke-self', 'token', 'token_revoked'],
    ['identity/oidc/provider/main/authorize', 'identity', 'authorization_failed'],
  ])('of %s', (path, mount, kind) => {
    expect(one(entry(path, 'update', mount, { error: 'internal error' })).kind).toBe(kind);
  });

  it('an attempt that was refused is no failure of its own', () => {
    const attempt = entry('auth/approle/login', 'update', 'approle', {
      type: 'request',
      error: 'permission denied',
    });
    expect(one(attempt)).toMatchObject({
      kind: 'token_issued',
      phase: 'attempt',
      outcome: 'denied',
    });
  });
});

describe('what is no audit entry', () => {
  const read = (value: unknown) => vault.parse(json(value), { received_at: RECEIVED_AT });
  const needed =
    'record: no Vault audit entry; type (request, response) and request.path are needed';
  it.each([
    [
      'another type',
      { ...entry('a/b', 'read', 'kv'), type: 'status' },
      'unrecognised_record',
      needed,
    ],
    ['no request', { type: 'request', time }, 'unrecognised_record', needed],
    [
      'a path that is no text',
      { type: 'request', time, request: { path: {} } },
      'unrecognised_record',
      needed,
    ],
    [
      'no time',
      { ...entry('a/b', 'read', 'kv'), time: undefined },
      'missing_field',
      'time: is required',
    ],
    [
      'a bad time',
      { ...entry('a/b', 'read', 'kv'), time: 'soon' },
      'invalid_time',
      `time: not a time; ${TIME_ALLOWED}`,
    ],
    ['a list', [], 'not_an_object', 'record: must be a JSON object'],
  ])('%s', (_, value, code, message) => {
    expect(read(JSON.parse(JSON.stringify(value)))).toEqual({ ok: false, code, message });
  });

  it('text', () => {
    expect(vault.parse(line('x'), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code: 'unsupported_form',
      message: 'text: allowed is a JSON object',
    });
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      `{"type":"response","time":"${time}","auth":[],"error":{},"response":{"auth":"x","data":7},` +
        '"request":{"path":"__proto__/constructor","mount_type":"__proto__","operation":["read"],' +
        '"namespace":"x","headers":{"user-agent":[{}]},"data":{"token":{}},"__proto__":{"id":"x"}}}',
    ) as unknown;
    expect(one(hostile as object)).toMatchObject({
      kind: 'unclassified',
      outcome: 'success',
      tokens: [],
    });
  });
});

it('provides what it says', () => {
  const events = [
    entry('auth/token/create', 'update', 'token', {
      request: { namespace: { path: 'a/' }, headers: { 'user-agent': ['Go-http-client/1.1'] } },
      response: {
        auth: {
          ...auth,
          client_token: masked(newHmac),
          metadata: { role_name: 'deploy' },
        },
      },
    }),
    {
      ...entry('transit/sign/s1', 'update', 'transit'),
      forwarded_from: 'vault-1.example.com:8201',
    },
    entry('sys/policies/acl/admin', 'update', 'system', { error: 'permission denied' }),
  ].map(one);
  expect(filledFields(events)).toEqual([...vault.provides].sort());
});

describe.skipIf(!hasSamples)('real entries', () => {
  it('are read', () => {
    const records = sampleRows('vault_audit.ndjson').flatMap((row) => recordsOf(vault, row));
    const events = records.flatMap((record) => eventsOf(vault, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => [e.kind, e.source.raw_type, e.phase, e.outcome, e.key.kid])).toEqual([
      ['unclassified', 'update pki', 'attempt', 'denied', ''],
      [
        'secret_read',
        'read kv/data',
        'attempt',
        'pending',
        'secret/apps/continuous-delivery/aws-bucket-sse-c',
      ],
    ]);
    process.stdout.write(`samples vault: ${records.length} records, ${events.length} events\n`);
  });
});
