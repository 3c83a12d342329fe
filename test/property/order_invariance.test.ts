// How: the examples of a group of rules make one world. It is stored shuffled, with repeats, in batches of any size, with
// detection cycles in between (small pages, sweeps on or off). The current findings, their ids and evidence must equal
// those of the same world stored at once in order. fast-check prints seed and path.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AuthEvent } from '../../model/auth_event.ts';
import type { Detector } from '../../model/define_detector.ts';
import { findingId } from '../../detectors/finding_identity.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { insertEvents } from '../../store/insert.ts';
import { drawn, isWholeProof } from '../draw.ts';
import { openTestStore } from '../harness.ts';
import {
  exampleWorld,
  groupsOf,
  makeRunner,
  readFindings,
  rulesOfWorld,
  withoutTenant,
  type Row,
} from '../detector_world.ts';

const GROUPS = groupsOf(await loadDetectors(), 11);
/** Orders of a group besides the one that is always run; with PROOFS=all one group gets one, without it the one that is drawn. */
const RUNS = process.env['PROPERTY_RUNS'];
const DRAWN = Math.floor(Math.random() * GROUPS.length);

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

let tenants = 0;
/** Findings that were withdrawn on the way, over all groups. */
let superseded = 0;

interface Arrival {
  unitsPerPage: number;
  unitsPerCycleMax: number;
  sweepLagMs: number;
}

interface World {
  readonly rules: readonly Detector[];
  readonly events: readonly AuthEvent[];
  readonly clients: readonly { client_id: string }[];
}

/** Stores batches one by one with a cycle after each, then drains. */
async function live(
  { rules, events, clients }: World,
  batches: readonly (readonly number[])[],
  limits: Readonly<Arrival>,
): Promise<{ current: readonly Row[]; superseded: number; tenant: string }> {
  const tenant = `order-${tenants++}`;
  const runner = await makeRunner(engine.store, tenant, { rules, clients, limits });
  for (const batch of batches) {
    await insertEvents(
      engine.store,
      batch.map((i) => ({ ...events[i]!, tenant })),
    );
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

/** Batches of these sizes; the last one takes the rest, so that the number of cycles stays small. */
function inBatches(arrivals: readonly number[], sizes: readonly number[]): number[][] {
  const batches: number[][] = [];
  for (let i = 0, b = 0; i < arrivals.length; b += 1) {
    const size = sizes[b] ?? arrivals.length;
    batches.push(arrivals.slice(i, i + size));
    i += size;
  }
  return batches;
}

for (const rules of drawn(GROUPS, 1 / GROUPS.length)) {
  const names = rules.map((d) => d.id).join(', ');
  const isLonger = !isWholeProof || rules === GROUPS[DRAWN];
  const runs = RUNS === undefined ? Number(isLonger) : Number(RUNS);
  it(`gives the same findings in whatever order, batch and repetition: ${names}`, async () => {
    const world = { rules, ...exampleWorld(rules, 'world') };
    const all = world.events.map((_, i) => i);
    const limits = { unitsPerPage: 500, unitsPerCycleMax: 2_000, sweepLagMs: 0 };
    const reference = await live(world, [all], limits);
    const found = new Set(reference.current.map((r) => String(r['rule_id'])));
    expect(rulesOfWorld(rules).filter((id) => !found.has(id))).toEqual([]);
    // Whatever chance brings, one run hears of every third event last: what explains a thing comes after it.
    const thirds = [1, 2, 0].map((r) => all.filter((i) => i % 3 === r));
    const explainedLate: [number[], number[], number[], Arrival] = [
      thirds.flat(),
      [],
      thirds.map((t) => t.length),
      { unitsPerPage: 100, unitsPerCycleMax: 2_000, sweepLagMs: 0 },
    ];
    await fc.assert(
      fc.asyncProperty(
        fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length }),
        fc.array(fc.nat(all.length - 1), { maxLength: 60 }),
        fc.array(fc.integer({ min: 1, max: 120 }), { minLength: 1, maxLength: 4 }),
        fc.record({
          unitsPerPage: fc.integer({ min: 20, max: 60 }),
          unitsPerCycleMax: fc.integer({ min: 60, max: 200 }),
          sweepLagMs: fc.constantFrom(0, 60_000),
        }),
        async (shuffled, repeats, sizes, someLimits) => {
          const result = await live(world, inBatches([...shuffled, ...repeats], sizes), someLimits);
          superseded += result.superseded;
          for (const row of result.current)
            expect(row['finding_id']).toBe(expectedId(row, result.tenant));
          expect(withoutTenant(result.current)).toEqual(withoutTenant(reference.current));
        },
      ),
      { numRuns: runs + 1, endOnFailure: true, examples: [explainedLate] },
    );
  }, 300_000);
}

it.runIf(isWholeProof)(
  'late events did withdraw findings on the way, or this would not have tested that',
  () => {
    expect(superseded).toBeGreaterThan(0);
  },
);
