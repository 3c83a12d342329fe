import type { SourceDefinition, SourceRecord, RejectCode } from '../model/define_source.ts';
import type { TableSpec } from '../model/table_spec.ts';

/** Rows that are already redacted and go to a table as they are. An iterable may make them as they are taken. */
export interface TableRows<Row = unknown> {
  readonly spec: TableSpec<Row>;
  readonly rows: Iterable<Row>;
}

/** One record to be parsed by one source, or why a piece of the body is no record. */
export type SourcedRecord =
  | { readonly source: SourceDefinition; readonly record: SourceRecord }
  | { readonly source: SourceDefinition; readonly unreadable: Refusal };

export interface Refusal {
  readonly code: RejectCode;
  /** Names the field, the reason and what is allowed; never repeats the payload. */
  readonly message: string;
}

/** One request's worth of work. */
export interface IngestBatch {
  /** Metric label and event id seed; for vendor pushes the source id, for OTLP `otlp`. */
  readonly receiver: string;
  /** Read once, in order, while the rows are written. */
  readonly records: Iterable<SourcedRecord>;
  readonly tables: readonly TableRows[];
  /** SHA-256 (hex) of the request's decoded body: a repeated request is recognised by it. */
  readonly contentHash: string;
}

export interface RecordError extends Refusal {
  /** Position in `records`. */
  readonly index: number;
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
