import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createScrubber,
  isSecretKey,
  SCRUB_LENGTH_MAX,
  scrubAttributes,
  scrubText,
  scrubIssuer,
  scrubUrl,
} from '../../collector/processors/scrub.ts';

/** Assembled, so that no scanner takes this file for a leak. */
const S = ['s3cr', 'etVal', 'ue9Q'].join('');
const R = '[redacted]';
/** Keeps the parts of look-alike secrets apart in this file. */
const glued = (...parts: string[]): string => parts.join('');
const jwt = ['{"alg":"RS256"}', '{"sub":"1"}']
  .map((part) => Buffer.from(part).toString('base64url'))
  .concat(S.repeat(3))
  .join('.');

describe('scrubText removes', () => {
  it.each([
    [
      'URL parameters',
      `https://a/cb?code=${S}&x=1&state=${S}#y`,
      `https://a/cb?code=${R}&x=1&state=${R}`,
    ],
    ['userinfo', `https://bob:${S}@host/p`, `https://${R}@host/p`],
    [
      'form bodies',
      `grant_type=x&client_secret=${S}&scope=a`,
      `grant_type=x&client_secret=${R}&scope=a`,
    ],
    [
      'encoded parameters',
      `r=https%3A%2F%2Fb%3Fcode%3D${S}%26y%3D1`,
      `r=https%3A%2F%2Fb%3Fcode%3D${R}%26y%3D1`,
    ],
    [
      'twice encoded ones',
      `r=b%253Fcode%253D${S}%2526y%253D1`,
      `r=b%253Fcode%253D${R}%2526y%253D1`,
    ],
    ['an encoded & within a value', `code=${S}%26more&x=1`, `code=${R}&x=1`],
    ['JSON', `{"refresh_token":"${S}","n":1}`, `{"refresh_token":"${R}","n":1}`],
    [
      'JSON with an escaped quote in the value',
      `{"password":"a\\"${S}","n":1}`,
      `{"password":"${R}","n":1}`,
    ],
    [
      'JSON in JSON in JSON',
      JSON.stringify({ a: JSON.stringify({ b: JSON.stringify({ code: S, ok: 1 }) }) }),
      JSON.stringify({ a: JSON.stringify({ b: JSON.stringify({ code: R, ok: 1 }) }) }),
    ],
    [
      'nested values of a secret key',
      `{"tokens":{"a":["${S}","}"]},"n":1}`,
      `{"tokens":${R},"n":1}`,
    ],
    ['numbers of secret keys', '{"user_code":123456,"n":1}', `{"user_code":${R},"n":1}`],
    ['unicode escapes', `code\\u003d${S}\\u0026n\\u003d1`, `code\\u003d${R}\\u0026n\\u003d1`],
    ['keys in mixed case', `AcCeSs_ToKeN=${S}`, `AcCeSs_ToKeN=${R}`],
    ['keys with invisible characters', `co\u200bde=${S}`, `co\u200bde=${R}`],
    ['keys in full width', `\uff43ode=${S}`, `\uff43ode=${R}`],
    ['keys after an escaped line end', `a\\ncode=${S}`, `a\\ncode=${R}`],
    ['bracketed keys', `params[code]=${S}`, `params[code]=${R}`],
    ['Bearer', `got Bearer ${S} here`, `got Bearer ${R} here`],
    ['DPoP', `DPoP ${S}`, `DPoP ${R}`],
    ['Basic', `Basic ${Buffer.from(`a:${S}`).toString('base64')} x`, `Basic ${R} x`],
    [
      'the authorization header',
      `Authorization: Own ${S} y\nHost: h`,
      `Authorization: ${R}\nHost: h`,
    ],
    ['cookies', `Cookie: a=${S}; b="${S}"\nHost: h`, `Cookie: ${R}\nHost: h`],
    ['JWTs', `token was ${jwt}.`, `token was ${R}`],
    ['JWTs with encoded dots', `x ${jwt.replaceAll('.', '%2E')} y`, `x ${R} y`],
    ['JWTs broken by a line end', `x ${jwt.slice(0, 24)}\n${jwt.slice(24)} y`, `x ${R} y`],
    ['named values', `{"name":"code","value":"${S}"}`, `{"name":"code","value":"${R}"}`],
    [
      'SAML assertions',
      `<saml:Assertion ID="1"><a>${S}</a></saml:Assertion>!`,
      `<saml:Assertion${R}</saml:Assertion>!`,
    ],
    [
      'private keys',
      `-----BEGIN RSA PRIVATE KEY-----\n${S}\n-----END RSA PRIVATE KEY----- x`,
      `${R} x`,
    ],
    ['cut off private keys', `a -----BEGIN PRIVATE KEY-----\n${S}`, `a ${R}`],
    ['AWS key ids', `id ${glued('AKIA', 'ABCD'.repeat(4))} x`, `id ${R} x`],
    ['GitHub tokens', `id ${glued('ghp', '_', 'aB3'.repeat(12))} x`, `id ${R} x`],
    ['Slack tokens', `id ${glued('xoxb', '-12345678901')} x`, `id ${R} x`],
    ['Stripe keys', `id ${glued('sk', '_live_', 'a1B2c3D4e5F6')} x`, `id ${R} x`],
    ['Google keys', `id ${glued('AIza', 'aB3_'.repeat(9))} x`, `id ${R} x`],
    ['e-mail addresses', 'user bob.b@example.com failed', `user ${R} failed`],
    ['random text', `ref V1StGXR8_Z5jdHi6B-myT0a9QkLpXz31bcDeFgHiJkL x`, `ref ${R} x`],
    ['base64', `k ${glued('wJalrXUtnFEMI/K7MDENG', '/bPxRfiCYzEXA2PLEKEY')} x`, `k ${R} x`],
    ['padded base64', `k ${glued('dGhpcyBpcyBh', 'IHNlY3JldCBrZXkgMTIzNA==')} x`, `k ${R} x`],
    ['hex keys', `k ${'0123456789abcdef'.repeat(4)} x`, `k ${R} x`],
  ])('%s', (_, text, clean) => {
    expect(scrubText(text)).toEqual({ text: clean, changed: true });
    expect(scrubText(clean)).toEqual({ text: clean, changed: false });
  });
});

describe('scrubText keeps', () => {
  it.each([
    ['a UUID', 'id 3a76b735-e324-42b1-aa15-7c1f69f22eb8'],
    ['a trace context', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
    ['a commit', 'sha 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12'],
    ['an image digest', `img@sha256:${'0123456789abcdef'.repeat(4)}`],
    ['status and error codes', 'code: 404, code=14, "code":"invalid_grant", code: ECONNREFUSED'],
    ['states of machines', 'state: running'],
    [
      'prose about tokens',
      'Bearer token is invalid; refresh token: expired; Basic authentication required',
    ],
    ['a challenge', 'Bearer realm="api", error="invalid_token"'],
    [
      'a browser',
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36',
    ],
    ['a class name', 'org.example.OAuth2AuthorizationCodeRequestAuthenticationProvider'],
    ['a path', '/api/v1/customers/invoices/attachments/Q3Report2025/download'],
    ['a pod', 'checkout-7d4b9c6f5d-x2x9z'],
    ['literals that say nothing', '{"password":null,"token":false}'],
    [
      'other words with token in them',
      'token_type=Bearer&token_endpoint=https://as/token&expires_in=300',
    ],
    ['a scope', 'openid profile https://api.example.com/read'],
  ])('%s', (_, text) => {
    expect(scrubText(text)).toEqual({ text, changed: false });
  });
});

describe('scrubText', () => {
  it('cuts at the length asked for, after redaction, and never in the middle of a character', () => {
    expect(scrubText('hello world', 5)).toEqual({ text: 'hello', changed: true });
    expect(scrubText(`code=${S}`, 9)).toEqual({ text: 'code=[red', changed: true });
    expect(scrubText('ab\u{1f600}', 3)).toEqual({ text: 'ab', changed: true });
  });

  it('keeps random ids and e-mail shaped names as identifiers, but no token', () => {
    const scrubber = createScrubber();
    const id = 'V1StGXR8Z5jdHi6BmyT0a9QkLpXz31';
    expect(scrubber.scrubIdentifier(id).text).toBe(id);
    expect(scrubber.scrubIdentifier('svc@project.iam.example.com').changed).toBe(false);
    expect(scrubber.scrubIdentifier(jwt).text).toBe(R);
  });

  it('takes more keys from the configuration', () => {
    const scrubber = createScrubber({ extraKeys: ['X-Internal-Id'] });
    expect(scrubber.scrubText(`x_internal_id=${S}`).text).toBe(`x_internal_id=${R}`);
    expect(scrubber.isSecretKey('xInternalId')).toBe(true);
    expect(isSecretKey('xInternalId')).toBe(false);
  });

  const million = 1_000_000;
  const fill = (unit: string): string => unit.repeat(Math.ceil(million / unit.length));
  it.each(
    Object.entries({
      letters: 'a',
      separators: '=',
      entities: '&#',
      escapes: '%25',
      'broken escapes': '%E2%25',
      backslashes: '\\',
      'open quotes': 'code="',
      'escaped quotes': '"code":"\\"',
      brackets: '"code":[',
      schemes: '://',
      'encoded schemes': '://%3A%2F%2F',
      'token heads': 'eyJ',
      'token pieces': 'eyJaaaa.',
      'mail signs': 'a@',
      tags: '<assertion',
      'key heads': '-----BEGIN PRIVATE KEY-----',
      words: 'Bearer ',
      parameters: 'code=x&',
      names: 'name="code"',
      'wide keys': `${'x'.repeat(127)}=`,
    }),
  )('takes 1 MB of %s in linear time', (_, unit) => {
    const text = fill(unit);
    const started = performance.now();
    scrubText(text);
    // Measured: 10-200 ms. A quadratic scanner would need minutes.
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it.each(['a', 'aB3', '%25', 'eyJaaaa.', 'code=x&'])(
    'drops what lies beyond the longest text, without failing, of %s',
    (unit) => {
      const text = unit.repeat(Math.ceil((9 * 1_048_576) / unit.length));
      expect(scrubText(text).text.length).toBeLessThanOrEqual(SCRUB_LENGTH_MAX);
      expect(scrubText(text, 100).text.length).toBeLessThanOrEqual(100);
      expect(scrubText(text, 100).changed).toBe(true);
    },
  );

  it('shows no part of a secret that a cut has come near, wherever the cut falls', () => {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
    const secrets = fc
      .array(fc.constantFrom(...alphabet.split('')), { minLength: 40, maxLength: 60 })
      .map((chars) => `aB3${chars.join('')}xY7`);
    const filler = fc.constantFrom('word ', 'a,b;', '"k":1,', `client_secret=${S} `, '(x) ');
    fc.assert(
      fc.property(
        secrets,
        filler,
        filler,
        fc.nat(9_000),
        fc.constantFrom('', 'token=', 'Bearer ', '"code":"'),
        (secret, before, after, position, lead) => {
          const head = before.repeat(2_500).slice(0, position);
          const text = `${head} ${lead}${secret} ${after.repeat(3_000)}`;
          const { text: shown } = scrubText(text, 600);
          for (let i = 0; i + 12 <= secret.length; i += 1)
            expect(shown).not.toContain(secret.slice(i, i + 12));
          expect(shown).not.toContain(S);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('scrubUrl', () => {
  it.each([
    [`https://u:${S}@host:8443/a/b?code=${S}#z`, 'https://host:8443/a/b'],
    [`com.example.app:/cb?code=${S}`, 'com.example.app:/cb'],
    [`/cb?code=${S}`, '/cb'],
    ['http://[2001:db8::1]:80/x#y', 'http://[2001:db8::1]:80/x'],
    [`https://good.example\\@evil.example/cb`, 'https://evil.example/cb'],
    [`https://h/cb%3Fcode=${S}`, `https://h/cb%3Fcode=${R}`],
    [`https://h/reset/V1StGXR8_Z5jdHi6B-myT0a9QkLpXz31bcD`, `https://h/reset/${R}`],
    ['https://h/a\r\nSet-Cookie: x', 'https://h/a Set-Cookie: [redacted]'],
    ['', ''],
  ])('%s', (url, bare) => {
    expect(scrubUrl(url)).toBe(bare);
  });
});

describe('scrubIssuer', () => {
  it.each([
    'https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI',
    'https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhJ',
    'https://dev-48151623.okta.example/oauth2/aus1a2B3c4D5e6F7g8H9',
    'https://login.example.com/f8cdef31-a31e-4b4a-93e4-5f571e91255a/v2.0',
    'https://sso.example.com/realms/0d2c9a54-1d47-4f0e-9a3e-7c1f1b7f9e21',
    'https://oidc.example.com/id/9F86D081884C7D659A2FEAA0C55AD015',
    'https://tenant.example.com/V1StGXR8_Z5jdHi6B-myT0a9QkLpXz31bcD/',
  ])('keeps %s', (issuer) => {
    expect(scrubIssuer(issuer)).toBe(issuer);
  });

  it.each([
    [`https://u:${S}@h/pool_V1StGXR8Z5jdHi6BmyT0`, 'https://h/pool_V1StGXR8Z5jdHi6BmyT0'],
    [`https://h/eu-west-1_AbCdEfGhI?code=${S}#access_token=${S}`, 'https://h/eu-west-1_AbCdEfGhI'],
    [`https://h/${['eyJhbGciOiJub25lIn0', 'eyJzdWIiOiJ4In0', 'c2ln'].join('.')}`, `https://h/${R}`],
    [`https://h/ghp_${'a1B2c3D4e5'.repeat(4)}/x`, `https://h/${R}/x`],
    [`https://h/client_secret=${S}`, `https://h/client_secret=${R}`],
    ['https://h/users/bob@example.com', `https://h/users/${R}`],
    // Not a URL of the web: whatever looks random goes.
    ['V1StGXR8_Z5jdHi6B-myT0a9QkLpXz31bcD', R],
  ])('%s', (issuer, kept) => {
    expect(scrubIssuer(issuer)).toBe(kept);
  });

  it('teaches the other ways nothing', () => {
    const url = 'https://h/reset/V1StGXR8_Z5jdHi6B-myT0a9QkLpXz31bcE';
    expect(scrubIssuer(url)).toBe(url);
    expect(scrubUrl(url)).toBe(`https://h/reset/${R}`);
    expect(scrubIssuer(url)).toBe(url);
  });
});

describe('isSecretKey', () => {
  it.each([
    ...[
      'access_token',
      'accessToken',
      'Client-Secret',
      'X-Api-Key',
      'id_token_hint',
      'SAMLResponse',
    ],
    ...[
      'code',
      'c%6Fde',
      'c%256Fde',
      'co\u200bde',
      'url.query.code',
      'params[state]',
      'oauth.code',
    ],
    ...[
      'http.request.header.cookie',
      'set-cookie.0',
      'registration_access_token',
      'request_uri',
      'dpop',
    ],
  ])('%s is one', (key) => {
    expect(isSecretKey(key)).toBe(true);
  });
  it.each([
    ...[
      'oauth.error.code',
      'error.code',
      'http.status_code',
      'code.function',
      'token_type',
      'scope',
    ],
    ...[
      'oauth.token.issued.access.ref',
      'oauth.token.presented.access.kid',
      'client_id',
      '',
      'constructor',
    ],
  ])('%s is none', (key) => {
    expect(isSecretKey(key)).toBe(false);
  });
});

describe('scrubAttributes', () => {
  it('drops secret keys, keeps listed headers, bares URLs, walks into nested values', () => {
    const input = {
      'http.request.header.authorization': [`Bearer ${S}`],
      'http.request.header.accept': ['*/*'],
      'http.request.header.x_own': [S],
      'http.request.header.referer': [`https://h/p?code=${S}`],
      'url.full': `https://u:${S}@h/x?code=${S}`,
      'url.query': `code=${S}`,
      'oauth.token.issued.access.ref': '3a76b735-e324-42b1-aa15-7c1f69f22eb8',
      'oauth.error.code': 'expired',
      access_token: S,
      'enduser.id': 'bob',
      list: [
        { key: 'password', value: { stringValue: S } },
        { key: 'a', value: { stringValue: 'b' } },
      ],
      pairs: [['authorization', S]],
      bytes: Buffer.from(`code=${S}`),
      binary: new Uint8Array([0, 1, 255]),
      big: 9_007_199_254_740_993n,
      flag: true,
      [`code=${S}`]: 'v',
      ['__proto__']: 'p',
    };
    const { attributes, redacted } = scrubAttributes(input);
    expect(Object.entries(attributes)).toEqual([
      ['http.request.header.authorization', R],
      ['http.request.header.accept', '["*/*"]'],
      ['http.request.header.x_own', R],
      ['http.request.header.referer', '["https://h/p"]'],
      ['url.full', 'https://h/x'],
      ['url.query', R],
      ['oauth.token.issued.access.ref', '3a76b735-e324-42b1-aa15-7c1f69f22eb8'],
      ['oauth.error.code', 'expired'],
      ['access_token', R],
      ['enduser.id', R],
      ['list', '[{"key":"password","value":"[redacted]"},{"key":"a","value":{"stringValue":"b"}}]'],
      ['pairs', `[["authorization","${R}"]]`],
      ['bytes', `code=${R}`],
      ['binary', '[3 bytes]'],
      ['big', '9007199254740993'],
      ['flag', 'true'],
      [`code=${R}`, 'v'],
      ['__proto__', 'p'],
    ]);
    expect(redacted).toEqual([
      'http.request.header.authorization',
      'http.request.header.x_own',
      'http.request.header.referer',
      'url.full',
      'url.query',
      'access_token',
      'enduser.id',
      'list',
      'pairs',
      'bytes',
      'binary',
      `code=${R}`,
    ]);
  });

  it('keeps ids of ours, but takes descriptions and would-be references for text', () => {
    const uuid = '3a76b735-e324-42b1-aa15-7c1f69f22eb8';
    const random = 'V1StGXR8Z5jdHi6BmyT0a9QkLpXz31';
    const { attributes } = scrubAttributes({
      'oauth.client_id': random,
      'oauth.token.issued.access.kid': random,
      'oauth.token.issued.access.ref': random,
      'oauth.session.ref': uuid,
      'oauth.error.description': `the password is ${S}`,
      'oauth.ext.note': random,
    });
    expect(attributes).toEqual({
      'oauth.client_id': random,
      'oauth.token.issued.access.kid': random,
      'oauth.token.issued.access.ref': R,
      'oauth.session.ref': uuid,
      'oauth.error.description': `the password is ${R}`,
      'oauth.ext.note': R,
    });
  });

  it('makes references of people where it is told how', () => {
    const { attributes } = scrubAttributes(
      { 'user.email': 'a@b.c' },
      { pseudonymise: (v) => `ref(${v.length})` },
    );
    expect(attributes).toEqual({ 'user.email': 'ref(5)' });
  });

  it('bounds depth and keeps keys that scrub to the same name apart', () => {
    let deep: unknown = 'x';
    for (let i = 0; i < 20; i += 1) deep = [deep];
    const { attributes } = scrubAttributes({ deep, 'code=aaaaaa': '1', 'code=bbbbbb': '2' });
    expect(attributes).toEqual({
      deep: '[[[[[[[["[too deep]"]]]]]]]]',
      [`code=${R}`]: '1',
      [`code=${R}#2`]: '2',
    });
  });
});
