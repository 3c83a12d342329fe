import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createSecretLedger,
  createSecretScanner,
  fingerprintOf,
  scanForSecrets,
} from '../../demo/secret_ledger.ts';

/** The proof "no secret at rest" is as good as this search: it must find what is there, in any dress. */
const SECRET = 'v3ry~s3cret/+token=value';
const around = (bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from('{"a":"'), bytes, Buffer.from('"}')]);

describe('scanForSecrets', () => {
  it.each([
    ['plain', Buffer.from(SECRET)],
    ['percent', Buffer.from(encodeURIComponent(SECRET))],
    ['hex', Buffer.from(Buffer.from(SECRET).toString('hex'))],
    ['hex', Buffer.from(Buffer.from(SECRET).toString('hex').toUpperCase())],
    ['utf16le', Buffer.from(SECRET, 'utf16le')],
    ['utf16be', Buffer.from(SECRET, 'utf16le').swap16()],
  ] as const)('finds a secret written as %s', (encoding, bytes) => {
    expect(scanForSecrets(around(bytes), [SECRET])).toEqual([
      { index: 0, fingerprint: fingerprintOf(SECRET), encoding, offset: 6 },
    ]);
  });

  it('finds a secret inside longer base64 text, at every alignment and in both alphabets', () => {
    for (const prefix of ['', 'a', 'ab', 'client:', 'user-']) {
      for (const alphabet of ['base64', 'base64url'] as const) {
        const text = Buffer.from(`${prefix}${SECRET}:more`).toString(alphabet);
        const hits = scanForSecrets(Buffer.from(text), [SECRET]);
        expect(
          hits.map((h) => h.encoding),
          `${prefix} ${alphabet}`,
        ).toContain('base64');
      }
    }
  });

  it('finds nothing where only a part of a secret stands, or another text', () => {
    const almost = Buffer.from(`${SECRET.slice(0, -1)} ${SECRET.slice(1)} ${SECRET.toUpperCase()}`);
    expect(scanForSecrets(almost, [SECRET])).toEqual([]);
    expect(scanForSecrets(Buffer.alloc(0), [SECRET])).toEqual([]);
  });

  it('never names the secret in a hit', () => {
    const hits = scanForSecrets(Buffer.from(SECRET), [SECRET]);
    expect(JSON.stringify(hits)).not.toContain(SECRET.slice(0, 6));
  });

  it('finds exactly the planted ones among many', () => {
    const word = fc.stringMatching(/^[A-Za-z0-9_-]{12,40}$/);
    fc.assert(
      fc.property(fc.uniqueArray(word, { minLength: 1, maxLength: 30 }), fc.nat(), (words, n) => {
        const planted = n % words.length;
        const text = Buffer.from(`noise ${words[planted]!} noise`);
        const found = createSecretScanner(words)
          .scan(text)
          .filter((h) => h.encoding === 'plain')
          .map((h) => words[h.index]!);
        const present = words.filter((w) => text.includes(w));
        expect(found.sort()).toEqual(present.sort());
      }),
      { numRuns: 200 },
    );
  });

  it('refuses secrets too short to tell from chance', () => {
    expect(() => scanForSecrets(Buffer.from('x'), ['short'])).toThrow(RangeError);
  });
});

describe('the ledger', () => {
  it('keeps the signature of a JWT as a secret of its own', () => {
    const ledger = createSecretLedger();
    ledger.add('access_token', 'eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJhIn0.c2lnbmF0dXJlMTIz');
    expect([...ledger.entries()].map(([secret]) => secret)).toEqual([
      'eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJhIn0.c2lnbmF0dXJlMTIz',
      'c2lnbmF0dXJlMTIz',
    ]);
  });

  it('forgets the oldest beyond its limit, and counts that', () => {
    const ledger = createSecretLedger(2);
    for (const value of ['first-secret', 'second-secret', 'third-secret', 'third-secret']) {
      ledger.add('state', value);
    }
    expect([...ledger.entries()]).toEqual([
      ['second-secret', 'state'],
      ['third-secret', 'state'],
    ]);
    expect(ledger.forgotten).toBe(1);
  });

  it('ignores what is absent and refuses what cannot be searched for', () => {
    const ledger = createSecretLedger();
    ledger.add('nonce', undefined);
    ledger.add('nonce', '');
    expect(ledger.size).toBe(0);
    expect(() => {
      ledger.add('nonce', 'short');
    }).toThrow('a nonce of 5 characters');
  });
});
