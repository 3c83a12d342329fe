import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createSecretLedger, createSecretScanner } from '../../demo/secret_ledger.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { param, Sql, sql } from '../../model/sql.ts';
import { openStore, type Store } from '../../store/client.ts';
import { readEvents } from '../../store/read_events.ts';
import { TEST_KEY, temporaryFolder } from '../harness.ts';
import { runGrantscope, startServer } from '../server_process.ts';
import { comparedOfEvent, type Compared } from './expected.ts';
import { missingForJava } from '../java_programs.ts';
import { KEYCLOAK_VERSION, startKeycloak } from './keycloak_server.ts';
import { play } from './scenario.ts';
import { THIEF, Traffic } from './traffic.ts';

/**
 * A real Keycloak, real clients and people, and its own log, text and JSON, sent to a real Grantscope: every event must
 * arrive as what it was.
 */
const missing = missingForJava();
if (missing.length > 0) {
  process.stderr.write(
    `skipped: ${missing.join(' and ')} not installed (apt-get install openjdk-17-jre-headless maven)\n`,
  );
}

/** The two forms of the log are two tenants of one store. */
const FORMS = ['text', 'json'] as const;
type Form = (typeof FORMS)[number];

const ledger = createSecretLedger();
const keycloakFolder = temporaryFolder();
const data = temporaryFolder();
const answers: { from: string; body: Buffer }[] = [];
const findings: Partial<Record<Form, readonly Finding[]>> = {};
let traffic: Traffic;
let store: Store | undefined;

interface Finding {
  readonly rule_id: string;
  readonly severity: string;
  readonly verdict: string;
  readonly client_id: string;
}

const environment = (form: Form): Record<string, string> => ({
  GRANTSCOPE_TENANT: form,
  GRANTSCOPE_HASH_KEY: TEST_KEY,
  GRANTSCOPE_SEGMENT_AGE_MS_MAX: '100',
  // Only what `detect` judges counts, so that every rule has seen every event.
  GRANTSCOPE_DETECT_INTERVAL_MS: '600000',
});

/** Sends one form of the log to a server of its own, and has all rules judge it. */
async function ingest(form: Form): Promise<void> {
  const lines = form === 'text' ? traffic.textEvents() : traffic.jsonEvents();
  const env = environment(form);
  const server = await startServer(data.path, env);
  const ask = async (url: string, init: RequestInit = {}): Promise<unknown> => {
    const response = await fetch(url, init);
    const body = Buffer.from(await response.arrayBuffer());
    answers.push({ from: new URL(url).pathname, body });
    return JSON.parse(body.toString('utf8'));
  };
  try {
    const type = form === 'text' ? 'text/plain' : 'application/x-ndjson';
    const told = await ask(`${server.collectorUrl}/v1/events/keycloak`, {
      method: 'POST',
      headers: { 'content-type': type },
      body: lines.join('\n'),
    });
    expect(told).toMatchObject({ rejected: 0 });
    const args = ['detect', '--from', '2020-01-01T00:00:00Z', '--to', '2100-01-01T00:00:00Z'];
    await vi.waitFor(
      async () => {
        const run = await runGrantscope([...args, '--json'], {
          ...env,
          GRANTSCOPE_DATA_DIR: data.path,
        });
        answers.push({ from: 'detect', body: Buffer.from(run.stdout) });
        const { events } = JSON.parse(run.stdout) as { events: number };
        expect(events).toBeGreaterThanOrEqual(traffic.expected.length);
      },
      { timeout: 180_000, interval: 500 },
    );
    const { items } = (await ask(`${server.apiUrl}/api/v1/findings?limit=200`)) as {
      items: Finding[];
    };
    findings[form] = items;
    await ask(`${server.apiUrl}/api/v1/events?limit=200`);
  } finally {
    await server.stop();
    answers.push({ from: `${form}: output`, body: Buffer.from(server.output()) });
  }
}

async function eventsOf(form: Form): Promise<AuthEvent[]> {
  return readEvents(store!, sql`tenant = ${param.string(form)}`);
}

const order = (events: readonly Compared[]): Compared[] =>
  [...events].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
const sortKey = (e: Compared): string =>
  `${String(e['at'])} ${String(e['raw_type'])} ${String(e['kind'])}`;

describe.skipIf(missing.length > 0)(`Keycloak ${KEYCLOAK_VERSION}`, () => {
  beforeAll(async () => {
    const keycloak = await startKeycloak(keycloakFolder.path);
    try {
      traffic = new Traffic(keycloak, ledger);
      await play(traffic);
      // Nothing more comes.
      await traffic.logged();
      expect(traffic.textEvents().length).toBe(traffic.jsonEvents().length);
    } finally {
      await keycloak.stop();
    }
    for (const form of FORMS) await ingest(form);
    store = openStore({ dataDir: data.path });
  }, 900_000);

  afterAll(async () => {
    await store?.close();
    keycloakFolder.remove();
    data.remove();
  });

  it.each(FORMS)('every event arrives as what it was: %s', async (form) => {
    const events = await eventsOf(form);
    expect(order(events.map(comparedOfEvent))).toEqual(order(traffic.expected));
  });

  it('text and JSON give equal events', async () => {
    // Only JSON names the host, and only it knows parts of a millisecond.
    const bare = (e: AuthEvent): object => ({
      ...e,
      event_id: '',
      tenant: '',
      observed_time: 0n,
      time: e.time / 1_000_000n,
      source: { ...e.source, instance: '' },
    });
    const sorted = async (form: Form): Promise<object[]> =>
      (await eventsOf(form))
        .sort((a, b) => (sortKey(comparedOfEvent(a)) < sortKey(comparedOfEvent(b)) ? -1 : 1))
        .map(bare);
    expect(await sorted('text')).toEqual(await sorted('json'));
  });

  it.each(FORMS)(
    'the stolen refresh token and the weak grants are found, and nothing else: %s',
    (form) => {
      const grave = (findings[form] ?? []).filter((f) =>
        ['medium', 'high', 'critical'].includes(f.severity),
      );
      expect(grave.map((f) => [f.rule_id, f.verdict, f.severity, f.client_id]).sort()).toEqual([
        ['refresh_token_reuse', 'theft', 'high', 'web'],
        // Both do ask for passwords, the administrator's tool too.
        ['weak_grant_used', 'used', 'medium', 'admin-cli'],
        ['weak_grant_used', 'used', 'medium', 'legacy'],
      ]);
    },
  );

  it('the thief is named by address', async () => {
    const events = await eventsOf('json');
    const reuse = events.filter((e) => e.kind === 'token_reuse_detected');
    expect(reuse.map((e) => [e.net.client_ip, e.error.detail])).toEqual([
      [THIEF, 'Maximum allowed refresh token reuse exceeded'],
    ]);
  });

  it('no secret that passed is in a file, a table or an answer', async () => {
    const entries = [...ledger.entries()];
    const kinds = new Set(entries.map(([, kind]) => kind));
    for (const kind of ['access_token', 'refresh_token', 'authorization_code', 'cookie'] as const) {
      expect(kinds).toContain(kind);
    }
    const scanner = createSecretScanner(entries.map(([secret]) => secret));
    const search = (where: string, bytes: Buffer): string[] =>
      scanner.scan(bytes).map((h) => `${where}: ${entries[h.index]![1]} as ${h.encoding}`);
    const files = readdirSync(data.path, { recursive: true, withFileTypes: true })
      .filter((f) => f.isFile())
      .map((f) => join(f.parentPath, f.name));
    const tables = await store!.query<{ name: string }>(
      sql`SELECT name FROM system.tables WHERE database = 'grantscope' AND engine != 'MaterializedView'`,
    );
    const hits = [
      ...answers.flatMap(({ from, body }) => search(from, body)),
      ...files.flatMap((f) => search(relative(data.path, f), readFileSync(f))),
    ];
    for (const { name } of tables) {
      const all = new Sql([`SELECT * FROM grantscope.\`${name}\``], []);
      hits.push(...search(name, Buffer.from(JSON.stringify(await store!.query(all)))));
    }
    expect(hits).toEqual([]);
    // The search itself works.
    const [[secret] = ['']] = entries;
    expect(search('planted', Buffer.from(`x ${secret} x`))).toHaveLength(1);
  });
});
