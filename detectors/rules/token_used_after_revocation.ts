import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  mentions,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type FollowRefs,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { inSlice, kindIn, ledgerCondition, nilRef, refFacet } from './_ledger.ts';
import { isoTime, known, mentionOf, timeMs } from './_origin.ts';

const ACCEPTING: readonly EventKind[] = ['token_validated', 'api_accessed', 'userinfo_accessed'];
const ISSUING: readonly EventKind[] = ['token_issued', 'token_refreshed', 'token_exchanged'];
const REVOKING: readonly EventKind[] = ['token_revoked', 'grant_revoked'];
const KINDS = [...ACCEPTING, ...ISSUING, ...REVOKING];
/** Ledger rows kept per token and role; the latest uses are what tells. */
const ROWS_PER_ROLE_MAX = 200;

const Parameters = z.strictObject({
  /** How long a resource server may rely on an earlier validation, ms. */
  cache_ttl_ms: z.int().min(0).max(3_600_000).default(60_000),
  /** Difference of clocks between servers that is tolerated, ms. */
  skew_ms: z.int().min(0).max(600_000).default(10_000),
  /** Longest life of an access token, ms: how far back the issue of a touched token is searched by its grant. */
  token_life_ms_max: z.int().min(60_000).max(2_592_000_000).default(86_400_000),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

function issueOf(input: Pick<EvaluateInput<Params>, 'entity' | 'events'>): AuthEvent | undefined {
  return input.events.find((e) => mentionOf(e, input.entity, ['issued']) !== undefined);
}

function familiesOf(input: EvaluateInput<Params>): string[] {
  return known(
    input.events.flatMap((e) =>
      e.tokens.filter((t) => t.ref === input.entity).map((t) => t.family_ref),
    ),
  );
}

function follow(input: EvaluateInput<Params>): FollowRefs {
  const grant = issueOf(input)?.grant_ref ?? '';
  return { families: familiesOf(input), ...(grant === '' ? {} : { grants: [grant] }) };
}

/** True where the event ends the token itself or the grant that it came from. */
function isRevocation(event: AuthEvent, input: EvaluateInput<Params>): boolean {
  if (event.outcome !== 'success' && event.outcome !== 'unknown') return false;
  if (mentionOf(event, input.entity, ['revoked']) !== undefined) return true;
  if (event.kind !== 'grant_revoked') return false;
  const issued = issueOf(input);
  // A token that was issued later, after a new consent, was not part of what was revoked.
  if (issued === undefined || issued.time > event.time) return false;
  const families = familiesOf(input);
  const isSameGrant = issued.grant_ref !== '' && issued.grant_ref === event.grant_ref;
  return isSameGrant || event.tokens.some((t) => families.includes(t.family_ref));
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { entity, events, params } = input;
  const revocation = events.find((e) => isRevocation(e, input));
  if (revocation === undefined) return [];
  const allowedMs = params.cache_ttl_ms + params.skew_ms;
  const late = events.filter(
    (e) =>
      ACCEPTING.includes(e.kind) &&
      e.outcome === 'success' &&
      mentionOf(e, entity, ['presented']) !== undefined &&
      timeMs(e) - timeMs(revocation) > allowedMs &&
      !params.exclude_clients.includes(e.client.id),
  );
  const [firstLate] = late;
  const lastLate = late.at(-1);
  if (firstLate === undefined || lastLate === undefined) return [];
  const seconds = (timeMs(lastLate) - timeMs(revocation)) / 1_000;
  const servers = known(late.map((e) => e.source.instance || e.source.id));
  const isDirect = mentionOf(revocation, entity, ['revoked']) !== undefined;
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: 'accepted_after_revocation',
      severity: 'high',
      confidence: 85,
      summary: `An access token was still accepted ${seconds.toFixed(0)} s after its revocation.`,
      reasons: [
        isDirect ? 'the token itself was revoked' : 'the grant of the token was revoked',
        `${allowedMs / 1_000} s are allowed for caches and clocks`,
        ...servers.slice(0, 10).map((s) => `accepted by ${s}`),
      ],
      evidence: {
        revoked_at: isoTime(revocation),
        revoked_by: revocation.kind,
        first_accepted_at: isoTime(firstLate),
        last_accepted_at: isoTime(lastLate),
        seconds_after: seconds,
        acceptances: late.length,
        servers,
        networks: known(late.map((e) => e.net.network)),
        routes: known(late.map((e) => e.http.route)).slice(0, 20),
      },
      events: [revocation, ...late],
      tokenRefs: [entity],
    },
  ];
}

const TOKEN = exampleRef('access token');
const GRANT = exampleRef('grant');
const FAMILY = exampleRef('family');
const issued: ExampleEvent = {
  t: -300,
  kind: 'token_issued',
  outcome: 'success',
  client: { id: 'web-shop' },
  grant_ref: GRANT,
  tokens: [{ role: 'issued', type: 'access', ref: TOKEN, family_ref: FAMILY }],
};
const revoke: ExampleEvent = {
  t: 0,
  kind: 'token_revoked',
  outcome: 'success',
  client: { id: 'web-shop' },
  tokens: [{ role: 'revoked', type: 'access', ref: TOKEN }],
};
const use = (t: number, outcome: 'success' | 'failure' = 'success'): ExampleEvent => ({
  t,
  kind: outcome === 'success' ? 'api_accessed' : 'token_rejected',
  outcome,
  client: { id: 'web-shop' },
  source: { id: 'envoy', instance: 'orders-api' },
  http: { route: '/orders' },
  net: { network: '198.51.100.0/24' },
  tokens: [{ role: 'presented', type: 'access', ref: TOKEN }],
});
const expected = (t: number, lastT: number, count: number, by: string) => ({
  entity: TOKEN,
  episode: LIFETIME_EPISODE,
  verdict: 'accepted_after_revocation',
  severity: 'high' as const,
  evidence: {
    revoked_at: '2026-01-05T12:00:00.000Z',
    revoked_by: by,
    first_accepted_at: new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString(),
    last_accepted_at: new Date(Date.UTC(2026, 0, 5, 12) + lastT * 1_000).toISOString(),
    seconds_after: lastT,
    acceptances: count,
    servers: ['orders-api'],
    networks: ['198.51.100.0/24'],
    routes: ['/orders'],
  },
});

const isOf = (kinds: readonly EventKind[], fact: EventFact): boolean =>
  kinds.some((k) => k === fact.kind);
const isUse = (fact: EventFact): boolean =>
  isOf(ACCEPTING, fact) && fact.outcome === 'success' && mentions(fact, ['presented'], ['access']);
const isMark = (fact: EventFact): boolean =>
  isOf(REVOKING, fact) && (fact.outcome === 'success' || fact.outcome === 'unknown');
/** A token that comes with its grant or family; kinds other than issuing ones may name the family as well. */
const isLink = (fact: EventFact): boolean => fact.hasGroup && fact.roles.includes('issued');

export default defineDetector<Params>({
  id: 'token_used_after_revocation',
  version: 1,
  title: 'Access token accepted after its revocation',
  family: 'token_replay',
  severity: 'high',
  confidence: 85,
  description:
    'After a revocation, resource servers may rely on what they validated before for as long as their cache holds, and no longer. An acceptance after that means that a server does not learn of revocations, and that a thief keeps access.',
  references: ['RFC 7009 section 2.1', 'RFC 7662 section 4', 'ATT&CK T1550.001'],
  entity: 'token',
  verdicts: { accepted_after_revocation: 'Accepted later than cache and clocks explain.' },
  evidence: {
    revoked_at: 'The first revocation of the token or its grant.',
    revoked_by: 'token_revoked or grant_revoked.',
    first_accepted_at: 'First acceptance beyond the allowance.',
    last_accepted_at: 'Last acceptance.',
    seconds_after: 'From revocation to last acceptance.',
    acceptances: 'Number beyond the allowance (of at most 200 uses read).',
    servers: 'Instances that accepted it.',
    networks: 'Networks it came from.',
    routes: 'Routes it opened (at most 20).',
  },
  needs: ['tokens.ref', 'tokens.role', 'kind', 'outcome', 'grant_ref', 'tokens.family_ref'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: (fact) => isUse(fact) || isMark(fact) || isLink(fact),
  sliced: true,
  watch: (params) => ({
    by: 'marks',
    uses: {
      concerns: isUse,
      from: sql`grantscope.token_events`,
      where: sql`${ledgerCondition({ kinds: ACCEPTING, types: ['access'], roles: ['presented'] })} AND outcome = 'success'`,
      key: sql`token_ref`,
      facets: [],
    },
    marks: {
      concerns: isMark,
      from: sql`grantscope.auth_events ARRAY JOIN arrayDistinct(arrayConcat(
        arrayFilter((r, role) -> role = 'revoked', tokens.ref, tokens.role),
        if(kind = 'grant_revoked', arrayPushBack(tokens.family_ref, grant_ref), []))) AS marked`,
      where: sql`${kindIn(REVOKING)} AND outcome IN ('success', 'unknown') AND marked != ${nilRef}`,
      key: sql`marked`,
      facets: [
        sql`toUInt64(toUnixTimestamp(time))`,
        refFacet(sql`marked`),
        sql`toUInt64(has(tokens.ref, marked))`,
      ],
    },
    links: {
      concerns: isLink,
      from: sql`grantscope.auth_events ARRAY JOIN tokens.ref AS issued_ref, tokens.role AS issued_role, tokens.family_ref AS issued_family`,
      where: sql`issued_role = 'issued' AND (issued_family != ${nilRef} OR grant_ref != ${nilRef}) AND issued_ref != ${nilRef}`,
      key: sql`issued_ref`,
      facets: [
        refFacet(sql`issued_family`),
        sql`if(${kindIn(ISSUING)}, ${refFacet(sql`grant_ref`)}, 0)`,
        sql`toUInt64(toUnixTimestamp(time))`,
      ],
    },
    allowedMs: params.cache_ttl_ms + params.skew_ms,
  }),
  // Revocations are few, so they come first; and a logout after which nothing is used is none of the rule's business.
  candidates: (scope, params) => {
    const tenant = param.string(scope.tenant);
    const here = sql`tenant = ${tenant} AND ${inSlice(scope, sql`token_ref`)}`;
    const lifeNs = BigInt(params.token_life_ms_max) * 1_000_000n;
    const bornSince = sql`fromUnixTimestamp64Nano(${param.int64(scope.timeFrom - lifeNs)}, 'UTC')`;
    const accepted = sql`token_type = 'access' AND token_role = 'presented' AND outcome = 'success' AND ${kindIn(ACCEPTING)}`;
    const took = sql`outcome IN ('success', 'unknown')`;
    // When each group was first revoked, and whether a revocation of it is new.
    const groups = (group: Sql): Sql => sql`
      SELECT group_ref, min(time) AS revoked_at, max(${scope.condition}) AS is_new FROM grantscope.auth_events
      ARRAY JOIN ${group} AS group_ref
      WHERE tenant = ${tenant} AND kind = 'grant_revoked' AND ${took} AND group_ref != ${nilRef} GROUP BY group_ref`;
    // A grant that a rotation of keys renamed, under its names from before; the ledger has families under each name.
    const grants = groups(sql`[grant_ref]`);
    const renamedGrants = sql`
      SELECT names.other AS group_ref, revoked_at, is_new FROM (${grants}) AS named
      INNER JOIN (
        SELECT DISTINCT ref, other FROM grantscope.reference_names WHERE tenant = ${tenant} AND relation = 'previous'
      ) AS names ON names.ref = named.group_ref`;
    const revoked = sql`
      SELECT token_ref, time AS revoked_at, ${scope.condition} AS is_new FROM grantscope.token_events
      WHERE ${here} AND token_role = 'revoked' AND ${kindIn(REVOKING)} AND ${took}
      UNION ALL
      SELECT token_ref, revoked_at, is_new FROM grantscope.token_events
      INNER JOIN (${groups(sql`tokens.family_ref`)}) AS families ON token_events.family_ref = families.group_ref
      WHERE ${here} AND token_role = 'issued'
      UNION ALL
      SELECT token_ref, revoked_at, is_new FROM (
        SELECT grant_ref, arrayJoin(tokens.ref) AS token_ref FROM grantscope.auth_events
        WHERE tenant = ${tenant} AND ${kindIn(ISSUING)} AND time >= ${bornSince} AND grant_ref != ${nilRef}
      ) AS issues INNER JOIN (${grants} UNION ALL ${renamedGrants}) AS grants ON issues.grant_ref = grants.group_ref`;
    return sql`
    SELECT toString(token_ref) AS entity, max(time) AS at FROM grantscope.token_events
    INNER JOIN (
      SELECT token_ref AS revoked_ref, min(revoked_at) AS first_revoked_at, max(is_new) AS is_newly_revoked
      FROM (${revoked}) GROUP BY token_ref
    ) AS revoked ON token_events.token_ref = revoked.revoked_ref
    WHERE ${here}
    GROUP BY token_ref
    HAVING maxIf(time, ${accepted}) > min(first_revoked_at) + toIntervalMillisecond(${param.uint(params.cache_ttl_ms + params.skew_ms)})
      AND (countIf(${scope.condition} AND (token_role = 'issued' OR (${accepted}))) > 0 OR max(is_newly_revoked) > 0)`;
  },
  history: (selection) => sql`
    SELECT entity, event_id, at FROM (
      SELECT toString(token_ref) AS entity, event_id, any(token_role) AS role, any(time) AS at
      FROM grantscope.token_events
      WHERE tenant = ${param.string(selection.tenant)} AND token_ref IN ${param.uuids(selection.entities)}
        AND ${kindIn(KINDS)}
      GROUP BY token_ref, event_id
    ) ORDER BY entity, at DESC, event_id LIMIT ${param.uint(ROWS_PER_ROLE_MAX)} BY entity, role`,
  follow,
  evaluate,
  falsePositives: [
    'A resource server that validates self-contained tokens by signature alone accepts them until they expire: by design, but a gap.',
    'Clocks that differ by more than skew_ms.',
    'Not reported: acceptance within cache_ttl_ms + skew_ms, and access tokens whose refresh token alone was revoked.',
  ],
  examples: [
    {
      name: 'fires beyond cache and clocks',
      events: [use(-10), revoke, use(70), use(70.001), use(500)],
      expect: [expected(70.001, 500, 2, 'token_revoked')],
    },
    {
      name: 'fires when the grant was revoked',
      events: [
        issued,
        { t: 0, kind: 'grant_revoked', outcome: 'success', grant_ref: GRANT },
        use(120),
      ],
      expect: [expected(120, 120, 1, 'grant_revoked')],
    },
    {
      name: 'fires when the rotation family was revoked',
      events: [
        { ...issued, grant_ref: '' },
        {
          t: 0,
          kind: 'grant_revoked',
          outcome: 'success',
          tokens: [
            { role: 'revoked', type: 'refresh', ref: exampleRef('refresh'), family_ref: FAMILY },
          ],
        },
        use(120),
      ],
      expect: [expected(120, 120, 1, 'grant_revoked')],
    },
    {
      name: 'silent inside cache and clocks, and when refused',
      events: [revoke, use(5), use(70), use(100, 'failure')],
      expect: [],
    },
    {
      name: 'silent: the revocation failed',
      events: [{ ...revoke, outcome: 'failure' }, use(300)],
      expect: [],
    },
    {
      name: 'silent: issued after the grant was revoked and given anew',
      events: [
        { t: 0, kind: 'grant_revoked', outcome: 'success', grant_ref: GRANT },
        { ...issued, t: 100 },
        use(200),
      ],
      expect: [],
    },
    {
      name: 'silent: another grant was revoked',
      events: [
        issued,
        { t: 0, kind: 'grant_revoked', outcome: 'success', grant_ref: exampleRef('other grant') },
        use(200),
      ],
      expect: [],
    },
    {
      name: 'fires by every kind of acceptance, and says which instance, or else which source, it was',
      events: [
        revoke,
        { ...use(80), kind: 'token_validated', source: { id: 'otlp', instance: '' } },
        { ...use(90), kind: 'userinfo_accessed', http: { route: '/userinfo' } },
      ],
      expect: [
        {
          ...expected(80, 90, 2, 'token_revoked'),
          evidence: {
            ...expected(80, 90, 2, 'token_revoked').evidence,
            servers: ['orders-api', 'otlp'],
            routes: ['/orders', '/userinfo'],
          },
        },
      ],
    },
    {
      name: 'fires when the outcome of the revocation is not told; the first revocation counts',
      events: [{ ...revoke, outcome: 'unknown' }, { ...revoke, t: 60 }, use(100)],
      expect: [expected(100, 100, 1, 'token_revoked')],
    },
    {
      name: 'fires for a token of an exchange, and of a refresh, whose grant was revoked',
      events: [
        {
          ...issued,
          kind: 'token_exchanged',
          tokens: [{ role: 'issued', type: 'access', ref: TOKEN }],
        },
        { t: 0, kind: 'grant_revoked', outcome: 'success', grant_ref: GRANT },
        use(120),
      ],
      expect: [expected(120, 120, 1, 'grant_revoked')],
    },
    {
      name: 'fires for a token of a refresh whose grant was revoked in the moment of its issue',
      events: [
        {
          ...issued,
          ...{ t: 0, kind: 'token_refreshed' },
          tokens: [{ role: 'issued', type: 'access', ref: TOKEN }],
        },
        { t: 0, kind: 'grant_revoked', outcome: 'success', grant_ref: GRANT },
        use(120),
      ],
      expect: [expected(120, 120, 1, 'grant_revoked')],
    },
    {
      name: 'counts late acceptances alone: not what was refused, nor what a client asked of the server',
      events: [
        revoke,
        use(75, 'failure'),
        use(80),
        { ...use(90), kind: 'token_introspected' },
        { ...use(95), outcome: 'failure' },
        { ...use(300), client: { id: 'left alone' } },
      ],
      parameters: { exclude_clients: ['left alone'] },
      expect: [expected(80, 80, 1, 'token_revoked')],
    },
    {
      name: 'fires where the issue is told again later, and one of several families was revoked',
      events: [
        { ...issued, grant_ref: '' },
        { ...issued, t: 60, grant_ref: '' },
        {
          t: 0,
          kind: 'grant_revoked',
          outcome: 'success',
          tokens: [
            { role: 'revoked', type: 'refresh', ref: exampleRef('refresh'), family_ref: FAMILY },
            {
              ...{ role: 'revoked', type: 'refresh', ref: exampleRef('another refresh') },
              family_ref: exampleRef('another family'),
            },
          ],
        },
        use(120),
      ],
      expect: [expected(120, 120, 1, 'grant_revoked')],
    },
    ...[GRANT, ''].map((grant_ref) => ({
      name: `silent: the token was used to revoke another grant than ${grant_ref === '' ? 'its unknown one' : 'its own'}`,
      events: [
        { ...issued, grant_ref },
        {
          t: 0,
          kind: 'grant_revoked' as const,
          outcome: 'success' as const,
          grant_ref: grant_ref === '' ? '' : exampleRef('other grant'),
          tokens: [{ role: 'presented' as const, type: 'access' as const, ref: TOKEN }],
        },
        use(200),
      ],
      expect: [],
    })),
  ],
});
