import type { JSX } from 'preact';
import { useLoaded } from '../api_client.ts';
import { asText, words } from '../format.ts';
import { Panel, Waiting } from '../parts/frames.tsx';
import { EntityLink } from '../parts/links.tsx';
import { Timeline } from '../parts/timeline.tsx';
import { place } from '../router.ts';

/** Events that the address filters, newest first. */
export function Events(): JSX.Element {
  const { query } = place.value;
  return (
    <>
      <h1>Events</h1>
      <p class="head-marks">
        {[...query].map(([name, value]) => (
          <span key={name} class="tag">
            {words(name)}: <bdi>{value}</bdi>
          </span>
        ))}
      </p>
      <Panel flush title="Newest first">
        <Timeline path={`api/v1/events?${query.toString()}`} empty="No event matches" />
      </Panel>
    </>
  );
}

const NIL = '00000000-0000-0000-0000-000000000000';

/** Columns that lead to an investigation. */
const ENTITIES: Readonly<Record<string, string>> = {
  client_id: 'client',
  subject_ref: 'subject',
  actor_ref: 'subject',
  session_ref: 'session',
  grant_ref: 'grant',
  net_network: 'network',
  source_id: 'source',
};

/** Everything stored of one event; what is unknown is left out. */
export function EventPage({ id }: { readonly id: string }): JSX.Element {
  const { data, error } = useLoaded<Readonly<Record<string, unknown>>>(
    `api/v1/events/${encodeURIComponent(id)}`,
  );
  if (data === undefined) return <Waiting error={error} />;
  const known = Object.entries(data).filter(([, value]) => isKnown(value));
  return (
    <article>
      <header class="page-head">
        <p class="crumbs">Event</p>
        <h1>{words(asText(data['kind']))}</h1>
      </header>
      <Panel flush title="Stored fields">
        <table class="evidence" aria-label="Stored fields">
          <tbody>
            {known.map(([name, value]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>
                  <Field name={name} value={value} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Panel>
    </article>
  );
}

function isKnown(value: unknown): boolean {
  if (value === '' || value === NIL || value === 'unknown' || value === 0) return false;
  if (value === null) return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}

function Field({ name, value }: { readonly name: string; readonly value: unknown }): JSX.Element {
  const entity = ENTITIES[name];
  if (entity !== undefined) return <EntityLink type={entity} ref_={asText(value)} full />;
  if (name === 'tokens.ref' && Array.isArray(value))
    return (
      <>
        {value.map((ref) => (
          <div key={String(ref)}>
            <EntityLink type="token" ref_={String(ref)} full />
          </div>
        ))}
      </>
    );
  if (Array.isArray(value)) return <bdi>{value.map(asText).join(', ')}</bdi>;
  if (typeof value === 'object') return <pre tabIndex={0}>{JSON.stringify(value, null, 2)}</pre>;
  return <bdi>{asText(value)}</bdi>;
}
