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
    compare('network', a.net.network, b.net.network);
  }
  return { same, different };
}

/** What one request is known by, to pair the records that several parties made of it; '' where unknown. */
export function requestKey(event: AuthEvent): string {
  return event.corr.trace_id || event.corr.request_id || event.corr.transaction_id;
}
