import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/** What the engine calls the folder and the files in which a table remembers its last inserts. */
const LOGS = 'deduplication_logs';
const LOG_FILE = /^deduplication_log_\d+\.txt$/;
/** `partition_min_max_level`, and `_mutation` where one was applied. */
const PART = /^(.+?)_(\d+)_(\d+)_(\d+)(?:_(\d+))?$/;
/** A line that says: an insert made this part. */
const ADDED = /^1\t([^\t]+)\t[^\t]+$/;

/** Inserts into one partition, by the numbers that the engine gave their parts. */
type Ranges = Map<string, [min: number, max: number][]>;

/**
 * Lets the embedded engine forget inserts that it remembers and did not make: to be called before it opens its
 * folder. Returns how many.
 *
 * A MergeTree table without replicas notes an insert's deduplication token before it gives the new part its final
 * name. A process that is killed between the two leaves a note of rows that are not there, and the repeated insert
 * would be taken for a duplicate: rows that were acknowledged would be lost. A note counts only where its part, or
 * one that it was merged into, is on the disk. A note of a part that was dropped since (retention) goes as well;
 * nothing repeats an insert so old.
 */
export function forgetUnfinishedInserts(folder: string): number {
  let forgotten = 0;
  for (const table of tableFolders(join(folder, 'store'))) forgotten += repairTable(folder, table);
  return forgotten;
}

function repairTable(folder: string, table: string): number {
  const logs = join(table, LOGS);
  if (!existsSync(logs)) return 0;
  const parts = partsIn(table);
  let forgotten = 0;
  for (const name of readdirSync(logs).filter((f) => LOG_FILE.test(f))) {
    const file = join(logs, name);
    const lines = readFileSync(file, 'utf8').split('\n');
    const kept = lines.filter((line) => {
      const part = ADDED.exec(line)?.[1];
      return part === undefined || isThere(parts, part);
    });
    if (kept.length === lines.length) continue;
    forgotten += lines.length - kept.length;
    replaceDurably(file, join(folder, `${LOGS}.tmp`), kept.join('\n'));
  }
  return forgotten;
}

/** `store/abc/abcdef01-...`, a folder for each table. */
function tableFolders(store: string): readonly string[] {
  if (!existsSync(store)) return [];
  return foldersIn(store).flatMap((prefix) =>
    foldersIn(join(store, prefix)).map((id) => join(store, prefix, id)),
  );
}

function foldersIn(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

function partsIn(table: string): Ranges {
  const ranges: Ranges = new Map();
  for (const name of foldersIn(table)) {
    const part = rangeOf(name);
    // What is being written has another name (`tmp_insert_...`) until it counts.
    if (part === undefined || name.startsWith('tmp')) continue;
    const list = ranges.get(part.partition);
    if (list === undefined) ranges.set(part.partition, [[part.min, part.max]]);
    else list.push([part.min, part.max]);
  }
  return ranges;
}

/** A name that is no part's says nothing, and its line stays as it is. */
function isThere(parts: Ranges, name: string): boolean {
  const part = rangeOf(name);
  if (part === undefined) return true;
  const ranges = parts.get(part.partition) ?? [];
  return ranges.some(([min, max]) => min <= part.min && part.max <= max);
}

function rangeOf(name: string): { partition: string; min: number; max: number } | undefined {
  const m = PART.exec(name);
  if (m === null) return undefined;
  return { partition: m[1] ?? '', min: Number(m[2]), max: Number(m[3]) };
}

/** By way of a file outside the engine's folder of logs: it reads whatever lies there. */
function replaceDurably(file: string, temporary: string, text: string): void {
  const handle = openSync(temporary, 'w', 0o600);
  try {
    writeFileSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  renameSync(temporary, file);
}
