/**
 * A dashboard as data. `dashboards/render.ts` turns it into what Grafana reads; the console can draw the same. SQL goes to ClickHouse
 * with Grafana's macros (`$__timeFilter(column)`, `$__timeInterval(column)`, ...) and the variable
 * `${tenant:sqlstring}`; PromQL goes to Prometheus.
 */
export type PanelQuery =
  | {
      readonly language: 'sql';
      /** `time_series`: the first column is the time, all others but text labels are numbers. */
      readonly format: 'time_series' | 'table';
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

/** A line or a change of colour at a value. */
export interface PanelThreshold {
  readonly value: number;
  readonly color: 'green' | 'yellow' | 'orange' | 'red';
}

/** Columns of Grafana's grid. */
export const GRID_COLUMNS = 24;

export interface PanelDefinition {
  readonly title: string;
  /** What it shows and what to do about it, in a sentence or two. */
  readonly description: string;
  readonly kind: 'timeseries' | 'stat' | 'table' | 'heatmap';
  /** Grafana's unit id, e.g. `percentunit`, `ms`, `short`. */
  readonly unit: string;
  readonly width: number;
  readonly height: number;
  /** Shortest step between two points, s, for queries over rollups that know no shorter one. Default: none. */
  readonly stepSecondsMin?: number;
  /** One data source a panel. */
  readonly queries: readonly PanelQuery[];
  readonly thresholds?: readonly PanelThreshold[];
  /** Hash route of the console that rows link to: column name to route, e.g. `#/clients/`. */
  readonly links?: Readonly<Record<string, string>>;
}

export interface BoardRow {
  readonly title: string;
  readonly panels: readonly PanelDefinition[];
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
  /** Panels flow left to right and wrap at GRID_COLUMNS. */
  readonly rows: readonly BoardRow[];
}

/** Declares a board. One file in `dashboards/boards/` with this as its default export. */
export function defineBoard(definition: BoardDefinition): BoardDefinition {
  return Object.freeze(definition);
}
