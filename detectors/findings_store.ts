import type { FindingState } from '../model/finding.ts';
import { NIL_REF } from '../model/ids.ts';
import { param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import type { UnitFindings } from './engine.ts';
import type { FindingContent } from './finding_identity.ts';

const TABLE = 'grantscope.findings';

/** A row of grantscope.findings, as written and as JSONEachRow gives it back. */
interface FindingRow {
  readonly finding_id: string;
  readonly entity_ref: string;
  readonly episode: string;
  readonly state: FindingState;
  readonly last_event_time: string;
  readonly detected_at: string;
  readonly version: string | number;
  readonly [column: string]: unknown;
}

/** How many findings a write opened, changed, withdrew and closed, and which. */
export interface FindingChanges {
  readonly opened: number;
  readonly changed: number;
  readonly superseded: number;
  readonly closed: number;
  readonly ids: readonly string[];
}

export const NO_CHANGES: FindingChanges = {
  opened: 0,
  changed: 0,
  superseded: 0,
  closed: 0,
  ids: [],
};

export function addChanges(a: FindingChanges, b: FindingChanges): FindingChanges {
  return {
    opened: a.opened + b.opened,
    changed: a.changed + b.changed,
    superseded: a.superseded + b.superseded,
    closed: a.closed + b.closed,
    ids: [...a.ids, ...b.ids],
  };
}

/** `YYYY-MM-DD hh:mm:ss.mmm` of an ISO time, as DateTime64(3) reads and prints it. */
function storedTime(iso: string): string {
  return iso.replace('T', ' ').replace('Z', '');
}

const CONTENT_COLUMNS = [
  'rule_version',
  'title',
  'family',
  'severity',
  'confidence',
  'risk',
  'entity_type',
  'verdict',
  'summary',
  'reasons',
  'evidence',
  'event_ids',
  'token_refs',
  'client_id',
  'subject_ref',
  'issuer',
  'networks',
  'sources',
  'first_event_time',
  'last_event_time',
  'references',
  'runbook',
] as const;

function rowOf(finding: FindingContent): Record<string, unknown> {
  return {
    ...finding,
    evidence: JSON.stringify(finding.evidence),
    subject_ref: finding.subject_ref === '' ? NIL_REF : finding.subject_ref,
    first_event_time: storedTime(finding.first_event_time),
    last_event_time: storedTime(finding.last_event_time),
  };
}

function isSameContent(a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  return CONTENT_COLUMNS.every((c) => JSON.stringify(a[c]) === JSON.stringify(b[c]));
}

function readRows(store: Store, where: Sql): Promise<FindingRow[]> {
  return store.query<FindingRow>(sql`SELECT * FROM grantscope.findings FINAL WHERE ${where}`);
}

export interface WriteContext {
  readonly tenant: string;
  readonly ruleId: string;
  /** A finding whose last event is older than this, ms, closes. */
  readonly quietMs: number;
  readonly nowMs: number;
}

/**
 * Brings the stored findings of evaluated units to what the evaluation gave. Writes only what differs; a
 * finding that no longer follows from the events becomes `superseded`. Safe to repeat.
 */
export async function writeFindings(
  store: Store,
  context: WriteContext,
  units: readonly UnitFindings[],
): Promise<FindingChanges> {
  if (units.length === 0) return NO_CHANGES;
  const entities = [...new Set(units.map((u) => u.unit.entity))];
  const stored = await readRows(
    store,
    sql`tenant = ${param.string(context.tenant)} AND rule_id = ${param.string(context.ruleId)} AND entity_ref IN ${param.strings(entities)}`,
  );
  const byEntity = new Map<string, FindingRow[]>();
  for (const row of stored)
    byEntity.set(row.entity_ref, [...(byEntity.get(row.entity_ref) ?? []), row]);
  const writer = new RowWriter(context);
  for (const { unit, findings } of units) {
    // An episode is named by a time of its day, so a day's evaluation speaks for that day alone.
    const before = (byEntity.get(unit.entity) ?? []).filter((r) => r.episode.startsWith(unit.day));
    const found = new Set(findings.map((f) => f.finding_id));
    for (const finding of findings)
      writer.put(
        finding,
        before.find((r) => r.finding_id === finding.finding_id),
      );
    for (const row of before)
      if (!found.has(row.finding_id) && row.state !== 'superseded')
        writer.restate(row, 'superseded');
  }
  await store.insertRows(TABLE, writer.rows);
  return writer.changes;
}

/** Findings whose tokens are remembered after a restart, newest first. */
const FOLLOWED_FINDINGS_MAX = 10_000;

/** The tokens of a rule's newest findings, by the entity that they belong to. */
export async function readFollowedTokens(
  store: Store,
  tenant: string,
  rule: string,
): Promise<readonly { readonly entity: string; readonly tokens: readonly string[] }[]> {
  return store.query(sql`
    SELECT entity_ref AS entity, token_refs AS tokens FROM grantscope.findings FINAL
    WHERE tenant = ${param.string(tenant)} AND rule_id = ${param.string(rule)} AND state != 'superseded'
    ORDER BY last_event_time DESC, finding_id LIMIT ${param.uint(FOLLOWED_FINDINGS_MAX)}`);
}

/** Closes findings that were quiet for long enough. */
export async function closeQuietFindings(
  store: Store,
  context: WriteContext,
): Promise<FindingChanges> {
  const rows = await readRows(
    store,
    sql`tenant = ${param.string(context.tenant)} AND rule_id = ${param.string(context.ruleId)} AND state = 'open' AND last_event_time < ${param.timeMs(context.nowMs - context.quietMs)}`,
  );
  const writer = new RowWriter(context);
  for (const row of rows) writer.restate(row, 'closed');
  await store.insertRows(TABLE, writer.rows);
  return writer.changes;
}

class RowWriter {
  readonly rows: Record<string, unknown>[] = [];
  changes: FindingChanges = NO_CHANGES;
  readonly #context: WriteContext;
  readonly #now: string;

  constructor(context: WriteContext) {
    this.#context = context;
    this.#now = storedTime(new Date(context.nowMs).toISOString());
  }

  put(finding: FindingContent, before: FindingRow | undefined): void {
    const row = rowOf(finding);
    const isQuiet =
      Date.parse(finding.last_event_time) < this.#context.nowMs - this.#context.quietMs;
    const state: FindingState = isQuiet ? 'closed' : 'open';
    if (before === undefined) {
      this.#add({ ...row, state, detected_at: this.#now, version: 1 }, 'opened');
      return;
    }
    if (before.state === state && isSameContent(before, row)) return;
    const version = Number(before.version) + 1;
    this.#add({ ...row, state, detected_at: before.detected_at, version }, 'changed');
  }

  restate(row: FindingRow, state: 'closed' | 'superseded'): void {
    this.#add({ ...row, state, version: Number(row.version) + 1 }, state);
  }

  #add(row: Record<string, unknown>, change: keyof Omit<FindingChanges, 'ids'>): void {
    this.rows.push({ ...row, updated_at: this.#now });
    const ids = [String(row['finding_id'])];
    this.changes = addChanges(this.changes, { ...NO_CHANGES, [change]: 1, ids });
  }
}
