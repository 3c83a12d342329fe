import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../runtime/errors.ts';
import { packageRoot } from '../../runtime/paths.ts';

/** Where every program leaves what it measured, one file a program. Not part of the repository. */
export const RESULTS_FOLDER = join(packageRoot, 'bench', 'results');

type Flag = number | string | boolean;

/** Where it was measured, and how busy that was: processes that wanted a core in the last minute, on average. */
interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly ram_gb: number;
  readonly load_average: number;
}

function thisMachine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    ram_gb: Math.round(totalmem() / 2 ** 30),
    load_average: round(loadavg()[0] ?? 0),
  };
}

/** What a program measured, with all that is needed to repeat it. */
export interface Result {
  readonly program: string;
  /** The command that repeats it. */
  readonly command: string;
  /** ISO 8601, UTC. */
  readonly measured_at: string;
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly parameters: Readonly<Record<string, Flag>>;
  readonly figures: Readonly<Record<string, unknown>>;
}

/**
 * `--name value` and `--name` (for booleans) over defaults, which also say the type; `counts` names those that must be
 * whole and at least 1. `--help` prints them and ends the process, as does (with 2) a name or value that it does not know.
 */
export function readFlags<T extends Readonly<Record<string, Flag>>>(
  argv: readonly string[],
  defaults: T,
  counts: readonly (keyof T & string)[] = [],
): FlagsOf<T> {
  if (argv.includes('--help')) {
    for (const [name, value] of Object.entries(defaults))
      console.log(`--${name.padEnd(14)} ${value === '' ? '(empty)' : String(value)}`);
    process.exit(0);
  }
  try {
    return parseFlags(argv, defaults, counts);
  } catch (error) {
    console.error(messageOf(error));
    process.exit(2);
  }
}

type FlagsOf<T> = {
  [K in keyof T]: T[K] extends number ? number : T[K] extends boolean ? boolean : string;
};

function parseFlags<T extends Readonly<Record<string, Flag>>>(
  argv: readonly string[],
  defaults: T,
  counts: readonly (keyof T & string)[],
): FlagsOf<T> {
  const flags: Record<string, Flag> = { ...defaults };
  const known = Object.keys(defaults);
  for (let i = 0; i < argv.length; i += 1) {
    const name = (argv[i] ?? '').replace(/^--/, '');
    const before = flags[name];
    if (!known.includes(name) || !argv[i]?.startsWith('--') || before === undefined)
      throw new Error(`unknown argument ${argv[i]}; allowed: --${known.join(', --')}`);
    if (typeof before === 'boolean') {
      flags[name] = true;
      continue;
    }
    const text = argv[(i += 1)] ?? '';
    if (typeof before === 'string') flags[name] = text;
    else if (text !== '' && Number.isFinite(Number(text)) && Number(text) >= 0)
      flags[name] = Number(text);
    else throw new Error(`--${name}: must be a number from 0, not "${text}"`);
  }
  for (const name of counts) {
    if (!Number.isInteger(flags[name]) || Number(flags[name]) < 1)
      throw new Error(`--${name}: must be a whole number from 1`);
  }
  return flags as FlagsOf<T>;
}

/** Prints the figures and writes them to bench/results/<name>.json, by default the program's name. */
export function report(
  program: string,
  parameters: Readonly<Record<string, Flag>>,
  figures: Readonly<Record<string, unknown>>,
  name = program,
): void {
  const given = process.argv.slice(2).join(' ');
  const result: Result = {
    program,
    command: `npm run bench -- ${program}${given === '' ? '' : ` ${given}`}`,
    measured_at: new Date().toISOString(),
    machine: thisMachine(),
    versions: thisVersion(),
    parameters,
    figures,
  };
  mkdirSync(RESULTS_FOLDER, { recursive: true });
  writeFileSync(join(RESULTS_FOLDER, `${name}.json`), `${JSON.stringify(result, null, 2)}\n`);
  console.log(JSON.stringify({ program, parameters, figures }, null, 2));
}

function thisVersion(): Result['versions'] {
  return { node: process.version, chdb: chdbVersion(), commit: commit() };
}

function chdbVersion(): string {
  const file = join(packageRoot, 'node_modules', 'chdb', 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function commit(): string {
  try {
    const head = ['rev-parse', '--short', 'HEAD'];
    return execFileSync('git', head, {
      cwd: packageRoot,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
}

/** The q-quantile of unsorted values, nearest rank; 0 where there are none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

/** Rounded to a number of digits after the point. */
export function round(value: number, digits = 1): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

/** Waits until `isDone`, asking every `everyMs`; throws after `timeoutMs`. */
export async function until(
  isDone: () => Promise<boolean> | boolean,
  options: { readonly timeoutMs: number; readonly everyMs: number; readonly what: string },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  while (!(await isDone())) {
    if (performance.now() > deadline)
      throw new Error(`${options.what}: not within ${options.timeoutMs} ms`);
    await new Promise((r) => setTimeout(r, options.everyMs));
  }
}
