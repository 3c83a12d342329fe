import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { readPage, type EventSummary } from './events.ts';
import type { Span } from './reports.ts';
import { isoTime, ofTenant, type Keyset, type Scope } from './scope.ts';

/** Events that one postmortem is made of. */
export const POSTMORTEM_EVENTS_MAX = 5_000;
const PAGE = 1_000;
/** Names that a list of a postmortem holds; `total` counts all. */
export const NAMES_MAX = 50;

type Raw = Readonly<Record<string, string | number>>;
const n = (value: string | number | undefined): number => Number(value ?? 0);
const within = (column: Sql, span: Span): Sql =>
  sql`${column} >= ${param.timeMs(span.fromMs)} AND ${column} < ${param.timeMs(span.toMs)}`;

/** The events of the span that `condition` selects, oldest first. */
export async function incidentEvents(
  scope: Scope,
  condition: Sql,
  span: Span,
): Promise<{ readonly events: readonly EventSummary[]; readonly truncated: boolean }> {
  const events: EventSummary[] = [];
  const inSpan = sql`(${condition}) AND ${within(sql`time`, span)}`;
  let after: Keyset | undefined;
  do {
    const page = await readPage(scope, inSpan, { limit: PAGE, after, descending: false });
    events.push(...page.items);
    after = page.next;
  } while (after !== undefined && events.length < POSTMORTEM_EVENTS_MAX);
  return { events, truncated: after !== undefined };
}

/** Distinct names with most events first, and how many there are. */
export interface Named {
  readonly total: number;
  readonly values: string[];
}

/** What tokens were good for, over all events that mention them: scopes, audiences, resources, and keys that signed them. */
export async function reachOfTokens(
  scope: Scope,
  events: Sql,
  refs: readonly string[],
): Promise<Readonly<Record<'scopes' | 'audiences' | 'resources' | 'kids', Named>>> {
  const pairs = sql`arrayConcat(arrayMap(s -> ('scopes', toString(s)), scopes_granted), arrayMap(s -> ('audiences', toString(s)), audience), arrayMap(s -> ('resources', toString(s)), resource), arrayMap((r, k) -> ('kids', if(has(${param.uuids(refs)}, r), toString(k), '')), tokens.ref, tokens.kid))`;
  const rows = await scope.store.query<Raw>(
    sql`SELECT pair.1 AS what, pair.2 AS name, uniqExact(event_id) AS events, count() OVER (PARTITION BY pair.1) AS total FROM (SELECT event_id, arrayJoin(${pairs}) AS pair FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND (${events})) WHERE pair.2 != '' GROUP BY what, name ORDER BY what, events DESC, name LIMIT ${param.uint(NAMES_MAX)} BY what`,
  );
  const named = (what: string): Named => {
    const own = rows.filter((r) => r['what'] === what);
    return { total: n(own[0]?.['total']), values: own.map((r) => String(r['name'])) };
  };
  return {
    scopes: named('scopes'),
    audiences: named('audiences'),
    resources: named('resources'),
    kids: named('kids'),
  };
}

const KEY_KINDS: readonly EventKind[] = [
  'key_created',
  'key_rotated',
  'key_disabled',
  'key_deleted',
];
const KEY_CHANGES_MAX = 200;

/** What happened to keys in the span, oldest first. */
export async function keyChanges(
  scope: Scope,
  span: Span,
): Promise<readonly { at: string; kind: string; issuer: string; kid: string; outcome: string }[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(toDateTime64(time, 3, 'UTC')) AS at, toString(kind) AS what, toString(issuer) AS who, toString(key_kid) AS kid, toString(outcome) AS result FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND kind IN ${param.strings(KEY_KINDS)} AND ${within(sql`time`, span)} ORDER BY at, toString(event_id) LIMIT 1 BY event_id LIMIT ${param.uint(KEY_CHANGES_MAX)}`,
  );
  return rows.map((r) => ({
    at: isoTime(String(r['at'])),
    kind: String(r['what']),
    issuer: String(r['who']),
    kid: String(r['kid']),
    outcome: String(r['result']),
  }));
}

/** The last successful rotation before a moment, by issuer. */
export async function lastRotations(
  scope: Scope,
  beforeMs: number,
): Promise<readonly { issuer: string; at: string }[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(issuer) AS who, toString(toDateTime64(max(time), 3, 'UTC')) AS at FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND kind = 'key_rotated' AND outcome = 'success' AND time < ${param.timeMs(beforeMs)} GROUP BY who ORDER BY who LIMIT ${param.uint(NAMES_MAX)}`,
  );
  return rows.map((r) => ({ issuer: String(r['who']), at: isoTime(String(r['at'])) }));
}

/** Days before an incident in which a source that was heard counts as one that should be heard. */
const USUAL_DAYS = 7;
const DAY_MS = 86_400_000;

/** In how many minutes of the span each usual source was heard. */
export async function heardMinutes(
  scope: Scope,
  span: Span,
): Promise<readonly { source_id: string; heard: number; last: string | null }[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(source_id) AS name, uniqExactIf(minute, ${within(sql`minute`, span)}) AS heard, toString(max(last_time)) AS last FROM grantscope.event_minutes WHERE ${ofTenant(scope)} AND source_id != '' AND minute >= ${param.timeMs(span.fromMs - USUAL_DAYS * DAY_MS)} AND minute < ${param.timeMs(span.toMs)} GROUP BY name ORDER BY heard, name`,
  );
  return rows.map((r) => ({
    source_id: String(r['name']),
    heard: n(r['heard']),
    last: isoTime(String(r['last'])),
  }));
}

/** Records that adapters refused in the span. */
export async function countRefusedRecords(scope: Scope, span: Span): Promise<number> {
  const [row] = await scope.store.query<Raw>(
    sql`SELECT count() AS letters FROM grantscope.dead_letters FINAL WHERE ${ofTenant(scope)} AND ${within(sql`received_at`, span)}`,
  );
  return n(row?.['letters']);
}

/** One thing that somebody was told. */
export interface Notice {
  readonly receiver: string;
  readonly about: 'finding' | 'slo';
  readonly name: string;
  readonly severity: string;
  readonly status: string;
  /** ISO 8601. */
  readonly at: string;
}

const NOTICES_MAX = 500;

/**
 * What was told about these findings whenever it was, and about SLOs within the span: handed to Alertmanager, sent on by it, or
 * delivered to receivers of responses; oldest first.
 */
export async function noticesAbout(
  scope: Scope,
  findingIds: readonly string[],
  span: Span,
): Promise<readonly Notice[]> {
  const ids = param.uuids(findingIds);
  const about = (sent: Sql): Sql =>
    sql`(hasAny(finding_ids, ${ids}) OR (kind = 'slo' AND ${within(sent, span)}))`;
  const tenant = ofTenant(scope);
  const rows = await scope.store.query<Raw>(
    sql`SELECT * FROM (SELECT 'alertmanager' AS told, toString(kind) AS topic, toString(alertname) AS name, labels['severity'] AS level, toString(state) AS result, toString(first_sent_at) AS at FROM grantscope.notifications FINAL WHERE ${tenant} AND ${about(sql`first_sent_at`)} UNION ALL SELECT toString(receiver) AS told, toString(kind) AS topic, toString(alertname) AS name, toString(severity) AS level, toString(status) AS result, toString(first_sent_at) AS at FROM grantscope.alert_notices FINAL WHERE ${tenant} AND ${about(sql`first_sent_at`)} UNION ALL SELECT toString(sink) AS told, 'detection' AS topic, 'finding' AS name, '' AS level, toString(status) AS result, toString(attempted_at) AS at FROM grantscope.deliveries FINAL WHERE ${tenant} AND finding_id IN ${ids} AND status != 'skipped') ORDER BY at, told, name, level, result LIMIT ${param.uint(NOTICES_MAX)}`,
  );
  return rows.map((r) => ({
    receiver: String(r['told']),
    about: r['topic'] === 'slo' ? ('slo' as const) : ('finding' as const),
    name: String(r['name']),
    severity: String(r['level']),
    status: String(r['result']),
    at: isoTime(String(r['at'])),
  }));
}
