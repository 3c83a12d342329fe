/** A small generator of numbers (mulberry32): the same seed gives the same corpus on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to below `n`. */
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }

  text(length: number, alphabet: string): string {
    let text = '';
    for (let i = 0; i < length; i += 1) text += alphabet.charAt(this.below(alphabet.length));
    return text;
  }

  hex(length: number): string {
    return this.text(length, '0123456789abcdef');
  }

  digits(length: number): string {
    return this.text(length, '0123456789');
  }

  base62(length: number): string {
    return this.text(length, BASE62);
  }

  base64url(length: number): string {
    return this.text(length, `${BASE62}-_`);
  }

  uuid(): string {
    return [8, 4, 4, 4, 12].map((n) => this.hex(n)).join('-');
  }
}

const BASE62 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
