import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  LIFETIME_EPISODE,
  mentions,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, nilRef, textFacet } from './_ledger.ts';
import { isoTime, known, mentionOf, timeMs } from './_origin.ts';

const KINDS = ['code_issued', 'code_redeemed', 'token_request_failed'] as const;
const NS_PER_MS = 1_000_000n;

const Parameters = z.strictObject({
  /** Names of one and the same server, group by group: `[["https://login.example", "https://id.example"]]`. */
  issuer_aliases: z.array(z.array(z.string().min(1)).min(2)).default([]),
  /** A code that turns up elsewhere later than this is a leak of old logs rather than a mix-up, ms. */
  code_life_ms: z.int().min(1_000).max(3_600_000).default(600_000),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

function isSameServer(a: string, b: string, params: Params): boolean {
  return a === b || params.issuer_aliases.some((group) => group.includes(a) && group.includes(b));
}

/** Uses of the code at a server that is not the one that issued it. */
function usesElsewhere(input: EvaluateInput<Params>, issued: AuthEvent): readonly AuthEvent[] {
  const { params, entity } = input;
  return input.events.filter(
    (e) =>
      e.issuer !== '' &&
      mentionOf(e, entity, ['consumed', 'presented']) !== undefined &&
      !params.exclude_clients.includes(e.client.id) &&
      !isSameServer(e.issuer, issued.issuer, params) &&
      Math.abs(timeMs(e) - timeMs(issued)) <= params.code_life_ms,
  );
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { entity } = input;
  const issued = input.events.find(
    (e) =>
      e.kind === 'code_issued' &&
      e.outcome === 'success' &&
      e.issuer !== '' &&
      mentionOf(e, entity, ['issued']) !== undefined,
  );
  if (issued === undefined) return [];
  const elsewhere = usesElsewhere(input, issued);
  const [first] = elsewhere;
  if (first === undefined) return [];
  const accepting = known(elsewhere.filter((e) => e.outcome === 'success').map((e) => e.issuer));
  // A third server that refuses it is not explained by the second one's being the first.
  const isAccepted = elsewhere.every((e) => accepting.includes(e.issuer));
  const issuers = known(elsewhere.map((e) => e.issuer));
  const clients = known(elsewhere.map((e) => e.client.id || e.requested_client_id));
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: isAccepted ? 'accepted_elsewhere' : 'presented_elsewhere',
      severity: isAccepted ? 'low' : 'high',
      confidence: isAccepted ? 60 : 80,
      summary: `A code that ${issued.issuer} issued was presented to ${issuers.slice(0, 3).join(', ')}.`,
      reasons: isAccepted
        ? [`${issuers[0] ?? ''} redeemed a code of ${issued.issuer}: two names of one server`]
        : [
            `client ${issued.client.id} got the code from ${issued.issuer}`,
            ...issuers.slice(0, 10).map((i) => `it was presented to ${i}`),
          ],
      evidence: {
        issued_by: issued.issuer,
        presented_to: issuers,
        client: issued.client.id,
        presenting_clients: clients.slice(0, 20),
        presented_at: isoTime(first),
        gap_ms: timeMs(first) - timeMs(issued),
        uses: elsewhere.length,
      },
      events: [issued, ...elsewhere].sort((a, b) =>
        a.time < b.time || (a.time === b.time && a.event_id < b.event_id) ? -1 : 1,
      ),
      tokenRefs: [entity],
    },
  ];
}

const CODES = sql`grantscope.auth_events ARRAY JOIN tokens.ref AS ref, tokens.type AS type`;
/** Rows of `CODES` that say at which server a code was issued or presented. */
const TELLS_ISSUER = sql`${kindIn(KINDS)} AND issuer != '' AND type = 'code' AND ref != ${nilRef}`;

/** New codes of which two servers tell. Where all that is new names one server, nothing further is read. */
function candidates(scope: CandidateScope, params: Params): Sql {
  const tenant = param.string(scope.tenant);
  const life = BigInt(params.code_life_ms) * NS_PER_MS;
  const at = (ns: bigint): Sql => sql`fromUnixTimestamp64Nano(${param.int64(ns)}, 'UTC')`;
  const nearby = sql`tenant = ${tenant} AND time BETWEEN ${at(scope.timeFrom - life)} AND ${at(scope.timeTo + life)}`;
  return sql`
    SELECT toString(ref) AS entity, max(time) AS at FROM ${CODES}
    WHERE ${nearby} AND ${TELLS_ISSUER}
      AND (
        SELECT min(issuer) != max(issuer) FROM grantscope.auth_events
        WHERE ${nearby} AND ${kindIn(KINDS)} AND issuer != '')
      AND ref IN (SELECT ref FROM ${CODES} WHERE tenant = ${tenant} AND ${TELLS_ISSUER} AND ${scope.condition})
    GROUP BY ref HAVING min(issuer) != max(issuer)`;
}

function history(selection: HistorySelection): Sql {
  return sql`
    SELECT toString(token_ref) AS entity, event_id, time AS at FROM grantscope.token_events
    WHERE tenant = ${param.string(selection.tenant)} AND token_ref IN ${param.uuids(selection.entities)}
      AND token_type = 'code' AND ${kindIn(KINDS)}`;
}

const CODE = exampleRef('mix-up code');
const HONEST = 'https://login.example';
const OTHER = 'https://sso.partner.example';
const issue = (t: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'code_issued',
  outcome: 'success',
  issuer: HONEST,
  client: { id: 'web-shop' },
  tokens: [{ role: 'issued', type: 'code', ref: CODE }],
  ...more,
});
const present = (t: number, issuer: string, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_request_failed',
  outcome: 'failure',
  error: { oauth_error: 'invalid_grant' },
  grant_type: 'authorization_code',
  issuer,
  client: { id: 'shop-at-partner' },
  tokens: [{ role: 'presented', type: 'code', ref: CODE }],
  ...more,
});
const redeem = (t: number, issuer: string): ExampleEvent =>
  present(t, issuer, {
    kind: 'code_redeemed',
    outcome: 'success',
    error: {},
    client: { id: 'web-shop' },
    tokens: [{ role: 'consumed', type: 'code', ref: CODE }],
  });
const expected = (t: number, more: Readonly<Record<string, unknown>> = {}) => ({
  entity: CODE,
  episode: LIFETIME_EPISODE,
  verdict: 'presented_elsewhere',
  severity: 'high' as const,
  evidence: {
    issued_by: HONEST,
    presented_to: [OTHER],
    client: 'web-shop',
    presenting_clients: ['shop-at-partner'],
    presented_at: exampleTime(t),
    gap_ms: t * 1_000,
    uses: 1,
    ...more,
  },
});

export default defineDetector<Params>({
  id: 'mix_up',
  version: 1,
  title: 'Code taken to another authorization server',
  family: 'redirect_abuse',
  severity: 'high',
  confidence: 80,
  description:
    'A client that uses several authorization servers is made to believe that a response came from another one than it did, and hands the code of the honest server to the other. The code turns up at a server that did not issue it.',
  references: ['RFC 9207 section 1', 'RFC 9700 section 4.4', 'ATT&CK T1528', 'ATT&CK T1557'],
  entity: 'code',
  verdicts: {
    presented_elsewhere: 'Another server was given the code, and did not redeem it.',
    accepted_elsewhere: 'Another issuer redeemed the code: two names of one server.',
  },
  evidence: {
    issued_by: 'The issuer that made the code.',
    presented_to: 'Other issuers that it was presented to.',
    client: 'The client that the code was issued to.',
    presenting_clients: 'Clients by whose name it was presented there (at most 20).',
    presented_at: 'When it was presented elsewhere first.',
    gap_ms: 'Time from the issue until then.',
    uses: 'How often it was presented elsewhere.',
  },
  needs: ['issuer', 'tokens.ref', 'tokens.role', 'outcome'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: (fact) =>
    KINDS.some((k) => k === fact.kind) &&
    mentions(fact, ['issued', 'consumed', 'presented'], ['code']),
  watch: () => ({
    by: 'facets',
    stream: {
      concerns: (fact) =>
        KINDS.some((k) => k === fact.kind) &&
        mentions(fact, ['issued', 'consumed', 'presented'], ['code']),
      from: CODES,
      where: TELLS_ISSUER,
      key: sql`ref`,
      facets: [textFacet(sql`issuer`)],
    },
    isHot: (seen) => seen.varies(0),
  }),
  candidates,
  history,
  evaluate,
  falsePositives: [
    'One server under two names, told by accepted_elsewhere: issuer_aliases.',
    'A deployment that sends codes to the token endpoint of another stage of itself.',
    'Not reported: codes taken to a server whose events are not collected, which is where an attacker would take them; what the client notices by the iss parameter is known to the client alone.',
  ],
  examples: [
    {
      name: 'fires when a code is presented to another server; its issue is told last',
      events: [present(5, OTHER), redeem(2, HONEST), issue(0)],
      expect: [expected(5)],
    },
    {
      name: 'low where the other issuer redeems it',
      events: [issue(0), redeem(3, OTHER)],
      expect: [
        {
          ...expected(3, { presenting_clients: ['web-shop'] }),
          verdict: 'accepted_elsewhere',
          severity: 'low',
        },
      ],
    },
    {
      name: 'high where a third server refuses what the second one redeems',
      events: [issue(0), redeem(3, 'https://id.example'), present(4, OTHER)],
      expect: [
        expected(3, {
          presented_to: ['https://id.example', OTHER],
          presenting_clients: ['shop-at-partner', 'web-shop'],
          uses: 2,
        }),
      ],
    },
    {
      name: 'fires at the end of the life of a code, and tells every server it went to',
      events: [
        issue(0),
        present(600, OTHER, { client: {}, requested_client_id: 'guess' }),
        present(600, 'https://evil.example'),
        present(600.001, 'https://late.example'),
      ],
      expect: [
        expected(600, {
          presented_to: ['https://evil.example', OTHER],
          presenting_clients: ['guess', 'shop-at-partner'],
          uses: 2,
        }),
      ],
    },
    {
      name: 'silent: a code that turns up after its life',
      events: [issue(0), present(600.001, OTHER)],
      expect: [],
    },
    {
      name: 'silent: one server, also by names that are stated to be one',
      parameters: { issuer_aliases: [[HONEST, 'https://id.example']] },
      events: [issue(0), redeem(1, HONEST), present(2, HONEST), present(3, 'https://id.example')],
      expect: [],
    },
    {
      name: 'silent: the issuer is unknown on either side, or the issue was not seen',
      events: [
        issue(0, { issuer: '' }),
        present(1, OTHER),
        issue(2, { tokens: [{ role: 'issued', type: 'code', ref: exampleRef('second code') }] }),
        present(3, '', {
          tokens: [{ role: 'presented', type: 'code', ref: exampleRef('second code') }],
        }),
        present(4, OTHER, {
          tokens: [{ role: 'presented', type: 'code', ref: exampleRef('third code') }],
        }),
        present(5, HONEST, {
          tokens: [{ role: 'presented', type: 'code', ref: exampleRef('third code') }],
        }),
      ],
      expect: [],
    },
    {
      name: 'silent: excluded clients',
      parameters: { exclude_clients: ['shop-at-partner'] },
      events: [issue(0), present(1, OTHER)],
      expect: [],
    },
    {
      name: 'fires beside other names of either server',
      parameters: {
        issuer_aliases: [
          [HONEST, 'https://id.example'],
          [OTHER, 'https://sso.example'],
        ],
      },
      events: [issue(0), present(5, OTHER)],
      expect: [expected(5)],
    },
    {
      name: 'the first issue that succeeded and tells its server counts, and no use whose server is unknown',
      events: [
        issue(-2, { outcome: 'failure', issuer: 'https://third.example' }),
        issue(-1, { issuer: '' }),
        issue(0),
        issue(2, { issuer: OTHER }),
        present(3, ''),
        present(5, OTHER),
      ],
      expect: [expected(5)],
    },
  ],
});
