import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Ingest, SourcedRecord } from '../ingest.ts';
import { cutRecords } from './cut_records.ts';
import { httpAnswerOf } from './http_status.ts';
import type { Intake, Visit } from './intake.ts';
import { discardBody, readBody } from './read_body.ts';

export interface EventsHttpDeps {
  readonly ingest: Ingest;
  readonly sources: ReadonlyMap<string, SourceDefinition>;
  readonly bodyBytesMax: number;
  /** Longest time for a body to arrive, ms. */
  readonly bodyDeadlineMs: number;
  readonly intake: Intake;
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
]);

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
    try {
      const result = await receive(deps, request, sourceId, visit);
      visit.answered(200);
      answer(response, 200, result);
    } catch (error) {
      discardBody(request);
      const { status, message, retryAfterSeconds } = httpAnswerOf(error);
      visit.answered(status);
      if (status === 500) deps.onFailure(error);
      if (retryAfterSeconds !== undefined)
        response.setHeader('Retry-After', String(retryAfterSeconds));
      if (status === 405) response.setHeader('Allow', 'POST');
      // The rest of the body may still be on its way: this connection cannot serve another request.
      if (status === 408) response.setHeader('Connection', 'close');
      const code = error instanceof GrantscopeError ? error.code : 'internal';
      answer(response, status, { accepted: 0, rejected: 0, errors: [], code, message });
    }
    return true;
  };
}

async function receive(
  deps: EventsHttpDeps,
  request: IncomingMessage,
  sourceId: string,
  visit: Visit,
): Promise<unknown> {
  if (request.method !== 'POST') {
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
  checkMediaType(request.headers['content-type']);
  visit.admit();
  const body = await readBody(request, {
    bytesMax: deps.bodyBytesMax,
    deadlineMs: deps.bodyDeadlineMs,
    budget: visit,
  });
  return ingestBody(deps, source, body);
}

async function ingestBody(
  deps: EventsHttpDeps,
  source: SourceDefinition,
  body: Buffer,
): Promise<unknown> {
  const { accepted, rejected, errors } = await deps.ingest.ingest({
    receiver: source.id,
    records: recordsOf(body, source),
    tables: [],
    contentHash: createHash('sha256').update(source.id).update('\0').update(body).digest('hex'),
  });
  deps.intake.spendRecords(source.id, accepted + rejected);
  return { accepted, rejected, errors };
}

function* recordsOf(body: Buffer, source: SourceDefinition): Generator<SourcedRecord> {
  for (const cut of cutRecords(body, source))
    yield cut.ok ? { source, record: cut.record } : { source, unreadable: cut };
}

function checkMediaType(header: string | undefined): void {
  const mediaType = (header ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  if (!MEDIA_TYPES.has(mediaType)) {
    const allowed = [...MEDIA_TYPES].filter((t) => t !== '').join(', ');
    throw new GrantscopeError(
      'unsupported_media_type',
      `Content-Type is not supported; allowed: ${allowed}`,
      { stage: 'receiving' },
    );
  }
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify(body));
}
