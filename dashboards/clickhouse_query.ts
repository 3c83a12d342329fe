import type * as cog from '@grafana/grafana-foundation-sdk/cog';

/** Version of Grafana's ClickHouse data source that the queries are written for. */
export const CLICKHOUSE_PLUGIN_VERSION = '4.12.0';
/** Name of the dashboard variable that holds the data source. */
export const CLICKHOUSE_VARIABLE = 'clickhouse';

/** The plugin's own numbers: 0 series, 1 table, 2 logs, 3 traces. */
const FORMATS = {
  time_series: { format: 0, queryType: 'timeseries' },
  table: { format: 1, queryType: 'table' },
  logs: { format: 2, queryType: 'logs' },
  traces: { format: 3, queryType: 'traces' },
} as const;

/** A query of `grafana-clickhouse-datasource`, which the foundation SDK has no builder for. */
export class ClickHouseQuery implements cog.Builder<cog.Dataquery> {
  readonly #refId: string;
  readonly #format: keyof typeof FORMATS;
  readonly #rawSql: string;

  constructor(refId: string, format: keyof typeof FORMATS, rawSql: string) {
    this.#refId = refId;
    this.#format = format;
    this.#rawSql = rawSql;
  }

  build(): cog.Dataquery {
    const query = {
      refId: this.#refId,
      datasource: {
        type: 'grafana-clickhouse-datasource',
        uid: `\${${CLICKHOUSE_VARIABLE}}`,
      },
      editorType: 'sql',
      ...FORMATS[this.#format],
      pluginVersion: CLICKHOUSE_PLUGIN_VERSION,
      rawSql: this.#rawSql,
    };
    // The SDK marks its query types with a method that is never called and must not be in the JSON.
    return query as unknown as cog.Dataquery;
  }
}
