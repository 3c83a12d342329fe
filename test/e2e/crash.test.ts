import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sql } from '../../model/sql.ts';
import { openStore } from '../../store/client.ts';
import { temporaryFolder } from '../harness.ts';
import { startServer, type ServerProcess } from '../server_process.ts';

// The conservation oracle: real processes are killed (SIGKILL) at random moments under load. What was
// acknowledged is owed; what was not is sent again, as a client does. At the end every event is there once,
// in the base table, in the token ledger and in the SLI rollup. CRASH_KILLS and CRASH_SEED change the run.

const KILLS = Number(process.env['CRASH_KILLS'] ?? 5);
const SEED = Number(process.env['CRASH_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const CLIENTS = 3;
const EVENTS_PER_REQUEST_MAX = 120;

/** mulberry32: small, seeded, good enough to choose moments. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Ledger {
  readonly acknowledged: Set<string>;
  requests: number;
  resends: number;
}

const folder = temporaryFolder();
const random = seeded(SEED);
let server: ServerProcess | undefined;
afterAll(async () => {
  await server?.kill();
  folder.remove();
});

function newRequest(): { ids: string[]; body: string } {
  const ids = Array.from({ length: 1 + Math.floor(random() * EVENTS_PER_REQUEST_MAX) }, () =>
    randomUUID(),
  );
  const time = new Date().toISOString();
  const events = ids.map((event_id) => ({
    event_id,
    time,
    kind: 'token_issued',
    outcome: 'success',
    grant_type: 'client_credentials',
    issuer: 'https://as.example',
    client: { id: `client-${event_id[0]}` },
    tokens: [{ role: 'issued', type: 'access', jti: event_id }],
  }));
  return { ids, body: events.map((e) => JSON.stringify(e)).join('\n') };
}

/** Sends until told to stop; a request without an answer is sent again, unchanged, until it has one. */
async function client(
  ledger: Ledger,
  url: () => string | undefined,
  isOver: () => boolean,
): Promise<void> {
  while (!isOver()) {
    const { ids, body } = newRequest();
    for (let tries = 0; ; tries += 1) {
      const answer = await post(url(), body);
      if (answer === 'acknowledged') break;
      if (tries === 0) ledger.resends += 1;
      await sleep(20);
    }
    ledger.requests += 1;
    for (const id of ids) ledger.acknowledged.add(id);
  }
}

async function post(url: string | undefined, body: string): Promise<'acknowledged' | 'no answer'> {
  if (url === undefined) return 'no answer';
  let response: Response;
  try {
    response = await fetch(`${url}/v1/events/grantscope`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-ndjson' },
      body,
    });
  } catch {
    return 'no answer';
  }
  const result = (await response.json().catch(() => undefined)) as
    { accepted?: number; rejected?: number } | undefined;
  if (response.status === 503 || result === undefined) return 'no answer';
  expect(response.status, JSON.stringify(result)).toBe(200);
  expect(result).toEqual({ accepted: body.split('\n').length, rejected: 0, errors: [] });
  return 'acknowledged';
}

describe(`SIGKILL under load, ${KILLS} times, seed ${SEED}`, () => {
  const ledger: Ledger = { acknowledged: new Set(), requests: 0, resends: 0 };

  beforeAll(
    async () => {
      let over = false;
      const start = async (): Promise<void> => {
        // Small segments: more of them are open, sealed, being inserted and being retired at the moment of the kill.
        server = await startServer(folder.path, {
          GRANTSCOPE_SEGMENT_AGE_MS_MAX: '60',
          GRANTSCOPE_LOG_LEVEL: 'error',
        });
      };
      await start();
      const clients = Array.from({ length: CLIENTS }, () =>
        client(
          ledger,
          () => server?.collectorUrl,
          () => over,
        ),
      );
      for (let kill = 0; kill < KILLS; kill += 1) {
        await sleep(100 + random() * 900);
        const dying = server;
        server = undefined;
        await dying?.kill();
        await start();
      }
      over = true;
      await Promise.all(clients);
      expect(await server?.stop()).toBe(0);
      server = undefined;
    },
    60_000 + KILLS * 10_000,
  );

  it('stores every acknowledged event exactly once, in every table', async () => {
    const store = openStore({ dataDir: folder.path });
    try {
      const rows = await store.query<{ event_id: string }>(
        sql`SELECT event_id FROM grantscope.auth_events`,
      );
      const stored = new Set(rows.map((r) => r.event_id));
      const lost = [...ledger.acknowledged].filter((id) => !stored.has(id));
      expect(ledger.acknowledged.size).toBeGreaterThan(100);
      expect(ledger.resends).toBeGreaterThan(0);
      expect({
        lost: lost.length,
        doubled: rows.length - stored.size,
        stored: stored.size,
      }).toEqual({ lost: 0, doubled: 0, stored: ledger.acknowledged.size });
      const [counts] = await store.query(
        sql`SELECT (SELECT toUInt32(count()) FROM grantscope.token_events) AS ledger, (SELECT toUInt32(sum(good)) FROM grantscope.slo_minutes) AS good, (SELECT toUInt32(sum(bad)) FROM grantscope.slo_minutes) AS bad`,
      );
      expect(counts).toEqual({
        ledger: ledger.acknowledged.size,
        good: ledger.acknowledged.size,
        bad: 0,
      });
    } finally {
      await store.close();
    }
  });
});
