import { z } from 'zod';
import type { AuthEvent, TokenMention } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  mentions,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { byThing } from './_names.ts';
import { ofDay } from './_episodes.ts';
import { timeNs } from './_rates.ts';

const NS_PER_MS = 1_000_000n;
const NS_PER_S = 1_000_000_000n;
const NS_PER_DAY = 86_400_000_000_000n;
/** Events read per client and day, longest lifetimes first. */
const EVENTS_PER_DAY_MAX = 200;
/** Different lifetimes counted per client and day, longest first. */
const LIFETIMES_PER_DAY_MAX = 500;
/** Accepted tokens per client and day whose issue is looked up, longest first. */
const LOOKED_UP_MAX = 200;

const Parameters = z.strictObject({
  /** So many times the client's 99th percentile. */
  factor: z.number().min(1).max(1_000).default(1.5),
  /** How far back the percentile is taken, whole days before the day that is judged, ms. */
  baseline_ms: z.int().min(86_400_000).max(2_592_000_000).default(604_800_000),
  /** Access tokens that a client must have got on these days; before, it is learnt. */
  min_learnt: z.int().min(1).max(1_000_000).default(30),
  /** Shorter tokens are not looked at, ms. */
  min_lifetime_ms: z.int().min(0).max(31_536_000_000).default(3_600_000),
  /** Longest lifetime that the operator's policy allows, ms; 0: no policy. Needs no learning. */
  max_lifetime_ms: z.int().min(0).max(31_536_000_000).default(0),
  /** Clients with a right to long tokens. */
  exclude_clients: z.array(z.string().min(1)).default([]),
});
type Params = z.infer<typeof Parameters>;

const ISSUED: readonly EventKind[] = ['token_issued', 'token_refreshed', 'token_exchanged'];
const ACCEPTED: readonly EventKind[] = ['token_validated', 'api_accessed'];
const KINDS: readonly EventKind[] = [...ISSUED, ...ACCEPTED];

/**
 * Access tokens whose lifetime is known, s: one row per mention, without the second ones that a rotation of keys adds. A server
 * that tells no time of issue issued the token when it says so.
 */
function lifetimes(tenant: string, kinds: readonly EventKind[], condition: Sql): Sql {
  return sql`
    SELECT toString(client_id) AS entity, event_id, time, t_role AS role, t_ref AS ref, if(t_ref = ${nilRef}, event_id, t_ref) AS token,
      if(t_issued = toDateTime(0, 'UTC'), toDateTime(time, 'UTC'), t_issued) AS issued,
      toInt64(toUnixTimestamp(t_expires)) - toInt64(if(t_issued = toDateTime(0, 'UTC'), toUnixTimestamp(time), toUnixTimestamp(t_issued))) AS lifetime_s
    FROM grantscope.auth_events
    ARRAY JOIN tokens.role AS t_role, tokens.type AS t_type, tokens.ref AS t_ref, tokens.ref_kind AS t_kind,
      tokens.issued_at AS t_issued, tokens.expires_at AS t_expires
    WHERE tenant = ${param.string(tenant)} AND ${kindIn(kinds)} AND outcome = 'success' AND client_id != '' AND t_type = 'access' AND t_kind != 'hmac_next'
      AND t_expires != toDateTime(0, 'UTC') AND ((t_role = 'issued' AND ${kindIn(ISSUED)})
        OR (t_role = 'presented' AND ${kindIn(ACCEPTED)} AND t_issued != toDateTime(0, 'UTC')))
      AND ${condition}`;
}

function isLong(params: Params): Sql {
  return sql`lifetime_s * 1000 > ${param.int(params.min_lifetime_ms)}`;
}

/** New long tokens; and new tokens of earlier days, where a later day has long ones of the same client. */
function candidates(scope: CandidateScope, params: Params): Sql {
  const nextDay = (scope.timeFrom / NS_PER_DAY + 1n) * NS_PER_DAY;
  const until = scope.timeTo + BigInt(params.baseline_ms) * NS_PER_MS + NS_PER_DAY;
  const later = sql`time >= ${timeNs(nextDay)} AND time < ${timeNs(until)}`;
  return sql`
    SELECT entity, time AS at FROM (${lifetimes(scope.tenant, KINDS, scope.condition)}) WHERE ${isLong(params)}
    UNION ALL
    SELECT entity, time AS at FROM (${lifetimes(scope.tenant, ISSUED, scope.condition)})
    WHERE entity IN (SELECT entity FROM (${lifetimes(scope.tenant, KINDS, later)}) WHERE ${isLong(params)})`;
}

function between(selection: HistorySelection, from: bigint, to: bigint): Sql {
  return sql`client_id IN ${param.strings(selection.entities)} AND time >= ${timeNs(from)} AND time < ${timeNs(to)}`;
}

function longToday(selection: HistorySelection, params: Params): Sql {
  const { from, to } = selection.window ?? { from: 0n, to: 0n };
  return sql`SELECT * FROM (${lifetimes(selection.tenant, KINDS, between(selection, from, to))}) WHERE ${isLong(params)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, min(time) AS at, max(lifetime_s) AS longest
      FROM (${longToday(selection, params)}) GROUP BY entity, event_id
    ) ORDER BY entity, longest DESC, at, event_id LIMIT ${param.uint(EVENTS_PER_DAY_MAX)} BY entity`;
}

/** The same with `thing`: what a token is called by one key, whichever made the reference. */
function longTodayByToken(selection: HistorySelection, params: Params): Sql {
  const since = (selection.window?.from ?? 0n) - BigInt(params.baseline_ms) * NS_PER_MS;
  return byThing({ tenant: selection.tenant, since }, longToday(selection, params));
}

/**
 * Long tokens that were accepted today, and that no record tells the issue of, though it lies within what is learnt.
 */
function notIssued(selection: HistorySelection, params: Params): Sql {
  const from = (selection.window?.from ?? 0n) - BigInt(params.baseline_ms) * NS_PER_MS;
  const accepted = sql`SELECT * FROM (${longTodayByToken(selection, params)})
    WHERE role = 'presented' AND ref != ${nilRef} AND issued >= toDateTime(${timeNs(from)}, 'UTC')`;
  const issued = sql`SELECT token_ref FROM grantscope.token_events
    WHERE tenant = ${param.string(selection.tenant)} AND token_role = 'issued'
      AND token_ref IN (SELECT arrayJoin([ref, thing]) FROM (${accepted}))`;
  return sql`
    SELECT entity, thing AS ref, max(lifetime_s) AS longest, min(time) AS at FROM (${accepted})
    WHERE thing NOT IN (${issued}) AND ref NOT IN (${issued})
    GROUP BY entity, thing ORDER BY entity, longest DESC, ref LIMIT ${param.uint(LOOKED_UP_MAX)} BY entity`;
}

/**
 * What the client got on earlier days (`p99`, s; `learnt`, tokens), how many long tokens of which lifetime today, and those
 * whose issue nobody recorded, with their lifetime.
 */
function facts(selection: HistorySelection, params: Params): Sql {
  const from = selection.window?.from ?? 0n;
  const before = between(selection, from - BigInt(params.baseline_ms) * NS_PER_MS, from);
  return sql`
    SELECT entity, part.1 AS name, '' AS key, ${timeNs(from)} AS at, part.2 AS value FROM (
      SELECT entity, quantileExactWeighted(0.99)(lifetime_s, n) AS p99, sum(n) AS learnt FROM (
        SELECT entity, lifetime_s, uniqCombined64(token) AS n FROM (${lifetimes(selection.tenant, ISSUED, before)})
        GROUP BY entity, lifetime_s)
      GROUP BY entity
    ) ARRAY JOIN [('p99', toFloat64(p99)), ('learnt', toFloat64(learnt))] AS part
    UNION ALL
    SELECT entity, 'long' AS name, toString(lifetime_s) AS key, at, n AS value FROM (
      SELECT entity, lifetime_s, min(time) AS at, toFloat64(uniqCombined64(if(thing = ${nilRef}, event_id, thing))) AS n
      FROM (${longTodayByToken(selection, params)})
      GROUP BY entity, lifetime_s ORDER BY entity, lifetime_s DESC LIMIT ${param.uint(LIFETIMES_PER_DAY_MAX)} BY entity)
    UNION ALL
    SELECT entity, 'not_issued' AS name, toString(ref) AS key, at, toFloat64(longest) AS value FROM (${notIssued(selection, params)})`;
}

interface LongToken {
  readonly token: TokenMention;
  readonly event: AuthEvent;
  readonly lifetimeS: number;
}

/** The access tokens that `lifetimes` reads, out of one event. */
function longTokens(event: AuthEvent, limitS: number): LongToken[] {
  const isIssue = ISSUED.some((k) => k === event.kind);
  return event.tokens.flatMap((token) => {
    if (token.type !== 'access' || token.expires_at === null) return [];
    if (token.role !== (isIssue ? 'issued' : 'presented')) return [];
    if (!isIssue && token.issued_at === null) return [];
    const seconds = token.expires_at / NS_PER_S - (token.issued_at ?? event.time) / NS_PER_S;
    const lifetimeS = Number(seconds);
    return lifetimeS > limitS ? [{ token, event, lifetimeS }] : [];
  });
}

/** The limits that hold for the client on this day, s; undefined: none. */
function limitsOf(input: EvaluateInput<Params>): {
  readonly usual: number | undefined;
  readonly policy: number | undefined;
  readonly p99: number | undefined;
  readonly learnt: number;
} {
  const { facts: all, params } = input;
  const learnt = all.find((f) => f.name === 'learnt')?.value ?? 0;
  const isLearnt = learnt >= params.min_learnt;
  const p99 = isLearnt ? all.find((f) => f.name === 'p99')?.value : undefined;
  return {
    usual: p99 === undefined ? undefined : p99 * params.factor,
    policy: params.max_lifetime_ms === 0 ? undefined : params.max_lifetime_ms / 1_000,
    p99,
    learnt,
  };
}

function anomalies(input: EvaluateInput<Params>): LongToken[] {
  const { usual, policy } = limitsOf(input);
  const limit = Math.min(usual ?? Infinity, policy ?? Infinity);
  const events = ofDay(input.events, input.window).filter((e) => e.client.id === input.entity);
  const floor = input.params.min_lifetime_ms / 1_000;
  return events.flatMap((e) => longTokens(e, Math.max(limit, floor)));
}

type Verdict = 'accepted_not_issued' | 'beyond_policy' | 'longer_than_usual';
const LEVELS = {
  accepted_not_issued: { severity: 'high', confidence: 75 },
  beyond_policy: { severity: 'medium', confidence: 85 },
  longer_than_usual: { severity: 'medium', confidence: 60 },
} as const;

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const found = anomalies(input);
  if (found.length === 0) return [];
  const { usual, policy, p99, learnt } = limitsOf(input);
  const limit = Math.min(usual ?? Infinity, policy ?? Infinity);
  const long = input.facts.filter((f) => f.name === 'long' && Number(f.key) > limit);
  const longest = Math.max(...found.map((t) => t.lifetimeS));
  const unknown =
    usual === undefined
      ? []
      : input.facts.filter((f) => f.name === 'not_issued' && f.value > usual);
  const verdict: Verdict =
    unknown.length > 0
      ? 'accepted_not_issued'
      : policy !== undefined && longest > policy
        ? 'beyond_policy'
        : 'longer_than_usual';
  const first = long.reduce((a, f) => (f.at < a ? f.at : a), found[0]?.event.time ?? 0n);
  const events = [...new Set(found.map((t) => t.event))];
  return [
    {
      episode: new Date(Number(first / NS_PER_MS)).toISOString(),
      verdict,
      ...LEVELS[verdict],
      summary: `Client ${entity} has access tokens that live up to ${longest} s${p99 === undefined ? '' : `; 99 % of its tokens lived ${p99} s or less`}.`,
      reasons: [
        ...(unknown.length > 0
          ? [`${unknown.length} of them were accepted, and no record tells of their issue`]
          : []),
        ...(policy !== undefined && longest > policy ? [`the policy allows ${policy} s`] : []),
        ...(usual !== undefined && longest > usual
          ? [`more than ${params.factor} times what is usual for this client`]
          : []),
      ],
      evidence: {
        longest_s: longest,
        tokens: long.reduce((n, f) => n + f.value, 0),
        usual_p99_s: p99 ?? null,
        learnt_tokens: learnt,
        policy_s: policy ?? null,
        not_issued: unknown.length,
      },
      events,
      tokenRefs: [...unknown.map((f) => f.key), ...found.map(({ token }) => token.ref)],
    },
  ];
}

const DAY = 86_400;
const atS = (t: number): bigint =>
  BigInt(Date.UTC(2026, 0, 5, 12)) * NS_PER_MS + BigInt(t) * NS_PER_S;
/** An access token that lives `life` s, as its issue or its use tells. */
const token = (
  role: 'issued' | 'presented',
  client: string,
  name: string,
  t: number,
  life: number,
  at = t,
): ExampleEvent => ({
  t: at,
  kind: role === 'issued' ? 'token_issued' : 'token_validated',
  outcome: 'success',
  grant_type: 'authorization_code',
  client: { id: client },
  tokens: [
    {
      role,
      type: 'access',
      ref: exampleRef(`lifetime ${client} ${name}`),
      issued_at: atS(t),
      expires_at: atS(t + life),
    },
  ],
});
/** Thirty tokens of the day before. */
const learnt = (client: string, life: number, n = 30): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => token('issued', client, `learnt ${i}`, -DAY + i * 60, life));
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
  evidence: {
    tokens: 1,
    usual_p99_s: 3_600,
    learnt_tokens: 30,
    policy_s: null,
    not_issued: 0,
    ...evidence,
  },
});

export default defineDetector<Params>({
  id: 'token_lifetime_anomaly',
  version: 1,
  title: 'Access token lives longer than usual',
  family: 'protocol',
  severity: 'high',
  confidence: 75,
  description:
    'Access tokens of a client live far longer than those it got on earlier days, or longer than the policy allows: a changed setting, or tokens that the authorization server never issued.',
  references: ['RFC 6819 section 5.1.5.3', 'RFC 9068 section 2.2', 'ATT&CK T1606'],
  entity: 'client',
  verdicts: {
    accepted_not_issued:
      "A resource server accepted such a token, and no record tells of its issue, though this client's issues are recorded: it may be forged.",
    beyond_policy: 'Longer than max_lifetime_ms.',
    longer_than_usual: 'More than `factor` times the 99th percentile of the earlier days.',
  },
  evidence: {
    longest_s: 'The longest lifetime (exp - iat) of the day, s.',
    tokens: 'Tokens of the day beyond the limit.',
    usual_p99_s: '99th percentile of the earlier days, s; null while the client is learnt.',
    learnt_tokens: 'Access tokens issued to the client on these days.',
    policy_s: 'What the policy allows, s; null without one.',
    not_issued:
      'Accepted tokens longer than usual, issued lately by their own word, whose issue nobody recorded (at most 200).',
  },
  needs: ['tokens.issued_at', 'tokens.expires_at', 'client.id'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 86_400_000,
  parameters: Parameters,
  // The earlier days are whole ones.
  lookbackMs: (params) => params.baseline_ms + 86_400_000,
  concerns: (fact) =>
    KINDS.some((k) => k === fact.kind) && mentions(fact, ['issued', 'presented'], ['access']),
  // An event of an earlier day may change what is usual.
  screen: (params) => sql`${kindIn(KINDS)} AND (time < toStartOfDay(now('UTC') + INTERVAL 1 HOUR)
    OR arrayExists((ty, ex, si) -> ty = 'access' AND (toInt64(toUnixTimestamp(ex)) - if(si = toDateTime(0, 'UTC'), toInt64(toUnixTimestamp(time)), toInt64(toUnixTimestamp(si)))) * 1000 > ${param.int(params.min_lifetime_ms)},
      tokens.type, tokens.expires_at, tokens.issued_at))`,
  candidates,
  history,
  facts,
  evaluate,
  falsePositives: [
    'The lifetime was raised on purpose: it is usual from the next day on.',
    'accepted_not_issued where the authorization server lost records of its issues.',
    'A client with a few long tokens among many short ones, such as a monthly export: list it in exclude_clients.',
  ],
  examples: [
    {
      name: 'fires above one and a half times the 99th percentile, told in any order',
      events: [
        token('issued', 'shop-a', 'long', 0, 5_401),
        token('issued', 'shop-a', 'usual', 10, 5_400),
        ...learnt('shop-a', 3_600),
      ],
      expect: [expected('shop-a', 0, 'longer_than_usual', { longest_s: 5_401 })],
    },
    {
      name: 'a use tells as much as an issue, and counts the token once',
      events: [
        ...learnt('shop-b', 3_600),
        token('issued', 'shop-b', 'long', 0, 86_400),
        token('presented', 'shop-b', 'long', 0, 86_400, 60),
        token('presented', 'shop-b', 'long', 0, 86_400, 120),
      ],
      expect: [expected('shop-b', 0, 'longer_than_usual', { longest_s: 86_400 })],
    },
    {
      name: 'accepted, and never issued',
      events: [...learnt('shop-c', 3_600), token('presented', 'shop-c', 'forged', 0, 86_400, 60)],
      expect: [expected('shop-c', 60, 'accepted_not_issued', { longest_s: 86_400, not_issued: 1 })],
    },
    {
      name: 'issued the day before and used today: long, and no forgery',
      events: [
        token('presented', 'shop-d', 'yesterday', -43_300, 172_800, 60),
        token('issued', 'shop-d', 'yesterday', -43_300, 172_800),
        ...learnt('shop-d', 3_600, 200),
      ],
      expect: [
        expected('shop-d', 60, 'longer_than_usual', { longest_s: 172_800, learnt_tokens: 201 }),
      ],
    },
    {
      name: 'silent: one in thirty of the earlier days lived as long',
      events: [
        ...learnt('shop-k', 3_600),
        token('issued', 'shop-k', 'yesterday', -43_300, 172_800),
        token('presented', 'shop-k', 'forged', -60, 172_800, 60),
      ],
      expect: [],
    },
    {
      name: 'beyond the policy, without learning',
      parameters: { max_lifetime_ms: 7_200_000 },
      events: [
        token('issued', 'shop-e', 'at the limit', 0, 7_200),
        token('issued', 'shop-e', 'beyond', 5, 7_201),
      ],
      expect: [
        expected('shop-e', 5, 'beyond_policy', {
          longest_s: 7_201,
          usual_p99_s: null,
          learnt_tokens: 0,
          policy_s: 7_200,
        }),
      ],
    },
    {
      name: 'a server that tells no time of issue: the event is the issue',
      events: [
        ...learnt('shop-f', 3_600),
        {
          ...token('issued', 'shop-f', 'long', 0, 0),
          tokens: [
            {
              role: 'issued' as const,
              type: 'access' as const,
              ref: exampleRef('lifetime shop-f long'),
              expires_at: atS(36_000),
            },
          ],
        },
      ],
      expect: [expected('shop-f', 0, 'longer_than_usual', { longest_s: 36_000 })],
    },
    {
      name: 'silent: a new client learns first',
      events: [...learnt('shop-g', 3_600, 29), token('issued', 'shop-g', 'long', 0, 86_400)],
      expect: [],
    },
    {
      name: 'silent: an hour or less, however short the others are',
      events: [...learnt('shop-h', 300), token('issued', 'shop-h', 'hour', 0, 3_600)],
      expect: [],
    },
    {
      name: 'silent: what was learnt too long ago, refresh tokens, refused ones, unknown lifetimes',
      events: [
        ...learnt('shop-i', 3_600).map((e) => ({ ...e, t: e.t - 8 * DAY })),
        token('issued', 'shop-i', 'long', 0, 86_400),
        ...learnt('shop-j', 3_600),
        {
          ...token('issued', 'shop-j', 'refresh', 0, 0),
          tokens: [
            {
              role: 'issued' as const,
              type: 'refresh' as const,
              ref: exampleRef('lifetime shop-j refresh'),
              issued_at: atS(0),
              expires_at: atS(864_000),
            },
            {
              role: 'issued' as const,
              type: 'access' as const,
              ref: exampleRef('lifetime shop-j opaque'),
            },
          ],
        },
        { ...token('presented', 'shop-j', 'refused', 0, 86_400), outcome: 'failure' as const },
      ],
      expect: [],
    },
    {
      name: 'silent: an excluded client',
      parameters: { exclude_clients: ['export'], max_lifetime_ms: 7_200_000 },
      events: [...learnt('export', 3_600), token('issued', 'export', 'long', 0, 86_400)],
      expect: [],
    },
  ],
});
