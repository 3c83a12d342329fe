import { randomUUID } from 'node:crypto';
import {
  silenceProblem,
  silenceState,
  type Silence,
  type SilenceMatcher,
  type SilenceRequest,
  type SilenceState,
  type SilenceStatus,
  type TrackedSilence,
} from '../../model/silence.ts';
import { clickHouseMs, param, sql, type Sql } from '../../model/sql.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** Silences that may be in force or ahead at a time. */
export const SILENCES_LIVE_MAX = 200;
/** Silences that a list shows. */
export const SILENCES_LISTED_MAX = 500;

/** States in which a silence counts against `SILENCES_LIVE_MAX`. */
const LIVE: readonly SilenceState[] = ['pending', 'scheduled', 'active'];

/** Silences, those that are live first, then by creation, newest first; at most `SILENCES_LISTED_MAX`. */
export async function listSilences(
  scope: Scope,
  nowMs: number,
): Promise<readonly TrackedSilence[]> {
  const all = await read(scope, sql`true`);
  const rank = (s: TrackedSilence): number => (LIVE.includes(silenceState(s, nowMs)) ? 0 : 1);
  return [...all].sort((a, b) => rank(a) - rank(b));
}

export async function getSilence(scope: Scope, id: string): Promise<TrackedSilence | undefined> {
  const [found] = await read(scope, sql`silence_id = ${param.uuid(id)}`);
  return found;
}

/** Silences that Alertmanager must have, or must be rid of: not over, and not known to be withdrawn there. */
export async function liveSilences(
  scope: Scope,
  nowMs: number,
): Promise<readonly TrackedSilence[]> {
  const found = await read(scope, sql`ends_at > ${param.timeMs(nowMs)}`);
  return found.filter((s) => s.withdrawn_at === '' || s.status !== 'withdrawn');
}

/** Asks for a silence. Throws `invalid_argument` where it may not be or where `SILENCES_LIVE_MAX` are live. */
export async function addSilence(
  scope: Scope,
  request: SilenceRequest,
  by: { readonly createdBy: string; readonly nowMs: number },
): Promise<TrackedSilence> {
  const { nowMs } = by;
  const problem = silenceProblem(request, nowMs);
  if (problem !== undefined) throw new GrantscopeError('invalid_argument', problem);
  const live = (await listSilences(scope, nowMs)).filter((s) =>
    LIVE.includes(silenceState(s, nowMs)),
  );
  if (live.length >= SILENCES_LIVE_MAX)
    throw new GrantscopeError(
      'invalid_argument',
      `silences: ${SILENCES_LIVE_MAX} are live already; withdraw one first`,
    );
  const silence: Silence = {
    silence_id: randomUUID(),
    matchers: request.matchers,
    starts_at: new Date(request.starts_at ?? nowMs).toISOString(),
    ends_at: new Date(request.ends_at).toISOString(),
    created_by: by.createdBy,
    created_at: new Date(nowMs).toISOString(),
    reason: request.reason,
    withdrawn_at: '',
    withdrawn_by: '',
    withdrawn_reason: '',
  };
  await write(scope, silence, nowMs);
  return { ...silence, status: undefined, alertmanager_id: '', error: '', mutes: [] };
}

/** Ends a silence early. Throws `not_found`, and `invalid_argument` where it is over. */
export async function withdrawSilence(
  scope: Scope,
  id: string,
  by: { readonly withdrawnBy: string; readonly reason: string; readonly nowMs: number },
): Promise<TrackedSilence> {
  const found = await getSilence(scope, id);
  if (found === undefined)
    throw new GrantscopeError('not_found', 'silence_id: no silence has this id');
  const state = silenceState(found, by.nowMs);
  if (state === 'withdrawn' || state === 'expired')
    throw new GrantscopeError('invalid_argument', `silence_id: it is ${state} already`);
  const { status, alertmanager_id, error, mutes, ...stored } = found;
  const withdrawn: Silence = {
    ...stored,
    withdrawn_at: new Date(by.nowMs).toISOString(),
    withdrawn_by: by.withdrawnBy,
    withdrawn_reason: by.reason,
  };
  await write(scope, withdrawn, by.nowMs);
  return { ...withdrawn, status, alertmanager_id, error, mutes };
}

/** What Alertmanager made of a silence. */
export interface SilenceReport {
  readonly silence_id: string;
  readonly status: SilenceStatus;
  readonly alertmanager_id: string;
  readonly error: string;
  readonly mutes: TrackedSilence['mutes'];
}

export async function writeSilenceReports(
  scope: Scope,
  reports: readonly SilenceReport[],
  nowMs: number,
): Promise<void> {
  await scope.store.insertRows(
    'grantscope.silence_states',
    reports.map((r) => ({
      tenant: scope.tenant,
      ...r,
      mutes: r.mutes.map((labels) => JSON.stringify(labels)),
      checked_at: clickHouseMs(nowMs),
      version: nowMs,
    })),
  );
}

interface SilenceRow {
  readonly silence_id: string;
  readonly matchers: string;
  readonly starts_at: string;
  readonly ends_at: string;
  readonly created_by: string;
  readonly created_at: string;
  readonly reason: string;
  readonly withdrawn_at: string;
  readonly withdrawn_by: string;
  readonly withdrawn_reason: string;
  readonly status: SilenceStatus | '';
  readonly alertmanager_id: string;
  readonly error: string;
  readonly mutes: string[];
}

async function read(scope: Scope, where: Sql): Promise<readonly TrackedSilence[]> {
  const rows = await scope.store.query<SilenceRow>(sql`
    SELECT s.* EXCEPT (tenant, version), toString(r.status) AS status, r.alertmanager_id AS alertmanager_id, r.error AS error, r.mutes AS mutes
    FROM (SELECT * FROM grantscope.silences FINAL WHERE ${ofTenant(scope)} AND ${where}) AS s
    LEFT JOIN (SELECT silence_id, status, alertmanager_id, error, mutes FROM grantscope.silence_states FINAL WHERE ${ofTenant(scope)}) AS r ON r.silence_id = s.silence_id
    ORDER BY s.created_at DESC, s.silence_id LIMIT ${param.uint(SILENCES_LISTED_MAX)}`);
  return rows.map((row) => ({
    ...row,
    matchers: JSON.parse(row.matchers) as SilenceMatcher[],
    starts_at: isoTime(row.starts_at),
    ends_at: isoTime(row.ends_at),
    created_at: isoTime(row.created_at),
    withdrawn_at: row.withdrawn_at.startsWith('1970-') ? '' : isoTime(row.withdrawn_at),
    status: row.status === '' ? undefined : row.status,
    mutes: row.mutes.map((labels) => JSON.parse(labels) as Record<string, string>),
  }));
}

async function write(scope: Scope, silence: Silence, nowMs: number): Promise<void> {
  const time = (iso: string): string => clickHouseMs(iso === '' ? 0 : Date.parse(iso));
  await scope.store.insertRows('grantscope.silences', [
    {
      tenant: scope.tenant,
      ...silence,
      matchers: JSON.stringify(silence.matchers),
      starts_at: time(silence.starts_at),
      ends_at: time(silence.ends_at),
      created_at: time(silence.created_at),
      withdrawn_at: time(silence.withdrawn_at),
      // A withdrawal in the millisecond of the request still is the later one.
      version: nowMs * 2 + (silence.withdrawn_at === '' ? 0 : 1),
    },
  ]);
}
