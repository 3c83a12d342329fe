import { identifier, param, sql } from '../../model/sql.ts';
import { instant, isoTime, ofTenant, type Scope } from './scope.ts';

/** The last computed state of an SLO (`grantscope.slo_states`). */
export interface SloState {
  readonly slo_id: string;
  readonly title: string;
  readonly description: string;
  readonly owner: string;
  readonly runbook: string;
  /** ratio, propagation, counted or indicator. */
  readonly measure: string;
  /** Share of good events that is promised, 0-1; for `counted` the occurrences that are allowed; 0 for an indicator. */
  readonly objective: number;
  /** For instance `30d`. */
  readonly window: string;
  /** met, breached, unmeasured, no_traffic; measured for an indicator. */
  readonly state: string;
  readonly good: number;
  readonly bad: number;
  readonly excluded: number;
  readonly unclassified: number;
  /** What corrections took out of the window: good and bad events, and minutes. */
  readonly corrected_events: number;
  readonly corrected_minutes: number;
  /** Named figures of an indicator. */
  readonly figures: Readonly<Record<string, number>>;
  /** 1 = untouched, 0 = spent, negative = overspent; null where unmeasured. */
  readonly budget_remaining: number | null;
  /** Share of the window that has data, 0-1. */
  readonly coverage: number;
  readonly watermark: string;
  /** One per look-back window that had traffic, shortest first. */
  readonly burn: readonly {
    readonly window: string;
    readonly rate: number;
    readonly good: number;
    readonly bad: number;
  }[];
  /** Computed and shown, but never alerts. */
  readonly shadow: boolean;
  readonly computed_at: string;
}

/** All SLOs, or the one with this id; sorted by id. */
export async function readSlos(scope: Scope, sloId?: string): Promise<readonly SloState[]> {
  const one = sloId === undefined ? sql`` : sql` AND slo_id = ${param.string(sloId)}`;
  const rows = await scope.store.query<SloRow>(
    sql`SELECT * FROM grantscope.slo_states FINAL WHERE ${ofTenant(scope)}${one} ORDER BY slo_id`,
  );
  return rows.map(toState);
}

/** What the counts of an SLI are split by: columns of `grantscope.slo_counts`. */
const DIMENSIONS = [
  'issuer',
  'grant_type',
  'service',
  'mode',
  'subject_type',
  'source_id',
] as const;
/** Values that one dimension shows, those with most bad events first. */
const SPLIT_VALUES_MAX = 20;

interface Classes {
  readonly good: number;
  readonly bad: number;
  readonly excluded: number;
  readonly unclassified: number;
}

/** Where the events of an SLI come from, and how its budget went. Minutes that corrections take out are in neither. */
export interface SloBreakdown {
  /** Over the day before the watermark; a dimension that says nothing about this SLI is absent. */
  readonly split: readonly {
    readonly dimension: string;
    readonly values: readonly (Classes & { readonly value: string })[];
  }[];
  /** By hour over the objective's window, oldest first; hours without events are absent. */
  readonly series: readonly (Classes & { readonly hour: string })[];
}

/** The breakdown of one SLI up to its watermark (ISO 8601). */
export async function readSloBreakdown(
  scope: Scope,
  sloId: string,
  watermark: string,
): Promise<SloBreakdown> {
  const at = instant(watermark);
  // A minute that a correction touches is out as a whole, as in the computation of the budget.
  const counts = sql`FROM grantscope.slo_counts WHERE ${ofTenant(scope)} AND slo_id = ${param.string(sloId)} AND minute <= ${at} AND NOT arrayExists(c -> minute < c.2 AND minute + INTERVAL 1 MINUTE > c.1, (SELECT groupArray((from_time, to_time)) FROM grantscope.slo_corrections FINAL WHERE ${ofTenant(scope)} AND slo_id IN ('all', ${param.string(sloId)}) AND withdrawn_at = toDateTime64(0, 3, 'UTC')))`;
  const sums = sql`sum(good) AS good_n, sum(bad) AS bad_n, sum(excluded) AS excluded_n, sum(unclassified) AS unclassified_n`;
  const split = [];
  for (const dimension of DIMENSIONS) {
    const rows = await scope.store.query<ClassRow>(
      sql`SELECT toString(${identifier(dimension)}) AS name, ${sums} ${counts} AND minute > ${at} - INTERVAL 1 DAY GROUP BY name ORDER BY bad_n DESC, good_n DESC, name LIMIT ${param.uint(SPLIT_VALUES_MAX)}`,
    );
    const values = rows.map((row) => ({ value: row.name, ...toClasses(row) }));
    if (values.some((v) => v.value !== '')) split.push({ dimension, values });
  }
  const rows = await scope.store.query<ClassRow>(
    sql`SELECT toString(toStartOfHour(minute)) AS name, ${sums} ${counts} AND minute > ${at} - INTERVAL 30 DAY GROUP BY name ORDER BY name`,
  );
  return { split, series: rows.map((row) => ({ hour: isoTime(row.name), ...toClasses(row) })) };
}

interface ClassRow {
  readonly name: string;
  readonly good_n: string;
  readonly bad_n: string;
  readonly excluded_n: string;
  readonly unclassified_n: string;
}

function toClasses(row: ClassRow): Classes {
  return {
    good: Number(row.good_n),
    bad: Number(row.bad_n),
    excluded: Number(row.excluded_n),
    unclassified: Number(row.unclassified_n),
  };
}

/** A mark that changes whenever SLO states are written; cheap enough to poll. */
export async function slosMark(scope: Scope): Promise<string> {
  const [row] = await scope.store.query<{ mark: string }>(
    sql`SELECT toString(max(computed_at)) AS mark FROM grantscope.slo_states WHERE ${ofTenant(scope)}`,
  );
  return row?.mark ?? '';
}

type Counts = Readonly<Record<string, number | string>>;

interface SloRow {
  readonly slo_id: string;
  readonly title: string;
  readonly description: string;
  readonly owner: string;
  readonly runbook: string;
  readonly measure: string;
  readonly objective: number;
  readonly window: string;
  readonly state: string;
  readonly unclassified: number | string;
  readonly corrected_events: number | string;
  readonly corrected_minutes: number;
  readonly figures: Counts;
  readonly good: number | string;
  readonly bad: number | string;
  readonly excluded: number | string;
  readonly budget_remaining: number | null;
  readonly coverage: number;
  readonly watermark: string;
  readonly burn_rates: Counts;
  readonly good_by_window: Counts;
  readonly bad_by_window: Counts;
  readonly shadow: boolean;
  readonly computed_at: string;
}

function toState(row: SloRow): SloState {
  const windows = Object.keys(row.burn_rates).sort((a, b) => secondsOf(a) - secondsOf(b));
  return {
    slo_id: row.slo_id,
    title: row.title,
    description: row.description,
    owner: row.owner,
    runbook: row.runbook,
    measure: row.measure,
    objective: row.objective,
    window: row.window,
    state: row.state,
    good: Number(row.good),
    bad: Number(row.bad),
    excluded: Number(row.excluded),
    unclassified: Number(row.unclassified),
    corrected_events: Number(row.corrected_events),
    corrected_minutes: row.corrected_minutes,
    figures: Object.fromEntries(Object.entries(row.figures).map(([k, v]) => [k, Number(v)])),
    budget_remaining: row.budget_remaining,
    coverage: row.coverage,
    watermark: isoTime(row.watermark),
    burn: windows.map((window) => ({
      window,
      rate: Number(row.burn_rates[window]),
      good: Number(row.good_by_window[window] ?? 0),
      bad: Number(row.bad_by_window[window] ?? 0),
    })),
    shadow: row.shadow,
    computed_at: isoTime(row.computed_at),
  };
}

const UNIT_SECONDS: Readonly<Record<string, number>> = {
  s: 1,
  m: 60,
  h: 3_600,
  d: 86_400,
  w: 604_800,
};

/** `1h` -> 3600; what is no duration sorts last. */
function secondsOf(window: string): number {
  const match = /^(\d+)([smhdw])$/.exec(window);
  return match === null
    ? Number.MAX_SAFE_INTEGER
    : Number(match[1]) * (UNIT_SECONDS[match[2] ?? ''] ?? 1);
}
