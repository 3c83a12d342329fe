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
import { checkBoard, loadBoards } from '../../dashboards/registry.ts';
import { renderBoard, uidOf } from '../../dashboards/render.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { panelStatement, variablesOf } from '../../model/board_query.ts';
import { BOARD_VARIABLES } from '../../model/define_board.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import { sql, type Sql } from '../../model/sql.ts';
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

/** A whole hour, so that it does not depend on the clock which events share a step of a series. */
const NOW = Math.floor(Date.now() / 3_600_000) * 3_600_000;
const range = { fromMs: NOW - 3_600_000, toMs: NOW, intervalSeconds: 60 };
// A tenant that only a correctly quoted literal finds.
const TENANT = "o'brien\\";
const TRACE = 'a'.repeat(32);
const FAMILY = '10000000-0000-4000-8000-00000000000f';
const token = (n: number): string => `10000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const clickHouseTime = (ms: number): string =>
  new Date(ms).toISOString().replace('T', ' ').replace('Z', '');
/** A board as it is opened: nothing chosen. */
const nothing = { tenant: TENANT, client: '', trace: '', token: '' };

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

/** A failed flow with a trace, a token that is refreshed twice and revoked, and keys that change. */
function flow(): AuthEvent[] {
  const token1 = { type: 'refresh', ref: token(1), family_ref: FAMILY } as const;
  return [
    event(0, {
      kind: 'authorization_failed',
      outcome: 'failure',
      error: { oauth_error: 'invalid_request' },
      redirect_uri: 'https://evil.example/cb',
      net: { network: '203.0.113.0/24' },
      corr: { trace_id: TRACE },
    }),
    event(3, {
      kind: 'token_issued',
      outcome: 'success',
      source: { id: 'grantscope', instance: 'as-1' },
      tokens: [{ ...token1, role: 'issued', kid: 'key-1', alg: 'ES256' }],
    }),
    event(2, {
      kind: 'token_refreshed',
      outcome: 'success',
      tokens: [
        { ...token1, role: 'consumed' },
        { ...token1, role: 'issued', ref: token(2), parent_ref: token(1) },
        { ...token1, type: 'access', role: 'issued', ref: token(3), parent_ref: token(1) },
      ],
    }),
    event(1, {
      kind: 'token_revoked',
      outcome: 'success',
      tokens: [
        {
          ...token1,
          role: 'revoked',
          ref: token(2),
          expires_at: BigInt(NOW + 86_400_000) * 1_000_000n,
        },
      ],
    }),
    event(1, { kind: 'key_rotated', outcome: 'success', key: { kid: 'key-2', store: 'vault' } }),
  ];
}

/** The failed flow's trace with a slow datastore, and a new version of its service. */
async function seedSpans(): Promise<void> {
  const span = (n: number, version: string, attributes: Record<string, string>): object => ({
    Timestamp: clickHouseTime(NOW - 600_000 + n * 60_000),
    TraceId: TRACE,
    SpanId: String(n).padStart(16, '0'),
    ParentSpanId: n === 0 ? '' : '0'.repeat(16),
    SpanName: n === 0 ? 'GET /auth' : 'find client',
    SpanKind: n === 0 ? 'Server' : 'Client',
    ServiceName: 'as',
    ResourceAttributes: { 'service.version': version },
    SpanAttributes: attributes,
    Duration: 40_000_000,
    StatusCode: 'Unset',
  });
  await store.insertRows('grantscope.otel_traces', [
    span(0, '1.0.0', {}),
    span(1, '1.0.0', { 'db.system.name': 'redis' }),
    span(2, '1.1.0', { 'db.system.name': 'redis' }),
  ] as Record<string, unknown>[]);
}

/** A rule that has run, a suppression that has hidden one finding, and a dead letter. */
async function seedTriage(): Promise<void> {
  const at = clickHouseTime(NOW - 60_000);
  const suppression = token(70);
  await store.insertRows('grantscope.detector_watermarks', [
    { tenant: TENANT, rule_id: 'refresh_reuse', rule_version: 1, swept_to: at, seen_to: at },
  ]);
  await store.insertRows('grantscope.suppressions', [
    { tenant: TENANT, suppression_id: suppression, rule_id: 'x', owner: 'ana', reason: 'test' },
  ]);
  await store.insertRows('grantscope.finding_changes', [
    {
      tenant: TENANT,
      finding_id: token(71),
      change_no: 1,
      treatment: 'suppressed',
      treated_by: suppression,
      changed_at: at,
    },
  ]);
  await store.insertRows('grantscope.dead_letters', [
    { letter_id: token(72), tenant: TENANT, source_id: 'okta', received_at: at, reason: 'shape' },
  ]);
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
    event(i, {
      kind: 'token_validated',
      outcome: 'success',
      ext: { validation_mode: i % 4 === 0 ? 'introspection' : 'cache' },
    }),
    event(i, {
      kind: 'api_accessed',
      outcome: i % 3 === 0 ? 'failure' : 'success',
      http: { status: i % 3 === 0 ? 502 : 200, method: 'GET', route: '/orders' },
    }),
    event(i, { kind: i % 10 === 0 ? 'login_failed' : 'login', outcome: 'success' }),
  ]).flat();
  await insertEvents(store, [...events, ...flow()]);
  await seedSpans();
  await seedTriage();
  for (const slo of await loadSlos()) {
    const state = await computeSlo(store, TENANT, slo, NOW);
    await store.insertRows('grantscope.slo_states', [toStateRow(TENANT, state, NOW)]);
  }
  await store.insertRows(
    'grantscope.findings',
    ['critical', 'medium'].map((severity, i) => ({
      finding_id: randomUUID(),
      tenant: TENANT,
      rule_id: 'refresh_reuse',
      rule_version: 1,
      severity,
      title: 'Refresh token reuse',
      family: 'token_replay',
      state: 'open',
      risk: 50,
      client_id: 'client-1',
      subject_ref: token(90),
      token_refs: [token(1 + i)],
      summary: 'Seen twice.',
      first_event_time: clickHouseTime(NOW - 120_000),
      last_event_time: clickHouseTime(NOW - 60_000 - i * 1_000),
      detected_at: clickHouseTime(NOW - 57_000),
      version: 1,
    })),
  );
});
afterAll(() => close());

const run = <Row>(statement: Sql): Promise<Row[]> => store.query<Row>(statement);
const TIMES = /^DateTime/;
const NUMBERS = /^(Nullable\()?(U?Int|Float)\d+\)?$/;
const LABELS = /^(LowCardinality\()?String\)?$/;

describe.each(sqlPanels)('$name', ({ panel, q }) => {
  it('returns rows of the right types', async () => {
    const statement = panelStatement(q.text, range, nothing);
    const columns = await run<{ name: string; type: string }>(sql`DESCRIBE (${statement})`);
    const rows = await run<Record<string, unknown>>(statement);
    expect(rows.length).toBeGreaterThan(0);
    const names = columns.map((c) => c.name);
    if (q.format === 'time_series') {
      expect(names[0]).toBe('time');
      expect(columns[0]?.type).toMatch(TIMES);
      const labels = columns.filter((c) => LABELS.test(c.type)).map((c) => c.name);
      const values = columns.slice(1).filter((c) => !labels.includes(c.name));
      expect(values.length).toBeGreaterThan(0);
      for (const column of values) {
        expect([column.name, column.type]).toEqual([column.name, expect.stringMatching(NUMBERS)]);
        for (const row of rows) expect(Number.isFinite(Number(row[column.name]))).toBe(true);
      }
      const times = rows.map((r) => String(r['time']));
      expect(times).toEqual([...times].sort());
      const points = rows.map((r) => ['time', ...labels].map((c) => String(r[c])).join(' '));
      expect(new Set(points).size).toBe(points.length);
    }
    if (q.format === 'logs') expect(names.slice(0, 3)).toEqual(['timestamp', 'level', 'body']);
    if (q.format === 'traces')
      expect(names).toEqual(
        expect.arrayContaining(['traceID', 'spanID', 'parentSpanID', 'startTime', 'duration']),
      );
    if (panel.kind === 'stat') {
      expect(rows).toHaveLength(1);
      expect(columns.map((c) => c.type)).toEqual([expect.stringMatching(NUMBERS)]);
    }
  });

  it('returns nothing of another tenant', async () => {
    // Spans have no tenant: an installation has one.
    if (panel.kind === 'traces' || !variablesOf(q.text).includes('tenant')) return;
    const rows = await run<Record<string, unknown>>(
      panelStatement(q.text, range, { ...nothing, tenant: 'nobody' }),
    );
    expect(rows).toEqual([]);
  });
});

describe('links of columns', () => {
  it.each(panels.filter(({ p }) => p.links !== undefined && p.queries[0]?.language === 'sql'))(
    '$b.id: $p.title have their columns',
    async ({ p }) => {
      const statement = panelStatement(p.queries[0]!.text, range, nothing);
      const columns = await run<{ name: string }>(sql`DESCRIBE (${statement})`);
      for (const column of Object.keys(p.links ?? {}))
        expect(columns.map((c) => c.name)).toContain(column);
    },
  );
});

describe('annotations', () => {
  const all = boards.flatMap((b) => (b.annotations ?? []).map((a) => ({ board: b.id, ...a })));
  it.each(all)('$board: $name', async ({ name, text }) => {
    const rows = await run<Record<string, unknown>>(panelStatement(text, range, nothing));
    expect(Object.keys(rows[0] ?? {})).toEqual(['time', 'title', 'text']);
    expect(rows.map((r) => r['title'])).toEqual(
      {
        Deploys: ['Deploy of as 1.1.0'],
        'Key changes': ['key rotated'],
        Findings: ['critical: Refresh token reuse'],
      }[name],
    );
  });
});

describe('what the panels say about the seeded events', () => {
  const rowsOf = async (
    title: string,
    chosen: Record<string, string> = {},
  ): Promise<Record<string, unknown>[]> => {
    const found = sqlPanels.find((p) => p.panel.title === title);
    return run(panelStatement(found!.q.text, range, { ...nothing, ...chosen }));
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
    const issuance = rows.find((r) => r['slo_id'] === 'token_issuance_success');
    expect(issuance?.['state']).toBe('breached');
    expect(Number(issuance?.['budget_left_percent'])).toBeLessThan(-10_000);
  });
  it('takes the trace of the newest failure that has one, or the chosen', async () => {
    const spans = await rowsOf('Trace of a failing flow');
    expect(spans.map((r) => [r['operationName'], r['duration']])).toEqual([
      ['GET /auth', 40],
      ['find client', 40],
      ['find client', 40],
    ]);
    expect(await rowsOf('Trace of a failing flow', { trace: 'b'.repeat(32) })).toEqual([]);
    expect((await rowsOf('Events of the flow')).map((r) => r['kind'])).toEqual([
      'authorization_failed',
    ]);
  });
  it('narrows to the chosen client', async () => {
    const rows = await rowsOf('Clients that fail most', { client: 'client-1' });
    expect(rows.map((r) => r['client_id'])).toEqual(['client-1']);
    expect(await rowsOf('Clients that fail most', { client: "x' OR '1'='1" })).toEqual([]);
  });
  it('tells where validations looked', async () => {
    const rows = await rowsOf('Where validations look');
    // Three of four in the cache; six events a minute, but for the oldest and the newest.
    const [odd, even] = [5 / 6, 4 / 6];
    const shares = [4 / 5, odd, even, odd, even, odd, even, odd, even, odd, 0];
    const rounded = (n: number): string => n.toFixed(9);
    expect(rows.map((r) => rounded(Number(r['cache_hits'])))).toEqual(shares.map(rounded));
  });
  it('counts revoked tokens that have not expired', async () => {
    expect(await rowsOf('Revoked tokens outstanding')).toEqual([{ outstanding: 1 }]);
  });
  it('draws the family of a token, of a chosen one and of the newest finding', async () => {
    const graph = async (chosen: Record<string, string>): Promise<unknown[]> => {
      const both = sqlPanels.filter((p) => p.panel.title === 'Token lineage');
      return Promise.all(
        both.map((p) => run(panelStatement(p.q.text, range, { ...nothing, ...chosen }))),
      );
    };
    const [nodes, edges] = (await graph({})) as Record<string, unknown>[][];
    expect(nodes?.map((n) => [n['id'], n['title']])).toEqual([
      [token(1), 'refresh'],
      [token(2), 'refresh (revoked)'],
      [token(3), 'access'],
    ]);
    expect(edges?.map((e) => [e['source'], e['target']])).toEqual([
      [token(1), token(2)],
      [token(1), token(3)],
    ]);
    for (const chosen of [token(3), FAMILY])
      expect(await graph({ token: chosen })).toEqual([nodes, edges]);
    expect(await graph({ token: token(999) })).toEqual([[], []]);
  });
  it('adds risk up as model/risk.ts does', async () => {
    const [row] = await rowsOf('Clients by risk');
    // Two findings of 50, a minute old.
    expect(row).toMatchObject({ client_id: 'client-1', findings: 2, risk_score: 63.2 });
  });
  it('counts what a suppression hid', async () => {
    expect(await rowsOf('Suppressions and their hits')).toMatchObject([{ owner: 'ana', hits: 1 }]);
  });
  it('shows a source as silent in the minutes without an event', async () => {
    const rows = await rowsOf('Sources heard');
    expect(rows.length).toBeGreaterThanOrEqual(60);
    const states = rows.map((r) => Number(r['events']) > 0);
    // Events go back ten minutes from a minute ago.
    expect(states.slice(0, 45)).toEqual(Array.from({ length: 45 }, () => false));
    expect(states.filter(Boolean).length).toBeGreaterThanOrEqual(10);
  });
});

describe('panelStatement', () => {
  it('expands what it knows and refuses what it does not', () => {
    expect(panelStatement('$__timeFilter(t) / $__interval_s', range, {}).toQuery().query).toBe(
      `t >= toDateTime(${Math.floor(range.fromMs / 1000)}) AND t <= toDateTime(${Math.floor(range.toMs / 1000)}) / 60`,
    );
    for (const text of ['$__unknown(t)', '$__adhoc', '${other:sqlstring}', '${tenant}', '$tenant'])
      expect(() => panelStatement(text, range, { tenant: 'x' })).toThrow(
        /unknown macro or variable/,
      );
  });
  it('makes values parameters, and never looks for macros in them', () => {
    const value = "a'b\\c $__interval_s ${tenant:sqlstring}";
    expect(
      panelStatement("x = ${tenant:sqlstring} OR '' = ${tenant:sqlstring}", range, {
        tenant: value,
      }).toQuery(),
    ).toEqual({
      query: "x = {p0:String} OR '' = {p1:String}",
      query_params: { p0: value, p1: value },
    });
    expect(variablesOf('${a:sqlstring} ${b:sqlstring} ${a:sqlstring}')).toEqual(['a', 'b']);
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
  const rendered = renderBoard(board, boards) as {
    uid: string;
    panels: RenderedPanel[];
    templating: { list: { name: string }[] };
    annotations: { list: { name: string; datasource: { uid: string }; target: object }[] };
    links: { url: string }[];
  };
  const uids = boards.map((b) => uidOf(b.id));

  it('is what is committed', async () => {
    const path = `dashboards/generated/${board.id}.json`;
    expect(readFileSync(join(packageRoot, path), 'utf8')).toBe((await generateDashboards())[path]);
  });

  it('names, describes and measures every panel, from a data source that is a variable', () => {
    const variables = rendered.templating.list.map((v) => `\${${v.name}}`);
    expect(variables).toEqual(
      ['clickhouse', 'prometheus', 'tenant', ...(board.variables ?? [])].map((v) => `\${${v}}`),
    );
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

  it('leads to boards and pages that are there', () => {
    expect(rendered.links.map((l) => l.url)).toEqual([
      ...uids.filter((uid) => uid !== uidOf(board.id)).map((uid) => `/d/${uid}`),
      `http://127.0.0.1:7400/#/boards/${board.id}`,
    ]);
    const urls = [...JSON.stringify(rendered.panels).matchAll(/"url":"([^"]+)"/g)].map(
      (m) => m[1]!,
    );
    for (const url of urls) {
      const to = /^\/d\/([a-z-]+)\?var-([a-z]+)=/.exec(url);
      if (to === null)
        expect(url).toMatch(
          /^http:\/\/127\.0\.0\.1:7400\/#\/(findings|slos|events|investigations\/(client|subject|token))(\/|\?|$)/,
        );
      else {
        expect(uids).toContain(to[1]);
        expect(Object.keys(BOARD_VARIABLES)).toContain(to[2]);
      }
    }
  });

  it('asks counters for their rate and never for their value', () => {
    for (const target of rendered.panels.flatMap((p) => p.targets ?? [])) {
      const bare = (target.expr ?? '').replaceAll(
        /rate\([a-z_]+(_total|_bucket|_sum|_count)(\{[^}]*\})?\[\d+[smh]\]\)/g,
        '',
      );
      expect(bare).not.toMatch(/_(total|bucket|count)\b/);
    }
  });

  it('annotates from the data source of a variable', () => {
    expect(rendered.annotations.list.map((a) => a.name)).toEqual(
      (board.annotations ?? []).map((a) => a.name),
    );
    for (const a of rendered.annotations.list) expect(a.datasource.uid).toBe('${clickhouse}');
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
    const board = boards.find((b) => b.id === 'on_call');
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
  it('refuses a variable that nobody declared, and one that nobody uses', () => {
    const board = boards.find((b) => b.id === 'debug')!;
    expect(() => checkBoard({ ...board, variables: ['client'] })).toThrow(/trace is used and not/);
    expect(() => checkBoard({ ...board, variables: ['client', 'trace', 'token'] })).toThrow(
      /token is declared and not used/,
    );
  });
});
