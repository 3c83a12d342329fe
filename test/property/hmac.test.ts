import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { uuidFromHex } from '../../model/ids.ts';
import { HmacSha256 } from '../../runtime/hmac.ts';

// The fast HMAC gives what node's own gives, for keys and messages around every block boundary.

const unit = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 700 }),
  fc.string({ unit: 'grapheme-ascii', maxLength: 130 }),
  fc.constantFrom('', '\0', '\ud800', 'a'.repeat(170), 'é'.repeat(85), 'a'.repeat(10_000)),
);

it('equals crypto.createHmac', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      unit,
      unit,
      (key, domain, value) => {
        const expected = createHmac('sha256', key).update(`${domain}\0${value}`).digest('hex');
        expect(new HmacSha256(Buffer.from(key)).uuid(domain, value)).toBe(uuidFromHex(expected));
      },
    ),
    { numRuns: 500 },
  );
});
