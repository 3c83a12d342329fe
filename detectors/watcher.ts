import type {
  BoundDetector,
  FacetWatch,
  MarkWatch,
  SeenFacets,
  WatchStream,
} from '../model/define_detector.ts';
import { joinSql, param, sql, type Sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import type { News } from './news.ts';
import { NO_SLOT, WatchMemory } from './watch_memory.ts';

/** Limits of what the live pass keeps in memory; the defaults are `WATCH_LIMITS`. */
export interface WatchLimits {
  /** Entities that are remembered, over all rules; a power of two. 26 bytes each. */
  readonly memorySlots: number;
  /** Rows that one stream gives at once; beyond it, the rule's whole query of candidates is run. */
  readonly streamRowsMax: number;
  /** Tokens per rule whose use concerns another entity's finding. */
  readonly followedMax: number;
}

/** 2^21 slots are 55 MB, and at 20,000 events a second hold the tokens of about five minutes. */
export const WATCH_LIMITS: WatchLimits = {
  memorySlots: 2 ** 21,
  streamRowsMax: 500_000,
  followedMax: 100_000,
};

/** What a first look at new events gives. */
export interface Look {
  /** Entities to evaluate, each once. */
  readonly entities: readonly string[];
  /** False: the first look cannot tell, so the rule's whole query of candidates has to. */
  readonly isSure: boolean;
}

const UNSURE: Look = { entities: [], isSure: false };
/** Words of 32 bits of a reference in a row. */
const KEY_WORDS = 4;

/** Rows of a stream: 4 words of the key, then one per facet. */
interface Rows {
  readonly words: Uint32Array;
  readonly width: number;
  readonly count: number;
}

/** Per rule: which tokens' use concerns which entities. */
type Followed = Map<number, Set<string>>;

/** What is remembered of a rule with marks. */
interface MarkState {
  hasMarks: boolean;
  /** Latest event time that was read, s. */
  latest: number;
}

/**
 * Runs the watches of rules over new events: which entities are worth a look-up? Everything it knows can be lost: the
 * sweep finds what a look did not name, and counts it (`grantscope_detector_sweep_changes_total`).
 */
export class Watcher {
  readonly #store: Store;
  readonly #tenant: string;
  readonly #limits: WatchLimits;
  readonly #memory: WatchMemory;
  readonly #followed = new Map<string, Followed>();
  readonly #marks = new Map<string, MarkState>();
  readonly #salts = new Map<string, number>();
  #followedEvictions = 0;

  constructor(store: Store, tenant: string, limits: WatchLimits) {
    this.#store = store;
    this.#tenant = tenant;
    this.#limits = limits;
    this.#memory = new WatchMemory(limits.memorySlots);
  }

  /** Entities and followed tokens that had to be forgotten since the start. */
  get evictions(): number {
    return this.#memory.evictions + this.#followedEvictions;
  }

  /** Says that events up to this event time, s, may have been read by an earlier process. */
  startAfter(rule: string, latest: number): void {
    this.#marks.set(rule, { hasMarks: false, latest });
  }

  /** The first look of a rule with a watch at the events of `condition`. */
  async look(detector: BoundDetector, condition: Sql, news: News): Promise<Look> {
    this.#memory.nextBatch();
    const { watch, docs } = detector;
    if (watch === undefined) return UNSURE;
    return watch.by === 'facets'
      ? this.#lookAtFacets(docs.id, watch, condition, news)
      : this.#lookAtMarks(docs.id, watch, condition, news);
  }

  /** From now on a use of one of these tokens names the entity. */
  follow(rule: string, entity: string, tokens: readonly string[]): void {
    const followed = this.#followed.get(rule) ?? new Map<number, Set<string>>();
    this.#followed.set(rule, followed);
    for (const token of tokens) {
      if (token === entity) continue;
      const key = followKey(wordsOfRef(token), 0);
      const entities = followed.get(key) ?? new Set();
      // Moved to the end: the one that was asked for least recently goes first.
      followed.delete(key);
      followed.set(key, entities.add(entity));
      if (followed.size <= this.#limits.followedMax) continue;
      const [oldest] = followed.keys();
      if (oldest !== undefined) followed.delete(oldest);
      this.#followedEvictions += 1;
    }
  }

  async #lookAtFacets(rule: string, watch: FacetWatch, condition: Sql, news: News): Promise<Look> {
    const entities = new Set<string>();
    const rows = await this.#read(watch.stream, condition, news);
    if (rows === undefined) return UNSURE;
    const memory = this.#memory;
    const salt = this.#saltOf(rule);
    let slot = NO_SLOT;
    const seen: SeenFacets = {
      has: (facet) => memory.valueOf(slot, facet) !== 0,
      varies: (facet) => memory.varies(slot, facet),
    };
    for (let i = 0; i < rows.count; i += 1) {
      const at = i * rows.width;
      slot = memory.touch(lowOf(rows.words, at, salt), highOf(rows.words, at));
      for (let f = 0; f < rows.width - KEY_WORDS; f += 1)
        memory.note(slot, f, rows.words[at + KEY_WORDS + f] ?? 0);
      if (!watch.isHot(seen)) continue;
      memory.makeHot(slot);
      entities.add(refOf(rows.words, at));
    }
    const followed = this.#followed.get(rule);
    if (watch.followed === undefined || followed === undefined)
      return { entities: [...entities], isSure: true };
    const uses = await this.#read(watch.followed, condition, news);
    if (uses === undefined) return UNSURE;
    for (let i = 0; i < uses.count; i += 1)
      for (const entity of followed.get(followKey(uses.words, i * uses.width)) ?? [])
        entities.add(entity);
    return { entities: [...entities], isSure: true };
  }

  async #lookAtMarks(rule: string, watch: MarkWatch, condition: Sql, news: News): Promise<Look> {
    const state = this.#marks.get(rule) ?? { hasMarks: false, latest: 0 };
    this.#marks.set(rule, state);
    const entities = new Set<string>();
    const links = await this.#read(watch.links, condition, news);
    const marks = await this.#read(watch.marks, condition, news);
    state.hasMarks ||= (marks?.count ?? 1) > 0;
    const uses = state.hasMarks ? await this.#read(watch.uses, condition, news) : NO_ROWS;
    if (links === undefined || marks === undefined || uses === undefined) return UNSURE;
    const salt = this.#saltOf(rule);
    // Links first: a mark of the same batch then knows its tokens, and a use its marks.
    this.#noteLinks(links, salt, entities);
    const lateBefore = state.latest - watch.allowedMs / 1_000;
    const isSure = this.#noteMarks(marks, salt, lateBefore, entities);
    for (const rowsOfTokens of [links, uses])
      for (let i = 0; i < rowsOfTokens.count; i += 1) {
        const at = i * rowsOfTokens.width;
        const low = lowOf(rowsOfTokens.words, at, salt);
        const slot = this.#memory.recall(low, highOf(rowsOfTokens.words, at));
        if (slot !== NO_SLOT && this.#isMarked(slot, salt))
          entities.add(refOf(rowsOfTokens.words, at));
      }
    state.latest = Math.max(state.latest, Math.ceil(Number(news.timeTo / 1_000_000_000n)));
    return { entities: [...entities], isSure };
  }

  #noteLinks(links: Rows, salt: number, entities: Set<string>): void {
    const memory = this.#memory;
    for (let i = 0; i < links.count; i += 1) {
      const at = i * links.width;
      const slot = memory.touch(lowOf(links.words, at, salt), highOf(links.words, at));
      for (const facet of [0, 1]) {
        memory.note(slot, facet, links.words[at + KEY_WORDS + facet] ?? 0);
        // More groups than there is room for: from now on every use is looked at.
        if (memory.varies(slot, facet)) memory.mark(slot);
      }
      const issued = links.words[at + KEY_WORDS + 2] ?? 0;
      const before = memory.valueOf(slot, 2);
      if (before === 0 || issued < before) memory.set(slot, 2, issued);
      if (memory.isMarked(slot)) entities.add(refOf(links.words, at));
    }
  }

  /** False where a group was marked so late that its tokens may have been used since. */
  #noteMarks(marks: Rows, salt: number, lateBefore: number, entities: Set<string>): boolean {
    const memory = this.#memory;
    let isSure = true;
    for (let i = 0; i < marks.count; i += 1) {
      const at = i * marks.width;
      const time = marks.words[at + KEY_WORDS] ?? 0;
      const isLate = time < lateBefore;
      if ((marks.words[at + KEY_WORDS + 2] ?? 0) !== 0) {
        memory.mark(memory.touch(lowOf(marks.words, at, salt), highOf(marks.words, at)));
        if (isLate) entities.add(refOf(marks.words, at));
        continue;
      }
      const group = memory.touch((marks.words[at + KEY_WORDS + 1] ?? 0) ^ salt, GROUP_TAG);
      memory.set(group, 0, Math.max(time, memory.valueOf(group, 0)));
      memory.makeHot(group);
      if (isLate) isSure = false;
    }
    return isSure;
  }

  /** Marked itself, or of a group that was marked after its issue: what was issued later was not part of it. */
  #isMarked(slot: number, salt: number): boolean {
    const memory = this.#memory;
    if (memory.isMarked(slot)) return true;
    const issued = memory.valueOf(slot, 2);
    return [memory.valueOf(slot, 0), memory.valueOf(slot, 1)].some((hash) => {
      if (hash === 0) return false;
      const group = memory.recall(hash ^ salt, GROUP_TAG);
      return group !== NO_SLOT && memory.valueOf(group, 0) >= issued;
    });
  }

  /** Rows of a stream; undefined where there are more than its limit. */
  async #read(stream: WatchStream, condition: Sql, news: News): Promise<Rows | undefined> {
    if (news.facts !== undefined && !news.facts.some((f) => stream.concerns(f))) return NO_ROWS;
    const facets = stream.facets.map(
      (f) => sql`reinterpretAsFixedString(toUInt32(bitAnd(${f}, 4294967295)))`,
    );
    const parts = joinSql([sql`reinterpretAsFixedString(${stream.key})`, ...facets, sql`''`], ', ');
    const max = this.#limits.streamRowsMax;
    const [row] = await this.#store.query<{ n: string; bytes: string }>(sql`
      SELECT count() AS n, base64Encode(arrayStringConcat(groupArray(${param.uint(max)})(concat(${parts})))) AS bytes
      FROM ${stream.from}
      WHERE tenant = ${param.string(this.#tenant)} AND ${condition} AND ${stream.where}`);
    const count = Number(row?.n ?? 0);
    if (count > max) return undefined;
    const bytes = Buffer.from(row?.bytes ?? '', 'base64');
    const words = new Uint32Array(bytes.length / 4);
    new Uint8Array(words.buffer).set(bytes);
    return { words, width: KEY_WORDS + facets.length, count };
  }

  /** Keeps the rules' entities apart in the one memory. */
  #saltOf(rule: string): number {
    const salt = this.#salts.get(rule) ?? Math.imul(this.#salts.size + 1, 0x9e3779b1);
    this.#salts.set(rule, salt);
    return salt;
  }
}

const NO_ROWS: Rows = { words: new Uint32Array(0), width: KEY_WORDS, count: 0 };
/** Second half of the tag of groups, which are known by 32 bits. */
const GROUP_TAG = 0x67727570;

function lowOf(words: Uint32Array, at: number, salt: number): number {
  return ((words[at + 2] ?? 0) ^ Math.imul(words[at] ?? 0, 0x85ebca6b) ^ salt) >>> 0;
}

function highOf(words: Uint32Array, at: number): number {
  return ((words[at + 1] ?? 0) ^ Math.imul(words[at + 3] ?? 0, 0xc2b2ae35)) >>> 0;
}

/** 53 bits of a reference. */
function followKey(words: Uint32Array, at: number): number {
  return (words[at + 1] ?? 0) + ((words[at + 2] ?? 0) & 0x1fffff) * 2 ** 32;
}

const hex = (word: number): string => word.toString(16).padStart(8, '0');

/** ClickHouse keeps a UUID as two little-endian halves, the first half first. */
function refOf(words: Uint32Array, at: number): string {
  const second = hex(words[at] ?? 0);
  const third = hex(words[at + 3] ?? 0);
  return `${hex(words[at + 1] ?? 0)}-${second.slice(0, 4)}-${second.slice(4)}-${third.slice(0, 4)}-${third.slice(4)}${hex(words[at + 2] ?? 0)}`;
}

function wordsOfRef(ref: string): Uint32Array {
  const digits = ref.replaceAll('-', '');
  const word = (i: number): number => Number.parseInt(digits.slice(i * 8, i * 8 + 8), 16);
  return Uint32Array.of(word(1), word(0), word(3), word(2));
}
