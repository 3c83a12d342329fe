import type { AuthEvent } from '../model/auth_event.ts';
import type {
  BoundDetector,
  CandidateScope,
  ClientLookup,
  DayWindow,
  EntityFact,
  FollowRefs,
} from '../model/define_detector.ts';
import { joinSql, param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { nsOfClickHouseTime, readEvents, timeSql } from '../store/read_events.ts';
import {
  namesOfTenant,
  refsOf,
  renamed,
  type NameReader,
  type ReferenceNames,
} from '../store/reference_names.ts';
import { toFinding, type FindingContent } from './finding_identity.ts';

/** Events read per entity; beyond it the earliest are kept, and the cut is counted. */
export const EVENTS_PER_ENTITY_MAX = 2_000;
/** Facts read per entity; beyond it the first by name, key and time are kept, and the cut is counted. */
export const FACTS_PER_ENTITY_MAX = 20_000;
/** References per query, so that a statement stays small. */
const IDS_PER_QUERY_MAX = 5_000;
const NS_PER_MS = 1_000_000n;
const NS_PER_DAY = 86_400_000_000_000n;

/** What is evaluated at once: an entity, and for daily rules one UTC day (`YYYY-MM-DD`, else ''). */
export interface Unit {
  readonly entity: string;
  readonly day: string;
}

export interface UnitFindings {
  readonly unit: Unit;
  readonly findings: readonly FindingContent[];
  /** Tokens that the rule asked for beyond the entity's own events. */
  readonly followedTokens: readonly string[];
}

export interface PageResult {
  readonly results: readonly UnitFindings[];
  readonly eventsRead: number;
  /** Entities whose history was cut at `EVENTS_PER_ENTITY_MAX`. */
  readonly truncated: number;
}

/** One page of units that the scope concerns, in order, after `after`. */
export async function readUnits(
  store: Store,
  detector: BoundDetector,
  scope: CandidateScope,
  page: { readonly after: Unit | undefined; readonly limit: number },
): Promise<readonly Unit[]> {
  const candidates = detector.candidates(scope);
  const isDaily = detector.docs.episodes === 'daily';
  const days = isDaily ? await daysDecidedBy(store, detector.lookbackMs) : sql`''`;
  const after =
    page.after === undefined
      ? sql``
      : sql`WHERE (entity, day) > (${param.string(page.after.entity)}, ${param.string(page.after.day)})`;
  return store.query<Unit>(sql`
    SELECT entity, day FROM (SELECT toString(entity) AS entity, ${days} AS day FROM (${candidates}) WHERE entity != '')
    ${after} GROUP BY entity, day ORDER BY entity, day LIMIT ${param.uint(page.limit)}`);
}

/** How far ahead of the store's clock an event may be stamped and still be judged in whatever order, s. */
const AHEAD_SECONDS = 3_600;
const MS_PER_DAY = 86_400_000;

/**
 * An event decides about every day that a look-back reaches it from: a late one may explain what followed weeks after.
 * Days to come are left out, since what happens then asks for itself; and so are days without an event of anybody.
 */
async function daysDecidedBy(store: Store, lookbackMs: number): Promise<Sql> {
  const reach = sql`at + toIntervalMillisecond(${param.uint(lookbackMs)})`;
  const limit = sql`greatest(at, now64(9, 'UTC')) + toIntervalSecond(${param.uint(AHEAD_SECONDS)})`;
  const days = sql`arrayMap(d -> toString(toDate(d)), range(toUInt32(toDate(at, 'UTC')), toUInt32(toDate(least(${reach}, ${limit}), 'UTC')) + 1))`;
  if (lookbackMs <= MS_PER_DAY) return sql`arrayJoin(${days})`;
  const stored = await readStoredDays(store);
  return sql`arrayJoin(arrayFilter(d -> d IN ${param.strings(stored)}, ${days}))`;
}

/** UTC days with events, told by the partitions' names. */
async function readStoredDays(store: Store): Promise<readonly string[]> {
  const rows = await store.query<{ day: string }>(sql`
    SELECT DISTINCT partition AS day FROM system.parts
    WHERE active AND database = 'grantscope' AND table = 'auth_events' ORDER BY day`);
  return rows.map((r) => r.day);
}

/**
 * Evaluates units: reads their histories and lets the rule conclude. The same live and in a backtest.
 *
 * A thing that was renamed by a rotation of keys is evaluated once, under its oldest reference and over the
 * events of all its references; its other references come back without findings, so that what was concluded
 * before the names were known to be one is withdrawn.
 */
export async function evaluateUnits(
  store: Store,
  detector: BoundDetector,
  tenant: string,
  clients: ClientLookup,
  units: readonly Unit[],
): Promise<PageResult> {
  const byDay = new Map<string, Unit[]>();
  for (const unit of units) byDay.set(unit.day, [...(byDay.get(unit.day) ?? []), unit]);
  const names = await namesOfTenant(store, tenant);
  const results: UnitFindings[] = [];
  let eventsRead = 0;
  let truncated = 0;
  for (const [day, ofDay] of byDay) {
    const window = day === '' ? undefined : dayWindow(day, detector.lookbackMs);
    const asked = ofDay.map((u) => u.entity);
    const known = await names(asked);
    const entities = [...new Set(asked.map((e) => known.canonical(e)))];
    const selection = { clients, window, entities };
    const histories = await readHistories(store, detector, tenant, selection, names);
    eventsRead += histories.eventsRead;
    truncated += histories.truncated;
    for (const entity of entities) {
      const events = histories.events.get(entity) ?? [];
      const facts = histories.facts.get(entity) ?? [];
      const input = { entity, events, facts, clients, window };
      const signals = events.length === 0 ? [] : detector.evaluate(input);
      const findings = signals.map((s) => toFinding(detector, tenant, entity, s));
      const followedTokens = histories.followedTokens.get(entity) ?? [];
      results.push({ unit: { entity, day }, findings, followedTokens });
      for (const other of known.namesOf(entity).slice(1))
        results.push({ unit: { entity: other, day }, findings: [], followedTokens: [] });
    }
  }
  return { results, eventsRead, truncated };
}

function dayWindow(day: string, lookbackMs: number): DayWindow {
  const from = nsOfClickHouseTime(`${day} 00:00:00`);
  return { readFrom: from - BigInt(lookbackMs) * NS_PER_MS, from, to: from + NS_PER_DAY };
}

interface Selection {
  readonly clients: ClientLookup;
  readonly window: DayWindow | undefined;
  readonly entities: readonly string[];
}

interface Histories {
  /** By entity, under every reference that a use of the token may carry. */
  readonly followedTokens: ReadonlyMap<string, readonly string[]>;
  readonly events: ReadonlyMap<string, readonly AuthEvent[]>;
  readonly facts: ReadonlyMap<string, readonly EntityFact[]>;
  readonly eventsRead: number;
  readonly truncated: number;
}

/** A history row: which event belongs to which entity. */
interface Mention {
  readonly entity: string;
  readonly event_id: string;
  readonly at: string;
}

async function readHistories(
  store: Store,
  detector: BoundDetector,
  tenant: string,
  selection: Selection,
  names: NameReader,
): Promise<Histories> {
  const known = await names(selection.entities);
  const entities = selection.entities.flatMap((e) => known.namesOf(e));
  const history = detector.history({ tenant, ...selection, entities });
  const rows = await readMentions(store, history);
  const truncated = countFull(rows);
  const mentions = rows.map((m) => ({ ...m, entity: known.canonical(m.entity) }));
  const events = new EventCache(store, tenant, detector.docs.kinds, names);
  await events.load(mentions);
  const direct = collect(mentions, events);
  const asked = detector.facts({ tenant, ...selection, entities });
  const facts = asked === undefined ? NO_FACTS : await readFacts(store, asked, known, names);
  const followed = new Map<string, FollowRefs>();
  for (const entity of selection.entities) {
    const own = direct.get(entity) ?? [];
    const { clients, window } = selection;
    if (own.length > 0)
      followed.set(
        entity,
        detector.follow({
          entity,
          events: own,
          facts: facts.byEntity.get(entity) ?? [],
          clients,
          window,
        }),
      );
  }
  const more = await readFollowed(store, tenant, followed, names);
  await events.load(more);
  return {
    followedTokens: await allNames(followed, names),
    events: collect([...mentions, ...more], events),
    facts: facts.byEntity,
    eventsRead: events.size,
    truncated: truncated + countFull(more) + facts.truncated,
  };
}

interface Facts {
  readonly byEntity: ReadonlyMap<string, readonly EntityFact[]>;
  /** Entities whose facts were cut. */
  readonly truncated: number;
}

const NO_FACTS: Facts = { byEntity: new Map(), truncated: 0 };

/** A rule's facts by canonical entity, in an order that does not depend on how they were stored. */
async function readFacts(
  store: Store,
  asked: Sql,
  known: ReferenceNames,
  names: NameReader,
): Promise<Facts> {
  const rows = await store.query<{
    entity: string;
    name: string;
    key: string;
    t: string;
    value: number;
  }>(sql`
    SELECT toString(entity) AS entity, toString(name) AS name, toString(key) AS key, at AS t, toFloat64(value) AS value FROM (${asked})
    ORDER BY entity, name, key, t, value LIMIT ${param.uint(FACTS_PER_ENTITY_MAX)} BY entity`);
  // A key may be a reference, too: a network, for instance.
  const keys = await names(rows.map((r) => r.key));
  const byEntity = new Map<string, EntityFact[]>();
  for (const { entity, t, key, ...fact } of rows) {
    const canonical = known.canonical(entity);
    const own = byEntity.get(canonical) ?? [];
    own.push({ ...fact, key: keys.canonical(key), at: nsOfClickHouseTime(t) });
    byEntity.set(canonical, own);
  }
  // An entity with several names has as many sorted runs; and ClickHouse sorts bytes, not code units.
  for (const own of byEntity.values()) own.sort(byNameKeyTime);
  const truncated = [...byEntity.values()].filter((f) => f.length >= FACTS_PER_ENTITY_MAX).length;
  return { byEntity, truncated };
}

function byNameKeyTime(a: EntityFact, b: EntityFact): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return a.at < b.at ? -1 : a.at > b.at ? 1 : a.value - b.value;
}

async function allNames(
  followed: ReadonlyMap<string, FollowRefs>,
  names: NameReader,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const tokensOf = [...followed].map(([entity, f]) => [entity, f.tokens ?? []] as const);
  const known = await names(tokensOf.flatMap(([, tokens]) => tokens));
  return new Map(tokensOf.map(([entity, all]) => [entity, all.flatMap((t) => known.namesOf(t))]));
}

/** Adds the named limit to a history, after taking out repeated rows. */
function readMentions(store: Store, history: Sql): Promise<Mention[]> {
  return store.query<Mention>(sql`
    SELECT entity, event_id, t AS at FROM (
      SELECT entity, event_id, any(at) AS t FROM (${history}) GROUP BY entity, event_id
    ) ORDER BY entity, t, event_id LIMIT ${param.uint(EVENTS_PER_ENTITY_MAX)} BY entity`);
}

function countFull(mentions: readonly Mention[]): number {
  const counts = new Map<string, number>();
  for (const m of mentions) counts.set(m.entity, (counts.get(m.entity) ?? 0) + 1);
  return [...counts.values()].filter((n) => n >= EVENTS_PER_ENTITY_MAX).length;
}

/** Rows of the events that mention what `follow` asked for, by the entity that asked. */
async function readFollowed(
  store: Store,
  tenant: string,
  followed: ReadonlyMap<string, FollowRefs>,
  names: NameReader,
): Promise<Mention[]> {
  const known = await names(
    [...followed.values()].flatMap((f) => [f.tokens, f.families, f.grants]).flatMap((r) => r ?? []),
  );
  const ask = async (
    part: keyof FollowRefs,
    statement: (refs: readonly string[]) => Sql,
  ): Promise<Mention[]> => {
    const owners = new Map<string, string[]>();
    for (const [entity, refs] of followed)
      for (const ref of (refs[part] ?? []).flatMap((r) => known.namesOf(r)))
        owners.set(ref, [...(owners.get(ref) ?? []), entity]);
    const rows: Mention[] = [];
    for (const refs of chunks([...owners.keys()], IDS_PER_QUERY_MAX))
      rows.push(...(await readMentions(store, statement(refs))));
    return rows.flatMap((r) => (owners.get(r.entity) ?? []).map((entity) => ({ ...r, entity })));
  };
  const ofTenant = sql`tenant = ${param.string(tenant)}`;
  return [
    ...(await ask(
      'tokens',
      (refs) =>
        sql`SELECT toString(token_ref) AS entity, event_id, time AS at FROM grantscope.token_events WHERE ${ofTenant} AND token_ref IN ${param.uuids(refs)}`,
    )),
    ...(await ask(
      'families',
      (refs) =>
        sql`SELECT toString(family_ref) AS entity, event_id, time AS at FROM grantscope.token_events WHERE ${ofTenant} AND token_ref IN (SELECT token_ref FROM grantscope.token_links WHERE ${ofTenant} AND anchor_ref IN ${param.uuids(refs)}) AND family_ref IN ${param.uuids(refs)} AND kind = 'grant_revoked'`,
    )),
    ...(await ask(
      'grants',
      (refs) =>
        sql`SELECT toString(grant_ref) AS entity, event_id, time AS at FROM grantscope.auth_events WHERE ${ofTenant} AND kind = 'grant_revoked' AND grant_ref IN ${param.uuids(refs)}`,
    )),
  ];
}

function* chunks<T>(list: readonly T[], size: number): Generator<readonly T[]> {
  for (let i = 0; i < list.length; i += size) yield list.slice(i, i + size);
}

/** Whole events by id, read once a page. */
class EventCache {
  readonly #store: Store;
  readonly #where: Sql;
  readonly #names: NameReader;
  readonly #events = new Map<string, AuthEvent>();

  constructor(store: Store, tenant: string, kinds: readonly string[], names: NameReader) {
    this.#store = store;
    this.#names = names;
    this.#where = sql`tenant = ${param.string(tenant)} AND kind IN ${param.strings(kinds)}`;
  }

  get size(): number {
    return this.#events.size;
  }

  get(id: string): AuthEvent | undefined {
    return this.#events.get(id);
  }

  async load(mentions: readonly Mention[]): Promise<void> {
    const times = new Map<string, bigint>();
    for (const m of mentions)
      if (!this.#events.has(m.event_id)) times.set(m.event_id, nsOfClickHouseTime(m.at));
    // Neighbours in time together: the time bounds then spare whole partitions.
    const ids = [...times].sort((a, b) => (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0));
    for (const part of chunks(ids, IDS_PER_QUERY_MAX)) {
      const from = part[0]?.[1] ?? 0n;
      const to = part.at(-1)?.[1] ?? 0n;
      const where = joinSql(
        [
          this.#where,
          sql`time BETWEEN ${timeSql(from)} AND ${timeSql(to)}`,
          sql`event_id IN ${param.uuids(part.map(([id]) => id))}`,
        ],
        ' AND ',
      );
      const events = await readEvents(this.#store, where);
      const known = await this.#names(events.flatMap(refsOf));
      for (const event of events) this.#keep(renamed(event, known));
    }
  }

  /** Two records with one id should be equal; where they are not, the choice must not depend on their order. */
  #keep(event: AuthEvent): void {
    const before = this.#events.get(event.event_id);
    if (before === undefined || contentOf(event) < contentOf(before))
      this.#events.set(event.event_id, event);
  }
}

function contentOf(event: AuthEvent): string {
  return JSON.stringify(event, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
}

/** The events of each entity, once each, sorted by (time, event_id). */
function collect(
  mentions: readonly Mention[],
  cache: EventCache,
): ReadonlyMap<string, readonly AuthEvent[]> {
  const byEntity = new Map<string, Map<string, AuthEvent>>();
  for (const { entity, event_id } of mentions) {
    const event = cache.get(event_id);
    if (event === undefined) continue;
    const own = byEntity.get(entity) ?? new Map<string, AuthEvent>();
    own.set(event_id, event);
    byEntity.set(entity, own);
  }
  return new Map(
    [...byEntity].map(([entity, events]) => [entity, [...events.values()].sort(byTimeAndId)]),
  );
}

function byTimeAndId(a: AuthEvent, b: AuthEvent): number {
  if (a.time !== b.time) return a.time < b.time ? -1 : 1;
  return a.event_id < b.event_id ? -1 : a.event_id > b.event_id ? 1 : 0;
}
