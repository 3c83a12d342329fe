import { createHash } from 'node:crypto';
import { isClassified, type EventFilter, type SloDefinition } from '../model/define_slo.ts';
import { sql, Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';

const VIEW = 'grantscope.slo_minutes_mv';
/** What rows of `slo_minutes` are told apart by, beside the SLO. */
const KEYS = 'tenant, minute, source_id, issuer, grant_type, service, mode, subject_type';

/**
 * The query that turns minutes of outcomes into counts of SLIs, for all definitions at once. It reads `outcome_minutes`, which
 * has some hundred rows per inserted block, so that one more SLI costs a condition over these and none over the events.
 * The same text for the same definitions, in whatever order.
 */
export function rollupQuery(slos: readonly SloDefinition[]): string {
  const pairs = slos
    .filter(isClassified)
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .map((slo) => `    ('${slo.id}', if(${anyOf(slo.attempts)}, ${classSql(slo)}, ''))`);
  const count = (name: string): string => `  sumIf(events, pair.2 = '${name}') AS ${name}`;
  return [
    `SELECT`,
    `  pair.1 AS slo_id, ${KEYS},`,
    ['good', 'bad', 'excluded', 'unclassified'].map(count).join(',\n'),
    'FROM (',
    `  SELECT ${KEYS}, events,`,
    "    arrayJoin(arrayFilter(p -> p.2 != '', [",
    pairs.join(',\n'),
    '    ])) AS pair',
    '  FROM grantscope.outcome_minutes',
    ')',
    `GROUP BY slo_id, ${KEYS}`,
  ].join('\n');
}

/** Identifies what a view counts: equal for equal queries. */
function markOf(query: string): string {
  return createHash('sha256').update(query).digest('hex').slice(0, 32);
}

/** True where the store counts by these definitions already. */
export async function isRollupCurrent(
  store: Store,
  slos: readonly SloDefinition[],
): Promise<boolean> {
  const rows = await store.query<{ comment: string }>(
    sql`SELECT comment FROM system.tables WHERE database = 'grantscope' AND name = 'slo_minutes_mv'`,
  );
  return rows[0]?.comment === markOf(rollupQuery(slos));
}

/**
 * Makes the store count by these definitions, and counts what is stored by them anew. Returns whether there was anything to do.
 * The view is made last and carries the mark of its query, so that a start which was cut off begins anew. Nothing
 * may be inserted meanwhile, and no segment may wait that was inserted in part: what the view had of it is counted again when
 * it comes (docs/adr/0013-slis-from-outcome-minutes.md).
 */
export async function syncRollup(store: Store, slos: readonly SloDefinition[]): Promise<boolean> {
  if (await isRollupCurrent(store, slos)) return false;
  const query = rollupQuery(slos);
  const text = (statement: string): Sql => new Sql([statement], []);
  for (const { name } of await store.query<{ name: string }>(
    sql`SELECT name FROM system.tables WHERE database = 'grantscope' AND match(name, '^slo_.*_mv$')`,
  ))
    await store.command(text(`DROP VIEW IF EXISTS grantscope.${name} SYNC`));
  await store.command(sql`TRUNCATE TABLE grantscope.slo_minutes`);
  await store.command(
    text(
      `INSERT INTO grantscope.slo_minutes (slo_id, ${KEYS}, good, bad, excluded, unclassified)\n${query}\nSETTINGS async_insert = 0, insert_deduplicate = 0`,
    ),
  );
  await store.command(
    text(
      `CREATE MATERIALIZED VIEW ${VIEW} TO grantscope.slo_minutes AS\n${query}\nCOMMENT '${markOf(query)}'`,
    ),
  );
  return true;
}

function classSql(slo: {
  readonly good: readonly EventFilter[];
  readonly excluded: readonly EventFilter[];
  readonly bad: readonly EventFilter[];
}): string {
  const arms = [
    ...(slo.good.length === 0 ? [] : [`${anyOf(slo.good)}, 'good'`]),
    ...(slo.excluded.length === 0 ? [] : [`${anyOf(slo.excluded)}, 'excluded'`]),
    ...(slo.bad.length === 0 ? [] : [`${anyOf(slo.bad)}, 'bad'`]),
  ];
  return `multiIf(${arms.join(', ')}, 'unclassified')`;
}

function anyOf(filters: readonly EventFilter[]): string {
  return `(${filters.map((f) => allOf(f)).join(' OR ')})`;
}

function allOf(filter: EventFilter): string {
  const oneOf = (column: string, values: readonly string[] | undefined): string[] =>
    values === undefined ? [] : [`${column} IN (${values.map((v) => `'${v}'`).join(', ')})`];
  const { httpStatus: status, underMs, isTimed } = filter;
  const conditions = [
    ...oneOf('kind', filter.kinds),
    ...oneOf('outcome', filter.outcomes),
    ...oneOf('endpoint', filter.endpoints),
    ...oneOf('grant_type', filter.grantTypes),
    ...oneOf('error_oauth_error', filter.oauthErrors),
    ...oneOf('error_code', filter.errorCodes),
    ...oneOf('mode', filter.modes),
    ...oneOf('subject_type', filter.subjectTypes),
    ...(status === undefined ? [] : [`http_status BETWEEN ${status.min} AND ${status.max}`]),
    ...(isTimed === undefined ? [] : [`latency_under ${isTimed ? '!=' : '='} 0`]),
    // 0 stands for a duration that is not known.
    ...(underMs === undefined ? [] : [`latency_under BETWEEN 1 AND ${underMs}`]),
  ];
  return conditions.length === 0 ? '1' : `(${conditions.join(' AND ')})`;
}
