import { Random } from './random.ts';

/**
 * Texts with secrets in them, in every place that secrets are known to hide in. All are made at run time from a seed, so that
 * this repository holds nothing that looks like a leak, and nobody's real secret.
 */
export interface Planted {
  /** Kind of hiding place or of shape: recall is counted by it. */
  readonly group: string;
  readonly text: string;
  /** What must not be left in the text, not even in part. */
  readonly secret: string;
}

/** Groups in which some are known to be missed, and the recall that is still asked of them. */
export const KNOWN_MISSES: Readonly<Record<string, { floor: number; why: string }>> = {
  'opaque of 16-19, no context': {
    floor: 0.75,
    why: 'Short random text without upper case or digits cannot be told from names; a name or scheme beside it gives it away.',
  },
  'opaque of 20-23, no context': {
    floor: 0.9,
    why: 'As above: the longer, the surer.',
  },
  'opaque of 24-43, no context': {
    floor: 0.97,
    why: 'A few random texts happen to be as little mixed as names of classes are.',
  },
  'prose: token was': {
    floor: 0.9,
    why: 'Letters alone that change case seldom read like a name of two words.',
  },
  'AWS secret key': {
    floor: 0.98,
    why: 'Without digits and with few changes of case, base64 reads like a path.',
  },
  'base64 key': { floor: 0.98, why: 'As above.' },
  'plain word after a weak name': {
    floor: 0,
    why: '"the secret is swordfish" reads like "the secret is missing": only a dictionary could tell.',
  },
};

type Make = (r: Random) => { text: string; secret: string };

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const base64url = (text: string): string => Buffer.from(text).toString('base64url');
const glue = (...parts: string[]): string => parts.join('');

/** Secrets of different looks: what a place hides must not matter. */
const VALUES: readonly ((r: Random) => string)[] = [
  (r) => r.base64url(43),
  (r) => r.base62(22),
  (r) => r.hex(32),
  (r) => r.uuid(),
  (r) => `hunter${r.digits(4)}`,
  (r) => `Tr0ub4dor-${r.base62(4)}`,
  jwt,
];
const value = (r: Random): string => r.pick(VALUES)(r);
const opaque = (r: Random): string => r.base64url(20 + r.below(30));

function jwt(r: Random): string {
  const header = { alg: r.pick(['RS256', 'ES256', 'none']), typ: 'JWT', kid: r.hex(8) };
  const claims = { iss: 'https://as.example', sub: r.base62(12), jti: r.uuid(), exp: r.below(2e9) };
  return [
    base64url(JSON.stringify(header)),
    base64url(JSON.stringify(claims)),
    r.base64url(86),
  ].join('.');
}

const NAMES = [
  ...['access_token', 'refresh_token', 'id_token', 'code', 'state', 'nonce', 'client_secret'],
  ...['client_assertion', 'code_verifier', 'id_token_hint', 'device_code', 'user_code', 'password'],
  ...['registration_access_token', 'assertion', 'subject_token', 'actor_token', 'request_uri'],
  ...['SAMLResponse', 'RelayState', 'api_key', 'x-api-key', 'session_state', 'logout_token'],
  ...[
    'accessToken',
    'clientSecret',
    'ACCESS_TOKEN',
    'Client-Secret',
    'sessionId',
    'otp',
    'passcode',
  ],
];

/** `make(name, secret)` with a name and a secret of each kind. */
const named =
  (make: (name: string, secret: string, r: Random) => string): Make =>
  (r) => {
    const secret = value(r);
    return { text: make(r.pick(NAMES), secret, r), secret };
  };
const plain =
  (make: (secret: string, r: Random) => string, secretOf: (r: Random) => string = value): Make =>
  (r) => {
    const secret = secretOf(r);
    return { text: make(secret, r), secret };
  };

const percent = (text: string): string =>
  text.replace(/[^A-Za-z0-9]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const invisible = (text: string, r: Random): string => {
  const at = 1 + r.below(text.length - 1);
  return `${text.slice(0, at)}${r.pick(['\u200b', '\u200d', '\u2060', '\ufeff', '\u00ad'])}${text.slice(at)}`;
};
const mixedCase = (text: string, r: Random): string =>
  Array.from(text, (c) => (r.below(2) === 0 ? c.toUpperCase() : c.toLowerCase())).join('');
const wide = (text: string): string =>
  text.replace(/[a-z]/g, (c) => String.fromCharCode(c.charCodeAt(0) + 0xfee0));

const NAMED_PLACES: Readonly<Record<string, Make>> = {
  'URL query': named((n, s) => `GET https://app.example/cb?x=1&${n}=${s}&y=2`),
  'URL fragment': named((n, s) => `landed on https://app.example/cb#${n}=${s}&token_type=Bearer`),
  'URL, percent-encoded once': named(
    (n, s) => `to=${percent(`https://a.example/cb?${n}=${s}&z=1`)}`,
  ),
  'URL, percent-encoded twice': named(
    (n, s) => `to=${percent(percent(`https://a.example/cb?${n}=${s}&z=1`))}`,
  ),
  'URL, percent-encoded three times': named(
    (n, s) => `to=${percent(percent(percent(`/cb?${n}=${s}`)))}`,
  ),
  'Referer header': named((n, s) => `Referer: https://a.example/p?${n}=${s}`),
  'Location header': named((n, s) => `302 Location: https://a.example/cb?${n}=${s}&iss=x`),
  'form body': named((n, s) => `grant_type=password&${n}=${s}&scope=openid`),
  JSON: named((n, s) => JSON.stringify({ ok: true, [n]: s, n: 1 })),
  'JSON with spaces': named((n, s) => JSON.stringify({ [n]: s, n: 1 }, null, 2)),
  'JSON in a string': named((n, s) => JSON.stringify({ body: JSON.stringify({ [n]: s }) })),
  'JSON in a string, twice': named((n, s) =>
    JSON.stringify({ a: JSON.stringify({ b: JSON.stringify({ [n]: s, z: 1 }) }) }),
  ),
  'JSON list under a secret name': named((_, s) => JSON.stringify({ tokens: [s, s], n: 1 })),
  'JSON name and value apart': named((n, s) => JSON.stringify({ name: n, value: s })),
  'JSON with unicode escapes': named(
    (n, s) => `{"${n.replace(/[a-z]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`)}":"${s}"}`,
  ),
  'Python dictionary': named((n, s) => `{'ok': True, '${n}': '${s}'}`),
  logfmt: named((n, s) => `level=error msg="refused" ${n}=${s} ip=10.0.0.1`),
  YAML: named((n, s) => `client:\n  id: web\n  ${n}: ${s}\n  x: 1`),
  'PHP array': named((n, s) => `Array ( [id] => web [${n}] => ${s} )`),
  'Ruby hash': named((n, s) => `{:id=>"web", :${n}=>"${s}"}`),
  'name in zero-width characters': named((n, s, r) => `${invisible(n, r)}=${s}`),
  'name in mixed case': named((n, s, r) => `${mixedCase(n, r)}=${s}`),
  'name in full width': named((n, s) => `${wide(n)}=${s}`),
  'name percent-encoded': named((n, s) => `%${n.charCodeAt(0).toString(16)}${n.slice(1)}=${s}`),
  'bracketed name': named((n, s) => `params[${n}]=${s}&x=1`),
  'HTML entities': named((n, s) => `&lt;a href=&quot;/cb?${n}=${s}&amp;x=1&quot;&gt;`),
  'HTML input': named((n, s) => `<input type="hidden" name="${n}" value="${s}">`),
  multipart: named(
    (n, s) => `--b1\r\nContent-Disposition: form-data; name="${n}"\r\n\r\n${s}\r\n--b1--`,
  ),
  'multipart, line ends lost': named(
    (n, s) => `--b1 Content-Disposition: form-data; name="${n}" ${s} --b1-- sent`,
  ),
  'multipart, escaped': named((n, s) =>
    JSON.stringify(`--b1\r\nContent-Disposition: form-data; name="${n}"\r\n\r\n${s}\r\n--b1--`),
  ),
  'stack trace': named(
    (n, s) =>
      `Error: POST /token failed {"${n}":"${s}"}\n    at request (/app/node_modules/got/index.js:1:1)`,
  ),
  'XML element': named((n, s) => `<r><${n}>${s}</${n}></r>`),
  'base64 of a form': named((n, s) => `body ${base64(`grant_type=password&${n}=${s}`)} end`),
  'base64 of JSON': named((n, s) => `body ${base64(JSON.stringify({ [n]: s }))} end`),
};

const PLAIN_PLACES: Readonly<Record<string, Make>> = {
  'URL userinfo': plain((s) => `git clone https://bob:${s}@git.example/x.git`),
  'database URL': plain((s) => `connect postgres://app:${s}@db.internal:5432/auth failed`),
  'redirect with userinfo, encoded': plain((s) => `r=https%3A%2F%2Fbob%3A${s}%40a.example%2Fcb`),
  'authorization header': plain(
    (s, r) => `Authorization: ${r.pick(['Bearer', 'DPoP', 'Own'])} ${s}`,
  ),
  'Bearer in prose': plain((s) => `rejected Bearer ${s} from 10.0.0.1`, opaque),
  'Bearer, mixed case': plain((s) => `got bEARER ${s}.`, opaque),
  'DPoP proof': plain((s) => `DPoP: ${s}`, jwt),
  'Basic credentials': (r) => {
    const secret = base64(`client-${r.below(99)}:${value(r)}`);
    return { text: `used Basic ${secret} on /token`, secret };
  },
  'base64 of Basic, bare': (r) => {
    const secret = base64(`client-${r.below(99)}:hunter${r.digits(5)}`);
    return { text: `credentials were ${secret} here`, secret };
  },
  'cookie header': plain((s) => `Cookie: lang=en; SESSION=${s}; theme=dark`),
  'set-cookie header': plain((s) => `Set-Cookie: sid=${s}; Path=/; HttpOnly`),
  'cookie header, quoted': plain((s) => `curl -H 'Cookie: sid=${s}' https://a.example`),
  'JWT in prose': plain((s) => `could not verify ${s}: bad signature`, jwt),
  'JWT split by a line end': (r) => {
    const secret = jwt(r);
    const at = 40 + r.below(40);
    return { text: `token ${secret.slice(0, at)}\n${secret.slice(at)}`, secret: secret.slice(-86) };
  },
  'JWT split into strings': (r) => {
    const secret = jwt(r);
    const parts = secret.split('.');
    return { text: JSON.stringify({ parts }), secret: parts[2] ?? '' };
  },
  'JWT, dots encoded': (r) => {
    const secret = jwt(r);
    return { text: `x=${secret.replaceAll('.', '%2E')}`, secret: secret.slice(-86) };
  },
  'JWT, cut off': plain(
    (s) => `${s.slice(0, 120)}...`,
    (r) => jwt(r).slice(0, 120),
  ),
  'SAML assertion': plain(
    (s) =>
      `<saml:Assertion ID="a1"><saml:AttributeValue>${s}</saml:AttributeValue></saml:Assertion>`,
  ),
  'PEM private key': (r) => {
    const secret = `${r.base62(64)}\n${r.base62(64)}`;
    const kind = r.pick(['RSA ', 'EC ', '', 'ENCRYPTED ', 'OPENSSH ']);
    return {
      text: `-----BEGIN ${kind}PRIVATE KEY-----\n${secret}\n-----END ${kind}PRIVATE KEY-----`,
      secret,
    };
  },
  'PEM private key in JSON': (r) => {
    const secret = r.base62(64);
    return {
      text: JSON.stringify({
        pem: `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----\n`,
      }),
      secret,
    };
  },
  'prose: password is': plain(
    (s) => `the password is ${s}, please rotate`,
    (r) => `hunter${r.digits(2)}`,
  ),
  'prose: password is a word': plain(
    (s) => `password is ${s}`,
    (r) => r.pick(['swordfish', 'letmein', 'opensesame', 'correcthorse']),
  ),
  'prose: password in quotes': plain(
    (s, r) => (r.below(2) === 0 ? `user bob, password "${s}".` : `user bob, password '${s}'.`),
    (r) => `pass${r.digits(3)}word`,
  ),
  'prose: password without verb': plain(
    (s) => `login as bob password ${s} failed`,
    (r) => `hunter${r.digits(3)}`,
  ),
  'prose: password was reset to': plain(
    (s) => `password for bob was reset to ${s}`,
    (r) => `Spring${r.digits(4)}`,
  ),
  'prose: one-time code': plain(
    (s) => `your verification code is ${s}.`,
    (r) => r.digits(6),
  ),
  'prose: pin': plain(
    (s) => `wrong pin ${s} entered`,
    (r) => r.digits(4),
  ),
  'prose: token was': plain(
    (s) => `the refresh token was ${s}`,
    (r) => r.base62(14),
  ),
  'command line: flag': plain(
    (s) => `kcadm login --client-secret ${s} --realm x`,
    (r) => `x${r.base62(10)}7`,
  ),
  'command line: password flag': plain(
    (s) => `mysql --password ${s} -h db`,
    (r) => r.pick(['swordfish', 'letmein']),
  ),
  'command line: curl -u': plain(
    (s) => `curl -u bob:${s} https://a.example`,
    (r) => `hunter${r.digits(2)}`,
  ),
  'SQL: identified by': plain(
    (s) => `CREATE USER app IDENTIFIED BY '${s}'`,
    (r) => `pw${r.base62(8)}`,
  ),
  'e-mail address': plain(
    (s) => `no account for ${s}.`,
    (r) =>
      `${r.pick(['jane.doe', 'bob+test', "o'neil"])}${r.digits(3)}@${r.pick(['example.com', 'mail.example.co.uk'])}`,
  ),
  'hex key': plain(
    (s) => `key material ${s}`,
    (r) => `a1${r.hex(62)}`,
  ),
  'base64 key': plain(
    (s) => `k ${s} x`,
    (r) => `${r.base62(20)}/${r.base62(10)}+${r.base62(11)}=`,
  ),
  'opaque of 16-19, no context': plain(
    (s) => `lookup of ${s} failed`,
    (r) => r.base62(16 + r.below(4)),
  ),
  'opaque of 20-23, no context': plain(
    (s) => `lookup of ${s} failed`,
    (r) => r.base62(20 + r.below(4)),
  ),
  'opaque of 24-43, no context': plain(
    (s) => `lookup of ${s} failed`,
    (r) => r.base64url(24 + r.below(20)),
  ),
  'plain word after a weak name': plain(
    (s) => `the secret is ${s}`,
    (r) => r.pick(['swordfish', 'opensesame']),
  ),
  'password before its name': plain(
    (s) => `used ${s} as the password`,
    (r) => `hunter${r.digits(2)}`,
  ),
};

const known = (make: (r: Random) => string): Make =>
  plain((s, r) => `${r.pick(['using', 'key', 'found', 'env X'])} ${s} in config`, make);

const SHAPES: Readonly<Record<string, Make>> = {
  'AWS access key id': known((r) =>
    glue(r.pick(['AKIA', 'ASIA']), r.text(16, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')),
  ),
  'AWS secret key': known((r) => glue(r.base62(18), '/', r.base62(12), '+', r.base62(8))),
  'AWS presigned URL': plain(
    (s) => `https://b.s3.amazonaws.com/k?X-Amz-Expires=60&X-Amz-Signature=${s}`,
    (r) => r.hex(64),
  ),
  'Azure storage key': plain(
    (s) => `AccountName=x;AccountKey=${s}`,
    (r) => glue(r.base62(86), '=='),
  ),
  'Azure SAS': plain(
    (s) => `https://x.blob.core.windows.net/c?sv=2024&sig=${s}&se=1`,
    (r) => glue(r.base62(42), '%3D'),
  ),
  'Azure client secret': known((r) => glue(r.base62(3), '8', 'Q~', r.base62(34))),
  'Google API key': known((r) => glue('AI', 'za', r.base64url(35))),
  'Google access token': known((r) => glue('ya', '29.', r.base64url(60))),
  'Google refresh token': known((r) => glue('1/', '/0', r.base64url(40))),
  'Google client secret': known((r) => glue('GOC', 'SPX-', r.base64url(28))),
  'GitHub token': known((r) => glue(r.pick(['ghp', 'gho', 'ghs', 'ghr']), '_', r.base62(36))),
  'GitHub fine-grained token': known((r) =>
    glue('github', '_pat_', r.base62(22), '_', r.base62(59)),
  ),
  'GitLab token': known((r) => glue('gl', 'pat-', r.base64url(20))),
  'Slack token': known((r) =>
    glue('xox', r.pick(['b', 'p']), '-', r.digits(12), '-', r.base62(24)),
  ),
  'Slack webhook': plain(
    (s) => `POST https://hooks.slack.com/services/${s}`,
    (r) => `T${r.text(8, 'ABCDEFGHJK')}/B${r.text(8, 'ABCDEFGHJK')}/${r.base62(24)}`,
  ),
  'Stripe key': known((r) => glue(r.pick(['sk', 'rk']), '_', 'live', '_', r.base62(24))),
  'Stripe webhook secret': known((r) => glue('wh', 'sec_', r.base62(32))),
  'OpenAI-like key': known((r) => glue('sk', '-proj-', r.base64url(40))),
  'Vault token': known((r) => glue('hv', 's.', r.base62(24))),
  'SendGrid key': known((r) => glue('S', 'G.', r.base64url(22), '.', r.base64url(43))),
  'npm token': known((r) => glue('np', 'm_', r.base62(36))),
  'PyPI token': known((r) => glue('py', 'pi-', r.base64url(60))),
  'DigitalOcean token': known((r) => glue('do', 'p_v1_', r.hex(64))),
  'Shopify token': known((r) => glue('sh', 'pat_', r.hex(32))),
  'Twilio key': known((r) => glue('S', 'K', r.hex(32))),
  'Telegram bot token': known((r) => glue(r.digits(9), ':A', 'A', r.base64url(33))),
  'Databricks token': known((r) => glue('da', 'pi', r.hex(32))),
  'Hugging Face token': known((r) =>
    glue('h', 'f_', r.text(34, 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ')),
  ),
};

/** The whole corpus: `each` texts of every group. */
export function plantedCorpus(seed: number, each: number): Planted[] {
  const random = new Random(seed);
  return Object.entries({ ...NAMED_PLACES, ...PLAIN_PLACES, ...SHAPES }).flatMap(([group, make]) =>
    Array.from({ length: each }, () => ({ group, ...make(random) })),
  );
}
