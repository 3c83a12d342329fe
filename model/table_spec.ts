/**
 * Column types that a segment can hold. Values, by type: text for String, LowCardinality(String) and UUID
 * ('' is the nil UUID); bigint ns for DateTime64(9); seconds as number for DateTime; number for small
 * integers and floats; bigint or number for 64-bit integers; null allowed for Nullable; arrays; and plain
 * records of text for Map.
 */
export type ScalarType =
  | 'String'
  | 'LowCardinality(String)'
  | 'UUID'
  | "DateTime64(9, 'UTC')"
  | "DateTime('UTC')"
  | 'Bool'
  | 'UInt8'
  | 'UInt16'
  | 'UInt32'
  | 'UInt64'
  | 'Int32'
  | 'Int64'
  | 'Float64'
  | 'Nullable(Float32)';
export type MapType = 'Map(LowCardinality(String), String)';
export type ColumnType = ScalarType | MapType | `Array(${ScalarType})` | `Array(${MapType})`;

export interface ColumnSpec<Row> {
  readonly name: string;
  readonly type: ColumnType;
  /** The value; with `each`, the list whose items the values of this Array column are made of. */
  readonly get: (row: Row) => unknown;
  /** Takes a list of records apart into parallel arrays (Nested) without an array on the way. */
  readonly each?: (item: unknown) => unknown;
}

/** A table that segments are written for: its name and how a row's columns are read. */
export interface TableSpec<Row> {
  /** `database.table` */
  readonly table: string;
  readonly columns: readonly ColumnSpec<Row>[];
}

/** The value of a column in one row, as a list where the column is made of several items. */
export function columnValue<Row>({ get, each }: ColumnSpec<Row>, row: Row): unknown {
  const value = get(row);
  return each === undefined ? value : (value as readonly unknown[]).map(each);
}
