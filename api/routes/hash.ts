import { z } from 'zod';
import { isUuid, REF_DOMAINS } from '../../model/ids.ts';
import type { KeyRing } from '../../runtime/keyring.ts';
import { tokenName } from '../../runtime/token_reference.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { HASH_VALUE_LENGTH_MAX } from '../limits.ts';
import { HashAnswer } from '../schemas/investigation_view.ts';

const DOMAINS = REF_DOMAINS.filter((d) => d !== 'text');

function referencesOf(
  keyRing: KeyRing,
  domain: (typeof DOMAINS)[number],
  value: string,
): HashAnswer['references'] {
  if (domain !== 'token')
    return keyRing.resolve(domain, value).map((r) => ({ ...r, ref_kind: 'hmac' }));
  const { name, ref_kind } = tokenName(value);
  if (ref_kind === 'jti' && isUuid(name))
    return [{ key_id: '', ref: name.toLowerCase(), ref_kind }];
  return keyRing.resolve('token', name).map((r) => ({ ...r, ref_kind }));
}

export default defineRoutes({
  id: 'hash',
  description: 'From a raw value to the references under which it is stored.',
  routes: [
    jsonRoute({
      method: 'post',
      path: '/api/v1/hash',
      operationId: 'hashValue',
      summary: 'The references of a token, subject, session or grant, one per key.',
      description: 'The value is neither logged nor stored. The current key comes first.',
      rateLimit: 'hash',
      body: z.strictObject({
        value: z.string().max(HASH_VALUE_LENGTH_MAX).regex(/\S/, 'must not be empty'),
        domain: z.enum(DOMAINS).default('token'),
      }),
      response: HashAnswer,
      problems: [413, 415],
      handle: ({ runtime }, { body }) =>
        Promise.resolve({ references: referencesOf(runtime.keyRing, body.domain, body.value) }),
    }),
  ],
});
