import type { CandidateScope, HistorySelection } from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';

const NS_PER_MS = 1_000_000n;
const TIME_MAX = 9_000_000_000_000_000_000n;

/** Whole events, one row per token that they mention: `t_ref`, `t_type`, `t_role`. For rules that need columns that the ledger lacks. */
export const EACH_TOKEN = sql`grantscope.auth_events
  ARRAY JOIN tokens.ref AS t_ref, tokens.type AS t_type, tokens.role AS t_role`;

/** A point of event time, ns. */
export function timeOf(ns: bigint): Sql {
  return sql`fromUnixTimestamp64Nano(${param.int64(ns)}, 'UTC')`;
}

/** The first event time of what is new, less `ms`. */
export function beforeNews(scope: CandidateScope, ms: number): Sql {
  const ns = BigInt(ms) * NS_PER_MS;
  return timeOf(scope.timeFrom > ns ? scope.timeFrom - ns : 0n);
}

/** The last event time of what is new, plus `ms`. */
export function afterNews(scope: CandidateScope, ms: number): Sql {
  return timeOf(scope.timeTo < TIME_MAX ? scope.timeTo + BigInt(ms) * NS_PER_MS : TIME_MAX);
}

/** Event times within `ms` of what is new. */
export function aroundNews(scope: CandidateScope, ms: number): Sql {
  return sql`time >= ${beforeNews(scope, ms)} AND time <= ${afterNews(scope, ms)}`;
}

/**
 * History of token entities out of rows of `EACH_TOKEN` that satisfy `where`: the first `max` per token and value of
 * `by`, so that thousands of calls of one sort don't hide the one of another. The ledger says where to look.
 */
export function tokenRowsHistory(
  selection: HistorySelection,
  rows: {
    readonly kinds: readonly EventKind[];
    readonly where: Sql;
    readonly by: Sql;
    readonly max: number;
  },
): Sql {
  const tenant = param.string(selection.tenant);
  const entities = param.uuids(selection.entities);
  const ledger = sql`FROM grantscope.token_events WHERE tenant = ${tenant} AND token_ref IN ${entities} AND ${kindIn(rows.kinds)}`;
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT toString(t_ref) AS entity, event_id, any(${rows.by}) AS sort, min(time) AS at FROM ${EACH_TOKEN}
      WHERE tenant = ${tenant} AND ${kindIn(rows.kinds)} AND ${rows.where}
        AND time >= (SELECT min(time) ${ledger}) AND time <= (SELECT max(time) ${ledger})
        AND event_id IN (SELECT event_id ${ledger}) AND t_ref IN ${entities}
      GROUP BY t_ref, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(rows.max)} BY entity, sort`;
}
