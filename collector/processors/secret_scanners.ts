import type { DecodedView } from './decoded_view.ts';
import { REDACTED } from './scrubber.ts';
import { KEY_CHARS_MAX, KEY_CLASS, type KeyClass } from './secret_keys.ts';

/**
 * Finds secrets in a decoded view and reports each as a range of it. Every scanner moves forward only, or
 * looks back over a bounded window, so that the whole is linear in the text's length.
 */
export type Report = (start: number, end: number) => void;

// ---------------------------------------------------------------- parameters: key = value, "key": "value"

const SPACES_MAX = 8;
/** Between `"name":"code"` and its `"value":...`, characters. */
const NAMED_VALUE_DISTANCE_MAX = 96;

/** Words that follow `code:` or `token:` in prose and error bodies, and are no secret. */
const BENIGN_VALUES = new Set(
  (
    'true false null none undefined nil unknown empty missing required invalid expired revoked used reused ' +
    'unsupported malformed mismatch inactive active enabled disabled not was were is has have must should ' +
    'cannot could does the a an and or of in for to at no yes ok error failed failure denied success opaque ' +
    'invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope ' +
    'access_denied unsupported_response_type server_error temporarily_unavailable interaction_required ' +
    'login_required account_selection_required consent_required invalid_request_uri invalid_request_object ' +
    'request_not_supported request_uri_not_supported registration_not_supported invalid_token ' +
    'insufficient_scope authorization_pending slow_down expired_token invalid_redirect_uri ' +
    'invalid_client_metadata invalid_software_statement unapproved_software_statement invalid_target ' +
    'unsupported_token_type invalid_dpop_proof use_dpop_nonce running started stopped ready open closed'
  ).split(' '),
);
/** Node and system error codes: `ECONNREFUSED`, `ERR_BAD_REQUEST`. */
const ERROR_CONSTANT = /^E(?:RR)?[A-Z_]{3,40}$/;

const SCHEME_WORD = /^(?:bearer|basic|dpop|digest|negotiate|token)$/i;

function isKeyCode(c: number): boolean {
  return (
    (c >= 0x61 && c <= 0x7a) ||
    (c >= 0x41 && c <= 0x5a) ||
    (c >= 0x30 && c <= 0x39) ||
    c === 0x5f ||
    c === 0x2d ||
    c === 0x2e ||
    c === 0x5b ||
    c === 0x5d ||
    c === 0x24
  );
}

function isQuote(c: number): boolean {
  return c === 0x22 || c === 0x27 || c === 0x60;
}

function isSpace(c: number): boolean {
  return c === 0x20 || (c >= 0x09 && c <= 0x0d) || c === 0xa0;
}

interface Key {
  readonly text: string;
  readonly kind: KeyClass;
  /** The key itself is quoted: JSON and its kin. */
  readonly quoted: boolean;
  /** The quote that encloses key and value together (`'Cookie: a=b'`), or 0. */
  readonly enclosing: number;
}

/** Reads the name that ends before the separator at `separator`. */
function keyBefore(
  view: DecodedView,
  separator: number,
  classify: (key: string) => KeyClass,
): Key | undefined {
  const { text } = view;
  let end = separator;
  const floor = Math.max(0, separator - KEY_CHARS_MAX - SPACES_MAX);
  while (end > floor && isSpace(text.charCodeAt(end - 1))) end -= 1;
  const quoted = end > floor && isQuote(text.charCodeAt(end - 1));
  if (quoted) end -= 1;
  let start = end;
  while (start > floor && isKeyCode(text.charCodeAt(start - 1))) start -= 1;
  if (start === end) return undefined;
  const before = start > 0 ? text.charCodeAt(start - 1) : 0;
  const name = text.slice(start, end);
  let kind = classify(name);
  if (kind === KEY_CLASS.plain && start > 0 && view.level(start - 1) > 0) {
    // `\token=` may be a tab and `oken`, or a backslash and `token`.
    const letter = before === 0x0a ? 'n' : before === 0x0d ? 'r' : before === 0x09 ? 't' : '';
    if (letter !== '') kind = classify(letter + name);
  }
  return { text: name, kind, quoted, enclosing: !quoted && isQuote(before) ? before : 0 };
}

/** Where the text after an opening quote at `open` ends: at the next such quote that is not encoded deeper. */
function quotedEnd(view: DecodedView, open: number): number {
  const quote = view.text.charAt(open);
  const level = view.level(open);
  let end = view.text.indexOf(quote, open + 1);
  while (end >= 0 && view.level(end) > level) end = view.text.indexOf(quote, end + 1);
  return end < 0 ? view.text.length : end;
}

/** Where a JSON object or array that opens at `open` ends (after its closing bracket). */
function bracketEnd(view: DecodedView, open: number): number {
  let depth = 0;
  let i = open;
  while (i < view.text.length) {
    const c = view.text.charCodeAt(i);
    if (c === 0x22) {
      i = quotedEnd(view, i);
    } else if (c === 0x7b || c === 0x5b) {
      depth += 1;
    } else if (c === 0x7d || c === 0x5d) {
      depth -= 1;
      if (depth === 0) return i + 1;
    }
    i += 1;
  }
  return view.text.length;
}

function scanWhile(
  view: DecodedView,
  start: number,
  ends: (code: number) => boolean,
  level: number,
) {
  let i = start;
  while (i < view.text.length && !(ends(view.text.charCodeAt(i)) && view.level(i) <= level)) i += 1;
  return i;
}

const endsBareValue = (c: number): boolean =>
  isSpace(c) || isQuote(c) || c === 0x26 || c === 0x3c || c === 0x3e;
const endsJsonScalar = (c: number): boolean =>
  isSpace(c) || c === 0x2c || c === 0x7d || c === 0x5d || isQuote(c);

/** Punctuation after a value in prose belongs to the prose. */
function withoutTrailingPunctuation(text: string, start: number, end: number): number {
  // Text that was scrubbed before scrubs to itself.
  const floor = text.startsWith(REDACTED, start) ? start + REDACTED.length : start;
  let at = end;
  while (at > floor && ',;)}]'.includes(text.charAt(at - 1))) at -= 1;
  return at;
}

function isBenign(value: string, key: Key, bare: boolean): boolean {
  const word = value.toLowerCase();
  if (word === 'null' || word === 'true' || word === 'false') return true;
  if (key.kind === KEY_CLASS.weak) {
    if (BENIGN_VALUES.has(word.replace(/[.!]$/, '')) || ERROR_CONSTANT.test(value)) return true;
    return /^\d{1,3}$/.test(value) && key.text.toLowerCase().endsWith('code');
  }
  return bare && BENIGN_VALUES.has(word);
}

/** Reports the value that starts after the separator; returns where scanning goes on. */
function reportValue(view: DecodedView, separator: number, key: Key, report: Report): number {
  const { text } = view;
  let start = separator + 1;
  while (start < text.length && (text[start] === '=' || text[start] === '>')) start += 1;
  const spaced = start;
  while (start < text.length && isSpace(text.charCodeAt(start))) start += 1;
  if (start >= text.length) return text.length;
  const level = view.level(separator);
  if (isQuote(text.charCodeAt(start))) {
    const end = quotedEnd(view, start);
    if (end > start + 1 && !isBenign(text.slice(start + 1, end), key, false))
      report(start + 1, end);
    return end;
  }
  if (key.kind === KEY_CLASS.line) {
    const end = scanWhile(
      view,
      start,
      (c) => c === 0x0a || c === 0x0d || (c === key.enclosing && c !== 0),
      level,
    );
    report(start, end);
    return end;
  }
  const first = text.charCodeAt(start);
  if (key.quoted && (first === 0x7b || first === 0x5b)) {
    const end = bracketEnd(view, start);
    report(start, end);
    return end;
  }
  return reportBareValue(
    view,
    { start, level, key, colon: text[separator] === ':', spaced },
    report,
  );
}

interface BareValue {
  readonly start: number;
  /** Where the separator ended: a space after it marks prose. */
  readonly spaced: number;
  readonly level: number;
  readonly key: Key;
  readonly colon: boolean;
}

function reportBareValue(view: DecodedView, value: BareValue, report: Report): number {
  const { text } = view;
  const { start, key, level } = value;
  const json = key.quoted && value.colon;
  let end = scanWhile(view, start, json ? endsJsonScalar : endsBareValue, level);
  if (!json && SCHEME_WORD.test(text.slice(start, Math.min(end, start + 12)))) {
    // `token: Bearer abc`: the secret is the next word.
    let next = end;
    while (next < text.length && isSpace(text.charCodeAt(next))) next += 1;
    end = scanWhile(view, next, endsBareValue, level);
  }
  if (!json) end = withoutTrailingPunctuation(text, start, end);
  if (end <= start) return start;
  const bare = value.colon && value.start > value.spaced;
  // Only words are looked up, so the slice is bounded.
  if (end - start <= 64 && isBenign(text.slice(start, end), key, bare)) return end;
  report(start, end);
  return end;
}

/** Parameters of URLs, forms, headers, key=value lines and JSON, nested and encoded however deep. */
export function scanParameters(
  view: DecodedView,
  classify: (key: string) => KeyClass,
  report: Report,
): void {
  const { text } = view;
  const separators = /[=:]/g;
  /** Up to here a `value` belongs to a secret `name`. */
  let namedUntil = -1;
  for (let m = separators.exec(text); m !== null; m = separators.exec(text)) {
    const at = m.index;
    const next = text.charCodeAt(at + 1);
    // `a::b` names a member, `https://` a scheme.
    if (m[0] === ':' && (next === 0x3a || text.startsWith('//', at + 1))) {
      separators.lastIndex = at + (next === 0x3a ? 2 : 3);
      continue;
    }
    let key = keyBefore(view, at, classify);
    if (key === undefined) continue;
    if (key.kind === KEY_CLASS.plain) {
      if (at <= namedUntil && /^(?:string_?)?values?$/i.test(key.text)) {
        key = { ...key, kind: KEY_CLASS.strong };
      } else {
        if (namesSecret(view, at, key, classify)) namedUntil = at + NAMED_VALUE_DISTANCE_MAX;
        continue;
      }
    }
    separators.lastIndex = Math.max(at + 1, reportValue(view, at, key, report));
  }
}

/** `{"name":"code","value":...}` and `<input name="code" value="...">`. */
function namesSecret(
  view: DecodedView,
  separator: number,
  key: Key,
  classify: (key: string) => KeyClass,
): boolean {
  if (!/^(?:name|key|header|field|param)$/i.test(key.text)) return false;
  const window = view.text.slice(separator + 1, separator + 1 + KEY_CHARS_MAX);
  const name = /^\s{0,8}["'`]([^"'`]{1,100})["'`]/.exec(window)?.[1];
  return name !== undefined && classify(name) !== KEY_CLASS.plain;
}

// ------------------------------------------------------------------------------------- elements: <a>value</a>

/** XML elements whose name is a secret's, such as a SAML assertion, up to their end tag. */
export function scanElements(
  view: DecodedView,
  classify: (key: string) => KeyClass,
  report: Report,
): void {
  const { text } = view;
  if (!text.includes('<')) return;
  const lower = text.toLowerCase();
  // toLowerCase can change the length of exotic letters; then positions would no longer fit.
  const searchable = lower.length === text.length ? lower : text;
  const tags = /<([A-Za-z][A-Za-z0-9_.-]{0,60}:)?([A-Za-z][A-Za-z0-9_.-]{0,60})/g;
  for (let m = tags.exec(text); m !== null; m = tags.exec(text)) {
    const name = m[2] ?? '';
    if (classify(name) < KEY_CLASS.strong) continue;
    const start = m.index + m[0].length;
    const close = searchable.indexOf(`</${m[0].slice(1).toLowerCase()}`, start);
    const end = close < 0 ? text.length : close;
    report(start, end);
    tags.lastIndex = end;
  }
}

// ---------------------------------------------------------------------------------------------- credentials

/** Words of prose and of challenges after `Bearer`. */
const AFTER_SCHEME = new Set(
  (
    'token tokens auth authentication authorization authorisation realm error error_description scope scheme ' +
    'credentials credential header headers is was not only and or in for challenge access method methods ' +
    'type usage with from to'
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
  const word = text.replace(/[.=]+$/, '').toLowerCase();
  if (AFTER_SCHEME.has(word) || BENIGN_VALUES.has(word)) return false;
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

// ------------------------------------------------------------------------------------------------- shapes

const BASE64URL_RUN = /[A-Za-z0-9_.-]{8,}/y;

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
        next - end < 12 &&
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

/** Keys that their issuers gave a recognisable shape. Every alternative is a fixed prefix and one run. */
const KNOWN_SHAPES = new RegExp(
  [
    '(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}',
    'gh[pousr]_[A-Za-z0-9]{20,}',
    'github_pat_[A-Za-z0-9_]{20,}',
    'glpat-[A-Za-z0-9_-]{16,}',
    'xox[abeoprs]-[A-Za-z0-9-]{10,}',
    'xapp-[A-Za-z0-9-]{10,}',
    '(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,}',
    'whsec_[A-Za-z0-9+/=]{16,}',
    'sk-[A-Za-z0-9_-]{20,}',
    'AIza[A-Za-z0-9_-]{30,}',
    'ya29\\.[A-Za-z0-9_-]{16,}',
    'GOCSPX-[A-Za-z0-9_-]{16,}',
    'hv[sbr]\\.[A-Za-z0-9_-]{16,}',
    'SG\\.[A-Za-z0-9_-]{16,}\\.[A-Za-z0-9_-]{16,}',
    'npm_[A-Za-z0-9]{30,}',
    'pypi-[A-Za-z0-9_-]{30,}',
    'dop_v1_[a-f0-9]{32,}',
    'shp(?:at|ca|pa|ss)_[a-fA-F0-9]{24,}',
  ].join('|'),
  'g',
);

/** Keys of cloud providers, code hosts and payment services. */
export function scanKnownShapes(view: DecodedView, report: Report): void {
  for (const m of view.text.matchAll(KNOWN_SHAPES)) report(m.index, m.index + m[0].length);
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

/** E-mail addresses: names of people. */
export function scanEmails(view: DecodedView, report: Report): void {
  const { text } = view;
  for (let at = text.indexOf('@'); at >= 0; at = text.indexOf('@', at + 1)) {
    let start = at;
    const floor = Math.max(0, at - LOCAL_PART_MAX);
    while (start > floor && /[\p{L}\p{N}._%+'-]/u.test(text.charAt(start - 1))) start -= 1;
    if (start === at) continue;
    DOMAIN.lastIndex = 0;
    const domain = DOMAIN.exec(text.slice(at + 1, at + 1 + DOMAIN_MAX))?.[0] ?? '';
    if (/\.[A-Za-z]{2,}$/.test(domain)) report(start, at + 1 + domain.length);
  }
}

// ------------------------------------------------------------------------------------------------ the fence

const RUN_LENGTH_MIN = 24;
const UUID_LENGTH = 36;
const RUN = /[A-Za-z0-9+/_=-]{24,}/g;
const UUID = /[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}/;

/** Share of neighbouring letters and digits that change class; random text has about 0.6, names 0.1-0.3. */
function mixing(text: string): { ratio: number; classes: number; length: number } {
  let pairs = 0;
  let changes = 0;
  let previous = 0;
  let seen = 0;
  let length = 0;
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    const kind =
      c >= 0x61 && c <= 0x7a ? 1 : c >= 0x41 && c <= 0x5a ? 2 : c >= 0x30 && c <= 0x39 ? 4 : 0;
    if (kind !== 0) {
      length += 1;
      seen |= kind;
      if (previous !== 0) {
        pairs += 1;
        if (kind !== previous) changes += 1;
      }
    }
    previous = kind;
  }
  const classes = (seen & 1) + ((seen >> 1) & 1) + ((seen >> 2) & 1);
  return { ratio: pairs === 0 ? 0 : changes / pairs, classes, length };
}

const HEX = /^(?:[0-9a-f]+|[0-9A-F]+)$/;
/** Trace, span and object ids, SHA-1 and their kin are shorter; a key of 192 bits and more is not. */
const HEX_SECRET_LENGTH_MIN = 48;
const LETTERS_AND_DIGITS_LENGTH_MIN = 32;
const ONE_CASE = /^(?:[0-9a-z]+|[0-9A-Z]+)$/;

function isRandomSegment(segment: string): boolean {
  if (segment.length < RUN_LENGTH_MIN) return false;
  const mix = mixing(segment);
  if (mix.length < 20) return false;
  if (mix.classes === 3 && mix.ratio >= 0.34) return true;
  if (mix.classes === 2 && /[a-z]/.test(segment) && /[A-Z]/.test(segment)) return mix.ratio >= 0.4;
  return segment
    .split(/[_-]/)
    .some(
      (part) =>
        part.length >= LETTERS_AND_DIGITS_LENGTH_MIN &&
        (HEX.test(part)
          ? part.length >= HEX_SECRET_LENGTH_MIN && /[a-fA-F]/.test(part) && /\d/.test(part)
          : ONE_CASE.test(part) && mixing(part).ratio >= 0.2),
    );
}

/** A part of a random text that a `/` cut off: too short to be told alone, but mixed as no word is. */
function isRandomRemnant(piece: string): boolean {
  const mix = mixing(piece);
  return mix.classes >= 2 && mix.ratio >= 0.3;
}

/** Base64 in the alphabet with `+`, `/` and padding (RFC 4648 section 4). */
function isBase64(run: string): boolean {
  if (run.length < 32) return false;
  const marked = run.includes('+') || /[A-Za-z0-9]={1,2}$/.test(run);
  if (!marked && (run.length < 40 || run.startsWith('/') || !run.includes('/'))) return false;
  const mix = mixing(run);
  return mix.classes === 3 && mix.ratio >= 0.4;
}

/** Reports what is random in a run that starts at `start`; a `/` may part a path or belong to base64. */
function reportRandom(run: string, start: number, report: Report): void {
  if (isBase64(run)) {
    report(start, start + run.length);
    return;
  }
  const pieces = run.split('/');
  let from = start;
  pieces.forEach((piece, i) => {
    if (piece.split(/[+=]/).some(isRandomSegment)) {
      const before = pieces[i - 1] ?? '';
      const after = pieces[i + 1] ?? '';
      const left = isRandomRemnant(before) ? before.length + 1 : 0;
      const right = isRandomRemnant(after) ? after.length + 1 : 0;
      report(from - left, from + piece.length + right);
    }
    from += piece.length + 1;
  });
}

/** The last fence: long text that only a random generator writes. */
export function scanRandomRuns(view: DecodedView, report: Report): void {
  const { text } = view;
  RUN.lastIndex = 0;
  for (let m = RUN.exec(text); m !== null; m = RUN.exec(text)) {
    // `sha256:<64 hex>` names content.
    if (/sha(?:1|224|256|384|512)[:-]$/.test(text.slice(Math.max(0, m.index - 8), m.index)))
      continue;
    // UUIDs are names here: references, request ids, subjects of some vendors.
    let from = m.index;
    for (const rest of m[0].split(UUID)) {
      if (rest.length >= RUN_LENGTH_MIN) reportRandom(rest, from, report);
      from += rest.length + UUID_LENGTH;
    }
  }
}
