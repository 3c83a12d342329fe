import type { Severity } from './finding.ts';
import type { EventKind, Outcome, SubjectType } from './kinds.ts';

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
  /** The source's own code; '' stands for "the source does not say". */
  readonly errorCodes?: readonly string[];
  /** HTTP status from `min` to `max`, both included. An unknown status is stored as 0. */
  readonly httpStatus?: { readonly min: number; readonly max: number };
  /** How a token was validated; '' stands for "nobody says". */
  readonly modes?: readonly ValidationMode[];
  readonly subjectTypes?: readonly SubjectType[];
  /** The duration is known and lies under this, ms: one of LATENCY_BOUNDS_MS. */
  readonly underMs?: number;
  /** True: the duration is known. False: it is not. */
  readonly isTimed?: boolean;
}

/** Where validations look: `fallback` is introspection because the local way could not tell. */
export const VALIDATION_MODES = ['', 'local', 'cache', 'introspection', 'fallback'] as const;
export type ValidationMode = (typeof VALIDATION_MODES)[number];

/**
 * Bounds of durations that are counted exactly (`outcome_minutes.latency_under`), ms. A duration is under a bound when it
 * is less than it.
 */
export const LATENCY_BOUNDS_MS = [
  10, 20, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 30_000,
] as const;

/** What a filter looks at: the columns of `auth_events` by their own names. */
export interface FilterSubject {
  readonly kind: string;
  readonly outcome: string;
  readonly endpoint: string;
  readonly grant_type: string;
  readonly error_oauth_error: string;
  readonly error_code: string;
  readonly http_status: number;
  /** As `ext['validation_mode']` says it. */
  readonly mode: string;
  readonly subject_type: string;
  readonly http_duration_ms: number | null;
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

/** What every definition says, whatever it measures. */
interface SliBase {
  /** Equals the file name. */
  readonly id: string;
  readonly title: string;
  /** One or two sentences: what users feel when it is breached. */
  readonly description: string;
  /** The team that answers. */
  readonly owner: string;
  /** Id of the page in `alerts/runbooks/`. */
  readonly runbook: string;
  /** Events may arrive this much after they happened before a window is taken as complete, seconds. */
  readonly latenessSeconds: number;
  /** True: computed and drawn, but its alerts reach nobody (a burn-in). */
  readonly shadow: boolean;
  /** What the split table leads with; the others are there as well. */
  readonly splitBy: readonly SplitDimension[];
}

/** By what the counts of an SLI can be split: columns of `grantscope.slo_counts`. */
export const SPLIT_DIMENSIONS = [
  'issuer',
  'grant_type',
  'service',
  'mode',
  'subject_type',
  'source_id',
] as const;
export type SplitDimension = (typeof SPLIT_DIMENSIONS)[number];

/**
 * How events are told apart. An event that `attempts` matches is exactly one of good, excluded, bad or
 * unclassified: the first of `good`, `excluded`, `bad` of which any filter matches. Records of attempts
 * (`phase = attempt`) never count, so that request and response of one action count once.
 */
export interface Classification {
  readonly attempts: readonly EventFilter[];
  readonly good: readonly EventFilter[];
  /** Counted apart and out of the ratio: what the clients themselves got wrong. */
  readonly excluded: readonly EventFilter[];
  readonly bad: readonly EventFilter[];
}

/** An objective with an error budget and burn alerts. */
interface Budgeted extends SliBase {
  /** Share of good events, between 0 and 1 (neither included), over 30 days. */
  readonly objective: number;
  readonly tiers: readonly BurnTierId[];
  /** A tier fires only with at least this many bad events in its long window. */
  readonly minBadEvents: number;
  /**
   * A ticket once this many bad events were counted in a day, whatever their share: the burn rates of little traffic are either
   * zero or enormous. Absent: none.
   */
  readonly ticketBadEvents?: number;
}

/**
 * An SLO over a ratio of events. From one definition come the rollup view, the gauges, the rules, the dashboard row and the
 * reference.
 */
export interface RatioSlo extends Budgeted, Classification {
  readonly measure: 'ratio';
}

/**
 * How fast a revocation is obeyed, from the lineage of tokens. One unit is a revoked token at one API that saw it after the
 * revocation: good where the last acceptance came within `withinSeconds`, bad where a later one did.
 */
export interface PropagationSlo extends Budgeted {
  readonly measure: 'propagation';
  readonly withinSeconds: number;
}

/** An objective that is a number of occurrences and no share: more than `allowed` in 30 days breaches it. */
export interface CountedSlo extends SliBase {
  readonly measure: 'counted';
  readonly allowed: number;
  /** One unit is an open or closed finding of one of these rules, unless triage or an operator called it benign. */
  readonly rules: readonly string[];
  /** Findings below this severity are counted apart (excluded). */
  readonly severityMin: Severity;
}

/** Figures of an indicator that no classification of single events gives: `alerts/figures.ts`. */
export const FIGURES = [
  'issuance_forecast',
  'reuse_baseline',
  'device_flow_seconds',
  'elevations_outlived',
  'jwks_key_age_seconds',
] as const;
export type FigureId = (typeof FIGURES)[number];

/**
 * A measurement without an objective: gauges and rows of boards, no budget, no burn alerts. `value` says what its counts mean:
 * `share` good of good and bad, `rate` good events a second, `count` good events.
 */
export interface IndicatorSli extends SliBase, Classification {
  readonly measure: 'indicator';
  readonly value: 'share' | 'rate' | 'count';
  /** What `good` and `bad` stand for, in words. */
  readonly goodMeans: string;
  readonly badMeans: string;
  readonly figures: readonly FigureId[];
}

export type SloDefinition = RatioSlo | PropagationSlo | CountedSlo | IndicatorSli;
/** Those with an error budget and burn alerts. */
export type BudgetedSlo = RatioSlo | PropagationSlo;
/** Those whose counts follow from single events. */
export type ClassifiedSlo = RatioSlo | IndicatorSli;
export type SloMeasure = SloDefinition['measure'];

export function isBudgeted(slo: SloDefinition): slo is BudgetedSlo {
  return slo.measure === 'ratio' || slo.measure === 'propagation';
}

export function isClassified(slo: SloDefinition): slo is ClassifiedSlo {
  return slo.measure === 'ratio' || slo.measure === 'indicator';
}

/** Declares an SLO. One file in `alerts/slos/` with this as its default export. */
export function defineSlo<Definition extends SloDefinition>(definition: Definition): Definition {
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
    oneOf(filter.errorCodes, event.error_code) &&
    oneOf(filter.modes, modeOf(event.mode)) &&
    oneOf(filter.subjectTypes, event.subject_type) &&
    isInTime(filter, event.http_duration_ms) &&
    (status === undefined || (event.http_status >= status.min && event.http_status <= status.max))
  );
}

function modeOf(text: string): string {
  return VALIDATION_MODES.find((mode) => mode === text) ?? '';
}

function isInTime({ underMs, isTimed }: EventFilter, durationMs: number | null): boolean {
  if (isTimed !== undefined && isTimed !== (durationMs !== null)) return false;
  return underMs === undefined || (durationMs !== null && durationMs < underMs);
}

/** The class of an event that is an outcome; undefined where the SLO does not look at it. */
export function classOf(slo: Classification, event: FilterSubject): EventClass | undefined {
  const any = (filters: readonly EventFilter[]): boolean =>
    filters.some((f) => matchesFilter(f, event));
  if (!any(slo.attempts)) return undefined;
  return EVENT_CLASSES.find((name) => any(slo[name])) ?? 'unclassified';
}

/** Highest burn rate that can occur: every event bad. A tier at or above it could never fire. */
export function burnRateMax(objective: number): number {
  return 1 / (1 - objective);
}
