import type { CandidateScope, HistorySelection } from '../../model/define_detector.ts';
import { NIL_REF } from '../../model/ids.ts';
import type { EventKind, TokenRole, TokenType } from '../../model/kinds.ts';
import { param, sql, type Param, type Sql } from '../../model/sql.ts';

/** The unknown reference in storage. */
export const nilRef = param.uuid(NIL_REF);

/** `kind IN (...)`. */
export function kindIn(kinds: readonly EventKind[]): Sql {
  return sql`kind IN ${param.strings(kinds)}`;
}

/** A UUID whose lower 64 bits are given: ClickHouse orders UUIDs by these first. */
function uuidFrom(low: bigint): Param {
  const hex = low.toString(16).padStart(16, '0');
  return param.uuid(`00000000-0000-0000-${hex.slice(0, 4)}-${hex.slice(4)}`);
}

/** References of the scope's slice: `true` where it has none. On token_ref the table's order spares the rest. */
export function inSlice(scope: CandidateScope, column: Sql): Sql {
  const { slice } = scope;
  if (slice === undefined) return sql`true`;
  const from = sql`${column} >= ${uuidFrom(slice.from)}`;
  return slice.to >= 2n ** 64n ? from : sql`${from} AND ${column} < ${uuidFrom(slice.to)}`;
}

/**
 * Limits ledger rows to tokens that new rows of `uses` mention. A slice is small, and grouping all of it is cheaper than
 * a list of what was touched; the whole ledger would not fit into memory.
 */
export function touchedOutsideSlices(scope: CandidateScope, uses: Sql): Sql {
  if (scope.slice !== undefined) return sql`true`;
  return sql`token_ref IN (SELECT token_ref FROM grantscope.token_events WHERE ${uses} AND ${scope.condition})`;
}

/** A facet of a reference. */
export function refFacet(column: Sql): Sql {
  return sql`if(${column} = ${nilRef}, 0, bitOr(cityHash64(${column}), 1))`;
}

/** A facet of a text; '' is unknown. The lowest bit is set, so that no known value counts as unknown. */
export function textFacet(column: Sql): Sql {
  return sql`if(${column} = '', 0, bitOr(cityHash64(${column}), 1))`;
}

/**
 * What a rotation of keys called these references before. Tokens and families need no such look: while keys
 * change, the ledger has a row under each name.
 */
export function earlierNames(tenant: string, refs: Sql): Sql {
  return sql`SELECT other FROM grantscope.reference_names
    WHERE tenant = ${param.string(tenant)} AND relation = 'previous' AND ref IN (${refs})`;
}

/** What a ledger row must be to count. */
export interface LedgerFilter {
  readonly kinds: readonly EventKind[];
  readonly types: readonly TokenType[];
  readonly roles: readonly TokenRole[];
}

/** `filter` as a condition on token_events. */
export function ledgerCondition(filter: LedgerFilter): Sql {
  return sql`token_type IN ${param.strings(filter.types)} AND token_role IN ${param.strings(filter.roles)}
    AND ${kindIn(filter.kinds)}`;
}

/** History of token entities: all their ledger rows. */
export function tokenHistory(selection: HistorySelection, condition: Sql): Sql {
  return sql`SELECT toString(token_ref) AS entity, event_id, time AS at FROM grantscope.token_events
    WHERE tenant = ${param.string(selection.tenant)} AND token_ref IN ${param.uuids(selection.entities)}
      AND ${condition}`;
}
