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
import { ofDay, splitByGap } from './_episodes.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { isoTime, known, tokensOf } from './_origin.ts';
import {
  privilegedCandidates,
  privilegedTrigger,
  PRIVILEGED_SCOPES,
  privilegedPart,
  privilegedTest,
} from './_privileged.ts';
import { timeSql } from './_windows.ts';

const KINDS = ['token_issued', 'token_exchanged', 'consent_granted'] as const;
/** Pairs of subject and scope read per client and day, and as many from the time before. */
const PAIRS_MAX = 500;
const NS_PER_DAY = 86_400_000_000_000n;

const Parameters = z
  .strictObject({
    /** `*` stands for any run of characters; case does not count. */
    privileged_scopes: z.array(z.string().min(1)).default([...PRIVILEGED_SCOPES]),
    /** A scope that was not used for so long is used for the first time again, days. */
    baseline_days: z.int().min(1).max(90).default(30),
    /** A client, or a scope of it, is known once it has been seen for so long, days. */
    learning_days: z.int().min(1).max(60).default(7),
    /** Known administration jobs. */
    exclude_clients: z.array(z.string()).default([]),
    /** Pause after which a new episode begins, ms. */
    gap_ms: z.int().min(60_000).max(86_400_000).default(21_600_000),
  })
  .refine((p) => p.learning_days <= p.baseline_days, {
    path: ['learning_days'],
    message: 'must not be more than baseline_days',
  });
type Params = z.infer<typeof Parameters>;

const GRADES = {
  first_for_client: { severity: 'medium', confidence: 60 },
  first_for_subject: { severity: 'medium', confidence: 50 },
  new_client: { severity: 'info', confidence: 50 },
} as const;
type Verdict = keyof typeof GRADES;
const GRAVEST_FIRST: readonly Verdict[] = ['first_for_client', 'first_for_subject', 'new_client'];

interface First {
  readonly event: AuthEvent;
  readonly scope: string;
  readonly verdict: Verdict;
}

/** What was known when the day began. */
class Baseline {
  readonly #facts = new Map<string, bigint>();
  /** Latest grant of each scope so far, and of each subject and scope. */
  readonly #last = new Map<string, bigint>();
  readonly #baselineNs: bigint;
  readonly #learningNs: bigint;

  constructor(facts: readonly EntityFact[], params: Params) {
    this.#baselineNs = BigInt(params.baseline_days) * NS_PER_DAY;
    this.#learningNs = BigInt(params.learning_days) * NS_PER_DAY;
    for (const { name, key, at } of facts) {
      if (name === 'scope_last') this.#note(scopeKey(key), at);
      else this.#fact(`${name}\n${key}`, at);
    }
  }

  #fact(key: string, at: bigint): void {
    const before = this.#facts.get(key);
    if (before === undefined || at < before) this.#facts.set(key, at);
  }

  #note(key: string, at: bigint): void {
    const before = this.#last.get(key);
    if (before === undefined || at > before) this.#last.set(key, at);
  }

  note(event: AuthEvent, scope: string): void {
    this.#note(subjectKey(event.subject.ref, scope), event.time);
    this.#note(scopeKey(scope), event.time);
  }

  #isRecent(key: string, time: bigint): boolean {
    const last = this.#last.get(key);
    return last !== undefined && time - last <= this.#baselineNs;
  }

  #isLearnt(fact: string, time: bigint): boolean {
    const first = this.#facts.get(fact);
    return first !== undefined && time - first >= this.#learningNs;
  }

  /** Undefined where the grant is nothing new, or too little is known to say. */
  judge(event: AuthEvent, scope: string): Verdict | undefined {
    const { time, subject } = event;
    if (!this.#isRecent(scopeKey(scope), time))
      return this.#isLearnt('client_first\n', time) ? 'first_for_client' : 'new_client';
    const isPerson = subject.ref !== '' && subject.type !== 'client' && subject.type !== 'service';
    if (!isPerson || this.#isRecent(subjectKey(subject.ref, scope), time)) return undefined;
    return this.#isLearnt(`scope_first\n${scope}`, time) ? 'first_for_subject' : undefined;
  }
}

const scopeKey = (scope: string): string => `scope\n${scope}`;
const subjectKey = (subject: string, scope: string): string => `subject\n${subject}\n${scope}`;

function firsts(input: EvaluateInput<Params>): First[] {
  const { params, facts, window } = input;
  const isPrivileged = privilegedTest(params.privileged_scopes);
  const baseline = new Baseline(facts, params);
  const found: First[] = [];
  for (const event of input.events) {
    if (event.outcome !== 'success') continue;
    for (const scope of known(event.scopes_granted).filter(isPrivileged)) {
      const isToday = ofDay([event], window).length > 0;
      const verdict = isToday ? baseline.judge(event, scope) : undefined;
      if (verdict !== undefined) found.push({ event, scope, verdict });
      baseline.note(event, scope);
    }
  }
  return found;
}

function toSignal(events: readonly AuthEvent[], all: readonly First[], client: string): Signal {
  const own = all.filter((f) => events.includes(f.event));
  const verdict = GRAVEST_FIRST.find((v) => own.some((f) => f.verdict === v)) ?? 'new_client';
  const scopes = known(own.map((f) => f.scope));
  const [first] = events;
  const subjects = known(events.map((e) => e.subject.ref));
  return {
    episode: first === undefined ? '' : isoTime(first),
    verdict,
    ...GRADES[verdict],
    summary: `Client ${client} got a privileged scope for the first time${verdict === 'first_for_subject' ? ' for a user' : ''}: ${scopes.slice(0, 5).join(', ')}.`,
    reasons: own
      .slice(0, 20)
      .map((f) =>
        f.verdict === 'first_for_subject'
          ? `${f.scope} was not granted to this subject before`
          : `${f.scope} was not granted to this client before`,
      ),
    evidence: {
      scopes,
      grants: events.length,
      subjects: subjects.length,
      grant_types: known(events.map((e) => e.grant_type)),
      networks: known(events.map((e) => e.net.network)).slice(0, 20),
    },
    events,
    tokenRefs: known(events.flatMap((e) => tokensOf(e, 'issued', 'access').map((t) => t.ref))),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  if (input.params.exclude_clients.includes(input.entity)) return [];
  const all = firsts(input);
  const events = [...new Set(all.map((f) => f.event))];
  return splitByGap(events, input.params.gap_ms).map((e) => toSignal(e, all, input.entity));
}

/** Where the day, and the time before it that counts, begin and end. */
function spans(selection: HistorySelection, params: Params): Record<'before' | 'from' | 'to', Sql> {
  const from = selection.window?.from ?? 0n;
  const before = from - BigInt(params.baseline_days) * NS_PER_DAY;
  return { before: timeSql(before), from: timeSql(from), to: timeSql(selection.window?.to ?? 0n) };
}

/** Of the day, the first grant of each scope to each subject; of the time before it, the last one to the same. */
function history(selection: HistorySelection, params: Params): Sql {
  const { before, from, to } = spans(selection, params);
  const tenant = param.string(selection.tenant);
  const grants = sql`
    SELECT client_id AS entity, event_id, subject_ref AS subject, time AS t,
      arrayJoin(${privilegedPart(params.privileged_scopes)}) AS scope
    FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND outcome = 'success'
      AND client_id IN ${param.strings(selection.entities)}`;
  const today = sql`SELECT entity, subject, scope, event_id, t FROM (${grants} AND time >= ${from} AND time < ${to})
    ORDER BY entity, t, event_id LIMIT 1 BY entity, subject, scope`;
  const pairs = sql`SELECT * FROM (${today}) ORDER BY entity, t, event_id LIMIT ${param.uint(PAIRS_MAX)} BY entity`;
  const subjects = sql`SELECT subject FROM (${pairs})`;
  return sql`
    SELECT entity, event_id, t AS at FROM (${pairs})
    UNION ALL
    SELECT entity, event_id, t AS at FROM (
      SELECT entity, subject, scope, event_id, t FROM (
        ${grants} AND time >= ${before} AND time < ${from} AND subject_ref != ${nilRef}
          AND (subject_ref IN (${subjects}) OR subject_ref IN (
            SELECT other FROM grantscope.reference_names WHERE tenant = ${tenant} AND ref IN (${subjects})))
      ) ORDER BY entity, t DESC, event_id LIMIT 1 BY entity, subject, scope
    ) ORDER BY entity, t DESC, event_id LIMIT ${param.uint(2 * PAIRS_MAX)} BY entity`;
}

/** Since when the client and each of its privileged scopes are known, and when a scope was granted last. */
function facts(selection: HistorySelection, params: Params): Sql {
  const { before, from, to } = spans(selection, params);
  const grants = sql`FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(KINDS)} AND outcome = 'success'
      AND client_id IN ${param.strings(selection.entities)} AND time >= ${before}`;
  const scopes = sql`SELECT client_id, time, arrayJoin(${privilegedPart(params.privileged_scopes)}) AS scope
    ${grants} AND time < ${from}`;
  return sql`
    SELECT client_id AS entity, 'client_first' AS name, '' AS key, min(time) AS at, 1 AS value ${grants} AND time < ${to} GROUP BY client_id
    UNION ALL
    SELECT client_id AS entity, 'scope_first' AS name, scope AS key, min(time) AS at, 1 AS value FROM (${scopes}) GROUP BY client_id, scope
    UNION ALL
    SELECT client_id AS entity, 'scope_last' AS name, scope AS key, max(time) AS at, 1 AS value FROM (${scopes}) GROUP BY client_id, scope`;
}

const DAY = 86_400;
const HOME = '198.51.100.0/24';
const ALICE = exampleRef('first_privileged_scope alice');
const BOB = exampleRef('first_privileged_scope bob');
const grant = (t: number, scopes: string[], more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'authorization_code',
  client: { id: 'back-office' },
  subject: { ref: ALICE, type: 'user' },
  scopes_granted: scopes,
  net: { network: HOME },
  ...more,
});
const byBob = { subject: { ref: BOB, type: 'user' } } as const;
const byJob = {
  grant_type: 'client_credentials',
  subject: { ref: exampleRef('first_privileged_scope job'), type: 'client' },
} as const;
const expected = (
  t: number,
  verdict: Verdict,
  scopes: string[],
  more: Readonly<Record<string, unknown>> = {},
) => ({
  entity: 'back-office',
  episode: exampleTime(t),
  verdict,
  severity: GRADES[verdict].severity,
  evidence: {
    scopes,
    grants: 1,
    subjects: 1,
    grant_types: ['authorization_code'],
    networks: [HOME],
    ...more,
  },
});

export default defineDetector<Params>({
  id: 'first_privileged_scope',
  version: 1,
  title: 'First grant of a privileged scope',
  family: 'scope_escalation',
  severity: 'medium',
  confidence: 60,
  description:
    'A client, or a user of it, gets a scope that lets its holder administer, and has not had it for a month. Attackers who take over a client or consent in the name of a user begin like this; so does a new administrator.',
  references: [
    'RFC 9700 section 2.3',
    'RFC 6819 section 5.1.5.1',
    'ATT&CK T1528',
    'ATT&CK T1098.003',
  ],
  entity: 'client',
  verdicts: {
    first_for_client:
      'The client is known, and had not been granted the scope within the baseline.',
    first_for_subject: 'The client has the scope, but this subject had not been granted it.',
    new_client: 'Nothing is known of the client for learning_days, so everything of it is new.',
  },
  evidence: {
    scopes: 'The privileged scopes that were new.',
    grants: 'Grants in the episode that gave one.',
    subjects: 'Number of subjects concerned.',
    grant_types: 'Grant types of these grants.',
    networks: 'Networks that asked (at most 20).',
  },
  needs: ['client.id', 'scopes_granted', 'outcome', 'subject.ref'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) => KINDS.some((k) => k === fact.kind) && fact.outcome === 'success',
  trigger: (params) => privilegedTrigger(KINDS, params.privileged_scopes),
  candidates: (scope, params) =>
    privilegedCandidates(scope, {
      kinds: KINDS,
      patterns: params.privileged_scopes,
      days: params.baseline_days,
    }),
  history,
  facts,
  evaluate,
  falsePositives: [
    'A new administrator, or a task that is done less often than once in baseline_days.',
    'A new administration job: exclude_clients.',
    'Not reported: another subject while the scope itself is younger than learning_days with this client, and refreshes.',
  ],
  examples: [
    {
      name: 'fires when a client of a week gets its first privileged scope; its past is told last',
      events: [
        grant(0, ['orders:read', 'admin']),
        grant(60, ['admin']),
        grant(-7 * DAY, ['orders:read']),
      ],
      expect: [expected(0, 'first_for_client', ['admin'])],
    },
    {
      name: 'info where the client is not known for a whole week',
      events: [grant(-7 * DAY + 1, ['orders:read']), grant(0, ['admin', 'tenant:admin'])],
      expect: [expected(0, 'new_client', ['admin', 'tenant:admin'])],
    },
    {
      name: 'fires when another user gets a scope that the client has had for a week',
      events: [
        grant(-7 * DAY, ['admin']),
        grant(-DAY, ['admin']),
        grant(0, ['admin'], byBob),
        grant(30, ['admin'], byBob),
        grant(60, ['admin']),
      ],
      expect: [
        expected(-7 * DAY, 'new_client', ['admin']),
        expected(0, 'first_for_subject', ['admin']),
      ],
    },
    {
      name: 'silent on another user while the scope itself is not known for a week',
      events: [
        grant(-20 * DAY, ['orders:read']),
        grant(-7 * DAY + 1, ['admin']),
        grant(0, ['admin'], byBob),
      ],
      expect: [expected(-7 * DAY + 1, 'first_for_client', ['admin'])],
    },
    {
      name: 'a scope not used for longer than the baseline is new again',
      events: [
        grant(-31 * DAY - 1, ['admin'], byJob),
        grant(-15 * DAY, ['orders:read'], byJob),
        grant(-DAY, ['admin'], byJob),
      ],
      expect: [
        expected(-31 * DAY - 1, 'new_client', ['admin'], { grant_types: ['client_credentials'] }),
        expected(-DAY, 'first_for_client', ['admin'], { grant_types: ['client_credentials'] }),
      ],
    },
    {
      name: 'nothing new where the last use is just within the baseline',
      events: [grant(-31 * DAY, ['admin'], byJob), grant(-DAY, ['admin'], byJob)],
      expect: [
        expected(-31 * DAY, 'new_client', ['admin'], { grant_types: ['client_credentials'] }),
      ],
    },
    {
      name: 'several scopes within the gap are one episode, by consent and by token',
      parameters: { gap_ms: 3_600_000 },
      events: [
        grant(-10 * DAY, ['orders:read']),
        grant(0, ['admin'], { kind: 'consent_granted', grant_type: '' }),
        grant(3_600, ['admin', 'users:admin'], byBob),
        grant(7_200.001, ['site_admin'], byBob),
      ],
      expect: [
        expected(0, 'first_for_client', ['admin', 'users:admin'], { grants: 2, subjects: 2 }),
        expected(7_200.001, 'first_for_client', ['site_admin']),
      ],
    },
    {
      name: 'silent: other scopes, refusals, and excluded clients',
      parameters: { exclude_clients: ['nightly-admin'] },
      events: [
        grant(-10 * DAY, ['orders:read']),
        grant(0, ['orders:administer', 'administrative']),
        grant(1, ['admin'], { outcome: 'denied' }),
        grant(2, ['admin'], { client: { id: 'nightly-admin' } }),
      ],
      expect: [],
    },
    {
      name: "silent: patterns of one's own",
      parameters: { privileged_scopes: ['ops/*'] },
      events: [grant(-10 * DAY, ['orders:read']), grant(0, ['admin', 'ops'])],
      expect: [],
    },
    {
      name: 'fires on an exchange; six hours apart is one episode, a millisecond more is two',
      parameters: { baseline_days: 7, learning_days: 7 },
      events: [
        grant(-7 * DAY, ['orders:read']),
        grant(-21_600.001, ['site_admin']),
        grant(0, ['admin'], { kind: 'token_exchanged' }),
        grant(21_600, ['users:admin']),
      ],
      expect: [
        expected(-21_600.001, 'new_client', ['site_admin']),
        expected(0, 'first_for_client', ['admin', 'users:admin'], { grants: 2 }),
      ],
    },
    {
      name: 'the gravest of an episode is told; midnight is the next day',
      events: [
        grant(-20 * DAY, ['admin']),
        grant(-8 * DAY, ['orders:read']),
        grant(0, ['admin'], byBob),
        grant(60, ['users:admin']),
        grant(DAY / 2, ['site_admin']),
      ],
      expect: [
        expected(-20 * DAY, 'new_client', ['admin']),
        expected(0, 'first_for_client', ['admin', 'users:admin'], { grants: 2, subjects: 2 }),
        expected(DAY / 2, 'first_for_client', ['site_admin']),
      ],
    },
    {
      name: 'the latest use of a scope counts, whoever used it',
      events: [-25, -1, 8].map((days) =>
        grant(days * DAY, ['admin'], {
          ...byJob,
          subject: { ref: exampleRef(`first_privileged_scope job ${days}`), type: 'client' },
        }),
      ),
      expect: [
        expected(-25 * DAY, 'new_client', ['admin'], { grant_types: ['client_credentials'] }),
      ],
    },
  ],
});
