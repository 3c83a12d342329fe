import type { AuthEvent } from '../../model/auth_event.ts';
import { areDifferentPlaces, networkName } from './_origin.ts';

/** What one request is known by, to pair the records that several parties made of it; '' where unknown. */
export function requestKey(event: AuthEvent): string {
  return event.corr.trace_id || event.corr.request_id || event.corr.transaction_id;
}

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
