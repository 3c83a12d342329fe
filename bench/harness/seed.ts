import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { param, sql, type Sql } from '../../model/sql.ts';
import { openStore, type Store } from '../../store/client.ts';
import { migrate } from '../../store/migrate.ts';
import { until } from './program.ts';

/** Tenant of the generated events. */
export const SEED_TENANT = 'bench';
/** The generated events lie in the 24 hours before this instant, ms since the epoch: 2026-01-16T00:00:00Z. */
export const SEED_END_MS = Date.UTC(2026, 0, 16);
const DAY_MS = 86_400_000;
/** A token's first and last event are up to an hour apart: issuance, introspection, API calls, refresh. */
const EVENTS_PER_TOKEN = 10;
const ROWS_PER_INSERT = 1_000_000;

export interface SeededStore {
  readonly store: Store;
  readonly events: number;
  readonly tokens: number;
  /** Wall time of the generation, s; 0 where the folder had the events already. */
  readonly seededSeconds: number;
  /** The reference of the access token with this number, 0..tokens-1. */
  tokenRef(number: number): Promise<string>;
  close(): Promise<void>;
}

/**
 * A store with `events` events of one day in the real tables: inserted through the views, so that the ledger and the
 * rollups hold them too. A folder that holds that many already is taken as it is; without one, a temporary folder is
 * used and removed by `close`.
 */
export async function openSeeded(events: number, folder: string): Promise<SeededStore> {
  const dataDir = folder === '' ? mkdtempSync(join(tmpdir(), 'grantscope-bench-')) : folder;
  const isNew = !existsSync(join(dataDir, 'clickhouse'));
  const store = openStore({ dataDir });
  await migrate(store);
  const count = async (): Promise<number> => {
    const [row] = await store.query<{ n: string }>(
      sql`SELECT toString(count()) AS n FROM grantscope.auth_events WHERE tenant = ${param.string(SEED_TENANT)}`,
    );
    return Number(row?.n ?? 0);
  };
  const before = isNew ? 0 : await count();
  if (before > 0 && before !== events)
    throw new Error(`${dataDir} holds ${before} events, not ${events}: take another folder`);
  const began = performance.now();
  if (before === 0) {
    for (let from = 0; from < events; from += ROWS_PER_INSERT) {
      await store.command(insertStatement(from, Math.min(ROWS_PER_INSERT, events - from), events));
      if (from % (10 * ROWS_PER_INSERT) === 0) console.error(`${from / 1e6} of ${events / 1e6} M`);
    }
  }
  // Queries are measured on merged parts, as they are some minutes after an insert.
  await until(async () => (await running(store)) === 0, {
    timeoutMs: 3_600_000,
    everyMs: 1_000,
    what: 'merges',
  });
  const seededSeconds = before === 0 ? Math.round((performance.now() - began) / 1_000) : 0;
  return {
    store,
    events,
    tokens: tokensPerHour(events) * 24,
    seededSeconds,
    tokenRef: async (number) => {
      const [row] = await store.query<{ ref: string }>(
        sql`SELECT ${uuidOf('access', sql`toUInt64(${param.uint(number)})`)} AS ref`,
      );
      return row?.ref ?? '';
    },
    close: async () => {
      await store.close();
      if (folder === '') rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

async function running(store: Store): Promise<number> {
  const [row] = await store.query<{ n: string }>(
    sql`SELECT toString(count()) AS n FROM system.merges`,
  );
  return Number(row?.n ?? 0);
}

function tokensPerHour(events: number): number {
  return Math.max(1, Math.floor(events / 24 / EVENTS_PER_TOKEN));
}

/** A reference that follows from a number alone. */
function uuidOf(domain: string, number: Sql): Sql {
  return sql`reinterpretAsUUID(sipHash128(${param.string(domain)}, ${number}))`;
}

/**
 * Events `from` to `from + count` of `events`. Event i of an hour is of token i modulo the tokens of that hour, so that
 * a token's events are six minutes apart with all others in between; k counts the events of a token.
 */
export function insertStatement(from: number, count: number, events: number): Sql {
  const start = param.int64(BigInt(SEED_END_MS - DAY_MS) * 1_000_000n);
  const step = param.uint(Math.floor((DAY_MS * 1_000_000) / events));
  const perHour = param.uint(tokensPerHour(events) * EVENTS_PER_TOKEN);
  const tokens = param.uint(tokensPerHour(events));
  return sql`INSERT INTO grantscope.auth_events (event_id, tenant, time, observed_time, source_id, source_vendor, source_product, source_instance, kind, phase, outcome, error_code, error_oauth_error, grant_type, endpoint, client_id, subject_ref, subject_type, issuer, scopes_granted, tokens.role, tokens.type, tokens.ref, tokens.ref_kind, tokens.family_ref, tokens.parent_ref, tokens.counter, tokens.issued_at, tokens.expires_at, tokens.kid, tokens.alg, session_ref, grant_ref, net_client_ip, net_ip_role, net_network, net_country, net_user_agent, net_ua_family, http_method, http_route, http_status, http_duration_ms, redaction_key_id, inserted_at)
SETTINGS async_insert = 0, max_insert_threads = 1, min_insert_block_size_rows = ${param.uint(ROWS_PER_INSERT)}, min_insert_block_size_bytes = 0, max_partitions_per_insert_block = 0
WITH
  least(intDiv(number, ${perHour}), 23) AS hour,
  number - hour * ${perHour} AS i,
  intDiv(i, ${tokens}) AS k,
  hour * ${tokens} + i % ${tokens} AS token,
  cityHash64(number) AS luck,
  cityHash64(token) AS owner,
  ${uuidOf('access', sql`toUInt64(token)`)} AS access,
  ${uuidOf('refresh', sql`toUInt64(token)`)} AS refresh,
  ${uuidOf('family', sql`toUInt64(token)`)} AS family,
  toUUID('00000000-0000-0000-0000-000000000000') AS nil,
  k = 0 AND luck % 40 = 0 AS is_refused,
  k = 8 AND luck % 25 = 0 AS is_stale,
  k BETWEEN 2 AND 7 AND luck % 100 = 0 AS is_rejected,
  multiIf(is_refused OR is_stale, 'token_request_failed', k = 0, 'token_issued', k = 1, 'token_introspected', is_rejected, 'token_rejected', k = 8, 'token_refreshed', 'api_accessed') AS event_kind,
  is_refused OR is_stale OR is_rejected AS is_failure,
  multiIf(is_refused, [], k IN (0), [access, refresh], k = 8, [refresh], [access]) AS refs,
  fromUnixTimestamp64Nano(${start} + toInt64(number) * ${step}, 'UTC') AS at
SELECT
  ${uuidOf('event', sql`toUInt64(number)`)}, ${param.string(SEED_TENANT)}, at, at, 'grantscope', 'grantscope', 'instrumentation', concat('as-', toString(number % 4)),
  event_kind, 'single', if(is_failure, 'failure', 'success'),
  if(is_rejected, ['expired', 'revoked', 'invalid_signature'][1 + luck % 3], ''), multiIf(is_refused, ['server_error', 'invalid_client', 'invalid_grant'][1 + luck % 3], is_stale, 'invalid_grant', ''),
  multiIf(k = 0, 'authorization_code', k = 8, 'refresh_token', ''), multiIf(k IN (0, 8), 'token', k = 1, 'introspection', ''),
  concat('client-', toString(toUInt32(pow(owner % 1000, 2) / 5000))), ${uuidOf('subject', sql`toUInt64(owner % 1000000)`)}, 'user', 'https://as.example', ['openid', 'orders:read'],
  arrayMap(r -> multiIf(k = 0, 'issued', k = 8, 'consumed', 'presented'), refs), arrayMap(r -> if(r = access, 'access', 'refresh'), refs), refs, arrayMap(r -> 'hmac', refs),
  arrayMap(r -> family, refs), arrayMap(r -> nil, refs), arrayMap(r -> -1, refs), arrayMap(r -> toDateTime(0, 'UTC'), refs), arrayMap(r -> toDateTime(at) + 3600, refs), arrayMap(r -> '', refs), arrayMap(r -> '', refs),
  nil, ${uuidOf('grant', sql`toUInt64(token)`)},
  concat('10.', toString(owner % 200), '.', toString(intDiv(owner, 200) % 250), '.7'), 'end_user', concat('10.', toString(owner % 200), '.', toString(intDiv(owner, 200) % 250), '.0/24'), ['DE', 'NL', 'FR', 'US'][1 + owner % 4],
  concat('Mozilla/5.0 Chrome/', toString(100 + owner % 40)), 'Chrome', 'POST', multiIf(k IN (0, 8), '/token', k = 1, '/introspect', ['/orders', '/cart', '/profile'][1 + luck % 3]),
  multiIf(is_refused AND luck % 3 = 0, 500, is_refused OR is_stale, 400, is_rejected, 401, 200), toFloat32(5 + luck % 1000 / 10. + if(luck % 500 = 0, 900, 0)), 'bench', at + INTERVAL 1 SECOND
FROM numbers(${param.uint(from)}, ${param.uint(count)})`;
}
