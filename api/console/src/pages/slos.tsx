import type { JSX } from 'preact';
import type { SloList, SloView } from '../../../schemas/overview_view.ts';
import { useLoaded } from '../api_client.ts';
import { count, percent, words } from '../format.ts';
import { slosTick } from '../live.ts';
import { Corrections } from '../parts/corrections.tsx';
import { Empty, Facts, Panel, StaleNote, Waiting, When } from '../parts/frames.tsx';
import { SloMark, Tag } from '../parts/marks.tsx';
import { SentAlerts } from '../parts/sent_alerts.tsx';
import { BudgetBar, budgetText, Burn } from '../parts/slo_parts.tsx';
import { href } from '../router.ts';

export function Slos(): JSX.Element {
  const { data, error } = useLoaded<SloList>('api/v1/slos', slosTick);
  return (
    <>
      <h1>Service levels</h1>
      <StaleNote error={data === undefined ? undefined : error} />
      <Panel flush title="States">
        {data === undefined ? (
          <Waiting error={error} />
        ) : data.items.length === 0 ? (
          <Empty title="Nothing computed yet">
            <p>Service levels appear when the alerts role has run once.</p>
          </Empty>
        ) : (
          <SloTable slos={data.items} />
        )}
      </Panel>
    </>
  );
}

function SloTable({ slos }: { readonly slos: readonly SloView[] }): JSX.Element {
  return (
    <table class="slos" aria-label="Service levels">
      <thead>
        <tr>
          {['Service level', 'State', 'Budget', 'Burn rate', 'Bad of all'].map((name) => (
            <th key={name} scope="col">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {slos.map((slo) => (
          <tr key={slo.slo_id}>
            <td class="cell-main">
              <a data-row class="title" href={href(['slos', slo.slo_id])}>
                {slo.title}
              </a>
              {slo.shadow ? <Tag>shadow</Tag> : null}
              <p class="summary">
                {percent(slo.objective, 3)} over {slo.window}
              </p>
            </td>
            <td>
              <SloMark state={slo.state} />
            </td>
            <td class="cell-budget">
              {budgetText(slo)}
              {slo.budget_remaining === null ? null : (
                <BudgetBar remaining={slo.budget_remaining} />
              )}
            </td>
            <td>
              <Burn slo={slo} />
            </td>
            <td class="cell-time">
              {count(slo.bad)} of {count(slo.good + slo.bad)}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function SloPage({ id }: { readonly id: string }): JSX.Element {
  const { data: slo, error } = useLoaded<SloView>(
    `api/v1/slos/${encodeURIComponent(id)}`,
    slosTick,
  );
  if (slo === undefined) return <Waiting error={error} />;
  return (
    <article>
      <StaleNote error={error} />
      <header class="page-head">
        <p class="crumbs">
          <a href={href(['slos'])}>Service levels</a>
        </p>
        <h1>{slo.title}</h1>
        <p class="head-marks">
          <SloMark state={slo.state} />
          {slo.shadow ? <Tag>shadow: never alerts</Tag> : null}
        </p>
        <p class="lead">{slo.description}</p>
      </header>
      <div class="columns even">
        <Panel title="Error budget">
          <p class="figure">{budgetText(slo)}</p>
          {slo.budget_remaining === null ? (
            <p>There is no data in the window. That is unknown, not healthy.</p>
          ) : (
            <BudgetBar remaining={slo.budget_remaining} />
          )}
          <SloFacts slo={slo} />
        </Panel>
        <Panel
          flush
          title="Burn rate"
          aside={<span class="faint">1× spends the budget exactly</span>}
        >
          <BurnTable slo={slo} />
        </Panel>
      </div>
      <SentAlerts of={`slo=${encodeURIComponent(id)}`} />
      <Corrections slo={id} />
    </article>
  );
}

function SloFacts({ slo }: { readonly slo: SloView }): JSX.Element {
  return (
    <Facts
      items={[
        ['objective', `${percent(slo.objective, 3)} over ${slo.window}`],
        ['good', count(slo.good)],
        ['bad', count(slo.bad)],
        ['excluded', count(slo.excluded)],
        ['data coverage', percent(slo.coverage, 1)],
        ['complete until', <When iso={slo.watermark} />],
        ['computed', <When iso={slo.computed_at} />],
        ['owner', slo.owner],
        [
          'runbook',
          slo.runbook === '' ? (
            ''
          ) : (
            <a href={href(['runbooks', slo.runbook])}>{words(slo.runbook)}</a>
          ),
        ],
      ]}
    />
  );
}

function BurnTable({ slo }: { readonly slo: SloView }): JSX.Element {
  if (slo.burn.length === 0) return <Empty title="No traffic to measure" />;
  return (
    <table aria-label="Burn rate by window">
      <thead>
        <tr>
          <th scope="col">Window</th>
          {['Burn rate', 'Bad', 'All'].map((name) => (
            <th key={name} scope="col" class="number">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {slo.burn.map((b) => (
          <tr key={b.window}>
            <th scope="row">{b.window}</th>
            <td class={`number${b.rate > 1 ? ' burn-fast' : ''}`}>
              {b.rate.toFixed(2)}×{b.rate > 1 ? ' too fast' : ''}
            </td>
            <td class="number">{count(b.bad)}</td>
            <td class="number">{count(b.good + b.bad)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
