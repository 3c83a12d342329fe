import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import type { SourceDefinition } from '../model/define_source.ts';
import type { Runtime } from '../runtime/context.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import type { Component } from '../runtime/lifecycle.ts';
import type { Store } from '../store/client.ts';
import { findStoredEvents, latestStoredTime } from '../store/stored_events.ts';
import { DeadLetters } from './dead_letters/dead_letters.ts';
import { replayOperation } from './dead_letters/replay.ts';
import type { Ingest } from './ingest.ts';
import { importClientsOperation } from './import_clients.ts';
import { Pipeline } from './pipeline.ts';
import { NetworkDatabases } from './processors/network_databases.ts';
import { createScrubber, scrubberOptions } from './processors/scrub.ts';
import { telemetryScrubber } from './processors/telemetry_scrubber.ts';
import { createEventsRoute } from './receivers/events_http.ts';
import { Intake } from './receivers/intake.ts';
import { createOtlpRoutes } from './receivers/otlp_http.ts';
import { PushTokens } from './receivers/push_tokens.ts';
import { loadSources } from './registry.ts';
import { Spool } from './spool/spool.ts';
import { Writer } from './writer.ts';

/** The source of lists of clients. */
const INVENTORY = 'client_inventory';
/** How long a stop waits for the store to take what is durable; the rest waits for the next start. */
const DRAIN_MS_MAX = 20_000;
/** Longest time for a request's headers, and for a whole request beyond what its body may take. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_GRACE_MS = 30_000;

export interface Collector extends Component {
  /** For instance `http://127.0.0.1:4318`. */
  readonly url: string;
  /** The way of records that are not pushed: they are durable once it resolves. */
  readonly ingest: Ingest;
  /** Makes everything acknowledged so far visible in the store. */
  flush(): Promise<void>;
}

/** Registers `replay_dead_letters` and `import_clients`, for a process that receives nothing itself too. */
export async function registerCollectorOperations(runtime: Runtime, store: Store): Promise<void> {
  await registerOperations(runtime, store, openNetworks(runtime));
}

async function registerOperations(
  runtime: Runtime,
  store: Store,
  networks: NetworkDatabases | undefined,
): Promise<void> {
  const sources = await loadSources();
  const scrubber = createScrubber(scrubberOptions(runtime.config.redaction));
  const operation = replayOperation({ runtime, store, sources, scrubber, networks });
  runtime.operations.register('replay_dead_letters', operation);
  const inventory = sources.get(INVENTORY);
  if (inventory === undefined)
    throw new GrantscopeError('definition_invalid', `there is no source ${INVENTORY}`);
  runtime.operations.register(
    'import_clients',
    importClientsOperation({ runtime, store, source: inventory, scrubber }),
  );
}

/** The databases of `enrichment`; with hashed addresses, nobody may learn where one is. */
function openNetworks({ config, log, metrics }: Runtime): NetworkDatabases | undefined {
  const { enrichment, redaction } = config;
  const withCoordinates = redaction.client_ip !== 'hash';
  return NetworkDatabases.open({ settings: enrichment, withCoordinates, log, metrics });
}

/**
 * Starts receivers, spool and writer. `stop` closes the receivers first, makes what was accepted durable,
 * and hands it to the store as far as that answers.
 */
export async function startCollector(runtime: Runtime, store: Store): Promise<Collector> {
  const { config, log, metrics, clock, hints } = runtime;
  const networks = openNetworks(runtime);
  await registerOperations(runtime, store, networks);
  const folder = join(config.dataDir, 'spool');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const spool = await Spool.open({
    folder,
    bytesMax: config.spoolBytesMax,
    commitIntervalMs: config.commitIntervalMs,
    segmentAgeMsMax: config.segmentAgeMsMax,
    segmentRowsMax: config.segmentRowsMax,
    requestWindowMs: config.requestWindowHours * 3_600_000,
    clock,
    log,
    metrics,
  });
  metrics.readGauge(
    'grantscope_ingest_lag_seconds',
    'Age of the oldest rows in the durable buffer that the store has not taken; 0 where it has all.',
    () => Math.max(0, clock.nowMs() - (spool.oldestOpenedAtMs ?? clock.nowMs())) / 1_000,
  );
  const writer = new Writer({
    store,
    spool,
    storedEvents: {
      find: (ids, from, to) => findStoredEvents(store, config.tenant, ids, from, to),
      latest: (before) => latestStoredTime(store, config.tenant, before),
    },
    clock,
    hints,
    log,
    metrics,
  });
  writer.start();
  const { handle, ingest } = await createHandler(runtime, spool, networks, () => writer.isHealthy);
  const following = networks?.follow();
  const server = await listen(handle, runtime);
  const { address, port, family } = server.address() as AddressInfo;
  const host = family === 'IPv6' ? `[${address}]` : address;
  return {
    name: 'collector',
    url: `http://${host}:${port}`,
    ingest,
    flush: () => spool.flush(),
    stop: async () => {
      await close(server);
      await spool.close();
      await writer.drain(DRAIN_MS_MAX);
      await following?.stop();
    },
  };
}

type Route = (request: IncomingMessage, response: ServerResponse) => Promise<boolean>;

async function createHandler(
  runtime: Runtime,
  spool: Spool,
  networks: NetworkDatabases | undefined,
  isWriterHealthy: () => boolean,
): Promise<{ readonly handle: Route; readonly ingest: Ingest }> {
  const { config, log, metrics, clock, keyRing } = runtime;
  const sources = await loadSources();
  const intake = createIntake(runtime, sources);
  const scrubber = createScrubber(scrubberOptions(config.redaction));
  const { tenant } = config;
  const redaction = {
    keyRing,
    scrubber,
    clock,
    metrics,
    tenant,
    clientIp: config.redaction.client_ip,
  };
  const pipeline = new Pipeline({
    ...redaction,
    networks,
    spool,
    retentionDays: config.retention.events_days,
    deadLetters: new DeadLetters({ ...redaction, perMinuteMax: config.deadLettersPerMinuteMax }),
  });
  const events = createEventsRoute({
    ingest: pipeline,
    sources,
    bodyBytesMax: config.bodyBytesMax,
    bodyDeadlineMs: config.bodyDeadlineMs,
    intake,
    pushTokens: new PushTokens(config.collector.push_tokens),
    onFailure: (error) => log.error({ err: error }, 'events request failed'),
  });
  const otlp = createOtlpRoutes({
    ingest: pipeline,
    sources,
    clock,
    metrics,
    bodyBytesMax: config.bodyBytesMax,
    bodyDeadlineMs: config.bodyDeadlineMs,
    intake,
    scrubber: telemetryScrubber(scrubber, keyRing, config.redaction.client_ip),
    onFailure: (error) => log.error({ err: error }, 'OTLP request failed'),
  });
  const plain = createPlainRoutes(runtime, isWriterHealthy);
  const handle: Route = async (request, response) =>
    (await otlp(request, response)) ||
    (await events(request, response)) ||
    plain(request, response);
  return { handle, ingest: pipeline };
}

/** Throws `config_invalid` where something is set for a source that there is not. */
function checkSourceNames(
  setting: string,
  names: readonly string[],
  sources: ReadonlyMap<string, SourceDefinition>,
): void {
  const unknown = names.filter((id) => !sources.has(id));
  if (unknown.length === 0) return;
  throw new GrantscopeError(
    'config_invalid',
    `grantscope.yaml: ${setting}: no source ${unknown.join(', ')}; allowed: ${[...sources.keys()].join(', ')}`,
    { stage: 'starting' },
  );
}

function createIntake(
  { config, clock, metrics }: Runtime,
  sources: ReadonlyMap<string, SourceDefinition>,
): Intake {
  checkSourceNames('sources', Object.keys(config.sources), sources);
  const { push_tokens } = config.collector;
  checkSourceNames('collector.push_tokens', Object.keys(push_tokens), sources);
  return new Intake({
    requestsMax: config.requestsInFlightMax,
    // One body at its largest, as sent and decompressed, has to fit, or it would be refused for ever.
    bodyBytesMax: Math.max(config.bodyBytesInFlightMax, 2 * config.bodyBytesMax),
    rates: config.sources,
    clock,
    metrics,
  });
}

/** Health, metrics, and 404 for the rest. */
function createPlainRoutes(runtime: Runtime, isWriterHealthy: () => boolean): Route {
  return async (request, response) => {
    const path = (request.url ?? '').split('?')[0];
    if (path === '/metrics') {
      response.writeHead(200, { 'Content-Type': runtime.metrics.registry.contentType });
      response.end(await runtime.metrics.registry.metrics());
    } else if (path === '/healthz') sendJson(response, 200, { status: 'ok' });
    else if (path === '/readyz') {
      const ready = isWriterHealthy() && !runtime.lifecycle.isStopping;
      // Not ready still accepts: the spool takes what the store cannot yet.
      sendJson(response, ready ? 200 : 503, {
        status: ready
          ? 'ready'
          : 'the store does not answer; events are kept in the durable buffer',
      });
    } else {
      sendJson(response, 404, {
        code: 'not_found',
        message:
          'no such endpoint; known: POST /v1/traces, POST /v1/logs, POST /v1/events/{source}, GET /healthz, /readyz, /metrics',
      });
    }
    return true;
  };
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify(body));
}

/** Connections and broken requests are counted here: they never get to a receiver. */
function countConnections(server: Server, { config, metrics }: Runtime): void {
  const dropped = metrics.counter(
    'grantscope_connections_dropped_total',
    'Connections closed at once because GRANTSCOPE_CONNECTIONS_MAX was reached.',
  );
  const broken = metrics.counter(
    'grantscope_requests_broken_total',
    'Requests that were no HTTP, whose headers were too large, or that took too long; by answer.',
    ['status'],
  );
  server.maxConnections = config.connectionsMax;
  server.on('drop', () => dropped.inc());
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    // Gone, or answered already.
    if (!socket.writable || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    const status = BROKEN_STATUS.get(error.code ?? '') ?? '400 Bad Request';
    broken.inc({ status: status.slice(0, 3) });
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  });
}

const BROKEN_STATUS: ReadonlyMap<string, string> = new Map([
  ['HPE_HEADER_OVERFLOW', '431 Request Header Fields Too Large'],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', '413 Payload Too Large'],
  ['ERR_HTTP_REQUEST_TIMEOUT', '408 Request Timeout'],
]);

async function listen(handle: Route, runtime: Runtime): Promise<Server> {
  const address = runtime.config.collectorListen;
  const server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: runtime.config.bodyDeadlineMs + REQUEST_GRACE_MS,
    },
    (request, response) => {
      handle(request, response).catch(() => {
        if (!response.headersSent)
          sendJson(response, 500, { code: 'internal', message: 'internal error' });
        else response.destroy();
      });
    },
  );
  countConnections(server, runtime);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new GrantscopeError(
          'listen_failed',
          `collector: cannot listen on ${address.host}:${address.port}: ${messageOf(error)}; set GRANTSCOPE_COLLECTOR_LISTEN to another address`,
          { stage: 'starting' },
        ),
      );
    });
    server.listen(address.port, address.host, resolve);
  });
  return server;
}

/** Waits for requests in flight; idle keep-alive connections are closed at once. */
async function close(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}
