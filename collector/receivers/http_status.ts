import { GrantscopeError, type ErrorCode } from '../../runtime/errors.ts';

/** How an error is answered over HTTP. */
export interface HttpAnswer {
  readonly status: number;
  /** Seconds for `Retry-After`; absent where a repeat of the same request cannot help. */
  readonly retryAfterSeconds?: number;
  /** Public text: never a payload. */
  readonly message: string;
}

/** `Retry-After` of 429 and 503: long enough to spare the collector, short enough for exporters' queues. */
export const RETRY_AFTER_SECONDS = 2;

const STATUS: Partial<Record<ErrorCode, number>> = {
  body_unreadable: 400,
  invalid_argument: 400,
  unauthenticated: 401,
  forbidden: 403,
  unknown_source: 404,
  not_found: 404,
  method_not_allowed: 405,
  body_timeout: 408,
  body_too_large: 413,
  unsupported_media_type: 415,
  unsupported_encoding: 415,
  rate_limited: 429,
  overloaded: 503,
  spool_full: 503,
  shutting_down: 503,
};

/**
 * The HTTP status of an error, by its code. A state that passes is 503, never 500: exporters drop what was
 * answered with 500 (OTLP/HTTP: only 429, 502, 503 and 504 are retried). Anything that is not a
 * GrantscopeError is a defect of ours: 500, with a text that says nothing about its inside.
 */
export function httpAnswerOf(error: unknown): HttpAnswer {
  if (!(error instanceof GrantscopeError)) return { status: 500, message: 'internal error' };
  const status = STATUS[error.code] ?? (error.retriable ? 503 : 500);
  const message = status === 500 ? 'internal error' : error.message;
  return status === 429 || status === 503
    ? { status, message, retryAfterSeconds: error.retryAfterSeconds ?? RETRY_AFTER_SECONDS }
    : { status, message };
}
