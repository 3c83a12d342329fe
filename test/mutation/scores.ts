import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { EQUIVALENT } from './equivalent.ts';

/** What is known of one rule's mutants. */
export interface RuleScore {
  readonly rule: string;
  /** Of the rule's source when it was measured. */
  readonly source: string;
  readonly mutants: number;
  /** Survivors of the examples that the compiler refuses; not among `mutants`. */
  readonly refused: number;
  readonly killed: number;
  /** Names of those that survived, whether listed in equivalent.ts or not. */
  readonly survivors: readonly string[];
}

const FILE = fileURLToPath(new URL('./scores.json', import.meta.url));

/** Identifies a rule's source, so that a score of an older one is told apart. */
export function sourceId(source: string): string {
  return createHash('sha256').update(source).digest('hex').slice(0, 16);
}

/** Names of a rule's mutants that are listed as equivalent. */
export function equivalentOf(rule: string): ReadonlySet<string> {
  return new Set((EQUIVALENT[rule] ?? []).flatMap((e) => e.mutants));
}

/** How many survivors are listed as equivalent. */
export function equivalentCount({ rule, survivors }: RuleScore): number {
  const listed = equivalentOf(rule);
  return survivors.filter((name) => listed.has(name)).length;
}

/** Listed as equivalent, but no mutant, or killed. */
export function wronglyListed({ rule, survivors }: RuleScore): readonly string[] {
  return [...equivalentOf(rule)].filter((name) => !survivors.includes(name));
}

/** Killed of those that can be killed, percent; 100 where none can. */
export function percent(scores: readonly RuleScore[]): number {
  const killed = scores.reduce((n, s) => n + s.killed, 0);
  const killable = scores.reduce((n, s) => n + s.mutants - equivalentCount(s), 0);
  return killable === 0 ? 100 : (100 * killed) / killable;
}

export function readScores(): readonly RuleScore[] {
  if (!existsSync(FILE)) return [];
  return JSON.parse(readFileSync(FILE, 'utf8')) as RuleScore[];
}

/** Replaces what is known of these rules, and leaves what is known of others. */
export function saveScores(scores: readonly RuleScore[]): void {
  const measured = new Set(scores.map((s) => s.rule));
  const all = [...readScores().filter((s) => !measured.has(s.rule)), ...scores];
  all.sort((a, b) => (a.rule < b.rule ? -1 : 1));
  writeFileSync(FILE, `${JSON.stringify(all, null, 2)}\n`);
}
