import { randomUUID } from 'node:crypto';
import { clickHouseMs, param, sql } from '../../model/sql.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** The id that stands for every service level. */
export const ALL_SLOS = 'all';
/** Longest correction, days: it takes out of a budget of 30. */
export const CORRECTION_DAYS_MAX = 7;
/** How far back a correction may begin, days: older minutes are in no budget. */
const CORRECTION_AGE_DAYS_MAX = 30;
/** Corrections that a list shows. */
const LISTED_MAX = 500;

const DAY_MS = 86_400_000;

/** Minutes that are taken out of an error budget. Times are ISO 8601. */
export interface SloCorrection {
  readonly correction_id: string;
  /** `ALL_SLOS` for every one. */
  readonly slo_id: string;
  readonly from: string;
  readonly to: string;
  readonly reason: string;
  readonly approver: string;
  readonly created_at: string;
  /** '' while nobody withdrew it. */
  readonly withdrawn_at: string;
  readonly withdrawn_by: string;
  readonly withdrawn_reason: string;
}

/** Corrections of a service level and those of all, latest window first. */
export async function listCorrections(
  scope: Scope,
  sloId: string,
): Promise<readonly SloCorrection[]> {
  const rows = await scope.store.query<
    Omit<SloCorrection, 'from' | 'to'> & { from_time: string; to_time: string }
  >(
    sql`SELECT correction_id, toString(slo_id) AS slo_id, from_time, to_time, reason, approver, created_at, withdrawn_at, withdrawn_by, withdrawn_reason FROM grantscope.slo_corrections AS c FINAL WHERE ${ofTenant(scope)} AND c.slo_id IN ${param.strings([sloId, ALL_SLOS])} ORDER BY from_time DESC, correction_id LIMIT ${param.uint(LISTED_MAX)}`,
  );
  return rows.map(({ from_time, to_time, ...row }) => ({
    ...row,
    from: isoTime(from_time),
    to: isoTime(to_time),
    created_at: isoTime(row.created_at),
    withdrawn_at: row.withdrawn_at.startsWith('1970-') ? '' : isoTime(row.withdrawn_at),
  }));
}

/**
 * Takes minutes out of the budget of a service level, past or ahead. Throws `not_found` for one that has never been
 * computed, and `invalid_argument` for a window that may not be.
 */
export async function addCorrection(
  scope: Scope,
  request: { readonly sloId: string; readonly from: string; readonly to: string },
  by: { readonly reason: string; readonly approver: string; readonly nowMs: number },
): Promise<SloCorrection> {
  const { sloId } = request;
  const [fromMs, toMs] = [Date.parse(request.from), Date.parse(request.to)];
  const problem = windowProblem(fromMs, toMs, by.nowMs);
  if (problem !== undefined) throw new GrantscopeError('invalid_argument', problem);
  await requireSlo(scope, sloId);
  const correction: SloCorrection = {
    correction_id: randomUUID(),
    slo_id: sloId,
    from: new Date(fromMs).toISOString(),
    to: new Date(toMs).toISOString(),
    reason: by.reason,
    approver: by.approver,
    created_at: new Date(by.nowMs).toISOString(),
    withdrawn_at: '',
    withdrawn_by: '',
    withdrawn_reason: '',
  };
  await write(scope, correction, by.nowMs);
  return correction;
}

/** Puts the minutes back. Throws `not_found`, and `invalid_argument` where it was withdrawn before. */
export async function withdrawCorrection(
  scope: Scope,
  which: { readonly sloId: string; readonly correctionId: string },
  by: { readonly withdrawnBy: string; readonly reason: string; readonly nowMs: number },
): Promise<SloCorrection> {
  const all = await listCorrections(scope, which.sloId);
  const found = all.find((c) => c.correction_id === which.correctionId);
  if (found === undefined)
    throw new GrantscopeError('not_found', 'correction_id: no correction has this id');
  if (found.withdrawn_at !== '')
    throw new GrantscopeError('invalid_argument', 'correction_id: it is withdrawn already');
  const withdrawn: SloCorrection = {
    ...found,
    withdrawn_at: new Date(by.nowMs).toISOString(),
    withdrawn_by: by.withdrawnBy,
    withdrawn_reason: by.reason,
  };
  // Later than the request, even in the same millisecond: the newest version counts.
  await write(scope, withdrawn, Math.max(by.nowMs, Date.parse(found.created_at) + 1));
  return withdrawn;
}

function windowProblem(fromMs: number, toMs: number, nowMs: number): string | undefined {
  if (toMs <= fromMs) return 'to: must be after from';
  if (toMs - fromMs > CORRECTION_DAYS_MAX * DAY_MS)
    return `to: at most ${CORRECTION_DAYS_MAX} days after from are allowed`;
  if (fromMs < nowMs - CORRECTION_AGE_DAYS_MAX * DAY_MS)
    return `from: at most ${CORRECTION_AGE_DAYS_MAX} days ago is allowed; older minutes are in no budget`;
  if (fromMs > nowMs + CORRECTION_AGE_DAYS_MAX * DAY_MS)
    return `from: at most ${CORRECTION_AGE_DAYS_MAX} days ahead is allowed`;
  return undefined;
}

async function requireSlo(scope: Scope, sloId: string): Promise<void> {
  if (sloId === ALL_SLOS) return;
  const [row] = await scope.store.query<{ n: number }>(
    sql`SELECT toUInt32(count()) AS n FROM grantscope.slo_states WHERE ${ofTenant(scope)} AND slo_id = ${param.string(sloId)}`,
  );
  if (row === undefined || row.n === 0)
    throw new GrantscopeError(
      'not_found',
      'path.id: no service level with this id has been computed',
    );
}

async function write(scope: Scope, correction: SloCorrection, nowMs: number): Promise<void> {
  const { from, to, ...rest } = correction;
  const { withdrawn_at } = correction;
  await scope.store.insertRows('grantscope.slo_corrections', [
    {
      tenant: scope.tenant,
      ...rest,
      from_time: Math.floor(Date.parse(from) / 1_000),
      to_time: Math.ceil(Date.parse(to) / 1_000),
      created_at: clickHouseMs(Date.parse(correction.created_at)),
      withdrawn_at: clickHouseMs(withdrawn_at === '' ? 0 : Date.parse(withdrawn_at)),
      updated_at: clickHouseMs(nowMs),
    },
  ]);
}
