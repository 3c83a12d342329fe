import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { prepareRollup, startAlerts } from '../alerts/main.ts';
import { startApi } from '../api/main.ts';
import { startConnectors } from '../collector/connectors/start.ts';
import { startCollector } from '../collector/main.ts';
import { startKafkaTopics } from '../collector/queue/kafka_topics.ts';
import { startDetectors } from '../detectors/main.ts';
import { loadDetectors } from '../detectors/registry.ts';
import { startResponse } from '../detectors/response/main.ts';
import { startTriage } from '../detectors/triage/main.ts';
import { registerTriageOperations } from '../detectors/triage/operations.ts';
import type { Config } from '../runtime/config.ts';
import type { Runtime } from '../runtime/context.ts';
import { watchKeys } from '../runtime/keyring_watch.ts';
import { startTelemetry } from '../runtime/telemetry.ts';
import { VERSION } from '../runtime/version.ts';
import { openStore, type Store } from '../store/client.ts';
import { registerKeyOperations } from '../store/key_facts.ts';
import { registerEngineMetrics } from '../store/engine_metrics.ts';
import { migrate } from '../store/migrate.ts';
import { applyRetention } from '../store/retention.ts';
import { effectsOfAddressPolicy } from './address_policy.ts';
import { registerReportOperations } from './report/operations.ts';
import { SERVER_FILE, type Role } from './roles.ts';
import { settleLeftovers } from './settle.ts';

export interface Served {
  readonly collectorUrl: string | undefined;
  readonly apiUrl: string | undefined;
  readonly runtime: Runtime;
  readonly store: Store;
  /** Makes everything acknowledged so far visible to queries. */
  flush(): Promise<void>;
  /** Drains and ends everything; safe to call twice. */
  stop(): Promise<void>;
}

/** Opens the store as the configuration says and brings its schema up to date. */
export async function openMigratedStore(config: Config): Promise<Store> {
  const store = openStore({
    dataDir: config.dataDir,
    engineMemoryBytesMax: config.engineMemoryBytesMax,
    ...(config.clickhouse === undefined ? {} : { server: config.clickhouse }),
  });
  try {
    await migrate(store);
    await applyRetention(store, config.retention);
  } catch (error) {
    await store.close();
    throw error;
  }
  return store;
}

/**
 * Starts the given roles in this process. Components stop in reverse order: the API and the detectors first
 * see the last of what the collector drained.
 */
export async function serve(runtime: Runtime, roles: readonly Role[]): Promise<Served> {
  const { config, lifecycle, log } = runtime;
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  lifecycle.add(startTelemetry(config.otlpEndpoint, VERSION));
  const store = await openMigratedStore(config);
  lifecycle.add({ name: 'store', stop: () => store.close() });
  if (roles.includes('collector'))
    await prepareRollup(store, () => settleLeftovers(runtime, store));
  registerEngineMetrics(runtime.metrics, store);
  const keyFile = config.hashKey === undefined ? config.keyFile : undefined;
  lifecycle.add(watchKeys({ ...runtime, keyFile }));
  registerKeyOperations(runtime.operations, store);
  registerTriageOperations(runtime, store);
  registerReportOperations(runtime, store);
  try {
    let apiUrl: string | undefined;
    if (roles.includes('detectors')) {
      lifecycle.add(await startResponse(runtime, store));
      // Stops after the detectors, so that it decides about what they find last.
      lifecycle.add(startTriage(runtime, store));
      lifecycle.add(await startDetectors(runtime, store));
      lifecycle.add(await startAlerts(runtime, store));
    }
    if (roles.includes('api')) {
      const api = await startApi(runtime, store);
      apiUrl = api.url;
      lifecycle.add(api.component);
    }
    const collector = roles.includes('collector')
      ? await startCollector(runtime, store)
      : undefined;
    if (collector !== undefined) {
      lifecycle.add(collector);
      for (const connector of await startConnectors(runtime, collector.ingest))
        lifecycle.add(connector);
      const topics = await startKafkaTopics(runtime, collector.ingest);
      if (topics !== undefined) lifecycle.add(topics);
    }
    lifecycle.add(announce(config.dataDir, { api: apiUrl, collector: collector?.url }));
    log.info({ collector: collector?.url, api: apiUrl, roles, version: VERSION }, 'ready');
    await warnOfAddressPolicy(runtime);
    return {
      collectorUrl: collector?.url,
      apiUrl,
      runtime,
      store,
      flush: async () => collector?.flush(),
      stop: () => lifecycle.stop(),
    };
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
}

/** Whoever keeps no addresses is told at every start what the rules see less of. */
async function warnOfAddressPolicy({ config, log }: Runtime): Promise<void> {
  const { client_ip } = config.redaction;
  if (client_ip === 'keep') return;
  const rules = effectsOfAddressPolicy(client_ip, await loadDetectors());
  log.warn({ client_ip, rules }, 'redaction.client_ip: these rules see less');
}

/** Writes where API and collector listen, for commands that run beside the server. */
function announce(
  dataDir: string,
  urls: { readonly api: string | undefined; readonly collector: string | undefined },
): { name: string; stop: () => Promise<void> } {
  const file = join(dataDir, SERVER_FILE);
  writeFileSync(file, `${JSON.stringify({ pid: process.pid, ...urls })}\n`, { mode: 0o600 });
  return {
    name: 'announcement',
    stop: () => {
      rmSync(file, { force: true });
      return Promise.resolve();
    },
  };
}
