/** Pure text functions about redirect URIs and host names, for the redirect rules. */

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
 * as they find it (RFC 8252 section 7.3).
 */
export function isRegisteredRedirect(uri: string, registered: readonly string[]): boolean {
  const asked = comparable(uri);
  const parts = splitRedirect(asked);
  return registered.some((candidate) => {
    const known = comparable(candidate);
    if (known === asked) return true;
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

/** Second-level names under which countries sell domains (`co.uk`): good enough without the whole public suffix list. */
const SECOND_LEVEL = new Set(['co', 'com', 'net', 'org', 'gov', 'ac', 'edu', 'or', 'ne', 'go']);

/** The part of a host that somebody registered: `shop.example.co.uk` gives `example.co.uk`. */
export function registrableDomain(host: string): string {
  const labels = host.split('.');
  const last = labels.at(-1) ?? '';
  const second = labels.at(-2) ?? '';
  const take = last.length === 2 && SECOND_LEVEL.has(second) ? 3 : 2;
  return labels.slice(-take).join('.');
}

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

const PUNYCODE = { base: 36, tMin: 1, tMax: 26, skew: 38, damp: 700, bias: 72, n: 128 } as const;

function punycodeDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30 + 26;
  if (code >= 0x61 && code <= 0x7a) return code - 0x61;
  return code >= 0x41 && code <= 0x5a ? code - 0x41 : PUNYCODE.base;
}

function adaptBias(delta: number, points: number, isFirst: boolean): number {
  let d = isFirst ? Math.floor(delta / PUNYCODE.damp) : delta >> 1;
  d += Math.floor(d / points);
  let k = 0;
  for (; d > ((PUNYCODE.base - PUNYCODE.tMin) * PUNYCODE.tMax) >> 1; k += PUNYCODE.base)
    d = Math.floor(d / (PUNYCODE.base - PUNYCODE.tMin));
  return k + Math.floor(((PUNYCODE.base - PUNYCODE.tMin + 1) * d) / (d + PUNYCODE.skew));
}

/** Longest label that is decoded; DNS allows 63. */
const LABEL_LENGTH_MAX = 63;

/** Decodes the part of a label after `xn--` (RFC 3492); undefined where it is malformed. */
export function decodePunycode(encoded: string): string | undefined {
  if (encoded.length > LABEL_LENGTH_MAX) return undefined;
  const dash = encoded.lastIndexOf('-');
  const output = Array.from(dash > 0 ? encoded.slice(0, dash) : '');
  let n: number = PUNYCODE.n;
  let bias: number = PUNYCODE.bias;
  let i = 0;
  for (let at = dash > 0 ? dash + 1 : 0; at < encoded.length;) {
    const oldI = i;
    for (let weight = 1, k = PUNYCODE.base; ; k += PUNYCODE.base) {
      if (at >= encoded.length) return undefined;
      const digit = punycodeDigit(encoded.charCodeAt(at));
      at += 1;
      if (digit >= PUNYCODE.base) return undefined;
      i += digit * weight;
      const t = Math.min(Math.max(k - bias, PUNYCODE.tMin), PUNYCODE.tMax);
      if (digit < t) break;
      weight *= PUNYCODE.base - t;
    }
    const points = output.length + 1;
    bias = adaptBias(i - oldI, points, oldI === 0);
    n += Math.floor(i / points);
    i %= points;
    if (n > 0x10ffff) return undefined;
    output.splice(i, 0, String.fromCodePoint(n));
    i += 1;
  }
  return output.join('');
}

/** A host with its `xn--` labels decoded; malformed labels stay as they are. */
export function toUnicodeHost(host: string): string {
  return host
    .split('.')
    .map((l) => (l.startsWith('xn--') ? (decodePunycode(l.slice(4)) ?? l) : l))
    .join('.');
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
