import { BlockList, isIP, isIPv6 } from 'node:net';
import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import {
  busiestWindow,
  changedFamilies,
  concernsFamilies,
  FAMILY_KINDS,
  familyRows,
  runsOfFamilies,
  type FamilyAxis,
} from './_families.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { isoTime, known, tellsUserNetwork, timeMs, userPlace } from './_origin.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const LISTED_MAX = 20;
/** Refreshes of a listed client that are kept per network. */
const ROWS_PER_NETWORK_MAX = 20;

const Parameters = z.strictObject({
  /** Autonomous systems that one grant was refreshed from. */
  min_networks: z.int().min(2).max(1_000).default(4),
  /** Within this time, ms. */
  window_ms: z
    .int()
    .min(60_000)
    .max(90 * DAY_MS)
    .default(30 * DAY_MS),
  /** Whether prefixes count where the system of an address is not known; a phone has a new one every day. */
  count_prefixes: z.boolean().default(false),
  /** Countries that one grant was refreshed from. */
  min_countries: z.int().min(2).max(100).default(2),
  /** Within this time, ms. */
  country_window_ms: z
    .int()
    .min(60_000)
    .max(30 * DAY_MS)
    .default(DAY_MS),
  /** Networks that a back end refreshes from, by client (CIDR): any other address is foreign. */
  client_networks: z
    .record(z.string(), z.array(z.union([z.cidrv4(), z.cidrv6()])).min(1))
    .default({}),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  off_list: 'A back end refreshed from an address that is none of its networks.',
  many_countries: 'One grant was refreshed from several countries within a day.',
  many_networks: 'One grant was refreshed from more autonomous systems than a person uses.',
} as const;
type Verdict = keyof typeof VERDICTS;
const CONFIDENCE: Readonly<Record<Verdict, number>> = {
  off_list: 80,
  many_countries: 60,
  many_networks: 55,
};

/** Place and country together, so that a change of either ends a run. */
const ORIGIN: FamilyAxis = {
  value: sql`concat(net_network, '\n', net_country)`,
  where: sql`net_network != '' AND net_ip_role IN ('end_user', 'unknown')`,
};

function placeOf(event: AuthEvent, params: Params): string {
  return event.net.asn !== 0 || params.count_prefixes ? userPlace(event) : '';
}

function countryOf(event: AuthEvent): string {
  return tellsUserNetwork(event) ? event.net.country : '';
}

/** Undefined for a client that is not listed. */
function ownNetworks(client: string, params: Params): BlockList | undefined {
  if (!Object.hasOwn(params.client_networks, client)) return undefined;
  const list = new BlockList();
  for (const cidr of params.client_networks[client] ?? []) {
    const [address = '', bits = ''] = cidr.split('/');
    list.addSubnet(address, Number(bits), isIPv6(address) ? 'ipv6' : 'ipv4');
  }
  return list;
}

function isOffList(event: AuthEvent, params: Params): boolean {
  const ip = event.net.client_ip;
  if (isIP(ip) === 0 || event.kind !== 'token_refreshed') return false;
  const own = ownNetworks(event.client.id, params);
  return own !== undefined && !own.check(ip, isIPv6(ip) ? 'ipv6' : 'ipv4');
}

interface Conclusion {
  readonly verdict: Verdict;
  readonly events: readonly AuthEvent[];
  readonly reasons: readonly string[];
}

function conclude(events: readonly AuthEvent[], params: Params): Conclusion | undefined {
  const foreign = events.filter((e) => isOffList(e, params));
  if (foreign.length > 0)
    return {
      verdict: 'off_list',
      events: foreign,
      reasons: known(foreign.map((e) => e.net.network)).map(
        (n) => `refreshed from ${n}, not on the client's list`,
      ),
    };
  const countries = busiestWindow(events, countryOf, params.country_window_ms);
  if (countries.values.length >= params.min_countries)
    return {
      verdict: 'many_countries',
      events: countries.events,
      reasons: countries.values.map((c) => `refreshed from country ${c}`),
    };
  const networks = busiestWindow(events, (e) => placeOf(e, params), params.window_ms);
  if (networks.values.length < params.min_networks) return undefined;
  return {
    verdict: 'many_networks',
    events: networks.events,
    reasons: networks.values.map((n) => `refreshed from ${n}`),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params } = input;
  const own = input.events.filter((e) => !params.exclude_clients.includes(e.client.id));
  const conclusion = conclude(own, params);
  const [first] = conclusion?.events ?? [];
  const last = conclusion?.events.at(-1);
  if (conclusion === undefined || first === undefined || last === undefined) return [];
  const { verdict, events, reasons } = conclusion;
  const networks = known(events.map((e) => (e.net.asn === 0 ? e.net.network : `AS${e.net.asn}`)));
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict,
      severity: 'medium',
      confidence: CONFIDENCE[verdict],
      summary: VERDICTS[verdict],
      reasons: reasons.slice(0, LISTED_MAX),
      evidence: {
        networks: networks.slice(0, LISTED_MAX),
        network_count: networks.length,
        countries: known(events.map((e) => e.net.country)).slice(0, LISTED_MAX),
        client_id: last.client.id,
        subject_ref: known(events.map((e) => e.subject.ref))[0] ?? '',
        reached_at: isoTime(last),
        span_ms: timeMs(last) - timeMs(first),
      },
      events,
      tokenRefs: [],
    },
  ];
}

const IS_ADDRESS = sql`(isIPv4String(net_client_ip) OR isIPv6String(net_client_ip))`;
/** The function fails on what is no address, and conditions are not asked in order. */
const ADDRESS = sql`if(${IS_ADDRESS}, net_client_ip, '::')`;

/** Refreshes of listed clients from elsewhere; false where none is listed. */
function offListRows(params: Params): Sql {
  const parts = Object.entries(params.client_networks).map(([client, networks]) => {
    const inside = networks.map((n) => sql`isIPAddressInRange(${ADDRESS}, ${param.string(n)})`);
    return sql`(client_id = ${param.string(client)} AND NOT (${joinSql(inside, ' OR ')}))`;
  });
  if (parts.length === 0) return sql`false`;
  return sql`(kind = 'token_refreshed' AND outcome = 'success' AND ${IS_ADDRESS} AND (${joinSql(parts, ' OR ')}))`;
}

/** Rows that tell a place that counts. */
function tellingRows(params: Params): Sql {
  const place = params.count_prefixes ? sql`true` : sql`(net_asn != 0 OR net_country != '')`;
  return sql`(net_network != '' AND ${place})`;
}

function candidates(scope: CandidateScope, params: Params): Sql {
  const changed = changedFamilies(scope, [ORIGIN], tellingRows(params));
  if (Object.keys(params.client_networks).length === 0) return changed;
  return sql`${changed}
    UNION ALL
    SELECT toString(family) AS entity, time AS at FROM grantscope.auth_events
    ARRAY JOIN arrayDistinct(tokens.family_ref) AS family
    WHERE tenant = ${param.string(scope.tenant)} AND ${scope.condition} AND ${offListRows(params)} AND family != ${nilRef}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const runs = runsOfFamilies(selection, ORIGIN);
  const listed = Object.keys(params.client_networks);
  if (listed.length === 0) return runs;
  return sql`${runs}
    UNION ALL
    SELECT entity, event_id, at FROM (
      SELECT toString(family_ref) AS entity, event_id, any(net_network) AS network, any(time) AS at
      FROM grantscope.token_events
      WHERE ${familyRows(selection)} AND kind = 'token_refreshed' AND client_id IN ${param.strings(listed)}
      GROUP BY family_ref, event_id
      ORDER BY entity, at, event_id LIMIT ${param.uint(ROWS_PER_NETWORK_MAX)} BY entity, network
    )`;
}

const FAMILY = exampleRef('networks family');
const SUBJECT = exampleRef('networks subject');
const token = (n: number): string => exampleRef(`networks refresh ${n}`);
interface Where {
  readonly network: string;
  readonly asn?: number;
  readonly country?: string;
  readonly client_ip?: string;
  readonly ip_role?: 'end_user' | 'client_backend';
}
/** The n-th exchange of the chain; the 0th is the first issue. */
const step = (
  t: number,
  n: number,
  where: Where,
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: n === 0 ? 'token_issued' : 'token_refreshed',
  outcome: 'success',
  client: { id: 'mobile-app' },
  subject: { ref: SUBJECT, type: 'user' },
  net: { ip_role: 'end_user', ...where },
  tokens: [
    ...(n === 0
      ? []
      : [{ role: 'consumed', type: 'refresh', ref: token(n - 1), family_ref: FAMILY } as const]),
    { role: 'issued', type: 'refresh', ref: token(n), family_ref: FAMILY },
  ],
  ...more,
});
const AS = (n: number): Where => ({ network: `198.51.${n}.0/24`, asn: 64_500 + n });
const DAY = 86_400;
const finding = (
  verdict: Verdict,
  networks: readonly string[],
  firstT: number,
  t: number,
  more: Record<string, unknown> = {},
) => ({
  entity: FAMILY,
  episode: LIFETIME_EPISODE,
  verdict,
  severity: 'medium' as const,
  evidence: {
    networks,
    network_count: networks.length,
    countries: [],
    client_id: 'mobile-app',
    subject_ref: SUBJECT,
    reached_at: new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString(),
    span_ms: (t - firstT) * 1_000,
    ...more,
  },
});
const FOUR = ['AS64500', 'AS64501', 'AS64502', 'AS64503'];
const BACKEND = { client_networks: { 'mobile-app': ['198.51.100.0/24', '2001:db8:5::/48'] } };
const server = (ip: string, network: string): Where => ({
  network,
  client_ip: ip,
  ip_role: 'client_backend',
});

export default defineDetector<Params>({
  id: 'refresh_many_networks',
  version: 1,
  title: 'One grant refreshed from many networks',
  family: 'token_replay',
  severity: 'medium',
  confidence: 80,
  description:
    'A person has a home, an office and a carrier. A grant that is refreshed from more autonomous systems than that, from two countries within a day, or, where a back end holds it, from an address that is none of its own, is used by somebody else as well.',
  references: ['RFC 9700 section 4.14', 'RFC 6749 section 10.4', 'ATT&CK T1528'],
  entity: 'family',
  verdicts: VERDICTS,
  evidence: {
    networks: 'Autonomous systems (or prefixes) of the refreshes (at most 20).',
    network_count: 'Their number.',
    countries: 'Countries of the refreshes, where known (at most 20).',
    client_id: 'The client.',
    subject_ref: 'The subject, where known.',
    reached_at: 'When the last of them came.',
    span_ms: 'From the last refresh at the first of them to then.',
  },
  needs: ['tokens.family_ref', 'tokens.role', 'net.network', 'net.asn', 'net.country', 'outcome'],
  kinds: FAMILY_KINDS,
  episodes: 'lifetime',
  quietMs: DAY_MS,
  parameters: Parameters,
  concerns: concernsFamilies,
  screen: (params) =>
    sql`${kindIn(FAMILY_KINDS)} AND (${tellingRows(params)} OR ${offListRows(params)})`,
  candidates,
  history,
  evaluate,
  falsePositives: [
    'Travellers, and people with a VPN or a private relay whose exits are in several systems or countries.',
    'A new server of a back end that is not on its list yet.',
    'Not reported: prefixes without a known autonomous system (unless count_prefixes), addresses of back ends that are not listed, refused refreshes.',
  ],
  examples: [
    {
      name: 'many networks: the fourth autonomous system within thirty days',
      events: [
        step(30 * DAY, 3, AS(3)),
        step(0, 0, AS(0)),
        step(10 * DAY, 1, AS(1)),
        step(20 * DAY, 2, AS(2)),
      ],
      expect: [finding('many_networks', FOUR, 0, 30 * DAY)],
    },
    {
      name: 'many countries: two within a day',
      events: [
        step(0, 0, { ...AS(0), country: 'DE' }),
        step(DAY, 1, { ...AS(1), country: 'BR' }),
        step(DAY + 60, 2, { ...AS(1), country: 'BR' }),
      ],
      expect: [
        finding('many_countries', ['AS64500', 'AS64501'], 0, DAY, { countries: ['BR', 'DE'] }),
      ],
    },
    {
      name: 'many networks: prefixes, where they shall count',
      parameters: { count_prefixes: true, min_networks: 3 },
      events: [1, 2, 3].map((n) => step(n * 60, n - 1, { network: `198.51.${n}.0/24` })),
      expect: [
        finding('many_networks', ['198.51.1.0/24', '198.51.2.0/24', '198.51.3.0/24'], 60, 180),
      ],
    },
    {
      name: 'off list: a back end refreshes from an address that is none of its own',
      parameters: BACKEND,
      events: [
        step(0, 0, server('198.51.100.7', '198.51.100.0/24')),
        step(60, 1, server('203.0.113.9', '203.0.113.0/24')),
        step(120, 2, server('2001:db8:5::1', '2001:db8:5::/48')),
      ],
      expect: [finding('off_list', ['203.0.113.0/24'], 60, 60)],
    },
    {
      name: 'silent: three systems, and a fourth just beyond the window',
      events: [
        step(0, 0, AS(0)),
        step(10 * DAY, 1, AS(1)),
        step(20 * DAY, 2, AS(2)),
        step(30 * DAY + 0.001, 3, AS(3)),
      ],
      expect: [],
    },
    {
      name: 'silent: two countries just over a day apart',
      events: [
        step(0, 0, { ...AS(0), country: 'DE' }),
        step(DAY + 0.001, 1, { ...AS(1), country: 'BR' }),
      ],
      expect: [],
    },
    {
      name: 'silent: a phone with a new prefix every day, and many prefixes of one carrier',
      events: [
        ...[0, 1, 2, 3, 4].map((n) => step(n * DAY, n, { network: `198.51.${n}.0/24` })),
        ...[5, 6, 7, 8, 9].map((n) =>
          step(n * DAY, n, { network: `203.0.${n}.0/24`, asn: 64_500 }),
        ),
      ],
      expect: [],
    },
    {
      name: "silent: a back end's pool of addresses, and refused refreshes",
      events: [
        ...[0, 1, 2, 3, 4].map((n) => step(n * 60, n, { ...AS(n), ip_role: 'client_backend' })),
        ...[5, 6, 7, 8].map((n) => step(n * 60, n, AS(n), { outcome: 'failure' })),
      ],
      expect: [],
    },
    {
      name: 'silent: a listed back end on its own networks, and one whose address is not known',
      parameters: BACKEND,
      events: [
        step(0, 0, server('198.51.100.7', '198.51.100.0/24')),
        step(60, 1, server('198.51.100.255', '198.51.100.0/24')),
        step(120, 2, { network: '', ip_role: 'client_backend' }),
      ],
      expect: [],
    },
    {
      name: 'silent for a client that is excluded',
      parameters: { exclude_clients: ['mobile-app'] },
      events: [0, 1, 2, 3].map((n) => step(n * 60, n, AS(n))),
      expect: [],
    },
    {
      name: 'many countries: where no autonomous system is known',
      events: [
        step(0, 0, { network: '198.51.1.0/24', country: 'DE' }),
        step(60, 1, { network: '198.51.2.0/24', country: 'BR' }),
      ],
      expect: [
        finding('many_countries', ['198.51.1.0/24', '198.51.2.0/24'], 0, 60, {
          countries: ['BR', 'DE'],
        }),
      ],
    },
    {
      name: "silent: a listed back end's first token from elsewhere, and refreshes of unknown address",
      parameters: BACKEND,
      events: [
        step(0, 0, { ...AS(0), client_ip: '203.0.113.9' }),
        step(60, 1, { ...AS(1), client_ip: '198.51.100.7' }),
        step(120, 2, AS(2)),
      ],
      expect: [],
    },
  ],
});
