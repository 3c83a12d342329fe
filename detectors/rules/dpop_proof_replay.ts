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
import type { Severity } from '../../model/finding.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, ledgerCondition, textFacet, tokenHistory } from './_ledger.ts';
import { areApart, isoTime, known, mentionOf, timeMs, userPlaces } from './_origin.ts';
import { groupByRequest, requestKey, tellerOf } from './_requests.ts';
import { aroundNews } from './_token_rows.ts';

const KINDS = [
  'token_issued',
  'token_refreshed',
  'token_exchanged',
  'token_request_failed',
  'code_redeemed',
  'par_pushed',
  'token_validated',
  'token_rejected',
  'api_accessed',
  'userinfo_accessed',
] as const;
const TYPES = ['dpop_proof'] as const;
const ROLES = ['presented'] as const;
/** Records of several parties that nothing else pairs are one request where they lie at most this far apart, ms. */
const PAIR_MS = 2_000;
const REQUESTS_LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** How long a server takes a proof by its `iat`, ms; a `jti` that comes again later is a client that counts anew. */
  window_ms: z.int().min(1_000).max(3_600_000).default(300_000),
  /** The same call again from the same place within this time is a retry of an HTTP library or proxy, ms. */
  retry_ms: z.int().min(0).max(60_000).default(5_000),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  replay: 'A proof was presented again, and the server accepted it.',
  replay_refused: 'A proof was presented again, and the server refused it.',
  retry: 'The same call was sent again at once from the same place.',
} as const;
type Verdict = keyof typeof VERDICTS;
/** Gravest first. */
const ORDER: readonly Verdict[] = ['replay', 'replay_refused', 'retry'];
const GRADE: Readonly<Record<Verdict, { severity: Severity; confidence: number }>> = {
  replay: { severity: 'high', confidence: 90 },
  replay_refused: { severity: 'medium', confidence: 80 },
  retry: { severity: 'low', confidence: 70 },
};

/** One HTTP request, by the records that several parties made of it. */
type Request = AuthEvent[];

/** A server's first answer was "come again with a nonce": the proof was not used up. */
function isPresentation(event: AuthEvent, input: EvaluateInput<Params>): boolean {
  if (mentionOf(event, input.entity, ROLES) === undefined || event.outcome === 'challenge')
    return false;
  return !input.params.exclude_clients.includes(event.client.id);
}

/** Requests in order of their first records. Records that no trace pairs are one request where they lie close together. */
function requestsOf(input: EvaluateInput<Params>): Request[] {
  const requests: Request[] = [];
  let loose: Request | undefined;
  for (const request of groupByRequest(input.events.filter((e) => isPresentation(e, input)))) {
    const [event] = request;
    const [first] = loose ?? [];
    if (event === undefined) continue;
    const isLoose = requestKey(event) === '';
    const isPair =
      isLoose &&
      first !== undefined &&
      timeMs(event) - timeMs(first) <= PAIR_MS &&
      loose?.every((e) => tellerOf(e) !== tellerOf(event)) === true;
    if (isPair) loose?.push(event);
    else {
      requests.push(request);
      if (isLoose) loose = request;
    }
  }
  return requests;
}

const keysOf = (request: Request): string[] => known(request.map((e) => e.binding_thumbprint));

/** A `jti` is unique for its key alone: proofs of two keys are two proofs. */
function ofOneKey(requests: readonly Request[]): Request[][] {
  const keys = known(requests.flatMap(keysOf));
  if (keys.length < 2) return [[...requests]];
  return keys.map((key) => requests.filter((r) => keysOf(r).includes(key)));
}

const isAccepted = (request: Request): boolean =>
  request.some((e) => e.outcome === 'success') && !request.some((e) => e.outcome === 'failure');

/** What the request asked for, as far as the records tell. */
function target(request: Request): string {
  const methods = known(request.map((e) => e.http.method));
  const routes = known(request.map((e) => e.http.route));
  return [methods.join(','), routes.join(',')].join(' ').trim();
}

function verdictOf(first: Request, again: Request, params: Params): Verdict {
  const gapMs = startOf(again) - startOf(first);
  const isSamePlace = !areApart(userPlaces(first), userPlaces(again));
  const agents = [known(first.map(agentOf)), known(again.map(agentOf))] as const;
  const isOther = agents[0].length > 0 && agents[1].length > 0 && !overlap(...agents);
  if (gapMs <= params.retry_ms && isSamePlace && !isOther && target(first) === target(again))
    return 'retry';
  return isAccepted(again) ? 'replay' : 'replay_refused';
}

const agentOf = (event: AuthEvent): string => event.net.ua_family;
const overlap = (a: readonly string[], b: readonly string[]): boolean =>
  a.some((x) => b.includes(x));

function startOf(request: Request): number {
  const [first] = request;
  return first === undefined ? 0 : timeMs(first);
}

interface Repeat {
  readonly first: Request;
  readonly request: Request;
  readonly verdict: Verdict;
}

/** Requests that repeat a proof within the window of the one before, compared with the first of the run. */
function repeatsOf(requests: readonly Request[], params: Params): Repeat[] {
  const repeats: Repeat[] = [];
  let first: Request | undefined;
  let last: Request | undefined;
  for (const request of requests) {
    const isRepeat =
      first !== undefined &&
      last !== undefined &&
      startOf(request) - startOf(last) <= params.window_ms;
    if (isRepeat && first !== undefined)
      repeats.push({ first, request, verdict: verdictOf(first, request, params) });
    else first = request;
    last = request;
  }
  return repeats;
}

function shown(request: Request, verdict: Verdict | 'first'): Record<string, unknown> {
  const [event] = request;
  return {
    at: event === undefined ? null : isoTime(event),
    verdict,
    accepted: isAccepted(request),
    target: target(request),
    networks: userPlaces(request),
    ua_families: known(request.map(agentOf)),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const repeats = ofOneKey(requestsOf(input)).flatMap((r) => repeatsOf(r, input.params));
  const verdict = ORDER.find((v) => repeats.some((r) => r.verdict === v));
  const worst = repeats.find((r) => r.verdict === verdict);
  if (verdict === undefined || worst === undefined) return [];
  const gapS = (startOf(worst.request) - startOf(worst.first)) / 1_000;
  const isElsewhere = target(worst.first) !== target(worst.request);
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict,
      ...GRADE[verdict],
      summary: `A DPoP proof was presented ${repeats.length + 1} times (${verdict.replaceAll('_', ' ')}).`,
      reasons: [
        `presented again after ${gapS.toFixed(1)} s`,
        ...(isElsewhere
          ? [`first for ${target(worst.first)}, then for ${target(worst.request)}`]
          : []),
        ...(areApart(userPlaces(worst.first), userPlaces(worst.request))
          ? ['from another network']
          : []),
      ],
      evidence: {
        key: known(worst.request.map((e) => e.binding_thumbprint))[0] ?? '',
        presentations: repeats.length + 1,
        gap_ms: startOf(worst.request) - startOf(worst.first),
        accepted_again: repeats.some((r) => r.verdict !== 'retry' && isAccepted(r.request)),
        requests: [
          shown(worst.first, 'first'),
          ...repeats
            .filter((r) => r.first === worst.first)
            .slice(0, REQUESTS_LISTED_MAX - 1)
            .map((r) => shown(r.request, r.verdict)),
        ],
      },
      events: [...worst.first, ...repeats.flatMap((r) => r.request)],
      tokenRefs: [input.entity],
    },
  ];
}

const EACH_PROOF = sql`grantscope.auth_events
  ARRAY JOIN tokens.ref AS proof_ref, tokens.type AS proof_type, tokens.role AS proof_role`;
const PROOF_ROWS = sql`has(tokens.type, 'dpop_proof') AND ${kindIn(KINDS)} AND outcome != 'challenge'
  AND proof_type = 'dpop_proof' AND proof_role = 'presented'`;
/** The request that a row tells of: what requestKey says, else the row itself. */
const REQUEST: Sql = sql`multiIf(corr_trace_id != '', corr_trace_id, corr_request_id != '', corr_request_id,
  corr_transaction_id != '', corr_transaction_id, toString(event_id))`;

const OF_USER = sql`(net_ip_role = 'end_user' AND net_network != '')`;

const PROOF = exampleRef('dpop proof');
const HOME = { network: '198.51.100.0/24', ua_family: 'Chrome', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ua_family: 'curl', ip_role: 'end_user' } as const;
type Net = NonNullable<ExampleEvent['net']>;
const call = (
  t: number,
  request: string,
  net: Net,
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: 'api_accessed',
  outcome: 'success',
  client: { id: 'wallet-app' },
  binding: 'dpop',
  binding_thumbprint: 'key-1',
  corr: { trace_id: request },
  http: { method: 'GET', route: '/orders' },
  net,
  tokens: [{ role: 'presented', type: 'dpop_proof', ref: PROOF }],
  ...more,
});
interface ShownRequest {
  readonly t: number;
  readonly verdict: Verdict | 'first';
  readonly net?: { readonly network: string; readonly ua_family: string };
  readonly accepted?: boolean;
  readonly target?: string;
}
const finding = (
  verdict: Verdict,
  acceptedAgain: boolean,
  requests: readonly ShownRequest[],
  gapS: number,
) => ({
  entity: PROOF,
  episode: LIFETIME_EPISODE,
  verdict,
  severity: GRADE[verdict].severity,
  evidence: {
    key: 'key-1',
    presentations: requests.length,
    gap_ms: gapS * 1_000,
    accepted_again: acceptedAgain,
    requests: requests.map((r) => ({
      at: new Date(Date.UTC(2026, 0, 5, 12) + r.t * 1_000).toISOString(),
      verdict: r.verdict,
      accepted: r.accepted ?? true,
      target: r.target ?? 'GET /orders',
      networks: [(r.net ?? HOME).network],
      ua_families: [(r.net ?? HOME).ua_family],
    })),
  },
});

const proofOf = (name: string): NonNullable<ExampleEvent['tokens']> => [
  { role: 'presented', type: 'dpop_proof', ref: exampleRef(name) },
];
/** A retry after a second, from home; the user agents of both requests. */
const retryFinding = (entity: string, agents: readonly (readonly string[])[]) => {
  const told = finding(
    'retry',
    false,
    [
      { t: 0, verdict: 'first' },
      { t: 1, verdict: 'retry' },
    ],
    1,
  );
  const requests = told.evidence.requests.map((r, i) => ({ ...r, ua_families: agents[i] ?? [] }));
  return { ...told, entity, evidence: { ...told.evidence, requests } };
};

const aboutProofs = (fact: EventFact): boolean =>
  KINDS.some((k) => k === fact.kind) && mentions(fact, ROLES, TYPES);

export default defineDetector<Params>({
  id: 'dpop_proof_replay',
  version: 1,
  title: 'DPoP proof presented again',
  family: 'token_replay',
  severity: 'high',
  confidence: 90,
  description:
    'A DPoP proof is made for one request. The same proof (key and jti) in a second request means that somebody recorded it, and a server that accepts it does not keep track of jti: then a bound token is as good as a bearer token for as long as the proof is fresh.',
  references: ['RFC 9449 section 11.1', 'RFC 9449 section 4.3', 'ATT&CK T1550.001'],
  entity: 'token',
  verdicts: VERDICTS,
  evidence: {
    key: 'Thumbprint of the key (jkt); empty where unknown.',
    presentations: 'Requests that carried the proof.',
    gap_ms: 'From the first request to the gravest repeat.',
    accepted_again: 'Whether a repeat that is no retry was accepted.',
    requests:
      'The first request and its repeats: time, verdict, whether accepted, method and route, user networks, user agents (at most 20).',
  },
  needs: ['tokens.ref', 'tokens.type', 'tokens.role', 'outcome', 'corr.trace_id'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: aboutProofs,
  watch: () => ({
    by: 'facets',
    stream: {
      concerns: aboutProofs,
      from: EACH_PROOF,
      where: PROOF_ROWS,
      key: sql`proof_ref`,
      // Under one trace, two validations or two networks of users are two requests as well.
      facets: [
        sql`bitOr(cityHash64(${REQUEST}), 1)`,
        sql`if(kind = 'token_validated', bitOr(cityHash64(event_id), 1), 0)`,
        sql`if(net_ip_role = 'end_user', ${textFacet(sql`net_network`)}, 0)`,
      ],
    },
    isHot: (seen) => seen.varies(0) || seen.varies(1) || seen.varies(2),
  }),
  // A proof is good for minutes, so its repeats lie close together in event time.
  candidates: (scope, params) => {
    const rows = sql`tenant = ${param.string(scope.tenant)} AND ${PROOF_ROWS}`;
    return sql`
    SELECT toString(proof_ref) AS entity, max(time) AS at FROM ${EACH_PROOF}
    WHERE ${rows} AND ${aroundNews(scope, params.window_ms)}
      AND proof_ref IN (SELECT proof_ref FROM ${EACH_PROOF} WHERE ${rows} AND ${scope.condition})
    GROUP BY proof_ref HAVING min(${REQUEST}) != max(${REQUEST})
      OR minIf(event_id, kind = 'token_validated') != maxIf(event_id, kind = 'token_validated')
      OR minIf(net_network, ${OF_USER}) != maxIf(net_network, ${OF_USER})`;
  },
  history: (selection) =>
    tokenHistory(selection, ledgerCondition({ kinds: KINDS, types: TYPES, roles: ROLES })),
  evaluate,
  falsePositives: [
    'A client library that reuses one proof for several calls: a defect of the client.',
    'A proxy that repeats a call after more than retry_ms.',
    'Not reported: a proof that was answered with a nonce challenge, the records that gateway and resource server make of one request, one jti under two keys.',
  ],
  examples: [
    {
      name: 'replay: another program elsewhere presents the proof within its time, for another route',
      events: [
        call(0, 'r1', HOME),
        call(20, 'r2', AWAY, { http: { method: 'GET', route: '/export' } }),
      ],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 20, verdict: 'replay', net: AWAY, target: 'GET /export' },
          ],
          20,
        ),
      ],
    },
    {
      name: 'replay: at once, but from elsewhere; told by gateway and resource server',
      events: [
        call(2, 'r2', AWAY),
        call(2.01, 'r2', AWAY, { kind: 'token_validated', http: {} }),
        call(0.01, 'r1', HOME, { kind: 'token_validated', http: {} }),
        call(0, 'r1', HOME),
      ],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 2, verdict: 'replay', net: AWAY },
          ],
          2,
        ),
      ],
    },
    {
      name: 'replay under the trace of the first request, from another network',
      events: [call(0, 'r1', HOME), call(20, 'r1', AWAY)],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 20, verdict: 'replay', net: AWAY },
          ],
          20,
        ),
      ],
    },
    {
      name: 'replay: at the end of the window',
      events: [call(0, 'r1', HOME), call(300, 'r2', HOME)],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 300, verdict: 'replay' },
          ],
          300,
        ),
      ],
    },
    {
      name: 'replay refused: the server keeps track of proofs',
      events: [
        call(0, 'r1', HOME),
        call(6, 'r2', AWAY, { kind: 'token_rejected', outcome: 'failure' }),
      ],
      expect: [
        finding(
          'replay_refused',
          false,
          [
            { t: 0, verdict: 'first' },
            { t: 6, verdict: 'replay_refused', net: AWAY, accepted: false },
          ],
          6,
        ),
      ],
    },
    {
      name: 'retry: the same call from the same place within five seconds',
      events: [call(0, 'r1', HOME), call(5, 'r2', HOME)],
      expect: [
        finding(
          'retry',
          false,
          [
            { t: 0, verdict: 'first' },
            { t: 5, verdict: 'retry' },
          ],
          5,
        ),
      ],
    },
    {
      name: 'replay: the same call from the same place, just too late for a retry',
      events: [call(0, 'r1', HOME), call(5.001, 'r2', HOME)],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 5.001, verdict: 'replay' },
          ],
          5.001,
        ),
      ],
    },
    {
      name: 'silent: one request, told by gateway and resource server, with and without a trace',
      events: [
        call(0, 'r1', HOME),
        call(0.01, 'r1', HOME, { kind: 'token_validated' }),
        call(1, '', HOME, {
          source: { id: 'otlp', instance: 'edge' },
          tokens: [{ role: 'presented', type: 'dpop_proof', ref: exampleRef('other proof') }],
        }),
        call(3, '', HOME, {
          source: { id: 'otlp', instance: 'orders' },
          tokens: [{ role: 'presented', type: 'dpop_proof', ref: exampleRef('other proof') }],
        }),
      ],
      expect: [],
    },
    {
      name: 'silent: a nonce was asked for first',
      events: [
        call(0, 'r1', HOME, { kind: 'token_request_failed', outcome: 'challenge' }),
        call(1, 'r2', HOME, { kind: 'token_issued' }),
      ],
      expect: [],
    },
    {
      name: 'silent: beyond the window, a jti may come again',
      events: [call(0, 'r1', HOME), call(300.001, 'r2', AWAY)],
      expect: [],
    },
    {
      name: 'silent: one jti under two keys',
      events: [call(0, 'r1', HOME), call(10, 'r2', AWAY, { binding_thumbprint: 'key-2' })],
      expect: [],
    },
    {
      name: 'silent for a client that is excluded',
      parameters: { exclude_clients: ['wallet-app'] },
      events: [call(0, 'r1', HOME), call(20, 'r2', AWAY)],
      expect: [],
    },
    ...KINDS.filter((k) => k !== 'token_request_failed' && k !== 'token_rejected').map((kind) => ({
      name: `replay: presented again in ${kind}`,
      events: [call(0, 'r1', HOME), call(20, 'r2', AWAY, { kind })],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 20, verdict: 'replay', net: AWAY },
          ],
          20,
        ),
      ],
    })),
    {
      name: 'replay refused: by the token endpoint',
      events: [
        call(0, 'r1', HOME),
        call(20, 'r2', AWAY, { kind: 'token_request_failed', outcome: 'failure' }),
      ],
      expect: [
        finding(
          'replay_refused',
          false,
          [
            { t: 0, verdict: 'first' },
            { t: 20, verdict: 'replay_refused', net: AWAY, accepted: false },
          ],
          20,
        ),
      ],
    },
    {
      name: 'replay: by another program from the same network, by another network alone, for another route',
      events: [
        [call(0, 'r1', HOME), call(2, 'r2', { ...HOME, ua_family: 'curl' })],
        [
          call(0, 'r3', HOME, { tokens: proofOf('by network') }),
          call(2, 'r4', { ...AWAY, ua_family: 'Chrome' }, { tokens: proofOf('by network') }),
        ],
        [
          call(0, 'r5', HOME, { tokens: proofOf('by route') }),
          call(2, 'r6', HOME, {
            http: { method: 'GET', route: '/export' },
            tokens: proofOf('by route'),
          }),
        ],
      ].flat(),
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 2, verdict: 'replay', net: { ...HOME, ua_family: 'curl' } },
          ],
          2,
        ),
        {
          ...finding(
            'replay',
            true,
            [
              { t: 0, verdict: 'first' },
              { t: 2, verdict: 'replay', net: { ...AWAY, ua_family: 'Chrome' } },
            ],
            2,
          ),
          entity: exampleRef('by network'),
        },
        {
          ...finding(
            'replay',
            true,
            [
              { t: 0, verdict: 'first' },
              { t: 2, verdict: 'replay', target: 'GET /export' },
            ],
            2,
          ),
          entity: exampleRef('by route'),
        },
      ],
    },
    {
      name: 'retry: one of the two tells no user agent, or they share one',
      events: [
        call(0, 'r1', { network: HOME.network, ip_role: 'end_user' }),
        call(1, 'r2', HOME),
        call(0, 'r3', HOME, { tokens: proofOf('no agent again') }),
        call(
          1,
          'r4',
          { network: HOME.network, ip_role: 'end_user' },
          { tokens: proofOf('no agent again') },
        ),
        call(0, 'r5', HOME, { tokens: proofOf('two agents') }),
        call(
          0.01,
          'r5',
          { ...HOME, ua_family: 'edge' },
          {
            kind: 'token_validated',
            http: {},
            tokens: proofOf('two agents'),
          },
        ),
        call(1, 'r6', HOME, { tokens: proofOf('two agents') }),
      ],
      expect: [
        retryFinding(PROOF, [[], ['Chrome']]),
        retryFinding(exampleRef('no agent again'), [['Chrome'], []]),
        retryFinding(exampleRef('two agents'), [['Chrome', 'edge'], ['Chrome']]),
      ],
    },
    {
      name: 'the gravest repeat is told, and first of that; a retry before it does not hide it',
      events: [
        call(0, 'r1', HOME),
        call(1, 'r2', HOME),
        call(20, 'r3', AWAY, { kind: 'token_rejected', outcome: 'failure' }),
        call(30, 'r4', AWAY),
        call(40, 'r5', AWAY),
      ],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 1, verdict: 'retry' },
            { t: 20, verdict: 'replay_refused', net: AWAY, accepted: false },
            { t: 30, verdict: 'replay', net: AWAY },
            { t: 40, verdict: 'replay', net: AWAY },
          ],
          30,
        ),
      ],
    },
    {
      name: 'replay refused: the gateway let it pass, the resource server did not; nobody told how it ended',
      events: [
        call(0, 'r1', HOME),
        call(20, 'r2', AWAY),
        call(20.01, 'r2', AWAY, { kind: 'token_rejected', outcome: 'failure', http: {} }),
        call(0, 'r3', HOME, { tokens: proofOf('no outcome') }),
        call(20, 'r4', AWAY, { outcome: 'unknown', tokens: proofOf('no outcome') }),
      ],
      expect: [PROOF, exampleRef('no outcome')].map((entity) => ({
        ...finding(
          'replay_refused',
          false,
          [
            { t: 0, verdict: 'first' },
            { t: 20, verdict: 'replay_refused', net: AWAY, accepted: false },
          ],
          20,
        ),
        entity,
      })),
    },
    {
      name: 'replay: accepted by the resource server, while the gateway told no outcome',
      events: [
        call(0, 'r1', HOME),
        call(20, 'r2', AWAY),
        call(20.01, 'r2', AWAY, { kind: 'token_validated', outcome: 'unknown', http: {} }),
      ],
      expect: [
        finding(
          'replay',
          true,
          [
            { t: 0, verdict: 'first' },
            { t: 20, verdict: 'replay', net: AWAY },
          ],
          20,
        ),
      ],
    },
    {
      name: 'without a trace: one party’s second record is a repeat, and so is what comes later than two seconds',
      events: [
        call(0, '', HOME, { source: { id: 'otlp', instance: 'edge' } }),
        call(1, '', HOME, { source: { id: 'otlp', instance: 'orders' } }),
        call(1.5, '', HOME, { source: { id: 'otlp', instance: 'edge' } }),
        call(0, '', HOME, {
          source: { id: 'otlp', instance: 'edge' },
          tokens: proofOf('late pair'),
        }),
        call(2.001, '', HOME, {
          source: { id: 'otlp', instance: 'orders' },
          tokens: proofOf('late pair'),
        }),
        call(0, '', HOME, {
          source: { id: 'otlp', instance: 'edge' },
          tokens: proofOf('half traced'),
        }),
        call(1, 'r9', HOME, {
          source: { id: 'otlp', instance: 'orders' },
          tokens: proofOf('half traced'),
        }),
      ],
      expect: [
        { entity: PROOF, t: 1.5 },
        { entity: exampleRef('late pair'), t: 2.001 },
        { entity: exampleRef('half traced'), t: 1 },
      ].map(({ entity, t }) => ({
        ...finding(
          'retry',
          false,
          [
            { t: 0, verdict: 'first' },
            { t, verdict: 'retry' },
          ],
          t,
        ),
        entity,
      })),
    },
    {
      name: 'silent: requests that one correlation each tells apart from none',
      events: [
        call(0, '', HOME, { corr: { request_id: 'q-1' } }),
        call(0.01, '', HOME, { corr: { request_id: 'q-1' }, kind: 'token_validated' }),
        call(0, '', HOME, { corr: { transaction_id: 'x-1' }, tokens: proofOf('by transaction') }),
        call(0.01, '', HOME, {
          corr: { transaction_id: 'x-1' },
          kind: 'token_validated',
          tokens: proofOf('by transaction'),
        }),
        call(0, 'r7', HOME, {
          outcome: 'challenge',
          kind: 'token_rejected',
          tokens: proofOf('nonce of the resource server'),
        }),
        call(1, 'r8', HOME, { tokens: proofOf('nonce of the resource server') }),
        call(0, 'r10', HOME, { tokens: [{ role: 'issued', type: 'dpop_proof', ref: PROOF }] }),
      ],
      expect: [],
    },
    {
      name: 'replay: the second request tells no key',
      events: [call(0, 'r1', HOME), call(20, 'r2', AWAY, { binding_thumbprint: '' })],
      expect: [
        ((told) => ({ ...told, evidence: { ...told.evidence, key: '' } }))(
          finding(
            'replay',
            true,
            [
              { t: 0, verdict: 'first' },
              { t: 20, verdict: 'replay', net: AWAY },
            ],
            20,
          ),
        ),
      ],
    },
  ],
});
