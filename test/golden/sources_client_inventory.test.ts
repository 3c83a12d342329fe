import { describe, expect, it } from 'vitest';
import inventory from '../../collector/sources/client_inventory.ts';
import { eventsOf, expected, json, RECEIVED_AT, withoutId } from './run_source.ts';

const SECRET = 'cf136dc3c1fc93f31185e5885805d';
const THUMBPRINT = 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs';

describe('client_inventory', () => {
  it('reads the answer of a registration endpoint (RFC 7591 section 3.2.1), without the secrets in it', () => {
    const [event] = eventsOf(
      inventory,
      json({
        client_id: 's6BhdRkqt3',
        client_secret: SECRET,
        client_secret_expires_at: 1_577_858_400,
        client_id_issued_at: 1_577_836_800,
        registration_access_token: 'this.is.an.access.token.value.ffx83',
        registration_client_uri: 'https://server.example.com/register/s6BhdRkqt3',
        redirect_uris: [
          'https://client.example.org/callback',
          'https://client.example.org/callback2',
        ],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        client_name: 'My Example Client',
        token_endpoint_auth_method: 'private_key_jwt',
        scope: 'read write dolphin',
        jwks: {
          keys: [
            { kty: 'EC', kid: THUMBPRINT, d: 'private-part-of-the-key' },
            { kty: 'EC', kid: 'k2' },
          ],
        },
        statement_time: '2026-01-05T12:00:00Z',
      }),
    );
    expect(withoutId(event!)).toEqual(
      expected(inventory, {
        time: 1_767_614_400_000_000_000n,
        kind: 'client_updated',
        outcome: 'success',
        endpoint: 'registration',
        source: { raw_type: 'client_inventory' },
        client: { id: 's6BhdRkqt3', name: 'My Example Client' },
        key: { kid: `${THUMBPRINT} k2` },
        ext: {
          scope: 'read write dolphin',
          redirect_uris: 'https://client.example.org/callback https://client.example.org/callback2',
          grant_types: 'authorization_code refresh_token',
          response_types: 'code',
          token_endpoint_auth_method: 'private_key_jwt',
          secret_held: 'true',
          client_id_issued_at: '1577836800',
        },
      }),
    );
    const text = JSON.stringify(event, (_, v: unknown) =>
      typeof v === 'bigint' ? v.toString() : v,
    );
    for (const secret of [SECRET, 'access.token', 'private-part'])
      expect(text).not.toContain(secret);
  });

  it('states no more than it is told, as of the time of receipt', () => {
    const [event] = eventsOf(
      inventory,
      json({ client_id: 'app', client_type: 'public', has_secret: false, redirect_uris: [] }),
    );
    expect(withoutId(event!)).toEqual(
      expected(inventory, {
        time: RECEIVED_AT,
        kind: 'client_updated',
        outcome: 'success',
        endpoint: 'registration',
        source: { raw_type: 'client_inventory' },
        client: { id: 'app' },
        ext: { client_type: 'public', secret_held: 'false', redirect_uris: '' },
      }),
    );
  });

  it.each([
    [{}, 'missing_field', 'client_id: must be text that is not empty'],
    [{ client_id: 7 }, 'missing_field', 'client_id: must be text that is not empty'],
    [
      { client_id: 'a', statement_time: 'soon' },
      'invalid_time',
      'statement_time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [
      { client_id: 'a', redirect_uris: ['https://a b'] },
      'invalid_field',
      'redirect_uris: must be a list of at most 1000 texts without white space',
    ],
    [
      { client_id: 'a', scope: 7 },
      'invalid_field',
      'scope: must be a list of at most 1000 texts without white space',
    ],
    [
      { client_id: 'a', jwks_kids: [1] },
      'invalid_field',
      'jwks_kids: must be a list of at most 1000 texts without white space',
    ],
    [
      { client_id: 'a', client_type: 'secret' },
      'invalid_field',
      'client_type: allowed: public, confidential',
    ],
    [{ client_id: 'a', has_secret: 'yes' }, 'invalid_field', 'has_secret: must be true or false'],
    [
      { client_id: 'a', token_endpoint_auth_method: '' },
      'invalid_field',
      'token_endpoint_auth_method: must be text without white space',
    ],
    [
      { client_id: 'a', client_id_issued_at: '2026' },
      'invalid_field',
      'client_id_issued_at: must be whole seconds since the epoch',
    ],
  ])('refuses %o', (value, code, message) => {
    expect(inventory.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });
});
