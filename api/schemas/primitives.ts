import { z } from 'zod';
import { isUuid } from '../../model/ids.ts';

/** Longest text that a parameter may have, characters. */
export const PARAMETER_LENGTH_MAX = 512;

/** ISO 8601 with a time zone, for instance `2026-01-31T12:00:00Z`. */
export const Instant = z.iso.datetime({ offset: true, error: 'must be ISO 8601 with a time zone' });

/** A time in an answer: ISO 8601 in UTC, with as many digits as are known. */
export const Time = z.string().meta({ format: 'date-time' });

/** A reference to a token, subject, session or grant, or the id of a finding or event: UUID text. */
export const Reference = z
  .string()
  .refine(isUuid, { error: 'must be 8-4-4-4-12 hexadecimal digits' })
  .transform((text) => text.toLowerCase())
  .meta({ format: 'uuid' });

/** Any text within the limit, except control characters. */
export const Text = z
  .string()
  .min(1)
  .max(PARAMETER_LENGTH_MAX)
  .regex(/^[^\u0000-\u001f\u007f]*$/, 'must not hold control characters');

/** An identifier from code: rules, SLOs, sources, runbooks. */
export const Identifier = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,99}$/, 'must be lower-case letters, digits, _ and -');

/** Rows of one page. */
export const PAGE_LIMIT_MAX = 200;
export const PAGE_LIMIT_DEFAULT = 50;
export const PageLimit = z.coerce
  .number()
  .int()
  .min(1)
  .max(PAGE_LIMIT_MAX)
  .default(PAGE_LIMIT_DEFAULT);

/** What a list answer gave as `next_cursor`. */
export const CursorText = z
  .string()
  .max(2_048)
  .regex(/^[A-Za-z0-9_-]+$/, 'must be a next_cursor of this list');

/** Null on the last page. */
export const NextCursor = z.string().nullable();
