import {
  BURN_TIERS,
  isBudgeted,
  OBJECTIVE_WINDOW,
  SLO_WINDOWS,
  SLO_WINDOW_NAMES,
  type SloDefinition,
  type SloWindow,
} from '../model/define_slo.ts';
import { clickHouseMs, identifier, joinSql, param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { correctedMinutes, intervalsFor, readCorrections, type Interval } from './corrections.ts';
import { readCoverage, readFeeds, type Feed } from './feed.ts';

const MINUTE_MS = 60_000;
/** A watermark that lies further back than this has stopped: nothing is known about now. Seconds. */
export const STALE_AFTER_SECONDS = 600;
/** Below this share of observed minutes an SLO is unmeasured. */
export const COVERAGE_MIN = 0.9;

/**
 * `unmeasured` is a state of its own and never taken for `met`: too little was observed to say. `measured` is what an indicator
 * is, which has nothing to meet.
 */
export type SloStateName = 'met' | 'breached' | 'unmeasured' | 'no_traffic' | 'measured';

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
  /** Without what corrections take out. */
  readonly windows: Readonly<Record<SloWindow, WindowCount>>;
  /** Client errors, and what no filter names, over the objective's window. */
  readonly excluded: number;
  readonly unclassified: number;
  /** Good and bad events that corrections took out of the objective's window, and its minutes that they name. */
  readonly correctedEvents: number;
  readonly correctedMinutes: number;
  /** By window; a window without traffic is absent. 1 spends the budget exactly by the end of 30 days. */
  readonly burnRates: Readonly<Partial<Record<SloWindow, number>>>;
  /** 1 = untouched, 0 = spent, negative = overspent; undefined where unmeasured, without traffic or without a budget. */
  readonly budgetRemaining: number | undefined;
  /** Named figures of an indicator; what is not known is absent. */
  readonly figures: Readonly<Record<string, number>>;
}

/**
 * Computes SLOs from the rollups. Windows end at the watermark and never at now, so that a late pipeline does not look like a
 * quiet service. A handful of queries, however many SLOs there are. Throws what the store throws.
 */
export async function computeSlos(
  store: Store,
  tenant: string,
  slos: readonly SloDefinition[],
  nowMs: number,
): Promise<readonly SloState[]> {
  const feeds = await readFeeds(store, tenant, slos);
  const corrections = await readCorrections(store, tenant);
  const tasks = slos.map((slo) =>
    taskOf(slo, feeds.get(slo.id), intervalsFor(slo.id, corrections)),
  );
  const groups = new Map<string, Task[]>();
  for (const task of tasks) {
    if (task.feed === undefined) continue;
    const key = JSON.stringify([task.endMs, task.intervals]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [task]);
    else group.push(task);
  }
  const counts = new Map<string, Counts>();
  for (const group of groups.values())
    for (const [id, count] of await readCounts(store, tenant, group)) counts.set(id, count);
  const coverages = new Map<string, number>();
  const states: SloState[] = [];
  for (const task of tasks) {
    const { slo, feed, watermarkMs, endMs, intervals } = task;
    const count = counts.get(slo.id);
    if (feed === undefined || count === undefined) {
      states.push(emptyState(slo));
      continue;
    }
    const startMs = endMs - SLO_WINDOWS[OBJECTIVE_WINDOW] * 1_000;
    const key = JSON.stringify([feed.sources, startMs, intervals]);
    const coverage =
      coverages.get(key) ??
      (await readCoverage(store, tenant, feed, { startMs, endMs, intervals }));
    coverages.set(key, coverage);
    states.push(
      judge(slo, {
        ...{ watermarkMs, endMs, coverage, ...count },
        isStale: nowMs - watermarkMs > STALE_AFTER_SECONDS * 1_000,
        correctedMinutes: correctedMinutes(intervals, startMs, endMs),
      }),
    );
  }
  return states;
}

/** Computes one SLO; see computeSlos. */
export async function computeSlo(
  store: Store,
  tenant: string,
  slo: SloDefinition,
  nowMs: number,
): Promise<SloState> {
  const [state] = await computeSlos(store, tenant, [slo], nowMs);
  return state ?? emptyState(slo);
}

interface Task {
  readonly slo: SloDefinition;
  readonly feed: Feed | undefined;
  readonly watermarkMs: number;
  readonly endMs: number;
  readonly intervals: readonly Interval[];
}

function taskOf(slo: SloDefinition, feed: Feed | undefined, intervals: readonly Interval[]): Task {
  const watermarkMs = (feed?.lastMs ?? 0) - slo.latenessSeconds * 1_000;
  const endMs = Math.floor(watermarkMs / MINUTE_MS) * MINUTE_MS + MINUTE_MS;
  return { slo, feed, watermarkMs, endMs, intervals };
}

type Counts = Pick<SloState, 'windows' | 'excluded' | 'unclassified' | 'correctedEvents'>;
type Measured = Counts &
  Pick<SloState, 'coverage' | 'isStale' | 'correctedMinutes'> & {
    readonly watermarkMs: number;
    readonly endMs: number;
  };

/** State, budget and burn rates from counts: pure. */
export function judge(slo: SloDefinition, measured: Measured): SloState {
  const { good, bad } = measured.windows[OBJECTIVE_WINDOW];
  const total = good + bad;
  const isMeasured = !measured.isStale && measured.coverage >= COVERAGE_MIN;
  const common = { slo, ...measured, figures: {} };
  if (!isBudgeted(slo)) {
    const known = slo.measure === 'counted' ? countedState(bad, slo.allowed) : 'measured';
    const state = isMeasured ? known : 'unmeasured';
    return { ...common, state, burnRates: {}, budgetRemaining: undefined };
  }
  const allowed = 1 - slo.objective;
  const burnRates: Partial<Record<SloWindow, number>> = {};
  for (const window of SLO_WINDOW_NAMES) {
    const count = measured.windows[window];
    const all = count.good + count.bad;
    if (all > 0) burnRates[window] = count.bad / all / allowed;
  }
  const remaining = total === 0 ? undefined : 1 - bad / total / allowed;
  let state: SloStateName = 'unmeasured';
  if (isMeasured) state = total === 0 ? 'no_traffic' : stateOf(bad / total, allowed);
  return { ...common, state, burnRates, budgetRemaining: isMeasured ? remaining : undefined };
}

function countedState(occurrences: number, allowed: number): SloStateName {
  return occurrences > allowed ? 'breached' : 'met';
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
    ...{ excluded: 0, unclassified: 0, correctedEvents: 0, correctedMinutes: 0 },
    burnRates: {},
    budgetRemaining: undefined,
    figures: {},
  };
}

/** Counts of SLOs that have the same end and the same corrections. */
async function readCounts(
  store: Store,
  tenant: string,
  group: readonly Task[],
): Promise<ReadonlyMap<string, Counts>> {
  const { endMs = 0, intervals = [] } = group[0] ?? {};
  const startOf = (window: SloWindow): Sql =>
    sql`${param.timeMs(endMs - SLO_WINDOWS[window] * 1_000)}`;
  const columns = SLO_WINDOW_NAMES.map(
    (w) =>
      sql`sumIf(good, NOT is_out AND minute >= ${startOf(w)}) AS ${identifier(`good_${w}`)}, sumIf(bad, NOT is_out AND minute >= ${startOf(w)}) AS ${identifier(`bad_${w}`)}`,
  );
  const ids = group.map((t) => t.slo.id);
  const isOut = joinSql(
    intervals.map(
      (i) => sql`(minute >= ${param.timeMs(i.fromMs)} AND minute < ${param.timeMs(i.toMs)})`,
    ),
    ' OR ',
    sql`0`,
  );
  const rows = await store.query<Record<string, string>>(
    sql`SELECT slo_id, ${joinSql(columns, ', ')}, sumIf(excluded, NOT is_out) AS excluded_all, sumIf(unclassified, NOT is_out) AS unclassified_all, sumIf(good + bad, is_out) AS corrected_all FROM (SELECT slo_id, minute, good, bad, excluded, unclassified, (${isOut}) AS is_out FROM grantscope.slo_counts WHERE tenant = ${param.string(tenant)} AND slo_id IN ${param.strings(ids)} AND minute >= ${startOf(OBJECTIVE_WINDOW)} AND minute < ${param.timeMs(endMs)}) GROUP BY slo_id`,
  );
  const bySlo = new Map(rows.map((row) => [row['slo_id'], row]));
  return new Map(ids.map((id) => [id, countsOf(bySlo.get(id) ?? {})]));
}

function countsOf(row: Readonly<Record<string, string>>): Counts {
  const number = (name: string): number => Number(row[name] ?? 0);
  const windows = Object.fromEntries(
    SLO_WINDOW_NAMES.map((w) => [w, { good: number(`good_${w}`), bad: number(`bad_${w}`) }]),
  );
  return {
    windows: windows as Record<SloWindow, WindowCount>,
    excluded: number('excluded_all'),
    unclassified: number('unclassified_all'),
    correctedEvents: number('corrected_all'),
  };
}

/** Whether a tier burns right now: both windows above the factor, and enough bad events in the long one. */
export function burningTiers(state: SloState): readonly (typeof BURN_TIERS)[number][] {
  const { slo } = state;
  if (!isBudgeted(slo)) return [];
  return BURN_TIERS.filter((tier) => {
    if (!slo.tiers.includes(tier.id)) return false;
    const long = state.burnRates[tier.long] ?? 0;
    const short = state.burnRates[tier.short] ?? 0;
    const enough = state.windows[tier.long].bad >= slo.minBadEvents;
    return enough && long > tier.factor && short > tier.factor;
  });
}

/** What is aimed at: a share of good events, or for a counted objective the occurrences that are allowed; 0 where nothing is. */
export function objectiveOf(slo: SloDefinition): number {
  if (isBudgeted(slo)) return slo.objective;
  return slo.measure === 'counted' ? slo.allowed : 0;
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
    measure: slo.measure,
    objective: objectiveOf(slo),
    window: OBJECTIVE_WINDOW,
    state: state.state,
    good: windows[OBJECTIVE_WINDOW].good,
    bad: windows[OBJECTIVE_WINDOW].bad,
    excluded: state.excluded,
    unclassified: state.unclassified,
    corrected_events: state.correctedEvents,
    corrected_minutes: state.correctedMinutes,
    budget_remaining: state.budgetRemaining ?? null,
    coverage: state.coverage,
    watermark: clickHouseMs(state.watermarkMs ?? 0),
    burn_rates: state.burnRates,
    good_by_window: byWindow((c) => c.good),
    bad_by_window: byWindow((c) => c.bad),
    figures: state.figures,
    shadow: slo.shadow,
    computed_at: clickHouseMs(nowMs),
  };
}
