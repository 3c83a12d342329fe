import { PRIVILEGED_SCOPES, privilegedTest } from '../../detectors/rules/_privileged.ts';
import type { MonthlyContent } from '../../model/report.ts';
import { lastUses, scopeGrants, type ScopeGrant, type Span } from '../../store/queries/reports.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { changeOf, iso } from './figures.ts';

const SCOPES_LISTED_MAX = 100;

/** What is known of a registered client; undefined where nobody stated it. */
export interface Registration {
  readonly client_id: string;
  readonly scopes?: readonly string[] | undefined;
  readonly has_secret?: boolean | undefined;
}

/** Which scopes are used by whom, and what clients hold without using it. */
export async function monthlyContent(
  scope: Scope,
  input: {
    readonly span: Span;
    readonly before: Span;
    readonly registrations: readonly Registration[] | undefined;
  },
): Promise<MonthlyContent> {
  const { span, before } = input;
  const grants = await scopeGrants(scope, span, before);
  const registrations = input.registrations ?? [];
  const last = await lastUses(
    scope,
    registrations.map((r) => r.client_id),
    span.toMs,
  );
  const from = iso(span.fromMs);
  const isUsed = (r: Registration): boolean => (last.get(r.client_id) ?? '') >= from;
  const all = scopeUse(grants);
  return {
    kind: 'monthly',
    scopes: all.slice(0, SCOPES_LISTED_MAX),
    scopes_not_listed: Math.max(0, all.length - SCOPES_LISTED_MAX),
    registrations_known: input.registrations !== undefined,
    stale_clients: registrations
      .filter((r) => !isUsed(r))
      .map((r) => ({
        client_id: r.client_id,
        last_used: last.get(r.client_id) ?? null,
        has_secret: r.has_secret ?? null,
        scopes: r.scopes === undefined ? null : [...r.scopes],
      })),
    unused_scopes: registrations.filter(isUsed).flatMap((r) => unusedScopes(r, grants)),
    privileged_grants: privilegedGrants(grants),
  };
}

function scopeUse(grants: readonly ScopeGrant[]): MonthlyContent['scopes'] {
  return [...new Set(grants.map((g) => g.scope))]
    .map((scope) => {
      const own = grants.filter((g) => g.scope === scope);
      const total = (of: (g: ScopeGrant) => number): number => own.reduce((t, g) => t + of(g), 0);
      return {
        scope,
        ...changeOf(
          total((g) => g.current),
          total((g) => g.previous),
        ),
        clients: own.filter((g) => g.current > 0).length,
      };
    })
    .sort((a, b) => b.current - a.current || (a.scope < b.scope ? -1 : 1));
}

function unusedScopes(
  registration: Registration,
  grants: readonly ScopeGrant[],
): MonthlyContent['unused_scopes'] {
  const { client_id, scopes } = registration;
  if (scopes === undefined) return [];
  const used = new Set(
    grants.filter((g) => g.clientId === client_id && g.current > 0).map((g) => g.scope),
  );
  const unused = scopes.filter((s) => !used.has(s));
  if (unused.length === 0) return [];
  const isPrivileged = privilegedTest(PRIVILEGED_SCOPES);
  return [
    {
      client_id,
      registered: scopes.length,
      used: scopes.length - unused.length,
      unused,
      unused_privileged: unused.filter(isPrivileged),
    },
  ];
}

function privilegedGrants(grants: readonly ScopeGrant[]): MonthlyContent['privileged_grants'] {
  const isPrivileged = privilegedTest(PRIVILEGED_SCOPES);
  return grants
    .filter((g) => g.current > 0 && isPrivileged(g.scope))
    .map((g) => ({
      client_id: g.clientId,
      scope: g.scope,
      grants: g.current,
      subjects: g.subjects,
      first: g.first,
      last: g.last,
      is_new: g.previous === 0,
    }))
    .sort((a, b) => b.grants - a.grants);
}
