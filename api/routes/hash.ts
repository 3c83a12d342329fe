import { z } from 'zod';
import { REF_DOMAINS } from '../../model/ids.ts';
import { storedReferences } from '../../runtime/token_reference.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { HASH_VALUE_LENGTH_MAX } from '../limits.ts';
import { HashAnswer } from '../schemas/investigation_view.ts';

const DOMAINS = REF_DOMAINS.filter((d) => d !== 'text');

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
        Promise.resolve({
          references: [...storedReferences(runtime.keyRing, body.domain, body.value)],
        }),
    }),
  ],
});
