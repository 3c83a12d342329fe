import { mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import {
  createClient,
  ClickHouseError,
  ClickHouseLogLevel,
  parseError,
  type ClickHouseClient,
} from '@clickhouse/client';
import { sql, identifier, param, Sql } from '../model/sql.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import { yieldBackgroundThreads } from './background_threads.ts';
import { lockDataDir } from './data_dir_lock.ts';
import { forgetUnfinishedInserts } from './deduplication_logs.ts';
import { defaultEngineMemory, openEmbeddedEngine } from './embedded_engine.ts';

/** Where a segment's rows go: see `collector/spool`. */
export interface NativeInsert {
  /** `database.table`, from code. */
  readonly table: string;
  readonly columns: readonly string[];
  /**
   * Types of `columns`, in the same order. With them a column that the file lacks, since an older version wrote it, gets
   * the type's default, as a server does by itself; without them the embedded engine refuses such a file.
   */
  readonly types?: readonly string[] | undefined;
  /** A file of ClickHouse Native blocks. */
  readonly file: string;
  /** Makes the insert safe to repeat, in the table and in the views that depend on it. */
  readonly deduplicationToken: string;
}

export interface StoreOptions {
  /** Absent: the embedded engine in `dataDir`. */
  readonly server?: {
    readonly url: string;
    readonly username: string | undefined;
    readonly password: string | undefined;
    /** How long a request may wait for its answer; default 30 s. */
    readonly timeoutMs?: number;
  };
  readonly dataDir: string;
  /** Memory of this process beyond which the embedded engine refuses work, bytes; default half of the machine's. */
  readonly engineMemoryBytesMax?: number | undefined;
}

/**
 * The only door to ClickHouse. `query` and `command` take `Sql` values, so that no string becomes SQL;
 * `insertRows` is for small writes (findings, states), `insertNative` for segments.
 */
export interface Store {
  readonly isEmbedded: boolean;
  /**
   * All rows; values as JSONEachRow gives them: UUIDs and times as text, numbers as numbers. 64-bit integers
   * beyond 2^53 lose digits: select them with toString().
   */
  query<Row>(statement: Sql): Promise<Row[]>;
  command(statement: Sql): Promise<void>;
  /** Inserts objects whose keys are column names. Acknowledged when it resolves. */
  insertRows(
    table: string,
    rows: readonly Readonly<Record<string, unknown>>[],
    deduplicationToken?: string,
  ): Promise<void>;
  insertNative(insert: NativeInsert): Promise<void>;
  ping(): Promise<boolean>;
  close(): Promise<void>;
}

/**
 * Opens the store. Throws `data_dir_locked` where another process holds the data directory, and
 * `store_unavailable` where a server does not answer.
 */
export function openStore(options: StoreOptions): Store {
  if (options.server !== undefined) {
    const { url, username, password, timeoutMs } = options.server;
    const client = createClient({
      url,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(timeoutMs === undefined ? {} : { request_timeout: timeoutMs }),
      compression: { request: false, response: true },
      // Its own log is no JSON, and says again what the errors say.
      log: { level: ClickHouseLogLevel.OFF },
      // Long lists of ids go into the body: a server limits the length of an address.
      use_multipart_params_auto: true,
    });
    return new ClickHouseStore(client, false, () => client.close());
  }
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const release = lockDataDir(options.dataDir);
  try {
    const path = join(options.dataDir, 'clickhouse');
    forgetUnfinishedInserts(path);
    const engine = openEmbeddedEngine(path, options.engineMemoryBytesMax ?? defaultEngineMemory());
    // The two packages' copies of one interface differ under exactOptionalPropertyTypes; a test runs them together.
    const config = { connection: engine.connection } as unknown as Parameters<
      typeof createClient
    >[0];
    const client = createClient(config);
    const endYielding = yieldBackgroundThreads();
    return new ClickHouseStore(client, true, () =>
      client.close().finally(() => {
        engine.close();
        endYielding();
        release();
      }),
    );
  } catch (error) {
    release();
    throw new GrantscopeError(
      'store_unavailable',
      `the embedded ClickHouse did not open: ${messageOf(error)}`,
      { stage: 'starting' },
    );
  }
}

/**
 * Settings of our own batches, written into the statement: through the client they would become a sticky
 * SET on the embedded engine's one session, and later inserts would be taken for duplicates.
 */
const INSERT_SETTINGS = sql`async_insert = 0, insert_deduplicate = 1, deduplicate_blocks_in_dependent_materialized_views = 1, max_insert_threads = 1, max_partitions_per_insert_block = 0, min_insert_block_size_rows = 0, min_insert_block_size_bytes = 4294967296, max_block_size = 4194304`;

class ClickHouseStore implements Store {
  readonly isEmbedded: boolean;
  readonly #client: ClickHouseClient;
  readonly #close: () => Promise<void>;
  readonly #columnTypes = new Map<string, ReadonlyMap<string, string>>();
  #closing: Promise<void> | undefined;

  constructor(client: ClickHouseClient, isEmbedded: boolean, close: () => Promise<void>) {
    this.#client = client;
    this.isEmbedded = isEmbedded;
    this.#close = close;
  }

  async query<Row>(statement: Sql): Promise<Row[]> {
    return this.#guard(async () => {
      const result = await this.#client.query({ ...statement.toQuery(), format: 'JSONEachRow' });
      return result.json<Row>();
    });
  }

  async command(statement: Sql): Promise<void> {
    await this.#guard(() => this.#client.command(statement.toQuery()));
  }

  async insertRows(
    table: string,
    rows: readonly Readonly<Record<string, unknown>>[],
    deduplicationToken?: string,
  ): Promise<void> {
    if (rows.length === 0) return;
    const names = identifierList(Object.keys(rows[0] ?? {}));
    const lines = rows.map((r) => JSON.stringify(r, jsonBigInt)).join('\n');
    const token =
      deduplicationToken === undefined
        ? sql``
        : sql`, insert_deduplication_token = ${param.string(deduplicationToken)}`;
    const head = sql`INSERT INTO ${identifier(table)} (${names}) SETTINGS ${INSERT_SETTINGS}${token}`;
    // Settings stay in the statement (see INSERT_SETTINGS), so the client's own insert() is not used.
    if (this.isEmbedded) {
      // The structure is given, not inferred: inference takes a field that varies for a Nullable one, which a Map cannot be.
      const structure = await this.#structureOf(table, Object.keys(rows[0] ?? {}));
      await this.command(
        sql`${head} SELECT ${names} FROM format(JSONEachRow, ${param.string(structure)}, ${param.string(lines)})`,
      );
    } else {
      await this.#guard(() => this.#send(sql`${head} FORMAT JSONEachRow`, Readable.from([lines])));
    }
  }

  /** `name type, ...` of some columns of a table, as the table functions take it. Read once per table. */
  async #structureOf(table: string, names: readonly string[]): Promise<string> {
    let types = this.#columnTypes.get(table);
    if (types === undefined) {
      const rows = await this.query<{ name: string; type: string }>(
        sql`SELECT name, type FROM system.columns WHERE concat(database, '.', table) = ${param.string(table)}`,
      );
      types = new Map(rows.map((r) => [r.name, r.type]));
      this.#columnTypes.set(table, types);
    }
    return names.map((n) => `${quoted(n)} ${types.get(n) ?? 'String'}`).join(', ');
  }

  async insertNative(insert: NativeInsert): Promise<void> {
    const columns = identifierList(insert.columns);
    const head = sql`INSERT INTO ${identifier(insert.table)} (${columns}) SETTINGS ${INSERT_SETTINGS}, insert_deduplication_token = ${param.string(insert.deduplicationToken)}`;
    await this.#guard(async () => {
      if (this.isEmbedded) {
        const from = sql`SELECT ${columns} FROM file(${param.string(insert.file)}, Native${structureOf(insert)})`;
        await this.#client.command(sql`${head} ${from}`.toQuery());
      } else await this.#send(sql`${head} FORMAT Native`, await openForReading(insert.file));
    }, isPassingForSegments);
  }

  /**
   * Posts a body to a server and waits until it has answered in full. A server that runs into an error after it
   * has sent its 200 writes the exception into the body, which is otherwise empty.
   */
  async #send(statement: Sql, values: Readable): Promise<void> {
    const { stream } = await this.#client.exec({ ...statement.toQuery(), values });
    const answer: Buffer[] = [];
    for await (const chunk of stream) answer.push(Buffer.from(chunk as Uint8Array));
    const text = Buffer.concat(answer).toString('utf8').trim();
    if (text !== '') throw parseError(text);
  }

  async ping(): Promise<boolean> {
    return (await this.#client.ping()).success;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #guard<T>(
    work: () => Promise<T>,
    isPassing: (type: string) => boolean = (type) => PASSING_TYPES.has(type),
  ): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw toStoreError(error, isPassing);
    }
  }
}

/** `, 'a UInt8, ...'` for the file function; nothing where the types are not given. */
function structureOf({ columns, types }: NativeInsert): Sql {
  if (types === undefined) return sql``;
  const parts = columns.map((name, i) => `\`${name}\` ${types[i] ?? ''}`);
  return sql`, ${param.string(parts.join(', '))}`;
}

function identifierList(names: readonly string[]): Sql {
  return new Sql([names.map((n) => quoted(n)).join(', ')], []);
}

function quoted(name: string): string {
  return `\`${identifier(name).texts[0] ?? ''}\``;
}

function jsonBigInt(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

/** A query is refused for good unless the server says that it is busy; everything else may pass. */
const PASSING_TYPES = new Set([
  'TOO_MANY_PARTS',
  'MEMORY_LIMIT_EXCEEDED',
  'TIMEOUT_EXCEEDED',
  'TOO_MANY_SIMULTANEOUS_QUERIES',
  'NOT_ENOUGH_SPACE',
  'TABLE_IS_READ_ONLY',
  'SOCKET_TIMEOUT',
  'NETWORK_ERROR',
]);

/**
 * A segment is refused for good only by what its bytes are. A wrong password, a missing table or a full disk
 * is put right by somebody, and until then the segment waits.
 */
const DATA_REFUSED = new Set([
  'ATTEMPT_TO_READ_AFTER_EOF',
  'CANNOT_EXTRACT_TABLE_STRUCTURE',
  'CANNOT_READ_ALL_DATA',
  'CANNOT_READ_ARRAY_FROM_TEXT',
  'FILE_DOESNT_EXIST',
  'INCORRECT_DATA',
  'INCORRECT_NUMBER_OF_COLUMNS',
  'SIZES_OF_ARRAYS_DONT_MATCH',
  'TOO_LARGE_ARRAY_SIZE',
  'TOO_LARGE_STRING_SIZE',
  'TYPE_MISMATCH',
  'UNEXPECTED_END_OF_FILE',
  'UNKNOWN_TYPE',
  'VIOLATED_CONSTRAINT',
]);
const isPassingForSegments = (type: string): boolean =>
  !DATA_REFUSED.has(type) && !type.startsWith('CANNOT_PARSE_');

/** Throws `spool_corrupt` where the file is gone: a server would wait for its bytes in vain. */
async function openForReading(file: string): Promise<Readable> {
  try {
    return (await open(file, 'r')).createReadStream();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
      throw new GrantscopeError('spool_corrupt', 'a file of the durable buffer is missing');
    throw error;
  }
}

function toStoreError(error: unknown, isPassing: (type: string) => boolean): GrantscopeError {
  if (error instanceof GrantscopeError) return error;
  if (error instanceof ClickHouseError) {
    return new GrantscopeError(
      'store_rejected',
      `ClickHouse ${error.code} ${error.type ?? ''}: ${error.message.slice(0, 500)}`,
      { retriable: isPassing(error.type ?? ''), stage: 'sending' },
    );
  }
  return new GrantscopeError('store_unavailable', `ClickHouse: ${messageOf(error).slice(0, 500)}`, {
    retriable: true,
    stage: 'sending',
  });
}
