import { Command, Option } from 'commander';
import { REF_DOMAINS, type RefDomain } from '../../model/ids.ts';
import { storedReferences } from '../../runtime/token_reference.ts';
import { defineCommand } from '../define_command.ts';

export default defineCommand({
  id: 'hash',
  build: (cli) =>
    new Command('hash')
      .description(
        'print the references under which a value is stored; reads standard input where VALUE is -, which keeps it out of the shell history',
      )
      .argument('<value>', 'a token, subject, session or grant id; - reads standard input')
      .addOption(
        new Option('--domain <domain>', 'what the value names')
          .choices(REF_DOMAINS)
          .default('token'),
      )
      .option('--json', 'print JSON')
      .action(async (value: string, options: { domain: RefDomain; json?: boolean }) => {
        const raw = value === '-' ? await readStdin() : value;
        const { keyRing } = cli.runtime();
        const references = storedReferences(keyRing, options.domain, raw);
        cli.print(
          {
            text: references
              .map((r) => `${r.ref}  ${r.ref_kind}${r.key_id === '' ? '' : `  key ${r.key_id}`}`)
              .join('\n'),
            json: { references },
          },
          options.json === true,
        );
      }),
});

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8').trim();
}
