import { SEVERITIES, type Finding, type Severity } from '../../model/finding.ts';
import { NIL_REF } from '../../model/ids.ts';
import type { RiskLevel } from '../../model/risk.ts';
import { clickHouseMs, identifier, joinSql, param, sql } from '../../model/sql.ts';
import { FindingStatus } from '../../model/triage.ts';
import { getFindings } from './findings.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';
import { toStatus, type StatusRow } from './triage.ts';

/** How a delivery stands; all but `retrying` are final. */
export const DELIVERY_STATUSES = ['delivered', 'refused', 'skipped', 'retrying'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/**
 * One step of a finding, told to one receiver. Where time alone was the reason, `finding_id` is the subject's reference and
 * `change_no` the hour since 1970.
 */
export interface Delivery {
  readonly sink: string;
  readonly finding_id: string;
  readonly change_no: number;
  readonly status: DeliveryStatus;
  readonly delivery_id: string;
  readonly subject_ref: string;
  readonly level: RiskLevel | '';
  readonly attempts: number;
  readonly error: string;
  /** ISO 8601. */
  readonly attempted_at: string;
}

/** What a receiver wants to hear of. */
export interface DeliveryFilter {
  readonly sink: string;
  readonly severityMin: Severity;
  readonly includeHidden: boolean;
}

/** Named one by one: of a join, `c.*` would give names that depend on the other tables. */
const STEP_COLUMNS = joinSql(
  Object.keys(FindingStatus.shape).map(
    (name) => sql`${identifier(`c.${name}`)} AS ${identifier(name)}`,
  ),
  ', ',
);

/** Steps that one look reads. */
export const PENDING_PER_LOOK_MAX = 200;

/**
 * Steps since `sinceMs` that the receiver has not been told and wants to hear of, oldest first: open findings that are grave
 * enough and not hidden, and whatever happens to findings that it was told of before.
 */
export async function readPending(
  scope: Scope,
  filter: DeliveryFilter,
  sinceMs: number,
): Promise<
  readonly {
    readonly step: FindingStatus;
    readonly finding: Finding;
    readonly isKnown: boolean;
    readonly attempts: number;
  }[]
> {
  const severities = SEVERITIES.slice(SEVERITIES.indexOf(filter.severityMin));
  const mine = sql`${ofTenant(scope)} AND sink = ${param.string(filter.sink)}`;
  const isOpenTo = filter.includeHidden ? sql`1` : sql`c.treatment = 'active'`;
  const rows = await scope.store.query<StatusRow & { first_no: number; attempts: number }>(sql`
    SELECT ${STEP_COLUMNS}, toUInt32(k.first_no) AS first_no, toUInt32(t.attempts) AS attempts
    FROM (SELECT * FROM grantscope.finding_changes FINAL WHERE ${ofTenant(scope)} AND changed_at >= ${param.timeMs(sinceMs)}) AS c
    LEFT JOIN (SELECT finding_id, min(change_no) AS first_no FROM grantscope.deliveries FINAL WHERE ${mine} AND status = 'delivered' GROUP BY finding_id) AS k ON k.finding_id = c.finding_id
    LEFT JOIN (SELECT finding_id, change_no, attempts FROM grantscope.deliveries FINAL WHERE ${mine} AND status = 'retrying') AS t ON t.finding_id = c.finding_id AND t.change_no = c.change_no
    WHERE (c.finding_id, c.change_no) NOT IN (SELECT finding_id, change_no FROM grantscope.deliveries FINAL WHERE ${mine} AND status != 'retrying')
      AND if(k.first_no > 0, c.change_no > k.first_no, c.state = 'open' AND has(${param.strings(severities)}, c.severity) AND ${isOpenTo})
    ORDER BY c.changed_at, c.finding_id, c.change_no LIMIT ${param.uint(PENDING_PER_LOOK_MAX)}`);
  const findings = await getFindings(
    scope,
    rows.map((r) => r.finding_id),
  );
  return rows.flatMap(({ first_no, attempts, ...row }) => {
    const finding = findings.get(row.finding_id);
    // Past its retention: there is nothing left to tell of.
    return finding === undefined
      ? []
      : [{ step: toStatus(row), finding, isKnown: first_no > 0, attempts }];
  });
}

export async function writeDelivery(scope: Scope, delivery: Delivery): Promise<void> {
  const atMs = Date.parse(delivery.attempted_at);
  await scope.store.insertRows('grantscope.deliveries', [
    {
      tenant: scope.tenant,
      ...delivery,
      subject_ref: delivery.subject_ref === '' ? NIL_REF : delivery.subject_ref,
      attempted_at: clickHouseMs(atMs),
      // A final row goes before a retry of the same attempt.
      version: delivery.attempts * 2 + (delivery.status === 'retrying' ? 0 : 1),
    },
  ]);
}

/** Up to where a receiver has been told everything, ms; undefined where it is new. */
export async function readDeliveryCursor(scope: Scope, sink: string): Promise<number | undefined> {
  const [row] = await scope.store.query<{ n: number; ms: string | number }>(
    sql`SELECT toUInt32(count()) AS n, toUnixTimestamp64Milli(max(handled_to)) AS ms FROM grantscope.delivery_cursors WHERE ${ofTenant(scope)} AND sink = ${param.string(sink)}`,
  );
  return row === undefined || row.n === 0 ? undefined : Number(row.ms);
}

export async function writeDeliveryCursor(scope: Scope, sink: string, ms: number): Promise<void> {
  const handled_to = clickHouseMs(ms);
  await scope.store.insertRows('grantscope.delivery_cursors', [
    { tenant: scope.tenant, sink, handled_to },
  ]);
}

/** The risk level that a receiver was told last of a subject. */
export async function readToldLevel(
  scope: Scope,
  sink: string,
  subjectRef: string,
): Promise<RiskLevel | undefined> {
  const [row] = await scope.store.query<{ level: RiskLevel }>(
    sql`SELECT toString(level) AS level FROM grantscope.deliveries FINAL WHERE ${ofTenant(scope)} AND sink = ${param.string(sink)} AND subject_ref = ${param.uuid(subjectRef)} AND status = 'delivered' ORDER BY attempted_at DESC, change_no DESC LIMIT 1`,
  );
  return row?.level;
}

/** Subjects that one look for faded risk reads. */
export const RAISED_SUBJECTS_MAX = 1_000;

/** Subjects of which a receiver was told a level above low last; those told longest ago first. */
export async function readRaisedSubjects(
  scope: Scope,
  sink: string,
): Promise<readonly { readonly subject_ref: string; readonly level: RiskLevel }[]> {
  return scope.store.query(
    sql`SELECT subject_ref, toString(argMax(d.level, (attempted_at, change_no))) AS level FROM grantscope.deliveries AS d FINAL WHERE ${ofTenant(scope)} AND sink = ${param.string(sink)} AND status = 'delivered' AND subject_ref != ${param.uuid(NIL_REF)} GROUP BY subject_ref HAVING argMax(d.level, (attempted_at, change_no)) != 'low' ORDER BY max(attempted_at), subject_ref LIMIT ${param.uint(RAISED_SUBJECTS_MAX)}`,
  );
}

/** Deliveries, newest attempt first. */
export async function listDeliveries(
  scope: Scope,
  filter: {
    readonly sink?: string | undefined;
    readonly status?: DeliveryStatus | undefined;
    readonly findingId?: string | undefined;
    readonly limit: number;
  },
): Promise<readonly Delivery[]> {
  const bySink = filter.sink === undefined ? sql`` : sql` AND sink = ${param.string(filter.sink)}`;
  const byStatus =
    filter.status === undefined ? sql`` : sql` AND status = ${param.string(filter.status)}`;
  const byFinding =
    filter.findingId === undefined ? sql`` : sql` AND finding_id = ${param.uuid(filter.findingId)}`;
  const rows = await scope.store.query<Delivery>(
    sql`SELECT * EXCEPT (tenant, version) FROM grantscope.deliveries FINAL WHERE ${ofTenant(scope)}${bySink}${byStatus}${byFinding} ORDER BY attempted_at DESC, sink, finding_id, change_no LIMIT ${param.uint(filter.limit)}`,
  );
  return rows.map((row) => ({
    ...row,
    subject_ref: row.subject_ref === NIL_REF ? '' : row.subject_ref,
    attempted_at: isoTime(row.attempted_at),
  }));
}
