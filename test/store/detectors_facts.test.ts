// How: rules made for the purpose, on the real embedded engine: what a rule asks for beyond single events, which rules a
// screen spares, and which days a late event is judged for. Each by its effect on findings and metrics.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { ClientRegistry } from '../../detectors/client_registry.ts';
import { DetectorMetrics } from '../../detectors/detector_metrics.ts';
import { evaluateUnits, readUnits } from '../../detectors/engine.ts';
import { readNews } from '../../detectors/news.ts';
import { Runner } from '../../detectors/runner.ts';
import { eventCondition, makeScope } from '../../detectors/scopes.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  EXAMPLE_START_MS,
  type BoundDetector,
  type Detector,
  type EntityFact,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql } from '../../model/sql.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventAt, readFindings, WORLD_NOW_MS } from '../detector_world.ts';
import { openTestStore } from '../harness.ts';
import { nextName, storedUnder } from '../key_rotation_world.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const DAY_MS = 86_400_000;
const NO_CLIENTS = new ClientRegistry([], []);
const ALL_TIME = eventCondition({ from: 0n, to: 4_102_444_800_000_000_000n });

const DOCS = {
  version: 1,
  title: 'For tests',
  family: 'operations',
  severity: 'low',
  confidence: 50,
  description: 'A rule that is made for one test.',
  references: ['RFC 6749 section 1'],
  verdicts: { seen: 'Something was seen.' },
  evidence: {},
  needs: ['client.id'],
  quietMs: DAY_MS,
  falsePositives: [],
  examples: [],
} as const;

const signal = (episode: string, events: readonly AuthEvent[], summary: string): Signal => ({
  episode,
  verdict: 'seen',
  severity: 'low',
  confidence: 50,
  summary,
  reasons: [],
  evidence: {},
  events,
  tokenRefs: [],
});

/** Logins of a subject by network and minute, counted in the store. */
const counting: Detector = defineDetector({
  ...DOCS,
  id: 'counting',
  entity: 'subject',
  kinds: ['login'],
  episodes: 'lifetime',
  parameters: z.strictObject({ kind: z.string().default('login') }),
  concerns: (fact) => fact.kind === 'login',
  candidates: (scope) => sql`
    SELECT toString(subject_ref) AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND kind = 'login' AND ${scope.condition}`,
  history: (selection) => sql`
    SELECT toString(subject_ref) AS entity, event_id, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND kind = 'login'
      AND subject_ref IN ${param.uuids(selection.entities)} LIMIT 1 BY entity`,
  facts: (selection) => sql`
    SELECT toString(subject_ref) AS entity, 'logins' AS name, if(net_network = '', toString(session_ref), net_network) AS key,
      toDateTime64(toStartOfMinute(time), 9, 'UTC') AS at, uniqExact(event_id) AS value
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND kind = 'login'
      AND subject_ref IN ${param.uuids(selection.entities)}
    GROUP BY entity, key, at
    UNION ALL SELECT arrayJoin(${param.strings(selection.entities)}), 'always', '', toDateTime64(0, 9, 'UTC'), 1`,
  evaluate: ({ facts, events }) => [signal('lifetime', events, shown(facts))],
});

const shown = (facts: readonly EntityFact[]): string =>
  facts
    .map((f) => `${f.name} ${f.key} ${Number(f.at / 1_000_000n) - EXAMPLE_START_MS} ${f.value}`)
    .join('; ');

function bound(detector: Detector, overrides: Record<string, unknown> = {}): BoundDetector {
  const result = detector.bind(overrides);
  if (!result.ok) throw new TypeError(JSON.stringify(result.problems));
  return result.detector;
}

function runnerOf(
  tenant: string,
  detectors: readonly Detector[],
  metrics = new Metrics({ processMetrics: false }),
): Runner {
  return new Runner({
    store: engine.store,
    tenant,
    detectors: detectors.map((d) => bound(d)),
    clients: [],
    clock: new ManualClock(WORLD_NOW_MS),
    log: createLog({ level: 'silent' }),
    metrics: new DetectorMetrics(metrics),
    limits: { sweepLagMs: 0, sweepIntervalMs: 0 },
  });
}

const login = (tenant: string, id: string, t: number, network: string): AuthEvent =>
  eventAt(tenant, id, t, {
    kind: 'login',
    outcome: 'success',
    client: { id: 'app' },
    subject: { ref: exampleRef('alice'), type: 'user' },
    net: { network },
  });

describe('facts', () => {
  it('come sorted by name, key and time, and count a repeated event once', async () => {
    const tenant = 'facts';
    const events = [
      login(tenant, 'c', 130, '198.51.100.0/24'),
      login(tenant, 'a', 0, '203.0.113.0/24'),
      login(tenant, 'b', 5, '198.51.100.0/24'),
      login(tenant, 'd', 6, '198.51.100.0/24'),
    ];
    await insertEvents(engine.store, events);
    await insertEvents(engine.store, events.slice(2));
    await runnerOf(tenant, [counting]).drain();
    const { current } = await readFindings(engine.store, tenant);
    expect(current.map((f) => f['summary'])).toEqual([
      `always  ${-EXAMPLE_START_MS} 1; logins 198.51.100.0/24 0 2; logins 198.51.100.0/24 120000 1; logins 203.0.113.0/24 0 1`,
    ]);
  });

  it('of all names of a thing are its own, keys that are references included', async () => {
    const tenant = 'renamed facts';
    const session = exampleRef('a session');
    const at = (t: number): AuthEvent => ({
      ...login(tenant, `at ${t}`, t, ''),
      session_ref: session,
    });
    const events = storedUnder({ begin: at(60).time, takeover: at(120).time }, [
      at(0),
      at(90),
      at(200),
    ]);
    await insertEvents(engine.store, events);
    const entity = nextName(exampleRef('alice'));
    const { results } = await evaluateUnits(engine.store, bound(counting), tenant, NO_CLIENTS, [
      { entity, day: '' },
    ]);
    const minutes = [0, 60_000, 180_000].map((ms) => `logins ${session} ${ms} 1`);
    const always = `always  ${-EXAMPLE_START_MS} 1`;
    expect(results.map((r) => [r.unit.entity, r.findings.map((f) => f.summary)])).toEqual([
      [exampleRef('alice'), [[always, always, ...minutes].join('; ')]],
      [entity, []],
    ]);
  });

  it('alone are nothing to judge', async () => {
    const tenant = 'facts alone';
    const units = [{ entity: exampleRef('nobody'), day: '' }];
    const page = await evaluateUnits(engine.store, bound(counting), tenant, NO_CLIENTS, units);
    expect(page.results).toEqual([{ unit: units[0], findings: [], followedTokens: [] }]);
  });
});

/** Speaks of a client each day on which it was seen without an earlier sight within the look-back. */
const firstSeen: Detector = defineDetector({
  ...DOCS,
  id: 'first_seen',
  entity: 'client',
  kinds: ['login'],
  episodes: 'daily',
  lookbackMs: () => 10 * DAY_MS,
  parameters: z.strictObject({}),
  concerns: (fact) => fact.kind === 'login',
  screen: () => sql`net_network = '203.0.113.0/24'`,
  candidates: (scope) => sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND kind = 'login' AND net_network = '203.0.113.0/24'
      AND ${scope.condition}`,
  history: (selection) => sql`
    SELECT client_id AS entity, event_id, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND kind = 'login' AND net_network = '203.0.113.0/24'
      AND client_id IN ${param.strings(selection.entities)}
      AND time >= fromUnixTimestamp64Nano(${param.int64(selection.window?.readFrom ?? 0n)}, 'UTC')
      AND time < fromUnixTimestamp64Nano(${param.int64(selection.window?.to ?? 0n)}, 'UTC')`,
  evaluate: ({ events, window }) => {
    const [first] = events;
    if (first === undefined || first.time < (window?.from ?? 0n)) return [];
    const time = new Date(Number(first.time / 1_000_000n)).toISOString();
    return [signal(time, [first], 'first')];
  },
});

describe('a look-back of days', () => {
  it('lets a late event explain what came up to ten days after it, and no later', async () => {
    const tenant = 'look-back';
    const day = (n: number): AuthEvent =>
      login(tenant, `day ${n}`, (n * DAY_MS) / 1_000, '203.0.113.0/24');
    const runner = runnerOf(tenant, [firstSeen]);
    const episodes = async (): Promise<unknown[]> =>
      (await readFindings(engine.store, tenant)).current.map((f) => f['episode']).sort();
    const iso = (n: number): string => new Date(EXAMPLE_START_MS + n * DAY_MS).toISOString();
    await insertEvents(engine.store, [day(0)]);
    await runner.drain();
    await insertEvents(engine.store, [day(20)]);
    await runner.drain();
    expect(await episodes()).toEqual([iso(0), iso(20)]);
    // Between the day of a late event and the end of its reach, each day is judged again.
    await insertEvents(engine.store, [day(-5)]);
    expect((await runner.drain()).superseded).toBe(1);
    expect(await episodes()).toEqual([iso(-5), iso(20)].sort());
    await insertEvents(engine.store, [day(9)]);
    expect((await runner.drain()).opened).toBe(0);
    expect(await episodes()).toEqual([iso(-5), iso(20)].sort());
    await insertEvents(engine.store, [day(10.9)]);
    expect((await runner.drain()).superseded).toBe(1);
    expect(await episodes()).toEqual([iso(-5)]);
  });

  it('asks for the days up to the end of its reach that hold events, and for none to come', async () => {
    const tenant = 'days';
    const now = Date.now();
    const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
    const at = (ms: number): AuthEvent =>
      login(tenant, `at ${ms}`, (ms - EXAMPLE_START_MS) / 1_000, '203.0.113.0/24');
    const daysOf = async (): Promise<string[]> => {
      const bounds = await readNews(engine.store, tenant, ALL_TIME);
      const scope = makeScope(tenant, ALL_TIME, bounds, NO_CLIENTS);
      const page = { after: undefined, limit: 100 };
      const units = await readUnits(engine.store, bound(firstSeen), scope, page);
      return units.map((u) => u.day);
    };
    await insertEvents(engine.store, [at(EXAMPLE_START_MS)]);
    // Of anybody: here, of another tenant.
    const others = [1, 3, 10, 11].map((n) =>
      login('others', `at day ${n}`, (n * DAY_MS) / 1_000, ''),
    );
    await insertEvents(engine.store, others);
    const reach = await daysOf();
    const within = Array.from({ length: 11 }, (_, n) => day(EXAMPLE_START_MS + n * DAY_MS));
    expect(reach.filter((d) => !within.includes(d))).toEqual([]);
    expect([0, 1, 3, 10].map((n) => within[n]).filter((d) => !reach.includes(d ?? ''))).toEqual([]);
    expect(reach).not.toContain(day(EXAMPLE_START_MS + 2 * DAY_MS));
    await insertEvents(engine.store, [at(now)]);
    const found = (await daysOf()).slice(reach.length);
    expect(found[0]).toBe(day(now));
    // An hour ahead is as far as it goes: tomorrow alone, and only close to midnight.
    const latest = day(Date.now() + 3_600_000);
    expect(found.filter((d) => d > latest)).toEqual([]);
    expect(found.length).toBeLessThanOrEqual(2);
  });
});

describe('screens', () => {
  const skipped = async (metrics: Metrics, rule: string): Promise<number> => {
    const name = `grantscope_detector_skipped_total{rule="${rule}"} `;
    const line = (await metrics.registry.metrics()).split('\n').find((l) => l.startsWith(name));
    return Number(line?.slice(name.length) ?? 0);
  };

  it('spare a rule whose kind comes without what it looks for, live and in the sweep', async () => {
    const tenant = 'screens';
    const metrics = new Metrics({ processMetrics: false });
    const runner = runnerOf(tenant, [counting, firstSeen], metrics);
    await runner.cycle();
    await insertEvents(engine.store, [login(tenant, 'dull', 0, '198.51.100.0/24')]);
    await runner.drain();
    const [live, none] = [await skipped(metrics, 'first_seen'), await skipped(metrics, 'counting')];
    expect([live > 0, none]).toEqual([true, 0]);
    await insertEvents(engine.store, [
      login(tenant, 'dull, too', 1, '198.51.100.0/24'),
      login(tenant, 'telling', 2, '203.0.113.0/24'),
    ]);
    await runner.drain();
    expect(await skipped(metrics, 'first_seen')).toBe(live);
    const { current } = await readFindings(engine.store, tenant);
    expect(current.map((f) => f['rule_id']).sort()).toEqual(['counting', 'first_seen']);
  });

  it('are asked in one scan, each with its own parameters', async () => {
    const tenant = 'one scan';
    const named = (id: string, network: string): BoundDetector => ({
      ...bound(counting),
      docs: { ...bound(counting).docs, id },
      screen: sql`net_network = ${param.string(network)}`,
    });
    await insertEvents(engine.store, [
      login(tenant, '1', 0, 'a'),
      login(tenant, '2', 1, 'b'),
      login(tenant, '3', 2, 'b'),
    ]);
    const rules = [named('first', 'a'), named('second', 'b'), bound(counting), named('third', 'c')];
    const news = await readNews(engine.store, tenant, ALL_TIME, rules);
    expect([news.rows, ...news.screened]).toEqual([3, ['first', 1], ['second', 2], ['third', 0]]);
    const nothing = await readNews(engine.store, 'nobody', ALL_TIME, rules);
    expect([nothing.rows, ...nothing.screened.values()]).toEqual([0, 0, 0, 0]);
  });

  it('that the store refuses cost no rule its findings', async () => {
    const tenant = 'broken screen';
    const broken: Detector = {
      ...firstSeen,
      bind: () => ({
        ok: true,
        detector: { ...bound(firstSeen), screen: sql`match(net_network, '(')` },
      }),
    };
    const runner = runnerOf(tenant, [counting, broken]);
    await insertEvents(engine.store, [login(tenant, 'one', 0, '203.0.113.0/24')]);
    await runner.drain();
    const { current } = await readFindings(engine.store, tenant);
    expect(current.map((f) => f['rule_id']).sort()).toEqual(['counting', 'first_seen']);
  });
});
