import type { DecodedView } from './decoded_view.ts';
import { BENIGN_VALUES, isQuote, isSpace, type Report } from './secret_parameters.ts';
import { mixing } from './random_text.ts';

/**
 * Secrets that show by themselves: JWTs, credentials after their scheme, userinfo, keys whose issuers gave them a shape,
 * private keys, e-mail addresses. Linear, like all scanners.
 */

/** Words of prose and of challenges after `Bearer`. */
const AFTER_SCHEME = new Set(
  (
    'token tokens auth authentication authorization authorisation realm error error_description scope scheme ' +
    'credentials credential header headers is was not only and or in for challenge access method methods ' +
    'type usage with from to proof proofs nonce bound key keys binding jwt client clients'
  ).split(' '),
);

/** `Bearer x`, `DPoP x`, `Basic x` wherever they stand. */
export function scanCredentials(view: DecodedView, report: Report): void {
  const { text } = view;
  const schemes = /(bearer|basic|dpop|negotiate)[\s:=+,"']{1,8}([A-Za-z0-9\-._~+/]{4,}={0,4})/gi;
  for (let m = schemes.exec(text); m !== null; m = schemes.exec(text)) {
    const credential = m[2] ?? '';
    const end = m.index + m[0].length;
    if (!isCredential(m[1] ?? '', credential)) {
      // The word after `Basic` may itself be a scheme.
      schemes.lastIndex = end - credential.length;
      continue;
    }
    report(end - credential.length, end);
  }
}

function isCredential(scheme: string, text: string): boolean {
  if (text.length <= 64) {
    const word = text.replace(/[.=]+$/, '').toLowerCase();
    if (AFTER_SCHEME.has(word) || BENIGN_VALUES.has(word)) return false;
  }
  if (/^(?:bearer|dpop)$/i.test(scheme)) return true;
  if (text.length >= 16 || !/^[a-z]+$/.test(text)) return true;
  return Buffer.from(text, 'base64').includes(0x3a);
}

/** `user:password@` in any URL. */
export function scanUserinfo(view: DecodedView, report: Report): void {
  const { text } = view;
  for (let at = text.indexOf('://'); at >= 0; at = text.indexOf('://', at + 3)) {
    const level = view.level(at);
    let sign = -1;
    let i = at + 3;
    for (; i < text.length; i += 1) {
      const c = text.charCodeAt(i);
      if (c === 0x40) sign = i;
      else if (
        (c === 0x2f || c === 0x3f || c === 0x23 || c === 0x3c || c === 0x3e) &&
        view.level(i) <= level
      ) {
        break;
      } else if (isSpace(c) || (isQuote(c) && view.level(i) <= level)) break;
    }
    if (sign > at + 3) report(at + 3, sign);
  }
}

const BASE64URL_RUN = /[A-Za-z0-9_.-]{8,}/y;
/** Between the pieces of a broken JWT, characters. */
const GAP_MAX = 12;

/** JSON Web Tokens, whole, cut off, or broken into pieces by white space or quotes. */
export function scanJwts(view: DecodedView, report: Report): void {
  const { text } = view;
  const jwts =
    /eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*|(?<![A-Za-z0-9_-])e(?:yA|wo|w0|wk)[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*/g;
  for (let m = jwts.exec(text); m !== null; m = jwts.exec(text)) {
    let end = m.index + m[0].length;
    for (;;) {
      let next = end;
      while (
        next < text.length &&
        next - end < GAP_MAX &&
        ' \t\r\n"\'+,\\'.includes(text.charAt(next))
      ) {
        next += 1;
      }
      if (next === end) break;
      BASE64URL_RUN.lastIndex = next;
      const piece = BASE64URL_RUN.exec(text)?.[0];
      if (piece === undefined || !isJwtPiece(piece)) break;
      end = next + piece.length;
    }
    report(m.index, end);
    jwts.lastIndex = end;
  }
}

/** A piece of a broken JWT: letters of both cases and digits, mixed as no word is. */
function isJwtPiece(piece: string): boolean {
  const sample = piece.slice(0, 200);
  return /[a-z]/.test(sample) && /[A-Z]/.test(sample) && mixing(sample).ratio >= 0.25;
}

/** Shortest run of letters, digits, `-` and `_` in any of the shapes below. */
export const KNOWN_SHAPE_RUN_MIN = 14;

/** Keys that their issuers gave a recognisable shape. Every alternative is a fixed prefix and one run. */
const KNOWN_SHAPES = new RegExp(
  [
    '(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}',
    'gh[pousr]_[A-Za-z0-9]{20,}',
    'github_pat_[A-Za-z0-9_]{20,}',
    'gl(?:pat|dt|rt|ptt|ft|soat)-[A-Za-z0-9_-]{16,}',
    'xox[abeoprs]-[A-Za-z0-9-]{10,}',
    'xapp-[A-Za-z0-9-]{10,}',
    'hooks\\.slack\\.com/services/[A-Za-z0-9/]{16,}',
    '(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}',
    'whsec_[A-Za-z0-9+/=]{16,}',
    'sk-[A-Za-z0-9_-]{20,}',
    'AIza[A-Za-z0-9_-]{30,}',
    'ya29\\.[A-Za-z0-9_-]{16,}',
    '(?<![A-Za-z0-9])1//0[A-Za-z0-9_-]{20,}',
    '(?<![A-Za-z0-9])4/0A[A-Za-z0-9_-]{20,}',
    'GOCSPX-[A-Za-z0-9_-]{16,}',
    'hv[sbr]\\.[A-Za-z0-9_-]{16,}',
    '(?<![A-Za-z0-9])s\\.[A-Za-z0-9]{24}(?![A-Za-z0-9])',
    'SG\\.[A-Za-z0-9_-]{16,}\\.[A-Za-z0-9_-]{16,}',
    'npm_[A-Za-z0-9]{30,}',
    'pypi-[A-Za-z0-9_-]{30,}',
    'do[opr]_v1_[a-f0-9]{32,}',
    'shp(?:at|ca|pa|ss)_[a-fA-F0-9]{24,}',
    'hf_[A-Za-z]{30,}',
    'dapi[a-f0-9]{32}',
    'dp\\.(?:pt|st|ct|sa|scim|audit)\\.[A-Za-z0-9]{32,}',
    'key-[0-9a-z]{32}(?![0-9a-z])',
    '(?<![A-Za-z0-9])SK[0-9a-f]{32}(?![0-9a-f])',
    'sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{20,}',
    'ATATT3[A-Za-z0-9_-]{20,}',
    'lin_api_[A-Za-z0-9]{30,}',
    '(?<=[0-9]{8}):AA[A-Za-z0-9_-]{30,}',
    'AGE-SECRET-KEY-1[A-Z0-9]{30,}',
    '[0-9]Q~[A-Za-z0-9_.~-]{30,}',
  ].join('|'),
  'y',
);

/** The first two characters of every shape: a table look-up spares trying thirty patterns at every character. */
const HEADS = new Uint8Array(128 * 128);
for (const head of (
  'AK AS AB AC gh gi gl xo xa ho sk rk pk wh AI ya 1/ 4/ GO hv s. SG np py do sh hf da dp ke SK sq AT li :A AG ' +
  '0Q 1Q 2Q 3Q 4Q 5Q 6Q 7Q 8Q 9Q'
).split(' '))
  HEADS[head.charCodeAt(0) * 128 + head.charCodeAt(1)] = 1;

/** The next shape from `from` on; undefined where there is none. */
function nextKnownShape(text: string, from: number): { start: number; end: number } | undefined {
  let first = from < text.length ? text.charCodeAt(from) : 0;
  for (let i = from; i + 1 < text.length; i += 1) {
    const second = text.charCodeAt(i + 1);
    if (first < 128 && second < 128 && HEADS[first * 128 + second] === 1) {
      KNOWN_SHAPES.lastIndex = i;
      const m = KNOWN_SHAPES.exec(text);
      if (m !== null) return { start: i, end: i + m[0].length };
    }
    first = second;
  }
  return undefined;
}

/** Keys of cloud providers, code hosts and payment services. */
export function scanKnownShapes(view: DecodedView, report: Report): void {
  const { text } = view;
  let found = nextKnownShape(text, 0);
  while (found !== undefined) {
    report(found.start, found.end);
    found = nextKnownShape(text, found.end);
  }
}

export function holdsKnownShape(text: string): boolean {
  return nextKnownShape(text, 0) !== undefined;
}

/** PEM private keys, whole or cut off. */
export function scanPrivateKeys(view: DecodedView, report: Report): void {
  const { text } = view;
  if (!text.includes('PRIVATE KEY')) return;
  const begins = /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----/g;
  for (let m = begins.exec(text); m !== null; m = begins.exec(text)) {
    const foot = text.indexOf('-----END', m.index + m[0].length);
    const close = foot < 0 ? -1 : text.indexOf('-----', foot + 8);
    const end = close < 0 ? text.length : close + 5;
    report(m.index, end);
    begins.lastIndex = end;
  }
}

const LOCAL_PART_MAX = 64;
const DOMAIN_MAX = 253;
const DOMAIN = /[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*/y;
const LOCAL_CHARACTER = /[\p{L}\p{N}._%+'-]/u;

function isLocalCharacter(code: number): boolean {
  if (code >= 128) return LOCAL_CHARACTER.test(String.fromCharCode(code));
  const lower = code | 0x20;
  return (
    (lower >= 0x61 && lower <= 0x7a) ||
    (code >= 0x30 && code <= 0x39) ||
    (code !== 0x2c &&
      code !== 0x2a &&
      code !== 0x28 &&
      code !== 0x29 &&
      code >= 0x27 &&
      code <= 0x2e) ||
    code === 0x5f ||
    code === 0x25
  );
}

/** E-mail addresses: names of people. */
export function scanEmails(view: DecodedView, report: Report): void {
  const { text } = view;
  for (let at = text.indexOf('@'); at >= 0; at = text.indexOf('@', at + 1)) {
    let start = at;
    const floor = Math.max(0, at - LOCAL_PART_MAX);
    while (start > floor && isLocalCharacter(text.charCodeAt(start - 1))) start -= 1;
    if (start === at) continue;
    DOMAIN.lastIndex = 0;
    const domain = DOMAIN.exec(text.slice(at + 1, at + 1 + DOMAIN_MAX))?.[0] ?? '';
    if (/\.[A-Za-z]{2,}$/.test(domain)) report(start, at + 1 + domain.length);
  }
}
