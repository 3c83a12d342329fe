import { param, sql, type Sql } from '../../model/sql.ts';
import { NIL_REF } from '../../model/ids.ts';
import type { Store } from '../client.ts';

/**
 * What every query function takes instead of a bare store: the store together with the one tenant it may
 * read. A query has no other way to a tenant, so none can read a neighbour's rows by mistake.
 */
export interface Scope {
  readonly store: Store;
  readonly tenant: string;
}

/** The first condition of every WHERE in this folder. */
export function ofTenant(scope: Scope): Sql {
  return sql`tenant = ${param.string(scope.tenant)}`;
}

/** ClickHouse's `YYYY-MM-DD hh:mm:ss[.fraction]` (UTC) as ISO 8601. */
export function isoTime(text: string): string {
  return `${text.replace(' ', 'T')}Z`;
}

/** ISO 8601 text (with any offset, up to nanoseconds) as a value to compare time columns with. */
export function instant(iso: string): Sql {
  return sql`parseDateTime64BestEffort(${param.string(iso)}, 9, 'UTC')`;
}

/** The nil UUID is storage's word for "unknown"; the outside sees ''. */
export function refOrEmpty(ref: string): string {
  return ref === NIL_REF ? '' : ref;
}

/** One page of a list that is read by keyset: `next` is undefined on the last page. */
export interface Page<Item> {
  readonly items: readonly Item[];
  readonly next: Keyset | undefined;
}

/** Where a page ended: the sort value of its last row, and the row's id to break ties. */
export interface Keyset {
  readonly value: string;
  readonly id: string;
}

/** Cuts the one row more that was read to learn whether a next page exists. */
export function toPage<Item>(
  rows: readonly Item[],
  limit: number,
  keyOf: (item: Item) => Keyset,
): Page<Item> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, next: rows.length > limit && last !== undefined ? keyOf(last) : undefined };
}
