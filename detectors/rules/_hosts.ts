/** Pure text functions about redirect URIs and host names, for the redirect rules. */
import { domainToASCII, domainToUnicode } from 'node:url';
import { getDomain } from 'tldts';

export interface RedirectParts {
  readonly scheme: string;
  /** Lower case, without port; an IPv6 literal without brackets. */
  readonly host: string;
  readonly port: string;
  /** With the leading slash; '' where there is none. */
  readonly path: string;
  /** Text before an `@` in the authority; '' where there is none. */
  readonly userinfo: string;
}

/** Splits by hand: a URL parser would repair exactly the tricks that are looked for. Undefined without `://`. */
export function splitRedirect(uri: string): RedirectParts | undefined {
  const at = uri.indexOf('://');
  if (at <= 0) return undefined;
  const rest = uri.slice(at + 3);
  const end = rest.search(/[/?#\\]/);
  const authority = end < 0 ? rest : rest.slice(0, end);
  const path = end < 0 ? '' : rest.slice(end);
  const atSign = authority.lastIndexOf('@');
  const hostPort = authority.slice(atSign + 1);
  const bracket = /^\[([^\]]*)\](?::(\d*))?$/.exec(hostPort);
  const colon = hostPort.lastIndexOf(':');
  const [host, port] =
    bracket !== null
      ? [bracket[1] ?? '', bracket[2] ?? '']
      : colon < 0
        ? [hostPort, '']
        : [hostPort.slice(0, colon), hostPort.slice(colon + 1)];
  return {
    scheme: uri.slice(0, at).toLowerCase(),
    host: host.toLowerCase().replace(/\.$/, ''),
    port,
    path,
    userinfo: atSign < 0 ? '' : authority.slice(0, atSign),
  };
}

/** The host of a redirect URI; '' for private-use schemes without an authority. */
export function hostOf(uri: string): string {
  return splitRedirect(uri)?.host ?? '';
}

export function isIpLiteral(host: string): boolean {
  return host.includes(':') || /^\d{1,3}(\.\d{1,3}){3}$/.test(host);
}

export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Query and fragment are not stored with events, so they don't count in a comparison. */
function comparable(uri: string): string {
  return uri.replace(/[?#].*$/s, '');
}

/**
 * Exact match (RFC 9700 section 4.1.3), but for the port of a loopback redirect, which native apps take
 * as they find it (RFC 8252 section 7.3), and for a registered `*` at the end, which some servers take for any ending:
 * what they are told to accept is registered, however unwise that is.
 */
export function isRegisteredRedirect(uri: string, registered: readonly string[]): boolean {
  const asked = comparable(uri);
  const parts = splitRedirect(asked);
  return registered.some((candidate) => {
    const known = comparable(candidate);
    if (known === asked) return true;
    if (known.endsWith('*') && asked.startsWith(known.slice(0, -1))) return true;
    const other = splitRedirect(known);
    if (parts === undefined || other === undefined || !isLoopbackHost(parts.host)) return false;
    return (
      parts.scheme === other.scheme &&
      parts.host === other.host &&
      parts.path === other.path &&
      parts.userinfo === '' &&
      other.userinfo === ''
    );
  });
}

/** `*` stands for any run of characters but `/`; everything else for itself. For preview deployments. */
export function matchesPattern(uri: string, pattern: string): boolean {
  const parts = pattern.split('*');
  let at = 0;
  for (const [i, part] of parts.entries()) {
    const isLast = i === parts.length - 1;
    const found = isLast && i > 0 ? uri.length - part.length : uri.indexOf(part, at);
    if (found < at || !uri.startsWith(part, found)) return false;
    if (i === 0 && found !== 0) return false;
    if (i > 0 && uri.slice(at, found).includes('/')) return false;
    at = found + part.length;
  }
  return at === uri.length;
}

/** A host as the DNS knows it: ASCII, lower case (RFC 5891); as it is where it is no name that DNS could know. */
function toAsciiHost(host: string): string {
  return domainToASCII(host) || host.toLowerCase();
}

/**
 * The part of a host that somebody registered, by the public suffix list: `shop.example.co.uk` gives `example.co.uk`, and
 * `shop.github.io` itself, because whoever may have a name under a shared suffix is somebody else. In ASCII, so that two
 * spellings of one name compare equal. The host itself where it has no such part (`localhost`, an address, a suffix).
 */
export function registrableDomain(host: string): string {
  const ascii = toAsciiHost(host);
  return getDomain(ascii, SUFFIX_OPTIONS) ?? ascii;
}

/** Suffixes of hosting services count, too; the host is a host already, and an odd one is no reason to give up. */
const SUFFIX_OPTIONS = {
  allowPrivateDomains: true,
  extractHostname: false,
  validateHostname: false,
} as const;

/**
 * Edits (insert, delete, replace, swap of neighbours) from a to b; `max + 1` as soon as it must be more
 * than `max`. Optimal string alignment distance.
 */
export function editDistance(a: string, b: string, max: number): number {
  if (Math.abs(a.length - b.length) > max) return max + 1;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (isSwap) best = Math.min(best, (beforeLast[j - 2] ?? 0) + 1);
      row.push(best);
    }
    if (Math.min(...row) > max) return max + 1;
    beforeLast = last;
    last = row;
  }
  return Math.min(last[b.length] ?? 0, max + 1);
}

/** A host as a browser shows it: `xn--` labels decoded (RFC 3492, UTS 46); malformed ones stay as they are. */
export function toUnicodeHost(host: string): string {
  return host
    .split('.')
    .map((label) => (label.startsWith('xn--') ? domainToUnicode(label) || label : label))
    .join('.');
}

/** Whether a host has letters beyond ASCII, in either spelling. */
export function isInternational(host: string): boolean {
  return host.startsWith('xn--') || host.includes('.xn--') || /[^\u0000-\u007f]/.test(host);
}

/** Letters of other scripts, and digits, that look like a Latin letter (a small part of UTS 39). */
const LOOKS_LIKE: Readonly<Record<string, string>> = {
  а: 'a', ɑ: 'a', α: 'a', в: 'b', с: 'c', ϲ: 'c', ԁ: 'd', е: 'e', ё: 'e', є: 'e', ѕ: 's', һ: 'h',
  і: 'i', ı: 'i', ι: 'i', ј: 'j', к: 'k', κ: 'k', ӏ: 'l', м: 'm', н: 'h', о: 'o', ο: 'o', σ: 'o',
  р: 'p', ρ: 'p', ԛ: 'q', г: 'r', т: 't', τ: 't', υ: 'u', ѵ: 'v', ν: 'v', ԝ: 'w', ω: 'w', х: 'x',
  χ: 'x', у: 'y', ү: 'y', γ: 'y', ɡ: 'g', '0': 'o', '1': 'l', ß: 'b', đ: 'd', ł: 'l', ø: 'o',
}; // prettier-ignore

/** What a host looks like to a reader: decoded, without accents, look-alike letters made Latin. */
export function skeletonOf(host: string): string {
  const plain = toUnicodeHost(host).normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
  return Array.from(plain, (c) => LOOKS_LIKE[c] ?? c)
    .join('')
    .replaceAll('rn', 'm')
    .replaceAll('vv', 'w');
}
