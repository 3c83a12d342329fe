import { NIL_REF } from '../../model/ids.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { namesOfTenant } from '../reference_names.ts';
import { eventsOf, lineageOf, type LedgerToken, type Lineage } from './investigations.ts';
import { instant, isoTime, ofTenant, type Scope } from './scope.ts';

/** Ways to end what a grant or session allows, other than a revocation that names the token itself. */
export const GRANT_ENDINGS: readonly EventKind[] = [
  'grant_revoked',
  'consent_revoked',
  'session_revoked',
];

/** A token was good enough for a server: it let somebody in, or was exchanged for others. */
export const IS_ACCEPTED = sql`outcome = 'success' AND token_role IN ('presented', 'consumed', 'subject')`;

/** What became of the tokens of an incident. */
export interface TokenFate {
  readonly tokens: readonly LedgerToken[];
  /** True where there are more tokens than a lineage holds. */
  readonly truncated: boolean;
  /** All references of the tokens, also those that a rotation of keys gave them. */
  readonly refs: readonly string[];
  /** Selects the events that mention the tokens. */
  readonly events: Sql;
  /** First revocation of any of them, or of their grant or session, from `since` on; ISO 8601. */
  readonly revokedAt: string | null;
  /** Last time that any of them was accepted after that. */
  readonly acceptedAfter: string | null;
}

/**
 * Follows tokens and the families they belong to from `since` (ISO 8601) up to `until`: when they were revoked, and whether anybody
 * accepted one of them afterwards. All tokens of a family count as one, since a thief who holds one may hold the next
 * (RFC 9700 section 4.14.2).
 */
export async function fateOfTokens(
  scope: Scope,
  tokenRefs: readonly string[],
  since: string,
  until: string,
): Promise<TokenFate> {
  const lineage: Lineage =
    tokenRefs.length === 0
      ? { tokens: [], truncated: false }
      : await lineageOf(scope, 'token', tokenRefs);
  const read = await namesOfTenant(scope.store, scope.tenant);
  const names = await read(lineage.tokens.map((t) => t.ref));
  const refs = lineage.tokens.flatMap((t) => names.namesOf(t.ref));
  const events = await eventsOf(scope, 'token', tokenRefs, lineage);
  const fate = { tokens: lineage.tokens, truncated: lineage.truncated, refs, events };
  if (refs.length === 0) return { ...fate, revokedAt: null, acceptedAfter: null };
  const revokedAt = earlier(
    await tokenTime(scope, refs, sql`min(time)`, [
      sql`token_role = 'revoked'`,
      sql`time >= ${instant(since)} AND time < ${instant(until)}`,
    ]),
    await grantEnding(scope, events, since, until),
  );
  if (revokedAt === null) return { ...fate, revokedAt, acceptedAfter: null };
  const acceptedAfter = await tokenTime(scope, refs, sql`max(time)`, [
    IS_ACCEPTED,
    sql`time > ${instant(revokedAt)} AND time < ${instant(until)}`,
  ]);
  return { ...fate, revokedAt, acceptedAfter };
}

function earlier(a: string | null, b: string | null): string | null {
  if (a === null || b === null) return a ?? b;
  return a < b ? a : b;
}

async function tokenTime(
  scope: Scope,
  refs: readonly string[],
  which: Sql,
  [first, second]: readonly [Sql, Sql],
): Promise<string | null> {
  const [row] = await scope.store.query<{ at: string; n: number }>(
    sql`SELECT toString(${which}) AS at, toUInt32(count() > 0) AS n FROM grantscope.token_events WHERE ${ofTenant(scope)} AND token_ref IN ${param.uuids(refs)} AND ${first} AND ${second}`,
  );
  return row === undefined || row.n === 0 ? null : isoTime(row.at);
}

/** First end of a grant or session that the tokens belong to. */
async function grantEnding(
  scope: Scope,
  events: Sql,
  since: string,
  until: string,
): Promise<string | null> {
  const [own] = await scope.store.query<{ grants: string[]; sessions: string[] }>(
    sql`SELECT groupUniqArray(grant_ref) AS grants, groupUniqArray(session_ref) AS sessions FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND (${events})`,
  );
  const known = (list: readonly string[] = []): readonly string[] =>
    list.filter((ref) => ref !== NIL_REF);
  const grants = param.uuids(known(own?.grants));
  const sessions = param.uuids(known(own?.sessions));
  const [row] = await scope.store.query<{ at: string; n: number }>(
    sql`SELECT toString(min(time)) AS at, toUInt32(count() > 0) AS n FROM grantscope.auth_events WHERE ${ofTenant(scope)} AND kind IN ${param.strings(GRANT_ENDINGS)} AND outcome NOT IN ('failure', 'denied') AND time >= ${instant(since)} AND time < ${instant(until)} AND (grant_ref IN ${grants} OR session_ref IN ${sessions})`,
  );
  return row === undefined || row.n === 0 ? null : isoTime(row.at);
}
