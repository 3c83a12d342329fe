import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql } from '../../model/sql.ts';
import { earlierNames, inSlice, kindIn, nilRef } from './_ledger.ts';
import { isoTime, known, tokensOf } from './_origin.ts';

const KINDS = ['token_issued', 'token_refreshed', 'consent_granted'] as const;

const Parameters = z.strictObject({
  ignored_scopes: z.array(z.string()).default([]),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

interface Growth {
  readonly event: AuthEvent;
  readonly excess: readonly string[];
}

/** Walks the grant in time: what users granted so far, and refreshes that went beyond it. */
function growths(input: EvaluateInput<Params>): {
  readonly granted: readonly string[];
  readonly origin: AuthEvent | undefined;
  readonly grown: readonly Growth[];
} {
  const granted = new Set<string>();
  let origin: AuthEvent | undefined;
  const grown: Growth[] = [];
  for (const event of input.events) {
    if (event.outcome !== 'success' || input.params.exclude_clients.includes(event.client.id))
      continue;
    if (event.kind === 'token_refreshed') {
      const excess = known(event.scopes_granted).filter(
        (s) => !granted.has(s) && !input.params.ignored_scopes.includes(s),
      );
      // Unknown is not "nothing granted": without the original grant there is nothing to compare with.
      if (origin !== undefined && excess.length > 0) grown.push({ event, excess });
    } else if (event.scopes_granted.length > 0) {
      origin ??= event;
      for (const s of event.scopes_granted) granted.add(s);
    }
  }
  return { granted: known(granted), origin, grown };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { granted, origin, grown } = growths(input);
  const [firstGrowth] = grown;
  if (origin === undefined || firstGrowth === undefined) return [];
  const excess = known(grown.flatMap((g) => g.excess));
  const events = [origin, ...grown.map((g) => g.event)];
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: 'grown_on_refresh',
      severity: 'high',
      confidence: 90,
      summary: `A refresh gave scopes that the original grant did not have: ${excess.slice(0, 5).join(', ')}.`,
      reasons: excess.slice(0, 20).map((s) => `${s} was granted on refresh, but never by the user`),
      evidence: {
        granted_at: isoTime(origin),
        granted_scopes: granted,
        grown_at: isoTime(firstGrowth.event),
        excess_scopes: excess,
        refreshes: grown.length,
      },
      events,
      tokenRefs: known(
        events.flatMap((e) => [
          ...tokensOf(e, 'issued', 'access').map((t) => t.ref),
          ...tokensOf(e, 'issued', 'refresh').map((t) => t.ref),
        ]),
      ),
    },
  ];
}

const GRANT = exampleRef('grant');
const FAMILY = exampleRef('family');
const base = { outcome: 'success', client: { id: 'mobile-app' }, grant_ref: GRANT } as const;
const issue = (t: number, scopes: string[], more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  grant_type: 'authorization_code',
  ...base,
  scopes_granted: scopes,
  tokens: [{ role: 'issued', type: 'refresh', ref: exampleRef('r0'), family_ref: FAMILY }],
  ...more,
});
const refresh = (t: number, scopes: string[], more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_refreshed',
  grant_type: 'refresh_token',
  ...base,
  scopes_granted: scopes,
  tokens: [
    { role: 'consumed', type: 'refresh', ref: exampleRef(`r${t - 1}`), family_ref: FAMILY },
    { role: 'issued', type: 'refresh', ref: exampleRef(`r${t}`), family_ref: FAMILY },
  ],
  ...more,
});
const grew = (entity: string) => ({
  entity,
  episode: LIFETIME_EPISODE,
  verdict: 'grown_on_refresh',
  severity: 'high' as const,
  evidence: {
    granted_at: '2026-01-05T12:00:00.000Z',
    granted_scopes: ['email', 'openid'],
    grown_at: '2026-01-05T12:00:02.000Z',
    excess_scopes: ['admin'],
    refreshes: 1,
  },
});

export default defineDetector<Params>({
  id: 'scope_growth_on_refresh',
  version: 1,
  title: 'Scopes grew on refresh',
  family: 'scope_escalation',
  severity: 'high',
  confidence: 90,
  description:
    'A refresh may keep or narrow what the user granted, never widen it. A wider token means a server that does not compare, or a refresh token used by somebody who asks for more.',
  references: ['RFC 6749 section 6', 'RFC 9700 section 4.14', 'ATT&CK T1098.003'],
  entity: 'grant',
  verdicts: { grown_on_refresh: 'A refresh gave a scope that the grant did not have until then.' },
  evidence: {
    granted_at: 'The first event that granted scopes.',
    granted_scopes: 'All scopes that were granted other than by refresh.',
    grown_at: 'The first refresh that went beyond them.',
    excess_scopes: 'Scopes that only refreshes gave.',
    refreshes: 'Number of such refreshes.',
  },
  needs: ['scopes_granted', 'grant_ref', 'tokens.family_ref', 'outcome'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) => KINDS.some((k) => k === fact.kind) && fact.hasGroup,
  sliced: true,
  watch: () => ({
    by: 'facets',
    stream: {
      concerns: (fact) =>
        KINDS.some((k) => k === fact.kind) && fact.hasGroup && fact.outcome === 'success',
      from: sql`grantscope.auth_events ARRAY JOIN
        if(grant_ref != ${nilRef}, [grant_ref], arrayDistinct(arrayFilter(f -> f != ${nilRef}, tokens.family_ref))) AS group_ref`,
      where: sql`${kindIn(KINDS)} AND outcome = 'success'`,
      key: sql`group_ref`,
      facets: [
        sql`bitOr(cityHash64(arraySort(scopes_granted)), 1)`,
        sql`toUInt64(kind = 'token_refreshed')`,
      ],
    },
    isHot: (seen) => seen.varies(0) && seen.has(1),
  }),
  // The grant names the entity; where a source names none, the rotation family does.
  candidates: (scope) => {
    const tenant = param.string(scope.tenant);
    const grants = sql`SELECT grant_ref FROM grantscope.auth_events
      WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND grant_ref != ${nilRef} AND ${inSlice(scope, sql`grant_ref`)} AND ${scope.condition}`;
    const families = sql`SELECT arrayJoin(tokens.family_ref) FROM grantscope.auth_events
      WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND grant_ref = ${nilRef} AND ${scope.condition}`;
    return sql`
    SELECT toString(ref) AS entity, max(t) AS at FROM (
      SELECT grant_ref AS ref, kind AS k, time AS t, arraySort(scopes_granted) AS scopes FROM grantscope.auth_events
      WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND grant_ref IN (${grants}) AND outcome = 'success'
      UNION ALL
      -- What a grant did under the name that it had before a rotation of keys.
      SELECT names.ref AS ref, kind AS k, time AS t, arraySort(scopes_granted) AS scopes FROM grantscope.auth_events AS events
      INNER JOIN (
        SELECT DISTINCT ref, other FROM grantscope.reference_names
        WHERE tenant = ${tenant} AND relation = 'previous' AND ref IN (${grants})
      ) AS names ON names.other = events.grant_ref
      WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND outcome = 'success'
        AND grant_ref IN (${earlierNames(scope.tenant, grants)})
      UNION ALL
      SELECT family AS ref, kind AS k, time AS t, arraySort(scopes_granted) AS scopes FROM grantscope.auth_events
      ARRAY JOIN tokens.family_ref AS family
      WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND grant_ref = ${nilRef} AND family != ${nilRef}
        AND ${inSlice(scope, sql`family`)} AND family IN (${families}) AND outcome = 'success'
    ) GROUP BY ref
    HAVING countIf(k = 'token_refreshed') > 0 AND min(cityHash64(scopes)) != max(cityHash64(scopes))`;
  },
  history: (selection) => {
    const tenant = param.string(selection.tenant);
    const entities = param.uuids(selection.entities);
    return sql`
    SELECT toString(grant_ref) AS entity, event_id, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND grant_ref IN ${entities}
    UNION ALL
    SELECT toString(family) AS entity, event_id, time AS at FROM grantscope.auth_events
    ARRAY JOIN tokens.family_ref AS family
    WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND grant_ref = ${nilRef} AND family IN ${entities}`;
  },
  evaluate,
  falsePositives: [
    'A server that renames scopes on refresh, or lists defaults only then: ignored_scopes.',
    'Not reported: grants whose first issue was not seen, and scopes that a new consent added.',
  ],
  examples: [
    {
      name: 'fires when a refresh adds a scope',
      events: [
        issue(0, ['openid', 'email']),
        refresh(1, ['openid']),
        refresh(2, ['openid', 'admin']),
      ],
      expect: [grew(GRANT)],
    },
    {
      name: 'fires by the rotation family where no grant is named',
      events: [
        issue(0, ['openid', 'email'], { grant_ref: '' }),
        refresh(2, ['openid', 'admin'], { grant_ref: '' }),
      ],
      expect: [grew(FAMILY)],
    },
    {
      name: 'silent: narrowed, then as wide as granted again',
      events: [
        issue(0, ['openid', 'email']),
        refresh(1, ['openid']),
        refresh(2, ['email', 'openid']),
      ],
      expect: [],
    },
    {
      name: 'silent: the user granted more in between',
      events: [
        issue(0, ['openid']),
        { t: 1, kind: 'consent_granted', ...base, scopes_granted: ['openid', 'admin'] },
        refresh(2, ['openid', 'admin']),
      ],
      expect: [],
    },
    {
      name: 'silent: the original grant was not seen',
      events: [refresh(1, ['openid']), refresh(2, ['openid', 'admin'])],
      expect: [],
    },
    {
      name: 'silent: the wider refresh failed',
      events: [issue(0, ['openid']), refresh(1, ['openid', 'admin'], { outcome: 'failure' })],
      expect: [],
    },
    {
      name: 'fires where a single scope was granted, and tells every refresh that went beyond it',
      parameters: { ignored_scopes: ['basic'], exclude_clients: ['console'] },
      events: [
        issue(0, ['openid']),
        refresh(1, ['openid', 'basic']),
        refresh(2, ['openid', 'admin', 'basic']),
        refresh(3, ['admin']),
      ],
      expect: [
        {
          ...grew(GRANT),
          evidence: { ...grew(GRANT).evidence, granted_scopes: ['openid'], refreshes: 2 },
        },
      ],
    },
    {
      name: 'silent: ignored scopes and excluded clients',
      parameters: { ignored_scopes: ['basic'], exclude_clients: ['console'] },
      events: [
        issue(0, ['openid']),
        refresh(1, ['openid', 'basic']),
        refresh(2, ['openid', 'admin'], { client: { id: 'console' } }),
      ],
      expect: [],
    },
    {
      name: 'silent: the grant does not tell its scopes, or is told for a time after the refresh',
      events: [
        issue(0, []),
        refresh(1, ['openid']),
        refresh(2, ['openid', 'admin']),
        { t: 3, kind: 'consent_granted', ...base, scopes_granted: ['openid'] },
      ],
      expect: [],
    },
  ],
});
