// How: every rule's examples are stored under tenants of their own in the real embedded engine; the rule
// runs over them, and the whole findings (id, verdict, severity, evidence) must be what the example says.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runExample } from '../../detectors/examples.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { drawn } from '../draw.ts';
import { openTestStore } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

for (const detector of await loadDetectors()) {
  describe(detector.id, () => {
    for (const [i, example] of drawn([...detector.examples.entries()], 1 / 3)) {
      it(example.name, async () => {
        const tenant = `${detector.id}-${i}`;
        const result = await runExample(engine.store, detector, example, tenant);
        expect(result.actual).toEqual(result.expected);
        expect(result.passed).toBe(true);
      });
    }
  });
}
