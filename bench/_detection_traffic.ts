import { param, sql, type Sql } from '../model/sql.ts';

/** What the events of a run are like. */
export const TRAFFIC = ['honest', 'mixed'] as const;
export type Traffic = (typeof TRAFFIC)[number];

const NIL = sql`toUUID('00000000-0000-0000-0000-000000000000')`;

/** A reference made of a name and numbers: as random as a keyed hash. */
const ref = (name: Sql): Sql => sql`reinterpret(MD5(concat(${name}, toString(session))), 'UUID')`;

/**
 * One insert of `count` events whose sessions are numbered from `first`, made by the engine itself, so that a run measures
 * detection and little else. Event time is now.
 *
 * `honest`: an issuance and two API calls of one token. `mixed`: twenty events a session: an authorization request, a
 * code, its redemption, an issuance with refresh token, calls that both gateway and resource server report, a refresh, and for
 * one session of ten a logout.
 */
export function insertTraffic(traffic: Traffic, first: number, count: number): Sql {
  return traffic === 'honest' ? insertHonest(first, count) : insertMixed(first, count);
}

const HEAD = sql`INSERT INTO grantscope.auth_events (event_id, tenant, time, kind, outcome, client_id, scopes_granted,
  redirect_uri, grant_ref, tokens.role, tokens.type, tokens.ref, tokens.ref_kind, tokens.family_ref, tokens.parent_ref,
  tokens.counter, tokens.issued_at, tokens.expires_at, tokens.kid, tokens.alg, net_network, net_ip_role, net_ua_family,
  corr_trace_id)`;

/** Columns of a token list that say nothing here, for lists as long as `roles`. */
const REST = sql`arrayMap(r -> 'hmac', roles), families, arrayMap(r -> ${NIL}, roles), arrayMap(r -> toInt64(-1), roles),
  arrayMap(r -> toDateTime(0), roles), arrayMap(r -> toDateTime(0), roles), arrayMap(r -> '', roles), arrayMap(r -> '', roles)`;

function insertHonest(first: number, count: number): Sql {
  return sql`${HEAD}
    WITH ${param.uint(first)} + intDiv(number, 3) AS session, number % 3 = 0 AS is_issued,
      [if(is_issued, 'issued', 'presented')] AS roles, [${NIL}] AS families
    SELECT generateUUIDv4(), 'default', now64(9), if(is_issued, 'token_issued', 'api_accessed'), 'success',
      concat('client-', toString(session % 40)), ['openid', 'orders:read'], '', ${NIL}, roles, ['access'],
      [${ref(sql`'access'`)}], ${REST},
      concat('10.', toString(intDiv(session % 5000, 256)), '.', toString(session % 256), '.0/24'), 'end_user', 'Chrome', ''
    FROM numbers(${param.uint(count)}) SETTINGS async_insert = 0`;
}

function insertMixed(first: number, count: number): Sql {
  const access = ref(sql`if(step < 13, 'access 1', 'access 2')`);
  return sql`${HEAD}
    WITH ${param.uint(first)} + intDiv(number, 20) AS session, number % 20 AS step,
      multiIf(step = 0, 'authorization_requested', step = 1, 'code_issued', step = 2, 'code_redeemed', step = 3, 'token_issued',
        step = 12, 'token_refreshed', step = 19 AND session % 10 = 0, 'grant_revoked', step % 2 = 0, 'api_accessed', 'token_validated') AS k,
      multiIf(k = 'authorization_requested', [], k = 'code_issued', ['issued'], k = 'code_redeemed', ['consumed'],
        k = 'token_issued', ['consumed', 'issued', 'issued'], k = 'token_refreshed', ['consumed', 'issued', 'issued'],
        k = 'grant_revoked', ['revoked'], ['presented']) AS roles,
      multiIf(k = 'authorization_requested', [], k IN ('code_issued', 'code_redeemed'), ['code'],
        k = 'token_issued', ['code', 'refresh', 'access'], k = 'token_refreshed', ['refresh', 'refresh', 'access'],
        k = 'grant_revoked', ['refresh'], ['access']) AS types,
      multiIf(k = 'authorization_requested', [], k IN ('code_issued', 'code_redeemed'), [${ref(sql`'code'`)}],
        k = 'token_issued', [${ref(sql`'code'`)}, ${ref(sql`'refresh 1'`)}, ${ref(sql`'access 1'`)}],
        k = 'token_refreshed', [${ref(sql`'refresh 1'`)}, ${ref(sql`'refresh 2'`)}, ${ref(sql`'access 2'`)}],
        k = 'grant_revoked', [${ref(sql`'refresh 2'`)}], [${access}]) AS refs,
      arrayMap(t -> if(t = 'code' OR k IN ('api_accessed', 'token_validated'), ${NIL}, ${ref(sql`'family'`)}), types) AS families,
      k = 'token_validated' AS is_inner
    SELECT generateUUIDv4(), 'default', now64(9), k, 'success', concat('client-', toString(session % 40)),
      if(k IN ('token_issued', 'token_refreshed'), ['openid', 'orders:read'], []),
      if(k = 'authorization_requested', 'https://app.example.com/cb', ''),
      if(k IN ('token_issued', 'token_refreshed', 'grant_revoked'), ${ref(sql`'grant'`)}, ${NIL}), roles, types, refs, ${REST},
      if(is_inner, '10.0.7.0/24', concat('198.', toString(intDiv(session % 5000, 256)), '.', toString(session % 256), '.0/24')),
      if(is_inner, 'proxy', 'end_user'), if(is_inner, 'envoy', 'okhttp'), concat('t', toString(intDiv(session * 20 + step, 2)))
    FROM numbers(${param.uint(count)}) SETTINGS async_insert = 0`;
}
