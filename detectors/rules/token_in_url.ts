import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { ofDay, splitByGap } from './_episodes.ts';
import { matchesPattern } from './_hosts.ts';
import { kindIn } from './_ledger.ts';
import { isoTime, known } from './_origin.ts';
import { requestKey } from './_requests.ts';

const KINDS = [
  'api_accessed',
  'token_validated',
  'token_rejected',
  'userinfo_accessed',
  'token_introspected',
] as const;

/** Events read per entity, day, kind, outcome, client and route: the first ones tell, the rest repeat them. */
const EVENTS_PER_ROUTE_MAX = 50;
const LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** Calls in an episode from which on it is told. */
  min_calls: z.int().min(1).max(1_000).default(1),
  /** Routes whose tokens stand in the URL by design, for instance of WebSockets; `*` stands for anything but `/`. */
  exclude_routes: z.array(z.string().min(1)).default([]),
  exclude_clients: z.array(z.string()).default([]),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(21_600_000),
});
type Params = z.infer<typeof Parameters>;

/** Sources cut the value off and leave this mark. Asking for the key alone spares reading the values. */
const HAS_MARK = sql`mapContains(ext, 'token_in_url')`;

/** The API that was called; where the record names none, the system that wrote it. */
const ENTITY = sql`multiIf(notEmpty(resource), toString(resource[1]), issuer != '', toString(issuer), source_instance != '', toString(source_instance), toString(source_id))`;

/** One event per call, though a server may tell of the token and of the call. */
function callsOf(events: readonly AuthEvent[]): AuthEvent[] {
  const byKey = new Map<string, AuthEvent>();
  for (const event of events) {
    const key = requestKey(event) || event.event_id;
    const before = byKey.get(key);
    if (before === undefined || (before.outcome !== 'success' && event.outcome === 'success'))
      byKey.set(key, event);
  }
  return [...byKey.values()];
}

function counts(event: AuthEvent, params: Params): boolean {
  return (
    event.ext['token_in_url'] === 'true' &&
    !params.exclude_clients.includes(event.client.id) &&
    !params.exclude_routes.some((p) => matchesPattern(event.http.route, p))
  );
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity } = input;
  const marked = ofDay(input.events, input.window).filter((e) => counts(e, params));
  const episodes = splitByGap(marked, params.gap_ms).map((events) => ({
    events,
    calls: callsOf(events),
  }));
  return episodes
    .filter(({ calls }) => calls.length >= params.min_calls)
    .map(({ events, calls }): Signal => {
      const accepted = calls.filter((e) => e.outcome === 'success').length;
      const routes = known(calls.map((e) => e.http.route));
      const tokens = known(
        events.flatMap((e) => e.tokens.filter((t) => t.role === 'presented').map((t) => t.ref)),
      );
      const [first] = events;
      return {
        episode: first === undefined ? '' : isoTime(first),
        verdict: accepted > 0 ? 'accepted' : 'refused',
        severity: accepted > 0 ? 'medium' : 'low',
        confidence: 90,
        summary: `${calls.length} call(s) to ${entity} carried a token in the URL; ${accepted} were answered.`,
        reasons: [
          'what stands in a URL stays in logs, histories and Referer headers',
          ...routes.slice(0, 10).map((r) => `called: ${r}`),
        ],
        evidence: {
          calls: calls.length,
          accepted,
          routes: routes.slice(0, LISTED_MAX),
          clients: known(events.map((e) => e.client.id)).slice(0, LISTED_MAX),
          networks: known(events.map((e) => e.net.network)).slice(0, LISTED_MAX),
          tokens: tokens.length,
        },
        events,
        tokenRefs: tokens.slice(0, 100),
      };
    });
}

function candidates(scope: CandidateScope): Sql {
  return sql`
    SELECT ${ENTITY} AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND ${kindIn(KINDS)} AND ${scope.condition} AND ${HAS_MARK}`;
}

function history(selection: HistorySelection): Sql {
  const at = (ns: bigint | undefined): Sql =>
    sql`fromUnixTimestamp64Nano(${param.int64(ns ?? 0n)}, 'UTC')`;
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, any(shape) AS shape, any(t) AS at FROM (
        SELECT ${ENTITY} AS entity, event_id, (kind, outcome, client_id, http_route) AS shape, time AS t
        FROM grantscope.auth_events
        WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(KINDS)}
          AND time >= ${at(selection.window?.readFrom)} AND time < ${at(selection.window?.to)} AND ${HAS_MARK}
      ) WHERE entity IN ${param.strings(selection.entities)} GROUP BY entity, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_ROUTE_MAX)} BY entity, shape`;
}

const HOME = '198.51.100.0/24';
const call = (t: number, route: string, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'api_accessed',
  outcome: 'success',
  resource: ['orders-api'],
  http: { method: 'GET', route, status: 200 },
  net: { network: HOME },
  tokens: [{ role: 'presented', type: 'access', ref: exampleRef('token in a URL') }],
  ext: { token_in_url: 'true' },
  ...more,
});
const refuse = (t: number, route: string, more: Partial<ExampleEvent> = {}): ExampleEvent =>
  call(t, route, { outcome: 'failure', error: { code: 'token_in_url' }, ...more });
const expected = (
  t: number,
  evidence: { readonly calls: number; readonly accepted: number; readonly routes: string[] },
  more: Readonly<Record<string, unknown>> = {},
) => ({
  entity: 'orders-api',
  episode: exampleTime(t),
  verdict: evidence.accepted > 0 ? 'accepted' : 'refused',
  severity: evidence.accepted > 0 ? ('medium' as const) : ('low' as const),
  evidence: { ...evidence, clients: [], networks: [HOME], tokens: 1, ...more },
});

export default defineDetector<Params>({
  id: 'token_in_url',
  version: 1,
  title: 'Token in a URL',
  family: 'token_replay',
  severity: 'medium',
  confidence: 90,
  description:
    'A token stood in the URL of a call. It is now in the access logs of every proxy on the way, in the history of a browser and perhaps in a Referer header, where others can take it from. The value itself is never stored.',
  references: ['RFC 9700 section 4.3', 'RFC 6750 section 5.3', 'ATT&CK T1552', 'ATT&CK T1528'],
  entity: 'source',
  verdicts: {
    accepted: 'The API answered such a call.',
    refused: 'It refused them all; the tokens are in logs nevertheless.',
  },
  evidence: {
    calls: 'Calls in the episode (of at most 50 per route, client and outcome a day).',
    accepted: 'How many were answered.',
    routes: 'Routes called (at most 20).',
    clients: 'Clients that called, where known (at most 20).',
    networks: 'Networks that called (at most 20).',
    tokens: 'Number of different tokens, where known.',
  },
  needs: ['ext', 'http.route', 'resource', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  screen: () => sql`${kindIn(KINDS)} AND ${HAS_MARK}`,
  candidates,
  history,
  evaluate,
  falsePositives: [
    'WebSockets and downloads whose URL carries a short-lived ticket under the name of a token: exclude_routes.',
    'Not reported: what the source does not mark (ext.token_in_url), and codes in the URL of the redirect itself, where they belong.',
  ],
  examples: [
    {
      name: 'fires when the API answers a call with a token in its URL',
      events: [call(0, '/orders')],
      expect: [expected(0, { calls: 1, accepted: 1, routes: ['/orders'] })],
    },
    {
      name: 'low where all calls were refused',
      events: [
        refuse(60, '/orders', { client: { id: 'old-app' } }),
        refuse(0, '/orders/{id}', {
          tokens: [{ role: 'presented', type: 'access', ref: exampleRef('another in a URL') }],
        }),
      ],
      expect: [
        expected(
          0,
          { calls: 2, accepted: 0, routes: ['/orders', '/orders/{id}'] },
          { clients: ['old-app'], tokens: 2 },
        ),
      ],
    },
    {
      name: 'the token and the call of one request count once',
      events: [
        call(0, '/orders', {
          kind: 'token_validated',
          outcome: 'failure',
          http: {},
          corr: { trace_id: '0af7651916cd43dd8448eb211c80319c' },
        }),
        call(0.1, '/orders', { corr: { trace_id: '0af7651916cd43dd8448eb211c80319c' } }),
        refuse(5, '/orders', { corr: { request_id: 'r-2' } }),
      ],
      expect: [expected(0, { calls: 2, accepted: 1, routes: ['/orders'] })],
    },
    {
      name: 'fires at the number of calls that is set; a pause begins a new episode',
      parameters: { min_calls: 2, gap_ms: 3_600_000 },
      events: [call(0, '/orders'), call(3_600, '/orders'), call(7_200.001, '/orders')],
      expect: [expected(0, { calls: 2, accepted: 2, routes: ['/orders'] })],
    },
    {
      name: 'the system that wrote the record stands for the API where none is named',
      events: [
        call(0, '', {
          kind: 'userinfo_accessed',
          resource: [],
          issuer: 'https://login.example',
          http: {},
        }),
        call(1, '/edge', { resource: [], source: { id: 'envoy', instance: 'edge-1' } }),
      ],
      expect: [
        {
          ...expected(0, { calls: 1, accepted: 1, routes: [] }),
          entity: 'https://login.example',
        },
        { ...expected(1, { calls: 1, accepted: 1, routes: ['/edge'] }), entity: 'edge-1' },
      ],
    },
    {
      name: 'silent: tokens in the header',
      events: [call(0, '/orders', { ext: {} }), call(1, '/orders', { ext: { route_name: 'o' } })],
      expect: [],
    },
    {
      name: 'silent: excluded routes and clients',
      parameters: { exclude_routes: ['/socket/*'], exclude_clients: ['old-app'] },
      events: [call(0, '/socket/7'), call(1, '/orders', { client: { id: 'old-app' } })],
      expect: [],
    },
    {
      name: 'by default one call is told, a pause of more than six hours begins a new episode, and so does midnight',
      events: [
        call(-21_600.001, '/orders'),
        call(0, '/orders', { kind: 'token_introspected' }),
        refuse(21_600, '/orders', { kind: 'token_rejected' }),
        call(43_200, '/orders'),
      ],
      expect: [
        expected(-21_600.001, { calls: 1, accepted: 1, routes: ['/orders'] }),
        expected(0, { calls: 2, accepted: 1, routes: ['/orders'] }),
        expected(43_200, { calls: 1, accepted: 1, routes: ['/orders'] }),
      ],
    },
    {
      name: 'of two records of one request the first tells, where both say the same of its outcome',
      events: [
        call(0, '/orders', { corr: { request_id: 'r-1' } }),
        call(0.1, '/edge', { corr: { request_id: 'r-1' } }),
        refuse(1, '/stock', { corr: { request_id: 'r-2' } }),
        refuse(1.1, '/edge', { corr: { request_id: 'r-2' } }),
      ],
      expect: [expected(0, { calls: 2, accepted: 1, routes: ['/orders', '/stock'] })],
    },
    {
      name: 'silent: a source that says it was not so',
      events: [call(0, '/orders', { ext: { token_in_url: 'false' } })],
      expect: [],
    },
  ],
});
