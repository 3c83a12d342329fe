import type { EventKind, Outcome } from './kinds.ts';

/**
 * A condition on stored events: every field that is given must hold, a list means "one of". What a filter
 * does not name it does not ask about. Values are from code, never from input.
 */
export interface EventFilter {
  readonly kinds?: readonly EventKind[];
  readonly outcomes?: readonly Outcome[];
  readonly endpoints?: readonly string[];
  readonly grantTypes?: readonly string[];
  /** RFC 6749 error codes; '' stands for "the source does not say". */
  readonly oauthErrors?: readonly string[];
  /** HTTP status from `min` to `max`, both included. An unknown status is stored as 0. */
  readonly httpStatus?: { readonly min: number; readonly max: number };
}

/** What a filter looks at: the columns of `auth_events` by their own names. */
export interface FilterSubject {
  readonly kind: string;
  readonly outcome: string;
  readonly endpoint: string;
  readonly grant_type: string;
  readonly error_oauth_error: string;
  readonly http_status: number;
}

/** The windows that every SLO is counted over, in seconds. `30d` is the window of the objective. */
export const SLO_WINDOWS = {
  '5m': 300,
  '30m': 1_800,
  '1h': 3_600,
  '2h': 7_200,
  '6h': 21_600,
  '1d': 86_400,
  '3d': 259_200,
  '30d': 2_592_000,
} as const;
export type SloWindow = keyof typeof SLO_WINDOWS;
export const SLO_WINDOW_NAMES = Object.keys(SLO_WINDOWS) as readonly SloWindow[];

/** The window that objectives and budgets are about. */
export const OBJECTIVE_WINDOW = '30d' satisfies SloWindow;

/**
 * A burn-rate tier: it burns when the budget is spent `factor` times faster than the objective allows, over
 * the long window (enough of it is gone to matter) and over the short one (it is still going on).
 */
export interface BurnTier {
  readonly id: BurnTierId;
  readonly long: SloWindow;
  readonly short: SloWindow;
  readonly factor: number;
  /** How long both must hold before the alert fires, seconds. */
  readonly forSeconds: number;
  readonly severity: 'page' | 'ticket';
}
export const BURN_TIER_IDS = ['fast', 'medium', 'slow', 'drift'] as const;
export type BurnTierId = (typeof BURN_TIER_IDS)[number];

export const BURN_TIERS: readonly BurnTier[] = [
  { id: 'fast', long: '1h', short: '5m', factor: 14.4, forSeconds: 120, severity: 'page' },
  { id: 'medium', long: '6h', short: '30m', factor: 6, forSeconds: 900, severity: 'page' },
  { id: 'slow', long: '1d', short: '2h', factor: 3, forSeconds: 3_600, severity: 'ticket' },
  { id: 'drift', long: '3d', short: '6h', factor: 1, forSeconds: 10_800, severity: 'ticket' },
];

/**
 * An SLO over a ratio of events. An event that `attempts` matches is exactly one of good, excluded, bad or
 * unclassified: the first of `good`, `excluded`, `bad` of which any filter matches. Records of attempts
 * (`phase = attempt`) never count, so that request and response of one action count once.
 * From one definition come the rollup view, the gauges, the rules, the dashboard row and the reference.
 */
export interface SloDefinition {
  /** Equals the file name. */
  readonly id: string;
  readonly title: string;
  /** One or two sentences: what users feel when it is breached. */
  readonly description: string;
  /** The team that answers. */
  readonly owner: string;
  /** Id of the page in `alerts/runbooks/`. */
  readonly runbook: string;
  /** Share of good events, between 0 and 1 (neither included), over 30 days. */
  readonly objective: number;
  readonly attempts: readonly EventFilter[];
  readonly good: readonly EventFilter[];
  /** Counted apart and out of the ratio: what the clients themselves got wrong. */
  readonly excluded: readonly EventFilter[];
  readonly bad: readonly EventFilter[];
  readonly tiers: readonly BurnTierId[];
  /** A tier fires only with at least this many bad events in its long window. */
  readonly minBadEvents: number;
  /** Events may arrive this much after they happened before a window is taken as complete, seconds. */
  readonly latenessSeconds: number;
  /** True: computed and drawn, but its alerts reach nobody (a burn-in). */
  readonly shadow: boolean;
}

/** Declares an SLO. One file in `alerts/slos/` with this as its default export. */
export function defineSlo(definition: SloDefinition): SloDefinition {
  return Object.freeze(definition);
}

/** The classes of an attempt, in the order in which they are tried. */
export const EVENT_CLASSES = ['good', 'excluded', 'bad'] as const;
export type EventClass = (typeof EVENT_CLASSES)[number] | 'unclassified';

/** True where every given condition of the filter holds. */
export function matchesFilter(filter: EventFilter, event: FilterSubject): boolean {
  const oneOf = (list: readonly string[] | undefined, value: string): boolean =>
    list === undefined || list.includes(value);
  const status = filter.httpStatus;
  return (
    oneOf(filter.kinds, event.kind) &&
    oneOf(filter.outcomes, event.outcome) &&
    oneOf(filter.endpoints, event.endpoint) &&
    oneOf(filter.grantTypes, event.grant_type) &&
    oneOf(filter.oauthErrors, event.error_oauth_error) &&
    (status === undefined || (event.http_status >= status.min && event.http_status <= status.max))
  );
}

/** The class of an event that is an outcome; undefined where the SLO does not look at it. */
export function classOf(slo: SloDefinition, event: FilterSubject): EventClass | undefined {
  const any = (filters: readonly EventFilter[]): boolean =>
    filters.some((f) => matchesFilter(f, event));
  if (!any(slo.attempts)) return undefined;
  return EVENT_CLASSES.find((name) => any(slo[name])) ?? 'unclassified';
}

/** Highest burn rate that can occur: every event bad. A tier at or above it could never fire. */
export function burnRateMax(objective: number): number {
  return 1 / (1 - objective);
}
