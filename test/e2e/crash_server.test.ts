import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openStore } from '../../store/client.ts';
import { FAULTS } from '../clickhouse_stand_in/faults.ts';
import { StandIn } from '../clickhouse_stand_in/stand_in.ts';
import { CrashWorld, expectExactlyOnce } from '../crash_world.ts';
import { temporaryFolder } from '../harness.ts';
import { startServer } from '../server_process.ts';
import { Random } from '../simulation/random.ts';

// The same with a ClickHouse server over HTTP, which fails in every way that it can, goes away and is killed
// itself. CRASH_KILLS and CRASH_SEED change the run.

const KILLS = Number(process.env['CRASH_KILLS'] ?? 3);
const SEED = Number(process.env['CRASH_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const FAULT_PROBABILITY = 0.15;

const folder = temporaryFolder();
const serverFolder = temporaryFolder();
const random = new Random(SEED);
const world = new CrashWorld(random);
const met: Record<string, number> = {};
let standIn: StandIn;
afterAll(async () => {
  await world.server?.kill();
  await standIn.kill();
  folder.remove();
  serverFolder.remove();
});

function countFaults(): void {
  for (const [fault, count] of Object.entries(standIn.met)) met[fault] = (met[fault] ?? 0) + count;
}

async function start(): Promise<void> {
  world.server = await startServer(folder.path, {
    CLICKHOUSE_URL: standIn.url,
    CLICKHOUSE_TIMEOUT_SECONDS: '2',
    GRANTSCOPE_SEGMENT_AGE_MS_MAX: '60',
    GRANTSCOPE_LOG_LEVEL: 'fatal',
  });
  await standIn.fail(FAULTS, FAULT_PROBABILITY, random.int(1, 1_000_000));
}

/** Kills one of the two, or both, or takes the server away for a while. */
async function trouble(): Promise<void> {
  const what = random.pick(['process', 'process', 'server', 'both', 'away'] as const);
  if (what === 'away') {
    await standIn.away();
    await sleep(random.int(100, 2_000));
    await standIn.back();
  }
  if (what === 'server' || what === 'both') {
    await standIn.heal();
    countFaults();
    await standIn.kill();
  }
  // Kills of the process are what is counted: it dies in every round.
  await sleep(random.int(0, 300));
  const dying = world.server;
  world.server = undefined;
  await dying?.kill();
  if (what === 'server' || what === 'both') await standIn.start();
  else await standIn.heal();
  await start();
}

describe(`SIGKILL over HTTP, ${KILLS} times, seed ${SEED}`, () => {
  beforeAll(
    async () => {
      standIn = await StandIn.start(serverFolder.path);
      await start();
      world.startClients();
      for (let kill = 0; kill < KILLS; kill += 1) {
        await sleep(random.int(100, 1_500));
        await trouble();
      }
      await world.stopClients();
      await standIn.heal();
      countFaults();
      await world.caughtUp();
      expect(await world.server?.stop()).toBe(0);
      world.server = undefined;
    },
    // Two cores that do other things as well: a store that fails in nine ways has been seen to take longer than two minutes.
    240_000 + KILLS * 15_000,
  );

  it('stores every acknowledged event exactly once, in every table', async () => {
    const store = openStore({
      dataDir: folder.path,
      server: { url: standIn.url, username: undefined, password: undefined },
    });
    try {
      expect(world.resends).toBeGreaterThan(0);
      await expectExactlyOnce(store, world);
    } finally {
      await store.close();
    }
    expect(readdirSync(join(folder.path, 'spool', 'quarantine'))).toEqual([]);
    process.stdout.write(`faults met: ${JSON.stringify(met)}\n`);
    expect(Object.values(met).reduce((sum, n) => sum + n, 0)).toBeGreaterThan(0);
  });
});
