// How: forty days of seeded honest traffic (test/corpus_detection) are stored in the real engine, and every rule is run
// over them as a backtest. Nothing of severity medium or more may come of it; the test prints what honest noise does cause
// (races, retries), by rule and verdict. A smaller world with prefixes instead of ASNs must stay as quiet, and a third has
// attacks planted in it, written for it and transplanted from the rules' examples under other names, times and networks:
// each must raise exactly its finding, and nothing else may be raised by what is not an attack.
// CORPUS_EVENTS sets the size of the first world.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { backtest } from '../../detectors/backtest.ts';
import type { StatedClient } from '../../detectors/client_registry.ts';
import { canonical } from '../../detectors/examples.ts';
import type { FindingContent } from '../../detectors/finding_identity.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import type { BoundDetector } from '../../model/define_detector.ts';
import type { Raised } from '../corpus_detection/attack.ts';
import { ATTACKS } from '../corpus_detection/attacks.ts';
import { Corpus, type Happening } from '../corpus_detection/corpus.ts';
import { DENSE_FROM, honestWorld, KNOWN_LISTS } from '../corpus_detection/honest_world.ts';
import { firingExamples, transplant } from '../corpus_detection/transplant.ts';
import { openTestStore } from '../harness.ts';

const SEED = 20_260_105;
const EVENTS = Number(process.env['CORPUS_EVENTS'] ?? 20_000);
const SMALL = Math.min(EVENTS, 20_000);
const ALL_TIME = { from: 0n, to: 4_102_444_800_000_000_000n };
/** What is judged of rules with episodes by day; baselines look back to what was before. */
const JUDGED = { from: DENSE_FROM, to: ALL_TIME.to };

const rules = await loadDetectors();
const detectors = bindDetectors(rules, KNOWN_LISTS);
const idOf = (d: BoundDetector): string => d.docs.id;

let engine: Awaited<ReturnType<typeof openTestStore>>;
/** What planted attacks must raise, and the ids of their events. */
const planted: { readonly rule: string; readonly raised: readonly Raised[] }[] = [];
/** Clients that transplanted examples state, as grantscope.yaml would. */
const stated: StatedClient[] = [];
const attackEvents = new Set<string>();
const notes: string[] = [];

beforeAll(async () => {
  engine = await openTestStore();
  const { store, dataDir } = engine;
  const honest = new Corpus({ tenant: 'honest', seed: SEED });
  honestWorld(honest, EVENTS);
  await honest.store(store, dataDir);
  const prefixes = new Corpus({ tenant: 'prefixes', seed: SEED + 1, networkForm: 'prefix' });
  honestWorld(prefixes, SMALL);
  await prefixes.store(store, dataDir);
  const attacked = new Corpus({ tenant: 'attacked', seed: SEED + 2 });
  const people = honestWorld(attacked, SMALL);
  const add = (atMs: number, happening: Happening, name?: string): void => {
    attackEvents.add(attacked.add(atMs, happening, name));
  };
  const ground = { corpus: attacked, random: attacked.random, people, add };
  for (const attack of ATTACKS)
    for (let i = 0; i < attack.times; i += 1)
      planted.push({ rule: attack.rule, raised: attack.plant(ground) });
  let index = 0;
  for (const rule of rules)
    for (const example of firingExamples(rule)) {
      const { raised, clients } = transplant(ground, rule, example, index);
      planted.push({ rule: rule.id, raised });
      stated.push(...clients);
      index += 1;
    }
  await attacked.store(store, dataDir);
  notes.push(`honest ${honest.size}, prefixes ${prefixes.size}, attacked ${attacked.size} events`);
  for (const [what, n] of [...honest.notes].sort()) notes.push(`  ${what}: ${n}`);
}, 180_000);
afterAll(async () => {
  await engine.close();
  process.stdout.write(`${notes.join('\n')}\n`);
});

async function findingsOf(tenant: string, detector: BoundDetector): Promise<FindingContent[]> {
  const { store } = engine;
  const range = detector.docs.episodes === 'lifetime' ? ALL_TIME : JUDGED;
  const clients = tenant === 'attacked' ? stated : [];
  const { findings } = await backtest({ store, tenant, detectors: [detector], clients, range });
  return [...findings];
}

const isGrave = (f: FindingContent): boolean => f.severity !== 'info' && f.severity !== 'low';
const shown = (f: FindingContent): Raised => ({
  entity: f.entity_ref,
  verdict: f.verdict,
  severity: f.severity,
  evidence: f.evidence,
});
const byEntity = (a: Raised, b: Raised): number => (canonical(a) < canonical(b) ? -1 : 1);

function noteCounts(tenant: string, detector: BoundDetector, findings: FindingContent[]): void {
  const counts = new Map<string, number>();
  for (const f of findings) {
    const key = `${f.verdict} (${f.severity})`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const text = [...counts].sort().map(([key, n]) => `${key} ${n}`);
  if (text.length > 0) notes.push(`${tenant} ${idOf(detector)}: ${text.join(', ')}`);
}

for (const tenant of ['honest', 'prefixes'])
  describe(`${tenant} (seed ${SEED})`, () => {
    it.each(detectors.map((d) => [idOf(d), d] as const))(
      '%s raises nothing of medium or more',
      async (_id, detector) => {
        const findings = await findingsOf(tenant, detector);
        noteCounts(tenant, detector, findings);
        expect(findings.filter(isGrave).map((f) => ({ ...shown(f), summary: f.summary }))).toEqual(
          [],
        );
      },
    );
  });

it('honest noise is what the corpus holds: races, lost answers and retries are classified, not lost', async () => {
  const counts = new Map<string, number>();
  for (const detector of detectors.filter((d) =>
    ['refresh_token_reuse', 'code_redeemed_twice'].includes(idOf(d)),
  ))
    for (const { rule_id, verdict } of await findingsOf('honest', detector)) {
      const key = `${rule_id} ${verdict}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  const events = EVENTS / 1_000;
  expect(counts.get('refresh_token_reuse benign_race')).toBeGreaterThan(events);
  expect(counts.get('refresh_token_reuse lost_response')).toBeGreaterThan(events / 20);
  expect(counts.get('code_redeemed_twice retry')).toBeGreaterThan(events / 4);
});

describe(`attacks among honest traffic (seed ${SEED + 2})`, () => {
  it.each(detectors.map((d) => [idOf(d), d] as const))(
    '%s raises its attacks exactly, and nothing about the honest',
    async (id, detector) => {
      const findings = await findingsOf('attacked', detector);
      const own = planted.filter((p) => p.rule === id);
      const entities = new Set(own.flatMap((p) => p.raised.map((r) => r.entity)));
      const expected = own.flatMap((p) => p.raised).sort(byEntity);
      const actual = findings.filter((f) => entities.has(f.entity_ref)).map(shown);
      expect(actual.sort(byEntity)).toEqual(expected);
      // Other rules may see an attack as well; but not without one of its events.
      const strangers = findings
        .filter((f) => isGrave(f) && !f.event_ids.some((e) => attackEvents.has(e)))
        .map(shown);
      expect(strangers).toEqual([]);
    },
  );

  it('has an attack of its own for every rule, beside the examples', () => {
    const attacked = new Set(ATTACKS.map((a) => a.rule));
    expect(detectors.map(idOf).filter((id) => !attacked.has(id))).toEqual([]);
  });
});
