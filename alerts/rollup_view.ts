import type { EventFilter, SloDefinition } from '../model/define_slo.ts';

/**
 * The statement that creates an SLO's rollup view. It stands in a migration, because the view must exist
 * before the first event is inserted; a test compares the migration with what this returns, so that the
 * definition leads.
 */
export function rollupViewSql(slo: SloDefinition): string {
  const count = (name: string): string => `  countIf(class = '${name}') AS ${name}`;
  return [
    `CREATE MATERIALIZED VIEW IF NOT EXISTS grantscope.slo_${slo.id}_mv TO grantscope.slo_minutes AS`,
    'WITH multiIf(',
    `  ${anyOf(slo.good)}, 'good',`,
    ...(slo.excluded.length === 0 ? [] : [`  ${anyOf(slo.excluded)}, 'excluded',`]),
    `  ${anyOf(slo.bad)}, 'bad',`,
    "  'unclassified') AS class",
    'SELECT',
    `  tenant, '${slo.id}' AS slo_id, toStartOfMinute(time) AS minute, source_id, issuer, grant_type,`,
    `${count('good')},`,
    `${count('bad')},`,
    `${count('excluded')},`,
    count('unclassified'),
    'FROM grantscope.auth_events',
    `WHERE phase IN ('outcome', 'single') AND ${anyOf(slo.attempts)}`,
    'GROUP BY tenant, minute, source_id, issuer, grant_type',
  ].join('\n');
}

function anyOf(filters: readonly EventFilter[]): string {
  return `(${filters.map((f) => allOf(f)).join(' OR ')})`;
}

function allOf(filter: EventFilter): string {
  const oneOf = (column: string, values: readonly string[] | undefined): string[] =>
    values === undefined ? [] : [`${column} IN (${values.map((v) => `'${v}'`).join(', ')})`];
  const status = filter.httpStatus;
  const conditions = [
    ...oneOf('kind', filter.kinds),
    ...oneOf('outcome', filter.outcomes),
    ...oneOf('endpoint', filter.endpoints),
    ...oneOf('grant_type', filter.grantTypes),
    ...oneOf('error_oauth_error', filter.oauthErrors),
    ...(status === undefined ? [] : [`http_status BETWEEN ${status.min} AND ${status.max}`]),
  ];
  return conditions.length === 0 ? '1' : `(${conditions.join(' AND ')})`;
}
