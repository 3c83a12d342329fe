import type { Metrics } from '../runtime/metrics.ts';
import type { FindingChanges } from './findings_store.ts';

/** Stands for a rule in metrics where the work is for all of them. */
export const SHARED_WORK = 'shared';

/** The detectors' own metrics; the only label is the rule (and the kind of change). */
export class DetectorMetrics {
  readonly cycles;
  readonly entities;
  readonly findings;
  readonly duration;
  readonly saturated;
  readonly lag;
  readonly errors;
  readonly truncated;
  readonly sweepChanges;
  readonly skipped;
  readonly forgotten;
  readonly rotation;
  readonly blindSources;
  readonly queries;
  readonly queryTime;

  constructor(metrics: Metrics) {
    const rule = ['rule'] as const;
    this.cycles = metrics.counter(
      'grantscope_detector_cycles_total',
      'Cycles that a rule has run.',
      rule,
    );
    this.entities = metrics.counter(
      'grantscope_detector_entities_evaluated_total',
      'Entities (or entity-days) that a rule has evaluated.',
      rule,
    );
    this.findings = metrics.counter(
      'grantscope_detector_findings_total',
      'Findings written, by change: opened, changed, superseded, closed.',
      ['rule', 'change'],
    );
    this.duration = metrics.histogram(
      'grantscope_detector_duration_seconds',
      'Duration of a cycle of one rule.',
      rule,
    );
    this.saturated = metrics.gauge(
      'grantscope_detector_saturated',
      '1 while a rule has more entities than one cycle takes; the rest waits.',
      rule,
    );
    this.lag = metrics.gauge(
      'grantscope_detector_lag_seconds',
      'How far a rule is behind the newest insert.',
      rule,
    );
    this.errors = metrics.counter(
      'grantscope_detector_errors_total',
      'Cycles of a rule that failed and are tried again.',
      rule,
    );
    this.truncated = metrics.counter(
      'grantscope_detector_truncated_entities_total',
      'Entities with more events than a rule reads; the earliest were kept.',
      rule,
    );
    this.sweepChanges = metrics.counter(
      'grantscope_detector_sweep_changes_total',
      'Findings that only the sweep found or changed.',
      rule,
    );
    this.skipped = metrics.counter(
      'grantscope_detector_skipped_total',
      'Looks at new events that a rule was spared, since none of them concerned it.',
      rule,
    );
    this.forgotten = metrics.counter(
      'grantscope_detector_watch_evictions_total',
      'Entities that the live pass had to forget for lack of room; the sweep looks at them.',
    );
    this.rotation = metrics.gauge(
      'grantscope_detector_sweep_behind_seconds',
      'Ingest time since which the sweep of a rule has not been through yet.',
      rule,
    );
    const { blindSources, queries, queryTime } = sightAndCost(metrics);
    this.blindSources = blindSources;
    this.queries = queries;
    this.queryTime = queryTime;
  }

  countChanges(rule: string, changes: FindingChanges): void {
    for (const change of ['opened', 'changed', 'superseded', 'closed'] as const)
      if (changes[change] > 0) this.findings.inc({ rule, change }, changes[change]);
  }
}

/** What rules cannot see, and what they cost. */
function sightAndCost(metrics: Metrics) {
  const rule = ['rule'] as const;
  return {
    blindSources: metrics.gauge(
      'grantscope_detector_blind_sources',
      'Sources that leave out a field which a rule needs.',
      rule,
    ),
    queries: metrics.counter(
      'grantscope_detector_queries_total',
      `Questions to the store, by the rule that asked; "${SHARED_WORK}" is what all rules share.`,
      rule,
    ),
    queryTime: metrics.counter(
      'grantscope_detector_query_seconds_total',
      'How long the answers to these questions took.',
      rule,
    ),
  };
}
