import { describe, expect, it } from 'vitest';
import { BATCH_BYTES_MAX, decodeLz4, decodeSnappy } from '../../collector/queue/compression.ts';

/** By hand after the formats; what the libraries of brokers write is read in the suite of the real broker. */
const bytes = (...parts: (number | string | readonly number[])[]): Buffer =>
  Buffer.concat(parts.map((p) => Buffer.from(typeof p === 'number' ? [p] : (p as string))));

const FRAMING = [0x82, ...Buffer.from('SNAPPY'), 0, 0, 0, 0, 1, 0, 0, 0, 1];
// Nine bytes: `abc` as they are, six more from three back, which overlaps with what it makes.
const ABC = bytes(9, (3 - 1) << 2, 'abc', [((6 - 4) << 2) | 1, 3]);

describe('snappy', () => {
  it('reads literals and copies, bare and framed', () => {
    expect(decodeSnappy(ABC).toString()).toBe('abcabcabc');
    const framed = bytes(FRAMING, [0, 0, 0, ABC.length], [...ABC], [0, 0, 0, ABC.length], [...ABC]);
    expect(decodeSnappy(framed).toString()).toBe('abcabcabcabcabcabc');
  });

  it('reads long literals, and copies of each length of offset', () => {
    const long = 'x'.repeat(70);
    const two = bytes(75, [60 << 2, 69], long, [((5 - 1) << 2) | 2, 70, 0]);
    expect(decodeSnappy(two).toString()).toBe(long + 'xxxxx');
    const four = bytes(75, [60 << 2, 69], long, [((5 - 1) << 2) | 3, 70, 0, 0, 0]);
    expect(decodeSnappy(four).toString()).toBe(long + 'xxxxx');
  });

  it.each([
    ['nothing', Buffer.alloc(0), 'has no length'],
    ['half a literal', ABC.subarray(0, 4), 'cut off'],
    ['half a copy', ABC.subarray(0, -1), 'cut off'],
    ['another length', bytes(8, [...ABC.subarray(1)]), 'another length than it says'],
    ['a copy of nothing', bytes(9, 8, 'abc', [9, 4]), 'refers to what is not there'],
    // A block begins anew: it cannot repeat the one before.
    [
      'a copy of the block before',
      bytes(FRAMING, [0, 0, 0, ABC.length], [...ABC], [0, 0, 0, 3], [4, 1, 3]),
      'refers to what is not there',
    ],
    ['half a block', bytes(FRAMING, [0, 0, 0, 9], 'x'), 'cut off'],
  ])('refuses %s', (_, input, reason) => {
    expect(() => decodeSnappy(input)).toThrow(`kafka: a batch compressed with snappy: ${reason}`);
  });
});

const HEADER = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
// `abc`, six more from three back, then `z`.
const BLOCK = bytes((3 << 4) | 2, 'abc', [3, 0], 1 << 4, 'z');

describe('lz4', () => {
  it('reads blocks, compressed and stored, with and without checksums', () => {
    const plain = bytes(
      HEADER,
      [BLOCK.length, 0, 0, 0],
      [...BLOCK],
      [2, 0, 0, 0x80],
      'yy',
      [0, 0, 0, 0],
    );
    expect(decodeLz4(plain).toString()).toBe('abcabcabczyy');
    // Size of the content, checksums of block and content.
    const flags = [...HEADER.slice(0, 4), 0x7c, 0x40, 10, 0, 0, 0, 0, 0, 0, 0, 0x82];
    const sums = bytes(flags, [BLOCK.length, 0, 0, 0], [...BLOCK], 'sums', [0, 0, 0, 0], 'sums');
    expect(decodeLz4(sums).toString()).toBe('abcabcabcz');
    expect(() => decodeLz4(sums.subarray(0, -1))).toThrow('cut off');
  });

  it('reads lengths of several bytes', () => {
    const text = 'x'.repeat(300);
    const block = bytes(15 << 4, [255, 30], text);
    const frame = bytes(
      HEADER,
      [block.length & 255, block.length >> 8, 0, 0],
      [...block],
      [0, 0, 0, 0],
    );
    expect(decodeLz4(frame).toString()).toBe(text);
  });

  it.each([
    ['no frame', bytes('no frame'), 'is no frame'],
    ['nothing', Buffer.alloc(0), 'cut off'],
    ['no end', bytes(HEADER, [2, 0, 0, 0x80], 'yy'), 'cut off'],
    ['half a block', bytes(HEADER, [9, 0, 0, 0], 'x'), 'cut off'],
    [
      'a dictionary',
      bytes([...HEADER.slice(0, 4), 0x61, 0x40, 0, 0, 0, 0, 0x82]),
      'needs a dictionary',
    ],
    [
      'a copy of nothing',
      bytes(HEADER, [4, 0, 0, 0], [0x10, 0x61, 9, 0]),
      'refers to what is not there',
    ],
  ])('refuses %s', (_, input, reason) => {
    expect(() => decodeLz4(input)).toThrow(`kafka: a batch compressed with lz4: ${reason}`);
  });

  it('ends at the longest batch', () => {
    // One literal, then the same byte again, 255 more with every byte.
    const repeats = Math.ceil(BATCH_BYTES_MAX / 255) + 1;
    const block = bytes([0x1f, 0x61, 1, 0]);
    const body = Buffer.concat([block, Buffer.alloc(repeats, 255), Buffer.from([0])]);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(body.length);
    const bomb = Buffer.concat([Buffer.from(HEADER), length, body, Buffer.alloc(4)]);
    expect(() => decodeLz4(bomb)).toThrow(`longer than ${BATCH_BYTES_MAX} bytes`);
  });
});
