import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DetectorMetrics } from '../detectors/detector_metrics.ts';
import { bindDetectors, loadDetectors } from '../detectors/registry.ts';
import { Runner, type CycleResult } from '../detectors/runner.ts';
import { systemClock } from '../runtime/clock.ts';
import { createLog } from '../runtime/log.ts';
import { Metrics } from '../runtime/metrics.ts';
import { sql } from '../model/sql.ts';
import { openStore, type Store } from '../store/client.ts';
import { migrate } from '../store/migrate.ts';
import { insertTraffic, TRAFFIC, type Traffic } from './_detection_traffic.ts';
import { readFlags, report, round } from './harness/program.ts';

/**
 * What detection costs: all rules over the embedded engine, at a steady rate of new events.
 *
 *   node --import tsx bench/detection.ts --traffic honest --rate 20000 --seconds 60
 *
 * One batch is inserted each second, then one cycle runs; the CPU of the whole process, engine included, is taken around
 * the cycle alone while merges are paused, so that storing does not count. Cycles are unhurried, as those of the server are;
 * a last one that is not looks at what resting rules have left. Sweeps run every `--sweep` seconds and stay
 * as far behind, where a server takes 60. Prints and writes to bench/results/detection_<traffic>.json: CPU seconds per million
 * events, of cycles with a sweep and of those without, and how long cycles took.
 */
const flags = readFlags(
  process.argv.slice(2),
  { traffic: 'honest', rate: 20_000, seconds: 60, sweep: 20 },
  ['rate', 'seconds', 'sweep'],
);

interface Options {
  readonly traffic: Traffic;
  readonly rate: number;
  readonly seconds: number;
  readonly sweep: number;
}

function readOptions(): Options {
  const traffic = TRAFFIC.find((t) => t === flags.traffic);
  if (traffic === undefined) throw new Error(`--traffic: must be one of ${TRAFFIC.join(', ')}`);
  return { ...flags, traffic };
}

/** Registered clients, so that the rules that compare with a registration have work. */
const CLIENTS = Array.from({ length: 40 }, (_, i) => ({
  client_id: `client-${i}`,
  scope: 'openid orders:read',
  redirect_uris: ['https://app.example.com/cb'],
}));

interface CycleCost {
  readonly cpuMs: number;
  readonly wallMs: number;
  readonly isSweep: boolean;
}

interface Measured {
  readonly cycles: readonly CycleCost[];
  readonly seconds: number;
  readonly findings: number;
  /** Lines of the detectors' own counters that are not 0. */
  readonly counters: readonly string[];
}

/** CPU of the process, engine included, and time that one cycle takes. */
async function costOf(cycle: () => Promise<CycleResult>): Promise<CycleCost> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const { isSweep } = await cycle();
  const { user, system } = process.cpuUsage(cpu);
  return { cpuMs: (user + system) / 1_000, wallMs: performance.now() - start, isSweep };
}

/** Merges belong to inserts; they wait while a cycle is measured. */
async function pauseMerges(store: Store): Promise<void> {
  await store.command(sql`SYSTEM STOP MERGES`);
  for (;;) {
    const [row] = await store.query<{ n: string }>(sql`SELECT count() AS n FROM system.merges`);
    if (Number(row?.n ?? 0) === 0) return;
    await sleep(2);
  }
}

const COUNTERS =
  /^grantscope_detector_(entities|sweep_changes|skipped|watch_evictions|errors|duration_seconds_sum)/;

async function measure(options: Options, dataDir: string): Promise<Measured> {
  const store = openStore({ dataDir });
  await migrate(store);
  const metrics = new Metrics({ processMetrics: false });
  const runner = new Runner({
    store,
    tenant: 'default',
    detectors: bindDetectors(await loadDetectors(), {}),
    clients: options.traffic === 'mixed' ? CLIENTS : [],
    clock: systemClock,
    log: createLog({ level: 'warn' }),
    metrics: new DetectorMetrics(metrics),
    limits: { sweepIntervalMs: options.sweep * 1_000, sweepLagMs: options.sweep * 1_000 },
  });
  await runner.cycle();
  const cycles: CycleCost[] = [];
  const perSession = options.traffic === 'honest' ? 3 : 20;
  const began = performance.now();
  for (let second = 0; second < options.seconds; second += 1) {
    const first = Math.ceil((second * options.rate) / perSession);
    await store.command(insertTraffic(options.traffic, first, options.rate));
    await pauseMerges(store);
    const isLast = second + 1 === options.seconds;
    cycles.push(await costOf(() => runner.cycle({ isUnhurried: !isLast })));
    await store.command(sql`SYSTEM START MERGES`);
    const waitMs = began + (second + 1) * 1_000 - performance.now();
    if (waitMs > 0) await sleep(waitMs);
  }
  const seconds = (performance.now() - began) / 1_000;
  const [row] = await store.query<{ n: string }>(
    sql`SELECT count() AS n FROM grantscope.findings FINAL`,
  );
  const lines = (await metrics.registry.metrics()).split('\n');
  const counters = lines.filter((l) => COUNTERS.test(l) && !l.endsWith(' 0'));
  await store.close();
  return { cycles, seconds, findings: Number(row?.n ?? 0), counters };
}

function summary(options: Options, measured: Measured): Record<string, unknown> {
  const millions = (options.rate * options.seconds) / 1e6;
  const cpuOf = (isSweep: boolean): number =>
    measured.cycles.filter((c) => c.isSweep === isSweep).reduce((sum, c) => sum + c.cpuMs, 0) /
    1_000;
  const walls = (isSweep: boolean): number[] =>
    measured.cycles
      .filter((c) => c.isSweep === isSweep)
      .map((c) => c.wallMs)
      .sort((a, b) => a - b);
  const at = (list: readonly number[], q: number): number =>
    round(list[Math.min(list.length - 1, Math.floor(list.length * q))] ?? 0);
  return {
    events_per_second: Math.round((millions * 1e6) / measured.seconds),
    cpu_seconds_per_million_events: {
      live: round(cpuOf(false) / millions, 2),
      cycles_with_sweep: round(cpuOf(true) / millions, 2),
      total: round((cpuOf(false) + cpuOf(true)) / millions, 2),
    },
    live_cycle_ms: { p50: at(walls(false), 0.5), p99: at(walls(false), 0.99) },
    sweep_cycle_ms: { p50: at(walls(true), 0.5), max: at(walls(true), 1) },
    findings: measured.findings,
    rss_mb: Math.round(process.memoryUsage().rss / 1e6),
    counters: measured.counters,
  };
}

async function main(): Promise<void> {
  const options = readOptions();
  const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
  try {
    const figures = summary(options, await measure(options, dataDir));
    report('detection', flags, figures, `detection_${options.traffic}`);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

await main();
