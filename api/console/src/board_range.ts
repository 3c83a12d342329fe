/** The time range of a board, as its address has it: `range=6h` back from now, or `from` and `to` in ISO 8601. */
export interface BoardRange {
  readonly fromMs: number;
  readonly toMs: number;
  /** '' for a fixed range. */
  readonly relative: string;
}

/** Ranges to choose from; the rest can be written into the address. */
export const RANGES = ['15m', '1h', '3h', '6h', '24h', '2d', '7d', '30d', '90d'] as const;

const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

function spanOf(relative: string): number | undefined {
  const found = /^(\d{1,4})([mhd])$/.exec(relative);
  const span = Number(found?.[1]) * (UNIT_MS[found?.[2] ?? ''] ?? NaN);
  return Number.isFinite(span) && span > 0 ? span : undefined;
}

/** What the address says; `fallback` (the board's own range) where it says nothing that can be read. */
export function readRange(query: URLSearchParams, fallback: string, nowMs: number): BoardRange {
  const fromMs = Date.parse(query.get('from') ?? '');
  const toMs = Date.parse(query.get('to') ?? '');
  if (toMs > fromMs) return { fromMs, toMs, relative: '' };
  const asked = query.get('range') ?? '';
  const relative = spanOf(asked) === undefined ? fallback : asked;
  return { fromMs: nowMs - (spanOf(relative) ?? 3_600_000), toMs: nowMs, relative };
}
