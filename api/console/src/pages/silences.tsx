import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { JSX } from 'preact';
import type { SilenceList, SilenceView } from '../../../schemas/alerting_view.ts';
import { postJson, useLoaded } from '../api_client.ts';
import { plural } from '../format.ts';
import { Empty, Panel, StaleNote, Waiting, When } from '../parts/frames.tsx';
import { Mark } from '../parts/marks.tsx';
import { RequestForm } from '../parts/request_form.tsx';

const changed = signal(0);
/** Alertmanager is asked every five seconds; so is this page. Milliseconds. */
const LOOK_MS = 5_000;
const PATH = 'api/v1/silences';

/** Alerts that reach nobody for a while. */
export function Silences(): JSX.Element {
  const { data, error } = useLoaded<SilenceList>(PATH, changed);
  useEffect(() => {
    const timer = setInterval(() => {
      changed.value += 1;
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      <h1>Silences</h1>
      <p class="lead">
        A silence mutes alerts in Alertmanager. It takes nothing out of an error budget: corrections
        do, on the page of a service level.
      </p>
      <StaleNote error={data === undefined ? undefined : error} />
      <Panel flush title="Ask for a silence">
        <RequestForm
          title="Ask for a silence"
          button="Silence"
          fields={[
            { name: 'label', label: 'Label', placeholder: 'slo' },
            { name: 'value', label: 'Equals', placeholder: 'token_issuance_success' },
            { name: 'ends_at', label: 'Until', placeholder: '2026-03-01T11:00:00Z' },
            { name: 'reason', label: 'Reason', placeholder: 'announced upgrade' },
            { name: 'created_by', label: 'By', placeholder: 'name' },
          ]}
          send={async ({ label, value, ends_at, reason, created_by }) => {
            const matchers = [{ name: label, value }];
            await postJson(PATH, { silence: { matchers, ends_at, reason }, created_by });
            changed.value += 1;
          }}
        />
      </Panel>
      <Panel flush title="Silences">
        {data === undefined ? (
          <Waiting error={error} />
        ) : data.items.length === 0 ? (
          <Empty title="Nothing is silenced">
            <p>Every alert reaches whom it should.</p>
          </Empty>
        ) : (
          <SilenceTable silences={data.items} />
        )}
      </Panel>
    </>
  );
}

const LIVE: readonly string[] = ['pending', 'scheduled', 'active', 'refused', 'ended'];
const TONES: Readonly<Record<string, 'good' | 'bad'>> = {
  active: 'good',
  refused: 'bad',
  ended: 'bad',
};

function SilenceTable({ silences }: { readonly silences: readonly SilenceView[] }): JSX.Element {
  return (
    <table aria-label="Silences">
      <thead>
        <tr>
          {['Alerts with', 'State', 'Mutes', 'Until', 'By and why', 'Withdraw'].map((name) => (
            <th key={name} scope="col">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {silences.map((s) => (
          <tr key={s.silence_id}>
            <th scope="row">
              <bdi>{s.matchers.map(matcherText).join(', ')}</bdi>
            </th>
            <td>
              <Mark tone={TONES[s.state] ?? 'quiet'}>{s.state}</Mark>
              {s.error === '' ? null : <p class="summary">{s.error}</p>}
            </td>
            <td>
              {s.mutes.length === 0 ? 'nothing now' : plural(s.mutes.length, 'alert')}
              <p class="summary">
                {[...new Set(s.mutes.map((labels) => labels['alertname'] ?? ''))].join(', ')}
              </p>
            </td>
            <td class="cell-time">
              <When iso={s.ends_at} />
            </td>
            <td>
              <bdi>{s.created_by}</bdi>: <bdi>{s.reason}</bdi>
              {s.withdrawn_at === '' ? null : (
                <p class="summary">
                  withdrawn by <bdi>{s.withdrawn_by}</bdi>: <bdi>{s.withdrawn_reason}</bdi>
                </p>
              )}
            </td>
            <td>{LIVE.includes(s.state) ? <Withdraw id={s.silence_id} /> : null}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function matcherText(m: SilenceView['matchers'][number]): string {
  const sign = m.is_regex ? (m.is_equal ? '=~' : '!~') : m.is_equal ? '=' : '!=';
  return `${m.name}${sign}"${m.value}"`;
}

function Withdraw({ id }: { readonly id: string }): JSX.Element {
  return (
    <RequestForm
      title="Withdraw the silence"
      button="Withdraw"
      fields={[
        { name: 'withdrawn_by', label: 'By', placeholder: 'name' },
        { name: 'reason', label: 'Reason', placeholder: 'done early' },
      ]}
      send={async (values) => {
        await postJson(`${PATH}/${id}/withdraw`, values);
        changed.value += 1;
      }}
    />
  );
}
