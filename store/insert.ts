import type { AuthEvent } from '../model/auth_event.ts';
import { authEventsTable } from '../model/event_columns.ts';
import { NIL_REF } from '../model/ids.ts';
import { columnValue, type ColumnType, type TableSpec } from '../model/table_spec.ts';
import type { Store } from './client.ts';

/** A row as JSONEachRow takes it: times as text with nine digits, unknown references as the nil UUID. */
export function toJsonRow<Row>(spec: TableSpec<Row>, row: Row): Record<string, unknown> {
  return Object.fromEntries(
    spec.columns.map((c) => [c.name, toJsonValue(c.type, columnValue(c, row))]),
  );
}

function toJsonValue(type: ColumnType, value: unknown): unknown {
  if (Array.isArray(value) && type.startsWith('Array(')) {
    const inner = type.slice('Array('.length, -1) as ColumnType;
    return value.map((v: unknown) => toJsonValue(inner, v));
  }
  if (type === 'UUID' && value === '') return NIL_REF;
  if (type === "DateTime64(9, 'UTC')" && typeof value === 'bigint') return clickHouseTime(value);
  return value;
}

/** `YYYY-MM-DD hh:mm:ss.nnnnnnnnn` in UTC. */
export function clickHouseTime(ns: bigint): string {
  const seconds = ns / 1_000_000_000n;
  const date = new Date(Number(seconds) * 1_000).toISOString().slice(0, 19).replace('T', ' ');
  return `${date}.${(ns % 1_000_000_000n).toString().padStart(9, '0')}`;
}

/**
 * Inserts a handful of events directly (rule examples, tests). The collector's way is the spool, which is
 * durable and an order of magnitude cheaper per row.
 */
export async function insertEvents(
  store: Store,
  events: readonly AuthEvent[],
  deduplicationToken?: string,
): Promise<void> {
  await store.insertRows(
    authEventsTable.table,
    events.map((e) => toJsonRow(authEventsTable, e)),
    deduplicationToken,
  );
}
