import { Command, InvalidArgumentError } from 'commander';
import type { BacktestInput, BacktestReport } from '../../detectors/main.ts';
import type {
  RuleWhatIf,
  WhatIfFinding,
  WhatIfInput,
  WhatIfReport,
} from '../../detectors/what_if.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { parseEventTime } from '../event_time.ts';
import {
  expectationLine,
  judgeExpectations,
  readExpectations,
  type Expectation,
} from '../expectations.ts';

/** Numbers for all rules together, and files with numbers by rule. */
interface Expected {
  readonly total: NonNullable<BacktestInput['expect']>;
  readonly byRule: readonly Expectation[];
}

interface Options {
  readonly rule?: string;
  readonly from: string;
  readonly to: string;
  readonly param: Readonly<Record<string, unknown>>;
  readonly expect: Expected;
  readonly set: WhatIfInput['set'];
  readonly json?: boolean;
}

/** `name=value`; the value is JSON where it parses as such, else text. */
function parseParam(
  text: string,
  before: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const at = text.indexOf('=');
  if (at <= 0) throw new InvalidArgumentError('must be name=value, for instance grace_ms=10000.');
  return { ...before, [text.slice(0, at)]: jsonOrText(text.slice(at + 1)) };
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function parseExpect(text: string, before: Expected): Expected {
  const match = /^(at_least|at_most|exactly)=(\d{1,9})$/.exec(text);
  const comparison = match?.[1] as Expected['total'][number]['comparison'] | undefined;
  if (comparison !== undefined)
    return { ...before, total: [...before.total, { comparison, count: Number(match?.[2]) }] };
  if (/^(at_least|at_most|exactly)\b/.test(text))
    throw new InvalidArgumentError('must be at_least=N, at_most=N, exactly=N, or a file.');
  return { ...before, byRule: [...before.byRule, ...readExpectations(text)] };
}

/** `rule.param=value`; the value is JSON where it parses as such, else text. */
function parseSet(text: string, before: Options['set']): Options['set'] {
  const match = /^([a-z0-9_]+)\.([a-z0-9_]+)=(.*)$/s.exec(text);
  const [, rule, name, value] = match ?? [];
  if (rule === undefined || name === undefined || value === undefined)
    throw new InvalidArgumentError(
      'must be rule.param=value, for instance redirect_probing.min_hosts=2.',
    );
  return { ...before, [rule]: { ...before[rule], [name]: jsonOrText(value) } };
}

const counts = (record: Readonly<Record<string, number>>): string =>
  Object.entries(record)
    .map(([k, n]) => `${k} ${n}`)
    .join(', ');

function reportText(report: BacktestReport): string {
  const rules = report.rules.flatMap((r) => [
    `${r.rule_id}: ${r.findings} finding(s), ${r.entities_evaluated} entities evaluated`,
    ...(r.findings === 0
      ? []
      : [
          `  severity: ${counts(r.by_severity)}`,
          `  verdict:  ${counts(r.by_verdict)}`,
          `  per day:  ${counts(r.by_day)}`,
          '  top entities:',
          ...r.top_entities.map(
            (e) =>
              `    ${e.entity_ref}${e.client_id === '' ? '' : ` (${e.client_id})`}: ${e.findings}`,
          ),
        ]),
    ...(r.truncated_entities > 0
      ? [`  ${r.truncated_entities} entities had more events than are read`]
      : []),
  ]);
  const expectations = report.expectations.map(
    (e) => `expected ${e.comparison}=${e.count}: ${e.met ? 'met' : 'NOT MET'}`,
  );
  return [
    `${report.from} to ${report.to}: ${report.total} finding(s) in ${report.events} event(s)`,
    ...(report.events === 0 ? ['no events in this range: nothing was measured'] : []),
    ...rules,
    ...expectations,
  ].join('\n');
}

const listedFinding = (sign: string, f: WhatIfFinding): string =>
  `  ${sign} ${f.severity} ${f.verdict}: ${f.entity_ref}${f.client_id === '' || f.client_id === f.entity_ref ? '' : ` (${f.client_id})`}`;

function whatIfLines(rule: RuleWhatIf): string[] {
  const changes = rule.changes.map(
    (c) => `${c.name} ${JSON.stringify(c.from)} -> ${JSON.stringify(c.to)}`,
  );
  const side = (sign: string, list: readonly WhatIfFinding[], count: number): string[] => [
    ...list.map((f) => listedFinding(sign, f)),
    ...(count > list.length ? [`  ${sign} and ${count - list.length} more`] : []),
  ];
  return [
    `${rule.rule_id}: ${changes.join(', ')}: ${rule.after} finding(s) instead of ${rule.before}; ${rule.added_count} new, ${rule.removed_count} gone, ${rule.regraded_count} regraded`,
    ...side('+', rule.added, rule.added_count),
    ...side('-', rule.removed, rule.removed_count),
    ...side('~', rule.regraded, rule.regraded_count),
  ];
}

function whatIfText(report: WhatIfReport): string {
  return [
    `${report.from} to ${report.to}: ${report.events} event(s), nothing is written`,
    ...(report.events === 0 ? ['no events in this range: nothing was measured'] : []),
    ...report.rules.flatMap(whatIfLines),
  ].join('\n');
}

async function runWhatIf(cli: CliContext, { from, to, set, json }: Options): Promise<void> {
  const report = await cli.operation<WhatIfReport>('what_if', { from, to, set });
  cli.print({ text: whatIfText(report), json: report }, json === true);
}

async function runBacktest(cli: CliContext, options: Options): Promise<void> {
  const input: BacktestInput = {
    from: options.from,
    to: options.to,
    expect: options.expect.total,
    ...(options.rule === undefined ? {} : { rule: options.rule }),
    ...(Object.keys(options.param).length === 0 ? {} : { params: options.param }),
  };
  const report = await cli.operation<BacktestReport>('backtest', input);
  const judged = judgeExpectations(options.expect.byRule, report.rules, report.events);
  const lines = [reportText(report), ...judged.map(expectationLine)];
  const json = judged.length === 0 ? report : { ...report, expected: judged };
  cli.print({ text: lines.join('\n'), json }, options.json === true);
  if ([...report.expectations, ...judged].some((e) => !e.met)) process.exitCode = 1;
}

export default defineCommand({
  id: 'backtest',
  build: (cli) =>
    new Command('backtest')
      .description('run rules over stored events without writing findings')
      .option('--rule <id>', 'one rule (default: all)')
      .requiredOption('--from <time>', 'event time, inclusive', parseEventTime)
      .requiredOption('--to <time>', 'event time, exclusive', parseEventTime)
      .option('--param <name=value>', 'what-if: a parameter of --rule (repeatable)', parseParam, {})
      .option(
        '--set <rule.param=value>',
        'what-if: compare the findings of a rule with those of the configured parameters (repeatable)',
        parseSet,
        {},
      )
      .option(
        '--expect <comparison=N|file>',
        'at_least=N, at_most=N or exactly=N findings, or a file of such by rule; exit 1 otherwise (repeatable)',
        parseExpect,
        { total: [], byRule: [] },
      )
      .option('--json', 'print JSON')
      .addHelpText(
        'after',
        '\nA file of expectations is a YAML or JSON list of {rule, verdict or severity (optional), at_least, at_most, exactly}.\n\nExit codes: 0 done, 1 an expectation is not met, 2 an option is wrong.\n\nExample: grantscope backtest --from 2026-01-01 --to 2026-01-31 --set redirect_probing.min_requests=3',
      )
      .action((options: Options) =>
        Object.keys(options.set).length > 0 ? runWhatIf(cli, options) : runBacktest(cli, options),
      ),
});
