import type { Store } from '../store/client.ts';

/** The end of the line, by store and by what is waited for. */
const LINES = new WeakMap<Store, Map<string, Promise<unknown>>>();

/**
 * Runs `work` when all earlier work of the same name on this store is done: reading events, judging and writing is one
 * step, or two who judge at once would both believe a finding to be new, and the one who read earlier could write last.
 *
 * Between processes on one server nobody takes turns. There each would count a change, the newest version of a finding is
 * the one that was written last, and the sweep of either brings it to what all events give.
 */
export async function inTurn<T>(store: Store, name: string, work: () => Promise<T>): Promise<T> {
  const lines = LINES.get(store) ?? new Map<string, Promise<unknown>>();
  LINES.set(store, lines);
  const before = lines.get(name) ?? Promise.resolve();
  const own = before.then(work, work);
  const end = own.catch(() => undefined);
  lines.set(name, end);
  try {
    return await own;
  } finally {
    if (lines.get(name) === end) lines.delete(name);
  }
}

/** Names the work of a rule for `inTurn`. */
export function turnOf(tenant: string, rule: string): string {
  return JSON.stringify([tenant, rule]);
}
