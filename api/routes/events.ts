import { z } from 'zod';
import { EVENT_KINDS, OUTCOMES } from '../../model/kinds.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { getEvent, listEvents } from '../../store/queries/events.ts';
import { decodeCursor, encodeCursor, isTimeKey } from '../cursor.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { EventList, StoredEvent } from '../schemas/event_view.ts';
import { CursorText, Instant, PageLimit, Reference, Text } from '../schemas/primitives.ts';

/** The one order of events: newest first. */
const ORDER = '-time';

const Filters = z.strictObject({
  kind: z.array(z.enum(EVENT_KINDS)).optional(),
  outcome: z.array(z.enum(OUTCOMES)).optional(),
  client_id: Text.optional(),
  source_id: Text.optional(),
  network: Text.optional(),
  subject_ref: Reference.optional(),
  session_ref: Reference.optional(),
  grant_ref: Reference.optional(),
  from: Instant.optional(),
  to: Instant.optional(),
  limit: PageLimit,
  cursor: CursorText.optional(),
});

export default defineRoutes({
  id: 'events',
  description: 'Stored events, redacted before they were stored.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/events',
      operationId: 'listEvents',
      summary: 'Events that match all filters, newest first, a page at a time.',
      query: Filters,
      response: EventList,
      handle: async ({ scope }, { query }) => {
        const { limit, cursor, ...filter } = query;
        const after = decodeCursor(ORDER, cursor, isTimeKey);
        const page = await listEvents(scope, filter, { limit, after });
        return { items: page.items, next_cursor: encodeCursor(ORDER, page.next) };
      },
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/events/{event_id}',
      operationId: 'getEvent',
      summary: 'Everything that is stored of one event.',
      params: z.strictObject({ event_id: Reference }),
      response: StoredEvent,
      problems: [404],
      handle: async ({ scope }, { params }) => {
        const event = await getEvent(scope, params.event_id);
        if (event === undefined)
          throw new GrantscopeError('not_found', 'path.event_id: no event has this id');
        return Object.fromEntries(Object.entries(event).filter(([name]) => name !== 'tenant'));
      },
    }),
  ],
});
