import type { Sql } from '../model/sql.ts';
import type { NativeInsert, Store } from '../store/client.ts';

/** A store that tells how many questions were asked of it and how long the answers took, s. */
export class MeteredStore implements Store {
  readonly #store: Store;
  readonly #note: (seconds: number) => void;

  constructor(store: Store, note: (seconds: number) => void) {
    this.#store = store;
    this.#note = note;
  }

  get isEmbedded(): boolean {
    return this.#store.isEmbedded;
  }

  query<Row>(statement: Sql): Promise<Row[]> {
    return this.#timed(() => this.#store.query<Row>(statement));
  }

  command(statement: Sql): Promise<void> {
    return this.#timed(() => this.#store.command(statement));
  }

  insertRows(
    table: string,
    rows: readonly Readonly<Record<string, unknown>>[],
    deduplicationToken?: string,
  ): Promise<void> {
    if (rows.length === 0) return Promise.resolve();
    return this.#timed(() => this.#store.insertRows(table, rows, deduplicationToken));
  }

  insertNative(insert: NativeInsert): Promise<void> {
    return this.#timed(() => this.#store.insertNative(insert));
  }

  ping(): Promise<boolean> {
    return this.#store.ping();
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #timed<T>(ask: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await ask();
    } finally {
      this.#note((performance.now() - start) / 1_000);
    }
  }
}
