import { namesOfTenant } from '../store/reference_names.ts';
import { eventsOf, lineageOf, readTimeline, summarise } from '../store/queries/investigations.ts';
import { quantile, readFlags, report, round } from './harness/program.ts';
import { openSeeded, SEED_TENANT } from './harness/seed.ts';

/**
 * How long the timeline of one token takes among very many: the queries behind
 * `GET /api/v1/investigations/token/{ref}/timeline` (lineage, then one page of events) and behind its summary, for tokens
 * drawn at random, in a process whose caches are warm from other tokens.
 *
 *   npm run bench -- timeline [--events 10000000] [--tokens 100] [--data FOLDER]
 *
 * FOLDER keeps the generated events for another run (and for `panels`).
 */
const flags = readFlags(process.argv.slice(2), {
  events: 10_000_000,
  tokens: 100,
  data: '',
  seed: 1,
  quick: false,
});
/** Tokens looked up before measuring. */
const WARM_UP = 5;
const PAGE = 100;

/** Numbers that look drawn at random, the same for a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const seeded = await openSeeded(
  flags.quick ? Math.min(flags.events, 2_000_000) : flags.events,
  flags.data,
);
try {
  const scope = { store: seeded.store, tenant: SEED_TENANT };
  const draw = random(flags.seed);
  const timelineMs: number[] = [];
  const summaryMs: number[] = [];
  let found = 0;
  for (let i = 0; i < flags.tokens + WARM_UP; i += 1) {
    const ref = await seeded.tokenRef(Math.floor(draw() * seeded.tokens));
    const began = performance.now();
    const names = (await (await namesOfTenant(scope.store, scope.tenant))([ref])).namesOf(ref);
    const lineage = await lineageOf(scope, 'token', names);
    const events = await eventsOf(scope, 'token', names, lineage);
    const page = await readTimeline(scope, events, { limit: PAGE, descending: false });
    const listed = performance.now();
    await summarise(scope, events);
    if (i < WARM_UP) continue;
    timelineMs.push(listed - began);
    summaryMs.push(performance.now() - listed);
    found += page.items.length;
  }
  const of = (values: readonly number[]) => ({
    p50: round(quantile(values, 0.5)),
    p95: round(quantile(values, 0.95)),
    max: round(quantile(values, 1)),
  });
  report('timeline', flags, {
    events: seeded.events,
    tokens_in_store: seeded.tokens,
    seeded_seconds: seeded.seededSeconds,
    events_per_timeline: round(found / flags.tokens),
    timeline_ms: of(timelineMs),
    summary_ms: of(summaryMs),
  });
} finally {
  await seeded.close();
}
