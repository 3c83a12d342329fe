import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import type { SourceDefinition } from '../../model/define_source.ts';
import { LineCutter, readBytes, readPieces, type Line } from '../analyze/read_pieces.ts';
import { findFiles } from './find_files.ts';
import { FINGERPRINT_BYTES, type ImportState } from './import_state.ts';
import { identify } from './open_file.ts';
import { Interrupted, type Poster } from './post_records.ts';
import type { Progress } from './progress.ts';
import { LineSender, noCounts, type ImportCounts, type Track } from './send_lines.ts';

export interface ImportDeps {
  readonly source: SourceDefinition;
  readonly state: ImportState;
  readonly poster: Poster;
  readonly progress: Progress;
  /** Ends the run behind the request that is under way. */
  readonly signal: AbortSignal;
}

const STDIN = '-';

/** Reads files to their end, each from where it was left, and sends what is new. */
export class ImportRun {
  readonly counts: ImportCounts = noCounts();
  /** Files that were read, in their order. */
  readonly files: string[] = [];
  readonly #deps: ImportDeps;

  constructor(deps: ImportDeps) {
    this.#deps = deps;
  }

  /** Throws `invalid_argument` where a file cannot be read, what `Poster.post` throws, and `Interrupted`. */
  async readAll(args: readonly string[]): Promise<void> {
    const files = findFiles(args);
    const sizes = files.map((f) => statSync(f, { throwIfNoEntry: false })?.size ?? 0);
    this.#deps.progress.expect(sizes.reduce((sum, size) => sum + size, 0));
    for (const file of files) {
      if (file === STDIN) await this.readInput(false);
      else {
        await this.readRotated(file, files);
        await this.readFile(file);
      }
    }
  }

  /** What was left of the file that lay under this name before a rotation. */
  async readRotated(file: string, named: readonly string[]): Promise<void> {
    const rotated = this.#deps.state.rotatedAway(file);
    if (rotated !== undefined && !named.includes(rotated)) await this.readFile(rotated);
  }

  async readFile(file: string): Promise<void> {
    const { state, source, progress } = this.#deps;
    const found = await identify(file);
    this.files.push(file);
    const track = state.of(found, found.isGzip ? undefined : found.size);
    const { position: from, pendingEnd } = track;
    const sender = this.sender(file, track, from, pendingEnd);
    if (from.unit === 'bytes' && !found.isGzip) progress.read(from.offset);
    const onBytes = (n: number): void => progress.read(n);
    let sentOpen = track.openLength;
    for await (const piece of readPieces(file, source, onBytes, from)) {
      await sender.add(sentOpen > 0 ? withoutSent(piece, sentOpen) : piece);
      sentOpen = 0;
      this.checkSignal();
    }
    await sender.flush();
    progress.show(this.counts);
  }

  /** Standard input; with `live`, what has come is sent at once. */
  async readInput(live: boolean): Promise<void> {
    this.files.push(STDIN);
    const from = { unit: 'bytes', offset: 0, number: 0 } as const;
    const { source, progress } = this.#deps;
    const begin = new StreamBegin();
    const sender = this.sender(STDIN, begin, from, undefined);
    const onBytes = (n: number): void => progress.read(n);
    const cutter = new LineCutter(STDIN, from);
    const pieces = live
      ? linesAsTheyCome(cutter, readBytes(STDIN, onBytes))
      : readPieces(STDIN, source, onBytes);
    for await (const piece of pieces) {
      begin.see(piece);
      await sender.add(piece);
      if (live) await sender.flush();
      this.checkSignal();
    }
    await sender.flush();
  }

  sender(
    file: string,
    track: Track,
    from: ConstructorParameters<typeof LineSender>[0]['from'],
    pendingEnd: number | undefined,
  ): LineSender {
    const { source, poster, progress } = this.#deps;
    const counts = this.counts;
    const onSent = (): void => progress.show(counts);
    return new LineSender({ file, source, poster, track, counts, from, pendingEnd, onSent });
  }

  checkSignal(): void {
    if (this.#deps.signal.aborted) throw new Interrupted();
  }
}

async function* linesAsTheyCome(
  cutter: LineCutter,
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<readonly Line[]> {
  for await (const chunk of chunks) yield cutter.push(chunk);
  yield cutter.end();
}

/** Without the first line, where that was the last one before and was sent though nothing ended it. */
export function withoutSent(lines: readonly Line[], sentLength: number): readonly Line[] {
  return lines[0]?.bytes.length === sentLength ? lines.slice(1) : lines;
}

/** Standard input cannot be read twice: it has no state, and its first line names it. */
class StreamBegin implements Track {
  #name = '';

  see(lines: readonly Line[]): void {
    const first = lines[0]?.bytes.subarray(0, FINGERPRINT_BYTES);
    if (this.#name === '' && first !== undefined)
      this.#name = createHash('sha256').update(first).digest('hex').slice(0, 32);
  }

  keyAt(offset: number): string {
    return `${this.#name}:${offset}`;
  }

  intend(): void {
    // Nothing to go on from.
  }

  reached(): void {
    // Nothing to go on from.
  }
}
