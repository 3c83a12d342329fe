import { param, sql, type Sql } from '../../model/sql.ts';
import { nilRef } from './_ledger.ts';
import { timeSql } from './_windows.ts';

/**
 * Things by name within SQL. A rotation of keys gives a thing another reference (docs/adr/0007-key-rotation.md). The engine
 * gives histories under one name; a query that itself counts people or pairs their events has to do so, too.
 *
 * Only names that were in use side by side since `since` are joined. Older ones cannot occur in rows of that time, and
 * without that bound a thing's oldest name would be as many steps away as there ever were rotations.
 */
export interface NameScope {
  readonly tenant: string;
  /** Where the rows begin, event time, ns. */
  readonly since: bigint;
}

/** Rows (ref, other) in both directions, or one; nothing is read where nothing was renamed since then. */
function links({ tenant, since }: NameScope, condition: Sql): Sql {
  const named = sql`tenant = ${param.string(tenant)} AND last_seen >= toDateTime(${timeSql(since)}, 'UTC')`;
  return sql`
    SELECT ref, min(other) AS other FROM grantscope.reference_names
    WHERE (SELECT count() FROM (SELECT 1 FROM grantscope.reference_names WHERE ${named} LIMIT 1)) > 0
      AND ${named} AND ${condition}
    GROUP BY ref, relation`;
}

/** Rows (ref, name): references that have an older name, and the oldest of two rotations. */
function olderNames(scope: NameScope, refs: Sql): Sql {
  const step = (of: Sql): Sql =>
    links(scope, sql`relation = 'previous' AND reference_names.ref IN (${of})`);
  return sql`
    SELECT newer.ref AS ref, if(older.name = ${nilRef}, newer.name, older.name) AS name
    FROM (SELECT ref, other AS name FROM (${step(refs)})) AS newer
    LEFT JOIN (SELECT ref, other AS name FROM (${step(sql`SELECT other FROM (${step(refs)})`)})) AS older ON older.ref = newer.name`;
}

/** `rows`, a query with a UUID column `ref`, with another column `thing`: one name for all references of one thing. */
export function byThing(scope: NameScope, rows: Sql): Sql {
  return sql`
    SELECT own.*, if(names.name = ${nilRef}, own.ref, names.name) AS thing FROM (${rows}) AS own
    LEFT JOIN (${olderNames(scope, sql`SELECT ref FROM (${rows})`)}) AS names ON names.ref = own.ref`;
}

/**
 * Rows (ref, other): what else these references were called one rotation before or after, for candidates that pair
 * new events with stored ones of either side.
 */
export function otherNames(scope: NameScope, refs: Sql): Sql {
  return links(scope, sql`reference_names.ref IN (${refs})`);
}
