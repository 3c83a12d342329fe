/**
 * A dashboard as data. `dashboards/render.ts` turns it into what Grafana reads, and the console draws the same file. SQL
 * goes to ClickHouse with Grafana's macros (`$__timeFilter(column)`, `$__timeInterval(column)`, ...; see
 * `model/board_query.ts`) and variables as `${name:sqlstring}`; PromQL goes to Prometheus.
 */
export type PanelQuery =
  | {
      readonly language: 'sql';
      /**
       * `time_series`: the first column is the time; text columns are labels that make a series each, all others are
       * numbers. `logs`: `timestamp`, `level`, `body` and labels, newest first. `traces`: the columns of a span.
       */
      readonly format: 'time_series' | 'table' | 'logs' | 'traces';
      readonly text: string;
    }
  | {
      readonly language: 'promql';
      readonly text: string;
      /** `instant` asks for now, `range` for the whole time range. */
      readonly kind: 'instant' | 'range';
      /** Name of the series, with `{{label}}`. */
      readonly legend: string;
    };

/** A line or a change of colour at a value: the colour holds from the value on. */
export interface PanelThreshold {
  readonly value: number;
  readonly color: 'green' | 'yellow' | 'orange' | 'red';
}

/** Columns of Grafana's grid. */
export const GRID_COLUMNS = 24;

/**
 * `node_graph` takes two tables: nodes (`id`, `title`, `subtitle`, `mainstat`) and edges (`id`, `source`, `target`).
 * `state_timeline` takes a time series whose values the thresholds turn into states.
 */
export const PANEL_KINDS = [
  'timeseries',
  'stat',
  'table',
  'heatmap',
  'state_timeline',
  'logs',
  'traces',
  'node_graph',
] as const;
export type PanelKind = (typeof PANEL_KINDS)[number];

/**
 * What may be asked of a board: by name, with the type that a value must have. `reference` is a UUID, `trace` the 32
 * hexadecimal digits of a W3C trace id, `text` anything without control characters. Every variable may be empty: no choice.
 */
export const BOARD_VARIABLES = {
  client: { label: 'Client', type: 'text' },
  trace: { label: 'Trace id', type: 'trace' },
  token: { label: 'Token or family', type: 'reference' },
} as const;
export type BoardVariable = keyof typeof BOARD_VARIABLES;
export const BOARD_VARIABLE_NAMES = Object.keys(BOARD_VARIABLES) as readonly BoardVariable[];

export interface PanelDefinition {
  readonly title: string;
  /** What it shows and what to do about it, in a sentence or two. */
  readonly description: string;
  readonly kind: PanelKind;
  /** Grafana's unit id, e.g. `percentunit`, `ms`, `short`. */
  readonly unit: string;
  readonly width: number;
  readonly height: number;
  /** Shortest step between two points, s, for queries over rollups that know no shorter one. Default: none. */
  readonly stepSecondsMin?: number;
  /** One data source a panel. */
  readonly queries: readonly PanelQuery[];
  readonly thresholds?: readonly PanelThreshold[];
  /**
   * Where the values of a column lead, by column: a hash route of the console (`#/investigations/client/`, to which the
   * value is added), or a board and the variable that takes the value.
   */
  readonly links?: Readonly<
    Record<string, string | { readonly board: string; readonly variable: BoardVariable }>
  >;
  /** Where the whole panel leads: a hash route of the console. */
  readonly opens?: string;
}

export interface BoardRow {
  readonly title: string;
  readonly panels: readonly PanelDefinition[];
}

/** Moments that are drawn over every time series: SQL of `time`, `title` and `text`, over ClickHouse. */
export interface BoardAnnotation {
  readonly name: string;
  readonly color: 'blue' | 'purple' | 'red';
  readonly text: string;
}

export interface BoardDefinition {
  /** Equals the file name. */
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly tags: readonly string[];
  /** Default time range back from now, e.g. `6h`. */
  readonly from: string;
  /** e.g. `30s` */
  readonly refresh: string;
  /** Default: none. */
  readonly variables?: readonly BoardVariable[];
  /** Default: none. */
  readonly annotations?: readonly BoardAnnotation[];
  /** Panels flow left to right and wrap at GRID_COLUMNS. */
  readonly rows: readonly BoardRow[];
}

/** Declares a board. One file in `dashboards/boards/` with this as its default export. */
export function defineBoard(definition: BoardDefinition): BoardDefinition {
  return Object.freeze(definition);
}
