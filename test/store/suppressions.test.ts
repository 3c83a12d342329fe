// How: the scope of a suppression in TypeScript and in SQL over the same findings in the real embedded engine, drawn at random
// (the seed is printed by fast-check on a failure), and what may be added with which end.
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finding } from '../../model/finding.ts';
import { param, sql } from '../../model/sql.ts';
import {
  isInScope,
  SUPPRESSION_DAYS_MAX,
  SuppressionRequest,
  SuppressionScope,
} from '../../model/suppression.ts';
import {
  addSuppression,
  inScope,
  listSuppressions,
  PREVIEW_ENTITIES_MAX,
  previewSuppression,
} from '../../store/queries/suppressions.ts';
import { id, insertFindings, makeFinding } from '../api_seed.ts';
import { openTestStore } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const DAY_MS = 86_400_000;
const iso = (ms: number): string => new Date(ms).toISOString();

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const some = <T>(values: readonly T[]) => fc.constantFrom(...values);
const RULES = ['access_token_replay', 'refresh_token_reuse'] as const;
const lists = (values: readonly string[]) => fc.subarray([...values]);
const NETWORKS = ['198.51.100.0/24', "10.0.0.0/8' OR 1=1 --", 'AS64500'];
const SOURCES = ['keycloak', 'envoy'];

const findings = fc.array(
  fc.record({
    rule_id: some(RULES),
    verdict: some(['theft', 'race']),
    entity_type: some(['client', 'family'] as const),
    entity_ref: some(['a', 'b']),
    client_id: some(['', 'shop', 'cafe']),
    networks: lists(NETWORKS),
    sources: lists(SOURCES),
  }),
  { minLength: 1, maxLength: 30 },
);
const scopes = fc
  .record(
    {
      rule_id: some(RULES),
      verdict: some(['theft', 'race']),
      entity: some(['a', 'b']),
      client_id: some(['shop', 'cafe']),
      networks: lists(NETWORKS).filter((l) => l.length > 0),
      sources: lists(SOURCES).filter((l) => l.length > 0),
    },
    { requiredKeys: [] },
  )
  .map(({ entity, ...rest }) => ({
    ...rest,
    ...(entity === undefined ? {} : { entity_type: 'client' as const, entity_ref: entity }),
  }))
  .filter((s) => Object.keys(s).length > 0);

describe('the scope of a suppression', () => {
  it('means the same in TypeScript and in SQL', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(findings, scopes, async (drawn, fields) => {
        const tenant = `scope_${(run += 1)}`;
        const all = drawn.map((f, n): Finding =>
          makeFinding({ ...f, tenant, finding_id: id('1', n) }),
        );
        await insertFindings(engine.store, all);
        const scope = SuppressionScope.parse(fields);
        const rows = await engine.store.query<{ finding_id: string }>(
          sql`SELECT finding_id FROM grantscope.findings FINAL WHERE tenant = ${param.string(tenant)} AND ${inScope(scope)} ORDER BY finding_id`,
        );
        expect(rows.map((r) => r.finding_id)).toEqual(
          all.filter((f) => isInScope(scope, f)).map((f) => f.finding_id),
        );
      }),
      { numRuns: Number(process.env['PROPERTY_RUNS'] ?? 40) },
    );
  });

  it.each([
    [{}, 'a scope names at least one of rule_id'],
    [{ rule_id: '*' }, 'there is no wildcard'],
    [{ client_id: '%' }, 'there is no wildcard'],
    [{ networks: ['**'] }, 'there is no wildcard'],
    [{ networks: [] }, '>=1'],
    [{ entity_type: 'client' }, 'entity_type and entity_ref go together'],
    [{ entity_ref: 'shop' }, 'entity_type and entity_ref go together'],
    [{ clients: 'shop' }, 'clients'],
  ])('is refused where it names nothing or too much: %j', (fields, message) => {
    const parsed = SuppressionScope.safeParse(fields);
    expect(JSON.stringify(parsed.error?.issues)).toContain(message);
  });

  it('never is: nothing without an owner, a reason and an end', () => {
    const parsed = SuppressionRequest.safeParse({ rule_id: 'a', owner: ' ' });
    expect(parsed.error?.issues.map((i) => i.path.join('.'))).toEqual([
      'owner',
      'reason',
      'expires_at',
    ]);
  });
});

describe('adding a suppression', () => {
  const terms = { owner: 'soc', reason: 'known', client_id: 'shop' };
  const by = { createdBy: 'ann', nowMs: NOW_MS };

  it('takes an end within a year and no other', async () => {
    const scope = { store: engine.store, tenant: 'ends' };
    const add = (expiresMs: number) =>
      addSuppression(scope, { ...terms, expires_at: iso(expiresMs) }, by);
    const last = NOW_MS + SUPPRESSION_DAYS_MAX * DAY_MS;
    await expect(add(NOW_MS)).rejects.toThrow('expires_at: must be in the future');
    await expect(add(last + 1)).rejects.toThrow('expires_at: at most 366 days from now');
    const added = await add(last);
    expect(added).toEqual({
      suppression_id: added.suppression_id,
      origin: 'api',
      scope: { client_id: 'shop' },
      severity_max: 'medium',
      owner: 'soc',
      reason: 'known',
      created_by: 'ann',
      created_at: iso(NOW_MS),
      expires_at: iso(last),
      removed_at: '',
      removed_by: '',
      removed_reason: '',
      hits: 0,
      last_hit_at: '',
    });
    expect(await listSuppressions(scope, NOW_MS)).toEqual([added]);
    expect(await listSuppressions({ ...scope, tenant: 'neighbour' }, NOW_MS)).toEqual([]);
  });

  it('hides by default up to the gravest seen, and critical ones only where that is said', async () => {
    const scope = { store: engine.store, tenant: 'defaults' };
    const make = (n: number, f: Partial<Finding>) =>
      makeFinding({
        tenant: 'defaults',
        finding_id: id('2', n),
        last_event_time: iso(NOW_MS),
        ...f,
      });
    await insertFindings(engine.store, [
      make(1, { client_id: 'a', severity: 'low' }),
      make(2, { client_id: 'b', severity: 'critical' }),
      make(3, { client_id: 'b', severity: 'info' }),
    ]);
    const expires_at = iso(NOW_MS + DAY_MS);
    const maxOf = async (request: Partial<SuppressionRequest>) =>
      (await addSuppression(scope, { ...terms, expires_at, ...request }, by)).severity_max;
    expect(await maxOf({ client_id: 'a' })).toBe('low');
    expect(await maxOf({ client_id: 'b' })).toBe('high');
    expect(await maxOf({ client_id: 'b', severity_max: 'critical' })).toBe('critical');
    expect(await maxOf({ client_id: 'c' })).toBe('medium');
  });
});

describe('a preview', () => {
  it('says how many it would have hidden in 30 days, which entities, and what breaks through', async () => {
    const tenant = 'preview';
    const make = (n: number, f: Partial<Finding>) =>
      makeFinding({
        tenant,
        finding_id: id('3', n),
        severity: 'medium',
        last_event_time: iso(NOW_MS - 30 * DAY_MS),
        entity_type: 'family',
        entity_ref: n < 3 ? 'often' : `once ${n}`,
        ...f,
      });
    await insertFindings(engine.store, [
      ...Array.from({ length: PREVIEW_ENTITIES_MAX + 2 }, (_, n) => make(n, {})),
      make(100, { state: 'closed', severity: 'low', rule_id: 'other' }),
      make(101, { severity: 'high', entity_ref: 'grave' }),
      make(102, { state: 'superseded' }),
      make(103, { last_event_time: iso(NOW_MS - 30 * DAY_MS - 1) }),
      make(104, { client_id: 'another' }),
    ]);
    const preview = await previewSuppression(
      { store: engine.store, tenant },
      { client_id: 'shop-web' },
      { nowMs: NOW_MS, severityMax: 'medium' },
    );
    expect(preview).toMatchObject({
      days: 30,
      hidden: 23,
      broke_through: 1,
      severity_max: 'medium',
      by_severity: { low: 1, medium: 22 },
      by_rule: { other: 1, refresh_token_reuse: 22 },
      entities: 21,
    });
    expect(preview.top_entities).toHaveLength(PREVIEW_ENTITIES_MAX);
    expect(preview.top_entities.slice(0, 2)).toEqual([
      { entity_type: 'family', entity_ref: 'often', client_id: 'shop-web', findings: 3 },
      { entity_type: 'family', entity_ref: 'once 10', client_id: 'shop-web', findings: 1 },
    ]);
  });
});
