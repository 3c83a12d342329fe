// How: of each example of each rule, the events that the rule's `concerns` and `screen` hold back one by one are found. Then
// the rule's `candidates` are asked about these alone, with the whole example stored: they must name nothing, since live
// the rule would never be shown them. By name of the rule and example, so that a screen that is too narrow is found.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRegistry, readRegistrations } from '../../detectors/client_registry.ts';
import { readUnits } from '../../detectors/engine.ts';
import { bindExample, exampleEvents } from '../../detectors/examples.ts';
import { readNews, UNKNOWN_NEWS, type News } from '../../detectors/news.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { Triggers } from '../../detectors/triggers.ts';
import { makeScope } from '../../detectors/scopes.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  EXAMPLE_START_MS,
  type Detector,
  type DetectorExample,
  type EventFact,
  type Trigger,
} from '../../model/define_detector.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventAt } from '../detector_world.ts';
import { drawn } from '../draw.ts';
import { openTestStore } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const factOf = (event: AuthEvent): EventFact => ({
  kind: event.kind,
  outcome: event.outcome,
  roles: event.tokens.map((t) => t.role),
  types: event.tokens.map((t) => t.type),
  hasGroup: event.grant_ref !== '' || event.tokens.some((t) => t.family_ref !== ''),
});

const isAmong = (events: readonly AuthEvent[]): Sql =>
  sql`event_id IN ${param.uuids(events.map((e) => e.event_id))}`;

/** How many events the rule is shown, how many entities these make candidates, and which the others would. */
async function tell(
  detector: Detector,
  example: DetectorExample,
  tenant: string,
): Promise<{ shown: number; named: number; missed: readonly string[] }> {
  const { store } = engine;
  const bound = bindExample(detector, example);
  const events = exampleEvents(example, tenant);
  await insertEvents(store, events);
  const clients = new ClientRegistry(example.clients ?? [], await readRegistrations(store, tenant));
  const passed = await store.query<{ id: string }>(sql`
    SELECT toString(event_id) AS id FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND ${bound.screen ?? sql`true`}`);
  const ids = new Set(passed.map((r) => r.id));
  const isShown = (e: AuthEvent): boolean =>
    ids.has(e.event_id) && bound.concerns(factOf(e), clients);
  const unitsOf = async (some: readonly AuthEvent[]): Promise<readonly string[]> => {
    if (some.length === 0) return [];
    const times = some.map((e) => e.time).sort((a, b) => (a < b ? -1 : 1));
    const bounds = { timeFrom: times[0] ?? 0n, timeTo: times.at(-1) ?? 0n };
    const scope = makeScope(tenant, isAmong(some), bounds, clients);
    const units = await readUnits(store, bound, scope, { after: undefined, limit: 100 });
    return units.map((u) => u.entity);
  };
  const shown = events.filter(isShown);
  const hidden = events.filter((e) => !isShown(e));
  return {
    shown: shown.length,
    named: (await unitsOf(shown)).length,
    missed: await unitsOf(hidden),
  };
}

const detectors = await loadDetectors();
for (const detector of detectors) {
  it(`${detector.id}: concerns and screen let through every event that makes a candidate`, async () => {
    for (const [i, example] of drawn([...detector.examples.entries()], 0.25)) {
      const { shown, named, missed } = await tell(detector, example, `${detector.id} ${i}`);
      expect([example.name, missed]).toEqual([example.name, []]);
      // What fires must have been shown, and be a candidate for it.
      if (example.expect.length > 0)
        expect([example.name, shown > 0, named > 0]).toEqual([example.name, true, true]);
    }
  }, 60_000);
}

/** Events that make a candidate by themselves although the rule's trigger is not within reach of them. */
async function untriggered(
  detector: Detector,
  example: DetectorExample,
  tenant: string,
): Promise<readonly string[]> {
  const { store } = engine;
  const bound = bindExample(detector, example);
  const events = exampleEvents(example, tenant);
  await insertEvents(store, events);
  const clients = new ClientRegistry(example.clients ?? [], await readRegistrations(store, tenant));
  const triggers = new Triggers();
  // Known from the beginning of time, so that nothing is let through for want of knowledge.
  await triggers.read(store, tenant, [bound], 0n);
  const missed: string[] = [];
  for (const event of events) {
    const news = { ...UNKNOWN_NEWS, timeFrom: event.time, timeTo: event.time };
    if (triggers.reaches(bound, news)) continue;
    const scope = makeScope(tenant, isAmong([event]), news, clients);
    const units = await readUnits(store, bound, scope, { after: undefined, limit: 100 });
    if (units.length > 0) missed.push(event.event_id);
  }
  return missed;
}

for (const detector of detectors.filter((d) => d.bind({}).ok && triggerOf(d) !== undefined)) {
  it(`${detector.id}: nothing is a candidate out of reach of its trigger`, async () => {
    for (const [i, example] of drawn([...detector.examples.entries()], 0.25)) {
      const missed = await untriggered(detector, example, `trigger of ${detector.id} ${i}`);
      expect([example.name, missed]).toEqual([example.name, []]);
    }
  }, 120_000);
}

function triggerOf(detector: Detector): Trigger | undefined {
  const bound = detector.bind({});
  return bound.ok ? bound.detector.trigger : undefined;
}

describe('triggers', () => {
  const rule = detectors.find((d) => d.id === 'client_secret_guessing')!;
  const firing = rule.examples.find((e) => e.expect.length > 0)!;
  const narrowed = (trigger: Trigger): Detector => ({
    ...rule,
    bind: (overrides) => {
      const result = rule.bind(overrides);
      return result.ok ? { ok: true, detector: { ...result.detector, trigger } } : result;
    },
  });

  it('that are too narrow are found', async () => {
    const never = narrowed({ condition: sql`kind = 'key_rotated'`, reachMs: 0 });
    expect(await untriggered(never, firing, 'never triggered')).not.toEqual([]);
    const always = narrowed({ condition: sql`true` });
    expect(await untriggered(always, firing, 'always triggered')).toEqual([]);
  });

  it('reach as far back as they say, and let through what is older than what is known', async () => {
    const tenant = 'reach of a trigger';
    const bound = bindExample(narrowed({ condition: sql`kind = 'login_failed'`, reachMs: 1_000 }), {
      ...firing,
      parameters: {},
    });
    const at = (id: string, t: number, kind: 'login' | 'login_failed') =>
      eventAt(tenant, `${tenant} ${id}`, t, { kind, outcome: 'success' });
    await insertEvents(engine.store, [at('failure', 0, 'login_failed')]);
    const triggers = new Triggers();
    const now = BigInt(EXAMPLE_START_MS + 7_200_000) * 1_000_000n;
    const newsAt = (t: number): News => ({
      ...UNKNOWN_NEWS,
      rows: 1,
      timeFrom: BigInt(EXAMPLE_START_MS + t * 1_000) * 1_000_000n,
    });
    expect(triggers.reaches(bound, newsAt(7_000))).toBe(true);
    await triggers.read(engine.store, tenant, [bound], now);
    // Known from an hour and a second before now on: the failure lies before that.
    expect(triggers.reaches(bound, newsAt(7_000))).toBe(false);
    expect(triggers.reaches(bound, newsAt(3_599))).toBe(true);
    expect(triggers.reaches(bound, newsAt(3_600))).toBe(false);
    triggers.note({
      ...newsAt(0),
      triggered: new Map([[rule.id, newsAt(7_000).timeFrom]]),
    });
    expect(triggers.reaches(bound, newsAt(7_001))).toBe(true);
    expect(triggers.reaches(bound, newsAt(7_001.001))).toBe(false);
    triggers.forget();
    expect(triggers.reaches(bound, newsAt(7_001.001))).toBe(true);
  });

  it('are read by the one scan of what is new', async () => {
    const tenant = 'scan of triggers';
    const events = [
      eventAt(tenant, `${tenant} 1`, 5, { kind: 'login_failed', outcome: 'failure' }),
      eventAt(tenant, `${tenant} 2`, 9, { kind: 'login_failed', outcome: 'failure' }),
      eventAt(tenant, `${tenant} 3`, 11, { kind: 'login', outcome: 'success' }),
    ];
    await insertEvents(engine.store, events);
    const bound = bindExample(narrowed({ condition: sql`kind = 'login_failed'` }), {
      ...firing,
      parameters: {},
    });
    const news = await readNews(engine.store, tenant, sql`true`, [bound]);
    expect([...news.triggered]).toEqual([[rule.id, events[1]!.time]]);
  });
});

describe('the property itself', () => {
  it('finds a screen that is too narrow, and a rule that is concerned too little', async () => {
    const rule = detectors.find((d) => d.id === 'code_redeemed_twice')!;
    const example = rule.examples.find((e) => e.expect.length > 0)!;
    const narrowed = (part: Record<string, unknown>): Detector => ({
      ...rule,
      bind: (overrides) => {
        const result = rule.bind(overrides);
        return result.ok ? { ok: true, detector: { ...result.detector, ...part } } : result;
      },
    });
    const hidden = async (part: Record<string, unknown>, tenant: string): Promise<boolean> =>
      (await tell(narrowed(part), example, tenant)).missed.length > 0;
    expect(await hidden({}, 'as it is')).toBe(false);
    expect(await hidden({ screen: sql`false` }, 'narrow screen')).toBe(true);
    expect(await hidden({ screen: sql`true` }, 'wide screen')).toBe(false);
    expect(await hidden({ concerns: () => false }, 'unconcerned')).toBe(true);
  });
});
