import type { AuthEvent } from '../../model/auth_event.ts';
import type { CandidateScope } from '../../model/define_detector.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { mentionOf, tokensOf } from './_origin.ts';

/** True for the event in which the token was exchanged for a successor: reuse without rotation is normal. */
export function isRotation(event: AuthEvent, token: string): boolean {
  if (event.kind !== 'token_refreshed' || event.outcome === 'failure') return false;
  if (mentionOf(event, token, ['consumed']) === undefined) return false;
  return tokensOf(event, 'issued', 'refresh').some((t) => t.ref !== token);
}

/** Refresh and access tokens that were issued for this one, at most `max` of them. */
export function successorsOf(events: readonly AuthEvent[], token: string, max: number): string[] {
  const refs = events
    .filter((e) => isRotation(e, token))
    .flatMap((e) => [...tokensOf(e, 'issued', 'refresh'), ...tokensOf(e, 'issued', 'access')])
    .map((t) => t.ref)
    .filter((r) => r !== token);
  return [...new Set(refs)].sort().slice(0, max);
}

/**
 * Candidates among tokens that were presented more than once: those that new rows mention, and those whose successors
 * they mention, since what happens to a successor decides about its parent. `uses` are ledger rows of refresh tokens
 * that count, `repeated` selects the tokens (few, so they come first).
 */
export function rotationCandidates(scope: CandidateScope, uses: Sql, repeated: Sql): Sql {
  const tenant = param.string(scope.tenant);
  const successors = sql`
      SELECT parent, arrayJoin(arrayFilter((r, role) -> role = 'issued', tokens.ref, tokens.role)) AS child
      FROM grantscope.auth_events
      ARRAY JOIN arrayFilter((r, role) -> role = 'consumed', tokens.ref, tokens.role) AS parent
      WHERE tenant = ${tenant} AND kind = 'token_refreshed' AND event_id IN (
        SELECT event_id FROM grantscope.token_events
        WHERE ${uses} AND kind = 'token_refreshed' AND token_ref IN (${repeated}))`;
  return sql`
    SELECT toString(token_ref) AS entity, max(time) AS at FROM grantscope.token_events
    WHERE ${uses} AND token_ref IN (${repeated})
    GROUP BY token_ref HAVING countIf(${scope.condition}) > 0 OR token_ref IN (
      SELECT parent FROM (${successors}) WHERE child IN (
        SELECT token_ref FROM grantscope.token_events
        WHERE tenant = ${tenant} AND token_ref IN (SELECT child FROM (${successors})) AND ${scope.condition}))`;
}
