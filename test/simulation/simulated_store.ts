import type { StoredEvents } from '../../collector/spool/event_repeats.ts';
import type { EventIdentity } from '../../store/stored_events.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { NativeInsert } from '../../store/client.ts';
import { emptyRow, readRows } from './native_rows.ts';
import type { Random } from './random.ts';
import type { SimulatedDisk } from './simulated_disk.ts';
import type { SimulatedTime } from './simulated_time.ts';

// A store that deduplicates as ClickHouse does: by token, within a window of inserts, in the table and, as a
// step of its own, in a view that depends on it.

export type Row = Record<string, unknown>;

class Table {
  readonly rows: Row[] = [];
  #tokens: string[] = [];

  insert(rows: readonly Row[], token: string): void {
    if (this.#tokens.includes(token)) return;
    this.#tokens = [...this.#tokens, token].slice(-TOKENS_MAX);
    this.rows.push(...rows);
  }
}

const TOKENS_MAX = 1_000;
/** The client gives up waiting for an answer. */
const ANSWER_MS_MAX = 30_000;

export interface StoreFaults {
  /** Probability that an insert or a query goes wrong in some way. */
  any: number;
  /** Nothing answers. */
  away: boolean;
}

export interface StoreBugs {
  readonly tokensDropped?: boolean;
  readonly tokensChange?: boolean;
  readonly answersBeforeCommit?: boolean;
  readonly repeatsNotFound?: boolean;
  readonly failureReportedAsSuccess?: boolean;
}

export class SimulatedStore {
  readonly faults: StoreFaults = { any: 0, away: false };
  readonly #tables = new Map<string, { base: Table; view: Table }>();
  readonly #time: SimulatedTime;
  readonly #random: Random;
  readonly #disk: SimulatedDisk;
  readonly #bugs: StoreBugs;
  /** An embedded store dies with the process; a server goes on. */
  readonly #isEmbedded: boolean;
  #calls = 0;

  constructor(
    time: SimulatedTime,
    random: Random,
    disk: SimulatedDisk,
    options: { bugs: StoreBugs; isEmbedded: boolean },
  ) {
    this.#time = time;
    this.#random = random;
    this.#disk = disk;
    this.#bugs = options.bugs;
    this.#isEmbedded = options.isEmbedded;
  }

  table(name: string): { base: Table; view: Table } {
    let table = this.#tables.get(name);
    if (table === undefined) {
      table = { base: new Table(), view: new Table() };
      this.#tables.set(name, table);
    }
    return table;
  }

  /** The store as one process reaches it. */
  of(process: { readonly isAlive: boolean }): {
    insertNative: (insert: NativeInsert) => Promise<void>;
    storedEvents: StoredEvents;
  } {
    const isGone = (): boolean => this.#isEmbedded && !process.isAlive;
    const answer = <T>(work: () => Promise<T>): Promise<T> =>
      new Promise((resolve, reject) => {
        work().then(
          (value) => process.isAlive && resolve(value),
          (error: unknown) => process.isAlive && reject(error as Error),
        );
      });
    return {
      insertNative: (insert) => answer(() => this.#insert(insert, isGone)),
      storedEvents: {
        find: (ids, from, to) => answer(() => this.#find(ids, from, to)),
        latest: (before) => answer(() => this.#latest(before)),
      },
    };
  }

  async #insert(insert: NativeInsert, isGone: () => boolean): Promise<void> {
    await this.#time.sleep(this.#random.int(1, 40));
    if (this.faults.away) await this.#unavailable();
    const content = this.#disk.contentOf(insert.file);
    if (content === undefined) throw new GrantscopeError('spool_corrupt', 'no such file');
    const fault = this.#random.chance(this.faults.any)
      ? this.#random.pick(['refused', 'hangs', 'answer lost', 'commits late', 'slow'] as const)
      : 'none';
    if (fault === 'refused') {
      if (this.#bugs.failureReportedAsSuccess === true) return;
      await this.#unavailable();
    }
    if (fault === 'hangs') {
      await this.#time.sleep(ANSWER_MS_MAX);
      await this.#unavailable();
    }
    if (fault === 'slow') await this.#time.sleep(this.#random.int(100, 20_000));
    const bytes = Buffer.from(content);
    if (fault === 'commits late') {
      const commitMs = ANSWER_MS_MAX + this.#random.int(1, 20_000);
      this.#time.after(
        commitMs,
        () => void this.#commit(insert, bytes, isGone).catch(() => undefined),
      );
      await this.#time.sleep(ANSWER_MS_MAX);
      await this.#unavailable();
    }
    const committed = this.#commit(insert, bytes, isGone);
    if (this.#bugs.answersBeforeCommit !== true) await committed;
    else committed.catch(() => undefined);
    if (fault === 'answer lost') await this.#unavailable();
  }

  async #commit(insert: NativeInsert, bytes: Buffer, isGone: () => boolean): Promise<void> {
    let rows: Row[];
    try {
      const empty = emptyRow(insert.columns, insert.types ?? []);
      rows = readRows(bytes).map((row) => ({ ...empty, ...row }));
    } catch {
      throw new GrantscopeError('store_rejected', 'unreadable block', { retriable: false });
    }
    if (rows.length === 0)
      throw new GrantscopeError('store_rejected', 'empty insert', { retriable: false });
    this.#calls += 1;
    let token = insert.deduplicationToken;
    if (this.#bugs.tokensDropped === true) token = `none ${this.#calls}`;
    if (this.#bugs.tokensChange === true && this.#random.chance(0.5)) token += String(this.#calls);
    const { base, view } = this.table(insert.table);
    if (this.#bugs.answersBeforeCommit === true) await this.#time.sleep(200);
    if (isGone()) return;
    base.insert(rows, token);
    // The moment in which a table has what its view has not.
    await this.#time.sleep(this.#random.int(1, this.#random.chance(0.2) ? 400 : 30));
    if (isGone()) return;
    view.insert(rows, token);
    await this.#time.sleep(this.#random.int(1, 10));
  }

  async #latest(before: bigint): Promise<bigint> {
    await this.#time.sleep(this.#random.int(1, 20));
    if (this.faults.away || this.#random.chance(this.faults.any)) await this.#unavailable();
    return this.table('grantscope.auth_events')
      .base.rows.map((r) => r['time'] as bigint)
      .filter((t) => t < before)
      .reduce((max, t) => (t > max ? t : max), 0n);
  }

  async #find(ids: readonly string[], from: bigint, to: bigint): Promise<EventIdentity[]> {
    await this.#time.sleep(this.#random.int(1, 20));
    if (this.faults.away || this.#random.chance(this.faults.any)) await this.#unavailable();
    if (this.#bugs.repeatsNotFound === true) return [];
    const wanted = new Set(ids);
    return this.table('grantscope.auth_events')
      .base.rows.filter((r) => wanted.has(String(r['event_id'])))
      .filter((r) => (r['time'] as bigint) >= from && (r['time'] as bigint) <= to)
      .map((r) => ({
        event_id: String(r['event_id']),
        time: String(r['time']),
        kind: String(r['kind']),
        phase: String(r['phase']),
        outcome: String(r['outcome']),
        source_instance: String(r['source_instance']),
      }));
  }

  async #unavailable(): Promise<never> {
    await this.#time.sleep(this.#random.int(1, 50));
    throw new GrantscopeError('store_unavailable', 'simulated', { retriable: true });
  }
}
