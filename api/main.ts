import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Runtime } from '../runtime/context.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import type { Component } from '../runtime/lifecycle.ts';
import { packageRoot } from '../runtime/paths.ts';
import { loadDefinitions } from '../runtime/registry.ts';
import type { Store } from '../store/client.ts';
import type { RouteGroup } from './define_route.ts';
import { EventStream } from './event_stream.ts';
import { CONNECTIONS_MAX, STOP_GRACE_MS, type RateLimitName } from './limits.ts';
import { buildServer } from './server.ts';

export interface Api {
  /** `http://host:port`, with the port that was taken. */
  readonly url: string;
  readonly component: Component;
}

/**
 * Starts the API and the console. Throws `listen_failed` where the address is taken. The caller registers
 * the component; `stop` ends event streams, waits for running requests, and closes the port.
 */
export async function startApi(
  runtime: Runtime,
  store: Store,
  options: { readonly requestsPerMinuteMax?: Partial<Record<RateLimitName, number>> } = {},
): Promise<Api> {
  const groups = await loadRoutes();
  const scope = { store, tenant: runtime.config.tenant };
  const limited = runtime.metrics.counter(
    'grantscope_api_limited_total',
    'Times a limit of the API was reached.',
    ['limit'],
  );
  const stream = new EventStream(runtime, scope, limited);
  const { app, release } = buildServer({
    context: { runtime, scope, stream },
    groups,
    version: packageVersion(),
    limited,
    consoleFolder: join(packageRoot, 'dist', 'api', 'console'),
    ...options,
  });
  const server = createServer(app);
  server.maxConnections = CONNECTIONS_MAX;
  server.on('drop', () => limited.inc({ limit: 'connections' }));
  await listen(server, runtime.config.apiListen);
  let stopping: Promise<void> | undefined;
  const component: Component = {
    name: 'api',
    stop: () => {
      stream.stop();
      release();
      stopping ??= close(server);
      return stopping;
    },
  };
  return { url: urlOf(server, runtime.config.apiListen.host), component };
}

/** Every file of `api/routes/`. */
export async function loadRoutes(): Promise<readonly RouteGroup[]> {
  const folder = new URL('./routes/', import.meta.url);
  return loadDefinitions<RouteGroup>(folder, (candidate) => {
    const group = candidate as Partial<RouteGroup>;
    if (typeof group.id !== 'string' || !Array.isArray(group.routes))
      throw new GrantscopeError(
        'definition_invalid',
        'the default export must be defineRoutes(...)',
      );
    return group as RouteGroup;
  });
}

function packageVersion(): string {
  const text = readFileSync(join(packageRoot, 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function listen(server: Server, at: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === 'EADDRINUSE' ? 'another program uses it' : (error.code ?? 'failed');
      reject(
        new GrantscopeError(
          'listen_failed',
          `API: cannot listen on ${at.host}:${at.port}: ${reason}; set GRANTSCOPE_API_LISTEN to another address`,
          { stage: 'starting' },
        ),
      );
    });
    server.listen(at.port, at.host, resolve);
  });
}

function urlOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo;
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const grace = setTimeout(() => server.closeAllConnections(), STOP_GRACE_MS);
    server.close(() => {
      clearTimeout(grace);
      resolve();
    });
    server.closeIdleConnections();
  });
}
