/** Texts up to this length are first tried as ASCII by hand: a call into native code costs more. */
const BY_HAND_LENGTH_MAX = 42;

/** A growable run of bytes, little-endian. Reused across blocks: `reset` keeps the memory. */
export class ByteBuffer {
  #bytes: Buffer;
  #view: DataView;
  #length = 0;

  constructor(initialBytes = 256) {
    this.#bytes = Buffer.allocUnsafeSlow(initialBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  reset(): void {
    this.#length = 0;
  }

  /** Forgets what was written after the first `length` bytes. */
  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  /** The bytes so far; valid until the next write. */
  view(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  u16(value: number): void {
    this.#reserve(2);
    this.#view.setUint16(this.#length, value, true);
    this.#length += 2;
  }

  u32(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  /** A non-negative safe integer as 64 bits. */
  u64(value: number): void {
    this.#reserve(8);
    this.#view.setUint32(this.#length, value, true);
    this.#view.setUint32(this.#length + 4, value / 0x1_0000_0000, true);
    this.#length += 8;
  }

  bigU64(value: bigint): void {
    this.#reserve(8);
    this.#view.setBigInt64(this.#length, value, true);
    this.#length += 8;
  }

  f32(value: number): void {
    this.#reserve(4);
    this.#view.setFloat32(this.#length, value, true);
    this.#length += 4;
  }

  f64(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  zeros(count: number): void {
    this.#reserve(count);
    for (let i = 0; i < count; i += 1) this.#bytes[this.#length++] = 0;
  }

  /** LEB128, as ClickHouse's VarUInt. */
  varUint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.u8((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.u8(rest);
  }

  /** Length and UTF-8 bytes. Lone surrogates become U+FFFD, so that the result is valid UTF-8. */
  text(value: string): void {
    this.#reserve(value.length * 3 + 5);
    if (value.length <= BY_HAND_LENGTH_MAX) {
      if (this.#ascii(value)) return;
      // At most 127 bytes: the length takes one byte and can be filled in afterwards.
      const written = this.#bytes.write(value, this.#length + 1);
      this.#bytes[this.#length] = written;
      this.#length += written + 1;
      return;
    }
    this.varUint(Buffer.byteLength(value));
    this.#length += this.#bytes.write(value, this.#length);
  }

  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  /** The 16 bytes that ClickHouse keeps for UUID text: two halves, each little-endian. */
  uuid(text: string): void {
    this.#reserve(16);
    const bytes = this.#bytes;
    let at = this.#length;
    for (let i = 0; i < 16; i += 1) {
      const digit = UUID_TEXT_POSITIONS[i] ?? 0;
      bytes[at] =
        ((HEX_VALUE[text.charCodeAt(digit) & 0x7f] ?? 0) << 4) |
        (HEX_VALUE[text.charCodeAt(digit + 1) & 0x7f] ?? 0);
      at += 1;
    }
    this.#length = at;
  }

  /** Writes a short text if it is ASCII; room is reserved. */
  #ascii(value: string): boolean {
    const bytes = this.#bytes;
    const start = this.#length + 1;
    for (let i = 0; i < value.length; i += 1) {
      const c = value.charCodeAt(i);
      if (c > 0x7f) return false;
      bytes[start + i] = c;
    }
    bytes[start - 1] = value.length;
    this.#length = start + value.length;
    return true;
  }

  #reserve(extra: number): void {
    const needed = this.#length + extra;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** Where in UUID text each stored byte's two digits begin: bytes 7..0, then 15..8. */
const UUID_TEXT_POSITIONS = new Uint8Array([
  16, 14, 11, 9, 6, 4, 2, 0, 34, 32, 30, 28, 26, 24, 21, 19,
]);
const HEX_VALUE = new Uint8Array(128);
for (let digit = 0; digit < 16; digit += 1) {
  HEX_VALUE[digit.toString(16).charCodeAt(0)] = digit;
  HEX_VALUE[digit.toString(16).toUpperCase().charCodeAt(0)] = digit;
}
