import { Command } from 'commander';
import { objectiveOf } from '../../alerts/compute.ts';
import { loadSlos } from '../../alerts/registry.ts';
import type { SloStatus } from '../../alerts/status.ts';
import { isBudgeted } from '../../model/define_slo.ts';
import { defineCommand, type CliContext } from '../define_command.ts';

/** Columns of text, padded to their widest cell. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((r) => r[i]?.length ?? 0)));
  return rows
    .map((r) =>
      r
        .map((c, i) => c.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const percent = (ratio: number, digits: number): string => `${(ratio * 100).toFixed(digits)} %`;

/** A share, a number of occurrences, or nothing to aim at. */
function objectiveText(measure: string, objective: number): string {
  if (measure === 'indicator') return '-';
  return measure === 'counted' ? `at most ${objective}` : percent(objective, 3);
}

function statusLine(s: SloStatus): readonly string[] {
  const burn = (window: string): string => s.burn_rates[window]?.toFixed(2) ?? '-';
  return [
    s.id,
    s.shadow ? `${s.state} (shadow)` : s.state,
    objectiveText(s.measure, s.objective),
    String(s.good),
    String(s.bad),
    String(s.excluded),
    s.budget_remaining === null ? '-' : percent(s.budget_remaining, 1),
    burn('5m'),
    burn('1h'),
    burn('6h'),
    percent(s.coverage, 1),
    s.watermark ?? '-',
  ];
}

function listCommand(cli: CliContext): Command {
  return new Command('list')
    .description('the SLOs that are defined')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const slos = await loadSlos();
      const rows = slos.map((s) => [
        s.id,
        objectiveText(s.measure, objectiveOf(s)),
        isBudgeted(s) ? s.tiers.join(',') : '-',
        s.owner,
        s.title,
      ]);
      const text = table([['ID', 'OBJECTIVE', 'TIERS', 'OWNER', 'TITLE'], ...rows]);
      cli.print({ text, json: slos }, options.json === true);
    });
}

const STATUS_HEAD = [
  'ID',
  'STATE',
  'OBJECTIVE',
  'GOOD',
  'BAD',
  'EXCLUDED',
  'BUDGET LEFT',
  'BURN 5m',
  'BURN 1h',
  'BURN 6h',
  'COVERAGE',
  'WATERMARK',
];

function statusCommand(cli: CliContext): Command {
  return new Command('status')
    .description('the state of every SLO, computed now from what is stored')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const states = await cli.operation<readonly SloStatus[]>('slo_status', {});
      const text = table([STATUS_HEAD, ...states.map(statusLine)]);
      cli.print({ text, json: states }, options.json === true);
    });
}

export default defineCommand({
  id: 'slo',
  build: (cli) =>
    new Command('slo')
      .description('service level objectives: what is defined, and how it stands')
      .addCommand(listCommand(cli))
      .addCommand(statusCommand(cli)),
});
