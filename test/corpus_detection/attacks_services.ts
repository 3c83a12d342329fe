import { attackerNet, attackMoment, iso, type Attack, type Ground } from './attack.ts';
import { DAY_MS, MINUTE_MS, ns, type Happening } from './corpus.ts';
import { netOf, type Net } from './people.ts';
import { ISSUER } from './sessions.ts';

const CURL = 'curl/8.5.0';

/** A service of its own, one instance of it, and the start of a minute. */
function service(ground: Ground, name: string): { id: string; instance: string; at: number } {
  const id = `${name}-${ground.corpus.ref().slice(0, 8)}`;
  const at = Math.floor(attackMoment(ground.random) / MINUTE_MS) * MINUTE_MS;
  return { id, instance: `${id}/pod-1`, at };
}

/** What a resource server tells through OpenTelemetry. */
const told = (instance: string, more: Partial<Happening>): Happening => ({
  ...{ source: { id: 'otlp', instance }, kind: 'token_validated', outcome: 'success' },
  ...more,
});

function somebody(ground: Ground, atMs: number, i: number): Net {
  const person = ground.people[i % ground.people.length];
  return person === undefined ? {} : netOf(ground.corpus, person.home, person.laptop, atMs, i);
}

const outage: Attack = {
  rule: 'introspection_outage',
  name: 'the introspection endpoint is flooded until an API can no longer tell good tokens from bad',
  times: 3,
  plant: (ground) => {
    const { id, instance, at } = service(ground, 'billing');
    const good = ground.random.int(4, 9);
    const client = { id: 'web-0' };
    for (let i = 0; i < good; i += 1)
      ground.add(at + i * 5_000, told(instance, { client, net: somebody(ground, at, i) }));
    for (let i = 0; i < 12; i += 1)
      ground.add(at + i * 3_000 + 1_000, {
        ...told(instance, { kind: 'token_rejected', outcome: 'failure', client }),
        error: { code: 'validation_unavailable' },
        net: somebody(ground, at, i),
      });
    const calls = good + 12;
    return [
      {
        ...{ entity: id, verdict: 'outage', severity: 'high' },
        evidence: {
          channels: ['validation'],
          worst_channel: 'validation',
          worst_until: iso(at + MINUTE_MS),
          errors: 12,
          calls,
          share: Math.round((12 / calls) * 1_000) / 1_000,
          minutes: 1,
          error_codes: ['validation_unavailable'],
          instances: [instance],
          callers: ['web-0'],
        },
      },
    ];
  },
};

const slowClock: Attack = {
  rule: 'clock_skew',
  name: 'a host whose time was turned back refuses fresh tokens of everybody',
  times: 3,
  plant: (ground) => {
    const { instance, at } = service(ground, 'stock');
    const each = ground.random.int(7, 9);
    for (let i = 0; i < each * 3; i += 1)
      ground.add(at + i * 2_000, {
        ...told(instance, { kind: 'token_rejected', outcome: 'failure' }),
        ...{ client: { id: `web-${i % 3}` }, error: { code: 'not_yet_valid' } },
        net: somebody(ground, at, i),
      });
    return [
      {
        ...{ entity: instance, verdict: 'host_clock', severity: 'medium' },
        evidence: {
          direction: 'early',
          failures: each * 3,
          baseline: 0,
          worst_until: iso(at + MINUTE_MS),
          minutes: 1,
          callers: ['web-0', 'web-1', 'web-2'],
          top_caller_share: 0.333,
        },
      },
    ];
  },
};

const failOpen: Attack = {
  rule: 'validation_fail_open',
  name: 'calls with made-up tokens are served while the key set is out of reach',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const { id, instance, at } = service(ground, 'payments');
    const thief = attackerNet(random, CURL);
    const calls = random.int(2, 6);
    for (let i = 0; i < calls; i += 1) {
      const common = { net: thief, corr: { trace_id: corpus.ref().replaceAll('-', '') } };
      ground.add(at + i * 5_000, {
        ...told(instance, { kind: 'token_rejected', outcome: 'failure', ...common }),
        error: { code: 'jwks_remote_fetch_is_failed' },
      });
      ground.add(at + i * 5_000 + 80, {
        ...told(instance, { kind: 'api_accessed', ...common }),
        http: { method: 'GET', route: '/payments/{id}', status: 200 },
      });
    }
    return [
      {
        ...{ entity: id, verdict: 'open_on_outage', severity: 'critical' },
        evidence: {
          calls,
          minutes: 1,
          routes: ['/payments/{id}'],
          error_codes: ['jwks_remote_fetch_is_failed'],
          instances: [instance],
        },
      },
    ];
  },
};

const storm: Attack = {
  rule: 'token_endpoint_storm',
  name: 'one network floods the token endpoint under the names of three clients',
  times: 3,
  plant: (ground) => {
    const { random } = ground;
    const { instance, id, at } = service(ground, 'login');
    const thief = attackerNet(random, CURL);
    const honest = random.int(5, 20);
    const request = { source: { id: 'keycloak', instance }, endpoint: 'token' } as const;
    for (let i = 0; i < honest; i += 1)
      ground.add(at + i * 2_000, {
        ...{ ...request, kind: 'token_refreshed', outcome: 'success', client: { id: 'web-3' } },
        net: somebody(ground, at, i),
      });
    for (let i = 0; i < 30; i += 1)
      ground.add(at + i * 1_500, {
        ...{ ...request, kind: 'token_request_failed', outcome: 'failure', http: { status: 429 } },
        ...{ client: { id: `spa-${i % 3}` }, net: thief },
      });
    const requests = honest + 30;
    return [
      {
        ...{ entity: id, verdict: 'one_network', severity: 'medium' },
        evidence: {
          limited: 30,
          requests,
          share: Math.round((30 / requests) * 1_000) / 1_000,
          worst_until: iso(at + MINUTE_MS),
          minutes: 1,
          clients: ['spa-0', 'spa-1', 'spa-2'],
          top_client_share: 0.333,
          networks: [thief.network],
          top_network_share: 1,
        },
      },
    ];
  },
};

const unsigned: Attack = {
  rule: 'key_or_alg_forgery',
  name: 'tokens without a signature pass at a service that believes their header',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const { id, instance, at } = service(ground, 'ledger');
    const thief = attackerNet(random, CURL);
    const forged = random.int(1, 4);
    for (let i = 0; i < forged; i += 1)
      ground.add(at + i * MINUTE_MS, {
        ...told(instance, { issuer: ISSUER, net: thief }),
        tokens: [{ role: 'presented', type: 'access', ref: corpus.ref(), alg: 'none' }],
      });
    return [
      {
        ...{ entity: id, verdict: 'none_accepted', severity: 'critical' },
        evidence: {
          accepted: forged,
          refused: 0,
          algorithms: ['none'],
          keys: [],
          codes: {},
          networks: [thief.network],
        },
      },
    ];
  },
};

const wrongAudience: Attack = {
  rule: 'audience_or_issuer_mismatch',
  name: 'a token that one API was given is sent on to another, which takes it',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const { id, instance, at } = service(ground, 'payroll');
    const thief = attackerNet(random, CURL);
    const uses = random.int(1, 5);
    const [own, other] = [`https://${id}.example`, 'https://newsletter.example'];
    const ref = corpus.ref();
    for (let i = 0; i < uses; i += 1)
      ground.add(at + i * MINUTE_MS, {
        ...told(instance, { issuer: ISSUER, net: thief, client: { id: 'web-4' } }),
        ...{ audience: [other], resource: [own] },
        tokens: [{ role: 'presented', type: 'access', ref }],
      });
    return [
      {
        ...{ entity: id, verdict: 'audience_accepted', severity: 'high' },
        evidence: {
          accepted: uses,
          refused: 0,
          codes: {},
          issuers: [ISSUER],
          audiences: [other],
          resources: [own],
          clients: ['web-4'],
          networks: [thief.network],
        },
      },
    ];
  },
};

const longLife: Attack = {
  rule: 'token_lifetime_anomaly',
  name: 'a changed setting gives a client whose tokens lived ten minutes one for a day',
  times: 3,
  plant: (ground) => {
    const { corpus } = ground;
    const { id, at } = service(ground, 'kiosk');
    const issue = (when: number, lifeS: number): void =>
      ground.add(when, {
        ...{ source: { id: 'keycloak', instance: 'as-1' }, kind: 'token_issued' },
        ...{ outcome: 'success', issuer: ISSUER, client: { id }, endpoint: 'token' },
        tokens: [
          {
            ...{ role: 'issued', type: 'access', ref: corpus.ref(), ref_kind: 'jti' },
            ...{ issued_at: ns(when), expires_at: ns(when + lifeS * 1_000) },
          },
        ],
      });
    const learnt = 120;
    for (let i = 0; i < learnt; i += 1) issue(at - 5 * DAY_MS + i * 20 * MINUTE_MS, 600);
    issue(at, 86_400);
    return [
      {
        ...{ entity: id, verdict: 'longer_than_usual', severity: 'medium' },
        evidence: {
          longest_s: 86_400,
          tokens: 1,
          usual_p99_s: 600,
          learnt_tokens: learnt,
          policy_s: null,
          not_issued: 0,
        },
      },
    ];
  },
};

const forgotten: Attack = {
  rule: 'stale_client',
  name: 'a client with administration rights that nobody has used for months waits to be found',
  times: 3,
  plant: (ground) => {
    const { id, at } = service(ground, 'migration');
    const registeredAt = at - 150 * DAY_MS;
    const usedAt = at - 120 * DAY_MS;
    const common = { source: { id: 'keycloak', instance: 'as-1' }, issuer: ISSUER, client: { id } };
    ground.add(registeredAt, {
      ...{ ...common, kind: 'client_registered', outcome: 'success' },
      ext: { scope: 'orders:read users:admin', token_endpoint_auth_method: 'client_secret_post' },
    });
    ground.add(usedAt, {
      ...{ ...common, kind: 'token_issued', outcome: 'success' },
      grant_type: 'client_credentials',
    });
    return [
      {
        ...{ entity: id, verdict: 'unused', severity: 'info' },
        evidence: {
          last_used: iso(usedAt),
          registration_changed: iso(registeredAt),
          auth_method: 'client_secret_post',
          scopes: 2,
          privileged_scopes: ['users:admin'],
        },
      },
    ];
  },
};

export const SERVICE_ATTACKS: readonly Attack[] = [
  outage,
  slowClock,
  failOpen,
  storm,
  unsigned,
  wrongAudience,
  longLife,
  forgotten,
];
