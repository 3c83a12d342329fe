// How: files of expectations are held against counts made up for it, each comparison just met and just missed; and two lists of
// findings are compared as a what-if does.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectationLine, judgeExpectations, readExpectations } from '../../cli/expectations.ts';
import type { FindingContent } from '../../detectors/finding_identity.ts';
import { compareFindings } from '../../detectors/what_if.ts';
import { temporaryFolder } from '../harness.ts';

const folder = temporaryFolder();
afterAll(() => folder.remove());

function fileOf(text: string): string {
  const file = join(folder.path, 'expect.yaml');
  writeFileSync(file, text);
  return file;
}

const RULES = [
  {
    rule_id: 'reuse',
    findings: 3,
    by_severity: { high: 2, low: 1 },
    by_verdict: { theft: 2, race: 1 },
  },
];

describe('expectations', () => {
  it('are met at their boundary and missed beyond it', () => {
    const expectations = readExpectations(
      fileOf(`
- {rule: reuse, exactly: 3}
- {rule: reuse, at_least: 3}
- {rule: reuse, at_least: 4}
- {rule: reuse, at_most: 3}
- {rule: reuse, at_most: 2}
- {rule: reuse, verdict: theft, exactly: 2}
- {rule: reuse, verdict: theft, exactly: 1}
- {rule: reuse, severity: low, at_least: 1, at_most: 1}
- {rule: reuse, severity: critical, exactly: 0}
- {rule: other, exactly: 0}
`),
    );
    const judged = judgeExpectations(expectations, RULES, 10);
    const met = judged.map((e) => e.met);
    expect(met).toEqual([true, true, false, true, false, true, false, true, true, false]);
    expect(judged.map((e) => e.found)).toEqual([3, 3, 3, 3, 3, 2, 2, 1, 0, null]);
    expect(judged.slice(4, 6).map(expectationLine)).toEqual([
      'NOT MET  reuse: at_most 2; found 3',
      'met      reuse theft: exactly 2; found 2',
    ]);
    expect(judged.slice(-1).map(expectationLine)).toEqual([
      'NOT MET  other: exactly 0; the rule did not run',
    ]);
  });

  it('are never met by no events: nothing was measured', () => {
    const expectations = readExpectations(fileOf('[{rule: reuse, at_most: 9}]'));
    expect(judgeExpectations(expectations, RULES, 0).map((e) => e.met)).toEqual([false]);
  });

  it.each([
    ['[]', /list: .*/],
    ['[{rule: reuse}]', /at_least, at_most or exactly is needed/],
    ['[{rule: reuse, exactly: 1, verdict: a, severity: low}]', /verdict or severity, not both/],
    ['[{rule: reuse, exactly: -1}]', /0\.exactly/],
    ['[{rule: reuse, exaktly: 1}]', /exaktly/],
  ])('refuses %s by name', (text, message) => {
    expect(() => readExpectations(fileOf(text))).toThrow(message);
  });
});

it('a what-if tells new, gone and regraded findings apart by their ids', () => {
  const finding = (id: string, verdict: string, severity = 'high'): FindingContent =>
    ({
      ...{ finding_id: id, entity_ref: `of ${id}`, client_id: 'c', verdict, severity },
      summary: 's',
    }) as FindingContent;
  const result = compareFindings(
    [finding('same', 'a'), finding('gone', 'a'), finding('graver', 'a', 'low')],
    [finding('same', 'a'), finding('new', 'a'), finding('graver', 'a', 'high')],
  );
  expect([result.before, result.after]).toEqual([3, 3]);
  expect(result.added.map((f) => f.entity_ref)).toEqual(['of new']);
  expect(result.removed.map((f) => f.entity_ref)).toEqual(['of gone']);
  expect(result.regraded.map((f) => [f.entity_ref, f.severity])).toEqual([['of graver', 'high']]);
  expect([result.added_count, result.removed_count, result.regraded_count]).toEqual([1, 1, 1]);
});
