import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { completeEvent } from '../../model/complete_event.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { param, sql, Sql } from '../../model/sql.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { openStore, type Store } from '../../store/client.ts';
import { insertEvents, toJsonRow } from '../../store/insert.ts';
import { migrate, splitStatements } from '../../store/migrate.ts';
import { eventFromRow } from '../../store/read_events.ts';
import { temporaryFolder } from '../harness.ts';

const FOLDER = join(packageRoot, 'store', 'migrations');
const folder = temporaryFolder();
let store: Store;

async function runFile(file: string): Promise<void> {
  for (const statement of splitStatements(await readFile(join(FOLDER, file), 'utf8')))
    await store.command(new Sql([statement], []));
}

/** An issuance whose values reach every column that 0012 gives another codec. */
function event(n: number): AuthEvent {
  const ref = (letter: string): string =>
    `${letter.repeat(8)}-0000-4000-8000-${String(n).padStart(12, '0')}`;
  return completeEvent({
    event_id: ref('e'),
    tenant: 'upgrade',
    time: 1_700_000_000_123_456_789n + BigInt(n),
    observed_time: 1_700_000_001_000_000_000n,
    kind: 'token_issued',
    outcome: 'success',
    client: { id: 'shop' },
    subject: { ref: ref('a'), type: 'user' },
    actor: { ref: ref('b'), type: 'client' },
    session_ref: ref('c'),
    grant_ref: ref('d'),
    tokens: [
      {
        role: 'issued',
        type: 'refresh',
        ref: ref('1'),
        family_ref: ref('2'),
        parent_ref: ref('3'),
      },
      { role: 'issued', type: 'access', ref: ref('4') },
    ],
    net: { client_ip: '192.0.2.7', network: '192.0.2.0/24', user_agent: 'curl/8' },
    http: { duration_ms: 12.5 },
    ext: { region: 'eu' },
  });
}

/** As a version without the columns of 0021 inserted it. */
async function insertOlder(of: AuthEvent, token: string): Promise<void> {
  const newer = ['net_asn', 'net_as_org', 'net_latitude', 'net_longitude', 'net_flags'];
  const row = Object.entries(toJsonRow(authEventsTable, of)).filter(
    ([name]) => !newer.includes(name),
  );
  await store.insertRows(authEventsTable.table, [Object.fromEntries(row)], token);
}

async function readBack(id: string): Promise<AuthEvent[]> {
  const rows = await store.query<Record<string, unknown>>(
    sql`SELECT * EXCEPT (inserted_at) FROM grantscope.auth_events WHERE event_id = ${param.uuid(id)}`,
  );
  return rows.map(eventFromRow);
}

async function ledgerOf(id: string): Promise<unknown[]> {
  return store.query(
    sql`SELECT token_ref, family_ref, parent_ref, client_id, net_network, toString(time) AS time FROM grantscope.token_events WHERE event_id = ${param.uuid(id)} ORDER BY token_ref`,
  );
}

beforeAll(() => {
  store = openStore({ dataDir: folder.path });
});
afterAll(async () => {
  await store.close();
  folder.remove();
});

describe('0012_bytes_on_disk', () => {
  it('keeps what an older version stored, and what it stores from then on', async () => {
    await store.command(sql`CREATE DATABASE IF NOT EXISTS grantscope`);
    const files = (await readdir(FOLDER)).filter((f) => f.endsWith('.sql')).sort();
    for (const file of files.filter((f) => f < '0012')) await runFile(file);
    const before = event(1);
    await insertOlder(before, 'segment-1');
    const ledgerBefore = await ledgerOf(before.event_id);
    expect(ledgerBefore).toHaveLength(2);

    // All files again, as after a cut-off start: what exists stays.
    const applied = await migrate(store);
    expect(applied).toContain('0012_bytes_on_disk');
    expect(await readBack(before.event_id)).toEqual([before]);
    expect(await ledgerOf(before.event_id)).toEqual(ledgerBefore);

    // A segment that was stored before the upgrade is still known after it, in table and ledger.
    await insertEvents(store, [before], 'segment-1');
    expect(await readBack(before.event_id)).toEqual([before]);
    expect(await ledgerOf(before.event_id)).toEqual(ledgerBefore);

    const after = event(2);
    await insertEvents(store, [after], 'segment-2');
    expect(await readBack(after.event_id)).toEqual([after]);
    expect(await ledgerOf(after.event_id)).toEqual([
      {
        token_ref: after.tokens[0]?.ref,
        family_ref: after.tokens[0]?.family_ref,
        parent_ref: after.tokens[0]?.parent_ref,
        client_id: 'shop',
        net_network: '192.0.2.0/24',
        time: '2023-11-14 22:13:20.123456791',
      },
      {
        token_ref: after.tokens[1]?.ref,
        family_ref: '00000000-0000-0000-0000-000000000000',
        parent_ref: '00000000-0000-0000-0000-000000000000',
        client_id: 'shop',
        net_network: '192.0.2.0/24',
        time: '2023-11-14 22:13:20.123456791',
      },
    ]);

    // Merged into one part, rows of both times are as they were.
    await store.command(sql`OPTIMIZE TABLE grantscope.auth_events FINAL`);
    await store.command(sql`OPTIMIZE TABLE grantscope.token_events FINAL`);
    expect(await readBack(before.event_id)).toEqual([before]);
    expect(await readBack(after.event_id)).toEqual([after]);
    expect(await ledgerOf(before.event_id)).toEqual(ledgerBefore);
  });

  it('can be run again after it was cut off', async () => {
    await runFile('0012_bytes_on_disk.sql');
    expect(await readBack(event(1).event_id)).toEqual([event(1)]);
    expect(await ledgerOf(event(2).event_id)).toHaveLength(2);
  });
});
