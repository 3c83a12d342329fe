import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createRuntime } from '../cli/context.ts';
import { ROLES } from '../cli/roles.ts';
import { serve, type Served } from '../cli/serve.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import { loadAttacks, type AttackDefinition } from './attack.ts';
import { awaitFinding, listFindings } from './findings_watch.ts';
import { grantscopeSettings } from './grantscope_settings.ts';
import { runTraffic, startTraffic, type TrafficStatistics } from './traffic.ts';
import { createPopulation, startWorld, type World } from './world.ts';

/** How long an attack may stay unfound before the demo calls it missed. */
export const FINDING_TIMEOUT_MS = 60_000;
/** Between the attacks of the first minute, and after it. */
const FIRST_ATTACKS_GAP_MS = 4_000;
const ATTACKS_GAP_MS = 60_000;
/** Detection is over when no finding has changed for this many looks in a row. */
const QUIET_LOOKS = 5;
const QUIET_LOOK_MS = 1_000;

export interface DemoOptions {
  readonly mode: 'live' | 'once' | 'honest';
  /** Ids of the attacks to run; `all` for every one. */
  readonly attack: string;
  readonly honestMinutes: number;
  readonly flowsPerMinute: number;
  readonly seed: number;
  /** Undefined: `./data/demo` when live, else a temporary folder that is removed at the end. */
  readonly dataDir: string | undefined;
  /** Where to write all secrets of the run at the end; outside the data directory. */
  readonly ledgerFile: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly print: (line: string) => void;
  readonly progress: (label: string, done: number, total: number) => void;
  readonly signal: AbortSignal;
}

/** Runs the demo until it is done or `signal` fires. Resolves to the exit code. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const attacks = pickAttacks(await loadAttacks(), options.attack);
  const dataDir = chooseDataDir(options);
  refuseLedgerInside(options.ledgerFile, dataDir.path);
  try {
    return await withGrantscope(options, dataDir.path, (served, world) => {
      if (options.mode === 'once') return runOnce(options, served, world, attacks);
      if (options.mode === 'honest') return runHonest(options, served, world, attacks);
      return runLive(options, served, world, attacks);
    });
  } finally {
    dataDir.remove();
  }
}

/** Lines for `--list`. */
export async function describeAttacks(): Promise<string[]> {
  const attacks = await loadAttacks();
  return attacks.map((a) => `${a.id.padEnd(30)} ${a.rule.padEnd(30)} ${a.title}`);
}

function pickAttacks(
  attacks: readonly AttackDefinition[],
  wanted: string,
): readonly AttackDefinition[] {
  if (wanted === 'all') return attacks;
  const picked = attacks.filter((a) => a.id === wanted);
  if (picked.length > 0) return picked;
  const allowed = ['all', ...attacks.map((a) => a.id)].join(', ');
  throw new GrantscopeError(
    'invalid_argument',
    `--attack: no attack is called ${wanted}; allowed: ${allowed}`,
  );
}

/** The ledger beside Grantscope's data would make the search for secrets find them there. */
function refuseLedgerInside(ledgerFile: string | undefined, dataDir: string): void {
  if (ledgerFile === undefined) return;
  const way = relative(dataDir, resolve(ledgerFile));
  if (way.startsWith('..') || isAbsolute(way)) return;
  throw new GrantscopeError(
    'invalid_argument',
    `--ledger: ${ledgerFile} lies in the data directory; allowed: any file outside of it`,
  );
}

function chooseDataDir(options: DemoOptions): { path: string; remove: () => void } {
  const keep = (path: string) => ({ path: resolve(path), remove: () => undefined });
  if (options.dataDir !== undefined) return keep(options.dataDir);
  if (options.mode === 'live') return keep('./data/demo');
  const path = mkdtempSync(join(tmpdir(), 'grantscope-demo-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

async function withGrantscope(
  options: DemoOptions,
  dataDir: string,
  work: (served: Served, world: World) => Promise<number>,
): Promise<number> {
  const population = createPopulation(options.seed);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const settings = join(dataDir, 'grantscope.yaml');
  writeFileSync(settings, grantscopeSettings(population.applications), { mode: 0o600 });
  const anyPort =
    options.mode === 'live'
      ? {}
      : { GRANTSCOPE_COLLECTOR_LISTEN: '127.0.0.1:0', GRANTSCOPE_API_LISTEN: '127.0.0.1:0' };
  const runtime = createRuntime(
    {
      GRANTSCOPE_LOG_LEVEL: 'warn',
      ...anyPort,
      ...options.environment,
      GRANTSCOPE_DATA_DIR: dataDir,
      GRANTSCOPE_CONFIG: settings,
    },
    { processMetrics: true },
  );
  const served = await serve(runtime, ROLES);
  let world: World | undefined;
  try {
    world = await startWorld({
      population,
      collectorUrl: served.collectorUrl ?? '',
      hashKey: runtime.config.hashKey ?? readHashKey(runtime.config.keyFile),
      onExportFailure: (message) => options.print(`telemetry: ${message}`),
    });
    announce(options, served, world);
    return await work(served, world);
  } finally {
    await world?.stop();
    await served.stop();
    if (world !== undefined && options.ledgerFile !== undefined) {
      writeLedger(options.ledgerFile, world);
    }
  }
}

/** The first key of the ring, which writes new references. */
function readHashKey(keyFile: string): string {
  const { keys } = JSON.parse(readFileSync(keyFile, 'utf8')) as { keys: { key: string }[] };
  const [first] = keys;
  if (first === undefined) throw new GrantscopeError('config_invalid', `${keyFile}: no key`);
  return first.key;
}

function announce(options: DemoOptions, served: Served, world: World): void {
  options.print(`console               ${served.apiUrl ?? ''}`);
  options.print(`collector             ${served.collectorUrl ?? ''}`);
  options.print(`authorization server  ${world.authorizationServer.issuer.origin}`);
  options.print(`API gateway           ${world.gatewayUrl.origin}`);
  options.print(`seed                  ${options.seed}`);
}

function writeLedger(file: string, world: World): void {
  const lines = [...world.ledger.entries()].map(([secret, kind]) =>
    JSON.stringify({ kind, secret }),
  );
  const head = JSON.stringify({ entries: world.ledger.size, forgotten: world.ledger.forgotten });
  writeFileSync(file, `${[head, ...lines].join('\n')}\n`, { mode: 0o600 });
}

async function runLive(
  options: DemoOptions,
  served: Served,
  world: World,
  attacks: readonly AttackDefinition[],
): Promise<number> {
  const traffic = startTraffic(world, { flowsPerMinute: options.flowsPerMinute });
  options.print(
    `Honest traffic at ${options.flowsPerMinute} flows a minute. Ctrl-C ends the demo.`,
  );
  try {
    const isStopping = (): boolean => options.signal.aborted;
    for (let round = 0; !isStopping(); round += 1) {
      const attack = attacks[round % attacks.length];
      const gapMs = round < attacks.length ? FIRST_ATTACKS_GAP_MS : ATTACKS_GAP_MS;
      await wait(gapMs, undefined, { signal: options.signal }).catch(() => undefined);
      if (isStopping() || attack === undefined) break;
      await attackOnce(options, served, world, attack);
    }
  } finally {
    await traffic.stop();
  }
  report(options, traffic.statistics, world);
  return 0;
}

interface Outcome {
  readonly attack: AttackDefinition;
  /** Seconds from the end of the attack to the finding; undefined when it was missed. */
  readonly foundAfterS: number | undefined;
  readonly findingId: string | undefined;
}

async function attackOnce(
  options: DemoOptions,
  served: Served,
  world: World,
  attack: AttackDefinition,
): Promise<Outcome> {
  const since = new Date();
  try {
    await attack.run(world);
  } catch (error) {
    options.print(`attack ${attack.id} broke off: ${messageOf(error)}`);
    return { attack, foundAfterS: undefined, findingId: undefined };
  }
  const ended = Date.now();
  await world.flush();
  const finding = await awaitFinding(
    served.apiUrl ?? '',
    attack,
    since,
    FINDING_TIMEOUT_MS,
    options.signal,
  );
  const foundAfterS = finding === undefined ? undefined : (Date.now() - ended) / 1_000;
  const missed = options.signal.aborted ? 'not waited for, the demo is stopping' : 'not found';
  const result =
    finding === undefined
      ? missed
      : `found after ${(foundAfterS ?? 0).toFixed(1)} s: ${finding.summary}`;
  options.print(`attack ${attack.id}: ${result}`);
  return { attack, foundAfterS, findingId: finding?.finding_id };
}

/** Every attack amid honest traffic; all must be found. */
async function runOnce(
  options: DemoOptions,
  served: Served,
  world: World,
  attacks: readonly AttackDefinition[],
): Promise<number> {
  const traffic = startTraffic(world, { flowsPerMinute: options.flowsPerMinute });
  const outcomes: Outcome[] = [];
  try {
    for (const attack of attacks) {
      if (options.signal.aborted) break;
      outcomes.push(await attackOnce(options, served, world, attack));
    }
  } finally {
    await traffic.stop();
  }
  const found = outcomes.filter((o) => o.foundAfterS !== undefined).length;
  options.print('');
  options.print(`${'attack'.padEnd(30)} ${'expected rule'.padEnd(30)} found after`);
  for (const { attack, foundAfterS } of outcomes) {
    const when = foundAfterS === undefined ? 'not found' : `${foundAfterS.toFixed(1)} s`;
    options.print(`${attack.id.padEnd(30)} ${attack.rule.padEnd(30)} ${when}`);
  }
  report(options, traffic.statistics, world);
  options.print(`${found} of ${attacks.length} attacks found`);
  return found === attacks.length ? 0 : 1;
}

/** The world has a host whose clock is wrong (demo/world.ts): the rule that says so is right, and that is no attack. */
const RULES_OF_REAL_TROUBLE: readonly string[] = ['clock_skew'];

/**
 * Minutes of honest traffic in as little time as it takes; no finding of medium or above may come of it,
 * but for the trouble that the world really has.
 * A single attack afterwards is the control: were the detectors asleep, silence would prove nothing.
 */
async function runHonest(
  options: DemoOptions,
  served: Served,
  world: World,
  attacks: readonly AttackDefinition[],
): Promise<number> {
  const apiUrl = served.apiUrl ?? '';
  const flows = Math.ceil(options.honestMinutes * options.flowsPerMinute);
  const began = Date.now();
  const statistics = await runTraffic(world, flows, options.signal, (done) =>
    options.progress('honest flows', done, flows),
  );
  const seconds = ((Date.now() - began) / 1_000).toFixed(0);
  await world.flush();
  await served.flush();
  const [controlAttack] = attacks;
  const control =
    controlAttack === undefined || options.signal.aborted
      ? undefined
      : await attackOnce(options, served, world, controlAttack);
  await untilQuiet(apiUrl, options.signal);
  report(options, statistics, world);
  const findings = (await listFindings(apiUrl, {})).filter(
    (f) => f.finding_id !== control?.findingId,
  );
  const grave = findings.filter(
    (f) => !['info', 'low'].includes(f.severity) && !RULES_OF_REAL_TROUBLE.includes(f.rule_id),
  );
  options.print(
    `${flows} honest flows in ${seconds} s: ${findings.length} findings, ${grave.length} of severity medium or above`,
  );
  for (const [what, times] of countBy(findings, (f) => `${f.severity} ${f.rule_id} ${f.verdict}`)) {
    options.print(`  ${times} x ${what}`);
  }
  for (const f of grave) options.print(`  ${f.severity} ${f.rule_id} ${f.verdict}: ${f.summary}`);
  const isAwake = control?.findingId !== undefined;
  if (!isAwake) options.print('the control attack was not found, so the silence proves nothing');
  return grave.length === 0 && statistics.failures.size === 0 && isAwake ? 0 : 1;
}

function countBy<T>(items: readonly T[], keyOf: (item: T) => string): [string, number][] {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a.localeCompare(b));
}

/** Waits until the detectors have caught up: the findings stay the same for some looks. */
async function untilQuiet(apiUrl: string, signal: AbortSignal): Promise<void> {
  let before = '';
  for (let quiet = 0; quiet < QUIET_LOOKS && !signal.aborted; quiet += 1) {
    const findings = await listFindings(apiUrl, {});
    const now = findings.map((f) => `${f.finding_id} ${f.updated_at}`).join('\n');
    if (now !== before) quiet = 0;
    before = now;
    await wait(QUIET_LOOK_MS);
  }
}

function report(options: DemoOptions, statistics: TrafficStatistics, world: World): void {
  const total = [...statistics.done.values()].reduce((sum, n) => sum + n, 0);
  options.print(
    `honest flows: ${total} done, ${statistics.skipped} skipped; spans lost: ${world.telemetryLost()}`,
  );
  for (const [what, times] of statistics.failures) options.print(`  failed ${times} x ${what}`);
}
