import { z } from 'zod';
import { compilePattern, PatternError } from './linear_pattern.ts';

/** Patterns in one configuration. Each is run over every text, so their number is a cost. */
export const PATTERNS_MAX = 50;

/** Names whose values are credentials by the protocols themselves; no setting keeps them. In one spelling, see `plainKey`. */
const NEVER_ALLOWED = new Set(
  (
    'authorization proxyauthorization cookie setcookie dpop password passwd pwd passphrase secret clientsecret ' +
    'clientassertion assertion accesstoken refreshtoken idtoken idtokenhint token tokens subjecttoken actortoken ' +
    'logouttoken registrationaccesstoken code authorizationcode codeverifier devicecode usercode state nonce ' +
    'samlresponse samlrequest relaystate requesturi sessionid sessionstate apikey privatekey credentials otp totp pin'
  ).split(' '),
);

/** A key without what spellings differ in: `X-Page_Token` and `xPageToken` are one. */
export function plainKey(key: string): string {
  return key.toLowerCase().replace(/[\s_-]/g, '');
}

/** What redaction writes; a pattern that matched it would never come to an end. */
const MARK = '[redacted]';

const Key = z.string().min(1).max(128);

const AllowedKey = Key.refine((key) => !NEVER_ALLOWED.has(plainKey(key)), {
  error: (issue) =>
    `${String(issue.input)} is a credential by the protocols and is never kept; allowed: names that only look like one, such as page_token`,
});

const Pattern = z.strictObject({
  /** Shown where the pattern struck: 1-40 of a-z, 0-9 and _. */
  name: z.string().regex(/^[a-z][a-z0-9_]{0,39}$/, 'must be 1-40 of a-z, 0-9 and _'),
  /** What is secret; everything that any match covers goes. */
  regex: z.string().superRefine((source, context) => {
    try {
      compilePattern(source).find(MARK, () => {
        throw new PatternError(`matches within ${MARK}, which stands where a secret stood`);
      });
    } catch (error) {
      if (!(error instanceof PatternError)) throw error;
      context.addIssue({
        code: 'custom',
        message: `${error.message}; allowed: literals, sets, ( ) (?: ) | * + ? {m,n} . \\d \\w \\s ^ $ \\b, and (?i) at the start`,
      });
    }
  }),
});

/** `redaction` of grantscope.yaml: what an installation adds to, or takes from, the rules that come with the product. */
export const RedactionSettings = z
  .strictObject({
    /** More keys whose values are dropped wherever they appear in free-form data. */
    extra_keys: z.array(Key).default([]),
    /** Keys that look like a secret's and are none. Their values are still searched for tokens and keys of known shape. */
    allowed_keys: z.array(AllowedKey).default([]),
    /** More that is secret in any text, as regular expressions that match in linear time. */
    patterns: z.array(Pattern).max(PATTERNS_MAX).default([]),
    /** `keep` (detectors need addresses), `truncate` (/24, /48) or `hash`. */
    client_ip: z.enum(['keep', 'truncate', 'hash']).default('keep'),
  })
  .superRefine(({ extra_keys, allowed_keys, patterns }, context) => {
    const extra = new Set(extra_keys.map(plainKey));
    allowed_keys.forEach((key, i) => {
      if (extra.has(plainKey(key)))
        context.addIssue({
          code: 'custom',
          path: ['allowed_keys', i],
          message: `${key} is in extra_keys, too; a key is either dropped or kept`,
        });
    });
    patterns.forEach(({ name }, i) => {
      if (patterns.findIndex((p) => p.name === name) < i)
        context.addIssue({
          code: 'custom',
          path: ['patterns', i, 'name'],
          message: `${name} is taken; every pattern needs a name of its own`,
        });
    });
  });
export type RedactionSettings = z.infer<typeof RedactionSettings>;
