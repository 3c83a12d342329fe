/** What util.inspect looks up; the global symbol, so that the model needs no import. */
const INSPECT = Symbol.for('nodejs.util.inspect.custom');

/**
 * A value that must never be printed, stored or sent: a raw token, code, password, cookie.
 * Adapters wrap what they find; only the redaction stage calls `reveal()`, to turn it into a reference.
 * Every way of printing it (template, JSON, console, util.inspect) gives `[secret]`.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The raw value. For the redaction stage alone. */
  reveal(): string {
    return this.#value;
  }

  get isEmpty(): boolean {
    return this.#value.length === 0;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [INSPECT](): string {
    return '[secret]';
  }
}
