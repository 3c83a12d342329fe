/**
 * What the notifier does when Alertmanager refuses or cannot take alerts: a server on loopback answers as told, the clock is
 * set by hand, the store is real. The real Alertmanager is in test/e2e/alertmanager.test.ts.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AlertmanagerClient, type PostableAlert } from '../../alerts/alertmanager_client.ts';
import { keyOfLabels, type DesiredAlert } from '../../alerts/desired_alerts.ts';
import {
  BACKOFF_MS,
  BATCH_ALERTS_MAX,
  Notifier,
  RESEND_INTERVAL_MS,
  VALID_FOR_MS,
  type Desired,
} from '../../alerts/notifier.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import type { Store } from '../../store/client.ts';
import { openTestStore } from '../harness.ts';

const START_MS = Date.UTC(2026, 0, 1);
let store: Store;
let close: () => Promise<void>;
let server: Server;
let requests: { alerts: PostableAlert[]; authorization: string | undefined }[] = [];
let answer: (alerts: PostableAlert[]) => number = () => 200;

beforeAll(async () => {
  ({ store, close } = await openTestStore());
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      const alerts = JSON.parse(body) as PostableAlert[];
      requests.push({ alerts, authorization: request.headers.authorization });
      response.statusCode = answer(alerts);
      response.end();
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(async () => {
  server.close();
  await close();
});
beforeEach(() => {
  requests = [];
  answer = () => 200;
});

const alertOf = (alertname: string, summary = 'as it was'): DesiredAlert => {
  const labels = { alertname, kind: 'detection', severity: 'high' };
  return {
    key: keyOfLabels(labels),
    kind: 'detection',
    labels,
    annotations: { summary },
    startsAtMs: START_MS - 1_000,
    findingIds: [],
    url: 'http://127.0.0.1:7400/#/findings/x',
  };
};

let tenants = 0;
function notifierOf(desired: () => Desired, address = '') {
  const clock = new ManualClock(START_MS);
  const metrics = new Metrics({ processMetrics: false });
  const { port } = server.address() as AddressInfo;
  const notifier = new Notifier({
    store,
    tenant: `notifier_${(tenants += 1)}`,
    client: new AlertmanagerClient(`http://${address}127.0.0.1:${port}/`),
    clock,
    metrics,
    log: createLog({ level: 'silent' }),
    desired: () => Promise.resolve(desired()),
  });
  return { notifier, clock, metrics };
}
const names = (): string[][] =>
  requests.map((r) => r.alerts.map((a) => a.labels['alertname'] ?? ''));

describe('Notifier', () => {
  it('sends an alert once, again after a minute, at once when it changes, and its end once', async () => {
    let alerts = [alertOf('a')];
    const { notifier, clock } = notifierOf(() => ({ alerts, isTruncated: false }));
    await notifier.round();
    await notifier.round();
    expect(names()).toEqual([['a']]);
    expect(requests[0]?.alerts[0]).toMatchObject({
      startsAt: new Date(START_MS - 1_000).toISOString(),
      endsAt: new Date(START_MS + VALID_FOR_MS).toISOString(),
    });
    clock.advance(RESEND_INTERVAL_MS - 1);
    await notifier.round();
    expect(requests).toHaveLength(1);
    clock.advance(1);
    await notifier.round();
    expect(requests).toHaveLength(2);
    alerts = [alertOf('a', 'changed')];
    await notifier.round();
    expect(requests).toHaveLength(3);
    alerts = [];
    await notifier.round();
    await notifier.round();
    expect(requests).toHaveLength(4);
    expect(requests[3]?.alerts[0]?.endsAt).toBe(
      new Date(START_MS + RESEND_INTERVAL_MS).toISOString(),
    );
  });

  it('cuts what it sends into batches', async () => {
    const alerts = Array.from({ length: BATCH_ALERTS_MAX + 1 }, (_, i) => alertOf(`a${i}`));
    const { notifier } = notifierOf(() => ({ alerts, isTruncated: false }));
    await notifier.round();
    expect(requests.map((r) => r.alerts.length)).toEqual([BATCH_ALERTS_MAX, 1]);
  });

  it('backs off twice as long each time while Alertmanager is busy, and loses nothing', async () => {
    answer = () => 503;
    const alerts = [alertOf('a')];
    const { notifier, clock, metrics } = notifierOf(() => ({ alerts, isTruncated: false }));
    const pauses: number[] = [];
    await notifier.round();
    for (let tries = 1; tries < 9; tries += 1) {
      let pauseMs = 0;
      while (requests.length === tries) {
        clock.advance(500);
        pauseMs += 500;
        await notifier.round();
      }
      pauses.push(pauseMs);
    }
    expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    expect([pauses[0], pauses.at(-1)]).toEqual([BACKOFF_MS.first, BACKOFF_MS.longest]);
    answer = () => 200;
    clock.advance(BACKOFF_MS.longest);
    requests = [];
    await notifier.round();
    expect(names()).toEqual([['a']]);
    expect(await metrics.registry.metrics()).toMatch(
      /grantscope_notification_failures_total\{reason="unreachable"\} \d/,
    );
  });

  it('delivers the others when one alert is refused, and tries that one again only when it changes', async () => {
    answer = (alerts) =>
      alerts.some(
        (a) => a.labels['alertname'] === 'bad' && a.annotations['summary'] === 'as it was',
      )
        ? 400
        : 200;
    let alerts = [alertOf('a'), alertOf('bad'), alertOf('b')];
    const { notifier, clock, metrics } = notifierOf(() => ({ alerts, isTruncated: false }));
    await notifier.round();
    expect(names()).toEqual([['a', 'bad', 'b'], ['a'], ['bad'], ['b']]);
    requests = [];
    clock.advance(RESEND_INTERVAL_MS);
    await notifier.round();
    expect(names()).toEqual([['a', 'b']]);
    alerts = [alertOf('bad', 'mended')];
    requests = [];
    await notifier.round();
    expect(names()).toEqual([['bad', 'a', 'b']]);
    const text = await metrics.registry.metrics();
    expect(text).toContain('grantscope_notification_failures_total{reason="refused"} 1');
    expect(text).toContain('grantscope_notifications_open 1');
  });

  it('does not take a finding for closed that it could not read for their number', async () => {
    let desired: Desired = { alerts: [alertOf('a'), alertOf('b')], isTruncated: false };
    const { notifier, metrics } = notifierOf(() => desired);
    await notifier.round();
    desired = { alerts: [alertOf('a')], isTruncated: true };
    await notifier.round();
    expect(requests).toHaveLength(1);
    expect(await metrics.registry.metrics()).toContain(
      'grantscope_notifier_rounds_truncated_total 1',
    );
    desired = { alerts: [alertOf('a')], isTruncated: false };
    await notifier.round();
    expect(names()).toEqual([['a', 'b'], ['b']]);
  });

  it('never starts an alert after its end, and sends a password as a header only', async () => {
    const late = { ...alertOf('a'), startsAtMs: START_MS + 2 * VALID_FOR_MS };
    const { notifier } = notifierOf(() => ({ alerts: [late], isTruncated: false }), 'me:p%40ss@');
    await notifier.round();
    expect(requests[0]?.alerts[0]?.startsAt).toBe(new Date(START_MS).toISOString());
    expect(requests[0]?.authorization).toBe(`Basic ${Buffer.from('me:p@ss').toString('base64')}`);
  });
});
