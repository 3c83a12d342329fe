import { z } from 'zod';
import {
  addCorrection,
  listCorrections,
  withdrawCorrection,
} from '../../store/queries/slo_corrections.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { CorrectionList, CorrectionView } from '../schemas/alerting_view.ts';
import { Identifier, Instant, Reference, Text } from '../schemas/primitives.ts';

const Person = Text.max(200).describe('Who does it. Taken as given: there is no sign-in here.');

const OfSlo = z.strictObject({ id: Identifier.describe('`all` for every service level.') });

export default defineRoutes({
  id: 'corrections',
  description:
    'Minutes that are taken out of error budgets, such as announced maintenance: who approved it and why. A correction mutes nothing.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/slos/{id}/corrections',
      operationId: 'listCorrections',
      summary: 'Corrections of a service level and those of all, latest window first.',
      params: OfSlo,
      response: CorrectionList,
      handle: async ({ scope }, { params }) => ({ items: await listCorrections(scope, params.id) }),
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/slos/{id}/corrections',
      operationId: 'addCorrection',
      summary: 'Takes the minutes of a window out of the budget, each whole, past or ahead.',
      rateLimit: 'operation',
      params: OfSlo,
      body: z.strictObject({ from: Instant, to: Instant, reason: Text, approver: Person }),
      response: CorrectionView,
      problems: [404, 413, 415],
      handle: ({ scope, runtime }, { params, body }) =>
        addCorrection(
          scope,
          { sloId: params.id, from: body.from, to: body.to },
          { reason: body.reason, approver: body.approver, nowMs: runtime.clock.nowMs() },
        ),
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/slos/{id}/corrections/{correction_id}/withdraw',
      operationId: 'withdrawCorrection',
      summary: 'Puts the minutes of a correction back into the budget.',
      rateLimit: 'operation',
      params: z.strictObject({ id: Identifier, correction_id: Reference }),
      body: z.strictObject({ withdrawn_by: Person, reason: Text }),
      response: CorrectionView,
      problems: [404, 413, 415],
      handle: ({ scope, runtime }, { params, body }) =>
        withdrawCorrection(
          scope,
          { sloId: params.id, correctionId: params.correction_id },
          {
            withdrawnBy: body.withdrawn_by,
            reason: body.reason,
            nowMs: runtime.clock.nowMs(),
          },
        ),
    }),
  ],
});
