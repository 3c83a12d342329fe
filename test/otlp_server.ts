/**
 * The OTLP receiver behind a real server on a free port, with an ingest that records what it is given and answers
 * as it is told. The scrubber is the real one.
 */
import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Ingest, IngestBatch, IngestResult, TableRows } from '../collector/ingest.ts';
import { createScrubber } from '../collector/processors/scrub.ts';
import { Intake, type IntakeOptions } from '../collector/receivers/intake.ts';
import { createOtlpRoutes, type OtlpDependencies } from '../collector/receivers/otlp_http.ts';
import { defineSource, type SourceDefinition, type SourceRecord } from '../model/define_source.ts';
import { ManualClock } from '../runtime/clock.ts';
import { Metrics } from '../runtime/metrics.ts';

/** The collector's clock in these tests: 2023-11-14T22:13:20Z. */
export const NOW_MS = 1_700_000_000_000;
export const NOW_NS = 1_700_000_000_000_000_000n;

/** A batch whose records and rows are held, to be looked at. */
export interface HeldBatch extends IngestBatch {
  readonly records: readonly { source: SourceDefinition; record: SourceRecord }[];
  readonly tables: readonly TableRows[];
}

function held(batch: IngestBatch): HeldBatch {
  const records = [...batch.records].map((item) => {
    if ('unreadable' in item) throw new Error('an OTLP record is never unreadable');
    return item;
  });
  return { ...batch, records, tables: batch.tables.map((t) => ({ ...t, rows: [...t.rows] })) };
}

/** Accepts everything, unless a test queued another outcome. */
export class RecordingIngest implements Ingest {
  readonly batches: HeldBatch[] = [];
  /** Taken first to last; an Error is thrown, a function computes the result. */
  readonly outcomes: (Error | ((batch: HeldBatch) => IngestResult | Promise<IngestResult>))[] = [];

  async ingest(batch: IngestBatch): Promise<IngestResult> {
    const outcome = this.outcomes.shift();
    if (outcome instanceof Error) throw outcome;
    const recorded = held(batch);
    this.batches.push(recorded);
    if (outcome !== undefined) return outcome(recorded);
    return { accepted: recorded.records.length, rejected: 0, errors: [], repeated: false };
  }
}

function source(id: string, forms: readonly ('json' | 'text')[]): SourceDefinition {
  return defineSource({
    id,
    title: id,
    vendor: id,
    product: id,
    description: 'A source of the tests; the recording ingest never parses.',
    forms,
    provides: [],
    confirmed_by: 'documents',
    references: [],
    parse: () => ({ ok: true, events: [] }),
  });
}

export const TEST_SOURCES: ReadonlyMap<string, SourceDefinition> = new Map(
  [
    source('otlp', ['json']),
    source('jsonly', ['json']),
    source('lines', ['text']),
    source('both', ['json', 'text']),
  ].map((s) => [s.id, s]),
);

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface OtlpServer {
  readonly url: string;
  readonly port: number;
  readonly ingest: RecordingIngest;
  readonly metrics: Metrics;
  /** What was told to `onFailure`. */
  readonly failures: unknown[];
  /** Requests that came, answered or not. */
  readonly requestCount: () => number;
  readonly send: (
    path: string,
    body: Buffer | string,
    headers?: Record<string, string>,
    method?: string,
  ) => Promise<Answer>;
  readonly close: () => Promise<void>;
}

export async function startOtlpServer(
  overrides: Partial<OtlpDependencies> & { intakeLimits?: Partial<IntakeOptions> } = {},
): Promise<OtlpServer> {
  const ingest = new RecordingIngest();
  const metrics = new Metrics({ processMetrics: false });
  const failures: unknown[] = [];
  let requests = 0;
  const clock = new ManualClock(NOW_MS);
  const intake = new Intake({
    requestsMax: 64,
    bodyBytesMax: 128 * 1024 * 1024,
    rates: {},
    clock,
    metrics,
    ...overrides.intakeLimits,
  });
  const routes = createOtlpRoutes({
    ingest,
    sources: TEST_SOURCES,
    clock,
    intake,
    bodyDeadlineMs: 30_000,
    metrics,
    bodyBytesMax: 1024 * 1024,
    scrubber: createScrubber(),
    onFailure: (error) => failures.push(error),
    ...overrides,
  });
  const server = createServer((request, response) => {
    requests += 1;
    void routes(request, response).then((handled) => {
      if (!handled) response.writeHead(404).end('not mine');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    ingest,
    metrics,
    failures,
    requestCount: () => requests,
    send: (path, body, headers = {}, method = 'POST') => send(port, path, body, headers, method),
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function send(
  port: number,
  path: string,
  body: Buffer | string,
  headers: Record<string, string>,
  method: string,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, method, headers, agent: false };
    const request = httpRequest(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks),
        }),
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}
