import { attackerNet, attackMoment, type Attack, type Ground } from './attack.ts';
import { ISSUER } from './sessions.ts';

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

export const REDIRECT_ATTACKS: readonly Attack[] = [probing, lookalike];
