/**
 * Mutation testing of the rules: changes each condition, boundary, default and list of a rule a little, and runs the rule's
 * examples. A change that no example notices (a survivor) is a condition that no example states.
 *
 *   node --import tsx test/mutation/main.ts [rule ...] [--part evaluate|queries|all] [--min SCORE]
 *   node --import tsx test/mutation/main.ts --publish
 *
 * A run over all parts keeps its scores in scores.json beside this file; `--publish` writes them into docs/detection.md.
 * Exit code 1 where a rule's score is below `--min`, or the list of equivalent mutants (equivalent.ts) is wrong. Not
 * changed: `watch`, `concerns` and `screen`, which a backtest does not run (their properties are in test/property); texts
 * and confidences, which examples don't state; limits of what is read or shown; and, in the queries of candidates and
 * histories, what only makes them give more, since `evaluate` decides.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { Detector } from '../../model/define_detector.ts';
import { openStore, type Store } from '../../store/client.ts';
import { migrate } from '../../store/migrate.ts';
import { changed, mutantsOf, type Mutant } from './mutants.ts';
import { publish } from './publish.ts';
import {
  equivalentCount,
  equivalentOf,
  percent,
  readScores,
  saveScores,
  sourceId,
  wronglyListed,
  type RuleScore,
} from './scores.ts';
import { Trial } from './trial.ts';
import { TypeCheck } from './type_check.ts';

const RULES = fileURLToPath(new URL('../../detectors/rules/', import.meta.url));
const PARTS = ['evaluate', 'queries', 'all'] as const;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    part: { type: 'string', default: 'all' },
    min: { type: 'string', default: '0' },
    publish: { type: 'boolean', default: false },
  },
});

/** A rule's score, and what is wrong with the list of its equivalent mutants. */
interface Outcome {
  readonly score: RuleScore;
  readonly report: readonly string[];
  readonly isListWrong: boolean;
}

function isChosen(mutant: Mutant): boolean {
  if (values.part === 'all') return true;
  return mutant.needsEngine === (values.part === 'queries');
}

function sourceOf(rule: string): string {
  return readFileSync(join(RULES, `${rule}.ts`), 'utf8');
}

/** Those of the mutants that the compiler lets pass. */
function compiled(rule: string, source: string, mutants: readonly Mutant[]): readonly Mutant[] {
  const listed = equivalentOf(rule);
  const isSure = (m: Mutant): boolean => !m.mayBreakTypes || listed.has(m.name);
  if (mutants.every(isSure)) return mutants;
  const check = new TypeCheck(join(RULES, `${rule}.ts`));
  return mutants.filter((m) => isSure(m) || check.passes(changed(source, m)));
}

async function run(trial: Trial, rule: string, source: string): Promise<Outcome> {
  const began = performance.now();
  const mutants = mutantsOf(`${rule}.ts`, source).filter(isChosen);
  await trial.checkUnchanged(source);
  const passed: Mutant[] = [];
  for (const mutant of mutants) if (!(await trial.isKilled(source, mutant))) passed.push(mutant);
  const survivors = compiled(rule, source, passed);
  const refused = passed.length - survivors.length;
  const seconds = (performance.now() - began) / 1_000;
  const score: RuleScore = {
    rule,
    source: sourceId(source),
    mutants: mutants.length - refused,
    refused,
    killed: mutants.length - passed.length,
    survivors: survivors.map((m) => m.name),
  };
  const listed = equivalentOf(rule);
  const wrong = values.part === 'all' ? wronglyListed(score) : [];
  const report = [
    `${rule}: ${score.killed} of ${score.mutants} killed, ${equivalentCount(score)} equivalent, ${refused} refused by the compiler (${percent([score]).toFixed(1)} %), ${seconds.toFixed(1)} s`,
    ...survivors.filter((m) => !listed.has(m.name)).map((m) => `  ${m.line}  ${m.name}`),
    ...wrong.map((name) => `  listed as equivalent, but no mutant or killed: ${name}`),
  ];
  return { score, report, isListWrong: wrong.length > 0 };
}

function knownRules(): readonly string[] {
  return readdirSync(RULES)
    .filter((f) => f.endsWith('.ts') && !f.startsWith('_'))
    .map((f) => f.slice(0, -3));
}

/** The named rules or all, each loaded for itself. */
async function chosenRules(): Promise<readonly Detector[]> {
  const known = knownRules();
  const rules: Detector[] = [];
  for (const id of positionals.length === 0 ? known : positionals) {
    if (!known.includes(id)) throw new Error(`rule ${id} is unknown; allowed: ${known.join(', ')}`);
    const module = (await import(pathToFileURL(join(RULES, `${id}.ts`)).href)) as {
      default: Detector;
    };
    rules.push(module.default);
  }
  return rules;
}

async function runAll(store: Store, folder: string): Promise<void> {
  const scores: RuleScore[] = [];
  const least = Number(values.min);
  for (const detector of await chosenRules()) {
    const source = sourceOf(detector.id);
    const trial = await Trial.open(store, detector, RULES, folder);
    const { score, report, isListWrong } = await run(trial, detector.id, source);
    process.stdout.write(`${report.join('\n')}\n`);
    scores.push(score);
    if (isListWrong || percent([score]) < least) process.exitCode = 1;
    if (values.part === 'all') saveScores([score]);
  }
  const killed = scores.reduce((n, s) => n + s.killed, 0);
  const total = scores.reduce((n, s) => n + s.mutants, 0);
  process.stdout.write(`all: ${killed} of ${total} (${percent(scores).toFixed(1)} %)\n`);
}

async function main(): Promise<void> {
  if (values.publish) {
    publish(readScores(), knownRules(), (s) => s.source === sourceId(sourceOf(s.rule)));
    return;
  }
  if (!PARTS.some((p) => p === values.part))
    throw new Error(`--part: must be one of ${PARTS.join(', ')}`);
  const folder = mkdtempSync(join(tmpdir(), 'grantscope-mutation-'));
  const store = openStore({ dataDir: folder });
  try {
    await migrate(store);
    await runAll(store, folder);
  } finally {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
