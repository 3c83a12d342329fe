import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSecretScanner } from '../../demo/secret_ledger.ts';
import { sql, Sql } from '../../model/sql.ts';
import { openStore } from '../../store/client.ts';
import {
  Canaries,
  plantedLogs,
  plantedRecords,
  plantedScope,
  plantedSpan,
} from '../corpus/canaries.ts';
import { temporaryFolder } from '../harness.ts';
import { logsToJson, logsToProtobuf, tracesToJson, tracesToProtobuf } from '../otlp_encoders.ts';
import { startServer, type ServerProcess } from '../server_process.ts';

/**
 * A real server, and secrets in every hiding place of everything that it takes in: all sources, both signals and encodings, what is
 * refused, what is no record, and the requests themselves. Then a search for all of them, in any encoding, in all that came out:
 * answers, files (killed with the buffer full, and after a stop), tables, logs, metrics, own traces and alerts.
 */
const SEED = Number(process.env['CANARY_SEED'] ?? randomInt(2 ** 31));
const ROUNDS = 2;

const canaries = new Canaries(SEED);
const folder = temporaryFolder();
const outputs: { from: string; body: Buffer }[] = [];
const statuses = new Map<string, Set<number>>();
const sunk = new Set<string>();
const sink = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (c: Buffer) => chunks.push(c));
  request.on('end', () => {
    sunk.add(request.url ?? '');
    outputs.push({ from: `sent to ${request.url ?? ''}`, body: Buffer.concat(chunks) });
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  });
});
let server: ServerProcess;
let environment: Record<string, string>;

async function ask(from: string, url: string, init: RequestInit = {}): Promise<string> {
  const response = await fetch(url, init);
  const body = Buffer.from(await response.arrayBuffer());
  outputs.push({ from: `answer of ${from}`, body });
  outputs.push({
    from: `headers of ${from}`,
    body: Buffer.from(JSON.stringify([...response.headers])),
  });
  statuses.set(from, (statuses.get(from) ?? new Set()).add(response.status));
  return body.toString('utf8');
}

const post = (
  from: string,
  path: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
) => ask(from, `${server.collectorUrl}${path}`, { method: 'POST', body, headers });

const JSON_TYPE = { 'content-type': 'application/json' };
const PROTOBUF = { 'content-type': 'application/x-protobuf' };

async function plant(): Promise<void> {
  const now = new Date();
  for (const [source, records] of Object.entries(plantedRecords(canaries, now))) {
    const lines = records.map((r) => (typeof r === 'string' ? r : JSON.stringify(r)));
    await post(`events of ${source}`, `/v1/events/${source}`, lines.join('\n'));
    const zipped = gzipSync(JSON.stringify(plantedRecords(canaries, now)[source]![0]));
    await post(`events of ${source}`, `/v1/events/${source}`, zipped, {
      'content-encoding': 'gzip',
    });
    // Refused records become dead letters.
    const refused = plantedRecords(canaries, now)[source]!.map((r) =>
      typeof r === 'string'
        ? canaries.freeText('no line')
        : JSON.stringify({ ...r, time: 'never', start_time: 'never' }),
    );
    await post(`refused events of ${source}`, `/v1/events/${source}`, refused.join('\n'));
  }
  const nowNs = BigInt(now.getTime()) * 1_000_000n;
  const traces = () => {
    const { resource, schemaUrl, scope } = plantedScope(canaries);
    return [
      {
        resource,
        schemaUrl,
        scopes: [{ scope, schemaUrl, records: [plantedSpan(canaries, nowNs)] }],
      },
    ];
  };
  const logs = () => {
    const { resource, schemaUrl, scope } = plantedScope(canaries);
    return [
      { resource, schemaUrl, scopes: [{ scope, schemaUrl, records: plantedLogs(canaries, now) }] },
    ];
  };
  await post('traces', '/v1/traces', tracesToJson(traces()), JSON_TYPE);
  await post('traces', '/v1/traces', tracesToProtobuf(traces()), PROTOBUF);
  await post('logs', '/v1/logs', logsToJson(logs()), JSON_TYPE);
  await post('logs', '/v1/logs', logsToProtobuf(logs()), PROTOBUF);
}

/** Requests that go wrong, with secrets in their bodies, paths and headers. */
async function plantInErrors(): Promise<void> {
  const c = (at: string): string => canaries.make(`error: ${at}`);
  const headers = () => ({
    authorization: `Bearer ${c('authorization')}`,
    cookie: `sid=${c('cookie')}`,
    'x-api-key': c('api key'),
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    tracestate: `v=${c('tracestate')}`,
    baggage: `token=${c('baggage')}`,
    referer: `https://h.example/?code=${c('referer')}`,
    'user-agent': `agent ${c('user agent')}`,
  });
  const paths = [
    '/v1/traces',
    '/v1/logs',
    '/v1/events/keycloak',
    '/v1/events/grantscope',
    '/v1/nowhere',
  ];
  for (const path of paths) {
    const free = canaries.freeText(`error body of ${path}`);
    await post(`garbage to ${path}`, `${path}?access_token=${c('query')}`, free, {
      ...headers(),
      ...JSON_TYPE,
    });
    await post(`garbage to ${path}`, path, free, { ...headers(), ...PROTOBUF });
    await post(`garbage to ${path}`, path, `{"a":"${c('cut JSON')}`, {
      ...headers(),
      ...JSON_TYPE,
    });
    await post(`unknown type to ${path}`, path, free, {
      ...headers(),
      'content-type': 'text/html',
    });
    await post(`bad gzip to ${path}`, path, free, { ...headers(), 'content-encoding': 'gzip' });
    await post(`unknown coding to ${path}`, path, free, { ...headers(), 'content-encoding': 'br' });
    await ask(`GET ${path}`, `${server.collectorUrl}${path}?code=${c('GET')}`, {
      headers: headers(),
    });
  }
  await post('unknown source', `/v1/events/${c('path')}`, '{}', headers());
  const value = c('hash');
  const hash = {
    method: 'POST',
    headers: { ...headers(), ...JSON_TYPE },
    body: JSON.stringify({ value }),
  };
  await ask('hash', `${server.apiUrl}/api/v1/hash`, hash);
  const bad = { ...hash, body: `{"value":"${c('bad hash')}"` };
  await ask('bad hash', `${server.apiUrl}/api/v1/hash`, bad);
  await ask('unknown key to hash', `${server.apiUrl}/api/v1/hash`, {
    ...hash,
    body: JSON.stringify({ value: 'x', other: c('other') }),
  });
}

/** One code redeemed in two networks: a finding, and so an alert, about a token whose value is a secret. */
async function plantAttack(): Promise<void> {
  const code = canaries.make('code of the attack');
  const subject = canaries.make('subject of the attack');
  const event = (offset: number, network: number) => ({
    time: new Date(Date.now() - 60_000 + offset).toISOString(),
    kind: 'code_redeemed',
    outcome: network === 1 ? 'success' : 'failure',
    client: { id: 'web', name: `code=${canaries.make('client name of the attack')}` },
    subject: { id: subject },
    error: { detail: canaries.freeText('detail of the attack') },
    tokens: [{ role: 'consumed', type: 'code', value: code }],
    net: { client_ip: `198.51.${network}.7`, ip_role: 'end_user', user_agent: `a${network}/1` },
  });
  const body = [event(0, 1), event(5_000, 2)].map((e) => JSON.stringify(e)).join('\n');
  await post('attack', '/v1/events/grantscope', body);
}

async function askEverything(): Promise<void> {
  const routes = [
    '/',
    '/metrics',
    '/healthz',
    '/readyz',
    '/openapi.json',
    '/api/v1/overview',
    '/api/v1/clients',
  ];
  const openapi = JSON.parse(await ask('/openapi.json', `${server.apiUrl}/openapi.json`)) as {
    paths: Record<string, Record<string, unknown>>;
  };
  const plain = Object.entries(openapi.paths)
    .filter(
      ([path, methods]) => 'get' in methods && !path.includes('{') && !path.includes('stream'),
    )
    .map(([path]) => path);
  expect(plain.length).toBeGreaterThan(3);
  for (const path of new Set([...routes, ...plain])) await ask(path, `${server.apiUrl}${path}`);
  for (const path of ['/metrics', '/healthz', '/readyz'])
    await ask(`collector ${path}`, `${server.collectorUrl}${path}`);
  await ask('/api/v1/events', `${server.apiUrl}/api/v1/events?limit=200`);
}

async function until(isDone: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await isDone())) {
    if (Date.now() > deadline) throw new Error(`not within a minute (seed ${SEED})`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

beforeAll(async () => {
  sink.listen(0, '127.0.0.1');
  await once(sink, 'listening');
  const url = `http://127.0.0.1:${(sink.address() as AddressInfo).port}`;
  environment = {
    GRANTSCOPE_LOG_LEVEL: 'debug',
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    ALERTMANAGER_URL: url,
    GRANTSCOPE_DETECT_INTERVAL_MS: '200',
  };
  server = await startServer(folder.path, environment);
  for (let round = 0; round < ROUNDS; round += 1) await plant();
  await plantInErrors();
  await plantAttack();
  await until(async () => {
    const answer = await fetch(`${server.apiUrl}/api/v1/findings`);
    return ((await answer.json()) as { items: unknown[] }).items.length > 0;
  });
  await until(() => Promise.resolve([...sunk].some((url) => url.includes('alerts'))));
  await askEverything();
  // Killed in the middle of taking in more: what the buffer holds stays on the disk as it is.
  await Promise.all([plant(), plant()]);
  await server.kill();
  outputs.push({ from: 'output of the first process', body: Buffer.from(server.output()) });
  for (const [name, bytes] of filesBelow(folder.path))
    outputs.push({ from: `${name}, killed`, body: bytes });
  server = await startServer(folder.path, environment);
  await plant();
  await askEverything();
  expect(await server.stop()).toBe(0);
  outputs.push({ from: 'output of the second process', body: Buffer.from(server.output()) });
  for (const [name, bytes] of filesBelow(folder.path)) outputs.push({ from: name, body: bytes });
}, 240_000);

afterAll(async () => {
  await server.kill();
  sink.close();
  folder.remove();
});

function filesBelow(path: string): [string, Buffer][] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile())
    .map((f) => join(f.parentPath, f.name))
    .map((f) => [relative(path, f), readFileSync(f)]);
}

let prepared: { secrets: string[]; scanner: ReturnType<typeof createSecretScanner> } | undefined;

/** Where secrets are found. Once it is called, nothing more may be planted. */
function search(outputsToSearch: readonly { from: string; body: Buffer }[]): string[] {
  if (prepared?.secrets.length !== canaries.places.size) {
    const all = [...canaries.places.keys()];
    prepared = { secrets: all, scanner: createSecretScanner(all) };
  }
  const { secrets, scanner } = prepared;
  const hits = outputsToSearch.flatMap(({ from, body }) =>
    scanner.scan(body).map((h) => {
      const around = body.subarray(Math.max(0, h.offset - 60), h.offset).toString('utf8');
      return `${from}: ${canaries.places.get(secrets[h.index]!) ?? ''} as ${h.encoding} after ${JSON.stringify(around)}`;
    }),
  );
  return [...new Set(hits)];
}

describe(`secrets planted everywhere with CANARY_SEED=${SEED}`, () => {
  it('were many, were taken in, and some records were refused', () => {
    expect(canaries.places.size).toBeGreaterThan(10_000);
    for (const source of ['keycloak', 'envoy', 'oidc_provider', 'grantscope'])
      expect([...(statuses.get(`events of ${source}`) ?? [])]).toEqual([200]);
    expect([...(statuses.get('traces') ?? [])]).toEqual([200]);
    expect([...(statuses.get('logs') ?? [])]).toEqual([200]);
    expect([...sunk].sort()).toEqual(expect.arrayContaining(['/v1/traces', '/api/v2/alerts']));
  });

  it('are in nothing that came out: answers, files, logs, metrics, own traces, alerts', () => {
    expect(search(outputs)).toEqual([]);
  });

  it('are in no table, read back uncompressed', async () => {
    const store = openStore({ dataDir: folder.path });
    try {
      const names = await store.query<{ name: string }>(
        sql`SELECT name FROM system.tables WHERE database = 'grantscope' AND engine != 'MaterializedView' ORDER BY name`,
      );
      const counts: Record<string, number> = {};
      for (const { name } of names) {
        const rows = await store.query(new Sql([`SELECT * FROM grantscope.\`${name}\``], []));
        counts[name] = rows.length;
        expect(
          search([{ from: `table ${name}`, body: Buffer.from(JSON.stringify(rows)) }]),
        ).toEqual([]);
      }
      for (const name of ['auth_events', 'otel_traces', 'otel_logs', 'dead_letters', 'findings'])
        expect(counts[name], name).toBeGreaterThan(0);
    } finally {
      await store.close();
    }
  });

  it('would be found: one in a copy of a file is', () => {
    const [secret] = [...canaries.places.keys()];
    const base64 = Buffer.from(`a ${secret!} b`).toString('base64');
    expect(search([{ from: 'copy', body: Buffer.from(`x ${secret!} y`) }])).toHaveLength(1);
    expect(search([{ from: 'copy', body: Buffer.from(base64) }])).toHaveLength(1);
  });
});
