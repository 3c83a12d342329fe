/**
 * The figures of indicators against the real engine: known events in, exact figures out, and a store that fails for one of them.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { computeSlos } from '../../alerts/compute.ts';
import { FigureReader } from '../../alerts/figures.ts';
import { loadSlos } from '../../alerts/registry.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import type { SloDefinition } from '../../model/define_slo.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { createLog } from '../../runtime/log.ts';
import type { Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore } from '../harness.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** The minute after the newest event: what windows end at. */
const END_MS = Math.floor((Date.now() - DAY) / DAY) * DAY;
const IDS = ['device_flow_completion', 'jwks_key_age', 'token_issuance_rate', 'token_reuse'];

let store: Store;
let close: () => Promise<void>;
let slos: readonly SloDefinition[];
let logged = '';
const log = createLog({ level: 'error', destination: { write: (line) => void (logged += line) } });

beforeAll(async () => {
  ({ store, close } = await openTestStore());
  slos = (await loadSlos()).filter((s) => IDS.includes(s.id));
  expect(slos.map((s) => s.id)).toEqual(IDS);
});
afterAll(() => close());

function event(
  tenant: string,
  beforeEndMs: number,
  fields: Partial<PartialEvent> & Pick<PartialEvent, 'kind'>,
): AuthEvent {
  return completeEvent({
    event_id: randomUUID(),
    tenant,
    time: BigInt(END_MS - beforeEndMs) * 1_000_000n,
    outcome: 'success',
    issuer: 'https://as.example',
    source: { id: 'grantscope' },
    ...fields,
  });
}

const times = (n: number, of: (i: number) => AuthEvent): AuthEvent[] =>
  Array.from({ length: n }, (_, i) => of(i));

/** Tokens of the last two hours and of a day ago, four device flows, a rotation of keys, and reuses. */
function history(tenant: string): AuthEvent[] {
  const issued = (ms: number): AuthEvent => event(tenant, ms, { kind: 'token_issued' });
  const reused = (ms: number): AuthEvent => event(tenant, ms, { kind: 'token_reuse_detected' });
  const device = (n: number, seconds: number): AuthEvent[] => {
    const tokens = (role: 'issued' | 'consumed') =>
      [{ role, type: 'device_code', ref: exampleRef(`${tenant} device ${n}`) }] as const;
    const done = 5 * HOUR;
    return [
      event(tenant, done + seconds * 1_000, {
        kind: 'device_authorization_requested',
        tokens: [...tokens('issued')],
      }),
      event(tenant, done, {
        kind: 'token_issued',
        grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
        tokens: [...tokens('consumed')],
      }),
    ];
  };
  return [
    ...times(12, () => issued(30 * MINUTE)),
    ...times(6, () => issued(90 * MINUTE)),
    ...times(30, () => issued(DAY - 10 * MINUTE)),
    // The watermark: the last event, 15 s of lateness before the end of its minute.
    issued(1),
    ...[10, 20, 30, 40].flatMap((seconds, n) => device(n, seconds)),
    event(tenant, 3 * HOUR, { kind: 'key_rotated' }),
    event(tenant, 30 * DAY, { kind: 'key_created' }),
    ...times(3, (i) => reused((i + 1) * HOUR)),
    ...times(14, (i) => reused(DAY + (i + 1) * DAY)),
  ];
}

describe('figures of indicators', () => {
  it('are exact', async () => {
    const tenant = 'figures';
    await insertEvents(store, history(tenant));
    const reader = new FigureReader(store, tenant, log);
    const states = await reader.complete(await computeSlos(store, tenant, slos, END_MS));
    const figures = Object.fromEntries(states.map((s) => [s.slo.id, s.figures]));
    expect(states.map((s) => s.endMs)).toEqual(IDS.map(() => END_MS));
    expect(figures).toEqual({
      device_flow_completion: {
        share_1d: 1,
        share_30d: 1,
        device_flow_p50_seconds: expect.closeTo(30, 6),
        device_flow_p95_seconds: expect.closeTo(40, 6),
      },
      jwks_key_age: {
        count_5m: 0,
        count_1h: 0,
        count_1d: 1,
        count_30d: 2,
        jwks_key_age_seconds: 10_800,
      },
      token_issuance_rate: {
        per_second_5m: 1 / 300,
        per_second_1h: 13 / 3_600,
        per_second_1d: 53 / 86_400,
        per_second_30d: 53 / 2_592_000,
        // Thirty in one minute a day ago, within the hour that comes; the last hour had 13 to 6 of the one before.
        per_second_peak_1d: 30 / 60,
        per_second_forecast_1h: 30 / 60,
      },
      token_reuse: {
        count_5m: 0,
        count_1h: 1,
        count_1d: 3,
        count_30d: 17,
        reuses_1d: 3,
        reuses_baseline_1d: 14 / 28,
        reuses_by_baseline: 6,
      },
    });
    expect(logged).toBe('');
  });

  it('are absent where they cannot be read, and the rest is there', async () => {
    const tenant = 'figures';
    const broken: Store = {
      ...store,
      isEmbedded: store.isEmbedded,
      query: (statement) =>
        statement.toQuery().query.includes('device_authorization_requested')
          ? Promise.reject(new Error('the engine is out of sorts'))
          : store.query(statement),
    };
    const states = await new FigureReader(broken, tenant, log).complete(
      await computeSlos(store, tenant, slos, END_MS),
    );
    const of = (id: string) => states.find((s) => s.slo.id === id)?.figures;
    expect(of('device_flow_completion')).toEqual({ share_1d: 1, share_30d: 1 });
    expect(of('jwks_key_age')).toMatchObject({ jwks_key_age_seconds: 10_800 });
    expect(logged).toContain('device_flow_seconds');
  });
});
