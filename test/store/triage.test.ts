// How: triage and suppressions over the real embedded engine with a clock set by hand. Findings are written as the detectors
// write them; each expectation is what the history, the status and the alerts then say.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENTITY_ALERTS_MAX, findingAlerts, TRIAGE_GRACE_MS } from '../../alerts/desired_alerts.ts';
import { FULL_ROUND_INTERVAL_MS, Triage } from '../../detectors/triage/triage.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import type { Finding } from '../../model/finding.ts';
import type { SuppressionRequest } from '../../model/suppression.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { insertEvents } from '../../store/insert.ts';
import {
  addSuppression,
  listSuppressions,
  removeSuppression,
} from '../../store/queries/suppressions.ts';
import { readChanges, readStatuses } from '../../store/queries/triage.ts';
import { id, insertFindings, makeFinding } from '../api_seed.ts';
import { openTestStore } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const DAY_MS = 86_400_000;
const iso = (ms: number): string => new Date(ms).toISOString();

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

let tenants = 0;
/** A tenant of its own with a triage, and the verbs of this test. */
function world(configured: readonly SuppressionRequest[] = []) {
  const tenant = `triage_${(tenants += 1)}`;
  const clock = new ManualClock(NOW_MS);
  const metrics = new Metrics({ processMetrics: false });
  const scope = { store: engine.store, tenant };
  const make = (): Triage =>
    new Triage({
      store: engine.store,
      tenant,
      clock,
      metrics: new Metrics({ processMetrics: false }),
      configured,
    });
  const triage = new Triage({ store: engine.store, tenant, clock, metrics, configured });
  let version = 0;
  return {
    tenant,
    clock,
    metrics,
    scope,
    triage,
    restarted: make,
    /** Writes a finding: 1 is an hour old, and so on. */
    write: async (n: number, fields: Partial<Finding> = {}) => {
      const finding = makeFinding({
        finding_id: id('1', n),
        tenant,
        first_event_time: iso(NOW_MS - 3_600_000),
        last_event_time: iso(NOW_MS - 1_800_000),
        detected_at: iso(NOW_MS - 1_000_000 + n),
        updated_at: iso(clock.nowMs()),
        ...fields,
      });
      await insertFindings(engine.store, [finding], (version += 1));
      return finding;
    },
    /** One round about these findings. */
    round: async (...ns: number[]) => {
      const steps = await triage.round(ns.map((n) => id('1', n)));
      return steps.map((s) => [Number.parseInt(s.finding_id.slice(-4), 16), s.change]);
    },
    history: async (n: number) =>
      (await readChanges(scope, id('1', n))).map((s) => `${s.change} ${s.state} ${s.treatment}`),
    status: async (n: number) => (await readStatuses(scope, [id('1', n)])).get(id('1', n)),
    alerts: async () =>
      (await findingAlerts(engine.store, tenant, 'http://console', clock.nowMs())).alerts,
    suppress: (fields: Partial<SuppressionRequest>) =>
      addSuppression(
        scope,
        {
          owner: 'soc',
          reason: 'known scanner',
          expires_at: iso(clock.nowMs() + DAY_MS),
          ...fields,
        },
        { createdBy: 'ann', nowMs: clock.nowMs() },
      ),
  };
}

describe('episodes', () => {
  it('tell each change of state once, and count what was reopened under the same id', async () => {
    const w = world();
    await w.write(1);
    expect(await w.round()).toEqual([[1, 'opened']]);
    expect(await w.round(1)).toEqual([]);
    // More evidence alone is no news.
    await w.write(1, { summary: 'seen again', evidence: { count: 2 } });
    expect(await w.round(1)).toEqual([]);
    await w.write(1, { severity: 'critical' });
    expect(await w.round(1)).toEqual([[1, 'escalated']]);
    await w.write(1, { severity: 'high', verdict: 'undetermined' });
    expect(await w.round(1)).toEqual([[1, 'updated']]);
    await w.write(1, { severity: 'high', verdict: 'undetermined', state: 'closed' });
    expect(await w.round(1)).toEqual([[1, 'closed']]);
    await w.write(1, { severity: 'high', verdict: 'undetermined' });
    expect(await w.round(1)).toEqual([[1, 'reopened']]);
    await w.write(1, { severity: 'high', verdict: 'undetermined', state: 'superseded' });
    expect(await w.round(1)).toEqual([[1, 'superseded']]);
    await w.write(1, { severity: 'high', verdict: 'undetermined' });
    expect(await w.round(1)).toEqual([[1, 'reopened']]);
    expect((await w.status(1))?.reopened).toBe(2);
    expect((await w.status(1))?.change_no).toBe(7);
    expect(await w.history(1)).toEqual([
      'opened open active',
      'escalated open active',
      'updated open active',
      'closed closed active',
      'reopened open active',
      'superseded superseded active',
      'reopened open active',
    ]);
    expect(await w.metrics.registry.metrics()).toContain(
      'grantscope_triage_steps_total{change="reopened"} 2',
    );
  });

  it('go on after a restart without telling anything again, and two at once write one history', async () => {
    const w = world();
    for (let n = 1; n <= 3; n += 1) await w.write(n);
    const other = w.restarted();
    const [a, b] = await Promise.all([w.triage.round([]), other.round([])]);
    expect(a.length + b.length).toBeGreaterThanOrEqual(3);
    expect(await w.history(1)).toEqual(['opened open active']);
    expect(await w.restarted().round([id('1', 1)])).toEqual([]);
    // What changed while nothing ran is found by the first round.
    await w.write(2, { state: 'closed' });
    const steps = await w.restarted().round([]);
    expect(steps.map((s) => [s.finding_id, s.change])).toEqual([[id('1', 2), 'closed']]);
  });

  it('find over the pause what no hint told, and not before', async () => {
    const w = world();
    expect(await w.round()).toEqual([]);
    await w.write(1);
    w.clock.advance(FULL_ROUND_INTERVAL_MS - 1);
    expect(await w.round()).toEqual([]);
    w.clock.advance(1);
    expect(await w.round()).toEqual([[1, 'opened']]);
  });
});

describe('suppressions', () => {
  it('keep a finding visible with by whom and why, hide it from alerts, and count it once', async () => {
    const w = world();
    const s = await w.suppress({ client_id: 'shop-web', rule_id: 'refresh_token_reuse' });
    expect(s.severity_max).toBe('medium');
    await w.write(1, { severity: 'medium' });
    await w.write(2, { severity: 'medium', client_id: 'other' });
    expect(await w.round()).toEqual([
      [1, 'opened'],
      [2, 'opened'],
    ]);
    expect(await w.status(1)).toMatchObject({
      treatment: 'suppressed',
      treated_kind: 'suppression',
      treated_by: s.suppression_id,
      treated_owner: 'soc',
      treated_reason: 'known scanner',
      treated_until: iso(NOW_MS + DAY_MS),
    });
    expect((await w.alerts()).map((a) => a.findingIds)).toEqual([[id('1', 2)]]);
    await w.write(1, { severity: 'medium', verdict: 'undetermined' });
    await w.round(1);
    const [listed] = await listSuppressions(w.scope, w.clock.nowMs());
    expect([listed?.hits, listed?.last_hit_at]).toEqual([1, iso(NOW_MS)]);
    expect(await w.metrics.registry.metrics()).toContain(
      'grantscope_triage_open_findings{treatment="suppressed"} 1',
    );
  });

  it('let a graver finding through, and say so', async () => {
    const w = world();
    const s = await w.suppress({ client_id: 'shop-web', severity_max: 'high' });
    await w.write(1, { severity: 'high' });
    await w.round();
    expect(await w.alerts()).toEqual([]);
    await w.write(1, { severity: 'critical' });
    expect(await w.round(1)).toEqual([[1, 'released']]);
    expect(await w.status(1)).toMatchObject({
      treatment: 'active',
      severity: 'critical',
      treated_reason: `critical breaks through suppression ${s.suppression_id} (client shop-web), which hides up to high`,
    });
    expect(await w.alerts()).toHaveLength(1);
    await w.write(1, { severity: 'high' });
    expect(await w.round(1)).toEqual([[1, 'suppressed']]);
  });

  it('release what they hid when they end, at that very moment, and when somebody removes them', async () => {
    const w = world();
    const short = await w.suppress({
      client_id: 'shop-web',
      severity_max: 'high',
      expires_at: iso(NOW_MS + 60_000),
    });
    const long = await w.suppress({ client_id: 'other', severity_max: 'high' });
    await w.write(1);
    await w.write(2, { client_id: 'other' });
    await w.round();
    w.clock.advance(59_999);
    expect(await w.round(1, 2)).toEqual([]);
    w.clock.advance(1);
    expect(await w.round(1, 2)).toEqual([[1, 'released']]);
    const by = { removedBy: 'bob', reason: 'fixed', nowMs: w.clock.nowMs() };
    const removed = await removeSuppression(w.scope, long.suppression_id, by);
    expect(removed).toMatchObject({ removed_by: 'bob', removed_reason: 'fixed', hits: 1 });
    expect(await w.round(2)).toEqual([[2, 'released']]);
    expect(await w.history(2)).toEqual(['opened open suppressed', 'released open active']);
    for (const suppression of [short, long])
      await expect(removeSuppression(w.scope, suppression.suppression_id, by)).rejects.toThrow(
        /it is (expired|removed) already/,
      );
    await expect(removeSuppression(w.scope, id('0', 9), by)).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('of grantscope.yaml begin with the first round, keep their id, and end when no longer stated', async () => {
    const stated: SuppressionRequest = {
      rule_id: 'refresh_token_reuse',
      severity_max: 'high',
      owner: 'team',
      reason: 'a defect of the client',
      expires_at: iso(NOW_MS + DAY_MS),
    };
    const w = world([stated]);
    await w.write(1);
    expect(await w.round()).toEqual([[1, 'opened']]);
    expect((await w.status(1))?.treatment).toBe('suppressed');
    const [first] = await listSuppressions(w.scope, NOW_MS);
    expect(first).toMatchObject({ origin: 'config', created_by: 'grantscope.yaml', hits: 1 });
    const by = { removedBy: 'bob', reason: 'x', nowMs: NOW_MS };
    await expect(removeSuppression(w.scope, first!.suppression_id, by)).rejects.toThrow(
      /grantscope.yaml states it; remove it there/,
    );
    await w.restarted().round([]);
    expect(await listSuppressions(w.scope, NOW_MS)).toHaveLength(1);
    w.clock.advance(1_000);
    const without = new Triage({
      store: engine.store,
      tenant: w.tenant,
      clock: w.clock,
      metrics: new Metrics({ processMetrics: false }),
      configured: [],
    });
    expect((await without.round([])).map((s) => s.change)).toEqual(['released']);
    expect((await listSuppressions(w.scope, w.clock.nowMs()))[0]).toMatchObject({
      suppression_id: first!.suppression_id,
      removed_by: 'grantscope.yaml',
      removed_reason: `no longer stated; it had hidden 1 finding(s), last at ${iso(NOW_MS)}`,
    });
  });
});

const event = (tenant: string, n: number, ms: number, fields: Partial<PartialEvent>) =>
  completeEvent({
    event_id: id('e', n),
    tenant,
    time: BigInt(ms) * 1_000_000n,
    kind: 'key_rotated',
    outcome: 'success',
    issuer: 'https://as.example',
    source: { id: 'keycloak', vendor: 'keycloak', product: 'keycloak', instance: 'as-1' },
    ...fields,
  });
const at = NOW_MS - 3_600_000;
const forged = (firstMs: number, lastMs: number, fields: Partial<Finding> = {}) => ({
  rule_id: 'key_or_alg_forgery',
  verdict: 'refused_burst',
  severity: 'medium' as const,
  first_event_time: iso(firstMs),
  last_event_time: iso(lastMs),
  ...fields,
});

describe('inhibitions', () => {
  it('mute what a key rotation causes, for ten minutes of events and its issuer only', async () => {
    const w = world();
    await insertEvents(engine.store, [event(w.tenant, 1, at, {})]);
    await w.write(1, forged(at - 60_000, at + 600_000));
    await w.write(2, forged(at - 60_001, at + 600_000));
    await w.write(3, forged(at, at + 600_001));
    await w.write(4, forged(at, at, { issuer: 'https://other.example' }));
    await w.write(5, forged(at, at, { issuer: '' }));
    await w.write(6, forged(at, at, { severity: 'critical' }));
    await w.write(7, forged(at, at, { rule_id: 'refresh_token_reuse' }));
    await w.write(8, forged(at, at, { verdict: 'unknown_key_accepted' }));
    await w.round();
    const treatments = await Promise.all(
      [1, 2, 3, 4, 5, 6, 7, 8].map(async (n) => (await w.status(n))?.treatment),
    );
    expect(treatments).toEqual(['inhibited', ...Array.from({ length: 7 }, () => 'active')]);
    expect(await w.status(1)).toMatchObject({
      treated_kind: 'event',
      treated_by: id('e', 1),
      inhibition: 'key_rotation',
      treated_reason:
        'signing keys were rotated; verifiers that cache keys refuse tokens until they reload',
      treated_until: iso(at + 600_000),
    });
    expect((await w.alerts()).flatMap((a) => a.findingIds)).not.toContain(id('1', 1));
    // The evidence outgrows the rotation.
    await w.write(1, forged(at, at + 600_001));
    expect(await w.round(1)).toEqual([[1, 'released']]);
  });

  it('take back an alert when the cause is heard of late, and nothing for a rotation that failed', async () => {
    const w = world();
    await w.write(1, forged(at, at));
    await w.round();
    expect(await w.alerts()).toHaveLength(1);
    await insertEvents(engine.store, [event(w.tenant, 11, at, { outcome: 'failure' })]);
    expect(await w.round(1)).toEqual([]);
    await insertEvents(engine.store, [event(w.tenant, 12, at, {})]);
    expect(await w.round(1)).toEqual([[1, 'inhibited']]);
    expect(await w.alerts()).toEqual([]);
  });

  it('know a deploy by its mark, and only honest verdicts are its consequences', async () => {
    const w = world();
    const deploy = { kind: 'policy_changed' as const, ext: { change: 'deploy' } };
    await insertEvents(engine.store, [
      event(w.tenant, 21, at, deploy),
      event(w.tenant, 22, at - DAY_MS, { kind: 'policy_changed' }),
    ]);
    const reuse = (ms: number, verdict: string) => ({
      first_event_time: iso(ms),
      last_event_time: iso(ms),
      verdict,
    });
    await w.write(1, reuse(at, 'lost_response'));
    await w.write(2, reuse(at, 'theft'));
    await w.write(3, reuse(at - DAY_MS, 'lost_response'));
    await w.round();
    expect([(await w.status(1))?.inhibition, (await w.status(1))?.treated_by]).toEqual([
      'deploy',
      id('e', 21),
    ]);
    expect((await w.status(2))?.treatment).toBe('active');
    expect((await w.status(3))?.treatment).toBe('active');
  });

  it('follow a finding that is the cause, and end when it is withdrawn', async () => {
    const w = world();
    const skew = {
      rule_id: 'clock_skew',
      verdict: 'host_clock',
      entity_type: 'source' as const,
      entity_ref: 'as-1',
      sources: ['keycloak'],
      first_event_time: iso(at),
      last_event_time: iso(at),
    };
    await w.write(1, skew);
    const lifetime = {
      rule_id: 'token_lifetime_anomaly',
      first_event_time: iso(at + 60_000),
      last_event_time: iso(at + 60_000),
    };
    await w.write(2, { ...lifetime, sources: ['keycloak'] });
    await w.write(3, { ...lifetime, sources: ['envoy', 'keycloak'] });
    await w.round();
    expect(await w.status(2)).toMatchObject({
      treatment: 'inhibited',
      treated_kind: 'finding',
      treated_by: id('1', 1),
      inhibition: 'clock_skew',
    });
    expect((await w.status(3))?.treatment).toBe('active');
    await w.write(1, { ...skew, state: 'superseded' });
    expect(await w.round(1, 2)).toEqual([
      [1, 'superseded'],
      [2, 'released'],
    ]);
  });

  it('mute what a wrong clock causes on its own host, whatever other hosts the source reads', async () => {
    const w = world();
    const of = (n: number, instance: string) =>
      event(w.tenant, n, at + 60_000, {
        kind: 'token_issued',
        source: { id: 'keycloak', vendor: 'keycloak', product: 'keycloak', instance },
      });
    await insertEvents(engine.store, [of(31, 'as-1'), of(32, 'as-2'), of(33, '')]);
    await w.write(1, {
      rule_id: 'clock_skew',
      verdict: 'host_clock',
      entity_type: 'source' as const,
      entity_ref: 'as-1',
      sources: ['otlp'],
      first_event_time: iso(at),
      last_event_time: iso(at),
    });
    const lifetime = (sources: string[], ...events: number[]) => ({
      rule_id: 'token_lifetime_anomaly',
      first_event_time: iso(at + 60_000),
      last_event_time: iso(at + 60_000),
      sources,
      event_ids: events.map((n) => id('e', n)),
    });
    // Another source that tells of the same host.
    await w.write(2, lifetime(['keycloak'], 31));
    await w.write(3, lifetime(['otlp'], 32));
    await w.write(4, lifetime(['otlp'], 31, 32));
    // A host without a name: the sources have to do.
    await w.write(5, lifetime(['otlp'], 31, 33));
    await w.write(6, lifetime(['keycloak'], 33));
    await w.round();
    const treated = [2, 3, 4, 5, 6].map(async (n) => [n, (await w.status(n))?.treatment]);
    expect(await Promise.all(treated)).toEqual([
      [2, 'inhibited'],
      [3, 'active'],
      [4, 'active'],
      [5, 'inhibited'],
      [6, 'active'],
    ]);
  });

  it('mute retries while the error budget burns, keep them muted after, and not for a shadow SLO', async () => {
    const w = world();
    const burning = (shadow: boolean, rate: number) => ({
      tenant: w.tenant,
      slo_id: 'token_issuance_success',
      state: 'breached',
      objective: 0.999,
      burn_rates: { '1h': rate, '5m': 20 },
      good_by_window: { '1h': 100 },
      bad_by_window: { '1h': 50 },
      shadow,
      computed_at: iso(w.clock.nowMs()).replace('T', ' ').replace('Z', ''),
    });
    const retry = {
      verdict: 'benign_race',
      first_event_time: iso(NOW_MS - 1_000),
      last_event_time: iso(NOW_MS),
    };
    await w.write(1, retry);
    await engine.store.insertRows('grantscope.slo_states', [burning(true, 14.4)]);
    await w.round();
    expect((await w.status(1))?.treatment).toBe('active');
    w.clock.advance(10_000);
    await engine.store.insertRows('grantscope.slo_states', [burning(false, 14.39)]);
    expect(await w.round(1)).toEqual([]);
    w.clock.advance(10_000);
    await engine.store.insertRows('grantscope.slo_states', [burning(false, 14.4)]);
    expect(await w.round(1)).toEqual([[1, 'inhibited']]);
    expect(await w.status(1)).toMatchObject({
      treated_kind: 'slo',
      treated_by: 'token_issuance_success',
      inhibition: 'as_outage',
      treated_until: iso(NOW_MS + 20_000 + 900_000),
    });
    w.clock.advance(10_000);
    await engine.store.insertRows('grantscope.slo_states', [burning(false, 0)]);
    expect(await w.round(1)).toEqual([]);
    await w.write(1, { ...retry, last_event_time: iso(NOW_MS + 920_001) });
    expect(await w.round(1)).toEqual([[1, 'released']]);
  });
});

describe('order', () => {
  it('of causes, findings and rounds does not show in what becomes of a finding', async () => {
    const around = fc.integer({ min: -700_000, max: 700_000 });
    const cause = fc.record({
      kind: fc.constant('cause' as const),
      at: around,
      hasIssuer: fc.boolean(),
    });
    const found = fc.record({
      kind: fc.constant('finding' as const),
      at: around,
      lasts: fc.constantFrom(0, 60_000, 600_000),
      severity: fc.constantFrom('medium' as const, 'critical' as const),
    });
    let run = 0;
    const play = async (things: readonly Drawn[]): Promise<unknown> => {
      const w = world();
      for (const { thing, n, isRound } of things) {
        if (thing.kind === 'cause') {
          const issuer = thing.hasIssuer ? 'https://as.example' : '';
          await insertEvents(engine.store, [
            event(w.tenant, 1_000 * run + n, at + thing.at, { issuer }),
          ]);
        } else {
          const { severity } = thing;
          await w.write(n, forged(at + thing.at, at + thing.at + thing.lasts, { severity }));
        }
        if (isRound) await w.round(...things.map((t) => t.n));
      }
      await w.round(...things.map((t) => t.n));
      return Promise.all(
        things
          .filter((t) => t.thing.kind === 'finding')
          .map((t) => t.n)
          .sort((a, b) => a - b)
          .map(async (n) => [n, (await w.status(n))?.treatment]),
      );
    };
    interface Drawn {
      readonly thing:
        | { kind: 'cause'; at: number; hasIssuer: boolean }
        | { kind: 'finding'; at: number; lasts: number; severity: 'medium' | 'critical' };
      readonly n: number;
      readonly isRound: boolean;
    }
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(cause, found), { minLength: 2, maxLength: 6 }),
        fc.array(fc.tuple(fc.nat(), fc.boolean()), { minLength: 6, maxLength: 6 }),
        async (things, luck) => {
          run += 1;
          const whole = things.map((thing, n) => ({ thing, n: n + 1, isRound: false }));
          const shuffled = whole
            .map((d, i) => ({ ...d, isRound: luck[i]![1], key: luck[i]![0] }))
            .sort((a, b) => a.key - b.key);
          expect(await play(shuffled)).toEqual(await play(whole));
        },
      ),
      { numRuns: Number(process.env['PROPERTY_RUNS'] ?? 12) },
    );
  });
});

describe('alerts', () => {
  it('hold back for a moment what triage has not seen, and no longer', async () => {
    const w = world();
    await w.write(1);
    w.clock.advance(TRIAGE_GRACE_MS - 1);
    expect(await w.alerts()).toEqual([]);
    w.clock.advance(1);
    expect(await w.alerts()).toHaveLength(1);
  });

  it('are one per client, and by entity where no client is known, up to a limit', async () => {
    const w = world();
    for (let n = 1; n <= ENTITY_ALERTS_MAX + 5; n += 1)
      await w.write(n, {
        rule_id: 'credential_spray',
        client_id: '',
        issuer: '',
        entity_type: 'network',
        entity_ref: `198.51.${n}.0/24`,
      });
    await w.write(100, {
      rule_id: 'credential_spray',
      client_id: '',
      issuer: '',
      entity_type: 'network',
      entity_ref: '198.51.1.0/24',
    });
    for (let n = 201; n <= 203; n += 1) await w.write(n, { entity_ref: id('f', n) });
    await w.round();
    const alerts = await w.alerts();
    const spray = alerts.filter((a) => a.labels['alertname'] === 'credential_spray');
    expect(spray).toHaveLength(ENTITY_ALERTS_MAX + 1);
    const first = spray.find((a) => a.labels['entity'] === 'network:198.51.1.0/24');
    expect(first?.annotations).toMatchObject({ findings: '2', entities: '1' });
    const rest = spray.find((a) => a.labels['entity'] === undefined);
    expect(rest?.annotations).toMatchObject({ findings: '5', entities: '5' });
    const clients = alerts.filter((a) => a.labels['client_id'] === 'shop-web');
    expect(clients).toHaveLength(1);
    expect(clients[0]?.annotations).toMatchObject({ findings: '3', entities: '3' });
  });
});
