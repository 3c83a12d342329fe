import type { DecodedView } from './decoded_view.ts';
import { REDACTED } from './scrubber.ts';
import { KEY_CHARS_MAX, KEY_CLASS, type KeyClass } from './secret_keys.ts';

/**
 * Secrets that a name gives away: `key=value`, `"key": "value"`, `<key>value</key>`, a part of a multipart form.
 * Every scanner moves forward only, or looks back over a bounded window, so that the whole is linear.
 */

/** Reports a range of the view as secret. */
export type Report = (start: number, end: number) => void;
export type Classify = (key: string) => KeyClass;

const SPACES_MAX = 8;
/** Between `"name":"code"` and its `"value":...`, characters. */
const NAMED_VALUE_DISTANCE_MAX = 96;

/** Words that follow `code:` or `token:` in prose and error bodies, and are no secret. */
export const BENIGN_VALUES: ReadonlySet<string> = new Set(
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
/** The longest of them, and of system error codes. */
const BENIGN_LENGTH_MAX = 64;
/** Node and system error codes: `ECONNREFUSED`, `ERR_BAD_REQUEST`. */
const ERROR_CONSTANT = /^E(?:RR)?[A-Z_]{3,40}$/;

const SCHEME_WORD = /^(?:bearer|basic|dpop|digest|negotiate|token)$/i;
const SCHEME_LENGTH_MAX = 9;

const EQUALS = 0x3d;
const COLON = 0x3a;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** Letters, digits and `_-.[]$`. */
const KEY_CODES = codeTable('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.[]$');

function codeTable(characters: string): Uint8Array {
  const table = new Uint8Array(128);
  for (const c of characters) table[c.charCodeAt(0)] = 1;
  return table;
}

function isKeyCode(c: number): boolean {
  return c < 128 && KEY_CODES[c] === 1;
}

export function isQuote(c: number): boolean {
  return c === 0x22 || c === 0x27 || c === 0x60;
}

export function isSpace(c: number): boolean {
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
function keyBefore(view: DecodedView, separator: number, classify: Classify): Key | undefined {
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
    const letter =
      before === LINE_FEED ? 'n' : before === CARRIAGE_RETURN ? 'r' : before === 0x09 ? 't' : '';
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
): number {
  const { text } = view;
  let i = start;
  while (i < text.length && !(ends(text.charCodeAt(i)) && view.level(i) <= level)) i += 1;
  return i;
}

const endsBareValue = (c: number): boolean =>
  isSpace(c) || isQuote(c) || c === 0x26 || c === 0x3c || c === 0x3e;
const endsJsonScalar = (c: number): boolean =>
  isSpace(c) || c === 0x2c || c === 0x7d || c === 0x5d || isQuote(c);

/** Punctuation after a value in prose belongs to the prose. */
export function withoutTrailingPunctuation(text: string, start: number, end: number): number {
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
    const benign =
      end - start <= BENIGN_LENGTH_MAX && isBenign(text.slice(start + 1, end), key, false);
    if (end > start + 1 && !benign) report(start + 1, end);
    return end;
  }
  if (key.kind === KEY_CLASS.line) {
    const ends = (c: number): boolean =>
      c === LINE_FEED || c === CARRIAGE_RETURN || (c === key.enclosing && c !== 0);
    const end = scanWhile(view, start, ends, level);
    report(start, end);
    return end;
  }
  const first = text.charCodeAt(start);
  if (key.quoted && (first === 0x7b || first === 0x5b)) {
    const end = bracketEnd(view, start);
    report(start, end);
    return end;
  }
  const colon = text.charCodeAt(separator) === COLON;
  return reportBareValue(view, { start, level, key, colon, spaced }, report);
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
  if (!json && end - start <= SCHEME_LENGTH_MAX && SCHEME_WORD.test(text.slice(start, end))) {
    // `token: Bearer abc`: the secret is the next word.
    let next = end;
    while (next < text.length && isSpace(text.charCodeAt(next))) next += 1;
    end = scanWhile(view, next, endsBareValue, level);
  }
  if (!json) end = withoutTrailingPunctuation(text, start, end);
  if (end <= start) return start;
  const bare = value.colon && value.start > value.spaced;
  // Only words are looked up, so the slice is bounded.
  if (end - start <= BENIGN_LENGTH_MAX && isBenign(text.slice(start, end), key, bare)) return end;
  report(start, end);
  return end;
}

/** Parameters of URLs, forms, headers, key=value lines and JSON, nested and encoded however deep. */
export function scanParameters(view: DecodedView, classify: Classify, report: Report): void {
  const { text } = view;
  /** Up to here a `value` belongs to a secret `name`. */
  let namedUntil = -1;
  for (let at = 0; at < text.length; at += 1) {
    const c = text.charCodeAt(at);
    if (c !== EQUALS && c !== COLON) continue;
    // `a::b` names a member, `https://` a scheme.
    if (c === COLON) {
      const next = text.charCodeAt(at + 1);
      const skipped =
        next === COLON ? 1 : next === 0x2f && text.charCodeAt(at + 2) === 0x2f ? 2 : 0;
      if (skipped > 0) {
        at += skipped;
        continue;
      }
    }
    let key = keyBefore(view, at, classify);
    if (key === undefined) continue;
    if (key.kind === KEY_CLASS.plain) {
      if (at > namedUntil || !/^(?:string_?)?values?$/i.test(key.text)) {
        if (namesSecret(view, at, key, classify)) namedUntil = at + NAMED_VALUE_DISTANCE_MAX;
        continue;
      }
      key = { ...key, kind: KEY_CLASS.strong };
    }
    at = Math.max(at, reportValue(view, at, key, report) - 1);
  }
}

/** `{"name":"code","value":...}` and `<input name="code" value="...">`. */
function namesSecret(view: DecodedView, separator: number, key: Key, classify: Classify): boolean {
  if (key.text.length > 6 || !/^(?:name|key|header|field|param)$/i.test(key.text)) return false;
  const window = view.text.slice(separator + 1, separator + 1 + KEY_CHARS_MAX);
  const name = /^\s{0,8}["'`]([^"'`]{1,100})["'`]/.exec(window)?.[1];
  return name !== undefined && classify(name) !== KEY_CLASS.plain;
}

/** One word with a digit or of mixed case, at least six characters. */
const WEAK_ELEMENT =
  /[^<>]{0,100}>((?=[^<>\s]{0,40}\d|[^<>\s]{0,40}[a-z][A-Z])[^<>\s]{6,512})(?=<)/y;

/** XML elements whose name is a secret's, such as a SAML assertion, up to their end tag. */
export function scanElements(view: DecodedView, classify: Classify, report: Report): void {
  const { text } = view;
  const tags = /<([A-Za-z][A-Za-z0-9_.-]{0,60}:)?([A-Za-z][A-Za-z0-9_.-]{0,60})/g;
  let searchable: string | undefined;
  for (let m = tags.exec(text); m !== null; m = tags.exec(text)) {
    const kind = classify(m[2] ?? '');
    if (kind === KEY_CLASS.plain) continue;
    if (kind === KEY_CLASS.weak) {
      // `<code>` is also a tag of HTML: only a single made-up word in it counts.
      WEAK_ELEMENT.lastIndex = m.index + m[0].length;
      const value = WEAK_ELEMENT.exec(text)?.[1];
      if (value !== undefined && !BENIGN_VALUES.has(value.toLowerCase()))
        report(WEAK_ELEMENT.lastIndex - value.length, WEAK_ELEMENT.lastIndex);
      continue;
    }
    searchable ??= lowerCaseOf(text);
    const start = m.index + m[0].length;
    const close = searchable.indexOf(`</${m[0].slice(1).toLowerCase()}`, start);
    const end = close < 0 ? text.length : close;
    report(start, end);
    tags.lastIndex = end;
  }
}

/** toLowerCase can change the length of exotic letters; then positions would no longer fit. */
function lowerCaseOf(text: string): string {
  const lower = text.toLowerCase();
  return lower.length === text.length ? lower : text;
}

/** Headers of one part of a multipart body that are looked at, characters. */
const PART_HEADERS_LENGTH_MAX = 1_024;
const PART = /form-data;[^\r\n]{0,100}?\bname\*?=["']?([^"'\r\n;]{1,100})/giy;

/**
 * Parts of a multipart form (RFC 7578) whose name is a secret's, up to the next boundary. A logger may have made
 * spaces of the line ends, so everything after the name goes.
 */
export function scanMultipart(view: DecodedView, classify: Classify, report: Report): void {
  const { text } = view;
  const lower = lowerCaseOf(text);
  for (let at = lower.indexOf('form-data;'); at >= 0; at = lower.indexOf('form-data;', at + 1)) {
    PART.lastIndex = at;
    const m = PART.exec(text);
    if (m === null || classify(m[1] ?? '') === KEY_CLASS.plain) continue;
    let start = at + m[0].length;
    if (isQuote(text.charCodeAt(start))) start += 1;
    const boundary = boundaryAfter(text, start);
    const blank = /\r?\n\r?\n/.exec(text.slice(start, start + PART_HEADERS_LENGTH_MAX));
    if (blank !== null && start + blank.index < boundary) start += blank.index + blank[0].length;
    let end = boundary;
    while (end > start && isSpace(text.charCodeAt(end - 1))) end -= 1;
    report(start, end);
    at = Math.max(at, end - 1);
  }
}

/** The `--` of the next boundary, which stands after white space, or the end. */
function boundaryAfter(text: string, start: number): number {
  let at = text.indexOf('--', start);
  while (at >= 0 && !isSpace(text.charCodeAt(at - 1))) {
    // A run of dashes is one place, not many.
    while (text.charCodeAt(at) === 0x2d) at += 1;
    at = text.indexOf('--', at);
  }
  return at < 0 ? text.length : at;
}
