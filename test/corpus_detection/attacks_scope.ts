import { attackerNet, attackMoment, iso, type Attack, type Ground } from './attack.ts';
import { clientsOf } from './clients.ts';
import { DAY_MS, HOUR_MS } from './corpus.ts';
import { netOf, serverNet, type Net } from './people.ts';
import { ISSUER } from './sessions.ts';

const AS = { id: 'keycloak', instance: 'as-1' } as const;

const scopeNotRegistered: Attack = {
  rule: 'scope_beyond_registration',
  name: 'tokens with a scope that was never registered for the client',
  times: 3,
  plant: ({ corpus, random, people, add }) => {
    // A client of its own, so that two plants on one day are not one episode.
    const id = `bought-${corpus.ref().slice(0, 8)}`;
    const at = attackMoment(random);
    const person = random.pick(people);
    const net = netOf(corpus, person.home, person.laptop, at, 1);
    const scope = ['openid', 'orders:read'];
    const excess = `admin:${random.pick(['users', 'keys', 'billing'])}`;
    add(at - 30 * 86_400_000, {
      ...{ source: AS, kind: 'client_registered', outcome: 'success', client: { id } },
      ext: { scope: scope.join(' ') },
    });
    const grants = random.int(2, 6);
    for (let i = 0; i < grants; i += 1)
      add(at + i * 60_000, {
        ...{ source: AS, issuer: ISSUER, kind: 'token_issued', outcome: 'success', net },
        ...{ client: { id }, subject: { ref: person.subject, type: 'user' } },
        ...{ grant_type: 'authorization_code', endpoint: 'token' },
        scopes_granted: [...scope, excess],
        tokens: [{ role: 'issued', type: 'access', ref: corpus.ref() }],
      });
    return [
      {
        ...{ entity: id, verdict: 'granted_beyond_registration', severity: 'high' },
        evidence: {
          excess_scopes: [excess],
          registered_scopes: scope,
          grant_types: ['authorization_code'],
          grants,
          subjects: 1,
        },
      },
    ];
  },
};

const wideningRefresh: Attack = {
  rule: 'scope_growth_on_refresh',
  name: 'a refresh asks for more than the user agreed to, and gets it',
  times: 3,
  plant: ({ corpus, random, people, add }) => {
    const person = random.pick(people);
    const client = random.pick(clientsOf('web'));
    const at = attackMoment(random);
    const net = attackerNet(random, 'curl/8.5.0');
    const grant_ref = corpus.ref();
    const family_ref = corpus.ref();
    const first = corpus.ref();
    const base = {
      ...{ source: AS, issuer: ISSUER, client: { id: client.id }, outcome: 'success' as const },
      ...{ subject: { ref: person.subject, type: 'user' as const }, grant_ref, net },
    };
    add(at, {
      ...{ ...base, kind: 'token_issued', grant_type: 'authorization_code' },
      scopes_granted: ['openid', 'profile'],
      tokens: [{ role: 'issued', type: 'refresh', ref: first, family_ref }],
    });
    const grownAt = at + random.int(300, 3_000) * 1_000;
    add(grownAt, {
      ...{ ...base, kind: 'token_refreshed', grant_type: 'refresh_token' },
      scopes_granted: ['openid', 'orders:write', 'profile'],
      tokens: [
        { role: 'consumed', type: 'refresh', ref: first, family_ref },
        { role: 'issued', type: 'refresh', ref: corpus.ref(), parent_ref: first, family_ref },
      ],
    });
    return [
      {
        ...{ entity: grant_ref, verdict: 'grown_on_refresh', severity: 'high' },
        evidence: {
          granted_at: iso(at),
          granted_scopes: ['openid', 'profile'],
          grown_at: iso(grownAt),
          excess_scopes: ['orders:write'],
          refreshes: 1,
        },
      },
    ];
  },
};

/** A client of its own, so that two plants on one day are not one episode. */
function ownClient(ground: Ground, what: string): { id: string; at: number } {
  return {
    id: `${what}-${ground.corpus.ref().slice(0, 8)}`,
    at: attackMoment(ground.random),
  };
}

const generousServer: Attack = {
  rule: 'unexpected_scope_grant',
  name: 'a changed mapping gives a job writing rights that it never asks for',
  times: 3,
  plant: (ground) => {
    const { corpus, random, add } = ground;
    const { id, at } = ownClient(ground, 'report');
    const net = serverNet(corpus, '198.18.199.9', 'node');
    const run = (when: number, scopes_granted: string[]): void =>
      add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'token_issued', outcome: 'success', net },
        ...{ client: { id }, subject: { ref: corpus.ref(), type: 'client' } },
        ...{ grant_type: 'client_credentials', endpoint: 'token', scopes_granted },
        scopes_requested: ['orders:read'],
        tokens: [{ role: 'issued', type: 'access', ref: corpus.ref() }],
      });
    const wrong = random.int(2, 5);
    run(at - HOUR_MS, ['orders:read']);
    for (let i = 0; i < wrong; i += 1) run(at + i * HOUR_MS, ['orders:read', 'orders:write']);
    return [
      {
        ...{ entity: id, verdict: 'unexpected_scope', severity: 'medium' },
        evidence: {
          excess_scopes: ['orders:write'],
          requested_scopes: ['orders:read'],
          grant_types: ['client_credentials'],
          grants: wrong,
          subjects: wrong,
        },
      },
    ];
  },
};

const wideningExchange: Attack = {
  rule: 'scope_growth_on_exchange',
  name: 'a service that was handed a narrow token makes itself a wide one, after honest exchanges',
  times: 3,
  plant: (ground) => {
    const { corpus, random, people, add } = ground;
    const at = attackMoment(random);
    const person = random.pick(people);
    const subject = { ref: person.subject, type: 'user' as const };
    const net = netOf(corpus, person.home, person.laptop, at, 1);
    const narrow = corpus.ref();
    const [own, other] = ['https://orders.example.com', 'https://stock.example.com'];
    const grownAt = at + random.int(60, 600) * 1_000;
    add(at, {
      ...{ source: AS, issuer: ISSUER, kind: 'token_issued', outcome: 'success', net, subject },
      ...{ client: { id: random.pick(clientsOf('spa')).id }, grant_type: 'authorization_code' },
      ...{ scopes_granted: ['openid', 'orders:read', 'stock:read'], audience: [own] },
      tokens: [{ role: 'issued', type: 'access', ref: narrow }],
    });
    const exchange = (when: number, scopes_granted: string[]): void =>
      add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'token_exchanged', outcome: 'success', subject },
        ...{ net: serverNet(corpus, '198.18.199.10', 'node'), client: { id: 'orders-bff' } },
        ...{ scopes_granted, audience: [other], endpoint: 'token' },
        tokens: [
          { role: 'subject', type: 'access', ref: narrow },
          { role: 'issued', type: 'access', ref: corpus.ref() },
        ],
      });
    exchange(at + 1_000, ['stock:read']);
    exchange(grownAt, ['stock:read', 'stock:write']);
    exchange(grownAt + 60_000, ['stock:admin']);
    return [
      {
        ...{ entity: narrow, verdict: 'scope_grown', severity: 'high' },
        evidence: {
          original_scopes: ['openid', 'orders:read', 'stock:read'],
          original_audience: [own],
          excess_scopes: ['stock:admin', 'stock:write'],
          excess_audience: [],
          exchanged_by: ['orders-bff'],
          grown_at: iso(grownAt),
          exchanges: 2,
        },
      },
    ];
  },
};

const openRoute: Attack = {
  rule: 'scope_used_beyond_token',
  name: 'the UserInfo endpoint answers tokens that were never meant for identity',
  times: 3,
  plant: (ground) => {
    const { corpus, random, people, add } = ground;
    const { id, at } = ownClient(ground, 'crawler');
    const subjects = random.int(3, 7);
    const ask = (when: number, scopes_granted: string[], subject: string): void =>
      add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'userinfo_accessed', outcome: 'success' },
        ...{ client: { id }, subject: { ref: subject, type: 'user' }, scopes_granted },
        ...{ net: attackerNet(random, 'curl/8.5.0'), http: { method: 'GET', route: '/userinfo' } },
        tokens: [{ role: 'presented', type: 'access', ref: corpus.ref() }],
      });
    ask(at - HOUR_MS, ['openid'], people[0]?.subject ?? '');
    for (let i = 0; i < subjects; i += 1)
      ask(at + i * 20_000, ['orders:read'], people[i + 1]?.subject ?? '');
    return [
      {
        ...{ entity: id, verdict: 'accepted_without_scope', severity: 'high' },
        evidence: {
          routes: ['GET userinfo'],
          resources: [],
          needed_scopes: ['openid'],
          token_scopes: ['orders:read'],
          calls: subjects,
          subjects,
        },
      },
    ];
  },
};

const keptElevation: Attack = {
  rule: 'elevation_outlives_window',
  name: "an administrator's token goes on after the hour that was approved",
  times: 3,
  plant: (ground) => {
    const { corpus, random, people, add } = ground;
    const at = attackMoment(random);
    const person = random.pick(people);
    const net = netOf(corpus, person.office, person.laptop, at, 1);
    const [grant_ref, token] = [corpus.ref(), corpus.ref()];
    const client = { id: 'ops-console' };
    const subject = { ref: person.subject, type: 'user' as const };
    const base = { source: AS, issuer: ISSUER, outcome: 'success' as const, client, subject };
    const elevated = ['cluster:admin'];
    const use = (when: number): void =>
      add(when, {
        ...{ ...base, kind: 'api_accessed', net, audience: ['https://cluster.example.com'] },
        ...{ source: { id: 'envoy', instance: 'gateway-1' }, scopes_granted: elevated },
        tokens: [{ role: 'presented', type: 'access', ref: token }],
      });
    add(at, { ...base, kind: 'elevation_granted', grant_ref, net, scopes_granted: elevated });
    add(at + 5_000, {
      ...{ ...base, kind: 'token_issued', grant_ref, net, grant_type: 'authorization_code' },
      scopes_granted: ['openid', ...elevated],
      tokens: [{ role: 'issued', type: 'access', ref: token }],
    });
    add(at + HOUR_MS, { ...base, kind: 'elevation_ended', grant_ref, net });
    use(at + HOUR_MS / 2);
    // Within the time that clocks and caches may take.
    use(at + HOUR_MS + 40_000);
    const late = at + HOUR_MS + random.int(70, 900) * 1_000;
    use(late);
    use(late + 60_000);
    return [
      {
        ...{ entity: grant_ref, verdict: 'used_past_end', severity: 'high' },
        evidence: {
          elevated_scopes: elevated,
          granted_at: iso(at),
          ended_at: iso(at + HOUR_MS),
          end_told_by: 'event',
          first_use_at: iso(late),
          overrun_ms: late - at - HOUR_MS,
          uses: 2,
          clients: ['ops-console'],
        },
      },
    ];
  },
};

const suddenAdmin: Attack = {
  rule: 'first_privileged_scope',
  name: 'a client of weeks gets an administration scope for one of its users',
  times: 3,
  plant: (ground) => {
    const { corpus, random, people, add } = ground;
    const { id, at } = ownClient(ground, 'crm');
    const grant = (when: number, scopes_granted: string[], i: number): string => {
      const person = people[i % people.length];
      if (person === undefined) return '';
      const net = netOf(corpus, person.home, person.laptop, when, 1);
      add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'token_issued', outcome: 'success', net },
        ...{ client: { id }, subject: { ref: person.subject, type: 'user' } },
        ...{ grant_type: 'authorization_code', endpoint: 'token', scopes_granted },
        tokens: [{ role: 'issued', type: 'access', ref: corpus.ref() }],
      });
      return net.network ?? '';
    };
    const scope = `users:${random.pick(['admin', 'manage', 'impersonate'])}`;
    for (let day = 20; day > 0; day -= 4) grant(at - day * DAY_MS, ['openid', 'orders:read'], day);
    grant(at - HOUR_MS, ['openid', 'orders:read'], 3);
    const network = grant(at, ['openid', 'orders:read', scope], 3);
    grant(at + HOUR_MS, ['openid', 'orders:read'], 5);
    return [
      {
        ...{ entity: id, verdict: 'first_for_client', severity: 'medium' },
        evidence: {
          scopes: [scope],
          grants: 1,
          subjects: 1,
          grant_types: ['authorization_code'],
          networks: [network],
        },
      },
    ];
  },
};

const forgottenJob: Attack = {
  rule: 'dormant_client_returns',
  name: 'the secret of a job that nobody has run for months turns up, and asks for everything',
  times: 3,
  plant: (ground) => {
    const { corpus, random, add } = ground;
    const { id, at } = ownClient(ground, 'migration');
    const last = at - random.int(61, 150) * DAY_MS;
    const thief = attackerNet(random, 'python-requests/2.32.3');
    const run = (when: number, net: Net, scopes_granted: string[]): void =>
      add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'token_issued', outcome: 'success', net },
        ...{ client: { id }, grant_type: 'client_credentials', endpoint: 'token', scopes_granted },
        tokens: [{ role: 'issued', type: 'access', ref: corpus.ref() }],
      });
    run(last - DAY_MS, serverNet(corpus, '198.18.199.11', 'node'), ['jobs:run']);
    run(last, serverNet(corpus, '198.18.199.11', 'node'), ['jobs:run']);
    run(at, thief, ['jobs:run']);
    run(at + 60_000, thief, ['admin', 'jobs:run']);
    run(at + 120_000, thief, ['admin', 'tenant:admin']);
    return [
      {
        ...{ entity: id, verdict: 'privileged_after_dormancy', severity: 'medium' },
        evidence: {
          last_used: iso(last),
          returned_at: iso(at),
          dormant_days: (at - last) / DAY_MS,
          scopes: ['admin', 'tenant:admin'],
          grants: 2,
          networks: [thief.network],
        },
      },
    ];
  },
};

export const SCOPE_ATTACKS: readonly Attack[] = [
  scopeNotRegistered,
  wideningRefresh,
  generousServer,
  wideningExchange,
  openRoute,
  keptElevation,
  suddenAdmin,
  forgottenJob,
];
