import type { JSX } from 'preact';
import type { BoardPanel, PanelData, PanelFrame } from '../../../schemas/board_view.ts';
import { shortRef } from '../format.ts';
import { Scrolled } from './charts.tsx';

const COLUMN = 250;
const ROW = 64;
const BOX = { width: 204, height: 48 };

interface Node {
  readonly id: string;
  readonly title: string;
  readonly detail: string;
  x: number;
  y: number;
}

function rowsOf(frame: PanelFrame | undefined): readonly Readonly<Record<string, string>>[] {
  return (frame?.rows ?? []).map((row) =>
    Object.fromEntries(frame?.columns.map((c, i) => [c.name, String(row[i] ?? '')]) ?? []),
  );
}

/** From left to right: every node one column right of its parent, below what came before. */
function layOut(data: PanelData): {
  readonly nodes: readonly Node[];
  readonly edges: readonly (readonly [Node, Node])[];
} {
  const nodes = new Map<string, Node>();
  for (const r of rowsOf(data.frames[0]))
    nodes.set(r['id'] ?? '', {
      id: r['id'] ?? '',
      title: r['title'] ?? '',
      detail: [r['mainstat'], r['subtitle']].filter(Boolean).join(', '),
      x: 0,
      y: 0,
    });
  const links = rowsOf(data.frames[1]).flatMap((r) => {
    const [from, to] = [nodes.get(r['source'] ?? ''), nodes.get(r['target'] ?? '')];
    return from === undefined || to === undefined ? [] : [[from, to] as const];
  });
  const childrenOf = (node: Node): Node[] =>
    links.filter(([from]) => from === node).map(([, to]) => to);
  const placed = new Set<Node>();
  let row = 0;
  const place = (node: Node, depth: number): void => {
    if (placed.has(node)) return;
    placed.add(node);
    node.x = depth * COLUMN;
    node.y = row * ROW;
    const own = childrenOf(node).filter((to) => !placed.has(to));
    own.forEach((to, i) => {
      if (i > 0) row += 1;
      place(to, depth + 1);
    });
  };
  const targets = new Set(links.map(([, to]) => to));
  // Roots first; what is left then is a circle, and any of its nodes will do.
  for (const node of [...nodes.values()].sort(
    (a, b) => Number(targets.has(a)) - Number(targets.has(b)),
  )) {
    if (placed.has(node)) continue;
    if (placed.size > 0) row += 1;
    place(node, 0);
  }
  return { nodes: [...nodes.values()], edges: links };
}

/** A family of tokens as a tree that grows to the right; every node leads to its investigation. */
export function NodeGraph(props: {
  readonly panel: BoardPanel;
  readonly data: PanelData;
}): JSX.Element {
  const { nodes, edges } = layOut(props.data);
  const width = Math.max(...nodes.map((n) => n.x)) + BOX.width + 4;
  const height = Math.max(...nodes.map((n) => n.y)) + BOX.height + 4;
  const to = props.panel.links['id'] ?? '';
  return (
    <Scrolled label={`${props.panel.title}, scrollable`}>
      <svg
        class="graph"
        width={width}
        height={height}
        viewBox={`-2 -2 ${width} ${height}`}
        role="group"
        aria-label={`${props.panel.title}: ${nodes.length} nodes; the same as tables below`}
      >
        {edges.map(([from, target]) => {
          const [x1, y1] = [from.x + BOX.width, from.y + BOX.height / 2];
          const [x2, y2] = [target.x, target.y + BOX.height / 2];
          const middle = (x1 + x2) / 2;
          return (
            <path
              key={`${from.id} ${target.id}`}
              class="edge"
              d={`M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`}
            />
          );
        })}
        {nodes.map((n) => (
          <a key={n.id} href={`${to}${encodeURIComponent(n.id)}`}>
            <rect class="node" x={n.x} y={n.y} width={BOX.width} height={BOX.height} rx="6" />
            <text class="node-title" x={n.x + 10} y={n.y + 19}>
              {n.title} <tspan class="node-ref">{shortRef(n.id).slice(0, 8)}</tspan>
            </text>
            <text class="node-detail" x={n.x + 10} y={n.y + 37}>
              {n.detail}
            </text>
          </a>
        ))}
      </svg>
    </Scrolled>
  );
}
