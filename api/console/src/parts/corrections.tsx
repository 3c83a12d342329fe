import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import type { CorrectionList } from '../../../schemas/alerting_view.ts';
import { postJson, useLoaded } from '../api_client.ts';
import { Empty, Panel, Waiting, When } from './frames.tsx';
import { RequestForm } from './request_form.tsx';

const changed = signal(0);

/** What was taken out of the budget of a service level, and how to take out more. */
export function Corrections({ slo }: { readonly slo: string }): JSX.Element {
  const path = `api/v1/slos/${encodeURIComponent(slo)}/corrections`;
  const { data, error } = useLoaded<CorrectionList>(path, changed);
  return (
    <Panel
      flush
      title="Corrections of the budget"
      aside={<span class="faint">Mute nothing: see Silences</span>}
    >
      {data === undefined ? (
        <Waiting error={error} />
      ) : data.items.length === 0 ? (
        <Empty title="Every minute counts">
          <p>Announced maintenance is taken out here, with who approved it.</p>
        </Empty>
      ) : (
        <CorrectionTable items={data.items} />
      )}
      <RequestForm
        title="Take minutes out of the budget"
        button="Correct"
        fields={[
          { name: 'from', label: 'From', placeholder: '2026-03-01T10:00:00Z' },
          { name: 'to', label: 'To', placeholder: '2026-03-01T11:00:00Z' },
          { name: 'reason', label: 'Reason', placeholder: 'announced upgrade' },
          { name: 'approver', label: 'Approved by', placeholder: 'name' },
        ]}
        send={async (values) => {
          await postJson(path, values);
          changed.value += 1;
        }}
      />
    </Panel>
  );
}

function CorrectionTable({ items }: { readonly items: CorrectionList['items'] }): JSX.Element {
  return (
    <table aria-label="Corrections of the budget">
      <thead>
        <tr>
          {['From', 'To', 'Reason', 'Approved by', 'State'].map((name) => (
            <th key={name} scope="col">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {items.map((c) => (
          <tr key={c.correction_id}>
            <td class="cell-time">
              <When iso={c.from} only="clock" />
            </td>
            <td class="cell-time">
              <When iso={c.to} only="clock" />
            </td>
            <td>
              <bdi>{c.reason}</bdi>
            </td>
            <td>
              <bdi>{c.approver}</bdi>
            </td>
            <td>
              {c.withdrawn_at === '' ? (
                'taken out'
              ) : (
                <>
                  withdrawn by <bdi>{c.withdrawn_by}</bdi>: <bdi>{c.withdrawn_reason}</bdi>
                </>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
