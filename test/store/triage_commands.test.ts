// How: the commands `suppress` and `findings` as they are typed, with the operations of the process that holds the store, over
// the real embedded engine; what they print and what they refuse.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import findings from '../../cli/commands/findings.ts';
import suppress from '../../cli/commands/suppress.ts';
import type { CliContext, CommandDefinition } from '../../cli/define_command.ts';
import { registerTriageOperations } from '../../detectors/triage/operations.ts';
import { Triage } from '../../detectors/triage/triage.ts';
import { ManualClock } from '../../runtime/clock.ts';
import type { Runtime } from '../../runtime/context.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { id, insertFindings, makeFinding } from '../api_seed.ts';
import { openTestStore, testRuntime } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const clock = new ManualClock(NOW_MS);
let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let triage: Triage;

beforeAll(async () => {
  opened = await openTestStore();
  runtime = testRuntime(opened.dataDir, { clock });
  registerTriageOperations(runtime, opened.store);
  triage = new Triage({
    store: opened.store,
    tenant: 'default',
    clock,
    metrics: new Metrics({ processMetrics: false }),
    configured: [],
  });
  await insertFindings(opened.store, [
    makeFinding({ finding_id: id('1', 1), severity: 'medium', client_id: 'shop' }),
    makeFinding({ finding_id: id('1', 2), severity: 'critical', client_id: 'shop' }),
  ]);
});
afterAll(() => opened.close());

async function run(command: CommandDefinition, ...args: string[]): Promise<string> {
  const printed: string[] = [];
  const cli = {
    print: (result: { text: string; json: unknown }, asJson: boolean) =>
      printed.push(asJson ? JSON.stringify(result.json) : result.text),
    runtime: () => runtime,
    operation: (name: string, input: unknown) =>
      // Through JSON, as the API of a running server takes it.
      runtime.operations.get(name)!(JSON.parse(JSON.stringify(input)), () => undefined),
  } as unknown as CliContext;
  await command.build(cli).parseAsync(args, { from: 'user' });
  return printed.join('\n');
}

describe('grantscope suppress', () => {
  it('previews, adds, lists and removes', async () => {
    expect(await run(suppress, 'list')).toBe('nothing is suppressed');
    const preview = await run(suppress, 'preview', '--client', 'shop');
    expect(preview.split('\n').slice(0, 3)).toEqual([
      'would have hidden 1 finding(s) of the last 30 days, about 1 entity, up to severity high',
      '1 graver one(s) would have broken through',
      '  medium 1; refresh_token_reuse 1',
    ]);
    const terms = ['--owner', 'soc', '--reason', 'known', '--by', 'ann'];
    const added = await run(suppress, 'add', '--client', 'shop', ...terms, '--for', '2d');
    const [, suppressionId = ''] = /^added (\S+), until 2026-03-03T12:00:00.000Z\n/.exec(added)!;
    await triage.round([]);
    expect(await run(suppress, 'list')).toBe(
      [
        `${suppressionId}  active   1 hit(s)  until 2026-03-03T12:00:00.000Z`,
        '    client shop; up to high',
        '    soc: known (api, by ann)',
      ].join('\n'),
    );
    const ended = ['remove', suppressionId, '--reason', 'fixed', '--by', 'bob'];
    expect(await run(suppress, ...ended)).toBe(
      `removed ${suppressionId}; it had hidden 1 finding(s)`,
    );
    expect(await run(suppress, 'list')).toBe('nothing is suppressed');
    expect(await run(suppress, 'list', '--all')).toContain('removed by bob: fixed');
    await expect(run(suppress, ...ended)).rejects.toThrow('it is removed already');
  });

  it.each([
    [[], /rule_id: a scope names at least one of/],
    [['--client', '*'], /client_id: names one thing; there is no wildcard/],
    [['--client', 'a', '--for', '367d'], /expires_at: at most 366 days/],
    [['--client', 'a', '--for', 'a year'], /--for: not a duration/],
    [['--client', 'a'], /expires_at: must be ISO 8601/],
  ])('refuses to add %j', async (args, message) => {
    const terms = ['--owner', 'soc', '--reason', 'known'];
    const end = args.length === 0 || args[1] === '*' ? ['--for', '1d'] : [];
    await expect(run(suppress, 'add', ...args, ...terms, ...end)).rejects.toThrow(message);
  });
});

describe('grantscope findings', () => {
  it('tells the history of a finding, takes a judgement, and shows the precision of rules', async () => {
    expect(await run(findings, 'precision')).toBe('no finding was judged yet');
    await run(
      findings,
      'judge',
      id('1', 1),
      '--as',
      'false_positive',
      '--author',
      'ann',
      '--note',
      'a test',
    );
    const history = (await run(findings, 'history', id('1', 1))).split('\n');
    expect(history[0]).toMatch(
      /^2026-03-01T12:00:00.000Z {2}opened {6}open, medium, suppressed by soc: known \(\S+, until 2026-03-03T12:00:00.000Z\)$/,
    );
    expect(history.at(-1)).toBe('2026-03-01T12:00:00.000Z  false_positive  by ann: a test');
    expect(await run(findings, 'precision')).toBe(
      'refresh_token_reuse     0 % of 1 judged  (0 true, 0 benign, 1 false)',
    );
    expect(JSON.parse(await run(findings, 'precision', '--json'))).toEqual([
      expect.objectContaining({ rule_id: 'refresh_token_reuse', judged: 1, precision: 0 }),
    ]);
    await expect(run(findings, 'history', id('0', 1))).rejects.toThrow(
      'finding_id: no finding has this id',
    );
  });
});
