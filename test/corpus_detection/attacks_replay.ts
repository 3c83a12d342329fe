import { attackerNet, iso, type Attack } from './attack.ts';
import { ns, type Happening } from './corpus.ts';
import { api, victim, type Victim } from './victim.ts';

const stolenAccessToken: Attack = {
  rule: 'access_token_replay',
  name: 'a copied access token, used by a script elsewhere between calls of its owner',
  times: 5,
  plant: (ground) => {
    const v = victim(ground);
    const { random } = ground;
    const thief = attackerNet(random, 'python-requests/2.32.3');
    const token = ground.corpus.ref();
    const stolenAt = v.at + random.int(60, 300) * 1_000;
    const base = { client: v.common.client, subject: v.common.subject };
    ground.add(v.at, { ...api(token, v.net, '/orders'), ...base });
    ground.add(stolenAt + 900_000, { ...api(token, v.net, '/profile'), ...base });
    ground.add(stolenAt, { ...api(token, thief, '/orders/{id}'), ...base });
    ground.add(stolenAt + 1_000, { ...api(token, thief, '/export'), ...base });
    return [
      {
        ...{ entity: token, verdict: 'replay', severity: 'high' },
        evidence: {
          networks: [v.network, thief.network],
          foreign_networks: [thief.network],
          ua_families: [v.agent, 'python-requests'].sort(),
          countries: [v.net.country ?? '', thief.country].sort(),
          first_foreign_use: iso(stolenAt),
          routes: ['/export', '/orders/{id}'],
        },
      },
    ];
  },
};

/** The events of one rotation. */
function rotation(
  v: Victim,
  net: NonNullable<Happening['net']>,
  from: string,
  to: { refresh: string; access: string },
): Happening {
  const family_ref = v.family;
  return {
    ...{ ...v.common, kind: 'token_refreshed', outcome: 'success', net },
    ...{ grant_type: 'refresh_token', endpoint: 'token', scopes_granted: ['openid'] },
    tokens: [
      { role: 'consumed', type: 'refresh', ref: from, family_ref },
      { role: 'issued', type: 'refresh', ref: to.refresh, parent_ref: from, family_ref },
      { role: 'issued', type: 'access', ref: to.access, parent_ref: from, family_ref },
    ],
  };
}

const stolenRefreshToken: Attack = {
  rule: 'refresh_token_reuse',
  name: 'an old refresh token comes from elsewhere after its owner went on',
  times: 5,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const thief = attackerNet(random, 'curl/8.5.0');
    const first = corpus.ref();
    const next = { refresh: corpus.ref(), access: corpus.ref() };
    const gapMs = random.int(120, 3_000) * 1_000;
    // The refusal is told before what it refers to: logs of two servers.
    ground.add(v.at + gapMs, {
      ...{ ...v.common, kind: 'token_request_failed', outcome: 'failure', net: thief },
      ...{ grant_type: 'refresh_token', endpoint: 'token' },
      error: { oauth_error: 'invalid_grant' },
      tokens: [{ role: 'presented', type: 'refresh', ref: first, family_ref: v.family }],
    });
    ground.add(v.at, rotation(v, v.net, first, next));
    ground.add(v.at + 60_000, { ...api(next.access, v.net, '/orders'), client: v.common.client });
    return [
      {
        ...{ entity: first, verdict: 'theft', severity: 'high' },
        evidence: {
          rotated_at: iso(v.at),
          family_ref: v.family,
          reuse_count: 1,
          successor_used: true,
          generations_behind_min: 2,
          reuses: [
            {
              at: iso(v.at + gapMs),
              gap_ms: gapMs,
              verdict: 'theft',
              accepted: false,
              network: thief.network,
              ua_family: 'curl',
              different: ['user_agent', 'country', 'network'],
            },
          ],
        },
      },
    ];
  },
};

const leakedCode: Attack = {
  rule: 'code_redeemed_twice',
  name: 'a code read from a log is redeemed again, and the server issues tokens for it',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const thief = attackerNet(random, 'curl/8.5.0');
    const code = corpus.ref();
    const gapMs = random.int(10, 500) * 1_000;
    const redeem = (at: number, net: NonNullable<Happening['net']>): void =>
      ground.add(at, {
        ...{ ...v.common, kind: 'code_redeemed', outcome: 'success', net, endpoint: 'token' },
        ...{ grant_type: 'authorization_code' },
        tokens: [{ role: 'consumed', type: 'code', ref: code }],
      });
    redeem(v.at + gapMs, thief);
    redeem(v.at, v.net);
    return [
      {
        ...{ entity: code, verdict: 'replay', severity: 'critical' },
        evidence: {
          first_redeemed_at: iso(v.at),
          redeemed_again_at: iso(v.at + gapMs),
          gap_ms: gapMs,
          repeats: 1,
          accepted_again: true,
          clients: [v.client.id],
          networks: [v.network, thief.network].sort(),
        },
      },
    ];
  },
};

const revokedButAccepted: Attack = {
  rule: 'token_used_after_revocation',
  name: 'a resource server never hears of revocations',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const token = corpus.ref();
    const instance = `deaf-${random.int(0, 99)}`;
    ground.add(v.at - 60_000, {
      ...{ ...v.common, kind: 'token_issued', outcome: 'success', net: v.net },
      ...{ grant_type: 'authorization_code', endpoint: 'token', scopes_granted: ['openid'] },
      tokens: [
        {
          ...{ role: 'issued', type: 'access', ref: token, family_ref: v.family },
          ...{ issued_at: ns(v.at - 60_000), expires_at: ns(v.at + 540_000) },
        },
      ],
    });
    ground.add(v.at, {
      ...{ ...v.common, kind: 'grant_revoked', outcome: 'success', net: v.net },
    });
    const late = [random.int(71, 90), random.int(100, 400)];
    for (const s of late)
      ground.add(v.at + s * 1_000, {
        ...api(token, v.net, '/orders'),
        ...{ client: v.common.client, source: { id: 'otlp', instance }, kind: 'token_validated' },
      });
    const [firstLate = 0, lastLate = 0] = late;
    return [
      {
        ...{ entity: token, verdict: 'accepted_after_revocation', severity: 'high' },
        evidence: {
          revoked_at: iso(v.at),
          revoked_by: 'grant_revoked',
          first_accepted_at: iso(v.at + firstLate * 1_000),
          last_accepted_at: iso(v.at + lastLate * 1_000),
          seconds_after: lastLate,
          acceptances: 2,
          servers: [instance],
          networks: [v.network],
          routes: ['/orders'],
        },
      },
    ];
  },
};

export const REPLAY_ATTACKS: readonly Attack[] = [
  stolenAccessToken,
  stolenRefreshToken,
  leakedCode,
  revokedButAccepted,
];
