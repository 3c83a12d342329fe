import type { PanelData } from '../../schemas/board_view.ts';

export interface Series {
  readonly name: string;
  /** Oldest first: ms and value. */
  readonly points: readonly (readonly [number, number | null])[];
}

/** The frames of a chart as named series: text columns are labels, each number column a series per label. */
export function seriesOf(data: PanelData): readonly Series[] {
  const found = new Map<string, [number, number | null][]>();
  for (const frame of data.frames) {
    const indexes = (type: string): number[] =>
      frame.columns.flatMap((c, i) => (c.type === type ? [i] : []));
    const [time = -1] = indexes('time');
    const labels = indexes('text');
    const values = indexes('number');
    for (const row of frame.rows) {
      const label = labels.map((i) => String(row[i] ?? '')).join(' ');
      for (const i of values) {
        const column = frame.columns[i]?.name ?? '';
        const own = column === 'value' ? frame.name : column;
        const name = labels.length === 0 ? own : values.length === 1 ? label : `${label} ${own}`;
        const points = found.get(name) ?? [];
        if (points.length === 0) found.set(name, points);
        points.push([Date.parse(String(row[time])), row[i] as number | null]);
      }
    }
  }
  return [...found].map(([name, points]) => ({ name: name.replaceAll('_', ' '), points }));
}
