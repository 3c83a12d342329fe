/**
 * A text as a reader of secrets must see it: percent escapes decoded at any depth, `\uXXXX`, `\xXX` and
 * backslashes undone, the entities `&quot;` `&amp;` `&#NN;` too, invisible characters gone, full-width
 * letters narrowed. Every character remembers where it came from and how deeply it was encoded, so that
 * an encoded `&` or quote does not end the value of a parameter that was not encoded.
 * One pass, linear.
 */
export interface DecodedView {
  readonly text: string;
  /** Position in the original of the view's character `i`; `at(length)` is the original's length. */
  readonly at: (i: number) => number;
  /** Encoding depth of the view's character `i`: 0 = stands as it is. */
  readonly level: (i: number) => number;
}

const LEVEL_MAX = 15;

/** Characters that show nothing, but part a key from its likeness. */
export const INVISIBLE =
  // eslint-disable-next-line no-misleading-character-class -- they are listed, not combined
  /[\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]|\u034f|[\u180b-\u180d]|[\ufe00-\ufe0f]/;

const ENCODED = /[%\\\uff01-\uff5e]|&(?:quot|amp|#)/;

const PERCENT = 0x25;
const BACKSLASH = 0x5c;
const AMPERSAND = 0x26;

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function hexNumber(text: string, start: number, digits: number): number {
  let value = 0;
  for (let i = start; i < start + digits; i += 1) {
    const digit = i < text.length ? hexDigit(text.charCodeAt(i)) : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

function isInvisible(code: number): boolean {
  if (code < 0xad) return false;
  return (
    code === 0xad ||
    code === 0x34f ||
    code === 0x61c ||
    code === 0x115f ||
    code === 0x1160 ||
    (code >= 0x17b4 && code <= 0x17b5) ||
    (code >= 0x180b && code <= 0x180e) ||
    (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x202a && code <= 0x202e) ||
    (code >= 0x2060 && code <= 0x206f) ||
    (code >= 0xfe00 && code <= 0xfe0f) ||
    code === 0xfeff
  );
}

class Decoder {
  readonly #text: string;
  readonly #codes: Uint16Array;
  readonly #at: Int32Array;
  readonly #levels: Uint8Array;
  #length = 0;
  // The character that `#read` found: its code, its depth and where the next one starts.
  #code = 0;
  #depth = 0;
  #next = 0;

  constructor(text: string) {
    this.#text = text;
    // A character beyond U+FFFF takes two units, but never comes from fewer than two.
    this.#codes = new Uint16Array(text.length);
    this.#at = new Int32Array(text.length + 1);
    this.#levels = new Uint8Array(text.length);
  }

  run(): DecodedView {
    let i = 0;
    while (i < this.#text.length) {
      this.#read(i);
      if (this.#code === BACKSLASH) this.#readEscape(i);
      this.#emit(i);
      i = this.#next;
    }
    const length = this.#length;
    const at = this.#at;
    const levels = this.#levels;
    at[length] = this.#text.length;
    const bytes = Buffer.from(this.#codes.buffer, 0, length * 2);
    return {
      text: bytes.toString('utf16le'),
      at: (index) => at[index] ?? 0,
      level: (index) => levels[index] ?? 0,
    };
  }

  #emit(from: number): void {
    let code = this.#code;
    if (isInvisible(code)) return;
    if (code >= 0xff01 && code <= 0xff5e) code -= 0xfee0;
    if (code > 0xffff) {
      this.#put(0xd800 + ((code - 0x10000) >> 10), from);
      code = 0xdc00 + ((code - 0x10000) & 0x3ff);
    }
    this.#put(code, from);
  }

  #put(code: number, from: number): void {
    this.#codes[this.#length] = code;
    this.#at[this.#length] = from;
    this.#levels[this.#length] = Math.min(LEVEL_MAX, this.#depth);
    this.#length += 1;
  }

  /** One character, percent escapes and entities undone. */
  #read(i: number): void {
    const code = this.#text.charCodeAt(i);
    this.#code = code;
    this.#depth = 0;
    this.#next = i + 1;
    if (code === PERCENT) this.#readPercent(i);
    else if (code === AMPERSAND) this.#readEntity(i);
  }

  /** `%3D`, `%253D`, `%25253D`: returns the byte, or -1 where no escape stands at `i`. */
  #percentByte(i: number): number {
    if (this.#text.charCodeAt(i) !== PERCENT) return -1;
    let at = i + 1;
    let depth = 1;
    while (this.#text.startsWith('25', at) && hexNumber(this.#text, at + 2, 2) >= 0) {
      at += 2;
      depth += 1;
    }
    const byte = hexNumber(this.#text, at, 2);
    if (byte < 0) return -1;
    this.#next = at + 2;
    this.#depth = depth;
    return byte;
  }

  #readPercent(i: number): void {
    const first = this.#percentByte(i);
    if (first < 0) return;
    this.#code = first;
    if (first < 0xc2) return;
    // UTF-8, for the invisible characters that could hide in a key.
    const following = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    const next = this.#next;
    let value = first & (0x3f >> following);
    for (let n = 0; n < following; n += 1) {
      const byte = this.#percentByte(this.#next);
      if (byte < 0x80 || byte > 0xbf) {
        this.#next = next;
        return;
      }
      value = (value << 6) | (byte & 0x3f);
    }
    if (value <= 0x10ffff) this.#code = value;
    else this.#next = next;
  }

  #readEntity(i: number): void {
    const text = this.#text;
    if (text.startsWith('&quot;', i)) this.#accept(0x22, 1, i + 6);
    else if (text.startsWith('&amp;', i)) this.#accept(AMPERSAND, 0, i + 5);
    else if (text.charCodeAt(i + 1) === 0x23) {
      const hex = (text.charCodeAt(i + 2) | 0x20) === 0x78;
      const start = i + (hex ? 3 : 2);
      // A window, not indexOf: a text of nothing but `&#` must not be searched to its end each time.
      const digits = /^([0-9a-fA-F]{1,6});/.exec(text.slice(start, start + 7))?.[1];
      if (digits === undefined) return;
      const code = parseInt(digits, hex ? 16 : 10);
      if (code > 0 && code <= 0xffff) this.#accept(code, 1, start + digits.length + 1);
    }
  }

  /** Backslashes, however many, and what they escape: one character of that depth. */
  #readEscape(i: number): void {
    let depth = 0;
    let at = i;
    while (this.#code === BACKSLASH) {
      depth += 1 + this.#depth;
      at = this.#next;
      if (at >= this.#text.length) break;
      this.#read(at);
    }
    if (this.#code === BACKSLASH) return;
    const text = this.#text;
    const escaped = this.#code;
    if (escaped === 0x75 && hexNumber(text, at + 1, 4) >= 0) {
      this.#accept(hexNumber(text, at + 1, 4), depth, at + 5);
    } else if (escaped === 0x78 && hexNumber(text, at + 1, 2) >= 0) {
      this.#accept(hexNumber(text, at + 1, 2), depth, at + 3);
    } else if (escaped === 0x6e) this.#accept(0x0a, depth, this.#next);
    else if (escaped === 0x72) this.#accept(0x0d, depth, this.#next);
    else if (escaped === 0x74) this.#accept(0x09, depth, this.#next);
    else this.#depth += depth;
  }

  #accept(code: number, depth: number, next: number): void {
    this.#code = code;
    this.#depth = depth;
    this.#next = next;
  }
}

/** The view of a text. Most texts need no decoding and are their own view. */
export function decodedView(text: string): DecodedView {
  if (!ENCODED.test(text) && !INVISIBLE.test(text)) return { text, at: (i) => i, level: () => 0 };
  return new Decoder(text).run();
}
