import { readFileSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Reader, type Response } from 'maxmind';
import type { EnrichmentSettings } from '../../runtime/enrichment_settings.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import type { Log } from '../../runtime/log.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import {
  DATABASE_ROLES,
  MEMBERS_READ,
  NOTHING_KNOWN,
  readRecord,
  type DatabaseRole,
  type NetworkFacts,
  type NetworkLookup,
} from './network_facts.ts';

/** Addresses that are remembered with their facts; the memory is emptied when it is full. */
export const ADDRESSES_LOOKED_UP_MAX = 65_536;
/** Decoded parts of each file that are remembered; the memory is emptied when it is full. */
const PARTS_DECODED_MAX = 8_192;
/** How often the files are looked at, ms. */
export const DATABASE_POLL_MS = 10_000;
/** Networks of a file that are looked at before it counts as one that has nothing for its role. */
const NETWORKS_SAMPLED_MAX = 20_000;
/** The data section begins so many bytes behind the tree. */
const SEPARATOR_BYTES = 16;
/** Major version of the MaxMind DB format that is read. */
const FORMAT_MAJOR = 2;

interface Database {
  readonly role: DatabaseRole;
  readonly file: string;
  readonly version: string;
  readonly reader: Reader<Response>;
}

export interface NetworkDatabaseOptions {
  readonly settings: EnrichmentSettings;
  /** False keeps coordinates out of events: for a policy under which nobody may learn where an address is. */
  readonly withCoordinates: boolean;
  readonly log: Log;
  readonly metrics: Metrics;
}

/**
 * Local databases of networks in the MaxMind DB format (version 2.0). Nothing is downloaded: whoever runs Grantscope puts
 * the files there and replaces them, and a replaced file is taken within `DATABASE_POLL_MS` of `follow`.
 */
export class NetworkDatabases implements NetworkLookup {
  readonly #options: NetworkDatabaseOptions;
  readonly #metrics: ReturnType<typeof databaseMetrics>;
  readonly #known = new Map<string, NetworkFacts>();
  #databases: readonly Database[];
  /** Versions of files that could not be taken, each told once. */
  readonly #refused = new Map<DatabaseRole, string>();

  private constructor(
    options: NetworkDatabaseOptions,
    databases: readonly Database[],
    metrics: ReturnType<typeof databaseMetrics>,
  ) {
    this.#options = options;
    this.#databases = databases;
    this.#metrics = metrics;
    for (const database of databases) this.#tell(database, 'database of networks opened');
  }

  /**
   * Opens every configured file; undefined where none is. Throws `config_invalid` where a file is missing, is no
   * database, or has nothing for its role.
   */
  static open(options: NetworkDatabaseOptions): NetworkDatabases | undefined {
    const databases = DATABASE_ROLES.flatMap((role) => {
      const path = options.settings[role];
      if (path === undefined) return [];
      const file = resolve(path);
      const version = versionOf(file);
      if (version === undefined) throw invalid(role, `no file at ${file}`);
      return [openDatabase(role, file, version, readOrRefuse(role, file))];
    });
    // Listed in any case, so that whoever looks for them sees that there are none.
    const metrics = databaseMetrics(options.metrics);
    return databases.length === 0 ? undefined : new NetworkDatabases(options, databases, metrics);
  }

  of(ip: string): NetworkFacts {
    if (ip === '') return NOTHING_KNOWN;
    let facts = this.#known.get(ip);
    if (facts === undefined) {
      facts = this.#lookUp(ip);
      if (this.#known.size >= ADDRESSES_LOOKED_UP_MAX) this.#known.clear();
      this.#known.set(ip, facts);
    }
    return facts;
  }

  #lookUp(ip: string): NetworkFacts {
    const found: Partial<NetworkFacts>[] = [];
    for (const { role, reader } of this.#databases) {
      try {
        found.push(readRecord(role, recordOf(reader, ip)) ?? {});
      } catch {
        // A damaged part of a file must not refuse an event.
        this.#metrics.failures.inc({ database: role });
      }
    }
    const facts = found.reduce<NetworkFacts>((all, part) => ({ ...all, ...part }), NOTHING_KNOWN);
    return this.#options.withCoordinates ? facts : { ...facts, latitude: null, longitude: null };
  }

  /** Takes files that changed. One that cannot be taken leaves the old one in use, and is tried again. */
  async look(): Promise<void> {
    for (const { role, file, version } of this.#databases) {
      const present = versionOf(file);
      if (present === version) continue;
      try {
        if (present === undefined) throw invalid(role, `no file at ${file}`);
        this.#take(openDatabase(role, file, present, await readFile(file)));
      } catch (error) {
        this.#refuse(role, present ?? 'missing', error);
      }
    }
  }

  #take(database: Database): void {
    this.#databases = this.#databases.map((d) => (d.role === database.role ? database : d));
    this.#known.clear();
    this.#refused.delete(database.role);
    this.#metrics.reloads.inc({ database: database.role, result: 'taken' });
    this.#tell(database, 'database of networks replaced');
  }

  #refuse(role: DatabaseRole, version: string, error: unknown): void {
    if (this.#refused.get(role) === version) return;
    this.#refused.set(role, version);
    this.#metrics.reloads.inc({ database: role, result: 'refused' });
    this.#options.log.error(
      { database: role, reason: messageOf(error) },
      'the changed database of networks cannot be taken: the one before stays in use',
    );
  }

  #tell({ role, file, reader }: Database, what: string): void {
    const { databaseType, buildEpoch } = reader.metadata;
    this.#metrics.built.set({ database: role }, buildEpoch.getTime() / 1_000);
    const built = buildEpoch.toISOString();
    this.#options.log.info({ database: role, file, type: databaseType, built }, what);
  }

  /** Looks at the files every `DATABASE_POLL_MS` until it is stopped; the timer keeps no process alive. */
  follow(): Component {
    let looking: Promise<void> | undefined;
    const timer = setInterval(() => {
      looking ??= this.look().finally(() => {
        looking = undefined;
      });
    }, DATABASE_POLL_MS);
    timer.unref();
    return {
      name: 'databases of networks',
      stop: async () => {
        clearInterval(timer);
        await looking;
      },
    };
  }
}

function versionOf(file: string): string | undefined {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat?.isFile() === true ? `${stat.ino} ${stat.mtimeMs} ${stat.size}` : undefined;
}

function readOrRefuse(role: DatabaseRole, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw invalid(role, `${file} cannot be read: ${messageOf(error)}`);
  }
}

function openDatabase(role: DatabaseRole, file: string, version: string, bytes: Buffer): Database {
  const reader = readerOf(role, file, bytes);
  if (!hasFactsFor(role, reader))
    throw invalid(
      role,
      `${file} (${reader.metadata.databaseType}) has nothing that is read from it; allowed: a file whose records have ${MEMBERS_READ[role]}`,
    );
  return { role, file, version, reader };
}

function readerOf(role: DatabaseRole, file: string, bytes: Buffer): Reader<Response> {
  const refuse = (why: string): GrantscopeError =>
    invalid(role, `${file} is no database in the MaxMind DB format, version 2 (.mmdb): ${why}`);
  let reader: Reader<Response>;
  try {
    reader = new Reader<Response>(bytes, { cache: boundedCache() });
  } catch {
    throw refuse('its metadata cannot be read');
  }
  const { binaryFormatMajorVersion, searchTreeSize, ipVersion, nodeCount } = reader.metadata;
  const isSound =
    binaryFormatMajorVersion === FORMAT_MAJOR &&
    (ipVersion === 4 || ipVersion === 6) &&
    nodeCount > 0;
  if (!isSound) throw refuse('its metadata is not of that version');
  if (searchTreeSize + SEPARATOR_BYTES > bytes.length) throw refuse('it ends too soon');
  return reader;
}

/**
 * Decoded parts of a file by their place: most addresses are of few networks, and most networks of few countries, whose
 * names in eight languages would be decoded each time.
 */
function boundedCache(): {
  get(key: string | number): unknown;
  set(key: string | number, value: unknown): void;
} {
  const parts = new Map<string | number, unknown>();
  return {
    get: (key) => parts.get(key),
    set: (key, value) => {
      if (parts.size >= PARTS_DECODED_MAX) parts.clear();
      parts.set(key, value);
    },
  };
}

/** A tree of IPv4 addresses alone would take the first 32 bits of an IPv6 address for one of its own. */
function recordOf(reader: Reader<Response>, ip: string): unknown {
  if (reader.metadata.ipVersion === 4 && ip.includes(':')) return null;
  return reader.get(ip);
}

/** Whether some of the first networks say something for the role. */
function hasFactsFor(role: DatabaseRole, reader: Reader<Response>): boolean {
  const families = reader.metadata.ipVersion === 4 ? ([32] as const) : ([32, 128] as const);
  return families.some((bits) => {
    let at = 0n;
    for (let i = 0; i < NETWORKS_SAMPLED_MAX && at < 1n << BigInt(bits); i += 1) {
      const [record, length] = reader.getWithPrefixLength(addressText(at, bits)) as [
        unknown,
        number,
      ];
      if (readRecord(role, record) !== undefined) return true;
      at += 1n << BigInt(bits - length);
    }
    return false;
  });
}

function addressText(at: bigint, bits: 32 | 128): string {
  const [unit, separator, radix] = bits === 32 ? ([8, '.', 10] as const) : ([16, ':', 16] as const);
  const parts: string[] = [];
  for (let shift = bits - unit; shift >= 0; shift -= unit)
    parts.push(((at >> BigInt(shift)) & ((1n << BigInt(unit)) - 1n)).toString(radix));
  return parts.join(separator);
}

function invalid(role: DatabaseRole, why: string): GrantscopeError {
  return new GrantscopeError('config_invalid', `grantscope.yaml: enrichment.${role}: ${why}`, {
    stage: 'starting',
  });
}

function databaseMetrics(metrics: Metrics) {
  return {
    built: metrics.gauge(
      'grantscope_enrichment_database_built_timestamp_seconds',
      'When the database of networks in use was built, as it says, seconds since the epoch.',
      ['database'],
    ),
    reloads: metrics.counter(
      'grantscope_enrichment_reloads_total',
      'Changed database files, by whether they were taken or refused; after a refusal the one before stays in use.',
      ['database', 'result'],
    ),
    failures: metrics.counter(
      'grantscope_enrichment_lookup_failures_total',
      'Look-ups that a damaged part of a database file made impossible; the event goes without its facts.',
      ['database'],
    ),
  };
}
