import { Command, InvalidArgumentError, Option } from 'commander';
import type { ReplayInput, ReplayReport } from '../../collector/dead_letters/replay.ts';
import { REJECT_CODES, type RejectCode } from '../../model/define_source.ts';
import { defineCommand } from '../define_command.ts';

interface Options {
  readonly source?: string;
  readonly reason?: RejectCode;
  readonly since?: string;
  readonly limit?: number;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** A date alone is its first moment in UTC. */
function parseTime(text: string): string {
  const isDate = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const ms = Date.parse(isDate ? `${text}T00:00:00Z` : text);
  const hasOffset = isDate || /(?:Z|[+-]\d{2}:\d{2})$/.test(text);
  if (Number.isNaN(ms) || !hasOffset)
    throw new InvalidArgumentError(
      'must be a date (2026-01-31, UTC) or an ISO time with an offset (2026-01-31T12:00:00Z).',
    );
  return new Date(ms).toISOString();
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000_000)
    throw new InvalidArgumentError('must be a whole number from 1 to 1000000.');
  return limit;
}

function reportText(report: ReplayReport): string {
  const would = report.dry_run ? 'would be ' : '';
  return [
    `${report.examined} dead letter(s): ${report.replayed} ${would}replayed, ${report.still_refused} still refused`,
    `${report.events} event(s) ${would}stored, ${report.events_already_stored} already there`,
    ...Object.entries(report.by_reason).map(
      ([reason, c]) =>
        `  refused for ${reason}: ${c.examined}, of these ${c.replayed} ${would}replayed`,
    ),
    ...Object.entries(report.refused_now).map(([code, n]) => `  refused now for ${code}: ${n}`),
    ...(report.more ? ['there are more: raise --limit or run again with --since'] : []),
  ].join('\n');
}

export default defineCommand({
  id: 'replay_dead_letters',
  build: (cli) =>
    new Command('replay-dead-letters')
      .description(
        'read refused records again by the present adapters, and store what is accepted now',
      )
      .option('--source <id>', 'records of one source (default: all)')
      .addOption(
        new Option('--reason <code>', 'records that were refused for this reason').choices(
          REJECT_CODES,
        ),
      )
      .option('--since <time>', 'records received at or after this time', parseTime)
      .option('--limit <n>', 'look at so many at most (default: 10000)', parseLimit)
      .option('--dry-run', 'report, and store nothing')
      .option('--json', 'print JSON')
      .action(async (options: Options) => {
        const input: ReplayInput = {
          ...(options.source === undefined ? {} : { source: options.source }),
          ...(options.reason === undefined ? {} : { reason: options.reason }),
          ...(options.since === undefined ? {} : { since: options.since }),
          ...(options.limit === undefined ? {} : { limit: options.limit }),
          dry_run: options.dryRun === true,
        };
        const report = await cli.operation<ReplayReport>('replay_dead_letters', input);
        cli.print({ text: reportText(report), json: report }, options.json === true);
      }),
});
