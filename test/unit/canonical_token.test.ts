import { describe, expect, it } from 'vitest';
import {
  identifyToken,
  isAbsentLiteral,
  isMaskedLiteral,
} from '../../collector/processors/canonical_token.ts';
import { Secret } from '../../model/secret.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

const ring = KeyRing.fromKey(TEST_KEY);
const opaque = ['mF9x', 'B5fQ', '4.1JqM'].join('_');
const uuid = '3a76b735-e324-42b1-aa15-7c1f69f22eb8';
const jwtOf = (claims: object): string =>
  `${[{ alg: 'RS256' }, claims].map((p) => Buffer.from(JSON.stringify(p)).toString('base64url')).join('.')}.c2ln`;
const secret = (text: string) => identifyToken(ring, { secret: new Secret(text) });

describe('a raw token', () => {
  it.each([
    opaque,
    ` ${opaque}\r\n`,
    `Bearer ${opaque}`,
    `bearer  ${opaque}`,
    `DPoP ${opaque}`,
    `"${opaque}"`,
    `'Bearer ${opaque}'`,
    opaque.replaceAll('_', '%5F'),
    opaque.replaceAll('_', '%255F'),
  ])('has one reference however it is spelt: %s', (spelling) => {
    expect(secret(spelling)).toEqual({
      ref: ring.ref('token', opaque),
      ref_kind: 'hmac',
      masked: false,
    });
  });

  it('that is a JWT is known by its jti, as the authorization server logs it', () => {
    const seen = secret(`Bearer ${jwtOf({ jti: uuid.toUpperCase() })}`);
    expect(seen).toEqual({ ref: uuid, ref_kind: 'jti', masked: false });
    expect(identifyToken(ring, { jti: uuid }).ref).toBe(seen.ref);
    expect(identifyToken(ring, { jti: `onrtac:${uuid}` }).ref).toBe(uuid);
    expect(identifyToken(ring, { jti: `urn:uuid:${uuid}` }).ref).toBe(uuid);
    expect(secret(jwtOf({ jti: 'abc' })).ref).toBe(ring.ref('token', 'abc'));
  });

  it('that is a JWT without jti is known by its whole text', () => {
    const jwt = jwtOf({ sub: 'x' });
    expect(secret(jwt)).toEqual({ ref: ring.ref('token', jwt), ref_kind: 'hmac', masked: false });
  });

  it('is keyed even where it looks like a UUID: it is a secret, not a name', () => {
    expect(secret(uuid).ref).toBe(ring.ref('token', uuid));
  });
});

describe('other ways of naming a token', () => {
  it('keeps a reference, refuses what is none, and keys ids and hashes of the vendor', () => {
    expect(identifyToken(ring, { ref: uuid.toUpperCase() })).toMatchObject({
      ref: uuid,
      ref_kind: 'hmac',
    });
    expect(identifyToken(ring, { ref: opaque }).ref).toBe('');
    expect(identifyToken(ring, { vendor_id: uuid })).toMatchObject({
      ref: uuid,
      ref_kind: 'vendor_id',
    });
    expect(identifyToken(ring, { vendor_hash: 'abc' })).toMatchObject({
      ref: ring.ref('token', 'abc'),
      ref_kind: 'vendor_hash',
    });
    expect(identifyToken(ring, {})).toEqual({ ref: '', ref_kind: 'hmac', masked: false });
  });
});

describe('masks', () => {
  it.each([
    ...[
      '****VM-',
      'HIDDEN_DUE_TO_SECURITY_REASONS',
      'hmac-sha256:0123abcd',
      '[redacted]',
      '***',
      '[secret]',
    ],
    ...['<REDACTED>', 'xxxxxxxx', '••••••', '{masked}', '[FILTERED]'],
  ])('%s stands for a removed value and never becomes a reference', (mask) => {
    expect(isMaskedLiteral(mask)).toBe(true);
    for (const identity of [
      { secret: new Secret(mask) },
      { jti: mask },
      { vendor_id: mask },
      { vendor_hash: mask },
    ]) {
      expect(identifyToken(ring, identity)).toMatchObject({ ref: '', masked: true });
    }
  });

  it.each(['-', 'null', '<null>', 'unknown', 'None', '', ' null '])(
    '%j means no value',
    (literal) => {
      expect(isAbsentLiteral(literal.trim())).toBe(true);
      expect(secret(literal)).toEqual({ ref: '', ref_kind: 'hmac', masked: false });
    },
  );

  it('are not seen where there is a token', () => {
    for (const text of [opaque, 'secretary', 'xx', 'hiddenvalley', uuid]) {
      expect(isMaskedLiteral(text)).toBe(false);
    }
  });
});
