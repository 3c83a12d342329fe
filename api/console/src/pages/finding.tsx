import type { JSX } from 'preact';
import type { FindingView } from '../../../schemas/finding_view.ts';
import type { TriagedFindingView } from '../../../schemas/triage_view.ts';
import { useLoaded } from '../api_client.ts';
import { asText, words } from '../format.ts';
import { findingsTick } from '../live.ts';
import { Empty, Facts, Panel, StaleNote, Waiting, When } from '../parts/frames.tsx';
import { EntityLink, placeOf, Reference } from '../parts/links.tsx';
import { Severity, Tag } from '../parts/marks.tsx';
import { SentAlerts } from '../parts/sent_alerts.tsx';
import { Timeline } from '../parts/timeline.tsx';
import { href } from '../router.ts';

export function FindingPage({ id }: { readonly id: string }): JSX.Element {
  const { data, error } = useLoaded<TriagedFindingView>(
    `api/v1/findings/${encodeURIComponent(id)}`,
    findingsTick,
  );
  if (data === undefined) return <Waiting error={error} />;
  return (
    <article>
      <StaleNote error={error} />
      <Head finding={data} />
      <div class="columns wide-left">
        <div>
          <Panel title="Why">
            {data.reasons.length === 0 ? (
              <p>{data.summary}</p>
            ) : (
              <ol class="reasons">
                {data.reasons.map((reason, i) => (
                  <li key={i}>
                    <bdi>{reason}</bdi>
                  </li>
                ))}
              </ol>
            )}
          </Panel>
          <Panel flush title="Timeline">
            <EventsOf finding={data} />
          </Panel>
        </div>
        <div>
          <Panel title="Facts">
            <FactsOf finding={data} />
          </Panel>
          <Panel flush title="Evidence">
            <Evidence evidence={data.evidence} />
          </Panel>
          <SentAlerts of={`finding_id=${encodeURIComponent(id)}`} />
          <Panel title="What to do">
            <p>
              {data.runbook === '' ? (
                'This rule names no runbook.'
              ) : (
                <a href={href(['runbooks', data.runbook])}>Runbook: {words(data.runbook)}</a>
              )}
            </p>
            <ul class="plain">
              {data.references.map((text) => (
                <li key={text}>
                  <Reference text={text} />
                </li>
              ))}
            </ul>
          </Panel>
        </div>
      </div>
    </article>
  );
}

function Head({ finding: f }: { readonly finding: TriagedFindingView }): JSX.Element {
  return (
    <header class="page-head">
      <p class="crumbs">
        <a href={href(['findings'])}>Findings</a> <span aria-hidden="true">/</span>{' '}
        <a href={href(['findings'], { rule_id: f.rule_id })}>{f.rule_id}</a>
      </p>
      <h1>{f.title}</h1>
      <p class="head-marks">
        <Severity value={f.severity} />
        <Tag>{f.state}</Tag>
        {f.verdict === '' ? null : <Tag>verdict: {words(f.verdict)}</Tag>}
        <Tag>{words(f.family)}</Tag>
        {f.disposition === null ? null : <Tag>{words(f.disposition)}</Tag>}
      </p>
      <Treatment finding={f} />
      <p class="lead">
        <bdi>{f.summary}</bdi>
      </p>
    </header>
  );
}

/** Why nobody was told, or why somebody was after all. */
function Treatment({ finding: f }: { readonly finding: TriagedFindingView }): JSX.Element | null {
  const step = f.triage;
  if (step === null || step.treated_reason === '') return null;
  return (
    <p>
      <Tag>{step.treatment}</Tag>{' '}
      <bdi>
        {step.treated_owner === '' ? '' : `by ${step.treated_owner}: `}
        {step.treated_reason}
      </bdi>{' '}
      {step.treated_by === '' ? null : (
        <span class="faint">
          ({words(step.treated_kind)} <bdi class="ref">{step.treated_by}</bdi>, until{' '}
          <When iso={step.treated_until} />)
        </span>
      )}
    </p>
  );
}

function FactsOf({ finding: f }: { readonly finding: TriagedFindingView }): JSX.Element {
  return (
    <Facts
      items={[
        [words(f.entity_type), <EntityLink type={f.entity_type} ref_={f.entity_ref} full />],
        ['client', f.client_id === '' ? '' : <EntityLink type="client" ref_={f.client_id} full />],
        [
          'subject',
          f.subject_ref === '' ? '' : <EntityLink type="subject" ref_={f.subject_ref} full />,
        ],
        ['issuer', f.issuer === '' ? '' : <bdi>{f.issuer}</bdi>],
        [
          'networks',
          f.networks.length === 0
            ? ''
            : f.networks.map((n) => (
                <div key={n}>
                  <EntityLink type="network" ref_={n} />
                </div>
              )),
        ],
        ['risk', `${f.risk} of 100`],
        ['confidence', `${f.confidence} of 100`],
        ['first event', <When iso={f.first_event_time} />],
        ['last event', <When iso={f.last_event_time} />],
        ['detected', <When iso={f.detected_at} />],
        ['reopened', f.triage === null || f.triage.reopened === 0 ? '' : `${f.triage.reopened} ×`],
        ['rule', `${f.rule_id}, version ${f.rule_version}`],
        ['id', <bdi class="ref">{f.finding_id}</bdi>],
      ]}
    />
  );
}

function Evidence({ evidence }: { readonly evidence: FindingView['evidence'] }): JSX.Element {
  const entries = Object.entries(evidence);
  if (entries.length === 0) return <Empty title="The rule gives no further evidence" />;
  return (
    <table class="evidence" aria-label="Evidence">
      <tbody>
        {entries.map(([name, value]) => (
          <tr key={name}>
            <th scope="row">
              <bdi>{words(name)}</bdi>
            </th>
            <td>
              <Value value={value} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Any JSON as text. */
function Value({ value }: { readonly value: unknown }): JSX.Element {
  if (value === null || value === '') return <span class="faint">unknown</span>;
  if (Array.isArray(value) && value.every((v) => typeof v !== 'object'))
    return <bdi>{value.map(asText).join(', ')}</bdi>;
  if (typeof value === 'object') return <pre tabIndex={0}>{JSON.stringify(value, null, 2)}</pre>;
  return <bdi>{asText(value)}</bdi>;
}

/** The entity's events where it can be investigated, else those of its client around the evidence. */
function EventsOf({ finding: f }: { readonly finding: FindingView }): JSX.Element {
  const marked = new Set(f.event_ids);
  const place = placeOf(f.entity_type, f.entity_ref);
  if (place?.startsWith('#/investigations/') === true)
    return (
      <Timeline
        path={`api/v1/${place.slice(2)}/timeline`}
        marked={marked}
        empty="The events are no longer stored, or have not reached the store yet."
      />
    );
  // A second more, because the end is not included.
  const to = new Date(Date.parse(f.last_event_time) + 1_000).toISOString();
  const query = new URLSearchParams({
    from: f.first_event_time,
    to,
    ...(f.client_id === '' ? {} : { client_id: f.client_id }),
    ...(f.entity_type === 'network' ? { network: f.entity_ref } : {}),
  });
  return <Timeline path={`api/v1/events?${query.toString()}`} marked={marked} />;
}
