import { z } from 'zod';
import type { Runtime } from '../runtime/context.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import type { Store } from '../store/client.ts';
import { ClientRegistry, readRegistrations, type Registration } from './client_registry.ts';

/** A client as the rules see it now; an undefined part is unknown. */
export interface KnownClient {
  readonly client_id: string;
  /** Who says it: grantscope.yaml, events, or both, of which grantscope.yaml goes first. */
  readonly stated_by: readonly ('grantscope.yaml' | 'events')[];
  /** Registration events, lists that were imported among them. */
  readonly statements: number;
  /** ISO time of the last of them. */
  readonly last_statement: string | undefined;
  readonly registered_at: string | undefined;
  readonly client_type: string | undefined;
  readonly token_endpoint_auth_method: string | undefined;
  readonly has_secret: boolean | undefined;
  readonly grant_types: readonly string[] | undefined;
  readonly response_types: readonly string[] | undefined;
  readonly scopes: readonly string[] | undefined;
  readonly redirect_uris: readonly string[] | undefined;
  readonly jwks_kids: readonly string[] | undefined;
}

const ShowInput = z.strictObject({ client_id: z.string().min(1) });

/** Registers `clients_list` and `clients_show` (runtime/operations.ts), once per runtime. */
export function registerClientOperations(runtime: Runtime, store: Store): void {
  runtime.operations.register('clients_list', () => knownClients(runtime, store));
  runtime.operations.register('clients_show', async (input) => {
    const parsed = ShowInput.safeParse(input);
    if (!parsed.success)
      throw new GrantscopeError('invalid_argument', 'client_id: must be text that is not empty');
    const { client_id } = parsed.data;
    const client = (await knownClients(runtime, store)).find((c) => c.client_id === client_id);
    if (client === undefined)
      throw new GrantscopeError(
        'not_found',
        'client_id: nobody has stated this client; known clients: grantscope clients list',
      );
    return client;
  });
}

async function knownClients(runtime: Runtime, store: Store): Promise<readonly KnownClient[]> {
  const { clients: stated, tenant } = runtime.config;
  const registrations = await readRegistrations(store, tenant);
  const registry = new ClientRegistry(stated, registrations);
  const ofEvents = new Map<string, Registration[]>();
  for (const registration of registrations) {
    const list = ofEvents.get(registration.client_id) ?? [];
    list.push(registration);
    ofEvents.set(registration.client_id, list);
  }
  const ofFile = new Set(stated.map((c) => c.client_id));
  const now = runtime.clock.nowNs();
  return [...new Set([...ofFile, ...ofEvents.keys()])].sort().map((id) => {
    const statements = ofEvents.get(id) ?? [];
    const by = [
      ...(ofFile.has(id) ? (['grantscope.yaml'] as const) : []),
      ...(statements.length > 0 ? (['events'] as const) : []),
    ];
    return known(registry, id, now, by, statements);
  });
}

function known(
  registry: ClientRegistry,
  id: string,
  now: bigint,
  by: KnownClient['stated_by'],
  statements: readonly Registration[],
): KnownClient {
  const client = registry.at(id, now);
  const last = statements.reduce((max, s) => (s.time > max ? s.time : max), 0n);
  const sorted = (set: ReadonlySet<string> | undefined): readonly string[] | undefined =>
    set === undefined ? undefined : [...set].sort();
  return {
    client_id: id,
    stated_by: by,
    statements: statements.length,
    last_statement: statements.length === 0 ? undefined : isoOf(last),
    registered_at: client.registeredAt === undefined ? undefined : isoOf(client.registeredAt),
    client_type: client.type,
    token_endpoint_auth_method: client.authMethod,
    has_secret: client.hasSecret,
    grant_types: sorted(client.grantTypes),
    response_types: sorted(client.responseTypes),
    scopes: sorted(client.scopes),
    redirect_uris: client.redirectUris,
    jwks_kids: sorted(client.keyIds),
  };
}

function isoOf(ns: bigint): string {
  return new Date(Number(ns / 1_000_000n)).toISOString();
}
