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
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { ofDay } from './_episodes.ts';
import { kindIn } from './_ledger.ts';
import { known } from './_origin.ts';
import { DAY_MS, episodeOf, factsNamed, inWindow } from './_windows.ts';

const USE_KINDS: readonly EventKind[] = ['authorization_requested', 'token_issued', 'code_issued'];
const REGISTRATION_KINDS: readonly EventKind[] = ['client_registered', 'client_updated'];
const KINDS: readonly EventKind[] = [...USE_KINDS, ...REGISTRATION_KINDS];

const NETWORKS_LISTED_MAX = 20;
const NETWORKS_READ_MAX = 200;
const REGISTRATIONS_READ_MAX = 200;

const GRANTS = ['implicit', 'password'] as const;
type Grant = (typeof GRANTS)[number];

const Parameters = z.strictObject({
  /** Grants that are reported. */
  grants: z
    .array(z.enum(GRANTS))
    .min(1)
    .default([...GRANTS]),
  /** Whether a registration that allows such a grant is reported before anybody uses it. */
  report_enabled: z.boolean().default(true),
  /** Clients that are allowed to, such as a legacy application with a date for its end. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** An access token comes back from the authorization endpoint (OAuth 2.0 Multiple Response Type Encoding Practices). */
const isImplicit = sql`((kind = 'token_issued' AND grant_type = 'implicit')
  OR (kind IN ('authorization_requested', 'code_issued') AND has(splitByWhitespace(response_type), 'token')))`;
const isPassword = sql`(kind = 'token_issued' AND grant_type = 'password')`;
const isUse = sql`outcome = 'success' AND (${isImplicit} OR ${isPassword})`;
const isEnabled = sql`outcome NOT IN ('failure', 'denied')
  AND hasAny(splitByWhitespace(ext['grant_types']), ['implicit', 'password'])`;

function candidates(scope: CandidateScope): Sql {
  const fresh = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(scope.tenant)} AND ${scope.condition}`;
  return sql`
    SELECT client_id AS entity, time AS at ${fresh} AND ${kindIn(USE_KINDS)} AND ${isUse}
    UNION ALL
    SELECT client_id AS entity, time AS at ${fresh} AND ${kindIn(REGISTRATION_KINDS)} AND ${isEnabled}`;
}

function history(selection: HistorySelection): Sql {
  const rows = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)}
    AND client_id IN ${param.strings(selection.entities)} AND ${inWindow(selection)}`;
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT client_id AS entity, arrayJoin([min((time, event_id)), max((time, event_id))]) AS e
      ${rows} AND ${kindIn(USE_KINDS)} AND ${isUse} GROUP BY client_id, kind, grant_type, response_type, toStartOfHour(time))
    UNION ALL
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT client_id AS entity, min((time, event_id)) AS e
      ${rows} AND ${kindIn(USE_KINDS)} AND ${isUse} GROUP BY client_id, net_network, grant_type
      ORDER BY e LIMIT ${param.uint(NETWORKS_READ_MAX)} BY client_id)
    UNION ALL
    SELECT entity, event_id, at FROM (
      SELECT client_id AS entity, event_id, any(time) AS at
      ${rows} AND ${kindIn(REGISTRATION_KINDS)} AND ${isEnabled}
      GROUP BY client_id, event_id ORDER BY at, event_id LIMIT ${param.uint(REGISTRATIONS_READ_MAX)} BY client_id)`;
}

/** Tokens issued by each grant over the day. */
function facts(selection: HistorySelection): Sql {
  return sql`
    SELECT client_id AS entity, 'issued' AS name, grant_type AS key, min(time) AS at, uniqExact(event_id) AS value
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND kind = 'token_issued' AND outcome = 'success'
      AND client_id IN ${param.strings(selection.entities)} AND ${inWindow(selection)}
      AND grant_type IN ('implicit', 'password')
    GROUP BY client_id, grant_type`;
}

const words = (text: string | undefined): string[] => (text ?? '').split(/\s+/);

function grantsOf(event: AuthEvent): Grant[] {
  if (REGISTRATION_KINDS.includes(event.kind)) {
    const allowed = words(event.ext['grant_types']);
    return GRANTS.filter((g) => allowed.includes(g));
  }
  if (event.kind === 'token_issued') return GRANTS.filter((g) => g === event.grant_type);
  return words(event.response_type).includes('token') ? ['implicit'] : [];
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const reported = (e: AuthEvent): Grant[] => grantsOf(e).filter((g) => params.grants.includes(g));
  const all = ofDay(input.events, window).filter((e) => reported(e).length > 0);
  const uses = all.filter((e) => !REGISTRATION_KINDS.includes(e.kind));
  const isUsed = uses.length > 0;
  const events = isUsed ? uses : params.report_enabled ? all : [];
  if (events.length === 0) return [];
  const grants = known(events.flatMap(reported));
  const issued = factsNamed(input.facts, 'issued').filter((f) => grants.includes(f.key));
  const tokens = issued.reduce((sum, f) => sum + f.value, 0);
  return [
    {
      episode: episodeOf(events),
      verdict: isUsed ? 'used' : 'enabled',
      severity: isUsed ? 'medium' : 'low',
      confidence: 95,
      summary: isUsed
        ? `Client ${entity} used the ${grants.join(' and ')} grant.`
        : `Client ${entity} was registered for the ${grants.join(' and ')} grant.`,
      reasons: grants.map((g) =>
        g === 'password'
          ? 'the client sees the password of the user'
          : 'an access token travels in a URL and cannot be bound to its holder',
      ),
      evidence: {
        grants,
        response_types: known(events.map((e) => e.response_type)),
        tokens_issued: tokens,
        networks: known(events.map((e) => e.net.network)).slice(0, NETWORKS_LISTED_MAX),
      },
      events,
      tokenRefs: known(uses.flatMap((e) => e.tokens.map((t) => t.ref))),
    },
  ];
}

const HOME = '198.51.100.0/24';
const event = (t: number, more: Partial<ExampleEvent>): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  client: { id: 'old-app' },
  net: { network: HOME },
  ...more,
});
const expected = (
  t: number,
  verdict: 'used' | 'enabled',
  grants: Grant[],
  tokens: number,
  more: { responseTypes?: string[]; networks?: string[] } = {},
) => ({
  entity: 'old-app',
  episode: exampleTime(t),
  verdict,
  severity: verdict === 'used' ? ('medium' as const) : ('low' as const),
  evidence: {
    grants,
    response_types: more.responseTypes ?? [],
    tokens_issued: tokens,
    networks: more.networks ?? [HOME],
  },
});
const registered = (
  t: number,
  grant_types: string,
  more: Partial<ExampleEvent> = {},
): ExampleEvent => event(t, { kind: 'client_registered', ext: { grant_types }, net: {}, ...more });

export default defineDetector<Params>({
  id: 'weak_grant_used',
  version: 1,
  title: 'Implicit or password grant in use',
  family: 'protocol',
  severity: 'medium',
  confidence: 95,
  description:
    'A client got tokens by the implicit grant (an access token in the authorization response) or by the resource owner password grant, or was registered for one of them. RFC 9700 forbids the password grant and advises against the implicit one.',
  references: [
    'RFC 9700 section 2.1.2',
    'RFC 9700 section 2.4',
    'RFC 6749 section 10.16',
    'ATT&CK T1528',
  ],
  entity: 'client',
  verdicts: {
    used: 'The server gave tokens by such a grant.',
    enabled: 'A registration allows such a grant; nobody used it that day.',
  },
  evidence: {
    grants: 'implicit, password.',
    response_types: 'Response types asked for.',
    tokens_issued:
      'Token responses by these grants on that day, as far as the server tells of them.',
    networks: 'Networks of these requests (at most 20).',
  },
  needs: ['grant_type', 'response_type', 'client.id', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: DAY_MS,
  parameters: Parameters,
  concerns: (fact) => KINDS.some((k) => k === fact.kind),
  screen:
    () => sql`(grant_type IN ('implicit', 'password') OR (response_type != '' AND has(splitByWhitespace(response_type), 'token'))
    OR kind IN ('client_registered', 'client_updated'))`,
  candidates: (scope) => candidates(scope),
  history: (selection) => history(selection),
  facts: (selection) => facts(selection),
  evaluate,
  falsePositives: [
    'A legacy application whose move to the code flow is planned: list it in exclude_clients.',
    'Not reported: refused requests, and the response types id_token and code id_token, which give no access token to the browser.',
  ],
  examples: [
    {
      name: 'fires: the password grant',
      events: [
        event(60, { grant_type: 'password', net: { network: '203.0.113.0/24' } }),
        event(5, { grant_type: 'password' }),
      ],
      expect: [expected(5, 'used', ['password'], 2, { networks: [HOME, '203.0.113.0/24'] })],
    },
    {
      name: 'fires: the implicit grant, told by the request and by the token',
      events: [
        event(0, { kind: 'authorization_requested', response_type: 'id_token token' }),
        event(0.01, { grant_type: 'implicit' }),
      ],
      expect: [expected(0, 'used', ['implicit'], 1, { responseTypes: ['id_token token'] })],
    },
    {
      name: 'fires: a hybrid flow that returns an access token',
      events: [event(0, { kind: 'authorization_requested', response_type: 'code token' })],
      expect: [expected(0, 'used', ['implicit'], 0, { responseTypes: ['code token'] })],
    },
    {
      name: 'fires: registered for both, used by nobody',
      events: [registered(0, 'authorization_code implicit password')],
      expect: [expected(0, 'enabled', ['implicit', 'password'], 0, { networks: [] })],
    },
    {
      name: 'use outranks the registration',
      events: [registered(0, 'password'), event(30, { grant_type: 'password' })],
      expect: [expected(30, 'used', ['password'], 1)],
    },
    {
      name: 'a repeated event counts once',
      events: [
        event(5, { id: 'same', grant_type: 'password' }),
        event(5, { id: 'same', grant_type: 'password' }),
      ],
      expect: [expected(5, 'used', ['password'], 1)],
    },
    {
      name: 'silent: code flows, id_token alone, other grants',
      events: [
        event(0, { kind: 'authorization_requested', response_type: 'code id_token' }),
        event(1, { kind: 'authorization_requested', response_type: 'id_token' }),
        event(2, { grant_type: 'authorization_code' }),
        event(3, { grant_type: 'client_credentials' }),
        registered(4, 'authorization_code refresh_token'),
      ],
      expect: [],
    },
    {
      name: 'silent: the server refused',
      events: [
        event(0, { kind: 'token_request_failed', outcome: 'failure', grant_type: 'password' }),
        event(1, {
          kind: 'authorization_requested',
          outcome: 'failure',
          response_type: 'token',
        }),
        registered(2, 'password', { outcome: 'failure' }),
      ],
      expect: [],
    },
    {
      name: 'silent: an excluded client, a grant that is not reported, a registration where only use counts',
      parameters: { exclude_clients: ['old-app'], grants: ['password'], report_enabled: false },
      events: [
        event(0, { grant_type: 'password' }),
        event(1, { client: { id: 'spa' }, grant_type: 'implicit' }),
        registered(2, 'password', { client: { id: 'tool' } }),
      ],
      expect: [],
    },
  ],
});
