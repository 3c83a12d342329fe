import { core, type tracing } from './otel_sdk.ts';

type SpanExporter = tracing.SpanExporter;

/** What became of the spans since the start. `recorded = exported + failed + dropped + pending`. */
export interface ExportStatistics {
  readonly recorded: number;
  readonly exported: number;
  /** The collector refused them or could not be reached in time, after the exporter's own retries. */
  readonly failed: number;
  /** Not even queued: `SPAN_QUEUE_LENGTH_MAX` was reached. */
  readonly dropped: number;
  readonly pending: number;
}

/**
 * Stands before and behind the batch processor and counts exactly: the batch processor itself forgets how
 * many spans it dropped.
 */
export class ExportLedger {
  readonly #queueLengthMax: number;
  readonly #onFailure: ((message: string) => void) | undefined;
  #recorded = 0;
  #exported = 0;
  #failed = 0;
  #dropped = 0;
  #failing = false;

  constructor(queueLengthMax: number, onFailure?: (message: string) => void) {
    this.#queueLengthMax = queueLengthMax;
    this.#onFailure = onFailure;
  }

  get statistics(): ExportStatistics {
    return {
      recorded: this.#recorded,
      exported: this.#exported,
      failed: this.#failed,
      dropped: this.#dropped,
      pending: this.#pending,
    };
  }

  get #pending(): number {
    return this.#recorded - this.#exported - this.#failed - this.#dropped;
  }

  /** Whether one more span may be queued; counts it either way. */
  admit(): boolean {
    const full = this.#pending >= this.#queueLengthMax;
    this.#recorded += 1;
    if (full) this.#dropped += 1;
    return !full;
  }

  /** Wraps the exporter, so that every result is counted. */
  watch(exporter: SpanExporter): SpanExporter {
    return {
      export: (spans, done) =>
        exporter.export(spans, (result) => {
          this.#settle(spans.length, result);
          done(result);
        }),
      shutdown: () => exporter.shutdown(),
      forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    };
  }

  #settle(count: number, result: core.ExportResult): void {
    const failed = result.code !== core.ExportResultCode.SUCCESS;
    if (failed) this.#failed += count;
    else this.#exported += count;
    // Told once when it begins, not at every batch of a long outage.
    if (failed && !this.#failing) this.#onFailure?.(result.error?.message ?? 'export failed');
    this.#failing = failed;
  }
}
