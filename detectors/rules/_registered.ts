import type { CandidateScope, EventFact } from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';

const REGISTRATION_KINDS: readonly EventKind[] = ['client_registered', 'client_updated'];

/** A new registration makes its client's later days candidates. */
export function isRegistration(fact: EventFact): boolean {
  return REGISTRATION_KINDS.some((k) => k === fact.kind);
}

/**
 * Candidates of a rule that judges by the registration: new events that satisfy `suspicious`, and, where a
 * registration itself is new, all of that client's events of these kinds since then.
 */
export function registrationCandidates(
  scope: CandidateScope,
  kinds: readonly EventKind[],
  suspicious: Sql,
  since: Sql,
): Sql {
  const tenant = param.string(scope.tenant);
  return sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(kinds)} AND client_id != '' AND ${scope.condition} AND ${suspicious}
    UNION ALL
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(kinds)} AND client_id != '' AND time >= ${since}
      AND client_id IN (
        SELECT client_id FROM grantscope.auth_events
        WHERE tenant = ${tenant} AND ${kindIn(REGISTRATION_KINDS)} AND ${scope.condition})`;
}
