import type { AuthEvent } from '../../model/auth_event.ts';
import { isAbsentLiteral } from './canonical_token.ts';

/** Years 2000 to 2100, ns: a time outside comes from a broken clock or a wrong unit. */
export const TIME_NS_MIN = 946_684_800_000_000_000n;
export const TIME_NS_MAX = 4_102_444_800_000_000_000n;
/** A duration beyond a day is no duration of a request, ms. */
export const DURATION_MS_MAX = 86_400_000;
/** Scopes, audiences and their like in one event. */
export const LIST_ITEMS_MAX = 100;

export function isPlausibleTime(time: bigint): boolean {
  return time >= TIME_NS_MIN && time < TIME_NS_MAX;
}

/** Trimmed, without control characters; '' for the literals that mean "no value" (`-`, `null`, `None` ...). */
export function normaliseText(text: string | undefined): string {
  if (text === undefined) return '';
  const plain = /[\u0000-\u001f\u007f]/.test(text)
    ? text.replace(/[\u0000-\u001f\u007f]+/g, ' ')
    : text;
  const trimmed = plain.trim();
  return isAbsentLiteral(trimmed) ? '' : trimmed;
}

/**
 * Scopes as a set: split at white space and commas (vendors write `a b`, `a, b` and arrays), without
 * repeats, sorted, so that equal grants compare equal (RFC 6749 section 3.3: order does not matter).
 */
export function normaliseScopes(scopes: readonly string[]): string[] {
  return sortedSet(scopes.flatMap((s) => s.split(/[\s,]+/)));
}

function sortedSet(items: string[]): string[] {
  if (items.length === 0) return items;
  return [...new Set(items.filter((i) => !isAbsentLiteral(i)))].sort();
}

/** Lower-cases scheme and host, which compare without case (RFC 3986 section 6.2.2.1); the path keeps its own. */
export function normaliseIssuer(issuer: string): string {
  if (issuer === '') return '';
  const origin = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/[^/?#]*/.exec(issuer)?.[0];
  return origin === undefined ? issuer : origin.toLowerCase() + issuer.slice(origin.length);
}

/** An HTTP status (RFC 9110 section 15), else null. */
export function normaliseStatus(status: number | null): number | null {
  return status !== null && Number.isInteger(status) && status >= 100 && status <= 599
    ? status
    : null;
}

export function normaliseDuration(ms: number | null): number | null {
  return ms !== null && Number.isFinite(ms) && ms >= 0 && ms <= DURATION_MS_MAX ? ms : null;
}

/**
 * Brings a redacted event into the one form: sets as sorted sets, hosts in lower case, numbers in range.
 * The event is fresh from `redact`, so it is changed in place.
 */
export function normaliseEvent(event: AuthEvent): void {
  event.audience = sortedSet(event.audience);
  event.resource = sortedSet(event.resource);
  event.amr = sortedSet(event.amr);
  event.issuer = normaliseIssuer(event.issuer);
  event.http.method = event.http.method.toUpperCase();
  event.http.status = normaliseStatus(event.http.status);
  event.http.duration_ms = normaliseDuration(event.http.duration_ms);
  if (event.net.country !== '') {
    event.net.country = /^[A-Za-z]{2}$/.test(event.net.country)
      ? event.net.country.toUpperCase()
      : '';
  }
}
