import { Command } from 'commander';
import type { DetectInput, DetectReport } from '../../detectors/main.ts';
import { defineCommand } from '../define_command.ts';
import { parseEventTime } from '../event_time.ts';

interface Options {
  readonly rule?: string;
  readonly from: string;
  readonly to: string;
  readonly json?: boolean;
}

const CHANGES = ['opened', 'changed', 'superseded', 'closed'] as const;

function reportText(report: DetectReport): string {
  const width = Math.max(...report.rules.map((r) => r.rule_id.length));
  const rules = report.rules.map((rule) => {
    const counts = CHANGES.filter((c) => rule[c] > 0).map((c) => `${rule[c]} ${c}`);
    const changes = counts.length === 0 ? 'nothing changed' : counts.join(', ');
    const cut =
      rule.truncated_entities === 0
        ? ''
        : `; ${rule.truncated_entities} had more events than are read`;
    return `${rule.rule_id.padEnd(width)}  ${rule.entities_evaluated} judged, ${changes}${cut}`;
  });
  return [
    `${report.from} to ${report.to}: ${report.events} event(s) judged again, ${report.changed_findings} finding(s) written`,
    ...(report.events === 0
      ? ['no events in this range: only findings from before were judged']
      : []),
    ...rules,
  ].join('\n');
}

export default defineCommand({
  id: 'detect',
  build: (cli) =>
    new Command('detect')
      .description('judge stored events again, by event time, and write the findings')
      .option('--rule <id>', 'one rule (default: all)')
      .requiredOption('--from <time>', 'event time, inclusive', parseEventTime)
      .requiredOption('--to <time>', 'event time, exclusive', parseEventTime)
      .option('--json', 'print JSON')
      .action(async (options: Options) => {
        const input: DetectInput = {
          from: options.from,
          to: options.to,
          ...(options.rule === undefined ? {} : { rule: options.rule }),
        };
        const report = await cli.operation<DetectReport>('detect', input);
        cli.print({ text: reportText(report), json: report }, options.json === true);
      }),
});
