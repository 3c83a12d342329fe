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
import { EVENT_KINDS, type EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn } from './_ledger.ts';
import { isoTime } from './_origin.ts';
import { PRIVILEGED_SCOPES, privilegedTest } from './_privileged.ts';

const MS_PER_DAY = 86_400_000;
const NS_PER_DAY = 86_400_000_000_000n;
const SCOPES_SHOWN_MAX = 20;
/** Registration events read per client, newest first. */
const REGISTRATIONS_MAX = 20;
const RULE_ID = 'stale_client';

const Parameters = z.strictObject({
  /** Days (UTC) without a use, up to the day of the newest event of all. */
  unused_days: z.int().min(1).max(3_650).default(90),
  /** Scopes that make a client worth a report even without a secret; `*` stands for anything, case does not count. */
  privileged_patterns: z.array(z.string().min(1)).default([...PRIVILEGED_SCOPES]),
  /** Clients that are meant to rest, such as those for an emergency. */
  exclude_clients: z.array(z.string().min(1)).default([]),
});
type Params = z.infer<typeof Parameters>;

const REGISTERED: readonly EventKind[] = ['client_registered', 'client_updated'];
const ABOUT_CLIENTS: readonly EventKind[] = [...REGISTERED, 'client_deleted'];
/** What is done to a client or what is its, and not by it. */
const NOT_A_USE: readonly EventKind[] = [
  ...ABOUT_CLIENTS,
  'client_credential_changed',
  'secret_read',
  'secret_changed',
  'token_revoked',
  'grant_revoked',
  'consent_revoked',
  'policy_changed',
  'unclassified',
];
const USES: readonly EventKind[] = EVENT_KINDS.filter((k) => !NOT_A_USE.includes(k));
/** A refused try is no use: anybody can make one with any client's name. */
const IS_USE = sql`${kindIn(USES)} AND client_id != '' AND outcome NOT IN ('failure', 'denied')`;

/**
 * Nothing arrives when a client is not used, so the days are what counts: when the first event of a new day arrives, all
 * registered clients are asked about, but for those that were used within the hour. In between, a registration asks about
 * its client, and a use about a client that is reported: it takes the report back. Uses can do nothing else, but for an old
 * one that arrives late: of a client that the operator states it may be the first that is known.
 */
function candidates(scope: CandidateScope, params: Params): Sql {
  const tenant = sql`tenant = ${param.string(scope.tenant)}`;
  const newRows = sql`grantscope.auth_events WHERE ${tenant} AND ${scope.condition}`;
  const newest = sql`(SELECT max(time) FROM ${newRows})`;
  const known = [...scope.clients.scopeKeys.clients, ...scope.clients.redirectKeys.clients];
  return sql`
    SELECT toString(client_id) AS entity, time AS at FROM ${newRows} AND ${kindIn(ABOUT_CLIENTS)}
    UNION ALL
    SELECT toString(client_id) AS entity, time AS at FROM ${newRows} AND ${IS_USE} AND client_id IN (
      SELECT entity_ref FROM grantscope.findings FINAL
      WHERE ${tenant} AND rule_id = ${param.string(RULE_ID)} AND state != 'superseded')
    UNION ALL
    SELECT toString(client_id) AS entity, time AS at FROM ${newRows} AND ${IS_USE} AND client_id IN ${param.strings(known)}
      AND time < (${newestOfAll(scope.tenant)}) - toIntervalDay(${param.uint(params.unused_days - 1)})
    UNION ALL
    SELECT entity, ${newest} AS at FROM (
      SELECT arrayJoin(${param.strings(known)}) AS entity
      UNION DISTINCT
      SELECT toString(client_id) AS entity FROM grantscope.auth_events
      WHERE ${tenant} AND ${kindIn(REGISTERED)} AND time < ${newest} - toIntervalDay(${param.uint(params.unused_days - 1)}))
    WHERE (
      SELECT count() FROM (
        SELECT 1 FROM grantscope.auth_events WHERE ${tenant} AND time >= toStartOfDay(${newest})
          AND inserted_at < (SELECT min(inserted_at) FROM ${newRows}) LIMIT 1)) = 0
      AND entity NOT IN (
        SELECT toString(client_id) FROM grantscope.auth_events WHERE ${tenant} AND ${IS_USE}
          AND time > ${newest} - INTERVAL 1 HOUR)`;
}

/** The registrations of each client, and its newest use. */
function history(selection: HistorySelection): Sql {
  const ofClients = sql`tenant = ${param.string(selection.tenant)} AND client_id IN ${param.strings(selection.entities)}`;
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT toString(client_id) AS entity, event_id, min(time) AS at FROM grantscope.auth_events
      WHERE ${ofClients} AND ${kindIn(ABOUT_CLIENTS)} AND outcome NOT IN ('failure', 'denied')
      GROUP BY entity, event_id ORDER BY entity, at DESC, event_id LIMIT ${param.uint(REGISTRATIONS_MAX)} BY entity)
    UNION ALL
    SELECT toString(client_id) AS entity, argMax(auth_events.event_id, (time, auth_events.event_id)) AS event_id, max(time) AS at
    FROM grantscope.auth_events WHERE ${ofClients} AND ${IS_USE} GROUP BY entity`;
}

/** The day of the newest event of all: what "today" is, for a stored log as well. */
function newestOfAll(tenant: string): Sql {
  return sql`SELECT toDateTime64(toStartOfDay(max(last_time)), 9, 'UTC') AS at FROM grantscope.event_minutes WHERE tenant = ${param.string(tenant)}`;
}

function newestDay(selection: HistorySelection): Sql {
  return sql`
    SELECT arrayJoin(${param.strings(selection.entities)}) AS entity, 'newest' AS name, '' AS key, at, 1. AS value
    FROM (${newestOfAll(selection.tenant)})`;
}

function dayOf(time: bigint): bigint {
  return time / NS_PER_DAY;
}

function isAbout(event: AuthEvent, kinds: readonly EventKind[]): boolean {
  return kinds.includes(event.kind);
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, events, clients, facts } = input;
  const newest = facts.find((f) => f.name === 'newest')?.at;
  if (newest === undefined || params.exclude_clients.includes(entity)) return [];
  const registrations = events.filter((e) => isAbout(e, ABOUT_CLIENTS));
  const lastUse = events.findLast((e) => !isAbout(e, ABOUT_CLIENTS));
  const registered = registrations.at(-1);
  if (registered?.kind === 'client_deleted') return [];
  const last = events.at(-1);
  if (last === undefined || dayOf(newest) - dayOf(last.time) < BigInt(params.unused_days))
    return [];
  const scopes = [...(clients.at(entity, newest).scopes ?? [])].sort();
  const privileged = scopes.filter(privilegedTest(params.privileged_patterns));
  const method = authMethod(registrations, lastUse);
  // RFC 7591 section 2: a client that names no method has a secret.
  if (method === 'none' && privileged.length === 0) return [];
  const isUnused = lastUse === undefined;
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: isUnused ? 'never_used' : 'unused',
      severity: 'info',
      confidence: 90,
      summary: `Client ${entity} has not been used for ${params.unused_days} days or more, and can still be.`,
      reasons: [
        isUnused ? 'no use is on record' : `last used at ${isoTime(lastUse)}`,
        ...(privileged.length > 0
          ? [`may still ask for ${privileged.length} privileged scope(s)`]
          : []),
        ...(method === 'none' ? [] : ['still has a secret or key']),
      ],
      evidence: {
        last_used: isUnused ? null : isoTime(lastUse),
        registration_changed: registered === undefined ? null : isoTime(registered),
        auth_method: method,
        scopes: scopes.length,
        privileged_scopes: privileged.slice(0, SCOPES_SHOWN_MAX),
      },
      events: [registered, lastUse].filter((e) => e !== undefined),
      tokenRefs: [],
    },
  ];
}

/** How the client authenticates: as registered last, else as it did last; '' where nobody says. */
function authMethod(registrations: readonly AuthEvent[], lastUse: AuthEvent | undefined): string {
  const stated = registrations.findLast((e) => e.ext['token_endpoint_auth_method'] !== undefined);
  return stated?.ext['token_endpoint_auth_method'] ?? lastUse?.client.auth_method ?? '';
}

const DAY = 86_400;
const registration = (
  client: string,
  t: number,
  ext: Readonly<Record<string, string>> = {},
): ExampleEvent => ({
  t,
  kind: 'client_registered',
  outcome: 'success',
  client: { id: client },
  ext: { scope: 'orders:read', token_endpoint_auth_method: 'client_secret_basic', ...ext },
});
const use = (client: string, t: number, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'client_credentials',
  client: { id: client },
  ...more,
});
const at = (t: number): string => new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString();
const expected = (
  entity: string,
  verdict: 'unused' | 'never_used',
  evidence: Readonly<Record<string, unknown>>,
) => ({
  entity,
  episode: LIFETIME_EPISODE,
  verdict,
  severity: 'info' as const,
  evidence: {
    last_used: null,
    auth_method: 'client_secret_basic',
    scopes: 1,
    privileged_scopes: [],
    ...evidence,
  },
});

export default defineDetector<Params>({
  id: RULE_ID,
  version: 1,
  title: 'Registered client that nobody uses',
  family: 'hygiene',
  severity: 'info',
  confidence: 90,
  description:
    'A client is registered, has a secret or privileged scopes, and has not been used for months: a way in that nobody would miss. A report, not an alarm.',
  references: ['RFC 6819 section 5.2.3.6', 'RFC 7592 section 2.3', 'ATT&CK T1078.004'],
  entity: 'client',
  verdicts: {
    unused: 'It was used, but not for so long.',
    never_used: 'It was registered so long ago, and no use is on record.',
  },
  evidence: {
    last_used: 'ISO time of its newest use; null where none is on record.',
    registration_changed:
      'ISO time of its newest registration or change; null where none is on record.',
    auth_method:
      'How it authenticates (RFC 7591); empty where nobody says, which means with a secret.',
    scopes: 'Number of its registered scopes.',
    privileged_scopes: 'The privileged ones (at most 20).',
  },
  needs: ['client.id', 'kind', 'outcome', 'ext'],
  kinds: [...ABOUT_CLIENTS, ...USES],
  episodes: 'lifetime',
  // It stays open until the client is used or deleted.
  quietMs: 3_650 * MS_PER_DAY,
  parameters: Parameters,
  concerns: () => true,
  candidates,
  history: (selection) => history(selection),
  facts: (selection) => newestDay(selection),
  evaluate,
  falsePositives: [
    'The sources that would tell of its uses were not connected, or their events are no longer kept.',
    'A client for emergencies or for the end of the year: list it in exclude_clients.',
    'Not reported: a client of grantscope.yaml of which no event is on record.',
  ],
  examples: [
    {
      name: 'reports a client after ninety days without a use, told in any order',
      events: [
        use('other', 0),
        registration('old-batch', -200 * DAY),
        use('old-batch', -90 * DAY),
        use('old-batch', -120 * DAY),
      ],
      expect: [
        expected('old-batch', 'unused', {
          last_used: at(-90 * DAY),
          registration_changed: at(-200 * DAY),
        }),
      ],
    },
    {
      name: 'reports a client that was never used',
      events: [
        registration('forgotten', -90 * DAY, { scope: 'orders:read admin' }),
        use('other', 0),
      ],
      expect: [
        expected('forgotten', 'never_used', {
          registration_changed: at(-90 * DAY),
          scopes: 2,
          privileged_scopes: ['admin'],
        }),
      ],
    },
    {
      name: 'a public client counts where it may ask for privileged scopes',
      events: [
        registration('old-app', -95 * DAY, {
          scope: 'admin',
          token_endpoint_auth_method: 'none',
        }),
        use('other', 0),
      ],
      expect: [
        expected('old-app', 'never_used', {
          registration_changed: at(-95 * DAY),
          auth_method: 'none',
          privileged_scopes: ['admin'],
        }),
      ],
    },
    {
      name: 'a client that the operator states is judged by its last use',
      clients: [{ client_id: 'stated', scope: 'orders:read' }],
      events: [
        use('stated', -100 * DAY, { client: { id: 'stated', auth_method: 'private_key_jwt' } }),
        use('other', 0),
      ],
      expect: [
        expected('stated', 'unused', {
          last_used: at(-100 * DAY),
          registration_changed: null,
          auth_method: 'private_key_jwt',
        }),
      ],
    },
    {
      name: 'refused tries and revocations are no use',
      parameters: { unused_days: 10 },
      events: [
        registration('probed', -20 * DAY),
        use('probed', -DAY, { kind: 'token_request_failed', outcome: 'failure' }),
        use('probed', -DAY, { kind: 'token_revoked' }),
        use('other', 0),
      ],
      expect: [expected('probed', 'never_used', { registration_changed: at(-20 * DAY) })],
    },
    {
      name: 'silent: one day less, or changed since',
      events: [
        registration('young', -200 * DAY),
        use('young', -89 * DAY),
        registration('changed', -200 * DAY),
        { ...registration('changed', -89 * DAY), kind: 'client_updated' as const },
        use('other', 0),
      ],
      expect: [],
    },
    {
      name: 'silent: used by a resource server that introspects, or within the hour',
      events: [
        registration('api', -200 * DAY),
        use('api', -DAY, { kind: 'token_introspected' }),
        registration('busy', -200 * DAY),
        use('busy', -600),
        use('other', 0),
      ],
      expect: [],
    },
    {
      name: 'silent: deleted, public without privileged scopes, excluded',
      parameters: { exclude_clients: ['emergency'] },
      events: [
        registration('deleted', -200 * DAY),
        { ...registration('deleted', -100 * DAY), kind: 'client_deleted' as const, ext: {} },
        registration('harmless', -200 * DAY, { token_endpoint_auth_method: 'none' }),
        registration('emergency', -200 * DAY),
        use('other', 0),
      ],
      expect: [],
    },
    {
      name: 'silent: public by its newest registration',
      events: [
        registration('opened', -200 * DAY),
        {
          ...registration('opened', -150 * DAY, { token_endpoint_auth_method: 'none' }),
          kind: 'client_updated' as const,
        },
        use('other', 0),
      ],
      expect: [],
    },
  ],
});
