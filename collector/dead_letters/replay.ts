import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  REJECT_CODES,
  type RejectCode,
  type SourceDefinition,
  type SourceRecord,
} from '../../model/define_source.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Operation } from '../../runtime/operations.ts';
import type { Store } from '../../store/client.ts';
import { clickHouseTime, insertEvents } from '../../store/insert.ts';
import { findStoredEvents } from '../../store/stored_events.ts';
import { refusalOfTime } from '../processors/clock_skew.ts';
import type { NetworkLookup } from '../processors/network_facts.ts';
import { processDraft } from '../processors/process_draft.ts';
import type { Scrubber } from '../processors/scrubber.ts';
import { Markers } from './marker.ts';
import { restoreDraft } from './restore_draft.ts';
import { deadLettersTable } from './table.ts';

/** Letters read, inserted and marked at a time. */
const BATCH_LETTERS = 500;
/** Letters looked at in one run, unless the caller says otherwise; and at most. */
export const REPLAY_LIMIT_DEFAULT = 10_000;
export const REPLAY_LIMIT_MAX = 1_000_000;

export const ReplayInput = z.strictObject({
  source: z.string().optional(),
  reason: z.enum(REJECT_CODES).optional(),
  /** Received at or after; ISO 8601 with an offset. */
  since: z.iso.datetime({ offset: true }).optional(),
  limit: z.number().int().min(1).max(REPLAY_LIMIT_MAX).default(REPLAY_LIMIT_DEFAULT),
  dry_run: z.boolean().default(false),
});
export type ReplayInput = z.input<typeof ReplayInput>;

/** Letters, by what became of them. */
export interface ReplayCounts {
  examined: number;
  /** Accepted now; with `dry_run`: would be. */
  replayed: number;
  still_refused: number;
}

export interface ReplayReport extends ReplayCounts {
  readonly dry_run: boolean;
  /** Auth events stored (with `dry_run`: that would be). */
  events: number;
  /** Auth events of replayed letters that were there already, by their id. */
  events_already_stored: number;
  /** By the reason for which the letters were refused at first. */
  readonly by_reason: Record<string, ReplayCounts>;
  /** Why those that are still refused are refused now. */
  readonly refused_now: Record<string, number>;
  /** True where `limit` ended the run before the last letter. */
  more: boolean;
}

interface Letter {
  readonly letter_id: string;
  readonly source_id: string;
  readonly received_ns: string;
  readonly reason: RejectCode;
  readonly message: string;
  readonly form: 'json' | 'text';
  readonly record: string;
  readonly content_seed: string;
  readonly key_id: string;
  readonly redactions: number;
}

type Outcome =
  | { readonly letter: Letter; readonly events: readonly AuthEvent[] }
  | { readonly letter: Letter; readonly refused: RejectCode | 'unknown_source' };

interface ReplayDeps {
  readonly runtime: Runtime;
  readonly store: Store;
  readonly sources: ReadonlyMap<string, SourceDefinition>;
  readonly scrubber: Scrubber;
  readonly networks?: NetworkLookup | undefined;
}

/**
 * The operation behind `grantscope replay-dead-letters`: reads stored letters by the adapters of today, stores
 * what is accepted now and marks it. An event has the same id in every run, what is in the store already is not
 * stored again, and a run that was cut off is finished by the next. Runs in a process follow one another;
 * processes that share one ClickHouse server should replay from one of them.
 */
export function replayOperation(deps: ReplayDeps): Operation {
  const replayed = deps.runtime.metrics.counter(
    'grantscope_dead_letters_replayed_total',
    'Dead letters that a replay looked at, by what became of them.',
    ['source', 'result'],
  );
  let last: Promise<unknown> = Promise.resolve();
  return (input, progress) => {
    const run = last.then(async () => {
      const replay = new Replay(deps, checked(input));
      const report = await replay.run(progress);
      for (const { source, result, count } of replay.tally) replayed.inc({ source, result }, count);
      return report;
    });
    last = run.catch(() => undefined);
    return run;
  };
}

function checked(input: unknown): z.output<typeof ReplayInput> {
  const parsed = ReplayInput.safeParse(input ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`);
  throw new GrantscopeError('invalid_argument', `replay: ${problems.join('; ')}`);
}

class Replay {
  readonly #deps: ReplayDeps;
  readonly #input: z.output<typeof ReplayInput>;
  readonly #markers: Markers;
  readonly #report: ReplayReport;
  readonly #results = new Map<string, number>();

  constructor(deps: ReplayDeps, input: z.output<typeof ReplayInput>) {
    this.#deps = deps;
    this.#input = input;
    this.#markers = new Markers(deps.runtime.keyRing);
    const none = { examined: 0, replayed: 0, still_refused: 0 };
    const events = { events: 0, events_already_stored: 0 };
    const lists = { by_reason: {}, refused_now: {}, more: false };
    this.#report = { dry_run: input.dry_run, ...none, ...events, ...lists };
  }

  get tally(): { source: string; result: string; count: number }[] {
    return [...this.#results].map(([key, count]) => {
      const [source = '', result = ''] = key.split('\n');
      return { source, result, count };
    });
  }

  async run(progress: (done: number, total: number) => void): Promise<ReplayReport> {
    const total = Math.min(await this.#countLetters(), this.#input.limit);
    let after: Letter | undefined;
    for (;;) {
      const left = this.#input.limit - this.#report.examined;
      const letters = await this.#read(Math.min(BATCH_LETTERS, left) + 1, after);
      const batch = letters.slice(0, Math.min(BATCH_LETTERS, left));
      if (batch.length > 0) await this.#replay(batch);
      progress(this.#report.examined, Math.max(total, this.#report.examined));
      after = batch.at(-1);
      if (letters.length <= batch.length) return this.#report;
      if (this.#report.examined >= this.#input.limit) return { ...this.#report, more: true };
    }
  }

  async #replay(batch: readonly Letter[]): Promise<void> {
    const outcomes = batch.map((letter) => this.#readAgain(letter));
    const accepted = outcomes.filter((o) => 'events' in o);
    const events = accepted.flatMap((o) => o.events);
    const stored = await this.#stored(events);
    const isNew = (event: AuthEvent): boolean => {
      const key = identityOf(event);
      // Two letters may hold the same vendor event.
      if (stored.has(key)) return false;
      stored.add(key);
      return true;
    };
    const fresh = events.filter(isNew);
    if (!this.#input.dry_run) await this.#store(accepted, fresh);
    this.#report.events += fresh.length;
    this.#report.events_already_stored += events.length - fresh.length;
    for (const outcome of outcomes) this.#count(outcome);
  }

  #readAgain(letter: Letter): Outcome {
    const source = this.#deps.sources.get(letter.source_id);
    if (source === undefined) return { letter, refused: 'unknown_source' };
    const { runtime, scrubber, networks } = this.#deps;
    const receivedAt = BigInt(letter.received_ns);
    const record: SourceRecord =
      letter.form === 'text'
        ? { form: 'text', line: letter.record }
        : { form: 'json', value: JSON.parse(letter.record) as unknown };
    const parsed = source.parse(record, { received_at: receivedAt });
    if (!parsed.ok) return { letter, refused: parsed.code };
    const events: AuthEvent[] = [];
    for (const [subIndex, draft] of parsed.events.entries()) {
      const processed = processDraft(restoreDraft(draft, this.#markers, letter.key_id), {
        source,
        tenant: runtime.config.tenant,
        receivedAt,
        contentSeed: letter.content_seed,
        subIndex,
        keyRing: runtime.keyRing,
        scrubber,
        clientIp: runtime.config.redaction.client_ip,
        networks,
      });
      if (!processed.ok) return { letter, refused: processed.code };
      const refusal = refusalOfTime(processed.event.time, runtime.clock.nowNs());
      if (refusal !== undefined) return { letter, refused: refusal.code };
      events.push(processed.event);
    }
    return { letter, events };
  }

  /** Events first, marks second: a run that ends between the two finds the events by their ids the next time. */
  async #store(
    accepted: readonly { readonly letter: Letter; readonly events: readonly AuthEvent[] }[],
    events: readonly AuthEvent[],
  ): Promise<void> {
    if (accepted.length === 0) return;
    const { runtime, store } = this.#deps;
    const hash = createHash('sha256').update(accepted.map((o) => o.letter.letter_id).join());
    if (events.length > 0) {
      const ids = hash.copy().update(events.map((e) => e.event_id).join());
      await insertEvents(store, events, `replay:${ids.digest('hex')}`);
    }
    const replayedAt = clickHouseTime(runtime.clock.nowNs());
    await store.insertRows(
      deadLettersTable.table,
      accepted.map(({ letter, events: made }) => ({
        ...storedColumns(letter),
        tenant: runtime.config.tenant,
        version: 1,
        replayed_at: replayedAt,
        replayed_events: made.length,
      })),
      `replayed:${hash.digest('hex')}`,
    );
    if (events.length > 0)
      runtime.hints.emit('inserted', { table: authEventsTable.table, rows: events.length });
  }

  #count(outcome: Outcome): void {
    const { letter } = outcome;
    const report = this.#report;
    const byReason = (report.by_reason[letter.reason] ??= {
      examined: 0,
      replayed: 0,
      still_refused: 0,
    });
    const fate = 'events' in outcome ? 'replayed' : 'still_refused';
    for (const counts of [report, byReason]) {
      counts.examined += 1;
      counts[fate] += 1;
    }
    if ('refused' in outcome)
      report.refused_now[outcome.refused] = (report.refused_now[outcome.refused] ?? 0) + 1;
    if (this.#input.dry_run) return;
    const key = `${letter.source_id}\n${fate}`;
    this.#results.set(key, (this.#results.get(key) ?? 0) + 1);
  }

  /** Waiting letters that the input asks for. */
  #where(): Sql {
    const { source, reason, since } = this.#input;
    const conditions = [
      sql`tenant = ${param.string(this.#deps.runtime.config.tenant)}`,
      sql`version = 0`,
      ...(source === undefined ? [] : [sql`source_id = ${param.string(source)}`]),
      ...(reason === undefined ? [] : [sql`reason = ${param.string(reason)}`]),
      ...(since === undefined ? [] : [sql`received_at >= ${param.timeMs(Date.parse(since))}`]),
    ];
    return joinSql(conditions, ' AND ');
  }

  async #countLetters(): Promise<number> {
    const [row] = await this.#deps.store.query<{ letters: string | number }>(
      sql`SELECT count() AS letters FROM grantscope.dead_letters FINAL WHERE ${this.#where()}`,
    );
    return Number(row?.letters ?? 0);
  }

  /** The next letters by time of receipt. Those that stay refused are passed by the cursor, not by a mark. */
  #read(limit: number, after: Letter | undefined): Promise<Letter[]> {
    const cursor =
      after === undefined
        ? sql``
        : sql` AND (toUnixTimestamp64Nano(received_at), letter_id) > (${param.int64(BigInt(after.received_ns))}, ${param.uuid(after.letter_id)})`;
    return this.#deps.store.query<Letter>(
      sql`SELECT letter_id, source_id, toString(toUnixTimestamp64Nano(received_at)) AS received_ns, reason, message, form, record, content_seed, key_id, redactions FROM grantscope.dead_letters FINAL WHERE ${this.#where()}${cursor} ORDER BY received_at, letter_id LIMIT ${param.uint(limit)}`,
    );
  }

  /** Which of the events are in the store, by what makes two events the same. */
  async #stored(events: readonly AuthEvent[]): Promise<Set<string>> {
    const [first] = events;
    if (first === undefined) return new Set();
    let [from, to] = [first.time, first.time];
    for (const { time } of events) {
      if (time < from) from = time;
      if (time > to) to = time;
    }
    const ids = events.map((e) => e.event_id);
    const { runtime, store } = this.#deps;
    const found = await findStoredEvents(store, runtime.config.tenant, ids, from, to);
    return new Set(
      found.map((e) =>
        [e.event_id, e.time, e.kind, e.phase, e.outcome, e.source_instance].join('\0'),
      ),
    );
  }
}

/** As `EventIdentity` of the spool: some vendors use one id for two events. */
function identityOf(e: AuthEvent): string {
  return [e.event_id, e.time, e.kind, e.phase, e.outcome, e.source.instance].join('\0');
}

/** The columns that the mark keeps: a row of a higher version replaces the whole row. */
function storedColumns({ received_ns, ...columns }: Letter): Record<string, unknown> {
  return { ...columns, received_at: clickHouseTime(BigInt(received_ns)) };
}
