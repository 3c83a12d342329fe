import { GrantscopeError, type ErrorCode } from '../runtime/errors.ts';

/** One wrong field of a request. */
export interface ProblemField {
  /** For instance `query.limit`. */
  readonly path: string;
  readonly message: string;
  readonly allowed?: string;
}

/** An error answer (RFC 9457), without payloads. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly errors?: readonly ProblemField[];
  readonly retryAfterSeconds?: number;
}

/** Seconds after which a refused request may be tried again. */
export const RETRY_AFTER_SECONDS = 2;

/** Codes that this API answers with; every other code is an error of ours and answers 500 or 503. */
export const PROBLEMS = {
  invalid_argument: { status: 400, title: 'A parameter is missing or wrong' },
  body_unreadable: { status: 400, title: 'The body is not what the route takes' },
  unauthenticated: { status: 401, title: 'Authentication is required' },
  forbidden: { status: 403, title: 'The request is not allowed' },
  not_found: { status: 404, title: 'There is no such thing' },
  unknown_source: { status: 404, title: 'There is no such source' },
  method_not_allowed: { status: 405, title: 'The method is not allowed here' },
  body_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The media type is not supported' },
  unsupported_encoding: { status: 415, title: 'The content encoding is not supported' },
  config_invalid: { status: 422, title: 'A setting is wrong' },
  definition_invalid: { status: 422, title: 'A definition is wrong' },
  rate_limited: { status: 429, title: 'Too many requests' },
  shutting_down: { status: 503, title: 'The server is stopping' },
  store_unavailable: { status: 503, title: 'The store does not answer' },
  internal: { status: 500, title: 'An error of the server' },
} as const satisfies Partial<Record<ErrorCode, { status: number; title: string }>>;
export type ProblemCode = keyof typeof PROBLEMS;

function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEMS, code);
}

export function problem(
  code: ProblemCode,
  detail: string,
  errors?: readonly ProblemField[],
): Problem {
  const { status, title } = PROBLEMS[code];
  const passes = status === 429 || status === 503;
  return {
    type: `/problems/${code}`,
    title,
    status,
    detail,
    code,
    ...(errors === undefined || errors.length === 0 ? {} : { errors }),
    ...(passes ? { retryAfterSeconds: RETRY_AFTER_SECONDS } : {}),
  };
}

/**
 * The answer to anything that was thrown. A code that is no fault of the caller says nothing about the
 * inside: its message goes to the log.
 */
export function problemOf(error: unknown): Problem {
  if (error instanceof RequestProblem) return error.problem;
  if (error instanceof GrantscopeError) {
    if (isProblemCode(error.code) && error.code !== 'internal')
      return problem(
        error.code,
        error.code === 'store_unavailable' ? 'try again soon' : error.message,
      );
    if (error.retriable) return problem('store_unavailable', 'try again soon');
  }
  return problem('internal', 'the log has the reason under this request id');
}

/** Thrown by the server's own checks, which know the wrong fields. */
export class RequestProblem extends Error {
  readonly problem: Problem;

  constructor(
    code: ProblemCode,
    detail: string,
    errors?: readonly ProblemField[],
    options: { readonly retryAfterSeconds?: number } = {},
  ) {
    super(detail);
    this.name = 'RequestProblem';
    this.problem = { ...problem(code, detail, errors), ...options };
  }
}
