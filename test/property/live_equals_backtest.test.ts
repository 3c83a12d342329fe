// How: seeded traffic with attacks and honest trouble goes through the live runner in batches, and so do the examples of
// all rules, group by group; a backtest over the same time then gives the same findings with the same content.
// fast-check prints the seed.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { backtest } from '../../detectors/backtest.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import type { StatedClient } from '../../detectors/client_registry.ts';
import type { EventRange } from '../../detectors/scopes.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { EXAMPLE_START_MS, type Detector } from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { insertEvents } from '../../store/insert.ts';
import {
  eventAt,
  exampleWorld,
  groupsOf,
  makeRunner,
  readFindings,
  rulesOfWorld,
  seededRandom,
} from '../detector_world.ts';
import { drawn } from '../draw.ts';
import { openTestStore } from '../harness.ts';

/** Besides the two that are always run; PROPERTY_RUNS=20 looks longer. */
const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 0);

/** What the traffic is made for. */
const RULES_OF_TRAFFIC = [
  'access_token_replay',
  'code_redeemed_twice',
  'redirect_lookalike',
  'redirect_probing',
  'refresh_token_reuse',
  'scope_beyond_registration',
  'scope_growth_on_refresh',
  'token_used_after_revocation',
];

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

const CLIENTS = [
  { client_id: 'c0', scope: 'openid a', redirect_uris: ['https://login.example.com/cb'] },
  { client_id: 'c1', scope: 'openid a b', redirect_uris: ['https://app.example.org/cb'] },
];
const NETWORKS = ['198.51.100.0/24', '203.0.113.0/24', '192.0.2.0/24'];
const AGENTS = ['Chrome', 'curl', 'okhttp'];
const URIS = [
  'https://login.example.com/cb',
  'https://login.examp1e.com/cb',
  'https://evil.net/cb',
  'https://other.net//cb',
];

/** Random events over two days among few tokens, so that the rules they are made for have something to say. */
function traffic(seed: number, tenant: string): AuthEvent[] {
  const random = seededRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const ref = (kind: string): string => exampleRef(`${kind} ${Math.floor(random() * 12)}`);
  return Array.from({ length: 160 }, (_, i) => {
    const client = { id: pick(['c0', 'c1']) };
    const net = { network: pick(NETWORKS), ua_family: pick(AGENTS), ip_role: 'end_user' as const };
    const base = { client, net, outcome: 'success' as const };
    const t = Math.floor(random() * 120_000);
    const at = (event: Omit<Parameters<typeof eventAt>[3], 'client'>): AuthEvent =>
      eventAt(tenant, `${seed} ${i}`, t, { ...base, ...event });
    const scopes_granted = pick([['openid'], ['openid', 'a'], ['openid', 'b']]);
    const grant_ref = ref('grant');
    switch (Math.floor(random() * 7)) {
      case 0:
        return at({
          kind: 'api_accessed',
          tokens: [{ role: 'presented', type: 'access', ref: ref('access') }],
        });
      case 1: {
        const old = ref('refresh');
        const tokens = [
          { role: 'consumed', type: 'refresh', ref: old },
          { role: 'issued', type: 'refresh', ref: ref('refresh'), parent_ref: old },
          { role: 'issued', type: 'access', ref: ref('access'), parent_ref: old },
        ] as const;
        return at({ kind: 'token_refreshed', tokens, scopes_granted, grant_ref });
      }
      case 2:
        return at({
          kind: 'code_redeemed',
          outcome: pick(['success', 'failure'] as const),
          tokens: [{ role: 'consumed', type: 'code', ref: ref('code') }],
        });
      case 3:
        return at({
          kind: 'token_issued',
          scopes_granted,
          grant_ref,
          tokens: [{ role: 'issued', type: 'access', ref: ref('access') }],
        });
      case 4:
        // In bursts around midnight, so that windows slide over it.
        return eventAt(tenant, `${seed} ${i}`, 43_000 + Math.floor(random() * 1_200), {
          ...base,
          kind: 'authorization_requested',
          redirect_uri: pick(URIS),
        });
      case 5:
        return at({
          kind: 'token_revoked',
          tokens: [{ role: 'revoked', type: 'access', ref: ref('access') }],
        });
      default:
        return at({ kind: 'grant_revoked', grant_ref });
    }
  });
}

let runs = 0;

interface World {
  readonly rules: readonly Detector[];
  readonly clients: readonly StatedClient[];
  readonly events: readonly AuthEvent[];
}

/** Stores a world in batches with a cycle after each; a backtest must then find what is stored. Gives the rules that found. */
async function compare(
  tenant: string,
  { rules, clients, events }: World,
  size: number,
  range: EventRange,
): Promise<readonly string[]> {
  const runner = await makeRunner(engine.store, tenant, { rules, clients });
  for (let i = 0; i < events.length; i += size) {
    await insertEvents(engine.store, events.slice(i, i + size));
    await runner.cycle();
  }
  await runner.drain();
  const live = (await readFindings(engine.store, tenant)).current;
  const detectors = bindDetectors(rules, {});
  const { findings } = await backtest({ store: engine.store, tenant, detectors, clients, range });
  const show = (f: Readonly<Record<string, unknown>>, evidence: string): string =>
    [f['finding_id'], f['verdict'], f['severity'], f['summary'], evidence].join(' ');
  expect(findings.map((f) => show({ ...f }, JSON.stringify(f.evidence))).sort()).toEqual(
    live.map((f) => show(f, String(f['evidence']))).sort(),
  );
  return findings.map((f) => f.rule_id);
}

it('live and backtest find the same in random traffic', async () => {
  const rules = await loadDetectors();
  const found = new Set<string>();
  const from = BigInt(EXAMPLE_START_MS) * 1_000_000n;
  const range = { from, to: from + 200_000n * 1_000_000_000n };
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 20, max: 90 }), async (seed, size) => {
      const tenant = `backtest-${runs++}`;
      const world = { rules, clients: CLIENTS, events: traffic(seed, tenant) };
      for (const rule of await compare(tenant, world, size, range)) found.add(rule);
    }),
    // Two worlds that are always run: together they hold something of every rule that the traffic is made for.
    {
      numRuns: RUNS + 2,
      examples: [
        [1, 40],
        [2, 40],
      ],
    },
  );
  expect(RULES_OF_TRAFFIC.filter((rule) => !found.has(rule))).toEqual([]);
}, 300_000);

const GROUPS = groupsOf(await loadDetectors(), 11);
for (const rules of drawn(GROUPS, 1 / GROUPS.length)) {
  const names = rules.map((d) => d.id).join(', ');
  it(`live and backtest find the same in the examples of ${names}`, async () => {
    const tenant = `examples-${runs++}`;
    const world = { rules, ...exampleWorld(rules, tenant) };
    const range = { from: 0n, to: 4_102_444_800_000_000_000n };
    const found = new Set(await compare(tenant, world, Math.ceil(world.events.length / 3), range));
    expect(rulesOfWorld(rules).filter((id) => !found.has(id))).toEqual([]);
  }, 300_000);
}
