import { FACETS_MAX } from '../model/define_detector.ts';

/** Slots of a bucket: an entity lives in any of them, so that one busy neighbour does not drive it out. */
const WAYS = 4;

/** No slot: the entity is not remembered. */
export const NO_SLOT = -1;

const FLAG_USED = 1;
/** Slots with this flag are driven out last. */
const FLAG_HOT = 2;
const FLAG_MARKED = 4;

/**
 * What the live pass remembers of entities: up to three 32-bit values each and some flags, in typed arrays of a fixed
 * size (26 bytes a slot). It is a cache: state is in ClickHouse, and what is driven out here is found by the sweep.
 *
 * An entity is known by 64 bits of its reference and the number of the rule that asks. Where two share these, their
 * values mix, which can only name too many entities.
 */
export class WatchMemory {
  /** Entities that were driven out since the start. */
  evictions = 0;
  readonly #bucketMask: number;
  readonly #tagLow: Uint32Array;
  readonly #tagHigh: Uint32Array;
  readonly #first: Uint32Array;
  readonly #varies: Uint8Array;
  readonly #flags: Uint8Array;
  readonly #touched: Uint32Array;
  #tick = 0;

  /** `slots` is a power of two of at least 4. */
  constructor(slots: number) {
    if (slots < WAYS || (slots & (slots - 1)) !== 0)
      throw new RangeError(`slots: must be a power of two of at least ${WAYS}`);
    this.#bucketMask = slots / WAYS - 1;
    this.#tagLow = new Uint32Array(slots);
    this.#tagHigh = new Uint32Array(slots);
    this.#first = new Uint32Array(slots * FACETS_MAX);
    this.#varies = new Uint8Array(slots);
    this.#flags = new Uint8Array(slots);
    this.#touched = new Uint32Array(slots);
  }

  /** Starts a batch: what it touches is younger than all before. */
  nextBatch(): void {
    this.#tick += 1;
  }

  #bucketOf(low: number, high: number): number {
    let hash = Math.imul(low ^ (high >>> 15), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13) ^ high, 0xc2b2ae35);
    return ((hash ^ (hash >>> 16)) & this.#bucketMask) * WAYS;
  }

  /** The entity's slot, or NO_SLOT. Being asked for keeps it young. */
  recall(low: number, high: number): number {
    const bucket = this.#bucketOf(low, high);
    for (let slot = bucket; slot < bucket + WAYS; slot += 1) {
      if (this.#flags[slot] === 0 || this.#tagLow[slot] !== low >>> 0) continue;
      if (this.#tagHigh[slot] !== high >>> 0) continue;
      this.#touched[slot] = this.#tick;
      return slot;
    }
    return NO_SLOT;
  }

  /** The entity's slot; a new one drives out the one that was not touched for longest, hot ones last. */
  touch(low: number, high: number): number {
    const known = this.recall(low, high);
    if (known !== NO_SLOT) return known;
    const slot = this.#makeRoom(this.#bucketOf(low, high));
    this.#tagLow[slot] = low;
    this.#tagHigh[slot] = high;
    this.#first.fill(0, slot * FACETS_MAX, (slot + 1) * FACETS_MAX);
    this.#varies[slot] = 0;
    this.#flags[slot] = FLAG_USED;
    this.#touched[slot] = this.#tick;
    return slot;
  }

  #makeRoom(bucket: number): number {
    let chosen = bucket;
    for (let slot = bucket; slot < bucket + WAYS; slot += 1) {
      if (this.#flags[slot] === 0) return slot;
      if (this.#ageOf(slot) < this.#ageOf(chosen)) chosen = slot;
    }
    this.evictions += 1;
    return chosen;
  }

  #ageOf(slot: number): number {
    const isHot = ((this.#flags[slot] ?? 0) & FLAG_HOT) !== 0;
    return (this.#touched[slot] ?? 0) + (isHot ? 2 ** 32 : 0);
  }

  /** Remembers a value of a facet; 0 (unknown) changes nothing. */
  note(slot: number, facet: number, value: number): void {
    if (value === 0) return;
    const at = slot * FACETS_MAX + facet;
    const before = this.#first[at] ?? 0;
    if (before === 0) this.#first[at] = value;
    else if (before !== value >>> 0) this.#varies[slot] = (this.#varies[slot] ?? 0) | (1 << facet);
  }

  /** Overwrites a facet. */
  set(slot: number, facet: number, value: number): void {
    this.#first[slot * FACETS_MAX + facet] = value;
  }

  /** The first known value of a facet; 0 where none is known. */
  valueOf(slot: number, facet: number): number {
    return this.#first[slot * FACETS_MAX + facet] ?? 0;
  }

  varies(slot: number, facet: number): boolean {
    return ((this.#varies[slot] ?? 0) & (1 << facet)) !== 0;
  }

  makeHot(slot: number): void {
    this.#flags[slot] = (this.#flags[slot] ?? 0) | FLAG_HOT;
  }

  mark(slot: number): void {
    this.#flags[slot] = (this.#flags[slot] ?? 0) | FLAG_MARKED | FLAG_HOT;
  }

  isMarked(slot: number): boolean {
    return ((this.#flags[slot] ?? 0) & FLAG_MARKED) !== 0;
  }
}
