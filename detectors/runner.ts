import type { BoundDetector } from '../model/define_detector.ts';
import type { Clock } from '../runtime/clock.ts';
import { messageOf } from '../runtime/errors.ts';
import type { Log } from '../runtime/log.ts';
import { inSpan } from '../runtime/telemetry.ts';
import type { Store } from '../store/client.ts';
import { ClientRegistry, readRegistrations, type StatedClient } from './client_registry.ts';
import { evaluateUnits, readUnits, type Unit } from './engine.ts';
import {
  addChanges,
  closeQuietFindings,
  NO_CHANGES,
  writeFindings,
  type FindingChanges,
  type WriteContext,
} from './findings_store.ts';
import type { DetectorMetrics } from './detector_metrics.ts';
import {
  ingestCondition,
  makeScope,
  readBounds,
  storeNow,
  type IngestRange,
  type ScopeBounds,
} from './scopes.ts';
import { readWatermarks, writeWatermarks } from './watermarks.ts';

/** Limits and rhythms of the runner; the defaults are `RUNNER_LIMITS`. */
export interface RunnerLimits {
  /** Units (entities, or entity-days) that a rule evaluates per cycle; the rest waits for the next cycle. */
  readonly unitsPerCycleMax: number;
  /** Units that are read and evaluated at once. */
  readonly unitsPerPage: number;
  /** Longest stretch of ingest time that is taken up at once after a pause, ms. */
  readonly sliceMs: number;
  /** The sweep stays this far behind: an insert shows up with the time it began at, ms. */
  readonly sweepLagMs: number;
  /** Pause between two sweeps, ms. */
  readonly sweepIntervalMs: number;
  /**
   * How far a first look reaches back behind the one before, ms. A server runs inserts and queries side by side, so
   * a row may show up later than its inserted_at says; the embedded engine runs them one after the other.
   */
  readonly overlapMs: number;
}

export const RUNNER_LIMITS: RunnerLimits = {
  unitsPerCycleMax: 2_000,
  unitsPerPage: 500,
  sliceMs: 3_600_000,
  sweepLagMs: 60_000,
  sweepIntervalMs: 15_000,
  overlapMs: 2_000,
};

const NS_PER_MS = 1_000_000n;

/** A stretch of ingest time that a rule is working through. */
interface Pass extends IngestRange {
  readonly isSweep: boolean;
  readonly after: Unit | undefined;
}

interface RuleState {
  readonly detector: BoundDetector;
  /** Everything up to here was evaluated after it was surely visible: durable. */
  sweptTo: bigint;
  /** Everything visible up to here was evaluated once: in memory. */
  seenTo: bigint;
  pending: Pass | undefined;
  hasNewWatermark: boolean;
}

export interface CycleResult {
  readonly changes: FindingChanges;
  readonly units: number;
  /** True where a rule reached its limit and goes on in the next cycle. */
  readonly hasMore: boolean;
  readonly errors: number;
}

/** What all rules of one cycle share. */
interface Cycle {
  readonly now: bigint;
  readonly registry: ClientRegistry;
  readonly bounds: Map<string, ScopeBounds>;
}

export interface RunnerOptions {
  readonly store: Store;
  readonly tenant: string;
  readonly detectors: readonly BoundDetector[];
  readonly clients: readonly StatedClient[];
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: DetectorMetrics;
  readonly limits?: Partial<RunnerLimits>;
}

/**
 * Evaluates what arrives. Each rule reads new rows twice: once at once, so that a finding appears within a
 * cycle, and once again by the sweep, when every insert that began before is visible for certain. Only the
 * sweep moves the durable watermark. Evaluation is idempotent, so reading twice changes nothing.
 */
export class Runner {
  readonly #options: RunnerOptions;
  readonly #limits: RunnerLimits;
  #states: RuleState[] | undefined;
  #lastSweep: bigint | undefined;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#limits = { ...RUNNER_LIMITS, ...options.limits };
  }

  /** One cycle over all rules. A rule that fails is counted, logged and tried again in the next cycle. */
  async cycle(): Promise<CycleResult> {
    const { store, tenant } = this.#options;
    const states = (this.#states ??= await this.#loadStates());
    const registrations = await readRegistrations(store, tenant);
    const registry = new ClientRegistry(this.#options.clients, registrations);
    const cycle: Cycle = { now: await storeNow(store), registry, bounds: new Map() };
    const sweepEvery = BigInt(this.#limits.sweepIntervalMs) * NS_PER_MS;
    const isSweepDue = this.#lastSweep === undefined || cycle.now - this.#lastSweep >= sweepEvery;
    if (isSweepDue) this.#lastSweep = cycle.now;
    let total: CycleResult = { changes: NO_CHANGES, units: 0, hasMore: false, errors: 0 };
    for (const state of states) {
      const result = await this.#runRule(state, cycle, isSweepDue);
      total = {
        changes: addChanges(total.changes, result.changes),
        units: total.units + result.units,
        hasMore: total.hasMore || result.hasMore,
        errors: total.errors + result.errors,
      };
    }
    await this.#saveWatermarks(states);
    return total;
  }

  /** Cycles until nothing is left to do; for imports, tests and shutdown. */
  async drain(): Promise<FindingChanges> {
    let changes = NO_CHANGES;
    for (;;) {
      const result = await this.cycle();
      changes = addChanges(changes, result.changes);
      if (!result.hasMore) return changes;
    }
  }

  async #loadStates(): Promise<RuleState[]> {
    const watermarks = await readWatermarks(this.#options.store, this.#options.tenant);
    return this.#options.detectors.map((detector) => {
      const { id, version } = detector.docs;
      const mark = watermarks.find((w) => w.rule_id === id && w.rule_version === version);
      const sweptTo = mark?.sweptTo ?? 0n;
      return { detector, sweptTo, seenTo: sweptTo, pending: undefined, hasNewWatermark: false };
    });
  }

  async #saveWatermarks(states: readonly RuleState[]): Promise<void> {
    const moved = states.filter((s) => s.hasNewWatermark);
    await writeWatermarks(
      this.#options.store,
      this.#options.tenant,
      moved.map((s) => ({
        rule_id: s.detector.docs.id,
        rule_version: s.detector.docs.version,
        sweptTo: s.sweptTo,
      })),
      this.#options.clock.nowMs(),
    );
    for (const state of moved) state.hasNewWatermark = false;
  }

  async #runRule(state: RuleState, cycle: Cycle, isSweepDue: boolean): Promise<CycleResult> {
    const { metrics, log } = this.#options;
    const rule = state.detector.docs.id;
    const endTimer = metrics.duration.startTimer({ rule });
    let result: CycleResult = { changes: NO_CHANGES, units: 0, hasMore: false, errors: 0 };
    try {
      result = await this.#advance(state, cycle, isSweepDue);
      if (isSweepDue) {
        const closed = await closeQuietFindings(this.#options.store, this.#writeContext(state));
        metrics.countChanges(rule, closed);
        result = { ...result, changes: addChanges(result.changes, closed) };
      }
    } catch (error) {
      metrics.errors.inc({ rule });
      log.error({ err: error, rule }, `detector failed: ${messageOf(error)}`);
      result = { ...result, errors: 1 };
    }
    endTimer();
    metrics.cycles.inc({ rule });
    metrics.saturated.set({ rule }, result.hasMore ? 1 : 0);
    const behind = cycle.now > state.seenTo ? cycle.now - state.seenTo : 0n;
    metrics.lag.set({ rule }, Number(behind / NS_PER_MS) / 1_000);
    return result;
  }

  #writeContext(state: RuleState): WriteContext {
    return {
      tenant: this.#options.tenant,
      ruleId: state.detector.docs.id,
      quietMs: state.detector.docs.quietMs,
      nowMs: this.#options.clock.nowMs(),
    };
  }

  /** Works passes off until the rule is up to date or has reached its limit. */
  async #advance(state: RuleState, cycle: Cycle, isSweepDue: boolean): Promise<CycleResult> {
    let changes = NO_CHANGES;
    let units = 0;
    for (;;) {
      const pass = state.pending ?? (await this.#nextPass(state, cycle, isSweepDue));
      if (pass === undefined) return { changes, units, hasMore: false, errors: 0 };
      state.pending = pass;
      const budget = this.#limits.unitsPerCycleMax - units;
      if (budget <= 0) return { changes, units, hasMore: true, errors: 0 };
      const done = await this.#runPage(
        state,
        cycle,
        pass,
        Math.min(budget, this.#limits.unitsPerPage),
      );
      changes = addChanges(changes, done.changes);
      units += done.units;
    }
  }

  async #nextPass(state: RuleState, cycle: Cycle, isSweepDue: boolean): Promise<Pass | undefined> {
    const visibleTo = cycle.now - BigInt(this.#limits.sweepLagMs) * NS_PER_MS;
    if (isSweepDue && visibleTo > state.sweptTo) {
      const range = await this.#slice(cycle, { from: state.sweptTo, to: visibleTo });
      return { ...range, isSweep: true, after: undefined };
    }
    const seen = state.seenTo > state.sweptTo ? state.seenTo : state.sweptTo;
    if (seen >= cycle.now) return undefined;
    const overlap = this.#options.store.isEmbedded ? 0 : this.#limits.overlapMs;
    const reachingBack = seen - BigInt(overlap) * NS_PER_MS;
    const from = reachingBack > state.sweptTo ? reachingBack : state.sweptTo;
    const range = await this.#slice(cycle, { from, to: cycle.now });
    return { ...range, isSweep: false, after: undefined };
  }

  /** Shortens a range to what is taken up at once; leaps over stretches without rows. */
  async #slice(cycle: Cycle, range: IngestRange): Promise<IngestRange> {
    const sliceNs = BigInt(this.#limits.sliceMs) * NS_PER_MS;
    if (range.to - range.from <= sliceNs) return range;
    const bounds = await this.#boundsOf(cycle, range);
    const end = bounds.firstInserted + sliceNs;
    return bounds.rows === 0 || end >= range.to ? range : { from: range.from, to: end };
  }

  async #boundsOf(cycle: Cycle, range: IngestRange): Promise<ScopeBounds> {
    const key = `${range.from} ${range.to}`;
    const before = cycle.bounds.get(key);
    if (before !== undefined) return before;
    const { store, tenant } = this.#options;
    const bounds = await readBounds(store, tenant, ingestCondition(range));
    cycle.bounds.set(key, bounds);
    return bounds;
  }

  async #runPage(
    state: RuleState,
    cycle: Cycle,
    pass: Pass,
    limit: number,
  ): Promise<{ changes: FindingChanges; units: number }> {
    const { store, tenant, metrics } = this.#options;
    const rule = state.detector.docs.id;
    const bounds = await this.#boundsOf(cycle, pass);
    const scope = makeScope(tenant, ingestCondition(pass), bounds, cycle.registry);
    const page = { after: pass.after, limit };
    const units = bounds.rows === 0 ? [] : await readUnits(store, state.detector, scope, page);
    const work = async () => {
      const evaluated = await evaluateUnits(store, state.detector, tenant, cycle.registry, units);
      const context = this.#writeContext(state);
      return { evaluated, changes: await writeFindings(store, context, evaluated.results) };
    };
    // An idle cycle is not worth a trace.
    const { evaluated, changes } =
      units.length === 0
        ? await work()
        : await inSpan('detect.page', { rule, units: units.length }, work);
    metrics.entities.inc({ rule }, units.length);
    metrics.truncated.inc({ rule }, evaluated.truncated);
    metrics.countChanges(rule, changes);
    if (pass.isSweep) metrics.sweepChanges.inc({ rule }, changes.ids.length);
    if (units.length >= limit) state.pending = { ...pass, after: units.at(-1) };
    else finish(state, pass);
    return { changes, units: units.length };
  }
}

function finish(state: RuleState, pass: Pass): void {
  state.pending = undefined;
  if (pass.to > state.seenTo && pass.from <= state.seenTo) state.seenTo = pass.to;
  if (!pass.isSweep) return;
  state.sweptTo = pass.to;
  state.hasNewWatermark = true;
}
