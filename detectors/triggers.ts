import type { BoundDetector } from '../model/define_detector.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { timeSql } from '../store/read_events.ts';
import type { News } from './news.ts';

const NS_PER_MS = 1_000_000n;
/** How much more of the past is known than a trigger reaches, ms: late events begin to cost a query beyond it. */
const KNOWN_MS = 3_600_000n;

interface Known {
  /** All triggering events of this event time and later are known, ns. */
  readonly from: bigint;
  /** The time of the latest one, ns; 0 where there is none. */
  latest: bigint;
}

/**
 * What rules' triggers (model/define_detector.ts) have been seen: a rule whose trigger is not within reach of what is new
 * need not ask the store. Read once from the store, then kept up by the scan of what is new.
 */
export class Triggers {
  readonly #known = new Map<string, Known>();

  /** Reads what the store holds of the rules' triggers; `nowNs` is the store's time. */
  async read(
    store: Store,
    tenant: string,
    detectors: readonly BoundDetector[],
    nowNs: bigint,
  ): Promise<void> {
    for (const { docs, trigger } of detectors) {
      if (trigger === undefined) continue;
      const { condition, reachMs } = trigger;
      const from = reachMs === undefined ? 0n : nowNs - (BigInt(reachMs) + KNOWN_MS) * NS_PER_MS;
      const [row] = await store.query<{ latest: string }>(
        sql`SELECT toString(max(toUnixTimestamp64Nano(time))) AS latest FROM grantscope.auth_events WHERE tenant = ${param.string(tenant)} AND time >= ${timeSql(from)} AND ${condition}`,
      );
      this.#known.set(docs.id, { from, latest: BigInt(row?.latest ?? 0) });
    }
  }

  /** Takes in what a scan of new events found. */
  note(news: News): void {
    for (const [rule, latest] of news.triggered) {
      const known = this.#known.get(rule);
      if (known !== undefined && latest > known.latest) known.latest = latest;
    }
  }

  /** Where events came that nobody looked at: every rule has to ask again. */
  forget(): void {
    this.#known.clear();
  }

  /** False where the rule can find nothing about these events, since its trigger is not within reach of them. */
  reaches({ docs, trigger }: BoundDetector, news: News): boolean {
    const known = this.#known.get(docs.id);
    if (trigger === undefined || known === undefined) return true;
    if (trigger.reachMs === undefined) return known.latest > 0n;
    const from = news.timeFrom - BigInt(trigger.reachMs) * NS_PER_MS;
    return from < known.from || known.latest >= from;
  }
}
