import { z } from 'zod';
import { defineRoutes, rawRoute, type ApiContext } from '../define_route.ts';
import { OPERATIONS_MAX } from '../limits.ts';
import { problemOf, RequestProblem } from '../problems.ts';
import type { ServerResponse } from 'node:http';
import type { Operation } from '../../runtime/operations.ts';

/** Media type under which progress is told, one JSON object a line. */
const LINES = 'application/x-ndjson';

/** Operations that run now, over all requests of this process. */
let running = 0;

function find(context: ApiContext, name: string): Operation {
  const { operations } = context.runtime;
  const operation = operations.get(name);
  if (operation !== undefined) return operation;
  throw new RequestProblem(
    'not_found',
    `path.name: no operation has this name; known: ${operations.names.join(', ') || 'none'}`,
    [{ path: 'path.name', message: 'unknown', allowed: operations.names.join(', ') }],
  );
}

/** `{"progress":{"done":..,"total":..}}` lines, then `{"result":..}` or `{"problem":..}`. */
async function answerInLines(
  response: ServerResponse,
  operation: Operation,
  input: unknown,
): Promise<void> {
  response.writeHead(200, { 'content-type': LINES });
  const write = (line: object): void => void response.write(`${JSON.stringify(line)}\n`);
  try {
    const result = await operation(input, (done, total) => write({ progress: { done, total } }));
    write({ result });
  } catch (error) {
    write({ problem: problemOf(error) });
  }
  response.end();
}

export default defineRoutes({
  id: 'operations',
  description: 'Long commands that need the process which holds the store.',
  routes: [
    rawRoute({
      method: 'post',
      path: '/api/v1/operations/{name}',
      operationId: 'runOperation',
      summary: 'Runs an operation with the body as its input and answers its result.',
      description: `With \`Accept: ${LINES}\` progress comes first, one JSON object a line.`,
      rateLimit: 'operation',
      params: z.strictObject({ name: z.string().max(100) }),
      body: z.unknown(),
      produces: 'application/json',
      problems: [404, 413, 415, 422],
      write: async (context, { params, body }, { request, response }) => {
        const operation = find(context, params.name);
        if (running >= OPERATIONS_MAX)
          throw new RequestProblem('rate_limited', `${OPERATIONS_MAX} operations run already`);
        running += 1;
        try {
          if (request.headers.accept === LINES) {
            await answerInLines(response, operation, body);
            return;
          }
          const result = await operation(body, () => undefined);
          response.setHeader('content-type', 'application/json; charset=utf-8');
          response.end(JSON.stringify(result ?? null));
        } finally {
          running -= 1;
        }
      },
    }),
  ],
});
