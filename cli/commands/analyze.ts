import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { loadSources } from '../../collector/registry.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import type { Analysis } from '../analyze/analysis.ts';
import { defineCommand, type CliContext } from '../define_command.ts';

interface Options {
  readonly source: string;
  readonly json?: boolean;
  readonly out?: string;
}

/** Exit code of a process that SIGINT ended. */
const EXIT_INTERRUPTED = 130;

async function run(cli: CliContext, files: readonly string[], options: Options): Promise<void> {
  const sources = await loadSources();
  const source = sources.get(options.source);
  if (source === undefined)
    throw new GrantscopeError(
      'unknown_source',
      `--source ${options.source}: no such source; known: ${[...sources.keys()].join(', ')}`,
    );
  const { analyze } = await import('../analyze/analysis.ts');
  const { markdownReport, textReport } = await import('../analyze/report.ts');
  const folder = mkdtempSync(join(tmpdir(), 'grantscope-analyze-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const interrupted = (): void => {
    remove();
    process.exit(EXIT_INTERRUPTED);
  };
  process.once('SIGINT', interrupted);
  let analysis: Analysis;
  try {
    analysis = await analyze({
      config: cli.config(),
      folder,
      source,
      files,
      progress: (label, done, total) => cli.progress(label, done, total),
    });
  } finally {
    process.removeListener('SIGINT', interrupted);
    remove();
  }
  if (options.out !== undefined) writeReport(options.out, markdownReport(analysis));
  cli.print({ text: textReport(analysis), json: analysis }, options.json === true);
  if (analysis.files.every((f) => f.accepted === 0)) process.exitCode = 1;
}

function writeReport(file: string, text: string): void {
  try {
    writeFileSync(file, text, { mode: 0o600 });
  } catch (error) {
    throw new GrantscopeError('invalid_argument', `--out ${file}: ${messageOf(error)}`);
  }
}

export default defineCommand({
  id: 'analyze',
  build: (cli) =>
    new Command('analyze')
      .description(
        'judge exported logs: reads files through the whole pipeline (redaction included) into a store of its own, runs all rules and SLOs, and prints findings, service levels and a timeline; needs no server and keeps nothing',
      )
      .argument(
        '<files...>',
        'NDJSON, a JSON array or object, or text lines, also as gzip; - reads standard input',
      )
      .requiredOption('--source <id>', 'whose records these are (see: sources list)')
      .option('--out <file>', 'also write the report as Markdown')
      .option('--json', 'print JSON, with all findings and the evidence of each')
      .addHelpText(
        'after',
        '\nReferences of tokens and people are made with GRANTSCOPE_HASH_KEY where it is set, else with a key that nobody keeps.\nParameters of rules and registered clients are those of grantscope.yaml.\n\nExit codes: 0 done (whatever was found), 1 no record could be read, 2 a file or an option is wrong.\n\nExample: grantscope analyze --source keycloak export-*.ndjson.gz --out report.md',
      )
      .action((files: string[], options: Options) => run(cli, files, options)),
});
