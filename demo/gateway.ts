import type { IncomingMessage } from 'node:http';
import express, { type Express } from 'express';
import { gatewayMiddleware, type AuthRecorder } from '../instrumentation/index.ts';
import type { Random } from './random.ts';

/** Largest request body that is passed on, bytes. */
const BODY_BYTES_MAX = 100_000;
/** An upstream that takes longer is answered for with 504. */
const UPSTREAM_TIMEOUT_MS = 10_000;
/** Request headers that reach the resource server. */
const PASSED_ON = ['authorization', 'content-type', 'user-agent', 'traceparent'] as const;

export interface Upstream {
  readonly url: URL;
  /** Share of the traffic, against the other upstreams of the route. */
  readonly weight: number;
}

/**
 * The API gateway: picks an upstream by the first path segment and forwards. It reads the token's name for
 * its telemetry but validates nothing; that is the resource server's work.
 */
export function apiGateway(options: {
  readonly recorder: AuthRecorder;
  readonly routes: Readonly<Record<string, readonly Upstream[]>>;
  readonly random: Random;
}): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('trust proxy', 'loopback');
  app.use(
    gatewayMiddleware(options.recorder, {
      resource: 'https://gateway.harbour.example',
      trustProxy: true,
      route: (request) => routeOf(request, options.routes),
    }),
  );
  app.use(express.raw({ type: () => true, limit: BODY_BYTES_MAX }));
  app.use(async (request, response) => {
    const first = request.path.split('/')[1] ?? '';
    const upstreams = Object.hasOwn(options.routes, first) ? options.routes[first] : undefined;
    if (upstreams === undefined) {
      response.status(404).json({ error: 'no_route' });
      return;
    }
    // Path and query are set apart: resolved as a reference, `//host/` would name another host.
    const target = new URL(pickUpstream(upstreams, options.random).url);
    target.pathname = request.path;
    target.search = request.originalUrl.split('?')[1] ?? '';
    const body: unknown = request.body;
    const answer = await forward(target, {
      method: request.method,
      headers: passedOn((name) => request.get(name), request.ip ?? ''),
      ...(Buffer.isBuffer(body) && body.length > 0 ? { body: new Uint8Array(body) } : {}),
    });
    response.status(answer.status);
    for (const name of ['content-type', 'www-authenticate']) {
      const value = answer.headers.get(name);
      if (value !== null) response.set(name, value);
    }
    response.send(Buffer.from(await answer.arrayBuffer()));
  });
  return app;
}

/** `/orders/17` becomes `/orders/:id`: a route label must not grow with what callers ask for. */
function routeOf(request: IncomingMessage, routes: Readonly<Record<string, unknown>>): string {
  const [path = ''] = (request.url ?? '').split('?', 1);
  const [, first = '', ...rest] = path.split('/');
  if (!Object.hasOwn(routes, first)) return '';
  return ['', first, ...rest.map((part, index) => (index === 0 ? ':id' : part)).slice(0, 2)].join(
    '/',
  );
}

async function forward(target: URL, init: RequestInit): Promise<globalThis.Response> {
  try {
    return await fetch(target, {
      ...init,
      redirect: 'manual',
      signal: AbortSignal.timeout(UPSTREAM_TIMEOUT_MS),
    });
  } catch (error) {
    const status = error instanceof DOMException && error.name === 'TimeoutError' ? 504 : 502;
    return globalThis.Response.json({ error: 'upstream_failed' }, { status });
  }
}

function passedOn(header: (name: string) => string | undefined, clientIp: string): Headers {
  const headers = new Headers({ 'x-forwarded-for': clientIp });
  for (const name of PASSED_ON) {
    const value = header(name);
    if (value !== undefined) headers.set(name, value);
  }
  return headers;
}

function pickUpstream(upstreams: readonly Upstream[], random: Random): Upstream {
  const total = upstreams.reduce((sum, upstream) => sum + upstream.weight, 0);
  let left = random.next() * total;
  for (const upstream of upstreams) {
    left -= upstream.weight;
    if (left < 0) return upstream;
  }
  const last = upstreams.at(-1);
  if (last === undefined) throw new RangeError('gateway: a route without upstreams');
  return last;
}
