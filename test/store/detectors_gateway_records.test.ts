// How: access log records of each gateway go through its adapter, redaction and normalisation into the real embedded
// engine; token_in_url finds the request that carried a token in its query, and nothing in the one that did not.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadSources } from '../../collector/registry.ts';
import { backtest } from '../../detectors/backtest.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventsOf, json } from '../golden/run_source.ts';
import { openTestStore } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const sources = await loadSources();
const detectors = bindDetectors(
  (await loadDetectors()).filter((r) => r.id === 'token_in_url'),
  {},
);
const TIME = '2026-01-05T12:00:00.000Z';
const MS = Date.parse(TIME);
const called = (uri: string) => ({
  request: { method: 'GET', uri, headers: { host: 'shop.example.com' } },
  response: { status: 200, headers: {} },
});

/** A request for this target, as each gateway logs it. */
const GATEWAYS: Readonly<Record<string, (uri: string) => object>> = {
  envoy: (path) => ({ start_time: TIME, method: 'GET', path, response_code: 200, duration: 3 }),
  nginx: (request_uri) => ({ msec: String(MS / 1_000), request_uri, status: '200' }),
  kong: (uri) => ({ ...called(uri), started_at: MS, client_ip: '203.0.113.7' }),
  apisix: (uri) => ({ ...called(uri), start_time: MS, client_ip: '203.0.113.7' }),
  traefik: (uri) => ({
    ...{ StartUTC: TIME, RequestMethod: 'GET', RequestPath: uri, DownstreamStatus: 200 },
    ...{ RequestHost: 'shop.example.com', ClientHost: '203.0.113.7' },
  }),
};

async function findings(sourceId: string, tenant: string, uri: string): Promise<number> {
  const source = sources.get(sourceId);
  const make = GATEWAYS[sourceId];
  if (source === undefined || make === undefined) throw new Error(`no source ${sourceId}`);
  const events = eventsOf(source, json(make(uri))).map((e) => ({ ...e, tenant }));
  expect(events.map((e) => e.http.route)).toEqual(['/orders']);
  await insertEvents(engine.store, events);
  const result = await backtest({
    ...{ store: engine.store, tenant, detectors, clients: [] },
    range: { from: 0n, to: 4_102_444_800_000_000_000n },
  });
  return result.findings.length;
}

describe('a token in a URL', () => {
  it.each(Object.keys(GATEWAYS))('is found in the log of %s', async (id) => {
    expect(await findings(id, `${id}-with`, '/orders?access_token=opaque-token-2f1c9d7e')).toBe(1);
    expect(await findings(id, `${id}-without`, '/orders?page=2')).toBe(0);
  });
});
