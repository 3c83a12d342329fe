import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Sql, sql } from '../model/sql.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import { packageRoot } from '../runtime/paths.ts';
import type { Store } from './client.ts';

interface Migration {
  readonly id: string;
  readonly statements: readonly string[];
  readonly checksum: string;
}

/**
 * Applies what `store/migrations/NNNN_name.sql` adds, in order, forward only. A statement must be safe to
 * repeat (`IF NOT EXISTS`), so that a migration that was cut off is finished by the next start.
 * Throws `migration_failed` when an applied file was changed afterwards. Returns the ids it applied.
 */
export async function migrate(store: Store): Promise<readonly string[]> {
  await store.command(sql`CREATE DATABASE IF NOT EXISTS grantscope`);
  await store.command(
    sql`CREATE TABLE IF NOT EXISTS grantscope.schema_migrations (id String, checksum String, applied_at DateTime64(3,'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY id`,
  );
  const rows = await store.query<{ id: string; checksum: string }>(
    sql`SELECT id, checksum FROM grantscope.schema_migrations`,
  );
  const applied = new Map(rows.map((r) => [r.id, r.checksum]));
  const done: string[] = [];
  for (const migration of await readMigrations(join(packageRoot, 'store', 'migrations'))) {
    const before = applied.get(migration.id);
    if (before !== undefined && before !== migration.checksum) {
      throw new GrantscopeError(
        'migration_failed',
        `migration ${migration.id} was changed after it was applied; add a new file instead`,
        { stage: 'starting' },
      );
    }
    if (before !== undefined) continue;
    for (const statement of migration.statements) await store.command(new Sql([statement], []));
    await store.insertRows('grantscope.schema_migrations', [
      { id: migration.id, checksum: migration.checksum },
    ]);
    done.push(migration.id);
  }
  return done;
}

async function readMigrations(folder: string): Promise<readonly Migration[]> {
  const files = (await readdir(folder)).filter((f) => /^\d{4}_[a-z0-9_]+\.sql$/.test(f)).sort();
  return Promise.all(
    files.map(async (file) => {
      const text = await readFile(join(folder, file), 'utf8');
      return {
        id: file.replace(/\.sql$/, ''),
        statements: splitStatements(text),
        checksum: createHash('sha256').update(text).digest('hex').slice(0, 16),
      };
    }),
  );
}

/** Statements end with a semicolon at the end of a line; comment lines start with `--`. */
export function splitStatements(text: string): readonly string[] {
  const code = text
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('--'))
    .join('\n');
  return code
    .split(/;\s*(?:\n|$)/)
    .map((s) => s.trim())
    .filter((s) => s.length > 0);
}
