import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';
import { runLoad } from './harness/load.ts';
import { payloadNamed, PAYLOADS, type PayloadName } from './harness/payloads.ts';
import { readFlags, report, round, until } from './harness/program.ts';
import { announced, cpuSeconds, memoryMb, startServer } from './harness/server.ts';

/**
 * What the collector alone costs: HTTP in, redacted, references by keyed hash, fsynced, shipped as Native blocks to an HTTP
 * sink that discards them: the part that a telemetry collector does. One server and one run a case, after a warm-up.
 *
 *   npm run bench -- collect [--payload ndjson --batch 1000 --gzip] [--events 300000] [--clients 4]
 *
 * Without --payload all cases are run. The figure is CPU seconds of the collector's process per million events.
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
  quick: false,
});

async function measure(one: Case): Promise<Record<string, unknown>> {
  const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
  const file = join(packageRoot, 'bench', '_sink_process.ts');
  const sink = spawn(process.execPath, ['--import', 'tsx', file], {
    cwd: packageRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const sinkUrl = await announced(sink, /sink\s+(http:\S+)/);
    const server = await startServer(dataDir, {
      arguments: ['--roles', 'collector'],
      env: { CLICKHOUSE_URL: sinkUrl },
    });
    try {
      const events = one.batch === 1 ? Math.min(flags.events, EVENTS_MAX_OF_SINGLE) : flags.events;
      const clients = one.batch === 1 ? Math.max(flags.clients, 16) : flags.clients;
      const plan = { ...one, url: server.collector, clients, rate: 0, seconds: 0 };
      let sent = 0;
      const stored = async (): Promise<boolean> => (await server.stored()) >= sent;
      const settle = { timeoutMs: 120_000, everyMs: 50, what: 'rows in the sink' };
      const warm = await runLoad({ ...plan, events: Math.ceil(events * WARM_UP) });
      sent += warm.events;
      await until(stored, settle);
      let before = 0;
      const load = await runLoad({ ...plan, events }, () => (before = cpuSeconds(server.pid)));
      sent += load.events;
      await until(stored, settle);
      const cpu = cpuSeconds(server.pid) - before;
      if (load.statuses['200'] !== load.requests)
        throw new Error(`not all was accepted: ${JSON.stringify(load.statuses)}`);
      return {
        ...one,
        events: load.events,
        bytes_an_event: Math.round(load.body_bytes / load.events),
        cpu_seconds_per_million: round((cpu / load.events) * 1e6, 2),
        events_per_second: Math.round(load.events / load.seconds),
        ack_ms: load.ack_ms,
        rss_peak_mb: memoryMb(server.pid).peak,
      };
    } finally {
      await server.stop();
    }
  } finally {
    const ended = once(sink, 'close');
    sink.kill('SIGTERM');
    await ended;
    rmSync(dataDir, { recursive: true, force: true });
  }
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
