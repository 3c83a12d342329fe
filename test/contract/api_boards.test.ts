/**
 * The API of boards over a real port and the real engine: every panel of every board is answered in the described form,
 * values of variables stay values, and what is out of bounds is refused by name.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApi, type Api } from '../../api/main.ts';
import { stepOf } from '../../api/panel_data.ts';
import { AnnotationList, BoardList, BoardView, PanelData } from '../../api/schemas/board_view.ts';
import { loadBoards } from '../../dashboards/registry.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore, testRuntime } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const from = new Date(NOW_MS - 3_600_000).toISOString();
const to = new Date(NOW_MS).toISOString();
let opened: Awaited<ReturnType<typeof openTestStore>>;
let api: Api;

beforeAll(async () => {
  opened = await openTestStore();
  await insertEvents(
    opened.store,
    ['default', 'neighbour'].flatMap((tenant) =>
      Array.from({ length: 30 }, (_, i) =>
        completeEvent({
          event_id: randomUUID(),
          tenant,
          time: BigInt(NOW_MS - 60_000 - i * 60_000) * 1_000_000n,
          kind: i % 3 === 0 ? 'token_request_failed' : 'token_issued',
          outcome: i % 3 === 0 ? 'failure' : 'success',
          client: { id: tenant === 'default' ? `client-${i % 2}` : 'stranger' },
          source: { id: 'grantscope' },
          http: { status: i % 3 === 0 ? 500 : 200 },
          corr: { trace_id: 'a'.repeat(32) },
        }),
      ),
    ),
  );
  api = await startApi(testRuntime(opened.dataDir), opened.store);
});
afterAll(async () => {
  await api.component.stop();
  await opened.close();
});

async function get(path: string): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${api.url}/api/v1/boards${path}`);
  return { status: response.status, body: await response.json() };
}
const at = (extra = ''): string =>
  `from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}${extra}`;

async function panelId(board: string, title: string): Promise<number> {
  const view = BoardView.parse((await get(`/${board}`)).body);
  return view.rows.flatMap((r) => r.panels).find((p) => p.title === title)!.id;
}

async function data(board: string, title: string, extra = ''): Promise<PanelData> {
  return PanelData.parse(
    (await get(`/${board}/panels/${await panelId(board, title)}?${at(extra)}`)).body,
  );
}

describe('boards', () => {
  it('are those of the definitions, panel by panel', async () => {
    const definitions = await loadBoards();
    const list = BoardList.parse((await get('')).body);
    expect(list.items.map((b) => [b.id, b.title, b.panels])).toEqual(
      definitions.map((b) => [b.id, b.title, b.rows.flatMap((r) => r.panels).length]),
    );
    for (const board of definitions) {
      const view = BoardView.parse((await get(`/${board.id}`)).body);
      expect(view.variables.map((v) => v.name)).toEqual(board.variables ?? []);
      expect(view.from).toBe(board.from);
      expect(
        view.rows.map((r) => r.panels.map((p) => [p.title, p.kind, p.unit, p.width, p.opens])),
      ).toEqual(
        board.rows.map((r) =>
          r.panels.map((p) => [p.title, p.kind, p.unit, p.width, p.opens ?? '']),
        ),
      );
    }
  });

  it('have links that lead into the console', async () => {
    const view = BoardView.parse((await get('/soc')).body);
    const newest = view.rows.flatMap((r) => r.panels).find((p) => p.title === 'Newest findings');
    expect(newest?.links).toEqual({
      finding_id: '#/findings/',
      client_id: '#/investigations/client/',
      token: '#/boards/soc?token=',
    });
  });

  it('never show a query', async () => {
    for (const { id } of BoardList.parse((await get('')).body).items)
      expect(JSON.stringify((await get(`/${id}`)).body)).not.toMatch(/SELECT|sqlstring|rate\(/);
  });

  it('answer every panel in the described form', async () => {
    for (const { id } of BoardList.parse((await get('')).body).items) {
      const view = BoardView.parse((await get(`/${id}`)).body);
      for (const panel of view.rows.flatMap((r) => r.panels)) {
        const { status, body } = await get(`/${id}/panels/${panel.id}?${at()}`);
        expect([id, panel.title, status]).toEqual([id, panel.title, 200]);
        expect(PanelData.parse(body).state).toBe(
          panel.language === 'promql' ? 'not_configured' : 'ok',
        );
      }
      AnnotationList.parse((await get(`/${id}/annotations?${at()}`)).body);
    }
  });

  it('show numbers, times and the own tenant', async () => {
    const { frames, step_seconds } = await data('on_call', 'Token endpoint error rate');
    expect(step_seconds).toBe(60);
    expect(frames[0]?.columns).toEqual([
      { name: 'time', type: 'time' },
      { name: 'server_errors', type: 'number' },
      { name: 'client_errors', type: 'number' },
    ]);
    // One event a minute, every third of them a failure of the server.
    expect(frames[0]?.rows.length).toBe(30);
    expect(frames[0]?.rows.at(-1)).toEqual(['2026-03-01T11:59:00Z', 1, 0]);
    expect(frames[0]?.rows.at(-2)).toEqual(['2026-03-01T11:58:00Z', 0, 0]);
    const failing = await data('debug', 'Clients that fail most');
    expect(failing.frames[0]?.rows.map((r) => r[0]).sort()).toEqual(['client-0', 'client-1']);
  });

  it('take values of variables as values', async () => {
    const failing = (client: string): Promise<PanelData> =>
      data('debug', 'Clients that fail most', `&client=${encodeURIComponent(client)}`);
    expect((await failing('client-1')).frames[0]?.rows.map((r) => r[0])).toEqual(['client-1']);
    for (const client of ["' OR 1=1 --", 'x{p0:String}', '${tenant:sqlstring}', '$__interval_s'])
      expect((await failing(client)).frames[0]?.rows).toEqual([]);
  });

  it('refuse what is unknown, mistyped or too much', async () => {
    const id = await panelId('debug', 'Recent failures');
    const refusals: readonly (readonly [string, number, RegExp])[] = [
      ['/nowhere', 404, /no board has this id/],
      [`/debug/panels/9999?${at()}`, 404, /no panel with this id/],
      [`/debug/panels/${id}`, 400, /query.from/],
      [`/debug/panels/${id}?${at('&sql=SELECT+1')}`, 400, /unknown parameter/],
      [`/debug/panels/${id}?${at('&trace=xyz')}`, 400, /32 hexadecimal digits/],
      [`/soc/panels/2?${at('&token=xyz')}`, 400, /hexadecimal digits/],
      [`/debug/panels/${id}?${at('&points=1001')}`, 400, /query.points/],
      [`/debug/panels/${id}?from=${to}&to=${from}`, 400, /must be after from/],
      [`/debug/panels/${id}?from=2020-01-01T00:00:00Z&to=${to}`, 400, /at most 400 days/],
    ];
    for (const [path, status, detail] of refusals) {
      const answer = await get(path);
      expect([path, answer.status]).toEqual([path, status]);
      expect((answer.body as { detail: string }).detail).toMatch(detail);
    }
  });
});

describe('stepOf', () => {
  it('is the shortest easy step with no more points than asked for', () => {
    const hours = (n: number): { fromMs: number; toMs: number } => ({
      fromMs: 0,
      toMs: n * 3_600_000,
    });
    expect(stepOf(hours(1), 240, 0)).toBe(15);
    expect(stepOf(hours(1), 240, 60)).toBe(60);
    expect(stepOf(hours(24), 240, 60)).toBe(600);
    expect(stepOf(hours(24 * 400), 100, 60)).toBe(4 * 86_400);
  });
});
