import { createRequire } from 'node:module';
import { totalmem } from 'node:os';
import type * as Chdb from 'chdb';
import type * as ChdbConnection from 'chdb/connection';

const MEBIBYTE = 1_048_576;

/**
 * Caches of the embedded engine, bytes. Its own defaults are made for a machine of its own (5 GiB each for marks, marks of
 * indexes and primary keys), so that the memory of a process that also collects would grow for days.
 */
const CACHE_BYTES: Readonly<Record<string, number>> = {
  // What the columns of a hundred million events need.
  mark_cache_size: 256 * MEBIBYTE,
  index_mark_cache_size: 64 * MEBIBYTE,
  primary_index_cache_size: 64 * MEBIBYTE,
  query_condition_cache_size: 32 * MEBIBYTE,
  compiled_expression_cache_size: 32 * MEBIBYTE,
};

/** Memory that the engine may take where nothing else is said: half of what this process may use, bytes. */
export function defaultEngineMemory(): number {
  // A container's limit where there is one; 0 or a number beyond all memory where there is none.
  const limit = process.constrainedMemory();
  const usable = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return Math.floor(usable / 2);
}

/** The engine in this process, opened on a folder with limits of ours. */
export interface EmbeddedEngine {
  /** What the client of `@clickhouse/client` speaks through. */
  readonly connection: ReturnType<typeof ChdbConnection.createChdbConnection>;
  /** To be called after the client was closed. */
  readonly close: () => void;
}

/**
 * Opens the engine. It is one a process; throws where the folder cannot be opened. `memoryBytesMax` is for the whole
 * process: a query beyond it fails and may be asked again.
 */
export function openEmbeddedEngine(path: string, memoryBytesMax: number): EmbeddedEngine {
  // Loaded only here: it is 400 MB of native code, which a process with a ClickHouse server never needs.
  const load = createRequire(import.meta.url);
  const { Session } = load('chdb') as typeof Chdb;
  const { createChdbConnection } = load('chdb/connection') as typeof ChdbConnection;
  const limits = { ...CACHE_BYTES, max_server_memory_usage: memoryBytesMax };
  // The first to open a folder says how: the client's connection takes no such arguments and joins this one.
  const session = new Session(path, {
    connectionArgs: Object.entries(limits).map(([name, bytes]) => `--${name}=${bytes}`),
  });
  return { connection: createChdbConnection({ path }), close: () => session.close() };
}
