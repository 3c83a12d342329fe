import { randomBytes } from 'node:crypto';
import type { Random } from './random.ts';

/**
 * Who lives in the demo: applications, people and the places they connect from. Addresses are from ranges
 * reserved for documentation and benchmarks (RFC 5737, RFC 2544, RFC 3849) and carrier-grade NAT
 * (RFC 6598); host names end in `.example` (RFC 2606). Nothing is ever sent to any of them: addresses
 * travel in `X-Forwarded-For`, and redirects end in the simulated browser.
 */
export const ORDERS_API = 'https://orders.harbour.example';
export const PAYMENTS_API = 'https://payments.harbour.example';

/** Scopes that the authorization server knows and checks against a client's registration. */
export const KNOWN_SCOPES = [
  'openid',
  'profile',
  'email',
  'offline_access',
  'orders:read',
  'orders:write',
  'payments:read',
  'payments:write',
] as const;

/**
 * Scopes per resource server. Those that `KNOWN_SCOPES` lacks were added to an API without telling the
 * authorization server: oidc-provider does not compare such scopes with a client's registration, so the
 * demo's policy has to (`authorization_server.ts`).
 */
export const RESOURCE_SCOPES: Readonly<Record<string, readonly string[]>> = {
  [ORDERS_API]: ['orders:read', 'orders:write', 'orders:admin'],
  [PAYMENTS_API]: ['payments:read', 'payments:write', 'payments:refund'],
};

export const APPLICATION_KINDS = ['web', 'spa', 'mobile', 'device', 'machine'] as const;
export type ApplicationKind = (typeof APPLICATION_KINDS)[number];

export interface ApplicationDefinition {
  readonly clientId: string;
  readonly name: string;
  readonly kind: ApplicationKind;
  readonly redirectUris: readonly string[];
  readonly scopes: readonly string[];
  /** The API it talks to. */
  readonly resource: string;
  /** Life of its access tokens, seconds. */
  readonly accessTokenSeconds: number;
  /** Uses pushed authorization requests (RFC 9126). */
  readonly pushed: boolean;
  readonly clientSecret: string | undefined;
  /** Where its back end connects from; web and machine only. */
  readonly backendIp: string | undefined;
}

type Blueprint = readonly [
  clientId: string,
  name: string,
  kind: ApplicationKind,
  api: 'orders' | 'payments',
  extra?: { redirectUris?: string[]; pushed?: boolean; accessTokenSeconds?: number },
];

/** The applications of the harbour company; `bug_` ones are the targets of attacks on AS policy. */
const BLUEPRINTS: readonly Blueprint[] = [
  ['storefront', 'Storefront', 'web', 'orders'],
  ['partner-portal', 'Partner portal', 'web', 'orders', { pushed: true }],
  ['back-office', 'Back office', 'web', 'payments'],
  ['helpdesk', 'Helpdesk', 'web', 'orders'],
  ['invoicing', 'Invoicing', 'web', 'payments', { pushed: true }],
  ['loyalty', 'Loyalty programme', 'web', 'orders'],
  ['catalogue-spa', 'Catalogue', 'spa', 'orders'],
  ['checkout-spa', 'Checkout', 'spa', 'payments'],
  ['fleet-map', 'Fleet map', 'spa', 'orders'],
  ['kiosk', 'Counter kiosk', 'spa', 'orders', { accessTokenSeconds: 3 }],
  ['shop-ios', 'Shop for iOS', 'mobile', 'orders'],
  ['shop-android', 'Shop for Android', 'mobile', 'orders'],
  ['wallet-ios', 'Wallet for iOS', 'mobile', 'payments'],
  ['wallet-android', 'Wallet for Android', 'mobile', 'payments'],
  ['harbour-cli', 'Harbour CLI', 'device', 'orders'],
  ['tv-board', 'Arrivals board', 'device', 'orders'],
  ['till', 'Till', 'device', 'payments'],
  ['stock-sync', 'Stock sync', 'machine', 'orders'],
  ['price-feed', 'Price feed', 'machine', 'orders'],
  ['settlement', 'Nightly settlement', 'machine', 'payments'],
  ['fraud-scoring', 'Fraud scoring', 'machine', 'payments'],
  ['warehouse', 'Warehouse robots', 'machine', 'orders'],
];

export const ACCESS_TOKEN_SECONDS = 120;

function hostOf(clientId: string): string {
  return `https://${clientId}.harbour.example`;
}

function redirectsOf(clientId: string, kind: ApplicationKind): readonly string[] {
  if (kind === 'device' || kind === 'machine') return [];
  if (kind === 'mobile') return [`${hostOf(clientId)}/app/callback`];
  return [`${hostOf(clientId)}/callback`];
}

function scopesOf(kind: ApplicationKind, api: 'orders' | 'payments'): readonly string[] {
  const access = [`${api}:read`, `${api}:write`];
  return kind === 'machine' ? access : ['openid', 'offline_access', ...access];
}

function secret(): string {
  return randomBytes(32).toString('base64url');
}

export function createApplications(): readonly ApplicationDefinition[] {
  return BLUEPRINTS.map(([clientId, name, kind, api, extra = {}], index) => ({
    clientId,
    name,
    kind,
    redirectUris: extra.redirectUris ?? redirectsOf(clientId, kind),
    scopes: scopesOf(kind, api),
    resource: api === 'orders' ? ORDERS_API : PAYMENTS_API,
    accessTokenSeconds: extra.accessTokenSeconds ?? ACCESS_TOKEN_SECONDS,
    pushed: extra.pushed ?? false,
    clientSecret: kind === 'web' || kind === 'machine' ? secret() : undefined,
    backendIp: kind === 'web' || kind === 'machine' ? `198.19.${100 + index}.10` : undefined,
  }));
}

/** Where a request comes from, as a server behind a proxy sees it. */
export interface Vantage {
  readonly ip: string;
  readonly userAgent: string;
}

export interface Subject {
  readonly username: string;
  readonly password: string;
  /** At home: an IPv4 /24 or an IPv6 /48 of their own. */
  readonly home: Vantage;
  /** At work: many people behind one address. */
  readonly office: Vantage;
  /** The phone on mobile data; every call may show another address of the carrier's pool. */
  readonly phone: (random: Random) => Vantage;
  /** The phone on the home network. */
  readonly phoneAtHome: Vantage;
}

export const SUBJECT_COUNT = 240;

const DESKTOPS = [
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0',
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15',
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36',
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.70',
] as const;
const PHONES = [
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1',
  'Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36',
] as const;
export const BACKEND_USER_AGENT = 'node';
export const OFFICE_COUNT = 6;
const CARRIER_COUNT = 3;

export function createSubjects(random: Random): readonly Subject[] {
  return Array.from({ length: SUBJECT_COUNT }, (_, index) => createSubject(random, index));
}

function createSubject(random: Random, index: number): Subject {
  const desktop = random.pick(DESKTOPS);
  const phone = random.pick(PHONES);
  const carrier = random.below(CARRIER_COUNT);
  const homeIp =
    index % 5 === 0
      ? `2001:db8:${(index + 1).toString(16)}:1::${(random.below(0xfffe) + 1).toString(16)}`
      : `198.18.${index}.${10 + random.below(200)}`;
  return {
    username: `person-${index.toString().padStart(3, '0')}@harbour.example`,
    password: secret(),
    home: { ip: homeIp, userAgent: desktop },
    office: { ip: `198.19.${random.below(OFFICE_COUNT)}.1`, userAgent: desktop },
    phone: (r) => ({
      ip: `100.${64 + carrier}.${r.below(32)}.${1 + r.below(250)}`,
      userAgent: phone,
    }),
    phoneAtHome: { ip: homeIp, userAgent: phone },
  };
}
