import { userInfo } from 'node:os';
import { Command, Option } from 'commander';
import { DISPOSITIONS, type FindingStatus } from '../../model/triage.ts';
import type { RulePrecision, StoredDisposition } from '../../store/queries/dispositions.ts';
import { defineCommand, type CliContext } from '../define_command.ts';

function stepLine(s: FindingStatus): string {
  const owner = s.treated_owner === '' ? '' : ` by ${s.treated_owner}`;
  const why = s.treated_reason === '' ? '' : `${owner}: ${s.treated_reason}`;
  const until = s.treated_until === '' ? '' : ` (${s.treated_by}, until ${s.treated_until})`;
  return `${s.changed_at}  ${s.change.padEnd(10)}  ${s.state}, ${s.severity}, ${s.treatment}${why}${until}`;
}

function historyCommand(cli: CliContext): Command {
  return new Command('history')
    .description('what happened to a finding: opened, suppressed, inhibited, closed, reopened, ...')
    .argument('<id>', 'finding id')
    .option('--json', 'print JSON')
    .action(async (id: string, options: { json?: boolean }) => {
      const history = await cli.operation<{
        readonly steps: readonly FindingStatus[];
        readonly dispositions: readonly StoredDisposition[];
      }>('finding_history', { finding_id: id });
      const text = [
        ...history.steps.map(stepLine),
        ...history.dispositions.map(
          (d) =>
            `${d.decided_at}  ${d.disposition}  by ${d.author}${d.note === '' ? '' : `: ${d.note}`}`,
        ),
      ].join('\n');
      cli.print({ text: text || 'nothing happened yet', json: history }, options.json === true);
    });
}

function judgeCommand(cli: CliContext): Command {
  return new Command('judge')
    .description('record what you concluded about a finding; the last judgement counts')
    .argument('<id>', 'finding id')
    .addOption(
      new Option('--as <disposition>', 'what it was').choices(DISPOSITIONS).makeOptionMandatory(),
    )
    .option('--note <text>', 'why', '')
    .option('--author <name>', 'who concluded it', userInfo().username)
    .option('--json', 'print JSON')
    .action(
      async (id: string, options: { as: string; note: string; author: string; json?: boolean }) => {
        const added = await cli.operation<StoredDisposition>('finding_judge', {
          finding_id: id,
          disposition: options.as,
          note: options.note,
          author: options.author,
        });
        const text = `${added.rule_id}: ${added.disposition} by ${added.author}`;
        cli.print({ text, json: added }, options.json === true);
      },
    );
}

const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;

function precisionCommand(cli: CliContext): Command {
  return new Command('precision')
    .description('how often each rule is right, by what was concluded about its findings')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const rules = await cli.operation<readonly RulePrecision[]>('rule_precision', {});
      const width = Math.max(4, ...rules.map((r) => r.rule_id.length));
      const lines = rules.map(
        (r) =>
          `${r.rule_id.padEnd(width)}  ${percent(r.precision).padStart(6)} of ${r.judged} judged  (${r.true_positive} true, ${r.benign_positive} benign, ${r.false_positive} false)${r.proposed_for_retirement ? '  proposed for retirement' : ''}`,
      );
      const text = lines.length === 0 ? 'no finding was judged yet' : lines.join('\n');
      cli.print({ text, json: rules }, options.json === true);
    });
}

export default defineCommand({
  id: 'findings',
  build: (cli) =>
    new Command('findings')
      .description('findings: what became of them, what was concluded, how precise the rules are')
      .addCommand(historyCommand(cli))
      .addCommand(judgeCommand(cli))
      .addCommand(precisionCommand(cli)),
});
