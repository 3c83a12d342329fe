import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TableRows } from '../ingest.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Log } from '../../runtime/log.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import type { Clock } from '../../runtime/clock.ts';
import { BlockBuilder } from './native_block.ts';
import { RequestWindow } from './request_window.ts';
import {
  dataFile,
  doneFile,
  journalFile,
  OpenSegment,
  readRequests,
  recoverSegment,
  SEGMENT_TABLES,
  type CommitPart,
  type SealedSegment,
  type SegmentTable,
} from './segment.ts';

export interface SpoolOptions {
  readonly folder: string;
  /** Beyond this many bytes waiting for the store, `append` throws `spool_full`. */
  readonly bytesMax: number;
  readonly commitIntervalMs: number;
  readonly segmentAgeMsMax: number;
  readonly segmentRowsMax: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Content hashes that are remembered, to recognise repeated requests. */
const REQUEST_WINDOW_MAX = 200_000;
/** Journals of stored segments that are kept for that, and read at start. */
const DONE_JOURNALS_MAX = 2_000;
/** Rows that may wait for one group commit; more means the disk does not keep up. */
const PENDING_ROWS_MAX = 500_000;

/**
 * The durable buffer: rows of many requests are gathered into one block a table, written to the open
 * segment and fsynced together (group commit). `append` resolves when its rows are durable. Sealed segments
 * are handed out by `next`, oldest first, and stay on disk until `retire`.
 */
export class Spool {
  readonly #options: SpoolOptions;
  readonly #builders = new Map<SegmentTable, BlockBuilder<unknown>>();
  readonly #window = new RequestWindow(REQUEST_WINDOW_MAX);
  readonly #sealed: SealedSegment[] = [];
  readonly #wakers: (() => void)[] = [];
  readonly #doneIds: string[] = [];
  readonly #metrics: SpoolMetrics;
  #waiting: Waiter[] = [];
  #open: OpenSegment | undefined;
  #openedAtMs = 0;
  #sealedBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #ageTimer: NodeJS.Timeout | undefined;
  #committing: Promise<void> | undefined;
  #closed = false;
  #sequence = 0;

  private constructor(options: SpoolOptions) {
    this.#options = options;
    this.#metrics = spoolMetrics(options.metrics);
  }

  /** Opens the folder and takes over what an earlier process left. */
  static async open(options: SpoolOptions): Promise<Spool> {
    const spool = new Spool(options);
    await mkdir(spool.#quarantine, { recursive: true, mode: 0o700 });
    await spool.#recover();
    return spool;
  }

  get #quarantine(): string {
    return join(this.#options.folder, 'quarantine');
  }

  /** Bytes that wait for the store. */
  get bytes(): number {
    return this.#sealedBytes + (this.#open?.bytes ?? 0);
  }

  /** When the oldest segment that is not stored was opened, ms since the epoch; undefined where all is stored. */
  get oldestOpenedAtMs(): number | undefined {
    const [oldest] = this.#sealed;
    if (oldest !== undefined) return Number(oldest.id.slice(0, oldest.id.indexOf('-')));
    return this.#open === undefined ? undefined : this.#openedAtMs;
  }

  get sealedSegments(): number {
    return this.#sealed.length;
  }

  /**
   * Takes rows; resolves when they are durable: `repeated` where a request of equal content was durable before
   * or became so meanwhile, and no row was taken or made. A request without rows is `stored` at once, and not
   * remembered. Only the rows of the first table may throw while they are made: then nothing is taken. Throws `spool_full` before taking any when the byte limit
   * is reached, `spool_write_failed` (retriable) when the disk refused, `shutting_down` after `close`.
   */
  async append(tables: readonly TableRows[], contentHash: string): Promise<'stored' | 'repeated'> {
    const hash = shortHash(contentHash);
    for (let twin = this.#window.find(hash); twin !== undefined; twin = this.#window.find(hash)) {
      // A twin that fails is forgotten by the window, and this request takes its place.
      if (await settled(twin)) return 'repeated';
    }
    this.#refuseWhenFull();
    let added = 0;
    for (const { spec, rows } of tables) added += this.#builder(spec.table, spec).append(rows);
    if (added === 0) return 'stored';
    const durable = new Promise<void>((resolve, reject) =>
      this.#waiting.push({ hash, resolve, reject }),
    );
    this.#window.add(hash, durable);
    this.#schedule();
    await durable;
    return 'stored';
  }

  #refuseWhenFull(): void {
    if (this.#closed) {
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
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => this.#wakers.push(resolve));
    }
    return this.#sealed[0];
  }

  /** Drops the oldest sealed segment from the queue after its rows are stored or quarantined. */
  async retired(segment: SealedSegment): Promise<void> {
    const [oldest] = this.#sealed;
    if (oldest !== segment) throw new GrantscopeError('internal', 'segments are retired in order');
    this.#sealed.shift();
    this.#sealedBytes -= segment.bytes;
    this.#doneIds.push(segment.id);
    while (this.#doneIds.length > DONE_JOURNALS_MAX) {
      const id = this.#doneIds.shift();
      if (id !== undefined) await rm(doneFile(this.#options.folder, id), { force: true });
    }
    this.#report();
  }

  /** Moves a table's file out of the way of the rest, for a person to look at. */
  async quarantine(segment: SealedSegment, table: SegmentTable): Promise<string> {
    const file = dataFile(this.#options.folder, segment.id, table);
    const target = join(
      this.#quarantine,
      `${segment.id}.${table.slice('grantscope.'.length)}.native`,
    );
    await rename(file, target);
    this.#metrics.quarantined.inc();
    return target;
  }

  /** Commits and seals what is open; `next` then hands out the rest and ends. Safe to call twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#ageTimer);
    await this.flush();
    this.#wake();
  }

  /** Commits everything taken so far and seals the open segment. */
  async flush(): Promise<void> {
    do await this.#commit();
    while (this.#waiting.length > 0);
    await this.#seal();
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
    if (this.#timer !== undefined || this.#committing !== undefined) return;
    this.#timer = setTimeout(() => void this.#commit(), this.#options.commitIntervalMs);
  }

  /** One group commit at a time; rows that arrive meanwhile go with the next one. */
  #commit(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
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
    const parts = this.#takeParts();
    const end = this.#metrics.commitSeconds.startTimer();
    try {
      this.#open ??= await this.#openSegment();
      await this.#open.commit(
        parts,
        waiters.map((w) => w.hash),
      );
      for (const { table, rows } of parts) this.#metrics.durableRows.inc({ table }, rows);
      for (const waiter of waiters) waiter.resolve();
    } catch (error) {
      this.#metrics.commitFailures.inc();
      this.#options.log.error({ err: error }, 'group commit failed; its requests are answered 503');
      const failure = new GrantscopeError(
        'spool_write_failed',
        'the durable buffer could not write; try again later',
        { retriable: true, stage: 'receiving' },
      );
      for (const waiter of waiters) waiter.reject(failure);
      await this.#seal().catch((e: unknown) => {
        this.#options.log.error(
          { err: e },
          'the failed segment could not be sealed; the next start recovers it',
        );
        this.#open = undefined;
      });
    } finally {
      end();
    }
    if ((this.#open?.rows ?? 0) >= this.#options.segmentRowsMax) await this.#seal();
    this.#report();
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
    this.#openedAtMs = this.#options.clock.nowMs();
    this.#sequence += 1;
    // Sorted by name = sorted by age, over restarts too.
    const id = `${this.#openedAtMs.toString().padStart(15, '0')}-${this.#sequence.toString().padStart(6, '0')}-${randomBytes(4).toString('hex')}`;
    const segment = await OpenSegment.create(this.#options.folder, id);
    this.#ageTimer = setTimeout(() => void this.#sealAged(segment), this.#options.segmentAgeMsMax);
    return segment;
  }

  async #sealAged(segment: OpenSegment): Promise<void> {
    await this.#committing;
    if (this.#open === segment) await this.#seal();
  }

  async #seal(): Promise<void> {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    clearTimeout(this.#ageTimer);
    this.#enqueue(await open.seal());
    this.#report();
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
    const files = (await readdir(folder)).sort();
    await this.#rememberStored(files);
    for (const file of files.filter((f) => f.endsWith('.journal'))) {
      const id = file.slice(0, -'.journal'.length);
      const { segment, damage } = await recoverSegment(folder, id, this.#quarantine);
      for (const d of damage) {
        this.#metrics.damagedRows.inc(d.rows);
        log.error(
          { segment: id, table: d.table, rows: d.rows, bytes: d.bytes },
          'a block of the spool is damaged; it lies in quarantine, the rest goes on',
        );
      }
      for (const hash of segment.requests) this.#window.add(hash, Promise.resolve());
      if (segment.tables.length === 0) await rm(journalFile(folder, id), { force: true });
      else {
        for (const { table, rows } of segment.tables)
          this.#metrics.recoveredRows.inc({ table }, rows);
        this.#enqueue(segment);
      }
    }
    if (this.#sealed.length > 0)
      log.info(
        { segments: this.#sealed.length, bytes: this.bytes },
        'recovered segments of an earlier run',
      );
    this.#report();
  }

  /** Loads the request hashes of stored segments, and removes data that a crash left behind them. */
  async #rememberStored(files: readonly string[]): Promise<void> {
    const { folder } = this.#options;
    for (const file of files.filter((f) => f.endsWith('.done'))) {
      const id = file.slice(0, -'.done'.length);
      for (const hash of await readRequests(join(folder, file)))
        this.#window.add(hash, Promise.resolve());
      this.#doneIds.push(id);
      for (const table of SEGMENT_TABLES) await rm(dataFile(folder, id, table), { force: true });
    }
  }
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
      'Rows in blocks whose checksum was wrong at start.',
    ),
    quarantined: metrics.counter(
      'grantscope_spool_quarantined_total',
      'Files of segments that the store refused for good.',
    ),
  };
}
