import type { Component } from '../runtime/lifecycle.ts';
import type { Log } from '../runtime/log.ts';

export interface LoopOptions {
  readonly name: string;
  /** Longest pause between two rounds, ms. */
  readonly intervalMs: number;
  /** Shortest pause between two rounds, however often the loop is woken, ms. */
  readonly pauseMs: number;
  readonly log: Log;
  readonly work: () => Promise<void>;
}

/**
 * Runs `work` again and again, one round at a time: after `intervalMs`, or sooner when woken. A round that throws is
 * logged, and the next one comes as usual. `stop` awaits the round that is under way.
 */
export class Loop implements Component {
  readonly name: string;
  readonly #options: LoopOptions;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isWoken = false;
  #isStopped = false;

  constructor(options: LoopOptions) {
    this.name = options.name;
    this.#options = options;
  }

  start(): void {
    this.#schedule(0);
  }

  /** Asks for a round soon. */
  wake(): void {
    if (this.#isStopped || this.#isWoken) return;
    this.#isWoken = true;
    if (this.#running === undefined) this.#schedule(this.#options.pauseMs);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#isWoken = false;
      this.#running = this.#round().finally(() => {
        this.#running = undefined;
        this.#schedule(this.#isWoken ? this.#options.pauseMs : this.#options.intervalMs);
      });
    }, delayMs);
  }

  async #round(): Promise<void> {
    try {
      await this.#options.work();
    } catch (error) {
      this.#options.log.error({ err: error, loop: this.name }, 'a round failed; trying again');
    }
  }
}
