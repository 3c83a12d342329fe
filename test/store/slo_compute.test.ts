/**
 * The SLO computation against the real engine. Seeded histories go in shuffled, in batches of their own and with
 * late events; a recount of the raw events in TypeScript must then give the very same numbers.
 */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadSlos } from '../../alerts/registry.ts';
import { computeSlo, toStateRow } from '../../alerts/compute.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { classOf, SLO_WINDOWS, SLO_WINDOW_NAMES, type RatioSlo } from '../../model/define_slo.ts';
import { EVENT_KINDS, OUTCOMES, PHASES } from '../../model/kinds.ts';
import { param, sql } from '../../model/sql.ts';
import type { Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore } from '../harness.ts';

const MINUTE = 60_000;
/** A full minute, some days ago, so that no event is later than its arrival. */
const BASE_MS = Math.floor((Date.now() - 2 * 86_400_000) / MINUTE) * MINUTE;

/** Far enough into a minute that the watermark, 15 s behind, lies in the same one. */
const AT_MS = BASE_MS + 20_000;

let store: Store;
let close: () => Promise<void>;
let slo: RatioSlo;

beforeAll(async () => {
  ({ store, close } = await openTestStore());
  const found = (await loadSlos()).find((s) => s.id === 'token_issuance_success');
  if (found?.measure !== 'ratio') throw new Error('token_issuance_success is gone');
  slo = found;
});
afterAll(() => close());

let tenants = 0;
const newTenant = (): string => `slo_${(tenants += 1)}`;

function event(
  tenant: string,
  atMs: number,
  fields: Partial<Pick<AuthEvent, 'kind' | 'outcome' | 'phase' | 'grant_type'>> & {
    oauthError?: string;
    status?: number;
    source?: string;
  } = {},
): AuthEvent {
  return completeEvent({
    event_id: randomUUID(),
    tenant,
    time: BigInt(atMs) * 1_000_000n,
    kind: fields.kind ?? 'token_issued',
    outcome: fields.outcome ?? 'success',
    phase: fields.phase ?? 'single',
    grant_type: fields.grant_type ?? 'client_credentials',
    issuer: 'https://as.example',
    source: { id: fields.source ?? 'grantscope' },
    error: { oauth_error: fields.oauthError ?? '' },
    http: { status: fields.status ?? null },
  });
}

/** What computeSlo must return, from nothing but the events. */
function recount(events: readonly AuthEvent[]) {
  const timeMs = (e: AuthEvent): number => Number(e.time / 1_000_000n);
  const classes = events.map((e) =>
    e.phase === 'attempt'
      ? undefined
      : classOf(slo, {
          kind: e.kind,
          outcome: e.outcome,
          endpoint: e.endpoint,
          grant_type: e.grant_type,
          error_oauth_error: e.error.oauth_error,
          error_code: e.error.code,
          mode: e.ext['validation_mode'] ?? '',
          subject_type: e.subject.type,
          http_duration_ms: e.http.duration_ms,
          http_status: e.http.status ?? 0,
        }),
  );
  const newest = Math.max(...events.map(timeMs));
  const fed = new Set(
    events
      .filter((e, i) => classes[i] !== undefined && timeMs(e) >= newest - 30 * 86_400_000)
      .map((e) => e.source.id),
  );
  const feed = events.filter((e) => fed.size === 0 || fed.has(e.source.id));
  const watermark = Math.max(...feed.map(timeMs)) - slo.latenessSeconds * 1_000;
  const end = Math.floor(watermark / MINUTE) * MINUTE + MINUTE;
  const count = (name: string, windowSeconds: number): number =>
    events.filter(
      (e, i) => classes[i] === name && timeMs(e) < end && timeMs(e) >= end - windowSeconds * 1_000,
    ).length;
  return {
    watermark,
    end,
    windows: Object.fromEntries(
      SLO_WINDOW_NAMES.map((w) => [
        w,
        { good: count('good', SLO_WINDOWS[w]), bad: count('bad', SLO_WINDOWS[w]) },
      ]),
    ),
    excluded: count('excluded', SLO_WINDOWS['30d']),
    unclassified: count('unclassified', SLO_WINDOWS['30d']),
  };
}

describe('computeSlo', () => {
  it('counts exactly what a recount of the events gives, late events included', async () => {
    const drawn = fc.record({
      // Mostly recent, some beyond each window and some beyond them all.
      ageMs: fc.oneof(
        fc.integer({ min: 0, max: 20 * MINUTE }),
        fc.integer({ min: 0, max: 26 * 60 * MINUTE }),
        fc.integer({ min: 0, max: 33 * 24 * 60 * MINUTE }),
      ),
      kind: fc.oneof(
        fc.constantFrom('token_issued', 'token_refreshed', 'token_request_failed' as const),
        fc.constantFrom(...EVENT_KINDS),
      ),
      outcome: fc.constantFrom(...OUTCOMES),
      phase: fc.constantFrom(...PHASES),
      oauthError: fc.constantFrom('', 'invalid_grant', 'server_error', 'invalid_client'),
      status: fc.constantFrom(0, 200, 400, 429, 499, 500, 503),
      source: fc.constantFrom('as', 'gateway'),
      isLate: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(drawn, { minLength: 1, maxLength: 60 }), async (history) => {
        const tenant = newTenant();
        const events = history.map((h) =>
          event(tenant, BASE_MS - h.ageMs, h as Parameters<typeof event>[2]),
        );
        const onTime = events.filter((_, i) => history[i]?.isLate === false);
        const late = events.filter((_, i) => history[i]?.isLate === true);
        await insertEvents(store, onTime, randomUUID());
        const token = randomUUID();
        await insertEvents(store, late, token);
        // The same segment once more, as after a lost acknowledgement: it must not count twice.
        await insertEvents(store, late, token);
        const state = await computeSlo(store, tenant, slo, BASE_MS);
        const expected = recount(events);
        expect({
          watermark: state.watermarkMs,
          end: state.endMs,
          windows: state.windows,
          excluded: state.excluded,
          unclassified: state.unclassified,
        }).toEqual(expected);
      }),
      { numRuns: 40 },
    );
  });

  it('is unmeasured before the first event, and no_traffic with events of other kinds only', async () => {
    const tenant = newTenant();
    const before = await computeSlo(store, tenant, slo, AT_MS);
    expect(before.state).toBe('unmeasured');
    expect(before.watermarkMs).toBeUndefined();
    expect(before.budgetRemaining).toBeUndefined();
    await insertEvents(store, [event(tenant, AT_MS, { kind: 'login' })]);
    const after = await computeSlo(store, tenant, slo, AT_MS);
    expect(after.state).toBe('no_traffic');
    expect(after.burnRates).toEqual({});
    expect(after.budgetRemaining).toBeUndefined();
  });

  it('weighs the budget by events and lets it go below zero', async () => {
    const tenant = newTenant();
    const good = Array.from({ length: 996 }, (_, i) => event(tenant, AT_MS - i * 10));
    const bad = (n: number): AuthEvent[] =>
      Array.from({ length: n }, () =>
        event(tenant, AT_MS - MINUTE, { kind: 'token_request_failed', status: 503 }),
      );
    await insertEvents(store, [...good, ...bad(4)]);
    const overspent = await computeSlo(store, tenant, slo, AT_MS);
    expect(overspent.state).toBe('breached');
    expect(overspent.windows['30d']).toEqual({ good: 996, bad: 4 });
    expect(overspent.budgetRemaining).toBeCloseTo(-3, 9);
    expect(overspent.burnRates['1h']).toBeCloseTo(4, 9);
  });

  it('is met with the budget spent to the last event, breached with one more', async () => {
    const tenant = newTenant();
    await insertEvents(store, [
      ...Array.from({ length: 999 }, (_, i) => event(tenant, AT_MS - i)),
      event(tenant, AT_MS, { kind: 'token_request_failed', oauthError: 'server_error' }),
    ]);
    const spent = await computeSlo(store, tenant, slo, AT_MS);
    expect(spent.state).toBe('met');
    expect(spent.budgetRemaining).toBeCloseTo(0, 9);
    await insertEvents(store, [event(tenant, AT_MS - 5, { kind: 'token_request_failed' })]);
    expect((await computeSlo(store, tenant, slo, AT_MS)).state).toBe('breached');
  });

  it('is unmeasured once the watermark has stood still for longer than ten minutes', async () => {
    const tenant = newTenant();
    await insertEvents(store, [event(tenant, AT_MS)]);
    const fresh = AT_MS - slo.latenessSeconds * 1_000 + 600_000;
    expect((await computeSlo(store, tenant, slo, fresh)).state).toBe('met');
    const stale = await computeSlo(store, tenant, slo, fresh + 1);
    expect([stale.state, stale.isStale, stale.budgetRemaining]).toEqual([
      'unmeasured',
      true,
      undefined,
    ]);
    // What was counted stays visible.
    expect(stale.windows['5m']).toEqual({ good: 1, bad: 0 });
  });

  it('takes a silence of eleven minutes as a hole and one of ten as quiet', async () => {
    const quiet = newTenant();
    await insertEvents(store, [event(quiet, AT_MS - 10 * MINUTE), event(quiet, AT_MS)]);
    expect((await computeSlo(store, quiet, slo, AT_MS)).coverage).toBe(1);
    const hole = newTenant();
    await insertEvents(store, [event(hole, AT_MS - 11 * MINUTE), event(hole, AT_MS)]);
    const state = await computeSlo(store, hole, slo, AT_MS);
    // Twelve minutes are expected, the ten between the two events were not observed.
    expect(state.coverage).toBeCloseTo(2 / 12, 9);
    expect(state.state).toBe('unmeasured');
  });

  it('does not expect the time between imported logs and the live feed to be observed', async () => {
    for (const secondOfMinute of [1, 14, 16, 59]) await importAndLive(secondOfMinute);
  });

  /** Wherever in a minute the newest event lies: the watermark, 15 s behind, may lie in the minute before. */
  async function importAndLive(secondOfMinute: number): Promise<void> {
    const now = Math.floor(Date.now() / MINUTE) * MINUTE - MINUTE + secondOfMinute * 1_000;
    const imported = newTenant();
    // The login moves the watermark on and is in no count.
    const login = (tenant: string): AuthEvent => event(tenant, now, { kind: 'login' });
    await insertEvents(store, [
      event(imported, now - 20 * 86_400_000),
      event(imported, now - 3 * MINUTE),
      login(imported),
    ]);
    const state = await computeSlo(store, imported, slo, now);
    expect([state.coverage, state.state]).toEqual([1, 'met']);
    expect(state.windows['30d']).toEqual({ good: 2, bad: 0 });
    // A live feed that fell silent for as long is a hole: both events arrived when they happened.
    const silent = newTenant();
    await insertEvents(store, [event(silent, now - 50 * MINUTE), login(silent)]);
    const holed = await computeSlo(store, silent, slo, now);
    expect(holed.state).toBe('unmeasured');
    expect(holed.coverage).toBeLessThan(0.1);
  }

  it('runs by the sources that feed it: a gateway that talks on does not hide a dead server', async () => {
    const tenant = newTenant();
    await insertEvents(store, [
      event(tenant, AT_MS - 20 * MINUTE, { source: 'as' }),
      event(tenant, AT_MS, { source: 'gateway', kind: 'api_accessed' }),
    ]);
    const state = await computeSlo(store, tenant, slo, AT_MS);
    expect(state.watermarkMs).toBe(AT_MS - 20 * MINUTE - 15_000);
    expect(state.state).toBe('unmeasured');
  });

  it('does not let an event from the future carry the watermark away', async () => {
    const tenant = newTenant();
    const before = Date.now();
    await insertEvents(store, [event(tenant, before + 3_600_000)]);
    const state = await computeSlo(store, tenant, slo, before);
    expect(state.watermarkMs).toBeGreaterThanOrEqual(before - 15_000);
    expect(state.watermarkMs).toBeLessThanOrEqual(Date.now() - 15_000);
    expect(state.windows['30d']).toEqual({ good: 0, bad: 0 });
  });

  it('writes a row that slo_states takes as it is', async () => {
    const tenant = newTenant();
    await insertEvents(store, [event(tenant, AT_MS)]);
    const state = await computeSlo(store, tenant, slo, AT_MS);
    await store.insertRows('grantscope.slo_states', [toStateRow(tenant, state, AT_MS)]);
    const rows = await store.query<Record<string, unknown>>(
      sql`SELECT slo_id, state, objective, good, bad, budget_remaining, coverage, burn_rates, good_by_window FROM grantscope.slo_states FINAL WHERE tenant = ${param.string(tenant)}`,
    );
    expect(rows).toEqual([
      {
        slo_id: 'token_issuance_success',
        state: 'met',
        objective: 0.999,
        good: 1,
        bad: 0,
        budget_remaining: 1,
        coverage: 1,
        burn_rates: Object.fromEntries(SLO_WINDOW_NAMES.map((w) => [w, 0])),
        good_by_window: Object.fromEntries(SLO_WINDOW_NAMES.map((w) => [w, 1])),
      },
    ]);
  });
});
