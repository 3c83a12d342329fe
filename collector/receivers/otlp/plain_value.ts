import { setOwn } from '../../set_own.ts';
import type { Attributes, AttributeValue } from './types.ts';

/** What JSON can hold. */
export type PlainValue =
  string | number | boolean | null | readonly PlainValue[] | { readonly [key: string]: PlainValue };

/**
 * An attribute value as source adapters take it: 64-bit integers beyond the safe ones become decimal text, bytes
 * become base64, numbers that JSON lacks (NaN, Infinity) become their names.
 */
export function plainValue(value: AttributeValue): PlainValue {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Buffer.isBuffer(value)) return value.toString('base64');
  if (isList(value)) return value.map(plainValue);
  return plainAttributes(value);
}

function isList(value: AttributeValue): value is readonly AttributeValue[] {
  return Array.isArray(value);
}

/** As `plainValue`, for all attributes; the result is the caller's own. */
export function plainAttributes(attributes: Readonly<Attributes>): Record<string, PlainValue> {
  const plain: Record<string, PlainValue> = {};
  for (const key of Object.keys(attributes)) {
    const value = attributes[key];
    if (value === undefined) continue;
    // Text is the rule; a call saved per attribute shows in the receiver's cost.
    setOwn(plain, key, typeof value === 'string' ? value : plainValue(value));
  }
  return plain;
}
