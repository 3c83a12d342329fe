import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { z } from 'zod';
import { loadSources } from '../../collector/registry.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import type { Config } from '../../runtime/config.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import { holderOf } from '../../store/data_dir_lock.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { followFiles } from '../import/follow_files.ts';
import { ImportState } from '../import/import_state.ts';
import { checkCollectorUrl, Interrupted, Poster } from '../import/post_records.ts';
import { Progress } from '../import/progress.ts';
import { ImportRun } from '../import/run_import.ts';
import type { ImportCounts } from '../import/send_lines.ts';
import { SERVER_FILE } from '../roles.ts';

interface Options {
  readonly source: string;
  readonly collector?: string;
  readonly dataDir?: boolean;
  readonly tokenFile?: string;
  readonly follow?: boolean;
  readonly json?: boolean;
}

/** Exit code of a process that SIGINT ended before it was done. */
const EXIT_INTERRUPTED = 130;

async function sourceOf(id: string): Promise<SourceDefinition> {
  const sources = await loadSources();
  const source = sources.get(id);
  if (source !== undefined) return source;
  throw new GrantscopeError(
    'unknown_source',
    `--source ${id}: no such source; known: ${[...sources.keys()].join(', ')}`,
  );
}

/** The collector of the server that holds the data directory, else the one at GRANTSCOPE_COLLECTOR_LISTEN. */
function localCollector({ dataDir, collectorListen }: Config): string {
  if (holderOf(dataDir) !== undefined) {
    try {
      const file: unknown = JSON.parse(readFileSync(join(dataDir, SERVER_FILE), 'utf8'));
      const { collector } = z.object({ collector: z.url() }).parse(file);
      return collector;
    } catch {
      // It is starting, or has no collector.
    }
  }
  const { host, port } = collectorListen;
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function tokenOf(config: Config, { source, tokenFile }: Options): string | undefined {
  const file = tokenFile ?? config.collector.push_tokens[source]?.file;
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new GrantscopeError('invalid_argument', `--token-file ${file}: ${messageOf(error)}`);
  }
}

async function run(cli: CliContext, files: readonly string[], options: Options): Promise<void> {
  if (options.collector !== undefined && options.dataDir === true)
    throw new GrantscopeError('invalid_argument', 'give either --collector or --data-dir');
  const source = await sourceOf(options.source);
  if (options.dataDir !== true) {
    const explicit =
      options.collector === undefined ? undefined : checkCollectorUrl(options.collector);
    const collector = explicit ?? localCollector(cli.config());
    await importInto(cli, files, options, { source, collector, target: explicit ?? 'local' });
    return;
  }
  await cli.withStore(async (store, runtime) => {
    const { startCollector } = await import('../../collector/main.ts');
    const config = { ...runtime.config, collectorListen: { host: '127.0.0.1', port: 0 } };
    const own = await startCollector({ ...runtime, config }, store);
    try {
      await importInto(cli, files, options, { source, collector: own.url, target: 'local' });
    } finally {
      await own.stop();
    }
  });
}

interface Where {
  readonly source: SourceDefinition;
  readonly collector: string;
  /** Names the collector in the state: what one has got, another has not. */
  readonly target: string;
}

async function importInto(
  cli: CliContext,
  files: readonly string[],
  options: Options,
  { source, collector, target }: Where,
): Promise<void> {
  const config = cli.config();
  const ending = endingBySignals();
  const progress = new Progress(process.stderr);
  const token = tokenOf(config, options);
  const { signal } = ending;
  const onWait = sayOnce(progress);
  const poster = new Poster({ collector, source: source.id, token, signal, onWait });
  const state = new ImportState(config.dataDir, source.id, target);
  const importing = new ImportRun({ source, state, poster, progress, signal });
  let failure: Error | undefined;
  const startedMs = performance.now();
  try {
    if (options.follow === true)
      await follow(files, importing, { state, source, signal, progress });
    else await importing.readAll(files);
  } catch (error) {
    failure = error instanceof Error ? error : new Error(messageOf(error));
  } finally {
    ending.stop();
    progress.end(importing.counts);
  }
  const seconds = (performance.now() - startedMs) / 1_000;
  const isComplete = failure === undefined;
  const { counts } = importing;
  if (isComplete || counts.requests > 0 || failure instanceof Interrupted)
    cli.print(
      {
        text: textOf(counts, seconds, isComplete),
        json: {
          source: source.id,
          files: importing.files,
          ...counts,
          seconds,
          complete: isComplete,
        },
      },
      options.json === true,
    );
  if (failure instanceof Interrupted)
    process.exitCode = options.follow === true ? 0 : EXIT_INTERRUPTED;
  else if (failure !== undefined) throw failure;
  if (counts.refused > 0) process.exitCode ??= 1;
}

async function follow(
  files: readonly string[],
  run: ImportRun,
  deps: { state: ImportState; source: SourceDefinition; signal: AbortSignal; progress: Progress },
): Promise<void> {
  if (files.includes('-')) {
    if (files.length > 1)
      throw new GrantscopeError('invalid_argument', '--follow: give either - or files');
    await run.readInput(true);
    return;
  }
  const onBytes = (count: number): void => deps.progress.read(count);
  await followFiles(files, { run, onBytes, ...deps });
}

/** The first SIGINT or SIGTERM ends the run behind the request under way. */
function endingBySignals(): { readonly signal: AbortSignal; stop(): void } {
  const controller = new AbortController();
  const end = (): void => controller.abort();
  process.once('SIGINT', end).once('SIGTERM', end);
  return {
    signal: controller.signal,
    stop: () => process.removeListener('SIGINT', end).removeListener('SIGTERM', end),
  };
}

/** Why nothing goes on, once for each reason until it changes. */
function sayOnce(progress: Progress): (reason: string, ms: number) => void {
  let said = '';
  return (reason, ms) => {
    if (reason === said) return;
    said = reason;
    progress.end();
    process.stderr.write(`grantscope: ${reason}; tries again in ${Math.ceil(ms / 1_000)} s\n`);
  };
}

function textOf(counts: ImportCounts, seconds: number, isComplete: boolean): string {
  const { records, accepted, refused, refusals } = counts;
  const rate = Math.round(records / Math.max(seconds, 0.001));
  return [
    `${records} records: ${accepted} accepted, ${refused} refused (${seconds.toFixed(1)} s, ${rate}/s)`,
    ...refusals.map((r) => `  ${r.file}:${r.line}: ${r.code}: ${r.message}`),
    ...(refused > refusals.length ? [`  ... and ${refused - refusals.length} more`] : []),
    ...(records === 0 && isComplete ? ['nothing new: all was read by an earlier run'] : []),
    ...(isComplete ? [] : ['not at the end: the same command goes on where this one stopped']),
  ].join('\n');
}

export default defineCommand({
  id: 'import',
  build: (cli) =>
    new Command('import')
      .description(
        'send log files to the running collector: from where the last run stopped, packed or not, rotated or not; with --follow as they grow',
      )
      .argument(
        '<files...>',
        'files of NDJSON, a JSON array or object, or text lines, also as gzip; patterns (quoted: "app-*.log"); - reads standard input',
      )
      .requiredOption('--source <id>', 'whose records these are (see: sources list)')
      .option('--follow', 'keep reading what is added, like tail -F, until SIGINT or SIGTERM')
      .option('--collector <url>', 'collector to send to (default: the one of this data directory)')
      .option('--data-dir', 'no server runs: take the data directory for as long as this lasts')
      .option('--token-file <file>', 'file with the token that the collector asks of this source')
      .option('--json', 'print JSON')
      .addHelpText(
        'after',
        '\nHow far each file was read is kept in the data directory (imports/), by what the file is and not by its name, so a run that was killed is simply started again: every record counts once.\n\nExit codes: 0 everything was accepted, 1 records were refused or the collector failed, 2 a file, an option or the configuration is wrong, 130 ended by a signal before the end (without --follow).\n\nExample: grantscope import --source keycloak --follow "/var/log/keycloak/*.log"',
      )
      .action((files: string[], options: Options) => run(cli, files, options)),
});
