import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { GrantscopeError } from '../../runtime/errors.ts';

/** Longest time for one exchange, from the connection to the end of the answer, ms. */
export const POST_TIMEOUT_MS = 10_000;
/** Bytes of an answer that are read; error answers are small, and the rest says nothing. */
const ANSWER_BYTES_MAX = 16_384;

export interface PostRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** PEM of certificate authorities that are trusted instead of the system's. */
  readonly ca: string | undefined;
  readonly timeoutMs: number;
}

export interface PostAnswer {
  readonly status: number;
  readonly body: string;
  /** Of `Retry-After`, where it is a number of seconds. */
  readonly retryAfterMs: number | undefined;
}

/**
 * Posts once. Follows no redirect: where findings go is configured, not answered. Throws `upstream_failed`, retriable, where
 * no whole answer came in time.
 */
export function post(request: PostRequest): Promise<PostAnswer> {
  const url = new URL(request.url);
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const fail = (reason: string): void =>
      reject(new GrantscopeError('upstream_failed', reason, { retriable: true, stage: 'sending' }));
    const outgoing = send(
      url,
      {
        method: 'POST',
        headers: { ...request.headers, 'content-length': Buffer.byteLength(request.body) },
        // Seldom used, and a receiver that closed a kept connection would look like a failure.
        agent: false,
        signal: AbortSignal.timeout(request.timeoutMs),
        ...(request.ca === undefined ? {} : { ca: request.ca }),
      },
      (answer) => {
        const parts: Buffer[] = [];
        let bytes = 0;
        answer.on('data', (part: Buffer) => {
          if (bytes < ANSWER_BYTES_MAX) parts.push(part);
          bytes += part.length;
        });
        answer.on('error', () => fail('the answer broke off'));
        answer.on('end', () => {
          const after = answer.headers['retry-after'];
          resolve({
            status: answer.statusCode ?? 0,
            body: Buffer.concat(parts).toString('utf8').slice(0, ANSWER_BYTES_MAX),
            retryAfterMs:
              after !== undefined && /^\d{1,6}$/.test(after) ? Number(after) * 1_000 : undefined,
          });
        });
      },
    );
    outgoing.on('error', (error: NodeJS.ErrnoException) =>
      fail(
        error.name === 'AbortError' || error.code === 'ABORT_ERR'
          ? 'timeout'
          : (error.code ?? 'failed'),
      ),
    );
    outgoing.end(request.body);
  });
}
