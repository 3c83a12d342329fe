import { describe, expect, it } from 'vitest';
import { ClientRegistry, type Registration } from '../../detectors/client_registry.ts';
import { readClientList, writeClientList } from '../../model/client_metadata.ts';

// What rules may know of a client, by event time, and what stays unknown.

const registration = (
  n: number,
  time: bigint,
  ext: Readonly<Record<string, string>>,
  kind: Registration['kind'] = 'client_registered',
): Registration => ({
  event_id: `00000000-0000-4000-8000-00000000000${n}`,
  client_id: 'app',
  time,
  scope: ext['scope'],
  redirect_uris: ext['redirect_uris'],
  kind,
  ext,
});

const UNKNOWN = {
  scopes: undefined,
  redirectUris: undefined,
  authMethod: undefined,
  grantTypes: undefined,
  responseTypes: undefined,
  type: undefined,
  keyIds: undefined,
  hasSecret: undefined,
  registeredAt: undefined,
};

describe('ClientRegistry', () => {
  it('knows nothing of a client that nobody stated', () => {
    expect(new ClientRegistry([], []).at('app', 1n)).toStrictEqual(UNKNOWN);
  });

  it('answers each part as of event time; a part that an update leaves out stays as it was', () => {
    const registry = new ClientRegistry(
      [],
      [
        registration(2, 20n, { grant_types: 'refresh_token', jwks_kids: 'k2' }, 'client_updated'),
        registration(1, 10n, {
          grant_types: 'authorization_code refresh_token',
          response_types: 'code',
          token_endpoint_auth_method: 'client_secret_basic',
          jwks_kids: 'k1',
        }),
      ],
    );
    const first = {
      ...UNKNOWN,
      authMethod: 'client_secret_basic',
      grantTypes: new Set(['authorization_code', 'refresh_token']),
      responseTypes: new Set(['code']),
      type: 'confidential',
      keyIds: new Set(['k1']),
      hasSecret: true,
      registeredAt: 10n,
    };
    expect(registry.at('app', 9n)).toStrictEqual(UNKNOWN);
    expect(registry.at('app', 10n)).toStrictEqual(first);
    expect(registry.at('app', 20n)).toStrictEqual({
      ...first,
      grantTypes: new Set(['refresh_token']),
      keyIds: new Set(['k2']),
    });
  });

  it.each([
    ['none', 'public', false],
    ['client_secret_post', 'confidential', true],
    ['client_secret_jwt', 'confidential', true],
    ['private_key_jwt', 'confidential', undefined],
    ['tls_client_auth', 'confidential', undefined],
  ])('takes type and secret from the method %s', (method, type, hasSecret) => {
    const ext = { token_endpoint_auth_method: method };
    const client = new ClientRegistry([], [registration(1, 1n, ext)]).at('app', 1n);
    expect([client.type, client.hasSecret]).toEqual([type, hasSecret]);
  });

  it('lets what is stated outright go before what follows from the method', () => {
    const ext = {
      token_endpoint_auth_method: 'private_key_jwt',
      client_type: 'public',
      secret_held: 'true',
    };
    const client = new ClientRegistry([], [registration(1, 1n, ext)]).at('app', 1n);
    expect([client.type, client.hasSecret]).toEqual(['public', true]);
  });

  it('takes the time of registration from the issue time, else from the first registration event', () => {
    const updated = registration(1, 50n, { scope: 'a' }, 'client_updated');
    const at = (...all: Registration[]): bigint | undefined =>
      new ClientRegistry([], all).at('app', 90n).registeredAt;
    expect(at(updated)).toBeUndefined();
    expect(at(updated, registration(2, 60n, {}), registration(3, 70n, {}))).toBe(60n);
    const stated = registration(4, 8_000_000_000n, { client_id_issued_at: '3' }, 'client_updated');
    const registry = new ClientRegistry([], [registration(2, 60n, {}), stated]);
    expect(registry.at('app', 2_999_999_999n).registeredAt).toBeUndefined();
    expect(registry.at('app', 3_000_000_000n).registeredAt).toBe(3_000_000_000n);
  });

  it('holds what grantscope.yaml states for all time, whatever events say', () => {
    const registry = new ClientRegistry(
      [
        {
          client_id: 'app',
          grant_types: ['client_credentials'],
          response_types: [],
          token_endpoint_auth_method: 'private_key_jwt',
          client_type: 'confidential',
          jwks_kids: ['k9'],
          has_secret: false,
          client_id_issued_at: 1_700_000_000,
        },
      ],
      [registration(1, 10n, { grant_types: 'password', scope: 'a' })],
    );
    expect(registry.at('app', 10n)).toStrictEqual({
      scopes: new Set(['a']),
      redirectUris: undefined,
      authMethod: 'private_key_jwt',
      grantTypes: new Set(['client_credentials']),
      responseTypes: new Set(),
      type: 'confidential',
      keyIds: new Set(['k9']),
      hasSecret: false,
      registeredAt: undefined,
    });
  });
});

describe('lists in registration events', () => {
  const uris = (n: number): string[] =>
    Array.from({ length: n }, (_, i) => `https://app-${i}.example/${'p'.repeat(80)}`);

  it('go on in further entries where one is too short, and come back whole', () => {
    const entries = writeClientList('redirect_uris', uris(60));
    expect(Object.keys(entries)).toEqual([
      'redirect_uris',
      'redirect_uris_2',
      'redirect_uris_3',
      'redirect_uris_4',
    ]);
    expect(Math.max(...Object.values(entries).map((v) => v.length))).toBeLessThanOrEqual(2_000);
    expect(readClientList(entries, 'redirect_uris')).toEqual(uris(60));
    expect(readClientList(writeClientList('scope', []), 'scope')).toEqual([]);
  });

  it('are unknown where they are absent, too long, or may have been cut', () => {
    expect(readClientList({}, 'redirect_uris')).toBeUndefined();
    expect(
      readClientList(writeClientList('redirect_uris', uris(400)), 'redirect_uris'),
    ).toBeUndefined();
    expect(readClientList({ redirect_uris: 'x'.repeat(2_001) }, 'redirect_uris')).toBeUndefined();
    expect(readClientList(writeClientList('scope', ['x'.repeat(2_001)]), 'scope')).toBeUndefined();
  });
});
