import { readdirSync, readFileSync } from 'node:fs';
import { setPriority } from 'node:os';

/** What the kernel adds to a background thread's niceness: it gets a tenth of what a request's thread gets, and all that is idle. */
const BACKGROUND_NICENESS = 10;
/** The engine starts its threads as it needs them, so they are looked for again, ms. */
const LOOK_EVERY_MS = 10_000;
/** The embedded engine's name for threads that merge parts. */
const BACKGROUND_THREAD = /^MergeMutate/;

/**
 * Lets the embedded engine's background merges yield to requests and queries. On a machine whose cores are all busy, a large merge
 * otherwise takes half of them from the thread that acknowledges requests, which then wait for most of a second.
 *
 * Linux only, where a priority is a thread's own; elsewhere, and where the kernel refuses, nothing happens. Returns what ends it.
 */
export function yieldBackgroundThreads(): () => void {
  const seen = new Set<string>();
  const look = (): void => {
    for (const id of threadIds()) {
      if (seen.has(id)) continue;
      const name = nameOf(id);
      if (name === undefined || !BACKGROUND_THREAD.test(name)) continue;
      seen.add(id);
      try {
        setPriority(Number(id), BACKGROUND_NICENESS);
      } catch {
        // A thread that ended meanwhile, or a kernel that does not let us: merges go on as they were.
      }
    }
  };
  look();
  const timer = setInterval(look, LOOK_EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
}

function threadIds(): readonly string[] {
  try {
    return readdirSync('/proc/self/task');
  } catch {
    return [];
  }
}

/** Undefined for a thread that ended. */
function nameOf(id: string): string | undefined {
  try {
    return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim();
  } catch {
    return undefined;
  }
}
