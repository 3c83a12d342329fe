import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openStore } from '../../store/client.ts';
import { CrashWorld, expectExactlyOnce } from '../crash_world.ts';
import { temporaryFolder } from '../harness.ts';
import { startServer } from '../server_process.ts';
import { Random } from '../simulation/random.ts';

// The conservation oracle: real processes are killed (SIGKILL) at random moments under load. What was
// acknowledged is owed; what was not is sent again, as a client does. At the end every event is there once.
// CRASH_KILLS and CRASH_SEED change the run.

const KILLS = Number(process.env['CRASH_KILLS'] ?? 5);
const SEED = Number(process.env['CRASH_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

const folder = temporaryFolder();
const random = new Random(SEED);
const world = new CrashWorld(random);
afterAll(async () => {
  await world.server?.kill();
  folder.remove();
});

describe(`SIGKILL under load, ${KILLS} times, seed ${SEED}`, () => {
  beforeAll(
    async () => {
      const start = async (): Promise<void> => {
        // Small segments: more of them are open, sealed, being inserted and being retired at the moment of the kill.
        world.server = await startServer(folder.path, {
          GRANTSCOPE_SEGMENT_AGE_MS_MAX: '60',
          GRANTSCOPE_LOG_LEVEL: 'error',
        });
      };
      await start();
      world.startClients();
      for (let kill = 0; kill < KILLS; kill += 1) {
        await sleep(random.int(100, 1_000));
        const dying = world.server;
        world.server = undefined;
        await dying?.kill();
        await start();
      }
      await world.stopClients();
      await world.caughtUp();
      expect(await world.server?.stop()).toBe(0);
      world.server = undefined;
    },
    60_000 + KILLS * 10_000,
  );

  it('stores every acknowledged event exactly once, in every table', async () => {
    const store = openStore({ dataDir: folder.path });
    try {
      expect(world.resends).toBeGreaterThan(0);
      await expectExactlyOnce(store, world);
    } finally {
      await store.close();
    }
    expect(readdirSync(join(folder.path, 'spool', 'quarantine'))).toEqual([]);
  });
});
