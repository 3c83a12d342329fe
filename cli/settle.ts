import { openOneShot } from '../collector/one_shot.ts';
import type { Runtime } from '../runtime/context.ts';
import { Metrics } from '../runtime/metrics.ts';
import type { Store } from '../store/client.ts';

/** How long a start waits for the store to take what a former run left in the durable buffer, ms. */
const SETTLE_MS_MAX = 120_000;

/**
 * Stores what a former run left in the durable buffer, before a start changes how the store counts. Returns false, and says so in
 * the log, where the store did not take all of it in time; nothing is lost then, and the rest waits as ever.
 */
export async function settleLeftovers(runtime: Runtime, store: Store): Promise<boolean> {
  // Metrics of its own: the collector that starts afterwards registers the same names.
  const own = { ...runtime, metrics: new Metrics({ processMetrics: false }) };
  const isSettled = await (await openOneShot(own, store)).finish(SETTLE_MS_MAX);
  if (!isSettled) {
    runtime.log.warn(
      'the store did not take what a former run left: service levels are counted by the former definitions until the next start',
    );
  }
  return isSettled;
}
