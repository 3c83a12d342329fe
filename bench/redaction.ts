import { createScrubber } from '../collector/processors/scrub.ts';
import { benignCorpus } from '../test/corpus/benign.ts';
import { plantedCorpus } from '../test/corpus/planted.ts';
import { scoreBenign, scorePlanted, type Score } from '../test/corpus/score.ts';
import { readFlags, report } from './harness/program.ts';

/**
 * How much of what is secret redaction finds, and how much of what is not it leaves alone, by group, on the corpus of
 * test/corpus: made-up secrets in every hiding place, and honest texts that look like secrets.
 *
 *   npm run bench -- redaction [--each 200] [--seed 1] [--wrong]
 *
 * Prints the groups and writes bench/results/redaction.json. `--wrong` shows texts that went wrong.
 */

const flags = readFlags(process.argv.slice(2), { each: 200, seed: 1, wrong: false }, [
  'each',
  'seed',
]);
const { each, seed, wrong: showWrong } = flags;
const scrubber = createScrubber();

function print(title: string, scores: ReadonlyMap<string, Score>): void {
  process.stdout.write(`${title}\n`);
  for (const [group, { total, right, wrong }] of scores) {
    const share = ((100 * right) / total).toFixed(1);
    process.stdout.write(`  ${group.padEnd(36)} ${share.padStart(6)} %  of ${total}\n`);
    if (showWrong)
      for (const text of wrong) process.stdout.write(`      ${JSON.stringify(text)}\n`);
  }
}

const sum = (scores: ReadonlyMap<string, Score>, of: 'total' | 'right'): number =>
  [...scores.values()].reduce((all, s) => all + s[of], 0);

const planted = scorePlanted(scrubber, plantedCorpus(seed, each));
const benign = scoreBenign(scrubber, benignCorpus(seed, each));
print('secrets found (recall)', planted);
print('honest texts kept', benign);
const found = sum(planted, 'right');
const alarms = sum(benign, 'total') - sum(benign, 'right');
const recall = found / sum(planted, 'total');
const precision = found / (found + alarms);
const kept = sum(benign, 'right') / sum(benign, 'total');
process.stdout.write(
  `recall ${(100 * recall).toFixed(2)} %, precision ${(100 * precision).toFixed(2)} %, honest texts kept ${(100 * kept).toFixed(2)} % (seed ${seed}, ${each} of each group)\n`,
);
const shares = (scores: ReadonlyMap<string, Score>): Record<string, number> =>
  Object.fromEntries([...scores].map(([group, s]) => [group, s.right / s.total]));
report('redaction', flags, {
  recall,
  precision,
  kept,
  recall_by_group: shares(planted),
  kept_by_group: shares(benign),
});
