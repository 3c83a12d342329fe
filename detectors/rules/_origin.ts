import type { AuthEvent, TokenMention } from '../../model/auth_event.ts';
import type { TokenRole, TokenType } from '../../model/kinds.ts';

const NS_PER_MS = 1_000_000n;

/** Event time in ms; enough for gaps and evidence. */
export function timeMs(event: AuthEvent): number {
  return Number(event.time / NS_PER_MS);
}

export function isoTime(event: AuthEvent): string {
  return new Date(timeMs(event)).toISOString();
}

/** Sorted, each once, without the unknown ''. */
export function known(values: Iterable<string>): string[] {
  return [...new Set(values)].filter((v) => v !== '').sort();
}

/** The first mention of a token in one of these roles. */
export function mentionOf(
  event: AuthEvent,
  ref: string,
  roles: readonly TokenRole[],
): TokenMention | undefined {
  return event.tokens.find((t) => t.ref === ref && roles.includes(t.role));
}

export function tokensOf(event: AuthEvent, role: TokenRole, type: TokenType): TokenMention[] {
  return event.tokens.filter((t) => t.role === role && t.type === type && t.ref !== '');
}

/** Whether the recorded address is the user's own: a back end's or proxy's says nothing about the user. */
export function hasUserAddress(event: AuthEvent): boolean {
  return event.net.ip_role === 'end_user' || event.net.ip_role === 'unknown';
}

/** How a network is shown: by its autonomous system where that is known, else by its prefix; '' where neither is. */
export function networkName({ net }: AuthEvent): string {
  return net.asn === 0 ? net.network : `AS${net.asn}`;
}

/**
 * Whether two requests came from one network: of one prefix (/24, /48), or of one autonomous system where a database
 * knows both. Unknown is not the same as anything.
 */
export function sameNetwork(a: AuthEvent, b: AuthEvent): boolean {
  if (a.net.asn !== 0 && a.net.asn === b.net.asn) return true;
  return a.net.network !== '' && a.net.network === b.net.network;
}

/** All events from one network, in their order. */
export interface NetworkEvents {
  readonly network: string;
  readonly events: readonly AuthEvent[];
}

/**
 * Events by network, in order of the first of each. What `sameNetwork` joins is one network, also by way of a third
 * event: an event without a system counts with those of its prefix that have one.
 */
export function groupByNetwork(events: readonly AuthEvent[]): NetworkEvents[] {
  const parents = new Map<string, string>();
  const rootOf = (name: string): string => {
    let root = name;
    for (let next = parents.get(root); next !== undefined; next = parents.get(root)) root = next;
    return root;
  };
  const placed = events.filter((e) => e.net.network !== '');
  for (const event of placed) {
    const [system, prefix] = [rootOf(networkName(event)), rootOf(event.net.network)];
    if (system !== prefix) parents.set(prefix, system);
  }
  const groups = new Map<string, AuthEvent[]>();
  for (const event of placed) {
    const root = rootOf(event.net.network);
    const group = groups.get(root) ?? [];
    group.push(event);
    groups.set(root, group);
  }
  return [...groups.values()].map((group) => {
    const named = group.find((e) => e.net.asn !== 0) ?? group[0];
    return { network: named === undefined ? '' : networkName(named), events: group };
  });
}

export type OriginPart = 'key' | 'user_agent' | 'country' | 'network';

/**
 * Compares where two requests came from, part by part, as far as both sides are known. Networks and
 * countries compare only between addresses of users: a back end's pool has many.
 */
export function compareOrigins(
  a: AuthEvent,
  b: AuthEvent,
): { readonly same: readonly OriginPart[]; readonly different: readonly OriginPart[] } {
  const same: OriginPart[] = [];
  const different: OriginPart[] = [];
  const compare = (part: OriginPart, x: string, y: string): void => {
    if (x === '' || y === '') return;
    (x === y ? same : different).push(part);
  };
  compare('key', a.binding_thumbprint, b.binding_thumbprint);
  compare('user_agent', a.net.ua_family, b.net.ua_family);
  if (hasUserAddress(a) && hasUserAddress(b)) {
    compare('country', a.net.country, b.net.country);
    if (a.net.network !== '' && b.net.network !== '')
      (sameNetwork(a, b) ? same : different).push('network');
  }
  return { same, different };
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
