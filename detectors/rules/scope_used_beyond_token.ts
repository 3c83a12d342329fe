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
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import { ofDay, splitByGap } from './_episodes.ts';
import { matchesPattern } from './_hosts.ts';
import { kindIn } from './_ledger.ts';
import { isoTime, known } from './_origin.ts';
import { requestKey } from './_requests.ts';

const KINDS = ['api_accessed', 'userinfo_accessed'] as const;
/** What the map calls the UserInfo endpoint, whatever its path. */
const USERINFO = 'userinfo';
/** Events read per client, day, API, method and route: the first ones tell, the rest repeat them. */
const EVENTS_PER_ROUTE_MAX = 50;
const LISTED_MAX = 20;

const Route = z.strictObject({
  /** The API as its events name it; absent: any. */
  resource: z.string().min(1).optional(),
  /** In capitals; empty: any. */
  methods: z.array(z.string().regex(/^[A-Z]+$/, 'an HTTP method in capitals')).default([]),
  /** As the events name it; `*` stands for anything but `/`. `userinfo` is the UserInfo endpoint. */
  route: z.string().min(1),
  /** The call needs one of these scopes. */
  any_of: z.array(z.string().min(1)).min(1),
});
type Route = z.infer<typeof Route>;

const Parameters = z.strictObject({
  /** Which scope which call needs. The first entry that fits a call counts; calls that none fits are not judged. */
  route_scopes: z
    .array(Route)
    .max(200)
    .default([{ methods: [], route: USERINFO, any_of: ['openid'] }]),
  /** Scopes that open every route. */
  universal_scopes: z.array(z.string().min(1)).default([]),
  exclude_clients: z.array(z.string()).default([]),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(21_600_000),
});
type Params = z.infer<typeof Parameters>;

function routeOf(event: AuthEvent): string {
  return event.kind === 'userinfo_accessed' ? USERINFO : event.http.route;
}

function fits(entry: Route, event: AuthEvent): boolean {
  const isResource = entry.resource === undefined || event.resource.includes(entry.resource);
  const isMethod = entry.methods.length === 0 || entry.methods.includes(event.http.method);
  return isResource && isMethod && matchesPattern(routeOf(event), entry.route);
}

/** The scopes of which the call needed one, where its token is known to have none of them. */
function lackedBy(event: AuthEvent, params: Params): readonly string[] {
  // Without scopes in the record it is unknown what the token could do.
  if (event.outcome !== 'success' || event.scopes_granted.length === 0) return [];
  const needed = params.route_scopes.find((r) => fits(r, event))?.any_of ?? [];
  const opens = [...needed, ...params.universal_scopes];
  return event.scopes_granted.some((s) => opens.includes(s)) ? [] : needed;
}

function toSignal(events: readonly AuthEvent[], params: Params, client: string): Signal {
  // One request may call several routes, and be told by the gateway and by the API.
  const calls = new Set(events.map((e) => `${routeOf(e)}\n${requestKey(e) || e.event_id}`)).size;
  const routes = known(events.map((e) => `${e.http.method} ${routeOf(e)}`.trim()));
  const lacked = known(events.flatMap((e) => lackedBy(e, params)));
  const [first] = events;
  return {
    episode: first === undefined ? '' : isoTime(first),
    verdict: 'accepted_without_scope',
    severity: 'high',
    confidence: 85,
    summary: `Client ${client} was served at ${routes.slice(0, 3).join(', ')} with tokens that lack the scope for it.`,
    reasons: [
      ...routes.slice(0, 10).map((r) => `answered: ${r}`),
      `needed one of: ${lacked.slice(0, 10).join(', ')}`,
    ],
    evidence: {
      routes: routes.slice(0, LISTED_MAX),
      resources: known(events.flatMap((e) => e.resource)).slice(0, LISTED_MAX),
      needed_scopes: lacked.slice(0, LISTED_MAX),
      token_scopes: known(events.flatMap((e) => e.scopes_granted)).slice(0, LISTED_MAX),
      calls,
      subjects: known(events.map((e) => e.subject.ref)).length,
    },
    events,
    tokenRefs: known(
      events.flatMap((e) => e.tokens.filter((t) => t.role === 'presented').map((t) => t.ref)),
    ).slice(0, 100),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const beyond = ofDay(input.events, input.window).filter((e) => lackedBy(e, params).length > 0);
  return splitByGap(beyond, params.gap_ms).map((events) => toSignal(events, params, entity));
}

/** `*` as any run of characters but `/`, for RE2. */
function expressionOf(pattern: string): string {
  const parts = pattern.split('*').map((p) => p.replace(/[.+?^${}()|[\]\\/]/g, '\\$&'));
  return `^${parts.join('[^/]*')}$`;
}

/** Rows that some entry of the map fits and whose token has none of its scopes: all that `lackedBy` tells, and a few more. */
function lacksScope(params: Params): Sql {
  const entries = params.route_scopes.map((r) => {
    const opens = param.strings([...r.any_of, ...params.universal_scopes]);
    const resource =
      r.resource === undefined ? sql`true` : sql`has(resource, ${param.string(r.resource)})`;
    const method =
      r.methods.length === 0 ? sql`true` : sql`http_method IN ${param.strings(r.methods)}`;
    return sql`(match(if(kind = 'userinfo_accessed', ${param.string(USERINFO)}, toString(http_route)), ${param.string(expressionOf(r.route))})
      AND ${resource} AND ${method} AND NOT hasAny(scopes_granted, ${opens}))`;
  });
  return sql`${kindIn(KINDS)} AND outcome = 'success' AND notEmpty(scopes_granted) AND client_id != ''
    AND (${joinSql(entries, ' OR ', sql`false`)})`;
}

function candidates(scope: CandidateScope, params: Params): Sql {
  return sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND ${scope.condition} AND ${lacksScope(params)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const at = (ns: bigint | undefined): Sql =>
    sql`fromUnixTimestamp64Nano(${param.int64(ns ?? 0n)}, 'UTC')`;
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT client_id AS entity, event_id, any((kind, http_method, http_route, resource, scopes_granted)) AS shape, any(time) AS at
      FROM grantscope.auth_events
      WHERE tenant = ${param.string(selection.tenant)} AND client_id IN ${param.strings(selection.entities)}
        AND time >= ${at(selection.window?.readFrom)} AND time < ${at(selection.window?.to)}
        AND ${lacksScope(params)}
      GROUP BY client_id, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_ROUTE_MAX)} BY entity, shape`;
}

const MAP = {
  route_scopes: [
    { route: '/orders', methods: ['GET', 'HEAD'], any_of: ['orders:read', 'orders:write'] },
    { route: '/orders*', any_of: ['orders:write'] },
    { route: '/orders/*', resource: 'orders-api', any_of: ['orders:write'] },
  ],
};
const call = (
  t: number,
  request: string,
  scopes: string[],
  more: Partial<ExampleEvent> = {},
): ExampleEvent => {
  const [method = '', route = ''] = request.split(' ');
  return {
    t,
    kind: 'api_accessed',
    outcome: 'success',
    client: { id: 'web-shop' },
    resource: ['orders-api'],
    scopes_granted: scopes,
    http: { method, route, status: 200 },
    tokens: [{ role: 'presented', type: 'access', ref: exampleRef(`used at ${t}`) }],
    ...more,
  };
};
const userinfo = (t: number, scopes: string[], more: Partial<ExampleEvent> = {}): ExampleEvent =>
  call(t, 'GET /me', scopes, { kind: 'userinfo_accessed', resource: [], ...more });
const expected = (t: number, routes: string[], more: Readonly<Record<string, unknown>> = {}) => ({
  entity: 'web-shop',
  episode: exampleTime(t),
  verdict: 'accepted_without_scope',
  severity: 'high' as const,
  evidence: {
    routes,
    resources: ['orders-api'],
    needed_scopes: ['orders:write'],
    token_scopes: ['orders:read'],
    calls: 1,
    subjects: 0,
    ...more,
  },
});

export default defineDetector<Params>({
  id: 'scope_used_beyond_token',
  version: 1,
  title: 'API served a call beyond the scope of its token',
  family: 'scope_escalation',
  severity: 'high',
  confidence: 85,
  description:
    'An API answered a call whose route needs a scope that the token does not have. The API does not check scopes there, so that any token of any client opens the route.',
  references: ['RFC 6750 section 3.1', 'RFC 9700 section 2.3', 'ATT&CK T1068', 'ATT&CK T1550.001'],
  entity: 'client',
  verdicts: {
    accepted_without_scope: 'The call was answered, and the token has none of the scopes for it.',
  },
  evidence: {
    routes: 'Method and route of the calls (at most 20).',
    resources: 'APIs that answered (at most 20).',
    needed_scopes: 'Scopes of which one was needed (at most 20).',
    token_scopes: 'Scopes of the tokens that were used (at most 20).',
    calls: 'Number of calls (of at most 50 per route and set of scopes a day).',
    subjects: 'Number of subjects concerned.',
  },
  needs: ['client.id', 'scopes_granted', 'http.route', 'http.method', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) => KINDS.some((k) => k === fact.kind) && fact.outcome === 'success',
  screen: lacksScope,
  candidates,
  history,
  evaluate,
  falsePositives: [
    'The map is out of date, or another scope implies the one that it names: route_scopes, universal_scopes.',
    'Not reported: routes that route_scopes does not name (by default all but UserInfo), and calls whose record does not tell the scopes of the token.',
  ],
  examples: [
    {
      name: 'fires when UserInfo answers a token without openid',
      events: [
        userinfo(0, ['openid', 'profile']),
        userinfo(60, ['orders:read'], {
          subject: { ref: exampleRef('scope_used_beyond_token dave'), type: 'user' },
        }),
      ],
      expect: [
        expected(60, ['GET userinfo'], {
          resources: [],
          needed_scopes: ['openid'],
          subjects: 1,
        }),
      ],
    },
    {
      name: 'fires on a route that needs more than the token has; told out of order',
      parameters: MAP,
      events: [
        call(20, 'DELETE /orders/7', ['orders:read']),
        call(10, 'POST /orders', ['orders:read']),
        call(0, 'GET /orders', ['orders:read']),
      ],
      expect: [expected(10, ['DELETE /orders/7', 'POST /orders'], { calls: 2 })],
    },
    {
      name: 'gateway and API tell of one call',
      parameters: MAP,
      events: [
        call(0, 'POST /orders', ['orders:read'], { corr: { trace_id: 'a'.repeat(32) } }),
        call(0.2, 'POST /orders', ['orders:read'], {
          corr: { trace_id: 'a'.repeat(32) },
          resource: ['edge'],
        }),
      ],
      expect: [expected(0, ['POST /orders'], { resources: ['edge', 'orders-api'] })],
    },
    {
      name: 'a pause longer than the gap begins a new episode, one as long does not',
      parameters: { ...MAP, gap_ms: 3_600_000 },
      events: [
        call(0, 'POST /orders', ['orders:read']),
        call(3_600, 'POST /orders', ['orders:read']),
        call(7_200.001, 'POST /orders', ['orders:read']),
      ],
      expect: [expected(0, ['POST /orders'], { calls: 2 }), expected(7_200.001, ['POST /orders'])],
    },
    {
      name: 'silent: the first entry that fits counts, on any of its scopes, and only for its API',
      parameters: MAP,
      events: [
        call(0, 'GET /orders', ['orders:read']),
        call(1, 'POST /orders', ['orders:write', 'openid']),
        call(2, 'DELETE /orders/7', ['orders:read'], { resource: ['archive-api'] }),
        call(3, 'DELETE /orders/7/lines', ['orders:read']),
        call(4, 'GET /stock', ['orders:read']),
      ],
      expect: [],
    },
    {
      name: 'silent: refused calls, unknown scopes, universal scopes and excluded clients',
      parameters: { ...MAP, universal_scopes: ['super'], exclude_clients: ['probe'] },
      events: [
        call(0, 'POST /orders', ['orders:read'], { outcome: 'failure' }),
        call(1, 'POST /orders', []),
        call(2, 'POST /orders', ['super']),
        call(3, 'POST /orders', ['orders:read'], { client: { id: 'probe' } }),
      ],
      expect: [],
    },
    {
      name: 'silent: no map',
      parameters: { route_scopes: [] },
      events: [userinfo(0, ['orders:read'])],
      expect: [],
    },
    {
      name: 'by default a pause of more than six hours begins a new episode, and so does midnight',
      events: [-21_600.001, 0, 21_600, 43_200].map((t) => userinfo(t, ['orders:read'])),
      expect: [
        { t: -21_600.001, calls: 1 },
        { t: 0, calls: 2 },
        { t: 43_200, calls: 1 },
      ].map(({ t, calls }) =>
        expected(t, ['GET userinfo'], { resources: [], needed_scopes: ['openid'], calls }),
      ),
    },
    {
      name: 'an entry for another route or another API is none that fits',
      parameters: {
        route_scopes: [
          { route: '/stock', any_of: ['stock:write'] },
          { route: '/orders', resource: 'archive-api', any_of: ['archive:write'] },
          { route: '/orders', any_of: ['orders:write'] },
        ],
      },
      events: [call(0, 'POST /orders', ['orders:read'])],
      expect: [expected(0, ['POST /orders'])],
    },
    {
      name: 'silent: one of several scopes opens the first entry that fits, whatever a later one needs',
      parameters: {
        route_scopes: [
          { route: '/orders', any_of: ['orders:write'] },
          { route: '/orders*', any_of: ['admin'] },
        ],
      },
      events: [call(0, 'POST /orders', ['orders:write', 'openid'])],
      expect: [],
    },
  ],
});
