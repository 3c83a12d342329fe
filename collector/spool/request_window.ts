/**
 * Recognises a request that was sent again because its answer got lost: the content hashes of what was
 * stored, newest last, at most `hashesMax` of them. Two honest requests have equal content only if every
 * event in them is equal to the nanosecond, so the window can be generous.
 */
export class RequestWindow {
  readonly #hashes = new Map<string, Promise<void>>();
  readonly #hashesMax: number;

  constructor(hashesMax: number) {
    this.#hashesMax = hashesMax;
  }

  get size(): number {
    return this.#hashes.size;
  }

  /** The fate of an equal request: settles as that one settled. */
  find(hash: string): Promise<void> | undefined {
    return this.#hashes.get(hash);
  }

  /** Remembers a request in flight; it is forgotten again when it fails. */
  add(hash: string, durable: Promise<void>): void {
    this.#hashes.set(hash, durable);
    durable.catch(() => this.#hashes.delete(hash));
    if (this.#hashes.size <= this.#hashesMax) return;
    const [oldest] = this.#hashes.keys();
    if (oldest !== undefined) this.#hashes.delete(oldest);
  }
}
