import type { CandidateScope, ClientLookup, RefSlice } from '../model/define_detector.ts';
import { param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { nsOfClickHouseTime, timeSql } from '../store/read_events.ts';

/** A stretch of ingest time, (from, to], ns. */
export interface IngestRange {
  readonly from: bigint;
  readonly to: bigint;
}

/** A stretch of event time, [from, to), ns. */
export interface EventRange {
  readonly from: bigint;
  readonly to: bigint;
}

/** What lies in a range. */
export interface ScopeBounds {
  readonly rows: number;
  readonly timeFrom: bigint;
  readonly timeTo: bigint;
  /** Ingest time of its first row, ns. */
  readonly firstInserted: bigint;
}

export function ingestCondition(range: IngestRange): Sql {
  return sql`inserted_at > ${timeSql(range.from)} AND inserted_at <= ${timeSql(range.to)}`;
}

export function eventCondition(range: EventRange): Sql {
  return sql`time >= ${timeSql(range.from)} AND time < ${timeSql(range.to)}`;
}

/** Counts the rows that satisfy a condition and finds their bounds. */
export async function readBounds(
  store: Store,
  tenant: string,
  condition: Sql,
): Promise<ScopeBounds> {
  const [row] = await store.query<{ n: string; t0: string; t1: string; i0: string }>(sql`
    SELECT count() AS n, min(time) AS t0, max(time) AS t1, min(inserted_at) AS i0
    FROM grantscope.auth_events WHERE tenant = ${param.string(tenant)} AND ${condition}`);
  const zero = '1970-01-01 00:00:00';
  return {
    rows: Number(row?.n ?? 0),
    timeFrom: nsOfClickHouseTime(row?.t0 ?? zero),
    timeTo: nsOfClickHouseTime(row?.t1 ?? zero),
    firstInserted: nsOfClickHouseTime(row?.i0 ?? zero),
  };
}

/** The store's own clock, ns: ingest times are made by it. */
export async function storeNow(store: Store): Promise<bigint> {
  const [row] = await store.query<{ now: string }>(sql`SELECT now64(6, 'UTC') AS now`);
  return nsOfClickHouseTime(row?.now ?? '1970-01-01 00:00:00');
}

export function makeScope(
  tenant: string,
  condition: Sql,
  bounds: Pick<ScopeBounds, 'timeFrom' | 'timeTo'>,
  clients: ClientLookup,
  slice?: RefSlice,
): CandidateScope {
  const { timeFrom, timeTo } = bounds;
  return { tenant, condition, timeFrom, timeTo, clients, slice };
}

/** Rows of the token ledger, over all tenants: told by the parts' metadata. */
export async function readLedgerRows(store: Store): Promise<number> {
  const [row] = await store.query<{ n: string }>(
    sql`SELECT count() AS n FROM grantscope.token_events`,
  );
  return Number(row?.n ?? 0);
}
