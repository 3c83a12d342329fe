import { param, Sql, type Param } from './sql.ts';

/** The time range and resolution that a query is run for. */
export interface QueryRange {
  readonly fromMs: number;
  readonly toMs: number;
  readonly intervalSeconds: number;
}

/** Column expressions have no parentheses of their own. */
const MACRO = /\$__([A-Za-z_]+)(?:\(([^()]*)\))?/g;
const VARIABLE = /\$\{([a-z_]+):sqlstring\}/g;
const UNKNOWN = /\$(__[A-Za-z_]+|\{[^}]*\}|[a-z_]+)/;

/**
 * A panel's SQL as a statement: the macros of Grafana's ClickHouse data source expanded, and `${name:sqlstring}` a
 * parameter, so that no value ever becomes SQL. Throws a RangeError on a macro or variable that it does not know: a panel
 * must not pass a check with text that Grafana would read differently.
 */
export function panelStatement(
  text: string,
  range: QueryRange,
  variables: Readonly<Record<string, string>>,
): Sql {
  const expanded = expandMacros(text, range);
  const texts: string[] = [];
  const params: Param[] = [];
  let from = 0;
  for (const found of expanded.matchAll(VARIABLE)) {
    const value = Object.hasOwn(variables, found[1] ?? '') ? variables[found[1] ?? ''] : undefined;
    if (value === undefined) continue;
    texts.push(expanded.slice(from, found.index));
    params.push(param.string(value));
    from = found.index + found[0].length;
  }
  texts.push(expanded.slice(from));
  const unknown = UNKNOWN.exec(texts.join(''));
  if (unknown !== null) throw new RangeError(`unknown macro or variable ${unknown[0]}`);
  return new Sql(texts, params);
}

/** Names of the variables that a panel's text uses, each once. */
export function variablesOf(text: string): readonly string[] {
  return [...new Set([...text.matchAll(VARIABLE)].map((found) => found[1] ?? ''))];
}

function expandMacros(text: string, range: QueryRange): string {
  const { fromMs, toMs, intervalSeconds } = range;
  const seconds = (ms: number): number => Math.floor(ms / 1_000);
  const withArgument: Readonly<Record<string, (column: string) => string>> = {
    timeFilter: (c) =>
      `${c} >= toDateTime(${seconds(fromMs)}) AND ${c} <= toDateTime(${seconds(toMs)})`,
    timeFilter_ms: (c) =>
      `${c} >= fromUnixTimestamp64Milli(${fromMs}) AND ${c} <= fromUnixTimestamp64Milli(${toMs})`,
    timeInterval: (c) => `toStartOfInterval(toDateTime(${c}), INTERVAL ${intervalSeconds} second)`,
    timeInterval_ms: (c) =>
      `toStartOfInterval(toDateTime64(${c}, 3), INTERVAL ${intervalSeconds * 1_000} millisecond)`,
    dateFilter: (c) => `${c} >= toDate('${day(fromMs)}') AND ${c} <= toDate('${day(toMs)}')`,
  };
  const plain: Readonly<Record<string, string>> = {
    interval_s: String(intervalSeconds),
    fromTime: `toDateTime(${seconds(fromMs)})`,
    toTime: `toDateTime(${seconds(toMs)})`,
    fromTime_ms: `fromUnixTimestamp64Milli(${fromMs})`,
    toTime_ms: `fromUnixTimestamp64Milli(${toMs})`,
  };
  return text.replace(MACRO, (whole, name: string, column: string | undefined) =>
    column === undefined ? (plain[name] ?? whole) : (withArgument[name]?.(column.trim()) ?? whole),
  );
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
