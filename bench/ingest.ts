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
  type Metrics,
  type RunningServer,
} from './harness/server.ts';
import { trendOf } from './harness/trend.ts';

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
  /** How late Node's loop came back to its timers since the look before, ms: what a request waits for that comes in between. */
  readonly loop_p99_ms: number;
  readonly loop_max_ms: number;
}

/** Looks at the server every two seconds until told to stop. */
function watch(server: RunningServer): { readonly samples: Sample[]; stop: () => Promise<void> } {
  const samples: Sample[] = [];
  const began = performance.now();
  let running: Promise<void> | undefined;
  const look = async (): Promise<void> => {
    try {
      const metrics = await server.metrics();
      const memory = memoryMb(server.pid);
      samples.push({
        second: Math.round((performance.now() - began) / 1_000),
        rss_mb: memory.now,
        anonymous_mb: memory.anonymous,
        heap_mb: Math.round(metrics.sum('nodejs_heap_size_used_bytes') / 1e6),
        external_mb: Math.round(metrics.sum('nodejs_external_memory_bytes') / 1e6),
        waiting: Math.max(0, metrics.sum('grantscope_records_received_total') - metrics.stored()),
        detector_lag_s: round(metrics.max('grantscope_detector_lag_seconds')),
        loop_p99_ms: round(metrics.sum('nodejs_eventloop_lag_p99_seconds') * 1_000),
        loop_max_ms: round(metrics.sum('nodejs_eventloop_lag_max_seconds') * 1_000),
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
  const metricsBefore = await server.metrics();
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
    // Of the acknowledgement, what the disk takes: write and fsync of a group commit.
    commit_ms_at_most: commitQuantiles(metricsBefore, await server.metrics()),
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
    // The median and the worst of the looks, each of some two seconds.
    loop_ms: {
      p99_of_median_look: quantile(
        samples.map((s) => s.loop_p99_ms),
        0.5,
      ),
      p99_of_worst_look: quantile(
        samples.map((s) => s.loop_p99_ms),
        1,
      ),
      max: quantile(
        samples.map((s) => s.loop_max_ms),
        1,
      ),
    },
    rss_mb_trend: trendOf(samples.map((s) => ({ second: s.second, value: s.rss_mb }))) ?? null,
    anonymous_mb_trend:
      trendOf(samples.map((s) => ({ second: s.second, value: s.anonymous_mb }))) ?? null,
    rss_mb_over_time: { first: samples[0]?.rss_mb ?? 0, last: samples.at(-1)?.rss_mb ?? 0 },
    memory_mb_by_minute: byMinute(samples),
    samples,
  };
}

/** A histogram knows no more than the bucket: its upper bound, ms; Infinity beyond the last one. */
function commitQuantiles(before: Metrics, after: Metrics): Record<string, number> {
  const name = 'grantscope_spool_commit_seconds';
  const bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
  const since = (series: string, label?: string): number =>
    after.sum(series, label) - before.sum(series, label);
  const all = since(`${name}_count`);
  const at = (q: number): number =>
    1_000 * (bounds.find((b) => since(`${name}_bucket`, `le="${b}"`) >= q * all) ?? Infinity);
  return {
    mean: round((since(`${name}_sum`) / all) * 1_000),
    p50: at(0.5),
    p99: at(0.99),
    p999: at(0.999),
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
