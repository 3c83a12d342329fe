import type { CandidateScope, HistorySelection } from '../../model/define_detector.ts';
import { NIL_REF } from '../../model/ids.ts';
import type { EventKind, TokenRole, TokenType } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';

/** The unknown reference in storage. */
export const nilRef = param.uuid(NIL_REF);

/** `kind IN (...)`. */
export function kindIn(kinds: readonly EventKind[]): Sql {
  return sql`kind IN ${param.strings(kinds)}`;
}

/** Tokens of these types that new rows mention, in any role: one column, token_ref. */
export function touchedTokens(scope: CandidateScope, types: readonly TokenType[]): Sql {
  return sql`SELECT DISTINCT token_ref FROM grantscope.token_events
    WHERE tenant = ${param.string(scope.tenant)} AND token_type IN ${param.strings(types)}
      AND token_ref != ${nilRef} AND ${scope.condition}`;
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
