import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { Severity } from '../../model/finding.ts';
import { clickHouseMs, param, sql } from '../../model/sql.ts';
import { DISPOSITIONS, type Disposition } from '../../model/triage.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { getFinding } from './findings.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** A rule is proposed for retirement below this share of true positives, ... */
export const RETIREMENT_PRECISION = 0.1;
/** ... once at least so many of its findings were judged: fewer say too little. */
export const RETIREMENT_JUDGED_MIN = 20;
/** Dispositions of one finding that an answer lists. */
const DISPOSITIONS_OF_FINDING_MAX = 100;

/** What a person gives to judge a finding. */
export const DispositionRequest = z.strictObject({
  disposition: z
    .enum(DISPOSITIONS)
    .describe(
      'true_positive: it was right and worth acting on; benign_positive: it was right about something that is allowed; false_positive: it was wrong.',
    ),
  author: z.string().min(1).max(200).regex(/\S/, 'must not be blank'),
  note: z.string().max(4_000).default(''),
});
export type DispositionRequest = z.infer<typeof DispositionRequest>;

/** One judgement. None is ever changed: a later one counts instead. */
export interface StoredDisposition {
  readonly disposition_id: string;
  readonly finding_id: string;
  readonly rule_id: string;
  readonly rule_version: number;
  readonly verdict: string;
  readonly severity: Severity;
  readonly disposition: Disposition;
  readonly author: string;
  readonly note: string;
  /** ISO 8601. */
  readonly decided_at: string;
}

/** How often a rule is right, by what analysts concluded about its findings; the last disposition of each counts. */
export interface RulePrecision {
  readonly rule_id: string;
  readonly judged: number;
  readonly true_positive: number;
  readonly benign_positive: number;
  readonly false_positive: number;
  /** true_positive / judged. */
  readonly precision: number;
  /** (true_positive + benign_positive) / judged: how often it saw what it says. */
  readonly accuracy: number;
  /** precision below `RETIREMENT_PRECISION` over at least `RETIREMENT_JUDGED_MIN` findings. */
  readonly proposed_for_retirement: boolean;
}

/** Adds a judgement with what the finding was at the time. Throws `not_found`. */
export async function addDisposition(
  scope: Scope,
  findingId: string,
  request: DispositionRequest,
  nowMs: number,
): Promise<StoredDisposition> {
  const finding = await getFinding(scope, findingId);
  if (finding === undefined)
    throw new GrantscopeError('not_found', 'finding_id: no finding has this id');
  const added: StoredDisposition = {
    disposition_id: randomUUID(),
    finding_id: findingId,
    rule_id: finding.rule_id,
    rule_version: finding.rule_version,
    verdict: finding.verdict,
    severity: finding.severity,
    disposition: request.disposition,
    author: request.author,
    note: request.note,
    decided_at: new Date(nowMs).toISOString(),
  };
  await scope.store.insertRows('grantscope.dispositions', [
    { tenant: scope.tenant, ...added, decided_at: clickHouseMs(nowMs) },
  ]);
  return added;
}

/** All judgements of a finding, the one that counts first. */
export async function listDispositions(
  scope: Scope,
  findingId: string,
): Promise<readonly StoredDisposition[]> {
  const rows = await scope.store.query<StoredDisposition>(
    sql`SELECT * EXCEPT (tenant) FROM grantscope.dispositions WHERE ${ofTenant(scope)} AND finding_id = ${param.uuid(findingId)} ORDER BY decided_at DESC, disposition_id DESC LIMIT ${param.uint(DISPOSITIONS_OF_FINDING_MAX)}`,
  );
  return rows.map((row) => ({ ...row, decided_at: isoTime(row.decided_at) }));
}

/** The judgement that counts of each of these findings, by id. */
export async function lastDispositions(
  scope: Scope,
  findingIds: readonly string[],
): Promise<ReadonlyMap<string, Disposition>> {
  if (findingIds.length === 0) return new Map();
  const rows = await scope.store.query<{ finding_id: string; disposition: Disposition }>(
    sql`SELECT finding_id, toString(argMax(disposition, (decided_at, disposition_id))) AS disposition FROM grantscope.dispositions WHERE ${ofTenant(scope)} AND finding_id IN ${param.uuids(findingIds)} GROUP BY finding_id`,
  );
  return new Map(rows.map((r) => [r.finding_id, r.disposition]));
}

/** The precision of every rule of which a finding was judged; least precise first. */
export async function rulePrecision(scope: Scope): Promise<readonly RulePrecision[]> {
  const rows = await scope.store.query<
    Pick<
      RulePrecision,
      'rule_id' | 'judged' | 'true_positive' | 'benign_positive' | 'false_positive'
    >
  >(sql`
    SELECT rule AS rule_id, toUInt32(count()) AS judged, toUInt32(countIf(last = 'true_positive')) AS true_positive,
      toUInt32(countIf(last = 'benign_positive')) AS benign_positive, toUInt32(countIf(last = 'false_positive')) AS false_positive
    FROM (
      SELECT finding_id, toString(any(rule_id)) AS rule, argMax(disposition, (decided_at, disposition_id)) AS last
      FROM grantscope.dispositions WHERE ${ofTenant(scope)} GROUP BY finding_id
    )
    GROUP BY rule ORDER BY true_positive / judged, judged DESC, rule`);
  return rows.map((row) => {
    const precision = row.true_positive / row.judged;
    return {
      ...row,
      precision,
      accuracy: (row.true_positive + row.benign_positive) / row.judged,
      proposed_for_retirement:
        row.judged >= RETIREMENT_JUDGED_MIN && precision < RETIREMENT_PRECISION,
    };
  });
}
