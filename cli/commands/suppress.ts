import { userInfo } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import { ENTITY_TYPES, SEVERITIES, type EntityType, type Severity } from '../../model/finding.ts';
import { scopeInWords, type SuppressionScope } from '../../model/suppression.ts';
import type { SuppressionPreview, UsedSuppression } from '../../store/queries/suppressions.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { parseDuration } from '../duration.ts';

interface ScopeOptions {
  readonly rule?: string;
  readonly verdict?: string;
  readonly entity?: readonly [EntityType, string];
  readonly client?: string;
  readonly network?: readonly string[];
  readonly source?: readonly string[];
  readonly severityMax?: Severity;
  readonly json?: boolean;
}

interface AddOptions extends ScopeOptions {
  readonly owner: string;
  readonly reason: string;
  readonly for?: string;
  readonly until?: string;
  readonly by: string;
}

type Listed = UsedSuppression & { readonly state: string };

function parseEntity(text: string): readonly [EntityType, string] {
  const at = text.indexOf(':');
  const type = ENTITY_TYPES.find((t) => t === text.slice(0, at));
  if (type === undefined || at === text.length - 1)
    throw new InvalidArgumentError(`must be TYPE:REF, with TYPE of ${ENTITY_TYPES.join(', ')}.`);
  return [type, text.slice(at + 1)];
}

function withScope(command: Command): Command {
  return command
    .option('--rule <id>', 'findings of this rule')
    .option('--verdict <verdict>', 'findings with this verdict')
    .option('--entity <type:ref>', 'findings about this entity', parseEntity)
    .option('--client <id>', 'findings of this client')
    .option('--network <network...>', 'findings that name these networks and no other')
    .option('--source <id...>', 'findings from these sources and no other')
    .addOption(
      new Option(
        '--severity-max <severity>',
        'gravest severity to hide; graver findings break through (default: the gravest that it would have hidden, at most high)',
      ).choices(SEVERITIES),
    )
    .option('--json', 'print JSON');
}

/** At least one field, or the operation refuses it. */
function scopeOf(options: ScopeOptions): SuppressionScope {
  const { rule, verdict, entity, client, network, source } = options;
  return {
    ...(rule === undefined ? {} : { rule_id: rule }),
    ...(verdict === undefined ? {} : { verdict }),
    ...(entity === undefined ? {} : { entity_type: entity[0], entity_ref: entity[1] }),
    ...(client === undefined ? {} : { client_id: client }),
    ...(network === undefined ? {} : { networks: [...network] }),
    ...(source === undefined ? {} : { sources: [...source] }),
  };
}

const severityOf = (options: ScopeOptions) =>
  options.severityMax === undefined ? {} : { severity_max: options.severityMax };

function previewText(p: SuppressionPreview): string {
  const counts = (record: Readonly<Record<string, number>>): string =>
    Object.entries(record)
      .map(([name, n]) => `${name} ${n}`)
      .join(', ');
  return [
    `would have hidden ${p.hidden} finding(s) of the last ${p.days} days, about ${p.entities} entit${p.entities === 1 ? 'y' : 'ies'}, up to severity ${p.severity_max}`,
    ...(p.broke_through === 0
      ? []
      : [`${p.broke_through} graver one(s) would have broken through`]),
    ...(p.hidden === 0 ? [] : [`  ${counts(p.by_severity)}; ${counts(p.by_rule)}`]),
    ...p.top_entities.map(
      (e) =>
        `  ${String(e.findings).padStart(5)}  ${e.entity_type}:${e.entity_ref}${e.client_id === '' ? '' : `  (client ${e.client_id})`}`,
    ),
  ].join('\n');
}

function lineOf(s: Listed): string {
  const ended = s.removed_at === '' ? '' : `, removed by ${s.removed_by}: ${s.removed_reason}`;
  return [
    `${s.suppression_id}  ${s.state.padEnd(7)}  ${s.hits} hit(s)  until ${s.expires_at}`,
    `    ${scopeInWords(s.scope)}; up to ${s.severity_max}`,
    `    ${s.owner}: ${s.reason} (${s.origin}, by ${s.created_by}${ended})`,
  ].join('\n');
}

function addCommand(cli: CliContext): Command {
  const command = new Command('add')
    .description('keep and show what is in the scope, but do not notify it, for a stated time')
    .requiredOption('--owner <name>', 'who answers for it: a person or a team')
    .requiredOption('--reason <text>', 'why these findings are not worth a notification')
    .addOption(new Option('--for <duration>', 'how long, for instance 30d; at most 366d'))
    .addOption(
      new Option('--until <time>', 'when it ends, ISO 8601 with a time zone').conflicts('for'),
    )
    .option('--by <name>', 'who adds it', userInfo().username);
  return withScope(command).action(async (options: AddOptions) => {
    const expires_at = expiryOf(options, cli.runtime().clock.nowMs());
    const scope = scopeOf(options);
    const { owner, reason } = options;
    const request = { ...scope, ...severityOf(options), owner, reason, expires_at };
    const added = await cli.operation<UsedSuppression>('suppress_add', {
      request,
      created_by: options.by,
    });
    const preview = await cli.operation<SuppressionPreview>('suppress_preview', {
      scope,
      severity_max: added.severity_max,
    });
    const text = `added ${added.suppression_id}, until ${added.expires_at}\n${previewText(preview)}`;
    cli.print({ text, json: { ...added, preview } }, options.json === true);
  });
}

/** Neither gives '', which the operation refuses by name: an end is required. */
function expiryOf(options: AddOptions, nowMs: number): string {
  if (options.for === undefined) return options.until ?? '';
  return new Date(nowMs + parseDuration('--for', options.for)).toISOString();
}

function previewCommand(cli: CliContext): Command {
  const command = new Command('preview').description(
    'how many findings of the last 30 days a suppression would have hidden, and which',
  );
  return withScope(command).action(async (options: ScopeOptions) => {
    const preview = await cli.operation<SuppressionPreview>('suppress_preview', {
      scope: scopeOf(options),
      ...severityOf(options),
    });
    cli.print({ text: previewText(preview), json: preview }, options.json === true);
  });
}

function listCommand(cli: CliContext): Command {
  return new Command('list')
    .description('suppressions with owner, reason, end and how often they were used')
    .option('--all', 'those that have ended, too')
    .option('--json', 'print JSON')
    .action(async (options: { all?: boolean; json?: boolean }) => {
      const listed = await cli.operation<readonly Listed[]>('suppress_list', {});
      const shown = listed.filter((s) => options.all === true || s.state === 'active');
      const text = shown.length === 0 ? 'nothing is suppressed' : shown.map(lineOf).join('\n');
      cli.print({ text, json: shown }, options.json === true);
    });
}

function removeCommand(cli: CliContext): Command {
  return new Command('remove')
    .description('end a suppression; what it hides is notified from then on')
    .argument('<id>', 'a suppression id from suppress list')
    .requiredOption('--reason <text>', 'why it ends')
    .option('--by <name>', 'who removes it', userInfo().username)
    .option('--json', 'print JSON')
    .action(async (id: string, options: { reason: string; by: string; json?: boolean }) => {
      const removed = await cli.operation<UsedSuppression>('suppress_remove', {
        suppression_id: id,
        removed_by: options.by,
        reason: options.reason,
      });
      const text = `removed ${id}; it had hidden ${removed.hits} finding(s)`;
      cli.print({ text, json: removed }, options.json === true);
    });
}

export default defineCommand({
  id: 'suppress',
  build: (cli) =>
    new Command('suppress')
      .description('suppressions: which findings are kept and shown, but not notified')
      .addCommand(addCommand(cli))
      .addCommand(listCommand(cli))
      .addCommand(previewCommand(cli))
      .addCommand(removeCommand(cli)),
});
