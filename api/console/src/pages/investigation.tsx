import { useState } from 'preact/hooks';
import type { JSX } from 'preact';
import type { Facet, InvestigationView, LedgerToken } from '../../../schemas/investigation_view.ts';
import { useLoaded } from '../api_client.ts';
import { clock, count, duration, plural, words } from '../format.ts';
import { findingsTick } from '../live.ts';
import { FindingTable } from '../parts/finding_table.tsx';
import { Facts, Panel, StaleNote, Waiting, When } from '../parts/frames.tsx';
import { EntityLink } from '../parts/links.tsx';
import { Tag } from '../parts/marks.tsx';
import { Timeline } from '../parts/timeline.tsx';

export function Investigation(props: {
  readonly type: string;
  readonly ref_: string;
}): JSX.Element {
  const path = `api/v1/investigations/${encodeURIComponent(props.type)}/${encodeURIComponent(props.ref_)}`;
  const { data, error } = useLoaded<InvestigationView>(path, findingsTick);
  if (data === undefined) return <Waiting error={error} />;
  return (
    <article>
      <StaleNote error={error} />
      <header class="page-head">
        <p class="crumbs">Investigation</p>
        <h1>
          {words(data.type)} <bdi class="ref">{data.ref}</bdi>
        </h1>
        <p class="lead">{sentence(data)}</p>
      </header>
      {data.findings.length === 0 ? null : (
        <Panel flush title="Findings">
          <FindingTable findings={data.findings} label="Findings that name it" />
        </Panel>
      )}
      {data.tokens.length === 0 ? null : <Lineage data={data} />}
      <div class="columns wide-left">
        <EventPanel path={path} />
        <div>
          <Panel title="At a glance">
            <Glance data={data} />
          </Panel>
          <Facets data={data} />
        </div>
      </div>
    </article>
  );
}

function sentence(data: InvestigationView): string {
  if (data.first_seen === null || data.last_seen === null)
    return 'No event names it any more; findings do.';
  const span = duration(Date.parse(data.last_seen) - Date.parse(data.first_seen));
  return `${plural(data.events, 'event')} within ${span}, ${plural(data.failures, 'failure')}, ${plural(data.networks.total, 'network')}, ${plural(data.findings.length, 'finding')}.`;
}

function EventPanel({ path }: { readonly path: string }): JSX.Element {
  const [sort, setSort] = useState<'time' | '-time'>('time');
  const other = sort === 'time' ? '-time' : 'time';
  return (
    <Panel
      flush
      title="Timeline"
      aside={
        <button type="button" class="quiet" onClick={() => setSort(other)}>
          {sort === 'time' ? 'oldest first' : 'newest first'}
        </button>
      }
    >
      <Timeline path={`${path}/timeline?sort=${sort}`} empty="No events" />
    </Panel>
  );
}

function Glance({ data }: { readonly data: InvestigationView }): JSX.Element {
  return (
    <Facts
      items={[
        ['first seen', data.first_seen === null ? '' : <When iso={data.first_seen} />],
        ['last seen', data.last_seen === null ? '' : <When iso={data.last_seen} />],
        ['events', count(data.events)],
        ['failures', count(data.failures)],
      ]}
    />
  );
}

/** Facets in the order in which they tell most; `entity` makes the names links. */
const FACETS: readonly (readonly [string, (d: InvestigationView) => Facet, string])[] = [
  ['Networks', (d) => d.networks, 'network'],
  ['Clients', (d) => d.clients, 'client'],
  ['User agents', (d) => d.user_agents, ''],
  ['Scopes granted', (d) => d.scopes, ''],
  ['Resources', (d) => d.resources, ''],
  ['Subjects', (d) => d.subjects, 'subject'],
  ['Sessions', (d) => d.sessions, 'session'],
  ['Kinds', (d) => d.kinds, ''],
  ['Sources', (d) => d.sources, 'source'],
];

/** Names shown per facet. */
const SHOWN = 8;

function Facets({ data }: { readonly data: InvestigationView }): JSX.Element {
  const known = FACETS.map(([title, of, entity]) => ({ title, facet: of(data), entity })).filter(
    ({ facet }) => facet.total > 0,
  );
  return (
    <Panel title="Seen with">
      {known.map(({ title, facet, entity }) => (
        <FacetList key={title} title={title} facet={facet} entity={entity} />
      ))}
    </Panel>
  );
}

function FacetList(props: {
  readonly title: string;
  readonly facet: Facet;
  readonly entity: string;
}): JSX.Element {
  const { facet, entity } = props;
  const most = facet.values[0]?.events ?? 1;
  const rest = facet.total - Math.min(SHOWN, facet.values.length);
  return (
    <section class="facet">
      <h3>
        {props.title} <span class="faint">{count(facet.total)}</span>
      </h3>
      <ul>
        {facet.values.slice(0, SHOWN).map((v) => (
          <li key={v.name}>
            <span class="facet-name">
              {entity === '' ? (
                <bdi>{props.title === 'Kinds' ? words(v.name) : v.name}</bdi>
              ) : (
                <EntityLink type={entity} ref_={v.name} />
              )}
            </span>
            <span class="number">{count(v.events)}</span>
            <svg class="bar" viewBox="0 0 100 2" preserveAspectRatio="none" aria-hidden="true">
              <rect width={(100 * v.events) / most} height="2" />
            </svg>
          </li>
        ))}
      </ul>
      {rest > 0 ? <p class="faint small">and {count(rest)} more</p> : null}
    </section>
  );
}

function Lineage({ data }: { readonly data: InvestigationView }): JSX.Element {
  return (
    <Panel
      flush
      title="Lineage"
      aside={
        <span class="faint">
          {data.tokens_truncated ? 'the oldest ' : ''}
          {plural(data.tokens.length, 'token')}
        </span>
      }
    >
      <div class="scroll" tabIndex={0} role="region" aria-label="Tokens of the family">
        <table aria-label="Lineage">
          <thead>
            <tr>
              {['Token', 'Relation', 'From', 'First seen', 'Used', 'State'].map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {data.tokens.map((token) => (
              <LineageRow key={token.ref} token={token} />
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function LineageRow({ token: t }: { readonly token: LedgerToken }): JSX.Element {
  const uses = [
    ...(t.presented > 0 ? [`presented ${t.presented}×`] : []),
    ...(t.consumed > 0 ? [`consumed ${t.consumed}×`] : []),
  ];
  return (
    <tr class={t.relation === 'self' ? 'self' : ''}>
      <td>
        {words(t.type)} <EntityLink type="token" ref_={t.ref} />
      </td>
      <td>
        <Tag>{t.relation}</Tag>
      </td>
      <td>{t.parent_ref === '' ? '' : <EntityLink type="token" ref_={t.parent_ref} />}</td>
      <td class="cell-time">{clock(t.first_seen)}</td>
      <td>{uses.length === 0 ? <span class="faint">not seen</span> : uses.join(', ')}</td>
      <td>{stateOf(t)}</td>
    </tr>
  );
}

function stateOf(t: LedgerToken): string {
  if (t.revoked_at !== null) return `revoked ${clock(t.revoked_at)}`;
  return t.expires_at === null ? '' : `expires ${clock(t.expires_at)}`;
}
