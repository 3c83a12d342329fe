import { isUtf8 } from 'node:buffer';
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
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
  /** Where the file goes on behind it: bytes (unpacked) up to there, or members of the document. */
  readonly end: number;
  readonly unit: 'bytes' | 'members';
  /** True for the last line of a file where no line feed ends it: more of it may come. */
  readonly isOpen: boolean;
}

/** Where a reading goes on: what `Line.end` said of the last line that is done with. */
export interface Position {
  readonly unit: 'bytes' | 'members';
  readonly offset: number;
  /** Lines (or members) before it. */
  readonly number: number;
}

const NEWLINE = 0x0a;
const GZIP = [0x1f, 0x8b] as const;

/** Cuts what comes of a file into its lines, blank ones left out. */
export class LineCutter {
  /** What stands behind the last line feed. */
  rest: Buffer = Buffer.alloc(0);
  readonly #file: string;
  /** Where `rest` begins. */
  #offset: number;
  #number: number;

  constructor(file: string, from: { readonly offset: number; readonly number: number }) {
    this.#file = file;
    this.#offset = from.offset;
    this.#number = from.number;
  }

  /** The lines that end in `chunk`. Throws `invalid_argument` where a line goes on beyond `LINE_BYTES_MAX`. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = [];
    const all = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    // What was searched before holds no line feed.
    let searchFrom = this.rest.length;
    let start = 0;
    for (;;) {
      const newline = all.indexOf(NEWLINE, searchFrom);
      if (newline < 0) break;
      this.#number += 1;
      const bytes = all.subarray(start, newline);
      start = searchFrom = newline + 1;
      if (isBlank(bytes)) continue;
      const end = this.#offset + start;
      lines.push({ number: this.#number, bytes, end, unit: 'bytes', isOpen: false });
    }
    this.#offset += start;
    this.rest = all.subarray(start);
    if (this.rest.length > LINE_BYTES_MAX)
      throw tooLarge(this.#file, `line ${this.#number + 1}`, LINE_BYTES_MAX, 'a line');
    return lines;
  }

  /** The last line, which no line feed ends; none where nothing stands there. */
  end(): Line[] {
    const bytes = this.rest;
    this.rest = Buffer.alloc(0);
    if (isBlank(bytes)) return [];
    const end = this.#offset + bytes.length;
    return [{ number: this.#number + 1, bytes, end, unit: 'bytes', isOpen: true }];
  }
}

/**
 * Bytes of a file, or of standard input for `-`; unpacked where they are gzip, whatever the name says. `onBytes` hears of
 * those that the file itself has. `skip` bytes (unpacked) are left out.
 */
export async function* readBytes(
  file: string,
  onBytes: (count: number) => void,
  skip = 0,
): AsyncGenerator<Buffer> {
  // A packed file can only be read from its begin.
  const start = file !== '-' && skip > 0 && !isGzip(beginOf(file)) ? skip : 0;
  const input = file === '-' ? process.stdin : createReadStream(file, { start });
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
    const isPacked = start === 0 && isGzip(first.value);
    yield* behind(isPacked ? unpacked(rest()) : rest(), skip - start);
  } catch (error) {
    if (error instanceof GrantscopeError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new GrantscopeError('invalid_argument', `${file}: cannot be read (${code})`);
  } finally {
    if (file !== '-') input.destroy();
  }
}

/** True where a file that begins so is gzip (RFC 1952 section 2.3.1). */
export function isGzip(begin: Uint8Array): boolean {
  return begin[0] === GZIP[0] && begin[1] === GZIP[1];
}

function beginOf(file: string): Uint8Array {
  const begin = new Uint8Array(GZIP.length);
  try {
    const handle = openSync(file, 'r');
    readSync(handle, begin);
    closeSync(handle);
  } catch {
    // Whoever reads it next says why it cannot be read.
  }
  return begin;
}

async function* behind(chunks: AsyncIterable<Buffer>, skip: number): AsyncGenerator<Buffer> {
  let left = skip;
  for await (const chunk of chunks) {
    const skipped = Math.min(left, chunk.length);
    left -= skipped;
    if (skipped < chunk.length) yield chunk.subarray(skipped);
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

/**
 * Pieces of a file: lines, or the members of one JSON document that goes over several lines. With `from`, those behind
 * that place.
 */
export async function* readPieces(
  file: string,
  source: SourceDefinition,
  onBytes: (count: number) => void,
  from?: Position,
): AsyncGenerator<readonly Line[]> {
  const isLines = from?.unit === 'bytes' && from.offset > 0;
  const begin = isLines ? from : { offset: 0, number: 0 };
  const bytes = readBytes(file, onBytes, begin.offset);
  // Only its first line says whether a file is a document.
  const first = isLines ? Buffer.alloc(0) : await readFirstLine(bytes);
  if (!isLines && isWholeDocument(first, source)) {
    const whole = await readAll(file, first, bytes);
    yield* membersOf(whole, file, from?.unit === 'members' ? from.offset : 0);
    return;
  }
  const cutter = new LineCutter(file, begin);
  let lines = cutter.push(first);
  let size = sizeOf(lines);
  for await (const chunk of bytes) {
    if (size >= PIECE_BYTES) {
      yield lines;
      lines = [];
      size = 0;
    }
    const more = cutter.push(chunk);
    size += sizeOf(more);
    lines.push(...more);
  }
  lines.push(...cutter.end());
  if (lines.length > 0) yield lines;
}

function sizeOf(lines: readonly Line[]): number {
  return lines.reduce((sum, line) => sum + line.bytes.length, 0);
}

/** The first chunks, until they hold a line that is not blank. */
async function readFirstLine(bytes: AsyncGenerator<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let isContent = false;
  let size = 0;
  for (let next = await bytes.next(); next.done !== true; next = await bytes.next()) {
    chunks.push(next.value);
    size += next.value.length;
    isContent ||= !isBlank(next.value);
    if ((isContent && next.value.includes(NEWLINE)) || size > LINE_BYTES_MAX) break;
  }
  return Buffer.concat(chunks);
}

function isBlank(line: Buffer): boolean {
  return line.every((b) => b === 0x20 || b === 0x09 || b === 0x0d || b === 0x0a);
}

/** True where a file begins a JSON value that its first line does not end, or a JSON array. */
export function isWholeDocument(begin: Buffer, source: SourceDefinition): boolean {
  if (!source.forms.includes('json')) return false;
  const plain = begin
    .toString('utf8')
    .replace(/^\ufeff/, '')
    .trimStart();
  const text = plain.split('\n', 1)[0] ?? '';
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

function* membersOf(whole: Buffer, file: string, skip: number): Generator<readonly Line[]> {
  const document = parsed(whole.toString('utf8').replace(/^\ufeff/, ''));
  if (document === undefined) {
    // It only looked like one document: lines, some of which may be read.
    const cutter = new LineCutter(file, { offset: 0, number: 0 });
    yield [...cutter.push(whole), ...cutter.end()];
    return;
  }
  const members = Array.isArray(document.value)
    ? (document.value as readonly unknown[])
    : [document.value];
  let piece: Line[] = [];
  let size = 0;
  for (const [i, member] of members.entries()) {
    if (i < skip) continue;
    const bytes = Buffer.from(JSON.stringify(member));
    piece.push({ number: i + 1, bytes, end: i + 1, unit: 'members', isOpen: false });
    size += bytes.length;
    if (size < PIECE_BYTES) continue;
    yield piece;
    piece = [];
    size = 0;
  }
  if (piece.length > 0) yield piece;
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
