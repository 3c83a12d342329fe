import { useEffect, useRef, useState } from 'preact/hooks';
import type { JSX } from 'preact';
import type { AnnotationList, BoardPanel, PanelData } from '../../../schemas/board_view.ts';
import { useLoaded } from '../api_client.ts';
import type { BoardRange } from '../board_range.ts';
import { Heatmap, StateTimeline, Stat, TimeSeries, type ChartProps } from './charts.tsx';
import { FrameTable, Logs, Trace } from './board_tables.tsx';
import { Empty, StaleNote, Waiting } from './frames.tsx';
import { NodeGraph } from './node_graph.tsx';

export interface BoardPanelProps {
  readonly board: string;
  readonly panel: BoardPanel;
  readonly range: BoardRange;
  readonly variables: Readonly<Record<string, string>>;
  readonly annotations: AnnotationList['items'];
}

/** True once the element has come near the screen. */
function useNear(): readonly [{ current: HTMLElement | null }, boolean] {
  const box = useRef<HTMLElement | null>(null);
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    if (box.current === null || isNear) return;
    const watch = new IntersectionObserver(
      (entries) => {
        if (entries.some((e) => e.isIntersecting)) setNear(true);
      },
      { rootMargin: '400px' },
    );
    watch.observe(box.current);
    return () => watch.disconnect();
  }, [isNear]);
  return [box, isNear];
}

/** One panel of a board: asks for its data when it comes near the screen. */
export function BoardPanelBox(props: BoardPanelProps): JSX.Element {
  const { panel } = props;
  const [box, isNear] = useNear();
  const id = `panel-${panel.id}`;
  return (
    <section
      ref={box}
      class={`panel flush board-panel kind-${panel.kind}`}
      aria-labelledby={id}
      style={{
        '--span': String(panel.width),
        '--span-middle': String(
          panel.width > 12 ? 24 : panel.width > 6 ? 12 : panel.width <= 4 ? 8 : 12,
        ),
      }}
    >
      <header class="panel-head">
        <h3 id={id}>{panel.title}</h3>
        <div class="panel-aside">
          {panel.opens === '' ? null : (
            <a href={panel.opens}>
              open<span class="unseen"> {panel.title}</span>
            </a>
          )}
        </div>
      </header>
      <p class="panel-text">{panel.description}</p>
      {isNear ? <PanelContent {...props} /> : <p class="waiting">Waits until it is seen.</p>}
    </section>
  );
}

function PanelContent(props: BoardPanelProps): JSX.Element {
  const { panel, range, variables } = props;
  const query = new URLSearchParams({
    from: new Date(range.fromMs).toISOString(),
    to: new Date(range.toMs).toISOString(),
    points: panel.kind === 'heatmap' || panel.kind === 'state_timeline' ? '80' : '240',
  });
  for (const [name, value] of Object.entries(variables)) if (value !== '') query.set(name, value);
  const path = `api/v1/boards/${props.board}/panels/${panel.id}?${query.toString()}`;
  const { data: fresh, error } = useLoaded<PanelData>(path);
  // While a moved range is read, the last answer stays, so that nothing flickers.
  const last = useRef<PanelData | undefined>(undefined);
  if (fresh !== undefined) last.current = fresh;
  const data = fresh ?? (error === undefined ? last.current : undefined);
  if (data === undefined) return <Waiting error={error} />;
  if (data.state === 'not_configured')
    return (
      <Empty title="Prometheus is not configured">
        <p>
          This panel shows metrics. Set <code>PROMETHEUS_URL</code> to a Prometheus that scrapes
          Grantscope, and start again.
        </p>
      </Empty>
    );
  if (data.state === 'unavailable')
    return (
      <Empty title="Prometheus does not answer">
        <p>It is asked again with the next refresh.</p>
      </Empty>
    );
  if (data.frames.every((f) => f.rows.length === 0))
    return (
      <Empty title="Nothing in this time range">
        <p>{props.panel.kind === 'stat' ? 'Not measured is not zero.' : 'No row matches.'}</p>
      </Empty>
    );
  return (
    <>
      <StaleNote error={error} />
      <Drawing panel={panel} data={data} range={range} annotations={props.annotations} />
    </>
  );
}

/** What a panel draws; whatever is not text by itself has its table below. */
function Drawing(props: ChartProps): JSX.Element {
  const { panel, data } = props;
  switch (panel.kind) {
    case 'table':
      return (
        <>
          {data.frames.map((f) => (
            <FrameTable key={f.name} panel={panel} frame={f} label={panel.title} />
          ))}
        </>
      );
    case 'stat':
      return <Stat {...props} />;
    case 'logs':
      return <Logs {...props} />;
    case 'traces':
      return <Trace {...props} />;
    case 'timeseries':
      return withTable(props, <TimeSeries {...props} />);
    case 'heatmap':
      return withTable(props, <Heatmap {...props} />);
    case 'state_timeline':
      return withTable(props, <StateTimeline {...props} />);
    case 'node_graph':
      return withTable(props, <NodeGraph {...props} />);
  }
}

function withTable(props: ChartProps, chart: JSX.Element): JSX.Element {
  return (
    <>
      {chart}
      <AsTable {...props} />
    </>
  );
}

function AsTable({ panel, data }: ChartProps): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  return (
    <details
      class="as-table"
      onToggle={(event) => {
        setOpen(event.currentTarget.open);
      }}
    >
      <summary>
        As a table<span class="unseen">: {panel.title}</span>
      </summary>
      {isOpen
        ? data.frames.map((f, i) => (
            <FrameTable key={i} panel={panel} frame={f} label={`${panel.title}: ${f.name}`} />
          ))
        : null}
    </details>
  );
}
