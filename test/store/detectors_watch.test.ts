// How: the live pass over the real embedded engine. Findings show what it named, metrics what it was spared; then its
// memory is lost by a restart or for lack of room, and the sweep has to find what it no longer can. Properties compare the
// first look with the rules' whole queries of candidates over shuffled batches; fast-check prints the seed.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRegistry, readRegistrations } from '../../detectors/client_registry.ts';
import { evaluateUnits, readUnits } from '../../detectors/engine.ts';
import { isConcerned, NewsLog, readNews, UNKNOWN_NEWS, type News } from '../../detectors/news.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import { eventCondition, ingestCondition, makeScope, storeNow } from '../../detectors/scopes.ts';
import { WATCH_LIMITS, Watcher } from '../../detectors/watcher.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql } from '../../model/sql.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventAt, exampleWorld, makeRunner, readFindings } from '../detector_world.ts';
import { openTestStore } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const HOME = { network: '198.51.100.0/24', ua_family: 'okhttp', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ua_family: 'curl', ip_role: 'end_user' } as const;
const call = (
  tenant: string,
  token: string,
  t: number,
  net: Partial<AuthEvent['net']>,
): AuthEvent =>
  eventAt(tenant, `${tenant} ${token} ${t}`, t, {
    kind: 'api_accessed',
    outcome: 'success',
    client: { id: 'mobile-app' },
    net,
    tokens: [{ role: 'presented', type: 'access', ref: exampleRef(token) }],
  });

/** Sweeps once, at the first cycle, when nothing is there yet: what is found afterwards is found live. */
const LIVE_ONLY = { sweepIntervalMs: 3_600_000, sweepLagMs: 0 } as const;
const newMetrics = (): Metrics => new Metrics({ processMetrics: false });
const REPLAY = 'rule="access_token_replay"';
async function metricOf(metrics: Metrics, name: string): Promise<number> {
  const line = (await metrics.registry.metrics()).split('\n').find((l) => l.startsWith(`${name} `));
  return Number(line?.split(' ').at(-1) ?? 0);
}
const countOf = async (tenant: string): Promise<number> =>
  (await readFindings(engine.store, tenant)).current.length;

describe('live pass', () => {
  it('looks nothing up for honest traffic, and spares the rules that it does not concern', async () => {
    const tenant = 'honest';
    const metrics = newMetrics();
    const runner = await makeRunner(engine.store, tenant, { metrics, limits: LIVE_ONLY });
    await runner.cycle();
    for (let minute = 0; minute < 3; minute += 1) {
      const tokens = Array.from({ length: 20 }, (_, i) => `honest ${i}`);
      await insertEvents(
        engine.store,
        tokens.map((t) => call(tenant, t, minute * 60, HOME)),
      );
      await runner.cycle();
    }
    const text = await metrics.registry.metrics();
    expect(text.split('\n').filter((l) => /^grantscope_detector_entities.* [1-9]/.test(l))).toEqual(
      [],
    );
    const skipped = (rule: string): Promise<number> =>
      metricOf(metrics, `grantscope_detector_skipped_total{rule="${rule}"}`);
    expect(await skipped('code_redeemed_twice')).toBe(3);
    expect(await skipped('scope_growth_on_refresh')).toBe(3);
    expect(await skipped('redirect_probing')).toBe(3);
    expect(await skipped('access_token_replay')).toBe(0);
  });

  it('begins no rule once it is over, and goes on with the rest in the next cycle', async () => {
    const tenant = 'ends early';
    const rules = (await loadDetectors()).filter((d) =>
      ['access_token_replay', 'code_redeemed_twice'].includes(d.id),
    );
    const runner = await makeRunner(engine.store, tenant, { rules, limits: LIVE_ONLY });
    await runner.cycle();
    const redeemed = (t: number): AuthEvent =>
      eventAt(tenant, `redeemed ${t}`, t, {
        kind: 'code_redeemed',
        outcome: 'success',
        client: { id: 'web-shop' },
        tokens: [{ role: 'consumed', type: 'code', ref: exampleRef('ends early code') }],
      });
    await insertEvents(engine.store, [
      call(tenant, 'stolen', 0, HOME),
      call(tenant, 'stolen', 60, AWAY),
      redeemed(0),
      redeemed(60),
    ]);
    const found = async (): Promise<unknown[]> =>
      (await readFindings(engine.store, tenant)).current.map((f) => f['rule_id']).sort();
    let asked = 0;
    const isOver = (): boolean => (asked += 1) > 1;
    expect((await runner.cycle({ isUnhurried: false, isOver })).hasMore).toBe(true);
    expect(await found()).toEqual(['access_token_replay']);
    expect((await runner.cycle()).hasMore).toBe(false);
    expect(await found()).toEqual(['access_token_replay', 'code_redeemed_twice']);
  });

  it('finds at the second sign, and looks at every later use of that token alone', async () => {
    const tenant = 'second sign';
    const metrics = newMetrics();
    const runner = await makeRunner(engine.store, tenant, { metrics, limits: LIVE_ONLY });
    await runner.cycle();
    const entities = (): Promise<number> =>
      metricOf(metrics, `grantscope_detector_entities_evaluated_total{${REPLAY}}`);
    // Roaming with one program is no second sign.
    const roaming = { ...AWAY, ua_family: 'okhttp' };
    await insertEvents(engine.store, [call(tenant, 'a', 0, HOME), call(tenant, 'b', 0, HOME)]);
    await runner.cycle();
    await insertEvents(engine.store, [
      call(tenant, 'a', 10, roaming),
      call(tenant, 'b', 10, roaming),
    ]);
    await runner.cycle();
    expect(await entities()).toBe(0);
    await insertEvents(engine.store, [call(tenant, 'a', 20, AWAY), call(tenant, 'b', 20, HOME)]);
    await runner.cycle();
    expect([await entities(), await countOf(tenant)]).toEqual([1, 0]);
    const third = { ...AWAY, network: '192.0.2.0/24', ua_family: 'python' };
    await insertEvents(engine.store, [call(tenant, 'a', 30, third), call(tenant, 'b', 30, HOME)]);
    const { changes } = await runner.cycle();
    expect([await entities(), changes.opened, await countOf(tenant)]).toEqual([2, 1, 1]);
    expect(await metricOf(metrics, `grantscope_detector_sweep_changes_total{${REPLAY}}`)).toBe(0);
  });

  it('takes the whole query where more is new than it takes at once', async () => {
    const tenant = 'many';
    const limits = { ...LIVE_ONLY, streamRowsMax: 5 };
    const runner = await makeRunner(engine.store, tenant, { limits });
    await runner.cycle();
    const events = Array.from({ length: 6 }, (_, i) =>
      call(tenant, 'many', i, i === 5 ? AWAY : HOME),
    );
    await insertEvents(engine.store, events);
    expect((await runner.cycle()).changes.opened).toBe(1);
  });
});

describe('an unhurried cycle', () => {
  const uri = (tenant: string, n: number): AuthEvent =>
    eventAt(tenant, `${tenant} uri ${n}`, n, {
      kind: 'authorization_failed',
      outcome: 'failure',
      error: { code: 'invalid_redirect_uri' },
      client: { id: 'web-shop' },
      redirect_uri: `https://shop.example/cb${n}`,
    });
  const QUESTIONS = 'grantscope_detector_queries_total{rule="redirect_probing"}';

  it('lets a rule without a watch rest after a look, and looks at all of it afterwards', async () => {
    const tenant = 'rest';
    const metrics = newMetrics();
    const rules = (await loadDetectors()).filter((d) =>
      ['access_token_replay', 'redirect_probing'].includes(d.id),
    );
    const limits = { ...LIVE_ONLY, restFactor: 1e9, restMsMax: 3_600_000 };
    const runner = await makeRunner(engine.store, tenant, { rules, metrics, limits });
    await runner.cycle();
    // The first cycle sweeps.
    const begun = await metricOf(metrics, QUESTIONS);
    const unhurried = { isUnhurried: true } as const;
    await insertEvents(engine.store, [uri(tenant, 0), call(tenant, 'rest', 0, HOME)]);
    const first = await runner.cycle(unhurried);
    // It has just looked, when there was nothing: so it rests, and the rule with a watch does not.
    expect([first.isResting, await metricOf(metrics, QUESTIONS)]).toEqual([true, begun]);
    await insertEvents(engine.store, [
      ...[1, 2, 3, 4].map((n) => uri(tenant, n)),
      call(tenant, 'rest', 60, AWAY),
    ]);
    const second = await runner.cycle(unhurried);
    expect([second.isResting, second.changes.opened]).toEqual([true, 1]);
    expect(await metricOf(metrics, QUESTIONS)).toBe(begun);
    // Whoever is in a hurry waits for nobody's rest: both batches are looked at, by what the cycles noted.
    const shared = 'grantscope_detector_queries_total{rule="shared"}';
    const before = await metricOf(metrics, shared);
    const last = await runner.cycle();
    expect([last.isResting, last.changes.opened]).toEqual([false, 1]);
    expect(await metricOf(metrics, QUESTIONS)).toBeGreaterThan(begun);
    // The clock, and the scan of what came since: none over what the cycles before had noted.
    expect((await metricOf(metrics, shared)) - before).toBeLessThanOrEqual(3);
  });

  it('lets no rule rest where the rest is set to nothing', async () => {
    const tenant = 'restless';
    const runner = await makeRunner(engine.store, tenant, {
      limits: { ...LIVE_ONLY, restFactor: 0 },
      rules: (await loadDetectors()).filter((d) => d.id === 'redirect_probing'),
    });
    await runner.cycle();
    await insertEvents(
      engine.store,
      [0, 1, 2, 3, 4].map((n) => uri(tenant, n)),
    );
    const { isResting, changes } = await runner.cycle({ isUnhurried: true });
    expect([isResting, changes.opened]).toEqual([false, 1]);
  });
});

describe('what the live pass forgot', () => {
  it('is remembered after a restart, as far as the first look back reaches', async () => {
    const tenant = 'warm';
    const before = await makeRunner(engine.store, tenant, { limits: { sweepLagMs: 0 } });
    await insertEvents(engine.store, [call(tenant, 'warm', 0, HOME)]);
    await before.drain();
    const metrics = newMetrics();
    const after = await makeRunner(engine.store, tenant, {
      metrics,
      limits: { ...LIVE_ONLY, sweepLagMs: 60_000 },
    });
    await after.cycle();
    await insertEvents(engine.store, [call(tenant, 'warm', 60, AWAY)]);
    expect((await after.cycle()).changes.opened).toBe(1);
    expect(await metricOf(metrics, `grantscope_detector_sweep_changes_total{${REPLAY}}`)).toBe(0);
  });

  it('is found by the sweep and counted, where a restart lost it', async () => {
    const tenant = 'cold';
    const before = await makeRunner(engine.store, tenant);
    await insertEvents(engine.store, [call(tenant, 'cold', 0, HOME)]);
    await before.drain();
    const metrics = newMetrics();
    const limits = { warmMs: 0, sweepIntervalMs: 1, sweepLagMs: 2_000 };
    const after = await makeRunner(engine.store, tenant, { metrics, limits });
    await after.cycle();
    await insertEvents(engine.store, [call(tenant, 'cold', 60, AWAY)]);
    let opened = 0;
    await expect
      .poll(async () => (opened += (await after.cycle()).changes.opened), { timeout: 20_000 })
      .toBe(1);
    expect(await metricOf(metrics, `grantscope_detector_sweep_changes_total{${REPLAY}}`)).toBe(1);
    expect(await countOf(tenant)).toBe(1);
  });

  it('is found by the sweep and counted, where there was no room for it', async () => {
    const tenant = 'full';
    const metrics = newMetrics();
    const limits = { memorySlots: 4, sweepIntervalMs: 1, sweepLagMs: 2_000 };
    const runner = await makeRunner(engine.store, tenant, { metrics, limits });
    await runner.cycle();
    await insertEvents(engine.store, [call(tenant, 'full', 0, HOME)]);
    await runner.cycle();
    const others = Array.from({ length: 50 }, (_, i) => call(tenant, `other ${i}`, 10, HOME));
    await insertEvents(engine.store, others);
    await runner.cycle();
    expect(await metricOf(metrics, 'grantscope_detector_watch_evictions_total')).toBe(47);
    await insertEvents(engine.store, [call(tenant, 'full', 60, AWAY)]);
    let opened = 0;
    await expect
      .poll(async () => (opened += (await runner.cycle()).changes.opened), { timeout: 20_000 })
      .toBe(1);
    expect(await metricOf(metrics, `grantscope_detector_sweep_changes_total{${REPLAY}}`)).toBe(1);
  });

  it('a successor that is used after a restart changes its parent at once', async () => {
    const tenant = 'followed';
    const refresh = (
      t: number,
      net: typeof HOME,
      tokens: AuthEvent['tokens'][number]['role'][],
    ): AuthEvent =>
      eventAt(tenant, `followed ${t}`, t, {
        kind: tokens.length > 1 ? 'token_refreshed' : 'token_request_failed',
        outcome: tokens.length > 1 ? 'success' : 'failure',
        client: { id: 'mobile-app' },
        net,
        tokens: tokens.map((role, i) => ({
          role,
          type: 'refresh',
          ref: exampleRef(`followed ${i}`),
        })),
      });
    const first = await makeRunner(engine.store, tenant, { limits: LIVE_ONLY });
    await first.cycle();
    await insertEvents(engine.store, [refresh(0, HOME, ['consumed', 'issued'])]);
    await first.cycle();
    await insertEvents(engine.store, [refresh(600, HOME, ['presented'])]);
    await first.cycle();
    const verdicts = async (): Promise<unknown[]> =>
      (await readFindings(engine.store, tenant)).current.map((f) => f['verdict']);
    expect(await verdicts()).toEqual(['lost_response']);
    // Its watermarks are of the first cycle; what it has found is what the next process follows.
    const second = await makeRunner(engine.store, tenant, {
      limits: { ...LIVE_ONLY, sweepLagMs: 3_600_000, warmMs: 0 },
    });
    await second.cycle();
    const successor = {
      role: 'presented',
      type: 'refresh',
      ref: exampleRef('followed 1'),
    } as const;
    await insertEvents(engine.store, [
      eventAt(tenant, 'successor', 700, {
        kind: 'token_request_failed',
        outcome: 'failure',
        client: { id: 'mobile-app' },
        net: HOME,
        tokens: [successor],
      }),
    ]);
    await second.cycle();
    expect(await verdicts()).toEqual(['stale_client']);
  });
});

describe('sweep', () => {
  it('comes round a large ledger in slices, and moves its watermark only then', async () => {
    const tenant = 'slices';
    const tokens = Array.from({ length: 40 }, (_, i) => `sliced ${i}`);
    const first = await makeRunner(engine.store, tenant);
    await insertEvents(
      engine.store,
      tokens.map((t) => call(tenant, t, 0, HOME)),
    );
    await first.drain();
    const sweptTo = async (): Promise<unknown> =>
      engine.store.query(
        sql`SELECT max(swept_to) AS at FROM grantscope.detector_watermarks WHERE tenant = ${param.string(tenant)} AND rule_id = 'access_token_replay'`,
      );
    const before = await sweptTo();
    // A new process without a memory, so that what is found is the sweep's alone.
    await insertEvents(
      engine.store,
      tokens.map((t) => call(tenant, t, 60, AWAY)),
    );
    const [rows] = await engine.store.query<{ n: string }>(
      sql`SELECT count() AS n FROM grantscope.token_events`,
    );
    const slices = 8;
    const metrics = newMetrics();
    const runner = await makeRunner(engine.store, tenant, {
      metrics,
      limits: { warmMs: 0, sweepRowsMax: Math.ceil(Number(rows?.n) / slices) },
    });
    const found: number[] = [];
    for (let i = 0; i < slices; i += 1) {
      expect(await sweptTo()).toEqual(before);
      await runner.cycle();
      found.push(await metricOf(metrics, `grantscope_detector_sweep_changes_total{${REPLAY}}`));
    }
    expect(await sweptTo()).not.toEqual(before);
    expect(found.at(-1)).toBe(40);
    expect(await countOf(tenant)).toBe(40);
    // Slice by slice, not at once.
    expect(new Set(found).size).toBeGreaterThan(4);
  });

  it('of all slices together names what the whole query names', async () => {
    const detectors = await loadDetectors();
    const tenant = 'slices of all';
    const world = exampleWorld(detectors, tenant);
    await insertEvents(engine.store, world.events);
    const condition = eventCondition({ from: 0n, to: 4_102_444_800_000_000_000n });
    const news = await readNews(engine.store, tenant, condition);
    const clients = new ClientRegistry(
      world.clients,
      await readRegistrations(engine.store, tenant),
    );
    const page = { after: undefined, limit: 1_000 };
    const quarter = 2n ** 62n;
    for (const detector of bindDetectors(detectors, {}).filter((d) => d.sliced)) {
      const whole = await readUnits(
        engine.store,
        detector,
        makeScope(tenant, condition, news, clients),
        page,
      );
      const parts: string[] = [];
      for (let i = 0n; i < 4n; i += 1n) {
        const slice = { from: i * quarter, to: (i + 1n) * quarter };
        const scope = makeScope(tenant, condition, news, clients, slice);
        parts.push(...(await readUnits(engine.store, detector, scope, page)).map((u) => u.entity));
      }
      expect(whole.length).toBeGreaterThan(0);
      expect(parts.sort()).toEqual(whole.map((u) => u.entity).sort());
    }
  });
});

describe('news', () => {
  const news = (rows: number, kind: string): News => ({
    rows,
    timeFrom: BigInt(rows),
    timeTo: BigInt(rows),
    facts: [{ kind, outcome: 'success', roles: [], types: [], hasGroup: false }],
    screened: new Map([['a', rows]]),
    triggered: new Map<string, bigint>(),
  });
  it('are known between two points only where all of it was looked at', () => {
    const log = new NewsLog();
    expect(log.between(0n, 5n)).toEqual(UNKNOWN_NEWS);
    log.add(10n, 20n, news(1, 'login'));
    log.add(20n, 30n, news(2, 'api_accessed'));
    expect(log.to).toBe(30n);
    expect(log.between(9n, 30n)).toEqual(UNKNOWN_NEWS);
    expect(log.between(10n, 31n)).toEqual(UNKNOWN_NEWS);
    expect(log.between(20n, 30n)).toEqual(news(2, 'api_accessed'));
    const both = log.between(10n, 30n);
    expect([both.rows, both.timeFrom, both.timeTo, both.facts?.map((f) => f.kind)]).toEqual([
      3,
      1n,
      2n,
      ['login', 'api_accessed'],
    ]);
    expect([...both.screened]).toEqual([['a', 3]]);
    // A screen that was asked of a part alone says nothing about the whole.
    log.add(30n, 40n, { ...news(1, 'login'), screened: new Map([['b', 0]]) });
    expect([...log.between(20n, 40n).screened]).toEqual([]);
  });
});

it('a rule that is not concerned has no candidates, and a first look names all that a rule concludes about', async () => {
  // What holds of every rule's concerns is in detectors_screens.test.ts.
  const detectors = (await loadDetectors()).filter((d) => bindDetectors([d], {})[0]?.watch);
  const bound = bindDetectors(detectors, {});
  const world = exampleWorld(detectors, 'looks');
  const all = world.events.map((_, i) => i);
  let runs = 0;
  let spared = 0;
  const sure = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      fc.shuffledSubarray(all, { minLength: all.length }),
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 5, maxLength: 5 }),
      async (order, sizes) => {
        const tenant = `looks-${runs++}`;
        const watcher = new Watcher(engine.store, tenant, {
          ...WATCH_LIMITS,
          memorySlots: 2 ** 14,
        });
        let from = await storeNow(engine.store);
        let start = 0;
        for (const size of [...sizes, all.length]) {
          const batch = order.slice(start, start + size);
          start += size;
          await insertEvents(
            engine.store,
            batch.map((i) => ({ ...world.events[i]!, tenant })),
          );
          const to = await storeNow(engine.store);
          const condition = ingestCondition({ from, to });
          from = to;
          const fresh = await readNews(engine.store, tenant, condition, bound);
          const registrations = await readRegistrations(engine.store, tenant);
          const clients = new ClientRegistry(world.clients, registrations);
          const scope = makeScope(tenant, condition, fresh, clients);
          for (const detector of bound) {
            const units = await readUnits(engine.store, detector, scope, {
              after: undefined,
              limit: 1_000,
            });
            if (!isConcerned(detector, fresh, clients)) {
              spared += 1;
              expect([detector.docs.id, units]).toEqual([detector.docs.id, []]);
              continue;
            }
            const look = await watcher.look(detector, condition, fresh);
            if (!look.isSure) continue;
            sure.add(detector.docs.id);
            const { results } = await evaluateUnits(engine.store, detector, tenant, clients, units);
            const named = new Set(look.entities);
            for (const { unit, findings, followedTokens } of results) {
              if (findings.length === 0) continue;
              expect([detector.docs.id, unit.entity, named.has(unit.entity)]).toEqual([
                detector.docs.id,
                unit.entity,
                true,
              ]);
              watcher.follow(detector.docs.id, unit.entity, followedTokens);
            }
          }
        }
      },
    ),
    { numRuns: 2, endOnFailure: true },
  );
  expect(spared).toBeGreaterThan(0);
  expect([...sure].sort()).toEqual(
    bound.filter((d) => d.watch !== undefined).map((d) => d.docs.id),
  );
}, 300_000);
