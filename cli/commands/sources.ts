import { Command } from 'commander';
import { loadSources } from '../../collector/registry.ts';
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
          const text = sources
            .map(
              (s) =>
                `${s.id.padEnd(16)} ${s.title} (${s.provides.length} fields, confirmed by ${s.confirmed_by.replace('_', ' ')})`,
            )
            .join('\n');
          const json = sources.map((s) => ({ ...s, parse: undefined }));
          cli.print({ text, json }, options.json === true);
        }),
    ),
});
