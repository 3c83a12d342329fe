import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { SourceDefinition } from '../../model/define_source.ts';
import type { Clock } from '../../runtime/clock.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import type { Ingest, IngestResult, TableRows } from '../ingest.ts';
import { httpAnswerOf } from './http_status.ts';
import { OTLP_SOURCE_ID } from './otlp/auth_records.ts';
import { decodeLogsRequestJson, decodeTraceRequestJson } from './otlp/decode_json.ts';
import { decodeLogsRequest, decodeTraceRequest } from './otlp/decode_protobuf.ts';
import {
  encodeExportResponse,
  encodeStatus,
  RPC_CODE,
  type Encoding,
  type PartialSuccess,
} from './otlp/encode_response.ts';
import { mapLogs } from './otlp/map_logs.ts';
import type { MapContext, MappedRequest, OtlpScrubber, Refusal } from './otlp/map_request.ts';
import { mapTraces } from './otlp/map_traces.ts';
import { otelLogsTable, otelTracesTable } from './otlp/rows.ts';
import type { Signal } from './otlp/types.ts';
import type { Intake, Visit } from './intake.ts';
import { discardBody, readBody } from './read_body.ts';

export interface OtlpDependencies {
  readonly ingest: Ingest;
  readonly sources: ReadonlyMap<string, SourceDefinition>;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Largest body in bytes, before and after decompression. */
  readonly bodyBytesMax: number;
  readonly scrubber: OtlpScrubber;
  /** Longest time for a body to arrive, ms. */
  readonly bodyDeadlineMs: number;
  readonly intake: Intake;
  /** Told of what was answered with 500, for the log. */
  readonly onFailure?: (error: unknown) => void;
}

/** Handles a request and resolves to true, or to false where the path is not its own. */
export type OtlpRoutes = (request: IncomingMessage, response: ServerResponse) => Promise<boolean>;

/** Reasons listed in one `error_message`. */
const REASONS_LISTED_MAX = 5;

/** Metric label and event id seed of this receiver. */
const RECEIVER = 'otlp';

const PATHS: ReadonlyMap<string, Signal> = new Map([
  ['/v1/traces', 'traces'],
  ['/v1/logs', 'logs'],
]);

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Format {
  readonly encoding: Encoding;
  /** Of the answer: that of the request. */
  readonly contentType: string;
}

/**
 * OTLP/HTTP (opentelemetry-proto, `docs/specification.md`): `POST /v1/traces` and `POST /v1/logs` in protobuf
 * and JSON. Answers 200 once everything accepted is durable, with `partial_success` where single records were
 * refused; any other answer is a google.rpc.Status in the request's encoding.
 */
export function createOtlpRoutes(deps: OtlpDependencies): OtlpRoutes {
  const requests = deps.metrics.counter(
    'grantscope_otlp_requests_total',
    'OTLP requests by answer.',
    ['signal', 'encoding', 'status'],
  );
  const count = createRecordCounters(deps.metrics);
  return async (request, response) => {
    const signal = PATHS.get((request.url ?? '').split('?', 1)[0] ?? '');
    if (signal === undefined) return false;
    const format = formatOf(request.headers['content-type']);
    let answer: Answer;
    const visit = deps.intake.begin(RECEIVER);
    try {
      refuseBeforeReading(request, format);
      visit.admit();
      answer = await handle(request, { deps, signal, encoding: format.encoding, count, visit });
    } catch (error) {
      discardBody(request);
      answer = answerOf(error, format?.encoding ?? 'json');
      if (answer.status === 500) deps.onFailure?.(error);
    }
    const { status } = answer;
    visit.answered(status);
    requests.inc({ signal, encoding: format?.encoding ?? 'other', status: String(status) });
    send(response, answer, format?.contentType ?? 'application/json');
    return true;
  };
}

function refuseBeforeReading(
  request: IncomingMessage,
  format: Format | undefined,
): asserts format is Format {
  const options = { stage: 'receiving' } as const;
  if (request.method !== 'POST')
    throw new GrantscopeError('method_not_allowed', 'method: allowed: POST', options);
  if (format === undefined)
    throw new GrantscopeError(
      'unsupported_media_type',
      'Content-Type: allowed: application/x-protobuf, application/json (UTF-8)',
      options,
    );
}

/** undefined for a media type that OTLP/HTTP does not have. Parameters are allowed, with UTF-8 as the one charset. */
function formatOf(header: string | undefined): Format | undefined {
  const [type = '', ...parameters] = (header ?? '').split(';').map((p) => p.trim().toLowerCase());
  const charset = parameters.find((p) => p.startsWith('charset='))?.slice('charset='.length);
  const isUtf8 = charset === undefined || /^"?utf-?8"?$/.test(charset);
  if (type === 'application/x-protobuf') return { encoding: 'protobuf', contentType: type };
  if (type !== 'application/json' || !isUtf8) return undefined;
  const contentType = charset === undefined ? type : `${type}; charset=utf-8`;
  return { encoding: 'json', contentType };
}

interface Work {
  readonly deps: OtlpDependencies;
  readonly signal: Signal;
  readonly encoding: Encoding;
  readonly count: RecordCounters;
  readonly visit: Visit;
}

async function handle(request: IncomingMessage, work: Work): Promise<Answer> {
  const { deps, signal, encoding } = work;
  const body = await readBody(request, {
    bytesMax: deps.bodyBytesMax,
    deadlineMs: deps.bodyDeadlineMs,
    budget: work.visit,
  });
  const context: MapContext = {
    sources: deps.sources,
    scrubber: deps.scrubber,
    receivedAt: deps.clock.nowNs(),
  };
  const mapped =
    signal === 'traces' ? readTraces(body, encoding, context) : readLogs(body, encoding, context);
  const partial = await store(mapped, body, work);
  const rejectedName = signal === 'traces' ? 'rejectedSpans' : 'rejectedLogRecords';
  return { status: 200, body: encodeExportResponse(encoding, rejectedName, partial) };
}

interface MappedTables {
  readonly mapped: MappedRequest<unknown>;
  readonly table: TableRows;
}

function readTraces(body: Buffer, encoding: Encoding, context: MapContext): MappedTables {
  const decode = encoding === 'json' ? decodeTraceRequestJson : decodeTraceRequest;
  const mapped = mapTraces(decode(body), context);
  return { mapped, table: tableRows({ spec: otelTracesTable, rows: mapped.rows }) };
}

function readLogs(body: Buffer, encoding: Encoding, context: MapContext): MappedTables {
  const decode = encoding === 'json' ? decodeLogsRequestJson : decodeLogsRequest;
  const mapped = mapLogs(decode(body), context);
  return { mapped, table: tableRows({ spec: otelLogsTable, rows: mapped.rows }) };
}

/** A batch holds tables of several row types: the type is forgotten here, where spec and rows still agree. */
function tableRows<Row>(table: TableRows<Row>): TableRows {
  return table as TableRows;
}

/** Hands the request to the pipeline; resolves once it is durable. An empty request needs no storing. */
async function store(
  { mapped, table }: MappedTables,
  body: Buffer,
  { deps, signal, count }: Work,
): Promise<PartialSuccess | undefined> {
  if (mapped.rows.length === 0) return undefined;
  const bySource = vendorRecordsOf(mapped);
  for (const source of bySource.keys()) deps.intake.checkRates(source, RECEIVER);
  const result = await deps.ingest.ingest({
    receiver: RECEIVER,
    records: mapped.records,
    tables: [table],
    // The signal is part of it: the same bytes may be a request of either.
    contentHash: createHash('sha256').update(`${signal}\n`).update(body).digest('hex'),
  });
  const partial = partialSuccess(signal, mapped, result);
  const rejected = partial?.rejected ?? 0;
  deps.intake.spendRecords(RECEIVER, mapped.rows.length);
  for (const [source, records] of bySource) deps.intake.spendRecords(source, records);
  if (result.repeated) count.records.inc({ signal, result: 'repeated' }, mapped.rows.length);
  else {
    count.records.inc({ signal, result: 'rejected' }, rejected);
    count.records.inc({ signal, result: 'accepted' }, mapped.rows.length - rejected);
  }
  count.timesReplaced.inc({ signal }, mapped.timesReplaced);
  count.textsCut.inc({ signal }, mapped.textsCut);
  count.redacted.inc({ signal }, mapped.redacted);
  count.attributesCut.inc({ signal }, mapped.attributesCut);
  return partial;
}

/** How many vendor records came in log bodies, by source: they count against the rate of their source too. */
function vendorRecordsOf(mapped: MappedRequest<unknown>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { source } of mapped.records)
    if (source.id !== OTLP_SOURCE_ID) counts.set(source.id, (counts.get(source.id) ?? 0) + 1);
  return counts;
}

/** A span or log record counts as rejected once, however many of its auth events were refused. */
function partialSuccess(
  signal: Signal,
  mapped: MappedRequest<unknown>,
  result: IngestResult,
): PartialSuccess | undefined {
  const refusals: Refusal[] = [
    ...mapped.refusals,
    ...result.errors.map((e) => ({
      owner: mapped.owners[e.index] ?? 0,
      code: e.code,
      message: e.message,
    })),
  ].sort((a, b) => a.owner - b.owner);
  if (refusals.length === 0 && result.rejected === 0) return undefined;
  const unlisted = Math.max(0, result.rejected - result.errors.length);
  const owners = new Set(refusals.map((r) => r.owner)).size;
  const rejected = Math.min(mapped.rows.length, owners + unlisted);
  const what = signal === 'traces' ? 'span' : 'log record';
  const reasons = refusals
    .slice(0, REASONS_LISTED_MAX)
    .map((r) => `${what} ${r.owner}: ${r.code}: ${r.message}`);
  const more = refusals.length + unlisted - reasons.length;
  if (more > 0) reasons.push(`and ${more} more`);
  const head = `no auth event was made of ${rejected} of ${mapped.rows.length} ${what}s`;
  return { rejected, errorMessage: `${head}: ${reasons.join('; ')}` };
}

interface RecordCounters {
  readonly records: Counter;
  readonly timesReplaced: Counter;
  readonly textsCut: Counter;
  readonly redacted: Counter;
  readonly attributesCut: Counter;
}
type Counter = ReturnType<Metrics['counter']>;

function createRecordCounters(metrics: Metrics): RecordCounters {
  return {
    records: metrics.counter(
      'grantscope_otlp_records_total',
      'Spans and log records of answered OTLP requests; rejected: an auth event in it was refused; repeated: the request was stored before.',
      ['signal', 'result'],
    ),
    timesReplaced: metrics.counter(
      'grantscope_otlp_times_replaced_total',
      'Times of spans and log records that were absent or out of range, and became the time of receipt.',
      ['signal'],
    ),
    attributesCut: metrics.counter(
      'grantscope_otlp_attributes_cut_total',
      'Attributes beyond those that are stored of one span, log record, event, link, scope or resource.',
      ['signal'],
    ),
    textsCut: metrics.counter(
      'grantscope_otlp_texts_cut_total',
      'Names, messages and log bodies that were longer than is stored.',
      ['signal'],
    ),
    redacted: metrics.counter(
      'grantscope_otlp_values_redacted_total',
      'Texts and attributes of spans and log records that were hashed, scrubbed, cut or dropped; their auth events count by source.',
      ['signal'],
    ),
  };
}

const RPC_CODES: Readonly<Record<number, number>> = {
  405: RPC_CODE.unimplemented,
  408: RPC_CODE.deadlineExceeded,
  413: RPC_CODE.resourceExhausted,
  429: RPC_CODE.resourceExhausted,
  500: RPC_CODE.internal,
  503: RPC_CODE.unavailable,
};

function answerOf(error: unknown, encoding: Encoding): Answer {
  const { status, message, retryAfterSeconds } = httpAnswerOf(error);
  const body = encodeStatus(encoding, RPC_CODES[status] ?? RPC_CODE.invalidArgument, message);
  const headers = {
    ...(status === 405 ? { Allow: 'POST' } : {}),
    // The rest of the body may still be on its way: this connection cannot serve another request.
    ...(status === 408 ? { Connection: 'close' } : {}),
    ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) }),
  };
  return { status, body, headers };
}

function send(response: ServerResponse, answer: Answer, contentType: string): void {
  response.writeHead(answer.status, {
    ...answer.headers,
    'Content-Type': contentType,
    'Content-Length': String(answer.body.length),
  });
  response.end(answer.body);
}
