import { panelStatement, type QueryRange } from '../model/board_query.ts';
import type { Scope } from '../store/queries/scope.ts';
import type { LoadedBoard, PanelQueries } from './board_files.ts';
import { PANEL_ROWS_MAX } from './limits.ts';
import { askPrometheus } from './prometheus.ts';
import type { AnnotationList, PanelData, PanelFrame } from './schemas/board_view.ts';

/** Steps that people read easily, s. */
const STEPS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200];
const DAY_SECONDS = 86_400;
const CLICKHOUSE_TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?$/;

/** What is chosen; '' for everything. */
export type Choice = Readonly<Record<string, string>>;

/** The shortest step in which a range has at most `points` points. */
export function stepOf(
  range: { readonly fromMs: number; readonly toMs: number },
  points: number,
  stepSecondsMin: number,
): number {
  const least = Math.max((range.toMs - range.fromMs) / 1_000 / points, stepSecondsMin, 1);
  return STEPS.find((s) => s >= least) ?? Math.ceil(least / DAY_SECONDS) * DAY_SECONDS;
}

/** Runs the queries of one panel. `variables` are values, never SQL: they become parameters. */
export async function readPanel(
  scope: Scope,
  prometheusUrl: string | undefined,
  panel: PanelQueries,
  range: QueryRange,
  variables: Choice,
): Promise<PanelData> {
  const about = {
    from: new Date(range.fromMs).toISOString(),
    to: new Date(range.toMs).toISOString(),
    step_seconds: range.intervalSeconds,
  };
  if (panel.targets.some((t) => t.expr !== undefined)) {
    if (prometheusUrl === undefined) return { state: 'not_configured', ...about, frames: [] };
    const frames = await askPrometheus(prometheusUrl, panel.targets, range);
    if (frames === undefined) return { state: 'unavailable', ...about, frames: [] };
    return { state: 'ok', ...about, frames: [...frames] };
  }
  const all = { ...variables, tenant: scope.tenant };
  const frames = await Promise.all(
    panel.targets.map(async ({ refId, rawSql }) =>
      frameOf(
        refId,
        await scope.store.query<Record<string, unknown>>(panelStatement(rawSql ?? '', range, all)),
      ),
    ),
  );
  return { state: 'ok', ...about, frames };
}

/** Moments to mark on every chart of a board, oldest first. */
export async function readAnnotations(
  scope: Scope,
  board: LoadedBoard,
  range: QueryRange,
): Promise<AnnotationList> {
  const found = await Promise.all(
    board.annotations.map(async ({ name, color, text }) => {
      const rows = await scope.store.query<{ time: string; title: string; text: string }>(
        panelStatement(text, range, { tenant: scope.tenant }),
      );
      return rows.map((r) => ({ name, color, time: iso(r.time), title: r.title, text: r.text }));
    }),
  );
  return { items: found.flat().sort((a, b) => (a.time < b.time ? -1 : 1)) };
}

function iso(text: string): string {
  return `${text.replace(' ', 'T').replace(/(\.\d{3})\d+$/, '$1')}Z`;
}

/** Rows as columns with types: a column is numbers or times where every value is, text otherwise. */
function frameOf(name: string, all: readonly Readonly<Record<string, unknown>>[]): PanelFrame {
  const rows = all.slice(0, PANEL_ROWS_MAX);
  const columns = Object.keys(rows[0] ?? {}).map((column) => {
    const values = rows.map((r) => r[column]).filter((v) => v !== null);
    const isTime = values.every((v) => typeof v === 'string' && CLICKHOUSE_TIME.test(v));
    const isNumber = values.every((v) => typeof v === 'number');
    const type = isNumber ? ('number' as const) : isTime ? ('time' as const) : ('text' as const);
    return { name: column, type };
  });
  return {
    name,
    columns,
    rows: rows.map((r) => columns.map((c) => cellOf(r[c.name], c.type))),
    is_truncated: all.length > rows.length,
  };
}

/** ClickHouse's 1970 is "never". */
function cellOf(value: unknown, type: 'time' | 'number' | 'text'): string | number | null {
  if (value === null || value === undefined) return null;
  if (type === 'number') return Number(value);
  if (type === 'time') {
    const text = value as string;
    return text.startsWith('1970-01-01 00:00:00') ? null : iso(text);
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}
