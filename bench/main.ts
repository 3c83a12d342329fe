import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';
import { RESULTS_FOLDER } from './harness/program.ts';

/**
 * Runs a program of this folder, lists them, or runs all that docs/performance.md quotes.
 *
 *   npm run bench                            the list
 *   npm run bench -- ingest --events 300000  one program
 *   npm run bench -- all [--quick]           every figure, then `publish`
 *   npm run bench -- all --smoke             that every program runs: no figures
 */
const FOLDER = join(packageRoot, 'bench');

/**
 * Every figure of docs/performance.md. `--quick` is shorter and smaller, and the page says so. `--smoke` shows in some minutes that each
 * program starts, ends and writes its result; its figures say nothing and are not published.
 */
const PLAN: readonly { readonly full: string; readonly quick: string; readonly smoke: string }[] = [
  {
    full: 'collect',
    quick: 'collect --quick --events 200000',
    smoke: 'collect --payload ndjson --events 5000',
  },
  { full: 'adapters', quick: 'adapters --quick', smoke: 'adapters --quick --records 100' },
  {
    full: 'ingest --events 1000000',
    quick: 'ingest --events 300000',
    smoke: 'ingest --events 5000 --warm 1000',
  },
  {
    full: 'ingest --name soak --rate 30000 --seconds 600 --clients 16',
    quick: 'ingest --name soak --rate 30000 --seconds 120 --clients 16',
    smoke: 'ingest --name soak --rate 1000 --seconds 10 --clients 16 --warm 1000',
  },
  {
    full: 'ingest --name ack --rate 30000 --seconds 60 --clients 16',
    quick: 'ingest --name ack --rate 30000 --seconds 20 --clients 16',
    smoke: 'ingest --name ack --rate 1000 --seconds 5 --clients 16 --warm 1000',
  },
  {
    full: 'ingest --name memory --rate 20000 --seconds 120 --clients 16',
    quick: 'ingest --name memory --rate 20000 --seconds 30 --clients 16',
    smoke: 'ingest --name memory --rate 1000 --seconds 5 --clients 16 --warm 1000',
  },
  {
    full: 'detection_latency --rate 20000 --seconds 60',
    quick: 'detection_latency --rate 20000 --seconds 30',
    smoke: 'detection_latency --rate 1000 --seconds 10',
  },
  { full: 'disk --events 1000000', quick: 'disk --events 200000', smoke: 'disk --events 5000' },
  {
    full: 'timeline --events 100000000',
    quick: 'timeline --quick',
    smoke: 'timeline --events 100000 --tokens 5',
  },
  {
    full: 'panels --events 100000000',
    quick: 'panels --quick',
    smoke: 'panels --events 100000 --runs 1',
  },
  { full: 'sweep --events 100000000', quick: 'sweep --quick', smoke: 'sweep --events 100000' },
];
type Size = 'full' | 'quick' | 'smoke';

/** A file of this folder that is neither this one nor a part of a program (`_name.ts`). */
function programs(): readonly string[] {
  return readdirSync(FOLDER)
    .filter((f) => f.endsWith('.ts') && !f.startsWith('_') && f !== 'main.ts')
    .map((f) => f.slice(0, -'.ts'.length))
    .sort();
}

/** The first sentence of a program's doc comment. */
function purposeOf(program: string): string {
  const text = readFileSync(join(FOLDER, `${program}.ts`), 'utf8');
  const comment = /\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? '';
  const words = comment
    .replace(/^\s*\* ?/gm, '')
    .replace(/\s+/g, ' ')
    .trim();
  return words.split(/(?<=[.:;]) /)[0]?.replace(/[:;]$/, '.') ?? '';
}

async function run(program: string, argv: readonly string[]): Promise<boolean> {
  const file = join(FOLDER, `${program}.ts`);
  const child = spawn(process.execPath, ['--import', 'tsx', file, ...argv], {
    cwd: packageRoot,
    stdio: 'inherit',
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return code === 0;
}

async function runAll(size: Size): Promise<boolean> {
  const failed: string[] = [];
  for (const step of PLAN) {
    const command = step[size];
    const [program = '', ...argv] = command.split(' ');
    console.error(`\n== ${command}`);
    const began = Date.now();
    if (!(await run(program, argv))) failed.push(command);
    else if (!isWritten(argv, program, began)) failed.push(`${command} (no result)`);
    console.error(`== ${Math.round((Date.now() - began) / 1_000)} s`);
  }
  if (failed.length > 0) console.error(`failed: ${failed.join('; ')}`);
  const isPublished = size === 'smoke' || (await run('publish', []));
  return isPublished && failed.length === 0;
}

/** True where the program left a result since, under its name or that of `--name`. */
function isWritten(argv: readonly string[], program: string, since: number): boolean {
  const at = argv.indexOf('--name');
  const name = at < 0 ? program : (argv[at + 1] ?? program);
  const file = statSync(join(RESULTS_FOLDER, `${name}.json`), { throwIfNoEntry: false });
  return file !== undefined && file.mtimeMs >= since;
}

function sizeOf(argv: readonly string[]): Size {
  if (argv.includes('--smoke')) return 'smoke';
  return argv.includes('--quick') ? 'quick' : 'full';
}

const [name, ...rest] = process.argv.slice(2);
if (name === undefined || name === '--help') {
  for (const program of programs()) console.log(`${program.padEnd(12)} ${purposeOf(program)}`);
  console.log(
    'all          Everything that docs/performance.md quotes; --quick is shorter, --smoke the shortest.',
  );
} else if (name === 'all') {
  if (!(await runAll(sizeOf(rest)))) process.exitCode = 1;
} else if (programs().includes(name)) {
  if (!(await run(name, rest))) process.exitCode = 1;
} else {
  console.error(`unknown program ${name}; known: ${programs().join(', ')}, all`);
  process.exitCode = 1;
}
