import type { AuthEvent, TokenMention } from './auth_event.ts';
import type { ColumnSpec, ColumnType, TableSpec } from './table_spec.ts';

type Column = ColumnSpec<AuthEvent>;
const column = (name: string, type: ColumnType, get: (e: AuthEvent) => unknown): Column => ({
  name,
  type,
  get,
});
const low = (name: string, get: (e: AuthEvent) => string): Column =>
  column(name, 'LowCardinality(String)', get);
const text = (name: string, get: (e: AuthEvent) => string): Column => column(name, 'String', get);
const lows = (name: string, get: (e: AuthEvent) => readonly string[]): Column =>
  column(name, 'Array(LowCardinality(String))', get);
const ref = (name: string, get: (e: AuthEvent) => string): Column => column(name, 'UUID', get);
const tokens = (name: string, type: ColumnType, get: (t: TokenMention) => unknown): Column => ({
  ...column(`tokens.${name}`, type, (e) => e.tokens),
  each: get as (item: unknown) => unknown,
});

/** DateTime of ClickHouse: seconds in 32 bits; 0 stands for unknown. */
const LAST_SECOND = 4_294_967_295;
function seconds(ns: bigint | null): number {
  return ns === null ? 0 : Math.min(LAST_SECOND, Math.max(0, Number(ns / 1_000_000_000n)));
}

/** `counter` where the vendor does not count. */
export const COUNTER_UNKNOWN = -1;

/** The columns of `grantscope.auth_events`, one to one with AuthEvent (see store/migrations/0001). */
export const authEventsTable: TableSpec<AuthEvent> = {
  table: 'grantscope.auth_events',
  columns: [
    ref('event_id', (e) => e.event_id),
    low('tenant', (e) => e.tenant),
    column('time', "DateTime64(9, 'UTC')", (e) => e.time),
    column('observed_time', "DateTime64(9, 'UTC')", (e) => e.observed_time),
    low('source_id', (e) => e.source.id),
    low('source_vendor', (e) => e.source.vendor),
    low('source_product', (e) => e.source.product),
    low('source_instance', (e) => e.source.instance),
    low('source_tenant', (e) => e.source.tenant),
    low('source_raw_type', (e) => e.source.raw_type),
    low('kind', (e) => e.kind),
    low('phase', (e) => e.phase),
    low('outcome', (e) => e.outcome),
    low('error_code', (e) => e.error.code),
    low('error_oauth_error', (e) => e.error.oauth_error),
    text('error_detail', (e) => e.error.detail),
    low('grant_type', (e) => e.grant_type),
    low('response_type', (e) => e.response_type),
    low('endpoint', (e) => e.endpoint),
    low('client_id', (e) => e.client.id),
    low('client_name', (e) => e.client.name),
    low('client_auth_method', (e) => e.client.auth_method),
    low('requested_client_id', (e) => e.requested_client_id),
    ref('subject_ref', (e) => e.subject.ref),
    low('subject_type', (e) => e.subject.type),
    ref('actor_ref', (e) => e.actor.ref),
    low('actor_type', (e) => e.actor.type),
    low('issuer', (e) => e.issuer),
    lows('audience', (e) => e.audience),
    lows('resource', (e) => e.resource),
    lows('scopes_requested', (e) => e.scopes_requested),
    lows('scopes_granted', (e) => e.scopes_granted),
    text('redirect_uri', (e) => e.redirect_uri),
    low('pkce', (e) => e.pkce),
    low('binding', (e) => e.binding),
    text('binding_thumbprint', (e) => e.binding_thumbprint),
    tokens('role', 'Array(LowCardinality(String))', (t) => t.role),
    tokens('type', 'Array(LowCardinality(String))', (t) => t.type),
    tokens('ref', 'Array(UUID)', (t) => t.ref),
    tokens('ref_kind', 'Array(LowCardinality(String))', (t) => t.ref_kind),
    tokens('family_ref', 'Array(UUID)', (t) => t.family_ref),
    tokens('parent_ref', 'Array(UUID)', (t) => t.parent_ref),
    tokens('counter', 'Array(Int64)', (t) => t.counter ?? COUNTER_UNKNOWN),
    tokens('issued_at', "Array(DateTime('UTC'))", (t) => seconds(t.issued_at)),
    tokens('expires_at', "Array(DateTime('UTC'))", (t) => seconds(t.expires_at)),
    tokens('kid', 'Array(LowCardinality(String))', (t) => t.kid),
    tokens('alg', 'Array(LowCardinality(String))', (t) => t.alg),
    ref('session_ref', (e) => e.session_ref),
    ref('grant_ref', (e) => e.grant_ref),
    text('net_client_ip', (e) => e.net.client_ip),
    low('net_ip_role', (e) => e.net.ip_role),
    low('net_network', (e) => e.net.network),
    column('net_asn', 'UInt32', (e) => e.net.asn),
    low('net_as_org', (e) => e.net.as_org),
    low('net_country', (e) => e.net.country),
    column('net_latitude', 'Nullable(Float32)', (e) => e.net.latitude),
    column('net_longitude', 'Nullable(Float32)', (e) => e.net.longitude),
    lows('net_flags', (e) => e.net.flags),
    low('net_user_agent', (e) => e.net.user_agent),
    low('net_ua_family', (e) => e.net.ua_family),
    low('net_ja4', (e) => e.net.ja4),
    low('http_method', (e) => e.http.method),
    low('http_route', (e) => e.http.route),
    column('http_status', 'UInt16', (e) => e.http.status ?? 0),
    column('http_duration_ms', 'Nullable(Float32)', (e) => e.http.duration_ms),
    text('policy_decision_id', (e) => e.policy.decision_id),
    low('policy_path', (e) => e.policy.path),
    low('policy_decision', (e) => e.policy.decision),
    low('policy_bundle_revision', (e) => e.policy.bundle_revision),
    low('key_kid', (e) => e.key.kid),
    low('key_operation', (e) => e.key.operation),
    low('key_store', (e) => e.key.store),
    low('risk', (e) => e.risk),
    low('acr', (e) => e.acr),
    lows('amr', (e) => e.amr),
    text('corr_trace_id', (e) => e.corr.trace_id),
    text('corr_span_id', (e) => e.corr.span_id),
    text('corr_request_id', (e) => e.corr.request_id),
    text('corr_transaction_id', (e) => e.corr.transaction_id),
    lows('redaction_fields', (e) => e.redaction.fields),
    column('redaction_upstream', 'Bool', (e) => e.redaction.upstream),
    low('redaction_key_id', (e) => e.redaction.key_id),
    column('ext', 'Map(LowCardinality(String), String)', (e) => e.ext),
  ],
};
