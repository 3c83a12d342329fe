import type { Clock } from '../../runtime/clock.ts';
import type { Timers } from '../../runtime/timers.ts';

interface Due {
  readonly at: number;
  readonly order: number;
  readonly work: () => void;
}

/**
 * Time that passes only when nothing else can happen. `now` never goes back; `wallMs` is what the machine's
 * clock shows, and jumps.
 */
export class SimulatedTime {
  now = 0;
  wallOffsetMs = Date.UTC(2026, 2, 1);
  #order = 0;
  readonly #due: Due[] = [];

  get wallMs(): number {
    return this.wallOffsetMs + this.now;
  }

  readonly clock: Clock = {
    nowMs: () => Math.floor(this.wallMs),
    nowNs: () => BigInt(Math.floor(this.wallMs * 1_000)) * 1_000n,
  };

  after(ms: number, work: () => void): () => void {
    const due = { at: this.now + Math.max(0, ms), order: this.#order++, work };
    // Sorted by time, then by order of call; searched from the end, where most belong.
    let index = this.#due.length;
    while (index > 0 && this.#due[index - 1]!.at > due.at) index -= 1;
    this.#due.splice(index, 0, due);
    return () => {
      const at = this.#due.indexOf(due);
      if (at !== -1) this.#due.splice(at, 1);
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Runs what is due, in order, until the condition holds. Throws when it does not within `msMax`. */
  async runUntil(isDone: () => boolean, msMax: number, what: string): Promise<void> {
    const end = this.now + msMax;
    for (;;) {
      // All promises that can settle do so before time goes on.
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (isDone()) return;
      const next = this.#due.shift();
      if (next === undefined) throw new Error(`nothing is left to happen, but not: ${what}`);
      if (next.at > end) throw new Error(`after ${msMax} ms of simulated time still not: ${what}`);
      this.now = Math.max(this.now, next.at);
      next.work();
    }
  }

  /** The timers of one process: none fires once it is dead. */
  timersOf(process: { readonly isAlive: boolean }): Timers {
    return {
      after: (ms, work) =>
        this.after(ms, () => {
          if (process.isAlive) work();
        }),
    };
  }
}
