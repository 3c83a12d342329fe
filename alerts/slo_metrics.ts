import type { Gauge } from 'prom-client';
import { isBudgeted, SLO_WINDOW_NAMES, type SloDefinition } from '../model/define_slo.ts';
import type { Metrics } from '../runtime/metrics.ts';
import type { SloState } from './compute.ts';

/**
 * The gauges that the generated Prometheus rules read. A value that is not known has no series: an absent
 * series is noticed, a zero would be believed.
 */
export class SloMetrics {
  readonly #bad: Gauge<'slo' | 'window'>;
  readonly #total: Gauge<'slo' | 'window'>;
  readonly #excluded: Gauge<'slo'>;
  readonly #unclassified: Gauge<'slo'>;
  readonly #objective: Gauge<'slo'>;
  readonly #minBad: Gauge<'slo'>;
  readonly #watermark: Gauge<'slo'>;
  readonly #coverage: Gauge<'slo'>;
  readonly #info: Gauge<'slo' | 'shadow' | 'enabled'>;
  readonly #measure: Gauge<'slo' | 'measure' | 'shadow'>;
  readonly #allowed: Gauge<'slo'>;
  readonly #ticketBad: Gauge<'slo'>;
  readonly #corrected: Gauge<'slo'>;
  readonly #figure: Gauge<'slo' | 'figure'>;

  constructor(metrics: Metrics) {
    this.#bad = metrics.gauge(
      'oauth_slo_bad_events',
      'Bad events in the window that ends at the watermark.',
      ['slo', 'window'],
    );
    this.#total = metrics.gauge(
      'oauth_slo_total_events',
      'Good and bad events in the window that ends at the watermark.',
      ['slo', 'window'],
    );
    this.#excluded = metrics.gauge(
      'oauth_slo_excluded_events',
      'Client errors, which are not in the ratio, over 30 days.',
      ['slo'],
    );
    this.#unclassified = metrics.gauge(
      'oauth_slo_unclassified_events',
      'Attempts that are neither good, bad nor excluded (their outcome is unknown), over 30 days.',
      ['slo'],
    );
    this.#objective = metrics.gauge('oauth_slo_objective_ratio', 'Share of good events aimed at.', [
      'slo',
    ]);
    this.#minBad = metrics.gauge(
      'oauth_slo_min_bad_events',
      'Bad events in the long window below which no burn alert fires.',
      ['slo'],
    );
    this.#watermark = metrics.gauge(
      'oauth_slo_rollup_watermark_seconds',
      'Event time, as seconds since the epoch, up to which events are taken to be complete.',
      ['slo'],
    );
    this.#coverage = metrics.gauge(
      'oauth_slo_coverage_ratio',
      'Observed share of the expected minutes of the objective window.',
      ['slo'],
    );
    this.#info = metrics.gauge('oauth_slo_info', 'Always 1; the labels say how the SLO is run.', [
      'slo',
      'shadow',
      'enabled',
    ]);
    this.#measure = metrics.gauge(
      'oauth_slo_measure_info',
      'Always 1; the label says what is measured: ratio, propagation, counted or indicator.',
      ['slo', 'measure', 'shadow'],
    );
    this.#allowed = metrics.gauge(
      'oauth_slo_allowed_occurrences',
      'Occurrences in 30 days that a counted objective allows.',
      ['slo'],
    );
    this.#ticketBad = metrics.gauge(
      'oauth_slo_ticket_bad_events',
      'Bad events in a day from which a ticket is opened, whatever their share.',
      ['slo'],
    );
    this.#corrected = metrics.gauge(
      'oauth_slo_corrected_events',
      'Good and bad events that corrections take out of the 30 days.',
      ['slo'],
    );
    this.#figure = metrics.gauge(
      'oauth_sli_figure',
      'Named figures of an indicator; units as the reference of the SLIs says.',
      ['slo', 'figure'],
    );
  }

  /** Sets what does not change while the process runs. */
  declare(slo: SloDefinition, enabled: boolean): void {
    this.#info.set({ slo: slo.id, shadow: String(slo.shadow), enabled: String(enabled) }, 1);
    if (!enabled) return;
    const { id, measure } = slo;
    this.#measure.set({ slo: id, measure, shadow: String(slo.shadow) }, 1);
    if (slo.measure === 'counted') this.#allowed.set({ slo: id }, slo.allowed);
    if (!isBudgeted(slo)) return;
    this.#objective.set({ slo: id }, slo.objective);
    this.#minBad.set({ slo: id }, slo.minBadEvents);
    if (slo.ticketBadEvents !== undefined) this.#ticketBad.set({ slo: id }, slo.ticketBadEvents);
  }

  set(state: SloState): void {
    if (state.watermarkMs === undefined) return;
    const slo = state.slo.id;
    for (const window of SLO_WINDOW_NAMES) {
      const { good, bad } = state.windows[window];
      this.#bad.set({ slo, window }, bad);
      this.#total.set({ slo, window }, good + bad);
    }
    this.#excluded.set({ slo }, state.excluded);
    this.#unclassified.set({ slo }, state.unclassified);
    this.#watermark.set({ slo }, state.watermarkMs / 1_000);
    this.#coverage.set({ slo }, state.coverage);
    this.#corrected.set({ slo }, state.correctedEvents);
    for (const [figure, value] of Object.entries(state.figures))
      this.#figure.set({ slo, figure }, value);
  }
}
