// How: events of sources that fill some fields and leave out others, in the real embedded engine; the coverage of made-up
// and of real rules is compared number by number, and the finding about a blind rule opens, holds, and closes.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLIND_RULE, BlindParameters, checkBlindness } from '../../detectors/blind.ts';
import {
  coverageRange,
  knownCondition,
  readCoverage,
  type CoveredRule,
  type SourceCoverage,
} from '../../detectors/coverage.ts';
import { registerDetectorOperations, type CoverageReport } from '../../detectors/main.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { EXAMPLE_START_MS } from '../../model/define_detector.ts';
import { AUTH_EVENT_FIELDS } from '../../model/event_fields.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql } from '../../model/sql.ts';
import { insertEvents } from '../../store/insert.ts';
import { eventAt, makeRunner, readFindings } from '../detector_world.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { openTestStore, testRuntime } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const NS_PER_S = 1_000_000_000n;
const START = BigInt(EXAMPLE_START_MS) * 1_000_000n;
const DAY = { from: START, to: START + 86_400n * NS_PER_S };

/** `n` events of a source, one a second from `t` on. */
function stream(
  tenant: string,
  source: string,
  n: number,
  event: Omit<Parameters<typeof eventAt>[3], 'client'>,
  t = 0,
): AuthEvent[] {
  return Array.from({ length: n }, (_, i) => {
    const id = `${tenant} ${source} ${event.kind} ${JSON.stringify(event)} ${t + i}`;
    const one = eventAt(tenant, id, t + i, { ...event, client: { id: 'app' } });
    return { ...one, source: { ...one.source, id: source } };
  });
}

const NETWORK = { network: '198.51.100.0/24' } as const;
const token = { role: 'presented', type: 'access', ref: exampleRef('t') } as const;

describe('coverage', () => {
  it('takes the kind that fills a field best, and tells blind from too few and none', async () => {
    const tenant = 'coverage';
    const rule: CoveredRule = {
      id: 'made_up',
      needs: ['net.network', 'tokens.ref', 'error.code'],
      kinds: ['api_accessed', 'token_request_failed'],
    };
    await insertEvents(engine.store, [
      ...stream(tenant, 'full', 10, { kind: 'api_accessed', net: NETWORK, tokens: [token] }),
      ...stream(tenant, 'full', 4, {
        kind: 'token_request_failed',
        outcome: 'failure',
        error: { code: 'x' },
      }),
      ...stream(tenant, 'poor', 9, { kind: 'api_accessed', tokens: [token] }),
      ...stream(tenant, 'poor', 1, { kind: 'api_accessed', tokens: [token], net: NETWORK }, 50),
      ...stream(tenant, 'new', 3, { kind: 'api_accessed', net: NETWORK, tokens: [token] }),
      ...stream(tenant, 'other', 10, { kind: 'login' }),
    ]);
    const logins: CoveredRule = { id: 'logins', needs: ['client.id'], kinds: ['login'] };
    const unfed: CoveredRule = { id: 'unfed', needs: ['client.id'], kinds: ['key_used'] };
    const limits = { unknownShareMax: 0.5, eventsMin: 4 };
    const rules = [rule, logins, unfed];
    const coverage = await readCoverage(engine.store, tenant, rules, DAY, limits);
    expect(coverage.events).toBe(37);
    const [made, login, none] = coverage.rules;
    const brief = (c: SourceCoverage): unknown[] => [c.source_id, c.state, c.events, c.missing];
    expect(made?.sources.map(brief)).toEqual([
      ['full', 'sees', 14, []],
      ['new', 'few_events', 3, []],
      ['other', 'no_events', 0, []],
      ['poor', 'blind', 10, ['net.network']],
    ]);
    expect(made?.sources[0]?.fields).toEqual([
      { field: 'net.network', kind: 'api_accessed', events: 10, known: 10, share: 1 },
      { field: 'tokens.ref', kind: 'api_accessed', events: 10, known: 10, share: 1 },
      { field: 'error.code', kind: 'token_request_failed', events: 4, known: 4, share: 1 },
    ]);
    // No failure came, so nothing is said about error codes.
    expect(made?.sources[3]?.fields.at(-1)).toEqual({
      field: 'error.code',
      kind: '',
      events: 0,
      known: 0,
      share: null,
    });
    expect([made?.state, login?.state, none?.state]).toEqual(['sees', 'sees', 'no_events']);
  });

  it('calls a field blinding just above the share, and not at it', async () => {
    const tenant = 'share';
    const rule: CoveredRule = { id: 'r', needs: ['net.network'], kinds: ['login'] };
    await insertEvents(engine.store, [
      ...stream(tenant, 'half', 5, { kind: 'login', net: NETWORK }),
      ...stream(tenant, 'half', 5, { kind: 'login' }, 10),
    ]);
    const stateAt = async (unknownShareMax: number, eventsMin: number): Promise<unknown> => {
      const limits = { unknownShareMax, eventsMin };
      const { rules } = await readCoverage(engine.store, tenant, [rule], DAY, limits);
      return rules[0]?.sources[0]?.state;
    };
    expect(await stateAt(0.5, 10)).toBe('sees');
    expect(await stateAt(0.49, 10)).toBe('blind');
    expect(await stateAt(0.49, 11)).toBe('few_events');
  });

  it('knows of every field whether an event holds it', async () => {
    const tenant = 'fields';
    const empty = eventAt(tenant, 'empty', 0, { kind: 'login' });
    await insertEvents(engine.store, [empty]);
    const known: string[] = [];
    for (const field of AUTH_EVENT_FIELDS) {
      const [row] = await engine.store.query<{ n: string }>(
        sql`SELECT countIf(${knownCondition(field)}) AS n FROM grantscope.auth_events WHERE tenant = ${param.string(tenant)}`,
      );
      if (Number(row?.n) === 1) known.push(field);
    }
    const always = ['event_id', 'tenant', 'time', 'observed_time', 'kind', 'phase'];
    expect(known.filter((f) => !always.includes(f))).toEqual(
      known.filter((f) => ['redaction.upstream', 'source.id'].includes(f)),
    );
    expect(always.filter((f) => !known.includes(f))).toEqual([]);
  });

  it('reads a shorter stretch where many events came', async () => {
    const tenant = 'many';
    await insertEvents(engine.store, stream(tenant, 's', 100, { kind: 'login' }));
    const to = START + 100n * NS_PER_S;
    const seconds = async (max: number): Promise<number> => {
      const range = await coverageRange(engine.store, tenant, to, 3_600_000, max);
      return Number((range.to - range.from) / NS_PER_S);
    };
    expect(await seconds(100)).toBe(3_600);
    expect(await seconds(99)).toBe(40);
    expect(await seconds(39)).toBe(10);
    expect(await seconds(1)).toBe(10);
  });
});

describe('detector_blind', () => {
  const rules: CoveredRule[] = [
    { id: 'needs_network', needs: ['net.network'], kinds: ['login'] },
    { id: 'needs_client', needs: ['client.id'], kinds: ['login'] },
  ];
  const look = (tenant: string, nowMs: number, more: Partial<BlindParameters> = {}) =>
    checkBlindness(
      {
        store: engine.store,
        tenant,
        rules,
        parameters: BlindParameters.parse({ events_min: 10, ...more }),
      },
      nowMs,
    );

  it('opens once for a source, stays as it is, and closes when the source tells more', async () => {
    const tenant = 'blind';
    await insertEvents(engine.store, [
      ...stream(tenant, 'dim', 10, { kind: 'login' }),
      ...stream(tenant, 'bright', 10, { kind: 'login', net: NETWORK }),
      ...stream(tenant, '', 10, { kind: 'login' }),
    ]);
    const minute = 60_000;
    const first = await look(tenant, EXAMPLE_START_MS + minute);
    expect([first.changes.opened, ...first.blindSources]).toEqual([
      1,
      ['needs_network', 1],
      ['needs_client', 0],
    ]);
    const { current } = await readFindings(engine.store, tenant);
    expect(current).toHaveLength(1);
    expect(current[0]).toMatchObject({
      rule_id: 'detector_blind',
      entity_type: 'source',
      entity_ref: 'dim',
      severity: 'low',
      risk: 0,
      state: 'open',
      verdict: 'blind',
      summary: '1 rule(s) are blind for source dim: it leaves out net.network.',
      first_event_time: '2026-01-05 12:00:00.000',
    });
    expect(JSON.parse(String(current[0]?.['evidence']))).toEqual({
      blind_rules: ['needs_network'],
      missing_fields: { needs_network: ['net.network'] },
    });
    expect((await look(tenant, EXAMPLE_START_MS + 50 * minute)).changes.ids).toEqual([]);
    // An hour later it still holds: since the same time.
    expect((await look(tenant, EXAMPLE_START_MS + 61 * minute)).changes.changed).toBe(1);
    const later = (await readFindings(engine.store, tenant)).current;
    expect([later[0]?.['first_event_time'], later[0]?.['last_event_time']]).toEqual([
      '2026-01-05 12:00:00.000',
      '2026-01-05 13:00:00.000',
    ]);
    await insertEvents(
      engine.store,
      stream(tenant, 'dim', 30, { kind: 'login', net: NETWORK }, 4_000),
    );
    const seeing = await look(tenant, EXAMPLE_START_MS + 120 * minute);
    expect([seeing.changes.ids, seeing.blindSources.get('needs_network')]).toEqual([[], 0]);
    expect((await look(tenant, EXAMPLE_START_MS + 241 * minute)).changes.closed).toBe(1);
  });

  it('says nothing of what is excluded or comes in few events', async () => {
    const tenant = 'excluded';
    await insertEvents(engine.store, stream(tenant, 'dim', 10, { kind: 'login' }));
    const now = EXAMPLE_START_MS + 60_000;
    const opened = async (more: Partial<BlindParameters>): Promise<number> =>
      (await look(tenant, now, more)).changes.opened;
    expect(await opened({ exclude_sources: ['dim'] })).toBe(0);
    expect(await opened({ exclude_rules: ['needs_network'] })).toBe(0);
    expect(await opened({ events_min: 11 })).toBe(0);
    expect(await opened({})).toBe(1);
  });

  it('is looked for by the runner, which tells the number of sources by rule', async () => {
    const tenant = 'runner';
    const metrics = new Metrics({ processMetrics: false });
    const clock = new ManualClock(EXAMPLE_START_MS + 3_600_000);
    const runner = await makeRunner(engine.store, tenant, { metrics, clock });
    await insertEvents(
      engine.store,
      stream(tenant, 'dim', 500, {
        kind: 'api_accessed',
        outcome: 'success',
        tokens: [token],
      }),
    );
    await runner.drain();
    const { current } = await readFindings(engine.store, tenant);
    const found = current.find((f) => f['rule_id'] === BLIND_RULE.id);
    expect(found?.['entity_ref']).toBe('dim');
    expect(String(found?.['evidence'])).toContain('"access_token_replay":["net.network"');
    const text = await metrics.registry.metrics();
    expect(text).toContain('grantscope_detector_blind_sources{rule="access_token_replay"} 1');
    expect(text).toContain('grantscope_detector_blind_sources{rule="redirect_probing"} 0');
    const names = (await loadDetectors()).map((d) => d.id);
    expect(names).not.toContain(BLIND_RULE.id);
  });

  it('is set like a rule, listed and shown like one, and its coverage can be asked for', async () => {
    const tenant = 'runner';
    const detectors = { detector_blind: { events_min: 501 } };
    const clock = new ManualClock(EXAMPLE_START_MS + 3_600_000);
    const runtime = testRuntime(engine.dataDir, { clock, config: { tenant, detectors } });
    await registerDetectorOperations(runtime, engine.store);
    const ask = (name: string, input: unknown): unknown =>
      runtime.operations.get(name)!(input, () => undefined);
    expect(await ask('rules_list', {})).toContainEqual({
      id: 'detector_blind',
      version: 1,
      title: BLIND_RULE.title,
      family: 'operations',
      severity: 'low',
      entity: 'source',
    });
    const shown = await ask('rules_show', { rule: 'detector_blind' });
    expect(shown).toMatchObject({ parameters: { events_min: 501, window_ms: 86_400_000 } });
    const report = (await ask('rules_coverage', { rule: 'access_token_replay' })) as CoverageReport;
    const [rule] = report.rules;
    expect([report.from, report.to, report.events, rule?.state, rule?.sources.length]).toEqual([
      '2026-01-04T13:00:00.000Z',
      '2026-01-05T13:00:00.000Z',
      500,
      'blind',
      1,
    ]);
    const at = '2026-01-05T13:00:00Z';
    await expect(ask('rules_coverage', { from: at, to: at })).rejects.toThrow(/^from: must be/);
    const wrong = { detector_blind: { events_max: 1 } };
    expect(() => bindDetectors([], wrong)).toThrow(
      /detectors\.detector_blind: .*events_max.*; allowed parameters: unknown_share_max, events_min/,
    );
  });
});
