import { cutRecords } from '../collector/receivers/cut_records.ts';
import { createScrubber } from '../collector/processors/scrub.ts';
import { processDraft } from '../collector/processors/process_draft.ts';
import { loadSources } from '../collector/registry.ts';
import type { SourceDefinition, SourceRecord } from '../model/define_source.ts';
import { KeyRing } from '../runtime/keyring.ts';
import { TYPICAL_RECORDS } from './_adapter_records.ts';
import { quantile, readFlags, report, round } from './harness/program.ts';

/**
 * What each source costs: events a CPU second of its adapter's parse, and of the whole way from bytes to the event that
 * is stored (decoded, parsed, redacted, normalised), beside the median source.
 *
 *   npm run bench -- adapters [--seconds 0.5] [--records 1000] [--source okta] [--quick]
 *
 * A body of lines, each a typical record of the source with ids and tokens of its own, is read again and again for
 * `--seconds` of CPU, after a warm-up of a fifth of it. `--quick` takes 0.1 s. Prints and writes bench/results/adapters.json.
 */
const flags = readFlags(
  process.argv.slice(2),
  { seconds: 0.5, records: 1_000, source: '', quick: false },
  ['records'],
);
const seconds = flags.quick ? 0.1 : flags.seconds;
const scrubber = createScrubber();
const keyRing = KeyRing.fromKey('bench-key-bench-key-bench-key-bench-key');
const receivedAt = 1_767_614_401_000_000_000n;

/** CPU seconds of this process so far. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Events a CPU second of `pass`, which tells how many it made. */
function rateOf(pass: () => number): number {
  runFor(pass, seconds / 5);
  const { events, cpu } = runFor(pass, seconds);
  return events / cpu;
}

function runFor(pass: () => number, budget: number): { events: number; cpu: number } {
  const start = cpuSeconds();
  let events = 0;
  for (;;) {
    events += pass();
    const cpu = cpuSeconds() - start;
    if (cpu >= budget) return { events, cpu };
  }
}

function recordsOf(body: Buffer, source: SourceDefinition): SourceRecord[] {
  const records: SourceRecord[] = [];
  for (const cut of cutRecords(body, source)) {
    if (!cut.ok) throw new Error(`${source.id}: ${cut.code}: ${cut.message}`);
    records.push(cut.record);
  }
  return records;
}

function parsed(source: SourceDefinition, record: SourceRecord) {
  const result = source.parse(record, { received_at: receivedAt });
  if (!result.ok) throw new Error(`${source.id}: ${result.code}: ${result.message}`);
  return result.events;
}

function processed(source: SourceDefinition, record: SourceRecord): number {
  const drafts = parsed(source, record);
  drafts.forEach((draft, subIndex) => {
    const result = processDraft(draft, {
      ...{
        source,
        tenant: 'default',
        receivedAt,
        contentSeed: 'seed',
        subIndex,
        keyRing,
        scrubber,
      },
      clientIp: 'keep',
    });
    if (!result.ok) throw new Error(`${source.id}: ${result.code}: ${result.message}`);
  });
  return drafts.length;
}

/** A record that gave no event, or none of a known kind, would cost less than those that matter. */
const isTypical = (source: SourceDefinition, records: readonly SourceRecord[]): boolean =>
  records.every((r) => parsed(source, r).some((draft) => draft.kind !== 'unclassified'));

function measure(source: SourceDefinition) {
  const make = TYPICAL_RECORDS[source.id];
  if (make === undefined) throw new Error(`${source.id}: has no typical record`);
  const lines = Array.from({ length: flags.records }, (_, n) => make(n));
  const body = Buffer.from(lines.join('\n'));
  const records = recordsOf(body, source);
  const sum = (events: (record: SourceRecord) => number) => () =>
    records.reduce((all, record) => all + events(record), 0);
  const events = sum((record) => parsed(source, record).length)();
  if (!isTypical(source, records)) throw new Error(`${source.id}: a typical record says nothing`);
  const parse = rateOf(sum((record) => parsed(source, record).length));
  const whole = rateOf(() =>
    recordsOf(body, source).reduce((all, record) => all + processed(source, record), 0),
  );
  return {
    source: source.id,
    bytes_a_record: Math.round(body.length / flags.records),
    events_a_record: round(events / flags.records, 2),
    parse_events_per_cpu_second: Math.round(parse),
    whole_events_per_cpu_second: Math.round(whole),
  };
}

const sources = [...(await loadSources()).values()].filter(
  ({ id }) => flags.source === '' || id === flags.source,
);
const measured = sources.map(measure);
const median = quantile(
  measured.map((m) => m.whole_events_per_cpu_second),
  0.5,
);
const adapters = measured
  .map((m) => ({ ...m, ratio_to_median: round(m.whole_events_per_cpu_second / median, 2) }))
  .sort((a, b) => b.ratio_to_median - a.ratio_to_median || a.source.localeCompare(b.source));
for (const a of adapters) {
  process.stdout.write(
    `${a.source.padEnd(28)} ${String(a.parse_events_per_cpu_second).padStart(9)} ${String(a.whole_events_per_cpu_second).padStart(8)} ${a.ratio_to_median.toFixed(2).padStart(6)}\n`,
  );
}
report('adapters', flags, { median_events_per_cpu_second: median, adapters });
