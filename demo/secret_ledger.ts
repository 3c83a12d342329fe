import { createHash } from 'node:crypto';

/**
 * Every secret of the demo, in memory: what its servers issued and what its clients held. The proof that
 * Grantscope stores none of them is a search for all of them in everything it wrote.
 */
export const SECRET_KINDS = [
  'access_token',
  'refresh_token',
  'id_token',
  'authorization_code',
  'client_secret',
  'cookie',
  'password',
  'device_code',
  'user_code',
  'request_uri',
  'state',
  'nonce',
  'code_verifier',
  'registration_access_token',
  'signing_key',
  'subject',
] as const;
export type SecretKind = (typeof SECRET_KINDS)[number];

/** Shorter values would be found by chance; the demo makes all its secrets longer. */
export const SECRET_LENGTH_MIN = 8;
/** Beyond this the oldest entries are forgotten and counted: a demo may run for days. */
export const SECRETS_MAX = 500_000;

export interface SecretLedger {
  /** Remembers a value; '' and undefined are ignored, too short ones are refused with a RangeError. */
  add(kind: SecretKind, value: string | undefined): void;
  entries(): IterableIterator<[secret: string, kind: SecretKind]>;
  readonly size: number;
  /** Entries forgotten because of `SECRETS_MAX`. */
  readonly forgotten: number;
}

export function createSecretLedger(secretsMax = SECRETS_MAX): SecretLedger {
  const secrets = new Map<string, SecretKind>();
  let forgotten = 0;
  const remember = (kind: SecretKind, value: string): void => {
    if (secrets.has(value)) return;
    secrets.set(value, kind);
    if (secrets.size <= secretsMax) return;
    const oldest = secrets.keys().next();
    if (oldest.done !== true) secrets.delete(oldest.value);
    forgotten += 1;
  };
  return {
    add(kind, value) {
      if (value === undefined || value === '') return;
      if (value.length < SECRET_LENGTH_MIN) {
        throw new RangeError(
          `secret ledger: a ${kind} of ${value.length} characters; at least ${SECRET_LENGTH_MIN} are needed to search for it`,
        );
      }
      remember(kind, value);
      // The signature of a JWT alone is as much a credential as the whole token to whoever has the rest.
      const parts = value.split('.');
      if (parts.length === 3 && value.startsWith('ey')) remember(kind, parts[2] ?? value);
    },
    entries: () => secrets.entries(),
    get size() {
      return secrets.size;
    },
    get forgotten() {
      return forgotten;
    },
  };
}

export type SecretEncoding = 'plain' | 'percent' | 'base64' | 'hex' | 'utf16le' | 'utf16be';

/** Where a secret was found. It names the secret by position and hash, so that a report leaks nothing. */
export interface SecretHit {
  /** Position in the given secrets. */
  readonly index: number;
  /** First 12 hex digits of the secret's SHA-256. */
  readonly fingerprint: string;
  readonly encoding: SecretEncoding;
  /** Byte offset of the first such occurrence. */
  readonly offset: number;
}

interface Pattern {
  readonly index: number;
  readonly encoding: SecretEncoding;
  readonly bytes: Buffer;
}

/** All patterns have at least this many bytes, which the search hashes as one key. */
const KEY_BYTES = 8;
const FILTER_BITS = 22;

export interface SecretScanner {
  scan(bytes: Buffer): SecretHit[];
}

/**
 * Prepares a search for many secrets at once: one pass over the data, whatever their number.
 * Each secret is looked for as it is, percent-encoded, in base64 (all three alignments, both alphabets),
 * in hex and in UTF-16.
 */
export function createSecretScanner(secrets: Iterable<string>): SecretScanner {
  const list = [...secrets];
  const byKey = new Map<string, Pattern[]>();
  const filter = new Uint8Array(1 << FILTER_BITS);
  list.forEach((secret, index) => {
    if (secret.length < SECRET_LENGTH_MIN) {
      throw new RangeError(`secret ${index} has fewer than ${SECRET_LENGTH_MIN} characters`);
    }
    for (const [encoding, bytes] of encodingsOf(secret)) {
      const key = bytes.toString('latin1', 0, KEY_BYTES);
      const patterns = byKey.get(key) ?? [];
      patterns.push({ index, encoding, bytes });
      byKey.set(key, patterns);
      filter[filterSlot(bytes.readUInt32LE(0), bytes.readUInt32LE(4))] = 1;
    }
  });
  return { scan: (bytes) => scan(bytes, list, byKey, filter) };
}

/** `createSecretScanner` for a single buffer. */
export function scanForSecrets(bytes: Buffer, secrets: Iterable<string>): SecretHit[] {
  return createSecretScanner(secrets).scan(bytes);
}

function scan(
  bytes: Buffer,
  secrets: readonly string[],
  byKey: ReadonlyMap<string, readonly Pattern[]>,
  filter: Uint8Array,
): SecretHit[] {
  const hits = new Map<string, SecretHit>();
  for (let at = 0; at + KEY_BYTES <= bytes.length; at += 1) {
    if (filter[filterSlot(word(bytes, at), word(bytes, at + 4))] === 0) continue;
    for (const pattern of byKey.get(bytes.toString('latin1', at, at + KEY_BYTES)) ?? []) {
      const found = bytes.subarray(at, at + pattern.bytes.length).equals(pattern.bytes);
      const id = `${pattern.index}/${pattern.encoding}`;
      if (!found || hits.has(id)) continue;
      const fingerprint = fingerprintOf(secrets[pattern.index] ?? '');
      hits.set(id, {
        index: pattern.index,
        fingerprint,
        encoding: pattern.encoding,
        offset: at,
      });
    }
  }
  return [...hits.values()];
}

function word(bytes: Buffer, at: number): number {
  return (
    (bytes[at] ?? 0) |
    ((bytes[at + 1] ?? 0) << 8) |
    ((bytes[at + 2] ?? 0) << 16) |
    ((bytes[at + 3] ?? 0) << 24)
  );
}

function filterSlot(low: number, high: number): number {
  const mixed = Math.imul(low, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b);
  return (mixed ^ (mixed >>> 15)) & ((1 << FILTER_BITS) - 1);
}

export function fingerprintOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex').slice(0, 12);
}

function encodingsOf(secret: string): [SecretEncoding, Buffer][] {
  const plain = Buffer.from(secret, 'utf8');
  const little = Buffer.from(secret, 'utf16le');
  const found: [SecretEncoding, Buffer][] = [
    ['plain', plain],
    ['hex', Buffer.from(plain.toString('hex'))],
    ['hex', Buffer.from(plain.toString('hex').toUpperCase())],
    ['utf16le', little],
    ['utf16be', Buffer.from(little).swap16()],
  ];
  const percent = encodeURIComponent(secret);
  if (percent !== secret) found.push(['percent', Buffer.from(percent)]);
  for (const text of base64Cores(plain)) found.push(['base64', Buffer.from(text)]);
  return found.filter(([, bytes]) => bytes.length >= KEY_BYTES);
}

/**
 * The base64 digits that a secret makes wherever it stands inside a longer encoded text: the digits at its
 * edges also depend on the neighbours, so they are left out.
 */
function base64Cores(plain: Buffer): Set<string> {
  const cores = new Set<string>();
  for (const shift of [0, 1, 2]) {
    const padded = Buffer.concat([Buffer.alloc(shift), plain]);
    const whole = padded.length - (padded.length % 3);
    const core = padded
      .subarray(0, whole)
      .toString('base64')
      .slice(shift === 0 ? 0 : 4);
    cores.add(core);
    cores.add(core.replaceAll('+', '-').replaceAll('/', '_'));
  }
  return cores;
}
