import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadSlos } from '../../alerts/registry.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../runtime/paths.ts';
import { temporaryFolder } from '../harness.ts';
import { runGrantscope, startServer, type ServerProcess } from '../server_process.ts';

// `npm start` as a newcomer meets it: addresses, restart, a second start, commands beside the server, wrong settings.

const folder = temporaryFolder();
const env = {
  GRANTSCOPE_DATA_DIR: folder.path,
  GRANTSCOPE_COLLECTOR_LISTEN: '127.0.0.1:0',
  GRANTSCOPE_API_LISTEN: '127.0.0.1:0',
};
let server: ServerProcess;
beforeAll(async () => {
  server = await startServer(folder.path);
});
afterAll(async () => {
  await server.kill();
  folder.remove();
});

async function clientsOf(api: string): Promise<string[]> {
  const answer = (await (await fetch(`${api}/api/v1/events?limit=50`)).json()) as {
    items: { client_id: string }[];
  };
  return answer.items.map((e) => e.client_id);
}

describe('grantscope serve', () => {
  it('says what listens where and what to do next', () => {
    expect(server.output()).toMatch(
      /Grantscope is ready\.\n {2}console and API {3}http:\/\/127\.0\.0\.1:\d+\n {2}collector {9}http:\/\/127\.0\.0\.1:\d+ /,
    );
    expect(server.output()).toContain('npm run demo');
  });

  it('makes a key file that only its owner reads', () => {
    expect(statSync(join(folder.path, 'keys.json')).mode & 0o777).toBe(0o600);
  });

  it('refuses a second start on the same data directory, says who holds it, and leaves the first alone', async () => {
    const second = await runGrantscope(['serve'], env);
    expect(second.code).toBe(2);
    expect(second.stderr).toBe(
      `grantscope: ${folder.path} is in use by the Grantscope process ${server.child.pid}: stop it, or set GRANTSCOPE_DATA_DIR to another folder\n`,
    );
    expect((await fetch(`${server.apiUrl}/healthz`)).status).toBe(200);
  });

  it('lets commands that need the store work beside it, through its API', async () => {
    const status = await runGrantscope(['slo', 'status', '--json'], env);
    expect(status.code, status.stderr).toBe(0);
    const slos = JSON.parse(status.stdout) as { id: string; state: string }[];
    expect(slos.map((s) => [s.id, s.state])).toEqual(
      (await loadSlos()).map((s) => [s.id, 'unmeasured']),
    );
    const backtest = await runGrantscope(
      ['backtest', '--from', '2026-01-01', '--to', '2026-01-02', '--json'],
      env,
    );
    expect(backtest.code, backtest.stderr).toBe(0);
    expect(JSON.parse(backtest.stdout)).toMatchObject({ findings: [] });
  });

  it('gives the same reference by command and by API, and prints neither key nor token', async () => {
    const token = ['opaque', 'token', 'value', '0123456789'].join('-');
    const byCommand = await runGrantscope(['hash', token, '--json'], env);
    const response = await fetch(`${server.apiUrl}/api/v1/hash`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ value: token }),
    });
    const byApi = (await response.json()) as { references: { ref: string }[] };
    expect((JSON.parse(byCommand.stdout) as typeof byApi).references[0]?.ref).toBe(
      byApi.references[0]?.ref,
    );
    const key = (
      JSON.parse(readFileSync(join(folder.path, 'keys.json'), 'utf8')) as {
        keys: { key: string }[];
      }
    ).keys[0]!.key;
    for (const secret of [token, key])
      expect(byCommand.stdout + JSON.stringify(byApi) + server.output()).not.toContain(secret);
  });

  it('keeps the data over a restart', async () => {
    const event = {
      time: new Date().toISOString(),
      kind: 'login',
      outcome: 'success',
      client: { id: 'restart-client' },
    };
    const answer = await fetch(`${server.collectorUrl}/v1/events/grantscope`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(event),
    });
    expect(await answer.json()).toEqual({ accepted: 1, rejected: 0, errors: [] });
    expect(await server.stop()).toBe(0);
    const began = performance.now();
    server = await startServer(folder.path);
    expect(performance.now() - began).toBeLessThan(60_000);
    expect(await clientsOf(server.apiUrl)).toEqual(['restart-client']);
  });
});

describe('wrong settings', () => {
  it('stop the start with the key, the reason and what is allowed', async () => {
    const wrong = await runGrantscope(['serve'], { ...env, GRANTSCOPE_API_LISTEN: '0.0.0.0:7400' });
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toMatch(
      /^grantscope: environment: GRANTSCOPE_API_LISTEN: 0\.0\.0\.0 can be reached by others/,
    );
    const yaml = join(folder.path, 'wrong.yaml');
    writeFileSync(yaml, 'detectors:\n  refresh_token_reuse: { grace_secondz: 1 }\n');
    const detector = await runGrantscope(['serve'], {
      ...env,
      GRANTSCOPE_DATA_DIR: join(folder.path, 'other'),
      GRANTSCOPE_CONFIG: yaml,
    });
    expect(detector.code).toBe(2);
    expect(detector.stderr).toContain('detectors.refresh_token_reuse');
    expect(detector.stderr).toContain('grace_secondz');
  });

  it('unknown commands, options and roles exit with 2 and one clear line', async () => {
    for (const [args, message] of [
      [['nosuch'], "unknown command 'nosuch'"],
      [['serve', '--nosuch'], "unknown option '--nosuch'"],
      [['serve', '--roles', 'cook'], 'unknown role cook; allowed: collector, detectors, api'],
      [['rules', 'show', 'nosuch'], 'allowed: access_token_replay'],
      [['backtest', '--from', 'yesterday', '--to', 'today'], '--from'],
    ] as const) {
      const result = await runGrantscope(args, env);
      expect({
        code: result.code,
        said: result.stderr.includes(message),
        stderr: result.stderr,
      }).toMatchObject({ code: 2, said: true });
    }
  });

  it('--help works for every command', async () => {
    const all = await runGrantscope(['--help'], {});
    expect(all.code).toBe(0);
    const names = [...all.stdout.matchAll(/^ {2}([a-z-]+) /gm)]
      .map((m) => m[1]!)
      .filter((n) => n !== 'help');
    const files = readdirSync(join(packageRoot, 'cli', 'commands')).map((f) => f.split('.')[0]!);
    expect(names).toEqual(files.map((f) => f.replaceAll('_', '-')).sort());
    expect(names).toEqual(expect.arrayContaining(['backtest', 'rules', 'serve', 'suppress']));
    for (const name of names) {
      const help = await runGrantscope([name, '--help'], {});
      expect({
        name,
        code: help.code,
        usage: help.stdout.startsWith(`Usage: grantscope ${name}`),
      }).toEqual({ name, code: 0, usage: true });
    }
  }, 120_000);
});
