import type { PartialToken } from '../../model/complete_event.ts';
import type { Random } from '../simulation/random.ts';
import { authMethodOf, type ClientSpec } from './clients.ts';
import { HOUR_MS, MINUTE_MS, ns, type Corpus, type Happening } from './corpus.ts';
import { netOf, serverNet, type Device, type Net, type Person, type Place } from './people.ts';

export const ISSUER = 'https://id.example.com';
export const API = 'https://api.example.com';
const AS = { id: 'keycloak', instance: 'as-1' } as const;
const GATEWAY = { id: 'envoy', instance: 'gateway-1' } as const;
const ROUTES = ['/orders', '/orders/{id}', '/profile', '/stock'];
/** Clocks of servers differ by as much as this, ms, each way. */
const JITTER_MS = 400;

/** A user's session with one client, from the login to its end. */
export class Session {
  readonly #corpus: Corpus;
  readonly #random: Random;
  readonly #person: Person;
  readonly #client: ClientSpec;
  readonly #device: Device;
  readonly #grant: string;
  readonly #family: string;
  readonly #session: string;
  /** Thumbprint of the key that tokens are bound to; '' where they are not. */
  readonly #key: string;
  readonly #turn: number;
  readonly #granted: readonly string[];
  /** Places in order of time; a session on a phone moves. */
  readonly #places: readonly Place[];
  #now: number;
  #access = '';
  #issuedMs = 0;
  #refresh = '';

  /** `place` is where it stays all the time; without one, the person's own places in turn. */
  constructor(corpus: Corpus, person: Person, client: ClientSpec, startMs: number, place?: Place) {
    const { random } = corpus;
    this.#corpus = corpus;
    this.#random = random;
    this.#person = person;
    this.#client = client;
    const isOnPhone = client.type === 'native';
    this.#device = isOnPhone ? person.phone : person.laptop;
    this.#grant = corpus.ref();
    this.#family = corpus.ref();
    this.#session = corpus.ref();
    this.#key = client.type === 'dpop' ? corpus.ref().replaceAll('-', '') : '';
    this.#turn = random.int(0, 1_000);
    const others = isOnPhone ? [person.mobile, person.home] : [person.home];
    const usual = random.chance(0.5) ? [person.office, ...others] : [person.home, ...others];
    this.#places = place === undefined ? usual : [place];
    this.#granted = client.scopes.filter((s) => s !== 'orders:write' || random.chance(0.7));
    this.#now = startMs;
  }

  /** True where the client's own servers ask for tokens and call the API. */
  get #isBackEnd(): boolean {
    return this.#client.type === 'web' || this.#client.type === 'legacy_web';
  }

  get #rotates(): boolean {
    return !this.#isBackEnd;
  }

  #place(round: number): Place {
    const moves = this.#client.type === 'native';
    return this.#places[moves ? round % this.#places.length : 0] ?? this.#person.home;
  }

  #userNet(round: number): Net {
    return netOf(this.#corpus, this.#place(round), this.#device, this.#now, this.#turn + round);
  }

  /** Where the token endpoint sees the request come from. */
  #clientNet(round: number): Net {
    if (!this.#isBackEnd) return this.#userNet(round);
    return serverNet(this.#corpus, this.#random.pick(this.#client.servers), 'node');
  }

  #add(afterMs: number, happening: Happening): void {
    this.#now += afterMs;
    this.#corpus.add(this.#now, {
      source: AS,
      issuer: ISSUER,
      client: { id: this.#client.id, auth_method: authMethodOf(this.#client) },
      subject: { ref: this.#person.subject, type: 'user' },
      ...(this.#key !== '' && happening.endpoint === 'token' && this.#binding()),
      ...happening,
    });
  }

  #binding(): { binding: 'none' | 'dpop'; binding_thumbprint: string } {
    return this.#key === ''
      ? { binding: 'none', binding_thumbprint: '' }
      : { binding: 'dpop', binding_thumbprint: this.#key };
  }

  /** A proof of possession for one request (RFC 9449): each has an id of its own. */
  #proof(): PartialToken[] {
    return this.#key === ''
      ? []
      : [
          {
            ...{ role: 'presented', type: 'dpop_proof', ref: this.#corpus.ref() },
            ...{ ref_kind: 'jti', issued_at: ns(this.#now) },
          },
        ];
  }

  #newAccess(parent: string): PartialToken {
    this.#access = this.#corpus.ref();
    this.#issuedMs = this.#now;
    return {
      ...{ role: 'issued', type: 'access', ref: this.#access, ref_kind: 'jti' },
      ...{ parent_ref: parent, family_ref: this.#family, kid: kidAt(this.#now), alg: 'RS256' },
      ...{ issued_at: ns(this.#now), expires_at: ns(this.#now + this.#client.lifeS * 1_000) },
    };
  }

  #newRefresh(parent: string): PartialToken {
    this.#refresh = this.#corpus.ref();
    return {
      ...{ role: 'issued', type: 'refresh', ref: this.#refresh },
      ...{ parent_ref: parent, family_ref: this.#family },
    };
  }

  run(rounds: number): void {
    this.#logIn();
    this.#authorize();
    for (let round = 0; round < rounds; round += 1) {
      const calls = this.#random.int(2, 5);
      for (let i = 0; i < calls; i += 1) this.#call(round, i === calls - 1);
      const left = this.#issuedMs + this.#client.lifeS * 1_000 - this.#now;
      this.#now += Math.max(0, left) * 0.9 + this.#random.int(0, 30) * 1_000;
      if (!this.#refreshOnce(round + 1)) return;
    }
    if (this.#random.chance(0.3)) this.#logOut(rounds);
  }

  #logIn(): void {
    const net = this.#userNet(0);
    const base = { net, session_ref: this.#session } as const;
    for (let i = 0; i < 2 && this.#random.chance(0.06); i += 1) {
      this.#corpus.note('mistyped password');
      this.#add(this.#random.int(3_000, 15_000), {
        ...{ kind: 'login_failed', outcome: 'failure', net },
        error: { code: 'invalid_password' },
      });
    }
    this.#add(4_000, { kind: 'login', outcome: 'success', ...base, amr: ['pwd'] });
    if (this.#person.isAdmin)
      this.#add(6_000, { kind: 'mfa_result', outcome: 'success', ...base, amr: ['otp'] });
    this.#add(5, { kind: 'session_started', outcome: 'success', ...base });
  }

  #authorize(): void {
    const [redirect_uri = ''] = this.#client.redirectUris;
    const asked =
      redirect_uri.startsWith('http://127') || this.#client.type === 'native'
        ? (this.#client.redirectUris[0] ?? '')
        : redirect_uri;
    const front = {
      ...{ net: this.#userNet(0), redirect_uri: asked, response_type: 'code' },
      ...{ session_ref: this.#session, grant_ref: this.#grant },
      scopes_requested: [...this.#granted],
      pkce: this.#client.type === 'legacy_web' ? ('none' as const) : ('S256' as const),
    };
    this.#add(20, { kind: 'authorization_requested', endpoint: 'authorization', ...front });
    if (this.#random.chance(0.2))
      this.#add(8_000, {
        ...{ kind: 'consent_granted', outcome: 'success', ...front },
        scopes_granted: [...this.#granted],
      });
    const code = this.#corpus.ref();
    this.#add(900, {
      ...{ kind: 'code_issued', outcome: 'success', ...front },
      tokens: [{ role: 'issued', type: 'code', ref: code }],
    });
    this.#redeem(code, asked);
  }

  #redeem(code: string, redirect_uri: string): void {
    const net = this.#clientNet(0);
    const consumed = { role: 'consumed', type: 'code', ref: code } as const;
    const common = {
      ...{ net, grant_type: 'authorization_code', endpoint: 'token', redirect_uri },
      ...{ grant_ref: this.#grant, session_ref: this.#session },
    };
    if (this.#key !== '' && this.#random.chance(0.3)) {
      // The server wants its nonce: the retry is a new proof, and the code is still good.
      this.#corpus.note('DPoP nonce retry');
      this.#add(80, {
        ...common,
        ...{ kind: 'token_request_failed', outcome: 'challenge' },
        error: { oauth_error: 'use_dpop_nonce' },
        tokens: [{ ...consumed, role: 'presented' }, ...this.#proof()],
      });
    }
    this.#add(120, {
      ...{ kind: 'code_redeemed', outcome: 'success', ...common, tokens: [consumed] },
    });
    this.#add(1, {
      ...{ kind: 'token_issued', outcome: 'success', ...common },
      ...{ scopes_requested: [...this.#granted], scopes_granted: [...this.#granted] },
      audience: [API],
      tokens: [consumed, this.#newRefresh(code), this.#newAccess(code), ...this.#proof()],
    });
    if (this.#random.chance(0.04)) {
      this.#corpus.note('double submit of a code');
      this.#add(this.#random.int(200, 3_000), {
        ...common,
        ...{ kind: 'code_redeemed', outcome: 'failure', error: { oauth_error: 'invalid_grant' } },
        tokens: [{ ...consumed, role: 'presented' }],
      });
    }
  }

  /** The gateway sees the caller; the resource server behind it sees the gateway. */
  #call(round: number, isLast: boolean): void {
    const moved = isLast && this.#random.chance(0.1) && this.#client.type === 'native';
    const net = this.#isBackEnd ? this.#clientNet(round) : this.#userNet(moved ? round + 1 : round);
    if (moved) this.#corpus.note('roamed with one access token');
    const presented: PartialToken = {
      ...{ role: 'presented', type: 'access', ref: this.#access, ref_kind: 'jti' },
      ...{ kid: kidAt(this.#issuedMs), alg: 'RS256' },
      ...{ issued_at: ns(this.#issuedMs) },
      expires_at: ns(this.#issuedMs + this.#client.lifeS * 1_000),
    };
    const corr = { trace_id: this.#random.hex(32) };
    const route = this.#random.pick(ROUTES);
    const http = { method: 'GET', route, status: 200, duration_ms: this.#random.int(5, 90) };
    const common = {
      ...{ outcome: 'success' as const, corr, http, audience: [API] },
      ...this.#binding(),
    };
    this.#add(this.#random.int(500, 60_000), {
      ...{ kind: 'api_accessed', source: GATEWAY, ...common, net },
      tokens: [presented],
    });
    const instance = `orders/${deployAt(this.#now)}-${this.#random.int(0, 2)}`;
    this.#add(this.#random.int(-JITTER_MS, JITTER_MS), {
      ...{ kind: 'token_validated', source: { id: 'otlp', instance }, ...common },
      scopes_granted: [...this.#granted],
      net: { network: '10.0.7.0/24', ua_family: 'envoy', ip_role: 'proxy' },
      tokens: [presented, ...this.#proof()],
    });
    this.#now += JITTER_MS;
  }

  /** False where the answer was lost and the user has to sign in again. */
  #refreshOnce(round: number): boolean {
    const before = this.#refresh;
    const net = this.#clientNet(round);
    const common = {
      ...{ net, grant_type: 'refresh_token', endpoint: 'token' },
      ...{ grant_ref: this.#grant, session_ref: this.#session },
    };
    const used = { type: 'refresh', ref: before, family_ref: this.#family } as const;
    const scopes = round === 2 ? this.#granted.slice(0, 3) : this.#granted;
    this.#add(50, {
      ...{ kind: 'token_refreshed', outcome: 'success', ...common, audience: [API] },
      scopes_granted: [...scopes],
      tokens: this.#rotates
        ? [
            { role: 'consumed', ...used },
            this.#newRefresh(before),
            this.#newAccess(before),
            ...this.#proof(),
          ]
        : [{ role: 'presented', ...used }, this.#newAccess(before)],
    });
    if (!this.#rotates) return true;
    const retry = (afterMs: number, from: Net): void =>
      this.#add(afterMs, {
        ...{ kind: 'token_request_failed', outcome: 'failure', ...common, net: from },
        error: { oauth_error: 'invalid_grant' },
        tokens: [{ role: 'presented', ...used }, ...this.#proof()],
      });
    if (this.#random.chance(0.08)) {
      this.#corpus.note('parallel refresh');
      retry(this.#random.int(5, 2_000), net);
    }
    if (this.#random.chance(0.01)) {
      this.#corpus.note('lost response');
      const roams = this.#client.type === 'native' && this.#random.chance(0.5);
      if (roams) retry(this.#random.int(2, 25) * 1_000, this.#userNet(round + 1));
      else retry(this.#random.int(31, 300) * 1_000, net);
      return false;
    }
    return true;
  }

  #logOut(round: number): void {
    const net = this.#userNet(round);
    const base = { outcome: 'success', net, grant_ref: this.#grant } as const;
    this.#add(20_000, {
      ...{ kind: 'token_revoked', ...base, endpoint: 'revocation' },
      tokens: [{ role: 'revoked', type: 'refresh', ref: this.#refresh, family_ref: this.#family }],
    });
    this.#add(3, { kind: 'grant_revoked', ...base });
    this.#add(2, { kind: 'session_ended', ...base, session_ref: this.#session });
    if (this.#random.chance(0.3)) {
      // A resource server that validated the token a moment ago relies on that.
      this.#corpus.note('cached validation after a logout');
      this.#call(round, false);
    }
  }
}

/** Signing keys change every ten days; a key's tokens live on beside its successor's. */
export function kidAt(atMs: number): string {
  return `key-${Math.floor(atMs / (10 * 24 * HOUR_MS))}`;
}

/** Pods are replaced by each deployment, twice a day. */
export function deployAt(atMs: number): string {
  return Math.floor(atMs / (12 * HOUR_MS)).toString(16);
}

/** A television without a keyboard: the code is typed in on a phone, at home or on the way (RFC 8628). */
export function deviceFlow(
  corpus: Corpus,
  person: Person,
  client: ClientSpec,
  startMs: number,
): void {
  const device_code = { type: 'device_code', ref: corpus.ref() } as const;
  const tv: Device = { kind: 'browser', userAgent: () => 'Roku/DVP-14.0 (14.0.4.4518)' };
  const net = netOf(corpus, person.home, tv, startMs, 1);
  const isAway = corpus.random.chance(0.3);
  if (isAway) corpus.note('TV approved over the mobile network');
  const approver = netOf(corpus, isAway ? person.mobile : person.home, person.phone, startMs, 1);
  const base = {
    ...{ source: AS, issuer: ISSUER, client: { id: client.id, auth_method: 'none' } },
    grant_ref: corpus.ref(),
  };
  const subject = { ref: person.subject, type: 'user' } as const;
  const poll = { grant_type: 'urn:ietf:params:oauth:grant-type:device_code', endpoint: 'token' };
  corpus.add(startMs, {
    ...{ ...base, kind: 'device_authorization_requested', outcome: 'success', net },
    scopes_requested: [...client.scopes],
    tokens: [{ role: 'issued', ...device_code }],
  });
  for (let i = 1; i <= 4; i += 1)
    corpus.add(startMs + i * 5_000, {
      ...{ ...base, ...poll, kind: 'token_request_failed', outcome: 'pending', net },
      error: { oauth_error: 'authorization_pending' },
      tokens: [{ role: 'presented', ...device_code }],
    });
  corpus.add(startMs + 22_000, {
    ...{ ...base, subject, kind: 'device_authorized', outcome: 'success', net: approver },
    tokens: [{ role: 'presented', ...device_code }],
  });
  const access = corpus.ref();
  const issuedMs = startMs + 25_000;
  const expires_at = ns(issuedMs + client.lifeS * 1_000);
  corpus.add(issuedMs, {
    ...{ ...base, ...poll, subject, kind: 'token_issued', outcome: 'success', net },
    ...{ scopes_granted: [...client.scopes], audience: [API] },
    tokens: [
      { role: 'consumed', ...device_code },
      {
        ...{ role: 'issued', type: 'access', ref: access, parent_ref: device_code.ref },
        ...{ issued_at: ns(issuedMs), expires_at },
      },
    ],
  });
  for (let i = 1; i <= 6; i += 1)
    corpus.add(issuedMs + i * 5 * MINUTE_MS, {
      ...{ kind: 'api_accessed', outcome: 'success', source: GATEWAY, subject, net },
      ...{ client: { id: client.id }, audience: [API], http: { route: '/media', status: 200 } },
      tokens: [{ role: 'presented', type: 'access', ref: access, expires_at }],
    });
}
