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
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { ofDay } from './_episodes.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { isoTime, known, timeMs } from './_origin.ts';
import { aroundNew, DAY_MS, factsNamed, inWindow, msOf, timeSql } from './_windows.ts';

const EXPOSING_KINDS: readonly EventKind[] = [
  'secret_read',
  'key_used',
  'key_disabled',
  'key_deleted',
];
const CHANGE_KINDS: readonly EventKind[] = [
  'secret_changed',
  'client_credential_changed',
  'key_created',
  'key_rotated',
];

const LISTED_MAX = 20;
/** Events that are read per key, kind, actor and hour. */
const PER_HOUR_MAX = 5;
const EVENTS_READ_MAX = 1_000;
const MINUTES_PER_DAY = 1_440;

const clock = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/);

const Parameters = z.strictObject({
  /** A change of the same secret or key this long before or after explains that it was read or exported, ms. */
  rotation_ms: z
    .int()
    .min(0)
    .max(7 * DAY_MS)
    .default(3_600_000),
  /** A new key in the same store or of the same issuer this long before explains that an old one is disabled or deleted, ms. */
  retire_ms: z
    .int()
    .min(0)
    .max(90 * DAY_MS)
    .default(30 * DAY_MS),
  /** How far back of the day somebody who read the secret before is a known reader, ms. */
  baseline_ms: z
    .int()
    .min(DAY_MS)
    .max(90 * DAY_MS)
    .default(30 * DAY_MS),
  /** How long reads of the secret must have been told of, before a reader can be called new, ms. */
  learning_ms: z
    .int()
    .min(0)
    .max(90 * DAY_MS)
    .default(10 * DAY_MS),
  /** Operations by which key material leaves its store; case does not count. */
  export_operations: z
    .array(z.string().min(1))
    .default([
      'export',
      'exportkey',
      'export_key',
      'backup',
      'backupkey',
      'keybackup',
      'getkeymaterial',
    ]),
  /** When administrators change things as planned, UTC; days count from 0, Sunday. A window may end after midnight. */
  change_windows: z
    .array(
      z.strictObject({
        days: z.array(z.int().min(0).max(6)).min(1).default([0, 1, 2, 3, 4, 5, 6]),
        from: clock,
        to: clock,
      }),
    )
    .default([]),
  /** Keys, and clients as `client:<id>`, that are not watched. */
  exclude_keys: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** The key, or else the client whose secret it is. */
const KEY = sql`if(key_kid != '', toString(key_kid), if(client_id != '', concat('client:', client_id), ''))`;
const ACTOR = sql`if(actor_ref != ${nilRef}, actor_ref, subject_ref)`;

function keyOf(event: AuthEvent): string {
  if (event.key.kid !== '') return event.key.kid;
  return event.client.id === '' ? '' : `client:${event.client.id}`;
}
const actorOf = (event: AuthEvent): string => event.actor.ref || event.subject.ref;

function isExposing(params: Params): Sql {
  const operations = param.strings(params.export_operations.map((o) => o.toLowerCase()));
  return sql`${kindIn(EXPOSING_KINDS)} AND outcome = 'success' AND (kind != 'key_used' OR lower(key_operation) IN ${operations})`;
}

function candidates(scope: CandidateScope, params: Params): Sql {
  const from = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(scope.tenant)}`;
  const rows = (condition: Sql): Sql =>
    sql`SELECT ${KEY} AS entity, time AS at ${from} AND ${isExposing(params)} AND ${condition}`;
  const changes = sql`SELECT 1 ${from} AND ${kindIn(CHANGE_KINDS)} AND outcome = 'success' AND ${scope.condition} LIMIT 1`;
  const after = Math.max(params.rotation_ms, params.retire_ms);
  // A change that comes late may explain what was done to a key; an earlier read makes its reader known.
  return sql`
    ${rows(scope.condition)}
    UNION ALL ${rows(sql`(SELECT count() FROM (${changes})) > 0 AND ${aroundNew(scope, params.rotation_ms, after)}`)}
    UNION ALL ${rows(sql`kind = 'secret_read' AND ${aroundNew(scope, 0, params.baseline_ms + DAY_MS)}
      AND ${KEY} IN (SELECT ${KEY} ${from} AND kind = 'secret_read' AND outcome = 'success' AND ${scope.condition})`)}`;
}

function rowsOf(selection: HistorySelection, params: Params): Sql {
  return sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)} AND ${isExposing(params)}
    AND ${KEY} IN ${param.strings(selection.entities)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      SELECT entity, e FROM (
        SELECT ${KEY} AS entity, (time, event_id) AS e, kind AS k, ${ACTOR} AS who
        ${rowsOf(selection, params)} AND ${inWindow(selection)}
        ORDER BY e LIMIT ${param.uint(PER_HOUR_MAX)} BY entity, k, who, toStartOfHour(tupleElement(e, 1)))
      ORDER BY e LIMIT ${param.uint(EVENTS_READ_MAX)} BY entity)`;
}

/** First read by reader over the baseline and the day; and what was changed, of the same key, store or issuer. */
function facts(selection: HistorySelection, params: Params): Sql {
  const { window } = selection;
  const ms = 1_000_000n;
  const before = BigInt(Math.max(params.rotation_ms, params.retire_ms)) * ms;
  const changes = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(selection.tenant)}
    AND ${kindIn(CHANGE_KINDS)} AND outcome = 'success'
    AND time >= ${timeSql((window?.from ?? 0n) - before)}
    AND time < ${timeSql((window?.to ?? 0n) + BigInt(params.rotation_ms) * ms)}`;
  const each = sql`arrayJoin(${param.strings(selection.entities)}) AS entity`;
  const isNewKey = sql`kind IN ('key_created', 'key_rotated')`;
  const own = sql`${rowsOf(selection, params)} AND ${inWindow(selection)}`;
  return sql`
    SELECT ${KEY} AS entity, 'reader' AS name, toString(${ACTOR}) AS key, min(time) AS at, 1 AS value
    ${rowsOf(selection, params)} AND kind = 'secret_read' AND ${inWindow(selection, params.baseline_ms)}
    GROUP BY entity, key
    UNION ALL
    SELECT ${KEY} AS entity, 'changed' AS name, '' AS key, time AS at, 1 AS value
    ${changes} AND ${KEY} IN ${param.strings(selection.entities)} GROUP BY entity, time
    UNION ALL
    SELECT ${each}, 'new_in_store' AS name, concat(place, '\n', kid) AS key, moment AS at, 1 AS value FROM (
      SELECT key_store AS place, key_kid AS kid, time AS moment ${changes} AND ${isNewKey} AND key_store != ''
        AND key_store IN (SELECT key_store ${own}) GROUP BY place, kid, moment)
    UNION ALL
    SELECT ${each}, 'new_of_issuer' AS name, concat(place, '\n', kid) AS key, moment AS at, 1 AS value FROM (
      SELECT issuer AS place, key_kid AS kid, time AS moment ${changes} AND ${isNewKey} AND issuer != ''
        AND issuer IN (SELECT issuer ${own}) GROUP BY place, kid, moment)`;
}

function isInChangeWindow(atMs: number, windows: Params['change_windows']): boolean {
  const minutesOf = (text: string): number => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
  const day = new Date(atMs).getUTCDay();
  const minute = Math.floor(atMs / 60_000) % MINUTES_PER_DAY;
  return windows.some(({ days, from, to }) => {
    const start = minutesOf(from);
    const end = minutesOf(to);
    if (start < end) return days.includes(day) && minute >= start && minute < end;
    const isSecondDay = minute < end && days.includes((day + 6) % 7);
    return isSecondDay || (days.includes(day) && minute >= start);
  });
}

/** Whether a change of the key, or a new one beside it, explains what was done. */
function isRotation(event: AuthEvent, input: EvaluateInput<Params>): boolean {
  const { params, facts: all } = input;
  const at = timeMs(event);
  const isChanged = factsNamed(all, 'changed').some(
    (f) => Math.abs(msOf(f) - at) <= params.rotation_ms,
  );
  if (isChanged) return true;
  if (event.kind !== 'key_disabled' && event.kind !== 'key_deleted') return false;
  const isBeside = (name: string, place: string): boolean =>
    factsNamed(all, name).some((f) => {
      const isOther = f.key.startsWith(`${place}\n`) && f.key !== `${place}\n${event.key.kid}`;
      return isOther && msOf(f) <= at && at - msOf(f) <= params.retire_ms;
    });
  return isBeside('new_in_store', event.key.store) || isBeside('new_of_issuer', event.issuer);
}

/** Nobody who read it before; where reads have not been told of for long enough, only a person is judged. */
function isNewReader(event: AuthEvent, input: EvaluateInput<Params>): boolean {
  const { params, facts: all, window } = input;
  const who = actorOf(event);
  if (who === '') return false;
  const readers = factsNamed(all, 'reader');
  const own = readers.find((f) => f.key === who);
  if (own !== undefined && window !== undefined && own.at < window.from) return false;
  const isPerson = (event.actor.ref === '' ? event.subject.type : event.actor.type) === 'user';
  return isPerson || readers.some((f) => timeMs(event) - msOf(f) >= params.learning_ms);
}

type Verdict = 'exported' | 'deletion' | 'disabled' | 'secret_read';
const GRAVITY: readonly Verdict[] = ['exported', 'deletion', 'disabled', 'secret_read'];
const SEVERITY = {
  exported: 'high',
  deletion: 'medium',
  disabled: 'medium',
  secret_read: 'medium',
} as const;
const CONFIDENCE = { exported: 75, deletion: 60, disabled: 60, secret_read: 50 } as const;
const SAID: Readonly<Record<Verdict, string>> = {
  exported: 'key material left its store',
  deletion: 'the key was deleted, or its deletion scheduled',
  disabled: 'the key was disabled',
  secret_read: 'the secret was read by somebody who had not read it before',
};

function verdictOf(event: AuthEvent): Verdict {
  if (event.kind === 'key_used') return 'exported';
  if (event.kind === 'key_deleted') return 'deletion';
  return event.kind === 'key_disabled' ? 'disabled' : 'secret_read';
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity } = input;
  if (params.exclude_keys.includes(entity)) return [];
  const events = ofDay(input.events, input.window).filter(
    (e) =>
      keyOf(e) === entity &&
      !isInChangeWindow(timeMs(e), params.change_windows) &&
      !isRotation(e, input) &&
      (e.kind !== 'secret_read' || isNewReader(e, input)),
  );
  const [first] = events;
  const verdict = GRAVITY.find((v) => events.some((e) => verdictOf(e) === v));
  if (first === undefined || verdict === undefined) return [];
  const seen = GRAVITY.filter((v) => events.some((e) => verdictOf(e) === v));
  return [
    {
      episode: isoTime(first),
      verdict,
      severity: SEVERITY[verdict],
      confidence: CONFIDENCE[verdict],
      summary: `${entity}: ${SAID[verdict]}, outside of a rotation.`,
      reasons: seen.map((v) => SAID[v]),
      evidence: {
        operations: known(events.map((e) => e.key.operation || e.kind)).slice(0, LISTED_MAX),
        stores: known(events.map((e) => e.key.store)).slice(0, LISTED_MAX),
        actors: known(events.map(actorOf)).slice(0, LISTED_MAX),
        networks: known(events.map((e) => e.net.network)).slice(0, LISTED_MAX),
      },
      events,
      tokenRefs: [],
    },
  ];
}

const ADMIN = exampleRef('administrator');
const ROBOT = exampleRef('deployment robot');
const NET = '203.0.113.0/24';
const STORE = 'vault/transit';
const DAY_S = DAY_MS / 1_000;
const act = (t: number, kind: EventKind, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind,
  outcome: 'success',
  actor: { ref: ADMIN, type: 'user' },
  key: { kid: 'sig-1', store: STORE },
  net: { network: NET },
  ...more,
});
const read = (t: number, ref: string, type: 'user' | 'service', more: Partial<ExampleEvent> = {}) =>
  act(t, 'secret_read', { actor: { ref, type }, client: { id: 'billing' }, key: {}, ...more });
const expected = (
  t: number,
  verdict: Verdict,
  operations: string[],
  more: { entity?: string; stores?: string[]; actors?: string[] } = {},
) => ({
  entity: more.entity ?? 'sig-1',
  episode: exampleTime(t),
  verdict,
  severity: SEVERITY[verdict],
  evidence: {
    operations,
    stores: more.stores ?? [STORE],
    actors: more.actors ?? [ADMIN],
    networks: [NET],
  },
});
const EXPORTS = [
  'export',
  'ExportKey',
  'export_key',
  'backup',
  'BackupKey',
  'KeyBackup',
  'getKeyMaterial',
];
/** A key of its own store is disabled. */
const disabled = (kid: string, t: number): ExampleEvent =>
  act(t, 'key_disabled', { key: { kid, store: `store of ${kid}` } });
const BILLING = { entity: 'client:billing', stores: [] };

export default defineDetector<Params>({
  id: 'secret_or_key_exposed',
  version: 1,
  title: 'Secret or key exposed outside of a rotation',
  family: 'credential_abuse',
  severity: 'high',
  confidence: 75,
  description:
    "A client's secret was read by somebody who had not read it before, or a signing key was exported, disabled or deleted, and no rotation explains it. Whoever has the key makes tokens; whoever has the secret is the client.",
  references: [
    'RFC 6819 section 5.1.4.1',
    'RFC 7517 section 9.2',
    'ATT&CK T1528',
    'ATT&CK T1552.004',
  ],
  entity: 'key',
  verdicts: {
    exported: 'Key material left its store.',
    deletion: 'A key was deleted, or its deletion scheduled, with no new one beside it.',
    disabled: 'A key was disabled, with no new one beside it.',
    secret_read: 'A secret was read by a person or service that had not read it before.',
  },
  evidence: {
    operations: "Operations in the store's words, else the kinds of events (at most 20).",
    stores: 'Stores (at most 20).',
    actors: 'References of those who did it (at most 20).',
    networks: 'Networks (at most 20).',
  },
  needs: ['key.kid', 'key.operation', 'actor.ref', 'outcome'],
  kinds: [...EXPOSING_KINDS, ...CHANGE_KINDS],
  episodes: 'daily',
  quietMs: DAY_MS,
  parameters: Parameters,
  concerns: (fact) =>
    EXPOSING_KINDS.some((k) => k === fact.kind) || CHANGE_KINDS.some((k) => k === fact.kind),
  screen: (params) => sql`(${isExposing(params)} OR (${kindIn(CHANGE_KINDS)}))`,
  candidates,
  history,
  facts,
  evaluate,
  falsePositives: [
    'Planned work: state its hours in change_windows.',
    'A new deployment that reads the secret for the first time.',
    'Not reported: reads by unknown actors, and by services as long as reads have not been told of for ten days.',
  ],
  examples: [
    {
      name: 'fires: a key is exported',
      events: [act(5, 'key_used', { key: { kid: 'sig-1', store: STORE, operation: 'ExportKey' } })],
      expect: [expected(5, 'exported', ['ExportKey'])],
    },
    {
      name: 'fires: disabled, then its deletion scheduled',
      events: [act(60, 'key_deleted'), act(0, 'key_disabled')],
      expect: [expected(0, 'deletion', ['key_deleted', 'key_disabled'])],
    },
    {
      name: 'fires: disabled, the last new key longer ago than a month',
      events: [
        act(-30 * DAY_S - 1, 'key_created', { key: { kid: 'sig-2', store: STORE } }),
        act(0, 'key_disabled'),
      ],
      expect: [expected(0, 'disabled', ['key_disabled'])],
    },
    {
      name: 'fires: a young key is disabled; its own making is no rotation',
      events: [act(-DAY_S, 'key_created'), act(0, 'key_disabled')],
      expect: [expected(0, 'disabled', ['key_disabled'])],
    },
    {
      name: 'fires: a person reads the secret of a client',
      events: [read(0, ADMIN, 'user'), read(-60, ROBOT, 'service')],
      expect: [expected(0, 'secret_read', ['secret_read'], BILLING)],
    },
    {
      name: 'fires: a service that had not read it, where reads have been told of for ten days',
      events: [read(0, ROBOT, 'service'), read(-10 * DAY_S, exampleRef('old robot'), 'service')],
      expect: [expected(0, 'secret_read', ['secret_read'], { ...BILLING, actors: [ROBOT] })],
    },
    {
      name: 'fires: a change of the secret more than an hour away explains nothing',
      events: [
        act(-3_601, 'client_credential_changed', { client: { id: 'billing' }, key: {} }),
        read(0, ADMIN, 'user'),
      ],
      expect: [expected(0, 'secret_read', ['secret_read'], BILLING)],
    },
    {
      name: 'silent: read within an hour of a change of the secret',
      events: [
        act(3_600, 'client_credential_changed', { client: { id: 'billing' }, key: {} }),
        read(0, ADMIN, 'user'),
      ],
      expect: [],
    },
    {
      name: 'silent: an old key is retired after a new one was made in the same store, or of the same issuer',
      events: [
        act(-30 * DAY_S + 1, 'key_created', { key: { kid: 'sig-2', store: STORE } }),
        act(0, 'key_disabled'),
        act(1, 'key_deleted'),
        act(-60, 'key_rotated', { issuer: 'https://login.example', key: { kid: 'k2' } }),
        act(2, 'key_disabled', { issuer: 'https://login.example', key: { kid: 'k1' } }),
      ],
      expect: [],
    },
    {
      name: 'silent: a known reader, services while learning, unknown actors',
      events: [
        read(-20 * DAY_S, ROBOT, 'service', { net: {} }),
        read(0, ROBOT, 'service'),
        read(1, '', 'service'),
        read(2, exampleRef('new robot'), 'service', { client: { id: 'young' } }),
        read(-10 * DAY_S + 3, exampleRef('other robot'), 'service', { client: { id: 'young' } }),
      ],
      expect: [],
    },
    {
      name: 'silent: refused, other uses of a key',
      events: [
        act(0, 'key_deleted', { outcome: 'denied' }),
        act(1, 'key_used', { key: { kid: 'sig-1', operation: 'Sign' } }),
        act(2, 'secret_read', { key: {}, client: {} }),
      ],
      expect: [],
    },
    {
      name: 'silent: planned hours, over midnight too; an excluded key',
      parameters: {
        change_windows: [
          { days: [1], from: '11:00', to: '13:00' },
          { days: [1], from: '23:30', to: '00:30' },
        ],
        exclude_keys: ['test-key'],
      },
      events: [
        act(0, 'key_disabled'),
        act(43_200 + 1_799, 'key_deleted'),
        act(43_200 + 7_200, 'key_deleted', { key: { kid: 'test-key' } }),
      ],
      expect: [],
    },
    {
      name: 'fires: the minute at which the planned hours are over',
      parameters: { change_windows: [{ days: [1], from: '11:00', to: '12:00' }] },
      events: [act(-60, 'key_disabled'), act(0, 'key_deleted')],
      expect: [expected(0, 'deletion', ['key_deleted'])],
    },
    {
      name: 'fires: every operation by which a key leaves its store, whoever did it',
      events: EXPORTS.map((operation, i) =>
        act(i * 3_600, 'key_used', { actor: {}, key: { kid: 'sig-1', store: STORE, operation } }),
      ),
      expect: [expected(0, 'exported', [...EXPORTS].sort(), { actors: [] })],
    },
    {
      name: 'silent: planned hours hold on every day of the week where none is named, and all day where they end as they begin',
      parameters: {
        change_windows: [
          { from: '09:00', to: '17:00' },
          { days: [1], from: '20:00', to: '20:00' },
        ],
      },
      events: [
        ...[0, 1, 2, 3, 4, 5, 6].map((day) => act(day * DAY_S, 'key_disabled')),
        act(9 * 3_600, 'key_disabled'),
      ],
      expect: [],
    },
    {
      name: 'planned hours begin and end to the minute, on their days',
      parameters: { change_windows: [{ days: [1], from: '12:00', to: '13:00' }] },
      events: [
        disabled('at its begin', 0),
        disabled('before its end', 3_599),
        disabled('before its begin', -1),
        disabled('at its end', 3_600),
        disabled('the day after', DAY_S),
      ],
      expect: [
        ['before its begin', -1],
        ['at its end', 3_600],
        ['the day after', DAY_S],
      ].map(([name = '', t = 0]) =>
        expected(Number(t), 'disabled', ['key_disabled'], {
          entity: String(name),
          stores: [`store of ${name}`],
        }),
      ),
    },
    {
      name: 'planned hours over midnight belong to the day on which they begin',
      parameters: { change_windows: [{ days: [1], from: '22:00', to: '02:00' }] },
      events: [
        disabled('at its begin', 36_000),
        disabled('before its end', 50_399),
        disabled('before its begin', 35_999),
        disabled('at its end', 50_400),
        disabled('the evening after', DAY_S + 36_000),
        disabled('the night before', -39_600),
      ],
      expect: [
        ['before its begin', 35_999],
        ['at its end', 50_400],
        ['the evening after', DAY_S + 36_000],
        ['the night before', -39_600],
      ].map(([name = '', t = 0]) =>
        expected(Number(t), 'disabled', ['key_disabled'], {
          entity: String(name),
          stores: [`store of ${name}`],
        }),
      ),
    },
    {
      name: 'a new key explains what is retired in its own store, from its own moment on',
      events: [
        disabled('elsewhere', 0),
        disabled('beside', 0),
        disabled('too soon', 0),
        act(0, 'key_created', { key: { kid: 'new-1', store: 'store of beside' } }),
        act(7_200, 'key_created', { key: { kid: 'new-2', store: 'store of too soon' } }),
      ],
      expect: ['elsewhere', 'too soon'].map((entity) =>
        expected(0, 'disabled', ['key_disabled'], { entity, stores: [`store of ${entity}`] }),
      ),
    },
    {
      name: 'the subject is who did it where no actor is told; silent beside a change of the secret',
      events: [
        act(0, 'key_disabled', { actor: {}, subject: { ref: ADMIN, type: 'user' } }),
        read(0, ADMIN, 'user', { client: { id: 'rotated' } }),
        act(3_600, 'secret_changed', { client: { id: 'rotated' }, key: {} }),
      ],
      expect: [expected(0, 'disabled', ['key_disabled'])],
    },
  ],
});
