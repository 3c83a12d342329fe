import { spawnSync } from 'node:child_process';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openStore } from '../../store/client.ts';
import { CrashWorld, expectExactlyOnce } from '../crash_world.ts';
import { temporaryFolder } from '../harness.ts';
import { startServer } from '../server_process.ts';
import { Random } from '../simulation/random.ts';

// A real file system that fills up under load, with durable buffer and embedded engine on it, and has room again a
// while later, several times. What was acknowledged is stored once; what was not got a 503 and is sent again.

const ROUNDS = 3;
const SIZE_MB = 256;
const SEED = Number(process.env['CRASH_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

const folder = temporaryFolder();
const mounted = mountSmall(folder.path);
const world = new CrashWorld(new Random(SEED));

/** True where a file system of its own is at the path now; that takes the rights of root. */
function mountSmall(path: string): boolean {
  const options = ['-t', 'tmpfs', '-o', `size=${SIZE_MB}m`, 'tmpfs', path];
  const isMounted = spawnSync('mount', options).status === 0;
  if (!isMounted)
    process.stderr.write('skipped: a full disk (mounting a small tmpfs takes Linux and root)\n');
  return isMounted;
}

/** Takes all room that is left. */
function fill(file: string): void {
  const piece = Buffer.alloc(1 << 20, 1);
  const handle = openSync(file, 'a');
  try {
    for (let length = piece.length; length >= 1;) {
      try {
        if (writeSync(handle, piece, 0, length) < length) length >>= 1;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        length >>= 1;
      }
    }
  } finally {
    closeSync(handle);
  }
}

async function until(isReached: () => boolean): Promise<void> {
  while (!isReached()) await new Promise((resolve) => setTimeout(resolve, 10));
}

afterAll(async () => {
  await world.server?.kill();
  if (mounted) spawnSync('umount', ['-l', folder.path]);
  folder.remove();
});

describe.skipIf(!mounted)(`a disk that is full under load, ${ROUNDS} times, seed ${SEED}`, () => {
  beforeAll(async () => {
    world.server = await startServer(join(folder.path, 'data'), { GRANTSCOPE_LOG_LEVEL: 'fatal' });
    world.startClients();
    const filler = join(folder.path, 'filler');
    for (let round = 0; round < ROUNDS; round += 1) {
      const owed = world.events.size;
      await until(() => world.events.size > owed + 200);
      const before = world.refusals;
      while (world.refusals < before + 5) {
        fill(filler);
        const refused = world.refusals;
        // What the engine's merges free, the clients take again, until nothing is left.
        await until(() => world.refusals > refused);
      }
      rmSync(filler);
    }
    const owed = world.events.size;
    await until(() => world.events.size > owed + 200);
    await world.stopClients();
    await world.caughtUp();
    expect(await world.server.stop()).toBe(0);
    world.server = undefined;
  }, 120_000);

  it('refuses with 503 and Retry-After while it lasts, and stores all that it acknowledged once', async () => {
    expect(world.refusals).toBeGreaterThanOrEqual(5 * ROUNDS);
    const store = openStore({ dataDir: join(folder.path, 'data') });
    try {
      await expectExactlyOnce(store, world);
    } finally {
      await store.close();
    }
  });
});
