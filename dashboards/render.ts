import type * as cog from '@grafana/grafana-foundation-sdk/cog';
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as logs from '@grafana/grafana-foundation-sdk/logs';
import * as nodegraph from '@grafana/grafana-foundation-sdk/nodegraph';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import {
  BOARD_VARIABLES,
  GRID_COLUMNS,
  type BoardAnnotation,
  type BoardDefinition,
  type PanelDefinition,
  type PanelQuery,
} from '../model/define_board.ts';
import { CLICKHOUSE_VARIABLE, ClickHouseQuery } from './clickhouse_query.ts';

const PROMETHEUS_VARIABLE = 'prometheus';
const CONSOLE_URL = 'http://127.0.0.1:7400';

/** `on_call` is `grantscope-on-call` in Grafana's addresses. */
export function uidOf(id: string): string {
  return `grantscope-${id.replaceAll('_', '-')}`;
}

/**
 * The dashboard model that Grafana provisions, as a plain object. The same definitions give the same object. `all` are the
 * boards that it links to.
 */
export function renderBoard(board: BoardDefinition, all: readonly BoardDefinition[]): object {
  // Grafana provisions files in the classic schema; the newer one is for its API.
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  const builder = new dashboard.DashboardBuilder(board.title)
    .uid(uidOf(board.id))
    .description(board.description)
    .tags([...board.tags])
    .time({ from: `now-${board.from}`, to: 'now' })
    .refresh(board.refresh)
    .timezone('browser')
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .variables(variablesFor(board))
    .annotations((board.annotations ?? []).map(annotation))
    .links([...all.filter((b) => b.id !== board.id).map(linkToBoard), linkToConsole(board)]);
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

/** With the time range and what is chosen. */
function linkToBoard(board: BoardDefinition): cog.Builder<dashboard.DashboardLink> {
  return new dashboard.DashboardLinkBuilder(board.title)
    .type(dashboard.DashboardLinkType.Link)
    .icon('dashboard')
    .tooltip(board.description)
    .url(`/d/${uidOf(board.id)}`)
    .tags([])
    .asDropdown(false)
    .targetBlank(false)
    .keepTime(true)
    .includeVars(true);
}

function linkToConsole(board: BoardDefinition): cog.Builder<dashboard.DashboardLink> {
  return new dashboard.DashboardLinkBuilder('Console')
    .type(dashboard.DashboardLinkType.Link)
    .icon('external link')
    .tooltip('The same board in the console of Grantscope.')
    .url(`${CONSOLE_URL}/#/boards/${board.id}`)
    .tags([])
    .asDropdown(false)
    .targetBlank(true)
    .keepTime(false)
    .includeVars(false);
}

function annotation(
  definition: BoardAnnotation,
  index: number,
): cog.Builder<dashboard.AnnotationQuery> {
  return new dashboard.AnnotationQueryBuilder()
    .name(definition.name)
    .datasource({ type: 'grafana-clickhouse-datasource', uid: `\${${CLICKHOUSE_VARIABLE}}` })
    .enable(true)
    .hide(false)
    .iconColor(definition.color)
    .target(new ClickHouseQuery(`Anno${index}`, 'table', definition.text));
}

const at = (x: number, y: number, w: number, h: number): dashboard.GridPos => ({ x, y, w, h });

function variablesFor(board: BoardDefinition): cog.Builder<dashboard.VariableModel>[] {
  return [
    new dashboard.DatasourceVariableBuilder(CLICKHOUSE_VARIABLE)
      .label('ClickHouse')
      .type('grafana-clickhouse-datasource'),
    new dashboard.DatasourceVariableBuilder(PROMETHEUS_VARIABLE)
      .label('Prometheus')
      .type('prometheus'),
    new dashboard.TextBoxVariableBuilder('tenant').label('Tenant').defaultValue('default'),
    ...(board.variables ?? []).map((name) =>
      new dashboard.TextBoxVariableBuilder(name)
        .label(BOARD_VARIABLES[name].label)
        .defaultValue(''),
    ),
  ];
}

function datasourceOf(query: PanelQuery): common.DataSourceRef {
  return query.language === 'sql'
    ? { type: 'grafana-clickhouse-datasource', uid: `\${${CLICKHOUSE_VARIABLE}}` }
    : { type: 'prometheus', uid: `\${${PROMETHEUS_VARIABLE}}` };
}

/** Grafana tells the two tables of a node graph by these names. */
const NODE_GRAPH_REFS = ['nodes', 'edges'];

function target(panel: PanelDefinition, index: number): cog.Builder<cog.Dataquery> {
  const query = panel.queries[index] as PanelQuery;
  const letter = String.fromCharCode('A'.charCodeAt(0) + index);
  const refId = panel.kind === 'node_graph' ? (NODE_GRAPH_REFS[index] ?? letter) : letter;
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
  | timeseries.PanelBuilder
  | stat.PanelBuilder
  | table.PanelBuilder
  | heatmap.PanelBuilder
  | statetimeline.PanelBuilder
  | logs.PanelBuilder
  | nodegraph.PanelBuilder
  | dashboard.PanelBuilder;

function panelBuilder(panel: PanelDefinition): PanelBuilder {
  const builder = ofKind(panel);
  const [first] = panel.queries;
  if (first !== undefined) builder.datasource(datasourceOf(first));
  builder
    .title(panel.title)
    .description(panel.description)
    .unit(panel.unit)
    .targets(panel.queries.map((_, index) => target(panel, index)));
  if (panel.stepSecondsMin !== undefined) builder.interval(`${panel.stepSecondsMin}s`);
  if (panel.opens !== undefined)
    builder.links([linkOf('Open in the console', `${CONSOLE_URL}/${panel.opens}`, true)]);
  for (const [column, to] of Object.entries(panel.links ?? {}))
    builder.overrideByName(column, [{ id: 'links', value: [columnLink(to)] }]);
  return builder;
}

function columnLink(to: NonNullable<PanelDefinition['links']>[string]): object {
  if (typeof to === 'string')
    return {
      title: 'Open in the console',
      url: `${CONSOLE_URL}/${to}\${__value.raw:percentencode}`,
      targetBlank: true,
    };
  return {
    title: 'Open the board',
    url: `/d/${uidOf(to.board)}?var-${to.variable}=\${__value.raw:percentencode}&\${__url_time_range}`,
  };
}

function linkOf(
  title: string,
  url: string,
  targetBlank: boolean,
): cog.Builder<dashboard.DashboardLink> {
  return new dashboard.DashboardLinkBuilder(title)
    .type(dashboard.DashboardLinkType.Link)
    .icon('external link')
    .tooltip('')
    .url(url)
    .tags([])
    .asDropdown(false)
    .targetBlank(targetBlank)
    .keepTime(false)
    .includeVars(false);
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
    case 'state_timeline':
      return new statetimeline.PanelBuilder()
        .mergeValues(true)
        .showValue(common.VisibilityMode.Never)
        .rowHeight(0.8)
        .thresholds(thresholdsOf(panel))
        .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds));
    case 'logs':
      return new logs.PanelBuilder()
        .showTime(true)
        .wrapLogMessage(true)
        .enableLogDetails(true)
        .sortOrder(common.LogsSortOrder.Descending);
    case 'traces':
      return new dashboard.PanelBuilder().type('traces');
    case 'node_graph':
      return new nodegraph.PanelBuilder();
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
