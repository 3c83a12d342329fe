import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runLoad, type LoadPlan } from './harness/load.ts';
import { payloadNamed } from './harness/payloads.ts';
import { quantile, readFlags, report, round, until } from './harness/program.ts';
import {
  cpuSeconds,
  cpuSecondsByThread,
  folderBytes,
  memoryMb,
  startServer,
  type RunningServer,
} from './harness/server.ts';

/**
 * What ingest costs, end to end, on the built product (`npm run build:server` first): a real `grantscope serve` on the
 * embedded engine takes records over HTTP; redacts, references, fsyncs, inserts, rolls up and runs the detectors. The load
 * generator is a process of its own on the same machine; its CPU is not in the figure.
 *
 *   npm run bench -- ingest [--events 300000]                    closed loop: CPU per million events, highest rate
 *   npm run bench -- ingest --rate 20000 --seconds 60            open loop: ACK latency, lag, memory over time
 *
 * Parameters: --payload ndjson|keycloak|otlp-proto|otlp-json|otlp-body-proto, --batch, --gzip, --clients; --name gives
 * the result another file than bench/results/ingest.json.
 */
const flags = readFlags(process.argv.slice(2), {
  payload: 'ndjson',
  batch: 1_000,
  gzip: false,
  clients: 4,
  events: 300_000,
  rate: 0,
  seconds: 30,
  warm: 60_000,
  name: 'ingest',
});
/** A drain that takes longer than this is a figure of its own: the run fails. */
const DRAIN_MS_MAX = 300_000;
const SAMPLE_MS = 2_000;

interface Sample {
  readonly second: number;
  readonly rss_mb: number;
  /** Of it, what is not mapped from files (the engine's library among them). */
  readonly anonymous_mb: number;
  /** JavaScript objects, and buffers outside of that heap. */
  readonly heap_mb: number;
  readonly external_mb: number;
  /** Records that were received and are not yet stored. */
  readonly waiting: number;
  /** The rule that is furthest behind the newest insert, s. */
  readonly detector_lag_s: number;
}

/** Looks at the server every two seconds until told to stop. */
function watch(server: RunningServer): { readonly samples: Sample[]; stop: () => Promise<void> } {
  const samples: Sample[] = [];
  const began = performance.now();
  let running: Promise<void> | undefined;
  const look = async (): Promise<void> => {
    try {
      const received = await server.metric('grantscope_records_received_total');
      samples.push({
        second: Math.round((performance.now() - began) / 1_000),
        rss_mb: memoryMb(server.pid).now,
        anonymous_mb: memoryMb(server.pid).anonymous,
        heap_mb: Math.round((await server.metric('nodejs_heap_size_used_bytes')) / 1e6),
        external_mb: Math.round((await server.metric('nodejs_external_memory_bytes')) / 1e6),
        waiting: Math.max(0, received - (await server.stored())),
        detector_lag_s: round(await server.metricMax('grantscope_detector_lag_seconds')),
      });
    } catch (error) {
      console.error(error);
    } finally {
      running = undefined;
    }
  };
  const timer = setInterval(() => {
    running ??= look();
  }, SAMPLE_MS);
  return {
    samples,
    stop: async () => {
      clearInterval(timer);
      await running;
    },
  };
}

async function measure(server: RunningServer, dataDir: string): Promise<Record<string, unknown>> {
  const plan: LoadPlan = {
    url: server.collector,
    payload: payloadNamed(flags.payload),
    batch: flags.batch,
    gzip: flags.gzip,
    clients: flags.clients,
    events: flags.events,
    rate: flags.rate,
    seconds: flags.seconds,
  };
  const settle = {
    timeoutMs: DRAIN_MS_MAX,
    everyMs: 50,
    what: 'what was acknowledged, in the store',
  };
  let owed = 0;
  if (flags.warm > 0) {
    owed += (await runLoad({ ...plan, rate: 0, events: flags.warm })).events;
    await until(async () => (await server.stored()) >= owed, settle);
  }
  const store = join(dataDir, 'clickhouse');
  const bytesBefore = folderBytes(store);
  let cpuBefore = 0;
  let threadsBefore: Readonly<Record<string, number>> = {};
  let sampler: ReturnType<typeof watch> | undefined;
  const load = await runLoad(plan, () => {
    cpuBefore = cpuSeconds(server.pid);
    threadsBefore = cpuSecondsByThread(server.pid);
    sampler = watch(server);
  });
  const acknowledged = performance.now();
  owed += load.events;
  await until(async () => (await server.stored()) >= owed, settle);
  const storedAfter = (performance.now() - acknowledged) / 1_000;
  const cpu = cpuSeconds(server.pid) - cpuBefore;
  const perMillion = (seconds: number): number => round((seconds / load.events) * 1e6, 2);
  const byThread = Object.entries(cpuSecondsByThread(server.pid)).map(
    ([role, seconds]) => [role, perMillion(seconds - (threadsBefore[role] ?? 0))] as const,
  );
  await sampler?.stop();
  const samples = sampler?.samples ?? [];
  if (load.statuses['200'] !== load.requests)
    console.error(`not all was accepted: ${JSON.stringify(load.statuses)}`);
  return {
    ready_ms: server.readyMs,
    events: load.events,
    statuses: load.statuses,
    bytes_an_event_sent: Math.round(load.body_bytes / load.events),
    events_per_second: Math.round(load.events / load.seconds),
    cpu_seconds_per_million: perMillion(cpu),
    // What threads that ended meanwhile took is in the sum alone.
    cpu_seconds_per_million_by_thread: Object.fromEntries(byThread),
    ack_ms: load.ack_ms,
    stored_after_last_ack_seconds: round(storedAfter),
    // Right after the run: with parts that merges will drop within minutes. bench/disk.ts has the settled figure.
    bytes_on_disk_per_event_unsettled: Math.round((folderBytes(store) - bytesBefore) / load.events),
    rss_mb: memoryMb(server.pid),
    ...(flags.rate > 0 ? overTime(samples) : {}),
  };
}

/** How memory and lag went, in figures that fit a table; all samples for whoever wants the curve. */
function overTime(samples: readonly Sample[]): Record<string, unknown> {
  const lags = samples.map((s) => s.waiting / flags.rate);
  return {
    lag_seconds: { p50: round(quantile(lags, 0.5)), max: round(quantile(lags, 1)) },
    detector_lag_seconds_max: quantile(
      samples.map((s) => s.detector_lag_s),
      1,
    ),
    rss_mb_over_time: { first: samples[0]?.rss_mb ?? 0, last: samples.at(-1)?.rss_mb ?? 0 },
    memory_mb_by_minute: byMinute(samples),
    samples,
  };
}

/** Medians of each minute, so that a collection of garbage does not look like a trend. */
function byMinute(samples: readonly Sample[]): readonly Record<string, number>[] {
  const minutes = Math.ceil((samples.at(-1)?.second ?? 0) / 60);
  return Array.from({ length: minutes }, (_, minute) => {
    const of = samples.filter((s) => Math.floor(s.second / 60) === minute);
    const median = (read: (s: Sample) => number): number => quantile(of.map(read), 0.5);
    return {
      rss: median((s) => s.rss_mb),
      anonymous: median((s) => s.anonymous_mb),
      heap: median((s) => s.heap_mb),
      external: median((s) => s.external_mb),
    };
  });
}

const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
try {
  const server = await startServer(dataDir);
  try {
    report('ingest', flags, await measure(server, dataDir), flags.name);
  } finally {
    await server.stop();
  }
} finally {
  rmSync(dataDir, { recursive: true, force: true });
}
