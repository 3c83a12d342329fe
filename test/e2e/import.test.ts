// How: the real collector and store; the command runs in this process for what files do (rotation, packing, truncation,
// growth), and as a process of its own where it is killed: by the server, in the middle of a request that was stored, and of
// one that was not. The records say no id of their own, so only the requests tell what was stored before. What the store
// holds is compared with what was written: every record once.
import {
  appendFileSync,
  copyFileSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { followFiles } from '../../cli/import/follow_files.ts';
import { ImportState } from '../../cli/import/import_state.ts';
import { Interrupted, Poster } from '../../cli/import/post_records.ts';
import { Progress } from '../../cli/import/progress.ts';
import { ImportRun } from '../../cli/import/run_import.ts';
import { startCollector, type Collector } from '../../collector/main.ts';
import { loadSources } from '../../collector/registry.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import { param, sql } from '../../model/sql.ts';
import type { Runtime } from '../../runtime/context.ts';
import { openTestStore, temporaryFolder, testRuntime } from '../harness.ts';
import { runGrantscope, spawnGrantscope, startServer } from '../server_process.ts';

let opened: Awaited<ReturnType<typeof openTestStore>>;
let collector: Collector;
let source: SourceDefinition;
let runtime: Runtime;
const folder = temporaryFolder();
const file = (name: string): string => join(folder.path, name);

beforeAll(async () => {
  opened = await openTestStore();
  runtime = testRuntime(opened.dataDir, { config: { bodyBytesMax: 300_000 } });
  collector = await startCollector(runtime, opened.store);
  const found = (await loadSources()).get('grantscope');
  if (found === undefined) throw new Error('no source grantscope');
  source = found;
});
afterAll(async () => {
  await collector.stop();
  await opened.close();
  folder.remove();
});

/** Yesterday: what is past the retention is dropped. */
const DAY = Math.floor(Date.now() / 86_400_000 - 1) * 86_400_000;
const record = (client: string, n: number): string =>
  JSON.stringify({
    kind: 'token_refreshed',
    outcome: 'success',
    time: new Date(DAY + n).toISOString(),
    client: { id: client },
    ext: { padding: 'x'.repeat(150) },
  });
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i);
const lines = (client: string, from: number, to: number): string =>
  range(from, to)
    .map((n) => `${record(client, n)}\n`)
    .join('');

/** Bytes in the durable buffer. */
async function waiting(): Promise<number> {
  const gauge = runtime.metrics.registry.getSingleMetric('grantscope_spool_bytes');
  return (await gauge?.get())?.values[0]?.value ?? Number.NaN;
}

/** Which records of a client the store holds, by their millisecond, as often as it holds them. */
async function stored(client: string): Promise<number[]> {
  await collector.flush();
  await expect.poll(waiting, { timeout: 20_000, interval: 20 }).toBe(0);
  const read = () =>
    opened.store.query<{ ms: string }>(sql`
      SELECT toUnixTimestamp64Milli(time) AS ms FROM grantscope.auth_events
      WHERE client_id = ${param.string(client)} ORDER BY time`);
  return (await read()).map((r) => Number(r.ms) - DAY);
}

interface RunOptions {
  state?: string;
  collectorUrl?: string;
  giveUpAfterMs?: number;
}

function newRun({
  state = 'state',
  collectorUrl = collector.url,
  giveUpAfterMs = 60_000,
}: RunOptions = {}) {
  const controller = new AbortController();
  const waits: string[] = [];
  const { signal } = controller;
  const poster = new Poster({
    collector: collectorUrl,
    source: source.id,
    token: undefined,
    signal,
    onWait: (reason) => waits.push(reason),
    giveUpAfterMs,
  });
  const progress = new Progress({ write: () => true });
  const states = new ImportState(file(state), source.id, 'local');
  const run = new ImportRun({ source, state: states, poster, progress, signal });
  return { run, controller, waits, states };
}

async function importFiles(
  args: readonly string[],
  options: RunOptions = {},
): Promise<ImportRun['counts']> {
  const { run } = newRun(options);
  await run.readAll(args);
  return run.counts;
}

/** A way to the collector that does what a test wants with its nth request, counted from 1. */
async function detour(
  onRequest: (
    n: number,
    forward: () => Promise<{ status: number; text: string }>,
    response: ServerResponse,
  ) => Promise<void>,
): Promise<{ url: string; server: Server; requests: () => number }> {
  let n = 0;
  const server = createServer((request, response) => {
    n += 1;
    const at = n;
    const chunks: Buffer[] = [];
    request.on('data', (c: Buffer) => chunks.push(c));
    request.on('error', () => undefined);
    request.on('end', () => {
      const forward = async (): Promise<{ status: number; text: string }> => {
        const answer = await fetch(`${collector.url}${request.url ?? ''}`, {
          method: 'POST',
          headers: {
            'content-type': 'text/plain',
            'idempotency-key': String(request.headers['idempotency-key']),
          },
          body: new Uint8Array(Buffer.concat(chunks)),
        });
        return { status: answer.status, text: await answer.text() };
      };
      void onRequest(at, forward, response);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, server, requests: () => n };
}

describe('grantscope import', () => {
  it('reads lines, gzip and a JSON array, each where it was left', async () => {
    const array = (to: number): string =>
      `[\n${range(20, to)
        .map((n) => record('a', n))
        .join(',\n')}\n]`;
    writeFileSync(file('a.ndjson'), lines('a', 0, 3));
    writeFileSync(file('a.gz'), gzipSync(lines('a', 10, 13)));
    // Longer than what tells files apart.
    writeFileSync(file('a.json'), array(30));
    const args = ['a.ndjson', 'a.gz', 'a.json'].map(file);
    expect(await importFiles(args)).toMatchObject({
      records: 16,
      accepted: 16,
      refused: 0,
      requests: 3,
    });
    expect(await importFiles(args)).toMatchObject({ records: 0, requests: 0 });
    appendFileSync(file('a.ndjson'), lines('a', 3, 5));
    writeFileSync(file('a.json'), array(31));
    expect(await importFiles(args)).toMatchObject({ records: 3, accepted: 3 });
    expect(await stored('a')).toEqual([...range(0, 5), ...range(10, 13), ...range(20, 31)]);
  });

  it('says which lines were refused, and goes on behind them', async () => {
    const bad = ['{"token":"planted', '{"kind":"no such thing"}', 'x'.repeat(310_000)];
    const text = Buffer.concat([
      Buffer.from([record('b', 0), '', ...bad, record('b', 1), ''].join('\n')),
      Buffer.from([0xff, 0xfe, 0x0a]),
      Buffer.from(record('b', 2)),
    ]);
    writeFileSync(file('b.ndjson'), text);
    const counts = await importFiles([file('b.ndjson')]);
    expect(counts).toMatchObject({ records: 7, accepted: 3, refused: 4 });
    expect(
      counts.refusals.map((r) => [r.line, r.code]).sort(([x], [y]) => Number(x) - Number(y)),
    ).toEqual([
      [3, 'not_json'],
      [4, 'invalid_field'],
      [5, 'body_too_large'],
      [7, 'not_json'],
    ]);
    expect(JSON.stringify(counts)).not.toContain('planted');
    expect(await stored('b')).toEqual([0, 1, 2]);
  });

  it('sends a last line that no line feed ends, and the whole of it where more of it comes', async () => {
    const [first, second] = [record('c', 0), record('c', 1)];
    writeFileSync(file('c.ndjson'), `${first}\n${second.slice(0, 50)}`);
    expect(await importFiles([file('c.ndjson')])).toMatchObject({ accepted: 1, refused: 1 });
    appendFileSync(file('c.ndjson'), second.slice(50));
    expect(await importFiles([file('c.ndjson')])).toMatchObject({ accepted: 1, refused: 0 });
    appendFileSync(file('c.ndjson'), '\n');
    expect(await importFiles([file('c.ndjson')])).toMatchObject({ records: 0 });
    expect(await stored('c')).toEqual([0, 1]);
  });

  it('knows files by what they are: renamed, packed, copied back, truncated', async () => {
    writeFileSync(file('d.log'), lines('d', 0, 10));
    await importFiles([file('d.log')]);
    appendFileSync(file('d.log'), lines('d', 10, 12));
    renameSync(file('d.log'), file('d.log.1'));
    writeFileSync(file('d.log'), lines('d', 100, 103));
    // Only the new one is named: what was left of the old one is read from where it lies now.
    expect(await importFiles([file('d.log')])).toMatchObject({ accepted: 5 });
    writeFileSync(file('d.log.2.gz'), gzipSync(readFileSync(file('d.log.1'))));
    rmSync(file('d.log.1'));
    expect(await importFiles([file('d.log*')])).toMatchObject({ records: 0 });
    truncateSync(file('d.log'));
    writeFileSync(file('d.log'), lines('d', 200, 202));
    expect(await importFiles([file('d.log*')])).toMatchObject({ accepted: 2 });
    expect(await stored('d')).toEqual([...range(0, 12), ...range(100, 103), 200, 201]);
    // A folder of states that was lost: the same bytes at the same place are the same request.
    copyFileSync(file('d.log'), file('d.copy'));
    expect(await importFiles([file('d.copy')], { state: 'another' })).toMatchObject({
      accepted: 2,
    });
    expect(await stored('d')).toEqual([...range(0, 12), ...range(100, 103), 200, 201]);
  });

  it('waits as long as it is told to, and repeats what was not answered', async () => {
    writeFileSync(file('e.ndjson'), lines('e', 0, 3));
    const began = performance.now();
    const way = await detour(async (n, forward, response) => {
      if (n === 1) response.writeHead(503, { 'Retry-After': '1' }).end('busy');
      else if (n === 2) response.writeHead(429, { 'Retry-After': '0' }).end();
      else if (n === 3) {
        await forward();
        response.destroy();
      } else {
        const { status, text } = await forward();
        response.writeHead(status, { 'Content-Type': 'application/json' }).end(text);
      }
    });
    const { run, waits } = newRun({ collectorUrl: way.url });
    await run.readAll([file('e.ndjson')]);
    way.server.close();
    expect(performance.now() - began).toBeGreaterThan(1_000);
    expect(waits.map((w) => w.slice(0, 33))).toEqual([
      'the collector answers 503',
      'the collector answers 429',
      'the collector does not answer (UN',
    ]);
    expect(run.counts).toMatchObject({ accepted: 3, requests: 1 });
    expect(await stored('e')).toEqual([0, 1, 2]);
  });

  it('gives up where nothing is taken, and stops at a signal, without losing its place', async () => {
    writeFileSync(file('f.ndjson'), lines('f', 0, 3));
    const way = await detour((_n, _forward, response) => {
      response.writeHead(503).end();
      return Promise.resolve();
    });
    const failing = newRun({ collectorUrl: way.url, giveUpAfterMs: 300 });
    await expect(failing.run.readAll([file('f.ndjson')])).rejects.toMatchObject({
      code: 'upstream_failed',
    });
    const stopped = newRun({ collectorUrl: way.url });
    const reading = stopped.run.readAll([file('f.ndjson')]);
    stopped.controller.abort();
    await expect(reading).rejects.toBeInstanceOf(Interrupted);
    way.server.close();
    await expect(importFiles([file('none.ndjson')])).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await expect(importFiles([folder.path])).rejects.toMatchObject({ code: 'invalid_argument' });
    expect(await importFiles([file('f.ndjson')])).toMatchObject({ accepted: 3 });
    expect(await stored('f')).toEqual([0, 1, 2]);
  });

  it('follows files as they grow, are renamed, truncated and appear', async () => {
    const { run, controller, states } = newRun();
    const { signal } = controller;
    writeFileSync(file('g.log'), lines('g', 0, 2));
    const onBytes = (): void => undefined;
    const following = followFiles([file('g.log*')], {
      run,
      state: states,
      source,
      signal,
      onBytes,
    });
    const until = async (accepted: number): Promise<void> => {
      await expect
        .poll(() => run.counts.accepted, { timeout: 20_000, interval: 20 })
        .toBe(accepted);
    };
    await until(2);
    const next = record('g', 2);
    appendFileSync(file('g.log'), next.slice(0, 40));
    appendFileSync(file('g.log'), `${next.slice(40)}\n`);
    await until(3);
    // The writer goes on in the renamed file for a while.
    renameSync(file('g.log'), file('g.log.1'));
    writeFileSync(file('g.log'), lines('g', 10, 12));
    await until(5);
    appendFileSync(file('g.log.1'), lines('g', 3, 4));
    await until(6);
    truncateSync(file('g.log'));
    writeFileSync(file('g.log'), lines('g', 20, 21));
    await until(7);
    writeFileSync(file('g.log.2.gz'), gzipSync(lines('g', 30, 40)));
    await until(17);
    controller.abort();
    await following;
    expect(run.counts).toMatchObject({ records: 17, refused: 0 });
    appendFileSync(file('g.log'), lines('g', 21, 22));
    expect(await importFiles([file('g.log*')])).toMatchObject({ accepted: 1 });
    expect(await stored('g')).toEqual([...range(0, 4), 10, 11, 20, 21, ...range(30, 40)]);
  }, 60_000);

  it('keeps names, numbers and hashes of files, nothing of what they say', () => {
    const [kept] = readdirSync(file('state/imports'));
    for (const name of readdirSync(file(`state/imports/${kept ?? ''}`))) {
      const state = JSON.parse(
        readFileSync(file(`state/imports/${kept ?? ''}/${name}`), 'utf8'),
      ) as object;
      const known = [
        'path',
        'dev',
        'ino',
        'fingerprint',
        'unit',
        'offset',
        'number',
        'pending_end',
        'open_length',
      ];
      expect(known).toEqual(expect.arrayContaining(Object.keys(state)));
    }
  });
});

describe('grantscope import as a process', () => {
  it('is killed before and after a request is stored, and still stores every record once', async () => {
    const COUNT = 12_000;
    writeFileSync(file('k.ndjson'), lines('k', 0, COUNT));
    let child: ReturnType<typeof spawnGrantscope> | undefined;
    const killed: string[] = [];
    const way = await detour(async (n, forward, response) => {
      // The second request is stored and never answered; the fourth is neither.
      if (n === 2) await forward();
      if (n === 2 || n === 4) {
        killed.push(n === 2 ? 'after' : 'before');
        child?.kill('SIGKILL');
        response.destroy();
        return;
      }
      const { status, text } = await forward();
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(text);
    });
    const args = [
      'import',
      '--source',
      'grantscope',
      '--collector',
      way.url,
      '--json',
      file('k.ndjson'),
    ];
    const env = { GRANTSCOPE_DATA_DIR: file('killed') };
    for (let i = 0; i < 2; i += 1) {
      child = spawnGrantscope(args, env);
      await once(child, 'close');
      expect(child.signalCode).toBe('SIGKILL');
    }
    const last = await runGrantscope(args, env);
    way.server.close();
    expect(killed).toEqual(['after', 'before']);
    expect([last.code, last.stderr]).toEqual([0, '']);
    expect(JSON.parse(last.stdout)).toMatchObject({ complete: true, refused: 0 });
    const found = await stored('k');
    expect([found.length, new Set(found).size]).toEqual([COUNT, COUNT]);
  }, 120_000);

  it('finds the server of its data directory, or takes the directory where none runs', async () => {
    const data = temporaryFolder();
    const closed = await detour(() => Promise.resolve());
    closed.server.close();
    const env = {
      GRANTSCOPE_DATA_DIR: data.path,
      GRANTSCOPE_COLLECTOR_LISTEN: new URL(closed.url).host,
    };
    writeFileSync(file('p.ndjson'), `${lines('p', 0, 2)}{}\n`);
    const args = ['import', '--source', 'grantscope', file('p.ndjson')];
    const none = await runGrantscope(args, env);
    expect([none.code, none.stderr]).toEqual([
      1,
      `grantscope: no collector answers at ${closed.url} (ECONNREFUSED); start grantscope serve, name another by --collector, or give --data-dir\n`,
    ]);
    const alone = await runGrantscope([...args, '--data-dir', '--json'], env);
    expect(JSON.parse(alone.stdout)).toMatchObject({ accepted: 2, refused: 1, complete: true });
    expect(alone.code).toBe(1);
    const server = await startServer(data.path);
    appendFileSync(file('p.ndjson'), lines('p', 2, 3));
    const beside = await runGrantscope(args, env);
    expect(beside.stdout).toMatch(/^1 records: 1 accepted, 0 refused \(/);
    expect([beside.code, beside.stderr]).toEqual([0, '']);
    const locked = await runGrantscope([...args, '--data-dir'], env);
    expect(locked.code).toBe(2);
    const answer = await fetch(`${server.apiUrl}/api/v1/events?client_id=p`);
    expect(((await answer.json()) as { items: unknown[] }).items).toHaveLength(3);
    expect(await server.stop()).toBe(0);
    data.remove();
  }, 120_000);

  it('names what is wrong with its options', async () => {
    const env = { GRANTSCOPE_DATA_DIR: file('options') };
    const refused = async (...args: string[]) => {
      const { code, stderr } = await runGrantscope(['import', ...args], env);
      return [code, stderr.trim()];
    };
    expect(
      await refused('--source', 'grantscope', '--collector', 'http://collector.example.com', 'x'),
    ).toEqual([
      2,
      'grantscope: --collector: must be an https URL, or an http URL on loopback, for instance http://127.0.0.1:4318',
    ]);
    const [code, text] = await refused('--source', 'nothing', 'x');
    expect([code, String(text).slice(0, 53)]).toEqual([
      2,
      'grantscope: --source nothing: no such source; known: ',
    ]);
  }, 60_000);
});
