import { decodedView } from './decoded_view.ts';
import { scanSecrets, type ScanContext } from './secret_scanners.ts';
import { REDACTED } from './scrubber.ts';

const PASSES_MAX = 5;
/** A longer text is scrubbed once. */
const REPEATED_LENGTH_MAX = 16_384;

/**
 * The text with `[redacted]` for every secret. What stands where a secret stood can complete another parameter, so this
 * goes on until nothing changes; long texts are scrubbed once, to bound what a hostile one costs.
 */
export function replaceSecrets(text: string, context: ScanContext): string {
  let current = text;
  for (let pass = 0; pass < PASSES_MAX; pass += 1) {
    const scrubbed = replaceOnce(current, context);
    if (scrubbed === current || scrubbed.length > REPEATED_LENGTH_MAX) return scrubbed;
    current = scrubbed;
  }
  return current;
}

function replaceOnce(text: string, context: ScanContext): string {
  const view = decodedView(text);
  // Start and end in turn: a hostile text has a hundred thousand ranges.
  const ranges: number[] = [];
  scanSecrets(view, context, (start, end) => {
    if (end > start) ranges.push(view.at(start), view.at(end));
  });
  return ranges.length === 0 ? text : replaceRanges(text, sorted(ranges));
}

/** One scanner reports in order; only where several found something is there anything to sort. */
function sorted(ranges: number[]): readonly number[] {
  let inOrder = true;
  for (let i = 2; i < ranges.length && inOrder; i += 2)
    inOrder = (ranges[i] ?? 0) >= (ranges[i - 2] ?? 0);
  if (inOrder) return ranges;
  const order = new Float64Array(ranges.length / 2);
  for (let i = 0; i < order.length; i += 1)
    // Both are below 2^26, so that one number holds them; sorting numbers needs no comparison function.
    order[i] = (ranges[2 * i] ?? 0) * POSITION_SPAN + (ranges[2 * i + 1] ?? 0);
  order.sort();
  const result: number[] = [];
  for (const both of order) {
    const start = Math.floor(both / POSITION_SPAN);
    result.push(start, both - start * POSITION_SPAN);
  }
  return result;
}
const POSITION_SPAN = 2 ** 26;

/** Ranges that touch or overlap become one mark. */
function replaceRanges(text: string, ranges: readonly number[]): string {
  let result = '';
  let done = 0;
  let openStart = ranges[0] ?? 0;
  let openEnd = ranges[1] ?? 0;
  for (let i = 2; i < ranges.length; i += 2) {
    const start = ranges[i] ?? 0;
    const end = ranges[i + 1] ?? 0;
    if (start <= openEnd) {
      if (end > openEnd) openEnd = end;
      continue;
    }
    result += text.slice(done, openStart) + REDACTED;
    done = openEnd;
    openStart = start;
    openEnd = end;
  }
  return result + text.slice(done, openStart) + REDACTED + text.slice(openEnd);
}
