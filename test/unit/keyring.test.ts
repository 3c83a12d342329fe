import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { KeyRing, type HashKey } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

describe('KeyRing', () => {
  it('makes the first 128 bits of HMAC(key, domain 0 value), apart by domain', () => {
    const ring = KeyRing.fromKey(TEST_KEY);
    const hex = createHmac('sha256', TEST_KEY).update('token\0abc').digest('hex');
    expect(ring.ref('token', 'abc').replaceAll('-', '')).toBe(hex.slice(0, 32));
    expect(ring.ref('subject', 'abc')).not.toBe(ring.ref('token', 'abc'));
    expect(ring.ref('token', '')).toBe('');
  });

  it('takes a jti that is a UUID as it is, and keys any other', () => {
    const ring = KeyRing.fromKey(TEST_KEY);
    const uuid = '9F86D081-884C-7D65-9A2F-EAA0C55AD015';
    expect(ring.refOfJti(uuid)).toBe(uuid.toLowerCase());
    expect(ring.refOfJti(`onrtac:${uuid}`)).toBe(uuid.toLowerCase());
    expect(ring.refOfJti('42')).toBe(ring.ref('token', '42'));
  });

  it('writes under the first key and resolves under all', () => {
    const old = KeyRing.fromKey('o'.repeat(32));
    const both = new KeyRing([
      { id: 'new', key: 'n'.repeat(32) },
      { id: 'old', key: 'o'.repeat(32) },
    ]);
    expect(both.currentId).toBe('new');
    expect(both.resolve('token', 'abc')).toEqual([
      { key_id: 'new', ref: both.ref('token', 'abc') },
      { key_id: 'old', ref: old.ref('token', 'abc') },
    ]);
  });

  it('names a value under the next key too while that one waits, and all ways back', () => {
    const T = 1_000_000;
    const keys: HashKey[] = [
      { id: 'first', key: 'f'.repeat(32) },
      { id: 'second', key: 's'.repeat(32), activeFromMs: T },
    ];
    const second = KeyRing.fromKey('s'.repeat(32)).ref('token', 'abc');
    const first = KeyRing.fromKey('f'.repeat(32)).ref('token', 'abc');
    const ring = new KeyRing(keys, T - 1);
    expect(ring.next?.ref('token', 'abc')).toBe(second);
    expect(ring.next?.next).toBeUndefined();
    expect(ring.resolve('token', 'abc')).toEqual([
      { key_id: 'first', ref: first },
      { key_id: 'second', ref: second },
    ]);
    expect(ring.advance(T)).toBe(true);
    expect(ring.resolve('token', 'abc')).toEqual([
      { key_id: 'second', ref: second },
      { key_id: 'first', ref: first },
    ]);
    // A clock that is set back: the first key works again, and the second waits.
    expect(ring.advance(T - 1)).toBe(true);
    expect([ring.currentId, ring.next?.currentId]).toEqual(['first', 'second']);
  });

  it('refuses keys without the current one, and stays as it was', () => {
    const ring = KeyRing.fromKey(TEST_KEY);
    const before = ring.ref('token', 'abc');
    expect(() => ring.replace([{ id: 'x', key: 'x'.repeat(32) }], 0)).toThrow('is not among');
    expect(ring.ref('token', 'abc')).toBe(before);
    expect(() => new KeyRing([])).toThrow('no key');
  });
});
