import { stringify } from 'yaml';
import { grantTypesOf } from './authorization_server.ts';
import type { ApplicationDefinition } from './population.ts';
import { INTROSPECTION_CACHE_MS } from './resource_servers.ts';

/** Clocks of the demo's hosts differ less than this: they are one machine's. */
const SKEW_MS = 1_000;
/** An attack on revocation starts this long after it: what caches and clocks explain has passed. */
export const REVOCATION_WAIT_MS = INTROSPECTION_CACHE_MS + SKEW_MS + 500;

/**
 * The `grantscope.yaml` of the demo: its registered clients (static registrations send no events), and the
 * one parameter that depends on how the resource servers are built.
 */
export function grantscopeSettings(applications: readonly ApplicationDefinition[]): string {
  return stringify({
    clients: applications.map((a) => ({
      client_id: a.clientId,
      client_name: a.name,
      redirect_uris: [...a.redirectUris],
      scope: a.scopes.join(' '),
      grant_types: [...grantTypesOf(a.kind)],
      token_endpoint_auth_method: a.clientSecret === undefined ? 'none' : 'client_secret_basic',
    })),
    detectors: {
      token_used_after_revocation: { cache_ttl_ms: INTROSPECTION_CACHE_MS, skew_ms: SKEW_MS },
    },
  });
}
