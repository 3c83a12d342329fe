// How: the memory of the live pass against a plain Map: what it says while there is room, and what it forgets first.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NO_SLOT, WatchMemory } from '../../detectors/watch_memory.ts';

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });

describe('watch memory', () => {
  it('says of each entity what a Map would, as long as there is room', () => {
    const touches = fc.array(fc.record({ entity: fc.nat(9), facet: fc.nat(2), value: fc.nat(3) }), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(fc.uniqueArray(word, { minLength: 10, maxLength: 10 }), touches, (low, list) => {
        const memory = new WatchMemory(4_096);
        const model = new Map<string, number[]>();
        for (const { entity, facet, value } of list) {
          memory.nextBatch();
          memory.note(memory.touch(low[entity]!, entity), facet, value);
          const seen = model.get(`${entity} ${facet}`) ?? [];
          model.set(`${entity} ${facet}`, value === 0 ? seen : [...seen, value]);
        }
        for (const [key, values] of model) {
          const [entity, facet] = key.split(' ').map(Number) as [number, number];
          const slot = memory.recall(low[entity]!, entity);
          expect(memory.valueOf(slot, facet)).toBe(values[0] ?? 0);
          expect(memory.varies(slot, facet)).toBe(new Set(values).size > 1);
        }
        expect(memory.evictions).toBe(0);
      }),
    );
  });

  it('forgets the one that was not asked for longest, a hot one last, and counts it', () => {
    const memory = new WatchMemory(4);
    const touch = (entity: number): number => {
      memory.nextBatch();
      return memory.touch(entity, 7);
    };
    memory.makeHot(touch(1));
    for (const entity of [2, 3, 4]) touch(entity);
    memory.nextBatch();
    expect(memory.recall(2, 7)).not.toBe(NO_SLOT);
    const fifth = touch(5);
    memory.note(fifth, 0, 9);
    // 3 was the oldest but for the hot 1.
    expect([1, 2, 3, 4, 5].map((e) => memory.recall(e, 7) !== NO_SLOT)).toEqual([
      true,
      true,
      false,
      true,
      true,
    ]);
    expect(memory.evictions).toBe(1);
    // What comes back begins anew: nothing of its predecessor in the slot is left.
    const third = touch(3);
    expect([memory.valueOf(third, 0), memory.varies(third, 0), memory.isMarked(third)]).toEqual([
      0,
      false,
      false,
    ]);
    expect(memory.evictions).toBe(2);
  });

  it('keeps marks, and values that are overwritten', () => {
    const memory = new WatchMemory(8);
    const slot = memory.touch(1, 1);
    expect(memory.isMarked(slot)).toBe(false);
    memory.mark(slot);
    memory.set(slot, 2, 40);
    memory.set(slot, 2, 4_000_000_000);
    expect([memory.isMarked(slot), memory.valueOf(slot, 2)]).toEqual([true, 4_000_000_000]);
  });

  it('takes powers of two only', () => {
    for (const slots of [0, 2, 6, 100])
      expect(() => new WatchMemory(slots)).toThrow('power of two of at least 4');
  });
});
