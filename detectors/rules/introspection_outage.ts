import { z } from 'zod';
import {
  defineDetector,
  exampleTime,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import {
  badFactsBy,
  isoMinute,
  minuteOf,
  minutesOfDay,
  rateCandidates,
  rateFacts,
  rateHistory,
  rateTrigger,
  seriesOf,
  SERVICE,
  shownShare,
  splitMinutes,
  topKeys,
  windowSum,
  type Rate,
} from './_rates.ts';

/** Instances and error codes kept per minute, and shown. */
const KEYS_PER_MINUTE_MAX = 4;
const KEYS_SHOWN_MAX = 10;

const Parameters = z.strictObject({
  /** Sliding window, ms; whole minutes. */
  window_ms: z.int().min(60_000).max(3_600_000).default(300_000),
  /** Share of failed calls within the window. */
  min_share: z.number().min(0.001).max(1).default(0.05),
  /** Failed calls within the window: below it a share means little. */
  min_errors: z.int().min(1).max(1_000_000).default(10),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(1_800_000),
  /** Codes of token_rejected that mean: the resource server could not tell whether the token is good. */
  unavailable_codes: z
    .array(z.string().min(1))
    .default(['validation_unavailable', 'jwks_remote_fetch_is_failed']),
  /** Codes of failed introspections and key set requests that mean: the server's own fault. */
  server_error_codes: z
    .array(z.string().min(1))
    .default(['server_error', 'temporarily_unavailable', 'unknown_error', 'unexpected_error']),
  /** Services (the part of the instance before the first `/`) that are not judged, such as a test system. */
  exclude_services: z.array(z.string().min(1)).default([]),
});
type Params = z.infer<typeof Parameters>;

const KINDS: readonly EventKind[] = [
  'token_introspected',
  'jwks_fetched',
  'token_validated',
  'token_rejected',
];
const BAD_KINDS: readonly EventKind[] = ['token_introspected', 'jwks_fetched', 'token_rejected'];

/** What the caller did wrong (RFC 6749 section 5.2, RFC 7662 section 2.3): the endpoint works as it should. */
const CALLER_ERRORS = ['invalid_client', 'unauthorized_client', 'access_denied', 'invalid_request'];

/** Failures that are the server's: told so, or without any word. A token that is not active is no failure. */
function serverFailed(params: Params): Sql {
  const codes = param.strings(params.server_error_codes);
  return sql`((kind = 'token_rejected' AND error_code IN ${param.strings(params.unavailable_codes)})
    OR (kind IN ('token_introspected', 'jwks_fetched') AND outcome IN ('failure', 'denied')
      AND (http_status >= 500 OR error_code IN ${codes} OR error_oauth_error IN ${codes}
        OR (http_status = 0 AND error_code = '' AND error_oauth_error = ''))))`;
}

const CALLER_REFUSED = sql`(kind = 'token_introspected' AND outcome IN ('failure', 'denied') AND http_status < 500
  AND (http_status IN (401, 403) OR error_oauth_error IN ${param.strings(CALLER_ERRORS)}))`;

function rateOf(params: Params): Rate {
  return {
    entity: SERVICE,
    kinds: KINDS,
    counted: sql`true`,
    badKinds: BAD_KINDS,
    bad: sql`${serverFailed(params)} OR ${CALLER_REFUSED}`,
    windowMs: params.window_ms,
  };
}

/** Which way of learning about a token an event belongs to. */
const CHANNEL = sql`multiIf(kind = 'token_introspected', 'introspection', kind = 'jwks_fetched', 'jwks', 'validation')`;
const CHANNELS = ['introspection', 'jwks', 'validation'] as const;
type Channel = (typeof CHANNELS)[number];
type Cause = 'server' | 'caller';

interface Peak {
  readonly channel: Channel;
  readonly minute: number;
  readonly errors: number;
  readonly calls: number;
}

/** For each minute the channel that stands worst, where one reaches the thresholds. */
function crossings(input: EvaluateInput<Params>, cause: Cause): Map<number, Peak> {
  const { facts, params, window } = input;
  const found = new Map<number, Peak>();
  for (const channel of CHANNELS) {
    const bad = seriesOf(facts, cause, channel);
    const parts = ['answered', 'server', 'caller'].map((n) => seriesOf(facts, n, channel));
    for (const minute of minutesOfDay(bad, window)) {
      const errors = windowSum(bad, minute, params.window_ms);
      const calls = parts.reduce((n, part) => n + windowSum(part, minute, params.window_ms), 0);
      if (errors < params.min_errors || errors / calls < params.min_share) continue;
      const peak = { channel, minute, errors, calls };
      const before = found.get(minute);
      if (before === undefined || isWorse(peak, before)) found.set(minute, peak);
    }
  }
  return found;
}

function isWorse(a: Peak, b: Peak): boolean {
  const difference = a.errors / a.calls - b.errors / b.calls;
  return difference > 0 || (difference === 0 && a.errors > b.errors);
}

function toSignal(
  input: EvaluateInput<Params>,
  cause: Cause,
  peaks: readonly Peak[],
): Signal | undefined {
  const { facts, entity, params } = input;
  const [first] = peaks;
  const last = peaks.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const worst = peaks.reduce((a, b) => (isWorse(b, a) ? b : a));
  const from = first.minute - Math.ceil(params.window_ms / 60_000) + 1;
  const names = (name: string): string[] =>
    topKeys(facts, name, from, last.minute)
      .slice(0, KEYS_SHOWN_MAX)
      .map((k) => k.key);
  const channels = [...new Set(peaks.map((p) => p.channel))].sort();
  const isOutage = cause === 'server';
  const share = Math.round((worst.errors / worst.calls) * 100);
  return {
    episode: isoMinute(first.minute),
    verdict: isOutage ? 'outage' : 'callers_refused',
    severity: isOutage ? 'high' : 'medium',
    confidence: isOutage ? 85 : 70,
    summary: isOutage
      ? `${entity}: ${share} % of ${worst.calls} calls of the ${worst.channel} channel failed within ${params.window_ms / 60_000} minutes.`
      : `${entity} refused ${share} % of ${worst.calls} introspection requests within ${params.window_ms / 60_000} minutes for the callers' own credentials or requests.`,
    reasons: channels.map((c) => `${c} reached the threshold`),
    evidence: {
      channels,
      worst_channel: worst.channel,
      worst_until: isoMinute(worst.minute + 1),
      errors: worst.errors,
      calls: worst.calls,
      share: shownShare(worst.errors, worst.calls),
      minutes: peaks.length,
      error_codes: names(`${cause}_code`),
      instances: names(`${cause}_instance`),
      callers: names(`${cause}_client`),
    },
    events: input.events.filter((e) => minuteOf(e) >= from && minuteOf(e) <= last.minute),
    tokenRefs: [],
    ofClient: '',
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  if (input.params.exclude_services.includes(input.entity)) return [];
  const outages = crossings(input, 'server');
  // What the server itself fails at explains the rest of that minute.
  const refusals = new Map([...crossings(input, 'caller')].filter(([m]) => !outages.has(m)));
  return (['server', 'caller'] as const).flatMap((cause) => {
    const peaks = cause === 'server' ? outages : refusals;
    const minutes = [...peaks.keys()].sort((a, b) => a - b);
    return splitMinutes(minutes, input.params.gap_ms).flatMap(
      (episode) =>
        toSignal(
          input,
          cause,
          episode.flatMap((m) => peaks.get(m) ?? []),
        ) ?? [],
    );
  });
}

const RS = 'payments-api';
/** `n` events, one a second from `t` on. */
const many = (n: number, t: number, event: Omit<ExampleEvent, 't'>): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => ({ ...event, t: t + i }));
const unavailable = (instance: string): Omit<ExampleEvent, 't'> => ({
  kind: 'token_rejected',
  outcome: 'failure',
  error: { code: 'validation_unavailable' },
  client: { id: 'web-shop' },
  source: { id: 'otlp', instance },
});
const validated = (instance: string): Omit<ExampleEvent, 't'> => ({
  kind: 'token_validated',
  outcome: 'success',
  client: { id: 'web-shop' },
  source: { id: 'otlp', instance },
});
const introspected = (
  instance: string,
  status: number,
  oauthError = '',
): Omit<ExampleEvent, 't'> => ({
  kind: 'token_introspected',
  outcome: status < 400 ? 'success' : 'failure',
  error: { code: oauthError, oauth_error: oauthError },
  client: { id: 'payments-rs' },
  http: { status },
  source: { id: 'otlp', instance },
});
const expected = (
  entity: string,
  t: number,
  evidence: Readonly<Record<string, unknown>>,
  verdict = 'outage',
) => ({
  entity,
  episode: exampleTime(t),
  verdict,
  severity: verdict === 'outage' ? ('high' as const) : ('medium' as const),
  evidence: {
    channels: ['validation'],
    worst_channel: 'validation',
    worst_until: exampleTime(t + 60),
    share: 1,
    minutes: 1,
    error_codes: ['validation_unavailable'],
    instances: [`${entity}/a`],
    callers: ['web-shop'],
    ...evidence,
  },
});

export default defineDetector<Params>({
  id: 'introspection_outage',
  version: 1,
  title: 'Introspection or key set out of order',
  family: 'operations',
  severity: 'high',
  confidence: 85,
  description:
    'Resource servers cannot tell whether tokens are good: introspection, the key set or validation itself fails for a share of the calls within a sliding window.',
  references: [
    'RFC 7662 section 2.3',
    'RFC 7662 section 4',
    'RFC 7517 section 5',
    'ATT&CK T1499.003',
  ],
  entity: 'source',
  verdicts: {
    outage: 'The server fails: errors of its own, or resource servers that cannot reach it.',
    callers_refused:
      'The server answers, and refuses resource servers for their credentials or requests: a secret that was rotated on one side only.',
  },
  evidence: {
    channels:
      'What reached the threshold: introspection and jwks as the authorization server tells, validation as resource servers tell.',
    worst_channel: 'The channel with the highest share of failures.',
    worst_until: 'End of the window with that share.',
    errors: 'Failures in that window.',
    calls: 'Calls in that window (within one percent where there are many thousands).',
    share: 'errors / calls.',
    minutes: 'Minutes whose window reached the threshold.',
    error_codes: 'Codes of the failures, most frequent first (at most 10).',
    instances: 'Instances that failed, most failures first (at most 10).',
    callers:
      'Clients of the failed calls, most first (at most 10): of introspection the resource servers.',
  },
  needs: ['kind', 'outcome', 'error.code', 'source.instance'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 1_800_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  trigger: (params) => rateTrigger(rateOf(params)),
  candidates: (scope, params) => rateCandidates(scope, rateOf(params), params.min_errors),
  history: (selection, params) => rateHistory(selection, rateOf(params)),
  facts: (selection, params) => {
    const rate = rateOf(params);
    const cause = sql`multiIf(${serverFailed(params)}, 'server', ${CALLER_REFUSED}, 'caller', 'answered')`;
    const only = (bad: Sql): Rate => ({ ...rate, bad });
    const by = (name: Cause, bad: Sql): Sql[] => {
      const top = (what: string, key: Sql): Sql =>
        badFactsBy(selection, only(bad), `${name}_${what}`, key, KEYS_PER_MINUTE_MAX);
      return [
        sql`SELECT * FROM (${top('code', sql`toString(if(error_code = '', error_oauth_error, error_code))`)})`,
        sql`SELECT * FROM (${top('instance', sql`toString(source_instance)`)})`,
        sql`SELECT * FROM (${top('client', sql`toString(client_id)`)})`,
      ];
    };
    return joinSql(
      [
        rateFacts(selection, rate, cause, CHANNEL),
        ...by('server', serverFailed(params)),
        ...by('caller', CALLER_REFUSED),
      ],
      ' UNION ALL ',
    );
  },
  evaluate,
  falsePositives: [
    'A resource server that is restarted while its authorization server is, in a test system: list it in exclude_services.',
    'Somebody who calls the introspection endpoint without being entitled: callers_refused, with callers that nobody knows.',
  ],
  examples: [
    {
      name: 'fires at the tenth validation that could not be done',
      events: many(10, 0, unavailable('payments-api/a')),
      expect: [expected(RS, 0, { errors: 10, calls: 10 })],
    },
    {
      name: 'fires on one episode per pause, told in any order',
      events: [
        ...many(10, 7_200, unavailable('billing-api/a')),
        ...many(10, 0, unavailable('billing-api/a')),
      ],
      expect: [
        expected('billing-api', 0, { errors: 10, calls: 10 }),
        expected('billing-api', 7_200, { errors: 10, calls: 10 }),
      ],
    },
    {
      name: 'fires on errors of the introspection endpoint, over instances',
      events: [
        ...many(5, 0, introspected('login/a', 503, 'temporarily_unavailable')),
        ...many(7, 60, introspected('login/b', 500, 'server_error')),
        ...many(12, 60, introspected('login/b', 200)),
      ],
      expect: [
        expected('login', 60, {
          channels: ['introspection'],
          worst_channel: 'introspection',
          errors: 12,
          calls: 24,
          share: 0.5,
          error_codes: ['server_error', 'temporarily_unavailable'],
          instances: ['login/b', 'login/a'],
          callers: ['payments-rs'],
        }),
      ],
    },
    {
      name: 'fires on a key set that cannot be had',
      events: many(10, 0, {
        kind: 'jwks_fetched',
        outcome: 'failure',
        source: { id: 'otlp', instance: 'keys/a' },
      }),
      expect: [
        expected('keys', 0, {
          channels: ['jwks'],
          worst_channel: 'jwks',
          errors: 10,
          calls: 10,
          error_codes: [],
          callers: [],
        }),
      ],
    },
    {
      name: 'a resource server with wrong credentials is no outage',
      events: [
        ...many(10, 0, introspected('login-eu/a', 401, 'invalid_client')),
        ...many(10, 0, introspected('login-eu/a', 200)),
      ],
      expect: [
        expected(
          'login-eu',
          0,
          {
            channels: ['introspection'],
            worst_channel: 'introspection',
            errors: 10,
            calls: 20,
            share: 0.5,
            error_codes: ['invalid_client'],
            callers: ['payments-rs'],
          },
          'callers_refused',
        ),
      ],
    },
    {
      name: 'the window slides over midnight',
      events: [
        ...many(6, 43_200 - 60, unavailable('night-api/a')),
        ...many(4, 43_200, unavailable('night-api/a')),
      ],
      expect: [expected('night-api', 43_200, { errors: 10, calls: 10 })],
    },
    {
      name: 'fires exactly at the share',
      parameters: { min_share: 0.5 },
      events: [
        ...many(10, 0, unavailable('share-api/a')),
        ...many(10, 0, validated('share-api/a')),
      ],
      expect: [expected('share-api', 0, { errors: 10, calls: 20, share: 0.5 })],
    },
    {
      name: 'silent: one call more that worked',
      parameters: { min_share: 0.5 },
      events: [
        ...many(10, 0, unavailable('share-api/a')),
        ...many(11, 0, validated('share-api/a')),
      ],
      expect: [],
    },
    {
      name: 'silent: nine failures',
      events: many(9, 0, unavailable('nine-api/a')),
      expect: [],
    },
    {
      name: 'silent: ten failures, but never ten within five minutes',
      events: [
        ...many(5, 0, unavailable('slow-api/a')),
        ...many(5, 300, unavailable('slow-api/a')),
      ],
      expect: [],
    },
    {
      name: 'silent: tokens that are expired, forged or not active say nothing about the server',
      events: [
        ...many(20, 0, { ...unavailable('orders-api/a'), error: { code: 'expired' } }),
        ...many(20, 20, { ...unavailable('orders-api/a'), error: { code: 'invalid_signature' } }),
        ...many(20, 40, { ...introspected('login-us/a', 200), ext: { active: 'false' } }),
        ...many(20, 0, introspected('login-us/a', 400, 'invalid_grant')),
      ],
      expect: [],
    },
    {
      name: 'silent: excluded services, and records of attempts',
      parameters: { exclude_services: ['test-api'] },
      events: [
        ...many(20, 0, unavailable('test-api/a')),
        ...many(20, 0, { ...unavailable('other-api/a'), phase: 'attempt' }),
      ],
      expect: [],
    },
    ...['server_error', 'temporarily_unavailable', 'unknown_error', 'unexpected_error'].map(
      (code) => ({
        name: `fires on ${code} without a status`,
        events: many(10, 0, introspected('codes/a', 0, code)).map((e) => ({
          ...e,
          outcome: 'failure' as const,
        })),
        expect: [
          expected('codes', 0, {
            channels: ['introspection'],
            worst_channel: 'introspection',
            errors: 10,
            calls: 10,
            error_codes: [code],
            callers: ['payments-rs'],
          }),
        ],
      }),
    ),
    ...[
      { status: 500, code: '', oauth: '' },
      { status: 400, code: '', oauth: 'server_error' },
      { status: 400, code: 'server_error', oauth: '' },
    ].map(({ status, code, oauth }) => ({
      name: `fires on status ${status} with the codes '${code}' and '${oauth}'`,
      events: many(10, 0, {
        ...introspected('one-sign/a', status),
        error: { code, oauth_error: oauth },
      }),
      expect: [
        expected('one-sign', 0, {
          channels: ['introspection'],
          worst_channel: 'introspection',
          errors: 10,
          calls: 10,
          error_codes: code === '' && oauth === '' ? [] : ['server_error'],
          callers: ['payments-rs'],
        }),
      ],
    })),
    {
      name: 'fires on a key set that resource servers cannot fetch',
      events: many(10, 0, {
        ...unavailable('remote-api/a'),
        error: { code: 'jwks_remote_fetch_is_failed' },
      }),
      expect: [
        expected('remote-api', 0, {
          errors: 10,
          calls: 10,
          error_codes: ['jwks_remote_fetch_is_failed'],
        }),
      ],
    },
    ...['invalid_client', 'unauthorized_client', 'access_denied', 'invalid_request'].map(
      (code) => ({
        name: `callers refused: ${code}`,
        events: many(10, 0, introspected('door/a', 400, code)),
        expect: [
          expected(
            'door',
            0,
            {
              channels: ['introspection'],
              worst_channel: 'introspection',
              errors: 10,
              calls: 10,
              error_codes: [code],
              callers: ['payments-rs'],
            },
            'callers_refused',
          ),
        ],
      }),
    ),
    {
      name: 'callers refused: by the status alone',
      events: many(10, 0, introspected('door/a', 403)),
      expect: [
        expected(
          'door',
          0,
          {
            channels: ['introspection'],
            worst_channel: 'introspection',
            errors: 10,
            calls: 10,
            error_codes: [],
            callers: ['payments-rs'],
          },
          'callers_refused',
        ),
      ],
    },
    {
      name: 'silent: a failure with another status, or with a code that nobody knows',
      events: [
        ...many(10, 0, introspected('odd/a', 404)),
        ...many(10, 20, { ...introspected('odd/a', 0, 'teapot'), outcome: 'failure' as const }),
        ...many(10, 40, {
          ...introspected('odd/a', 0),
          outcome: 'failure' as const,
          error: { code: 'teapot' },
        }),
      ],
      expect: [],
    },
    {
      name: 'the worst channel of a minute is told; of equal shares the one with more failures',
      events: [
        ...many(10, 0, introspected('both/a', 503)),
        ...many(10, 10, introspected('both/a', 200)),
        ...many(12, 20, unavailable('both/a')),
        ...many(12, 240, unavailable('even/a')),
        ...many(10, 240, introspected('even/a', 503)),
        ...many(10, 0, introspected('odd-one/a', 503)),
        ...many(12, 20, unavailable('odd-one/a')),
        ...many(3, 35, validated('odd-one/a')),
      ],
      expect: [
        expected('both', 0, { errors: 12, calls: 12, callers: ['web-shop', 'payments-rs'] }),
        expected('even', 240, { errors: 12, calls: 12, callers: ['web-shop', 'payments-rs'] }),
        expected('odd-one', 0, {
          channels: ['introspection'],
          worst_channel: 'introspection',
          errors: 10,
          calls: 10,
          error_codes: ['validation_unavailable'],
          callers: ['web-shop', 'payments-rs'],
        }),
      ],
    },
    {
      name: 'the worst window of an episode is told, with what failed since its beginning; half an hour later goes on',
      events: [
        ...many(1, -120, { ...unavailable('long-api/b') }),
        ...many(10, 60, unavailable('long-api/a')),
        ...many(10, 60, validated('long-api/a')),
        ...many(10, 1_860, unavailable('long-api/a')),
        ...many(10, 3_660, unavailable('long-api/c')),
        ...many(10, 3_660, validated('long-api/c')),
        ...many(10, 5_520, unavailable('long-api/d')),
      ],
      expect: [
        expected('long-api', 60, {
          worst_until: exampleTime(1_920),
          errors: 10,
          calls: 10,
          minutes: 3,
          instances: ['long-api/a', 'long-api/c', 'long-api/b'],
        }),
        expected('long-api', 5_520, {
          errors: 10,
          calls: 10,
          instances: ['long-api/d'],
        }),
      ],
    },
  ],
});
