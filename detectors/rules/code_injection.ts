import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  mentions,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { Severity } from '../../model/finding.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, ledgerCondition, textFacet, tokenHistory } from './_ledger.ts';
import { areDifferentPlaces, isoTime, mentionOf, userPlace } from './_origin.ts';
import { aroundNews } from './_token_rows.ts';

const REDEEMING = ['code_redeemed', 'token_issued', 'token_request_failed'] as const;
const KINDS = ['code_issued', ...REDEEMING] as const;
const TYPES = ['code'] as const;
const ROLES = ['issued', 'consumed', 'presented'] as const;

/** What servers call a failed proof of RFC 7636 section 4.6. */
const VERIFIER_ERRORS = [
  'pkce_verification_failed',
  'invalid_code_verifier',
  'code_verifier_missing',
  'code_verifier_mismatch',
] as const;
const VERIFIER_TEXT = /pkce|code_verifier/i;

const Parameters = z.strictObject({
  /** A code's issue and redemption are joined where they lie at most this far apart, ms. */
  code_life_ms: z.int().min(60_000).max(86_400_000).default(3_600_000),
  /** Further error codes by which a server says that the verifier was missing or wrong. */
  verifier_errors: z.array(z.string().min(1)).default([...VERIFIER_ERRORS]),
  /** Clients whose instances redeem each other's codes under different ids on purpose. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  injection:
    'Redeemed by another client, with another redirect URI or without the right verifier; critical where tokens were issued.',
  wrong_verifier:
    'The verifier was wrong, but the request came from the network that the code was issued to: the client mixed up two of its own sign-ins.',
} as const;
type Verdict = keyof typeof VERDICTS;
type Difference = 'client' | 'redirect_uri' | 'pkce';

interface Attempt {
  readonly event: AuthEvent;
  readonly verdict: Verdict;
  readonly differs: readonly Difference[];
}

function failedVerifier(event: AuthEvent, params: Params): boolean {
  if (event.outcome === 'success') return false;
  const { code, detail } = event.error;
  return params.verifier_errors.includes(code) || VERIFIER_TEXT.test(detail);
}

/** What of the redemption is known to differ from the request that the code was issued for. */
function differences(issue: AuthEvent, use: AuthEvent, params: Params): Difference[] {
  const differ = (a: string, b: string): boolean => a !== '' && b !== '' && a !== b;
  const result: Difference[] = [];
  if (differ(issue.client.id, use.client.id)) result.push('client');
  if (differ(issue.redirect_uri, use.redirect_uri)) result.push('redirect_uri');
  const isKnown = issue.pkce !== 'unknown' && use.pkce !== 'unknown';
  if ((isKnown && issue.pkce !== use.pkce) || failedVerifier(use, params)) result.push('pkce');
  return result;
}

function isFromTheSamePlace(issue: AuthEvent, use: AuthEvent): boolean {
  const place = userPlace(issue);
  return place !== '' && place === userPlace(use);
}

function attemptsOf(issue: AuthEvent, input: EvaluateInput<Params>): Attempt[] {
  const { entity, events, params } = input;
  return events.flatMap((event): Attempt[] => {
    if (!REDEEMING.some((k) => k === event.kind)) return [];
    if (mentionOf(event, entity, ['consumed', 'presented']) === undefined) return [];
    if (params.exclude_clients.includes(event.client.id)) return [];
    const differs = differences(issue, event, params);
    if (differs.length === 0) return [];
    const isOwn = differs.every((d) => d === 'pkce') && event.outcome !== 'success';
    const verdict = isOwn && isFromTheSamePlace(issue, event) ? 'wrong_verifier' : 'injection';
    return [{ event, verdict, differs }];
  });
}

const REASONS: Readonly<Record<Difference, string>> = {
  client: 'another client redeemed the code',
  redirect_uri: 'the redirect URI is not the one of the authorization request',
  pkce: 'the verifier is missing or does not fit the challenge of the authorization request',
};

function gradeOf(
  verdict: Verdict,
  isAccepted: boolean,
): { severity: Severity; confidence: number } {
  if (verdict === 'wrong_verifier') return { severity: 'low', confidence: 60 };
  return isAccepted
    ? { severity: 'critical', confidence: 90 }
    : { severity: 'high', confidence: 80 };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const issue = input.events.find(
    (e) => e.kind === 'code_issued' && mentionOf(e, input.entity, ['issued']) !== undefined,
  );
  if (issue === undefined) return [];
  const attempts = attemptsOf(issue, input);
  const accepted = attempts.filter((a) => a.event.outcome === 'success');
  const shown = accepted[0] ?? attempts.find((a) => a.verdict === 'injection') ?? attempts[0];
  if (shown === undefined) return [];
  // A refusal is told by several events; each says what it knows.
  const ofVerdict = attempts.filter((a) => a.verdict === shown.verdict);
  const differs = (['client', 'redirect_uri', 'pkce'] as const).filter((d) =>
    ofVerdict.some((a) => a.differs.includes(d)),
  );
  const redeemedWith = ofVerdict.map((a) => a.event.redirect_uri).find((u) => u !== '') ?? '';
  const from = userPlace(issue);
  const to = userPlace(shown.event);
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: shown.verdict,
      ...gradeOf(shown.verdict, accepted.length > 0),
      summary: `An authorization code was ${accepted.length > 0 ? 'redeemed' : 'presented'} with another ${differs.join(', ').replaceAll('_', ' ')} than it was issued for.`,
      reasons: [
        ...(accepted.length > 0 ? ['the server issued tokens all the same'] : []),
        ...differs.map((d) => REASONS[d]),
        ...(areDifferentPlaces(from, to) ? [`issued to ${from}, presented from ${to}`] : []),
      ],
      evidence: {
        differs,
        accepted: accepted.length > 0,
        attempts: attempts.length,
        issued_at: isoTime(issue),
        presented_at: isoTime(shown.event),
        issued_to: issue.client.id,
        presented_by: shown.event.client.id,
        issued_redirect_uri: issue.redirect_uri,
        presented_redirect_uri: redeemedWith,
        issued_network: from,
        presented_network: to,
      },
      events: [issue, ...attempts.map((a) => a.event)],
      tokenRefs: [input.entity],
    },
  ];
}

/** Rows that say that a verifier was missing or wrong. */
function failedVerifierRows(params: Params): Sql {
  return sql`outcome != 'success' AND kind != 'code_issued'
    AND (error_code IN ${param.strings(params.verifier_errors)} OR match(error_detail, '(?i)pkce|code_verifier'))`;
}

/** Rows of codes; `code_role` and `code_type` come from an ARRAY JOIN. */
const CODE_ROWS = sql`${kindIn(KINDS)} AND code_type = 'code'
  AND if(kind = 'code_issued', code_role = 'issued', code_role IN ('consumed', 'presented'))`;
const EACH_CODE = sql`grantscope.auth_events
  ARRAY JOIN tokens.ref AS code_ref, tokens.type AS code_type, tokens.role AS code_role`;
const PKCE_FACET = sql`if(pkce = 'unknown', '', pkce)`;

const CODE = exampleRef('injected code');
const HOME = { network: '198.51.100.0/24', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ip_role: 'end_user' } as const;
const BACKEND = { network: '192.0.2.0/24', ip_role: 'client_backend' } as const;
const CALLBACK = 'https://shop.example/cb';

const issued = (more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t: 0,
  kind: 'code_issued',
  outcome: 'success',
  client: { id: 'web-shop' },
  redirect_uri: CALLBACK,
  pkce: 'S256',
  net: HOME,
  tokens: [{ role: 'issued', type: 'code', ref: CODE }],
  ...more,
});
const redeemed = (t: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'code_redeemed',
  outcome: 'success',
  grant_type: 'authorization_code',
  client: { id: 'web-shop' },
  redirect_uri: CALLBACK,
  net: BACKEND,
  tokens: [{ role: 'consumed', type: 'code', ref: CODE }],
  ...more,
});
const refused = (t: number, more: Partial<ExampleEvent> = {}): ExampleEvent =>
  redeemed(t, {
    kind: 'token_request_failed',
    outcome: 'failure',
    error: { oauth_error: 'invalid_grant' },
    tokens: [{ role: 'presented', type: 'code', ref: CODE }],
    ...more,
  });
const VERIFIER = { code: 'pkce_verification_failed', oauth_error: 'invalid_grant' };
const at = (t: number): string => new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString();
const finding = (
  verdict: Verdict,
  severity: Severity,
  differs: readonly Difference[],
  t: number,
  more: Record<string, unknown> = {},
) => ({
  entity: CODE,
  episode: LIFETIME_EPISODE,
  verdict,
  severity,
  evidence: {
    differs,
    accepted: false,
    attempts: 1,
    issued_at: at(0),
    presented_at: at(t),
    issued_to: 'web-shop',
    presented_by: 'web-shop',
    issued_redirect_uri: CALLBACK,
    presented_redirect_uri: CALLBACK,
    issued_network: HOME.network,
    presented_network: '',
    ...more,
  },
});

const isAboutCodes = (fact: EventFact): boolean =>
  KINDS.some((k) => k === fact.kind) && mentions(fact, ROLES, TYPES);

export default defineDetector<Params>({
  id: 'code_injection',
  version: 1,
  title: 'Authorization code redeemed otherwise than it was asked for',
  family: 'token_replay',
  severity: 'critical',
  confidence: 90,
  description:
    'A code belongs to one client, one redirect URI and one PKCE challenge. One that is presented by another client, with another redirect URI or without the right verifier was stolen and is being injected into a foreign sign-in. Servers refuse this; one that does not is wide open.',
  references: [
    'RFC 9700 section 4.5',
    'RFC 7636 section 4.6',
    'RFC 6749 section 4.1.3',
    'ATT&CK T1528',
  ],
  entity: 'code',
  verdicts: VERDICTS,
  evidence: {
    differs: 'What differs from the authorization request: client, redirect_uri, pkce.',
    accepted: 'Whether tokens were issued for it.',
    attempts: 'Records of requests that differ; one request may be told by two.',
    issued_at: 'When the code was issued.',
    presented_at: 'The accepted request that differs, else the first.',
    issued_to: 'Client that the code was issued to.',
    presented_by: "That request's client.",
    issued_redirect_uri: 'Redirect URI of the authorization request; empty where unknown.',
    presented_redirect_uri: 'Redirect URI of the token request; empty where unknown.',
    issued_network: "The user's network at the authorization endpoint; empty where unknown.",
    presented_network: 'Network of that request; empty where it is a back end or unknown.',
  },
  needs: ['tokens.ref', 'tokens.type', 'tokens.role', 'client.id', 'redirect_uri', 'error.code'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: isAboutCodes,
  watch: (params) => ({
    by: 'facets',
    stream: {
      concerns: isAboutCodes,
      from: EACH_CODE,
      where: CODE_ROWS,
      key: sql`code_ref`,
      // A failed proof counts as a client of its own: it differs from whoever the code was issued to, also where that is
      // not told.
      facets: [
        textFacet(
          sql`multiIf(${failedVerifierRows(params)}, '\n', client_id = '' AND kind = 'code_issued', '\r', client_id)`,
        ),
        textFacet(sql`redirect_uri`),
        textFacet(PKCE_FACET),
      ],
    },
    isHot: (seen) => seen.varies(0) || seen.varies(1) || seen.varies(2),
  }),
  // Codes live for minutes, so what belongs to one lies close together in event time.
  candidates: (scope, params) => {
    const tenant = param.string(scope.tenant);
    const varies = (column: Sql): Sql =>
      sql`minIf(${column}, ${column} != '') != maxIf(${column}, ${column} != '')`;
    return sql`
    SELECT toString(code_ref) AS entity, max(time) AS at FROM (
      SELECT code_ref, time, client_id, redirect_uri, ${PKCE_FACET} AS method,
        ${failedVerifierRows(params)} AS has_failed
      FROM ${EACH_CODE}
      WHERE tenant = ${tenant} AND ${CODE_ROWS} AND ${aroundNews(scope, params.code_life_ms)} AND code_ref IN (
        SELECT code_ref FROM ${EACH_CODE} WHERE tenant = ${tenant} AND ${CODE_ROWS} AND ${scope.condition}))
    GROUP BY code_ref
    HAVING max(has_failed) OR ${varies(sql`client_id`)} OR ${varies(sql`redirect_uri`)} OR ${varies(sql`method`)}`;
  },
  history: (selection) =>
    tokenHistory(selection, ledgerCondition({ kinds: KINDS, types: TYPES, roles: ROLES })),
  evaluate,
  falsePositives: [
    'A client that sends another redirect URI in the token request than in the authorization request, by mistake: the server refuses it at every sign-in.',
    'A client behind a back end that keeps one verifier for all tabs of a browser: the address does not tell whose request it is.',
    'Not reported: codes whose issue was not recorded, and fields that a source leaves out.',
  ],
  examples: [
    {
      name: 'injection: another client redeems the code, and the server lets it',
      events: [issued(), redeemed(20, { client: { id: 'other-app' } })],
      expect: [
        finding('injection', 'critical', ['client'], 20, {
          accepted: true,
          presented_by: 'other-app',
        }),
      ],
    },
    {
      name: 'injection: another redirect URI, refused; the request is told by two events, before the issue is',
      events: [
        redeemed(20, { outcome: 'failure', redirect_uri: 'https://evil.example/cb' }),
        refused(20, { redirect_uri: 'https://evil.example/cb' }),
        issued(),
      ],
      expect: [
        finding('injection', 'high', ['redirect_uri'], 20, {
          attempts: 2,
          presented_redirect_uri: 'https://evil.example/cb',
        }),
      ],
    },
    {
      name: "injection: a stolen code in the attacker's own sign-in fails on the verifier",
      events: [issued(), refused(20, { error: VERIFIER, net: AWAY })],
      expect: [finding('injection', 'high', ['pkce'], 20, { presented_network: AWAY.network })],
    },
    {
      name: "injection: the verifier fails at a back end, whose address says nothing about the user's",
      events: [issued(), refused(20, { error: VERIFIER })],
      expect: [finding('injection', 'high', ['pkce'], 20)],
    },
    {
      name: 'injection: a code with a challenge is redeemed without a proof, and accepted',
      events: [issued(), redeemed(20, { pkce: 'none' })],
      expect: [finding('injection', 'critical', ['pkce'], 20, { accepted: true })],
    },
    {
      name: 'wrong verifier: from the network that the code was issued to',
      events: [
        issued(),
        refused(2, { net: HOME, error: { oauth_error: 'invalid_grant', detail: 'PKCE failed' } }),
        redeemed(5, { net: HOME, pkce: 'S256' }),
      ],
      expect: [finding('wrong_verifier', 'low', ['pkce'], 2, { presented_network: HOME.network })],
    },
    {
      name: 'silent: redeemed as it was asked for; what a source leaves out is not different',
      events: [
        issued(),
        redeemed(1, { pkce: 'S256' }),
        redeemed(1, { kind: 'token_issued', redirect_uri: '', pkce: 'unknown' }),
        refused(2, {
          client: { id: '' },
          redirect_uri: '',
          error: { oauth_error: 'invalid_grant' },
        }),
      ],
      expect: [],
    },
    {
      name: 'silent: the issue was not recorded',
      events: [refused(1, { error: VERIFIER, net: AWAY }), redeemed(3, { client: { id: 'b' } })],
      expect: [],
    },
    {
      name: 'silent for a client whose codes others redeem on purpose',
      parameters: { exclude_clients: ['broker'] },
      events: [issued(), redeemed(20, { client: { id: 'broker' } })],
      expect: [],
    },
    ...VERIFIER_ERRORS.slice(1).map((code) => ({
      name: `injection: the server says ${code}`,
      events: [issued(), refused(20, { error: { code }, net: AWAY })],
      expect: [finding('injection', 'high', ['pkce'], 20, { presented_network: AWAY.network })],
    })),
    {
      name: 'injection: told by the issue of tokens alone; a challenge that is unknown differs from nothing',
      events: [
        issued({ pkce: 'unknown' }),
        redeemed(20, { kind: 'token_issued', client: { id: 'other-app' }, pkce: 'S256' }),
      ],
      expect: [
        finding('injection', 'critical', ['client'], 20, {
          accepted: true,
          presented_by: 'other-app',
        }),
      ],
    },
    {
      name: 'injection: what the token request leaves out is not different',
      events: [
        issued(),
        refused(20, { error: VERIFIER, net: AWAY, client: { id: '' }, redirect_uri: '' }),
      ],
      expect: [
        finding('injection', 'high', ['pkce'], 20, {
          presented_by: '',
          presented_redirect_uri: '',
          presented_network: AWAY.network,
        }),
      ],
    },
    {
      name: 'injection: what the authorization request leaves out is not different',
      events: [
        issued({ client: { id: '' }, redirect_uri: '' }),
        refused(20, { error: VERIFIER, net: AWAY }),
      ],
      expect: [
        finding('injection', 'high', ['pkce'], 20, {
          issued_to: '',
          issued_redirect_uri: '',
          presented_network: AWAY.network,
        }),
      ],
    },
    {
      name: 'injection: two places that are both unknown are not the same',
      events: [issued({ net: {} }), refused(20, { error: VERIFIER })],
      expect: [finding('injection', 'high', ['pkce'], 20, { issued_network: '' })],
    },
    {
      name: 'injection: from the same place, but accepted',
      events: [issued(), redeemed(20, { pkce: 'none', net: HOME })],
      expect: [
        finding('injection', 'critical', ['pkce'], 20, {
          accepted: true,
          presented_network: HOME.network,
        }),
      ],
    },
    {
      name: 'injection: from the same place, but by another client as well',
      events: [issued(), refused(20, { net: HOME, client: { id: 'other-app' }, error: VERIFIER })],
      expect: [
        finding('injection', 'high', ['client', 'pkce'], 20, {
          presented_by: 'other-app',
          presented_network: HOME.network,
        }),
      ],
    },
    {
      name: 'injection: from the same place by another client alone',
      events: [issued(), refused(20, { net: HOME, client: { id: 'other-app' } })],
      expect: [
        finding('injection', 'high', ['client'], 20, {
          presented_by: 'other-app',
          presented_network: HOME.network,
        }),
      ],
    },
    {
      name: 'injection: of several attempts the first that was accepted is shown; an issue told twice was when it was first told',
      events: [
        issued(),
        issued({ t: 5 }),
        refused(10, { client: { id: 'first' } }),
        redeemed(20, { client: { id: 'second' } }),
        redeemed(30, { client: { id: 'third' } }),
      ],
      expect: [
        finding('injection', 'critical', ['client'], 20, {
          accepted: true,
          attempts: 3,
          presented_by: 'second',
        }),
      ],
    },
    {
      name: 'injection: of refused attempts the first from elsewhere is shown, with all that differs in any',
      events: [
        issued(),
        refused(2, { net: HOME, error: VERIFIER }),
        refused(20, { net: AWAY, client: { id: 'other-app' } }),
        refused(30, { net: AWAY, redirect_uri: 'https://evil.example/cb' }),
      ],
      expect: [
        finding('injection', 'high', ['client', 'redirect_uri'], 20, {
          attempts: 3,
          presented_by: 'other-app',
          presented_network: AWAY.network,
        }),
      ],
    },
  ],
});
