// How: the examples of all rules, attacks and honest use, are stored as they would be while the hash key changes
// at a random time; the findings must be those of the same events without a change, in all their content.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backtest } from '../../detectors/backtest.ts';
import { bindExample, exampleEvents } from '../../detectors/examples.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import type { Detector, DetectorExample } from '../../model/define_detector.ts';
import { insertEvents } from '../../store/insert.ts';
import {
  exampleWorld,
  groupsOf,
  makeRunner,
  readFindings,
  seededRandom,
  withoutTenant,
} from '../detector_world.ts';
import { openTestStore } from '../harness.ts';
import { drawn } from '../draw.ts';
import { readUnder, storedUnder, type Rotation } from '../key_rotation_world.ts';

/** PROPERTY_RUNS=20 looks longer, and at every example of every rule instead of one that fires and one that does not. */
const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 1);
const IS_THOROUGH = process.env['PROPERTY_RUNS'] !== undefined;

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const ALL_TIME = { from: 0n, to: 4_102_444_800_000_000_000n };
const detectors = await loadDetectors();
let tenants = 0;

const timesOf = (events: readonly AuthEvent[]): bigint[] =>
  [...new Set(events.map((e) => e.time))].sort((a, b) => (a < b ? -1 : 1));

function examplesOf({ examples }: Detector): readonly DetectorExample[] {
  if (IS_THOROUGH) return examples;
  const fires = examples.find((e) => e.expect.length > 0);
  const isSilent = examples.find((e) => e.expect.length === 0);
  return [fires, isSilent].filter((e) => e !== undefined);
}

describe.each(drawn(detectors, 1 / 3).map((d) => [d.id, d] as const))('%s', (_, detector) => {
  for (const example of examplesOf(detector)) {
    it(example.name, async () => {
      const findingsOf = async (
        make: (events: readonly AuthEvent[]) => AuthEvent[],
      ): Promise<unknown> => {
        tenants += 1;
        const tenant = `t${tenants}`;
        await insertEvents(engine.store, make(exampleEvents(example, tenant)));
        const { findings } = await backtest({
          ...{ store: engine.store, tenant, clients: example.clients ?? [], range: ALL_TIME },
          detectors: [bindExample(detector, example)],
        });
        // Ids hold the tenant's name.
        return findings
          .map((f) => ({ ...f, finding_id: '', tenant: '' }))
          .sort((a, b) =>
            `${a.entity_ref} ${a.episode}` < `${b.entity_ref} ${b.episode}` ? -1 : 1,
          );
      };
      // Known under both names before, and under the new one alone from the last event on: the attack's own.
      const times = timesOf(exampleEvents(example, 'x'));
      const rotation: Rotation = { begin: times[0] ?? 0n, takeover: times.at(-1) ?? 0n };
      const found = await findingsOf((events) => storedUnder(rotation, events));
      const expected = await findingsOf((events) => readUnder(rotation, events));
      expect(found).toEqual(expected);
      expect(found).toHaveLength(example.expect.length);
    });
  }
});

/** A quarter of the rules, another one each time. */
const groups = groupsOf(detectors, 11);
const group = groups[Math.floor(Math.random() * groups.length)] ?? [];

describe('rules live, at a random time', () => {
  const seconds = fc.integer({ min: 0, max: 90_000 });

  it(
    'find every attack once, whatever the order of arrival, and nothing in honest use',
    { timeout: 300_000 },
    async () => {
      await fc.assert(
        fc.asyncProperty(seconds, fc.integer(), fc.boolean(), async (offset, seed, isShuffled) => {
          tenants += 1;
          const rules = IS_THOROUGH ? detectors : group;
          const plain = exampleWorld(rules, `plain ${tenants}`);
          const first = timesOf(plain.events)[0] ?? 0n;
          const rotation: Rotation = {
            begin: first,
            takeover: first + BigInt(offset) * 1_000_000_000n,
          };
          const live = async (tenant: string, events: readonly AuthEvent[]) => {
            const random = seededRandom(seed);
            const order = isShuffled
              ? events.map((e) => [random(), e] as const).sort(([a], [b]) => a - b)
              : events.map((e) => [Number(e.time), e] as const).sort(([a], [b]) => a - b);
            const runner = await makeRunner(engine.store, tenant, {
              rules,
              clients: plain.clients,
            });
            const batch = Math.ceil(order.length / 4);
            for (let i = 0; i < order.length; i += batch) {
              await insertEvents(
                engine.store,
                order.slice(i, i + batch).map(([, e]) => e),
              );
              await runner.cycle();
            }
            // What a sweep finds under a later name waits for the next cycle.
            await runner.cycle();
            const { current } = await readFindings(engine.store, tenant);
            return withoutTenant(current);
          };
          const worldOf = (tenant: string) => exampleWorld(rules, tenant).events;
          const expected = await live(
            `plain ${tenants}`,
            readUnder(rotation, worldOf(`plain ${tenants}`)),
          );
          const found = await live(
            `rotated ${tenants}`,
            storedUnder(rotation, worldOf(`rotated ${tenants}`)),
          );
          expect(found).toEqual(expected);
          expect(found.length).toBeGreaterThan(5);
        }),
        { numRuns: RUNS },
      );
    },
  );
});
