import type { SloPeriod } from '../../model/report.ts';
import { sloCounts, type Span } from '../../store/queries/reports.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { readSlos } from '../../store/queries/slos.ts';
import { parseDuration } from '../duration.ts';
import { round } from './figures.ts';

/** All SLOs over a period, as they were counted by the minute. */
export async function slosOf(scope: Scope, span: Span, before: Span): Promise<SloPeriod[]> {
  const states = await readSlos(scope);
  const none = { good: 0, bad: 0, excluded: 0 };
  const current = await sloCounts(scope, span);
  const previous = await sloCounts(scope, before);
  const windows = new Map<string, Awaited<ReturnType<typeof sloCounts>>>();
  for (const window of new Set(states.map((s) => s.window))) {
    const fromMs = span.toMs - parseDuration('window', window);
    windows.set(window, await sloCounts(scope, { fromMs, toMs: span.toMs }));
  }
  return states.map((s) => {
    const counts = current.get(s.slo_id) ?? none;
    const whole = windows.get(s.window)?.get(s.slo_id) ?? none;
    const budget = (1 - s.objective) * (whole.good + whole.bad);
    return {
      slo_id: s.slo_id,
      state: s.state,
      objective_percent: round(s.objective * 100, 4),
      ...counts,
      previous_bad: (previous.get(s.slo_id) ?? none).bad,
      good_percent:
        counts.good + counts.bad === 0
          ? null
          : round((100 * counts.good) / (counts.good + counts.bad), 4),
      budget_spent_percent: budget === 0 ? null : round((100 * counts.bad) / budget, 1),
      budget_remaining_percent:
        s.budget_remaining === null ? null : round(s.budget_remaining * 100, 1),
    };
  });
}
