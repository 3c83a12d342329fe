import { z } from 'zod';
import type { Keyset } from '../store/queries/scope.ts';
import { RequestProblem } from './problems.ts';

/** Order, sort value, id. The order is part of it, so that a cursor of one order is refused in another. */
const CursorParts = z.tuple([z.string(), z.string().max(600), z.string().max(600)]);

/** The text that asks for the next page. It holds no secret: a caller may read it, and gains nothing. */
export function encodeCursor(order: string, key: Keyset | undefined): string | null {
  if (key === undefined) return null;
  return Buffer.from(JSON.stringify([order, key.value, key.id])).toString('base64url');
}

/** Throws a 400 problem for anything that `encodeCursor` did not make for this order. */
export function decodeCursor(
  order: string,
  text: string | undefined,
  check: (key: Keyset) => boolean = () => true,
): Keyset | undefined {
  if (text === undefined) return undefined;
  const parts = CursorParts.safeParse(parseJson(Buffer.from(text, 'base64url').toString('utf8')));
  if (parts.success) {
    const key = { value: parts.data[1], id: parts.data[2] };
    if (parts.data[0] === order && check(key)) return key;
  }
  throw new RequestProblem('invalid_argument', 'query.cursor: not a cursor of this list', [
    {
      path: 'query.cursor',
      message: 'not a cursor of this list in this order',
      allowed: 'a next_cursor from an answer with the same sort',
    },
  ]);
}

/** For lists by time: a cursor with another value would be an error inside the store. */
export function isTimeKey(key: Keyset): boolean {
  return (
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(key.value) &&
    /^[0-9a-f-]{36}$/.test(key.id)
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
