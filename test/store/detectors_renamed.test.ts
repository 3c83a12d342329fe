// How: an attack is found under the newer of a token's names; an event that comes late, of a kind that the rule does
// not read, joins the names; the sweep then moves the finding to the older one.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { exampleRef } from '../../model/example_ref.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventAt, makeRunner, readFindings } from '../detector_world.ts';
import { openTestStore } from '../harness.ts';
import { nextName, storedUnder } from '../key_rotation_world.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

it('a finding moves to the older name when a late event joins the two', async () => {
  const tenant = 'late';
  const token = exampleRef('token');
  const at = (t: number, kind: 'api_accessed' | 'token_introspected', net: object) =>
    eventAt(tenant, `late ${t}`, t, {
      ...{ kind, net, outcome: 'success', client: { id: 'app' } },
      tokens: [{ role: 'presented', type: 'access', ref: token }],
    });
  const HOME = { network: '198.51.100.0/24', ua_family: 'Chrome', ip_role: 'end_user' };
  const AWAY = { network: '203.0.113.0/24', ua_family: 'curl', ip_role: 'end_user' };
  const [late, ...attack] = storedUnder(
    { begin: at(0, 'api_accessed', {}).time, takeover: at(10, 'api_accessed', {}).time },
    [at(5, 'token_introspected', {}), at(20, 'api_accessed', HOME), at(30, 'api_accessed', AWAY)],
  );
  const runner = await makeRunner(engine.store, tenant);
  const found = async () => {
    await runner.drain();
    await runner.drain();
    const { current, superseded } = await readFindings(engine.store, tenant);
    return { entities: current.map((f) => [f['rule_id'], f['entity_ref']]), superseded };
  };
  await insertEvents(engine.store, attack);
  expect(await found()).toEqual({
    entities: [['access_token_replay', nextName(token)]],
    superseded: 0,
  });
  await insertEvents(engine.store, late === undefined ? [] : [late]);
  expect(await found()).toEqual({ entities: [['access_token_replay', token]], superseded: 1 });
  // And it stays so.
  expect(await found()).toEqual({ entities: [['access_token_replay', token]], superseded: 1 });
});
