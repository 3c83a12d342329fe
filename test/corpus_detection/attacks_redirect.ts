import { attackerNet, attackMoment, iso, type Attack, type Ground } from './attack.ts';
import { DAY_MS, MINUTE_MS } from './corpus.ts';
import { netOf, serverNet, type Net } from './people.ts';
import { ISSUER } from './sessions.ts';
import { victim } from './victim.ts';

const AS = { id: 'keycloak', instance: 'as-1' } as const;

/** A client with a redirect of its own, so that plants on one day stay apart. */
function target(ground: Ground): { id: string; host: string; at: number } {
  const { corpus, random } = ground;
  const name = `shop${corpus.ref().slice(0, 6)}`;
  const at = attackMoment(random);
  const host = `${name}.example`;
  ground.add(at - 90 * 86_400_000, {
    ...{ source: AS, kind: 'client_registered', outcome: 'success', client: { id: name } },
    ext: { redirect_uris: `https://${host}/cb` },
  });
  return { id: name, host, at };
}

const probing: Attack = {
  rule: 'redirect_probing',
  name: 'somebody tries which addresses a client accepts',
  times: 3,
  plant: (ground) => {
    const { id, at } = target(ground);
    const { random } = ground;
    const net = attackerNet(random, 'curl/8.5.0');
    const hosts = Array.from({ length: random.int(3, 8) }, (_, i) => `collect-${i}.invalid`);
    for (const [i, host] of hosts.entries())
      ground.add(at + i * 30_000, {
        ...{ source: AS, issuer: ISSUER, kind: 'authorization_failed', outcome: 'failure', net },
        ...{ client: { id }, error: { code: 'invalid_redirect_uri' } },
        redirect_uri: `https://${host}/cb`,
      });
    const redirect_uris = hosts.map((h) => `https://${h}/cb`);
    return [
      {
        ...{ entity: id, verdict: 'probing', severity: 'medium' },
        evidence: {
          requests: hosts.length,
          redirect_uris,
          redirect_uri_count: hosts.length,
          hosts,
          networks: [net.network],
        },
      },
    ];
  },
};

const lookalike: Attack = {
  rule: 'redirect_lookalike',
  name: 'a host one letter off gets a code',
  times: 3,
  plant: (ground) => {
    const { id, host, at } = target(ground);
    const { corpus, random } = ground;
    const net = attackerNet(random, 'curl/8.5.0');
    const uri = `https://${host.replace('shop', 'sh0p')}/cb`;
    ground.add(at, {
      ...{ source: AS, issuer: ISSUER, kind: 'code_issued', outcome: 'success', net },
      ...{ client: { id }, redirect_uri: uri },
      tokens: [{ role: 'issued', type: 'code', ref: corpus.ref() }],
    });
    return [
      {
        ...{ entity: id, verdict: 'code_sent', severity: 'critical' },
        evidence: {
          redirect_uris: [uri],
          tricks: ['confusable'],
          requests: 1,
          refused: 0,
          networks: [net.network],
        },
      },
    ];
  },
};

const takenOver: Attack = {
  rule: 'redirect_uri_changed',
  name: 'a taken-over administrator adds an address of his own, and signs in once to collect a code',
  times: 3,
  plant: (ground) => {
    const { id, host, at } = target(ground);
    const { corpus, random, people } = ground;
    const own = `https://${host}/cb`;
    const evil = `https://${id}-login.invalid/cb`;
    const admin = corpus.ref();
    const thief = attackerNet(random, 'Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Firefox/131.0');
    const code = (when: number, redirect_uri: string, net: Net): void =>
      ground.add(when, {
        ...{ source: AS, issuer: ISSUER, kind: 'code_issued', outcome: 'success', net },
        ...{ client: { id }, redirect_uri, response_type: 'code' },
        tokens: [{ role: 'issued', type: 'code', ref: corpus.ref() }],
      });
    const home = (when: number, i: number): Net => {
      const person = people[i];
      return person === undefined ? {} : netOf(corpus, person.home, person.laptop, when, 1);
    };
    for (let day = 12; day > 0; day -= 3)
      code(at - day * DAY_MS, own, home(at - day * DAY_MS, day));
    ground.add(at, {
      ...{ source: AS, kind: 'client_updated', outcome: 'success', client: { id }, net: thief },
      ...{ actor: { ref: admin, type: 'user' }, ext: { redirect_uris: `${own} ${evil}` } },
    });
    const collectedAt = at + random.int(1, 50) * MINUTE_MS;
    code(at + MINUTE_MS / 2, own, home(at, 12));
    code(collectedAt, evil, thief);
    return [
      {
        ...{ entity: id, verdict: 'new_site', severity: 'high' },
        evidence: {
          redirect_uris: [evil],
          changed_at: iso(at),
          changed_by: [admin],
          change_networks: [thief.network],
          code_networks: [thief.network],
          codes: 1,
        },
      },
    ];
  },
};

const wrongServer: Attack = {
  rule: 'mix_up',
  name: 'a client that knows two servers hands the code of one to the other, which keeps it',
  times: 3,
  plant: (ground) => {
    const { corpus, random } = ground;
    const v = victim(ground);
    const code = corpus.ref();
    const other = 'https://id.partner.example';
    const gapMs = random.int(1, 20) * 1_000;
    const net = serverNet(corpus, '198.18.199.12', 'node');
    ground.add(v.at, {
      ...{ ...v.common, kind: 'code_issued', outcome: 'success', net: v.net },
      tokens: [{ role: 'issued', type: 'code', ref: code }],
    });
    ground.add(v.at + gapMs, {
      ...{ source: { id: 'otlp', instance: 'partner' }, issuer: other, outcome: 'failure', net },
      ...{ kind: 'token_request_failed', client: { id: 'shop-at-partner' }, endpoint: 'token' },
      ...{ grant_type: 'authorization_code', error: { oauth_error: 'invalid_grant' } },
      tokens: [{ role: 'presented', type: 'code', ref: code }],
    });
    return [
      {
        ...{ entity: code, verdict: 'presented_elsewhere', severity: 'high' },
        evidence: {
          issued_by: ISSUER,
          presented_to: [other],
          client: v.client.id,
          presenting_clients: ['shop-at-partner'],
          presented_at: iso(v.at + gapMs),
          gap_ms: gapMs,
          uses: 1,
        },
      },
    ];
  },
};

const plainHttp: Attack = {
  rule: 'redirect_uri_risky',
  name: 'codes travel to an address without TLS that somebody registered for a test',
  times: 3,
  plant: (ground) => {
    const { id, host, at } = target(ground);
    const { corpus, random, people } = ground;
    const uri = `http://${host}/test/cb`;
    const sent = random.int(2, 5);
    const networks = new Set<string>();
    for (let i = 0; i < sent; i += 1) {
      const person = people[i];
      if (person === undefined) continue;
      const net = netOf(corpus, person.home, person.laptop, at, 1);
      networks.add(net.network ?? '');
      ground.add(at + i * MINUTE_MS, {
        ...{ source: AS, issuer: ISSUER, kind: 'code_issued', outcome: 'success', net },
        ...{ client: { id }, redirect_uri: uri, response_type: 'code' },
        tokens: [{ role: 'issued', type: 'code', ref: corpus.ref() }],
      });
    }
    return [
      {
        ...{ entity: id, verdict: 'used', severity: 'high' },
        evidence: {
          redirect_uris: [uri],
          redirect_uri_count: 1,
          traits: ['http'],
          registrations: 0,
          uses: sent,
          networks: [...networks].sort(),
        },
      },
    ];
  },
};

export const REDIRECT_ATTACKS: readonly Attack[] = [
  probing,
  lookalike,
  takenOver,
  wrongServer,
  plainHttp,
];
