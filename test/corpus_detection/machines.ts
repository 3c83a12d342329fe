import type { PartialToken } from '../../model/complete_event.ts';
import { authMethodOf, clientsOf, EXCHANGER, type ClientSpec } from './clients.ts';
import { HOUR_MS, MINUTE_MS, ns, type Corpus, type Happening } from './corpus.ts';
import { netOf, serverNet, type Net, type Person } from './people.ts';
import { API, deployAt, ISSUER, kidAt } from './sessions.ts';

const AS = { id: 'keycloak', instance: 'as-1' } as const;
const STOCK = 'https://stock.example.com';

function ofClient(client: ClientSpec): Pick<Happening, 'client' | 'source' | 'issuer' | 'subject'> {
  return {
    ...{ client: { id: client.id, auth_method: authMethodOf(client) }, source: AS, issuer: ISSUER },
    subject: { ref: '', type: 'client' },
  };
}

/** One run of a job: a token by client credentials (RFC 6749 section 4.4), used while it lives. */
export function jobRun(corpus: Corpus, client: ClientSpec, startMs: number): void {
  const { random } = corpus;
  const net = serverNet(corpus, random.pick(client.servers), 'Go-http-client/2.0');
  issueAndUse(corpus, client, startMs, net, random.int(2, 6));
}

/** A build on a rented runner: a new address each time. */
export function ciRun(corpus: Corpus, client: ClientSpec, startMs: number): void {
  const { random } = corpus;
  const address = `198.19.${random.int(0, 250)}.${random.int(1, 250)}`;
  const net = serverNet(corpus, address, 'curl/8.5.0');
  if (corpus.networkForm === 'asn') {
    net.asn = 64_610 + random.int(0, 9);
    net.network = `AS${net.asn}`;
  }
  issueAndUse(corpus, client, startMs, net, 1);
}

function issueAndUse(
  corpus: Corpus,
  client: ClientSpec,
  startMs: number,
  net: Net,
  calls: number,
): void {
  const { random } = corpus;
  const ref = corpus.ref();
  const times = { issued_at: ns(startMs), expires_at: ns(startMs + client.lifeS * 1_000) };
  const kid = kidAt(startMs);
  const scopes_granted = [...client.scopes];
  const common = { grant_type: 'client_credentials', endpoint: 'token', net } as const;
  if (random.chance(0.01)) {
    corpus.note('server busy, request retried');
    corpus.add(startMs - 900, {
      ...{ ...ofClient(client), ...common, kind: 'token_request_failed', outcome: 'failure' },
      ...{ error: { code: 'server_error' }, http: { status: 503 } },
    });
  }
  corpus.add(startMs, {
    ...{ ...ofClient(client), ...common, kind: 'token_issued', outcome: 'success' },
    ...{ scopes_requested: scopes_granted, scopes_granted, audience: [API] },
    tokens: [{ role: 'issued', type: 'access', ref, ref_kind: 'jti', ...times, kid, alg: 'RS256' }],
  });
  const gapMs = Math.min(60_000, (client.lifeS * 1_000) / (calls + 1));
  for (let i = 1; i <= calls; i += 1) {
    const at = startMs + i * gapMs * 0.9;
    const presented: PartialToken = {
      ...{ role: 'presented', type: 'access', ref, ref_kind: 'jti', ...times, kid },
      alg: 'RS256',
    };
    const corr = { trace_id: random.hex(32) };
    corpus.add(at, {
      ...{ ...ofClient(client), kind: 'api_accessed', outcome: 'success', net, corr },
      ...{ source: { id: 'envoy', instance: 'gateway-1' }, audience: [API] },
      ...{ http: { route: '/stock', method: 'GET', status: 200 }, tokens: [presented] },
    });
    introspect(corpus, at + 3, presented, client);
  }
}

/** A resource server without keys asks the authorization server (RFC 7662). */
function introspect(corpus: Corpus, atMs: number, token: PartialToken, client: ClientSpec): void {
  const { random } = corpus;
  const isLost = random.chance(0.002);
  if (isLost) corpus.note('introspection failed once');
  const asker = serverNet(corpus, '198.18.77.10', 'node');
  const instance = `stock/${deployAt(atMs)}-${random.int(0, 1)}`;
  const base = {
    ...{ issuer: ISSUER, client: { id: 'stock-api', auth_method: 'client_secret_basic' } },
    ...{ source: AS, endpoint: 'introspection', net: asker, tokens: [token] },
  };
  corpus.add(atMs, {
    ...{ ...base, kind: 'token_introspected', outcome: isLost ? 'failure' : 'success' },
    http: { status: isLost ? 503 : 200, duration_ms: random.int(2, 20) },
    ext: isLost ? {} : { active: 'true', token_client_id: client.id },
  });
  corpus.add(atMs + 4, {
    ...{ kind: isLost ? 'token_rejected' : 'token_validated', issuer: ISSUER, audience: [API] },
    ...{ outcome: isLost ? 'failure' : 'success', client: { id: client.id } },
    error: { code: isLost ? 'validation_unavailable' : '' },
    ...{ source: { id: 'otlp', instance }, http: { route: '/stock', status: isLost ? 503 : 200 } },
    net: { network: '10.0.8.0/24', ua_family: 'envoy', ip_role: 'proxy' },
    tokens: [token],
  });
}

/** A service turns a user's token into a narrower one for the service behind it (RFC 8693). */
export function exchange(corpus: Corpus, person: Person, startMs: number): void {
  const { random } = corpus;
  const subjectToken = corpus.ref();
  const narrowed = corpus.ref();
  const userNet = netOf(corpus, person.home, person.laptop, startMs, 1);
  const expires_at = ns(startMs + 600_000);
  const web = random.pick(clientsOf('spa'));
  const subject = { ref: person.subject, type: 'user' } as const;
  const wide = ['openid', 'profile', 'orders:read'];
  corpus.add(startMs, {
    ...{ ...ofClient(web), subject, kind: 'token_issued', outcome: 'success', net: userNet },
    ...{ grant_type: 'authorization_code', endpoint: 'token', audience: [API, STOCK] },
    ...{ scopes_requested: wide, scopes_granted: wide, grant_ref: corpus.ref() },
    tokens: [
      { role: 'issued', type: 'access', ref: subjectToken, issued_at: ns(startMs), expires_at },
    ],
  });
  const net = serverNet(corpus, random.pick(EXCHANGER.servers), 'Java-http-client/21.0.2');
  const at = startMs + random.int(1, 60) * 1_000;
  corpus.add(at, {
    ...{ ...ofClient(EXCHANGER), subject, kind: 'token_exchanged', outcome: 'success', net },
    ...{ grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange', endpoint: 'token' },
    ...{ audience: [STOCK], scopes_requested: ['orders:read'], scopes_granted: ['orders:read'] },
    tokens: [
      { role: 'subject', type: 'access', ref: subjectToken },
      {
        ...{ role: 'issued', type: 'access', ref: narrowed, parent_ref: subjectToken },
        ...{ issued_at: ns(at), expires_at: ns(at + 300_000) },
      },
    ],
  });
  corpus.note('token exchange that narrows');
  for (let i = 1; i <= 3; i += 1)
    corpus.add(at + i * 1_000, {
      ...{ kind: 'token_validated', outcome: 'success', subject, audience: [STOCK], net },
      ...{ client: { id: EXCHANGER.id }, source: { id: 'otlp', instance: 'stock/0' } },
      ...{ issuer: ISSUER, scopes_granted: ['orders:read'], http: { route: '/stock' } },
      tokens: [{ role: 'presented', type: 'access', ref: narrowed }],
    });
}

/** A client whose secret is being changed: its servers come to know the new one a few minutes late. */
export function secretRotation(corpus: Corpus, client: ClientSpec, startMs: number): void {
  const [address = ''] = client.servers;
  const net = serverNet(corpus, address, 'Go-http-client/2.0');
  const base = { ...ofClient(client), net, grant_type: 'client_credentials', endpoint: 'token' };
  const admin = { ref: corpus.ref(), type: 'user' } as const;
  corpus.add(startMs, {
    ...{ source: AS, kind: 'client_credential_changed', outcome: 'success', actor: admin },
    ...{ client: { id: client.id }, net: serverNet(corpus, '198.18.250.1', '') },
  });
  for (let i = 1; i <= 25; i += 1)
    corpus.add(startMs + i * 10_000, {
      ...{ ...base, kind: 'token_request_failed', outcome: 'failure', http: { status: 401 } },
      error: { oauth_error: 'invalid_client' },
    });
  corpus.note('secret rotation, late servers');
  jobRun(corpus, client, startMs + 5 * MINUTE_MS);
}

/** A job that runs too often is told to slow down, and does. */
export function slowedDown(corpus: Corpus, client: ClientSpec, startMs: number): void {
  const [address = ''] = client.servers;
  const net = serverNet(corpus, address, 'python-requests/2.32.3');
  corpus.note('slowed down by a rate limit');
  corpus.add(startMs, {
    ...{ ...ofClient(client), kind: 'rate_limited', outcome: 'denied', net, endpoint: 'token' },
    http: { status: 429, route: '/token' },
  });
  jobRun(corpus, client, startMs + 30_000);
}

/** Machines work through the night and the weekend. */
export function machineDay(corpus: Corpus, dayMs: number, runs: number): void {
  const { random } = corpus;
  const jobs = clientsOf('machine');
  for (let i = 0; i < runs; i += 1) {
    const job = jobs[i % jobs.length];
    if (job !== undefined) jobRun(corpus, job, dayMs + (24 * HOUR_MS * (i + random.next())) / runs);
  }
  for (const ci of clientsOf('ci'))
    for (let i = 0; i < 6; i += 1) ciRun(corpus, ci, dayMs + (8 + random.next() * 10) * HOUR_MS);
}
