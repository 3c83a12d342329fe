import { createHash, randomUUID } from 'node:crypto';
import { SEVERITIES, type EntityType, type Severity } from '../../model/finding.ts';
import { uuidFromHex } from '../../model/ids.ts';
import { clickHouseMs, joinSql, param, sql, type Sql } from '../../model/sql.ts';
import {
  isGraver,
  SUPPRESSION_DAYS_MAX,
  suppressionState,
  type Suppression,
  type SuppressionOrigin,
  type SuppressionRequest,
  type SuppressionScope,
} from '../../model/suppression.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** Suppressions that hold at a time: each is compared with every open finding. */
export const SUPPRESSIONS_ACTIVE_MAX = 1_000;
/** Entities that a preview names. */
export const PREVIEW_ENTITIES_MAX = 20;
/** How far a preview looks back, days. */
export const PREVIEW_DAYS = 30;

const DAY_MS = 86_400_000;
const TABLE = 'grantscope.suppressions';

/** A suppression with how often it was used. */
export interface UsedSuppression extends Suppression {
  /** Findings that it has hidden, each counted once. */
  readonly hits: number;
  /** ISO 8601; '' where it never hid one. */
  readonly last_hit_at: string;
}

/** What a scope would have hidden. */
export interface SuppressionPreview {
  readonly days: number;
  /** Findings whose evidence reaches into the last `days`, withdrawn ones left out. */
  readonly hidden: number;
  /** Inside the scope, but graver than `severity_max`. */
  readonly broke_through: number;
  /** Given, or the default as SuppressionRequest describes it. */
  readonly severity_max: Severity;
  readonly by_severity: Readonly<Record<string, number>>;
  readonly by_rule: Readonly<Record<string, number>>;
  /** Distinct entities among the hidden. */
  readonly entities: number;
  /** Those with most hidden findings first; at most `PREVIEW_ENTITIES_MAX`. */
  readonly top_entities: readonly {
    readonly entity_type: string;
    readonly entity_ref: string;
    readonly client_id: string;
    readonly findings: number;
  }[];
}

/** The condition on `grantscope.findings` that `isInScope` (model/suppression.ts) is in TypeScript. */
export function inScope(scope: SuppressionScope): Sql {
  const all: Sql[] = [];
  const equals = (column: Sql, value: string | undefined): void => {
    if (value !== undefined) all.push(sql`${column} = ${param.string(value)}`);
  };
  equals(sql`rule_id`, scope.rule_id);
  equals(sql`verdict`, scope.verdict);
  equals(sql`entity_type`, scope.entity_type);
  equals(sql`entity_ref`, scope.entity_ref);
  equals(sql`client_id`, scope.client_id);
  const within = (column: Sql, listed: readonly string[] | undefined): void => {
    if (listed !== undefined)
      all.push(sql`notEmpty(${column}) AND hasAll(${param.strings(listed)}, ${column})`);
  };
  within(sql`networks`, scope.networks);
  within(sql`arrayMap(s -> toString(s), sources)`, scope.sources);
  // A scope without a field never gets here; were one to, it must hide nothing.
  return joinSql(all, ' AND ', sql`1 = 0`);
}

/** All suppressions, those that hold first, then by creation, newest first. */
export async function listSuppressions(
  scope: Scope,
  nowMs: number,
): Promise<readonly UsedSuppression[]> {
  const [rows, hits] = await Promise.all([
    scope.store.query<SuppressionRow>(
      sql`SELECT * FROM grantscope.suppressions FINAL WHERE ${ofTenant(scope)} ORDER BY created_at DESC, suppression_id`,
    ),
    readHits(scope),
  ]);
  const all = rows.map((row): UsedSuppression => {
    const s = toSuppression(row);
    const used = hits.get(s.suppression_id);
    return { ...s, hits: used?.n ?? 0, last_hit_at: used?.last ?? '' };
  });
  const rank = (s: Suppression): number => (suppressionState(s, nowMs) === 'active' ? 0 : 1);
  return all.sort((a, b) => rank(a) - rank(b));
}

/** The suppressions that hold now. */
export async function activeSuppressions(
  scope: Scope,
  nowMs: number,
): Promise<readonly Suppression[]> {
  const rows = await scope.store.query<SuppressionRow>(
    sql`SELECT * FROM grantscope.suppressions FINAL WHERE ${ofTenant(scope)} AND removed_at = ${param.timeMs(0)} AND expires_at > ${param.timeMs(nowMs)} ORDER BY created_at, suppression_id LIMIT ${param.uint(SUPPRESSIONS_ACTIVE_MAX)}`,
  );
  return rows.map(toSuppression);
}

export async function getSuppression(
  scope: Scope,
  id: string,
  nowMs: number,
): Promise<UsedSuppression | undefined> {
  return (await listSuppressions(scope, nowMs)).find((s) => s.suppression_id === id);
}

/**
 * Adds a suppression. Throws `invalid_argument` where it would end in the past or later than
 * `SUPPRESSION_DAYS_MAX` days from now, or where `SUPPRESSIONS_ACTIVE_MAX` hold already.
 */
export async function addSuppression(
  scope: Scope,
  request: SuppressionRequest,
  by: { readonly createdBy: string; readonly nowMs: number },
): Promise<UsedSuppression> {
  const { nowMs } = by;
  const problem = expiryProblem(request.expires_at, nowMs);
  if (problem !== undefined)
    throw new GrantscopeError('invalid_argument', `expires_at: ${problem}`);
  if ((await activeSuppressions(scope, nowMs)).length >= SUPPRESSIONS_ACTIVE_MAX)
    throw new GrantscopeError(
      'invalid_argument',
      `suppressions: ${SUPPRESSIONS_ACTIVE_MAX} hold already; remove one first`,
    );
  const { owner, reason, expires_at, severity_max, ...fields } = request;
  const max = severity_max ?? (await previewSuppression(scope, fields, { nowMs })).severity_max;
  const suppression: Suppression = {
    suppression_id: randomUUID(),
    origin: 'api',
    scope: fields,
    severity_max: max,
    owner,
    reason,
    created_by: by.createdBy,
    created_at: new Date(nowMs).toISOString(),
    expires_at: new Date(expires_at).toISOString(),
    removed_at: '',
    removed_by: '',
    removed_reason: '',
  };
  await write(scope, [suppression], nowMs);
  return { ...suppression, hits: 0, last_hit_at: '' };
}

/** Why a suppression may not end then; undefined where it may. */
export function expiryProblem(expiresAt: string, nowMs: number): string | undefined {
  const endMs = Date.parse(expiresAt);
  if (endMs <= nowMs) return 'must be in the future';
  if (endMs > nowMs + SUPPRESSION_DAYS_MAX * DAY_MS)
    return `at most ${SUPPRESSION_DAYS_MAX} days from now are allowed`;
  return undefined;
}

/**
 * Ends a suppression; what it hides is notified from then on. Throws `not_found`, and `invalid_argument` where it has
 * ended before or where grantscope.yaml states it.
 */
export async function removeSuppression(
  scope: Scope,
  id: string,
  by: { readonly removedBy: string; readonly reason: string; readonly nowMs: number },
): Promise<UsedSuppression> {
  const found = await getSuppression(scope, id, by.nowMs);
  if (found === undefined)
    throw new GrantscopeError('not_found', 'suppression_id: no suppression has this id');
  const state = suppressionState(found, by.nowMs);
  if (state !== 'active')
    throw new GrantscopeError('invalid_argument', `suppression_id: it is ${state} already`);
  if (found.origin === 'config')
    throw new GrantscopeError(
      'invalid_argument',
      'suppression_id: grantscope.yaml states it; remove it there',
    );
  const { hits, last_hit_at, ...stored } = found;
  const removed: Suppression = {
    ...stored,
    removed_at: new Date(by.nowMs).toISOString(),
    removed_by: by.removedBy,
    removed_reason: by.reason,
  };
  await write(scope, [removed], by.nowMs);
  return { ...removed, hits, last_hit_at };
}

/** What a scope would have hidden of the findings of the last `PREVIEW_DAYS` days. */
export async function previewSuppression(
  scope: Scope,
  fields: SuppressionScope,
  options: { readonly nowMs: number; readonly severityMax?: Severity | undefined },
): Promise<SuppressionPreview> {
  const sinceMs = options.nowMs - PREVIEW_DAYS * DAY_MS;
  const where = sql`${ofTenant(scope)} AND state != 'superseded' AND last_event_time >= ${param.timeMs(sinceMs)} AND ${inScope(fields)}`;
  const counts = await scope.store.query<{ severity: Severity; rule_id: string; n: number }>(
    sql`SELECT severity, rule_id, toUInt32(count()) AS n FROM grantscope.findings FINAL WHERE ${where} GROUP BY severity, rule_id ORDER BY severity, rule_id`,
  );
  const max = options.severityMax ?? defaultSeverity(counts.map((c) => c.severity));
  const hiddenSeverities = SEVERITIES.filter((s) => !isGraver(s, max));
  const hidden = counts.filter((c) => hiddenSeverities.includes(c.severity));
  const total = (rows: readonly { n: number }[]): number => rows.reduce((sum, r) => sum + r.n, 0);
  const hiddenWhere = sql`${where} AND has(${param.strings(hiddenSeverities)}, severity)`;
  const [entities] = await scope.store.query<{ n: number }>(
    sql`SELECT toUInt32(uniqExact(entity_type, entity_ref)) AS n FROM grantscope.findings FINAL WHERE ${hiddenWhere}`,
  );
  const top = await scope.store.query<SuppressionPreview['top_entities'][number]>(
    sql`SELECT entity_type, entity_ref, toString(min(client)) AS client_id, toUInt32(count()) AS findings FROM (SELECT entity_type, entity_ref, client_id AS client FROM grantscope.findings FINAL WHERE ${hiddenWhere}) GROUP BY entity_type, entity_ref ORDER BY findings DESC, entity_type, entity_ref LIMIT ${param.uint(PREVIEW_ENTITIES_MAX)}`,
  );
  return {
    days: PREVIEW_DAYS,
    hidden: total(hidden),
    broke_through: total(counts) - total(hidden),
    severity_max: max,
    by_severity: sumBy(hidden, (c) => c.severity),
    by_rule: sumBy(hidden, (c) => c.rule_id),
    entities: entities?.n ?? 0,
    top_entities: top,
  };
}

/** Critical findings are hidden only where somebody says so. */
function defaultSeverity(seen: readonly Severity[]): Severity {
  if (seen.length === 0) return 'medium';
  const gravest = Math.max(...seen.map((s) => SEVERITIES.indexOf(s)));
  return SEVERITIES[Math.min(gravest, SEVERITIES.indexOf('high'))] ?? 'medium';
}

function sumBy<Row extends { readonly n: number }>(
  rows: readonly Row[],
  key: (row: Row) => string,
): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const row of rows) sums[key(row)] = (sums[key(row)] ?? 0) + row.n;
  return sums;
}

/** The id of what grantscope.yaml states: the same statement keeps its id, its creation and its hits. */
export function configuredId(tenant: string, request: SuppressionRequest): string {
  const { owner, reason, expires_at, severity_max, ...fields } = request;
  const scope = Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1));
  const named = JSON.stringify([tenant, scope, owner, reason, expires_at, severity_max ?? null]);
  return uuidFromHex(createHash('sha256').update(`grantscope suppression\0${named}`).digest('hex'));
}

/**
 * Makes the stored suppressions of grantscope.yaml those that it states now. One that is no longer stated is removed;
 * one that has ended is kept as it is. Returns how many were added and removed.
 */
export async function syncConfiguredSuppressions(
  scope: Scope,
  stated: readonly SuppressionRequest[],
  nowMs: number,
): Promise<{ readonly added: number; readonly removed: number }> {
  const before = (await listSuppressions(scope, nowMs)).filter((s) => s.origin === 'config');
  const wanted = new Map(stated.map((r) => [configuredId(scope.tenant, r), r]));
  const changes: Suppression[] = [];
  for (const [suppression_id, request] of wanted) {
    const old = before.find((s) => s.suppression_id === suppression_id);
    if (old !== undefined && old.removed_at === '') continue;
    const { owner, reason, expires_at, severity_max, ...fields } = request;
    const max = severity_max ?? (await previewSuppression(scope, fields, { nowMs })).severity_max;
    changes.push({
      suppression_id,
      origin: 'config',
      scope: fields,
      severity_max: max,
      owner,
      reason,
      created_by: 'grantscope.yaml',
      created_at: new Date(nowMs).toISOString(),
      expires_at: new Date(expires_at).toISOString(),
      removed_at: '',
      removed_by: '',
      removed_reason: '',
    });
  }
  const added = changes.length;
  for (const { hits, last_hit_at, ...old } of before) {
    if (old.removed_at !== '' || wanted.has(old.suppression_id)) continue;
    changes.push({
      ...old,
      removed_at: new Date(nowMs).toISOString(),
      removed_by: 'grantscope.yaml',
      removed_reason: `no longer stated; it had hidden ${hits} finding(s)${last_hit_at === '' ? '' : `, last at ${last_hit_at}`}`,
    });
  }
  await write(scope, changes, nowMs);
  return { added, removed: changes.length - added };
}

async function readHits(
  scope: Scope,
): Promise<ReadonlyMap<string, { readonly n: number; readonly last: string }>> {
  const rows = await scope.store.query<{ id: string; n: number; last: string }>(
    sql`SELECT treated_by AS id, toUInt32(uniqExact(finding_id)) AS n, maxIf(changed_at, state = 'open') AS last FROM grantscope.finding_changes WHERE ${ofTenant(scope)} AND treated_kind = 'suppression' GROUP BY treated_by`,
  );
  return new Map(rows.map((r) => [r.id, { n: r.n, last: isoTime(r.last) }]));
}

interface SuppressionRow {
  readonly suppression_id: string;
  readonly origin: SuppressionOrigin;
  readonly rule_id: string;
  readonly verdict: string;
  readonly entity_type: EntityType | '';
  readonly entity_ref: string;
  readonly client_id: string;
  readonly networks: string[];
  readonly sources: string[];
  readonly severity_max: Severity;
  readonly owner: string;
  readonly reason: string;
  readonly created_by: string;
  readonly created_at: string;
  readonly expires_at: string;
  readonly removed_at: string;
  readonly removed_by: string;
  readonly removed_reason: string;
}

function toSuppression(row: SuppressionRow): Suppression {
  const { rule_id, verdict, entity_type, entity_ref, client_id, networks, sources } = row;
  const fields = { rule_id, verdict, entity_type, entity_ref, client_id, networks, sources };
  // A field that is empty was not given.
  const given = Object.entries(fields).filter(([, value]) => value.length > 0);
  const isRemoved = !row.removed_at.startsWith('1970-');
  return {
    suppression_id: row.suppression_id,
    origin: row.origin,
    scope: Object.fromEntries(given),
    severity_max: row.severity_max,
    owner: row.owner,
    reason: row.reason,
    created_by: row.created_by,
    created_at: isoTime(row.created_at),
    expires_at: isoTime(row.expires_at),
    removed_at: isRemoved ? isoTime(row.removed_at) : '',
    removed_by: row.removed_by,
    removed_reason: row.removed_reason,
  };
}

async function write(scope: Scope, changes: readonly Suppression[], nowMs: number): Promise<void> {
  const time = (iso: string): string => clickHouseMs(iso === '' ? 0 : Date.parse(iso));
  const rows = changes.map(({ scope: s, ...rest }) => ({
    tenant: scope.tenant,
    ...rest,
    rule_id: s.rule_id ?? '',
    verdict: s.verdict ?? '',
    entity_type: s.entity_type ?? '',
    entity_ref: s.entity_ref ?? '',
    client_id: s.client_id ?? '',
    networks: s.networks ?? [],
    sources: s.sources ?? [],
    created_at: time(rest.created_at),
    expires_at: time(rest.expires_at),
    removed_at: time(rest.removed_at),
    version: Math.round(nowMs),
  }));
  await scope.store.insertRows(TABLE, rows);
}
