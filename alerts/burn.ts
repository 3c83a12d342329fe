import type { BurnTier, SloDefinition } from '../model/define_slo.ts';
import { burningTiers, type SloState } from './compute.ts';
import { tiersOf } from './registry.ts';

export const BURN_ALERT = 'OAuthSLOBudgetBurn';
/** A burn alert stays for this long after its condition has passed, so that flapping is one alert. Seconds. */
export const KEEP_FIRING_SECONDS = 900;

/**
 * The labels that a burn alert has on both ways to Alertmanager, through Prometheus and through our own
 * notifier: equal labels are one alert there.
 */
export function burnLabels(slo: SloDefinition, tier: BurnTier): Record<string, string> {
  return {
    alertname: BURN_ALERT,
    kind: 'slo',
    slo: slo.id,
    severity: tier.severity,
    burn: tier.id,
    long: tier.long,
    short: tier.short,
    shadow: String(slo.shadow),
  };
}

/** One burn alert that fires. */
export interface BurnAlert {
  readonly slo: SloDefinition;
  readonly tier: BurnTier;
  /** When its condition began, ms. */
  readonly sinceMs: number;
  readonly state: SloState;
}

interface Track {
  sinceMs: number;
  /** When it began to fire; undefined while pending. */
  firingMs: number | undefined;
  /** When the condition last held. */
  heldMs: number;
}

/**
 * Turns a sequence of SLO states into firing alerts by the same rules as the generated Prometheus rules:
 * `for`, `keep_firing_for`, and a stale watermark freezes what fires and resolves nothing.
 */
export class BurnTracker {
  readonly #tracks = new Map<string, Track>();

  /** Takes up an alert that was firing before a restart. */
  restore(sloId: string, tierId: string, sinceMs: number, nowMs: number): void {
    this.#tracks.set(`${sloId}/${tierId}`, { sinceMs, firingMs: sinceMs, heldMs: nowMs });
  }

  step(states: readonly SloState[], nowMs: number): readonly BurnAlert[] {
    return states.flatMap((state) => {
      const burning = new Set(burningTiers(state).map((t) => t.id));
      return tiersOf(state.slo).flatMap((tier) => {
        const key = `${state.slo.id}/${tier.id}`;
        this.#advance(key, tier, burning.has(tier.id), state.isStale, nowMs);
        const track = this.#tracks.get(key);
        if (track?.firingMs === undefined) return [];
        return [{ slo: state.slo, tier, sinceMs: track.sinceMs, state }];
      });
    });
  }

  #advance(key: string, tier: BurnTier, burns: boolean, isStale: boolean, nowMs: number): void {
    const track = this.#tracks.get(key);
    const isFiring = track?.firingMs !== undefined;
    if (track !== undefined && (burns || (isFiring && isStale))) {
      track.heldMs = nowMs;
      if (nowMs - track.sinceMs >= tier.forSeconds * 1_000) track.firingMs ??= nowMs;
    } else if (track === undefined && burns) {
      this.#tracks.set(key, { sinceMs: nowMs, firingMs: undefined, heldMs: nowMs });
    } else if (track !== undefined) {
      const kept = isFiring && nowMs - track.heldMs < KEEP_FIRING_SECONDS * 1_000;
      if (!kept) this.#tracks.delete(key);
    }
  }
}

/**
 * What is spent and how long the rest lasts, in words: "budget overspent (-120 % left)" or "60 % of the budget left, which lasts
 * about 2 h at this pace".
 */
export function budgetInWords(state: SloState, tier: BurnTier): string {
  const left = state.budgetRemaining;
  if (left === undefined) return 'the budget is not measured';
  const percent = `${(left * 100).toFixed(1)} %`;
  if (left <= 0) return `the 30-day budget is overspent (${percent} left)`;
  const rate = state.burnRates[tier.long] ?? 0;
  if (rate <= 0) return `${percent} of the 30-day budget left`;
  return `${percent} of the 30-day budget left, which lasts about ${hours((left * 720) / rate)} at this pace`;
}

function hours(value: number): string {
  if (value < 1) return `${Math.max(1, Math.round(value * 60))} min`;
  return value < 48 ? `${Math.round(value)} h` : `${Math.round(value / 24)} days`;
}
