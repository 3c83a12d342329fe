import { createHmac } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { KeyRing, openKeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY, temporaryFolder } from '../harness.ts';

const folders: { remove: () => void }[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) folder.remove();
});

function newFolder(): string {
  const folder = temporaryFolder();
  folders.push(folder);
  return folder.path;
}

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
});

describe('openKeyRing', () => {
  it('makes a key once, for its owner alone, and finds it again', () => {
    const keyFile = join(newFolder(), 'keys.json');
    const first = openKeyRing({ hashKey: undefined, keyFile });
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    const again = openKeyRing({ hashKey: undefined, keyFile });
    expect(again.ref('token', 'abc')).toBe(first.ref('token', 'abc'));
  });

  it('prefers the configured key and writes no file', () => {
    const keyFile = join(newFolder(), 'keys.json');
    expect(openKeyRing({ hashKey: TEST_KEY, keyFile }).ref('token', 'a')).toBe(
      KeyRing.fromKey(TEST_KEY).ref('token', 'a'),
    );
    expect(() => readFileSync(keyFile)).toThrow('ENOENT');
  });

  it('refuses to make a new key where data waits for the old one', () => {
    const folder = newFolder();
    mkdirSync(join(folder, 'clickhouse'));
    expect(() => openKeyRing({ hashKey: undefined, keyFile: join(folder, 'keys.json') })).toThrow(
      /keys\.json is missing, but there is data .* restore the file/,
    );
  });

  it('refuses a file that is none, without printing it', () => {
    const keyFile = join(newFolder(), 'keys.json');
    writeFileSync(keyFile, '{"keys":[{"id":"x","key":"hush-hush"}]}');
    expect(() => openKeyRing({ hashKey: undefined, keyFile })).toThrow(/not a key file/);
    expect(() => openKeyRing({ hashKey: undefined, keyFile })).not.toThrow(/hush/);
  });
});
