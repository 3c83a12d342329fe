import { z } from 'zod';
import type { QueryRange } from '../../model/board_query.ts';
import { BOARD_VARIABLE_NAMES } from '../../model/define_board.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { readBoards, type LoadedBoard } from '../board_files.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { PANEL_POINTS_MAX, PANEL_RANGE_DAYS_MAX } from '../limits.ts';
import { readAnnotations, readPanel, stepOf } from '../panel_data.ts';
import { RequestProblem } from '../problems.ts';
import { AnnotationList, BoardList, BoardView, PanelData } from '../schemas/board_view.ts';
import { Identifier, Instant, Reference, Text } from '../schemas/primitives.ts';

/** What may be chosen on a board, each with its own type; see BOARD_VARIABLES. */
const variables = {
  client: Text.optional(),
  trace: z
    .string()
    .regex(/^[0-9a-f]{32}$/, 'must be 32 hexadecimal digits in lower case')
    .optional(),
  token: Reference.optional(),
} satisfies Record<(typeof BOARD_VARIABLE_NAMES)[number], z.ZodType>;
const range = { from: Instant, to: Instant };
const DAY_MS = 86_400_000;

function boardOf(id: string): LoadedBoard {
  const board = readBoards().get(id);
  if (board === undefined) throw new GrantscopeError('not_found', 'path.id: no board has this id');
  return board;
}

function rangeOf(query: { readonly from: string; readonly to: string }): {
  readonly fromMs: number;
  readonly toMs: number;
} {
  const [fromMs, toMs] = [Date.parse(query.from), Date.parse(query.to)];
  const problem = (message: string): RequestProblem =>
    new RequestProblem('invalid_argument', `query.to: ${message}`, [{ path: 'query.to', message }]);
  if (toMs <= fromMs) throw problem('must be after from');
  if (toMs - fromMs > PANEL_RANGE_DAYS_MAX * DAY_MS)
    throw problem(`must be at most ${PANEL_RANGE_DAYS_MAX} days after from`);
  return { fromMs, toMs };
}

export default defineRoutes({
  id: 'boards',
  description: 'The boards that Grafana is provisioned with, and the answers to their queries.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/boards',
      operationId: 'listBoards',
      summary: 'All boards.',
      response: BoardList,
      handle: () =>
        Promise.resolve({
          items: [...readBoards().values()].map(({ view, queries }) => ({
            id: view.id,
            title: view.title,
            description: view.description,
            panels: queries.size,
          })),
        }),
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/boards/{id}',
      operationId: 'getBoard',
      summary: 'One board: its variables, rows and panels.',
      params: z.strictObject({ id: Identifier }),
      response: BoardView,
      problems: [404],
      handle: (_context, { params }) => Promise.resolve(boardOf(params.id).view),
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/boards/{id}/annotations',
      operationId: 'getBoardAnnotations',
      summary:
        'Moments to mark on the charts of a board: deploys, changes of keys, grave findings.',
      params: z.strictObject({ id: Identifier }),
      query: z.strictObject(range),
      response: AnnotationList,
      problems: [404],
      handle: ({ scope }, { params, query }) =>
        readAnnotations(scope, boardOf(params.id), { ...rangeOf(query), intervalSeconds: 60 }),
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/boards/{id}/panels/{panel}',
      operationId: 'getPanelData',
      summary: 'What one panel shows.',
      description:
        'Runs the queries that the panel has in its board. Only the time range, the resolution and values of the variables of the board are taken from the request.',
      params: z.strictObject({ id: Identifier, panel: z.coerce.number().int().min(1) }),
      query: z.strictObject({
        ...range,
        points: z.coerce.number().int().min(1).max(PANEL_POINTS_MAX).default(240),
        ...variables,
      }),
      response: PanelData,
      problems: [404],
      handle: async ({ scope, runtime }, { params, query }) => {
        const board = boardOf(params.id);
        const panel = board.queries.get(params.panel);
        if (panel === undefined)
          throw new GrantscopeError('not_found', 'path.panel: the board has no panel with this id');
        const span = rangeOf(query);
        const asked: QueryRange = {
          ...span,
          intervalSeconds: stepOf(span, query.points, panel.stepSecondsMin),
        };
        const chosen = Object.fromEntries(BOARD_VARIABLE_NAMES.map((n) => [n, query[n] ?? '']));
        return readPanel(scope, runtime.config.prometheusUrl, panel, asked, chosen);
      },
    }),
  ],
});
