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

/** A runner of all rules (or `rules`) over one tenant; `limits` make pages and sweeps small. */
export async function makeRunner(
  store: Store,
  tenant: string,
  options: {
    readonly limits?: Partial<RunnerLimits>;
    readonly rules?: readonly Detector[];
    readonly clients?: readonly StatedClient[];
    readonly clock?: ManualClock;
    readonly metrics?: Metrics;
    readonly overrides?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  } = {},
): Promise<Runner> {
  return new Runner({
    store,
    tenant,
    detectors: bindDetectors(options.rules ?? (await loadDetectors()), options.overrides ?? {}),
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
 * One world out of the examples of rules that run with default parameters. What each example is about is renamed, so that
 * examples don't meet: references, clients, networks, issuers, hosts that send, keys, traces.
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
      const names = new Names(`${detector.id} ${i}`);
      const own = exampleEvents(example, tenant).map((e) => renamed(e, names));
      events.push(...own.map((e) => withMentions(e, names)));
      clients.push(
        ...(example.clients ?? []).map((c) => ({ ...c, client_id: names.text(c.client_id) })),
      );
    }
  }
  return { events, clients };
}

/** A number of 24 bits that follows from a text. */
function hashOf(text: string): number {
  return Number.parseInt(exampleRef(text).slice(0, 6), 16);
}

/**
 * Another name for each thing of an example, the same at every mention: so that examples don't meet, and what an example
 * compares is still equal or different. Networks stay networks of their kind; hosts stay, as rules read them.
 */
class Names {
  readonly #salt: string;
  readonly #known = new Map<string, string>();

  constructor(salt: string) {
    this.#salt = salt;
  }

  ref(value: string): string {
    return this.#note(value, () => exampleRef(`${value} ${this.#salt}`));
  }

  text(value: string): string {
    return this.#note(value, () => `${value} ${this.#salt}`);
  }

  network(value: string): string {
    return this.#note(value, () => {
      const n = hashOf(`${value} ${this.#salt}`);
      if (/^\d+\.\d+\.\d+\.0\/24$/.test(value))
        return `${20 + (n % 80)}.${(n >> 8) % 256}.${(n >> 16) % 256}.0/24`;
      if (value.endsWith('::/48'))
        return `2a00:${(n >> 12).toString(16)}:${(n & 0xfff).toString(16)}::/48`;
      return /^AS\d+$/.test(value) ? `AS${100_000 + n}` : value;
    });
  }

  /** An address moves with its /24; other addresses stay. */
  address(value: string): string {
    const prefix = /^(\d+\.\d+\.\d+)\.(\d+)$/.exec(value);
    if (prefix === null) return value;
    return this.network(`${prefix[1]}.0/24`).replace(/0\/24$/, prefix[2] ?? '');
  }

  /** What was named elsewhere in the example, else the value itself. */
  mentioned(value: string): string {
    return this.#known.get(value) ?? value;
  }

  #note(value: string, rename: () => string): string {
    if (value === '') return '';
    const name = this.#known.get(value) ?? rename();
    this.#known.set(value, name);
    return name;
  }
}

function renamed(event: AuthEvent, names: Names): AuthEvent {
  return {
    ...event,
    event_id: names.ref(event.event_id),
    source: { ...event.source, instance: names.text(event.source.instance) },
    client: { ...event.client, id: names.text(event.client.id) },
    requested_client_id: names.text(event.requested_client_id),
    subject: { ...event.subject, ref: names.ref(event.subject.ref) },
    actor: { ...event.actor, ref: names.ref(event.actor.ref) },
    session_ref: names.ref(event.session_ref),
    grant_ref: names.ref(event.grant_ref),
    issuer: names.text(event.issuer),
    binding_thumbprint: names.text(event.binding_thumbprint),
    net: {
      ...event.net,
      client_ip: names.address(event.net.client_ip),
      network: names.network(event.net.network),
    },
    key: { ...event.key, kid: names.text(event.key.kid) },
    corr: {
      ...event.corr,
      trace_id: names.text(event.corr.trace_id),
      request_id: names.text(event.corr.request_id),
    },
    tokens: event.tokens.map((t) => ({
      ...t,
      ref: names.ref(t.ref),
      family_ref: names.ref(t.family_ref),
      parent_ref: names.ref(t.parent_ref),
      kid: names.text(t.kid),
    })),
  };
}

/** Audiences, resources and extra fields that name something of the example name it as it is called now. */
function withMentions(event: AuthEvent, names: Names): AuthEvent {
  const ext = Object.entries(event.ext).map(([k, v]) => [k, names.mentioned(v)] as const);
  return {
    ...event,
    audience: event.audience.map((v) => names.mentioned(v)),
    resource: event.resource.map((v) => names.mentioned(v)),
    ext: Object.fromEntries(ext),
  };
}

/** Rules that find something in a world: those with an example that fires with default parameters. */
export function rulesOfWorld(detectors: readonly Detector[]): readonly string[] {
  return detectors
    .filter((d) => d.examples.some((e) => e.parameters === undefined && e.expect.length > 0))
    .map((d) => d.id);
}

/** The rules in groups of about one size, so that a world and a test stay small: every n-th rule together. */
export function groupsOf(detectors: readonly Detector[], size: number): readonly Detector[][] {
  const groups = Math.max(1, Math.ceil(detectors.length / size));
  return Array.from({ length: groups }, (_, g) => detectors.filter((_d, i) => i % groups === g));
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
