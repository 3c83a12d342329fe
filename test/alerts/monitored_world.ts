import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import { renderAlertmanagerConfig } from '../../alerts/alertmanager_config.ts';
import { startAlerts } from '../../alerts/main.ts';
import { renderPrometheusRules } from '../../alerts/prometheus_rules.ts';
import { loadSlos } from '../../alerts/registry.ts';
import { startApi } from '../../api/main.ts';
import { startCollector } from '../../collector/main.ts';
import type { Application } from '../../demo/clients.ts';
import { createPopulation, startWorld, type World } from '../../demo/world.ts';
import { startDetectors } from '../../detectors/main.ts';
import { startTriage } from '../../detectors/triage/main.ts';
import type { Runtime } from '../../runtime/context.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import type { Store } from '../../store/client.ts';
import { programs } from '../e2e/programs.ts';
import { TEST_KEY, testRuntime, temporaryFolder } from '../harness.ts';
import { freePort } from '../free_port.ts';

/** Waits of the rules (`for`, `keep_firing_for`) are divided by this. Windows are not: see docs of the suite. */
export const WAITS_DIVIDED_BY = 60;
/** Instead of ten minutes: twice the lateness that an SLO allows, which a live watermark never exceeds. Seconds. */
export const STALE_AFTER_SECONDS = 30;

export interface Notice {
  readonly atMs: number;
  /** By the address that it was sent to. */
  readonly receiver: string;
  readonly status: 'firing' | 'resolved';
  readonly groupLabels: Readonly<Record<string, string>>;
  readonly alerts: readonly {
    readonly status: 'firing' | 'resolved';
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  }[];
}

export interface MonitoredWorld {
  readonly world: World;
  readonly runtime: Runtime;
  readonly apiUrl: string;
  readonly alertmanagerUrl: string;
  readonly prometheusUrl: string;
  /** What arrived at the receivers, oldest first, without the dead man's switch. */
  readonly notices: readonly Notice[];
  /** Beats of the dead man's switch. */
  beats(): number;
  /** Ends the API, and so the exporter. */
  stopExporter(): Promise<void>;
  stop(): Promise<void>;
}

interface Rules {
  groups: { rules: { expr: string; for?: string; keep_firing_for?: string }[] }[];
}

/** The generated rules with shorter waits and links to `apiUrl`; everything else is as generated. */
async function rulesFor(apiUrl: string): Promise<string> {
  const rules = parse(renderPrometheusRules(await loadSlos())) as Rules;
  const unit: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600 };
  const shorter = (text: string): string =>
    `${Math.max(1, (Number.parseInt(text, 10) * (unit[text.at(-1) ?? ''] ?? NaN)) / WAITS_DIVIDED_BY)}s`;
  for (const rule of rules.groups.flatMap((g) => g.rules)) {
    if (rule.for !== undefined) rule.for = shorter(rule.for);
    if (rule.keep_firing_for !== undefined) rule.keep_firing_for = shorter(rule.keep_firing_for);
    rule.expr = rule.expr.replaceAll(/(> |<= )600\b/g, `$1${STALE_AFTER_SECONDS}`);
  }
  return stringify(rules, { lineWidth: 0 }).replaceAll('http://127.0.0.1:7400', apiUrl);
}

/** The generated routes with shorter waits, an office that never closes, and receivers on loopback. */
function routesFor(apiUrl: string, sinkUrl: string, tokenFile: string): string {
  return renderAlertmanagerConfig()
    .replaceAll('http://127.0.0.1:9095', sinkUrl)
    .replaceAll('http://127.0.0.1:7400', apiUrl)
    .replaceAll('/run/secrets/alertmanager_token', tokenFile)
    .replaceAll('group_wait: 10s', 'group_wait: 1s')
    .replaceAll('group_interval: 1m', 'group_interval: 2s')
    .replaceAll('repeat_interval: 1m', 'repeat_interval: 10s')
    .replaceAll('monday:friday', 'sunday:saturday')
    .replaceAll('start_time: 08:00', 'start_time: 00:00')
    .replaceAll('end_time: 18:00', 'end_time: 24:00');
}

async function startSink(notices: Notice[]): Promise<Server> {
  const sink = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const receiver = (request.url ?? '').slice(1);
      notices.push({ ...(JSON.parse(body) as Notice), receiver, atMs: Date.now() });
      response.end();
    });
  }).listen(0, '127.0.0.1');
  await once(sink, 'listening');
  return sink;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function ready(url: string, child: ChildProcess): Promise<void> {
  for (let left = 150; left > 0 && child.exitCode === null; left -= 1) {
    const status = await fetch(url).then(
      (r) => r.status,
      () => 0,
    );
    if (status === 200) return;
    await wait(100);
  }
  throw new Error(`${url} is not ready`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** All roles of Grantscope for one tenant, as one process runs them. */
async function startGrantscope(
  runtime: Runtime,
  store: Store,
): Promise<{ collectorUrl: string; api: Component; rest: readonly Component[] }> {
  const triage = startTriage(runtime, store);
  const detectors = await startDetectors(runtime, store);
  const alerts = await startAlerts(runtime, store);
  const api = await startApi(runtime, store);
  const collector = await startCollector(runtime, store);
  return {
    collectorUrl: collector.url,
    api: api.component,
    rest: [collector, alerts, detectors, triage],
  };
}

/**
 * Grantscope with a real Prometheus and Alertmanager behind it and the demo's authorization server in front of it, on ports of
 * their own. The generated rules and routes are used, with shorter waits.
 */
export async function startMonitoredWorld(store: Store, tenant: string): Promise<MonitoredWorld> {
  const folder = temporaryFolder();
  const notices: Notice[] = [];
  const sink = await startSink(notices);
  const [apiPort, prometheusPort, alertmanagerPort] = [
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const apiUrl = `http://127.0.0.1:${apiPort}`;
  const alertmanagerUrl = `http://127.0.0.1:${alertmanagerPort}`;
  const file = (name: string, text: string): string => {
    const path = join(folder.path, name);
    writeFileSync(path, text);
    return path;
  };
  const tokenFile = file('token', 'a-token-of-the-live-suite-of-alerts');
  file('alertmanager.yml', routesFor(apiUrl, `http://127.0.0.1:${portOf(sink)}`, tokenFile));
  file('rules.yml', await rulesFor(apiUrl));
  file(
    'prometheus.yml',
    stringify({
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: ['rules.yml'],
      alerting: {
        alertmanagers: [{ static_configs: [{ targets: [`127.0.0.1:${alertmanagerPort}`] }] }],
      },
      scrape_configs: [
        { job_name: 'grantscope_api', static_configs: [{ targets: [`127.0.0.1:${apiPort}`] }] },
      ],
    }),
  );
  const dataDir = join(folder.path, 'data');
  mkdirSync(dataDir);
  const runtime = testRuntime(dataDir, {
    config: {
      tenant,
      alertmanagerUrl,
      alertmanagerTokenFile: tokenFile,
      apiListen: { host: '127.0.0.1', port: apiPort },
      publicUrl: apiUrl,
      sloIntervalMs: 2_000,
      detectIntervalMs: 2_000,
    },
  });
  const spawned = (program: string, args: readonly string[]): ChildProcess =>
    spawn(program, args, { stdio: 'ignore', cwd: folder.path });
  const alertmanager = spawned(programs.alertmanager ?? '', [
    '--config.file=alertmanager.yml',
    '--storage.path=am',
    `--web.listen-address=127.0.0.1:${alertmanagerPort}`,
    '--cluster.listen-address=',
  ]);
  await ready(`${alertmanagerUrl}/-/ready`, alertmanager);
  const grantscope = await startGrantscope(runtime, store);
  const world = await startWorld({
    population: createPopulation(6),
    collectorUrl: grantscope.collectorUrl,
    hashKey: TEST_KEY,
    skewedShare: 0,
  });
  const prometheus = spawned(programs.prometheus ?? '', [
    '--config.file=prometheus.yml',
    '--storage.tsdb.path=tsdb',
    `--web.listen-address=127.0.0.1:${prometheusPort}`,
    '--rules.alert.resend-delay=2s',
  ]);
  await ready(`http://127.0.0.1:${prometheusPort}/-/ready`, prometheus);
  let stopped: Promise<void> | undefined;
  const stopExporter = (): Promise<void> => (stopped ??= grantscope.api.stop());
  return {
    world,
    runtime,
    apiUrl,
    alertmanagerUrl,
    prometheusUrl: `http://127.0.0.1:${prometheusPort}`,
    get notices() {
      return notices.filter((n) => n.receiver !== 'dead_man');
    },
    beats: () => notices.filter((n) => n.receiver === 'dead_man').length,
    stopExporter,
    stop: async () => {
      await end(prometheus);
      await end(alertmanager);
      await world.stop();
      await stopExporter();
      for (const component of grantscope.rest) await component.stop();
      sink.close();
      sink.closeAllConnections();
      folder.remove();
    },
  };
}

/** Requests for tokens of several machine clients at a steady rate, until `stop`. */
export class TokenTraffic {
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #loop: Promise<void>;
  asked = 0;
  refused = 0;

  constructor(
    clients: readonly Application[],
    perSecond: number,
    use: (application: Application) => Promise<void> = async (a) => {
      await a.authenticate();
    },
  ) {
    this.#loop = this.#run(clients, 1_000 / perSecond, use);
  }

  async #run(
    clients: readonly Application[],
    gapMs: number,
    use: (application: Application) => Promise<void>,
  ): Promise<void> {
    const startedMs = performance.now();
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const client = clients[this.asked % clients.length];
      const dueMs = startedMs + this.asked * gapMs - performance.now();
      if (dueMs > 0) await wait(dueMs, undefined, { signal }).catch(() => undefined);
      // A machine that cannot keep up gets less traffic, not a queue.
      if (client === undefined) break;
      if (this.#running.size >= 16) await Promise.race(this.#running);
      this.asked += 1;
      const one: Promise<void> = use(client)
        .catch(() => void (this.refused += 1))
        .finally(() => this.#running.delete(one));
      this.#running.add(one);
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
    await Promise.all(this.#running);
  }
}
