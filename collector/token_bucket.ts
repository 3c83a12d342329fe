import type { Clock } from '../runtime/clock.ts';

export interface BucketLimits {
  /** What comes back a second. */
  readonly perSecond: number;
  /** What may be taken at once after a pause. */
  readonly burst: number;
}

/**
 * A token bucket over the wall clock. A clock that jumps forward fills it, at most; one that jumps back only
 * stops the refill until it has caught up with itself once.
 */
export class TokenBucket {
  readonly #limits: BucketLimits;
  readonly #clock: Clock;
  #level: number;
  #at: number;

  constructor(limits: BucketLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#level = limits.burst;
    this.#at = clock.nowMs();
  }

  /** Takes `cost` where it is all there; else takes nothing and gives false. */
  take(cost: number): boolean {
    this.#refill();
    if (cost > this.#level) return false;
    this.#level -= cost;
    return true;
  }

  /**
   * Takes `cost` whether it is there or not: the level may fall below zero. For costs that are known only
   * after the work was let in; who comes next waits until the debt is paid, so the rate holds over time and a
   * request larger than the burst still gets through.
   */
  spend(cost: number): void {
    this.#refill();
    this.#level -= cost;
  }

  /** Seconds until there is anything again; 0 where there is. */
  get waitSeconds(): number {
    this.#refill();
    return this.#level > 0 ? 0 : (1 - this.#level) / this.#limits.perSecond;
  }

  #refill(): void {
    const now = this.#clock.nowMs();
    const seconds = Math.max(0, now - this.#at) / 1_000;
    this.#at = now;
    this.#level = Math.min(this.#limits.burst, this.#level + seconds * this.#limits.perSecond);
  }
}
