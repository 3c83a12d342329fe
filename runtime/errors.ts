/**
 * Errors of Grantscope. Classify by `code`, never by message. The message is public: it names the field,
 * the reason and what is allowed, and never holds a payload. `cause` carries no payload either.
 */
export const ERROR_CODES = [
  'config_invalid',
  'definition_invalid',
  'data_dir_locked',
  'listen_failed',
  'store_unavailable',
  'store_rejected',
  'migration_failed',
  'spool_full',
  'spool_corrupt',
  'spool_write_failed',
  'body_too_large',
  'body_timeout',
  'body_unreadable',
  'unsupported_media_type',
  'unsupported_encoding',
  'method_not_allowed',
  'unknown_source',
  'invalid_argument',
  'not_found',
  'unauthenticated',
  'forbidden',
  'rate_limited',
  'overloaded',
  'shutting_down',
  'upstream_failed',
  'internal',
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** Where in the pipeline it happened; a bounded metric label. */
export type Stage = 'starting' | 'receiving' | 'processing' | 'sending' | 'querying' | 'detecting';

export interface GrantscopeErrorOptions {
  readonly retriable?: boolean;
  readonly stage?: Stage;
  readonly cause?: unknown;
  /** For `Retry-After`, where it is known when a repeat can help. */
  readonly retryAfterSeconds?: number;
}

export class GrantscopeError extends Error {
  readonly code: ErrorCode;
  readonly retriable: boolean;
  readonly stage: Stage;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: GrantscopeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'GrantscopeError';
    this.code = code;
    this.retriable = options.retriable ?? false;
    this.stage = options.stage ?? 'processing';
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** The message of anything thrown, for logs. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
