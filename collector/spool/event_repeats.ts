import type { Clock } from '../../runtime/clock.ts';
import type { EventIdentity } from '../../store/stored_events.ts';
import type { RowPlace } from './journal.ts';
import { columnOf, lowCardinalityOf, readBlock, uuidAt, type Block } from './native_reader.ts';
import type { SealedSegment } from './segment.ts';

/** What the screening asks the store. Both may throw as the store does. */
export interface StoredEvents {
  /** Of the events with these ids and a time in the range (ns, both ends), those that are stored. */
  readonly find: (
    eventIds: readonly string[],
    from: bigint,
    to: bigint,
  ) => Promise<readonly EventIdentity[]>;
  /** The latest time of a stored event that is before a time, ns; 0 where there is none. */
  readonly latest: (before: bigint) => Promise<bigint>;
}

const TABLE = 'grantscope.auth_events';
/** The last of the columns that every event is looked at for, and of those for suspects, in the table's order. */
const LAST_COLUMN = 'time';
const LAST_COLUMN_OF_SUSPECTS = 'outcome';
/** Events that are further ahead of our clock are always looked up: their time says nothing. */
const AHEAD_NS_MAX = 10e9;
/** Events that are remembered at most; 4 bytes of memory each, at a third more slots. */
export const EVENTS_REMEMBERED_MAX = 3_145_728;

interface EventBlock {
  readonly offset: number;
  readonly bytes: Buffer;
  readonly block: Block;
}

/** Events of a segment that may be repeats. */
interface Suspects {
  readonly segment: string;
  readonly blocks: readonly EventBlock[];
  readonly marks: Set<number>;
  readonly eventIds: Set<string>;
  /** The range of their times, ns, rounded to a double. */
  from: number;
  to: number;
}

/**
 * Recognises events that are stored already although their request is new: a shipper that sends the same lines
 * in other batches, or a request that is older than the request window. It costs little because only suspects
 * are looked up in the store:
 *
 *   - an event whose mark (a hash of id and time) is among those of the last events, and
 *   - an event whose own time is not later than what was stored before those, or is ahead of the clock.
 *
 * The store decides, by the whole identity. One collector sees its own repeats while they are recent, and
 * everybody's that are older.
 */
export class EventRepeats {
  readonly #stored: StoredEvents;
  readonly #clock: Clock;
  readonly #memory: Marks;
  #suspects: Suspects | undefined;
  #isOldKnown = false;

  constructor(options: {
    readonly stored: StoredEvents;
    readonly clock: Clock;
    /** See `EVENTS_REMEMBERED_MAX`, its default. */
    readonly rememberedMax?: number;
  }) {
    this.#stored = options.stored;
    this.#clock = options.clock;
    this.#memory = new Marks(options.rememberedMax ?? EVENTS_REMEMBERED_MAX);
  }

  /** The rows of a segment that are repeats; the segments before it must be stored. Throws as the store does. */
  async find(segment: SealedSegment): Promise<readonly RowPlace[]> {
    // Kept when the store fails: by then the segment's own events are remembered, and all would be suspect.
    if (this.#suspects?.segment !== segment.id) this.#suspects = await this.#readSuspects(segment);
    const suspects = this.#suspects;
    const stored = await this.#storedOf(suspects);
    this.#suspects = undefined;
    return suspects.marks.size === 0 ? [] : repeatsIn(suspects, stored);
  }

  /** Remembers the events of a segment that was screened by an earlier process. */
  async remember(segment: SealedSegment): Promise<void> {
    await this.#readSuspects(segment);
  }

  async #storedOf(suspects: Suspects): Promise<ReadonlySet<string>> {
    if (suspects.eventIds.size === 0) return new Set();
    // A double is exact to a quarter of a microsecond here.
    const from = BigInt(suspects.from) - 1_000n;
    const to = BigInt(suspects.to) + 1_000n;
    return new Set((await this.#stored.find([...suspects.eventIds], from, to)).map(keyOf));
  }

  /** What earlier processes stored is behind the memory as what it has dropped. */
  async #learnOld(aheadNs: number): Promise<void> {
    if (this.#isOldKnown) return;
    const latest = await this.#stored.latest(BigInt(aheadNs));
    // A double is exact to a quarter of a microsecond here.
    this.#memory.forgottenUpTo(Number(latest) + 1_000);
    this.#isOldKnown = true;
  }

  async #readSuspects(segment: SealedSegment): Promise<Suspects> {
    const aheadNs = this.#clock.nowMs() * 1e6 + AHEAD_NS_MAX;
    await this.#learnOld(aheadNs);
    const suspects: Suspects = {
      segment: segment.id,
      blocks: (await segment.blocks(TABLE)).map(({ extent, bytes }) => ({
        offset: extent.offset,
        bytes,
        block: readBlock(bytes, LAST_COLUMN),
      })),
      marks: new Set(),
      eventIds: new Set(),
      from: Number.MAX_VALUE,
      to: 0,
    };
    for (const { bytes, block } of suspects.blocks) {
      forEachEvent(bytes, block, (idAt, timeAt) => {
        const { print, slot } = markOf(bytes, idAt, timeAt);
        const time = timeNs(bytes, timeAt);
        const isForgotten = time <= this.#memory.forgottenNs || time > aheadNs;
        const isKnown = this.#memory.add(print, slot, Math.min(time, aheadNs));
        if (!isKnown && !isForgotten) return;
        suspects.marks.add(numberOf(print, slot));
        suspects.eventIds.add(uuidAt(bytes, idAt));
        suspects.from = Math.min(suspects.from, time);
        suspects.to = Math.max(suspects.to, time);
      });
    }
    return suspects;
  }
}

/** The suspects that are stored, and all but the first of equal ones. */
function repeatsIn(suspects: Suspects, stored: ReadonlySet<string>): readonly RowPlace[] {
  const repeats: RowPlace[] = [];
  const seen = new Set<string>();
  for (const { offset, bytes } of suspects.blocks) {
    const block = readBlock(bytes, LAST_COLUMN_OF_SUSPECTS);
    const text = (name: string): ((row: number) => string) => lowCardinalityOf(bytes, block, name);
    const [kind, phase, outcome, instance] = [
      text('kind'),
      text('phase'),
      text('outcome'),
      text('source_instance'),
    ];
    forEachEvent(bytes, block, (idAt, timeAt, row) => {
      const { print, slot } = markOf(bytes, idAt, timeAt);
      if (!suspects.marks.has(numberOf(print, slot))) return;
      const key = keyOf({
        event_id: uuidAt(bytes, idAt),
        time: bytes.readBigInt64LE(timeAt).toString(),
        kind: kind(row),
        phase: phase(row),
        outcome: outcome(row),
        source_instance: instance(row),
      });
      if (stored.has(key) || seen.has(key)) repeats.push({ offset, row });
      else seen.add(key);
    });
  }
  return repeats;
}

function keyOf(e: EventIdentity): string {
  return [e.event_id, e.time, e.kind, e.phase, e.outcome, e.source_instance].join('\0');
}

/** Calls with where the id and the time of each event lie. */
function forEachEvent(
  bytes: Buffer,
  block: Block,
  each: (idAt: number, timeAt: number, row: number) => void,
): void {
  const ids = columnOf(block, 'event_id', 'UUID').start;
  const times = columnOf(block, 'time', "DateTime64(9, 'UTC')").start;
  if (times + block.rows * 8 > bytes.length) throw new RangeError('the block ends too soon');
  for (let row = 0; row < block.rows; row += 1) each(ids + row * 16, times + row * 8, row);
}

function timeNs(bytes: Buffer, at: number): number {
  return bytes.readInt32LE(at + 4) * 0x1_0000_0000 + bytes.readUInt32LE(at);
}

/** A hash over id and time: 32 bits that are remembered, and 21 that say where. */
interface Mark {
  print: number;
  slot: number;
}

/** Used again for each event, so that a million of them are not a million objects. */
const mark: Mark = { print: 0, slot: 0 };

function markOf(bytes: Buffer, idAt: number, timeAt: number): Mark {
  let a = bytes.readInt32LE(idAt) ^ Math.imul(bytes.readInt32LE(idAt + 8), 0x9e3779b1);
  let b = bytes.readInt32LE(idAt + 4) ^ Math.imul(bytes.readInt32LE(idAt + 12), 0x85ebca6b);
  a = mixed(a ^ bytes.readInt32LE(timeAt));
  b = mixed(b ^ Math.imul(bytes.readInt32LE(timeAt + 4), 0xc2b2ae35) ^ a);
  // An empty slot is 0.
  mark.print = mixed(a ^ Math.imul(b, 0x27d4eb2f)) | 1;
  mark.slot = b >>> 11;
  return mark;
}

function numberOf(print: number, slot: number): number {
  return (print >>> 0) * 0x20_0000 + slot;
}

function mixed(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

const GENERATIONS = 4;
/** Slots a generation is given for each of its marks. */
const SLOTS_PER_MARK = 4 / 3;

interface Generation {
  readonly slots: Int32Array;
  count: number;
  /** The latest time of its events, ns. */
  latestNs: number;
}

/** The marks of the last events, in generations of which the oldest is dropped. */
class Marks {
  readonly #countMax: number;
  readonly #slotBits: number;
  #generations: readonly Generation[];
  #forgottenNs = 0;

  constructor(rememberedMax: number) {
    this.#countMax = Math.max(1, Math.floor(rememberedMax / GENERATIONS));
    this.#slotBits = Math.ceil(Math.log2(this.#countMax * SLOTS_PER_MARK + 1));
    this.#generations = [this.#newGeneration()];
  }

  /** Events that were screened or stored and are not remembered have no later time than this, ns. */
  get forgottenNs(): number {
    return this.#forgottenNs;
  }

  forgottenUpTo(timeNs: number): void {
    this.#forgottenNs = Math.max(this.#forgottenNs, timeNs);
  }

  /** Remembers an event and its time; true where it was known. */
  add(print: number, slot: number, timeNs: number): boolean {
    for (const { slots } of this.#generations)
      if (slots[placeOf(slots, print, slot)] === print) return true;
    let newest = this.#generations.at(-1);
    if (newest === undefined || newest.count >= this.#countMax) {
      newest = this.#newGeneration();
      const [oldest, ...others] = [...this.#generations, newest];
      if (others.length < GENERATIONS) this.#generations = [...this.#generations, newest];
      else {
        this.forgottenUpTo(oldest.latestNs);
        this.#generations = others;
      }
    }
    newest.slots[placeOf(newest.slots, print, slot)] = print;
    newest.count += 1;
    newest.latestNs = Math.max(newest.latestNs, timeNs);
    return false;
  }

  #newGeneration(): Generation {
    return { slots: new Int32Array(2 ** this.#slotBits), count: 0, latestNs: 0 };
  }
}

/** Where the print is, or the empty slot where it would go. */
function placeOf(slots: Int32Array, print: number, slot: number): number {
  const mask = slots.length - 1;
  let place = slot & mask;
  while (slots[place] !== 0 && slots[place] !== print) place = (place + 1) & mask;
  return place;
}
