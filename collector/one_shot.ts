import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import type { Runtime } from '../runtime/context.ts';
import type { Store } from '../store/client.ts';
import { findStoredEvents, latestStoredTime } from '../store/stored_events.ts';
import { DeadLetters } from './dead_letters/dead_letters.ts';
import type { Ingest } from './ingest.ts';
import { Pipeline } from './pipeline.ts';
import { NetworkDatabases } from './processors/network_databases.ts';
import { createScrubber, scrubberOptions } from './processors/scrub.ts';
import { Spool } from './spool/spool.ts';
import { Writer } from './writer.ts';

/** The collector without its receivers: for a program that reads records itself. */
export interface OneShotCollector {
  readonly ingest: Ingest;
  /** Hands everything accepted to the store; waits at most `waitMs` for it. True where the store has it all. */
  finish(waitMs: number): Promise<boolean>;
}

/**
 * Opens the whole way of a record (adapter, redaction, enrichment, durable buffer, writer) in the data directory of the
 * runtime, which nothing else may use meanwhile. Retention is not asked: what is read is what is wanted, however old.
 */
export async function openOneShot(runtime: Runtime, store: Store): Promise<OneShotCollector> {
  const { config, log, metrics, clock, hints, keyRing } = runtime;
  const { tenant, redaction } = config;
  const folder = join(config.dataDir, 'spool');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const spool = await Spool.open({
    folder,
    bytesMax: config.spoolBytesMax,
    commitIntervalMs: config.commitIntervalMs,
    segmentAgeMsMax: config.segmentAgeMsMax,
    segmentRowsMax: config.segmentRowsMax,
    requestWindowMs: config.requestWindowHours * 3_600_000,
    ...{ clock, log, metrics },
  });
  const writer = new Writer({
    store,
    spool,
    storedEvents: {
      find: (ids, from, to) => findStoredEvents(store, tenant, ids, from, to),
      latest: (before) => latestStoredTime(store, tenant, before),
    },
    ...{ clock, hints, log, metrics },
  });
  writer.start();
  const scrubber = createScrubber(scrubberOptions(redaction));
  const clientIp = redaction.client_ip;
  const treatment = { keyRing, scrubber, clock, metrics, tenant, clientIp };
  const settings = config.enrichment;
  const withCoordinates = clientIp !== 'hash';
  const pipeline = new Pipeline({
    ...treatment,
    spool,
    networks: NetworkDatabases.open({ settings, withCoordinates, log, metrics }),
    deadLetters: new DeadLetters({ ...treatment, perMinuteMax: config.deadLettersPerMinuteMax }),
  });
  return {
    ingest: pipeline,
    finish: async (waitMs) => {
      await spool.close();
      await writer.drain(waitMs);
      return spool.oldestOpenedAtMs === undefined;
    },
  };
}
