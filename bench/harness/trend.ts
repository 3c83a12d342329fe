import { quantile, round } from './program.ts';

/** One look at a figure. */
export interface Point {
  readonly second: number;
  readonly value: number;
}

/** The straight line through a figure over time. */
export interface Trend {
  /** Slope, in the figure's unit a minute. */
  readonly per_minute: number;
  /** Standard error of the slope. */
  readonly error: number;
  /** The figure in the middle of the time looked at. */
  readonly level: number;
  /** When the time looked at began, s. */
  readonly from_second: number;
}

/** What comes before is the warm-up: caches and memories fill. */
const WARM_UP_SHARE = 0.4;
/** Looks so close to one another are alike (a merge takes some seconds), so the median of each stretch counts as one, s. */
const STRETCH_S = 20;

/**
 * How a figure went over the last 60 % of a run, by least squares. Undefined where that is less than three stretches of 20 s,
 * since nothing can be said about the error then.
 */
export function trendOf(points: readonly Point[]): Trend | undefined {
  const end = points.at(-1)?.second ?? 0;
  const from = end * WARM_UP_SHARE;
  // A stretch that the end cuts short would count as much as a whole one.
  const whole = Math.floor((end - from) / STRETCH_S);
  const stretches = new Map<number, number[]>();
  for (const { second, value } of points.filter((p) => p.second >= from)) {
    const stretch = Math.floor((second - from) / STRETCH_S);
    if (stretch >= whole) continue;
    const values = stretches.get(stretch);
    if (values === undefined) stretches.set(stretch, [value]);
    else values.push(value);
  }
  if (stretches.size < 3) return undefined;
  const xs = [...stretches.keys()].map((stretch) => (stretch * STRETCH_S) / 60);
  const ys = [...stretches.values()].map((values) => quantile(values, 0.5));
  const x = mean(xs);
  const y = mean(ys);
  const spread = sumOf(xs, (v) => (v - x) ** 2);
  const slope = sumOf(xs, (v, i) => (v - x) * ((ys[i] ?? y) - y)) / spread;
  const rest = sumOf(xs, (v, i) => ((ys[i] ?? y) - y - slope * (v - x)) ** 2);
  return {
    per_minute: round(slope, 2),
    error: round(Math.sqrt(rest / (xs.length - 2) / spread), 2),
    level: round(y),
    from_second: Math.round(from),
  };
}

function mean(values: readonly number[]): number {
  return sumOf(values, (v) => v) / values.length;
}

function sumOf(values: readonly number[], of: (value: number, i: number) => number): number {
  return values.reduce((sum, value, i) => sum + of(value, i), 0);
}
