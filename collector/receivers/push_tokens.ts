import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import type { PushToken } from '../../runtime/collector_settings.ts';
import { GrantscopeError } from '../../runtime/errors.ts';

/** Shortest token that is taken: a shorter one can be guessed. */
export const PUSH_TOKEN_LENGTH_MIN = 16;

interface Expected {
  readonly header: string;
  readonly digests: readonly Buffer[];
}

/**
 * The tokens that pushes of a source must carry (`collector.push_tokens`). Only keyed digests are in memory, under a key of
 * this process; comparisons take as long for a wrong token as for a right one.
 */
export class PushTokens {
  readonly #key = randomBytes(32);
  readonly #bySource = new Map<string, Expected>();

  /** Throws `config_invalid` where a file cannot be read, holds no token, or one that is too short. */
  constructor(settings: Readonly<Record<string, PushToken>>) {
    for (const [source, { file, header }] of Object.entries(settings)) {
      const tokens = readTokens(source, file);
      const digests = tokens.map((t) => this.#digest(t));
      this.#bySource.set(source, { header: header.toLowerCase(), digests });
    }
  }

  /** Throws `unauthenticated` (401) where the source asks for a token and the request has none of them. */
  check(source: string, headers: IncomingHttpHeaders): void {
    const expected = this.#bySource.get(source);
    if (expected === undefined) return;
    const value = headers[expected.header];
    const given = typeof value === 'string' ? value.trim() : '';
    const behindScheme = given.slice(given.indexOf(' ') + 1).trim();
    let isKnown = false;
    for (const candidate of [given, behindScheme]) {
      const digest = this.#digest(candidate);
      for (const known of expected.digests) isKnown = timingSafeEqual(digest, known) || isKnown;
    }
    if (isKnown) return;
    throw new GrantscopeError(
      'unauthenticated',
      `source ${source}: ${given === '' ? 'no token' : 'not a token that is allowed'} in the header ${expected.header}; allowed: those of collector.push_tokens.${source}.file`,
      { stage: 'receiving' },
    );
  }

  #digest(token: string): Buffer {
    return createHmac('sha256', this.#key).update(token).digest();
  }
}

function readTokens(source: string, file: string): string[] {
  const refuse = (reason: string): GrantscopeError =>
    new GrantscopeError('config_invalid', `collector.push_tokens.${source}.file: ${reason}`, {
      stage: 'starting',
    });
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw refuse(`${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? ''})`);
  }
  const tokens = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (tokens.length === 0) throw refuse(`${file} is empty; allowed: one token a line`);
  if (tokens.some((t) => t.length < PUSH_TOKEN_LENGTH_MIN))
    throw refuse(`${file}: a token is shorter than ${PUSH_TOKEN_LENGTH_MIN} characters`);
  return tokens;
}
