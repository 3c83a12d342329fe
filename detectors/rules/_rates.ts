import type { AuthEvent } from '../../model/auth_event.ts';
import type {
  CandidateScope,
  DayWindow,
  EntityFact,
  HistorySelection,
  Trigger,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';

/**
 * Rates over sliding windows of event time, for rules about more events than a history holds: events are counted by
 * minute in the store, and a window is the last so many minutes up to one in which something went wrong.
 */

export const MINUTE_MS = 60_000;
const NS_PER_MS = 1_000_000n;
/** Year 2100, ns: later than any event, and far from the end of a DateTime64. */
const TIME_MAX = 4_102_444_800_000_000_000n;

/** The service that tells of an event: its instance up to the first `/` (`payments-api/pod-7`), else the source's id. */
export const SERVICE = sql`if(source_instance = '', toString(source_id), splitByChar('/', toString(source_instance))[1])`;

/** `SERVICE` of one event. */
export function serviceOf(event: AuthEvent): string {
  const { instance, id } = event.source;
  return instance === '' ? id : (instance.split('/')[0] ?? '');
}

/** A point of event time, clamped to what the store can hold. */
export function timeNs(ns: bigint): Sql {
  const clamped = ns < 0n ? 0n : ns > TIME_MAX ? TIME_MAX : ns;
  return sql`fromUnixTimestamp64Nano(${param.int64(clamped)}, 'UTC')`;
}

/** What is counted, and which of it went wrong; conditions on columns of auth_events. */
export interface Rate {
  /** SQL of the entity. */
  readonly entity: Sql;
  /** Everything that counts. */
  readonly kinds: readonly EventKind[];
  readonly counted: Sql;
  /** What went wrong, and the kinds that it can be. */
  readonly badKinds: readonly EventKind[];
  readonly bad: Sql;
  readonly windowMs: number;
  /** How long after an event windows are judged by it, beyond the window itself, ms: a baseline. Default 0. */
  readonly baselineMs?: number;
}

/** Records of attempts are left out, since their outcome has a record of its own. */
function countedRows(tenant: string, kinds: readonly EventKind[], condition: Sql): Sql {
  return sql`tenant = ${param.string(tenant)} AND ${kindIn(kinds)} AND phase != 'attempt' AND (${condition})`;
}

/**
 * Every new event that counts, of entities with at least `badMin` bad ones near by: a late success may withdraw what
 * failures alone would say.
 */
export function rateCandidates(scope: CandidateScope, rate: Rate, badMin: number): Sql {
  const reach = BigInt(rate.windowMs) * NS_PER_MS;
  const reachAfter = reach + BigInt(rate.baselineMs ?? 0) * NS_PER_MS;
  return sql`
    SELECT ${rate.entity} AS entity, time AS at FROM grantscope.auth_events
    WHERE ${countedRows(scope.tenant, rate.kinds, rate.counted)} AND ${scope.condition}
      AND ${rate.entity} IN (
        SELECT ${rate.entity} AS bad_entity FROM grantscope.auth_events
        WHERE ${countedRows(scope.tenant, rate.badKinds, rate.bad)} AND ${rate.entity} != ''
          AND time >= ${timeNs(scope.timeFrom - reach)} AND time <= ${timeNs(scope.timeTo + reachAfter)}
        GROUP BY bad_entity HAVING count() >= ${param.uint(badMin)})`;
}

/** What has to have gone wrong within the window before a rate can be too high. */
export function rateTrigger(rate: Rate): Trigger {
  const { badKinds, bad, windowMs } = rate;
  return {
    condition: sql`${kindIn(badKinds)} AND phase != 'attempt' AND (${bad})`,
    reachMs: windowMs,
  };
}

function ofSelection(
  selection: HistorySelection,
  rate: Rate,
  kinds: readonly EventKind[],
  condition: Sql,
): Sql {
  return sql`${countedRows(selection.tenant, kinds, condition)} AND ${rate.entity} IN ${param.strings(selection.entities)}
    AND time >= ${timeNs(selection.window?.readFrom ?? 0n)} AND time < ${timeNs(selection.window?.to ?? 0n)}`;
}

/** The first bad event of each minute: enough to show, and each window that is judged ends with one. */
export function rateHistory(selection: HistorySelection, rate: Rate): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT ${rate.entity} AS entity, event_id, min(time) AS at FROM grantscope.auth_events
      WHERE ${ofSelection(selection, rate, rate.badKinds, rate.bad)}
      GROUP BY entity, event_id
    ) ORDER BY entity, at, event_id LIMIT 1 BY entity, toStartOfMinute(at)`;
}

/**
 * Counts of events by minute, for the minutes that some judged window covers. `name` and `key` are SQL that sorts an event
 * into a series. Exact up to some thousands a minute and series; beyond, within one percent, for no server could remember
 * every id of an outage.
 */
export function rateFacts(selection: HistorySelection, rate: Rate, name: Sql, key: Sql): Sql {
  const minutes = param.uint(Math.ceil(rate.windowMs / MINUTE_MS));
  return sql`
    SELECT ${rate.entity} AS entity, ${name} AS name, ${key} AS key,
      toDateTime64(toStartOfMinute(time), 9, 'UTC') AS at, toFloat64(uniqCombined64(event_id)) AS value
    FROM grantscope.auth_events
    WHERE ${ofSelection(selection, rate, rate.kinds, rate.counted)}
      AND (${rate.entity}, toUnixTimestamp(toStartOfMinute(time))) IN (
        SELECT bad_entity, arrayJoin(arrayMap(i -> toUInt32(minute - 60 * i), range(${minutes}))) FROM (
          SELECT DISTINCT ${rate.entity} AS bad_entity, toUnixTimestamp(toStartOfMinute(time)) AS minute
          FROM grantscope.auth_events WHERE ${ofSelection(selection, rate, rate.badKinds, rate.bad)}))
    GROUP BY entity, name, key, at`;
}

/** Bad events by minute and by the `keysMax` keys (a client, an instance) that had most of them; '' is left out. */
export function badFactsBy(
  selection: HistorySelection,
  rate: Rate,
  name: string,
  key: Sql,
  keysMax: number,
): Sql {
  return sql`
    SELECT entity, ${param.string(name)} AS name, key, at, value FROM (
      SELECT ${rate.entity} AS entity, ${key} AS key, toDateTime64(toStartOfMinute(time), 9, 'UTC') AS at,
        toFloat64(uniqCombined64(event_id)) AS value
      FROM grantscope.auth_events WHERE ${ofSelection(selection, rate, rate.badKinds, rate.bad)}
      GROUP BY entity, key, at
    ) WHERE key != '' ORDER BY entity, at, value DESC, key LIMIT ${param.uint(keysMax)} BY entity, at`;
}

/** Counts by minute: the minute's number since the epoch to its count. */
export type MinuteSeries = ReadonlyMap<number, number>;

export function minuteOf(event: AuthEvent): number {
  return Math.floor(Number(event.time / NS_PER_MS) / MINUTE_MS);
}

export function isoMinute(minute: number): string {
  return new Date(minute * MINUTE_MS).toISOString();
}

/** One series out of a rule's facts; without `key` the sum over all keys. */
export function seriesOf(facts: readonly EntityFact[], name: string, key?: string): MinuteSeries {
  const series = new Map<number, number>();
  for (const fact of facts) {
    if (fact.name !== name || (key !== undefined && fact.key !== key)) continue;
    const minute = Math.floor(Number(fact.at / NS_PER_MS) / MINUTE_MS);
    series.set(minute, (series.get(minute) ?? 0) + fact.value);
  }
  return series;
}

/** The sum over the window of so many minutes that ends with this one. */
export function windowSum(series: MinuteSeries, minute: number, windowMs: number): number {
  const minutes = Math.ceil(windowMs / MINUTE_MS);
  let sum = 0;
  for (let m = minute - minutes + 1; m <= minute; m += 1) sum += series.get(m) ?? 0;
  return sum;
}

/** Minutes of the day that is judged, in order. */
export function minutesOfDay(series: MinuteSeries, window: DayWindow | undefined): number[] {
  const minutes = [...series.keys()].sort((a, b) => a - b);
  if (window === undefined) return minutes;
  const from = Number(window.from / NS_PER_MS) / MINUTE_MS;
  return minutes.filter((m) => m >= from);
}

/** Cuts minutes in order where two neighbours lie more than `gapMs` apart. */
export function splitMinutes(minutes: readonly number[], gapMs: number): number[][] {
  const episodes: number[][] = [];
  for (const minute of minutes) {
    const current = episodes.at(-1);
    const last = current?.at(-1);
    if (current === undefined || last === undefined || (minute - last) * MINUTE_MS > gapMs)
      episodes.push([minute]);
    else current.push(minute);
  }
  return episodes;
}

/** Keys of a series by their sum from one minute to another, most first; equal ones by name. */
export function topKeys(
  facts: readonly EntityFact[],
  name: string,
  from: number,
  to: number,
): { readonly key: string; readonly count: number }[] {
  const sums = new Map<string, number>();
  for (const fact of facts) {
    const minute = Math.floor(Number(fact.at / NS_PER_MS) / MINUTE_MS);
    if (fact.name !== name || minute < from || minute > to) continue;
    sums.set(fact.key, (sums.get(fact.key) ?? 0) + fact.value);
  }
  return [...sums]
    .map(([key, count]) => ({ key, count }))
    .sort((a, b) => b.count - a.count || (a.key < b.key ? -1 : 1));
}

/** A share as evidence shows it: three decimals. */
export function shownShare(part: number, whole: number): number {
  return whole === 0 ? 0 : Math.round((part / whole) * 1_000) / 1_000;
}
