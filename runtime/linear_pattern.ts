/**
 * Regular expressions of users, matched in linear time whatever the text: the pattern becomes two finite automata that are
 * built whole when the configuration is read, so a pattern that would need too many states is refused then, and a hostile
 * text costs one step a character. What backtracking is needed for (back-references, look-around) is refused, too.
 *
 * `find` reports everything that any match covers, which is what redaction wants: whether a quantifier is greedy makes no
 * difference. Matches that touch are one range.
 */
export interface LinearPattern {
  readonly source: string;
  /** Reports ranges [start, end) in order. */
  readonly find: (text: string, report: (start: number, end: number) => void) => void;
}

/** Longest pattern, characters. */
export const PATTERN_LENGTH_MAX = 500;
/** Highest repeat count, as in `{1,200}`. */
export const REPEAT_MAX = 200;
/** Positions of the pattern after its repeats are written out. */
export const PATTERN_POSITIONS_MAX = 2_000;
/** States of each automaton. */
export const AUTOMATON_STATES_MAX = 2_000;
/** Groups within groups. */
const NESTING_MAX = 50;

/** Why a pattern is refused; the message says where and what is allowed. */
export class PatternError extends Error {}

// ------------------------------------------------------------------------------------------------------- parsing

/** Inclusive ranges of UTF-16 units, sorted, not overlapping. */
type CharSet = readonly (readonly [number, number])[];
type Assertion = 'start' | 'end' | 'word_edge' | 'no_word_edge';
type Node =
  | { readonly type: 'set'; readonly set: CharSet }
  | { readonly type: 'assertion'; readonly assertion: Assertion }
  | { readonly type: 'sequence'; readonly items: readonly Node[] }
  | { readonly type: 'choice'; readonly items: readonly Node[] }
  | { readonly type: 'repeat'; readonly item: Node; readonly min: number; readonly max: number };

const UNIT_MAX = 0xffff;
const DIGITS: CharSet = [[0x30, 0x39]];
const WORD: CharSet = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const SPACE: CharSet = normalised([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);
const LINE_ENDS: CharSet = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CLASS_ESCAPES: Readonly<Record<string, CharSet>> = {
  d: DIGITS,
  D: inverted(DIGITS),
  w: WORD,
  W: inverted(WORD),
  s: SPACE,
  S: inverted(SPACE),
};
const CONTROL_ESCAPES: Readonly<Record<string, number>> = {
  n: 0x0a,
  r: 0x0d,
  t: 0x09,
  f: 0x0c,
  v: 0x0b,
  0: 0,
};

function normalised(ranges: readonly (readonly [number, number])[]): CharSet {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}

function inverted(set: CharSet): CharSet {
  const result: [number, number][] = [];
  let next = 0;
  for (const [from, to] of set) {
    if (from > next) result.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= UNIT_MAX) result.push([next, UNIT_MAX]);
  return result;
}

/** ASCII letters match in either case. */
function withoutCase(set: CharSet): CharSet {
  const more: [number, number][] = [];
  for (const [from, to] of set) {
    const lowFrom = Math.max(from, 0x61);
    const lowTo = Math.min(to, 0x7a);
    if (lowFrom <= lowTo) more.push([lowFrom - 32, lowTo - 32]);
    const highFrom = Math.max(from, 0x41);
    const highTo = Math.min(to, 0x5a);
    if (highFrom <= highTo) more.push([highFrom + 32, highTo + 32]);
  }
  return normalised([...set, ...more]);
}

class Parser {
  readonly #source: string;
  readonly #ignoreCase: boolean;
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#ignoreCase = source.startsWith('(?i)');
    this.#source = source;
    if (this.#ignoreCase) this.#at = 4;
  }

  parse(): Node {
    const node = this.#choice();
    if (this.#at < this.#source.length)
      throw this.#refused('a closing bracket without an opening one');
    return node;
  }

  #refused(what: string): PatternError {
    return new PatternError(`at position ${this.#at}: ${what}`);
  }

  #peek(): string {
    return this.#source.charAt(this.#at);
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #choice(): Node {
    const items = [this.#sequence()];
    while (this.#take('|')) items.push(this.#sequence());
    const [only] = items;
    return items.length === 1 && only !== undefined ? only : { type: 'choice', items };
  }

  #sequence(): Node {
    const items: Node[] = [];
    while (this.#at < this.#source.length && this.#peek() !== '|' && this.#peek() !== ')')
      items.push(this.#repeated());
    return { type: 'sequence', items };
  }

  #repeated(): Node {
    const item = this.#atom();
    const counts = this.#counts();
    if (counts === undefined) return item;
    if (item.type === 'assertion') throw this.#refused('an anchor cannot be repeated');
    // Greedy or lazy: everything that any match covers is the same.
    this.#take('?');
    if (this.#counts() !== undefined)
      throw this.#refused('two quantifiers; put the first in brackets');
    return { type: 'repeat', item, ...counts };
  }

  #counts(): { min: number; max: number } | undefined {
    if (this.#take('*')) return { min: 0, max: Infinity };
    if (this.#take('+')) return { min: 1, max: Infinity };
    if (this.#take('?')) return { min: 0, max: 1 };
    const m = /^\{(\d{1,6})(?:(,)(\d{1,6})?)?\}/.exec(this.#source.slice(this.#at, this.#at + 16));
    if (m === null) return undefined;
    const min = Number(m[1]);
    const max = m[2] === undefined ? min : m[3] === undefined ? Infinity : Number(m[3]);
    if (min > REPEAT_MAX || (max !== Infinity && max > REPEAT_MAX))
      throw this.#refused(`a repeat count above ${REPEAT_MAX}`);
    if (max < min) throw this.#refused('a repeat whose maximum is below its minimum');
    this.#at += m[0].length;
    return { min, max };
  }

  #atom(): Node {
    const c = this.#peek();
    if (c === '(') return this.#group();
    if (c === '[') return this.#set(this.#bracketSet());
    if (c === '\\') return this.#escape();
    this.#at += 1;
    if (c === '^') return { type: 'assertion', assertion: 'start' };
    if (c === '$') return { type: 'assertion', assertion: 'end' };
    if (c === '.') return { type: 'set', set: inverted(LINE_ENDS) };
    if ('*+?{'.includes(c)) {
      this.#at -= 1;
      throw this.#refused(`a ${c} with nothing before it; write \\${c} for the character`);
    }
    const unit = c.charCodeAt(0);
    return this.#set([[unit, unit]]);
  }

  #set(set: CharSet): Node {
    return { type: 'set', set: this.#ignoreCase ? withoutCase(set) : set };
  }

  #group(): Node {
    const { length } = this.#source;
    if (this.#take('(?') && !this.#take(':')) {
      throw this.#refused(
        'look-around, named groups and flags are not allowed; allowed: ( ), (?: ), and (?i) at the start',
      );
    }
    if (this.#source.charAt(this.#at - 1) !== ':') this.#at += 1;
    this.#depth += 1;
    if (this.#depth > NESTING_MAX) throw this.#refused(`groups nested deeper than ${NESTING_MAX}`);
    const node = this.#choice();
    this.#depth -= 1;
    if (this.#at >= length) throw this.#refused('a group that is not closed');
    this.#at += 1;
    return node;
  }

  #escape(): Node {
    const c = this.#source.charAt(this.#at + 1);
    if (c === 'b' || c === 'B') {
      this.#at += 2;
      return { type: 'assertion', assertion: c === 'b' ? 'word_edge' : 'no_word_edge' };
    }
    return this.#set(this.#escapedSet());
  }

  /** What a backslash and the next characters stand for. */
  #escapedSet(): CharSet {
    const c = this.#source.charAt(this.#at + 1);
    if (c === '') throw this.#refused('a backslash at the end');
    const classed = CLASS_ESCAPES[c];
    this.#at += 2;
    if (classed !== undefined) return classed;
    if (c === 'x' || c === 'u') {
      const digits = c === 'x' ? 2 : 4;
      const hex = this.#source.slice(this.#at, this.#at + digits);
      if (!/^[0-9a-fA-F]+$/.test(hex) || hex.length < digits)
        throw this.#refused(`\\${c} needs ${digits} hex digits`);
      this.#at += digits;
      const unit = parseInt(hex, 16);
      return [[unit, unit]];
    }
    const control = CONTROL_ESCAPES[c];
    if (control !== undefined) return [[control, control]];
    if (/[1-9]/.test(c)) throw this.#refused('back-references are not allowed');
    if (/[A-Za-z]/.test(c))
      throw this.#refused(
        `\\${c} is not known; allowed: \\d \\D \\w \\W \\s \\S \\b \\B \\n \\r \\t \\f \\v \\0 \\xHH \\uHHHH`,
      );
    const unit = c.charCodeAt(0);
    return [[unit, unit]];
  }

  #bracketSet(): CharSet {
    this.#at += 1;
    const negated = this.#take('^');
    const ranges: (readonly [number, number])[] = [];
    while (this.#peek() !== ']') {
      if (this.#at >= this.#source.length) throw this.#refused('a [ that is not closed');
      const from = this.#member();
      if (this.#peek() !== '-' || this.#source.charAt(this.#at + 1) === ']') {
        ranges.push(...from);
        continue;
      }
      this.#at += 1;
      const to = this.#member();
      const low = singleOf(from);
      const high = singleOf(to);
      if (low === undefined || high === undefined || high < low)
        throw this.#refused('a range in [ ] that is out of order, or of a class');
      ranges.push([low, high]);
    }
    this.#at += 1;
    const set = normalised(ranges);
    // Case must not matter before the set is turned round.
    const cased = this.#ignoreCase ? withoutCase(set) : set;
    return negated ? inverted(cased) : cased;
  }

  #member(): CharSet {
    if (this.#peek() === '\\') {
      if (this.#source.charAt(this.#at + 1) === 'b') {
        this.#at += 2;
        return [[0x08, 0x08]];
      }
      return this.#escapedSet();
    }
    const unit = this.#source.charCodeAt(this.#at);
    if (Number.isNaN(unit)) throw this.#refused('a [ that is not closed');
    this.#at += 1;
    return [[unit, unit]];
  }
}

function singleOf(set: CharSet): number | undefined {
  const [only] = set;
  return set.length === 1 && only !== undefined && only[0] === only[1] ? only[0] : undefined;
}

// ------------------------------------------------------------------------------------- positions and their edges

interface Step {
  readonly from: number;
  readonly set: CharSet;
  readonly to: number;
}
interface Edge {
  readonly from: number;
  readonly to: number;
  readonly assertion: Assertion | undefined;
}

/** The pattern as states with steps over a character, and edges over none, some of them only where an assertion holds. */
class Machine {
  readonly steps: Step[] = [];
  readonly edges: Edge[] = [];
  #states = 0;
  readonly start: number;
  readonly accept: number;

  constructor(node: Node) {
    this.start = this.#state();
    this.accept = this.#state();
    this.#add(node, this.start, this.accept);
  }

  get states(): number {
    return this.#states;
  }

  #state(): number {
    this.#states += 1;
    if (this.#states > PATTERN_POSITIONS_MAX)
      throw new PatternError('too long once its repeats are written out; use smaller counts');
    return this.#states - 1;
  }

  #edge(from: number, to: number, assertion?: Assertion): void {
    this.edges.push({ from, to, assertion });
  }

  #add(node: Node, from: number, to: number): void {
    switch (node.type) {
      case 'set':
        this.steps.push({ from, set: node.set, to });
        return;
      case 'assertion':
        this.#edge(from, to, node.assertion);
        return;
      case 'choice':
        for (const item of node.items) this.#add(item, from, to);
        return;
      case 'sequence':
        this.#addSequence(node.items, from, to);
        return;
      case 'repeat':
        this.#addRepeat(node, from, to);
    }
  }

  #addSequence(items: readonly Node[], from: number, to: number): void {
    let at = from;
    for (const item of items) {
      const next = this.#state();
      this.#add(item, at, next);
      at = next;
    }
    this.#edge(at, to);
  }

  #addRepeat(node: Node & { type: 'repeat' }, from: number, to: number): void {
    // A state of its own, so that the loop cannot be entered from elsewhere.
    let at = this.#state();
    this.#edge(from, at);
    for (let i = 0; i < node.min; i += 1) {
      const next = this.#state();
      this.#add(node.item, at, next);
      at = next;
    }
    if (node.max === Infinity) {
      const back = this.#state();
      this.#add(node.item, at, back);
      this.#edge(back, at);
    } else {
      for (let i = node.min; i < node.max; i += 1) {
        this.#edge(at, to);
        const next = this.#state();
        this.#add(node.item, at, next);
        at = next;
      }
    }
    this.#edge(at, to);
  }
}

// --------------------------------------------------------------------------------------------------- the automata

/** What stands beside a place between two characters. */
const NOTHING = 0;
const WORD_CHARACTER = 1;
const OTHER_CHARACTER = 2;
type Neighbour = typeof NOTHING | typeof WORD_CHARACTER | typeof OTHER_CHARACTER;

function holds(assertion: Assertion, left: Neighbour, right: Neighbour): boolean {
  switch (assertion) {
    case 'start':
      return left === NOTHING;
    case 'end':
      return right === NOTHING;
    case 'word_edge':
      return (left === WORD_CHARACTER) !== (right === WORD_CHARACTER);
    case 'no_word_edge':
      return (left === WORD_CHARACTER) === (right === WORD_CHARACTER);
  }
}

/** Characters that the pattern does not tell apart share a class, so the tables stay small. */
class Alphabet {
  readonly #classes = new Uint16Array(UNIT_MAX + 1);
  /** One character of each class. */
  readonly samples: readonly number[];

  constructor(sets: readonly CharSet[]) {
    const starts = new Set([0]);
    for (const set of [...sets, WORD])
      for (const [from, to] of set) {
        starts.add(from);
        if (to < UNIT_MAX) starts.add(to + 1);
      }
    const bounds = [...starts].sort((a, b) => a - b);
    const bySignature = new Map<string, number>();
    const samples: number[] = [];
    const all = [...sets, WORD];
    bounds.forEach((from, i) => {
      const to = (bounds[i + 1] ?? UNIT_MAX + 1) - 1;
      const signature = all.map((set) => (includes(set, from) ? '1' : '0')).join('');
      let id = bySignature.get(signature);
      if (id === undefined) {
        id = samples.length;
        bySignature.set(signature, id);
        samples.push(from);
      }
      this.#classes.fill(id, from, to + 1);
    });
    this.samples = samples;
  }

  classOf(unit: number): number {
    return this.#classes[unit] ?? 0;
  }

  neighbour(id: number): Neighbour {
    return includes(WORD, this.samples[id] ?? 0) ? WORD_CHARACTER : OTHER_CHARACTER;
  }
}

function includes(set: CharSet, unit: number): boolean {
  return set.some(([from, to]) => unit >= from && unit <= to);
}

interface AutomatonState {
  /** Before the edges over nothing are followed, which needs the character on the other side. */
  readonly raw: readonly number[];
  readonly behind: Neighbour;
}

/** One direction of the machine. `closed` and `next` look at one character ahead, or at the text's edge. */
interface Direction {
  readonly seeds: readonly number[];
  readonly edges: ReadonlyMap<number, readonly Edge[]>;
  readonly steps: ReadonlyMap<number, readonly Step[]>;
  readonly forward: boolean;
}

class Automaton {
  readonly #direction: Direction;
  readonly #states: AutomatonState[] = [];
  readonly #ids = new Map<string, number>();
  /** `next[state * classes + class]`. */
  readonly next: Uint16Array;

  constructor(direction: Direction, alphabet: Alphabet) {
    this.#direction = direction;
    const classes = alphabet.samples.length;
    const rows: number[] = [];
    this.#idOf(direction.seeds, NOTHING);
    for (let id = 0; id < this.#states.length; id += 1) {
      for (let c = 0; c < classes; c += 1) {
        const closed = this.closed(id, alphabet.neighbour(c));
        const moved = new Set(direction.seeds);
        for (const at of closed)
          for (const step of direction.steps.get(at) ?? [])
            if (includes(step.set, alphabet.samples[c] ?? 0))
              moved.add(direction.forward ? step.to : step.from);
        rows.push(this.#idOf([...moved], alphabet.neighbour(c)));
      }
    }
    this.next = Uint16Array.from(rows);
  }

  get size(): number {
    return this.#states.length;
  }

  #idOf(raw: readonly number[], behind: Neighbour): number {
    const sorted = [...raw].sort((a, b) => a - b);
    const name = `${behind}:${sorted.join(',')}`;
    let id = this.#ids.get(name);
    if (id === undefined) {
      id = this.#states.length;
      if (id >= AUTOMATON_STATES_MAX)
        throw new PatternError(
          `too many ways to match (over ${AUTOMATON_STATES_MAX} states); use fewer or smaller repeats after a wide class`,
        );
      this.#states.push({ raw: sorted, behind });
      this.#ids.set(name, id);
    }
    return id;
  }

  /** Every state of the machine that holds at the place, given what stands ahead. */
  closed(id: number, ahead: Neighbour): ReadonlySet<number> {
    const { forward, edges } = this.#direction;
    const state = this.#states[id];
    const behind = state?.behind ?? NOTHING;
    const [left, right] = forward ? [behind, ahead] : [ahead, behind];
    const found = new Set(state?.raw);
    const open = [...found];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      for (const edge of edges.get(at) ?? []) {
        if (edge.assertion !== undefined && !holds(edge.assertion, left, right)) continue;
        const to = forward ? edge.to : edge.from;
        if (!found.has(to)) {
          found.add(to);
          open.push(to);
        }
      }
    }
    return found;
  }
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => number): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const item of items) {
    const list = groups.get(keyOf(item));
    if (list === undefined) groups.set(keyOf(item), [item]);
    else list.push(item);
  }
  return groups;
}

// ------------------------------------------------------------------------------------------------------- matching

class Matcher {
  readonly #machine: Machine;
  readonly #alphabet: Alphabet;
  readonly #forward: Automaton;
  readonly #backward: Automaton;
  readonly #classes: number;
  /** By state and class ahead (the last stands for the text's end): whether a match ends here. */
  readonly #ends: Uint8Array;
  /** Whether a character lies within a match, by the states on its two sides. Filled as it is met. */
  readonly #covered = new Map<number, boolean>();

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#alphabet = new Alphabet(machine.steps.map((s) => s.set));
    this.#classes = this.#alphabet.samples.length;
    this.#forward = new Automaton(
      {
        seeds: [machine.start],
        edges: grouped(machine.edges, (e) => e.from),
        steps: grouped(machine.steps, (s) => s.from),
        forward: true,
      },
      this.#alphabet,
    );
    this.#backward = new Automaton(
      {
        seeds: [machine.accept],
        edges: grouped(machine.edges, (e) => e.to),
        steps: grouped(machine.steps, (s) => s.to),
        forward: false,
      },
      this.#alphabet,
    );
    this.#ends = this.#whereMatchesEnd();
  }

  #whereMatchesEnd(): Uint8Array {
    const width = this.#classes + 1;
    const ends = new Uint8Array(this.#forward.size * width);
    for (let id = 0; id < this.#forward.size; id += 1)
      for (let c = 0; c < width; c += 1)
        ends[id * width + c] = this.#forward.closed(id, this.#ahead(c)).has(this.#machine.accept)
          ? 1
          : 0;
    return ends;
  }

  #ahead(c: number): Neighbour {
    return c === this.#classes ? NOTHING : this.#alphabet.neighbour(c);
  }

  /** True where the pattern matches a text of no length: it would match everywhere. */
  get matchesNothing(): boolean {
    return this.#ends[this.#classes] === 1;
  }

  find(text: string, report: (start: number, end: number) => void): void {
    const classes = this.#classes;
    const { next } = this.#forward;
    const width = classes + 1;
    // Most texts hold no match: one pass without a note of the way.
    let state = 0;
    let found = false;
    for (let i = 0; i < text.length && !found; i += 1) {
      const c = this.#alphabet.classOf(text.charCodeAt(i));
      found = this.#ends[state * width + c] === 1;
      state = next[state * classes + c] ?? 0;
    }
    if (found || this.#ends[state * width + classes] === 1) this.#findAll(text, report);
  }

  #findAll(text: string, report: (start: number, end: number) => void): void {
    const classes = this.#classes;
    const forward = new Uint16Array(text.length + 1);
    let state = 0;
    for (let i = 0; i < text.length; i += 1) {
      forward[i] = state;
      state = this.#forward.next[state * classes + this.#alphabet.classOf(text.charCodeAt(i))] ?? 0;
    }
    const covered = new Uint8Array(text.length);
    let after = 0;
    for (let i = text.length - 1; i >= 0; i -= 1) {
      const c = this.#alphabet.classOf(text.charCodeAt(i));
      if (this.#isCovered(forward[i] ?? 0, c, after)) covered[i] = 1;
      after = this.#backward.next[after * classes + c] ?? 0;
    }
    let start = -1;
    for (let i = 0; i <= text.length; i += 1) {
      if (covered[i] === 1) start = start < 0 ? i : start;
      else if (start >= 0) {
        report(start, i);
        start = -1;
      }
    }
  }

  /** A character is part of a match where a step over it leads from what has begun to what can still end. */
  #isCovered(before: number, c: number, after: number): boolean {
    const key = (before * this.#classes + c) * this.#backward.size + after;
    let result = this.#covered.get(key);
    if (result === undefined) {
      const neighbour = this.#alphabet.neighbour(c);
      const begun = this.#forward.closed(before, neighbour);
      const ending = this.#backward.closed(after, neighbour);
      const sample = this.#alphabet.samples[c] ?? 0;
      result = this.#machine.steps.some(
        (s) => begun.has(s.from) && ending.has(s.to) && includes(s.set, sample),
      );
      if (this.#covered.size >= COVERED_REMEMBERED_MAX) this.#covered.clear();
      this.#covered.set(key, result);
    }
    return result;
  }
}
/** Verdicts kept per pattern; the memory is emptied when it is full. */
const COVERED_REMEMBERED_MAX = 100_000;

/**
 * Compiles a pattern. Allowed are literals, `.`, sets, `\d \w \s` and their kin, `( )`, `(?: )`, `|`, `* + ? {m,n}`,
 * `^ $ \b \B`, and `(?i)` at the start. Throws a PatternError that says where and why.
 */
export function compilePattern(source: string): LinearPattern {
  if (source.length > PATTERN_LENGTH_MAX)
    throw new PatternError(`longer than ${PATTERN_LENGTH_MAX} characters`);
  const matcher = new Matcher(new Machine(new Parser(source).parse()));
  if (matcher.matchesNothing)
    throw new PatternError('matches a text of no length, which is everywhere; ask for a character');
  return { source, find: (text, report) => matcher.find(text, report) };
}
