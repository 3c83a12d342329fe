import type { AuthEvent } from '../../model/auth_event.ts';
import { hasUserAddress, known, networkName, requestKey } from './_origin.ts';

/** Who told of an event, and what. */
export function tellerOf(event: AuthEvent): string {
  return `${event.source.id}\n${event.source.instance}\n${event.kind}`;
}

/** Both saw the user's own address, and not the same network. */
function sawOthers(a: AuthEvent, b: AuthEvent): boolean {
  return (
    a.net.ip_role === 'end_user' &&
    b.net.ip_role === 'end_user' &&
    areDifferentPlaces(networkName(a), networkName(b))
  );
}

/**
 * Sorted events by the HTTP request that they tell of. A trace alone does not make them one: whoever replays a request
 * repeats its `traceparent`, and a page may send many calls under one. So one teller's second record of a kind is of
 * another request, and so is one of a user who is elsewhere. Without a trace each event is a request of its own.
 */
export function groupByRequest(events: readonly AuthEvent[]): AuthEvent[][] {
  const requests: AuthEvent[][] = [];
  const ofKey = new Map<string, AuthEvent[][]>();
  for (const event of events) {
    const key = requestKey(event);
    const known = key === '' ? [] : (ofKey.get(key) ?? []);
    const own = known.find((request) =>
      request.every((e) => tellerOf(e) !== tellerOf(event) && !sawOthers(e, event)),
    );
    if (own !== undefined) own.push(event);
    else {
      const request = [event];
      requests.push(request);
      if (key !== '') ofKey.set(key, [...known, request]);
    }
  }
  return requests;
}

/**
 * One record per request and network of a user: a gateway and the resource server behind it both report a call, and
 * only the one that saw the user's own address tells where it came from.
 */
export function oneRecordPerRequest(events: readonly AuthEvent[]): AuthEvent[] {
  const byRequest = new Map<string, AuthEvent[]>();
  for (const event of events) {
    const key = requestKey(event) || event.event_id;
    byRequest.set(key, [...(byRequest.get(key) ?? []), event]);
  }
  const chosen = new Set<AuthEvent>();
  for (const records of byRequest.values()) {
    const ofUsers = new Map<string, AuthEvent>();
    for (const event of records.filter((e) => e.net.ip_role === 'end_user'))
      if (!ofUsers.has(event.net.network)) ofUsers.set(event.net.network, event);
    const [first] = records;
    if (ofUsers.size > 0) for (const event of ofUsers.values()) chosen.add(event);
    else if (first !== undefined) chosen.add(first);
  }
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
