import { Command } from 'commander';
import { loadDetectors } from '../../detectors/registry.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { addressPolicyLines } from '../address_policy.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { formsOf, loadUsedSources, type UsedSource } from '../source_pages.ts';

function lineOf({ source: s, use }: UsedSource): string {
  const rules = `${use.works.length} detectors work, ${use.blind.length} are blind`;
  return `${s.id.padEnd(28)} ${s.title} (${s.provides.length} fields; ${rules}; confirmed by ${s.confirmed_by.replace('_', ' ')})`;
}

/** What a definition says, without its functions, and what follows from it. */
function jsonOf({ source, use }: UsedSource): unknown {
  return { ...source, parse: undefined, unwrap: undefined, ...use };
}

function textOf({ source: s, use }: UsedSource): string {
  const list = (names: readonly string[]): string => names.join(', ') || 'none';
  return [
    `${s.id}: ${s.title}`,
    s.description,
    `send to: POST /v1/events/${s.id}, ${formsOf(s)}`,
    `confirmed by: ${s.confirmed_by.replace('_', ' ')}`,
    `kinds: ${s.kinds === undefined ? 'all' : list(s.kinds)}`,
    `fields: ${list(s.provides)}`,
    `SLIs: ${list(use.slis)}`,
    `detectors that work: ${list(use.works)}`,
    `detectors that work with databases of networks: ${list(use.works_with_databases)}`,
    `detectors that are blind: ${use.blind.length === 0 ? 'none' : ''}`,
    ...use.blind.map(
      ({ id, missing, reason }) => `  ${id}: ${reason ?? `needs ${missing.join(', ')}`}`,
    ),
  ].join('\n');
}

async function list(cli: CliContext, asJson: boolean): Promise<void> {
  const used = await loadUsedSources();
  const policy = cli.config().redaction.client_ip;
  const lines = [...used.map(lineOf), ...addressPolicyLines(policy, await loadDetectors())];
  cli.print({ text: lines.join('\n'), json: used.map(jsonOf) }, asJson);
}

async function show(cli: CliContext, id: string, asJson: boolean): Promise<void> {
  const used = await loadUsedSources();
  const found = used.find(({ source }) => source.id === id);
  if (found === undefined) {
    const known = used.map(({ source }) => source.id).join(', ');
    throw new GrantscopeError('unknown_source', `no source ${id}; known: ${known}`);
  }
  cli.print({ text: textOf(found), json: jsonOf(found) }, asJson);
}

export default defineCommand({
  id: 'sources',
  build: (cli) =>
    new Command('sources')
      .description('the systems that Grantscope understands')
      .addCommand(
        new Command('list')
          .description('all sources, with the fields and the detectors that each can feed')
          .option('--json', 'print JSON')
          .action((options: { json?: boolean }) => list(cli, options.json === true)),
      )
      .addCommand(
        new Command('show')
          .description('one source: kinds, fields, detectors that work, and what the others lack')
          .argument('<id>')
          .option('--json', 'print JSON')
          .action((id: string, options: { json?: boolean }) =>
            show(cli, id, options.json === true),
          ),
      ),
});
