import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fingerprintOf, createSecretScanner, type SecretKind } from '../../demo/secret_ledger.ts';
import { sql, Sql } from '../../model/sql.ts';
import { openStore, type Store } from '../../store/client.ts';
import { startDemo, type DemoProcess } from '../demo_process.ts';
import { temporaryFolder } from '../harness.ts';

/**
 * The whole product under real OAuth traffic and all attacks, and then a search for every token, code,
 * cookie, password and key that the demo's servers issued or its clients held: in the bytes of the data
 * directory, in every table (columns are compressed on disk), in logs, metrics and API answers.
 */
interface Entry {
  readonly kind: SecretKind;
  readonly secret: string;
}

const data = temporaryFolder();
const outside = temporaryFolder();
const answers: { from: string; body: Buffer }[] = [];
let demo: DemoProcess;
let entries: readonly Entry[];
let scanner: ReturnType<typeof createSecretScanner>;

beforeAll(async () => {
  const ledgerFile = join(outside.path, 'ledger.jsonl');
  demo = startDemo([
    ...['--once', '--rate', '300', '--seed', '20'],
    ...['--data-dir', data.path, '--ledger', ledgerFile],
  ]);
  const asked: Promise<void>[] = [];
  const urls: Record<string, string> = {};
  demo.onLine((line) => {
    const [, name, url] = /^(console|collector) +(http:\S+)$/.exec(line) ?? [];
    if (name !== undefined && url !== undefined) urls[name] = url;
    if (line.startsWith('attack ') && urls['console'] !== undefined) {
      asked.push(askEverything(urls['console'], urls['collector'] ?? ''));
    }
  });
  await demo.exited;
  await Promise.all(asked);
  const [head = '{}', ...lines] = readFileSync(ledgerFile, 'utf8').trim().split('\n');
  expect(JSON.parse(head)).toEqual({ entries: lines.length, forgotten: 0 });
  entries = lines.map((line) => JSON.parse(line) as Entry);
  scanner = createSecretScanner(entries.map((e) => e.secret));
}, 240_000);

afterAll(() => {
  demo.child.kill('SIGKILL');
  data.remove();
  outside.remove();
});

async function askEverything(api: string, collector: string): Promise<void> {
  const ask = async (url: string): Promise<string> => {
    const body = Buffer.from(await (await fetch(url)).arrayBuffer());
    answers.push({ from: new URL(url).pathname, body });
    return body.toString('utf8');
  };
  try {
    await ask(`${collector}/metrics`);
    for (const path of ['/metrics', '/openapi.json', '/api/v1/overview', '/api/v1/clients']) {
      await ask(`${api}${path}`);
    }
    await ask(`${api}/api/v1/events?limit=200`);
    const { items } = JSON.parse(await ask(`${api}/api/v1/findings?limit=200`)) as {
      items: { entity_type: string; entity_ref: string }[];
    };
    const [first] = items;
    if (first === undefined) return;
    const about = first.entity_type === 'client' ? 'client' : 'token';
    await ask(`${api}/api/v1/investigations/${about}/${encodeURIComponent(first.entity_ref)}`);
  } catch (error) {
    // The demo may end between its last line and our question.
    if (!(error instanceof TypeError)) throw error;
  }
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile())
    .map((f) => join(f.parentPath, f.name));
}

/** Hits as readable text without the secret: its kind, its hash, how it was written and where. */
function search(where: string, bytes: Buffer): string[] {
  return scanner
    .scan(bytes)
    .map(
      (h) => `${where}: ${entries[h.index]!.kind} ${h.fingerprint} as ${h.encoding} at ${h.offset}`,
    );
}

describe('after a run with all attacks', () => {
  it('there are many secrets of every kind to look for', () => {
    const kinds = new Map<string, number>();
    for (const { kind } of entries) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    expect(entries.length).toBeGreaterThan(1_000);
    for (const kind of [
      'access_token',
      'refresh_token',
      'id_token',
      'authorization_code',
      'client_secret',
      'cookie',
      'password',
      'request_uri',
      'state',
      'nonce',
      'code_verifier',
      'signing_key',
      'subject',
    ]) {
      expect(kinds.get(kind) ?? 0, kind).toBeGreaterThan(0);
    }
  });

  it('no file of the data directory holds one', () => {
    const files = filesBelow(data.path);
    expect(files.length).toBeGreaterThan(20);
    const hits = files.flatMap((f) => search(relative(data.path, f), readFileSync(f)));
    expect(hits).toEqual([]);
  });

  it('neither stdout nor stderr holds one', () => {
    const { stdout, stderr } = demo.output();
    expect(stdout).toContain('attacks found');
    expect([
      ...search('stdout', Buffer.from(stdout)),
      ...search('stderr', Buffer.from(stderr)),
    ]).toEqual([]);
  });

  it('no metric and no answer of the API holds one', () => {
    expect(answers.filter((a) => a.from === '/metrics').length).toBeGreaterThan(8);
    expect(answers.filter((a) => a.from === '/api/v1/events').length).toBeGreaterThan(4);
    expect(answers.flatMap((a) => search(a.from, a.body))).toEqual([]);
  });

  it('no table holds one, read back uncompressed', async () => {
    const store = openStore({ dataDir: data.path });
    try {
      const sizes = new Map<string, number>();
      for (const table of await tablesOf(store)) {
        const rows = Buffer.from(JSON.stringify(await store.query(everythingIn(table))));
        sizes.set(table, rows.length);
        expect(search(table, rows)).toEqual([]);
      }
      expect(sizes.get('auth_events')).toBeGreaterThan(500_000);
      expect(sizes.get('otel_traces')).toBeGreaterThan(500_000);
    } finally {
      await store.close();
    }
  });

  it('the hash key lies in its own file and nowhere else', () => {
    const { keys } = JSON.parse(readFileSync(join(data.path, 'keys.json'), 'utf8')) as {
      keys: { key: string }[];
    };
    const keyScanner = createSecretScanner(keys.map((k) => k.key));
    const holders = filesBelow(data.path).filter(
      (f) => keyScanner.scan(readFileSync(f)).length > 0,
    );
    expect(holders.map((f) => relative(data.path, f))).toEqual(['keys.json']);
    expect(keyScanner.scan(Buffer.from(JSON.stringify(demo.output())))).toEqual([]);
    expect(fingerprintOf(keys[0]!.key)).toMatch(/^[0-9a-f]{12}$/);
  });

  it('the search itself works: a planted secret is found in a copy of a file', () => {
    const [anyFile] = filesBelow(data.path);
    const planted = Buffer.concat([readFileSync(anyFile!), Buffer.from(` ${entries[0]!.secret} `)]);
    expect(search('planted', planted).length).toBeGreaterThan(0);
  });
});

async function tablesOf(store: Store): Promise<string[]> {
  const rows = await store.query<{ name: string }>(
    sql`SELECT name FROM system.tables WHERE database = 'grantscope' AND engine != 'MaterializedView' ORDER BY name`,
  );
  return rows.map((r) => r.name);
}

/** Table names come from the engine's own list. */
function everythingIn(table: string): Sql {
  return new Sql([`SELECT * FROM grantscope.\`${table}\``], []);
}
