import { CLIENTS, clientsOf, PREVIEW } from './clients.ts';
import { DAY_MS, HOUR_MS, MINUTE_MS, ns, type Corpus, type Happening } from './corpus.ts';
import { netOf, serverNet, type Person } from './people.ts';
import { API, ISSUER, kidAt } from './sessions.ts';

const AS = { id: 'keycloak', instance: 'as-1' } as const;

/** A signing key follows the last: published first, used next, and the old one goes when its tokens have expired. */
export function keyRotation(corpus: Corpus, atMs: number): void {
  const kid = kidAt(atMs);
  const old = kidAt(atMs - DAY_MS);
  const key = (
    at: number,
    kind: 'key_created' | 'key_rotated' | 'key_disabled',
    id: string,
  ): void => {
    corpus.add(at, {
      ...{ source: AS, issuer: ISSUER, kind, outcome: 'success' },
      ...{ key: { kid: id, operation: 'sign', store: 'realm' } },
      actor: { ref: '', type: 'service' },
    });
  };
  key(atMs - HOUR_MS, 'key_created', kid);
  key(atMs, 'key_rotated', kid);
  for (let i = 0; i < 6; i += 1)
    corpus.add(atMs + i * 20_000, {
      ...{ source: AS, issuer: ISSUER, kind: 'jwks_fetched', outcome: 'success' },
      ...{ endpoint: 'jwks', net: serverNet(corpus, `198.18.9.${i + 1}`, 'node') },
      http: { status: 200 },
    });
  // A server with an old copy of the keys refuses two tokens, and fetches anew.
  for (let i = 0; i < 2; i += 1)
    corpus.add(atMs + 3_000 + i * 500, {
      ...{ kind: 'token_rejected', outcome: 'failure', issuer: ISSUER, audience: [API] },
      ...{ source: { id: 'otlp', instance: 'orders/late-0' }, client: { id: 'spa-0' } },
      ...{ error: { code: 'unknown_kid', oauth_error: 'invalid_token' }, http: { status: 401 } },
      net: { network: '10.0.7.0/24', ua_family: 'envoy', ip_role: 'proxy' },
      tokens: [{ role: 'presented', type: 'access', ref: corpus.ref(), kid, alg: 'RS256' }],
    });
  corpus.note('key rotation with overlap');
  key(atMs + 2 * DAY_MS, 'key_disabled', old);
}

/** A server whose clock is a second behind refuses a token now and then, and others come late. */
export function skewedClock(corpus: Corpus, atMs: number): void {
  corpus.note('token not valid yet by a slow clock');
  corpus.add(atMs, {
    ...{ kind: 'token_rejected', outcome: 'failure', issuer: ISSUER, audience: [API] },
    ...{ source: { id: 'otlp', instance: 'orders/slow-0' }, client: { id: 'spa-1' } },
    ...{ error: { code: 'token_not_yet_valid', oauth_error: 'invalid_token' } },
    ...{ http: { status: 401 }, net: { network: '10.0.7.0/24', ip_role: 'proxy' } },
    tokens: [
      {
        ...{ role: 'presented', type: 'access', ref: corpus.ref() },
        ...{ issued_at: ns(atMs + 800), expires_at: ns(atMs + 900_000) },
      },
    ],
  });
}

/** Expired tokens are refused, and their clients get new ones. */
export function expiredToken(corpus: Corpus, person: Person, atMs: number): void {
  corpus.note('expired token refused');
  corpus.add(atMs, {
    ...{ kind: 'token_rejected', outcome: 'failure', issuer: ISSUER, audience: [API] },
    ...{ source: { id: 'otlp', instance: 'orders/0' }, client: { id: 'phone-app-0' } },
    ...{ error: { code: 'token_expired', oauth_error: 'invalid_token' }, http: { status: 401 } },
    net: netOf(corpus, person.mobile, person.phone, atMs, 1),
    tokens: [
      {
        ...{ role: 'presented', type: 'access', ref: corpus.ref() },
        ...{ issued_at: ns(atMs - 3_700_000), expires_at: ns(atMs - 100_000) },
      },
    ],
  });
}

/** Tools register themselves (RFC 7591), a few a day. */
export function toolRegistration(corpus: Corpus, person: Person, atMs: number, i: number): void {
  corpus.note('dynamic registration');
  const id = `tool-${i}`;
  const redirect_uri = `http://127.0.0.1:${40_000 + (i % 9_000)}/callback`;
  const net = netOf(corpus, person.home, person.laptop, atMs, 1);
  const scopes = ['openid', 'orders:read'];
  const subject = { ref: person.subject, type: 'user' } as const;
  corpus.add(atMs, {
    ...{ source: AS, kind: 'client_registered', outcome: 'success', client: { id }, net },
    ...{ endpoint: 'registration', ext: { scope: scopes.join(' '), redirect_uris: redirect_uri } },
  });
  const front = {
    ...{ source: AS, issuer: ISSUER, client: { id, auth_method: 'none' }, subject, net },
    ...{ redirect_uri, pkce: 'S256' as const, scopes_requested: scopes, grant_ref: corpus.ref() },
  };
  const code = corpus.ref();
  corpus.add(atMs + 2_000, { ...front, kind: 'authorization_requested' });
  corpus.add(atMs + 9_000, {
    ...{ ...front, kind: 'consent_granted', outcome: 'success', scopes_granted: scopes },
  });
  corpus.add(atMs + 9_500, {
    ...{ ...front, kind: 'code_issued', outcome: 'success' },
    tokens: [{ role: 'issued', type: 'code', ref: code }],
  });
  corpus.add(atMs + 10_000, {
    ...{ ...front, kind: 'token_issued', outcome: 'success', grant_type: 'authorization_code' },
    ...{ endpoint: 'token', scopes_granted: scopes, audience: [API] },
    tokens: [
      { role: 'consumed', type: 'code', ref: code },
      {
        ...{ role: 'issued', type: 'access', ref: corpus.ref(), parent_ref: code },
        ...{ issued_at: ns(atMs + 10_000), expires_at: ns(atMs + 610_000) },
      },
    ],
  });
}

/** A well-known client asks for one scope more, and everybody agrees within an hour. */
export function consentWave(corpus: Corpus, people: readonly Person[], atMs: number): void {
  corpus.note('consent wave of a well-known client');
  const [client] = clientsOf('spa');
  for (const [i, person] of people.entries())
    corpus.add(atMs + (i * HOUR_MS) / people.length, {
      ...{ source: AS, issuer: ISSUER, kind: 'consent_granted', outcome: 'success' },
      ...{ client: { id: client?.id ?? '' }, subject: { ref: person.subject, type: 'user' } },
      ...{ scopes_granted: ['openid', 'profile', 'orders:read'], grant_ref: corpus.ref() },
      net: netOf(corpus, person.office, person.laptop, atMs, 1),
    });
}

/** A branch is shown under its own address; the server allows addresses of this pattern. */
export function previewDeploy(corpus: Corpus, person: Person, atMs: number, n: number): void {
  corpus.note('preview deploy');
  const redirect_uri = `https://pr-${n}.preview.example.com/cb`;
  for (let i = 0; i < 6; i += 1)
    corpus.add(atMs + i * MINUTE_MS, {
      ...{ source: AS, issuer: ISSUER, kind: 'authorization_requested', redirect_uri },
      ...{ client: { id: PREVIEW.id, auth_method: 'client_secret_basic' }, pkce: 'S256' },
      net: netOf(corpus, person.office, person.laptop, atMs, 1),
    });
}

/** A developer mistypes a path of a registered host, twice. */
export function typingError(corpus: Corpus, person: Person, atMs: number): void {
  corpus.note('mistyped redirect URI');
  for (let i = 0; i < 2; i += 1)
    corpus.add(atMs + i * 40_000, {
      ...{ source: AS, issuer: ISSUER, kind: 'authorization_failed', outcome: 'failure' },
      ...{ client: { id: 'web-0' }, error: { code: 'invalid_redirect_uri' } },
      redirect_uri: 'https://web-0.example.com/callback',
      net: netOf(corpus, person.office, person.laptop, atMs, 1),
    });
}

/** On Monday mornings a whole office signs in through two addresses, and some mistype their passwords. */
export function mondayMorning(corpus: Corpus, people: readonly Person[], atMs: number): void {
  corpus.note('an office signs in through one address');
  for (const [i, person] of people.entries()) {
    const at = atMs + i * 4_000;
    const net = netOf(corpus, person.office, person.laptop, at, 0);
    const base = {
      ...{ source: AS, issuer: ISSUER, client: { id: 'web-0' }, net },
      subject: { ref: person.subject, type: 'user' },
    } as const;
    if (corpus.random.chance(0.05))
      corpus.add(at - 9_000, {
        ...{ ...base, kind: 'login_failed', outcome: 'failure' },
        error: { code: 'invalid_password' },
      });
    corpus.add(at, { ...base, kind: 'login', outcome: 'success', amr: ['pwd'] });
  }
}

/** An operator works with raised rights for an hour, and gives them back in time. */
export function elevation(corpus: Corpus, person: Person, atMs: number): void {
  corpus.note('elevation given back in time');
  const net = netOf(corpus, person.office, person.laptop, atMs, 1);
  const base: Omit<Happening, 'kind'> = {
    ...{ source: AS, outcome: 'success', net, session_ref: corpus.ref() },
    ...{ subject: { ref: person.subject, type: 'user' }, client: { id: 'web-1' } },
    ...{ grant_ref: corpus.ref(), scopes_granted: ['admin:users'] },
  };
  corpus.add(atMs, {
    ...{ ...base, kind: 'elevation_granted' },
    ext: { elevation_expires_at: new Date(atMs + HOUR_MS).toISOString() },
  });
  corpus.add(atMs + 10 * MINUTE_MS, { ...base, kind: 'api_accessed', http: { route: '/admin' } });
  corpus.add(atMs + 50 * MINUTE_MS, { ...base, kind: 'elevation_ended' });
}

/** An administrator changes a client in a way that is nobody's business: its name, a scope less. */
export function clientUpdate(corpus: Corpus, person: Person, atMs: number): void {
  corpus.note('client updated');
  const client = corpus.random.pick(CLIENTS.filter((c) => c.type === 'web'));
  corpus.add(atMs, {
    ...{ source: AS, kind: 'client_updated', outcome: 'success', client: { id: client.id } },
    actor: { ref: person.subject, type: 'user' },
    net: netOf(corpus, person.office, person.laptop, atMs, 1),
    ext: { scope: client.scopes.join(' '), redirect_uris: client.redirectUris.join(' ') },
  });
}
