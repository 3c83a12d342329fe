/** A refused record is as durable as an accepted one: it outlives a SIGKILL right after the answer. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { sql } from '../../model/sql.ts';
import { openStore } from '../../store/client.ts';
import { temporaryFolder } from '../harness.ts';
import { startServer } from '../server_process.ts';

const folder = temporaryFolder();
afterAll(() => folder.remove());

/** Assembled at run time, so that no scanner of this repository takes it for real. */
const secret = ['ory', 'at', 'hQ2wNc7pLm4x', 'Vd93kTz'].join('_');

/** The contents of all files of the durable buffer. */
const spool = (): Buffer[] =>
  readdirSync(join(folder.path, 'spool'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name)));

it('is there after a kill, once, counted as recovered, and nothing of its secret is on disk', async () => {
  const refused = {
    kind: 'token_issued',
    client: { id: 'crash' },
    subject: { id: 'zoe.quill' },
    tokens: [{ role: 'issued', type: 'access', value: secret }],
  };
  const body = `${JSON.stringify(refused)}\n${JSON.stringify({ ...refused, time: new Date().toISOString() })}`;
  const slow = await startServer(folder.path, { GRANTSCOPE_SEGMENT_AGE_MS_MAX: '60000' });
  const post = async (url: string): Promise<unknown> =>
    (await fetch(`${url}/v1/events/grantscope`, { method: 'POST', body })).json();
  expect(await post(slow.collectorUrl)).toMatchObject({ accepted: 1, rejected: 1 });
  await slow.kill();
  const spooled = spool();
  expect(spooled.some((bytes) => bytes.includes('gsref:h:'))).toBe(true);
  for (const needle of [secret, 'zoe.quill'])
    expect(spooled.some((bytes) => bytes.includes(needle))).toBe(false);

  const again = await startServer(folder.path, { GRANTSCOPE_SEGMENT_AGE_MS_MAX: '50' });
  // The client did not see the answer, perhaps: it sends the same again.
  expect(await post(again.collectorUrl)).toMatchObject({ accepted: 1, rejected: 1 });
  const metrics = async (): Promise<string> =>
    (await fetch(`${again.collectorUrl}/metrics`)).text();
  const deadline = Date.now() + 20_000;
  while (
    !(await metrics()).includes(
      'grantscope_writer_rows_stored_total{table="grantscope.dead_letters"} 1',
    )
  ) {
    if (Date.now() > deadline) throw new Error('the letter did not reach the store within 20 s');
    await new Promise((r) => setTimeout(r, 20));
  }
  const text = await metrics();
  for (const table of ['dead_letters', 'auth_events'])
    expect(text).toContain(`grantscope_spool_rows_recovered_total{table="grantscope.${table}"} 1`);
  expect(text).toContain('grantscope_records_settled_total{source="grantscope",fate="repeated"} 2');
  expect(`${slow.output()}${again.output()}${text}`).not.toContain(secret);
  expect(await again.stop()).toBe(0);

  const store = openStore({ dataDir: folder.path });
  try {
    expect(
      await store.query(
        sql`SELECT reason, version, position(record, 'gsref:h:') > 0 AS marked FROM grantscope.dead_letters`,
      ),
    ).toEqual([{ reason: 'missing_field', version: 0, marked: 1 }]);
    expect(await store.query(sql`SELECT client_id FROM grantscope.auth_events`)).toEqual([
      { client_id: 'crash' },
    ]);
  } finally {
    await store.close();
  }
});
