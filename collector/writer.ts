import { authEventsTable } from '../model/event_columns.ts';
import type { TableSpec } from '../model/table_spec.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Log } from '../runtime/log.ts';
import type { Metrics } from '../runtime/metrics.ts';
import type { Hints } from '../runtime/signals.ts';
import { inSpan } from '../runtime/telemetry.ts';
import { pause, systemTimers, type Timers } from '../runtime/timers.ts';
import type { NativeInsert, Store } from '../store/client.ts';
import { deadLettersTable } from './dead_letters/table.ts';
import { otelLogsTable, otelTracesTable } from './receivers/otlp/rows.ts';
import { EventRepeats, type StoredEvents } from './spool/event_repeats.ts';
import {
  openedAtMs,
  type SealedSegment,
  type SegmentPart,
  type SegmentTable,
} from './spool/segment.ts';
import type { Spool } from './spool/spool.ts';

/** Wait between two tries of one step: doubles from the first to the second. */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;

/** With the types, so that a segment of an older version, which lacks newer columns, is stored too. */
const COLUMNS: Readonly<Record<SegmentTable, Pick<NativeInsert, 'columns' | 'types'>>> = {
  'grantscope.auth_events': columnsOf(authEventsTable),
  'grantscope.otel_traces': columnsOf(otelTracesTable),
  'grantscope.otel_logs': columnsOf(otelLogsTable),
  'grantscope.dead_letters': columnsOf(deadLettersTable),
};

function columnsOf<Row>({ columns }: TableSpec<Row>): Pick<NativeInsert, 'columns' | 'types'> {
  return { columns: columns.map((c) => c.name), types: columns.map((c) => c.type) };
}
const EVENTS = 'grantscope.auth_events';
/** Bytes that lay on the disk for so long are compared with their checksums before they are inserted. */
const TRUSTED_MS_MAX = 60_000;

export interface WriterDeps {
  readonly store: Pick<Store, 'insertNative'>;
  readonly spool: Spool;
  /** Looks events up in the store, to leave out those that are there already. */
  readonly storedEvents: StoredEvents;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Default: real time. */
  readonly timers?: Timers;
}

/** What became of one try to insert: the store was away, it had an objection that may pass, or one that cannot. */
type Tried = 'stored' | 'away' | 'rejected' | 'refused';

/**
 * Brings sealed segments to the store, oldest first, one at a time:
 *
 *   1. screen   leave out events that are stored already; decided once, durably, before the first insert
 *   2. insert   each table, with a deduplication token made of the segment's id and the table, so that an insert
 *               that is repeated after a crash or a lost answer counts once, in the table and in its views
 *   3. retire   forget the segment on the disk
 *
 * Each step is tried again for ever, because each can be repeated without harm. Only what the store refuses for
 * good is not: then the segment is compared with its checksums, damaged blocks are left out, and when it has
 * none the table's rows are quarantined. Both are counted.
 */
export class Writer {
  readonly #deps: WriterDeps;
  readonly #timers: Timers;
  readonly #repeats: EventRepeats;
  readonly #metrics: ReturnType<typeof writerMetrics>;
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;
  #healthy = true;

  constructor(deps: WriterDeps) {
    this.#deps = deps;
    this.#timers = deps.timers ?? systemTimers;
    this.#repeats = new EventRepeats({ stored: deps.storedEvents, clock: deps.clock });
    this.#metrics = writerMetrics(deps.metrics);
  }

  /** False while the store refuses or does not answer, or the disk keeps the writer from its work. */
  get isHealthy(): boolean {
    return this.#healthy;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /**
   * Ends once the closed spool is empty, or after `timeoutMs`: what the store does not take by then waits for
   * the next start. An insert that is under way then may still reach the store; the next start repeats it.
   */
  async drain(timeoutMs: number): Promise<void> {
    const cancel = this.#timers.after(timeoutMs, () => this.#abort.abort());
    const isAborted = new Promise<void>((resolve) => {
      this.#abort.signal.addEventListener('abort', () => resolve());
    });
    await Promise.race([this.#running, isAborted]);
    cancel();
  }

  async #run(): Promise<void> {
    for (;;) {
      const segment = await this.#deps.spool.next();
      if (segment === undefined || this.#abort.signal.aborted) return;
      if (!(await this.#storeSegment(segment))) return;
    }
  }

  /** False when the drain's deadline passed first. */
  async #storeSegment(segment: SealedSegment): Promise<boolean> {
    if (!(await this.#untilDone(segment, 'screening', () => this.#screen(segment)))) return false;
    for (const { table } of segment.tables)
      if (!(await this.#storeTable(segment, table))) return false;
    return this.#untilDone(segment, 'retiring', () => this.#deps.spool.retire(segment));
  }

  async #screen(segment: SealedSegment): Promise<void> {
    const hasEvents = segment.tables.some((t) => t.table === EVENTS);
    if (!hasEvents) return;
    if (segment.isScreened) {
      await this.#repeats.remember(segment);
      return;
    }
    const repeated = await segment.screen(EVENTS, (s) => this.#repeats.find(s));
    this.#metrics.repeated.inc({ table: EVENTS }, repeated);
  }

  async #storeTable(segment: SealedSegment, table: SegmentTable): Promise<boolean> {
    let isVerified = false;
    let trustedSince = openedAtMs(segment.id);
    const verify = async (): Promise<void> => {
      await this.#deps.spool.putDamageAside(segment);
      trustedSince = this.#deps.clock.nowMs();
    };
    for (let wait = RETRY_MS_MIN; ; wait = Math.min(wait * 2, RETRY_MS_MAX)) {
      if (
        this.#deps.clock.nowMs() - trustedSince > TRUSTED_MS_MAX &&
        !(await this.#untilDone(segment, 'verifying', verify))
      )
        return false;
      // Read anew each time: what is damaged is no longer part of it.
      const part = segment.tables.find((t) => t.table === table);
      if (part === undefined) return true;
      const tried = await this.#insert(segment, part);
      if (tried === 'stored') return true;
      if (tried !== 'away' && !isVerified) {
        // Whatever the store says of flipped bytes, the checksums know better.
        if (!(await this.#untilDone(segment, 'verifying', verify))) return false;
        isVerified = true;
        continue;
      }
      if (tried === 'refused') {
        const setAside = (): Promise<void> => this.#quarantine(segment, part);
        if (!(await this.#untilDone(segment, 'quarantining', setAside))) return false;
        return true;
      }
      if (!(await this.#pause(wait))) return false;
    }
  }

  async #insert(segment: SealedSegment, part: SegmentPart): Promise<Tried> {
    const end = this.#metrics.seconds.startTimer();
    try {
      await inSpan('store.insert', { table: part.table, rows: part.rows }, () =>
        this.#deps.store.insertNative({
          table: part.table,
          ...COLUMNS[part.table],
          file: part.file,
          deduplicationToken: `${segment.id}:${part.table}`,
        }),
      );
    } catch (error) {
      if (!isPassing(error)) {
        this.#deps.log.error({ err: error, segment: segment.id }, 'the store refused a segment');
        return 'refused';
      }
      this.#healthy = false;
      this.#metrics.retries.inc();
      this.#deps.log.warn(
        { reason: messageOf(error), segment: segment.id },
        'insert failed; trying again',
      );
      return error instanceof GrantscopeError && error.code === 'store_rejected'
        ? 'rejected'
        : 'away';
    }
    end();
    this.#healthy = true;
    this.#metrics.stored.inc({ table: part.table }, part.rows);
    this.#deps.hints.emit('inserted', { table: part.table, rows: part.rows });
    return 'stored';
  }

  async #quarantine(segment: SealedSegment, part: SegmentPart): Promise<void> {
    const file = await this.#deps.spool.quarantine(segment, part.table);
    this.#metrics.refused.inc({ table: part.table }, part.rows);
    this.#deps.log.error({ file, rows: part.rows }, 'refused rows lie in quarantine');
  }

  /** Repeats a step until it succeeds; false when the drain's deadline passed first. */
  async #untilDone(
    segment: SealedSegment,
    step: string,
    work: () => Promise<void>,
  ): Promise<boolean> {
    for (let wait = RETRY_MS_MIN; ; wait = Math.min(wait * 2, RETRY_MS_MAX)) {
      try {
        await work();
        return true;
      } catch (error) {
        this.#healthy = false;
        this.#metrics.retries.inc();
        this.#deps.log.warn(
          { reason: messageOf(error), segment: segment.id },
          `${step} failed; trying again`,
        );
      }
      if (!(await this.#pause(wait))) return false;
    }
  }

  /** False when the drain's deadline passed. */
  async #pause(ms: number): Promise<boolean> {
    if (!this.#abort.signal.aborted) await pause(this.#timers, ms, this.#abort.signal);
    return !this.#abort.signal.aborted;
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof GrantscopeError ? error.retriable : true;
}

function writerMetrics(metrics: Metrics) {
  return {
    stored: metrics.counter(
      'grantscope_writer_rows_stored_total',
      'Rows that the store confirmed.',
      ['table'],
    ),
    refused: metrics.counter(
      'grantscope_writer_rows_quarantined_total',
      'Rows that the store refused for good.',
      ['table'],
    ),
    repeated: metrics.counter(
      'grantscope_writer_rows_repeated_total',
      'Rows left out because the same event is stored already.',
      ['table'],
    ),
    retries: metrics.counter(
      'grantscope_writer_retries_total',
      'Steps of the writer (screening, inserting, retiring) that were tried again.',
    ),
    seconds: metrics.histogram(
      'grantscope_writer_insert_seconds',
      'Duration of an insert of one segment into one table.',
    ),
  };
}
