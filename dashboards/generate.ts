import { loadBoards } from './registry.ts';
import { renderBoard } from './render.ts';

/** What dashboards generate: path from the package root to JSON. The same definitions give the same text. */
export async function generateDashboards(): Promise<Record<string, string>> {
  const boards = await loadBoards();
  return Object.fromEntries(
    boards.map((board) => [
      `dashboards/generated/${board.id}.json`,
      `${JSON.stringify(renderBoard(board), null, 2)}\n`,
    ]),
  );
}
