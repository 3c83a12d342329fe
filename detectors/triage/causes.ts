import { BURN_TIERS } from '../../model/define_slo.ts';
import { joinSql, param, sql, type Sql } from '../../model/sql.ts';
import type { Store } from '../../store/client.ts';
import type { Cause, TriagedFinding } from './decide.ts';
import { INHIBITIONS, type Inhibition } from './inhibitions.ts';

/** Causes that one look reads of each inhibition; the newest. */
export const CAUSES_MAX = 1_000;
/** A state of an SLO that is older than this says nothing about now, ms. */
const SLO_STATE_AGE_MS_MAX = 300_000;
/** As many bad events, at least, that a burn over the long window needs: one failure at night is no outage. */
const SLO_BAD_EVENTS_MIN = 10;

/** What could mute these findings: only inhibitions that name their rules are asked for, over their event times. */
export async function readCauses(
  store: Store,
  tenant: string,
  findings: readonly TriagedFinding[],
  nowMs: number,
): Promise<readonly Cause[]> {
  const causes: Cause[] = [];
  for (const inhibition of INHIBITIONS) {
    const concerned = findings.filter((f) => inhibition.mutes.some((m) => m.rule === f.rule_id));
    if (concerned.length === 0) continue;
    const fromMs = Math.min(...concerned.map((f) => f.lastMs)) - inhibition.forMs;
    const toMs = Math.max(...concerned.map((f) => f.firstMs)) + inhibition.beforeMs;
    causes.push(...(await causesOf(store, tenant, inhibition, { fromMs, toMs, nowMs })));
  }
  return causes;
}

/** The findings, with the instances that told of their events where one of the causes is about an instance. */
export async function withHosts(
  store: Store,
  tenant: string,
  findings: readonly TriagedFinding[],
  causes: readonly Cause[],
): Promise<readonly TriagedFinding[]> {
  const about = new Set(causes.filter((c) => c.host !== '').map((c) => c.inhibition));
  const asking = INHIBITIONS.filter((i) => about.has(i.id) && i.scope.includes('host'));
  const concerned = findings.filter((f) =>
    asking.some((i) => i.mutes.some((m) => m.rule === f.rule_id)),
  );
  if (concerned.length === 0) return findings;
  const ofTenant = sql`tenant = ${param.string(tenant)}`;
  const ids = sql`SELECT finding_id, arrayJoin(event_ids) AS event_id FROM grantscope.findings FINAL
    WHERE ${ofTenant} AND finding_id IN ${param.uuids(concerned.map((f) => f.finding_id))}`;
  const from = param.timeMs(Math.min(...concerned.map((f) => f.firstMs)));
  const to = param.timeMs(Math.max(...concerned.map((f) => f.lastMs)) + 1);
  const rows = await store.query<{ finding_id: string; hosts: string[] }>(sql`
    SELECT toString(finding_id) AS finding_id, arraySort(groupUniqArray(host)) AS hosts FROM (${ids}) AS named
    INNER JOIN (
      SELECT event_id, toString(source_instance) AS host FROM grantscope.auth_events
      WHERE ${ofTenant} AND time >= ${from} AND time <= ${to} AND event_id IN (SELECT event_id FROM (${ids}))
    ) AS told ON told.event_id = named.event_id
    GROUP BY finding_id`);
  const hosts = new Map(rows.map((r) => [r.finding_id, r.hosts]));
  return findings.map((f) => {
    const own = hosts.get(f.finding_id);
    return own === undefined ? f : { ...f, hosts: own };
  });
}

interface Look {
  /** Causes that ended before or began after do not reach any finding. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly nowMs: number;
}

interface CauseRow {
  readonly id: string;
  readonly from_ms: string | number;
  readonly to_ms: string | number;
  readonly issuer: string;
  readonly client_id: string;
  readonly sources: string[];
  readonly host: string;
}

async function causesOf(
  store: Store,
  tenant: string,
  inhibition: Inhibition,
  look: Look,
): Promise<readonly Cause[]> {
  const { cause } = inhibition;
  const rows = await store.query<CauseRow>(
    cause.kind === 'event'
      ? eventsQuery(tenant, cause, look)
      : cause.kind === 'finding'
        ? findingsQuery(tenant, cause, look)
        : slosQuery(tenant, cause.slos, look),
  );
  return rows.map((row) => ({
    inhibition: inhibition.id,
    kind: cause.kind,
    id: row.id,
    fromMs: Number(row.from_ms),
    toMs: Number(row.to_ms),
    issuer: row.issuer,
    client_id: row.client_id,
    sources: row.sources,
    host: row.host,
  }));
}

function eventsQuery(
  tenant: string,
  cause: Extract<Inhibition['cause'], { kind: 'event' }>,
  look: Look,
): Sql {
  const entries = (cause.ext ?? []).map(
    (e) => sql`ext[${param.string(e.name)}] = ${param.string(e.value)}`,
  );
  const isMarked = entries.length === 0 ? sql`1` : sql`(${joinSql(entries, ' OR ')})`;
  // A rotation that failed changed no key.
  return sql`
    SELECT toString(event_id) AS id, any(toUnixTimestamp64Milli(time)) AS from_ms, any(toUnixTimestamp64Milli(time)) AS to_ms,
      any(issuer) AS issuer, any(client_id) AS client_id, [toString(any(source_id))] AS sources, '' AS host
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND kind IN ${param.strings(cause.kinds)} AND outcome NOT IN ('failure', 'denied')
      AND time >= ${param.timeMs(look.fromMs)} AND time <= ${param.timeMs(look.toMs)} AND ${isMarked}
    GROUP BY event_id ORDER BY to_ms DESC, id LIMIT ${param.uint(CAUSES_MAX)}`;
}

function findingsQuery(
  tenant: string,
  cause: Extract<Inhibition['cause'], { kind: 'finding' }>,
  look: Look,
): Sql {
  return sql`
    SELECT toString(finding_id) AS id, toUnixTimestamp64Milli(first_event_time) AS from_ms, toUnixTimestamp64Milli(last_event_time) AS to_ms,
      issuer, client_id, arrayMap(s -> toString(s), sources) AS sources,
      if(entity_type = 'source', entity_ref, '') AS host
    FROM grantscope.findings FINAL
    WHERE tenant = ${param.string(tenant)} AND rule_id = ${param.string(cause.rule)} AND verdict IN ${param.strings(cause.verdicts)} AND state != 'superseded'
      AND last_event_time >= ${param.timeMs(look.fromMs)} AND first_event_time <= ${param.timeMs(look.toMs)}
    ORDER BY to_ms DESC, id LIMIT ${param.uint(CAUSES_MAX)}`;
}

/** What burns now, by the last computed state. Shadow SLOs are on trial and mute nothing. */
function slosQuery(tenant: string, slos: readonly string[], look: Look): Sql {
  const fast = BURN_TIERS.find((t) => t.id === 'fast');
  if (fast === undefined) throw new RangeError('BURN_TIERS: no tier fast');
  return sql`
    SELECT slo_id AS id, toUnixTimestamp64Milli(computed_at) AS from_ms, toUnixTimestamp64Milli(computed_at) AS to_ms,
      '' AS issuer, '' AS client_id, emptyArrayString() AS sources, '' AS host
    FROM grantscope.slo_states FINAL
    WHERE tenant = ${param.string(tenant)} AND slo_id IN ${param.strings(slos)} AND NOT shadow
      AND computed_at >= ${param.timeMs(Math.max(look.nowMs - SLO_STATE_AGE_MS_MAX, look.fromMs))} AND computed_at <= ${param.timeMs(look.toMs)}
      AND burn_rates[${param.string(fast.long)}] >= ${param.float(fast.factor)} AND burn_rates[${param.string(fast.short)}] >= ${param.float(fast.factor)}
      AND bad_by_window[${param.string(fast.long)}] >= ${param.uint(SLO_BAD_EVENTS_MIN)}
    ORDER BY id LIMIT ${param.uint(CAUSES_MAX)}`;
}
