import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { GrantscopeError } from '../../runtime/errors.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { defineRoutes, rawRoute } from '../define_route.ts';
import { Identifier } from '../schemas/primitives.ts';

export default defineRoutes({
  id: 'runbooks',
  description: 'What to do about a finding or an alert.',
  routes: [
    rawRoute({
      method: 'get',
      path: '/api/v1/runbooks/{id}',
      operationId: 'getRunbook',
      summary: 'One runbook, as Markdown.',
      // An identifier has no dot and no slash, so it cannot leave the folder.
      params: z.strictObject({ id: Identifier }),
      problems: [404],
      produces: 'text/markdown',
      write: async (_context, { params }, { response }) => {
        const file = join(packageRoot, 'alerts', 'runbooks', `${params.id}.md`);
        const text = await readFile(file, 'utf8').catch((error: unknown) => {
          if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
            throw new GrantscopeError('not_found', 'path.id: no runbook has this id');
          throw error;
        });
        response.setHeader('content-type', 'text/markdown; charset=utf-8');
        response.end(text);
      },
    }),
  ],
});
