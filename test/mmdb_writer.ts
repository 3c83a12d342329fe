import { isIP } from 'node:net';

/** What a record of a test database may hold. */
export type MmdbValue =
  | string
  | number
  | boolean
  | bigint
  | readonly MmdbValue[]
  | { readonly [name: string]: MmdbValue };

export interface MmdbOptions {
  /** `database_type` of the metadata. */
  readonly type: string;
  /** By network in CIDR notation; none may lie within another. */
  readonly networks: Readonly<Record<string, MmdbValue>>;
  /** Default 6. A version 6 tree holds IPv4 networks below ::/96. */
  readonly ipVersion?: 4 | 6;
  /** Bits of a record; default 28. */
  readonly recordSize?: 24 | 28 | 32;
  /** Seconds since the epoch. */
  readonly builtAt?: number;
}

/** A node has two sides: another node, the offset of its data, or nothing. */
interface Node {
  readonly sides: [Node | number | undefined, Node | number | undefined];
}

const METADATA_MARKER = Buffer.from('ABCDEF4D61784D696E642E636F6D', 'hex');
const SEPARATOR = Buffer.alloc(16);

/** A database in the MaxMind DB format 2.0: search tree, data section, metadata. */
export function writeMmdb(options: MmdbOptions): Buffer {
  const { ipVersion = 6, recordSize = 28, networks } = options;
  const root: Node = { sides: [undefined, undefined] };
  const data: Buffer[] = [];
  const offsets = new Map<string, number>();
  let length = 0;
  for (const [network, value] of Object.entries(networks)) {
    const encoded = encode(value);
    const key = encoded.toString('latin1');
    const offset = offsets.get(key) ?? length;
    if (!offsets.has(key)) {
      offsets.set(key, offset);
      data.push(encoded);
      length += encoded.length;
    }
    plant(root, bitsOf(network, ipVersion), offset);
  }
  const tree = encodeTree(root, recordSize);
  const metadata = encode({
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: BigInt(options.builtAt ?? 1_767_225_600),
    database_type: options.type,
    description: { en: 'made by a test' },
    ip_version: ipVersion,
    languages: ['en'],
    node_count: tree.nodes,
    record_size: recordSize,
  });
  return Buffer.concat([tree.bytes, SEPARATOR, ...data, METADATA_MARKER, metadata]);
}

function bitsOf(network: string, ipVersion: 4 | 6): number[] {
  const [address = '', prefix = ''] = network.split('/');
  const version = isIP(address);
  const bytes = version === 4 ? address.split('.').map(Number) : bytesOfIpv6(address);
  const bits = bytes
    .flatMap((byte) => Array.from({ length: 8 }, (_, i) => (byte >> (7 - i)) & 1))
    .slice(0, Number(prefix));
  return version === 4 && ipVersion === 6 ? [...new Array<number>(96).fill(0), ...bits] : bits;
}

function bytesOfIpv6(address: string): number[] {
  const [head = '', tail] = address.split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const [left, right] = [groups(head), groups(tail ?? '')];
  const zeros = new Array<string>(8 - left.length - right.length).fill('0');
  return [...left, ...zeros, ...right].flatMap((group) => {
    const value = parseInt(group, 16);
    return [value >> 8, value & 255];
  });
}

function plant(root: Node, bits: readonly number[], offset: number): void {
  let node = root;
  for (const [i, bit] of bits.entries()) {
    if (i === bits.length - 1) node.sides[bit as 0 | 1] = offset;
    else {
      const next = node.sides[bit as 0 | 1];
      const child: Node = typeof next === 'object' ? next : { sides: [undefined, undefined] };
      node.sides[bit as 0 | 1] = child;
      node = child;
    }
  }
}

function encodeTree(root: Node, recordSize: 24 | 28 | 32): { nodes: number; bytes: Buffer } {
  const nodes = [root];
  const numbers = new Map([[root, 0]]);
  for (const node of nodes)
    for (const side of node.sides)
      if (typeof side === 'object') {
        numbers.set(side, nodes.length);
        nodes.push(side);
      }
  const valueOf = (side: Node | number | undefined): number =>
    side === undefined
      ? nodes.length
      : typeof side === 'number'
        ? nodes.length + SEPARATOR.length + side
        : numbers.get(side)!;
  const bytes = nodes.map(({ sides: [left, right] }) =>
    encodeNode(valueOf(left), valueOf(right), recordSize),
  );
  return { nodes: nodes.length, bytes: Buffer.concat(bytes) };
}

/** 28 bits share a byte in the middle: the upper four bits of the left record, then those of the right. */
function encodeNode(left: number, right: number, recordSize: 24 | 28 | 32): Buffer {
  const bytes = Buffer.alloc(recordSize / 4);
  if (recordSize === 32) {
    bytes.writeUInt32BE(left, 0);
    bytes.writeUInt32BE(right, 4);
    return bytes;
  }
  bytes.writeUIntBE(left & 0xffffff, 0, 3);
  bytes.writeUIntBE(right & 0xffffff, recordSize === 28 ? 4 : 3, 3);
  if (recordSize === 28) bytes[3] = ((left >>> 24) << 4) | (right >>> 24);
  return bytes;
}

const TYPE = {
  text: 2,
  double: 3,
  uint16: 5,
  uint32: 6,
  map: 7,
  int32: 8,
  uint64: 9,
  list: 11,
  bool: 14,
};

function encode(value: MmdbValue): Buffer {
  if (typeof value === 'string') return sized(TYPE.text, Buffer.from(value));
  if (typeof value === 'boolean') return head(TYPE.bool, value ? 1 : 0);
  if (typeof value === 'bigint') {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    return sized(TYPE.uint64, bytes);
  }
  if (typeof value === 'number') return encodeNumber(value);
  if (Array.isArray(value))
    return Buffer.concat([head(TYPE.list, value.length), ...value.map(encode)]);
  const entries = Object.entries(value as Readonly<Record<string, MmdbValue>>);
  const members = entries.flatMap(([name, member]) => [encode(name), encode(member)]);
  return Buffer.concat([head(TYPE.map, entries.length), ...members]);
}

/** Whole numbers as unsigned integers of 32 bits, the rest as doubles. */
function encodeNumber(value: number): Buffer {
  const isUnsigned =
    Number.isInteger(value) && value >= 0 && value <= 0xffffffff && !Object.is(value, -0);
  const bytes = Buffer.alloc(isUnsigned ? 4 : 8);
  if (isUnsigned) bytes.writeUInt32BE(value);
  else bytes.writeDoubleBE(value);
  return sized(isUnsigned ? TYPE.uint32 : TYPE.double, bytes);
}

function sized(type: number, bytes: Buffer): Buffer {
  return Buffer.concat([head(type, bytes.length), bytes]);
}

/** Control byte, with the extended type and the size that do not fit into it. */
function head(type: number, size: number): Buffer {
  const high = type <= 7 ? type << 5 : 0;
  const extended = type <= 7 ? [] : [type - 7];
  if (size < 29) return Buffer.from([high | size, ...extended]);
  if (size < 285) return Buffer.from([high | 29, ...extended, size - 29]);
  const rest = size - 285;
  return Buffer.from([high | 30, ...extended, rest >> 8, rest & 255]);
}
