import { z } from 'zod';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EntityFact,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { known } from './_origin.ts';
import { aroundNew, DAY_MS, episodeOf, factsNamed, inWindow, isoMs, msOf } from './_windows.ts';

const KINDS: readonly EventKind[] = ['token_issued'];

const LISTED_MAX = 20;
/** First uses by network that are read per client and day. */
const NETWORKS_READ_MAX = 300;
/**
 * A network that the client used so shortly before what is new needs no look: it spares the clients that get tokens all
 * the time. Less than any baseline reaches back.
 */
const RECENT_MS = 600_000;
/** What is new later than this after its first event is looked at in any case, ms. */
const BATCH_MS = DAY_MS / 2;

const Parameters = z.strictObject({
  /** How far back of the day a network counts as known, ms. */
  baseline_ms: z
    .int()
    .min(2 * DAY_MS)
    .max(90 * DAY_MS)
    .default(30 * DAY_MS),
  /** How long the client must have been in use before, so that its networks can be called known, ms. */
  learning_ms: z
    .int()
    .min(3_600_000)
    .max(90 * DAY_MS)
    .default(10 * DAY_MS),
  /** A client with at least this many known networks moves about by nature. */
  roaming_networks: z.int().min(2).max(10_000).default(10),
  /** Clients that run anywhere, such as CI runners. */
  exclude_clients: z.array(z.string()).default([]),
  /** Networks that are known to be one's own; as events name them, `AS64500` or a prefix. */
  known_networks: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const isUse = sql`kind = 'token_issued' AND grant_type = 'client_credentials' AND outcome = 'success'
  AND client_id != '' AND net_network != ''`;

function candidates(scope: CandidateScope, params: Params): Sql {
  const uses = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(scope.tenant)} AND ${isUse}`;
  const fresh = sql`${uses} AND ${scope.condition}`;
  const start = aroundNew({ ...scope, timeTo: scope.timeFrom }, 0, BATCH_MS);
  const recent = sql`SELECT client_id, net_network ${uses}
    AND ${aroundNew({ ...scope, timeTo: scope.timeFrom - 1n }, RECENT_MS, 0)}
    AND client_id IN (SELECT client_id ${fresh}) AND NOT (${scope.condition})`;
  // What comes late makes a network known, or the client long enough in use, for what came after it.
  return sql`
    SELECT client_id AS entity, time AS at ${fresh} AND NOT (${start} AND (client_id, net_network) IN (${recent}))
    UNION ALL
    SELECT client_id AS entity, time AS at ${uses} AND ${aroundNew(scope, 0, params.baseline_ms + DAY_MS)}
      AND NOT (${scope.condition}) AND client_id IN (SELECT client_id ${fresh})`;
}

function rowsOf(selection: HistorySelection): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)} AND ${isUse}
    AND client_id IN ${param.strings(selection.entities)}`;
}

function history(selection: HistorySelection): Sql {
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT client_id AS entity, min((time, event_id)) AS e ${rowsOf(selection)} AND ${inWindow(selection)}
      GROUP BY client_id, net_network ORDER BY e LIMIT ${param.uint(NETWORKS_READ_MAX)} BY client_id)`;
}

/** First use by network over the baseline and the day. */
function facts(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT client_id AS entity, 'network' AS name, net_network AS key, min(time) AS at, 1 AS value
    ${rowsOf(selection)} AND ${inWindow(selection, params.baseline_ms)}
    GROUP BY client_id, net_network`;
}

type Verdict = 'new_network' | 'roaming_client';

function earliest(facts: readonly EntityFact[]): EntityFact | undefined {
  return facts.reduce<EntityFact | undefined>(
    (a, b) => (a === undefined || b.at < a.at ? b : a),
    undefined,
  );
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const networks = factsNamed(input.facts, 'network');
  const first = earliest(networks);
  const isOld = (f: EntityFact): boolean => window !== undefined && f.at < window.from;
  const before = networks.filter(isOld);
  const fresh = new Set(
    networks
      .filter((f) => !isOld(f) && first !== undefined)
      .filter((f) => msOf(f) - (first === undefined ? 0 : msOf(first)) >= params.learning_ms)
      .map((f) => f.key)
      .filter((n) => !params.known_networks.includes(n)),
  );
  const events = input.events.filter((e) => fresh.has(e.net.network));
  if (events.length === 0 || first === undefined) return [];
  const isRoaming = before.length >= params.roaming_networks;
  const verdict: Verdict = isRoaming ? 'roaming_client' : 'new_network';
  const names = known(events.map((e) => e.net.network));
  return [
    {
      episode: episodeOf(events),
      verdict,
      severity: isRoaming ? 'info' : 'medium',
      confidence: isRoaming ? 20 : 50,
      summary: `Client ${entity} got tokens with its own credentials from ${names.length} network(s) that it had not used before.`,
      reasons: [
        ...names.slice(0, 10).map((n) => `new: ${n}`),
        `${before.length} network(s) known since ${isoMs(msOf(first))}`,
      ],
      evidence: {
        new_networks: names.slice(0, LISTED_MAX),
        known_networks: known(before.map((f) => f.key)).slice(0, LISTED_MAX),
        known_network_count: before.length,
        in_use_since: isoMs(msOf(first)),
        countries: known(events.map((e) => e.net.country)).slice(0, LISTED_MAX),
        user_agents: known(events.map((e) => e.net.ua_family)).slice(0, LISTED_MAX),
      },
      events,
      tokenRefs: known(events.flatMap((e) => e.tokens.map((t) => t.ref))),
    },
  ];
}

const HOME = '198.51.100.0/24';
const AWAY = '203.0.113.0/24';
const DAY_S = DAY_MS / 1_000;
const use = (t: number, network = HOME, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'client_credentials',
  client: { id: 'billing' },
  scopes_granted: ['invoices'],
  net: { network, country: 'DE', ua_family: 'curl' },
  ...more,
});
const expected = (
  t: number,
  verdict: Verdict,
  newNetworks: string[],
  knownNetworks: string[],
  since: number,
) => ({
  entity: 'billing',
  episode: exampleTime(t),
  verdict,
  severity: verdict === 'new_network' ? ('medium' as const) : ('info' as const),
  evidence: {
    new_networks: newNetworks,
    known_networks: knownNetworks,
    known_network_count: knownNetworks.length,
    in_use_since: exampleTime(since),
    countries: ['DE'],
    user_agents: ['curl'],
  },
});
const runners = Array.from({ length: 10 }, (_, i) => `198.51.${i}.0/24`);

export default defineDetector<Params>({
  id: 'client_new_network',
  version: 1,
  title: "A client's credentials used from a new network",
  family: 'credential_abuse',
  severity: 'medium',
  confidence: 50,
  description:
    'A client got a token with its own credentials from a network (an autonomous system where one is known, else a prefix) that it had not used within a month, though it has been in use for longer than ten days. Servers seldom move; a stolen secret does.',
  references: ['RFC 6749 section 10.1', 'RFC 6819 section 4.3.5', 'ATT&CK T1078.004'],
  entity: 'client',
  verdicts: {
    new_network: 'From a network that is new for a client which uses few.',
    roaming_client: 'From a new network, but the client uses many anyway.',
  },
  evidence: {
    new_networks: 'Networks that are new on that day (at most 20).',
    known_networks:
      'Networks that the client used within the baseline before that day (at most 20).',
    known_network_count: 'Their number.',
    in_use_since: 'First use within the baseline, ISO time.',
    countries: 'Countries of the new networks (at most 20).',
    user_agents: 'User-agent families from there (at most 20).',
  },
  needs: ['net.network', 'client.id', 'grant_type', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: DAY_MS,
  parameters: Parameters,
  concerns: (fact) => fact.kind === 'token_issued' && fact.outcome === 'success',
  screen: () => sql`(kind = 'token_issued' AND grant_type = 'client_credentials')`,
  candidates,
  history: (selection) => history(selection),
  facts,
  evaluate,
  falsePositives: [
    'A deployment moves to another data centre or cloud region.',
    'CI runners and serverless functions: list them in exclude_clients, or their networks in known_networks.',
    'Not reported: clients that have been in use for less than ten days, and tokens that people asked for.',
  ],
  examples: [
    {
      name: 'fires: a new network after ten days in use',
      events: [use(0, AWAY), use(-5 * DAY_S), use(-10 * DAY_S), use(60, AWAY)],
      expect: [expected(0, 'new_network', [AWAY], [HOME], -10 * DAY_S)],
    },
    {
      name: 'silent while learning: ten days less a second',
      events: [use(0, AWAY), use(-10 * DAY_S + 1)],
      expect: [],
    },
    {
      name: 'silent: the network was used 29 days ago',
      events: [use(-29 * DAY_S, AWAY), use(-29 * DAY_S), use(0, AWAY)],
      expect: [],
    },
    {
      name: 'fires: the network was last used longer ago than the baseline',
      events: [use(-31 * DAY_S, AWAY), use(-22 * DAY_S), use(0, AWAY)],
      expect: [expected(0, 'new_network', [AWAY], [HOME], -22 * DAY_S)],
    },
    {
      name: 'info: a client that uses many networks',
      events: [
        ...runners.map((n, i) => use(-11 * DAY_S + i * 3_600, n)),
        use(0, AWAY),
        use(5, HOME),
      ],
      expect: [
        expected(0, 'roaming_client', [HOME, AWAY].sort(), [...runners].sort(), -11 * DAY_S),
      ],
    },
    {
      name: 'nine known networks are few',
      events: [...runners.slice(1).map((n) => use(-11 * DAY_S, n)), use(0, AWAY)],
      expect: [expected(0, 'new_network', [AWAY], runners.slice(1), -11 * DAY_S)],
    },
    {
      name: 'silent: refused, another grant, no network',
      events: [
        use(-20 * DAY_S),
        use(0, AWAY, { kind: 'token_request_failed', outcome: 'failure' }),
        use(1, AWAY, { grant_type: 'authorization_code' }),
        use(2, ''),
      ],
      expect: [],
    },
    {
      name: 'silent: an excluded client, a network of one’s own',
      parameters: { exclude_clients: ['ci'], known_networks: [AWAY] },
      events: [
        use(-20 * DAY_S),
        use(0, AWAY),
        use(-20 * DAY_S, HOME, { client: { id: 'ci' } }),
        use(0, runners[0], { client: { id: 'ci' } }),
      ],
      expect: [],
    },
  ],
});
