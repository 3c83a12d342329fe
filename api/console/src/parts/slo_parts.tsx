import type { JSX } from 'preact';
import type { SloView } from '../../../schemas/overview_view.ts';
import { percent, signedPercent } from '../format.ts';
import { href } from '../router.ts';
import { SloMark } from './marks.tsx';

/** From this burn rate on the budget is spent before its window ends. */
const BURN_TOO_FAST = 1;

/** What is left of the budget, around zero: to the right what is left, to the left what was overspent. */
export function BudgetBar({ remaining }: { readonly remaining: number }): JSX.Element {
  const length = Math.min(1, Math.abs(remaining)) * 50;
  return (
    <svg class="budget" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect class="budget-track" x="0" y="1.5" width="100" height="3" />
      <rect
        class={remaining < 0 ? 'budget-over' : 'budget-left'}
        x={remaining < 0 ? 50 - length : 50}
        y="1.5"
        width={length}
        height="3"
      />
      <rect class="budget-zero" x="49.7" y="0" width=".6" height="6" />
    </svg>
  );
}

export function budgetText(slo: SloView): string {
  if (slo.budget_remaining === null) return 'not measured';
  const amount = signedPercent(slo.budget_remaining);
  return slo.budget_remaining < 0 ? `${amount} overspent` : `${amount} left`;
}

/** Burn rates by window, with a word where the budget goes too fast. */
export function Burn({ slo }: { readonly slo: SloView }): JSX.Element {
  if (slo.burn.length === 0) return <span class="faint">no traffic to measure</span>;
  return (
    <span class="burn">
      {slo.burn.map((b) => (
        <span key={b.window} class={b.rate > BURN_TOO_FAST ? 'burn-fast' : ''}>
          <span class="faint">{b.window}</span> {Number(b.rate.toFixed(1))}×
          {b.rate > BURN_TOO_FAST ? (
            <>
              <span aria-hidden="true">{'\u2191'}</span>
              <span class="unseen"> too fast</span>
            </>
          ) : null}
        </span>
      ))}
    </span>
  );
}

/** One SLO on the first screen. */
export function SloTile({ slo }: { readonly slo: SloView }): JSX.Element {
  return (
    <li class="tile">
      <p class="tile-head">
        <a href={href(['slos', slo.slo_id])}>{slo.title}</a>
        <SloMark state={slo.state} />
      </p>
      <p class="tile-figure">
        {budgetText(slo)}
        <span class="faint">
          {' '}
          of {percent(slo.objective, 3)} over {slo.window}
        </span>
      </p>
      {slo.budget_remaining === null ? (
        <p class="faint small">
          {slo.state === 'no_traffic'
            ? 'No requests in the window.'
            : 'No data in the window: unknown, not healthy.'}
        </p>
      ) : (
        <BudgetBar remaining={slo.budget_remaining} />
      )}
      <p class="small">
        <Burn slo={slo} />
      </p>
    </li>
  );
}
