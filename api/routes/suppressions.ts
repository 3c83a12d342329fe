import { z } from 'zod';
import { SEVERITIES } from '../../model/finding.ts';
import { SuppressionRequest, SuppressionScope, suppressionState } from '../../model/suppression.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import {
  addSuppression,
  getSuppression,
  listSuppressions,
  previewSuppression,
  removeSuppression,
  type UsedSuppression,
} from '../../store/queries/suppressions.ts';
import { defineRoutes, jsonRoute, type ApiContext } from '../define_route.ts';
import { Reference, Text } from '../schemas/primitives.ts';
import { PreviewView, SuppressionList, SuppressionView } from '../schemas/triage_view.ts';

const Person = Text.max(200).describe('Who does it. Taken as given: there is no sign-in here.');

function shown({ runtime }: ApiContext, s: UsedSuppression) {
  return { ...s, state: suppressionState(s, runtime.clock.nowMs()) };
}

export default defineRoutes({
  id: 'suppressions',
  description: 'Which findings are kept and shown, but not notified: by whom, why and until when.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/suppressions',
      operationId: 'listSuppressions',
      summary: 'All suppressions with how often they were used; those that hold come first.',
      response: SuppressionList,
      handle: async (context) => ({
        items: (await listSuppressions(context.scope, context.runtime.clock.nowMs())).map((s) =>
          shown(context, s),
        ),
      }),
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/suppressions',
      operationId: 'addSuppression',
      summary: 'Adds a suppression. It holds within seconds, also for findings that are open.',
      rateLimit: 'operation',
      body: z.strictObject({ suppression: SuppressionRequest, created_by: Person }),
      response: SuppressionView,
      problems: [413, 415],
      handle: async (context, { body }) => {
        const by = { createdBy: body.created_by, nowMs: context.runtime.clock.nowMs() };
        return shown(context, await addSuppression(context.scope, body.suppression, by));
      },
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/suppression-previews',
      operationId: 'previewSuppression',
      summary: 'How many findings of the last 30 days a suppression would have hidden, and which.',
      rateLimit: 'operation',
      body: z.strictObject({
        scope: SuppressionScope,
        severity_max: z.enum(SEVERITIES).optional(),
      }),
      response: PreviewView,
      problems: [413, 415],
      handle: ({ scope, runtime }, { body }) =>
        previewSuppression(scope, body.scope, {
          nowMs: runtime.clock.nowMs(),
          severityMax: body.severity_max,
        }),
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/suppressions/{id}',
      operationId: 'getSuppression',
      summary: 'One suppression.',
      params: z.strictObject({ id: Reference }),
      response: SuppressionView,
      problems: [404],
      handle: async (context, { params }) => {
        const found = await getSuppression(context.scope, params.id, context.runtime.clock.nowMs());
        if (found === undefined)
          throw new GrantscopeError('not_found', 'path.id: no suppression has this id');
        return shown(context, found);
      },
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/suppressions/{id}/remove',
      operationId: 'removeSuppression',
      summary: 'Ends a suppression; what it hides is notified from then on.',
      rateLimit: 'operation',
      params: z.strictObject({ id: Reference }),
      body: z.strictObject({ removed_by: Person, reason: Text }),
      response: SuppressionView,
      problems: [404, 413, 415],
      handle: async (context, { params, body }) => {
        const nowMs = context.runtime.clock.nowMs();
        const by = { removedBy: body.removed_by, reason: body.reason, nowMs };
        return shown(context, await removeSuppression(context.scope, params.id, by));
      },
    }),
  ],
});
