import { z } from 'zod';
import { GRID_COLUMNS, type BoardDefinition } from '../model/define_board.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import { loadDefinitions } from '../runtime/registry.ts';

const Query = z.discriminatedUnion('language', [
  z.strictObject({
    language: z.literal('sql'),
    format: z.enum(['time_series', 'table']),
    text: z.string().min(1),
  }),
  z.strictObject({
    language: z.literal('promql'),
    text: z.string().min(1),
    kind: z.enum(['instant', 'range']),
    legend: z.string(),
  }),
]);

const Panel = z.strictObject({
  title: z.string().min(1),
  description: z.string().min(20),
  kind: z.enum(['timeseries', 'stat', 'table', 'heatmap']),
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
  links: z.record(z.string(), z.string().startsWith('#/')).optional(),
});

const Board = z.strictObject({
  id: z.string().regex(/^[a-z][a-z0-9_]*$/),
  title: z.string().min(1),
  description: z.string().min(20),
  tags: z.array(z.string().min(1)),
  from: z.string().regex(/^\d+[mhd]$/),
  refresh: z.string().regex(/^\d+[sm]$/),
  rows: z.array(z.strictObject({ title: z.string().min(1), panels: z.array(Panel).min(1) })).min(1),
});

/** Checks one board; throws with the path of what is wrong. */
export function checkBoard(candidate: unknown): BoardDefinition {
  const parsed = Board.safeParse(candidate);
  if (parsed.success) return candidate as BoardDefinition;
  const problems = parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`);
  throw new GrantscopeError('definition_invalid', problems.join('; '), { stage: 'starting' });
}

/** All boards of `dashboards/boards/`, sorted by id. */
export function loadBoards(): Promise<readonly BoardDefinition[]> {
  return loadDefinitions(new URL('./boards/', import.meta.url), checkBoard);
}
