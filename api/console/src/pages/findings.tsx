import { useEffect, useState } from 'preact/hooks';
import type { JSX } from 'preact';
import type { FindingView } from '../../../schemas/finding_view.ts';
import type { TriagedFindingList } from '../../../schemas/triage_view.ts';
import { ApiError, getJson, useLoaded } from '../api_client.ts';
import { plural, words } from '../format.ts';
import { findingsTick } from '../live.ts';
import { FindingTable } from '../parts/finding_table.tsx';
import { Empty, Panel, StaleNote, Waiting } from '../parts/frames.tsx';
import { go, href, place } from '../router.ts';

/** Filters of the list, which are also the parameters of the API and of the page's address. */
const FILTERS = [
  'q',
  'state',
  'severity',
  'family',
  'rule_id',
  'client_id',
  'entity_type',
  'entity_ref',
  'from',
  'to',
  'sort',
] as const;
type Filter = (typeof FILTERS)[number];

interface Choice {
  readonly name: Filter;
  readonly label: string;
  readonly any: string;
  readonly options: readonly (readonly [string, string])[];
}

const named = (...values: readonly string[]): readonly (readonly [string, string])[] =>
  values.map((v) => [v, words(v)] as const);

const CHOICES: readonly Choice[] = [
  { name: 'state', label: 'State', any: 'any', options: named('open', 'closed', 'superseded') },
  {
    name: 'severity',
    label: 'Severity',
    any: 'any',
    options: [
      ['critical', 'critical'],
      ['high', 'high and above'],
      ['medium', 'medium and above'],
      ['low', 'low and above'],
    ],
  },
  {
    name: 'family',
    label: 'Family',
    any: 'any',
    options: named(
      'token_replay',
      'scope_escalation',
      'redirect_abuse',
      'credential_abuse',
      'protocol',
      'operations',
      'hygiene',
    ),
  },
  {
    name: 'sort',
    label: 'Order',
    any: 'latest event',
    options: [
      ['-severity', 'most severe'],
      ['-risk', 'highest risk'],
      ['-detected_at', 'last detected'],
      ['last_event_time', 'oldest event'],
    ],
  },
];

type Values = Readonly<Partial<Record<Filter, string>>>;

function currentValues(): Values {
  const { query } = place.value;
  return Object.fromEntries(
    FILTERS.map((f) => [f, query.get(f) ?? '']).filter(([, value]) => value !== ''),
  ) as Values;
}

function change(name: Filter, value: string): void {
  go(href(['findings'], { ...currentValues(), [name]: value }), { replace: true });
}

export function Findings(): JSX.Element {
  const values = currentValues();
  const path = `api/v1/findings?${new URLSearchParams(values).toString()}`;
  const { data, error } = useLoaded<TriagedFindingList>(path, findingsTick);
  return (
    <>
      <h1>Findings</h1>
      <FilterBar values={values} />
      <StaleNote error={data === undefined ? undefined : error} />
      <Panel
        flush
        title="Results"
        aside={
          <span role="status" class="faint">
            {data === undefined ? '' : plural(data.total, 'finding')}
          </span>
        }
      >
        {data === undefined ? <Waiting error={error} /> : <Results path={path} data={data} />}
      </Panel>
    </>
  );
}

function FilterBar({ values }: { readonly values: Values }): JSX.Element {
  const fixed = FILTERS.filter(
    (f) => f !== 'q' && values[f] !== undefined && !CHOICES.some((c) => c.name === f),
  );
  return (
    <div class="filters" role="group" aria-label="Filters">
      <label>
        <span>Text</span>
        <input
          type="text"
          value={values.q ?? ''}
          maxLength={512}
          spellcheck={false}
          placeholder="title, summary, rule, client, entity"
          onInput={(event) => change('q', event.currentTarget.value)}
        />
      </label>
      {CHOICES.map((choice) => (
        <label key={choice.name}>
          <span>{choice.label}</span>
          <select
            value={values[choice.name] ?? ''}
            onChange={(event) => change(choice.name, event.currentTarget.value)}
          >
            <option value="">{choice.any}</option>
            {choice.options.map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
        </label>
      ))}
      {fixed.map((f) => (
        <button key={f} type="button" class="chip" onClick={() => change(f, '')}>
          {words(f)}: <bdi>{values[f]}</bdi> <span aria-hidden="true">×</span>
          <span class="unseen"> (remove)</span>
        </button>
      ))}
      {Object.keys(values).length === 0 ? null : (
        <a class="clear" href={href(['findings'])}>
          clear all
        </a>
      )}
    </div>
  );
}

function Results(props: { readonly path: string; readonly data: TriagedFindingList }): JSX.Element {
  const [more, setMore] = useState<readonly TriagedFindingList[]>([]);
  const [problem, setProblem] = useState<ApiError>();
  // A change of the first page makes the cursors of later pages overlap it.
  useEffect(() => setMore([]), [props.path, props.data]);
  const pages = [props.data, ...more];
  const byId = new Map<string, FindingView>();
  for (const f of pages.flatMap((p) => p.items)) byId.set(f.finding_id, f);
  const next = pages.at(-1)?.next_cursor ?? null;
  if (byId.size === 0)
    return (
      <Empty title="No finding matches">
        <p>
          Loosen a filter, or <a href={href(['findings'])}>show all findings</a>. With no data at
          all, start with <code>npm run demo</code>.
        </p>
      </Empty>
    );
  const load = (): void => {
    getJson<TriagedFindingList>(`${props.path}&cursor=${next ?? ''}`)
      .then((page) => setMore((old) => [...old, page]))
      .catch((e: unknown) => setProblem(e instanceof ApiError ? e : new ApiError(0, String(e))));
  };
  return (
    <>
      <FindingTable findings={[...byId.values()]} label="Findings" />
      {problem === undefined ? null : <Waiting error={problem} />}
      {next === null ? null : (
        <button type="button" class="more" onClick={load}>
          Show more findings
        </button>
      )}
    </>
  );
}
