import {
  registryKey,
  type ClientLookup,
  type RegisteredClient,
  type RegistryKeys,
} from '../model/define_detector.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { nsOfClickHouseTime } from '../store/read_events.ts';

/** A client as grantscope.yaml states it (RFC 7591 names). */
export interface StatedClient {
  readonly client_id: string;
  readonly scope?: string | undefined;
  readonly redirect_uris?: readonly string[] | undefined;
}

/** A client_registered or client_updated event; an undefined part was not stated. */
export interface Registration {
  readonly event_id: string;
  readonly client_id: string;
  readonly time: bigint;
  readonly scope: string | undefined;
  readonly redirect_uris: string | undefined;
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
  readonly keys: RegistryKeys;

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
    this.keys = this.#makeKeys();
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

/**
 * Registered scopes and redirect URIs by client and event time. A client is unknown before its first
 * registration event, unless grantscope.yaml states it.
 */
export class ClientRegistry implements ClientLookup {
  readonly #scopes: Timeline;
  readonly #redirects: Timeline;

  constructor(stated: readonly StatedClient[], registrations: readonly Registration[]) {
    const sorted = [...registrations].sort((a, b) =>
      a.time !== b.time ? (a.time < b.time ? -1 : 1) : a.event_id < b.event_id ? -1 : 1,
    );
    const versionsOf = (part: 'scope' | 'redirect_uris'): (readonly [string, Version])[] =>
      sorted.flatMap((r) => {
        const value = r[part];
        const version = value === undefined ? [] : [{ time: r.time, values: words(value) }];
        return version.map((v) => [r.client_id, v] as const);
      });
    this.#scopes = new Timeline(
      stated.flatMap((c) =>
        c.scope === undefined ? [] : [[c.client_id, words(c.scope)] as const],
      ),
      versionsOf('scope'),
    );
    this.#redirects = new Timeline(
      stated.flatMap((c) =>
        c.redirect_uris === undefined ? [] : [[c.client_id, c.redirect_uris] as const],
      ),
      versionsOf('redirect_uris'),
    );
  }

  at(clientId: string, time: bigint): RegisteredClient {
    const scopes = this.#scopes.at(clientId, time);
    return {
      scopes: scopes === undefined ? undefined : new Set(scopes),
      redirectUris: this.#redirects.at(clientId, time),
    };
  }

  get scopeKeys(): RegistryKeys {
    return this.#scopes.keys;
  }

  get redirectKeys(): RegistryKeys {
    return this.#redirects.keys;
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
    at: string;
    scopes: string[];
    uris: string[];
  }>(sql`
    SELECT event_id, any(client_id) AS client_id, any(time) AS at,
      any(if(mapContains(ext, 'scope'), [ext['scope']], [])) AS scopes,
      any(if(mapContains(ext, 'redirect_uris'), [ext['redirect_uris']], [])) AS uris
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND kind IN ('client_registered', 'client_updated')
      AND outcome NOT IN ('failure', 'denied') AND auth_events.client_id != ''
    GROUP BY event_id ORDER BY at DESC, event_id LIMIT ${param.uint(REGISTRATIONS_MAX)}`);
  return rows.map((r) => ({
    event_id: r.event_id,
    client_id: r.client_id,
    time: nsOfClickHouseTime(r.at),
    scope: r.scopes[0],
    redirect_uris: r.uris[0],
  }));
}
