// How: a token's events, and security events about its session and subject that name no token, are stored; what the
// investigation of the token, its family and another token shows of them is compared, exactly.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { insertEvents } from '../../store/insert.ts';
import {
  eventsOf,
  lineageOf,
  readTimeline,
  summarise,
  withContext,
} from '../../store/queries/investigations.ts';
import { openTestStore } from '../harness.ts';

const TENANT = 'context';
const START = BigInt(Date.UTC(2026, 0, 5, 12)) * 1_000_000n;
const [TOKEN, FAMILY, SESSION, ALICE, BOB] = ['token', 'family', 'session', 'alice', 'bob'].map(
  (name) => exampleRef(`context ${name}`),
) as [string, string, string, string, string];
const HOUR_S = 3_600;

type Told = Omit<PartialEvent, 'event_id' | 'time' | 'tenant'>;
let n = 0;
const at = (seconds: number, event: Told) =>
  completeEvent({
    ...event,
    tenant: TENANT,
    event_id: exampleRef(`context event ${(n += 1)}`),
    time: START + BigInt(seconds) * 1_000_000_000n,
  });
const of = (ref: string, session = '') => ({
  outcome: 'success' as const,
  subject: { ref, type: 'user' as const },
  session_ref: session,
});

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
  await insertEvents(engine.store, [
    at(0, {
      ...of(ALICE, SESSION),
      kind: 'token_issued',
      tokens: [{ role: 'issued', type: 'access', ref: TOKEN, family_ref: FAMILY }],
    }),
    at(HOUR_S, {
      kind: 'api_accessed',
      outcome: 'success',
      tokens: [{ role: 'presented', type: 'access', ref: TOKEN }],
    }),
    // Of the session alone, of the subject alone, and a day before and after.
    at(600, { kind: 'session_revoked', outcome: 'success', session_ref: SESSION }),
    at(700, { ...of(ALICE), kind: 'risk_signal' }),
    at(-24 * HOUR_S, { ...of(ALICE), kind: 'account_locked' }),
    at(25 * HOUR_S, { ...of(ALICE), kind: 'policy_decided' }),
    // Too early, too late, of somebody else, of another kind.
    at(-24 * HOUR_S - 1, { ...of(ALICE), kind: 'risk_signal' }),
    at(25 * HOUR_S + 1, { ...of(ALICE), kind: 'risk_signal' }),
    at(650, { ...of(BOB), kind: 'risk_signal' }),
    at(660, { ...of(ALICE, SESSION), kind: 'login' }),
    at(100, {
      kind: 'token_introspected',
      outcome: 'success',
      tokens: [{ role: 'presented', type: 'access', ref: exampleRef('context nobody') }],
    }),
  ]);
});
afterAll(() => engine.close());

async function shownOf(type: 'token' | 'family', ref: string): Promise<string[]> {
  const scope = { store: engine.store, tenant: TENANT };
  const lineage = await lineageOf(scope, type, [ref]);
  const events = await withContext(scope, await eventsOf(scope, type, [ref], lineage));
  const { items } = await readTimeline(scope, events, { limit: 100, descending: false });
  expect((await summarise(scope, events))?.events).toBe(items.length);
  return items.map((e) => e.kind);
}

const WHOLE = [
  'account_locked',
  'token_issued',
  'session_revoked',
  'risk_signal',
  'api_accessed',
  'policy_decided',
];

it('a token is shown with what was told of its session and subject within a day of its use', async () => {
  expect(await shownOf('token', TOKEN)).toEqual(WHOLE);
  expect(await shownOf('family', FAMILY)).toEqual(WHOLE);
});

it('a token of nobody is shown alone, and takes nobody else in', async () => {
  expect(await shownOf('token', exampleRef('context nobody'))).toEqual(['token_introspected']);
});
