import { loadBoards } from '../dashboards/registry.ts';
import { panelStatement } from '../model/board_query.ts';
import { quantile, readFlags, report, round } from './harness/program.ts';
import { openSeeded, SEED_END_MS, SEED_TENANT } from './harness/seed.ts';

/**
 * How long every panel of every dashboard takes that asks ClickHouse, over 24 hours of very many events.
 *
 *   npm run bench -- panels [--events 10000000] [--runs 5] [--data FOLDER]
 */
const flags = readFlags(process.argv.slice(2), {
  events: 10_000_000,
  runs: 5,
  data: '',
  quick: false,
});
const DAY_MS = 86_400_000;
/** What Grafana takes for 24 hours in a panel of about 700 pixels. */
const INTERVAL_SECONDS = 120;
/** As a board is opened: nothing chosen. */
const variables = { tenant: SEED_TENANT, client: '', trace: '', token: '' };

const seeded = await openSeeded(
  flags.quick ? Math.min(flags.events, 2_000_000) : flags.events,
  flags.data,
);
try {
  const range = {
    fromMs: SEED_END_MS - DAY_MS,
    toMs: SEED_END_MS,
    intervalSeconds: INTERVAL_SECONDS,
  };
  const panels: { board: string; panel: string; rows: number; p50_ms: number; p95_ms: number }[] =
    [];
  const all: number[] = [];
  for (const board of await loadBoards()) {
    for (const panel of board.rows.flatMap((r) => r.panels)) {
      for (const query of panel.queries) {
        if (query.language !== 'sql') continue;
        const statement = panelStatement(query.text, range, variables);
        const times: number[] = [];
        let rows = 0;
        // The first run is not counted: it reads the files for the first time.
        for (let run = 0; run <= flags.runs; run += 1) {
          const began = performance.now();
          rows = (await seeded.store.query(statement)).length;
          if (run > 0) times.push(performance.now() - began);
        }
        all.push(...times);
        panels.push({
          board: board.id,
          panel: panel.title,
          rows,
          p50_ms: round(quantile(times, 0.5)),
          p95_ms: round(quantile(times, 0.95)),
        });
      }
    }
  }
  panels.sort((a, b) => b.p95_ms - a.p95_ms);
  report('panels', flags, {
    events: seeded.events,
    seeded_seconds: seeded.seededSeconds,
    slowest: panels[0],
    p95_ms_of_all: round(quantile(all, 0.95)),
    panels,
  });
} finally {
  await seeded.close();
}
