import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type ClientLookup,
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
import { isRegistration } from './_registered.ts';
import { aroundNew, DAY_MS, episodeOf, inWindow, isoMs, msOf } from './_windows.ts';

const FLOW_KINDS: readonly EventKind[] = [
  'authorization_requested',
  'par_pushed',
  'code_issued',
  'code_redeemed',
];
const REGISTRATION_KINDS: readonly EventKind[] = ['client_registered', 'client_updated'];
const KINDS: readonly EventKind[] = [...FLOW_KINDS, ...REGISTRATION_KINDS];

const NETWORKS_LISTED_MAX = 20;
/** First uses by network that are read per client and day. */
const NETWORKS_READ_MAX = 200;

const Parameters = z.strictObject({
  /** How far back of the day an earlier use of S256 counts, ms. */
  baseline_ms: z
    .int()
    .min(DAY_MS)
    .max(90 * DAY_MS)
    .default(30 * DAY_MS),
  /** Whether a public client without any PKCE is reported; clients that once used S256 always are. */
  report_public_clients: z.boolean().default(true),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** The server went along: a refused request shows that PKCE is enforced. */
const wentThrough = sql`(outcome = 'success' OR (outcome = 'unknown' AND kind = 'code_issued'))
  AND (kind IN ('code_issued', 'code_redeemed') OR position(response_type, 'code') > 0)
  AND grant_type IN ('', 'authorization_code')`;
const isWeak = sql`pkce IN ('none', 'plain') AND ${wentThrough}`;
const isStrong = sql`pkce = 'S256' AND outcome NOT IN ('failure', 'denied')`;

function candidates(scope: CandidateScope, params: Params): Sql {
  const tenant = param.string(scope.tenant);
  // An S256 use or a registration that comes late decides about the weak flows after it.
  return sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(FLOW_KINDS)} AND ${scope.condition} AND ${isWeak}
    UNION ALL
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(FLOW_KINDS)} AND ${aroundNew(scope, 0, params.baseline_ms + DAY_MS)} AND ${isWeak}
      AND client_id IN (SELECT client_id FROM grantscope.auth_events
        WHERE tenant = ${tenant} AND ${kindIn(FLOW_KINDS)} AND ${scope.condition} AND ${isStrong})
    UNION ALL
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${tenant} AND ${kindIn(FLOW_KINDS)} AND ${isWeak}
      AND client_id IN (SELECT client_id FROM grantscope.auth_events
        WHERE tenant = ${tenant} AND ${kindIn(REGISTRATION_KINDS)} AND ${scope.condition})`;
}

function history(selection: HistorySelection): Sql {
  const tenant = param.string(selection.tenant);
  const clients = param.strings(selection.entities);
  const weak = sql`FROM grantscope.auth_events WHERE tenant = ${tenant} AND ${kindIn(FLOW_KINDS)}
    AND client_id IN ${clients} AND ${inWindow(selection)} AND ${isWeak}`;
  // First and last by hour: whether a weak flow comes after the first S256 is then certain.
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT client_id AS entity, arrayJoin([min((time, event_id)), max((time, event_id))]) AS e ${weak}
      GROUP BY client_id, pkce, client_auth_method, toStartOfHour(time))
    UNION ALL
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT client_id AS entity, min((time, event_id)) AS e ${weak} AND net_network != ''
      GROUP BY client_id, net_network ORDER BY e LIMIT ${param.uint(NETWORKS_READ_MAX)} BY client_id)`;
}

function facts(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT client_id AS entity, 's256_first' AS name, '' AS key, min(time) AS at, 1 AS value
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(FLOW_KINDS)}
      AND client_id IN ${param.strings(selection.entities)}
      AND ${inWindow(selection, params.baseline_ms)} AND ${isStrong}
    GROUP BY client_id`;
}

/** By the event itself, else by the registration that held then (RFC 7591 section 2). */
function isPublic(event: AuthEvent, clients: ClientLookup): boolean {
  const { auth_method } = event.client;
  if (auth_method !== '') return auth_method === 'none';
  return clients.at(event.client.id, event.time).type === 'public';
}

type Verdict = 'downgraded' | 'missing' | 'plain';

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity, window } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const flows = ofDay(input.events, window);
  const first = input.facts.find((f) => f.name === 's256_first');
  const downgraded = flows.filter((e) => first !== undefined && first.at < e.time);
  const weak = params.report_public_clients ? flows.filter((e) => isPublic(e, input.clients)) : [];
  const events = flows.filter((e) => downgraded.includes(e) || weak.includes(e));
  if (events.length === 0) return [];
  const methods = known(events.map((e) => e.pkce));
  const isDowngrade = downgraded.length > 0;
  const verdict: Verdict = isDowngrade
    ? 'downgraded'
    : methods.includes('none')
      ? 'missing'
      : 'plain';
  const s256Since = isDowngrade && first !== undefined ? isoMs(msOf(first)) : '';
  return [
    {
      episode: episodeOf(events),
      verdict,
      severity: isDowngrade ? 'high' : 'medium',
      confidence: isDowngrade ? 75 : 85,
      summary: isDowngrade
        ? `Client ${entity} used PKCE with S256 before; now the server went along with ${methods.join(' and ')}.`
        : `Public client ${entity} got authorization codes with PKCE ${methods.join(' and ')}.`,
      reasons: [
        ...(isDowngrade ? [`S256 in use since ${s256Since}`] : []),
        ...(weak.length > 0 ? ['the client is public: nothing else ties a code to it'] : []),
      ],
      evidence: {
        methods,
        s256_since: s256Since,
        public_client: weak.length > 0,
        networks: known(events.map((e) => e.net.network)).slice(0, NETWORKS_LISTED_MAX),
      },
      events,
      tokenRefs: known(events.flatMap((e) => e.tokens.map((t) => t.ref))),
    },
  ];
}

const HOME = '198.51.100.0/24';
const flow = (
  t: number,
  pkce: AuthEvent['pkce'],
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: 'code_issued',
  outcome: 'success',
  client: { id: 'web-shop', auth_method: 'client_secret_basic' },
  pkce,
  net: { network: HOME },
  ...more,
});
const PUBLIC = { client: { id: 'web-shop', auth_method: 'none' } };
const expected = (
  t: number,
  verdict: Verdict,
  methods: string[],
  more: { since?: number; isPublic?: boolean; networks?: string[] } = {},
) => ({
  entity: 'web-shop',
  episode: exampleTime(t),
  verdict,
  severity: verdict === 'downgraded' ? ('high' as const) : ('medium' as const),
  evidence: {
    methods,
    s256_since: more.since === undefined ? '' : exampleTime(more.since),
    public_client: more.isPublic ?? false,
    networks: more.networks ?? [HOME],
  },
});
const DAY_S = DAY_MS / 1_000;
/** From the examples' start to the midnight after it. */
const TO_MIDNIGHT_S = DAY_S / 2;

export default defineDetector<Params>({
  id: 'pkce_missing_or_downgraded',
  version: 1,
  title: 'PKCE missing or downgraded',
  family: 'protocol',
  severity: 'high',
  confidence: 75,
  description:
    'The server issued or redeemed an authorization code without a PKCE challenge, or with the method plain, for a client that used S256 before or that is public. A stripped challenge is how a stolen code is made usable.',
  references: [
    'RFC 9700 section 4.8',
    'RFC 9700 section 2.1.1',
    'RFC 7636 section 4.3',
    'ATT&CK T1528',
  ],
  entity: 'client',
  verdicts: {
    downgraded: 'The client used S256 before; now a code was given without, or with plain.',
    missing: 'A public client got a code without any PKCE.',
    plain:
      'A public client got a code with the method plain, which whoever sees the request can use.',
  },
  evidence: {
    methods: 'What was used in place of S256: none, plain.',
    s256_since: 'First use of S256 within the baseline, ISO time; empty unless downgraded.',
    public_client: 'Whether the client is public.',
    networks: 'Networks of these flows (at most 20).',
  },
  needs: ['pkce', 'client.id', 'client.auth_method', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: DAY_MS,
  parameters: Parameters,
  concerns: (fact) => isRegistration(fact) || FLOW_KINDS.some((k) => k === fact.kind),
  screen: () =>
    sql`(pkce IN ('none', 'plain', 'S256') OR kind IN ('client_registered', 'client_updated'))`,
  candidates,
  history: (selection) => history(selection),
  facts,
  evaluate,
  falsePositives: [
    'Two applications behind one client id, of which one has no PKCE yet.',
    'Not reported: refused requests, flows whose PKCE the source does not tell, confidential clients that never used S256.',
  ],
  examples: [
    {
      name: 'fires: S256 before, none now',
      events: [flow(600, 'none', { net: { network: '203.0.113.0/24' } }), flow(0, 'S256')],
      expect: [expected(600, 'downgraded', ['none'], { since: 0, networks: ['203.0.113.0/24'] })],
    },
    {
      name: 'fires: S256 before, plain now, told by the redemption',
      events: [
        flow(0, 'S256', { kind: 'authorization_requested', response_type: 'code' }),
        flow(1, 'plain', { kind: 'code_redeemed', grant_type: 'authorization_code' }),
      ],
      expect: [expected(1, 'downgraded', ['plain'], { since: 0 })],
    },
    {
      name: 'fires: a public client without PKCE',
      events: [flow(5, 'none', PUBLIC), flow(90, 'plain', PUBLIC)],
      expect: [expected(5, 'missing', ['none', 'plain'], { isPublic: true })],
    },
    {
      name: 'fires: a public client with plain, public by its registration',
      events: [
        flow(0, 'plain', { client: { id: 'web-shop' } }),
        flow(-60, 'unknown', {
          kind: 'client_registered',
          ext: { token_endpoint_auth_method: 'none' },
        }),
      ],
      expect: [expected(0, 'plain', ['plain'], { isPublic: true })],
    },
    {
      name: 'fires: public by what is stated of the client',
      clients: [{ client_id: 'web-shop', client_type: 'public' }],
      events: [flow(0, 'none', { client: { id: 'web-shop' } })],
      expect: [expected(0, 'missing', ['none'], { isPublic: true })],
    },
    {
      name: 'fires: the last day on which S256 is within the baseline',
      events: [flow(TO_MIDNIGHT_S - DAY_S, 'S256'), flow(TO_MIDNIGHT_S + 29 * DAY_S, 'none')],
      expect: [
        expected(TO_MIDNIGHT_S + 29 * DAY_S, 'downgraded', ['none'], {
          since: TO_MIDNIGHT_S - DAY_S,
        }),
      ],
    },
    {
      name: 'silent: S256 was longer ago than the baseline',
      events: [flow(TO_MIDNIGHT_S - DAY_S - 1, 'S256'), flow(TO_MIDNIGHT_S + 29 * DAY_S, 'none')],
      expect: [],
    },
    {
      name: 'silent: a confidential client without PKCE that takes up S256',
      events: [flow(0, 'none'), flow(60, 'S256'), flow(120, 'S256')],
      expect: [],
    },
    {
      name: 'silent: refused, unknown, or not a code flow',
      events: [
        flow(0, 'S256'),
        flow(1, 'none', {
          kind: 'authorization_requested',
          outcome: 'failure',
          response_type: 'code',
        }),
        flow(2, 'unknown', PUBLIC),
        flow(3, 'none', { ...PUBLIC, kind: 'authorization_requested', response_type: 'id_token' }),
        flow(4, 'none', { ...PUBLIC, kind: 'code_redeemed', outcome: 'failure' }),
        flow(5, 'none', {
          ...PUBLIC,
          kind: 'code_redeemed',
          grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
        }),
      ],
      expect: [],
    },
    {
      name: 'silent: an excluded client, and public clients where they are not asked for',
      parameters: { exclude_clients: ['web-shop'], report_public_clients: false },
      events: [
        flow(0, 'S256'),
        flow(1, 'none'),
        flow(2, 'none', { client: { id: 'app', auth_method: 'none' } }),
      ],
      expect: [],
    },
    {
      name: 'fires: S256 before and after, none in a pushed request and in a code whose outcome is not told',
      events: [
        flow(0, 'S256'),
        flow(60, 'none', { kind: 'par_pushed', response_type: 'code' }),
        flow(7_200, 'S256'),
        flow(7_260, 'none', { outcome: 'unknown', net: { network: '203.0.113.0/24' } }),
      ],
      expect: [
        expected(60, 'downgraded', ['none'], { since: 0, networks: [HOME, '203.0.113.0/24'] }),
      ],
    },
    {
      name: 'fires: a network is told though it is neither the first nor the last of the hour',
      events: [
        flow(0, 'S256'),
        ...['198.51.100.0/24', '203.0.113.0/24', '198.51.100.0/24'].map((network, i) =>
          flow(60 + i, 'none', { net: { network } }),
        ),
      ],
      expect: [
        expected(60, 'downgraded', ['none'], {
          since: 0,
          networks: ['198.51.100.0/24', '203.0.113.0/24'],
        }),
      ],
    },
    {
      name: 'fires: a public client that takes up S256 after it did without is no downgrade',
      events: [flow(0, 'none', PUBLIC), flow(60, 'S256', PUBLIC)],
      expect: [expected(0, 'missing', ['none'], { isPublic: true })],
    },
    {
      name: 'silent: a confidential client without PKCE at the moment of its first S256',
      events: [flow(0, 'S256'), flow(0, 'none')],
      expect: [],
    },
  ],
});
