/**
 * What a killed process had inserted, and could not note as inserted, comes again in the next: every table has to know it,
 * whichever of the two processes created the tables.
 */
import { afterAll, expect, it } from 'vitest';
import { prepareRollup } from '../../alerts/main.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { sql } from '../../model/sql.ts';
import { openStore, type Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { migrate } from '../../store/migrate.ts';
import { temporaryFolder } from '../harness.ts';

const folder = temporaryFolder();
afterAll(() => folder.remove());

const events = ['1', '2', '3'].map((digit) =>
  completeEvent({
    event_id: `00000000-0000-4000-8000-00000000000${digit}`,
    tenant: 'default',
    time: 1_767_600_000_000_000_000n,
    kind: 'login',
    outcome: 'success',
    source: { id: 'keycloak' },
  }),
);

async function counts(store: Store): Promise<unknown> {
  const [row] = await store.query(
    sql`SELECT (SELECT toUInt32(count()) FROM grantscope.auth_events) AS events,
               (SELECT toUInt32(sum(events)) FROM grantscope.outcome_minutes) AS outcomes,
               (SELECT toUInt32(sum(events)) FROM grantscope.event_minutes) AS minutes,
               (SELECT toUInt32(sum(good)) FROM grantscope.slo_minutes WHERE slo_id = 'login_success') AS good`,
  );
  return row;
}

/** What a process does with its store from its start to its end. */
async function run(segments: readonly string[]): Promise<unknown> {
  const store = openStore({ dataDir: folder.path });
  try {
    await migrate(store);
    await prepareRollup(store, () => Promise.resolve(true));
    for (const segment of segments) await insertEvents(store, events, segment);
    return await counts(store);
  } finally {
    await store.close();
  }
}

const times = (n: number): unknown => ({
  events: 3 * n,
  outcomes: 3 * n,
  minutes: 3 * n,
  good: 3 * n,
});

it('counts a segment once that comes again after a start, be it the first or a later one', async () => {
  expect(await run(['a'])).toEqual(times(1));
  expect(await run(['a'])).toEqual(times(1));
  expect(await run(['a', 'b'])).toEqual(times(2));
  expect(await run(['b', 'a'])).toEqual(times(2));
});
