import { z } from 'zod';
import { GrantscopeError } from '../../runtime/errors.ts';
import {
  addDisposition,
  DispositionRequest,
  listDispositions,
  rulePrecision,
} from '../../store/queries/dispositions.ts';
import { getFinding } from '../../store/queries/findings.ts';
import { readChanges } from '../../store/queries/triage.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { Reference } from '../schemas/primitives.ts';
import {
  DispositionList,
  DispositionView,
  PrecisionList,
  StepList,
  StepView,
} from '../schemas/triage_view.ts';

const ById = z.strictObject({ id: Reference });

export default defineRoutes({
  id: 'dispositions',
  description:
    'What became of findings, what analysts concluded, and how often each rule is right.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/findings/{id}/steps',
      operationId: 'listFindingSteps',
      summary: 'The life of a finding: opened, suppressed, closed, ..., oldest step first.',
      params: ById,
      response: StepList,
      problems: [404],
      handle: async ({ scope }, { params }) => {
        if ((await getFinding(scope, params.id)) === undefined)
          throw new GrantscopeError('not_found', 'path.id: no finding has this id');
        return { items: (await readChanges(scope, params.id)).map((s) => StepView.parse(s)) };
      },
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/findings/{id}/dispositions',
      operationId: 'listDispositions',
      summary: 'What analysts concluded about a finding; the one that counts comes first.',
      params: ById,
      response: DispositionList,
      handle: async ({ scope }, { params }) => ({
        items: await listDispositions(scope, params.id),
      }),
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/findings/{id}/dispositions',
      operationId: 'addDisposition',
      summary: 'Records what an analyst concluded. Nothing is overwritten; the last one counts.',
      rateLimit: 'operation',
      params: ById,
      body: DispositionRequest,
      response: DispositionView,
      problems: [404, 413, 415],
      handle: ({ scope, runtime }, { params, body }) =>
        addDisposition(scope, params.id, body, runtime.clock.nowMs()),
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/rule-precision',
      operationId: 'listRulePrecision',
      summary: 'Rules of which findings were judged, least precise first.',
      response: PrecisionList,
      handle: async ({ scope }) => ({ items: await rulePrecision(scope) }),
    }),
  ],
});
