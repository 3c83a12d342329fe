import { completeEvent, type PartialEvent } from '../model/complete_event.ts';
import type { AuthEvent } from '../model/auth_event.ts';
import { EXAMPLE_START_MS, type Detector } from '../model/define_detector.ts';
import { exampleRef } from '../model/example_ref.ts';
import type { StatedClient } from '../detectors/client_registry.ts';
import { DetectorMetrics } from '../detectors/detector_metrics.ts';
import { exampleEvents } from '../detectors/examples.ts';
import { bindDetectors, loadDetectors } from '../detectors/registry.ts';
import { Runner, type RunnerLimits } from '../detectors/runner.ts';
import { ManualClock } from '../runtime/clock.ts';
import { createLog } from '../runtime/log.ts';
import { Metrics } from '../runtime/metrics.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';

const NS_PER_MS = 1_000_000n;

/** When the clock of runners stands: soon after the examples, so that their findings are open. */
export const WORLD_NOW_MS = EXAMPLE_START_MS + 3_600_000;

/** All rules with default parameters and a runner over one tenant; `limits` make pages and sweeps small. */
export async function makeRunner(
  store: Store,
  tenant: string,
  options: {
    readonly limits?: Partial<RunnerLimits>;
    readonly clients?: readonly StatedClient[];
    readonly clock?: ManualClock;
    readonly metrics?: Metrics;
    readonly overrides?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  } = {},
): Promise<Runner> {
  return new Runner({
    store,
    tenant,
    detectors: bindDetectors(await loadDetectors(), options.overrides ?? {}),
    clients: options.clients ?? [],
    clock: options.clock ?? new ManualClock(WORLD_NOW_MS),
    log: createLog({ level: 'silent' }),
    metrics: new DetectorMetrics(options.metrics ?? new Metrics({ processMetrics: false })),
    limits: { sweepLagMs: 0, sweepIntervalMs: 0, ...options.limits },
  });
}

/** Findings of a tenant without what the engine's clock decides, sorted; superseded ones apart. */
export async function readFindings(
  store: Store,
  tenant: string,
): Promise<{ readonly current: readonly Row[]; readonly superseded: number }> {
  const rows = await store.query<Row>(
    sql`SELECT * EXCEPT (tenant, detected_at, updated_at, version) FROM grantscope.findings FINAL WHERE tenant = ${param.string(tenant)} ORDER BY rule_id, entity_ref, episode`,
  );
  return {
    current: rows.filter((r) => r['state'] !== 'superseded'),
    superseded: rows.filter((r) => r['state'] === 'superseded').length,
  };
}
export type Row = Readonly<Record<string, unknown>>;

/** What identifies and describes a finding, whatever the tenant it was found in. */
export function withoutTenant(rows: readonly Row[]): readonly Row[] {
  return rows.map((row) =>
    Object.fromEntries(Object.entries(row).filter(([name]) => name !== 'finding_id')),
  );
}

/**
 * One world out of the examples of all rules that run with default parameters: refs, clients and event ids
 * of each example are renamed, so that examples don't meet.
 */
export function exampleWorld(
  detectors: readonly Detector[],
  tenant: string,
): {
  readonly events: readonly AuthEvent[];
  readonly clients: readonly StatedClient[];
} {
  const events: AuthEvent[] = [];
  const clients: StatedClient[] = [];
  for (const detector of detectors) {
    for (const [i, example] of detector.examples.entries()) {
      if (example.parameters !== undefined) continue;
      const salt = `${detector.id} ${i}`;
      events.push(...exampleEvents(example, tenant).map((e) => renamed(e, salt)));
      clients.push(
        ...(example.clients ?? []).map((c) => ({ ...c, client_id: `${c.client_id} ${salt}` })),
      );
    }
  }
  return { events, clients };
}

function renamed(event: AuthEvent, salt: string): AuthEvent {
  const ref = (value: string): string => (value === '' ? '' : exampleRef(`${value} ${salt}`));
  return {
    ...event,
    event_id: ref(event.event_id),
    client: {
      ...event.client,
      id: event.client.id === '' ? '' : `${event.client.id} ${salt}`,
    },
    grant_ref: ref(event.grant_ref),
    corr: {
      ...event.corr,
      trace_id: event.corr.trace_id === '' ? '' : `${event.corr.trace_id} ${salt}`,
    },
    tokens: event.tokens.map((t) => ({
      ...t,
      ref: ref(t.ref),
      family_ref: ref(t.family_ref),
      parent_ref: ref(t.parent_ref),
    })),
  };
}

/** mulberry32: a small seeded generator, so that a printed seed gives the same corpus again. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** An event at a second after EXAMPLE_START_MS. */
export function eventAt(
  tenant: string,
  id: string,
  t: number,
  event: Omit<PartialEvent, 'event_id' | 'time' | 'tenant'>,
): AuthEvent {
  return completeEvent({
    ...event,
    tenant,
    event_id: exampleRef(id),
    time: BigInt(EXAMPLE_START_MS + Math.round(t * 1_000)) * NS_PER_MS,
  });
}
