/**
 * How a stored event carries what the next key calls its tokens, people, sessions and grants while a rotation
 * is in progress (docs/adr/0007-key-rotation.md): tokens by a second mention of kind `hmac_next` right behind
 * the first, everything else in `ext` under these names. The store's migration 0013 reads both.
 */
export const NEXT_EXT_PREFIX = 'grantscope.next.';

/** What `ext` may hold under `NEXT_EXT_PREFIX`: the id of the next key, and next names of fields. */
export const NEXT_EXT_NAMES = [
  'key_id',
  'subject_ref',
  'actor_ref',
  'session_ref',
  'grant_ref',
  'client_ip',
  'network',
] as const;
export type NextExtName = (typeof NEXT_EXT_NAMES)[number];

/** In `redaction.fields` where the redaction stage itself wrote next names: no sender can claim it. */
export const NEXT_REFERENCES_FIELD = 'next_references';
