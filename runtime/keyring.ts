import { createHash } from 'node:crypto';
import { isUuid, type Ref, type RefDomain } from '../model/ids.ts';
import { GrantscopeError } from './errors.ts';
import { HmacSha256 } from './hmac.ts';

/** Shortest accepted `GRANTSCOPE_HASH_KEY`, in characters: 128 bits as hex. */
export const HASH_KEY_LENGTH_MIN = 32;

/** A short prefix of letters and 36 more characters. */
const PREFIXED_UUID = /^[a-z]{1,12}:(?:uuid:)?([0-9a-fA-F-]{36})$/;

/** A key as it is configured or kept in the key file. */
export interface HashKey {
  readonly id: string;
  /** The secret; its UTF-8 bytes are the HMAC key. */
  readonly key: string;
  /** When it was made, ms since the epoch; absent where nobody wrote it down. */
  readonly createdAtMs?: number | undefined;
  /** From when it makes references, ms since the epoch; absent = from the beginning. */
  readonly activeFromMs?: number | undefined;
}

/** `next` = makes second references until it takes over; `resolving` = only finds what it made before. */
export const KEY_STATES = ['next', 'current', 'resolving'] as const;
export type KeyState = (typeof KEY_STATES)[number];

/** What may be told of a key: never the key. */
export interface KeyFacts {
  readonly id: string;
  readonly state: KeyState;
  readonly createdAtMs: number | undefined;
  readonly activeFromMs: number | undefined;
  /** When its successor takes or took over; absent where there is none. */
  readonly activeUntilMs: number | undefined;
}

interface Key {
  readonly facts: KeyFacts;
  readonly hmac: HmacSha256;
}

/**
 * Makes references with a secret key. Of several keys, the one that became active last is the current one,
 * and the first of the list where none says when (the order of old key files). One key may wait for its
 * time: until then everything is also named under it (`next`), so that tokens which live across the change
 * stay one token (docs/adr/0007-key-rotation.md). Older keys only resolve.
 *
 * The state changes in `advance` and `replace` only, so that all references of one event are of one state.
 */
export class KeyRing {
  #hashKeys: readonly HashKey[];
  #keys: readonly Key[];
  #current: Key;
  #next: KeyRing | undefined;
  #incomplete = 0;

  constructor(keys: readonly HashKey[], nowMs = Date.now()) {
    const state = stateOf(keys, nowMs);
    this.#hashKeys = keys;
    this.#keys = state.keys;
    this.#current = state.current;
    this.#next = nextRing(keys, state.keys);
  }

  /** A ring of one key, whose id is derived from the key so that every process names it alike. */
  static fromKey(key: string): KeyRing {
    return new KeyRing([{ id: keyIdOf(key), key }]);
  }

  get currentId(): string {
    return this.#current.facts.id;
  }

  /** The key that waits for its time, as a ring of its own; undefined while no rotation is in progress. */
  get next(): KeyRing | undefined {
    return this.#next;
  }

  /** Events since the start whose references were made elsewhere, without their names under the next key. */
  get incomplete(): number {
    return this.#incomplete;
  }

  countIncomplete(): void {
    this.#incomplete += 1;
  }

  /** The keys: the next one first, then the current one, then the others, latest first. */
  get keys(): readonly KeyFacts[] {
    return this.#keys.map((k) => k.facts);
  }

  /** The current reference of a value; '' for ''. The value must be canonical already. */
  ref(domain: RefDomain, value: string): Ref {
    return value === '' ? '' : this.#current.hmac.uuid(domain, value);
  }

  /** A token by its `jti`: a UUID is its own reference (`uuidOfJti`); anything else is keyed. */
  refOfJti(jti: string): Ref {
    return uuidOfJti(jti) ?? this.ref('token', jti);
  }

  /** All references a value may be stored under, the current first. */
  resolve(domain: RefDomain, value: string): readonly { key_id: string; ref: Ref }[] {
    const others = this.#keys.filter((k) => k !== this.#current);
    return [this.#current, ...others].map((k) => ({
      key_id: k.facts.id,
      ref: k.hmac.uuid(domain, value),
    }));
  }

  /** Lets the next key take over when its time has come. Returns whether another key is current now. */
  advance(nowMs: number): boolean {
    const { activeFromMs, activeUntilMs } = this.#current.facts;
    const isStill = (activeFromMs ?? nowMs) <= nowMs && nowMs < (activeUntilMs ?? Infinity);
    return isStill ? false : this.replace(this.#hashKeys, nowMs);
  }

  /**
   * Takes the keys of a changed key file. They must hold the current key: without it, nothing stored would
   * join (`config_invalid`, and the ring stays as it is). Returns whether another key is current now.
   */
  replace(keys: readonly HashKey[], nowMs: number): boolean {
    const before = this.currentId;
    if (!keys.some((k) => k.id === before)) {
      throw new GrantscopeError(
        'config_invalid',
        `key ring: key ${before}, which makes the references now, is not among the new keys; restore it`,
      );
    }
    const state = stateOf(keys, nowMs);
    this.#hashKeys = keys;
    this.#keys = state.keys;
    this.#current = state.current;
    this.#next = nextRing(keys, state.keys);
    return this.currentId !== before;
  }
}

/**
 * The UUID in a `jti`, which is its own reference, also behind a prefix (Keycloak 26 writes
 * `onrtac:<uuid>`, others `urn:uuid:<uuid>`), because logs give it with and without; undefined for others.
 */
export function uuidOfJti(jti: string): Ref | undefined {
  const name = PREFIXED_UUID.exec(jti)?.[1] ?? jti;
  return isUuid(name) ? name.toLowerCase() : undefined;
}

/** The name of a key, which says nothing about it. */
export function keyIdOf(key: string): string {
  return createHash('sha256').update('grantscope key id\0').update(key).digest('hex').slice(0, 8);
}

const startOf = (key: HashKey): number => key.activeFromMs ?? Number.NEGATIVE_INFINITY;

function stateOf(
  keys: readonly HashKey[],
  nowMs: number,
): { readonly keys: readonly Key[]; readonly current: Key } {
  // Latest first; the sort is stable, so that old files keep their order.
  const latestFirst = [...keys].sort((a, b) =>
    startOf(a) === startOf(b) ? 0 : startOf(b) - startOf(a),
  );
  // Where the clock is wrong and every key is yet to come, the earliest one works.
  const started = latestFirst.findIndex((k) => startOf(k) <= nowMs);
  const currentAt = started === -1 ? latestFirst.length - 1 : started;
  const all = latestFirst.map((k, i): Key => {
    const state = i < currentAt ? 'next' : i === currentAt ? 'current' : 'resolving';
    const successor = latestFirst[i - 1];
    return {
      hmac: new HmacSha256(Buffer.from(k.key, 'utf8')),
      facts: {
        id: k.id,
        state,
        createdAtMs: k.createdAtMs,
        activeFromMs: k.activeFromMs,
        activeUntilMs: successor?.activeFromMs,
      },
    };
  });
  const current = all[currentAt];
  if (current === undefined) throw new GrantscopeError('config_invalid', 'key ring: no key');
  return { keys: all, current };
}

/** The first key that is yet to come, alone. */
function nextRing(hashKeys: readonly HashKey[], keys: readonly Key[]): KeyRing | undefined {
  const next = keys.filter((k) => k.facts.state === 'next').at(-1);
  const own = hashKeys.find((k) => k.id === next?.facts.id);
  return own === undefined ? undefined : new KeyRing([{ id: own.id, key: own.key }]);
}
