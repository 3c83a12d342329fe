import { InvalidArgumentError } from 'commander';

/** A date alone is its first moment in UTC. */
export function parseEventTime(text: string): string {
  const isDate = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const ms = Date.parse(isDate ? `${text}T00:00:00Z` : text);
  const hasOffset = isDate || /(Z|[+-]\d{2}:\d{2})$/.test(text);
  if (Number.isNaN(ms) || !hasOffset)
    throw new InvalidArgumentError(
      'must be a date (2026-01-31, UTC) or an ISO time with an offset (2026-01-31T12:00:00Z).',
    );
  return new Date(ms).toISOString();
}
