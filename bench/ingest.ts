import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';

/**
 * What ingest costs, end to end, on the built product (`npm run build` first): a real `grantscope serve` on the embedded
 * engine takes NDJSON of our own AuthEvents over HTTP; redacts, references, fsyncs, inserts, rolls up and runs the detectors.
 *
 *   npm run bench -- --events 300000 --batch 1000 --clients 4
 *
 * Prints and writes to bench/results/ingest.json: CPU seconds of the server per million events, events per second, ACK
 * latency, bytes on disk per event, memory. The load generator runs beside it on the same machine.
 */
interface Options {
  readonly events: number;
  readonly batch: number;
  readonly clients: number;
}

function readOptions(argv: readonly string[]): Options {
  const read = (name: string, fallback: number): number => {
    const at = argv.indexOf(`--${name}`);
    const value = at < 0 ? fallback : Number(argv[at + 1]);
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${name}: must be a whole number from 1`);
    return value;
  };
  return {
    events: read('events', 200_000),
    batch: read('batch', 1_000),
    clients: read('clients', 4),
  };
}

/** Honest traffic: an issuance and two API calls of the same token, from one of many subjects' own networks. */
function makeBody(batch: number, sequence: number): Buffer {
  const lines: string[] = [];
  const now = Date.now();
  for (let i = 0; i < batch; i += 1) {
    const n = sequence * batch + i;
    const token = Math.floor(n / 3);
    const subject = token % 5_000;
    const issued = n % 3 === 0;
    lines.push(
      JSON.stringify({
        event_id: randomUUID(),
        time: new Date(now + (i % 1_000)).toISOString(),
        kind: issued ? 'token_issued' : 'api_accessed',
        outcome: 'success',
        grant_type: issued ? 'authorization_code' : '',
        issuer: 'https://as.example',
        client: { id: `client-${token % 40}` },
        subject: { id: `user-${subject}@example.test`, type: 'user' },
        scopes_granted: ['openid', 'orders:read'],
        tokens: [
          {
            role: issued ? 'issued' : 'presented',
            type: 'access',
            value: `opaque-access-token-${token}-0123456789abcdef`,
          },
        ],
        net: {
          client_ip: `10.${subject >> 8}.${subject & 255}.7`,
          ip_role: 'end_user',
          user_agent:
            'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36',
        },
        http: {
          method: 'POST',
          route: issued ? '/token' : '/orders',
          status: 200,
          duration_ms: 12.5,
        },
      }),
    );
  }
  return Buffer.from(lines.join('\n'));
}

async function startServer(
  dataDir: string,
): Promise<{ child: ChildProcess; collector: string; readyMs: number }> {
  const began = performance.now();
  const child = spawn(process.execPath, [join(packageRoot, 'dist', 'cli', 'main.js'), 'serve'], {
    env: {
      PATH: process.env['PATH'],
      GRANTSCOPE_DATA_DIR: dataDir,
      GRANTSCOPE_COLLECTOR_LISTEN: '127.0.0.1:0',
      GRANTSCOPE_API_LISTEN: '127.0.0.1:0',
      GRANTSCOPE_LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const collector = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
      const url = /collector\s+(http:\S+)/.exec(output)?.[1];
      if (url !== undefined) resolve(url);
    });
    child.once('close', (code) =>
      reject(new Error(`the server ended with ${code}; built? (npm run build)\n${output}`)),
    );
  });
  return { child, collector, readyMs: Math.round(performance.now() - began) };
}

function post(url: string, agent: Agent, body: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      url,
      {
        method: 'POST',
        agent,
        headers: { 'content-type': 'application/x-ndjson', 'content-length': body.length },
      },
      (response) => {
        response.resume();
        response.on('end', () =>
          response.statusCode === 200
            ? resolve()
            : reject(new Error(`HTTP ${response.statusCode}`)),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

async function metric(collector: string, name: string): Promise<number> {
  const text = await (await fetch(`${collector}/metrics`)).text();
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

async function load(
  collector: string,
  options: Options,
): Promise<{ seconds: number; latencies: number[] }> {
  const requests = Math.ceil(options.events / options.batch);
  const agent = new Agent({ keepAlive: true, maxSockets: options.clients });
  const latencies: number[] = [];
  let next = 0;
  const began = performance.now();
  await Promise.all(
    Array.from({ length: options.clients }, async () => {
      for (let sequence = next++; sequence < requests; sequence = next++) {
        const body = makeBody(options.batch, sequence);
        const sent = performance.now();
        await post(`${collector}/v1/events/grantscope`, agent, body);
        latencies.push(performance.now() - sent);
      }
    }),
  );
  agent.destroy();
  return { seconds: (performance.now() - began) / 1_000, latencies };
}

function folderBytes(path: string): number {
  return readdirSync(path, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
  try {
    const { child, collector, readyMs } = await startServer(dataDir);
    const emptyBytes = folderBytes(join(dataDir, 'clickhouse'));
    const cpuBefore = await metric(collector, 'process_cpu_seconds_total');
    const { seconds, latencies } = await load(collector, options);
    const events = Math.ceil(options.events / options.batch) * options.batch;
    const stored = (): Promise<number> => metric(collector, 'grantscope_writer_rows_stored_total');
    const deadline = performance.now() + 60_000;
    while ((await stored()) < events && performance.now() < deadline)
      await new Promise((r) => setTimeout(r, 50));
    const lagSeconds = (performance.now() - (deadline - 60_000)) / 1_000;
    const cpu = (await metric(collector, 'process_cpu_seconds_total')) - cpuBefore;
    const rss = await metric(collector, 'process_resident_memory_bytes');
    const ended = once(child, 'close');
    child.kill('SIGTERM');
    await ended;
    const bytes = folderBytes(join(dataDir, 'clickhouse')) - emptyBytes;
    report(options, {
      events,
      readyMs,
      seconds,
      lagSeconds,
      cpu,
      rss,
      bytes,
      latencies: latencies.sort((a, b) => a - b),
    });
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

interface Measured {
  readonly events: number;
  readonly readyMs: number;
  readonly seconds: number;
  readonly lagSeconds: number;
  readonly cpu: number;
  readonly rss: number;
  readonly bytes: number;
  readonly latencies: readonly number[];
}

function report(options: Options, m: Measured): void {
  const at = (q: number): number =>
    Math.round(
      (m.latencies[Math.min(m.latencies.length - 1, Math.floor(m.latencies.length * q))] ?? 0) * 10,
    ) / 10;
  const result = {
    ...options,
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    ready_ms: m.readyMs,
    events_per_second: Math.round(m.events / m.seconds),
    cpu_seconds_per_million_events: Math.round((m.cpu / m.events) * 1e7) / 10,
    ack_ms: { p50: at(0.5), p99: at(0.99) },
    stored_after_last_ack_seconds: Math.round(m.lagSeconds * 10) / 10,
    bytes_on_disk_per_event: Math.round(m.bytes / m.events),
    rss_mb: Math.round(m.rss / 1e6),
  };
  const folder = join(packageRoot, 'bench', 'results');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'ingest.json'), `${JSON.stringify(result, null, 2)}\n`);
  console.log(JSON.stringify(result, null, 2));
}

await main();
