import { isUtf8 } from 'node:buffer';
import type { SourceDefinition } from '../../model/define_source.ts';
import { recordsOf, type Line, type Position } from '../analyze/read_pieces.ts';
import type { FileState } from './import_state.ts';
import type { Poster, PostResult } from './post_records.ts';

/** Bytes and lines of one request. */
export const BATCH_BYTES = 1024 * 1024;
export const BATCH_LINES = 20_000;
/** Refused records that are shown; all are counted. */
export const REFUSALS_SHOWN_MAX = 10;

/** A record that was refused: where it stands and why, never what it says. */
export interface ShownRefusal {
  readonly file: string;
  readonly line: number;
  readonly code: string;
  readonly message: string;
}

/** What an import has come to so far. */
export interface ImportCounts {
  records: number;
  accepted: number;
  refused: number;
  /** Requests that the collector took. */
  requests: number;
  readonly refusals: ShownRefusal[];
}

export function noCounts(): ImportCounts {
  return { records: 0, accepted: 0, refused: 0, requests: 0, refusals: [] };
}

/** Where a file's reading is kept track of; for what cannot be read twice (standard input), nothing is kept. */
export type Track = Pick<FileState, 'keyAt' | 'intend' | 'reached'>;

/**
 * Collects the lines of one file into requests of bounded size and sends them, one after the other. What was sent and not
 * answered before is sent again as it was, so that the collector knows it.
 */
export class LineSender {
  readonly #file: string;
  readonly #source: SourceDefinition;
  readonly #poster: Poster;
  readonly #track: Track;
  readonly #counts: ImportCounts;
  /** End of the request that may have been stored already. */
  #pendingEnd: number | undefined;
  readonly #onSent: () => void;
  #at: Position;
  #lines: Line[] = [];
  #bytes = 0;

  constructor(options: {
    readonly file: string;
    readonly source: SourceDefinition;
    readonly poster: Poster;
    readonly track: Track;
    readonly counts: ImportCounts;
    readonly from: Position;
    /** End of a request that was sent before, and perhaps not answered. */
    readonly pendingEnd: number | undefined;
    /** Told behind each request. */
    readonly onSent: () => void;
  }) {
    this.#file = options.file;
    this.#source = options.source;
    this.#poster = options.poster;
    this.#track = options.track;
    this.#counts = options.counts;
    this.#at = options.from;
    this.#pendingEnd = options.pendingEnd;
    this.#onSent = options.onSent;
  }

  async add(lines: readonly Line[]): Promise<void> {
    for (const line of lines) {
      const isPending = this.#pendingEnd !== undefined && line.end <= this.#pendingEnd;
      if (!isPending) this.#pendingEnd = undefined;
      const isAlone = line.isOpen || beginsArray(line.bytes);
      if (!isPending && (isAlone || this.#isFull(line))) await this.flush();
      this.#lines.push(line);
      this.#bytes += line.bytes.length + 1;
      if (line.end === this.#pendingEnd || (isAlone && !isPending)) await this.flush();
    }
  }

  /** Sends what has been collected. Behind the end of a file, a request that once ended further on is given up. */
  async flush(): Promise<void> {
    const lines = this.#lines;
    this.#lines = [];
    this.#bytes = 0;
    this.#pendingEnd = undefined;
    if (lines.length > 0) await this.#send(lines);
  }

  #isFull(next: Line): boolean {
    if (this.#lines.length === 0) return false;
    return this.#bytes + next.bytes.length > BATCH_BYTES || this.#lines.length >= BATCH_LINES;
  }

  async #send(lines: readonly Line[]): Promise<void> {
    const last = lines.at(-1);
    if (last === undefined) return;
    this.#track.intend(last.end);
    const readable = lines.filter((line) => isUtf8(line.bytes));
    const posted =
      readable.length === 0
        ? undefined
        : await this.#poster.post(bodyOf(readable), this.#track.keyAt(this.#at.offset));
    if (posted?.fate === 'too_large' && lines.length > 1) {
      const half = Math.ceil(lines.length / 2);
      await this.#send(lines.slice(0, half));
      await this.#send(lines.slice(half));
      return;
    }
    for (const line of lines)
      if (!isUtf8(line.bytes)) this.#refuse(line.number, 'not_json', 'not valid UTF-8');
    if (posted?.fate === 'taken') this.#take(readable, posted.result);
    else if (posted !== undefined)
      for (const { number } of readable) this.#refuse(number, posted.code, posted.message);
    this.#reached(last);
    this.#onSent();
  }

  #reached(last: Line): void {
    const { unit, number, end } = last;
    // More of an open line may come: then the whole of it is sent.
    this.#at = last.isOpen
      ? { unit, number: number - 1, offset: end - last.bytes.length }
      : { unit, number, offset: end };
    this.#track.reached(this.#at, last.isOpen ? last.bytes.length : 0);
  }

  #take(lines: readonly Line[], { accepted, rejected, errors }: PostResult): void {
    const counts = this.#counts;
    counts.requests += 1;
    counts.records += accepted + rejected;
    counts.accepted += accepted;
    counts.refused += rejected;
    if (errors.length === 0 || counts.refusals.length >= REFUSALS_SHOWN_MAX) return;
    // A line may hold several records: only cutting it says which line a record came from.
    const positions: number[] = [];
    const records = recordsOf(lines, this.#source, positions);
    while (records.next().done !== true);
    for (const { index, code, message } of errors) {
      if (counts.refusals.length >= REFUSALS_SHOWN_MAX) return;
      counts.refusals.push({ file: this.#file, line: positions[index] ?? 0, code, message });
    }
  }

  #refuse(line: number, code: string, message: string): void {
    const counts = this.#counts;
    counts.records += 1;
    counts.refused += 1;
    if (counts.refusals.length < REFUSALS_SHOWN_MAX)
      counts.refusals.push({ file: this.#file, line, code, message });
  }
}

function bodyOf(lines: readonly Line[]): Buffer {
  return Buffer.concat(lines.flatMap((line) => [line.bytes, LINE_FEED]));
}

/** In a body of several lines, an array in the first would be taken for the whole of it. */
function beginsArray(bytes: Buffer): boolean {
  return bytes.find((b) => b !== 0x20 && b !== 0x09) === OPEN_BRACKET;
}

const LINE_FEED = Buffer.from('\n');
const OPEN_BRACKET = 0x5b;
