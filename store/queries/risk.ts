import { NIL_REF } from '../../model/ids.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import {
  RISK_HALF_LIFE_DAYS,
  RISK_HALF_LIVES_MAX,
  riskLevel,
  riskScore,
  type RiskEntityType,
  type RiskLevel,
} from '../../model/risk.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

const DAY_MS = 86_400_000;
/** Rules that an entity's risk names. */
const RULES_MAX = 5;

/** The risk of one entity at a time; see model/risk.ts for the formula. */
export interface EntityRisk {
  readonly entity_ref: string;
  /** 0-100, one decimal. */
  readonly score: number;
  readonly level: RiskLevel;
  /** Findings that count. */
  readonly findings: number;
  /** Those that weigh most first. */
  readonly rules: readonly {
    readonly rule_id: string;
    readonly findings: number;
    /** This rule's share of the load, one decimal. */
    readonly load: number;
  }[];
  /** ISO 8601, of the newest finding that counts. */
  readonly last_event_time: string;
}

const ENTITY: Readonly<Record<RiskEntityType, { readonly key: Sql; readonly isKnown: Sql }>> = {
  subject: { key: sql`toString(subject_ref)`, isKnown: sql`subject_ref != ${param.uuid(NIL_REF)}` },
  client: { key: sql`toString(client_id)`, isKnown: sql`client_id != ''` },
  family: { key: sql`entity_ref`, isKnown: sql`entity_type = 'family'` },
};

/** Entities with most risk first; ties by reference. */
export async function readRisk(
  scope: Scope,
  type: RiskEntityType,
  options: {
    readonly atMs: number;
    readonly limit: number;
    readonly entityRef?: string | undefined;
  },
): Promise<readonly EntityRisk[]> {
  const { key, isKnown } = ENTITY[type];
  const { atMs, entityRef } = options;
  const halfLifeMs = RISK_HALF_LIFE_DAYS * DAY_MS;
  const sinceMs = atMs - RISK_HALF_LIVES_MAX * halfLifeMs;
  const isAsked = entityRef === undefined ? sql`1` : sql`${key} = ${param.string(entityRef)}`;
  const rows = await scope.store.query<RiskRow>(sql`
    SELECT entity, toString(sum(load)) AS total, toUInt32(sum(n)) AS findings, max(last) AS last_event_time,
      arraySlice(arraySort(r -> (-r.2, r.1), groupArray((rule, toFloat64(load), n))), 1, ${param.uint(RULES_MAX)}) AS rules
    FROM (
      SELECT ${key} AS entity, toString(rule_id) AS rule, toUInt32(count()) AS n, max(last_event_time) AS last,
        sum(toInt64(round(risk * exp2(-greatest(0, ${param.int(Math.round(atMs))} - toUnixTimestamp64Milli(last_event_time)) / ${param.float(halfLifeMs)}) * 1000000))) AS load
      FROM grantscope.findings FINAL
      WHERE ${ofTenant(scope)} AND state != 'superseded' AND risk > 0 AND ${isKnown} AND ${isAsked}
        AND first_event_time <= ${param.timeMs(atMs)} AND last_event_time >= ${param.timeMs(sinceMs)}
        AND finding_id NOT IN (SELECT finding_id FROM grantscope.finding_status FINAL WHERE ${ofTenant(scope)} AND treatment != 'active')
        AND finding_id NOT IN (
          SELECT finding_id FROM grantscope.dispositions WHERE ${ofTenant(scope)}
          GROUP BY finding_id HAVING argMax(disposition, (decided_at, disposition_id)) != 'true_positive')
      GROUP BY entity, rule
    )
    GROUP BY entity ORDER BY sum(load) DESC, entity LIMIT ${param.uint(options.limit)}`);
  return rows.map(toRisk);
}

interface RiskRow {
  readonly entity: string;
  readonly total: string;
  readonly findings: number;
  readonly last_event_time: string;
  readonly rules: readonly (readonly [rule: string, load: number, findings: number])[];
}

function toRisk(row: RiskRow): EntityRisk {
  const score = riskScore(Number(row.total) / 1e6);
  return {
    entity_ref: row.entity,
    score,
    level: riskLevel(score),
    findings: row.findings,
    rules: row.rules.map(([rule_id, load, findings]) => ({
      rule_id,
      findings,
      load: Math.round(load / 1e5) / 10,
    })),
    last_event_time: isoTime(row.last_event_time),
  };
}
