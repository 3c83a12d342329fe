import type { EventKind, Outcome } from '../../model/kinds.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import { namesOfTenant } from '../reference_names.ts';
import {
  instant,
  isoTime,
  ofTenant,
  refOrEmpty,
  toPage,
  type Keyset,
  type Page,
  type Scope,
} from './scope.ts';

/** All conditions hold together; an absent one does not narrow. */
export interface EventFilter {
  readonly kind?: readonly EventKind[] | undefined;
  readonly outcome?: readonly Outcome[] | undefined;
  readonly client_id?: string | undefined;
  readonly source_id?: string | undefined;
  readonly network?: string | undefined;
  readonly subject_ref?: string | undefined;
  readonly session_ref?: string | undefined;
  readonly grant_ref?: string | undefined;
  /** ISO 8601; [from, to). */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/** A token as one event mentions it. */
export interface EventToken {
  readonly role: string;
  readonly type: string;
  readonly ref: string;
  readonly ref_kind: string;
  readonly family_ref: string;
  readonly parent_ref: string;
  readonly issued_at: string | null;
  readonly expires_at: string | null;
}

/** What a list or timeline shows of an event; '' where the source does not say. */
export interface EventSummary {
  readonly event_id: string;
  /** ISO 8601 with nine digits. */
  readonly time: string;
  readonly kind: string;
  readonly phase: string;
  readonly outcome: string;
  readonly error_code: string;
  readonly oauth_error: string;
  readonly error_detail: string;
  readonly source_id: string;
  readonly source_instance: string;
  readonly issuer: string;
  readonly client_id: string;
  readonly grant_type: string;
  readonly subject_ref: string;
  readonly session_ref: string;
  readonly grant_ref: string;
  readonly network: string;
  readonly client_ip: string;
  readonly ip_role: string;
  readonly country: string;
  readonly user_agent: string;
  readonly ua_family: string;
  readonly scopes_requested: readonly string[];
  readonly scopes_granted: readonly string[];
  readonly resource: readonly string[];
  readonly redirect_uri: string;
  readonly http_route: string;
  /** 0 = unknown. */
  readonly http_status: number;
  readonly tokens: readonly EventToken[];
}

/** Token mentions as an array of maps: one value per event, whatever the number of tokens. */
const TOKENS = sql`arrayMap((ro, ty, re, rk, fa, pa, ia, ea) -> map('role', toString(ro), 'type', toString(ty), 'ref', toString(re), 'ref_kind', toString(rk), 'family_ref', toString(fa), 'parent_ref', toString(pa), 'issued_at', toString(ia), 'expires_at', toString(ea)), tokens.role, tokens.type, tokens.ref, tokens.ref_kind, tokens.family_ref, tokens.parent_ref, tokens.issued_at, tokens.expires_at) AS token_list`;

const COLUMNS = sql`event_id, time, kind, phase, outcome, error_code, error_oauth_error, error_detail, source_id, source_instance, issuer, client_id, grant_type, subject_ref, session_ref, grant_ref, net_network, net_client_ip, net_ip_role, net_country, net_user_agent, net_ua_family, scopes_requested, scopes_granted, resource, redirect_uri, http_route, http_status, ${TOKENS}`;

async function conditions(scope: Scope, filter: EventFilter): Promise<Sql> {
  const all: Sql[] = [ofTenant(scope)];
  const { subject_ref = '', session_ref = '', grant_ref = '' } = filter;
  const names = await (
    await namesOfTenant(scope.store, scope.tenant)
  )([subject_ref, session_ref, grant_ref]);
  if (filter.kind !== undefined) all.push(sql`kind IN ${param.strings(filter.kind)}`);
  if (filter.outcome !== undefined) all.push(sql`outcome IN ${param.strings(filter.outcome)}`);
  if (filter.client_id !== undefined) all.push(sql`client_id = ${param.string(filter.client_id)}`);
  if (filter.source_id !== undefined) all.push(sql`source_id = ${param.string(filter.source_id)}`);
  if (filter.network !== undefined) all.push(sql`net_network = ${param.string(filter.network)}`);
  if (subject_ref !== '') all.push(sql`subject_ref IN ${param.uuids(names.namesOf(subject_ref))}`);
  if (session_ref !== '') all.push(sql`session_ref IN ${param.uuids(names.namesOf(session_ref))}`);
  if (grant_ref !== '') all.push(sql`grant_ref IN ${param.uuids(names.namesOf(grant_ref))}`);
  if (filter.from !== undefined) all.push(sql`time >= ${instant(filter.from)}`);
  if (filter.to !== undefined) all.push(sql`time < ${instant(filter.to)}`);
  return joinSql(all, ' AND ');
}

/** One page of events, newest first. An event that was sent twice is listed once. */
export async function listEvents(
  scope: Scope,
  filter: EventFilter,
  page: { readonly limit: number; readonly after?: Keyset | undefined },
): Promise<Page<EventSummary>> {
  return readPage(scope, await conditions(scope, filter), { ...page, descending: true });
}

/**
 * One page of the events that `condition` selects, in the order of time. The condition comes from this
 * folder's own code; the tenant is added here.
 */
export async function readPage(
  scope: Scope,
  condition: Sql,
  page: {
    readonly limit: number;
    readonly after?: Keyset | undefined;
    readonly descending: boolean;
  },
): Promise<Page<EventSummary>> {
  const [before, order] = page.descending ? [sql`<`, sql`DESC`] : [sql`>`, sql`ASC`];
  const { after } = page;
  const beyond =
    after === undefined
      ? sql``
      : // The first half lets the engine skip whole days; the second is exact.
        sql` AND time ${before}= ${instant(after.value)} AND (time, toString(event_id)) ${before} (${instant(after.value)}, ${param.string(after.id)})`;
  const rows = await scope.store.query<EventRow>(
    sql`SELECT ${COLUMNS} FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND (${condition})${beyond} ORDER BY time ${order}, toString(event_id) ${order} LIMIT 1 BY event_id LIMIT ${param.uint(page.limit + 1)}`,
  );
  const { items, next } = toPage(rows, page.limit, (r) => ({
    value: isoTime(r.time),
    id: r.event_id,
  }));
  return { items: await underOneName(scope, items.map(toSummary)), next };
}

/** Each thing under its oldest reference, and each token mentioned once, also where a rotation gave it two names. */
async function underOneName(
  scope: Scope,
  events: readonly EventSummary[],
): Promise<readonly EventSummary[]> {
  const read = await namesOfTenant(scope.store, scope.tenant);
  const names = await read(
    events.flatMap((e) => [
      ...[e.subject_ref, e.session_ref, e.grant_ref],
      ...e.tokens.flatMap((t) => [t.ref, t.family_ref, t.parent_ref]),
    ]),
  );
  const name = (ref: string): string => names.canonical(ref);
  return events.map((e) => ({
    ...e,
    subject_ref: name(e.subject_ref),
    session_ref: name(e.session_ref),
    grant_ref: name(e.grant_ref),
    tokens: e.tokens
      .filter((t) => t.ref_kind !== 'hmac_next')
      .map((t) => ({
        ...t,
        ref: name(t.ref),
        family_ref: name(t.family_ref),
        parent_ref: name(t.parent_ref),
      })),
  }));
}

/** Everything stored of one event, by column name. References that are unknown are ''. */
export async function getEvent(
  scope: Scope,
  eventId: string,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const [row] = await scope.store.query<Record<string, unknown>>(
    sql`SELECT * FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND event_id = ${param.uuid(eventId)} ORDER BY time LIMIT 1`,
  );
  return row;
}

interface EventRow {
  readonly event_id: string;
  readonly time: string;
  readonly kind: string;
  readonly phase: string;
  readonly outcome: string;
  readonly error_code: string;
  readonly error_oauth_error: string;
  readonly error_detail: string;
  readonly source_id: string;
  readonly source_instance: string;
  readonly issuer: string;
  readonly client_id: string;
  readonly grant_type: string;
  readonly subject_ref: string;
  readonly session_ref: string;
  readonly grant_ref: string;
  readonly net_network: string;
  readonly net_client_ip: string;
  readonly net_ip_role: string;
  readonly net_country: string;
  readonly net_user_agent: string;
  readonly net_ua_family: string;
  readonly scopes_requested: readonly string[];
  readonly scopes_granted: readonly string[];
  readonly resource: readonly string[];
  readonly redirect_uri: string;
  readonly http_route: string;
  readonly http_status: number;
  readonly token_list: readonly Readonly<Record<string, string>>[];
}

function toSummary(row: EventRow): EventSummary {
  return {
    event_id: row.event_id,
    time: isoTime(row.time),
    kind: row.kind,
    phase: row.phase,
    outcome: row.outcome,
    error_code: row.error_code,
    oauth_error: row.error_oauth_error,
    error_detail: row.error_detail,
    source_id: row.source_id,
    source_instance: row.source_instance,
    issuer: row.issuer,
    client_id: row.client_id,
    grant_type: row.grant_type,
    subject_ref: refOrEmpty(row.subject_ref),
    session_ref: refOrEmpty(row.session_ref),
    grant_ref: refOrEmpty(row.grant_ref),
    network: row.net_network,
    client_ip: row.net_client_ip,
    ip_role: row.net_ip_role,
    country: row.net_country,
    user_agent: row.net_user_agent,
    ua_family: row.net_ua_family,
    scopes_requested: row.scopes_requested,
    scopes_granted: row.scopes_granted,
    resource: row.resource,
    redirect_uri: row.redirect_uri,
    http_route: row.http_route,
    http_status: row.http_status,
    tokens: row.token_list.map(toToken),
  };
}

function toToken(map: Readonly<Record<string, string>>): EventToken {
  return {
    role: map['role'] ?? '',
    type: map['type'] ?? '',
    ref: refOrEmpty(map['ref'] ?? ''),
    ref_kind: map['ref_kind'] ?? '',
    family_ref: refOrEmpty(map['family_ref'] ?? ''),
    parent_ref: refOrEmpty(map['parent_ref'] ?? ''),
    issued_at: secondsOrNull(map['issued_at']),
    expires_at: secondsOrNull(map['expires_at']),
  };
}

/** Storage keeps an unknown time of a token as the epoch. */
function secondsOrNull(text: string | undefined): string | null {
  return text === undefined || text.startsWith('1970-01-01 00:00:00') ? null : isoTime(text);
}
