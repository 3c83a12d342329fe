import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';
import { RESULTS_FOLDER, type Result } from './harness/program.ts';

/**
 * Brings what was measured into the documentation: copies bench/results/*.json to docs/performance/ and writes the tables of
 * docs/performance.md anew from there. A figure that was not measured again keeps its last result, with its date and commit.
 *
 *   npm run bench -- publish [adapters ...]    all results, or those of these names
 */
const DOCS_FOLDER = join(packageRoot, 'docs', 'performance');
const PAGE = join(packageRoot, 'docs', 'performance.md');

type Json = Readonly<Record<string, unknown>>;

/** A number somewhere in a result; NaN where it is absent. */
function numberAt(value: unknown, ...path: readonly string[]): number {
  let at = value;
  for (const key of path) at = (at as Json | undefined)?.[key];
  return typeof at === 'number' ? at : Number.NaN;
}

interface Row {
  readonly figure: string;
  readonly firstStep: string;
  readonly goal: string;
  /** File in docs/performance, without `.json`. */
  readonly result: string;
  readonly measured: (figures: Json) => string;
  readonly isMet: (figures: Json) => boolean;
}

const cases = (figures: Json): readonly Json[] => (figures['cases'] ?? []) as readonly Json[];
const collectorCpu = (figures: Json): number =>
  numberAt(
    cases(figures).find((c) => c['payload'] === 'ndjson' && c['batch'] === 1_000 && !c['gzip']),
    'cpu_seconds_per_million',
  );
const lost = (f: Json): number => {
  const statuses = (f['statuses'] ?? {}) as Readonly<Record<string, number>>;
  return Object.entries(statuses).reduce((n, [code, c]) => (code === '200' ? n : n + c), 0);
};

/** Every performance goal, in the order of the page. */
const ROWS: readonly Row[] = [
  {
    figure: 'collector alone, CPU s per million events',
    firstStep: '≤ 15',
    goal: '≤ 8',
    result: 'collect',
    measured: (f) => `${collectorCpu(f)}`,
    isMet: (f) => collectorCpu(f) <= 8,
  },
  {
    figure: 'end to end with store, rollups and rules, CPU s per million events',
    firstStep: '≤ 30',
    goal: '≤ 15',
    result: 'ingest',
    measured: (f) => `${numberAt(f, 'cpu_seconds_per_million')}`,
    isMet: (f) => numberAt(f, 'cpu_seconds_per_million') <= 15,
  },
  {
    figure: 'sustained rate, events/s, with the lag of the store',
    firstStep: '',
    goal: '≥ 60,000, lag < 5 s',
    result: 'soak',
    measured: (f) =>
      `${numberAt(f, 'events_per_second')}, lag ${numberAt(f, 'lag_seconds', 'max')} s, requests not accepted ${lost(f)}`,
    isMet: (f) =>
      numberAt(f, 'events_per_second') >= 59_000 &&
      numberAt(f, 'lag_seconds', 'max') < 5 &&
      lost(f) === 0,
  },
  {
    figure: 'acknowledgement after fsync at 30,000 events/s, p99 ms',
    firstStep: '',
    goal: '< 50',
    result: 'ack',
    measured: (f) =>
      `${numberAt(f, 'ack_ms', 'p99')} (p50 ${numberAt(f, 'ack_ms', 'p50')}) at ${numberAt(f, 'events_per_second')} events/s`,
    isMet: (f) => numberAt(f, 'ack_ms', 'p99') < 50 && numberAt(f, 'events_per_second') >= 29_000,
  },
  {
    figure: 'acknowledged → finding stored, p99 s at 20,000 events/s',
    firstStep: '',
    goal: '< 5',
    result: 'detection_latency',
    measured: (f) =>
      `${numberAt(f, 'found_after_ms', 'p99') / 1_000} at ${numberAt(f, 'events_per_second')} events/s`,
    isMet: (f) =>
      numberAt(f, 'found_after_ms', 'p99') < 5_000 && numberAt(f, 'events_per_second') >= 19_000,
  },
  {
    figure: 'bytes on disk per event, all tables, merged',
    firstStep: '',
    goal: '≤ 60',
    result: 'disk',
    measured: (f) => `${numberAt(f, 'settled', 'bytes_per_event')}`,
    isMet: (f) => numberAt(f, 'settled', 'bytes_per_event') <= 60,
  },
  {
    figure: 'the same as a share of `otel_logs` (Body and attributes; Body alone)',
    firstStep: '',
    goal: '≤ 0.33',
    result: 'disk',
    measured: (f) =>
      `${numberAt(f, 'ratio_to_otel_logs', 'body_and_attributes')}; ${numberAt(f, 'ratio_to_otel_logs', 'body')}`,
    isMet: (f) => numberAt(f, 'ratio_to_otel_logs', 'body_and_attributes') <= 0.334,
  },
  {
    figure: 'timeline of one token at 100 million events, p95 ms',
    firstStep: '',
    goal: '< 100',
    result: 'timeline',
    measured: (f) =>
      `${numberAt(f, 'timeline_ms', 'p95')} (p50 ${numberAt(f, 'timeline_ms', 'p50')}) at ${numberAt(f, 'events') / 1e6} million`,
    isMet: (f) => numberAt(f, 'timeline_ms', 'p95') < 100 && numberAt(f, 'events') >= 1e8,
  },
  {
    figure: 'every dashboard panel at 100 million events over 24 h, p95 ms of the slowest',
    firstStep: '',
    goal: '< 1,000',
    result: 'panels',
    measured: (f) =>
      `${numberAt(f, 'slowest', 'p95_ms')} at ${numberAt(f, 'events') / 1e6} million`,
    isMet: (f) => numberAt(f, 'slowest', 'p95_ms') < 1_000 && numberAt(f, 'events') >= 1e8,
  },
  {
    figure: 'a sweep of all rules over 24 h at 100 million events, minutes',
    firstStep: '',
    goal: 'minutes',
    result: 'sweep',
    measured: (f) =>
      `${(numberAt(f, 'seconds') / 60).toFixed(1)} (${numberAt(f, 'cpu_seconds')} CPU s, slowest rule ${numberAt(f, 'seconds_per_rule', 'max')} s) at ${numberAt(f, 'events') / 1e6} million`,
    isMet: (f) => numberAt(f, 'seconds') < 900 && numberAt(f, 'events') >= 1e8,
  },
  {
    figure: 'memory of the whole under load for ten minutes, growth over the last six, MB a minute',
    firstStep: '',
    goal: 'flat (within twice its error, that within 0.3 % of the whole)',
    result: 'soak',
    measured: (f) =>
      `${numberAt(f, 'rss_mb_trend', 'per_minute')} ± ${numberAt(f, 'rss_mb_trend', 'error')} at ${numberAt(f, 'rss_mb_trend', 'level')} MB and ${numberAt(f, 'events_per_second')} events/s`,
    isMet: (f) => {
      const error = numberAt(f, 'rss_mb_trend', 'error');
      const isSure = error > 0 && error <= 0.003 * numberAt(f, 'rss_mb_trend', 'level');
      return isSure && numberAt(f, 'rss_mb_trend', 'per_minute') <= 2 * error;
    },
  },
  {
    figure: 'memory of the whole at 20,000 events/s, MB, highest',
    firstStep: '',
    goal: '< 1,610 (1.5 GiB)',
    result: 'memory',
    measured: (f) =>
      `${numberAt(f, 'rss_mb', 'peak')} at ${numberAt(f, 'events_per_second')} events/s`,
    isMet: (f) =>
      numberAt(f, 'rss_mb', 'peak') < 1_610 && numberAt(f, 'events_per_second') > 19_000,
  },
];

const asked = process.argv.slice(2);
const isAskedFor = (name: string): boolean => asked.length === 0 || asked.includes(name);

function copyResults(): void {
  mkdirSync(DOCS_FOLDER, { recursive: true });
  const known = new Set([...ROWS.map((r) => r.result), 'adapters'].filter(isAskedFor));
  if (!existsSync(RESULTS_FOLDER)) return;
  for (const file of readdirSync(RESULTS_FOLDER).filter((f) => known.has(f.replace('.json', '')))) {
    const result = JSON.parse(readFileSync(join(RESULTS_FOLDER, file), 'utf8')) as Result;
    // The curve over time is for whoever looks at one run.
    const figures = Object.fromEntries(
      Object.entries(result.figures).filter(([name]) => name !== 'samples'),
    );
    // Where somebody's data lay is nobody else's business.
    const command = result.command.replace(/--data \S+/, '--data FOLDER');
    const parameters = Object.fromEntries(
      Object.entries(result.parameters).filter(([name]) => name !== 'data'),
    );
    const published = { ...result, command, parameters, figures };
    writeFileSync(join(DOCS_FOLDER, file), `${JSON.stringify(published, null, 2)}\n`);
  }
}

function readResult(name: string): Result | undefined {
  const file = join(DOCS_FOLDER, `${name}.json`);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Result) : undefined;
}

function figuresTable(): string {
  const lines = ROWS.map((row) => {
    const result = readResult(row.result);
    const cells =
      result === undefined
        ? ['not measured', '', '', '']
        : [
            row.measured(result.figures),
            row.isMet(result.figures) ? 'yes' : '**no**',
            `\`${result.command}\``,
            `${result.measured_at.slice(0, 10)}, ${result.versions['commit'] ?? 'unknown'}, ${result.machine.load_average}`,
          ];
    return `| ${[row.figure, row.firstStep, row.goal, ...cells].join(' | ')} |`;
  });
  const machines = new Set(
    ROWS.flatMap((row) => {
      const r = readResult(row.result);
      return r === undefined
        ? []
        : [
            `${r.machine.cores} cores of ${r.machine.cpu}, ${r.machine.ram_gb} GB, Node ${r.versions['node'] ?? ''}, chdb ${r.versions['chdb'] ?? ''}`,
          ];
    }),
  );
  return [
    '| figure | first step | goal | measured | met | repeat with | date, commit, load average |',
    '|---|---|---|---|---|---|---|',
    ...lines,
    '',
    `Machine: ${[...machines].join('; ')}.`,
  ].join('\n');
}

function collectorTable(): string {
  const result = readResult('collect');
  if (result === undefined) return 'Not measured.';
  const lines = cases(result.figures).map(
    (c) =>
      `| ${String(c['payload'])} | ${String(c['batch'])} | ${c['gzip'] === true ? 'gzip' : 'plain'} | ${numberAt(c, 'bytes_an_event')} | ${numberAt(c, 'cpu_seconds_per_million')} | ${numberAt(c, 'events_per_second')} | ${numberAt(c, 'ack_ms', 'p99')} |`,
  );
  return [
    '| payload | events a request | coding | bytes an event | CPU s per million | events/s, closed loop | ACK p99 ms |',
    '|---|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

function adaptersTable(): string {
  const result = readResult('adapters');
  if (result === undefined) return 'Not measured.';
  const lines = ((result.figures['adapters'] ?? []) as readonly Json[]).map(
    (a) =>
      `| \`${String(a['source'])}\` | ${numberAt(a, 'bytes_a_record')} | ${numberAt(a, 'events_a_record')} | ${numberAt(a, 'parse_events_per_cpu_second')} | ${numberAt(a, 'whole_events_per_cpu_second')} | ${numberAt(a, 'ratio_to_median').toFixed(2)} |`,
  );
  return [
    `\`${result.command}\`, ${result.measured_at.slice(0, 10)}, ${result.versions['commit'] ?? 'unknown'}, load average ${result.machine.load_average}.`,
    '',
    '| source | bytes a record | events a record | parse, events/CPU s | whole way, events/CPU s | to the median |',
    '|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

function panelsTable(): string {
  const result = readResult('panels');
  if (result === undefined) return 'Not measured.';
  const lines = ((result.figures['panels'] ?? []) as readonly Json[]).map(
    (p) =>
      `| ${String(p['board'])} | ${String(p['panel'])} | ${numberAt(p, 'p50_ms')} | ${numberAt(p, 'p95_ms')} |`,
  );
  return ['| board | panel | p50 ms | p95 ms |', '|---|---|---|---|', ...lines].join('\n');
}

/** Replaces what stands between `<!-- begin name -->` and `<!-- end name -->`. */
function replaceBlock(page: string, name: string, text: string): string {
  const block = new RegExp(`(<!-- begin ${name}[^>]*-->\\n)[\\s\\S]*?(<!-- end ${name} -->)`);
  if (!block.test(page)) throw new Error(`${PAGE}: no block named ${name}`);
  return page.replace(block, (_whole, begin: string, end: string) => `${begin}\n${text}\n\n${end}`);
}

copyResults();
let page = readFileSync(PAGE, 'utf8');
page = replaceBlock(page, 'figures', figuresTable());
page = replaceBlock(page, 'collector', collectorTable());
page = replaceBlock(page, 'adapters', adaptersTable());
page = replaceBlock(page, 'panels', panelsTable());
writeFileSync(PAGE, page);
console.error(`wrote ${PAGE}`);
