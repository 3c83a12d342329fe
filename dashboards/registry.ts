import { z } from 'zod';
import { variablesOf } from '../model/board_query.ts';
import {
  BOARD_VARIABLE_NAMES,
  GRID_COLUMNS,
  PANEL_KINDS,
  type BoardDefinition,
} from '../model/define_board.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import { loadDefinitions } from '../runtime/registry.ts';

const Query = z.discriminatedUnion('language', [
  z.strictObject({
    language: z.literal('sql'),
    format: z.enum(['time_series', 'table', 'logs', 'traces']),
    text: z.string().min(1),
  }),
  z.strictObject({
    language: z.literal('promql'),
    text: z.string().min(1),
    kind: z.enum(['instant', 'range']),
    legend: z.string(),
  }),
]);

const Variable = z.enum(BOARD_VARIABLE_NAMES);
const BoardLink = z.strictObject({ board: z.string().min(1), variable: Variable });

const Panel = z.strictObject({
  title: z.string().min(1),
  description: z.string().min(20),
  kind: z.enum(PANEL_KINDS),
  unit: z.string().min(1),
  width: z.number().int().min(2).max(GRID_COLUMNS),
  height: z.number().int().min(2).max(30),
  stepSecondsMin: z.int().min(1).optional(),
  queries: z
    .array(Query)
    .min(1)
    .refine((all) => new Set(all.map((q) => q.language)).size === 1, 'one data source a panel'),
  thresholds: z
    .array(
      z.strictObject({
        value: z.number(),
        color: z.enum(['green', 'yellow', 'orange', 'red']),
      }),
    )
    .optional(),
  links: z.record(z.string(), z.union([z.string().startsWith('#/'), BoardLink])).optional(),
  opens: z.string().startsWith('#/').optional(),
});

const Annotation = z.strictObject({
  name: z.string().min(1),
  color: z.enum(['blue', 'purple', 'red']),
  text: z.string().min(1),
});

const Board = z.strictObject({
  id: z.string().regex(/^[a-z][a-z0-9_]*$/),
  title: z.string().min(1),
  description: z.string().min(20),
  tags: z.array(z.string().min(1)),
  from: z.string().regex(/^\d+[mhd]$/),
  refresh: z.string().regex(/^\d+[sm]$/),
  variables: z.array(Variable).optional(),
  annotations: z.array(Annotation).optional(),
  rows: z.array(z.strictObject({ title: z.string().min(1), panels: z.array(Panel).min(1) })).min(1),
});

/**
 * Checks one board; throws `definition_invalid` with the path of what is wrong. Every variable that a query uses must be
 * one of the board, and every one of the board must be used.
 */
export function checkBoard(candidate: unknown): BoardDefinition {
  const parsed = Board.safeParse(candidate);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`);
    throw invalid(problems.join('; '));
  }
  const board = candidate as BoardDefinition;
  const texts = [
    ...board.rows.flatMap((r) => r.panels.flatMap((p) => p.queries.map((q) => q.text))),
    ...(board.annotations ?? []).map((a) => a.text),
  ];
  const used = new Set(texts.flatMap(variablesOf));
  const declared = new Set<string>(['tenant', ...(board.variables ?? [])]);
  const undeclared = [...used].find((name) => !declared.has(name));
  if (undeclared !== undefined) throw invalid(`variables: ${undeclared} is used and not declared`);
  const idle = (board.variables ?? []).find((name) => !used.has(name));
  if (idle !== undefined) throw invalid(`variables: ${idle} is declared and not used`);
  return board;
}

function invalid(message: string): GrantscopeError {
  return new GrantscopeError('definition_invalid', message, { stage: 'starting' });
}

/** All boards of `dashboards/boards/`, sorted by id. Throws where a link leads to a board or variable that is not there. */
export async function loadBoards(): Promise<readonly BoardDefinition[]> {
  const boards = await loadDefinitions(new URL('./boards/', import.meta.url), checkBoard);
  for (const board of boards) {
    for (const link of board.rows.flatMap((r) => r.panels.flatMap((p) => linksOf(p.links)))) {
      const target = boards.find((b) => b.id === link.board);
      if (target?.variables?.includes(link.variable) !== true)
        throw invalid(`${board.id}: a link to ${link.board} with ${link.variable} leads nowhere`);
    }
  }
  return boards;
}

type PanelLinks = BoardDefinition['rows'][number]['panels'][number]['links'];

function linksOf(links: PanelLinks): readonly Exclude<NonNullable<PanelLinks>[string], string>[] {
  return Object.values(links ?? {}).flatMap((link) => (typeof link === 'string' ? [] : [link]));
}
