import type { JSX } from 'preact';
import type { BoardPanel, PanelData, PanelFrame } from '../../../schemas/board_view.ts';
import { clock, shortRef, words } from '../format.ts';
import { place } from '../router.ts';
import { inUnit } from '../units.ts';
import { Scrolled } from './charts.tsx';
import { Severity } from './marks.tsx';

/** Rows that are drawn; the panel says how many there are. */
const ROWS_SHOWN_MAX = 300;
type Cell = PanelFrame['rows'][number][number];

/** Where a value of a column leads. A board keeps the time range that is looked at. */
function addressOf(to: string, value: string): string {
  const range = ['range', 'from', 'to'].flatMap((name) => {
    const kept = place.value.query.get(name);
    return kept === null ? [] : [`&${name}=${encodeURIComponent(kept)}`];
  });
  return `${to}${encodeURIComponent(value)}${to.startsWith('#/boards/') ? range.join('') : ''}`;
}

function CellText(props: {
  readonly panel: BoardPanel;
  readonly name: string;
  readonly type: string;
  readonly value: Cell;
}): JSX.Element {
  const { value, name } = props;
  if (value === null || value === '') return <span class="faint">{'\u2013'}</span>;
  if (name === 'severity') return <Severity value={String(value)} />;
  const text =
    props.type === 'time'
      ? clock(String(value))
      : typeof value === 'number'
        ? inUnit(value, props.panel.kind === 'table' ? 'short' : props.panel.unit)
        : value;
  const to = props.panel.links[name];
  if (to === undefined) return <bdi>{text}</bdi>;
  const isRef = /^[0-9a-f-]{36}$/.test(text);
  return (
    <a href={addressOf(to, String(value))} title={String(value)}>
      <bdi class={isRef ? 'ref' : ''}>{isRef ? shortRef(text) : text}</bdi>
    </a>
  );
}

export function FrameTable(props: {
  readonly panel: BoardPanel;
  readonly frame: PanelFrame;
  readonly label: string;
}): JSX.Element {
  const { frame, panel } = props;
  const shown = frame.rows.slice(0, ROWS_SHOWN_MAX);
  return (
    <Scrolled label={`${props.label}, scrollable`}>
      <table class="data" aria-label={props.label}>
        <thead>
          <tr>
            {frame.columns.map((c) => (
              <th key={c.name} scope="col" class={c.type === 'number' ? 'number' : ''}>
                {words(c.name)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map((row, r) => (
            <tr key={r}>
              {frame.columns.map((c, i) => (
                <td
                  key={c.name}
                  class={c.type === 'text' ? '' : c.type === 'number' ? 'number' : 'cell-time'}
                >
                  <CellText panel={panel} name={c.name} type={c.type} value={row[i] ?? null} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {frame.rows.length > shown.length || frame.is_truncated ? (
        <p class="summary more-rows">
          The first {shown.length} of {frame.rows.length}
          {frame.is_truncated ? ' and more' : ''} rows.
        </p>
      ) : null}
    </Scrolled>
  );
}

/** Cells of the columns with these names. */
function columnsOf(frame: PanelFrame): (row: PanelFrame['rows'][number], name: string) => string {
  const index = new Map(frame.columns.map((c, i) => [c.name, i]));
  return (row, name) => String(row[index.get(name) ?? -1] ?? '');
}

export function Logs(props: { readonly panel: BoardPanel; readonly data: PanelData }): JSX.Element {
  const frame = props.data.frames[0];
  if (frame === undefined) return <></>;
  const cell = columnsOf(frame);
  const labels = frame.columns.slice(3).map((c) => c.name);
  return (
    <Scrolled label={`${props.panel.title}, scrollable`}>
      <ol class="logs">
        {frame.rows.slice(0, ROWS_SHOWN_MAX).map((row, i) => (
          <li key={i} class={`log log-${cell(row, 'level')}`}>
            <time dateTime={cell(row, 'timestamp')}>{clock(cell(row, 'timestamp'), true)}</time>
            <b>{cell(row, 'level')}</b>
            <bdi>{cell(row, 'body')}</bdi>
            <span class="faint">
              {labels
                .filter((name) => cell(row, name) !== '')
                .map((name) => `${name}=${cell(row, name)}`)
                .join(' ')}
            </span>
          </li>
        ))}
      </ol>
    </Scrolled>
  );
}

interface Span {
  readonly depth: number;
  readonly name: string;
  readonly service: string;
  readonly startMs: number;
  readonly durationMs: number;
  readonly isError: boolean;
}

/** Parents before children, children by start; a span whose parent is not there stands by itself. */
function spansOf(frame: PanelFrame): readonly Span[] {
  const cell = columnsOf(frame);
  const ids = new Set(frame.rows.map((r) => cell(r, 'spanID')));
  const children = new Map<string, PanelFrame['rows'][number][]>();
  for (const row of frame.rows) {
    const parent = cell(row, 'parentSpanID');
    const key = ids.has(parent) ? parent : '';
    children.set(key, [...(children.get(key) ?? []), row]);
  }
  const spans: Span[] = [];
  const seen = new Set<string>();
  const visit = (key: string, depth: number): void => {
    for (const row of children.get(key) ?? []) {
      const id = cell(row, 'spanID');
      if (seen.has(id)) continue;
      seen.add(id);
      spans.push({
        depth,
        name: cell(row, 'operationName'),
        service: cell(row, 'serviceName'),
        startMs: Number(cell(row, 'startTime')),
        durationMs: Number(cell(row, 'duration')),
        isError: /error/i.test(cell(row, 'statusCode')),
      });
      visit(id, depth + 1);
    }
  };
  visit('', 0);
  return spans;
}

/** A waterfall: a bar a span, on one scale. */
export function Trace(props: {
  readonly panel: BoardPanel;
  readonly data: PanelData;
}): JSX.Element {
  const frame = props.data.frames[0];
  if (frame === undefined) return <></>;
  const spans = spansOf(frame);
  const start = Math.min(...spans.map((s) => s.startMs));
  const total = Math.max(1, ...spans.map((s) => s.startMs + s.durationMs - start));
  return (
    <Scrolled label={`${props.panel.title}, scrollable`}>
      <table class="trace" aria-label={props.panel.title}>
        <thead>
          <tr>
            <th scope="col">Span</th>
            <th scope="col">
              <span class="unseen">When</span>
            </th>
            <th scope="col" class="number">
              Duration
            </th>
          </tr>
        </thead>
        <tbody>
          {spans.map((s, i) => (
            <tr key={i}>
              <td>
                <span class="indent" style={{ paddingLeft: `${Math.min(s.depth, 12) * 14}px` }}>
                  <bdi>{s.name}</bdi> <span class="faint">{s.service}</span>
                  {s.isError ? <b class="error-text"> error</b> : null}
                </span>
              </td>
              <td class="trace-bar">
                <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
                  <rect
                    class={s.isError ? 'bar-error' : 'bar-ok'}
                    x={((s.startMs - start) / total) * 99}
                    width={Math.max(0.8, (s.durationMs / total) * 99)}
                    height="8"
                  />
                </svg>
              </td>
              <td class="number">{inUnit(s.durationMs, 'ms')}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scrolled>
  );
}
