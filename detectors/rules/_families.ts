import type { AuthEvent } from '../../model/auth_event.ts';
import type { CandidateScope, EventFact, HistorySelection } from '../../model/define_detector.ts';
import { mentions } from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, ledgerCondition, nilRef } from './_ledger.ts';
import { timeMs } from './_origin.ts';
import { EACH_TOKEN } from './_token_rows.ts';

/** Events that hand a rotation family on: its first refresh token, and each use of one. */
export const FAMILY_KINDS: readonly EventKind[] = ['token_issued', 'token_refreshed'];
const ROLES = ['issued', 'consumed', 'presented'] as const;

/** Ledger rows of refresh tokens that were issued or used. */
const FAMILY_ROWS = sql`${ledgerCondition({ kinds: FAMILY_KINDS, types: ['refresh'], roles: ROLES })} AND outcome = 'success'`;

/** What a family is followed by: a text column of the ledger, over the rows that tell it. */
export interface FamilyAxis {
  readonly value: Sql;
  readonly where: Sql;
}

/** Whether new events like these may be part of a family. */
export function concernsFamilies(fact: EventFact): boolean {
  return (
    FAMILY_KINDS.some((k) => k === fact.kind) &&
    fact.outcome === 'success' &&
    mentions(fact, ROLES, ['refresh'])
  );
}

/**
 * Families in which a value changed at what is new. A refresh token is told where it is issued and where it is used, so
 * its own rows show every change along the chain; whatever adds a value to a family is next to such a change. `telling`
 * is what new events must satisfy to add anything, on columns of auth_events.
 */
export function changedFamilies(
  scope: CandidateScope,
  axes: readonly FamilyAxis[],
  telling: Sql,
): Sql {
  const tenant = param.string(scope.tenant);
  const changed = axes
    .map(({ value, where }) => sql`minIf(${value}, ${where}) != maxIf(${value}, ${where})`)
    .reduce((a, b) => sql`${a} OR ${b}`);
  return sql`
    SELECT toString(family) AS entity, at FROM (
      SELECT token_ref, anyIf(family_ref, family_ref != ${nilRef}) AS family, max(time) AS at
      FROM grantscope.token_events
      WHERE tenant = ${tenant} AND ${FAMILY_ROWS} AND token_ref IN (
        SELECT t_ref FROM ${EACH_TOKEN}
        WHERE tenant = ${tenant} AND ${kindIn(FAMILY_KINDS)} AND t_type = 'refresh' AND ${telling} AND ${scope.condition})
      GROUP BY token_ref HAVING ${changed}
    ) WHERE family != ${nilRef}`;
}

/** Ledger rows of families, found by their tokens. */
export function familyRows(selection: HistorySelection): Sql {
  const tenant = param.string(selection.tenant);
  const families = param.uuids(selection.entities);
  return sql`tenant = ${tenant} AND ${FAMILY_ROWS} AND family_ref IN ${families} AND token_ref IN (
    SELECT token_ref FROM grantscope.token_links WHERE tenant = ${tenant} AND anchor_ref IN ${families})`;
}

/**
 * First and last event of each run of one value: all that distinct values over sliding windows depend on, and few
 * even in a family that is refreshed every minute for a month.
 */
export function runsOfFamilies(selection: HistorySelection, axis: FamilyAxis): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, at, value, lagInFrame(value, 1, '\n') OVER run AS before,
        leadInFrame(value, 1, '\n') OVER run AS after
      FROM (
        SELECT toString(family_ref) AS entity, event_id, any(time) AS at, any(${axis.value}) AS value
        FROM grantscope.token_events WHERE ${familyRows(selection)} AND ${axis.where}
        GROUP BY family_ref, event_id
      ) WINDOW run AS (PARTITION BY entity ORDER BY at, toString(event_id) ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ) WHERE value != before OR value != after`;
}

/** The window in which most values were seen. */
export interface BusiestWindow {
  /** In order of their last event in the window. */
  readonly values: readonly string[];
  /** The last event of each value, in order. */
  readonly events: readonly AuthEvent[];
}

/**
 * The first window of at most `windowMs` that ends at an event and has the most distinct values; events without a
 * value don't count. Events come sorted by time.
 */
export function busiestWindow(
  events: readonly AuthEvent[],
  valueOf: (event: AuthEvent) => string,
  windowMs: number,
): BusiestWindow {
  const told = events.filter((e) => valueOf(e) !== '');
  let best: BusiestWindow = { values: [], events: [] };
  const last = new Map<string, AuthEvent>();
  for (const event of told) {
    const value = valueOf(event);
    // Put at the end, so that the map stays in order of last events.
    last.delete(value);
    last.set(value, event);
    for (const [old, seen] of last) {
      if (timeMs(event) - timeMs(seen) <= windowMs) break;
      last.delete(old);
    }
    if (last.size > best.values.length)
      best = { values: [...last.keys()], events: [...last.values()] };
  }
  return best;
}
