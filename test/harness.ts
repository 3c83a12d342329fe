import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareRollup } from '../alerts/main.ts';
import { loadConfig, type Config } from '../runtime/config.ts';
import { systemClock, type Clock } from '../runtime/clock.ts';
import type { Runtime } from '../runtime/context.ts';
import { KeyRing } from '../runtime/keyring.ts';
import { Lifecycle } from '../runtime/lifecycle.ts';
import { createLog } from '../runtime/log.ts';
import { Metrics } from '../runtime/metrics.ts';
import { Operations } from '../runtime/operations.ts';
import { Hints } from '../runtime/signals.ts';
import { openStore, type Store } from '../store/client.ts';
import { migrate } from '../store/migrate.ts';

/** A fresh folder that `remove` deletes. */
export function temporaryFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'grantscope-test-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/**
 * The real embedded engine in a fresh folder, migrated. One a test file: the engine is a singleton of the
 * process, and vitest gives each file a process.
 */
export async function openTestStore(): Promise<{
  store: Store;
  dataDir: string;
  close: () => Promise<void>;
}> {
  const folder = temporaryFolder();
  const store = openStore({ dataDir: folder.path });
  await migrate(store);
  await prepareRollup(store, () => Promise.resolve(true));
  return {
    store,
    dataDir: folder.path,
    close: async () => {
      await store.close();
      folder.remove();
    },
  };
}

export const TEST_KEY = 'grantscope-test-key-grantscope-test-key';

/** A runtime with a known key, free ports and a silent log; override what the test is about. */
export function testRuntime(
  dataDir: string,
  overrides: { config?: Partial<Config>; clock?: Clock } = {},
): Runtime {
  const log = createLog({ level: 'silent' });
  const config = {
    ...loadConfig({
      GRANTSCOPE_DATA_DIR: dataDir,
      GRANTSCOPE_HASH_KEY: TEST_KEY,
      GRANTSCOPE_COLLECTOR_LISTEN: '127.0.0.1:0',
      GRANTSCOPE_API_LISTEN: '127.0.0.1:0',
    }),
    ...overrides.config,
  };
  return {
    config,
    log,
    metrics: new Metrics({ processMetrics: false }),
    clock: overrides.clock ?? systemClock,
    lifecycle: new Lifecycle(log),
    keyRing: KeyRing.fromKey(TEST_KEY),
    hints: new Hints(),
    operations: new Operations(),
  };
}
