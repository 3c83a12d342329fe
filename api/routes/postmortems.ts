import { Postmortem, PostmortemRequest } from '../../model/postmortem.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { RequestProblem } from '../problems.ts';

export default defineRoutes({
  id: 'postmortems',
  description: 'Incidents, written down from what is stored.',
  routes: [
    jsonRoute({
      method: 'post',
      path: '/api/v1/postmortems',
      operationId: 'writePostmortem',
      summary: 'Tells an incident: impact, times, tokens and their uses, gaps and notifications.',
      description:
        'Nothing is stored by this. Without an entity it is about all active findings of severity medium and above.',
      rateLimit: 'operation',
      body: PostmortemRequest,
      response: Postmortem,
      problems: [404, 413, 415, 422],
      handle: async ({ runtime }, { body }) => {
        const operation = runtime.operations.get('postmortem');
        if (operation === undefined)
          throw new RequestProblem('not_found', 'this process writes no postmortems');
        return (await operation(body, () => undefined)) as Postmortem;
      },
    }),
  ],
});
