const WORDS = 4;
const SLOTS_MIN = 64;
/** Share of slots in use beyond which a set grows. */
const LOAD_MAX = 0.75;

/**
 * A set of 128-bit hashes, 16 bytes a slot in one piece of memory: a tenth of what a Set of strings takes.
 * The hash of zeros is never a member.
 */
export class IdSet {
  #slots = new Uint32Array(SLOTS_MIN * WORDS);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(id: Uint32Array, at = 0): boolean {
    const slot = this.#slotOf(this.#slots, id, at);
    return !isEmpty(this.#slots, slot);
  }

  add(id: Uint32Array, at = 0): void {
    if ((this.#size + 1) * WORDS > this.#slots.length * LOAD_MAX) this.#grow();
    const slot = this.#slotOf(this.#slots, id, at);
    if (!isEmpty(this.#slots, slot)) return;
    for (let i = 0; i < WORDS; i += 1) this.#slots[slot + i] = id[at + i] ?? 0;
    if (!isEmpty(this.#slots, slot)) this.#size += 1;
  }

  /** Where the id is, or the empty slot where it would go. */
  #slotOf(slots: Uint32Array, id: Uint32Array, at: number): number {
    const mask = slots.length - 1;
    // Hashes are even already: any word of them chooses a slot.
    let slot = ((id[at] ?? 0) * WORDS) & mask;
    while (!isEmpty(slots, slot) && !isEqual(slots, slot, id, at)) slot = (slot + WORDS) & mask;
    return slot;
  }

  #grow(): void {
    const old = this.#slots;
    const slots = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += WORDS) {
      if (!isEmpty(old, at)) slots.set(old.subarray(at, at + WORDS), this.#slotOf(slots, old, at));
    }
    this.#slots = slots;
  }
}

function isEmpty(slots: Uint32Array, at: number): boolean {
  return slots[at] === 0 && slots[at + 1] === 0 && slots[at + 2] === 0 && slots[at + 3] === 0;
}

function isEqual(slots: Uint32Array, slot: number, id: Uint32Array, at: number): boolean {
  return (
    slots[slot] === id[at] &&
    slots[slot + 1] === id[at + 1] &&
    slots[slot + 2] === id[at + 2] &&
    slots[slot + 3] === id[at + 3]
  );
}
