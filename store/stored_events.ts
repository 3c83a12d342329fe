import { param, sql } from '../model/sql.ts';
import type { Store } from './client.ts';

/** What makes a stored event the same event: its id is the vendor's, and some vendors use one id twice. */
export interface EventIdentity {
  readonly event_id: string;
  /** Nanoseconds since the epoch, decimal. */
  readonly time: string;
  readonly kind: string;
  readonly phase: string;
  readonly outcome: string;
  readonly source_instance: string;
}

/** Ids in one query: each query reads the ids of its days again, and the statement must not grow without bound. */
const IDS_MAX = 20_000;

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
): Promise<readonly EventIdentity[]> {
  const found: EventIdentity[] = [];
  for (let at = 0; at < eventIds.length; at += IDS_MAX) {
    const ids = eventIds.slice(at, at + IDS_MAX);
    found.push(
      ...(await store.query<EventIdentity>(
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

const NS_PER_DAY = 86_400_000_000_000n;
/** Looked at first, since it is nearly always there. */
const RECENT_DAYS = 7n;

/** The latest time of a stored event that is before a time, ns; 0 where there is none. */
export async function latestStoredTime(
  store: Store,
  tenant: string,
  before: bigint,
): Promise<bigint> {
  for (const from of [before - RECENT_DAYS * NS_PER_DAY, 0n]) {
    const [row] = await store.query<{ latest: string }>(
      sql`SELECT toString(toUnixTimestamp64Nano(max(e.time))) AS latest
          FROM grantscope.auth_events AS e
          WHERE e.tenant = ${param.string(tenant)}
            AND e.time >= fromUnixTimestamp64Nano(${param.int64(from)})
            AND e.time < fromUnixTimestamp64Nano(${param.int64(before)})`,
    );
    const latest = BigInt(row?.latest ?? '0');
    if (latest > 0n) return latest;
  }
  return 0n;
}
