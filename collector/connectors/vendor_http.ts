import { readFileSync } from 'node:fs';
import { GrantscopeError } from '../../runtime/errors.ts';

/** Longest time for one answer of a vendor, ms, and its largest body, bytes. */
const ANSWER_MS_MAX = 60_000;
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
/** Bounds of a wait that a rate limit asks for, ms. */
const LIMIT_WAIT_MS_MIN = 1_000;
const LIMIT_WAIT_MS_MAX = 300_000;

/** Why there is no page. `reason` is public: it holds nothing of the answer. */
export class VendorError extends Error {
  readonly status: number | undefined;
  /** How long the vendor asks to wait, ms. */
  readonly waitMs: number | undefined;

  constructor(reason: string, status?: number, waitMs?: number) {
    super(reason);
    this.name = 'VendorError';
    this.status = status;
    this.waitMs = waitMs;
  }
}

export interface VendorAnswer {
  readonly body: unknown;
  readonly headers: Headers;
}

/** Names of a vendor's headers that say how many more requests are allowed, and from when (epoch s) on there are more. */
export interface LimitHeaders {
  readonly remaining: string;
  readonly reset: string;
}

/**
 * One request to a vendor's API; the answer is JSON. Redirects are not followed: they would carry the credential along.
 * Throws `VendorError` for anything else than 200, with the wait that a 429 asks for.
 */
export async function askVendor(
  url: URL,
  init: RequestInit,
  limits: LimitHeaders,
  signal: AbortSignal,
): Promise<VendorAnswer> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      ...init,
      redirect: 'error',
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]),
    });
    text = await readText(response);
  } catch (error) {
    if (error instanceof VendorError) throw error;
    const code = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code;
    throw new VendorError(`no answer (${code ?? (error as Error).name})`);
  }
  const { status, headers } = response;
  if (status === 429) throw new VendorError('answers 429', status, limitWait(headers, limits));
  if (status !== 200) throw new VendorError(`answers ${status}`, status);
  try {
    return { body: JSON.parse(text) as unknown, headers };
  } catch {
    throw new VendorError('answers 200, and no JSON', status);
  }
}

async function readText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += (chunk as Uint8Array).length;
    if (bytes > ANSWER_BYTES_MAX) throw new VendorError('answers with too large a body');
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** How long to wait before the next request: until the reset where none is left; 0 where some are. */
export function pacing(headers: Headers, limits: LimitHeaders): number {
  return Number(headers.get(limits.remaining) ?? 1) > 0 ? 0 : limitWait(headers, limits);
}

/** Until the reset, by the vendor's own clock; its Retry-After where it has no reset. */
function limitWait(headers: Headers, { reset }: LimitHeaders): number {
  const now = Date.parse(headers.get('Date') ?? '');
  const resetMs = Number(headers.get(reset) ?? Number.NaN) * 1_000;
  const retryMs = Number(headers.get('Retry-After') ?? Number.NaN) * 1_000;
  const untilReset = resetMs - (Number.isNaN(now) ? Date.now() : now);
  const wait = [untilReset, retryMs].find((ms) => Number.isFinite(ms)) ?? LIMIT_WAIT_MS_MIN;
  return Math.min(LIMIT_WAIT_MS_MAX, Math.max(LIMIT_WAIT_MS_MIN, wait));
}

/** The address of the next page (RFC 8288); undefined where there is none. */
export function nextLink(headers: Headers): URL | undefined {
  for (const link of (headers.get('Link') ?? '').split(/,\s*(?=<)/)) {
    const [, target, parameters = ''] = /^<([^>]{1,4000})>(.{0,1000})$/.exec(link.trim()) ?? [];
    if (target !== undefined && /;\s*rel="?next"?/i.test(parameters))
      return URL.parse(target) ?? undefined;
  }
  return undefined;
}

/** A credential in a file of its own. Throws `config_invalid`, naming the setting. */
export function readSecret(setting: string, file: string): string {
  let secret: string;
  try {
    secret = readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw invalid(
      setting,
      `${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? ''})`,
    );
  }
  if (!/^[\x21-\x7e]{8,4096}$/.test(secret))
    throw invalid(setting, `${file} holds no secret; allowed: one line of 8 to 4096 characters`);
  return secret;
}

function invalid(setting: string, reason: string): GrantscopeError {
  return new GrantscopeError('config_invalid', `${setting}: ${reason}`, { stage: 'starting' });
}
