import type { Scrubber } from '../../collector/processors/scrub.ts';
import type { Benign } from './benign.ts';
import type { Planted } from './planted.ts';

/** Of one group: how many texts, and how many of them went right. */
export interface Score {
  readonly total: number;
  readonly right: number;
  /** Texts that went wrong, at most `EXAMPLES_MAX`: made up, so that they can be shown. */
  readonly wrong: readonly string[];
}
const EXAMPLES_MAX = 5;

/** A part of a secret of this length is as bad as the whole, characters. */
const PART_LENGTH = 10;

/** True where the secret, or a part of it that tells, is still in the text. */
export function leaks(text: string, secret: string): boolean {
  if (secret.length <= PART_LENGTH) return text.includes(secret);
  for (let i = 0; i + PART_LENGTH <= secret.length; i += 1)
    if (text.includes(secret.slice(i, i + PART_LENGTH))) return true;
  return false;
}

/** Recall by group: secrets of which nothing is left. */
export function scorePlanted(scrubber: Scrubber, corpus: readonly Planted[]): Map<string, Score> {
  return score(corpus, (p) => {
    const { text } = scrubber.scrubText(p.text);
    return leaks(text, p.secret) ? `${p.text}  ->  ${text}` : undefined;
  });
}

/** Share of honest texts by group that are kept as they are. */
export function scoreBenign(scrubber: Scrubber, corpus: readonly Benign[]): Map<string, Score> {
  return score(corpus, (b) => {
    const { text, changed } = scrubber.scrubText(b.text);
    return changed ? `${b.text}  ->  ${text}` : undefined;
  });
}

function score<T extends { readonly group: string }>(
  corpus: readonly T[],
  wrongOf: (item: T) => string | undefined,
): Map<string, Score> {
  const scores = new Map<string, { total: number; right: number; wrong: string[] }>();
  for (const item of corpus) {
    const entry = scores.get(item.group) ?? { total: 0, right: 0, wrong: [] };
    const wrong = wrongOf(item);
    entry.total += 1;
    if (wrong === undefined) entry.right += 1;
    else if (entry.wrong.length < EXAMPLES_MAX) entry.wrong.push(wrong);
    scores.set(item.group, entry);
  }
  return scores;
}
