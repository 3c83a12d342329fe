import { z } from 'zod';
import type { Runtime } from '../runtime/context.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import type { Component } from '../runtime/lifecycle.ts';
import type { Store } from '../store/client.ts';
import { backtest, type RuleBacktest } from './backtest.ts';
import { BLIND_RULE, BlindParameters } from './blind.ts';
import { coverageRange, readCoverage, type Coverage } from './coverage.ts';
import { registerClientOperations } from './client_operations.ts';
import { DetectorMetrics } from './detector_metrics.ts';
import type { FindingContent } from './finding_identity.ts';
import { reevaluate, type RuleReevaluation } from './reevaluate.ts';
import { bindDetectors, detectorById, loadDetectors } from './registry.ts';
import { Runner, type RunnerLimits } from './runner.ts';
import type { EventRange } from './scopes.ts';
import { registerWhatIfOperation } from './what_if.ts';

/** Findings that a backtest lists; `rules[].findings` counts all. */
export const BACKTEST_FINDINGS_MAX = 1_000;

/** Expectations on the number of findings: `at_least=N`, `at_most=N`, `exactly=N`. */
const Expectation = z.strictObject({
  comparison: z.enum(['at_least', 'at_most', 'exactly']),
  count: z.int().min(0),
});

/** Input of the operation `backtest`. Times are ISO 8601 with an offset; `to` is exclusive. */
export const BacktestInput = z.strictObject({
  rule: z.string().optional(),
  from: z.iso.datetime({ offset: true }),
  to: z.iso.datetime({ offset: true }),
  /** What-if: parameters of `rule` that differ from the configured ones. */
  params: z.record(z.string(), z.unknown()).optional(),
  expect: z.array(Expectation).optional(),
});
export type BacktestInput = z.input<typeof BacktestInput>;

/** Result of the operation `backtest`. */
export interface BacktestReport {
  readonly from: string;
  readonly to: string;
  /** Events in the range. With none nothing was measured, and no expectation is met. */
  readonly events: number;
  readonly total: number;
  readonly rules: readonly RuleBacktest[];
  /** Sorted by id; at most `BACKTEST_FINDINGS_MAX`. */
  readonly findings: readonly FindingContent[];
  readonly expectations: readonly {
    readonly comparison: string;
    readonly count: number;
    readonly met: boolean;
  }[];
}

/**
 * Starts the detectors: reads what was inserted since the last watermark, writes findings, and emits
 * `findings_changed`. Throws `config_invalid` for unknown rules or wrong parameters in grantscope.yaml.
 * Stopping ends the cycle under way and runs a last one, so that what was stored is also judged; both begin no sweep
 * and no rule beyond `STOP_MS_MAX`, and the next start goes on from the watermarks.
 */
export async function startDetectors(
  runtime: Runtime,
  store: Store,
  options: { readonly limits?: Partial<RunnerLimits> } = {},
): Promise<Component> {
  const detectors = bindDetectors(await loadDetectors(), runtime.config.detectors);
  await registerDetectorOperations(runtime, store);
  const runner = new Runner({
    store,
    tenant: runtime.config.tenant,
    detectors,
    clients: runtime.config.clients,
    clock: runtime.clock,
    log: runtime.log,
    metrics: new DetectorMetrics(runtime.metrics),
    blind: BlindParameters.parse(runtime.config.detectors[BLIND_RULE.id] ?? {}),
    ...options,
  });
  return new DetectorLoop(runtime, runner);
}

/**
 * Shortest time from the start of one cycle to the next, ms. A cycle over few events costs as much as one over a second's
 * worth, so hints that follow each other closely share one.
 */
const CYCLE_INTERVAL_MS_MIN = 500;
/** Longest pause while a rule that rests has not looked at all that is new, ms. */
const RESTING_PAUSE_MS_MAX = 1_000;

/**
 * How long a stop goes on beginning rules, ms. Over a slow server a cycle takes a minute, and whoever stops a process
 * (a container's grace is 30 s) kills it then, in the middle of what it does.
 */
export const STOP_MS_MAX = 10_000;

/** Cycles on hints and at least every `detectIntervalMs`. */
class DetectorLoop implements Component {
  readonly name = 'detectors';
  readonly #runtime: Runtime;
  readonly #runner: Runner;
  readonly #unsubscribe: () => void;
  readonly #loop: Promise<void>;
  #isStopping = false;
  #stopByMs = Number.POSITIVE_INFINITY;
  #hasHint = false;
  #wake: () => void = () => undefined;

  constructor(runtime: Runtime, runner: Runner) {
    this.#runtime = runtime;
    this.#runner = runner;
    this.#unsubscribe = runtime.hints.on('inserted', ({ table }) => {
      if (table !== 'grantscope.auth_events') return;
      this.#hasHint = true;
      this.#wake();
    });
    this.#loop = this.#run();
  }

  strains(): readonly string[] {
    const { saturated, failing } = this.#runner.strained;
    return [
      ...saturated.map((rule) => `${rule} has more to judge than one cycle takes; the rest waits`),
      ...failing.map((rule) => `${rule} fails and is tried again`),
    ];
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#stopByMs = performance.now() + STOP_MS_MAX;
    this.#unsubscribe();
    this.#wake();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      const startedMs = performance.now();
      const { hasMore, isResting } = await this.#cycle(true);
      if (hasMore) continue;
      const isHinted = (): boolean => this.#hasHint;
      const { detectIntervalMs } = this.#runtime.config;
      const pauseMs = isResting
        ? Math.min(detectIntervalMs, RESTING_PAUSE_MS_MAX)
        : detectIntervalMs;
      await this.#pause(pauseMs, isHinted);
      this.#hasHint = false;
      const restMs = startedMs + CYCLE_INTERVAL_MS_MIN - performance.now();
      if (restMs > 0) await this.#pause(restMs, () => false);
    }
    await this.#cycle(false);
  }

  /** Resolves after `ms`, at once on stop, and as soon as `isOver` holds when woken. */
  async #pause(ms: number, isOver: () => boolean): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
      this.#wake = (): void => {
        if (this.#isStopping || isOver()) resolve();
      };
      this.#wake();
    });
    clearTimeout(timer);
  }

  async #cycle(isUnhurried: boolean): Promise<{ hasMore: boolean; isResting: boolean }> {
    try {
      const { changes, hasMore, isResting } = await this.#runner.cycle({
        isUnhurried,
        isOver: (phase) =>
          this.#isStopping && (phase === 'sweep' || performance.now() >= this.#stopByMs),
      });
      if (changes.ids.length > 0)
        this.#runtime.hints.emit('findings_changed', { ids: [...new Set(changes.ids)] });
      return { hasMore, isResting };
    } catch (error) {
      // The store may be away for a while; the next cycle tries again from the same watermark.
      this.#runtime.log.error({ err: error }, `detection cycle failed: ${messageOf(error)}`);
      return { hasMore: false, isResting: false };
    }
  }
}

/** Input of the operation `detect`. Times are ISO 8601 with an offset, of events; `to` is exclusive. */
export const DetectInput = z.strictObject({
  rule: z.string().optional(),
  from: z.iso.datetime({ offset: true }),
  to: z.iso.datetime({ offset: true }),
});
export type DetectInput = z.input<typeof DetectInput>;

/** Result of the operation `detect`. */
export interface DetectReport {
  readonly from: string;
  readonly to: string;
  readonly events: number;
  readonly changed_findings: number;
  readonly rules: readonly RuleReevaluation[];
}

const RuleInput = z.strictObject({ rule: z.string() });

/** How far back the coverage is read where nothing else is asked for, ms. */
const COVERAGE_WINDOW_MS = 86_400_000;

/** Input of the operation `rules_coverage`: without times, the last day or as much of it as is quickly read. */
export const CoverageInput = z.strictObject({
  rule: z.string().optional(),
  from: z.iso.datetime({ offset: true }).optional(),
  to: z.iso.datetime({ offset: true }).optional(),
});

/** Result of the operation `rules_coverage`. */
export interface CoverageReport extends Coverage {
  readonly from: string;
  readonly to: string;
}

/** Registers `backtest`, `rules_list`, `rules_show`, `rules_coverage` and `detect` (runtime/operations.ts), once per runtime. */
export async function registerDetectorOperations(runtime: Runtime, store: Store): Promise<void> {
  const detectors = await loadDetectors();
  const bound = bindDetectors(detectors, runtime.config.detectors);
  registerClientOperations(runtime, store);
  await registerWhatIfOperation(runtime, store);
  runtime.operations.register('rules_list', () =>
    Promise.resolve(
      [...bound.map((b) => b.docs), BLIND_RULE].map((docs) => ({
        id: docs.id,
        version: docs.version,
        title: docs.title,
        family: docs.family,
        severity: docs.severity,
        entity: docs.entity,
      })),
    ),
  );
  runtime.operations.register('rules_show', (input) => {
    const blind = BlindParameters.parse(runtime.config.detectors[BLIND_RULE.id] ?? {});
    if (check(RuleInput, input).rule === BLIND_RULE.id)
      return Promise.resolve({ ...BLIND_RULE, parameters: blind });
    const { id } = detectorById(detectors, check(RuleInput, input).rule);
    const found = bound.find((b) => b.docs.id === id);
    return Promise.resolve(
      found === undefined ? undefined : { ...found.docs, parameters: found.params },
    );
  });
  runtime.operations.register('rules_coverage', (input) =>
    coverage(runtime, store, detectors, check(CoverageInput, input)),
  );
  runtime.operations.register('detect', (input, progress) =>
    detect(runtime, store, detectors, check(DetectInput, input), progress),
  );
  runtime.operations.register('backtest', async (input, progress) => {
    const asked = check(BacktestInput, input);
    const chosen = chooseDetectors(detectors, runtime.config.detectors, asked);
    const range = rangeOf(asked);
    const result = await backtest({
      store,
      tenant: runtime.config.tenant,
      detectors: chosen,
      clients: runtime.config.clients,
      range,
      progress,
    });
    return report(asked, result);
  });
}

function rangeOf(asked: { readonly from: string; readonly to: string }): EventRange {
  const range = { from: nsOf(asked.from), to: nsOf(asked.to) };
  if (range.from >= range.to)
    throw new GrantscopeError('invalid_argument', 'from: must be before to');
  return range;
}

async function detect(
  runtime: Runtime,
  store: Store,
  detectors: Loaded,
  asked: z.output<typeof DetectInput>,
  progress: (done: number, total: number) => void,
): Promise<DetectReport> {
  const chosen = chooseDetectors(detectors, runtime.config.detectors, { rule: asked.rule });
  const { events, rules, changedIds } = await reevaluate({
    store,
    tenant: runtime.config.tenant,
    detectors: chosen,
    clients: runtime.config.clients,
    range: rangeOf(asked),
    nowMs: runtime.clock.nowMs(),
    progress,
  });
  if (changedIds.length > 0) runtime.hints.emit('findings_changed', { ids: changedIds });
  return { from: asked.from, to: asked.to, events, changed_findings: changedIds.length, rules };
}

async function coverage(
  runtime: Runtime,
  store: Store,
  detectors: Loaded,
  asked: z.output<typeof CoverageInput>,
): Promise<CoverageReport> {
  const { tenant } = runtime.config;
  const rules = asked.rule === undefined ? detectors : [detectorById(detectors, asked.rule)];
  const to = asked.to === undefined ? BigInt(runtime.clock.nowMs()) * 1_000_000n : nsOf(asked.to);
  const range =
    asked.from === undefined
      ? await coverageRange(store, tenant, to, COVERAGE_WINDOW_MS)
      : { from: nsOf(asked.from), to };
  if (range.from >= range.to)
    throw new GrantscopeError('invalid_argument', 'from: must be before to');
  const iso = (ns: bigint): string => new Date(Number(ns / 1_000_000n)).toISOString();
  const found = await readCoverage(store, tenant, rules, range);
  return { from: iso(range.from), to: iso(range.to), ...found };
}

function check<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((i) => `${i.path.join('.') || 'input'}: ${i.message}`);
  throw new GrantscopeError('invalid_argument', problems.join('; '));
}

function nsOf(iso: string): bigint {
  return BigInt(Date.parse(iso)) * 1_000_000n;
}

type Loaded = Awaited<ReturnType<typeof loadDetectors>>;

function chooseDetectors(
  detectors: Loaded,
  configured: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  asked: Pick<z.output<typeof BacktestInput>, 'rule' | 'params'>,
) {
  if (asked.rule === undefined) {
    if (asked.params !== undefined)
      throw new GrantscopeError('invalid_argument', 'params: allowed together with rule only');
    return bindDetectors(detectors, configured);
  }
  const rule = detectorById(detectors, asked.rule);
  const overrides = { ...configured[rule.id], ...asked.params };
  try {
    return bindDetectors([rule], { [rule.id]: overrides });
  } catch (error) {
    throw new GrantscopeError('invalid_argument', messageOf(error));
  }
}

function report(
  asked: z.output<typeof BacktestInput>,
  { events, rules, findings }: Awaited<ReturnType<typeof backtest>>,
): BacktestReport {
  const total = findings.length;
  const isMet = {
    at_least: (n: number) => total >= n,
    at_most: (n: number) => total <= n,
    exactly: (n: number) => total === n,
  };
  return {
    from: asked.from,
    to: asked.to,
    events,
    total,
    rules,
    findings: findings.slice(0, BACKTEST_FINDINGS_MAX),
    expectations: (asked.expect ?? []).map(({ comparison, count }) => ({
      comparison,
      count,
      met: events > 0 && isMet[comparison](count),
    })),
  };
}
