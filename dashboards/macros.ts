/** The time range and resolution that a query is run for. */
export interface QueryRange {
  readonly fromMs: number;
  readonly toMs: number;
  readonly intervalSeconds: number;
}

const ESCAPE = /['\\]/g;

/** Text as a SQL string literal, as Grafana's `:sqlstring` format writes it for ClickHouse. */
function literal(text: string): string {
  return `'${text.replace(ESCAPE, (c) => `\\${c}`)}'`;
}

/**
 * Expands the macros of Grafana's ClickHouse data source and `${name:sqlstring}` variables, so that a panel's
 * SQL can be run without Grafana. Throws on a macro or variable that it does not know: a panel must not
 * pass a check with text that Grafana would read differently.
 */
export function expandMacros(
  text: string,
  range: QueryRange,
  variables: Readonly<Record<string, string>>,
): string {
  const { fromMs, toMs, intervalSeconds } = range;
  const seconds = (ms: number): number => Math.floor(ms / 1_000);
  const withArgument: Record<string, (column: string) => string> = {
    timeFilter: (c) =>
      `${c} >= toDateTime(${seconds(fromMs)}) AND ${c} <= toDateTime(${seconds(toMs)})`,
    timeFilter_ms: (c) =>
      `${c} >= fromUnixTimestamp64Milli(${fromMs}) AND ${c} <= fromUnixTimestamp64Milli(${toMs})`,
    timeInterval: (c) => `toStartOfInterval(toDateTime(${c}), INTERVAL ${intervalSeconds} second)`,
    timeInterval_ms: (c) =>
      `toStartOfInterval(toDateTime64(${c}, 3), INTERVAL ${intervalSeconds * 1_000} millisecond)`,
    dateFilter: (c) => `${c} >= toDate('${day(fromMs)}') AND ${c} <= toDate('${day(toMs)}')`,
  };
  const plain: Record<string, string> = {
    interval_s: String(intervalSeconds),
    fromTime: `toDateTime(${seconds(fromMs)})`,
    toTime: `toDateTime(${seconds(toMs)})`,
    fromTime_ms: `fromUnixTimestamp64Milli(${fromMs})`,
    toTime_ms: `fromUnixTimestamp64Milli(${toMs})`,
  };
  const expanded = text
    .replace(/\$__([A-Za-z_]+)\(([^()]*)\)/g, (whole, name: string, column: string) =>
      withArgument[name] === undefined ? whole : withArgument[name](column.trim()),
    )
    .replace(/\$__([A-Za-z_]+)/g, (whole, name: string) => plain[name] ?? whole)
    .replace(/\$\{([a-z_]+):sqlstring\}/g, (whole, name: string) =>
      variables[name] === undefined ? whole : literal(variables[name]),
    );
  const unknown = /\$(__[A-Za-z_]+|\{[^}]*\}|[a-z_]+)/.exec(expanded);
  if (unknown !== null) {
    throw new RangeError(`unknown macro or variable ${unknown[0]}`);
  }
  return expanded;
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
