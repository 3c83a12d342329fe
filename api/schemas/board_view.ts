import { z } from 'zod';
import { BOARD_VARIABLE_NAMES, PANEL_KINDS } from '../../model/define_board.ts';
import { Time } from './primitives.ts';

/** A board in the list. */
const BoardSummary = z.strictObject({
  id: z.string(),
  title: z.string(),
  description: z.string(),
  panels: z.number().int(),
});
export const BoardList = z.strictObject({ items: z.array(BoardSummary) });
export type BoardList = z.infer<typeof BoardList>;

export const BoardPanel = z.strictObject({
  id: z.number().int(),
  title: z.string(),
  description: z.string(),
  kind: z.enum(PANEL_KINDS),
  /** Grafana's unit id. */
  unit: z.string(),
  /** In a grid of 24 columns. */
  width: z.number().int(),
  height: z.number().int(),
  language: z.enum(['sql', 'promql']),
  /** The colour that holds from the value on; null: from below. */
  thresholds: z.array(z.strictObject({ value: z.number().nullable(), color: z.string() })),
  /** Column to address in the console, to which the value is added. */
  links: z.record(z.string(), z.string()),
  /** Where the whole panel leads; '' for nowhere. */
  opens: z.string(),
});
export type BoardPanel = z.infer<typeof BoardPanel>;

/** A board as it is drawn: what Grafana is given, less the queries. */
export const BoardView = z.strictObject({
  id: z.string(),
  title: z.string(),
  description: z.string(),
  /** Default time range, back from now, for instance `6h`. */
  from: z.string(),
  refresh_seconds: z.number().int(),
  variables: z.array(z.strictObject({ name: z.enum(BOARD_VARIABLE_NAMES), label: z.string() })),
  rows: z.array(z.strictObject({ title: z.string(), panels: z.array(BoardPanel) })),
});
export type BoardView = z.infer<typeof BoardView>;

const Cell = z.union([z.string(), z.number(), z.null()]);

/** One answer of a query, or one series of an answer. */
export const PanelFrame = z.strictObject({
  name: z.string(),
  columns: z.array(z.strictObject({ name: z.string(), type: z.enum(['time', 'number', 'text']) })),
  /** Times are ISO 8601 in UTC. */
  rows: z.array(z.array(Cell)),
  /** Rows beyond the limit were left out. */
  is_truncated: z.boolean(),
});
export type PanelFrame = z.infer<typeof PanelFrame>;

export const PanelData = z.strictObject({
  /** `not_configured`: the panel asks Prometheus, and PROMETHEUS_URL is not set. `unavailable`: Prometheus did not answer. */
  state: z.enum(['ok', 'not_configured', 'unavailable']),
  from: Time,
  to: Time,
  step_seconds: z.number().int(),
  frames: z.array(PanelFrame),
});
export type PanelData = z.infer<typeof PanelData>;

export const AnnotationList = z.strictObject({
  items: z.array(
    z.strictObject({
      name: z.string(),
      color: z.string(),
      time: Time,
      title: z.string(),
      text: z.string(),
    }),
  ),
});
export type AnnotationList = z.infer<typeof AnnotationList>;
