import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
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
import type { Severity } from '../../model/finding.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, ledgerCondition, nilRef, tokenHistory } from './_ledger.ts';
import { areApart, isoTime, known, mentionOf, timeMs, userPlace, userPlaces } from './_origin.ts';
import { aroundNews, EACH_TOKEN, timeOf } from './_token_rows.ts';

const DAY_MS = 86_400_000;
/** What the device does: it asks for a code, polls, and gets its tokens. */
const DEVICE_KINDS = [
  'device_authorization_requested',
  'token_request_failed',
  'token_issued',
] as const;
const KINDS = [...DEVICE_KINDS, 'device_authorized'] as const;
const TYPES = ['device_code'] as const;
const ROLES = ['issued', 'presented', 'consumed', 'subject'] as const;
const DEVICE_ROLES = ['issued', 'presented', 'consumed'] as const;
/** Earlier approvals of the subject that are read: one is enough. */
const EARLIER_MAX = 5;

const Parameters = z.strictObject({
  /** A subject that approved a device within this time before is used to it, ms. */
  first_within_ms: z
    .int()
    .min(60_000)
    .max(365 * DAY_MS)
    .default(30 * DAY_MS),
  /** Approvals must have been recorded for this long before one is known to be the first, ms. */
  learning_ms: z
    .int()
    .min(0)
    .max(90 * DAY_MS)
    .default(7 * DAY_MS),
  /** How long a device code lives at most, ms: what belongs to one is joined over this time. */
  code_life_ms: z.int().min(60_000).max(DAY_MS).default(3_600_000),
  /** Clients whose devices stand elsewhere than their users: command lines on servers, TVs of a known vendor. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  phishing:
    'A first approval, of a device on another network: the user may have typed the code of a stranger. Medium where both are known to be in one country.',
  learning:
    'The device is on another network; approvals are not recorded for long enough to say that this is the first.',
} as const;
type Verdict = keyof typeof VERDICTS;

function isApproval(event: AuthEvent): boolean {
  return event.kind === 'device_authorized' && event.outcome === 'success';
}

function isOfCode(event: AuthEvent, code: string, roles: readonly (typeof ROLES)[number][]) {
  return mentionOf(event, code, roles) !== undefined;
}

/** Approvals of other codes by the same subject within the time before. */
function earlierApprovals(approval: AuthEvent, input: EvaluateInput<Params>): AuthEvent[] {
  return input.events.filter((e) => {
    if (!isApproval(e) || e.time >= approval.time || isOfCode(e, input.entity, ROLES)) return false;
    const isRecent = timeMs(approval) - timeMs(e) <= input.params.first_within_ms;
    return isRecent && e.subject.ref === approval.subject.ref;
  });
}

function gradeOf(verdict: Verdict, countries: readonly string[], home: string) {
  if (verdict === 'learning') return { severity: 'info' as const, confidence: 40 };
  if (home === '' || countries.length === 0) return { severity: 'high' as const, confidence: 65 };
  return countries.includes(home)
    ? { severity: 'medium' as const, confidence: 50 }
    : { severity: 'high' as const, confidence: 85 };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { entity, events, params } = input;
  const approval = events.find((e) => isApproval(e) && isOfCode(e, entity, ['subject']));
  if (approval === undefined || approval.subject.ref === '') return [];
  if (params.exclude_clients.includes(approval.client.id)) return [];
  const ofDevice = events.filter(
    (e) => DEVICE_KINDS.some((k) => k === e.kind) && isOfCode(e, entity, DEVICE_ROLES),
  );
  const home = userPlace(approval);
  const places = userPlaces(ofDevice);
  if (home === '' || !areApart([home], places)) return [];
  if (earlierApprovals(approval, input).length > 0) return [];
  // The oldest approval on record is always among the events.
  const [oldest = approval] = events.filter(isApproval);
  const isKnownLong = timeMs(approval) - timeMs(oldest) >= params.learning_ms;
  const verdict = isKnownLong ? 'phishing' : 'learning';
  const isIssued = ofDevice.some((e) => e.kind === 'token_issued' && e.outcome === 'success');
  const countries = known(ofDevice.map((e) => (userPlace(e) === '' ? '' : e.net.country)));
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict,
      ...gradeOf(verdict, countries, approval.net.country),
      summary: `A device on ${places.slice(0, 3).join(', ')} was approved from ${home}${isIssued ? ' and got tokens' : ''}.`,
      reasons: [
        'the device is on another network than the person who approved it',
        verdict === 'phishing'
          ? 'the subject had approved no device before'
          : 'approvals are recorded for too short a time to know the habits of the subject',
      ],
      evidence: {
        client_id: approval.client.id,
        subject_ref: approval.subject.ref,
        approved_at: isoTime(approval),
        approved_network: home,
        approved_country: approval.net.country,
        device_networks: places.slice(0, 20),
        device_countries: countries.slice(0, 20),
        tokens_issued: isIssued,
      },
      events: [approval, ...ofDevice],
      tokenRefs: [entity],
    },
  ];
}

const APPROVALS = sql`kind = 'device_authorized' AND outcome = 'success'`;
const CODE_ROWS = sql`${kindIn(KINDS)} AND t_type = 'device_code'`;

/** Codes that are approved on one network and polled for on another, as far as new rows touch them. */
function touchedCodes(scope: CandidateScope, params: Params): Sql {
  const rows = sql`tenant = ${param.string(scope.tenant)} AND ${CODE_ROWS}`;
  return sql`
    SELECT toString(t_ref) AS entity, max(time) AS at FROM ${EACH_TOKEN}
    WHERE ${rows} AND ${aroundNews(scope, params.code_life_ms)}
      AND t_ref IN (SELECT t_ref FROM ${EACH_TOKEN} WHERE ${rows} AND ${scope.condition})
    GROUP BY t_ref
    HAVING countIf(${APPROVALS}) > 0
      AND minIf(net_network, net_network != '') != maxIf(net_network, net_network != '')`;
}

/**
 * An approval that is told late explains later ones of its subject; one that is older than all that were known says that
 * approvals were recorded earlier than it seemed.
 */
function explainedCodes(scope: CandidateScope, params: Params): Sql {
  const tenant = param.string(scope.tenant);
  const fresh = sql`FROM grantscope.auth_events WHERE tenant = ${tenant} AND ${APPROVALS} AND ${scope.condition}`;
  const knownSince = sql`(SELECT min(time) FROM grantscope.auth_events WHERE tenant = ${tenant} AND ${APPROVALS} AND NOT (${scope.condition}))`;
  return sql`
    SELECT toString(t_ref) AS entity, time AS at FROM ${EACH_TOKEN}
    WHERE tenant = ${tenant} AND ${APPROVALS} AND t_type = 'device_code' AND time >= ${timeOf(scope.timeFrom)}
      AND (subject_ref IN (SELECT subject_ref ${fresh})
        OR subject_ref IN (
          SELECT ref FROM grantscope.reference_names
          WHERE tenant = ${tenant} AND relation = 'previous' AND other IN (SELECT subject_ref ${fresh}))
        OR ((SELECT minOrNull(time) ${fresh}) < ${knownSince}
          AND time <= ${knownSince} + toIntervalMillisecond(${param.uint(params.learning_ms)})))`;
}

function history(selection: HistorySelection, params: Params): Sql {
  const tenant = param.string(selection.tenant);
  const approvals = sql`
    SELECT toString(t_ref) AS code, subject_ref, min(time) AS approved_at FROM ${EACH_TOKEN}
    WHERE tenant = ${tenant} AND ${APPROVALS} AND t_type = 'device_code' AND t_ref IN ${param.uuids(selection.entities)}
      AND subject_ref != ${nilRef}
    GROUP BY t_ref, subject_ref`;
  // A rotation of keys gives a person another reference; the approvals of before are under the old one.
  const subjects = sql`
    SELECT code, subject_ref AS person, approved_at FROM (${approvals})
    UNION ALL
    SELECT code, other AS person, approved_at FROM (${approvals}) AS named
    INNER JOIN (SELECT ref, other FROM grantscope.reference_names WHERE tenant = ${tenant} AND relation = 'previous') AS names
      ON names.ref = named.subject_ref`;
  return sql`
    ${tokenHistory(selection, ledgerCondition({ kinds: KINDS, types: TYPES, roles: ROLES }))}
    UNION ALL
    SELECT entity, event_id, at FROM (
      SELECT code AS entity, event_id, time AS at FROM grantscope.auth_events
      INNER JOIN (${subjects}) AS people ON auth_events.subject_ref = people.person
      WHERE tenant = ${tenant} AND ${APPROVALS} AND time < approved_at
        AND time >= approved_at - toIntervalMillisecond(${param.uint(params.first_within_ms)})
      ORDER BY entity, at DESC, event_id LIMIT ${param.uint(EARLIER_MAX)} BY entity)
    UNION ALL
    SELECT arrayJoin(${param.strings(selection.entities)}) AS entity, event_id, at FROM (
      SELECT event_id, time AS at FROM grantscope.auth_events WHERE tenant = ${tenant} AND ${APPROVALS}
      ORDER BY time, event_id LIMIT 1)`;
}

const DAY = 86_400;
const CODE = exampleRef('phished device code');
const USER = exampleRef('phished subject');
const HOME = { network: '198.51.100.0/24', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ip_role: 'end_user' } as const;
type Net = NonNullable<ExampleEvent['net']>;
const approve = (t: number, net: Net, subject = USER, code = CODE): ExampleEvent => ({
  t,
  kind: 'device_authorized',
  outcome: 'success',
  client: { id: 'tv-app' },
  subject: { ref: subject, type: 'user' },
  net,
  tokens: [{ role: 'subject', type: 'device_code', ref: code }],
});
const ask = (t: number, net: Net): ExampleEvent => ({
  t,
  kind: 'device_authorization_requested',
  outcome: 'success',
  client: { id: 'tv-app' },
  net,
  tokens: [{ role: 'issued', type: 'device_code', ref: CODE }],
});
const redeem = (t: number, net: Net): ExampleEvent => ({
  ...ask(t, net),
  kind: 'token_issued',
  grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
  tokens: [{ role: 'consumed', type: 'device_code', ref: CODE }],
});
/** Somebody's approval, so that approvals are known to be recorded since then. */
const recordedSince = (t: number): ExampleEvent =>
  approve(t, HOME, exampleRef('another subject'), exampleRef('another device code'));
const finding = (verdict: Verdict, severity: Severity, more: Record<string, unknown> = {}) => ({
  entity: CODE,
  episode: LIFETIME_EPISODE,
  verdict,
  severity,
  evidence: {
    client_id: 'tv-app',
    subject_ref: USER,
    approved_at: new Date(Date.UTC(2026, 0, 5, 12) + 60_000).toISOString(),
    approved_network: HOME.network,
    approved_country: '',
    device_networks: [AWAY.network],
    device_countries: [],
    tokens_issued: true,
    ...more,
  },
});

const isOfDevices = (fact: EventFact): boolean =>
  fact.kind === 'device_authorized' ||
  (KINDS.some((k) => k === fact.kind) && mentions(fact, ROLES, TYPES));

export default defineDetector<Params>({
  id: 'device_code_phishing',
  version: 1,
  title: "Stranger's device approved",
  family: 'credential_abuse',
  severity: 'high',
  confidence: 85,
  description:
    'With the device grant, whoever shows the code and whoever types it need not be the same. An attacker starts the flow, sends the code to a user, and gets the tokens when the user approves. The sign is a device on another network than the person, approved by somebody who never approved one before.',
  references: ['RFC 8628 section 5.4', 'RFC 8628 section 5.5', 'ATT&CK T1528'],
  entity: 'code',
  verdicts: VERDICTS,
  evidence: {
    client_id: 'The client of the device.',
    subject_ref: 'Who approved it.',
    approved_at: 'When.',
    approved_network: "The user's network.",
    approved_country: "The user's country; empty where unknown.",
    device_networks: 'Networks from which the device asked and polled (at most 20).',
    device_countries: 'Their countries, where known (at most 20).',
    tokens_issued: 'Whether the device got tokens.',
  },
  needs: ['tokens.ref', 'tokens.type', 'tokens.role', 'subject.ref', 'net.network', 'net.ip_role'],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: isOfDevices,
  candidates: (scope, params) =>
    sql`${touchedCodes(scope, params)} UNION ALL ${explainedCodes(scope, params)}`,
  history,
  evaluate,
  falsePositives: [
    'A TV on the home network that is approved from a phone on the network of a carrier (medium where the country is known).',
    'A command line on a server that is approved from a desk: list the client in exclude_clients.',
    'Not reported: subjects that approved another device within first_within_ms, an IPv4 and an IPv6 prefix (a person has both), devices whose address is not known.',
  ],
  examples: [
    {
      name: 'phishing: a first approval of a device elsewhere',
      events: [redeem(65, AWAY), approve(60, HOME), ask(0, AWAY), recordedSince(60 - 7 * DAY)],
      expect: [finding('phishing', 'high')],
    },
    {
      name: 'phishing: before the device has its tokens; another country',
      events: [
        recordedSince(-30 * DAY),
        ask(0, { ...AWAY, country: 'BR' }),
        approve(60, { ...HOME, country: 'DE' }),
      ],
      expect: [
        finding('phishing', 'high', {
          approved_country: 'DE',
          device_countries: ['BR'],
          tokens_issued: false,
        }),
      ],
    },
    {
      name: 'phishing, medium: a phone of a carrier and a TV at home are in one country',
      events: [
        recordedSince(-30 * DAY),
        ask(0, { ...AWAY, country: 'DE' }),
        approve(60, { ...HOME, country: 'DE' }),
        redeem(65, { ...AWAY, country: 'DE' }),
      ],
      expect: [finding('phishing', 'medium', { approved_country: 'DE', device_countries: ['DE'] })],
    },
    {
      name: 'phishing: the last approval was just too long ago',
      events: [
        approve(60 - 30 * DAY - 1, HOME, USER, exampleRef('old device code')),
        ask(0, AWAY),
        approve(60, HOME),
        redeem(65, AWAY),
      ],
      expect: [finding('phishing', 'high')],
    },
    {
      name: 'learning: approvals are recorded for a second too short',
      events: [recordedSince(61 - 7 * DAY), ask(0, AWAY), approve(60, HOME), redeem(65, AWAY)],
      expect: [finding('learning', 'info')],
    },
    {
      name: 'silent: the subject approved another device within thirty days',
      events: [
        recordedSince(-40 * DAY),
        ask(0, AWAY),
        approve(60, HOME),
        redeem(65, AWAY),
        approve(60 - 30 * DAY, HOME, USER, exampleRef('old device code')),
      ],
      expect: [],
    },
    {
      name: 'silent: the device is on the network of the user, or nobody knows where',
      events: [
        recordedSince(-30 * DAY),
        ask(0, HOME),
        approve(60, HOME),
        redeem(65, HOME),
        redeem(70, { ...AWAY, ip_role: 'client_backend' }),
        redeem(75, { network: '2001:db8:1::/48', ip_role: 'end_user' }),
      ],
      expect: [],
    },
    {
      name: 'silent: not approved, or declined',
      events: [
        recordedSince(-30 * DAY),
        ask(0, AWAY),
        { ...approve(60, HOME), outcome: 'denied' },
        { ...redeem(65, AWAY), kind: 'token_request_failed', outcome: 'denied' },
      ],
      expect: [],
    },
    {
      name: 'silent for a command line that is listed',
      parameters: { exclude_clients: ['tv-app'] },
      events: [recordedSince(-30 * DAY), ask(0, AWAY), approve(60, HOME), redeem(65, AWAY)],
      expect: [],
    },
    {
      name: 'phishing: the device is known by its polling alone',
      events: [
        recordedSince(-30 * DAY),
        approve(60, HOME),
        {
          ...ask(30, AWAY),
          kind: 'token_request_failed' as const,
          outcome: 'pending' as const,
          tokens: [{ role: 'presented', type: 'device_code', ref: CODE }],
        },
      ],
      expect: [finding('phishing', 'high', { tokens_issued: false })],
    },
    {
      name: 'phishing: what the device asked for in the end failed',
      events: [
        recordedSince(-30 * DAY),
        approve(60, HOME),
        { ...redeem(65, AWAY), outcome: 'failure' as const },
      ],
      expect: [finding('phishing', 'high', { tokens_issued: false })],
    },
    {
      name: 'phishing: declined at first; an approval that is told twice was when it was first told',
      events: [
        recordedSince(-30 * DAY),
        ask(0, AWAY),
        { ...approve(30, HOME), outcome: 'denied' as const },
        approve(60, HOME),
        approve(70, AWAY),
        redeem(75, AWAY),
      ],
      expect: [finding('phishing', 'high')],
    },
    {
      name: 'silent: nobody knows who approved it',
      events: [recordedSince(-30 * DAY), ask(0, AWAY), approve(60, HOME, ''), redeem(65, AWAY)],
      expect: [],
    },
  ],
});
