import type { ServerResponse } from 'node:http';
import type { IngestResult } from '../ingest.ts';

/** A security event token (RFC 8417) that is pushed (RFC 8935 section 2.1). */
export const SECURITY_EVENT_TYPE = 'application/secevent+jwt';

/** A push that failed before its token was looked at. */
interface Failed {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

/**
 * Answers a pushed security event token as RFC 8935 says: 202 with no body once it is durable (section 2.2), else 400 with
 * an error code of section 2.4; where the sender should try again, the status that says so. Gives the status.
 */
export function answerSecurityEvent(
  response: ServerResponse,
  result: Failed | Pick<IngestResult, 'rejected' | 'errors'>,
): number {
  if ('rejected' in result && result.rejected === 0) {
    response.writeHead(202, { 'Cache-Control': 'no-store' }).end();
    return 202;
  }
  const [refusal] = 'errors' in result ? result.errors : [];
  const failed = 'status' in result ? result : undefined;
  const status = failed?.status ?? 400;
  const err = failed?.code === 'unauthenticated' ? 'authentication_failed' : 'invalid_request';
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Language': 'en',
    'Cache-Control': 'no-store',
  });
  const description = failed?.message ?? refusal?.message ?? 'no security event could be read';
  response.end(JSON.stringify({ err, description }));
  return status;
}
