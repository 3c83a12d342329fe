/**
 * The API against a real server and the real embedded engine: exact answers, refusals with the path of the
 * wrong field, paging without gap or repeat, hostile text, other tenants, and the OpenAPI document.
 */
import { request as httpRequest } from 'node:http';
import { existsSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { default as addFormats } from 'ajv-formats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import type { TimelineEvent } from '../../api/schemas/event_view.ts';
import type { FindingView } from '../../api/schemas/finding_view.ts';
import type {
  HashAnswer,
  InvestigationView,
  ReferenceView,
} from '../../api/schemas/investigation_view.ts';
import type { Overview, SloView } from '../../api/schemas/overview_view.ts';
import { startApi, loadRoutes, type Api } from '../../api/main.ts';
import { registerReportOperations } from '../../cli/report/operations.ts';
import { STREAM_CLIENTS_MAX } from '../../api/limits.ts';
import { ProblemView } from '../../api/openapi.ts';
import { SEVERITIES, type Finding } from '../../model/finding.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { param, sql } from '../../model/sql.ts';
import { ManualClock } from '../../runtime/clock.ts';
import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { openTestStore, testRuntime } from '../harness.ts';
import { insertEvents } from '../../store/insert.ts';
import {
  HOSTILE,
  id,
  insertFindings,
  insertSlos,
  makeFinding,
  seedStory,
  STORY,
  storyEvents,
} from '../api_seed.ts';

/** A suppression of the seed. */
const SUPPRESSION = id('7', 77);
const SILENCE = id('a', 1);
const CORRECTION = id('b', 1);
const START_MS = Date.parse('2026-03-01T10:00:00Z');
let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let api: Api;
const clock = new ManualClock(START_MS + 60_000);

/** 25 findings with equal times in places, so that ties are cut by pages. */
const MANY: readonly Finding[] = Array.from({ length: 25 }, (_, i) =>
  makeFinding({
    finding_id: id('9', i),
    rule_id: i % 2 === 0 ? 'scope_probe' : 'redirect_probe',
    family: i % 2 === 0 ? 'scope_escalation' : 'redirect_abuse',
    severity: SEVERITIES[i % 5] ?? 'info',
    entity_type: 'client',
    entity_ref: `client-${i % 3}`,
    client_id: `client-${i % 3}`,
    subject_ref: '',
    token_refs: [],
    state: i % 4 === 0 ? 'closed' : 'open',
    risk: i,
    summary: i === 3 ? HOSTILE : `number ${i}`,
    last_event_time: `2026-02-${String(1 + Math.floor(i / 4)).padStart(2, '0')}T00:00:00.000Z`,
    first_event_time: '2026-01-31T00:00:00.000Z',
  }),
);

beforeAll(async () => {
  opened = await openTestStore();
  // Silences can be asked for where there is an Alertmanager; the API itself never calls it.
  runtime = testRuntime(opened.dataDir, {
    clock,
    config: { alertmanagerUrl: 'http://127.0.0.1:9093' },
  });
  registerReportOperations(runtime, opened.store);
  await seedStory(opened.store, START_MS);
  // The same events again under another tenant: nothing of them may ever show.
  await insertEvents(
    opened.store,
    storyEvents(START_MS, 'neighbour').map((e) => ({
      ...e,
      event_id: e.event_id.replaceAll('e', 'd'),
    })),
  );
  await insertFindings(
    opened.store,
    [makeFinding({ finding_id: STORY.finding, severity: 'low' })],
    1,
  );
  await insertFindings(opened.store, [makeFinding({ finding_id: STORY.finding })], 2);
  await insertFindings(opened.store, MANY);
  await insertFindings(opened.store, [
    makeFinding({ finding_id: id('8', 1), tenant: 'neighbour' }),
  ]);
  await insertSlos(opened.store, START_MS);
  await opened.store.insertRows('grantscope.suppressions', [
    {
      tenant: 'default',
      suppression_id: SUPPRESSION,
      origin: 'api',
      client_id: 'nobody',
      severity_max: 'low',
      owner: 'soc',
      reason: 'seed',
      created_by: 'ann',
      created_at: '2026-03-01 00:00:00.000',
      expires_at: '2026-04-01 00:00:00.000',
      version: 1,
    },
  ]);
  await opened.store.insertRows('grantscope.silences', [
    {
      tenant: 'default',
      silence_id: SILENCE,
      matchers: JSON.stringify([
        { name: 'slo', value: 'token_use', is_regex: false, is_equal: true },
      ]),
      starts_at: '2026-03-01 00:00:00.000',
      ends_at: '2026-04-01 00:00:00.000',
      created_by: 'ann',
      created_at: '2026-03-01 00:00:00.000',
      reason: 'seed',
      version: 1,
    },
  ]);
  await opened.store.insertRows('grantscope.slo_corrections', [
    {
      tenant: 'default',
      correction_id: CORRECTION,
      slo_id: 'all',
      from_time: '2026-02-27 00:00:00',
      to_time: '2026-02-27 01:00:00',
      reason: 'seed',
      approver: 'ann',
      created_at: '2026-02-27 02:00:00.000',
      updated_at: '2026-02-27 02:00:00.000',
    },
  ]);
  runtime.operations.register('echo', (input, progress) => {
    progress(1, 2);
    return Promise.resolve({ echoed: input });
  });
  runtime.operations.register('refuse', () =>
    Promise.reject(new GrantscopeError('invalid_argument', 'from: must be before to')),
  );
  runtime.operations.register('break', () => Promise.reject(new Error('private detail')));
  api = await startApi(runtime, opened.store);
});

afterAll(async () => {
  await api.component.stop();
  await opened.close();
});

/** Any answer: the tests say which members they expect. */
type Answer = Omit<InvestigationView, 'sources'> &
  Overview &
  Pick<HashAnswer, 'references'> &
  Pick<ReferenceView, 'known_as'> &
  Pick<SloView, 'burn'> & {
    total: number;
    items: (FindingView & TimelineEvent & Pick<SloView, 'slo_id' | 'budget_remaining'>)[];
    next_cursor: string | null;
    status: number;
    errors: { path: string }[];
    request_id: string;
  };

interface OpenApiDocument {
  openapi: string;
  components: object;
  paths: Record<
    string,
    Record<
      string,
      {
        parameters: { name: string; schema: object }[];
        responses: Record<string, { content: Record<string, { schema: object }> }>;
      }
    >
  >;
}

async function call(
  path: string,
  init: RequestInit = {},
): Promise<{ status: number; headers: Headers; body: Answer; text: string }> {
  const response = await fetch(`${api.url}${path}`, init);
  const text = await response.text();
  const isJson = /[/+]json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: (isJson && text !== '' ? JSON.parse(text) : undefined) as Answer,
  };
}

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  call(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

/** A request with any header, also those that fetch keeps to itself. */
function raw(path: string, options: { method?: string; headers: Record<string, string> }) {
  const { port, hostname } = new URL(api.url);
  return new Promise<{ status: number; body: string; headers: Record<string, unknown> }>(
    (resolve, reject) => {
      const request = httpRequest({ host: hostname, port, path, ...options }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (d: string) => (body += d));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body, headers: response.headers }),
        );
      });
      request.on('error', reject).end();
    },
  );
}

describe('findings', () => {
  it('gives one finding in full, its newest version, without the tenant', async () => {
    const { status, body } = await call(`/api/v1/findings/${STORY.finding}`);
    expect(status).toBe(200);
    const { tenant, ...expected } = makeFinding({ finding_id: STORY.finding });
    expect(tenant).toBe('default');
    expect(body).toEqual({ ...expected, triage: null, disposition: null });
  });

  it('knows no finding of another tenant', async () => {
    expect((await call(`/api/v1/findings/${id('8', 1)}`)).status).toBe(404);
    expect((await call('/api/v1/findings')).body.total).toBe(26);
  });

  it.each([
    ['state=closed', (f: FindingView) => f.state === 'closed'],
    ['state=open,closed', () => true],
    ['severity=high', (f: FindingView) => ['high', 'critical'].includes(f.severity)],
    ['family=redirect_abuse', (f: FindingView) => f.family === 'redirect_abuse'],
    [
      'rule_id=scope_probe&state=open',
      (f: FindingView) => f.rule_id === 'scope_probe' && f.state === 'open',
    ],
    ['client_id=client-1', (f: FindingView) => f.client_id === 'client-1'],
    ['entity_type=client&entity_ref=client-2', (f: FindingView) => f.entity_ref === 'client-2'],
    ['q=DROP%20table', (f: FindingView) => f.summary === HOSTILE],
    [`q=${encodeURIComponent(HOSTILE)}`, (f: FindingView) => f.summary === HOSTILE],
    ['q=%25', () => false],
    ['from=2026-02-06T00:00:00Z', (f: FindingView) => f.last_event_time >= '2026-02-06'],
    ['to=2026-02-01T00:00:00%2B02:00', (f: FindingView) => f.first_event_time < '2026-01-31T22'],
  ])('filters by %s', async (query, matches) => {
    const { status, body } = await call(`/api/v1/findings?limit=200&${query}`);
    expect(status).toBe(200);
    const all: FindingView[] = [makeFinding({ finding_id: STORY.finding }), ...MANY];
    const expected = all.filter(matches).map((f) => f.finding_id);
    expect(body.items.map((f: FindingView) => f.finding_id).sort()).toEqual(expected.sort());
    expect(body.total).toBe(expected.length);
    expect(body.next_cursor).toBeNull();
  });

  it.each([
    'last_event_time',
    '-last_event_time',
    '-severity',
    'severity',
    '-risk',
    'risk',
    '-detected_at',
  ])('pages by %s without a gap or a repeat', async (sort) => {
    const seen: FindingView[] = [];
    let cursor: string | null = null;
    let pages = 0;
    do {
      const { body } = await call(
        `/api/v1/findings?limit=4&sort=${sort}${cursor === null ? '' : `&cursor=${cursor}`}`,
      );
      expect(body.total).toBe(26);
      seen.push(...body.items);
      cursor = body.next_cursor;
      pages += 1;
    } while (cursor !== null);
    expect(pages).toBe(7);
    expect(new Set(seen.map((f) => f.finding_id)).size).toBe(26);
    const rank = (f: FindingView): string | number =>
      sort.endsWith('severity')
        ? SEVERITIES.indexOf(f.severity)
        : sort.endsWith('risk')
          ? f.risk
          : sort.endsWith('detected_at')
            ? f.detected_at
            : f.last_event_time;
    const ranks = seen.map(rank);
    const sorted = [...ranks].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    expect(ranks).toEqual(sort.startsWith('-') ? sorted.reverse() : sorted);
  });

  it('gives no row twice when findings arrive between two pages', async () => {
    const first = await call('/api/v1/findings?limit=10&q=number');
    await insertFindings(opened.store, [
      makeFinding({
        finding_id: id('4', 1),
        summary: 'number new',
        last_event_time: '2026-02-28T00:00:00.000Z',
      }),
    ]);
    const second = await call(
      `/api/v1/findings?limit=50&q=number&cursor=${first.body.next_cursor}`,
    );
    const ids = [...first.body.items, ...second.body.items].map((f: FindingView) => f.finding_id);
    expect(new Set(ids).size).toBe(24);
    expect(ids).toHaveLength(24);
    await opened.store.command(
      sql`DELETE FROM grantscope.findings WHERE finding_id = ${param.uuid(id('4', 1))}`,
    );
  });
});

describe('bad input', () => {
  it.each([
    ['/api/v1/findings?limit=0', 'query.limit'],
    ['/api/v1/findings?limit=201', 'query.limit'],
    ['/api/v1/findings?limit=ten', 'query.limit'],
    ['/api/v1/findings?limit=', 'query.limit'],
    ['/api/v1/findings?limit=1&limit=2', 'query.limit'],
    ['/api/v1/findings?severity=urgent', 'query.severity'],
    ['/api/v1/findings?state=open,shut', 'query.state.1'],
    ['/api/v1/findings?sort=title', 'query.sort'],
    ['/api/v1/findings?from=yesterday', 'query.from'],
    ['/api/v1/findings?colour=red', 'query.colour'],
    ['/api/v1/findings?__proto__=x', 'query.__proto__'],
    ['/api/v1/findings?q=', 'query.q'],
    ['/api/v1/findings?q=%00', 'query.q'],
    [`/api/v1/findings?q=${'x'.repeat(513)}`, 'query.q'],
    ['/api/v1/findings?cursor=e30', 'query.cursor'],
    ['/api/v1/findings?cursor=%20', 'query.cursor'],
    ['/api/v1/findings/not-a-uuid', 'path.id'],
    ['/api/v1/events?kind=token_stolen', 'query.kind.0'],
    [
      `/api/v1/events?cursor=${Buffer.from('["-time","x","y"]').toString('base64url')}`,
      'query.cursor',
    ],
    ['/api/v1/events/1', 'path.event_id'],
    ['/api/v1/investigations/planet/x', 'path.type'],
    ['/api/v1/investigations/token/not-a-reference', 'path.ref'],
    ['/api/v1/overview?x=1', 'query.x'],
    ['/api/v1/runbooks/..%2F..%2Fpackage', 'path.id'],
  ])('%s -> 400 %s', async (path, field) => {
    const { status, headers, body } = await call(path);
    expect(status).toBe(400);
    expect(headers.get('content-type')).toContain('application/problem+json');
    expect(ProblemView.parse(body).code).toBe('invalid_argument');
    expect(body.errors.map((e: { path: string }) => e.path)).toEqual([field]);
    expect(body.request_id).toBe(headers.get('x-request-id'));
  });

  it('refuses a cursor of another order', async () => {
    const { body } = await call('/api/v1/findings?limit=1&sort=risk');
    const other = await call(`/api/v1/findings?limit=1&sort=-risk&cursor=${body.next_cursor}`);
    expect(other.status).toBe(400);
    expect(other.body.errors[0]!.path).toBe('query.cursor');
  });

  it('lists every wrong field and what is allowed', async () => {
    const { body } = await call('/api/v1/findings?limit=0&severity=urgent&colour=red');
    expect(body.errors).toEqual([
      {
        path: 'query.severity',
        message: 'is not one of the allowed values',
        allowed: 'info, low, medium, high, critical',
      },
      { path: 'query.limit', message: expect.stringContaining('1') },
      {
        path: 'query.colour',
        message: 'unknown parameter',
        allowed: expect.stringContaining('rule_id'),
      },
    ]);
  });

  it('answers problems for unknown paths, methods and broken escapes', async () => {
    expect((await call('/api/v1/nothing')).body).toMatchObject({
      status: 404,
      code: 'not_found',
      type: '/problems/not_found',
    });
    const wrong = await call('/api/v1/findings', { method: 'DELETE' });
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get('allow')).toBe('GET, HEAD');
    expect((await call('/api/v1/hash')).headers.get('allow')).toBe('POST');
    expect((await call('/api/v1/investigations/client/%ff')).status).toBe(400);
    expect((await call('/problems/not_found')).body).toMatchObject({ status: 404 });
    expect((await call('/problems/zzz')).status).toBe(404);
  });

  it('answers HEAD like GET, without a body', async () => {
    for (const path of ['/api/v1/findings', '/healthz', '/api/v1/stream']) {
      const { status, text } = await call(path, { method: 'HEAD' });
      expect([path, status, text]).toEqual([path, 200, '']);
    }
  });
});

describe('investigations', () => {
  it('shows a token with its family, parents and children, marked by relation', async () => {
    const { status, body } = await call(`/api/v1/investigations/token/${STORY.refresh1}`);
    expect(status).toBe(200);
    expect(body.events).toBe(6);
    expect(body.failures).toBe(1);
    expect(body.first_seen).toBe('2026-03-01T10:00:01.000000000Z');
    expect(body.last_seen).toBe('2026-03-01T10:00:06.000000000Z');
    expect(body.networks).toEqual({
      total: 2,
      values: [
        { name: '203.0.113.0/24', events: 4 },
        { name: '198.51.100.0/24', events: 2 },
      ],
    });
    expect(body.clients.values).toEqual([{ name: STORY.client, events: 6 }]);
    expect(body.scopes.values).toEqual([
      { name: 'openid', events: 2 },
      { name: 'orders:read', events: 2 },
    ]);
    expect(body.resources.values).toEqual([{ name: 'https://orders.example', events: 1 }]);
    const byRef = Object.fromEntries(
      body.tokens.map((t) => [t.ref, [t.relation, t.type, t.presented, t.revoked_at]]),
    );
    expect(byRef).toEqual({
      [STORY.code]: ['parent', 'code', 0, null],
      [STORY.access1]: ['family', 'access', 1, null],
      [STORY.refresh1]: ['self', 'refresh', 1, null],
      [STORY.refresh2]: ['child', 'refresh', 0, '2026-03-01T10:00:06.000000000Z'],
      [STORY.access2]: ['child', 'access', 0, null],
    });
    expect(body.tokens.find((t) => t.ref === STORY.access1)!.expires_at).toBe(
      '2026-03-01T10:05:02Z',
    );
    expect(body.findings.map((f: FindingView) => f.finding_id)).toEqual([STORY.finding]);
  });

  it('pages a timeline in both directions', async () => {
    for (const [sort, expected] of [
      ['time', [1, 2, 3, 4, 5, 6]],
      ['-time', [6, 5, 4, 3, 2, 1]],
    ] as const) {
      const seen: Answer['items'] = [];
      let cursor: string | null = null;
      do {
        const { body } = await call(
          `/api/v1/investigations/token/${STORY.refresh1}/timeline?limit=2&sort=${sort}${cursor === null ? '' : `&cursor=${cursor}`}`,
        );
        seen.push(...body.items);
        cursor = body.next_cursor;
      } while (cursor !== null);
      expect(seen.map((e) => e.event_id)).toEqual(expected.map((n) => id('e', n)));
      if (sort === 'time')
        expect(seen.map((e) => e.relation)).toEqual([
          'parent',
          'self',
          'family',
          'self',
          'self',
          'child',
        ]);
    }
  });

  it('shows hostile text of an event as it was stored', async () => {
    const { body } = await call(`/api/v1/investigations/family/${STORY.family}/timeline`);
    const theft = body.items.find((e) => e.event_id === id('e', 5));
    expect(theft).toMatchObject({
      kind: 'token_request_failed',
      outcome: 'failure',
      oauth_error: 'invalid_grant',
      error_detail: HOSTILE,
      user_agent: HOSTILE,
      tokens: [
        {
          role: 'presented',
          type: 'refresh',
          ref: STORY.refresh1,
          family_ref: STORY.family,
          parent_ref: '',
        },
      ],
    });
    // Members only: the code has no family.
    expect(body.items.map((e) => e.event_id)).toEqual([2, 3, 4, 5, 6].map((n) => id('e', n)));
  });

  it.each([
    ['subject', STORY.subject, 6],
    ['session', STORY.session, 6],
    ['grant', STORY.grant, 6],
    ['client', STORY.client, 6],
    ['client', 'batch/nightly job', 1],
    ['token', STORY.access3, 1],
  ])('counts the events of a %s %s', async (type, ref, events) => {
    const { status, body } = await call(
      `/api/v1/investigations/${type}/${encodeURIComponent(ref)}`,
    );
    expect([status, body.events, body.ref]).toEqual([200, events, ref]);
    const timeline = await call(
      `/api/v1/investigations/${type}/${encodeURIComponent(ref)}/timeline`,
    );
    expect(timeline.body.items).toHaveLength(events);
  });

  it('counts one redemption of a code once, though two events tell of it, and a second as a second', async () => {
    const code = id('c', 50);
    const redeem = (n: number, kind: 'code_redeemed' | 'token_issued') =>
      completeEvent({
        event_id: id('e', n),
        time: BigInt(START_MS + n * 1_000) * 1_000_000n,
        kind,
        client: { id: 'redeemer' },
        tokens: [{ role: 'consumed', type: 'code', ref: code }],
      });
    await insertEvents(opened.store, [redeem(300, 'code_redeemed'), redeem(301, 'token_issued')]);
    const consumed = async () =>
      (await call(`/api/v1/investigations/token/${code}`)).body.tokens.map((t) => t.consumed);
    expect(await consumed()).toEqual([1]);
    await insertEvents(opened.store, [redeem(302, 'code_redeemed')]);
    expect(await consumed()).toEqual([2]);
    await opened.store.command(
      sql`DELETE FROM grantscope.auth_events WHERE client_id = ${param.string('redeemer')}`,
    );
  });

  it('marks what others did in the name of a subject', async () => {
    const [event] = storyEvents(START_MS);
    await insertEvents(opened.store, [
      {
        ...event!,
        event_id: id('e', 99),
        kind: 'token_exchanged',
        time: BigInt(START_MS + 99_000) * 1_000_000n,
        tokens: [],
        subject: { ref: id('5', 9), type: 'user' },
        actor: { ref: id('5', 8), type: 'service' },
        client: { id: 'exchanger', name: '', auth_method: '' },
      },
    ]);
    const actor = await call(`/api/v1/investigations/subject/${id('5', 8)}/timeline`);
    expect(actor.body.items.map((e) => [e.event_id, e.relation])).toEqual([[id('e', 99), 'actor']]);
    const subject = await call(`/api/v1/investigations/subject/${id('5', 9)}/timeline`);
    expect(subject.body.items.map((e) => e.relation)).toEqual(['self']);
  });

  it('answers 404 where nothing is known', async () => {
    for (const path of [`token/${id('1', 1)}`, `subject/${id('1', 1)}`, 'client/nobody']) {
      expect((await call(`/api/v1/investigations/${path}`)).body).toMatchObject({
        status: 404,
        code: 'not_found',
      });
      expect((await call(`/api/v1/investigations/${path}/timeline`)).status).toBe(404);
    }
  });

  it('says as what a pasted reference is known', async () => {
    expect((await call(`/api/v1/references/${STORY.refresh1.toUpperCase()}`)).body).toEqual({
      ref: STORY.refresh1,
      known_as: [{ type: 'token', count: 3 }],
    });
    expect((await call(`/api/v1/references/${STORY.finding}`)).body.known_as).toEqual([
      { type: 'finding', count: 1 },
    ]);
    expect((await call(`/api/v1/references/${STORY.subject}`)).body.known_as[0]!.type).toBe(
      'subject',
    );
    expect((await call(`/api/v1/references/${id('1', 1)}`)).status).toBe(404);
  });
});

describe('events and clients', () => {
  it('gives one event with all its columns', async () => {
    const { body } = await call(`/api/v1/events/${id('e', 3)}`);
    expect(body).toMatchObject({
      event_id: id('e', 3),
      kind: 'api_accessed',
      http_status: 200,
      net_client_ip: '203.0.113.7',
    });
    expect(body).not.toHaveProperty('tenant');
    expect((await call(`/api/v1/events/${id('d', 3)}`)).status).toBe(404);
  });

  it('lists events newest first, filtered and paged', async () => {
    const failed = await call('/api/v1/events?outcome=failure,denied&limit=10');
    expect(failed.body.items.map((e) => e.event_id)).toEqual([id('e', 5)]);
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const { body } = await call(
        `/api/v1/events?client_id=${STORY.client}&limit=1${cursor === null ? '' : `&cursor=${cursor}`}`,
      );
      seen.push(...body.items.map((e) => e.event_id));
      cursor = body.next_cursor;
    } while (cursor !== null);
    expect(seen).toEqual([6, 5, 4, 3, 2, 1].map((n) => id('e', n)));
    const narrow = await call(
      '/api/v1/events?from=2026-03-01T10:00:02Z&to=2026-03-01T10:00:04Z&network=203.0.113.0%2F24',
    );
    expect(narrow.body.items.map((e) => e.event_id)).toEqual([id('e', 3), id('e', 2)]);
  });

  it('counts an event that was sent twice once', async () => {
    const twice = storyEvents(START_MS)[2]!;
    await insertEvents(opened.store, [twice]);
    const { body } = await call(`/api/v1/events?kind=api_accessed`);
    expect(body.items).toHaveLength(1);
    expect((await call(`/api/v1/investigations/token/${STORY.access1}`)).body.events).toBe(6);
  });

  it('lists clients with what they do', async () => {
    const { body } = await call('/api/v1/clients?days=90');
    expect(body.items.map((c) => c.client_id)).toEqual([
      'batch/nightly job',
      'exchanger',
      STORY.client,
    ]);
    expect(body.items[2]).toEqual({
      client_id: STORY.client,
      client_name: 'Shop',
      events: 6,
      failures: 1,
      first_seen: '2026-03-01T10:00:01.000000000Z',
      last_seen: '2026-03-01T10:00:06.000000000Z',
      scopes: ['openid', 'orders:read'],
      grant_types: ['authorization_code', 'refresh_token'],
      networks: 2,
      open_findings: 1,
    });
    const first = await call('/api/v1/clients?limit=1');
    const next = await call(`/api/v1/clients?limit=1&cursor=${first.body.next_cursor}`);
    expect(next.body.items.map((c) => c.client_id)).toEqual(['exchanger']);
  });
});

describe('service levels and overview', () => {
  it('gives states with signed budgets and burn rates in the order of their windows', async () => {
    const { body } = await call('/api/v1/slos');
    expect(body.items.map((s) => [s.slo_id, s.state, s.budget_remaining])).toEqual([
      ['introspection_latency', 'unmeasured', null],
      ['token_endpoint_availability', 'breached', -1],
    ]);
    const one = await call('/api/v1/slos/token_endpoint_availability');
    expect(one.body.burn).toEqual([
      { window: '5m', rate: 20, good: 98, bad: 2 },
      { window: '1h', rate: 14.5, good: 985, bad: 15 },
      { window: '6h', rate: 2, good: 4_990, bad: 10 },
    ]);
    expect((await call('/api/v1/slos/nothing')).status).toBe(404);
  });

  it('sums up the first screen', async () => {
    const { body } = await call('/api/v1/overview');
    const open = MANY.filter((f) => f.state === 'open');
    expect(body.open_findings.total).toBe(open.length + 1);
    expect(body.open_findings.by_severity.high).toBe(
      open.filter((f) => f.severity === 'high').length + 1,
    );
    expect(body.open_findings.by_family).toMatchObject({ token_replay: 1, hygiene: 0 });
    expect(body.open_findings.top.map((f: FindingView) => f.severity).slice(0, 3)).toEqual([
      'critical',
      'critical',
      'critical',
    ]);
    expect(body.open_findings.top).toHaveLength(8);
    expect(body.sources.map((s) => [s.source_id, s.last_event_time])).toEqual([
      ['envoy_als', '2026-03-01T10:00:03.000000000Z'],
      ['grantscope', expect.stringMatching(/^2026-03-01T10:0/)],
    ]);
    expect(body.sources[0]!.events_last_hour).toBeGreaterThan(0);
    expect(body.slos).toHaveLength(2);
    expect(body.now).toBe('2026-03-01T10:01:00.000Z');
  });
});

describe('hash', () => {
  it('gives the references of each domain', async () => {
    const token = await post('/api/v1/hash', { value: ' Bearer abc%2Bdef ' });
    expect(token.body.references).toEqual([
      {
        key_id: runtime.keyRing.currentId,
        ref: runtime.keyRing.ref('token', 'abc+def'),
        ref_kind: 'hmac',
      },
    ]);
    const subject = await post('/api/v1/hash', { value: 'alice', domain: 'subject' });
    expect(subject.body.references[0]!.ref).toBe(runtime.keyRing.ref('subject', 'alice'));
    const claims = Buffer.from(JSON.stringify({ jti: STORY.access1 })).toString('base64url');
    const jwt = await post('/api/v1/hash', { value: `eyJhbGciOiJub25lIn0.${claims}.` });
    expect(jwt.body.references).toEqual([{ key_id: '', ref: STORY.access1, ref_kind: 'jti' }]);
  });

  it('refuses what is no value, and never repeats it', async () => {
    const canary = 'canary-b0e1c2';
    for (const [body, status] of [
      [{ value: ' ' }, 400],
      [{ value: canary, domain: 'planet' }, 400],
      [{ value: canary, [canary]: 1 }, 400],
      [`{"value":"${canary}`, 400],
      [{ value: 5 }, 400],
      [{ value: canary.repeat(30_000) }, 413],
    ] as const) {
      const answer = await post('/api/v1/hash', body);
      expect(answer.status).toBe(status);
      // The name of an unknown member is told; a value never is.
      if (!JSON.stringify(body).includes(`${canary}":`)) expect(answer.text).not.toContain(canary);
    }
    expect((await call('/api/v1/hash', { method: 'POST', body: 'x' })).status).toBe(415);
  });
});

describe('operations', () => {
  it('runs an operation with the body as input', async () => {
    const { status, body } = await post('/api/v1/operations/echo', { a: [1] });
    expect([status, body]).toEqual([200, { echoed: { a: [1] } }]);
  });

  it('tells progress line by line to those who ask for it', async () => {
    const { text } = await post('/api/v1/operations/echo', 1, { accept: 'application/x-ndjson' });
    expect(
      text
        .trim()
        .split('\n')
        .map((l) => JSON.parse(l) as unknown),
    ).toEqual([{ progress: { done: 1, total: 2 } }, { result: { echoed: 1 } }]);
  });

  it('answers problems, with the known names and without private detail', async () => {
    const unknown = await post('/api/v1/operations/fly', {});
    expect(unknown.status).toBe(404);
    expect(unknown.body.errors).toEqual([
      { path: 'path.name', message: 'unknown', allowed: 'break, echo, postmortem, refuse, report' },
    ]);
    expect((await post('/api/v1/operations/refuse', {})).body).toMatchObject({
      status: 400,
      detail: 'from: must be before to',
    });
    const broken = await post('/api/v1/operations/break', {});
    expect(broken.status).toBe(500);
    expect(broken.text).not.toContain('private');
  });
});

describe('stream', () => {
  /** Reads server-sent events until `count` of them have come. */
  async function read(response: Response, count: number): Promise<string[]> {
    const events: string[] = [];
    let rest = '';
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    while (events.length < count) {
      const { value, done } = await reader.read();
      if (done) break;
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop() ?? '';
      events.push(...blocks.filter((b) => b.startsWith('event:')));
    }
    return events;
  }

  it('passes hints on and ends when the reader leaves', async () => {
    const abort = new AbortController();
    const response = await fetch(`${api.url}/api/v1/stream`, { signal: abort.signal });
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const events = read(response, 3);
    runtime.hints.emit('findings_changed', { ids: [STORY.finding] });
    runtime.hints.emit('slos_changed', {});
    expect(await events).toEqual([
      'event: hello\ndata: {}',
      `event: findings_changed\ndata: {"ids":["${STORY.finding}"]}`,
      'event: slos_changed\ndata: {}',
    ]);
    abort.abort();
    await expect.poll(() => openStreams()).toBe(0);
  });

  it('finds by polling what another process wrote', async () => {
    const abort = new AbortController();
    const response = await fetch(`${api.url}/api/v1/stream`, { signal: abort.signal });
    const events = read(response, 2);
    const told = new AbortController();
    void events.then(() => told.abort());
    // The first look only takes a mark, so write again until a later look has seen a change.
    for (let version = 3; !told.signal.aborted; version += 1) {
      const updated_at = new Date(START_MS + version).toISOString();
      await insertFindings(
        opened.store,
        [makeFinding({ finding_id: STORY.finding, updated_at })],
        version,
      );
    }
    expect((await events)[1]).toBe('event: findings_changed\ndata: {"ids":[]}');
    abort.abort();
    await expect.poll(() => openStreams()).toBe(0);
  });

  it('keeps a bounded number of readers', async () => {
    const abort = new AbortController();
    for (let i = 0; i < STREAM_CLIENTS_MAX; i += 1) {
      const { status } = await fetch(`${api.url}/api/v1/stream`, { signal: abort.signal });
      expect(status).toBe(200);
    }
    const refused = await call('/api/v1/stream');
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('15');
    abort.abort();
    await expect.poll(() => openStreams()).toBe(0);
  });

  async function openStreams(): Promise<number> {
    const { text } = await call('/metrics');
    return Number(/^grantscope_api_stream_clients (\d+)$/m.exec(text)?.[1]);
  }
});

describe('guards', () => {
  it('sends the security headers with every answer', async () => {
    for (const path of ['/api/v1/findings', '/nothing', '/healthz']) {
      const { headers } = await call(path);
      expect(headers.get('content-security-policy')).toMatch(
        /^default-src 'none'; script-src 'self'; style-src 'self';/,
      );
      expect(headers.get('content-security-policy')).not.toContain('unsafe');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('referrer-policy')).toBe('no-referrer');
      expect(headers.get('x-powered-by')).toBeNull();
      expect(headers.get('access-control-allow-origin')).toBeNull();
    }
  });

  it.each([
    ['localhost:9', 200],
    ['127.0.0.1', 200],
    ['[::1]:7400', 200],
    ['LOCALHOST', 200],
    ['evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['localhost.evil.example:80', 403],
  ])('Host %s -> %i', async (host, status) => {
    expect((await raw('/api/v1/slos', { headers: { host } })).status).toBe(status);
  });

  it('refuses a change that a page of another origin asks for', async () => {
    const own = new URL(api.url).host;
    const value = { value: 'x' };
    expect((await post('/api/v1/hash', value, { origin: `http://${own}` })).status).toBe(200);
    expect((await post('/api/v1/hash', value, { origin: 'http://evil.example' })).status).toBe(403);
    expect((await post('/api/v1/hash', value, { origin: 'http://127.0.0.1:1' })).status).toBe(403);
    expect((await post('/api/v1/hash', value, { origin: 'null' })).status).toBe(403);
    const site = await raw('/api/v1/hash', {
      method: 'POST',
      headers: { 'sec-fetch-site': 'cross-site', host: own },
    });
    expect(site.status).toBe(403);
  });

  it('limits requests and says when to come back', async () => {
    const own = testRuntime(opened.dataDir);
    const small = await startApi(own, opened.store, { requestsPerMinuteMax: { hash: 2 } });
    const hash = () =>
      fetch(`${small.url}/api/v1/hash`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"value":"x"}',
      });
    expect((await hash()).status).toBe(200);
    expect((await hash()).status).toBe(200);
    const refused = await hash();
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toMatch(/^\d+$/);
    expect(ProblemView.parse(await refused.json()).code).toBe('rate_limited');
    expect(await own.metrics.registry.metrics()).toContain(
      'grantscope_api_limited_total{limit="requests_hash"} 1',
    );
    await small.component.stop();
    await small.component.stop();
  });

  it('says which address is taken', async () => {
    const port = Number(new URL(api.url).port);
    const own = testRuntime(opened.dataDir, { config: { apiListen: { host: '127.0.0.1', port } } });
    await expect(startApi(own, opened.store)).rejects.toMatchObject({
      code: 'listen_failed',
      message: `API: cannot listen on 127.0.0.1:${port}: another program uses it; set GRANTSCOPE_API_LISTEN to another address`,
    });
  });
});

describe('the process', () => {
  it('is healthy, ready and measured', async () => {
    expect((await call('/healthz')).body).toEqual({ status: 'ok' });
    expect((await call('/readyz')).body).toEqual({ status: 'ready' });
    let strains: string[] = ['a rule waits'];
    const stop = (): Promise<void> => Promise.resolve();
    runtime.lifecycle.add({ name: 'detectors', stop, strains: () => strains });
    expect((await call('/readyz')).body).toEqual({
      status: 'ready',
      strains: { detectors: ['a rule waits'] },
    });
    strains = [];
    expect((await call('/readyz')).body).toEqual({ status: 'ready' });
    const { text } = await call('/metrics');
    expect(text).toContain(
      'grantscope_api_requests_total{route="/api/v1/findings/{id}",method="GET",status="404"} 1',
    );
    expect(text).not.toContain(STORY.finding);
  });
});

describe('the OpenAPI document', () => {
  const samples: Readonly<Record<string, string>> = {
    '/api/v1/findings/{id}': `/api/v1/findings/${STORY.finding}`,
    '/api/v1/events/{event_id}': `/api/v1/events/${id('e', 1)}`,
    '/api/v1/investigations/{type}/{ref}': `/api/v1/investigations/token/${STORY.refresh1}`,
    '/api/v1/investigations/{type}/{ref}/timeline': `/api/v1/investigations/token/${STORY.refresh1}/timeline`,
    '/api/v1/references/{ref}': `/api/v1/references/${STORY.refresh1}`,
    '/api/v1/slos/{id}': '/api/v1/slos/introspection_latency',
    '/api/v1/findings/{id}/steps': `/api/v1/findings/${STORY.finding}/steps`,
    '/api/v1/findings/{id}/dispositions': `/api/v1/findings/${STORY.finding}/dispositions`,
    '/api/v1/risk': '/api/v1/risk?entity_type=client',
    '/api/v1/suppressions/{id}': `/api/v1/suppressions/${SUPPRESSION}`,
    '/api/v1/suppressions/{id}/remove': `/api/v1/suppressions/${SUPPRESSION}/remove`,
    '/api/v1/operations/{name}': '/api/v1/operations/echo',
  };
  const SAMPLE_WINDOW = 'from=2026-03-01T00:00:00Z&to=2026-03-01T01:00:00Z';
  const boards: Readonly<Record<string, string>> = {
    '/api/v1/boards/{id}': '/api/v1/boards/on_call',
    '/api/v1/boards/{id}/annotations': `/api/v1/boards/on_call/annotations?${SAMPLE_WINDOW}`,
    '/api/v1/boards/{id}/panels/{panel}': `/api/v1/boards/on_call/panels/2?${SAMPLE_WINDOW}`,
  };
  const alerting: Readonly<Record<string, string>> = {
    '/api/v1/silences/{id}': `/api/v1/silences/${SILENCE}`,
    '/api/v1/silences/{id}/withdraw': `/api/v1/silences/${SILENCE}/withdraw`,
    '/api/v1/slos/{id}/corrections': '/api/v1/slos/all/corrections',
    '/api/v1/slos/{id}/corrections/{correction_id}/withdraw': `/api/v1/slos/all/corrections/${CORRECTION}/withdraw`,
  };
  const bodies: Readonly<Record<string, unknown>> = {
    '/api/v1/silences': {
      silence: {
        matchers: [{ name: 'slo', value: 'login_success' }],
        ends_at: '2026-03-02T00:00:00Z',
        reason: 'r',
      },
      created_by: 'ann',
    },
    '/api/v1/silences/{id}/withdraw': { withdrawn_by: 'ann', reason: 'fixed' },
    '/api/v1/slos/{id}/corrections': {
      from: '2026-02-28T00:00:00Z',
      to: '2026-02-28T01:00:00Z',
      reason: 'r',
      approver: 'ann',
    },
    '/api/v1/slos/{id}/corrections/{correction_id}/withdraw': {
      withdrawn_by: 'ann',
      reason: 'fixed',
    },
    '/api/v1/hash': { value: 'x' },
    '/api/v1/postmortems': { from: '2026-03-01T00:00:00Z', to: '2026-03-02T00:00:00Z' },
    '/api/v1/operations/{name}': {},
    '/api/v1/findings/{id}/dispositions': { disposition: 'true_positive', author: 'ann' },
    '/api/v1/suppressions': {
      suppression: {
        client_id: 'shop',
        owner: 'o',
        reason: 'r',
        expires_at: '2026-03-02T00:00:00Z',
      },
      created_by: 'ann',
    },
    '/api/v1/suppression-previews': { scope: { client_id: 'shop' } },
    '/api/v1/suppressions/{id}/remove': { removed_by: 'ann', reason: 'fixed' },
  };

  it('describes every route, and every route answers as described', async () => {
    const document = JSON.parse((await call('/openapi.json')).text) as OpenApiDocument;
    expect(document.openapi).toBe('3.1.0');
    const ajv = new Ajv2020({ strict: false, allErrors: true });
    addFormats.default(ajv);
    ajv.addSchema({ $id: 'doc', components: document.components });
    const routes = (await loadRoutes()).flatMap((g) => g.routes);
    expect(
      Object.entries(document.paths)
        .flatMap(([p, m]) => Object.keys(m).map((v) => `${v} ${p}`))
        .sort(),
    ).toEqual(routes.map((r) => `${r.method} ${r.path}`).sort());
    for (const route of routes) {
      if (route.answer.form !== 'json') continue;
      const path = { ...samples, ...boards, ...alerting }[route.path] ?? route.path;
      const answer =
        route.method === 'get' ? await call(path) : await post(path, bodies[route.path]);
      expect([path, answer.status]).toEqual([path, 200]);
      expect(() => (route.answer as { schema: z.ZodType }).schema.parse(answer.body)).not.toThrow();
      const described =
        document.paths[route.path]![route.method]!.responses['200']!.content['application/json']!
          .schema;
      const text = JSON.stringify(described).replaceAll('"#/components', '"doc#/components');
      const validate = ajv.compile(JSON.parse(text) as object);
      expect(validate(answer.body), `${path}: ${JSON.stringify(validate.errors)}`).toBe(true);
    }
  });

  it('describes parameters with their limits', async () => {
    const document = JSON.parse((await call('/openapi.json')).text) as OpenApiDocument;
    const { parameters } = document.paths['/api/v1/findings']!['get']!;
    expect(parameters.find((p) => p.name === 'limit')).toEqual({
      name: 'limit',
      in: 'query',
      required: false,
      style: 'form',
      explode: false,
      schema: { default: 50, type: 'integer', minimum: 1, maximum: 200 },
    });
    expect(parameters.find((p) => p.name === 'state')!.schema).toEqual({
      type: 'array',
      items: { type: 'string', enum: ['open', 'closed', 'superseded'] },
    });
    expect(document.paths['/api/v1/findings/{id}']!['get']!.parameters[0]).toMatchObject({
      name: 'id',
      in: 'path',
      required: true,
      schema: { type: 'string', format: 'uuid' },
    });
    expect(JSON.stringify(document)).not.toContain('$defs');
  });
});

describe('runbooks', () => {
  it('gives a runbook as text and 404 for others', async () => {
    expect((await call('/api/v1/runbooks/no_such_runbook')).status).toBe(404);
    if (existsSync('alerts/runbooks/slo_unmeasured.md')) {
      const { status, headers, text } = await call('/api/v1/runbooks/slo_unmeasured');
      expect(status).toBe(200);
      expect(headers.get('content-type')).toContain('text/markdown');
      expect(text).toContain('#');
    }
  });
});
