import { OBJECTIVE_WINDOW, SLO_WINDOW_NAMES } from '../model/define_slo.ts';
import { burningTiers, type SloState } from './compute.ts';

/** The state of an SLO as the command line and other programs read it. */
export interface SloStatus {
  readonly id: string;
  readonly title: string;
  readonly objective: number;
  readonly state: string;
  readonly good: number;
  readonly bad: number;
  readonly excluded: number;
  readonly unclassified: number;
  /** null where unmeasured or without traffic; negative where overspent. */
  readonly budget_remaining: number | null;
  readonly coverage: number;
  /** ISO 8601; null before the first event. */
  readonly watermark: string | null;
  /** By window; a window without traffic is absent. */
  readonly burn_rates: Readonly<Record<string, number>>;
  /** Tiers whose conditions hold now, before their waiting time. */
  readonly burning: readonly string[];
  readonly shadow: boolean;
}

export function toSloStatus(state: SloState): SloStatus {
  const { slo, watermarkMs, windows } = state;
  return {
    id: slo.id,
    title: slo.title,
    objective: slo.objective,
    state: state.state,
    good: windows[OBJECTIVE_WINDOW].good,
    bad: windows[OBJECTIVE_WINDOW].bad,
    excluded: state.excluded,
    unclassified: state.unclassified,
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
    shadow: slo.shadow,
  };
}
