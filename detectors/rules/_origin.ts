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

/** What one request is known by, to pair the records that several parties made of it; '' where unknown. */
export function requestKey(event: AuthEvent): string {
  return event.corr.trace_id || event.corr.request_id || event.corr.transaction_id;
}
