/**
 * Every PromQL panel of the boards through the API and a real Prometheus that scrapes a whole Grantscope. How Grafana
 * draws them is not covered.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { stringify } from 'yaml';
import { BoardList, BoardView, PanelData } from '../../api/schemas/board_view.ts';
import { serve, type Served } from '../../cli/serve.ts';
import { ROLES } from '../../cli/roles.ts';
import { createRuntime } from '../../cli/context.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { TEST_KEY, temporaryFolder } from '../harness.ts';
import { programs } from './programs.ts';

const isInstalled = programs.prometheus !== undefined;
if (!isInstalled)
  process.stderr.write('skipped: prometheus not installed (apt-get install prometheus)\n');

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/**
 * Alerts fire and refusals are counted only where something is wrong, and burn rates need minutes that are over: of these
 * an answer is enough here. prometheus.test.ts makes an SLO burn and asks for their series.
 */
const MAY_BE_EMPTY = [
  'Firing alerts',
  'Refused',
  'Burn rate, fast tier (1h and 5m)',
  'Burn rate, medium tier (6h and 30m)',
];

describe.skipIf(!isInstalled)('boards over Prometheus', () => {
  const folder = temporaryFolder();
  let prometheus: ChildProcess | undefined;
  let served: Served;

  beforeAll(async () => {
    const port = await freePort();
    const settings = {
      GRANTSCOPE_DATA_DIR: join(folder.path, 'data'),
      GRANTSCOPE_HASH_KEY: TEST_KEY,
      GRANTSCOPE_COLLECTOR_LISTEN: '127.0.0.1:0',
      GRANTSCOPE_API_LISTEN: '127.0.0.1:0',
      GRANTSCOPE_LOG_LEVEL: 'silent',
      PROMETHEUS_URL: `http://127.0.0.1:${port}`,
    };
    served = await serve(createRuntime(settings, { processMetrics: true }), ROLES);
    writeFileSync(
      join(folder.path, 'rules.yml'),
      readFileSync(join(packageRoot, 'alerts', 'generated', 'rules.yml')),
    );
    const job = (name: string, url: string): object => ({
      job_name: name,
      static_configs: [{ targets: [new URL(url).host] }],
    });
    writeFileSync(
      join(folder.path, 'prometheus.yml'),
      stringify({
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        rule_files: ['rules.yml'],
        scrape_configs: [
          job('grantscope_api', served.apiUrl!),
          job('grantscope_collector', served.collectorUrl!),
        ],
      }),
    );
    prometheus = spawn(
      programs.prometheus!,
      [
        '--config.file=prometheus.yml',
        '--storage.tsdb.path=tsdb',
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { stdio: 'ignore', cwd: folder.path },
    );
  }, 60_000);
  afterAll(async () => {
    await endPrometheus();
    await served.stop();
    folder.remove();
  });

  async function endPrometheus(): Promise<void> {
    if (prometheus === undefined || prometheus.exitCode !== null) return;
    const ended = once(prometheus, 'exit');
    prometheus.kill('SIGTERM');
    await ended;
  }

  async function send(): Promise<void> {
    const events = Array.from({ length: 20 }, (_, i) => ({
      kind: i % 2 === 0 ? 'token_issued' : 'token_request_failed',
      time: new Date(Date.now() - 20_000 - i * 1_000).toISOString(),
      outcome: i % 2 === 0 ? 'success' : 'failure',
      client: { id: 'shop' },
      subject: { ref: `person-${i}@example.com` },
      http: { status: i % 2 === 0 ? 200 : 503 },
    }));
    const response = await fetch(`${served.collectorUrl}/v1/events/grantscope`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: events.map((e) => JSON.stringify(e)).join('\n'),
    });
    expect(response.status).toBe(200);
  }

  async function read<T>(path: string, schema: { parse: (value: unknown) => T }): Promise<T> {
    return schema.parse(await (await fetch(`${served.apiUrl}/api/v1/boards${path}`)).json());
  }

  it('answers every PromQL panel with numbers', async () => {
    await send();
    const boards = await read('', BoardList);
    for (const { id } of boards.items) {
      const view = await read(`/${id}`, BoardView);
      const panels = view.rows.flatMap((r) => r.panels).filter((p) => p.language === 'promql');
      for (const panel of panels) {
        await vi.waitFor(
          async () => {
            await send();
            const range = `from=${new Date(Date.now() - 300_000).toISOString()}&to=${new Date().toISOString()}`;
            const data = await read(`/${id}/panels/${panel.id}?${range}`, PanelData);
            expect([panel.title, data.state]).toEqual([panel.title, 'ok']);
            if (MAY_BE_EMPTY.includes(panel.title)) return;
            const values = data.frames.flatMap((f) =>
              f.rows.map((r) => r[f.columns.findIndex((c) => c.type === 'number')]),
            );
            expect([panel.title, values.some((v) => typeof v === 'number')]).toEqual([
              panel.title,
              true,
            ]);
          },
          { timeout: 60_000, interval: 1_000 },
        );
      }
    }
  }, 240_000);

  it('says so when Prometheus is away', async () => {
    const view = await read('/pipeline', BoardView);
    const panel = view.rows.flatMap((r) => r.panels).find((p) => p.title === 'Ingest lag')!;
    await endPrometheus();
    const range = `from=${new Date(Date.now() - 300_000).toISOString()}&to=${new Date().toISOString()}`;
    const data = await read(`/pipeline/panels/${panel.id}?${range}`, PanelData);
    expect([data.state, data.frames]).toEqual(['unavailable', []]);
  });
});
