import { param, sql, clickHouseMs } from '../../model/sql.ts';
import { FindingStatus } from '../../model/triage.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

const COLUMN_NAMES = Object.keys(FindingStatus.shape);

/** The last step of each of these findings, by id; absent where triage has not seen it yet. */
export async function readStatuses(
  scope: Scope,
  findingIds: readonly string[],
): Promise<ReadonlyMap<string, FindingStatus>> {
  if (findingIds.length === 0) return new Map();
  const rows = await scope.store.query<StatusRow>(
    sql`SELECT * FROM grantscope.finding_status FINAL WHERE ${ofTenant(scope)} AND finding_id IN ${param.uuids(findingIds)}`,
  );
  return new Map(rows.map((row) => [row.finding_id, toStatus(row)]));
}

/** Steps of one finding that an answer lists. */
export const CHANGES_OF_FINDING_MAX = 500;

/** The history of a finding, oldest step first. */
export async function readChanges(
  scope: Scope,
  findingId: string,
): Promise<readonly FindingStatus[]> {
  const rows = await scope.store.query<StatusRow>(
    sql`SELECT * FROM grantscope.finding_changes FINAL WHERE ${ofTenant(scope)} AND finding_id = ${param.uuid(findingId)} ORDER BY change_no LIMIT ${param.uint(CHANGES_OF_FINDING_MAX)}`,
  );
  return rows.map(toStatus);
}

/**
 * Writes steps: the history first, then what holds now, so that a crash between the two makes triage conclude the same
 * step again, under the same key.
 */
export async function writeSteps(scope: Scope, steps: readonly FindingStatus[]): Promise<void> {
  const rows = steps.map((s) => ({
    tenant: scope.tenant,
    ...s,
    changed_at: clickHouseMs(Date.parse(s.changed_at)),
    treated_until: clickHouseMs(s.treated_until === '' ? 0 : Date.parse(s.treated_until)),
  }));
  await scope.store.insertRows('grantscope.finding_changes', rows);
  await scope.store.insertRows('grantscope.finding_status', rows);
}

/** As the tables give it: times in ClickHouse's form. */
export type StatusRow = FindingStatus & { readonly tenant: string };

export function toStatus(row: StatusRow): FindingStatus {
  const { changed_at, treated_until } = row;
  return {
    ...(Object.fromEntries(
      COLUMN_NAMES.map((name) => [name, row[name as keyof FindingStatus]]),
    ) as FindingStatus),
    changed_at: isoTime(changed_at),
    treated_until: treated_until.startsWith('1970-') ? '' : isoTime(treated_until),
  };
}
