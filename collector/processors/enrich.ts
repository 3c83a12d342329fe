import { isIP } from 'node:net';
import Bowser from 'bowser';
import type { AuthEvent } from '../../model/auth_event.ts';

/** User agents whose family is remembered; the memory is emptied when it is full. */
export const USER_AGENTS_REMEMBERED_MAX = 10_000;
/** Family names longer than this are not families. */
const FAMILY_LENGTH_MAX = 40;

/**
 * An address in one spelling: without port, brackets and zone; IPv4-mapped IPv6 as IPv4; '' for what is no
 * address.
 */
export function normaliseIp(text: string): string {
  let ip = text.trim();
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(ip)?.[1];
  if (bracketed !== undefined) ip = bracketed;
  else if (/^[\d.]+:\d+$/.test(ip)) ip = ip.slice(0, ip.indexOf(':'));
  const zone = ip.indexOf('%');
  if (zone >= 0) ip = ip.slice(0, zone);
  const version = isIP(ip);
  if (version === 0) return '';
  if (version === 4) return ip;
  const groups = expandIpv6(ip);
  const mapped = groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff;
  if (!mapped) return ip.toLowerCase();
  const [high = 0, low = 0] = groups.slice(6);
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** The eight groups of a valid IPv6 address (RFC 4291 section 2.2). */
function expandIpv6(ip: string): number[] {
  const [head = '', tail] = ip.split('::');
  const left = groupsOf(head);
  if (tail === undefined) return left;
  const right = groupsOf(tail);
  const zeros = new Array<number>(Math.max(0, 8 - left.length - right.length)).fill(0);
  return [...left, ...zeros, ...right];
}

function groupsOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [parseInt(part, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = part.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}

/** The network of an address: `203.0.113.0/24`, `2001:db8:1::/48`; '' for what is no address. */
export function networkOf(address: string): string {
  const ip = normaliseIp(address);
  if (ip === '') return '';
  if (isIP(ip) === 4) return `${ip.split('.').slice(0, 3).join('.')}.0/24`;
  const groups = expandIpv6(ip).slice(0, 3);
  while (groups.length > 0 && groups.at(-1) === 0) groups.pop();
  return `${groups.map((g) => g.toString(16)).join(':')}::/48`;
}

/** Addresses that are remembered with their network; the memory is emptied when it is full. */
export const ADDRESSES_REMEMBERED_MAX = 16_384;
const ADDRESS_LENGTH_MAX = 64;

/** An address in its one spelling, and its network; both '' for what is no address. */
export interface Address {
  readonly client_ip: string;
  readonly network: string;
}

const addresses = new Map<string, Address>();

/** `normaliseIp` and `networkOf` of a text, from memory where it was seen before. */
export function addressOf(text: string): Address {
  let address = addresses.get(text);
  if (address === undefined) {
    const ip = normaliseIp(text);
    address = { client_ip: ip, network: networkOf(ip) };
    if (text.length > ADDRESS_LENGTH_MAX) return address;
    if (addresses.size >= ADDRESSES_REMEMBERED_MAX) addresses.clear();
    addresses.set(text, address);
  }
  return address;
}

/** Programs that name themselves by one product token, in their usual spelling. */
const PROGRAMS = new Map(
  [
    'curl',
    'Wget',
    'node',
    'undici',
    'axios',
    'node-fetch',
    'got',
    'python-requests',
    'python-httpx',
    'Python-urllib',
    'aiohttp',
    'Go-http-client',
    'okhttp',
    'Java',
    'Java-http-client',
    'Apache-HttpClient',
    'Jakarta',
    'PostmanRuntime',
    'insomnia',
    'HTTPie',
    'Ruby',
    'Faraday',
    'GuzzleHttp',
    'openid-client',
    'aws-cli',
    'kubectl',
    'Dart',
    'CFNetwork',
    'reqwest',
    'hyper',
    'libwww-perl',
  ].map((name) => [name.toLowerCase(), name]),
);

const families = new Map<string, string>();

/**
 * The family of a user agent: a browser's name (`Chrome`, `Safari`), a program's (`curl`, `node`), '' where
 * unknown. The text is taken as scrubbed already.
 */
export function uaFamily(userAgent: string): string {
  if (userAgent === '') return '';
  let family = families.get(userAgent);
  if (family === undefined) {
    family = findFamily(userAgent);
    if (families.size >= USER_AGENTS_REMEMBERED_MAX) families.clear();
    families.set(userAgent, family);
  }
  return family;
}

function findFamily(userAgent: string): string {
  const product = /^[A-Za-z][A-Za-z0-9_.-]*/.exec(userAgent)?.[0] ?? '';
  const program = PROGRAMS.get(product.toLowerCase());
  if (program !== undefined) return program;
  if (/^(?:mozilla|opera)$/i.test(product)) return browserFamily(userAgent);
  // A library that names the language first.
  const library = /^Python\/[\d.]+ ([A-Za-z][A-Za-z0-9_.-]*)\//.exec(userAgent)?.[1];
  return knownName(library ?? product);
}

function knownName(name: string): string {
  return name.length <= FAMILY_LENGTH_MAX ? name : '';
}

/**
 * Programs that call themselves a browser's variant, and are told from it: a stolen token is seldom used by the very
 * program that it was stolen from, and automation seldom hides that it is. In order: what stands first wins.
 */
const IN_DISGUISE: readonly (readonly [mark: RegExp, family: string])[] = [
  [/\bHeadlessChrome\//, 'HeadlessChrome'],
  [/\b(?:Windows)?PowerShell\//, 'PowerShell'],
  [/\b(?:FBAN|FBAV|FB_IAB)\//, 'Facebook'],
  [/\bInstagram \d/, 'Instagram'],
  [/\bMicroMessenger\//, 'WeChat'],
  [/\bLine\/\d/, 'Line'],
  [/\b(?:musical_ly|BytedanceWebview|TikTok)/, 'TikTok'],
  [/\[LinkedInApp\]/, 'LinkedIn'],
  [/\bSnapchat[/ ]\d/, 'Snapchat'],
  [/\bTwitter for \w/, 'Twitter'],
  [/\bGSA\//, 'Google Search'],
  [/\bDuckDuckGo\//, 'DuckDuckGo'],
  [/; wv\)/, 'Android WebView'],
];
/** A program of Apple's phones that shows pages without being Safari. */
const IOS = /\b(?:iPhone|iPad|iPod)\b/;
/** `(compatible; Googlebot/2.1; ...)`; old Internet Explorers have no slash there. */
const BOT = /\bcompatible; ([A-Za-z][\w.-]*)\/\d/;
/** The application's own name before the parts that Electron brings. */
const DESKTOP_APPLICATION = /\b([A-Za-z][\w.-]*)\/[\w.-]+ Chrome\/[\d.]+ Electron\//;

/** The family of a user agent that begins like a browser's. */
function browserFamily(userAgent: string): string {
  const disguised = IN_DISGUISE.find(([mark]) => mark.test(userAgent))?.[1];
  if (disguised !== undefined) return disguised;
  const own = BOT.exec(userAgent)?.[1] ?? DESKTOP_APPLICATION.exec(userAgent)?.[1];
  if (own !== undefined) return knownName(own);
  if (IOS.test(userAgent) && userAgent.includes('AppleWebKit/') && !userAgent.includes(' Safari/'))
    return 'iOS WebView';
  const name = Bowser.parse(userAgent).browser.name ?? '';
  // What the parser says of all that it does not know: no family.
  return name === 'Mozilla' ? '' : name;
}

/** Adds what can be worked out from the event itself. Changed in place, like `normaliseEvent`. */
export function enrichEvent(event: AuthEvent): void {
  event.net.ua_family = uaFamily(event.net.user_agent);
}
