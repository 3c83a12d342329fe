import * as oidc from 'openid-client';
import { type Arrival, type Browser, type Intentions } from './browser.ts';
import {
  BACKEND_USER_AGENT,
  type ApplicationDefinition,
  type Subject,
  type Vantage,
} from './population.ts';
import type { SecretLedger } from './secret_ledger.ts';

/** Seconds between two polls of the device flow; RFC 8628 says 5 where the server says nothing. */
const DEVICE_POLL_SECONDS = 1;

export interface TokenSet {
  readonly access: string;
  readonly refresh: string | undefined;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  readonly scopes: readonly string[];
}

export interface Session {
  readonly application: Application;
  readonly subject: Subject | undefined;
  /** Where the application calls the token endpoint and the APIs from. */
  vantage: Vantage;
  tokens: TokenSet;
  /** The redirect that carried the authorization code; undefined for other grants. */
  readonly callback: Callback | undefined;
}

/** What a client has in hand when the browser comes back: enough to redeem the code. */
export interface Callback {
  readonly url: URL;
  readonly verifier: string;
  readonly state: string;
  readonly nonce: string;
}

export interface SignInOptions {
  readonly redirectUri?: string;
  readonly scopes?: readonly string[];
  /** Asks for a token for the userinfo endpoint instead of one for the application's API. */
  readonly userInfoOnly?: boolean;
  readonly consent?: Intentions['consent'];
  readonly wrongPasswords?: readonly string[];
}

/** One registered application, as a client of the authorization server. */
export interface Application {
  readonly definition: ApplicationDefinition;
  /** Sends the browser through sign-in and consent, up to the redirect back. */
  authorize(
    browser: Browser,
    subject: Subject,
    options?: SignInOptions,
  ): Promise<{ arrival: Arrival; callback: Callback | undefined }>;
  /** Redeems a code. `from` is where the application runs. */
  redeem(callback: Callback, from: Vantage): Promise<TokenSet>;
  /** `authorize` and `redeem`. Throws when either is refused. */
  signIn(browser: Browser, subject: Subject, options?: SignInOptions): Promise<Session>;
  /** Client credentials; `secret` replaces the right one. */
  authenticate(secret?: string): Promise<Session>;
  /** Device flow: `subject` approves in `browser` while the device polls from `device`. */
  connectDevice(browser: Browser, subject: Subject, device: Vantage): Promise<Session>;
  /** Refreshes and keeps the new tokens. `from` defaults to the session's place. */
  refresh(session: Session, from?: Vantage): Promise<TokenSet>;
  /** A refresh with a given token that changes no session. */
  refreshWith(refreshToken: string, from: Vantage): Promise<TokenSet>;
  /** A refresh whose answer gets lost on the way: the server rotates, the client never knows. */
  refreshAndLoseAnswer(session: Session): Promise<void>;
  revoke(session: Session, token: string): Promise<void>;
  userInfo(session: Session): Promise<void>;
}

export interface ApplicationOptions {
  readonly server: oidc.ServerMetadata;
  readonly ledger: SecretLedger;
}

export function createApplication(
  definition: ApplicationDefinition,
  { server, ledger }: ApplicationOptions,
): Application {
  const parts: Parts = {
    definition,
    ledger,
    configurationFrom: (vantage, options = {}) =>
      configure(definition, server, ledger, vantage, options),
  };
  const application: Application = {
    definition,
    authorize: (browser, subject, options = {}) => authorize(parts, browser, subject, options),
    redeem: (callback, from) => redeem(parts, callback, from),
    async signIn(browser, subject, options = {}) {
      const { arrival, callback } = await application.authorize(browser, subject, options);
      if (callback === undefined) throw new SignInRefused(arrival);
      const vantage = backendOf(definition) ?? browser.vantage;
      const tokens = await application.redeem(callback, vantage);
      return { application, subject, vantage, tokens, callback };
    },
    async authenticate(secret) {
      const vantage = requireBackend(definition);
      const tokens = await authenticate(parts, vantage, secret);
      return { application, subject: undefined, vantage, tokens, callback: undefined };
    },
    async connectDevice(browser, subject, device) {
      const tokens = await connectDevice(parts, browser, subject, device);
      return { application, subject, vantage: device, tokens, callback: undefined };
    },
    async refresh(session, from = session.vantage) {
      session.tokens = await application.refreshWith(requireRefresh(session), from);
      return session.tokens;
    },
    refreshWith: async (refreshToken, from) =>
      keepTokens(await oidc.refreshTokenGrant(parts.configurationFrom(from), refreshToken), ledger),
    refreshAndLoseAnswer: (session) => refreshAndLoseAnswer(parts, session),
    revoke: (session, token) =>
      oidc.tokenRevocation(parts.configurationFrom(session.vantage), token),
    userInfo: (session) => userInfo(parts, session),
  };
  return application;
}

async function redeem(parts: Parts, callback: Callback, from: Vantage): Promise<TokenSet> {
  const config = parts.configurationFrom(from);
  const answer = await oidc.authorizationCodeGrant(config, callback.url, {
    pkceCodeVerifier: callback.verifier,
    expectedState: callback.state,
    expectedNonce: callback.nonce,
    idTokenExpected: true,
  });
  return keepTokens(answer, parts.ledger);
}

async function authenticate(
  parts: Parts,
  vantage: Vantage,
  secret: string | undefined,
): Promise<TokenSet> {
  const config = parts.configurationFrom(vantage, secret === undefined ? {} : { secret });
  const { scopes, resource } = parts.definition;
  const answer = await oidc.clientCredentialsGrant(config, { scope: scopes.join(' '), resource });
  return keepTokens(answer, parts.ledger);
}

async function refreshAndLoseAnswer(parts: Parts, session: Session): Promise<void> {
  const config = parts.configurationFrom(session.vantage, { loseAnswers: true });
  try {
    await oidc.refreshTokenGrant(config, requireRefresh(session));
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (error instanceof AnswerLost || cause instanceof AnswerLost) return;
    throw error;
  }
  throw new Error('the answer should have been lost');
}

async function userInfo(parts: Parts, session: Session): Promise<void> {
  const config = parts.configurationFrom(session.vantage);
  const subject = session.subject?.username;
  if (subject === undefined) throw new TypeError('userinfo: the session has no person');
  await oidc.fetchUserInfo(config, session.tokens.access, subject);
}

/** Thrown by `signIn` when the browser did not come back with a code. */
export class SignInRefused extends Error {
  readonly arrival: Arrival;
  constructor(arrival: Arrival) {
    super(
      arrival.at === 'client'
        ? `refused with ${arrival.url.searchParams.get('error') ?? 'no code'}`
        : `refused with HTTP ${arrival.status}`,
    );
    this.arrival = arrival;
  }
}

class AnswerLost extends Error {}

interface ConfigurationOptions {
  readonly secret?: string;
  /** Drops every answer after the server gave it; its tokens still go to the ledger. */
  readonly loseAnswers?: boolean;
}

interface Parts {
  readonly definition: ApplicationDefinition;
  readonly ledger: SecretLedger;
  readonly configurationFrom: (
    vantage: Vantage,
    options?: ConfigurationOptions,
  ) => oidc.Configuration;
}

function configure(
  definition: ApplicationDefinition,
  server: oidc.ServerMetadata,
  ledger: SecretLedger,
  vantage: Vantage,
  options: ConfigurationOptions,
): oidc.Configuration {
  const secret = options.secret ?? definition.clientSecret;
  const config = new oidc.Configuration(
    server,
    definition.clientId,
    { id_token_signed_response_alg: 'ES256' },
    secret === undefined ? oidc.None() : oidc.ClientSecretBasic(secret),
  );
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- plain http, on loopback only
  oidc.allowInsecureRequests(config);
  config[oidc.customFetch] = async (url, init) => {
    const response = await fetch(url, {
      ...(init as RequestInit),
      headers: {
        ...init.headers,
        'user-agent': vantage.userAgent,
        'x-forwarded-for': vantage.ip,
      },
    });
    if (options.loseAnswers !== true) return response;
    keepTokens((await response.json()) as oidc.TokenEndpointResponse, ledger);
    throw new AnswerLost('the connection broke before the answer arrived');
  };
  return config;
}

async function authorize(
  parts: Parts,
  browser: Browser,
  subject: Subject,
  options: SignInOptions,
): Promise<{ arrival: Arrival; callback: Callback | undefined }> {
  const { definition, ledger } = parts;
  const config = parts.configurationFrom(backendOf(definition) ?? browser.vantage);
  const secrets = {
    verifier: oidc.randomPKCECodeVerifier(),
    state: oidc.randomState(),
    nonce: oidc.randomNonce(),
  };
  ledger.add('code_verifier', secrets.verifier);
  ledger.add('state', secrets.state);
  ledger.add('nonce', secrets.nonce);
  const parameters = {
    redirect_uri: options.redirectUri ?? definition.redirectUris[0] ?? '',
    scope: (options.scopes ?? definition.scopes).join(' '),
    ...(options.userInfoOnly === true ? {} : { resource: definition.resource }),
    code_challenge: await oidc.calculatePKCECodeChallenge(secrets.verifier),
    code_challenge_method: 'S256',
    state: secrets.state,
    nonce: secrets.nonce,
    // Without it the server drops offline_access (OpenID Connect Core section 11).
    prompt: 'consent',
  };
  const url = definition.pushed
    ? await oidc.buildAuthorizationUrlWithPAR(config, parameters)
    : oidc.buildAuthorizationUrl(config, parameters);
  const arrival = await browser.navigate(url, {
    username: subject.username,
    password: subject.password,
    wrongPasswords: options.wrongPasswords ?? [],
    consent: options.consent ?? 'allow',
  });
  const came = arrival.at === 'client' && arrival.url.searchParams.has('code');
  return { arrival, callback: came ? { url: arrival.url, ...secrets } : undefined };
}

async function connectDevice(
  parts: Parts,
  browser: Browser,
  subject: Subject,
  device: Vantage,
): Promise<TokenSet> {
  const { definition, ledger } = parts;
  const config = parts.configurationFrom(device);
  const start = await oidc.initiateDeviceAuthorization(config, {
    scope: definition.scopes.join(' '),
    resource: definition.resource,
  });
  ledger.add('device_code', start.device_code);
  ledger.add('user_code', start.user_code);
  const approval = browser.navigate(
    new URL(start.verification_uri_complete ?? start.verification_uri),
    { username: subject.username, password: subject.password, consent: 'allow' },
  );
  const [answer] = await Promise.all([
    oidc.pollDeviceAuthorizationGrant(config, { ...start, interval: DEVICE_POLL_SECONDS }),
    approval.then((arrival) => {
      if (arrival.at !== 'server' || arrival.status !== 200) throw new SignInRefused(arrival);
    }),
  ]);
  return keepTokens(answer, ledger);
}

function keepTokens(answer: oidc.TokenEndpointResponse, ledger: SecretLedger): TokenSet {
  ledger.add('access_token', answer.access_token);
  ledger.add('refresh_token', answer.refresh_token);
  ledger.add('id_token', answer.id_token);
  return {
    access: answer.access_token,
    refresh: answer.refresh_token,
    expiresAt: Date.now() + (answer.expires_in ?? 0) * 1_000,
    scopes: answer.scope?.split(' ') ?? [],
  };
}

function backendOf(definition: ApplicationDefinition): Vantage | undefined {
  return definition.backendIp === undefined
    ? undefined
    : { ip: definition.backendIp, userAgent: BACKEND_USER_AGENT };
}

function requireBackend(definition: ApplicationDefinition): Vantage {
  const backend = backendOf(definition);
  if (backend === undefined) throw new TypeError(`${definition.clientId} has no back end`);
  return backend;
}

function requireRefresh(session: Session): string {
  if (session.tokens.refresh === undefined) {
    throw new TypeError(`${session.application.definition.clientId}: no refresh token`);
  }
  return session.tokens.refresh;
}
