import { isUuid } from '../../model/ids.ts';
import { isJson, type Json, own, textIn, timeNs } from './_reading.ts';

/** Values as Microsoft's cloud services write them. */

/** Longest text that is parsed as JSON inside a record, characters. */
const INNER_JSON_LENGTH_MAX = 65_536;
/** Entries read of one list. */
const LIST_ITEMS_MAX = 200;

const NIL_GUID = '00000000-0000-0000-0000-000000000000';
const US_TIME = /^(\d{1,2})\/(\d{1,2})\/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) ([AP])M$/;

/** A time in ns: as `timeNs`, and `M/D/YYYY h:mm:ss PM` in UTC, which risk detections carry. */
export function microsoftTime(value: unknown): bigint | undefined {
  const m = typeof value === 'string' && value.length <= 24 ? US_TIME.exec(value) : null;
  if (m === null) return timeNs(value);
  const [, month = '', day = '', year = '', hour = '', minute = '', second = '', half = ''] = m;
  const hours = Number(hour);
  if (hours < 1 || hours > 12) return undefined;
  const whole = (hours % 12) + (half === 'P' ? 12 : 0);
  const two = (n: number | string): string => String(n).padStart(2, '0');
  return timeNs(`${year}-${two(month)}-${two(day)}T${two(whole)}:${minute}:${second}Z`);
}

/** The first of several members that holds an id: absent literals and the GUID of zeros, which stands for nobody, do not count. */
export function idIn(value: Json, ...names: readonly string[]): string | undefined {
  for (const name of names) {
    const id = textIn(value, name)?.trim();
    if (id !== undefined && id !== '' && id !== NIL_GUID && !/^(?:<null>|null|-)$/i.test(id)) {
      return id;
    }
  }
  return undefined;
}

/** A member that is an object, or an object written as JSON text; {} otherwise. */
export function objectOrText(value: Json, name: string): Json {
  const member = parsed(own(value, name));
  return isJson(member) ? member : {};
}

/** The objects of a member that is a list, or a list written as JSON text. */
export function objectsIn(value: Json, name: string): readonly Json[] {
  const member = parsed(own(value, name));
  return Array.isArray(member)
    ? (member as readonly unknown[]).slice(0, LIST_ITEMS_MAX).filter(isJson)
    : [];
}

/** JSON text as what it says; anything else as it is. */
export function parsed(value: unknown): unknown {
  if (typeof value !== 'string' || value.length > INNER_JSON_LENGTH_MAX) return value;
  if (!/^\s{0,8}[[{"]/.test(value)) return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

/** The value of an entry of `[{key, value}]`, `[{Name, Value}]` or `[{displayName, newValue}]`, whose names differ in case at times. */
export function entryOf(list: readonly Json[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  for (const entry of list) {
    if (textIn(entry, 'key', 'Key', 'Name', 'displayName')?.toLowerCase() !== wanted) continue;
    const value = textIn(entry, 'value', 'Value', 'newValue', 'NewValue');
    if (value !== undefined) return unquoted(value);
  }
  return undefined;
}

/** Modified properties write texts as JSON: `"\"abc\""`. */
export function unquoted(value: string): string | undefined {
  const inner = value.startsWith('"') ? parsed(value) : value;
  const text = typeof inner === 'string' ? inner.trim() : value;
  return text === '' ? undefined : text;
}

/**
 * The unique token identifier as one GUID, whichever way a log writes it: the GUID itself, base64 of its text
 * (older sign-in logs), or base64url of its 16 bytes in the order of .NET (the `uti` claim, newer sign-in logs,
 * `signInActivityId` of the Graph logs). Other text stays as it is; the GUID of zeros is no identifier.
 */
export function tokenGuid(text: string | undefined): string | undefined {
  const value = text?.trim().replace(/=+$/, '') ?? '';
  if (value === '') return undefined;
  const guid = guidOf(value) ?? value;
  return guid === NIL_GUID ? undefined : guid;
}

function guidOf(value: string): string | undefined {
  if (isUuid(value)) return value.toLowerCase();
  if (/^[\w+/-]{22}$/.test(value)) return dotNetGuid(Buffer.from(value, 'base64url'));
  if (!/^[\w+/-]{48}$/.test(value)) return undefined;
  const inner = Buffer.from(value, 'base64url').toString('latin1');
  return isUuid(inner) ? inner.toLowerCase() : undefined;
}

/** .NET writes the first three groups with their low byte first. */
function dotNetGuid(bytes: Buffer): string {
  const group = (from: number, to: number): string => bytes.subarray(from, to).toString('hex');
  const turned = (from: number, to: number): string =>
    Buffer.from(bytes.subarray(from, to)).reverse().toString('hex');
  return [turned(0, 4), turned(4, 6), turned(6, 8), group(8, 10), group(10, 16)].join('-');
}
