import { z } from 'zod';
import { RISK_ENTITY_TYPES, RISK_LEVELS } from '../../model/risk.ts';
import { readRisk } from '../../store/queries/risk.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { Instant, PageLimit, Text, Time } from '../schemas/primitives.ts';

const RiskList = z
  .object({
    entity_type: z.enum(RISK_ENTITY_TYPES),
    at: Time,
    items: z.array(
      z.object({
        entity_ref: z.string(),
        score: z.number(),
        level: z.enum(RISK_LEVELS),
        findings: z.number().int(),
        rules: z.array(
          z.object({ rule_id: z.string(), findings: z.number().int(), load: z.number() }),
        ),
        last_event_time: Time,
      }),
    ),
  })
  .meta({ id: 'RiskList' });

export default defineRoutes({
  id: 'risk',
  description: 'Risk that adds up over findings and fades with time.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/risk',
      operationId: 'listRisk',
      summary: 'Subjects, clients or token families with most risk first.',
      description:
        'Each finding weighs confidence x impact / 100, halved every 7 days since its last event; score = 100 x (1 - e^(-sum / 100)). Findings that were withdrawn, suppressed, inhibited, or judged false or benign weigh nothing.',
      query: z.strictObject({
        entity_type: z.enum(RISK_ENTITY_TYPES),
        entity_ref: Text.optional(),
        at: Instant.optional().describe('As of this time; default: now.'),
        limit: PageLimit,
      }),
      response: RiskList,
      handle: async ({ scope, runtime }, { query }) => {
        const atMs = query.at === undefined ? runtime.clock.nowMs() : Date.parse(query.at);
        const { entity_type, entity_ref, limit } = query;
        const items = await readRisk(scope, entity_type, { atMs, limit, entityRef: entity_ref });
        return { entity_type, at: new Date(atMs).toISOString(), items };
      },
    }),
  ],
});
