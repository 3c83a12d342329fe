import type { AuthEvent } from '../../model/auth_event.ts';
import { AUTH_EVENT_FIELDS } from '../../model/event_fields.ts';
import { RECEIVED_AT } from './run_source.ts';

/** Set for every event, whatever its source. */
const OWN = new Set(['tenant', 'source.id', 'source.vendor', 'source.product']);

function isFilled(value: unknown): boolean {
  if (value === null || value === undefined || value === '' || value === 'unknown') return false;
  if (value === RECEIVED_AT || value === 0) return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}

function valuesAt(event: AuthEvent, path: string): readonly unknown[] {
  const [first = '', second] = path.split('.');
  const value = event[first as keyof AuthEvent];
  if (second === undefined) return [value];
  const members = (Array.isArray(value) ? value : [value]) as readonly Record<string, unknown>[];
  return members.map((m) => m[second]);
}

/**
 * Paths of fields that at least one of the events fills, sorted: what a source's `provides` must list, no more and no
 * less. What the collector adds by itself is left out.
 */
export function filledFields(events: readonly AuthEvent[]): string[] {
  const paths = [...AUTH_EVENT_FIELDS].filter((p) => !OWN.has(p) && !p.startsWith('redaction.'));
  return paths.filter((p) => events.some((e) => valuesAt(e, p).some(isFilled))).sort();
}
