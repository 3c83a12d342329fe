import { setTimeout as sleep } from 'node:timers/promises';
import { authEventsTable } from '../model/event_columns.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import type { Log } from '../runtime/log.ts';
import type { Metrics } from '../runtime/metrics.ts';
import type { Hints } from '../runtime/signals.ts';
import { inSpan } from '../runtime/telemetry.ts';
import type { Store } from '../store/client.ts';
import { deadLettersTable } from './dead_letters/table.ts';
import { otelLogsTable, otelTracesTable } from './receivers/otlp/rows.ts';
import { retireSegment, type SealedSegment, type SegmentTable } from './spool/segment.ts';
import type { Spool } from './spool/spool.ts';

/** Wait between two tries of one insert: doubles from the first to the second. */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;

const COLUMNS: Readonly<Record<SegmentTable, readonly string[]>> = {
  'grantscope.auth_events': authEventsTable.columns.map((c) => c.name),
  'grantscope.otel_traces': otelTracesTable.columns.map((c) => c.name),
  'grantscope.otel_logs': otelLogsTable.columns.map((c) => c.name),
  'grantscope.dead_letters': deadLettersTable.columns.map((c) => c.name),
};

/**
 * Brings sealed segments to the store, oldest first, one at a time. The deduplication token is made of the
 * segment's id and the table, so that an insert that is repeated after a crash or a lost answer counts once,
 * in the table and in the views that depend on it. A segment leaves the disk after all of it is stored. What
 * may pass is tried again for ever; what the store refuses for good is quarantined and counted.
 */
export class Writer {
  readonly #store: Store;
  readonly #spool: Spool;
  readonly #hints: Hints;
  readonly #log: Log;
  readonly #metrics: ReturnType<typeof writerMetrics>;
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;
  #healthy = true;

  constructor(deps: { store: Store; spool: Spool; hints: Hints; log: Log; metrics: Metrics }) {
    this.#store = deps.store;
    this.#spool = deps.spool;
    this.#hints = deps.hints;
    this.#log = deps.log;
    this.#metrics = writerMetrics(deps.metrics);
  }

  /** False while the store refuses or does not answer. */
  get isHealthy(): boolean {
    return this.#healthy;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends once the closed spool is empty; what the store does not take by then waits for the next start. */
  async drain(timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => this.#abort.abort(), timeoutMs);
    await this.#running;
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    for (;;) {
      const segment = await this.#spool.next();
      if (segment === undefined) return;
      for (const part of segment.tables) {
        const stored = await this.#storeTable(segment, part);
        if (!stored) return;
      }
      await retireSegment(segment);
      await this.#spool.retired(segment);
    }
  }

  /** False when the drain's deadline passed first. */
  async #storeTable(
    segment: SealedSegment,
    part: SealedSegment['tables'][number],
  ): Promise<boolean> {
    for (let wait = RETRY_MS_MIN; ; wait = Math.min(wait * 2, RETRY_MS_MAX)) {
      const end = this.#metrics.seconds.startTimer();
      try {
        await inSpan('store.insert', { table: part.table, rows: part.rows }, () =>
          this.#store.insertNative({
            table: part.table,
            columns: COLUMNS[part.table],
            file: part.file,
            deduplicationToken: `${segment.id}:${part.table}`,
          }),
        );
        end();
        this.#healthy = true;
        this.#metrics.stored.inc({ table: part.table }, part.rows);
        this.#hints.emit('inserted', { table: part.table, rows: part.rows });
        return true;
      } catch (error) {
        if (!isPassing(error)) {
          const file = await this.#spool.quarantine(segment, part.table);
          this.#metrics.refused.inc({ table: part.table }, part.rows);
          this.#log.error(
            { err: error, file, rows: part.rows },
            'the store refused a segment for good; it lies in quarantine',
          );
          return true;
        }
        this.#healthy = false;
        this.#metrics.retries.inc();
        this.#log.warn(
          { reason: messageOf(error), segment: segment.id },
          'insert failed; trying again',
        );
      }
      if (this.#abort.signal.aborted) return false;
      await sleep(wait, undefined, { signal: this.#abort.signal }).catch(() => undefined);
    }
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
    retries: metrics.counter('grantscope_writer_retries_total', 'Inserts that were tried again.'),
    seconds: metrics.histogram(
      'grantscope_writer_insert_seconds',
      'Duration of an insert of one segment into one table.',
    ),
  };
}
