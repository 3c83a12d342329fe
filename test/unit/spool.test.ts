import { appendFileSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createHash } from 'node:crypto';
import { Spool, type SpoolOptions } from '../../collector/spool/spool.ts';
import { nodeDisk, type Disk, type DiskFile } from '../../collector/spool/disk.ts';
import type { SealedSegment } from '../../collector/spool/segment.ts';
import {
  decodeJournal,
  encodeFrame,
  encodeHead,
  encodeNote,
  JOURNAL_FORMAT,
} from '../../collector/spool/journal.ts';
import type { TableSpec } from '../../model/table_spec.ts';
import { RequestWindow, type RequestWindowOptions } from '../../collector/spool/request_window.ts';
import { ManualClock, systemClock } from '../../runtime/clock.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { temporaryFolder } from '../harness.ts';

// The durable buffer on a real file system: what was acknowledged is found again by the next start.

const spec: TableSpec<unknown> = {
  table: 'grantscope.auth_events',
  columns: [{ name: 'client_id', type: 'LowCardinality(String)', get: (v) => v }],
};
const rows = (...values: string[]) => [{ spec, rows: values }];
const hash = (text: string): string => createHash('sha256').update(text).digest('hex');

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function options(folder: string, overrides: Partial<SpoolOptions> = {}): SpoolOptions {
  return {
    folder,
    bytesMax: 10_000_000,
    commitIntervalMs: 1,
    segmentAgeMsMax: 60_000,
    segmentRowsMax: 1_000_000,
    clock: systemClock,
    log: createLog({ level: 'silent' }),
    metrics: new Metrics({ processMetrics: false }),
    ...overrides,
  };
}

function newFolder(): string {
  const folder = temporaryFolder();
  cleanups.push(folder.remove);
  return folder.path;
}

/** A disk that has no room for the first segment. */
function fullOnce(): Disk {
  let calls = 0;
  return {
    ...nodeDisk,
    open: (path, how) => {
      calls += 1;
      const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
      return calls === 1 ? Promise.reject(full) : nodeDisk.open(path, how);
    },
  };
}

async function openSpool(folder: string, overrides: Partial<SpoolOptions> = {}): Promise<Spool> {
  const spool = await Spool.open(options(folder, overrides));
  cleanups.push(() => spool.close());
  return spool;
}

/** Values of the one column, read from the blocks by a reader of its own. */
function valuesIn(segment: SealedSegment): string[] {
  return segment.tables.flatMap(({ file }) => readBlocks(readFileSync(file)));
}

function readBlocks(bytes: Buffer): string[] {
  const values: string[] = [];
  let at = 0;
  const varUint = (): number => {
    let result = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++]!;
      result += (byte & 127) * shift;
      if (byte < 128) return result;
    }
  };
  const string = (): string => {
    const length = varUint();
    at += length;
    return bytes.toString('utf8', at - length, at);
  };
  const u64 = (): number => Number(bytes.readBigUInt64LE((at += 8) - 8));
  while (at < bytes.length) {
    expect(varUint()).toBe(1);
    const count = varUint();
    expect([string(), string(), u64(), u64()]).toEqual([
      'client_id',
      'LowCardinality(String)',
      1,
      0x600,
    ]);
    const keys = Array.from({ length: u64() }, string);
    expect(u64()).toBe(count);
    for (let i = 0; i < count; i += 1) values.push(keys[bytes[at++]!]!);
  }
  return values;
}

describe('Spool', () => {
  it('acknowledges after the commit, gathers requests into one segment and hands it out sealed', async () => {
    const spool = await openSpool(newFolder());
    await Promise.all([
      spool.append(rows('a'), hash('1')),
      spool.append(rows('b', 'c'), hash('2')),
    ]);
    await spool.flush();
    const segment = (await spool.next())!;
    expect(valuesIn(segment)).toEqual(['a', 'b', 'c']);
    expect(segment.tables.map((t) => [t.table, t.rows])).toEqual([['grantscope.auth_events', 3]]);
    expect(segment.requests).toEqual([hash('1').slice(0, 32), hash('2').slice(0, 32)]);
  });

  it('seals by age and by rows', async () => {
    const byAge = await openSpool(newFolder(), { segmentAgeMsMax: 10 });
    await byAge.append(rows('a'), hash('1'));
    expect(valuesIn((await byAge.next())!)).toEqual(['a']);
    const byRows = await openSpool(newFolder(), { segmentRowsMax: 2 });
    await byRows.append(rows('a', 'b'), hash('1'));
    expect(valuesIn((await byRows.next())!)).toEqual(['a', 'b']);
  });

  it('finds everything acknowledged again after the process was gone, and cuts off what was not', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a', 'b'), hash('1'));
    await first.append(rows('c'), hash('2'));
    // The process dies here: no flush, no close. A write that never finished leaves half a block and half a frame.
    const data = readdirSync(folder).find((f) => f.endsWith('.native'))!;
    const journal = readdirSync(folder).find((f) => f.endsWith('.journal'))!;
    appendFileSync(join(folder, data), Buffer.from([1, 3, 9, 99, 108]));
    appendFileSync(join(folder, journal), Buffer.from('GSJ1 torn'));
    const second = await openSpool(folder);
    expect(valuesIn((await second.next())!)).toEqual(['a', 'b', 'c']);
    expect(await second.append(rows('c'), hash('2'))).toBe('repeated');
    expect(await second.append(rows('d'), hash('3'))).toBe('stored');
  });

  it('puts a damaged block aside, counts it, and goes on with the rest', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    for (const [i, value] of ['a', 'b', 'c'].entries())
      await first.append(rows(value), hash(String(i)));
    const data = join(
      folder,
      readdirSync(folder).find((f) => f.endsWith('.native'))!,
    );
    const bytes = readFileSync(data);
    const middle = Math.floor(bytes.length / 2);
    bytes[middle] = bytes[middle]! ^ 0xff;
    writeFileSync(data, bytes);
    const metrics = new Metrics({ processMetrics: false });
    const second = await openSpool(folder, { metrics });
    expect(valuesIn((await second.next())!)).toEqual(['a', 'c']);
    expect(
      await metrics.registry.getSingleMetricAsString('grantscope_spool_damaged_rows_total'),
    ).toMatch(/_total 1$/);
    expect(readdirSync(join(folder, 'quarantine'))).toHaveLength(1);
  });

  it('forgets a stored segment but still recognises its requests after a restart', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a'), hash('1'));
    await first.flush();
    const segment = (await first.next())!;
    await first.retire(segment);
    expect(first.bytes).toBe(0);
    expect(readdirSync(folder).filter((f) => f.endsWith('.native'))).toEqual([]);
    const second = await openSpool(folder);
    expect(second.sealedSegments).toBe(0);
    expect(await second.append(rows('a'), hash('1'))).toBe('repeated');
  });

  it('removes data that a crash left between storing and forgetting', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a'), hash('1'));
    await first.flush();
    const segment = (await first.next())!;
    const file = segment.tables[0]!.file;
    const bytes = readFileSync(file);
    await first.retire(segment);
    writeFileSync(file, bytes);
    const second = await openSpool(folder);
    expect(second.sealedSegments).toBe(0);
    expect(readdirSync(folder).filter((f) => f.endsWith('.native'))).toEqual([]);
  });

  it('refuses with spool_full at the byte limit, takes again once the store has caught up, and loses nothing', async () => {
    const spool = await openSpool(newFolder(), { bytesMax: 1 });
    await spool.append(rows('a'), hash('1'));
    await expect(spool.append(rows('b'), hash('2'))).rejects.toMatchObject({
      code: 'spool_full',
      retriable: true,
    });
    await spool.flush();
    const segment = (await spool.next())!;
    expect(valuesIn(segment)).toEqual(['a']);
    await spool.retire(segment);
    expect(await spool.append(rows('b'), hash('2'))).toBe('stored');
    expect(await spool.append(rows('b'), hash('2'))).toBe('repeated');
  });

  it('answers a request that the disk refused with a retriable error and takes the resend', async () => {
    const folder = newFolder();
    const spool = await openSpool(folder, { disk: fullOnce() });
    await expect(spool.append(rows('a'), hash('1'))).rejects.toMatchObject({
      code: 'spool_write_failed',
      retriable: true,
    });
    expect(await spool.append(rows('a'), hash('1'))).toBe('stored');
    await spool.flush();
    expect(valuesIn((await spool.next())!)).toEqual(['a']);
  });

  it('takes one of many equal requests at once, and the next where that one failed', async () => {
    const spool = await openSpool(newFolder());
    const fates = await Promise.all([1, 2, 3].map(() => spool.append(rows('a'), hash('1'))));
    expect(fates).toEqual(['stored', 'repeated', 'repeated']);
    await spool.flush();
    expect(valuesIn((await spool.next())!)).toEqual(['a']);
    const failing = await openSpool(newFolder(), { disk: fullOnce() });
    const [first, second] = await Promise.allSettled([
      failing.append(rows('a'), hash('1')),
      failing.append(rows('a'), hash('1')),
    ]);
    expect(first.status).toBe('rejected');
    expect(second).toEqual({ status: 'fulfilled', value: 'stored' });
  });

  it('refuses after close, and close hands out what is left and then ends', async () => {
    const spool = await openSpool(newFolder());
    await spool.append(rows('a'), hash('1'));
    await spool.close();
    await expect(spool.append(rows('b'), hash('2'))).rejects.toMatchObject({
      code: 'shutting_down',
    });
    const segment = (await spool.next())!;
    expect(valuesIn(segment)).toEqual(['a']);
    await spool.retire(segment);
    expect(await spool.next()).toBeUndefined();
  });
});

describe('Spool, what an earlier process left', () => {
  const files = (folder: string, ending: string): string[] =>
    readdirSync(folder)
      .filter((f) => f.endsWith(ending))
      .map((f) => join(folder, f));

  it('refuses a later format before it changes anything, and says which', async () => {
    const folder = newFolder();
    const head = encodeHead();
    head.writeUInt32LE(JOURNAL_FORMAT + 1, 4);
    writeFileSync(join(folder, '000000000000001-000001-aaaaaaaa.journal'), head);
    writeFileSync(join(folder, '000000000000001-000001-aaaaaaaa.auth_events.native'), 'rows');
    await expect(Spool.open(options(folder))).rejects.toMatchObject({
      code: 'spool_corrupt',
      message: expect.stringContaining(`has format ${JOURNAL_FORMAT + 1}`) as string,
    });
    expect(files(folder, '.native').map((f) => readFileSync(f, 'utf8'))).toEqual(['rows']);
  });

  it('reads format 1, also the journals of stored segments', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a'), hash('1'));
    const [journal] = files(folder, '.journal');
    writeFileSync(journal!, readFileSync(journal!).subarray(encodeHead().length));
    const done = encodeFrame({ extents: [], requests: [hash('0').slice(0, 32)] });
    writeFileSync(join(folder, '000000000000001-000001-aaaaaaaa.done'), done);
    const second = await openSpool(folder);
    expect(valuesIn((await second.next())!)).toEqual(['a']);
    expect(await second.append(rows('a'), hash('1'))).toBe('repeated');
    expect(await second.append(rows('z'), hash('0'))).toBe('repeated');
    expect(files(folder, '.done')).toEqual([]);
  });

  it('takes empty files for what they are: a start that was cut off', async () => {
    const folder = newFolder();
    for (const name of ['journal', 'auth_events.native'])
      writeFileSync(join(folder, `000000000000001-000001-aaaaaaaa.${name}`), '');
    writeFileSync(join(folder, '000000000000002-000001-bbbbbbbb.otel_logs.native'), 'orphan');
    const spool = await openSpool(folder);
    expect(spool.sealedSegments).toBe(0);
    expect(readdirSync(folder).sort()).toEqual(['quarantine', 'requests']);
  });

  it('goes on behind a flipped byte of the journal, and puts aside what it described', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    for (const value of ['a', 'b', 'c']) await first.append(rows(value), hash(value));
    const [journal] = files(folder, '.journal');
    const bytes = readFileSync(journal!);
    const middle = encodeHead().length + (bytes.length - encodeHead().length) / 2;
    bytes[middle] = bytes[middle]! ^ 1;
    writeFileSync(journal!, bytes);
    const second = await openSpool(folder);
    expect(valuesIn((await second.next())!)).toEqual(['a', 'c']);
    const aside = files(join(folder, 'quarantine'), '.stray').map((f) => readFileSync(f));
    expect(aside.flatMap(readBlocks)).toEqual(['b']);
    expect(await second.append(rows('b'), hash('b'))).toBe('stored');
  });

  it('does not vouch for the requests of a last block that is half there', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a'), hash('a'));
    await first.append(rows('b'), hash('b'));
    const [data] = files(folder, '.native');
    writeFileSync(data!, readFileSync(data!).subarray(0, -3));
    const second = await openSpool(folder);
    expect(valuesIn((await second.next())!)).toEqual(['a']);
    expect(await second.append(rows('b'), hash('b'))).toBe('stored');
    expect(await second.append(rows('a'), hash('a'))).toBe('repeated');
  });

  it('drops the frame of a failed commit whose request was acknowledged later', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a'), hash('a'));
    await first.append(rows('b'), hash('b'));
    await first.flush();
    const kept = files(folder, '.journal').concat(files(folder, '.native'));
    const contents = kept.map((f) => readFileSync(f));
    // As if the commit of b had failed and its resend were in the next segment.
    const second = await openSpool(newFolder());
    await second.append(rows('b'), hash('b'));
    await second.flush();
    const later = (await second.next())!;
    for (const name of readdirSync(later.folder).filter((f) => f.startsWith(later.id)))
      writeFileSync(join(folder, `9${name.slice(1)}`), readFileSync(join(later.folder, name)));
    kept.forEach((file, i) => writeFileSync(file, contents[i]!));
    const third = await openSpool(folder);
    const older = (await third.next())!;
    expect(valuesIn(older)).toEqual(['a']);
    await third.retire(older);
    expect(valuesIn((await third.next())!)).toEqual(['b']);
  });

  it('remembers what was screened, and leaves the same rows out again', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a', 'b', 'c', 'b'), hash('1'));
    await first.flush();
    const segment = (await first.next())!;
    expect(segment.isScreened).toBe(false);
    const repeats = [
      { offset: 0, row: 1 },
      { offset: 0, row: 3 },
    ];
    const table = 'grantscope.auth_events';
    expect(await segment.screen(table, () => Promise.resolve(repeats))).toBe(2);
    expect(valuesIn(segment)).toEqual(['a', 'c']);
    const again = (await (await openSpool(folder)).next())!;
    expect(again.isScreened).toBe(true);
    expect(again.tables.map((t) => t.rows)).toEqual([2]);
    expect(valuesIn(again)).toEqual(['a', 'c']);
    await again.retire();
    expect(files(folder, '.native')).toEqual([]);
  });

  it('keeps a quarantined table out of the way of a start', async () => {
    const folder = newFolder();
    const first = await openSpool(folder);
    await first.append(rows('a'), hash('1'));
    await first.flush();
    const segment = (await first.next())!;
    const target = await first.quarantine(segment, 'grantscope.auth_events');
    expect(readBlocks(readFileSync(target))).toEqual(['a']);
    expect(segment.tables).toEqual([]);
    const metrics = new Metrics({ processMetrics: false });
    const again = (await (await openSpool(folder, { metrics })).next())!;
    expect(again.tables).toEqual([]);
    expect(
      await metrics.registry.getSingleMetricAsString('grantscope_spool_damaged_rows_total'),
    ).toMatch(/_total 0$/);
  });
});

describe('a sick disk', () => {
  /** A disk whose files fail as told; new ones work again when `sick.now` is false. */
  function sickDisk(sick: { now: boolean; calls: string[] }, ...failing: (keyof DiskFile)[]): Disk {
    const open: Disk['open'] = async (path, how) => {
      const file = await nodeDisk.open(path, how);
      const guarded = (name: keyof DiskFile, work: () => Promise<unknown>): Promise<never> => {
        if (sick.now && failing.includes(name)) {
          sick.calls.push(name);
          return Promise.reject(new Error('EIO'));
        }
        return work() as Promise<never>;
      };
      return {
        write: (bytes, at) => guarded('write', () => file.write(bytes, at)),
        datasync: () => guarded('datasync', () => file.datasync()),
        truncate: (length) => guarded('truncate', () => file.truncate(length)),
        close: () => file.close(),
      };
    };
    return { ...nodeDisk, open };
  }

  it('writes all of a block although the disk takes it by bits', async () => {
    const open: Disk['open'] = async (path, how) => {
      const file = await nodeDisk.open(path, how);
      const write: DiskFile['write'] = (bytes, at) => file.write(bytes.subarray(0, 7), at);
      return {
        write,
        datasync: () => file.datasync(),
        truncate: (n) => file.truncate(n),
        close: () => file.close(),
      };
    };
    const spool = await openSpool(newFolder(), { disk: { ...nodeDisk, open } });
    await spool.append(rows('a', 'b'), hash('1'));
    await spool.flush();
    expect(valuesIn((await spool.next())!)).toEqual(['a', 'b']);
  });

  it('abandons a segment whose fsync failed, cut to what was acknowledged before', async () => {
    const sick = { now: false, calls: [] as string[] };
    const spool = await openSpool(newFolder(), { disk: sickDisk(sick, 'datasync') });
    await spool.append(rows('a'), hash('a'));
    sick.now = true;
    await expect(spool.append(rows('b'), hash('b'))).rejects.toMatchObject({
      code: 'spool_write_failed',
      retriable: true,
    });
    // It is not handed out while it cannot be cut durably.
    expect(spool.sealedSegments).toBe(0);
    sick.now = false;
    expect(await spool.append(rows('b'), hash('b'))).toBe('stored');
    const older = (await spool.next())!;
    expect(valuesIn(older)).toEqual(['a']);
    await spool.retire(older);
    await spool.flush();
    expect(valuesIn((await spool.next())!)).toEqual(['b']);
  });

  it('begins no more segments than a sick disk may have to take back', async () => {
    const sick = { now: true, calls: [] as string[] };
    const folder = newFolder();
    const spool = await openSpool(folder, { disk: sickDisk(sick, 'datasync') });
    for (let i = 0; i < 30; i += 1)
      await expect(spool.append(rows('a'), hash('a'))).rejects.toMatchObject({ retriable: true });
    expect(readdirSync(folder).filter((f) => f.endsWith('.journal'))).toHaveLength(8);
    sick.now = false;
    // The segments that hold nothing go, and the request is taken.
    let fate = '';
    while (fate !== 'stored') fate = await spool.append(rows('a'), hash('a')).catch(() => '');
    await spool.flush();
    expect(valuesIn((await spool.next())!)).toEqual(['a']);
    expect(readdirSync(folder).filter((f) => f.endsWith('.journal'))).toHaveLength(1);
  });

  it('closes although it cannot write, and leaves the rest to the next start', async () => {
    const sick = { now: false, calls: [] as string[] };
    const folder = newFolder();
    const spool = await Spool.open(
      options(folder, { disk: sickDisk(sick, 'datasync', 'truncate') }),
    );
    await spool.append(rows('a'), hash('a'));
    sick.now = true;
    const refused = expect(spool.append(rows('b'), hash('b'))).rejects.toMatchObject({
      retriable: true,
    });
    await spool.close();
    await refused;
    expect(await spool.next()).toBeUndefined();
    const next = await openSpool(folder);
    // The bytes of b reached the disk: they count once, and b is known when it comes again.
    expect(valuesIn((await next.next())!)).toEqual(['a', 'b']);
    expect(await next.append(rows('b'), hash('b'))).toBe('repeated');
  });
});

describe('the window of requests', () => {
  async function openWindow(folder: string, overrides: Partial<RequestWindowOptions> = {}) {
    const forgotten: number[] = [];
    const window = new RequestWindow({
      disk: nodeDisk,
      folder,
      clock: systemClock,
      windowMs: 8_000,
      requestsMax: 1_000,
      onWriteFailure: (error) => {
        throw error;
      },
      onForgottenEarly: (count) => forgotten.push(count),
      ...overrides,
    });
    await window.load();
    cleanups.push(() => window.close());
    return { window, forgotten };
  }
  const key = (i: number): string => hash(String(i)).slice(0, 32);

  it('remembers stored requests for its time, over restarts, whatever jumps the clock makes', async () => {
    const folder = newFolder();
    const clock = new ManualClock(1_000_000);
    let { window } = await openWindow(folder, { clock });
    for (let second = 0; second < 20; second += 1) {
      clock.advance(second === 10 ? 86_400_000 : 1_000);
      await window.stored([key(second)]);
      if (second % 3 === 0) ({ window } = await openWindow(folder, { clock }));
    }
    const known = Array.from({ length: 20 }, (_, i) => window.isStored(key(i)));
    // Nine slices of a second each: the jump by a day ended one, as a second does.
    expect(known).toEqual(Array.from({ length: 20 }, (_, i) => i >= 11));
  });

  it('forgets the oldest when there are too many, and says how many', async () => {
    const { window, forgotten } = await openWindow(newFolder(), { requestsMax: 80 });
    for (let i = 0; i < 110; i += 1) await window.stored([key(i)]);
    expect(forgotten).toEqual([10, 10]);
    expect([window.isStored(key(19)), window.isStored(key(20))]).toEqual([false, true]);
  });

  it('never forgets a request whose segment waits', async () => {
    const { window } = await openWindow(newFolder(), { requestsMax: 8 });
    window.begin(key(-1), Promise.resolve());
    window.commit(key(-1));
    for (let i = 0; i < 100; i += 1) await window.stored([key(i)]);
    expect(window.find(key(-1))).toBeDefined();
    expect(window.isStored(key(-1))).toBe(false);
    expect(window.find(key(0))).toBeUndefined();
  });
});

describe('journal', () => {
  const frame = {
    extents: [{ table: 2, offset: 5_000_000_000, length: 7, crc: 0xffff_ffff, rows: 3 }],
    requests: ['00'.repeat(15) + 'ff'],
  };

  it('reads back what it wrote', () => {
    const empty = { extents: [], requests: [] };
    const note = { kind: 'screened', table: 0, rows: [{ offset: 5_000_000_000, row: 9 }] } as const;
    const parts = [encodeHead(), encodeFrame(frame), encodeFrame(empty), encodeNote(note)];
    const ends = [8, 8 + parts[1]!.length, 8 + parts[1]!.length + parts[2]!.length];
    expect(decodeJournal(Buffer.concat(parts))).toEqual({
      frames: [frame, empty],
      notes: [note],
      frameEnds: ends.slice(1),
      end: Buffer.concat(parts).length,
      damagedBytes: 0,
    });
  });

  it('reads format 1, which had no head', () => {
    expect(decodeJournal(encodeFrame(frame)).frames).toEqual([frame]);
  });

  it('takes a torn end for torn, wherever it is cut, and never throws', () => {
    const one = encodeFrame(frame);
    const two = Buffer.concat([one, one]);
    for (let cut = 0; cut < two.length; cut += 1) {
      const { frames, end, damagedBytes } = decodeJournal(two.subarray(0, cut));
      expect(frames).toHaveLength(cut < one.length ? 0 : 1);
      expect([end, damagedBytes]).toEqual([cut < one.length ? 0 : one.length, 0]);
    }
  });

  it('keeps the frames behind a changed byte, wherever it is, and counts the damage', () => {
    const one = encodeFrame(frame);
    for (let at = 0; at < one.length; at += 1) {
      const changed = Buffer.concat([one, one]);
      changed[at] = changed[at]! ^ 0x55;
      expect(decodeJournal(changed)).toMatchObject({
        frames: [frame],
        end: changed.length,
        damagedBytes: one.length,
      });
    }
  });
});
