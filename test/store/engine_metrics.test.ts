import { afterAll, beforeAll, expect, it } from 'vitest';
import { Metrics } from '../../runtime/metrics.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { registerEngineMetrics } from '../../store/engine_metrics.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore } from '../harness.ts';

let opened: Awaited<ReturnType<typeof openTestStore>>;
let isClosed = false;
beforeAll(async () => {
  opened = await openTestStore();
});
afterAll(async () => {
  if (!isClosed) await opened.close();
});

it('says what the engine holds, and keeps its last words once it is closed', async () => {
  const metrics = new Metrics({ processMetrics: false });
  registerEngineMetrics(metrics, opened.store);
  await insertEvents(opened.store, [
    completeEvent({
      event_id: '00000000-0000-4000-8000-000000000001',
      tenant: 'default',
      time: BigInt(Date.now()) * 1_000_000n,
      kind: 'token_issued',
    }),
  ]);
  const read = async (): Promise<Map<string, number>> => {
    const lines = (await metrics.registry.metrics()).split('\n');
    const pairs = lines.filter((l) => l.startsWith('grantscope_engine_')).map((l) => l.split(' '));
    return new Map(pairs.map(([name = '', value]) => [name, Number(value)]));
  };
  const values = await read();
  expect([...values.keys()].sort()).toEqual([
    ...['expressions', 'index_marks', 'marks', 'merges', 'primary_keys', 'process']
      .concat('query_conditions')
      .map((of) => `grantscope_engine_memory_bytes{of="${of}"}`),
    ...['active', 'outdated'].map((state) => `grantscope_engine_parts{state="${state}"}`),
  ]);
  expect(values.get('grantscope_engine_memory_bytes{of="process"}')).toBeGreaterThan(10_000_000);
  expect(values.get('grantscope_engine_parts{state="active"}')).toBeGreaterThan(0);
  await opened.close();
  isClosed = true;
  expect([...(await read()).keys()]).toEqual([...values.keys()]);
});

it('leaves a server to speak for itself', async () => {
  const metrics = new Metrics({ processMetrics: false });
  registerEngineMetrics(metrics, { ...opened.store, isEmbedded: false });
  expect(await metrics.registry.metrics()).not.toContain('grantscope_engine');
});
