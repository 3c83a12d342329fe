// How: an access token is stolen; the real rules find it, it is revoked, and one server accepts it for another 20 s. The
// postmortem is compared with what was done, and with golden files in all three forms. Then: what must be refused, and
// that the API gives the same document.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApi, type Api } from '../../api/main.ts';
import { buildPostmortem } from '../../cli/report/build_postmortem.ts';
import { toHtml, toMarkdown } from '../../cli/report/document.ts';
import { registerReportOperations } from '../../cli/report/operations.ts';
import { postmortemDocument, postmortemTitle } from '../../cli/report/postmortem_document.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import { Postmortem, type PostmortemRequest } from '../../model/postmortem.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { insertEvents } from '../../store/insert.ts';
import { listFindings } from '../../store/queries/findings.ts';
import { HOSTILE, id, insertSlos } from '../api_seed.ts';
import { makeRunner } from '../detector_world.ts';
import { openTestStore, testRuntime } from '../harness.ts';

const PERSON = 'Ada Example';
const at = (time: string): string => `2026-03-06T${time}Z`;
const NOW_MS = Date.parse(at('13:00:00'));
const DETECTED = at('12:06:30.000');
const PERIOD = { from: at('11:55:00'), to: at('12:30:00') };
const ACCESS = id('a', 1);
const REFRESH = id('a', 2);
const SUBJECT = id('5', 1);

let opened: Awaited<ReturnType<typeof openTestStore>>;
let api: Api;
let count = 0;

type Net = NonNullable<PartialEvent['net']>;
const HOME: Net = {
  ...{ client_ip: '203.0.113.7', ip_role: 'end_user', network: '203.0.113.0/24', country: 'DE' },
  ...{ user_agent: 'Mozilla/5.0', ua_family: 'Firefox' },
};
const THIEF: Net = {
  ...{ client_ip: '198.51.100.9', ip_role: 'end_user', network: '198.51.100.0/24', country: 'NL' },
  ...{ user_agent: HOSTILE, ua_family: 'python-requests' },
};

function event(time: string, e: Omit<PartialEvent, 'event_id' | 'time'>): PartialEvent {
  count += 1;
  return {
    event_id: id('e', count),
    time: BigInt(Date.parse(at(time))) * 1_000_000n,
    source: {
      id: 'grantscope',
      vendor: 'grantscope',
      product: 'instrumentation',
      instance: 'as-1',
    },
    client: { id: 'shop-web', name: PERSON },
    subject: { ref: SUBJECT, type: 'user' },
    issuer: 'https://as.example',
    outcome: 'success',
    ...e,
  };
}

const call = (time: string, net: Net, resource: string): PartialEvent =>
  event(time, {
    ...{ kind: 'api_accessed', net, resource: [resource] },
    http: { method: 'GET', route: '/orders', status: 200 },
    tokens: [{ role: 'presented', type: 'access', ref: ACCESS, family_ref: id('f', 1) }],
  });

const ORDERS = 'https://orders.example';

function theft(): PartialEvent[] {
  const family_ref = id('f', 1);
  return [
    event('12:00:00', {
      ...{ kind: 'token_issued', net: HOME, grant_type: 'authorization_code' },
      ...{ scopes_granted: ['openid', 'orders:read'], audience: [ORDERS], grant_ref: id('7', 1) },
      tokens: [
        {
          role: 'issued',
          type: 'access',
          ref: ACCESS,
          family_ref,
          kid: 'k-7',
          expires_at: BigInt(Date.parse(at('13:00:00'))) * 1_000_000n,
        },
        { role: 'issued', type: 'refresh', ref: REFRESH, family_ref },
      ],
    }),
    call('12:01:00', HOME, ORDERS),
    call('12:01:01', HOME, ORDERS),
    call('12:01:02', HOME, ORDERS),
    call('12:05:00', THIEF, ORDERS),
    call('12:05:01', THIEF, HOSTILE),
    call('12:06:00', HOME, ORDERS),
  ];
}

function containment(): PartialEvent[] {
  return [
    call('12:07:00', THIEF, ORDERS),
    event('12:10:00', {
      kind: 'token_revoked',
      tokens: [{ role: 'revoked', type: 'access', ref: ACCESS }],
    }),
    call('12:10:20', THIEF, ORDERS),
    {
      ...call('12:11:00', THIEF, ORDERS),
      ...{ kind: 'token_rejected', outcome: 'denied', error: { code: 'revoked', detail: HOSTILE } },
    },
    event('12:12:00', {
      kind: 'key_rotated',
      key: { kid: 'k-8', operation: 'rotate' },
      client: { id: '' },
      subject: { ref: '' },
    }),
    // Somebody else, at the same time.
    event('12:10:30', {
      kind: 'token_issued',
      client: { id: 'other' },
      tokens: [{ role: 'issued', type: 'access', ref: id('b', 1) }],
    }),
  ];
}

beforeAll(async () => {
  opened = await openTestStore();
  const { store } = opened;
  await insertEvents(store, theft().map(completeEvent));
  await (
    await makeRunner(store, 'default', { clock: new ManualClock(Date.parse(DETECTED)) })
  ).drain();
  await insertEvents(store, containment().map(completeEvent));
  await insertSlos(store, NOW_MS);
  await store.insertRows('grantscope.slo_minutes', [
    {
      tenant: 'default',
      slo_id: 'token_endpoint_availability',
      minute: '2026-03-06 12:10:00',
      good: 90,
      bad: 10,
    },
    {
      tenant: 'default',
      slo_id: 'token_endpoint_availability',
      minute: '2026-03-06 10:00:00',
      good: 9_900,
      bad: 0,
    },
  ]);
  const scope = { store, tenant: 'default' };
  const found = await listFindings(scope, {}, { by: 'risk', descending: true }, { limit: 10 });
  const finding_ids = found.items.map((f) => f.finding_id);
  await store.insertRows('grantscope.notifications', [
    {
      ...{
        tenant: 'default',
        alert_key: id('9', 1),
        kind: 'detection',
        alertname: 'access_token_replay',
      },
      ...{
        labels: { severity: 'high' },
        state: 'firing',
        first_sent_at: '2026-03-06 12:06:35.000',
        version: 1,
        finding_ids,
      },
    },
  ]);
  const runtime = testRuntime(opened.dataDir, { clock: new ManualClock(NOW_MS) });
  registerReportOperations(runtime, store);
  api = await startApi(runtime, store);
});
afterAll(async () => {
  await api.component.stop();
  await opened.close();
});

async function postmortem(
  entity?: PostmortemRequest['entity'],
  period = PERIOD,
): Promise<Postmortem> {
  const scope = { store: opened.store, tenant: 'default' };
  const written = await buildPostmortem(scope, { ...period, entity }, NOW_MS);
  expect(Postmortem.parse(written)).toEqual(written);
  return written;
}

it('tells when it began, was seen, was told, was ended, and ended', async () => {
  const p = await postmortem({ type: 'token', ref: ACCESS });
  expect(p.findings.map((f) => [f.rule_id, f.entity_ref])).toEqual([
    ['access_token_replay', ACCESS],
  ]);
  expect(p.times).toMatchObject({
    detected_at: DETECTED,
    notified_at: at('12:06:35.000'),
    revoked_at: at('12:10:00.000000000'),
    last_accepted_after_revocation: at('12:10:20.000000000'),
    seconds_to_notify: 5,
    seconds_from_detection_to_revocation: 210,
    seconds_from_revocation_to_last_acceptance: 20,
  });
  expect(p.tokens.list.map((t) => [t.ref, t.uses, t.revoked_at])).toEqual([
    [ACCESS, 9, at('12:10:00.000000000')],
    [REFRESH, 0, null],
  ]);
  expect(p.tokens.scopes).toEqual({ total: 2, values: ['openid', 'orders:read'] });
  expect(p.tokens.audiences.values).toEqual([ORDERS]);
  expect(p.keys.kids).toEqual(['k-7']);
  expect(p.keys.changes).toEqual([
    {
      at: at('12:12:00.000'),
      kind: 'key_rotated',
      issuer: 'https://as.example',
      kid: 'k-8',
      outcome: 'success',
    },
  ]);
});

it('tells who was concerned, what it cost, and who came in after it was seen', async () => {
  const p = await postmortem({ type: 'token', ref: ACCESS });
  // Issued, presented nine times, of which once in vain, and revoked; not the other client's token.
  expect(p.impact).toMatchObject({
    requests: 11,
    failed_requests: 1,
    subjects: { total: 1, values: [SUBJECT] },
    clients: { total: 1, values: ['shop-web'] },
  });
  // 10 bad; the budget of the 30 days up to the end is 0.1 % of 10,000.
  expect(p.impact.slos.find((s) => s.slo_id === 'token_endpoint_availability')).toEqual({
    slo_id: 'token_endpoint_availability',
    good: 90,
    bad: 10,
    budget_spent_percent: 100,
  });
  expect(p.accesses_after_detection).toEqual({
    accepted: 2,
    refused: 1,
    by_place: [
      {
        ...{ resource: ORDERS, network: '198.51.100.0/24', ua_family: 'python-requests' },
        ...{ accepted: 2, refused: 1, last: at('12:11:00.000000000') },
      },
    ],
  });
  expect(p.timeline.find((e) => e.count === 3)).toMatchObject({
    at: at('12:01:00.000000000'),
    until: at('12:01:02.000000000'),
    name: 'api_accessed',
    phase: 'before_detection',
  });
  expect(p.timeline.filter((e) => e.phase === 'after_revocation').map((e) => e.name)).toEqual([
    'api_accessed',
    'token_rejected',
    'key_rotated',
  ]);
});

it('is the same document without an entity, and about the finding, but for what it is about', async () => {
  const all = await postmortem();
  const [finding] = all.findings;
  const ref = finding?.finding_id ?? '';
  expect(await postmortem({ type: 'finding', ref })).toEqual({
    ...all,
    entity: { type: 'finding', ref },
  });
  expect(all.times).toEqual((await postmortem({ type: 'family', ref: id('f', 1) })).times);
});

it('tells of a client all that it did', async () => {
  const p = await postmortem({ type: 'client', ref: 'other' });
  expect(p.findings).toEqual([]);
  expect(p.impact.requests).toBe(1);
  expect(p.times.seconds_to_contain).toBeNull();
});

it('reads well in Markdown, JSON and HTML, and shows what is hostile as text', async () => {
  const p = await postmortem({ type: 'token', ref: ACCESS });
  const markdown = toMarkdown(postmortemDocument(p));
  const html = toHtml(postmortemTitle(p), postmortemDocument(p));
  await expect(markdown).toMatchFileSnapshot('../golden/reports/postmortem.md');
  await expect(`${JSON.stringify(p, null, 2)}\n`).toMatchFileSnapshot(
    '../golden/reports/postmortem.json',
  );
  await expect(html).toMatchFileSnapshot('../golden/reports/postmortem.html');
  expect(html).toContain('&lt;img src=x');
  expect(html).not.toMatch(/<(img|script|a|iframe)\b/i);
  expect(html).not.toContain('\u202e');
  for (const text of [markdown, html, JSON.stringify(p)]) expect(text).not.toContain(PERSON);
});

it('has a document of a quiet time', async () => {
  const quiet = { from: '2026-01-01T00:00:00Z', to: '2026-01-01T01:00:00Z' };
  const p = await postmortem(undefined, quiet);
  expect(p.findings).toEqual([]);
  expect(p.times.seconds_to_contain).toBeNull();
  await expect(toMarkdown(postmortemDocument(p))).toMatchFileSnapshot(
    '../golden/reports/postmortem_quiet.md',
  );
});

it.each([
  [{ type: 'token', ref: 'shop' } as const, PERIOD, 'entity.ref: not a reference'],
  [{ type: 'finding', ref: id('0', 9) } as const, PERIOD, 'no finding has this id'],
  [{ type: 'token', ref: id('0', 9) } as const, PERIOD, 'nothing stored names this token'],
  [undefined, { from: PERIOD.to, to: PERIOD.from }, 'from must be before to'],
  [undefined, { from: '2025-01-01T00:00:00Z', to: PERIOD.to }, 'at most 93 days'],
])('refuses %j in %j', async (entity, period, message) => {
  await expect(postmortem(entity, period)).rejects.toThrow(message);
});

async function post(body: unknown): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${api.url}/api/v1/postmortems`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

it('is answered by the API, which refuses what it does not know', async () => {
  const entity = { type: 'token', ref: ACCESS } as const;
  expect(await post({ ...PERIOD, entity })).toEqual({
    status: 200,
    body: await postmortem(entity),
  });
  expect((await post({ ...PERIOD, entity: { type: 'person', ref: 'x' } })).status).toBe(400);
  expect((await post({ from: PERIOD.from })).status).toBe(400);
  expect((await post({ from: PERIOD.to, to: PERIOD.from })).status).toBe(400);
  expect((await post({ ...PERIOD, entity: { type: 'token', ref: id('0', 9) } })).status).toBe(404);
});
