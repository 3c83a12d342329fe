import type { ParseResult, RejectCode } from '../../model/define_source.ts';

/** Reading aids for adapters: take values of foreign records apart without trusting their types. */

export type Json = Readonly<Record<string, unknown>>;

type Given<V> = {
  [K in keyof V as undefined extends V[K] ? never : K]: V[K];
} & { [K in keyof V as undefined extends V[K] ? K : never]?: Exclude<V[K], undefined> };

/** An object without the members that are undefined: what a source does not say is left out of a draft. */
export function given<const V extends object>(members: V): Given<V> {
  // A plain loop: this runs a dozen times for every event. The names are ours, never a sender's, and of a literal's own.
  const kept: Record<string, unknown> = {};
  const all = members as Readonly<Record<string, unknown>>;
  for (const name in all) {
    const value = all[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept as Given<V>;
}

export function refuse(code: RejectCode, message: string): ParseResult {
  return { ok: false, code, message };
}

export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A member of an object that is itself an object; {} otherwise. */
export function objectIn(value: unknown, name: string): Json {
  const member = isJson(value) ? own(value, name) : undefined;
  return isJson(member) ? member : {};
}

/** An own member: never one of Object.prototype. */
export function own(value: Json, name: string): unknown {
  return Object.hasOwn(value, name) ? value[name] : undefined;
}

/** An entry of a table of ours by a foreign name: never one of Object.prototype. */
export function lookUp<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** A scalar as text; undefined for '', objects, arrays and nothing. */
export function scalarText(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') {
    return String(value);
  }
  return undefined;
}

/** The first of several members that holds text. */
export function textIn(value: Json, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const text = scalarText(own(value, name));
    if (text !== undefined) return text;
  }
  return undefined;
}

/**
 * Texts of an array, or one text, as a list; undefined where there is none. Scopes stay together here: they
 * are scrubbed as a whole before they are parted, for a secret can only be told by what stands around it.
 */
export function textList(value: unknown): string[] | undefined {
  const items = Array.isArray(value) ? (value as readonly unknown[]) : [value];
  const texts = items.map(scalarText).filter((t) => t !== undefined);
  return texts.length === 0 ? undefined : texts;
}

/** A finite number, also as text; undefined otherwise. */
export function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'string' || !/^\s{0,4}-?\d{1,20}(?:\.\d{1,20})?\s{0,4}$/.test(value)) {
    return undefined;
  }
  return Number(value);
}

/** The value, if it is one of a closed list. */
export function oneOf<T extends string>(values: readonly T[], value: unknown): T | undefined {
  return values.find((v) => v === value);
}

const ISO_TIME =
  /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2}):(\d{2})(?:[.,](\d{1,12}))?\s?(Z|[+-]\d{2}:?\d{2})?$/;
const DAYS_MAX = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const TIME_TEXT_LENGTH_MAX = 48;

/**
 * A time in ns since the epoch: ISO 8601 (without a zone: UTC), or epoch seconds, milliseconds,
 * microseconds or nanoseconds as number or text, told apart by their size. undefined for anything else.
 */
export function timeNs(value: unknown): bigint | undefined {
  if (typeof value === 'bigint') return fromEpoch(value, '');
  if (typeof value === 'number') {
    if (!Number.isFinite(value) || Math.abs(value) >= 1e21) return undefined;
    // Whole seconds and milliseconds, as claims and loggers have them.
    if (value >= 0 && value < 1e14 && Number.isInteger(value)) {
      return BigInt(value) * (value < 1e11 ? 1_000_000_000n : 1_000_000n);
    }
    return timeNs(String(value));
  }
  if (typeof value !== 'string' || value.length > TIME_TEXT_LENGTH_MAX) return undefined;
  if (value === lastText) return lastNs;
  lastText = value;
  lastNs = ofText(value);
  return lastNs;
}

/** A record's time is asked for twice: when it is checked and when it is read. */
let lastText = '';
let lastNs: bigint | undefined;

function ofText(value: string): bigint | undefined {
  const epoch = /^(-?\d{1,19})(?:\.(\d{1,12}))?$/.exec(value.trim());
  if (epoch !== null) return fromEpoch(BigInt(epoch[1] ?? '0'), epoch[2] ?? '');
  return fromIso(value.trim());
}

function fromEpoch(whole: bigint, fraction: string): bigint {
  const size = whole < 0n ? -whole : whole;
  // Digits of a unit below the nanosecond do not exist; 1e11 s is the year 5138.
  const digits =
    size < 100_000_000_000n ? 9 : size < 100_000_000_000_000n ? 6 : size < 10n ** 17n ? 3 : 0;
  const part = BigInt(fraction.slice(0, digits).padEnd(digits, '0') || '0');
  return whole * 10n ** BigInt(digits) + (whole < 0n ? -part : part);
}

/**
 * `2026-01-05T12:00:00.000Z`, as Date.toISOString and most loggers write it. The last days of a month and a day's
 * hour 24, about which the engine's parser is generous, are left to the strict one.
 */
const USUAL_ISO_TIME =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/;

let lastMinute = '';
let lastMinuteMs = 0;

/** Neighbouring records are of the same minute, which is worked out once. */
function fromUsualIso(text: string): bigint {
  const minute = text.slice(0, 17);
  if (minute !== lastMinute) {
    lastMinuteMs = Date.parse(`${minute}00.000Z`);
    lastMinute = minute;
  }
  const ms = Number(text.slice(17, 19)) * 1_000 + Number(text.slice(20, 23));
  return BigInt(lastMinuteMs + ms) * 1_000_000n;
}

function fromIso(text: string): bigint | undefined {
  if (text.length === 24 && USUAL_ISO_TIME.test(text)) return fromUsualIso(text);
  const m = ISO_TIME.exec(text);
  if (m === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = m
    .slice(1, 7)
    .map(Number);
  const inRange =
    month >= 1 &&
    day >= 1 &&
    day <= (DAYS_MAX[month - 1] ?? 0) &&
    hour < 24 &&
    minute < 60 &&
    second <= 60;
  if (!inRange) return undefined;
  const ms = Date.UTC(year, month - 1, day, hour, minute, second) - zoneMs(m[8] ?? 'Z');
  return BigInt(ms) * 1_000_000n + BigInt((m[7] ?? '').slice(0, 9).padEnd(9, '0'));
}

function zoneMs(zone: string): number {
  if (zone === 'Z') return 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2));
  return (zone.startsWith('-') ? -minutes : minutes) * 60_000;
}

/** Why a time was refused, in the words of a rejection. */
export const TIME_ALLOWED = 'allowed: ISO 8601, or epoch seconds, ms, µs or ns';
