import type { RejectCode } from '../../model/define_source.ts';
import type { ColumnSpec, ColumnType, TableSpec } from '../../model/table_spec.ts';

/** A refused record as `grantscope.dead_letters` holds it (store/migrations/0011). Redacted. */
export interface DeadLetterRow {
  /** UUID text: made of tenant, source and content seed, so that a resend is the same letter. */
  readonly letterId: string;
  readonly tenant: string;
  readonly sourceId: string;
  /** The collector's clock, ns. */
  readonly receivedAt: bigint;
  readonly reason: RejectCode;
  /** As the sender was told: never a payload. */
  readonly message: string;
  readonly form: 'json' | 'text';
  /** The redacted record: JSON text, or the line. */
  readonly record: string;
  /** `<content hash of the request>:<position of the record>`, see `ProcessContext.contentSeed`. */
  readonly contentSeed: string;
  readonly keyId: string;
  readonly redactions: number;
}

const column = (
  name: string,
  type: ColumnType,
  get: (row: DeadLetterRow) => unknown,
): ColumnSpec<DeadLetterRow> => ({ name, type, get });

const LOW = 'LowCardinality(String)';

/** What the spool writes for a letter; `version` 0 means that it waits, see `replay.ts` for the mark. */
export const deadLettersTable: TableSpec<DeadLetterRow> = {
  table: 'grantscope.dead_letters',
  columns: [
    column('letter_id', 'UUID', (r) => r.letterId),
    column('tenant', LOW, (r) => r.tenant),
    column('source_id', LOW, (r) => r.sourceId),
    column('received_at', "DateTime64(9, 'UTC')", (r) => r.receivedAt),
    column('reason', LOW, (r) => r.reason),
    column('message', 'String', (r) => r.message),
    column('form', LOW, (r) => r.form),
    column('record', 'String', (r) => r.record),
    column('content_seed', 'String', (r) => r.contentSeed),
    column('key_id', LOW, (r) => r.keyId),
    column('redactions', 'UInt32', (r) => r.redactions),
  ],
};
