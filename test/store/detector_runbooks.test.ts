// How: the examples of all rules make findings in tenant `default`; then every SQL block of the rules'
// runbooks is run as it stands, and must give rows.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDetectors } from '../../detectors/registry.ts';
import { Sql } from '../../model/sql.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { insertEvents } from '../../store/insert.ts';
import { exampleWorld, makeRunner } from '../detector_world.ts';
import { openTestStore } from '../harness.ts';

const detectors = await loadDetectors();
let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
  const world = exampleWorld(detectors, 'default');
  await insertEvents(engine.store, world.events);
  await (await makeRunner(engine.store, 'default', { clients: world.clients })).drain();
});
afterAll(() => engine.close());

for (const { id } of detectors) {
  const page = readFileSync(join(packageRoot, 'alerts', 'runbooks', `${id}.md`), 'utf8');
  const blocks = [...page.matchAll(/```sql\n([^`]+)```/g)].map((m) => m[1] ?? '');
  it(`${id}: its SQL works when pasted`, async () => {
    expect(blocks.length).toBeGreaterThan(1);
    for (const block of blocks) {
      const rows = await engine.store.query(new Sql([block], []));
      expect(rows.length, block).toBeGreaterThan(0);
    }
  });
}
