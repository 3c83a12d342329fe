import { seededRandom } from './detector_world.ts';

/**
 * Long proofs go over every rule, every example, every order. `PROOFS=all` does that, as CI does; without it a share is drawn
 * anew each time, so that a run at the desk stays short and many runs see everything. `PROOFS_SEED` repeats a draw.
 */
const IS_WHOLE = process.env['PROOFS'] === 'all';
const SEED = Number(process.env['PROOFS_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

/** True where everything is looked at: what only the whole shows can be asserted. */
export const isWholeProof = IS_WHOLE;

let isTold = false;

/** At least one of the items, `share` (0-1) of them on average, in their order; all of them with `PROOFS=all`. */
export function drawn<T>(items: readonly T[], share: number): readonly T[] {
  if (IS_WHOLE || items.length === 0) return items;
  if (!isTold) process.stdout.write(`a share of the proofs is drawn: PROOFS_SEED=${SEED}\n`);
  isTold = true;
  const random = seededRandom(SEED);
  const count = Math.max(1, Math.round(items.length * share));
  const ranked = items.map((item, i) => ({ item, i, rank: random() }));
  const taken = ranked.sort((a, b) => a.rank - b.rank).slice(0, count);
  return taken.sort((a, b) => a.i - b.i).map(({ item }) => item);
}
