import { z } from 'zod';
import type { SilenceMatcher } from '../model/silence.ts';
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

/** A silence as Alertmanager's API v2 takes it. Times are RFC 3339. */
export interface PostableSilence {
  readonly matchers: readonly SilenceMatcher[];
  readonly startsAt: string;
  readonly endsAt: string;
  readonly createdBy: string;
  readonly comment: string;
}

const HeldSilences = z.array(
  z.object({
    id: z.string(),
    comment: z.string(),
    status: z.object({ state: z.string() }),
  }),
);
/** A silence that Alertmanager holds; `state` is pending, active or expired. */
export interface HeldSilence {
  readonly id: string;
  readonly comment: string;
  readonly state: string;
}

const HeldAlerts = z.array(
  z.object({
    labels: z.record(z.string(), z.string()),
    status: z.object({ silencedBy: z.array(z.string()) }),
  }),
);
/** An alert that silences mute, and the ids of those silences. */
export interface MutedAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly silencedBy: readonly string[];
}

/** Longest wait for an answer, ms. */
const REQUEST_TIMEOUT_MS = 5_000;

/**
 * Speaks API v2 of one Alertmanager. Everything throws `upstream_failed`: retriable for network errors, 429 and 5xx; final
 * for other answers, which say that what was sent is malformed.
 */
export class AlertmanagerClient {
  readonly #api: string;
  readonly #headers: Record<string, string>;

  /** `base` may carry a user and password, which go into a header and nowhere else. */
  constructor(base: string) {
    const url = new URL(base);
    this.#headers = { 'content-type': 'application/json' };
    if (url.username !== '' || url.password !== '') {
      const pair = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
      this.#headers['authorization'] = `Basic ${Buffer.from(pair).toString('base64')}`;
    }
    this.#api = `${url.origin}${url.pathname.replace(/\/$/, '')}/api/v2`;
  }

  /** Resolves when Alertmanager has taken all of them. */
  async post(alerts: readonly PostableAlert[]): Promise<void> {
    await this.#request('POST', '/alerts', alerts);
  }

  /** Makes a silence and returns its id there. */
  async addSilence({ matchers, ...silence }: PostableSilence): Promise<string> {
    const made = matchers.map((m) => ({
      name: m.name,
      value: m.value,
      isRegex: m.is_regex,
      isEqual: m.is_equal,
    }));
    const answer = await this.#request('POST', '/silences', { ...silence, matchers: made });
    return read(z.object({ silenceID: z.string().min(1) }), answer).silenceID;
  }

  async expireSilence(id: string): Promise<void> {
    await this.#request('DELETE', `/silence/${encodeURIComponent(id)}`);
  }

  /** Those that are over as well, for as long as Alertmanager keeps them. */
  async silences(): Promise<readonly HeldSilence[]> {
    const held = read(HeldSilences, await this.#request('GET', '/silences'));
    return held.map(({ id, comment, status }) => ({ id, comment, state: status.state }));
  }

  async mutedAlerts(): Promise<readonly MutedAlert[]> {
    const only = 'active=false&inhibited=false&unprocessed=false&silenced=true';
    const held = read(HeldAlerts, await this.#request('GET', `/alerts?${only}`));
    return held
      .map(({ labels, status }) => ({ labels, silencedBy: status.silencedBy }))
      .filter((a) => a.silencedBy.length > 0);
  }

  async #request(method: string, path: string, body?: unknown): Promise<string> {
    let response: Response;
    let text: string;
    try {
      response = await fetch(this.#api + path, {
        method,
        headers: this.#headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        redirect: 'error',
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      text = await response.text();
    } catch (error) {
      throw new GrantscopeError(
        'upstream_failed',
        `Alertmanager cannot be reached: ${messageOf(error)}`,
        { retriable: true, stage: 'sending' },
      );
    }
    if (response.ok) return text;
    throw new GrantscopeError('upstream_failed', `Alertmanager answered ${response.status}`, {
      retriable: response.status === 429 || response.status >= 500,
      stage: 'sending',
    });
  }
}

function read<T extends z.ZodType>(schema: T, text: string): z.infer<T> {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw new GrantscopeError(
      'upstream_failed',
      'Alertmanager answered something else than its API v2 does',
      { retriable: true, stage: 'sending' },
    );
  }
}
