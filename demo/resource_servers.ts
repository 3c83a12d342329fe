import { createHash } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Express } from 'express';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import {
  Configuration,
  allowInsecureRequests,
  customFetch,
  tokenIntrospection,
} from 'openid-client';
import {
  resourceServerMiddleware,
  validationOf,
  type AuthRecorder,
  type Validation,
} from '../instrumentation/index.ts';
import { ORDERS_API, PAYMENTS_API } from './population.ts';

export interface HttpService {
  readonly url: URL;
  close(): Promise<void>;
}

/** Serves an Express app on 127.0.0.1. */
export async function serve(app: Express, port = 0): Promise<HttpService> {
  const server = await new Promise<Server>((resolve, reject) => {
    const listening = app.listen(port, '127.0.0.1', (error?: Error) => {
      if (error === undefined) resolve(listening);
      else reject(error);
    });
  });
  const address = server.address() as AddressInfo;
  return {
    url: new URL(`http://127.0.0.1:${address.port}`),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface ApiOptions {
  readonly issuer: URL;
  readonly recorder: AuthRecorder;
  /** Clients whose own servers call the API, so that their address is not a person's. */
  readonly backendClients: ReadonlySet<string>;
}

/** Orders have ids below this; others are not found. */
export const ORDER_COUNT = 10_000;

/**
 * The orders API: takes JWT access tokens and checks them itself (RFC 9068), so it learns of no revocation.
 * `clockSkewMs` shifts its clock, as a host without time synchronisation has it: a fresh token then lies
 * in the future.
 */
export function ordersApi(options: ApiOptions & { readonly clockSkewMs: number }): Express {
  const keys = createRemoteJWKSet(new URL('/jwks', options.issuer));
  const app = protectedApp(options, ORDERS_API, 'orders', async (token) => {
    const { payload } = await jwtVerify(token, keys, {
      issuer: options.issuer.origin,
      audience: ORDERS_API,
      typ: 'at+jwt',
      algorithms: ['ES256'],
      maxTokenAge: '1h',
      currentDate: new Date(Date.now() + options.clockSkewMs),
    });
    return validationOf(payload);
  });
  app.get('/orders', (_req, res) => {
    res.json({ orders: [] });
  });
  app.get('/orders/:id', (req, res) => {
    const id = Number(req.params.id);
    if (Number.isInteger(id) && id >= 0 && id < ORDER_COUNT) res.json({ id, state: 'shipped' });
    else res.status(404).json({ error: 'not_found' });
  });
  app.post('/orders', (_req, res) => {
    res.status(201).json({ state: 'received' });
  });
  app.delete('/orders/:id', (_req, res) => {
    res.status(204).end();
  });
  return app;
}

/** Entries of the introspection cache; beyond it the oldest are dropped. */
const INTROSPECTION_CACHE_ENTRIES_MAX = 10_000;
/** How long the payments API believes an introspection answer. */
export const INTROSPECTION_CACHE_MS = 2_000;
/**
 * The same for statements, where somebody once "made the export faster": a revoked token keeps working
 * there, which `token_used_after_revocation` is meant to find.
 */
export const STATEMENTS_CACHE_MS = 600_000;

/** A client of the authorization server that may introspect. */
export interface Introspector {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** The payments API: takes opaque access tokens and introspects them (RFC 7662), with a cache. */
export function paymentsApi(
  options: ApiOptions & { readonly introspector: Introspector },
): Express {
  const introspect = introspection(options.issuer, options.introspector);
  const cache = new Map<string, { readonly at: number; readonly answer: Validation }>();
  const app = protectedApp(options, PAYMENTS_API, 'payments', async (token, request) => {
    // The server introspects opaque tokens only, and answers anything else with an error.
    if (token.includes('.')) return { valid: false, code: 'malformed' };
    const isStatement = request.url?.startsWith('/statements') === true;
    const lifeMs = isStatement ? STATEMENTS_CACHE_MS : INTROSPECTION_CACHE_MS;
    const digest = createHash('sha256').update(token).digest('base64');
    const key = `${isStatement ? 'statements' : 'payments'} ${digest}`;
    const known = cache.get(key);
    if (known !== undefined && Date.now() - known.at < lifeMs) return known.answer;
    const answer = await introspect(token);
    cache.delete(key);
    cache.set(key, { at: Date.now(), answer });
    if (cache.size > INTROSPECTION_CACHE_ENTRIES_MAX) {
      const oldest = cache.keys().next();
      if (oldest.done !== true) cache.delete(oldest.value);
    }
    return answer;
  });
  app.get('/payments', (_req, res) => {
    res.json({ payments: [] });
  });
  app.post('/payments', (_req, res) => {
    res.status(201).json({ state: 'authorised' });
  });
  app.post('/payments/:id/refund', (_req, res) => {
    res.status(201).json({ state: 'refunded' });
  });
  app.get('/statements/:month', (req, res) => {
    res.json({ month: req.params.month, lines: [] });
  });
  return app;
}

function introspection(
  issuer: URL,
  { clientId, clientSecret }: Introspector,
): (token: string) => Promise<Validation> {
  const endpoint = new URL('/token/introspection', issuer).href;
  const config = new Configuration(
    { issuer: issuer.origin, introspection_endpoint: endpoint },
    clientId,
    clientSecret,
  );
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- plain http, on loopback only
  allowInsecureRequests(config);
  config[customFetch] = (url, init) =>
    fetch(url, {
      ...(init as RequestInit),
      headers: { ...init.headers, 'x-forwarded-for': '198.19.200.10', 'user-agent': 'node' },
    });
  return async (token) =>
    validationOf({ ...(await tokenIntrospection(config, token)), iss: issuer.origin });
}

/** An app whose every route needs a valid token with the scope of the route. */
function protectedApp(
  options: ApiOptions,
  resource: string,
  prefix: 'orders' | 'payments',
  validate: (token: string, request: IncomingMessage) => Promise<Validation>,
): Express {
  const app = express();
  app.disable('x-powered-by');
  app.use(
    resourceServerMiddleware(options.recorder, {
      resource,
      validate,
      trustProxy: true,
      requiredScopes: (request) => [`${prefix}:${actionOf(request)}`],
      ipRole: (token) =>
        options.backendClients.has(token?.client_id ?? '') ? 'client_backend' : 'end_user',
    }),
  );
  return app;
}

function actionOf(request: IncomingMessage): 'read' | 'write' | 'admin' | 'refund' {
  if (request.method === 'DELETE') return 'admin';
  if (request.method !== 'POST') return 'read';
  return request.url?.endsWith('/refund') === true ? 'refund' : 'write';
}
