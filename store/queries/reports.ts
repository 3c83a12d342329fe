import type { FindingFamily, Severity } from '../../model/finding.ts';
import { FINDING_FAMILIES, SEVERITIES } from '../../model/finding.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** From (included) to (not included), ms since the epoch. */
export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** A name with its counts in two periods. */
export interface Pair {
  readonly name: string;
  readonly current: number;
  readonly previous: number;
}

/** Requests and failures of one name, with those of the period before. */
export interface ErrorPair {
  readonly name: string;
  readonly requests: number;
  readonly failures: number;
  readonly previousRequests: number;
  readonly previousFailures: number;
}

/**
 * Where a client meets the servers, by kinds of events. A kind that tells no request (a key was rotated, a session
 * ended) belongs to none and is not in the error figures.
 */
export const SURFACES: Readonly<Record<string, readonly EventKind[]>> = {
  authorization: ['authorization_failed', 'code_issued', 'consent_denied', 'par_pushed'],
  device_authorization: ['device_authorization_requested'],
  introspection: ['token_introspected'],
  login: ['login', 'login_failed'],
  resource_server: ['token_validated', 'token_rejected', 'api_accessed', 'userinfo_accessed'],
  revocation: ['token_revoked'],
  token: ['token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed'],
};
const KINDS = Object.values(SURFACES).flat();
const IS_ANSWER = sql`outcome IN ('success', 'failure', 'denied')`;
const FAILED = sql`outcome IN ('failure', 'denied')`;

const within = (column: Sql, span: Span): Sql =>
  sql`${column} >= ${param.timeMs(span.fromMs)} AND ${column} < ${param.timeMs(span.toMs)}`;
const TIME = sql`time`;
const MINUTE = sql`minute`;

type Raw = Readonly<Record<string, string | number>>;
const n = (value: string | number | undefined): number => Number(value ?? 0);

/** Events stored with a time in the span. */
export async function countEventsIn(scope: Scope, span: Span): Promise<number> {
  const [row] = await scope.store.query<Raw>(
    sql`SELECT uniqExact(event_id) AS events FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND ${within(TIME, span)}`,
  );
  return n(row?.['events']);
}

/** Answered requests and failures by surface, both periods. Counted by the minute, so spans are of whole minutes. */
export async function errorsBySurface(
  scope: Scope,
  span: Span,
  before: Span,
): Promise<readonly ErrorPair[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(kind) AS name, sumIf(events, ${within(MINUTE, span)}) AS requests, sumIf(events, ${FAILED} AND ${within(MINUTE, span)}) AS failures, sumIf(events, ${within(MINUTE, before)}) AS p_requests, sumIf(events, ${FAILED} AND ${within(MINUTE, before)}) AS p_failures FROM grantscope.outcome_minutes WHERE ${ofTenant(scope)} AND kind IN ${param.strings(KINDS)} AND ${IS_ANSWER} AND minute >= ${param.timeMs(before.fromMs)} AND minute < ${param.timeMs(span.toMs)} GROUP BY name`,
  );
  return Object.entries(SURFACES).map(([name, kinds]) => {
    const own = rows.filter((r) => (kinds as readonly string[]).includes(String(r['name'])));
    const sum = (column: string): number => own.reduce((all, r) => all + n(r[column]), 0);
    return {
      name,
      requests: sum('requests'),
      failures: sum('failures'),
      previousRequests: sum('p_requests'),
      previousFailures: sum('p_failures'),
    };
  });
}

/** Answered requests and failures by UTC day (`2026-01-31`) or month (`2026-01`), oldest first; absent where none. */
export async function errorsByTime(
  scope: Scope,
  span: Span,
  step: 'day' | 'month',
): Promise<readonly { name: string; requests: number; failures: number }[]> {
  const name = step === 'day' ? sql`'%Y-%m-%d'` : sql`'%Y-%m'`;
  const rows = await scope.store.query<Raw>(
    sql`SELECT formatDateTime(minute, ${name}, 'UTC') AS name, sum(events) AS requests, sumIf(events, ${FAILED}) AS failures FROM grantscope.outcome_minutes WHERE ${ofTenant(scope)} AND kind IN ${param.strings(KINDS)} AND ${IS_ANSWER} AND ${within(MINUTE, span)} GROUP BY name ORDER BY name`,
  );
  return rows.map((r) => ({
    name: String(r['name']),
    requests: n(r['requests']),
    failures: n(r['failures']),
  }));
}

/** Errors of failed requests in both periods: RFC 6749 codes where the source tells one, else its own; most first. */
export async function errorsByCode(
  scope: Scope,
  span: Span,
  before: Span,
  limit: number,
): Promise<readonly Pair[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT multiIf(error_oauth_error != '', toString(error_oauth_error), error_code != '', toString(error_code), 'not told') AS name, sumIf(events, ${within(MINUTE, span)}) AS current, sumIf(events, ${within(MINUTE, before)}) AS previous FROM grantscope.outcome_minutes WHERE ${ofTenant(scope)} AND kind IN ${param.strings(KINDS)} AND ${FAILED} AND minute >= ${param.timeMs(before.fromMs)} AND minute < ${param.timeMs(span.toMs)} GROUP BY name HAVING current > 0 ORDER BY current DESC, name LIMIT ${param.uint(limit)}`,
  );
  return rows.map(toPair);
}

function toPair(row: Raw): Pair {
  return { name: String(row['name']), current: n(row['current']), previous: n(row['previous']) };
}

/** Clients with most failures first, and how many more there are. */
export async function failingClients(
  scope: Scope,
  span: Span,
  before: Span,
  limit: number,
): Promise<{ readonly list: readonly ErrorPair[]; readonly more: number }> {
  const unique = (condition: Sql): Sql => sql`uniqExactIf(event_id, ${condition})`;
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(client_id) AS name, ${unique(within(TIME, span))} AS requests, ${unique(sql`${FAILED} AND ${within(TIME, span)}`)} AS failures, ${unique(within(TIME, before))} AS p_requests, ${unique(sql`${FAILED} AND ${within(TIME, before)}`)} AS p_failures, count() OVER () AS clients FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND client_id != '' AND phase != 'attempt' AND kind IN ${param.strings(KINDS)} AND ${IS_ANSWER} AND time >= ${param.timeMs(before.fromMs)} AND time < ${param.timeMs(span.toMs)} GROUP BY client_id HAVING failures > 0 ORDER BY failures DESC, name LIMIT ${param.uint(limit)}`,
  );
  const list = rows.map((r) => ({
    name: String(r['name']),
    requests: n(r['requests']),
    failures: n(r['failures']),
    previousRequests: n(r['p_requests']),
    previousFailures: n(r['p_failures']),
  }));
  return { list, more: n(rows[0]?.['clients']) - list.length };
}

/** What an SLO counted in a span. */
export interface SloCounts {
  readonly good: number;
  readonly bad: number;
  readonly excluded: number;
}

/** Counts of all SLOs that counted anything in the span, by id. */
export async function sloCounts(scope: Scope, span: Span): Promise<ReadonlyMap<string, SloCounts>> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(slo_id) AS id, sum(good) AS good_events, sum(bad) AS bad_events, sum(excluded) AS excluded_events FROM grantscope.slo_minutes WHERE ${ofTenant(scope)} AND ${within(MINUTE, span)} GROUP BY id`,
  );
  return new Map(
    rows.map((r) => [
      String(r['id']),
      { good: n(r['good_events']), bad: n(r['bad_events']), excluded: n(r['excluded_events']) },
    ]),
  );
}

/** Findings by one of their columns; the period of a finding is that of the first event of its evidence. */
export interface FindingPair extends Pair {
  readonly severity: Severity;
  readonly family: FindingFamily;
  readonly open: number;
}

/** Findings per rule and severity in both periods, without those that were withdrawn. */
export async function findingsByRule(
  scope: Scope,
  span: Span,
  before: Span,
): Promise<readonly FindingPair[]> {
  const first = sql`first_event_time`;
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(rule_id) AS name, toString(severity) AS level, toString(any(family)) AS kind, countIf(${within(first, span)}) AS current, countIf(${within(first, before)}) AS previous, countIf(state = 'open' AND ${within(first, span)}) AS open FROM grantscope.findings FINAL WHERE ${ofTenant(scope)} AND state != 'superseded' AND first_event_time >= ${param.timeMs(before.fromMs)} AND first_event_time < ${param.timeMs(span.toMs)} GROUP BY name, level ORDER BY current DESC, name, level`,
  );
  return rows.map((r) => ({
    ...toPair(r),
    open: n(r['open']),
    severity: SEVERITIES.find((s) => s === r['level']) ?? 'info',
    family: FINDING_FAMILIES.find((f) => f === r['kind']) ?? 'operations',
  }));
}

/** How many findings of the span are active, suppressed and inhibited; what triage has not seen is active. */
export async function findingTreatments(
  scope: Scope,
  span: Span,
): Promise<Readonly<Record<'active' | 'suppressed' | 'inhibited', number>>> {
  const [row] = await scope.store.query<Raw>(
    sql`SELECT countIf(s.treatment = 'suppressed') AS suppressed, countIf(s.treatment = 'inhibited') AS inhibited, count() AS findings FROM (SELECT finding_id FROM grantscope.findings FINAL WHERE ${ofTenant(scope)} AND state != 'superseded' AND ${within(sql`first_event_time`, span)}) AS f LEFT JOIN (SELECT finding_id, toString(treatment) AS treatment FROM grantscope.finding_status FINAL WHERE ${ofTenant(scope)}) AS s ON s.finding_id = f.finding_id`,
  );
  const suppressed = n(row?.['suppressed']);
  const inhibited = n(row?.['inhibited']);
  return { suppressed, inhibited, active: n(row?.['findings']) - suppressed - inhibited };
}

/** Findings of severity high and above by calendar month (`2026-01`), and all of them. */
export async function findingsByMonth(
  scope: Scope,
  span: Span,
): Promise<readonly { month: string; findings: number; high: number }[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT formatDateTime(first_event_time, '%Y-%m', 'UTC') AS name, count() AS findings, countIf(severity IN ('high', 'critical')) AS high FROM grantscope.findings FINAL WHERE ${ofTenant(scope)} AND state != 'superseded' AND ${within(sql`first_event_time`, span)} GROUP BY name ORDER BY name`,
  );
  return rows.map((r) => ({
    month: String(r['name']),
    findings: n(r['findings']),
    high: n(r['high']),
  }));
}

/** Alerts that were first sent to Alertmanager in the span, by name and severity. */
export async function sentAlerts(
  scope: Scope,
  span: Span,
): Promise<readonly { alertname: string; severity: string; sent: number; firing: number }[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(alertname) AS name, labels['severity'] AS severity, count() AS sent, countIf(state = 'firing') AS firing FROM grantscope.notifications FINAL WHERE ${ofTenant(scope)} AND ${within(sql`first_sent_at`, span)} GROUP BY name, severity ORDER BY sent DESC, name, severity`,
  );
  return rows.map((r) => ({
    alertname: String(r['name']),
    severity: String(r['severity']),
    sent: n(r['sent']),
    firing: n(r['firing']),
  }));
}

/** Messages to receivers of responses that were last tried in the span. */
export async function sentDeliveries(
  scope: Scope,
  span: Span,
): Promise<readonly { sink: string; status: string; messages: number }[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(sink) AS name, toString(status) AS result, count() AS messages FROM grantscope.deliveries FINAL WHERE ${ofTenant(scope)} AND ${within(sql`attempted_at`, span)} GROUP BY name, result ORDER BY name, result`,
  );
  return rows.map((r) => ({
    sink: String(r['name']),
    status: String(r['result']),
    messages: n(r['messages']),
  }));
}

/** Kinds that hand out a token, and with it scopes. */
const GRANTS: readonly EventKind[] = ['token_issued', 'token_refreshed', 'token_exchanged'];
const IS_GRANT = sql`kind IN ${param.strings(GRANTS)} AND outcome = 'success' AND phase != 'attempt'`;

/** Grants of a scope to a client, in both periods. */
export interface ScopeGrant {
  readonly clientId: string;
  readonly scope: string;
  readonly current: number;
  readonly previous: number;
  readonly subjects: number;
  /** ISO 8601, within the current period; '' where it has none. */
  readonly first: string;
  readonly last: string;
}

/** Pairs of client and scope that one report reads. */
export const SCOPE_GRANTS_MAX = 100_000;

/** Which scopes were granted to which clients, by client and scope. */
export async function scopeGrants(
  scope: Scope,
  span: Span,
  before: Span,
): Promise<readonly ScopeGrant[]> {
  const now = within(TIME, span);
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(client_id) AS client, arrayJoin(arrayDistinct(arrayMap(s -> toString(s), scopes_granted))) AS name, uniqExactIf(event_id, ${now}) AS current, uniqExactIf(event_id, ${within(TIME, before)}) AS previous, uniqExactIf(subject_ref, ${now} AND subject_ref != toUUID('00000000-0000-0000-0000-000000000000')) AS subjects, toString(toDateTime64(minIf(time, ${now}), 3, 'UTC')) AS first, toString(toDateTime64(maxIf(time, ${now}), 3, 'UTC')) AS last FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND ${IS_GRANT} AND time >= ${param.timeMs(before.fromMs)} AND time < ${param.timeMs(span.toMs)} GROUP BY client, name ORDER BY client, name LIMIT ${param.uint(SCOPE_GRANTS_MAX)}`,
  );
  return rows.map((r) => {
    const current = n(r['current']);
    return {
      clientId: String(r['client']),
      scope: String(r['name']),
      current,
      previous: n(r['previous']),
      subjects: n(r['subjects']),
      first: current === 0 ? '' : isoTime(String(r['first'])),
      last: current === 0 ? '' : isoTime(String(r['last'])),
    };
  });
}

/** What is done to a client, and not by it. */
const NOT_A_USE: readonly EventKind[] = [
  'client_registered',
  'client_updated',
  'client_deleted',
  'client_credential_changed',
  'secret_read',
  'secret_changed',
  'token_revoked',
  'grant_revoked',
  'consent_revoked',
  'policy_changed',
  'unclassified',
];

/** The last use of each client before the end of the span, ISO 8601; a refused try is no use. */
export async function lastUses(
  scope: Scope,
  clients: readonly string[],
  toMs: number,
): Promise<ReadonlyMap<string, string>> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT toString(client_id) AS client, toString(toDateTime64(max(time), 3, 'UTC')) AS last FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND client_id IN ${param.strings(clients)} AND kind NOT IN ${param.strings(NOT_A_USE)} AND outcome NOT IN ('failure', 'denied') AND time < ${param.timeMs(toMs)} GROUP BY client`,
  );
  return new Map(rows.map((r) => [String(r['client']), isoTime(String(r['last']))]));
}

/** Judgements of one rule that were made in a span. */
export interface JudgedRule {
  readonly ruleId: string;
  readonly judged: number;
  readonly truePositive: number;
  readonly benignPositive: number;
  readonly falsePositive: number;
}

/** By rule: of each finding, the last judgement made in the span. */
export async function judgedRules(scope: Scope, span: Span): Promise<readonly JudgedRule[]> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT rule AS name, count() AS judged, countIf(verdict = 'true_positive') AS tp, countIf(verdict = 'benign_positive') AS bp, countIf(verdict = 'false_positive') AS fp FROM (SELECT toString(any(rule_id)) AS rule, toString(argMax(disposition, (decided_at, disposition_id))) AS verdict FROM grantscope.dispositions WHERE ${ofTenant(scope)} AND ${within(sql`decided_at`, span)} GROUP BY finding_id) GROUP BY name ORDER BY name`,
  );
  return rows.map((r) => ({
    ruleId: String(r['name']),
    judged: n(r['judged']),
    truePositive: n(r['tp']),
    benignPositive: n(r['bp']),
    falsePositive: n(r['fp']),
  }));
}

/** A note that says so, in RE2. */
const DRILL_NOTE = '(?i)^\\s*drill\\b';

/** Which of these findings were drills: a note of one of their judgements begins with the word. */
export async function drillsAmong(
  scope: Scope,
  findingIds: readonly string[],
): Promise<ReadonlySet<string>> {
  const rows = await scope.store.query<Raw>(
    sql`SELECT DISTINCT toString(finding_id) AS id FROM grantscope.dispositions WHERE ${ofTenant(scope)} AND finding_id IN ${param.uuids(findingIds)} AND match(note, ${param.string(DRILL_NOTE)})`,
  );
  return new Set(rows.map((r) => String(r['id'])));
}
