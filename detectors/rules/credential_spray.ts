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
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, nilRef } from './_ledger.ts';
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
  minuteSql,
  msOf,
  type Burst,
} from './_windows.ts';

const TRY_KINDS: readonly EventKind[] = ['login_failed', 'token_request_failed'];
const SUCCESS_KINDS: readonly EventKind[] = ['login', 'token_issued'];
const KINDS: readonly EventKind[] = [...TRY_KINDS, ...SUCCESS_KINDS];

const LISTED_MAX = 20;
/** Failing subjects, and subjects that then succeeded, whose first event is read per network and day. */
const SUBJECTS_READ_MAX = 300;
const SUCCESSES_READ_MAX = 200;

const Parameters = z.strictObject({
  /** Different subjects that failed within the window. */
  min_subjects: z.int().min(2).max(10_000).default(5),
  /** And failed tries within the window, over all subjects. */
  min_tries: z.int().min(2).max(100_000).default(15),
  /** Counted in whole minutes, ms. */
  window_ms: z.int().min(MINUTE_MS).max(3_600_000).default(600_000),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(MINUTE_MS).max(DAY_MS).default(3_600_000),
  /** Successes among all logins of the network within the window, from which on it is a busy office or carrier, %. */
  max_success_percent: z.int().min(0).max(100).default(50),
  /** On average, a subject was tried at most so often: above it passwords of few people are guessed. */
  few_tries: z.int().min(1).max(1_000).default(10),
  /** A login of a tried subject from the same network this long after the last try counts as broken in, ms. */
  success_within_ms: z.int().min(0).max(DAY_MS).default(3_600_000),
  /** The server's own error codes that say nothing about a password. */
  ignored_error_codes: z.array(z.string()).default(['expired_code', 'cookie_not_found']),
  /** Networks that may, such as a load test's. */
  exclude_networks: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** A back end's or proxy's address is not the one who tries. */
const isUserNetwork = sql`net_network != '' AND net_ip_role IN ('end_user', 'unknown')`;

function isTry(params: Params): Sql {
  return sql`${kindIn(TRY_KINDS)} AND ${isUserNetwork} AND outcome IN ('failure', 'denied')
    AND ((kind = 'login_failed' AND error_code NOT IN ${param.strings(params.ignored_error_codes)})
      OR (kind = 'token_request_failed' AND grant_type = 'password' AND error_oauth_error = 'invalid_grant'))`;
}

const isSuccess = sql`${kindIn(SUCCESS_KINDS)} AND ${isUserNetwork} AND outcome = 'success'
  AND (kind = 'login' OR grant_type = 'password')`;

function candidates(scope: CandidateScope, params: Params): Sql {
  const tries = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(scope.tenant)} AND ${isTry(params)}`;
  const logins = sql`SELECT net_network FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND ${isSuccess} AND ${scope.condition}`;
  const isMany = sql`count() >= ${param.uint(params.min_tries)} AND uniqExact(subject_ref) >= ${param.uint(params.min_subjects)}`;
  const near = aroundNew(scope, params.window_ms, params.window_ms);
  const back = params.window_ms + DAY_MS + params.success_within_ms;
  // A login that comes late may show a busy network, or that the spray broke in: the minutes of its tries are looked at.
  const far = sql`${aroundNew(scope, back, params.window_ms)} AND net_network IN (${logins})`;
  return sql`
    SELECT net_network AS entity, time AS at ${tries} AND ${scope.condition}
      AND net_network IN (SELECT net_network ${tries} AND ${near} GROUP BY net_network HAVING ${isMany})
    UNION ALL
    SELECT net_network AS entity, arrayJoin(groupUniqArray(${minuteSql})) AS at ${tries} AND ${far}
    GROUP BY net_network HAVING ${isMany}`;
}

function rowsOf(selection: HistorySelection): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)}
    AND net_network IN ${param.strings(selection.entities)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const tries = sql`${rowsOf(selection)} AND ${isTry(params)} AND ${inWindow(selection)}`;
  const successes = sql`${rowsOf(selection)} AND ${isSuccess} AND ${inWindow(selection)}`;
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT net_network AS entity, min((time, event_id)) AS e ${tries} GROUP BY net_network, toStartOfMinute(time)
      UNION ALL
      SELECT net_network AS entity, min((time, event_id)) AS e ${tries} AND subject_ref != ${nilRef}
      GROUP BY net_network, subject_ref ORDER BY e LIMIT ${param.uint(SUBJECTS_READ_MAX)} BY net_network
      UNION ALL
      SELECT net_network AS entity, (s.time, s.event_id) AS e FROM (
        SELECT net_network, subject_ref, time, event_id ${successes} AND subject_ref != ${nilRef}) AS s
      INNER JOIN (
        SELECT net_network, subject_ref, min(time) AS tried ${tries} AND subject_ref != ${nilRef}
        GROUP BY net_network, subject_ref) AS t USING (net_network, subject_ref)
      WHERE s.time >= t.tried ORDER BY e LIMIT ${param.uint(SUCCESSES_READ_MAX)} BY net_network)`;
}

/** Tries and successes by the minute; and by the minute how many subjects were tried in the window that ends with it. */
function facts(selection: HistorySelection, params: Params): Sql {
  const minutes = Math.ceil(params.window_ms / MINUTE_MS);
  const tries = sql`${rowsOf(selection)} AND ${isTry(params)} AND ${inWindow(selection)}`;
  return sql`
    SELECT net_network AS entity, 'tries' AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${tries} GROUP BY net_network, at
    UNION ALL
    SELECT net_network AS entity, 'successes' AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${rowsOf(selection)} AND ${isSuccess} AND ${inWindow(selection)} GROUP BY net_network, at
    UNION ALL
    SELECT entity, 'subjects' AS name, '' AS key, ends AS at, uniqExact(subject) AS value FROM (
      SELECT entity, subject, addMinutes(minute, arrayJoin(range(${param.uint(minutes)}))) AS ends FROM (
        SELECT net_network AS entity, subject_ref AS subject, ${minuteSql} AS minute
        ${tries} AND subject_ref != ${nilRef} GROUP BY entity, subject, minute))
    GROUP BY entity, ends`;
}

interface Counted {
  readonly ms: number;
  readonly subjects: number;
}

/** Minutes of the day at which all conditions hold for the window that ends with them. */
function sprayMinutes(input: EvaluateInput<Params>): Counted[] {
  const { params, facts: all, window } = input;
  const windowMs = Math.ceil(params.window_ms / MINUTE_MS) * MINUTE_MS;
  const subjects = new Map(factsNamed(all, 'subjects').map((f) => [f.at, f.value]));
  const tries = factsNamed(all, 'tries');
  const successes = factsNamed(all, 'successes');
  const sum = (list: typeof tries, end: number): number =>
    list
      .filter((f) => msOf(f) <= end && end - msOf(f) < windowMs)
      .reduce((total, f) => total + f.value, 0);
  return tries.flatMap((f): Counted[] => {
    if (window !== undefined && f.at < window.from) return [];
    const people = subjects.get(f.at) ?? 0;
    if (people < params.min_subjects) return [];
    const failed = sum(tries, msOf(f));
    const succeeded = sum(successes, msOf(f));
    const isBusy = succeeded * 100 > (succeeded + failed) * params.max_success_percent;
    return failed < params.min_tries || isBusy ? [] : [{ ms: msOf(f), subjects: people }];
  });
}

/** Logins of people who had been tried before, in the episode or soon after it. */
function brokenInto(events: readonly AuthEvent[], burst: Burst, params: Params): AuthEvent[] {
  const tried = new Set<string>();
  const hits: AuthEvent[] = [];
  for (const event of events) {
    if (!isDuring(event, burst, params.success_within_ms)) continue;
    if (TRY_KINDS.includes(event.kind)) tried.add(event.subject.ref);
    else if (tried.has(event.subject.ref)) hits.push(event);
  }
  return hits;
}

type Verdict = 'broken_in' | 'spray' | 'guessing';
const SEVERITY = { broken_in: 'critical', spray: 'high', guessing: 'high' } as const;
const CONFIDENCE = { broken_in: 65, spray: 70, guessing: 60 } as const;

function toSignal(burst: Burst, minutes: readonly Counted[], input: EvaluateInput<Params>): Signal {
  const { entity, params, events, facts: all } = input;
  const peak = Math.max(
    ...minutes
      .filter((m) => m.ms >= burst.reachedMs && m.ms <= burst.lastMs)
      .map((m) => m.subjects),
  );
  const hits = brokenInto(events, burst, params);
  const people = known(hits.map((e) => e.subject.ref));
  const tries = events.filter((e) => TRY_KINDS.includes(e.kind) && isDuring(e, burst));
  const successes = factsDuring(factsNamed(all, 'successes'), burst);
  const isFew = burst.total <= params.few_tries * peak;
  const verdict: Verdict = people.length > 0 ? 'broken_in' : isFew ? 'spray' : 'guessing';
  return {
    episode: isoMs(burst.reachedMs),
    verdict,
    severity: SEVERITY[verdict],
    confidence: CONFIDENCE[verdict],
    summary: `Network ${entity} failed ${burst.total} logins, up to ${peak} people within the window.`,
    reasons: [
      ...(people.length > 0
        ? [`${people.length} of the people tried then logged in from there`]
        : []),
      isFew ? 'few tries each' : 'many tries each',
    ],
    evidence: {
      tries: burst.total,
      subjects_at_once: peak,
      successes: successes.reduce((sum, f) => sum + f.value, 0),
      broken_in: people.slice(0, LISTED_MAX),
      clients: known(tries.map((e) => e.client.id)).slice(0, LISTED_MAX),
      user_agents: known(tries.map((e) => e.net.ua_family)).slice(0, LISTED_MAX),
    },
    events: [...tries, ...hits],
    tokenRefs: known(hits.flatMap((e) => e.tokens.map((t) => t.ref))),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_networks.includes(entity)) return [];
  const minutes = sprayMinutes(input);
  const limits = { windowMs: params.window_ms, gapMs: params.gap_ms, window };
  const perMinute = factsNamed(input.facts, 'tries');
  return burstsOf(
    minutes.map((m) => m.ms),
    perMinute,
    limits,
  ).map((burst) => toSignal(burst, minutes, input));
}

const NET = '203.0.113.0/24';
const person = (n: number): string => exampleRef(`person ${n}`);
const failed = (t: number, n: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'login_failed',
  outcome: 'failure',
  error: { code: 'invalid_user_credentials' },
  client: { id: 'web-shop' },
  subject: { ref: person(n), type: 'user' },
  net: { network: NET, ip_role: 'end_user', ua_family: 'curl' },
  ...more,
});
const login = (t: number, n: number): ExampleEvent =>
  failed(t, n, { kind: 'login', outcome: 'success', error: {} });
/** `tries` failures over `people` people, one every `step` seconds. */
const tries = (count: number, people: number, step: number): ExampleEvent[] =>
  Array.from({ length: count }, (_, i) => failed(i * step, i % people));
const expected = (
  t: number,
  verdict: Verdict,
  count: number,
  subjects: number,
  more: { successes?: number; brokenIn?: number[]; clients?: string[] } = {},
) => ({
  entity: NET,
  episode: exampleTime(t),
  verdict,
  severity: SEVERITY[verdict],
  evidence: {
    tries: count,
    subjects_at_once: subjects,
    successes: more.successes ?? 0,
    broken_in: (more.brokenIn ?? []).map(person).sort(),
    clients: more.clients ?? ['web-shop'],
    user_agents: ['curl'],
  },
});

export default defineDetector<Params>({
  id: 'credential_spray',
  version: 1,
  title: 'Passwords of many people tried from one network',
  family: 'credential_abuse',
  severity: 'critical',
  confidence: 65,
  description:
    'From one network the passwords of many people were tried within a short time, at the login page or by the password grant, while few logins succeeded there. The lock of a single account does not see it.',
  references: [
    'RFC 6819 section 5.1.4.2',
    'RFC 9700 section 2.4',
    'RFC 6749 section 10.7',
    'ATT&CK T1110.003',
  ],
  entity: 'network',
  verdicts: {
    broken_in:
      'One of the people tried logged in from the same network during the spray or soon after it.',
    spray: 'Many people, few tries each.',
    guessing: 'Several people, many tries each.',
  },
  evidence: {
    tries: 'Failed logins in the episode.',
    subjects_at_once: 'The most people who were tried within one window.',
    successes: 'Logins that succeeded from the network in the episode, whoever it was.',
    broken_in: 'References of the people who were tried and then logged in (at most 20).',
    clients: 'Clients through which it was tried (at most 20).',
    user_agents: 'User-agent families (at most 20).',
  },
  needs: ['subject.ref', 'net.network', 'error.code', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 3_600_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  screen: () => sql`(kind IN ('login_failed', 'login') OR grant_type = 'password')`,
  candidates,
  history,
  facts,
  evaluate,
  falsePositives: [
    'A login page that is out of order fails everybody behind one carrier.',
    'A load test: list its network in exclude_networks.',
    'Not reported: networks where most logins succeed (offices, carriers), and tries that come through a back end.',
  ],
  examples: [
    {
      name: 'fires: five people, fifteen tries within ten minutes',
      events: tries(15, 5, 40).reverse(),
      expect: [expected(540, 'spray', 15, 5)],
    },
    { name: 'silent: fourteen tries', events: tries(14, 5, 40), expect: [] },
    { name: 'silent: four people', events: tries(40, 4, 10), expect: [] },
    { name: 'silent: slower than ten minutes', events: tries(15, 5, 43), expect: [] },
    {
      name: 'fires by the password grant of a public client',
      events: tries(15, 15, 10).map((e) => ({
        ...e,
        kind: 'token_request_failed' as const,
        grant_type: 'password',
        error: { oauth_error: 'invalid_grant' },
        client: { id: 'cli', auth_method: 'none' },
      })),
      expect: [expected(120, 'spray', 15, 15, { clients: ['cli'] })],
    },
    {
      name: 'fires: one of them broke in',
      events: [...tries(20, 10, 6), login(500, 3)],
      expect: [expected(60, 'broken_in', 20, 10, { brokenIn: [3] })],
    },
    {
      name: 'somebody who was not tried is no break-in',
      events: [...tries(20, 10, 6), login(90, 77)],
      expect: [expected(60, 'spray', 20, 10, { successes: 1 })],
    },
    {
      name: 'fires: few people, many tries each',
      events: tries(60, 5, 5),
      expect: [expected(60, 'guessing', 60, 5)],
    },
    {
      name: 'silent: a busy office, where more succeed than fail',
      events: [
        ...tries(15, 5, 30),
        ...Array.from({ length: 16 }, (_, i) => login(i * 28 - 1, 100 + i)),
      ],
      expect: [],
    },
    {
      name: 'at half the logins it is no busy office yet',
      events: [
        ...tries(15, 5, 30),
        ...Array.from({ length: 15 }, (_, i) => login(i * 28, 100 + i)),
      ],
      expect: [expected(420, 'spray', 15, 5, { successes: 15 })],
    },
    {
      name: 'silent: back ends, unknown networks, requests that are no password, repeated events',
      events: [
        ...tries(20, 10, 6).map((e) => ({
          ...e,
          net: { ...e.net, ip_role: 'client_backend' as const },
        })),
        ...tries(20, 10, 6).map((e) => ({ ...e, net: { network: '' } })),
        ...tries(20, 10, 6).map((e) => ({ ...e, error: { code: 'expired_code' } })),
        ...[...tries(14, 7, 6), ...tries(14, 7, 6)].map((e, i) => ({ ...e, id: `same ${i % 14}` })),
      ],
      expect: [],
    },
    {
      name: 'silent: an excluded network',
      parameters: { exclude_networks: [NET] },
      events: tries(30, 10, 6),
      expect: [],
    },
    {
      name: 'the window slides over midnight',
      events: tries(15, 5, 30).map((e) => ({ ...e, t: e.t + 43_200 - 300 })),
      expect: [expected(43_200 + 120, 'spray', 15, 5)],
    },
  ],
});
