// How: exported logs with one attack, a line that is no JSON and one that is no event are given to the command itself, as
// lines, as gzip on standard input and as one indented JSON array. What it prints must name the attack and the bad lines, and
// neither the report nor the folder it leaves behind may hold a token.
import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, expect, it } from 'vitest';
import type { Analysis } from '../../cli/analyze/analysis.ts';
import { temporaryFolder } from '../harness.ts';

const folder = temporaryFolder();
afterAll(() => folder.remove());

const MAIN = new URL('../../cli/main.ts', import.meta.url).pathname;
const ENVIRONMENT = { ...process.env, GRANTSCOPE_DATA_DIR: join(folder.path, 'data') };
const run = promisify(execFile);
const analyze = (...args: string[]) =>
  run(process.execPath, ['--import', 'tsx', MAIN, 'analyze', ...args], {
    env: { ...ENVIRONMENT, TMPDIR: folder.path },
  });

const secret = (name: string): string => `planted-${name}-${'x7Kq'.repeat(6)}`;
const HOME = { client_ip: '198.51.100.7', user_agent: 'okhttp/4.12.0', ip_role: 'end_user' };
const AWAY = { client_ip: '203.0.113.9', user_agent: 'curl/8.5.0', ip_role: 'end_user' };
const call = (second: number, net: object): object => ({
  ...{ kind: 'api_accessed', outcome: 'success', time: `2026-03-02T10:00:${second}Z`, net },
  ...{ client: { id: 'phone' }, http: { route: '/orders' } },
  tokens: [{ role: 'presented', type: 'access', value: secret('access') }],
});
const RECORDS = [
  call(10, HOME),
  call(50, AWAY),
  { kind: 'client_updated', outcome: 'success', time: '2026-03-02T09:00:00Z', client: { id: 'x' } },
];

function expectTheAttack(analysis: Analysis): void {
  expect(analysis.findings.map((f) => [f.rule_id, f.verdict, f.client_id])).toEqual([
    ['access_token_replay', 'replay', 'phone'],
  ]);
  expect(analysis.events).toBe(3);
  expect([analysis.from, analysis.to]).toEqual([
    '2026-03-02T09:00:00.000Z',
    '2026-03-02T10:00:50.000Z',
  ]);
  expect(analysis.timeline.map((e) => [e.at, e.what])).toEqual([
    ['2026-03-02T09:00:00.000Z', 'client_updated'],
    ['2026-03-02T10:00:10.000Z', 'finding'],
  ]);
  expect(JSON.stringify(analysis)).not.toContain('planted');
}

it('finds the attack in lines, names the bad ones by number, and writes a report', async () => {
  const file = join(folder.path, 'export.ndjson');
  const [first, ...rest] = RECORDS.map((r) => JSON.stringify(r));
  const bad = [`{"token":"${secret('broken')}`, '', '{"kind":"no such thing"}'];
  writeFileSync(file, [first, ...bad, ...rest].join('\n'));
  const report = join(folder.path, 'report.md');
  const { stdout } = await analyze('--source', 'grantscope', file, '--json', '--out', report);
  const analysis = JSON.parse(stdout) as Analysis;
  expectTheAttack(analysis);
  expect(analysis.files).toEqual([{ file, records: 5, accepted: 3, refused: 2 }]);
  expect(analysis.refusals.map((r) => [r.line, r.code])).toEqual([
    [2, 'not_json'],
    [4, 'invalid_field'],
  ]);
  const text = readFileSync(report, 'utf8');
  expect(text).toContain('HIGH access_token_replay (replay)');
  expect(text).toContain('export.ndjson, line 2: not_json');
  expect(text).not.toContain('planted');
  // Nothing is kept: neither a store nor a key.
  const left = readdirSync(folder.path).filter((name) => !name.startsWith('tsx-'));
  expect(left.sort()).toEqual(['export.ndjson', 'report.md']);
});

it('reads gzip from standard input, and an indented JSON array', async () => {
  const args = ['--import', 'tsx', MAIN, 'analyze', '--source', 'grantscope', '-', '--json'];
  const child = spawn(process.execPath, args, { env: { ...ENVIRONMENT, TMPDIR: folder.path } });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stdin.end(gzipSync(RECORDS.map((r) => JSON.stringify(r)).join('\n')));
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect(code).toBe(0);
  expectTheAttack(JSON.parse(Buffer.concat(chunks).toString()) as Analysis);
  const file = join(folder.path, 'export.json');
  writeFileSync(file, JSON.stringify(RECORDS, null, 2));
  const { stdout } = await analyze('--source', 'grantscope', file, '--json');
  expectTheAttack(JSON.parse(stdout) as Analysis);
});

it('says what is wrong with its input, and by its exit code', async () => {
  const failure = async (...args: string[]): Promise<unknown> =>
    analyze(...args).then(
      () => undefined,
      (error: unknown) => {
        const { code, stderr } = error as { code: number; stderr: string };
        return [code, stderr.trim()];
      },
    );
  expect(await failure('--source', 'nope', 'x')).toEqual([
    2,
    expect.stringMatching(/^grantscope: --source nope: no such source; known: .*keycloak/),
  ]);
  const missing = join(folder.path, 'missing');
  expect(await failure('--source', 'keycloak', missing)).toEqual([
    2,
    `grantscope: ${missing}: cannot be read (ENOENT)`,
  ]);
  const garbage = join(folder.path, 'garbage');
  writeFileSync(garbage, 'no event at all\n');
  expect(await failure('--source', 'grantscope', garbage)).toEqual([1, '']);
});
