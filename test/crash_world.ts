import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import type { ServerProcess } from './server_process.ts';
import type { Random } from './simulation/random.ts';

// Clients of a real process that is killed again and again, and the ledger of what it acknowledged. Every id is
// to be stored once: events in their table, the token ledger and both rollups, spans in theirs.

const CLIENTS = 3;
const EVENTS_PER_REQUEST_MAX = 120;
const SPANS_PER_REQUEST_MAX = 40;

interface CrashRequest {
  readonly path: string;
  readonly type: string;
  readonly body: string;
  readonly answer: unknown;
  readonly ids: readonly string[];
  readonly ledger: 'events' | 'spans';
}

export class CrashWorld {
  readonly events = new Set<string>();
  readonly spans = new Set<string>();
  resends = 0;
  /** Answers 503 that said when to come again. */
  refusals = 0;
  server: ServerProcess | undefined;
  readonly #random: Random;
  #isOver = false;
  #clients: readonly Promise<void>[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  startClients(): void {
    this.#clients = Array.from({ length: CLIENTS }, () => this.#client());
  }

  /** Ends once every client has the acknowledgement of its last request. */
  async stopClients(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#clients);
  }

  /** Waits until the store has all that was acknowledged; a stop would leave the rest to the next start. */
  async caughtUp(): Promise<void> {
    const url = this.server?.collectorUrl ?? '';
    let left = 1;
    while (left > 0) {
      await sleep(50);
      const text = await (await fetch(`${url}/metrics`)).text();
      left = Number(/^grantscope_spool_bytes (\S+)$/m.exec(text)?.[1] ?? 1);
    }
  }

  /** Sends until told to stop; a request without an answer is sent again, unchanged, until it has one. */
  async #client(): Promise<void> {
    while (!this.#isOver) {
      const request = this.#random.chance(0.3) ? this.#traces() : this.#events();
      for (let tries = 0; ; tries += 1) {
        if (await this.#send(request)) break;
        if (tries === 0) this.resends += 1;
        await sleep(20);
      }
      for (const id of request.ids) this[request.ledger].add(id);
    }
  }

  async #send(request: CrashRequest): Promise<boolean> {
    const url = this.server?.collectorUrl;
    if (url === undefined) return false;
    let response: Response;
    try {
      response = await fetch(`${url}${request.path}`, {
        method: 'POST',
        headers: { 'Content-Type': request.type },
        body: request.body,
      });
    } catch {
      return false;
    }
    const result: unknown = await response.json().catch(() => undefined);
    if (response.status === 503) {
      expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
      this.refusals += 1;
      return false;
    }
    if (result === undefined) return false;
    expect({ status: response.status, result }).toEqual({ status: 200, result: request.answer });
    return true;
  }

  #events(): CrashRequest {
    const count = this.#random.int(1, EVENTS_PER_REQUEST_MAX);
    const ids = Array.from({ length: count }, () => randomUUID());
    const time = new Date().toISOString();
    const lines = ids.map((event_id) =>
      JSON.stringify({
        event_id,
        time,
        kind: 'token_issued',
        outcome: 'success',
        grant_type: 'client_credentials',
        issuer: 'https://as.example',
        client: { id: `client-${event_id[0]}` },
        tokens: [{ role: 'issued', type: 'access', jti: event_id }],
      }),
    );
    return {
      path: '/v1/events/grantscope',
      type: 'application/x-ndjson',
      body: lines.join('\n'),
      answer: { accepted: count, rejected: 0, errors: [] },
      ids,
      ledger: 'events',
    };
  }

  #traces(): CrashRequest {
    const count = this.#random.int(1, SPANS_PER_REQUEST_MAX);
    const ids = Array.from({ length: count }, () => randomBytes(16).toString('hex'));
    const start = BigInt(Date.now()) * 1_000_000n;
    const spans = ids.map((traceId) => ({
      traceId,
      spanId: traceId.slice(0, 16),
      name: 'GET /photos',
      kind: 2,
      startTimeUnixNano: start.toString(),
      endTimeUnixNano: (start + 5_000_000n).toString(),
    }));
    const resource = { attributes: [{ key: 'service.name', value: { stringValue: 'rs' } }] };
    return {
      path: '/v1/traces',
      type: 'application/json',
      body: JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans }] }] }),
      answer: {},
      ids,
      ledger: 'spans',
    };
  }
}

/** Compares the ledger with every table that counts events. */
export async function expectExactlyOnce(store: Store, world: CrashWorld): Promise<void> {
  const idsOf = async (query: ReturnType<typeof sql>): Promise<string[]> =>
    (await store.query<{ id: string }>(query)).map((r) => r.id);
  const events = await idsOf(
    sql`SELECT toString(e.event_id) AS id FROM grantscope.auth_events AS e`,
  );
  const spans = await idsOf(sql`SELECT TraceId AS id FROM grantscope.otel_traces`);
  const compared = (stored: readonly string[], owed: ReadonlySet<string>): unknown => {
    const unique = new Set(stored);
    const lost = [...owed].filter((id) => !unique.has(id)).length;
    return { lost, doubled: stored.length - unique.size, stored: unique.size };
  };
  expect(world.events.size).toBeGreaterThan(100);
  expect({
    events: compared(events, world.events),
    spans: compared(spans, world.spans),
  }).toEqual({
    events: { lost: 0, doubled: 0, stored: world.events.size },
    spans: { lost: 0, doubled: 0, stored: world.spans.size },
  });
  const [counts] = await store.query(
    sql`SELECT (SELECT toUInt32(count()) FROM grantscope.token_events) AS tokens,
               (SELECT toUInt32(sum(good)) FROM grantscope.slo_minutes WHERE slo_id = 'token_issuance_success') AS good,
               (SELECT toUInt32(sum(bad)) FROM grantscope.slo_minutes WHERE slo_id = 'token_issuance_success') AS bad,
               (SELECT toUInt32(sum(events)) FROM grantscope.outcome_minutes) AS outcomes,
               (SELECT toUInt32(sum(events)) FROM grantscope.event_minutes) AS minutes`,
  );
  const owed = world.events.size;
  expect(counts).toEqual({ tokens: owed, good: owed, bad: 0, outcomes: owed, minutes: owed });
}
