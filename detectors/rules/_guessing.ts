import type { CandidateScope, HistorySelection } from '../../model/define_detector.ts';
import { isUuid } from '../../model/ids.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { kindIn, nilRef } from './_ledger.ts';
import { byThing } from './_names.ts';
import { aroundNew, DAY_MS, inWindow, MINUTE_MS, minuteSql } from './_windows.ts';

/** Logins that failed and succeeded, seen from two sides: by the network that tried, and by the person that was tried. */

export const TRY_KINDS: readonly EventKind[] = ['login_failed', 'token_request_failed'];
export const SUCCESS_KINDS: readonly EventKind[] = ['login', 'token_issued'];

/** What is counted for each side; see the parameters of credential_spray. */
export interface GuessingLimits {
  readonly min_subjects: number;
  readonly min_sources: number;
  readonly min_tries: number;
  readonly window_ms: number;
  readonly success_within_ms: number;
  readonly ignored_error_codes: readonly string[];
  readonly exclude_networks: readonly string[];
}

/** Names of a side's facts: tries and successes by the minute, and who or what took part in the window that ends with it. */
export const FACTS = {
  network: { tries: 'tries', counted: 'subjects', successes: 'successes' },
  target: { tries: 'target_tries', counted: 'target_sources', successes: 'target_successes' },
} as const;
export type Side = keyof typeof FACTS;

/** Of what is counted, the first try of so many is read per entity and day; and so many logins after a try. */
const COUNTED_READ_MAX = 300;
const SUCCESSES_READ_MAX = 200;

const PERSON = sql`if(thing = ${nilRef}, '', toString(thing))`;
/** As `networkName` calls it: addresses of one autonomous system, such as a carrier's, are one source. */
const SOURCE = sql`if(net_asn = 0, net_network, concat('AS', toString(net_asn)))`;
/** Who an entity is, and what is counted for it: columns of `attempts`. */
const COLUMNS = {
  network: { entity: sql`net_network`, counted: PERSON },
  target: { entity: PERSON, counted: sql`source` },
} as const;

/** A back end's or proxy's address is not the one who tries. */
const isUserNetwork = sql`net_network != '' AND net_ip_role IN ('end_user', 'unknown')`;

function isTry(limits: GuessingLimits): Sql {
  return sql`${kindIn(TRY_KINDS)} AND ${isUserNetwork} AND outcome IN ('failure', 'denied')
    AND ((kind = 'login_failed' AND error_code NOT IN ${param.strings(limits.ignored_error_codes)})
      OR (kind = 'token_request_failed' AND grant_type = 'password' AND error_oauth_error = 'invalid_grant'))`;
}

const isSuccess = sql`${kindIn(SUCCESS_KINDS)} AND ${isUserNetwork} AND outcome = 'success'
  AND (kind = 'login' OR grant_type = 'password')`;

/** Rows of attempts that satisfy a condition on auth_events; a person is called by one name, whatever the key: `thing`. */
function attempts(tenant: string, since: bigint, condition: Sql, isNew = sql`true`): Sql {
  return byThing(
    { tenant, since },
    sql`SELECT net_network, ${SOURCE} AS source, subject_ref AS ref, time, event_id, ${isNew} AS is_new
      FROM grantscope.auth_events WHERE tenant = ${param.string(tenant)} AND ${condition}`,
  );
}

/** Networks that many people were tried from, around new tries and new logins. */
function networkCandidates(scope: CandidateScope, limits: GuessingLimits): Sql {
  const tries = sql`FROM grantscope.auth_events WHERE tenant = ${param.string(scope.tenant)} AND ${isTry(limits)}`;
  const logins = sql`SELECT net_network FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND ${isSuccess} AND ${scope.condition}`;
  const isMany = sql`count() >= ${param.uint(limits.min_tries)} AND uniqExact(subject_ref) >= ${param.uint(limits.min_subjects)}`;
  const near = aroundNew(scope, limits.window_ms, limits.window_ms);
  const far = sql`${aroundNew(scope, reachMs(limits), limits.window_ms)} AND net_network IN (${logins})`;
  return sql`
    SELECT net_network AS entity, time AS at ${tries} AND ${scope.condition}
      AND net_network IN (SELECT net_network ${tries} AND ${near} GROUP BY net_network HAVING ${isMany})
    UNION ALL
    SELECT net_network AS entity, arrayJoin(groupUniqArray(${minuteSql})) AS at ${tries} AND ${far}
    GROUP BY net_network HAVING ${isMany}`;
}

/** A login that comes late may show a busy network, or that somebody broke in: the minutes of its tries are looked at. */
function reachMs(limits: GuessingLimits): number {
  return limits.window_ms + DAY_MS + limits.success_within_ms;
}

/** People who were tried from many networks, around new tries and new logins. */
function targetCandidates(scope: CandidateScope, limits: GuessingLimits): Sql {
  const { tenant } = scope;
  const since = scope.timeFrom - BigInt(reachMs(limits)) * 1_000_000n;
  const counted = sql`${isTry(limits)} AND subject_ref != ${nilRef} AND net_network NOT IN ${param.strings(limits.exclude_networks)}`;
  const tries = (condition: Sql, isNew?: Sql): Sql =>
    attempts(tenant, since, sql`${counted} AND ${condition}`, isNew);
  const near = tries(aroundNew(scope, limits.window_ms, limits.window_ms), scope.condition);
  const far = tries(aroundNew(scope, reachMs(limits), limits.window_ms));
  const logins = attempts(tenant, since, sql`${isSuccess} AND ${scope.condition}`);
  const many = (rows: Sql): Sql => sql`
    SELECT ${PERSON} AS entity, arrayJoin(groupUniqArrayIf(${minuteSql}, is_new)) AS at FROM (${rows})
    GROUP BY thing HAVING count() >= ${param.uint(limits.min_tries)} AND uniqExact(source) >= ${param.uint(limits.min_sources)}`;
  return sql`${many(near)} UNION ALL
    ${many(sql`SELECT * FROM (${far}) WHERE thing IN (SELECT thing FROM (${logins}))`)}`;
}

/** Candidates of both sides. */
export function guessingCandidates(scope: CandidateScope, limits: GuessingLimits): Sql {
  return sql`${networkCandidates(scope, limits)} UNION ALL ${targetCandidates(scope, limits)}`;
}

/** One side's tries and successes in the selection. */
function ofSide(side: Side, selection: HistorySelection, limits: GuessingLimits) {
  const { tenant, entities, window } = selection;
  const own =
    side === 'network'
      ? sql`net_network IN ${param.strings(entities)}`
      : sql`subject_ref IN ${param.uuids(entities.filter(isUuid))} AND net_network NOT IN ${param.strings(limits.exclude_networks)}`;
  const rows = (condition: Sql): Sql =>
    attempts(
      tenant,
      window?.readFrom ?? 0n,
      sql`${own} AND ${condition} AND ${inWindow(selection)}`,
    );
  return { ...COLUMNS[side], tries: rows(isTry(limits)), successes: rows(isSuccess) };
}

function historyOf(side: Side, selection: HistorySelection, limits: GuessingLimits): Sql {
  const { entity, counted, tries, successes } = ofSide(side, selection, limits);
  return sql`
    SELECT ${entity} AS entity, min((time, event_id)) AS e FROM (${tries}) GROUP BY entity, toStartOfMinute(time)
    UNION ALL
    SELECT ${entity} AS entity, min((time, event_id)) AS e FROM (${tries}) WHERE ${counted} != ''
    GROUP BY entity, ${counted} ORDER BY e LIMIT ${param.uint(COUNTED_READ_MAX)} BY entity
    UNION ALL
    SELECT s.entity AS entity, (s.time, s.event_id) AS e FROM (
      SELECT ${entity} AS entity, ${counted} AS party, time, event_id FROM (${successes}) WHERE party != '') AS s
    INNER JOIN (
      SELECT ${entity} AS entity, ${counted} AS party, min(time) AS tried FROM (${tries}) WHERE party != ''
      GROUP BY entity, party) AS t ON s.entity = t.entity AND s.party = t.party
    WHERE s.time >= t.tried ORDER BY e LIMIT ${param.uint(SUCCESSES_READ_MAX)} BY entity`;
}

/** The first try of each minute and of each person or network; and the logins of those who had been tried from there. */
export function guessingHistory(selection: HistorySelection, limits: GuessingLimits): Sql {
  return sql`
    SELECT entity, tupleElement(e, 2) AS event_id, tupleElement(e, 1) AS at FROM (
      ${historyOf('network', selection, limits)} UNION ALL ${historyOf('target', selection, limits)})`;
}

function factsOf(side: Side, selection: HistorySelection, limits: GuessingLimits): Sql {
  const { entity, counted, tries, successes } = ofSide(side, selection, limits);
  const names = FACTS[side];
  const minutes = param.uint(Math.ceil(limits.window_ms / MINUTE_MS));
  const perMinute = (name: string, rows: Sql): Sql =>
    sql`SELECT ${entity} AS entity, ${param.string(name)} AS name, '' AS key, ${minuteSql} AS at, uniqExact(event_id) AS value
      FROM (${rows}) GROUP BY entity, at`;
  return sql`
    ${perMinute(names.tries, tries)} UNION ALL ${perMinute(names.successes, successes)} UNION ALL
    SELECT entity, ${param.string(names.counted)} AS name, '' AS key, ends AS at, uniqExact(party) AS value FROM (
      SELECT entity, party, addMinutes(minute, arrayJoin(range(${minutes}))) AS ends FROM (
        SELECT ${entity} AS entity, ${counted} AS party, ${minuteSql} AS minute FROM (${tries})
        WHERE party != '' GROUP BY entity, party, minute))
    GROUP BY entity, ends`;
}

/** The facts of both sides (`FACTS`); an entity has those of one. */
export function guessingFacts(selection: HistorySelection, limits: GuessingLimits): Sql {
  return sql`${factsOf('network', selection, limits)} UNION ALL ${factsOf('target', selection, limits)}`;
}
