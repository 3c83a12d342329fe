import * as zlib from 'node:zlib';
import kafkajs from 'kafkajs';
import { GrantscopeError } from '../../runtime/errors.ts';

/**
 * Readers of what brokers and producers compress batches with, beside gzip: Snappy and LZ4 here, Zstandard where Node's own
 * zlib has it. Nothing is ever written with them.
 */

// A CommonJS module, whose named exports Node does not find all.
const { CompressionCodecs, CompressionTypes } = kafkajs;

/** Longest batch, decompressed, bytes: ten times what brokers take by default, and far less than a bomb makes. */
export const BATCH_BYTES_MAX = 64 * 1_024 * 1_024;

/** A batch that cannot be read: `body_unreadable`, and which codec it was. */
function unreadable(codec: string, reason: string): GrantscopeError {
  return new GrantscopeError(
    'body_unreadable',
    `kafka: a batch compressed with ${codec}: ${reason}`,
    {
      stage: 'receiving',
    },
  );
}

/** What is decompressed so far: later parts repeat earlier ones. */
class Output {
  readonly #codec: string;
  #bytes = Buffer.allocUnsafe(65_536);
  length = 0;

  constructor(codec: string) {
    this.#codec = codec;
  }

  #room(more: number): void {
    const needed = this.length + more;
    if (needed > BATCH_BYTES_MAX) {
      throw unreadable(this.#codec, `longer than ${BATCH_BYTES_MAX} bytes`);
    }
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.length);
    this.#bytes = larger;
  }

  literal(input: Buffer, from: number, length: number): void {
    if (from + length > input.length) throw unreadable(this.#codec, 'cut off');
    this.#room(length);
    input.copy(this.#bytes, this.length, from, from + length);
    this.length += length;
  }

  /** Repeats `length` bytes that stand `offset` back; they may overlap with what they make. */
  copy(offset: number, length: number, floor: number): void {
    if (offset <= 0 || offset > this.length - floor) {
      throw unreadable(this.#codec, 'refers to what is not there');
    }
    this.#room(length);
    for (let i = 0; i < length; i += 1) {
      this.#bytes[this.length] = this.#bytes[this.length - offset] ?? 0;
      this.length += 1;
    }
  }

  done(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }
}

/** `\x82SNAPPY\0`, with which the framing of the Java library begins. */
const SNAPPY_FRAMING = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const SNAPPY_FRAMING_HEADER = 16;

/** Snappy, bare (format_description.txt of Snappy) or in the framing of snappy-java: blocks, each after its length. */
export function decodeSnappy(input: Buffer): Buffer {
  const out = new Output('snappy');
  if (!input.subarray(0, SNAPPY_FRAMING.length).equals(SNAPPY_FRAMING)) {
    snappyBlock(input, out);
    return out.done();
  }
  for (let at = SNAPPY_FRAMING_HEADER; at < input.length;) {
    if (at + 4 > input.length) throw unreadable('snappy', 'cut off');
    const length = input.readUInt32BE(at);
    if (at + 4 + length > input.length) throw unreadable('snappy', 'cut off');
    snappyBlock(input.subarray(at + 4, at + 4 + length), out);
    at += 4 + length;
  }
  return out.done();
}

function snappyBlock(input: Buffer, out: Output): void {
  const start = out.length;
  const { value: expected, end } = varint(input);
  for (let at = end; at < input.length;) {
    const tag = input[at] ?? 0;
    at += 1;
    if ((tag & 3) === 0) {
      let length = tag >> 2;
      if (length >= 60) {
        const bytes = length - 59;
        length = littleEndian(input, at, bytes, 'snappy');
        at += bytes;
      }
      out.literal(input, at, length + 1);
      at += length + 1;
      continue;
    }
    const bytes = (tag & 3) === 3 ? 4 : tag & 3;
    const low = littleEndian(input, at, bytes, 'snappy');
    at += bytes;
    if (bytes === 1) out.copy(((tag >> 5) << 8) | low, 4 + ((tag >> 2) & 7), start);
    else out.copy(low, 1 + (tag >> 2), start);
  }
  if (out.length - start !== expected) throw unreadable('snappy', 'another length than it says');
}

function varint(input: Buffer): { readonly value: number; readonly end: number } {
  let value = 0;
  for (let at = 0; at < 5 && at < input.length; at += 1) {
    const byte = input[at] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * at);
    if (byte < 0x80) return { value, end: at + 1 };
  }
  throw unreadable('snappy', 'has no length');
}

function littleEndian(input: Buffer, at: number, bytes: number, codec: string): number {
  if (at + bytes > input.length) throw unreadable(codec, 'cut off');
  return input.readUIntLE(at, bytes);
}

const LZ4_MAGIC = 0x184d2204;
const LZ4_DICTIONARY = 0x01;
const LZ4_CONTENT_CHECKSUM = 0x04;
const LZ4_CONTENT_SIZE = 0x08;
const LZ4_BLOCK_CHECKSUM = 0x10;
/** The highest bit of a block's length: the block is stored as it is. */
const LZ4_STORED = 0x80000000;

/** An LZ4 frame (lz4_Frame_format.md). Checksums are not verified: Kafka's own covers the batch. */
export function decodeLz4(input: Buffer): Buffer {
  const out = new Output('lz4');
  if (littleEndian(input, 0, 4, 'lz4') !== LZ4_MAGIC) throw unreadable('lz4', 'is no frame');
  const flags = littleEndian(input, 4, 1, 'lz4');
  if ((flags & LZ4_DICTIONARY) !== 0) throw unreadable('lz4', 'needs a dictionary');
  // Magic, flags, block descriptor, size of the content, checksum of the header.
  let at = 6 + ((flags & LZ4_CONTENT_SIZE) === 0 ? 0 : 8) + 1;
  for (;;) {
    const header = littleEndian(input, at, 4, 'lz4');
    at += 4;
    if (header === 0) break;
    const length = header & ~LZ4_STORED;
    if (header >= LZ4_STORED) out.literal(input, at, length);
    else if (at + length > input.length) throw unreadable('lz4', 'cut off');
    else lz4Block(input.subarray(at, at + length), out);
    at += length + ((flags & LZ4_BLOCK_CHECKSUM) === 0 ? 0 : 4);
  }
  if (at + ((flags & LZ4_CONTENT_CHECKSUM) === 0 ? 0 : 4) > input.length)
    throw unreadable('lz4', 'cut off');
  return out.done();
}

function lz4Block(input: Buffer, out: Output): void {
  let at = 0;
  const lengthOf = (nibble: number): number => {
    let length = nibble;
    for (let byte = 255; nibble === 15 && byte === 255;) {
      byte = littleEndian(input, at, 1, 'lz4');
      at += 1;
      length += byte;
    }
    return length;
  };
  while (at < input.length) {
    const token = littleEndian(input, at, 1, 'lz4');
    at += 1;
    const literals = lengthOf(token >> 4);
    out.literal(input, at, literals);
    at += literals;
    // The last sequence has literals alone.
    if (at === input.length) return;
    const offset = littleEndian(input, at, 2, 'lz4');
    at += 2;
    out.copy(offset, 4 + lengthOf(token & 15), 0);
  }
}

/** Of Node 22.15 and later. */
type Zstd = (input: Buffer, options: { readonly maxOutputLength: number }) => Buffer;
const zstd = (zlib as unknown as { readonly zstdDecompressSync?: Zstd }).zstdDecompressSync;

function decodeZstd(input: Buffer): Buffer {
  if (zstd === undefined) {
    throw unreadable('zstd', 'needs Node 22.15 or later; set compression.type of the topic to lz4');
  }
  return zstd(input, { maxOutputLength: BATCH_BYTES_MAX });
}

/** Lets the client read batches of every codec that Kafka has; once a process is enough. */
export function registerCodecs(): void {
  const reading = (codec: string, decode: (input: Buffer) => Buffer) => () => ({
    compress: () => Promise.reject(unreadable(codec, 'is not written')),
    decompress: (input: Buffer) => Promise.resolve(input).then(decode),
  });
  CompressionCodecs[CompressionTypes.Snappy] = reading('snappy', decodeSnappy);
  CompressionCodecs[CompressionTypes.LZ4] = reading('lz4', decodeLz4);
  CompressionCodecs[CompressionTypes.ZSTD] = reading('zstd', decodeZstd);
}
