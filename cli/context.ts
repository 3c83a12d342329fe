import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { systemClock } from '../runtime/clock.ts';
import { loadConfig } from '../runtime/config.ts';
import type { Runtime } from '../runtime/context.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import { openKeyRing } from '../runtime/keyring_file.ts';
import { Lifecycle } from '../runtime/lifecycle.ts';
import { createLog } from '../runtime/log.ts';
import { Metrics } from '../runtime/metrics.ts';
import { Operations } from '../runtime/operations.ts';
import { Hints } from '../runtime/signals.ts';
import type { Store } from '../store/client.ts';
import { holderOf } from '../store/data_dir_lock.ts';
import type { CliContext } from './define_command.ts';
import { SERVER_FILE } from './roles.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Builds the parts of one process from its environment. The one place that wires them together. */
export function createRuntime(
  environment: Environment,
  options: { processMetrics: boolean },
): Runtime {
  const config = loadConfig(environment);
  const log = createLog({ level: config.logLevel });
  return {
    config,
    log,
    metrics: new Metrics({ processMetrics: options.processMetrics }),
    clock: systemClock,
    lifecycle: new Lifecycle(log),
    keyRing: openKeyRing(config),
    hints: new Hints(),
    operations: new Operations(),
  };
}

export function createCliContext(environment: Environment): CliContext {
  let runtime: Runtime | undefined;
  const getRuntime = (): Runtime =>
    (runtime ??= createRuntime(environment, { processMetrics: true }));
  const withStore = async <T>(work: (store: Store, runtime: Runtime) => Promise<T>): Promise<T> => {
    const own = getRuntime();
    const { openMigratedStore } = await import('./serve.ts');
    const store = await openMigratedStore(own.config);
    try {
      return await work(store, own);
    } finally {
      await store.close();
    }
  };
  const progress: CliContext['progress'] = (label, done, total) => {
    if (!process.stderr.isTTY) return;
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
    process.stderr.write(`\r${label} ${done}/${total} (${percent} %)${done >= total ? '\n' : ''}`);
  };
  return {
    print: ({ text, json }, asJson) => {
      process.stdout.write(asJson ? `${JSON.stringify(json, null, 2)}\n` : `${text.trimEnd()}\n`);
    },
    progress,
    config: () => runtime?.config ?? loadConfig(environment),
    runtime: getRuntime,
    withStore,
    operation: async <T>(name: string, input: unknown): Promise<T> => {
      const { config } = getRuntime();
      const api =
        config.clickhouse === undefined && holderOf(config.dataDir) !== undefined
          ? apiOf(config.dataDir)
          : undefined;
      if (api !== undefined) return (await callApi(api, name, input)) as T;
      return withStore(async (store, own) => {
        const { registerDetectorOperations } = await import('../detectors/main.ts');
        const { registerSloOperations } = await import('../alerts/main.ts');
        const { registerCollectorOperations } = await import('../collector/main.ts');
        await registerDetectorOperations(own, store);
        const { registerKeyOperations } = await import('../store/key_facts.ts');
        const { registerTriageOperations } = await import('../detectors/triage/operations.ts');
        registerSloOperations(own, store);
        registerTriageOperations(own, store);
        await registerCollectorOperations(own, store);
        registerKeyOperations(own.operations, store);
        const { registerReportOperations } = await import('./report/operations.ts');
        registerReportOperations(own, store);
        const operation = own.operations.get(name);
        if (operation === undefined)
          throw new GrantscopeError(
            'not_found',
            `no operation ${name}; known: ${own.operations.names.join(', ')}`,
          );
        return (await operation(input, (done, total) => progress(name, done, total))) as T;
      });
    },
  };
}

function apiOf(dataDir: string): string {
  const parsed = z.object({ api: z.url() }).safeParse(readJson(join(dataDir, SERVER_FILE)));
  if (!parsed.success) {
    throw new GrantscopeError(
      'data_dir_locked',
      `${dataDir} is held by a process that serves no API; stop it, or start it with the api role`,
    );
  }
  return parsed.data.api;
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

async function callApi(api: string, name: string, input: unknown): Promise<unknown> {
  const response = await fetch(`${api}/api/v1/operations/${encodeURIComponent(name)}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(input),
  });
  const body: unknown = await response.json();
  if (response.ok) return body;
  const problem = z.object({ detail: z.string() }).safeParse(body);
  throw new GrantscopeError(
    'upstream_failed',
    problem.success ? problem.data.detail : `the server answered ${response.status}`,
  );
}
