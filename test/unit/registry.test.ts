import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { loadDefinitions } from '../../runtime/registry.ts';
import { temporaryFolder } from '../harness.ts';

const folders: { remove: () => void }[] = [];
afterEach(() => folders.splice(0).forEach((f) => f.remove()));

function load(files: Readonly<Record<string, string>>): Promise<readonly { id: string }[]> {
  const folder = temporaryFolder();
  folders.push(folder);
  mkdirSync(join(folder.path, 'things'));
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(folder.path, 'things', name), content);
  return loadDefinitions(pathToFileURL(join(folder.path, 'things/')), (candidate) => {
    if (typeof (candidate as { id?: unknown }).id !== 'string')
      throw new TypeError('id: must be text');
    return candidate as { id: string };
  });
}

describe('loadDefinitions', () => {
  it('finds each file, sorted, and leaves out private files and type declarations', async () => {
    const found = await load({
      'b.js': "export default { id: 'b' }",
      'a.js': "export default { id: 'a' }",
      '_aids.js': 'export const x = 1',
      'a.d.ts': 'export {}',
      'readme.md': 'no code',
    });
    expect(found.map((d) => d.id)).toEqual(['a', 'b']);
  });

  it.each([
    [{ 'a.js': 'export const x = 1' }, 'a.js: no default export'],
    [{ 'a.js': "export default { id: 'b' }" }, 'a.js: id is "b", must equal the file name "a"'],
    [{ 'a.js': 'export default { id: 3 }' }, 'a.js: id: must be text'],
  ])('refuses %j', async (files, message) => {
    await expect(load(files)).rejects.toMatchObject({ code: 'definition_invalid', message });
  });
});
