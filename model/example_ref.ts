import { uuidFromHex, type Ref } from './ids.ts';

/** FNV-1a, 32 bit (public domain): enough to spread a handful of example names. */
function fnv1a(text: string, seed: number): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < text.length; i += 1) {
    hash ^= text.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193) >>> 0;
  }
  // A last mix, so that names that differ in their final letter differ in all digits.
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) >>> 0;
}

/**
 * A reference for examples and tests: the same name always gives the same UUID-shaped text, and no secret
 * was ever behind it. Not for real data: it has no key (see runtime/keyring.ts).
 */
export function exampleRef(name: string): Ref {
  const hex = [1, 2, 3, 4].map((seed) => fnv1a(name, seed).toString(16).padStart(8, '0')).join('');
  return uuidFromHex(hex);
}
