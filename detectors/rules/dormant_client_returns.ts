import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type EntityFact,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';
import { isoTime, known, tokensOf } from './_origin.ts';
import {
  grantsPrivileged,
  privilegedCandidates,
  privilegedTrigger,
  PRIVILEGED_SCOPES,
  privilegedTest,
} from './_privileged.ts';
import { timeSql } from './_windows.ts';

/** What counts as a use of the client. */
const KINDS = ['token_issued', 'token_refreshed', 'token_exchanged'] as const;
/** Privileged grants read per client, day, network and set of scopes. */
const EVENTS_PER_SHAPE_MAX = 20;
const NS_PER_MS = 1_000_000n;
const NS_PER_DAY = 86_400_000_000_000n;
const LISTED_MAX = 20;

const Parameters = z
  .strictObject({
    /** A client is dormant when it was not used for so long, days. */
    dormant_days: z.int().min(1).max(365).default(60),
    /** How far back the use before the pause is looked for, days. */
    history_days: z.int().min(1).max(730).default(180),
    /** How long after its return a privileged scope counts, ms. */
    within_ms: z.int().min(60_000).max(86_400_000).default(86_400_000),
    /** `*` stands for any run of characters; case does not count. */
    privileged_scopes: z.array(z.string().min(1)).default([...PRIVILEGED_SCOPES]),
    /** Clients that are used now and then by design. */
    exclude_clients: z.array(z.string()).default([]),
  })
  .refine((p) => p.history_days > p.dormant_days, {
    path: ['history_days'],
    message: 'must be more than dormant_days',
  });
type Params = z.infer<typeof Parameters>;

/** The first use after a pause. */
interface Return {
  /** Event times, ns. */
  readonly lastUsed: bigint;
  readonly at: bigint;
}

/** Pauses between days of use, told by the first and last use of each day. */
function returnsOf(facts: readonly EntityFact[], params: Params): Return[] {
  const firsts = facts.filter((f) => f.name === 'day_first');
  const lasts = facts.filter((f) => f.name === 'day_last');
  const dormantNs = BigInt(params.dormant_days) * NS_PER_DAY;
  return firsts.flatMap(({ at }, i) => {
    const before = lasts[i - 1];
    return before !== undefined && at - before.at >= dormantNs ? [{ lastUsed: before.at, at }] : [];
  });
}

function toSignal(
  events: readonly AuthEvent[],
  back: Return,
  input: EvaluateInput<Params>,
): Signal {
  const isPrivileged = privilegedTest(input.params.privileged_scopes);
  const scopes = known(events.flatMap((e) => e.scopes_granted.filter(isPrivileged)));
  const days = Number((back.at - back.lastUsed) / NS_PER_DAY);
  const iso = (ns: bigint): string => new Date(Number(ns / NS_PER_MS)).toISOString();
  const [first] = events;
  return {
    episode: first === undefined ? '' : isoTime(first),
    verdict: 'privileged_after_dormancy',
    severity: 'medium',
    confidence: 70,
    summary: `Client ${input.entity} was not used for ${days} days, came back, and got ${scopes.slice(0, 5).join(', ')}.`,
    reasons: [
      `last used ${iso(back.lastUsed)}`,
      `used again ${iso(back.at)}`,
      ...scopes.slice(0, 10).map((s) => `granted: ${s}`),
    ],
    evidence: {
      last_used: iso(back.lastUsed),
      returned_at: iso(back.at),
      dormant_days: days,
      scopes,
      grants: events.length,
      networks: known(events.map((e) => e.net.network)).slice(0, LISTED_MAX),
    },
    events,
    tokenRefs: known(events.flatMap((e) => tokensOf(e, 'issued', 'access').map((t) => t.ref))),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const isPrivileged = privilegedTest(params.privileged_scopes);
  const withinNs = BigInt(params.within_ms) * NS_PER_MS;
  return returnsOf(input.facts, params).flatMap((back) => {
    const events = input.events.filter(
      (e) =>
        e.outcome === 'success' &&
        e.time >= back.at &&
        e.time - back.at <= withinNs &&
        e.scopes_granted.some(isPrivileged),
    );
    const [first] = events;
    // A return belongs to the day of its first privileged grant.
    const isToday = first !== undefined && (window === undefined || first.time >= window.from);
    return isToday ? [toSignal(events, back, input)] : [];
  });
}

function history(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT client_id AS entity, event_id, any((net_network, arraySort(scopes_granted))) AS shape, any(time) AS at
      FROM grantscope.auth_events
      WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(KINDS)} AND outcome = 'success'
        AND client_id IN ${param.strings(selection.entities)}
        AND time >= ${timeSql(selection.window?.readFrom ?? 0n)} AND time < ${timeSql(selection.window?.to ?? 0n)}
        AND ${grantsPrivileged(params.privileged_scopes)}
      GROUP BY client_id, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_SHAPE_MAX)} BY entity, shape`;
}

/** The first and the last use of each day, as far back as a pause may reach. */
function facts(selection: HistorySelection, params: Params): Sql {
  const { from, to } = selection.window ?? { from: 0n, to: 0n };
  const since = from - BigInt(params.history_days) * NS_PER_DAY;
  const days = sql`
    SELECT client_id AS entity, min(time) AS day_first, max(time) AS day_last FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(KINDS)} AND outcome = 'success'
      AND client_id IN ${param.strings(selection.entities)} AND time >= ${timeSql(since)} AND time < ${timeSql(to)}
    GROUP BY client_id, toDate(time, 'UTC')`;
  return sql`
    SELECT entity, fact.1 AS name, '' AS key, fact.2 AS at, 1 AS value
    FROM (SELECT entity, arrayJoin([('day_first', day_first), ('day_last', day_last)]) AS fact FROM (${days}))`;
}

const DAY = 86_400;
const HOME = '198.51.100.0/24';
const use = (t: number, scopes: string[], more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'client_credentials',
  client: { id: 'migration-job' },
  scopes_granted: scopes,
  net: { network: HOME },
  tokens: [{ role: 'issued', type: 'access', ref: exampleRef(`dormant ${t}`) }],
  ...more,
});
const expected = (
  t: number,
  lastUsed: number,
  returned: number,
  more: Readonly<Record<string, unknown>> = {},
) => ({
  entity: 'migration-job',
  episode: exampleTime(t),
  verdict: 'privileged_after_dormancy',
  severity: 'medium' as const,
  evidence: {
    last_used: exampleTime(lastUsed),
    returned_at: exampleTime(returned),
    dormant_days: 60,
    scopes: ['admin'],
    grants: 1,
    networks: [HOME],
    ...more,
  },
});

export default defineDetector<Params>({
  id: 'dormant_client_returns',
  version: 1,
  title: 'Dormant client returns with a privileged scope',
  family: 'scope_escalation',
  severity: 'medium',
  confidence: 70,
  description:
    'A client that nobody used for two months is used again, and within a day gets a scope that lets its holder administer. Forgotten clients keep their secrets, and nobody notices when somebody else finds one.',
  references: ['RFC 6819 section 5.2.3.1', 'RFC 9700 section 2.3', 'ATT&CK T1078.004'],
  entity: 'client',
  verdicts: {
    privileged_after_dormancy:
      'A privileged scope was granted soon after the first use since long.',
  },
  evidence: {
    last_used: 'The last use before the pause.',
    returned_at: 'The first use after it.',
    dormant_days: 'Whole days between the two.',
    scopes: 'Privileged scopes granted after the return.',
    grants: 'Grants of the day that gave one (of at most 20 per network and set of scopes).',
    networks: 'Networks that asked (at most 20).',
  },
  needs: ['client.id', 'scopes_granted', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 86_400_000,
  parameters: Parameters,
  lookbackMs: (params) => params.within_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind) && fact.outcome === 'success',
  trigger: (params) => privilegedTrigger(KINDS, params.privileged_scopes),
  candidates: (scope, params) =>
    privilegedCandidates(scope, {
      kinds: KINDS,
      patterns: params.privileged_scopes,
      days: params.history_days + 1,
    }),
  history,
  facts,
  evaluate,
  falsePositives: [
    'A job that runs once a quarter or a year, and tools for emergencies: exclude_clients.',
    'Not reported: clients whose use before the pause is not stored any more, or lies further back than history_days.',
  ],
  examples: [
    {
      name: 'fires when a client comes back after sixty days to the second; the past is told last',
      events: [
        use(0, ['jobs:run']),
        use(3_600, ['admin', 'jobs:run']),
        use(-60 * DAY, ['jobs:run']),
      ],
      expect: [expected(3_600, -60 * DAY, 0)],
    },
    {
      name: 'one finding a return, though it lasts over midnight; grants are counted by day',
      events: [
        use(-100 * DAY, ['admin']),
        use(0, ['tenant:admin'], { kind: 'token_exchanged' }),
        use(60, ['admin'], { net: { network: '203.0.113.0/24' } }),
        use(0.9 * DAY, ['admin']),
      ],
      expect: [
        expected(0, -100 * DAY, 0, {
          dormant_days: 100,
          scopes: ['admin', 'tenant:admin'],
          grants: 2,
          networks: [HOME, '203.0.113.0/24'],
        }),
      ],
    },
    {
      name: 'fires on the day after the return, a day later to the second',
      events: [
        use(-60 * DAY, ['jobs:run']),
        use(0, ['jobs:run']),
        use(DAY, ['admin'], { kind: 'token_refreshed' }),
      ],
      expect: [expected(DAY, -60 * DAY, 0)],
    },
    {
      name: 'silent: the pause is a second too short',
      events: [use(-60 * DAY + 1, ['jobs:run']), use(0, ['admin'])],
      expect: [],
    },
    {
      name: 'silent: the privileged scope comes more than a day later',
      events: [use(-60 * DAY, ['jobs:run']), use(0, ['jobs:run']), use(DAY + 1, ['admin'])],
      expect: [],
    },
    {
      name: 'silent: a use in between that is told last',
      events: [use(-60 * DAY, ['jobs:run']), use(0, ['admin']), use(-30 * DAY, ['jobs:run'])],
      expect: [],
    },
    {
      name: 'silent: nothing is known from before the pause, within the days that are looked at',
      events: [
        use(-181 * DAY, ['jobs:run']),
        use(-60 * DAY, ['admin'], { outcome: 'failure' }),
        use(0, ['admin']),
      ],
      expect: [],
    },
    {
      name: 'silent: no privileged scope, and excluded clients',
      parameters: { exclude_clients: ['year-end'] },
      events: [
        use(-90 * DAY, ['jobs:run']),
        use(0, ['jobs:run']),
        use(-90 * DAY, ['admin'], { client: { id: 'year-end' } }),
        use(0, ['admin'], { client: { id: 'year-end' } }),
      ],
      expect: [],
    },
  ],
});
