import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Ingest, IngestResult, SourcedRecord } from '../ingest.ts';
import { CLOUD_EVENT_TYPES, cutCloudEvents } from './cloud_events.ts';
import { cutRecords, type CutRecord } from './cut_records.ts';
import { httpAnswerOf } from './http_status.ts';
import type { Intake, Visit } from './intake.ts';
import type { PushTokens } from './push_tokens.ts';
import { discardBody, readBody } from './read_body.ts';
import { answerSecurityEvent, SECURITY_EVENT_TYPE } from './security_event_push.ts';

export interface EventsHttpDeps {
  readonly ingest: Ingest;
  readonly sources: ReadonlyMap<string, SourceDefinition>;
  readonly bodyBytesMax: number;
  /** Longest time for a body to arrive, ms. */
  readonly bodyDeadlineMs: number;
  readonly intake: Intake;
  /** What senders have to show. */
  readonly pushTokens: PushTokens;
  readonly onFailure: (error: unknown) => void;
}

const PREFIX = '/v1/events/';
/** Media types, without parameters. Log shippers often send none, or text/plain. */
const MEDIA_TYPES = new Set([
  '',
  'application/json',
  'application/x-ndjson',
  'application/ndjson',
  'application/jsonl',
  'text/plain',
  'application/octet-stream',
  // Heroku log drains: lines of syslog.
  'application/logplex-1',
  ...CLOUD_EVENT_TYPES,
]);
/** Media types that only one source takes. */
const MEDIA_TYPES_OF_SOURCE: Readonly<Record<string, readonly string[]>> = {
  ssf: [SECURITY_EVENT_TYPE],
};
/** Okta asks once whether an event hook is wanted; the answer repeats what it asked. */
const OKTA_CHALLENGE = 'x-okta-verification-challenge';
const CHALLENGE_LENGTH_MAX = 1_024;
/** Sets requests with the same body apart, and joins those that are the same request. */
const IDEMPOTENCY_KEY = 'idempotency-key';
const IDEMPOTENCY_KEY_LENGTH_MAX = 200;

/**
 * `POST /v1/events/{source}`: records in the vendor's own form. Answers once the accepted ones are durable.
 * Returns false when the path is not its own.
 */
export function createEventsRoute(
  deps: EventsHttpDeps,
): (request: IncomingMessage, response: ServerResponse) => Promise<boolean> {
  return async (request, response) => {
    const path = (request.url ?? '').split('?')[0] ?? '';
    if (!path.startsWith(PREFIX)) return false;
    const sourceId = path.slice(PREFIX.length);
    const visit = deps.intake.begin(deps.sources.has(sourceId) ? sourceId : 'unknown');
    const isSecurityEvent = mediaTypeOf(request) === SECURITY_EVENT_TYPE;
    try {
      const result = await receive(deps, request, sourceId, visit);
      if (isSecurityEvent && 'errors' in result)
        visit.answered(answerSecurityEvent(response, result));
      else {
        visit.answered(200);
        answer(response, 200, result);
      }
    } catch (error) {
      discardBody(request);
      const { status, message, retryAfterSeconds } = httpAnswerOf(error);
      visit.answered(status);
      if (status === 500) deps.onFailure(error);
      setHeaders(response, status, retryAfterSeconds);
      const code = error instanceof GrantscopeError ? error.code : 'internal';
      if (isSecurityEvent) answerSecurityEvent(response, { status, code, message });
      else answer(response, status, { accepted: 0, rejected: 0, errors: [], code, message });
    }
    return true;
  };
}

function setHeaders(
  response: ServerResponse,
  status: number,
  retryAfterSeconds: number | undefined,
): void {
  if (retryAfterSeconds !== undefined) response.setHeader('Retry-After', String(retryAfterSeconds));
  if (status === 405) response.setHeader('Allow', 'POST');
  // RFC 9110 section 11.6.1 asks for a challenge.
  if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
  // The rest of the body may still be on its way: this connection cannot serve another request.
  if (status === 408) response.setHeader('Connection', 'close');
}

type Received = Omit<IngestResult, 'repeated'> | { readonly verification: string };

async function receive(
  deps: EventsHttpDeps,
  request: IncomingMessage,
  sourceId: string,
  visit: Visit,
): Promise<Received> {
  const challenge = sourceId === 'okta' ? request.headers[OKTA_CHALLENGE] : undefined;
  const isVerification = request.method === 'GET' && typeof challenge === 'string';
  if (request.method !== 'POST' && !isVerification) {
    throw new GrantscopeError(
      'method_not_allowed',
      `method ${request.method ?? ''} is not allowed; allowed: POST`,
      { stage: 'receiving' },
    );
  }
  const source = deps.sources.get(sourceId);
  if (source === undefined) {
    const known = [...deps.sources.keys()].join(', ');
    throw new GrantscopeError('unknown_source', `no source of that name; known: ${known}`, {
      stage: 'receiving',
    });
  }
  deps.pushTokens.check(sourceId, request.headers);
  if (isVerification) return { verification: challenge.slice(0, CHALLENGE_LENGTH_MAX) };
  checkMediaType(request, sourceId);
  const key = idempotencyKeyOf(request);
  visit.admit();
  const body = await readBody(request, {
    bytesMax: deps.bodyBytesMax,
    deadlineMs: deps.bodyDeadlineMs,
    budget: visit,
  });
  // The source of that name reads the envelope itself.
  const isCloudEvents = CLOUD_EVENT_TYPES.has(mediaTypeOf(request)) && sourceId !== 'cloudevents';
  const records = isCloudEvents ? cutCloudEvents(body, source) : cutRecords(body, source);
  const hash = createHash('sha256').update(source.id).update('\0');
  if (key !== undefined) hash.update(`${key.length}:${key}\0`);
  const { accepted, rejected, errors } = await deps.ingest.ingest({
    receiver: source.id,
    records: sourced(records, source),
    tables: [],
    contentHash: hash.update(body).digest('hex'),
  });
  deps.intake.spendRecords(source.id, accepted + rejected);
  return { accepted, rejected, errors };
}

function* sourced(
  records: Iterable<CutRecord>,
  source: SourceDefinition,
): Generator<SourcedRecord> {
  for (const cut of records)
    yield cut.ok ? { source, record: cut.record } : { source, unreadable: cut };
}

/** The media type without parameters, in lower case. */
function mediaTypeOf(request: IncomingMessage): string {
  return (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}

function checkMediaType(request: IncomingMessage, sourceId: string): void {
  const mediaType = mediaTypeOf(request);
  const ofSource = Object.hasOwn(MEDIA_TYPES_OF_SOURCE, sourceId)
    ? (MEDIA_TYPES_OF_SOURCE[sourceId] ?? [])
    : [];
  if (MEDIA_TYPES.has(mediaType) || ofSource.includes(mediaType)) return;
  const allowed = [...MEDIA_TYPES, ...ofSource].filter((t) => t !== '').join(', ');
  throw new GrantscopeError(
    'unsupported_media_type',
    `Content-Type is not supported; allowed: ${allowed}`,
    { stage: 'receiving' },
  );
}

/**
 * The sender's own name for a request. Two requests with the same body under different names are two; without a name, the
 * body alone says whether a request was stored before.
 */
function idempotencyKeyOf(request: IncomingMessage): string | undefined {
  const key = request.headers[IDEMPOTENCY_KEY];
  if (key === undefined) return undefined;
  if (typeof key === 'string' && key !== '' && key.length <= IDEMPOTENCY_KEY_LENGTH_MAX) return key;
  throw new GrantscopeError(
    'invalid_argument',
    `Idempotency-Key: must be 1 to ${IDEMPOTENCY_KEY_LENGTH_MAX} characters`,
    { stage: 'receiving' },
  );
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify(body));
}
