import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { ofDay, splitByGap } from './_episodes.ts';
import {
  hostOf,
  isIpLiteral,
  isLoopbackHost,
  isRegisteredRedirect,
  matchesPattern,
  registrableDomain,
} from './_hosts.ts';
import { kindIn } from './_ledger.ts';
import { hasUserAddress, isoTime, known, tokensOf } from './_origin.ts';

const REGISTRATIONS = ['client_registered', 'client_updated'] as const;
const KINDS = [...REGISTRATIONS, 'code_issued'] as const;
const NS_PER_DAY = 86_400_000_000_000n;
/** Registrations read per client, the latest ones. */
const REGISTRATIONS_MAX = 200;
/** Codes read per client and day: one per URI and network. */
const CODES_MAX = 1_500;
const LISTED_MAX = 20;

const Parameters = z
  .strictObject({
    /** How long after a change its URIs are watched, days. */
    watch_days: z.int().min(1).max(30).default(7),
    /** A network is known when a code was sent there before the change, and at most so long before the watch of the day, days. */
    baseline_days: z.int().min(1).max(60).default(10),
    /** A client must have sent codes for so long before the change, days: else all its networks are new. */
    learning_days: z.int().min(0).max(30).default(3),
    /** URIs that may come and go, for instance of preview deployments; `*` stands for anything but `/`. */
    allowed_patterns: z.array(z.string().min(1)).default([]),
    exclude_clients: z.array(z.string()).default([]),
    /** Pause after which a new episode begins, ms. */
    gap_ms: z.int().min(60_000).max(86_400_000).default(21_600_000),
  })
  .refine((p) => p.learning_days <= p.baseline_days, {
    path: ['learning_days'],
    message: 'must not be more than baseline_days',
  });
type Params = z.infer<typeof Parameters>;

const urisOf = (event: AuthEvent): string[] =>
  (event.ext['redirect_uris'] ?? '').split(/\s+/).filter((u) => u !== '');

/** Whether a registration lets the server send codes there; some servers register patterns. */
function accepts(registered: readonly string[], uri: string): boolean {
  return isRegisteredRedirect(uri, registered) || registered.some((r) => matchesPattern(uri, r));
}

/** What somebody had to own for a URI: its domain, or the scheme of a native app. */
function siteOf(uri: string): string {
  const host = hostOf(uri);
  if (host === '') return uri.split(':')[0] ?? '';
  return isIpLiteral(host) ? host : registrableDomain(host);
}

/** A registration that added URIs to those before it. */
interface Change {
  readonly event: AuthEvent;
  readonly before: readonly string[];
  readonly after: readonly string[];
}

function changesOf(input: EvaluateInput<Params>): Change[] {
  const changes: Change[] = [];
  let before: readonly string[] | undefined;
  for (const event of input.events) {
    const isRefused = event.outcome === 'failure' || event.outcome === 'denied';
    if (event.kind === 'code_issued' || isRefused || event.ext['redirect_uris'] === undefined)
      continue;
    const after = urisOf(event);
    // What was registered before the first event is known where grantscope.yaml states it.
    before ??= input.clients.at(input.entity, event.time - 1n).redirectUris;
    if (before !== undefined && after.some((u) => !before?.includes(u)))
      changes.push({ event, before, after });
    before = after;
  }
  return changes;
}

interface Hit {
  readonly code: AuthEvent;
  readonly change: Change;
}

/** The change by which this code could be sent where it was, if it is one to tell. */
function hitOf(code: AuthEvent, changes: readonly Change[], input: EvaluateInput<Params>): Hit[] {
  const { params, facts } = input;
  const uri = code.redirect_uri;
  const { network } = code.net;
  if (code.outcome !== 'success' || uri === '' || network === '' || !hasUserAddress(code))
    return [];
  if (isLoopbackHost(hostOf(uri)) || params.allowed_patterns.some((p) => matchesPattern(uri, p)))
    return [];
  const watchNs = BigInt(params.watch_days) * NS_PER_DAY;
  const change = changes.findLast(
    (c) =>
      c.event.time <= code.time &&
      code.time - c.event.time <= watchNs &&
      !accepts(c.before, uri) &&
      accepts(c.after, uri),
  );
  if (change === undefined) return [];
  const first = (name: string, key: string): bigint | undefined =>
    facts.find((f) => f.name === name && f.key === key)?.at;
  const clientFirst = first('client_first', '');
  const networkFirst = first('network_first', network);
  const learningNs = BigInt(params.learning_days) * NS_PER_DAY;
  const isLearnt = clientFirst !== undefined && change.event.time - clientFirst >= learningNs;
  const isNew = networkFirst === undefined || networkFirst >= change.event.time;
  return isLearnt && isNew ? [{ code, change }] : [];
}

function toSignal(events: readonly AuthEvent[], all: readonly Hit[], client: string): Signal {
  const hits = all.filter((h) => events.includes(h.code));
  const isForeign = (h: Hit): boolean =>
    !h.change.before.some((u) => siteOf(u) === siteOf(h.code.redirect_uri));
  const isNewSite = hits.some(isForeign);
  const changes = [...new Set(hits.map((h) => h.change.event))];
  const uris = known(hits.map((h) => h.code.redirect_uri));
  const networks = known(hits.map((h) => h.code.net.network));
  const changers = known(changes.map((c) => c.net.network));
  const [first] = events;
  return {
    episode: first === undefined ? '' : isoTime(first),
    verdict: isNewSite ? 'new_site' : 'same_site',
    severity: isNewSite ? 'high' : 'medium',
    confidence: isNewSite ? 80 : 50,
    summary: `Client ${client} got new redirect URIs, and codes went there from new networks: ${uris.slice(0, 3).join(', ')}.`,
    reasons: [
      ...known(hits.filter(isForeign).map((h) => siteOf(h.code.redirect_uri)))
        .slice(0, 10)
        .map((s) => `nothing was registered at ${s} before`),
      ...networks.slice(0, 10).map((n) => `no user had come from ${n} before the change`),
    ],
    evidence: {
      redirect_uris: uris.slice(0, LISTED_MAX),
      changed_at: changes[0] === undefined ? '' : isoTime(changes[0]),
      changed_by: known(changes.map((c) => c.actor.ref)).slice(0, LISTED_MAX),
      change_networks: changers.slice(0, LISTED_MAX),
      code_networks: networks.slice(0, LISTED_MAX),
      codes: hits.length,
    },
    events: [...changes, ...events].sort((a, b) =>
      a.time < b.time || (a.time === b.time && a.event_id < b.event_id) ? -1 : 1,
    ),
    tokenRefs: known(events.flatMap((e) => tokensOf(e, 'issued', 'code').map((t) => t.ref))),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  if (input.params.exclude_clients.includes(input.entity)) return [];
  const changes = changesOf(input);
  const hits = ofDay(input.events, input.window)
    .filter((e) => e.kind === 'code_issued')
    .flatMap((e) => hitOf(e, changes, input));
  return splitByGap(
    hits.map((h) => h.code),
    input.params.gap_ms,
  ).map((events) => toSignal(events, hits, input.entity));
}

const at = (ns: bigint): Sql => sql`fromUnixTimestamp64Nano(${param.int64(ns)}, 'UTC')`;
const CODE = sql`kind = 'code_issued' AND outcome = 'success' AND redirect_uri != ''`;

/** Codes sent to a URI that a registration since `since` names, or may accept by a pattern. */
function toNamedUri(tenant: string, since: bigint): Sql {
  const updates = sql`FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND ${kindIn(REGISTRATIONS)} AND client_id != '' AND time >= ${at(since)}`;
  return sql`client_id IN (SELECT client_id ${updates}) AND (
    (client_id, redirect_uri) IN (
      SELECT client_id, cutQueryStringAndFragment(arrayJoin(splitByWhitespace(ext['redirect_uris']))) ${updates})
    OR client_id IN (SELECT client_id ${updates} AND position(ext['redirect_uris'], '*') > 0))`;
}

/** Codes that what is new may decide about: itself, a change or an older network of its client that is told late. */
function candidates(scope: CandidateScope, params: Params): Sql {
  const since = scope.timeFrom - BigInt(params.watch_days) * NS_PER_DAY;
  const tenant = param.string(scope.tenant);
  return sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${CODE} AND time >= ${at(scope.timeFrom)}
      AND ${toNamedUri(scope.tenant, since)}
      AND client_id IN (
        SELECT client_id FROM grantscope.auth_events
        WHERE tenant = ${tenant} AND ${kindIn(KINDS)} AND ${scope.condition})`;
}

function codesOfDay(selection: HistorySelection, params: Params): Sql {
  const { from, to } = selection.window ?? { from: 0n, to: 0n };
  return sql`tenant = ${param.string(selection.tenant)} AND ${CODE} AND time >= ${at(from)} AND time < ${at(to)}
    AND client_id IN ${param.strings(selection.entities)}
    AND ${toNamedUri(selection.tenant, from - BigInt(params.watch_days) * NS_PER_DAY)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT entity, event_id, t AS at FROM (
      SELECT client_id AS entity, event_id, any(time) AS t FROM grantscope.auth_events
      WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(REGISTRATIONS)}
        AND client_id IN ${param.strings(selection.entities)} AND time < ${at(selection.window?.to ?? 0n)}
      GROUP BY client_id, event_id
    ) ORDER BY entity, t DESC, event_id LIMIT ${param.uint(REGISTRATIONS_MAX)} BY entity
    UNION ALL
    SELECT entity, event_id, t AS at FROM (
      SELECT entity, event_id, t, uri, network FROM (
        SELECT client_id AS entity, event_id, time AS t, redirect_uri AS uri, net_network AS network
        FROM grantscope.auth_events WHERE ${codesOfDay(selection, params)}
      ) ORDER BY entity, t, event_id LIMIT 1 BY entity, uri, network
    ) ORDER BY entity, t, event_id LIMIT ${param.uint(CODES_MAX)} BY entity`;
}

/** Since when the client sends codes, and since when to each of the day's networks. */
function facts(selection: HistorySelection, params: Params): Sql {
  const { from, to } = selection.window ?? { from: 0n, to: 0n };
  const since = from - BigInt(params.watch_days + params.baseline_days) * NS_PER_DAY;
  const codes = sql`FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND ${CODE} AND time >= ${at(since)} AND time < ${at(to)}
      AND client_id IN ${param.strings(selection.entities)}`;
  return sql`
    SELECT client_id AS entity, 'client_first' AS name, '' AS key, min(time) AS at, 1 AS value ${codes} GROUP BY client_id
    UNION ALL
    SELECT client_id AS entity, 'network_first' AS name, net_network AS key, min(time) AS at, 1 AS value ${codes}
      AND net_network IN (SELECT net_network FROM grantscope.auth_events WHERE ${codesOfDay(selection, params)})
    GROUP BY client_id, net_network`;
}

const DAY = 86_400;
const HOME = '198.51.100.0/24';
const AWAY = '203.0.113.0/24';
const OWN = 'https://shop.example/cb';
const EVIL = 'https://evil.example/cb';
const ADMIN = exampleRef('redirect_uri_changed admin');
const register = (t: number, uris: string, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'client_updated',
  outcome: 'success',
  client: { id: 'web-shop' },
  actor: { ref: ADMIN, type: 'user' },
  net: { network: AWAY },
  ext: { redirect_uris: uris },
  ...more,
});
const code = (
  t: number,
  uri: string,
  network: string,
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: 'code_issued',
  outcome: 'success',
  client: { id: 'web-shop' },
  redirect_uri: uri,
  net: { network, ip_role: 'end_user' },
  tokens: [{ role: 'issued', type: 'code', ref: exampleRef(`code at ${t}`) }],
  ...more,
});
/** A client of ten days whose users come from home. */
const PAST = [
  register(-10 * DAY, OWN, { kind: 'client_registered' }),
  code(-5 * DAY, OWN, HOME),
] as const;
const expected = (
  t: number,
  changedAt: number,
  uris: string[],
  more: Readonly<Record<string, unknown>> = {},
) => ({
  entity: 'web-shop',
  episode: exampleTime(t),
  verdict: 'new_site',
  severity: 'high' as const,
  evidence: {
    redirect_uris: uris,
    changed_at: exampleTime(changedAt),
    changed_by: [ADMIN],
    change_networks: [AWAY],
    code_networks: [AWAY],
    codes: 1,
    ...more,
  },
});
const silent = (
  name: string,
  events: readonly ExampleEvent[],
  parameters?: Readonly<Record<string, unknown>>,
) => ({
  name: `silent: ${name}`,
  ...(parameters === undefined ? {} : { parameters }),
  events,
  expect: [],
});

export default defineDetector<Params>({
  id: 'redirect_uri_changed',
  version: 1,
  title: 'Codes sent to a newly registered redirect URI',
  family: 'redirect_abuse',
  severity: 'high',
  confidence: 80,
  description:
    'Redirect URIs were added to a client, and soon after a code was sent to one of them, to somebody in a network that no user of the client had come from. Whoever may change a client can so collect codes without breaking anything.',
  references: ['RFC 9700 section 4.1', 'RFC 7592 section 5', 'ATT&CK T1098', 'ATT&CK T1528'],
  entity: 'client',
  verdicts: {
    new_site: 'The URI is at a domain at which nothing was registered before.',
    same_site: 'The URI is at a domain of the client.',
  },
  evidence: {
    redirect_uris: 'The added URIs that codes were sent to (at most 20).',
    changed_at: 'The first change concerned.',
    changed_by: 'Who made the changes, as references (at most 20).',
    change_networks: 'Networks that the changes were made from (at most 20).',
    code_networks: 'New networks that codes were sent to (at most 20).',
    codes: 'Number of such codes: one for each URI, network and day.',
  },
  needs: ['redirect_uri', 'client.id', 'net.network', 'ext', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  candidates,
  history,
  facts,
  evaluate,
  falsePositives: [
    'A new page of the application, tried by a user from a network that was not seen before.',
    'Preview deployments that register themselves: allowed_patterns.',
    'Not reported: the first registration, clients that have not sent codes for learning_days, loopback addresses, codes whose network is unknown or is that of a proxy.',
  ],
  examples: [
    {
      name: 'fires when a code goes to an added address from a new network; the past is told last',
      events: [code(60, EVIL, AWAY), register(0, `${OWN} ${EVIL}`), ...PAST],
      expect: [expected(60, 0, [EVIL])],
    },
    {
      name: 'medium at a domain of the client',
      events: [
        ...PAST,
        register(0, `${OWN} https://new.shop.example/cb`),
        code(60, 'https://new.shop.example/cb', AWAY),
      ],
      expect: [
        {
          ...expected(60, 0, ['https://new.shop.example/cb']),
          verdict: 'same_site',
          severity: 'medium' as const,
        },
      ],
    },
    {
      name: 'fires by a pattern, and for a native scheme; a pause begins a new episode',
      parameters: { gap_ms: 3_600_000 },
      events: [
        ...PAST,
        register(0, `${OWN} https://evil.example/* com.evil.app:/cb`),
        code(60, 'https://evil.example/any/where', AWAY),
        code(3_660, 'com.evil.app:/cb', '192.0.2.0/24'),
        code(7_260.001, 'com.evil.app:/cb', AWAY),
      ],
      expect: [
        expected(60, 0, ['com.evil.app:/cb', 'https://evil.example/any/where'], {
          code_networks: ['192.0.2.0/24', AWAY],
          codes: 2,
        }),
        expected(7_260.001, 0, ['com.evil.app:/cb']),
      ],
    },
    {
      name: 'fires against what grantscope.yaml states, and at the end of the watch',
      clients: [{ client_id: 'web-shop', redirect_uris: [OWN] }],
      events: [code(-3 * DAY, OWN, HOME), register(0, EVIL), code(7 * DAY, EVIL, AWAY)],
      expect: [expected(7 * DAY, 0, [EVIL])],
    },
    silent('the watch is over', [
      ...PAST,
      register(0, `${OWN} ${EVIL}`),
      code(7 * DAY + 1, EVIL, AWAY),
    ]),
    silent('users come from networks known before the change', [
      ...PAST,
      code(-1, OWN, AWAY),
      register(0, `${OWN} https://new.shop.example/cb`),
      code(60, 'https://new.shop.example/cb', HOME),
      code(61, 'https://new.shop.example/cb', AWAY),
    ]),
    silent('what was registered before, put in another order or taken away', [
      ...PAST,
      register(-4 * DAY, `${OWN} ${EVIL}`, { outcome: 'denied' }),
      register(0, OWN),
      code(60, OWN, AWAY),
    ]),
    silent('the client has not been known for long enough', [
      register(-10 * DAY, OWN, { kind: 'client_registered' }),
      code(-3 * DAY + 1, OWN, HOME),
      register(0, EVIL),
      code(60, EVIL, AWAY),
    ]),
    silent('the first registration, and codes that were not sent', [
      code(-5 * DAY, OWN, HOME),
      register(0, EVIL),
      code(60, EVIL, AWAY),
      register(120, `${EVIL} https://two.example/cb`),
      code(180, 'https://two.example/cb', AWAY, { outcome: 'failure' }),
    ]),
    silent('the network is unknown, or a proxy; a loopback address', [
      ...PAST,
      register(0, `${EVIL} http://127.0.0.1/cb`),
      code(60, EVIL, ''),
      code(61, EVIL, AWAY, { net: { network: AWAY, ip_role: 'proxy' } }),
      code(62, 'http://127.0.0.1/cb', AWAY),
    ]),
    silent(
      'allowed patterns and excluded clients',
      [
        ...PAST,
        register(0, `${OWN} https://pr-1.preview.example/cb`),
        code(60, 'https://pr-1.preview.example/cb', AWAY),
        ...PAST.map((e) => ({ ...e, client: { id: 'lab' } })),
        register(0, EVIL, { client: { id: 'lab' } }),
        code(61, EVIL, AWAY, { client: { id: 'lab' } }),
      ],
      { allowed_patterns: ['https://*.preview.example/cb'], exclude_clients: ['lab'] },
    ),
    {
      name: 'fires after the shortest learning, against a network known last as long ago as counts',
      events: [
        register(-20 * DAY, OWN, { kind: 'client_registered' }),
        code(-3 * DAY, OWN, HOME),
        register(0, `${OWN} ${EVIL}`),
        code(0, EVIL, AWAY),
      ],
      expect: [expected(0, 0, [EVIL])],
    },
    {
      name: 'the pause between episodes is six hours; each names the change it goes back to',
      events: [
        ...PAST,
        register(0, `${OWN} ${EVIL}`),
        code(60, EVIL, AWAY),
        register(120, `${OWN} ${EVIL} https://two.example/cb`, {
          actor: { ref: exampleRef('redirect_uri_changed second'), type: 'user' },
        }),
        code(21_660, EVIL, '192.0.2.0/24'),
        code(43_199.999, EVIL, '192.0.2.128/25'),
        code(43_200 + 43_199, EVIL, AWAY),
      ],
      expect: [
        expected(60, 0, [EVIL], {
          code_networks: ['192.0.2.0/24', '192.0.2.128/25', AWAY],
          codes: 3,
        }),
        expected(43_200 + 43_199, 0, [EVIL]),
      ],
    },
    {
      name: 'the latest of several changes that let the code go there is told',
      events: [
        ...PAST,
        register(0, `${OWN} ${EVIL}`),
        register(100, OWN),
        register(200, `${OWN} ${EVIL}`, {
          kind: 'client_registered',
          actor: { ref: exampleRef('redirect_uri_changed second'), type: 'user' },
          net: { network: HOME },
        }),
        code(300, EVIL, AWAY),
      ],
      expect: [
        expected(300, 200, [EVIL], {
          changed_by: [exampleRef('redirect_uri_changed second')],
          change_networks: [HOME],
        }),
      ],
    },
    {
      name: 'a site of one’s own beside a new one: the episode is of a new site; an address is a site',
      events: [
        register(-10 * DAY, `${OWN} https://192.0.2.10/cb`),
        code(-5 * DAY, OWN, HOME),
        register(0, `${OWN} https://192.0.2.10/cb https://pay.shop.example/cb ${EVIL}`),
        code(60, 'https://pay.shop.example/cb', AWAY),
        code(61, EVIL, AWAY),
      ],
      expect: [
        expected(60, 0, ['https://evil.example/cb', 'https://pay.shop.example/cb'], { codes: 2 }),
      ],
    },
    {
      name: 'medium for a native scheme that was registered before, beside another site',
      events: [
        register(-10 * DAY, `https://other.example/cb com.shop.app:/cb`),
        code(-5 * DAY, OWN, HOME),
        register(0, `https://other.example/cb com.shop.app:/cb com.shop.app:/new`),
        code(60, 'com.shop.app:/new', AWAY),
      ],
      expect: [
        {
          ...expected(60, 0, ['com.shop.app:/new']),
          verdict: 'same_site',
          severity: 'medium' as const,
        },
      ],
    },
    {
      name: 'fires by a pattern in the middle; the change that did not add it is not told',
      events: [
        ...PAST,
        register(0, `${OWN} https://*.evil.example/cb`),
        register(30, `${OWN} https://*.evil.example/cb https://later.example/cb`),
        code(60, 'https://a.evil.example/cb', AWAY),
      ],
      expect: [expected(60, 0, ['https://a.evil.example/cb'])],
    },
    silent(
      'a pattern that was registered before, at its end or in the middle, and one that does not fit',
      [
        register(-10 * DAY, `${OWN} https://shop.example/app/* https://*.shop.example/cb`),
        code(-5 * DAY, OWN, HOME),
        register(
          0,
          `${OWN} https://shop.example/app/* https://*.shop.example/cb https://shop.example/app/new https://new.shop.example/cb https://*.evil.example/cb`,
        ),
        code(60, 'https://shop.example/app/new', AWAY),
        code(61, 'https://new.shop.example/cb', AWAY),
        code(62, 'https://a.evil.example/other', AWAY),
      ],
    ),
    silent('a change that failed, one that names no URIs, one after the code', [
      ...PAST,
      register(-100, `${OWN} ${EVIL}`, { outcome: 'failure' }),
      register(-90, '', { ext: {} }),
      code(60, EVIL, AWAY),
      register(61, `${OWN} ${EVIL}`),
    ]),
    silent(
      'the network had been used for another URI before, by another client it does not count',
      [
        ...PAST,
        code(-4 * DAY, OWN, AWAY),
        register(0, `${OWN} ${EVIL}`),
        code(60, EVIL, AWAY),
        code(70, EVIL, AWAY, { outcome: 'unknown' }),
        code(80, '', AWAY),
      ],
    ),
  ],
});
