import { z } from 'zod';
import { GrantscopeError } from '../../runtime/errors.ts';
import { readSloBreakdown, readSlos } from '../../store/queries/slos.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { SloDetail, SloList } from '../schemas/overview_view.ts';
import { Identifier } from '../schemas/primitives.ts';

export default defineRoutes({
  id: 'slos',
  description: 'Service levels, their error budgets and burn rates, as last computed.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/slos',
      operationId: 'listSlos',
      summary: 'All service levels.',
      response: SloList,
      handle: async ({ scope }) => ({ items: await readSlos(scope) }),
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/slos/{id}',
      operationId: 'getSlo',
      summary: 'One service level, with what its counts are made of and how they went.',
      params: z.strictObject({ id: Identifier }),
      response: SloDetail,
      problems: [404],
      handle: async ({ scope }, { params }) => {
        const [slo] = await readSlos(scope, params.id);
        if (slo === undefined)
          throw new GrantscopeError(
            'not_found',
            'path.id: no service level with this id has been computed',
          );
        return { ...slo, ...(await readSloBreakdown(scope, slo.slo_id, slo.watermark)) };
      },
    }),
  ],
});
