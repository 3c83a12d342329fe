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
import { kindIn } from './_ledger.ts';
import { timeMs } from './_origin.ts';
import {
  aroundNew,
  burstsOf,
  DAY_MS,
  factsDuring,
  factsNamed,
  inWindow,
  isDuring,
  isoMs,
  minutesReaching,
  minuteSql,
  MINUTE_MS,
  msOf,
  sumByKey,
  type Burst,
} from './_windows.ts';

/** Requests at which a client authenticates; introspection is left out, since most of it is no failure and there is much. */
const FAILURE_KINDS: readonly EventKind[] = ['token_request_failed', 'par_pushed'];
const SUCCESS_KINDS: readonly EventKind[] = ['token_issued', 'token_refreshed', 'token_exchanged'];
const ROTATION_KINDS: readonly EventKind[] = ['client_credential_changed', 'secret_changed'];
const KINDS: readonly EventKind[] = [...FAILURE_KINDS, ...SUCCESS_KINDS, ...ROTATION_KINDS];

const NETWORKS_LISTED_MAX = 20;
const NETWORKS_READ_MAX = 200;
const ROTATIONS_READ_MAX = 100;

const Parameters = z.strictObject({
  /** Refused client authentications within the window. */
  min_failures: z.int().min(2).max(100_000).default(20),
  /** Counted in whole minutes, ms. */
  window_ms: z
    .int()
    .min(MINUTE_MS)
    .max(6 * 3_600_000)
    .default(3_600_000),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(MINUTE_MS).max(DAY_MS).default(3_600_000),
  /** How far back of the day a network that the client used well is known, ms. */
  baseline_ms: z
    .int()
    .min(DAY_MS)
    .max(30 * DAY_MS)
    .default(7 * DAY_MS),
  /** A success this long after the last refusal still belongs to it, and a change of the secret this long before or after, ms. */
  success_within_ms: z
    .int()
    .min(MINUTE_MS)
    .max(6 * 3_600_000)
    .default(3_600_000),
  /** The server's own error codes that are no guess at a secret: the client is unknown or switched off. */
  ignored_error_codes: z.array(z.string()).default(['client_not_found', 'client_disabled']),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

function isFailure(params: Params): Sql {
  return sql`(error_oauth_error = 'invalid_client' OR error_code IN ('invalid_client', 'invalid_client_credentials'))
    AND outcome IN ('failure', 'denied') AND client_id != '' AND error_code NOT IN ${param.strings(params.ignored_error_codes)}`;
}

const isSuccess = sql`outcome = 'success' AND client_auth_method != 'none'`;

function candidates(scope: CandidateScope, params: Params): Sql {
  const tenant = param.string(scope.tenant);
  const failures = sql`FROM grantscope.auth_events WHERE tenant = ${tenant} AND ${kindIn(FAILURE_KINDS)} AND ${isFailure(params)}`;
  const decisive = sql`SELECT client_id FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn([...SUCCESS_KINDS, ...ROTATION_KINDS])} AND ${scope.condition} AND outcome = 'success'`;
  const isMany = sql`count() >= ${param.uint(params.min_failures)}`;
  const near = aroundNew(scope, params.window_ms, params.window_ms);
  const far = sql`${aroundNew(scope, params.window_ms + DAY_MS + params.success_within_ms, params.baseline_ms + DAY_MS)}
    AND client_id IN (${decisive})`;
  // A success or a new secret that comes late may say what the refusals around it were: their minutes are looked at.
  return sql`
    SELECT client_id AS entity, time AS at ${failures} AND ${scope.condition}
      AND client_id IN (SELECT client_id ${failures} AND ${near} GROUP BY client_id HAVING ${isMany})
    UNION ALL
    SELECT client_id AS entity, arrayJoin(groupUniqArray(${minuteSql})) AS at ${failures} AND ${far}
    GROUP BY client_id HAVING ${isMany}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const rows = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)}
    AND client_id IN ${param.strings(selection.entities)}`;
  const failures = sql`${rows} AND ${kindIn(FAILURE_KINDS)} AND ${inWindow(selection)} AND ${isFailure(params)}`;
  // One a minute and one of each network stand for all; the facts count them.
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT client_id AS entity, min((time, event_id)) AS e ${failures} GROUP BY client_id, toStartOfMinute(time)
      UNION ALL
      SELECT client_id AS entity, min((time, event_id)) AS e ${failures} AND net_network != ''
      GROUP BY client_id, net_network ORDER BY e LIMIT ${param.uint(NETWORKS_READ_MAX)} BY client_id
      UNION ALL
      SELECT client_id AS entity, (time, event_id) AS e
      ${rows} AND ${kindIn(ROTATION_KINDS)} AND ${inWindow(selection, DAY_MS)} AND outcome = 'success'
      ORDER BY e LIMIT ${param.uint(ROTATIONS_READ_MAX)} BY client_id)`;
}

function facts(selection: HistorySelection, params: Params): Sql {
  const rows = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)}
    AND client_id IN ${param.strings(selection.entities)}`;
  const failures = sql`${rows} AND ${kindIn(FAILURE_KINDS)} AND ${inWindow(selection)} AND ${isFailure(params)}`;
  const failing = sql`(client_id, net_network) IN (SELECT client_id, net_network ${failures})`;
  const successes = sql`${rows} AND ${kindIn(SUCCESS_KINDS)} AND ${inWindow(selection, params.baseline_ms)} AND ${isSuccess}`;
  return sql`
    SELECT client_id AS entity, 'failures' AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${failures} GROUP BY client_id, at
    UNION ALL
    SELECT client_id AS entity, 'network' AS name, net_network AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${failures} GROUP BY client_id, net_network, at
    UNION ALL
    SELECT client_id AS entity, 'success' AS name, net_network AS key, ${minuteSql} AS at, 1 AS value
    ${successes} AND net_network != '' AND ${failing} GROUP BY client_id, net_network, at
    UNION ALL
    SELECT client_id AS entity, 'elsewhere' AS name, '' AS key, min(time) AS at, 1 AS value
    ${successes} AND net_network != '' AND NOT (${failing}) GROUP BY client_id`;
}

interface Origins {
  readonly networks: readonly [string, number][];
  /** Networks of the refusals from which the client had authenticated well before. */
  readonly knownBefore: readonly string[];
  /** Networks from which it then succeeded, and when first, ms. */
  readonly succeeded: readonly (readonly [string, number])[];
  /** Well in use from other networks before. */
  readonly isUsedElsewhere: boolean;
  readonly isRotated: boolean;
}

function originsOf(burst: Burst, input: EvaluateInput<Params>): Origins {
  const { params, facts: all, events } = input;
  const networks = sumByKey(factsDuring(factsNamed(all, 'network'), burst));
  const names = networks.map(([n]) => n);
  const successes = factsNamed(all, 'success').filter((f) => names.includes(f.key));
  const end = burst.lastMs + MINUTE_MS + params.success_within_ms;
  const firstAfter = (network: string): EntityFact | undefined =>
    successes.find((f) => f.key === network && msOf(f) >= burst.fromMs && msOf(f) < end);
  const within = params.success_within_ms;
  return {
    networks,
    knownBefore: names.filter((n) => successes.some((f) => f.key === n && msOf(f) < burst.fromMs)),
    succeeded: names.flatMap((n) => {
      const first = firstAfter(n);
      return first === undefined ? [] : [[n, msOf(first)] as const];
    }),
    isUsedElsewhere: all.some((f) => f.name === 'elsewhere' && msOf(f) < burst.fromMs),
    isRotated: events.some(
      (e) =>
        ROTATION_KINDS.includes(e.kind) &&
        timeMs(e) >= burst.fromMs - within &&
        timeMs(e) < burst.lastMs + MINUTE_MS + within,
    ),
  };
}

type Verdict = 'guessed' | 'guessing' | 'stale_secret';

function verdictOf(o: Origins): Verdict {
  const [only] = o.networks;
  const isOne = o.networks.length === 1 && only !== undefined && only[0] !== '';
  if (isOne && o.isRotated) return 'stale_secret';
  const newcomers = o.succeeded.filter(([n]) => !o.knownBefore.includes(n));
  if (newcomers.length > 0 && o.isUsedElsewhere) return 'guessed';
  return isOne && (o.succeeded.length > 0 || o.knownBefore.length > 0)
    ? 'stale_secret'
    : 'guessing';
}

const SEVERITY = { guessed: 'high', guessing: 'medium', stale_secret: 'low' } as const;
const CONFIDENCE = { guessed: 60, guessing: 60, stale_secret: 80 } as const;

function toSignal(burst: Burst, input: EvaluateInput<Params>): Signal {
  const { entity, events } = input;
  const origins = originsOf(burst, input);
  const verdict = verdictOf(origins);
  const names = origins.networks.map(([n]) => n).filter((n) => n !== '');
  const success = Math.min(...origins.succeeded.map(([, ms]) => ms));
  const reasons = {
    guessed: [
      'then it authenticated from a network that it had never used, while others are in use',
    ],
    guessing: [`refused from ${names.length} network(s)`],
    stale_secret: [
      origins.isRotated
        ? 'the secret was changed around that time'
        : 'one network, from which the client authenticates well otherwise',
    ],
  };
  return {
    episode: isoMs(burst.reachedMs),
    verdict,
    severity: SEVERITY[verdict],
    confidence: CONFIDENCE[verdict],
    summary: `Client ${entity} was refused ${burst.total} times for a wrong secret or key.`,
    reasons: reasons[verdict],
    evidence: {
      failures: burst.total,
      networks: names.slice(0, NETWORKS_LISTED_MAX),
      network_count: names.length,
      succeeded_at: Number.isFinite(success) ? isoMs(success) : '',
      secret_changed: origins.isRotated,
    },
    events: events.filter((e) => FAILURE_KINDS.includes(e.kind) && isDuring(e, burst)),
    tokenRefs: [],
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const perMinute = factsNamed(input.facts, 'failures');
  const limits = { windowMs: params.window_ms, gapMs: params.gap_ms, window };
  const minutes = minutesReaching(perMinute, params.min_failures, limits);
  return burstsOf(minutes, perMinute, limits).map((burst) => toSignal(burst, input));
}

const HOME = '198.51.100.0/24';
const AWAY = '203.0.113.0/24';
const refused = (t: number, network = AWAY, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_request_failed',
  outcome: 'failure',
  error: { oauth_error: 'invalid_client' },
  client: { id: 'billing', auth_method: 'client_secret_basic' },
  net: { network },
  ...more,
});
const issued = (t: number, network = HOME, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'client_credentials',
  client: { id: 'billing', auth_method: 'client_secret_basic' },
  net: { network },
  ...more,
});
const many = (n: number, step: number, network = AWAY): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => refused(i * step, network));
const expected = (
  t: number,
  verdict: Verdict,
  failures: number,
  more: { networks?: string[]; succeededAt?: number; changed?: boolean } = {},
) => ({
  entity: 'billing',
  episode: exampleTime(t),
  verdict,
  severity: SEVERITY[verdict],
  evidence: {
    failures,
    networks: more.networks ?? [AWAY],
    network_count: (more.networks ?? [AWAY]).length,
    succeeded_at: more.succeededAt === undefined ? '' : exampleTime(more.succeededAt),
    secret_changed: more.changed ?? false,
  },
});

export default defineDetector<Params>({
  id: 'client_secret_guessing',
  version: 1,
  title: "A client's secret tried out",
  family: 'credential_abuse',
  severity: 'high',
  confidence: 60,
  description:
    'One client was refused with invalid_client many times within an hour: somebody tries secrets, or a deployment holds an old one. Which of the two is told by the networks, by what succeeded before and after, and by a change of the secret.',
  references: ['RFC 6819 section 4.3.5', 'RFC 6749 section 2.3.1', 'ATT&CK T1110.001'],
  entity: 'client',
  verdicts: {
    guessed:
      'After the refusals a network that the client had never used succeeded, while others are in use.',
    guessing: 'Many refusals; nothing tells that it is a deployment.',
    stale_secret:
      'All from one network of the client, or around a change of its secret: a deployment with an old secret.',
  },
  evidence: {
    failures: 'Refused authentications in the episode.',
    networks: 'Networks of the refusals, busiest first (at most 20).',
    network_count: 'Their number.',
    succeeded_at:
      'First success from one of these networks since then, to the minute, ISO time; empty where there is none.',
    secret_changed: "Whether the client's secret was changed around that time.",
  },
  needs: ['error.oauth_error', 'client.id', 'net.network', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 3_600_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  trigger: (params) => ({
    condition: sql`${kindIn(FAILURE_KINDS)} AND ${isFailure(params)}`,
    reachMs: params.window_ms + DAY_MS + params.success_within_ms,
  }),
  candidates,
  history,
  facts,
  evaluate,
  falsePositives: [
    'A fleet in many networks that holds an old secret: it ends when the new one is rolled out.',
    'A new data centre whose first start had the wrong secret reads as guessed.',
    'Not reported: unknown and disabled clients (ignored_error_codes).',
  ],
  examples: [
    {
      name: 'fires at the twentieth refusal within an hour',
      events: many(20, 180).reverse(),
      expect: [expected(57 * 60, 'guessing', 20)],
    },
    {
      name: 'silent: nineteen within an hour',
      events: many(19, 180),
      expect: [],
    },
    {
      name: 'silent: twenty, but never twenty within an hour',
      events: many(20, 240),
      expect: [],
    },
    {
      name: 'silent: a repeated event counts once',
      events: [...many(19, 60), ...many(19, 60).map((e, i) => ({ ...e, id: `${i}` }))],
      expect: [],
    },
    {
      name: 'two networks, each in use before, are no single deployment',
      events: [issued(-7_200), issued(-7_200, AWAY), ...many(15, 60), ...many(10, 60, HOME)],
      expect: [expected(9 * 60, 'guessing', 25, { networks: [AWAY, HOME] })],
    },
    {
      name: 'fires: guessed, since a new network succeeds while the old one is in use',
      events: [issued(-3_600), ...many(25, 60), issued(1_500, AWAY), issued(1_560)],
      expect: [expected(19 * 60, 'guessed', 25, { succeededAt: 1_500 })],
    },
    {
      name: 'a success too late after the refusals says nothing',
      events: [issued(-3_600), ...many(20, 60), issued(20 * 60 + 3_600, AWAY)],
      expect: [expected(19 * 60, 'guessing', 20)],
    },
    {
      name: 'an old secret: one network that succeeded before',
      events: [issued(-3_600, AWAY), ...many(20, 60)],
      expect: [expected(19 * 60, 'stale_secret', 20)],
    },
    {
      name: 'an old secret: the only network there is ends in success',
      events: [...many(20, 60), issued(1_200, AWAY)],
      expect: [expected(19 * 60, 'stale_secret', 20, { succeededAt: 1_200 })],
    },
    {
      name: 'an old secret: a rotation, then a new data centre gets it right',
      events: [
        issued(-3_600),
        {
          t: -600,
          kind: 'client_credential_changed',
          outcome: 'success',
          client: { id: 'billing' },
        },
        ...many(20, 60),
        issued(1_200, AWAY),
      ],
      expect: [expected(19 * 60, 'stale_secret', 20, { succeededAt: 1_200, changed: true })],
    },
    {
      name: 'silent: other errors, unknown clients, excluded clients',
      parameters: { exclude_clients: ['ci'] },
      events: Array.from({ length: 25 }, (_, i) => [
        refused(i, AWAY, { error: { oauth_error: 'invalid_grant' } }),
        refused(i, AWAY, { error: { code: 'client_not_found', oauth_error: 'invalid_client' } }),
        refused(i, AWAY, { client: { id: '' }, requested_client_id: 'billing' }),
        refused(i, AWAY, { client: { id: 'ci' } }),
      ]).flat(),
      expect: [],
    },
    {
      name: 'the window slides over midnight',
      events: many(20, 60).map((e) => ({ ...e, t: e.t + 43_200 - 600 })),
      expect: [expected(43_200 + 9 * 60, 'guessing', 20)],
    },
  ],
});
