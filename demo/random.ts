/**
 * A seeded generator for the choices of the demo (who, where, what next), so that a run can be repeated
 * with `--seed`. Secrets never come from here: tokens, passwords and keys use the system's randomness.
 */
export interface Random {
  readonly seed: number;
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [0, bound). */
  below(bound: number): number;
  chance(probability: number): boolean;
  pick<T>(items: readonly T[]): T;
  /** Picks by weight; the weights need not sum to 1. */
  weighted<T extends string>(weights: Readonly<Record<T, number>>): T;
  /** Time to the next event of a Poisson process with this mean, in the unit of the mean. */
  exponential(mean: number): number;
}

export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (bound: number): number => Math.floor(next() * bound);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[below(items.length)];
    if (item === undefined) throw new RangeError('random: nothing to pick from');
    return item;
  };
  return {
    seed,
    next,
    below,
    pick,
    chance: (probability) => next() < probability,
    weighted: (weights) => pickWeighted(next(), weights),
    exponential: (mean) => -mean * Math.log(1 - next()),
  };
}

function pickWeighted<T extends string>(point: number, weights: Readonly<Record<T, number>>): T {
  const entries = Object.entries(weights) as [T, number][];
  const total = entries.reduce((sum, [, weight]) => sum + weight, 0);
  let left = point * total;
  for (const [name, weight] of entries) {
    left -= weight;
    if (left < 0) return name;
  }
  const last = entries.at(-1);
  if (last === undefined) throw new RangeError('random: no weights');
  return last[0];
}
