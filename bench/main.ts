import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';

/**
 * Runs a program of this folder, lists them, or runs all that docs/performance.md quotes.
 *
 *   npm run bench                            the list
 *   npm run bench -- ingest --events 300000  one program
 *   npm run bench -- all [--quick]           every figure, then `publish`
 */
const FOLDER = join(packageRoot, 'bench');

/** Every figure of docs/performance.md; `--quick` is shorter and smaller, and the page says so. */
const PLAN: readonly { readonly full: string; readonly quick: string }[] = [
  { full: 'collect', quick: 'collect --quick --events 200000' },
  { full: 'adapters', quick: 'adapters --quick' },
  { full: 'ingest --events 1000000', quick: 'ingest --events 300000' },
  {
    full: 'ingest --name soak --rate 60000 --seconds 600 --clients 16',
    quick: 'ingest --name soak --rate 60000 --seconds 30 --clients 16',
  },
  {
    full: 'ingest --name ack --rate 30000 --seconds 60 --clients 16',
    quick: 'ingest --name ack --rate 30000 --seconds 20 --clients 16',
  },
  {
    full: 'ingest --name memory --rate 20000 --seconds 120 --clients 16',
    quick: 'ingest --name memory --rate 20000 --seconds 30 --clients 16',
  },
  {
    full: 'detection_latency --rate 20000 --seconds 60',
    quick: 'detection_latency --rate 20000 --seconds 30',
  },
  { full: 'disk --events 1000000', quick: 'disk --events 200000' },
  { full: 'timeline --events 100000000', quick: 'timeline --quick' },
  { full: 'panels --events 100000000', quick: 'panels --quick' },
  { full: 'sweep --events 100000000', quick: 'sweep --quick' },
];

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

async function runAll(isQuick: boolean): Promise<boolean> {
  const failed: string[] = [];
  for (const step of PLAN) {
    const command = isQuick ? step.quick : step.full;
    const [program = '', ...argv] = command.split(' ');
    console.error(`\n== ${command}`);
    if (!(await run(program, argv))) failed.push(command);
  }
  if (failed.length > 0) console.error(`failed: ${failed.join('; ')}`);
  return (await run('publish', [])) && failed.length === 0;
}

const [name, ...rest] = process.argv.slice(2);
if (name === undefined || name === '--help') {
  for (const program of programs()) console.log(`${program.padEnd(12)} ${purposeOf(program)}`);
  console.log('all          Everything that docs/performance.md quotes; --quick is shorter.');
} else if (name === 'all') {
  if (!(await runAll(rest.includes('--quick')))) process.exitCode = 1;
} else if (programs().includes(name)) {
  if (!(await run(name, rest))) process.exitCode = 1;
} else {
  console.error(`unknown program ${name}; known: ${programs().join(', ')}, all`);
  process.exitCode = 1;
}
