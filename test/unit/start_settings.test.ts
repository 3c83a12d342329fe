import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../runtime/paths.ts';

const read = (...path: string[]): string => readFileSync(join(packageRoot, ...path), 'utf8');
/** What is set before the process starts, since it cannot be set later. */
const MALLOC = /\b(MALLOC_[A-Z_]+)=(?:"\$\{\1:-)?(\d+)/g;
const settings = (text: string): Record<string, string> =>
  Object.fromEntries([...text.matchAll(MALLOC)].map((m) => [m[1] ?? '', m[2] ?? '']));

test('the command and the container start the process with the same allocator settings', () => {
  const [shebang = ''] = read('cli', 'main.ts').split('\n');
  const expected = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072' };
  expect(settings(shebang)).toEqual(expected);
  expect(settings(read('deploy', 'start.sh'))).toEqual(expected);
  // Linux reads no more of a first line.
  expect(shebang.length).toBeLessThan(127);
});

test('the benches start it as the command does', () => {
  const bench = read('bench', 'harness', 'server.ts');
  for (const [name, value] of Object.entries(settings(read('deploy', 'start.sh'))))
    expect(bench).toContain(`${name}: '${value}'`);
});
