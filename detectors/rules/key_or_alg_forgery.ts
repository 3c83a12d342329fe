import { z } from 'zod';
import type { AuthEvent, TokenMention } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';
import { isoTime, known, timeMs } from './_origin.ts';
import { SERVICE } from './_rates.ts';
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
  minutesReaching,
  minuteSql,
  msOf,
  sumByKey,
  timeSql,
  type Burst,
} from './_windows.ts';

const KEY_KINDS: readonly EventKind[] = ['key_created', 'key_rotated'];
const KINDS: readonly EventKind[] = ['token_validated', 'token_rejected'];

/** Why a resource server refuses a token that nobody may have signed. */
const FORGERY_CODES = ['invalid_signature', 'unknown_key', 'algorithm_not_allowed'] as const;

const LISTED_MAX = 20;
/** Accepted tokens that are read per service, algorithm, key and hour, and per service. */
const PER_KEY_MAX = 20;
const PER_SERVICE_MAX = 600;
const NETWORKS_READ_MAX = 200;

const Parameters = z.strictObject({
  /** Refused tokens within the window that look forged. */
  min_rejected: z.int().min(2).max(100_000).default(10),
  /** Counted in whole minutes, ms. */
  window_ms: z.int().min(MINUTE_MS).max(3_600_000).default(600_000),
  /** Pause after which a new episode of refusals begins, ms. */
  gap_ms: z.int().min(MINUTE_MS).max(DAY_MS).default(3_600_000),
  /** An unknown key this near to a rotation is a key set that lags behind, ms. */
  rotation_ms: z.int().min(0).max(DAY_MS).default(600_000),
  /** How long an issuer's keys must have been told of, before a key that was not can be called unknown, ms. */
  learning_ms: z
    .int()
    .min(0)
    .max(365 * DAY_MS)
    .default(30 * DAY_MS),
  /** Issuers that sign with asymmetric keys alone, as tokens name them; those whose keys are told of count anyway. */
  asymmetric_issuers: z.array(z.string().min(1)).default([]),
  /** Issuers that sign with a shared secret by design. */
  symmetric_issuers: z.array(z.string().min(1)).default([]),
  /** Services that may accept anything, such as those of a test environment. */
  exclude_services: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const isAccepted = sql`kind = 'token_validated' AND outcome = 'success'`;
const isRefused = sql`kind = 'token_rejected' AND error_code IN ${param.strings(FORGERY_CODES)}`;
const hasNone = sql`arrayExists((a, r) -> r = 'presented' AND lower(a) = 'none', tokens.alg, tokens.role)`;

/** Keys that were told of, as (issuer, kid); tenant-wide there are few such events. */
function keyEvents(tenant: string): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(tenant)} AND ${kindIn(KEY_KINDS)}
    AND outcome = 'success' AND issuer != '' AND key_kid != ''`;
}

/** Presented a token with an HMAC, of an issuer that signs with asymmetric keys. */
function hasHmac(tenant: string, params: Params): Sql {
  return sql`(issuer NOT IN ${param.strings(['', ...params.symmetric_issuers])}
    AND (issuer IN ${param.strings(params.asymmetric_issuers)} OR issuer IN (SELECT issuer ${keyEvents(tenant)}))
    AND arrayExists((a, r) -> r = 'presented' AND startsWith(a, 'HS'), tokens.alg, tokens.role))`;
}

/** Presented a key that is not among `keys`, of an issuer whose keys are told of. */
function hasUnknownKey(tenant: string, keys: Sql): Sql {
  return sql`(issuer IN (SELECT issuer ${keyEvents(tenant)})
    AND arrayExists((k, r) -> r = 'presented' AND k != '' AND (issuer, k) NOT IN (${keys}), tokens.kid, tokens.role))`;
}

function candidates(scope: CandidateScope, params: Params): Sql {
  const { tenant } = scope;
  const rows = (condition: Sql): Sql =>
    sql`SELECT ${SERVICE} AS entity, time AS at FROM grantscope.auth_events
      WHERE tenant = ${param.string(tenant)} AND ${condition}`;
  const keys = sql`SELECT issuer, key_kid ${keyEvents(tenant)}`;
  const suspect = (told: Sql): Sql =>
    sql`${isAccepted} AND (${hasNone} OR ${hasHmac(tenant, params)} OR ${hasUnknownKey(tenant, told)})`;
  const newKeys = sql`${keyEvents(tenant)} AND ${scope.condition}`;
  const hasNewKeys = sql`(SELECT count() FROM (SELECT 1 ${newKeys} LIMIT 1)) > 0`;
  const near = aroundNew(scope, params.window_ms, params.window_ms);
  const sinceKeys = sql`time >= ${timeSql(scope.timeFrom - BigInt(params.rotation_ms) * 1_000_000n)}`;
  const byKeys = aroundNew(scope, params.rotation_ms + DAY_MS, params.rotation_ms + DAY_MS);
  // A key that is told of late explains what came after it, and a rotation what came around it.
  return sql`
    ${rows(sql`${scope.condition} AND ${suspect(keys)}`)}
    UNION ALL ${rows(sql`${scope.condition} AND ${isRefused} AND ${SERVICE} IN (
      SELECT ${SERVICE} AS service FROM grantscope.auth_events
      WHERE tenant = ${param.string(tenant)} AND ${isRefused} AND ${near}
      GROUP BY service HAVING count() >= ${param.uint(params.min_rejected)})`)}
    UNION ALL ${rows(sql`${hasNewKeys} AND ${sinceKeys} AND issuer IN (SELECT issuer ${newKeys})
      AND ${suspect(sql`${keys} AND NOT (${scope.condition})`)}`)}
    UNION ALL ${rows(sql`${hasNewKeys} AND ${byKeys} AND ${isRefused}`)}`;
}

function rowsOf(selection: HistorySelection): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)} AND ${inWindow(selection)}
    AND ${SERVICE} IN ${param.strings(selection.entities)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const keys = sql`SELECT issuer, key_kid ${keyEvents(selection.tenant)}`;
  const late = hasUnknownKey(
    selection.tenant,
    sql`${keys} AND time < ${timeSql(selection.window?.from ?? 0n)}`,
  );
  const refused = sql`${rowsOf(selection)} AND ${isRefused}`;
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT entity, e FROM (
        SELECT ${SERVICE} AS entity, (time, event_id) AS e, tokens.alg AS algs, tokens.kid AS kids
        ${rowsOf(selection)} AND ${isAccepted} AND (${hasNone} OR ${hasHmac(selection.tenant, params)} OR ${late})
        ORDER BY e LIMIT ${param.uint(PER_KEY_MAX)} BY entity, algs, kids, toStartOfHour(tupleElement(e, 1)))
      ORDER BY e LIMIT ${param.uint(PER_SERVICE_MAX)} BY entity
      UNION ALL
      SELECT ${SERVICE} AS entity, min((time, event_id)) AS e ${refused} GROUP BY entity, toStartOfMinute(time), error_code
      ORDER BY e LIMIT 1000 BY entity
      UNION ALL
      SELECT ${SERVICE} AS entity, min((time, event_id)) AS e ${refused} AND net_network != '' GROUP BY entity, net_network
      ORDER BY e LIMIT ${param.uint(NETWORKS_READ_MAX)} BY entity)`;
}

function facts(selection: HistorySelection, params: Params): Sql {
  const refused = sql`${rowsOf(selection)} AND ${isRefused}`;
  const to = (selection.window?.to ?? 0n) + BigInt(params.rotation_ms) * 1_000_000n;
  const each = sql`arrayJoin(${param.strings(selection.entities)}) AS entity`;
  return sql`
    SELECT ${SERVICE} AS entity, 'refused' AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${refused} GROUP BY entity, at
    UNION ALL
    SELECT ${SERVICE} AS entity, 'refused_code' AS name, error_code AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
    ${refused} GROUP BY entity, error_code, at
    UNION ALL
    SELECT ${each}, 'key' AS name, concat(issuer, '\n', kid) AS key, first AS at, 1 AS value FROM (
      SELECT issuer, key_kid AS kid, min(time) AS first ${keyEvents(selection.tenant)} AND time < ${timeSql(to)}
      GROUP BY issuer, kid)
    UNION ALL
    SELECT ${each}, 'rotation' AS name, issuer AS key, moment AS at, 1 AS value FROM (
      SELECT issuer, time AS moment ${keyEvents(selection.tenant)} AND time < ${timeSql(to)}
        AND time >= ${timeSql((selection.window?.readFrom ?? 0n) - BigInt(params.rotation_ms) * 1_000_000n)}
      GROUP BY issuer, time)`;
}

type Accepted = 'none_accepted' | 'symmetric_accepted' | 'unknown_key_accepted' | 'rotation_race';
type Verdict = Accepted | 'refused_burst';

const SEVERITY = {
  none_accepted: 'critical',
  symmetric_accepted: 'critical',
  unknown_key_accepted: 'critical',
  rotation_race: 'low',
  refused_burst: 'medium',
} as const;
const CONFIDENCE = {
  none_accepted: 95,
  symmetric_accepted: 90,
  unknown_key_accepted: 70,
  rotation_race: 70,
  refused_burst: 60,
} as const;
const GRAVITY: readonly Accepted[] = [
  'none_accepted',
  'symmetric_accepted',
  'unknown_key_accepted',
  'rotation_race',
];

function isNearRotation(atMs: number, issuer: string, input: EvaluateInput<Params>): boolean {
  return factsNamed(input.facts, 'rotation').some(
    (f) =>
      (issuer === '' || f.key === issuer) && Math.abs(msOf(f) - atMs) <= input.params.rotation_ms,
  );
}

/** What is wrong with one token that was accepted; undefined where nothing is, or it cannot be told. */
function judge(e: AuthEvent, t: TokenMention, input: EvaluateInput<Params>): Accepted | undefined {
  const { params } = input;
  if (t.alg.toLowerCase() === 'none') return 'none_accepted';
  if (e.issuer === '' || params.symmetric_issuers.includes(e.issuer)) return undefined;
  const keys = factsNamed(input.facts, 'key').filter((f) => f.key.startsWith(`${e.issuer}\n`));
  const told = keys.filter((f) => f.at <= e.time);
  const isAsymmetric = params.asymmetric_issuers.includes(e.issuer) || told.length > 0;
  if (t.alg.startsWith('HS')) return isAsymmetric ? 'symmetric_accepted' : undefined;
  if (t.kid === '' || told.some((f) => f.key === `${e.issuer}\n${t.kid}`)) return undefined;
  const hasLearnt = told.some((f) => timeMs(e) - msOf(f) >= params.learning_ms);
  if (!hasLearnt) return undefined;
  return isNearRotation(timeMs(e), e.issuer, input) ? 'rotation_race' : 'unknown_key_accepted';
}

interface Judged {
  readonly event: AuthEvent;
  readonly token: TokenMention;
  readonly verdict: Accepted;
}

function judgedTokens(input: EvaluateInput<Params>): Judged[] {
  const { window } = input;
  return input.events.flatMap((event) => {
    if (event.kind !== 'token_validated') return [];
    if (window !== undefined && event.time < window.from) return [];
    return event.tokens.flatMap((token): Judged[] => {
      const verdict = token.role === 'presented' ? judge(event, token, input) : undefined;
      return verdict === undefined ? [] : [{ event, token, verdict }];
    });
  });
}

const REASONS: Readonly<Record<Accepted, string>> = {
  none_accepted: 'a token without any signature was accepted',
  symmetric_accepted:
    'accepted with a shared-secret signature, though the issuer signs with asymmetric keys',
  unknown_key_accepted: 'accepted with a key that the issuer never told of',
  rotation_race: 'an unknown key, but the issuer changed its keys at that time',
};

function acceptedSignal(input: EvaluateInput<Params>): Signal | undefined {
  const judged = judgedTokens(input);
  const verdict = GRAVITY.find((v) => judged.some((j) => j.verdict === v));
  if (verdict === undefined) return undefined;
  const own = judged.filter((j) => j.verdict === verdict);
  const events = [...new Set(own.map((j) => j.event))];
  const [first] = events;
  return {
    episode: first === undefined ? '' : isoTime(first),
    verdict,
    severity: SEVERITY[verdict],
    confidence: CONFIDENCE[verdict],
    summary: `${input.entity} accepted ${own.length} token(s): ${REASONS[verdict]}.`,
    reasons: [REASONS[verdict]],
    evidence: {
      accepted: own.length,
      refused: 0,
      algorithms: known(own.map((j) => j.token.alg)).slice(0, LISTED_MAX),
      keys: known(own.map((j) => j.token.kid)).slice(0, LISTED_MAX),
      codes: {},
      networks: known(events.map((e) => e.net.network)).slice(0, LISTED_MAX),
    },
    events,
    tokenRefs: known(own.map((j) => j.token.ref)),
  };
}

function refusedSignal(burst: Burst, input: EvaluateInput<Params>): Signal {
  const events = input.events.filter((e) => e.kind === 'token_rejected' && isDuring(e, burst));
  const codes = sumByKey(factsDuring(factsNamed(input.facts, 'refused_code'), burst));
  const issuers = known(events.map((e) => e.issuer));
  const tokens = events.flatMap((e) => e.tokens.filter((t) => t.role === 'presented'));
  const isRace =
    codes.every(([code]) => code === 'unknown_key') &&
    (issuers.length === 0 ? [''] : issuers).every((i) => isNearRotation(burst.fromMs, i, input));
  const verdict: Verdict = isRace ? 'rotation_race' : 'refused_burst';
  return {
    episode: isoMs(burst.reachedMs),
    verdict,
    severity: SEVERITY[verdict],
    confidence: CONFIDENCE[verdict],
    summary: `${input.entity} refused ${burst.total} tokens whose signature, key or algorithm was wrong.`,
    reasons: isRace
      ? ['all for an unknown key, right after the keys changed: a key set that lags behind']
      : codes.map(([code, n]) => `${code}: ${n}`),
    evidence: {
      accepted: 0,
      refused: burst.total,
      algorithms: known(tokens.map((t) => t.alg)).slice(0, LISTED_MAX),
      keys: known(tokens.map((t) => t.kid)).slice(0, LISTED_MAX),
      codes: Object.fromEntries(codes),
      networks: known(events.map((e) => e.net.network)).slice(0, LISTED_MAX),
    },
    events,
    tokenRefs: [],
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_services.includes(entity)) return [];
  const accepted = acceptedSignal(input);
  const perMinute = factsNamed(input.facts, 'refused');
  const limits = { windowMs: params.window_ms, gapMs: params.gap_ms, window };
  const minutes = minutesReaching(perMinute, params.min_rejected, limits);
  const refused = burstsOf(minutes, perMinute, limits).map((b) => refusedSignal(b, input));
  if (accepted === undefined) return refused;
  // What was accepted at the very start of a minute takes that minute's name.
  return [accepted, ...refused.filter((s) => s.episode !== accepted.episode)];
}

const ISSUER = 'https://login.example';
const NET = '203.0.113.0/24';
const DAY_S = DAY_MS / 1_000;
const accept = (
  t: number,
  token: { alg?: string; kid?: string },
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: 'token_validated',
  outcome: 'success',
  issuer: ISSUER,
  source: { instance: 'orders-api/pod-1' },
  net: { network: NET },
  tokens: [
    {
      role: 'presented',
      type: 'access',
      ref: '2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d',
      alg: 'RS256',
      ...token,
    },
  ],
  ...more,
});
const refuse = (t: number, code: string, kid = 'k9'): ExampleEvent =>
  accept(t, { kid }, { kind: 'token_rejected', outcome: 'failure', error: { code } });
const refusals = (n: number, step: number, code = 'invalid_signature'): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => refuse(30 + i * step, code));
const key = (
  t: number,
  kid: string,
  kind: 'key_created' | 'key_rotated' = 'key_created',
): ExampleEvent => ({
  t,
  kind,
  outcome: 'success',
  issuer: ISSUER,
  key: { kid },
});
/** The issuer's keys have been told of for long. */
const K1 = key(-40 * DAY_S, 'k1');
const expected = (
  t: number,
  verdict: Verdict,
  more: {
    accepted?: number;
    refused?: number;
    algorithms?: string[];
    keys?: string[];
    codes?: Record<string, number>;
  },
) => ({
  entity: 'orders-api',
  episode: exampleTime(t),
  verdict,
  severity: SEVERITY[verdict],
  evidence: {
    accepted: more.accepted ?? 0,
    refused: more.refused ?? 0,
    algorithms: more.algorithms ?? ['RS256'],
    keys: more.keys ?? [],
    codes: more.codes ?? {},
    networks: [NET],
  },
});

export default defineDetector<Params>({
  id: 'key_or_alg_forgery',
  version: 1,
  title: 'Forged token: wrong algorithm or key',
  family: 'protocol',
  severity: 'critical',
  confidence: 95,
  description:
    'A service accepted a token without a signature, with a shared-secret signature where the issuer signs asymmetrically, or with a key that the issuer never told of; or it refused many tokens for such reasons within ten minutes.',
  references: [
    'RFC 8725 section 3.1',
    'RFC 8725 section 2.1',
    'RFC 9068 section 4',
    'ATT&CK T1606',
  ],
  entity: 'source',
  verdicts: {
    none_accepted: 'A token with the algorithm none was accepted.',
    symmetric_accepted:
      'A token with an HMAC was accepted, though its issuer signs with asymmetric keys.',
    unknown_key_accepted: 'A token was accepted with a key that no event of the issuer told of.',
    rotation_race: 'Unknown keys, accepted or refused, but within minutes of a change of keys.',
    refused_burst: 'Many refused tokens whose signature, key or algorithm was wrong.',
  },
  evidence: {
    accepted: 'Accepted tokens of this verdict that were read.',
    refused: 'Refused tokens in the episode.',
    algorithms: 'Algorithms that these tokens named (at most 20).',
    keys: 'Key ids that they named (at most 20).',
    codes: 'Refusals by reason.',
    networks: 'Networks that presented them (at most 20).',
  },
  needs: ['tokens.alg', 'tokens.kid', 'issuer', 'error.code', 'source.instance'],
  kinds: [...KINDS, ...KEY_KINDS],
  episodes: 'daily',
  quietMs: 3_600_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: (fact) => KINDS.some((k) => k === fact.kind) || KEY_KINDS.some((k) => k === fact.kind),
  candidates,
  history,
  facts,
  evaluate,
  falsePositives: [
    'A resource server whose key set lags behind: told as rotation_race where the change of keys is told of.',
    'A key that was made before its issuer told of keys: it is unknown only after learning_ms.',
    'A client that sends tokens of another environment: see the reasons by code.',
    'Not reported: issuers and keys that the events do not name.',
  ],
  examples: [
    {
      name: 'fires: alg none accepted, whatever else is known',
      events: [accept(5, { alg: 'none' }, { issuer: '' })],
      expect: [expected(5, 'none_accepted', { accepted: 1, algorithms: ['none'] })],
    },
    {
      name: 'fires: an HMAC with the kid of a public key',
      events: [accept(5, { alg: 'HS256', kid: 'k1' }), K1],
      expect: [
        expected(5, 'symmetric_accepted', { accepted: 1, algorithms: ['HS256'], keys: ['k1'] }),
      ],
    },
    {
      name: 'fires: an HMAC of an issuer that is said to be asymmetric',
      parameters: { asymmetric_issuers: [ISSUER] },
      events: [accept(5, { alg: 'HS512' })],
      expect: [expected(5, 'symmetric_accepted', { accepted: 1, algorithms: ['HS512'] })],
    },
    {
      name: 'fires: a key that was never told of',
      events: [accept(5, { kid: 'k666' }), K1, accept(6, { kid: 'k1' })],
      expect: [expected(5, 'unknown_key_accepted', { accepted: 1, keys: ['k666'] })],
    },
    {
      name: 'low: an unknown key ten minutes after a rotation',
      events: [accept(600, { kid: 'k3' }), K1, key(0, 'k2', 'key_rotated')],
      expect: [expected(600, 'rotation_race', { accepted: 1, keys: ['k3'] })],
    },
    {
      name: 'fires: a second later than that it is no race',
      events: [accept(601, { kid: 'k3' }), K1, key(0, 'k2', 'key_rotated')],
      expect: [expected(601, 'unknown_key_accepted', { accepted: 1, keys: ['k3'] })],
    },
    {
      name: 'fires: ten refusals within ten minutes',
      events: refusals(10, 60),
      expect: [
        expected(540, 'refused_burst', {
          refused: 10,
          keys: ['k9'],
          codes: { invalid_signature: 10 },
        }),
      ],
    },
    {
      name: 'low: refusals for an unknown key right after a rotation',
      events: [...refusals(12, 20, 'unknown_key'), key(-60, 'k9', 'key_rotated')],
      expect: [
        expected(180, 'rotation_race', { refused: 12, keys: ['k9'], codes: { unknown_key: 12 } }),
      ],
    },
    {
      name: 'wrong signatures are no race, rotation or not',
      events: [
        ...refusals(9, 20, 'unknown_key'),
        refuse(230, 'invalid_signature'),
        key(-60, 'k9', 'key_rotated'),
      ],
      expect: [
        expected(180, 'refused_burst', {
          refused: 10,
          keys: ['k9'],
          codes: { unknown_key: 9, invalid_signature: 1 },
        }),
      ],
    },
    { name: 'silent: nine refusals', events: refusals(9, 60), expect: [] },
    { name: 'silent: ten, but never within ten minutes', events: refusals(10, 67), expect: [] },
    {
      name: 'silent: known keys, expired tokens, an issuer without key events, one that signs with HMAC by design',
      parameters: { symmetric_issuers: ['https://own.example'] },
      events: [
        K1,
        key(-60, 'k2'),
        accept(1, { kid: 'k1' }),
        accept(2, { kid: 'k2' }),
        accept(3, { kid: 'k7', alg: 'HS256' }, { issuer: 'https://other.example' }),
        accept(4, { kid: 'k7' }, { issuer: 'https://other.example' }),
        accept(5, { alg: 'HS256' }, { issuer: '' }),
        accept(6, { alg: 'HS256' }, { issuer: 'https://own.example' }),
        ...refusals(30, 5, 'expired'),
      ],
      expect: [],
    },
    {
      name: 'silent while learning: keys are told of for less than thirty days',
      events: [key(-30 * DAY_S + 10, 'k1'), accept(5, { kid: 'k0' })],
      expect: [],
    },
    {
      name: 'silent: an excluded service',
      parameters: { exclude_services: ['orders-api'] },
      events: [accept(5, { alg: 'none' })],
      expect: [],
    },
  ],
});
