import { GrantscopeError } from '../runtime/errors.ts';

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `30d`, `12h`, `15m` or `10s` in ms. Throws `invalid_argument`, naming the option. */
export function parseDuration(option: string, text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count === undefined || unit === undefined) {
    throw new GrantscopeError(
      'invalid_argument',
      `${option}: not a duration; allowed: a whole number and s, m, h or d, for instance 30d`,
    );
  }
  return Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
}

/** The longest unit that measures it exactly or well enough: `30 d`, `1.5 h`, `10 s`. */
export function shownDuration(ms: number): string {
  const units = Object.entries(UNIT_MS).reverse();
  const [unit, size] = units.find(([, unitMs]) => ms >= unitMs) ?? ['s', UNIT_MS.s];
  return `${Math.round((ms / size) * 10) / 10} ${unit}`;
}
