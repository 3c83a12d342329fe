import { authEventsTable } from '../model/event_columns.ts';
import type { DetectorDocs } from '../model/define_detector.ts';
import { identifier, joinSql, param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { eventCondition, readBounds, type EventRange } from './scopes.ts';

/** What of a rule its coverage is about. */
export type CoveredRule = Pick<DetectorDocs, 'id' | 'needs' | 'kinds'>;

/** When a rule counts as blind; the defaults are `COVERAGE_LIMITS`. */
export interface CoverageLimits {
  /** A field that is unknown in more than this share of the events that could hold it blinds the rule, 0-1. */
  readonly unknownShareMax: number;
  /** Fewer events that could hold the field say nothing about a source. */
  readonly eventsMin: number;
}

export const COVERAGE_LIMITS: CoverageLimits = { unknownShareMax: 0.5, eventsMin: 100 };

/**
 * `sees`: every needed field is known where it is looked for. `blind`: a needed field is unknown in nearly all that a
 * source sends. `few_events`: too few to tell. `no_events`: the source sends none of the rule's kinds.
 */
export type CoverageState = 'sees' | 'blind' | 'few_events' | 'no_events';

/** How well one source fills one field that a rule needs. */
export interface FieldCoverage {
  /** Path of the AuthEvent field. */
  readonly field: string;
  /** The kind of event, among those the rule reads, that fills it best; '' without events. */
  readonly kind: string;
  /** Events of that kind that could hold the field: an error code is looked for in failures alone. */
  readonly events: number;
  readonly known: number;
  /** known / events, 0-1; null without events. */
  readonly share: number | null;
}

export interface SourceCoverage {
  readonly source_id: string;
  readonly state: CoverageState;
  /** Events of the kinds that the rule reads. */
  readonly events: number;
  /** Needed fields that are unknown too often. */
  readonly missing: readonly string[];
  readonly fields: readonly FieldCoverage[];
}

export interface RuleCoverage {
  readonly rule_id: string;
  /** The best state that any source gives it: a rule that one source feeds works, if for that source alone. */
  readonly state: CoverageState;
  /** By source, those that send none of its kinds included. */
  readonly sources: readonly SourceCoverage[];
}

export interface Coverage {
  /** Events read. */
  readonly events: number;
  readonly rules: readonly RuleCoverage[];
}

/** The enums whose word for "not known" is `unknown`. */
const KNOWN_WORD = sql`NOT IN ('', 'unknown')`;
const NIL = sql`toUUID('00000000-0000-0000-0000-000000000000')`;

/** True for a row (or an element of a list) that holds a value of that type. */
function holds(value: Sql, type: string): Sql {
  if (type.startsWith('Array('))
    return sql`arrayExists(x -> ${holds(sql`x`, type.slice(6, -1))}, ${value})`;
  if (type.startsWith('Nullable(')) return sql`${value} IS NOT NULL`;
  if (type.startsWith('Map(')) return sql`notEmpty(mapKeys(${value}))`;
  if (type === 'UUID') return sql`${value} != ${NIL}`;
  if (type === 'Int64') return sql`${value} >= 0`;
  if (type === 'UInt16' || type === 'UInt32') return sql`${value} != 0`;
  if (type === 'Float32' || type === 'Float64') return sql`${value} != 0`;
  if (type === "DateTime('UTC')") return sql`toUnixTimestamp(${value}) != 0`;
  if (type.includes('String')) return sql`${value} ${KNOWN_WORD}`;
  return sql`true`;
}

/** Which column holds a field, and when it counts as known. Fields that every event has are always known. */
export function knownCondition(field: string): Sql {
  const name = field.startsWith('tokens.') ? field : field.replaceAll('.', '_');
  if (field === 'tokens') return sql`notEmpty(tokens.ref)`;
  const column = authEventsTable.columns.find((c) => c.name === name);
  return column === undefined ? sql`true` : holds(identifier(column.name), column.type);
}

/** Which events could hold a field at all. */
function applies(field: string): Sql {
  if (field.startsWith('error.')) return sql`outcome IN ('failure', 'denied')`;
  if (field === 'scopes_granted') return sql`outcome = 'success'`;
  if (field === 'binding_thumbprint') return sql`binding IN ('dpop', 'mtls')`;
  if (field.startsWith('tokens.') && field !== 'tokens.ref') return sql`notEmpty(tokens.ref)`;
  // A client that acts for itself has neither a person nor a session.
  if (['subject.ref', 'session_ref', 'grant_ref'].includes(field))
    return sql`grant_type != 'client_credentials'`;
  return sql`true`;
}

/** Of one kind of event of one source. */
interface KindCounts {
  readonly source: string;
  readonly kind: string;
  readonly events: number;
  readonly fields: ReadonlyMap<string, { readonly events: number; readonly known: number }>;
}

async function readCounts(
  store: Store,
  tenant: string,
  rules: readonly CoveredRule[],
  range: EventRange,
): Promise<readonly KindCounts[]> {
  const fields = [...new Set(rules.flatMap((r) => r.needs))].sort();
  const kinds = [...new Set(rules.flatMap((r) => r.kinds))].sort();
  const counts = fields.flatMap((f) => [
    sql`countIf(${applies(f)})`,
    sql`countIf(${applies(f)} AND ${knownCondition(f)})`,
  ]);
  const rows = await store.query<{ source: string; kind: string; n: string; counts: string[] }>(sql`
    SELECT toString(source_id) AS source, toString(kind) AS kind, count() AS n, [${joinSql(counts, ', ', sql`0`)}] AS counts
    FROM grantscope.auth_events
    WHERE tenant = ${param.string(tenant)} AND auth_events.kind IN ${param.strings(kinds)} AND ${eventCondition(range)}
    GROUP BY source, kind ORDER BY source, kind`);
  return rows.map((row) => ({
    source: row.source,
    kind: row.kind,
    events: Number(row.n),
    fields: new Map(
      fields.map((f, i) => [
        f,
        { events: Number(row.counts[2 * i]), known: Number(row.counts[2 * i + 1]) },
      ]),
    ),
  }));
}

const shareOf = (f: { readonly events: number; readonly known: number }): number =>
  f.events === 0 ? 0 : f.known / f.events;

/** A rule that reads several kinds may need a field of one of them alone, so the kind that fills it best counts. */
function fieldCoverage(field: string, kinds: readonly KindCounts[]): FieldCoverage {
  let best: FieldCoverage = { field, kind: '', events: 0, known: 0, share: null };
  for (const { kind, fields } of kinds) {
    const counted = fields.get(field);
    if (counted === undefined || counted.events === 0) continue;
    const share = shareOf(counted);
    const isBetter =
      best.share === null ||
      share > best.share ||
      (share === best.share && counted.events > best.events);
    if (isBetter) best = { field, kind, ...counted, share };
  }
  return best;
}

function sourceCoverage(
  rule: CoveredRule,
  source: string,
  kinds: readonly KindCounts[],
  limits: CoverageLimits,
): SourceCoverage {
  const events = kinds.reduce((sum, k) => sum + k.events, 0);
  const fields = rule.needs.map((f) => fieldCoverage(f, kinds));
  const candidates = (field: string): number =>
    kinds.reduce((sum, k) => sum + (k.fields.get(field)?.events ?? 0), 0);
  const enough = fields.filter((f) => candidates(f.field) >= limits.eventsMin);
  const missing = enough
    .filter((f) => 1 - (f.share ?? 0) > limits.unknownShareMax)
    .map((f) => f.field);
  const state = (): CoverageState => {
    if (events === 0) return 'no_events';
    if (missing.length > 0) return 'blind';
    return enough.length < fields.length ? 'few_events' : 'sees';
  };
  return { source_id: source, state: state(), events, missing, fields };
}

const FROM_BEST: readonly CoverageState[] = ['sees', 'few_events', 'blind', 'no_events'];

/**
 * Which needed fields the sources fill, by rule, over the events of a stretch of event time. Events are counted as they
 * are stored, so a repeated one counts twice. Reads the needed columns of all events in the range: choose it with
 * `coverageRange` where many are stored.
 */
export async function readCoverage(
  store: Store,
  tenant: string,
  rules: readonly CoveredRule[],
  range: EventRange,
  limits: CoverageLimits = COVERAGE_LIMITS,
): Promise<Coverage> {
  const counts = await readCounts(store, tenant, rules, range);
  const sources = [...new Set(counts.map((c) => c.source))];
  return {
    events: counts.reduce((sum, c) => sum + c.events, 0),
    rules: rules.map((rule): RuleCoverage => {
      const bySource = sources.map((source) => {
        const own = counts.filter((c) => c.source === source && isOneOf(rule.kinds, c.kind));
        return sourceCoverage(rule, source, own, limits);
      });
      const state = FROM_BEST.find((s) => bySource.some((c) => c.state === s)) ?? 'no_events';
      return { rule_id: rule.id, state, sources: bySource };
    }),
  };
}

function isOneOf(list: readonly string[], value: string): boolean {
  return list.includes(value);
}

/** Events that a look at the coverage reads, more or less. */
export const COVERAGE_EVENTS_MAX = 1_000_000;
/** The shortest stretch, ns: what came in it is read, however much it is. */
const SHORTEST = 10_000_000_000n;

/**
 * The stretch before `to`, ns of event time, of at most `longestMs`, that holds about as many events as a look should read.
 */
export async function coverageRange(
  store: Store,
  tenant: string,
  to: bigint,
  longestMs: number,
  eventsMax: number = COVERAGE_EVENTS_MAX,
): Promise<EventRange> {
  const longest = BigInt(longestMs) * 1_000_000n;
  let length = longest < SHORTEST ? longest : SHORTEST;
  for (;;) {
    const next = length * 4n < longest ? length * 4n : longest;
    if (next === length) return { from: to - length, to };
    const { rows } = await readBounds(store, tenant, eventCondition({ from: to - next, to }));
    if (rows > eventsMax) return { from: to - length, to };
    length = next;
  }
}
