import { uaFamily } from '../../collector/processors/enrich.ts';
import { attackerNet, iso, type Attack, type Ground } from './attack.ts';
import { clientsOf } from './clients.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, ns, type Happening } from './corpus.ts';
import { netOf, type Net } from './people.ts';
import { ISSUER } from './sessions.ts';
import { api, victim, type Victim } from './victim.ts';

const CURL = 'curl/8.5.0';
const PYTHON = 'python-requests/2.32.3';

/** Refresh tokens of one family, in order; each exchange consumes the newest. */
class Chain {
  readonly #ground: Ground;
  readonly #v: Victim;
  #newest: string;

  constructor(ground: Ground, v: Victim, at: number) {
    this.#ground = ground;
    this.#v = v;
    this.#newest = ground.corpus.ref();
    ground.add(at, {
      ...{ ...v.common, kind: 'token_issued', outcome: 'success', net: v.net },
      ...{ grant_type: 'authorization_code', endpoint: 'token', scopes_granted: ['openid'] },
      tokens: [{ role: 'issued', type: 'refresh', ref: this.#newest, family_ref: v.family }],
    });
  }

  /** The newest refresh token. */
  get newest(): string {
    return this.#newest;
  }

  /** Exchanges a token, and gives the refresh token and the access token that came of it. */
  refresh(at: number, net: Net, from = this.#newest): { refresh: string; access: string } {
    const { corpus } = this.#ground;
    const to = { refresh: corpus.ref(), access: corpus.ref() };
    const family_ref = this.#v.family;
    this.#ground.add(at, {
      ...{ ...this.#v.common, kind: 'token_refreshed', outcome: 'success', net },
      ...{ grant_type: 'refresh_token', endpoint: 'token', scopes_granted: ['openid'] },
      tokens: [
        { role: 'consumed', type: 'refresh', ref: from, family_ref },
        { role: 'issued', type: 'refresh', ref: to.refresh, parent_ref: from, family_ref },
        { role: 'issued', type: 'access', ref: to.access, parent_ref: from, family_ref },
      ],
    });
    this.#newest = to.refresh;
    return to;
  }
}

const copiedGrant: Attack = {
  rule: 'refresh_many_agents',
  name: 'a refresh token copied out of a browser is used by two scripts on the same machine',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const chain = new Chain(ground, v, v.at);
    const own = (minutes: number): void => {
      chain.refresh(v.at + minutes * MINUTE_MS, v.net);
    };
    const script = (minutes: number, user_agent: string): void => {
      chain.refresh(v.at + minutes * MINUTE_MS, { ...v.net, user_agent });
    };
    own(10);
    script(15, CURL);
    own(20);
    script(27, PYTHON);
    own(30);
    return [
      {
        ...{ entity: v.family, verdict: 'many_agents', severity: 'medium' },
        evidence: {
          ua_families: [v.agent, 'curl', 'python-requests'].sort(),
          ua_family_count: 3,
          client_id: v.client.id,
          reached_at: iso(v.at + 27 * MINUTE_MS),
          // curl came first of the three that were seen last.
          span_ms: 12 * MINUTE_MS,
          networks: [v.network],
        },
      },
    ];
  },
};

const soldGrant: Attack = {
  rule: 'refresh_many_networks',
  name: 'a grant goes on abroad, hours after its owner went home',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { random } = ground;
    const buyer = attackerNet(random, v.net.user_agent ?? '');
    const chain = new Chain(ground, v, v.at);
    const home = v.at + random.int(1, 3) * HOUR_MS;
    const abroad = home + random.int(2, 20) * HOUR_MS;
    chain.refresh(v.at + HOUR_MS / 2, v.net);
    chain.refresh(home, v.net);
    chain.refresh(abroad, buyer);
    chain.refresh(abroad + HOUR_MS, buyer);
    return [
      {
        ...{ entity: v.family, verdict: 'many_countries', severity: 'medium' },
        evidence: {
          networks: [v.network, buyer.network].sort(),
          network_count: 2,
          countries: [v.net.country ?? '', buyer.country].sort(),
          client_id: v.client.id,
          subject_ref: v.person.subject,
          reached_at: iso(abroad),
          span_ms: abroad - home,
        },
      },
    ];
  },
};

const passedAround: Attack = {
  rule: 'refresh_many_networks',
  name: 'a grant is passed around through four access providers of one country',
  times: 2,
  plant: (ground) => {
    const v = victim(ground);
    const { random } = ground;
    const chain = new Chain(ground, v, v.at - 6 * DAY_MS);
    const times = [-6, -4, -2, 0].map((d) => v.at + d * DAY_MS + random.int(1, 60) * MINUTE_MS);
    const asns = [v.net.asn ?? 0, 65_601, 65_602, 65_603];
    for (const [i, at] of times.entries()) {
      const asn = asns[i] ?? 0;
      chain.refresh(at, { ...v.net, asn, network: `AS${asn}` });
    }
    const [first = 0, last = 0] = [times[0], times.at(-1)];
    return [
      {
        ...{ entity: v.family, verdict: 'many_networks', severity: 'medium' },
        evidence: {
          networks: asns.map((n) => `AS${n}`).sort(),
          network_count: 4,
          countries: [v.net.country],
          client_id: v.client.id,
          subject_ref: v.person.subject,
          reached_at: iso(last),
          span_ms: last - first,
        },
      },
    ];
  },
};

const twoHolders: Attack = {
  rule: 'refresh_family_fork',
  name: 'a server without rotation checks serves the owner and the thief, each with a chain of their own',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { random } = ground;
    const thief = attackerNet(random, PYTHON);
    const chain = new Chain(ground, v, v.at - HOUR_MS);
    const shared = chain.newest;
    const stolenAt = v.at + random.int(40, 600) * 1_000;
    const own = chain.refresh(v.at, v.net, shared);
    const copy = chain.refresh(stolenAt, thief, shared);
    const call = (at: number, token: string, net: Net, route: string): void =>
      ground.add(at, { ...api(token, net, route), client: v.common.client });
    call(v.at + 2_000, own.access, v.net, '/orders');
    call(stolenAt + 3_000, copy.access, thief, '/export');
    call(v.at + 20 * MINUTE_MS, own.access, v.net, '/profile');
    const branch = (
      exchanged: number,
      used: number,
      uses: number,
      net: Net,
      agent: string,
    ): Record<string, unknown> => ({
      ...{ exchanged_at: iso(exchanged), first_used_at: iso(used), uses },
      ...{ networks: [net.network], keys: [], ua_families: [agent] },
    });
    return [
      {
        ...{ entity: shared, verdict: 'fork', severity: 'critical' },
        evidence: {
          family_ref: v.family,
          successors: 2,
          used: 2,
          differs: ['network'],
          branches: [
            branch(v.at, v.at + 2_000, 2, v.net, v.agent),
            branch(stolenAt, stolenAt + 3_000, 1, thief, 'python-requests'),
          ],
        },
      },
    ];
  },
};

const recordedProof: Attack = {
  rule: 'dpop_proof_replay',
  name: 'a proof read from a debug log is sent again with the token to another route',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const thief = attackerNet(random, CURL);
    const proof = corpus.ref();
    const token = corpus.ref();
    const key = corpus.ref().replaceAll('-', '');
    const gapMs = random.int(8, 280) * 1_000;
    const client = { id: random.pick(clientsOf('dpop')).id };
    const request = (at: number, net: Net, route: string, proofRef: string): void =>
      ground.add(at, {
        ...{ ...api(token, net, route), client, subject: v.common.subject },
        ...{ binding: 'dpop', binding_thumbprint: key },
        ...{ http: { method: 'GET', route, status: 200 }, corr: { trace_id: corpus.ref() } },
        tokens: [
          { role: 'presented', type: 'access', ref: token },
          { role: 'presented', type: 'dpop_proof', ref: proofRef, issued_at: ns(at) },
        ],
      });
    request(v.at - 5_000, v.net, '/profile', corpus.ref());
    request(v.at, v.net, '/orders', proof);
    request(v.at + 4_000, v.net, '/stock', corpus.ref());
    request(v.at + gapMs, thief, '/payments', proof);
    const shown = (at: number, verdict: string, net: Net, agent: string, route: string) => ({
      ...{ at: iso(at), verdict, accepted: true, target: `GET ${route}` },
      ...{ networks: [net.network], ua_families: [agent] },
    });
    return [
      {
        ...{ entity: proof, verdict: 'replay', severity: 'high' },
        evidence: {
          key,
          presentations: 2,
          gap_ms: gapMs,
          accepted_again: true,
          requests: [
            shown(v.at, 'first', v.net, v.agent, '/orders'),
            shown(v.at + gapMs, 'replay', thief, 'curl', '/payments'),
          ],
        },
      },
    ];
  },
};

const servedElsewhere: Attack = {
  rule: 'token_across_tenants',
  name: 'a token for one API is taken to another, which does not look at the audience',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const token = corpus.ref();
    const [own, other] = ['https://api.example.com/orders', 'https://payroll.example.com'];
    const movedAt = v.at + random.int(1, 9) * MINUTE_MS;
    const call = (at: number, resource: string, instance: string): void =>
      ground.add(at, {
        ...{ ...api(token, v.net, '/list'), client: v.common.client },
        ...{ audience: ['https://api.example.com'], resource: [resource] },
        source: { id: 'envoy', instance },
      });
    call(v.at, own, 'gateway-1');
    call(movedAt, other, 'payroll-gateway');
    call(movedAt + 2_000, other, 'payroll-gateway');
    call(movedAt + MINUTE_MS, own, 'gateway-1');
    return [
      {
        ...{ entity: token, verdict: 'other_audience', severity: 'high' },
        evidence: {
          tenants: [],
          audience: ['https://api.example.com'],
          foreign_apis: [other],
          first_foreign_use: iso(movedAt),
          acceptances: 2,
          servers: ['payroll-gateway'],
          networks: [v.network],
        },
      },
    ];
  },
};

const linkWithToken: Attack = {
  rule: 'token_in_url',
  name: 'a download page puts the access token into its links, among calls with a header',
  times: 2,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const api1 = `https://files-${corpus.ref().slice(0, 6)}.example.com`;
    const token = corpus.ref();
    const links = random.int(2, 6);
    const call = (at: number, route: string, ext: Record<string, string> = {}): void =>
      ground.add(at, {
        ...{ ...api(token, v.net, route), client: v.common.client },
        ...{ resource: [api1], audience: [api1], ext },
      });
    call(v.at, '/files');
    for (let i = 0; i < links; i += 1)
      call(v.at + (i + 1) * 30_000, '/files/{id}', { token_in_url: 'true' });
    call(v.at + HOUR_MS, '/files');
    return [
      {
        ...{ entity: api1, verdict: 'accepted', severity: 'medium' },
        evidence: {
          calls: links,
          accepted: links,
          routes: ['/files/{id}'],
          clients: [v.client.id],
          networks: [v.network],
          tokens: 1,
        },
      },
    ];
  },
};

const injectedCode: Attack = {
  rule: 'code_injection',
  name: "a code from a victim's browser is put into the attacker's own sign-in",
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const thief = attackerNet(random, 'Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Firefox/131.0');
    const code = corpus.ref();
    const [redirect_uri = ''] = v.client.redirectUris;
    const gapMs = random.int(4, 50) * 1_000;
    ground.add(v.at, {
      ...{ ...v.common, kind: 'code_issued', outcome: 'success', net: v.net },
      ...{ redirect_uri, pkce: 'S256', response_type: 'code' },
      tokens: [{ role: 'issued', type: 'code', ref: code }],
    });
    ground.add(v.at + gapMs, {
      ...{ ...v.common, kind: 'token_request_failed', outcome: 'failure', net: thief },
      ...{ grant_type: 'authorization_code', endpoint: 'token', redirect_uri, subject: {} },
      error: { oauth_error: 'invalid_grant', code: 'pkce_verification_failed' },
      tokens: [{ role: 'presented', type: 'code', ref: code }],
    });
    return [
      {
        ...{ entity: code, verdict: 'injection', severity: 'high' },
        evidence: {
          differs: ['pkce'],
          accepted: false,
          attempts: 1,
          issued_at: iso(v.at),
          presented_at: iso(v.at + gapMs),
          issued_to: v.client.id,
          presented_by: v.client.id,
          issued_redirect_uri: redirect_uri,
          presented_redirect_uri: redirect_uri,
          issued_network: v.network,
          presented_network: thief.network,
        },
      },
    ];
  },
};

const stolenCookie: Attack = {
  rule: 'session_on_two_devices',
  name: 'a session cookie taken by malware goes on in another browser elsewhere',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const session_ref = corpus.ref();
    const mac =
      'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.1 Safari/605.1.15';
    const linux = 'Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0';
    const own = netOf(corpus, v.person.home, { kind: 'browser', userAgent: () => mac }, v.at, 3);
    const thief = attackerNet(random, linux);
    const stolenAt = v.at + random.int(5, 300) * MINUTE_MS;
    const visit = (at: number, kind: 'login' | 'authorization_requested', net: Net): void =>
      ground.add(at, {
        ...{ ...v.common, kind, net, session_ref },
        outcome: 'success',
      });
    visit(v.at, 'login', own);
    visit(v.at + MINUTE_MS, 'authorization_requested', own);
    visit(stolenAt, 'authorization_requested', thief);
    visit(stolenAt + HOUR_MS, 'authorization_requested', own);
    return [
      {
        ...{ entity: session_ref, verdict: 'second_device', severity: 'high' },
        evidence: {
          devices: [`${uaFamily(mac)} on macOS`, `${uaFamily(linux)} on Linux`],
          networks: [own.network, thief.network],
          foreign_networks: [thief.network],
          first_foreign_use: iso(stolenAt),
          countries: [own.country ?? '', thief.country].sort(),
          clients: [v.client.id],
        },
      },
    ];
  },
};

const unboundUse: Attack = {
  rule: 'binding_mismatch',
  name: 'a token bound to a key is served to somebody who has another key',
  times: 3,
  plant: (ground) => {
    const v = victim(ground);
    const { corpus, random } = ground;
    const thief = attackerNet(random, PYTHON);
    const token = corpus.ref();
    const client = { id: random.pick(clientsOf('dpop')).id };
    const [own, other] = [corpus.ref(), corpus.ref()].map((r) => r.replaceAll('-', ''));
    const usedAt = v.at + random.int(30, 280) * 1_000;
    const bound = { binding: 'dpop', client, subject: v.common.subject } as const;
    const call = (net: Net, key: string): Happening => ({
      ...{ ...api(token, net, '/orders'), ...bound, binding_thumbprint: key },
      corr: { trace_id: corpus.ref() },
    });
    ground.add(v.at, {
      ...{ ...v.common, ...bound, kind: 'token_issued', outcome: 'success', net: v.net },
      ...{ grant_type: 'authorization_code', endpoint: 'token', issuer: ISSUER },
      ...{ scopes_granted: ['openid'], binding_thumbprint: own ?? '' },
      tokens: [{ role: 'issued', type: 'access', ref: token, issued_at: ns(v.at) }],
    });
    ground.add(v.at + 1_000, call(v.net, own ?? ''));
    ground.add(usedAt, call(thief, other ?? ''));
    return [
      {
        ...{ entity: token, verdict: 'other_key', severity: 'high' },
        evidence: {
          binding: 'dpop',
          issued_key: own,
          presented_keys: [other],
          first_mismatch_at: iso(usedAt),
          mismatches: 1,
          issued_network: v.network,
          networks: [thief.network],
          servers: ['gateway-1'],
        },
      },
    ];
  },
};

export const SESSION_ATTACKS: readonly Attack[] = [
  copiedGrant,
  soldGrant,
  passedAround,
  twoHolders,
  recordedProof,
  servedElsewhere,
  linkWithToken,
  injectedCode,
  stolenCookie,
  unboundUse,
];
