import { z } from 'zod';
import {
  defineDetector,
  LIFETIME_EPISODE,
  mentions,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { inSlice, kindIn, ledgerCondition, textFacet, touchedOutsideSlices } from './_ledger.ts';
import {
  groupByNetwork,
  isoTime,
  known,
  mentionOf,
  type NetworkEvents,
  tellsUserNetwork,
} from './_origin.ts';
import { oneRecordPerRequest } from './_requests.ts';

const KINDS = ['token_validated', 'api_accessed', 'userinfo_accessed'] as const;
const LEDGER = { kinds: KINDS, types: ['access'], roles: ['presented'] } as const;
/** Records kept per token, network, user agent and country: enough to say when each first appeared. */
const USES_PER_ORIGIN_MAX = 20;

const Parameters = z.strictObject({
  /** Networks from which one token must have been accepted. */
  min_networks: z.int().min(2).max(100).default(2),
  /** Whether a further network must also come with a user agent or a country that is new to the token. */
  require_second_signal: z.boolean().default(true),
  /** Clients whose tokens are meant to be used from many places. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** The uses of the token by network, in order of first use. */
function usesByNetwork(input: EvaluateInput<Params>): NetworkEvents[] {
  const accepted = input.events.filter(
    (e) =>
      e.outcome === 'success' &&
      mentionOf(e, input.entity, ['presented']) !== undefined &&
      !input.params.exclude_clients.includes(e.client.id),
  );
  return groupByNetwork(oneRecordPerRequest(accepted).filter(tellsUserNetwork));
}

/** Rows that tell where a user was. */
const USER_NETWORK = sql`net_network != '' AND net_ip_role IN ('end_user', 'unknown')`;

/**
 * Two different values among the rows of a condition. Least and greatest tell it for a fraction of what counting costs;
 * like a count they only grow apart, so that the filter is monotone.
 */
function varies(column: Sql, condition: Sql): Sql {
  const hash = sql`cityHash64(${column}), ${condition}`;
  return sql`minIf(${hash}) != maxIf(${hash})`;
}

/** What a second sign needs at least. */
function secondSign(params: Params): Sql {
  return params.require_second_signal
    ? sql`${varies(sql`net_ua_family`, sql`net_ua_family != '' AND ${USER_NETWORK}`)}
      OR ${varies(sql`net_country`, sql`net_country != '' AND ${USER_NETWORK}`)}`
    : sql`true`;
}

/** A token bound to one key, with the proof checked at every use, is not replayed by moving about. */
function isBoundToOneKey(uses: readonly NetworkEvents[]): boolean {
  const events = uses.flatMap((u) => u.events);
  const keys = new Set(events.map((e) => e.binding_thumbprint));
  const isBound = events.every((e) => e.binding === 'dpop' || e.binding === 'mtls');
  return isBound && keys.size === 1 && !keys.has('');
}

interface Foreign {
  readonly use: NetworkEvents;
  readonly reasons: readonly string[];
}

/**
 * Networks that are new with a second sign: the user agent (or country) of their first use was not seen
 * on any network used before. Only earlier networks clear a later one, so that whoever holds a stolen
 * token cannot clear it by using it more.
 */
function foreignNetworks(uses: readonly NetworkEvents[], params: Params): Foreign[] {
  const agents = new Set<string>();
  const countries = new Set<string>();
  const foreign: Foreign[] = [];
  for (const [i, use] of uses.entries()) {
    const [first] = use.events;
    const agent = first?.net.ua_family ?? '';
    const country = first?.net.country ?? '';
    const reasons: string[] = [];
    if (agent !== '' && agents.size > 0 && !agents.has(agent))
      reasons.push(`user agent ${agent} is new to the token (before: ${known(agents).join(', ')})`);
    if (country !== '' && countries.size > 0 && !countries.has(country))
      reasons.push(
        `country ${country} is new to the token (before: ${known(countries).join(', ')})`,
      );
    if (i > 0 && (reasons.length > 0 || !params.require_second_signal))
      foreign.push({ use, reasons });
    for (const e of use.events) {
      if (e.net.ua_family !== '') agents.add(e.net.ua_family);
      if (e.net.country !== '') countries.add(e.net.country);
    }
  }
  return foreign;
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const uses = usesByNetwork(input);
  if (uses.length < input.params.min_networks || isBoundToOneKey(uses)) return [];
  const foreign = foreignNetworks(uses, input.params);
  const [firstForeign] = foreign;
  if (firstForeign === undefined) return [];
  const events = uses.flatMap((u) => u.events).sort((a, b) => (a.time < b.time ? -1 : 1));
  const networks = uses.map((u) => u.network);
  const [foreignEvent] = firstForeign.use.events;
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: 'replay',
      severity: 'high',
      confidence: foreign.some((f) => f.reasons.length > 1) ? 85 : 75,
      summary: `One access token was accepted from ${networks.length} networks (${networks.slice(0, 5).join(', ')}).`,
      reasons: foreign
        .flatMap((f) => [`network ${f.use.network} used the token`, ...f.reasons])
        .slice(0, 20),
      evidence: {
        networks,
        foreign_networks: foreign.map((f) => f.use.network),
        ua_families: known(events.map((e) => e.net.ua_family)),
        countries: known(events.map((e) => e.net.country)),
        first_foreign_use: foreignEvent === undefined ? '' : isoTime(foreignEvent),
        routes: known(firstForeign.use.events.map((e) => e.http.route)).slice(0, 20),
      },
      events,
      tokenRefs: [input.entity],
    },
  ];
}

const TOKEN = exampleRef('access token');
const call = (
  t: number,
  network: string,
  agent: string,
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: 'api_accessed',
  outcome: 'success',
  client: { id: 'mobile-app' },
  tokens: [{ role: 'presented', type: 'access', ref: TOKEN }],
  ...more,
  net: { network, ua_family: agent, ip_role: 'end_user', ...more.net },
  http: { route: '/orders', ...more.http },
});
const HOME = '198.51.100.0/24';
const AWAY = '203.0.113.0/24';
const THIRD = '192.0.2.0/24';
/** Chrome at home, and a minute later curl elsewhere, where nobody tells a route. */
const replayed = () => ({
  entity: TOKEN,
  episode: LIFETIME_EPISODE,
  verdict: 'replay',
  severity: 'high' as const,
  evidence: {
    networks: [HOME, AWAY],
    foreign_networks: [AWAY],
    ua_families: ['Chrome', 'curl'],
    countries: [],
    first_foreign_use: '2026-01-05T12:01:00.000Z',
    routes: [],
  },
});

export default defineDetector<Params>({
  id: 'access_token_replay',
  version: 1,
  title: 'Access token used from a second network',
  family: 'token_replay',
  severity: 'high',
  confidence: 85,
  description:
    'A bearer token works for whoever holds it. The rule follows each access token over all resource servers and gateways and reports one that was accepted from a second network with another user agent or country.',
  references: ['RFC 9700 section 4.10', 'RFC 6750 section 5.2', 'ATT&CK T1550.001'],
  entity: 'token',
  verdicts: {
    replay: 'Accepted from a network, with a user agent or country, that is new to the token.',
  },
  evidence: {
    networks:
      'User networks in order of first use: the autonomous system where known, else the prefix.',
    foreign_networks: 'Those of them that came with a second sign.',
    ua_families: 'User agent families over all uses.',
    countries: 'Countries over all uses, where known.',
    first_foreign_use: 'When the first foreign network first used the token.',
    routes: 'Routes that the first foreign network called (at most 20).',
  },
  needs: [
    'tokens.ref',
    'tokens.role',
    'tokens.type',
    'outcome',
    'net.network',
    'net.ua_family',
    'net.ip_role',
  ],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: (fact) =>
    KINDS.some((k) => k === fact.kind) &&
    fact.outcome === 'success' &&
    mentions(fact, LEDGER.roles, LEDGER.types),
  sliced: true,
  watch: (params) => ({
    by: 'facets',
    stream: {
      concerns: (fact) => KINDS.some((k) => k === fact.kind) && fact.outcome === 'success',
      from: sql`grantscope.token_events`,
      where: sql`${ledgerCondition(LEDGER)} AND outcome = 'success' AND net_ip_role IN ('end_user', 'unknown')`,
      key: sql`token_ref`,
      // Without a network a record does not count, so neither do its other parts.
      facets: [
        textFacet(sql`net_network`),
        sql`if(net_network = '', 0, ${textFacet(sql`net_ua_family`)})`,
        sql`if(net_network = '', 0, ${textFacet(sql`net_country`)})`,
      ],
    },
    isHot: (seen) =>
      seen.varies(0) && (!params.require_second_signal || seen.varies(1) || seen.varies(2)),
  }),
  // Tokens of two networks are few, so they come first; the rest is asked of these alone.
  candidates: (scope, params) => {
    const uses = sql`tenant = ${param.string(scope.tenant)} AND ${inSlice(scope, sql`token_ref`)}
      AND ${ledgerCondition(LEDGER)} AND outcome = 'success'`;
    return sql`
    SELECT toString(token_ref) AS entity, max(time) AS at FROM grantscope.token_events
    WHERE ${uses} AND token_ref IN (
      SELECT token_ref FROM grantscope.token_events
      WHERE ${uses} AND ${USER_NETWORK} AND ${touchedOutsideSlices(scope, uses)}
      GROUP BY token_ref HAVING ${varies(sql`net_network`, sql`true`)})
    GROUP BY token_ref HAVING countIf(${scope.condition}) > 0 AND (${secondSign(params)})`;
  },
  // Per origin, so that a busy token's thousands of calls from home don't hide the one from elsewhere.
  history: (selection) => sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, any(network) AS network, any(agent) AS agent, any(country) AS country, any(t) AS at FROM (
        SELECT toString(token_ref) AS entity, event_id, net_network AS network, net_ua_family AS agent, net_country AS country, time AS t
        FROM grantscope.token_events
        WHERE tenant = ${param.string(selection.tenant)} AND token_ref IN ${param.uuids(selection.entities)}
          AND token_type = 'access' AND token_role = 'presented' AND outcome = 'success' AND ${kindIn(KINDS)}
      ) GROUP BY entity, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(USES_PER_ORIGIN_MAX)} BY entity, network, agent, country`,
  evaluate,
  falsePositives: [
    'A user who switches to a VPN in another country within the life of one token.',
    "A client back end whose address a source reports as the end user's: set ip_role, or list the client in exclude_clients.",
    'Not reported: roaming within one network (an autonomous system where a database of them is configured, else a /24), carrier-grade NAT with one user agent, IPv6 privacy addresses (one /48), tokens bound to one key by DPoP or mTLS.',
  ],
  examples: [
    {
      name: 'fires when a stolen token is used from elsewhere by another program',
      events: [call(0, HOME, 'Chrome'), call(60, AWAY, 'curl', { http: { route: '/export' } })],
      expect: [
        {
          entity: TOKEN,
          episode: LIFETIME_EPISODE,
          verdict: 'replay',
          severity: 'high',
          evidence: {
            networks: [HOME, AWAY],
            foreign_networks: [AWAY],
            ua_families: ['Chrome', 'curl'],
            countries: [],
            first_foreign_use: '2026-01-05T12:01:00.000Z',
            routes: ['/export'],
          },
        },
      ],
    },
    {
      name: 'fires on another country even with the same user agent; using it more does not clear it',
      events: [
        call(0, HOME, 'Chrome', { net: { country: 'DE' } }),
        call(5, AWAY, 'Chrome', { net: { country: 'BR' } }),
        call(6, AWAY, 'Chrome', { net: { country: 'DE' } }),
      ],
      expect: [
        {
          entity: TOKEN,
          episode: LIFETIME_EPISODE,
          verdict: 'replay',
          severity: 'high',
          evidence: {
            networks: [HOME, AWAY],
            foreign_networks: [AWAY],
            ua_families: ['Chrome'],
            countries: ['BR', 'DE'],
            first_foreign_use: '2026-01-05T12:00:05.000Z',
            routes: ['/orders'],
          },
        },
      ],
    },
    {
      name: 'fires under the trace of the first call: whoever repeats a request repeats its headers',
      events: [
        call(0, HOME, 'Chrome', { corr: { trace_id: 'copied' } }),
        call(60, AWAY, 'curl', { corr: { trace_id: 'copied' } }),
      ],
      expect: [
        {
          entity: TOKEN,
          episode: LIFETIME_EPISODE,
          verdict: 'replay',
          severity: 'high',
          evidence: {
            networks: [HOME, AWAY],
            foreign_networks: [AWAY],
            ua_families: ['Chrome', 'curl'],
            countries: [],
            first_foreign_use: '2026-01-05T12:01:00.000Z',
            routes: ['/orders'],
          },
        },
      ],
    },
    {
      name: 'silent: roaming with one user agent and no country known',
      events: [call(0, HOME, 'Chrome'), call(60, AWAY, 'Chrome'), call(90, THIRD, 'Chrome')],
      expect: [],
    },
    {
      name: 'silent: two prefixes of one autonomous system, as when a phone moves or changes to IPv6',
      events: [
        call(0, HOME, 'okhttp', { net: { asn: 64_500 } }),
        call(60, AWAY, 'Chrome', { net: { asn: 64_500 } }),
        call(90, '2001:db8:1::/48', 'Safari', { net: { asn: 64_500 } }),
      ],
      expect: [],
    },
    {
      name: 'fires across autonomous systems, and names them; an older record of a known prefix is of its system',
      events: [
        call(0, HOME, 'Chrome'),
        call(5, HOME, 'Chrome', { net: { asn: 64_500 } }),
        call(10, THIRD, 'okhttp', { net: { asn: 64_500 } }),
        call(60, AWAY, 'curl', { net: { asn: 64_501 } }),
      ],
      expect: [
        {
          entity: TOKEN,
          episode: LIFETIME_EPISODE,
          verdict: 'replay',
          severity: 'high',
          evidence: {
            networks: ['AS64500', 'AS64501'],
            foreign_networks: ['AS64501'],
            ua_families: ['Chrome', 'curl', 'okhttp'],
            countries: [],
            first_foreign_use: '2026-01-05T12:01:00.000Z',
            routes: ['/orders'],
          },
        },
      ],
    },
    {
      name: 'silent: an app and its embedded browser on both networks',
      events: [
        call(0, HOME, 'okhttp'),
        call(1, HOME, 'Chrome'),
        call(60, AWAY, 'okhttp'),
        call(61, AWAY, 'Chrome'),
      ],
      expect: [],
    },
    {
      name: 'silent: two user agents in one network',
      events: [call(0, HOME, 'Chrome'), call(1, HOME, 'curl')],
      expect: [],
    },
    {
      name: 'silent: the gateway sees the user, the resource server sees the gateway',
      events: [
        call(0, HOME, 'Chrome', { corr: { trace_id: 'a1' } }),
        call(0.01, AWAY, 'node', { net: { ip_role: 'proxy' }, corr: { trace_id: 'a1' } }),
        call(1, HOME, 'Chrome', { corr: { trace_id: 'a2' } }),
        call(1.01, AWAY, 'node', { net: { ip_role: 'unknown' }, corr: { trace_id: 'a2' } }),
      ],
      expect: [],
    },
    {
      name: "silent: the client's own back end uses the token too",
      events: [
        call(0, HOME, 'Chrome'),
        call(3, AWAY, 'node', { net: { ip_role: 'client_backend' } }),
      ],
      expect: [],
    },
    {
      name: 'silent: the second network was refused',
      events: [call(0, HOME, 'Chrome'), call(3, AWAY, 'curl', { outcome: 'failure' })],
      expect: [],
    },
    {
      name: 'silent: a DPoP-bound token with one key moves about',
      events: [
        call(0, HOME, 'Chrome', { binding: 'dpop', binding_thumbprint: 'key-1' }),
        call(3, AWAY, 'curl', { binding: 'dpop', binding_thumbprint: 'key-1' }),
      ],
      expect: [],
    },
    {
      name: 'silent below a raised threshold',
      parameters: { min_networks: 3 },
      events: [call(0, HOME, 'Chrome'), call(60, AWAY, 'curl')],
      expect: [],
    },
    {
      name: 'silent for a client that is excluded',
      parameters: { exclude_clients: ['mobile-app'] },
      events: [call(0, HOME, 'Chrome'), call(60, AWAY, 'curl')],
      expect: [],
    },
    {
      name: 'fires on the network alone where no second sign is asked for',
      parameters: { require_second_signal: false },
      events: [call(0, HOME, 'Chrome'), call(60, AWAY, 'Chrome')],
      expect: [
        {
          entity: TOKEN,
          episode: LIFETIME_EPISODE,
          verdict: 'replay',
          severity: 'high',
          evidence: {
            networks: [HOME, AWAY],
            foreign_networks: [AWAY],
            ua_families: ['Chrome'],
            countries: [],
            first_foreign_use: '2026-01-05T12:01:00.000Z',
            routes: ['/orders'],
          },
        },
      ],
    },
    ...(['token_validated', 'userinfo_accessed'] as const).map((kind) => ({
      name: `fires on ${kind} from elsewhere by another program`,
      events: [call(0, HOME, 'Chrome'), call(60, AWAY, 'curl', { kind, http: { route: '' } })],
      expect: [replayed()],
    })),
    ...[
      { name: 'one use by another key', first: 'key-1', then: 'key-2' },
      { name: 'bound, but no key is told', first: '', then: '' },
    ].map(({ name, first, then }) => ({
      name: `fires: bound tokens: ${name}`,
      events: [
        call(0, HOME, 'Chrome', { binding: 'dpop', binding_thumbprint: first }),
        call(60, AWAY, 'curl', { binding: 'dpop', binding_thumbprint: then, http: { route: '' } }),
      ],
      expect: [replayed()],
    })),
    {
      name: 'fires: one key, but passed as a bearer token once',
      events: [
        call(0, HOME, 'Chrome', { binding: 'dpop', binding_thumbprint: 'key-1' }),
        call(60, AWAY, 'curl', {
          binding: 'none',
          binding_thumbprint: 'key-1',
          http: { route: '' },
        }),
      ],
      expect: [replayed()],
    },
    {
      name: 'silent: bound to one certificate',
      events: [
        call(0, HOME, 'Chrome', { binding: 'mtls', binding_thumbprint: 'cert-1' }),
        call(60, AWAY, 'curl', { binding: 'mtls', binding_thumbprint: 'cert-1' }),
      ],
      expect: [],
    },
    ...[
      { name: 'a user agent that was not told before', first: '', then: 'curl' },
      { name: 'a user agent that is not told again', first: 'Chrome', then: '' },
    ].map(({ name, first, then }) => ({
      name: `silent: ${name}`,
      events: [call(0, HOME, first), call(60, AWAY, then)],
      expect: [],
    })),
    ...[
      { name: 'a country that was not told before', first: '', then: 'BR' },
      { name: 'a country that is not told again', first: 'DE', then: '' },
      { name: 'another network of one country', first: 'DE', then: 'DE' },
    ].map(({ name, first, then }) => ({
      name: `silent: ${name}`,
      events: [
        call(0, HOME, 'Chrome', { net: { country: first } }),
        call(60, AWAY, 'Chrome', { net: { country: then } }),
      ],
      expect: [],
    })),
  ],
});
