import { defineRoutes, rawRoute } from '../define_route.ts';

export default defineRoutes({
  id: 'stream',
  description: 'News for open consoles.',
  routes: [
    rawRoute({
      method: 'get',
      path: '/api/v1/stream',
      operationId: 'streamChanges',
      summary: 'Server-sent events: hello, findings_changed {ids}, slos_changed.',
      description: 'An event only says "look again"; one that is lost is made up for by the next.',
      produces: 'text/event-stream',
      write: ({ stream }, _input, { response }) => {
        stream.attach(response);
        return Promise.resolve();
      },
    }),
  ],
});
