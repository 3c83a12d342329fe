import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  mentions,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { Severity } from '../../model/finding.ts';
import { param, sql } from '../../model/sql.ts';
import { inSlice, ledgerCondition, tokenHistory } from './_ledger.ts';
import {
  compareOrigins,
  isoTime,
  mentionOf,
  requestKey,
  timeMs,
  tokensOf,
  type OriginPart,
} from './_origin.ts';

const KINDS = [
  'token_refreshed',
  'token_request_failed',
  'token_reuse_detected',
  'token_introspected',
  'token_validated',
  'api_accessed',
  'userinfo_accessed',
  'token_revoked',
] as const;
const USE_KINDS = ['token_refreshed', 'token_request_failed', 'token_reuse_detected'] as const;
const LEDGER = { kinds: USE_KINDS, types: ['refresh'], roles: ['consumed', 'presented'] } as const;
const FOLLOWED_MAX = 40;
const REUSES_LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** A repeat within this time from the same origin is a race of parallel requests, ms. */
  grace_ms: z.int().min(0).max(60_000).default(30_000),
  /** A repeat within this time from another network, but the same user agent, whose successor nobody used, is a lost response while roaming, ms. */
  roaming_grace_ms: z.int().min(0).max(600_000).default(30_000),
  /** Grace per client: FAPI 2.0 wants a retry with the old token to succeed for longer, ms. */
  client_grace_ms: z.record(z.string(), z.int().min(0).max(86_400_000)).default({}),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  theft: 'Another user agent, key or network presented the token after its successor was issued.',
  undetermined: 'Presented again after the grace; where from is not known on both sides.',
  stale_client: 'The same origin presented an old token although the successor had been used.',
  lost_response:
    'The same client tried again; its successor was never used, so the answer was lost.',
  benign_race: 'Parallel requests of one client within the grace.',
} as const;
type Verdict = keyof typeof VERDICTS;

/** Gravest first. */
const ORDER: readonly Verdict[] = [
  'theft',
  'undetermined',
  'stale_client',
  'lost_response',
  'benign_race',
];
const GRADE: Readonly<Record<Verdict, { severity: Severity; confidence: number }>> = {
  theft: { severity: 'high', confidence: 85 },
  undetermined: { severity: 'medium', confidence: 50 },
  stale_client: { severity: 'low', confidence: 60 },
  lost_response: { severity: 'low', confidence: 70 },
  benign_race: { severity: 'info', confidence: 90 },
};

interface Reuse {
  readonly event: AuthEvent;
  readonly verdict: Verdict;
  readonly gapMs: number | null;
  readonly different: readonly OriginPart[];
  readonly reasons: readonly string[];
}

/** Requests that presented the token, one record each. */
function presentations(input: EvaluateInput<Params>): AuthEvent[] {
  const seen = new Set<string>();
  return input.events.filter((e) => {
    if (!USE_KINDS.some((k) => k === e.kind)) return false;
    if (mentionOf(e, input.entity, ['consumed', 'presented']) === undefined) return false;
    if (input.params.exclude_clients.includes(e.client.id)) return false;
    const key = requestKey(e);
    if (key === '') return true;
    // A refusal and the reuse alarm that it set off are two records of one request.
    const isRepeat = seen.has(key);
    seen.add(key);
    return !isRepeat;
  });
}

/** True for the event in which the token was exchanged for a successor: reuse without rotation is normal. */
function isRotation(event: AuthEvent, token: string): boolean {
  if (event.kind !== 'token_refreshed' || event.outcome === 'failure') return false;
  if (mentionOf(event, token, ['consumed']) === undefined) return false;
  return tokensOf(event, 'issued', 'refresh').some((t) => t.ref !== token);
}

/** Refresh and access tokens that were issued for this one. */
function successorsOf(events: readonly AuthEvent[], token: string): string[] {
  const refs = events
    .filter((e) => isRotation(e, token))
    .flatMap((e) => [...tokensOf(e, 'issued', 'refresh'), ...tokensOf(e, 'issued', 'access')])
    .map((t) => t.ref)
    .filter((r) => r !== token);
  return [...new Set(refs)].sort().slice(0, FOLLOWED_MAX);
}

/** Whether anything issued for the token was used: then the response had arrived. */
function isSuccessorUsed(events: readonly AuthEvent[], successors: readonly string[]): boolean {
  return events.some(
    (e) =>
      e.kind !== 'token_revoked' &&
      e.tokens.some(
        (t) => (t.role === 'consumed' || t.role === 'presented') && successors.includes(t.ref),
      ),
  );
}

const PART_NAMES: Readonly<Record<OriginPart, string>> = {
  key: 'key',
  user_agent: 'user agent',
  country: 'country',
  network: 'network',
};

function classify(
  rotation: AuthEvent,
  event: AuthEvent,
  isUsed: boolean,
  params: Params,
): Omit<Reuse, 'event'> {
  const gapMs = timeMs(event) - timeMs(rotation);
  const { same, different } = compareOrigins(rotation, event);
  const graceMs = params.client_grace_ms[event.client.id] ?? params.grace_ms;
  const gap = `presented ${(gapMs / 1_000).toFixed(1)} s after its successor was issued`;
  const used = isUsed ? 'the successor had been used' : 'the successor was never used';
  const result = (verdict: Verdict, ...reasons: string[]): Omit<Reuse, 'event'> => ({
    verdict,
    gapMs,
    different,
    reasons: [...reasons, gap, used],
  });
  if (different.length > 0) {
    const isOnlyPlace = different.every((p) => p === 'network' || p === 'country');
    const isRoaming = isOnlyPlace && same.includes('user_agent') && !isUsed;
    const names = different.map((p) => PART_NAMES[p]).join(', ');
    return isRoaming && gapMs <= params.roaming_grace_ms
      ? result('lost_response', `same user agent; ${names} changed while the answer was under way`)
      : result('theft', `another ${names} than the rotation's`);
  }
  if (gapMs <= graceMs) return result('benign_race', `within the grace of ${graceMs / 1_000} s`);
  if (same.length === 0)
    return result('undetermined', 'network, user agent and key are not known on both sides');
  const sameNames = same.map((p) => PART_NAMES[p]).join(', ');
  return result(isUsed ? 'stale_client' : 'lost_response', `same ${sameNames}`);
}

function reusesOf(input: EvaluateInput<Params>): Reuse[] {
  const { entity, events, params } = input;
  const uses = presentations(input);
  const rotation = uses.find((e) => isRotation(e, entity));
  if (rotation === undefined) {
    // The server says so, although the rotation itself was not recorded (or long ago).
    return uses
      .filter((e) => e.kind === 'token_reuse_detected')
      .map((event) => ({
        event,
        verdict: 'undetermined' as const,
        gapMs: null,
        different: [],
        reasons: ['the authorization server reported reuse; the rotation was not seen'],
      }));
  }
  const isUsed = isSuccessorUsed(events, successorsOf(events, entity));
  return uses
    .slice(uses.indexOf(rotation) + 1)
    .map((event) => ({ event, ...classify(rotation, event, isUsed, params) }));
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { entity, events } = input;
  const reuses = reusesOf(input);
  const verdict = ORDER.find((v) => reuses.some((r) => r.verdict === v));
  const worst = reuses.find((r) => r.verdict === verdict);
  if (verdict === undefined || worst === undefined) return [];
  const successors = successorsOf(events, entity);
  const rotation = events.find((e) => isRotation(e, entity));
  const related = [...(rotation === undefined ? [] : [rotation]), ...reuses.map((r) => r.event)];
  const family = related
    .flatMap((e) => e.tokens)
    .find((t) => t.ref === entity && t.family_ref !== '');
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict,
      ...GRADE[verdict],
      summary: `A rotated refresh token was presented again (${verdict.replaceAll('_', ' ')}): ${worst.reasons[0] ?? ''}.`,
      reasons: worst.reasons,
      evidence: {
        rotated_at: rotation === undefined ? null : isoTime(rotation),
        family_ref: family?.family_ref ?? '',
        reuse_count: reuses.length,
        successor_used: rotation === undefined ? null : isSuccessorUsed(events, successors),
        generations_behind_min:
          rotation === undefined ? null : isSuccessorUsed(events, successors) ? 2 : 1,
        reuses: reuses.slice(0, REUSES_LISTED_MAX).map((r) => ({
          at: isoTime(r.event),
          gap_ms: r.gapMs,
          verdict: r.verdict,
          accepted: r.event.kind === 'token_refreshed' && r.event.outcome === 'success',
          network: r.event.net.network,
          ua_family: r.event.net.ua_family,
          different: r.different,
        })),
      },
      events: related,
      tokenRefs: [entity, ...successors],
    },
  ];
}

const T1 = exampleRef('refresh 1');
const T2 = exampleRef('refresh 2');
const T3 = exampleRef('refresh 3');
const A2 = exampleRef('access 2');
const FAMILY = exampleRef('family');
const HOME = { network: '198.51.100.0/24', ua_family: 'Chrome', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ua_family: 'curl', ip_role: 'end_user' } as const;
type Net = NonNullable<ExampleEvent['net']>;

const rotate = (t: number, from: string, to: string, access: string, net: Net): ExampleEvent => ({
  t,
  kind: 'token_refreshed',
  outcome: 'success',
  grant_type: 'refresh_token',
  client: { id: 'mobile-app' },
  net,
  tokens: [
    { role: 'consumed', type: 'refresh', ref: from, family_ref: FAMILY },
    { role: 'issued', type: 'refresh', ref: to, parent_ref: from, family_ref: FAMILY },
    { role: 'issued', type: 'access', ref: access, parent_ref: from, family_ref: FAMILY },
  ],
});
const refused = (t: number, token: string, net: Net): ExampleEvent => ({
  t,
  kind: 'token_request_failed',
  outcome: 'failure',
  grant_type: 'refresh_token',
  error: { oauth_error: 'invalid_grant' },
  client: { id: 'mobile-app' },
  net,
  tokens: [{ role: 'presented', type: 'refresh', ref: token, family_ref: FAMILY }],
});
const first = rotate(0, T1, T2, A2, HOME);

interface Shown {
  readonly t: number;
  readonly verdict: Verdict;
  readonly accepted?: boolean;
  readonly net: { readonly network: string; readonly ua_family: string };
  readonly different?: readonly OriginPart[];
}
const at = (t: number): string => new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString();
const expected = (isUsed: boolean, shown: readonly Shown[]): Record<string, unknown> => ({
  rotated_at: at(0),
  family_ref: FAMILY,
  reuse_count: shown.length,
  successor_used: isUsed,
  generations_behind_min: isUsed ? 2 : 1,
  reuses: shown.map((s) => ({
    at: at(s.t),
    gap_ms: s.t * 1_000,
    verdict: s.verdict,
    accepted: s.accepted ?? false,
    network: s.net.network,
    ua_family: s.net.ua_family,
    different: s.different ?? [],
  })),
});
const finding = (verdict: Verdict, evidence: Record<string, unknown>) => ({
  entity: T1,
  episode: LIFETIME_EPISODE,
  verdict,
  severity: GRADE[verdict].severity,
  evidence,
});

export default defineDetector<Params>({
  id: 'refresh_token_reuse',
  version: 1,
  title: 'Rotated refresh token presented again',
  family: 'token_replay',
  severity: 'high',
  confidence: 85,
  description:
    'With rotation each refresh token is good for one use. One that comes back after its successor was issued is either a race or a lost answer of the client itself, or a copy in the wrong hands. The rule tells these apart by gap, origin and whether the successor was used.',
  references: ['RFC 9700 section 4.14.2', 'RFC 6749 section 10.4', 'ATT&CK T1528'],
  entity: 'token',
  verdicts: VERDICTS,
  evidence: {
    rotated_at: 'When the successor was first issued; null where that was not seen.',
    family_ref: 'The rotation family.',
    reuse_count: 'Presentations after the rotation.',
    successor_used: 'Whether anything issued for this token was used later.',
    generations_behind_min:
      'How far behind the client is at least: 1, or 2 once the successor was used.',
    reuses:
      'Each presentation: time, gap, verdict, whether it was accepted, origin and what differed (at most 20).',
  },
  needs: ['tokens.ref', 'tokens.role', 'tokens.type', 'kind', 'net.network', 'net.ua_family'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: (fact) =>
    KINDS.some((k) => k === fact.kind) &&
    mentions(fact, ['consumed', 'presented'], ['refresh', 'access']),
  sliced: true,
  watch: () => ({
    by: 'facets',
    stream: {
      concerns: (fact) =>
        USE_KINDS.some((k) => k === fact.kind) && mentions(fact, LEDGER.roles, LEDGER.types),
      from: sql`grantscope.token_events`,
      where: ledgerCondition(LEDGER),
      key: sql`token_ref`,
      facets: [sql`bitOr(cityHash64(event_id), 1)`, sql`toUInt64(kind = 'token_reuse_detected')`],
    },
    isHot: (seen) => seen.varies(0) || seen.has(1),
    followed: {
      concerns: (fact) =>
        KINDS.some((k) => k === fact.kind) &&
        mentions(fact, ['consumed', 'presented'], ['refresh', 'access']),
      from: sql`grantscope.token_events`,
      where: ledgerCondition({
        kinds: KINDS,
        types: ['refresh', 'access'],
        roles: ['consumed', 'presented'],
      }),
      key: sql`token_ref`,
      facets: [],
    },
  }),
  // Tokens that were presented twice are few, so they come first. What happens to a successor decides about its
  // parent, so those whose successors are touched are looked at too.
  candidates: (scope) => {
    const tenant = param.string(scope.tenant);
    const uses = sql`tenant = ${tenant} AND ${inSlice(scope, sql`token_ref`)} AND ${ledgerCondition(LEDGER)}`;
    const repeated = sql`SELECT token_ref FROM grantscope.token_events WHERE ${uses}
      GROUP BY token_ref HAVING min(event_id) != max(event_id) OR countIf(kind = 'token_reuse_detected') > 0`;
    const successors = sql`
      SELECT parent, arrayJoin(arrayFilter((r, role) -> role = 'issued', tokens.ref, tokens.role)) AS child
      FROM grantscope.auth_events
      ARRAY JOIN arrayFilter((r, role) -> role = 'consumed', tokens.ref, tokens.role) AS parent
      WHERE tenant = ${tenant} AND kind = 'token_refreshed' AND event_id IN (
        SELECT event_id FROM grantscope.token_events
        WHERE ${uses} AND kind = 'token_refreshed' AND token_ref IN (${repeated}))`;
    return sql`
    SELECT toString(token_ref) AS entity, max(time) AS at FROM grantscope.token_events
    WHERE ${uses} AND token_ref IN (${repeated})
    GROUP BY token_ref HAVING countIf(${scope.condition}) > 0 OR token_ref IN (
      SELECT parent FROM (${successors}) WHERE child IN (
        SELECT token_ref FROM grantscope.token_events
        WHERE tenant = ${tenant} AND token_ref IN (SELECT child FROM (${successors})) AND ${scope.condition}))`;
  },
  history: (selection) => tokenHistory(selection, sql`token_type = 'refresh'`),
  follow: (input) => ({ tokens: successorsOf(input.events, input.entity) }),
  evaluate,
  falsePositives: [
    'Tabs, processes or devices of one user that share a stored token and refresh from different networks.',
    'A client restored from a backup keeps presenting an old token (stale_client).',
    'Not reported: servers that do not rotate, and retries of a token that was never exchanged.',
  ],
  examples: [
    {
      name: 'theft: another program elsewhere presents the old token',
      events: [first, refused(3_600, T1, AWAY)],
      expect: [
        finding(
          'theft',
          expected(false, [
            { t: 3_600, verdict: 'theft', net: AWAY, different: ['user_agent', 'network'] },
          ]),
        ),
      ],
    },
    {
      name: 'theft at once: another program is no race, whatever the gap',
      events: [first, rotate(2, T1, T3, exampleRef('access 3'), AWAY)],
      expect: [
        finding(
          'theft',
          expected(false, [
            {
              t: 2,
              verdict: 'theft',
              accepted: true,
              net: AWAY,
              different: ['user_agent', 'network'],
            },
          ]),
        ),
      ],
    },
    {
      name: 'benign race: parallel requests, one loses; 30 s is within the grace',
      events: [first, refused(0.2, T1, HOME), refused(30, T1, HOME)],
      expect: [
        finding(
          'benign_race',
          expected(false, [
            { t: 0.2, verdict: 'benign_race', net: HOME },
            { t: 30, verdict: 'benign_race', net: HOME },
          ]),
        ),
      ],
    },
    {
      name: 'lost response: after the grace, same origin, successor never used',
      events: [first, refused(31, T1, HOME)],
      expect: [
        finding('lost_response', expected(false, [{ t: 31, verdict: 'lost_response', net: HOME }])),
      ],
    },
    {
      name: 'lost response while roaming: other network, same program, successor never used',
      events: [first, refused(12, T1, { ...HOME, network: AWAY.network })],
      expect: [
        finding(
          'lost_response',
          expected(false, [
            {
              t: 12,
              verdict: 'lost_response',
              net: { ...HOME, network: AWAY.network },
              different: ['network'],
            },
          ]),
        ),
      ],
    },
    {
      name: 'stale client: another prefix of one autonomous system is no other network',
      events: [
        rotate(0, T1, T2, A2, { ...HOME, asn: 64_500 }),
        rotate(60, T2, T3, exampleRef('access 3'), { ...HOME, asn: 64_500 }),
        refused(3_600, T1, { ...AWAY, ua_family: 'Chrome', asn: 64_500 }),
      ],
      expect: [
        finding(
          'stale_client',
          expected(true, [
            { t: 3_600, verdict: 'stale_client', net: { ...AWAY, ua_family: 'Chrome' } },
          ]),
        ),
      ],
    },
    {
      name: 'theft: other network and the successor was used by the first',
      events: [
        first,
        refused(12, T1, { ...HOME, network: AWAY.network }),
        rotate(20, T2, T3, exampleRef('access 3'), HOME),
      ],
      expect: [
        finding(
          'theft',
          expected(true, [
            {
              t: 12,
              verdict: 'theft',
              net: { ...HOME, network: AWAY.network },
              different: ['network'],
            },
          ]),
        ),
      ],
    },
    {
      name: 'stale client: same origin comes back with an old token after using its successor',
      events: [
        first,
        {
          t: 5,
          kind: 'api_accessed',
          outcome: 'success',
          net: HOME,
          tokens: [{ role: 'presented', type: 'access', ref: A2 }],
        },
        refused(7_200, T1, HOME),
      ],
      expect: [
        finding('stale_client', expected(true, [{ t: 7_200, verdict: 'stale_client', net: HOME }])),
      ],
    },
    {
      name: 'undetermined: nothing is known about where the requests came from',
      events: [rotate(0, T1, T2, A2, {}), refused(600, T1, {})],
      expect: [
        finding(
          'undetermined',
          expected(false, [
            { t: 600, verdict: 'undetermined', net: { network: '', ua_family: '' } },
          ]),
        ),
      ],
    },
    {
      name: 'undetermined: the server reports reuse of a token whose rotation was not seen',
      events: [{ ...refused(0, T1, HOME), kind: 'token_reuse_detected' }],
      expect: [
        finding('undetermined', {
          rotated_at: null,
          family_ref: FAMILY,
          reuse_count: 1,
          successor_used: null,
          generations_behind_min: null,
          reuses: [
            {
              at: at(0),
              gap_ms: null,
              verdict: 'undetermined',
              accepted: false,
              network: HOME.network,
              ua_family: 'Chrome',
              different: [],
            },
          ],
        }),
      ],
    },
    {
      name: 'a longer grace for one client',
      parameters: { client_grace_ms: { 'mobile-app': 600_000 } },
      events: [first, refused(599, T1, HOME)],
      expect: [
        finding('benign_race', expected(false, [{ t: 599, verdict: 'benign_race', net: HOME }])),
      ],
    },
    {
      name: 'silent: ordinary rotation',
      events: [first, rotate(600, T2, T3, exampleRef('access 3'), AWAY)],
      expect: [],
    },
    {
      name: 'silent: a retry after an error, before the token was exchanged',
      events: [refused(-5, T1, HOME), first],
      expect: [],
    },
    {
      name: 'silent: a server that does not rotate',
      events: [rotate(0, T1, T1, A2, HOME), rotate(900, T1, T1, A2, AWAY)],
      expect: [],
    },
  ],
});
