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
import { kindIn } from './_ledger.ts';
import { isoTime, known, tokensOf } from './_origin.ts';
import { PRIVILEGED_SCOPES, privilegedTest } from './_privileged.ts';

const KINDS = ['code_issued', 'token_issued', 'token_refreshed', 'token_exchanged'] as const;
/** Events read per client, day and set of scopes: the first ones tell, the rest repeat them. */
const EVENTS_PER_SCOPE_MAX = 100;

const Parameters = z.strictObject({
  /** Scopes that many servers add to every token: of severity info by themselves. */
  standing_scopes: z
    .array(z.string())
    .default([
      'openid',
      'profile',
      'email',
      'roles',
      'web-origins',
      'acr',
      'basic',
      'offline_access',
    ]),
  /** Scopes of high severity; `*` stands for any run of characters. */
  privileged_scopes: z.array(z.string().min(1)).default([...PRIVILEGED_SCOPES]),
  /** Ends of requested scopes that ask for whatever was agreed on before, as `api://x/.default` does. */
  open_suffixes: z.array(z.string().min(1)).default(['.default']),
  /** Scopes that never count. */
  ignored_scopes: z.array(z.string()).default([]),
  exclude_clients: z.array(z.string()).default([]),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(21_600_000),
});
type Params = z.infer<typeof Parameters>;

/** Rows that granted a scope which the same record does not name as requested. */
function grantsUnrequested(): Sql {
  return sql`outcome = 'success' AND notEmpty(scopes_requested) AND NOT hasAll(scopes_requested, scopes_granted)`;
}

function excessOf(event: AuthEvent, params: Params): string[] {
  const asked = event.scopes_requested;
  // Nothing asked for, or nothing told: the server's default applies (RFC 6749 section 3.3).
  if (event.outcome !== 'success' || asked.length === 0) return [];
  if (asked.some((s) => params.open_suffixes.some((end) => s.endsWith(end)))) return [];
  return known(event.scopes_granted).filter(
    (s) => !asked.includes(s) && !params.ignored_scopes.includes(s),
  );
}

const GRADES = {
  privileged_scope: { severity: 'high', confidence: 85 },
  unexpected_scope: { severity: 'medium', confidence: 70 },
  standing_scope: { severity: 'info', confidence: 90 },
} as const;

function verdictOf(excess: readonly string[], params: Params): keyof typeof GRADES {
  if (excess.some(privilegedTest(params.privileged_scopes))) return 'privileged_scope';
  return excess.every((s) => params.standing_scopes.includes(s))
    ? 'standing_scope'
    : 'unexpected_scope';
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const beyond = ofDay(input.events, input.window).filter((e) => excessOf(e, params).length > 0);
  return splitByGap(beyond, params.gap_ms).map((events): Signal => {
    const excess = known(events.flatMap((e) => excessOf(e, params)));
    const verdict = verdictOf(excess, params);
    const [first] = events;
    return {
      episode: first === undefined ? '' : isoTime(first),
      verdict,
      ...GRADES[verdict],
      summary: `Client ${entity} was granted scopes that it did not ask for: ${excess.slice(0, 5).join(', ')}.`,
      reasons: excess.slice(0, 20).map((s) => `${s} was granted, but not requested`),
      evidence: {
        excess_scopes: excess,
        requested_scopes: known(events.flatMap((e) => e.scopes_requested)),
        grant_types: known(events.map((e) => e.grant_type)),
        grants: events.length,
        subjects: known(events.map((e) => e.subject.ref)).length,
      },
      events,
      tokenRefs: known(events.flatMap((e) => tokensOf(e, 'issued', 'access').map((t) => t.ref))),
    };
  });
}

function candidates(scope: CandidateScope): Sql {
  return sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND ${kindIn(KINDS)} AND client_id != ''
      AND ${scope.condition} AND ${grantsUnrequested()}`;
}

function history(selection: HistorySelection): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, any(scopes) AS scopes, any(t) AS at FROM (
        SELECT client_id AS entity, event_id, (arraySort(scopes_requested), arraySort(scopes_granted)) AS scopes, time AS t
        FROM grantscope.auth_events
        WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(KINDS)}
          AND client_id IN ${param.strings(selection.entities)}
          AND time >= fromUnixTimestamp64Nano(${param.int64(selection.window?.readFrom ?? 0n)}, 'UTC')
          AND time < fromUnixTimestamp64Nano(${param.int64(selection.window?.to ?? 0n)}, 'UTC')
          AND ${grantsUnrequested()}
      ) GROUP BY entity, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_SCOPE_MAX)} BY entity, scopes`;
}

const grant = (
  t: number,
  requested: string[],
  granted: string[],
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'client_credentials',
  client: { id: 'report-job' },
  scopes_requested: requested,
  scopes_granted: granted,
  tokens: [{ role: 'issued', type: 'access', ref: exampleRef(`granted at ${t}`) }],
  ...more,
});
const expected = (
  t: number,
  verdict: keyof typeof GRADES,
  excess: string[],
  requested: string[],
  more: Readonly<Record<string, unknown>> = {},
) => ({
  entity: 'report-job',
  episode: exampleTime(t),
  verdict,
  severity: GRADES[verdict].severity,
  evidence: {
    excess_scopes: excess,
    requested_scopes: requested,
    grant_types: ['client_credentials'],
    grants: 1,
    subjects: 0,
    ...more,
  },
});
/** In the order of evidence. */
const STANDING = [
  ...['acr', 'basic', 'email', 'offline_access'],
  ...['openid', 'profile', 'roles', 'web-origins'],
];

export default defineDetector<Params>({
  id: 'unexpected_scope_grant',
  version: 1,
  title: 'More scopes granted than requested',
  family: 'scope_escalation',
  severity: 'high',
  confidence: 85,
  description:
    'A server may grant less than a client asked for. Where it grants more, tokens can do things that nobody wanted them to, and whoever steals one gains by it.',
  references: ['RFC 6749 section 3.3', 'RFC 9700 section 2.3', 'ATT&CK T1098.003'],
  entity: 'client',
  verdicts: {
    unexpected_scope: 'A scope was granted that the request did not name.',
    privileged_scope: 'One of them is a privileged scope.',
    standing_scope: 'All of them are scopes that servers add to every token.',
  },
  evidence: {
    excess_scopes: 'Granted, but not requested.',
    requested_scopes: 'Requested in these grants.',
    grant_types: 'Grant types of these grants.',
    grants: 'Number of such grants in the episode (of at most 100 per set of scopes and day).',
    subjects: 'Number of subjects concerned.',
  },
  needs: ['client.id', 'scopes_requested', 'scopes_granted', 'outcome'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) => KINDS.some((k) => k === fact.kind) && fact.outcome === 'success',
  screen: grantsUnrequested,
  candidates,
  history,
  evaluate,
  falsePositives: [
    'A server that adds its own standing scopes to every token: standing_scopes, or ignored_scopes.',
    'Scopes that imply others under another name, as some servers spell them out: ignored_scopes.',
    'Not reported: requests without a scope, since the default of the server applies, and sources that do not tell what was requested in the record of the grant.',
  ],
  examples: [
    {
      name: 'fires on one scope more than requested',
      events: [
        grant(0, ['reports:read'], ['reports:read']),
        grant(60, ['reports:read', 'openid'], ['openid', 'reports:read', 'reports:write']),
      ],
      expect: [expected(60, 'unexpected_scope', ['reports:write'], ['openid', 'reports:read'])],
    },
    {
      name: 'fires high on a privileged scope, among others; told out of order',
      events: [
        grant(20, ['reports:read'], ['reports:read', 'Users.ReadWrite.All'], {
          kind: 'code_issued',
          grant_type: '',
          subject: { ref: exampleRef('carol'), type: 'user' },
        }),
        grant(10, ['reports:read'], ['reports:write']),
      ],
      expect: [
        expected(
          10,
          'privileged_scope',
          ['Users.ReadWrite.All', 'reports:write'],
          ['reports:read'],
          { grants: 2, subjects: 1 },
        ),
      ],
    },
    {
      name: 'info where the server adds its standing scopes',
      events: [grant(0, ['reports:read'], ['email', 'openid', 'reports:read'])],
      expect: [expected(0, 'standing_scope', ['email', 'openid'], ['reports:read'])],
    },
    {
      name: 'a pause longer than the gap begins a new episode, one as long does not',
      parameters: { gap_ms: 3_600_000 },
      events: [
        grant(0, ['a'], ['b']),
        grant(3_600, ['a'], ['c']),
        grant(7_200.001, ['a'], ['b'], { grant_type: 'refresh_token', kind: 'token_refreshed' }),
      ],
      expect: [
        expected(0, 'unexpected_scope', ['b', 'c'], ['a'], { grants: 2 }),
        expected(7_200.001, 'unexpected_scope', ['b'], ['a'], { grant_types: ['refresh_token'] }),
      ],
    },
    {
      name: 'silent: as requested, narrower, or in another order',
      events: [
        grant(0, ['a', 'b'], ['b', 'a']),
        grant(1, ['a', 'b'], ['a']),
        grant(2, ['a', 'b'], []),
      ],
      expect: [],
    },
    {
      name: 'silent: nothing requested, refused, or asked for by default',
      events: [
        grant(0, [], ['a']),
        grant(1, ['a'], ['admin'], { outcome: 'failure' }),
        grant(2, ['api://reports/.default'], ['reports:read', 'reports:write']),
      ],
      expect: [],
    },
    {
      name: 'silent: ignored scopes and excluded clients',
      parameters: { ignored_scopes: ['uma_protection'], exclude_clients: ['console'] },
      events: [
        grant(0, ['a'], ['a', 'uma_protection']),
        grant(1, ['a'], ['admin'], { client: { id: 'console' } }),
      ],
      expect: [],
    },
    {
      name: 'by default a pause of more than six hours begins a new episode, and so does midnight',
      events: [
        grant(-21_600.001, ['a'], ['b']),
        grant(0, ['a'], ['b']),
        grant(21_600, ['a'], ['b'], { kind: 'token_exchanged' }),
        grant(43_200, ['a'], ['b']),
      ],
      expect: [
        expected(-21_600.001, 'unexpected_scope', ['b'], ['a']),
        expected(0, 'unexpected_scope', ['b'], ['a'], { grants: 2 }),
        expected(43_200, 'unexpected_scope', ['b'], ['a']),
      ],
    },
    {
      name: 'info for all scopes together that servers add by themselves',
      events: [grant(0, ['a'], ['a', ...STANDING])],
      expect: [expected(0, 'standing_scope', STANDING, ['a'])],
    },
    {
      name: 'a standing scope beside another one does not make it less',
      events: [grant(0, ['a'], ['b', 'openid'])],
      expect: [expected(0, 'unexpected_scope', ['b', 'openid'], ['a'])],
    },
    {
      name: 'silent: asked for by default beside a named scope, by one of several endings',
      parameters: { open_suffixes: ['.default', '/all'] },
      events: [grant(0, ['openid', 'api://reports/.default'], ['openid', 'reports:read'])],
      expect: [],
    },
  ],
});
