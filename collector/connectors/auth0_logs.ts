import { z } from 'zod';
import type { Auth0LogsSettings } from '../../runtime/collector_settings.ts';
import type { PullConnector, PullPage } from './pull_runner.ts';
import { askVendor, nextLink, pacing, readSecret, VendorError } from './vendor_http.ts';

/** Logs of one page: the most that Auth0 gives. */
const PAGE_LOGS = 100;
const LIMITS = { remaining: 'X-RateLimit-Remaining', reset: 'X-RateLimit-Reset' };
/** An access token is renewed so long before it ends, ms. */
const RENEW_BEFORE_MS = 60_000;

const TokenAnswer = z.object({
  access_token: z.string().min(1),
  expires_in: z.number().positive(),
});
const Log = z.looseObject({ log_id: z.string().regex(/^[\w-]{1,200}$/) });
type Log = z.infer<typeof Log>;

/**
 * The logs of the Auth0 Management API (GET /api/v2/logs), by checkpoint: `from` a log's id, `take` at most 100, in the order
 * of the ids. The first log is found by its date. The cursor is the id of the last log that was read.
 */
export function auth0Logs(settings: Auth0LogsSettings): PullConnector {
  const pull = new Auth0Pull(settings);
  return {
    id: 'auth0_logs',
    sourceId: 'auth0',
    intervalMs: settings.interval_seconds * 1_000,
    fetchPage: (cursor, { nowMs, signal }) => pull.page(cursor, nowMs, signal),
  };
}

class Auth0Pull {
  readonly #settings: Auth0LogsSettings;
  readonly #secret: string;
  #token: { readonly value: string; readonly renewAtMs: number } | undefined;

  constructor(settings: Auth0LogsSettings) {
    this.#settings = settings;
    const setting = 'collector.pull.auth0_logs.client_secret_file';
    this.#secret = readSecret(setting, settings.client_secret_file);
  }

  async page(
    cursor: string | undefined,
    nowMs: () => number,
    signal: AbortSignal,
  ): Promise<PullPage> {
    const url = new URL('/api/v2/logs', this.#settings.url);
    url.search = (cursor === undefined ? this.#search(nowMs()) : checkpoint(cursor)).toString();
    const { body, headers } = await this.#ask(url, nowMs, signal);
    const logs = z.array(Log).safeParse(body);
    if (!logs.success) throw new VendorError('answers with no list of logs');
    const [records, take] = [logs.data, cursor === undefined ? 1 : PAGE_LOGS];
    return {
      records,
      cursor: records.length === 0 ? cursor : (fromOfNext(headers) ?? records.at(-1)?.log_id),
      isLast: records.length < take,
      pacingMs: pacing(headers, LIMITS),
    };
  }

  /** The first log since the configured start. */
  #search(nowMs: number): URLSearchParams {
    const since = new Date(nowMs - this.#settings.start_hours_ago * 3_600_000).toISOString();
    return new URLSearchParams({
      q: `date:[${since} TO *]`,
      sort: 'date:1',
      page: '0',
      per_page: '1',
    });
  }

  async #ask(url: URL, nowMs: () => number, signal: AbortSignal): ReturnType<typeof askVendor> {
    const token = await this.#accessToken(nowMs, signal);
    const headers = { Accept: 'application/json', Authorization: `Bearer ${token}` };
    try {
      return await askVendor(url, { headers }, LIMITS, signal);
    } catch (error) {
      // Ended early, or the tenant's keys have changed: the next round asks for a new one.
      if (error instanceof VendorError && error.status === 401) this.#token = undefined;
      throw error;
    }
  }

  /** RFC 6749 section 4.4. */
  async #accessToken(nowMs: () => number, signal: AbortSignal): Promise<string> {
    if (this.#token !== undefined && nowMs() < this.#token.renewAtMs) return this.#token.value;
    const { client_id, audience, url } = this.#settings;
    const body = new URLSearchParams({
      ...{ grant_type: 'client_credentials', client_id, client_secret: this.#secret },
      audience: audience ?? new URL('/api/v2/', url).href,
    });
    const init = { method: 'POST', headers: { Accept: 'application/json' }, body };
    const answer = await askVendor(new URL('/oauth/token', url), init, LIMITS, signal);
    const token = TokenAnswer.safeParse(answer.body);
    if (!token.success) throw new VendorError('answers with no access token');
    const { access_token: value, expires_in } = token.data;
    this.#token = { value, renewAtMs: nowMs() + expires_in * 1_000 - RENEW_BEFORE_MS };
    return value;
  }
}

function checkpoint(cursor: string): URLSearchParams {
  return new URLSearchParams({ from: cursor, take: String(PAGE_LOGS) });
}

/** Where Auth0 itself says that it goes on. */
function fromOfNext(headers: Headers): string | undefined {
  const from = nextLink(headers)?.searchParams.get('from') ?? undefined;
  return from !== undefined && Log.shape.log_id.safeParse(from).success ? from : undefined;
}
