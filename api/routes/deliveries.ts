import { z } from 'zod';
import { RISK_LEVELS } from '../../model/risk.ts';
import { DELIVERY_STATUSES, listDeliveries } from '../../store/queries/deliveries.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { PageLimit, Reference, Text, Time } from '../schemas/primitives.ts';

const DeliveryList = z
  .object({
    items: z.array(
      z.object({
        /** `ocsf/<id>` or `caep/<id>/<event>`. */
        sink: z.string(),
        finding_id: z.string(),
        /** The step of the finding that was told. */
        change_no: z.number().int(),
        status: z.enum(DELIVERY_STATUSES),
        /** The same for every attempt. */
        delivery_id: z.string(),
        subject_ref: z.string(),
        level: z.enum([...RISK_LEVELS, '']),
        attempts: z.number().int(),
        error: z.string(),
        attempted_at: Time,
      }),
    ),
  })
  .meta({ id: 'DeliveryList' });

export default defineRoutes({
  id: 'deliveries',
  description: 'What was told to whom by `response` of grantscope.yaml.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/deliveries',
      operationId: 'listDeliveries',
      summary: 'Deliveries, newest attempt first.',
      query: z.strictObject({
        sink: Text.optional(),
        status: z.enum(DELIVERY_STATUSES).optional(),
        finding_id: Reference.optional(),
        limit: PageLimit,
      }),
      response: DeliveryList,
      handle: async ({ scope }, { query }) => {
        const { sink, status, finding_id, limit } = query;
        const filter = { sink, status, findingId: finding_id, limit };
        return { items: await listDeliveries(scope, filter) };
      },
    }),
  ],
});
