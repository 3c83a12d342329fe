import { useEffect, useRef, useState } from 'preact/hooks';
import type { ComponentChildren, JSX } from 'preact';
import type { AnnotationList, BoardPanel, PanelData } from '../../../schemas/board_view.ts';
import type { BoardRange } from '../board_range.ts';
import { clock } from '../format.ts';
import { seriesOf, type Series } from '../series.ts';
import { axisTime, inUnit, ticksOf } from '../units.ts';

export interface ChartProps {
  readonly panel: BoardPanel;
  readonly data: PanelData;
  readonly range: BoardRange;
  readonly annotations: AnnotationList['items'];
}

/** Colours that the style sheet has; beyond them dashes tell series apart. */
const COLORS = 8;
const HEIGHT = 190;
const PAD = { left: 58, right: 10, top: 10, bottom: 22 };
const seriesClass = (i: number): string =>
  `series-${i % COLORS}${i >= COLORS ? ' series-dashed' : ''}`;

/** The width that an element has, followed as it changes. */
function useWidth(): readonly [{ current: HTMLDivElement | null }, number] {
  const box = useRef<HTMLDivElement | null>(null);
  const [width, setWidth] = useState(600);
  useEffect(() => {
    if (box.current === null) return;
    const watch = new ResizeObserver(([entry]) => {
      if (entry !== undefined) setWidth(Math.max(200, Math.round(entry.contentRect.width)));
    });
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return [box, width];
}

interface Frame {
  readonly width: number;
  readonly x: (ms: number) => number;
}

function frameOf(range: BoardRange, width: number, left = PAD.left): Frame {
  const inner = width - left - PAD.right;
  const span = range.toMs - range.fromMs;
  return { width, x: (ms) => left + ((ms - range.fromMs) / span) * inner };
}

function TimeAxis({
  range,
  frame,
}: {
  readonly range: BoardRange;
  readonly frame: Frame;
}): JSX.Element {
  const span = range.toMs - range.fromMs;
  const steps = Math.max(2, Math.min(6, Math.floor(frame.width / 110)));
  const times = Array.from({ length: steps }, (_, i) => range.fromMs + (span * (i + 0.5)) / steps);
  return (
    <g class="axis">
      {times.map((ms) => (
        <text key={ms} x={frame.x(ms)} y={HEIGHT - 6} text-anchor="middle">
          {axisTime(ms, span)}
        </text>
      ))}
    </g>
  );
}

function Marks(props: {
  readonly items: AnnotationList['items'];
  readonly range: BoardRange;
  readonly frame: Frame;
}): JSX.Element {
  const { fromMs, toMs } = props.range;
  const shown = props.items.filter((a) => {
    const at = Date.parse(a.time);
    return at >= fromMs && at <= toMs;
  });
  return (
    <g>
      {shown.map((a, i) => (
        <line
          key={i}
          class={`note-line note-${a.color}`}
          x1={props.frame.x(Date.parse(a.time))}
          x2={props.frame.x(Date.parse(a.time))}
          y1={PAD.top}
          y2={HEIGHT - PAD.bottom}
        >
          <title>{`${clock(a.time)} UTC ${a.title}: ${a.text}`}</title>
        </line>
      ))}
    </g>
  );
}

/** A gap of more than some steps is a gap: no line over what is not known. */
function pathOf(series: Series, stepMs: number, x: Frame['x'], y: (v: number) => number): string {
  let path = '';
  let last = -Infinity;
  for (const [ms, value] of series.points) {
    if (value === null) {
      last = -Infinity;
      continue;
    }
    path += `${ms - last > stepMs * 3.5 ? 'M' : 'L'}${x(ms).toFixed(1)} ${y(value).toFixed(1)}`;
    last = ms;
  }
  // A point without neighbours is drawn as a ring, since a line of no length is not seen.
  return path.replaceAll(
    /M([\d.-]+) ([\d.-]+)(?=M|$)/g,
    'M$1 $2m-2 0a2 2 0 1 0 4 0a2 2 0 1 0 -4 0',
  );
}

/** The time under the pointer; undefined beside the axes. */
function timeUnder(
  event: { readonly clientX: number },
  drawn: Element,
  width: number,
  range: BoardRange,
): number | undefined {
  const box = drawn.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * width - PAD.left;
  const share = x / (width - PAD.left - PAD.right);
  return share < 0 || share > 1 ? undefined : range.fromMs + share * (range.toMs - range.fromMs);
}

function ValueAxis(props: {
  readonly min: number;
  readonly max: number;
  readonly unit: string;
  readonly width: number;
  readonly y: (v: number) => number;
}): JSX.Element {
  return (
    <g class="grid">
      {ticksOf(props.min, props.max, props.unit).map((v) => (
        <g key={v}>
          <line x1={PAD.left} x2={props.width - PAD.right} y1={props.y(v)} y2={props.y(v)} />
          <text x={PAD.left - 6} y={props.y(v) + 4} text-anchor="end">
            {inUnit(v, props.unit)}
          </text>
        </g>
      ))}
    </g>
  );
}

export function TimeSeries({ panel, data, range, annotations }: ChartProps): JSX.Element {
  const [box, width] = useWidth();
  const [at, setAt] = useState<number | undefined>(undefined);
  const all = seriesOf(data);
  const values = all.flatMap((s) => s.points.map(([, v]) => v ?? 0));
  const limits = panel.thresholds.flatMap((t) => (t.value === null ? [] : [t.value]));
  const highest = Math.max(0, ...values);
  // A limit is drawn where it is near; a far one would press the curve flat.
  const max = Math.max(highest, ...limits.filter((l) => l <= highest * 4 || highest === 0)) || 1;
  const min = Math.min(0, ...values);
  const frame = frameOf(range, width);
  const y = (v: number): number =>
    HEIGHT - PAD.bottom - ((v - min) / (max - min)) * (HEIGHT - PAD.top - PAD.bottom);
  return (
    <div ref={box} class="chart">
      <svg
        viewBox={`0 0 ${width} ${HEIGHT}`}
        role="img"
        aria-label={`${panel.title}: chart; the same as a table below`}
        onPointerMove={(event) => setAt(timeUnder(event, event.currentTarget, width, range))}
        onPointerLeave={() => setAt(undefined)}
      >
        <ValueAxis min={min} max={max} unit={panel.unit} width={width} y={y} />
        <TimeAxis range={range} frame={frame} />
        {panel.thresholds.map((t) =>
          t.value === null || t.value > max || t.value < min ? null : (
            <line
              key={t.value}
              class={`limit limit-${t.color}`}
              x1={PAD.left}
              x2={width - PAD.right}
              y1={y(t.value)}
              y2={y(t.value)}
            />
          ),
        )}
        <Marks items={annotations} range={range} frame={frame} />
        {all.map((s, i) => (
          <path
            key={s.name}
            class={`line ${seriesClass(i)}`}
            d={pathOf(s, data.step_seconds * 1_000, frame.x, y)}
          />
        ))}
        {at === undefined ? null : (
          <line
            class="cursor"
            x1={frame.x(at)}
            x2={frame.x(at)}
            y1={PAD.top}
            y2={HEIGHT - PAD.bottom}
          />
        )}
      </svg>
      <Legend all={all} unit={panel.unit} at={at} />
    </div>
  );
}

/** Names with the value under the pointer, or the newest. */
function Legend(props: {
  readonly all: readonly Series[];
  readonly unit: string;
  readonly at: number | undefined;
}): JSX.Element {
  const { at } = props;
  const valueOf = (s: Series): number | null => {
    if (at === undefined) return s.points.at(-1)?.[1] ?? null;
    const near = s.points.reduce<Series['points'][number] | undefined>(
      (best, p) => (best === undefined || Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best),
      undefined,
    );
    return near?.[1] ?? null;
  };
  return (
    <ul class="legend">
      {at === undefined ? null : <li class="faint">{clock(new Date(at).toISOString())}</li>}
      {props.all.map((s, i) => (
        <li key={s.name}>
          <svg class="key" viewBox="0 0 14 4" aria-hidden="true">
            <path class={`line ${seriesClass(i)}`} d="M0 2H14" />
          </svg>
          <bdi>{s.name}</bdi> <b>{inUnit(valueOf(s), props.unit)}</b>
        </li>
      ))}
    </ul>
  );
}

/** Columns are buckets, in the order of the query; the darker, the more. */
export function Heatmap({ panel, data, range }: ChartProps): JSX.Element {
  const [box, width] = useWidth();
  const all = seriesOf(data);
  const frame = frameOf(range, width);
  const most = Math.max(1, ...all.flatMap((s) => s.points.map(([, v]) => v ?? 0)));
  const height = (HEIGHT - PAD.top - PAD.bottom) / Math.max(1, all.length);
  const cell = Math.max(1, frame.x(range.fromMs + data.step_seconds * 1_000) - PAD.left);
  return (
    <div ref={box} class="chart">
      <svg
        viewBox={`0 0 ${width} ${HEIGHT}`}
        role="img"
        aria-label={`${panel.title}: heat map; the same as a table below`}
      >
        {all.map((s, i) => {
          const top = HEIGHT - PAD.bottom - (i + 1) * height;
          return (
            <g key={s.name}>
              <text class="tick" x={PAD.left - 6} y={top + height / 2 + 4} text-anchor="end">
                {s.name}
              </text>
              {s.points.map(([ms, v]) =>
                v === null || v === 0 ? null : (
                  <rect
                    key={ms}
                    class="heat"
                    x={Math.max(PAD.left, frame.x(ms))}
                    y={top + 0.5}
                    width={Math.max(1, Math.min(cell - 0.5, width - PAD.right - frame.x(ms)))}
                    height={Math.max(1, height - 1)}
                    fill-opacity={0.15 + 0.85 * Math.sqrt(v / most)}
                  >
                    <title>{`${clock(new Date(ms).toISOString())} UTC, up to ${s.name}: ${v}`}</title>
                  </rect>
                ),
              )}
            </g>
          );
        })}
        <TimeAxis range={range} frame={frame} />
      </svg>
    </div>
  );
}

/** One band a series; the thresholds give each value its state. */
export function StateTimeline({ panel, data, range }: ChartProps): JSX.Element {
  const [box, width] = useWidth();
  const all = seriesOf(data);
  const left = Math.min(160, width * 0.35);
  const frame = frameOf(range, width, left);
  const row = 26;
  const drop = HEIGHT - PAD.bottom;
  const height = Math.max(row * all.length + PAD.bottom, 60);
  const cell = frame.x(range.fromMs + data.step_seconds * 1_000) - left;
  return (
    <div ref={box} class="chart">
      <svg
        viewBox={`0 0 ${width} ${height}`}
        role="img"
        aria-label={`${panel.title}: states over time; the same as a table below`}
      >
        {all.map((s, i) => (
          <g key={s.name}>
            <text class="tick" x={left - 8} y={i * row + 17} text-anchor="end">
              {s.name.length > 22 ? `${s.name.slice(0, 21)}\u2026` : s.name}
            </text>
            {s.points.map(([ms, v]) => {
              const from = Math.max(left, frame.x(ms));
              const to = Math.min(width - PAD.right, frame.x(ms) + cell);
              return to <= from ? null : (
                <rect
                  key={ms}
                  class={`state state-${stateOf(panel, v)}`}
                  x={from}
                  // The colour is told by height, too: what is not well is a thin line.
                  y={stateOf(panel, v) === 'green' ? i * row + 3 : i * row + 13}
                  width={to - from + 0.3}
                  height={stateOf(panel, v) === 'green' ? 20 : 6}
                />
              );
            })}
          </g>
        ))}
        <g transform={`translate(0 ${height - PAD.bottom - drop})`}>
          <TimeAxis range={range} frame={frame} />
        </g>
      </svg>
    </div>
  );
}

/** The colour of the highest threshold that the value reaches. */
function stateOf(panel: BoardPanel, value: number | null): string {
  if (value === null) return 'none';
  let color = 'none';
  for (const t of panel.thresholds) if (t.value === null || value >= t.value) color = t.color;
  return color;
}

export function Stat({ panel, data }: ChartProps): JSX.Element {
  const frame = data.frames[0];
  const at = frame?.columns.findIndex((c) => c.type === 'number') ?? -1;
  const cell = frame?.rows[0]?.[at];
  const value = typeof cell === 'number' ? cell : null;
  const isRated = panel.thresholds.some((t) => t.value !== null);
  return (
    <p class={`stat${isRated ? ` state-${stateOf(panel, value)}` : ''}`}>
      {value === null ? 'not measured' : inUnit(value, panel.unit)}
    </p>
  );
}

/** Anything that scrolls, reachable by keyboard. */
export function Scrolled(props: {
  readonly label: string;
  readonly children: ComponentChildren;
}): JSX.Element {
  return (
    <div class="scroll panel-body" tabIndex={0} role="region" aria-label={props.label}>
      {props.children}
    </div>
  );
}
