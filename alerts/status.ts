import { OBJECTIVE_WINDOW, SLO_WINDOW_NAMES } from '../model/define_slo.ts';
import { burningTiers, objectiveOf, type SloState } from './compute.ts';

/** The state of an SLO as the command line and other programs read it. */
export interface SloStatus {
  readonly id: string;
  readonly title: string;
  /** ratio, propagation, counted or indicator. */
  readonly measure: string;
  /** Share of good events; for `counted` the occurrences that are allowed; 0 for an indicator. */
  readonly objective: number;
  readonly state: string;
  readonly good: number;
  readonly bad: number;
  readonly excluded: number;
  readonly unclassified: number;
  /** Good and bad events that corrections took out, and the minutes that they name. */
  readonly corrected_events: number;
  readonly corrected_minutes: number;
  /** null where unmeasured or without traffic; negative where overspent. */
  readonly budget_remaining: number | null;
  readonly coverage: number;
  /** ISO 8601; null before the first event. */
  readonly watermark: string | null;
  /** By window; a window without traffic is absent. */
  readonly burn_rates: Readonly<Record<string, number>>;
  /** Tiers whose conditions hold now, before their waiting time. */
  readonly burning: readonly string[];
  /** Named figures of an indicator. */
  readonly figures: Readonly<Record<string, number>>;
  readonly shadow: boolean;
}

export function toSloStatus(state: SloState): SloStatus {
  const { slo, watermarkMs, windows } = state;
  return {
    id: slo.id,
    title: slo.title,
    measure: slo.measure,
    objective: objectiveOf(slo),
    state: state.state,
    good: windows[OBJECTIVE_WINDOW].good,
    bad: windows[OBJECTIVE_WINDOW].bad,
    excluded: state.excluded,
    unclassified: state.unclassified,
    corrected_events: state.correctedEvents,
    corrected_minutes: state.correctedMinutes,
    budget_remaining: state.budgetRemaining ?? null,
    coverage: state.coverage,
    watermark: watermarkMs === undefined ? null : new Date(watermarkMs).toISOString(),
    burn_rates: Object.fromEntries(
      SLO_WINDOW_NAMES.flatMap((w) => {
        const rate = state.burnRates[w];
        return rate === undefined ? [] : [[w, rate]];
      }),
    ),
    burning: burningTiers(state).map((t) => t.id),
    figures: state.figures,
    shadow: slo.shadow,
  };
}
