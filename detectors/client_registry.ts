import {
  CLIENT_LISTS,
  CLIENT_TEXTS,
  CLIENT_TYPES,
  clientTypeOf,
  readClientList,
  secretHeldBy,
  type ClientListName,
  type ClientTextName,
  type ClientType,
} from '../model/client_metadata.ts';
import {
  registryKey,
  type ClientLookup,
  type RegisteredClient,
  type RegistryKeys,
} from '../model/define_detector.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { nsOfClickHouseTime } from '../store/read_events.ts';

/** A client as grantscope.yaml states it (RFC 7591 names, where there is one). */
export interface StatedClient {
  readonly client_id: string;
  readonly scope?: string | undefined;
  readonly redirect_uris?: readonly string[] | undefined;
  readonly grant_types?: readonly string[] | undefined;
  readonly response_types?: readonly string[] | undefined;
  readonly token_endpoint_auth_method?: string | undefined;
  readonly client_type?: ClientType | undefined;
  readonly jwks_kids?: readonly string[] | undefined;
  readonly has_secret?: boolean | undefined;
  /** Epoch seconds. */
  readonly client_id_issued_at?: number | undefined;
}

/** A client_registered or client_updated event; an undefined part was not stated. */
export interface Registration {
  readonly event_id: string;
  readonly client_id: string;
  readonly time: bigint;
  readonly scope: string | undefined;
  readonly redirect_uris: string | undefined;
  /** Default: it is. */
  readonly kind?: 'client_registered' | 'client_updated';
  /** Further metadata (model/client_metadata.ts). */
  readonly ext?: Readonly<Record<string, string>>;
}

/** Registration events that are read; more of them raise `isTruncated`. */
export const REGISTRATIONS_MAX = 200_000;

const words = (text: string): string[] => text.split(/\s+/).filter((w) => w !== '');

/** One registered value over time: versions sorted by event time. */
interface Version {
  readonly time: bigint;
  readonly values: readonly string[];
}

class Timeline {
  readonly #versions = new Map<string, Version[]>();
  #keys: RegistryKeys | undefined;

  constructor(
    stated: readonly (readonly [string, readonly string[]])[],
    versions: readonly (readonly [string, Version])[],
  ) {
    for (const [client, version] of versions) {
      const list = this.#versions.get(client) ?? [];
      list.push(version);
      this.#versions.set(client, list);
    }
    // What an operator states holds for all time, whatever events say.
    for (const [client, values] of stated)
      this.#versions.set(client, [{ time: -(2n ** 63n), values }]);
  }

  /** Made when they are first asked for: only scopes and redirect URIs are. */
  get keys(): RegistryKeys {
    return (this.#keys ??= this.#makeKeys());
  }

  /** The last known values, whatever the time. */
  latest(client: string): readonly string[] | undefined {
    return this.#versions.get(client)?.at(-1)?.values;
  }

  at(client: string, time: bigint): readonly string[] | undefined {
    return this.#versions.get(client)?.findLast((v) => v.time <= time)?.values;
  }

  #makeKeys(): RegistryKeys {
    const always = [...this.#versions].flatMap(([client, versions]) => {
      const [first, ...rest] = versions;
      return (first?.values ?? [])
        .filter((value) => rest.every((v) => v.values.includes(value)))
        .map((value) => registryKey(client, value));
    });
    return { clients: [...this.#versions.keys()].sort(), always: always.sort() };
  }
}

type Part = ClientListName | ClientTextName;
const PARTS: readonly Part[] = [...CLIENT_LISTS, ...CLIENT_TEXTS];

function isList(part: Part): part is ClientListName {
  return CLIENT_LISTS.some((name) => name === part);
}

/** What grantscope.yaml states about one part. */
function statedPart(client: StatedClient, part: Part): readonly string[] | undefined {
  switch (part) {
    case 'scope':
      return client.scope === undefined ? undefined : words(client.scope);
    case 'secret_held':
      return client.has_secret === undefined ? undefined : [String(client.has_secret)];
    case 'client_id_issued_at':
      return client.client_id_issued_at === undefined
        ? undefined
        : [String(client.client_id_issued_at)];
    case 'token_endpoint_auth_method':
    case 'client_type': {
      const value = client[part];
      return value === undefined ? undefined : [value];
    }
    case 'redirect_uris':
    case 'grant_types':
    case 'response_types':
    case 'jwks_kids':
      return client[part];
  }
}

/** What a registration event states about one part. */
function registeredPart(registration: Registration, part: Part): readonly string[] | undefined {
  if (part === 'scope' || part === 'redirect_uris') {
    const value = registration[part];
    return value === undefined ? undefined : words(value);
  }
  const ext = registration.ext ?? {};
  if (isList(part)) return readClientList(ext, part);
  const value = Object.hasOwn(ext, part) ? ext[part] : undefined;
  return value === undefined || value === '' ? undefined : [value];
}

/**
 * Registered metadata by client and event time. A client is unknown before its first registration event, unless
 * grantscope.yaml states it.
 */
export class ClientRegistry implements ClientLookup {
  readonly #parts: ReadonlyMap<Part, Timeline>;
  readonly #registeredAt = new Map<string, bigint>();

  constructor(stated: readonly StatedClient[], registrations: readonly Registration[]) {
    const sorted = [...registrations].sort((a, b) =>
      a.time !== b.time ? (a.time < b.time ? -1 : 1) : a.event_id < b.event_id ? -1 : 1,
    );
    const timelineOf = (part: Part): Timeline =>
      new Timeline(
        stated.flatMap((client) => {
          const values = statedPart(client, part);
          return values === undefined ? [] : [[client.client_id, values] as const];
        }),
        sorted.flatMap((r) => {
          const values = registeredPart(r, part);
          return values === undefined ? [] : [[r.client_id, { time: r.time, values }] as const];
        }),
      );
    this.#parts = new Map(PARTS.map((part) => [part, timelineOf(part)]));
    for (const r of sorted)
      if (r.kind !== 'client_updated' && !this.#registeredAt.has(r.client_id))
        this.#registeredAt.set(r.client_id, r.time);
  }

  at(clientId: string, time: bigint): RegisteredClient {
    const list = (part: Part): readonly string[] | undefined =>
      this.#parts.get(part)?.at(clientId, time);
    const set = (part: Part): ReadonlySet<string> | undefined => {
      const values = list(part);
      return values === undefined ? undefined : new Set(values);
    };
    const authMethod = list('token_endpoint_auth_method')?.[0];
    const held = list('secret_held')?.[0];
    return {
      scopes: set('scope'),
      redirectUris: list('redirect_uris'),
      authMethod,
      grantTypes: set('grant_types'),
      responseTypes: set('response_types'),
      type: CLIENT_TYPES.find((t) => t === list('client_type')?.[0]) ?? clientTypeOf(authMethod),
      keyIds: set('jwks_kids'),
      hasSecret: held === undefined ? secretHeldBy(authMethod) : held === 'true',
      registeredAt: this.#registrationOf(clientId, time),
    };
  }

  /** The issue time that some statement gives, whenever that was made; else the first registration event. */
  #registrationOf(clientId: string, time: bigint): bigint | undefined {
    const seconds = Number(this.#parts.get('client_id_issued_at')?.latest(clientId)?.[0]);
    const isStated = Number.isSafeInteger(seconds) && seconds > 0;
    const at = isStated ? BigInt(seconds) * 1_000_000_000n : this.#registeredAt.get(clientId);
    return at === undefined || at > time ? undefined : at;
  }

  get scopeKeys(): RegistryKeys {
    return this.#keysOf('scope');
  }

  get redirectKeys(): RegistryKeys {
    return this.#keysOf('redirect_uris');
  }

  #keysOf(part: Part): RegistryKeys {
    return this.#parts.get(part)?.keys ?? { clients: [], always: [] };
  }
}

/** Reads all registration events of a tenant: there are few, and `kind` leads the table's order. */
export async function readRegistrations(
  store: Store,
  tenant: string,
): Promise<readonly Registration[]> {
  const rows = await store.query<{
    event_id: string;
    client_id: string;
    event_kind: 'client_registered' | 'client_updated';
    at: string;
    kids: string;
    metadata: Readonly<Record<string, string>>;
  }>(sql`
    SELECT event_id, any(client_id) AS client_id, any(kind) AS event_kind, any(time) AS at, any(key_kid) AS kids,
      any(mapFilter((name, value) -> replaceRegexpOne(name, '_[0-9]+$', '') IN ${param.strings(PARTS)}, ext)) AS metadata
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND kind IN ('client_registered', 'client_updated')
      AND outcome NOT IN ('failure', 'denied') AND auth_events.client_id != ''
    GROUP BY event_id ORDER BY at DESC, event_id LIMIT ${param.uint(REGISTRATIONS_MAX)}`);
  return rows.map(({ event_id, client_id, event_kind, at, kids, metadata }) => ({
    event_id,
    client_id,
    time: nsOfClickHouseTime(at),
    kind: event_kind,
    scope: readClientList(metadata, 'scope')?.join(' '),
    redirect_uris: readClientList(metadata, 'redirect_uris')?.join(' '),
    // Ids of keys are random text, which a field made for ids keeps and `ext` does not.
    ext: kids === '' ? metadata : { ...metadata, jwks_kids: kids },
  }));
}
