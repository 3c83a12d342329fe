import { isIP } from 'node:net';
import type { SourceRecord } from '../../model/define_source.ts';
import { isAbsentLiteral, isMaskedLiteral } from '../processors/canonical_token.ts';
import { networkOf, normaliseIp } from '../processors/enrich.ts';
import { REDACTED, type Scrubber } from '../processors/scrubber.ts';
import { DEPTH_MAX, nestingOf } from '../receivers/cut_records.ts';
import {
  isProfile,
  placeWithin,
  TOP,
  treatmentOf,
  type Place,
  type Treatment,
} from './field_treatment.ts';
import { isUuidName, replaceMarkers, type Markers } from './marker.ts';
import { namedValues } from './named_values.ts';

/** Largest record that is kept, UTF-16 units of its text before redaction. */
export const LETTER_CHARS_MAX = 16_384;
/** Names of fields are cut here. */
const NAME_LENGTH_MAX = 256;
/** JSON within a string is taken apart this often. */
const JSON_IN_TEXT_MAX = 2;

export interface RedactRecordContext {
  readonly scrubber: Scrubber;
  readonly markers: Markers;
  /** `redaction.client_ip` of the configuration. */
  readonly clientIp: 'keep' | 'truncate' | 'hash';
}

export interface RedactedRecord {
  /** JSON text, or the line. */
  readonly text: string;
  /** Values that were replaced, scrubbed or cut. */
  readonly redactions: number;
}

/** The size of a record as `LETTER_CHARS_MAX` counts it; stops counting beyond that. */
export function sizeOfRecord(record: SourceRecord): number {
  if (record.form === 'text') return record.line.length;
  let size = 0;
  const open: unknown[] = [record.value];
  while (open.length > 0 && size <= LETTER_CHARS_MAX) {
    const value = open.pop();
    if (typeof value === 'string') size += value.length + 3;
    else if (typeof value !== 'object' || value === null) size += 6;
    else {
      size += 2;
      // A plain loop that ends early: a hostile record has a million members.
      for (const key in value) {
        size += key.length + 4;
        if (size > LETTER_CHARS_MAX) break;
        open.push((value as Readonly<Record<string, unknown>>)[key]);
      }
    }
  }
  return size;
}

/**
 * A refused record without anything that must not be stored. Secrets, people, sessions, grants and token ids
 * become markers (see marker.ts), so that an adapter that reads the record later comes to the references that
 * the events around it have; all other text is scrubbed. The caller has checked size and depth.
 */
export function redactRecord(record: SourceRecord, context: RedactRecordContext): RedactedRecord {
  const redaction = new RecordRedaction(context);
  const text =
    record.form === 'text'
      ? redaction.text(record.line, 0)
      : JSON.stringify(redaction.value(record.value, 'text', TOP, 0));
  return { text, redactions: redaction.count };
}

class RecordRedaction {
  readonly #context: RedactRecordContext;
  readonly #isSecretKey: (key: string) => boolean;
  count = 0;

  constructor(context: RedactRecordContext) {
    this.#context = context;
    this.#isSecretKey = (key) => context.scrubber.isSecretKey(key);
  }

  /** `jsonDepth`: how many strings of JSON it stands in. */
  value(value: unknown, treatment: Treatment, place: Place, jsonDepth: number): unknown {
    if (typeof value === 'string') return this.#leaf(value, treatment, jsonDepth);
    if (typeof value === 'number' || typeof value === 'bigint') {
      const isKept = treatment !== 'reference' && treatment !== 'own_reference';
      return isKept ? value : this.#reference(String(value), treatment);
    }
    if (typeof value !== 'object' || value === null) return value;
    return Array.isArray(value)
      ? this.#list(value, treatment, place, jsonDepth)
      : this.#object(value, place, jsonDepth);
  }

  /** Lists of names and values in turn (raw headers) count as names and values. */
  #list(
    items: readonly unknown[],
    treatment: Treatment,
    place: Place,
    jsonDepth: number,
  ): unknown[] {
    return items.map((item, i) => {
      const before = items[i - 1];
      const isNamed = typeof before === 'string' && this.#isSecretKey(before);
      return this.value(item, isNamed ? 'reference' : treatment, place, jsonDepth);
    });
  }

  #object(value: object, place: Place, jsonDepth: number): unknown {
    const entries = Object.entries(value);
    const given = entries.find(
      ([k, v]) => typeof v === 'string' && /^(?:name|key|header)$/i.test(k),
    );
    // `{"name": "authorization", "value": ...}`: the name of the value is a value itself.
    const namedBy = given === undefined ? undefined : String(given[1]);
    const here = isProfile(entries.map(([name]) => name)) ? { ...place, isProfile: true } : place;
    const kept = entries.map(([name, inner]): [string, unknown] => {
      const isValue = namedBy !== undefined && /^(?:values?|.*Value)$/.test(name);
      const key = isValue ? namedBy : name;
      const how = treatmentOf(key, here, this.#isSecretKey);
      const isNested = typeof inner === 'object' && inner !== null;
      const within = isNested ? placeWithin(key, place, this.#isSecretKey) : place;
      return [this.#name(name), this.value(inner, how, within, jsonDepth)];
    });
    // fromEntries defines own properties, so `__proto__` is a name like any other.
    return Object.fromEntries(kept);
  }

  #name(name: string): string {
    const { text, changed } = this.#context.scrubber.scrubText(name, NAME_LENGTH_MAX);
    if (changed) this.count += 1;
    return text;
  }

  #leaf(value: string, treatment: Treatment, jsonDepth: number): string {
    if (treatment === 'reference' || treatment === 'own_reference')
      return this.#reference(value, treatment);
    if (treatment === 'issuer') return this.#issuer(value, jsonDepth);
    if (treatment === 'text' || /[\s=:]/.test(value)) return this.text(value, jsonDepth);
    const after = this.#withoutAddresses(this.#context.scrubber.scrubIdentifier(value).text);
    return this.#noted(value, after);
  }

  /** Kept as an event keeps it, so that it is the same after a replay; one with more than a path is text like any other. */
  #issuer(value: string, jsonDepth: number): string {
    const isBare = /^https?:\/\/[^\s?#@]+$/i.test(value);
    const [named] = namedValues(value, this.#isSecretKey);
    if (!isBare || named !== undefined) return this.text(value, jsonDepth);
    const after = this.#withoutAddresses(this.#context.scrubber.scrubIssuer(value));
    return this.#noted(value, after);
  }

  /** Words for "nothing" and "masked" stay: they name nobody, and adapters know them. */
  #reference(value: string, treatment: Treatment): string {
    const text = value.trim();
    if (isAbsentLiteral(text) || isMaskedLiteral(text)) return value;
    if (treatment === 'own_reference' && isUuidName(text)) return value;
    this.count += 1;
    return this.#context.markers.make(value);
  }

  #noted(before: string, after: string): string {
    if (after === before) return after;
    this.count += 1;
    // Nothing is left of it, so at least its reference is kept.
    return after.trim() === REDACTED ? this.#context.markers.make(before) : after;
  }

  /** Free text, a line, a URL, a form, or JSON in a string. */
  text(value: string, jsonDepth: number): string {
    const json = this.#jsonText(value, jsonDepth);
    if (json !== undefined) return json;
    const { scrubber, markers } = this.#context;
    let replaced = 0;
    const pieces: string[] = [];
    let done = 0;
    const scrub = (text: string): string => this.#withoutAddresses(scrubber.scrubText(text).text);
    for (const { start, end } of namedValues(value, this.#isSecretKey)) {
      const named = value.slice(start, end);
      if (isAbsentLiteral(named.trim()) || isMaskedLiteral(named.trim())) continue;
      pieces.push(scrub(value.slice(done, start)), markers.make(named));
      done = end;
      replaced += 1;
    }
    if (replaced === 0) return this.#noted(value, scrub(value));
    const result = pieces.join('') + scrub(value.slice(done));
    this.count += replaced;
    // What was parted may be a secret as a whole; then it is scrubbed as one, and nothing of it joins.
    const seen = replaceMarkers(result, REDACTED);
    return scrub(seen) === seen ? result : scrub(value);
  }

  #jsonText(value: string, jsonDepth: number): string | undefined {
    if (jsonDepth >= JSON_IN_TEXT_MAX || !/^\s{0,16}[[{]/.test(value)) return undefined;
    if (nestingOf(value) > DEPTH_MAX) return undefined;
    try {
      return JSON.stringify(this.value(JSON.parse(value), 'text', TOP, jsonDepth + 1));
    } catch {
      return undefined;
    }
  }

  /** With `redaction.client_ip` other than `keep` no address stays, wherever it stands. */
  #withoutAddresses(text: string): string {
    if (this.#context.clientIp === 'keep') return text;
    return text.replace(ADDRESS, (found) => {
      if (isIP(found) === 0) return found;
      if (this.#context.clientIp === 'hash') return REDACTED;
      const network = networkOf(normaliseIp(found));
      return network.slice(0, network.indexOf('/'));
    });
  }
}

const ADDRESS =
  /(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-f]{0,4}:){2,8}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}))(?![\w.])/gi;
