import { useEffect, useState } from 'preact/hooks';
import type { JSX } from 'preact';
import type { EventSummary, TimelineEvent } from '../../../schemas/event_view.ts';
import { ApiError, getJson, useLoaded } from '../api_client.ts';
import { clock, duration, words } from '../format.ts';
import { findingsTick } from '../live.ts';
import { href } from '../router.ts';
import { Empty, Waiting } from './frames.tsx';
import { EntityLink } from './links.tsx';
import { Outcome, Tag } from './marks.tsx';

type Entry = EventSummary & { readonly relation?: TimelineEvent['relation'] };

interface PageOf {
  readonly items: readonly Entry[];
  readonly next_cursor: string | null;
}

/** Events per page of a timeline. */
const PAGE = 50;

/** Events of an address that pages, with a button for more. `marked` events are evidence. */
export function Timeline(props: {
  readonly path: string;
  readonly marked?: ReadonlySet<string>;
  readonly empty?: string;
}): JSX.Element {
  const join = props.path.includes('?') ? '&' : '?';
  const first = `${props.path}${join}limit=${PAGE}`;
  const { data, error } = useLoaded<PageOf>(first, findingsTick);
  const [more, setMore] = useState<readonly PageOf[]>([]);
  const [problem, setProblem] = useState<ApiError>();
  useEffect(() => setMore([]), [first]);
  if (data === undefined) {
    if (error?.status === 404) return <Empty title={props.empty ?? 'No events'} />;
    return <Waiting error={error} />;
  }
  const pages = [data, ...more];
  const entries = pages.flatMap((p) => p.items);
  const next = pages.at(-1)?.next_cursor ?? null;
  const load = (): void => {
    getJson<PageOf>(`${first}&cursor=${next ?? ''}`)
      .then((page) => setMore((old) => [...old, page]))
      .catch((e: unknown) => setProblem(e instanceof ApiError ? e : new ApiError(0, String(e))));
  };
  if (entries.length === 0) return <Empty title={props.empty ?? 'No events'} />;
  return (
    <>
      <ol class="timeline">
        {entries.map((entry, i) => (
          <Item
            key={entry.event_id}
            entry={entry}
            before={entries[i - 1]}
            isMarked={props.marked?.has(entry.event_id) === true}
          />
        ))}
      </ol>
      {problem === undefined ? null : <Waiting error={problem} />}
      {next === null ? null : (
        <button type="button" class="more" onClick={load}>
          Show more events
        </button>
      )}
    </>
  );
}

function Item(props: {
  readonly entry: Entry;
  readonly before: Entry | undefined;
  readonly isMarked: boolean;
}): JSX.Element {
  const { entry, before } = props;
  const gap = before === undefined ? undefined : Date.parse(entry.time) - Date.parse(before.time);
  return (
    <li class={`event outcome-${entry.outcome}${props.isMarked ? ' marked' : ''}`}>
      <div class="event-time">
        <time dateTime={entry.time} title={`${entry.time} (UTC)`}>
          <span class="event-clock">{clock(entry.time, true).slice(11)}</span>{' '}
          <span class="event-day">{entry.time.slice(0, 10)}</span>
        </time>
        {gap === undefined ? null : (
          <span class="gap">
            {gap < 0 ? '\u2212' : '+'}
            {duration(gap)}
          </span>
        )}
      </div>
      <div class="event-body">
        <p class="event-head">
          <a data-row href={href(['events', entry.event_id])} class="event-kind">
            {words(entry.kind)}
          </a>
          <Outcome value={entry.outcome} />
          {props.isMarked ? <Tag>evidence</Tag> : null}
          {entry.relation === undefined || entry.relation === 'self' ? null : (
            <Tag>{entry.relation}</Tag>
          )}
          <ErrorText entry={entry} />
        </p>
        <Details entry={entry} />
        <Tokens entry={entry} />
      </div>
    </li>
  );
}

function ErrorText({ entry }: { readonly entry: Entry }): JSX.Element | null {
  const code = entry.oauth_error || entry.error_code;
  if (code === '' && entry.error_detail === '') return null;
  return (
    <span class="error-text">
      {code === '' ? null : <code>{code}</code>} <bdi>{entry.error_detail}</bdi>
    </span>
  );
}

function Details({ entry }: { readonly entry: Entry }): JSX.Element {
  const scopes = entry.scopes_granted.length > 0 ? entry.scopes_granted : entry.scopes_requested;
  const status = entry.http_status === 0 ? '' : String(entry.http_status);
  const parts: (JSX.Element | string)[] = [
    ...(entry.client_id === '' ? [] : [<EntityLink type="client" ref_={entry.client_id} />]),
    ...(entry.network === '' ? [] : [<EntityLink type="network" ref_={entry.network} />]),
    ...(entry.country === '' ? [] : [entry.country]),
    ...(entry.ua_family === '' ? [] : [<bdi title={entry.user_agent}>{entry.ua_family}</bdi>]),
    ...(scopes.length === 0 ? [] : [<bdi>{scopes.join(' ')}</bdi>]),
    ...[entry.http_route, entry.resource.join(' '), entry.redirect_uri, status]
      .filter((text) => text !== '')
      .map((text) => <bdi>{text}</bdi>),
    ...(entry.source_id === '' ? [] : [<span class="faint">{entry.source_id}</span>]),
  ];
  return (
    <p class="event-details">
      {parts.map((part, i) => (
        <span key={i}>{part}</span>
      ))}
    </p>
  );
}

function Tokens({ entry }: { readonly entry: Entry }): JSX.Element | null {
  if (entry.tokens.length === 0) return null;
  return (
    <p class="event-tokens">
      {entry.tokens.map((token, i) => (
        <span key={i} class="token">
          {token.role} {words(token.type)} <EntityLink type="token" ref_={token.ref} />
        </span>
      ))}
    </p>
  );
}
