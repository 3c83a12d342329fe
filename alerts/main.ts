import type { Runtime } from '../runtime/context.ts';
import type { Component } from '../runtime/lifecycle.ts';
import type { Store } from '../store/client.ts';
import { AlertmanagerClient } from './alertmanager_client.ts';
import { BurnTracker, type BurnAlert } from './burn.ts';
import { computeSlos, toStateRow, type SloState } from './compute.ts';
import { burnAlert, findingAlerts } from './desired_alerts.ts';
import { FigureReader } from './figures.ts';
import { Loop } from './loop.ts';
import { Notifier } from './notifier.ts';
import { applyOverrides, loadSlos } from './registry.ts';
import { SilenceKeeper } from './silences.ts';
import { isRollupCurrent, syncRollup } from './rollup_view.ts';
import { SloMetrics } from './slo_metrics.ts';
import { toSloStatus, type SloStatus } from './status.ts';
import { UnitJudge } from './units.ts';

/** Pause between two rounds of the notifier when nothing wakes it, ms. */
const NOTIFY_INTERVAL_MS = 5_000;
/** Shortest pause between two rounds, ms. */
const NOTIFY_PAUSE_MS = 500;

/** The SLOs of this installation, with what the configuration changes. */
async function configuredSlos(runtime: Runtime): Promise<ReturnType<typeof applyOverrides>> {
  return applyOverrides(await loadSlos(), runtime.config.slos);
}

/**
 * Has the store count by the definitions of this version. Where they differ from those that it counts by, `settle` first has to
 * store what a former run left; it returns false where that did not work, and then the former definitions stay until the
 * next start. To be called before anything is inserted. Returns whether the store counts by these definitions now.
 */
export async function prepareRollup(
  store: Store,
  settle: () => Promise<boolean>,
): Promise<boolean> {
  const slos = await loadSlos();
  if (await isRollupCurrent(store, slos)) return true;
  if (!(await settle())) return false;
  await syncRollup(store, slos);
  return true;
}

/**
 * Registers `slo_status`, which computes every enabled SLO afresh and returns `SloStatus[]`. `startAlerts` does this
 * too; on its own it serves a command that runs without a server.
 */
export function registerSloOperations(runtime: Runtime, store: Store): void {
  runtime.operations.register('slo_status', async (): Promise<readonly SloStatus[]> => {
    const { enabled } = await configuredSlos(runtime);
    const { tenant } = runtime.config;
    const states = await computeSlos(store, tenant, enabled, runtime.clock.nowMs());
    return (await new FigureReader(store, tenant, runtime.log).complete(states)).map(toSloStatus);
  });
}

/**
 * Starts the computation of the SLO states (every `sloIntervalMs`, into `grantscope.slo_states` and the gauges) and, where
 * `ALERTMANAGER_URL` is set, the notifier. Throws `definition_invalid` and `config_invalid`. Stopping waits
 * for the round under way; alerts stay as they are in Alertmanager until they expire there.
 */
export async function startAlerts(runtime: Runtime, store: Store): Promise<Component> {
  const { enabled, disabled } = await configuredSlos(runtime);
  registerSloOperations(runtime, store);
  const { tenant } = runtime.config;
  const units = new UnitJudge(store, tenant);
  const figures = new FigureReader(store, tenant, runtime.log);
  const gauges = new SloMetrics(runtime.metrics);
  for (const slo of enabled) gauges.declare(slo, true);
  for (const slo of disabled) gauges.declare(slo, false);
  const notifying =
    runtime.config.alertmanagerUrl === undefined
      ? undefined
      : await startNotifying(runtime, store, runtime.config.alertmanagerUrl);
  const compute = new Loop({
    name: 'slo_compute',
    intervalMs: runtime.config.sloIntervalMs,
    pauseMs: runtime.config.sloIntervalMs,
    log: runtime.log,
    work: async () => {
      const now = runtime.clock.nowMs();
      await units.round(enabled, now);
      const states = await figures.complete(await computeSlos(store, tenant, enabled, now));
      for (const state of states) gauges.set(state);
      notifying?.take(states, now);
      await store.insertRows(
        'grantscope.slo_states',
        states.map((s) => toStateRow(tenant, s, now)),
      );
      runtime.hints.emit('slos_changed', {});
    },
  });
  compute.start();
  return {
    name: 'alerts',
    stop: async () => {
      await compute.stop();
      await notifying?.stop();
    },
  };
}

interface Notifying {
  take(states: readonly SloState[], nowMs: number): void;
  stop(): Promise<void>;
}

async function startNotifying(runtime: Runtime, store: Store, url: string): Promise<Notifying> {
  const { tenant } = runtime.config;
  const consoleUrl = consoleUrlOf(runtime);
  const tracker = new BurnTracker();
  // Until the first SLO states are there, what burned before a restart is taken to burn still.
  let burning: readonly BurnAlert[] | undefined;
  const client = new AlertmanagerClient(url);
  const silencing = startSilencing(runtime, store, client);
  const notifier: Notifier = new Notifier({
    store,
    tenant,
    client,
    clock: runtime.clock,
    metrics: runtime.metrics,
    log: runtime.log,
    desired: async () => {
      const findings = await findingAlerts(store, tenant, consoleUrl, runtime.clock.nowMs());
      const burns =
        burning?.map((b) => burnAlert(b, consoleUrl)) ??
        (await notifier.load()).filter((a) => a.kind === 'slo');
      return { alerts: [...findings.alerts, ...burns], isTruncated: findings.isTruncated };
    },
  });
  const now = runtime.clock.nowMs();
  for (const alert of await notifier.load()) {
    if (alert.kind !== 'slo') continue;
    tracker.restore(alert.labels['slo'] ?? '', alert.labels['burn'] ?? '', alert.startsAtMs, now);
  }
  const loop = new Loop({
    name: 'notifier',
    intervalMs: NOTIFY_INTERVAL_MS,
    pauseMs: NOTIFY_PAUSE_MS,
    log: runtime.log,
    work: () => notifier.round(),
  });
  const unsubscribe = runtime.hints.on('findings_changed', () => loop.wake());
  loop.start();
  return {
    take: (states, nowMs) => {
      burning = tracker.step(states, nowMs);
      loop.wake();
    },
    stop: async () => {
      unsubscribe();
      await silencing.stop();
      await loop.stop();
    },
  };
}

/** Keeps Alertmanager's silences as they were asked for. */
function startSilencing(runtime: Runtime, store: Store, client: AlertmanagerClient): Component {
  const { clock, metrics, log } = runtime;
  const scope = { store, tenant: runtime.config.tenant };
  const keeper = new SilenceKeeper({ scope, client, clock, metrics, log });
  const loop = new Loop({
    name: 'silences',
    intervalMs: NOTIFY_INTERVAL_MS,
    pauseMs: NOTIFY_PAUSE_MS,
    log,
    work: () => keeper.round(),
  });
  const unsubscribe = runtime.hints.on('silences_changed', () => loop.wake());
  loop.start();
  return {
    name: 'silences',
    stop: async () => {
      unsubscribe();
      await loop.stop();
    },
  };
}

function consoleUrlOf(runtime: Runtime): string {
  const { publicUrl, apiListen } = runtime.config;
  if (publicUrl !== undefined) return publicUrl.replace(/\/$/, '');
  const host = apiListen.host.includes(':') ? `[${apiListen.host}]` : apiListen.host;
  return `http://${host}:${apiListen.port === 0 ? 7400 : apiListen.port}`;
}
