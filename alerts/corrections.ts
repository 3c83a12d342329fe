import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';

const MINUTE_MS = 60_000;

/** Whole minutes, from `fromMs` up to and without `toMs`. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

/** A correction that stands: what it says is taken out of the budget of one SLO, or of `all`. */
export interface Correction {
  readonly sloId: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** The corrections of a tenant that were not withdrawn, oldest first. */
export async function readCorrections(
  store: Store,
  tenant: string,
): Promise<readonly Correction[]> {
  const rows = await store.query<{ slo_id: string; from_s: number; to_s: number }>(
    sql`SELECT slo_id, toUnixTimestamp(from_time) AS from_s, toUnixTimestamp(to_time) AS to_s FROM grantscope.slo_corrections FINAL WHERE tenant = ${param.string(tenant)} AND withdrawn_at = toDateTime64(0, 3, 'UTC') AND to_time > from_time ORDER BY from_time, correction_id`,
  );
  return rows.map((r) => ({ sloId: r.slo_id, fromMs: r.from_s * 1_000, toMs: r.to_s * 1_000 }));
}

/**
 * The minutes that are taken out for one SLO: those that any of its corrections touches, joined where they meet. A minute is
 * the smallest thing that is counted, so one that a correction covers in part goes out whole.
 */
export function intervalsFor(
  sloId: string,
  corrections: readonly Correction[],
): readonly Interval[] {
  const own = corrections
    .filter((c) => c.sloId === sloId || c.sloId === 'all')
    .map((c) => ({
      fromMs: Math.floor(c.fromMs / MINUTE_MS) * MINUTE_MS,
      toMs: Math.ceil(c.toMs / MINUTE_MS) * MINUTE_MS,
    }))
    .sort((a, b) => a.fromMs - b.fromMs || a.toMs - b.toMs);
  const joined: { fromMs: number; toMs: number }[] = [];
  for (const { fromMs, toMs } of own) {
    const last = joined.at(-1);
    if (last !== undefined && fromMs <= last.toMs) last.toMs = Math.max(last.toMs, toMs);
    else joined.push({ fromMs, toMs });
  }
  return joined;
}

/** How many minutes from `startMs` up to and without `endMs` are taken out. */
export function correctedMinutes(
  intervals: readonly Interval[],
  startMs: number,
  endMs: number,
): number {
  return intervals.reduce((sum, { fromMs, toMs }) => {
    const inside = Math.min(toMs, endMs) - Math.max(fromMs, startMs);
    return sum + Math.max(0, inside) / MINUTE_MS;
  }, 0);
}
