import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFlags, report } from './harness/program.ts';
import { startServer, type RunningServer } from './harness/server.ts';

/**
 * How soon a finding is there, on the built product (`npm run build:server` first): a real `grantscope serve` takes honest
 * traffic at a steady rate, and every half second one stolen token is used from a second network by another program.
 *
 *   npm run bench -- detection_latency --rate 20000 --seconds 60
 *
 * Latency counts from the acknowledgement of that use until the API lists the finding, asked every 100 ms. Prints and
 * writes to bench/results/detection_latency.json. The load generator runs beside the server, on the same machine.
 */
const BATCH = 1_000;
/** Calls from home come this long before the stolen use, s: by then they are stored. */
const LEAD_SECONDS = 3;
const WAIT_SECONDS = 30;

const flags = readFlags(process.argv.slice(2), { rate: 20_000, seconds: 60 }, ['rate', 'seconds']);

const AGENT =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36';

function line(event: {
  readonly token: string;
  readonly client: string;
  readonly isIssued: boolean;
  readonly ip: string;
  readonly agent: string;
}): string {
  return JSON.stringify({
    event_id: randomUUID(),
    time: new Date().toISOString(),
    kind: event.isIssued ? 'token_issued' : 'api_accessed',
    outcome: 'success',
    client: { id: event.client },
    scopes_granted: ['openid', 'orders:read'],
    tokens: [{ role: event.isIssued ? 'issued' : 'presented', type: 'access', value: event.token }],
    net: { client_ip: event.ip, ip_role: 'end_user', user_agent: event.agent },
    http: { method: 'POST', route: event.isIssued ? '/token' : '/orders', status: 200 },
  });
}

/** An issuance and two API calls of each token, from its subject's own network. */
function honestBody(sequence: number): Buffer {
  const lines = Array.from({ length: BATCH }, (_, i) => {
    const n = sequence * BATCH + i;
    const token = Math.floor(n / 3);
    const subject = token % 5_000;
    return line({
      token: `opaque-access-token-${token}-0123456789abcdef`,
      client: `client-${token % 40}`,
      isIssued: n % 3 === 0,
      ip: `10.${subject >> 8}.${subject & 255}.7`,
      agent: AGENT,
    });
  });
  return Buffer.from(lines.join('\n'));
}

function stolenUse(n: number, isAway: boolean): Buffer {
  return Buffer.from(
    line({
      token: `stolen-access-token-${n}-0123456789abcdef`,
      client: `stolen-${n}`,
      isIssued: false,
      ip: isAway ? '203.0.113.9' : '198.51.100.7',
      agent: isAway ? 'curl/8.9.1' : AGENT,
    }),
  );
}

/** Resolves at the answer. */
function post(collector: string, agent: Agent, body: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/x-ndjson', 'content-length': body.length };
    const url = `${collector}/v1/events/grantscope`;
    const request = httpRequest(url, { method: 'POST', agent, headers }, (response) => {
      response.resume();
      response.on('end', () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`HTTP ${response.statusCode}`));
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function sendLoad(collector: string, agent: Agent): Promise<number> {
  const began = performance.now();
  const waits: Promise<void>[] = [];
  const count = Math.round((flags.rate * flags.seconds) / BATCH);
  for (let sequence = 0; sequence < count; sequence += 1) {
    const dueMs = began + (sequence * BATCH * 1_000) / flags.rate - performance.now();
    if (dueMs > 0) await sleep(dueMs);
    waits.push(post(collector, agent, honestBody(sequence)));
  }
  await Promise.all(waits);
  return (count * BATCH * 1_000) / (performance.now() - began);
}

/** When each stolen use was acknowledged, by its client. */
async function sendStolen(collector: string, agent: Agent): Promise<Map<string, number>> {
  const acked = new Map<string, number>();
  const began = performance.now();
  const uses: Promise<void>[] = [];
  const count = (flags.seconds - LEAD_SECONDS) * 2;
  for (let n = 0; n < count + LEAD_SECONDS * 2; n += 1) {
    const dueMs = began + n * 500 - performance.now();
    if (dueMs > 0) await sleep(dueMs);
    if (n < count) uses.push(post(collector, agent, stolenUse(n, false)));
    const away = n - LEAD_SECONDS * 2;
    if (away < 0) continue;
    const use = post(collector, agent, stolenUse(away, true));
    uses.push(use.then(() => void acked.set(`stolen-${away}`, performance.now())));
  }
  await Promise.all(uses);
  return acked;
}

/** When the API first listed the finding of each client. */
async function watchFindings(
  api: string,
  seen: Map<string, number>,
  isOver: () => boolean,
): Promise<void> {
  const url = `${api}/api/v1/findings?rule_id=access_token_replay&sort=-detected_at&limit=100`;
  while (!isOver()) {
    const response = await fetch(url);
    const page = (await response.json()) as { items?: { client_id: string }[] };
    for (const { client_id } of page.items ?? [])
      if (!seen.has(client_id)) seen.set(client_id, performance.now());
    await sleep(100);
  }
}

async function measure(server: RunningServer): Promise<Record<string, unknown>> {
  const api = await server.api();
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const seen = new Map<string, number>();
  let isOver = false;
  const watching = watchFindings(api, seen, () => isOver);
  const [rate, acked] = await Promise.all([
    sendLoad(server.collector, agent),
    sendStolen(server.collector, agent),
  ]);
  const deadline = performance.now() + WAIT_SECONDS * 1_000;
  while (seen.size < acked.size && performance.now() < deadline) await sleep(50);
  isOver = true;
  await watching;
  const bySweep = await server.metric('grantscope_detector_sweep_changes_total');
  agent.destroy();
  const latencies = [...acked]
    .flatMap(([client, at]) => (seen.has(client) ? [(seen.get(client) ?? 0) - at] : []))
    .sort((a, b) => a - b);
  const at = (q: number): number =>
    Math.round(latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] ?? 0);
  return {
    events_per_second: Math.round(rate),
    stolen_uses: acked.size,
    found: latencies.length,
    found_after_ms: { p50: at(0.5), p99: at(0.99), max: at(1) },
    found_by_sweep_only: bySweep,
  };
}

const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
try {
  const server = await startServer(dataDir);
  try {
    report('detection_latency', flags, await measure(server));
  } finally {
    await server.stop();
  }
} finally {
  rmSync(dataDir, { recursive: true, force: true });
}
