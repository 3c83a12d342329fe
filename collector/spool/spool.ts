import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { dirname, join } from 'node:path';
import type { TableRows } from '../ingest.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Log } from '../../runtime/log.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import type { Clock } from '../../runtime/clock.ts';
import { pause, systemTimers, type Timers } from '../../runtime/timers.ts';
import { nodeDisk, writeWhole, type Disk } from './disk.ts';
import { BlockBuilder } from './native_block.ts';
import { damagedName, idsIn, recoverSegments, requestsOfDone } from './recovery.ts';
import { RequestWindow } from './request_window.ts';
import {
  doneFile,
  openedAtMs,
  OpenSegment,
  SEGMENT_TABLES,
  shortName,
  type CommitPart,
  type SealedSegment,
  type SegmentTable,
} from './segment.ts';

export interface SpoolOptions {
  readonly folder: string;
  /** Beyond this many bytes waiting for the store, `append` throws `spool_full`. */
  readonly bytesMax: number;
  readonly commitIntervalMs: number;
  /** Of a segment that fills slowly; `BUSY_AGE_FACTOR` times that for one that fills fast. */
  readonly segmentAgeMsMax: number;
  readonly segmentRowsMax: number;
  /** How long the request of a stored segment is recognised when it comes again; default 72 hours. */
  readonly requestWindowMs?: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Default: the real file system. */
  readonly disk?: Disk;
  /** Default: real time. */
  readonly timers?: Timers;
  /** Default: random; a simulation gives its own. */
  readonly newSuffix?: () => string;
}

/** Requests of stored segments that are remembered, 24 bytes each, whatever the window. */
const REQUESTS_MAX = 2_000_000;
const REQUEST_WINDOW_MS = 72 * 3_600_000;
/** A segment with this share of its rows at the age limit fills fast ... */
const BUSY_SHARE = 0.05;
/** ... and is handed over at so many times that age, or when it is full. */
const BUSY_AGE_FACTOR = 3;
/** Rows that may wait for one group commit; more means the disk does not keep up. */
const PENDING_ROWS_MAX = 500_000;
/** Wait before a failed segment is cut again. */
const SEAL_RETRY_MS = 1_000;
/** Failed segments that wait for that; more means that the disk is sick, and nothing new is begun on it. */
const SEALING_MAX = 8;

/**
 * The durable buffer: rows of many requests are gathered into one block a table, written to the open
 * segment and fsynced together (group commit). `append` resolves when its rows are durable. Sealed segments
 * are handed out by `next`, oldest first, and stay on disk until `retire`.
 */
export class Spool {
  readonly #options: SpoolOptions;
  readonly #disk: Disk;
  readonly #timers: Timers;
  readonly #builders = new Map<SegmentTable, BlockBuilder<unknown>>();
  readonly #window: RequestWindow;
  readonly #sealed: SealedSegment[] = [];
  readonly #wakers: (() => void)[] = [];
  /** Stored segments whose requests are not in the window's log yet. */
  #doneIds: string[] = [];
  readonly #metrics: SpoolMetrics;
  #waiting: Waiter[] = [];
  #open: OpenSegment | undefined;
  readonly #sealing = new Map<OpenSegment, Promise<void>>();
  #openedAtMs = 0;
  #sealedBytes = 0;
  #cancelCommit: (() => void) | undefined;
  #cancelAge: (() => void) | undefined;
  #committing: Promise<void> | undefined;
  readonly #closing = new AbortController();
  #sequence = 0;

  private constructor(options: SpoolOptions) {
    this.#options = options;
    this.#disk = options.disk ?? nodeDisk;
    this.#timers = options.timers ?? systemTimers;
    this.#metrics = spoolMetrics(options.metrics);
    // Every failed segment listens.
    setMaxListeners(0, this.#closing.signal);
    this.#window = new RequestWindow({
      disk: this.#disk,
      folder: join(options.folder, 'requests'),
      clock: options.clock,
      windowMs: options.requestWindowMs ?? REQUEST_WINDOW_MS,
      requestsMax: REQUESTS_MAX,
      onWriteFailure: (error) =>
        options.log.warn({ err: error }, 'the log of requests could not be written; trying again'),
      onForgottenEarly: (requests) => this.#metrics.forgottenRequests.inc(requests),
    });
  }

  /**
   * Opens the folder and takes over what an earlier process left. Throws `spool_corrupt` where a later version
   * wrote it, and the error of the disk where it cannot be read or repaired.
   */
  static async open(options: SpoolOptions): Promise<Spool> {
    const spool = new Spool(options);
    await spool.#disk.makeFolder(spool.#quarantine);
    // The folder itself must survive, too, before anything in it is acknowledged.
    for (const folder of [options.folder, dirname(options.folder)])
      await spool.#disk.syncFolder(folder);
    await spool.#recover();
    return spool;
  }

  get #quarantine(): string {
    return join(this.#options.folder, 'quarantine');
  }

  /** Bytes that wait for the store. */
  get bytes(): number {
    const sealing = [...this.#sealing.keys()].reduce((sum, s) => sum + s.bytes, 0);
    return this.#sealedBytes + sealing + (this.#open?.bytes ?? 0);
  }

  /** When the oldest segment that is not stored was opened, ms since the epoch; undefined where all is stored. */
  get oldestOpenedAtMs(): number | undefined {
    const [oldest] = this.#sealed;
    if (oldest !== undefined) return openedAtMs(oldest.id);
    return this.#open === undefined ? undefined : this.#openedAtMs;
  }

  get sealedSegments(): number {
    return this.#sealed.length;
  }

  /**
   * Takes rows; resolves when they are durable: `repeated` where a request of equal content was durable before
   * or became so meanwhile, and no row was taken or made. A request without rows is `stored` at once, and not
   * remembered. Rows that throw while they are made refuse the request whole. Throws `spool_full` before taking
   * any when the byte limit is reached, `spool_write_failed` (retriable) when the disk refused, `shutting_down`
   * after `close`.
   */
  async append(tables: readonly TableRows[], contentHash: string): Promise<'stored' | 'repeated'> {
    const hash = shortHash(contentHash);
    for (let twin = this.#window.find(hash); twin !== undefined; twin = this.#window.find(hash)) {
      // A twin that fails is forgotten by the window, and this request takes its place.
      if (await settled(twin)) return 'repeated';
    }
    this.#refuseWhenFull();
    if (this.#take(tables) === 0) return 'stored';
    const durable = new Promise<void>((resolve, reject) =>
      this.#waiting.push({ hash, resolve, reject }),
    );
    this.#window.begin(hash, durable);
    this.#schedule();
    await durable;
    return 'stored';
  }

  /** Puts rows into the blocks of their tables; returns how many. */
  #take(tables: readonly TableRows[]): number {
    let added = 0;
    try {
      for (const { spec, rows } of tables) added += this.#builder(spec.table, spec).append(rows);
    } catch (error) {
      // A table refuses its rows whole. Were another's taken already, nothing could take them out again
      // but to refuse all that waits, which its senders will send again.
      if (added > 0) this.#refuseWaiting(error);
      throw error;
    }
    return added;
  }

  #refuseWaiting(error: unknown): void {
    for (const builder of this.#builders.values()) builder.take();
    this.#fail(this.#waiting.splice(0), error);
  }

  #refuseWhenFull(): void {
    if (this.#closing.signal.aborted) {
      throw new GrantscopeError('shutting_down', 'the collector is shutting down', {
        retriable: true,
        stage: 'receiving',
      });
    }
    const pending = [...this.#builders.values()].reduce((sum, b) => sum + b.rows, 0);
    if (this.bytes < this.#options.bytesMax && pending < PENDING_ROWS_MAX) return;
    this.#metrics.full.inc();
    throw new GrantscopeError('spool_full', 'the durable buffer is full; try again later', {
      retriable: true,
      stage: 'receiving',
    });
  }

  /** The oldest sealed segment, or undefined once the spool is closed and empty of sealed segments. */
  async next(): Promise<SealedSegment | undefined> {
    while (this.#sealed.length === 0) {
      if (this.#closing.signal.aborted && this.#sealing.size === 0 && this.#open === undefined)
        return undefined;
      await new Promise<void>((resolve) => this.#wakers.push(resolve));
    }
    return this.#sealed[0];
  }

  /**
   * Forgets the oldest sealed segment after its rows are stored or quarantined. Throws where the disk refuses;
   * to be called again then: until it succeeds the segment is on disk and would be inserted again by a start.
   */
  async retire(segment: SealedSegment): Promise<void> {
    const [oldest] = this.#sealed;
    if (oldest !== segment) throw new GrantscopeError('internal', 'segments are retired in order');
    await segment.retire();
    this.#sealed.shift();
    this.#sealedBytes -= segment.bytes;
    this.#doneIds.push(segment.id);
    await this.#logRequests(segment.requests);
    this.#report();
  }

  /** Until the log has a segment's requests its `.done` journal stays. */
  async #logRequests(requests: readonly string[]): Promise<void> {
    if (!(await this.#window.stored(requests))) return;
    for (const id of this.#doneIds) {
      // What stays is read again by the next start, which does no harm.
      await this.#disk.remove(doneFile(this.#options.folder, id)).catch(() => undefined);
    }
    this.#doneIds = [];
  }

  /**
   * Moves a table's file out of the way of the rest, for a person to look at; gives its new place. Throws
   * where the disk refuses; to be called again then.
   */
  async quarantine(segment: SealedSegment, table: SegmentTable): Promise<string> {
    const target = join(this.#quarantine, `${segment.id}.${shortName(table)}.native`);
    await segment.quarantine(table, target);
    this.#metrics.quarantined.inc();
    return target;
  }

  /** Compares a segment with its checksums; damaged blocks go to quarantine. Returns the rows in them. */
  async putDamageAside(segment: SealedSegment): Promise<number> {
    let rows = 0;
    for (const damage of await segment.leaveOutDamaged()) {
      rows += damage.rows;
      this.#metrics.damagedRows.inc(damage.rows);
      const target = join(this.#quarantine, damagedName(segment.id, damage));
      // The segment goes on in any case: the block stays in the data file until then.
      await writeWhole(this.#disk, target, damage.bytes).catch(() => undefined);
      this.#options.log.error(
        { segment: segment.id, table: damage.table, rows: damage.rows },
        'a block of the spool is damaged; it lies in quarantine, the rest goes on',
      );
    }
    return rows;
  }

  /** Commits and seals what is open; `next` then hands out the rest and ends. Safe to call twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancelAge?.();
    await this.flush();
    await this.#window.close();
    this.#wake();
  }

  /** Commits everything taken so far and seals the open segment. */
  async flush(): Promise<void> {
    do await this.#commit();
    while (this.#waiting.length > 0);
    this.#seal();
    await Promise.all(this.#sealing.values());
  }

  #builder(table: string, spec: TableRows['spec']): BlockBuilder<unknown> {
    const known = SEGMENT_TABLES.find((t) => t === table);
    if (known === undefined)
      throw new GrantscopeError('internal', `no segment holds rows of ${table}`);
    let builder = this.#builders.get(known);
    if (builder === undefined) {
      builder = new BlockBuilder(spec);
      this.#builders.set(known, builder);
    }
    return builder;
  }

  #schedule(): void {
    if (this.#cancelCommit !== undefined || this.#committing !== undefined) return;
    this.#cancelCommit = this.#timers.after(
      this.#options.commitIntervalMs,
      () => void this.#commit(),
    );
  }

  /** One group commit at a time; rows that arrive meanwhile go with the next one. Never rejects. */
  #commit(): Promise<void> {
    this.#cancelCommit?.();
    this.#cancelCommit = undefined;
    this.#committing ??= this.#commitPending().finally(() => {
      this.#committing = undefined;
      if (this.#waiting.length > 0) this.#schedule();
    });
    return this.#committing;
  }

  async #commitPending(): Promise<void> {
    const waiters = this.#waiting;
    if (waiters.length === 0) return;
    this.#waiting = [];
    const end = this.#metrics.commitSeconds.startTimer();
    try {
      const parts = this.#takeParts();
      if (this.#open === undefined && this.#sealing.size >= SEALING_MAX)
        throw new Error('the disk does not take back what it failed to write');
      this.#open ??= await this.#openSegment();
      const hashes = waiters.map((w) => w.hash);
      await this.#open.commit(parts, hashes);
      for (const { table, rows } of parts) this.#metrics.durableRows.inc({ table }, rows);
      for (const waiter of waiters) {
        this.#window.commit(waiter.hash);
        waiter.resolve();
      }
    } catch (error) {
      // Nothing more is written behind a failed write.
      this.#seal();
      this.#fail(waiters, error);
    } finally {
      end();
    }
    if ((this.#open?.rows ?? 0) >= this.#options.segmentRowsMax) this.#seal();
    this.#report();
  }

  #fail(waiters: readonly Waiter[], error: unknown): void {
    if (waiters.length === 0) return;
    this.#metrics.commitFailures.inc();
    this.#options.log.error({ err: error }, 'group commit failed; its requests are answered 503');
    const failure = new GrantscopeError(
      'spool_write_failed',
      'the durable buffer could not write; try again later',
      { retriable: true, stage: 'receiving' },
    );
    for (const waiter of waiters) {
      this.#window.fail(waiter.hash);
      waiter.reject(failure);
    }
  }

  #takeParts(): CommitPart[] {
    const parts: CommitPart[] = [];
    for (const [table, builder] of this.#builders) {
      // A copy, because the builder is filled again while this block is being written.
      if (builder.rows > 0)
        parts.push({ table, rows: builder.rows, bytes: Buffer.from(builder.take()) });
    }
    return parts;
  }

  async #openSegment(): Promise<OpenSegment> {
    // Never before an older segment, whatever the clock does: sorted by name is sorted by age, over restarts too.
    this.#openedAtMs = Math.max(this.#openedAtMs, this.#options.clock.nowMs());
    this.#sequence += 1;
    const suffix = (this.#options.newSuffix ?? randomSuffix)();
    const id = `${this.#openedAtMs.toString().padStart(15, '0')}-${this.#sequence.toString().padStart(6, '0')}-${suffix}`;
    const segment = await OpenSegment.create(this.#options.folder, id, this.#disk);
    this.#cancelAge = this.#timers.after(
      this.#options.segmentAgeMsMax,
      () => void this.#sealAged(segment, false),
    );
    return segment;
  }

  /** A segment that fills fast waits longer: the engine spends far less on a row in a large insert. */
  async #sealAged(segment: OpenSegment, hasWaited: boolean): Promise<void> {
    await this.#committing;
    if (this.#open !== segment) return;
    const { segmentAgeMsMax, segmentRowsMax } = this.#options;
    if (hasWaited || segment.rows < segmentRowsMax * BUSY_SHARE) this.#seal();
    else {
      this.#cancelAge = this.#timers.after(
        segmentAgeMsMax * (BUSY_AGE_FACTOR - 1),
        () => void this.#sealAged(segment, true),
      );
    }
  }

  /** Hands the open segment to the writer once its files are closed. */
  #seal(): void {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    this.#cancelAge?.();
    const sealing = this.#sealUntilDone(open).finally(() => {
      this.#sealing.delete(open);
      this.#wake();
      this.#report();
    });
    this.#sealing.set(open, sealing);
  }

  /** Never rejects. A segment that cannot be cut before the spool closes is left to the next start. */
  async #sealUntilDone(open: OpenSegment): Promise<void> {
    for (;;) {
      try {
        const sealed = await open.seal();
        // Where nothing was committed, what cannot be removed now is removed by the next start.
        if (sealed.requests.length === 0) await sealed.discard().catch(() => undefined);
        else this.#enqueue(sealed);
        return;
      } catch (error) {
        this.#options.log.error(
          { err: error, segment: open.id },
          'a failed segment could not be cut to what is acknowledged; trying again',
        );
      }
      if (this.#closing.signal.aborted) return;
      await pause(this.#timers, SEAL_RETRY_MS, this.#closing.signal);
    }
  }

  #enqueue(segment: SealedSegment): void {
    this.#sealed.push(segment);
    this.#sealedBytes += segment.bytes;
    this.#wake();
  }

  #wake(): void {
    for (const waker of this.#wakers.splice(0)) waker();
  }

  #report(): void {
    this.#metrics.bytes.set(this.bytes);
    this.#metrics.segments.set(this.#sealed.length);
  }

  async #recover(): Promise<void> {
    const { folder, log } = this.#options;
    await this.#window.load();
    const done = idsIn(await this.#disk.list(folder), '.done');
    const requests: string[] = [];
    for (const id of done) requests.push(...(await requestsOfDone(this.#disk, folder, id)));
    // In memory from here on, whether the log takes them now or later.
    this.#doneIds = [...done];
    if (done.length > 0) await this.#logRequests(requests);
    const { segments, damage, tornBytes } = await recoverSegments(
      this.#disk,
      folder,
      this.#quarantine,
      (hash) => this.#window.isStored(hash),
    );
    for (const d of damage) {
      this.#metrics.damagedRows.inc(d.rows);
      log.error(d, 'a part of the spool is damaged; it lies in quarantine, the rest goes on');
    }
    this.#metrics.tornBytes.inc(tornBytes);
    for (const segment of segments) {
      for (const hash of segment.requests) this.#window.commit(hash);
      for (const { table, rows } of segment.tables)
        this.#metrics.recoveredRows.inc({ table }, rows);
      this.#enqueue(segment);
      // One more, because the numbers begin anew.
      this.#openedAtMs = Math.max(this.#openedAtMs, openedAtMs(segment.id) + 1);
    }
    if (segments.length > 0)
      log.info(
        { segments: segments.length, bytes: this.bytes },
        'recovered segments of an earlier run',
      );
    this.#report();
  }
}

function randomSuffix(): string {
  return randomBytes(4).toString('hex');
}

interface Waiter {
  readonly hash: string;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

function settled(work: Promise<void>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  );
}

/** The journal keeps half of a SHA-256. */
function shortHash(contentHash: string): string {
  return contentHash.slice(0, 32);
}

type SpoolMetrics = ReturnType<typeof spoolMetrics>;

function spoolMetrics(metrics: Metrics) {
  return {
    bytes: metrics.gauge(
      'grantscope_spool_bytes',
      'Bytes in the durable buffer that wait for the store.',
    ),
    segments: metrics.gauge(
      'grantscope_spool_sealed_segments',
      'Sealed segments that wait for the store.',
    ),
    durableRows: metrics.counter(
      'grantscope_spool_rows_durable_total',
      'Rows made durable in the buffer (before they are acknowledged).',
      ['table'],
    ),
    recoveredRows: metrics.counter(
      'grantscope_spool_rows_recovered_total',
      'Rows of an earlier run that were found in the buffer at start.',
      ['table'],
    ),
    commitSeconds: metrics.histogram(
      'grantscope_spool_commit_seconds',
      'Duration of a group commit, write and fsync.',
    ),
    commitFailures: metrics.counter(
      'grantscope_spool_commit_failures_total',
      'Group commits that the disk refused.',
    ),
    full: metrics.counter(
      'grantscope_spool_full_total',
      'Requests refused because the durable buffer was full.',
    ),
    damagedRows: metrics.counter(
      'grantscope_spool_damaged_rows_total',
      'Rows in blocks whose checksum was wrong; they lie in quarantine.',
    ),
    tornBytes: metrics.counter(
      'grantscope_spool_torn_bytes_total',
      'Bytes behind a torn end of a journal that a start put into quarantine; most likely never acknowledged.',
    ),
    forgottenRequests: metrics.counter(
      'grantscope_spool_requests_forgotten_total',
      'Requests forgotten before the request window was over, because too many were remembered.',
    ),
    quarantined: metrics.counter(
      'grantscope_spool_quarantined_total',
      'Files of segments that the store refused for good.',
    ),
  };
}
