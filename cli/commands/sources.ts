import { Command } from 'commander';
import { loadSources } from '../../collector/registry.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { addressPolicyLines } from '../address_policy.ts';
import { defineCommand } from '../define_command.ts';

export default defineCommand({
  id: 'sources',
  build: (cli) =>
    new Command('sources').description('the systems that Grantscope understands').addCommand(
      new Command('list')
        .description('all sources, with the fields that each can provide')
        .option('--json', 'print JSON')
        .action(async (options: { json?: boolean }) => {
          const sources = [...(await loadSources()).values()];
          const lines = sources.map(
            (s) =>
              `${s.id.padEnd(16)} ${s.title} (${s.provides.length} fields, confirmed by ${s.confirmed_by.replace('_', ' ')})`,
          );
          const policy = cli.config().redaction.client_ip;
          const text = [...lines, ...addressPolicyLines(policy, await loadDetectors())].join('\n');
          const json = sources.map((s) => ({ ...s, parse: undefined }));
          cli.print({ text, json }, options.json === true);
        }),
    ),
});
