import { OBJECTIVE_WINDOW, SLO_WINDOWS, type SloDefinition } from '../model/define_slo.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { correctedMinutes, type Interval } from './corrections.ts';

const MINUTE_MS = 60_000;
/** A longer silence between two events is a hole in what was observed; a shorter one is a quiet moment. Minutes. */
export const QUIET_MINUTES_MAX = 10;

/** The sources whose clock an SLO runs by. */
export interface Feed {
  /** Sorted ids. */
  readonly sources: readonly string[];
  /** Of the live feed; of all events where there is none. */
  readonly firstMinuteMs: number;
  readonly lastMs: number;
}

interface SourceSpan {
  readonly source_id: string;
  readonly live_first: number;
  readonly first: number;
  readonly live: number;
  readonly last: string;
}

/**
 * The feed of each SLO, by its id; without one where nothing was ever stored. An SLO runs by the sources that have fed it in the
 * last window, so that a dead authorization server is noticed while the gateways go on talking. Before the first such event every
 * source of the tenant counts.
 */
export async function readFeeds(
  store: Store,
  tenant: string,
  slos: readonly SloDefinition[],
): Promise<ReadonlyMap<string, Feed>> {
  const spans = await store.query<SourceSpan>(
    sql`SELECT source_id, toUnixTimestamp(minIf(minute, is_live = 1)) AS live_first, toUnixTimestamp(min(minute)) AS first, max(is_live) AS live, toUnixTimestamp64Milli(max(last_time)) AS last FROM grantscope.event_minutes WHERE tenant = ${param.string(tenant)} GROUP BY source_id ORDER BY source_id`,
  );
  const all = feedOf(spans);
  if (all === undefined) return new Map();
  const horizon = param.timeMs(all.lastMs - SLO_WINDOWS[OBJECTIVE_WINDOW] * 1_000);
  const fed = await store.query<{ slo_id: string; source_id: string }>(
    sql`SELECT DISTINCT slo_id, source_id FROM grantscope.slo_counts WHERE tenant = ${param.string(tenant)} AND slo_id IN ${param.strings(slos.map((s) => s.id))} AND minute >= ${horizon} AND source_id != ''`,
  );
  return new Map(
    slos.map(({ id }) => {
      const own = new Set(fed.filter((f) => f.slo_id === id).map((f) => f.source_id));
      return [id, feedOf(spans.filter((s) => own.has(s.source_id))) ?? all];
    }),
  );
}

function feedOf(spans: readonly SourceSpan[]): Feed | undefined {
  if (spans.length === 0) return undefined;
  const live = spans.filter((s) => s.live === 1);
  const firsts = live.length > 0 ? live.map((s) => s.live_first) : spans.map((s) => s.first);
  return {
    sources: spans.map((s) => s.source_id),
    firstMinuteMs: Math.min(...firsts) * 1_000,
    lastMs: Math.max(...spans.map((s) => Number(s.last))),
  };
}

/**
 * Observed over expected minutes. Expected are the minutes of the window since the first event that
 * arrived live, so that a fresh installation is not called blind for the time before it, nor for the time between
 * it and old logs that were imported. A minute without events is observed
 * too unless it belongs to a silence of more than QUIET_MINUTES_MAX: small services are quiet, not blind. Minutes that a
 * correction takes out are not expected: nobody has to be heard during maintenance.
 */
export async function readCoverage(
  store: Store,
  tenant: string,
  feed: Feed,
  window: {
    readonly startMs: number;
    readonly endMs: number;
    readonly intervals: readonly Interval[];
  },
): Promise<number> {
  const { endMs, intervals } = window;
  const startMs = Math.floor(Math.max(window.startMs, feed.firstMinuteMs) / MINUTE_MS) * MINUTE_MS;
  const [start, end] = [startMs / MINUTE_MS, endMs / MINUTE_MS];
  // The minute before the start and the end of the window stand in as observed (the watermark's own event lies at the
  // end or after it), so that the gaps to them are gaps like any other.
  const [row] = await store.query<{ gaps: readonly (readonly [string, string])[] }>(
    sql`WITH arrayPushBack(arrayPushFront(arraySort(groupUniqArray(toInt64(intDiv(toUnixTimestamp(minute), 60)))), ${param.int(start - 1)}), ${param.int(end)}) AS heard SELECT arrayFilter(gap -> gap.2 - gap.1 > ${param.uint(QUIET_MINUTES_MAX)}, arrayZip(arrayPopBack(heard), arrayPopFront(heard))) AS gaps FROM grantscope.event_minutes WHERE tenant = ${param.string(tenant)} AND source_id IN ${param.strings(feed.sources)} AND minute >= ${param.timeMs(startMs)} AND minute < ${param.timeMs(endMs)}`,
  );
  const expected = end - start - correctedMinutes(intervals, startMs, endMs);
  if (expected <= 0) return 0;
  const missing = (row?.gaps ?? []).reduce(
    (sum, [from, to]) => sum + missingIn(Number(from), Number(to), intervals),
    0,
  );
  return Math.max(0, (expected - missing) / expected);
}

/** Minutes between two heard ones that were not observed, where corrected minutes count as heard. */
function missingIn(from: number, to: number, intervals: readonly Interval[]): number {
  const silence = (a: number, b: number): number => (b - a > QUIET_MINUTES_MAX ? b - a - 1 : 0);
  let missing = 0;
  let heard = from;
  for (const { fromMs, toMs } of intervals) {
    const [first, last] = [fromMs / MINUTE_MS, toMs / MINUTE_MS - 1];
    if (last <= heard || first >= to) continue;
    missing += silence(heard, first);
    heard = Math.min(last, to);
  }
  return missing + silence(heard, to);
}
