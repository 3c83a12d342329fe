/**
 * Every panel without Grafana: the committed JSON is what the definitions render, its layout and links hold, and each
 * panel's SQL runs on the real engine over seeded events and returns rows of the right types. How Grafana
 * draws them is not covered.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { computeSlo, toStateRow } from '../../alerts/compute.ts';
import { loadSlos } from '../../alerts/registry.ts';
import { generateDashboards } from '../../dashboards/generate.ts';
import { expandMacros } from '../../dashboards/macros.ts';
import { checkBoard, loadBoards } from '../../dashboards/registry.ts';
import { renderBoard } from '../../dashboards/render.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import { Sql } from '../../model/sql.ts';
import { packageRoot } from '../../runtime/paths.ts';
import type { Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore } from '../harness.ts';

const boards = await loadBoards();
const panels = boards.flatMap((b) => b.rows.flatMap((r) => r.panels.map((p) => ({ b, p }))));
const sqlPanels = panels.flatMap(({ b, p }) =>
  p.queries.flatMap((q) =>
    q.language === 'sql' ? [{ name: `${b.id}: ${p.title}`, panel: p, q }] : [],
  ),
);

const NOW = Date.now();
const range = { fromMs: NOW - 3_600_000, toMs: NOW, intervalSeconds: 60 };
// A tenant that only a correctly quoted literal finds.
const TENANT = "o'brien\\";

let store: Store;
let close: () => Promise<void>;

function event(i: number, fields: Omit<PartialEvent, 'event_id' | 'time'>): AuthEvent {
  return completeEvent({
    event_id: randomUUID(),
    tenant: TENANT,
    time: BigInt(NOW - 60_000 - i * 10_000) * 1_000_000n,
    issuer: 'https://as.example',
    client: { id: `client-${i % 3}` },
    source: { id: 'grantscope' },
    ...fields,
  });
}

beforeAll(async () => {
  ({ store, close } = await openTestStore());
  const events = Array.from({ length: 60 }, (_, i) => [
    event(i, {
      kind: 'token_issued',
      outcome: 'success',
      grant_type: 'client_credentials',
      http: { status: 200, duration_ms: 5 + i * 20 },
    }),
    event(i, {
      kind: 'token_refreshed',
      outcome: 'success',
      grant_type: 'refresh_token',
      http: { status: 200, duration_ms: 12 },
    }),
    event(i, {
      kind: 'token_request_failed',
      outcome: 'failure',
      grant_type: 'refresh_token',
      error: { oauth_error: i % 2 === 0 ? 'invalid_grant' : 'server_error' },
      http: { status: i % 2 === 0 ? 400 : 500, duration_ms: 30 },
    }),
    event(i, { kind: 'token_introspected', outcome: i % 5 === 0 ? 'failure' : 'success' }),
    event(i, { kind: 'token_rejected', outcome: 'failure', error: { code: 'expired' } }),
  ]).flat();
  await insertEvents(store, events);
  for (const slo of await loadSlos()) {
    const state = await computeSlo(store, TENANT, slo, NOW);
    await store.insertRows('grantscope.slo_states', [toStateRow(TENANT, state, NOW)]);
  }
  await store.insertRows(
    'grantscope.findings',
    ['critical', 'medium'].map((severity) => ({
      finding_id: randomUUID(),
      tenant: TENANT,
      rule_id: 'refresh_reuse',
      rule_version: 1,
      severity,
      state: 'open',
      last_event_time: new Date(NOW).toISOString().replace('T', ' ').replace('Z', ''),
      version: 1,
    })),
  );
});
afterAll(() => close());

const run = <Row>(text: string): Promise<Row[]> => store.query<Row>(new Sql([text], []));

describe.each(sqlPanels)('$name', ({ panel, q }) => {
  it('returns rows of the right types', async () => {
    const text = expandMacros(q.text, range, { tenant: TENANT });
    const columns = await run<{ name: string; type: string }>(`DESCRIBE (${text})`);
    const rows = await run<Record<string, unknown>>(text);
    expect(rows.length).toBeGreaterThan(0);
    if (q.format === 'time_series') {
      expect(columns[0]?.name).toBe('time');
      expect(columns[0]?.type).toMatch(/^DateTime/);
      for (const column of columns.slice(1)) {
        expect([column.name, column.type]).toEqual([
          column.name,
          expect.stringMatching(/^(Nullable\()?(U?Int|Float)\d+\)?$/),
        ]);
        for (const row of rows) expect(Number.isFinite(Number(row[column.name]))).toBe(true);
      }
      const times = rows.map((r) => String(r['time']));
      expect(times).toEqual([...times].sort());
      expect(new Set(times).size).toBe(times.length);
    }
    for (const column of Object.keys(panel.links ?? {}))
      expect(columns.map((c) => c.name)).toContain(column);
  });

  it('returns nothing of another tenant', async () => {
    const rows = await run<Record<string, unknown>>(
      expandMacros(q.text, range, { tenant: 'nobody' }),
    );
    expect(rows).toEqual([]);
  });
});

describe('what the panels say about the seeded events', () => {
  const rowsOf = async (title: string): Promise<Record<string, unknown>[]> => {
    const found = sqlPanels.find((p) => p.panel.title === title);
    return run(expandMacros(found!.q.text, range, { tenant: TENANT }));
  };
  it('counts findings by severity, most severe first', async () => {
    const rows = await rowsOf('Open findings by severity');
    expect(rows.map((r) => [r['severity'], r['findings']])).toEqual([
      ['critical', 1],
      ['medium', 1],
    ]);
  });
  it('tells server errors from client errors', async () => {
    const rows = await rowsOf('Token endpoint error rate');
    // In a full minute: 6 issued, 6 refreshed, 3 refused with invalid_grant, 3 failed with server_error.
    expect(rows[3]).toMatchObject({ server_errors: 3 / 18, client_errors: 3 / 18 });
  });
  it('names the clients with most failed refreshes', async () => {
    const rows = await rowsOf('Clients with most failed refreshes');
    expect(rows.map((r) => [r['client_id'], r['failures']])).toEqual([
      ['client-0', 20],
      ['client-1', 20],
      ['client-2', 20],
    ]);
  });
  it('shows the signed budget', async () => {
    const rows = await rowsOf('Error budgets left');
    // 30 bad of 150, less what the watermark has not reached: far beyond a budget of 0.1 %.
    expect(rows).toHaveLength(1);
    expect(rows[0]?.['state']).toBe('breached');
    expect(Number(rows[0]?.['budget_left_percent'])).toBeLessThan(-10_000);
  });
});

describe('expandMacros', () => {
  it('expands what it knows and refuses what it does not', () => {
    expect(expandMacros('$__timeFilter(t) / $__interval_s', range, {})).toBe(
      `t >= toDateTime(${Math.floor(range.fromMs / 1000)}) AND t <= toDateTime(${Math.floor(range.toMs / 1000)}) / 60`,
    );
    expect(expandMacros('${tenant:sqlstring}', range, { tenant: "a'b\\c" })).toBe("'a\\'b\\\\c'");
    for (const text of ['$__unknown(t)', '$__adhoc', '${other:sqlstring}', '${tenant}', '$tenant'])
      expect(() => expandMacros(text, range, { tenant: 'x' })).toThrow(/unknown macro or variable/);
  });
});

interface RenderedPanel {
  id: number;
  type: string;
  title?: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  datasource?: { uid: string };
  fieldConfig?: { defaults: { unit?: string } };
  targets?: { refId: string; datasource: { uid: string }; expr?: string; rawSql?: string }[];
}

describe.each(boards)('the rendered board $id', (board) => {
  const rendered = renderBoard(board) as {
    uid: string;
    panels: RenderedPanel[];
    templating: { list: { name: string }[] };
  };

  it('is what is committed', async () => {
    const path = `dashboards/generated/${board.id}.json`;
    expect(readFileSync(join(packageRoot, path), 'utf8')).toBe((await generateDashboards())[path]);
  });

  it('names, describes and measures every panel, from a data source that is a variable', () => {
    const variables = rendered.templating.list.map((v) => `\${${v.name}}`);
    expect(variables).toEqual(['${clickhouse}', '${prometheus}', '${tenant}']);
    for (const panel of rendered.panels.filter((p) => p.type !== 'row')) {
      expect(panel.title).toBeTruthy();
      expect(panel.description).toBeTruthy();
      expect(panel.fieldConfig?.defaults.unit).toBeTruthy();
      expect(variables).toContain(panel.datasource?.uid);
      for (const target of panel.targets ?? []) {
        expect(target.datasource.uid).toBe(panel.datasource?.uid);
        expect(target.rawSql ?? target.expr).toBeTruthy();
      }
      const refIds = panel.targets?.map((t) => t.refId) ?? [];
      expect(refIds.length).toBeGreaterThan(0);
      expect(new Set(refIds).size).toBe(refIds.length);
    }
  });

  it('has unique ids and titles, and no two panels in one place', () => {
    const ids = rendered.panels.map((p) => p.id);
    expect(new Set(ids).size).toBe(ids.length);
    const titles = rendered.panels.map((p) => p.title);
    expect(new Set(titles).size).toBe(titles.length);
    const taken = new Set<string>();
    for (const { gridPos: g, title } of rendered.panels) {
      expect(g.x + g.w).toBeLessThanOrEqual(24);
      for (let x = g.x; x < g.x + g.w; x += 1) {
        for (let y = g.y; y < g.y + g.h; y += 1) {
          expect(taken.has(`${x},${y}`), `${title ?? ''} overlaps at ${x},${y}`).toBe(false);
          taken.add(`${x},${y}`);
        }
      }
    }
  });
});

describe('checkBoard', () => {
  it('refuses a panel without a unit or with two data sources', () => {
    const [board] = boards;
    const panel = board!.rows[0]!.panels[0]!;
    const withPanel = (changed: object): unknown => ({
      ...board,
      rows: [{ title: 'x', panels: [{ ...panel, ...changed }] }],
    });
    expect(() => checkBoard(withPanel({ unit: '' }))).toThrow(/rows\.0\.panels\.0\.unit/);
    expect(() =>
      checkBoard(
        withPanel({
          queries: [...panel.queries, { language: 'sql', format: 'table', text: 'SELECT 1' }],
        }),
      ),
    ).toThrow(/one data source a panel/);
  });
});
