import { isUtf8 } from 'node:buffer';
import type { SourceDefinition, SourceRecord, RejectCode } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { withoutSyslogHeader } from './syslog_header.ts';

/** Records that one request may hold. */
export const RECORDS_MAX = 100_000;
/** Nesting of brackets that a record may have. */
export const DEPTH_MAX = 64;
/** Nesting of a whole body beyond which it is not parsed, and lines up to this length that are parsed unseen. */
const PARSED_DEPTH_MAX = 4_096;
/** Of a line, which may be a container of records. */
const CONTAINER_DEPTH_MAX = DEPTH_MAX + 8;
const UNSEEN_LENGTH_MAX = 65_536;

/** A record, or why the piece of the body is none. */
export type CutRecord =
  | { readonly ok: true; readonly record: SourceRecord }
  | { readonly ok: false; readonly code: RejectCode; readonly message: string };

/**
 * Cuts a body into records: a JSON array, one JSON object, or lines (NDJSON, or text lines for a source that
 * writes text; a syslog header before a line is taken off). Lines are read one at a time, while the caller works on
 * them. A line that cannot be read is a record of its own, refused with a reason. Throws `body_unreadable` where nothing could be read (at the end
 * of it), and `body_too_large` beyond `RECORDS_MAX`.
 */
export function* cutRecords(body: Buffer, source: SourceDefinition): Generator<CutRecord> {
  if (!isUtf8(body)) throw unreadable('not valid UTF-8');
  const lines = new LineScanner(body);
  if (!lines.next()) return;
  const bracket = body[lines.start];
  if (source.forms.includes('json') && (bracket === OPEN_BRACE || bracket === OPEN_BRACKET)) {
    const whole = parseWhole(body.toString('utf8', lines.start), lines);
    if (whole !== undefined) {
      yield* recordsOfValue(whole.value, source);
      return;
    }
    if (bracket === OPEN_BRACKET && !source.forms.includes('text'))
      throw unreadable('starts like a JSON array but is not valid JSON');
  }
  let records = 0;
  let readable = 0;
  do {
    const line = withoutSyslogHeader(body.toString('utf8', lines.start, lines.end));
    const cut = cutLine(line, source);
    records += isContent(cut) ? cut.length : 1;
    refuseBeyondLimit(records);
    if (!isContent(cut)) {
      if (cut.ok || cut.code !== 'not_json') readable += 1;
      yield cut;
    } else {
      readable += 1;
      for (const value of cut) yield shallowRecord(value);
    }
  } while (lines.next());
  if (readable === 0) throw unreadable(`no record could be read; allowed: ${allowedForms(source)}`);
}

/** The JSON value that a body is. Throws `body_unreadable`. */
export function parseBody(body: Buffer): unknown {
  if (!isUtf8(body)) throw unreadable('not valid UTF-8');
  const text = body.toString('utf8').replace(/^\ufeff/, '');
  if (nestingOf(text) > PARSED_DEPTH_MAX)
    throw unreadable(`nested deeper than ${PARSED_DEPTH_MAX} levels`);
  const parsed = parseJson(text);
  if (parsed === undefined) throw unreadable('not valid JSON');
  return parsed.value;
}

/** The one JSON value that a body is; undefined for lines. */
function parseWhole(text: string, lines: LineScanner): { value: unknown } | undefined {
  // Lines of objects: the second cannot continue the first.
  if (lines.isFollowedByObject) return undefined;
  if (nestingOf(text) > PARSED_DEPTH_MAX)
    throw unreadable(`nested deeper than ${PARSED_DEPTH_MAX} levels`);
  return parseJson(text);
}

/** The records in a parsed value: an array's members, what a container of the vendor holds, or the value itself. */
export function* recordsOfValue(value: unknown, source: SourceDefinition): Generator<CutRecord> {
  const values = Array.isArray(value) ? (value as readonly unknown[]) : [value];
  let records = 0;
  for (const one of values) {
    const inside = source.unwrap?.(one) ?? [one];
    records += inside.length;
    refuseBeyondLimit(records);
    for (const record of inside) yield shallowRecord(record);
  }
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

/** Finds the lines of a body that are not blank. */
class LineScanner {
  /** The first byte of the line that is not white space. */
  start = 0;
  /** Behind its last byte that is not white space. */
  end = 0;
  readonly #body: Buffer;
  #at: number;

  constructor(body: Buffer) {
    this.#body = body;
    const hasByteOrderMark = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf;
    this.#at = hasByteOrderMark ? 3 : 0;
  }

  /** Goes on to the next line; false behind the last. */
  next(): boolean {
    const start = this.#skipBlank(this.#at);
    const newline = this.#body.indexOf(NEWLINE, start);
    this.#at = newline < 0 ? this.#body.length : newline;
    let end = this.#at;
    while (end > start && isBlank(this.#body[end - 1] ?? 0)) end -= 1;
    this.start = start;
    this.end = end;
    return end > start;
  }

  /** True where an object ends this line and another begins the next. */
  get isFollowedByObject(): boolean {
    const body = this.#body;
    return body[this.end - 1] === CLOSE_BRACE && body[this.#skipBlank(this.#at)] === OPEN_BRACE;
  }

  #skipBlank(from: number): number {
    let at = from;
    while (at < this.#body.length && isBlank(this.#body[at] ?? 0)) at += 1;
    return at;
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

/** The record in a line, or the values in the container that it is. */
function cutLine(line: string, source: SourceDefinition): CutRecord | readonly unknown[] {
  // Only short lines are parsed unseen: what a parser makes of brackets alone is many times their size.
  if (line.length > UNSEEN_LENGTH_MAX && nestingOf(line) > CONTAINER_DEPTH_MAX) return tooDeep();
  if (source.forms.includes('json') && /^[[{"]/.test(line)) {
    const parsed = parseJson(line);
    if (parsed !== undefined) return source.unwrap?.(parsed.value) ?? shallowRecord(parsed.value);
  }
  if (nestingOf(line) > DEPTH_MAX) return tooDeep();
  if (source.forms.includes('text')) return { ok: true, record: { form: 'text', line } };
  return { ok: false, code: 'not_json', message: 'not a JSON value' };
}

function isContent(cut: CutRecord | readonly unknown[]): cut is readonly unknown[] {
  return Array.isArray(cut);
}

/** Depth is counted from the record: a container's own levels say nothing about it. */
function shallowRecord(value: unknown): CutRecord {
  return isDeep(value, DEPTH_MAX) ? tooDeep() : jsonRecord(value);
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

/** True where a parsed value is nested deeper than `levels`; looks no deeper than that. */
function isDeep(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (levels === 0) return true;
  for (const name in value) {
    const member = (value as Readonly<Record<string, unknown>>)[name];
    if (typeof member === 'object' && isDeep(member, levels - 1)) return true;
  }
  return false;
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
