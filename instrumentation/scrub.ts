import { SECRET_KEYS, normaliseKey } from './secret_keys.ts';

/** What stands in place of a secret. */
export const REDACTED = '[redacted]';

/** Longest text that leaves the process, characters; the rest is cut. Also bounds every pattern's work. */
export const TEXT_LENGTH_MAX = 2_048;

/** Words that are secrets as a parameter (`code=...`), but plain English before a colon (`code: 12`). */
const PLAIN_WORDS: ReadonlySet<string> = new Set([
  'code',
  'state',
  'request',
  'token',
  'assertion',
  'nonce',
  'pin',
  'secret',
  'authorization',
]);

// Each pattern is anchored by a literal or a bounded run, so that a hostile text costs linear time.
const JWT = /(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*){2,4}/g;
const CREDENTIALS = /\b(bearer|basic|dpop|negotiate)(\s+|%20)[A-Za-z0-9._~+/-]{6,}=*/gi;
const USERINFO = /:\/\/[^\s/?#@]{1,256}@/g;
const PRIVATE_KEY = /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END[A-Z -]*|$)/g;
const KNOWN_SHAPES =
  /\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|AIza[A-Za-z0-9_-]{35})/g;
const PARAMETER = /([A-Za-z0-9_.-]{2,48})(\s?=\s?|%3D)("[^"]*"?|'[^']*'?|[^\s&"',;)}\]]+)/gi;
const MEMBER = /(["'])([A-Za-z0-9_.-]{2,48})\1(\s?:\s?)("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,}\]]+)/g;
const LABELLED = /(?<![A-Za-z0-9_.-])([A-Za-z0-9_.-]{2,48})(:\s?)([^\s,;"'}]{4,})/g;
const SUSPICIOUS = /[=:%]|eyJ|-----|bearer|basic|dpop|AKIA|ASIA|AIza|gh[pousr]_|github_pat|xox|k_/i;

/**
 * A name (scope, client id, audience, key id) without what is a credential by its shape. Unlike in free
 * text a word before a colon means nothing here: `password:change` is a scope.
 */
export function scrubName(text: string): string {
  const bounded = text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX)}...` : text;
  return SUSPICIOUS.test(bounded) ? scrubShapes(bounded) : bounded;
}

/** Free text without credentials: JWTs, Authorization values, parameters and members of secret names. */
export function scrubText(text: string): string {
  const bounded = scrubName(text);
  if (!bounded.includes(':')) return bounded;
  return bounded
    .replace(MEMBER, (all: string, quote: string, key: string, sign: string) =>
      isSecretKey(key) ? `${quote}${key}${quote}${sign}"${REDACTED}"` : all,
    )
    .replace(LABELLED, (all: string, key: string, sign: string) =>
      isSecretKey(key) && !PLAIN_WORDS.has(normaliseKey(key)) ? `${key}${sign}${REDACTED}` : all,
    );
}

function scrubShapes(text: string): string {
  return text
    .replace(PRIVATE_KEY, REDACTED)
    .replace(JWT, REDACTED)
    .replace(CREDENTIALS, `$1 ${REDACTED}`)
    .replace(USERINFO, `://${REDACTED}@`)
    .replace(KNOWN_SHAPES, REDACTED)
    .replace(PARAMETER, (all: string, key: string, sign: string) =>
      isSecretKey(key) ? `${key}${sign}${REDACTED}` : all,
    );
}

function isSecretKey(key: string): boolean {
  const name = normaliseKey(key);
  return SECRET_KEYS.has(name) || SECRET_KEYS.has(name.slice(name.lastIndexOf('.') + 1));
}

/** A URL without query, fragment and userinfo. Works on text, so that odd URLs keep their telling shape. */
export function withoutQuery(url: string): string {
  const cut = url.search(/[?#]/);
  const base = cut === -1 ? url : url.slice(0, cut);
  return base.replace(USERINFO, `://${REDACTED}@`).slice(0, TEXT_LENGTH_MAX);
}
