import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Spool } from '../../collector/spool/spool.ts';
import { Writer } from '../../collector/writer.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import type { TableSpec } from '../../model/table_spec.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { Hints } from '../../runtime/signals.ts';
import type { NativeInsert } from '../../store/client.ts';
import { temporaryFolder } from '../harness.ts';
import { readRows } from '../simulation/native_rows.ts';

// The writer over a real spool, and a store that takes files and answers as the test says.

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const ids = [1, 2, 3].map((i) => `00000000-0000-4000-8000-00000000000${i}`);

async function openWorld(insert: (insert: NativeInsert) => void) {
  const folder = temporaryFolder();
  const clock = new ManualClock(Date.UTC(2026, 2, 1));
  const metrics = new Metrics({ processMetrics: false });
  const log = createLog({ level: 'silent' });
  const limits = {
    bytesMax: 1e9,
    commitIntervalMs: 0,
    segmentAgeMsMax: 60_000,
    segmentRowsMax: 1e6,
  };
  const spool = await Spool.open({ folder: folder.path, ...limits, clock, log, metrics });
  const stored: string[] = [];
  const writer = new Writer({
    store: {
      insertNative: (request) => {
        insert(request);
        stored.push(...readRows(readFileSync(request.file)).map((r) => String(r['event_id'])));
        return Promise.resolve();
      },
    },
    spool,
    storedEvents: { find: () => Promise.resolve([]), latest: () => Promise.resolve(0n) },
    clock,
    hints: new Hints(),
    log,
    metrics,
  });
  cleanups.push(folder.remove);
  for (const [i, event_id] of ids.entries()) {
    const event = completeEvent({ event_id, time: 1_772_323_200_000_000_000n, kind: 'login' });
    const rows = [event];
    await spool.append([{ spec: authEventsTable as TableSpec<unknown>, rows }], `${i}`.repeat(64));
  }
  /** Changes a byte of the second event. */
  const flip = (): void => {
    const name = readdirSync(folder.path).find((f) => f.endsWith('.native'))!;
    const bytes = readFileSync(join(folder.path, name));
    const at = bytes.indexOf('login', bytes.indexOf('login') + 1);
    bytes[at] = bytes[at]! ^ 1;
    writeFileSync(join(folder.path, name), bytes);
  };
  const finish = async (): Promise<void> => {
    await spool.close();
    writer.start();
    await writer.drain(10_000);
  };
  const damagedRows = async (): Promise<number> =>
    (await metrics.registry.getSingleMetric('grantscope_spool_damaged_rows_total')!.get())
      .values[0]!.value;
  const quarantined = (): string[] => readdirSync(join(folder.path, 'quarantine'));
  return { clock, flip, finish, stored, damagedRows, quarantined, writer, spool };
}

describe('the writer', () => {
  it('stores what was appended, in order, and forgets it', async () => {
    const world = await openWorld(() => undefined);
    await world.finish();
    expect(world.stored).toEqual(ids);
    expect(world.spool.bytes).toBe(0);
    expect(await world.damagedRows()).toBe(0);
  });

  it('compares what lay on the disk for a minute with its checksums, and leaves the damage out', async () => {
    const world = await openWorld(() => undefined);
    world.flip();
    world.clock.advance(61_000);
    await world.finish();
    expect(world.stored).toEqual([ids[0], ids[2]]);
    expect(await world.damagedRows()).toBe(1);
    expect(world.quarantined()).toEqual([expect.stringMatching(/\.auth_events\.\d+\.damaged$/)]);
  });

  it('compares the checksums when the store refuses, and stores the rest', async () => {
    let refusals = 0;
    const world = await openWorld(() => {
      refusals += 1;
      if (refusals === 1) throw new GrantscopeError('store_rejected', 'unreadable');
    });
    world.flip();
    await world.finish();
    expect([refusals, world.stored]).toEqual([2, [ids[0], ids[2]]]);
    expect(await world.damagedRows()).toBe(1);
  });

  it('puts the rows into quarantine that are whole and refused all the same, and goes on', async () => {
    const world = await openWorld(() => {
      throw new GrantscopeError('store_rejected', 'no such column');
    });
    await world.finish();
    expect(world.stored).toEqual([]);
    expect(world.quarantined()).toEqual([expect.stringMatching(/\.auth_events\.native$/)]);
    expect(world.spool.bytes).toBe(0);
  });

  it('tries again what may pass, and says meanwhile that it is not well', async () => {
    let tries = 0;
    const healths: boolean[] = [];
    const world = await openWorld(() => {
      tries += 1;
      if (tries > 1) healths.push(world.writer.isHealthy);
      if (tries < 3) throw new GrantscopeError('store_unavailable', 'away', { retriable: true });
    });
    await world.finish();
    expect([tries, healths]).toEqual([3, [false, false]]);
    expect(world.writer.isHealthy).toBe(true);
    expect(world.stored).toEqual(ids);
  });
});
