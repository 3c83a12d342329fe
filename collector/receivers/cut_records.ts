import { isUtf8 } from 'node:buffer';
import type { SourceDefinition, SourceRecord, RejectCode } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';

/** Records that one request may hold. */
export const RECORDS_MAX = 100_000;
/** Nesting of brackets that a record may have. */
export const DEPTH_MAX = 64;

/** A record, or why the piece of the body is none. */
export type CutRecord =
  | { readonly ok: true; readonly record: SourceRecord }
  | { readonly ok: false; readonly code: RejectCode; readonly message: string };

/**
 * Cuts a body into records: a JSON array, one JSON object, or lines (NDJSON, or text lines for a source that
 * writes text). Lines are read one at a time, while the caller works on them. A line that cannot be read is a
 * record of its own, refused with a reason. Throws `body_unreadable` where nothing could be read (at the end
 * of it), and `body_too_large` beyond `RECORDS_MAX`.
 */
export function* cutRecords(body: Buffer, source: SourceDefinition): Generator<CutRecord> {
  if (!isUtf8(body)) throw unreadable('not valid UTF-8');
  const lines = new LineScanner(body);
  if (!lines.next()) return;
  const bracket = body[lines.start];
  if (source.forms.includes('json') && (bracket === OPEN_BRACE || bracket === OPEN_BRACKET)) {
    const whole = parseJson(body.toString('utf8', lines.start));
    if (whole !== undefined) {
      yield* wholeBody(whole.value, body);
      return;
    }
    if (bracket === OPEN_BRACKET && !source.forms.includes('text'))
      throw unreadable('starts like a JSON array but is not valid JSON');
  }
  let records = 0;
  let readable = 0;
  do {
    records += 1;
    refuseBeyondLimit(records);
    const record = cutLine(body.toString('utf8', lines.start, lines.end), lines.openers, source);
    if (record.ok || record.code !== 'not_json') readable += 1;
    yield record;
  } while (lines.next());
  if (readable === 0) throw unreadable(`no record could be read; allowed: ${allowedForms(source)}`);
}

function* wholeBody(value: unknown, body: Buffer): Generator<CutRecord> {
  // One cheap pass spares looking at every value's depth where none can be too deep.
  const mayBeDeep = nestingOf(body.toString('utf8')) > DEPTH_MAX;
  const values = Array.isArray(value) ? (value as readonly unknown[]) : [value];
  refuseBeyondLimit(values.length);
  for (const one of values)
    yield mayBeDeep && depthOf(one) > DEPTH_MAX ? tooDeep() : jsonRecord(one);
}

function refuseBeyondLimit(records: number): void {
  if (records <= RECORDS_MAX) return;
  throw new GrantscopeError(
    'body_too_large',
    `body: more than ${RECORDS_MAX} records; at most ${RECORDS_MAX} in one request`,
    { stage: 'receiving' },
  );
}

function unreadable(reason: string): GrantscopeError {
  return new GrantscopeError('body_unreadable', `body: ${reason}`, { stage: 'receiving' });
}

/** Finds the lines of a body that are not blank, and counts the brackets that open in each. */
class LineScanner {
  /** The first byte of the line that is not white space. */
  start = 0;
  /** Behind its last byte that is not white space. */
  end = 0;
  /** Opening brackets, also those in strings: at least its nesting. */
  openers = 0;
  readonly #body: Buffer;
  #at: number;

  constructor(body: Buffer) {
    this.#body = body;
    const hasByteOrderMark = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf;
    this.#at = hasByteOrderMark ? 3 : 0;
  }

  /** Goes on to the next line; false behind the last. */
  next(): boolean {
    const body = this.#body;
    let at = this.#at;
    while (at < body.length && isBlank(body[at] ?? 0)) at += 1;
    this.start = at;
    this.openers = 0;
    for (; at < body.length; at += 1) {
      const c = body[at];
      if (c === NEWLINE) break;
      if (c === OPEN_BRACE || c === OPEN_BRACKET) this.openers += 1;
    }
    this.#at = at;
    let end = at;
    while (end > this.start && isBlank(body[end - 1] ?? 0)) end -= 1;
    this.end = end;
    return end > this.start;
  }
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

function allowedForms(source: SourceDefinition): string {
  const json = 'NDJSON, a JSON array or one JSON object';
  if (!source.forms.includes('text')) return json;
  return source.forms.includes('json') ? `${json}, or text lines` : 'text lines';
}

/** `openers`: opening brackets of the line, which bound its nesting. */
function cutLine(line: string, openers: number, source: SourceDefinition): CutRecord {
  if (openers > DEPTH_MAX && nestingOf(line) > DEPTH_MAX) return tooDeep();
  if (source.forms.includes('json') && /^[[{"]/.test(line)) {
    const parsed = parseJson(line);
    if (parsed !== undefined) return jsonRecord(parsed.value);
  }
  if (source.forms.includes('text')) return { ok: true, record: { form: 'text', line } };
  return { ok: false, code: 'not_json', message: 'not a JSON value' };
}

function jsonRecord(value: unknown): CutRecord {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return { ok: true, record: { form: 'json', value } };
  return {
    ok: false,
    code: 'not_an_object',
    message: `a record must be a JSON object, not ${nameOf(value)}`,
  };
}

function nameOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`;
}

function tooDeep(): CutRecord {
  return { ok: false, code: 'too_deep', message: `nested deeper than ${DEPTH_MAX} levels` };
}

function parseJson(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

/** Nesting of a parsed value; a loop, because a hostile value is deeper than the stack. */
function depthOf(value: unknown): number {
  let deepest = 0;
  const open: { value: unknown; depth: number }[] = [{ value, depth: 0 }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (typeof next.value !== 'object' || next.value === null) continue;
    const depth = next.depth + 1;
    deepest = Math.max(deepest, depth);
    for (const inner of Object.values(next.value)) open.push({ value: inner, depth });
  }
  return deepest;
}

/** Deepest nesting of brackets outside of strings, one pass. */
export function nestingOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === BACKSLASH) i += 1;
      else if (c === QUOTE) inString = false;
    } else if (c === QUOTE) inString = true;
    else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      depth += 1;
      if (depth > deepest) deepest = depth;
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) depth -= 1;
  }
  return deepest;
}

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
