import { Command, InvalidArgumentError } from 'commander';
import type { BacktestInput, BacktestReport } from '../../detectors/main.ts';
import { defineCommand } from '../define_command.ts';
import { parseEventTime } from '../event_time.ts';

interface Options {
  readonly rule?: string;
  readonly from: string;
  readonly to: string;
  readonly param: Readonly<Record<string, unknown>>;
  readonly expect: NonNullable<BacktestInput['expect']>;
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

function parseExpect(text: string, before: Options['expect']): Options['expect'] {
  const match = /^(at_least|at_most|exactly)=(\d{1,9})$/.exec(text);
  const comparison = match?.[1] as Options['expect'][number]['comparison'] | undefined;
  if (comparison === undefined)
    throw new InvalidArgumentError('must be at_least=N, at_most=N or exactly=N.');
  return [...before, { comparison, count: Number(match?.[2]) }];
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
        '--expect <comparison=N>',
        'at_least=N, at_most=N or exactly=N findings; exit 1 otherwise (repeatable)',
        parseExpect,
        [],
      )
      .option('--json', 'print JSON')
      .action(async (options: Options) => {
        const input: BacktestInput = {
          from: options.from,
          to: options.to,
          expect: options.expect,
          ...(options.rule === undefined ? {} : { rule: options.rule }),
          ...(Object.keys(options.param).length === 0 ? {} : { params: options.param }),
        };
        const report = await cli.operation<BacktestReport>('backtest', input);
        cli.print({ text: reportText(report), json: report }, options.json === true);
        if (report.expectations.some((e) => !e.met)) process.exitCode = 1;
      }),
});
