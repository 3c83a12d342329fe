import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { equivalentCount, percent, wronglyListed, type RuleScore } from './scores.ts';

const DOCUMENT = fileURLToPath(new URL('../../docs/detection.md', import.meta.url));
const BEGIN = '<!-- scores: node --import tsx test/mutation/main.ts --publish -->';
const END = '<!-- /scores -->';

function row(name: string, scores: readonly RuleScore[], note: string): string {
  const sum = (part: (s: RuleScore) => number): number => scores.reduce((n, s) => n + part(s), 0);
  const cells = [
    name,
    sum((s) => s.mutants),
    sum((s) => s.killed),
    sum(equivalentCount),
    `${percent(scores).toFixed(1)} %${note}`,
  ];
  return `| ${cells.join(' | ')} |`;
}

/**
 * Writes the table of all rules' scores into docs/detection.md. `isCurrent` tells whether a score is of the rule as it stands; one
 * that is not is marked.
 */
export function publish(
  scores: readonly RuleScore[],
  rules: readonly string[],
  isCurrent: (score: RuleScore) => boolean,
): void {
  const wrong = scores.flatMap((s) => wronglyListed(s).map((name) => `${s.rule}: ${name}`));
  if (wrong.length > 0)
    throw new Error(`listed as equivalent, but no mutant or killed:\n${wrong.join('\n')}`);
  const text = readFileSync(DOCUMENT, 'utf8');
  const from = text.indexOf(BEGIN);
  const to = text.indexOf(END);
  if (from === -1 || to < from)
    throw new Error(`docs/detection.md: the table needs the lines ${BEGIN} and ${END}`);
  const table = [
    '| rule | mutants | killed | equivalent | score |',
    '|---|---|---|---|---|',
    ...rules.map((rule) => {
      const own = scores.filter((s) => s.rule === rule);
      const isOld = own.some((s) => !isCurrent(s));
      return own.length === 0
        ? `| ${rule} | not measured | | | |`
        : row(rule, own, isOld ? ' (before its last change)' : '');
    }),
    row('**all**', scores, ''),
  ].join('\n');
  writeFileSync(DOCUMENT, `${text.slice(0, from)}${BEGIN}\n\n${table}\n\n${text.slice(to)}`);
}
