import { z } from 'zod';
import { listClients } from '../../store/queries/clients.ts';
import { decodeCursor, encodeCursor } from '../cursor.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { ClientList } from '../schemas/overview_view.ts';
import { CursorText, PageLimit } from '../schemas/primitives.ts';

/** Days that a client's activity is counted over, unless the caller asks for others. */
const DAYS_DEFAULT = 7;
const DAYS_MAX = 90;
const DAY_MS = 86_400_000;
const ORDER = 'client_id';

export default defineRoutes({
  id: 'clients',
  description: 'OAuth clients as their events show them.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/clients',
      operationId: 'listClients',
      summary: 'Clients by id, with their activity, a page at a time.',
      query: z.strictObject({
        days: z.coerce
          .number()
          .int()
          .min(1)
          .max(DAYS_MAX)
          .default(DAYS_DEFAULT)
          .describe('How far back activity counts.'),
        limit: PageLimit,
        cursor: CursorText.optional(),
      }),
      response: ClientList,
      handle: async ({ scope, runtime }, { query }) => {
        const after = decodeCursor(ORDER, query.cursor)?.value;
        const sinceMs = runtime.clock.nowMs() - query.days * DAY_MS;
        const page = await listClients(scope, { sinceMs, limit: query.limit, after });
        return { items: page.items, next_cursor: encodeCursor(ORDER, page.next) };
      },
    }),
  ],
});
