/**
 * The notifier against the real Alertmanager, with the generated routes and a webhook sink on loopback: what arrives
 * where, in which groups, and that it is resolved.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parse, stringify } from 'yaml';
import { renderAlertmanagerConfig } from '../../alerts/alertmanager_config.ts';
import { prepareRollup, startAlerts } from '../../alerts/main.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { param, sql } from '../../model/sql.ts';
import { addSilence, getSilence, withdrawSilence } from '../../store/queries/silences.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore, temporaryFolder, testRuntime } from '../harness.ts';
import { hasMonitoringPrograms, programs, run } from './programs.ts';

const installed = hasMonitoringPrograms();

interface Notice {
  receiver: string;
  status: 'firing' | 'resolved';
  groupLabels: Record<string, string>;
  alerts: {
    status: string;
    labels: Record<string, string>;
    annotations: Record<string, string>;
  }[];
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A finding row as the detectors write it. */
function finding(tenant: string, n: number, fields: Record<string, unknown> = {}) {
  const id = `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
  const now = new Date().toISOString().replace('T', ' ').replace('Z', '');
  return {
    finding_id: id,
    tenant,
    rule_id: 'refresh_reuse',
    rule_version: 1,
    title: 'Refresh token reuse',
    family: 'token_replay',
    severity: 'critical',
    confidence: 90,
    risk: 80,
    entity_type: 'family',
    entity_ref: id,
    episode: '1',
    verdict: 'theft',
    state: 'open',
    summary: `finding number ${n}`,
    reasons: [],
    evidence: '{}',
    event_ids: [],
    token_refs: [],
    client_id: 'webshop',
    subject_ref: '00000000-0000-0000-0000-000000000000',
    issuer: 'https://as.example',
    networks: [],
    first_event_time: now,
    last_event_time: now,
    references: [],
    runbook: 'token_compromise',
    detected_at: now,
    updated_at: now,
    version: 1,
    ...fields,
  };
}

describe.skipIf(!installed)('notifier and Alertmanager', () => {
  const folder = temporaryFolder();
  const notices: Notice[] = [];
  let store: Awaited<ReturnType<typeof openTestStore>>;
  let sink: Server;
  let alertmanager: ChildProcess | undefined;
  let port: number;
  let configFile: string;

  const url = (): string => `http://127.0.0.1:${port}`;
  const until = <T>(check: () => T | Promise<T>): Promise<T> =>
    vi.waitFor(check, { timeout: 20_000, interval: 50 });
  const of = (receiver: string): Notice[] => notices.filter((n) => n.receiver === receiver);

  async function startAlertmanager(): Promise<void> {
    alertmanager = spawn(
      programs.alertmanager!,
      [
        `--config.file=${configFile}`,
        `--storage.path=${join(folder.path, 'am')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--cluster.listen-address=',
        '--log.level=error',
      ],
      { stdio: 'ignore' },
    );
    await until(async () => expect((await fetch(`${url()}/-/ready`)).status).toBe(200));
  }
  async function stopAlertmanager(): Promise<void> {
    if (alertmanager === undefined) return;
    const ended = once(alertmanager, 'exit');
    alertmanager.kill('SIGTERM');
    await ended;
    alertmanager = undefined;
  }
  const alertsNow = async (): Promise<{ labels: Record<string, string> }[]> =>
    (await (await fetch(`${url()}/api/v2/alerts`)).json()) as never;

  beforeAll(async () => {
    store = await openTestStore();
    await prepareRollup(store.store, () => Promise.resolve(true));
    sink = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        notices.push(JSON.parse(body) as Notice);
        response.end();
      });
    }).listen(0, '127.0.0.1');
    await once(sink, 'listening');
    port = await freePort();
    // The generated routes as they are, but for addresses and waiting times.
    const generated = parse(renderAlertmanagerConfig()) as {
      receivers: { webhook_configs?: { http_config?: object }[] }[];
    };
    // Nobody listens where Grantscope is told of notices: test/alerts has that.
    for (const receiver of generated.receivers)
      if (receiver.webhook_configs !== undefined)
        receiver.webhook_configs = receiver.webhook_configs.filter(
          (w) => w.http_config === undefined,
        );
    const config = stringify(generated)
      .replaceAll('127.0.0.1:9095', `127.0.0.1:${(sink.address() as AddressInfo).port}`)
      .replace('group_wait: 10s', 'group_wait: 200ms')
      .replaceAll('group_interval: 1m', 'group_interval: 1s');
    configFile = join(folder.path, 'alertmanager.yml');
    writeFileSync(configFile, config);
    await startAlertmanager();
  });
  afterAll(async () => {
    await stopAlertmanager();
    sink.close();
    await store.close();
    folder.remove();
  });

  const write = (rows: Record<string, unknown>[]): Promise<void> =>
    store.store.insertRows('grantscope.findings', rows);
  const runtimeFor = (tenant: string) =>
    testRuntime(store.dataDir, {
      config: { tenant, alertmanagerUrl: url(), sloIntervalMs: 200 },
    });

  it('sends findings to the SOC, grouped, and resolves an alert once all its findings are closed', async () => {
    const runtime = runtimeFor('soc');
    const alerts = await startAlerts(runtime, store.store);
    await write([
      finding('soc', 1),
      finding('soc', 2),
      finding('soc', 3, { severity: 'medium', rule_id: 'scope_creep' }),
      finding('soc', 4, { severity: 'low', rule_id: 'too_low' }),
      finding('other', 5, { rule_id: 'of_another_tenant' }),
    ]);
    runtime.hints.emit('findings_changed', { ids: [] });
    const page = await until(() => {
      const [first] = of('soc_page');
      expect(first).toBeDefined();
      return first!;
    });
    expect(page.groupLabels).toEqual({ alertname: 'refresh_reuse', client_id: 'webshop' });
    expect(page.alerts.map((a) => a.labels)).toEqual([
      {
        alertname: 'refresh_reuse',
        kind: 'detection',
        severity: 'critical',
        client_id: 'webshop',
        issuer: 'https://as.example',
      },
    ]);
    expect(page.alerts[0]!.annotations).toMatchObject({
      findings: '2',
      investigation_url: `http://127.0.0.1:7400/#/findings/${page.alerts[0]!.annotations['finding_id']!}`,
      runbook_url: 'http://127.0.0.1:7400/#/runbooks/token_compromise',
    });
    expect(page.alerts[0]!.annotations['finding_ids']!.split(' ').sort()).toEqual([
      finding('', 1).finding_id,
      finding('', 2).finding_id,
    ]);
    const ticket = await until(() => {
      const [first] = of('soc');
      expect(first).toBeDefined();
      return first!;
    });
    expect(ticket.alerts[0]!.labels['alertname']).toBe('scope_creep');

    // One of two closed: the alert stays.
    await write([finding('soc', 1, { state: 'closed', version: 2 })]);
    runtime.hints.emit('findings_changed', { ids: [] });
    await until(async () => {
      const rows = await store.store.query<{ ids: string[] }>(
        sql`SELECT finding_ids AS ids FROM grantscope.notifications FINAL WHERE tenant = ${param.string('soc')} AND alertname = 'refresh_reuse'`,
      );
      expect(rows).toEqual([{ ids: [finding('', 2).finding_id] }]);
    });
    expect(of('soc_page').filter((n) => n.status === 'resolved')).toEqual([]);

    await write([finding('soc', 2, { state: 'closed', version: 2 })]);
    runtime.hints.emit('findings_changed', { ids: [] });
    await until(() =>
      expect(of('soc_page').filter((n) => n.status === 'resolved')).toHaveLength(1),
    );
    expect((await alertsNow()).map((a) => a.labels['alertname'])).toEqual(['scope_creep']);
    await alerts.stop();
    const metrics = await runtime.metrics.registry.metrics();
    expect(metrics).toContain(
      'grantscope_notifications_sent_total{kind="detection",state="resolved"} 1',
    );
    expect(metrics).toContain('grantscope_notifications_open 1');
  });

  it('resolves after a restart what was closed in between', async () => {
    await write([finding('restart', 10, { rule_id: 'before_restart' })]);
    const first = await startAlerts(runtimeFor('restart'), store.store);
    await until(async () =>
      expect((await alertsNow()).map((a) => a.labels['alertname'])).toContain('before_restart'),
    );
    await first.stop();
    await write([
      finding('restart', 10, { rule_id: 'before_restart', state: 'closed', version: 2 }),
    ]);
    const second = await startAlerts(runtimeFor('restart'), store.store);
    await until(async () =>
      expect((await alertsNow()).map((a) => a.labels['alertname'])).not.toContain('before_restart'),
    );
    await until(async () => {
      const rows = await store.store.query(
        sql`SELECT state FROM grantscope.notifications FINAL WHERE tenant = ${param.string('restart')}`,
      );
      expect(rows).toEqual([{ state: 'resolved' }]);
    });
    await second.stop();
  });

  it('sets silences, says what they mute, sets them again where they are lost, and ends them', async () => {
    const tenant = 'silenced';
    const scope = { store: store.store, tenant };
    const runtime = runtimeFor(tenant);
    const made = await addSilence(
      scope,
      {
        matchers: [{ name: 'alertname', value: 'quiet_.*', is_regex: true, is_equal: true }],
        ends_at: new Date(Date.now() + 3_600_000).toISOString(),
        reason: 'a rehearsal',
      },
      { createdBy: 'ann', nowMs: Date.now() },
    );
    const alerts = await startAlerts(runtime, store.store);
    const now = () => getSilence(scope, made.silence_id);
    await until(async () => expect(await now()).toMatchObject({ status: 'accepted', error: '' }));
    const first = (await now())!.alertmanager_id;
    const held = (await (await fetch(`${url()}/api/v2/silences`)).json()) as object[];
    expect(held).toMatchObject([
      {
        id: first,
        createdBy: 'ann',
        comment: `a rehearsal [grantscope ${made.silence_id}]`,
        matchers: [{ name: 'alertname', value: 'quiet_.*', isRegex: true, isEqual: true }],
        status: { state: 'active' },
      },
    ]);
    await write([finding(tenant, 30, { rule_id: 'quiet_rule' })]);
    runtime.hints.emit('findings_changed', { ids: [] });
    await until(async () =>
      expect((await now())!.mutes.map((m) => m['alertname'])).toEqual(['quiet_rule']),
    );
    expect(notices.flatMap((n) => n.alerts.map((a) => a.labels['alertname']))).not.toContain(
      'quiet_rule',
    );

    // An Alertmanager that lost its storage gets it again, under another id.
    await stopAlertmanager();
    rmSync(join(folder.path, 'am'), { recursive: true });
    await startAlertmanager();
    await until(async () => {
      const silence = (await now())!;
      expect(silence.status).toBe('accepted');
      expect(silence.alertmanager_id).not.toBe(first);
    });

    const by = { withdrawnBy: 'bob', reason: 'rehearsed', nowMs: Date.now() };
    await withdrawSilence(scope, made.silence_id, by);
    runtime.hints.emit('silences_changed', {});
    await until(async () => expect((await now())!.status).toBe('withdrawn'));
    const states = (await (await fetch(`${url()}/api/v2/silences`)).json()) as {
      status: { state: string };
    }[];
    expect(states.map((s) => s.status.state)).toEqual(['expired']);
    await alerts.stop();
    expect(await runtime.metrics.registry.metrics()).toContain(
      'grantscope_silences_not_in_force 0',
    );
  });

  it('waits for an Alertmanager that is away and delivers the present', async () => {
    await stopAlertmanager();
    await write([finding('away', 20, { rule_id: 'while_away' })]);
    const runtime = runtimeFor('away');
    const alerts = await startAlerts(runtime, store.store);
    await until(async () =>
      expect(await runtime.metrics.registry.metrics()).toMatch(
        /grantscope_notification_failures_total\{reason="unreachable"\} [1-9]/,
      ),
    );
    await startAlertmanager();
    await until(async () =>
      expect((await alertsNow()).map((a) => a.labels['alertname'])).toContain('while_away'),
    );
    await alerts.stop();
  });

  it('sends a burn alert of its own, with the labels of the Prometheus rule, to the SRE pager', async () => {
    // The same failures may burn other budgets; they are groups of their own.
    const ofSlo = (): Notice[] =>
      of('sre_page').filter((n) => n.groupLabels['slo'] === 'token_issuance_success');
    // Three minutes pass in one jump, for the two minutes that the fast tier waits.
    let offsetMs = -180_000;
    const clock = {
      nowMs: () => Date.now() + offsetMs,
      nowNs: () => BigInt(Date.now() + offsetMs) * 1_000_000n,
    };
    const runtime = testRuntime(store.dataDir, {
      config: { tenant: 'burn', alertmanagerUrl: url(), sloIntervalMs: 100 },
      clock,
    });
    const now = Date.now();
    await insertEvents(
      store.store,
      Array.from({ length: 100 }, (_, i) =>
        completeEvent({
          event_id: `10000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
          tenant: 'burn',
          time: BigInt(now - 90_000 + i * 100) * 1_000_000n,
          kind: i % 2 === 0 ? 'token_request_failed' : 'token_issued',
          outcome: i % 2 === 0 ? 'failure' : 'success',
          source: { id: 'grantscope' },
          http: { status: i % 2 === 0 ? 503 : 200 },
        }),
      ).concat(
        completeEvent({
          event_id: '10000000-0000-4000-8000-000000000999',
          tenant: 'burn',
          time: BigInt(now) * 1_000_000n,
          kind: 'login',
          outcome: 'success',
          source: { id: 'grantscope' },
        }),
      ),
    );
    const alerts = await startAlerts(runtime, store.store);
    await until(async () =>
      expect(
        await store.store.query(
          sql`SELECT state, bad, good FROM grantscope.slo_states FINAL WHERE tenant = 'burn' AND slo_id = 'token_issuance_success'`,
        ),
      ).toEqual([{ state: 'breached', bad: 50, good: 50 }]),
    );
    expect(ofSlo()).toEqual([]);
    offsetMs = 0;
    const page = await until(() => {
      const [first] = ofSlo();
      expect(first).toBeDefined();
      return first!;
    });
    expect(page.groupLabels).toEqual({ slo: 'token_issuance_success' });
    expect(page.alerts.map((a) => a.labels)).toEqual([
      {
        alertname: 'OAuthSLOBudgetBurn',
        kind: 'slo',
        slo: 'token_issuance_success',
        severity: 'page',
        burn: 'fast',
        long: '1h',
        short: '5m',
        shadow: 'false',
      },
    ]);
    expect(page.alerts[0]!.annotations['summary']).toBe(
      'token_issuance_success spends its error budget 500 times too fast over 1h and 5m; the 30-day budget is overspent (-49900.0 % left).',
    );
    await alerts.stop();

    const text = await runtime.metrics.registry.metrics();
    expect(text).toContain('oauth_slo_bad_events{slo="token_issuance_success",window="30d"} 50');
    expect(text).toContain('oauth_slo_total_events{slo="token_issuance_success",window="5m"} 100');
    const checked = run(programs.promtool, ['check', 'metrics'], text);
    expect(checked.output).toBe('');
    expect(checked.code).toBe(0);
  });
});
