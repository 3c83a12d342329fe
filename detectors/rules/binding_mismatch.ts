import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  mentions,
  type CandidateScope,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { Severity } from '../../model/finding.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, textFacet } from './_ledger.ts';
import { isoTime, known, mentionOf, networkName, sameNetwork } from './_origin.ts';
import { afterNews, beforeNews, EACH_TOKEN, tokenRowsHistory } from './_token_rows.ts';

const ISSUING: readonly EventKind[] = ['token_issued', 'token_refreshed', 'token_exchanged'];
const ACCEPTING: readonly EventKind[] = ['token_validated', 'api_accessed', 'userinfo_accessed'];
/** Where the authorization server itself says that a token is bound to nothing. */
const AS_KINDS: readonly EventKind[] = ['token_refreshed', 'userinfo_accessed'];
const REFUSING: readonly EventKind[] = ['token_rejected', 'token_request_failed'];
const KINDS = [...ISSUING, ...ACCEPTING, ...REFUSING];
const TYPES = ['access', 'refresh'] as const;
const ROLES = ['issued', 'presented', 'consumed'] as const;
const USE_ROLES = ['presented', 'consumed'] as const;
/** Records kept per token, key and kind: enough to say when each first appeared. */
const ROWS_PER_KEY_MAX = 20;
/** An issue that is told later than its use by no more than this finds it, ms. */
const LATE_MS = 600_000;

const Parameters = z.strictObject({
  /** Error codes by which a server says that the key presented is not the token's. */
  mismatch_codes: z.array(z.string().min(1)).default(['invalid_binding']),
  /** How far before its use the issue of a token is searched, ms. */
  token_life_ms_max: z.int().min(60_000).max(2_592_000_000).default(86_400_000),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  other_key: 'A token that was issued for one key was accepted with another.',
  bearer:
    'A token that was issued for a key was accepted, or exchanged for an unbound one, without it.',
  refused_key: 'A server refused a token because the key presented is not its own.',
  new_key:
    'The same, but the request came from where the token was issued to: the client renewed its certificate or lost its key.',
} as const;
type Verdict = keyof typeof VERDICTS;
/** Gravest first. */
const ORDER: readonly Verdict[] = ['other_key', 'bearer', 'refused_key', 'new_key'];
const GRADE: Readonly<Record<Verdict, { severity: Severity; confidence: number }>> = {
  other_key: { severity: 'high', confidence: 85 },
  bearer: { severity: 'high', confidence: 80 },
  refused_key: { severity: 'medium', confidence: 70 },
  new_key: { severity: 'low', confidence: 60 },
};

interface Mismatch {
  readonly event: AuthEvent;
  readonly verdict: Verdict;
}

const isKind = (event: AuthEvent, kinds: readonly EventKind[]): boolean =>
  kinds.includes(event.kind);

/** The issue of the token for a key, where it was told. */
function boundIssueOf(input: EvaluateInput<Params>): AuthEvent | undefined {
  return input.events.find(
    (e) =>
      isKind(e, ISSUING) &&
      e.outcome !== 'failure' &&
      e.binding_thumbprint !== '' &&
      mentionOf(e, input.entity, ['issued']) !== undefined,
  );
}

/** Both are known to come from one network, and nothing says that it was another program. */
function isFromTheSameOrigin(a: AuthEvent, b: AuthEvent): boolean {
  const isOther =
    a.net.ua_family !== '' && b.net.ua_family !== '' && a.net.ua_family !== b.net.ua_family;
  return sameNetwork(a, b) && !isOther;
}

/**
 * A refresh token of a public client is bound to the key that its access token was bound to (RFC 9449 section 5); one
 * of a confidential client is bound to the client, which may change its key.
 */
function mayChangeKey(event: AuthEvent): boolean {
  return event.kind === 'token_refreshed' && event.client.auth_method !== 'none';
}

function verdictOf(
  issue: AuthEvent | undefined,
  event: AuthEvent,
  params: Params,
): Verdict | undefined {
  if (isKind(event, REFUSING)) {
    if (!params.mismatch_codes.includes(event.error.code)) return undefined;
    return issue !== undefined && isFromTheSameOrigin(issue, event) ? 'new_key' : 'refused_key';
  }
  if (issue === undefined || event.outcome !== 'success') return undefined;
  if (event.binding === 'none' && isKind(event, AS_KINDS)) return 'bearer';
  if (event.binding_thumbprint === '' || event.binding_thumbprint === issue.binding_thumbprint)
    return undefined;
  return mayChangeKey(event) ? undefined : 'other_key';
}

function mismatchesOf(input: EvaluateInput<Params>, issue: AuthEvent | undefined): Mismatch[] {
  const { entity, events, params } = input;
  return events.flatMap((event): Mismatch[] => {
    if (mentionOf(event, entity, USE_ROLES) === undefined) return [];
    if (params.exclude_clients.includes(event.client.id)) return [];
    const verdict = verdictOf(issue, event, params);
    return verdict === undefined ? [] : [{ event, verdict }];
  });
}

const REASONS: Readonly<Record<Verdict, string>> = {
  other_key: 'the key is not the one that the token was issued for',
  bearer: 'the token was issued for a key, and passed without one',
  refused_key: 'the server says that the key presented is not the one of the token',
  new_key: 'the network is the one that the token was issued to',
};

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const issue = boundIssueOf(input);
  const all = mismatchesOf(input, issue);
  const verdict = ORDER.find((v) => all.some((m) => m.verdict === v));
  const shown = all.filter((m) => m.verdict === verdict);
  const [first] = shown;
  if (verdict === undefined || first === undefined) return [];
  const servers = known(shown.map((m) => m.event.source.instance || m.event.source.id));
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict,
      ...GRADE[verdict],
      summary: VERDICTS[verdict],
      reasons: [REASONS[verdict], ...servers.slice(0, 10).map((s) => `told by ${s}`)],
      evidence: {
        binding: issue?.binding ?? 'unknown',
        issued_key: issue?.binding_thumbprint ?? '',
        presented_keys: known(shown.map((m) => m.event.binding_thumbprint)).slice(0, 20),
        first_mismatch_at: isoTime(first.event),
        mismatches: shown.length,
        issued_network: issue === undefined ? '' : networkName(issue),
        networks: known(shown.map((m) => networkName(m.event))).slice(0, 20),
        servers: servers.slice(0, 20),
      },
      events: [...(issue === undefined ? [] : [issue]), ...all.map((m) => m.event)],
      tokenRefs: [input.entity],
    },
  ];
}

const TOKEN_ROWS = sql`t_type IN ('access', 'refresh') AND t_role IN ('issued', 'presented', 'consumed')`;
const UNBOUND = sql`(binding = 'none' AND ${kindIn(AS_KINDS)} AND t_role != 'issued')`;

function refused(params: Params): Sql {
  return sql`(${kindIn(REFUSING)} AND error_code IN ${param.strings(params.mismatch_codes)})`;
}

/** Rows that say anything of a token's key. In a system without bound tokens there are hardly any. */
function tellingRows(params: Params): Sql {
  return sql`(${kindIn(KINDS)} AND ${TOKEN_ROWS} AND (binding_thumbprint != '' OR ${UNBOUND} OR ${refused(params)}))`;
}

/** Issues as far back as a token lives; uses of which there are many more, only around what is new. */
function timeBounds(scope: CandidateScope, params: Params): Sql {
  const life = params.token_life_ms_max;
  return sql`time <= ${afterNews(scope, life)}
    AND time >= if(${kindIn(ISSUING)}, ${beforeNews(scope, life)}, ${beforeNews(scope, LATE_MS)})`;
}

const TOKEN = exampleRef('bound token');
const HOME = { network: '198.51.100.0/24', ua_family: 'okhttp', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ua_family: 'curl', ip_role: 'end_user' } as const;
const NO_AGENT = { network: HOME.network, ip_role: 'end_user' } as const;
type Type = (typeof TYPES)[number];
const event = (
  t: number,
  kind: EventKind,
  role: (typeof ROLES)[number],
  more: Partial<ExampleEvent> = {},
  type: Type = 'access',
): ExampleEvent => ({
  t,
  kind,
  outcome: 'success',
  client: { id: 'wallet-app', auth_method: 'none' },
  source: { id: 'otlp', instance: 'orders-api' },
  binding: 'dpop',
  binding_thumbprint: 'key-1',
  net: HOME,
  tokens: [{ role, type, ref: TOKEN }],
  ...more,
});
const issued = (type: Type = 'access', more: Partial<ExampleEvent> = {}): ExampleEvent =>
  event(0, 'token_issued', 'issued', { source: { id: 'otlp', instance: 'login' }, ...more }, type);
const rejected = (t: number, net: NonNullable<ExampleEvent['net']>): ExampleEvent =>
  event(t, 'token_rejected', 'presented', {
    outcome: 'failure',
    error: { code: 'invalid_binding' },
    binding: 'unknown',
    binding_thumbprint: '',
    net,
  });
const NO_KEY = { binding: 'none', binding_thumbprint: '' } as const;
const OTHER_KEY = { binding_thumbprint: 'key-2', net: AWAY } as const;
const finding = (verdict: Verdict, t: number, evidence: Record<string, unknown> = {}) => ({
  entity: TOKEN,
  episode: LIFETIME_EPISODE,
  verdict,
  severity: GRADE[verdict].severity,
  evidence: {
    binding: 'dpop',
    issued_key: 'key-1',
    presented_keys: [],
    first_mismatch_at: new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString(),
    mismatches: 1,
    issued_network: HOME.network,
    networks: [HOME.network],
    servers: ['orders-api'],
    ...evidence,
  },
});

const tells = (fact: EventFact): boolean =>
  KINDS.some((k) => k === fact.kind) && mentions(fact, ROLES, TYPES);

export default defineDetector<Params>({
  id: 'binding_mismatch',
  version: 1,
  title: 'Bound token used without its key',
  family: 'token_replay',
  severity: 'high',
  confidence: 85,
  description:
    'A token bound by DPoP or mTLS is worth something to the holder of its key alone. One that passes with another key, or as a plain bearer token, shows a server that does not check; one that is refused for its key shows somebody who holds a copy.',
  references: [
    'RFC 9449 section 7.1',
    'RFC 8705 section 3',
    'RFC 9449 section 5',
    'ATT&CK T1550.001',
  ],
  entity: 'token',
  verdicts: VERDICTS,
  evidence: {
    binding:
      'How the token was bound at its issue: dpop, mtls; unknown where the issue was not told.',
    issued_key: 'Thumbprint that it was issued for; empty where unknown.',
    presented_keys: 'Other thumbprints that it came with (at most 20).',
    first_mismatch_at: 'The first request of the verdict.',
    mismatches: 'Records of the verdict (of at most 20 per key and kind).',
    issued_network:
      'Network that the token was issued to: its autonomous system where known, else its prefix; empty where unknown.',
    networks: 'Networks of these requests (at most 20).',
    servers: 'Instances that told of them (at most 20).',
  },
  needs: ['tokens.ref', 'tokens.role', 'binding', 'binding_thumbprint', 'outcome', 'error.code'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: tells,
  screen: (params) =>
    sql`binding_thumbprint != '' OR (binding = 'none' AND ${kindIn(AS_KINDS)}) OR ${refused(params)}`,
  watch: (params) => ({
    by: 'facets',
    stream: {
      concerns: tells,
      from: EACH_TOKEN,
      where: tellingRows(params),
      key: sql`t_ref`,
      facets: [
        textFacet(sql`binding_thumbprint`),
        sql`toUInt64(${UNBOUND})`,
        sql`toUInt64(${refused(params)})`,
      ],
    },
    isHot: (seen) => seen.varies(0) || (seen.has(0) && seen.has(1)) || seen.has(2),
  }),
  candidates: (scope, params) => {
    const tenant = param.string(scope.tenant);
    const key = sql`binding_thumbprint`;
    return sql`
    SELECT toString(t_ref) AS entity, max(time) AS at FROM ${EACH_TOKEN}
    WHERE tenant = ${tenant} AND ${tellingRows(params)} AND ${timeBounds(scope, params)}
      AND t_ref IN (
        SELECT t_ref FROM ${EACH_TOKEN} WHERE tenant = ${tenant} AND ${tellingRows(params)} AND ${scope.condition})
    GROUP BY t_ref
    HAVING minIf(${key}, ${key} != '') != maxIf(${key}, ${key} != '')
      OR (max(${key}) != '' AND max(${UNBOUND})) OR max(${refused(params)})`;
  },
  history: (selection, params) =>
    tokenRowsHistory(selection, {
      kinds: KINDS,
      where: tellingRows(params),
      by: sql`concat(binding_thumbprint, '\n', kind, '\n', t_role)`,
      max: ROWS_PER_KEY_MAX,
    }),
  evaluate,
  falsePositives: [
    'A resource server that names the key of a proxy in front of it instead of the client.',
    'Two authorization servers that give a token one id (jti) each.',
    'Not reported: refresh tokens of confidential clients with a new key (RFC 9449 section 5), tokens whose issue was not told, calls of resource servers that say nothing of a key.',
  ],
  examples: [
    {
      name: 'other key: accepted by a resource server with a key that it was not issued for',
      events: [event(60, 'api_accessed', 'presented', OTHER_KEY), issued()],
      expect: [finding('other_key', 60, { presented_keys: ['key-2'], networks: [AWAY.network] })],
    },
    {
      name: "other key: a public client's refresh token is exchanged with another key",
      events: [issued('refresh'), event(60, 'token_refreshed', 'consumed', OTHER_KEY, 'refresh')],
      expect: [finding('other_key', 60, { presented_keys: ['key-2'], networks: [AWAY.network] })],
    },
    {
      name: 'bearer: a bound token passes at the user info endpoint without a key',
      events: [issued(), event(60, 'userinfo_accessed', 'presented', NO_KEY)],
      expect: [finding('bearer', 60)],
    },
    {
      name: 'bearer: a bound client gets an unbound token for its refresh token',
      events: [issued('refresh'), event(60, 'token_refreshed', 'consumed', NO_KEY, 'refresh')],
      expect: [finding('bearer', 60)],
    },
    {
      name: 'refused key: somebody elsewhere holds a copy of the token',
      events: [issued(), rejected(60, AWAY), rejected(90, AWAY)],
      expect: [finding('refused_key', 60, { mismatches: 2, networks: [AWAY.network] })],
    },
    {
      name: 'refused key: the issue was not told',
      events: [rejected(60, HOME)],
      expect: [
        finding('refused_key', 60, { binding: 'unknown', issued_key: '', issued_network: '' }),
      ],
    },
    {
      name: 'new key: the certificate was renewed while the token lives',
      events: [
        issued('access', { binding: 'mtls', net: { ...HOME, ip_role: 'client_backend' } }),
        rejected(60, { ...HOME, ip_role: 'client_backend' }),
      ],
      expect: [finding('new_key', 60, { binding: 'mtls' })],
    },
    {
      name: 'new key: another prefix of the autonomous system that the token was issued to',
      events: [
        issued('access', { net: { ...HOME, asn: 64_500 } }),
        rejected(60, { ...HOME, network: AWAY.network, asn: 64_500 }),
      ],
      expect: [finding('new_key', 60, { issued_network: 'AS64500', networks: ['AS64500'] })],
    },
    {
      name: 'refused key: another autonomous system',
      events: [
        issued('access', { net: { ...HOME, asn: 64_500 } }),
        rejected(60, { ...HOME, network: AWAY.network, asn: 64_501 }),
      ],
      expect: [finding('refused_key', 60, { issued_network: 'AS64500', networks: ['AS64501'] })],
    },
    {
      name: 'silent: one key all along, a resource server that says nothing, one that knows no key',
      events: [
        issued(),
        event(1, 'api_accessed', 'presented'),
        event(2, 'api_accessed', 'presented', { binding: 'unknown', binding_thumbprint: '' }),
        event(3, 'api_accessed', 'presented', NO_KEY),
        event(4, 'api_accessed', 'presented', { ...OTHER_KEY, outcome: 'failure' }),
      ],
      expect: [],
    },
    {
      name: 'silent: a confidential client refreshes with a new key',
      events: [
        issued('refresh'),
        event(
          60,
          'token_refreshed',
          'consumed',
          { ...OTHER_KEY, client: { id: 'web-shop', auth_method: 'private_key_jwt' } },
          'refresh',
        ),
      ],
      expect: [],
    },
    {
      name: 'silent: plain bearer tokens, and a refusal for another reason',
      events: [
        issued('access', NO_KEY),
        event(1, 'userinfo_accessed', 'presented', NO_KEY),
        { ...rejected(2, AWAY), error: { code: 'expired' } },
      ],
      expect: [],
    },
    {
      name: 'silent for a client that is excluded',
      parameters: { exclude_clients: ['wallet-app'] },
      events: [issued(), event(60, 'api_accessed', 'presented', OTHER_KEY)],
      expect: [],
    },
    {
      name: 'other key: issued by an exchange, validated with another key by a server that names no instance',
      events: [
        event(-10, 'token_refreshed', 'issued', {
          outcome: 'failure',
          binding_thumbprint: 'key-9',
        }),
        event(0, 'token_exchanged', 'issued'),
        event(60, 'token_validated', 'presented', { ...OTHER_KEY, source: { id: 'otlp' } }),
        event(61, 'api_accessed', 'presented', { ...OTHER_KEY, source: { id: 'otlp' } }),
      ],
      expect: [
        finding('other_key', 60, {
          presented_keys: ['key-2'],
          networks: [AWAY.network],
          servers: ['otlp'],
          mismatches: 2,
        }),
      ],
    },
    {
      name: 'other key: a confidential client may change it at a refresh alone',
      events: [
        issued(),
        event(60, 'api_accessed', 'presented', {
          ...OTHER_KEY,
          client: { id: 'web-shop', auth_method: 'private_key_jwt' },
        }),
      ],
      expect: [finding('other_key', 60, { presented_keys: ['key-2'], networks: [AWAY.network] })],
    },
    {
      name: 'the gravest is told, not what came before it',
      events: [
        issued(),
        rejected(30, HOME),
        rejected(40, AWAY),
        event(60, 'api_accessed', 'presented', OTHER_KEY),
      ],
      expect: [finding('other_key', 60, { presented_keys: ['key-2'], networks: [AWAY.network] })],
    },
    {
      name: 'refused key: by the token endpoint, from the same network by another program',
      events: [
        issued(),
        { ...rejected(60, { ...HOME, ua_family: 'curl' }), kind: 'token_request_failed' },
      ],
      expect: [finding('refused_key', 60)],
    },
    ...[
      { name: 'the refused request', first: HOME, then: NO_AGENT },
      { name: 'the issue', first: NO_AGENT, then: HOME },
    ].map(({ name, first, then }) => ({
      name: `new key: the same network, where ${name} tells no user agent`,
      events: [issued('access', { net: first }), rejected(60, then)],
      expect: [finding('new_key', 60)],
    })),
    {
      name: 'refused key: another network by the same program',
      events: [issued(), rejected(60, { ...AWAY, ua_family: HOME.ua_family })],
      expect: [finding('refused_key', 60, { networks: [AWAY.network] })],
    },
    {
      name: 'silent: its exchanges say nothing of what a refresh token was issued for',
      events: [
        event(0, 'token_refreshed', 'consumed', {}, 'refresh'),
        event(60, 'token_refreshed', 'consumed', OTHER_KEY, 'refresh'),
      ],
      expect: [],
    },
    {
      name: 'the first issue that was told is what a token was made for',
      events: [
        issued(),
        event(30, 'token_exchanged', 'issued', { binding_thumbprint: 'key-3' }),
        event(60, 'api_accessed', 'presented', OTHER_KEY),
      ],
      expect: [finding('other_key', 60, { presented_keys: ['key-2'], networks: [AWAY.network] })],
    },
  ],
});
