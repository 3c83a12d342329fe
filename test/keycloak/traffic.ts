import { setTimeout as sleep } from 'node:timers/promises';
import * as oauth from 'openid-client';
import type { SecretLedger } from '../../demo/secret_ledger.ts';
import { Admin } from './admin.ts';
import type { Browser, Answer } from './browser.ts';
import { comparedOfSeen, type Compared, type Seen } from './expected.ts';
import type { KeycloakServer } from './keycloak_server.ts';
import { ANA, BEN, CLEO, JOB, LEGACY, ORDERS, REALM, realm, STOCK, WEB } from './realm.ts';

/** Where people, back ends and the thief are, as the proxy before the server tells. */
export const HOME = '203.0.113.9';
export const BACKEND = '192.0.2.10';
export const THIEF = '198.51.100.66';

/** What a holder reads in a token, and the token itself. */
export interface Held {
  readonly token: string;
  readonly jti: string;
  readonly sub: string;
  readonly sid: string | undefined;
}

/** What a client holds after a token request. */
export interface Tokens {
  readonly access: Held;
  readonly refresh: Held | undefined;
  readonly idToken: string;
  readonly scopes: readonly string[];
}

/** A record that the server must write, and the events that it must become. */
export interface Expected {
  readonly type: string;
  readonly events: readonly Seen[];
}

export const record = (type: string, ...events: readonly Seen[]): Expected => ({ type, events });

const LOG_WAIT_MS_MAX = 15_000;
/** The log's own records, told from the rest by who wrote them. */
const EVENT_LOGGER = '"log.logger":"org.keycloak.events"';

/** Real clients, a real browser and a real administrator; every secret that passes goes to the ledger. */
export class Traffic {
  readonly expected: Compared[] = [];
  readonly #server: KeycloakServer;
  readonly #ledger: SecretLedger;
  #records = 0;

  constructor(server: KeycloakServer, ledger: SecretLedger) {
    this.#server = server;
    this.#ledger = ledger;
    for (const { password } of [ANA, BEN, CLEO]) ledger.add('password', password);
    for (const { secret } of [WEB, JOB, ORDERS, STOCK, LEGACY]) ledger.add('client_secret', secret);
    ledger.add('password', server.adminPassword);
  }

  url(path: string): URL {
    return new URL(`${this.#server.url}/realms/${REALM}${path}`);
  }

  /** JSON lines of the events that were logged so far, in their order. */
  jsonEvents(): readonly string[] {
    return this.#server
      .jsonLog()
      .split('\n')
      .filter((l) => l.includes(EVENT_LOGGER) && l.endsWith('}'));
  }

  /** Lines of text of the same. */
  textEvents(): readonly string[] {
    return this.#server
      .textLog()
      .split('\n')
      .filter((l) => l.includes('[org.keycloak.events]'));
  }

  /**
   * Waits until the server has logged what an action must have led to: these records and no others, in this order but
   * for an account's lock, which another thread logs. What comes late and is not expected is met by the next call.
   */
  async logged(...records: readonly Expected[]): Promise<void> {
    const until = Date.now() + LOG_WAIT_MS_MAX;
    const first = this.#records;
    this.#records += records.length;
    let lines = this.jsonEvents().slice(first);
    while (lines.length < records.length && Date.now() < until) {
      await sleep(25);
      lines = this.jsonEvents().slice(first);
    }
    const isLock = (type: string): boolean => type.startsWith('USER_DISABLED');
    lines = [...lines.filter((l) => !isLock(typeOf(l))), ...lines.filter((l) => isLock(typeOf(l)))];
    const types = lines.map(typeOf);
    const wanted = records.map((r) => r.type);
    if (types.join() !== wanted.join()) {
      throw new Error(`logged: ${types.join(', ')}; expected: ${wanted.join(', ')}`);
    }
    for (const [i, { type, events }] of records.entries()) {
      const { '@timestamp': stamp } = JSON.parse(lines[i] ?? '{}') as { '@timestamp': string };
      for (const seen of events) this.expected.push(comparedOfSeen(type, Date.parse(stamp), seen));
    }
  }

  /** The administrator, logged in anew: the access token of admin-cli lives for a minute. */
  async admin(): Promise<Admin> {
    const admin = await Admin.login(this.#server.url, this.#server.adminPassword);
    this.#hold(admin.tokens);
    return admin;
  }

  async makeRealm(admin: Admin): Promise<void> {
    await admin.call('POST', '', realm());
  }

  /** A registered client, called from `address`. */
  async client(id: string, secret?: string, address = BACKEND): Promise<oauth.Configuration> {
    const auth = secret === undefined ? oauth.None() : oauth.ClientSecretBasic(secret);
    const config = await oauth.discovery(this.url(''), id, undefined, auth, {
      // eslint-disable-next-line @typescript-eslint/no-deprecated
      execute: [oauth.allowInsecureRequests],
    });
    config[oauth.customFetch] = (url, options) =>
      fetch(url, {
        ...options,
        headers: { ...options.headers, 'x-forwarded-for': address },
      } as RequestInit);
    return config;
  }

  /** A request by hand, for what no honest library sends. */
  async post(path: string, form: Record<string, string>, more: Record<string, string> = {}) {
    return fetch(this.url(path), {
      method: 'POST',
      headers: { 'x-forwarded-for': BACKEND, ...more },
      body: new URLSearchParams(form),
    });
  }

  held(token: string): Held {
    const part = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8');
    const { jti, sub, sid } = JSON.parse(part) as { jti: string; sub: string; sid?: string };
    return { token, jti, sub, sid };
  }

  tokens(response: oauth.TokenEndpointResponse): Tokens {
    this.#hold(response);
    return {
      access: this.held(response.access_token),
      refresh: response.refresh_token === undefined ? undefined : this.held(response.refresh_token),
      idToken: response.id_token ?? '',
      scopes: (response.scope ?? '').split(' '),
    };
  }

  remember(kind: Parameters<SecretLedger['add']>[0], value: string | undefined): void {
    this.#ledger.add(kind, value);
  }

  #hold(response: object): void {
    const got = response as Record<string, string | undefined>;
    this.#ledger.add('access_token', got['access_token']);
    this.#ledger.add('refresh_token', got['refresh_token']);
    this.#ledger.add('id_token', got['id_token']);
  }

  /** An authorization request, and what its client keeps for the answer. */
  async request(config: oauth.Configuration, redirectUri: string, scope = 'openid profile') {
    const verifier = oauth.randomPKCECodeVerifier();
    const state = oauth.randomState();
    const nonce = oauth.randomNonce();
    this.#ledger.add('code_verifier', verifier);
    this.#ledger.add('state', state);
    this.#ledger.add('nonce', nonce);
    const params = {
      redirect_uri: redirectUri,
      scope,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state,
      nonce,
    };
    const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce };
    return { url: oauth.buildAuthorizationUrl(config, params), params, checks };
  }

  /** Opens a page, and keeps what came with it. */
  async open(browser: Browser, url: URL): Promise<Answer> {
    return this.#kept(browser, await browser.open(url));
  }

  /** Sends the form of a page. */
  async submit(browser: Browser, page: Answer, fields: Record<string, string>): Promise<Answer> {
    return this.#kept(browser, await browser.submit(page, fields));
  }

  async logIn(
    browser: Browser,
    page: Answer,
    who: { readonly name: string; readonly password: string },
  ): Promise<Answer> {
    return this.submit(browser, page, { username: who.name, password: who.password });
  }

  #kept(browser: Browser, answer: Answer): Answer {
    // Short ones hold no secret: a locale, a flag.
    for (const c of browser.cookies) if (c.length >= 24) this.#ledger.add('cookie', c);
    const code = answer.location?.searchParams.get('code') ?? undefined;
    this.#ledger.add('authorization_code', code);
    return answer;
  }
}

/** `LOGIN`, or `CREATE REALM` for an admin event, as the event's raw type must be. */
function typeOf(line: string): string {
  const { message } = JSON.parse(line) as { message: string };
  const type = /^type="(\w+)"/.exec(message)?.[1];
  if (type !== undefined) return type;
  const operation = /^operationType="(\w+)"/.exec(message)?.[1] ?? '';
  return `${operation} ${/resourceType="(\w+)"/.exec(message)?.[1] ?? ''}`;
}
