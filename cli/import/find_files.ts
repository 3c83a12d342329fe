import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { GrantscopeError } from '../../runtime/errors.ts';

/**
 * The files that arguments name, sorted by name within each pattern and each once. A pattern has `*` (any text), `?` (one
 * character) or `[abc]` in its last part only; a file whose name is the pattern itself comes first. `-` is standard input.
 * A pattern may match nothing; what names no pattern is given back as it is.
 */
export function findFiles(args: readonly string[]): string[] {
  const found = args.flatMap((arg) =>
    arg === '-' || !isPattern(arg) || existsSync(arg) ? [arg] : matching(arg),
  );
  return [...new Set(found)];
}

function isPattern(text: string): boolean {
  return /[*?[]/.test(text);
}

function matching(pattern: string): string[] {
  const folder = dirname(pattern);
  if (isPattern(folder))
    throw new GrantscopeError(
      'invalid_argument',
      `${pattern}: * and ? stand for part of a file's name, not of a folder's; allowed: folder/name-*.log`,
    );
  const name = wildcard(basename(pattern));
  return entriesOf(folder)
    .filter((entry) => name(entry))
    .sort()
    .map((entry) => join(folder, entry));
}

/** Names of the files in a folder; none where it cannot be read. */
function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((e) => !e.isDirectory())
      .map((e) => e.name);
  } catch {
    return [];
  }
}

/** Hidden files match only a pattern that begins with a dot, as in a shell. */
function wildcard(pattern: string): (name: string) => boolean {
  const parts = pattern.match(/\[[^\]]+\]|[\s\S]/g) ?? [];
  return (name) => (!name.startsWith('.') || pattern.startsWith('.')) && matches(parts, name);
}

/** Goes back to the last `*` alone, so the time is at most the product of both lengths. */
function matches(parts: readonly string[], name: string): boolean {
  let part = 0;
  let at = 0;
  let star = -1;
  let starAt = 0;
  while (at < name.length) {
    const wanted = parts[part];
    if (wanted === '*') {
      star = part;
      starAt = at;
      part += 1;
    } else if (wanted !== undefined && isOne(wanted, name[at] ?? '')) {
      part += 1;
      at += 1;
    } else if (star >= 0) {
      starAt += 1;
      part = star + 1;
      at = starAt;
    } else return false;
  }
  return parts.slice(part).every((p) => p === '*');
}

function isOne(part: string, character: string): boolean {
  if (part === '?') return true;
  return part.length > 1 ? part.slice(1, -1).includes(character) : part === character;
}
