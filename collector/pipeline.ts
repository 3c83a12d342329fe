import type { AuthEvent } from '../model/auth_event.ts';
import { authEventsTable } from '../model/event_columns.ts';
import type { TableSpec } from '../model/table_spec.ts';
import type { ParseResult, RejectCode } from '../model/define_source.ts';
import type { Clock } from '../runtime/clock.ts';
import type { KeyRing } from '../runtime/keyring.ts';
import type { Metrics } from '../runtime/metrics.ts';
import {
  ERRORS_MAX,
  type Ingest,
  type IngestBatch,
  type IngestResult,
  type RecordError,
  type SourcedRecord,
  type TableRows,
} from './ingest.ts';
import { processDraft } from './processors/process_draft.ts';
import type { Scrubber } from './processors/scrub.ts';
import type { Spool } from './spool/spool.ts';

export interface PipelineDeps {
  readonly spool: Spool;
  readonly keyRing: KeyRing;
  readonly scrubber: Scrubber;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly tenant: string;
  readonly clientIp: 'keep' | 'truncate' | 'hash';
}

type Processed =
  { ok: true; events: readonly AuthEvent[] } | { ok: false; code: RejectCode; message: string };

/**
 * The way of a request, in order:
 *
 *   1. parse      source adapter: vendor record -> drafts
 *   2. process    redact, normalise, enrich: draft -> AuthEvent
 *   3. spool      fsync, then acknowledge; a request that was stored before is acknowledged as it was then
 *
 * A record is accepted or rejected whole, so that a corrected resend cannot double a part of it.
 */
export class Pipeline implements Ingest {
  readonly #deps: PipelineDeps;
  readonly #metrics: ReturnType<typeof pipelineMetrics>;

  constructor(deps: PipelineDeps) {
    this.#deps = deps;
    this.#metrics = pipelineMetrics(deps.metrics);
  }

  async ingest(batch: IngestBatch): Promise<IngestResult> {
    const events: AuthEvent[] = [];
    const errors: RecordError[] = [];
    let rejected = 0;
    const receivedAt = this.#deps.clock.nowNs();
    batch.records.forEach((item, index) => {
      const processed = this.#process(item, receivedAt, `${batch.contentHash}:${index}`);
      this.#count(item, processed);
      if (processed.ok) {
        events.push(...processed.events);
        return;
      }
      rejected += 1;
      if (errors.length < ERRORS_MAX)
        errors.push({ index, code: processed.code, message: processed.message });
    });
    const tables: TableRows[] = [...batch.tables.filter((t) => t.rows.length > 0)];
    if (events.length > 0)
      tables.push({ spec: authEventsTable as TableSpec<unknown>, rows: events });
    const fate =
      tables.length > 0 ? await this.#deps.spool.append(tables, batch.contentHash) : 'stored';
    const { receiver } = batch;
    if (fate === 'stored') this.#metrics.events.inc({ receiver }, events.length);
    else {
      this.#metrics.repeatedRequests.inc({ receiver });
      this.#metrics.repeatedEvents.inc({ receiver }, events.length);
    }
    const accepted = batch.records.length - rejected;
    return { accepted, rejected, errors, repeated: fate === 'repeated' };
  }

  #process({ source, record }: SourcedRecord, receivedAt: bigint, contentSeed: string): Processed {
    const parsed: ParseResult = source.parse(record, { received_at: receivedAt });
    if (!parsed.ok) return parsed;
    const events: AuthEvent[] = [];
    for (const [subIndex, draft] of parsed.events.entries()) {
      const processed = processDraft(draft, {
        source,
        tenant: this.#deps.tenant,
        receivedAt,
        contentSeed,
        subIndex,
        keyRing: this.#deps.keyRing,
        scrubber: this.#deps.scrubber,
        clientIp: this.#deps.clientIp,
      });
      if (!processed.ok) return processed;
      for (const field of processed.cut) {
        // Names under ext come from the payload and would make labels without bound.
        this.#metrics.cut.inc({
          source: source.id,
          field: field.startsWith('ext.') ? 'ext' : field,
        });
      }
      events.push(processed.event);
    }
    return { ok: true, events };
  }

  #count({ source }: SourcedRecord, processed: Processed): void {
    this.#metrics.received.inc({ source: source.id });
    if (!processed.ok) {
      this.#metrics.rejected.inc({ source: source.id, code: processed.code });
      return;
    }
    for (const event of processed.events) {
      if (event.kind === 'unclassified') this.#metrics.unclassified.inc({ source: source.id });
      if (event.redaction.fields.length > 0)
        this.#metrics.redacted.inc({ source: source.id }, event.redaction.fields.length);
    }
  }
}

function pipelineMetrics(metrics: Metrics) {
  return {
    received: metrics.counter('grantscope_records_received_total', 'Records read from requests.', [
      'source',
    ]),
    rejected: metrics.counter('grantscope_records_rejected_total', 'Records refused, by reason.', [
      'source',
      'code',
    ]),
    events: metrics.counter(
      'grantscope_events_durable_total',
      'Auth events acknowledged after fsync.',
      ['receiver'],
    ),
    unclassified: metrics.counter(
      'grantscope_events_unclassified_total',
      'Events of a vendor type that no mapping knows.',
      ['source'],
    ),
    cut: metrics.counter(
      'grantscope_fields_cut_total',
      'Fields that reached a length or count limit and were cut.',
      ['source', 'field'],
    ),
    redacted: metrics.counter(
      'grantscope_fields_redacted_total',
      'Fields hashed, scrubbed or dropped.',
      ['source'],
    ),
    repeatedRequests: metrics.counter(
      'grantscope_requests_repeated_total',
      'Requests recognised as already stored.',
      ['receiver'],
    ),
    repeatedEvents: metrics.counter(
      'grantscope_events_repeated_total',
      'Auth events of such requests: acknowledged, and not stored again.',
      ['receiver'],
    ),
  };
}
