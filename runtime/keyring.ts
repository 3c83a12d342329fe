import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { isUuid, type Ref, type RefDomain } from '../model/ids.ts';
import { GrantscopeError } from './errors.ts';
import { HmacSha256 } from './hmac.ts';

const KeyFile = z.strictObject({
  keys: z
    .array(
      z.strictObject({
        id: z.string().regex(/^[a-z0-9]{1,16}$/),
        key: z.string().min(32),
        created_at: z.string(),
      }),
    )
    .min(1),
});

/** Shortest accepted `GRANTSCOPE_HASH_KEY`, in characters: 128 bits as hex. */
export const HASH_KEY_LENGTH_MIN = 32;

/** A short prefix of letters and 36 more characters. */
const PREFIXED_UUID = /^[a-z]{1,12}:(?:uuid:)?([0-9a-fA-F-]{36})$/;

interface Key {
  readonly id: string;
  readonly hmac: HmacSha256;
}

/**
 * Makes references with a secret key. The first key is the current one; older ones only resolve
 * (`resolve`), so that a look-up during a rotation finds events written under either.
 */
export class KeyRing {
  readonly #keys: readonly Key[];

  constructor(keys: readonly { id: string; key: string }[]) {
    if (keys.length === 0) throw new GrantscopeError('config_invalid', 'key ring: no key');
    this.#keys = keys.map((k) => ({ id: k.id, hmac: new HmacSha256(Buffer.from(k.key, 'utf8')) }));
  }

  /** A ring of one key, whose id is derived from the key so that every process names it alike. */
  static fromKey(key: string): KeyRing {
    return new KeyRing([{ id: keyIdOf(key), key }]);
  }

  get currentId(): string {
    return this.#current.id;
  }

  get #current(): Key {
    const [first] = this.#keys;
    if (first === undefined) throw new GrantscopeError('internal', 'key ring is empty');
    return first;
  }

  /** The current reference of a value; '' for ''. The value must be canonical already. */
  ref(domain: RefDomain, value: string): Ref {
    return value === '' ? '' : this.#current.hmac.uuid(domain, value);
  }

  /**
   * A token by its `jti`: a UUID is its own reference, also behind a prefix (Keycloak 26 writes
   * `onrtac:<uuid>`, others `urn:uuid:<uuid>`), because logs give it with and without; anything else is keyed.
   */
  refOfJti(jti: string): Ref {
    const name = PREFIXED_UUID.exec(jti)?.[1] ?? jti;
    return isUuid(name) ? name.toLowerCase() : this.ref('token', jti);
  }

  /** All references a value may be stored under, the current first. */
  resolve(domain: RefDomain, value: string): readonly { key_id: string; ref: Ref }[] {
    return this.#keys.map((k) => ({ key_id: k.id, ref: k.hmac.uuid(domain, value) }));
  }
}

function keyIdOf(key: string): string {
  return createHash('sha256').update('grantscope key id\0').update(key).digest('hex').slice(0, 8);
}

/**
 * The ring of this installation: from `GRANTSCOPE_HASH_KEY`, else from a key file made on first start
 * (mode 0600). Throws `config_invalid` when the key is too short or the file cannot be read.
 */
export function openKeyRing(options: { hashKey: string | undefined; keyFile: string }): KeyRing {
  if (options.hashKey !== undefined) return KeyRing.fromKey(options.hashKey);
  if (!existsSync(options.keyFile)) {
    refuseWhereDataIs(options.keyFile);
    writeNewKeyFile(options.keyFile);
  }
  const parsed = KeyFile.safeParse(readJson(options.keyFile));
  if (!parsed.success) {
    throw new GrantscopeError(
      'config_invalid',
      `${options.keyFile}: not a key file of Grantscope; restore it from a backup, since a new key would not join with stored references`,
    );
  }
  return new KeyRing(parsed.data.keys);
}

/** A new key beside old data would go unnoticed, and no replay of an old token would be found any more. */
function refuseWhereDataIs(keyFile: string): void {
  if (!existsSync(join(dirname(keyFile), 'clickhouse'))) return;
  throw new GrantscopeError(
    'config_invalid',
    `${keyFile} is missing, but there is data whose references were made with its key: restore the file from a backup, set GRANTSCOPE_HASH_KEY to the key that was used, or start with an empty GRANTSCOPE_DATA_DIR`,
  );
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

function writeNewKeyFile(file: string): void {
  const key = randomBytes(32).toString('hex');
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const content = { keys: [{ id: keyIdOf(key), key, created_at: new Date().toISOString() }] };
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`, {
    mode: 0o600,
    flag: 'wx',
    flush: true,
  });
  chmodSync(file, 0o600);
}
