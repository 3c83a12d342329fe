import { z } from 'zod';
import {
  defineDetector,
  exampleTime,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';
import {
  badFactsBy,
  isoMinute,
  minuteOf,
  minutesOfDay,
  rateCandidates,
  rateFacts,
  rateHistory,
  rateTrigger,
  seriesOf,
  SERVICE,
  shownShare,
  splitMinutes,
  topKeys,
  windowSum,
  type Rate,
} from './_rates.ts';

/** Clients and networks kept per minute, and shown. */
const KEYS_PER_MINUTE_MAX = 4;
const KEYS_SHOWN_MAX = 10;

const Parameters = z.strictObject({
  /** Sliding window, ms; whole minutes. */
  window_ms: z.int().min(60_000).max(3_600_000).default(300_000),
  /** Share of the token requests within the window that were answered with 429. */
  min_share: z.number().min(0.001).max(1).default(0.1),
  /** Requests answered with 429 within the window: below it a share means little. */
  min_limited: z.int().min(1).max(1_000_000).default(20),
  /** One client, or one network, with this share of the refused requests is named as the cause. */
  dominant_share: z.number().min(0.5).max(1).default(0.8),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(1_800_000),
  /** How the route of a token endpoint ends, where a gateway tells no endpoint. */
  token_routes: z.array(z.string().min(1)).default(['/token']),
  /** Services (the part of the instance before the first `/`) that are not judged, such as a load test. */
  exclude_services: z.array(z.string().min(1)).default([]),
});
type Params = z.infer<typeof Parameters>;

/** Answers of the token endpoint as the authorization server tells them. */
const ANSWERS: readonly EventKind[] = [
  'token_issued',
  'token_refreshed',
  'token_exchanged',
  'token_request_failed',
];
const KINDS: readonly EventKind[] = [...ANSWERS, 'rate_limited', 'api_accessed'];

/** Requests of the token endpoint: a gateway names a route at most. */
function isTokenRequest(params: Params): Sql {
  const routes = param.strings(params.token_routes);
  return sql`(endpoint = 'token' OR (endpoint = '' AND kind IN ${param.strings(ANSWERS)})
    OR (endpoint IN ('', 'api') AND kind IN ('rate_limited', 'api_accessed')
      AND arrayExists(r -> endsWith(toString(http_route), r), ${routes})))`;
}

function rateOf(params: Params): Rate {
  return {
    entity: SERVICE,
    kinds: KINDS,
    counted: isTokenRequest(params),
    badKinds: ['token_request_failed', 'rate_limited', 'api_accessed'],
    bad: sql`${isTokenRequest(params)} AND ${IS_LIMITED}`,
    windowMs: params.window_ms,
  };
}

const IS_LIMITED = sql`(http_status = 429 OR kind = 'rate_limited')`;

interface Crossing {
  readonly minute: number;
  readonly limited: number;
  readonly requests: number;
}

function crossings({ facts, params, window }: EvaluateInput<Params>): Crossing[] {
  const limitedSeries = seriesOf(facts, 'limited');
  const others = seriesOf(facts, 'answered');
  return minutesOfDay(limitedSeries, window)
    .map((minute) => {
      const limited = windowSum(limitedSeries, minute, params.window_ms);
      return { minute, limited, requests: limited + windowSum(others, minute, params.window_ms) };
    })
    .filter((c) => c.limited >= params.min_limited && c.limited / c.requests >= params.min_share);
}

type Verdict = 'client_loop' | 'one_network' | 'storm';
const LEVELS = {
  client_loop: { severity: 'low', confidence: 80 },
  one_network: { severity: 'medium', confidence: 75 },
  storm: { severity: 'medium', confidence: 80 },
} as const;

function toSignal(input: EvaluateInput<Params>, episode: readonly Crossing[]): Signal[] {
  const { facts, entity, params } = input;
  const [first] = episode;
  const last = episode.at(-1);
  if (first === undefined || last === undefined) return [];
  const worst = episode.reduce((a, b) => (b.limited / b.requests > a.limited / a.requests ? b : a));
  const from = first.minute - Math.ceil(params.window_ms / 60_000) + 1;
  const all = topKeys(facts, 'limited', from, last.minute).reduce((n, k) => n + k.count, 0);
  const clients = topKeys(facts, 'client', from, last.minute);
  const networks = topKeys(facts, 'network', from, last.minute);
  const clientShare = shownShare(clients[0]?.count ?? 0, all);
  const networkShare = shownShare(networks[0]?.count ?? 0, all);
  const verdict: Verdict =
    clientShare >= params.dominant_share
      ? 'client_loop'
      : networkShare >= params.dominant_share
        ? 'one_network'
        : 'storm';
  const who =
    verdict === 'client_loop'
      ? `client ${clients[0]?.key ?? ''} made ${Math.round(clientShare * 100)} % of the refused requests`
      : verdict === 'one_network'
        ? `network ${networks[0]?.key ?? ''} made ${Math.round(networkShare * 100)} % of the refused requests`
        : `no client and no network made most of the refused requests`;
  return [
    {
      episode: isoMinute(first.minute),
      verdict,
      ...LEVELS[verdict],
      summary: `${entity}: ${Math.round((worst.limited / worst.requests) * 100)} % of ${worst.requests} token requests were refused with 429 within ${params.window_ms / 60_000} minutes.`,
      reasons: [who],
      evidence: {
        limited: worst.limited,
        requests: worst.requests,
        share: shownShare(worst.limited, worst.requests),
        worst_until: isoMinute(worst.minute + 1),
        minutes: episode.length,
        clients: clients.slice(0, KEYS_SHOWN_MAX).map((k) => k.key),
        top_client_share: clientShare,
        networks: networks.slice(0, KEYS_SHOWN_MAX).map((k) => k.key),
        top_network_share: networkShare,
      },
      events: input.events.filter((e) => minuteOf(e) >= from && minuteOf(e) <= last.minute),
      tokenRefs: [],
      ofClient: verdict === 'client_loop' ? (clients[0]?.key ?? '') : '',
    },
  ];
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  if (input.params.exclude_services.includes(input.entity)) return [];
  const found = new Map(crossings(input).map((c) => [c.minute, c]));
  return splitMinutes([...found.keys()], input.params.gap_ms).flatMap((episode) =>
    toSignal(
      input,
      episode.flatMap((m) => found.get(m) ?? []),
    ),
  );
}

/** `n` token requests, one a second from `t` on, that the service refused with 429, as `make` names their origin. */
const refused = (
  service: string,
  n: number,
  t: number,
  make: (i: number) => { readonly client: string; readonly network: string },
): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => ({
    t: t + i,
    kind: 'token_request_failed',
    outcome: 'failure',
    endpoint: 'token',
    http: { status: 429 },
    client: { id: make(i).client },
    net: { network: make(i).network },
    source: { id: 'otlp', instance: `${service}/a` },
  }));
const issued = (service: string, n: number, t: number): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => ({
    t: t + i,
    kind: 'token_issued',
    outcome: 'success',
    endpoint: 'token',
    http: { status: 200 },
    client: { id: 'web-shop' },
    source: { id: 'otlp', instance: `${service}/a` },
  }));
/** As a proxy in front of the server tells it: a route, and no client. */
const proxied = (n: number, t: number, route: string): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => ({
    t: t + i,
    kind: 'rate_limited',
    outcome: 'denied',
    error: { code: 'rate_limited' },
    http: { status: 429, route },
    net: { network: `203.0.${i}.0/24` },
    source: { id: 'envoy' },
  }));
const spread = (i: number) => ({ client: `client-${i % 4}`, network: `198.51.${i % 5}.0/24` });
const looping = (i: number) => ({
  client: i % 5 === 0 ? 'web-shop' : 'cron-job',
  network: `198.51.${i % 5}.0/24`,
});
const flooding = (i: number) => ({
  client: `guess-${i % 4}`,
  network: i % 5 === 0 ? '198.51.0.0/24' : '203.0.113.0/24',
});
const networks = [0, 1, 2, 3].map((i) => `198.51.${i}.0/24`);
const expected = (
  entity: string,
  t: number,
  verdict: Verdict,
  evidence: Readonly<Record<string, unknown>>,
) => ({
  entity,
  episode: exampleTime(t),
  verdict,
  severity: LEVELS[verdict].severity,
  evidence: { worst_until: exampleTime(t + 60), minutes: 1, ...evidence },
});
const SPREAD = {
  clients: ['client-0', 'client-1', 'client-2', 'client-3'],
  top_client_share: 0.25,
  networks,
  top_network_share: 0.2,
};

export default defineDetector<Params>({
  id: 'token_endpoint_storm',
  version: 1,
  title: 'Token endpoint refuses by rate limit',
  family: 'operations',
  severity: 'medium',
  confidence: 80,
  description:
    'A share of all token requests is answered with 429 within a sliding window: a flood, a limit that is too low, or one client that asks again and again without a pause.',
  references: ['RFC 6819 section 4.4.1.11', 'RFC 6585 section 4', 'ATT&CK T1499.002'],
  entity: 'source',
  verdicts: {
    storm:
      'Many clients from many networks: a retry storm after an outage, a flood, or a limit too low.',
    one_network: 'One network made most of the refused requests, for several clients.',
    client_loop:
      'One client made most of the refused requests: a defect of that client, named in clients.',
  },
  evidence: {
    limited: 'Requests answered with 429 in the window where their share was highest.',
    requests: 'Token requests in that window (within one percent where there are many thousands).',
    share: 'limited / requests.',
    worst_until: 'End of that window.',
    minutes: 'Minutes whose window reached the thresholds.',
    clients:
      'Clients that were refused, most first (at most 10; of each minute the four with most refusals count).',
    top_client_share: 'Share of the refused requests that the first of them made.',
    networks: 'Networks that were refused, in the same way.',
    top_network_share: 'Share of the refused requests that the first of them made.',
  },
  needs: ['kind', 'http.status', 'endpoint', 'client.id'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 1_800_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  screen: (params) => sql`${kindIn(KINDS)} AND ${isTokenRequest(params)}`,
  trigger: (params) => rateTrigger(rateOf(params)),
  candidates: (scope, params) => rateCandidates(scope, rateOf(params), params.min_limited),
  history: (selection, params) => rateHistory(selection, rateOf(params)),
  facts: (selection, params) => {
    const rate = rateOf(params);
    const client = sql`toString(if(client_id = '', requested_client_id, client_id))`;
    const by = (name: string, key: Sql): Sql =>
      sql`SELECT * FROM (${badFactsBy(selection, rate, name, key, KEYS_PER_MINUTE_MAX)})`;
    return joinSql(
      [
        rateFacts(selection, rate, sql`if(${IS_LIMITED}, 'limited', 'answered')`, sql`''`),
        by('client', client),
        by('network', sql`toString(net_network)`),
      ],
      ' UNION ALL ',
    );
  },
  evaluate,
  falsePositives: [
    'Every client asks for a new token at once after an outage or a rotation of keys: it ends by itself.',
    'A load test: list its service in exclude_services.',
    'Not counted: a device that polls too early is told slow_down with status 400 (RFC 8628 section 3.5).',
  ],
  examples: [
    {
      name: 'fires at the twentieth refused request of many clients, told in any order',
      events: refused('login-a', 20, 0, spread).reverse(),
      expect: [
        expected('login-a', 0, 'storm', {
          limited: 20,
          requests: 20,
          share: 1,
          ...SPREAD,
        }),
      ],
    },
    {
      name: 'one client that loops is named',
      events: [...refused('login-b', 20, 0, looping), ...issued('login-b', 20, 0)],
      expect: [
        expected('login-b', 0, 'client_loop', {
          limited: 20,
          requests: 40,
          share: 0.5,
          clients: ['cron-job', 'web-shop'],
          top_client_share: 0.8,
          networks,
          top_network_share: 0.2,
        }),
      ],
    },
    {
      name: 'one network that floods for many clients is named',
      events: refused('login-c', 20, 0, flooding),
      expect: [
        expected('login-c', 0, 'one_network', {
          limited: 20,
          requests: 20,
          share: 1,
          clients: ['guess-0', 'guess-1', 'guess-2', 'guess-3'],
          top_client_share: 0.25,
          networks: ['203.0.113.0/24', '198.51.0.0/24'],
          top_network_share: 0.8,
        }),
      ],
    },
    {
      name: 'the window slides, and a pause makes another episode',
      events: [
        ...refused('login-d', 10, 0, spread),
        ...refused('login-d', 10, 240, spread),
        ...refused('login-d', 20, 7_200, spread),
      ],
      expect: [
        expected('login-d', 240, 'storm', {
          limited: 20,
          requests: 20,
          share: 1,
          clients: SPREAD.clients,
          top_client_share: 0.3,
          networks,
          top_network_share: 0.2,
        }),
        expected('login-d', 7_200, 'storm', {
          limited: 20,
          requests: 20,
          share: 1,
          ...SPREAD,
        }),
      ],
    },
    {
      name: 'fires for a proxy that knows the route alone',
      parameters: { min_limited: 3 },
      events: proxied(3, 0, '/realms/shop/protocol/openid-connect/token'),
      expect: [
        expected('envoy', 0, 'storm', {
          limited: 3,
          requests: 3,
          share: 1,
          clients: [],
          top_client_share: 0,
          networks: ['203.0.0.0/24', '203.0.1.0/24', '203.0.2.0/24'],
          top_network_share: 0.333,
        }),
      ],
    },
    {
      name: 'fires exactly at a tenth',
      parameters: { min_limited: 2 },
      events: [...refused('login-e', 2, 0, spread), ...issued('login-e', 18, 0)],
      expect: [
        expected('login-e', 0, 'storm', {
          limited: 2,
          requests: 20,
          share: 0.1,
          clients: ['client-0', 'client-1'],
          top_client_share: 0.5,
          networks: networks.slice(0, 2),
          top_network_share: 0.5,
        }),
      ],
    },
    {
      name: 'silent: one token more was issued',
      parameters: { min_limited: 2 },
      events: [...refused('login-e', 2, 0, spread), ...issued('login-e', 19, 0)],
      expect: [],
    },
    {
      name: 'silent: nineteen refused requests',
      events: refused('login-f', 19, 0, spread),
      expect: [],
    },
    {
      name: 'silent: twenty, but never within five minutes',
      events: [...refused('login-g', 10, 0, spread), ...refused('login-g', 10, 300, spread)],
      expect: [],
    },
    {
      name: 'silent: other errors, polling devices and other routes',
      events: [
        ...refused('login-h', 30, 0, spread).map((e) => ({
          ...e,
          http: { status: 400 },
          error: { oauth_error: 'slow_down' },
          outcome: 'pending' as const,
        })),
        ...proxied(30, 0, '/orders/tokens'),
      ],
      expect: [],
    },
    {
      name: 'silent: an excluded service',
      parameters: { exclude_services: ['login-a'] },
      events: refused('login-a', 30, 0, spread),
      expect: [],
    },
  ],
});
