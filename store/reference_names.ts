import type { AuthEvent, TokenMention } from '../model/auth_event.ts';
import { isUuid, type Ref } from '../model/ids.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from './client.ts';

/**
 * One thing may have several references: a rotation of keys gives it another one (migration 0013). They form a
 * chain from key to key, and the oldest is the thing's name for readers, so that a conclusion about it stays
 * one conclusion when the key changes.
 */
export interface ReferenceNames {
  /** The oldest known reference of what `ref` names; `ref` itself where there is no other. */
  canonical(ref: Ref): Ref;
  /** All references of what `ref` names, the canonical one first. */
  namesOf(ref: Ref): readonly Ref[];
}

/** Keys that a thing's references are followed through, in each direction. */
export const ROTATIONS_MAX = 16;
/** References per query, so that a statement stays small. */
const REFS_PER_QUERY_MAX = 5_000;

/** The names where no key was ever rotated. */
const NO_OTHER_NAMES: ReferenceNames = {
  canonical: (ref) => ref,
  namesOf: (ref) => [ref],
};

/** Looks up the names of what references name. */
export interface NameReader {
  (refs: Iterable<string>): Promise<ReferenceNames>;
  /** False where nothing of the tenant was ever renamed. */
  readonly hasNames: boolean;
}

/** The reader for a tenant: one small query now, and none later where nothing was ever renamed. */
export async function namesOfTenant(store: Store, tenant: string): Promise<NameReader> {
  const hasNames = await hasReferenceNames(store, tenant);
  const read = hasNames
    ? (refs: Iterable<string>) => readReferenceNames(store, tenant, refs)
    : () => Promise.resolve(NO_OTHER_NAMES);
  return Object.assign(read, { hasNames });
}

interface NameRow {
  readonly ref: Ref;
  readonly relation: 'previous' | 'next';
  readonly other: Ref;
}

/** Whether anything of the tenant has more than one reference: spares further questions where not. */
export async function hasReferenceNames(store: Store, tenant: string): Promise<boolean> {
  const rows = await store.query(
    sql`SELECT 1 AS found FROM grantscope.reference_names WHERE tenant = ${param.string(tenant)} LIMIT 1`,
  );
  return rows.length > 0;
}

/**
 * Entities of a rule's findings that turned out to be a later name of something: an event that came late can
 * join names after a conclusion. Few, since a finding is concluded again under the older name.
 */
export async function readRenamedEntities(
  store: Store,
  tenant: string,
  ruleId: string,
): Promise<readonly Ref[]> {
  const rows = await store.query<{ ref: Ref }>(
    sql`SELECT DISTINCT toString(ref) AS ref FROM grantscope.reference_names WHERE tenant = ${param.string(tenant)} AND relation = 'previous' AND reference_names.ref IN (SELECT toUUIDOrZero(entity_ref) FROM grantscope.findings FINAL WHERE tenant = ${param.string(tenant)} AND rule_id = ${param.string(ruleId)} AND state != 'superseded') ORDER BY ref`,
  );
  return rows.map((r) => r.ref);
}

/** The names of what these references name. Texts that are no reference are their own name. */
export async function readReferenceNames(
  store: Store,
  tenant: string,
  refs: Iterable<string>,
): Promise<ReferenceNames> {
  const graph = new NameGraph();
  let asked = [...new Set(refs)].filter(isUuid);
  for (let round = 0; round < 2 * ROTATIONS_MAX && asked.length > 0; round += 1) {
    asked = graph.add(asked, await readRows(store, tenant, asked));
  }
  return graph;
}

async function readRows(store: Store, tenant: string, refs: readonly Ref[]): Promise<NameRow[]> {
  const rows: NameRow[] = [];
  for (let i = 0; i < refs.length; i += REFS_PER_QUERY_MAX) {
    const part = param.uuids(refs.slice(i, i + REFS_PER_QUERY_MAX));
    rows.push(
      ...(await store.query<NameRow>(
        sql`SELECT DISTINCT toString(ref) AS ref, toString(relation) AS relation, toString(other) AS other FROM grantscope.reference_names WHERE tenant = ${param.string(tenant)} AND reference_names.ref IN ${part}`,
      )),
    );
  }
  return rows;
}

class NameGraph implements ReferenceNames {
  readonly #seen = new Set<Ref>();
  readonly #previous = new Map<Ref, Ref>();
  readonly #next = new Map<Ref, Set<Ref>>();

  /** Takes in what was found about `asked`; gives the references that were not asked about yet. */
  add(asked: readonly Ref[], rows: readonly NameRow[]): Ref[] {
    for (const ref of asked) this.#seen.add(ref);
    const found = new Set<Ref>();
    for (const { ref, relation, other } of rows) {
      const [earlier, later] = relation === 'next' ? [ref, other] : [other, ref];
      this.#link(earlier, later);
      if (!this.#seen.has(other)) found.add(other);
    }
    return [...found];
  }

  #link(earlier: Ref, later: Ref): void {
    // One key gives one name; where senders disagree, the choice must not depend on the order of rows.
    const before = this.#previous.get(later);
    if (before === undefined || earlier < before) this.#previous.set(later, earlier);
    const names = this.#next.get(earlier) ?? new Set<Ref>();
    names.add(later);
    this.#next.set(earlier, names);
  }

  canonical(ref: Ref): Ref {
    let name = ref;
    for (let step = 0; step < ROTATIONS_MAX; step += 1) {
      const earlier = this.#previous.get(name);
      if (earlier === undefined || earlier === ref) break;
      name = earlier;
    }
    return name;
  }

  namesOf(ref: Ref): readonly Ref[] {
    const names = [this.canonical(ref)];
    // The list grows while it is walked; a name that is in it is not taken again, so a ring of names ends.
    for (const name of names)
      for (const later of [...(this.#next.get(name) ?? [])].sort())
        if (!names.includes(later)) names.push(later);
    return names.includes(ref) ? names : [...names, ref];
  }
}

/** Every reference in an event. */
export function refsOf(event: AuthEvent): Ref[] {
  return [
    event.subject.ref,
    event.actor.ref,
    event.session_ref,
    event.grant_ref,
    event.net.client_ip,
    event.net.network,
    ...event.tokens.flatMap((t) => [t.ref, t.family_ref, t.parent_ref]),
  ].filter((ref) => ref !== '');
}

/**
 * The event with each thing under its canonical name, and without the second mentions of tokens that a
 * rotation adds: what a reader compares.
 */
export function renamed(event: AuthEvent, names: ReferenceNames): AuthEvent {
  if (names === NO_OTHER_NAMES) return event;
  const name = (ref: Ref): Ref => (ref === '' ? '' : names.canonical(ref));
  return {
    ...event,
    subject: { ...event.subject, ref: name(event.subject.ref) },
    actor: { ...event.actor, ref: name(event.actor.ref) },
    session_ref: name(event.session_ref),
    grant_ref: name(event.grant_ref),
    net: {
      ...event.net,
      client_ip: name(event.net.client_ip),
      network: name(event.net.network),
    },
    tokens: event.tokens
      .filter((t) => t.ref_kind !== 'hmac_next')
      .map((t): TokenMention => ({
        ...t,
        ref: name(t.ref),
        family_ref: name(t.family_ref),
        parent_ref: name(t.parent_ref),
      })),
  };
}
