import { createHash } from 'node:crypto';
import type { RejectCode, SourceDefinition, SourceRecord } from '../../model/define_source.ts';
import { uuidFromHex } from '../../model/ids.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { KeyRing } from '../../runtime/keyring.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import type { Scrubber } from '../processors/scrubber.ts';
import { TokenBucket } from '../token_bucket.ts';
import { Markers } from './marker.ts';
import { LETTER_CHARS_MAX, redactRecord, sizeOfRecord } from './redact_record.ts';
import type { DeadLetterRow } from './table.ts';

export interface DeadLettersDeps {
  readonly keyRing: KeyRing;
  readonly scrubber: Scrubber;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly tenant: string;
  readonly clientIp: 'keep' | 'truncate' | 'hash';
  /** Letters kept a minute, over all sources. */
  readonly perMinuteMax: number;
}

/** A readable record that its adapter refused. */
export interface RefusedRecord {
  readonly source: SourceDefinition;
  readonly record: SourceRecord;
  readonly code: RejectCode;
  /** As the sender is told. */
  readonly message: string;
  /** The collector's clock, ns. */
  readonly receivedAt: bigint;
  /** See `ProcessContext.contentSeed`. */
  readonly contentSeed: string;
}

/** Text of all letters kept a minute, UTF-16 units: bounds what redacting hostile records costs. */
export const LETTER_CHARS_PER_MINUTE_MAX = 16 * 1024 * 1024;

/** Why a refused record is not kept; the sender has been told of it all the same. */
type Limit = 'record_chars' | 'letters_per_minute' | 'chars_per_minute' | 'redaction_failed';

/**
 * Makes dead letters of refused records, so that they can be read again by a corrected adapter
 * (`grantscope replay-dead-letters`). A record beyond a limit is not kept, and counted. Never throws.
 */
export class DeadLetters {
  readonly #deps: DeadLettersDeps;
  readonly #markers: Markers;
  readonly #letters: TokenBucket;
  readonly #chars: TokenBucket;
  readonly #notKept: ReturnType<typeof notKeptCounter>;

  constructor(deps: DeadLettersDeps) {
    this.#deps = deps;
    this.#markers = new Markers(deps.keyRing);
    const bucket = (perMinute: number): TokenBucket =>
      new TokenBucket({ perSecond: perMinute / 60, burst: perMinute }, deps.clock);
    this.#letters = bucket(deps.perMinuteMax);
    this.#chars = bucket(LETTER_CHARS_PER_MINUTE_MAX);
    this.#notKept = notKeptCounter(deps.metrics);
  }

  /** The row to store beside the request's events; undefined where a limit says no. */
  letterOf(refused: RefusedRecord): DeadLetterRow | undefined {
    const limit = this.#limitFor(refused.record);
    if (limit === undefined) {
      try {
        return this.#row(refused);
      } catch {
        // Fail closed: what cannot be redacted is not kept, and the other records of the request go on.
        this.#notKept.inc({ source: refused.source.id, limit: 'redaction_failed' });
        return undefined;
      }
    }
    this.#notKept.inc({ source: refused.source.id, limit });
    return undefined;
  }

  #limitFor(record: SourceRecord): Limit | undefined {
    const size = sizeOfRecord(record);
    if (size > LETTER_CHARS_MAX) return 'record_chars';
    if (!this.#letters.take(1)) return 'letters_per_minute';
    return this.#chars.take(size) ? undefined : 'chars_per_minute';
  }

  #row(refused: RefusedRecord): DeadLetterRow {
    const { scrubber, tenant, clientIp } = this.#deps;
    const { source, record, contentSeed } = refused;
    const { text, redactions } = redactRecord(record, {
      scrubber,
      markers: this.#markers,
      clientIp,
    });
    return {
      letterId: letterId(tenant, source.id, contentSeed),
      tenant,
      sourceId: source.id,
      receivedAt: refused.receivedAt,
      reason: refused.code,
      message: refused.message,
      form: record.form,
      record: text,
      contentSeed,
      keyId: this.#markers.keyId,
      redactions,
    };
  }
}

function letterId(tenant: string, sourceId: string, contentSeed: string): string {
  const hash = createHash('sha256').update([tenant, sourceId, contentSeed].join('\0'));
  return uuidFromHex(hash.digest('hex'));
}

function notKeptCounter(metrics: Metrics) {
  return metrics.counter(
    'grantscope_dead_letters_not_kept_total',
    'Refused records that were not kept: too large, too many, or not redactable.',
    ['source', 'limit'],
  );
}
