import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Spool } from '../../collector/spool/spool.ts';
import { Writer } from '../../collector/writer.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { param, sql } from '../../model/sql.ts';
import type { TableSpec } from '../../model/table_spec.ts';
import { systemClock } from '../../runtime/clock.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { Hints } from '../../runtime/signals.ts';
import { readEvents } from '../../store/read_events.ts';
import { openTestStore, temporaryFolder } from '../harness.ts';

// A spool that an older version left behind: its segments lack the columns that were added since.

let opened: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  opened = await openTestStore();
});
afterAll(async () => opened.close());

const ADDED = new Set(['net_asn', 'net_as_org', 'net_latitude', 'net_longitude', 'net_flags']);
const olderTable: TableSpec<AuthEvent> = {
  ...authEventsTable,
  columns: authEventsTable.columns.filter((c) => !ADDED.has(c.name)),
};

const TENANT = 'older';
const event = (n: number): AuthEvent =>
  completeEvent({
    event_id: `00000000-0000-4000-8000-00000000000${n}`,
    tenant: TENANT,
    time: 1_700_000_000_000_000_000n + BigInt(n),
    kind: 'token_issued',
    client: { id: 'shop' },
    tokens: [{ role: 'issued', type: 'access', ref: '11111111-0000-4000-8000-000000000001' }],
    net: {
      client_ip: '192.0.2.7',
      network: '192.0.2.0/24',
      asn: 64_500,
      as_org: 'Example Net',
      country: 'DE',
      latitude: 52.5,
      longitude: -13.4,
      flags: ['hosting', 'vpn'],
    },
  });

/** Appends events as `spec` says and hands them to the store by a fresh spool and writer over the same folder. */
async function store(folder: string, spec: TableSpec<AuthEvent>, events: readonly AuthEvent[]) {
  const log = createLog({ level: 'silent' });
  const limits = {
    bytesMax: 1e9,
    commitIntervalMs: 0,
    segmentAgeMsMax: 60_000,
    segmentRowsMax: 1e6,
  };
  const open = async () =>
    Spool.open({
      folder,
      ...limits,
      clock: systemClock,
      log,
      metrics: new Metrics({ processMetrics: false }),
    });
  const first = await open();
  await first.append([{ spec: spec as TableSpec<unknown>, rows: events }], events[0]!.event_id);
  await first.close();
  const metrics = new Metrics({ processMetrics: false });
  const spool = await open();
  const writer = new Writer({
    store: opened.store,
    spool,
    storedEvents: { find: () => Promise.resolve([]), latest: () => Promise.resolve(0n) },
    clock: systemClock,
    hints: new Hints(),
    log,
    metrics,
  });
  await spool.close();
  writer.start();
  await writer.drain(10_000);
  const refused = metrics.registry.getSingleMetric('grantscope_writer_rows_quarantined_total')!;
  return { left: spool.bytes, refused: (await refused.get()).values[0]?.value ?? 0 };
}

describe('a segment of an older version', () => {
  it('is stored with the defaults of the columns that it lacks, in table and ledger', async () => {
    const folder = temporaryFolder();
    expect(await store(folder.path, olderTable, [event(1)])).toEqual({ left: 0, refused: 0 });
    expect(await store(folder.path, authEventsTable, [event(2)])).toEqual({ left: 0, refused: 0 });
    folder.remove();
    const read = await readEvents(opened.store, sql`tenant = ${param.string(TENANT)}`);
    const unknown = { asn: 0, as_org: '', latitude: null, longitude: null, flags: [] };
    const [one, two] = [event(1), event(2)];
    expect(read.sort((a, b) => Number(a.time - b.time))).toEqual([
      { ...one, net: { ...one.net, ...unknown } },
      two,
    ]);
    expect(
      await opened.store.query(
        sql`SELECT event_id FROM grantscope.token_events WHERE tenant = ${param.string(TENANT)} ORDER BY event_id`,
      ),
    ).toEqual([{ event_id: one.event_id }, { event_id: two.event_id }]);
  });
});
