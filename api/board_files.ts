import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { BOARD_VARIABLES, type BoardVariable, type PanelKind } from '../model/define_board.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import { packageRoot } from '../runtime/paths.ts';
import type { BoardPanel, BoardView } from './schemas/board_view.ts';

/** Where the boards lie that Grafana is provisioned with: the console draws the same files. */
const FOLDER = join(packageRoot, 'dashboards', 'generated');

const Target = z.object({
  refId: z.string(),
  rawSql: z.string().optional(),
  expr: z.string().optional(),
  instant: z.boolean().optional(),
  legendFormat: z.string().optional(),
});
const Link = z.object({ url: z.string() });

/** The part of Grafana's dashboard model that is drawn here. */
const PanelFile = z.object({
  id: z.number().int(),
  type: z.string(),
  title: z.string(),
  description: z.string().default(''),
  gridPos: z.object({ w: z.number().int(), h: z.number().int() }),
  interval: z
    .string()
    .regex(/^\d+s$/)
    .optional(),
  targets: z.array(Target).default([]),
  links: z.array(Link).default([]),
  fieldConfig: z
    .object({
      defaults: z.object({
        unit: z.string().default('short'),
        thresholds: z
          .object({
            steps: z.array(z.object({ value: z.number().nullable(), color: z.string() })),
          })
          .optional(),
      }),
      overrides: z
        .array(
          z.object({
            matcher: z.object({ id: z.string(), options: z.string() }),
            properties: z.array(z.object({ id: z.string(), value: z.array(Link) })),
          }),
        )
        .default([]),
    })
    .optional(),
});
type PanelFile = z.infer<typeof PanelFile>;

const BoardFile = z.object({
  title: z.string(),
  description: z.string(),
  refresh: z.string().regex(/^\d+[sm]$/),
  time: z.object({ from: z.string().regex(/^now-\d+[mhd]$/) }),
  templating: z.object({ list: z.array(z.object({ name: z.string() })) }),
  annotations: z.object({
    list: z.array(z.object({ name: z.string(), iconColor: z.string(), target: Target })),
  }),
  panels: z.array(PanelFile),
});
type BoardFile = z.infer<typeof BoardFile>;

/** What a panel asks, by its id. */
export interface PanelQueries {
  readonly kind: PanelKind;
  /** s; 0 where any step is right. */
  readonly stepSecondsMin: number;
  readonly targets: readonly z.infer<typeof Target>[];
}

/** A board with what its panels ask, which the outside does not see. */
export interface LoadedBoard {
  readonly view: BoardView;
  readonly queries: ReadonlyMap<number, PanelQueries>;
  readonly annotations: readonly {
    readonly name: string;
    readonly color: string;
    readonly text: string;
  }[];
}

const KINDS: Readonly<Record<string, PanelKind>> = {
  timeseries: 'timeseries',
  stat: 'stat',
  table: 'table',
  heatmap: 'heatmap',
  'state-timeline': 'state_timeline',
  logs: 'logs',
  traces: 'traces',
  nodeGraph: 'node_graph',
};

let loaded: ReadonlyMap<string, LoadedBoard> | undefined;

/** All boards by id. Read once; throws `definition_invalid` where a file is not what `generate` writes. */
export function readBoards(): ReadonlyMap<string, LoadedBoard> {
  loaded ??= new Map(
    readdirSync(FOLDER)
      .filter((name) => name.endsWith('.json'))
      .sort()
      .map((name) => [name.slice(0, -5), readBoard(name)]),
  );
  return loaded;
}

function readBoard(name: string): LoadedBoard {
  const parsed = BoardFile.safeParse(JSON.parse(readFileSync(join(FOLDER, name), 'utf8')));
  if (!parsed.success)
    throw new GrantscopeError(
      'definition_invalid',
      `dashboards/generated/${name}: ${parsed.error.issues.map((i) => i.path.join('.')).join(', ')}; run: npx grantscope generate`,
    );
  const file = parsed.data;
  const panels = file.panels.filter((p) => p.type !== 'row');
  return {
    view: viewOf(name.slice(0, -5), file),
    queries: new Map(
      panels.map((p) => [
        p.id,
        {
          kind: kindOf(p),
          stepSecondsMin: Number.parseInt(p.interval ?? '0', 10),
          targets: p.targets,
        },
      ]),
    ),
    annotations: file.annotations.list.map((a) => ({
      name: a.name,
      color: a.iconColor,
      text: a.target.rawSql ?? '',
    })),
  };
}

function viewOf(id: string, file: BoardFile): BoardView {
  const rows: { title: string; panels: BoardPanel[] }[] = [];
  for (const panel of file.panels) {
    if (panel.type === 'row') rows.push({ title: panel.title, panels: [] });
    else rows.at(-1)?.panels.push(panelView(panel));
  }
  const names = file.templating.list.map((v) => v.name);
  return {
    id,
    title: file.title,
    description: file.description,
    from: file.time.from.replace('now-', ''),
    refresh_seconds: Number.parseInt(file.refresh, 10) * (file.refresh.endsWith('m') ? 60 : 1),
    variables: Object.entries(BOARD_VARIABLES)
      .filter(([name]) => names.includes(name))
      .map(([name, { label }]) => ({ name: name as BoardVariable, label })),
    rows,
  };
}

function kindOf(panel: PanelFile): PanelKind {
  const kind = KINDS[panel.type];
  if (kind !== undefined) return kind;
  throw new GrantscopeError('definition_invalid', `panel ${panel.id}: type ${panel.type}`);
}

function panelView(panel: PanelFile): BoardPanel {
  const { defaults, overrides = [] } = panel.fieldConfig ?? {};
  const links = overrides.flatMap(({ matcher, properties }) =>
    properties
      .filter((p) => p.id === 'links')
      .flatMap((p) => p.value.map((v) => [matcher.options, addressOf(v.url)] as const)),
  );
  return {
    id: panel.id,
    title: panel.title,
    description: panel.description,
    kind: kindOf(panel),
    unit: defaults?.unit ?? 'short',
    width: panel.gridPos.w,
    height: panel.gridPos.h,
    language: panel.targets.some((t) => t.expr !== undefined) ? 'promql' : 'sql',
    thresholds: defaults?.thresholds?.steps ?? [],
    links: Object.fromEntries(links),
    opens: addressOf(panel.links[0]?.url ?? ''),
  };
}

/** A link of Grafana's as one of the console: the hash route, or the board with a variable that takes the value. */
function addressOf(url: string): string {
  const board = /^\/d\/grantscope-([a-z-]+)\?var-([a-z]+)=/.exec(url);
  if (board !== null) return `#/boards/${(board[1] ?? '').replaceAll('-', '_')}?${board[2] ?? ''}=`;
  const at = url.indexOf('#/');
  return at === -1 ? '' : url.slice(at).replace(/\$\{[^}]*\}$/, '');
}
