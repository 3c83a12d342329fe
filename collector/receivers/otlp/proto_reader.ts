import { isUtf8 } from 'node:buffer';
import { boundedText, undecodable } from './limits.ts';

/** Wire types of the protobuf encoding. */
export const WIRE = {
  varint: 0,
  fixed64: 1,
  bytes: 2,
  groupStart: 3,
  groupEnd: 4,
  fixed32: 5,
} as const;

/** A varint of 64 bits takes at most ten bytes. */
const VARINT_BYTES_MAX = 10;

/** Nesting of (deprecated) groups inside an unknown field. */
const GROUP_DEPTH_MAX = 32;

const ZERO_ID = /^0+$/;

/** Names of up to this many bytes are remembered. */
const NAME_BYTES_MAX = 64;
/** Names remembered: a power of two. A name takes the place that its hash says, whoever is there. */
const NAMES_MAX = 2_048;

interface KnownName {
  readonly bytes: Buffer;
  readonly text: string;
}
const knownNames: (KnownName | undefined)[] = Array.from({ length: NAMES_MAX }, () => undefined);

/**
 * Reads the protobuf wire format in one pass, without copying. `open` narrows the reader to an embedded
 * message, `close` widens it again; nothing is read beyond the innermost message. Whatever the bytes are, a
 * method returns or throws `body_unreadable` that names the field; it never loops or reads outside.
 *
 * A known field with the wrong wire type is an error, although protobuf would let it pass as unknown: it is how
 * a request for another signal shows itself, and taking it for an empty one would lose data in silence.
 */
export class ProtoReader {
  readonly #bytes: Buffer;
  #position = 0;
  #limit: number;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#limit = bytes.length;
  }

  /** True while the current message has more fields. */
  get hasMore(): boolean {
    return this.#position < this.#limit;
  }

  /** Field number and wire type, as `field << 3 | wire`. */
  tag(): number {
    const tag = this.#uint32('tag');
    if (tag >>> 3 === 0) throw undecodable('protobuf: field number 0');
    return tag;
  }

  /** Enters an embedded message; give the result to `close`. */
  open(wire: number, field: string): number {
    const length = this.#length(wire, field);
    const outer = this.#limit;
    this.#limit = this.#position + length;
    return outer;
  }

  close(outer: number): void {
    this.#limit = outer;
  }

  text(wire: number, field: string): string {
    const length = this.#length(wire, field);
    const start = this.#position;
    this.#position += length;
    const text = this.#bytes.toString('utf8', start, this.#position);
    // Node replaces what is not UTF-8 by U+FFFD; the bytes are looked at again only where one appears.
    if (text.includes('\uFFFD') && !isUtf8(this.#bytes.subarray(start, this.#position)))
      throw undecodable(`protobuf: ${field} is not valid UTF-8`);
    return boundedText(text);
  }

  /**
   * As `text`, for attribute keys. They recur from record to record, and the same string is given out again:
   * nothing is decoded, and objects with the same keys share their shape.
   */
  name(wire: number, field: string): string {
    const before = this.#position;
    const length = this.#length(wire, field);
    const start = this.#position;
    this.#position = before;
    if (length > NAME_BYTES_MAX) return this.text(wire, field);
    const place = placeOf(this.#bytes, start, length);
    const known = knownNames[place];
    if (known?.bytes.length === length && isSame(this.#bytes, start, known.bytes)) {
      this.#position = start + length;
      return known.text;
    }
    const text = this.text(wire, field);
    knownNames[place] = { bytes: Buffer.from(this.#bytes.subarray(start, start + length)), text };
    return text;
  }

  bytes(wire: number, field: string): Buffer {
    const length = this.#length(wire, field);
    const start = this.#position;
    this.#position += length;
    return this.#bytes.subarray(start, this.#position);
  }

  /** A trace or span id as lower-case hex; '' where it is empty or all zero. */
  id(wire: number, bytesExpected: number, field: string): string {
    const bytes = this.bytes(wire, field);
    if (bytes.length === 0) return '';
    if (bytes.length !== bytesExpected)
      throw undecodable(
        `protobuf: ${field} has ${bytes.length} bytes; allowed: ${bytesExpected}, or none`,
      );
    const hex = bytes.toString('hex');
    return ZERO_ID.test(hex) ? '' : hex;
  }

  bool(wire: number, field: string): boolean {
    return this.int64(wire, field) !== 0;
  }

  /** An int64, exact: a number where it is a safe integer, else a bigint. */
  int64(wire: number, field: string): number | bigint {
    this.#expect(wire, WIRE.varint, field);
    let low = 0;
    let middle = 0;
    let high = 0;
    for (let i = 0; i < VARINT_BYTES_MAX; i++) {
      const byte = this.#byte(field);
      const bits = byte & 0x7f;
      if (i < 4) low |= bits << (7 * i);
      else if (i < 8) middle |= bits << (7 * (i - 4));
      else high |= bits << (7 * (i - 8));
      if (byte < 0x80) return joinInt64(low, middle, high);
    }
    throw undecodable(`protobuf: ${field} is a varint of more than ${VARINT_BYTES_MAX} bytes`);
  }

  /** An enum or int32. */
  int32(wire: number, field: string): number {
    this.#expect(wire, WIRE.varint, field);
    return this.#uint32(field) | 0;
  }

  fixed32(wire: number, field: string): number {
    this.#expect(wire, WIRE.fixed32, field);
    return this.#bytes.readUInt32LE(this.#advance(4, field));
  }

  fixed64(wire: number, field: string): bigint {
    this.#expect(wire, WIRE.fixed64, field);
    return this.#bytes.readBigUInt64LE(this.#advance(8, field));
  }

  double(wire: number, field: string): number {
    this.#expect(wire, WIRE.fixed64, field);
    return this.#bytes.readDoubleLE(this.#advance(8, field));
  }

  /** Passes over a field that is not known. */
  skip(wire: number): void {
    let depth = 0;
    let current = wire;
    do {
      if (current === WIRE.groupStart) depth += 1;
      else if (current === WIRE.groupEnd) depth -= 1;
      else this.#skipScalar(current);
      if (depth < 0 || depth > GROUP_DEPTH_MAX)
        throw undecodable(
          `protobuf: groups that do not match, or more than ${GROUP_DEPTH_MAX} deep`,
        );
      if (depth > 0) current = this.tag() & 7;
    } while (depth > 0);
  }

  #skipScalar(wire: number): void {
    if (wire === WIRE.varint) this.#uint32('unknown field');
    else if (wire === WIRE.fixed64) this.#advance(8, 'unknown field');
    else if (wire === WIRE.fixed32) this.#advance(4, 'unknown field');
    else if (wire === WIRE.bytes) this.#position += this.#length(wire, 'unknown field');
    else throw undecodable(`protobuf: wire type ${wire} does not exist`);
  }

  #expect(wire: number, expected: number, field: string): void {
    if (wire !== expected)
      throw undecodable(
        `protobuf: ${field} has wire type ${wire}, expected ${expected}; is this a request for another signal?`,
      );
  }

  #length(wire: number, field: string): number {
    this.#expect(wire, WIRE.bytes, field);
    const length = this.#uint32(field);
    if (length > this.#limit - this.#position) throw cutOff(field);
    return length;
  }

  /** Moves on by `count` bytes and returns where they start. */
  #advance(count: number, field: string): number {
    if (count > this.#limit - this.#position) throw cutOff(field);
    const start = this.#position;
    this.#position += count;
    return start;
  }

  #byte(field: string): number {
    if (this.#position >= this.#limit) throw cutOff(field);
    const byte = this.#bytes[this.#position] ?? 0;
    this.#position += 1;
    return byte;
  }

  /** A varint, its low 32 bits. */
  #uint32(field: string): number {
    let result = 0;
    for (let i = 0; i < VARINT_BYTES_MAX; i++) {
      const byte = this.#byte(field);
      if (i < 5) result |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) return result >>> 0;
    }
    throw undecodable(`protobuf: ${field} is a varint of more than ${VARINT_BYTES_MAX} bytes`);
  }
}

function cutOff(field: string): Error {
  return undecodable(`protobuf: cut off, or a length beyond the message, at ${field}`);
}

/** From 28, 28 and 8 bits. */
function joinInt64(low: number, middle: number, high: number): number | bigint {
  if (high === 0 && middle < 2 ** 25) return low + middle * 2 ** 28;
  const value = BigInt.asIntN(64, BigInt(low) | (BigInt(middle) << 28n) | (BigInt(high) << 56n));
  return exactInteger(value);
}

/** A number where that is exact, else the bigint itself. */
export function exactInteger(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER)
    ? Number(value)
    : value;
}

function placeOf(bytes: Buffer, start: number, length: number): number {
  let hash = length;
  for (let i = start; i < start + length; i++) hash = (Math.imul(hash, 31) + (bytes[i] ?? 0)) | 0;
  return hash & (NAMES_MAX - 1);
}

function isSame(bytes: Buffer, start: number, expected: Buffer): boolean {
  for (let i = 0; i < expected.length; i++) if (bytes[start + i] !== expected[i]) return false;
  return true;
}
