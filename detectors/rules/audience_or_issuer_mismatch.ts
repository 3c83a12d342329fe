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
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { ofDay } from './_episodes.ts';
import { isoTime, known } from './_origin.ts';
import { SERVICE } from './_rates.ts';
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

const KINDS: readonly EventKind[] = ['token_validated', 'token_rejected'];
const MISMATCH_CODES = ['invalid_audience', 'invalid_issuer', 'unknown_issuer'] as const;

const LISTED_MAX = 20;
/** Accepted tokens that are read per service, client and hour, and per service. */
const PER_CLIENT_MAX = 20;
const PER_SERVICE_MAX = 600;
const CALLERS_READ_MAX = 200;

const Parameters = z.strictObject({
  /** Tokens refused for their audience or issuer within the window. */
  min_rejected: z.int().min(2).max(100_000).default(10),
  /** Counted in whole minutes, ms. */
  window_ms: z.int().min(MINUTE_MS).max(3_600_000).default(600_000),
  /** Pause after which a new episode of refusals begins, ms. */
  gap_ms: z.int().min(MINUTE_MS).max(DAY_MS).default(3_600_000),
  /** From so many networks on it is not one caller that holds the wrong token. */
  many_callers_networks: z.int().min(2).max(1_000).default(3),
  /** Which audiences an API stands for, by the name that its events carry in `resource`. */
  resource_audiences: z.record(z.string(), z.array(z.string().min(1)).min(1)).default({}),
  /** Whether APIs and audiences that are both named by a URI are compared without being listed (RFC 8707). */
  compare_uris: z.boolean().default(true),
  /** Issuers whose tokens may be accepted; with none listed, issuers are not judged. */
  trusted_issuers: z.array(z.string().min(1)).default([]),
  /** Clients whose tokens are meant for several APIs. */
  exclude_clients: z.array(z.string()).default([]),
  exclude_services: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const isUri = (name: string): boolean => name.includes('://');
/** With one slash at the end, so that one name is the start of another only at the end of a part. */
const slashed = (uri: string): string => `${uri.toLowerCase().replace(/\/+$/, '')}/`;

function namesUri(audience: string, resource: string): boolean {
  const a = slashed(audience);
  const r = slashed(resource);
  return a.startsWith(r) || r.startsWith(a);
}

/** APIs of the event that the token was not made for. */
function foreignApis(event: AuthEvent, params: Params): string[] {
  const { audience } = event;
  if (audience.length === 0) return [];
  return event.resource.filter((name) => {
    if (audience.includes(name)) return false;
    const listed = new Map(Object.entries(params.resource_audiences)).get(name);
    if (listed !== undefined) return !audience.some((a) => listed.includes(a));
    if (!params.compare_uris || !isUri(name) || !audience.some(isUri)) return false;
    return !audience.some((a) => isUri(a) && namesUri(a, name));
  });
}

const slashedSql = (column: Sql): Sql =>
  sql`concat(replaceRegexpOne(lower(${column}), '/+$', ''), '/')`;

function untrusted({ trusted_issuers }: Params): Sql {
  if (trusted_issuers.length === 0) return sql`false`;
  return sql`(kind = 'token_validated' AND issuer != '' AND issuer NOT IN ${param.strings(trusted_issuers)})`;
}

/** Accepted rows that `foreignApis` and the issuers may find wrong; some of them it does not. */
function mayMismatch(params: Params): Sql {
  const listed = Object.keys(params.resource_audiences);
  const names = sql`startsWith(${slashedSql(sql`r`)}, ${slashedSql(sql`a`)}) OR startsWith(${slashedSql(sql`a`)}, ${slashedSql(sql`r`)})`;
  const byUri = sql`(position(r, '://') > 0 AND arrayExists(a -> position(a, '://') > 0, audience)
    AND NOT arrayExists(a -> position(a, '://') > 0 AND (${names}), audience))`;
  return sql`kind = 'token_validated' AND outcome = 'success' AND client_id NOT IN ${param.strings(params.exclude_clients)}
    AND (${untrusted(params)} OR (notEmpty(audience) AND notEmpty(resource) AND NOT hasAll(audience, resource)
      AND arrayExists(r -> NOT has(audience, r) AND (has(${param.strings(listed)}, r) OR ${byUri}), resource)))`;
}

const isRefused = sql`kind = 'token_rejected' AND error_code IN ${param.strings(MISMATCH_CODES)}`;

function candidates(scope: CandidateScope, params: Params): Sql {
  const rows = (condition: Sql): Sql =>
    sql`SELECT ${SERVICE} AS entity, time AS at FROM grantscope.auth_events
      WHERE tenant = ${param.string(scope.tenant)} AND ${scope.condition} AND ${condition}`;
  return sql`
    ${rows(mayMismatch(params))}
    UNION ALL ${rows(sql`${isRefused} AND ${SERVICE} IN (
      SELECT ${SERVICE} AS service FROM grantscope.auth_events
      WHERE tenant = ${param.string(scope.tenant)} AND ${isRefused} AND ${aroundNew(scope, params.window_ms, params.window_ms)}
      GROUP BY service HAVING count() >= ${param.uint(params.min_rejected)})`)}`;
}

function rowsOf(selection: HistorySelection): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)} AND ${inWindow(selection)}
    AND ${SERVICE} IN ${param.strings(selection.entities)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const refused = sql`${rowsOf(selection)} AND ${isRefused}`;
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT entity, e FROM (
        SELECT ${SERVICE} AS entity, client_id, (time, event_id) AS e ${rowsOf(selection)} AND ${mayMismatch(params)}
        ORDER BY e LIMIT ${param.uint(PER_CLIENT_MAX)} BY entity, client_id, toStartOfHour(time))
      ORDER BY e LIMIT ${param.uint(PER_SERVICE_MAX)} BY entity
      UNION ALL
      SELECT ${SERVICE} AS entity, min((time, event_id)) AS e ${refused} GROUP BY entity, toStartOfMinute(time)
      UNION ALL
      SELECT ${SERVICE} AS entity, min((time, event_id)) AS e ${refused} GROUP BY entity, client_id, net_network, net_ua_family
      ORDER BY e LIMIT ${param.uint(CALLERS_READ_MAX)} BY entity)`;
}

function facts(selection: HistorySelection): Sql {
  const refused = sql`${rowsOf(selection)} AND ${isRefused}`;
  return sql`
    SELECT ${SERVICE} AS entity, 'refused' AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${refused} GROUP BY entity, at
    UNION ALL
    SELECT ${SERVICE} AS entity, 'refused_code' AS name, error_code AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${refused} GROUP BY entity, error_code, at`;
}

type Verdict = 'issuer_accepted' | 'audience_accepted' | 'one_caller' | 'many_callers';
const SEVERITY = {
  issuer_accepted: 'high',
  audience_accepted: 'high',
  one_caller: 'low',
  many_callers: 'low',
} as const;

function acceptedSignal(input: EvaluateInput<Params>): Signal | undefined {
  const { params, entity } = input;
  const accepted = ofDay(input.events, input.window).filter(
    (e) => e.kind === 'token_validated' && !params.exclude_clients.includes(e.client.id),
  );
  const trusted = params.trusted_issuers;
  const byIssuer = accepted.filter(
    (e) => trusted.length > 0 && e.issuer !== '' && !trusted.includes(e.issuer),
  );
  const byAudience = accepted.filter((e) => foreignApis(e, params).length > 0);
  const events = byIssuer.length > 0 ? byIssuer : byAudience;
  const [first] = events;
  if (first === undefined) return undefined;
  const isIssuer = byIssuer.length > 0;
  const issuers = known(events.map((e) => e.issuer));
  const audiences = known(events.flatMap((e) => e.audience));
  return {
    episode: isoTime(first),
    verdict: isIssuer ? 'issuer_accepted' : 'audience_accepted',
    severity: 'high',
    confidence: isIssuer ? 90 : 75,
    summary: isIssuer
      ? `${entity} accepted ${events.length} token(s) of an issuer that is not trusted: ${issuers.join(', ')}.`
      : `${entity} accepted ${events.length} token(s) that were made for ${audiences.slice(0, 3).join(', ')}.`,
    reasons: isIssuer
      ? issuers.slice(0, 10).map((i) => `not a trusted issuer: ${i}`)
      : known(events.flatMap((e) => foreignApis(e, params))).map((r) => `no audience names ${r}`),
    evidence: {
      accepted: events.length,
      refused: 0,
      codes: {},
      issuers: issuers.slice(0, LISTED_MAX),
      audiences: audiences.slice(0, LISTED_MAX),
      resources: known(events.flatMap((e) => e.resource)).slice(0, LISTED_MAX),
      clients: known(events.map((e) => e.client.id)).slice(0, LISTED_MAX),
      networks: known(events.map((e) => e.net.network)).slice(0, LISTED_MAX),
    },
    events,
    tokenRefs: known(events.flatMap((e) => e.tokens.map((t) => t.ref))),
  };
}

function refusedSignal(burst: Burst, input: EvaluateInput<Params>): Signal {
  const { params, entity } = input;
  const events = input.events.filter((e) => e.kind === 'token_rejected' && isDuring(e, burst));
  const codes = sumByKey(factsDuring(factsNamed(input.facts, 'refused_code'), burst));
  const networks = known(events.map((e) => e.net.network));
  const clients = known(events.map((e) => e.client.id));
  const isMany = networks.length >= params.many_callers_networks && clients.length !== 1;
  return {
    episode: isoMs(burst.reachedMs),
    verdict: isMany ? 'many_callers' : 'one_caller',
    severity: 'low',
    confidence: 70,
    summary: `${entity} refused ${burst.total} tokens for their audience or issuer.`,
    reasons: isMany
      ? [
          `from ${networks.length} networks: the service itself may expect the wrong audience or issuer`,
        ]
      : ['few callers: a client that sends the wrong kind of token, such as an ID token'],
    evidence: {
      accepted: 0,
      refused: burst.total,
      codes: Object.fromEntries(codes),
      issuers: known(events.map((e) => e.issuer)).slice(0, LISTED_MAX),
      audiences: known(events.flatMap((e) => e.audience)).slice(0, LISTED_MAX),
      resources: known(events.flatMap((e) => e.resource)).slice(0, LISTED_MAX),
      clients: clients.slice(0, LISTED_MAX),
      networks: networks.slice(0, LISTED_MAX),
    },
    events,
    tokenRefs: [],
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_services.includes(entity)) return [];
  const accepted = acceptedSignal(input);
  const perMinute = factsNamed(input.facts, 'refused');
  const limits = { windowMs: params.window_ms, gapMs: params.gap_ms, window };
  const minutes = minutesReaching(perMinute, params.min_rejected, limits);
  const refused = burstsOf(minutes, perMinute, limits).map((b) => refusedSignal(b, input));
  if (accepted === undefined) return refused;
  // What was accepted at the very start of a minute takes that minute's name.
  return [accepted, ...refused.filter((s) => s.episode !== accepted.episode)];
}

const ISSUER = 'https://login.example';
const ORDERS = 'https://orders.example';
const BILLING = 'https://billing.example';
const NET = '203.0.113.0/24';
const accept = (t: number, audience: string[], more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_validated',
  outcome: 'success',
  issuer: ISSUER,
  audience,
  resource: [ORDERS],
  client: { id: 'web-shop' },
  source: { instance: 'orders-api/pod-1' },
  net: { network: NET },
  ...more,
});
const refusals = (
  n: number,
  step: number,
  network: (i: number) => string = () => NET,
  code = 'invalid_audience',
): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) =>
    accept(i * step, [], {
      kind: 'token_rejected',
      outcome: 'failure',
      error: { code },
      issuer: '',
      client: {},
      net: { network: network(i) },
    }),
  );
const expected = (
  t: number,
  verdict: Verdict,
  more: {
    accepted?: number;
    refused?: number;
    codes?: Record<string, number>;
    issuers?: string[];
    audiences?: string[];
    resources?: string[];
    clients?: string[];
    networks?: string[];
  },
) => ({
  entity: 'orders-api',
  episode: exampleTime(t),
  verdict,
  severity: SEVERITY[verdict],
  evidence: {
    accepted: more.accepted ?? 0,
    refused: more.refused ?? 0,
    codes: more.codes ?? {},
    issuers: more.issuers ?? [],
    audiences: more.audiences ?? [],
    resources: more.resources ?? [ORDERS],
    clients: more.clients ?? [],
    networks: more.networks ?? [NET],
  },
});
const SHOP = { issuers: [ISSUER], clients: ['web-shop'] };

export default defineDetector<Params>({
  id: 'audience_or_issuer_mismatch',
  version: 1,
  title: 'Token of another audience or issuer',
  family: 'protocol',
  severity: 'high',
  confidence: 90,
  description:
    'A service accepted a token that was made for other services, or of an issuer that is not trusted: a token that one service was given opens another. Or it refused many tokens for that within ten minutes, which mostly is a client that sends the wrong kind of token.',
  references: [
    'RFC 9700 section 4.9',
    'RFC 9700 section 2.3',
    'RFC 9068 section 4',
    'ATT&CK T1550.001',
  ],
  entity: 'source',
  verdicts: {
    issuer_accepted: 'A token of an issuer outside trusted_issuers was accepted.',
    audience_accepted: 'A token was accepted whose audience does not name the service.',
    one_caller: 'Many refusals, from few callers: a client sends the wrong kind of token.',
    many_callers:
      'Many refusals, from many networks: the service may expect the wrong audience or issuer.',
  },
  evidence: {
    accepted: 'Accepted tokens of this verdict that were read.',
    refused: 'Refused tokens in the episode.',
    codes: 'Refusals by reason.',
    issuers: 'Issuers that the tokens named (at most 20).',
    audiences: 'Audiences that they named (at most 20).',
    resources: 'Names of the APIs (at most 20).',
    clients: 'Clients (at most 20).',
    networks: 'Networks (at most 20).',
  },
  needs: ['audience', 'resource', 'issuer', 'error.code', 'source.instance'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 3_600_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  // Less exact than the candidates, and cheaper: every new event is asked.
  screen: (
    params,
  ) => sql`((kind = 'token_validated' AND notEmpty(audience) AND notEmpty(resource) AND NOT hasAll(audience, resource))
    OR ${untrusted(params)} OR (${isRefused}))`,
  candidates,
  history,
  facts: (selection) => facts(selection),
  evaluate,
  falsePositives: [
    'An API whose events name it otherwise than its audience does: list it in resource_audiences.',
    'Not reported: names that are no URIs and are not listed, and tokens without an audience.',
  ],
  examples: [
    {
      name: 'fires: made for another API',
      events: [accept(9, [BILLING]), accept(5, [BILLING]), accept(7, [ORDERS])],
      expect: [expected(5, 'audience_accepted', { accepted: 2, audiences: [BILLING], ...SHOP })],
    },
    {
      name: 'fires: the name of another host begins alike',
      events: [accept(0, ['https://orders.example.evil.example'])],
      expect: [
        expected(0, 'audience_accepted', {
          accepted: 1,
          audiences: ['https://orders.example.evil.example'],
          ...SHOP,
        }),
      ],
    },
    {
      name: 'fires: listed audiences',
      parameters: { resource_audiences: { orders: ['orders-v1', 'orders-v2'] } },
      events: [
        accept(0, ['orders-v2'], { resource: ['orders'] }),
        accept(1, ['billing'], { resource: ['orders'] }),
      ],
      expect: [
        expected(1, 'audience_accepted', {
          accepted: 1,
          audiences: ['billing'],
          resources: ['orders'],
          ...SHOP,
        }),
      ],
    },
    {
      name: 'fires: an issuer that is not trusted',
      parameters: { trusted_issuers: [ISSUER] },
      events: [
        accept(0, [ORDERS]),
        accept(1, [ORDERS], { issuer: 'https://evil.example' }),
        accept(2, [ORDERS], { issuer: '' }),
      ],
      expect: [
        expected(1, 'issuer_accepted', {
          accepted: 1,
          audiences: [ORDERS],
          issuers: ['https://evil.example'],
          clients: ['web-shop'],
        }),
      ],
    },
    {
      name: 'low: ten refusals within ten minutes, from one network',
      events: refusals(10, 60).reverse(),
      expect: [expected(540, 'one_caller', { refused: 10, codes: { invalid_audience: 10 } })],
    },
    {
      name: 'low: from three networks',
      events: refusals(10, 60, (i) => `198.51.${i % 3}.0/24`, 'invalid_issuer'),
      expect: [
        expected(540, 'many_callers', {
          refused: 10,
          codes: { invalid_issuer: 10 },
          networks: ['198.51.0.0/24', '198.51.1.0/24', '198.51.2.0/24'],
        }),
      ],
    },
    { name: 'silent: nine refusals', events: refusals(9, 60), expect: [] },
    { name: 'silent: ten, but never within ten minutes', events: refusals(10, 67), expect: [] },
    {
      name: 'silent: other reasons, a path below the audience, a slash more, several audiences',
      events: [
        ...refusals(30, 5, () => NET, 'expired'),
        accept(1, [ORDERS], { resource: [`${ORDERS}/v1`] }),
        accept(2, [`${ORDERS}/`]),
        accept(3, [BILLING, ORDERS]),
      ],
      expect: [],
    },
    {
      name: 'silent: names that cannot be compared, no audience, refused tokens',
      events: [
        accept(0, ['billing']),
        accept(1, [BILLING], { resource: ['orders'] }),
        accept(2, []),
        accept(3, [BILLING], { outcome: 'failure' }),
      ],
      expect: [],
    },
    {
      name: 'silent: excluded clients and services',
      parameters: { exclude_clients: ['admin-console'], exclude_services: ['sandbox'] },
      events: [
        accept(0, [BILLING], { client: { id: 'admin-console' } }),
        accept(1, [BILLING], { source: { instance: 'sandbox/1' } }),
      ],
      expect: [],
    },
  ],
});
