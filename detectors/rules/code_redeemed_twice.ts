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
import { param, sql } from '../../model/sql.ts';
import { inSlice, ledgerCondition, tokenHistory, touchedOutsideSlices } from './_ledger.ts';
import { isoTime, known, mentionOf, networkName, sameNetwork, timeMs } from './_origin.ts';

const KINDS = ['code_redeemed', 'token_issued', 'token_request_failed'] as const;
const LEDGER = { kinds: KINDS, types: ['code'], roles: ['consumed', 'presented'] } as const;

const Parameters = z.strictObject({
  /** A repeat by the same client from the same address within this time is a retry, ms. */
  retry_ms: z.int().min(0).max(60_000).default(5_000),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/**
 * Redemptions of the code, one event each. A server may report the redemption (code_redeemed), the token
 * answer (token_issued, token_request_failed) or both; the view that saw more requests is taken.
 */
function redemptions(input: EvaluateInput<Params>): readonly AuthEvent[] {
  const uses = input.events.filter(
    (e) =>
      mentionOf(e, input.entity, ['consumed', 'presented']) !== undefined &&
      !input.params.exclude_clients.includes(e.client.id),
  );
  const byCode = uses.filter((e) => e.kind === 'code_redeemed');
  const byAnswer = uses.filter((e) => e.kind !== 'code_redeemed');
  return byAnswer.length > byCode.length ? byAnswer : byCode;
}

function isSameCaller(a: AuthEvent, b: AuthEvent): boolean {
  if (a.client.id !== b.client.id) return false;
  if (a.net.client_ip !== '' && b.net.client_ip !== '') return a.net.client_ip === b.net.client_ip;
  // Without addresses the network has to do; unknown is not the same.
  return sameNetwork(a, b);
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const all = redemptions(input);
  const start = all.findIndex((e) => e.outcome === 'success');
  const firstUse = all[start];
  if (firstUse === undefined) return [];
  const repeats = all.slice(start + 1);
  const strange = repeats.find(
    (e) => !isSameCaller(firstUse, e) || timeMs(e) - timeMs(firstUse) > input.params.retry_ms,
  );
  const shown = strange ?? repeats[0];
  if (shown === undefined) return [];
  const isReplay = strange !== undefined;
  const isAccepted = repeats.some((e) => e.outcome === 'success');
  const gapMs = timeMs(shown) - timeMs(firstUse);
  const gap = `redeemed again after ${(gapMs / 1_000).toFixed(1)} s`;
  const caller = isSameCaller(firstUse, shown)
    ? 'same client and address'
    : 'another client or address than the first redemption';
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: isReplay ? 'replay' : 'retry',
      severity: isReplay ? (isAccepted ? 'critical' : 'high') : 'low',
      confidence: isReplay ? 80 : 70,
      summary: `An authorization code was redeemed ${repeats.length + 1} times${isAccepted ? ' and accepted again' : ''}.`,
      reasons: [...(isAccepted ? ['the server issued tokens more than once'] : []), caller, gap],
      evidence: {
        first_redeemed_at: isoTime(firstUse),
        redeemed_again_at: isoTime(shown),
        gap_ms: gapMs,
        repeats: repeats.length,
        accepted_again: isAccepted,
        clients: known(all.map((e) => e.client.id)),
        networks: known(all.map(networkName)),
      },
      events: [firstUse, ...repeats],
      tokenRefs: [input.entity],
    },
  ];
}

const CODE = exampleRef('code');
const HOME = {
  client_ip: '198.51.100.7',
  network: '198.51.100.0/24',
  ip_role: 'end_user',
} as const;
const AWAY = { client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' } as const;
const redeem = (
  t: number,
  outcome: 'success' | 'failure',
  net: NonNullable<ExampleEvent['net']>,
  kind: 'code_redeemed' | 'token_issued' | 'token_request_failed' = 'code_redeemed',
  client = 'web-shop',
): ExampleEvent => ({
  t,
  kind,
  outcome,
  grant_type: 'authorization_code',
  client: { id: client },
  net,
  tokens: [
    { role: kind === 'token_request_failed' ? 'presented' : 'consumed', type: 'code', ref: CODE },
  ],
});
const evidence = (
  secondsLater: number,
  more: Partial<Record<'repeats' | 'accepted_again' | 'clients' | 'networks', unknown>>,
): Record<string, unknown> => ({
  first_redeemed_at: '2026-01-05T12:00:00.000Z',
  redeemed_again_at: new Date(Date.UTC(2026, 0, 5, 12) + secondsLater * 1_000).toISOString(),
  gap_ms: secondsLater * 1_000,
  repeats: 1,
  accepted_again: false,
  clients: ['web-shop'],
  networks: [HOME.network],
  ...more,
});
const finding = (
  verdict: 'replay' | 'retry',
  severity: 'critical' | 'high' | 'low',
  shown: Record<string, unknown>,
) => ({ entity: CODE, episode: LIFETIME_EPISODE, verdict, severity, evidence: shown });

const redeems = (fact: EventFact): boolean =>
  KINDS.some((k) => k === fact.kind) && mentions(fact, LEDGER.roles, LEDGER.types);

export default defineDetector<Params>({
  id: 'code_redeemed_twice',
  version: 1,
  title: 'Authorization code redeemed again',
  family: 'token_replay',
  severity: 'critical',
  confidence: 80,
  description:
    'An authorization code is good for one exchange. A second one means that the code leaked (log, referrer, proxy) or that a client retries. Tokens issued twice for one code are a defect of the server.',
  references: ['RFC 6749 section 4.1.2', 'RFC 9700 section 4.5', 'ATT&CK T1528'],
  entity: 'code',
  verdicts: {
    replay:
      'Redeemed again by another caller, or too late for a retry; critical where tokens were issued again.',
    retry: 'The same client and address tried again at once.',
  },
  evidence: {
    first_redeemed_at: 'The first successful redemption.',
    redeemed_again_at: 'The first repeat that is not a retry, else the first repeat.',
    gap_ms: 'Time between the two.',
    repeats: 'Redemptions after the first success.',
    accepted_again: 'Whether tokens were issued for a repeat.',
    clients: 'Clients that redeemed it.',
    networks: 'Networks they came from: autonomous systems where known, else prefixes.',
  },
  needs: ['tokens.ref', 'tokens.type', 'tokens.role', 'outcome', 'client.id', 'net.client_ip'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: redeems,
  sliced: true,
  watch: () => ({
    by: 'facets',
    stream: {
      concerns: redeems,
      from: sql`grantscope.token_events`,
      where: ledgerCondition(LEDGER),
      key: sql`token_ref`,
      // The two views of a redemption, each by its event.
      facets: [
        sql`if(kind = 'code_redeemed', bitOr(cityHash64(event_id), 1), 0)`,
        sql`if(kind != 'code_redeemed', bitOr(cityHash64(event_id), 1), 0)`,
      ],
    },
    isHot: (seen) => seen.varies(0) || seen.varies(1),
  }),
  candidates: (scope) => {
    const uses = sql`tenant = ${param.string(scope.tenant)} AND ${inSlice(scope, sql`token_ref`)} AND ${ledgerCondition(LEDGER)}`;
    return sql`
    SELECT toString(token_ref) AS entity, max(time) AS at FROM grantscope.token_events
    WHERE ${uses} AND ${touchedOutsideSlices(scope, uses)}
    GROUP BY token_ref
    HAVING countIf(${scope.condition}) > 0 AND (
      minIf(event_id, kind = 'code_redeemed') != maxIf(event_id, kind = 'code_redeemed')
      OR minIf(event_id, kind != 'code_redeemed') != maxIf(event_id, kind != 'code_redeemed'))`;
  },
  history: (selection) => tokenHistory(selection, ledgerCondition(LEDGER)),
  evaluate,
  falsePositives: [
    'A user reloads the callback page, and the client redeems the code again more than 5 s later.',
    'Not reported: failed attempts before the first success (a wrong PKCE verifier does not redeem the code).',
  ],
  examples: [
    {
      name: 'replay: refused from elsewhere',
      events: [
        redeem(0, 'success', HOME),
        redeem(0, 'success', HOME, 'token_issued'),
        redeem(2, 'failure', AWAY),
        redeem(2, 'failure', AWAY, 'token_request_failed'),
      ],
      expect: [finding('replay', 'high', evidence(2, { networks: [HOME.network, AWAY.network] }))],
    },
    {
      name: 'replay that the server accepted is critical',
      events: [redeem(0, 'success', HOME), redeem(2, 'success', AWAY)],
      expect: [
        finding(
          'replay',
          'critical',
          evidence(2, { accepted_again: true, networks: [HOME.network, AWAY.network] }),
        ),
      ],
    },
    {
      name: 'replay: another client',
      events: [
        redeem(0, 'success', HOME),
        redeem(1, 'failure', HOME, 'code_redeemed', 'other-app'),
      ],
      expect: [finding('replay', 'high', evidence(1, { clients: ['other-app', 'web-shop'] }))],
    },
    {
      name: 'retry: same client and address, 5 s at most',
      events: [redeem(0, 'success', HOME), redeem(5, 'failure', HOME)],
      expect: [finding('retry', 'low', evidence(5, {}))],
    },
    {
      name: 'replay: same client and address, just beyond the retry time',
      events: [redeem(0, 'success', HOME), redeem(5.001, 'failure', HOME)],
      expect: [finding('replay', 'high', evidence(5.001, {}))],
    },
    {
      name: 'seen by the token answers alone',
      events: [
        redeem(0, 'success', HOME, 'token_issued'),
        redeem(60, 'failure', AWAY, 'token_request_failed'),
      ],
      expect: [finding('replay', 'high', evidence(60, { networks: [HOME.network, AWAY.network] }))],
    },
    {
      name: 'silent: one redemption, reported twice over',
      events: [redeem(0, 'success', HOME), redeem(0.01, 'success', HOME, 'token_issued')],
      expect: [],
    },
    {
      name: 'silent: a wrong verifier first, then the right one',
      events: [redeem(0, 'failure', HOME), redeem(1, 'success', HOME)],
      expect: [],
    },
    {
      name: 'silent: a client on the list of those that are left alone',
      parameters: { exclude_clients: ['web-shop'] },
      events: [redeem(0, 'success', HOME), redeem(60, 'failure', AWAY)],
      expect: [],
    },
    {
      name: 'replay: where both views saw as much, the time is that of the redemption',
      events: [
        redeem(0, 'success', HOME),
        redeem(0.2, 'success', HOME, 'token_issued'),
        redeem(60, 'failure', HOME),
        redeem(60.5, 'failure', HOME, 'token_request_failed'),
      ],
      expect: [finding('replay', 'high', evidence(60, {}))],
    },
    {
      name: 'retry: an address that one record lacks is made up for by the network',
      events: [redeem(0, 'success', HOME), redeem(1, 'failure', { network: HOME.network })],
      expect: [finding('retry', 'low', evidence(1, {}))],
    },
    {
      name: 'retry: the same where the first record lacks it',
      events: [redeem(0, 'success', { network: HOME.network }), redeem(1, 'failure', HOME)],
      expect: [finding('retry', 'low', evidence(1, {}))],
    },
    {
      name: 'replay: two addresses of one network are two callers',
      events: [
        redeem(0, 'success', HOME),
        redeem(1, 'failure', { ...HOME, client_ip: '198.51.100.8' }),
      ],
      expect: [finding('replay', 'high', evidence(1, {}))],
    },
    {
      name: 'replay: without addresses, another network is another caller',
      events: [
        redeem(0, 'success', { network: HOME.network }),
        redeem(1, 'failure', { network: AWAY.network }),
      ],
      expect: [finding('replay', 'high', evidence(1, { networks: [HOME.network, AWAY.network] }))],
    },
    {
      name: 'retry: without addresses, two prefixes of one autonomous system are one caller',
      events: [
        redeem(0, 'success', { network: HOME.network, asn: 64_500 }),
        redeem(1, 'failure', { network: AWAY.network, asn: 64_500 }),
      ],
      expect: [finding('retry', 'low', evidence(1, { networks: ['AS64500'] }))],
    },
    {
      name: 'replay: without addresses, another autonomous system is another caller',
      events: [
        redeem(0, 'success', { network: HOME.network, asn: 64_500 }),
        redeem(1, 'failure', { network: AWAY.network, asn: 64_501 }),
      ],
      expect: [finding('replay', 'high', evidence(1, { networks: ['AS64500', 'AS64501'] }))],
    },
    {
      name: 'replay: two callers of whom nothing is known are not the same',
      events: [redeem(0, 'success', {}), redeem(1, 'failure', {})],
      expect: [finding('replay', 'high', evidence(1, { networks: [] }))],
    },
    {
      name: 'replay: the first of several is shown, whichever the server accepted',
      events: [
        redeem(0, 'success', HOME),
        redeem(30, 'failure', HOME),
        redeem(60, 'success', HOME),
        redeem(90, 'failure', HOME),
      ],
      expect: [finding('replay', 'critical', evidence(30, { repeats: 3, accepted_again: true }))],
    },
  ],
});
