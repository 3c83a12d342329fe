import {
  SLO_WINDOWS,
  type FigureId,
  type IndicatorSli,
  type SloWindow,
} from '../model/define_slo.ts';
import { param, sql, type Sql } from '../model/sql.ts';
import type { Log } from '../runtime/log.ts';
import type { Store } from '../store/client.ts';
import type { SloState } from './compute.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Days that a baseline is the mean of, before the last one. */
const BASELINE_DAYS = 28;
/** Longest life of a device code that a flow is followed for. */
const DEVICE_CODE_MS = HOUR_MS;
/** Rules whose findings say that a token was used where it should not be. */
const REUSE_RULES = ['access_token_replay', 'refresh_family_fork', 'refresh_many_networks'];

/** What each figure says, for the reference. */
export const FIGURE_WORDS: Readonly<Record<FigureId, string>> = {
  issuance_forecast:
    '`per_second_peak_1d` is the busiest minute of the last day, `per_second_forecast_1h` the busiest minute that the coming hour has to be ready for: that of the same hour a day ago (or a week ago, where that was more), times how much more the last hour had than the hour before that one',
  reuse_baseline: `\`reuses_1d\` are reuses that servers reported and findings of ${REUSE_RULES.join(', ')} of the last day; \`reuses_baseline_1d\` is the daily mean of the ${BASELINE_DAYS} days before it, \`reuses_by_baseline\` the first by the second`,
  device_flow_seconds:
    '`device_flow_p50_seconds` and `device_flow_p95_seconds`: from the request for a device code to the token, over the last day',
  elevations_outlived: `\`elevations_outlived\`: findings of elevation_outlives_window of the last 30 days that nobody called benign`,
  jwks_key_age_seconds:
    '`jwks_key_age_seconds`: since a signing key was last created or rotated, as key stores and servers tell',
};

type Figures = Readonly<Record<string, number>>;
interface Scope {
  readonly store: Store;
  readonly tenant: string;
  readonly endMs: number;
}

const READERS: Readonly<Record<FigureId, (scope: Scope, slo: IndicatorSli) => Promise<Figures>>> = {
  issuance_forecast: forecast,
  reuse_baseline: reuse,
  device_flow_seconds: deviceFlow,
  elevations_outlived: outlived,
  jwks_key_age_seconds: keyAge,
};

/**
 * Adds the figures of indicators to their states; read once per minute of event time and kept in between. A figure that
 * cannot be read is logged and absent: budgets and burn rates do not wait for it.
 */
export class FigureReader {
  readonly #store: Store;
  readonly #tenant: string;
  readonly #log: Log;
  readonly #last = new Map<string, { readonly endMs: number; readonly figures: Figures }>();

  constructor(store: Store, tenant: string, log: Log) {
    this.#store = store;
    this.#tenant = tenant;
    this.#log = log;
  }

  async complete(states: readonly SloState[]): Promise<readonly SloState[]> {
    const completed: SloState[] = [];
    for (const state of states) completed.push({ ...state, figures: await this.#of(state) });
    return completed;
  }

  async #of(state: SloState): Promise<Figures> {
    const { slo, endMs } = state;
    if (slo.measure !== 'indicator' || endMs === undefined) return {};
    const known = this.#last.get(slo.id);
    const scope = { store: this.#store, tenant: this.#tenant, endMs };
    let figures = known?.endMs === endMs ? known.figures : undefined;
    if (figures === undefined) {
      figures = {};
      for (const id of slo.figures) figures = { ...figures, ...(await this.#read(id, scope, slo)) };
      this.#last.set(slo.id, { endMs, figures });
    }
    return { ...valuesOf(state), ...figures };
  }

  async #read(id: FigureId, scope: Scope, slo: IndicatorSli): Promise<Figures> {
    try {
      return await READERS[id](scope, slo);
    } catch (error) {
      this.#log.error({ err: error, slo: slo.id, figure: id }, 'a figure could not be read');
      return {};
    }
  }
}

/** The value of an indicator over an hour, a day and 30 days; a share without events is absent. */
export function valuesOf({ slo, windows }: SloState): Figures {
  if (slo.measure !== 'indicator') return {};
  const names: readonly SloWindow[] = ['5m', '1h', '1d', '30d'];
  return Object.fromEntries(
    names.flatMap((window): [string, number][] => {
      const { good, bad } = windows[window];
      if (slo.value === 'rate') return [[`per_second_${window}`, good / SLO_WINDOWS[window]]];
      if (slo.value === 'count') return [[`count_${window}`, good]];
      return good + bad === 0 ? [] : [[`share_${window}`, good / (good + bad)]];
    }),
  );
}

async function one(scope: Scope, statement: Sql): Promise<Readonly<Record<string, number>>> {
  const [row = {}] = await scope.store.query<Record<string, number | string | null>>(statement);
  return Object.fromEntries(
    Object.entries(row).flatMap(([name, value]) =>
      value === null || !Number.isFinite(Number(value)) ? [] : [[name, Number(value)]],
    ),
  );
}

async function forecast({ store, tenant, endMs }: Scope, slo: IndicatorSli): Promise<Figures> {
  const at = (ms: number): Sql => sql`${param.timeMs(endMs + ms)}`;
  const between = (from: number, to: number): Sql =>
    sql`minute >= ${at(from)} AND minute < ${at(to)}`;
  const row = await one(
    { store, tenant, endMs },
    sql`SELECT maxIf(n, ${between(-DAY_MS, 0)}) AS peak, maxIf(n, ${between(-DAY_MS, -DAY_MS + HOUR_MS)}) AS day, maxIf(n, ${between(-7 * DAY_MS, -7 * DAY_MS + HOUR_MS)}) AS week, sumIf(n, ${between(-HOUR_MS, 0)}) AS last, sumIf(n, ${between(-2 * HOUR_MS, -HOUR_MS)}) AS previous, maxIf(n, ${between(-HOUR_MS, 0)}) AS busiest FROM (SELECT minute, sum(good) AS n FROM grantscope.slo_counts WHERE tenant = ${param.string(tenant)} AND slo_id = ${param.string(slo.id)} AND ${between(-7 * DAY_MS, 0)} GROUP BY minute)`,
  );
  const { peak = 0, day = 0, week = 0, last = 0, previous = 0, busiest = 0 } = row;
  // Growth of the last hour over the one before it; an hour without tokens before it says nothing about growth.
  const growth = previous === 0 ? 1 : last / previous;
  const ready = Math.max(day, week, busiest * growth);
  return { per_second_peak_1d: peak / 60, per_second_forecast_1h: ready / 60 };
}

async function reuse({ store, tenant, endMs }: Scope, slo: IndicatorSli): Promise<Figures> {
  const day = param.timeMs(endMs - DAY_MS);
  const start = param.timeMs(endMs - (BASELINE_DAYS + 1) * DAY_MS);
  const end = param.timeMs(endMs);
  const {
    recent = 0,
    earlier = 0,
    days = 0,
  } = await one(
    { store, tenant, endMs },
    sql`SELECT sumIf(n, at >= ${day}) AS recent, sumIf(n, at < ${day}) AS earlier, (SELECT least(toFloat64(${param.uint(BASELINE_DAYS)}), dateDiff('second', min(minute), ${day}) / 86400) FROM grantscope.event_minutes WHERE tenant = ${param.string(tenant)}) AS days FROM (
      SELECT toDateTime64(minute, 3, 'UTC') AS at, good + bad AS n FROM grantscope.slo_counts WHERE tenant = ${param.string(tenant)} AND slo_id = ${param.string(slo.id)} AND minute >= ${start} AND minute < ${end}
      UNION ALL
      SELECT first_event_time AS at, toUInt64(1) AS n FROM grantscope.findings FINAL WHERE tenant = ${param.string(tenant)} AND rule_id IN ${param.strings(REUSE_RULES)} AND state != 'superseded' AND first_event_time >= ${start} AND first_event_time < ${end})`,
  );
  if (days <= 0) return { reuses_1d: recent };
  const baseline = earlier / days;
  const ratio = baseline === 0 ? {} : { reuses_by_baseline: recent / baseline };
  return { reuses_1d: recent, reuses_baseline_1d: baseline, ...ratio };
}

async function deviceFlow({ store, tenant, endMs }: Scope): Promise<Figures> {
  const of = (fromMs: number): Sql =>
    sql`tenant = ${param.string(tenant)} AND outcome = 'success' AND phase != 'attempt' AND time >= ${param.timeMs(fromMs)} AND time < ${param.timeMs(endMs)} AND code_type = 'device_code'`;
  const ended = endMs - DAY_MS;
  const {
    p50,
    p95,
    flows = 0,
  } = await one(
    { store, tenant, endMs },
    sql`SELECT quantileExact(0.5)(took) AS p50, quantileExact(0.95)(took) AS p95, count() AS flows FROM (
      SELECT dateDiff('millisecond', begun.at, done.at) / 1000 AS took FROM
      (SELECT code, min(time) AS at FROM grantscope.auth_events ARRAY JOIN \`tokens.ref\` AS code, \`tokens.type\` AS code_type WHERE ${of(ended)} AND kind = 'token_issued' GROUP BY code) AS done
      INNER JOIN (SELECT code, min(time) AS at FROM grantscope.auth_events ARRAY JOIN \`tokens.ref\` AS code, \`tokens.type\` AS code_type WHERE ${of(ended - DEVICE_CODE_MS)} AND kind = 'device_authorization_requested' GROUP BY code) AS begun ON begun.code = done.code
      WHERE done.at >= begun.at)`,
  );
  if (flows === 0 || p50 === undefined || p95 === undefined) return {};
  return { device_flow_p50_seconds: p50, device_flow_p95_seconds: p95 };
}

async function outlived({ store, tenant, endMs }: Scope): Promise<Figures> {
  const { n = 0 } = await one(
    { store, tenant, endMs },
    sql`SELECT count() AS n FROM grantscope.findings FINAL WHERE tenant = ${param.string(tenant)} AND rule_id = 'elevation_outlives_window' AND state != 'superseded' AND first_event_time >= ${param.timeMs(endMs - 30 * DAY_MS)} AND first_event_time < ${param.timeMs(endMs)} AND finding_id NOT IN (SELECT finding_id FROM grantscope.dispositions WHERE tenant = ${param.string(tenant)} GROUP BY finding_id HAVING argMax(disposition, (decided_at, disposition_id)) IN ('benign_positive', 'false_positive'))`,
  );
  return { elevations_outlived: n };
}

async function keyAge({ store, tenant, endMs }: Scope): Promise<Figures> {
  const { at = 0 } = await one(
    { store, tenant, endMs },
    sql`SELECT toUnixTimestamp64Milli(max(time)) AS at FROM grantscope.auth_events WHERE tenant = ${param.string(tenant)} AND kind IN ('key_created', 'key_rotated') AND outcome IN ('success', 'unknown') AND time < ${param.timeMs(endMs)}`,
  );
  return at <= 0 ? {} : { jwks_key_age_seconds: (endMs - at) / 1_000 };
}
