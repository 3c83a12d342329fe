import type { AuthEvent } from '../../model/auth_event.ts';
import type {
  CandidateScope,
  DayWindow,
  EntityFact,
  HistorySelection,
} from '../../model/define_detector.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { isoTime } from './_origin.ts';

/** Time windows for rules about clients, networks and subjects: baselines, and bursts counted by the minute. */

const NS_PER_MS = 1_000_000n;
/** DateTime64(9) ends here. */
const LAST_NS = 2n ** 63n - 1n;
export const DAY_MS = 86_400_000;
export const MINUTE_MS = 60_000;

const clamp = (ns: bigint): bigint => (ns < 0n ? 0n : ns > LAST_NS ? LAST_NS : ns);

/** A time as SQL, ns; clamped to what the store can hold. */
export function timeSql(ns: bigint): Sql {
  return sql`fromUnixTimestamp64Nano(${param.int64(clamp(ns))}, 'UTC')`;
}

/** Event time lies in the day and its look-back, or up to `baselineMs` before the day. */
export function inWindow(selection: HistorySelection, baselineMs = 0): Sql {
  const { window } = selection;
  if (window === undefined) return sql`true`;
  const baseline = window.from - BigInt(baselineMs) * NS_PER_MS;
  const from = baseline < window.readFrom ? baseline : window.readFrom;
  return sql`time >= ${timeSql(from)} AND time < ${timeSql(window.to)}`;
}

/**
 * Event time lies around what is new. A rule that looks back on a baseline of B ms must look again at what comes up to
 * B plus a day after a new event: `afterMs`.
 */
export function aroundNew(scope: CandidateScope, beforeMs: number, afterMs: number): Sql {
  const from = scope.timeFrom - BigInt(beforeMs) * NS_PER_MS;
  const to = scope.timeTo + BigInt(afterMs) * NS_PER_MS;
  return sql`time >= ${timeSql(from)} AND time <= ${timeSql(to)}`;
}

/** The minute of an event, as the time of a fact. */
export const minuteSql = sql`toDateTime64(toStartOfMinute(time), 9, 'UTC')`;

/** A fact's or event's time, ms. */
export function msOf(thing: { readonly at: bigint }): number {
  return Number(thing.at / NS_PER_MS);
}

/** Facts of one name. */
export function factsNamed(facts: readonly EntityFact[], name: string): EntityFact[] {
  return facts.filter((f) => f.name === name);
}

/** A stretch in which a threshold was passed. Times are the starts of minutes, ms. */
export interface Burst {
  /** First minute of the window in which the threshold was first reached. */
  readonly fromMs: number;
  /** First and last minute at which it was reached. */
  readonly reachedMs: number;
  readonly lastMs: number;
  /** Sum over all of it. */
  readonly total: number;
}

interface BurstLimits {
  readonly windowMs: number;
  /** Pause after which another burst begins, ms. */
  readonly gapMs: number;
  readonly window: DayWindow | undefined;
}

function sumBetween(perMinute: readonly EntityFact[], fromMs: number, toMs: number): number {
  return perMinute
    .filter((f) => msOf(f) >= fromMs && msOf(f) <= toMs)
    .reduce((sum, f) => sum + f.value, 0);
}

/** The minutes of the day at which the last `windowMs` together hold at least `threshold`. */
export function minutesReaching(
  perMinute: readonly EntityFact[],
  threshold: number,
  limits: BurstLimits,
): number[] {
  const result: number[] = [];
  let start = 0;
  let sum = 0;
  for (const fact of perMinute) {
    sum += fact.value;
    for (;;) {
      const first = perMinute[start];
      if (first === undefined || msOf(fact) - msOf(first) < limits.windowMs) break;
      sum -= first.value;
      start += 1;
    }
    const isToday = limits.window === undefined || fact.at >= limits.window.from;
    if (isToday && sum >= threshold) result.push(msOf(fact));
  }
  return result;
}

/** Joins minutes to bursts; `perMinute` gives their totals. */
export function burstsOf(
  minutes: readonly number[],
  perMinute: readonly EntityFact[],
  limits: BurstLimits,
): Burst[] {
  const groups: number[][] = [];
  for (const minute of minutes) {
    const current = groups.at(-1);
    if (current === undefined || minute - (current.at(-1) ?? minute) > limits.gapMs)
      groups.push([minute]);
    else current.push(minute);
  }
  return groups.map((group): Burst => {
    const reachedMs = group[0] ?? 0;
    const lastMs = group.at(-1) ?? reachedMs;
    const earliest = reachedMs - limits.windowMs + MINUTE_MS;
    const first = perMinute.find((f) => msOf(f) >= earliest);
    const fromMs = first === undefined ? reachedMs : msOf(first);
    return { fromMs, reachedMs, lastMs, total: sumBetween(perMinute, fromMs, lastMs) };
  });
}

/** Whether an event belongs to a burst, or comes up to `afterMs` after its last minute. */
export function isDuring(event: AuthEvent, burst: Burst, afterMs = 0): boolean {
  const ms = Number(event.time / NS_PER_MS);
  return ms >= burst.fromMs && ms < burst.lastMs + MINUTE_MS + afterMs;
}

/** Facts by the minute that belong to a burst. */
export function factsDuring(facts: readonly EntityFact[], burst: Burst): EntityFact[] {
  return facts.filter((f) => msOf(f) >= burst.fromMs && msOf(f) <= burst.lastMs);
}

/** Sums by key, largest first, then by name. */
export function sumByKey(facts: readonly EntityFact[]): [string, number][] {
  const sums = new Map<string, number>();
  for (const f of facts) sums.set(f.key, (sums.get(f.key) ?? 0) + f.value);
  return [...sums].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

/** A time in ms as the name of an episode. */
export function isoMs(ms: number): string {
  return new Date(ms).toISOString();
}

/** The day's first event as the name of an episode; '' where there is none. */
export function episodeOf(events: readonly AuthEvent[]): string {
  const [first] = events;
  return first === undefined ? '' : isoTime(first);
}
