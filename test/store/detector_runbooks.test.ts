// How: the examples of all rules make findings in tenant `default`, and some events happen just now; then every SQL block of the
// runbooks of rules, of situations and of the alerts about us is run as it stands, and must give rows. What a page links to must exist.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadSlos } from '../../alerts/registry.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import { Sql } from '../../model/sql.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { insertEvents } from '../../store/insert.ts';
import { id } from '../api_seed.ts';
import { exampleWorld, makeRunner } from '../detector_world.ts';
import { openTestStore } from '../harness.ts';

const detectors = await loadDetectors();
let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
  const world = exampleWorld(detectors, 'default');
  await insertEvents(engine.store, world.events);
  await (await makeRunner(engine.store, 'default', { clients: world.clients })).drain();
  await seedThePresent();
});
afterAll(() => engine.close());

/** Pages of situations that several alerts and rules lead to. */
const SITUATIONS = [
  'as_outage',
  'introspection_slow',
  'key_compromise',
  'redirect_abuse',
  'token_compromise',
];
/** Pages of the alerts that say that something is not known. */
const ABOUT_US = ['slo_unmeasured', 'watchdog'];

/** What queries over the last hours find: an instance that answers and fails, introspection, an alert that was sent. */
async function seedThePresent(): Promise<void> {
  const now = BigInt(Date.now() - 60_000) * 1_000_000n;
  const source = { id: 'grantscope', vendor: 'grantscope', product: 'as', instance: 'as-1' };
  const base = { time: now, source, client: { id: 'shop-web' }, phase: 'outcome' as const };
  const events: PartialEvent[] = [
    { ...base, event_id: id('e', 1), kind: 'token_issued', outcome: 'success' },
    {
      ...base,
      event_id: id('e', 2),
      kind: 'token_request_failed',
      outcome: 'failure',
      http: { status: 503 },
    },
    {
      ...{ ...base, event_id: id('e', 3), kind: 'token_introspected', outcome: 'success' },
      ...{
        http: { duration_ms: 40 },
        tokens: [{ role: 'presented', type: 'access', ref: id('a', 1) }],
      },
    },
  ];
  await insertEvents(engine.store, events.map(completeEvent));
  await engine.store.insertRows('grantscope.notifications', [
    {
      tenant: 'default',
      alert_key: id('9', 1),
      kind: 'detection',
      alertname: 'clock_skew',
      state: 'firing',
      version: 1,
    },
  ]);
}

const folder = join(packageRoot, 'alerts', 'runbooks');
const textOf = (page: string): string => readFileSync(join(folder, `${page}.md`), 'utf8');

for (const page of [...detectors.map((d) => d.id), ...SITUATIONS, ...ABOUT_US]) {
  const blocks = [...textOf(page).matchAll(/```sql\n([^`]+)```/g)].map((m) => m[1] ?? '');
  it(`${page}: its SQL works when pasted`, async () => {
    expect(blocks.length).toBeGreaterThan(ABOUT_US.includes(page) ? 0 : 1);
    for (const block of blocks) {
      const rows = await engine.store.query(new Sql([block], []));
      expect(rows.length, block).toBeGreaterThan(0);
    }
  });
}

const pages = readdirSync(folder).map((file) => file.replace(/\.md$/, ''));
const commands = readdirSync(join(packageRoot, 'cli', 'commands')).map((f) =>
  f.replace(/\.ts$/, ''),
);

it('has a page for every rule, SLO and alert about us, and none that nothing leads to', async () => {
  const slos = (await loadSlos()).map((s) => s.runbook);
  const wanted = [
    ...detectors.map((d) => d.id),
    'detector_blind',
    ...slos,
    ...SITUATIONS,
    ...ABOUT_US,
  ];
  expect(pages.sort()).toEqual([...new Set(wanted)].sort());
});

it.each(pages)('%s: what it leads to exists', (page) => {
  const text = textOf(page);
  for (const [, route = '', name = ''] of text.matchAll(/`#\/([a-z_]+)(?:\/([a-z0-9_]+))?/g)) {
    const place = { slos: 'alerts/slos', boards: 'dashboards/boards', runbooks: 'alerts/runbooks' }[
      route
    ];
    if (place === undefined)
      expect(['findings', 'clients', 'events', 'silences', 'investigations'], route).toContain(
        route,
      );
    else if (name !== '')
      expect(
        existsSync(join(packageRoot, place, `${name}.${route === 'runbooks' ? 'md' : 'ts'}`)),
        name,
      ).toBe(true);
  }
  for (const [, name = ''] of text.matchAll(/\brunbook ([a-z]+_[a-z_]+)/g))
    expect(pages).toContain(name);
  for (const [, name = ''] of text.matchAll(/`(?:npx )?grantscope ([a-z_-]+)/g))
    expect(commands, name).toContain(name.replaceAll('-', '_'));
});
