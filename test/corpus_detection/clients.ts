import type { Corpus } from './corpus.ts';
import { CORPUS_START_MS, DAY_MS } from './corpus.ts';

export type ClientType = 'web' | 'legacy_web' | 'spa' | 'native' | 'tv' | 'machine' | 'ci' | 'dpop';

/** A client of the honest world, as it is registered. */
export interface ClientSpec {
  readonly id: string;
  readonly type: ClientType;
  readonly scopes: readonly string[];
  readonly redirectUris: readonly string[];
  /** Life of its access tokens, s. */
  readonly lifeS: number;
  /** Networks of its own servers: where back ends and machines call from. */
  readonly servers: readonly string[];
}

const USER_SCOPES = ['openid', 'profile', 'orders:read', 'orders:write', 'offline_access'];

function list<T>(count: number, make: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}

/** Addresses of data centres: documentation and benchmark ranges, so that nobody's real network is named. */
function server(i: number): string {
  return `198.18.${i % 200}.${10 + (i % 40)}`;
}

export const CLIENTS: readonly ClientSpec[] = [
  ...list(10, (i) => ({
    id: `web-${i}`,
    type: i < 8 ? ('web' as const) : ('legacy_web' as const),
    scopes: USER_SCOPES,
    redirectUris: [`https://web-${i}.example.com/cb`],
    lifeS: 900,
    servers: list(3, (k) => server(i * 3 + k)),
  })),
  ...list(4, (i) => ({
    id: `spa-${i}`,
    type: 'spa' as const,
    scopes: USER_SCOPES,
    redirectUris: [`https://app-${i}.example.com/cb`, `https://app-${i}.example.org/cb`],
    lifeS: 600,
    servers: [],
  })),
  ...list(2, (i) => ({
    id: `bank-${i}`,
    type: 'dpop' as const,
    scopes: [...USER_SCOPES, 'payments:write'],
    redirectUris: [`https://bank-${i}.example.net/cb`],
    lifeS: 300,
    servers: [],
  })),
  ...list(5, (i) => ({
    id: `phone-app-${i}`,
    type: 'native' as const,
    scopes: USER_SCOPES,
    redirectUris: [`https://m-${i}.example.com/app/cb`, 'http://127.0.0.1/cb'],
    lifeS: 3_600,
    servers: [],
  })),
  ...list(2, (i) => ({
    id: `tv-${i}`,
    type: 'tv' as const,
    scopes: ['openid', 'media:play'],
    redirectUris: [],
    lifeS: 3_600,
    servers: [],
  })),
  ...list(20, (i) => ({
    id: `job-${i}`,
    type: 'machine' as const,
    scopes: ['orders:read', 'stock:read', ...(i % 5 === 0 ? ['admin:reports'] : [])],
    redirectUris: [],
    lifeS: [300, 3_600, 86_400][i % 3] ?? 300,
    servers: list(1 + (i % 2), (k) => server(60 + i * 2 + k)),
  })),
  ...list(3, (i) => ({
    id: `ci-${i}`,
    type: 'ci' as const,
    scopes: ['deploy:write'],
    redirectUris: [],
    lifeS: 900,
    servers: [],
  })),
];

/** The client that turns a user's token into one for a service behind it (RFC 8693). */
export const EXCHANGER: ClientSpec = {
  id: 'orders-bff',
  type: 'machine',
  scopes: ['orders:read', 'stock:read'],
  redirectUris: [],
  lifeS: 300,
  servers: [server(150)],
};

/** Web front ends of which each change is shown under an address of its own, before it is merged. */
export const PREVIEW: ClientSpec = {
  id: 'preview',
  type: 'web',
  scopes: USER_SCOPES,
  redirectUris: ['https://staging.example.com/cb'],
  lifeS: 900,
  servers: [server(160)],
};
export const PREVIEW_PATTERN = 'https://pr-*.preview.example.com/cb';

export function clientsOf(type: ClientType): readonly ClientSpec[] {
  return CLIENTS.filter((c) => c.type === type);
}

/** All were registered long before the corpus begins. */
export function registerClients(corpus: Corpus): void {
  for (const [i, client] of [...CLIENTS, EXCHANGER, PREVIEW].entries())
    corpus.add(CORPUS_START_MS - 120 * DAY_MS + i * 60_000, {
      kind: 'client_registered',
      outcome: 'success',
      source: { id: 'keycloak', instance: 'as-1' },
      client: { id: client.id },
      actor: { ref: corpus.ref(), type: 'user' },
      ext: {
        scope: client.scopes.join(' '),
        ...(client.redirectUris.length > 0 && {
          redirect_uris: client.redirectUris.join(' '),
        }),
      },
    });
}

export function authMethodOf(client: ClientSpec): string {
  return ['spa', 'native', 'tv', 'dpop'].includes(client.type) ? 'none' : 'client_secret_basic';
}
