import type { JSX } from 'preact';
import type { SentAlertList } from '../../../schemas/alerting_view.ts';
import { useLoaded } from '../api_client.ts';
import { words } from '../format.ts';
import { findingsTick } from '../live.ts';
import { Empty, Panel, Waiting, When } from './frames.tsx';

/** What Alertmanager sent about a finding or a service level, and to whom. `of` is `finding_id=...` or `slo=...`. */
export function SentAlerts({ of }: { readonly of: string }): JSX.Element {
  const { data, error } = useLoaded<SentAlertList>(`api/v1/notifications?${of}`, findingsTick);
  return (
    <Panel flush title="Notices sent">
      {data === undefined ? (
        <Waiting error={error} />
      ) : data.items.length === 0 ? (
        <Empty title="Nobody was told">
          <p>Nothing that Alertmanager sent about this has been reported here.</p>
        </Empty>
      ) : (
        <table aria-label="Notices sent">
          <thead>
            <tr>
              {['To', 'Alert', 'Sent', 'Resolved'].map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {data.items.map((n) => (
              <tr key={`${n.receiver} ${n.alertname} ${n.client_id} ${n.severity} ${n.starts_at}`}>
                <th scope="row">{words(n.receiver)}</th>
                <td>
                  {n.alertname} ({n.severity})
                </td>
                <td class="cell-time">
                  {n.sent_at === '' ? 'not told' : <When iso={n.sent_at} />}
                </td>
                <td class="cell-time">
                  {n.resolved_at === '' ? 'not told' : <When iso={n.resolved_at} />}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
