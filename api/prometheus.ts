import { z } from 'zod';
import type { QueryRange } from '../model/board_query.ts';
import { PANEL_ROWS_MAX, PROMETHEUS_ANSWER_MS, PROMETHEUS_SERIES_MAX } from './limits.ts';
import type { PanelFrame } from './schemas/board_view.ts';

/** The form of Prometheus' HTTP API v1 that boards use: vectors and matrices. */
const Answer = z.object({
  status: z.literal('success'),
  data: z.object({
    result: z.array(
      z.object({
        metric: z.record(z.string(), z.string()),
        value: z.tuple([z.number(), z.string()]).optional(),
        values: z.array(z.tuple([z.number(), z.string()])).optional(),
      }),
    ),
  }),
});
type Series = z.infer<typeof Answer>['data']['result'][number];

interface Target {
  readonly refId: string;
  readonly expr?: string | undefined;
  readonly instant?: boolean | undefined;
  readonly legendFormat?: string | undefined;
}

/** Asks a Prometheus; undefined where it does not answer as it should. */
export async function askPrometheus(
  url: string,
  targets: readonly Target[],
  range: QueryRange,
): Promise<readonly PanelFrame[] | undefined> {
  try {
    const frames = await Promise.all(
      targets.map(async (target) => {
        const series = await ask(url, target, range);
        return target.instant === true
          ? [vectorFrame(target, series)]
          : series.slice(0, PROMETHEUS_SERIES_MAX).map((s) => matrixFrame(target, s));
      }),
    );
    return frames.flat();
  } catch {
    return undefined;
  }
}

async function ask(url: string, target: Target, range: QueryRange): Promise<readonly Series[]> {
  const seconds = (ms: number): string => String(ms / 1_000);
  const at = new URL(
    `${url.replace(/\/$/, '')}/api/v1/${target.instant === true ? 'query' : 'query_range'}`,
  );
  at.searchParams.set('query', target.expr ?? '');
  if (target.instant === true) at.searchParams.set('time', seconds(range.toMs));
  else {
    at.searchParams.set('start', seconds(range.fromMs));
    at.searchParams.set('end', seconds(range.toMs));
    at.searchParams.set('step', String(range.intervalSeconds));
  }
  const response = await fetch(at, {
    signal: AbortSignal.timeout(PROMETHEUS_ANSWER_MS),
    redirect: 'error',
  });
  return Answer.parse(await response.json()).data.result;
}

/** `Infinity` and `NaN` are no numbers of JSON. */
function valueOf(text: string): number | null {
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

/** One row a series: its labels, then its value. */
function vectorFrame(target: Target, series: readonly Series[]): PanelFrame {
  const labels = [...new Set(series.flatMap((s) => Object.keys(s.metric)))].sort();
  return {
    name: target.refId,
    columns: [
      ...labels.map((name) => ({ name, type: 'text' as const })),
      { name: 'value', type: 'number' as const },
    ],
    rows: series
      .slice(0, PANEL_ROWS_MAX)
      .map((s) => [...labels.map((l) => s.metric[l] ?? ''), valueOf(s.value?.[1] ?? '')]),
    is_truncated: series.length > PANEL_ROWS_MAX,
  };
}

function matrixFrame(target: Target, series: Series): PanelFrame {
  const name = (target.legendFormat ?? '').replaceAll(
    /\{\{(\w+)\}\}/g,
    (_, label: string) => series.metric[label] ?? '',
  );
  return {
    name: name.trim() === '' ? target.refId : name,
    columns: [
      { name: 'time', type: 'time' },
      { name: 'value', type: 'number' },
    ],
    rows: (series.values ?? [])
      .slice(0, PANEL_ROWS_MAX)
      .map(([at, value]) => [new Date(at * 1_000).toISOString(), valueOf(value)]),
    is_truncated: false,
  };
}
