import { z } from 'zod';
import {
  defineDetector,
  EXAMPLE_START_MS,
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
import { byThing } from './_names.ts';
import { known } from './_origin.ts';
import { PRIVILEGED_SCOPES, privilegedTest } from './_privileged.ts';
import { isRegistration } from './_registered.ts';
import {
  aroundNew,
  burstsOf,
  DAY_MS,
  factsNamed,
  inWindow,
  isDuring,
  isoMs,
  MINUTE_MS,
  minuteSql,
  msOf,
  timeSql,
  type Burst,
} from './_windows.ts';

const KINDS: readonly EventKind[] = ['consent_granted', 'client_registered', 'client_updated'];
const REGISTRATION_KINDS: readonly EventKind[] = ['client_registered', 'client_updated'];

const LISTED_MAX = 20;
/** People whose first consent is read per client and day. */
const SUBJECTS_READ_MAX = 300;
const NS_PER_MS = 1_000_000n;

const Parameters = z.strictObject({
  /** Different people who consented within the window. */
  min_subjects: z.int().min(2).max(10_000).default(5),
  /** Counted in whole minutes, ms. */
  window_ms: z
    .int()
    .min(MINUTE_MS)
    .max(6 * 3_600_000)
    .default(3_600_000),
  /** A client is new so long after it was registered or first consented to, ms. */
  new_for_ms: z
    .int()
    .min(3_600_000)
    .max(90 * DAY_MS)
    .default(7 * DAY_MS),
  /** How far before that consents (to any client) must be known, so that a client that was not seen can be called new, ms. */
  learning_ms: z
    .int()
    .min(3_600_000)
    .max(90 * DAY_MS)
    .default(30 * DAY_MS),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(MINUTE_MS).max(DAY_MS).default(3_600_000),
  /** Scopes that a phishing client wants; `*` stands for any run of characters. Long-lived access is one of them. */
  risky_scopes: z.array(z.string().min(1)).default([...PRIVILEGED_SCOPES, 'offline_access']),
  /** Clients of one's own that are being introduced. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const isConsent = sql`kind = 'consent_granted' AND outcome = 'success' AND client_id != '' AND subject_ref != ${nilRef}`;

/** Clients that enough people consented to around what is new, by the minutes from then on. */
function candidates(scope: CandidateScope, params: Params): Sql {
  const consents = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(scope.tenant)} AND ${isConsent}`;
  const reach = params.new_for_ms + params.learning_ms + DAY_MS;
  // An older consent that comes late makes its client older, and shows that this tenant was watched then.
  const isLater = sql`time >= ${timeSql(scope.timeFrom)}`;
  const mayBeWatched = sql`time >= ${timeSql(scope.timeFrom + BigInt(params.new_for_ms) * NS_PER_MS)}`;
  const isMany = sql`uniqExact(subject_ref) >= ${param.uint(params.min_subjects)}`;
  // A registration says when a client came to be.
  const registered = sql`SELECT client_id FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND ${kindIn(REGISTRATION_KINDS)} AND ${scope.condition}`;
  return sql`
    SELECT client_id AS entity, arrayJoin(if(countIf(${scope.condition}) > 0, groupUniqArrayIf(${minuteSql}, ${isLater}),
      groupUniqArrayIf(${minuteSql}, ${mayBeWatched}))) AS at
    ${consents} AND ${aroundNew(scope, params.window_ms, reach)}
      AND (SELECT count() FROM (SELECT 1 ${consents} AND ${scope.condition} LIMIT 1)) > 0
    GROUP BY client_id HAVING ${isMany}
    UNION ALL
    SELECT client_id AS entity, arrayJoin(groupUniqArray(${minuteSql})) AS at
    ${consents} AND client_id IN (${registered}) GROUP BY client_id HAVING ${isMany}`;
}

function rowsOf(selection: HistorySelection): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)} AND ${isConsent}
    AND client_id IN ${param.strings(selection.entities)}`;
}

/** The window's consents by person, whatever the key that the person's reference was made with: `thing`. */
function byPerson(selection: HistorySelection): Sql {
  return byThing(
    { tenant: selection.tenant, since: selection.window?.readFrom ?? 0n },
    sql`SELECT client_id, time, event_id, subject_ref AS ref ${rowsOf(selection)} AND ${inWindow(selection)}`,
  );
}

function history(selection: HistorySelection): Sql {
  const rows = sql`${rowsOf(selection)} AND ${inWindow(selection)}`;
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT client_id AS entity, min((time, event_id)) AS e ${rows} GROUP BY client_id, toStartOfMinute(time)
      UNION ALL
      SELECT client_id AS entity, min((time, event_id)) AS e FROM (${byPerson(selection)}) GROUP BY client_id, thing
      ORDER BY e LIMIT ${param.uint(SUBJECTS_READ_MAX)} BY client_id)`;
}

function facts(selection: HistorySelection, params: Params): Sql {
  const rows = sql`${rowsOf(selection)} AND ${inWindow(selection)}`;
  const minutes = Math.ceil(params.window_ms / MINUTE_MS);
  const from = selection.window?.from ?? 0n;
  const newSince = from - BigInt(params.new_for_ms) * NS_PER_MS;
  const knownSince = newSince - BigInt(params.learning_ms) * NS_PER_MS;
  return sql`
    SELECT client_id AS entity, 'consents' AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${rows} GROUP BY client_id, at
    UNION ALL
    SELECT entity, 'subjects' AS name, '' AS key, ends AS at, uniqExact(subject) AS value FROM (
      SELECT entity, subject, addMinutes(minute, arrayJoin(range(${param.uint(minutes)}))) AS ends FROM (
        SELECT client_id AS entity, thing AS subject, ${minuteSql} AS minute FROM (${byPerson(selection)})
        GROUP BY entity, subject, minute))
    GROUP BY entity, ends
    UNION ALL
    SELECT client_id AS entity, 'first_consent' AS name, '' AS key, min(time) AS at, 1 AS value
    ${rowsOf(selection)} AND time >= ${timeSql(knownSince)} AND ${inWindow(selection, params.new_for_ms + params.learning_ms)}
    GROUP BY client_id
    UNION ALL
    SELECT arrayJoin(${param.strings(selection.entities)}) AS entity, 'watched' AS name, '' AS key, ${timeSql(newSince)} AS at, 1 AS value
    FROM (SELECT 1 FROM grantscope.auth_events
      WHERE tenant = ${param.string(selection.tenant)} AND ${isConsent}
        AND time >= ${timeSql(knownSince)} AND time < ${timeSql(newSince)} LIMIT 1)`;
}

/** When the client came to be, ms; undefined where nobody can say. */
function bornAt(burst: Burst, input: EvaluateInput<Params>): number | undefined {
  const { clients, entity, facts: all } = input;
  const end = BigInt(burst.reachedMs + MINUTE_MS) * NS_PER_MS;
  const registered = clients.at(entity, end).registeredAt;
  if (registered !== undefined) return Number(registered / NS_PER_MS);
  const [first] = factsNamed(all, 'first_consent');
  if (first === undefined || factsNamed(all, 'watched').length === 0) return undefined;
  return msOf(first);
}

type Verdict = 'risky_scopes' | 'many_consents';
const SEVERITY = { risky_scopes: 'high', many_consents: 'medium' } as const;

function toSignal(burst: Burst, bornMs: number, input: EvaluateInput<Params>): Signal {
  const { entity, params, facts: all } = input;
  const events = input.events.filter((e) => isDuring(e, burst));
  const peak = Math.max(
    ...factsNamed(all, 'subjects')
      .filter((f) => msOf(f) >= burst.reachedMs && msOf(f) <= burst.lastMs)
      .map((f) => f.value),
  );
  const scopes = known(events.flatMap((e) => [...e.scopes_granted, ...e.scopes_requested]));
  const risky = scopes.filter(privilegedTest(params.risky_scopes));
  const verdict: Verdict = risky.length > 0 ? 'risky_scopes' : 'many_consents';
  const ageHours = Math.max(0, Math.floor((burst.reachedMs - bornMs) / 3_600_000));
  return {
    episode: isoMs(burst.reachedMs),
    verdict,
    severity: SEVERITY[verdict],
    confidence: risky.length > 0 ? 60 : 40,
    summary: `Client ${entity}, ${ageHours} hours old, got the consent of up to ${peak} people within the window.`,
    reasons: [
      ...risky.slice(0, LISTED_MAX).map((s) => `asked for ${s}`),
      `known since ${isoMs(bornMs)}`,
    ],
    evidence: {
      consents: burst.total,
      subjects_at_once: peak,
      client_since: isoMs(bornMs),
      scopes: scopes.slice(0, LISTED_MAX),
      risky_scopes: risky.slice(0, LISTED_MAX),
    },
    events,
    tokenRefs: [],
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window, facts: all } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const consents = factsNamed(all, 'consents');
  const subjects = new Map(factsNamed(all, 'subjects').map((f) => [f.at, f.value]));
  const minutes = consents
    .filter((f) => window === undefined || f.at >= window.from)
    .filter((f) => (subjects.get(f.at) ?? 0) >= params.min_subjects)
    .map(msOf);
  const limits = { windowMs: params.window_ms, gapMs: params.gap_ms, window };
  return burstsOf(minutes, consents, limits).flatMap((burst) => {
    const born = bornAt(burst, input);
    const isNew = born !== undefined && burst.reachedMs - born < params.new_for_ms;
    return isNew ? [toSignal(burst, born, input)] : [];
  });
}

const consent = (t: number, n: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'consent_granted',
  outcome: 'success',
  client: { id: 'mail-helper' },
  subject: { ref: exampleRef(`victim ${n}`), type: 'user' },
  scopes_granted: ['openid', 'offline_access'],
  ...more,
});
const consents = (people: number, step: number, more: Partial<ExampleEvent> = {}): ExampleEvent[] =>
  Array.from({ length: people }, (_, i) => consent(i * step, i, more));
/** Another client, so that it is known that consents were watched at that time. */
const other = (t: number): ExampleEvent => consent(t, 99, { client: { id: 'old-app' } });
const registered = (t: number): ExampleEvent => ({
  t,
  kind: 'client_registered',
  outcome: 'success',
  client: { id: 'mail-helper' },
});
const DAY_S = DAY_MS / 1_000;
const expected = (
  t: number,
  verdict: Verdict,
  count: number,
  subjects: number,
  since: number,
  scopes = ['offline_access', 'openid'],
) => ({
  entity: 'mail-helper',
  episode: exampleTime(t),
  verdict,
  severity: SEVERITY[verdict],
  evidence: {
    consents: count,
    subjects_at_once: subjects,
    client_since: exampleTime(since),
    scopes,
    risky_scopes: verdict === 'risky_scopes' ? ['offline_access'] : [],
  },
});

export default defineDetector<Params>({
  id: 'consent_phishing_burst',
  version: 1,
  title: 'Many people consent to a new client',
  family: 'credential_abuse',
  severity: 'high',
  confidence: 60,
  description:
    'A client that is new to this place got the consent of many people within an hour: how consent phishing looks. No password is stolen, and a new password does not end it.',
  references: ['RFC 6819 section 4.4.1.4', 'RFC 6749 section 10.2', 'ATT&CK T1528'],
  entity: 'client',
  verdicts: {
    risky_scopes: 'The consents cover scopes that give lasting or far-reaching access.',
    many_consents: 'Many consents, to scopes that are not on the list of risky ones.',
  },
  evidence: {
    consents: 'Consents in the episode.',
    subjects_at_once: 'The most people who consented within one window.',
    client_since: 'When the client was registered, or else first consented to, ISO time.',
    scopes: 'Scopes consented to (at most 20).',
    risky_scopes: 'Those of them on the list of risky ones.',
  },
  needs: ['client.id', 'subject.ref', 'scopes_granted', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: DAY_MS,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => fact.kind === 'consent_granted' || isRegistration(fact),
  candidates,
  history: (selection) => history(selection),
  facts,
  evaluate,
  falsePositives: [
    'A client of your own on the day it is introduced: list it in exclude_clients.',
    'Not reported: clients of unknown age, as long as consents were not watched for long enough before.',
  ],
  examples: [
    {
      name: 'fires: the fifth person within an hour, a client registered six days ago',
      events: [...consents(5, 890).reverse(), registered(-6 * DAY_S)],
      expect: [expected(3_540, 'risky_scopes', 5, 5, -6 * DAY_S)],
    },
    {
      name: 'fires: never seen before, where consents have been watched for long',
      events: [other(-20 * DAY_S), ...consents(6, 60)],
      expect: [expected(240, 'risky_scopes', 6, 6, 0)],
    },
    {
      name: 'fires with less: scopes that are not risky',
      events: [registered(-60), ...consents(5, 60, { scopes_granted: ['openid', 'profile'] })],
      expect: [expected(240, 'many_consents', 5, 5, -60, ['openid', 'profile'])],
    },
    {
      name: 'fires: new by what is stated of the client',
      clients: [
        { client_id: 'mail-helper', client_id_issued_at: EXAMPLE_START_MS / 1_000 - 3_600 },
      ],
      events: consents(5, 60),
      expect: [expected(240, 'risky_scopes', 5, 5, -3_600)],
    },
    {
      name: 'silent: four people, and one of them twice',
      events: [registered(-60), ...consents(4, 60), consent(300, 3)],
      expect: [],
    },
    {
      name: 'silent: five people, but never within an hour',
      events: [registered(-60), ...consents(5, 900)],
      expect: [],
    },
    {
      name: 'silent: registered seven days ago',
      events: [registered(-7 * DAY_S), ...consents(9, 60)],
      expect: [],
    },
    {
      name: 'silent: first consented to eight days ago',
      events: [other(-20 * DAY_S), consent(-8 * DAY_S, 50), ...consents(9, 60)],
      expect: [],
    },
    {
      name: 'silent while learning: nobody watched consents long enough',
      events: [other(-7 * DAY_S), ...consents(9, 60)],
      expect: [],
    },
    {
      name: 'silent: declined, without a subject, excluded',
      parameters: { exclude_clients: ['portal'] },
      events: [
        registered(-60),
        ...consents(9, 60, { outcome: 'denied' }),
        ...consents(9, 60, { subject: {} }),
        { ...registered(-60), client: { id: 'portal' } },
        ...consents(9, 60, { client: { id: 'portal' } }),
      ],
      expect: [],
    },
  ],
});
