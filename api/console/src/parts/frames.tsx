import type { ComponentChildren, JSX } from 'preact';
import type { ApiError } from '../api_client.ts';
import { ago, clock } from '../format.ts';
import { now } from '../live.ts';

/** A titled box. */
export function Panel(props: {
  readonly title: string;
  readonly aside?: ComponentChildren;
  readonly children: ComponentChildren;
  readonly flush?: boolean;
}): JSX.Element {
  return (
    <section class={`panel${props.flush === true ? ' flush' : ''}`} aria-label={props.title}>
      <header class="panel-head">
        <h2>{props.title}</h2>
        {props.aside === undefined ? null : <div class="panel-aside">{props.aside}</div>}
      </header>
      {props.children}
    </section>
  );
}

/** Nothing to show, and what to do about it. */
export function Empty(props: {
  readonly title: string;
  readonly children?: ComponentChildren;
}): JSX.Element {
  return (
    <div class="empty">
      <p class="empty-title">{props.title}</p>
      {props.children}
    </div>
  );
}

/** What stands in a place while its data is on the way, or did not come. */
export function Waiting({ error }: { readonly error: ApiError | undefined }): JSX.Element {
  if (error === undefined)
    return (
      <p class="waiting" role="status">
        Loading…
      </p>
    );
  return (
    <div class="empty" role="alert">
      <p class="empty-title">{error.status === 404 ? 'Not found' : 'That did not work'}</p>
      <p>{error.message}</p>
    </div>
  );
}

/** Says that shown data is old because the last reading failed. */
export function StaleNote({ error }: { readonly error: ApiError | undefined }): JSX.Element | null {
  return error === undefined ? null : (
    <p class="note" role="alert">
      This could not be read again, so it may be old: {error.message}
    </p>
  );
}

/** A time in UTC with its distance from now. */
export function When(props: {
  readonly iso: string;
  readonly only?: 'ago' | 'clock';
}): JSX.Element {
  const far = ago(props.iso, now.value);
  const exact = `${clock(props.iso)} UTC`;
  return (
    <time dateTime={props.iso} title={props.only === 'ago' ? exact : far}>
      {props.only === 'ago' ? far : clock(props.iso)}
    </time>
  );
}

/** Names and values in two columns; values that are not known are left out. */
export function Facts(props: {
  readonly items: readonly (readonly [string, ComponentChildren])[];
}): JSX.Element {
  const known = props.items.filter(([, value]) => value !== '' && value !== null);
  return (
    <dl class="facts">
      {known.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
