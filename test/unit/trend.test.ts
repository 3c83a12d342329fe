import { expect, test } from 'vitest';
import { trendOf } from '../../bench/harness/trend.ts';

const every2s = (seconds: number, value: (second: number) => number) =>
  Array.from({ length: seconds / 2 }, (_, i) => ({ second: i * 2, value: value(i * 2) }));

test('a straight climb has its slope and no error, whatever the warm-up did', () => {
  const climb = every2s(602, (s) => (s < 240 ? 5_000 - s : 900 + s / 10));
  expect(trendOf(climb)).toEqual({ per_minute: 6, error: 0, level: 942, from_second: 240 });
});

test('what swings and stays has a slope within its error; single peaks do not count', () => {
  const swinging = every2s(602, (s) => 900 + (Math.floor(s / 20) % 2 === 0 ? 10 : -10));
  const flat = trendOf(swinging);
  expect(flat?.error).toBeGreaterThan(1);
  expect(Math.abs(flat?.per_minute ?? 99)).toBeLessThan(flat?.error ?? 0);
  const peaks = every2s(602, (s) => (s % 20 === 0 ? 1_500 : 900));
  expect(trendOf(peaks)).toEqual({ per_minute: 0, error: 0, level: 900, from_second: 240 });
});

test('of a short run nothing is said', () => {
  expect(trendOf(every2s(60, () => 900))).toBeUndefined();
  expect(trendOf([])).toBeUndefined();
});
