// How: the API over a real port and the real embedded engine: suppressions, the life of findings and their dispositions, each
// answer exactly, and what must be refused.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApi, type Api } from '../../api/main.ts';
import { Triage } from '../../detectors/triage/triage.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { writeDelivery } from '../../store/queries/deliveries.ts';
import { RETIREMENT_JUDGED_MIN } from '../../store/queries/dispositions.ts';
import { id, insertFindings, makeFinding } from '../api_seed.ts';
import { openTestStore, testRuntime } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const FINDING = id('1', 1);
const EXPIRES = '2026-03-31T00:00:00.000Z';
const clock = new ManualClock(NOW_MS);
let opened: Awaited<ReturnType<typeof openTestStore>>;
let api: Api;
let triage: Triage;

beforeAll(async () => {
  opened = await openTestStore();
  const runtime = testRuntime(opened.dataDir, { clock });
  api = await startApi(runtime, opened.store);
  triage = new Triage({
    store: opened.store,
    tenant: 'default',
    clock,
    metrics: new Metrics({ processMetrics: false }),
    configured: [],
  });
  await insertFindings(opened.store, [
    makeFinding({ finding_id: FINDING, severity: 'medium', client_id: 'shop' }),
    makeFinding({ finding_id: id('1', 2), severity: 'medium', client_id: 'other' }),
    makeFinding({ finding_id: id('9', 1), tenant: 'neighbour', client_id: 'shop' }),
  ]);
});
afterAll(async () => {
  await api.component.stop();
  await opened.close();
});

type Json = Record<string, unknown> & { items: Record<string, unknown>[]; errors: unknown[] };

async function call(path: string, body?: unknown): Promise<{ status: number; body: Json }> {
  const response = await fetch(
    `${api.url}/api/v1${path}`,
    body === undefined
      ? {}
      : {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        },
  );
  return { status: response.status, body: (await response.json()) as Json };
}

const suppression = {
  client_id: 'shop',
  rule_id: 'refresh_token_reuse',
  owner: 'soc',
  reason: 'a client that retries',
  expires_at: EXPIRES,
};

describe('suppressions', () => {
  it('are previewed, added, used, shown with the finding, and removed', async () => {
    const scope = { client_id: 'shop', rule_id: 'refresh_token_reuse' };
    const preview = await call('/suppression-previews', { scope });
    expect(preview.body).toEqual({
      days: 30,
      hidden: 1,
      broke_through: 0,
      severity_max: 'medium',
      by_severity: { medium: 1 },
      by_rule: { refresh_token_reuse: 1 },
      entities: 1,
      top_entities: [
        {
          entity_type: 'family',
          entity_ref: makeFinding({ finding_id: FINDING }).entity_ref,
          client_id: 'shop',
          findings: 1,
        },
      ],
    });
    const added = await call('/suppressions', { suppression, created_by: 'ann' });
    const suppressionId = added.body['suppression_id'] as string;
    const expected = {
      suppression_id: suppressionId,
      state: 'active',
      origin: 'api',
      scope,
      severity_max: 'medium',
      owner: 'soc',
      reason: 'a client that retries',
      created_by: 'ann',
      created_at: new Date(NOW_MS).toISOString(),
      expires_at: EXPIRES,
      removed_at: '',
      removed_by: '',
      removed_reason: '',
      hits: 0,
      last_hit_at: '',
    };
    expect([added.status, added.body]).toEqual([200, expected]);
    await triage.round([]);
    const used = { ...expected, hits: 1, last_hit_at: new Date(NOW_MS).toISOString() };
    expect((await call(`/suppressions/${suppressionId}`)).body).toEqual(used);
    expect((await call('/suppressions')).body.items).toEqual([used]);
    const step = {
      change_no: 1,
      change: 'opened',
      changed_at: new Date(NOW_MS).toISOString(),
      state: 'open',
      severity: 'medium',
      verdict: 'theft',
      treatment: 'suppressed',
      treated_kind: 'suppression',
      treated_by: suppressionId,
      inhibition: '',
      treated_owner: 'soc',
      treated_reason: 'a client that retries',
      treated_until: EXPIRES,
      reopened: 0,
    };
    expect((await call(`/findings/${FINDING}`)).body['triage']).toEqual(step);
    expect((await call(`/findings/${FINDING}/steps`)).body.items).toEqual([step]);
    const ids = async (query: string) =>
      (await call(`/findings?${query}`)).body.items.map((f) => f['finding_id']).sort();
    expect(await ids('treatment=suppressed')).toEqual([FINDING]);
    expect(await ids('treatment=active')).toEqual([id('1', 2)]);
    expect(await ids('treatment=active,suppressed')).toEqual([FINDING, id('1', 2)]);
    expect(await ids('treatment=inhibited')).toEqual([]);
    const removal = { removed_by: 'bob', reason: 'fixed' };
    const removed = await call(`/suppressions/${suppressionId}/remove`, removal);
    expect(removed.body).toMatchObject({ state: 'removed', removed_by: 'bob', hits: 1 });
    const again = await call(`/suppressions/${suppressionId}/remove`, removal);
    expect([again.status, again.body['detail']]).toEqual([
      400,
      'suppression_id: it is removed already',
    ]);
  });

  it.each([
    [{ ...suppression, client_id: '*' }, 'body.suppression.client_id'],
    [{ owner: 'a', reason: 'b', expires_at: EXPIRES }, 'body.suppression.rule_id'],
    [{ ...suppression, expires_at: '2026-04-01' }, 'body.suppression.expires_at'],
    [{ ...suppression, severity_max: 'fatal' }, 'body.suppression.severity_max'],
    [{ ...suppression, everything: true }, 'body.suppression.everything'],
  ])('are refused with the field: %j', async (wrong, path) => {
    const { status, body } = await call('/suppressions', { suppression: wrong, created_by: 'a' });
    expect(status).toBe(400);
    expect((body.errors as { path: string }[]).map((e) => e.path)).toEqual([path]);
  });

  it('are refused with an end that is too far, and unknown ones are not found', async () => {
    const far = { ...suppression, expires_at: '2028-01-01T00:00:00Z' };
    const { status, body } = await call('/suppressions', { suppression: far, created_by: 'a' });
    expect([status, body['detail']]).toEqual([
      400,
      'expires_at: at most 366 days from now are allowed',
    ]);
    expect((await call(`/suppressions/${id('0', 5)}`)).status).toBe(404);
  });
});

describe('deliveries', () => {
  it('are listed newest first, by receiver, status and finding', async () => {
    const at = (n: number): string => new Date(NOW_MS + n).toISOString();
    const delivery = (n: number, status: 'delivered' | 'retrying', error: string) => ({
      sink: n === 1 ? 'ocsf/siem' : 'caep/idp/risk-level-change',
      finding_id: id('1', n),
      change_no: 1,
      status,
      delivery_id: id('d', n),
      subject_ref: n === 1 ? '' : id('5', 1),
      level: n === 1 ? ('' as const) : ('high' as const),
      attempts: n,
      error,
      attempted_at: at(n),
    });
    const [one, two] = [delivery(1, 'delivered', ''), delivery(2, 'retrying', 'http_503')];
    const scope = { store: opened.store, tenant: 'default' };
    for (const d of [one, two]) await writeDelivery(scope, d);
    await writeDelivery({ ...scope, tenant: 'neighbour' }, one);
    const list = async (query: string) => (await call(`/deliveries${query}`)).body.items;
    expect(await list('')).toEqual([two, one]);
    expect(await list('?limit=1')).toEqual([two]);
    expect(await list('?status=delivered')).toEqual([one]);
    expect(await list('?sink=caep/idp/risk-level-change')).toEqual([two]);
    expect(await list(`?finding_id=${id('1', 1)}`)).toEqual([one]);
    expect((await call('/deliveries?status=lost')).status).toBe(400);
  });
});

describe('dispositions', () => {
  it('are kept with what the finding was; the last one counts', async () => {
    const path = `/findings/${FINDING}/dispositions`;
    const first = await call(path, { disposition: 'false_positive', author: 'ann', note: 'test' });
    expect(first.body).toEqual({
      disposition_id: first.body['disposition_id'],
      finding_id: FINDING,
      rule_id: 'refresh_token_reuse',
      rule_version: 1,
      verdict: 'theft',
      severity: 'medium',
      disposition: 'false_positive',
      author: 'ann',
      note: 'test',
      decided_at: new Date(NOW_MS).toISOString(),
    });
    clock.advance(1_000);
    const second = await call(path, { disposition: 'true_positive', author: 'bob' });
    expect((await call(path)).body.items).toEqual([second.body, first.body]);
    expect((await call(`/findings/${FINDING}`)).body['disposition']).toBe('true_positive');
    expect((await call('/rule-precision')).body.items).toEqual([
      {
        rule_id: 'refresh_token_reuse',
        judged: 1,
        true_positive: 1,
        benign_positive: 0,
        false_positive: 0,
        precision: 1,
        accuracy: 1,
        proposed_for_retirement: false,
      },
    ]);
    const missing = await call(`/findings/${id('9', 1)}/dispositions`, {
      disposition: 'true_positive',
      author: 'ann',
    });
    expect(missing.status).toBe(404);
    expect((await call(path, { disposition: 'maybe', author: 'ann' })).status).toBe(400);
    expect((await call(path, { disposition: 'true_positive', author: ' ' })).status).toBe(400);
  });

  it('propose a rule for retirement below a tenth of true positives, and not before enough are judged', async () => {
    const insert = async (rule: string, n: number, disposition: string) =>
      opened.store.insertRows(
        'grantscope.dispositions',
        Array.from({ length: n }, (_, i) => ({
          tenant: 'default',
          disposition_id: crypto.randomUUID(),
          finding_id: crypto.randomUUID(),
          rule_id: rule,
          disposition,
          author: 'ann',
          decided_at: `2026-03-01 00:00:${String(i % 60).padStart(2, '0')}.000`,
        })),
      );
    await insert('few', RETIREMENT_JUDGED_MIN - 1, 'false_positive');
    await insert('tenth', 18, 'false_positive');
    await insert('tenth', 2, 'true_positive');
    await insert('less', 18, 'false_positive');
    await insert('less', 1, 'true_positive');
    await insert('less', 1, 'benign_positive');
    const { items } = (await call('/rule-precision')).body;
    const of = (rule: string) => items.find((i) => i['rule_id'] === rule);
    expect(of('few')).toMatchObject({ judged: 19, precision: 0, proposed_for_retirement: false });
    expect(of('tenth')).toMatchObject({ precision: 0.1, proposed_for_retirement: false });
    expect(of('less')).toMatchObject({
      judged: 20,
      precision: 0.05,
      accuracy: 0.1,
      proposed_for_retirement: true,
    });
    expect(items.map((i) => i['rule_id'])).toEqual(['few', 'less', 'tenth', 'refresh_token_reuse']);
  });
});
