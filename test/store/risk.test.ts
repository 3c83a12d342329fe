// How: risk over findings in the real embedded engine, against the formula of model/risk.ts worked out here; in any order.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finding } from '../../model/finding.ts';
import { riskLevel, riskScore, RISK_HALF_LIVES_MAX } from '../../model/risk.ts';
import { addDisposition } from '../../store/queries/dispositions.ts';
import { readRisk } from '../../store/queries/risk.ts';
import { Triage } from '../../detectors/triage/triage.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { addSuppression } from '../../store/queries/suppressions.ts';
import { id, insertFindings, makeFinding } from '../api_seed.ts';
import { openTestStore } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const WEEK_MS = 7 * 86_400_000;
const iso = (ms: number): string => new Date(ms).toISOString();
let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const finding = (tenant: string, n: number, f: Partial<Finding> = {}): Finding =>
  makeFinding({
    tenant,
    finding_id: id('1', n),
    first_event_time: iso(NOW_MS - 100 * WEEK_MS),
    last_event_time: iso(NOW_MS),
    client_id: 'shop',
    risk: 60,
    ...f,
  });
const clients = (tenant: string, atMs = NOW_MS) =>
  readRisk({ store: engine.store, tenant }, 'client', { atMs, limit: 50 });

describe('the formula', () => {
  it('gives a score below 100 and the levels at their bounds', () => {
    expect([0, 10, 60, 95, 200, 2_000].map(riskScore)).toEqual([0, 9.5, 45.1, 61.3, 86.5, 100]);
    expect([0, 29.9, 30, 59.9, 60, 100].map(riskLevel)).toEqual([
      'low',
      'low',
      'medium',
      'medium',
      'high',
      'high',
    ]);
  });
});

describe('risk', () => {
  it('adds up over findings, halves in a week, and names the rules', async () => {
    await insertFindings(engine.store, [
      finding('adds', 1),
      finding('adds', 2, { last_event_time: iso(NOW_MS - WEEK_MS), rule_id: 'other' }),
      finding('adds', 3, { last_event_time: iso(NOW_MS - 2 * WEEK_MS), rule_id: 'other' }),
      finding('adds', 4, { client_id: 'cafe', risk: 10 }),
      finding('adds', 5, { client_id: '' }),
      finding('adds', 6, { client_id: 'gone', state: 'superseded' }),
    ]);
    expect(await clients('adds')).toEqual([
      {
        entity_ref: 'shop',
        score: riskScore(60 + 30 + 15),
        level: 'high',
        findings: 3,
        rules: [
          { rule_id: 'refresh_token_reuse', findings: 1, load: 60 },
          { rule_id: 'other', findings: 2, load: 45 },
        ],
        last_event_time: iso(NOW_MS),
      },
      {
        entity_ref: 'cafe',
        score: riskScore(10),
        level: 'low',
        findings: 1,
        rules: [{ rule_id: 'refresh_token_reuse', findings: 1, load: 10 }],
        last_event_time: iso(NOW_MS),
      },
    ]);
    const later = await clients('adds', NOW_MS + WEEK_MS);
    expect(later.map((r) => [r.entity_ref, r.score])).toEqual([
      ['shop', riskScore(52.5)],
      ['cafe', riskScore(5)],
    ]);
    // What has not begun yet weighs nothing; what is under way weighs whole.
    await insertFindings(engine.store, [
      finding('adds', 7, { client_id: 'soon', first_event_time: iso(NOW_MS + 1) }),
    ]);
    expect((await clients('adds')).map((r) => r.entity_ref)).toEqual(['shop', 'cafe']);
    const far = await clients('adds', NOW_MS + RISK_HALF_LIVES_MAX * WEEK_MS + 1);
    expect(far).toEqual([]);
  });

  it('is kept by subject, client and family', async () => {
    await insertFindings(engine.store, [
      finding('types', 1, {
        entity_type: 'family',
        entity_ref: id('f', 1),
        subject_ref: id('5', 1),
      }),
      finding('types', 2, {
        entity_type: 'token',
        entity_ref: id('a', 1),
        subject_ref: id('5', 1),
      }),
      finding('types', 3, { entity_type: 'client', entity_ref: 'shop', subject_ref: '' }),
    ]);
    const of = async (type: 'subject' | 'client' | 'family', entityRef?: string) =>
      (
        await readRisk({ store: engine.store, tenant: 'types' }, type, {
          atMs: NOW_MS,
          limit: 50,
          entityRef,
        })
      ).map((r) => [r.entity_ref, r.findings]);
    expect(await of('subject')).toEqual([[id('5', 1), 2]]);
    expect(await of('client')).toEqual([['shop', 3]]);
    expect(await of('family')).toEqual([[id('f', 1), 1]]);
    expect(await of('client', 'nobody')).toEqual([]);
  });

  it('leaves out what is suppressed or was judged false or benign, by the last judgement', async () => {
    const scope = { store: engine.store, tenant: 'judged' };
    const clock = new ManualClock(NOW_MS);
    await insertFindings(
      engine.store,
      [1, 2, 3, 4].map((n) => finding('judged', n, { risk: n, verdict: `v${n}` })),
    );
    await addSuppression(
      scope,
      { verdict: 'v4', severity_max: 'high', owner: 'o', reason: 'r', expires_at: iso(NOW_MS + 1) },
      { createdBy: 'ann', nowMs: NOW_MS },
    );
    const triage = new Triage({
      store: engine.store,
      tenant: 'judged',
      clock,
      metrics: new Metrics({ processMetrics: false }),
      configured: [],
    });
    await triage.round([]);
    const judge = (
      n: number,
      disposition: 'true_positive' | 'false_positive' | 'benign_positive',
      ms: number,
    ) => addDisposition(scope, id('1', n), { disposition, author: 'ann', note: '' }, NOW_MS + ms);
    await judge(1, 'false_positive', 0);
    await judge(1, 'true_positive', 1);
    await judge(2, 'true_positive', 0);
    await judge(2, 'false_positive', 1);
    await judge(3, 'benign_positive', 0);
    expect((await clients('judged')).map((r) => [r.score, r.findings])).toEqual([
      [riskScore(1), 1],
    ]);
  });

  it('is the same to the last digit in whatever order findings were written', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            risk: fc.integer({ min: 1, max: 100 }),
            age: fc.integer({ min: 0, max: 5_000_000_000 }),
          }),
          { minLength: 2, maxLength: 40 },
        ),
        fc.infiniteStream(fc.nat()),
        async (drawn, luck) => {
          const make = (tenant: string) =>
            drawn.map(({ risk, age }, n) =>
              finding(tenant, n, { risk, last_event_time: iso(NOW_MS - age) }),
            );
          const [one, other] = [`order_${(run += 1)}`, `order_${(run += 1)}`];
          await insertFindings(engine.store, make(one));
          const shuffled = make(other)
            .map((f) => ({ f, key: luck.next().value }))
            .sort((a, b) => a.key - b.key)
            .map(({ f }) => f);
          for (const f of shuffled.slice(0, 3)) await insertFindings(engine.store, [f]);
          await insertFindings(engine.store, shuffled.slice(3));
          expect(await clients(other)).toEqual(await clients(one));
        },
      ),
      { numRuns: Number(process.env['PROPERTY_RUNS'] ?? 10) },
    );
  });
});
