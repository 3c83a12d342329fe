import { closeSync, existsSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { GrantscopeError } from '../runtime/errors.ts';

/** Name of the file that says which process holds a data directory. */
const LOCK_FILE = 'grantscope.lock';

/**
 * The process that holds a data directory, or undefined when none does (a lock whose process is gone is stale).
 */
export function holderOf(dataDir: string): number | undefined {
  const file = join(dataDir, LOCK_FILE);
  if (!existsSync(file)) return undefined;
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  return Number.isInteger(pid) && pid !== process.pid && isAlive(pid) ? pid : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, but belongs to another user.
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
  // A pid is soon used again on a busy machine: a stranger must not look like a holder.
  try {
    return /node|grantscope/i.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  } catch {
    return true;
  }
}

/** Takes the directory; returns the function that gives it back. Throws `data_dir_locked`. */
export function lockDataDir(dataDir: string): () => void {
  const file = join(dataDir, LOCK_FILE);
  const holder = holderOf(dataDir);
  if (holder !== undefined) {
    throw new GrantscopeError(
      'data_dir_locked',
      `${dataDir} is in use by the Grantscope process ${holder}: stop it, or set GRANTSCOPE_DATA_DIR to another folder`,
      { stage: 'starting' },
    );
  }
  rmSync(file, { force: true });
  const handle = openSync(file, 'wx', 0o600);
  writeSync(handle, `${process.pid}\n`);
  closeSync(handle);
  return () => rmSync(file, { force: true });
}
