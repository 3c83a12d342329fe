/** How the store comes to count by the definitions, and what that does to segments that come again. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prepareRollup } from '../../alerts/main.ts';
import { checkSlo, loadSlos } from '../../alerts/registry.ts';
import { isRollupCurrent, rollupQuery, syncRollup } from '../../alerts/rollup_view.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { isClassified, type IndicatorSli, type SloDefinition } from '../../model/define_slo.ts';
import { param, sql } from '../../model/sql.ts';
import type { Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { readSloBreakdown, type SloBreakdown } from '../../store/queries/slos.ts';
import { openTestStore } from '../harness.ts';

let store: Store;
let close: () => Promise<void>;
let slos: readonly SloDefinition[];
beforeAll(async () => {
  ({ store, close } = await openTestStore());
  slos = await loadSlos();
});
afterAll(() => close());

const logins: IndicatorSli = {
  measure: 'indicator',
  id: 'logins',
  runbook: 'logins',
  title: 'Logins',
  description: 'Sign-ins, counted for a test of how definitions change.',
  owner: 'test',
  value: 'count',
  goodMeans: 'a sign-in',
  badMeans: '',
  attempts: [{ kinds: ['login'] }],
  good: [{ outcomes: ['success'] }],
  excluded: [],
  bad: [],
  figures: [],
  latenessSeconds: 0,
  shadow: false,
  splitBy: ['issuer'],
};

const login = (tenant: string): AuthEvent =>
  completeEvent({
    event_id: randomUUID(),
    tenant,
    time: 1_767_600_000_000_000_000n,
    kind: 'login',
    outcome: 'success',
    source: { id: 'keycloak' },
  });

async function counted(tenant: string, id: string): Promise<number> {
  const [row] = await store.query<{ n: number }>(
    sql`SELECT toUInt32(sum(good)) AS n FROM grantscope.slo_counts WHERE tenant = ${param.string(tenant)} AND slo_id = ${param.string(id)}`,
  );
  return row?.n ?? -1;
}

const never = (): Promise<boolean> => Promise.reject(new Error('nothing was to be settled'));

describe('the rollup of the SLIs', () => {
  it('counts a segment once through both views, however often it comes', async () => {
    const events = Array.from({ length: 7 }, () => login('once'));
    for (let i = 0; i < 3; i += 1) await insertEvents(store, events, 'segment once');
    expect(await counted('once', 'login_success')).toBe(7);
    await insertEvents(store, events, 'another segment');
    expect(await counted('once', 'login_success')).toBe(14);
  });

  it('is left alone while the definitions are those it counts by, whatever their objectives', async () => {
    expect(await prepareRollup(store, never)).toBe(true);
    const relaxed = slos.map((s) => (s.measure === 'ratio' ? { ...s, objective: 0.5 } : s));
    expect(await isRollupCurrent(store, relaxed)).toBe(true);
    expect(rollupQuery([...slos].reverse())).toBe(rollupQuery(slos));
  });

  it('counts what is stored anew where a definition was added, and counts on with it', async () => {
    await insertEvents(store, [login('added'), login('added')], 'segment added');
    const more = [...slos, logins];
    expect(await isRollupCurrent(store, more)).toBe(false);
    expect(await counted('added', 'logins')).toBe(0);
    expect(await syncRollup(store, more)).toBe(true);
    expect(await syncRollup(store, more)).toBe(false);
    expect([await counted('added', 'logins'), await counted('added', 'login_success')]).toEqual([
      2, 2,
    ]);
    await insertEvents(store, [login('added')], 'segment added later');
    expect([await counted('added', 'logins'), await counted('added', 'login_success')]).toEqual([
      3, 3,
    ]);
    // Back to the definitions there are: what is gone is not counted any more.
    expect(await prepareRollup(store, () => Promise.resolve(true))).toBe(true);
    expect([await counted('added', 'logins'), await counted('added', 'login_success')]).toEqual([
      0, 3,
    ]);
  });

  it('begins anew after a start that was cut off between the rows and the view', async () => {
    await insertEvents(store, [login('cut')], 'segment cut');
    await store.command(sql`DROP VIEW grantscope.slo_minutes_mv SYNC`);
    await store.command(sql`TRUNCATE TABLE grantscope.slo_minutes`);
    expect(await isRollupCurrent(store, slos)).toBe(false);
    let settled = 0;
    const settle = (): Promise<boolean> => {
      settled += 1;
      return Promise.resolve(true);
    };
    expect(await prepareRollup(store, settle)).toBe(true);
    expect(settled).toBe(1);
    expect(await counted('cut', 'login_success')).toBe(1);
  });

  it('keeps the former definitions while what a former run left is not stored', async () => {
    await store.command(sql`ALTER TABLE grantscope.slo_minutes_mv MODIFY COMMENT 'another mark'`);
    expect(await prepareRollup(store, () => Promise.resolve(false))).toBe(false);
    await insertEvents(store, [login('former')], 'segment former');
    expect(await counted('former', 'login_success')).toBe(1);
    expect(await prepareRollup(store, () => Promise.resolve(true))).toBe(true);
    expect(await counted('former', 'login_success')).toBe(1);
  });

  it('would count a segment twice that came again after a rebuild: why leftovers are settled first', async () => {
    const events = [login('leftover')];
    await insertEvents(store, events, 'segment leftover');
    await syncRollup(store, [...slos, logins]);
    await insertEvents(store, events, 'segment leftover');
    expect(await counted('leftover', 'login_success')).toBe(2);
    expect(
      await store.query(
        sql`SELECT toUInt32(sum(events)) AS n FROM grantscope.outcome_minutes WHERE tenant = 'leftover'`,
      ),
    ).toEqual([{ n: 1 }]);
    await syncRollup(store, slos);
    expect(await counted('leftover', 'login_success')).toBe(1);
  });
});

describe('readSloBreakdown', () => {
  it('splits the last day and gives hours of 30 days, without the minutes that a correction touches', async () => {
    const tenant = 'breakdown';
    const at = Date.parse('2026-01-05T12:00:00Z');
    const call = (minutesAgo: number, service: string, mode: string, ms: number): AuthEvent =>
      completeEvent({
        event_id: randomUUID(),
        tenant,
        time: BigInt(at - minutesAgo * 60_000) * 1_000_000n,
        kind: 'token_validated',
        outcome: 'success',
        endpoint: 'api',
        resource: [service],
        source: { id: 'otlp' },
        http: { duration_ms: ms },
        ext: { validation_mode: mode },
      });
    await insertEvents(store, [
      call(0, 'orders', 'local', 10),
      call(5, 'orders', 'local', 50),
      call(65, 'stock', 'introspection', 199),
      call(66, 'stock', 'introspection', 200),
      call(3 * 1_440, 'stock', 'cache', 49),
      call(31 * 1_440, 'stock', 'cache', 49),
    ]);
    const read = (): Promise<SloBreakdown> =>
      readSloBreakdown({ store, tenant }, 'token_validation_latency', '2026-01-05T12:00:30.000Z');
    const zero = { excluded: 0, unclassified: 0 };
    const before = await read();
    expect(before.split).toEqual([
      {
        dimension: 'service',
        values: [
          { value: 'orders', good: 1, bad: 1, ...zero },
          { value: 'stock', good: 1, bad: 1, ...zero },
        ],
      },
      {
        dimension: 'mode',
        values: [
          { value: 'introspection', good: 1, bad: 1, ...zero },
          { value: 'local', good: 1, bad: 1, ...zero },
        ],
      },
      { dimension: 'subject_type', values: [{ value: 'unknown', good: 2, bad: 2, ...zero }] },
      { dimension: 'source_id', values: [{ value: 'otlp', good: 2, bad: 2, ...zero }] },
    ]);
    expect(before.series).toEqual([
      { hour: '2026-01-02T12:00:00Z', good: 1, bad: 0, ...zero },
      { hour: '2026-01-05T10:00:00Z', good: 1, bad: 1, ...zero },
      { hour: '2026-01-05T11:00:00Z', good: 0, bad: 1, ...zero },
      { hour: '2026-01-05T12:00:00Z', good: 1, bad: 0, ...zero },
    ]);
    await store.insertRows('grantscope.slo_corrections', [
      {
        tenant,
        correction_id: randomUUID(),
        slo_id: 'token_validation_latency',
        from_time: '2026-01-05 11:55:30',
        to_time: '2026-01-05 12:00:00',
        reason: 'maintenance',
        approver: 'sre-lead',
        withdrawn_at: '1970-01-01 00:00:00.000',
        updated_at: '2026-01-05 12:00:00.000',
      },
    ]);
    expect((await read()).series.map((row) => [row.hour, row.good + row.bad])).toEqual([
      ['2026-01-02T12:00:00Z', 1],
      ['2026-01-05T10:00:00Z', 2],
      ['2026-01-05T12:00:00Z', 1],
    ]);
  });
});

describe('definitions', () => {
  it('name bounds of durations that are counted exactly, or are refused', () => {
    const timed = (underMs: number): unknown => ({ ...logins, good: [{ underMs }] });
    expect(checkSlo(timed(200)).id).toBe('logins');
    expect(() => checkSlo(timed(250))).toThrow(
      'good.0.underMs: must be a bound that is counted exactly; allowed: 10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10000, 30000',
    );
  });

  it('hold no text that would have to be escaped in the view', () => {
    expect(() => checkSlo({ ...logins, good: [{ errorCodes: ["x') OR ('1"] }] })).toThrow(
      /good\.0\.errorCodes\.0/,
    );
  });

  it('have objectives only where there is a budget', () => {
    expect(() => checkSlo({ ...logins, objective: 0.9 })).toThrow(/objective/);
    expect(slos.filter(isClassified).length).toBe(slos.length - 2);
  });
});
