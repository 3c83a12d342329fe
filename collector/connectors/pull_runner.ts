import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { SourceDefinition } from '../../model/define_source.ts';
import type { Clock } from '../../runtime/clock.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import type { Log } from '../../runtime/log.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import { pause, systemTimers, type Timers } from '../../runtime/timers.ts';
import type { Ingest, SourcedRecord } from '../ingest.ts';
import { recordsOfValue } from '../receivers/cut_records.ts';
import { VendorError } from './vendor_http.ts';

/** Waits after a failure: from the first, doubled up to the second, ms. */
const BACK_OFF_MS_MIN = 1_000;
const BACK_OFF_MS_MAX = 300_000;

export interface PullPage {
  readonly records: readonly unknown[];
  /** Where the next page begins; undefined where there is nothing yet to go on from. */
  readonly cursor: string | undefined;
  /** Nothing more is there for now. */
  readonly isLast: boolean;
  /** Wait that the vendor's rate limit asks for before the next request, ms. */
  readonly pacingMs: number;
}

/** One vendor's log, read page by page. */
export interface PullConnector {
  /** Names its state and its metrics. */
  readonly id: string;
  /** Whose records these are. */
  readonly sourceId: string;
  /** Pause behind the last page, ms. */
  readonly intervalMs: number;
  /** Throws `VendorError`. A page may be asked for again, and may then hold more. */
  fetchPage(
    cursor: string | undefined,
    context: { readonly nowMs: () => number; readonly signal: AbortSignal },
  ): Promise<PullPage>;
}

export interface PullDeps {
  readonly ingest: Ingest;
  readonly source: SourceDefinition;
  readonly dataDir: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: PullMetrics;
  readonly timers?: Timers;
}

/**
 * Fetches a vendor's log into the collector. The cursor is kept in the data directory and moves on only once the records
 * before it are durable; a page that was read twice, because the process ended in between, is known by the ids of its
 * records. So nothing is missed, and nothing counts twice.
 */
export class PullRunner implements Component {
  readonly name: string;
  readonly #connector: PullConnector;
  readonly #deps: PullDeps;
  readonly #cursorFile: string;
  readonly #metrics: PullMetrics;
  readonly #abort = new AbortController();
  #cursor: string | undefined;
  #running: Promise<void> | undefined;
  #failure: string | undefined;

  constructor(connector: PullConnector, deps: PullDeps) {
    this.name = `pull ${connector.id}`;
    this.#connector = connector;
    this.#deps = deps;
    this.#cursorFile = join(deps.dataDir, 'connectors', `${connector.id}.json`);
    this.#metrics = deps.metrics;
    this.#cursor = readCursor(this.#cursorFile);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves once the page under way is durable, or given up. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  strains(): readonly string[] {
    return this.#failure === undefined ? [] : [`the log cannot be fetched: ${this.#failure}`];
  }

  get #isStopping(): boolean {
    return this.#abort.signal.aborted;
  }

  async #run(): Promise<void> {
    const { timers = systemTimers, log } = this.#deps;
    const { signal } = this.#abort;
    let failures = 0;
    while (!this.#isStopping) {
      let waitMs: number;
      try {
        waitMs = await this.#readPage();
        failures = 0;
        this.#failure = undefined;
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        failures += 1;
        waitMs = waitOf(error) ?? Math.min(BACK_OFF_MS_MAX, BACK_OFF_MS_MIN * 2 ** (failures - 1));
        this.#failed(error);
        log.warn({ connector: this.#connector.id, reason: this.#failure, waitMs }, 'pull failed');
      }
      await pause(timers, waitMs, signal);
    }
  }

  /** Reads one page and stores it; gives the wait before the next, ms. */
  async #readPage(): Promise<number> {
    const { clock } = this.#deps;
    const { signal } = this.#abort;
    const context = { nowMs: () => clock.nowMs(), signal };
    const page = await this.#connector.fetchPage(this.#cursor, context);
    if (page.records.length > 0) await this.#store(page.records);
    if (page.cursor !== undefined && page.cursor !== this.#cursor) {
      writeCursor(this.#cursorFile, page.cursor);
      this.#cursor = page.cursor;
    }
    const { id: connector, intervalMs } = this.#connector;
    this.#metrics.lastRead.set({ connector }, clock.nowMs() / 1_000);
    return Math.max(page.pacingMs, page.isLast ? intervalMs : 0);
  }

  async #store(records: readonly unknown[]): Promise<void> {
    const { ingest, source } = this.#deps;
    const { id: connector } = this.#connector;
    const hash = createHash('sha256').update(`${connector}\0${JSON.stringify(records)}`);
    const { accepted, rejected } = await ingest.ingest({
      receiver: source.id,
      records: sourced(records, source),
      tables: [],
      contentHash: hash.digest('hex'),
    });
    this.#metrics.records.inc({ connector, result: 'accepted' }, accepted);
    this.#metrics.records.inc({ connector, result: 'rejected' }, rejected);
  }

  #failed(error: unknown): void {
    const isOurs = error instanceof VendorError || error instanceof GrantscopeError;
    this.#failure = isOurs ? error.message : 'internal error';
    const status = error instanceof VendorError ? (error.status ?? 'none') : 'own';
    this.#metrics.failures.inc({ connector: this.#connector.id, status: String(status) });
    if (!isOurs)
      this.#deps.log.error({ connector: this.#connector.id, err: messageOf(error) }, 'pull failed');
  }
}

function* sourced(records: readonly unknown[], source: SourceDefinition): Generator<SourcedRecord> {
  for (const cut of recordsOfValue(records, source))
    yield cut.ok ? { source, record: cut.record } : { source, unreadable: cut };
}

/** How long whoever failed asks to wait, ms. */
function waitOf(error: unknown): number | undefined {
  if (error instanceof VendorError) return error.waitMs;
  if (error instanceof GrantscopeError && error.retriable)
    return (error.retryAfterSeconds ?? 1) * 1_000;
  return undefined;
}

const CursorFile = z.object({ cursor: z.string().min(1).max(10_000) });

/** Undefined on the first run. Throws `config_invalid` where the file is damaged: to begin anew is for people to decide. */
function readCursor(file: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  try {
    return CursorFile.parse(JSON.parse(text)).cursor;
  } catch {
    throw new GrantscopeError(
      'config_invalid',
      `${file}: is damaged; remove it to begin at collector.pull's start_hours_ago (records that are stored are not stored again)`,
      { stage: 'starting' },
    );
  }
}

function writeCursor(file: string, cursor: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.new`;
  const handle = openSync(fresh, 'w', 0o600);
  writeSync(handle, JSON.stringify({ cursor }));
  fsyncSync(handle);
  closeSync(handle);
  renameSync(fresh, file);
}

export type PullMetrics = ReturnType<typeof pullMetrics>;

/** Registered once, for all connectors. */
export function pullMetrics(metrics: Metrics) {
  return {
    records: metrics.counter(
      'grantscope_pull_records_total',
      'Records fetched from vendors, by connector and result.',
      ['connector', 'result'],
    ),
    failures: metrics.counter(
      'grantscope_pull_failures_total',
      'Pages that could not be fetched or stored, by the answer: a status, none, or own (the collector itself).',
      ['connector', 'status'],
    ),
    lastRead: metrics.gauge(
      'grantscope_pull_last_read_timestamp_seconds',
      'When a page was last fetched and stored.',
      ['connector'],
    ),
  };
}
