import { attackerNet, attackMoment, iso, type Attack } from './attack.ts';
import { clientsOf } from './clients.ts';
import { netOf } from './people.ts';
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

export const SCOPE_ATTACKS: readonly Attack[] = [scopeNotRegistered, wideningRefresh];
