/**
 * A real authorization server (oidc-provider), driven by a real client (openid-client), with the spans
 * kept in memory: which events are told, which references join, and that no secret is among them.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import * as oauth from 'openid-client';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  gatewayMiddleware,
  resourceServerMiddleware,
  validationOf,
} from '../../instrumentation/index.ts';
import { NIL_REF, isUuid } from '../../model/ids.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { tokenReference } from '../../runtime/token_reference.ts';
import { TEST_KEY } from '../harness.ts';
import {
  API,
  Browser,
  JOB,
  ORDERS_API,
  SPA,
  TV,
  WEB,
  closeServer,
  startInstrumentedProvider,
  type InstrumentedProvider,
} from './instrumented_provider.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const refOf = (value: string): string => tokenReference(keyRing, value).ref;

let as: InstrumentedProvider;
/** Everything that must never be seen outside. */
const secrets = new Set<string>([WEB.secret, JOB.secret, API.secret, 'alice@example.com']);
/** All spans of the file, as JSON. */
const exported: string[] = [];

beforeAll(async () => {
  as = await startInstrumentedProvider();
});
afterAll(async () => {
  await as.close();
});
beforeEach(async () => {
  await takeEvents();
  as.user.refusesConsent = false;
});

type Told = Record<string, unknown> & { kind: string };

/** The events told since the last call, by attribute name without `oauth.`. */
async function takeEvents(): Promise<Told[]> {
  await as.telemetry.flush();
  const spans = as.exporter.getFinishedSpans();
  for (const span of spans) {
    const { name, attributes, events, links, status, resource } = span;
    exported.push(
      JSON.stringify({ name, attributes, events, links, status, r: resource.attributes }),
    );
  }
  const told = spans.map((span) => {
    const { attributes } = span;
    return {
      ...Object.fromEntries(
        Object.entries(attributes).map(([k, v]) => [k.replace(/^oauth\./, ''), v]),
      ),
      kind: String(attributes['oauth.event.kind']),
      trace_id: span.spanContext().traceId,
    };
  });
  as.exporter.reset();
  return told;
}

function keep<T extends string | undefined>(value: T): T {
  if (value !== undefined) secrets.add(value);
  return value;
}

async function clientOf(id: string, secret?: string): Promise<oauth.Configuration> {
  const auth = secret === undefined ? oauth.None() : oauth.ClientSecretBasic(secret);
  return oauth.discovery(new URL(as.issuer), id, undefined, auth, {
    // Loopback without TLS; the name carries its warning.
    // eslint-disable-next-line @typescript-eslint/no-deprecated
    execute: [oauth.allowInsecureRequests],
  });
}

interface Authorized {
  readonly callback: URL;
  readonly code: string;
  readonly verifier: string;
  readonly state: string;
  readonly nonce: string;
}

/** Logs in and consents; gives what the client's redirect URI receives. */
async function authorize(
  config: oauth.Configuration,
  redirectUri: string,
  browser: Browser,
  extra: Record<string, string> = {},
): Promise<Authorized> {
  const verifier = keep(oauth.randomPKCECodeVerifier());
  const state = keep(oauth.randomState());
  const nonce = keep(oauth.randomNonce());
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: 'openid offline_access',
    prompt: 'consent',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
    ...extra,
  });
  const { location } = await browser.walk(url);
  for (const cookie of browser.cookieValues) keep(cookie);
  return {
    callback: location!,
    code: keep(location!.searchParams.get('code') ?? ''),
    verifier,
    state,
    nonce,
  };
}

async function exchange(
  config: oauth.Configuration,
  { callback, verifier, state, nonce }: Authorized,
  parameters?: Record<string, string>,
): Promise<oauth.TokenEndpointResponse> {
  const tokens = await oauth.authorizationCodeGrant(
    config,
    callback,
    { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce },
    parameters,
  );
  return keepAll(tokens);
}

function keepAll<T extends oauth.TokenEndpointResponse>(tokens: T): T {
  keep(tokens.access_token);
  keep(tokens.refresh_token);
  keep(tokens.id_token);
  return tokens;
}

const kinds = (events: readonly Told[]): string[] => events.map((event) => event.kind);
function one(events: readonly Told[], kind: string): Told {
  const found = events.filter((event) => event.kind === kind);
  expect(found, `one ${kind} among ${kinds(events).join(', ')}`).toHaveLength(1);
  return found[0]!;
}
/** What a told event says of tokens: `role.type` in order of name. */
function tokensOf(event: Told): string[] {
  return Object.keys(event)
    .filter((key) => key.startsWith('token.') && key.endsWith('.ref'))
    .map((key) => key.slice('token.'.length, -'.ref'.length))
    .sort();
}

describe('authorization code with PKCE', () => {
  it('tells login, consent, code, redemption and tokens, and their references join', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    await takeEvents();
    const browser = new Browser({
      'x-forwarded-for': '203.0.113.7, 10.0.0.1',
      'user-agent': 'Mozilla/5.0 Chrome/140.0',
    });
    const authorized = await authorize(config, WEB.uri, browser);
    const atAuthorization = await takeEvents();
    expect(kinds(atAuthorization)).toEqual([
      'authorization_requested',
      'login',
      'consent_granted',
      'code_issued',
    ]);

    const requested = one(atAuthorization, 'authorization_requested');
    expect(requested).toMatchObject({
      'event.outcome': 'success',
      endpoint: 'authorization',
      client_id: WEB.id,
      client_name: 'Web shop',
      client_auth_method: 'client_secret_basic',
      response_type: 'code',
      scopes_requested: ['openid', 'offline_access'],
      redirect_uri: WEB.uri,
      pkce: 'S256',
      issuer: as.issuer,
      client_ip_role: 'end_user',
      'client.address': '203.0.113.7',
      'user_agent.original': 'Mozilla/5.0 Chrome/140.0',
      'http.request.method': 'GET',
      'http.route': '/auth',
      'http.response.status_code': 303,
      'redaction.key_id': keyRing.currentId,
    });
    expect(isUuid(String(requested['event.id']))).toBe(true);

    const issued = one(atAuthorization, 'code_issued');
    expect(tokensOf(issued)).toEqual(['issued.code']);
    expect(issued['token.issued.code.ref']).toBe(refOf(authorized.code));
    expect(issued['scopes_granted']).toEqual(['openid', 'offline_access']);
    expect(issued['redirect_uri']).toBe(WEB.uri);
    expect(issued['http.route']).toBe('/auth/:uid');
    const alice = keyRing.ref('subject', 'alice@example.com');
    expect(issued['subject.ref']).toBe(alice);
    expect(one(atAuthorization, 'login')).toMatchObject({
      'subject.ref': alice,
      'subject.type': 'user',
      'session.ref': issued['session.ref'],
      amr: ['pwd'],
    });
    expect(one(atAuthorization, 'consent_granted')).toMatchObject({
      scopes_granted: ['openid', 'offline_access'],
      'grant.ref': issued['grant.ref'],
    });

    const tokens = await exchange(config, authorized);
    const atToken = await takeEvents();
    expect(kinds(atToken)).toEqual(['code_redeemed', 'token_issued']);
    const redeemed = one(atToken, 'code_redeemed');
    expect(tokensOf(redeemed)).toEqual(['consumed.code']);
    expect(redeemed).toMatchObject({
      'event.outcome': 'success',
      'token.consumed.code.ref': issued['token.issued.code.ref'],
      redirect_uri: WEB.uri,
      pkce: 'S256',
    });
    const granted = one(atToken, 'token_issued');
    expect(tokensOf(granted)).toEqual(['consumed.code', 'issued.access', 'issued.refresh']);
    expect(granted).toMatchObject({
      'event.outcome': 'success',
      endpoint: 'token',
      grant_type: 'authorization_code',
      client_id: WEB.id,
      client_ip_role: 'client_backend',
      binding: 'none',
      scopes_granted: ['openid', 'offline_access'],
      'http.route': '/token',
      'http.request.method': 'POST',
      'http.response.status_code': 200,
      'subject.ref': alice,
      'session.ref': issued['session.ref'],
      'grant.ref': issued['grant.ref'],
      'token.issued.access.ref': refOf(tokens.access_token),
      'token.issued.access.ref_kind': 'hmac',
      'token.issued.access.parent_ref': refOf(authorized.code),
      'token.issued.refresh.ref': refOf(tokens.refresh_token!),
      'token.issued.refresh.parent_ref': refOf(authorized.code),
      'token.issued.refresh.counter': 0,
    });
    expect(granted['duration_ms']).toBeGreaterThan(0);
    expect(granted['token.issued.access.family_ref']).toBe(
      granted['token.issued.refresh.family_ref'],
    );
    expect(
      Number(granted['token.issued.access.expires_at']) -
        Number(granted['token.issued.access.issued_at']),
    ).toBe(tokens.expires_in);
    // The events of one request share its trace.
    expect(granted['trace_id']).toBe(redeemed['trace_id']);
  });

  it('keeps the families of two authorizations of one session apart', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    const browser = new Browser();
    await takeEvents();
    for (let i = 0; i < 2; i += 1) {
      await exchange(config, await authorize(config, WEB.uri, browser));
    }
    const issued = (await takeEvents()).filter((event) => event.kind === 'token_issued');
    expect(issued).toHaveLength(2);
    const [first, second] = issued;
    expect(first!['grant.ref']).toBe(second!['grant.ref']);
    expect(first!['token.issued.refresh.family_ref']).not.toBe(
      second!['token.issued.refresh.family_ref'],
    );
  });

  it('tells a refused redirect URI as asked, without its query', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    await takeEvents();
    const url = oauth.buildAuthorizationUrl(config, {
      redirect_uri: `https://evil.example/steal?session=${keep('planted-query-secret')}#frag`,
      scope: 'openid',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    });
    await new Browser().walk(url);
    const events = await takeEvents();
    expect(kinds(events)).toEqual(['authorization_failed']);
    expect(events[0]).toMatchObject({
      'event.outcome': 'failure',
      'error.code': 'invalid_redirect_uri',
      error: 'invalid_redirect_uri',
      client_id: WEB.id,
      redirect_uri: 'https://evil.example/steal',
      'ext.redirect_uri_had': 'query fragment',
      'http.response.status_code': 400,
    });
  });

  it('tells a silent check without a session as a challenge, not a failure', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    await takeEvents();
    const url = oauth.buildAuthorizationUrl(config, {
      redirect_uri: WEB.uri,
      scope: 'openid',
      prompt: 'none',
      code_challenge: 'x'.repeat(43),
      code_challenge_method: 'S256',
    });
    await new Browser().walk(url);
    const events = await takeEvents();
    expect(kinds(events)).toEqual(['authorization_failed']);
    expect(events[0]).toMatchObject({ 'event.outcome': 'challenge', error: 'login_required' });
  });

  it('tells an unknown client by what was asked, and a refused consent as denied', async () => {
    await new Browser().walk(
      new URL(`${as.issuer}/auth?client_id=nobody&response_type=code&scope=openid`),
    );
    const [unknown] = await takeEvents();
    expect(unknown).toMatchObject({
      kind: 'authorization_failed',
      requested_client_id: 'nobody',
      error: 'invalid_client',
    });
    expect(unknown).not.toHaveProperty('client_id');

    const config = await clientOf(SPA.id);
    await takeEvents();
    as.user.refusesConsent = true;
    await authorize(config, SPA.uri, new Browser());
    const events = await takeEvents();
    expect(kinds(events)).toEqual([
      'authorization_requested',
      'login',
      'consent_denied',
      'authorization_failed',
    ]);
    expect(one(events, 'authorization_failed')).toMatchObject({
      'event.outcome': 'denied',
      error: 'access_denied',
    });
  });
});

describe('refresh, reuse and failure', () => {
  it('tells rotation with old and new token, then reuse and the revoked grant', async () => {
    const config = await clientOf(SPA.id);
    const first = await exchange(config, await authorize(config, SPA.uri, new Browser()));
    const issued = one(await takeEvents(), 'token_issued');
    const second = keepAll(await oauth.refreshTokenGrant(config, first.refresh_token!));
    const refreshed = one(await takeEvents(), 'token_refreshed');
    expect(tokensOf(refreshed)).toEqual(['consumed.refresh', 'issued.access', 'issued.refresh']);
    const family = issued['token.issued.refresh.family_ref'];
    expect(refreshed).toMatchObject({
      'event.outcome': 'success',
      grant_type: 'refresh_token',
      // A public client runs with its user.
      client_ip_role: 'end_user',
      'grant.ref': issued['grant.ref'],
      'subject.ref': issued['subject.ref'],
      'session.ref': issued['session.ref'],
      'token.consumed.refresh.ref': issued['token.issued.refresh.ref'],
      'token.consumed.refresh.family_ref': family,
      'token.consumed.refresh.counter': 0,
      'token.issued.refresh.ref': refOf(second.refresh_token!),
      'token.issued.refresh.parent_ref': issued['token.issued.refresh.ref'],
      'token.issued.refresh.family_ref': family,
      'token.issued.refresh.counter': 1,
      'token.issued.access.ref': refOf(second.access_token),
      'token.issued.access.parent_ref': issued['token.issued.refresh.ref'],
      'token.issued.access.family_ref': family,
    });

    await expect(oauth.refreshTokenGrant(config, first.refresh_token!)).rejects.toThrow();
    const atReuse = await takeEvents();
    expect(kinds(atReuse)).toEqual([
      'token_request_failed',
      'token_reuse_detected',
      'grant_revoked',
    ]);
    expect(one(atReuse, 'token_request_failed')).toMatchObject({
      'event.outcome': 'failure',
      error: 'invalid_grant',
      'error.description': 'refresh token already used',
      'http.response.status_code': 400,
      'token.presented.refresh.ref': issued['token.issued.refresh.ref'],
      'token.presented.refresh.family_ref': family,
      'grant.ref': issued['grant.ref'],
    });
    expect(tokensOf(one(atReuse, 'token_reuse_detected'))).toEqual(['presented.refresh']);
    expect(one(atReuse, 'grant_revoked')).toMatchObject({
      'event.outcome': 'success',
      'grant.ref': issued['grant.ref'],
      'token.revoked.refresh.ref': issued['token.issued.refresh.ref'],
      'token.revoked.refresh.family_ref': family,
    });

    // The successor died with the grant: presented now, it is unknown to the server, but not to us.
    await expect(oauth.refreshTokenGrant(config, second.refresh_token!)).rejects.toThrow();
    const after = await takeEvents();
    expect(kinds(after)).toEqual(['token_request_failed']);
    expect(after[0]).toMatchObject({
      'error.description': 'refresh token not found',
      'token.presented.refresh.ref': refOf(second.refresh_token!),
    });
  });

  it('tells a code presented twice, and one with a wrong verifier', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    const authorized = await authorize(config, WEB.uri, new Browser());
    await exchange(config, authorized);
    await takeEvents();
    await expect(exchange(config, authorized)).rejects.toThrow();
    const twice = await takeEvents();
    expect(kinds(twice)).toEqual([
      'token_request_failed',
      'code_redeemed',
      'token_reuse_detected',
      'grant_revoked',
    ]);
    expect(one(twice, 'code_redeemed')).toMatchObject({
      'event.outcome': 'failure',
      error: 'invalid_grant',
      'token.consumed.code.ref': refOf(authorized.code),
    });
    expect(one(twice, 'token_reuse_detected')).toMatchObject({
      'token.presented.code.ref': refOf(authorized.code),
    });

    const other = await authorize(config, WEB.uri, new Browser());
    await takeEvents();
    const verifier = keep(oauth.randomPKCECodeVerifier());
    await expect(exchange(config, { ...other, verifier })).rejects.toThrow();
    const wrong = await takeEvents();
    expect(kinds(wrong)).toEqual(['token_request_failed', 'code_redeemed']);
    for (const kind of ['token_request_failed', 'code_redeemed'])
      expect(one(wrong, kind)).toMatchObject({
        'event.outcome': 'failure',
        error: 'invalid_grant',
        'error.code': 'pkce_verification_failed',
      });
  });

  it('tells a wrong client secret, with the client that was named', async () => {
    const config = await clientOf(JOB.id, keep('wrong-secret-0123456789'));
    await takeEvents();
    await expect(oauth.clientCredentialsGrant(config)).rejects.toThrow();
    const events = await takeEvents();
    expect(kinds(events)).toEqual(['token_request_failed']);
    expect(events[0]).toMatchObject({
      'event.outcome': 'failure',
      error: 'invalid_client',
      client_id: JOB.id,
      grant_type: 'client_credentials',
      'http.response.status_code': 401,
    });

    const nobody = await clientOf('nobody-at-all', keep('some-secret-0123456789'));
    await takeEvents();
    await expect(oauth.clientCredentialsGrant(nobody)).rejects.toThrow();
    expect((await takeEvents())[0]).toMatchObject({
      error: 'invalid_client',
      requested_client_id: 'nobody-at-all',
    });
  });
});

describe('other grants and endpoints', () => {
  it('tells client credentials with a JWT, whose jti joins with what an API and a gateway saw', async () => {
    const config = await clientOf(JOB.id, JOB.secret);
    await takeEvents();
    const tokens = keepAll(
      await oauth.clientCredentialsGrant(config, { resource: ORDERS_API, scope: 'orders:read' }),
    );
    const issued = one(await takeEvents(), 'token_issued');
    expect(tokensOf(issued)).toEqual(['issued.access']);
    expect(issued).toMatchObject({
      grant_type: 'client_credentials',
      client_id: JOB.id,
      client_ip_role: 'client_backend',
      'subject.type': 'client',
      'subject.ref': keyRing.ref('subject', JOB.id),
      audience: [ORDERS_API],
      resource: [ORDERS_API],
      scopes_requested: ['orders:read'],
      scopes_granted: ['orders:read'],
      'token.issued.access.ref_kind': 'jti',
      'token.issued.access.alg': 'ES256',
      'token.issued.access.kid': 'as-key-1',
    });
    expect(issued['token.issued.access.family_ref']).toBeUndefined();

    const app = express();
    const keys = createRemoteJWKSet(new URL(`${as.issuer}/jwks`));
    app.use(gatewayMiddleware(as.telemetry.recorder, { resource: 'edge', trustProxy: true }));
    app.use(
      resourceServerMiddleware(as.telemetry.recorder, {
        resource: ORDERS_API,
        validate: async (token) =>
          validationOf(
            (await jwtVerify(token, keys, { issuer: as.issuer, audience: ORDERS_API })).payload,
          ),
        requiredScopes: (req) => (req.method === 'POST' ? ['orders:write'] : ['orders:read']),
        ipRole: 'client_backend',
      }),
    );
    app.all('/orders/:id', (_req, res) => void res.json({ ok: true }));
    const server = createServer(app as unknown as Parameters<typeof createServer>[1]);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/orders/17?note=x`;
    const call = async (method: string, token: string): Promise<number> => {
      const answer = await fetch(url, { method, headers: { authorization: `Bearer ${token}` } });
      await answer.arrayBuffer();
      return answer.status;
    };

    expect(await call('GET', tokens.access_token)).toBe(200);
    const seen = await takeEvents();
    expect(kinds(seen).sort()).toEqual([
      'api_accessed',
      'api_accessed',
      'jwks_fetched',
      'token_validated',
    ]);
    for (const event of seen.filter((e) => e.kind !== 'jwks_fetched')) {
      expect(event['token.presented.access.ref']).toBe(issued['token.issued.access.ref']);
      expect(event['event.outcome']).toBe('success');
    }
    const [gateway, api] = ['edge', ORDERS_API].map((resource) =>
      seen.find((e) => e.kind === 'api_accessed' && (e['resource'] as string[])[0] === resource),
    );
    expect(api).toMatchObject({
      client_id: JOB.id,
      'subject.type': 'client',
      'subject.ref': issued['subject.ref'],
      scopes_granted: ['orders:read'],
      client_ip_role: 'client_backend',
      'http.route': '/orders/:id',
      'http.response.status_code': 200,
    });
    expect(gateway).toMatchObject({ client_ip_role: 'end_user', 'http.route': '/orders/:id' });
    // One trace from the gateway through to the API.
    expect(gateway!['trace_id']).toBe(api!['trace_id']);

    // Refused for want of a scope: the token was fine, the call was not.
    expect(await call('POST', tokens.access_token)).toBe(403);
    const refused = await takeEvents();
    expect(one(refused, 'token_validated')['event.outcome']).toBe('success');
    expect(refused.filter((e) => e.kind === 'api_accessed').map((e) => e['event.outcome'])).toEqual(
      ['failure', 'failure'],
    );

    // A changed signature: rejected under the very same reference.
    const forged = keep(`${tokens.access_token.slice(0, -6)}AAAAAA`);
    expect(await call('GET', forged)).toBe(401);
    expect(one(await takeEvents(), 'token_rejected')).toMatchObject({
      'event.outcome': 'failure',
      'error.code': 'invalid_signature',
      'token.presented.access.ref': issued['token.issued.access.ref'],
    });
    await closeServer(server);
  });

  it('tells introspection and revocation with what they found', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    const api = await clientOf(API.id, API.secret);
    const tokens = await exchange(config, await authorize(config, WEB.uri, new Browser()));
    const issued = one(await takeEvents(), 'token_issued');

    await oauth.tokenIntrospection(api, tokens.access_token);
    expect(one(await takeEvents(), 'token_introspected')).toMatchObject({
      'event.outcome': 'success',
      endpoint: 'introspection',
      client_id: API.id,
      client_ip_role: 'client_backend',
      'ext.active': 'true',
      'ext.token_client_id': WEB.id,
      'token.presented.access.ref': issued['token.issued.access.ref'],
      'grant.ref': issued['grant.ref'],
    });
    await oauth.tokenIntrospection(api, keep('never-issued-token-000000'));
    expect(one(await takeEvents(), 'token_introspected')).toMatchObject({
      'ext.active': 'false',
      'token.presented.unknown.ref': refOf('never-issued-token-000000'),
    });

    await oauth.tokenRevocation(config, tokens.refresh_token!);
    const revoked = await takeEvents();
    expect(kinds(revoked)).toEqual(['token_revoked', 'grant_revoked']);
    expect(revoked[0]).toMatchObject({
      'event.outcome': 'success',
      'ext.revoked': 'true',
      'token.revoked.refresh.ref': issued['token.issued.refresh.ref'],
      'token.revoked.refresh.family_ref': issued['token.issued.refresh.family_ref'],
    });
    expect(revoked[1]!['grant.ref']).toBe(issued['grant.ref']);
    await oauth.tokenRevocation(config, tokens.refresh_token!);
    const again = await takeEvents();
    expect(kinds(again)).toEqual(['token_revoked']);
    expect(tokensOf(again[0]!)).toEqual(['presented.unknown']);
    expect(again[0]!['ext.revoked']).toBe('false');
  });

  it('tells userinfo, by the token presented', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    const tokens = await exchange(config, await authorize(config, WEB.uri, new Browser()));
    await takeEvents();
    await oauth.fetchUserInfo(config, tokens.access_token, 'alice@example.com');
    expect(one(await takeEvents(), 'userinfo_accessed')).toMatchObject({
      'event.outcome': 'success',
      client_id: WEB.id,
      'token.presented.access.ref': refOf(tokens.access_token),
    });
    await expect(
      oauth.fetchUserInfo(config, keep('made-up-access-token-1'), 'alice@example.com'),
    ).rejects.toThrow();
    expect(one(await takeEvents(), 'userinfo_accessed')).toMatchObject({
      'event.outcome': 'failure',
      error: 'invalid_token',
      'token.presented.access.ref': refOf('made-up-access-token-1'),
    });
  });

  it('tells the device flow from request to approval to tokens', async () => {
    const config = await clientOf(TV.id);
    await takeEvents();
    const device = await oauth.initiateDeviceAuthorization(config, {
      scope: 'openid offline_access',
    });
    keep(device.device_code);
    keep(device.user_code);
    const requested = one(await takeEvents(), 'device_authorization_requested');
    expect(tokensOf(requested)).toEqual(['issued.device_code']);
    expect(requested).toMatchObject({
      client_id: TV.id,
      scopes_requested: ['openid', 'offline_access'],
      'token.issued.device_code.ref': refOf(device.device_code),
    });

    const poll = (): Promise<oauth.TokenEndpointResponse> =>
      oauth.genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:device_code', {
        device_code: device.device_code,
      });
    await expect(poll()).rejects.toThrow();
    expect(one(await takeEvents(), 'token_request_failed')).toMatchObject({
      'event.outcome': 'pending',
      error: 'authorization_pending',
      'token.presented.device_code.ref': requested['token.issued.device_code.ref'],
    });

    const browser = new Browser();
    const { page } = await browser.walk(new URL(device.verification_uri));
    const submit = async (fields: Record<string, string>): Promise<string> => {
      const body = new URLSearchParams(fields).toString();
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      const answer = await browser.walk(new URL(device.verification_uri), {
        method: 'POST',
        body,
        headers,
      });
      return answer.page;
    };
    const xsrf = keep(/name="xsrf" value="([^"]+)"/.exec(page)![1]!);
    await submit({ xsrf, user_code: device.user_code });
    expect(await submit({ xsrf, user_code: device.user_code, confirm: 'yes' })).toBe('connected');
    for (const cookie of browser.cookieValues) keep(cookie);
    const approval = await takeEvents();
    expect(kinds(approval)).toEqual(['login', 'consent_granted', 'device_authorized']);
    expect(one(approval, 'device_authorized')).toMatchObject({
      'token.subject.device_code.ref': requested['token.issued.device_code.ref'],
      'subject.ref': keyRing.ref('subject', 'alice@example.com'),
      client_ip_role: 'end_user',
    });

    const tokens = keepAll(await poll());
    const issued = one(await takeEvents(), 'token_issued');
    expect(tokensOf(issued)).toEqual(['consumed.device_code', 'issued.access', 'issued.refresh']);
    expect(issued).toMatchObject({
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      'token.consumed.device_code.ref': requested['token.issued.device_code.ref'],
      'token.issued.access.ref': refOf(tokens.access_token),
      'token.issued.access.parent_ref': requested['token.issued.device_code.ref'],
    });
  });

  it('tells registration with its metadata and without its secrets', async () => {
    const config = await oauth.dynamicClientRegistration(
      new URL(as.issuer),
      {
        client_name: 'New partner',
        redirect_uris: ['https://partner.example/cb?tenant=7'],
        grant_types: ['authorization_code'],
        scope: 'openid',
      },
      undefined,
      // eslint-disable-next-line @typescript-eslint/no-deprecated
      { execute: [oauth.allowInsecureRequests] },
    );
    const metadata = config.clientMetadata() as Record<string, string>;
    keep(metadata['client_secret']);
    keep(metadata['registration_access_token']);
    const registered = one(await takeEvents(), 'client_registered');
    expect(registered).toMatchObject({
      'event.outcome': 'success',
      client_id: metadata['client_id'],
      client_name: 'New partner',
      'client.metadata.redirect_uris': 'https://partner.example/cb',
      'client.metadata.scope': 'openid',
      'client.metadata.grant_types': 'authorization_code',
      'http.response.status_code': 201,
    });

    const deleted = await fetch(String(metadata['registration_client_uri']), {
      method: 'DELETE',
      headers: { authorization: `Bearer ${String(metadata['registration_access_token'])}` },
    });
    expect(deleted.status).toBe(204);
    expect(one(await takeEvents(), 'client_deleted')).toMatchObject({
      client_id: metadata['client_id'],
      'http.route': '/reg/:clientId',
    });

    const refused = await fetch(`${as.issuer}/reg`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ redirect_uris: ['http://[bad'] }),
    });
    expect(refused.status).toBe(400);
    expect(one(await takeEvents(), 'client_registered')).toMatchObject({
      'event.outcome': 'failure',
      error: 'invalid_redirect_uri',
      'client.metadata.redirect_uris': 'http://[bad',
    });
  });

  it('tells a pushed authorization request, and joins it with its use', async () => {
    const config = await clientOf(WEB.id, WEB.secret);
    await takeEvents();
    const verifier = keep(oauth.randomPKCECodeVerifier());
    const url = await oauth.buildAuthorizationUrlWithPAR(config, {
      redirect_uri: WEB.uri,
      scope: 'openid',
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    });
    const requestUri = keep(url.searchParams.get('request_uri')!);
    const pushed = one(await takeEvents(), 'par_pushed');
    expect(pushed).toMatchObject({
      endpoint: 'par',
      client_ip_role: 'client_backend',
      pkce: 'S256',
      redirect_uri: WEB.uri,
      'token.issued.par.ref': refOf(requestUri),
    });
    const { location } = await new Browser().walk(url);
    keep(location!.searchParams.get('code')!);
    expect(one(await takeEvents(), 'authorization_requested')).toMatchObject({
      'token.presented.par.ref': pushed['token.issued.par.ref'],
      redirect_uri: WEB.uri,
    });
  });

  it('continues the trace of the caller', async () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    await fetch(`${as.issuer}/jwks`, {
      headers: { traceparent: `00-${traceId}-b7ad6b7169203331-00`, tracestate: 'vendor=secret' },
    });
    const [span] = await takeEvents();
    expect(span).toMatchObject({ kind: 'jwks_fetched', trace_id: traceId });
  });
});

it('lets no secret out in any span of this file', async () => {
  await takeEvents();
  expect(exported.length).toBeGreaterThan(60);
  expect(secrets.size).toBeGreaterThan(60);
  const everything = exported.join('\n');
  const leaked = [...secrets].filter((s) => s.length >= 8 && everything.includes(s));
  expect(leaked.map((secret) => secret.slice(0, 4))).toEqual([]);
  expect(everything).not.toContain(NIL_REF);
  expect(as.telemetry.recorder.failures).toBe(0);
  const { recorded, exported: sent, failed, dropped } = as.telemetry.statistics;
  expect({ sent, failed, dropped }).toEqual({ sent: recorded, failed: 0, dropped: 0 });
});
