import type { Change, ErrorCounts } from '../../model/report.ts';
import type { FindingPair } from '../../store/queries/reports.ts';

/** The sum over rules. */
export function totalOf(rules: readonly FindingPair[]): Change {
  return changeOf(
    rules.reduce((sum, r) => sum + r.current, 0),
    rules.reduce((sum, r) => sum + r.previous, 0),
  );
}

/** Both counts, and the change between them. */
export function changeOf(current: number, previous: number): Change {
  return {
    current,
    previous,
    change_percent: previous === 0 ? null : round((100 * (current - previous)) / previous, 1),
  };
}

/** Requests, failures and their share. */
export function errorCounts(requests: number, failures: number): ErrorCounts {
  return { requests, failures, failure_percent: percentOf(failures, requests) };
}

/** Three digits: a tenth of a percent is a lot of errors. */
export function percentOf(part: number, whole: number): number | null {
  return whole === 0 ? null : round((100 * part) / whole, 3);
}

/** Half up. */
export function round(value: number, digits: number): number {
  const factor = 10 ** digits;
  return Math.round(value * factor) / factor;
}

/** ISO 8601 in UTC, to the ms. */
export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

/** Seconds from one time (ISO 8601) to another, at least 0, to the ms. */
export function secondsBetween(from: string, to: string): number {
  return Math.max(0, (Date.parse(to) - Date.parse(from)) / 1_000);
}
