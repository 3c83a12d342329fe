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
 * writes text). A line that cannot be read is a record of its own, refused with a reason. Throws
 * `body_unreadable` where nothing could be read, and `body_too_large` beyond `RECORDS_MAX`.
 */
export function cutRecords(body: Buffer, source: SourceDefinition): readonly CutRecord[] {
  const text = decodeUtf8(body).trim();
  if (text === '') return [];
  const whole = source.forms.includes('json') && /^[[{]/.test(text) ? parseJson(text) : undefined;
  if (whole !== undefined) {
    // One cheap pass spares looking at every value's depth where none can be too deep. Lines look for themselves.
    const mayBeDeep = nestingOf(text) > DEPTH_MAX;
    const toRecord = (value: unknown): CutRecord =>
      mayBeDeep && depthOf(value) > DEPTH_MAX ? tooDeep() : jsonRecord(value);
    return Array.isArray(whole.value)
      ? limited(whole.value.map(toRecord))
      : [toRecord(whole.value)];
  }
  if (text.startsWith('[') && !source.forms.includes('text')) {
    throw new GrantscopeError(
      'body_unreadable',
      'body: starts like a JSON array but is not valid JSON',
      { stage: 'receiving' },
    );
  }
  const records = limited(
    text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => cutLine(line, source)),
  );
  if (records.every((r) => !r.ok && r.code === 'not_json')) {
    throw new GrantscopeError(
      'body_unreadable',
      `body: no record could be read; allowed: ${allowedForms(source)}`,
      { stage: 'receiving' },
    );
  }
  return records;
}

function limited<T>(records: readonly T[]): readonly T[] {
  if (records.length <= RECORDS_MAX) return records;
  throw new GrantscopeError(
    'body_too_large',
    `body: ${records.length} records; at most ${RECORDS_MAX} in one request`,
    { stage: 'receiving' },
  );
}

function allowedForms(source: SourceDefinition): string {
  const json = 'NDJSON, a JSON array or one JSON object';
  if (!source.forms.includes('text')) return json;
  return source.forms.includes('json') ? `${json}, or text lines` : 'text lines';
}

function cutLine(line: string, source: SourceDefinition): CutRecord {
  const trimmed = line.trim();
  if (nestingOf(trimmed) > DEPTH_MAX) return tooDeep();
  if (source.forms.includes('json') && /^[[{"]/.test(trimmed)) {
    const parsed = parseJson(trimmed);
    if (parsed !== undefined) return jsonRecord(parsed.value);
  }
  if (source.forms.includes('text'))
    return { ok: true, record: { form: 'text', line: line.replace(/\r$/, '') } };
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

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

function decodeUtf8(body: Buffer): string {
  try {
    return strictUtf8.decode(body);
  } catch {
    throw new GrantscopeError('body_unreadable', 'body: not valid UTF-8', { stage: 'receiving' });
  }
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

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
