import type { CandidateScope, Trigger } from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';
import { DAY_MS, timeSql } from './_windows.ts';

/**
 * Scopes that let their holder administer: the words that most servers use, and those of some well-known APIs.
 * `*` stands for any run of characters; case does not count.
 */
export const PRIVILEGED_SCOPES: readonly string[] = [
  ...[
    'admin',
    'admin:*',
    'admin.*',
    'admin_*',
    '*:admin',
    '*.admin',
    '*/admin',
    '*_admin',
    '*:admin:*',
  ],
  ...[
    'root',
    'superuser',
    'sudo',
    'full',
    'full_access*',
    '*:manage',
    '*.manage',
    'manage:*',
    'manage-*',
  ],
  ...['impersonate', '*:impersonate', 'impersonation', '*:write_all', '*:delete_all'],
  // Microsoft Graph, Google, GitHub, GitLab, Auth0.
  ...['*.ReadWrite.All', '*.FullControl.All', 'RoleManagement.*', 'Directory.AccessAsUser.All'],
  ...['https://www.googleapis.com/auth/admin.*', 'https://www.googleapis.com/auth/cloud-platform'],
  ...[
    'delete_repo',
    'site_admin',
    'create:client_grants',
    'update:client_keys',
    'read:client_keys',
  ],
];

/** A regular expression, for JavaScript and for RE2, that matches what one of the patterns matches. */
function expressionOf(patterns: readonly string[]): string {
  const alternatives = patterns.map((p) =>
    p
      .split('*')
      .map((part) => part.replace(/[.+?^${}()|[\]\\/]/g, '\\$&'))
      .join('.*'),
  );
  return `^(?:${alternatives.join('|')})$`;
}

/** Tells whether a scope is privileged; with no patterns, none is. */
export function privilegedTest(patterns: readonly string[]): (scope: string) => boolean {
  if (patterns.length === 0) return () => false;
  const expression = new RegExp(expressionOf(patterns), 'is');
  return (scope) => expression.test(scope);
}

/** Rows of auth_events that grant a privileged scope, by the same patterns. */
export function grantsPrivileged(patterns: readonly string[]): Sql {
  if (patterns.length === 0) return sql`false`;
  return sql`arrayExists(s -> match(s, ${param.string(`(?is)${expressionOf(patterns)}`)}), scopes_granted)`;
}

/** The privileged ones among the scopes that a row of auth_events grants, each once. */
export function privilegedPart(patterns: readonly string[]): Sql {
  if (patterns.length === 0) return sql`CAST([], 'Array(String)')`;
  return sql`arrayDistinct(arrayFilter(s -> match(s, ${param.string(`(?is)${expressionOf(patterns)}`)}), arrayMap(x -> toString(x), scopes_granted)))`;
}

/**
 * What rules about privileged grants cannot do without: such a grant, at the time of what is new or later. With none among
 * or after the new events, no client becomes a candidate.
 */
export function privilegedTrigger(
  kinds: readonly EventKind[],
  patterns: readonly string[],
): Trigger {
  return {
    condition: sql`${kindIn(kinds)} AND outcome = 'success' AND ${grantsPrivileged(patterns)}`,
    reachMs: 0,
  };
}

/**
 * Candidates: clients with new grants of privileged scopes; and later such grants, up to `days`, of clients about whose past
 * something is new, since what is told late may explain them or make them strange.
 */
export function privilegedCandidates(
  scope: CandidateScope,
  rule: {
    readonly kinds: readonly EventKind[];
    readonly patterns: readonly string[];
    readonly days: number;
  },
): Sql {
  const until = scope.timeTo + BigInt(rule.days * DAY_MS) * 1_000_000n;
  const grants = sql`tenant = ${param.string(scope.tenant)} AND ${kindIn(rule.kinds)} AND outcome = 'success'`;
  return sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE ${grants} AND client_id != '' AND time >= ${timeSql(scope.timeFrom)} AND time <= ${timeSql(until)}
      AND client_id IN (SELECT client_id FROM grantscope.auth_events WHERE ${grants} AND ${scope.condition})
      AND ${grantsPrivileged(rule.patterns)}`;
}
