// How: two runners over one store, cycle by cycle in turn and both at once, while an attack and honest trouble arrive. The
// findings must be those of one runner, each change written once, counted once by both together, and told to Alertmanager
// once: a server on loopback takes what the notifier sends. Then stored events are judged again on demand.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AlertmanagerClient, type PostableAlert } from '../../alerts/alertmanager_client.ts';
import { findingAlerts } from '../../alerts/desired_alerts.ts';
import { Notifier } from '../../alerts/notifier.ts';
import { addChanges, NO_CHANGES } from '../../detectors/findings_store.ts';
import { registerDetectorOperations, type DetectReport } from '../../detectors/main.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { inTurn } from '../../detectors/turns.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql } from '../../model/sql.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { insertEvents } from '../../store/insert.ts';
import {
  eventAt,
  exampleWorld,
  makeRunner,
  readFindings,
  withoutTenant,
  WORLD_NOW_MS,
} from '../detector_world.ts';
import { openTestStore, testRuntime } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

/** A few rules of each shape: lifetime with and without a watch, daily. */
const SOME_RULES = [
  'access_token_replay',
  'code_redeemed_twice',
  'redirect_probing',
  'refresh_token_reuse',
  'scope_beyond_registration',
];
const rules = (await loadDetectors()).filter((d) => SOME_RULES.includes(d.id));

/** Rows that were ever written for findings of a tenant, and how many of them repeat a version. */
async function writtenTwice(tenant: string): Promise<number> {
  const [row] = await engine.store.query<{ n: string }>(sql`
    SELECT count() - uniqExact(finding_id, version) AS n FROM grantscope.findings WHERE tenant = ${param.string(tenant)}`);
  return Number(row?.n);
}

/** What a notifier sends about a tenant's findings in two rounds. */
async function notified(tenant: string): Promise<PostableAlert[][]> {
  const rounds: PostableAlert[][] = [];
  let sent: PostableAlert[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      sent.push(...(JSON.parse(body) as PostableAlert[]));
      response.end();
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const notifier = new Notifier({
    store: engine.store,
    tenant,
    client: new AlertmanagerClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`),
    clock: new ManualClock(WORLD_NOW_MS),
    metrics: new Metrics({ processMetrics: false }),
    log: createLog({ level: 'silent' }),
    // So long after, that what nobody has triaged is told as well.
    desired: () =>
      findingAlerts(engine.store, tenant, 'http://127.0.0.1:7400', WORLD_NOW_MS + 3_600_000),
  });
  for (let round = 0; round < 2; round += 1) {
    sent = [];
    await notifier.round();
    rounds.push(sent);
  }
  server.close();
  return rounds;
}

describe('two runners at once', () => {
  const inThirds = (events: readonly AuthEvent[]): AuthEvent[][] =>
    [2, 0, 1].map((r) => events.filter((_e, i) => i % 3 === r));

  for (const isConcurrent of [false, true])
    it(`give the findings of one, each change once, ${isConcurrent ? 'side by side' : 'in turn'}`, async () => {
      const tenant = isConcurrent ? 'side by side' : 'in turn';
      const world = exampleWorld(rules, tenant);
      const alone = exampleWorld(rules, `${tenant} alone`);
      const one = await makeRunner(engine.store, `${tenant} alone`, {
        rules,
        clients: alone.clients,
      });
      await insertEvents(engine.store, alone.events);
      await one.drain();
      const reference = (await readFindings(engine.store, `${tenant} alone`)).current;

      const runners = [
        await makeRunner(engine.store, tenant, { rules, clients: world.clients }),
        await makeRunner(engine.store, tenant, { rules, clients: world.clients }),
      ];
      let changes = NO_CHANGES;
      for (const events of [...inThirds(world.events), []]) {
        await insertEvents(engine.store, events);
        if (isConcurrent) {
          const both = await Promise.all(runners.map((r) => r.drain()));
          for (const own of both) changes = addChanges(changes, own);
        } else
          for (const runner of runners)
            changes = addChanges(changes, (await runner.cycle()).changes);
      }
      for (const runner of runners) changes = addChanges(changes, await runner.drain());
      const { current, superseded } = await readFindings(engine.store, tenant);
      expect(withoutTenant(current)).toEqual(withoutTenant(reference));
      expect(current.length).toBeGreaterThan(20);
      // Whoever opened it: every finding was opened once, and each version was written once.
      expect(changes.opened).toBe(current.length + superseded);
      expect(await writtenTwice(tenant)).toBe(0);
      const [first, second] = await notified(tenant);
      expect(first?.length).toBeGreaterThan(0);
      expect(new Set(first?.map((a) => JSON.stringify(a.labels))).size).toBe(first?.length);
      expect(second).toEqual([]);
    }, 120_000);

  it('take turns by name, and one that fails lets the next one go', async () => {
    const done: string[] = [];
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const slow = inTurn(engine.store, 'a', async () => {
      await gate;
      done.push('slow');
      throw new Error('failed');
    });
    const next = inTurn(engine.store, 'a', () => Promise.resolve(done.push('next')));
    await inTurn(engine.store, 'b', () => Promise.resolve(done.push('other')));
    open();
    await expect(slow).rejects.toThrow('failed');
    await next;
    expect(done).toEqual(['other', 'slow', 'next']);
  });
});

describe('judging again on demand', () => {
  const redeem = (tenant: string, t: number): AuthEvent =>
    eventAt(tenant, `code ${t}`, t, {
      kind: 'code_redeemed',
      outcome: t === 0 ? 'success' : 'failure',
      client: { id: 'web-shop' },
      net: { client_ip: t === 0 ? '198.51.100.7' : '203.0.113.9' },
      tokens: [{ role: 'consumed', type: 'code', ref: exampleRef('code') }],
    });
  const ask = (t: number): AuthEvent =>
    eventAt('again', `ask ${t}`, t, {
      kind: 'authorization_failed',
      outcome: 'failure',
      error: { code: 'invalid_redirect_uri' },
      client: { id: 'web-shop' },
      redirect_uri: `https://shop.example/cb${t}`,
    });

  it('writes what the parameters of now give, withdraws what no longer follows, and repeats nothing', async () => {
    const tenant = 'again';
    const excluded = { exclude_clients: ['web-shop'] };
    const runner = await makeRunner(engine.store, tenant, {
      rules,
      overrides: { code_redeemed_twice: excluded, redirect_probing: excluded },
    });
    await insertEvents(engine.store, [
      redeem(tenant, 0),
      redeem(tenant, 60),
      // Over midnight, so that two days are judged.
      ...Array.from({ length: 5 }, (_, i) => ask(43_020 + i * 60)),
    ]);
    await runner.drain();
    const states = async (): Promise<unknown[]> => {
      const { current, superseded } = await readFindings(engine.store, tenant);
      return [...current.map((f) => [f['rule_id'], f['episode']]), superseded];
    };
    expect(await states()).toEqual([0]);
    const detect = async (
      detectors: Record<string, Record<string, unknown>>,
      more: Record<string, unknown> = {},
    ): Promise<{ report: DetectReport; hints: string[]; steps: number[][] }> => {
      const clock = new ManualClock(WORLD_NOW_MS);
      const runtime = testRuntime(engine.dataDir, { clock, config: { tenant, detectors } });
      const hints: string[] = [];
      runtime.hints.on('findings_changed', ({ ids }) => hints.push(...ids));
      await registerDetectorOperations(runtime, engine.store);
      const steps: number[][] = [];
      const report = (await runtime.operations.get('detect')!(
        { from: '2026-01-05T12:00:00Z', to: '2026-01-06T12:00:00Z', ...more },
        (done, total) => steps.push([done, total]),
      )) as DetectReport;
      return { report, hints, steps };
    };
    const brief = ({ report }: { report: DetectReport }): unknown =>
      report.rules
        .filter((r) => r.opened + r.changed + r.superseded + r.closed > 0)
        .map((r) => [r.rule_id, r.opened, r.changed, r.superseded]);
    expect(
      brief(await detect({}, { to: '2026-01-05T12:00:00.001Z', rule: 'redirect_probing' })),
    ).toEqual([]);
    const first = await detect({});
    expect(brief(first)).toEqual([
      ['code_redeemed_twice', 1, 0, 0],
      ['redirect_probing', 1, 0, 0],
    ]);
    expect([first.report.events, first.report.changed_findings, first.hints.length]).toEqual([
      7, 2, 2,
    ]);
    expect(first.steps.at(-1)?.[0]).toBe(first.steps.at(-1)?.[1]);
    expect(await states()).toEqual([
      ['code_redeemed_twice', 'lifetime'],
      ['redirect_probing', '2026-01-06T00:01:00.000Z'],
      0,
    ]);
    const again = await detect({});
    expect([brief(again), again.hints]).toEqual([[], []]);
    // What a narrower rule no longer names is judged as well, since it has a finding.
    const one = await detect({ code_redeemed_twice: excluded }, { rule: 'code_redeemed_twice' });
    expect([brief(one), one.report.rules.length]).toEqual([[['code_redeemed_twice', 0, 0, 1]], 1]);
    expect(await states()).toEqual([['redirect_probing', '2026-01-06T00:01:00.000Z'], 1]);
    await expect(detect({}, { to: '2026-01-05T12:00:00Z' })).rejects.toThrow(/^from: must be/);
    await expect(detect({}, { rule: 'nope' })).rejects.toThrow(/rule "nope" is unknown/);
  }, 120_000);
});

describe('what rules cost, and their strain', () => {
  it('is counted by rule; a saturated and a failing one are named until they recover', async () => {
    const tenant = 'strain';
    const metrics = new Metrics({ processMetrics: false });
    const limits = { unitsPerCycleMax: 1, unitsPerPage: 1, sweepLagMs: 60_000 };
    const runner = await makeRunner(engine.store, tenant, { rules, limits, metrics });
    const attack = (n: number): AuthEvent[] =>
      [0, 60].map((t) => {
        const event = eventAt(tenant, `${n} ${t}`, t, {
          kind: 'code_redeemed',
          outcome: 'success',
          client: { id: 'web-shop' },
          tokens: [{ role: 'consumed', type: 'code', ref: exampleRef(`code ${n}`) }],
        });
        return event;
      });
    await insertEvents(engine.store, [...attack(1), ...attack(2)]);
    await runner.cycle();
    expect(runner.strained).toEqual({ saturated: ['code_redeemed_twice'], failing: [] });
    await runner.drain();
    expect(runner.strained).toEqual({ saturated: [], failing: [] });
    const text = await metrics.registry.metrics();
    const value = (name: string, rule: string): number =>
      Number(
        text
          .split('\n')
          .find((l) => l.startsWith(`${name}{rule="${rule}"} `))
          ?.split(' ')[1] ?? 0,
      );
    const queries = 'grantscope_detector_queries_total';
    expect(value(queries, 'shared')).toBeGreaterThan(0);
    expect(value(queries, 'code_redeemed_twice')).toBeGreaterThan(
      value(queries, 'redirect_probing'),
    );
    expect(value('grantscope_detector_query_seconds_total', 'code_redeemed_twice')).toBeGreaterThan(
      0,
    );
  });

  it('a rule that fails is named as failing', async () => {
    const tenant = 'failing';
    const [rule] = rules.filter((d) => d.id === 'code_redeemed_twice');
    let isBroken = true;
    const broken = {
      ...rule!,
      bind: (overrides: Readonly<Record<string, unknown>>) => {
        const result = rule!.bind(overrides);
        if (!result.ok) return result;
        const { detector } = result;
        const candidates: typeof detector.candidates = (scope) =>
          isBroken ? sql`SELECT no_such_column` : detector.candidates(scope);
        return { ok: true as const, detector: { ...detector, candidates } };
      },
    };
    const runner = await makeRunner(engine.store, tenant, { rules: [broken] });
    await insertEvents(engine.store, [
      eventAt(tenant, 'one', 0, {
        kind: 'code_redeemed',
        outcome: 'success',
        tokens: [{ role: 'consumed', type: 'code', ref: exampleRef('code') }],
      }),
    ]);
    expect((await runner.cycle()).errors).toBeGreaterThan(0);
    expect(runner.strained.failing).toEqual(['code_redeemed_twice']);
    isBroken = false;
    expect((await runner.cycle()).errors).toBe(0);
    expect(runner.strained.failing).toEqual([]);
  });
});
