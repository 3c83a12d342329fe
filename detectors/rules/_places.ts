import type { AuthEvent } from '../../model/auth_event.ts';
import { hasUserAddress, known, networkName, requestKey } from './_origin.ts';

/**
 * One record per request: a gateway and the resource server behind it both report a call, and only the
 * one that saw the user's own address tells where it came from.
 */
export function oneRecordPerRequest(events: readonly AuthEvent[]): AuthEvent[] {
  const byRequest = new Map<string, AuthEvent>();
  for (const event of events) {
    const key = requestKey(event) || event.event_id;
    const before = byRequest.get(key);
    const isBetter = before?.net.ip_role !== 'end_user' && event.net.ip_role === 'end_user';
    if (before === undefined || isBetter) byRequest.set(key, event);
  }
  const chosen = new Set(byRequest.values());
  return events.filter((e) => chosen.has(e));
}

const PRIVATE_NETWORK =
  /^(10\.|127\.|192\.168\.|169\.254\.|172\.(1[6-9]|2\d|3[01])\.|f[cd]|fe80|::1)/i;

/** An inner address of unknown role is most likely a proxy's. */
export function tellsUserNetwork(event: AuthEvent): boolean {
  if (!hasUserAddress(event) || event.net.network === '') return false;
  return event.net.ip_role === 'end_user' || !PRIVATE_NETWORK.test(event.net.network);
}

/** Where a user was, as `networkName` calls it; '' where the address says nothing about the user. */
export function userPlace(event: AuthEvent): string {
  return tellsUserNetwork(event) ? networkName(event) : '';
}

/** User places of events, sorted, each once. */
export function userPlaces(events: readonly AuthEvent[]): string[] {
  return known(events.map(userPlace));
}

function scaleOf(place: string): 'as' | 'v6' | 'v4' {
  if (place.startsWith('AS')) return 'as';
  return place.includes(':') ? 'v6' : 'v4';
}

/**
 * Two places that are known not to be one. A device has an IPv4 and an IPv6 address at once, so their prefixes say
 * nothing about each other; neither do a prefix and an autonomous system.
 */
export function areDifferentPlaces(a: string, b: string): boolean {
  return a !== '' && b !== '' && a !== b && scaleOf(a) === scaleOf(b);
}

/** No place in common, and at least one on each side that compares. */
export function areApart(a: readonly string[], b: readonly string[]): boolean {
  if (a.some((x) => b.includes(x))) return false;
  return a.some((x) => b.some((y) => areDifferentPlaces(x, y)));
}
