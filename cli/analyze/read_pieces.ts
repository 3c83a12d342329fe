import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import type { SourcedRecord } from '../../collector/ingest.ts';
import { cutRecords } from '../../collector/receivers/cut_records.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';

/** Bytes of lines that are ingested at once. */
const PIECE_BYTES = 4 * 1024 * 1024;
/** Largest line, and largest JSON document that is not lines, bytes. */
export const LINE_BYTES_MAX = 64 * 1024 * 1024;
export const DOCUMENT_BYTES_MAX = 512 * 1024 * 1024;

/** A line of a file that is not blank, or a member of the JSON array that a file is. */
export interface Line {
  /** 1-based; of an array, the position of the member. */
  readonly number: number;
  readonly bytes: Buffer;
}

const NEWLINE = 0x0a;
const GZIP = [0x1f, 0x8b] as const;

/**
 * Bytes of a file, or of standard input for `-`; unpacked where they are gzip, whatever the name says. `onBytes` hears of
 * those that the file itself has.
 */
export async function* readBytes(
  file: string,
  onBytes: (count: number) => void,
): AsyncGenerator<Buffer> {
  const input = file === '-' ? process.stdin : createReadStream(file);
  const chunks = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  try {
    const first = await chunks.next();
    if (first.done === true) return;
    const rest = async function* (): AsyncGenerator<Buffer> {
      let next: IteratorResult<Buffer> = first;
      for (; next.done !== true; next = await chunks.next()) {
        onBytes(next.value.length);
        yield next.value;
      }
    };
    const isGzip = first.value[0] === GZIP[0] && first.value[1] === GZIP[1];
    if (isGzip) yield* unpacked(rest());
    else yield* rest();
  } catch (error) {
    if (error instanceof GrantscopeError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new GrantscopeError('invalid_argument', `${file}: cannot be read (${code})`);
  }
}

async function* unpacked(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const gunzip = createGunzip();
  const feeding = (async (): Promise<void> => {
    for await (const chunk of bytes)
      if (!gunzip.write(chunk)) await new Promise((resolve) => gunzip.once('drain', resolve));
    gunzip.end();
  })();
  feeding.catch((error: unknown) => gunzip.destroy(error as Error));
  for await (const chunk of gunzip) yield chunk as Buffer;
  await feeding;
}

/** Pieces of a file: lines, or the members of one JSON document that goes over several lines. */
export async function* readPieces(
  file: string,
  source: SourceDefinition,
  onBytes: (count: number) => void,
): AsyncGenerator<readonly Line[]> {
  let rest: Buffer = Buffer.alloc(0);
  let lines: Line[] = [];
  let size = 0;
  let number = 0;
  let isFirst = true;
  const bytes = readBytes(file, onBytes);
  for await (const chunk of bytes) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE, start)) {
      number += 1;
      const line = rest.subarray(start, end);
      if (isFirst && !isBlank(line)) {
        isFirst = false;
        if (isWholeDocument(line, source)) {
          const whole = await readAll(file, rest, bytes);
          yield* membersOf(whole);
          return;
        }
      }
      start = end + 1;
      if (isBlank(line)) continue;
      lines.push({ number, bytes: line });
      size += line.length;
    }
    rest = rest.subarray(start);
    if (rest.length > LINE_BYTES_MAX)
      throw tooLarge(file, `line ${number + 1}`, LINE_BYTES_MAX, 'a line');
    if (size >= PIECE_BYTES) {
      yield lines;
      lines = [];
      size = 0;
    }
  }
  if (isFirst && isWholeDocument(rest, source)) yield* membersOf(rest);
  else if (!isBlank(rest)) yield [...lines, { number: number + 1, bytes: rest }];
  else if (lines.length > 0) yield lines;
}

function isBlank(line: Buffer): boolean {
  return line.every((b) => b === 0x20 || b === 0x09 || b === 0x0d || b === 0x0a);
}

/** True where a file begins a JSON value that its first line does not end, or a JSON array. */
function isWholeDocument(firstLine: Buffer, source: SourceDefinition): boolean {
  if (!source.forms.includes('json')) return false;
  const text = firstLine
    .toString('utf8')
    .replace(/^\ufeff/, '')
    .trimStart();
  if (text.startsWith('[')) return true;
  return text.startsWith('{') && parsed(text) === undefined;
}

function parsed(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

async function readAll(file: string, begin: Buffer, bytes: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks = [begin];
  let size = begin.length;
  for await (const chunk of bytes) {
    size += chunk.length;
    if (size > DOCUMENT_BYTES_MAX)
      throw tooLarge(file, 'the file', DOCUMENT_BYTES_MAX, 'a JSON document; give it as lines');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function tooLarge(file: string, what: string, max: number, of: string): GrantscopeError {
  return new GrantscopeError(
    'invalid_argument',
    `${file}: ${what} is larger than ${max / 1024 / 1024} MiB, the most for ${of}`,
  );
}

function* membersOf(whole: Buffer): Generator<readonly Line[]> {
  const document = parsed(whole.toString('utf8').replace(/^\ufeff/, ''));
  if (document === undefined) {
    // It only looked like one document: lines, some of which may be read.
    yield linesOf(whole);
    return;
  }
  const members = Array.isArray(document.value)
    ? (document.value as readonly unknown[])
    : [document.value];
  let piece: Line[] = [];
  let size = 0;
  for (const [i, member] of members.entries()) {
    const bytes = Buffer.from(JSON.stringify(member));
    piece.push({ number: i + 1, bytes });
    size += bytes.length;
    if (size < PIECE_BYTES) continue;
    yield piece;
    piece = [];
    size = 0;
  }
  if (piece.length > 0) yield piece;
}

function linesOf(whole: Buffer): Line[] {
  const lines: Line[] = [];
  let start = 0;
  for (let number = 1; start < whole.length; number += 1) {
    const at = whole.indexOf(NEWLINE, start);
    const end = at < 0 ? whole.length : at;
    const bytes = whole.subarray(start, end);
    if (!isBlank(bytes)) lines.push({ number, bytes });
    start = end + 1;
  }
  return lines;
}

/**
 * The records of lines, as a receiver would cut them. `positions` gets the line of each record; a line that is no record is
 * one with a reason.
 */
export function* recordsOf(
  lines: readonly Line[],
  source: SourceDefinition,
  positions: number[],
): Generator<SourcedRecord> {
  for (const { number, bytes } of lines)
    for (const record of recordsOfLine(bytes, source)) {
      positions.push(number);
      yield record;
    }
}

function* recordsOfLine(bytes: Buffer, source: SourceDefinition): Generator<SourcedRecord> {
  if (!isUtf8(bytes)) {
    yield { source, unreadable: { code: 'not_json', message: 'not valid UTF-8' } };
    return;
  }
  let cut = 0;
  try {
    for (const record of cutRecords(bytes, source)) {
      cut += 1;
      yield record.ok ? { source, record: record.record } : { source, unreadable: record };
    }
  } catch (error) {
    // Of a request in which nothing is readable; here it is one line among others.
    if (!(error instanceof GrantscopeError)) throw error;
    if (cut === 0) yield { source, unreadable: { code: 'not_json', message: error.message } };
  }
}
