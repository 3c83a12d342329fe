import { param, sql } from '../../model/sql.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** What one source delivered lately. */
export interface SourceActivity {
  readonly source_id: string;
  readonly vendor: string;
  readonly product: string;
  readonly instances: number;
  readonly events: number;
  readonly events_last_hour: number;
  readonly last_event_time: string;
  /** When the last of its events was stored. */
  readonly last_stored_at: string;
}

/** Sources with events since `since` (ms since the epoch); `nowMs` bounds the last hour. */
export async function readSources(
  scope: Scope,
  options: { readonly sinceMs: number; readonly nowMs: number },
): Promise<readonly SourceActivity[]> {
  const hourAgo = param.timeMs(options.nowMs - 3_600_000);
  const rows = await scope.store.query<{
    id: string;
    vendor: string;
    product: string;
    instances: number | string;
    events: number | string;
    last_hour: number | string;
    last_time: string;
    stored: string;
  }>(
    sql`SELECT toString(source_id) AS id, max(source_vendor) AS vendor, max(source_product) AS product, uniqExact(source_instance) AS instances, count() AS events, countIf(time > ${hourAgo} AND time <= ${param.timeMs(options.nowMs)}) AS last_hour, max(time) AS last_time, max(inserted_at) AS stored FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND time >= ${param.timeMs(options.sinceMs)} GROUP BY source_id ORDER BY id`,
  );
  return rows.map((r) => ({
    source_id: r.id,
    vendor: r.vendor,
    product: r.product,
    instances: Number(r.instances),
    events: Number(r.events),
    events_last_hour: Number(r.last_hour),
    last_event_time: isoTime(r.last_time),
    last_stored_at: isoTime(r.stored),
  }));
}

/** Rows stored in all. */
export async function countEvents(scope: Scope): Promise<number> {
  const [row] = await scope.store.query<{ n: number | string }>(
    sql`SELECT count() AS n FROM grantscope.auth_events WHERE ${ofTenant(scope)}`,
  );
  return Number(row?.n ?? 0);
}
