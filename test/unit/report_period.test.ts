import { expect, it } from 'vitest';
import { periodOf } from '../../cli/report/period.ts';
import type { ReportKind } from '../../model/report.ts';

function shown(kind: ReportKind, given: { from?: string; to?: string }, now: string): string {
  const { span, before } = periodOf(kind, given, Date.parse(now));
  return [before.fromMs, before.toMs, span.fromMs, span.toMs]
    .map((ms) => new Date(ms).toISOString().replace(':00.000Z', ''))
    .join(' ');
}

it('takes the last complete week, month and quarter in UTC', () => {
  const now = '2026-03-11T05:00:00Z'; // a Wednesday
  expect(shown('weekly', {}, now)).toBe(
    '2026-02-23T00:00 2026-03-02T00:00 2026-03-02T00:00 2026-03-09T00:00',
  );
  expect(shown('monthly', {}, now)).toBe(
    '2026-01-01T00:00 2026-02-01T00:00 2026-02-01T00:00 2026-03-01T00:00',
  );
  expect(shown('quarterly', {}, now)).toBe(
    '2025-07-01T00:00 2025-10-01T00:00 2025-10-01T00:00 2026-01-01T00:00',
  );
});

it('ends a week at the first moment of Monday, and not before', () => {
  expect(shown('weekly', {}, '2026-03-09T00:00:00Z')).toMatch(/2026-03-09T00:00$/);
  expect(shown('weekly', {}, '2026-03-08T23:59:59Z')).toMatch(/2026-03-02T00:00$/);
});

it('goes by what is given, whatever its offset', () => {
  expect(shown('weekly', { from: '2026-03-02T01:00:00+01:00' }, '2026-05-01T00:00:00Z')).toBe(
    '2026-02-23T00:00 2026-03-02T00:00 2026-03-02T00:00 2026-03-09T00:00',
  );
  expect(shown('monthly', { to: '2026-03-31T00:00:00Z' }, '2026-05-01T00:00:00Z')).toBe(
    '2026-01-28T00:00 2026-02-28T00:00 2026-02-28T00:00 2026-03-31T00:00',
  );
  const both = { from: '2026-03-01T00:00:00Z', to: '2026-03-04T00:00:00Z' };
  expect(shown('monthly', both, '2026-05-01T00:00:00Z')).toBe(
    '2026-02-26T00:00 2026-03-01T00:00 2026-03-01T00:00 2026-03-04T00:00',
  );
  const march = { from: '2026-03-01T00:00:00Z', to: '2026-04-01T00:00:00Z' };
  expect(shown('monthly', march, '2026-05-01T00:00:00Z')).toBe(
    '2026-02-01T00:00 2026-03-01T00:00 2026-03-01T00:00 2026-04-01T00:00',
  );
});

it.each([
  [{ from: '2026-03-02T00:00:30Z' }, 'whole minutes'],
  [{ from: '2026-03-02T00:00:00Z', to: '2026-03-02T00:00:00Z' }, 'from must be before to'],
  [{ from: '2024-03-02T00:00:00Z', to: '2026-03-02T00:00:00Z' }, 'at most 400 days'],
])('refuses %j', (given, message) => {
  expect(() => periodOf('weekly', given, 0)).toThrow(message);
});
