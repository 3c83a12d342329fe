// How: the API over a real port and the real embedded engine: silences, and what Alertmanager tells of its notices; each answer
// exactly, and what must be refused.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCorrections } from '../../alerts/corrections.ts';
import { startApi, type Api } from '../../api/main.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { writeSilenceReports } from '../../store/queries/silences.ts';
import { openTestStore, testRuntime } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const TOKEN = 'a-token-of-some-length-for-alertmanager';
const clock = new ManualClock(NOW_MS);
const setTime = (ms: number): void => clock.advance(ms - clock.nowMs());
let opened: Awaited<ReturnType<typeof openTestStore>>;
let api: Api;
let unconfigured: Api;
let neighbour: Api;

beforeAll(async () => {
  opened = await openTestStore();
  const alertmanagerTokenFile = join(opened.dataDir, 'token');
  writeFileSync(alertmanagerTokenFile, `${TOKEN}\n`);
  const start = (config: object): Promise<Api> =>
    startApi(testRuntime(opened.dataDir, { clock, config }), opened.store);
  const alertmanagerUrl = 'http://127.0.0.1:9';
  api = await start({ alertmanagerUrl, alertmanagerTokenFile });
  unconfigured = await start({});
  neighbour = await start({ tenant: 'neighbour', alertmanagerUrl });
});
afterAll(async () => {
  for (const a of [api, unconfigured, neighbour]) await a.component.stop();
  await opened.close();
});

type Json = Record<string, unknown> & { items: Record<string, unknown>[]; detail: string };

async function call(
  path: string,
  body?: unknown,
  options: { at?: Api; headers?: Record<string, string> } = {},
): Promise<{ status: number; body: Json }> {
  const response = await fetch(
    `${(options.at ?? api).url}/api/v1${path}`,
    body === undefined
      ? {}
      : {
          method: 'POST',
          headers: { 'content-type': 'application/json', ...options.headers },
          body: JSON.stringify(body),
        },
  );
  return { status: response.status, body: (await response.json()) as Json };
}

const ENDS = '2026-03-01T14:00:00.000Z';
const matchers = [{ name: 'slo', value: 'token_issuance_success' }];
const full = [{ ...matchers[0], is_regex: false, is_equal: true }];
const silence = { matchers, ends_at: ENDS, reason: 'upgrade of the login service' };

describe('silences', () => {
  it('are asked for, followed, and withdrawn, with who and why', async () => {
    const added = await call('/silences', { silence, created_by: 'ann' });
    const id = added.body['silence_id'] as string;
    const expected = {
      silence_id: id,
      state: 'pending',
      matchers: full,
      starts_at: new Date(NOW_MS).toISOString(),
      ends_at: ENDS,
      created_by: 'ann',
      created_at: new Date(NOW_MS).toISOString(),
      reason: 'upgrade of the login service',
      withdrawn_at: '',
      withdrawn_by: '',
      withdrawn_reason: '',
      alertmanager_id: '',
      error: '',
      mutes: [],
    };
    expect([added.status, added.body]).toEqual([200, expected]);
    const labels = { alertname: 'OAuthSLOBudgetBurn', slo: 'token_issuance_success' };
    const scope = { store: opened.store, tenant: 'default' };
    const report = { silence_id: id, alertmanager_id: 'am-1', error: '', mutes: [labels] };
    await writeSilenceReports(scope, [{ ...report, status: 'accepted' }], NOW_MS);
    const active = { ...expected, state: 'active', alertmanager_id: 'am-1', mutes: [labels] };
    expect((await call(`/silences/${id}`)).body).toEqual(active);
    expect((await call('/silences')).body.items).toEqual([active]);
    expect((await call('/silences', undefined, { at: neighbour })).body.items).toEqual([]);
    expect((await call(`/silences/${id}`, undefined, { at: neighbour })).status).toBe(404);

    const withdrawn = await call(`/silences/${id}/withdraw`, {
      withdrawn_by: 'bob',
      reason: 'done early',
    });
    expect([withdrawn.status, withdrawn.body]).toEqual([
      200,
      {
        ...active,
        state: 'withdrawn',
        withdrawn_at: new Date(NOW_MS).toISOString(),
        withdrawn_by: 'bob',
        withdrawn_reason: 'done early',
      },
    ]);
    const again = await call(`/silences/${id}/withdraw`, { withdrawn_by: 'bob', reason: 'twice' });
    expect([again.status, again.body.detail]).toEqual([400, 'silence_id: it is withdrawn already']);
  });

  it('lie ahead, end, and are refused with the reason', async () => {
    const scope = { store: opened.store, tenant: 'default' };
    const stateOf = async (id: string): Promise<unknown> =>
      (await call(`/silences/${id}`)).body['state'];
    const later = { ...silence, starts_at: '2026-03-01T13:00:00Z' };
    const added = await call('/silences', { silence: later, created_by: 'ann' });
    const id = added.body['silence_id'] as string;
    const report = { silence_id: id, alertmanager_id: '', mutes: [] };
    await writeSilenceReports(
      scope,
      [{ ...report, status: 'refused', error: 'Alertmanager answered 400' }],
      NOW_MS,
    );
    expect((await call(`/silences/${id}`)).body).toMatchObject({
      state: 'refused',
      error: 'Alertmanager answered 400',
    });
    await writeSilenceReports(scope, [{ ...report, status: 'accepted', error: '' }], NOW_MS + 1);
    expect(await stateOf(id)).toBe('scheduled');
    setTime(Date.parse('2026-03-01T13:00:00Z'));
    expect(await stateOf(id)).toBe('active');
    setTime(Date.parse(ENDS));
    expect(await stateOf(id)).toBe('expired');
    const late = await call(`/silences/${id}/withdraw`, { withdrawn_by: 'bob', reason: 'late' });
    expect(late.status).toBe(400);
    setTime(NOW_MS);
  });

  it.each([
    ['an end that has passed', { ends_at: '2026-03-01T12:00:00Z' }, /^ends_at: must be in the/],
    ['31 days', { ends_at: '2026-04-01T12:00:00Z' }, /^ends_at: at most 30 days/],
    [
      'an end before the start',
      { starts_at: '2026-03-01T15:00:00Z' },
      /^ends_at: must be after starts_at/,
    ],
    [
      'what holds for every alert',
      { matchers: [{ name: 'slo', value: '.*', is_regex: true }] },
      /at least one must not hold for an empty label/,
    ],
    [
      'what would mute the dead-man switch',
      { matchers: [{ name: 'alertname', value: '.+', is_regex: true }] },
      /would mute Watchdog/,
    ],
    [
      'what is no expression',
      { matchers: [{ name: 'slo', value: '(', is_regex: true }] },
      /is not a regular expression/,
    ],
    ['no matcher', { matchers: [] }, /body\.silence\.matchers/],
    ['no reason', { reason: '' }, /body\.silence\.reason/],
  ])('refuse %s', async (_, change, message) => {
    const refused = await call('/silences', {
      silence: { ...silence, ...change },
      created_by: 'ann',
    });
    expect(refused.status).toBe(400);
    expect(refused.body.detail).toMatch(message);
  });

  it('are refused where no Alertmanager is configured', async () => {
    const before = (await call('/silences')).body.items.length;
    const refused = await call('/silences', { silence, created_by: 'a' }, { at: unconfigured });
    expect([refused.status, refused.body['code']]).toEqual([422, 'config_invalid']);
    expect(refused.body.detail).toContain('ALERTMANAGER_URL is not set');
    expect((await call('/silences')).body.items).toHaveLength(before);
  });
});

const FINDING = '11111111-0000-4000-8000-000000000001';
const OTHER = '11111111-0000-4000-8000-000000000002';

function message(status: 'firing' | 'resolved', findings: string, fields: object = {}) {
  return {
    version: '4',
    groupKey: '{}/{kind="detection"}:{alertname="refresh_token_reuse"}',
    truncatedAlerts: 0,
    status,
    receiver: 'soc_page',
    groupLabels: {},
    commonLabels: {},
    commonAnnotations: {},
    externalURL: 'http://127.0.0.1:9093',
    alerts: [
      {
        status,
        labels: {
          alertname: 'refresh_token_reuse',
          kind: 'detection',
          severity: 'critical',
          client_id: 'shop',
        },
        annotations: { summary: 'a rotated token came back', finding_ids: findings },
        startsAt: '2026-03-01T11:59:00Z',
        endsAt: '0001-01-01T00:00:00Z',
        generatorURL: '',
        fingerprint: '0123456789abcdef',
        ...fields,
      },
    ],
  };
}

describe('notices', () => {
  const headers = { authorization: `Bearer ${TOKEN}` };
  const tell = (body: unknown, at = api, given = headers) =>
    call('/alertmanager/notifications', body, { at, headers: given });

  it('are kept once, with the findings that joined, and say when the alert ended', async () => {
    expect((await tell(message('firing', FINDING))).body).toEqual({ stored: 1 });
    setTime(NOW_MS + 60_000);
    await tell(message('firing', `${FINDING} ${OTHER} not-an-id`));
    const sent = {
      alertname: 'refresh_token_reuse',
      kind: 'detection',
      severity: 'critical',
      slo: '',
      client_id: 'shop',
      receiver: 'soc_page',
      summary: 'a rotated token came back',
      finding_ids: [FINDING, OTHER],
      starts_at: '2026-03-01T11:59:00.000Z',
      sent_at: '2026-03-01T12:00:00.000Z',
      last_sent_at: '2026-03-01T12:01:00.000Z',
      resolved_at: '',
    };
    expect((await call('/notifications')).body.items).toEqual([sent]);
    setTime(NOW_MS + 120_000);
    await tell(message('resolved', FINDING));
    const ended = {
      ...sent,
      last_sent_at: '2026-03-01T12:02:00.000Z',
      resolved_at: '2026-03-01T12:02:00.000Z',
    };
    const of = async (query: string): Promise<unknown> =>
      (await call(`/notifications?${query}`)).body.items;
    expect(await of(`finding_id=${OTHER}`)).toEqual([ended]);
    expect(await of('finding_id=11111111-0000-4000-8000-000000000003')).toEqual([]);
    expect(await of('slo=token_issuance_success')).toEqual([]);
    await tell(
      message('firing', '', {
        labels: { alertname: 'OAuthSLOBudgetBurn', kind: 'slo', slo: 'token_issuance_success' },
        annotations: {},
        fingerprint: 'ff',
      }),
    );
    expect(await of('slo=token_issuance_success')).toMatchObject([
      { alertname: 'OAuthSLOBudgetBurn', finding_ids: [], resolved_at: '' },
    ]);
    expect((await call('/notifications', undefined, { at: neighbour })).body.items).toEqual([]);
    setTime(NOW_MS);
  });

  it('are refused without the token, without a file for it, and when they are not what is sent', async () => {
    const before = (await call('/notifications')).body.items;
    const firing = message('firing', FINDING, { fingerprint: 'abc' });
    for (const authorization of ['', 'Bearer wrong', TOKEN, `Basic ${TOKEN}`])
      expect((await tell(firing, api, { authorization })).status).toBe(401);
    const closed = await tell(firing, unconfigured);
    expect([closed.status, closed.body['code']]).toEqual([422, 'config_invalid']);
    expect((await tell({ ...firing, version: '3' })).status).toBe(400);
    const many = { ...firing, alerts: Array.from({ length: 201 }, () => firing.alerts[0]) };
    expect((await tell(many)).status).toBe(400);
    const long = message('firing', 'x'.repeat(300_000));
    expect((await tell(long)).status).toBe(413);
    expect((await call('/notifications')).body.items).toEqual(before);
  });
});

describe('corrections', () => {
  const window = { from: '2026-03-01T10:00:30Z', to: '2026-03-01T11:00:00Z' };
  const path = '/slos/token_issuance_success/corrections';
  const given = { ...window, reason: 'announced upgrade', approver: 'ann' };

  it('are approved, listed with those of all service levels, read by the budget, and withdrawn', async () => {
    await opened.store.insertRows('grantscope.slo_states', [
      { tenant: 'default', slo_id: 'token_issuance_success' },
    ]);
    const added = await call(path, given);
    const id = added.body['correction_id'] as string;
    const expected = {
      correction_id: id,
      slo_id: 'token_issuance_success',
      from: '2026-03-01T10:00:30.000Z',
      to: '2026-03-01T11:00:00.000Z',
      reason: 'announced upgrade',
      approver: 'ann',
      created_at: new Date(NOW_MS).toISOString(),
      withdrawn_at: '',
      withdrawn_by: '',
      withdrawn_reason: '',
    };
    expect([added.status, added.body]).toEqual([200, expected]);
    const stored = { ...expected, from: '2026-03-01T10:00:30Z', to: '2026-03-01T11:00:00Z' };
    await call('/slos/all/corrections', { ...given, to: '2026-03-01T10:01:00Z' });
    const ofAll = { ...stored, slo_id: 'all', to: '2026-03-01T10:01:00Z' };
    const listed = (await call(path)).body.items;
    expect(listed).toHaveLength(2);
    expect(listed).toEqual(
      expect.arrayContaining([
        stored,
        { ...ofAll, correction_id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string },
      ]),
    );
    // The computation of budgets takes them as they are.
    expect(await readCorrections(opened.store, 'default')).toEqual(
      expect.arrayContaining([
        {
          sloId: 'token_issuance_success',
          fromMs: Date.parse(window.from),
          toMs: Date.parse(window.to),
        },
      ]),
    );
    expect((await call(path, undefined, { at: neighbour })).body.items).toEqual([]);

    const withdrawn = await call(`${path}/${id}/withdraw`, {
      withdrawn_by: 'bob',
      reason: 'wrong',
    });
    const back = {
      ...stored,
      withdrawn_at: new Date(NOW_MS).toISOString(),
      withdrawn_by: 'bob',
      withdrawn_reason: 'wrong',
    };
    expect([withdrawn.status, withdrawn.body]).toEqual([200, back]);
    expect((await call(path)).body.items).toContainEqual(back);
    expect((await readCorrections(opened.store, 'default')).map((c) => c.sloId)).toEqual(['all']);
    const again = await call(`${path}/${id}/withdraw`, { withdrawn_by: 'bob', reason: 'twice' });
    expect([again.status, again.body.detail]).toEqual([
      400,
      'correction_id: it is withdrawn already',
    ]);
  });

  it.each([
    ['no window', { to: window.from }, 400, /^to: must be after from/],
    ['eight days', { to: '2026-03-09T10:00:31Z' }, 400, /^to: at most 7 days/],
    [
      'what is in no budget',
      { from: '2026-01-20T00:00:00Z', to: '2026-01-20T01:00:00Z' },
      400,
      /^from: at most 30 days ago/,
    ],
    ['no approver', { approver: '' }, 400, /body\.approver/],
  ])('refuse %s', async (_, change, status, message) => {
    const refused = await call(path, { ...given, ...change });
    expect([refused.status, message.test(refused.body.detail)]).toEqual([status, true]);
  });

  it('are refused for a service level that does not exist', async () => {
    expect((await call('/slos/no_such/corrections', given)).status).toBe(404);
    const id = '11111111-0000-4000-8000-000000000009';
    const by = { withdrawn_by: 'bob', reason: 'none' };
    expect((await call(`${path}/${id}/withdraw`, by)).status).toBe(404);
  });
});
