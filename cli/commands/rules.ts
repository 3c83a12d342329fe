import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { loadSources } from '../../collector/registry.ts';
import type { CoverageState } from '../../detectors/coverage.ts';
import { runExample, type ExampleResult } from '../../detectors/examples.ts';
import type { CoverageReport } from '../../detectors/main.ts';
import { parameterDocs } from '../../detectors/reference.ts';
import { detectorById, loadDetectors } from '../../detectors/registry.ts';
import type { Detector } from '../../model/define_detector.ts';
import { openStore } from '../../store/client.ts';
import { migrate } from '../../store/migrate.ts';
import { addressPolicyLines } from '../address_policy.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { parseEventTime } from '../event_time.ts';
import { blindReason, type ExplainedCoverage, withReasons } from '../source_coverage.ts';

/** What `rules show --json` prints of a rule: its docs and parameters, without functions. */
function described(detector: Detector): Record<string, unknown> {
  const { bind, parameters, ...docs } = detector;
  const isBindable = bind({}).ok && parameters.safeParse({}).success;
  return { ...docs, parameters: isBindable ? parameterDocs(detector) : [] };
}

function showText(d: Detector): string {
  const list = (items: readonly string[]): string => items.map((i) => `  - ${i}`).join('\n');
  const pairs = (record: Readonly<Record<string, string>>): string =>
    list(Object.entries(record).map(([k, v]) => `${k}: ${v}`));
  return [
    `${d.id} (version ${d.version}): ${d.title}`,
    `family ${d.family}, gravest severity ${d.severity}, entity ${d.entity}, episodes ${d.episodes}`,
    '',
    d.description,
    '',
    `Verdicts:\n${pairs(d.verdicts)}`,
    `Parameters:\n${list(parameterDocs(d).map((p) => `${p.name} (${p.type}${p.allowed === '' ? '' : `, ${p.allowed}`}), default ${JSON.stringify(p.default)}`))}`,
    `Evidence:\n${pairs(d.evidence)}`,
    `Needs:\n${list(d.needs)}`,
    `False positives:\n${list(d.falsePositives)}`,
    `Examples:\n${list(d.examples.map((e) => e.name))}`,
    `References: ${d.references.join('; ')}`,
    `Runbook: alerts/runbooks/${d.id}.md`,
  ].join('\n');
}

function listCommand(cli: CliContext): Command {
  return new Command('list')
    .description('the rules, with version, gravest severity, family and title')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const detectors = await loadDetectors();
      const width = Math.max(...detectors.map((d) => d.id.length));
      const lines = detectors.map(
        (d) =>
          `${d.id.padEnd(width)}  v${d.version}  ${d.severity.padEnd(8)}  ${d.family.padEnd(16)}  ${d.title}`,
      );
      const notes = addressPolicyLines(cli.config().redaction.client_ip, detectors);
      const text = [...lines, ...notes].join('\n');
      cli.print({ text, json: detectors.map(described) }, options.json === true);
    });
}

function showCommand(cli: CliContext): Command {
  return new Command('show')
    .description('one rule in full: verdicts, parameters, evidence, examples')
    .argument('<id>', 'rule id')
    .option('--json', 'print JSON')
    .action(async (id: string, options: { json?: boolean }) => {
      const detector = detectorById(await loadDetectors(), id);
      cli.print({ text: showText(detector), json: described(detector) }, options.json === true);
    });
}

/** Runs examples on the real engine in a folder of its own, which is removed afterwards. */
async function testRules(
  detectors: readonly Detector[],
  progress: (done: number, total: number) => void,
): Promise<ExampleResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'grantscope-rules-'));
  try {
    const store = openStore({ dataDir: folder });
    try {
      await migrate(store);
      const work = detectors.flatMap((d) => d.examples.map((example) => ({ d, example })));
      const results: ExampleResult[] = [];
      for (const [i, { d, example }] of work.entries()) {
        progress(i, work.length);
        results.push(await runExample(store, d, example, `example-${i}`));
      }
      progress(work.length, work.length);
      return results;
    } finally {
      await store.close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function resultText(results: readonly ExampleResult[]): string {
  const lines = results.flatMap((r) => [
    `${r.passed ? 'ok    ' : 'FAILED'}  ${r.rule_id}: ${r.example}`,
    ...(r.passed
      ? []
      : [
          `        expected ${JSON.stringify(r.expected)}`,
          `        actual   ${JSON.stringify(r.actual)}`,
        ]),
  ]);
  const failed = results.filter((r) => !r.passed).length;
  return [...lines, `${results.length - failed} passed, ${failed} failed`].join('\n');
}

function testCommand(cli: CliContext): Command {
  return new Command('test')
    .description('run the examples of one rule, or of all, on the real engine; exit 1 on a failure')
    .argument('[id]', 'rule id')
    .option('--json', 'print JSON')
    .action(async (id: string | undefined, options: { json?: boolean }) => {
      const all = await loadDetectors();
      const detectors = id === undefined ? all : [detectorById(all, id)];
      const results = await testRules(detectors, (done, total) =>
        cli.progress('examples', done, total),
      );
      const failed = results.filter((r) => !r.passed).length;
      const json = { passed: results.length - failed, failed, results };
      cli.print({ text: resultText(results), json }, options.json === true);
      if (failed > 0) process.exitCode = 1;
    });
}

const COVERAGE_WORDS: Readonly<Record<CoverageState, string>> = {
  sees: 'sees',
  blind: 'BLIND',
  few_events: 'too few events to tell',
  no_events: 'no events of its kinds',
};

function coverageLines(rule: ExplainedCoverage): string[] {
  const sources = rule.sources
    .filter((s) => s.state !== 'no_events')
    .map((s) => {
      const fields = s.fields
        .filter((f) => f.share !== null && f.share < 1)
        .map((f) => `${f.field} ${((f.share ?? 0) * 100).toFixed(0)} %`);
      const missing = s.missing.length === 0 ? '' : `; missing: ${s.missing.join(', ')}`;
      const partly = fields.length === 0 ? '' : `; known in part: ${fields.join(', ')}`;
      const why = s.reason === undefined ? '' : `; ${s.reason}`;
      return `  ${s.source_id}: ${COVERAGE_WORDS[s.state]} (${s.events} events)${why}${missing}${partly}`;
    });
  return [`${rule.rule_id}: ${COVERAGE_WORDS[rule.state]}`, ...sources];
}

/** What adapters say they can fill, for an installation without events yet. */
async function declaredLines(detectors: readonly Detector[]): Promise<string[]> {
  const sources = [...(await loadSources()).values()];
  return detectors.flatMap((d) => [
    `${d.id}: declared by the adapters`,
    ...sources.map((s) => {
      const provides = new Set(s.provides);
      const missing = d.needs.filter((n) => !provides.has(n));
      const can = missing.length === 0 ? 'can fill all it needs' : `lacks ${missing.join(', ')}`;
      return `  ${s.id}: ${blindReason(s, d.id) ?? can}`;
    }),
  ]);
}

interface CoverageOptions {
  readonly from?: string;
  readonly to?: string;
  readonly declared?: boolean;
  readonly json?: boolean;
}

async function showCoverage(
  cli: CliContext,
  id: string | undefined,
  { from, to, declared, json }: CoverageOptions,
): Promise<void> {
  if (declared === true) {
    const all = await loadDetectors();
    const lines = await declaredLines(id === undefined ? all : [detectorById(all, id)]);
    cli.print({ text: lines.join('\n'), json: lines }, json === true);
    return;
  }
  const report = await cli.operation<CoverageReport>('rules_coverage', {
    ...(id === undefined ? {} : { rule: id }),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  });
  const head = `${report.from} to ${report.to}: ${report.events} event(s)`;
  const none = report.events === 0 ? ['no events: nothing was measured (see --declared)'] : [];
  const sources = await loadSources();
  const rules = report.rules.map((rule) => withReasons(rule, sources));
  const lines = [head, ...none, ...rules.flatMap(coverageLines)];
  cli.print({ text: lines.join('\n'), json: { ...report, rules } }, json === true);
}

function coverageCommand(cli: CliContext): Command {
  return new Command('coverage')
    .description('which sources fill the fields that each rule needs, from stored events')
    .argument('[id]', 'rule id')
    .option('--from <time>', 'event time, inclusive (default: the last day)', parseEventTime)
    .option('--to <time>', 'event time, exclusive (default: now)', parseEventTime)
    .option('--declared', 'what the adapters can fill, without any event')
    .option('--json', 'print JSON')
    .action((id: string | undefined, options: CoverageOptions) => showCoverage(cli, id, options));
}

export default defineCommand({
  id: 'rules',
  build: (cli) =>
    new Command('rules')
      .description('list, show and test the detection rules, and tell which of them can see')
      .addCommand(listCommand(cli))
      .addCommand(showCommand(cli))
      .addCommand(testCommand(cli))
      .addCommand(coverageCommand(cli)),
});
