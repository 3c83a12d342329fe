import {
  BURN_TIERS,
  OBJECTIVE_WINDOW,
  SLO_WINDOWS,
  SLO_WINDOW_NAMES,
  type SloDefinition,
  type SloWindow,
} from '../model/define_slo.ts';
import { clickHouseMs, joinSql, identifier, param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';

const MINUTE_MS = 60_000;

/** A longer silence between two events is a hole in what was observed; a shorter one is a quiet moment. Minutes. */
export const QUIET_MINUTES_MAX = 10;
/** A watermark that lies further back than this has stopped: nothing is known about now. Seconds. */
export const STALE_AFTER_SECONDS = 600;
/** Below this share of observed minutes an SLO is unmeasured. */
export const COVERAGE_MIN = 0.9;

/** `unmeasured` is a state of its own and never taken for `met`: too little was observed to say. */
export type SloStateName = 'met' | 'breached' | 'unmeasured' | 'no_traffic';

export interface WindowCount {
  readonly good: number;
  readonly bad: number;
}

/** What is known about one SLO at one watermark. Counts are exact for what is stored. */
export interface SloState {
  readonly slo: SloDefinition;
  readonly state: SloStateName;
  /** Newest event of the sources that feed this SLO, less the allowed lateness; undefined before the first event. */
  readonly watermarkMs: number | undefined;
  /** Exclusive end of every window: the end of the minute that the watermark lies in. */
  readonly endMs: number | undefined;
  /** True where the watermark has stopped (see STALE_AFTER_SECONDS): then burn alerts stay as they are. */
  readonly isStale: boolean;
  /** Observed share of the expected minutes of the objective's window, 0 to 1. */
  readonly coverage: number;
  readonly windows: Readonly<Record<SloWindow, WindowCount>>;
  /** Client errors, and what no filter names, over the objective's window. */
  readonly excluded: number;
  readonly unclassified: number;
  /** By window; a window without traffic is absent. 1 spends the budget exactly by the end of 30 days. */
  readonly burnRates: Readonly<Partial<Record<SloWindow, number>>>;
  /** 1 = untouched, 0 = spent, negative = overspent; undefined where unmeasured or without traffic. */
  readonly budgetRemaining: number | undefined;
}

/**
 * Computes one SLO from the rollups. Windows end at the watermark and never at now, so that a late pipeline
 * does not look like a quiet service. Throws what the store throws.
 */
export async function computeSlo(
  store: Store,
  tenant: string,
  slo: SloDefinition,
  nowMs: number,
): Promise<SloState> {
  const feed = await readFeed(store, tenant, slo);
  if (feed === undefined) return emptyState(slo);
  const watermarkMs = feed.lastMs - slo.latenessSeconds * 1_000;
  const endMs = Math.floor(watermarkMs / MINUTE_MS) * MINUTE_MS + MINUTE_MS;
  const counts = await readCounts(store, tenant, slo, endMs);
  const coverage = await readCoverage(store, feed, endMs);
  const isStale = nowMs - watermarkMs > STALE_AFTER_SECONDS * 1_000;
  return judge(slo, { watermarkMs, endMs, coverage, isStale, ...counts });
}

type Measured = Pick<SloState, 'coverage' | 'isStale' | 'windows' | 'excluded' | 'unclassified'> & {
  readonly watermarkMs: number;
  readonly endMs: number;
};

/** State, budget and burn rates from counts: pure. */
export function judge(slo: SloDefinition, measured: Measured): SloState {
  const allowed = 1 - slo.objective;
  const { good, bad } = measured.windows[OBJECTIVE_WINDOW];
  const total = good + bad;
  const isMeasured = !measured.isStale && measured.coverage >= COVERAGE_MIN;
  const burnRates: Partial<Record<SloWindow, number>> = {};
  for (const window of SLO_WINDOW_NAMES) {
    const count = measured.windows[window];
    const all = count.good + count.bad;
    if (all > 0) burnRates[window] = count.bad / all / allowed;
  }
  const remaining = total === 0 ? undefined : 1 - bad / total / allowed;
  let state: SloStateName = 'unmeasured';
  if (isMeasured) state = total === 0 ? 'no_traffic' : stateOf(bad / total, allowed);
  return {
    slo,
    ...measured,
    state,
    burnRates,
    budgetRemaining: isMeasured ? remaining : undefined,
  };
}

function stateOf(badRatio: number, allowed: number): SloStateName {
  // 1 - 0.999 is not exactly 0.001 in binary: a budget spent to the last event is still met.
  return badRatio > allowed * (1 + 1e-9) ? 'breached' : 'met';
}

function emptyState(slo: SloDefinition): SloState {
  const windows = Object.fromEntries(SLO_WINDOW_NAMES.map((w) => [w, { good: 0, bad: 0 }]));
  return {
    slo,
    state: 'unmeasured',
    watermarkMs: undefined,
    endMs: undefined,
    isStale: true,
    coverage: 0,
    windows: windows as Record<SloWindow, WindowCount>,
    excluded: 0,
    unclassified: 0,
    burnRates: {},
    budgetRemaining: undefined,
  };
}

/** The sources whose clock an SLO runs by. */
interface Feed {
  /** Restricts `event_minutes` to those sources. */
  readonly where: Sql;
  /** Of the live feed; of all events where there is none. */
  readonly firstMinuteMs: number;
  readonly lastMs: number;
}

/**
 * An SLO runs by the sources that have fed it in the last window, so that a dead authorization server is
 * noticed while the gateways go on talking. Before the first such event every source of the tenant counts.
 */
async function readFeed(
  store: Store,
  tenant: string,
  slo: SloDefinition,
): Promise<Feed | undefined> {
  const all = sql`tenant = ${param.string(tenant)}`;
  const newest = await readSpan(store, all);
  if (newest === undefined) return undefined;
  const horizon = param.timeMs(newest.lastMs - SLO_WINDOWS[OBJECTIVE_WINDOW] * 1_000);
  const sources = await store.query<{ source_id: string }>(
    sql`SELECT DISTINCT source_id FROM grantscope.slo_minutes WHERE tenant = ${param.string(tenant)} AND slo_id = ${param.string(slo.id)} AND minute >= ${horizon} ORDER BY source_id`,
  );
  if (sources.length === 0) return { where: all, ...newest };
  const where = sql`${all} AND source_id IN ${param.strings(sources.map((s) => s.source_id))}`;
  const span = await readSpan(store, where);
  return span === undefined ? { where: all, ...newest } : { where, ...span };
}

async function readSpan(
  store: Store,
  where: Sql,
): Promise<{ firstMinuteMs: number; lastMs: number } | undefined> {
  const [row] = await store.query<{ first: number; last: string; minutes: string }>(
    sql`SELECT toUnixTimestamp(if(max(is_live) = 1, minIf(minute, is_live = 1), min(minute))) AS first, toUnixTimestamp64Milli(max(last_time)) AS last, count() AS minutes FROM grantscope.event_minutes WHERE ${where}`,
  );
  if (row === undefined || Number(row.minutes) === 0) return undefined;
  return { firstMinuteMs: row.first * 1_000, lastMs: Number(row.last) };
}

async function readCounts(
  store: Store,
  tenant: string,
  slo: SloDefinition,
  endMs: number,
): Promise<Pick<SloState, 'windows' | 'excluded' | 'unclassified'>> {
  const startOf = (window: SloWindow): Sql =>
    sql`${param.timeMs(endMs - SLO_WINDOWS[window] * 1_000)}`;
  const columns = SLO_WINDOW_NAMES.map(
    (w) =>
      sql`sumIf(good, minute >= ${startOf(w)}) AS ${identifier(`good_${w}`)}, sumIf(bad, minute >= ${startOf(w)}) AS ${identifier(`bad_${w}`)}`,
  );
  const [row = {}] = await store.query<Record<string, string>>(
    sql`SELECT ${joinSql(columns, ', ')}, sum(excluded) AS excluded_all, sum(unclassified) AS unclassified_all FROM grantscope.slo_minutes WHERE tenant = ${param.string(tenant)} AND slo_id = ${param.string(slo.id)} AND minute >= ${startOf(OBJECTIVE_WINDOW)} AND minute < ${param.timeMs(endMs)}`,
  );
  const windows = Object.fromEntries(
    SLO_WINDOW_NAMES.map((w) => [
      w,
      { good: Number(row[`good_${w}`]), bad: Number(row[`bad_${w}`]) },
    ]),
  );
  return {
    windows: windows as Record<SloWindow, WindowCount>,
    excluded: Number(row['excluded_all']),
    unclassified: Number(row['unclassified_all']),
  };
}

/**
 * Observed over expected minutes. Expected are the minutes of the window since the first event that
 * arrived live, so that a fresh installation is not called blind for the time before it, nor for the time between
 * it and old logs that were imported. A minute without events is observed
 * too unless it belongs to a silence of more than QUIET_MINUTES_MAX: small services are quiet, not blind.
 */
async function readCoverage(store: Store, feed: Feed, endMs: number): Promise<number> {
  const windowStartMs = endMs - SLO_WINDOWS[OBJECTIVE_WINDOW] * 1_000;
  const startMs = Math.max(windowStartMs, feed.firstMinuteMs);
  const start = Math.floor(startMs / MINUTE_MS);
  const end = Math.floor(endMs / MINUTE_MS);
  const quiet = param.uint(QUIET_MINUTES_MAX);
  // The minute before the start and the end of the window stand in as observed (the watermark's own event lies at the
  // end or after it), so that the gaps to them are gaps like any other.
  const [row] = await store.query<{ missing: string }>(
    sql`SELECT arraySum(d -> if(d > ${quiet}, d - 1, 0), arrayDifference(arrayPushBack(arrayPushFront(minutes, ${param.int(start - 1)}), ${param.int(end)}))) AS missing FROM (SELECT arraySort(groupUniqArray(toInt64(intDiv(toUnixTimestamp(minute), 60)))) AS minutes FROM grantscope.event_minutes WHERE ${feed.where} AND minute >= ${param.timeMs(startMs)} AND minute < ${param.timeMs(endMs)})`,
  );
  const expected = end - start;
  if (expected <= 0) return 0;
  return Math.max(0, (expected - Number(row?.missing ?? expected)) / expected);
}

/** Whether a tier burns right now: both windows above the factor, and enough bad events in the long one. */
export function burningTiers(state: SloState): readonly (typeof BURN_TIERS)[number][] {
  return BURN_TIERS.filter((tier) => {
    if (!state.slo.tiers.includes(tier.id)) return false;
    const long = state.burnRates[tier.long] ?? 0;
    const short = state.burnRates[tier.short] ?? 0;
    const enough = state.windows[tier.long].bad >= state.slo.minBadEvents;
    return enough && long > tier.factor && short > tier.factor;
  });
}

/** The row of `grantscope.slo_states` for a state. */
export function toStateRow(
  tenant: string,
  state: SloState,
  nowMs: number,
): Record<string, unknown> {
  const { slo, windows } = state;
  const byWindow = (pick: (count: WindowCount) => number): Record<string, number> =>
    Object.fromEntries(SLO_WINDOW_NAMES.map((w) => [w, pick(windows[w])]));
  return {
    tenant,
    slo_id: slo.id,
    title: slo.title,
    description: slo.description,
    owner: slo.owner,
    runbook: slo.runbook,
    objective: slo.objective,
    window: OBJECTIVE_WINDOW,
    state: state.state,
    good: windows[OBJECTIVE_WINDOW].good,
    bad: windows[OBJECTIVE_WINDOW].bad,
    excluded: state.excluded,
    budget_remaining: state.budgetRemaining ?? null,
    coverage: state.coverage,
    watermark: clickHouseMs(state.watermarkMs ?? 0),
    burn_rates: state.burnRates,
    good_by_window: byWindow((c) => c.good),
    bad_by_window: byWindow((c) => c.bad),
    shadow: slo.shadow,
    computed_at: clickHouseMs(nowMs),
  };
}
