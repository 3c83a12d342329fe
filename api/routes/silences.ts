import { z } from 'zod';
import { SilenceRequest, silenceState, type TrackedSilence } from '../../model/silence.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import {
  addSilence,
  getSilence,
  listSilences,
  withdrawSilence,
} from '../../store/queries/silences.ts';
import { defineRoutes, jsonRoute, type ApiContext } from '../define_route.ts';
import { SilenceList, SilenceView } from '../schemas/alerting_view.ts';
import { Reference, Text } from '../schemas/primitives.ts';

const Person = Text.max(200).describe('Who does it. Taken as given: there is no sign-in here.');

function shown({ runtime }: ApiContext, { status: _, ...silence }: TrackedSilence) {
  return {
    ...silence,
    state: silenceState({ ...silence, status: _ }, runtime.clock.nowMs()),
  };
}

export default defineRoutes({
  id: 'silences',
  description:
    'Alerts that reach nobody for a while: by whom, why and until when. A silence mutes; it takes nothing out of an error budget.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/silences',
      operationId: 'listSilences',
      summary: 'Silences with what they mute; those that are live come first.',
      response: SilenceList,
      handle: async (context) => ({
        items: (await listSilences(context.scope, context.runtime.clock.nowMs())).map((s) =>
          shown(context, s),
        ),
      }),
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/silences',
      operationId: 'addSilence',
      summary: 'Asks for a silence; Alertmanager has it within seconds.',
      rateLimit: 'operation',
      body: z.strictObject({ silence: SilenceRequest, created_by: Person }),
      response: SilenceView,
      problems: [413, 415, 422],
      handle: async (context, { body }) => {
        if (context.runtime.config.alertmanagerUrl === undefined)
          throw new GrantscopeError(
            'config_invalid',
            'ALERTMANAGER_URL is not set, so nothing would be muted; set it, or silence where alerts are sent from',
          );
        const by = { createdBy: body.created_by, nowMs: context.runtime.clock.nowMs() };
        const added = await addSilence(context.scope, body.silence, by);
        context.runtime.hints.emit('silences_changed', {});
        return shown(context, added);
      },
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/silences/{id}',
      operationId: 'getSilence',
      summary: 'One silence.',
      params: z.strictObject({ id: Reference }),
      response: SilenceView,
      problems: [404],
      handle: async (context, { params }) => {
        const found = await getSilence(context.scope, params.id);
        if (found === undefined)
          throw new GrantscopeError('not_found', 'path.id: no silence has this id');
        return shown(context, found);
      },
    }),
    jsonRoute({
      method: 'post',
      path: '/api/v1/silences/{id}/withdraw',
      operationId: 'withdrawSilence',
      summary: 'Ends a silence early; what it mutes is notified from then on.',
      rateLimit: 'operation',
      params: z.strictObject({ id: Reference }),
      body: z.strictObject({ withdrawn_by: Person, reason: Text }),
      response: SilenceView,
      problems: [404, 413, 415],
      handle: async (context, { params, body }) => {
        const nowMs = context.runtime.clock.nowMs();
        const by = { withdrawnBy: body.withdrawn_by, reason: body.reason, nowMs };
        const withdrawn = await withdrawSilence(context.scope, params.id, by);
        context.runtime.hints.emit('silences_changed', {});
        return shown(context, withdrawn);
      },
    }),
  ],
});
