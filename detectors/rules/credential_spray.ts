import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { EventKind } from '../../model/kinds.ts';
import { sql } from '../../model/sql.ts';
import {
  FACTS,
  guessingCandidates,
  guessingFacts,
  guessingHistory,
  SUCCESS_KINDS,
  TRY_KINDS,
  type Side,
} from './_guessing.ts';
import { known, networkName } from './_origin.ts';
import {
  burstsOf,
  DAY_MS,
  factsDuring,
  factsNamed,
  isDuring,
  isoMs,
  MINUTE_MS,
  msOf,
  type Burst,
} from './_windows.ts';

const KINDS: readonly EventKind[] = [...TRY_KINDS, ...SUCCESS_KINDS];

const LISTED_MAX = 20;

/** Every finding has every field: what a verdict of the other kind would say is said to be nothing. */
const NOTHING_OF_A_PERSON = { sources_at_once: 0, sources: [], broken_in_from: [] } as const;
const NOTHING_OF_A_NETWORK = { subjects_at_once: 0, broken_in: [] } as const;

const Parameters = z.strictObject({
  /** Different subjects that failed from one network within the window. */
  min_subjects: z.int().min(2).max(10_000).default(5),
  /** Different networks (autonomous systems where known, else prefixes) from which one subject failed within the window. */
  min_sources: z.int().min(2).max(10_000).default(5),
  /** And failed tries within the window: of the network over all subjects, or of the subject over all networks. */
  min_tries: z.int().min(2).max(100_000).default(15),
  /** Counted in whole minutes, ms. */
  window_ms: z.int().min(MINUTE_MS).max(3_600_000).default(600_000),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(MINUTE_MS).max(DAY_MS).default(3_600_000),
  /** Successes among all logins of the network (or subject) within the window, above which it is a busy office or carrier (or a shared account), %. */
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

interface Counted {
  readonly ms: number;
  /** People, or networks. */
  readonly parties: number;
}

/** Minutes of the day at which all conditions hold for the window that ends with them. */
function reachedMinutes(input: EvaluateInput<Params>, side: Side): Counted[] {
  const { params, facts: all, window } = input;
  const windowMs = Math.ceil(params.window_ms / MINUTE_MS) * MINUTE_MS;
  const parties = new Map(factsNamed(all, FACTS[side].counted).map((f) => [f.at, f.value]));
  const min = side === 'network' ? params.min_subjects : params.min_sources;
  const tries = factsNamed(all, FACTS[side].tries);
  const successes = factsNamed(all, FACTS[side].successes);
  const sum = (list: typeof tries, end: number): number =>
    list
      .filter((f) => msOf(f) <= end && end - msOf(f) < windowMs)
      .reduce((total, f) => total + f.value, 0);
  return tries.flatMap((f): Counted[] => {
    if (window !== undefined && f.at < window.from) return [];
    const count = parties.get(f.at) ?? 0;
    if (count < min) return [];
    const failed = sum(tries, msOf(f));
    const succeeded = sum(successes, msOf(f));
    const isBusy = succeeded * 100 > (succeeded + failed) * params.max_success_percent;
    return failed < params.min_tries || isBusy ? [] : [{ ms: msOf(f), parties: count }];
  });
}

/** Whom a network tried, and from where a person was tried. */
const partyOf: Readonly<Record<Side, (event: AuthEvent) => string>> = {
  network: (event) => event.subject.ref,
  target: networkName,
};

/** Logins of people who had been tried from there before, in the episode or soon after it. */
function brokenInto(input: EvaluateInput<Params>, burst: Burst, side: Side): AuthEvent[] {
  const tried = new Set<string>();
  const hits: AuthEvent[] = [];
  for (const event of input.events) {
    if (!isDuring(event, burst, input.params.success_within_ms)) continue;
    if (TRY_KINDS.includes(event.kind)) tried.add(partyOf[side](event));
    else if (tried.has(partyOf[side](event))) hits.push(event);
  }
  return hits;
}

const VERDICTS = {
  broken_in:
    'One of the people tried logged in from the same network during the spray or soon after it.',
  spray: 'Many people, few tries each.',
  guessing: 'Several people, many tries each.',
  distributed_broken_in:
    'One person was tried from many networks, and logged in from one of them then or soon after.',
  distributed: 'One person was tried from many networks. The finding is about the person.',
} as const;
type Verdict = keyof typeof VERDICTS;
const LEVELS: Readonly<
  Record<Verdict, { readonly severity: 'critical' | 'high'; readonly confidence: number }>
> = {
  broken_in: { severity: 'critical', confidence: 65 },
  spray: { severity: 'high', confidence: 70 },
  guessing: { severity: 'high', confidence: 60 },
  distributed_broken_in: { severity: 'critical', confidence: 60 },
  distributed: { severity: 'high', confidence: 65 },
};

/** What both sides tell of an episode. */
interface Episode {
  readonly burst: Burst;
  /** The most people or networks within one window. */
  readonly peak: number;
  readonly tries: readonly AuthEvent[];
  readonly hits: readonly AuthEvent[];
}

function episodesOf(input: EvaluateInput<Params>, side: Side): Episode[] {
  const { params, window, events } = input;
  const minutes = reachedMinutes(input, side);
  const limits = { windowMs: params.window_ms, gapMs: params.gap_ms, window };
  const times = minutes.map((m) => m.ms);
  const bursts = burstsOf(times, factsNamed(input.facts, FACTS[side].tries), limits);
  return bursts.map((burst) => {
    const own = minutes.filter((m) => m.ms >= burst.reachedMs && m.ms <= burst.lastMs);
    return {
      burst,
      peak: Math.max(...own.map((m) => m.parties)),
      tries: events.filter((e) => TRY_KINDS.includes(e.kind) && isDuring(e, burst)),
      hits: brokenInto(input, burst, side),
    };
  });
}

/** What a signal of either side is made of. */
function common(input: EvaluateInput<Params>, episode: Episode, side: Side, verdict: Verdict) {
  const { burst, tries, hits } = episode;
  const successes = factsDuring(factsNamed(input.facts, FACTS[side].successes), burst);
  return {
    signal: {
      episode: isoMs(burst.reachedMs),
      verdict,
      ...LEVELS[verdict],
      events: [...tries, ...hits],
      tokenRefs: known(hits.flatMap((e) => e.tokens.map((t) => t.ref))),
    },
    evidence: {
      tries: burst.total,
      successes: successes.reduce((sum, f) => sum + f.value, 0),
      clients: known(tries.map((e) => e.client.id)).slice(0, LISTED_MAX),
      user_agents: known(tries.map((e) => e.net.ua_family)).slice(0, LISTED_MAX),
    },
  };
}

function networkSignal(input: EvaluateInput<Params>, episode: Episode): Signal {
  const { burst, peak, hits } = episode;
  const people = known(hits.map(partyOf.network));
  const isFew = burst.total <= input.params.few_tries * peak;
  const verdict = people.length > 0 ? 'broken_in' : isFew ? 'spray' : 'guessing';
  const { signal, evidence } = common(input, episode, 'network', verdict);
  return {
    ...signal,
    summary: `Network ${input.entity} failed ${burst.total} logins, up to ${peak} people within the window.`,
    reasons: [
      ...(people.length > 0
        ? [`${people.length} of the people tried then logged in from there`]
        : []),
      isFew ? 'few tries each' : 'many tries each',
    ],
    evidence: {
      ...evidence,
      ...NOTHING_OF_A_PERSON,
      subjects_at_once: peak,
      broken_in: people.slice(0, LISTED_MAX),
    },
  };
}

function targetSignal(input: EvaluateInput<Params>, episode: Episode): Signal {
  const { burst, peak, tries, hits } = episode;
  const from = known(hits.map(partyOf.target));
  const verdict = from.length > 0 ? 'distributed_broken_in' : 'distributed';
  const { signal, evidence } = common(input, episode, 'target', verdict);
  return {
    ...signal,
    entityType: 'subject',
    summary: `Logins of one person failed ${burst.total} times, from up to ${peak} networks within the window.`,
    reasons: [
      ...(from.length > 0
        ? [`the person then logged in from ${from.length} of these networks`]
        : []),
      'a limit per address sees a few tries each',
    ],
    evidence: {
      ...evidence,
      ...NOTHING_OF_A_NETWORK,
      sources_at_once: peak,
      sources: known(tries.map(partyOf.target)).slice(0, LISTED_MAX),
      broken_in_from: from.slice(0, LISTED_MAX),
    },
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  if (input.params.exclude_networks.includes(input.entity)) return [];
  return [
    ...episodesOf(input, 'network').map((e) => networkSignal(input, e)),
    ...episodesOf(input, 'target').map((e) => targetSignal(input, e)),
  ];
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
  severity: LEVELS[verdict].severity,
  evidence: {
    ...NOTHING_OF_A_PERSON,
    tries: count,
    subjects_at_once: subjects,
    successes: more.successes ?? 0,
    broken_in: (more.brokenIn ?? []).map(person).sort(),
    clients: more.clients ?? ['web-shop'],
    user_agents: ['curl'],
  },
});
const elsewhere = (n: number, more: Partial<ExampleEvent['net']> = {}) => ({
  net: {
    network: `198.51.${n}.0/24`,
    ip_role: 'end_user' as const,
    ua_family: 'curl',
    ...more,
  },
});
/** `count` failures of one person, one every `step` seconds, from `sources` networks in turn. */
const distributed = (count: number, sources: number, step: number): ExampleEvent[] =>
  Array.from({ length: count }, (_, i) => failed(i * step, 0, elsewhere(i % sources)));
const expectedTarget = (
  t: number,
  verdict: 'distributed' | 'distributed_broken_in',
  count: number,
  sources: readonly string[],
  more: { successes?: number; from?: string[] } = {},
) => ({
  entity: person(0),
  episode: exampleTime(t),
  verdict,
  severity: LEVELS[verdict].severity,
  evidence: {
    ...NOTHING_OF_A_NETWORK,
    tries: count,
    sources_at_once: sources.length,
    successes: more.successes ?? 0,
    sources,
    broken_in_from: more.from ?? [],
    clients: ['web-shop'],
    user_agents: ['curl'],
  },
});
const PREFIXES = Array.from({ length: 5 }, (_, n) => `198.51.${n}.0/24`);

export default defineDetector<Params>({
  id: 'credential_spray',
  version: 1,
  title: 'Passwords of many people tried from one network',
  family: 'credential_abuse',
  severity: 'critical',
  confidence: 65,
  description:
    'From one network the passwords of many people were tried within a short time, at the login page or by the password grant, while few logins succeeded there: the lock of a single account does not see it. Or the password of one person was tried from many networks: a limit per address does not see that.',
  references: [
    'RFC 6819 section 5.1.4.2',
    'RFC 9700 section 2.4',
    'RFC 6749 section 10.7',
    'ATT&CK T1110.003',
    'ATT&CK T1110.001',
  ],
  entity: 'network',
  verdicts: VERDICTS,
  evidence: {
    tries: 'Failed logins in the episode.',
    subjects_at_once: 'Of a network: the most people who were tried within one window.',
    sources_at_once: 'Of a person: the most networks that it was tried from within one window.',
    successes:
      'Logins that succeeded in the episode: from the network, whoever it was, or of the person, from wherever.',
    broken_in:
      'Of a network: references of the people who were tried and then logged in (at most 20).',
    sources: 'Of a person: networks that it was tried from (at most 20).',
    broken_in_from: 'Of a person: those of them that it then logged in from (at most 20).',
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
  candidates: guessingCandidates,
  history: guessingHistory,
  facts: guessingFacts,
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
    {
      name: 'fires: one person, fifteen tries from five networks within ten minutes, told out of order',
      events: distributed(15, 5, 40).reverse(),
      expect: [expectedTarget(540, 'distributed', 15, PREFIXES)],
    },
    { name: 'silent: one person, fourteen tries', events: distributed(14, 5, 40), expect: [] },
    { name: 'silent: one person, four networks', events: distributed(40, 4, 10), expect: [] },
    {
      name: 'silent: one person, slower than ten minutes',
      events: distributed(15, 5, 43),
      expect: [],
    },
    {
      name: 'silent: prefixes of four autonomous systems',
      events: distributed(30, 5, 10).map((e, i) => ({
        ...e,
        ...elsewhere(i % 5, { asn: 64_500 + Math.max(1, i % 5) }),
      })),
      expect: [],
    },
    {
      name: 'fires: two prefixes of one autonomous system are one source of five',
      events: distributed(30, 6, 10).map((e, i) => ({
        ...e,
        ...elsewhere(i % 6, { asn: 64_500 + Math.max(1, i % 6) }),
      })),
      expect: [
        expectedTarget(
          120,
          'distributed',
          30,
          [1, 2, 3, 4, 5].map((n) => `AS${64_500 + n}`),
        ),
      ],
    },
    {
      name: 'fires: then the person logged in from one of these networks',
      events: [...distributed(20, 5, 6), { ...login(3_700, 0), ...elsewhere(3) }],
      expect: [
        expectedTarget(60, 'distributed_broken_in', 20, PREFIXES, { from: ['198.51.3.0/24'] }),
      ],
    },
    {
      name: 'a login from elsewhere, or long after, is no break-in',
      events: [
        ...distributed(20, 5, 6),
        { ...login(100, 0), ...elsewhere(77) },
        { ...login(3_720, 0), ...elsewhere(3) },
      ],
      expect: [expectedTarget(60, 'distributed', 20, PREFIXES, { successes: 1 })],
    },
    {
      name: 'silent: an account that many share, whose logins mostly succeed',
      events: [
        ...distributed(15, 5, 30),
        ...Array.from({ length: 16 }, (_, i) => ({ ...login(i * 28 - 1, 0), ...elsewhere(i) })),
      ],
      expect: [],
    },
    {
      name: 'silent: one person, repeated events, back ends, nobody',
      events: [
        ...[...distributed(14, 7, 6), ...distributed(14, 7, 6)].map((e, i) => ({
          ...e,
          id: `one ${i % 14}`,
        })),
        ...distributed(20, 5, 6).map((e, i) => ({
          ...e,
          ...elsewhere(i % 5, { ip_role: 'client_backend' }),
        })),
        ...distributed(20, 5, 6).map((e) => ({ ...e, subject: {} })),
      ],
      expect: [],
    },
    {
      name: 'silent: one person, but without an excluded network only four are left',
      parameters: { exclude_networks: ['198.51.4.0/24'] },
      events: distributed(30, 5, 10),
      expect: [],
    },
    {
      name: 'one person: the window slides over midnight',
      events: distributed(15, 5, 30).map((e) => ({ ...e, t: e.t + 43_200 - 300 })),
      expect: [expectedTarget(43_200 + 120, 'distributed', 15, PREFIXES)],
    },
  ],
});
