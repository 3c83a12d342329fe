import type { DecodedView } from './decoded_view.ts';
import type { Report } from './secret_parameters.ts';

/** The last fence: text that only a random generator writes. */

/** A run of this many characters and more is looked at whole. */
export const LONG_RUN_LENGTH_MIN = 24;
/** Shorter ones, down to this, only where upper case, lower case and digits are well mixed. */
export const RANDOM_RUN_LENGTH_MIN = 16;
const UUID_LENGTH = 36;
const UUID = /[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}/;

/** Share of neighbouring letters and digits that change class; random text has about 0.6, names 0.1-0.3. */
export function mixing(text: string): { ratio: number; classes: number; length: number } {
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
/** Letters of one case, with or without digits. */
export const ONE_CASE_LENGTH_MIN = 32;
const ONE_CASE = /^(?:[0-9a-z]+|[0-9A-Z]+)$/;

function isRandomSegment(segment: string): boolean {
  if (segment.length < LONG_RUN_LENGTH_MIN) return isShortRandom(segment);
  const mix = mixing(segment);
  if (mix.length < 20) return false;
  if (mix.classes === 3 && mix.ratio >= 0.34) return true;
  if (mix.classes === 2 && /[a-z]/.test(segment) && /[A-Z]/.test(segment)) return mix.ratio >= 0.4;
  return segment
    .split(/[_-]/)
    .some(
      (part) =>
        part.length >= ONE_CASE_LENGTH_MIN &&
        (HEX.test(part)
          ? part.length >= HEX_SECRET_LENGTH_MIN && /[a-fA-F]/.test(part) && /\d/.test(part)
          : ONE_CASE.test(part) && mixing(part).ratio >= 0.2),
    );
}

/**
 * 16 to 23 characters: ids of sessions and codes have such lengths, and so have names of classes and algorithms, whose
 * words keep letters of one case together.
 */
function isShortRandom(segment: string): boolean {
  if (segment.length < RANDOM_RUN_LENGTH_MIN) return false;
  const mix = mixing(segment);
  if (mix.length < RANDOM_RUN_LENGTH_MIN - 2 || mix.classes !== 3 || mix.ratio < 0.42) return false;
  // A word of four lower-case letters is rare in random text, and common in names.
  return (segment.match(/[a-z]{4,}/g)?.length ?? 0) < 2;
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
  return mix.classes >= (marked ? 2 : 3) && mix.ratio >= (marked ? 0.34 : 0.4);
}

/** Reports what is random in a run that starts at `start`; a `/` may part a path or belong to base64. */
function reportRandom(run: string, start: number, report: Report): void {
  if (isBase64(run)) {
    report(start, start + run.length);
    return;
  }
  // Pieces between slashes, by hand: a hostile run has a million of them.
  let before = '';
  for (let from = 0; from <= run.length;) {
    const slash = run.indexOf('/', from);
    const to = slash < 0 ? run.length : slash;
    const piece = to - from > 0 ? run.slice(from, to) : '';
    if (piece.length >= RANDOM_RUN_LENGTH_MIN && holdsRandomSegment(piece)) {
      const next = run.indexOf('/', to + 1);
      const after = to >= run.length ? '' : run.slice(to + 1, next < 0 ? run.length : next);
      const left = isRandomRemnant(before) ? before.length + 1 : 0;
      const right = isRandomRemnant(after) ? after.length + 1 : 0;
      report(start + from - left, start + to + right);
    }
    before = piece;
    from = to + 1;
  }
}

function holdsRandomSegment(piece: string): boolean {
  if (!/[+=]/.test(piece)) return isRandomSegment(piece);
  let from = 0;
  for (let i = 0; i <= piece.length; i += 1) {
    const c = i < piece.length ? piece.charCodeAt(i) : EQUALS;
    if (c !== EQUALS && c !== PLUS) continue;
    if (i - from >= RANDOM_RUN_LENGTH_MIN && isRandomSegment(piece.slice(from, i))) return true;
    from = i + 1;
  }
  return false;
}

const EQUALS = 0x3d;
const PLUS = 0x2b;
const SHA_LABEL = /sha(?:1|224|256|384|512)[:-]$/;

/** What a run is made of: letters, digits and `+/=_-`. */
const RUN_CODES = new Uint8Array(128);
for (const c of 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_-')
  RUN_CODES[c.charCodeAt(0)] = 1;

/** The runs of at least so many characters, one by one: `next` gives a start or -1, `end` where that run ends. */
class Runs {
  readonly #text: string;
  readonly #min: number;
  end = 0;

  constructor(text: string, min: number) {
    this.#text = text;
    this.#min = min;
  }

  next(): number {
    const text = this.#text;
    let start = this.end;
    for (let i = start; i <= text.length; i += 1) {
      const c = i < text.length ? text.charCodeAt(i) : 0;
      if (c < 128 && RUN_CODES[c] === 1) continue;
      if (i - start >= this.#min) {
        this.end = i;
        return start;
      }
      start = i + 1;
    }
    this.end = text.length;
    return -1;
  }
}

/** The last fence: long text that only a random generator writes. */
export function scanRandomRuns(view: DecodedView, report: Report): void {
  const { text } = view;
  const runs = new Runs(text, RANDOM_RUN_LENGTH_MIN);
  for (let start = runs.next(); start >= 0; start = runs.next()) {
    // `sha256:<64 hex>` names content.
    if (SHA_LABEL.test(text.slice(Math.max(0, start - 8), start))) continue;
    // UUIDs are names here: references, request ids, subjects of some vendors.
    let from = start;
    for (const rest of withoutUuids(text.slice(start, runs.end))) {
      if (rest.length >= RANDOM_RUN_LENGTH_MIN) reportParts(rest, from, report);
      from += rest.length + UUID_LENGTH;
    }
  }
}

/** An `=` that something follows parts a name from its value; at the end it is padding. */
function reportParts(run: string, start: number, report: Report): void {
  let from = 0;
  for (let at = run.indexOf('='); at >= 0; at = run.indexOf('=', at + 1)) {
    if (at + 1 >= run.length || run.charCodeAt(at + 1) === EQUALS) continue;
    if (at + 1 - from >= RANDOM_RUN_LENGTH_MIN)
      reportRandom(run.slice(from, at + 1), start + from, report);
    from = at + 1;
  }
  if (run.length - from >= RANDOM_RUN_LENGTH_MIN)
    reportRandom(run.slice(from), start + from, report);
}

function withoutUuids(run: string): readonly string[] {
  return run.length >= UUID_LENGTH ? run.split(UUID) : [run];
}

/** Shortest base64 that is decoded. */
export const ENCODED_RUN_MIN = 16;
/** Text of printable ASCII with line ends: what an encoded form, header or object is. */
const PRINTABLE = /^[\t\r\n\x20-\x7e]{8,}$/;
const HEAD_LENGTH = 12;

/**
 * Base64 that holds text: `user:password` as of Basic, or what `holdsSecret` says. The encoded text goes whole. Names
 * that happen to be base64 decode to bytes that are no text.
 */
export function scanEncodedText(
  view: DecodedView,
  holdsSecret: (text: string) => boolean,
  report: Report,
): void {
  const { text } = view;
  const runs = new Runs(text, ENCODED_RUN_MIN);
  for (let start = runs.next(); start >= 0; start = runs.next()) {
    // A `key=` before it belongs to the run, as far as characters go.
    const from = afterKey(text, start, runs.end);
    if (runs.end - from < ENCODED_RUN_MIN) continue;
    // The first characters tell, so that a long run of anything else is not decoded.
    if (!PRINTABLE.test(decode(text.slice(from, from + HEAD_LENGTH)))) continue;
    const run = text.slice(from, runs.end);
    const decoded = decode(run);
    if (!PRINTABLE.test(decoded) || !/[a-z]/.test(run) || !/[A-Z]/.test(run)) continue;
    if (isUserAndPassword(decoded) || holdsSecret(decoded)) report(from, runs.end);
  }
}

/** Padding ends base64, so what follows an `=` in the middle begins anew. */
function afterKey(text: string, start: number, end: number): number {
  let from = start;
  for (let i = start; i < end - 2; i += 1) if (text.charCodeAt(i) === EQUALS) from = i + 1;
  return from;
}

function decode(run: string): string {
  // latin1: bytes that are no ASCII then show as such.
  return Buffer.from(run, 'base64').toString('latin1');
}

function isUserAndPassword(decoded: string): boolean {
  return /^[\x21-\x39\x3b-\x7e]{1,64}:[\x21-\x7e]{3,128}$/.test(decoded);
}
