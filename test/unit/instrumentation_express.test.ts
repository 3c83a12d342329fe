/**
 * The middleware for APIs, gateways and authorization servers of one's own, each in a real Express app on
 * a free port of loopback: the answers of RFC 6750, and the events told of them.
 */
import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Express } from 'express';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  GRANT_TYPES,
  acceptedToken,
  expressAuthorizationServer,
  gatewayMiddleware,
  rejectionOf,
  resourceServerMiddleware,
  startTelemetry,
  validationOf,
  type ResourceServerOptions,
} from '../../instrumentation/index.ts';
import { tracing } from '../../instrumentation/otel_sdk.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const exporter = new tracing.InMemorySpanExporter();
const telemetry = startTelemetry({ serviceName: 'api', endpoint: '', hashKey: TEST_KEY, exporter });
const { recorder } = telemetry;
const servers: Server[] = [];

beforeEach(() => exporter.reset());
afterEach(async () => {
  for (const server of servers.splice(0)) {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }
});
afterAll(() => telemetry.shutdown());

async function serve(app: Express): Promise<string> {
  const server = createServer(app as unknown as Parameters<typeof createServer>[1]);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

type Attributes = tracing.ReadableSpan['attributes'];
async function told(): Promise<Attributes[]> {
  await telemetry.flush();
  const spans = exporter.getFinishedSpans().map((span) => span.attributes);
  exporter.reset();
  return spans;
}
const kindsOf = (events: readonly Attributes[]): unknown[] =>
  events.map((event) => [event['oauth.event.kind'], event['oauth.event.outcome']]);

describe('resourceServerMiddleware', () => {
  const good = { sub: 'bob', client_id: 'c1', scope: 'read', aud: 'api', iss: 'https://as' };
  const outcomes: Record<string, () => ReturnType<ResourceServerOptions['validate']>> = {
    good: () => validationOf(good),
    'own-client': () => validationOf({ ...good, sub: 'c1', cnf: { jkt: 'thumb' } }),
    inactive: () => validationOf({ active: false }),
    revoked: () => ({ valid: false, code: 'revoked' }),
    expired: () => Promise.reject(Object.assign(new Error('x'), { code: 'ERR_JWT_EXPIRED' })),
    outage: () => Promise.reject(new Error('connect ECONNREFUSED 127.0.0.1:9')),
  };

  async function startApi(): Promise<string> {
    const app = express();
    app.use(
      '/v1',
      resourceServerMiddleware(recorder, {
        resource: 'orders "api"',
        validate: (token) => outcomes[token]!(),
        requiredScopes: (req) => (req.method === 'DELETE' ? ['admin'] : ['read']),
        ipRole: (token) => (token?.client_id === 'c1' ? 'client_backend' : 'unknown'),
      }),
    );
    const router = express.Router();
    router.all('/orders/:id', (req, res) => void res.json(acceptedToken(req)));
    app.use('/v1', router);
    return `${await serve(app)}/v1/orders/17`;
  }

  async function call(
    token: string | undefined,
    options: { method?: string; query?: string } = {},
  ): Promise<{ status: number; challenge: string | null; body: unknown }> {
    const url = `${await startApi()}${options.query ?? ''}`;
    const answer = await fetch(url, {
      method: options.method ?? 'GET',
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    return {
      status: answer.status,
      challenge: answer.headers.get('www-authenticate'),
      body: await answer.json(),
    };
  }

  it('lets a good token through and tells both what it is and what it was used for', async () => {
    const { status, body } = await call('good');
    expect(status).toBe(200);
    expect(body).toMatchObject({ valid: true, client_id: 'c1', subject: 'bob', scopes: ['read'] });
    const events = await told();
    expect(kindsOf(events)).toEqual([
      ['token_validated', 'success'],
      ['api_accessed', 'success'],
    ]);
    const [validated, accessed] = events;
    for (const event of events) {
      expect(event).toMatchObject({
        'oauth.endpoint': 'api',
        'oauth.client_id': 'c1',
        'oauth.subject.ref': keyRing.ref('subject', 'bob'),
        'oauth.subject.type': 'user',
        'oauth.issuer': 'https://as',
        'oauth.audience': ['api'],
        'oauth.scopes_granted': ['read'],
        'oauth.binding': 'none',
        'oauth.client_ip_role': 'client_backend',
        'oauth.token.presented.access.ref': keyRing.ref('token', 'good'),
        'client.address': '127.0.0.1',
        'http.request.method': 'GET',
      });
    }
    expect(accessed).toMatchObject({
      'http.route': '/v1/orders/:id',
      'http.response.status_code': 200,
    });
    expect(Number(accessed?.['oauth.duration_ms'])).toBeGreaterThanOrEqual(
      Number(validated?.['oauth.duration_ms']),
    );
  });

  it('knows a client that acts for itself, and how its token is bound', async () => {
    await call('own-client');
    expect((await told())[0]).toMatchObject({
      'oauth.subject.type': 'client',
      'oauth.binding': 'dpop',
      'oauth.binding_thumbprint': 'thumb',
    });
  });

  it.each([
    ['inactive', 401, 'inactive', 'invalid_token'],
    ['revoked', 401, 'revoked', 'invalid_token'],
    ['expired', 401, 'expired', 'invalid_token'],
    ['outage', 503, 'validation_unavailable', 'temporarily_unavailable'],
  ])('refuses %s with %i', async (token, status, code, error) => {
    const answer = await call(token);
    expect(answer).toEqual({
      status,
      challenge: status === 401 ? `Bearer realm="orders api", error="${error}"` : null,
      body: { error },
    });
    const events = await told();
    expect(kindsOf(events)).toEqual([
      ['token_rejected', 'failure'],
      ['api_accessed', 'failure'],
    ]);
    expect(events.map((event) => event['oauth.error.code'])).toEqual([code, code]);
    expect(events[1]).toMatchObject({ 'http.response.status_code': status });
    expect(events[1]).not.toHaveProperty('oauth.client_id');
  });

  it('refuses a call whose token lacks the scope, though the token is good', async () => {
    expect(await call('good', { method: 'DELETE' })).toMatchObject({
      status: 403,
      challenge: 'Bearer realm="orders api", error="insufficient_scope", scope="admin"',
    });
    const events = await told();
    expect(kindsOf(events)).toEqual([
      ['token_validated', 'success'],
      ['api_accessed', 'failure'],
    ]);
    expect(events[1]).toMatchObject({ 'oauth.error.code': 'insufficient_scope' });
  });

  it('refuses a call without a token, and one with the token in the URL, which is told', async () => {
    expect(await call(undefined)).toEqual({
      status: 401,
      challenge: 'Bearer realm="orders api"',
      body: { error: 'missing_token' },
    });
    const [missing] = await told();
    expect(missing).toMatchObject({ 'oauth.error.code': 'missing_token' });
    expect(missing).not.toHaveProperty('oauth.token.presented.access.ref');

    expect((await call(undefined, { query: '?access_token=good' })).status).toBe(401);
    const [inUrl, ...others] = await told();
    expect(others).toEqual([]);
    expect(inUrl).toMatchObject({
      'oauth.error.code': 'token_in_url',
      'oauth.ext.token_in_url': 'true',
      'oauth.token.presented.access.ref': keyRing.ref('token', 'good'),
    });
    expect(JSON.stringify(inUrl)).not.toContain('access_token');
  });

  it('tells a call that the caller gave up, as failed and without a status', async () => {
    const app = express();
    app.use(
      resourceServerMiddleware(recorder, { resource: 'r', validate: () => validationOf(good) }),
    );
    let reached = (): void => undefined;
    const inHandler = new Promise<void>((resolve) => (reached = resolve));
    app.get('/slow', () => reached());
    const url = await serve(app);
    const aborted = request(`${url}/slow`, { headers: { authorization: 'Bearer good' } });
    aborted.on('error', () => undefined);
    aborted.end();
    await inHandler;
    aborted.destroy();
    await expect
      .poll(async () => {
        await telemetry.flush();
        return exporter.getFinishedSpans().map((span) => span.name);
      })
      .toContain('oauth.api_accessed');
    const accessed = (await told()).find((e) => e['oauth.event.kind'] === 'api_accessed');
    expect(accessed).toMatchObject({ 'oauth.event.outcome': 'failure', 'http.route': '/slow' });
    expect(accessed).not.toHaveProperty('http.response.status_code');
  });
});

describe('validation', () => {
  it.each([
    ['ERR_JWT_EXPIRED', undefined, 'expired'],
    ['ERR_JWS_SIGNATURE_VERIFICATION_FAILED', undefined, 'invalid_signature'],
    ['ERR_JWKS_NO_MATCHING_KEY', undefined, 'unknown_key'],
    ['ERR_JOSE_ALG_NOT_ALLOWED', undefined, 'algorithm_not_allowed'],
    ['ERR_JWT_CLAIM_VALIDATION_FAILED', 'aud', 'invalid_audience'],
    ['ERR_JWT_CLAIM_VALIDATION_FAILED', 'iss', 'invalid_issuer'],
    ['ERR_JWT_CLAIM_VALIDATION_FAILED', 'nbf', 'not_yet_valid'],
    ['ERR_JWT_CLAIM_VALIDATION_FAILED', 'typ', 'invalid_claim'],
    ['ERR_JWKS_TIMEOUT', undefined, 'validation_unavailable'],
    ['ECONNREFUSED', undefined, 'validation_unavailable'],
  ])('%s %s means %s', (code, claim, expected) => {
    expect(rejectionOf(Object.assign(new Error('x'), { code, claim }))).toBe(expected);
  });

  it('takes an iat in the future for not valid yet, and a missing one for a wrong claim', () => {
    const failed = (reason: string) =>
      Object.assign(new Error('x'), {
        code: 'ERR_JWT_CLAIM_VALIDATION_FAILED',
        claim: 'iat',
        reason,
      });
    expect(rejectionOf(failed('check_failed'))).toBe('not_yet_valid');
    expect(rejectionOf(failed('missing'))).toBe('invalid_claim');
  });

  it('reads scp, azp and several audiences, and takes other thumbprints for unknown', () => {
    expect(
      validationOf({ azp: 'c2', scp: ['a', 'b'], aud: ['x', 'y'], cnf: { kid: 'k' } }),
    ).toEqual({
      valid: true,
      client_id: 'c2',
      subject: undefined,
      scopes: ['a', 'b'],
      audience: ['x', 'y'],
      issuer: undefined,
      binding: 'unknown',
    });
    expect(validationOf({ cnf: { 'x5t#S256': 't' } })).toMatchObject({ binding: 'mtls' });
    expect(rejectionOf('a string')).toBe('validation_unavailable');
  });
});

describe('gatewayMiddleware', () => {
  it('tells the call with its token, and puts its own span into the trace', async () => {
    const app = express();
    let forwarded: unknown;
    app.use(gatewayMiddleware(recorder, { resource: 'edge', route: () => '/orders/*' }));
    app.get('/orders/:id', (req, res) => {
      forwarded = req.headers['traceparent'];
      res.status(502).end();
    });
    const url = await serve(app);
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    await fetch(`${url}/orders/1?q=1`, {
      headers: {
        authorization: 'DPoP some-token',
        dpop: 'some-proof',
        traceparent: `00-${traceId}-b7ad6b7169203331-01`,
        'x-forwarded-for': '203.0.113.5',
      },
    });
    await telemetry.flush();
    const [span] = exporter.getFinishedSpans();
    expect(span?.spanContext().traceId).toBe(traceId);
    expect(span?.parentSpanContext?.spanId).toBe('b7ad6b7169203331');
    expect(forwarded).toBe(`00-${traceId}-${span!.spanContext().spanId}-01`);
    expect(span?.attributes).toMatchObject({
      'oauth.event.kind': 'api_accessed',
      'oauth.event.outcome': 'failure',
      'oauth.token.presented.access.ref': keyRing.ref('token', 'some-token'),
      'oauth.token.presented.dpop_proof.ref': keyRing.ref('token', 'some-proof'),
      'oauth.client_ip_role': 'end_user',
      'http.route': '/orders/*',
      'http.response.status_code': 502,
      // The header is believed only where the host says that a proxy sets it.
      'client.address': '127.0.0.1',
    });
  });
});

describe('expressAuthorizationServer', () => {
  it('tells a token response, a refusal and any other event with the request around them', async () => {
    const app = express();
    const as = expressAuthorizationServer(recorder, {
      issuer: 'https://as.example',
      trustProxy: true,
    });
    app.use(as.middleware);
    app.post('/token', (req, res) => {
      res.status(200);
      as.recordTokenResponse(req, res, {
        grant_type: GRANT_TYPES.refreshToken,
        request: { refresh_token: 'old-refresh', scope: 'read' },
        response: { access_token: 'new-access', refresh_token: 'new-refresh', scope: 'read' },
        family: { id: 'family-1' },
        counter: 2,
        facts: { client: { id: 'c1', auth_method: 'none' }, subject: { id: 'bob' } },
      });
      res.end();
    });
    app.post('/refused', (req, res) => {
      res.status(400);
      as.recordTokenError(req, res, {
        grant_type: GRANT_TYPES.authorizationCode,
        request: { code: 'used-code', redirect_uri: 'https://c/cb' },
        error: { oauth_error: 'invalid_grant' },
        reused: true,
        facts: { client: { id: 'c2', auth_method: 'client_secret_basic' } },
      });
      res.end();
    });
    app.post('/login', (req, res) => {
      res.status(401);
      as.recordEvent(req, res, { kind: 'login_failed', outcome: 'failure', endpoint: 'login' });
      res.end();
    });
    const url = await serve(app);
    const headers = { 'x-forwarded-for': '2001:db8::9, 10.0.0.1' };
    await fetch(`${url}/token`, { method: 'POST', headers });
    const [refreshed, ...none] = await told();
    expect(none).toEqual([]);
    expect(refreshed).toMatchObject({
      'oauth.event.kind': 'token_refreshed',
      'oauth.issuer': 'https://as.example',
      'oauth.endpoint': 'token',
      'oauth.grant_type': 'refresh_token',
      'oauth.client_ip_role': 'end_user',
      'client.address': '2001:db8::9',
      'http.response.status_code': 200,
      'oauth.scopes_requested': ['read'],
      'oauth.token.consumed.refresh.ref': keyRing.ref('token', 'old-refresh'),
      'oauth.token.consumed.refresh.counter': 1,
      'oauth.token.issued.refresh.counter': 2,
      'oauth.token.issued.refresh.family_ref': keyRing.ref('grant', 'family-1'),
      'oauth.token.issued.access.parent_ref': keyRing.ref('token', 'old-refresh'),
    });

    await fetch(`${url}/refused`, { method: 'POST' });
    const refused = await told();
    expect(kindsOf(refused)).toEqual([
      ['token_request_failed', 'failure'],
      ['code_redeemed', 'failure'],
      ['token_reuse_detected', 'failure'],
    ]);
    expect(refused[1]).toMatchObject({
      'oauth.client_ip_role': 'client_backend',
      'oauth.redirect_uri': 'https://c/cb',
      'oauth.token.consumed.code.ref': keyRing.ref('token', 'used-code'),
    });

    await fetch(`${url}/login`, { method: 'POST' });
    expect((await told())[0]).toMatchObject({
      'oauth.event.kind': 'login_failed',
      'oauth.endpoint': 'login',
      'http.response.status_code': 401,
      'http.request.method': 'POST',
    });
  });

  it.each([
    ['authorization_pending', 'pending'],
    ['slow_down', 'pending'],
    ['access_denied', 'denied'],
    ['use_dpop_nonce', 'challenge'],
    ['invalid_grant', 'failure'],
    ['server_error', 'failure'],
  ])('takes %s for %s', async (oauth_error, outcome) => {
    const app = express();
    const as = expressAuthorizationServer(recorder, { issuer: 'https://as.example' });
    app.post('/token', (req, res) => {
      const request = { device_code: 'dc' };
      const call = { grant_type: GRANT_TYPES.deviceCode, request, error: { oauth_error } };
      as.recordTokenError(req, res.status(400), call);
      res.end();
    });
    await fetch(`${await serve(app)}/token`, { method: 'POST' });
    const events = await told();
    expect(kindsOf(events)).toEqual([['token_request_failed', outcome]]);
    expect(events[0]).toMatchObject({
      'oauth.token.presented.device_code.ref': keyRing.ref('token', 'dc'),
    });
  });

  it('tells a refresh without rotation as presented, not consumed', async () => {
    const app = express();
    const as = expressAuthorizationServer(recorder, { issuer: 'https://as.example' });
    app.post('/token', (req, res) => {
      as.recordTokenResponse(req, res, {
        grant_type: GRANT_TYPES.refreshToken,
        request: { refresh_token: 'same' },
        response: { access_token: 'new-access' },
      });
      res.end();
    });
    await fetch(`${await serve(app)}/token`, { method: 'POST' });
    const [event] = await told();
    expect(event).toMatchObject({
      'oauth.token.presented.refresh.ref': keyRing.ref('token', 'same'),
      'oauth.token.issued.access.parent_ref': keyRing.ref('token', 'same'),
      'oauth.client_ip_role': 'unknown',
    });
    expect(Object.keys(event!).filter((key) => key.includes('issued.refresh'))).toEqual([]);
    expect(Object.keys(event!).filter((key) => key.includes('consumed'))).toEqual([]);
  });
});
