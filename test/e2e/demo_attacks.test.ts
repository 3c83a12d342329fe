import { afterEach, describe, expect, it } from 'vitest';
import { startDemo, type DemoProcess } from '../demo_process.ts';

/** The whole product judged from outside: every attack is found, and honest people are left alone. */
let demo: DemoProcess | undefined;

afterEach(() => {
  demo?.child.kill('SIGKILL');
});

async function run(
  ...args: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  demo = startDemo(args);
  const code = await demo.exited;
  return { code, ...demo.output() };
}

const RULES: Readonly<Record<string, string>> = {
  code_redeemed_twice: 'code_redeemed_twice',
  redirect_lookalike: 'redirect_lookalike',
  redirect_probing: 'redirect_probing',
  scope_beyond_registration: 'scope_beyond_registration',
  scope_growth_on_refresh: 'scope_growth_on_refresh',
  stolen_access_token: 'access_token_replay',
  stolen_refresh_token: 'refresh_token_reuse',
  token_used_after_revocation: 'token_used_after_revocation',
};

describe('npm run demo', () => {
  it('finds all attacks amid honest traffic', { timeout: 240_000 }, async () => {
    const { code, stdout, stderr } = await run('--once', '--rate', '240', '--seed', '7');
    expect(stdout, stderr).toContain('8 of 8 attacks found');
    for (const [attack, rule] of Object.entries(RULES)) {
      expect(stdout).toMatch(new RegExp(`^${attack} +${rule} +\\d+\\.\\d s$`, 'm'));
    }
    expect(stdout).toContain('spans lost: 0');
    expect(stdout).not.toMatch(/^ {2}failed/m);
    expect(code).toBe(0);
  });

  it('finds nothing grave in honest traffic', { timeout: 240_000 }, async () => {
    const { code, stdout, stderr } = await run('--honest', '3', '--rate', '100', '--seed', '8');
    expect(stdout, stderr).toMatch(
      /300 honest flows in \d+ s: \d+ findings, 0 of severity medium or above/,
    );
    expect(stdout).toMatch(/^attack code_redeemed_twice: found after/m);
    // Races, lost answers and double clicks are seen all the same.
    expect(Number(/: (\d+) findings/.exec(stdout)?.[1]), stdout).toBeGreaterThan(0);
    expect(code).toBe(0);
  });

  it('lists its attacks with the rules that find them', async () => {
    const { code, stdout } = await run('--list');
    const listed = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(/ +/).slice(0, 2));
    expect(Object.fromEntries(listed)).toEqual(RULES);
    expect(code).toBe(0);
  });

  it.each([
    [['--attack', 'none'], 'no attack is called none; allowed: all, code_redeemed_twice'],
    [['--rate', '0'], 'must be a number from 1 to 6000'],
    [['--seed', '1.5'], 'must be a whole number'],
    [['--once', '--honest', '1'], '--once and --honest exclude each other'],
    [['--data-dir', '/tmp/x', '--ledger', '/tmp/x/ledger'], 'lies in the data directory'],
    [['--unknown'], "unknown option '--unknown'"],
  ])('refuses %j with one clear line', async (args, message) => {
    const { code, stderr } = await run(...args);
    expect(stderr).toContain(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(code).toBe(2);
  });

  it('ends by itself on SIGTERM', { timeout: 120_000 }, async () => {
    demo = startDemo(['--once', '--rate', '60', '--seed', '9']);
    await new Promise<void>((resolve) => {
      demo?.onLine((line) => {
        if (line.startsWith('seed')) resolve();
      });
    });
    demo.child.kill('SIGTERM');
    expect(await demo.exited).toBe(1);
    expect(demo.output().stderr).toContain('stopping; a second signal ends at once');
    expect(demo.output().stdout).toMatch(/\d of 8 attacks found/);
  });
});
