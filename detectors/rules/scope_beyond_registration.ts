import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type ClientLookup,
  type EvaluateInput,
  type ExampleEvent,
  type RegistryKeys,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { ofDay, splitByGap } from './_episodes.ts';
import { kindIn } from './_ledger.ts';
import { isoTime, known, tokensOf } from './_origin.ts';
import { isRegistration, registrationCandidates } from './_registered.ts';

const KINDS = ['token_issued', 'token_refreshed', 'token_exchanged'] as const;
/** Events read per client, day and scope: the first ones tell, the rest repeat them. */
const EVENTS_PER_SCOPE_MAX = 100;

const Parameters = z.strictObject({
  /** Scopes that never count, for instance those a server adds to every token. */
  ignored_scopes: z.array(z.string()).default([]),
  exclude_clients: z.array(z.string()).default([]),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(21_600_000),
});
type Params = z.infer<typeof Parameters>;

/** True for a row with a scope that some known registration of the client lacks. */
function grantsMore(keys: RegistryKeys): Sql {
  return sql`outcome = 'success' AND client_id IN ${param.strings(keys.clients)}
    AND arrayExists(s -> concat(client_id, '\n', s) NOT IN ${param.strings(keys.always)}, scopes_granted)`;
}

/** Scopes of the event beyond what the client was registered for at that time. */
function excessOf(event: AuthEvent, clients: ClientLookup, params: Params): string[] {
  const registered = clients.at(event.client.id, event.time).scopes;
  if (registered === undefined || event.outcome !== 'success') return [];
  return known(event.scopes_granted).filter(
    (s) => !registered.has(s) && !params.ignored_scopes.includes(s),
  );
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, clients, entity } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const beyond = ofDay(input.events, input.window).filter(
    (e) => excessOf(e, clients, params).length > 0,
  );
  return splitByGap(beyond, params.gap_ms).map((events): Signal => {
    const [firstEvent] = events;
    const excess = known(events.flatMap((e) => excessOf(e, clients, params)));
    const registered =
      firstEvent === undefined ? undefined : clients.at(entity, firstEvent.time).scopes;
    return {
      episode: firstEvent === undefined ? '' : isoTime(firstEvent),
      verdict: 'granted_beyond_registration',
      severity: 'high',
      confidence: 90,
      summary: `Client ${entity} was granted scopes it is not registered for: ${excess.slice(0, 5).join(', ')}.`,
      reasons: excess.slice(0, 20).map((s) => `${s} is not among the client's registered scopes`),
      evidence: {
        excess_scopes: excess,
        registered_scopes: known(registered ?? []),
        grant_types: known(events.map((e) => e.grant_type)),
        grants: events.length,
        subjects: known(events.map((e) => e.subject.ref)).length,
      },
      events,
      tokenRefs: known(events.flatMap((e) => tokensOf(e, 'issued', 'access').map((t) => t.ref))),
    };
  });
}

const issue = (t: number, scopes: string[], more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'authorization_code',
  client: { id: 'web-shop' },
  subject: { ref: exampleRef('alice'), type: 'user' },
  scopes_granted: scopes,
  tokens: [{ role: 'issued', type: 'access', ref: exampleRef(`issued at ${t}`) }],
  ...more,
});
const SHOP = { client_id: 'web-shop', scope: 'openid orders:read' };
const register = (t: number, scope: string): ExampleEvent => ({
  t,
  kind: t < 0 ? 'client_registered' : 'client_updated',
  outcome: 'success',
  client: { id: 'web-shop' },
  ext: { scope },
});
const expected = (
  t: number,
  excess: string[],
  registered: string[],
  more: Partial<Record<'grant_types' | 'grants' | 'subjects', unknown>> = {},
) => ({
  entity: 'web-shop',
  episode: exampleTime(t),
  verdict: 'granted_beyond_registration',
  severity: 'high' as const,
  evidence: {
    excess_scopes: excess,
    registered_scopes: registered,
    grant_types: ['authorization_code'],
    grants: 1,
    subjects: 1,
    ...more,
  },
});

export default defineDetector<Params>({
  id: 'scope_beyond_registration',
  version: 1,
  title: 'Scopes granted beyond the registration',
  family: 'scope_escalation',
  severity: 'high',
  confidence: 90,
  description:
    'A client gets a token with a scope that it was not registered for at that time. Either the server does not check, or somebody changed the client on a way that leaves no registration event.',
  references: ['RFC 9700 section 2.3', 'RFC 7591 section 2', 'ATT&CK T1098.003'],
  entity: 'client',
  verdicts: { granted_beyond_registration: 'At least one granted scope was not registered.' },
  evidence: {
    excess_scopes: 'Granted, but not registered.',
    registered_scopes: 'Registered at the first such grant.',
    grant_types: 'Grant types of these grants.',
    grants: 'Number of such grants in the episode (of at most 100 per scope and day).',
    subjects: 'Number of subjects concerned.',
  },
  needs: ['client.id', 'scopes_granted', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact, clients) =>
    isRegistration(fact) ||
    (KINDS.some((k) => k === fact.kind) &&
      fact.outcome === 'success' &&
      clients.scopeKeys.clients.length > 0),
  candidates: (scope) =>
    registrationCandidates(
      scope,
      KINDS,
      grantsMore(scope.clients.scopeKeys),
      sql`fromUnixTimestamp64Nano(${param.int64(scope.timeFrom)}, 'UTC')`,
    ),
  history: (selection) => sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, any(scopes) AS scopes, any(t) AS at FROM (
        SELECT client_id AS entity, event_id, arraySort(scopes_granted) AS scopes, time AS t
        FROM grantscope.auth_events
        WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(KINDS)}
          AND client_id IN ${param.strings(selection.entities)}
          AND time >= fromUnixTimestamp64Nano(${param.int64(selection.window?.readFrom ?? 0n)}, 'UTC')
          AND time < fromUnixTimestamp64Nano(${param.int64(selection.window?.to ?? 0n)}, 'UTC')
          AND ${grantsMore(selection.clients.scopeKeys)}
      ) GROUP BY entity, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_SCOPE_MAX)} BY entity, scopes`,
  evaluate,
  falsePositives: [
    'The registration in grantscope.yaml is out of date.',
    'A server adds standing scopes to every token: list them in ignored_scopes.',
    'Not reported: clients whose registered scopes are unknown.',
  ],
  examples: [
    {
      name: 'fires on a scope that grantscope.yaml does not list',
      clients: [SHOP],
      events: [issue(0, ['openid', 'orders:read']), issue(60, ['openid', 'orders:write'])],
      expect: [expected(60, ['orders:write'], ['openid', 'orders:read'])],
    },
    {
      name: 'one episode for repeats, a new one after the gap',
      clients: [SHOP],
      parameters: { gap_ms: 3_600_000 },
      events: [
        issue(0, ['admin']),
        issue(3_600, ['admin', 'orders:read']),
        issue(7_200.001, ['admin'], { grant_type: 'client_credentials', subject: {} }),
      ],
      expect: [
        expected(0, ['admin'], ['openid', 'orders:read'], { grants: 2 }),
        expected(7_200.001, ['admin'], ['openid', 'orders:read'], {
          grant_types: ['client_credentials'],
          subjects: 0,
        }),
      ],
    },
    {
      name: 'the registration of that time counts: granted before the update, and after',
      events: [
        register(-60, 'openid'),
        issue(10, ['openid', 'orders:read']),
        register(20, 'openid orders:read'),
        issue(30, ['openid', 'orders:read']),
      ],
      expect: [expected(10, ['orders:read'], ['openid'])],
    },
    {
      name: 'silent within the registration',
      clients: [SHOP],
      events: [issue(0, ['orders:read']), issue(1, ['openid', 'orders:read'])],
      expect: [],
    },
    {
      name: 'silent where nothing is known of the client, and before its first registration',
      events: [issue(-120, ['admin']), register(-60, 'openid'), issue(5, ['openid'])],
      expect: [],
    },
    {
      name: 'silent for a refused request and for ignored scopes',
      clients: [SHOP],
      parameters: { ignored_scopes: ['offline_access'] },
      events: [
        issue(0, ['admin'], { outcome: 'failure' }),
        issue(1, ['orders:read', 'offline_access']),
      ],
      expect: [],
    },
    {
      name: 'by default a pause of more than six hours begins a new episode, and so does midnight; every kind of grant counts',
      clients: [SHOP],
      events: [
        issue(-21_600.001, ['admin']),
        issue(0, ['admin'], { kind: 'token_refreshed' }),
        issue(21_600, ['admin'], { kind: 'token_exchanged' }),
        issue(43_200, ['admin']),
      ],
      expect: [
        expected(-21_600.001, ['admin'], ['openid', 'orders:read']),
        expected(0, ['admin'], ['openid', 'orders:read'], { grants: 2 }),
        expected(43_200, ['admin'], ['openid', 'orders:read']),
      ],
    },
  ],
});
