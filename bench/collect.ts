import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';
import { runLoad } from './harness/load.ts';
import { payloadNamed, PAYLOADS, type PayloadName } from './harness/payloads.ts';
import { readFlags, report, round, until } from './harness/program.ts';
import {
  announced,
  cpuSeconds,
  memoryMb,
  startServer,
  type RunningServer,
} from './harness/server.ts';

/**
 * What the collector alone costs: HTTP in, redacted, references by keyed hash, fsynced, shipped as Native blocks to an HTTP
 * sink that discards them: the part that a telemetry collector does. One server and one run a case, after a warm-up.
 *
 *   npm run bench -- collect [--payload ndjson --batch 1000 --gzip] [--events 300000] [--clients 4]
 *
 * Without --payload all cases are run. With --processes 2 the load is split over two collectors, each with a durable buffer of its own. The figure is CPU seconds of the collector's process per million events.
 */
interface Case {
  readonly payload: PayloadName;
  readonly batch: number;
  readonly gzip: boolean;
}

const CASES: readonly Case[] = [
  ...(Object.keys(PAYLOADS) as PayloadName[]).flatMap((payload) => [
    { payload, batch: 1_000, gzip: false },
    { payload, batch: 1_000, gzip: true },
  ]),
  ...(['ndjson', 'otlp-proto'] as const).flatMap((payload) => [
    { payload, batch: 100, gzip: false },
    { payload, batch: 1, gzip: false },
  ]),
];
/** Requests of one record are dear; fewer of them give the same figure. */
const EVENTS_MAX_OF_SINGLE = 60_000;
/** Share of the events that is sent before measuring, so that code is compiled. */
const WARM_UP = 0.2;

const flags = readFlags(process.argv.slice(2), {
  payload: '',
  batch: 1_000,
  gzip: false,
  events: 300_000,
  clients: 4,
  processes: 1,
  quick: false,
});

/** CPU of all processes that were started, s. */
function cpuOf(servers: readonly RunningServer[]): number {
  return servers.reduce((sum, s) => sum + cpuSeconds(s.pid), 0);
}

async function measure(one: Case): Promise<Record<string, unknown>> {
  const file = join(packageRoot, 'bench', '_sink_process.ts');
  const sink = spawn(process.execPath, ['--import', 'tsx', file], {
    cwd: packageRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const folders: string[] = [];
  const servers: RunningServer[] = [];
  try {
    const sinkUrl = await announced(sink, /sink\s+(http:\S+)/);
    for (let i = 0; i < flags.processes; i += 1) {
      const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
      folders.push(dataDir);
      const env = { CLICKHOUSE_URL: sinkUrl };
      servers.push(await startServer(dataDir, { arguments: ['--roles', 'collector'], env }));
    }
    return await load(one, servers);
  } finally {
    await Promise.all(servers.map((s) => s.stop()));
    const ended = once(sink, 'close');
    sink.kill('SIGTERM');
    await ended;
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  }
}

/** Each process gets its share of the events, all at once. */
async function load(
  one: Case,
  servers: readonly RunningServer[],
): Promise<Record<string, unknown>> {
  const total = one.batch === 1 ? Math.min(flags.events, EVENTS_MAX_OF_SINGLE) : flags.events;
  const clients = one.batch === 1 ? Math.max(flags.clients, 16) : flags.clients;
  const events = Math.ceil(total / servers.length);
  const settle = { timeoutMs: 120_000, everyMs: 50, what: 'rows in the sink' };
  const runAll = async (count: number, onStart?: () => void) => {
    const before = await Promise.all(servers.map((s) => s.stored()));
    const plan = { ...one, clients, rate: 0, seconds: 0, events: count };
    const loads = await Promise.all(
      servers.map((s) => runLoad({ ...plan, url: s.collector }, onStart)),
    );
    for (const [i, server] of servers.entries()) {
      const owed = (before[i] ?? 0) + (loads[i]?.events ?? 0);
      await until(async () => (await server.stored()) >= owed, settle);
    }
    return loads;
  };
  await runAll(Math.ceil(events * WARM_UP));
  let before = 0;
  const loads = await runAll(events, () => (before ||= cpuOf(servers)));
  const cpu = cpuOf(servers) - before;
  const sum = (of: (l: (typeof loads)[number]) => number): number =>
    loads.reduce((n, l) => n + of(l), 0);
  for (const { statuses, requests } of loads)
    if (statuses['200'] !== requests)
      throw new Error(`not all was accepted: ${JSON.stringify(statuses)}`);
  const sent = sum((l) => l.events);
  return {
    ...one,
    processes: servers.length,
    events: sent,
    bytes_an_event: Math.round(sum((l) => l.body_bytes) / sent),
    cpu_seconds_per_million: round((cpu / sent) * 1e6, 2),
    events_per_second: Math.round(sum((l) => l.events / l.seconds)),
    ack_ms: loads[0]?.ack_ms,
    rss_peak_mb: Math.max(...servers.map((s) => memoryMb(s.pid).peak)),
  };
}

const only =
  flags.payload === ''
    ? CASES
    : [{ payload: payloadNamed(flags.payload), batch: flags.batch, gzip: flags.gzip }];
const cases = flags.quick ? only.filter((c) => c.batch >= 1_000 && !c.gzip) : only;
const results: Record<string, unknown>[] = [];
for (const one of cases) {
  const result = await measure(one);
  console.error(JSON.stringify(result));
  results.push(result);
}
report('collect', flags, { cases: results });
