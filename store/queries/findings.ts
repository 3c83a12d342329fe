import type { EntityType, FindingFamily, FindingState, Severity } from '../../model/finding.ts';
import { SEVERITIES, Finding } from '../../model/finding.ts';
import type { Treatment } from '../../model/triage.ts';
import { identifier, joinSql, param, sql, type Sql } from '../../model/sql.ts';
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
export interface FindingFilter {
  readonly state?: readonly FindingState[] | undefined;
  /** This severity and above. */
  readonly severity_min?: Severity | undefined;
  readonly treatment?: readonly Treatment[] | undefined;
  readonly family?: readonly FindingFamily[] | undefined;
  readonly rule_id?: string | undefined;
  readonly client_id?: string | undefined;
  readonly entity_type?: EntityType | undefined;
  readonly entity_ref?: string | undefined;
  /** Text that title, summary, rule, client or entity contains, in any case. */
  readonly q?: string | undefined;
  /** ISO 8601: findings whose evidence reaches into [from, to). */
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/** What a list can be ordered by; ties are broken by id, so that an order is total. */
export const FINDING_SORTS = ['last_event_time', 'detected_at', 'severity', 'risk'] as const;
export type FindingSort = (typeof FINDING_SORTS)[number];

export interface FindingOrder {
  readonly by: FindingSort;
  readonly descending: boolean;
}

const SORT_VALUE: Readonly<Record<FindingSort, Sql>> = {
  last_event_time: sql`toString(last_event_time)`,
  detected_at: sql`toString(detected_at)`,
  // Two digits, so that text order is number order.
  severity: sql`concat(leftPad(toString(indexOf(${param.strings(SEVERITIES)}, toString(severity))), 2, '0'), ' ', toString(last_event_time))`,
  risk: sql`concat(leftPad(toString(risk), 3, '0'), ' ', toString(last_event_time))`,
};

/** The newest version of each finding wins. */
const FINDINGS = sql`grantscope.findings FINAL`;

const COLUMNS = joinSql(
  Object.keys(Finding.shape).map((name) => identifier(name)),
  ', ',
);

function conditions(scope: Scope, filter: FindingFilter): Sql {
  const all: Sql[] = [ofTenant(scope)];
  if (filter.state !== undefined) all.push(sql`has(${param.strings(filter.state)}, state)`);
  if (filter.severity_min !== undefined) {
    const allowed = SEVERITIES.slice(SEVERITIES.indexOf(filter.severity_min));
    all.push(sql`has(${param.strings(allowed)}, severity)`);
  }
  if (filter.treatment !== undefined) all.push(isTreated(scope, filter.treatment));
  if (filter.family !== undefined) all.push(sql`has(${param.strings(filter.family)}, family)`);
  if (filter.rule_id !== undefined) all.push(sql`rule_id = ${param.string(filter.rule_id)}`);
  if (filter.client_id !== undefined) all.push(sql`client_id = ${param.string(filter.client_id)}`);
  if (filter.entity_type !== undefined)
    all.push(sql`entity_type = ${param.string(filter.entity_type)}`);
  if (filter.entity_ref !== undefined)
    all.push(sql`entity_ref = ${param.string(filter.entity_ref)}`);
  if (filter.q !== undefined) {
    all.push(
      sql`positionCaseInsensitiveUTF8(concat(title, '\n', summary, '\n', rule_id, '\n', client_id, '\n', entity_ref), ${param.string(filter.q)}) > 0`,
    );
  }
  if (filter.from !== undefined) all.push(sql`last_event_time >= ${instant(filter.from)}`);
  if (filter.to !== undefined) all.push(sql`first_event_time < ${instant(filter.to)}`);
  return joinSql(all, ' AND ');
}

/** A finding that triage has not seen yet is active. */
function isTreated(scope: Scope, treatment: readonly Treatment[]): Sql {
  const status = (condition: Sql): Sql =>
    sql`(SELECT finding_id FROM grantscope.finding_status FINAL WHERE ${ofTenant(scope)} AND ${condition})`;
  return treatment.includes('active')
    ? sql`finding_id NOT IN ${status(sql`NOT has(${param.strings(treatment)}, treatment)`)}`
    : sql`finding_id IN ${status(sql`has(${param.strings(treatment)}, treatment)`)}`;
}

/** One page of findings. */
export async function listFindings(
  scope: Scope,
  filter: FindingFilter,
  order: FindingOrder,
  page: { readonly limit: number; readonly after?: Keyset | undefined },
): Promise<Page<Finding>> {
  const value = SORT_VALUE[order.by];
  const direction = order.descending ? sql`DESC` : sql`ASC`;
  const beyond =
    page.after === undefined
      ? sql``
      : sql` AND (${value}, toString(finding_id)) ${order.descending ? sql`<` : sql`>`} (${param.string(page.after.value)}, ${param.string(page.after.id)})`;
  const rows = await scope.store.query<FindingRow & { sort_value: string }>(
    sql`SELECT ${COLUMNS}, ${value} AS sort_value FROM ${FINDINGS} WHERE ${conditions(scope, filter)}${beyond} ORDER BY sort_value ${direction}, toString(finding_id) ${direction} LIMIT ${param.uint(page.limit + 1)}`,
  );
  const { items, next } = toPage(rows, page.limit, (r) => ({
    value: r.sort_value,
    id: r.finding_id,
  }));
  return { items: items.map(toFinding), next };
}

/** How many findings the filter leaves, over all pages. */
export async function countFindings(scope: Scope, filter: FindingFilter): Promise<number> {
  const [row] = await scope.store.query<{ n: number | string }>(
    sql`SELECT count() AS n FROM ${FINDINGS} WHERE ${conditions(scope, filter)}`,
  );
  return Number(row?.n ?? 0);
}

export async function getFinding(scope: Scope, findingId: string): Promise<Finding | undefined> {
  const [row] = await scope.store.query<FindingRow>(
    sql`SELECT ${COLUMNS} FROM ${FINDINGS} WHERE ${ofTenant(scope)} AND finding_id = ${param.uuid(findingId)} LIMIT 1`,
  );
  return row === undefined ? undefined : toFinding(row);
}

/** Findings by id; absent where there is none. */
export async function getFindings(
  scope: Scope,
  findingIds: readonly string[],
): Promise<ReadonlyMap<string, Finding>> {
  if (findingIds.length === 0) return new Map();
  const rows = await scope.store.query<FindingRow>(
    sql`SELECT ${COLUMNS} FROM ${FINDINGS} WHERE ${ofTenant(scope)} AND finding_id IN ${param.uuids(findingIds)}`,
  );
  return new Map(rows.map((row) => [row.finding_id, toFinding(row)]));
}

/** Counts of the findings of one state, by severity and by family. Absent keys are zero. */
export async function countFindingsBy(
  scope: Scope,
  state: FindingState,
): Promise<{ severity: Map<string, number>; family: Map<string, number> }> {
  const rows = await scope.store.query<{ severity: string; family: string; n: number | string }>(
    sql`SELECT severity, family, count() AS n FROM ${FINDINGS} WHERE ${ofTenant(scope)} AND state = ${param.string(state)} GROUP BY severity, family`,
  );
  const severity = new Map<string, number>();
  const family = new Map<string, number>();
  for (const row of rows) {
    severity.set(row.severity, (severity.get(row.severity) ?? 0) + Number(row.n));
    family.set(row.family, (family.get(row.family) ?? 0) + Number(row.n));
  }
  return { severity, family };
}

/** Findings listed with one investigation. */
export const FINDINGS_OF_ENTITY_MAX = 50;

/** Findings about an entity, or that name it in their evidence; newest first. */
export async function findingsAbout(
  scope: Scope,
  about:
    | { readonly tokens: readonly string[] }
    | { readonly subject: string }
    | { readonly client: string }
    | { readonly entity: string },
): Promise<readonly Finding[]> {
  const rows = await scope.store.query<FindingRow>(
    sql`SELECT ${COLUMNS} FROM ${FINDINGS} WHERE ${ofTenant(scope)} AND (${aboutCondition(about)}) ORDER BY last_event_time DESC, toString(finding_id) LIMIT ${param.uint(FINDINGS_OF_ENTITY_MAX)}`,
  );
  return rows.map(toFinding);
}

function aboutCondition(about: Parameters<typeof findingsAbout>[1]): Sql {
  if ('tokens' in about)
    return sql`hasAny(token_refs, ${param.uuids(about.tokens)}) OR has(${param.strings(about.tokens)}, entity_ref)`;
  if ('subject' in about)
    return sql`subject_ref = ${param.uuid(about.subject)} OR entity_ref = ${param.string(about.subject)}`;
  if ('client' in about)
    return sql`client_id = ${param.string(about.client)} OR (entity_type = 'client' AND entity_ref = ${param.string(about.client)})`;
  return sql`entity_ref = ${param.string(about.entity)}`;
}

/** A mark that changes whenever a finding is written; cheap enough to poll. */
export async function findingsMark(scope: Scope): Promise<string> {
  const [row] = await scope.store.query<{ mark: string }>(
    sql`SELECT concat(toString(count()), ' ', toString(max(version)), ' ', toString(max(updated_at))) AS mark FROM grantscope.findings WHERE ${ofTenant(scope)}`,
  );
  return row?.mark ?? '';
}

/** As the table gives it: times in ClickHouse's form, evidence as JSON text. */
type FindingRow = Omit<Finding, 'evidence'> & { readonly evidence: string };

function toFinding(row: FindingRow): Finding {
  return {
    ...(Object.fromEntries(
      Object.keys(Finding.shape).map((name) => [name, row[name as keyof FindingRow]]),
    ) as unknown as FindingRow),
    subject_ref: refOrEmpty(row.subject_ref),
    evidence: parseEvidence(row.evidence),
    first_event_time: isoTime(row.first_event_time),
    last_event_time: isoTime(row.last_event_time),
    detected_at: isoTime(row.detected_at),
    updated_at: isoTime(row.updated_at),
  };
}

/** A row that another version wrote in another form must not make the whole list unreadable. */
function parseEvidence(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : { value };
  } catch {
    return { unreadable: text.slice(0, 1_000) };
  }
}
