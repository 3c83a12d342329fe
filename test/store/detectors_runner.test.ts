// How: the runner and the server's detector loop over the real embedded engine: progress, limits, restart,
// closing, withdrawal and failure, each by its effect on the stored findings and the metrics.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRegistry } from '../../detectors/client_registry.ts';
import { startDetectors, type BacktestReport } from '../../detectors/main.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { EXAMPLE_START_MS } from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql } from '../../model/sql.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { insertEvents } from '../../store/insert.ts';
import { readEvents } from '../../store/read_events.ts';
import {
  eventAt,
  makeRunner as makeRunnerOf,
  readFindings,
  WORLD_NOW_MS,
} from '../detector_world.ts';
import { openTestStore, testRuntime } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

/** Of these alone, so that what the others say about the same events does not count. */
const rules = (await loadDetectors()).filter((d) =>
  ['code_redeemed_twice', 'redirect_probing', 'scope_beyond_registration'].includes(d.id),
);
const makeRunner = (
  store: typeof engine.store,
  tenant: string,
  options: Parameters<typeof makeRunnerOf>[2] = {},
) => makeRunnerOf(store, tenant, { rules, ...options });

const redeem = (tenant: string, code: string, t: number, ip: string): AuthEvent =>
  eventAt(tenant, `${code} ${t}`, t, {
    kind: 'code_redeemed',
    outcome: t === 0 ? 'success' : 'failure',
    client: { id: 'web-shop' },
    subject: { ref: exampleRef('alice'), type: 'user' },
    issuer: 'https://as.example',
    net: { client_ip: ip, network: `${ip.split('.').slice(0, 3).join('.')}.0/24` },
    tokens: [{ role: 'consumed', type: 'code', ref: exampleRef(code) }],
  });
const HOME = '198.51.100.7';
const AWAY = '203.0.113.9';
const replay = (tenant: string, code: string): AuthEvent[] => [
  redeem(tenant, code, 0, HOME),
  redeem(tenant, code, 60, AWAY),
];

describe('events come back as they were stored', () => {
  it('reads every field', async () => {
    const event = eventAt('read', 'all fields', 0.123_456, {
      kind: 'token_refreshed',
      phase: 'outcome',
      outcome: 'failure',
      error: { code: 'c', oauth_error: 'invalid_grant', detail: 'd' },
      subject: { ref: exampleRef('s'), type: 'user' },
      scopes_granted: ['a', 'b'],
      tokens: [
        {
          role: 'issued',
          type: 'access',
          ref: exampleRef('t'),
          parent_ref: exampleRef('p'),
          counter: 3,
          expires_at: 1_800_000_000_000_000_000n,
        },
      ],
      http: { status: 400, duration_ms: 1.5 },
      redaction: { fields: ['subject'], upstream: true, key_id: 'k1' },
      ext: { active: 'true' },
    });
    await insertEvents(engine.store, [event]);
    expect(await readEvents(engine.store, sql`tenant = ${param.string('read')}`)).toEqual([event]);
  });
});

describe('runner', () => {
  it('opens a finding with all that the console shows, and writes nothing twice', async () => {
    const tenant = 'opens';
    const metrics = new Metrics({ processMetrics: false });
    const runner = await makeRunner(engine.store, tenant, { metrics });
    await insertEvents(engine.store, replay(tenant, 'code'));
    const first = await runner.cycle();
    expect(first.changes).toMatchObject({ opened: 1, changed: 0, superseded: 0, closed: 0 });
    const { current } = await readFindings(engine.store, tenant);
    expect(current).toHaveLength(1);
    expect(current[0]).toMatchObject({
      rule_id: 'code_redeemed_twice',
      state: 'open',
      severity: 'high',
      confidence: 80,
      risk: 60,
      entity_type: 'code',
      entity_ref: exampleRef('code'),
      client_id: 'web-shop',
      subject_ref: exampleRef('alice'),
      issuer: 'https://as.example',
      networks: ['198.51.100.0/24', '203.0.113.0/24'],
      token_refs: [exampleRef('code')],
      first_event_time: '2026-01-05 12:00:00.000',
      last_event_time: '2026-01-05 12:01:00.000',
      runbook: 'code_redeemed_twice',
    });
    expect((await runner.drain()).ids).toEqual([]);
    const text = await metrics.registry.metrics();
    expect(text).toContain(
      'grantscope_detector_findings_total{rule="code_redeemed_twice",change="opened"} 1',
    );
  });

  it('takes at most its limit per cycle and the rest in the next ones', async () => {
    const tenant = 'limits';
    const codes = Array.from({ length: 7 }, (_, i) => `limited ${i}`);
    const metrics = new Metrics({ processMetrics: false });
    const limits = { unitsPerCycleMax: 3, unitsPerPage: 2, sweepLagMs: 60_000 };
    const runner = await makeRunner(engine.store, tenant, { limits, metrics });
    await insertEvents(
      engine.store,
      codes.flatMap((c) => replay(tenant, c)),
    );
    const first = await runner.cycle();
    expect([first.units, first.changes.opened, first.hasMore]).toEqual([3, 3, true]);
    const saturated = 'grantscope_detector_saturated{rule="code_redeemed_twice"}';
    expect(await metrics.registry.metrics()).toContain(`${saturated} 1`);
    const second = await runner.cycle();
    expect([second.changes.opened, second.hasMore]).toEqual([3, true]);
    const third = await runner.cycle();
    expect([third.changes.opened, third.hasMore]).toEqual([1, false]);
    expect(await metrics.registry.metrics()).toContain(`${saturated} 0`);
    expect((await readFindings(engine.store, tenant)).current).toHaveLength(7);
  });

  it('goes on after a restart from its watermark, and finds what came meanwhile', async () => {
    const tenant = 'restart';
    await insertEvents(engine.store, replay(tenant, 'before'));
    await (await makeRunner(engine.store, tenant)).drain();
    const [mark] = await engine.store.query<{ n: string }>(
      sql`SELECT uniqExact(rule_id) AS n FROM grantscope.detector_watermarks WHERE tenant = ${param.string(tenant)} AND swept_to > now() - 60`,
    );
    expect(Number(mark?.n)).toBe(rules.length);
    await insertEvents(engine.store, replay(tenant, 'after'));
    const changes = await (await makeRunner(engine.store, tenant)).drain();
    expect(changes.opened).toBe(1);
    expect((await readFindings(engine.store, tenant)).current).toHaveLength(2);
  });

  it('closes what was quiet, reopens on news, withdraws what a late event explains', async () => {
    const tenant = 'states';
    const clock = new ManualClock(EXAMPLE_START_MS + 61_000);
    const runner = await makeRunner(engine.store, tenant, { clock });
    const state = async (): Promise<unknown[]> =>
      (await readFindings(engine.store, tenant)).current.map((f) => f['state']);
    await insertEvents(engine.store, replay(tenant, 'code'));
    await runner.drain();
    expect(await state()).toEqual(['open']);
    clock.advance(3_600_000);
    expect((await runner.drain()).closed).toBe(1);
    expect(await state()).toEqual(['closed']);
    await insertEvents(engine.store, [redeem(tenant, 'code', 3_600, AWAY)]);
    expect((await runner.drain()).changed).toBe(1);
    expect(await state()).toEqual(['open']);
  });

  it('withdraws a finding that a late event explains', async () => {
    const tenant = 'withdrawn';
    const runner = await makeRunner(engine.store, tenant);
    const issue = eventAt(tenant, 'issued', 0, {
      kind: 'token_issued',
      outcome: 'success',
      client: { id: 'app' },
      scopes_granted: ['openid', 'admin'],
    });
    const register = (t: number, scope: string): AuthEvent =>
      eventAt(tenant, `registered ${t}`, t, {
        kind: 'client_registered',
        outcome: 'success',
        client: { id: 'app' },
        ext: { scope },
      });
    await insertEvents(engine.store, [register(-100, 'openid'), issue]);
    expect((await runner.drain()).opened).toBe(1);
    await insertEvents(engine.store, [register(-50, 'openid admin')]);
    expect((await runner.drain()).superseded).toBe(1);
    expect(await readFindings(engine.store, tenant)).toEqual({ current: [], superseded: 1 });
  });
});

describe('detectors in the server', () => {
  it('find what is inserted, tell it by a hint, answer operations, and stop', async () => {
    const tenant = 'server';
    const clock = new ManualClock(WORLD_NOW_MS);
    const runtime = testRuntime(engine.dataDir, { clock, config: { tenant } });
    const hinted = new Promise<readonly string[]>((resolve) =>
      runtime.hints.on('findings_changed', ({ ids }) => resolve(ids)),
    );
    const component = await startDetectors(runtime, engine.store);
    await insertEvents(engine.store, replay(tenant, 'code'));
    runtime.hints.emit('inserted', { table: 'grantscope.auth_events', rows: 2 });
    const ids = await hinted;
    const { current } = await readFindings(engine.store, tenant);
    expect(current.map((f) => f['finding_id'])).toEqual(expect.arrayContaining([...ids]));
    expect(current.map((f) => f['rule_id'])).toContain('code_redeemed_twice');
    const own = ['backtest', 'detect', 'rules_coverage', 'rules_list', 'rules_show'];
    expect(runtime.operations.names).toEqual(expect.arrayContaining(own));
    const backtest = runtime.operations.get('backtest')!;
    const ask = async (more: Record<string, unknown>): Promise<BacktestReport> =>
      (await backtest(
        {
          rule: 'code_redeemed_twice',
          from: '2026-01-05T00:00:00Z',
          to: '2026-01-06T00:00:00Z',
          ...more,
        },
        () => undefined,
      )) as BacktestReport;
    const report = await ask({ expect: [{ comparison: 'exactly', count: 2 }] });
    expect([report.total, report.expectations[0]?.met]).toEqual([1, false]);
    const whatIf = await ask({
      params: { exclude_clients: ['web-shop'] },
      expect: [{ comparison: 'at_most', count: 0 }],
    });
    expect([whatIf.total, whatIf.expectations[0]?.met]).toEqual([0, true]);
    const empty = await ask({
      from: '2025-01-01T00:00:00Z',
      to: '2025-01-02T00:00:00Z',
      expect: [{ comparison: 'exactly', count: 0 }],
    });
    expect([empty.events, empty.expectations[0]?.met]).toEqual([0, false]);
    await expect(ask({ rule: 'nope' })).rejects.toThrow(/rule "nope" is unknown; allowed: access/);
    await expect(ask({ params: { retry: 1 } })).rejects.toThrow(
      /detectors\.code_redeemed_twice.*retry.*allowed parameters: retry_ms, exclude_clients/,
    );
    await insertEvents(engine.store, replay(tenant, 'last moment'));
    await component.stop();
    await component.stop();
    const after = (await readFindings(engine.store, tenant)).current;
    expect(after.filter((f) => f['rule_id'] === 'code_redeemed_twice')).toHaveLength(2);
  });

  it('refuse a wrong configuration with its path and what is allowed', async () => {
    const start = (detectors: Record<string, Record<string, unknown>>) =>
      startDetectors(testRuntime(engine.dataDir, { config: { detectors } }), engine.store);
    await expect(start({ replays: {} })).rejects.toMatchObject({
      code: 'config_invalid',
      message: expect.stringMatching(/^detectors\.replays: unknown rule; allowed: access_token/),
    });
    await expect(start({ refresh_token_reuse: { grace_ms: 90_000 } })).rejects.toThrow(
      /^detectors\.refresh_token_reuse\.grace_ms: .*60000/,
    );
  });
});

describe('client registry', () => {
  const registration = (time: bigint, scope: string | undefined, redirect_uris?: string) => ({
    event_id: String(time),
    client_id: 'app',
    time,
    scope,
    redirect_uris,
  });
  it('answers as of event time, part by part; unknown before the first registration', () => {
    const registry = new ClientRegistry(
      [{ client_id: 'stated', scope: 'x' }],
      [
        registration(30n, undefined, 'https://b/cb'),
        registration(10n, 'a b', 'https://a/cb https://b/cb'),
        registration(20n, 'b c'),
      ],
    );
    expect(registry.at('app', 9n)).toEqual({ scopes: undefined, redirectUris: undefined });
    expect(registry.at('app', 10n).scopes).toEqual(new Set(['a', 'b']));
    expect(registry.at('app', 30n)).toMatchObject({
      scopes: new Set(['b', 'c']),
      redirectUris: ['https://b/cb'],
    });
    expect(registry.at('stated', -5n)).toEqual({ scopes: new Set(['x']), redirectUris: undefined });
    expect(registry.scopeKeys).toEqual({
      clients: ['app', 'stated'],
      always: ['app\nb', 'stated\nx'],
    });
    expect(registry.redirectKeys).toEqual({ clients: ['app'], always: ['app\nhttps://b/cb'] });
  });
});
