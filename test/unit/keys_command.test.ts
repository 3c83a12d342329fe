/** `grantscope keys` where the keys come from the environment, and the durations it reads. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import keys from '../../cli/commands/keys.ts';
import { createCliContext } from '../../cli/context.ts';
import type { CliContext } from '../../cli/define_command.ts';
import { parseDuration, shownDuration } from '../../cli/duration.ts';
import { loadConfig } from '../../runtime/config.ts';
import { messageOf } from '../../runtime/errors.ts';
import { readKeyFile } from '../../runtime/keyring_file.ts';
import { keyIdOf } from '../../runtime/keyring.ts';
import { TEST_KEY, temporaryFolder } from '../harness.ts';

const NEXT = 'n'.repeat(32);
const PREVIOUS = ['p'.repeat(32), 'q'.repeat(40)];
const environment = {
  GRANTSCOPE_DATA_DIR: '/nowhere',
  GRANTSCOPE_HASH_KEY: TEST_KEY,
  GRANTSCOPE_HASH_KEY_NEXT: NEXT,
  GRANTSCOPE_HASH_KEY_NEXT_FROM: '2100-01-01T00:00:00Z',
  GRANTSCOPE_HASH_KEY_PREVIOUS: PREVIOUS.join(', '),
};

async function run(env: Record<string, string>, ...args: string[]): Promise<unknown> {
  const printed: unknown[] = [];
  const cli: CliContext = {
    ...createCliContext(env),
    print: (result, asJson) => printed.push(asJson ? result.json : result.text),
  };
  try {
    await keys.build(cli).parseAsync(args, { from: 'user' });
  } catch (error) {
    return messageOf(error);
  }
  return printed[0];
}

describe('keys of the environment', () => {
  it('are listed by id, time and state, never by value', async () => {
    const listed = await run(environment, 'list', '--json');
    const key = (id: string, state: string, from: string | null, until: string | null) => ({
      ...{ id: keyIdOf(id), state, created_at: null, active_from: from, active_until: until },
    });
    const takeover = '2100-01-01T00:00:00.000Z';
    expect(listed).toEqual({
      keys: [
        key(NEXT, 'next', takeover, null),
        key(TEST_KEY, 'current', null, takeover),
        key(PREVIOUS[0]!, 'resolving', null, null),
        key(PREVIOUS[1]!, 'resolving', null, null),
      ],
    });
    const text = String(await run(environment, 'list'));
    for (const secret of [TEST_KEY, NEXT, ...PREVIOUS]) expect(text).not.toContain(secret);
  });

  it('are not changed by a command, which says how they are', async () => {
    expect(await run(environment, 'rotate')).toMatch(
      /^keys rotate: the keys come from the environment, .*GRANTSCOPE_HASH_KEY_NEXT .*GRANTSCOPE_HASH_KEY_PREVIOUS$/,
    );
    expect(await run(environment, 'retire', keyIdOf(PREVIOUS[0]!))).toMatch(
      /^keys retire: the keys come from the environment, .*GRANTSCOPE_HASH_KEY_PREVIOUS/,
    );
  });

  it.each([
    [{ GRANTSCOPE_HASH_KEY_NEXT_FROM: '' }, /NEXT and .*NEXT_FROM: set both or neither/],
    [{ GRANTSCOPE_HASH_KEY_NEXT: '' }, /NEXT and .*NEXT_FROM: set both or neither/],
    [{ GRANTSCOPE_HASH_KEY_NEXT: 'short' }, /HASH_KEY_NEXT: must be at least 32 characters/],
    [{ GRANTSCOPE_HASH_KEY_NEXT_FROM: 'soon' }, /NEXT_FROM: must be a time in UTC/],
    [{ GRANTSCOPE_HASH_KEY_PREVIOUS: 'a,b' }, /PREVIOUS: each key must be at least 32/],
    [{ GRANTSCOPE_HASH_KEY: '' }, /NEXT and .*PREVIOUS go with GRANTSCOPE_HASH_KEY/],
  ])('must fit together: %j', (change, message) => {
    expect(() => loadConfig({ ...environment, ...change })).toThrow(message);
  });
});

describe('retiring', () => {
  /** A key file whose first key gave way to another long ago, and what the store says about it. */
  async function retire(id: string, eventsByKey?: Record<string, number>): Promise<unknown> {
    const folder = temporaryFolder();
    const created_at = '2019-01-01T00:00:00.000Z';
    const keysOfFile = [
      { id: 'second', key: NEXT, created_at, active_from: '2020-01-01T00:00:00.000Z' },
      { id: 'first', key: TEST_KEY, created_at },
    ];
    const keyFile = join(folder.path, 'keys.json');
    writeFileSync(keyFile, JSON.stringify({ keys: keysOfFile }), { mode: 0o600 });
    if (eventsByKey !== undefined) mkdirSync(join(folder.path, 'clickhouse'));
    const cli: CliContext = {
      ...createCliContext({ GRANTSCOPE_DATA_DIR: folder.path }),
      operation: <T>() => Promise.resolve({ events_by_key: eventsByKey } as T),
      print: () => undefined,
    };
    try {
      await keys.build(cli).parseAsync(['retire', id], { from: 'user' });
      return readKeyFile(keyFile).map((k) => k.id);
    } catch (error) {
      expect(readKeyFile(keyFile)).toHaveLength(2);
      return messageOf(error);
    } finally {
      folder.remove();
    }
  }

  it('deletes a key that nothing is named by', async () => {
    expect(await retire('first')).toEqual(['second']);
    expect(await retire('first', { second: 7 })).toEqual(['second']);
  });

  it('refuses while the store has events that it named, and the current key', async () => {
    expect(await retire('first', { first: 3 })).toBe(
      'key first cannot be retired: 3 stored events are named by it',
    );
    expect(await retire('second')).toBe(
      'key second cannot be retired: it makes the references now; rotate first',
    );
  });
});

describe('an overlap', () => {
  it('must last as long as the longest token life of the configuration, unless forced', async () => {
    const folder = temporaryFolder();
    const env = { GRANTSCOPE_DATA_DIR: folder.path };
    expect(await run(env, 'rotate', '--overlap', '29d')).toMatch(
      /^--overlap: 29 d is shorter than the longest token life of 30 d .*--force$/,
    );
    expect(await run(env, 'rotate', '--overlap', 'soon')).toMatch(/^--overlap: not a duration/);
    const beforeMs = Date.now();
    const rotated = (await run(env, 'rotate', '--json')) as { active_from: string; warnings: [] };
    const takesMs = Date.parse(rotated.active_from) - beforeMs;
    expect(takesMs).toBeGreaterThanOrEqual(30 * 86_400_000);
    expect(takesMs).toBeLessThan(30 * 86_400_000 + 60_000);
    expect(rotated.warnings).toEqual([]);
    folder.remove();
  });

  it.each([
    ['0s', 0, '0 s'],
    ['90s', 90_000, '1.5 m'],
    ['15m', 900_000, '15 m'],
    ['12h', 43_200_000, '12 h'],
    ['30d', 2_592_000_000, '30 d'],
  ])('reads %s', (text, ms, shown) => {
    expect(parseDuration('--overlap', text)).toBe(ms);
    expect(shownDuration(ms)).toBe(shown);
  });

  it.each(['', '1', 's', '-1d', '1.5d', '1w', '9999999999d'])('refuses %j', (text) => {
    expect(() => parseDuration('--overlap', text)).toThrow('--overlap: not a duration');
  });
});
