/** Beyond this the wall clock has been set, and the anchor follows it, ms. */
const DRIFT_MS_MAX = 20;

let anchorMs = Date.now() - performance.now();

/**
 * Milliseconds since the epoch with a fraction: events of one process keep their order within a
 * millisecond, and the process follows its machine when the clock is set.
 */
export function nowMs(): number {
  const now = anchorMs + performance.now();
  const wall = Date.now();
  if (Math.abs(wall - now) <= DRIFT_MS_MAX) return now;
  anchorMs = wall - performance.now();
  return wall;
}

/** Milliseconds since `startMs`; never negative, also when the clock was set back meanwhile. */
export function elapsedMs(startMs: number): number {
  return Math.max(0, nowMs() - startMs);
}
