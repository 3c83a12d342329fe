import type { BoundDetector, RefSlice } from '../model/define_detector.ts';
import type { Clock } from '../runtime/clock.ts';
import { messageOf } from '../runtime/errors.ts';
import type { Log } from '../runtime/log.ts';
import { inSpan } from '../runtime/telemetry.ts';
import type { Store } from '../store/client.ts';
import { readRenamedEntities } from '../store/reference_names.ts';
import { BLIND_RULE, BlindParameters, checkBlindness } from './blind.ts';
import { ClientRegistry, readRegistrations, type StatedClient } from './client_registry.ts';
import { evaluateUnits, readUnits, type Unit } from './engine.ts';
import {
  addChanges,
  closeQuietFindings,
  NO_CHANGES,
  readFollowedTokens,
  writeFindings,
  type FindingChanges,
  type WriteContext,
} from './findings_store.ts';
import { SHARED_WORK, type DetectorMetrics } from './detector_metrics.ts';
import { MeteredStore } from './metered_store.ts';
import {
  hasRegistrations,
  isConcerned,
  NewsLog,
  readNews,
  UNKNOWN_NEWS,
  type News,
} from './news.ts';
import {
  ingestCondition,
  makeScope,
  readBounds,
  readLedgerRows,
  storeNow,
  type IngestRange,
} from './scopes.ts';
import { inTurn, turnOf } from './turns.ts';
import { WATCH_LIMITS, Watcher, type WatchLimits } from './watcher.ts';
import { Triggers } from './triggers.ts';
import { readWatermarks, writeWatermarks } from './watermarks.ts';

/** Limits and rhythms of the runner; the defaults are `RUNNER_LIMITS`. */
export interface RunnerLimits extends WatchLimits {
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
   * Ledger rows that one sweep of a rule reads. In a larger ledger it takes as many sweeps to come round, so that what
   * a sweep costs does not grow.
   */
  readonly sweepRowsMax: number;
  /** How much of the past a new process looks at before it begins, so that its memory is not empty, ms. */
  readonly warmMs: number;
  /**
   * How far a first look reaches back behind the one before, ms. A server runs inserts and queries side by side, so
   * a row may show up later than its inserted_at says; the embedded engine runs them one after the other.
   */
  readonly overlapMs: number;
  /**
   * After a look that asked the store, a rule without a watch rests for this many times as long as the look took: a
   * question over the events of seconds costs little more than one over those of half a second.
   */
  readonly restFactor: number;
  /** The longest rest, ms. Rules whose findings are at most information rest until the next sweep. */
  readonly restMsMax: number;
  /** Pause between two looks at which fields the sources fill, ms. */
  readonly blindIntervalMs: number;
}

export const RUNNER_LIMITS: RunnerLimits = {
  ...WATCH_LIMITS,
  unitsPerCycleMax: 2_000,
  unitsPerPage: 500,
  sliceMs: 3_600_000,
  sweepLagMs: 60_000,
  sweepIntervalMs: 60_000,
  sweepRowsMax: 2_000_000,
  warmMs: 600_000,
  overlapMs: 2_000,
  restFactor: 50,
  restMsMax: 3_000,
  blindIntervalMs: 600_000,
};

const NS_PER_MS = 1_000_000n;
/** References by their lower 64 bits end here. */
const REFS_END = 2n ** 64n;
/** Cycles whose news are remembered for rules that look more rarely: at two a second, about two minutes. */
const LIVE_CHAPTERS_MAX = 256;
/** How much of what was looked at once a restart may look at again, ns. */
const SEEN_SAVE_NS = 10_000_000_000n;

/** A stretch of ingest time that a rule's whole query of candidates works through. */
interface Pass extends IngestRange {
  readonly isSweep: boolean;
  readonly after: Unit | undefined;
  readonly news: News;
  readonly slice: RefSlice | undefined;
  /** More than a first look could take. */
  readonly isHuge: boolean;
}

/** A cycle looks at what is new first, so that a finding need not wait for a sweep. */
export type Phase = 'live' | 'sweep';

interface RuleState {
  readonly detector: BoundDetector;
  /** Everything up to here was evaluated after it was surely visible: durable. */
  sweptTo: bigint;
  /** Everything visible up to here was looked at once. */
  seenTo: bigint;
  /** What a restart would begin with. */
  savedSeenTo: bigint;
  /** What a limit cut off. */
  readonly pending: Record<Phase, Pass | undefined>;
  /** A sweep was due and has not been run. */
  isSweepOwed: boolean;
  /** Entities that a first look named and that wait for their evaluation. */
  readonly queue: Set<string>;
  /** The sweep over slices that is under way: how far it will have swept, and where the next slice begins. */
  rotation: { readonly to: bigint; readonly cursor: bigint } | undefined;
  hasNewWatermark: boolean;
  /** Until then, by the store's clock, an unhurried cycle does not look. */
  restsTo: bigint;
}

export interface CycleResult {
  readonly changes: FindingChanges;
  readonly units: number;
  /** True where a rule reached its limit and goes on in the next cycle. */
  readonly hasMore: boolean;
  readonly errors: number;
  /** True for the whole cycle where a sweep was due. */
  readonly isSweep: boolean;
  /** True where a rule rests and has not looked at all that is new. */
  readonly isResting: boolean;
}

const NOTHING_DONE: CycleResult = {
  changes: NO_CHANGES,
  units: 0,
  hasMore: false,
  errors: 0,
  isSweep: false,
  isResting: false,
};

/** What all rules of one cycle share. */
interface Cycle {
  readonly now: bigint;
  readonly isUnhurried: boolean;
  readonly isSweepDue: boolean;
  /** Rules whose sweep has had its slice. */
  readonly swept: Set<string>;
  /** What is new, by range. */
  readonly news: Map<string, News>;
  registry: ClientRegistry;
  ledgerRows: number | undefined;
}

const HURRIED = { isUnhurried: false } as const;

export interface CycleOptions {
  readonly isUnhurried: boolean;
  /** Asked before each rule. */
  readonly isOver?: (phase: Phase) => boolean;
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
  /** Of the engine's own look at rules that cannot see. */
  readonly blind?: BlindParameters;
}

/**
 * Evaluates what arrives. Each rule gets to know new rows twice. At once, so that a finding appears within a cycle: one
 * scan that all rules share tells which of them are concerned, and a bounded memory which entities (watcher.ts). And
 * once again by the sweep, which asks the rule's whole query of candidates, when every insert that began before is
 * visible for certain. Only the sweep moves the durable watermark. Evaluation is idempotent, so twice changes nothing.
 */
export class Runner {
  /** With a store that counts what is asked of it. */
  readonly #options: RunnerOptions;
  /** Whose findings others may write at the same time. */
  readonly #store: Store;
  readonly #limits: RunnerLimits;
  readonly #watcher: Watcher;
  readonly #newsLog = new NewsLog();
  readonly #triggers = new Triggers();
  /** What each cycle found new, for rules that look more rarely. */
  readonly #liveLog = new NewsLog(LIVE_CHAPTERS_MAX);
  #states: RuleState[] | undefined;
  #registry: ClientRegistry | undefined;
  #lastSweep: bigint | undefined;
  #lastBlindLook: bigint | undefined;
  #evictionsCounted = 0;
  readonly #saturated = new Set<string>();
  readonly #failing = new Set<string>();

  /** Rules run one after the other, so that a question belongs to the one that runs. */
  #running = SHARED_WORK;

  constructor(options: RunnerOptions) {
    const { metrics } = options;
    const store = new MeteredStore(options.store, (seconds) => {
      metrics.queries.inc({ rule: this.#running });
      metrics.queryTime.inc({ rule: this.#running }, seconds);
    });
    this.#options = { ...options, store };
    this.#store = options.store;
    this.#limits = { ...RUNNER_LIMITS, ...options.limits };
    this.#watcher = new Watcher(store, options.tenant, this.#limits);
  }

  /** Rules that had more to judge in the last cycle than a cycle takes, and rules whose last cycle failed. */
  get strained(): { readonly saturated: readonly string[]; readonly failing: readonly string[] } {
    return { saturated: [...this.#saturated].sort(), failing: [...this.#failing].sort() };
  }

  /**
   * One cycle over all rules. A rule that fails is counted, logged and tried again in the next cycle. In an unhurried
   * cycle rules may rest (`RunnerLimits.restFactor`). It ends before the next rule once `isOver` holds for the phase;
   * what it has not come to waits for the next cycle, of this process or another.
   */
  async cycle(options: CycleOptions = HURRIED): Promise<CycleResult> {
    const now = await storeNow(this.#options.store);
    const states = (this.#states ??= await this.#loadStates(now));
    const cycle = await this.#startCycle(states, now, options.isUnhurried);
    let total: CycleResult = { ...NOTHING_DONE, isSweep: cycle.isSweepDue };
    const run = async (state: RuleState, phase: Phase): Promise<CycleResult> => {
      const result = await this.#runRule(state, cycle, phase);
      total = {
        ...total,
        changes: addChanges(total.changes, result.changes),
        units: total.units + result.units,
        hasMore: total.hasMore || result.hasMore,
        errors: total.errors + result.errors,
        isResting: total.isResting || result.isResting,
      };
      return result;
    };
    const isBehind = new Set<RuleState>();
    const isOver = (phase: Phase): boolean => {
      const over = options.isOver?.(phase) ?? false;
      if (over) total = { ...total, hasMore: true };
      return over;
    };
    for (const state of states) {
      if (isOver('live')) break;
      if ((await run(state, 'live')).hasMore) isBehind.add(state);
    }
    for (const state of states) {
      if (!state.isSweepOwed || isBehind.has(state)) continue;
      if (isOver('sweep')) break;
      await run(state, 'sweep');
    }
    if (cycle.isSweepDue && isBehind.size === 0 && !isOver('sweep')) {
      const blind = await this.#lookForBlindness(now);
      total = { ...total, changes: addChanges(total.changes, blind) };
    }
    await this.#saveWatermarks(states);
    const { evictions } = this.#watcher;
    this.#options.metrics.forgotten.inc(evictions - this.#evictionsCounted);
    this.#evictionsCounted = evictions;
    return total;
  }

  /** Which rules cannot see, now and then: what a rule is silent about would otherwise look like peace. */
  async #lookForBlindness(now: bigint): Promise<FindingChanges> {
    const every = BigInt(this.#limits.blindIntervalMs) * NS_PER_MS;
    if (this.#lastBlindLook !== undefined && now - this.#lastBlindLook < every) return NO_CHANGES;
    this.#lastBlindLook = now;
    const { store, tenant, detectors, clock, metrics, log } = this.#options;
    const parameters = this.#options.blind ?? BlindParameters.parse({});
    const rules = detectors.map((d) => d.docs);
    try {
      const look = await inTurn(this.#store, turnOf(tenant, BLIND_RULE.id), () =>
        checkBlindness({ store, tenant, rules, parameters }, clock.nowMs()),
      );
      for (const [rule, sources] of look.blindSources) metrics.blindSources.set({ rule }, sources);
      metrics.countChanges(BLIND_RULE.id, look.changes);
      return look.changes;
    } catch (error) {
      metrics.errors.inc({ rule: BLIND_RULE.id });
      log.error({ err: error, rule: BLIND_RULE.id }, `detector failed: ${messageOf(error)}`);
      return NO_CHANGES;
    }
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

  /** The shared scan: what is new, and the registrations where they changed. */
  async #startCycle(
    states: readonly RuleState[],
    now: bigint,
    isUnhurried: boolean,
  ): Promise<Cycle> {
    const sweepEvery = BigInt(this.#limits.sweepIntervalMs) * NS_PER_MS;
    const isSweepDue = this.#lastSweep === undefined || now - this.#lastSweep >= sweepEvery;
    const empty = this.#registry ?? new ClientRegistry(this.#options.clients, []);
    const shared = { swept: new Set<string>(), news: new Map<string, News>(), registry: empty };
    const cycle: Cycle = { now, isUnhurried, isSweepDue, ...shared, ledgerRows: undefined };
    const fresh = await this.#readFresh(now);
    if (this.#registry === undefined || isSweepDue || hasRegistrations(fresh)) {
      const { store, tenant, clients } = this.#options;
      cycle.registry = new ClientRegistry(clients, await readRegistrations(store, tenant));
      this.#registry = cycle.registry;
    }
    if (isSweepDue) {
      await this.#extendNewsLog(now - BigInt(this.#limits.sweepLagMs) * NS_PER_MS);
      this.#lastSweep = now;
      for (const state of states) state.isSweepOwed = true;
    }
    return cycle;
  }

  /** What came since the cycle before; unknown in the first one. */
  async #readFresh(now: bigint): Promise<News> {
    const from = this.#liveLog.to;
    if (from === undefined) {
      this.#liveLog.add(now, now, UNKNOWN_NEWS);
      return UNKNOWN_NEWS;
    }
    const news = await this.#readNews({ from: from - this.#overlapNs, to: now });
    this.#liveLog.add(from, now, news);
    return news;
  }

  get #overlapNs(): bigint {
    return this.#options.store.isEmbedded ? 0n : BigInt(this.#limits.overlapMs) * NS_PER_MS;
  }

  /** Notes what became visible for certain, once for the sweeps of all rules. */
  async #extendNewsLog(visibleTo: bigint): Promise<void> {
    const from = this.#newsLog.to;
    // What came before this process began is unknown, so the first sweep runs all rules.
    const range = { from: from ?? visibleTo, to: visibleTo };
    if (from !== undefined && range.from >= range.to) return;
    // The embedded engine runs one statement at a time, so nothing came to light since the cycles looked.
    const { isEmbedded } = this.#options.store;
    const looked = isEmbedded ? this.#liveLog.between(range.from, range.to) : UNKNOWN_NEWS;
    const isKnown = !Number.isNaN(looked.rows);
    this.#newsLog.add(range.from, range.to, isKnown ? looked : await this.#readNews(range));
  }

  async #loadStates(now: bigint): Promise<RuleState[]> {
    const { store, tenant } = this.#options;
    const watermarks = await readWatermarks(store, tenant);
    await this.#triggers.read(store, tenant, this.#options.detectors, now);
    const states = this.#options.detectors.map((detector): RuleState => {
      const { id, version } = detector.docs;
      const mark = watermarks.find((w) => w.rule_id === id && w.rule_version === version);
      const sweptTo = mark?.sweptTo ?? 0n;
      const seenTo = mark?.seenTo ?? 0n;
      const progress = { sweptTo, seenTo, savedSeenTo: seenTo, isSweepOwed: false };
      return {
        detector,
        ...progress,
        pending: { live: undefined, sweep: undefined },
        queue: new Set(),
        rotation: undefined,
        hasNewWatermark: false,
        restsTo: 0n,
      };
    });
    for (const state of states) if (state.seenTo > 0n) await this.#warm(state, now);
    return states;
  }

  /** Lets a rule's watch look at the last minutes before its watermark, and at the findings it has. */
  async #warm({ detector, seenTo }: RuleState, now: bigint): Promise<void> {
    const { store, tenant } = this.#options;
    const { watch, docs } = detector;
    if (watch === undefined) return;
    this.#watcher.startAfter(docs.id, Number(now / 1_000_000_000n));
    if (watch.by === 'facets' && watch.followed !== undefined)
      for (const { entity, tokens } of await readFollowedTokens(store, tenant, docs.id))
        this.#watcher.follow(docs.id, entity, tokens);
    let warmNs = BigInt(this.#limits.warmMs) * NS_PER_MS;
    for (;;) {
      const condition = ingestCondition({ from: seenTo - warmNs, to: seenTo });
      const news = await readNews(store, tenant, condition);
      if (news.rows <= this.#limits.streamRowsMax) {
        if (news.rows > 0) await this.#watcher.look(detector, condition, news);
        return;
      }
      warmNs /= 2n;
    }
  }

  async #saveWatermarks(states: readonly RuleState[]): Promise<void> {
    const moved = states.filter((s) => s.hasNewWatermark);
    await writeWatermarks(
      this.#options.store,
      this.#options.tenant,
      moved.map((s) => {
        // What waits for its evaluation would be forgotten by a restart.
        if (s.queue.size === 0) s.savedSeenTo = s.seenTo;
        return {
          rule_id: s.detector.docs.id,
          rule_version: s.detector.docs.version,
          sweptTo: s.sweptTo,
          seenTo: s.savedSeenTo,
        };
      }),
      this.#options.clock.nowMs(),
    );
    for (const state of moved) state.hasNewWatermark = false;
  }

  async #runRule(state: RuleState, cycle: Cycle, phase: Phase): Promise<CycleResult> {
    const { metrics, log } = this.#options;
    const rule = state.detector.docs.id;
    const endTimer = metrics.duration.startTimer({ rule });
    const isLook = phase === 'live' && !this.#isResting(state, cycle);
    let result = NOTHING_DONE;
    this.#running = rule;
    try {
      result = await this.#advance(state, cycle, phase);
      this.#failing.delete(rule);
      if (phase === 'sweep' && !result.hasMore) {
        state.isSweepOwed = false;
        const closed = await this.#closeQuiet(state);
        metrics.countChanges(rule, closed);
        result = { ...result, changes: addChanges(result.changes, closed) };
        const { store, tenant } = this.#options;
        for (const entity of await readRenamedEntities(store, tenant, rule))
          state.queue.add(entity);
      }
    } catch (error) {
      metrics.errors.inc({ rule });
      log.error({ err: error, rule }, `detector failed: ${messageOf(error)}`);
      this.#failing.add(rule);
      result = { ...result, errors: 1 };
    }
    this.#running = SHARED_WORK;
    const tookSeconds = endTimer();
    if (isLook) this.#noteRest(state, cycle, tookSeconds * 1_000);
    if (phase === 'live') metrics.cycles.inc({ rule });
    if (phase === 'live' || result.hasMore) this.#noteSaturation(rule, result.hasMore);
    const secondsSince = (time: bigint): number =>
      cycle.now > time ? Number((cycle.now - time) / NS_PER_MS) / 1_000 : 0;
    metrics.lag.set({ rule }, secondsSince(state.seenTo));
    if (state.sweptTo > 0n) metrics.rotation.set({ rule }, secondsSince(state.sweptTo));
    return result;
  }

  #noteSaturation(rule: string, hasMore: boolean): void {
    this.#options.metrics.saturated.set({ rule }, hasMore ? 1 : 0);
    if (hasMore) this.#saturated.add(rule);
    else this.#saturated.delete(rule);
  }

  #closeQuiet(state: RuleState): Promise<FindingChanges> {
    const { store, tenant } = this.#options;
    const context = this.#writeContext(state);
    const turn = turnOf(tenant, context.ruleId);
    return inTurn(this.#store, turn, () => closeQuietFindings(store, context));
  }

  #writeContext(state: RuleState): WriteContext {
    return {
      tenant: this.#options.tenant,
      ruleId: state.detector.docs.id,
      quietMs: state.detector.docs.quietMs,
      nowMs: this.#options.clock.nowMs(),
    };
  }

  /** Works off what waits until the rule is up to date or has reached its limit. */
  async #advance(state: RuleState, cycle: Cycle, phase: Phase): Promise<CycleResult> {
    let changes = NO_CHANGES;
    let units = 0;
    for (;;) {
      if (phase === 'sweep') state.pending.sweep ??= await this.#nextSweep(state, cycle);
      else if (state.queue.size === 0) state.pending.live ??= await this.#nextLook(state, cycle);
      const pending = state.pending[phase];
      const hasQueue = phase === 'live' && state.queue.size > 0;
      if (!hasQueue && pending === undefined) {
        const isResting = phase === 'live' && this.#isResting(state, cycle);
        return { ...NOTHING_DONE, changes, units, isResting };
      }
      const budget = this.#limits.unitsPerCycleMax - units;
      if (budget <= 0) return { ...NOTHING_DONE, changes, units, hasMore: true };
      const limit = Math.min(budget, this.#limits.unitsPerPage);
      const done =
        hasQueue || pending === undefined
          ? await this.#runQueue(state, cycle, limit)
          : await this.#runPage(state, cycle, pending, limit);
      changes = addChanges(changes, done.changes);
      units += done.units;
    }
  }

  /** In an unhurried cycle, whether a rule leaves what is new to a later one. */
  #isResting(state: RuleState, cycle: Cycle): boolean {
    return cycle.isUnhurried && state.detector.watch === undefined && cycle.now < state.restsTo;
  }

  /** How long a rule rests after a look that took so long: its share of the time stays small. */
  #noteRest(state: RuleState, cycle: Cycle, tookMs: number): void {
    const { restFactor, restMsMax, sweepIntervalMs } = this.#limits;
    const longest = state.detector.docs.severity === 'info' ? sweepIntervalMs : restMsMax;
    const restMs = Math.round(Math.min(tookMs * restFactor, longest));
    state.restsTo = cycle.now + BigInt(restMs) * NS_PER_MS;
  }

  /** Looks at what is new. Gives a pass only where the rule's whole query of candidates has to be asked. */
  async #nextLook(state: RuleState, cycle: Cycle): Promise<Pass | undefined> {
    while (state.queue.size === 0 && !this.#isResting(state, cycle)) {
      const range = await this.#liveRange(state, cycle);
      if (range === undefined) return undefined;
      const news = await this.#newsOf(cycle, range);
      const pass = this.#passOver(range, news, false);
      if (!(await this.#isAnsweredByLook(state, cycle, pass))) return pass;
      finish(state, pass);
    }
    return undefined;
  }

  #passOver(range: IngestRange, news: News, isSweep: boolean): Pass {
    // NaN, where nobody counted, is as good as many.
    const isHuge = !(news.rows <= this.#limits.streamRowsMax);
    return { ...range, isSweep, after: undefined, news, slice: undefined, isHuge };
  }

  /** True where the rule is not concerned, or its watch can tell which entities are. */
  async #isAnsweredByLook(state: RuleState, cycle: Cycle, pass: Pass): Promise<boolean> {
    const { detector } = state;
    if (!this.#isConcerned(detector, pass.news, cycle)) {
      if (pass.news.rows > 0) this.#options.metrics.skipped.inc({ rule: detector.docs.id });
      return true;
    }
    if (detector.watch === undefined || pass.isHuge) return false;
    const look = await this.#watcher.look(detector, ingestCondition(pass), pass.news);
    if (!look.isSure) return false;
    for (const entity of look.entities) state.queue.add(entity);
    return true;
  }

  #isConcerned(detector: BoundDetector, news: News, cycle: Cycle): boolean {
    return isConcerned(detector, news, cycle.registry) && this.#triggers.reaches(detector, news);
  }

  /** What came since the rule looked last. */
  async #liveRange(state: RuleState, cycle: Cycle): Promise<IngestRange | undefined> {
    const seen = state.seenTo > state.sweptTo ? state.seenTo : state.sweptTo;
    if (seen >= cycle.now) return undefined;
    const reachingBack = seen - this.#overlapNs;
    const from = reachingBack > state.sweptTo ? reachingBack : state.sweptTo;
    return this.#shorten({ from, to: cycle.now });
  }

  async #nextSweep(state: RuleState, cycle: Cycle): Promise<Pass | undefined> {
    const { detector } = state;
    const visibleTo = cycle.now - BigInt(this.#limits.sweepLagMs) * NS_PER_MS;
    if (cycle.swept.has(detector.docs.id) || visibleTo <= state.sweptTo) return undefined;
    const whole = { from: state.sweptTo, to: visibleTo };
    const range = detector.sliced ? whole : await this.#shorten(whole);
    const news = this.#newsLog.between(range.from, range.to);
    const pass = this.#passOver(range, news, true);
    if (state.rotation === undefined && !this.#isConcerned(detector, news, cycle)) {
      if (news.rows > 0) this.#options.metrics.skipped.inc({ rule: detector.docs.id });
      finish(state, pass);
      return this.#nextSweep(state, cycle);
    }
    if (!detector.sliced) return pass;
    cycle.ledgerRows ??= await readLedgerRows(this.#options.store);
    const slices = BigInt(Math.max(1, Math.ceil(cycle.ledgerRows / this.#limits.sweepRowsMax)));
    state.rotation ??= { to: visibleTo, cursor: 0n };
    const from = state.rotation.cursor;
    const end = from + REFS_END / slices;
    // The last slice takes what a division leaves over.
    const to = end + REFS_END / (slices * 2n) >= REFS_END ? REFS_END : end;
    return { ...pass, slice: { from, to } };
  }

  /** Shortens a range to what is taken up at once; leaps over stretches without rows. */
  async #shorten(range: IngestRange): Promise<IngestRange> {
    const sliceNs = BigInt(this.#limits.sliceMs) * NS_PER_MS;
    if (range.to - range.from <= sliceNs) return range;
    const { store, tenant } = this.#options;
    const bounds = await readBounds(store, tenant, ingestCondition(range));
    const end = bounds.firstInserted + sliceNs;
    return bounds.rows === 0 || end >= range.to ? range : { from: range.from, to: end };
  }

  /** What a range holds, read once a cycle. */
  async #newsOf(cycle: Cycle, range: IngestRange): Promise<News> {
    const key = `${range.from} ${range.to}`;
    const before = cycle.news.get(key);
    if (before !== undefined) return before;
    const logged = this.#liveLog.between(range.from, range.to);
    const news = logged === UNKNOWN_NEWS ? await this.#readNews(range) : logged;
    cycle.news.set(key, news);
    return news;
  }

  /** A screen that the store refuses must cost its own rule's saving, not every rule its news. */
  async #readNews(range: IngestRange): Promise<News> {
    const { store, tenant, detectors, log } = this.#options;
    const condition = ingestCondition(range);
    try {
      const news = await readNews(store, tenant, condition, detectors);
      this.#triggers.note(news);
      return news;
    } catch (error) {
      this.#triggers.forget();
      const news = await readNews(store, tenant, condition);
      log.warn({ err: error }, `the rules' screens could not be asked: ${messageOf(error)}`);
      return news;
    }
  }

  async #runQueue(
    state: RuleState,
    cycle: Cycle,
    limit: number,
  ): Promise<{ changes: FindingChanges; units: number }> {
    const entities = [...state.queue].slice(0, limit);
    const units = entities.map((entity) => ({ entity, day: '' }));
    const changes = await this.#evaluate(state, cycle, units);
    for (const entity of entities) state.queue.delete(entity);
    return { changes, units: units.length };
  }

  async #runPage(
    state: RuleState,
    cycle: Cycle,
    pass: Pass,
    limit: number,
  ): Promise<{ changes: FindingChanges; units: number }> {
    const { store, tenant, metrics } = this.#options;
    const { detector } = state;
    const scope = makeScope(tenant, ingestCondition(pass), pass.news, cycle.registry, pass.slice);
    const units = await readUnits(store, detector, scope, { after: pass.after, limit });
    const changes = await this.#evaluate(state, cycle, units);
    if (pass.isSweep) metrics.sweepChanges.inc({ rule: detector.docs.id }, changes.ids.length);
    const phase: Phase = pass.isSweep ? 'sweep' : 'live';
    if (units.length >= limit) state.pending[phase] = { ...pass, after: units.at(-1) };
    else if (finish(state, pass) === 'slice') cycle.swept.add(detector.docs.id);
    return { changes, units: units.length };
  }

  async #evaluate(state: RuleState, cycle: Cycle, units: readonly Unit[]): Promise<FindingChanges> {
    // An idle cycle is not worth a trace.
    if (units.length === 0) return NO_CHANGES;
    const { store, tenant, metrics } = this.#options;
    const { detector } = state;
    const rule = detector.docs.id;
    const work = async () => {
      const evaluated = await evaluateUnits(store, detector, tenant, cycle.registry, units);
      const context = this.#writeContext(state);
      return { evaluated, changes: await writeFindings(store, context, evaluated.results) };
    };
    const { evaluated, changes } = await inTurn(this.#store, turnOf(tenant, rule), () =>
      inSpan('detect.page', { rule, units: units.length }, work),
    );
    for (const { unit, findings, followedTokens } of evaluated.results)
      if (findings.length > 0) this.#watcher.follow(rule, unit.entity, followedTokens);
    metrics.entities.inc({ rule }, units.length);
    metrics.truncated.inc({ rule }, evaluated.truncated);
    metrics.countChanges(rule, changes);
    return changes;
  }
}

/** Notes that a pass is done; `slice` where the sweep has not come round yet. */
function finish(state: RuleState, pass: Pass): 'slice' | 'done' {
  state.pending[pass.isSweep ? 'sweep' : 'live'] = undefined;
  if (pass.isSweep && pass.slice !== undefined && pass.slice.to < REFS_END) {
    if (state.rotation !== undefined)
      state.rotation = { to: state.rotation.to, cursor: pass.slice.to };
    return 'slice';
  }
  if (!pass.isSweep && pass.to > state.seenTo && pass.from <= state.seenTo) state.seenTo = pass.to;
  if (!pass.isSweep) {
    const isFar = state.seenTo - state.savedSeenTo >= SEEN_SAVE_NS;
    if (isFar && pass.news.rows > 0) state.hasNewWatermark = true;
    return 'done';
  }
  state.sweptTo = state.rotation?.to ?? pass.to;
  state.rotation = undefined;
  state.hasNewWatermark = true;
  return 'done';
}
