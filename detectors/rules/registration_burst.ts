import { z } from 'zod';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { nilRef } from './_ledger.ts';
import { hostOf } from './_hosts.ts';
import { known } from './_origin.ts';
import {
  aroundNew,
  burstsOf,
  DAY_MS,
  factsDuring,
  factsNamed,
  inWindow,
  isDuring,
  isoMs,
  MINUTE_MS,
  minutesReaching,
  minuteSql,
  sumByKey,
  type Burst,
} from './_windows.ts';

const KINDS: readonly EventKind[] = ['client_registered'];

const LISTED_MAX = 20;
const EVENTS_READ_MAX = 500;

const Parameters = z.strictObject({
  /** Clients registered within the window. */
  min_registrations: z.int().min(2).max(100_000).default(15),
  /** Counted in whole minutes, ms. */
  window_ms: z
    .int()
    .min(MINUTE_MS)
    .max(6 * 3_600_000)
    .default(3_600_000),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(MINUTE_MS).max(DAY_MS).default(3_600_000),
  /** A network with at least this share of the registrations is named as their source, %. */
  one_network_percent: z.int().min(1).max(100).default(80),
  /** Networks that may, such as those of one's own deployment tools; as events name them. */
  exclude_networks: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** The server where clients are registered. */
const SERVER = sql`multiIf(issuer != '', toString(issuer), source_instance != '', toString(source_instance), toString(source_id))`;

/** At the registration endpoint (RFC 7591), by nobody in particular: an administrator's own work is left out. */
function isDynamic(params: Params): Sql {
  return sql`kind = 'client_registered' AND endpoint = 'registration' AND outcome = 'success'
    AND actor_ref = ${nilRef} AND net_network NOT IN ${param.strings(params.exclude_networks)}`;
}

function candidates(scope: CandidateScope, params: Params): Sql {
  const rows = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(scope.tenant)} AND ${isDynamic(params)}`;
  return sql`
    SELECT server AS entity, at FROM (SELECT ${SERVER} AS server, time AS at ${rows} AND ${scope.condition})
    WHERE server IN (SELECT ${SERVER} AS server ${rows} AND ${aroundNew(scope, params.window_ms, params.window_ms)}
      GROUP BY server HAVING count() >= ${param.uint(params.min_registrations)})`;
}

function rowsOf(selection: HistorySelection, params: Params): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)} AND ${isDynamic(params)}
    AND ${inWindow(selection)} AND ${SERVER} IN ${param.strings(selection.entities)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const rows = rowsOf(selection, params);
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT ${SERVER} AS entity, min((time, event_id)) AS e ${rows} GROUP BY entity, toStartOfMinute(time)
      UNION ALL
      SELECT ${SERVER} AS entity, min((time, event_id)) AS e ${rows} GROUP BY entity, client_id
      ORDER BY e LIMIT ${param.uint(EVENTS_READ_MAX)} BY entity)`;
}

function facts(selection: HistorySelection, params: Params): Sql {
  const rows = rowsOf(selection, params);
  return sql`
    SELECT ${SERVER} AS entity, 'registrations' AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${rows} GROUP BY entity, at
    UNION ALL
    SELECT ${SERVER} AS entity, 'network' AS name, net_network AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${rows} GROUP BY entity, net_network, at`;
}

type Verdict = 'one_network' | 'many_networks';

function toSignal(burst: Burst, input: EvaluateInput<Params>): Signal {
  const { entity, params } = input;
  const events = input.events.filter((e) => isDuring(e, burst));
  const networks = sumByKey(factsDuring(factsNamed(input.facts, 'network'), burst));
  const [busiest] = networks;
  const isOne =
    busiest !== undefined &&
    busiest[0] !== '' &&
    busiest[1] * 100 >= burst.total * params.one_network_percent;
  const verdict: Verdict = isOne ? 'one_network' : 'many_networks';
  const names = networks.map(([n]) => n).filter((n) => n !== '');
  const hosts = known(
    events.flatMap((e) => (e.ext['redirect_uris'] ?? '').split(/\s+/).map((u) => hostOf(u))),
  );
  return {
    episode: isoMs(burst.reachedMs),
    verdict,
    severity: 'high',
    confidence: isOne ? 65 : 55,
    summary: `${burst.total} clients were registered at ${entity} in a burst.`,
    reasons: isOne
      ? [`${busiest[1]} of them from ${busiest[0]}`]
      : [`from ${names.length} known network(s), none of which stands out`],
    evidence: {
      registrations: burst.total,
      clients: known(events.map((e) => e.client.id)).slice(0, LISTED_MAX),
      networks: names.slice(0, LISTED_MAX),
      network_count: names.length,
      redirect_hosts: hosts.slice(0, LISTED_MAX),
    },
    events,
    tokenRefs: [],
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, window } = input;
  const perMinute = factsNamed(input.facts, 'registrations');
  const limits = { windowMs: params.window_ms, gapMs: params.gap_ms, window };
  const minutes = minutesReaching(perMinute, params.min_registrations, limits);
  return burstsOf(minutes, perMinute, limits).map((burst) => toSignal(burst, input));
}

const AS = 'https://login.example';
const NET = '203.0.113.0/24';
const register = (t: number, n: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'client_registered',
  outcome: 'success',
  endpoint: 'registration',
  issuer: AS,
  client: { id: `dyn-${String(n).padStart(2, '0')}` },
  net: { network: NET },
  ext: { redirect_uris: 'https://evil.example/cb' },
  ...more,
});
const burst = (count: number, step: number, more: Partial<ExampleEvent> = {}): ExampleEvent[] =>
  Array.from({ length: count }, (_, i) => register(i * step, i, more));
const ids = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `dyn-${String(i).padStart(2, '0')}`);
const expected = (t: number, verdict: Verdict, count: number, networks: string[], entity = AS) => ({
  entity,
  episode: exampleTime(t),
  verdict,
  severity: 'high' as const,
  evidence: {
    registrations: count,
    clients: ids(Math.min(count, LISTED_MAX)),
    networks: networks.slice(0, LISTED_MAX),
    network_count: networks.length,
    redirect_hosts: ['evil.example'],
  },
});
const spread = (count: number): ExampleEvent[] =>
  Array.from({ length: count }, (_, i) =>
    register(i * 60, i, { net: { network: `198.51.${10 + i}.0/24` } }),
  );

export default defineDetector<Params>({
  id: 'registration_burst',
  version: 1,
  title: 'Many clients registered at once',
  family: 'credential_abuse',
  severity: 'high',
  confidence: 65,
  description:
    'Many clients registered themselves at the open registration endpoint within an hour: stock for consent phishing and for redirects to foreign hosts, or an attempt to fill the server.',
  references: ['RFC 7591 section 5', 'RFC 9700 section 4.1', 'ATT&CK T1136'],
  entity: 'source',
  verdicts: {
    one_network: 'Most of them come from one network.',
    many_networks: 'No network stands out, or the networks are unknown.',
  },
  evidence: {
    registrations: 'Clients registered in the episode.',
    clients: 'Their ids (at most 20).',
    networks: 'Networks they came from, busiest first (at most 20).',
    network_count: 'Their number.',
    redirect_hosts: 'Hosts of the redirect URIs registered (at most 20).',
  },
  needs: ['endpoint', 'client.id', 'net.network', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 3_600_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => fact.kind === 'client_registered' && fact.outcome === 'success',
  screen: () => sql`(kind = 'client_registered' AND endpoint = 'registration')`,
  candidates,
  history,
  facts,
  evaluate,
  falsePositives: [
    'A native app that registers each installation as a client of its own.',
    'A test suite against a shared server: list its network in exclude_networks.',
    'Not reported: clients that administrators create, and refused registrations.',
  ],
  examples: [
    {
      name: 'fires at the fifteenth within an hour',
      events: burst(15, 250).reverse(),
      expect: [expected(3_480, 'one_network', 15, [NET])],
    },
    { name: 'silent: fourteen', events: burst(14, 60), expect: [] },
    { name: 'silent: never fifteen within an hour', events: burst(16, 300), expect: [] },
    {
      name: 'silent: a repeated event counts once',
      events: [...burst(14, 60), ...burst(14, 60).map((e, i) => ({ ...e, id: `${i}` }))],
      expect: [],
    },
    {
      name: 'fires: from many networks',
      events: spread(15),
      expect: [
        expected(
          14 * 60,
          'many_networks',
          15,
          Array.from({ length: 15 }, (_, i) => `198.51.${10 + i}.0/24`),
        ),
      ],
    },
    {
      name: 'by the server’s host where the issuer is unknown; four fifths are one network',
      events: Array.from({ length: 15 }, (_, i) =>
        register(i, i, {
          issuer: '',
          source: { instance: 'as-1' },
          net: { network: i < 12 ? NET : `198.51.${10 + i}.0/24` },
        }),
      ),
      expect: [
        expected(
          0,
          'one_network',
          15,
          [NET, '198.51.22.0/24', '198.51.23.0/24', '198.51.24.0/24'],
          'as-1',
        ),
      ],
    },
    {
      name: 'silent: two servers that share the number, administrators, refusals',
      events: [
        ...burst(8, 60),
        ...burst(8, 60, { issuer: 'https://other.example' }),
        ...burst(20, 60, { endpoint: '' }),
        ...burst(20, 60, { actor: { ref: '6b6c4f4e-5c5f-4f4e-8c5f-6b6c4f4e5c5f', type: 'user' } }),
        ...burst(20, 60, { outcome: 'failure' }),
      ],
      expect: [],
    },
    {
      name: 'silent: a network of one’s own',
      parameters: { exclude_networks: [NET] },
      events: burst(30, 10),
      expect: [],
    },
    {
      name: 'the window slides over midnight',
      events: burst(15, 60).map((e) => ({ ...e, t: e.t + 43_200 - 600 })),
      expect: [expected(43_200 + 240, 'one_network', 15, [NET])],
    },
  ],
});
