import { backtest } from '../detectors/backtest.ts';
import { bindDetectors, loadDetectors } from '../detectors/registry.ts';
import { quantile, readFlags, report, round } from './harness/program.ts';
import { openSeeded, SEED_END_MS, SEED_TENANT } from './harness/seed.ts';

/**
 * How long a sweep over a whole day takes: every rule's query of candidates and the evaluation of what it names, with
 * nothing left out because nothing new concerns the rule, over the 24 hours that the generated events fill.
 *
 *   npm run bench -- sweep [--events 10000000] [--data FOLDER]
 *
 * FOLDER is one that `timeline` or `panels` filled.
 */
const flags = readFlags(process.argv.slice(2), {
  events: 10_000_000,
  data: '',
  quick: false,
});
const DAY_NS = 86_400_000_000_000n;

const seeded = await openSeeded(
  flags.quick ? Math.min(flags.events, 2_000_000) : flags.events,
  flags.data,
);
try {
  const to = BigInt(SEED_END_MS) * 1_000_000n;
  const range = { from: to - DAY_NS, to };
  const detectors = bindDetectors(await loadDetectors(), {});
  // In one run, as the server has it: what is new, and who is registered, is read once for all rules.
  const marks: number[] = [];
  const cpu = process.cpuUsage();
  const started = performance.now();
  const { rules } = await backtest({
    store: seeded.store,
    tenant: SEED_TENANT,
    detectors,
    clients: [],
    range,
    progress: () => marks.push(performance.now()),
  });
  const shared = ((marks[0] ?? started) - started) / 1_000;
  const seconds = rules.map((r, i) => ({
    rule: r.rule_id,
    seconds: round(((marks[i + 1] ?? 0) - (marks[i] ?? 0)) / 1_000),
    findings: r.findings,
  }));
  const used = process.cpuUsage(cpu);
  const slowest = seconds.sort((a, b) => b.seconds - a.seconds);
  report('sweep', flags, {
    events: seeded.events,
    rules: seconds.length,
    seconds: round(seconds.reduce((sum, r) => sum + r.seconds, shared)),
    seconds_shared: round(shared),
    cpu_seconds: round((used.user + used.system) / 1e6),
    seconds_per_rule: {
      p50: quantile(
        seconds.map((r) => r.seconds),
        0.5,
      ),
      max: slowest[0]?.seconds ?? 0,
    },
    slowest: slowest.slice(0, 10),
    findings: seconds.reduce((sum, r) => sum + r.findings, 0),
    rss_mb: Math.round(process.memoryUsage().rss / 1e6),
  });
} finally {
  await seeded.close();
}
