import * as oauth from 'openid-client';
import { ADMIN_ADDRESS, type Admin } from './admin.ts';
import { Browser } from './browser.ts';
import type { Seen, SeenToken } from './expected.ts';
import { ANA, BEN, CLEO, JOB, LEGACY, ORDERS, REALM, SPA, STOCK, TV, WEB } from './realm.ts';
import { BACKEND, HOME, record, THIEF, type Held, type Tokens, type Traffic } from './traffic.ts';

/** Everything that the clients, the people and the administrator do, and what Grantscope must make of it, record by record. */
export async function play(t: Traffic): Promise<void> {
  const world = await begin(t);
  const { browser, tokens } = await logIn(t, world);
  const refreshed = await refreshAndUse(t, world, tokens);
  await exchange(t, world, refreshed);
  await machines(t);
  await refusedRequests(t, world);
  await consent(t, world);
  await device(t, world, browser);
  await wrongVerifier(t, world);
  await registration(t, world);
  await lockout(t, world);
  await endSession(t, world);
  await reuse(t, world);
  await administration(t, world);
}

interface World {
  readonly web: oauth.Configuration;
  readonly spa: oauth.Configuration;
  /** Ids of people by name, as the administrator sees them. */
  readonly ids: Readonly<Record<string, string>>;
  /** The administrator's id. */
  readonly adminId: string;
  /** The internal id of the client that the administrator uses, which is all that an admin event says of it. */
  readonly adminCli: string;
}

const TOKEN = { endpoint: 'token', address: BACKEND } as const;
const CODE = { ...TOKEN, grantType: 'authorization_code' } as const;
const REFRESH = { ...TOKEN, grantType: 'refresh_token' } as const;
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const EXCHANGE_GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';

const loggedIn = (client: string, sub: string, session: string, redirectUri: string): Seen => ({
  kind: 'login',
  endpoint: 'authorization',
  client,
  subject: sub,
  session,
  redirectUri,
  address: HOME,
});

const issued = (tokens: Tokens): readonly SeenToken[] => [
  { role: 'issued', type: 'access', jti: tokens.access.jti },
  ...(tokens.refresh === undefined
    ? []
    : [{ role: 'issued', type: 'refresh', jti: tokens.refresh.jti } as const]),
];

/** A code that was redeemed: the record tells of the code and of the tokens. */
function redeemed(client: string, tokens: Tokens) {
  const seen = { ...CODE, ...holder(client, tokens.access), granted: tokens.scopes };
  return record(
    'CODE_TO_TOKEN',
    { ...seen, kind: 'token_issued', tokens: issued(tokens) },
    { ...seen, kind: 'code_redeemed' },
  );
}

const holder = (client: string, held: Held) => ({
  client,
  subject: held.sub,
  ...(held.sid === undefined ? {} : { session: held.sid }),
});

const presented = (held: Held, type: 'access' | 'refresh' = 'access'): SeenToken => ({
  role: 'presented',
  type,
  jti: held.jti,
});

function rotated(client: string, old: Held, tokens: Tokens): Seen {
  const parent = old.jti;
  const next = tokens.refresh?.jti ?? '';
  return {
    ...REFRESH,
    ...holder(client, old),
    kind: 'token_refreshed',
    granted: tokens.scopes,
    tokens: [
      { role: 'consumed', type: 'refresh', jti: old.jti },
      { role: 'issued', type: 'refresh', jti: next, parent },
      { role: 'issued', type: 'access', jti: tokens.access.jti, parent, family: true },
    ],
  };
}

const refusedRefresh = (client: string, old: Held, address = BACKEND): Seen => ({
  ...REFRESH,
  ...holder(client, old),
  kind: 'token_request_failed',
  outcome: 'failure',
  error: 'invalid_token',
  oauthError: 'invalid_grant',
  tokens: [presented(old, 'refresh')],
  address,
});

/** A promise that must be refused by the server; gives its words. */
async function refused(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof oauth.ResponseBodyError) return error.error;
    if (error instanceof oauth.WWWAuthenticateChallengeError) return String(error.status);
    throw error;
  }
  throw new Error('the server accepted what it must refuse');
}

function must(actual: unknown, wanted: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(wanted)) {
    throw new Error(`the server answered ${JSON.stringify(actual)}, not ${JSON.stringify(wanted)}`);
  }
}

const adminLogin = (adminId: string, tokens: Tokens) =>
  record('LOGIN', {
    kind: 'token_issued',
    endpoint: 'token',
    grantType: 'password',
    ...holder('admin-cli', { ...tokens.access, sub: adminId }),
    granted: tokens.scopes,
    tokens: issued(tokens),
    address: ADMIN_ADDRESS,
  });

const tokensOf = (t: Traffic, admin: Admin): Tokens => t.tokens(admin.tokens as never);

async function begin(t: Traffic): Promise<World> {
  const admin = await t.admin();
  const adminId = await admin.idOf('/master/users?username=admin');
  const adminCli = await admin.idOf('/master/clients?clientId=admin-cli');
  await t.logged(adminLogin(adminId, tokensOf(t, admin)));
  await t.makeRealm(admin);
  const by = { client: adminCli, actor: adminId, address: ADMIN_ADDRESS };
  await t.logged(record('CREATE REALM', { kind: 'policy_changed', ...by }));
  const ids: Record<string, string> = {};
  for (const { name } of [ANA, BEN, CLEO]) {
    ids[name] = await admin.idOf(`/${REALM}/users?username=${name}`);
  }
  const web = await t.client(WEB.id, WEB.secret);
  return { web, spa: await t.client(SPA.id), ids, adminId, adminCli };
}

/** A person logs in; the code is redeemed. */
async function logIn(t: Traffic, { web, ids }: World) {
  const browser = new Browser(HOME);
  const { url, checks } = await t.request(web, WEB.redirectUri);
  const page = await t.logIn(browser, await t.open(browser, url), ANA);
  const session = browser.sessionId;
  const tokens = t.tokens(await oauth.authorizationCodeGrant(web, page.location!, checks));
  must(tokens.access.sid, session);
  must(tokens.access.sub, ids['ana']);
  await t.logged(
    record('LOGIN', loggedIn(WEB.id, tokens.access.sub, session, WEB.redirectUri)),
    redeemed(WEB.id, tokens),
  );
  return { browser, tokens };
}

/** The refresh token is rotated, and the new access token used and asked about. */
async function refreshAndUse(t: Traffic, { web }: World, { refresh }: Tokens): Promise<Tokens> {
  const old = refresh!;
  const tokens = t.tokens(await oauth.refreshTokenGrant(web, old.token));
  await t.logged(record('REFRESH_TOKEN', rotated(WEB.id, old, tokens)));
  const { access } = tokens;
  await oauth.fetchUserInfo(web, access.token, access.sub);
  // Keycloak does not say with which token.
  const userinfo = { kind: 'userinfo_accessed', endpoint: 'userinfo', address: BACKEND } as const;
  await t.logged(record('USER_INFO_REQUEST', { ...userinfo, ...holder(WEB.id, access) }));
  const forged = `${access.token.slice(0, -8)}AAAAAAAA`;
  t.remember('access_token', forged);
  must(await refused(oauth.fetchUserInfo(web, forged, access.sub)), '401');
  const invalid = { outcome: 'failure', error: 'invalid_token' } as const;
  const refusal: Seen = { ...userinfo, ...invalid, oauthError: 'invalid_token' };
  await t.logged(record('USER_INFO_REQUEST_ERROR', refusal));

  const orders = await t.client(ORDERS.id, ORDERS.secret);
  must((await oauth.tokenIntrospection(orders, access.token)).active, true);
  const asked = {
    kind: 'token_introspected',
    endpoint: 'introspection',
    address: BACKEND,
  } as const;
  await t.logged(
    record('INTROSPECT_TOKEN', {
      ...asked,
      ...holder(ORDERS.id, access),
      grantClient: WEB.id,
      tokens: [presented(access)],
    }),
  );
  must((await oauth.tokenIntrospection(orders, 'no-token-at-all')).active, false);
  await t.logged(record('INTROSPECT_TOKEN_ERROR', { ...asked, ...invalid, client: ORDERS.id }));
  const stranger = await t.client(ORDERS.id, 'not-the-secret-of-orders');
  await refused(oauth.tokenIntrospection(stranger, access.token));
  await t.logged(
    record('INTROSPECT_TOKEN_ERROR', {
      ...asked,
      client: ORDERS.id,
      outcome: 'failure',
      error: 'invalid_client_credentials',
      oauthError: 'invalid_client',
    }),
    // The same once more, which says nothing new.
    record('INTROSPECT_TOKEN_ERROR'),
  );
  return tokens;
}

async function exchange(t: Traffic, _: World, { access }: Tokens): Promise<void> {
  const orders = await t.client(ORDERS.id, ORDERS.secret);
  const form = {
    subject_token: access.token,
    subject_token_type: ACCESS_TOKEN,
    requested_token_type: ACCESS_TOKEN,
  };
  const asked = { ...form, audience: STOCK.id, scope: 'email' };
  const tokens = t.tokens(await oauth.genericGrantRequest(orders, EXCHANGE_GRANT, asked));
  must(tokens.access.sid, access.sid);
  const seen = { ...TOKEN, grantType: EXCHANGE_GRANT } as const;
  await t.logged(
    record('TOKEN_EXCHANGE', {
      ...seen,
      ...holder(ORDERS.id, access),
      kind: 'token_exchanged',
      granted: tokens.scopes,
      audience: [STOCK.id],
      tokens: issued(tokens),
    }),
  );
  const stock = await t.client(STOCK.id, STOCK.secret);
  must(await refused(oauth.genericGrantRequest(stock, EXCHANGE_GRANT, form)), 'access_denied');
  await t.logged(
    record('TOKEN_EXCHANGE_ERROR', {
      ...seen,
      ...holder(STOCK.id, access),
      kind: 'token_request_failed',
      outcome: 'failure',
      error: 'not_allowed',
      oauthError: 'access_denied',
    }),
  );
}

/** Clients of their own account, and one that still asks people for their passwords. */
async function machines(t: Traffic): Promise<void> {
  const job = await t.client(JOB.id, JOB.secret);
  const own = t.tokens(await oauth.clientCredentialsGrant(job));
  const seen = { ...TOKEN, client: JOB.id, grantType: 'client_credentials' } as const;
  const subject = own.access.sub;
  const tokens = issued(own);
  await t.logged(
    record('CLIENT_LOGIN', { ...seen, kind: 'token_issued', subject, granted: own.scopes, tokens }),
  );
  const failed = { ...seen, kind: 'token_request_failed', outcome: 'failure' } as const;
  const wrong = await t.client(JOB.id, 'not-the-secret-of-the-job');
  must(await refused(oauth.clientCredentialsGrant(wrong)), 'unauthorized_client');
  const guess = { error: 'invalid_client_credentials', oauthError: 'invalid_client' };
  await t.logged(record('CLIENT_LOGIN_ERROR', { ...failed, ...guess }));
  const ghost = await t.client('ghost', 'secret-of-nobody');
  must(await refused(oauth.clientCredentialsGrant(ghost)), 'invalid_client');
  await t.logged(
    record('CLIENT_LOGIN_ERROR', {
      ...failed,
      client: 'ghost',
      requestedClient: 'ghost',
      error: 'client_not_found',
      oauthError: 'invalid_client',
    }),
  );
  must(await refused(oauth.clientCredentialsGrant(job, { scope: 'all-of-it' })), 'invalid_scope');
  const scope = { subject, error: 'invalid_request', oauthError: 'invalid_scope' };
  await t.logged(record('CLIENT_LOGIN_ERROR', { ...failed, ...scope }));

  const legacy = await t.client(LEGACY.id, LEGACY.secret);
  const password = { username: ANA.name, password: ANA.password };
  const ropc = t.tokens(await oauth.genericGrantRequest(legacy, 'password', password));
  const at = { ...TOKEN, client: LEGACY.id, grantType: 'password' } as const;
  await t.logged(
    record('LOGIN', {
      ...at,
      ...holder(LEGACY.id, ropc.access),
      kind: 'token_issued',
      granted: ropc.scopes,
      tokens: issued(ropc),
    }),
  );
  const nobody = { username: 'nobody', password: 'not-a-password' };
  must(await refused(oauth.genericGrantRequest(legacy, 'password', nobody)), 'invalid_grant');
  await t.logged(
    record('LOGIN_ERROR', {
      ...at,
      kind: 'token_request_failed',
      subject: 'nobody',
      outcome: 'failure',
      error: 'user_not_found',
      oauthError: 'invalid_grant',
    }),
  );
}

/** Authorization requests that Keycloak refuses before anybody logs in. */
async function refusedRequests(t: Traffic, { web }: World): Promise<void> {
  const { url } = await t.request(web, WEB.redirectUri);
  const change = async (changes: Record<string, string | undefined>) => {
    const changed = new URL(url);
    for (const [name, value] of Object.entries(changes)) {
      if (value === undefined) changed.searchParams.delete(name);
      else changed.searchParams.set(name, value);
    }
    const answer = await t.open(new Browser(HOME), changed);
    return answer.location?.searchParams.get('error') ?? answer.status;
  };
  const failed = (client: string, error: string, more: Partial<Seen> = {}) =>
    record('LOGIN_ERROR', {
      kind: 'authorization_failed',
      endpoint: 'authorization',
      outcome: 'failure',
      client,
      requestedClient: client,
      error,
      address: HOME,
      ...more,
    });
  const evil = 'https://web.example.net/cb';
  must(await change({ redirect_uri: evil }), 400);
  await t.logged(failed(WEB.id, 'invalid_redirect_uri', { redirectUri: evil }));
  must(await change({ client_id: 'ghost' }), 400);
  await t.logged(failed('ghost', 'client_not_found'));
  const noChallenge = { code_challenge: undefined, code_challenge_method: undefined };
  must(await change(noChallenge), 'invalid_request');
  const redirectUri = WEB.redirectUri;
  await t.logged(failed(WEB.id, 'invalid_request', { redirectUri, oauthError: 'invalid_request' }));
  must(await change({ scope: 'openid all-of-it' }), 'invalid_scope');
  await t.logged(failed(WEB.id, 'invalid_request', { redirectUri, oauthError: 'invalid_scope' }));
}

/** A client that must ask: refused by one person, granted by another, and taken back by the client itself. */
async function consent(t: Traffic, { spa, ids }: World): Promise<void> {
  const cleo = new Browser(HOME);
  let page = await t.open(cleo, (await t.request(spa, SPA.redirectUri)).url);
  page = await t.logIn(cleo, page, CLEO);
  page = await t.submit(cleo, page, { cancel: 'No' });
  must(page.location?.searchParams.get('error'), 'access_denied');
  const denied = {
    ...loggedIn(SPA.id, ids['cleo'] ?? '', cleo.sessionId, SPA.redirectUri),
    kind: 'consent_denied',
    outcome: 'denied',
    error: 'rejected_by_user',
    oauthError: 'access_denied',
  } as const;
  await t.logged(record('LOGIN_ERROR', denied));

  const ana = new Browser(HOME);
  const { url, checks } = await t.request(spa, SPA.redirectUri);
  page = await t.logIn(ana, await t.open(ana, url), ANA);
  page = await t.submit(ana, page, { accept: 'Yes' });
  const login = loggedIn(SPA.id, ids['ana'] ?? '', ana.sessionId, SPA.redirectUri);
  await t.logged(record('LOGIN', login, { ...login, kind: 'consent_granted' }));
  const tokens = t.tokens(await oauth.authorizationCodeGrant(spa, page.location!, checks));
  await t.logged(redeemed(SPA.id, tokens));

  const refresh = tokens.refresh!;
  await oauth.tokenRevocation(spa, tokens.access.token);
  const revoked = { kind: 'token_revoked', endpoint: 'revocation', address: BACKEND } as const;
  // Keycloak does not say in which session.
  await t.logged(
    record('REVOKE_GRANT', {
      ...revoked,
      client: SPA.id,
      subject: refresh.sub,
      tokens: [{ role: 'revoked', type: 'access', jti: tokens.access.jti }],
    }),
  );
  await oauth.tokenRevocation(spa, refresh.token);
  await t.logged(
    record('REVOKE_GRANT', {
      ...revoked,
      ...holder(SPA.id, refresh),
      tokens: [{ role: 'revoked', type: 'refresh', jti: refresh.jti }],
    }),
  );
  must(await refused(oauth.refreshTokenGrant(spa, refresh.token)), 'invalid_grant');
  await t.logged(record('REFRESH_TOKEN_ERROR', refusedRefresh(SPA.id, refresh)));
}

/** A device that is approved in the browser of a person, one that is refused, and a code that nobody made. */
async function device(t: Traffic, { ids }: World, browser: Browser): Promise<void> {
  const tv = await t.client(TV.id);
  const session = browser.sessionId;
  const subject = ids['ana'] ?? '';
  const page = { endpoint: 'device', client: TV.id, session, address: HOME } as const;
  const typed = {
    ...page,
    kind: 'device_authorized',
    phase: 'attempt',
    asked: ['openid'],
  } as const;
  const login = { ...page, subject, kind: 'login', endpoint: 'authorization' } as const;
  const decide = async (button: Record<string, string>): Promise<string> => {
    const asked = await oauth.initiateDeviceAuthorization(tv, { scope: 'openid' });
    t.remember('device_code', asked.device_code);
    t.remember('user_code', asked.user_code);
    const opened = await t.open(browser, new URL(asked.verification_uri_complete ?? ''));
    await t.submit(browser, opened, button);
    return asked.device_code;
  };
  const poll = (code: string) =>
    t.post('/protocol/openid-connect/token', {
      grant_type: DEVICE_GRANT,
      device_code: code,
      client_id: TV.id,
    });

  const approved = await decide({ accept: 'Yes' });
  await t.logged(
    record('OAUTH2_DEVICE_VERIFY_USER_CODE', typed),
    record(
      'LOGIN',
      login,
      { ...login, kind: 'consent_granted' },
      { ...login, kind: 'device_authorized', endpoint: 'device' },
    ),
  );
  const tokens = t.tokens((await (await poll(approved)).json()) as never);
  const atToken = { ...TOKEN, grantType: DEVICE_GRANT } as const;
  await t.logged(
    record('OAUTH2_DEVICE_CODE_TO_TOKEN', {
      ...atToken,
      ...holder(TV.id, tokens.access),
      kind: 'token_issued',
      granted: tokens.scopes,
      tokens: issued(tokens),
    }),
  );

  const refusedCode = await decide({ cancel: 'No' });
  const denial = {
    outcome: 'denied',
    error: 'rejected_by_user',
    oauthError: 'access_denied',
  } as const;
  await t.logged(
    record('OAUTH2_DEVICE_VERIFY_USER_CODE', typed),
    record(
      'LOGIN_ERROR',
      { ...login, ...denial, kind: 'consent_denied' },
      { ...login, ...denial, kind: 'device_authorized', endpoint: 'device' },
    ),
  );
  must(((await (await poll(refusedCode)).json()) as { error: string }).error, 'access_denied');
  const atPoll = { ...atToken, kind: 'token_request_failed', client: TV.id } as const;
  await t.logged(
    record('OAUTH2_DEVICE_CODE_TO_TOKEN_ERROR', {
      ...atPoll,
      outcome: 'denied',
      error: 'access_denied',
      oauthError: 'access_denied',
    }),
  );
  must(((await (await poll(refusedCode)).json()) as { error: string }).error, 'slow_down');
  await t.logged(
    record('OAUTH2_DEVICE_CODE_TO_TOKEN_ERROR', {
      ...atPoll,
      outcome: 'pending',
      error: 'slow_down',
      oauthError: 'slow_down',
    }),
  );
  await t.open(browser, t.url('/device?user_code=AAAA-BBBB'));
  await t.logged(
    record('OAUTH2_DEVICE_VERIFY_USER_CODE_ERROR', {
      kind: 'device_authorized',
      phase: 'attempt',
      endpoint: 'device',
      outcome: 'failure',
      error: 'invalid_oauth2_user_code',
      address: HOME,
    }),
  );
}

/** A code with the wrong verifier, and the same code again, which is used up by then. */
async function wrongVerifier(t: Traffic, { web, ids }: World): Promise<void> {
  const browser = new Browser(HOME);
  const { url, checks } = await t.request(web, WEB.redirectUri);
  const page = await t.logIn(browser, await t.open(browser, url), CLEO);
  const session = browser.sessionId;
  const subject = ids['cleo'] ?? '';
  await t.logged(record('LOGIN', loggedIn(WEB.id, subject, session, WEB.redirectUri)));
  const wrong = { ...checks, pkceCodeVerifier: oauth.randomPKCECodeVerifier() };
  const both = (error: string, more: Partial<Seen>) => {
    const seen = {
      ...CODE,
      client: WEB.id,
      session,
      outcome: 'failure',
      error,
      oauthError: 'invalid_grant',
      ...more,
    } as const;
    return record(
      'CODE_TO_TOKEN_ERROR',
      { ...seen, kind: 'token_request_failed' },
      { ...seen, kind: 'code_redeemed' },
    );
  };
  const redeem = (how: typeof checks) =>
    refused(oauth.authorizationCodeGrant(web, page.location!, how));
  must(await redeem(wrong), 'invalid_grant');
  await t.logged(both('pkce_verification_failed', { subject }));
  must(await redeem(checks), 'invalid_grant');
  // Not whose it was: the code is gone.
  await t.logged(both('invalid_code', {}));
}

/** Dynamic registration with an initial access token (RFC 7591, RFC 7592). */
async function registration(t: Traffic, world: World): Promise<void> {
  const admin = await t.admin();
  const { token } = (await admin.call('POST', `/${REALM}/clients-initial-access`, {
    expiration: 600,
    count: 1,
  })) as { token: string };
  t.remember('registration_access_token', token);
  await t.logged(
    adminLogin(world.adminId, tokensOf(t, admin)),
    record('CREATE CLIENT_INITIAL_ACCESS_MODEL', {
      kind: 'unclassified',
      client: world.adminCli,
      actor: world.adminId,
      address: ADMIN_ADDRESS,
    }),
  );
  const call = async (method: string, url: URL, bearer: string, body?: object) => {
    const answer = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${bearer}`,
        'content-type': 'application/json',
        'x-forwarded-for': BACKEND,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok || text === '') return { status: answer.status, ...NO_CLIENT };
    const got = JSON.parse(text) as typeof NO_CLIENT;
    t.remember('registration_access_token', got.registration_access_token);
    t.remember('client_secret', got['client_secret']);
    return { status: answer.status, ...got };
  };
  const metadata = { client_name: 'Notes', redirect_uris: ['https://notes.example.com/cb'] };
  const endpoint = t.url('/clients-registrations/openid-connect');
  const made = await call('POST', endpoint, token, metadata);
  must(made.status, 201);
  const at = { endpoint: 'registration', client: made.client_id, address: BACKEND } as const;
  await t.logged(record('CLIENT_REGISTER', { ...at, kind: 'client_registered' }));
  const own = new URL(made.registration_client_uri);
  const changed = await call('PUT', own, made.registration_access_token, {
    ...metadata,
    client_id: made.client_id,
    redirect_uris: ['https://notes.example.com/callback'],
  });
  must(changed.status, 200);
  await t.logged(record('CLIENT_UPDATE', { ...at, kind: 'client_updated' }));
  const read = await call('GET', own, changed.registration_access_token);
  must(read.status, 200);
  const info = { client: made.client_id, address: BACKEND } as const;
  await t.logged(record('CLIENT_INFO', { ...info, kind: 'unclassified' }));
  must((await call('DELETE', own, read.registration_access_token)).status, 204);
  await t.logged(record('CLIENT_DELETE', { ...at, kind: 'client_deleted' }));
  must((await call('POST', endpoint, 'not-an-initial-access-token', metadata)).status, 401);
  await t.logged(
    record('CLIENT_REGISTER_ERROR', {
      kind: 'client_registered',
      endpoint: 'registration',
      outcome: 'failure',
      error: 'invalid_token',
      oauthError: 'invalid_grant',
      address: BACKEND,
    }),
  );
}
const NO_CLIENT: Readonly<Record<string, string>> & {
  readonly client_id: string;
  readonly registration_client_uri: string;
  readonly registration_access_token: string;
} = {
  client_id: '',
  client_secret: '',
  registration_client_uri: '',
  registration_access_token: '',
};

/** A wrong password locks the account; the right one does not open it. */
async function lockout(t: Traffic, { web, ids }: World): Promise<void> {
  const browser = new Browser(HOME);
  let page = await t.open(browser, (await t.request(web, WEB.redirectUri)).url);
  const subject = ids['ben'] ?? '';
  const failed = (error: string): Seen => ({
    ...loggedIn(WEB.id, subject, browser.sessionId, WEB.redirectUri),
    kind: 'login_failed',
    outcome: 'failure',
    error,
  });
  page = await t.logIn(browser, page, { name: BEN.name, password: 'not-the-password-of-ben' });
  await t.logged(
    record('LOGIN_ERROR', failed('invalid_user_credentials')),
    record('USER_DISABLED_BY_TEMPORARY_LOCKOUT', {
      kind: 'account_locked',
      subject,
      address: HOME,
    }),
  );
  await t.logIn(browser, page, BEN);
  await t.logged(record('LOGIN_ERROR', failed('user_temporarily_disabled')));
}

/** RP-initiated logout; the refresh token ends with the session. */
async function endSession(t: Traffic, { spa, ids }: World): Promise<void> {
  const browser = new Browser(HOME);
  const { url, checks } = await t.request(spa, SPA.redirectUri);
  let page = await t.logIn(browser, await t.open(browser, url), CLEO);
  page = await t.submit(browser, page, { accept: 'Yes' });
  const session = browser.sessionId;
  const login = loggedIn(SPA.id, ids['cleo'] ?? '', session, SPA.redirectUri);
  await t.logged(record('LOGIN', login, { ...login, kind: 'consent_granted' }));
  const tokens = t.tokens(await oauth.authorizationCodeGrant(spa, page.location!, checks));
  await t.logged(redeemed(SPA.id, tokens));
  await t.open(browser, oauth.buildEndSessionUrl(spa, { id_token_hint: tokens.idToken }));
  await t.logged(
    record('LOGOUT', {
      ...holder(SPA.id, tokens.access),
      kind: 'session_ended',
      endpoint: 'end_session',
      address: HOME,
    }),
  );
  const refresh = tokens.refresh!;
  must(await refused(oauth.refreshTokenGrant(spa, refresh.token)), 'invalid_grant');
  await t.logged(record('REFRESH_TOKEN_ERROR', refusedRefresh(SPA.id, refresh)));
}

/** A refresh token that was rotated is presented again from elsewhere; Keycloak then takes the grant from both. */
async function reuse(t: Traffic, { web, ids }: World): Promise<void> {
  const browser = new Browser(HOME);
  const { url, checks } = await t.request(web, WEB.redirectUri);
  const page = await t.logIn(browser, await t.open(browser, url), ANA);
  const login = loggedIn(WEB.id, ids['ana'] ?? '', browser.sessionId, WEB.redirectUri);
  await t.logged(record('LOGIN', login));
  const first = t.tokens(await oauth.authorizationCodeGrant(web, page.location!, checks));
  await t.logged(redeemed(WEB.id, first));
  const old = first.refresh!;
  const second = t.tokens(await oauth.refreshTokenGrant(web, old.token));
  await t.logged(record('REFRESH_TOKEN', rotated(WEB.id, old, second)));
  const thief = await t.client(WEB.id, WEB.secret, THIEF);
  must(await refused(oauth.refreshTokenGrant(thief, old.token)), 'invalid_grant');
  const stolen = refusedRefresh(WEB.id, old, THIEF);
  await t.logged(
    record('REFRESH_TOKEN_ERROR', stolen, { ...stolen, kind: 'token_reuse_detected' }),
  );
  must(await refused(oauth.refreshTokenGrant(web, second.refresh!.token)), 'invalid_grant');
  await t.logged(record('REFRESH_TOKEN_ERROR', refusedRefresh(WEB.id, second.refresh!)));
}

/** What an administrator changes and ends. */
async function administration(t: Traffic, { adminId, adminCli, ids }: World): Promise<void> {
  const admin = await t.admin();
  await t.logged(adminLogin(adminId, tokensOf(t, admin)));
  const webId = await admin.idOf(`/${REALM}/clients?clientId=${WEB.id}`);
  const client = `/${REALM}/clients/${webId}`;
  const by = { actor: adminId, address: ADMIN_ADDRESS } as const;
  const secret = (await admin.call('POST', `${client}/client-secret`)) as { value: string };
  t.remember('client_secret', secret.value);
  // The representation of a secret does not say whose it is, but by the internal id.
  const renewed: Seen = { ...by, kind: 'client_credential_changed', client: webId };
  await t.logged(record('ACTION CLIENT', renewed));
  const before = (await admin.call('GET', client)) as object;
  await admin.call('PUT', client, { ...before, name: 'a "quoted" \\ name, with type="LOGIN"' });
  await t.logged(record('UPDATE CLIENT', { ...by, kind: 'client_updated', client: WEB.id }));
  await admin.call('PUT', `/${REALM}`, { accessTokenLifespan: 240 });
  const tool = { ...by, client: adminCli } as const;
  await t.logged(record('UPDATE REALM', { ...tool, kind: 'policy_changed' }));
  const ana = ids['ana'] ?? '';
  await admin.call('DELETE', `/${REALM}/users/${ids['cleo'] ?? ''}/consents/${SPA.id}`);
  await t.logged(
    record('ACTION USER', {
      ...by,
      kind: 'consent_revoked',
      client: SPA.id,
      subject: ids['cleo'] ?? '',
    }),
  );
  await admin.call('POST', `/${REALM}/users/${ana}/logout`);
  await t.logged(record('ACTION USER', { ...tool, kind: 'session_revoked', subject: ana }));
  await admin.call('POST', `/${REALM}/logout-all`);
  await t.logged(record('ACTION REALM', { ...tool, kind: 'session_revoked' }));
}
