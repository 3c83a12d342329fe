import { GrantscopeError } from '../../../runtime/errors.ts';

/** Deepest nesting of arrays and key-value lists in an attribute value or log body. */
export const VALUE_DEPTH_MAX = 32;

/** Spans or log records in one request. Exporters send 512 by default, collectors 8,192. */
export const RECORDS_PER_REQUEST_MAX = 100_000;

/**
 * Other messages in one request: resources, scopes, span events, links, arrays and key-value lists. An empty
 * one takes 2 bytes on the wire and a hundred in memory, so the limit on bytes alone would not bound memory.
 */
export const MESSAGES_PER_REQUEST_MAX = 1_000_000;

/**
 * Attributes in one request, nested ones too: each costs about ten microseconds to redact. 8,192 records of 60
 * stay below.
 */
export const ATTRIBUTES_PER_REQUEST_MAX = 500_000;

/** Brackets of a JSON body within one another: far beyond what `VALUE_DEPTH_MAX` takes, far below what costs. */
export const JSON_DEPTH_MAX = 512;

/**
 * Longest single text or bytes value, in UTF-16 units or bytes: the rest is cut before anything looks at it. What is
 * stored is cut far shorter (`TEXT_LENGTH_MAX`, `BODY_LENGTH_MAX`), but only after redaction, so that a secret is
 * not halved first; this bounds what redaction has to search, and what a vendor's adapter has to parse.
 */
export const VALUE_LENGTH_MAX = 1_048_576;

/** The value within `VALUE_LENGTH_MAX`. */
export function boundedText(text: string): string {
  return text.length > VALUE_LENGTH_MAX ? text.slice(0, VALUE_LENGTH_MAX) : text;
}

/** A body that is not what it claims to be. Answered with 400; the message never repeats the body. */
export function undecodable(reason: string): GrantscopeError {
  return new GrantscopeError('body_unreadable', `OTLP: ${reason}`, { stage: 'receiving' });
}

/** Counts what a request holds while it is decoded, and stops beyond the limits (413). */
export class DecodeBudget {
  #records = 0;
  #messages = 0;
  #attributes = 0;

  takeRecord(): void {
    this.#records += 1;
    if (this.#records > RECORDS_PER_REQUEST_MAX)
      throw tooMany('spans or log records', RECORDS_PER_REQUEST_MAX);
  }

  takeAttribute(): void {
    this.#attributes += 1;
    if (this.#attributes > ATTRIBUTES_PER_REQUEST_MAX)
      throw tooMany('attributes', ATTRIBUTES_PER_REQUEST_MAX);
  }

  takeMessage(): void {
    this.#messages += 1;
    if (this.#messages > MESSAGES_PER_REQUEST_MAX)
      throw tooMany('nested messages', MESSAGES_PER_REQUEST_MAX);
  }
}

function tooMany(what: string, most: number): GrantscopeError {
  return new GrantscopeError(
    'body_too_large',
    `OTLP: too many ${what} in one request; at most ${most}: send smaller batches`,
    { stage: 'receiving' },
  );
}
