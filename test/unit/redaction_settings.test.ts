import { describe, expect, it } from 'vitest';
import { createScrubber, scrubberOptions } from '../../collector/processors/scrub.ts';
import { RedactionSettings } from '../../runtime/redaction_settings.ts';

const problemsOf = (value: unknown): string[] => {
  const parsed = RedactionSettings.safeParse(value);
  if (parsed.success) return [];
  return parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`);
};
const scrubber = (value: unknown) =>
  createScrubber(scrubberOptions(RedactionSettings.parse(value)));
const R = '[redacted]';
const token = ['aB3xY9kLm2', 'Qw7Zr5Tn8Vc', '4Ds6Fg1Hj0'].join('');

describe('redaction settings', () => {
  it('refuse what cannot be kept, naming the path and what is allowed', () => {
    expect(problemsOf({ allowed_keys: ['page_token', 'Client-Secret'] })).toEqual([
      'allowed_keys.1: Client-Secret is a credential by the protocols and is never kept; allowed: names that only look like one, such as page_token',
    ]);
    expect(problemsOf({ extra_keys: ['x_id'], allowed_keys: ['X-Id'] })).toEqual([
      'allowed_keys.0: X-Id is in extra_keys, too; a key is either dropped or kept',
    ]);
  });

  it('refuse patterns that could be slow or match everything, and names twice', () => {
    const [first] = problemsOf({ patterns: [{ name: 'a', regex: '(a)\\1' }] });
    expect(first).toBe(
      'patterns.0.regex: at position 5: back-references are not allowed; allowed: literals, sets, ( ) (?: ) | * + ? {m,n} . \\d \\w \\s ^ $ \\b, and (?i) at the start',
    );
    expect(problemsOf({ patterns: [{ name: 'w', regex: '\\w{5,}' }] })[0]).toMatch(
      /^patterns\.0\.regex: matches within \[redacted\], which stands where a secret stood;/,
    );
    expect(problemsOf({ patterns: [{ name: 'A', regex: 'x' }] })).toEqual([
      'patterns.0.name: must be 1-40 of a-z, 0-9 and _',
    ]);
    const twice = { name: 'a', regex: 'x' };
    expect(problemsOf({ patterns: [twice, twice] })).toEqual([
      'patterns.1.name: a is taken; every pattern needs a name of its own',
    ]);
    const many = Array.from({ length: 51 }, (_, i) => ({ name: `p${i}`, regex: 'x' }));
    expect(problemsOf({ patterns: many })).toHaveLength(1);
  });
});

describe('the scrubber of the settings', () => {
  it('takes the patterns out of every text and id, also where they are encoded', () => {
    const { scrubText, scrubIdentifier } = {
      scrubText: (t: string) => s.scrubText(t).text,
      scrubIdentifier: (t: string) => s.scrubIdentifier(t).text,
    };
    const s = scrubber({ patterns: [{ name: 'employee', regex: '\\bEMP-[0-9]{6}\\b' }] });
    expect(scrubText('by EMP-123456 and EMP-12345')).toBe(`by ${R} and EMP-12345`);
    expect(scrubText('by EMP%2D123456')).toBe(`by ${R}`);
    expect(scrubIdentifier('EMP-123456')).toBe(R);
    expect(s.scrubAttributes({ note: 'EMP-123456' }).attributes).toEqual({ note: R });
    expect(s.scrubText(s.scrubText('EMP-123456').text).changed).toBe(false);
  });

  it('keeps allowed keys, but no token under them', () => {
    const s = scrubber({ allowed_keys: ['page_token'] });
    expect(s.scrubText('page_token=next7&pageToken=8').changed).toBe(false);
    expect(s.isSecretKey('app.page_token')).toBe(false);
    expect(s.isSecretKey('access_token')).toBe(true);
    expect(s.isSecretKey('cookie.page_token')).toBe(true);
    expect(s.scrubText(`page_token=${token}`).text).toBe(`page_token=${R}`);
    expect(createScrubber().scrubText('page_token=next7').text).toBe(`page_token=${R}`);
  });

  it('takes 1 MB of a hostile text for a pattern in linear time', () => {
    const s = scrubber({ patterns: [{ name: 'evil', regex: '(a+)+b' }] });
    const began = performance.now();
    expect(s.scrubText('a'.repeat(1_000_000)).text).not.toContain(R);
    // Measured: 20 ms.
    expect(performance.now() - began).toBeLessThan(2_000);
  });
});
