import { EventEmitter } from 'node:events';

/**
 * Hints between the parts of one process ("something new is in the store"). They only shorten a wait:
 * every listener also polls, so that nothing depends on a hint arriving (with roles apart none does).
 */
export interface HintMap {
  /** Rows of this table were inserted. */
  inserted: { table: string; rows: number };
  /** Findings were opened, changed or closed. */
  findings_changed: { ids: readonly string[] };
  /** SLO states were recomputed. */
  slos_changed: Record<string, never>;
  /** A silence was asked for or withdrawn. */
  silences_changed: Record<string, never>;
}

export class Hints {
  readonly #emitter = new EventEmitter().setMaxListeners(1_000);

  emit<K extends keyof HintMap>(name: K, value: HintMap[K]): void {
    this.#emitter.emit(name, value);
  }

  /** Returns the function that unsubscribes. */
  on<K extends keyof HintMap>(name: K, listener: (value: HintMap[K]) => void): () => void {
    this.#emitter.on(name, listener);
    return () => this.#emitter.off(name, listener);
  }
}
