import type { JSX } from 'preact';
import type { Overview as OverviewData, SourceView } from '../../../schemas/overview_view.ts';
import { useLoaded } from '../api_client.ts';
import { count, plural, words } from '../format.ts';
import { findingsTick, slosTick } from '../live.ts';
import { computed } from '@preact/signals';
import { FindingTable } from '../parts/finding_table.tsx';
import { Empty, Panel, StaleNote, Waiting, When } from '../parts/frames.tsx';
import { Shape } from '../parts/marks.tsx';
import { SloTile } from '../parts/slo_parts.tsx';
import { href } from '../router.ts';

const tick = computed(() => findingsTick.value + slosTick.value);

/** Most severe first. */
const LEVELS = ['critical', 'high', 'medium', 'low', 'info'] as const;

export function Overview(): JSX.Element {
  const { data, error } = useLoaded<OverviewData>('api/v1/overview', tick);
  if (data === undefined) return <Waiting error={error} />;
  return (
    <>
      <h1 class="unseen">Overview</h1>
      <StaleNote error={error} />
      {data.events === 0 ? <FirstSteps collector={data.collector} /> : null}
      <Severities data={data} />
      <div class="columns">
        <div>
          <Panel
            flush
            title="Open findings"
            aside={
              <a href={href(['findings'], { state: 'open' })}>
                all {count(data.open_findings.total)}
              </a>
            }
          >
            {data.open_findings.top.length === 0 ? (
              <NoFindings hasEvents={data.events > 0} />
            ) : (
              <FindingTable findings={data.open_findings.top} label="Open findings, worst first" />
            )}
          </Panel>
        </div>
        <div>
          <Panel title="Service levels" aside={<a href={href(['slos'])}>details</a>}>
            {data.slos.length === 0 ? (
              <Empty title="Nothing computed yet">
                <p>Service levels appear when the alerts role has run once.</p>
              </Empty>
            ) : (
              <ul class="tiles">
                {data.slos.map((slo) => (
                  <SloTile key={slo.slo_id} slo={slo} />
                ))}
              </ul>
            )}
          </Panel>
          <Panel flush title="Sources" aside={<span class="faint">last seven days</span>}>
            <Sources sources={data.sources} />
          </Panel>
        </div>
      </div>
    </>
  );
}

function Severities({ data }: { readonly data: OverviewData }): JSX.Element {
  const { by_severity, by_family } = data.open_findings;
  const families = Object.entries(by_family).filter(([, n]) => n > 0);
  return (
    <section class="severities" aria-label="Open findings by severity and family">
      <ul>
        {LEVELS.map((level) => (
          <li key={level} class={by_severity[level] === 0 ? 'none' : `tone-${level}`}>
            <a href={href(['findings'], { state: 'open', severity: level })}>
              <span class="big">{count(by_severity[level])}</span>
              <span class="level">
                <Shape tone={level} /> {level}
              </span>
            </a>
          </li>
        ))}
      </ul>
      {families.length === 0 ? null : (
        <p class="families">
          {families.map(([family, n]) => (
            <a key={family} href={href(['findings'], { state: 'open', family })}>
              {words(family)} <b>{count(n)}</b>
            </a>
          ))}
        </p>
      )}
    </section>
  );
}

function NoFindings({ hasEvents }: { readonly hasEvents: boolean }): JSX.Element {
  return (
    <Empty title="No open findings">
      <p>
        {hasEvents
          ? 'The detectors have seen the events and have nothing to report. That covers only what the sources tell: a field that no source sends cannot raise a finding.'
          : 'Nothing has come in yet, so there is nothing to judge.'}
      </p>
    </Empty>
  );
}

function Sources({ sources }: { readonly sources: readonly SourceView[] }): JSX.Element {
  if (sources.length === 0)
    return (
      <Empty title="No source has sent an event">
        <p>Without data nothing here means “healthy”.</p>
      </Empty>
    );
  return (
    <table aria-label="Sources">
      <thead>
        <tr>
          <th scope="col">Source</th>
          <th scope="col" class="number">
            Last hour
          </th>
          <th scope="col">Last event</th>
        </tr>
      </thead>
      <tbody>
        {sources.map((s) => (
          <tr key={s.source_id}>
            <td>
              <a data-row href={href(['events'], { source_id: s.source_id })}>
                {s.source_id === '' ? '(unnamed)' : s.source_id}
              </a>{' '}
              <span class="faint">{plural(s.instances, 'instance')}</span>
            </td>
            <td class="number">{count(s.events_last_hour)}</td>
            <td>
              <When iso={s.last_event_time} only="ago" />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** An empty installation: how the first event gets in. */
function FirstSteps({ collector }: { readonly collector: string }): JSX.Element {
  const example = `curl ${collector}/v1/events/grantscope \\
  -H 'content-type: application/json' \\
  -d '{"kind":"token_issued","time":"${new Date().toISOString()}","outcome":"success","client":{"id":"my-client"}}'`;
  return (
    <Panel title="Waiting for the first event">
      <p>
        To see every screen filled within a minute, with a real authorization server, honest traffic
        and attacks:
      </p>
      <pre tabIndex={0}>npm run demo</pre>
      <p>
        To send telemetry of your own, point any OpenTelemetry exporter (OTLP over HTTP) at{' '}
        <code>{collector}</code>, or send one event by hand:
      </p>
      <pre tabIndex={0}>{example}</pre>
    </Panel>
  );
}
