import { GrantscopeError, messageOf } from '../runtime/errors.ts';

/** An alert as Alertmanager's API v2 takes it. Labels identify it: the same labels are the same alert. */
export interface PostableAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** RFC 3339. */
  readonly startsAt: string;
  /** In the future: valid until then; in the past: resolved. */
  readonly endsAt: string;
  readonly generatorURL: string;
}

/** Longest wait for an answer, ms. */
const REQUEST_TIMEOUT_MS = 5_000;

/** Posts alerts to one Alertmanager. */
export class AlertmanagerClient {
  readonly #url: string;
  readonly #headers: Record<string, string>;

  /** `base` may carry a user and password, which go into a header and nowhere else. */
  constructor(base: string) {
    const url = new URL(base);
    this.#headers = { 'content-type': 'application/json' };
    if (url.username !== '' || url.password !== '') {
      const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
      this.#headers['authorization'] = `Basic ${Buffer.from(pair).toString('base64')}`;
    }
    this.#url = `${url.origin}${url.pathname.replace(/\/$/, '')}/api/v2/alerts`;
  }

  /**
   * Resolves when Alertmanager has taken all of them. Throws `upstream_failed`: retriable for network errors, 429 and 5xx; final
   * for other answers, which say that an alert is malformed.
   */
  async post(alerts: readonly PostableAlert[]): Promise<void> {
    let response: Response;
    try {
      response = await fetch(this.#url, {
        method: 'POST',
        headers: this.#headers,
        body: JSON.stringify(alerts),
        redirect: 'error',
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      await response.arrayBuffer();
    } catch (error) {
      throw new GrantscopeError(
        'upstream_failed',
        `Alertmanager cannot be reached: ${messageOf(error)}`,
        { retriable: true, stage: 'sending' },
      );
    }
    if (response.ok) return;
    throw new GrantscopeError('upstream_failed', `Alertmanager answered ${response.status}`, {
      retriable: response.status === 429 || response.status >= 500,
      stage: 'sending',
    });
  }
}
