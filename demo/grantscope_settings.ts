import { stringify } from 'yaml';
import { grantTypesOf } from './authorization_server.ts';
import type { ApplicationDefinition } from './population.ts';
import { INTROSPECTION_CACHE_MS } from './resource_servers.ts';

/** After a revocation, the detector lets pass what honest caches explain: their life and some skew. */
export const REVOCATION_GRACE_MS = INTROSPECTION_CACHE_MS + 2_000;

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
  });
}
