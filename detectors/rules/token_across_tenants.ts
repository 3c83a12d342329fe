import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  mentions,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, textFacet } from './_ledger.ts';
import { isoTime, known, mentionOf } from './_origin.ts';
import { aroundNews, EACH_TOKEN, tokenRowsHistory } from './_token_rows.ts';

const KINDS = ['token_validated', 'api_accessed', 'userinfo_accessed'] as const;
/** Records kept per token, tenant and API. */
const ROWS_PER_API_MAX = 20;
const LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** Which audiences an API stands for, by the name that its events carry in `resource`. */
  resource_audiences: z.record(z.string(), z.array(z.string().min(1)).min(1)).default({}),
  /** Whether APIs and audiences that are both named by a URI are compared without being listed (RFC 8707). */
  compare_uris: z.boolean().default(true),
  /** How long an access token lives at most, ms: uses are joined over this time. */
  token_life_ms_max: z.int().min(60_000).max(86_400_000).default(3_600_000),
  /** Clients whose tokens are meant for several tenants. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  two_tenants: 'Services of two tenants accepted one token.',
  other_audience: 'An API accepted a token whose audience does not name it.',
} as const;
type Verdict = keyof typeof VERDICTS;
const CONFIDENCE: Readonly<Record<Verdict, number>> = { two_tenants: 85, other_audience: 80 };

const isUri = (name: string): boolean => name.includes('://');
const plain = (uri: string): string => uri.toLowerCase().replace(/\/+$/, '');

/** One URI names the other where it is equal or a part of it on the way down. */
function namesUri(audience: string, resource: string): boolean {
  const a = plain(audience);
  const r = plain(resource);
  return a === r || r.startsWith(`${a}/`) || a.startsWith(`${r}/`);
}

/** An API that this event shows to have taken a token that was made for others. */
function foreignApis(event: AuthEvent, params: Params): string[] {
  const { audience } = event;
  if (audience.length === 0) return [];
  return event.resource.filter((name) => {
    const own = Object.hasOwn(params.resource_audiences, name)
      ? params.resource_audiences[name]
      : undefined;
    if (own !== undefined) return !audience.some((a) => own.includes(a));
    if (!params.compare_uris || !isUri(name) || !audience.every(isUri)) return false;
    return !audience.some((a) => namesUri(a, name));
  });
}

function accepted(input: EvaluateInput<Params>): AuthEvent[] {
  return input.events.filter(
    (e) =>
      e.outcome === 'success' &&
      mentionOf(e, input.entity, ['presented']) !== undefined &&
      !input.params.exclude_clients.includes(e.client.id),
  );
}

/** Two issuers may give one id (jti) to a token each: then what two tenants accepted are two tokens. */
function tenantsOf(uses: readonly AuthEvent[]): readonly AuthEvent[] {
  const issuers = known(uses.map((e) => e.issuer));
  if (issuers.length > 1) return [];
  const told = uses.filter((e) => e.source.tenant !== '');
  return known(told.map((e) => e.source.tenant)).length > 1 ? told : [];
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const uses = accepted(input);
  const foreign = uses.filter((e) => foreignApis(e, input.params).length > 0);
  const ofTenants = tenantsOf(uses);
  const verdict: Verdict = ofTenants.length > 0 ? 'two_tenants' : 'other_audience';
  const events = [...new Set([...ofTenants, ...foreign])].sort((a, b) =>
    a.time < b.time ? -1 : 1,
  );
  const tenants = known(ofTenants.map((e) => e.source.tenant));
  const [firstTenant] = ofTenants;
  const first = ofTenants.find((e) => e.source.tenant !== firstTenant?.source.tenant) ?? foreign[0];
  if (first === undefined) return [];
  const apis = known(foreign.flatMap((e) => foreignApis(e, input.params)));
  const audience = known(events.flatMap((e) => e.audience));
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict,
      severity: 'high',
      confidence: CONFIDENCE[verdict],
      summary:
        verdict === 'two_tenants'
          ? `One access token was accepted by services of ${tenants.length} tenants.`
          : `An access token was accepted by ${apis.length} API(s) that it was not made for.`,
      reasons: [
        ...tenants.slice(0, 5).map((t) => `accepted in tenant ${t}`),
        ...apis.slice(0, 5).map((a) => `${a} is none of its audiences`),
      ],
      evidence: {
        tenants: tenants.slice(0, LISTED_MAX),
        audience: audience.slice(0, LISTED_MAX),
        foreign_apis: apis.slice(0, LISTED_MAX),
        first_foreign_use: isoTime(first),
        acceptances: events.length,
        servers: known(events.map((e) => e.source.instance || e.source.id)).slice(0, LISTED_MAX),
        networks: known(events.map((e) => e.net.network)).slice(0, LISTED_MAX),
      },
      events,
      tokenRefs: [input.entity],
    },
  ];
}

/** `namesUri` over the columns of an event, with `r` an API and `a` an audience. */
const NAMES_URI = sql`(trimRight(lower(a), '/') = trimRight(lower(r), '/')
  OR startsWith(trimRight(lower(r), '/'), concat(trimRight(lower(a), '/'), '/'))
  OR startsWith(trimRight(lower(a), '/'), concat(trimRight(lower(r), '/'), '/')))`;

/** Events whose API is none of the token's audiences: what `foreignApis` says. */
function foreignRows(params: Params): Sql {
  const listed = Object.entries(params.resource_audiences);
  const names = param.strings(listed.map(([name]) => name));
  const uris = sql`(NOT arrayExists(a -> position(a, '://') = 0, audience) AND arrayExists(
    r -> position(r, '://') > 0 AND NOT has(${names}, r) AND NOT arrayExists(a -> ${NAMES_URI}, audience), resource))`;
  const parts = listed.map(
    ([name, own]) =>
      sql`(has(resource, ${param.string(name)}) AND NOT hasAny(audience, ${param.strings(own)}))`,
  );
  const any = joinSql([...(params.compare_uris ? [uris] : []), ...parts], ' OR ', sql`false`);
  return sql`(notEmpty(audience) AND notEmpty(resource) AND (${any}))`;
}

function screenOf(params: Params): Sql {
  return sql`(${kindIn(KINDS)} AND outcome = 'success' AND (source_tenant != '' OR ${foreignRows(params)}))`;
}

const USES = sql`t_type = 'access' AND t_role = 'presented'`;

const TOKEN = exampleRef('wandering token');
const ORDERS = 'https://orders.example';
const BILLING = 'https://billing.example';
const HOME = '198.51.100.0/24';
const use = (t: number, more: Partial<ExampleEvent>): ExampleEvent => ({
  t,
  kind: 'api_accessed',
  outcome: 'success',
  client: { id: 'web-shop' },
  source: { id: 'otlp', instance: 'api' },
  net: { network: HOME },
  tokens: [{ role: 'presented', type: 'access', ref: TOKEN }],
  ...more,
});
const inTenant = (t: number, tenant: string, more: Partial<ExampleEvent> = {}): ExampleEvent =>
  use(t, { source: { id: 'keycloak', instance: 'api', tenant }, ...more });
const finding = (verdict: Verdict, t: number, evidence: Record<string, unknown>) => ({
  entity: TOKEN,
  episode: LIFETIME_EPISODE,
  verdict,
  severity: 'high' as const,
  evidence: {
    tenants: [],
    audience: [],
    foreign_apis: [],
    first_foreign_use: new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString(),
    acceptances: 1,
    servers: ['api'],
    networks: [HOME],
    ...evidence,
  },
});
const isUse = (fact: EventFact): boolean =>
  KINDS.some((k) => k === fact.kind) &&
  fact.outcome === 'success' &&
  mentions(fact, ['presented'], ['access']);

export default defineDetector<Params>({
  id: 'token_across_tenants',
  version: 1,
  title: 'Access token accepted where it is not meant for',
  family: 'token_replay',
  severity: 'high',
  confidence: 85,
  description:
    'A token is for the audiences that it names, and for one tenant. An API that takes one made for another lets whoever runs the other API, or stole its tokens, act in its place; across tenants it lets one customer into the data of another.',
  references: [
    'RFC 9700 section 2.3',
    'RFC 8707 section 2',
    'RFC 9068 section 4',
    'ATT&CK T1550.001',
  ],
  entity: 'token',
  verdicts: VERDICTS,
  evidence: {
    tenants: 'Tenants whose services accepted it, where more than one (at most 20).',
    audience: 'What the token names as its audience (at most 20).',
    foreign_apis: 'APIs that accepted it without being named (at most 20).',
    first_foreign_use: 'First acceptance in a second tenant, or by an API that is not named.',
    acceptances: 'Records behind it (of at most 20 per tenant and API).',
    servers: 'Instances that accepted it (at most 20).',
    networks: 'Networks that it came from (at most 20).',
  },
  needs: ['tokens.ref', 'tokens.role', 'outcome', 'audience', 'resource', 'source.tenant'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: isUse,
  screen: screenOf,
  watch: (params) => ({
    by: 'facets',
    stream: {
      concerns: isUse,
      from: EACH_TOKEN,
      where: sql`${screenOf(params)} AND ${USES}`,
      key: sql`t_ref`,
      facets: [textFacet(sql`source_tenant`), sql`toUInt64(${foreignRows(params)})`],
    },
    isHot: (seen) => seen.varies(0) || seen.has(1),
  }),
  candidates: (scope, params) => {
    const rows = sql`tenant = ${param.string(scope.tenant)} AND ${screenOf(params)} AND ${USES}`;
    return sql`
    SELECT toString(t_ref) AS entity, max(time) AS at FROM ${EACH_TOKEN}
    WHERE ${rows} AND ${aroundNews(scope, params.token_life_ms_max)}
      AND t_ref IN (SELECT t_ref FROM ${EACH_TOKEN} WHERE ${rows} AND ${scope.condition})
    GROUP BY t_ref
    HAVING max(${foreignRows(params)})
      OR minIf(source_tenant, source_tenant != '') != maxIf(source_tenant, source_tenant != '')`;
  },
  history: (selection, params) =>
    tokenRowsHistory(selection, {
      kinds: KINDS,
      where: sql`${screenOf(params)} AND ${USES}`,
      by: sql`concat(source_tenant, '\n', arrayStringConcat(resource, ' '), '\n', toString(${foreignRows(params)}))`,
      max: ROWS_PER_API_MAX,
    }),
  evaluate,
  falsePositives: [
    'An API whose events name it by another URI than its audience: list it in resource_audiences.',
    'One service that several tenants share, if its events carry the tenant of the caller.',
    'Not reported: refused calls, APIs or audiences that are no URI and not listed, an audience above or below the API in its path, one token id under two issuers.',
  ],
  examples: [
    {
      name: 'two tenants: services of both accept the token',
      events: [inTenant(60, 'globex'), inTenant(0, 'acme'), inTenant(90, 'acme')],
      expect: [finding('two_tenants', 60, { tenants: ['acme', 'globex'], acceptances: 3 })],
    },
    {
      name: 'other audience: a URI that the token does not name',
      events: [
        use(0, { audience: [ORDERS], resource: [ORDERS] }),
        use(30, { audience: [ORDERS], resource: [BILLING] }),
      ],
      expect: [finding('other_audience', 30, { audience: [ORDERS], foreign_apis: [BILLING] })],
    },
    {
      name: 'other audience: a host that only begins like the audience',
      events: [use(0, { audience: [ORDERS], resource: [`${ORDERS}.evil.example`] })],
      expect: [
        finding('other_audience', 0, {
          audience: [ORDERS],
          foreign_apis: [`${ORDERS}.evil.example`],
        }),
      ],
    },
    {
      name: 'other audience: an API that is listed under its audiences',
      parameters: { resource_audiences: { orders: ['orders-api', 'shop'] } },
      events: [
        use(0, { audience: ['shop'], resource: ['orders'] }),
        use(5, { audience: ['billing-api'], resource: ['orders'] }),
      ],
      expect: [
        finding('other_audience', 5, { audience: ['billing-api'], foreign_apis: ['orders'] }),
      ],
    },
    {
      name: 'silent: named by the same URI, one above or one below',
      events: [
        use(0, { audience: [`${ORDERS}/`], resource: [ORDERS] }),
        use(1, { audience: [ORDERS.toUpperCase()], resource: [ORDERS] }),
        use(2, { audience: [ORDERS], resource: [`${ORDERS}/v1`] }),
        use(3, { audience: [`${ORDERS}/v1`, BILLING], resource: [ORDERS] }),
      ],
      expect: [],
    },
    {
      name: 'silent: names that do not compare, and what is not known',
      events: [
        use(0, { audience: ['orders-api'], resource: ['edge'] }),
        use(1, { audience: ['orders-api'], resource: [BILLING] }),
        use(2, { audience: [ORDERS, 'orders-api'], resource: [BILLING] }),
        use(3, { audience: [], resource: [BILLING] }),
        use(4, { audience: [ORDERS], resource: [] }),
        use(5, { audience: [ORDERS], resource: ['edge'] }),
        use(6, { audience: [ORDERS], resource: ['constructor'] }),
      ],
      expect: [],
    },
    {
      name: 'silent: refused, or one tenant alone is told',
      events: [
        use(0, { audience: [ORDERS], resource: [BILLING], outcome: 'failure' }),
        inTenant(1, 'acme'),
        use(2, {}),
        inTenant(3, 'globex', { kind: 'token_validated', outcome: 'failure' }),
      ],
      expect: [],
    },
    {
      name: 'silent: two issuers gave two tokens one id',
      events: [
        inTenant(0, 'acme', { issuer: 'https://a.example' }),
        inTenant(1, 'globex', { issuer: 'https://b.example' }),
      ],
      expect: [],
    },
    {
      name: 'silent for a client whose tokens are meant for several tenants',
      parameters: { exclude_clients: ['web-shop'] },
      events: [inTenant(0, 'acme'), inTenant(60, 'globex')],
      expect: [],
    },
    {
      name: 'two tenants: APIs that the token names, or that do not compare, are no part of it',
      events: [
        inTenant(0, 'acme', {
          ...{ audience: [`${ORDERS}/`], resource: [ORDERS] },
          issuer: 'https://login.example',
        }),
        inTenant(1, 'globex', {
          ...{ audience: [ORDERS], resource: [`${ORDERS}/v1`] },
          kind: 'token_validated',
        }),
        inTenant(2, 'acme', { audience: [`${ORDERS}/v1`, BILLING], resource: [ORDERS] }),
        inTenant(3, 'acme', { audience: [], resource: [BILLING] }),
        inTenant(4, 'acme', { audience: ['orders-api'], resource: [BILLING] }),
        inTenant(5, 'acme', { audience: [ORDERS, 'orders-api'], resource: [BILLING] }),
        inTenant(6, 'acme', { audience: [ORDERS], resource: ['edge'] }),
        inTenant(7, 'globex', { kind: 'userinfo_accessed' }),
      ],
      expect: [
        finding('two_tenants', 1, {
          tenants: ['acme', 'globex'],
          audience: [BILLING, ORDERS, `${ORDERS}/`, `${ORDERS}/v1`, 'orders-api'],
          acceptances: 8,
        }),
      ],
    },
    {
      name: 'two tenants: by one of the audiences that are listed, and where URIs are not compared',
      parameters: {
        compare_uris: false,
        resource_audiences: { orders: ['orders-api', 'shop'] },
      },
      events: [
        inTenant(0, 'acme', { audience: ['other', 'shop'], resource: ['orders'] }),
        inTenant(1, 'globex', { audience: [ORDERS], resource: [BILLING] }),
      ],
      expect: [
        finding('two_tenants', 1, {
          tenants: ['acme', 'globex'],
          audience: [ORDERS, 'other', 'shop'],
          acceptances: 2,
        }),
      ],
    },
    {
      name: 'other audience: in one tenant, told by a system without a name of its own',
      events: [
        use(0, {
          ...{ audience: [ORDERS], resource: [BILLING] },
          source: { id: 'envoy', tenant: 'acme' },
        }),
      ],
      expect: [
        finding('other_audience', 0, {
          audience: [ORDERS],
          foreign_apis: [BILLING],
          servers: ['envoy'],
        }),
      ],
    },
  ],
});
