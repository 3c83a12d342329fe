import { z } from 'zod';
import {
  defineDetector,
  exampleTime,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import {
  badFactsBy,
  isoMinute,
  MINUTE_MS,
  minuteOf,
  minutesOfDay,
  rateCandidates,
  rateHistory,
  seriesOf,
  shownShare,
  splitMinutes,
  timeNs,
  topKeys,
  windowSum,
  type MinuteSeries,
  type Rate,
} from './_rates.ts';

/** Callers kept per minute, and shown. */
const CALLERS_PER_MINUTE_MAX = 4;
const CALLERS_SHOWN_MAX = 10;

const Parameters = z.strictObject({
  /** Sliding window, ms; whole minutes. */
  window_ms: z.int().min(60_000).max(3_600_000).default(300_000),
  /** Tokens refused for their time within the window. */
  min_failures: z.int().min(1).max(1_000_000).default(20),
  /** So many times what the host refuses for their time otherwise. */
  baseline_factor: z.number().min(1).max(1_000).default(5),
  /** How far back the baseline is taken, ms. */
  baseline_ms: z.int().min(3_600_000).max(604_800_000).default(86_400_000),
  /** How long a host must have been heard before its expired tokens are judged, ms. */
  learning_ms: z.int().min(0).max(604_800_000).default(3_600_000),
  /** So many callers with expired tokens at one host speak for the host's clock. */
  host_callers_min: z.int().min(2).max(1_000).default(3),
  /** One caller with this share of the expired tokens is the cause itself. */
  dominant_share: z.number().min(0.5).max(1).default(0.8),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(1_800_000),
  /** Codes of token_rejected for nbf or iat in the future. */
  early_codes: z.array(z.string().min(1)).min(1).default(['not_yet_valid']),
  /** Codes of token_rejected for exp in the past. */
  late_codes: z.array(z.string().min(1)).min(1).default(['expired']),
  /** Instances that are not judged. */
  exclude_instances: z.array(z.string().min(1)).default([]),
});
type Params = z.infer<typeof Parameters>;

const HOST = sql`toString(source_instance)`;
/** Who presented the token: rejected tokens often tell no client, and a proxy's network is everybody's. */
const CALLER = sql`toString(if(client_id != '', client_id, if(net_ip_role = 'proxy', '', net_network)))`;

function withCodes(codes: readonly string[]): Sql {
  return sql`error_code IN ${param.strings(codes)}`;
}

function rateOf(params: Params): Rate {
  return {
    entity: HOST,
    kinds: ['token_rejected'],
    // Any refusal tells since when the host is heard.
    counted: sql`true`,
    badKinds: ['token_rejected'],
    bad: withCodes([...params.early_codes, ...params.late_codes]),
    windowMs: params.window_ms,
    baselineMs: params.baseline_ms,
  };
}

/** Since when the host is heard, within the look-back. */
function firstHeard(selection: HistorySelection): Sql {
  return sql`
    SELECT ${HOST} AS entity, 'heard' AS name, '' AS key, toDateTime64(toStartOfMinute(min(time)), 9, 'UTC') AS at, 1. AS value
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND kind = 'token_rejected' AND ${HOST} IN ${param.strings(selection.entities)}
      AND time >= ${timeNs(selection.window?.readFrom ?? 0n)} AND time < ${timeNs(selection.window?.to ?? 0n)}
    GROUP BY entity`;
}

/** `early`: the token lies in the future, so the host's clock is behind. `late`: it has expired. */
type Direction = 'early' | 'late';

interface Crossing {
  readonly minute: number;
  readonly failures: number;
  /** Failures that a window has otherwise. */
  readonly baseline: number;
}

function crossings(input: EvaluateInput<Params>, direction: Direction): Map<number, Crossing> {
  const { facts, params, window } = input;
  const series = seriesOf(facts, direction);
  const heard = Math.min(...seriesOf(facts, 'heard').keys());
  const found = new Map<number, Crossing>();
  for (const minute of minutesOfDay(series, window)) {
    const failures = windowSum(series, minute, params.window_ms);
    if (failures < params.min_failures) continue;
    const baseline = baselineOf(series, minute, heard, params);
    // A token that is not valid yet is never honest; an expired one often is, so that must be learnt first.
    if (direction === 'late' && baseline === undefined) continue;
    if (failures >= params.baseline_factor * (baseline ?? 0))
      found.set(minute, { minute, failures, baseline: baseline ?? 0 });
  }
  return found;
}

/** The mean of a window over what was heard before this one; undefined where that is too little. */
function baselineOf(
  series: MinuteSeries,
  minute: number,
  heard: number,
  params: Params,
): number | undefined {
  const windowMinutes = Math.ceil(params.window_ms / MINUTE_MS);
  const before = minute - windowMinutes;
  const observed = Math.min(before - heard + 1, Math.floor(params.baseline_ms / MINUTE_MS));
  if (observed <= 0 || observed * MINUTE_MS < params.learning_ms) return undefined;
  return (windowSum(series, before, observed * MINUTE_MS) / observed) * windowMinutes;
}

type Verdict = 'host_clock' | 'client_clock';
const LEVELS = {
  host_clock: { severity: 'medium', confidence: 75 },
  client_clock: { severity: 'low', confidence: 65 },
} as const;

/** Whose clock it is; undefined where too little is known of the callers. */
function verdictOf(
  direction: Direction,
  callers: number,
  topShare: number,
  params: Params,
): Verdict | undefined {
  // The issuer writes nbf and iat, so no clock of a client can make a token come too early.
  if (direction === 'early') return 'host_clock';
  if (topShare >= params.dominant_share) return 'client_clock';
  return callers >= params.host_callers_min ? 'host_clock' : undefined;
}

function toSignal(
  input: EvaluateInput<Params>,
  direction: Direction,
  episode: readonly Crossing[],
): Signal[] {
  const { facts, entity, params } = input;
  const [first] = episode;
  const last = episode.at(-1);
  if (first === undefined || last === undefined) return [];
  const from = first.minute - Math.ceil(params.window_ms / MINUTE_MS) + 1;
  const worst = episode.reduce((a, b) => (b.failures > a.failures ? b : a));
  const all = topKeys(facts, direction, from, last.minute).reduce((n, k) => n + k.count, 0);
  const callers = topKeys(facts, `${direction}_caller`, from, last.minute);
  const topShare = shownShare(callers[0]?.count ?? 0, all);
  const verdict = verdictOf(direction, callers.length, topShare, params);
  if (verdict === undefined) return [];
  const what = direction === 'early' ? 'not valid yet' : 'expired';
  const minutes = params.window_ms / MINUTE_MS;
  return [
    {
      episode: isoMinute(first.minute),
      verdict,
      ...LEVELS[verdict],
      summary: `${entity} refused ${worst.failures} tokens as ${what} within ${minutes} minutes; otherwise ${worst.baseline.toFixed(1)}.`,
      reasons: [
        verdict === 'client_clock'
          ? `${callers[0]?.key ?? ''} presented ${Math.round(topShare * 100)} % of them`
          : direction === 'early'
            ? 'the issuer writes from when a token is valid, so the clock of this host is behind, or that of the issuer ahead'
            : `${callers.length} callers presented expired tokens here, so the clock of this host is ahead`,
      ],
      evidence: {
        direction,
        failures: worst.failures,
        baseline: Math.round(worst.baseline * 10) / 10,
        worst_until: isoMinute(worst.minute + 1),
        minutes: episode.length,
        callers: callers.slice(0, CALLERS_SHOWN_MAX).map((k) => k.key),
        top_caller_share: topShare,
      },
      events: input.events.filter((e) => minuteOf(e) >= from && minuteOf(e) <= last.minute),
      tokenRefs: [],
      ofClient: '',
    },
  ];
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  if (input.params.exclude_instances.includes(input.entity)) return [];
  const early = crossings(input, 'early');
  const late = new Map([...crossings(input, 'late')].filter(([m]) => !early.has(m)));
  return (['early', 'late'] as const).flatMap((direction) => {
    const found = direction === 'early' ? early : late;
    return splitMinutes([...found.keys()], input.params.gap_ms).flatMap((episode) =>
      toSignal(
        input,
        direction,
        episode.flatMap((m) => found.get(m) ?? []),
      ),
    );
  });
}

/** `n` refusals at a host, one each `step` seconds from `t` on, by so many callers in turn. */
const refusals = (
  host: string,
  code: string,
  n: number,
  t: number,
  callers: number,
  step = 1,
): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => ({
    t: t + i * step,
    kind: 'token_rejected',
    outcome: 'failure',
    error: { code },
    net: { network: `198.51.${i % callers}.0/24`, ip_role: 'end_user' },
    source: { id: 'otlp', instance: host },
  }));
const HOUR = 3_600;
/** One refusal of another kind, long enough before to have learnt the host. */
const heard = (host: string): ExampleEvent[] =>
  refusals(host, 'invalid_signature', 1, -2 * HOUR, 1);
const networks = (n: number): string[] => Array.from({ length: n }, (_, i) => `198.51.${i}.0/24`);
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
    direction: 'late',
    failures: 20,
    baseline: 0,
    worst_until: exampleTime(t + 60),
    minutes: 1,
    ...evidence,
  },
});

export default defineDetector<Params>({
  id: 'clock_skew',
  version: 1,
  title: 'Tokens refused for their time: a clock is wrong',
  family: 'operations',
  severity: 'medium',
  confidence: 75,
  description:
    'A host refuses far more tokens than usual as not valid yet or as expired: its clock has drifted, or one client goes on presenting tokens that have expired.',
  references: ['RFC 7519 section 4.1.4', 'RFC 7519 section 4.1.5', 'ATT&CK T1550.001'],
  entity: 'source',
  verdicts: {
    host_clock:
      'The clock of the host: tokens come from the future, or many callers present expired ones. Where several hosts say so at once, the clock of the issuer.',
    client_clock:
      'One caller presents nearly all of the expired tokens: its clock is behind, or it ignores expires_in.',
  },
  evidence: {
    direction:
      'early: refused as not valid yet, so the host is behind; late: refused as expired, so the host is ahead.',
    failures: 'Such refusals within the window that had most.',
    baseline:
      'Mean of a window over the time before, up to baseline_ms; 0 where nothing was learnt.',
    worst_until: 'End of that window.',
    minutes: 'Minutes whose window reached the thresholds.',
    callers:
      'Clients, or networks where the refusal names no client, most refusals first (at most 10; of each minute four count).',
    top_caller_share: 'Share of the refusals that the first of them got.',
  },
  needs: ['error.code', 'source.instance', 'net.network'],
  kinds: ['token_rejected'],
  episodes: 'daily',
  quietMs: 1_800_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms + params.baseline_ms,
  concerns: (fact) => fact.kind === 'token_rejected',
  candidates: (scope, params) => rateCandidates(scope, rateOf(params), params.min_failures),
  history: (selection, params) => rateHistory(selection, rateOf(params)),
  facts: (selection, params) => {
    const rate = rateOf(params);
    const by = (name: string, codes: readonly string[], key: Sql): Sql =>
      sql`SELECT * FROM (${badFactsBy(selection, { ...rate, bad: withCodes(codes) }, name, key, CALLERS_PER_MINUTE_MAX)})`;
    return joinSql(
      [
        by('early', params.early_codes, sql`'all'`),
        by('early_caller', params.early_codes, CALLER),
        by('late', params.late_codes, sql`'all'`),
        by('late_caller', params.late_codes, CALLER),
        firstHeard(selection),
      ],
      ' UNION ALL ',
    );
  },
  evaluate,
  falsePositives: [
    'A release of an app that no longer refreshes its tokens: many callers with expired tokens, at every host alike.',
    'A drift that lasts for hours becomes the baseline: the episode ends before the clock is right.',
  ],
  examples: [
    {
      name: 'fires at the twentieth token from the future, without learning',
      events: refusals('orders-api/old', 'not_yet_valid', 20, 0, 2),
      expect: [
        expected('orders-api/old', 0, 'host_clock', {
          direction: 'early',
          callers: networks(2),
          top_caller_share: 0.5,
        }),
      ],
    },
    {
      name: 'many callers with expired tokens at one host: its clock, told in any order',
      events: [
        ...refusals('orders-api/a', 'expired', 20, 0, 4),
        ...heard('orders-api/a'),
      ].reverse(),
      expect: [
        expected('orders-api/a', 0, 'host_clock', { callers: networks(4), top_caller_share: 0.25 }),
      ],
    },
    {
      name: 'one client that presents nearly all of them is named',
      events: [
        ...heard('orders-api/b'),
        ...refusals('orders-api/b', 'expired', 16, 0, 1).map((e) => ({
          ...e,
          client: { id: 'cron-job' },
        })),
        ...refusals('orders-api/b', 'expired', 4, 20, 4),
      ],
      expect: [
        expected('orders-api/b', 0, 'client_clock', {
          callers: ['cron-job', ...networks(3)],
          top_caller_share: 0.8,
        }),
      ],
    },
    {
      name: 'fires exactly at five times the baseline',
      parameters: { baseline_ms: HOUR * 1_000 },
      events: [
        ...refusals('orders-api/c', 'expired', 1, -2 * HOUR, 1),
        // 48 in the hour before: four a window.
        ...refusals('orders-api/c', 'expired', 48, -64 * 60, 4, 60),
        ...refusals('orders-api/c', 'expired', 20, 0, 4),
      ],
      expect: [
        expected('orders-api/c', 0, 'host_clock', {
          baseline: 4,
          callers: networks(4),
          top_caller_share: 0.25,
        }),
      ],
    },
    {
      name: 'silent: one more before',
      parameters: { baseline_ms: HOUR * 1_000 },
      events: [
        ...refusals('orders-api/c', 'expired', 1, -2 * HOUR, 1),
        ...refusals('orders-api/c', 'expired', 49, -64 * 60, 4, 60),
        ...refusals('orders-api/c', 'expired', 20, 0, 4),
      ],
      expect: [],
    },
    {
      name: 'silent: a host that is new, with expired tokens only',
      events: refusals('orders-api/d', 'expired', 40, 0, 4),
      expect: [],
    },
    {
      name: 'silent: two callers, of which none has most of the expired tokens',
      events: [...heard('orders-api/e'), ...refusals('orders-api/e', 'expired', 20, 0, 2)],
      expect: [],
    },
    {
      name: 'silent: nineteen, and twenty that are never within five minutes',
      events: [
        ...refusals('orders-api/f', 'not_yet_valid', 19, 0, 4),
        ...refusals('orders-api/g', 'not_yet_valid', 10, 0, 4),
        ...refusals('orders-api/g', 'not_yet_valid', 10, 300, 4),
      ],
      expect: [],
    },
    {
      name: 'silent: other refusals, sources without an instance, excluded ones',
      parameters: { exclude_instances: ['lab/a'] },
      events: [
        ...refusals('orders-api/h', 'invalid_signature', 40, 0, 4),
        ...refusals('', 'not_yet_valid', 40, 0, 4),
        ...refusals('lab/a', 'not_yet_valid', 40, 0, 4),
      ],
      expect: [],
    },
    {
      name: 'the window slides over midnight',
      events: [
        ...refusals('orders-api/n', 'not_yet_valid', 10, 43_200 - 60, 2),
        ...refusals('orders-api/n', 'not_yet_valid', 10, 43_200, 2),
      ],
      expect: [
        expected('orders-api/n', 43_200, 'host_clock', {
          direction: 'early',
          callers: networks(2),
          top_caller_share: 0.5,
        }),
      ],
    },
    {
      name: 'three callers speak for the clock of the host, an hour after it was first heard',
      events: [
        ...refusals('orders-api/i', 'invalid_signature', 1, -64 * 60, 1),
        ...refusals('orders-api/i', 'expired', 21, 0, 3),
      ],
      expect: [
        expected('orders-api/i', 0, 'host_clock', {
          failures: 21,
          callers: networks(3),
          top_caller_share: 0.333,
        }),
      ],
    },
    {
      name: 'silent: heard for a minute less, beside a host that is known and other things that it told',
      events: [
        ...refusals('orders-api/j', 'invalid_signature', 1, -63 * 60, 1),
        ...refusals('orders-api/j', 'expired', 21, 0, 3),
        ...heard('orders-api/known'),
        { ...heard('orders-api/j')[0], t: -3 * HOUR, kind: 'token_validated', outcome: 'success' },
      ],
      expect: [],
    },
    {
      name: 'few failures where few are asked for, and callers that are not known',
      parameters: { min_failures: 3 },
      events: refusals('orders-api/k', 'not_yet_valid', 3, 0, 1).map((e) => ({ ...e, net: {} })),
      expect: [
        expected('orders-api/k', 0, 'host_clock', {
          direction: 'early',
          failures: 3,
          callers: [],
          top_caller_share: 0,
        }),
      ],
    },
    {
      name: 'the worst window of an episode is told, the first of equal ones; half an hour goes on, a minute more does not',
      events: [
        ...refusals('orders-api/l', 'not_yet_valid', 20, 0, 1),
        ...refusals('orders-api/l', 'not_yet_valid', 22, 1_800, 1),
        ...refusals('orders-api/l', 'not_yet_valid', 22, 3_600, 1),
        ...refusals('orders-api/l', 'not_yet_valid', 20, 5_460, 1),
      ],
      expect: [
        expected('orders-api/l', 0, 'host_clock', {
          direction: 'early',
          failures: 22,
          worst_until: exampleTime(1_860),
          minutes: 3,
          callers: networks(1),
          top_caller_share: 1,
        }),
        expected('orders-api/l', 5_460, 'host_clock', {
          direction: 'early',
          baseline: 3.7,
          callers: networks(1),
          top_caller_share: 1,
        }),
      ],
    },
    {
      name: 'callers count from the beginning of the first window on',
      events: [
        ...refusals('orders-api/m', 'not_yet_valid', 1, -300, 1).map((e) => ({
          ...e,
          client: { id: 'too-early' },
        })),
        ...refusals('orders-api/m', 'not_yet_valid', 1, -240, 1).map((e) => ({
          ...e,
          client: { id: 'just-in' },
        })),
        ...refusals('orders-api/m', 'not_yet_valid', 19, 0, 1),
      ],
      expect: [
        expected('orders-api/m', 0, 'host_clock', {
          direction: 'early',
          callers: [...networks(1), 'just-in'],
          top_caller_share: 0.95,
        }),
      ],
    },
  ],
});
