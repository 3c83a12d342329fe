import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { Severity } from '../../model/finding.ts';
import { NETWORK_FLAGS, type EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { splitByGap } from './_episodes.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { otherNames } from './_names.ts';
import { hasUserAddress, isoTime, networkName, sameNetwork, timeMs } from './_origin.ts';
import { aroundNews, timeOf } from './_token_rows.ts';

/** Successes for which the person has to be there. */
const KINDS: readonly EventKind[] = [
  'login',
  'mfa_result',
  'session_started',
  'consent_granted',
  'device_authorized',
  'code_issued',
];
const HOUR_MS = 3_600_000;
const NS_PER_MS = 1_000_000n;
const EARTH_RADIUS_KM = 6_371;
/** Half the way round the Earth. */
const DISTANCE_KM_MAX = 20_037;

const Parameters = z.strictObject({
  /** Faster than this is no travel, km/h; an airliner does 900. */
  max_speed_kmh: z.number().min(100).max(100_000).default(900),
  /** Shorter ways don't count, km: databases place an address wrongly by this much. */
  min_distance_km: z.number().min(0).max(20_000).default(500),
  /** Where only countries are known: two of them within this time, ms. */
  country_window_ms: z
    .int()
    .min(0)
    .max(24 * HOUR_MS)
    .default(HOUR_MS),
  /** Addresses that say nothing about where a person is. */
  ignored_flags: z.array(z.enum(NETWORK_FLAGS)).default([...NETWORK_FLAGS]),
  /** Networks that say nothing about where a person is (VPN, relay, satellite): `AS64500` or a prefix. */
  ignored_networks: z.array(z.string().min(1)).default([]),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z
    .int()
    .min(1_000)
    .max(24 * HOUR_MS)
    .default(6 * HOUR_MS),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  impossible_travel:
    'Two successes lie farther apart than anybody travels in the time between them.',
  two_countries: 'Two successes in two countries within a short time; where exactly is not known.',
} as const;
type Verdict = keyof typeof VERDICTS;
const GRADE: Readonly<Record<Verdict, { severity: Severity; confidence: number }>> = {
  impossible_travel: { severity: 'medium', confidence: 65 },
  two_countries: { severity: 'low', confidence: 45 },
};

const hasPlace = ({ net }: AuthEvent): boolean => net.latitude !== null && net.longitude !== null;

function isTelling(event: AuthEvent, params: Params): boolean {
  const { net } = event;
  if (event.outcome !== 'success' || !hasUserAddress(event)) return false;
  if (net.flags.some((f) => params.ignored_flags.includes(f))) return false;
  if ([net.network, `AS${net.asn}`].some((n) => params.ignored_networks.includes(n))) return false;
  return (
    (hasPlace(event) || net.country !== '') && !params.exclude_clients.includes(event.client.id)
  );
}

/** Great-circle distance (haversine); undefined where one place is not known. */
function distanceKm(a: AuthEvent, b: AuthEvent): number | undefined {
  const [lat1, lon1, lat2, lon2] = [
    a.net.latitude,
    a.net.longitude,
    b.net.latitude,
    b.net.longitude,
  ].map((d) => (d === null ? Number.NaN : (d * Math.PI) / 180)) as [number, number, number, number];
  const h =
    Math.sin((lat2 - lat1) / 2) ** 2 +
    Math.cos(lat1) * Math.cos(lat2) * Math.sin((lon2 - lon1) / 2) ** 2;
  const km = 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, Math.sqrt(h)));
  return Number.isNaN(km) ? undefined : km;
}

interface Hop {
  readonly from: AuthEvent;
  readonly to: AuthEvent;
  readonly verdict: Verdict;
  readonly km: number | undefined;
  readonly ms: number;
}

function hopOf(from: AuthEvent, to: AuthEvent, params: Params): Hop | undefined {
  const ms = timeMs(to) - timeMs(from);
  const km = distanceKm(from, to);
  const hop = { from, to, km, ms };
  if (km !== undefined) {
    const isTooFast = km * HOUR_MS > params.max_speed_kmh * ms;
    return km > params.min_distance_km && isTooFast
      ? { ...hop, verdict: 'impossible_travel' }
      : undefined;
  }
  const [a, b] = [from.net, to.net];
  const areOther = a.country !== '' && b.country !== '' && a.country !== b.country;
  const areKnown = a.asn !== 0 && b.asn !== 0 && !sameNetwork(from, to);
  return areOther && areKnown && ms <= params.country_window_ms
    ? { ...hop, verdict: 'two_countries' }
    : undefined;
}

/** Hops between neighbours in time that end within the day. */
function hopsOf(input: EvaluateInput<Params>): Hop[] {
  const { params, window } = input;
  const events = input.events.filter((e) => isTelling(e, params));
  return events.flatMap((to, i): Hop[] => {
    const from = events[i - 1];
    const isOfDay = window === undefined || (to.time >= window.from && to.time < window.to);
    const hop = from === undefined || !isOfDay ? undefined : hopOf(from, to, params);
    return hop === undefined ? [] : [hop];
  });
}

const speedOf = ({ km, ms }: Hop): number | null =>
  km === undefined || ms === 0 ? null : Math.round((km * HOUR_MS) / ms);

function end(event: AuthEvent): Record<string, unknown> {
  return {
    at: isoTime(event),
    network: networkName(event),
    country: event.net.country,
    client_id: event.client.id,
  };
}

function toSignal(hops: readonly Hop[]): Signal[] {
  const verdict = hops.some((h) => h.verdict === 'impossible_travel')
    ? 'impossible_travel'
    : 'two_countries';
  const own = hops.filter((h) => h.verdict === verdict);
  const [first] = hops;
  const shown = own.reduce<Hop | undefined>(
    (a, b) => (a === undefined || (b.km ?? 0) > (a.km ?? 0) ? b : a),
    undefined,
  );
  if (first === undefined || shown === undefined) return [];
  const minutes = (shown.ms / 60_000).toFixed(0);
  const way = shown.km === undefined ? '' : `${Math.round(shown.km)} km `;
  return [
    {
      episode: isoTime(first.to),
      verdict,
      ...GRADE[verdict],
      summary: `A subject was at two places ${way}apart within ${minutes} minutes.`,
      reasons: [
        `${networkName(shown.from)} ${shown.from.net.country}, then ${networkName(shown.to)} ${shown.to.net.country}`,
        ...(speedOf(shown) === null ? [] : [`${speedOf(shown)} km/h`]),
      ],
      evidence: {
        from: end(shown.from),
        to: end(shown.to),
        distance_km: shown.km === undefined ? null : Math.round(shown.km),
        speed_kmh: speedOf(shown),
        seconds: shown.ms / 1_000,
        hops: hops.length,
      },
      events: [...new Set(hops.flatMap((h) => [h.from, h.to]))],
      tokenRefs: [],
    },
  ];
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const hops = hopsOf(input);
  const byEnd = new Map(hops.map((h) => [h.to, h]));
  const ends = hops.map((h) => h.to);
  return splitByGap(ends, input.params.gap_ms).flatMap((episode) =>
    toSignal(episode.flatMap((e) => byEnd.get(e) ?? [])),
  );
}

/** How long before an event another can be too far away from it. */
function reachMs(params: Params): number {
  const byAir = Math.ceil((DISTANCE_KM_MAX / params.max_speed_kmh) * HOUR_MS);
  return Math.min(Math.max(byAir, params.country_window_ms), 9 * 24 * HOUR_MS);
}

/** Rows that tell where a person was: `isTelling`. */
function tellingRows(params: Params): Sql {
  const ignored = param.strings(params.ignored_networks);
  return sql`(${kindIn(KINDS)} AND outcome = 'success' AND subject_ref != ${nilRef}
    AND net_ip_role IN ('end_user', 'unknown') AND (net_latitude IS NOT NULL OR net_country != '')
    AND NOT hasAny(net_flags, ${param.strings(params.ignored_flags)})
    AND net_network NOT IN ${ignored} AND concat('AS', toString(net_asn)) NOT IN ${ignored}
    AND client_id NOT IN ${param.strings(params.exclude_clients)})`;
}

const PLACE = sql`concat(ifNull(toString(net_latitude), ''), ' ', ifNull(toString(net_longitude), ''), ' ', net_country, ' ', toString(net_asn))`;

function candidates(scope: CandidateScope, params: Params): Sql {
  const rows = sql`tenant = ${param.string(scope.tenant)} AND ${tellingRows(params)}`;
  const fresh = sql`FROM grantscope.auth_events WHERE ${rows} AND ${scope.condition}`;
  const near = sql`${rows} AND ${aroundNews(scope, reachMs(params))}`;
  const since = scope.timeFrom - BigInt(reachMs(params)) * NS_PER_MS;
  const names = otherNames({ tenant: scope.tenant, since }, sql`SELECT subject_ref ${fresh}`);
  return sql`
    SELECT toString(subject_ref) AS entity, time AS at ${fresh} AND subject_ref IN (
      SELECT ref FROM (
        SELECT subject_ref AS ref, ${PLACE} AS place FROM grantscope.auth_events
        WHERE ${near} AND subject_ref IN (SELECT subject_ref ${fresh})
        UNION ALL
        SELECT names.ref AS ref, place FROM (
          SELECT subject_ref, ${PLACE} AS place FROM grantscope.auth_events
          WHERE ${near} AND subject_ref IN (SELECT other FROM (${names}))) AS renamed
        INNER JOIN (${names}) AS names ON names.other = renamed.subject_ref)
      GROUP BY ref HAVING min(place) != max(place))`;
}

/** First and last event of each stay at one place: hops are between these alone. */
function history(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, at, place, lagInFrame(place, 1, '\n') OVER stay AS before,
        leadInFrame(place, 1, '\n') OVER stay AS after
      FROM (
        SELECT toString(subject_ref) AS entity, event_id, any(time) AS at, any(${PLACE}) AS place
        FROM grantscope.auth_events
        WHERE tenant = ${param.string(selection.tenant)} AND ${tellingRows(params)}
          AND subject_ref IN ${param.uuids(selection.entities)}
          AND time >= ${timeOf(selection.window?.readFrom ?? 0n)} AND time < ${timeOf(selection.window?.to ?? 0n)}
        GROUP BY subject_ref, event_id
      ) WINDOW stay AS (PARTITION BY entity ORDER BY at, toString(event_id) ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ) WHERE place != before OR place != after`;
}

const SUBJECT = exampleRef('travelling subject');
interface Place {
  readonly latitude?: number;
  readonly longitude?: number;
  readonly country?: string;
  readonly asn?: number;
}
const BERLIN = { latitude: 52.5, longitude: 13.4, country: 'DE', asn: 64_500 } as const;
const PARIS = { latitude: 48.9, longitude: 2.4, country: 'FR', asn: 64_501 } as const;
const SYDNEY = { latitude: -33.9, longitude: 151.2, country: 'AU', asn: 64_502 } as const;
/** Degrees north of the equator: one is 111.19 km. */
const north = (latitude: number, asn: number): Place => ({ latitude, longitude: 0, asn });
const signIn = (t: number, place: Place, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'login',
  outcome: 'success',
  client: { id: 'web-shop' },
  subject: { ref: SUBJECT, type: 'user' },
  ...more,
  net: {
    network: `198.51.${(place.asn ?? 0) % 100}.0/24`,
    ip_role: 'end_user',
    ...place,
    ...more.net,
  },
});
const DAY = 86_400;
interface Shown {
  readonly from: readonly [number, Place];
  readonly to: readonly [number, Place];
  readonly km: number | null;
  readonly speed: number | null;
  readonly hops?: number;
  readonly episode?: number;
}
const finding = (verdict: Verdict, { from, to, km, speed, hops, episode }: Shown) => {
  const shown = ([t, place]: readonly [number, Place]): Record<string, unknown> => ({
    at: exampleTime(t),
    network: `AS${place.asn ?? 0}`,
    country: place.country ?? '',
    client_id: 'web-shop',
  });
  return {
    entity: SUBJECT,
    episode: exampleTime(episode ?? to[0]),
    verdict,
    severity: GRADE[verdict].severity,
    evidence: {
      from: shown(from),
      to: shown(to),
      distance_km: km,
      speed_kmh: speed,
      seconds: to[0] - from[0],
      hops: hops ?? 1,
    },
  };
};
const onlyCountry = ({ country, asn }: Place): Place => ({
  ...(country === undefined ? {} : { country }),
  ...(asn === undefined ? {} : { asn }),
});

const isOfPerson = (fact: EventFact): boolean =>
  KINDS.some((k) => k === fact.kind) && fact.outcome === 'success';

export default defineDetector<Params>({
  id: 'impossible_travel',
  version: 1,
  title: 'One person at two distant places',
  family: 'credential_abuse',
  severity: 'medium',
  confidence: 65,
  description:
    'Two sign-ins of one person that lie farther apart than anybody travels in the time between them: one of them is somebody else with the password, the session or the second factor of the person. Needs a database of places; VPNs and relays are left out as far as they are known.',
  references: ['RFC 6749 section 10.11', 'RFC 9470 section 3', 'ATT&CK T1078'],
  entity: 'subject',
  verdicts: VERDICTS,
  evidence: {
    from: 'The earlier success of the longest hop: time, network, country, client.',
    to: 'The later one.',
    distance_km: 'The way between them; null where only countries are known.',
    speed_kmh: 'What it would take; null where unknown, or where both are at one time.',
    seconds: 'Time between them.',
    hops: 'Impossible hops of the episode.',
  },
  needs: ['subject.ref', 'net.latitude', 'net.longitude', 'net.country', 'net.asn', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 6 * HOUR_MS,
  parameters: Parameters,
  lookbackMs: reachMs,
  concerns: isOfPerson,
  screen: tellingRows,
  candidates,
  history,
  evaluate,
  falsePositives: [
    'VPNs, relays, satellite links and company exits that no database knows: list them in ignored_networks.',
    'An address that the database places in the wrong city or country.',
    'Not reported: refreshes (refresh_many_networks looks at these), refused sign-ins, countries alone where the networks are not known.',
  ],
  examples: [
    {
      name: 'fires on the way round the world within an hour, told out of order; the way back is one more hop',
      events: [
        signIn(3_600, SYDNEY, { kind: 'code_issued' }),
        signIn(0, BERLIN),
        signIn(7_200, BERLIN),
      ],
      expect: [
        finding('impossible_travel', {
          from: [0, BERLIN],
          to: [3_600, SYDNEY],
          km: 16_097,
          speed: 16_097,
          hops: 2,
        }),
      ],
    },
    {
      name: 'fires just above the speed',
      events: [signIn(0, north(0, 1)), signIn(4_003, north(9, 2))],
      expect: [
        finding('impossible_travel', {
          from: [0, north(0, 1)],
          to: [4_003, north(9, 2)],
          km: 1_001,
          speed: 900,
        }),
      ],
    },
    {
      name: 'fires just above the distance, a second apart',
      events: [signIn(0, north(0, 1)), signIn(1, north(4.5, 2))],
      expect: [
        finding('impossible_travel', {
          from: [0, north(0, 1)],
          to: [1, north(4.5, 2)],
          km: 500,
          speed: 1_801_358,
        }),
      ],
    },
    {
      name: 'the way from before midnight counts for the day it ends in',
      events: [signIn(12 * 3_600 - 60, BERLIN), signIn(12 * 3_600 + 60, SYDNEY)],
      expect: [
        finding('impossible_travel', {
          from: [12 * 3_600 - 60, BERLIN],
          to: [12 * 3_600 + 60, SYDNEY],
          km: 16_097,
          speed: 482_917,
        }),
      ],
    },
    {
      name: 'two countries within an hour, where only countries are known',
      events: [signIn(0, onlyCountry(BERLIN)), signIn(3_600, onlyCountry(SYDNEY))],
      expect: [
        finding('two_countries', {
          from: [0, onlyCountry(BERLIN)],
          to: [3_600, onlyCountry(SYDNEY)],
          km: null,
          speed: null,
        }),
      ],
    },
    {
      name: 'silent: just below the speed, and just below the distance',
      events: [signIn(0, north(0, 1)), signIn(4_004, north(9, 2)), signIn(4_005, north(13.4, 3))],
      expect: [],
    },
    {
      name: 'silent: a flight, a stay, and a neighbour country by train',
      events: [signIn(0, BERLIN), signIn(8_000, PARIS), signIn(DAY + 8_000, SYDNEY)],
      expect: [],
    },
    {
      name: 'silent: two countries just over an hour apart, or on networks that are not known',
      events: [
        signIn(0, onlyCountry(BERLIN)),
        signIn(3_601, onlyCountry(SYDNEY)),
        signIn(3_700, { country: 'FR' }),
      ],
      expect: [],
    },
    {
      name: 'silent: a VPN, a back end, a refused sign-in, a refresh',
      events: [
        signIn(0, BERLIN),
        signIn(10, SYDNEY, { net: { flags: ['vpn'] } }),
        signIn(20, SYDNEY, { net: { ip_role: 'client_backend' } }),
        signIn(30, SYDNEY, { outcome: 'failure' }),
        signIn(40, SYDNEY, { kind: 'token_refreshed' }),
        signIn(50, BERLIN),
      ],
      expect: [],
    },
    {
      name: 'silent: a network that is listed',
      parameters: { ignored_networks: ['AS64502'] },
      events: [signIn(0, BERLIN), signIn(60, SYDNEY)],
      expect: [],
    },
    ...(
      ['mfa_result', 'session_started', 'consent_granted', 'device_authorized'] as EventKind[]
    ).map((kind) => ({
      name: `fires on ${kind} far away`,
      events: [signIn(0, BERLIN), signIn(3_600, SYDNEY, { kind })],
      expect: [
        finding('impossible_travel', {
          from: [0, BERLIN],
          to: [3_600, SYDNEY],
          km: 16_097,
          speed: 16_097,
        }),
      ],
    })),
    {
      name: 'half a place says nothing, and hides nothing',
      events: [
        signIn(0, BERLIN),
        signIn(1_800, { latitude: 10, asn: 64_503 }),
        signIn(3_600, SYDNEY),
      ],
      expect: [
        finding('impossible_travel', {
          from: [0, BERLIN],
          to: [3_600, SYDNEY],
          km: 16_097,
          speed: 16_097,
        }),
      ],
    },
    {
      name: 'the longest hop of an episode is told',
      events: [signIn(0, north(0, 1)), signIn(1, north(9, 2)), signIn(2, north(-9, 3))],
      expect: [
        finding('impossible_travel', {
          from: [1, north(9, 2)],
          to: [2, north(-9, 3)],
          km: 2_002,
          speed: 7_205_431,
          hops: 2,
          episode: 1,
        }),
      ],
    },
    {
      name: 'a known way outranks two countries; both are of the episode',
      events: [
        signIn(0, onlyCountry(BERLIN)),
        signIn(60, onlyCountry(SYDNEY)),
        signIn(120, SYDNEY),
        signIn(3_720, BERLIN),
      ],
      expect: [
        finding('impossible_travel', {
          from: [120, SYDNEY],
          to: [3_720, BERLIN],
          km: 16_097,
          speed: 16_097,
          hops: 2,
          episode: 60,
        }),
      ],
    },
    {
      name: 'the way that ends at midnight belongs to the day that begins; six hours apart is one episode',
      events: [
        signIn(DAY / 2 - 3_600, BERLIN),
        signIn(DAY / 2, SYDNEY),
        signIn(DAY / 2 + 21_600, BERLIN),
        signIn(DAY / 2 + 43_200.001, SYDNEY),
      ],
      expect: [
        finding('impossible_travel', {
          from: [DAY / 2 - 3_600, BERLIN],
          to: [DAY / 2, SYDNEY],
          km: 16_097,
          speed: 16_097,
          hops: 2,
        }),
        ((told) => ({ ...told, evidence: { ...told.evidence, seconds: 21_600.001 } }))(
          finding('impossible_travel', {
            from: [DAY / 2 + 21_600, BERLIN],
            to: [DAY / 2 + 43_200.001, SYDNEY],
            km: 16_097,
            speed: 2_683,
          }),
        ),
      ],
    },
    ...[
      [
        'a country on one side alone',
        { latitude: 52.5, longitude: 13.4, asn: 1 },
        { country: 'AU', asn: 2 },
      ],
      [
        'a country on the other side alone',
        { country: 'AU', asn: 2 },
        { latitude: 52.5, longitude: 13.4, asn: 1 },
      ],
      ['two networks of one country', { country: 'DE', asn: 1 }, { country: 'DE', asn: 2 }],
      ['one network in two countries', { country: 'DE', asn: 1 }, { country: 'FR', asn: 1 }],
      [
        'a network that is not known, then one that is',
        { country: 'DE' },
        { country: 'AU', asn: 2 },
      ],
    ].map(([name, first, then]) => ({
      name: `silent: ${name as string}`,
      events: [signIn(0, first as Place), signIn(60, then as Place)],
      expect: [],
    })),
  ],
});
