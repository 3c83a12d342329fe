import { INVISIBLE } from './decoded_view.ts';

/**
 * Which names carry secrets. A name is compared in one spelling: percent-decoded, without invisible
 * characters, lower case, without `-`, `_` and spaces; `.`, `[`, `]`, `/` and `:` part it into segments.
 */

/** How a key's value is treated. */
export const KEY_CLASS = {
  /** Not a secret. */
  plain: 0,
  /** Secret where it is a protocol parameter, but a common word elsewhere (`code`, `state`). */
  weak: 1,
  /** Always a secret. */
  strong: 2,
  /** A header whose value runs to the end of the line (`authorization`, `cookie`). */
  line: 3,
} as const;
export type KeyClass = (typeof KEY_CLASS)[keyof typeof KEY_CLASS];

/** A longer key is judged by its last characters. */
export const KEY_CHARS_MAX = 128;

/** Verdicts kept per scrubber; the memory is emptied when it is full. */
const REMEMBERED_KEYS_MAX = 10_000;

/** A segment that ends with one of these is a secret: `subject_token`, `x-api-key`, `clientSecret`. */
const SECRET_ENDINGS = [
  'token',
  'tokens',
  'secret',
  'secrets',
  'password',
  'passwords',
  'passwd',
  'pwd',
  'passphrase',
  'assertion',
  'privatekey',
  'apikey',
  'accesskey',
  'secretkey',
  'accountkey',
  'sharedkey',
  'encryptionkey',
  'credential',
  'credentials',
  'signature',
  'verifier',
  'tokenhint',
  'connectionstring',
  'sessionid',
  'sessid',
];

const SECRET_SEGMENTS = new Set([
  'devicecode',
  'usercode',
  'authorizationcode',
  'authcode',
  'sessioncode',
  'mfacode',
  'verificationcode',
  'recoverycode',
  'recoverycodes',
  'backupcode',
  'backupcodes',
  'otpcode',
  'passcode',
  'totp',
  'otp',
  'codechallenge',
  'requesturi',
  'authreqid',
  'interactioncode',
  'samlresponse',
  'samlrequest',
  'samlart',
  'relaystate',
  'sessionstate',
  'jwt',
  'jws',
  'jwe',
  'jwks_private',
  'pin',
  'sas',
  'keycloakidentity',
  'keycloaksession',
  'loginhint',
]);

const LINE_SEGMENTS = new Set([
  'authorization',
  'proxyauthorization',
  'xforwardedauthorization',
  'cookie',
  'cookies',
  'setcookie',
  'dpop',
]);

/** `sid` and `key` are words of cookies and signed URLs; alone or under a carrier they are secrets. */
const WEAK_SEGMENTS = new Set(['code', 'state', 'nonce', 'sig', 'ticket', 'sid', 'auth', 'proof']);

/** Parents under which a weak word is a protocol parameter: `url.query.code`, `params[state]`. */
const CARRIERS = new Set([
  'query',
  'querystring',
  'params',
  'param',
  'parameters',
  'form',
  'body',
  'request',
  'req',
  'args',
  'arg',
  'fragment',
  'payload',
  'oauth',
  'oauth2',
  'oidc',
  'openid',
  'callback',
  'authorization',
]);

/** A parent that makes everything below it a secret. */
const SECRET_PARENTS = new Set(['cookie', 'cookies', 'setcookie', 'credentials', 'secrets']);

const ALL_INVISIBLE = new RegExp(INVISIBLE, 'g');

/** Percent-decodes ASCII, up to three times; other bytes cannot be part of a known key. */
function percentDecode(key: string): string {
  let text = key;
  for (let pass = 0; pass < 3 && text.includes('%'); pass += 1) {
    text = text
      .replace(/%(?:e2%80%8[b-f]|ef%bb%bf|c2%ad)/gi, '')
      .replace(/%([0-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  }
  return text;
}

function segmentsOf(key: string): string[] {
  const plain = percentDecode(key)
    .replace(ALL_INVISIBLE, '')
    .replace(/[\uff01-\uff5e]/g, (c) => String.fromCharCode(c.charCodeAt(0) - 0xfee0))
    .toLowerCase()
    .replace(/[\s_\-"'`\\$]/g, '');
  // A trailing index names an element of a list (`cookie.0`).
  const parts = plain.split(/[.[\]/:]/).filter((s) => s !== '');
  while (parts.length > 1 && /^\d+$/.test(parts.at(-1) ?? '')) parts.pop();
  return parts;
}

function classOf(key: string, extra: ReadonlySet<string>, allowed: ReadonlySet<string>): KeyClass {
  const parts = segmentsOf(key);
  const last = parts.at(-1);
  if (last === undefined) return KEY_CLASS.plain;
  const whole = parts.join('');
  const isBelowSecret = parts.slice(0, -1).some((s) => SECRET_PARENTS.has(s));
  if (!isBelowSecret && (allowed.has(last) || allowed.has(whole))) return KEY_CLASS.plain;
  if (LINE_SEGMENTS.has(last)) return KEY_CLASS.line;
  if (extra.has(last) || extra.has(whole)) return KEY_CLASS.strong;
  if (SECRET_SEGMENTS.has(last) || SECRET_SEGMENTS.has(whole)) return KEY_CLASS.strong;
  if (SECRET_ENDINGS.some((e) => last.endsWith(e))) return KEY_CLASS.strong;
  if (isBelowSecret) return KEY_CLASS.strong;
  if (!WEAK_SEGMENTS.has(last)) return KEY_CLASS.plain;
  const parent = parts.at(-2);
  return parent === undefined || CARRIERS.has(parent) ? KEY_CLASS.weak : KEY_CLASS.plain;
}

/**
 * A classifier with memory. Of the configuration, `extraKeys` are strong, and `allowedKeys` plain whatever the rules say;
 * below a parent that makes everything a secret (`cookie.x`) they are not.
 */
export function createKeyClassifier(
  extraKeys: readonly string[],
  allowedKeys: readonly string[] = [],
): (key: string) => KeyClass {
  const allowed = new Set(allowedKeys.map((k) => segmentsOf(k).join('')));
  const extra = new Set(extraKeys.map((k) => segmentsOf(k).join('')));
  const known = new Map<string, KeyClass>();
  return (key) => {
    const short = key.length > KEY_CHARS_MAX ? key.slice(-KEY_CHARS_MAX) : key;
    let verdict = known.get(short);
    if (verdict === undefined) {
      verdict = classOf(short, extra, allowed);
      if (known.size >= REMEMBERED_KEYS_MAX) known.clear();
      known.set(short, verdict);
    }
    return verdict;
  };
}
