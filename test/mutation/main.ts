/**
 * Mutation testing of the rules: changes each condition, boundary, default and list of a rule a little, and runs the rule's
 * examples. A change that no example notices (a survivor) is a condition that no example states.
 *
 *   node --import tsx test/mutation/main.ts [rule ...] [--part evaluate|queries|all] [--min SCORE] [--json]
 *
 * Exit code 1 where a rule's score is below `--min`. Not changed: `watch`, `concerns` and `screen`, which a backtest does not
 * run (their properties are in test/property); texts and confidences, which examples don't state; limits of what is read or
 * shown; and, in the queries of candidates and histories, what only makes them give more, since `evaluate` decides.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { loadDetectors } from '../../detectors/registry.ts';
import type { Detector } from '../../model/define_detector.ts';
import { openStore } from '../../store/client.ts';
import { migrate } from '../../store/migrate.ts';
import { mutantsOf, type Mutant } from './mutants.ts';
import { Trial } from './trial.ts';

const RULES = fileURLToPath(new URL('../../detectors/rules/', import.meta.url));
const PARTS = ['evaluate', 'queries', 'all'] as const;

interface RuleScore {
  readonly rule: string;
  readonly mutants: number;
  readonly killed: number;
  readonly survivors: readonly Mutant[];
  readonly seconds: number;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    part: { type: 'string', default: 'all' },
    min: { type: 'string', default: '0' },
    json: { type: 'boolean', default: false },
  },
});

function isChosen(mutant: Mutant): boolean {
  if (values.part === 'all') return true;
  return mutant.needsEngine === (values.part === 'queries');
}

function short(text: string): string {
  const flat = text.replace(/\s+/g, ' ');
  return flat.length > 70 ? `${flat.slice(0, 67)}...` : flat;
}

/** Of a long text, the place that changed. */
function shownChange({ before, after }: Mutant): string {
  let from = 0;
  while (from < before.length && before[from] === after[from]) from += 1;
  const start = before.length > 60 ? Math.max(0, from - 25) : 0;
  return `${short(before.slice(start))}  ->  ${short(after.slice(start))}`;
}

function describe(score: RuleScore): string {
  const share = score.mutants === 0 ? 100 : (100 * score.killed) / score.mutants;
  const head = `${score.rule}: ${score.killed} of ${score.mutants} mutants killed (${share.toFixed(1)} %), ${score.seconds.toFixed(1)} s`;
  return [head, ...score.survivors.map((m) => `  line ${m.line}: ${shownChange(m)}`)].join('\n');
}

async function scoreOf(trial: Trial, rule: string): Promise<RuleScore> {
  const began = performance.now();
  const file = join(RULES, `${rule}.ts`);
  const source = readFileSync(file, 'utf8');
  const mutants = mutantsOf(file, source).filter(isChosen);
  const survivors: Mutant[] = [];
  for (const [i, mutant] of mutants.entries()) {
    if (process.stderr.isTTY) process.stderr.write(`\r${rule} ${i}/${mutants.length} `);
    if (!(await trial.isKilled(source, mutant))) survivors.push(mutant);
  }
  if (process.stderr.isTTY) process.stderr.write('\r');
  const seconds = (performance.now() - began) / 1_000;
  const killed = mutants.length - survivors.length;
  return { rule, mutants: mutants.length, killed, survivors, seconds };
}

/** The named rules, each loaded alone, or all. */
async function chosenRules(): Promise<readonly Detector[]> {
  if (positionals.length === 0) return loadDetectors();
  const known = readdirSync(RULES)
    .filter((f) => f.endsWith('.ts') && !f.startsWith('_'))
    .map((f) => f.slice(0, -3));
  const rules: Detector[] = [];
  for (const id of positionals) {
    if (!known.includes(id)) throw new Error(`rule ${id} is unknown; allowed: ${known.join(', ')}`);
    const module = (await import(pathToFileURL(join(RULES, `${id}.ts`)).href)) as {
      default: Detector;
    };
    rules.push(module.default);
  }
  return rules;
}

async function main(): Promise<void> {
  if (!PARTS.some((p) => p === values.part))
    throw new Error(`--part: must be one of ${PARTS.join(', ')}`);
  const chosen = await chosenRules();
  const folder = mkdtempSync(join(tmpdir(), 'grantscope-mutation-'));
  const store = openStore({ dataDir: folder });
  try {
    await migrate(store);
    const scores: RuleScore[] = [];
    for (const detector of chosen) {
      const trial = await Trial.open(store, detector, RULES, folder);
      const score = await scoreOf(trial, detector.id);
      scores.push(score);
      if (!values.json) process.stdout.write(`${describe(score)}\n`);
    }
    if (values.json) process.stdout.write(`${JSON.stringify(scores, null, 2)}\n`);
    const killed = scores.reduce((n, s) => n + s.killed, 0);
    const total = scores.reduce((n, s) => n + s.mutants, 0);
    if (!values.json)
      process.stdout.write(
        `all: ${killed} of ${total} (${((100 * killed) / Math.max(1, total)).toFixed(1)} %)\n`,
      );
    const isBelow = scores.some((s) => s.killed * 100 < Number(values.min) * s.mutants);
    if (isBelow) process.exitCode = 1;
  } finally {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
