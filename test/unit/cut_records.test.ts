import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cutRecords,
  DEPTH_MAX,
  nestingOf,
  RECORDS_MAX,
} from '../../collector/receivers/cut_records.ts';
import { defineSource } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';

const source = (...forms: ('json' | 'text')[]) =>
  defineSource({
    id: 'x',
    title: 'x',
    vendor: 'x',
    product: 'x',
    description: 'x',
    forms,
    provides: [],
    confirmed_by: 'documents',
    references: [],
    parse: () => ({ ok: true, events: [] }),
  });
const cut = (text: string | Buffer, ...forms: ('json' | 'text')[]) => [
  ...cutRecords(Buffer.from(text), source(...forms)),
];
const json = (value: unknown) => ({ ok: true, record: { form: 'json', value } });
const line = (text: string) => ({ ok: true, record: { form: 'text', line: text } });

describe('cutRecords', () => {
  it('takes one object, pretty or not, an array, and lines', () => {
    expect(cut('{"a":1}', 'json')).toEqual([json({ a: 1 })]);
    expect(cut('{\n  "a": 1\n}\n', 'json')).toEqual([json({ a: 1 })]);
    expect(cut('[{"a":1},{"a":2}]', 'json')).toEqual([json({ a: 1 }), json({ a: 2 })]);
    expect(cut('{"a":1}\r\n\n {"a":2}\n', 'json')).toEqual([json({ a: 1 }), json({ a: 2 })]);
    expect(cut('  \n', 'json')).toEqual([]);
  });

  it('mixes text and JSON lines for a source that writes both', () => {
    expect(cut('2026 type=LOGIN\n{"a":1}\n[not json', 'json', 'text')).toEqual([
      line('2026 type=LOGIN'),
      json({ a: 1 }),
      line('[not json'),
    ]);
  });

  it("takes the records out of a vendor's container, whole, in arrays and in lines", () => {
    const vendor = defineSource({
      ...source('json'),
      unwrap: (value) => (value as { Records?: unknown[] }).Records,
    });
    const cutVendor = (text: string) => [...cutRecords(Buffer.from(text), vendor)];
    const notAnObject = {
      ok: false,
      code: 'not_an_object',
      message: 'a record must be a JSON object, not a number',
    };
    expect(cutVendor('{"Records":[{"a":1},7,{"a":2}]}')).toEqual([
      json({ a: 1 }),
      notAnObject,
      json({ a: 2 }),
    ]);
    expect(cutVendor('[{"Records":[{"a":1}]},{"b":2}]')).toEqual([json({ a: 1 }), json({ b: 2 })]);
    expect(cutVendor('{"Records":[{"a":1},{"a":2}]}\n{"b":3}\n{"Records":[]}')).toEqual([
      json({ a: 1 }),
      json({ a: 2 }),
      json({ b: 3 }),
    ]);
    expect(cutVendor('{"Records":[]}')).toEqual([]);
    const many = `{"Records":[${'{},'.repeat(RECORDS_MAX)}{}]}`;
    expect(() => cutVendor(many)).toThrow('more than 100000 records');
    expect(() => cutVendor(`{"b":1}\n${many}`)).toThrow('more than 100000 records');
  });

  it('refuses a bad record by itself and keeps the others', () => {
    expect(cut('{"a":1}\n{"a":\n7\n{"b":2}', 'json')).toEqual([
      json({ a: 1 }),
      { ok: false, code: 'not_json', message: 'not a JSON value' },
      { ok: false, code: 'not_json', message: 'not a JSON value' },
      json({ b: 2 }),
    ]);
    expect(cut('[1,null,[],{"a":1}]', 'json')).toEqual([
      { ok: false, code: 'not_an_object', message: 'a record must be a JSON object, not a number' },
      { ok: false, code: 'not_an_object', message: 'a record must be a JSON object, not null' },
      { ok: false, code: 'not_an_object', message: 'a record must be a JSON object, not an array' },
      json({ a: 1 }),
    ]);
  });

  it.each(['[{"a":1}', 'hello', '{"a":1', '\n<xml/>'])(
    'throws where nothing can be read: %j',
    (text) => {
      expect(() => cut(text, 'json')).toThrow(expect.objectContaining({ code: 'body_unreadable' }));
    },
  );

  it('refuses invalid UTF-8, too many records and deep nesting', () => {
    expect(() => cut(Buffer.from([0x7b, 0xff, 0x7d]), 'json')).toThrow('body: not valid UTF-8');
    expect(() => cut('{}\n'.repeat(RECORDS_MAX + 1), 'json')).toThrow(
      `at most ${RECORDS_MAX} in one request`,
    );
    const nested = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
    expect(cut(nested(DEPTH_MAX), 'json')[0]?.ok).toBe(true);
    expect(cut(nested(DEPTH_MAX + 1), 'json')).toEqual([
      { ok: false, code: 'too_deep', message: 'nested deeper than 64 levels' },
    ]);
    expect(cut(`${nested(100_000)}\n{"a":1}`, 'json')[1]).toEqual(json({ a: 1 }));
    // Pretty-printed over several lines, and in an array: the depth counts all the same.
    expect(cut(nested(DEPTH_MAX + 1).replaceAll(':', ':\n'), 'json').some((r) => r.ok)).toBe(false);
    expect(cut(`[{"a":1},\n${nested(DEPTH_MAX + 1)}]`, 'json').map((r) => r.ok)).toEqual([
      true,
      false,
    ]);
  });

  it('keeps __proto__ a plain key', () => {
    const [record] = cut('{"__proto__":{"polluted":true}}', 'json');
    expect(record?.ok).toBe(true);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it('gives records or a typed error for any bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((t) => Buffer.from(t)),
        ),
        fc.constantFrom<('json' | 'text')[]>(['json'], ['text'], ['json', 'text']),
        (bytes, forms) => {
          try {
            for (const record of cut(Buffer.from(bytes), ...forms))
              expect(typeof record.ok).toBe('boolean');
          } catch (error) {
            expect(error).toBeInstanceOf(GrantscopeError);
          }
        },
      ),
      { numRuns: 1_000 },
    );
  });
});

describe('nestingOf', () => {
  it('does not count brackets inside strings', () => {
    expect(nestingOf('{"a":"[[[\\"[[","b":[1]}')).toBe(2);
  });
});
