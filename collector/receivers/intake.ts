import type { Clock } from '../../runtime/clock.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import { TokenBucket } from '../token_bucket.ts';
import type { BodyBudget } from './read_body.ts';

/** Rates of one source; what is absent is not limited. */
export interface SourceRates {
  readonly records_per_second?: number | undefined;
  /** Bytes of bodies after decompression. */
  readonly bytes_per_second?: number | undefined;
  /** How many seconds' worth may come at once after a pause. */
  readonly burst_seconds: number;
}

export interface IntakeOptions {
  /** Requests worked on at a time, over all receivers. */
  readonly requestsMax: number;
  /** Bytes of bodies in memory at a time, over all requests: as sent, and decompressed. */
  readonly bodyBytesMax: number;
  /** By source id; OTLP as a whole is `otlp`. */
  readonly rates: Readonly<Record<string, SourceRates>>;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

type IntakeMetrics = ReturnType<typeof intakeMetrics>;
type CounterOf<M extends { labels: (...args: never[]) => unknown }> = ReturnType<M['labels']>;

interface ReceiverCounters {
  readonly sent: CounterOf<IntakeMetrics['bytes']>;
  readonly decoded: CounterOf<IntakeMetrics['bytes']>;
  readonly seconds: CounterOf<IntakeMetrics['seconds']>;
  readonly byStatus: Map<number, CounterOf<IntakeMetrics['requests']>>;
}

/** Names of the limits, as metric labels. */
type Limit =
  'requests_in_flight' | 'body_bytes_in_flight' | 'records_per_second' | 'bytes_per_second';

/** Longest `Retry-After` of a rate limit, seconds: a client should look again, however deep the debt. */
const RETRY_AFTER_MAX = 60;

/**
 * What both receivers go through before they work: how many requests and bytes at a time, how much a second for
 * each source; and the counters of requests. Refusals pass by themselves, so they are 503 (too much at a time)
 * and 429 (too much of one source) with `Retry-After`.
 */
export class Intake {
  readonly #options: IntakeOptions;
  readonly #metrics: IntakeMetrics;
  readonly #buckets = new Map<string, SourceBuckets>();
  readonly #counters = new Map<string, ReceiverCounters>();
  #requests = 0;
  #bytes = 0;

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#metrics = intakeMetrics(options.metrics);
    for (const [source, rates] of Object.entries(options.rates))
      this.#buckets.set(source, bucketsOf(rates, options.clock));
    options.metrics.readGauge(
      'grantscope_requests_in_flight',
      'Requests that are being worked on.',
      () => this.#requests,
    );
    options.metrics.readGauge(
      'grantscope_body_bytes_in_flight',
      'Bytes of request bodies in memory.',
      () => this.#bytes,
    );
  }

  /** One request at a receiver; `receiver` is a source id or `otlp`. End it with `answered`. */
  begin(receiver: string): Visit {
    this.#requests += 1;
    return new Visit(this, receiver, this.#countersOf(receiver).seconds.startTimer());
  }

  /** Throws `overloaded` (503) where there are too many requests, `rate_limited` (429) where a rate is used up. */
  admit(receiver: string): void {
    if (this.#requests > this.#options.requestsMax)
      throw this.#overloaded(receiver, 'requests_in_flight', 'too many requests at a time');
    this.checkRates(receiver, receiver);
  }

  /** Throws `rate_limited` where a source has used up what it may send. */
  checkRates(source: string, receiver: string): void {
    const buckets = this.#buckets.get(source);
    if (buckets === undefined) return;
    for (const limit of ['records_per_second', 'bytes_per_second'] as const) {
      const seconds = buckets[limit]?.waitSeconds ?? 0;
      if (seconds === 0) continue;
      this.#metrics.limited.inc({ receiver, limit });
      throw new GrantscopeError(
        'rate_limited',
        `source ${source}: more than sources.${source}.${limit} allows; try again later`,
        {
          retriable: true,
          stage: 'receiving',
          retryAfterSeconds: Math.min(RETRY_AFTER_MAX, Math.ceil(seconds)),
        },
      );
    }
  }

  /** Counts records against the rate of their source. */
  spendRecords(source: string, records: number): void {
    this.#buckets.get(source)?.records_per_second?.spend(records);
  }

  spendBytes(source: string, bytes: number): void {
    this.#buckets.get(source)?.bytes_per_second?.spend(bytes);
  }

  takeBytes(receiver: string, bytes: number): void {
    if (this.#bytes + bytes > this.#options.bodyBytesMax)
      throw this.#overloaded(receiver, 'body_bytes_in_flight', 'too many bytes at a time');
    this.#bytes += bytes;
  }

  giveBytesBack(bytes: number): void {
    this.#bytes -= bytes;
  }

  countBytes(receiver: string, form: 'sent' | 'decoded', bytes: number): void {
    this.#countersOf(receiver)[form].inc(bytes);
  }

  ended(receiver: string, status: number): void {
    this.#requests -= 1;
    const { byStatus } = this.#countersOf(receiver);
    let counter = byStatus.get(status);
    if (counter === undefined) {
      counter = this.#metrics.requests.labels({ receiver, status: String(status) });
      byStatus.set(status, counter);
    }
    counter.inc();
  }

  /** A look-up of labels costs as much as a small record, so each receiver's counters are held. */
  #countersOf(receiver: string): ReceiverCounters {
    let counters = this.#counters.get(receiver);
    if (counters === undefined) {
      const { bytes, seconds } = this.#metrics;
      counters = {
        sent: bytes.labels({ receiver, form: 'sent' }),
        decoded: bytes.labels({ receiver, form: 'decoded' }),
        seconds: seconds.labels({ receiver }),
        byStatus: new Map(),
      };
      this.#counters.set(receiver, counters);
    }
    return counters;
  }

  #overloaded(receiver: string, limit: Limit, reason: string): GrantscopeError {
    this.#metrics.limited.inc({ receiver, limit });
    return new GrantscopeError('overloaded', `${reason}; try again later`, {
      retriable: true,
      stage: 'receiving',
    });
  }
}

/** A request on its way through a receiver: holds what it takes of the intake's limits until it is answered. */
export class Visit implements BodyBudget {
  readonly #intake: Intake;
  readonly #receiver: string;
  readonly #stopTimer: () => void;
  #bytes = 0;

  constructor(intake: Intake, receiver: string, stopTimer: () => void) {
    this.#intake = intake;
    this.#receiver = receiver;
    this.#stopTimer = stopTimer;
  }

  /** Before anything is read of it. */
  admit(): void {
    this.#intake.admit(this.#receiver);
  }

  take(bytes: number): void {
    this.#intake.takeBytes(this.#receiver, bytes);
    this.#bytes += bytes;
  }

  giveBack(bytes: number): void {
    this.#intake.giveBytesBack(bytes);
    this.#bytes -= bytes;
  }

  /** The body is there: counts it, and against the rate of the receiver. */
  hasRead(sentBytes: number, decodedBytes: number): void {
    this.#intake.countBytes(this.#receiver, 'sent', sentBytes);
    this.#intake.countBytes(this.#receiver, 'decoded', decodedBytes);
    this.#intake.spendBytes(this.#receiver, decodedBytes);
  }

  answered(status: number): void {
    this.giveBack(this.#bytes);
    this.#intake.ended(this.#receiver, status);
    this.#stopTimer();
  }
}

type SourceBuckets = Partial<Record<'records_per_second' | 'bytes_per_second', TokenBucket>>;

function bucketsOf(rates: SourceRates, clock: Clock): SourceBuckets {
  const buckets: SourceBuckets = {};
  for (const limit of ['records_per_second', 'bytes_per_second'] as const) {
    const perSecond = rates[limit];
    if (perSecond === undefined) continue;
    const burst = Math.max(1, perSecond * rates.burst_seconds);
    buckets[limit] = new TokenBucket({ perSecond, burst }, clock);
  }
  return buckets;
}

function intakeMetrics(metrics: Metrics) {
  return {
    requests: metrics.counter(
      'grantscope_requests_total',
      'Requests to the collector, by receiver (a source, otlp, or unknown) and answer.',
      ['receiver', 'status'],
    ),
    limited: metrics.counter(
      'grantscope_requests_limited_total',
      'Requests refused because a limit was reached, by limit.',
      ['receiver', 'limit'],
    ),
    bytes: metrics.counter(
      'grantscope_request_body_bytes_total',
      'Bytes of request bodies, as sent and decoded (after decompression).',
      ['receiver', 'form'],
    ),
    seconds: metrics.histogram(
      'grantscope_request_seconds',
      'From the headers of a request to its answer, fsync included.',
      ['receiver'],
    ),
  };
}
