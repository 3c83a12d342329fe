/** The notifier's own burn alerts: the same times as the Prometheus rules, which promtool runs in test/e2e. */
import { beforeAll, describe, expect, it } from 'vitest';
import { BurnTracker, budgetInWords } from '../../alerts/burn.ts';
import { burningTiers, judge, objectiveOf, type SloState } from '../../alerts/compute.ts';
import { applyOverrides, loadSlos } from '../../alerts/registry.ts';
import {
  BURN_TIERS,
  SLO_WINDOW_NAMES,
  type RatioSlo,
  type SloWindow,
} from '../../model/define_slo.ts';

let slo: RatioSlo;
beforeAll(async () => {
  const found = (await loadSlos()).find((s) => s.id === 'token_issuance_success');
  if (found?.measure !== 'ratio') throw new Error('token_issuance_success is gone');
  slo = found;
});

const MINUTE = 60_000;

function stateOf(
  bad: number,
  options: { isStale?: boolean; total?: number; only?: readonly SloWindow[] } = {},
): SloState {
  const total = options.total ?? 1_000;
  const windows = Object.fromEntries(
    SLO_WINDOW_NAMES.map((w) => {
      const n = options.only === undefined || options.only.includes(w) ? bad : 0;
      return [w, { good: total - n, bad: n }];
    }),
  ) as SloState['windows'];
  return judge(slo, {
    watermarkMs: 0,
    endMs: 0,
    coverage: 1,
    isStale: options.isStale ?? false,
    windows,
    excluded: 0,
    unclassified: 0,
    correctedEvents: 0,
    correctedMinutes: 0,
  });
}
const tiers = (alerts: readonly { tier: { id: string } }[]): string[] =>
  alerts.map((a) => a.tier.id);

describe('BurnTracker', () => {
  it('fires each tier after its own time and not before', () => {
    const tracker = new BurnTracker();
    const at = (minute: number): string[] => tiers(tracker.step([stateOf(100)], minute * MINUTE));
    expect(at(0)).toEqual([]);
    expect(at(1)).toEqual([]);
    expect(at(2)).toEqual(['fast']);
    expect(at(14)).toEqual(['fast']);
    expect(at(15)).toEqual(['fast', 'medium']);
    expect(at(59)).toEqual(['fast', 'medium']);
    expect(at(60)).toEqual(['fast', 'medium', 'slow']);
    expect(at(180)).toEqual(['fast', 'medium', 'slow', 'drift']);
  });

  it('keeps firing for 15 minutes, then resolves, and starts over from nothing', () => {
    const tracker = new BurnTracker();
    tracker.step([stateOf(100, { only: ['1h', '5m'] })], 0);
    const firing = tracker.step([stateOf(100, { only: ['1h', '5m'] })], 2 * MINUTE);
    expect(firing.map((f) => f.sinceMs)).toEqual([0]);
    const calm = (minute: number): string[] => tiers(tracker.step([stateOf(0)], minute * MINUTE));
    expect(calm(16)).toEqual(['fast']);
    expect(calm(17)).toEqual([]);
    expect(tiers(tracker.step([stateOf(100)], 18 * MINUTE))).toEqual([]);
  });

  it('drops a pending alert whose condition passes', () => {
    const tracker = new BurnTracker();
    tracker.step([stateOf(100)], 0);
    tracker.step([stateOf(0)], 1 * MINUTE);
    expect(tiers(tracker.step([stateOf(100)], 2 * MINUTE))).toEqual([]);
    expect(tiers(tracker.step([stateOf(100)], 4 * MINUTE))).toEqual(['fast']);
  });

  it('freezes what fires while the watermark is stale, and nothing that is pending', () => {
    const tracker = new BurnTracker();
    tracker.step([stateOf(100)], 0);
    tracker.step([stateOf(100)], 2 * MINUTE);
    const stale = (minute: number): string[] =>
      tiers(tracker.step([stateOf(0, { isStale: true })], minute * MINUTE));
    expect(stale(60)).toEqual(['fast']);
    expect(stale(600)).toEqual(['fast']);
    expect(tiers(tracker.step([stateOf(0)], 614 * MINUTE))).toEqual(['fast']);
    expect(tiers(tracker.step([stateOf(0)], 615 * MINUTE))).toEqual([]);
  });

  it('goes on with what fired before a restart', () => {
    const tracker = new BurnTracker();
    tracker.restore(slo.id, 'medium', 5, 10 * MINUTE);
    expect(tiers(tracker.step([stateOf(0)], 11 * MINUTE))).toEqual(['medium']);
    expect(tiers(tracker.step([stateOf(0)], 25 * MINUTE))).toEqual([]);
  });
});

describe('burningTiers', () => {
  it('needs both windows, the factor and enough bad events', () => {
    const ids = (state: SloState): string[] => burningTiers(state).map((t) => t.id);
    expect(ids(stateOf(100))).toEqual(['fast', 'medium', 'slow', 'drift']);
    expect(ids(stateOf(100, { only: ['1h'] }))).toEqual([]);
    expect(ids(stateOf(100, { only: ['5m'] }))).toEqual([]);
    expect(ids(stateOf(9, { total: 90 }))).toEqual([]);
    expect(ids(stateOf(10, { total: 100 }))).toEqual(['fast', 'medium', 'slow', 'drift']);
    // 1.43 % and 1.45 % bad: below and above 14.4 times 0.1 %.
    expect(ids(stateOf(143, { total: 10_000 }))).toEqual(['medium', 'slow', 'drift']);
    expect(ids(stateOf(145, { total: 10_000 }))).toEqual(['fast', 'medium', 'slow', 'drift']);
  });
});

describe('budgetInWords', () => {
  it('says what is left and for how long', () => {
    const fast = BURN_TIERS[0]!;
    expect(budgetInWords(stateOf(100), fast)).toBe(
      'the 30-day budget is overspent (-9900.0 % left)',
    );
    // 5 of 10,000 bad is half of the budget; at a burn rate of 0.5 the other half lasts 30 days.
    expect(budgetInWords(stateOf(5, { total: 10_000 }), fast)).toBe(
      '50.0 % of the 30-day budget left, which lasts about 30 days at this pace',
    );
    expect(budgetInWords(stateOf(1, { isStale: true }), fast)).toBe('the budget is not measured');
  });
});

describe('applyOverrides', () => {
  it('changes objective and shadow, switches off, and refuses what cannot be', () => {
    const { enabled, disabled } = applyOverrides([slo], {
      token_issuance_success: { objective: 0.99, shadow: true },
    });
    expect(enabled.map((s) => [objectiveOf(s), s.shadow])).toEqual([[0.99, true]]);
    expect(disabled).toEqual([]);
    expect(
      applyOverrides([slo], { token_issuance_success: { enabled: false } }).disabled.map(
        (s) => s.id,
      ),
    ).toEqual(['token_issuance_success']);
    expect(() => applyOverrides([slo], { nothing: {} })).toThrow(
      'slos: no SLO named nothing; allowed: token_issuance_success',
    );
    expect(() => applyOverrides([slo], { token_issuance_success: { objective: 0.9 } })).toThrow(
      /fast can never fire at an objective of 0\.9:/,
    );
  });
});
