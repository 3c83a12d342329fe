/**
 * SQL as a value: text with typed, numbered parameters. No string ever becomes SQL.
 *
 *   const q = sql`SELECT count() FROM grantscope.auth_events WHERE client_id = ${param.string(id)}`;
 *   q.toQuery() // { query: '... {p0:String}', query_params: { p0: id } }
 *
 * Only `Sql` values (fragments) and `Param` values go into a template; anything else is a type error
 * and throws.
 */
export interface Param {
  readonly type: string;
  readonly value: unknown;
}

function makeParam(type: string, value: unknown): Param {
  return { type, value };
}

/** Milliseconds since the epoch as ClickHouse writes them: `YYYY-MM-DD hh:mm:ss.mmm` in UTC. */
export function clickHouseMs(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace('Z', '');
}

/** Constructors of parameters, by ClickHouse type. */
export const param = {
  string: (value: string): Param => makeParam('String', value),
  strings: (values: readonly string[]): Param => makeParam('Array(String)', [...values]),
  uuid: (value: string): Param => makeParam('UUID', value),
  uuids: (values: readonly string[]): Param => makeParam('Array(UUID)', [...values]),
  uint: (value: number): Param => makeParam('UInt64', value),
  int: (value: number): Param => makeParam('Int64', value),
  float: (value: number): Param => makeParam('Float64', value),
  /** Milliseconds since the epoch, compared as DateTime64(3). */
  timeMs: (value: number): Param => makeParam("DateTime64(3,'UTC')", clickHouseMs(value)),
  /** Nanoseconds since the epoch as Int64; wrap as fromUnixTimestamp64Nano(...) in the query. */
  int64: (value: bigint): Param => makeParam('Int64', value.toString()),
} as const;

export class Sql {
  readonly #texts: readonly string[];
  readonly #params: readonly Param[];

  /** Use the `sql` tag instead. `texts.length === params.length + 1`. */
  constructor(texts: readonly string[], params: readonly Param[]) {
    this.#texts = texts;
    this.#params = params;
  }

  get texts(): readonly string[] {
    return this.#texts;
  }

  get params(): readonly Param[] {
    return this.#params;
  }

  /** The text for `@clickhouse/client`, parameters numbered from 0 in order of appearance. */
  toQuery(): { query: string; query_params: Record<string, unknown> } {
    let query = this.#texts[0] ?? '';
    const query_params: Record<string, unknown> = {};
    this.#params.forEach((p, i) => {
      query += `{p${i}:${p.type}}${this.#texts[i + 1] ?? ''}`;
      query_params[`p${i}`] = p.value;
    });
    return { query, query_params };
  }
}

function isParam(value: Sql | Param): value is Param {
  return (
    !(value instanceof Sql) && typeof value === 'object' && 'type' in value && 'value' in value
  );
}

/** Template tag; see the head of this file. */
export function sql(strings: TemplateStringsArray, ...values: readonly (Sql | Param)[]): Sql {
  const texts: string[] = [];
  const params: Param[] = [];
  // The text since the last parameter.
  let current = strings[0] ?? '';
  values.forEach((value, i) => {
    if (value instanceof Sql) {
      const [first = '', ...rest] = value.texts;
      current += first;
      for (const text of rest) {
        texts.push(current);
        current = text;
      }
      params.push(...value.params);
    } else if (isParam(value)) {
      texts.push(current);
      current = '';
      params.push(value);
    } else {
      throw new TypeError('sql: only Sql fragments and param.* values may be interpolated');
    }
    current += strings[i + 1] ?? '';
  });
  texts.push(current);
  return new Sql(texts, params);
}

const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_.]*$/;

/** A table or column name from code (never from input): letters, digits, `_` and `.` only. */
export function identifier(name: string): Sql {
  if (!IDENTIFIER.test(name))
    throw new TypeError(`sql: not an identifier: ${JSON.stringify(name)}`);
  return new Sql([name], []);
}

/** Joins fragments; an empty list gives `empty`. */
export function joinSql(
  parts: readonly Sql[],
  separator: ' AND ' | ' OR ' | ', ' | ' ' | ' UNION ALL ',
  empty: Sql = sql``,
): Sql {
  const [first, ...rest] = parts;
  if (first === undefined) return empty;
  const glue = new Sql([separator], []);
  return rest.reduce((all, next) => sql`${all}${glue}${next}`, first);
}
