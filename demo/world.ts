import { randomBytes } from 'node:crypto';
import { allowInsecureRequests, discovery, type ServerMetadata } from 'openid-client';
import { startTelemetry, type AuthRecorder, type Telemetry } from '../instrumentation/index.ts';
import { startAuthorizationServer, type AuthorizationServer } from './authorization_server.ts';
import { createBrowser, type Browser } from './browser.ts';
import { createApplication, type Application } from './clients.ts';
import { apiGateway } from './gateway.ts';
import {
  createApplications,
  createSubjects,
  type ApplicationDefinition,
  type ApplicationKind,
  type Subject,
  type Vantage,
} from './population.ts';
import { createRandom, type Random } from './random.ts';
import {
  ordersApi,
  paymentsApi,
  serve,
  type HttpService,
  type Introspector,
} from './resource_servers.ts';
import { createSecretLedger, type SecretLedger } from './secret_ledger.ts';

/** Spans wait this long for company before they are sent. */
const EXPORT_INTERVAL_MS = 500;
/** The second orders host lags behind by this much, ... */
const SKEWED_CLOCK_MS = -2_000;
/** ... and takes this share of the traffic: its rejections are the honest kind that SREs hunt. */
export const SKEWED_SHARE = 0.04;

/** Who takes part, before anything runs: Grantscope's configuration names the same applications. */
export interface Population {
  readonly random: Random;
  readonly applications: readonly ApplicationDefinition[];
  readonly subjects: readonly Subject[];
}

export function createPopulation(seed: number): Population {
  const random = createRandom(seed);
  return { random, applications: createApplications(), subjects: createSubjects(random) };
}

export interface WorldOptions {
  readonly population: Population;
  /** Base address of the collector. */
  readonly collectorUrl: string;
  /** Grantscope's hash key. */
  readonly hashKey: string;
  readonly onExportFailure?: (message: string) => void;
  /** Share of the orders traffic that the host with the slow clock takes; default `SKEWED_SHARE`. */
  readonly skewedShare?: number;
  /** Fixed ports for people; 0 takes free ones. */
  readonly ports?: { readonly authorizationServer: number; readonly gateway: number };
}

export interface World {
  readonly random: Random;
  readonly ledger: SecretLedger;
  readonly authorizationServer: AuthorizationServer;
  readonly gatewayUrl: URL;
  readonly subjects: readonly Subject[];
  readonly applications: readonly Application[];
  application(clientId: string): Application;
  ofKind(kind: ApplicationKind): readonly Application[];
  browserAt(vantage: Vantage): Browser;
  /** Calls an API through the gateway and gives the status. */
  call(accessToken: string, method: string, path: string, from: Vantage): Promise<number>;
  /** Sends all telemetry that waits. */
  flush(): Promise<void>;
  /** Spans that were lost on the way to the collector. */
  telemetryLost(): number;
  stop(): Promise<void>;
}

/** Starts the servers of the demo on 127.0.0.1, each with telemetry of its own. */
export async function startWorld(options: WorldOptions): Promise<World> {
  const { applications, subjects, random } = options.population;
  const ledger = createSecretLedger();
  for (const subject of subjects) {
    ledger.add('password', subject.password);
    ledger.add('subject', subject.username);
  }
  const telemetry = createTelemetry(options);
  const introspector = {
    clientId: 'payments-api',
    clientSecret: randomBytes(32).toString('base64url'),
  };
  const authorizationServer = await startAuthorizationServer({
    applications,
    subjects,
    introspector,
    ledger,
    recorder: telemetry.recorderOf('harbour-as'),
    port: options.ports?.authorizationServer ?? 0,
  });
  const { issuer } = authorizationServer;
  const apis = await startApis(options, issuer, introspector, telemetry);
  const { gateway } = apis;
  const serverMetadata = await discover(issuer);
  const clients = applications.map((a) => createApplication(a, { server: serverMetadata, ledger }));
  return {
    random,
    ledger,
    authorizationServer,
    gatewayUrl: gateway.url,
    subjects,
    applications: clients,
    application: (clientId) => find(clients, clientId),
    ofKind: (kind) => clients.filter((a) => a.definition.kind === kind),
    browserAt: (vantage) => createBrowser(issuer, vantage, ledger),
    call: (token, method, path, from) => call(new URL(path, gateway.url), token, method, from),
    flush: () => telemetry.flush(),
    telemetryLost: () => telemetry.lost(),
    stop: async () => {
      for (const service of apis.services) await service.close();
      await authorizationServer.close();
      await telemetry.shutdown();
    },
  };
}

interface WorldTelemetry {
  recorderOf(serviceName: string): AuthRecorder;
  flush(): Promise<void>;
  lost(): number;
  shutdown(): Promise<void>;
}

/** One telemetry a service, as services in different processes have. */
function createTelemetry(options: WorldOptions): WorldTelemetry {
  const all: Telemetry[] = [];
  const onExportFailure = options.onExportFailure;
  return {
    recorderOf(serviceName) {
      const telemetry = startTelemetry({
        serviceName,
        instanceId: `${serviceName}-1`,
        endpoint: options.collectorUrl,
        hashKey: options.hashKey,
        exportIntervalMs: EXPORT_INTERVAL_MS,
        onExportFailure,
      });
      all.push(telemetry);
      return telemetry.recorder;
    },
    flush: async () => {
      await Promise.all(all.map((t) => t.flush()));
    },
    lost: () => all.reduce((sum, t) => sum + t.statistics.dropped + t.statistics.failed, 0),
    shutdown: async () => {
      await Promise.all(all.map((t) => t.shutdown()));
    },
  };
}

/** The gateway and the resource servers behind it. */
async function startApis(
  options: WorldOptions,
  issuer: URL,
  introspector: Introspector,
  telemetry: WorldTelemetry,
): Promise<{ gateway: HttpService; services: readonly HttpService[] }> {
  const { applications, random } = options.population;
  const backendClients = new Set(
    applications.filter((a) => a.backendIp !== undefined).map((a) => a.clientId),
  );
  const apiOptions = (name: string) => ({
    issuer,
    backendClients,
    recorder: telemetry.recorderOf(name),
  });
  const orders = await serve(ordersApi({ ...apiOptions('orders-api'), clockSkewMs: 0 }));
  const skewed = await serve(
    ordersApi({ ...apiOptions('orders-api-old-host'), clockSkewMs: SKEWED_CLOCK_MS }),
  );
  const payments = await serve(paymentsApi({ ...apiOptions('payments-api'), introspector }));
  const skewedShare = options.skewedShare ?? SKEWED_SHARE;
  const gatewayApp = apiGateway({
    recorder: telemetry.recorderOf('harbour-gateway'),
    random,
    routes: {
      orders: [
        { url: orders.url, weight: 1 - skewedShare },
        { url: skewed.url, weight: skewedShare },
      ],
      payments: [{ url: payments.url, weight: 1 }],
      statements: [{ url: payments.url, weight: 1 }],
    },
  });
  const gateway = await serve(gatewayApp, options.ports?.gateway ?? 0);
  return { gateway, services: [gateway, orders, skewed, payments] };
}

async function discover(issuer: URL): Promise<ServerMetadata> {
  const config = await discovery(issuer, 'discovery-only', undefined, undefined, {
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- plain http, on loopback only
    execute: [allowInsecureRequests],
  });
  return config.serverMetadata();
}

function find(clients: readonly Application[], clientId: string): Application {
  const found = clients.find((a) => a.definition.clientId === clientId);
  if (found === undefined) throw new RangeError(`demo: no application ${clientId}`);
  return found;
}

async function call(url: URL, token: string, method: string, from: Vantage): Promise<number> {
  const response = await fetch(url, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      'user-agent': from.userAgent,
      'x-forwarded-for': from.ip,
    },
  });
  await response.arrayBuffer();
  return response.status;
}
