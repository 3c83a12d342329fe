import { param, sql } from '../../model/sql.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** The last computed state of an SLO (`grantscope.slo_states`). */
export interface SloState {
  readonly slo_id: string;
  readonly title: string;
  readonly description: string;
  readonly owner: string;
  readonly runbook: string;
  /** Share of good events that is promised, 0-1. */
  readonly objective: number;
  /** For instance `30d`. */
  readonly window: string;
  /** met, breached, unmeasured or no_traffic. */
  readonly state: string;
  readonly good: number;
  readonly bad: number;
  readonly excluded: number;
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
  readonly objective: number;
  readonly window: string;
  readonly state: string;
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
    objective: row.objective,
    window: row.window,
    state: row.state,
    good: Number(row.good),
    bad: Number(row.bad),
    excluded: Number(row.excluded),
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
