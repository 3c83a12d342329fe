import { param, sql } from '../../model/sql.ts';
import { isoTime, ofTenant, toPage, type Page, type Scope } from './scope.ts';

/** A client as its events show it. */
export interface ClientActivity {
  readonly client_id: string;
  readonly client_name: string;
  readonly events: number;
  readonly failures: number;
  readonly first_seen: string;
  readonly last_seen: string;
  readonly scopes: readonly string[];
  readonly grant_types: readonly string[];
  readonly networks: number;
  readonly open_findings: number;
}

/** Scopes listed per client. */
export const CLIENT_SCOPES_MAX = 100;

/** Clients by id, from the events since `sinceMs`. The keyset is the client id. */
export async function listClients(
  scope: Scope,
  options: {
    readonly sinceMs: number;
    readonly limit: number;
    readonly after?: string | undefined;
  },
): Promise<Page<ClientActivity>> {
  const beyond =
    options.after === undefined ? sql`` : sql` AND client_id > ${param.string(options.after)}`;
  const rows = await scope.store.query<ClientRow>(
    sql`SELECT toString(client_id) AS id, max(client_name) AS name, uniqExact(event_id) AS events, uniqExactIf(event_id, outcome IN ('failure', 'denied')) AS failures, min(time) AS first_seen, max(time) AS last_seen, arraySort(groupUniqArrayArray(${param.uint(CLIENT_SCOPES_MAX)})(arrayMap(s -> toString(s), scopes_granted))) AS scopes, arraySort(groupUniqArrayIf(toString(grant_type), grant_type != '')) AS grant_types, uniqExactIf(net_network, net_network != '') AS networks FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND client_id != '' AND time >= ${param.timeMs(options.sinceMs)}${beyond} GROUP BY client_id ORDER BY id LIMIT ${param.uint(options.limit + 1)}`,
  );
  const { items, next } = toPage(rows, options.limit, (r) => ({ value: r.id, id: r.id }));
  const open = await openFindingsOf(
    scope,
    items.map((r) => r.id),
  );
  return { items: items.map((r) => toClient(r, open.get(r.id) ?? 0)), next };
}

async function openFindingsOf(
  scope: Scope,
  clients: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const rows = await scope.store.query<{ client_id: string; n: number | string }>(
    sql`SELECT client_id, count() AS n FROM grantscope.findings FINAL WHERE ${ofTenant(scope)} AND state = 'open' AND has(${param.strings(clients)}, client_id) GROUP BY client_id`,
  );
  return new Map(rows.map((r) => [r.client_id, Number(r.n)]));
}

interface ClientRow {
  readonly id: string;
  readonly name: string;
  readonly events: number | string;
  readonly failures: number | string;
  readonly first_seen: string;
  readonly last_seen: string;
  readonly scopes: readonly string[];
  readonly grant_types: readonly string[];
  readonly networks: number | string;
}

function toClient(row: ClientRow, openFindings: number): ClientActivity {
  return {
    client_id: row.id,
    client_name: row.name,
    events: Number(row.events),
    failures: Number(row.failures),
    first_seen: isoTime(row.first_seen),
    last_seen: isoTime(row.last_seen),
    scopes: row.scopes,
    grant_types: row.grant_types,
    networks: Number(row.networks),
    open_findings: openFindings,
  };
}
