import { attackerNet, attackMoment, iso, type Attack, type Ground } from './attack.ts';
import { clientsOf } from './clients.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, type Happening } from './corpus.ts';
import { netOf, serverNet, type Net } from './people.ts';
import { ISSUER } from './sessions.ts';

const AS = { id: 'keycloak', instance: 'as-1' } as const;
const CURL = 'curl/8.5.0';

/** A client that nobody else in the corpus uses, and its own servers. */
function ownClient(ground: Ground, name: string): { id: string; net: Net; server: string } {
  const server = `198.18.${ground.random.int(200, 230)}.${ground.random.int(1, 250)}`;
  const net = serverNet(ground.corpus, server, 'node');
  return { id: `${name}-${ground.corpus.ref().slice(0, 8)}`, net, server: net.network ?? '' };
}

/** What the server says of a token that a client got for itself. */
const forItself = (id: string, net: Net): Happening => ({
  ...{ source: AS, issuer: ISSUER, kind: 'token_issued', outcome: 'success', net },
  ...{ client: { id, auth_method: 'client_secret_basic' }, endpoint: 'token' },
  grant_type: 'client_credentials',
});

const guessedSecret: Attack = {
  rule: 'client_secret_guessing',
  name: 'secrets of a job are tried from a rented server, while the job goes on working',
  times: 3,
  plant: (ground) => {
    const { random } = ground;
    const at = attackMoment(random);
    const job = ownClient(ground, 'ledger');
    const thief = attackerNet(random, CURL);
    const tries = random.int(24, 50);
    for (let h = -6; h < 3; h += 1) ground.add(at + h * HOUR_MS, forItself(job.id, job.net));
    for (let i = 0; i < tries; i += 1)
      ground.add(at + i * 40_000, {
        ...{ source: AS, issuer: ISSUER, kind: 'token_request_failed', outcome: 'failure' },
        ...{ client: { id: job.id, auth_method: 'client_secret_basic' }, endpoint: 'token' },
        ...{ grant_type: 'client_credentials', error: { oauth_error: 'invalid_client' } },
        net: thief,
      });
    return [
      {
        ...{ entity: job.id, verdict: 'guessing', severity: 'medium' },
        evidence: {
          failures: tries,
          networks: [thief.network],
          network_count: 1,
          succeeded_at: '',
          secret_changed: false,
        },
      },
    ];
  },
};

const stolenSecret: Attack = {
  rule: 'client_new_network',
  name: 'the secret of a job that has run in one data centre for weeks is used elsewhere',
  times: 3,
  plant: (ground) => {
    const { random } = ground;
    const at = attackMoment(random);
    const job = ownClient(ground, 'report');
    const thief = attackerNet(random, CURL);
    const first = at - 20 * DAY_MS;
    for (let day = -20; day < 1; day += 1)
      ground.add(at + day * DAY_MS, forItself(job.id, job.net));
    ground.add(at + 10 * MINUTE_MS, forItself(job.id, thief));
    ground.add(at + 50 * MINUTE_MS, forItself(job.id, thief));
    return [
      {
        ...{ entity: job.id, verdict: 'new_network', severity: 'medium' },
        evidence: {
          new_networks: [thief.network],
          known_networks: [job.server],
          known_network_count: 1,
          in_use_since: iso(first),
          countries: [thief.country],
          user_agents: ['curl'],
        },
      },
    ];
  },
};

const spray: Attack = {
  rule: 'credential_spray',
  name: 'one password is tried on many people from one server, and fits one of them',
  times: 3,
  plant: (ground) => {
    const { random, people } = ground;
    const at = Math.floor(attackMoment(random) / MINUTE_MS) * MINUTE_MS;
    const thief = attackerNet(random, CURL);
    const from = random.int(0, people.length - 20);
    const subjects = people.slice(from, from + 18).map((p) => p.subject);
    const client = { id: 'web-1' };
    const login = (when: number, ref: string, isRight: boolean): void =>
      ground.add(when, {
        ...{ source: AS, issuer: ISSUER, net: thief, client, subject: { ref, type: 'user' } },
        ...(isRight
          ? { kind: 'login', outcome: 'success' }
          : {
              ...{ kind: 'login_failed', outcome: 'failure' },
              error: { code: 'invalid_user_credentials' },
            }),
      });
    for (const [i, ref] of subjects.entries()) login(at + i * 20_000, ref, false);
    const lost = subjects[random.int(0, 17)] ?? '';
    login(at + 350_000, lost, true);
    return [
      {
        ...{ entity: thief.network, verdict: 'broken_in', severity: 'critical' },
        evidence: {
          tries: 18,
          subjects_at_once: 18,
          successes: 1,
          broken_in: [lost],
          clients: ['web-1'],
          user_agents: ['curl'],
          ...{ sources_at_once: 0, sources: [], broken_in_from: [] },
        },
      },
    ];
  },
};

const registrations: Attack = {
  rule: 'registration_burst',
  name: 'an open registration endpoint is filled with clients of one origin',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const at = attackMoment(random);
    const thief = attackerNet(random, CURL);
    const issuer = `https://signup-${corpus.ref().slice(0, 8)}.example`;
    const ids = Array.from({ length: 17 }, () => `app-${corpus.ref().slice(0, 13)}`);
    for (const [i, id] of ids.entries())
      ground.add(at + i * 2 * MINUTE_MS, {
        ...{ source: AS, issuer, kind: 'client_registered', outcome: 'success', client: { id } },
        ...{ endpoint: 'registration', net: thief },
        ext: { redirect_uris: 'https://collect.invalid/cb' },
      });
    return [
      {
        ...{ entity: issuer, verdict: 'one_network', severity: 'high' },
        evidence: {
          registrations: ids.length,
          clients: [...ids].sort(),
          networks: [thief.network],
          network_count: 1,
          redirect_hosts: ['collect.invalid'],
        },
      },
    ];
  },
};

const consents: Attack = {
  rule: 'consent_phishing_burst',
  name: 'a client of two days asks a department for lasting access, and six people say yes',
  times: 3,
  plant: (ground) => {
    const { corpus, random, people } = ground;
    const at = attackMoment(random);
    const id = `calendar-${corpus.ref().slice(0, 8)}`;
    const born = at - 2 * DAY_MS;
    ground.add(born, {
      ...{ source: AS, issuer: ISSUER, kind: 'client_registered', outcome: 'success' },
      client: { id },
    });
    const from = random.int(0, people.length - 7);
    for (const [i, person] of people.slice(from, from + 6).entries()) {
      const when = at + i * 4 * MINUTE_MS;
      ground.add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'consent_granted', outcome: 'success' },
        ...{ client: { id }, subject: { ref: person.subject, type: 'user' } },
        net: netOf(corpus, person.office, person.laptop, when, i),
        scopes_granted: ['openid', 'profile', 'offline_access'],
      });
    }
    return [
      {
        ...{ entity: id, verdict: 'risky_scopes', severity: 'high' },
        evidence: {
          consents: 6,
          subjects_at_once: 6,
          client_since: iso(born),
          scopes: ['offline_access', 'openid', 'profile'],
          risky_scopes: ['offline_access'],
        },
      },
    ];
  },
};

const deviceCode: Attack = {
  rule: 'device_code_phishing',
  name: 'somebody types the code of a stranger’s device, who gets the tokens abroad',
  times: 3,
  plant: (ground) => {
    const { corpus, random, people } = ground;
    const person = random.pick(people);
    const subject = corpus.ref();
    const at = attackMoment(random);
    const thief = attackerNet(random, CURL);
    const ref = corpus.ref();
    const approved = at + random.int(60, 600) * 1_000;
    const home = netOf(corpus, person.home, person.phone, approved, 0);
    const common = {
      source: AS,
      issuer: ISSUER,
      client: { id: 'tv-0' },
      outcome: 'success',
    } as const;
    ground.add(at, {
      ...{ ...common, kind: 'device_authorization_requested', net: thief },
      tokens: [{ role: 'issued', type: 'device_code', ref }],
    });
    ground.add(approved, {
      ...{ ...common, kind: 'device_authorized', net: home },
      subject: { ref: subject, type: 'user' },
      tokens: [{ role: 'subject', type: 'device_code', ref }],
    });
    ground.add(approved + 4_000, {
      ...{ ...common, kind: 'token_issued', net: thief, endpoint: 'token' },
      ...{ grant_type: 'urn:ietf:params:oauth:grant-type:device_code' },
      subject: { ref: subject, type: 'user' },
      tokens: [
        { role: 'consumed', type: 'device_code', ref },
        { role: 'issued', type: 'access', ref: corpus.ref() },
      ],
    });
    return [
      {
        ...{ entity: ref, verdict: 'phishing', severity: 'high' },
        evidence: {
          client_id: 'tv-0',
          subject_ref: subject,
          approved_at: iso(approved),
          approved_network: home.network ?? '',
          approved_country: home.country ?? '',
          device_networks: [thief.network],
          device_countries: [thief.country],
          tokens_issued: true,
        },
      },
    ];
  },
};

const travel: Attack = {
  rule: 'impossible_travel',
  name: 'a phished password is used on the other side of the world an hour after its owner signed in',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const at = attackMoment(random);
    const ref = corpus.ref();
    const signIn = (when: number, net: Net): void =>
      ground.add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'login', outcome: 'success', net },
        ...{ client: { id: 'web-2' }, subject: { ref, type: 'user' } },
      });
    const near = {
      asn: 64_990,
      network: 'AS64990',
      country: 'DE',
      latitude: 52.5,
      longitude: 13.4,
    };
    const far = {
      asn: 64_991,
      network: 'AS64991',
      country: 'AU',
      latitude: -33.9,
      longitude: 151.2,
    };
    signIn(at, { ...near, client_ip: '203.0.113.20', ip_role: 'end_user' });
    signIn(at + HOUR_MS, { ...far, client_ip: '203.0.113.21', ip_role: 'end_user' });
    const end = (when: number, { network, country }: typeof near) => ({
      ...{ at: iso(when), network, country, client_id: 'web-2' },
    });
    return [
      {
        ...{ entity: ref, verdict: 'impossible_travel', severity: 'medium' },
        evidence: {
          from: end(at, near),
          to: end(at + HOUR_MS, far),
          distance_km: 16_097,
          speed_kmh: 16_097,
          seconds: 3_600,
          hops: 1,
        },
      },
    ];
  },
};

const exportedKey: Attack = {
  rule: 'secret_or_key_exposed',
  name: 'an administrator’s session is used to take a signing key out of its store',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const at = attackMoment(random);
    const thief = attackerNet(random, CURL);
    const [kid, admin] = [`sign-${corpus.ref().slice(0, 8)}`, corpus.ref()];
    const store = `vault/transit-${kid}`;
    for (const [i, operation] of ['Sign', 'Export', 'Sign'].entries())
      ground.add(at + i * MINUTE_MS, {
        ...{ source: { id: 'vault', instance: 'vault-1' }, kind: 'key_used', outcome: 'success' },
        ...{ actor: { ref: admin, type: 'user' }, key: { kid, store, operation }, net: thief },
      });
    return [
      {
        ...{ entity: kid, verdict: 'exported', severity: 'high' },
        evidence: {
          operations: ['Export'],
          stores: [store],
          actors: [admin],
          networks: [thief.network],
        },
      },
    ];
  },
};

const passwordGrant: Attack = {
  rule: 'weak_grant_used',
  name: 'a phishing kit turns passwords into tokens by a grant that an old client still has',
  times: 3,
  plant: (ground) => {
    const { random, people } = ground;
    const at = attackMoment(random);
    const { id } = ownClient(ground, 'old-cli');
    const thief = attackerNet(random, CURL);
    const tokens = random.int(2, 6);
    for (let i = 0; i < tokens; i += 1)
      ground.add(at + i * MINUTE_MS, {
        ...{ ...forItself(id, thief), grant_type: 'password' },
        subject: { ref: people[i]?.subject ?? '', type: 'user' },
      });
    return [
      {
        ...{ entity: id, verdict: 'used', severity: 'medium' },
        evidence: {
          grants: ['password'],
          response_types: [],
          tokens_issued: tokens,
          networks: [thief.network],
        },
      },
    ];
  },
};

const downgrade: Attack = {
  rule: 'pkce_missing_or_downgraded',
  name: 'a request of a client that always used S256 is rewritten without a challenge',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const at = attackMoment(random);
    const { id } = ownClient(ground, 'store-front');
    const [first] = clientsOf('web');
    const thief = attackerNet(random, CURL);
    const flow = (when: number, pkce: 'S256' | 'none', net: Net): void =>
      ground.add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'code_issued', outcome: 'success', net, pkce },
        ...{ client: { id, auth_method: 'client_secret_basic' }, response_type: 'code' },
        redirect_uri: first?.redirectUris[0] ?? '',
        tokens: [{ role: 'issued', type: 'code', ref: corpus.ref() }],
      });
    const since = at - 5 * DAY_MS;
    for (const [i, person] of ground.people.slice(0, 5).entries()) {
      const when = since + i * DAY_MS;
      flow(when, 'S256', netOf(corpus, person.home, person.laptop, when, i));
    }
    flow(at, 'none', thief);
    return [
      {
        ...{ entity: id, verdict: 'downgraded', severity: 'high' },
        evidence: {
          methods: ['none'],
          s256_since: iso(since),
          public_client: false,
          networks: [thief.network],
        },
      },
    ];
  },
};

export const CLIENT_ATTACKS: readonly Attack[] = [
  guessedSecret,
  stolenSecret,
  spray,
  registrations,
  consents,
  deviceCode,
  travel,
  exportedKey,
  passwordGrant,
  downgrade,
];
