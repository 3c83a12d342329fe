import { readdir } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GrantscopeError, messageOf } from './errors.ts';

/**
 * Loads a folder of definitions: one file, one definition, found at start and sorted by id.
 * The start fails when a file has no default export, when `check` refuses it, or when `id` differs from
 * the file name: a definition that is silently ignored is worse than none.
 */
export async function loadDefinitions<T extends { readonly id: string }>(
  folder: URL,
  check: (candidate: unknown, file: string) => T,
): Promise<readonly T[]> {
  // Sources run as .ts in development and tests, as .js from dist.
  const files = (await readdir(fileURLToPath(folder)))
    .filter((f) => /\.(ts|js)$/.test(f) && !f.endsWith('.d.ts') && !f.startsWith('_'))
    .sort();
  const definitions: T[] = [];
  for (const file of files) {
    const id = basename(file, extname(file));
    const loaded = (await import(new URL(file, folder).href)) as { default?: unknown };
    if (loaded.default === undefined) {
      throw new GrantscopeError('definition_invalid', `${file}: no default export`, {
        stage: 'starting',
      });
    }
    const definition = checkOne(loaded.default, file, check);
    if (definition.id !== id) {
      throw new GrantscopeError(
        'definition_invalid',
        `${file}: id is ${JSON.stringify(definition.id)}, must equal the file name ${JSON.stringify(id)}`,
        { stage: 'starting' },
      );
    }
    definitions.push(definition);
  }
  return definitions;
}

function checkOne<T>(candidate: unknown, file: string, check: (c: unknown, f: string) => T): T {
  try {
    return check(candidate, file);
  } catch (error) {
    throw new GrantscopeError('definition_invalid', `${file}: ${messageOf(error)}`, {
      stage: 'starting',
      cause: error,
    });
  }
}
