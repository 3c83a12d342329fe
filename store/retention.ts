import { identifier, sql, Sql } from '../model/sql.ts';
import type { Store } from './client.ts';

export interface Retention {
  readonly events_days: number;
  readonly traces_days: number;
  readonly findings_days: number;
  readonly dead_letters_days: number;
}

/**
 * Sets how long tables keep their rows (TTL by the column given). Rows past it go with the next merge of
 * their part. Changing the TTL alone does not rewrite what is stored.
 */
export async function applyRetention(store: Store, retention: Retention): Promise<void> {
  const rules: readonly (readonly [table: string, column: string, days: number])[] = [
    ['grantscope.auth_events', 'time', retention.events_days],
    ['grantscope.token_events', 'time', retention.events_days],
    ['grantscope.token_links', 'last_seen', retention.events_days],
    ['grantscope.otel_traces', 'Timestamp', retention.traces_days],
    ['grantscope.otel_logs', 'Timestamp', retention.traces_days],
    ['grantscope.findings', 'last_event_time', retention.findings_days],
    // The last step of an open finding may be old, but its last event is older than its closing.
    ['grantscope.finding_changes', 'changed_at', retention.findings_days],
    ['grantscope.finding_status', 'changed_at', retention.findings_days],
    ['grantscope.deliveries', 'attempted_at', retention.findings_days],
    // Names outlive what they join, findings included.
    [
      'grantscope.reference_names',
      'last_seen',
      Math.max(retention.events_days, retention.findings_days),
    ],
    ['grantscope.dead_letters', 'received_at', retention.dead_letters_days],
  ];
  const rows = await store.query<{ name: string; ddl: string }>(
    sql`SELECT concat(database, '.', name) AS name, create_table_query AS ddl FROM system.tables WHERE database = 'grantscope'`,
  );
  const ddlOf = new Map(rows.map((r) => [r.name, r.ddl]));
  for (const [table, column, days] of rules) {
    const ddl = ddlOf.get(table);
    const interval = `toIntervalDay(${days})`;
    // ALTER only where it changes something: every start would otherwise write new metadata.
    if (ddl === undefined || ddl.includes(`${column}) + ${interval}`)) continue;
    await store.command(
      sql`ALTER TABLE ${identifier(table)} MODIFY TTL toDateTime(${identifier(column)}) + INTERVAL ${wholeNumber(days)} DAY DELETE SETTINGS materialize_ttl_after_modify = 0`,
    );
  }
}

/** DDL takes no parameters; a checked integer is safe text. */
function wholeNumber(value: number): Sql {
  if (!Number.isInteger(value) || value < 1)
    throw new TypeError(`retention: not a number of days: ${value}`);
  return new Sql([String(value)], []);
}
