import { z } from 'zod';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
  type Trigger,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';
import {
  isoMinute,
  minuteOf,
  minutesOfDay,
  seriesOf,
  SERVICE,
  splitMinutes,
  timeNs,
  topKeys,
  windowSum,
} from './_rates.ts';

const NS_PER_MS = 1_000_000n;
/** Routes, codes and instances kept per minute, and shown. */
const KEYS_PER_MINUTE_MAX = 3;
const KEYS_SHOWN_MAX = 10;

const Parameters = z.strictObject({
  /** How far the records of one call lie from its end at most, ms. A slow API needs more, which costs more. */
  pair_ms: z.int().min(1_000).max(600_000).default(5_000),
  /** Sliding window, ms; whole minutes. */
  window_ms: z.int().min(60_000).max(3_600_000).default(300_000),
  /** Calls within the window that were served although their token had been refused, or could not be validated. */
  min_calls: z.int().min(1).max(1_000_000).default(1),
  /** Calls within the window that were served without any record of a validation: a lost record must not count. */
  min_unvalidated: z.int().min(1).max(1_000_000).default(5),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(1_800_000),
  /** Codes of token_rejected that mean: the resource server could not tell whether the token is good. */
  unavailable_codes: z
    .array(z.string().min(1))
    .min(1)
    .default(['validation_unavailable', 'jwks_remote_fetch_is_failed']),
  /**
   * Routes of which every served call must have a record of its validation; `*` stands for anything but `/`, `**` for
   * anything. Judging them reads all calls of such services, which is dear beyond some hundred calls a second.
   */
  protected_routes: z.array(z.string().min(1)).default([]),
  /** Routes that serve anybody, whatever token comes along, in the same way. */
  public_routes: z.array(z.string().min(1)).default([]),
  /** Services (the part of the instance before the first `/`) that are not judged. */
  exclude_services: z.array(z.string().min(1)).default([]),
});
type Params = z.infer<typeof Parameters>;

const KINDS: readonly EventKind[] = ['api_accessed', 'token_rejected', 'token_validated'];

/** One call: the records of one instance that share a trace or request. */
const CALL_KEY = sql`if(corr_trace_id = '', corr_request_id, corr_trace_id)`;
const CALL = sql`cityHash64(toString(source_instance), ${CALL_KEY})`;
const HAS_CALL = sql`source_instance != '' AND ${CALL_KEY} != '' AND phase != 'attempt'`;

/** A regular expression that matches any of the patterns as a whole. */
function patternsToRegExp(patterns: readonly string[]): string {
  const parts = patterns.map((p) =>
    p
      .split(/(\*\*|\*)/)
      .map((part) =>
        part === '**'
          ? '.*'
          : part === '*'
            ? '[^/]*'
            : part.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'),
      )
      .join(''),
  );
  return `^(?:${parts.join('|')})$`;
}

function routeIn(patterns: readonly string[]): Sql {
  if (patterns.length === 0) return sql`false`;
  return sql`match(toString(http_route), ${param.string(patternsToRegExp(patterns))})`;
}

/** Answered with what was asked for. An unknown status says nothing. */
function isServed(params: Params): Sql {
  return sql`(kind = 'api_accessed' AND outcome = 'success' AND http_status BETWEEN 200 AND 299 AND NOT ${routeIn(params.public_routes)})`;
}

function isProtected(params: Params): Sql {
  return sql`(${isServed(params)} AND ${routeIn(params.protected_routes)})`;
}

/** How far from a new record the others of its call may lie: each within `pair_ms` of its end. */
const reachMsOf = (params: Params): number => 2 * params.pair_ms;

/**
 * Services with new records of calls that were refused and served, or that are protected. Refusals are what is rare, so they
 * come first, and by trace, for which the table has an index.
 */
function candidates(scope: CandidateScope, params: Params): Sql {
  const tenant = sql`tenant = ${param.string(scope.tenant)} AND ${HAS_CALL}`;
  const reach = BigInt(reachMsOf(params)) * NS_PER_MS;
  const near = sql`time >= ${timeNs(scope.timeFrom - reach)} AND time <= ${timeNs(scope.timeTo + reach)}`;
  const rejected = (what: Sql): Sql =>
    sql`SELECT ${what} FROM grantscope.auth_events WHERE ${tenant} AND kind = 'token_rejected' AND ${near}`;
  // A record may decide about a call that was served just before midnight.
  const at = sql`time - toIntervalMillisecond(${param.uint(params.pair_ms)})`;
  const refused = (calls: Sql): Sql => sql`
    SELECT entity, arrayJoin(news) AS at FROM (
      SELECT any(${SERVICE}) AS entity, groupUniqArrayIf(${at}, ${scope.condition}) AS news FROM grantscope.auth_events
      WHERE ${tenant} AND ${kindIn(KINDS)} AND ${near} AND ${calls} AND ${CALL} IN (${rejected(CALL)})
      GROUP BY ${CALL} HAVING notEmpty(news) AND countIf(${isServed(params)}) > 0)`;
  // Two queries: joined by OR, neither could use the index.
  const parts = [
    refused(sql`corr_trace_id IN (${rejected(sql`corr_trace_id`)} AND corr_trace_id != '')`),
    refused(
      sql`corr_trace_id = '' AND corr_request_id IN (${rejected(sql`corr_request_id`)} AND corr_trace_id = '')`,
    ),
  ];
  if (params.protected_routes.length > 0) {
    const of = (kind: EventKind, condition: Sql): Sql =>
      sql`SELECT ${SERVICE} AS entity, ${at} AS at FROM grantscope.auth_events WHERE ${tenant} AND kind = ${param.string(kind)} AND ${scope.condition} AND ${condition}`;
    const protectedNear = sql`SELECT ${CALL} FROM grantscope.auth_events WHERE ${tenant} AND ${isProtected(params)} AND ${near}`;
    parts.push(
      of('api_accessed', isProtected(params)),
      of('token_validated', sql`${CALL} IN (${protectedNear})`),
    );
  }
  return joinSql(parts, ' UNION ALL ');
}

/** Without a refusal, or a call of a protected route, around what is new, nothing was served that should not have been. */
function trigger(params: Params): Trigger {
  const guarded = params.protected_routes.length > 0 ? isProtected(params) : sql`false`;
  return {
    condition: sql`${HAS_CALL} AND (kind = 'token_rejected' OR ${guarded})`,
    reachMs: reachMsOf(params),
  };
}

/**
 * One row per call that should not have been served: entity, instance, at, event_id, route, code, verdict. Its other records
 * count within `pair_ms` of its end.
 */
function openCalls(selection: HistorySelection, params: Params): Sql {
  const reach = BigInt(params.pair_ms) * NS_PER_MS;
  const to = selection.window?.to ?? 0n;
  const rows = sql`tenant = ${param.string(selection.tenant)} AND ${HAS_CALL} AND ${SERVICE} IN ${param.strings(selection.entities)}
    AND time >= ${timeNs(selection.window?.readFrom ?? 0n)} AND time <= ${timeNs(to + reach)}`;
  const isSuspicious =
    params.protected_routes.length > 0
      ? sql`true`
      : sql`${CALL} IN (SELECT ${CALL} FROM grantscope.auth_events WHERE ${rows} AND kind = 'token_rejected')`;
  const served = isServed(params);
  const near = (list: Sql): Sql =>
    sql`arrayFilter(r -> abs(r.1 - toUnixTimestamp64Nano(at)) <= ${param.int64(reach)}, ${list})`;
  return sql`
    SELECT entity, instance, at, event_id, route, if(empty(refusals), '', refusals[1].3) AS code,
      multiIf(arrayExists(r -> r.3 IN ${param.strings(params.unavailable_codes)}, refusals), 'open_on_outage',
        notEmpty(refusals), 'served_after_rejection', 'unvalidated') AS verdict
    FROM (
      SELECT *, arraySort(${near(sql`rejected`)}) AS refusals FROM (
        SELECT ${SERVICE} AS entity, toString(source_instance) AS instance, ${CALL_KEY} AS call,
          minIf(time, ${served}) AS at,
          argMinIf(auth_events.event_id, (time, auth_events.event_id), ${served}) AS event_id,
          argMinIf(toString(http_route), (time, auth_events.event_id), ${served}) AS route,
          groupUniqArrayIf((toUnixTimestamp64Nano(time), toString(auth_events.event_id), toString(error_code)), kind = 'token_rejected') AS rejected,
          groupUniqArrayIf((toUnixTimestamp64Nano(time), ''), kind = 'token_validated') AS validated,
          countIf(${served}) AS answers, countIf(${isProtected(params)}) AS guarded
        FROM grantscope.auth_events WHERE ${rows} AND ${kindIn(KINDS)} AND ${isSuspicious}
        GROUP BY entity, instance, call HAVING answers > 0
      ) WHERE empty(${near(sql`validated`)}) AND (notEmpty(refusals) OR guarded > 0) AND at < ${timeNs(to)}
    )`;
}

const VERDICTS = ['open_on_outage', 'unvalidated', 'served_after_rejection'] as const;
type Verdict = (typeof VERDICTS)[number];
const LEVELS = {
  open_on_outage: { severity: 'critical', confidence: 90 },
  unvalidated: { severity: 'critical', confidence: 80 },
  served_after_rejection: { severity: 'high', confidence: 75 },
} as const;
const WORDS: Readonly<Record<Verdict, string>> = {
  open_on_outage: 'although their tokens could not be validated',
  unvalidated: 'without any record of a validation, on protected routes',
  served_after_rejection: 'although their tokens had been refused',
};

function toSignal(
  input: EvaluateInput<Params>,
  verdict: Verdict,
  minutes: readonly number[],
): Signal[] {
  const { facts, params, entity } = input;
  const first = minutes[0] ?? 0;
  const last = minutes.at(-1) ?? 0;
  const from = first - Math.ceil(params.window_ms / 60_000) + 1;
  const names = (what: string) => topKeys(facts, `${verdict}_${what}`, from, last);
  const shown = (what: string): string[] =>
    names(what)
      .slice(0, KEYS_SHOWN_MAX)
      .map((k) => k.key);
  const calls = topKeys(facts, verdict, from, last).reduce((n, k) => n + k.count, 0);
  return [
    {
      episode: isoMinute(first),
      verdict,
      ...LEVELS[verdict],
      summary: `${entity} served ${calls} call(s) ${WORDS[verdict]}.`,
      reasons: shown('route').map((r) => `${r} was served`),
      evidence: {
        calls,
        minutes: minutes.length,
        routes: shown('route'),
        error_codes: shown('code'),
        instances: shown('instance'),
      },
      events: input.events.filter((e) => minuteOf(e) >= from && minuteOf(e) <= last),
      tokenRefs: [],
      ofClient: '',
    },
  ];
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { facts, params, window, entity } = input;
  if (params.exclude_services.includes(entity)) return [];
  // Two episodes must not begin with one minute: the gravest verdict takes it.
  const taken = new Set<number>();
  return VERDICTS.flatMap((verdict) => {
    const series = seriesOf(facts, verdict);
    const min = verdict === 'unvalidated' ? params.min_unvalidated : params.min_calls;
    const minutes = minutesOfDay(series, window).filter(
      (m) => !taken.has(m) && windowSum(series, m, params.window_ms) >= min,
    );
    for (const m of minutes) taken.add(m);
    return splitMinutes(minutes, params.gap_ms).flatMap((e) => toSignal(input, verdict, e));
  });
}

interface Call {
  readonly trace: string;
  readonly instance: string;
  readonly code?: string;
  readonly validated?: boolean;
  readonly status?: number;
  readonly route?: string;
}
/** The records of one call: how the token was judged, if it was, and how the call ended. */
const call = (t: number, c: Call): ExampleEvent[] => {
  const common = {
    client: { id: 'web-shop' },
    corr: { trace_id: c.trace },
    source: { id: 'otlp', instance: c.instance },
  };
  const status = c.status ?? 200;
  const judged: ExampleEvent[] = [];
  if (c.code !== undefined)
    judged.push({
      ...common,
      t,
      kind: 'token_rejected',
      outcome: 'failure',
      error: { code: c.code },
    });
  if (c.validated === true)
    judged.push({ ...common, t: t + 0.05, kind: 'token_validated', outcome: 'success' });
  return [
    ...judged,
    {
      ...common,
      t: t + 0.1,
      kind: 'api_accessed',
      outcome: status < 400 ? 'success' : 'failure',
      http: { method: 'GET', route: c.route ?? '/payments', status },
    },
  ];
};
const calls = (n: number, t: number, make: (i: number) => Call): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => call(t + i, make(i))).flat();
/** A refusal, an answer 4.9 s later, and a validation of the same call at `t`; told latest first. */
const farApart = (t: number): ExampleEvent[] => {
  const c = { trace: 'far', instance: 'far-api/1', code: 'expired', validated: true };
  return call(0, c)
    .map((e, i) => ({ ...e, t: [0, t, 4.9][i] ?? 0 }))
    .reverse();
};
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
    calls: 1,
    minutes: 1,
    routes: ['/payments'],
    error_codes: [],
    instances: [`${entity}/1`],
    ...evidence,
  },
});

export default defineDetector<Params>({
  id: 'validation_fail_open',
  version: 1,
  title: 'A resource server lets calls through unvalidated',
  family: 'protocol',
  severity: 'critical',
  confidence: 90,
  description:
    'A resource server answered calls with success although their tokens could not be validated, had been refused, or show no validation at all on a protected route.',
  references: ['RFC 6749 section 7', 'RFC 6750 section 3.1', 'ATT&CK T1556', 'ATT&CK T1190'],
  entity: 'source',
  verdicts: {
    open_on_outage:
      'Introspection or the key set was out of reach, and the call was served: the resource server fails open.',
    unvalidated:
      'Calls of a route in protected_routes were served, and none of their records is a validation.',
    served_after_rejection:
      'The token was refused for what it is, and the call was served: a route without enforcement, or one that serves anybody.',
  },
  evidence: {
    calls: 'Calls that were served, in the episode.',
    minutes: 'Minutes whose window reached the threshold.',
    routes: 'Routes that were served, most calls first (at most 10; of each minute three count).',
    error_codes: 'Why the tokens were refused, in the same way.',
    instances: 'Instances that served them, in the same way.',
  },
  needs: ['kind', 'http.status', 'error.code', 'source.instance', 'corr.trace_id'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 3_600_000,
  parameters: Parameters,
  lookbackMs: (params) => 2 * params.pair_ms + params.window_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  screen: () => sql`${kindIn(KINDS)} AND ${HAS_CALL}`,
  trigger,
  candidates,
  history: (selection, params) => sql`
    SELECT entity, event_id, at FROM (${openCalls(selection, params)})
    ORDER BY entity, at, event_id LIMIT 1 BY entity, toStartOfMinute(at)`,
  facts: (selection, params) => sql`
    SELECT * FROM (
      SELECT entity, concat(verdict, part.1) AS name, part.2 AS key,
        toDateTime64(toStartOfMinute(c.at), 9, 'UTC') AS at, toFloat64(count()) AS value
      FROM (${openCalls(selection, params)}) AS c
      ARRAY JOIN [('', 'all'), ('_route', route), ('_code', code), ('_instance', instance)] AS part
      WHERE part.2 != '' GROUP BY entity, name, key, at
    ) ORDER BY entity, name, at, value DESC, key LIMIT ${param.uint(KEYS_PER_MINUTE_MAX)} BY entity, name, at`,
  evaluate,
  falsePositives: [
    'A route that serves anybody, and does not mind a bad token: list it in public_routes.',
    'A resource server that loses records of validations, on protected routes: min_unvalidated.',
    'Not reported: a client that is refused and comes again in the same trace with a good token.',
  ],
  examples: [
    {
      name: 'fires where validation was out of reach and the call was served, told in any order',
      events: call(0, {
        trace: 'open-1',
        instance: 'pay-a/1',
        code: 'validation_unavailable',
      }).reverse(),
      expect: [expected('pay-a', 0, 'open_on_outage', { error_codes: ['validation_unavailable'] })],
    },
    {
      name: 'fires where the token was refused and the call was served',
      events: calls(2, 0, (i) => ({
        trace: `open-2-${i}`,
        instance: 'pay-b/1',
        code: 'invalid_signature',
        route: i === 0 ? '/payments' : '/refunds',
      })),
      expect: [
        expected('pay-b', 0, 'served_after_rejection', {
          calls: 2,
          routes: ['/payments', '/refunds'],
          error_codes: ['invalid_signature'],
        }),
      ],
    },
    {
      name: 'fires on the fifth call of a protected route without a validation',
      parameters: { protected_routes: ['/payments', '/admin/**'] },
      events: [
        ...calls(3, 0, (i) => ({ trace: `open-3-${i}`, instance: 'pay-c/1' })),
        ...calls(2, 240, (i) => ({
          trace: `open-4-${i}`,
          instance: 'pay-c/1',
          route: '/admin/users/:id',
        })),
        ...calls(9, 0, (i) => ({ trace: `ok-${i}`, instance: 'pay-c/1', validated: true })),
      ],
      expect: [
        expected('pay-c', 240, 'unvalidated', {
          calls: 5,
          routes: ['/payments', '/admin/users/:id'],
        }),
      ],
    },
    {
      name: 'silent: validated just within five seconds after an answer that came as long after a refusal',
      events: farApart(9.9),
      expect: [],
    },
    {
      name: 'fires: the same, but validated later than that',
      events: farApart(9.901),
      expect: [
        expected('far-api', 0, 'served_after_rejection', {
          error_codes: ['expired'],
        }),
      ],
    },
    {
      name: 'silent: four such calls, or five that are never within five minutes',
      parameters: { protected_routes: ['/payments'] },
      events: [
        ...calls(4, 0, (i) => ({ trace: `few-${i}`, instance: 'pay-d/1' })),
        ...calls(3, 0, (i) => ({ trace: `slow-${i}`, instance: 'pay-e/1' })),
        ...calls(2, 300, (i) => ({ trace: `late-${i}`, instance: 'pay-e/1' })),
      ],
      expect: [],
    },
    {
      name: 'an hour later is another episode; a call before midnight counts for its own day',
      events: [
        ...call(43_199.9, {
          trace: 'night',
          instance: 'pay-f/1',
          code: 'validation_unavailable',
        }).map((e) => ({ ...e, t: e.kind === 'api_accessed' ? 43_199.95 : 43_199.9 })),
        ...call(43_200 + 7_200, {
          trace: 'next',
          instance: 'pay-f/1',
          code: 'validation_unavailable',
        }),
      ],
      expect: [
        expected('pay-f', 43_140, 'open_on_outage', { error_codes: ['validation_unavailable'] }),
        expected('pay-f', 43_200 + 7_200, 'open_on_outage', {
          error_codes: ['validation_unavailable'],
        }),
      ],
    },
    {
      name: 'silent: the call was refused as well, or redirected, or its status is unknown',
      events: [
        ...call(0, {
          trace: 'r-1',
          instance: 'pay-g/1',
          code: 'validation_unavailable',
          status: 503,
        }),
        ...call(1, { trace: 'r-2', instance: 'pay-g/1', code: 'expired', status: 401 }),
        ...call(2, { trace: 'r-3', instance: 'pay-g/1', code: 'expired', status: 302 }),
        ...call(3, { trace: 'r-4', instance: 'pay-g/1', code: 'expired' }).map((e) => ({
          ...e,
          http: {},
        })),
      ],
      expect: [],
    },
    {
      name: 'silent: refused, then served with a good token in the same trace, over midnight too',
      events: [
        ...call(0, { trace: 'retry', instance: 'pay-h/1', code: 'expired', status: 401 }),
        ...call(1, { trace: 'retry', instance: 'pay-h/1', validated: true }),
        ...call(43_199.9, { trace: 'turn', instance: 'pay-h/1', code: 'expired', status: 401 }),
        ...call(43_199.97, { trace: 'turn', instance: 'pay-h/1', validated: true }).map((e) => ({
          ...e,
          t: e.kind === 'api_accessed' ? 43_199.98 : 43_200.02,
        })),
      ],
      expect: [],
    },
    {
      name: 'a slow call: fires at pair_ms, silent beyond',
      events: [
        ...call(0, { trace: 'slow-1', instance: 'pay-k/1', code: 'expired' }).map((e) => ({
          ...e,
          t: e.kind === 'api_accessed' ? 5 : 0,
        })),
        ...call(30, { trace: 'slow-2', instance: 'pay-k/1', code: 'malformed' }).map((e) => ({
          ...e,
          t: e.kind === 'api_accessed' ? 35.001 : 30,
        })),
      ],
      expect: [expected('pay-k', 0, 'served_after_rejection', { error_codes: ['expired'] })],
    },
    {
      name: 'silent: another instance, another trace, no trace, no instance',
      events: [
        ...call(0, { trace: 'mesh', instance: 'pay-i/1', code: 'expired', status: 401 }),
        ...call(0, { trace: 'mesh', instance: 'gateway/1' }),
        ...call(1, { trace: 'mesh-2', instance: 'pay-i/1' }),
        ...call(2, { trace: '', instance: 'pay-i/1', code: 'expired' }),
        ...call(3, { trace: 'mesh-3', instance: '', code: 'expired' }),
      ],
      expect: [],
    },
    {
      name: 'silent: a public route, an excluded service, calls of routes that are not protected',
      parameters: {
        public_routes: ['/status/*'],
        exclude_services: ['lab'],
        protected_routes: ['/admin/**'],
      },
      events: [
        ...call(0, { trace: 'p-1', instance: 'pay-j/1', code: 'expired', route: '/status/:id' }),
        ...call(1, { trace: 'p-2', instance: 'lab/1', code: 'expired' }),
        ...calls(9, 2, (i) => ({ trace: `p-3-${i}`, instance: 'pay-j/1' })),
      ],
      expect: [],
    },
    {
      name: 'fires where the key set is out of reach; the gravest verdict takes the minute',
      events: [
        ...call(0, { trace: 'k-1', instance: 'pay-l/1', code: 'jwks_remote_fetch_is_failed' }),
        ...call(1, { trace: 'k-2', instance: 'pay-l/1', code: 'expired', route: '/refunds' }),
      ],
      expect: [
        expected('pay-l', 0, 'open_on_outage', { error_codes: ['jwks_remote_fetch_is_failed'] }),
      ],
    },
    {
      name: 'what is told of an episode begins with the window that reached the threshold',
      parameters: { min_calls: 3 },
      events: [-60, 0, 240, 245].flatMap((t) =>
        call(t, { trace: `w-${t}`, instance: 'pay-m/1', code: 'expired', route: `/at/${t}` }),
      ),
      expect: [
        expected('pay-m', 240, 'served_after_rejection', {
          calls: 3,
          routes: ['/at/0', '/at/240', '/at/245'],
          error_codes: ['expired'],
        }),
      ],
    },
    {
      name: 'half an hour apart is one episode, a minute more is two',
      events: [0, 1_800, 3_660].flatMap((t) =>
        call(t, { trace: `g-${t}`, instance: 'pay-n/1', code: 'expired' }),
      ),
      expect: [
        expected('pay-n', 0, 'served_after_rejection', {
          calls: 2,
          minutes: 2,
          error_codes: ['expired'],
        }),
        expected('pay-n', 3_660, 'served_after_rejection', { error_codes: ['expired'] }),
      ],
    },
    {
      name: 'one star is one part of a route, two are any',
      parameters: { protected_routes: ['/one/*', '/any/**'], min_unvalidated: 1 },
      events: [
        ...call(0, { trace: 's-1', instance: 'pay-o/1', route: '/one/a/b' }),
        ...call(120, { trace: 's-2', instance: 'pay-o/1', route: '/any/a/b' }),
      ],
      expect: [expected('pay-o', 120, 'unvalidated', { routes: ['/any/a/b'] })],
    },
    {
      name: 'a call by its request id; the first answer of a call counts, and its own day',
      events: [
        ...call(0, { trace: '', instance: 'pay-p/1', code: 'expired' }).map((e) => ({
          ...e,
          corr: { request_id: 'req-1' },
        })),
        ...call(43_200, { trace: 'm-1', instance: 'pay-p/1', code: 'expired' }).map((e) => ({
          ...e,
          t: e.kind === 'api_accessed' ? 43_200 : 43_199.9,
        })),
        { ...call(43_202, { trace: 'm-1', instance: 'pay-p/1', route: '/later' })[0], t: 43_202 },
      ] as ExampleEvent[],
      expect: [
        expected('pay-p', 0, 'served_after_rejection', { error_codes: ['expired'] }),
        expected('pay-p', 43_200, 'served_after_rejection', { error_codes: ['expired'] }),
      ],
    },
  ],
});
