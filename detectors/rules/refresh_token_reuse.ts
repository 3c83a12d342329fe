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
import { inSlice, ledgerCondition } from './_ledger.ts';
import { compareOrigins, isoTime, mentionOf, type OriginPart, timeMs } from './_origin.ts';
import { groupByRequest } from './_requests.ts';
import { isRotation, rotationCandidates, successorsOf } from './_rotation.ts';

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
/** Presentations kept per token and origin. */
const USES_PER_ORIGIN_MAX = 100;
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
  undetermined:
    'Presented again after the grace; where from is not known on both sides, or does not compare.',
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

/** Requests that presented the token, one record each: a refusal and the alarm that it set off are two of one. */
function presentations(input: EvaluateInput<Params>): AuthEvent[] {
  const told = input.events.filter(
    (e) =>
      USE_KINDS.some((k) => k === e.kind) &&
      mentionOf(e, input.entity, ['consumed', 'presented']) !== undefined &&
      !input.params.exclude_clients.includes(e.client.id),
  );
  return groupByRequest(told).flatMap((request) => request.slice(0, 1));
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

/**
 * A confidential client proves who it is at every refresh, and may come with another key (RFC 9449 section 5): its key
 * says nothing.
 */
function isConfidential(event: AuthEvent): boolean {
  return event.client.auth_method !== '' && event.client.auth_method !== 'none';
}

interface Origins {
  readonly same: readonly OriginPart[];
  readonly different: readonly OriginPart[];
  /** Only the prefixes differ, one of IPv4 and one of IPv6: a device has both at once. */
  readonly isDualStack: boolean;
}

function originsOf(rotation: AuthEvent, event: AuthEvent): Origins {
  const { same, different } = compareOrigins(rotation, event);
  const told = different.filter((p) => p !== 'key' || !isConfidential(event));
  const isNetworkAlone = told.length === 1 && told[0] === 'network' && same.includes('user_agent');
  const isDualStack = isNetworkAlone && isIpv6(rotation) !== isIpv6(event);
  const areSystemsKnown = rotation.net.asn !== 0 && event.net.asn !== 0;
  return { same, different: told, isDualStack: isDualStack && !areSystemsKnown };
}

const isIpv6 = (event: AuthEvent): boolean => event.net.network.includes(':');

function graceOf(event: AuthEvent, params: Params): number {
  const { client_grace_ms: byClient, grace_ms } = params;
  const own = Object.hasOwn(byClient, event.client.id) ? byClient[event.client.id] : undefined;
  return own ?? grace_ms;
}

const namesOf = (parts: readonly OriginPart[]): string =>
  parts.map((p) => PART_NAMES[p]).join(', ');

/** The verdict on a presentation from elsewhere, and why. */
function elsewhere(
  { same, different, isDualStack }: Origins,
  gapMs: number,
  isUsed: boolean,
  params: Params,
): readonly [Verdict, string] {
  const isOnlyPlace = different.every((p) => p === 'network' || p === 'country');
  const isRoaming = isOnlyPlace && same.includes('user_agent') && !isUsed;
  if (isRoaming && gapMs <= params.roaming_grace_ms)
    return [
      'lost_response',
      `same user agent; ${namesOf(different)} changed while the answer was under way`,
    ];
  if (isDualStack)
    return ['undetermined', 'same user agent; an IPv4 and an IPv6 network may be one device'];
  return ['theft', `another ${namesOf(different)} than the rotation's`];
}

function classify(
  rotation: AuthEvent,
  event: AuthEvent,
  isUsed: boolean,
  params: Params,
): Omit<Reuse, 'event'> {
  const gapMs = timeMs(event) - timeMs(rotation);
  const origins = originsOf(rotation, event);
  const { same, different, isDualStack } = origins;
  const graceMs = graceOf(event, params);
  const gap = `presented ${(gapMs / 1_000).toFixed(1)} s after its successor was issued`;
  const used = isUsed ? 'the successor had been used' : 'the successor was never used';
  const result = (verdict: Verdict, ...reasons: string[]): Omit<Reuse, 'event'> => ({
    verdict,
    gapMs,
    different,
    reasons: [...reasons, gap, used],
  });
  const isHere = different.length === 0 || isDualStack;
  if (isHere && gapMs <= graceMs)
    return result('benign_race', `within the grace of ${graceMs / 1_000} s`);
  if (different.length > 0) return result(...elsewhere(origins, gapMs, isUsed, params));
  if (same.length === 0)
    return result('undetermined', 'network, user agent and key are not known on both sides');
  return result(isUsed ? 'stale_client' : 'lost_response', `same ${namesOf(same)}`);
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
  const isUsed = isSuccessorUsed(events, successorsOf(events, entity, FOLLOWED_MAX));
  return uses
    .slice(uses.indexOf(rotation) + 1)
    .map((event) => ({ event, ...classify(rotation, event, isUsed, params) }));
}

/** What is listed: the gravest, in order of time. */
function gravest(reuses: readonly Reuse[]): readonly Reuse[] {
  const byGravity = ORDER.flatMap((v) => reuses.filter((r) => r.verdict === v));
  const listed = new Set(byGravity.slice(0, REUSES_LISTED_MAX));
  return reuses.filter((r) => listed.has(r));
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { entity, events } = input;
  const reuses = reusesOf(input);
  const verdict = ORDER.find((v) => reuses.some((r) => r.verdict === v));
  const worst = reuses.find((r) => r.verdict === verdict);
  if (verdict === undefined || worst === undefined) return [];
  const successors = successorsOf(events, entity, FOLLOWED_MAX);
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
        reuses: gravest(reuses).map((r) => ({
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
const SIX = { ...HOME, network: '2001:db8:1::/48' } as const;
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
const withKey = (event: ExampleEvent, method: string, key: string): ExampleEvent => ({
  ...event,
  client: { id: 'mobile-app', auth_method: method },
  binding: 'dpop',
  binding_thumbprint: key,
});

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
  version: 2,
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
    reuse_count: 'Presentations after the rotation (of at most 100 per origin).',
    successor_used: 'Whether anything issued for this token was used later.',
    generations_behind_min:
      'How far behind the client is at least: 1, or 2 once the successor was used.',
    reuses:
      'Each presentation: time, gap, verdict, whether it was accepted, origin and what differed (at most 20, the gravest).',
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
    const uses = sql`tenant = ${param.string(scope.tenant)} AND ${inSlice(scope, sql`token_ref`)} AND ${ledgerCondition(LEDGER)}`;
    const repeated = sql`SELECT token_ref FROM grantscope.token_events WHERE ${uses}
      GROUP BY token_ref HAVING min(event_id) != max(event_id) OR countIf(kind = 'token_reuse_detected') > 0`;
    return rotationCandidates(scope, uses, repeated);
  },
  // Per origin, so that a client that presents a dead token in a loop does not hide the thief.
  history: (selection) => sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, any(origin) AS origin, any(t) AS at FROM (
        SELECT toString(token_ref) AS entity, event_id, time AS t,
          concat(kind, ' ', outcome, ' ', net_network, ' ', net_country, ' ', net_ua_family) AS origin
        FROM grantscope.token_events
        WHERE tenant = ${param.string(selection.tenant)} AND token_ref IN ${param.uuids(selection.entities)}
          AND ${ledgerCondition(LEDGER)}
      ) GROUP BY entity, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(USES_PER_ORIGIN_MAX)} BY entity, origin`,
  follow: (input) => ({ tokens: successorsOf(input.events, input.entity, FOLLOWED_MAX) }),
  evaluate,
  falsePositives: [
    'Tabs, processes or devices of one user that share a stored token and refresh from different networks.',
    'A client restored from a backup keeps presenting an old token (stale_client).',
    'Not reported: servers that do not rotate, another key of a confidential client (RFC 9449 section 5), and retries of a token that was never exchanged.',
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
      name: 'benign race: parallel requests of a device that has an IPv4 and an IPv6 address, within the grace',
      events: [first, refused(30, T1, SIX), rotate(40, T2, T3, exampleRef('access 3'), HOME)],
      expect: [
        finding(
          'benign_race',
          expected(true, [{ t: 30, verdict: 'benign_race', net: SIX, different: ['network'] }]),
        ),
      ],
    },
    {
      name: 'undetermined: an IPv4 and an IPv6 address just after the grace, and the successor was used',
      events: [first, refused(30.001, T1, SIX), rotate(40, T2, T3, exampleRef('access 3'), HOME)],
      expect: [
        finding(
          'undetermined',
          expected(true, [
            { t: 30.001, verdict: 'undetermined', net: SIX, different: ['network'] },
          ]),
        ),
      ],
    },
    {
      name: 'theft: an IPv4 and an IPv6 address of two autonomous systems',
      events: [
        rotate(0, T1, T2, A2, { ...HOME, asn: 64_500 }),
        refused(12, T1, { ...SIX, asn: 64_501 }),
        rotate(20, T2, T3, exampleRef('access 3'), { ...HOME, asn: 64_500 }),
      ],
      expect: [
        finding(
          'theft',
          expected(true, [{ t: 12, verdict: 'theft', net: SIX, different: ['network'] }]),
        ),
      ],
    },
    {
      name: 'theft: a public client presents the token with another key',
      events: [withKey(first, 'none', 'key-1'), withKey(refused(12, T1, HOME), 'none', 'key-2')],
      expect: [
        finding(
          'theft',
          expected(false, [{ t: 12, verdict: 'theft', net: HOME, different: ['key'] }]),
        ),
      ],
    },
    {
      name: 'lost response: a confidential client tries again with another key',
      events: [
        withKey(first, 'private_key_jwt', 'key-1'),
        withKey(refused(60, T1, HOME), 'private_key_jwt', 'key-2'),
      ],
      expect: [
        finding('lost_response', expected(false, [{ t: 60, verdict: 'lost_response', net: HOME }])),
      ],
    },
    {
      name: 'theft is not hidden by a client that presents the dead token in a loop',
      events: [
        first,
        ...Array.from({ length: 101 }, (_, i) => refused(60 + i, T1, HOME)),
        refused(3_600, T1, AWAY),
      ],
      expect: [
        finding('theft', {
          ...expected(false, [
            { t: 3_600, verdict: 'theft', net: AWAY, different: ['user_agent', 'network'] },
          ]),
          reuse_count: 101,
          reuses: [
            ...Array.from({ length: 19 }, (_, i) => ({
              at: at(60 + i),
              gap_ms: (60 + i) * 1_000,
              verdict: 'lost_response',
              accepted: false,
              network: HOME.network,
              ua_family: HOME.ua_family,
              different: [],
            })),
            {
              at: at(3_600),
              gap_ms: 3_600_000,
              verdict: 'theft',
              accepted: false,
              network: AWAY.network,
              ua_family: AWAY.ua_family,
              different: ['user_agent', 'network'],
            },
          ],
        }),
      ],
    },
    {
      name: 'theft under the trace of the rotation: whoever repeats a request repeats its headers',
      events: [
        { ...first, corr: { trace_id: 'trace 1' } },
        { ...refused(3_600, T1, AWAY), corr: { trace_id: 'trace 1' } },
        {
          ...refused(3_600.001, T1, AWAY),
          kind: 'token_reuse_detected',
          corr: { trace_id: 'trace 1' },
        },
      ],
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
      name: 'silent for a client that is excluded',
      parameters: { exclude_clients: ['mobile-app'] },
      events: [first, refused(3_600, T1, AWAY)],
      expect: [],
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
