import { Argument, Command, Option } from 'commander';
import { z } from 'zod';
import { Report, REPORT_KINDS, type ReportKind } from '../../model/report.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { parseEventTime } from '../event_time.ts';
import { toMarkdown } from '../report/document.ts';
import { REPORT_OPERATION, type ReportRequest } from '../report/operations.ts';
import { reportDocument } from '../report/report_document.ts';
import { jsonText, writeDocument } from '../report/write_document.ts';

interface Options {
  readonly from?: string;
  readonly to?: string;
  readonly format: 'markdown' | 'json';
  readonly out?: string;
}

async function run(cli: CliContext, kind: ReportKind, options: Options): Promise<void> {
  const { from, to } = options;
  const request: ReportRequest = { kind, from, to };
  const report = await cli.operation<Report>(REPORT_OPERATION, request);
  const text = options.format === 'json' ? jsonText(report) : toMarkdown(reportDocument(report));
  writeDocument(text, options.out);
}

export default defineCommand({
  id: 'report',
  build: (cli) =>
    new Command('report')
      .description('a regular report: how the week, month or quarter went, and what changed')
      .addArgument(new Argument('<kind>', 'what to report').choices([...REPORT_KINDS, 'schema']))
      .option('--from <time>', 'start (default: the last complete period, in UTC)', parseEventTime)
      .option('--to <time>', 'end, not included', parseEventTime)
      .addOption(
        new Option('--format <format>', 'how to write it')
          .choices(['markdown', 'json'])
          .default('markdown'),
      )
      .option('--out <file>', 'write it to a file instead of standard output')
      .addHelpText(
        'after',
        '\nreport schema prints the JSON Schema of --format json.\n\nExample: grantscope report weekly --out week.md',
      )
      .action((kind: ReportKind | 'schema', options: Options) => {
        if (kind !== 'schema') return run(cli, kind, options);
        writeDocument(jsonText(z.toJSONSchema(Report)), options.out);
        return undefined;
      }),
});
