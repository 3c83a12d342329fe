/**
 * A finding from its events to whoever is told, over the real process with a grantscope.yaml: what one suppression hides stays
 * visible, the other is told as OCSF; the commands work beside the running server; a restart tells nothing twice.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { temporaryFolder } from '../harness.ts';
import { runGrantscope, startServer, type ServerProcess } from '../server_process.ts';

const folder = temporaryFolder();
const told = join(folder.path, 'told.ndjson');
let server: ServerProcess;
const env = {
  GRANTSCOPE_CONFIG: join(folder.path, 'grantscope.yaml'),
  GRANTSCOPE_SEGMENT_AGE_MS_MAX: '100',
  GRANTSCOPE_DETECT_INTERVAL_MS: '200',
};

beforeAll(async () => {
  writeFileSync(
    env.GRANTSCOPE_CONFIG,
    `suppressions:
  - client_id: retrying-client
    severity_max: high
    owner: platform team
    reason: sends every code twice until its next release
    expires_at: ${new Date(Date.now() + 86_400_000).toISOString()}
response:
  ocsf:
    - id: siem
      file: ${told}
      severity_min: low
`,
  );
  server = await startServer(folder.path, env);
}, 120_000);
afterAll(async () => {
  await server.stop();
  folder.remove();
});

/** A code that is redeemed, and again from elsewhere. */
async function replay(client: string, code: string): Promise<void> {
  const startMs = Date.now() - 120_000;
  const redeem = (n: number, ip: string) => ({
    id: `${code}-${n}`,
    time: new Date(startMs + n * 60_000).toISOString(),
    kind: 'code_redeemed',
    outcome: n === 0 ? 'success' : 'failure',
    client: { id: client },
    issuer: 'https://as.example',
    net: { client_ip: ip },
    tokens: [{ role: 'consumed', type: 'code', value: code }],
  });
  const response = await fetch(`${server.collectorUrl}/v1/events/grantscope`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify([redeem(0, '198.51.100.7'), redeem(1, '203.0.113.9')]),
  });
  expect(await response.json()).toMatchObject({ accepted: 2, rejected: 0 });
}

/** A command beside the server. */
const run = (args: readonly string[]) =>
  runGrantscope(args, { ...env, GRANTSCOPE_DATA_DIR: folder.path });

interface Listed {
  finding_id: string;
  client_id: string;
  triage: { treatment: string; treated_owner: string; treated_reason: string } | null;
}
async function findings(query = ''): Promise<Listed[]> {
  const response = await fetch(`${server.apiUrl}/api/v1/findings?sort=detected_at${query}`);
  return ((await response.json()) as { items: Listed[] }).items;
}
const lines = (): Record<string, unknown>[] =>
  existsSync(told)
    ? readFileSync(told, 'utf8')
        .trim()
        .split('\n')
        .filter((l) => l !== '')
        .map((l) => JSON.parse(l) as Record<string, unknown>)
    : [];

it('goes from events to triage, response and commands, and through a restart', async () => {
  await replay('retrying-client', 'code-one-of-the-retrying-client');
  await replay('shop', 'code-two-of-the-shop');
  await vi.waitFor(
    async () =>
      expect((await findings()).map((f) => [f.client_id, f.triage?.treatment]).sort()).toEqual([
        ['retrying-client', 'suppressed'],
        ['shop', 'active'],
      ]),
    { timeout: 30_000, interval: 200 },
  );
  const [hidden] = await findings('&treatment=suppressed');
  expect(hidden?.triage).toMatchObject({
    treated_owner: 'platform team',
    treated_reason: 'sends every code twice until its next release',
  });
  const [shown] = await findings('&treatment=active');
  await vi.waitFor(() => expect(lines()).toHaveLength(1), { timeout: 20_000, interval: 100 });
  expect(lines()[0]).toMatchObject({
    class_uid: 2004,
    activity_name: 'Create',
    finding_info: { uid: shown?.finding_id },
  });

  const list = await run(['suppress', 'list']);
  expect([list.code, list.stdout]).toEqual([0, expect.stringContaining('1 hit(s)  until ')]);
  expect(list.stdout).toContain('client retrying-client; up to high');
  const judged = await run([
    'findings',
    'judge',
    shown!.finding_id,
    '--as',
    'true_positive',
    '--author',
    'ann',
  ]);
  expect([judged.code, judged.stdout.trim()]).toEqual([
    0,
    'code_redeemed_twice: true_positive by ann',
  ]);
  const scope = ['--client', 'shop', '--severity-max', 'high'];
  const terms = ['--owner', 'soc', '--reason', 'test', '--for', '1h'];
  const added = await run(['suppress', 'add', ...scope, ...terms]);
  expect([added.code, added.stdout]).toEqual([
    0,
    expect.stringContaining('would have hidden 1 finding(s) of the last 30 days'),
  ]);
  await vi.waitFor(async () => expect(await findings('&treatment=active')).toEqual([]), {
    timeout: 30_000,
    interval: 200,
  });
  await vi.waitFor(() => expect(lines()).toHaveLength(2), { timeout: 20_000, interval: 100 });
  expect(lines()[1]).toMatchObject({ activity_name: 'Update', status: 'Suppressed' });
  const wrong = await run(['suppress', 'add', ...terms]);
  expect([wrong.code, wrong.stderr]).toEqual([
    expect.any(Number),
    expect.stringContaining('a scope names at least one of rule_id'),
  ]);
  expect(wrong.code).not.toBe(0);

  await server.stop();
  server = await startServer(folder.path, env);
  await replay('third', 'code-three-of-the-third');
  await vi.waitFor(() => expect(lines()).toHaveLength(3), { timeout: 30_000, interval: 100 });
  const uids = lines().map((l) => (l['metadata'] as { uid: string }).uid);
  expect(new Set(uids).size).toBe(3);
  const history = await run(['findings', 'history', shown!.finding_id, '--json']);
  const { steps } = JSON.parse(history.stdout) as { steps: { change: string }[] };
  expect(steps.map((s) => s.change)).toEqual(['opened', 'suppressed']);
}, 180_000);
