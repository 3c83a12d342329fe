import type { Sql } from '../../model/sql.ts';
import type { Store } from '../../store/client.ts';

/**
 * A store that answers a question it has heard before from memory. Only for what is not written to meanwhile: most mutants
 * change one of a rule's questions or none, so that almost all of them need few answers of the engine.
 */
export class RememberingStore implements Store {
  readonly #store: Store;
  readonly #answers = new Map<string, Promise<unknown[]>>();

  constructor(store: Store) {
    this.#store = store;
  }

  get isEmbedded(): boolean {
    return this.#store.isEmbedded;
  }

  async query<Row>(statement: Sql): Promise<Row[]> {
    const key = JSON.stringify(statement.toQuery(), (_name, value: unknown) =>
      typeof value === 'bigint' ? `${value}n` : value,
    );
    const known = this.#answers.get(key) ?? this.#store.query<unknown>(statement);
    this.#answers.set(key, known);
    // Rows of one's own, so that a reader that changes them spoils nothing.
    return structuredClone(await known) as Row[];
  }

  command(): Promise<void> {
    return Promise.reject(new Error('a remembering store only reads'));
  }

  insertRows(): Promise<void> {
    return this.command();
  }

  insertNative(): Promise<void> {
    return this.command();
  }

  ping(): Promise<boolean> {
    return this.#store.ping();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
