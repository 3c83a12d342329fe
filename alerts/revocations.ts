import { NIL_REF } from '../model/ids.ts';
import { param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';

/** How a use of a token is told, at gateways and APIs. */
const USES = ['api_accessed', 'token_validated', 'token_rejected', 'userinfo_accessed'];
const REVOCATIONS = ['token_revoked', 'grant_revoked'];
/** Tokens that are judged at a time. */
const BATCH = 500;
/** Rows become visible a little after the time they are stamped with; looked at again for this long, ms. */
const OVERLAP_MS = 300_000;
/** Names that one token has had, by changes of the hash key: how often further ones are looked for. */
const NAMES_HOPS_MAX = 4;

/** A use of a revoked token. */
export interface TokenUse {
  readonly atMs: number;
  readonly isAccepted: boolean;
  readonly source_id: string;
  /** The API as it names itself; '' where none is named. */
  readonly service: string;
  readonly issuer: string;
}

/** A token that was revoked, and every use of it that is stored. */
export interface Revocation {
  /** The least of its names. */
  readonly tokenRef: string;
  /** The other ones: it may have been judged under one of them before this name was learnt. */
  readonly otherRefs: readonly string[];
  readonly atMs: number;
  readonly uses: readonly TokenUse[];
}

/**
 * Finds revoked tokens about which something new is stored. A token is revoked by name (`token_revoked`), or with its grant or family
 * (`grant_revoked`), if it was issued before that. While the hash key changes a token has two names; uses under any of them
 * are its uses.
 */
export class RevocationReader {
  readonly #store: Store;
  readonly #tenant: string;
  #seenToMs = 0;

  constructor(store: Store, tenant: string) {
    this.#store = store;
    this.#tenant = tenant;
  }

  /**
   * Calls `take` with batches of what was touched since the last call that ended well; the first call sees everything
   * since `fromMs`.
   */
  async eachTouched(
    fromMs: number,
    nowMs: number,
    take: (revocations: readonly Revocation[]) => Promise<void>,
  ): Promise<void> {
    const refs = await this.#touched(fromMs);
    for (let i = 0; i < refs.length; i += BATCH)
      await take(await this.#read(refs.slice(i, i + BATCH), fromMs));
    this.#seenToMs = nowMs - OVERLAP_MS;
  }

  #revoked(fromMs: number): Sql {
    const of = sql`tenant = ${param.string(this.#tenant)} AND time >= ${param.timeMs(fromMs)} AND outcome IN ('success', 'unknown')`;
    return sql`SELECT DISTINCT arrayJoin(arrayFilter((r, role) -> role = 'revoked', \`tokens.ref\`, \`tokens.role\`)) AS ref FROM grantscope.auth_events WHERE ${of} AND kind IN ${param.strings(REVOCATIONS)}
      UNION DISTINCT SELECT token_ref AS ref FROM grantscope.token_links WHERE tenant = ${param.string(this.#tenant)} AND anchor_ref IN (SELECT arrayJoin(arrayPushBack(\`tokens.family_ref\`, grant_ref)) AS anchor FROM grantscope.auth_events WHERE ${of} AND kind = 'grant_revoked' AND anchor != ${param.uuid(NIL_REF)})`;
  }

  /** Names of revoked tokens that were mentioned since the last round, sorted. */
  async #touched(fromMs: number): Promise<readonly string[]> {
    const since =
      this.#seenToMs === 0 ? sql`` : sql` AND inserted_at >= ${param.timeMs(this.#seenToMs)}`;
    const revoked = this.#revoked(fromMs);
    const kinds = [...USES, ...REVOCATIONS];
    const rows = await this.#store.query<{ ref: string }>(
      sql`SELECT DISTINCT ref FROM (
        SELECT arrayJoin(\`tokens.ref\`) AS ref FROM grantscope.auth_events WHERE tenant = ${param.string(this.#tenant)} AND time >= ${param.timeMs(fromMs)} AND kind IN ${param.strings(kinds)}${since}
        UNION ALL
        SELECT token_ref AS ref FROM grantscope.token_links WHERE tenant = ${param.string(this.#tenant)} AND anchor_ref IN (SELECT arrayJoin(arrayPushBack(\`tokens.family_ref\`, grant_ref)) FROM grantscope.auth_events WHERE tenant = ${param.string(this.#tenant)} AND time >= ${param.timeMs(fromMs)} AND kind = 'grant_revoked'${since})
      ) WHERE ref != ${param.uuid(NIL_REF)} AND ref IN (${revoked}) ORDER BY ref`,
    );
    return rows.map((r) => r.ref);
  }

  async #read(refs: readonly string[], fromMs: number): Promise<readonly Revocation[]> {
    const names = await this.#namesOf(refs);
    const all = [...names.keys()];
    const mentions = await this.#mentions(all, fromMs);
    const grants = await this.#grantRevocations(all, fromMs);
    const found = new Map<string, Revocation>();
    for (const group of new Set(names.values())) {
      const own = mentions.filter((m) => group.has(m.ref));
      const issued = own.filter((m) => m.role === 'issued').map((m) => m.atMs);
      const issuedMs = issued.length === 0 ? undefined : Math.min(...issued);
      const ends = [
        ...own.filter((m) => m.role === 'revoked' && m.isDone),
        ...grants.filter((g) => group.has(g.ref) && issuedMs !== undefined && issuedMs <= g.atMs),
      ].sort((a, b) => a.atMs - b.atMs || (a.ref < b.ref ? -1 : 1));
      const [end] = ends;
      if (end === undefined) continue;
      const [tokenRef = end.ref, ...otherRefs] = [...group].sort();
      found.set(tokenRef, { tokenRef, otherRefs, atMs: end.atMs, uses: usesOf(own) });
    }
    return [...found.values()];
  }

  /** Every name that a token is known by, by each of its names: from events that mention two of them side by side. */
  async #namesOf(refs: readonly string[]): Promise<ReadonlyMap<string, Set<string>>> {
    const groups = new Map(refs.map((ref) => [ref, new Set([ref])]));
    let fresh: readonly string[] = refs;
    for (let hop = 0; hop < NAMES_HOPS_MAX && fresh.length > 0; hop += 1) {
      const pairs = await this.#store.query<{ a: string; b: string }>(
        sql`SELECT DISTINCT a, b FROM (SELECT arrayJoin(arrayFilter(p -> p.3 = 'hmac_next', arrayZip(arrayPushFront(arrayPopBack(\`tokens.ref\`), toUUID(${param.string(NIL_REF)})), \`tokens.ref\`, \`tokens.ref_kind\`))) AS pair, pair.1 AS a, pair.2 AS b FROM grantscope.auth_events WHERE tenant = ${param.string(this.#tenant)} AND event_id IN (SELECT event_id FROM grantscope.token_events WHERE tenant = ${param.string(this.#tenant)} AND token_ref IN ${param.uuids(fresh)}) AND has(\`tokens.ref_kind\`, 'hmac_next')) WHERE a IN ${param.uuids(fresh)} OR b IN ${param.uuids(fresh)}`,
      );
      const learnt: string[] = [];
      for (const { a, b } of pairs) {
        for (const name of [a, b]) if (!groups.has(name)) learnt.push(name);
        const joined = new Set([...(groups.get(a) ?? [a]), ...(groups.get(b) ?? [b])]);
        for (const name of joined) groups.set(name, joined);
      }
      fresh = learnt;
    }
    return groups;
  }

  async #mentions(refs: readonly string[], fromMs: number): Promise<readonly Mention[]> {
    const rows = await this.#store.query<MentionRow>(
      sql`SELECT ref, role, kind, outcome, toUnixTimestamp64Milli(time) AS at_ms, source_id, if(endpoint = 'api', resource[1], '') AS service, issuer, http_status FROM grantscope.auth_events ARRAY JOIN \`tokens.ref\` AS ref, \`tokens.role\` AS role WHERE tenant = ${param.string(this.#tenant)} AND phase != 'attempt' AND ref IN ${param.uuids(refs)} AND (role = 'issued' OR (time >= ${param.timeMs(fromMs)} AND (kind IN ${param.strings(REVOCATIONS)} AND role = 'revoked' OR kind IN ${param.strings(USES)} AND role = 'presented'))) AND event_id IN (SELECT event_id FROM grantscope.token_events WHERE tenant = ${param.string(this.#tenant)} AND token_ref IN ${param.uuids(refs)})`,
    );
    return rows.map((row) => ({
      ...row,
      atMs: Number(row.at_ms),
      isDone: row.outcome === 'success' || row.outcome === 'unknown',
    }));
  }

  /** Revocations of the grant or family of a token. */
  async #grantRevocations(
    refs: readonly string[],
    fromMs: number,
  ): Promise<readonly { readonly ref: string; readonly atMs: number }[]> {
    const rows = await this.#store.query<{ ref: string; at_ms: string }>(
      sql`SELECT l.token_ref AS ref, toUnixTimestamp64Milli(min(e.time)) AS at_ms FROM (SELECT time, arrayJoin(arrayPushBack(\`tokens.family_ref\`, grant_ref)) AS anchor FROM grantscope.auth_events WHERE tenant = ${param.string(this.#tenant)} AND time >= ${param.timeMs(fromMs)} AND kind = 'grant_revoked' AND outcome IN ('success', 'unknown')) AS e INNER JOIN (SELECT anchor_ref, token_ref FROM grantscope.token_links WHERE tenant = ${param.string(this.#tenant)} AND token_ref IN ${param.uuids(refs)}) AS l ON l.anchor_ref = e.anchor WHERE e.anchor != ${param.uuid(NIL_REF)} GROUP BY ref, e.time`,
    );
    return rows.map((row) => ({ ref: row.ref, atMs: Number(row.at_ms) }));
  }
}

interface MentionRow {
  readonly ref: string;
  readonly role: string;
  readonly kind: string;
  readonly outcome: string;
  readonly at_ms: string;
  readonly source_id: string;
  readonly service: string;
  readonly issuer: string;
  readonly http_status: number;
}

interface Mention extends MentionRow {
  readonly atMs: number;
  /** The event says that it happened, or does not say that it did not. */
  readonly isDone: boolean;
}

/** Acceptances and refusals; a call that failed for another reason says nothing about the token. */
function usesOf(mentions: readonly Mention[]): readonly TokenUse[] {
  return mentions.flatMap((m) => {
    if (m.role !== 'presented' || !USES.includes(m.kind)) return [];
    const isAccepted = m.kind !== 'token_rejected' && m.outcome === 'success';
    const isDenied = m.kind === 'token_rejected' || m.http_status === 401 || m.http_status === 403;
    if (!isAccepted && !isDenied) return [];
    const { atMs, source_id, service, issuer } = m;
    return [{ atMs, isAccepted, source_id, service, issuer }];
  });
}
