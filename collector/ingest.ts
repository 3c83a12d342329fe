import type { SourceDefinition, SourceRecord, RejectCode } from '../model/define_source.ts';
import type { TableSpec } from '../model/table_spec.ts';

/** Rows that are already redacted and go to a table as they are (OTLP spans and logs). */
export interface TableRows<Row = unknown> {
  readonly spec: TableSpec<Row>;
  readonly rows: readonly Row[];
}

/** One record to be parsed by one source. */
export interface SourcedRecord {
  readonly source: SourceDefinition;
  readonly record: SourceRecord;
}

/** One request's worth of work. */
export interface IngestBatch {
  /** Metric label and event id seed; for vendor pushes the source id, for OTLP `otlp`. */
  readonly receiver: string;
  readonly records: readonly SourcedRecord[];
  readonly tables: readonly TableRows[];
  /** SHA-256 (hex) of the request's decoded body: a repeated request is recognised by it. */
  readonly contentHash: string;
}

export interface RecordError {
  /** Position in `records`. */
  readonly index: number;
  readonly code: RejectCode;
  readonly message: string;
}

export interface IngestResult {
  /** Records accepted (and durable). */
  readonly accepted: number;
  readonly rejected: number;
  /** At most `ERRORS_MAX`; `rejected` counts all. */
  readonly errors: readonly RecordError[];
  /** True where this very request had been stored before: nothing was stored again. */
  readonly repeated: boolean;
}

/** Errors listed in one answer. */
export const ERRORS_MAX = 100;

/**
 * What receivers call: parse, redact, make durable. Resolves once everything accepted is fsynced. Throws
 * `spool_full` (retriable: answer 503 with Retry-After) and `shutting_down` (503).
 */
export interface Ingest {
  ingest(batch: IngestBatch): Promise<IngestResult>;
}
