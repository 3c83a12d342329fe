import { loadBoards } from './registry.ts';

/** What dashboards generate: path from the package root to JSON. The same definitions give the same text. */
export async function generateDashboards(): Promise<Record<string, string>> {
  const boards = await loadBoards();
  // Loaded here, not at the top: the foundation SDK is for development only, and an installation without it must start.
  const { renderBoard } = await import('./render.ts');
  return Object.fromEntries(
    boards.map((board) => [
      `dashboards/generated/${board.id}.json`,
      `${JSON.stringify(renderBoard(board, boards), null, 2)}\n`,
    ]),
  );
}
