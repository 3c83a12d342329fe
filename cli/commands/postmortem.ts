import { Command, InvalidArgumentError, Option } from 'commander';
import {
  POSTMORTEM_ENTITIES,
  type Postmortem,
  type PostmortemRequest,
} from '../../model/postmortem.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { parseEventTime } from '../event_time.ts';
import { toHtml, toMarkdown } from '../report/document.ts';
import { POSTMORTEM_OPERATION } from '../report/operations.ts';
import { postmortemDocument, postmortemTitle } from '../report/postmortem_document.ts';
import { jsonText, writeDocument } from '../report/write_document.ts';

type Entity = NonNullable<PostmortemRequest['entity']>;

interface Options {
  readonly from: string;
  readonly to: string;
  readonly entity?: Entity;
  readonly format: 'markdown' | 'json' | 'html';
  readonly out?: string;
}

/** `client:shop-web`; what follows the first colon is the reference. */
export function parseEntity(text: string): Entity {
  const colon = text.indexOf(':');
  const type = POSTMORTEM_ENTITIES.find((t) => t === text.slice(0, colon));
  const ref = text.slice(colon + 1);
  if (type === undefined || ref === '')
    throw new InvalidArgumentError(
      `must be TYPE:REFERENCE with one of ${POSTMORTEM_ENTITIES.join(', ')}, for instance client:shop-web.`,
    );
  return { type, ref };
}

async function run(cli: CliContext, options: Options): Promise<void> {
  const { from, to, entity, format } = options;
  const request: PostmortemRequest = { from, to, entity };
  const postmortem = await cli.operation<Postmortem>(POSTMORTEM_OPERATION, request);
  writeDocument(written(postmortem, format), options.out);
}

function written(postmortem: Postmortem, format: Options['format']): string {
  if (format === 'json') return jsonText(postmortem);
  const blocks = postmortemDocument(postmortem);
  return format === 'html' ? toHtml(postmortemTitle(postmortem), blocks) : toMarkdown(blocks);
}

export default defineCommand({
  id: 'postmortem',
  build: (cli) =>
    new Command('postmortem')
      .description(
        'writes down an incident from what is stored: impact, times, tokens and their uses, gaps, notifications, and what is left to fill',
      )
      .requiredOption('--from <time>', 'start', parseEventTime)
      .requiredOption('--to <time>', 'end, not included', parseEventTime)
      .option(
        '--entity <type:reference>',
        `what it is about: ${POSTMORTEM_ENTITIES.join(', ')} (default: all active findings of severity medium and above)`,
        parseEntity,
      )
      .addOption(
        new Option('--format <format>', 'how to write it')
          .choices(['markdown', 'json', 'html'])
          .default('markdown'),
      )
      .option('--out <file>', 'write it to a file instead of standard output')
      .addHelpText(
        'after',
        '\nExample: grantscope postmortem --from 2026-03-01T10:00:00Z --to 2026-03-01T12:00:00Z --entity client:shop-web --format html --out incident.html',
      )
      .action((options: Options) => run(cli, options)),
});
