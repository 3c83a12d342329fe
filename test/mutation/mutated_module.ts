import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import type { Detector } from '../../model/define_detector.ts';
import { changed, type Mutant } from './mutants.ts';

/** Steps that all loops of a rule may take in one evaluation: a mutant that never ends is found out. */
const STEPS_MAX = 200_000;

const counter = globalThis as { mutantSteps?: number };

/** To be called before each evaluation. */
export function resetSteps(): void {
  counter.mutantSteps = 0;
}

let made = 0;

/** Loads a rule with a change, from a module of its own beside nothing else. */
export async function loadMutated(
  rulesFolder: string,
  source: string,
  mutant: Mutant,
  folder: string,
): Promise<Detector> {
  const guarded = guardLoops(changed(source, mutant));
  const { outputText } = ts.transpileModule(guarded, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  const linked = outputText.replace(
    /from '([^']+)'/g,
    (_all, name: string) =>
      `from '${name.startsWith('.') ? pathToFileURL(resolve(rulesFolder, name)).href : import.meta.resolve(name)}'`,
  );
  made += 1;
  const file = join(folder, `mutant_${made}.mjs`);
  writeFileSync(file, linked);
  const module = (await import(pathToFileURL(file).href)) as { default: Detector };
  return module.default;
}

/** Counts the rounds of every loop. */
function guardLoops(source: string): string {
  const file = ts.createSourceFile('mutant.ts', source, ts.ScriptTarget.ES2022, true);
  const bodies: ts.Statement[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isIterationStatement(node, false)) bodies.push(node.statement);
    ts.forEachChild(node, visit);
  };
  visit(file);
  const guard = `if ((globalThis.mutantSteps = (globalThis.mutantSteps ?? 0) + 1) > ${STEPS_MAX}) throw new Error('endless');`;
  let text = source;
  // From the last to the first, so that positions hold; an inner loop lies behind the head of its outer one.
  const edits = bodies.flatMap((b) => [
    { at: b.getStart(file), insert: `{ ${guard} ` },
    { at: b.end, insert: ' }' },
  ]);
  for (const { at, insert } of edits.sort((a, b) => b.at - a.at))
    text = text.slice(0, at) + insert + text.slice(at);
  return text;
}
