import { createHash, randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { computeSlos, type SloState } from '../../alerts/compute.ts';
import { FigureReader } from '../../alerts/figures.ts';
import { prepareRollup } from '../../alerts/main.ts';
import { applyOverrides, loadSlos } from '../../alerts/registry.ts';
import { toSloStatus, type SloStatus } from '../../alerts/status.ts';
import { UnitJudge } from '../../alerts/units.ts';
import type { IngestBatch, IngestResult } from '../../collector/ingest.ts';
import { openOneShot, type OneShotCollector } from '../../collector/one_shot.ts';
import { backtest, type RuleBacktest } from '../../detectors/backtest.ts';
import type { FindingContent } from '../../detectors/finding_identity.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import type { SloDefinition } from '../../model/define_slo.ts';
import { param, sql } from '../../model/sql.ts';
import { systemClock } from '../../runtime/clock.ts';
import type { Config } from '../../runtime/config.ts';
import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { Lifecycle } from '../../runtime/lifecycle.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { Operations } from '../../runtime/operations.ts';
import { Hints } from '../../runtime/signals.ts';
import { openStore, type Store } from '../../store/client.ts';
import { migrate } from '../../store/migrate.ts';
import { nsOfClickHouseTime } from '../../store/read_events.ts';
import { readPieces, recordsOf, type Line } from './read_pieces.ts';

/** Refused lines that are shown, with the reason; all are counted. */
export const REFUSALS_SHOWN_MAX = 3;
/** Entries of the timeline. */
export const TIMELINE_MAX = 500;
/** Longest wait for the store to take the last of what was read, ms. */
const FINISH_MS_MAX = 600_000;
const FULL_WAIT_MS = 50;

export interface FileCount {
  readonly file: string;
  records: number;
  accepted: number;
  refused: number;
}

/** A line that gave no event: where and why, never what stood in it. */
export interface ShownRefusal {
  readonly file: string;
  readonly line: number;
  readonly code: string;
  readonly message: string;
}

export interface TimelineEntry {
  /** ISO 8601. */
  readonly at: string;
  /** `finding`, or the kind of the event. */
  readonly what: string;
  readonly severity: string;
  readonly text: string;
  readonly client_id: string;
}

/** Everything that one run tells. */
export interface Analysis {
  readonly source: string;
  readonly files: readonly FileCount[];
  readonly refusals: readonly ShownRefusal[];
  /** Events stored; a record may be several events, and one that was read before is none. */
  readonly events: number;
  /** Of them, of a vendor's type that no mapping knows. */
  readonly unclassified: number;
  /** First and last event, ISO 8601; null without events. */
  readonly from: string | null;
  readonly to: string | null;
  readonly by_kind: Readonly<Record<string, number>>;
  readonly rules: readonly RuleBacktest[];
  readonly findings: readonly FindingContent[];
  readonly slis: readonly SloStatus[];
  readonly timeline: readonly TimelineEntry[];
}

export interface AnalysisInput {
  readonly config: Config;
  /** An empty folder for the store and the buffer; whoever made it removes it. */
  readonly folder: string;
  readonly source: SourceDefinition;
  readonly files: readonly string[];
  readonly progress: (label: string, done: number, total: number) => void;
}

/**
 * Reads exported logs through the whole pipeline into a store of its own, and runs every rule and SLO over them. References
 * are made with the configured hash key where there is one, so that they can be compared with an installation's, else
 * with a key that nobody keeps. Throws `invalid_argument` where a file cannot be read.
 */
export async function analyze(input: AnalysisInput): Promise<Analysis> {
  const runtime = runtimeOf(input.config, input.folder);
  const store = openStore({ dataDir: input.folder });
  try {
    await migrate(store);
    await prepareRollup(store, () => Promise.resolve(true));
    const collector = await openOneShot(runtime, store);
    const reading = new FileReading(input, collector);
    try {
      for (const file of input.files) await reading.read(file);
    } finally {
      await collector.finish(FINISH_MS_MAX);
    }
    const { files, refusals } = reading;
    return { source: input.source.id, files, refusals, ...(await judge(store, runtime, input)) };
  } finally {
    await store.close();
  }
}

function runtimeOf(config: Config, folder: string): Runtime {
  const log = createLog({ level: 'silent' });
  return {
    config: { ...config, dataDir: folder },
    log,
    metrics: new Metrics({ processMetrics: false }),
    clock: systemClock,
    lifecycle: new Lifecycle(log),
    keyRing: KeyRing.fromKey(config.hashKey ?? randomBytes(32).toString('hex')),
    hints: new Hints(),
    operations: new Operations(),
  };
}

/** Bytes of a file; 0 where only reading it to its end can tell. */
function sizeOf(file: string): number {
  return file === '-' ? 0 : (statSync(file, { throwIfNoEntry: false })?.size ?? 0);
}

class FileReading {
  readonly files: FileCount[] = [];
  readonly refusals: ShownRefusal[] = [];
  readonly #input: AnalysisInput;
  readonly #collector: OneShotCollector;

  constructor(input: AnalysisInput, collector: OneShotCollector) {
    this.#input = input;
    this.#collector = collector;
  }

  async read(file: string): Promise<void> {
    const counts: FileCount = { file, records: 0, accepted: 0, refused: 0 };
    this.files.push(counts);
    const size = sizeOf(file);
    let bytes = 0;
    const onBytes = (n: number): void => {
      bytes += n;
    };
    for await (const lines of readPieces(file, this.#input.source, onBytes)) {
      await this.#ingest(lines, counts);
      this.#input.progress(`reading ${file}, bytes`, bytes, Math.max(bytes, size));
    }
  }

  async #ingest(lines: readonly Line[], counts: FileCount): Promise<void> {
    const { source } = this.#input;
    const hash = createHash('sha256').update(source.id).update('\0');
    for (const line of lines) hash.update(line.bytes).update('\n');
    const contentHash = hash.digest('hex');
    let positions: number[] = [];
    const batch = (): IngestBatch => {
      positions = [];
      const records = recordsOf(lines, source, positions);
      return { receiver: source.id, records, tables: [], contentHash };
    };
    const result = await this.#untilThereIsRoom(batch);
    counts.records += result.accepted + result.rejected;
    counts.accepted += result.accepted;
    counts.refused += result.rejected;
    for (const { index, code, message } of result.errors) {
      if (this.refusals.length >= REFUSALS_SHOWN_MAX) break;
      this.refusals.push({ file: counts.file, line: positions[index] ?? 0, code, message });
    }
  }

  /** The store takes what waits, so a full buffer passes. */
  async #untilThereIsRoom(batch: () => IngestBatch): Promise<IngestResult> {
    for (;;) {
      try {
        return await this.#collector.ingest.ingest(batch());
      } catch (error) {
        if (!(error instanceof GrantscopeError) || !error.retriable) throw error;
        await sleep(FULL_WAIT_MS);
      }
    }
  }
}

type Judged = Omit<Analysis, 'source' | 'files' | 'refusals'>;

async function judge(store: Store, runtime: Runtime, input: AnalysisInput): Promise<Judged> {
  const { tenant, clients, detectors: configured, slos: overrides } = runtime.config;
  const found = await readKinds(store, tenant);
  const range = { from: found.from, to: found.to + 1n };
  const detectors = bindDetectors(await loadDetectors(), configured);
  const progress = (done: number, total: number): void => input.progress('rules', done, total);
  const { rules, findings } = await backtest({
    store,
    tenant,
    detectors,
    clients,
    range,
    progress,
  });
  const { enabled } = applyOverrides(await loadSlos(), overrides);
  const lastMs = Number(found.to / 1_000_000n);
  const states = await slisOf(store, tenant, enabled, lastMs);
  const sorted = [...findings].sort(byGravity);
  return {
    events: found.events,
    unclassified: found.byKind['unclassified'] ?? 0,
    from: found.events === 0 ? null : iso(found.from),
    to: found.events === 0 ? null : iso(found.to),
    by_kind: found.byKind,
    rules,
    findings: sorted,
    slis: states.map(toSloStatus),
    timeline: await timelineOf(store, tenant, sorted),
  };
}

async function slisOf(
  store: Store,
  tenant: string,
  slos: readonly SloDefinition[],
  nowMs: number,
): Promise<readonly SloState[]> {
  await new UnitJudge(store, tenant).round(slos, nowMs);
  return new FigureReader(store, tenant, createLog({ level: 'warn' })).complete(
    await computeSlos(store, tenant, slos, nowMs),
  );
}

const SEVERITY_ORDER = ['critical', 'high', 'medium', 'low', 'info'];

function byGravity(a: FindingContent, b: FindingContent): number {
  const order = SEVERITY_ORDER.indexOf(a.severity) - SEVERITY_ORDER.indexOf(b.severity);
  if (order !== 0) return order;
  if (a.risk !== b.risk) return b.risk - a.risk;
  if (a.first_event_time !== b.first_event_time)
    return a.first_event_time < b.first_event_time ? -1 : 1;
  return a.finding_id < b.finding_id ? -1 : 1;
}

function iso(ns: bigint): string {
  return new Date(Number(ns / 1_000_000n)).toISOString();
}

async function readKinds(
  store: Store,
  tenant: string,
): Promise<{ events: number; from: bigint; to: bigint; byKind: Record<string, number> }> {
  const rows = await store.query<{ kind: string; n: string; first: string; last: string }>(sql`
    SELECT toString(kind) AS kind, uniqExact(event_id) AS n, min(time) AS first, max(time) AS last
    FROM grantscope.auth_events WHERE tenant = ${param.string(tenant)} GROUP BY kind ORDER BY n DESC, kind`);
  const times = rows.flatMap((r) => [nsOfClickHouseTime(r.first), nsOfClickHouseTime(r.last)]);
  return {
    events: rows.reduce((sum, r) => sum + Number(r.n), 0),
    from: times.reduce((a, b) => (b < a ? b : a), times[0] ?? 0n),
    to: times.reduce((a, b) => (b > a ? b : a), 0n),
    byKind: Object.fromEntries(rows.map((r) => [r.kind, Number(r.n)])),
  };
}

/** Events that an investigator looks for beside the findings: what changed clients, keys and grants. */
const TELLING_KINDS = [
  'token_reuse_detected',
  'client_registered',
  'client_updated',
  'client_deleted',
  'client_credential_changed',
  'policy_changed',
  'key_created',
  'key_rotated',
  'key_disabled',
  'key_deleted',
  'secret_read',
  'secret_changed',
  'account_locked',
  'impersonation',
  'session_revoked',
  'grant_revoked',
  'consent_revoked',
  'elevation_granted',
  'elevation_ended',
  'risk_signal',
];

/** Findings first where there are too many: then events fill what is left, the earliest first. */
async function timelineOf(
  store: Store,
  tenant: string,
  findings: readonly FindingContent[],
): Promise<TimelineEntry[]> {
  const told = findings
    .filter((f) => f.severity !== 'info')
    .slice(0, TIMELINE_MAX)
    .map((f): TimelineEntry => ({
      at: f.first_event_time,
      what: 'finding',
      severity: f.severity,
      text: `${f.rule_id} (${f.verdict.replaceAll('_', ' ')}): ${f.summary}`,
      client_id: f.client_id,
    }));
  const rows = await store.query<{ at: string; kind: string; outcome: string; client: string }>(sql`
    SELECT time AS at, toString(kind) AS kind, toString(outcome) AS outcome, toString(client_id) AS client FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND auth_events.kind IN ${param.strings(TELLING_KINDS)}
    ORDER BY time, event_id LIMIT 1 BY event_id LIMIT ${param.uint(TIMELINE_MAX - told.length)}`);
  const events = rows.map((r): TimelineEntry => ({
    at: iso(nsOfClickHouseTime(r.at)),
    what: r.kind,
    severity: '',
    text: `${r.kind.replaceAll('_', ' ')}${r.outcome === 'success' ? '' : ` (${r.outcome})`}`,
    client_id: r.client,
  }));
  return [...told, ...events].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}
