import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePattern, PatternError } from '../../runtime/linear_pattern.ts';

/** The text with every covered character as `#`. */
function covered(source: string, text: string): string {
  const marks = text.split('');
  compilePattern(source).find(text, (start, end) => marks.fill('#', start, end));
  return marks.join('');
}

/** By the engine of the language: a character is covered where any match, of any length, covers it. */
function coveredByTrial(source: string, text: string): string {
  const marks = text.split('');
  for (let end = 1; end <= text.length; end += 1) {
    const pattern = new RegExp(`(?:${source})(?<=^[^]{${end}})`, 'y');
    for (let start = 0; start < end; start += 1) {
      pattern.lastIndex = start;
      if (pattern.test(text)) marks.fill('#', start, end);
    }
  }
  return marks.join('');
}

const atom = fc.constantFrom('a', 'b', '.', '[ab]', '[^a]', '\\d', '\\w', '1', '-', ' ');
const pattern = fc.letrec<{ node: string }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    atom,
    fc.tuple(tie('node'), tie('node')).map(([a, b]) => a + b),
    fc.tuple(tie('node'), tie('node')).map(([a, b]) => `(?:${a}|${b})`),
    fc
      .tuple(tie('node'), fc.constantFrom('*', '+', '?', '{2}', '{1,3}', '{2,}', '*?', '+?'))
      .map(([a, q]) => `(${a})${q}`),
    tie('node').map((a) => `\\b${a}`),
    tie('node').map((a) => `${a}\\b`),
    tie('node').map((a) => `${a}\\B`),
    tie('node').map((a) => `^${a}`),
    tie('node').map((a) => `${a}$`),
  ),
})).node;
const text = fc
  .array(fc.constantFrom('a', 'b', 'A', '1', '-', ' ', '\n', '_'), { maxLength: 12 })
  .map((c) => c.join(''));

describe('a linear pattern', () => {
  it('covers what the engine of the language would match, in any way', () => {
    let compared = 0;
    fc.assert(
      fc.property(pattern, text, (source, input) => {
        let actual: string;
        try {
          actual = covered(source, input);
        } catch (error) {
          // Refused for its size, or because it matches nothing.
          expect(error).toBeInstanceOf(PatternError);
          return;
        }
        const expected = coveredByTrial(source, input);
        compared += 1;
        expect(actual).toBe(expected);
      }),
      { numRuns: 3_000 },
    );
    expect(compared).toBeGreaterThan(1_000);
  });

  it.each([
    ['EMP-\\d{6}', 'x EMP-123456 EMP-12345 y', 'x ########## EMP-12345 y'],
    ['\\b[A-Z]{2}\\d{2}\\b', 'DE89 XDE89 DE891', '#### XDE89 DE891'],
    ['(?i)acct[:#]\\s?\\w+', 'ACCT: a1 acct#b2', '######## #######'],
    ['^abc', 'abc abc', '### abc'],
    ['abc$', 'abc abc', 'abc ###'],
    ['[^\\s,]+@corp', 'a b.c@corp d', 'a ######## d'],
    ['\\u00e9\\x41', 'xéAx', 'x##x'],
    ['a|', 'b', 'refused'],
    ['foo.*?bar', 'foo x bar y bar', '#'.repeat(15)],
  ])('%s in %s', (source, input, expected) => {
    if (expected === 'refused') expect(() => compilePattern(source)).toThrow(PatternError);
    else expect(covered(source, input)).toBe(expected);
  });

  it.each([
    ['(a', 'at position 2: a group that is not closed'],
    ['a)', 'at position 1: a closing bracket without an opening one'],
    ['[ab', 'at position 3: a [ that is not closed'],
    ['(a)\\1', 'at position 5: back-references are not allowed'],
    [
      '(?=a)b',
      'at position 2: look-around, named groups and flags are not allowed; allowed: ( ), (?: ), and (?i) at the start',
    ],
    ['*a', 'at position 0: a * with nothing before it; write \\* for the character'],
    ['a**', 'at position 3: two quantifiers; put the first in brackets'],
    ['a{5,2}', 'at position 1: a repeat whose maximum is below its minimum'],
    ['a{999}', 'at position 1: a repeat count above 200'],
    ['[z-a]', 'at position 4: a range in [ ] that is out of order, or of a class'],
    [
      '\\q',
      'at position 2: \\q is not known; allowed: \\d \\D \\w \\W \\s \\S \\b \\B \\n \\r \\t \\f \\v \\0 \\xHH \\uHHHH',
    ],
    ['a*', 'matches a text of no length, which is everywhere; ask for a character'],
    ['', 'matches a text of no length, which is everywhere; ask for a character'],
    ['((a{200}){200})', 'too long once its repeats are written out; use smaller counts'],
    [
      '(a|b)*a(a|b){15}',
      'too many ways to match (over 2000 states); use fewer or smaller repeats after a wide class',
    ],
    ['a'.repeat(501), 'longer than 500 characters'],
  ])('%s is refused', (source, message) => {
    expect(() => compilePattern(source)).toThrow(new PatternError(message));
  });

  it.each([
    ['(a+)+$', 'a'],
    ['(a|aa)+b', 'a'],
    ['(.*)(.*)(.*)x', 'y'],
    ['\\w+\\d+\\w+!', 'a1'],
    ['EMP-\\d{6}', 'EMP-12345'],
    ['[a-z]+@[a-z]+\\.corp', 'a@a.'],
    ['a.*b', 'ab'],
  ])('%s takes linear time on a megabyte of %s', (source, unit) => {
    const { find } = compilePattern(source);
    const million = unit.repeat(Math.ceil(1_000_000 / unit.length));
    let ranges = 0;
    const began = performance.now();
    find(million, () => {
      ranges += 1;
    });
    // Measured: 4-40 ms. A backtracking engine would not come back.
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(ranges).toBeLessThanOrEqual(1);
  });
});
