import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { matchesPattern } from './_hosts.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { isoTime, known, mentionOf, tokensOf } from './_origin.ts';

/** What may have issued the token that was exchanged: an exchange too. */
const ISSUES = ['token_issued', 'token_refreshed', 'token_exchanged'] as const;

const Parameters = z.strictObject({
  /** Scopes that never count, for instance those a server adds to every token. */
  ignored_scopes: z.array(z.string()).default([]),
  /**
   * Audiences that tokens may be exchanged for; `*` stands for anything but `/`. Empty: any other audience is what an
   * exchange is for, and only an audience in addition to that of the exchanged token counts.
   */
  allowed_audiences: z.array(z.string().min(1)).default([]),
  /** Clients that exchange tokens. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** What the exchanged token was good for; empty is unknown. */
interface Original {
  readonly scopes: ReadonlySet<string>;
  readonly audience: ReadonlySet<string>;
}

interface Growth {
  readonly event: AuthEvent;
  readonly scopes: readonly string[];
  readonly audience: readonly string[];
}

function audienceBeyond(event: AuthEvent, original: Original, params: Params): string[] {
  if (original.audience.size === 0) return [];
  const added = known(event.audience).filter((a) => !original.audience.has(a));
  if (params.allowed_audiences.length > 0)
    return added.filter((a) => !params.allowed_audiences.some((p) => matchesPattern(a, p)));
  const keeps = event.audience.some((a) => original.audience.has(a));
  return keeps ? added : [];
}

function growthOf(event: AuthEvent, original: Original, params: Params): Growth {
  const beyond = known(event.scopes_granted).filter(
    (s) => !original.scopes.has(s) && !params.ignored_scopes.includes(s),
  );
  // Without the original scopes there is nothing to compare with: unknown is not "none".
  const scopes = original.scopes.size === 0 ? [] : beyond;
  return { event, scopes, audience: audienceBeyond(event, original, params) };
}

function isExchangeOf(event: AuthEvent, entity: string, params: Params): boolean {
  return (
    event.kind === 'token_exchanged' &&
    event.outcome === 'success' &&
    !params.exclude_clients.includes(event.client.id) &&
    mentionOf(event, entity, ['subject']) !== undefined
  );
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { entity, params } = input;
  const issues = input.events.filter(
    (e) => e.outcome === 'success' && mentionOf(e, entity, ['issued']) !== undefined,
  );
  const original: Original = {
    scopes: new Set(issues.flatMap((e) => e.scopes_granted)),
    audience: new Set(issues.flatMap((e) => e.audience)),
  };
  const grown = input.events
    .filter((e) => isExchangeOf(e, entity, params))
    .map((e) => growthOf(e, original, params))
    .filter((g) => g.scopes.length > 0 || g.audience.length > 0);
  const [issue] = issues;
  const [first] = grown;
  if (issue === undefined || first === undefined) return [];
  const scopes = known(grown.flatMap((g) => g.scopes));
  const audience = known(grown.flatMap((g) => g.audience));
  const events = [...issues.slice(0, 10), ...grown.map((g) => g.event)];
  const isScope = scopes.length > 0;
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: isScope ? 'scope_grown' : 'audience_grown',
      severity: 'high',
      confidence: isScope ? 90 : 75,
      summary: isScope
        ? `An exchange gave scopes that the exchanged token did not have: ${scopes.slice(0, 5).join(', ')}.`
        : `An exchange gave a token for more than the exchanged one was good for: ${audience.slice(0, 5).join(', ')}.`,
      reasons: [
        ...scopes.slice(0, 10).map((s) => `${s} was not among the scopes of the exchanged token`),
        ...audience.slice(0, 10).map((a) => `the exchanged token was not meant for ${a}`),
      ],
      evidence: {
        original_scopes: known(original.scopes),
        original_audience: known(original.audience),
        excess_scopes: scopes,
        excess_audience: audience,
        exchanged_by: known(grown.map((g) => g.event.client.id)).slice(0, 20),
        grown_at: isoTime(first.event),
        exchanges: grown.length,
      },
      events,
      tokenRefs: known([
        entity,
        ...grown.flatMap((g) => tokensOf(g.event, 'issued', 'access').map((t) => t.ref)),
      ]),
    },
  ];
}

const MENTIONS = sql`grantscope.auth_events ARRAY JOIN tokens.ref AS ref, tokens.role AS role`;

/**
 * Tokens newly exchanged; and tokens whose issue is told after their exchange. An exchange follows the issue, so only
 * exchanges since the earliest new event matter, and where there are none the second part reads next to nothing.
 */
function candidates(scope: CandidateScope): Sql {
  const tenant = param.string(scope.tenant);
  const since = sql`fromUnixTimestamp64Nano(${param.int64(scope.timeFrom)}, 'UTC')`;
  return sql`
    SELECT toString(ref) AS entity, time AS at FROM ${MENTIONS}
    WHERE tenant = ${tenant} AND kind = 'token_exchanged' AND outcome = 'success' AND role = 'subject'
      AND ref != ${nilRef} AND ${scope.condition}
    UNION ALL
    SELECT toString(ref) AS entity, time AS at FROM ${MENTIONS}
    WHERE tenant = ${tenant} AND ${kindIn(ISSUES)} AND outcome = 'success' AND role = 'issued'
      AND ${scope.condition} AND ref IN (
        SELECT ref FROM ${MENTIONS}
        WHERE tenant = ${tenant} AND kind = 'token_exchanged' AND outcome = 'success' AND role = 'subject'
          AND ref != ${nilRef} AND time >= ${since})`;
}

function history(selection: HistorySelection): Sql {
  return sql`
    SELECT toString(token_ref) AS entity, event_id, time AS at FROM grantscope.token_events
    WHERE tenant = ${param.string(selection.tenant)} AND token_ref IN ${param.uuids(selection.entities)}
      AND outcome = 'success' AND (
        (token_role = 'issued' AND ${kindIn(ISSUES)}) OR (token_role = 'subject' AND kind = 'token_exchanged'))`;
}

const SUBJECT = exampleRef('subject token');
const issue = (t: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'authorization_code',
  client: { id: 'web-shop' },
  scopes_granted: ['openid', 'orders:read'],
  audience: ['https://orders.example'],
  tokens: [{ role: 'issued', type: 'access', ref: SUBJECT }],
  ...more,
});
const exchange = (
  t: number,
  scopes: string[],
  audience: string[],
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: 'token_exchanged',
  outcome: 'success',
  client: { id: 'orders-api' },
  scopes_granted: scopes,
  audience,
  tokens: [
    { role: 'subject', type: 'access', ref: SUBJECT },
    { role: 'issued', type: 'access', ref: exampleRef(`exchanged at ${t}`) },
  ],
  ...more,
});
const grew = (
  t: number,
  scopes: string[],
  audience: string[],
  more: Readonly<Record<string, unknown>> = {},
) => ({
  entity: SUBJECT,
  episode: LIFETIME_EPISODE,
  verdict: scopes.length > 0 ? 'scope_grown' : 'audience_grown',
  severity: 'high' as const,
  evidence: {
    original_scopes: ['openid', 'orders:read'],
    original_audience: ['https://orders.example'],
    excess_scopes: scopes,
    excess_audience: audience,
    exchanged_by: ['orders-api'],
    grown_at: new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString(),
    exchanges: 1,
    ...more,
  },
});

export default defineDetector<Params>({
  id: 'scope_growth_on_exchange',
  version: 1,
  title: 'Rights grew in a token exchange',
  family: 'scope_escalation',
  severity: 'high',
  confidence: 90,
  description:
    'An exchange turns one token into another for a further service. The new token may do less than the one it was made of, never more: otherwise a service that was handed a narrow token makes itself a wide one.',
  references: [
    'RFC 8693 section 2.1',
    'RFC 8693 section 5',
    'RFC 9700 section 2.3',
    'ATT&CK T1098.003',
    'ATT&CK T1550.001',
  ],
  entity: 'token',
  verdicts: {
    scope_grown: 'The new token has a scope that the exchanged one did not have.',
    audience_grown:
      'The new token is good for the audience of the exchanged one and for another, or for one outside allowed_audiences.',
  },
  evidence: {
    original_scopes: 'Scopes of the exchanged token, as issued.',
    original_audience: 'Audience of the exchanged token, as issued.',
    excess_scopes: 'Scopes that only exchanges gave.',
    excess_audience: 'Audiences that only exchanges gave, and that count.',
    exchanged_by: 'Clients that made these exchanges (at most 20).',
    grown_at: 'The first such exchange.',
    exchanges: 'Number of such exchanges.',
  },
  needs: ['scopes_granted', 'audience', 'tokens.ref', 'tokens.role', 'outcome'],
  kinds: ISSUES,
  episodes: 'lifetime',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) =>
    ISSUES.some((k) => k === fact.kind) &&
    fact.outcome === 'success' &&
    fact.roles.some((r) => r === 'subject' || r === 'issued'),
  trigger: () => ({
    condition: sql`kind = 'token_exchanged' AND outcome = 'success' AND has(tokens.role, 'subject')`,
    reachMs: 0,
  }),
  candidates,
  history,
  evaluate,
  falsePositives: [
    'A server that adds standing scopes to every token: ignored_scopes.',
    'Not reported: a token moved to another audience, which is what an exchange is for, unless allowed_audiences says which ones are meant; exchanged tokens whose issue was not seen, or that came from another issuer.',
  ],
  examples: [
    {
      name: 'fires when an exchange adds a scope; the issue is told last',
      events: [
        exchange(10, ['orders:read'], ['https://stock.example']),
        exchange(20, ['orders:read', 'stock:write'], ['https://stock.example']),
        issue(0),
      ],
      expect: [grew(20, ['stock:write'], [])],
    },
    {
      name: 'fires when an exchange keeps the audience and adds one',
      events: [
        issue(0),
        exchange(5, ['orders:read'], ['https://orders.example', 'https://pay.example']),
      ],
      expect: [grew(5, [], ['https://pay.example'])],
    },
    {
      name: 'fires on an audience outside those stated, silent on one of them',
      parameters: { allowed_audiences: ['https://*.internal.example'] },
      events: [
        issue(0),
        exchange(5, [], ['https://stock.internal.example']),
        exchange(6, [], ['https://pay.example'], { client: { id: 'stock-api' } }),
      ],
      expect: [grew(6, [], ['https://pay.example'], { exchanged_by: ['stock-api'] })],
    },
    {
      name: 'both grow in a chain of exchanges: each link is judged by the one before',
      events: [
        issue(0, { tokens: [{ role: 'issued', type: 'access', ref: exampleRef('root') }] }),
        exchange(1, ['openid', 'orders:read'], ['https://orders.example'], {
          tokens: [
            { role: 'subject', type: 'access', ref: exampleRef('root') },
            { role: 'issued', type: 'access', ref: SUBJECT },
          ],
        }),
        exchange(2, ['admin'], ['https://orders.example', 'https://pay.example']),
        exchange(3, ['admin', 'openid'], []),
      ],
      expect: [grew(2, ['admin'], ['https://pay.example'], { exchanges: 2 })],
    },
    {
      name: 'silent: narrowed, and moved to another audience',
      events: [
        issue(0),
        exchange(1, ['orders:read'], ['https://stock.example']),
        exchange(2, ['openid', 'orders:read'], ['https://orders.example']),
      ],
      expect: [],
    },
    {
      name: 'silent: the issue was not seen, or its scopes and audience are unknown',
      events: [
        exchange(1, ['admin'], ['https://pay.example']),
        issue(0, {
          scopes_granted: [],
          audience: [],
          tokens: [{ role: 'issued', type: 'access', ref: exampleRef('bare') }],
        }),
        exchange(2, ['admin'], ['https://pay.example'], {
          tokens: [{ role: 'subject', type: 'access', ref: exampleRef('bare') }],
        }),
      ],
      expect: [],
    },
    {
      name: 'silent: the exchange was refused',
      events: [issue(0), exchange(1, ['admin'], [], { outcome: 'failure' })],
      expect: [],
    },
    {
      name: 'silent: ignored scopes and excluded clients',
      parameters: { ignored_scopes: ['basic'], exclude_clients: ['broker'] },
      events: [
        issue(0),
        exchange(1, ['orders:read', 'basic'], []),
        exchange(2, ['admin'], [], { client: { id: 'broker' } }),
      ],
      expect: [],
    },
    {
      name: 'fires where the exchanged token came of a refresh',
      events: [
        issue(0, { kind: 'token_refreshed', grant_type: 'refresh_token' }),
        exchange(5, ['admin'], []),
      ],
      expect: [grew(5, ['admin'], [])],
    },
    {
      name: 'silent: one of several audiences that are stated, or those of the exchanged token are unknown',
      parameters: { allowed_audiences: ['https://*.internal.example', 'https://pay.example'] },
      events: [
        issue(0),
        exchange(5, [], ['https://pay.example']),
        issue(0, {
          audience: [],
          tokens: [{ role: 'issued', type: 'access', ref: exampleRef('for anybody') }],
        }),
        exchange(6, [], ['https://bank.example'], {
          tokens: [{ role: 'subject', type: 'access', ref: exampleRef('for anybody') }],
        }),
      ],
      expect: [],
    },
  ],
});
