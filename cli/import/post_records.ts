import { z } from 'zod';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import { isLoopback } from '../../runtime/loopback.ts';
import { pause, systemTimers, type Timers } from '../../runtime/timers.ts';

/** Longest time in which a collector takes nothing before an import gives up, ms. */
export const GIVE_UP_AFTER_MS = 600_000;
/** Longest time for one answer, ms: a slow disk may take a while. */
const ANSWER_MS_MAX = 120_000;
const WAIT_MS_MIN = 250;
const WAIT_MS_MAX = 30_000;
/** The collector is busy, or something between is: the same request later can succeed. */
const PASSING = new Set([408, 429, 502, 503, 504]);

const Answer = z.object({
  accepted: z.number(),
  rejected: z.number(),
  errors: z.array(z.object({ index: z.number(), code: z.string(), message: z.string() })),
  code: z.string().optional(),
  message: z.string().optional(),
});

export interface PostResult {
  readonly accepted: number;
  readonly rejected: number;
  readonly errors: readonly {
    readonly index: number;
    readonly code: string;
    readonly message: string;
  }[];
}

/** What the collector said of a body: taken, too large as a whole, or with nothing readable in it. */
export type Posted =
  | { readonly fate: 'taken'; readonly result: PostResult }
  | { readonly fate: 'too_large' | 'unreadable'; readonly code: string; readonly message: string };

export interface PosterOptions {
  /** For instance `http://127.0.0.1:4318`. */
  readonly collector: string;
  readonly source: string;
  /** For `Authorization: Bearer`, where the collector asks for one. */
  readonly token: string | undefined;
  /** Ends waiting; what is under way is finished. */
  readonly signal: AbortSignal;
  /** Told before a wait. */
  readonly onWait: (reason: string, ms: number) => void;
  readonly timers?: Timers;
  readonly giveUpAfterMs?: number;
}

/** Thrown where a signal ended the waiting; what was not answered is sent again by the next run. */
export class Interrupted extends Error {}

/** Sends bodies to `POST /v1/events/{source}`, one at a time, and repeats each until it is answered for good. */
export class Poster {
  readonly #options: PosterOptions;
  readonly #url: string;
  #hasAnswered = false;

  constructor(options: PosterOptions) {
    this.#options = options;
    this.#url = `${options.collector.replace(/\/+$/, '')}/v1/events/${options.source}`;
  }

  /**
   * Resolves once the collector says that what it accepted is durable, or that it never will be. Throws
   * `upstream_failed` where no collector answers or it takes nothing for `GIVE_UP_AFTER_MS`, `unauthenticated`,
   * `unknown_source`, and `Interrupted`.
   */
  async post(body: Buffer, key: string): Promise<Posted> {
    const { signal, onWait, timers = systemTimers, giveUpAfterMs } = this.#options;
    let waitedMs = 0;
    let backOffMs = WAIT_MS_MIN;
    for (;;) {
      const answer = await this.#once(body, key);
      if (!('retryAfterMs' in answer)) {
        this.#hasAnswered = true;
        return answer;
      }
      if (waitedMs >= (giveUpAfterMs ?? GIVE_UP_AFTER_MS))
        throw failed(`${this.#url}: ${answer.reason}, for ${Math.round(waitedMs / 1_000)} s`);
      const ms = Math.min(WAIT_MS_MAX, Math.max(WAIT_MS_MIN, answer.retryAfterMs ?? backOffMs));
      backOffMs = Math.min(WAIT_MS_MAX, backOffMs * 2);
      onWait(answer.reason, ms);
      await pause(timers, ms, signal);
      if (signal.aborted) throw new Interrupted();
      waitedMs += ms;
    }
  }

  async #once(
    body: Buffer,
    key: string,
  ): Promise<Posted | { readonly reason: string; readonly retryAfterMs: number | undefined }> {
    const { token } = this.#options;
    let response: Response;
    let text: string;
    try {
      response = await fetch(this.#url, {
        method: 'POST',
        redirect: 'error',
        headers: {
          'Content-Type': 'text/plain',
          'Idempotency-Key': key,
          ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
        },
        body: new Uint8Array(body),
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      });
      text = await response.text();
    } catch (error) {
      const reason = causeOf(error);
      if (!this.#hasAnswered)
        throw failed(
          `no collector answers at ${this.#options.collector} (${reason}); start grantscope serve, name another by --collector, or give --data-dir`,
        );
      return { reason: `the collector does not answer (${reason})`, retryAfterMs: undefined };
    }
    if (PASSING.has(response.status)) {
      this.#hasAnswered = true;
      const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
      const retryAfterMs = Number.isFinite(seconds) ? seconds * 1_000 : undefined;
      return { reason: `the collector answers ${response.status}`, retryAfterMs };
    }
    return this.#final(response.status, text);
  }

  #final(status: number, text: string): Posted {
    const parsed = Answer.safeParse(jsonOf(text));
    if (!parsed.success) throw failed(`${this.#url}: answers ${status}, and not as a collector`);
    const { code = 'internal', message = `answered ${status}`, ...result } = parsed.data;
    if (status === 200) return { fate: 'taken', result };
    if (status === 413) return { fate: 'too_large', code, message };
    if (status === 400) return { fate: 'unreadable', code, message };
    if (status === 401) throw new GrantscopeError('unauthenticated', message);
    if (status === 404) throw new GrantscopeError('unknown_source', message);
    throw failed(`${this.#url}: answers ${status}: ${message}`);
  }
}

/** Records hold tokens until the collector has redacted them: they leave this machine only encrypted. */
export function checkCollectorUrl(text: string): string {
  const url = URL.parse(text);
  const isPlain = url?.protocol === 'http:' && isLoopback(url.hostname.replace(/^\[|\]$/g, ''));
  if (url === null || (url.protocol !== 'https:' && !isPlain))
    throw new GrantscopeError(
      'invalid_argument',
      '--collector: must be an https URL, or an http URL on loopback, for instance http://127.0.0.1:4318',
    );
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

function failed(message: string): GrantscopeError {
  return new GrantscopeError('upstream_failed', message, { stage: 'sending' });
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  return code ?? messageOf(error);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
