import type { JSX } from 'preact';
import type { ClientList, ClientView } from '../../../schemas/overview_view.ts';
import { useLoaded } from '../api_client.ts';
import { count, plural, words } from '../format.ts';
import { findingsTick } from '../live.ts';
import { Empty, Panel, Waiting, When } from '../parts/frames.tsx';
import { href } from '../router.ts';

/** Clients on the page; the search box finds the others. */
const SHOWN_MAX = 200;

export function Clients(): JSX.Element {
  const { data, error } = useLoaded<ClientList>(`api/v1/clients?limit=${SHOWN_MAX}`, findingsTick);
  return (
    <>
      <h1>Clients</h1>
      <Panel flush title="Active in the last seven days">
        {data === undefined ? (
          <Waiting error={error} />
        ) : data.items.length === 0 ? (
          <Empty title="No client was active">
            <p>Clients appear with their first event.</p>
          </Empty>
        ) : (
          <ClientTable clients={data.items} />
        )}
        {data?.next_cursor == null ? null : (
          <p class="note">The first {SHOWN_MAX} are shown; search for others by their id.</p>
        )}
      </Panel>
    </>
  );
}

function ClientTable({ clients }: { readonly clients: readonly ClientView[] }): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Clients, scrollable">
      <table aria-label="Clients">
        <thead>
          <tr>
            <th scope="col">Client</th>
            <th scope="col" class="number">
              Open findings
            </th>
            <th scope="col" class="number">
              Events
            </th>
            <th scope="col" class="number">
              Failures
            </th>
            <th scope="col">Grants</th>
            <th scope="col">Scopes granted</th>
            <th scope="col">Last event</th>
          </tr>
        </thead>
        <tbody>
          {clients.map((c) => (
            <tr key={c.client_id}>
              <td class="cell-main">
                <a data-row href={href(['investigations', 'client', c.client_id])}>
                  <bdi>{c.client_id}</bdi>
                </a>
                <p class="summary">
                  <bdi>{c.client_name}</bdi>
                </p>
              </td>
              <td class="number">
                {c.open_findings === 0 ? (
                  '0'
                ) : (
                  <a href={href(['findings'], { client_id: c.client_id, state: 'open' })}>
                    {count(c.open_findings)}
                    <span class="unseen"> {plural(c.open_findings, 'open finding')}</span>
                  </a>
                )}
              </td>
              <td class="number">{count(c.events)}</td>
              <td class="number">{count(c.failures)}</td>
              <td>{c.grant_types.map(words).join(', ')}</td>
              <td>
                <bdi>{c.scopes.join(' ')}</bdi>
              </td>
              <td class="cell-time">
                <When iso={c.last_seen} only="ago" />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
