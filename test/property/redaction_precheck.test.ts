import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodedView } from '../../collector/processors/decoded_view.ts';
import { replaceSecrets } from '../../collector/processors/replace_secrets.ts';
import {
  scanCredentials,
  scanEmails,
  scanJwts,
  scanKnownShapes,
  scanPrivateKeys,
  scanUserinfo,
} from '../../collector/processors/secret_shapes.ts';
import { scanEncodedText, scanRandomRuns } from '../../collector/processors/random_text.ts';
import {
  scanElements,
  scanMultipart,
  scanParameters,
} from '../../collector/processors/secret_parameters.ts';
import {
  scanProse,
  scanSqlPasswords,
  scanUserArguments,
} from '../../collector/processors/secret_prose.ts';
import { createKeyClassifier } from '../../collector/processors/secret_keys.ts';
import { couldHoldSecret, scanSecrets } from '../../collector/processors/secret_scanners.ts';

/** The look at the characters saves the scanners' work; it must never save them a secret. */
const classify = createKeyClassifier([]);
const alphabet = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const random = fc
  .array(fc.constantFrom(...alphabet.split('')), { minLength: 1, maxLength: 44 })
  .map((c) => c.join(''));
const piece = fc.oneof(
  fc.constantFrom(
    ...['code', 'password', 'token', 'Bearer', 'basic', 'DPoP', 'eyJ', 'eyA', 'ewo', 'key', 'pin'],
    ...[
      '=',
      ':',
      '://',
      '"',
      "'",
      ' ',
      '\n',
      '\u00a0',
      '@',
      '<',
      '>',
      '&',
      '%',
      '%3D',
      '\\',
      '+',
      ',',
    ],
    ...['.', '-', '_', '/', '~', 'is', 'was', '-u', '--user', 'form-data; name=', 'PRIVATE KEY'],
    ...[
      '-----BEGIN ',
      'AKIA',
      'xoxb-',
      'whsec_',
      's.',
      '1//0',
      'Q~',
      '123456:AA',
      "identified by 'x",
      'x as the pin',
      '-u a:b',
    ],
    ...['\u200b', '\uff43', 'example.com', '\u00e9'],
  ),
  random,
);
const texts = fc.array(piece, { maxLength: 10 }).map((p) => p.join(''));

describe('the look at the characters', () => {
  it('says no only where no scanner finds anything', () => {
    fc.assert(
      fc.property(texts, fc.boolean(), (text, free) => {
        if (couldHoldSecret(text, free)) return;
        expect(replaceSecrets(text, { classify, free, patterns: [] })).toBe(text);
        expect(everyScanner(text, free)).toEqual([]);
      }),
      { numRuns: 20_000 },
    );
  });

  it('leaves out only scanners that find nothing', () => {
    fc.assert(
      fc.property(texts, fc.boolean(), (text, free) => {
        const found: string[] = [];
        scanSecrets(decodedView(text), { classify, free, patterns: [] }, (start, end) => {
          if (end > start) found.push(`${start}-${end}`);
        });
        expect([...new Set(found)].sort()).toEqual(everyScanner(text, free));
      }),
      { numRuns: 10_000 },
    );
  });

  it.each([
    ['GET', true],
    ['token_issued', true],
    ['https://as.example/oauth2/authorize', true],
    ['203.0.113.77', true],
    ['openid', true],
    ['AppleWebKit/537.36 (KHTML, like Gecko)', true],
    ['6f9d-41aa', true],
    ['V1StGXR8Z5jdHi6BmyT0a9QkLpXz31', false],
  ])('says no to %s', (text, free) => {
    expect(couldHoldSecret(text, free)).toBe(false);
  });
});

/** All scanners, whatever the text is made of. */
function everyScanner(text: string, free: boolean): string[] {
  const view = decodedView(text);
  const found = new Set<string>();
  const report = (start: number, end: number): void => {
    if (end > start) found.add(`${start}-${end}`);
  };
  scanParameters(view, classify, report);
  scanElements(view, classify, report);
  scanMultipart(view, classify, report);
  scanCredentials(view, report);
  scanUserinfo(view, report);
  scanJwts(view, report);
  scanKnownShapes(view, report);
  scanPrivateKeys(view, report);
  scanUserArguments(view, report);
  if (free) {
    scanProse(view, report);
    scanSqlPasswords(view, report);
    scanEmails(view, report);
    scanRandomRuns(view, report);
    const nested = (decoded: string): boolean =>
      replaceSecrets(decoded, { classify, free: false, patterns: [] }) !== decoded;
    scanEncodedText(view, nested, report);
  }
  return [...found].sort();
}
