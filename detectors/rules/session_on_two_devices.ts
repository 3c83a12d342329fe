import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql } from '../../model/sql.ts';
import { kindIn, nilRef, textFacet } from './_ledger.ts';
import { otherNames } from './_names.ts';
import { areDifferentPlaces, groupByNetwork, isoTime, known, tellsUserNetwork } from './_origin.ts';
import { aroundNews } from './_token_rows.ts';

/** What a browser does with its session. A native app's own requests come by another program, and are none of these. */
const KINDS: readonly EventKind[] = [
  'authorization_requested',
  'authorization_failed',
  'code_issued',
  'consent_granted',
  'consent_denied',
  'device_authorized',
  'login',
  'mfa_challenged',
  'mfa_result',
  'session_started',
];
const NS_PER_MS = 1_000_000n;
/** Records kept per session, network and device: enough to say when each first appeared. */
const ROWS_PER_DEVICE_MAX = 20;
const LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** User agent families of tools that use a person's session on purpose (tests, monitoring). */
  known_tools: z.array(z.string().min(1)).default([]),
  /** How long a session lasts at most, ms: its events are joined over this time. */
  session_life_ms_max: z.int().min(60_000).max(2_592_000_000).default(86_400_000),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** Operating systems by a word of the user agent; the first that fits counts, since Android names Linux and iOS names Mac OS. */
const SYSTEMS = [
  ['Windows', 'Windows'],
  ['Android', 'Android'],
  ['iPhone|iPad|iPod', 'iOS'],
  ['Macintosh|Mac OS X', 'macOS'],
  ['CrOS', 'ChromeOS'],
  ['Linux|X11', 'Linux'],
] as const;
const PATTERNS = SYSTEMS.map(([words, name]) => [new RegExp(words), name] as const);

function systemOf(userAgent: string): string {
  return PATTERNS.find(([pattern]) => pattern.test(userAgent))?.[1] ?? '';
}

/** The same as SQL. */
const SYSTEM_COLUMN = sql`multiIf(${SYSTEMS.map(
  ([words, name]) => sql`match(net_user_agent, ${param.string(words)}), ${param.string(name)}`,
).reduce((a, b) => sql`${a}, ${b}`)}, '')`;

/** A phone that asks for the desktop page calls itself a desktop. */
const DESKTOP_PAGE: readonly (readonly [string, string])[] = [
  ['Android', 'Linux'],
  ['iOS', 'macOS'],
];

interface Device {
  readonly browser: string;
  readonly system: string;
}

function deviceOf(event: AuthEvent): Device {
  return { browser: event.net.ua_family, system: systemOf(event.net.user_agent) };
}

function isOneSystem(a: Device, b: Device): boolean {
  if (a.system === b.system || a.system === '' || b.system === '') return true;
  const isOneBrowser = a.browser !== '' && a.browser === b.browser;
  return (
    isOneBrowser &&
    DESKTOP_PAGE.some(
      ([phone, desktop]) =>
        (a.system === phone && b.system === desktop) ||
        (a.system === desktop && b.system === phone),
    )
  );
}

const isOneBrowser = (a: Device, b: Device): boolean =>
  a.browser === b.browser || a.browser === '' || b.browser === '';

/** What of a device was not seen before. */
function newParts(device: Device, before: readonly Device[]): ('browser' | 'system')[] {
  const parts: ('browser' | 'system')[] = [];
  if (!before.some((d) => isOneBrowser(d, device))) parts.push('browser');
  if (!before.some((d) => isOneSystem(d, device))) parts.push('system');
  return parts;
}

interface Foreign {
  readonly network: string;
  readonly event: AuthEvent;
  readonly parts: readonly ('browser' | 'system')[];
}

/**
 * Networks whose first event comes from a device that the session did not have on any network before. Only earlier
 * networks clear a later one, so that a thief cannot clear it by using the session more.
 */
function foreignNetworks(events: readonly AuthEvent[]): Foreign[] {
  const before: { readonly network: string; readonly device: Device }[] = [];
  const foreign: Foreign[] = [];
  for (const { network, events: own } of groupByNetwork(events)) {
    const [event] = own;
    if (event === undefined) continue;
    const isElsewhere =
      before.length > 0 && before.every((b) => areDifferentPlaces(b.network, network));
    const parts = newParts(
      deviceOf(event),
      before.map((b) => b.device),
    );
    if (isElsewhere && parts.length > 0) foreign.push({ network, event, parts });
    before.push(...own.map((e) => ({ network, device: deviceOf(e) })));
  }
  return foreign;
}

function isTelling(event: AuthEvent, params: Params): boolean {
  const isTool = params.known_tools.includes(event.net.ua_family);
  if (isTool || params.exclude_clients.includes(event.client.id)) return false;
  return tellsUserNetwork(event) && event.net.user_agent + event.net.ua_family !== '';
}

const shown = ({ browser, system }: Device): string =>
  [browser, system].filter((p) => p !== '').join(' on ');

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const events = input.events.filter((e) => isTelling(e, input.params));
  const foreign = foreignNetworks(events);
  const [first] = foreign;
  const [start] = events;
  if (first === undefined || start === undefined) return [];
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: 'second_device',
      severity: 'high',
      confidence: foreign.some((f) => f.parts.length > 1) ? 85 : 70,
      summary: `One session was used on two devices: ${shown(deviceOf(start))}, then ${shown(deviceOf(first.event))} on network ${first.network}.`,
      reasons: foreign
        .map((f) => `${shown(deviceOf(f.event))} on ${f.network}: another ${f.parts.join(' and ')}`)
        .slice(0, LISTED_MAX),
      evidence: {
        devices: [...new Set(events.map((e) => shown(deviceOf(e))))].slice(0, LISTED_MAX),
        networks: groupByNetwork(events)
          .map((n) => n.network)
          .slice(0, LISTED_MAX),
        foreign_networks: foreign.map((f) => f.network).slice(0, LISTED_MAX),
        first_foreign_use: isoTime(first.event),
        countries: known(events.map((e) => e.net.country)).slice(0, LISTED_MAX),
        clients: known(events.map((e) => e.client.id)).slice(0, LISTED_MAX),
      },
      events,
      tokenRefs: [],
    },
  ];
}

/** Rows in which a browser shows where it is and what it is. */
const SESSION_ROWS = sql`${kindIn(KINDS)} AND session_ref != ${nilRef} AND net_network != ''
  AND net_ip_role IN ('end_user', 'unknown') AND (net_ua_family != '' OR net_user_agent != '')`;

const SESSION = exampleRef('two-device session');
const WINDOWS = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0';
const LINUX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';
const ANDROID = 'Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/140.0.0.0';
const DESKTOP = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0';
const MAC = 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/140.0.0.0';
const IPHONE = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15';
const HOME = { network: '198.51.100.0/24', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ip_role: 'end_user' } as const;
type Net = NonNullable<ExampleEvent['net']>;
const CHROME = { ua_family: 'Chrome', user_agent: WINDOWS } as const;
const FIREFOX = { ua_family: 'Firefox', user_agent: LINUX } as const;
const visit = (t: number, net: Net, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'authorization_requested',
  outcome: 'success',
  client: { id: 'web-shop' },
  session_ref: SESSION,
  net,
  ...more,
});
const finding = (t: number, devices: readonly string[], more: Record<string, unknown> = {}) => ({
  entity: SESSION,
  episode: LIFETIME_EPISODE,
  verdict: 'second_device',
  severity: 'high' as const,
  evidence: {
    devices,
    networks: [HOME.network, AWAY.network],
    foreign_networks: [AWAY.network],
    first_foreign_use: new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString(),
    countries: [],
    clients: ['web-shop'],
    ...more,
  },
});

const isOfBrowser = (fact: EventFact): boolean => KINDS.some((k) => k === fact.kind);

export default defineDetector<Params>({
  id: 'session_on_two_devices',
  version: 1,
  title: 'Session used on a second device',
  family: 'token_replay',
  severity: 'high',
  confidence: 85,
  description:
    'A session belongs to the browser that holds its cookie. One that appears on a new network with another browser or operating system was taken along: by malware, a phishing proxy or a leaked cookie. It opens every client of the user without a password or a second factor.',
  references: ['RFC 6749 section 10.12', 'RFC 6265 section 8.4', 'ATT&CK T1539'],
  entity: 'session',
  verdicts: {
    second_device: 'A new network, and a browser or system that the session did not have before.',
  },
  evidence: {
    devices: 'Browser and system, in order of first use (at most 20).',
    networks: 'User networks, in order of first use (at most 20).',
    foreign_networks: 'Those of them that came with another device (at most 20).',
    first_foreign_use: 'When the first of these used the session.',
    countries: 'Countries, where known (at most 20).',
    clients: 'Clients that the session was used for (at most 20).',
  },
  needs: ['session_ref', 'net.network', 'net.ip_role', 'net.ua_family', 'net.user_agent'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: isOfBrowser,
  screen: () => SESSION_ROWS,
  watch: () => ({
    by: 'facets',
    stream: {
      concerns: isOfBrowser,
      from: sql`grantscope.auth_events`,
      where: SESSION_ROWS,
      key: sql`session_ref`,
      facets: [
        textFacet(sql`net_network`),
        textFacet(sql`net_ua_family`),
        textFacet(SYSTEM_COLUMN),
      ],
    },
    isHot: (seen) => seen.varies(0) && (seen.varies(1) || seen.varies(2)),
  }),
  candidates: (scope, params) => {
    const rows = sql`tenant = ${param.string(scope.tenant)} AND ${SESSION_ROWS}`;
    const fresh = sql`SELECT session_ref FROM grantscope.auth_events WHERE ${rows} AND ${scope.condition}`;
    const since = scope.timeFrom - BigInt(params.session_life_ms_max) * NS_PER_MS;
    const names = otherNames({ tenant: scope.tenant, since }, fresh);
    const near = sql`SELECT session_ref, time, net_network, net_ua_family, ${SYSTEM_COLUMN} AS system
      FROM grantscope.auth_events WHERE ${rows} AND ${aroundNews(scope, params.session_life_ms_max)}`;
    return sql`
    SELECT toString(session_ref) AS entity, max(time) AS at FROM (
      ${near} AND session_ref IN (${fresh})
      UNION ALL
      SELECT names.ref AS session_ref, time, net_network, net_ua_family, system
      FROM (${near} AND session_ref IN (SELECT other FROM (${names}))) AS renamed
      INNER JOIN (${names}) AS names ON names.other = renamed.session_ref)
    GROUP BY session_ref
    HAVING min(net_network) != max(net_network) AND (
      minIf(net_ua_family, net_ua_family != '') != maxIf(net_ua_family, net_ua_family != '')
      OR minIf(system, system != '') != maxIf(system, system != ''))`;
  },
  // Per device, so that a long session's thousands of visits from home don't hide the one from elsewhere.
  history: (selection) => sql`
    SELECT entity, event_id, at FROM (
      SELECT toString(session_ref) AS entity, event_id, any(net_network) AS network, any(net_ua_family) AS browser,
        any(${SYSTEM_COLUMN}) AS system, any(time) AS at
      FROM grantscope.auth_events
      WHERE tenant = ${param.string(selection.tenant)} AND ${SESSION_ROWS}
        AND session_ref IN ${param.uuids(selection.entities)}
      GROUP BY session_ref, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(ROWS_PER_DEVICE_MAX)} BY entity, network, browser, system`,
  evaluate,
  falsePositives: [
    'A vendor that keeps one session id for several browsers of a person.',
    'A tool that the user gives the session to: list it in known_tools.',
    'Not reported: another network with the same device, another browser on the same network, a phone that asks for the desktop page, requests without a user agent.',
  ],
  examples: [
    {
      name: 'fires on a new network with another browser and system, told out of order',
      events: [
        visit(600, { ...AWAY, ...FIREFOX }),
        visit(0, { ...HOME, ...CHROME }, { kind: 'login' }),
        visit(300, { ...HOME, ...CHROME }),
      ],
      expect: [finding(600, ['Chrome on Windows', 'Firefox on Linux'])],
    },
    {
      name: 'fires on another system alone; using the session more does not clear it',
      events: [
        visit(0, { ...HOME, ...CHROME }),
        visit(60, { ...AWAY, ua_family: 'Chrome', user_agent: ANDROID }),
        visit(90, { ...AWAY, ...CHROME }),
      ],
      expect: [finding(60, ['Chrome on Windows', 'Chrome on Android'])],
    },
    {
      name: 'fires on another program alone',
      events: [
        visit(0, { ...HOME, ua_family: 'Chrome' }),
        visit(60, { ...AWAY, ua_family: 'python-requests' }, { client: { id: 'admin' } }),
      ],
      expect: [finding(60, ['Chrome', 'python-requests'], { clients: ['admin', 'web-shop'] })],
    },
    {
      name: 'silent: a new network with the same browser and system',
      events: [visit(0, { ...HOME, ...CHROME }), visit(60, { ...AWAY, ...CHROME })],
      expect: [],
    },
    {
      name: 'silent: another browser on the same network, then with it elsewhere',
      events: [
        visit(0, { ...HOME, ...CHROME }),
        visit(60, { ...HOME, ...FIREFOX }),
        visit(90, { ...AWAY, ...FIREFOX }),
      ],
      expect: [],
    },
    {
      name: 'silent: a phone asks for the desktop page on another network',
      events: [
        visit(0, { ...HOME, ua_family: 'Chrome', user_agent: ANDROID }),
        visit(60, { ...AWAY, ua_family: 'Chrome', user_agent: DESKTOP }),
      ],
      expect: [],
    },
    {
      name: 'silent: prefixes of one autonomous system, and an IPv6 prefix beside an IPv4 one',
      events: [
        visit(0, { ...HOME, ...CHROME, asn: 64_500 }),
        visit(60, { ...AWAY, ...FIREFOX, asn: 64_500 }),
        visit(70, { ...HOME, ...CHROME }, { session_ref: exampleRef('dual stack session') }),
        visit(
          80,
          { network: '2001:db8:1::/48', ip_role: 'end_user', ...FIREFOX },
          { session_ref: exampleRef('dual stack session') },
        ),
      ],
      expect: [],
    },
    {
      name: 'silent: what is not known, what is no browser, what is no user',
      events: [
        visit(0, { ...HOME, ...CHROME }),
        visit(1, { ...AWAY }),
        visit(2, { ...AWAY, ...FIREFOX, ip_role: 'client_backend' }),
        visit(3, { ...AWAY, ua_family: 'okhttp' }, { kind: 'token_refreshed' }),
        visit(4, { ...FIREFOX, ip_role: 'end_user', network: '' }),
      ],
      expect: [],
    },
    {
      name: 'silent for a tool that is listed',
      parameters: { known_tools: ['python-requests'] },
      events: [
        visit(0, { ...HOME, ...CHROME }),
        visit(60, { ...AWAY, ua_family: 'python-requests' }),
      ],
      expect: [],
    },
    ...(
      [
        ...['authorization_failed', 'code_issued', 'consent_granted', 'consent_denied'],
        ...['device_authorized', 'login', 'mfa_challenged', 'mfa_result', 'session_started'],
      ] as EventKind[]
    ).map((kind) => ({
      name: `fires on ${kind} from elsewhere`,
      events: [visit(0, { ...HOME, ...CHROME }), visit(60, { ...AWAY, ...FIREFOX }, { kind })],
      expect: [finding(60, ['Chrome on Windows', 'Firefox on Linux'])],
    })),
    ...[
      ['Android', ANDROID, 'Windows', WINDOWS],
      ['Windows', WINDOWS, 'Linux', DESKTOP],
      ['Linux', DESKTOP, 'Windows', WINDOWS],
      ['Windows', WINDOWS, 'Android', ANDROID],
      ['Android', ANDROID, 'macOS', MAC],
    ].map(([first = '', firstAgent = '', then = '', thenAgent = '']) => ({
      name: `fires: one browser on ${first}, then on ${then}`,
      events: [
        visit(0, { ...HOME, ua_family: 'Chrome', user_agent: firstAgent }),
        visit(60, { ...AWAY, ua_family: 'Chrome', user_agent: thenAgent }),
      ],
      expect: [finding(60, [`Chrome on ${first}`, `Chrome on ${then}`])],
    })),
    {
      name: 'fires: two systems, of which no browser is known, are no desktop page',
      parameters: { known_tools: ['curl'] },
      events: [
        visit(0, { ...HOME, user_agent: ANDROID }),
        visit(60, { ...AWAY, user_agent: DESKTOP }),
      ],
      expect: [finding(60, ['Android', 'Linux'])],
    },
    ...[
      ['a desktop page first', DESKTOP, ANDROID],
      ['a tablet that calls itself a desktop', IPHONE, MAC],
      ['a system that is not told again', WINDOWS, ''],
      ['a system that was not told first', '', WINDOWS],
    ].map(([name = '', firstAgent = '', thenAgent = '']) => ({
      name: `silent: ${name}`,
      events: [
        visit(0, { ...HOME, ua_family: 'Chrome', user_agent: firstAgent }),
        visit(60, { ...AWAY, ua_family: 'Chrome', user_agent: thenAgent }),
      ],
      expect: [],
    })),
    ...[
      ['again', 'Chrome', ''],
      ['at first', '', 'Chrome'],
    ].map(([name = '', first = '', then = '']) => ({
      name: `silent: a browser that is not told ${name}`,
      events: [
        visit(0, { ...HOME, ua_family: first, user_agent: WINDOWS }),
        visit(60, { ...AWAY, ua_family: then, user_agent: WINDOWS }),
      ],
      expect: [],
    })),
    {
      name: 'silent: a network that does not compare with one of those before, an inner address, a client that is excluded',
      parameters: { exclude_clients: ['kiosk'] },
      events: [
        visit(0, { ...HOME, ...CHROME }),
        visit(10, { network: '2001:db8:1::/48', ip_role: 'end_user', ...CHROME }),
        visit(60, { ...AWAY, ...FIREFOX }),
        visit(0, { ...HOME, ...CHROME }, { session_ref: exampleRef('inner session') }),
        visit(
          60,
          { network: '10.1.2.0/24', ip_role: 'unknown', ...FIREFOX },
          { session_ref: exampleRef('inner session') },
        ),
        visit(0, { ...HOME, ...CHROME }, { session_ref: exampleRef('kiosk session') }),
        visit(
          60,
          { ...AWAY, ...FIREFOX },
          { session_ref: exampleRef('kiosk session'), client: { id: 'kiosk' } },
        ),
      ],
      expect: [],
    },
  ],
});
