import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import { NIL_REF } from '../../model/ids.ts';
import type { EventKind } from '../../model/kinds.ts';
import { namesOfTenant, type NameReader } from '../reference_names.ts';
import { readPage, type EventSummary } from './events.ts';
import {
  instant,
  isoTime,
  ofTenant,
  refOrEmpty,
  type Keyset,
  type Page,
  type Scope,
} from './scope.ts';

/** What can be investigated. `token` covers codes and every other kind of token. */
export const INVESTIGATION_TYPES = [
  'token',
  'family',
  'client',
  'subject',
  'session',
  'grant',
] as const;
export type InvestigationType = (typeof INVESTIGATION_TYPES)[number];

/** Names listed per facet of a summary; the facet's `total` counts all. */
export const FACET_VALUES_MAX = 50;
/** Tokens that one investigation takes in as relatives; more are counted in `truncated`. */
export const RELATED_TOKENS_MAX = 500;

/** How a token of the ledger is related to the one under investigation; nearest first. */
export const RELATIONS = ['self', 'parent', 'child', 'family', 'related'] as const;
export type Relation = (typeof RELATIONS)[number];

/** One token of the family under investigation, as the ledger knows it. */
export interface LedgerToken {
  readonly ref: string;
  readonly type: string;
  readonly ref_kind: string;
  readonly relation: Relation;
  readonly family_ref: string;
  readonly parent_ref: string;
  /** ISO 8601, from the first and last event that mention it. */
  readonly first_seen: string;
  readonly last_seen: string;
  readonly events: number;
  readonly expires_at: string | null;
  readonly issued: number;
  readonly presented: number;
  /** A code's redemption is often told twice (code_redeemed, token_issued) and counts once. */
  readonly consumed: number;
  /** First revocation, ISO 8601. */
  readonly revoked_at: string | null;
}

export interface Lineage {
  readonly tokens: readonly LedgerToken[];
  /** True where the family has more than `RELATED_TOKENS_MAX` tokens: the oldest are taken. */
  readonly truncated: boolean;
}

export interface Facet {
  readonly total: number;
  readonly values: readonly { readonly name: string; readonly events: number }[];
}

export interface InvestigationSummary {
  readonly events: number;
  readonly first_seen: string;
  readonly last_seen: string;
  readonly failures: number;
  readonly kinds: Facet;
  readonly clients: Facet;
  readonly networks: Facet;
  readonly user_agents: Facet;
  readonly scopes: Facet;
  readonly resources: Facet;
  readonly subjects: Facet;
  readonly sessions: Facet;
  readonly sources: Facet;
}

/**
 * The tokens that belong to an investigation of `refs`, which name one token or family: the token itself, its
 * parents, its children and the members of its rotation family (RFC 9700 section 4.14); for a family, all
 * members. A token that a rotation of keys renamed is listed once, under its oldest reference.
 */
export async function lineageOf(
  scope: Scope,
  type: 'token' | 'family',
  refs: readonly string[],
): Promise<Lineage> {
  const read = await namesOfTenant(scope.store, scope.tenant);
  const self = param.uuids(refs);
  const own =
    type === 'family'
      ? []
      : await scope.store.query<{ families: string[]; parents: string[] }>(
          sql`SELECT groupUniqArrayIf(family_ref, family_ref != ${param.uuid(NIL_REF)}) AS families, groupUniqArrayIf(parent_ref, parent_ref != ${param.uuid(NIL_REF)}) AS parents FROM grantscope.token_events WHERE ${ofTenant(scope)} AND token_ref IN ${self}`,
        );
  const families = type === 'family' ? refs : (own[0]?.families ?? []);
  const parents = own[0]?.parents ?? [];
  const around = await read([...refs, ...families, ...parents]);
  const known = [...refs, ...parents.flatMap((p) => around.namesOf(p))];
  const ofFamilies = families.flatMap((f) => around.namesOf(f));
  // Children by their parent, members by their family: both are links, and both are read in the links' own order.
  const anchors = param.uuids([...refs, ...ofFamilies]);
  const ways = [
    sql`SELECT arrayJoin(${param.uuids(known)}) AS token_ref`,
    sql`SELECT token_ref FROM grantscope.token_links WHERE ${ofTenant(scope)} AND anchor_ref IN ${anchors}`,
  ];
  const members = joinSql(ways, ' UNION ALL ');
  const byName = await tokenName(scope, read, members);
  const rows = await scope.store.query<LedgerRow>(
    sql`SELECT ${byName} AS token_ref, anyLast(token_type) AS type, anyLastIf(token_ref_kind, token_ref_kind != 'hmac_next') AS ref_kind, max(family_ref) AS family, max(parent_ref) AS parent, min(time) AS first_seen, max(time) AS last_seen, uniqExact(event_id) AS events, max(expires_at) AS expires, uniqExactIf(event_id, token_role = 'issued') AS issued, uniqExactIf(event_id, token_role = 'presented') AS presented, greatest(uniqExactIf(event_id, token_role = 'consumed' AND kind = 'code_redeemed'), uniqExactIf(event_id, token_role = 'consumed' AND kind != 'code_redeemed')) AS consumed, minIf(time, token_role = 'revoked') AS revoked FROM grantscope.token_events AS ledger WHERE ${ofTenant(scope)} AND ledger.token_ref IN (${members}) GROUP BY token_ref ORDER BY first_seen, token_ref LIMIT ${param.uint(RELATED_TOKENS_MAX + 1)}`,
  );
  const names = await read(rows.flatMap((r) => [r.family, r.parent]));
  const oldest = (list: readonly string[]): string[] => list.map((r) => around.canonical(r));
  const tokens = rows
    .slice(0, RELATED_TOKENS_MAX)
    .map((row) =>
      toLedgerToken(
        { ...row, family: names.canonical(row.family), parent: names.canonical(row.parent) },
        { refs: oldest(refs), families: oldest(families), parents: oldest(parents) },
      ),
    );
  return { tokens, truncated: rows.length > RELATED_TOKENS_MAX };
}

/** The name of a ledger row's token: its reference, or the oldest one where a rotation gave it several. */
async function tokenName(scope: Scope, read: NameReader, members: Sql): Promise<Sql> {
  const own = sql`toString(ledger.token_ref)`;
  if (!read.hasNames) return own;
  const rows = await scope.store.query<{ ref: string }>(
    sql`SELECT DISTINCT toString(token_ref) AS ref FROM (${members}) ORDER BY ref LIMIT ${param.uint(2 * RELATED_TOKENS_MAX + 2)}`,
  );
  const names = await read(rows.map((r) => r.ref));
  const later = rows.map((r) => r.ref).filter((ref) => names.canonical(ref) !== ref);
  const earlier = later.map((ref) => names.canonical(ref));
  return later.length === 0
    ? own
    : sql`transform(${own}, ${param.strings(later)}, ${param.strings(earlier)}, ${own})`;
}

/** Events of an investigation, oldest first unless `descending`. */
export async function readTimeline(
  scope: Scope,
  events: Sql,
  page: {
    readonly limit: number;
    readonly after?: Keyset | undefined;
    readonly descending: boolean;
  },
): Promise<Page<EventSummary>> {
  return readPage(scope, events, page);
}

/** The condition on `auth_events` that selects an investigation's events; `refs` are all names of its target. */
export async function eventsOf(
  scope: Scope,
  type: InvestigationType,
  refs: readonly string[],
  lineage: Lineage | undefined,
): Promise<Sql> {
  switch (type) {
    case 'token':
    case 'family':
      return eventsOfTokens(scope, lineage?.tokens ?? []);
    case 'client':
      return sql`client_id IN ${param.strings(refs)}`;
    case 'subject':
      return sql`subject_ref IN ${param.uuids(refs)} OR actor_ref IN ${param.uuids(refs)}`;
    case 'session':
      return sql`session_ref IN ${param.uuids(refs)}`;
    case 'grant':
      return sql`grant_ref IN ${param.uuids(refs)}`;
  }
}

/**
 * What is told of a session, account or grant without naming a token of it: ends, risk signals (CAEP, RISC), decisions of
 * a policy. Beside the events of a token they say why it was refused, or why it should have been.
 */
export const CONTEXT_KINDS: readonly EventKind[] = [
  'session_revoked',
  'account_locked',
  'risk_signal',
  'grant_revoked',
  'consent_revoked',
  'policy_decided',
];
/** Context lies at most this far before the first and after the last event of what it belongs to, s. */
const CONTEXT_REACH_S = 86_400;
/** Sessions, grants and subjects of one investigation whose context is looked up, of each. */
const CONTEXT_OWNERS_MAX = 50;

/**
 * Widens the events of tokens (`eventsOf`) by what was told, around them, of the sessions, grants and subjects that they belong
 * to. Such an event may name none of the tokens.
 */
export async function withContext(scope: Scope, events: Sql): Promise<Sql> {
  const list = (column: Sql): Sql =>
    sql`groupUniqArrayIf(${param.uint(CONTEXT_OWNERS_MAX)})(toString(${column}), ${column} != ${param.uuid(NIL_REF)})`;
  const [own] = await scope.store.query<OwnersRow>(
    sql`SELECT ${list(sql`session_ref`)} AS sessions, ${list(sql`grant_ref`)} AS grants, ${list(sql`subject_ref`)} AS subjects, toString(min(time)) AS first_seen, toString(max(time)) AS last_seen FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND (${events})`,
  );
  const owners = [own?.sessions ?? [], own?.grants ?? [], own?.subjects ?? []] as const;
  if (own === undefined || owners.every((o) => o.length === 0)) return events;
  const read = await namesOfTenant(scope.store, scope.tenant);
  const names = await read(owners.flat());
  const oneOf = (column: Sql, refs: readonly string[]): Sql =>
    sql`${column} IN ${param.uuids(refs.flatMap((ref) => names.namesOf(ref)))}`;
  const [sessions, grants, subjects] = owners;
  const reach = param.uint(CONTEXT_REACH_S);
  return sql`(${events}) OR (kind IN ${param.strings(CONTEXT_KINDS)}
    AND time >= ${instant(isoTime(own.first_seen))} - toIntervalSecond(${reach})
    AND time <= ${instant(isoTime(own.last_seen))} + toIntervalSecond(${reach})
    AND (${oneOf(sql`session_ref`, sessions)} OR ${oneOf(sql`grant_ref`, grants)} OR ${oneOf(sql`subject_ref`, subjects)}))`;
}

interface OwnersRow {
  readonly sessions: readonly string[];
  readonly grants: readonly string[];
  readonly subjects: readonly string[];
  readonly first_seen: string;
  readonly last_seen: string;
}

/**
 * The ledger is ordered by token, the events by kind, client and time. So the ledger names the events, and their kinds, clients
 * and times lead the engine to the few granules of the big table that hold them. Of very many events only the span of
 * time is given.
 */
async function eventsOfTokens(scope: Scope, tokens: readonly LedgerToken[]): Promise<Sql> {
  const read = await namesOfTenant(scope.store, scope.tenant);
  const names = await read(tokens.map((t) => t.ref));
  const refs = param.uuids(tokens.flatMap((t) => names.namesOf(t.ref)));
  const ofTokens = sql`FROM grantscope.token_events WHERE ${ofTenant(scope)} AND token_ref IN ${refs}`;
  const places = await scope.store.query<PlaceRow>(
    sql`SELECT DISTINCT event_id, toString(kind) AS kind, toString(client_id) AS client, toString(time) AS at ${ofTokens} LIMIT ${param.uint(PLACES_MAX + 1)}`,
  );
  if (places.length === 0) return sql`1 = 0`;
  if (places.length > PLACES_MAX) return eventsInSpan(scope, ofTokens);
  const distinct = (of: (place: PlaceRow) => string): string[] => [...new Set(places.map(of))];
  const times = sql`SELECT toDateTime64(arrayJoin(${param.strings(distinct((p) => p.at))}), 9, 'UTC')`;
  return sql`event_id IN ${param.uuids(distinct((p) => p.event_id))} AND kind IN ${param.strings(distinct((p) => p.kind))} AND client_id IN ${param.strings(distinct((p) => p.client))} AND time IN (${times})`;
}

async function eventsInSpan(scope: Scope, ofTokens: Sql): Promise<Sql> {
  const [span] = await scope.store.query<SpanRow>(
    sql`SELECT groupUniqArray(toString(kind)) AS kinds, groupUniqArray(toString(client_id)) AS clients, min(time) AS first_seen, max(time) AS last_seen ${ofTokens}`,
  );
  if (span === undefined || span.kinds.length === 0) return sql`1 = 0`;
  return sql`event_id IN (SELECT event_id ${ofTokens}) AND kind IN ${param.strings(span.kinds)} AND client_id IN ${param.strings(span.clients)} AND time >= ${instant(isoTime(span.first_seen))} AND time <= ${instant(isoTime(span.last_seen))}`;
}

/** Events that a statement names one by one. */
const PLACES_MAX = 2_000;

/** Where an event lies in the order of the big table. */
interface PlaceRow {
  readonly event_id: string;
  readonly kind: string;
  readonly client: string;
  readonly at: string;
}

interface SpanRow {
  readonly kinds: readonly string[];
  readonly clients: readonly string[];
  readonly first_seen: string;
  readonly last_seen: string;
}

const FACETS = [
  'kinds',
  'clients',
  'networks',
  'user_agents',
  'scopes',
  'resources',
  'subjects',
  'sessions',
  'sources',
] as const;

/** Per event, the facets it adds to, as (facet, value) pairs; text of columns is pinned to String. */
const FACET_PAIRS = sql`arrayConcat([('kinds', toString(kind)), ('clients', toString(client_id)), ('networks', toString(net_network)), ('user_agents', toString(net_ua_family)), ('subjects', toString(subject_ref)), ('sessions', toString(session_ref)), ('sources', toString(source_id))], arrayMap(s -> ('scopes', toString(s)), arrayDistinct(scopes_granted)), arrayMap(s -> ('resources', toString(s)), arrayDistinct(resource)))`;

/** Counts over all events of an investigation; undefined where there are none. */
export async function summarise(
  scope: Scope,
  events: Sql,
): Promise<InvestigationSummary | undefined> {
  // An event that was sent twice counts once.
  const rows = sql`SELECT * FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND (${events}) LIMIT 1 BY event_id`;
  const [row] = await scope.store.query<TotalsRow>(
    sql`SELECT count() AS events, min(time) AS first_seen, max(time) AS last_seen, countIf(outcome IN ('failure', 'denied')) AS failures FROM (${rows})`,
  );
  const n = Number(row?.events ?? 0);
  if (row === undefined || n === 0) return undefined;
  const values = await scope.store.query<FacetRow>(
    sql`SELECT pair.1 AS facet, pair.2 AS name, count() AS events, count() OVER (PARTITION BY pair.1) AS total FROM (SELECT arrayJoin(${FACET_PAIRS}) AS pair FROM (${rows})) WHERE name != '' AND name != ${param.string(NIL_REF)} GROUP BY facet, name ORDER BY facet, events DESC, name LIMIT ${param.uint(FACET_VALUES_MAX)} BY facet`,
  );
  const facets = Object.fromEntries(FACETS.map((f) => [f, toFacet(values, f)])) as Record<
    (typeof FACETS)[number],
    Facet
  >;
  return {
    events: n,
    first_seen: isoTime(row.first_seen),
    last_seen: isoTime(row.last_seen),
    failures: Number(row.failures),
    ...facets,
  };
}

/** As what a thing is known, by all its references, for a search box that does not know what was pasted. */
export async function kindsOfReference(
  scope: Scope,
  refs: readonly string[],
): Promise<readonly { readonly type: string; readonly count: number }[]> {
  const is = param.uuids(refs);
  const count = (type: string, from: Sql, where: Sql): Sql =>
    sql`SELECT ${param.string(type)} AS type, count() AS count FROM ${from} WHERE ${ofTenant(scope)} AND ${where}`;
  const events = sql`grantscope.auth_events`;
  const ledger = sql`grantscope.token_events`;
  const rows = await scope.store.query<{ type: string; count: number | string }>(
    sql`SELECT type, count FROM (${count('finding', sql`grantscope.findings FINAL`, sql`finding_id IN ${is}`)} UNION ALL ${count('token', ledger, sql`token_ref IN ${is}`)} UNION ALL ${count('family', ledger, sql`token_ref IN (SELECT token_ref FROM grantscope.token_links WHERE ${ofTenant(scope)} AND anchor_ref IN ${is}) AND family_ref IN ${is}`)} UNION ALL ${count('subject', events, sql`(subject_ref IN ${is} OR actor_ref IN ${is})`)} UNION ALL ${count('session', events, sql`session_ref IN ${is}`)} UNION ALL ${count('grant', events, sql`grant_ref IN ${is}`)} UNION ALL ${count('event', events, sql`event_id IN ${is}`)}) WHERE count > 0`,
  );
  const order = ['finding', 'token', 'family', 'subject', 'session', 'grant', 'event'];
  return rows
    .map((r) => ({ type: r.type, count: Number(r.count) }))
    .sort((a, b) => order.indexOf(a.type) - order.indexOf(b.type));
}

interface LedgerRow {
  readonly token_ref: string;
  readonly type: string;
  readonly ref_kind: string;
  readonly family: string;
  readonly parent: string;
  readonly first_seen: string;
  readonly last_seen: string;
  readonly events: number | string;
  readonly expires: string;
  readonly issued: number | string;
  readonly presented: number | string;
  readonly consumed: number | string;
  readonly revoked: string;
}

/** What a token's relation is told by, each under its oldest reference. */
interface Around {
  readonly refs: readonly string[];
  readonly families: readonly string[];
  readonly parents: readonly string[];
}

function toLedgerToken(row: LedgerRow, around: Around): LedgerToken {
  return {
    ref: row.token_ref,
    type: row.type,
    ref_kind: row.ref_kind,
    relation: relationOf(row, around),
    family_ref: refOrEmpty(row.family),
    parent_ref: refOrEmpty(row.parent),
    first_seen: isoTime(row.first_seen),
    last_seen: isoTime(row.last_seen),
    events: Number(row.events),
    expires_at: neverAsNull(row.expires),
    issued: Number(row.issued),
    presented: Number(row.presented),
    consumed: Number(row.consumed),
    revoked_at: neverAsNull(row.revoked),
  };
}

function relationOf(row: LedgerRow, around: Around): Relation {
  if (around.refs.includes(row.token_ref)) return 'self';
  if (around.parents.includes(row.token_ref)) return 'parent';
  if (around.refs.includes(row.parent)) return 'child';
  if (around.families.includes(row.family)) return 'family';
  return 'related';
}

function neverAsNull(text: string): string | null {
  return text.startsWith('1970-01-01 00:00:00') ? null : isoTime(text);
}

interface TotalsRow {
  readonly events: number | string;
  readonly first_seen: string;
  readonly last_seen: string;
  readonly failures: number | string;
}

interface FacetRow {
  readonly facet: string;
  readonly name: string;
  readonly events: number | string;
  readonly total: number | string;
}

/** Most frequent first; unknown values ('' and the nil reference) are no value. */
function toFacet(rows: readonly FacetRow[], facet: string): Facet {
  const own = rows.filter((r) => r.facet === facet);
  return {
    total: Number(own[0]?.total ?? 0),
    values: own.map((r) => ({ name: r.name, events: Number(r.events) })),
  };
}
