import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  EXAMPLE_START_MS,
  exampleTime,
  LIFETIME_EPISODE,
  mentions,
  type CandidateScope,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { known, tokensOf } from './_origin.ts';

const ELEVATIONS = ['elevation_granted', 'elevation_ended'] as const;
const ISSUES = ['token_issued', 'token_refreshed', 'token_exchanged'] as const;
const USES = ['token_validated', 'api_accessed', 'userinfo_accessed'] as const;
const KINDS = [...ELEVATIONS, ...ISSUES, ...USES] as const;
/** Uses read per token and hour, from its beginning and as many from its end. */
const USES_PER_HOUR_MAX = 5;
const NS_PER_MS = 1_000_000n;

const Parameters = z.strictObject({
  /** An elevation of which no end is told ends after this time, ms. */
  max_elevation_ms: z.int().min(60_000).max(604_800_000).default(28_800_000),
  /** Clocks and caches may take so long, ms. */
  grace_ms: z.int().min(0).max(3_600_000).default(60_000),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** How the end of an elevation is known. */
type EndToldBy = 'event' | 'expiry' | 'limit';

/** Event times, ns. */
interface Window {
  readonly start: bigint;
  readonly end: bigint;
  readonly toldBy: EndToldBy;
}

const hasHappened = (e: AuthEvent): boolean => e.outcome !== 'failure' && e.outcome !== 'denied';

/** An elevation ends when it is said to, at the latest when its token expires, or after the limit. */
function windowOf(granted: AuthEvent, events: readonly AuthEvent[], params: Params): Window {
  const start = granted.time;
  const ended = events.find(
    (e) => e.kind === 'elevation_ended' && hasHappened(e) && e.time >= start,
  )?.time;
  const expiries = granted.tokens.flatMap((t) => (t.expires_at === null ? [] : [t.expires_at]));
  const expiry = expiries.reduce<bigint | undefined>(
    (a, b) => (a === undefined || b > a ? b : a),
    undefined,
  );
  if (ended !== undefined && (expiry === undefined || ended <= expiry))
    return { start, end: ended, toldBy: 'event' };
  if (expiry !== undefined) return { start, end: expiry, toldBy: 'expiry' };
  return { start, end: start + BigInt(params.max_elevation_ms) * NS_PER_MS, toldBy: 'limit' };
}

interface Elevation {
  readonly grants: readonly AuthEvent[];
  readonly windows: readonly Window[];
  /** Empty: not told. */
  readonly scopes: ReadonlySet<string>;
  /** Tokens that carry the elevation. */
  readonly tokens: ReadonlySet<string>;
}

function isElevated(event: AuthEvent, scopes: ReadonlySet<string>): boolean {
  return event.scopes_granted.some((s) => scopes.has(s));
}

function elevationOf(input: EvaluateInput<Params>): Elevation | undefined {
  const { events, params } = input;
  const grants = events.filter((e) => e.kind === 'elevation_granted' && hasHappened(e));
  const [first] = grants;
  if (first === undefined) return undefined;
  const windows = grants.map((g) => windowOf(g, events, params));
  const scopes = new Set(grants.flatMap((g) => g.scopes_granted));
  const issues = events.filter(
    (e) =>
      ISSUES.some((k) => k === e.kind) &&
      e.outcome === 'success' &&
      e.time >= first.time &&
      (scopes.size === 0 || isElevated(e, scopes)),
  );
  const tokens = new Set([
    ...grants.flatMap((g) => g.tokens.filter((t) => t.type === 'access').map((t) => t.ref)),
    ...issues.flatMap((e) => tokensOf(e, 'issued', 'access').map((t) => t.ref)),
  ]);
  return { grants, windows, scopes, tokens };
}

/** Whether an event exercises the elevation: it makes an elevated token, or an API accepts one. */
function exercises(event: AuthEvent, elevation: Elevation): boolean {
  if (event.outcome !== 'success') return false;
  if (ISSUES.some((k) => k === event.kind)) return isElevated(event, elevation.scopes);
  if (!USES.some((k) => k === event.kind)) return false;
  const isKnownToken = event.tokens.some(
    (t) => t.role === 'presented' && elevation.tokens.has(t.ref),
  );
  const areScopesOpen = elevation.scopes.size === 0 || event.scopes_granted.length === 0;
  return isKnownToken && (areScopesOpen || isElevated(event, elevation.scopes));
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params } = input;
  const elevation = elevationOf(input);
  if (elevation === undefined) return [];
  const graceNs = BigInt(params.grace_ms) * NS_PER_MS;
  const { windows, grants } = elevation;
  const late = input.events.filter(
    (e) =>
      !params.exclude_clients.includes(e.client.id) &&
      exercises(e, elevation) &&
      windows.some((w) => w.start < e.time) &&
      !windows.some((w) => w.start <= e.time && e.time <= w.end + graceNs),
  );
  const [first] = late;
  if (first === undefined) return [];
  const window = windows.findLast((w) => w.start < first.time);
  const granted = grants.findLast((g) => g.time < first.time);
  if (window === undefined || granted === undefined) return [];
  const iso = (ns: bigint): string => new Date(Number(ns / NS_PER_MS)).toISOString();
  const isOpen = window.toldBy === 'limit';
  const ends = input.events.filter((e) => e.kind === 'elevation_ended' && e.time <= first.time);
  const overrunMs = Number((first.time - window.end) / NS_PER_MS);
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: isOpen ? 'never_ended' : 'used_past_end',
      severity: 'high',
      confidence: isOpen ? 60 : 85,
      summary: isOpen
        ? `An elevation of ${iso(window.start)} was never ended, and is still used.`
        : `An elevation that ended ${iso(window.end)} was used ${Math.round(overrunMs / 1_000)} s later.`,
      reasons: [
        ...known(elevation.scopes)
          .slice(0, 10)
          .map((s) => `elevated: ${s}`),
        isOpen ? 'neither an end nor an expiry was told' : `the end was told by ${window.toldBy}`,
        `${late.length} use(s) after it`,
      ],
      evidence: {
        elevated_scopes: known(elevation.scopes),
        granted_at: iso(granted.time),
        ended_at: iso(window.end),
        end_told_by: window.toldBy,
        first_use_at: iso(first.time),
        overrun_ms: overrunMs,
        uses: late.length,
        clients: known(late.map((e) => e.client.id)).slice(0, 20),
      },
      events: [...new Set([granted, ...ends, ...late])].sort((a, b) =>
        a.time < b.time || (a.time === b.time && a.event_id < b.event_id) ? -1 : 1,
      ),
      tokenRefs: known(
        late.flatMap((e) =>
          e.tokens.filter((t) => t.type === 'access' && t.ref !== '').map((t) => t.ref),
        ),
      ),
    },
  ];
}

/** Grants that were ever elevated, under every name they have: few, since the kind leads the table's order. */
function elevatedGrants(tenant: string): Sql {
  const own = sql`SELECT grant_ref FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND kind = 'elevation_granted' AND grant_ref != ${nilRef}`;
  return sql`${own} UNION ALL
    SELECT other FROM grantscope.reference_names WHERE tenant = ${param.string(tenant)} AND ref IN (${own})`;
}

function tokensOfGrants(tenant: string, grants: Sql): Sql {
  return sql`SELECT DISTINCT anchor_ref, token_ref FROM grantscope.token_links
    WHERE tenant = ${param.string(tenant)} AND anchor_ref IN (${grants})`;
}

/** Ledger rows that make or use a token. */
const LEDGER = sql`outcome = 'success' AND token_type = 'access'
  AND ((token_role = 'issued' AND ${kindIn(ISSUES)}) OR (token_role = 'presented' AND ${kindIn(USES)}))`;

function candidates(scope: CandidateScope): Sql {
  const tenant = param.string(scope.tenant);
  const links = tokensOfGrants(scope.tenant, elevatedGrants(scope.tenant));
  return sql`
    SELECT toString(grant_ref) AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(ELEVATIONS)} AND grant_ref != ${nilRef} AND ${scope.condition}
    UNION ALL
    SELECT toString(links.anchor_ref) AS entity, uses.time AS at FROM (
      SELECT token_ref, time FROM grantscope.token_events
      WHERE tenant = ${tenant} AND ${LEDGER} AND ${scope.condition}
        AND token_ref IN (SELECT token_ref FROM (${links}))
    ) AS uses INNER JOIN (${links}) AS links ON links.token_ref = uses.token_ref`;
}

function history(selection: HistorySelection): Sql {
  const tenant = param.string(selection.tenant);
  const entities = param.uuids(selection.entities);
  const links = tokensOfGrants(selection.tenant, sql`SELECT arrayJoin(${entities})`);
  const rows = sql`
    SELECT toString(links.anchor_ref) AS entity, ledger.event_id AS event_id, ledger.time AS t, ledger.token_ref AS token
    FROM (
      SELECT DISTINCT token_ref, event_id, time FROM grantscope.token_events
      WHERE tenant = ${tenant} AND ${LEDGER} AND token_ref IN (SELECT token_ref FROM (${links}))
    ) AS ledger INNER JOIN (${links}) AS links ON links.token_ref = ledger.token_ref`;
  const perHour = sql`LIMIT ${param.uint(USES_PER_HOUR_MAX)} BY entity, token, toStartOfHour(t)`;
  return sql`
    SELECT toString(grant_ref) AS entity, event_id, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(ELEVATIONS)} AND grant_ref IN ${entities}
    UNION ALL
    SELECT entity, event_id, t AS at FROM (SELECT * FROM (${rows}) ORDER BY entity, t, event_id ${perHour})
    UNION ALL
    SELECT entity, event_id, t AS at FROM (SELECT * FROM (${rows}) ORDER BY entity, t DESC, event_id ${perHour})`;
}

function isConcerned(fact: EventFact): boolean {
  if (ELEVATIONS.some((k) => k === fact.kind)) return true;
  if (fact.outcome !== 'success') return false;
  return ISSUES.some((k) => k === fact.kind)
    ? mentions(fact, ['issued'], ['access'])
    : USES.some((k) => k === fact.kind) && mentions(fact, ['presented'], ['access']);
}

const HOUR = 3_600;
const GRANT = exampleRef('elevated grant');
const TOKEN = exampleRef('elevated token');
const after = (t: number): bigint => BigInt(EXAMPLE_START_MS + t * 1_000) * NS_PER_MS;
const base = { outcome: 'success', client: { id: 'ops-console' }, grant_ref: GRANT } as const;
const elevate = (t: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'elevation_granted',
  ...base,
  scopes_granted: ['cluster:admin'],
  ...more,
});
const end = (t: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'elevation_ended',
  ...base,
  ...more,
});
const issue = (t: number, scopes: string[], ref = TOKEN): ExampleEvent => ({
  t,
  kind: 'token_issued',
  ...base,
  scopes_granted: scopes,
  tokens: [{ role: 'issued', type: 'access', ref }],
});
/** What an API tells: it knows the token, not the grant. */
const use = (t: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'api_accessed',
  outcome: 'success',
  client: { id: 'ops-console' },
  tokens: [{ role: 'presented', type: 'access', ref: TOKEN }],
  ...more,
});
const expected = (
  toldBy: EndToldBy,
  times: { readonly granted?: number; readonly ended: number; readonly used: number },
  more: Readonly<Record<string, unknown>> = {},
) => ({
  entity: GRANT,
  episode: LIFETIME_EPISODE,
  verdict: toldBy === 'limit' ? 'never_ended' : 'used_past_end',
  severity: 'high' as const,
  evidence: {
    elevated_scopes: ['cluster:admin'],
    granted_at: exampleTime(times.granted ?? 0),
    ended_at: exampleTime(times.ended),
    end_told_by: toldBy,
    first_use_at: exampleTime(times.used),
    overrun_ms: Math.round((times.used - times.ended) * 1_000),
    uses: 1,
    clients: ['ops-console'],
    ...more,
  },
});

export default defineDetector<Params>({
  id: 'elevation_outlives_window',
  version: 1,
  title: 'Temporary elevation used past its end',
  family: 'scope_escalation',
  severity: 'high',
  confidence: 85,
  description:
    'Somebody got more rights for a limited time, and the rights are used after that time: a token lives longer than the elevation, or the elevation was never ended. What was meant for an hour has become standing.',
  references: ['RFC 9700 section 2.3', 'RFC 9470 section 1', 'ATT&CK T1078', 'ATT&CK T1548'],
  entity: 'grant',
  verdicts: {
    used_past_end: 'The elevation had ended, or its token had expired, when it was used.',
    never_ended: 'No end was told, and it is used longer than any elevation may last.',
  },
  evidence: {
    elevated_scopes: 'Scopes that the elevation gave; empty where it does not say.',
    granted_at: 'The elevation that was the last one before the use.',
    ended_at: 'When it ended.',
    end_told_by:
      'event (elevation_ended), expiry (of the token that the elevation names), limit (max_elevation_ms).',
    first_use_at: 'The first use after that and the grace.',
    overrun_ms: 'Time from the end until then.',
    uses: 'Number of such uses (at most 10 per token and hour are read).',
    clients: 'Clients that used it (at most 20).',
  },
  needs: ['grant_ref', 'tokens.ref', 'scopes_granted', 'outcome'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: isConcerned,
  trigger: () => ({ condition: sql`${kindIn(ELEVATIONS)} AND grant_ref != ${nilRef}` }),
  candidates,
  history,
  evaluate,
  falsePositives: [
    'An API that caches what it knows of a token for longer than grace_ms.',
    'Elevations that last longer here than max_elevation_ms, and whose end nobody tells.',
    'Not reported: elevations without a grant, and uses of tokens whose issue was not seen under it.',
  ],
  examples: [
    {
      name: 'fires when a token is used after the elevation ended; the end is told last',
      events: [elevate(0), issue(1, ['cluster:admin']), use(60), use(HOUR + 61), end(HOUR)],
      expect: [expected('event', { ended: HOUR, used: HOUR + 61 })],
    },
    {
      name: 'fires when a token is issued after the expiry that the elevation names',
      events: [
        elevate(0, {
          tokens: [{ role: 'issued', type: 'access', ref: TOKEN, expires_at: after(HOUR) }],
        }),
        end(5 * HOUR),
        use(2 * HOUR),
        issue(3 * HOUR, ['cluster:admin', 'openid'], exampleRef('renewed')),
      ],
      expect: [expected('expiry', { ended: HOUR, used: 2 * HOUR }, { uses: 2 })],
    },
    {
      name: 'fires when no end was told for eight hours and the grace',
      events: [elevate(0), issue(1, ['cluster:admin']), use(8 * HOUR + 60), use(8 * HOUR + 60.001)],
      expect: [expected('limit', { ended: 8 * HOUR, used: 8 * HOUR + 60.001 })],
    },
    {
      name: 'a renewed elevation begins a new window',
      events: [
        elevate(0),
        end(HOUR),
        elevate(2 * HOUR),
        end(3 * HOUR),
        issue(1, ['cluster:admin']),
        use(HOUR / 2),
        use(2.5 * HOUR),
        use(4 * HOUR),
      ],
      expect: [expected('event', { granted: 2 * HOUR, ended: 3 * HOUR, used: 4 * HOUR })],
    },
    {
      name: 'where the elevation names no scopes, all tokens that its grant got since then count',
      events: [
        elevate(10, { scopes_granted: [] }),
        end(HOUR),
        issue(0, ['openid'], exampleRef('before')),
        issue(20, ['openid']),
        use(2 * HOUR, { scopes_granted: ['openid'] }),
        use(3 * HOUR, {
          tokens: [{ role: 'presented', type: 'access', ref: exampleRef('before') }],
        }),
      ],
      expect: [
        expected('event', { granted: 10, ended: HOUR, used: 2 * HOUR }, { elevated_scopes: [] }),
      ],
    },
    {
      name: 'silent: within the window, and at the end of the grace',
      events: [elevate(0), issue(1, ['cluster:admin']), use(60), use(HOUR + 60), end(HOUR)],
      expect: [],
    },
    {
      name: 'silent: other tokens of the grant, and refused uses',
      events: [
        elevate(0),
        end(HOUR),
        issue(1, ['cluster:admin']),
        issue(2, ['openid'], exampleRef('plain')),
        use(2 * HOUR, {
          tokens: [{ role: 'presented', type: 'access', ref: exampleRef('plain') }],
        }),
        use(2 * HOUR + 1, { outcome: 'failure' }),
        use(2 * HOUR + 2, { scopes_granted: ['openid'] }),
        issue(2 * HOUR + 3, ['openid'], exampleRef('plain too')),
      ],
      expect: [],
    },
    {
      name: 'silent: the elevation was denied, or another grant was elevated',
      events: [
        elevate(0, { outcome: 'denied' }),
        elevate(0, { grant_ref: exampleRef('another grant') }),
        issue(1, ['cluster:admin']),
        use(20 * HOUR),
      ],
      expect: [],
    },
    {
      name: 'silent: a longer limit and grace, and excluded clients',
      parameters: {
        max_elevation_ms: 86_400_000,
        grace_ms: 600_000,
        exclude_clients: ['watchdog'],
      },
      events: [
        elevate(0),
        issue(1, ['cluster:admin']),
        use(24 * HOUR + 600),
        use(25 * HOUR, { client: { id: 'watchdog' } }),
      ],
      expect: [],
    },
    {
      name: 'fires for tokens of a refresh and of an exchange, used wherever tokens are',
      events: [
        elevate(0),
        end(HOUR),
        { ...issue(1, ['cluster:admin']), kind: 'token_refreshed' as const },
        {
          ...issue(2, ['cluster:admin'], exampleRef('exchanged')),
          kind: 'token_exchanged' as const,
        },
        use(2 * HOUR, {
          kind: 'token_validated',
          tokens: [
            { role: 'presented', type: 'access', ref: TOKEN },
            { role: 'presented', type: 'dpop_proof', ref: exampleRef('proof') },
          ],
        }),
        use(3 * HOUR, {
          kind: 'userinfo_accessed',
          scopes_granted: ['cluster:admin', 'openid'],
          tokens: [{ role: 'presented', type: 'access', ref: exampleRef('exchanged') }],
        }),
      ],
      expect: [expected('event', { ended: HOUR, used: 2 * HOUR }, { uses: 2 })],
    },
    {
      name: 'the first end counts, and one at the moment of the elevation, or of its expiry',
      events: [
        elevate(0, {
          tokens: [{ role: 'issued', type: 'access', ref: TOKEN, expires_at: after(0) }],
        }),
        end(0),
        end(3 * HOUR),
        issue(0, ['cluster:admin'], exampleRef('issued at once')),
        use(61, {
          tokens: [{ role: 'presented', type: 'access', ref: exampleRef('issued at once') }],
        }),
      ],
      expect: [expected('event', { ended: 0, used: 61 })],
    },
    {
      name: 'of several expiries the last counts, and an end before it more',
      events: [
        elevate(0, {
          tokens: [
            { role: 'issued', type: 'access', ref: TOKEN, expires_at: after(HOUR) },
            {
              ...{ role: 'issued', type: 'access', ref: exampleRef('longer') },
              expires_at: after(2 * HOUR),
            },
          ],
        }),
        use(1.5 * HOUR),
        use(2 * HOUR + 61),
        elevate(3 * HOUR, {
          tokens: [{ role: 'issued', type: 'access', ref: TOKEN, expires_at: after(6 * HOUR) }],
        }),
        end(4 * HOUR),
        use(5 * HOUR),
      ],
      expect: [expected('expiry', { ended: 2 * HOUR, used: 2 * HOUR + 61 }, { uses: 2 })],
    },
    {
      name: 'a use between two elevations is late; one at the moment of the second is not',
      events: [
        elevate(0),
        end(HOUR),
        issue(1, ['cluster:admin']),
        use(2 * HOUR),
        elevate(3 * HOUR),
        use(3 * HOUR),
        end(4 * HOUR),
      ],
      expect: [expected('event', { ended: HOUR, used: 2 * HOUR })],
    },
    {
      name: 'silent: the scope was there before; the end that failed is none, and to tell it is no use',
      events: [
        issue(-60, ['cluster:admin'], exampleRef('standing token')),
        elevate(0),
        issue(1, ['cluster:admin']),
        end(HOUR, { outcome: 'failure' }),
        use(2 * HOUR),
        end(3 * HOUR),
        use(5 * HOUR, {
          tokens: [{ role: 'presented', type: 'access', ref: exampleRef('standing token') }],
        }),
        end(6 * HOUR, { tokens: [{ role: 'presented', type: 'access', ref: TOKEN }] }),
      ],
      expect: [],
    },
    {
      name: 'silent: the elevation failed',
      events: [elevate(0, { outcome: 'failure' }), issue(1, ['cluster:admin']), use(20 * HOUR)],
      expect: [],
    },
    {
      name: 'a token that had the scope before does not hide a late use of another',
      events: [
        issue(-60, ['cluster:admin'], exampleRef('standing token')),
        elevate(0),
        issue(1, ['cluster:admin']),
        end(HOUR),
        use(2 * HOUR),
      ],
      expect: [expected('event', { ended: HOUR, used: 2 * HOUR })],
    },
  ],
});
