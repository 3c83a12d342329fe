import type * as cog from '@grafana/grafana-foundation-sdk/cog';
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import {
  GRID_COLUMNS,
  type BoardDefinition,
  type PanelDefinition,
  type PanelQuery,
} from '../model/define_board.ts';
import { CLICKHOUSE_VARIABLE, ClickHouseQuery } from './clickhouse_query.ts';

const PROMETHEUS_VARIABLE = 'prometheus';
const CONSOLE_URL = 'http://127.0.0.1:7400';

/** `on_call` is `grantscope-on-call` in Grafana's addresses. */
export function uidOf(board: BoardDefinition): string {
  return `grantscope-${board.id.replaceAll('_', '-')}`;
}

/** The dashboard model that Grafana provisions, as a plain object. The same definition gives the same object. */
export function renderBoard(board: BoardDefinition): object {
  // Grafana provisions files in the classic schema; the newer one is for its API.
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  const builder = new dashboard.DashboardBuilder(board.title)
    .uid(uidOf(board))
    .description(board.description)
    .tags([...board.tags])
    .time({ from: `now-${board.from}`, to: 'now' })
    .refresh(board.refresh)
    .timezone('browser')
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .variables(variables());
  let y = 0;
  let id = 0;
  for (const row of board.rows) {
    builder.withRow(
      new dashboard.RowBuilder(row.title).id((id += 1)).gridPos(at(0, y, GRID_COLUMNS, 1)),
    );
    y += 1;
    let x = 0;
    let height = 0;
    for (const panel of row.panels) {
      if (x + panel.width > GRID_COLUMNS) {
        y += height;
        x = 0;
        height = 0;
      }
      builder.withPanel(
        panelBuilder(panel)
          .id((id += 1))
          .gridPos(at(x, y, panel.width, panel.height)),
      );
      x += panel.width;
      height = Math.max(height, panel.height);
    }
    y += height;
  }
  return JSON.parse(JSON.stringify(builder.build())) as object;
}

const at = (x: number, y: number, w: number, h: number): dashboard.GridPos => ({ x, y, w, h });

function variables(): cog.Builder<dashboard.VariableModel>[] {
  return [
    new dashboard.DatasourceVariableBuilder(CLICKHOUSE_VARIABLE)
      .label('ClickHouse')
      .type('grafana-clickhouse-datasource'),
    new dashboard.DatasourceVariableBuilder(PROMETHEUS_VARIABLE)
      .label('Prometheus')
      .type('prometheus'),
    new dashboard.TextBoxVariableBuilder('tenant').label('Tenant').defaultValue('default'),
  ];
}

function datasourceOf(query: PanelQuery): common.DataSourceRef {
  return query.language === 'sql'
    ? { type: 'grafana-clickhouse-datasource', uid: `\${${CLICKHOUSE_VARIABLE}}` }
    : { type: 'prometheus', uid: `\${${PROMETHEUS_VARIABLE}}` };
}

function target(query: PanelQuery, index: number): cog.Builder<cog.Dataquery> {
  const refId = String.fromCharCode('A'.charCodeAt(0) + index);
  if (query.language === 'sql') return new ClickHouseQuery(refId, query.format, query.text);
  const builder = new prometheus.DataqueryBuilder()
    .refId(refId)
    .datasource(datasourceOf(query))
    .expr(query.text)
    .legendFormat(query.legend);
  return query.kind === 'instant'
    ? builder.instant().format(prometheus.PromQueryFormat.Table)
    : builder.range();
}

type PanelBuilder =
  timeseries.PanelBuilder | stat.PanelBuilder | table.PanelBuilder | heatmap.PanelBuilder;

function panelBuilder(panel: PanelDefinition): PanelBuilder {
  const builder = ofKind(panel);
  const [first] = panel.queries;
  if (first !== undefined) builder.datasource(datasourceOf(first));
  builder
    .title(panel.title)
    .description(panel.description)
    .unit(panel.unit)
    .targets(panel.queries.map(target));
  if (panel.stepSecondsMin !== undefined) builder.interval(`${panel.stepSecondsMin}s`);
  for (const [column, route] of Object.entries(panel.links ?? {})) {
    builder.overrideByName(column, [
      {
        id: 'links',
        value: [
          {
            title: 'Open in the console',
            url: `${CONSOLE_URL}/${route}\${__value.raw:percentencode}`,
            targetBlank: true,
          },
        ],
      },
    ]);
  }
  return builder;
}

function ofKind(panel: PanelDefinition): PanelBuilder {
  switch (panel.kind) {
    case 'timeseries':
      return timeseriesBuilder(panel);
    case 'stat':
      return new stat.PanelBuilder().thresholds(thresholdsOf(panel));
    case 'table':
      return new table.PanelBuilder().thresholds(thresholdsOf(panel));
    case 'heatmap':
      return new heatmap.PanelBuilder().calculate(false).cellGap(1);
  }
}

function timeseriesBuilder(panel: PanelDefinition): timeseries.PanelBuilder {
  const builder = new timeseries.PanelBuilder()
    .lineWidth(1)
    .fillOpacity(10)
    .showPoints(common.VisibilityMode.Never)
    .min(0)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi))
    .thresholds(thresholdsOf(panel));
  if (panel.thresholds === undefined) return builder;
  // The line that an alert compares with.
  return builder.thresholdsStyle(
    new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed),
  );
}

function thresholdsOf(panel: PanelDefinition): dashboard.ThresholdsConfigBuilder {
  return new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps([
    // Grafana wants a first step without a value: everything below the next one.
    { value: null, color: 'green' },
    ...(panel.thresholds ?? []).map((t) => ({ value: t.value, color: t.color })),
  ]);
}
