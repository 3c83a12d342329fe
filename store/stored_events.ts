import { param, sql } from '../model/sql.ts';
import type { Store } from './client.ts';

/** Enough of an event to tell whether another is the same. */
interface StoredEvent {
  readonly event_id: string;
  /** Nanoseconds since the epoch, decimal. */
  readonly time: string;
  readonly kind: string;
  readonly phase: string;
  readonly outcome: string;
  readonly source_instance: string;
}

/** Ids in one query: a server takes them in the address, which it limits. */
const IDS_MAX = 2_000;

/**
 * Those of the events that are stored, by id, with a time in the range (ns, both ends). The range spares the
 * engine the parts that have no such time, so it should be narrow.
 */
export async function findStoredEvents(
  store: Store,
  tenant: string,
  eventIds: readonly string[],
  from: bigint,
  to: bigint,
): Promise<readonly StoredEvent[]> {
  const found: StoredEvent[] = [];
  for (let at = 0; at < eventIds.length; at += IDS_MAX) {
    const ids = eventIds.slice(at, at + IDS_MAX);
    found.push(
      ...(await store.query<StoredEvent>(
        sql`SELECT toString(e.event_id) AS event_id, toString(toUnixTimestamp64Nano(e.time)) AS time, e.kind AS kind, e.phase AS phase, e.outcome AS outcome, e.source_instance AS source_instance
            FROM grantscope.auth_events AS e
            WHERE e.tenant = ${param.string(tenant)}
              AND e.time BETWEEN fromUnixTimestamp64Nano(${param.int64(from)}) AND fromUnixTimestamp64Nano(${param.int64(to)})
              AND e.event_id IN ${param.uuids(ids)}`,
      )),
    );
  }
  return found;
}
