import { randomInt } from 'node:crypto';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import { ECHO_MS } from '../runtime/lifecycle.ts';
import type * as Run from './run.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const USAGE_CODES: readonly string[] = [
  'config_invalid',
  'invalid_argument',
  'listen_failed',
  'data_dir_locked',
];
/** By convention 128 + SIGINT. */
const EXIT_INTERRUPTED = 130;
const SEED_MAX = 2 ** 32;
const RATE_MAX = 6_000;
const HONEST_MINUTES_MAX = 1_440;

interface Flags {
  readonly attack: string;
  readonly once?: true;
  readonly honest?: number;
  readonly rate: number;
  readonly seed: number;
  readonly dataDir?: string;
  readonly ledger?: string;
  readonly list?: true;
}

function numberBetween(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= min && value <= max)) {
      throw new InvalidArgumentError(`must be a number from ${min} to ${max}.`);
    }
    return value;
  };
}

function wholeBetween(min: number, max: number): (text: string) => number {
  const parse = numberBetween(min, max);
  return (text) => {
    const value = parse(text);
    if (!Number.isInteger(value)) throw new InvalidArgumentError('must be a whole number.');
    return value;
  };
}

function readFlags(argv: readonly string[]): Flags {
  const program = new Command('npm run demo --')
    .description(
      'Grantscope with a real authorization server, clients, a gateway and APIs on loopback, honest traffic and attacks.',
    )
    .option('--attack <name>', 'attack to run, or all', 'all')
    .option('--once', 'run the attacks once; exit 0 when every one was found, else 1')
    .option(
      '--honest <minutes>',
      'run this much honest traffic, compressed in time; exit 0 when nothing of severity medium or above was found',
      numberBetween(0.1, HONEST_MINUTES_MAX),
    )
    .option('--rate <flows>', 'honest flows a minute', numberBetween(1, RATE_MAX), 90)
    .option('--seed <number>', 'repeats a run', wholeBetween(0, SEED_MAX - 1), randomInt(SEED_MAX))
    .option(
      '--data-dir <folder>',
      'where Grantscope keeps its data (default: ./data/demo, or a temporary folder with --once and --honest)',
    )
    .option(
      '--ledger <file>',
      'at the end, write every secret of the run to this file, to search for them',
    )
    .option('--list', 'list the attacks and the rules that find them')
    .allowExcessArguments(false)
    .exitOverride();
  program.parse([...argv]);
  const flags = program.opts<Flags>();
  if (flags.once === true && flags.honest !== undefined) {
    program.error('error: --once and --honest exclude each other', { exitCode: EXIT_USAGE });
  }
  return flags;
}

/** The first signal lets the demo drain, a second one ends it at once. */
function stopOnSignals(): AbortSignal {
  const controller = new AbortController();
  let firstAtMs = 0;
  const onSignal = (): void => {
    if (controller.signal.aborted) {
      if (performance.now() - firstAtMs > ECHO_MS) process.exit(EXIT_INTERRUPTED);
      return;
    }
    firstAtMs = performance.now();
    console.error('stopping; a second signal ends at once');
    controller.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return controller.signal;
}

/** oidc-provider warns about Node 20 while it loads; the demo is tested on it, so the line would only confuse. */
async function loadRun(): Promise<typeof Run> {
  const { warn } = console;
  console.warn = (...parts: unknown[]) => {
    if (!String(parts[0]).includes('Unsupported runtime')) warn(...parts);
  };
  try {
    return await import('./run.ts');
  } finally {
    console.warn = warn;
  }
}

function optionsOf(flags: Flags, signal: AbortSignal): Run.DemoOptions {
  return {
    mode: flags.once === true ? 'once' : flags.honest === undefined ? 'live' : 'honest',
    attack: flags.attack,
    honestMinutes: flags.honest ?? 0,
    flowsPerMinute: flags.rate,
    seed: flags.seed,
    dataDir: flags.dataDir,
    ledgerFile: flags.ledger,
    environment: process.env,
    print: (line) => console.log(line),
    progress: showProgress,
    signal,
  };
}

/** One line that rewrites itself, for people only. */
function showProgress(label: string, done: number, total: number): void {
  if (!process.stderr.isTTY) return;
  process.stderr.write(`\r${label}: ${done} of ${total}${done === total ? '\n' : ''}`);
}

async function main(argv: readonly string[]): Promise<number> {
  try {
    const flags = readFlags(argv);
    const { describeAttacks, runDemo } = await loadRun();
    if (flags.list === true) {
      for (const line of await describeAttacks()) console.log(line);
      return 0;
    }
    return await runDemo(optionsOf(flags, stopOnSignals()));
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    console.error(`demo: ${messageOf(error)}`);
    const isUsage = error instanceof GrantscopeError && USAGE_CODES.includes(error.code);
    return isUsage ? EXIT_USAGE : EXIT_FAILED;
  }
}

process.exit(await main(process.argv));
