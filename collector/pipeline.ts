import type { AuthEvent } from '../model/auth_event.ts';
import { authEventsTable } from '../model/event_columns.ts';
import type { TableSpec } from '../model/table_spec.ts';
import type { RejectCode, SourceDefinition, SourceRecord } from '../model/define_source.ts';
import type { Clock } from '../runtime/clock.ts';
import type { KeyRing } from '../runtime/keyring.ts';
import type { Metrics } from '../runtime/metrics.ts';
import {
  ERRORS_MAX,
  type Ingest,
  type IngestBatch,
  type IngestResult,
  type RecordError,
  type Refusal,
  type TableRows,
} from './ingest.ts';
import type { DeadLetters } from './dead_letters/dead_letters.ts';
import { deadLettersTable, type DeadLetterRow } from './dead_letters/table.ts';
import { Ledger, type SourceTally as RecordTally } from './ledger.ts';
import { refusalOfTime } from './processors/clock_skew.ts';
import type { NetworkLookup } from './processors/network_facts.ts';
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
  /** Databases of networks; absent where none is configured. */
  readonly networks?: NetworkLookup | undefined;
  readonly deadLetters: DeadLetters;
  /** `retention.events_days`: older events are accepted, and counted, since the store will not keep them. */
  readonly retentionDays?: number;
}

const DAY_NS = 86_400_000_000_000n;

/**
 * The way of a request, in order:
 *
 *   1. parse      source adapter: vendor record -> drafts
 *   2. process    redact, normalise, enrich: draft -> AuthEvent
 *   3. spool      fsync, then acknowledge; a request that was stored before is acknowledged as it was then
 *
 * What the adapter refuses is kept beside the events, as a dead letter.
 *
 * A record is accepted or rejected whole, so that a corrected resend cannot double a part of it. Records go
 * through one after the other while the spool takes their events, so that a large request is never in memory
 * as objects.
 */
export class Pipeline implements Ingest {
  readonly #deps: PipelineDeps;
  readonly #metrics: PipelineMetrics;
  readonly #ledger: Ledger;

  constructor(deps: PipelineDeps) {
    this.#deps = deps;
    this.#ledger = new Ledger(deps.metrics);
    this.#metrics = pipelineMetrics(deps.metrics);
  }

  async ingest(batch: IngestBatch): Promise<IngestResult> {
    const reading = new Reading(batch, this.#deps);
    const events: TableRows = {
      spec: authEventsTable as TableSpec<unknown>,
      rows: reading.events(),
    };
    const letters: TableRows = {
      spec: deadLettersTable as TableSpec<unknown>,
      rows: reading.letters,
    };
    const tables = [events, letters, ...batch.tables];
    const fate = await this.#deps.spool.append(tables, batch.contentHash);
    // A repeated request is answered as it was then, for which its records are read once more.
    reading.isRepeat = fate === 'repeated';
    if (reading.isRepeat) exhaust(reading.events());
    reading.report(this.#metrics, this.#ledger, fate);
    const { accepted, rejected, errors } = reading;
    return { accepted, rejected, errors, repeated: fate === 'repeated' };
  }
}

/** What a request's records of one source came to. */
interface SourceTally extends RecordTally {
  unclassified: number;
  pastRetention: number;
  redactedFields: number;
  readonly rejected: Map<RejectCode, number>;
  readonly letters: Map<RejectCode, number>;
  readonly cut: Map<string, number>;
}

/** One request on its way: turns its records into events and keeps count of what happens to them. */
class Reading {
  readonly errors: RecordError[] = [];
  /** Filled while the events are read, and read behind them. */
  readonly letters: DeadLetterRow[] = [];
  accepted = 0;
  rejected = 0;
  /** True for a request whose letters were kept the first time. */
  isRepeat = false;
  readonly #batch: IngestBatch;
  readonly #deps: PipelineDeps;
  readonly #receivedAt: bigint;
  /** Events before this time are past the retention, ns. */
  readonly #oldestKept: bigint;
  readonly #tallies = new Map<SourceDefinition, SourceTally>();
  #events = 0;

  constructor(batch: IngestBatch, deps: PipelineDeps) {
    this.#batch = batch;
    this.#deps = deps;
    this.#receivedAt = deps.clock.nowNs();
    const { retentionDays } = deps;
    this.#oldestKept =
      retentionDays === undefined ? 0n : this.#receivedAt - BigInt(retentionDays) * DAY_NS;
  }

  *events(): Generator<AuthEvent> {
    let index = 0;
    for (const item of this.#batch.records) {
      const tally = this.#tallyOf(item.source);
      tally.received += 1;
      const processed = 'unreadable' in item ? item.unreadable : this.#process(item, index, tally);
      if (Array.isArray(processed)) {
        this.accepted += 1;
        this.#events += processed.length;
        if (processed.length === 0) tally.silent += 1;
        yield* processed;
      } else {
        this.#refuse(index, processed, tally);
        if ('record' in item && !this.isRepeat) this.#keep({ ...item, ...processed }, index, tally);
      }
      index += 1;
    }
  }

  /** The events of a record, or why it is refused as a whole. */
  #process(
    { source, record }: { source: SourceDefinition; record: SourceRecord },
    index: number,
    tally: SourceTally,
  ): AuthEvent[] | Refusal {
    const receivedAt = this.#receivedAt;
    const parsed = source.parse(record, { received_at: receivedAt });
    if (!parsed.ok) return parsed;
    const { tenant, keyRing, scrubber, clientIp, networks } = this.#deps;
    const contentSeed = `${this.#batch.contentHash}:${index}`;
    const events: AuthEvent[] = [];
    for (const draft of parsed.events) {
      const processed = processDraft(draft, {
        source,
        tenant,
        receivedAt,
        contentSeed,
        subIndex: events.length,
        keyRing,
        scrubber,
        clientIp,
        networks,
      });
      if (!processed.ok) return processed;
      const refusal = refusalOfTime(processed.event.time, receivedAt);
      if (refusal !== undefined) return refusal;
      if (processed.event.time < this.#oldestKept) tally.pastRetention += 1;
      for (const field of processed.cut) {
        // Names under ext come from the payload and would make labels without bound.
        count(tally.cut, field.startsWith('ext.') ? 'ext' : field);
      }
      if (processed.event.kind === 'unclassified') tally.unclassified += 1;
      tally.redactedFields += processed.event.redaction.fields.length;
      events.push(processed.event);
    }
    return events;
  }

  #refuse(index: number, { code, message }: Refusal, tally: SourceTally): void {
    this.rejected += 1;
    count(tally.rejected, code);
    if (this.errors.length < ERRORS_MAX) this.errors.push({ index, code, message });
  }

  #keep(
    refused: { source: SourceDefinition; record: SourceRecord } & Refusal,
    index: number,
    tally: SourceTally,
  ): void {
    const contentSeed = `${this.#batch.contentHash}:${index}`;
    const { source, record, code, message } = refused;
    const facts = { source, record, code, message, receivedAt: this.#receivedAt, contentSeed };
    const letter = this.#deps.deadLetters.letterOf(facts);
    if (letter === undefined) return;
    this.letters.push(letter);
    count(tally.letters, code);
  }

  #tallyOf(source: SourceDefinition): SourceTally {
    let tally = this.#tallies.get(source);
    if (tally === undefined) {
      const counts = { received: 0, silent: 0, unclassified: 0 };
      const more = { pastRetention: 0, redactedFields: 0 };
      tally = { ...counts, ...more, rejected: new Map(), letters: new Map(), cut: new Map() };
      this.#tallies.set(source, tally);
    }
    return tally;
  }

  /** Counters are moved once a request: a label lookup per record would cost more than the record. */
  report(metrics: PipelineMetrics, ledger: Ledger, fate: 'stored' | 'repeated'): void {
    const { receiver } = this.#batch;
    for (const [{ id: source }, tally] of this.#tallies) {
      metrics.received.inc({ source }, tally.received);
      ledger.settle(source, tally, fate);
      metrics.unclassified.inc({ source }, tally.unclassified);
      if (fate === 'stored') metrics.pastRetention.inc({ source }, tally.pastRetention);
      metrics.redacted.inc({ source }, tally.redactedFields);
      for (const [code, n] of tally.rejected) metrics.rejected.inc({ source, code }, n);
      for (const [field, n] of tally.cut) metrics.cut.inc({ source, field }, n);
    }
    if (fate === 'stored') metrics.events.inc({ receiver }, this.#events);
    else {
      metrics.repeatedRequests.inc({ receiver });
      metrics.repeatedEvents.inc({ receiver }, this.#events);
    }
  }
}

/** Takes all items for what taking them does. */
function exhaust(items: Generator): void {
  while (items.next().done !== true);
}

function count<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

type PipelineMetrics = ReturnType<typeof pipelineMetrics>;

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
    pastRetention: metrics.counter(
      'grantscope_events_past_retention_total',
      'Auth events older than retention.events_days: accepted and counted in rollups, then dropped by the store.',
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
