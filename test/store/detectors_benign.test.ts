// How: a seeded corpus of honest users with the noise of real life (carrier NAT, roaming, IPv6 privacy
// addresses, gateway and resource server reporting one call, parallel refreshes, lost answers, double
// submits, typing errors in redirect URIs, logout, narrowed scopes, shared back ends) goes through all rules
// with default parameters. Nothing of severity medium or more may come of it; what the noise does cause is
// asserted by verdict, so that the corpus is proven to hold the noise. The seed is in the test's name.
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AuthEvent } from '../../model/auth_event.ts';
import type { PartialEvent } from '../../model/complete_event.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventAt, makeRunner, readFindings, seededRandom } from '../detector_world.ts';
import { openTestStore } from '../harness.ts';

const SEED = 20_260_105;
const USERS = 120;
const TENANT = 'benign';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const CLIENTS = [
  {
    client_id: 'mobile-app',
    scope: 'openid profile orders',
    redirect_uris: ['https://app.example.com/cb', 'http://127.0.0.1/cb'],
  },
  {
    client_id: 'web-shop',
    scope: 'openid profile orders',
    redirect_uris: ['https://shop.example.com/cb'],
  },
];

type Event = Omit<PartialEvent, 'event_id' | 'time' | 'tenant'>;
/** What all events of one session share. */
type Common = Pick<Event, 'client' | 'subject' | 'grant_ref'>;

class Corpus {
  readonly events: AuthEvent[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  add(t: number, event: Event): void {
    this.events.push(eventAt(TENANT, `benign ${this.events.length}`, t, event));
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }

  within(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** One user's session: login, then rounds of API calls and refreshes. */
  user(n: number): void {
    const isMobile = n % 3 !== 0;
    const client = { id: isMobile ? 'mobile-app' : 'web-shop' };
    const ua_family = isMobile ? 'okhttp' : ['Chrome', 'Firefox', 'Safari'][n % 3]!;
    // Ten users share a carrier's NAT; every third roams between two networks.
    const home = `198.51.${n % 12}.0/24`;
    const away = `203.0.${n % 9}.0/24`;
    const net = (network: string): NonNullable<Event['net']> => ({
      network,
      client_ip: network.replace('0/24', String(1 + (n % 200))),
      ua_family,
      ip_role: 'end_user',
      country: 'DE',
    });
    const common = {
      client,
      subject: { ref: exampleRef(`user ${n}`), type: 'user' },
      grant_ref: exampleRef(`grant ${n}`),
    } as const;
    const family_ref = exampleRef(`family ${n}`);
    let t = this.within(7_200);
    const uri = isMobile
      ? `http://127.0.0.1:${40_000 + this.within(9_999)}/cb`
      : 'https://shop.example.com/cb';
    this.add(t, { ...common, kind: 'authorization_requested', redirect_uri: uri, net: net(home) });
    const code = exampleRef(`code ${n}`);
    const redeemed = [{ role: 'consumed', type: 'code', ref: code }] as const;
    t += 2;
    this.add(t, {
      ...common,
      kind: 'code_redeemed',
      outcome: 'success',
      net: net(home),
      tokens: redeemed,
    });
    let refresh = exampleRef(`refresh ${n} 0`);
    let access = exampleRef(`access ${n} 0`);
    this.add(t, {
      ...common,
      kind: 'token_issued',
      outcome: 'success',
      grant_type: 'authorization_code',
      scopes_granted: ['openid', 'orders', 'profile'],
      net: net(home),
      tokens: [
        ...redeemed,
        { role: 'issued', type: 'refresh', ref: refresh, family_ref },
        { role: 'issued', type: 'access', ref: access, parent_ref: code, family_ref },
      ],
    });
    // A double submit of the callback page.
    if (this.chance(0.1))
      this.add(t + 1, {
        ...common,
        kind: 'code_redeemed',
        outcome: 'failure',
        net: net(home),
        tokens: redeemed,
      });
    for (let round = 1; round <= 4; round += 1) {
      const place = n % 3 === 1 && round % 2 === 0 ? away : home;
      for (let i = 0; i < 3; i += 1)
        this.call(t + 10 + i * 100, access, common, net(i === 2 && n % 3 === 1 ? away : place), n);
      t += 600;
      const next = exampleRef(`refresh ${n} ${round}`);
      const nextAccess = exampleRef(`access ${n} ${round}`);
      this.add(t, {
        ...common,
        kind: 'token_refreshed',
        outcome: 'success',
        grant_type: 'refresh_token',
        scopes_granted: round === 2 ? ['openid'] : ['openid', 'orders', 'profile'],
        net: net(place),
        tokens: [
          { role: 'consumed', type: 'refresh', ref: refresh, family_ref },
          { role: 'issued', type: 'refresh', ref: next, parent_ref: refresh, family_ref },
          { role: 'issued', type: 'access', ref: nextAccess, parent_ref: refresh, family_ref },
        ],
      });
      const retry = (after: number, from: string): void =>
        this.add(t + after, {
          ...common,
          kind: 'token_request_failed',
          outcome: 'failure',
          grant_type: 'refresh_token',
          error: { oauth_error: 'invalid_grant' },
          net: net(from),
          tokens: [{ role: 'presented', type: 'refresh', ref: refresh, family_ref }],
        });
      if (this.chance(0.15)) retry(this.within(20) / 10, place);
      if (this.chance(0.03)) {
        // The answer was lost: the user signs in again, what was issued is never used.
        retry(this.chance(0.5) ? 60 : 12, place);
        return;
      }
      refresh = next;
      access = nextAccess;
    }
    if (this.chance(0.3)) this.logout(t + 700, access, common, net(home), n);
    if (this.chance(0.05)) this.typingError(t, n, net(home));
  }

  /** The gateway sees the user; the resource server behind it sees the gateway. */
  call(t: number, access: string, common: Common, net: NonNullable<Event['net']>, n: number): void {
    const tokens = [{ role: 'presented', type: 'access', ref: access }] as const;
    const corr = { trace_id: `trace ${n} ${t}` };
    this.add(t, {
      ...common,
      kind: 'api_accessed',
      outcome: 'success',
      net,
      tokens,
      corr,
      source: { id: 'envoy', instance: 'gateway' },
    });
    this.add(t + 0.02, {
      ...common,
      kind: 'token_validated',
      outcome: 'success',
      tokens,
      corr,
      source: { id: 'otlp', instance: 'orders' },
      net: {
        network: '10.0.7.0/24',
        ua_family: 'envoy',
        ip_role: n % 2 === 0 ? 'proxy' : 'unknown',
      },
    });
  }

  /** Revocation, and one more call from a cache's point of view. */
  logout(
    t: number,
    access: string,
    common: Common,
    net: NonNullable<Event['net']>,
    n: number,
  ): void {
    this.add(t, {
      ...common,
      kind: 'token_revoked',
      outcome: 'success',
      net,
      tokens: [{ role: 'revoked', type: 'access', ref: access }],
    });
    this.add(t, { ...common, kind: 'grant_revoked', outcome: 'success', net });
    this.call(t + this.within(50), access, common, net, n);
  }

  /** A developer asks twice for a URI that is not registered yet. */
  typingError(t: number, n: number, net: NonNullable<Event['net']>): void {
    for (const i of [0, 1])
      this.add(t + i * 30 + n * 700, {
        kind: 'authorization_failed',
        outcome: 'failure',
        error: { code: 'invalid_redirect_uri' },
        client: { id: 'web-shop' },
        redirect_uri: 'https://shop.example.com/callback',
        net,
      });
  }

  /** A back end with several addresses that uses one client-credentials token. */
  backEnd(): void {
    for (let i = 0; i < 200; i += 1)
      this.add(i * 20, {
        kind: 'token_validated',
        outcome: 'success',
        client: { id: 'batch' },
        tokens: [{ role: 'presented', type: 'access', ref: exampleRef('batch token') }],
        net: {
          network: `192.0.${i % 4}.0/24`,
          ua_family: i % 2 === 0 ? 'node' : 'Go-http-client',
          ip_role: 'client_backend',
        },
      });
  }
}

it(`honest noise gives no finding of severity medium or more (seed ${SEED})`, async () => {
  const corpus = new Corpus(seededRandom(SEED));
  for (let n = 0; n < USERS; n += 1) corpus.user(n);
  corpus.backEnd();
  expect(corpus.events.length).toBeGreaterThan(3_500);
  await insertEvents(engine.store, corpus.events);
  const runner = await makeRunner(engine.store, TENANT, { clients: CLIENTS });
  await runner.drain();
  const { current } = await readFindings(engine.store, TENANT);
  const grave = current.filter((f) => !['info', 'low'].includes(String(f['severity'])));
  expect(grave).toEqual([]);
  const verdicts = new Set(current.map((f) => `${String(f['rule_id'])} ${String(f['verdict'])}`));
  expect([...verdicts].sort()).toEqual([
    'code_redeemed_twice retry',
    'refresh_token_reuse benign_race',
    'refresh_token_reuse lost_response',
  ]);
});
