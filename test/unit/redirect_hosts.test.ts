// How: exact results for the text functions behind the redirect rules, and properties against simple models.
import { domainToASCII } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  editDistance,
  hostOf,
  isInternational,
  isRegisteredRedirect,
  matchesPattern,
  registrableDomain,
  skeletonOf,
  splitRedirect,
  toUnicodeHost,
} from '../../detectors/rules/_hosts.ts';

describe('splitRedirect', () => {
  it.each([
    [
      'https://A.example:8443/cb',
      { scheme: 'https', host: 'a.example', port: '8443', path: '/cb', userinfo: '' },
    ],
    ['http://[::1]:80/x', { scheme: 'http', host: '::1', port: '80', path: '/x', userinfo: '' }],
    [
      'https://good.example@evil.net/cb',
      { scheme: 'https', host: 'evil.net', port: '', path: '/cb', userinfo: 'good.example' },
    ],
    [
      'https://evil.net\\.good.example',
      { scheme: 'https', host: 'evil.net', port: '', path: '\\.good.example', userinfo: '' },
    ],
    [
      'https://a.example.',
      { scheme: 'https', host: 'a.example', port: '', path: '', userinfo: '' },
    ],
  ])('%s', (uri, parts) => expect(splitRedirect(uri)).toEqual(parts));
  it('has no host where there is no authority', () => {
    expect(hostOf('com.example.app:/cb')).toBe('');
    expect(splitRedirect('://x')).toBeUndefined();
  });
});

describe('isRegisteredRedirect', () => {
  const registered = [
    'https://a.example/cb?x=1',
    'http://127.0.0.1:1/cb',
    'http://localhost/cb',
    'https://wild.example/app/*',
  ];
  it.each([
    ['https://wild.example/app/cb', true],
    ['https://wild.example/app/', true],
    ['https://wild.example/other', false],
    ['https://wild.example.evil.net/app/cb', false],
    ['https://a.example/cb', true],
    ['https://a.example/cb/', false],
    ['https://a.example:444/cb', false],
    ['HTTPS://a.example/cb', false],
    ['http://127.0.0.1:5000/cb', true],
    ['http://127.0.0.1/cb', true],
    ['http://localhost:9/cb', true],
    ['http://127.0.0.1:5000/other', false],
    ['https://127.0.0.1:5000/cb', false],
    ['http://x@127.0.0.1:5000/cb', false],
    ['http://127.0.0.2:5000/cb', false],
  ])('%s: %s', (uri, is) => expect(isRegisteredRedirect(uri, registered)).toBe(is));
});

describe('matchesPattern', () => {
  it.each([
    ['https://pr-1.preview.example/cb', 'https://*.preview.example/cb', true],
    ['https://evil.net/x.preview.example/cb', 'https://*.preview.example/cb', false],
    ['https://pr-1.preview.example/cb/more', 'https://*.preview.example/cb', false],
    ['https://a/cb', 'https://a/cb', true],
    ['https://a/cb2', 'https://a/cb', false],
    ['xhttps://a/cb', 'https://a/cb', false],
    ['https://ab', 'https://ab*ab', false],
    ['https://a.b.a/x', 'https://*.a/*', true],
  ])('%s ~ %s: %s', (uri, pattern, is) => expect(matchesPattern(uri, pattern)).toBe(is));
});

describe('editDistance', () => {
  it.each([
    ['', '', 0],
    ['abc', 'abc', 0],
    ['example.com', 'exmple.com', 1],
    ['example.com', 'exmaple.com', 1],
    ['example.com', 'examp1e.co', 2],
    ['example.com', 'sample.org', 3],
    ['kitten', 'sitting', 3],
  ])('%s -> %s is %i (cut at 3)', (a, b, n) => expect(editDistance(a, b, 2)).toBe(Math.min(n, 3)));
  it('is symmetric, zero only for equal texts, and one for one edit', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 8 });
    fc.assert(
      fc.property(word, word, fc.nat(8), (a, b, at) => {
        expect(editDistance(a, b, 8)).toBe(editDistance(b, a, 8));
        expect(editDistance(a, b, 8) === 0).toBe(a === b);
        const i = Math.min(at, a.length);
        expect(editDistance(a, `${a.slice(0, i)}x${a.slice(i)}`, 8)).toBe(1);
        expect(editDistance(a, b, 2)).toBe(Math.min(3, editDistance(a, b, 20)));
      }),
    );
  });
});

describe('punycode and look-alikes', () => {
  it.each([
    ['xn--exmple-4nf', 'exаmple'],
    ['xn--80ak6aa92e', 'аррӏе'],
    ['xn--bcher-kva.example', 'bücher.example'],
    ['shop.xn--mnchen-3ya.de', 'shop.münchen.de'],
    ['plain.example', 'plain.example'],
  ])('%s', (encoded, text) => expect(toUnicodeHost(encoded)).toBe(text));
  it('takes back what the platform encodes', () => {
    const letters = fc.string({
      unit: fc.constantFrom('a', 'б', 'в', 'ñ', 'ü', '漢', '字', 'ε', 'λ'),
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(letters, (label) => {
        const host = `${label}.example`;
        const ascii = domainToASCII(host);
        fc.pre(ascii !== '');
        expect(toUnicodeHost(ascii)).toBe(host);
      }),
    );
  });
  it('leaves malformed labels alone, whatever they are', () => {
    for (const host of ['xn--!!!.com', 'xn--999.com', 'xn--', `xn--${'9'.repeat(60)}`])
      expect(toUnicodeHost(host)).toBe(host);
    fc.assert(fc.property(fc.string(), (s) => typeof toUnicodeHost(`xn--${s}`) === 'string'));
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (s) => typeof registrableDomain(s) === 'string'),
    );
  });
  it('reads look-alikes alike', () => {
    expect(skeletonOf('xn--exmple-4nf.com')).toBe(skeletonOf('example.com'));
    expect(skeletonOf('examp1e.com')).toBe(skeletonOf('example.com'));
    expect(skeletonOf('exarnple.com')).toBe(skeletonOf('example.com'));
    expect(skeletonOf('éxample.com')).toBe(skeletonOf('example.com'));
    expect(skeletonOf('sample.com')).not.toBe(skeletonOf('example.com'));
  });
  it.each([
    ['a.b.example.com', 'example.com'],
    ['shop.example.co.uk', 'example.co.uk'],
    ['shop.example.com.br', 'example.com.br'],
    ['www.city.kawasaki.jp', 'city.kawasaki.jp'],
    ['EXAMPLE.com', 'example.com'],
    ['foo.corp', 'foo.corp'],
    ['b.a.foo.corp', 'foo.corp'],
    // Under a suffix that a hosting service shares, every name has an owner of its own.
    ['shop.github.io', 'shop.github.io'],
    ['x.shop.azurewebsites.net', 'shop.azurewebsites.net'],
    // What has no registered part stands for itself.
    ['localhost', 'localhost'],
    ['co.uk', 'co.uk'],
    ['192.0.2.7', '192.0.2.7'],
    ['2001:db8::1', '2001:db8::1'],
    ['', ''],
    // Two spellings of one name.
    ['www.bücher.example', 'xn--bcher-kva.example'],
    ['www.xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['ｅxample.com', 'example.com'],
  ])('%s was registered as %s', (host, domain) => expect(registrableDomain(host)).toBe(domain));
  it('tells names with letters beyond ASCII, in either spelling', () => {
    expect(
      ['xn--80ak6aa92e.com', 'www.xn--80ak6aa92e.com', 'аррӏе.com', 'apple.com', 'a-xn--b.com'].map(
        isInternational,
      ),
    ).toEqual([true, true, true, false, false]);
  });
});
