import type { ImportCounts } from './send_lines.ts';

const BAR_CELLS = 24;
/** Pause between two drawings, ms. */
const DRAW_INTERVAL_MS = 100;

/** Where a progress bar is drawn: standard error. */
export interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** One line on a terminal that is drawn anew: how much is read, how fast, how much was refused. Silent elsewhere. */
export class Progress {
  readonly #terminal: Terminal;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  #expected = 0;
  #read = 0;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #width = 0;

  constructor(terminal: Terminal, nowMs: () => number = () => performance.now()) {
    this.#terminal = terminal;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
  }

  /** Bytes of all files; 0 where nobody knows. */
  expect(bytes: number): void {
    this.#expected = bytes;
  }

  read(bytes: number): void {
    this.#read += bytes;
  }

  show(counts: ImportCounts): void {
    if (this.#nowMs() - this.#drawnMs >= DRAW_INTERVAL_MS) this.#draw(this.#lineOf(counts));
  }

  /** A line that stays, above the bar. */
  say(text: string): void {
    if (this.#terminal.isTTY === true) this.#draw(text);
    this.end();
  }

  /** The bar's last state stays; what is written next begins a line. */
  end(counts?: ImportCounts): void {
    if (counts !== undefined) this.#draw(this.#lineOf(counts));
    if (this.#width > 0) this.#terminal.write('\n');
    this.#width = 0;
  }

  #lineOf({ records, refused }: ImportCounts): string {
    const seconds = Math.max(0.001, (this.#nowMs() - this.#startedMs) / 1_000);
    const rate = Math.round(records / seconds);
    const counted = `${records} records, ${rate}/s, ${refused} refused`;
    if (this.#expected === 0) return `${shownBytes(this.#read)}  ${counted}`;
    const share = Math.min(1, this.#read / this.#expected);
    const full = Math.floor(share * BAR_CELLS);
    const bar = `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}]`;
    const percent = `${Math.floor(share * 100)} %`;
    return `${bar} ${percent} of ${shownBytes(this.#expected)}  ${counted}`;
  }

  #draw(line: string): void {
    if (this.#terminal.isTTY !== true) return;
    this.#drawnMs = this.#nowMs();
    this.#terminal.write(`\r${line.padEnd(this.#width)}`);
    this.#width = line.length;
  }
}

function shownBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${units[power] ?? ''}`;
}
