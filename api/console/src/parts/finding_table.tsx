import { useRef } from 'preact/hooks';
import type { JSX } from 'preact';
import type { FindingView } from '../../../schemas/finding_view.ts';
import type { TriagedFindingView } from '../../../schemas/triage_view.ts';

import { words } from '../format.ts';
import { href } from '../router.ts';
import { When } from './frames.tsx';
import { EntityLink } from './links.tsx';
import { Severity, Tag } from './marks.tsx';

/** Lists of the overview and of investigations don't say what became of a finding. */
type Listed = FindingView & Partial<Pick<TriagedFindingView, 'triage'>>;

/** Findings as rows; the title of each is a link that the keyboard walks along. New ones are lit up. */
export function FindingTable(props: {
  readonly findings: readonly Listed[];
  readonly label: string;
}): JSX.Element {
  // What was written after the list was opened is news; the rest was there, or comes from further down.
  const openedAt = useRef(Date.now());
  return (
    <table class="findings" aria-label={props.label}>
      <thead>
        <tr>
          <th scope="col">Severity</th>
          <th scope="col">Finding</th>
          <th scope="col">Entity</th>
          <th scope="col" class="number">
            Risk
          </th>
          <th scope="col">Last event</th>
        </tr>
      </thead>
      <tbody>
        {props.findings.map((f) => (
          <Row
            key={f.finding_id}
            finding={f}
            isFresh={Date.parse(f.updated_at) > openedAt.current}
          />
        ))}
      </tbody>
    </table>
  );
}

function Row(props: { readonly finding: Listed; readonly isFresh: boolean }): JSX.Element {
  const { finding: f } = props;
  return (
    <tr class={props.isFresh ? 'fresh' : ''}>
      <td class="cell-severity">
        <Severity value={f.severity} />
      </td>
      <td class="cell-main">
        <a data-row href={href(['findings', f.finding_id])} class="title">
          {f.title}
        </a>
        {f.state === 'open' ? null : <Tag>{f.state}</Tag>}
        {(f.triage?.treatment ?? 'active') === 'active' ? null : <Tag>{f.triage?.treatment}</Tag>}
        {f.verdict === '' ? null : <Tag>{words(f.verdict)}</Tag>}
        <p class="summary">
          <bdi>{f.summary}</bdi>
        </p>
      </td>
      <td class="cell-entity">
        <span class="faint">{words(f.entity_type)}</span>{' '}
        <EntityLink type={f.entity_type} ref_={f.entity_ref} />
      </td>
      <td class="number">{f.risk}</td>
      <td class="cell-time">
        <When iso={f.last_event_time} only="ago" />
      </td>
    </tr>
  );
}
