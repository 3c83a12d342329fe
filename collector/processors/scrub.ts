import { compilePattern } from '../../runtime/linear_pattern.ts';
import type { RedactionSettings } from '../../runtime/redaction_settings.ts';
import { replaceSecrets } from './replace_secrets.ts';
import { couldHoldSecret, type ScanContext, type TextPattern } from './secret_scanners.ts';
import { createKeyClassifier, KEY_CLASS, type KeyClass } from './secret_keys.ts';
import { scrubAttributeMap } from './scrub_attributes.ts';
import type { AttributeOptions, Scrubber, ScrubbedAttributes, ScrubResult } from './scrubber.ts';

export type { Scrubber, ScrubResult, ScrubbedAttributes, AttributeOptions };

/** Texts found clean are remembered, since the same names recur in nearly every event. */
const REMEMBERED_TEXTS_MAX = 4_096;
const REMEMBERED_TEXT_LENGTH_MAX = 200;
/**
 * Longest text that is looked at, UTF-16 units; what lies beyond is dropped. Bounds what one hostile value costs, and
 * the stack that a pattern needs for one long run.
 */
export const SCRUB_LENGTH_MAX = 262_144;
/** Longest URL that is kept: what a column or an attribute takes at most. */
const SCRUBBED_URL_LENGTH_MAX = 32_768;
/** Looked at beyond what is kept, so that a secret that begins in the kept part is seen whole enough to be known. */
const MARGIN = 8_192;

/** A way to look at a text, and what it left as it was. */
interface Way {
  readonly context: ScanContext;
  readonly clean: Set<string>;
}

class DefaultScrubber implements Scrubber {
  readonly #classify: (key: string) => KeyClass;
  readonly #freeText: Way;
  readonly #identifiers: Way;
  readonly #issuers: Way;

  constructor(options: ScrubberOptions) {
    this.#classify = createKeyClassifier(options.extraKeys ?? [], options.allowedKeys);
    const shared = { classify: this.#classify, patterns: options.patterns ?? [] };
    this.#freeText = { context: { ...shared, free: true }, clean: new Set() };
    this.#identifiers = { context: { ...shared, free: false }, clean: new Set() };
    this.#issuers = { context: { ...shared, free: true, isRandomKept: true }, clean: new Set() };
  }

  scrubText(text: string, maxLength = SCRUB_LENGTH_MAX): ScrubResult {
    return cut(scrub(bounded(text, maxLength), this.#freeText), text, maxLength);
  }

  scrubIdentifier(text: string, maxLength = SCRUB_LENGTH_MAX): ScrubResult {
    return cut(scrub(bounded(text, maxLength), this.#identifiers), text, maxLength);
  }

  scrubUrl(url: string): string {
    return scrubbedUrl(url, this.#freeText);
  }

  scrubIssuer(url: string): string {
    return scrubbedUrl(url, /^https?:\/\//i.test(url) ? this.#issuers : this.#freeText);
  }

  isSecretKey(key: string): boolean {
    return this.#classify(key) !== KEY_CLASS.plain;
  }

  scrubAttributes(
    attributes: Readonly<Record<string, unknown>>,
    options: AttributeOptions = {},
  ): ScrubbedAttributes {
    return scrubAttributeMap(this, attributes, options);
  }
}

function scrub(text: string, { context, clean }: Way): string {
  const mayBeClean = context.patterns.length === 0;
  if (mayBeClean && (isPlainId(text) || !couldHoldSecret(text, context.free))) return text;
  if (text.length <= REMEMBERED_TEXT_LENGTH_MAX && clean.has(text)) return text;
  const scrubbed = replaceSecrets(text, context);
  if (scrubbed === text && text.length <= REMEMBERED_TEXT_LENGTH_MAX) {
    if (clean.size >= REMEMBERED_TEXTS_MAX) clean.clear();
    clean.add(text);
  }
  return scrubbed;
}

function scrubbedUrl(url: string, way: Way): string {
  const limit = SCRUBBED_URL_LENGTH_MAX + MARGIN;
  const kept = bareUrl(url.length > limit ? url.slice(0, limit) : url);
  return cut(scrub(bounded(kept, SCRUBBED_URL_LENGTH_MAX), way), kept, SCRUBBED_URL_LENGTH_MAX)
    .text;
}

/** Trace, span and object ids: as many as there are events, so that remembering them would not help. */
const PLAIN_ID =
  /^(?:[0-9a-f]{16,40}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/;

function isPlainId(text: string): boolean {
  return text.length <= 40 && PLAIN_ID.test(text);
}

/** What an installation adds to the rules, from `redaction` of the configuration. */
export interface ScrubberOptions {
  readonly extraKeys?: readonly string[];
  readonly allowedKeys?: readonly string[];
  readonly patterns?: readonly TextPattern[];
}

export function createScrubber(options: ScrubberOptions = {}): Scrubber {
  return new DefaultScrubber(options);
}

/** The options that the configuration asks for. Its patterns are checked already, and compiled here. */
export function scrubberOptions(settings: RedactionSettings): ScrubberOptions {
  return {
    extraKeys: settings.extra_keys,
    allowedKeys: settings.allowed_keys,
    patterns: settings.patterns.map(({ name, regex }) => ({
      name,
      find: compilePattern(regex).find,
    })),
  };
}

/** What tokens, keys and escapes are made of. */
const RUN_CHARACTER = /[A-Za-z0-9+/_=.%~-]/;

/**
 * The part of a text that is scrubbed. It ends between two runs of token characters: half a secret at the end might
 * have no shape any more, and could come into the kept part when what stands before it is replaced by less. A run
 * that fills the whole margin is long enough to be known by what is left of it.
 */
function bounded(text: string, maxLength: number): string {
  const limit = Math.min(maxLength, SCRUB_LENGTH_MAX) + MARGIN;
  if (text.length <= limit) return text;
  for (let end = limit; end > limit - MARGIN; end -= 1) {
    if (!RUN_CHARACTER.test(text.charAt(end))) return withoutHalfPair(text.slice(0, end));
  }
  return withoutHalfPair(text.slice(0, limit));
}

function cut(scrubbed: string, original: string, maxLength: number): ScrubResult {
  const max = Math.min(maxLength, SCRUB_LENGTH_MAX);
  const text = scrubbed.length > max ? withoutHalfPair(scrubbed.slice(0, max)) : scrubbed;
  return { text, changed: text !== original };
}

/** A cut in the middle of a surrogate pair would leave text that is no UTF-8. */
function withoutHalfPair(text: string): string {
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last <= 0xdbff ? text.slice(0, -1) : text;
}

/** Cuts a URL by hand, since what attackers send often is no URL for a parser. */
function bareUrl(url: string): string {
  const trimmed = url.replace(/[\u0000-\u001f\u007f]+/g, ' ').trim();
  const end = trimmed.search(/[?#]/);
  const bare = end < 0 ? trimmed : trimmed.slice(0, end);
  const authority = /^([A-Za-z][A-Za-z0-9+.-]{0,63}:)?\/\//.exec(bare)?.[0];
  if (authority === undefined) return bare;
  const rest = bare.slice(authority.length);
  const slash = rest.indexOf('/');
  const host = slash < 0 ? rest : rest.slice(0, slash);
  const sign = host.lastIndexOf('@');
  return sign < 0 ? bare : authority + rest.slice(sign + 1);
}

const defaultScrubber = createScrubber();

/** {@link Scrubber.scrubText} without extra keys. */
export function scrubText(text: string, maxLength?: number): ScrubResult {
  return defaultScrubber.scrubText(text, maxLength);
}

/** {@link Scrubber.scrubUrl} without extra keys. */
export function scrubUrl(url: string): string {
  return defaultScrubber.scrubUrl(url);
}

/** {@link Scrubber.scrubIssuer} without extra keys. */
export function scrubIssuer(url: string): string {
  return defaultScrubber.scrubIssuer(url);
}

/** {@link Scrubber.isSecretKey} without extra keys. */
export function isSecretKey(key: string): boolean {
  return defaultScrubber.isSecretKey(key);
}

/** {@link Scrubber.scrubAttributes} without extra keys. */
export function scrubAttributes(
  attributes: Readonly<Record<string, unknown>>,
  options?: AttributeOptions,
): ScrubbedAttributes {
  return defaultScrubber.scrubAttributes(attributes, options);
}
