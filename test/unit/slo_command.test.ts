/** `grantscope slo`: what it prints, from what the operation returns. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { renderSloReference } from '../../alerts/reference.ts';
import { loadSlos } from '../../alerts/registry.ts';
import type { SloStatus } from '../../alerts/status.ts';
import slo from '../../cli/commands/slo.ts';
import type { CliContext } from '../../cli/define_command.ts';
import { packageRoot } from '../../runtime/paths.ts';

const status: SloStatus = {
  id: 'token_issuance_success',
  title: 'Token issuance success',
  measure: 'ratio',
  objective: 0.999,
  state: 'breached',
  good: 996,
  bad: 4,
  excluded: 7,
  unclassified: 0,
  corrected_events: 0,
  corrected_minutes: 0,
  budget_remaining: -3,
  coverage: 0.95,
  watermark: '2026-01-01T00:00:00.000Z',
  burn_rates: { '1h': 4 },
  burning: ['drift'],
  figures: {},
  shadow: false,
};

async function runSlo(...args: string[]): Promise<{ printed: unknown[]; operations: string[] }> {
  const printed: unknown[] = [];
  const operations: string[] = [];
  const cli = {
    print: (result: { text: string; json: unknown }, asJson: boolean) =>
      printed.push(asJson ? result.json : result.text),
    operation: (name: string) => {
      operations.push(name);
      return Promise.resolve([status]);
    },
  } as unknown as CliContext;
  await slo.build(cli).parseAsync(args, { from: 'user' });
  return { printed, operations };
}

describe('grantscope slo', () => {
  it('lists the definitions without asking a server', async () => {
    const { printed, operations } = await runSlo('list');
    expect(operations).toEqual([]);
    const lines = String(printed[0])
      .split('\n')
      .map((line) => line.split(/ {2,}/));
    expect(lines).toContainEqual([
      'token_issuance_success',
      '99.900 %',
      'fast,medium,slow,drift',
      'identity-platform',
      'Token issuance success',
    ]);
    expect((await runSlo('list', '--json')).printed).toEqual([await loadSlos()]);
  });

  it('prints the status as a table and as JSON', async () => {
    const { printed, operations } = await runSlo('status');
    expect(operations).toEqual(['slo_status']);
    const [head, line] = String(printed[0]).split('\n');
    expect(head?.split(/ {2,}/)).toHaveLength(12);
    expect(line?.split(/ {2,}/)).toEqual([
      'token_issuance_success',
      'breached',
      '99.900 %',
      '996',
      '4',
      '7',
      '-300.0 %',
      '-',
      '4.00',
      '-',
      '95.0 %',
      '2026-01-01T00:00:00.000Z',
    ]);
    expect((await runSlo('status', '--json')).printed).toEqual([[status]]);
  });
});

describe('renderSloReference', () => {
  it('says what every SLO counts, and links to a runbook that exists', async () => {
    const text = await renderSloReference();
    expect(text).toContain('| objective | 99.9 % over 30 days |');
    expect(text).toContain(
      '| good | kind `token_issued`, `token_refreshed`, `token_exchanged` with outcome `success` |',
    );
    expect(text).toContain('error not given with HTTP status 400 to 499');
    for (const { runbook } of await loadSlos()) {
      const page = readFileSync(join(packageRoot, 'alerts', 'runbooks', `${runbook}.md`), 'utf8');
      expect(page.startsWith('# ')).toBe(true);
    }
  });
});
