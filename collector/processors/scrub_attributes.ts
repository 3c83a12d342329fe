import { setOwn } from '../set_own.ts';
import {
  REDACTED,
  type AttributeOptions,
  type Scrubber,
  type ScrubbedAttributes,
  type ScrubResult,
} from './scrubber.ts';

/** Default cut of one value, UTF-16 units. */
export const ATTRIBUTE_LENGTH_MAX = 32_768;
/** An attribute's key is cut here. */
export const ATTRIBUTE_KEY_LENGTH_MAX = 256;
/** Nested values deeper than this become `[too deep]`. */
export const NESTING_MAX = 8;
/** Nodes of one nested value; the rest is dropped. */
export const NODES_MAX = 2_000;
/** Bytes values are read this far beyond what is kept, characters, so that a secret at the cut is seen whole. */
const BYTES_MARGIN = 8_192;
/** Characters looked at in one nested value, for each that may be kept. */
const WORK_PER_ROOM = 4;

const HEADER_KEY = /^(?:.*\.)?(?:request|response)\.(?:header|metadata)\.(.+)$/;
/** Headers whose values are known to hold no secret. Everything else is dropped. */
const HEADERS_KEPT = new Set(
  (
    'accept accept-encoding accept-language age allow cache-control connection content-encoding ' +
    'content-language content-length content-type date etag expect expires host last-modified server ' +
    'traceparent transfer-encoding user-agent vary via x-forwarded-for x-forwarded-host x-forwarded-port ' +
    'x-forwarded-proto x-real-ip x-request-id retry-after'
  ).split(' '),
);
const URL_HEADERS = new Set(['referer', 'location', 'origin', 'content-location']);

const URL_KEYS = new Set(
  (
    'url.full url.original url.path http.url http.target http.request.uri url request_uri uri ' +
    'oauth.redirect_uri redirect_uri messaging.url peer.url link.url http.referer referer location'
  ).split(' '),
);
/** URLs that keep what looks random in their path. */
const ISSUER_KEYS = new Set(['oauth.issuer', 'iss', 'issuer']);
/** Parts of a URL that are nothing but parameters. */
const DROPPED_KEYS = new Set(['url.query', 'url.fragment', 'http.query', 'query_string']);
const PERSON_KEYS = new Set(
  (
    'enduser.id enduser.pseudo.id enduser.name enduser.email user.id user.name user.email user.full_name ' +
    'user.login user.upn user.phone user.hash user_id user_name user_email username preferred_username email ' +
    'given_name family_name nickname phone_number upn sub subject principal principal.name login account.name ' +
    'session.id session.previous_id session_id sid userid'
  ).split(' '),
);
/** Of those, what names a session. */
const SESSION_KEY = /^(?:session\.(?:id|previous_id)|session_id|sid)$/;
/**
 * Names of things, not of people, that look random. References are not among them: they are UUIDs, which every rule keeps, and
 * what stands in their place and is none must not be kept as one.
 */
const IDENTIFIER_KEY =
  /^(?:oauth\.(?:event\.id|client_id|requested_client_id|client_auth_method|endpoint|audience|resource|scopes_requested|scopes_granted|binding_thumbprint|acr|amr|request_id|redaction\.(?:next_)?key_id|token\.[^.]*\.[^.]*\.(?:kid|alg))|container\.(?:id|image\..*)|host\.(?:id|image\.id)|service\.(?:instance\.id|version)|k8s\..*|faas\..*|cloud\..*|process\.executable\.build_id\..*|vcs\..*|telemetry\..*|deployment\..*|code\.(?:function|filepath|namespace|file\.path|function\.name)|url\.template|.*(?:trace|span|request|correlation)[._-]?id)$/;

/**
 * Redacts the attributes of a span, log record, event, link, scope or resource. Secret keys lose their
 * value; headers are kept by allow-list; URLs lose userinfo, query and fragment; everything else is
 * scrubbed as text. Keys are scrubbed too, since a key can be made of user input.
 */
export function scrubAttributeMap(
  scrubber: Scrubber,
  attributes: Readonly<Record<string, unknown>>,
  options: AttributeOptions,
): ScrubbedAttributes {
  const kept: Record<string, string> = {};
  const redacted: string[] = [];
  let cut = 0;
  let isRenamed = false;
  for (const rawKey of Object.keys(attributes)) {
    const treatment = treatmentOf(scrubber, rawKey);
    const value = attributes[rawKey];
    const { text, changed, cut: isCut = false } = scrubOne(scrubber, treatment, value, options);
    // Names differ until one is scrubbed.
    isRenamed ||= treatment.key !== rawKey;
    const key = isRenamed ? freeName(treatment.key, kept) : rawKey;
    setOwn(kept, key, text);
    if (changed || key !== rawKey) redacted.push(key);
    if (isCut || rawKey.length > ATTRIBUTE_KEY_LENGTH_MAX) cut += 1;
  }
  return { attributes: kept, redacted, cut };
}

/** Two keys that scrub to the same name must not hide one another. */
function freeName(key: string, taken: Readonly<Record<string, string>>): string {
  let name = key;
  for (let n = 2; Object.hasOwn(taken, name); n += 1) name = `${key}#${n}`;
  return name;
}

/** What is done with an attribute, as far as its key says. */
interface Treatment {
  /** The key, scrubbed. */
  readonly key: string;
  readonly kind:
    'header' | 'url' | 'issuer' | 'dropped' | 'person' | 'secret' | 'identifier' | 'text';
  /** In lower case; of a header its own name. */
  readonly name: string;
}

/** Keys whose treatment is remembered: the same ones come with every record. A full memory is emptied. */
const TREATMENTS_REMEMBERED_MAX = 4_096;
const treatments = new WeakMap<Scrubber, Map<string, Treatment>>();

function treatmentOf(scrubber: Scrubber, rawKey: string): Treatment {
  let known = treatments.get(scrubber);
  if (known === undefined) {
    known = new Map();
    treatments.set(scrubber, known);
  }
  let treatment = known.get(rawKey);
  if (treatment === undefined) {
    const key = scrubber.scrubText(rawKey, ATTRIBUTE_KEY_LENGTH_MAX).text;
    treatment = { key, ...kindOf(scrubber, rawKey) };
    if (rawKey.length > ATTRIBUTE_KEY_LENGTH_MAX) return treatment;
    if (known.size >= TREATMENTS_REMEMBERED_MAX) known.clear();
    known.set(rawKey, treatment);
  }
  return treatment;
}

function kindOf(scrubber: Scrubber, key: string): Pick<Treatment, 'kind' | 'name'> {
  const name = key.toLowerCase();
  const header = HEADER_KEY.exec(name)?.[1];
  if (header !== undefined) return { kind: 'header', name: header };
  if (URL_KEYS.has(name)) return { kind: 'url', name };
  if (ISSUER_KEYS.has(name)) return { kind: 'issuer', name };
  if (DROPPED_KEYS.has(name)) return { kind: 'dropped', name };
  if (PERSON_KEYS.has(name)) return { kind: 'person', name };
  if (scrubber.isSecretKey(key)) return { kind: 'secret', name };
  return { kind: IDENTIFIER_KEY.test(name) ? 'identifier' : 'text', name };
}

interface Scrubbed {
  readonly text: string;
  readonly changed: boolean;
  /** True where a limit left out a part of it. */
  readonly cut?: boolean;
}

/** A text result, and whether it reached its length. */
function noted(before: string, { text, changed }: ScrubResult, max: number): Scrubbed {
  return { text, changed, cut: changed && before.length > max && text.length >= max - 1 };
}

const dropped = (value: string): Scrubbed => ({
  text: value === '' ? '' : REDACTED,
  changed: value !== '',
});

function scrubOne(
  scrubber: Scrubber,
  { kind, name }: Treatment,
  value: unknown,
  options: AttributeOptions,
): Scrubbed {
  const max = options.maxLength ?? ATTRIBUTE_LENGTH_MAX;
  switch (kind) {
    case 'header':
      return scrubHeader(scrubber, name, value, max);
    case 'url':
      return scrubUrlValue(value, max, (url) => scrubber.scrubUrl(url));
    case 'issuer':
      return scrubUrlValue(value, max, (url) => scrubber.scrubIssuer(url));
    case 'dropped':
      return dropped(plainText(value));
    case 'person':
      return person(name, value, options);
    case 'secret':
      return isNothing(value) ? clean(value) : dropped('x');
    case 'identifier':
    case 'text':
      if (typeof value === 'object' && value !== null)
        return scrubNested(scrubber, value, max, options);
      if (typeof value !== 'string') return clean(value);
      return noted(
        value,
        kind === 'identifier'
          ? scrubber.scrubIdentifier(value, max)
          : scrubber.scrubText(value, max),
        max,
      );
  }
}

/** People and sessions: a reference where the caller makes one, else nothing. Several make a list of references. */
function person(name: string, value: unknown, options: AttributeOptions): Scrubbed {
  const { pseudonymise } = options;
  const kind = SESSION_KEY.test(name) ? 'session' : 'subject';
  if (pseudonymise !== undefined && Array.isArray(value)) {
    const refs = value.slice(0, NODES_MAX).map((v) => {
      const text = plainText(v);
      return typeof v === 'object' || text === '' ? '' : pseudonymise(text, kind);
    });
    return { text: JSON.stringify(refs), changed: true, cut: value.length > NODES_MAX };
  }
  const text = plainText(value);
  if (text === '' || pseudonymise === undefined || typeof value === 'object') return dropped(text);
  return { text: pseudonymise(text, kind), changed: true };
}

function isNothing(value: unknown): boolean {
  return value === undefined || value === null || value === '' || typeof value === 'boolean';
}

function clean(value: unknown): Scrubbed {
  return { text: plainText(value), changed: false };
}

function plainText(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
    case 'bigint':
    case 'boolean':
      return String(value);
    case 'object':
      return value === null ? '' : 'x';
    default:
      return '';
  }
}

function scrubHeader(scrubber: Scrubber, header: string, value: unknown, max: number): Scrubbed {
  const name = header.replaceAll('_', '-');
  if (URL_HEADERS.has(name)) return scrubUrlValue(value, max, (url) => scrubber.scrubUrl(url));
  if (!HEADERS_KEPT.has(name)) return dropped(plainText(value));
  return typeof value === 'object' && value !== null
    ? scrubNested(scrubber, value, max, {})
    : scrubber.scrubText(plainText(value), max);
}

function scrubUrlValue(value: unknown, max: number, scrub: (url: string) => string): Scrubbed {
  if (Array.isArray(value)) {
    const urls = value.map((v) => (typeof v === 'string' ? scrub(v) : REDACTED));
    const text = JSON.stringify(urls).slice(0, max);
    return { text, changed: JSON.stringify(value) !== text };
  }
  const text = plainText(value);
  const scrubbed = scrub(text).slice(0, max);
  return { text: scrubbed, changed: scrubbed !== text };
}

/** Arrays, kvlists and bytes, as JSON text. */
function scrubNested(
  scrubber: Scrubber,
  value: object,
  max: number,
  options: AttributeOptions,
): Scrubbed {
  const walk = new NestedWalk(scrubber, max, options);
  const result = walk.visit(value, 0);
  const json = typeof result === 'string' ? result : JSON.stringify(result);
  const text = json.length > max ? json.slice(0, max) : json;
  return { text, changed: walk.changed || text !== json, cut: walk.cut || text !== json };
}

class NestedWalk {
  readonly #scrubber: Scrubber;
  readonly #options: AttributeOptions;
  /** Characters that may still be kept; what comes after would be cut from the JSON anyway. */
  #room: number;
  /** Characters that may still be looked at: secrets take no room, but work. */
  #work: number;
  #nodes = 0;
  changed = false;
  /** True where a limit (nodes, depth, length) left something out. */
  cut = false;

  constructor(scrubber: Scrubber, max: number, options: AttributeOptions) {
    this.#scrubber = scrubber;
    this.#options = options;
    this.#room = max;
    this.#work = WORK_PER_ROOM * max;
  }

  visit(value: unknown, depth: number): unknown {
    this.#nodes += 1;
    if (this.#nodes > NODES_MAX) return this.#leaveOut('[too many]');
    if (typeof value === 'string') return this.#text(value);
    if (typeof value === 'bigint') return String(value);
    if (typeof value !== 'object' || value === null) return value;
    if (depth >= NESTING_MAX) return this.#leaveOut('[too deep]');
    if (value instanceof Uint8Array) return this.#bytes(value);
    if (Array.isArray(value)) return this.#list(value, depth);
    return this.#map(value, depth);
  }

  #drop(mark: string): string {
    this.changed = true;
    return mark;
  }

  #leaveOut(mark: string): string {
    this.cut = true;
    return this.#drop(mark);
  }

  #text(text: string): string {
    if (this.#room <= 0 || this.#work <= 0) return this.#leaveOut('');
    const scrubbed = this.#scrubber.scrubText(text, this.#room);
    if (scrubbed.changed) this.changed = true;
    if (text.length > this.#room) this.cut = true;
    // At least one: texts of nothing are counted as nodes, and cost a look.
    this.#work -= text.length;
    this.#room -= Math.max(1, scrubbed.text.length);
    return scrubbed.text;
  }

  /** Bytes that are text are scrubbed as text; others cannot be looked into. */
  #bytes(bytes: Uint8Array): string {
    // Up to four bytes a character; what lies beyond the room is cut.
    const length = Math.min(bytes.byteLength, 4 * (this.#room + BYTES_MARGIN));
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, length).toString('utf8');
    return /[\u0000-\u0008\u000e-\u001f\ufffd]/.test(text)
      ? this.#drop(`[${bytes.byteLength} bytes]`)
      : this.#text(text);
  }

  #list(list: readonly unknown[], depth: number): unknown[] {
    const [name, value] = list;
    // A header or parameter as a pair: ["authorization", "..."].
    if (list.length === 2 && typeof name === 'string' && this.#scrubber.isSecretKey(name)) {
      if (typeof value === 'string') return [name, this.#drop(REDACTED)];
    }
    const kept = list.slice(0, NODES_MAX);
    if (kept.length < list.length) this.#leaveOut('');
    return kept.map((item) => this.visit(item, depth + 1));
  }

  /** A person is one at any depth. */
  #member(key: string, value: unknown, depth: number): unknown {
    const name = key.toLowerCase();
    const isOne = typeof value !== 'object' && !isNothing(value) && PERSON_KEYS.has(name);
    if (!isOne) return this.visit(value, depth + 1);
    this.changed = true;
    return person(name, value, this.#options).text;
  }

  #map(map: object, depth: number): Record<string, unknown> {
    const entries = Object.entries(map) as [string, unknown][];
    const named = entries.some(
      ([k, v]) =>
        /^(?:name|key|header)$/i.test(k) && typeof v === 'string' && this.#scrubber.isSecretKey(v),
    );
    const out: [string, unknown][] = [];
    for (const [key, value] of entries.slice(0, NODES_MAX)) {
      const secret =
        this.#scrubber.isSecretKey(key) || (named && /^(?:value|values|.*Value)$/.test(key));
      const kept =
        secret && !isNothing(value) ? this.#drop(REDACTED) : this.#member(key, value, depth);
      out.push([this.#text(key), kept]);
    }
    if (entries.length > NODES_MAX) this.#leaveOut('');
    return Object.fromEntries(out);
  }
}
