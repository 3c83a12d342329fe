/**
 * One token, many spellings, one reference: on the side of the authorization server, of the API and of the
 * collector, which reads what vendors logged.
 */
import fc from 'fast-check';
import { UnsecuredJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import { identifyToken } from '../../collector/processors/canonical_token.ts';
import { Secret } from '../../model/secret.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import {
  TOKEN_JWT_LENGTH_MAX,
  canonicalToken,
  tokenName,
  tokenReference,
} from '../../runtime/token_reference.ts';
import { TEST_KEY } from '../harness.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const jwt = (claims: Record<string, unknown>): string => new UnsecuredJWT(claims).encode();

describe('canonicalToken', () => {
  it.each([
    ['abc', 'abc'],
    ['  abc\r\n', 'abc'],
    ['Bearer abc', 'abc'],
    ['DPoP   abc', 'abc'],
    ['bearer%20abc', 'abc'],
    ['a%2Fb%3D', 'a/b='],
    ['a%252Fb', 'a/b'],
    ['bearerabc', 'bearerabc'],
    ['100%', '100%'],
    ['%E0%A4%A', '%E0%A4%A'],
    ['', ''],
  ])('%j is %j', (raw, canonical) => {
    expect(canonicalToken(raw)).toBe(canonical);
  });
});

describe('tokenReference', () => {
  it('takes the jti of a JWT, and a UUID jti as it is', () => {
    const id = '3F0C8A52-7F3C-4D51-9B6A-0C2D5E8F1A77';
    expect(tokenReference(keyRing, jwt({ jti: id }))).toEqual({
      ref: id.toLowerCase(),
      ref_kind: 'jti',
    });
    expect(tokenReference(keyRing, jwt({ jti: 'short-id' }))).toEqual({
      ref: keyRing.ref('token', 'short-id'),
      ref_kind: 'jti',
    });
  });

  it.each([
    ['a JWT without jti', jwt({ sub: 'x' })],
    ['a JWT with an empty jti', jwt({ jti: '' })],
    ['a JWT with a number for jti', jwt({ jti: 7 })],
    ['an encrypted JWT', 'eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn'],
    ['something like a JWT', 'eyJh.not-json.sig'],
    ['an array for claims', `eyJh.${Buffer.from('["jti"]').toString('base64url')}.`],
    ['an opaque token that is a UUID', '3f0c8a52-7f3c-4d51-9b6a-0c2d5e8f1a77'],
  ])('hashes %s whole', (_name, raw) => {
    expect(tokenReference(keyRing, raw)).toEqual({
      ref: keyRing.ref('token', raw),
      ref_kind: 'hmac',
    });
  });

  it('hashes an oversized JWT whole, without parsing it', () => {
    const huge = jwt({ jti: 'x', pad: 'p'.repeat(TOKEN_JWT_LENGTH_MAX) });
    expect(tokenName(huge)).toEqual({ ref_kind: 'hmac', name: huge });
  });

  it('gives nothing for nothing', () => {
    expect(tokenReference(keyRing, '  ')).toEqual({ ref: '', ref_kind: 'hmac' });
  });

  it('is the same for every spelling, here and in the collector', () => {
    const token68 = fc.stringMatching(/^[A-Za-z0-9._~+/-]{6,60}=?$/);
    const spelling = fc.constantFrom<(t: string) => string>(
      (t) => t,
      (t) => ` ${t}\n`,
      (t) => `Bearer ${t}`,
      (t) => `dpop ${t}`,
      encodeURIComponent,
      (t) => encodeURIComponent(encodeURIComponent(t)),
      (t) => `Bearer%20${encodeURIComponent(t)}`,
    );
    fc.assert(
      fc.property(token68, spelling, (token, spell) => {
        const expected = keyRing.ref('token', token);
        expect(tokenReference(keyRing, spell(token)).ref).toBe(expected);
        const collected = identifyToken(keyRing, { secret: new Secret(spell(token)) });
        // Runs of mask characters and words such as "masked" are no token to the collector.
        fc.pre(!collected.masked && collected.ref !== '');
        expect(collected.ref).toBe(expected);
      }),
    );
  });
});
