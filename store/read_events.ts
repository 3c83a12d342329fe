import type { AuthEvent, TokenMention } from '../model/auth_event.ts';
import { authEventsTable, COUNTER_UNKNOWN } from '../model/event_columns.ts';
import { NIL_REF } from '../model/ids.ts';
import { identifier, joinSql, param, sql, type Sql } from '../model/sql.ts';
import type { Store } from './client.ts';

/** A row of auth_events as JSONEachRow gives it. */
type Row = Readonly<Record<string, unknown>>;

const COLUMNS = joinSql(
  authEventsTable.columns.map((c) => identifier(c.name)),
  ', ',
);

/** `YYYY-MM-DD hh:mm:ss[.fraction]` in UTC to ns since the epoch. */
export function nsOfClickHouseTime(text: string): bigint {
  const [seconds = '', fraction = ''] = text.split('.');
  const ms = Date.parse(`${seconds.replace(' ', 'T')}Z`);
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9));
}

/** ns since the epoch as a DateTime64(9) expression. */
export function timeSql(ns: bigint): Sql {
  return sql`fromUnixTimestamp64Nano(${param.int64(ns)}, 'UTC')`;
}

const text = (row: Row, name: string): string => {
  const value = row[name];
  return typeof value === 'string' ? value : '';
};
const ref = (row: Row, name: string): string => refOf(row[name]);
const refOf = (value: unknown): string =>
  typeof value === 'string' && value !== NIL_REF ? value : '';
const list = (row: Row, name: string): unknown[] => {
  const value = row[name];
  return Array.isArray(value) ? value : [];
};
const texts = (row: Row, name: string): string[] => list(row, name).map(String);
const time = (row: Row, name: string): bigint => nsOfClickHouseTime(text(row, name));

function numberOrNull(value: unknown): number | null {
  return value === null || value === undefined ? null : Number(value);
}

/** Float32 gives 51.5 back exactly and 51.4 as 51.400001525878906: one decimal is what was stored. */
function degreesOrNull(value: unknown): number | null {
  return value === null || value === undefined ? null : Math.round(Number(value) * 10) / 10;
}

/** The nil second (1970) means unknown in storage. */
function secondOrNull(value: unknown): bigint | null {
  const ns = nsOfClickHouseTime(String(value));
  return ns === 0n ? null : ns;
}

function tokensOf(row: Row): TokenMention[] {
  const column = (name: string): unknown[] => list(row, `tokens.${name}`);
  const parts = {
    role: column('role'),
    type: column('type'),
    kind: column('ref_kind'),
    family: column('family_ref'),
    parent: column('parent_ref'),
    counter: column('counter'),
    issued: column('issued_at'),
    expires: column('expires_at'),
    kid: column('kid'),
    alg: column('alg'),
  };
  return column('ref').map((value, i) => ({
    role: parts.role[i] as TokenMention['role'],
    type: parts.type[i] as TokenMention['type'],
    ref: refOf(value),
    ref_kind: parts.kind[i] as TokenMention['ref_kind'],
    family_ref: refOf(parts.family[i]),
    parent_ref: refOf(parts.parent[i]),
    counter: Number(parts.counter[i]) === COUNTER_UNKNOWN ? null : Number(parts.counter[i]),
    issued_at: secondOrNull(parts.issued[i]),
    expires_at: secondOrNull(parts.expires[i]),
    kid: String(parts.kid[i]),
    alg: String(parts.alg[i]),
  }));
}

/** The inverse of `toJsonRow(authEventsTable, event)`: what was stored, as the event it was. */
export function eventFromRow(row: Row): AuthEvent {
  const enumOf = <T>(name: string): T => text(row, name) as T;
  return {
    event_id: text(row, 'event_id'),
    tenant: text(row, 'tenant'),
    time: time(row, 'time'),
    observed_time: time(row, 'observed_time'),
    source: {
      id: text(row, 'source_id'),
      vendor: text(row, 'source_vendor'),
      product: text(row, 'source_product'),
      instance: text(row, 'source_instance'),
      tenant: text(row, 'source_tenant'),
      raw_type: text(row, 'source_raw_type'),
    },
    kind: enumOf<AuthEvent['kind']>('kind'),
    phase: enumOf<AuthEvent['phase']>('phase'),
    outcome: enumOf<AuthEvent['outcome']>('outcome'),
    error: {
      code: text(row, 'error_code'),
      oauth_error: text(row, 'error_oauth_error'),
      detail: text(row, 'error_detail'),
    },
    grant_type: text(row, 'grant_type'),
    response_type: text(row, 'response_type'),
    endpoint: text(row, 'endpoint'),
    client: {
      id: text(row, 'client_id'),
      name: text(row, 'client_name'),
      auth_method: text(row, 'client_auth_method'),
    },
    requested_client_id: text(row, 'requested_client_id'),
    subject: {
      ref: ref(row, 'subject_ref'),
      type: enumOf<AuthEvent['subject']['type']>('subject_type'),
    },
    actor: { ref: ref(row, 'actor_ref'), type: enumOf<AuthEvent['actor']['type']>('actor_type') },
    issuer: text(row, 'issuer'),
    audience: texts(row, 'audience'),
    resource: texts(row, 'resource'),
    scopes_requested: texts(row, 'scopes_requested'),
    scopes_granted: texts(row, 'scopes_granted'),
    redirect_uri: text(row, 'redirect_uri'),
    pkce: enumOf<AuthEvent['pkce']>('pkce'),
    binding: enumOf<AuthEvent['binding']>('binding'),
    binding_thumbprint: text(row, 'binding_thumbprint'),
    tokens: tokensOf(row),
    session_ref: ref(row, 'session_ref'),
    grant_ref: ref(row, 'grant_ref'),
    ...contextFromRow(row),
  };
}

type Context = Pick<
  AuthEvent,
  'net' | 'http' | 'policy' | 'key' | 'risk' | 'acr' | 'amr' | 'corr' | 'redaction' | 'ext'
>;

function contextFromRow(row: Row): Context {
  return {
    net: {
      client_ip: text(row, 'net_client_ip'),
      ip_role: text(row, 'net_ip_role') as AuthEvent['net']['ip_role'],
      network: text(row, 'net_network'),
      asn: Number(row['net_asn'] ?? 0),
      as_org: text(row, 'net_as_org'),
      country: text(row, 'net_country'),
      latitude: degreesOrNull(row['net_latitude']),
      longitude: degreesOrNull(row['net_longitude']),
      flags: texts(row, 'net_flags') as AuthEvent['net']['flags'],
      user_agent: text(row, 'net_user_agent'),
      ua_family: text(row, 'net_ua_family'),
      ja4: text(row, 'net_ja4'),
    },
    http: {
      method: text(row, 'http_method'),
      route: text(row, 'http_route'),
      status: Number(row['http_status']) === 0 ? null : Number(row['http_status']),
      duration_ms: numberOrNull(row['http_duration_ms']),
    },
    policy: {
      decision_id: text(row, 'policy_decision_id'),
      path: text(row, 'policy_path'),
      decision: text(row, 'policy_decision'),
      bundle_revision: text(row, 'policy_bundle_revision'),
    },
    key: {
      kid: text(row, 'key_kid'),
      operation: text(row, 'key_operation'),
      store: text(row, 'key_store'),
    },
    risk: text(row, 'risk'),
    acr: text(row, 'acr'),
    amr: texts(row, 'amr'),
    corr: {
      trace_id: text(row, 'corr_trace_id'),
      span_id: text(row, 'corr_span_id'),
      request_id: text(row, 'corr_request_id'),
      transaction_id: text(row, 'corr_transaction_id'),
    },
    redaction: {
      fields: texts(row, 'redaction_fields'),
      upstream: row['redaction_upstream'] === true,
      key_id: text(row, 'redaction_key_id'),
    },
    ext: { ...(row['ext'] as Record<string, string> | undefined) },
  };
}

/** Whole events that satisfy a condition, in no order; bound it, since results are held in memory. */
export async function readEvents(store: Store, where: Sql): Promise<AuthEvent[]> {
  const rows = await store.query<Row>(
    sql`SELECT ${COLUMNS} FROM grantscope.auth_events WHERE ${where}`,
  );
  return rows.map(eventFromRow);
}
