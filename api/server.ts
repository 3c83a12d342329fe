import { randomUUID } from 'node:crypto';
import express, { type Express, type Request, type RequestHandler, type Response } from 'express';
import { MemoryStore, rateLimit } from 'express-rate-limit';
import type { Counter } from 'prom-client';
import { messageOf } from '../runtime/errors.ts';
import { inSpan } from '../runtime/telemetry.ts';
import { consoleFiles } from './console_files.ts';
import type { ApiContext, Route, RouteGroup } from './define_route.ts';
import { checkHost, checkOrigin, securityHeaders } from './guards.ts';
import { API_BODY_BYTES_MAX, REQUESTS_PER_MINUTE_MAX, type RateLimitName } from './limits.ts';
import { buildOpenApi, PROBLEM_MEDIA_TYPE } from './openapi.ts';
import { readInput } from './read_input.ts';
import { PROBLEMS, problemOf, RequestProblem } from './problems.ts';

export interface ServerParts {
  readonly context: ApiContext;
  readonly groups: readonly RouteGroup[];
  readonly version: string;
  readonly limited: Counter<'limit'>;
  /** Folder of the built console. */
  readonly consoleFolder: string;
  /** Overrides named limits; for tests. */
  readonly requestsPerMinuteMax?: Partial<Record<RateLimitName, number>>;
}

/** The Express application and what must be released with it. */
export function buildServer(parts: ServerParts): { app: Express; release: () => void } {
  const { config } = parts.context.runtime;
  const app = express();
  // Queries are parsed by the routes' schemas; nothing is cached, so nothing needs an ETag.
  app.set('query parser', false).set('case sensitive routing', true);
  app.disable('x-powered-by').disable('etag');
  const limiters = buildLimiters(parts);
  app.use(observe(parts.context), securityHeaders);
  app.use(checkHost(config.publicUrl), checkOrigin(config.publicUrl));
  addProcessRoutes(app, parts);
  addRoutes(app, parts, limiters);
  app.use(consoleFiles(parts.consoleFolder));
  app.use((request: Request) => {
    throw new RequestProblem('not_found', `no route ${request.method} ${request.path}`);
  });
  app.use(answerError(parts.context));
  return { app, release: () => Object.values(limiters).forEach((l) => l.store.shutdown()) };
}

interface Limiter {
  readonly store: MemoryStore;
  readonly handler: RequestHandler;
}

function buildLimiters(parts: ServerParts): Record<RateLimitName, Limiter> {
  const build = (name: RateLimitName): Limiter => {
    const store = new MemoryStore();
    const limit = parts.requestsPerMinuteMax?.[name] ?? REQUESTS_PER_MINUTE_MAX[name];
    const handler = rateLimit({
      windowMs: 60_000,
      limit,
      store,
      identifier: name,
      standardHeaders: 'draft-8',
      legacyHeaders: false,
      // Its checks print to the console; the server trusts no forwarding header.
      validate: false,
      handler: (_request, _response, next) => {
        parts.limited.inc({ limit: `requests_${name}` });
        next(new RequestProblem('rate_limited', `at most ${limit} requests of this kind a minute`));
      },
    });
    return { store, handler };
  };
  return { read: build('read'), hash: build('hash'), operation: build('operation') };
}

/** Request id, access log, metrics. The log has the path, never the query: filters can name people. */
function observe(context: ApiContext): RequestHandler {
  const { metrics, log } = context.runtime;
  const requests = metrics.counter('grantscope_api_requests_total', 'Requests answered.', [
    'route',
    'method',
    'status',
  ]);
  const seconds = metrics.histogram(
    'grantscope_api_request_duration_seconds',
    'Time to answer a request.',
    ['route'],
  );
  return (request, response, next) => {
    const startedAt = performance.now();
    const given = request.headers['x-request-id'];
    const requestId =
      typeof given === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(given) ? given : randomUUID();
    response.locals['requestId'] = requestId;
    response.set('x-request-id', requestId);
    response.on('close', () => {
      const route = textLocal(response, 'route') ?? 'none';
      const durationMs = performance.now() - startedAt;
      const method = KNOWN_METHODS.has(request.method) ? request.method : 'other';
      requests.inc({ route, method, status: String(response.statusCode) });
      if (route !== STREAM_ROUTE) seconds.observe({ route }, durationMs / 1_000);
      log[QUIET_ROUTES.has(route) ? 'debug' : 'info'](
        {
          request_id: requestId,
          method,
          route,
          status: response.statusCode,
          duration_ms: Math.round(durationMs * 10) / 10,
        },
        'request',
      );
    });
    next();
  };
}

const KNOWN_METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
/** Lives as long as its reader: its duration says nothing about the server. */
const STREAM_ROUTE = '/api/v1/stream';
const QUIET_ROUTES = new Set(['/healthz', '/readyz', '/metrics', 'console']);

function textLocal(response: Response, name: string): string | undefined {
  const value: unknown = response.locals[name];
  return typeof value === 'string' ? value : undefined;
}

/** Routes about the process itself: no data, no rate limit. */
function addProcessRoutes(app: Express, parts: ServerParts): void {
  const { runtime, scope } = parts.context;
  const document = JSON.stringify(buildOpenApi(parts.groups, parts.version));
  const get = (path: string, answer: RequestHandler) => {
    app.route(path).all(named(path)).get(answer).all(refuseMethod('GET, HEAD'));
  };
  get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  get('/readyz', async (_request, response) => {
    if (runtime.lifecycle.isStopping)
      throw new RequestProblem('shutting_down', 'the server is stopping');
    if (!(await scope.store.ping()))
      throw new RequestProblem('store_unavailable', 'the store does not answer');
    // Under strain it still answers, so it stays in service; but whoever looks is told.
    const { strains } = runtime.lifecycle;
    response.json({ status: 'ready', ...(Object.keys(strains).length === 0 ? {} : { strains }) });
  });
  get('/metrics', async (_request, response) => {
    const text = await runtime.metrics.registry.metrics();
    response.set('content-type', runtime.metrics.registry.contentType).send(text);
  });
  get('/openapi.json', (_request, response) => {
    response.type('application/json').send(document);
  });
  get('/problems/:code', (request, response) => {
    const code = String(request.params['code']);
    const entry = Object.entries(PROBLEMS).find(([name]) => name === code);
    if (entry === undefined)
      throw new RequestProblem('not_found', 'no such problem', [
        { path: 'path.code', message: 'unknown', allowed: Object.keys(PROBLEMS).join(', ') },
      ]);
    response.json({ type: `/problems/${code}`, ...entry[1] });
  });
}

function named(route: string): RequestHandler {
  return (_request, response, next) => {
    response.locals['route'] = route;
    next();
  };
}

function refuseMethod(allow: string): RequestHandler {
  return (request, response) => {
    response.set('allow', allow);
    throw new RequestProblem(
      'method_not_allowed',
      `${request.method} is not allowed; allowed: ${allow}`,
    );
  };
}

function addRoutes(
  app: Express,
  parts: ServerParts,
  limiters: Readonly<Record<RateLimitName, Limiter>>,
): void {
  const byPath = new Map<string, Route[]>();
  for (const route of parts.groups.flatMap((g) => g.routes))
    byPath.set(route.path, [...(byPath.get(route.path) ?? []), route]);
  const readJson = express.json({ limit: API_BODY_BYTES_MAX, strict: false });
  for (const [path, routes] of byPath) {
    const at = app.route(path.replaceAll(/\{(\w+)\}/g, ':$1')).all(named(path));
    for (const route of routes) {
      const handlers = [
        limiters[route.rateLimit ?? 'read'].handler,
        ...(route.body === undefined ? [] : [requireJson, readJson]),
        run(parts.context, route),
      ];
      if (route.method === 'get') at.get(...handlers);
      else at.post(...handlers);
    }
    const methods = routes.map((r) => (r.method === 'get' ? 'GET, HEAD' : 'POST'));
    at.all(refuseMethod(methods.join(', ')));
  }
}

/** JSON only: a form of another site can send text, but not this type without asking first. */
const requireJson: RequestHandler = (request, _response, next) => {
  // type-is wants a body to look at a type; without one the header alone decides.
  const type = request.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json')
    throw new RequestProblem('unsupported_media_type', 'the body must be application/json');
  next();
};

function run(context: ApiContext, route: Route): RequestHandler {
  return async (request, response) => {
    const input = readInput(route, request);
    if (route.answer.form === 'raw') {
      if (request.method === 'HEAD') response.type(route.answer.mediaType).end();
      else await route.answer.write(context, input, { request, response });
      return;
    }
    const { handle } = route.answer;
    const attributes = { 'http.route': route.path, 'http.request.method': request.method };
    response.json(await inSpan('api.request', attributes, () => handle(context, input)));
  };
}

function answerError(context: ApiContext): express.ErrorRequestHandler {
  // Express tells error handlers by their four parameters.
  return (error: unknown, request, response, next) => {
    const problem = problemOf(fromExpress(error));
    const requestId = textLocal(response, 'requestId') ?? '';
    if (problem.status >= 500)
      context.runtime.log.error(
        { err: error, request_id: requestId, method: request.method },
        `request failed: ${messageOf(error).slice(0, 200)}`,
      );
    if (response.headersSent) {
      // Too late for an answer: Express cuts the connection, so that no reader takes a half for a whole.
      next(error);
      return;
    }
    const { retryAfterSeconds, ...body } = problem;
    if (retryAfterSeconds !== undefined) response.set('retry-after', String(retryAfterSeconds));
    response
      .status(problem.status)
      .type(PROBLEM_MEDIA_TYPE)
      .send(JSON.stringify({ ...body, request_id: requestId }));
  };
}

/** Express and its body parser throw errors with a `type` or a status; none of their texts is passed on. */
function fromExpress(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof RequestProblem || !('status' in error))
    return error;
  const type = 'type' in error ? error.type : undefined;
  if (type === 'entity.too.large')
    return new RequestProblem('body_too_large', `the body may have ${API_BODY_BYTES_MAX} bytes`);
  if (type === 'entity.parse.failed')
    return new RequestProblem('body_unreadable', 'the body is not JSON');
  if (type === 'encoding.unsupported')
    return new RequestProblem('unsupported_encoding', 'allowed: gzip, deflate, br, identity');
  if (type === 'charset.unsupported')
    return new RequestProblem('unsupported_media_type', 'the body must be UTF-8');
  if (error instanceof URIError)
    return new RequestProblem(
      'invalid_argument',
      'the path is not percent-encoded as it should be',
    );
  if (error.status === 400) return new RequestProblem('body_unreadable', 'the body cannot be read');
  return error;
}
