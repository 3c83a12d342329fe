/**
 * The generated rules in a real Prometheus that scrapes the real gauges of a computed SLO: the alert reaches a real
 * Alertmanager, and every PromQL query of the boards returns series. Waiting times of the rules are shortened; what
 * they are is tested with promtool.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { stringify } from 'yaml';
import { startAlerts } from '../../alerts/main.ts';
import { loadBoards } from '../../dashboards/registry.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { packageRoot } from '../../runtime/paths.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore, temporaryFolder, testRuntime } from '../harness.ts';
import { freePort } from '../free_port.ts';
import { hasMonitoringPrograms, programs } from './programs.ts';

const installed = hasMonitoringPrograms();

describe.skipIf(!installed)('Prometheus', () => {
  const folder = temporaryFolder();
  const processes: ChildProcess[] = [];
  let store: Awaited<ReturnType<typeof openTestStore>>;
  let alerts: Component;
  let exporter: Server;
  let prometheus: string;
  let alertmanager: string;

  const until = <T>(check: () => T | Promise<T>): Promise<T> =>
    vi.waitFor(check, { timeout: 40_000, interval: 100 });

  function start(program: string, args: readonly string[]): void {
    processes.push(spawn(program, args, { stdio: 'ignore', cwd: folder.path }));
  }

  async function query(expression: string): Promise<{ metric: Record<string, string> }[]> {
    const response = await fetch(
      `${prometheus}/api/v1/query?query=${encodeURIComponent(expression)}`,
    );
    const answer = (await response.json()) as {
      status: string;
      data: { result: { metric: Record<string, string> }[] };
    };
    expect(answer.status, expression).toBe('success');
    return answer.data.result;
  }

  beforeAll(async () => {
    store = await openTestStore();
    const runtime = testRuntime(store.dataDir, { config: { sloIntervalMs: 200 } });
    const now = Date.now();
    // Half of the token requests of the last minutes failed on the server's side.
    await insertEvents(
      store.store,
      Array.from({ length: 200 }, (_, i) =>
        completeEvent({
          event_id: `20000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
          // A good and a bad one each second, so that a window may begin and end anywhere.
          time: BigInt(now - Math.floor(i / 2) * 1_000) * 1_000_000n,
          kind: i % 2 === 0 ? 'token_issued' : 'token_request_failed',
          outcome: i % 2 === 0 ? 'success' : 'failure',
          source: { id: 'grantscope' },
          http: { status: i % 2 === 0 ? 200 : 503 },
        }),
      ),
    );
    alerts = await startAlerts(runtime, store.store);
    exporter = createServer((_, response) => {
      void runtime.metrics.registry.metrics().then((text) => {
        response.setHeader('content-type', runtime.metrics.registry.contentType);
        response.end(text);
      });
    }).listen(0, '127.0.0.1');
    await once(exporter, 'listening');
    const [prometheusPort, alertmanagerPort] = [await freePort(), await freePort()];
    prometheus = `http://127.0.0.1:${prometheusPort}`;
    alertmanager = `http://127.0.0.1:${alertmanagerPort}`;
    const generated = (name: string): string =>
      readFileSync(join(packageRoot, 'alerts', 'generated', name), 'utf8');
    writeFileSync(
      join(folder.path, 'rules.yml'),
      generated('rules.yml').replaceAll(/^( +for:) \S+$/gm, '$1 1s'),
    );
    writeFileSync(join(folder.path, 'alertmanager.yml'), generated('alertmanager.yml'));
    writeFileSync(
      join(folder.path, 'prometheus.yml'),
      stringify({
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        rule_files: ['rules.yml'],
        alerting: {
          alertmanagers: [{ static_configs: [{ targets: [`127.0.0.1:${alertmanagerPort}`] }] }],
        },
        scrape_configs: [
          {
            job_name: 'grantscope_api',
            static_configs: [
              { targets: [`127.0.0.1:${(exporter.address() as AddressInfo).port}`] },
            ],
          },
        ],
      }),
    );
    start(programs.alertmanager!, [
      '--config.file=alertmanager.yml',
      '--storage.path=am',
      `--web.listen-address=127.0.0.1:${alertmanagerPort}`,
      '--cluster.listen-address=',
    ]);
    start(programs.prometheus!, [
      '--config.file=prometheus.yml',
      '--storage.tsdb.path=tsdb',
      `--web.listen-address=127.0.0.1:${prometheusPort}`,
      // Alerts without `for` that fire at the start would else wait a minute for the next resend.
      '--rules.alert.resend-delay=2s',
    ]);
    await until(async () => {
      for (const url of [prometheus, alertmanager])
        expect((await fetch(`${url}/-/ready`)).status).toBe(200);
    });
  });
  afterAll(async () => {
    for (const child of processes) {
      if (child.exitCode !== null) continue;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
    exporter.close();
    await alerts.stop();
    await store.close();
    folder.remove();
  });

  it('fires the burn alert and hands it to Alertmanager', async () => {
    const firing = await until(async () => {
      const result = await query(
        'ALERTS{alertname="OAuthSLOBudgetBurn", alertstate="firing", burn="fast"}',
      );
      expect(result).toHaveLength(1);
      return result;
    });
    expect(firing[0]?.metric).toEqual({
      __name__: 'ALERTS',
      alertname: 'OAuthSLOBudgetBurn',
      alertstate: 'firing',
      burn: 'fast',
      kind: 'slo',
      long: '1h',
      severity: 'page',
      shadow: 'false',
      short: '5m',
      slo: 'token_issuance_success',
    });
    const arrived = await until(async () => {
      const all = (await (await fetch(`${alertmanager}/api/v2/alerts`)).json()) as {
        labels: Record<string, string>;
        annotations: Record<string, string>;
        receivers: { name: string }[];
        status: { state: string; inhibitedBy: string[] };
      }[];
      const page = all.find((a) => a.labels['burn'] === 'fast');
      const ticket = all.find((a) => a.labels['burn'] === 'slow');
      expect(all.some((a) => a.labels['alertname'] === 'Watchdog')).toBe(true);
      // The page silences the ticket of the same SLO, and not itself.
      expect(page?.status.state).toBe('active');
      expect(ticket?.status.state).toBe('suppressed');
      expect(ticket?.status.inhibitedBy.length).toBeGreaterThan(0);
      return page;
    });
    expect(arrived?.receivers).toEqual([{ name: 'sre_page' }]);
    expect(arrived?.annotations['summary']).toBe(
      'token_issuance_success spends its error budget 500 times too fast over 1h and 5m; -49900.0 % of the 30-day budget is left.',
    );
    expect(await query('ALERTS{alertname="OAuthSLOUnmeasured"}')).toEqual([]);
  });

  // Those over the metrics of other roles: boards_prometheus.test.ts.
  it('answers the PromQL queries of the boards over service levels and alerts with series', async () => {
    const queries = (await loadBoards()).flatMap((b) =>
      b.rows.flatMap((r) => r.panels.flatMap((p) => p.queries)),
    );
    const promql = queries
      .filter((q) => q.language === 'promql')
      .filter((q) => /oauth_slo|ALERTS/.test(q.text));
    expect(promql.length).toBeGreaterThan(0);
    for (const { text, legend } of promql) {
      const series = await until(async () => {
        const result = await query(text);
        expect(result.length, text).toBeGreaterThan(0);
        return result;
      });
      // Every label that the legend names is there.
      for (const [, label = ''] of legend.matchAll(/\{\{(\w+)\}\}/g))
        for (const one of series) expect(one.metric[label], `${text}: ${label}`).toBeTruthy();
    }
  });
});
