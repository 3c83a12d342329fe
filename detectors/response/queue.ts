import type { Counter, Gauge } from 'prom-client';
import type { Clock } from '../../runtime/clock.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Log } from '../../runtime/log.ts';
import {
  readDeliveryCursor,
  readPending,
  writeDelivery,
  writeDeliveryCursor,
  type DeliveryStatus,
} from '../../store/queries/deliveries.ts';
import type { Scope } from '../../store/queries/scope.ts';
import {
  FADE_INTERVAL_MS,
  type Message,
  type Outcome,
  type PendingStep,
  type Sink,
} from './sink.ts';

/** First and longest pause after a receiver could not take a message, ms; twice as long each time in between. */
export const RETRY_MS = { first: 1_000, longest: 300_000 } as const;
/** A message that no attempt delivered for so long is given up, so that one does not keep all others back for ever, ms. */
export const DELIVERY_AGE_MS_MAX = 72 * 3_600_000;
/** A step that another process wrote shows up at most this long after the time that it bears, ms. */
export const CURSOR_LAG_MS = 600_000;

export interface QueueMetrics {
  readonly deliveries: Counter<'kind' | 'status'>;
  readonly retryingSince: Gauge<'sink'>;
}

export interface QueueOptions {
  readonly scope: Scope;
  readonly sink: Sink;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: QueueMetrics;
}

/**
 * Tells one receiver what happened to findings, one message at a time and in order. What is to be told is read from the
 * history of findings, and what was told is written down, so that nothing is queued in memory: a receiver that was away for a
 * day gets the day, a restart goes on behind the last recorded delivery. Between a delivery and its record a crash can only
 * repeat a message under the same id.
 */
export class DeliveryQueue {
  readonly #options: QueueOptions;
  #cursorMs: number | undefined;
  #pauseMs = 0;
  #notBeforeMs = 0;
  #nextFadeMs = 0;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /**
   * Tells what is pending until nothing is left or the receiver cannot take more now. Throws what the store throws. A receiver
   * that is new hears of what happens from then on, not of the past.
   */
  async round(): Promise<void> {
    const { scope, sink, clock } = this.#options;
    if (clock.nowMs() < this.#notBeforeMs) return;
    if (this.#cursorMs === undefined) {
      this.#cursorMs = await readDeliveryCursor(scope, sink.id);
      if (this.#cursorMs === undefined) await this.#moveCursor(clock.nowMs());
    }
    for (;;) {
      const lookedAtMs = clock.nowMs();
      const filter = { ...sink, sink: sink.id };
      const pending = await readPending(scope, filter, this.#cursorMs ?? lookedAtMs);
      for (const one of pending) if (!(await this.#tell(one))) return;
      if (pending.length > 0) continue;
      const handledTo = lookedAtMs - CURSOR_LAG_MS;
      // Seldom: what lies between is recognised by its record.
      if (handledTo >= (this.#cursorMs ?? 0) + CURSOR_LAG_MS) await this.#moveCursor(handledTo);
      await this.#tellFaded();
      return;
    }
  }

  async #moveCursor(ms: number): Promise<void> {
    await writeDeliveryCursor(this.#options.scope, this.#options.sink.id, ms);
    this.#cursorMs = ms;
  }

  /** False where the receiver cannot take anything now. */
  async #tell(pending: PendingStep & { readonly attempts: number }): Promise<boolean> {
    const { sink, clock } = this.#options;
    const { finding, step, attempts } = pending;
    const about = { findingId: finding.finding_id, changeNo: step.change_no, attempts };
    const message = await sink.prepare(pending);
    if (message === undefined) {
      await this.#record(about, undefined, 'skipped', '');
      return true;
    }
    const outcome = await this.#attempt(message);
    const ageMs = clock.nowMs() - Date.parse(step.changed_at);
    if (outcome.status !== 'retrying') {
      const error = outcome.status === 'refused' ? outcome.error : '';
      await this.#record(about, message, outcome.status, error);
      this.#succeeded();
      return true;
    }
    if (ageMs >= DELIVERY_AGE_MS_MAX) {
      await this.#record(about, message, 'refused', `gave_up_${outcome.error}`);
      return true;
    }
    await this.#record(about, message, 'retrying', outcome.error);
    this.#backOff(outcome.retryAfterMs, outcome.error);
    return false;
  }

  /** What a receiver cannot take now is worked out again in the next round. */
  async #tellFaded(): Promise<void> {
    const { sink, clock } = this.#options;
    const nowMs = clock.nowMs();
    if (sink.faded === undefined || nowMs < this.#nextFadeMs) return;
    for (const message of await sink.faded()) {
      const outcome = await this.#attempt(message);
      if (outcome.status === 'retrying') {
        this.#backOff(outcome.retryAfterMs, outcome.error);
        return;
      }
      const about = {
        findingId: message.subjectRef,
        changeNo: Math.floor(nowMs / FADE_INTERVAL_MS),
      };
      const error = outcome.status === 'refused' ? outcome.error : '';
      await this.#record({ ...about, attempts: 0 }, message, outcome.status, error);
      this.#succeeded();
    }
    this.#nextFadeMs = nowMs + FADE_INTERVAL_MS;
  }

  async #attempt(message: Message): Promise<Outcome> {
    try {
      return await this.#options.sink.send(message);
    } catch (error) {
      if (error instanceof GrantscopeError && error.code === 'upstream_failed')
        return { status: 'retrying', error: error.message };
      throw error;
    }
  }

  #succeeded(): void {
    this.#pauseMs = 0;
    this.#options.metrics.retryingSince.set({ sink: this.#options.sink.id }, 0);
  }

  #backOff(askedMs: number | undefined, error: string): void {
    const { clock, log, sink, metrics } = this.#options;
    const isFirst = this.#pauseMs === 0;
    const next = isFirst ? RETRY_MS.first : this.#pauseMs * 2;
    this.#pauseMs = Math.min(next, RETRY_MS.longest);
    const waitMs = Math.min(Math.max(this.#pauseMs, askedMs ?? 0), RETRY_MS.longest);
    this.#notBeforeMs = clock.nowMs() + waitMs;
    if (isFirst) metrics.retryingSince.set({ sink: sink.id }, clock.nowMs() / 1_000);
    log.warn({ sink: sink.id, reason: error, retry_in_ms: waitMs }, 'a finding was not told');
  }

  async #record(
    about: { readonly findingId: string; readonly changeNo: number; readonly attempts: number },
    message: Message | undefined,
    status: DeliveryStatus,
    error: string,
  ): Promise<void> {
    const { scope, sink, clock, metrics, log } = this.#options;
    await writeDelivery(scope, {
      sink: sink.id,
      finding_id: about.findingId,
      change_no: about.changeNo,
      status,
      delivery_id: message?.id ?? '00000000-0000-0000-0000-000000000000',
      subject_ref: message?.subjectRef ?? '',
      level: message?.level ?? '',
      attempts: about.attempts + (message === undefined ? 0 : 1),
      error,
      attempted_at: new Date(clock.nowMs()).toISOString(),
    });
    metrics.deliveries.inc({ kind: sink.kind, status });
    if (status === 'refused')
      log.error(
        { sink: sink.id, finding_id: about.findingId, reason: error },
        'a receiver refused a finding; it is not told again',
      );
  }
}
