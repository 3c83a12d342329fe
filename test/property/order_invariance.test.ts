// How: the examples of all rules make one world. It is stored shuffled, with repeats, in batches of any
// size, with detection cycles in between (small pages, sweeps on or off). The current findings, their ids
// and evidence must equal those of the same world stored at once in order. fast-check prints seed and path.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AuthEvent } from '../../model/auth_event.ts';
import { findingId } from '../../detectors/finding_identity.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore } from '../harness.ts';
import {
  exampleWorld,
  makeRunner,
  readFindings,
  withoutTenant,
  type Row,
} from '../detector_world.ts';

/** PROPERTY_RUNS=20 looks longer. */
const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 3);

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

let tenants = 0;

interface Arrival {
  unitsPerPage: number;
  unitsPerCycleMax: number;
  sweepLagMs: number;
}

/** Stores batches one by one with a cycle after each, then drains. */
async function live(
  world: {
    readonly events: readonly AuthEvent[];
    readonly clients: readonly { client_id: string }[];
  },
  batches: readonly (readonly number[])[],
  limits: {
    readonly unitsPerPage: number;
    readonly unitsPerCycleMax: number;
    readonly sweepLagMs: number;
  },
): Promise<{ current: readonly Row[]; superseded: number; tenant: string }> {
  const tenant = `order-${tenants++}`;
  const runner = await makeRunner(engine.store, tenant, { clients: world.clients, limits });
  for (const batch of batches) {
    const events = batch.map((i) => ({ ...world.events[i]!, tenant }));
    await insertEvents(engine.store, events);
    await runner.cycle();
  }
  await runner.drain();
  return { ...(await readFindings(engine.store, tenant)), tenant };
}

/** Ids hold the tenant, and each run has its own: so they are checked by their definition. */
function expectedId(row: Row, tenant: string): string {
  const text = (name: string): string => String(row[name]);
  const version = Number(row['rule_version']);
  return findingId(text('rule_id'), version, tenant, text('entity_ref'), text('episode'));
}

it('gives the same findings in whatever order, batch and repetition events arrive', async () => {
  const world = exampleWorld(await loadDetectors(), 'world');
  const all = world.events.map((_, i) => i);
  const limits = { unitsPerPage: 500, unitsPerCycleMax: 2_000, sweepLagMs: 0 };
  const reference = await live(world, [all], limits);
  const rules = new Set(reference.current.map((r) => r['rule_id']));
  expect(rules.size).toBe(8);
  expect(reference.current.length).toBeGreaterThan(35);
  let superseded = 0;
  // Whatever chance brings, one run hears of every third event last: what explains a thing comes after it.
  const thirds = [1, 2, 0].map((r) => all.filter((i) => i % 3 === r));
  const explainedLate: [number[], number[], number[], Arrival] = [
    thirds.flat(),
    [],
    thirds.map((t) => t.length),
    { unitsPerPage: 20, unitsPerCycleMax: 2_000, sweepLagMs: 0 },
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length }),
      fc.array(fc.nat(all.length - 1), { maxLength: 60 }),
      fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 1, maxLength: 8 }),
      fc.record({
        unitsPerPage: fc.integer({ min: 1, max: 20 }),
        unitsPerCycleMax: fc.integer({ min: 5, max: 40 }),
        sweepLagMs: fc.constantFrom(0, 60_000),
      }),
      async (shuffled, repeats, sizes, someLimits) => {
        const arrivals = [...shuffled, ...repeats];
        const batches: number[][] = [];
        for (let i = 0, b = 0; i < arrivals.length; b += 1) {
          // The last batch takes the rest, so that the number of cycles stays small.
          const size = b < sizes.length ? sizes[b]! : arrivals.length;
          batches.push(arrivals.slice(i, i + size));
          i += size;
        }
        const result = await live(world, batches, someLimits);
        superseded += result.superseded;
        for (const row of result.current)
          expect(row['finding_id']).toBe(expectedId(row, result.tenant));
        expect(withoutTenant(result.current)).toEqual(withoutTenant(reference.current));
      },
    ),
    { numRuns: RUNS, endOnFailure: true, examples: [explainedLate] },
  );
  // Late events did withdraw findings on the way, or the test would not have tested that.
  expect(superseded).toBeGreaterThan(0);
}, 300_000);
