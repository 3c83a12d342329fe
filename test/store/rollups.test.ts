// How: random events through the real engine; what a rollup says must equal what the events say, also after a
// repeated segment, and also where the rollup was made from events that were stored before it.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, Sql } from '../../model/sql.ts';
import { packageRoot } from '../../runtime/paths.ts';
import type { Store } from '../../store/client.ts';
import { insertEvents, toJsonRow } from '../../store/insert.ts';
import { splitStatements } from '../../store/migrate.ts';
import { lineageOf } from '../../store/queries/investigations.ts';
import { openTestStore } from '../harness.ts';

let store: Store;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ store, close } = await openTestStore());
});
afterAll(async () => close());

const START = 1_767_600_000_000_000_000n;
let tenants = 0;

const anyEvent = fc.record({
  kind: fc.constantFrom('token_issued', 'token_refreshed', 'token_rejected', 'api_accessed'),
  phase: fc.constantFrom('attempt', 'outcome', 'single'),
  outcome: fc.constantFrom('success', 'failure'),
  grant_type: fc.constantFrom('', 'refresh_token'),
  second: fc.nat(240),
  status: fc.constantFrom(0, 200, 400, 503),
  duration: fc.option(fc.double({ min: 0, max: 200_000, noNaN: true })),
  error: fc.constantFrom('', 'invalid_grant'),
});

function eventsOf(
  tenant: string,
  values: readonly (typeof anyEvent extends fc.Arbitrary<infer T> ? T : never)[],
): AuthEvent[] {
  return values.map((v, i) =>
    completeEvent({
      event_id: exampleRef(`${tenant} ${i}`),
      tenant,
      time: START + BigInt(v.second) * 1_000_000_000n,
      kind: v.kind,
      phase: v.phase,
      outcome: v.outcome,
      grant_type: v.grant_type,
      error: { oauth_error: v.error },
      http: { status: v.status, ...(v.duration === null ? {} : { duration_ms: v.duration }) },
    }),
  );
}

/** What the rollup holds, summed over parts, and the same counted from the events. */
async function bothWays(tenant: string): Promise<{ rollup: unknown[]; events: unknown[] }> {
  const keys = sql`kind, minute, outcome, grant_type, error_oauth_error, http_status, latency_bucket`;
  const of = param.string(tenant);
  return {
    rollup: await store.query(
      sql`SELECT ${keys}, toUInt32(sum(events)) AS n FROM grantscope.outcome_minutes WHERE tenant = ${of} GROUP BY ${keys} ORDER BY ${keys}`,
    ),
    events: await store.query(
      sql`SELECT kind, toStartOfMinute(time) AS minute, outcome, grant_type, error_oauth_error, http_status,
        toInt16(multiIf(http_duration_ms IS NULL, 32767, http_duration_ms <= 0.01, -40, least(ceil(log10(http_duration_ms) * 20), 200))) AS latency_bucket, toUInt32(count()) AS n
      FROM grantscope.auth_events WHERE tenant = ${of} AND phase != 'attempt' GROUP BY ${keys} ORDER BY ${keys}`,
    ),
  };
}

describe('outcome_minutes', () => {
  it('says what the events say, whatever they are and however often a segment is sent', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyEvent, { minLength: 1, maxLength: 40 }), async (values) => {
        const tenant = `outcomes-${tenants++}`;
        const rows = eventsOf(tenant, values).map((e) => toJsonRow(authEventsTable, e));
        for (let i = 0; i < 2; i += 1)
          await store.insertRows(authEventsTable.table, rows, `segment of ${tenant}`);
        const { rollup, events } = await bothWays(tenant);
        expect(rollup).toEqual(events);
      }),
      { numRuns: 8 },
    );
  });

  it('puts a duration into the bucket whose bounds hold it', async () => {
    const durations = [0, 0.01, 1, 1.01, 10, 10.5, 199.5, 200, 1e9];
    await insertEvents(
      store,
      durations.map((duration_ms, i) =>
        completeEvent({
          event_id: exampleRef(`bucket ${i}`),
          tenant: 'buckets',
          time: START,
          kind: 'api_accessed',
          outcome: 'success',
          http: { duration_ms },
        }),
      ),
    );
    const rows = await store.query(
      sql`SELECT latency_bucket AS b, toUInt32(sum(events)) AS n FROM grantscope.outcome_minutes WHERE tenant = 'buckets' GROUP BY b ORDER BY b`,
    );
    // 10^(46/20) = 199.53 ms: 199.5 lies just below, 200 just above.
    expect(rows).toEqual([
      { b: -40, n: 2 },
      { b: 0, n: 1 },
      { b: 1, n: 1 },
      { b: 20, n: 1 },
      { b: 21, n: 1 },
      { b: 46, n: 1 },
      { b: 47, n: 1 },
      { b: 180, n: 1 },
    ]);
  });

  it('gives quantiles within 6 %', async () => {
    const random = (i: number): number => 5 * 1.0123 ** ((i * 7919) % 500);
    const events = Array.from({ length: 500 }, (_, i) =>
      completeEvent({
        event_id: exampleRef(`quantile ${i}`),
        tenant: 'quantiles',
        time: START,
        kind: 'token_issued',
        outcome: 'success',
        http: { duration_ms: random(i) },
      }),
    );
    await insertEvents(store, events);
    const [row] = await store.query<{ estimate: number; exact: number }>(
      sql`SELECT (SELECT quantileExactWeighted(0.95)(pow(10, (latency_bucket - 0.5) / 20), events) FROM grantscope.outcome_minutes WHERE tenant = 'quantiles') AS estimate,
                 (SELECT quantileExact(0.95)(http_duration_ms) FROM grantscope.auth_events WHERE tenant = 'quantiles') AS exact`,
    );
    expect(Math.abs((row?.estimate ?? 0) / (row?.exact ?? 1) - 1)).toBeLessThan(0.06);
  });
});

describe('token_links', () => {
  const token = (name: string): string => exampleRef(`linked ${name}`);
  const issue = (id: string, t: number, name: string, more: object): AuthEvent =>
    completeEvent({
      event_id: exampleRef(`link ${id}`),
      tenant: 'links',
      time: START + BigInt(t) * 1_000_000_000n,
      kind: 'token_issued',
      outcome: 'success',
      tokens: [{ role: 'issued', type: 'refresh', ref: token(name), ...more }],
    });

  it('lead from a family, a parent and a grant to the tokens, once told or twice', async () => {
    const first = issue('1', 0, 'a', { family_ref: token('family') });
    const second = issue('2', 1, 'b', { family_ref: token('family'), parent_ref: token('a') });
    const other = issue('3', 2, 'c', { family_ref: token('another') });
    const use = completeEvent({
      event_id: exampleRef('link 4'),
      tenant: 'links',
      time: START,
      kind: 'api_accessed',
      outcome: 'success',
      tokens: [{ role: 'presented', type: 'access', ref: token('d'), family_ref: token('family') }],
    });
    await insertEvents(store, [first, second, other, use]);
    await insertEvents(store, [{ ...first, event_id: exampleRef('link again') }]);
    const scope = { store, tenant: 'links' };
    const refsOf = async (type: 'token' | 'family', name: string): Promise<string[]> =>
      (await lineageOf(scope, type, [token(name)])).tokens.map((t) => t.ref);
    expect(await refsOf('family', 'family')).toEqual([token('a'), token('b')]);
    expect(await refsOf('token', 'a')).toEqual([token('a'), token('b')]);
    expect(await refsOf('token', 'c')).toEqual([token('c')]);
    // What a resource server alone tells is found from its own side.
    expect((await refsOf('token', 'd')).sort()).toEqual(
      [token('a'), token('b'), token('d')].sort(),
    );
  });
});

it('a rollup that comes later is made from what is stored', async () => {
  const tenant = `outcomes-${tenants++}`;
  await insertEvents(store, eventsOf(tenant, fc.sample(anyEvent, { numRuns: 50, seed: 7 })));
  const before = await bothWays(tenant);
  for (const file of ['0014_outcome_minutes.sql', '0016_token_links.sql']) {
    const text = await readFile(join(packageRoot, 'store', 'migrations', file), 'utf8');
    // The columns of later migrations are not in this one's insert.
    const own = text.replace(
      'INSERT INTO grantscope.outcome_minutes\n',
      'INSERT INTO grantscope.outcome_minutes (tenant, kind, minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status, latency_bucket, events)\n',
    );
    for (const statement of splitStatements(own)) await store.command(new Sql([statement], []));
  }
  expect(await bothWays(tenant)).toEqual(before);
  expect(
    await store.query(
      sql`SELECT DISTINCT token_ref FROM grantscope.token_links WHERE tenant = 'links' AND anchor_ref = ${param.uuid(exampleRef('linked family'))} ORDER BY token_ref = ${param.uuid(exampleRef('linked a'))} DESC`,
    ),
  ).toEqual([{ token_ref: exampleRef('linked a') }, { token_ref: exampleRef('linked b') }]);
});
