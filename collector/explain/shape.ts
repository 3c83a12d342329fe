import { isUuid } from '../../model/ids.ts';
import { scrubText } from '../processors/scrub.ts';

/** Names of fields in an explanation are cut here. */
const NAME_LENGTH_MAX = 120;

/** What a value looks like, without a character of it: its kind and its length. */
export function shapeOf(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'boolean') return 'true or false';
  if (typeof value === 'number' || typeof value === 'bigint') return 'number';
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`;
  if (Array.isArray(value)) return `list of ${value.length}`;
  if (typeof value === 'object') return `object of ${Object.keys(value).length}`;
  return typeof value === 'string' ? shapeOfText(value) : 'nothing';
}

function shapeOfText(text: string): string {
  const size = `${text.length} characters`;
  if (text === '') return 'empty text';
  const parts = text.split('.').length;
  if (/^eyJ[A-Za-z0-9_-]+\./.test(text)) return `JWT, ${parts} parts, ${size}`;
  if (isUuid(text)) return 'UUID';
  if (/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(text)) return `URL, ${size}`;
  if (/^[^\s@]+@[^\s@]+\.[A-Za-z]{2,}$/.test(text)) return `e-mail address, ${size}`;
  if (/^\d+$/.test(text)) return `digits, ${size}`;
  if (/^[0-9a-fA-F]+$/.test(text)) return `hex, ${size}`;
  if (/^[A-Za-z0-9_-]+$/.test(text)) return `letters and digits, ${size}`;
  if (/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return `base64, ${size}`;
  return `text, ${size}`;
}

/** A field's name, which may be a sender's text itself, as it can be shown. */
export function shownName(path: readonly string[]): string {
  return scrubText(path.join('.'), NAME_LENGTH_MAX).text;
}
