import { useEffect, useMemo, useState } from 'preact/hooks';
import type { JSX } from 'preact';
import type { AnnotationList, BoardList, BoardView } from '../../../schemas/board_view.ts';
import { useLoaded } from '../api_client.ts';
import { RANGES, readRange, type BoardRange } from '../board_range.ts';
import { clock, plural } from '../format.ts';
import { BoardPanelBox } from '../parts/board_panel.tsx';
import { Panel, Waiting } from '../parts/frames.tsx';
import { go, href, place } from '../router.ts';

export function Boards(): JSX.Element {
  const { data, error } = useLoaded<BoardList>('api/v1/boards');
  return (
    <>
      <h1>Boards</h1>
      <Panel flush title="What Grafana shows, without Grafana">
        {data === undefined ? (
          <Waiting error={error} />
        ) : (
          <table aria-label="Boards">
            <thead>
              <tr>
                <th scope="col">Board</th>
                <th scope="col" class="number">
                  Panels
                </th>
              </tr>
            </thead>
            <tbody>
              {data.items.map((b) => (
                <tr key={b.id}>
                  <td class="cell-main">
                    <a data-row class="title" href={href(['boards', b.id])}>
                      {b.title.replace('Grantscope ', '')}
                    </a>
                    <p class="summary">{b.description}</p>
                  </td>
                  <td class="number">{b.panels}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
    </>
  );
}

export function BoardPage({ id }: { readonly id: string }): JSX.Element {
  const { data: board, error } = useLoaded<BoardView>(`api/v1/boards/${encodeURIComponent(id)}`);
  if (board === undefined) return <Waiting error={error} />;
  return <Board board={board} />;
}

function Board({ board }: { readonly board: BoardView }): JSX.Element {
  const [nowMs, setNowMs] = useState(() => Date.now());
  const { query } = place.value;
  const range = useMemo(() => readRange(query, board.from, nowMs), [query, board.from, nowMs]);
  useEffect(() => {
    const timer = window.setInterval(() => {
      if (!document.hidden) setNowMs(Date.now());
    }, board.refresh_seconds * 1_000);
    return () => window.clearInterval(timer);
  }, [board.refresh_seconds]);
  const variables = Object.fromEntries(
    board.variables.map((v) => [v.name, query.get(v.name) ?? '']),
  );
  const span = `from=${encodeURIComponent(new Date(range.fromMs).toISOString())}&to=${encodeURIComponent(new Date(range.toMs).toISOString())}`;
  const notes = useLoaded<AnnotationList>(`api/v1/boards/${board.id}/annotations?${span}`);
  return (
    <article>
      <header class="page-head">
        <p class="crumbs">
          <a href={href(['boards'])}>Boards</a>
        </p>
        <h1>{board.title.replace('Grantscope ', '')}</h1>
        <p class="lead">{board.description}</p>
      </header>
      <Controls board={board} range={range} />
      {board.rows.map((row) => (
        <section key={row.title} aria-label={row.title}>
          <h2 class="board-row">{row.title}</h2>
          <div class="board">
            {row.panels.map((panel) => (
              <BoardPanelBox
                key={panel.id}
                board={board.id}
                panel={panel}
                range={range}
                variables={variables}
                annotations={notes.data?.items ?? []}
              />
            ))}
          </div>
        </section>
      ))}
    </article>
  );
}

/** Puts one choice into the address and leaves the others. */
function choose(board: string, changes: Readonly<Record<string, string>>): void {
  const all = { ...Object.fromEntries(place.value.query), ...changes };
  go(href(['boards', board], all), { replace: true });
}

function Controls(props: { readonly board: BoardView; readonly range: BoardRange }): JSX.Element {
  const { board, range } = props;
  const own =
    range.relative === '' || RANGES.some((r) => r === range.relative) ? [] : [range.relative];
  return (
    <form class="filters" onSubmit={(event) => event.preventDefault()}>
      <label>
        <span>Time range</span>
        <select
          value={range.relative}
          onChange={(event) =>
            choose(board.id, { range: event.currentTarget.value, from: '', to: '' })
          }
        >
          {range.relative === '' ? (
            <option value="">
              {clock(new Date(range.fromMs).toISOString())} to{' '}
              {clock(new Date(range.toMs).toISOString())}
            </option>
          ) : null}
          {[...own, ...RANGES].map((r) => (
            <option key={r} value={r}>
              last {r}
            </option>
          ))}
        </select>
      </label>
      {board.variables.map((v) => (
        <label key={v.name}>
          <span>{v.label}</span>
          <input
            type="text"
            autocomplete="off"
            spellcheck={false}
            placeholder="any"
            value={place.value.query.get(v.name) ?? ''}
            onChange={(event) => choose(board.id, { [v.name]: event.currentTarget.value.trim() })}
          />
        </label>
      ))}
      <p class="faint small">
        Times are UTC.{' '}
        {plural(
          board.rows.reduce((n, r) => n + r.panels.length, 0),
          'panel',
        )}
        , read again every {board.refresh_seconds} s.
      </p>
    </form>
  );
}
